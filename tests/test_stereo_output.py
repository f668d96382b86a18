"""What stereo writes: files that can be read again, a summary that is JSON, a figure with all in it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_near import LAMPS, near_capture

from casfne.images import read_image, to_uint8
from casfne.normals import direction
from casfne.stereo.captures import Capture
from casfne.stereo.output import MOST_SHOWN, balance, describe, figure, rendered, write_solution
from casfne.stereo.registration import Registration
from casfne.stereo.solution import solve_capture
from casfne.stereo.surface import predict


@pytest.fixture
def solved(ball, four_lights):
    n, mask = ball
    taken = Capture("ball", to_uint8(predict(n * 0.8, four_lights) * mask)[..., None], four_lights)
    return solve_capture(taken)


def test_files_come_back(solved, tmp_path):
    write_solution(tmp_path, solved, describe(solved))
    assert np.array_equal(np.load(tmp_path / "depth.npy"), solved.depth, equal_nan=True)
    assert np.array_equal(np.load(tmp_path / "trust.npy"), solved.trust)
    assert read_image(tmp_path / "albedo.png").shape == (96, 96, 3)
    assert (tmp_path / "figure.png").is_file() and (tmp_path / "summary.json").is_file()


def test_a_summary_is_json_whatever_is_missing(solved):
    surface = solved.surface
    found = Registration(
        np.zeros((4, 2), np.float32),
        np.array([0, np.inf, 0.1, 0.1], np.float32),
        np.array([True, False, True, True]),
        {"picture 1": "dark"},
    )
    empty = replace(surface, mask=surface.mask & False)
    for one in (surface, empty):
        summary = describe(replace(solved, surface=one, registration=found))
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["integrability"] == {"curl_rms_pixels": None, "angle_deg": None}  # of nothing
    assert summary["registration"]["standard_errors_pixels"][1] is None


def test_a_ball_is_balanced_and_a_tilted_one_is_not(solved):
    surface = solved.surface
    assert abs(balance(surface)) < 0.02
    assert balance(replace(surface, normals=surface.normals + np.float32([0.1, 0, 0]))) > 0.15
    assert balance(replace(surface, mask=surface.mask & False)) is None


def test_a_figure_shows_few_of_many_lights(ball):
    n, mask = ball
    lights = np.stack([direction(a, e) for a in (-40, -20, 0, 20, 40) for e in (-20, 20)])
    taken = Capture("ball", to_uint8(predict(n * 0.8, lights) * mask)[..., None], lights)
    made = figure(solve_capture(taken))
    assert made.dtype == np.uint8 and made.shape[2] == 3
    assert made.shape[1] < (MOST_SHOWN + 1) * 100


def test_far_light_is_rendered_again(solved):
    captured = solved.capture.linear(slice(None))[..., 0]
    inside = solved.surface.mask & (captured > 0.05).all(0)
    for number in range(4):
        assert np.abs(rendered(solved, number) - captured[number])[inside].max() < 0.02


def test_near_light_is_rendered_again_from_where_pixels_are():
    taken = near_capture(LAMPS)
    images = taken.grey
    found = solve_capture(taken)
    assert "none moved" in found.surface.reason["registration"]  # it has nothing but shading, which misleads
    lit = found.surface.mask & (images > 0.05).all(0)
    assert lit.sum() > 1000
    far = replace(found, place=None)
    for number in range(4):
        near_error, far_error = (np.abs(rendered(s, number) - images[number])[lit].mean() for s in (found, far))
        assert near_error < 0.01 and near_error < 0.5 * far_error
