"""Solvers of photometric stereo: render, then recover; what cannot be solved stays 0."""

import numpy as np
import pytest
import torch

from casfne.errors import InputError
from casfne.normals import direction, direction_from_zenith, sphere
from casfne.stereo.solvers import base
from casfne.stereo.solvers.base import Rays, solve_symmetric, spread
from casfne.stereo.solvers.least_squares import masked, trim
from casfne.stereo.solvers.registry import SOLVERS, run

MANY = torch.from_numpy(np.stack([direction(a, e) for a in (-50, -25, 0, 25, 50) for e in (-30, 5, 35)]))
FOUR = torch.from_numpy(direction_from_zenith([35, 40, 30, 45], [45, 135, 225, 315]))
COPLANAR = torch.from_numpy(np.stack([direction(a, 0) for a in np.linspace(-60, 60, 15)]))
CLOSE_DEG = 0.1
TAKES_LIGHTS_ALIKE = ("least-squares",)


def facing(size=40, least_z=0.6):
    """Normals [3, N] of the front of a ball: every light of ``FOUR`` and ``MANY`` reaches most of it."""
    normals, _ = sphere(size)
    return torch.from_numpy(normals[normals[..., 2] > least_z].T.copy())


def seen(normals, lights, albedo=0.7):
    """The rays of a matte surface; what faces away from a light is dark and not usable."""
    signal = albedo * (lights @ normals).clamp_min(0)
    return Rays(signal, lights, signal > 0.02)


def error_deg(scaled, normals):
    unit = torch.nn.functional.normalize(scaled, dim=0)
    return torch.rad2deg(2 * torch.asin(((unit - normals).norm(dim=0) / 2).clamp_max(1)))


def spoilt(rays, light, where, factor):
    signal = rays.signal.clone()
    signal[light, where] *= factor
    return Rays(signal, rays.lights, rays.usable, rays.at_edge)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_matte_surface_is_recovered(name):
    normals = facing(least_z=0.9)
    solved = run(name, seen(normals, MANY))
    assert solved.scaled.dtype == solved.weights.dtype == torch.float32
    assert solved.weights.shape == (len(MANY), normals.shape[1])
    assert error_deg(solved.scaled, normals).max() < (1.0 if name == "low-rank" else CLOSE_DEG)
    assert (solved.scaled.norm(dim=0) - 0.7).abs().max() < 0.02


@pytest.mark.parametrize("name", [name for name in SOLVERS if SOLVERS[name].least <= 4])
def test_four_lights_are_enough_for(name):
    normals = facing(least_z=0.9)
    assert error_deg(run(name, seen(normals, FOUR)).scaled, normals).max() < CLOSE_DEG


@pytest.mark.parametrize("name", SOLVERS)
def test_lights_of_each_pixel_are_lights_of_all(name):
    rays = seen(facing(), MANY)
    own = Rays(rays.signal, MANY[:, :, None].expand(-1, -1, rays.signal.shape[1]).contiguous(), rays.usable)
    assert torch.allclose(run(name, own).scaled, run(name, rays).scaled, atol=2e-4)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name not in ("low-rank", "ambient")])
def test_near_lamps_are_taken_as_each_pixel_sees_them(name):
    normals = facing()
    away = 0.5 * FOUR[:, :, None] - 0.08 * normals  # a ball of 8 cm, lamps at half a metre from its middle
    lights = away * 0.25 / away.norm(dim=1, keepdim=True) ** 3
    signal = 0.5 * (lights * normals).sum(1).clamp_min(0)
    rays = Rays(signal, lights, signal > 0.02)
    lit = rays.usable.all(0)
    assert lit.float().mean() > 0.5
    assert error_deg(run(name, rays).scaled, normals)[lit].max() < CLOSE_DEG
    far = Rays(signal, FOUR, rays.usable)
    assert error_deg(run(name, far).scaled, normals)[lit].mean() > 3


def test_least_squares_is_that_of_numpy():
    rays = Rays(torch.rand(15, 50), MANY, torch.ones(15, 50, dtype=torch.bool))
    expected = np.linalg.lstsq(MANY.numpy(), rays.signal.numpy(), rcond=None)[0]
    assert np.allclose(run("least-squares", rays).scaled.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("flatness", [1.0, 1e-2, 1e-4, 0.0])
def test_systems_of_three_agree_with_numpy(flatness):
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.normal(size=(200, 3, 3)))[0]
    values = random.uniform(0.5, 2, (200, 3)) * [1, 1, flatness]
    full = turn * values[:, None] @ turn.transpose(0, 2, 1)
    kept = torch.from_numpy(np.stack([full[:, i, j] for i, j in base.PAIRS])).float()
    assert np.allclose(spread(kept).numpy(), values.min(1) / values.max(1), rtol=1e-3, atol=1e-6)
    if flatness > base.LEAST_SPREAD:
        right = random.normal(size=(200, 3))
        expected = np.linalg.solve(full, right[..., None])[..., 0]
        found = solve_symmetric(kept, torch.from_numpy(right.T).float()).numpy().T
        assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_lights_that_meet_in_strength_have_a_known_spread():
    one = torch.ones(1)
    for diagonal, expected in (
        ((1, 1, 1), 1),
        ((1, 1, 0.5), 0.5),
        ((1, 0.5, 0.5), 0.5),
        ((1, 0, 0), 0),
        ((0, 0, 0), 0),
    ):
        matrix = torch.stack([float(v) * one for v in (*diagonal, 0, 0, 0)])
        assert abs(float(spread(matrix)) - expected) < 1e-6


