"""The discriminator of the adversarial term (paper eq. 7), as released."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Discriminator(nn.Module):
    """Normals [B, 3, H, W] to a map of logits: high where they look like measured normals."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 64, 128, 256, 512)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(channels))
        self.norm = nn.ModuleList(nn.InstanceNorm2d(c) for c in channels[2:])
        self.head = nn.Conv2d(channels[-1], 1, 4, 1, 1)

    def forward(self, normals: Tensor) -> Tensor:
        x = F.leaky_relu(self.down[0](normals), 0.2)
        for convolution, norm in zip(list(self.down)[1:], self.norm, strict=True):
            x = F.leaky_relu(norm(convolution(x)), 0.2)
        return self.head(F.pad(x, (1, 0, 1, 0)))  # zero padding left and top keeps the map's size
