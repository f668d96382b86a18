"""Robust fits by iterated reweighting over the usable lights: L1, and Cauchy's, which lets go of what is far off."""

from collections.abc import Callable

from torch import Tensor

from casfne.stereo.solvers.base import Rays, Solved, chunked, finished

STEPS = 8  # of reweighting: a face is then 0.3 (L1) to 0.4 (Cauchy) degrees, mean, from where 60 take it
FLOOR = 0.01  # of the albedo: L1 takes smaller residuals for this, or it would believe three lights alone
SCALE = 0.05  # of the albedo: a residual of this has half the weight for Cauchy


@chunked
def l1(rays: Rays) -> Solved:
    """The least sum of absolute residuals, nearly: weights 1 / |residual|."""
    return _reweighted(rays, lambda squares: squares.sqrt_().mul_(1 / FLOOR).clamp_min_(1))


@chunked
def cauchy(rays: Rays) -> Solved:
    """The least sum of log(1 + (residual / scale)^2): weights 1 / (1 + (residual / scale)^2)."""
    return _reweighted(rays, lambda squares: squares.mul_(1 / SCALE**2).add_(1))


def _reweighted(rays: Rays, distrust: Callable[[Tensor], Tensor]) -> Solved:
    """The fit whose weights [L, N] are 1 / ``distrust`` of its own squared residuals, relative to the albedo."""
    weights = usable = rays.usable.float()
    for _ in range(STEPS):
        scaled = rays.fit(weights)
        inverse = 1 / scaled.square().sum(0).clamp_min(1e-12)
        weights = usable / distrust(rays.residual(scaled).square_().mul_(inverse))
    return finished(rays, rays.fit(weights), weights)
