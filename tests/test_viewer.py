"""The page's viewer in headless Chromium, by WebGL and by its canvas fallback: what it shows is what Python says."""

import base64
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from analytic_face import analytic_face
from browser import Tab, chromium, executable
from numpy.typing import NDArray

from casfne.applied.lighting import Light
from casfne.applied.relight import SHARP, SOFT, Relightable, picture
from casfne.images import shade
from casfne.normals import FRAMES, angle_deg, convert, decode, direction, encode, normalise
from casfne.report.faces import Face
from casfne.report.figures import error_map
from casfne.report.page import render
from casfne.report.paper import FILL, STRENGTH

NORMALS, MASK, _ = analytic_face(256)

LIGHTS = [(0, 0), (60, 10), (-60, 10), (10, 70), (-20, -55)]


def rough(degrees: float, seed: int) -> NDArray[np.float32]:
    """The face's normals with noise."""
    noise = np.random.default_rng(seed).normal(0, np.radians(degrees), NORMALS.shape)
    return normalise(NORMALS + noise)


def photograph() -> NDArray[np.uint8]:
    """The face with freckles under a warm light from the left, before a pattern."""
    albedo = 0.5 * (1 + 0.1 * np.random.default_rng(0).normal(size=(256, 256, 1))) * np.array([1, 0.8, 0.7])
    light = Light.directional(-40, 20, (0.9, 0.8, 0.7), 0.2)
    behind = np.indices((256, 256)).sum(0)[..., None] % 64 / 64
    return picture(np.where(MASK[..., None], albedo * light.shading(NORMALS), behind * 0.5))


STAGES = np.stack([rough(6, 1), rough(3, 2), rough(1, 3)])
TESTED = Face("tested", photograph(), STAGES, MASK, 2, NORMALS)
LABELLED = Face("labelled", photograph()[:, ::-1], STAGES[-1:], MASK, 2, facts=("expected error 3.00°",))
GONE = Face("gone", np.full((256, 256, 3), 128, np.uint8), STAGES[-1:], MASK, 0)


@pytest.fixture(scope="module", params=["WebGL", "canvas"])
def tab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    if executable() is None:
        pytest.skip("no Chromium on the PATH, nor in CASFNE_CHROMIUM: the page's script is not tested")
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(render([TESTED], [LABELLED, GONE]))
    profile = tmp_path_factory.mktemp("profile")
    with chromium(profile, webgl=request.param == "WebGL") as opened:
        opened.size(1200, 900)
        opened.open(folder / "page.html")
        assert opened.evaluate("viewer.renderer") == request.param
        yield opened
        assert opened.problems() == []
        assert opened.addresses() == {(folder / "page.html").as_uri()}


@pytest.fixture
def seen(tab: Tab) -> Callable[..., NDArray[np.uint8]]:
    """What the viewer draws after changes of its state, uint8 RGBA [256, 256, 4]."""

    def look(**changes: object) -> NDArray[np.uint8]:
        text = ", ".join(f"{name}: {value!r}" for name, value in changes.items())
        address = tab.evaluate(f"viewer.set({{{text}}}).then(() => document.querySelector('#face').toDataURL())")
        png = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
        return cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)

    look(face=0, stage=2, view="photo", frame="opengl", light=[35, 25], zoom=1, pan=[0, 0])
    return look


def test_the_photograph_is_shown(seen) -> None:
    off = np.abs(seen(view="photo")[..., :3].astype(int) - TESTED.photo)
    assert off.mean() < 5  # it is compressed in the page


@pytest.mark.parametrize("light", LIGHTS)
def test_shading_is_that_of_the_library(seen, light) -> None:
    stored = decode(encode(STAGES[-1], MASK))
    drawn = seen(view="shading", light=list(light))
    off = np.abs(drawn[..., :3].astype(int) - shade(stored, direction(*light), MASK))
    assert off[MASK].max() <= 2 and np.percentile(off[MASK], 99) <= 1
    assert (drawn[..., 3] > 0).tolist() == MASK.tolist()  # nothing outside the mask


