"""Low rank plus sparse: over many lights the matte part of a picture has rank three, what spoils it is sparse.

Wu et al., Robust Photometric Stereo via Low-Rank Matrix Completion and Recovery (ACCV 2010), solved by the inexact
augmented Lagrangian of Lin et al. (2010). Unusable measurements are missing, not wrong.
"""

import torch
from torch import Tensor

from casfne.stereo.solvers.base import Rays, Solved, finished

STEPS = 40
GROWTH = 1.2  # of the penalty from step to step
SPARSITY = 1.5  # of the usual weight of what is sparse; with 1 faces lose shading to it
TOLERANCE = 1e-4  # of the signal: what low rank and sparse together may leave
ERROR = 0.05  # of the pixel's brightest: a light that is further off the low-rank part was not believed


def low_rank(rays: Rays) -> Solved:
    """Nuclear norm plus L1: the least |A|_* + s |E|_1 with A + E = I where usable; then least squares on A.

    Pixels are taken together, as many as are given: what they share is how few dimensions they vary in.
    """
    usable = rays.usable & rays.signal.isfinite()
    if not usable.any():
        return finished(rays, rays.signal.new_zeros(3, usable.shape[1]), usable.float())
    signal = torch.where(usable, rays.signal, 0.0)
    matte = _separate(signal, usable)
    scaled = Rays(matte, rays.lights, usable).fit(usable.float())
    believed = usable & ((signal - matte).abs() <= ERROR * signal.amax(0))
    return finished(rays, scaled, believed.float())


def _separate(signal: Tensor, usable: Tensor) -> Tensor:
    """The low-rank part [L, N] of ``signal`` where ``usable``, and its completion elsewhere."""
    sparsity = SPARSITY * max(signal.shape) ** -0.5
    largest = _singular_values(signal)[0].clamp_min(1e-6)
    dual = signal / torch.maximum(largest, signal.abs().max() / sparsity)
    penalty, bound = 1.25 / float(largest), float(signal.norm()) * TOLERANCE
    sparse = torch.zeros_like(signal)
    for _ in range(STEPS):
        low = _shrink_singular(signal - sparse + dual / penalty, 1 / penalty)
        off = signal - low + dual / penalty
        sparse = torch.where(usable, off.sign() * (off.abs() - sparsity / penalty).clamp_min(0), off)
        gap = signal - low - sparse
        dual = dual + penalty * gap
        penalty *= GROWTH
        if float(gap.norm()) < bound:
            break
    return low


def _shrink_singular(matrix: Tensor, by: float) -> Tensor:
    """``matrix`` [L, N] with its singular values lowered by ``by``, from the small Gram matrix."""
    values, vectors = torch.linalg.eigh((matrix @ matrix.T).double())
    singular = values.clamp_min(0).sqrt()
    kept = (1 - by / singular.clamp_min(1e-12)).clamp_min(0)
    return ((vectors * kept) @ vectors.T).float() @ matrix


def _singular_values(matrix: Tensor) -> Tensor:
    """Largest first."""
    return torch.linalg.eigvalsh((matrix @ matrix.T).double()).clamp_min(0).sqrt().flip(0).float()
