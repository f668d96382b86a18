"""Three of the cascade's four networks (paper Fig. 2): D_n, E_cn and D_cn; `casfne.model.encoders` has E_f.

Feature pyramids are lists from fine to coarse: index 0 at 1/2 of the picture, index 4 at 1/32; ``channels`` are those
of E_f's.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from casfne.model.fusion import FUSIONS


class InitialDecoder(nn.Module):
    """D_n: five transposed convolutions with skips from E_f, then the head (paper eq. 4). Gives raw [B, 3, H, W].

    The head is 3x3, as released; the paper writes 1x1.
    """

    def __init__(self, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        coarse_to_fine = channels[::-1]
        inputs = [coarse_to_fine[0], *(width + c for c in coarse_to_fine[1:])]
        self.up = nn.ModuleList(nn.ConvTranspose2d(c, width, 4, 2, 1) for c in inputs)
        self.norm = nn.ModuleList(nn.BatchNorm2d(width) for _ in inputs)
        self.head = nn.ConvTranspose2d(width, 3, 3, 1, 1)

    def forward(self, structure: list[Tensor]) -> Tensor:
        """E_f's features, fine to coarse, to raw normals [B, 3, H, W]: before tanh and unit length."""
        x = self.norm[0](self.up[0](structure[4]))  # [B, F, H/16, W/16]
        for i, skip in enumerate(structure[3::-1], start=1):
            x = self.norm[i](self.up[i](F.relu(torch.cat([x, skip], 1))))
        return self.head(x)


class NormalEncoder(nn.Module):
    """E_cn: the previous stage's normals [B, 3, H, W] to normal features z [B, 8F, H/32, W/32]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(channels))
        self.norm = nn.ModuleList(nn.BatchNorm2d(c) for c in channels[2:5])  # the middle three only

    def forward(self, normals: Tensor) -> Tensor:
        """Unit normals [B, 3, H, W], frame opengl, H and W multiples of 32, to z [B, 8F, H/32, W/32], unbounded."""
        x = self.down[0](normals)
        for i in range(1, 5):
            x = self.down[i](F.leaky_relu_(x, 0.2))
            if i < 4:
                x = self.norm[i - 1](x)
        return x


class RefinementDecoder(nn.Module):
    """D_cn: z and the structure features, fused at every level, to the next normals (paper eq. 3), raw [B, 3, H, W]."""

    def __init__(self, width: int, fusion: str, channels: Sequence[int]) -> None:
        super().__init__()
        outputs = (8 * width, 4 * width, 2 * width, 2 * width)
        normal_channels = (8 * width, *outputs)
        fusions = [FUSIONS[fusion](n, s) for n, s in zip(normal_channels, channels[::-1], strict=True)]
        inputs = [fuse.channels for fuse in fusions]
        self.fuse: Any = nn.ModuleList(fusions)
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 4, 2, 1) for i, o in zip(inputs, (*outputs, 3), strict=True))
        self.norm = nn.ModuleList(nn.BatchNorm2d(o) for o in outputs)

    def share(self, structure: list[Tensor]) -> list[Any]:
        """What every refinement takes from E_f's features (fine to coarse), coarse to fine: computed once an image."""
        return [fuse.share(s) for fuse, s in zip(self.fuse, structure[::-1], strict=True)]

    def forward(self, shared: list[Any], z: Tensor) -> Tensor:
        """What `share` gave, and z, to raw normals."""
        x = z
        for i, up in enumerate(self.up):
            x = up(F.relu(self.fuse[i](x, shared[i])))
            if i < len(self.norm):
                x = self.norm[i](x)
        return x
