"""What stereo writes: files that can be read again, a summary that is JSON, a figure with all in it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from casfne.images import read_image, to_uint8
from casfne.normals import direction
from casfne.stereo.captures import Capture
from casfne.stereo.integrate import Integrability, poisson
from casfne.stereo.output import MOST_SHOWN, balance, describe, surface_figure, write_surface
from casfne.stereo.registration import Registration
from casfne.stereo.surface import predict, solve


@pytest.fixture
def solved(ball, four_lights):
    n, mask = ball
    taken = Capture("ball", to_uint8(predict(n * 0.8, four_lights) * mask)[..., None], four_lights)
    return taken, solve(taken)


def test_files_come_back(solved, tmp_path):
    taken, surface = solved
    depth = poisson(surface.normals, surface.mask)
    write_surface(tmp_path, surface, describe(taken, surface), depth, surface_figure(taken, surface, depth))
    assert np.array_equal(np.load(tmp_path / "depth.npy"), depth, equal_nan=True)
    assert np.array_equal(np.load(tmp_path / "trust.npy"), surface.trust)
    assert read_image(tmp_path / "albedo.png").shape == (96, 96, 3)
    assert (tmp_path / "figure.png").is_file() and (tmp_path / "summary.json").is_file()
    write_surface(tmp_path, surface, {})
    assert not (tmp_path / "depth.npy").exists()  # an earlier run's would pass for this one's


def test_a_summary_is_json_whatever_is_missing(solved):
    taken, surface = solved
    found = Registration(
        np.zeros((4, 2), np.float32),
        np.array([0, np.inf, 0.1, 0.1], np.float32),
        np.array([True, False, True, True]),
        {"picture 1": "dark"},
    )
    empty = replace(surface, mask=surface.mask & False)
    for one in (surface, empty):
        summary = describe(taken, one, found, Integrability(float("nan"), 1.0), "pixels")
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["reasons"]["picture 1"] == "dark" and summary["registration"]["standard_errors_pixels"][1] is None


def test_a_ball_is_balanced_and_a_tilted_one_is_not(solved):
    _, surface = solved
    assert abs(balance(surface)) < 0.02
    assert balance(replace(surface, normals=surface.normals + np.float32([0.1, 0, 0]))) > 0.15
    assert balance(replace(surface, mask=surface.mask & False)) is None


def test_a_figure_shows_few_of_many_lights(ball):
    n, mask = ball
    lights = np.stack([direction(a, e) for a in (-40, -20, 0, 20, 40) for e in (-20, 20)])
    taken = Capture("ball", to_uint8(predict(n * 0.8, lights) * mask)[..., None], lights)
    figure = surface_figure(taken, solve(taken))
    assert figure.dtype == np.uint8 and figure.shape[2] == 3
    assert figure.shape[1] < (MOST_SHOWN + 1) * 100
