"""How bright the lights of a capture are, relative to each other, from its pictures.

Measurements are e_l (l . b), with unknown strengths e and one b a pixel. Where x = 1 / e, every pixel's x_l I_l lies in
the span of its lights: P diag(I) x = 0, with P the projector onto what no b can explain. So x is the smallest
eigenvector of the sum over pixels of diag(I) P diag(I), whatever the normals are.

What that determines: with three lights P is 0, and nothing. With four, P = c c^T for the one relation c that the four
directions obey; pixels say that the vector c_l x_l is orthogonal to every (I_l) there is. Those fill three dimensions
where the normals do, so c_l x_l is known up to its scale, and with it x, unless some c_l is 0: three lights in one
plane leave the fourth one's strength open. No bas-relief ambiguity remains: it would turn the lights' directions, which
are known. What is left is the scale, which trades against the albedo; strengths have mean 1.
"""

import torch
from torch import Tensor

from casfne.stereo.measure import Measured
from casfne.stereo.solvers.base import Rays, solve_symmetric
from casfne.stereo.solvers.robust import cauchy

ROUNDS = 6
LEAST_PIXELS = 100
LEAST_GAP = 10.0  # of the second smallest eigenvalue to the smallest; less, and noise chooses between two answers
MOST = 4.0  # times brighter than another: more is no lamp but a failure


def relative_strengths(measured: Measured, lights: Tensor) -> tuple[Tensor | None, str]:
    """Strengths [L] of mean 1 of ``lights`` [L, 3], or None where they are not determined; and a line that says so.

    Normals and strengths are found in turn: robust normals say how far each measurement is believed, and those weights
    give the next strengths.
    """
    count = len(lights)
    if count < 4:
        return None, f"{count} lights: any strengths fit as well, by other normals; taken as equal"
    rays = _informative(measured.rays(lights))
    if rays.signal.shape[1] < LEAST_PIXELS:
        return None, f"fewer than {LEAST_PIXELS} pixels under four usable lights; taken as equal"
    strengths = lights.new_ones(count)
    for _ in range(ROUNDS):
        now = Rays(rays.signal, lights * strengths[:, None], rays.usable)
        values, vectors = torch.linalg.eigh(_misfit(Rays(rays.signal, lights, rays.usable), cauchy(now).weights))
        inverse = vectors[:, 0] * vectors[:, 0].sum().sign()
        if values[1] < LEAST_GAP * values[0] or values[1] < 1e-4 * values.sum():
            return None, "the normals seen, or the lights' directions, leave more than one answer; taken as equal"
        if inverse.min() * MOST < inverse.max():
            return None, f"not determined: one light would be {MOST:g} times another; taken as equal"
        strengths = (1 / inverse / (1 / inverse).mean()).to(lights)
    return strengths, "estimated: " + ", ".join(f"{value:.3f}" for value in strengths.tolist())


def _informative(rays: Rays) -> Rays:
    """Pixels with four usable lights or more, each divided by its brightness."""
    signal = torch.where(rays.usable, rays.signal, 0.0)
    some = (rays.usable.sum(0) >= 4).nonzero()[:, 0]
    signal, usable = signal[:, some], rays.usable[:, some]
    return Rays(signal / signal.square().sum(0).sqrt(), rays.lights, usable)


def _misfit(rays: Rays, weights: Tensor) -> Tensor:
    """The sum over pixels of diag(I) P diag(I), weighted: [L, L], float64; its smallest eigenvector is 1 / strength."""
    weighted = weights * rays.signal
    matrix = rays.matrix(weights)
    unit = torch.eye(3).to(matrix)[..., None].expand(3, 3, matrix.shape[1])
    inverse = torch.stack([solve_symmetric(matrix, axis) for axis in unit])
    explained = rays.signal.new_zeros(len(weights), len(weights))
    for i in range(3):
        for j in range(3):
            pair = rays.lights[:, i, None] * rays.lights[None, :, j]
            explained += pair * ((weighted * inverse[i, j]) @ weighted.T)
    return (torch.diag((weighted * rays.signal).sum(1)) - explained).double()
