"""The numbers and flags of a label, on inputs made to show each; what options add to a row."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from casfne import images, normals, octahedral
from casfne.corpora.record import Photo
from casfne.errors import InputError
from casfne.images import Crop
from casfne.labelling import label as steps
from casfne.labelling import quality
from casfne.normals import sphere

OVAL = quality.oval()
EMPTY = np.zeros_like(OVAL)
BALL, _ = sphere(256)
FACE = np.where(BALL.any(-1, keepdims=True), BALL, np.float32([0, 0, 1]))  # a frontal bump without edges in the oval
RANDOM = np.random.default_rng(0)


def grey(level: float | NDArray) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.broadcast_to(np.asarray(level, np.uint8)[..., None], (256, 256, 3)))


def texture() -> NDArray[np.uint8]:
    """A sharp picture with contrast: noise of a few pixels, levels 60 to 190."""
    small = np.random.default_rng(1).random((128, 128)).astype(np.float32)
    return grey(60 + 130 * np.clip(cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC), 0, 1))


def turn(vectors: NDArray, degrees: float) -> NDArray[np.float32]:
    """About the vertical axis, to the right."""
    a = np.radians(degrees)
    matrix = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return (vectors @ matrix.T).astype(np.float32)


# --- numbers ---


@given(st.integers(0, 2**32 - 1), st.floats(0, 180))
@settings(max_examples=30)
def test_angles_are_those_of_the_definition(seed: int, limit: float) -> None:
    random = np.random.default_rng(seed)
    a = normals.normalise(random.normal(size=(5, 7, 3)))
    b = normals.normalise(a + random.normal(size=(5, 7, 3)) * limit / 180)
    np.testing.assert_allclose(quality.angles_deg(a, b), normals.angle_deg(a, b), atol=2e-4, rtol=1e-4)


def test_roughness_is_that_of_the_definition_for_any_mask() -> None:
    field = normals.normalise(RANDOM.normal([0, 0, 2], size=(256, 256, 3)))
    blob = RANDOM.random((256, 256)) > 0.3
    line, column, dot = np.zeros((3, 256, 256), bool)
    line[9, 20:60] = column[20:60, 9] = dot[5, 5] = True
    for mask in (OVAL, blob, line, column, np.ones_like(OVAL)):
        across, down = mask[:, 1:] & mask[:, :-1], mask[1:] & mask[:-1]
        right = normals.angle_deg(field[:, 1:], field[:, :-1])[across]
        below = normals.angle_deg(field[1:], field[:-1])[down]
        expected = np.concatenate([right, below]).mean()
        assert quality.roughness_deg(field, mask) == pytest.approx(expected, rel=1e-4)
    assert np.isnan(quality.roughness_deg(field, dot)) and np.isnan(quality.roughness_deg(field, EMPTY))


def test_sharpness_falls_with_blur() -> None:
    sharp = texture()
    values = [quality.sharpness(cv2.GaussianBlur(sharp, (0, 0), s) if s else sharp) for s in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(cv2.Laplacian(sharp[..., 0], cv2.CV_64F).var(), rel=1e-3)


def test_shares_of_bright_and_dark_and_the_two_halves() -> None:
    levels = np.full((256, 256), 100)
    levels[:124] = 255
    assert quality.clipped(grey(levels), OVAL) == pytest.approx(0.5, abs=0.01)
    levels[:124] = 3
    assert quality.dark(grey(levels), OVAL) == pytest.approx(0.5, abs=0.01)
    levels[:, :128], levels[:, 128:] = 50, 150
    assert quality.imbalance(grey(levels), OVAL) == pytest.approx(0.5, abs=0.01)
    assert quality.imbalance(grey(levels)[:, ::-1].copy(), OVAL) == pytest.approx(-0.5, abs=0.01)
    assert quality.imbalance(grey(0), OVAL) == 0
    assert np.isnan(quality.imbalance(grey(9), EMPTY)) and np.isnan(quality.dark(grey(9), EMPTY))


@pytest.mark.parametrize("degrees", [-60, -20, 0, 35])
def test_yaw_is_that_of_the_mean_normal(degrees: float) -> None:
    assert quality.yaw_deg(turn(FACE, degrees), OVAL) == pytest.approx(degrees, abs=0.5)
    assert np.isnan(quality.yaw_deg(FACE, EMPTY))


# --- flags ---


@pytest.mark.parametrize(
    ("levels", "flag"),
    [
        (np.full((256, 256), 120), False),
        (np.full((256, 256), 35), False),  # dark skin
        (np.full((256, 256), 255), True),
        (np.full((256, 256), 5), True),
        (np.repeat(np.linspace(20, 220, 256)[None], 256, 0), False),  # light from one side
        (np.where(np.arange(256) < 128, 25, 200)[None].repeat(256, 0), True),  # half the face unlit
        (np.where(np.arange(256) < 90, 255, 120)[:, None].repeat(256, 1), True),  # a blown-out forehead
    ],
)
def test_extreme_light(levels: NDArray, flag: bool) -> None:
    picture = grey(levels)
    measured = [f(picture, OVAL) for f in (quality.clipped, quality.dark, quality.imbalance)]
    assert quality.extreme_light(*measured) is flag


def strands() -> NDArray[np.float32]:
    rough = FACE.copy()
    for x in range(60, 130, 4):
        rough[30:200, x] = normals.normalise([0.8 * (-1) ** (x // 4), 0, 0.6])
    return rough


def test_occlusion_sees_edges_and_what_the_border_cuts() -> None:
    def share(normal: NDArray[np.float32]) -> float:
        return quality.disturbed(quality.Angles.of(normal, OVAL))

    assert share(FACE) == 0 and not quality.occluded(share(FACE), 1)
    noise = normals.normalise(FACE + RANDOM.normal(0, 0.02, FACE.shape))
    assert not quality.occluded(share(noise), 1)  # 2 degrees of noise
    assert quality.occluded(share(strands()), 1)
    smooth = FACE.copy()
    smooth[150:, 60:200] = (0, 0, 1)
    assert not quality.occluded(share(smooth), 1)  # what has no edges is not seen: the docstring says so
    assert quality.occluded(0, quality.coverage(quality.face_mask(Crop(-90, 0, 256), 256, 256)))
    assert np.isnan(quality.disturbed(quality.Angles.of(FACE, EMPTY))) and not quality.occluded(float("nan"), 1)


def compressed(picture: NDArray[np.uint8], jpeg_quality: int) -> NDArray[np.uint8]:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])[1], cv2.IMREAD_COLOR)


def shaded() -> NDArray[np.uint8]:
    """A lit bump with the grain of a photograph, 400x420."""
    ramp = images.shade(cv2.resize(FACE, (420, 400)), normals.direction(30, 20)).astype(np.float32)
    return np.clip(ramp + RANDOM.normal(0, 3, (400, 420, 1)), 0, 255).astype(np.uint8)


def test_blocks_are_seen_wherever_the_window_lies() -> None:
    picture = shaded()
    for crop in (Crop(0, 0, 400), Crop(13, 5, 333), Crop(-50, 30, 400), Crop(101, 99, 120)):
        whole = quality.blockiness(picture, crop)
        few = quality.blockiness(compressed(picture, 10), crop)
        assert whole < 1.4 < quality.BLOCKY < few
    turned = np.ascontiguousarray(np.rot90(compressed(picture, 10))[3:, 1:])
    assert quality.blockiness(turned, Crop(0, 0, 390)) > quality.BLOCKY
    assert np.isnan(quality.blockiness(picture, Crop(0, 0, 20)))
    assert np.isnan(quality.blockiness(picture, Crop(-390, 0, 400)))
    assert quality.blockiness(np.zeros((99, 99, 3), np.uint8), Crop(0, 0, 99)) == 1


@pytest.mark.parametrize(
    ("side", "sharp", "blocks", "flag"),
    [(256, 100, 1.1, False), (60, 100, 1.1, True), (256, 3, 1.1, True), (256, 100, 3, True), (256, 99, np.nan, False)],
)
def test_low_quality(side: int, sharp: float, blocks: float, flag: bool) -> None:
    assert quality.low_quality(side, sharp, blocks) is flag


def test_profiles_are_told_by_points_or_by_normals() -> None:
    frontal = np.array([[40.0, 50], [80, 50], [60, 72], [45, 95], [75, 95]])
    sideways = frontal + np.array([[0, 0], [0, 0], [30, 0], [0, 0], [0, 0]])
    assert quality.nose_offset(frontal) == 0
    assert quality.nose_offset(sideways) == pytest.approx(0.75)
    assert quality.profile(0, sideways) and quality.profile(0, sideways * [-1, 1] + [120, 0])
    assert quality.profile(30, None) and quality.profile(-30, frontal)
    assert not quality.profile(5, frontal) and not quality.profile(5, None)
    assert quality.profile(0, np.zeros((5, 2)))  # both eyes at one place: one of them is hidden
    rolled = frontal @ rotation(30)
    assert quality.nose_offset(rolled) == pytest.approx(0, abs=1e-9)


def rotation(degrees: float) -> NDArray[np.float64]:
    a = np.radians(degrees)
    return np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


# --- rows ---


class Ball:
    """A predictor: a bump at t = 0, the same a little turned at t = 1."""

    name, sha256, refinements, precision = "ball", "0" * 64, 1, "fp32"

    def assess(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        stages = np.repeat(np.stack([FACE, turn(FACE, 4)])[None], len(crops), 0)
        return stages, 2 * normals.angle_deg(stages[:, -1], stages[:, -2])


WINDOW = Crop(0, 0, 256)


def row_of(options: steps.Options = steps.DEFAULT, crop: Crop = WINDOW) -> dict:
    face = steps.Face(Photo("c", "i", "p"), 0, "ok", "", (256, 256), crop, texture())
    (labelled,) = steps.predict([face], Ball(), 4, options)
    assert labelled.face.status == "ok", labelled.face.reason
    return steps.to_row(labelled, steps.Identity.of(Ball()), options)


def opened(picture: dict) -> NDArray:
    return np.asarray(Image.open(io.BytesIO(picture["bytes"])))


def test_a_plain_row_has_all_numbers_and_flags_and_nothing_more() -> None:
    row = row_of()
    assert {name for name, value in row.items() if value is None} == {
        *("reason_code", "blockiness", "normal_octahedral", "stages", "relit")
    }
    assert all(type(row[name]) is bool for name in ("extreme_light", "occluded", "low_quality", "profile"))
    moved = normals.angle_deg(FACE, turn(FACE, 4))[OVAL].mean()
    assert row["last_move_deg"] == pytest.approx(moved, rel=1e-4)
    assert row["confidence_deg"] == pytest.approx(2 * moved, rel=1e-4)
    error = normals.angle_deg(normals.decode(opened(row["normal"])), turn(FACE, 4))[OVAL]
    assert error.max() < 0.4
    assert (opened(row["normal"])[~OVAL] == 128).all()
    np.testing.assert_array_equal(opened(row["mask"]), OVAL * np.uint8(255))


def test_the_octahedral_row_holds_the_same_normals_more_exactly() -> None:
    row = row_of(steps.Options(encoding="octahedral"))
    assert row["normal"] is None
    back = octahedral.decode(row["normal_octahedral"])
    assert normals.angle_deg(back, turn(FACE, 4))[OVAL].max() < 0.004
    assert not back[~OVAL].any()
    others = {name for name in row if name not in ("normal", "normal_octahedral", "seconds")}
    plain = row_of()
    assert {name: row[name] for name in others} == {name: plain[name] for name in others}


def test_stages_and_thumbnail_come_when_asked_for() -> None:
    row = row_of(steps.Options(stages=True, relit=True))
    first, last = (opened(stage) for stage in row["stages"])
    np.testing.assert_array_equal(last, opened(row["normal"]))
    assert normals.angle_deg(normals.decode(first), FACE)[OVAL].max() < 0.4
    small = opened(row["relit"])
    assert small.shape == (128, 128) and small.dtype == np.uint8
    assert small[40, 40] > 200 > small[85, 90]  # lit from the upper left
    assert small[0, 0] == 0


def test_an_encoding_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"jpeg.*png8, octahedral"):
        steps.Options(encoding="jpeg")


def test_a_window_whose_oval_misses_the_image_still_gives_a_row() -> None:
    row = row_of(crop=Crop(240, 240, 256))
    assert row["coverage"] == 0 and row["occluded"]
    assert row["roughness_deg"] is row["exposure"] is row["yaw_deg"] is None
    assert not opened(row["mask"]).any()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_quick_picture_is_the_picture_of_the_convention(seed: int) -> None:
    field = normals.normalise(np.random.default_rng(seed).normal(size=(256, 256, 3)))
    quick, slow = steps.encode_png8(field, OVAL).astype(int), normals.encode(field, OVAL).astype(int)
    assert np.abs(quick - slow).max() <= 1 and (quick != slow).mean() < 1e-4
    axes = np.concatenate([np.eye(3), -np.eye(3)])[None].astype(np.float32)
    inside = np.ones((1, 6), bool)
    np.testing.assert_array_equal(steps.encode_png8(axes, inside), normals.encode(axes, inside))


def test_out_of_memory_can_pass_and_a_failing_model_cannot() -> None:
    class Fails(Ball):
        error: Exception = MemoryError("torch")

        def assess(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            raise self.error

    predictor = Fails()
    face = steps.Face(Photo("c", "i", "p"), 0, "ok", "", (256, 256), WINDOW, texture())
    (entry,) = steps.predict([face], predictor, 4)
    assert (entry.face.status, entry.face.reason_code) == ("error", "out_of_memory")
    predictor.error = RuntimeError("shape")
    (entry,) = steps.predict([face], predictor, 4)
    assert (entry.face.status, entry.face.reason_code) == ("error", "model_failed")
