"""How D_cn joins normal features with structure features at each of its five levels (paper Table I and Sec. V-4).

`cat` is the paper's. Of its two alternatives the paper gives the sources alone (AdaIN: Huang and Belongie 2017;
feature modulation: Karras et al. 2020), not the wiring; `adain` and `fmm` are our reading, at the same five places.
A fusion has ``channels`` (of what it gives), ``share`` (what it can make of the structure features alone, once for
all refinements) and ``forward`` (normal features [B, N, h, w] and what was shared, to [B, channels, h, w]).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Cat(nn.Module):
    """Concatenated, the normal features first, as in eq. 3 (the release has them second at the deepest level)."""

    def __init__(self, normal: int, structure: int) -> None:
        super().__init__()
        self.channels = normal + structure

    def share(self, structure: Tensor) -> Tensor:
        return structure

    def forward(self, normal: Tensor, shared: Tensor) -> Tensor:
        return torch.cat([normal, shared], 1)


class AdaIN(nn.Module):
    """The structure features take on mean and deviation of the normal features' channels, then both concatenated.

    No parameters. Where there are fewer normal channels than structure channels (or more), the statistics are
    repeated (or thinned out) to fit.
    """

    def __init__(self, normal: int, structure: int) -> None:
        super().__init__()
        self.channels = normal + structure

    def share(self, structure: Tensor) -> Tensor:
        return F.instance_norm(structure)  # mean 0 and deviation 1 in every channel of every image

    def forward(self, normal: Tensor, shared: Tensor) -> Tensor:
        variance, mean = torch.var_mean(normal.float().flatten(2), 2, correction=0)  # [B, N] each
        scale, shift = (_fit(s, shared.shape[1]) for s in ((variance + 1e-5).sqrt(), mean))
        return torch.cat([normal, (shared * scale + shift).to(normal.dtype)], 1)


def _fit(statistics: Tensor, channels: int) -> Tensor:
    return F.interpolate(statistics[:, None], size=channels)[:, 0, :, None, None]  # [B, channels, 1, 1]


class FeatureModulation(nn.Module):
    """The normal features scaled and shifted, pixel by pixel, by what a 3x3 convolution reads in the structure."""

    def __init__(self, normal: int, structure: int) -> None:
        super().__init__()
        self.channels = normal
        self.modulate = nn.Conv2d(structure, 2 * normal, 3, 1, 1)

    def share(self, structure: Tensor) -> tuple[Tensor, Tensor]:
        structure = structure.to(self.modulate.weight.dtype)  # fused, the finest comes in float32
        scale, shift = self.modulate(structure).chunk(2, 1)
        return 1 + scale, shift

    def forward(self, normal: Tensor, shared: tuple[Tensor, Tensor]) -> Tensor:
        return torch.addcmul(shared[1], normal, shared[0])


FUSIONS: dict[str, Any] = {"cat": Cat, "adain": AdaIN, "fmm": FeatureModulation}