@pytest.mark.parametrize("view", ["shading", "relit"])
def test_a_moved_light_changes_pixels_as_shading_predicts(seen, view) -> None:
    stored = decode(encode(STAGES[-1], MASK))
    for before, after in [((-60, 0), (60, 0)), ((0, -50), (0, 50)), ((10, 10), (40, -20))]:
        lit = [np.clip(stored @ direction(*light), 0, None) for light in (before, after)]
        drawn = [seen(view=view, light=list(light))[..., :3].mean(-1) for light in (before, after)]
        moved = MASK & (np.abs(lit[1] - lit[0]) > 0.1)
        moved[~inner(10)] = False
        assert moved.sum() > 1000
        agree = np.sign(drawn[1] - drawn[0])[moved] == np.sign(lit[1] - lit[0])[moved]
        assert agree.mean() > 0.999  # a few are white under both


def inner(pixels: int) -> NDArray[np.bool_]:
    """The mask without its edge."""
    return cv2.erode(MASK.astype(np.uint8), np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)) > 0


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize(("face", "edge"), [(0, SHARP), (1, SOFT)])
def test_a_relit_photograph_is_that_of_the_library(seen, face, edge, light) -> None:
    stored = seen(face=face, view="photo")[..., :3].copy()
    taken = Relightable.of(stored, STAGES[-1], MASK, edge)
    expected = picture(taken.under(Light.directional(*light, STRENGTH, FILL)))
    off = np.abs(seen(view="relit", light=list(light))[..., :3].astype(int) - expected)
    assert off[~MASK].max() <= 1
    assert np.percentile(off, 99) <= 3 and off.mean() < 0.7


@pytest.mark.parametrize("frame", FRAMES)
def test_normals_are_shown_in_every_frame_and_stage(seen, frame) -> None:
    for stage, expected in [*enumerate(STAGES), ("truth", NORMALS)]:
        drawn = seen(view="normals", frame=frame, stage=stage)[..., :3]
        picture_of = encode(convert(decode(encode(expected, MASK)), "opengl", frame), MASK)
        assert np.abs(drawn.astype(int) - picture_of)[MASK].max() <= (1 if stage in (2, "truth") else 4)


def test_errors_are_those_of_the_stage(seen, tab) -> None:
    truth = decode(encode(NORMALS, MASK))
    for t, stage in enumerate(STAGES):
        drawn = seen(view="error", stage=t)[..., :3]
        off = np.abs(drawn.astype(int) - error_map(decode(encode(stage, MASK)), truth, MASK))
        assert np.percentile(off[MASK], 99.5) <= (6 if t == 2 else 14)  # one colour of the 256 next to another
        said = float(tab.evaluate("document.querySelector('#facts').textContent").split()[1].rstrip("°"))
        assert said == pytest.approx(float(angle_deg(stage, NORMALS)[MASK].mean()), abs=0.01)


def test_what_a_face_cannot_show_is_not_offered(seen, tab) -> None:
    enabled = "[...document.querySelectorAll('input[name=view]:enabled')].map(i => i.value)"
    assert set(tab.evaluate(enabled)) == {"relit", "shading", "normals", "error", "photo"}
    seen(face=1, view="error")
    assert "error" not in tab.evaluate(enabled) and tab.evaluate("viewer.state.view") == "shading"
    stages = "[...document.querySelectorAll('#stages label')].map(l => l.textContent)"
    assert tab.evaluate(stages) == ["t = 2"]  # only the last of the two refinements was kept
    seen(face=2)
    assert set(tab.evaluate(enabled)) == {"shading", "normals", "photo"}  # its photograph is gone
    assert tab.evaluate(stages) == ["t = 0"]


# --- hands ---


def place(tab: Tab, x: float, y: float) -> dict[str, float]:
    """Where a share of the stage lies in the window."""
    box = tab.evaluate(
        "(({left, top, width}) => [left, top, width])(document.querySelector('#stage').getBoundingClientRect())"
    )
    return {"x": box[0] + x * box[2], "y": box[1] + y * box[2]}


def mouse(tab: Tab, kind: str, x: float, y: float, **more: object) -> None:
    where = place(tab, x, y)
    tab.call("Input.dispatchMouseEvent", type=kind, **where, button="left", buttons=1, clickCount=1, **more)


def press(tab: Tab, key: str, shift: bool = False) -> None:
    text = {"text": key} if len(key) == 1 else {}
    for kind in ("keyDown", "keyUp"):
        tab.call(
            "Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 * shift, **(text if kind == "keyDown" else {})
        )


