"""Lamps so near that each pixel has its own direction and strength: depth, place and normals found in turn.

Places are in metres from the point from which the lamps' positions are measured: x right, y up, z to the camera.
Pixels are mapped to x and y as if the camera were far (orthographic). For a camera at 2 m that leaves, over simulated
faces, 0.5 mm in x and y (6 mm at most), 2 mm in depth, and 0.1 degrees in the direction of a lamp at 1 m (3 degrees at
most, at the rim, where the depth is wrong by centimetres).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from casfne.normals import Floats, normalise
from casfne.stereo.integrate import Mask, part_means, poisson
from casfne.stereo.solvers.base import Rays, Solved, Solver

EYES_APART_M = 0.063  # between the centres of an adult's eyes
_HALF_WIDTH, _HALF_HEIGHT, _HALF_DEPTH = 0.082, 0.19, 0.12  # of the ellipsoid whose front is a face without a nose
_BELOW, _BEHIND = 0.0185, 0.0965  # of its centre, from the point between the eyes
_RIM = 0.05  # of the square under the root: what lies beyond the ellipsoid is as deep as its rim
FARTHEST = 0.05  # metres by which an integrated depth may leave the prior
ROUNDS, TOLERANCE_M = 4, 0.0005
CHUNK = 1 << 17  # pixels solved at once: 6 MB of lights for four lamps
UNSURE_M = (0.015, 0.015, 0.005)  # standard deviation of where the eyes are: heads turn by 10 degrees, and differ
_SAMPLE, _INDEPENDENT = 2000, 300  # pixels looked at to locate a face, and as how many they count: neighbours agree
_LOCATE_ROUNDS, _LOCATE_STEP_M = 4, 0.005


@dataclass(frozen=True)
class View:
    """Where in a picture the lamps' frame is: pixel ``x``, ``y`` (the centre of the top left one is 0, 0) of the middle
    of the face, between the eyes, from which positions are measured; ``pixel_m``: metres a pixel there."""

    x: float
    y: float
    pixel_m: float

    @staticmethod
    def of(points: NDArray[np.float64]) -> "View":
        """By Photoface's 11 points [11, 2]. A head turned by 15 degrees has its eyes 3 % nearer to each other, and
        people differ by 5 % (standard deviation): 3 mm of place at the rim of the face."""
        left, right = points[:2].mean(0), points[3:5].mean(0)
        apart = float(np.linalg.norm(right - left))
        if not apart > 0:
            raise ValueError(f"expected two eyes at different places, got {left.tolist()} and {right.tolist()}")
        x, y = (left + right) / 2
        return View(float(x), float(y), EYES_APART_M / apart)

    def place(self, depth_m: Floats) -> Floats:
        """Metres [3, H, W] of pixels whose depth [H, W] is measured from the eyes."""
        height, width = depth_m.shape
        across = np.broadcast_to((np.arange(width) - self.x) * self.pixel_m, depth_m.shape)
        up = np.broadcast_to((self.y - np.arange(height))[:, None] * self.pixel_m, depth_m.shape)
        return np.stack([across, up, depth_m]).astype(np.float32)


@dataclass(frozen=True)
class Near:
    """What `solve_near` found. ``solved``: of the N pixels of the mask, row by row; ``place`` float32 [3, N]: theirs,
    for `near_lights`; ``depth_m`` float32 [H, W]: metres towards the camera from the eyes, NaN outside the mask;
    ``shift_m``: x, y, z from where the view has the eyes to where they are; ``moved_m``: by how much places moved in
    each round, root mean square.
    """

    solved: Solved
    place: Tensor
    depth_m: Floats
    shift_m: tuple[float, ...]
    moved_m: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class NearLamps:
    """Lamps at ``positions`` [L, 3], and the ``place`` float32 [3, H, W] of every pixel, in metres; where a place is
    not known it is the frame's origin."""

    positions: Tensor
    place: Floats

    def lights(self, where: slice | Mask) -> Tensor:
        """`near_lights` of rows, or of the pixels of a mask, [L, 3, N]."""
        return near_lights(self.positions, torch.from_numpy(self.place[:, where].reshape(3, -1)))


def near_lights(positions: Tensor, place: Tensor) -> Tensor:
    """Lamps at ``positions`` [L, 3] as points at ``place`` [3, N] see them, [L, 3, N]: unit direction times strength,
    which falls with the square of the distance and is 1 at the frame's origin. Metres; float32."""
    away = positions[:, :, None] - place[None]
    distance = away.square().sum(1, keepdim=True).sqrt()
    return away * (positions.square().sum(1)[:, None, None] / distance.clamp_min(1e-3) ** 3)


def face_depth(height: int, width: int, view: View) -> Floats:
    """Depth [H, W] in metres from the eyes, of a face nobody has seen: the front of an ellipsoid of an adult's size,
    upright, without a nose. Over faces of two head models 7 mm from the truth in the mean."""
    x, y, _ = view.place(np.zeros((height, width), np.float32))
    square = 1 - (x / _HALF_WIDTH) ** 2 - ((y + _BELOW) / _HALF_HEIGHT) ** 2
    depth: Floats = _HALF_DEPTH * np.sqrt(np.maximum(square, _RIM)) - _BEHIND
    return depth


