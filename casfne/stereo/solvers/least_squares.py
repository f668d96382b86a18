"""Least squares: over all lights, and over those that are usable."""

import torch
from torch import Tensor

from casfne.stereo.solvers.base import Rays, Solved, chunked, finished

TRIM_SHARE = 0.25  # of a pixel's lights
TRIM_LEAVES = 4  # lights


@chunked
def least_squares(rays: Rays) -> Solved:
    """All lights count alike, in shadow or not: the baseline."""
    return weighted(rays, torch.ones_like(rays.signal))


@chunked
def masked(rays: Rays) -> Solved:
    """Least squares over each pixel's usable lights."""
    return weighted(rays, rays.usable.float())


def weighted(rays: Rays, weights: Tensor) -> Solved:
    """Least squares with a weight in 0..1 for every light at every pixel, [L, N]."""
    return finished(rays, rays.fit(weights), weights)


@chunked
def trimmed(rays: Rays) -> Solved:
    """`masked`, twice: the second time without each pixel's worst quarter of residuals."""
    return weighted(rays, trim(rays, masked(rays)).float())


def trim(rays: Rays, solved: Solved) -> Tensor:
    """Which of the usable lights remain without each pixel's worst quarter of residuals, never fewer than four of
    them; bool [L, N]. Where residuals tie, none of those goes."""
    residual = (rays.signal - rays.predict(solved.scaled).clamp_min(0)).abs()
    residual = torch.where(rays.usable, residual, -1.0)
    count = rays.usable.sum(0)
    drop = torch.minimum((TRIM_SHARE * count).floor().long(), (count - TRIM_LEAVES).clamp_min(0))
    largest_kept = residual.sort(0, descending=True)[0].gather(0, drop[None])
    return rays.usable & (residual <= largest_kept)
