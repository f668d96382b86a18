"""Depth from normals inside a mask, with its natural boundary.

It starts from the steps between neighbouring pixels. The normals at the two ends of a chord of a sphere add up to
a vector that is at right angles to the chord, so between pixels i and j side by side the depth changes by
-(n_i + n_j).x / (n_i + n_j).z: exact for spheres and planes of any slope, not only in the limit of small pixels.
Orthographic: a camera at distance d sees a face of radius r under rays that lean by up to r / d, here left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne.normals import angle_deg, normalise

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

STEEPEST = 10.0  # pixels of depth a pixel: steeper normals (84 degrees) say that the surface is torn there
TOLERANCE = 1e-6  # of `poisson`: residual over right-hand side, root mean squares
MOST_ROUNDS = 2000  # of `poisson`; faces take 10 to 30, combs with teeth of 8 by 470 pixels 800


@dataclass(frozen=True)
class Integrability:
    """How well normals fit any surface at all. ``curl_rms``: root mean square of the depth gained on the way round four
    neighbouring pixels, in pixels; ``angle_deg``: mean angle between the normals and those of the integrated surface,
    over pixels whose four neighbours are all in the mask. NaN where no pixel tells.
    """

    curl_rms: float
    angle_deg: float


def poisson(normals: Floats, mask: Mask) -> Floats:
    """Depth float32 [H, W] in pixels, towards the camera, of unit ``normals`` [H, W, 3] (frame opengl) inside ``mask``
    [H, W]; NaN outside. ValueError for shapes that do not fit.

    The surface whose steps between neighbours inside the mask differ least, in squares, from those of the normals:
    Poisson's equation with the natural boundary. Steps with normals that are not finite or zero are left out. Each
    connected part has mean 0: how parts stand to each other is not in normals. Conjugate gradients to ``TOLERANCE``,
    preconditioned by the equation on the whole rectangle: (rectangle's solution restricted to the mask)^-1 is the
    mask's own matrix plus that of the best extension to the outside, so the number of rounds depends on the mask's
    shape and not on the size of the picture. What lies around the mask is left aside.
    """
    _check(normals, mask)
    depth, own = np.full(mask.shape, np.nan, np.float32), _bounds(mask)
    depth[own] = _poisson(normals[own], mask[own])
    return depth


def _check(normals: Floats, mask: Mask) -> None:
    if normals.ndim != 3 or normals.shape[2] != 3 or mask.shape != normals.shape[:2]:
        raise ValueError(f"expected normals [H, W, 3] and mask [H, W], got {normals.shape} and {mask.shape}")


def _bounds(mask: Mask) -> tuple[slice, slice]:
    """Rows and columns of the rectangle about ``mask``; nothing where that is empty."""
    spans = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    rows, columns = (slice(found[0], found[-1] + 1) if found.size else slice(0) for found in spans)
    return rows, columns


def _poisson(normals: Floats, mask: Mask) -> Floats:
    """Of the rectangle alone."""
    if not mask.size:
        return np.empty(mask.shape, np.float32)
    quick = [2 * cv2.getOptimalDFTSize((n + 1) // 2) - n for n in mask.shape]
    steps = _Steps.of(normals, mask, quick)
    right = steps.divergence()
    depth, search, previous = np.zeros_like(right), np.zeros_like(right), np.inf
    residual, goal = right, TOLERANCE * float(np.linalg.norm(right))
    for _ in range(MOST_ROUNDS):
        if float(np.linalg.norm(residual)) <= goal:
            break
        better = _solve_rectangle(residual) * steps.inside
        energy = float((residual * better).sum())
        search = better + energy / previous * search
        applied = steps.laplacian(search)
        step = energy / float((search * applied).sum())
        depth, residual, previous = depth + step * search, residual - step * applied, energy
    return steps.levelled(depth, mask.shape)


def integrability_error(normals: Floats, mask: Mask, depth: Floats) -> Integrability:
    """How far ``normals`` [H, W, 3] are from a surface's, ``depth`` [H, W] being the one integrated from them."""
    steps = _Steps.of(normals, mask)
    round_four = steps.right[:-1] + steps.down[:, 1:] - steps.right[1:] - steps.down[:, :-1]
    complete = steps.joined_right[:-1] & steps.joined_right[1:] & steps.joined_down[:, 1:] & steps.joined_down[:, :-1]
    surface, tells = normals_of(depth)
    tells &= mask & steps.inside
    angles = angle_deg(normals, surface)[tells]
    return Integrability(
        float(np.sqrt((round_four[complete] ** 2).mean())) if complete.any() else float("nan"),
        float(angles.mean()) if angles.size else float("nan"),
    )


def normals_of(depth: Floats) -> tuple[Floats, Mask]:
    """Unit normals [H, W, 3] of ``depth`` [H, W] (pixels, NaN where there is none) by central differences, and where
    all four neighbours are there to take them; (0, 0, 0) elsewhere."""
    padded = np.pad(np.asarray(depth, np.float64), 1, constant_values=np.nan)
    across = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    up = (padded[:-2, 1:-1] - padded[2:, 1:-1]) / 2
    vectors = np.stack([-across, -up, np.ones_like(up)], -1)
    known = np.isfinite(vectors).all(-1) & np.isfinite(depth)
    return normalise(np.where(known[..., None], vectors, 0)), known


def part_means(values: NDArray[np.floating], mask: Mask) -> Doubles:
    """The mean of ``values`` [H, W] over the connected part of ``mask`` (neighbours share a side) in which each pixel
    lies, [H, W]; 0 outside."""
    count, part = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    size = np.bincount(part.ravel(), minlength=count)
    total = np.bincount(part.ravel(), np.where(mask, values, 0).ravel(), count)
    mean: Doubles = (total / np.maximum(size, 1))[part]
    return mean


@dataclass(frozen=True)
class _Steps:
    """Changes of depth from each pixel to its neighbour on the right [H, W - 1] and below [H - 1, W], 0 where the two
    are not joined; ``inside`` [H, W]: the pixels with a normal."""

    right: Doubles
    down: Doubles
    joined_right: Mask
    joined_down: Mask
    inside: Mask

    @staticmethod
    def of(normals: Floats, mask: Mask, pad: Sequence[int] = (0, 0)) -> "_Steps":
        """``pad``: rows and columns to add below and on the right, outside the mask."""
        _check(normals, mask)
        inside = mask.astype(bool) & np.isfinite(normals).all(-1) & (normals != 0).any(-1)
        n = np.where(inside[..., None], normals, 0).astype(np.float64)
        pads = [(0, added) for added in pad]
        n, inside = np.pad(n, (*pads, (0, 0))), np.pad(inside, pads)
        joined_right, joined_down = inside[:, :-1] & inside[:, 1:], inside[:-1] & inside[1:]
        right, down = n[:, :-1] + n[:, 1:], n[:-1] + n[1:]
        return _Steps(
            _slope(-right[..., 0], right[..., 2]) * joined_right,
            _slope(down[..., 1], down[..., 2]) * joined_down,
            joined_right,
            joined_down,
            inside,
        )

    def divergence(self) -> Doubles:
        """Of the steps, negative: the right-hand side of `laplacian`(depth) = ..., [H, W]."""
        return _gathered(self.right, self.down)

    def laplacian(self, depth: Doubles) -> Doubles:
        """Sum over a pixel's joined neighbours of its depth less theirs, [H, W]."""
        return _gathered(np.diff(depth, axis=1) * self.joined_right, np.diff(depth, axis=0) * self.joined_down)

    def levelled(self, depth: Doubles, shape: tuple[int, ...]) -> Floats:
        """What of ``depth`` lies in a picture of that shape, with mean 0 in each connected part, NaN outside."""
        own = tuple(slice(n) for n in shape)
        inside, depth = self.inside[own], depth[own]
        return np.where(inside, depth - part_means(depth, inside), np.nan).astype(np.float32)


def _slope(over: Doubles, under: Doubles) -> Doubles:
    """over / under, at most ``STEEPEST`` in size, also for what faces away."""
    return np.clip(over / np.maximum(under, 1e-9), -STEEPEST, STEEPEST)


def _gathered(right: Doubles, down: Doubles) -> Doubles:
    """The transpose of taking differences: what comes into each pixel less what leaves it, [H, W]."""
    total = np.zeros((len(right), down.shape[1]))
    total[:, 1:] += right
    total[:, :-1] -= right
    total[1:] += down
    total[:-1] -= down
    return total


def _solve_rectangle(right: Doubles) -> Doubles:
    """Poisson's equation with the natural boundary on a whole rectangle [H, W] of even sides (cv2 knows no others),
    mean 0, by cosine transforms."""
    transformed = cv2.dct(right) / _eigenvalues(*right.shape)
    transformed[0, 0] = 0  # the mean
    solved: Doubles = cv2.idct(transformed).astype(np.float64, copy=False)
    return solved


def _eigenvalues(height: int, width: int) -> Doubles:
    """Of that equation's matrix; 1 in place of the constant's 0."""
    rows, columns = (2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in (height, width))
    values: Doubles = rows[:, None] + columns
    values[0, 0] = 1
    return values
