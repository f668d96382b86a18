"""Smooth noise in space: a periodic volume made once, looked up at any places and any scale."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

CHANNELS = 4  # independent noises that one look-up gives
_CELLS, _PER_WAVE = 64, 8  # along a side of the volume; in one typical wavelength


def noise(where: Tensor, wavelength: float | Tensor, offset: Tensor) -> Tensor:
    """Four independent noises of mean 0 and standard deviation 1 at places, float32 [N, 4].

    where [N, 3] in metres; wavelength in metres, a number or [N, 1]: that of most of the noise's energy, which
    repeats after eight of them; offset [N, 3] (any uniform numbers 0..1): another offset is other noise.
    """
    cell = (where / (wavelength * (_CELLS // _PER_WAVE)) + offset) % 1.0
    grid = (cell * 2 - 1).view(1, 1, 1, -1, 3)
    found = functional.grid_sample(_volume(where.device), grid, mode="bilinear", align_corners=True)
    return found.view(CHANNELS, -1).T


def layered(where: Tensor, wavelength: float | Tensor, offset: Tensor, octaves: int, fall: float = 0.5) -> Tensor:
    """Sum of ``octaves`` noises, each of half the wavelength and ``fall`` times the strength of the one before, at
    standard deviation 1, [N, 4]; arguments as for `noise`."""
    total = torch.zeros(len(where), CHANNELS, device=where.device)
    for octave in range(octaves):
        total += fall**octave * noise(where, wavelength / 2**octave, offset + 0.37 * octave)
    return total / sum(fall ** (2 * octave) for octave in range(octaves)) ** 0.5


@cache
def _volume(device: torch.device) -> Tensor:
    """[1, 4, 65, 65, 65]: white noise through a band-pass filter, periodic, its first slices again at the end."""
    white = torch.randn(CHANNELS, _CELLS, _CELLS, _CELLS, generator=torch.Generator().manual_seed(1))
    waves = torch.fft.fftfreq(_CELLS) * _PER_WAVE  # 1: one wave in the typical wavelength
    radius = (waves[:, None, None] ** 2 + waves[:, None] ** 2 + waves**2).sqrt()
    band = torch.exp(-((radius.clamp_min(1e-6).log2() / 0.7) ** 2))
    smooth = torch.fft.ifftn(torch.fft.fftn(white, dim=(1, 2, 3)) * band, dim=(1, 2, 3)).real
    smooth = smooth / smooth.std(dim=(1, 2, 3), keepdim=True) * 1.085  # interpolation between cells takes some off
    return functional.pad(smooth[None], (0, 1, 0, 1, 0, 1), mode="circular").to(device)
