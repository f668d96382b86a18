"""What a camera and a file do to a photograph's pixels: steps of `casfne.training.augment` that leave the truth alone.

Each takes images [N, 3, S, S] (sRGB in 0..1) and their draws, and gives images of that kind.
"""

import torch
from torch import Tensor

from casfne.capture.optics.filters import gaussian, reduction
from casfne.capture.optics.jpeg import jpeg, luminance
from casfne.training.draws import Draws, Step

_SIGMA = (0.3, 2.0)  # pixels: from a sharp lens to one out of focus
_REDUCTION = (1.0, 3.0)  # times fewer pixels a side: a face of 85 pixels enlarged
_STOPS = 0.6  # exposure, either way
_DISPLAY_GAMMA = 2.2  # of sRGB, near enough: light times f is a value times f ** (1 / 2.2)
_GAMMA = (0.7, 1.4)  # contrast curves of cameras and their users
_GAINS = (0.85, 1.15)  # white balance, each channel
_SATURATION = (0.5, 1.3)
_READ_NOISE, _SHOT_NOISE = 0.02, 0.035  # largest standard deviation, of white: in the dark; of white light alone
_QUALITY = (30, 95)  # what is found on the web


def _blur(image: Tensor, draws: Draws) -> Tensor:
    """Out of focus, or of fewer pixels and enlarged: either way each side is multiplied by a matrix."""
    size = image.shape[-1]
    lens = draws["lens"][:, 0] < 0.5
    unfocused = gaussian(draws.between("sigma", *_SIGMA)[:, 0], size)
    coarse = reduction(draws.between("reduction", *_REDUCTION)[:, 0], size)
    matrix = torch.where(lens, unfocused, coarse)[:, None]
    return (matrix @ image @ matrix.transpose(-1, -2)).clamp(0, 1)


def _tone(image: Tensor, draws: Draws) -> Tensor:
    """Exposure in stops of light, and a curve."""
    gain = 2 ** (draws.between("stops", -_STOPS, _STOPS) / _DISPLAY_GAMMA)
    return (image ** draws.log_between("gamma", *_GAMMA) * gain).clamp(0, 1)


def _colour(image: Tensor, draws: Draws) -> Tensor:
    gains = torch.cat([draws.between(c, *_GAINS) for c in ("red", "green", "blue")], 1)
    balanced = image * (gains / luminance(gains))  # greys keep their luminance: exposure is the tone's
    return torch.lerp(luminance(balanced), balanced, draws.between("saturation", *_SATURATION)).clamp(0, 1)


def _grey(image: Tensor, draws: Draws) -> Tensor:
    return luminance(image).clamp(0, 1).expand_as(image)  # white may round to more than 1


def _noise(image: Tensor, draws: Draws) -> Tensor:
    """The sensor's own, the same everywhere, and the light's, whose variance grows with it."""
    read, shot = draws["read"] * _READ_NOISE, draws["shot"] * _SHOT_NOISE
    deviation = (read.square() + shot.square() * image).sqrt()
    return (image + deviation * _pixel_noise(draws.seeds, image)).clamp(0, 1)


def _pixel_noise(seeds: Tensor, like: Tensor) -> Tensor:
    """Standard normal numbers in the shape of ``like`` [N, ...], a generator a sample on its device."""
    generator = torch.Generator(like.device)
    noise = torch.empty(like.shape, device=like.device)  # in this order, whatever the order of ``like``
    for sample, seed in zip(noise, seeds.tolist(), strict=True):
        # not the seed itself: its numbers have already said which noise this is
        torch.randn(sample.shape, generator=generator.manual_seed(seed ^ 0x6E6F697365), out=sample)
    return noise


def _jpeg(image: Tensor, draws: Draws) -> Tensor:
    return jpeg(image, draws.between("quality", *_QUALITY).round())


STEPS: dict[str, Step] = {
    "blur": _blur,
    "tone": _tone,
    "colour": _colour,
    "grey": _grey,
    "noise": _noise,
    "jpeg": _jpeg,
}
