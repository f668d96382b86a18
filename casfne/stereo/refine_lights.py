"""Directions and strengths of lights from the images themselves, starting from those that were given.

Images of a matte surface under L lights are the product of lights [L, 3] and albedo * normal [3, N]. They give both but
for a 3x3 matrix between them. Three things say which one: that the normals are those of a surface (which leaves its
depth free to be scaled and sheared: the generalised bas-relief ambiguity, Belhumeur et al. 1999), that a frontal face
is balanced and about as deep as faces are, and the lights as given, each of which is wrong by a little.

Of the 3 L - 1 numbers (strengths are relative) the images give 3 (L - 3), the surface 5 and the face 3: enough from
four lights on, where all were exact. But with four a pixel has one number to spare, and what is not matte (gloss, skin,
edges of shadows) fills it. On simulated skin, lights that are 7 to 8 degrees off come back to 6.4 degrees with 4 of
them, 2.9 with 6 or 8, 2.0 with 12, and normals improve from 6 on. Lights that were right come out 1.3 (12 lights) to 2
degrees off (6): refine those that may be wrong by more. Two people of Extended Yale B, refined apart from 43 lights,
move these by 3.8 and 4.0 degrees, to places that agree within 2.1. An error that all lights share, as of a rig that is
turned as a whole, is seen by the balance of the face alone, so the face must be frontal.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from casfne.errors import InputError
from casfne.normals import Floats, angle_deg
from casfne.stereo.integrate import Mask
from casfne.stereo.solvers.base import Rays
from casfne.stereo.solvers.least_squares import masked, weighted
from casfne.stereo.surface import Pictures

LEAST_LIGHTS = 6
GIVEN_DEG, GIVEN_STRENGTH = 6.0, 0.1  # standard deviations: of directions as given; of strengths about their mean
MEAN_NORMAL = (0.0, 0.02, 0.765)  # of a frontal face over what is seen of it, and its standard deviation: people, masks
MEAN_NORMAL_SPREAD = (0.04, 0.07, 0.03)
PIXELS = 20_000  # about as many are looked at: of larger pictures every second, third .. row and column
LEAST_PIXELS = 100
DARKEST = 0.1  # of the median albedo: darker pixels are mostly noise
_FACTOR_ROUNDS, _CHOICE_ROUNDS, _HALVINGS = 30, 12, 10
_MEAN_OF = 4000  # pixels, about, that the mean normal is taken over
_INDEPENDENT = 300  # pixels as which the curl of all of them counts: neighbours agree


@dataclass(frozen=True)
class RefinedLights:
    """``lights`` float32 [L, 3] unit; ``strengths`` float32 [L], mean 1: divide the images by them; ``moved_deg``
    float32 [L]: angles to the lights as given; ``misfit``: mean absolute residual of usable pixels under least squares,
    relative to their albedo, before and after.
    """

    lights: Floats
    strengths: Floats
    moved_deg: Floats
    misfit: tuple[float, float]


def refine_capture(pictures: Pictures, region: Mask) -> tuple[NDArray[np.int64], RefinedLights]:
    """`refine_lights` of the face in ``region`` [H, W]: the numbers of the lights that can be used, and those refined.
    Pictures are looked at on a grid of about ``PIXELS`` of the region's."""
    step = _step(region)
    measured = pictures.look(slice(0, None, step))
    signal, usable = measured.signal[..., ::step], measured.usable[..., ::step]
    given = pictures.lights.numpy()
    return pictures.near, refine_lights(signal, usable, region[::step, ::step], given)


