"""What augmentation draws: one row of uniform numbers a sample, from its own seed.

Each kind reads its own columns of it: switching a kind off leaves what the others draw as it was.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# the share of samples that a kind touches; crop and roll touch all
_SHARES = {"flip": 0.5, "occlude": 0.25, "blur": 0.4, "tone": 1, "colour": 1, "grey": 0.1, "noise": 0.5, "jpeg": 0.5}
_SHARES |= {"cut": 0.4}

CELLS = 4  # an occluder's texture is a grid of that many colours a side, interpolated
TEXTURE = tuple(f"texture_{i}" for i in range(3 * CELLS**2))
_COLUMNS = (
    *("flip", "occlude", "blur", "tone", "colour", "grey", "noise", "jpeg"),
    *("scale", "right", "up", "roll"),
    *("place_x", "place_y", "axis_a", "axis_b", "turn", "shape", "edge", "contrast", *TEXTURE),
    *("lens", "sigma", "reduction", "stops", "gamma", "red", "green", "blue", "saturation"),
    *("read", "shot", "quality"),
    *("cut", "left_end", "right_end", "upper_end", "lower_end"),
)


@dataclass(frozen=True)
class Draws:
    """What samples drew: seeds int64 [B] on the CPU, and a table [B, columns] of uniform numbers in 0..1."""

    seeds: Tensor
    table: Tensor

    def __getitem__(self, column: str) -> Tensor:
        """One number a sample, [B, 1, 1, 1]."""
        return self.table[:, _COLUMNS.index(column)].view(-1, 1, 1, 1)

    def between(self, column: str, low: float, high: float) -> Tensor:
        """Uniform in low..high, [B, 1, 1, 1]."""
        return low + (high - low) * self[column]

    def log_between(self, column: str, low: float, high: float) -> Tensor:
        """Log-uniform in low..high, [B, 1, 1, 1]."""
        return low * (high / low) ** self[column]

    def touched(self, kind: str) -> Tensor:
        """Which samples a kind touches, bool [B]."""
        return self.table[:, _COLUMNS.index(kind)] < _SHARES[kind]

    def of(self, index: Tensor, device: torch.device) -> "Draws":
        """The draws of some samples (int64 [N] on the CPU), their table on ``device``."""
        return Draws(self.seeds[index], self.table[index].to(device))


Step = Callable[[Tensor, Draws], Tensor]


def draw(seeds: Tensor) -> Draws:
    """One row of uniform numbers for each seed, from a generator of its own; on the CPU, as its draws are the same
    on every machine.
    """
    table = torch.empty(len(seeds), len(_COLUMNS))
    generator = torch.Generator()
    for row, seed in zip(table, seeds.tolist(), strict=True):
        torch.rand(len(_COLUMNS), generator=generator.manual_seed(seed), out=row)
    return Draws(seeds.cpu(), table)


def on_touched(values: Tensor, draws: Draws, kind: str, step: Step) -> Tensor:
    """``values`` [B, ...] after ``step`` on the samples that ``kind`` touches; the others exactly as they were."""
    index = draws.touched(kind).nonzero()[:, 0]  # found on the CPU: a GPU need not be waited for
    if len(index) == 0:
        return values
    there = index.to(values.device)
    return values.index_copy(0, there, step(values.index_select(0, there), draws.of(index, values.device)))
