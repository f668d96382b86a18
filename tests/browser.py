"""A headless Chromium for tests of pages, spoken to over its debugging pipe: no driver, no package, no network."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")  # drawn by the CPU
NO_WEBGL = ("--disable-gpu", "--disable-3d-apis")


def executable() -> str | None:
    """Where a Chromium is: of CASFNE_CHROMIUM, or on the PATH."""
    return os.environ.get("CASFNE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page. ``evaluate`` runs JavaScript in it; mistakes there become AssertionErrors here."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = os.fdopen(send, "wb", 0), os.fdopen(receive, "rb")
        self._number, self._session, self.said = 0, {}, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer; events meanwhile go to ``said``."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters} | self._session
        self._send.write(json.dumps(request).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.said.append(message)

    def _read(self) -> dict[str, Any]:
        parts = bytearray()
        while (byte := self._receive.read1(1)) not in (b"\0", b""):
            parts += byte
            waiting = self._receive.peek()
            end = waiting.find(b"\0")
            parts += self._receive.read(end if end >= 0 else len(waiting))
        assert parts, "the browser is gone"
        return json.loads(parts)

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """The window in CSS pixels, and the user's taste."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path) -> None:
        """A page from the file system, until its viewer is ready."""
        self.call("Page.navigate", url=page.as_uri())
        ready = "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        self.evaluate(ready)
        self.evaluate("window.viewer ? viewer.ready : null")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, whole: bool = False) -> bytes:
        """What is seen, or the whole page, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])

    def problems(self) -> list[str]:
        """Uncaught errors and complaints of the console so far."""
        self.call("Runtime.evaluate", expression="0")
        bad = [m for m in self.said if m["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        return [json.dumps(m["params"]) for m in bad if m["params"].get("entry", {}).get("level", "error") == "error"]

    def addresses(self) -> set[str]:
        """What the page asked for, data inside it left out."""
        asked = {m["params"]["request"]["url"] for m in self.said if m["method"] == "Network.requestWillBeSent"}
        return {url for url in asked if not url.startswith("data:")}


@contextmanager
def chromium(profile: Path, webgl: bool = True) -> Iterator[Tab]:
    """A tab of a browser of its own, with its files in ``profile``."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]  # 3 and 4 are free then

    def place() -> None:  # the browser reads from 3 and writes to 4
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    command = [str(executable()), *FLAGS, *(WEBGL if webgl else NO_WEBGL), f"--user-data-dir={profile}"]
    with (profile / "stderr.txt").open("wb") as log:
        process = subprocess.Popen(command, preexec_fn=place, pass_fds=(3, 4), stdout=log, stderr=log)
    for end in (theirs_in, theirs_out, *high):
        os.close(end)
    try:
        yield Tab(ours_out, ours_in)
    finally:
        process.kill()
        process.wait()