def solve_near(
    rays: Rays,
    mask: Mask,
    positions: Floats,
    view: View,
    solver: Solver,
    rounds: int = ROUNDS,
    tolerance_m: float = TOLERANCE_M,
) -> Near:
    """``rays`` of the N pixels of ``mask`` [H, W], row by row, solved under lamps at ``positions`` [L, 3] metres by any
    solver; the rays' own lights are not looked at.

    Starts from `face_depth`, then solves, integrates and locates (see `locate`) in turn until places move by less than
    ``tolerance_m`` (root mean square) or ``rounds`` times. Normals do not say how far a surface is: each connected part
    keeps the prior's mean depth. Register the shots first: motion is taken for place. ValueError for shapes that do not
    fit.
    """
    count, pixels = rays.signal.shape
    if positions.shape != (count, 3) or pixels != mask.sum():
        raise ValueError(
            f"expected positions [{count}, 3] and a mask of {pixels} pixels, got {positions.shape}, {mask.sum()}"
        )
    lamps = torch.as_tensor(positions, dtype=torch.float32, device=rays.signal.device)
    height, width = mask.shape
    prior = depth = face_depth(height, width, view)
    shift, moved = lamps.new_zeros(3), list[float]()
    place = _place(view, depth, mask, shift)
    solved = _solved(rays, lamps, place, solver)
    while pixels and len(moved) < rounds and not (moved and moved[-1] < tolerance_m):
        depth = _integrated(solved, mask, prior, view.pixel_m)
        shift = locate(rays, lamps, _place(view, depth, mask, torch.zeros_like(shift)))
        before, place = place, _place(view, depth, mask, shift)
        moved.append(float((place - before).square().sum(0).mean().sqrt()))
        solved = _solved(rays, lamps, place, solver)
    known = np.where(mask, depth, np.float32(np.nan))
    return Near(solved, place, known, tuple(shift.tolist()), tuple(moved))


def locate(rays: Rays, lamps: Tensor, place: Tensor) -> Tensor:
    """Where a face at ``place`` [3, N] is, as a shift [3] in metres: the one under which the images fit lamps at
    ``lamps`` [L, 3] best, by the residuals of pixels with four usable lights or more, and by ``UNSURE_M``.

    A head that turns takes its eyes to the side by 2 cm, which lamps at 1 m show by 4 % of their strengths. With four
    lamps one number a pixel is left over to tell it; with three none is, and the shift is 0.
    """
    spare = (rays.usable.sum(0) >= 4).nonzero()[:, 0]
    some = spare[:: max(len(spare) // _SAMPLE, 1)]
    unsure, shift = lamps.new_tensor(UNSURE_M), lamps.new_zeros(3)
    if len(some) == 0:
        return shift
    seen = replace(rays, signal=rays.signal[:, some], usable=rays.usable[:, some], lights=lamps, at_edge=None)
    for _ in range(_LOCATE_ROUNDS):
        misfit, slope = _misfit_about(seen, lamps, place[:, some] + shift[:, None])
        size = misfit.norm(dim=0)
        scale = 1.5 * size.median() + 1e-4
        weight = _INDEPENDENT / len(some) / (1 + (size / scale) ** 2) / scale**2  # Cauchy's, in 1 / variance
        matrix = torch.einsum("n,iln,jln->ij", weight, slope, slope) + torch.diag(unsure**-2)
        right = torch.einsum("n,iln,ln->i", weight, slope, misfit) + shift / unsure**2
        shift = shift - torch.linalg.solve(matrix, right)
    return shift


def _misfit_about(rays: Rays, lamps: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """`_misfit` [L, N] at ``place`` and its slope [3, L, N] for a shift of x, y and z."""
    steps = _LOCATE_STEP_M * torch.eye(3, device=lamps.device)
    slopes = [
        _misfit(rays, lamps, place + step[:, None]) - _misfit(rays, lamps, place - step[:, None]) for step in steps
    ]
    return _misfit(rays, lamps, place), torch.stack(slopes) / (2 * _LOCATE_STEP_M)


def _misfit(rays: Rays, lamps: Tensor, place: Tensor) -> Tensor:
    """What least squares over usable lights leave, relative to the albedo, [L, N]."""
    there = replace(rays, lights=near_lights(lamps, place))
    return there.misfit(there.fit(rays.usable.float()))


def _place(view: View, depth: Floats, mask: Mask, shift: Tensor) -> Tensor:
    """Of the mask's pixels, [3, N]."""
    return torch.as_tensor(view.place(depth)[:, mask], device=shift.device) + shift[:, None]


def _solved(rays: Rays, lamps: Tensor, place: Tensor, solver: Solver) -> Solved:
    """All pixels, a chunk at a time: their lights take three times the room of their signals."""
    parts = []
    for start in range(0, max(place.shape[1], 1), CHUNK):
        own = slice(start, start + CHUNK)
        parts.append(solver(replace(rays.part(own), lights=near_lights(lamps, place[:, own]))))
    ambient = [part.ambient for part in parts if part.ambient is not None]
    return Solved(
        scaled=torch.cat([part.scaled for part in parts], 1),
        weights=torch.cat([part.weights for part in parts], 1),
        ambient=torch.cat(ambient) if ambient else None,
    )


def _integrated(solved: Solved, mask: Mask, prior: Floats, pixel_m: float) -> Floats:
    """Depth [H, W] in metres: the prior outside, and where there are no normals."""
    normals = np.zeros((*mask.shape, 3), np.float32)
    normals[mask] = normalise(solved.scaled.T.cpu().numpy())
    relative = poisson(normals, mask) * np.float32(pixel_m)
    known = np.isfinite(relative)
    depth = relative + part_means(prior, known)
    return np.where(known, np.clip(depth, prior - FARTHEST, prior + FARTHEST), prior).astype(np.float32)
