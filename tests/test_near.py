"""Near lamps: their light, the face that nobody has seen, and both found in turn."""

import numpy as np
import pytest
import torch
from analytic_face import analytic_face

from casfne.images import to_uint8
from casfne.normals import angle_deg, direction_from_zenith, normalise
from casfne.stereo.captures import Capture
from casfne.stereo.near import EYES_APART_M, View, face_depth, locate, near_lights, solve_near
from casfne.stereo.solvers.base import Rays
from casfne.stereo.solvers.least_squares import masked

SIZE = 96
LAMPS = 0.9 * direction_from_zenith([35, 45, 30, 48], [40, 130, 230, 318])  # metres
VIEW = View((SIZE - 1) / 2, 0.4 * SIZE, 0.23 / SIZE)  # the analytic face, 0.2 m high


def shot(positions, shift=(0, 0, 0)):
    """Rays of the analytic face under lamps, its normals [N, 3], mask and true depth [H, W] in metres; the picture is
    taken where the view expects the eyes, the lamps see the face moved by ``shift``."""
    normals, mask, depth = analytic_face(SIZE)
    depth = depth * VIEW.pixel_m
    depth += (face_depth(SIZE, SIZE, VIEW) - depth)[mask].mean()
    place = VIEW.place(depth.astype(np.float32))[:, mask].T.astype(np.float64) + shift
    shading = []
    for lamp in positions:  # said once more, in words of its own
        away = lamp - place
        distance = np.linalg.norm(away, axis=1)
        shading.append(0.6 * (normals[mask] * away).sum(1) / distance * (np.linalg.norm(lamp) / distance) ** 2)
    signal = torch.tensor(np.maximum(shading, 0), dtype=torch.float32)
    return Rays(signal, torch.tensor(normalise(positions)), signal > 0), normals[mask], mask, depth


def near_capture(lamps):
    """The same as a capture, with points of the face."""
    rays, _, mask, _ = shot(lamps)
    images = np.zeros((len(lamps), *mask.shape), np.float32)
    images[:, mask] = rays.signal.numpy()
    points = np.repeat([[VIEW.x, VIEW.y]], 11, 0)
    half = 0.5 * EYES_APART_M / VIEW.pixel_m
    points[[0, 1], 0] -= half
    points[[3, 4], 0] += half
    points[2, 1], points[10, 1] = VIEW.y - 0.06 / VIEW.pixel_m, VIEW.y + 0.1 / VIEW.pixel_m
    return Capture("face", to_uint8(images)[..., None], normalise(lamps), points=points, positions=lamps)


def error(solved, normals):
    scaled = solved.scaled.T.numpy()
    known = np.linalg.norm(scaled, axis=1) > 0
    assert known.mean() > 0.8
    return angle_deg(normalise(scaled[known]), normals[known]).mean()


def test_light_falls_with_the_square_of_the_distance():
    lamps, place = torch.tensor([[0.0, 0, 2], [3.0, 0, 4]]), torch.tensor([[0.0, 0, 0], [0, 0, 1], [3, 0, 3]]).T
    light = near_lights(lamps, place)
    assert light.shape == (2, 3, 3)
    assert torch.allclose(light[:, :, 0], lamps / lamps.norm(dim=1, keepdim=True))  # 1 at the origin
    assert torch.allclose(light[0, :, 1], torch.tensor([0.0, 0, 4]))  # half as far, four times as strong
    assert torch.allclose(light[1, :, 2], torch.tensor([0.0, 0, 25]))


def test_far_lamps_are_directions():
    directions = torch.tensor(direction_from_zenith([20, 50], [10, 200]))
    light = near_lights(directions * 1000, torch.randn(3, 50) * 0.1)
    assert (light - directions[:, :, None]).abs().max() < 2e-3


