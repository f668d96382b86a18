"""Least squares with light that comes from all round: a constant term at each pixel."""

import torch

from casfne.stereo.solvers.base import LEAST_SPREAD, PAIRS, Rays, Solved, chunked, finished, solve_symmetric, spread
from casfne.stereo.solvers.least_squares import masked


@chunked
def ambient(rays: Rays) -> Solved:
    """I = l . b + a over the usable lights, with a at least 0 (where it would be less, 0).

    The constant takes lights and signal off their means; what is left must still span three directions. Lights that lie
    on one cone about the camera's axis do not: theirs cannot be told from a flatter surface, and such pixels are 0.
    """
    weights = rays.usable.float()
    count = weights.sum(0).clamp_min(1)
    middle_light, middle = rays.right(weights) / count, (weights * rays.signal).sum(0) / count
    pairs = torch.stack([middle_light[i] * middle_light[j] for i, j in PAIRS])
    matrix = rays.matrix(weights) - pairs * count
    right = rays.right(weights * rays.signal) - middle_light * middle * count
    scaled = solve_symmetric(matrix, right)
    constant = middle - (middle_light * scaled).sum(0)
    without = masked(rays).scaled
    determined = (spread(matrix) > LEAST_SPREAD) & (weights.sum(0) >= 4)
    scaled = torch.where(constant > 0, scaled, without) * determined
    return finished(rays, scaled, weights, constant.clamp_min(0) * determined)
