"""Captures solved as a whole: the face in them, and lights that they have not seen."""

from dataclasses import replace

import numpy as np
import pytest
from test_near import near_capture
from test_photoface import POINTS

from casfne.errors import InputError
from casfne.images import to_uint8
from casfne.normals import direction, direction_from_zenith, recognise_frame
from casfne.stereo.captures import Capture, open_capture, with_lamps_at
from casfne.stereo.face import face_region
from casfne.stereo.held_out import held_out_error
from casfne.stereo.solution import solve_capture
from casfne.stereo.surface import Settings, predict


def test_held_out_lights_of_a_matte_sphere_are_predicted(ball):
    n, mask = ball
    lights = np.stack([direction(a, e) for a in (-45, -20, 0, 20, 45) for e in (-30, 0, 30)])
    images = np.repeat((predict(n * 0.7, lights) * mask)[..., None], 3, -1)
    error = held_out_error(Capture("ball", to_uint8(images), lights), 5, Settings())
    assert error["solved_from"] == 10 and error["mean_abs_error_of_255"] < 0.5
    assert error["relative_error"] < 0.1 * error["relative_error_of_a_flat_face"] and error["fitted_strengths"] is None


def test_held_out_lamps_are_as_near_as_those_that_are_solved():
    near = near_capture(0.9 * direction_from_zenith([35] * 8, np.arange(20, 380, 45)))
    errors = [held_out_error(one, 2, Settings()) for one in (near, replace(near, positions=None))]
    assert errors[0]["mean_abs_error_of_255"] < 0.5 < 3 < errors[1]["mean_abs_error_of_255"]
    lit, region = near.grey[[0, 7]] > 0.03, face_region(near.points, *near.images.shape[1:3])
    assert errors[0]["lit_pixels"] <= (lit & region).sum() < lit.sum()


def test_held_out_lamps_are_as_strong_as_their_pictures_say(ball):
    n, mask = ball
    lights = np.stack([direction(a, e) for a in (-45, -20, 0, 20, 45) for e in (-30, 0, 30)])
    strengths = np.linspace(0.7, 1.3, len(lights))
    images = to_uint8(predict(n * 0.6, lights) * mask * strengths[:, None, None])[..., None]
    taken = Capture("ball", images, lights)
    found, equal = (held_out_error(taken, 5, Settings(strengths=asked)) for asked in (True, False))
    assert found["mean_abs_error_of_255"] < 0.5 < 5 < equal["mean_abs_error_of_255"]
    held = strengths[[0, 4, 7, 10, 14]]
    assert np.allclose(np.array(found["fitted_strengths"]) / held, found["fitted_strengths"][2] / held[2], atol=0.01)


def test_a_held_out_error_that_nothing_tells_is_refused(ball):
    n, mask = ball
    lights = np.stack([direction(a, e) for a in (-30, 0, 30) for e in (-20, 20)])
    images = to_uint8(predict(n * 0.7, lights) * mask)[..., None]
    taken = Capture("ball", images, lights)
    with pytest.raises(InputError, match="cannot judge refined lights"):
        held_out_error(taken, 2, Settings(refine_lights=True))
    images[[0, 5]] = 0
    with pytest.raises(InputError, match="ball: none of the 2 held-out images has a lit pixel"):
        held_out_error(taken, 2, Settings())
    images[1:5] = 0
    with pytest.raises(InputError, match="ball, 4 of 6 images: no pixel of the face has a normal"):
        held_out_error(taken, 2, Settings())


def test_the_face_region_follows_the_points():
    region = face_region(POINTS.astype(float), 192, 192)
    assert all(region[int(y), int(x)] for x, y in POINTS)
    assert 0.15 < region.mean() < 0.6


def test_near_lamps_that_count_as_far_are_said(ball, four_lights):
    n, mask = ball
    images = to_uint8(predict(n * 0.7, four_lights) * mask)[..., None]
    placed = with_lamps_at(Capture("ball", images, four_lights), 1.0)
    found, far = solve_capture(placed), solve_capture(Capture("ball", images, four_lights))
    assert "no face points" in found.surface.reason["near lamps"] and not far.surface.reason
    assert np.array_equal(found.surface.normals, far.surface.normals)
    strengths = solve_capture(placed, Settings(strengths=True)).surface.reason["strengths"]
    assert strengths.startswith("estimated")  # as of any far lamps


@pytest.mark.parametrize("person", ["yaleB01", "yaleB02"])
def test_real_captures_predict_lights_they_have_not_seen(shared_data, person):
    capture = open_capture(shared_data / "yale_b" / person)
    assert capture.images.shape == (64, 192, 168, 1)
    settings = Settings(shadow=8 / 255)
    error = held_out_error(capture, 16, settings)
    assert error["solved_from"] == 48 and error["predicted"] == 16
    assert error["relative_error"] < 0.2 < error["relative_error_of_a_flat_face"]
    surface = solve_capture(capture, settings).surface
    mean = surface.normals[surface.mask].mean(0)
    assert abs(mean[0]) < 0.07  # a frontal face is balanced left and right
    assert recognise_frame(surface.normals, surface.mask)[0] == "opengl"
