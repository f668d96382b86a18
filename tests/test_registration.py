"""Registration: motion that was put in comes out, none is invented, and what cannot be registered is said."""

import cv2
import numpy as np
import pytest

from casfne.normals import angle_deg, sphere
from casfne.stereo.captures import Capture, open_capture
from casfne.stereo.registration import align, register, register_capture, undo
from casfne.stereo.surface import predict, solve

MOVED = np.array([[0, 0], [0.6, -0.4], [-1.3, 0.7], [1.1, 1.6]], np.float32)


def spotted(lights, moved, seed=3, size=160):
    """Pictures [L, H, W, 3] of a ball with spots and dents, each moved; and where the ball's front is."""
    random = np.random.default_rng(seed)
    n, _ = sphere(size)
    bumps = cv2.GaussianBlur(random.normal(size=(size, size, 2)), (0, 0), 2).astype(np.float32)
    n = n + np.concatenate([bumps, bumps[..., :1] * 0], -1) * 0.5
    n /= np.linalg.norm(n, axis=-1, keepdims=True) + 1e-6
    spots = cv2.GaussianBlur(random.normal(size=(size, size, 3)), (0, 0), 1.5).astype(np.float32)
    images = predict(n, lights)[..., None] * np.clip(0.4 + 0.3 * spots, 0.1, 0.65)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.stack([shifted(a, d) for a, d in zip(images, moved, strict=True)]), np.hypot(x, y) < 0.3 * size


def shifted(image, by):
    matrix = np.float32([[1, 0, by[0]], [0, 1, by[1]]])
    return cv2.warpAffine(image.astype(np.float32), matrix, image.shape[1::-1], flags=cv2.INTER_LANCZOS4)


@pytest.mark.parametrize("colours", [1, 3])
def test_motion_is_found(four_lights, colours):
    images, region = spotted(four_lights, MOVED)
    found = register(images[..., :colours], four_lights, region)
    assert found.sure.all() and not found.reason
    assert np.linalg.norm(found.shifts - MOVED, axis=1).max() < 0.2
    assert (found.shifts[0] == 0).all() and found.shifts.dtype == np.float32


def test_no_motion_is_invented(four_lights):
    images, region = spotted(four_lights, MOVED * 0)
    assert np.abs(register(images, four_lights, region).shifts).max() < 0.1


def test_a_capture_is_registered_as_its_pictures_are(four_lights):
    images, region = spotted(four_lights, MOVED)
    taken = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    found = register_capture(Capture("ball", taken, four_lights), region)
    same = register(taken.astype(np.float32) / 255, four_lights, region)
    assert np.array_equal(found.shifts, same.shifts)


def test_aligning_undoes_motion_and_keeps_what_is_saturated(four_lights):
    still, region = spotted(four_lights, MOVED * 0)
    moved, _ = spotted(four_lights, MOVED)
    back = align(moved, MOVED, 1.0)
    assert np.abs(back - still)[:, region].mean() < 0.3 * np.abs(moved - still)[:, region].mean()
    white = np.zeros((1, 20, 20, 1), np.uint8)
    white[0, 10, 10] = 255
    assert (align(white, np.float32([[0.5, 0]]), 255) == 255).any()


def test_what_comes_from_outside_is_a_shadow():
    images = np.full((1, 16, 16, 1), 100, np.uint8)
    back = align(images, np.float32([[2.5, 0]]), 255)
    assert (back[0, :, -3:] == 0).all() and (back[0, :, :-4] == 100).all()


def test_small_shifts_leave_pictures_untouched(four_lights):
    images, _ = spotted(four_lights, MOVED)
    assert np.array_equal(align(images, np.full((4, 2), 0.02, np.float32), 1.0), images)


def test_dark_pictures_are_not_sure_and_say_so(four_lights):
    images, region = spotted(four_lights, MOVED)
    images[2] = 0
    found = register(images, four_lights, region)
    assert not found.sure[2] and "picture 2" in found.reason and (found.shifts[2] == 0).all()
    taken = Capture("ball", np.rint(images.clip(0, 1) * 255).astype(np.uint8), four_lights)
    kept, reason = undo(taken, found)
    assert kept is taken and "picture 2" in reason and reason["registration"] == "none moved"


def test_shapes_that_do_not_fit_are_named(four_lights):
    with pytest.raises(ValueError, match="expected images"):
        register(np.zeros((4, 8, 8, 1), np.float32), four_lights, np.ones((9, 8), bool))


def test_real_captures_that_hardly_moved_are_hardly_changed(shared_data):
    whole = open_capture(shared_data / "yale_b" / "yaleB01")
    truth = solve(whole)
    angles = np.degrees(
        np.stack([np.arctan2(whole.lights[:, 0], whole.lights[:, 2]), np.arcsin(whole.lights[:, 1])], 1)
    )
    corners = [(x, y) for x in (35, -35) for y in (20, -20)]
    chosen = [int(np.square(angles - corner).sum(1).argmin()) for corner in corners]
    region = np.zeros(whole.images.shape[1:3], bool)
    region[20:-20, 20:-20] = True
    four = Capture("four", whole.images[chosen], whole.lights[chosen], ambient=whole.ambient)
    found = register_capture(four, region)
    assert np.linalg.norm(found.shifts, axis=1).max() < 0.7
    before, after = (solve(capture) for capture in (four, undo(four, found)[0]))
    seen = region & truth.mask & before.mask & after.mask
    errors = [angle_deg(surface.normals, truth.normals)[seen].mean() for surface in (before, after)]
    assert errors[1] < errors[0] + 0.4