def test_the_unseen_face_is_balanced_and_falls_off_to_its_sides():
    depth = face_depth(121, 101, View(50, 40, 0.002))
    assert np.allclose(depth, depth[:, ::-1], atol=1e-6) and depth.dtype == np.float32
    assert (np.diff(depth[40, 50:]) <= 0).all() and 0.01 < depth[40, 50] < 0.03
    assert depth[40, 50] - depth[40, 85] > 0.04  # 7 cm from the middle
    finer = face_depth(241, 201, View(100, 80, 0.001))
    assert np.abs(finer[::2, ::2] - depth).max() < 1e-6


def test_the_view_follows_from_the_eyes():
    points = np.zeros((11, 2))
    points[:2], points[3:5] = [[60, 70], [80, 72]], [[112, 70], [132, 72]]
    view = View.of(points)
    assert (view.x, view.y) == (96, 71) and view.pixel_m == pytest.approx(0.063 / 52)
    place = view.place(np.zeros((100, 120), np.float32))
    assert np.allclose(place[:, 71, 96], [0, 0, 0]) and place[0, 0, 110] > 0 > place[1, 99, 0]
    with pytest.raises(ValueError, match="two eyes"):
        View.of(np.zeros((11, 2)))


def test_near_lamps_are_solved_four_times_better_than_as_distant_ones():
    rays, normals, mask, truth = shot(LAMPS)
    near = solve_near(rays, mask, LAMPS, VIEW, masked)
    assert error(near.solved, normals) < 0.7 < 4 * 0.7 < error(masked(rays), normals)
    prior, found = (np.abs(depth - truth)[mask].mean() for depth in (face_depth(SIZE, SIZE, VIEW), near.depth_m))
    assert found < 0.002 < prior and (np.isnan(near.depth_m) == ~mask).all()
    assert near.moved_m[-1] < 0.1 * near.moved_m[0] and len(near.moved_m) <= 4
    assert np.abs(near.shift_m).max() < 0.003


def test_a_face_that_is_not_where_it_should_be_is_located():
    shift = np.array([0.02, -0.012, 0])
    rays, normals, mask, _ = shot(LAMPS, shift)
    near = solve_near(rays, mask, LAMPS, VIEW, masked)
    assert np.abs(near.shift_m - shift)[:2].max() < 0.006
    assert error(near.solved, normals) < 0.8


def test_three_lamps_cannot_locate_a_face_but_solve_it():
    rays, normals, mask, _ = shot(LAMPS[:3])
    near = solve_near(rays, mask, LAMPS[:3], VIEW, masked)
    assert near.shift_m == (0, 0, 0) and error(near.solved, normals) < 1
    place = torch.zeros(3, rays.signal.shape[1])
    assert (locate(rays, torch.tensor(LAMPS[:3]), place) == 0).all()


def test_lamps_that_are_far_change_nothing():
    lamps = 500 * direction_from_zenith([35, 45, 30, 48], [40, 130, 230, 318])
    rays, _, mask, _ = shot(lamps)
    near, far = solve_near(rays, mask, lamps, VIEW, masked).solved, masked(rays)
    assert (near.scaled - far.scaled).abs().max() < 2e-3


def test_pixels_that_nothing_lights_keep_the_prior():
    rays, _, mask, _ = shot(LAMPS)
    dark = Rays(torch.zeros_like(rays.signal), rays.lights, torch.zeros_like(rays.usable))
    near = solve_near(dark, mask, LAMPS, VIEW, masked)
    assert (near.solved.scaled == 0).all() and np.allclose(near.depth_m[mask], face_depth(SIZE, SIZE, VIEW)[mask])


def test_shapes_are_checked_and_an_empty_mask_is_no_error():
    rays, _, mask, _ = shot(LAMPS)
    with pytest.raises(ValueError, match="mask of"):
        solve_near(rays, ~mask, LAMPS, VIEW, masked)
    with pytest.raises(ValueError, match="expected positions"):
        solve_near(rays, mask, LAMPS[:3], VIEW, masked)
    empty = Rays(rays.signal[:, :0], rays.lights, rays.usable[:, :0])
    assert np.isnan(solve_near(empty, np.zeros_like(mask), LAMPS, VIEW, masked).depth_m).all()