@pytest.mark.parametrize("name", ["selective", "l1", "cauchy"])
@pytest.mark.parametrize("factor", [0.4, 1.6])
def test_one_light_of_many_that_lies_is_not_believed(name, factor):
    normals = facing(least_z=0.8)
    where = torch.arange(normals.shape[1]) % 3 == 0
    rays = spoilt(seen(normals, MANY), 7, where, factor)
    solved = run(name, rays)
    wrong = error_deg(run("least-squares", rays).scaled, normals)[where].mean()
    assert error_deg(solved.scaled, normals)[where].mean() < 0.35 * wrong
    assert solved.weights[7, where].mean() < 0.5 * solved.weights[7, ~where].mean()


def test_what_is_sparse_is_told_from_what_is_matte():
    normals = facing(least_z=0.8)
    rays = seen(normals, MANY)
    wrong = torch.rand(rays.signal.shape, generator=torch.Generator().manual_seed(0)) < 0.08
    spoilt_rays = Rays(torch.where(wrong, 0.4 * rays.signal, rays.signal), MANY, rays.usable)
    solved = run("low-rank", spoilt_rays)
    assert error_deg(solved.scaled, normals).mean() < 0.5 * error_deg(run("masked", spoilt_rays).scaled, normals).mean()
    assert solved.weights[wrong].mean() < 0.1 and solved.weights[~wrong].mean() > 0.9


@pytest.mark.parametrize("light", range(4))
def test_half_shadows_beside_shadows_are_found_from_four_lights(light):
    normals = facing(least_z=0.8)
    plain = seen(normals, FOUR)
    where = torch.arange(normals.shape[1]) % 2 == 0
    at_edge = torch.zeros_like(plain.usable)
    at_edge[light] = True
    rays = spoilt(Rays(plain.signal, FOUR, plain.usable, at_edge), light, where, 0.5)
    solved = run("selective", rays)
    assert error_deg(solved.scaled, normals)[where].mean() < 2
    assert error_deg(run("masked", rays).scaled, normals)[where].mean() > 10
    assert solved.weights[light, where].mean() < 0.2
    others = torch.arange(4) != light
    assert solved.weights[others][:, where].mean() > 0.9
    assert solved.weights[:, ~where].mean() > 0.9  # being beside a shadow alone condemns nobody


@pytest.mark.parametrize("light", range(4))
def test_a_highlight_of_four_lights_is_found_where_highlights_lie(light):
    half = torch.nn.functional.normalize(FOUR[light] + torch.tensor([0.0, 0.0, 1.0]), dim=0)
    normals = facing()
    normals = normals[:, (half @ normals) > np.cos(np.radians(6))]
    rays = spoilt(seen(normals, FOUR), light, slice(None), 2)
    solved = run("selective", rays)
    assert error_deg(solved.scaled, normals).mean() < 0.3 * error_deg(run("masked", rays).scaled, normals).mean()
    assert int(solved.weights.mean(1).argmin()) == light


def test_three_lights_beside_a_shadow_are_believed_less():
    plain = seen(facing(least_z=0.8), FOUR)
    usable = plain.usable.clone()
    usable[0] = False
    at_edge = torch.zeros_like(usable)
    at_edge[1] = True
    sure = run("selective", Rays(plain.signal, FOUR, usable)).weights.sum(0)
    unsure = run("selective", Rays(plain.signal, FOUR, usable, at_edge)).weights.sum(0)
    assert torch.allclose(sure, torch.tensor(3.0)) and unsure.max() < 2.8


@pytest.mark.parametrize("count", [5, 6, 7])
def test_a_few_more_lights_show_which_are_spoilt(count):
    ring = torch.from_numpy(direction_from_zenith(np.full(count, 40.0), np.arange(count) * 360 / count))
    normals = facing(least_z=0.85)
    rays = spoilt(seen(normals, ring), 0, slice(None), 0.3)
    rays = rays if count == 5 else spoilt(rays, 2, slice(None), 0.4)
    assert error_deg(run("selective", rays).scaled, normals).mean() < 2
    assert error_deg(run("masked", rays).scaled, normals).mean() > 5


