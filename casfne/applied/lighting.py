"""Light on normals: shading under any light, and the light of a photograph found from its normals.

Surroundings are spherical harmonics of order 0 to 2, nine coefficients of radiance in the order and the scale of
`casfne.capture.lighting.environment`; a matte surface answers to little more of them (Ramamoorthi and Hanrahan 2001;
Basri and Jacobs 2003: 98 % of the light). Colours are linear RGB; 1 is what a white surface that faces the light sends.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from casfne.capture.lighting import environment
from casfne.normals import direction

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

BANDS = np.repeat([1, 2 / 3, 1 / 4], [1, 3, 5])  # of a clamped cosine / pi, by order
SATURATED = 0.95  # of linear light: what is brighter may have been any brightness
FEWEST = 200  # pixels that a light can be told from
_MOST = 40_000  # pixels that a light is fitted to
_ROUNDS = 15
_CUT = 1.5  # robust deviations at which a pixel's weight is half
# relative to the square of the first function, which is even: one view shows half of the directions, on which the nine
# functions are nearly dependent. Ten times as much costs 0.3 dB of relighting on the studio's faces
_RIDGE = np.repeat([0.0, 0.003, 0.003], [1, 3, 5])


@dataclass(frozen=True)
class Light:
    """One distant light and surroundings. towards [3]: unit, from the surface to the light; colour [3]; ambient [9, 3]:
    coefficients of the surroundings' radiance."""

    towards: Floats
    colour: Floats
    ambient: Floats

    @staticmethod
    def directional(
        azimuth_deg: float, elevation_deg: float, colour: ArrayLike = (1, 1, 1), fill: ArrayLike = 0.0
    ) -> "Light":
        """One light of ``colour``, and ``fill`` (a number, or RGB) evenly from all round."""
        ambient = np.zeros((9, 3), np.float32)
        ambient[0] = np.asarray(fill, np.float32) / _even()
        return Light(direction(azimuth_deg, elevation_deg), _rgb(colour), ambient)

    @staticmethod
    def surroundings(ambient: ArrayLike) -> "Light":
        """Light from all round alone, coefficients [9, 3]; ValueError for another shape."""
        given = np.asarray(ambient, np.float32)
        if given.shape != (9, 3):
            raise ValueError(f"expected coefficients [9, 3], got {list(given.shape)}")
        return Light(direction(0, 0), _rgb(0), given)

    @staticmethod
    def panorama(path: Path) -> "Light":
        """The surroundings in a panorama (.hdr, .png, .jpg, .webp; its middle lies behind the camera's back, as
        `casfne.capture.lighting.environment` has it), of mean luminance 1. InputError naming the file."""
        ambient = environment.project(environment.read_environment(path)[None])
        return Light.surroundings((ambient / environment.mean_luminance(ambient).clamp_min(1e-6))[0].numpy())

    def times(self, strength: float) -> "Light":
        """The same, ``strength`` times as bright."""
        factor = np.float32(strength)
        return Light(self.towards, self.colour * factor, self.ambient * factor)

    def shading(self, normals: ArrayLike) -> Floats:
        """What a white matte surface with unit ``normals`` [..., 3] sends, [..., 3]; no cast shadows. Continuous in
        normals and in light."""
        n = np.asarray(normals, np.float32)
        facing = np.maximum(n @ self.towards, 0)[..., None] * self.colour
        round_about = functions(n) @ self.ambient
        return np.asarray(facing + np.maximum(round_about, 0), np.float32)


def _rgb(colour: ArrayLike) -> Floats:
    return np.broadcast_to(np.asarray(colour, np.float32), (3,)).copy()


@cache
def _even() -> float:
    """The first function's value, the same in every direction."""
    return float(environment.basis(torch.tensor([0.0, 0.0, 1.0]))[0])


def functions(normals: ArrayLike) -> Floats:
    """How a white matte surface with ``normals`` [..., 3] answers to each of the nine coefficients, [..., 9]."""
    n = torch.from_numpy(np.ascontiguousarray(normals, np.float32))
    return environment.basis(n).numpy() * BANDS.astype(np.float32)


@dataclass(frozen=True)
class Fit:
    """What one photograph tells of its light. light: surroundings whose shading has mean 1 in each channel over the
    face, so that colour and brightness go to ``albedo`` [3], that of most of the face.

    residual: mean deviation of the photograph from albedo times shading, of its mean brightness. It needs no truth:
    normals that are smoothed, noisy or another face's leave more. It does not see a wrong frame: harmonics turn and
    mirror into harmonics, so that another light explains flipped normals equally well (`normals.recognise_frame` does).
    """

    light: Light
    albedo: Floats
    residual: float


def fit(linear: Floats, normals: Floats, mask: Mask) -> Fit:
    """The light of a photograph: ``linear`` light [H, W, 3], its ``normals`` [H, W, 3], and where they hold [H, W].

    Least squares in the nine coefficients of each channel, with Cauchy weights over ``_ROUNDS`` rounds: what is no
    matte skin (highlights, brows, lips, cast shadows) counts little, what is saturated nothing.
    Raises ValueError: shapes that do not fit, or fewer than ``FEWEST`` pixels.
    """
    if linear.shape != normals.shape or linear.shape != (*mask.shape, 3):
        raise ValueError(f"expected [H, W, 3], [H, W, 3], [H, W], got {linear.shape}, {normals.shape}, {mask.shape}")
    use = mask & (normals != 0).any(-1) & np.isfinite(normals).all(-1) & (linear.max(-1) < SATURATED)
    step = max(1, int(np.count_nonzero(use)) // _MOST)
    colours, n = linear[use][::step].astype(np.float64), normals[use][::step]
    if len(n) < FEWEST:
        raise ValueError(f"{len(n)} pixels that are neither off the mask nor saturated, expected at least {FEWEST}")
    response = functions(n).astype(np.float64)
    ambient = _robust(response, colours)
    level = np.maximum((response @ ambient).mean(0), 1e-6)
    found = np.maximum(response @ ambient, 0)
    residual = float(np.abs(colours - found).mean() / max(float(colours.mean()), 1e-6))
    return Fit(Light.surroundings(ambient / level), level.astype(np.float32), residual)


def _robust(response: Doubles, colours: Doubles) -> Doubles:
    """Coefficients [9, 3] with response [N, 9] @ coefficients close to colours [N, 3]."""
    weights = np.ones(len(colours))
    ridge = np.diag(_RIDGE * response[0, 0] ** 2)
    for _ in range(_ROUNDS):
        weighed = response * weights[:, None]
        ambient: Doubles = np.linalg.solve(weighed.T @ response + ridge * weights.sum(), weighed.T @ colours)
        error = np.linalg.norm(colours - response @ ambient, axis=1)
        scale = _CUT * max(float(np.median(error)), 1e-6)
        weights = 1 / (1 + (error / scale) ** 2)
    return ambient
