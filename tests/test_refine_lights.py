"""Lights refined from images: a face under lights that are wrong, and real captures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic_face import analytic_face
from conftest import ROOT
from test_photoface import POINTS

from casfne.errors import InputError
from casfne.images import to_uint8
from casfne.normals import angle_deg, direction_from_zenith, normalise
from casfne.stereo.captures import Capture, open_capture
from casfne.stereo.refine_lights import LEAST_LIGHTS, curl_form, factorise, refine_lights
from casfne.stereo.solution import solve_capture
from casfne.stereo.solvers.base import Rays
from casfne.stereo.solvers.least_squares import masked, trimmed
from casfne.stereo.surface import Settings

YALE = ROOT.parent / "shared" / "data" / "yale_b"
SIZE = 80


def lights_of(count, seed):
    rng = np.random.default_rng(seed)
    return direction_from_zenith(rng.uniform(15, 55, count), np.arange(count) * 137.5 + rng.uniform(-10, 10, count))


def moved(lights, seed, least_deg=5, most_deg=10):
    """Every light, turned by an angle between the two about an axis of its own."""
    rng = np.random.default_rng(seed)
    aside = normalise(np.cross(lights, rng.normal(size=lights.shape)))
    angle = np.radians(rng.uniform(least_deg, most_deg, (len(lights), 1)))
    return normalise(np.cos(angle) * lights + np.sin(angle) * aside)


def shots(lights, strengths, noise=0.0, seed=0):
    """Signal and usable [L, H, W] of the analytic face, with its normals and mask."""
    normals, mask, _ = analytic_face(SIZE)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    albedo = 0.5 + 0.15 * np.sin(9 * x) * np.cos(7 * y)
    images = np.maximum(normals @ lights.T, 0) * albedo[..., None] * strengths * mask[..., None]
    images = images / images.max() * 0.9 + rng.normal(0, noise, images.shape)
    signal = torch.tensor(np.moveaxis(images.clip(0, 1), -1, 0), dtype=torch.float32)
    return signal, (signal > 0.03) & (signal > 0.12 * signal.amax(0)), normals, mask


def normals_error(signal, usable, mask, normals, lights):
    inside = torch.tensor(mask)
    rays = Rays(signal[:, inside], torch.tensor(lights, dtype=torch.float32), usable[:, inside])
    return angle_deg(normalise(masked(rays).scaled.T.numpy()), normals[mask]).mean()


@pytest.mark.parametrize("count, seed", [(12, 0), (12, 1), (8, 2), (20, 3)])
def test_lights_that_are_wrong_come_back(count, seed):
    true = lights_of(count, seed)
    strengths = np.exp(np.random.default_rng(seed).normal(0, 0.1, count))
    given = moved(true, seed)
    signal, usable, normals, mask = shots(true, strengths, noise=0.005, seed=seed)
    found = refine_lights(signal, usable, mask, given)
    before, after = angle_deg(given, true).mean(), angle_deg(found.lights, true).mean()
    assert after < 0.4 * before
    assert np.abs(np.log(found.strengths * strengths.mean() / strengths)).mean() < 0.04
    assert np.allclose(np.linalg.norm(found.lights, axis=1), 1, atol=1e-5) and found.strengths.mean() == pytest.approx(
        1
    )
    assert np.allclose(found.moved_deg, angle_deg(found.lights, given), atol=1e-3)
    assert found.misfit[1] < 0.5 * found.misfit[0]
    refined = found.lights * found.strengths[:, None]
    assert normals_error(signal, usable, mask, normals, refined) < 0.8 * normals_error(
        signal, usable, mask, normals, given
    )


def test_a_rig_that_is_turned_as_a_whole_is_turned_back_by_the_balance_of_the_face():
    true = lights_of(12, 5)
    turn = np.radians(8)
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    signal, usable, _, mask = shots(true, np.ones(12))
    found = refine_lights(signal, usable, mask, (true @ about_y.T).astype(np.float32))
    aside = (found.lights - true)[:, 0].mean()
    assert abs(aside) < 0.7 * abs((true @ about_y.T - true)[:, 0].mean())


def test_images_alone_give_lights_but_for_a_matrix():
    true = lights_of(10, 7)
    signal, usable, _, mask = shots(true, np.ones(10))
    inside = torch.tensor(mask) & (usable.sum(0) >= 4)
    factor, _ = factorise(Rays(signal[:, inside], torch.tensor(moved(true, 7)), usable[:, inside]))
    fitted = factor.numpy() @ np.linalg.lstsq(factor.numpy(), true, rcond=None)[0]
    assert angle_deg(normalise(fitted), true).max() < 0.3


def test_the_curl_knows_every_surface_but_not_its_relief():
    normals, mask, _ = analytic_face(SIZE)
    scaled = torch.tensor(normals[mask].T.astype(np.float64))
    form = curl_form(scaled, torch.tensor(mask))

    def curl(matrix):
        x, y, z = np.linalg.inv(matrix)
        six = np.concatenate([np.cross(z, x), np.cross(z, y)])
        return six @ form.numpy() @ six / (six @ six)

    relief = np.array([[0.7, 0, 0], [0, 0.7, 0], [0.3, -0.2, 1]])  # flattened and sheared: a surface again
    twist = np.array([[1, 0.3, 0], [-0.3, 1, 0], [0, 0, 1]])
    assert max(curl(np.eye(3)), curl(np.linalg.inv(relief.T))) < 0.05 * curl(twist)


def test_few_lights_are_refused_with_a_reason():
    lights = lights_of(LEAST_LIGHTS - 1, 0)
    signal, usable, _, mask = shots(lights, np.ones(len(lights)))
    with pytest.raises(InputError, match=r"5 lights cannot be refined from the images, 6 can: .*take them as given"):
        refine_lights(signal, usable, mask, lights)


def test_darkness_and_wrong_shapes_are_refused():
    lights = lights_of(8, 0)
    signal, usable, _, mask = shots(lights, np.ones(8))
    with pytest.raises(InputError, match="0 pixels are lit by four"):
        refine_lights(signal, torch.zeros_like(usable), mask, lights)
    with pytest.raises(ValueError, match="expected signal and usable"):
        refine_lights(signal, usable, mask[1:], lights)


@pytest.mark.skipif(not YALE.exists(), reason="no real captures: ../shared/data/yale_b does not exist")
def test_real_faces_stay_balanced_and_two_people_agree_on_their_lights():
    found = []
    for person in ("yaleB01", "yaleB02"):
        capture = open_capture(YALE / person)
        frontal = capture.lights[:, 2] > np.cos(np.radians(75))
        signal, lights = torch.tensor(capture.grey[frontal]), capture.lights[frontal]
        usable = (signal > 8 / 255) & (signal > 0.12 * signal.amax(0)) & (signal < 0.9)
        refined = refine_lights(signal, usable, np.ones(signal.shape[1:], bool), lights)
        scaled = refined.lights * refined.strengths[:, None]
        rays = Rays(signal.flatten(1), torch.tensor(scaled), usable.flatten(1))
        mean = normalise(trimmed(rays).scaled.T.numpy()).mean(0)
        print(f"{person}: x of the mean normal {mean[0]:.3f}, lights moved by {refined.moved_deg.mean():.1f} degrees")
        assert abs(mean[0]) < 0.05 and refined.misfit[1] < 0.7 * refined.misfit[0]
        found.append(refined)
    apart = angle_deg(found[0].lights, found[1].lights).mean()
    assert apart < 0.7 * min(one.moved_deg.mean() for one in found)  # what they correct is the lights', not theirs


def captured(lights, positions=None):
    """The analytic face under ``lights`` as a capture, with its normals."""
    signal, _, normals, mask = shots(lights, np.ones(len(lights)), noise=0.005)
    return Capture("face", to_uint8(signal.numpy())[..., None], lights, positions=positions), normals, mask


def test_a_capture_is_solved_under_its_refined_lights():
    true = lights_of(12, 5)
    capture, normals, mask = captured(true)
    wrong = replace(capture, lights=moved(true, 5).astype(np.float32))
    plain, refined = (solve_capture(wrong, Settings(refine_lights=asked)).surface for asked in (False, True))
    errors = [angle_deg(s.normals, normals)[s.mask & mask].mean() for s in (plain, refined)]
    assert errors[1] < 0.8 * errors[0]
    assert refined.reason["refine_lights"].startswith("moved by") and "estimated" in refined.reason["strengths"]


def test_what_cannot_be_refined_is_solved_as_given_and_says_so():
    capture, _, _ = captured(lights_of(4, 1))
    near = replace(capture, positions=(capture.lights * 2).astype(np.float32), points=POINTS * SIZE / 192)
    for taken, why in ((capture, "4 lights cannot be refined"), (near, "the lamps' places are given")):
        plain, asked = (solve_capture(taken, Settings(refine_lights=asked)).surface for asked in (False, True))
        assert np.array_equal(plain.normals, asked.normals) and why in asked.reason["refine_lights"]