def refine_lights(signal: Tensor, usable: Tensor, mask: Mask, lights: Floats) -> RefinedLights:
    """Lights of a frontal face from ``signal`` float32 [L, H, W] where it is ``usable`` bool [L, H, W], inside ``mask``
    [H, W], near ``lights`` [L, 3], unit and distant. InputError for fewer than ``LEAST_LIGHTS`` lights, for too few
    pixels that four of them light, and where no lights are found; ValueError for shapes that do not fit.
    """
    if signal.ndim != 3 or usable.shape != signal.shape or mask.shape != signal.shape[1:]:
        shapes = [list(v.shape) for v in (signal, usable, mask)]
        raise ValueError(f"expected signal and usable [L, H, W] and mask [H, W], got {shapes}")
    rays, inside = _chosen_pixels(signal, usable, mask, lights)
    factor, scaled = (part.double() for part in factorise(rays))
    some = scaled[:, :: max(scaled.shape[1] // _MEAN_OF, 1)]
    change = _choose(_Evidence(factor, some, _in_noise(curl_form(scaled, inside)), rays.lights.double()))
    if not change.isfinite().all():
        raise InputError("no lights found that explain the images as those of a face: take them as given")
    found = (factor @ change).float()
    strengths = found.norm(dim=1)
    relative = strengths / strengths.mean()
    unit = (found / strengths[:, None]).cpu().numpy()
    misfit = (_misfit(rays), _misfit(replace(rays, lights=found / strengths.mean())))
    return RefinedLights(unit, relative.cpu().numpy(), angle_deg(unit, lights), misfit)


def _chosen_pixels(signal: Tensor, usable: Tensor, mask: Mask, lights: Floats) -> tuple[Rays, Tensor]:
    """Pixels lit by four lights or more, on a grid of not many more than ``PIXELS``, and where they are on it."""
    if len(signal) < LEAST_LIGHTS:
        raise InputError(
            f"{len(signal)} lights cannot be refined from the images, {LEAST_LIGHTS} can: with fewer, gloss and edges"
            " of shadows move them more than they are wrong; take them as given"
        )
    step = _step(mask)
    signal, usable = signal[:, ::step, ::step], usable[:, ::step, ::step]
    inside = torch.as_tensor(mask[::step, ::step].copy(), device=signal.device) & (usable.sum(0) >= 4)
    if inside.sum() < LEAST_PIXELS:
        raise InputError(
            f"{int(inside.sum())} pixels are lit by four lights or more: {LEAST_PIXELS} are needed to refine lights"
        )
    given = torch.as_tensor(lights, dtype=torch.float32, device=signal.device)
    return Rays(signal[:, inside], given, usable[:, inside]), inside


def _step(mask: Mask) -> int:
    return max(round(float(np.sqrt(mask.sum() / PIXELS))), 1)


def factorise(rays: Rays) -> tuple[Tensor, Tensor]:
    """Lights [L, 3] times strengths, and albedo * normal [3, N], whose product fits the usable signal best: by turns,
    starting from the rays' lights. Residuals relative to the albedo weigh as Cauchy's do."""
    turn, weights = rays, rays.usable.float()
    for _ in range(_FACTOR_ROUNDS):
        scaled = weighted(turn, weights).scaled
        size = scaled.norm(dim=0)
        counted = size > DARKEST * size.median()
        normals = torch.where(counted, scaled / size, 0.0)
        seen = torch.where(counted, rays.signal / size, 0.0)  # bright pixels count no more than dark ones
        residual = seen - turn.lights @ normals
        scale = 2 * residual[rays.usable].abs().median() + 1e-6
        weights = rays.usable / (1 + (residual / scale) ** 2)
        outer = (normals[:, None] * normals).flatten(0, 1)  # [9, N]
        matrix, right = (weights @ outer.T).view(-1, 3, 3), (weights * seen) @ normals.T
        turn = replace(turn, lights=torch.linalg.solve_ex(matrix, right).result)
    return turn.lights, weighted(turn, weights).scaled


def curl_form(scaled: Tensor, inside: Tensor) -> Tensor:
    """A matrix [6, 6] that holds the curl of the normals' slopes for every 3x3 change of them.

    ``scaled`` float64 [3, N]: albedo * normal at the pixels ``inside`` [H, W]. Where b is changed to M b with rows x, y
    and z of M, the curl times (M b)_z^2 is (z cross x) . (b cross b_up) - (z cross y) . (b cross b_across), b_up and
    b_across being derivatives: linear in six numbers, whose weighted square this is, averaged over pixels. The length
    of b does not matter. With no pixel whose four neighbours are inside it is 0, and says nothing.
    """
    unit = scaled.new_zeros(3, *inside.shape)
    unit[:, inside] = functional.normalize(scaled, dim=0)
    row, column = slice(1, -1), slice(1, -1)
    known = inside[row, column] & inside[row, 2:] & inside[row, :-2] & inside[2:, column] & inside[:-2, column]
    if not known.any():
        return scaled.new_zeros(6, 6)
    here = unit[:, row, column][:, known]
    across = (unit[:, row, 2:] - unit[:, row, :-2])[:, known] / 2
    up = (unit[:, :-2, column] - unit[:, 2:, column])[:, known] / 2
    parts = torch.cat([torch.linalg.cross(here, up, dim=0), -torch.linalg.cross(here, across, dim=0)])  # [6, N]
    size = parts.norm(dim=0)
    weight = 1 / (1 + (size / (2 * size.median() + 1e-9)) ** 2)  # creases and edges of shadows count less
    return (parts * weight) @ parts.T / weight.sum()


@dataclass(frozen=True)
class _Evidence:
    """What a change M [3, 3] of factors [L, 3] and scaled [3, N], to factor @ M and M^-1 scaled, is judged by: the
    curl's root [6, 6] (see `_in_noise`) and the given lights [L, 3]; float64."""

    factor: Tensor
    scaled: Tensor
    curl: Tensor
    given: Tensor

    def wrong(self, change: Tensor) -> Tensor:
        """Everything that is wrong after ``change``, in standard deviations."""
        lights, back = self.factor @ change, torch.linalg.inv(change)
        strengths = lights.norm(dim=1)
        logs = strengths.log()
        parts = [
            ((lights / strengths[:, None] - self.given) / np.radians(GIVEN_DEG)).flatten(),
            (logs - logs.mean()) / GIVEN_STRENGTH,
            logs.mean()[None] / 0.01,  # the scale is free: any firm hold will do
            self._curl(back),
            self._imbalance(back),
        ]
        return torch.cat(parts)

    def _curl(self, back: Tensor) -> Tensor:
        """Of the changed normals' slopes, [6]."""
        x, y, z = back
        six = torch.cat([torch.linalg.cross(z, x), torch.linalg.cross(z, y)])
        return self.curl @ (six / six.norm())

    def _imbalance(self, back: Tensor) -> Tensor:
        """Of the mean normal, [3]."""
        mean = functional.normalize(back @ self.scaled, dim=0).mean(1)
        return (mean - mean.new_tensor(MEAN_NORMAL)) / mean.new_tensor(MEAN_NORMAL_SPREAD)


def _in_noise(form: Tensor) -> Tensor:
    """A root of the curl's form in units of its noise: of the least that any six numbers leave."""
    values, vectors = torch.linalg.eigh(form)
    return (values / values[0].clamp_min(1e-12) * _INDEPENDENT).clamp_min(0).sqrt()[:, None] * vectors.T


def _choose(evidence: _Evidence) -> Tensor:
    """The change [3, 3] that is least wrong, from none by Gauss and Newton; steps that make it worse are halved."""
    change = torch.eye(3, dtype=torch.float64, device=evidence.factor.device)
    wrong, small = evidence.wrong(change), 1e-5 * torch.eye(9, dtype=change.dtype, device=change.device).view(9, 3, 3)
    for _ in range(_CHOICE_ROUNDS):
        slope = torch.stack([evidence.wrong(change + d) - evidence.wrong(change - d) for d in small], 1) / 2e-5
        step = torch.linalg.solve_ex(slope.T @ slope, slope.T @ wrong).result.view(3, 3)
        for _ in range(_HALVINGS):
            tried = evidence.wrong(change - step)
            if tried.square().sum() < wrong.square().sum():
                change, wrong = change - step, tried
                break
            step = step / 2
    return change


def _misfit(rays: Rays) -> float:
    scaled = masked(rays).scaled
    return float(rays.misfit(scaled).abs()[rays.usable & scaled.any(0)].mean())
