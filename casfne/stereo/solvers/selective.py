"""Which lights to trust, pixel by pixel.

Four lights say one thing more than a normal needs: one number, which tells that something is wrong, not which light
is. Leaving out any one of them fits exactly. So each subset of three lights or more is a hypothesis, and its
probability follows from Bayes: what it keeps has small errors; what it leaves out must look like what spoils light. A
shadow makes it darker than predicted, by any share, and is likely beside darker shadow; a highlight makes it brighter,
and lies where the normal comes near the half of light and view. The answer is the mean over the hypotheses.
"""

import math
from itertools import combinations

import torch
from torch import Tensor

from casfne.stereo.solvers.base import LEAST_SPREAD, Rays, Solved, chunked, finished, solve_symmetric, spread
from casfne.stereo.solvers.least_squares import trimmed

TRIM_FROM = 8  # lights; with fewer there is nothing to spare for trimming
ERROR, NOISE = 0.06, 0.004  # of what is kept: of the pixel's brightest, and of white
SHADOWED, SHINING = 0.005, 0.03  # how often a light that is usable otherwise is in half shadow, or in a highlight
EDGE = 0.4  # the same beside a shadow of that light
SHINE = 0.3  # mean height of a highlight over the matte surface, of the pixel's brightest
LOBE_DEG = 15.0  # how far from the half vector highlights reach


def selective(rays: Rays) -> Solved:
    """The mean over all hypotheses of which lights are sound; from eight lights on `trimmed` instead."""
    return trimmed(rays) if len(rays.signal) >= TRIM_FROM else _averaged(rays)


@chunked
def _averaged(rays: Rays) -> Solved:
    subsets = _subsets(len(rays.signal), rays.signal.device)
    error = (ERROR * torch.where(rays.usable, rays.signal, 0.0).amax(0)).square().add(NOISE**2).sqrt()
    found = [_hypothesis(rays, subset, error) for subset in subsets]
    odds = torch.stack([log for log, _ in found])
    share = torch.where(odds.isfinite(), odds, -1e30).softmax(0) * odds.isfinite()
    scaled = sum((p * b for p, (_, b) in zip(share, found, strict=True)), torch.zeros_like(found[0][1]))
    weights = torch.einsum("sn,sl->ln", share, subsets)
    if rays.at_edge is not None:  # three lights always agree: no other tells whether these are sound
        weights = torch.where(rays.at_edge & (rays.usable.sum(0) == 3), (1 - EDGE) * weights, weights)
    return finished(rays, scaled, weights)


def _subsets(count: int, device: torch.device) -> Tensor:
    """Every choice of three lights or more, 1 for those that it keeps; float32 [S, L]."""
    rows = [c for size in range(count, 2, -1) for c in combinations(range(count), size)]
    kept = torch.zeros(len(rows), count, device=device)
    for row, chosen in zip(kept, rows, strict=True):
        row[list(chosen)] = 1
    return kept


def _hypothesis(rays: Rays, subset: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """How probable it is that just the lights of ``subset`` [L] are sound: its logarithm up to a constant [N], -inf
    where it cannot be; and the b [3, N] that follows. ``error`` [N]: of a sound light.

    The evidence of a linear model under flat b, (2 pi e^2)^(-(k-3)/2) |A|^(-1/2) exp(-RSS / 2 e^2), times the density
    of b: a camera sees directions as often as n_z, and nothing is known of the brightness: 1 / |b|^2.
    """
    keep = subset[:, None].expand_as(rays.signal)
    matrix = rays.matrix(keep[:, :1] if rays.shared else keep)
    b = solve_symmetric(matrix.expand(6, rays.signal.shape[1]), rays.right(keep * rays.signal))
    predicted = rays.predict(b)
    squares = (keep * (rays.signal - predicted).square()).sum(0)
    length = b.square().sum(0).clamp_min(1e-12).sqrt()
    facing = b[2] / length
    log = -squares / (2 * error.square()) - (float(subset.sum()) - 3) * (math.sqrt(2 * math.pi) * error).log()
    log = log - 0.5 * _determinant(matrix).clamp_min(1e-12).log() + facing.clamp_min(1e-6).log() - 2 * length.log()
    log = log + _left_out(rays, subset, b / length, predicted, error).sum(0)
    sound = (rays.usable | (keep == 0)).all(0) & (facing > 0) & (spread(matrix) > LEAST_SPREAD)
    return torch.where(sound, log, -math.inf), b


def _left_out(rays: Rays, subset: Tensor, normal: Tensor, predicted: Tensor, error: Tensor) -> Tensor:
    """Logarithm of the density of what a hypothesis leaves out, [L, N]; 0 for what it keeps or is not usable anyway."""
    brightest = rays.signal.amax(0).clamp_min(1e-3)
    excess = rays.signal - predicted
    shadowed = SHADOWED if rays.at_edge is None else torch.where(rays.at_edge, EDGE, SHADOWED)
    dark = shadowed / predicted.clamp_min(0).add(error) * (excess < 0)
    shine = SHINING / (SHINE * brightest) * (-excess.clamp_min(0) / (SHINE * brightest)).exp() * (excess > 0)
    density = dark + shine * _lobe(rays, normal) + 1e-6
    sound = torch.as_tensor(1 - shadowed - SHINING).log()
    out = (subset == 0)[:, None]
    return torch.where(out, density.log(), sound) * rays.usable


def _lobe(rays: Rays, normal: Tensor) -> Tensor:
    """How near each light's highlight is, 1 to 0, [L, N]; the camera is at (0, 0, 1)."""
    view = torch.tensor([0.0, 0.0, 1.0], device=normal.device)
    towards = rays.lights / rays.lights.norm(dim=1, keepdim=True)
    half = towards + (view if rays.shared else view[:, None])
    half = half / half.norm(dim=1, keepdim=True)
    cosine = (half @ normal) if rays.shared else (half * normal).sum(1)
    return ((cosine - 1) / (1 - math.cos(math.radians(LOBE_DEG)))).exp()


def _determinant(matrix: Tensor) -> Tensor:
    xx, yy, zz, xy, xz, yz = matrix
    return xx * (yy * zz - yz * yz) - xy * (xy * zz - xz * yz) + xz * (xy * yz - xz * yy)