def test_light_from_all_round_is_told_from_a_flat_surface():
    normals = facing(least_z=0.9)
    rays = seen(normals, MANY)
    lit = Rays(rays.signal + 0.1, MANY, rays.usable)
    solved = run("ambient", lit)
    assert error_deg(solved.scaled, normals).max() < 0.5 and (solved.ambient - 0.1).abs().max() < 0.01
    assert error_deg(run("masked", lit).scaled, normals).mean() > 1
    cone = torch.from_numpy(direction_from_zenith(np.full(8, 35.0), np.arange(8) * 45.0))
    assert not run("ambient", seen(normals, cone)).scaled.any()


def test_darker_than_no_light_is_no_ambient_light():
    normals = facing(least_z=0.9)
    rays = seen(normals, MANY)
    darker = Rays((rays.signal - 0.05).clamp_min(0), MANY, rays.usable)
    solved = run("ambient", darker)
    assert not solved.ambient.any()
    assert torch.allclose(solved.scaled, masked(darker).scaled)


@pytest.mark.parametrize("name", SOLVERS)
def test_too_few_lights_are_refused_with_what_to_use_instead(name):
    least = SOLVERS[name].least
    rays = Rays(torch.ones(least - 1, 5), MANY[: least - 1], torch.ones(least - 1, 5, dtype=torch.bool))
    with pytest.raises(InputError, match=f"'{name}' needs at least {least} lights, got {least - 1}: ") as refusal:
        run(name, rays)
    assert ("three lights are the least" if least == 3 else "masked") in str(refusal.value)


def test_unknown_solvers_are_named():
    with pytest.raises(InputError, match=r"unknown solver 'best': expected one of least-squares"):
        run("best", seen(facing(), FOUR))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected signal \[L, N\]"):
        Rays(torch.ones(4, 5), MANY, torch.ones(4, 5, dtype=torch.bool))


@pytest.mark.parametrize("name", SOLVERS)
def test_what_is_not_determined_is_zero(name):
    normals = facing(least_z=0.9)
    plain = seen(normals, MANY)
    nobody, everybody = torch.zeros_like(plain.usable), torch.ones_like(plain.usable)
    two = nobody.clone()
    two[[0, 4]] = True
    repeated = torch.cat([MANY[:1].expand(13, 3), MANY[1:3] * 0 + MANY[5]])
    nan = plain.signal.clone()
    nan[:, :7] = torch.nan
    cases = {
        "coplanar": Rays((COPLANAR @ normals).clamp_min(0), COPLANAR, everybody),
        "repeated": Rays((repeated @ normals).clamp_min(0), repeated, everybody),
        "dark": Rays(torch.zeros_like(plain.signal), MANY, everybody),
    }
    if name not in TAKES_LIGHTS_ALIKE:
        cases |= {"two": Rays(plain.signal, MANY, two), "none": Rays(plain.signal, MANY, nobody)}
    for case, rays in cases.items():
        assert not run(name, rays).scaled.any(), case
    found = run(name, Rays(nan, MANY, everybody)).scaled
    assert found.isfinite().all() and not found[:, :7].any()


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "low-rank"])
def test_order_of_lights_and_exposure_do_not_matter(name):
    rays = spoilt(seen(facing(least_z=0.8), MANY), 3, slice(None, None, 3), 0.5)
    order = torch.randperm(len(MANY), generator=torch.Generator().manual_seed(1))
    plain = run(name, rays)
    turned = run(name, Rays(rays.signal[order], MANY[order], rays.usable[order]))
    brighter = run(name, Rays(2 * rays.signal, MANY, rays.usable))
    assert torch.allclose(turned.scaled, plain.scaled, atol=1e-3)
    assert torch.allclose(brighter.scaled, 2 * plain.scaled, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "low-rank"])
def test_pixels_are_solved_alike_in_any_company(name, monkeypatch):
    rays = spoilt(seen(facing(16), MANY), 3, slice(None, None, 3), 0.5)
    whole = run(name, rays)
    monkeypatch.setattr(base, "CHUNK", 15 * 7)
    assert torch.allclose(run(name, rays).scaled, whole.scaled, atol=1e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_no_pixels_give_no_normals(name):
    solved = run(name, seen(facing(), MANY).part(slice(0, 0)))
    assert solved.scaled.shape == (3, 0) and solved.weights.shape == (len(MANY), 0)


def test_trimming_leaves_out_the_worst_quarter_and_never_all_but_three():
    rays = spoilt(seen(facing(least_z=0.9), MANY), 7, slice(None), 0.3)
    kept = trim(rays, masked(rays))
    assert not kept[7].any()
    assert (kept.sum(0) == len(MANY) - 3).all()
    five = Rays(rays.signal[5:10], MANY[5:10], rays.usable[5:10])
    assert (trim(five, masked(five)).sum(0) == 4).all()
    same = Rays(torch.zeros(15, 3), MANY, torch.ones(15, 3, dtype=torch.bool))
    assert trim(same, masked(same)).all()
