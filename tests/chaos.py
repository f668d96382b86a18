"""What tests of the fleet share: a model and a detector of numpy that say where they run, and what kills them."""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import moto.server
import numpy as np
import pyarrow.fs as pafs
import pytest
import ray
from numpy.typing import NDArray

from casfne import images, label_files, normals, table
from casfne.cluster import connected
from casfne.corpora.record import Photo
from casfne.images import Crop
from casfne.labelling import fleet, shards
from casfne.labelling import label as steps

RED, BLUE = (255, 0, 0), (0, 0, 255)


class StandIn:
    """A predictor: a bump, turned as the crop is coloured; one refinement. Kills its process on a wholly blue crop,
    as long as there is a file `poison` in its folder."""

    name, sha256, refinements, precision = "stand-in", "0" * 64, 1, "fp32"

    def __init__(self, folder: Path | None = None, delay: float = 0.0) -> None:
        self.folder, self.delay = folder, delay
        sign_in(folder, "model")
        x, y = np.meshgrid(np.linspace(-0.6, 0.6, 256), np.linspace(0.6, -0.6, 256))
        self.bump = np.stack([x, y, np.sqrt(1 - x**2 - y**2)], -1).astype(np.float32)

    def assess(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        time.sleep(self.delay)
        die_of(BLUE, crops, self.folder)
        turned = self.bump + (crops.mean((1, 2)) / 512 * (1, 1, 0))[:, None, None].astype(np.float32)
        stages = np.stack([np.broadcast_to(self.bump, turned.shape), normals.normalise(turned)], 1)
        return stages, 1 + 2 * normals.angle_deg(stages[:, -1], stages[:, -2])


class Middle:
    """Finds one face, in the middle; none in a black image; kills its process on a wholly red one, as above."""

    identity = "middle"

    def __init__(self, folder: Path | None = None, delay: float = 0.0) -> None:
        self.folder, self.delay = folder, delay

    def __call__(self, image: NDArray[np.uint8]) -> list[Crop]:
        sign_in(self.folder, "decode")
        time.sleep(self.delay)
        die_of(RED, image[None], self.folder)
        return [images.centre_crop(*image.shape[:2])] if image.any() else []


def sign_in(folder: Path | None, kind: str) -> None:
    if folder:
        (folder / f"{kind}-{os.getpid()}").touch()


def die_of(colour: tuple[int, int, int], pictures: NDArray[np.uint8], folder: Path | None) -> None:
    if folder and (folder / "poison").exists() and (pictures == colour).all(axis=(1, 2, 3)).any():
        os.kill(os.getpid(), signal.SIGKILL)


def draw(folder: Path, count: int) -> list[Photo]:
    """Small pictures of noise around a colour, for a detector to look at."""
    noise = np.random.default_rng(0)
    for i in range(count):
        pixels = noise.integers(0, 60, (48, 40, 3)) + noise.integers(0, 190, 3)
        images.write_image(folder / f"{i:03d}.png", pixels.astype(np.uint8))
    return [Photo("noise", f"{i:03d}", str(folder / f"{i:03d}.png")) for i in range(count)]


def paint(photo: Photo, colour: tuple[int, int, int]) -> None:
    images.write_image(photo.path, np.full((48, 48, 3), colour, np.uint8))


class Make:
    """Makes stand-ins in the workers."""

    def __init__(self, folder: Path | None = None, delay: float = 0.0) -> None:
        self.folder, self.delay = folder, delay

    def __call__(self) -> StandIn:
        return StandIn(self.folder, self.delay)


def run_fleet(photos: list[Photo], out: Path | str, pids: Path | None = None, delay: float = 0.0, **options: Any):
    """Label with the stand-ins. ``pids``: the folder where they sign in; ``delay``: seconds an image takes in each."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    options = {"detector": Middle(pids, delay), "shard_rows": 4, "batch": 2, "gpu": False} | options
    return fleet.label(photos, out, Make(pids, delay), steps.Identity.of(StandIn()), **options)


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """One Ray for all tests of the session: starting it takes seconds."""
    with connected(None):
        yield


@pytest.fixture(scope="module")
def undisturbed(photos: list[Photo], ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run over the module's photos in which nothing happens."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    check(photos, out, run_fleet(photos, out), snapshot(out))
    return snapshot(out)


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    """Where workers sign in."""
    folder = tmp_path / "pids"
    folder.mkdir()
    return folder


def snapshot(out: Path) -> dict[str, bytes]:
    """Every file below a folder but the index, which knows shards by the times they were written at."""
    found = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != label_files.INDEX]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def check(photos: list[Photo], out: Path, summary: shards.Summary, undisturbed: dict[str, bytes]) -> None:
    """Every image exactly once, nothing half-written, and the same bytes as without disturbance."""
    assert (summary.images, summary.missing, summary.failures) == (len(photos), 0, [])
    assert (out / label_files.INDEX).exists()
    assert sorted(table.read(out, ["image_id"])["image_id"]) == sorted(p.image_id for p in photos)
    there = snapshot(out)
    assert list(there) == list(undisturbed)
    assert [name for name in there if there[name] != undisturbed[name]] == []


# --- what goes wrong ---


@contextlib.contextmanager
def killing(pids: Path, kind: str, dice: random.Random, most: int = 3) -> Iterator[list[int]]:
    """SIGKILL, at random moments, to workers of a kind that have signed in; gives the list of those killed."""
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while len(killed) < most and not done.wait(dice.uniform(0.1, 0.8)):
            alive = [pid for path in pids.glob(f"{kind}-*") if is_worker(pid := int(path.name.split("-")[1]))]
            if alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim := dice.choice(alive), signal.SIGKILL)
                    killed.append(victim)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def is_worker(pid: int) -> bool:
    """Whether a process is alive and one of Ray's."""
    try:
        return "ray::" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


DRIVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import chaos
chaos.run_fleet(chaos.draw(Path({folder!r}), {count}), Path({out!r}), Path({pids!r}), {delay})
"""


def start_driver(folder: Path, out: Path, pids: Path, count: int, delay: float) -> subprocess.Popen:
    """A run with a Ray of its own, in a process of its own."""
    tests = str(Path(__file__).parent)
    code = DRIVER.format(tests=tests, folder=str(folder), out=str(out), pids=str(pids), count=count, delay=delay)
    return subprocess.Popen([sys.executable, "-c", code])


CLUSTER = """
import random, sys, threading, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import chaos, ray
from ray.cluster_utils import Cluster

folder, out, dice = Path({folder!r}), Path({out!r}), random.Random({seed})
about = {{"num_cpus": 1, "object_store_memory": 100 << 20}}
cluster = Cluster(initialize_head=True, head_node_args=about | {{"include_dashboard": False}})
nodes = [cluster.add_node(**about) for _ in range(2)]
cluster.wait_for_nodes()

def kill():
    while not list(out.rglob("part-*")):
        time.sleep(0.05)
    time.sleep(dice.uniform(0, 1))
    cluster.remove_node(nodes[dice.randrange(2)], allow_graceful=False)

killer = threading.Thread(target=kill)
killer.start()
chaos.run_fleet(chaos.draw(folder, {count}), out, folder, {delay}, address=cluster.address, actors=2)
killer.join()
assert sum(node["Alive"] for node in ray.nodes()) == 2 if ray.is_initialized() else True
cluster.shutdown()
"""


def run_on_dying_cluster(folder: Path, out: Path, count: int, delay: float, seed: int) -> int:
    """A run on three nodes, one of which dies; the exit code."""
    tests = str(Path(__file__).parent)
    code = CLUSTER.format(tests=tests, folder=str(folder), out=str(out), count=count, delay=delay, seed=seed)
    return subprocess.run([sys.executable, "-c", code], timeout=300).returncode


class Disk:
    """A small file system in memory, which can be full or read-only: permissions do not stop root."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir()
        if self._mount("-t", "tmpfs", "-o", f"size={size}", "none").returncode:
            pytest.skip("this user may not mount a tmpfs")

    def remount(self, option: str) -> None:
        until = time.monotonic() + 20
        while (done := self._mount("-o", f"remount,{option}")).returncode:  # busy while a file is being written
            assert time.monotonic() < until, done.stderr

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def _mount(self, *options: str) -> subprocess.CompletedProcess:
        return subprocess.run(["mount", *options, str(self.folder)], capture_output=True, text=True)


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[Disk]:
    made = Disk(folder, size)
    try:
        yield made
    finally:
        made.remove()


@contextlib.contextmanager
def flaky_proxy(port: int, dice: random.Random, share: float) -> Iterator[tuple[int, dict[str, int]]]:
    """A server before another that spoils a share of the requests: refuses them, or drops the answer of one that was
    carried out. Gives its port and the count of each."""
    count = {"passed": 0, "refused": 0, "dropped": 0}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.read_body()
            luck = dice.random()
            kind = "refused" if luck < share / 2 else "dropped" if luck < share else "passed"
            count[kind] += 1
            if kind == "refused":
                return self.answer(503, {"Content-Type": "application/xml"}, b"<Error><Code>SlowDown</Code></Error>")
            onward = HTTPConnection("127.0.0.1", port)
            kept = {k: v for k, v in self.headers.items() if k.lower() not in FRAMING}
            onward.request(self.command, self.path, body, kept | {"Content-Length": str(len(body))})
            reply = onward.getresponse()
            content = reply.read()
            if kind == "dropped":
                self.close_connection = True
                return None
            return self.answer(reply.status, dict(reply.getheaders()), content)

        def read_body(self) -> bytes:
            chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
            source = self.rfile
            body = unchunked(source) if chunked else source.read(int(self.headers.get("Content-Length", 0)))
            # Amazon's own framing, around a checksum that comes last
            return unchunked(io.BytesIO(body)) if "aws-chunked" in self.headers.get("Content-Encoding", "") else body

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = headers.get("Content-Length", headers.get("content-length", len(content)))
            self.send_header("Content-Length", str(length if self.command == "HEAD" else len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests short."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], count
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def store() -> Iterator[int]:
    """A server that speaks S3; its port."""
    server = moto.server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


def run_on_flaky_store(photos: list[Photo], port: int, copy: Path, dice: random.Random) -> shards.Summary:
    """Label into a store that spoils a quarter of the requests, again until nothing is missing; ``copy``: what is there
    then, without the proxy."""
    fs = pafs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{port}", scheme="http", anonymous=True, allow_bucket_creation=True
    )
    bucket = f"labels-{dice.randrange(1 << 30)}"
    fs.create_dir(bucket)
    with flaky_proxy(port, dice, 0.25) as (proxy, count):
        out = f"s3://anonymous@{bucket}/run?endpoint_override=127.0.0.1:{proxy}&scheme=http&region=us-east-1"
        for _ in range(4):
            summary = run_fleet(photos, out)
            if not summary.missing:
                break
    assert count["refused"] and count["dropped"]
    pafs.copy_files(f"{bucket}/run", str(copy), source_filesystem=fs)
    return summary


FRAMING = ("transfer-encoding", "expect", "content-length", "content-encoding", "x-amz-trailer")


def unchunked(source: Any) -> bytes:
    """The content of a body sent in chunks; what trails it is passed over."""
    pieces = []
    while size := int(source.readline().split(b";")[0], 16):
        pieces.append(source.read(size))
        source.readline()
    while source.readline().strip():
        pass
    return b"".join(pieces)


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
