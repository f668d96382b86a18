"""From pictures to what solvers take: brightness without highlights, and which lights of a pixel can be used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from casfne.stereo.solvers.base import CHUNK, Rays, solve_symmetric

RELATIVE_SHADOW = 0.12  # of the pixel's brightest image: below it a light is shadowed, or too grazing to use
LEAST_CHROMA = 0.1  # of the brightness: with less, colour says nothing
AGREE = 4  # pixels to each side over which lights are asked to agree on how much highlight there is
EDGE = 2  # pixels to each side of a shadow that may be half in it
HALO = AGREE  # rows beyond a tile on which its own depend

Picture = Callable[[int], Tensor]
"""The linear picture float32 [C, H, W] in 0..1 under a light, by its number; white lights."""


@dataclass(frozen=True)
class Measured:
    """``grey`` float32 [L, H, W]: brightness; ``signal``: the same without highlights, as far as colour tells them;
    ``usable`` bool: finite, neither shadowed nor saturated; ``at_edge`` bool: usable, but beside a shadow of that
    light."""

    grey: Tensor
    signal: Tensor
    usable: Tensor
    at_edge: Tensor

    def rays(self, lights: Tensor) -> Rays:
        """All pixels, row by row, under ``lights`` [L, 3] or [L, 3, H * W]."""
        return Rays(self.signal.flatten(1), lights, self.usable.flatten(1), self.at_edge.flatten(1))

    def rows(self, keep: slice) -> "Measured":
        """Some of the rows."""
        return Measured(self.grey[:, keep], self.signal[:, keep], self.usable[:, keep], self.at_edge[:, keep])

    def inside(self, mask: Tensor) -> "Measured":
        """The N pixels of ``mask`` bool [H, W], as one row: [L, 1, N]."""
        planes = (values[:, mask][:, None] for values in (self.grey, self.signal, self.usable, self.at_edge))
        return Measured(*planes)

    @staticmethod
    def join(parts: Sequence["Measured"]) -> "Measured":
        """One row of the pixels of several."""
        return Measured(*(torch.cat([vars(part)[f.name] for part in parts], 2) for f in fields(Measured)))


def measure(picture: Picture, lights: Tensor, shadow: float, saturation: float, colour: bool = True) -> Measured:
    """What ``lights`` [L, 3] made of a surface, one picture each.

    A light is not usable at a pixel where its brightness is below ``shadow`` or 12 % of the pixel's brightest, or a
    channel at ``saturation``. ``colour``: take highlights off by colour; see `matte`.
    """
    grey, brightest, hue = _first_look(picture, len(lights), colour)
    lit = grey >= (RELATIVE_SHADOW * grey.amax(0)).clamp_min(shadow)
    usable = lit & (brightest < saturation)
    signal = grey if hue is None else matte(picture, grey, hue, usable, lights)
    return Measured(grey, signal, usable, beside(~lit) & usable)


def _first_look(picture: Picture, count: int, colour: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Brightness and brightest channel [L, H, W], and the sum of the colours over the lights [C, H, W] or None where
    there is one colour or none is asked for. What is not finite is 0, its brightest channel infinite."""
    grey, brightest, total = [], [], None
    for number in range(count):
        channels = picture(number)
        mean, largest = channels[0], channels[0]
        for other in channels[1:]:
            mean, largest = mean + other, torch.maximum(largest, other)
        mean = mean / len(channels) if len(channels) > 1 else mean
        if not mean.sum().isfinite():
            sound = mean.isfinite()
            channels, mean, largest = (
                channels.where(sound, 0.0),
                mean.where(sound, 0.0),
                largest.where(sound, torch.inf),
            )
        grey.append(mean)
        brightest.append(largest)
        if colour and len(channels) > 1:
            total = channels if total is None else total + channels
    return torch.stack(grey), torch.stack(brightest), total


def beside(dark: Tensor) -> Tensor:
    """Pixels [L, H, W] no further than ``EDGE`` to each side from one that is ``dark``."""
    across = dark.clone()
    for step in range(1, EDGE + 1):
        across[..., step:] |= dark[..., :-step]
        across[..., :-step] |= dark[..., step:]
    around = across.clone()
    for step in range(1, EDGE + 1):
        around[:, step:] |= across[:, :-step]
        around[:, :-step] |= across[:, step:]
    return around


def matte(picture: Picture, grey: Tensor, total: Tensor, usable: Tensor, lights: Tensor) -> Tensor:
    """Brightness [L, H, W] without what a white light's highlight adds, which is white.

    The grey part of a colour taken off, its chroma is the matte surface's times its shading: free of highlights, but
    noisy, and skin's red scatters. So as much of the difference between brightness and chroma's shading is taken off as
    makes the lights agree best (least squares over the pixels about), between nothing and all.
    """
    hue = total - total.mean(0)  # [C, H, W], of the pixel under all lights
    strength, bright = hue.norm(dim=0), grey.sum(0)
    coloured = strength > (LEAST_CHROMA * bright).clamp_min(0.02 * len(grey))
    if not coloured.any():
        return grey
    scaled = torch.where(coloured, hue * (bright / strength.square()), 0.0)
    shading = torch.stack([_dot(picture(i), scaled) for i in range(len(grey))]).nan_to_num(0, 0, 0)
    highlight = (grey - shading) * coloured
    return grey - _share(grey, highlight, usable, lights) * highlight


def _share(grey: Tensor, highlight: Tensor, usable: Tensor, lights: Tensor) -> Tensor:
    """The share of ``highlight`` [L, H, W] in 0..1, [H, W], without which ``grey`` is most like matte surfaces."""
    planes = [values.flatten(1).split(CHUNK // len(grey), 1) for values in (grey, highlight, usable)]
    parts = [_products(*part, lights) for part in zip(planes[0], planes[1], planes[2], strict=True)]
    above, below = avg_pool2d(torch.cat(parts, 1).view(2, *grey.shape[1:]), 2 * AGREE + 1, 1, AGREE)
    return torch.where(below > 0, above / below, 1.0).clamp(0, 1)


def _products(grey: Tensor, highlight: Tensor, usable: Tensor, lights: Tensor) -> Tensor:
    """What least squares over usable lights leave of ``grey`` times what they leave of ``highlight``, and that squared,
    summed over the lights, [2, N]; relative to the brightest light, 0 where fewer than four are usable."""
    rays = Rays(grey, lights, usable)
    weights = usable.float()
    matrix = rays.matrix(weights)
    rest, other = (
        (values - rays.predict(solve_symmetric(matrix, rays.right(weights * values)))) * weights
        for values in (grey, highlight)
    )
    relative = (weights.sum(0) >= 4) / (grey.amax(0) + 0.05).square()
    return torch.stack([(rest * other).sum(0), other.square().sum(0)]) * relative


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of [C, H, W], [H, W]: one multiplication after the other is three times as fast as a sum over so few."""
    total = a[0] * b[0]
    for i in range(1, len(a)):
        total.addcmul_(a[i], b[i])
    return total
