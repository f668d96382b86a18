"""Trust: falls with every doubt, is nothing where nothing is known, and its fit finds what made the data."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.photometric.trust import calibration_error, curve, fit
from casfne.stereo.captures import Capture
from casfne.stereo.registration import Registration
from casfne.stereo.surface import Pictures, Settings, predict, solve_images
from casfne.stereo.trust import FITTED, Features, curl, features_of, slip_of, trust

GOOD = {
    "residual": 0.005,
    "condition": 1.0,
    "usable": 4.0,
    "disagreement": 0.3,
    "edge": 40.0,
    "facing": 1.0,
    "brightness": 0.6,
    "curl": 0.01,
    "slip": 0.0,
    "highlight": 0.0,
}
WORSE = {
    "residual": 0.2,
    "condition": 0.1,
    "disagreement": 20.0,
    "edge": 0.0,
    "facing": 0.3,
    "brightness": 0.02,
    "curl": 1.0,
    "slip": 0.5,
    "highlight": 0.5,
}


def pixel(**changes):
    return Features(**{name: np.full((1, 1), value, np.float32) for name, value in (GOOD | changes).items()})


@pytest.mark.parametrize("name", WORSE)
def test_every_doubt_lowers_trust(name):
    steps = [trust(pixel(**{name: v}))[0, 0] for v in np.linspace(GOOD[name], WORSE[name], 5)]
    assert (np.diff(steps) <= 0).all()


def test_no_coefficient_speaks_for_a_pixel():
    assert all(w <= 0 for fitted in FITTED for w in fitted.weights) and FITTED[1].weights[0] == 0


def test_three_lights_say_nothing_by_their_residual():
    few = [trust(pixel(usable=3, residual=r))[0, 0] for r in (0.0, 0.5)]
    assert few[0] == few[1] < trust(pixel(residual=0))[0, 0]


def test_what_is_not_known_is_not_trusted():
    assert trust(pixel(usable=2))[0, 0] == 0
    assert trust(pixel(residual=np.nan))[0, 0] == 0
    assert trust(pixel(edge=np.inf))[0, 0] > 0


def test_a_fit_finds_the_coefficients_that_made_the_data():
    random = np.random.default_rng(0)
    planes = {name: random.uniform(min(v, GOOD[name]), max(v, GOOD[name]), 40_000) for name, v in WORSE.items()}
    features = Features(**planes, usable=random.choice([3, 4, 4], 40_000))
    chance = trust(features)
    good = random.random(len(chance)) < chance
    again = trust(features, fit(features, good))
    assert np.abs(again - chance).mean() < 0.03
    assert calibration_error(curve(again, good)) < 0.03


def test_calibration_error_sees_overconfidence():
    sure = np.full(1000, 0.9)
    assert calibration_error(curve(sure, np.arange(1000) % 2 == 0)) == pytest.approx(0.4, abs=0.01)


def test_a_ball_is_trusted_where_all_lights_reach(ball, four_lights):
    n, mask = ball
    images = predict(n * 0.8, four_lights) * mask
    surface, pictures = solve_images(images, four_lights), Pictures(images, four_lights, Settings())
    found = trust(features_of(pictures, surface)) * surface.mask
    assert found.shape == mask.shape and found.dtype == np.float32
    assert found[44:52, 44:52].min() > 0.5 and not found[~surface.mask].any()
    features = features_of(pictures, surface)
    assert features.disagreement[44:52, 44:52].max() < 1 and features.usable.max() == 4
    spoilt = trust(replace(features, residual=features.residual + 0.2))
    assert spoilt[48, 48] < found[48, 48]


def test_a_balls_normals_have_no_curl_and_noise_has(ball):
    n, mask = ball
    inside = mask & (n[..., 2] > 0.6)
    assert curl(n, inside).max() < 0.02
    noisy = n + np.random.default_rng(1).normal(0, 0.1, n.shape).astype(np.float32)
    assert curl(noisy, inside)[inside].mean() > 0.05


def test_detail_slips_where_pictures_moved_or_may_have(four_lights):
    images = np.full((4, 40, 40, 1), 120, np.uint8)
    images[:, :, 20:] = 60
    taken, sure = Capture("step", images, four_lights), np.ones(4, bool)
    shifts = np.float32([[0, 0], [0, 0], [0.6, 0], [0, 0]])
    still = slip_of(taken, Registration(shifts * 0, np.zeros(4, np.float32), sure), moved=True)
    moved = slip_of(taken, Registration(shifts, np.full(4, 0.05, np.float32), sure), moved=True)
    unknown = slip_of(taken, Registration(shifts * 0, np.full(4, np.inf, np.float32), ~sure), moved=False)
    assert not still.any() and moved[20, 19] > 0.05 and unknown[20, 19] > 0.05
    assert max(moved[20, 5], unknown[20, 5], unknown[20, 35]) < 0.001