def test_the_light_follows_a_drag(seen, tab) -> None:
    seen(view="shading")
    tab.evaluate("scrollTo(0, 0)")
    mouse(tab, "mousePressed", 0.5, 0.5)
    assert tab.evaluate("viewer.state.light") == pytest.approx([0, 0], abs=1.5)
    for x in (0.6, 0.75, 0.9):
        mouse(tab, "mouseMoved", x, 0.4)
    mouse(tab, "mouseReleased", 0.9, 0.4)
    mouse(tab, "mouseMoved", 0.1, 0.9)  # no button: the light stays
    azimuth, elevation = tab.evaluate("viewer.state.light")
    towards = direction(azimuth, elevation)
    assert towards[:2] == pytest.approx([0.4 / 0.48, 0.1 / 0.48], abs=0.02)
    assert tab.evaluate("document.querySelector('#azimuth').value") == str(round(azimuth))


def test_zoom_keeps_the_point_under_the_pointer(seen, tab) -> None:
    seen(view="normals")
    tab.evaluate("document.querySelector('#stage').focus()")
    mouse(tab, "mouseMoved", 0.62, 0.41)
    before = tab.evaluate("document.querySelector('#pixel').textContent")
    assert before.startswith("x ") and "off by" in before
    for _ in range(4):
        mouse(tab, "mouseWheel", 0.62, 0.41, deltaX=0, deltaY=-150)
    time.sleep(0.2)
    mouse(tab, "mouseMoved", 0.621, 0.41)
    zoom = tab.evaluate("viewer.state.zoom")
    values = [
        np.array([float(v.rstrip(",")) for v in text.split()[1:6:2]])
        for text in (before, tab.evaluate("document.querySelector('#pixel').textContent"))
    ]
    assert zoom > 2 and values[1] == pytest.approx(values[0], abs=0.12)
    press(tab, "0")
    assert tab.evaluate("viewer.state.zoom") == 1


def test_all_of_it_by_keys(seen, tab) -> None:
    seen(view="relit", stage=2, light=[0, 0])
    tab.evaluate("document.querySelector('#stage').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "[", "v", "+"):
        press(tab, key)
    state = tab.evaluate("viewer.state")
    assert state["light"] == [10, 5] and state["stage"] == 1 and state["view"] == "shading" and state["zoom"] > 1
    press(tab, "ArrowRight", shift=True)
    assert tab.evaluate("viewer.state.pan[0]") > 0 and tab.evaluate("viewer.state.light") == [10, 5]
    focusable = (
        "[...document.querySelectorAll('#viewer button, #viewer input, #viewer select')].every(e => e.tabIndex >= 0)"
    )
    assert tab.evaluate(focusable)


def test_a_face_is_chosen_from_the_strip_and_from_the_cases(seen, tab) -> None:
    tab.evaluate("document.querySelectorAll('#faces button')[1].click()")
    tab.evaluate("viewer.set({})")
    assert tab.evaluate("document.querySelector('#name').textContent") == "labelled"
    tab.evaluate("document.querySelector('[data-face=\"2\"]').click()")
    assert tab.evaluate("viewer.state.face") == 2
    pressed = "[...document.querySelectorAll('#faces button')].map(b => b.getAttribute('aria-pressed'))"
    tab.evaluate("viewer.set({})")
    assert tab.evaluate(pressed) == ["false", "false", "true"]


def test_phones_and_dark_rooms(seen, tab) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    try:
        for width, dark in ((390, True), (390, False), (1200, True)):
            tab.size(width, 844, dark)
            assert (np.mean(tab.evaluate(ground)) < 60) == dark
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
    finally:
        tab.size(1200, 900)


def test_a_hundred_faces_stay_under_15_mb() -> None:
    smooth = normalise(NORMALS + 0.4 * (rough(5, 4) - NORMALS))  # as rough, to its neighbour, as the demo's labels are
    stages = np.stack([normalise(smooth + shift) for shift in (0.01 * rough(3, 5), 0.005 * rough(3, 6), 0 * smooth)])
    one = Face("one", photograph(), stages, MASK, 2)
    assert 100 * (len(render([], [one, one])) - len(render([], [one]))) < 15e6


def test_a_page_without_faces_says_so_and_breaks_nothing() -> None:
    assert 'id="viewer"' not in render([], [])
