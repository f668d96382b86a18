"""What every solver takes and gives, and the algebra that they share: symmetric 3x3 systems, one a pixel."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps

import torch
from torch import Tensor

LEAST_SPREAD = 1e-3  # of the lights' smallest to largest eigenvalue; with less they lie in one plane
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # the six entries of a symmetric matrix, as they are kept
CHUNK = 1 << 17  # measurements worked on at once: few enough to stay in a core's cache


@dataclass(frozen=True)
class Rays:
    """N pixels under L lights: ``signal`` float32 [L, N]; ``lights`` float32 [L, 3], or [L, 3, N] where each pixel has
    its own (near lamps: unit direction times relative strength); ``usable`` bool [L, N]: not shadowed, not saturated;
    ``at_edge`` bool [L, N] or None: usable, but beside a shadow of that light. ValueError for shapes that do not fit.
    """

    signal: Tensor
    lights: Tensor
    usable: Tensor
    at_edge: Tensor | None = None

    def __post_init__(self) -> None:
        count, pixels = self.signal.shape
        if self.usable.shape != self.signal.shape or self.lights.shape not in ((count, 3), (count, 3, pixels)):
            shapes = [list(t.shape) for t in (self.signal, self.lights, self.usable)]
            raise ValueError(f"expected signal [L, N], lights [L, 3] or [L, 3, N], usable [L, N], got {shapes}")

    @property
    def shared(self) -> bool:
        """Whether all pixels have the same lights."""
        return self.lights.ndim == 2

    def part(self, where: slice | Tensor) -> "Rays":
        """Some of the pixels: a slice, or their numbers."""
        lights = self.lights if self.shared else self.lights[:, :, where]
        at_edge = None if self.at_edge is None else self.at_edge[:, where]
        return Rays(self.signal[:, where], lights, self.usable[:, where], at_edge)

    @cached_property
    def outer(self) -> Tensor:
        """The six entries of each l l^T, [6, L] or [6, L, N]."""
        return torch.stack([self.lights[:, i] * self.lights[:, j] for i, j in PAIRS])

    def matrix(self, weights: Tensor) -> Tensor:
        """Sum of w l l^T over the lights, [6, N]; ``weights`` float32 [L, N]."""
        return self.outer @ weights if self.shared else (self.outer * weights).sum(1)

    def right(self, weighted: Tensor) -> Tensor:
        """Sum of w I l over the lights, [3, N]; ``weighted`` float32 [L, N]: w I."""
        return self.lights.T @ weighted if self.shared else (self.lights * weighted[:, None]).sum(0)

    def predict(self, scaled: Tensor) -> Tensor:
        """l . b, negative where a light comes from behind; [L, N] of ``scaled`` [3, N]."""
        return self.lights @ scaled if self.shared else (self.lights * scaled).sum(1)

    def residual(self, scaled: Tensor) -> Tensor:
        """l . b - I, [L, N] of ``scaled`` [3, N]."""
        if self.shared:
            return torch.addmm(self.signal, self.lights, scaled, beta=-1)
        return self.predict(scaled) - self.signal

    def misfit(self, scaled: Tensor) -> Tensor:
        """What ``scaled`` [3, N] leaves at usable lights, of the albedo, [L, N]; 0 at others."""
        return self.usable * self.residual(scaled) / scaled.norm(dim=0).clamp_min(1e-6)

    def fit(self, weights: Tensor) -> Tensor:
        """The b [3, N] of the least sum of w (I - l . b)^2, 0 where the weighted lights do not determine it."""
        return solve_symmetric(self.matrix(weights), self.right(weights * self.signal))


@dataclass(frozen=True)
class Solved:
    """``scaled`` float32 [3, N]: albedo * normal, 0 where not determined; ``weights`` float32 [L, N] in 0..1: how far
    each light was believed at each pixel (0: left out); ``ambient`` float32 [N] or None."""

    scaled: Tensor
    weights: Tensor
    ambient: Tensor | None = None


Solver = Callable[[Rays], Solved]


def chunked(solver: Solver) -> Solver:
    """``solver``, which treats every pixel by itself, on as many pixels at a time as fit the cache."""

    @wraps(solver)
    def run(rays: Rays) -> Solved:
        count, pixels = rays.signal.shape
        step = max(CHUNK // max(count, 1), 1)
        parts = [solver(rays.part(slice(i, i + step))) for i in range(0, pixels, step)] or [solver(rays)]
        ambients = [part.ambient for part in parts if part.ambient is not None]
        return Solved(
            torch.cat([part.scaled for part in parts], 1),
            torch.cat([part.weights for part in parts], 1),
            torch.cat(ambients) if ambients else None,
        )

    return run


def finished(rays: Rays, scaled: Tensor, weights: Tensor, ambient: Tensor | None = None) -> Solved:
    """A result with 0 wherever it is not finite, or fewer than three lights, or lights in one plane, determine it."""
    enough = (weights > 0).sum(0) >= 3
    good = enough & (spread(rays.matrix(weights)) > LEAST_SPREAD) & scaled.isfinite().all(0)
    return Solved(torch.where(good, scaled, 0.0), weights, ambient)


def solve_symmetric(matrix: Tensor, right: Tensor) -> Tensor:
    """x [3, N] of A x = right [3, N] for symmetric ``matrix`` [6, N] (xx, yy, zz, xy, xz, yz), by cofactors; 0 where A
    is singular to float32."""
    xx, yy, zz, xy, xz, yz = matrix
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    d, e, f = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    det = xx * a + xy * b + xz * c
    inverse = torch.where(det > 1e-6 * (xx + yy + zz) ** 3 / 27, 1 / det, 0.0)
    x, y, z = right
    return torch.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z]) * inverse


def spread(matrix: Tensor) -> Tensor:
    """Smallest over largest eigenvalue of symmetric ``matrix`` [6, N]: 0 for lights in one plane, 1 for an even spread.

    The largest comes from the trigonometric formula, which is good to 3e-4 where two eigenvalues meet; the others from
    the trace and the determinant that it leaves, so that a small one is as exact as float32 allows.
    """
    xx, yy, zz, xy, xz, yz = matrix
    third = (xx + yy + zz) / 3
    dx, dy, dz = xx - third, yy - third, zz - third
    off = xy * xy + xz * xz + yz * yz
    p = ((dx * dx + dy * dy + dz * dz + 2 * off) / 6).clamp_min(0).sqrt()
    half = (dx * dy * dz + 2 * xy * xz * yz - dx * yz * yz - dy * xz * xz - dz * xy * xy) / 2
    angle = torch.where(p > 0, half / p**3, 0.0).clamp(-1, 1).acos() / 3
    largest = third + 2 * p * angle.cos()
    product = (xx * (yy * zz - yz * yz) + xy * (xz * yz - xy * zz) + xz * (xy * yz - xz * yy)) / largest
    total = 3 * third - largest
    smallest = 2 * product / (total + (total * total - 4 * product).clamp_min(0).sqrt())
    return (smallest / largest).nan_to_num(0, 0, 0).clamp(0, 1)
