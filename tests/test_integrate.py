"""Depth from normals: surfaces whose depth is known, masks with holes and parts, noise."""

import cv2
import numpy as np
import pytest

from casfne.normals import angle_deg, normalise, sphere
from casfne.stereo.integrate import integrability_error, normals_of, poisson


def facing(height, width, normal=(0, 0, 1)):
    return np.broadcast_to(normalise(normal), (height, width, 3)).copy()


def cap(size, share=0.9):
    """Normals, mask and depth in pixels (mean 0) of the part of a ball within ``share`` of its radius."""
    n, _ = sphere(size)
    mask = np.hypot(n[..., 0], n[..., 1]) < share
    depth = n[..., 2] * size / 2
    return n, mask, depth - depth[mask].mean()


def noisy(normals, deviation, seed=0):
    return normalise(normals + np.random.default_rng(seed).normal(0, deviation, normals.shape))


@pytest.mark.parametrize("size", [31, 64, 97])
def test_a_sphere_is_recovered_to_a_thousandth_of_a_pixel(size):
    n, mask, truth = cap(size)
    depth = poisson(n, mask)
    assert depth.dtype == np.float32 and (np.isnan(depth) == ~mask).all()
    assert np.abs(depth - truth)[mask].max() < 1e-3
    assert integrability_error(n, mask, depth).curl_rms < 1e-5


def test_a_tilted_plane_rises_where_its_normal_says():
    height, width, tilt = 20, 33, np.array([0.3, -0.2, 0.9])
    n, mask = facing(height, width, tilt), np.ones((height, width), bool)
    y, x = -np.arange(height)[:, None], np.arange(width)[None]
    truth = -(tilt[0] * x + tilt[1] * y) / tilt[2]
    assert np.abs(poisson(n, mask) - (truth - truth.mean())).max() < 1e-4
    assert integrability_error(n, mask, poisson(n, mask)).angle_deg < 0.01


def test_the_masked_solution_is_that_of_a_dense_solver():
    rng = np.random.default_rng(1)
    mask = rng.random((12, 15)) > 0.25
    n = noisy(facing(12, 15), 0.2)
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    rows, steps = [], []
    for axis in (0, 1):
        for i in range(12 - (axis == 0)):
            for j in range(15 - (axis == 1)):
                other = (i + 1, j) if axis == 0 else (i, j + 1)
                if mask[i, j] and mask[other]:
                    both = n[i, j].astype(float) + n[other]
                    row = np.zeros(mask.sum())
                    row[number[i, j]], row[number[other]] = -1, 1
                    rows.append(row)
                    steps.append(both[1] / both[2] if axis == 0 else -both[0] / both[2])
    dense = np.linalg.lstsq(np.array(rows), np.array(steps), rcond=None)[0]
    found = poisson(n, mask)
    _, part = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    for k in range(1, part.max() + 1):
        own = part == k
        expected = dense[number[own]]
        assert np.abs(found[own] - (expected - expected.mean())).max() < 1e-4


def test_holes_and_separate_parts_do_not_disturb():
    n, mask, truth = cap(80)
    mask[30:40, 20:50] = False  # a hole
    mask[:, 60] = False  # two parts
    mask[2, 2] = True  # and a pixel alone
    n[2, 2] = (0, 0, 1)
    depth = poisson(n, mask)
    assert depth[2, 2] == 0
    mask[2, 2] = False
    for columns in (slice(0, 60), slice(61, 80)):
        seen = mask[:, columns]
        own, expected = depth[:, columns][seen], truth[:, columns][seen]
        assert np.abs(own - (expected - expected.mean())).max() < 1e-3 and abs(own.mean()) < 1e-4


def test_normals_that_are_missing_are_left_out():
    n, mask, truth = cap(64)
    n[20, 20], n[30, 30] = np.nan, 0
    depth = poisson(n, mask)
    assert np.isnan(depth[[20, 30], [20, 30]]).all() and np.isfinite(depth).sum() == mask.sum() - 2
    known = np.isfinite(depth)
    assert np.abs(depth - truth)[known].max() < 0.02


def test_noise_is_averaged_out():
    n, mask, truth = cap(128, 0.8)
    disturbed = noisy(n, 0.1)
    depth = poisson(disturbed, mask)
    assert np.abs(depth - truth)[mask].mean() < 0.5
    surface, known = normals_of(depth)
    better, given = (angle_deg(x, n)[known].mean() for x in (surface, disturbed))
    assert better < 0.75 * given
    clean, error = integrability_error(n, mask, truth), integrability_error(disturbed, mask, depth)
    assert error.curl_rms > 100 * clean.curl_rms and error.angle_deg > 10 * clean.angle_deg


def test_a_field_that_is_no_surface_is_told_by_its_curl():
    y, x = np.mgrid[-20:21, -20:21] / 40.0
    whirl = normalise(np.stack([y, x, np.ones_like(x)], -1))  # slopes that run round the middle
    mask = np.ones(x.shape, bool)
    error = integrability_error(whirl, mask, poisson(whirl, mask))
    assert error.curl_rms == pytest.approx(2 / 40, rel=0.2) and error.angle_deg > 5


def test_normals_that_face_away_do_not_break_it():
    n = noisy(facing(30, 30), 1.5)
    depth = poisson(n, np.ones((30, 30), bool))
    assert np.isfinite(depth).all() and np.abs(depth).max() < 300


def test_nothing_gives_nothing_and_shapes_are_checked():
    n = facing(8, 9)
    assert np.isnan(poisson(n, np.zeros((8, 9), bool))).all()
    with pytest.raises(ValueError, match="expected normals"):
        poisson(n, np.ones((9, 8), bool))
    assert np.isnan(integrability_error(n, np.zeros((8, 9), bool), np.full((8, 9), np.nan, np.float32)).curl_rms)


def test_the_room_about_a_face_is_left_aside():
    n, mask, _ = cap(90)
    mask[40:50, 50:60] = False
    wide_n, wide_mask = (np.pad(v, ((5, 15), (85, 30), (0, 0))[: v.ndim]) for v in (noisy(n, 0.05), mask))
    depth = poisson(wide_n, wide_mask)
    assert depth.shape == (110, 205)
    assert np.array_equal(depth[5:95, 85:175], poisson(noisy(n, 0.05), mask), equal_nan=True)
