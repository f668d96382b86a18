"""Captures solved as a whole: the face in them, and lights that they have not seen."""

import numpy as np
import pytest
from test_photoface import POINTS

from casfne.images import to_uint8
from casfne.normals import direction, recognise_frame
from casfne.stereo.captures import Capture, open_capture, with_lamps_at
from casfne.stereo.face import face_region, held_out_error
from casfne.stereo.solution import solve_capture
from casfne.stereo.surface import Settings, predict


def test_held_out_lights_of_a_matte_sphere_are_predicted(ball):
    n, mask = ball
    lights = np.stack([direction(a, e) for a in (-45, -20, 0, 20, 45) for e in (-30, 0, 30)])
    images = np.repeat((predict(n * 0.7, lights) * mask)[..., None], 3, -1)
    error = held_out_error(Capture("ball", to_uint8(images), lights), 5, Settings())
    assert error["solved_from"] == 10 and error["mean_abs_error_of_255"] < 0.5
    assert error["relative_error"] < 0.1 * error["relative_error_of_a_flat_face"]


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
