"""Supersampling for edges: visibility is found on a finer grid, shading once for each part that a pixel sees."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from casfne.capture.optics.raster import Hits

_STEPS = 3600  # of a pixel's cover: whole numbers for pixels cut in 1 to 6, 10, 12 or 15 a side


@dataclass(frozen=True)
class Fragments:
    """What pixels of B pictures of H x W see of each part of a scene; M fragments from the N hits of a finer grid.

    sample, pixel (row * W + column) and part int64 [M]; share float32 [M]: how much of the pixel it covers;
    first int64 [M]: one of its hits; owner int64 [N]: the fragment of each hit.
    """

    sample: Tensor
    pixel: Tensor
    part: Tensor
    share: Tensor
    first: Tensor
    owner: Tensor
    size: tuple[int, int, int]

    def mean(self, values: Tensor) -> Tensor:
        """Mean over each fragment's hits of ``values`` [N, C], [M, C]."""
        if len(self.first) == len(self.owner):
            return values[self.first]
        total = values.new_zeros(len(self.first), values.shape[-1]).index_add_(0, self.owner, values)
        count = torch.bincount(self.owner, minlength=len(self.first))
        return total / count[:, None]

    def picture(self, values: Tensor) -> Tensor:
        """Sum over each pixel's fragments of share times ``values`` [M, C], [B, C, H, W]."""
        batch, height, width = self.size
        flat = values.new_zeros(batch * height * width, values.shape[-1])
        flat.index_add_(0, self.place, values * self.share[:, None])
        return flat.view(batch, height, width, -1).permute(0, 3, 1, 2)

    @cached_property
    def largest(self) -> Tensor:
        """Of each pixel the fragment that covers most of it (the first of equals), int64 [B, H, W]; -1 where nothing
        does, or less than what is left free."""
        order = torch.arange(len(self.first), device=self.first.device)
        steps = (self.share * _STEPS).round().long()
        best = steps.new_full((self.size[0] * self.size[1] * self.size[2],), -1)
        best.scatter_reduce_(0, self.place, (steps << 40) + (2**40 - 1 - order), "amax")
        free = torch.full_like(best, _STEPS).index_add_(0, self.place, -steps)
        hidden = (best < 0) | (free > (best >> 40))
        return torch.where(hidden, -1, 2**40 - 1 - (best & (2**40 - 1))).view(self.size)

    def front(self, values: Tensor) -> Tensor:
        """``values`` [M, C] of each pixel's largest fragment, zero where `largest` has none, [B, C, H, W]."""
        chosen = self.largest
        chosen = chosen[chosen >= 0]
        batch, height, width = self.size
        flat = values.new_zeros(batch * height * width, values.shape[-1])
        flat.index_copy_(0, self.place[chosen], values[chosen])
        return flat.view(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()

    @cached_property
    def place(self) -> Tensor:
        """The pixel's number within the batch, int64 [M]."""
        return self.sample * (self.size[1] * self.size[2]) + self.pixel


def gather(hits: Hits, part_of_triangle: Tensor, times: int) -> Fragments:
    """The fragments of a picture whose pixels were cut in ``times`` by ``times``; ``part_of_triangle`` int64 [T]."""
    batch, height, width = hits.size
    if times < 1 or height % times or width % times:
        raise ValueError(f"expected a picture whose sides are multiples of {times}, got {height} x {width}")
    size = (batch, height // times, width // times)
    part = part_of_triangle[hits.triangle]
    if times == 1:
        index = torch.arange(len(part), device=part.device)
        return Fragments(hits.sample, hits.pixel, part, torch.ones_like(hits.nearness), index, index, size)
    slot = _slots(hits, times)  # [N]: coarse pixel * K + place within it
    cells = part.new_full((batch * size[1] * size[2] * times**2,), -1)
    cells[slot] = part
    leader = _leaders(cells.view(-1, times**2))
    mine = leader[slot]  # the slot that stands for each hit
    counts = torch.bincount(mine, minlength=len(cells))
    slots = counts.nonzero()[:, 0]
    number = torch.empty_like(counts)
    number[slots] = torch.arange(len(slots), device=part.device)
    hit_at = torch.empty_like(cells)
    hit_at[slot] = torch.arange(len(part), device=part.device)
    place = slots // times**2
    return Fragments(
        sample=place // (size[1] * size[2]),
        pixel=place % (size[1] * size[2]),
        part=cells[slots],
        share=counts[slots].float() / times**2,
        first=hit_at[slots],
        owner=number[mine],
        size=size,
    )


def _slots(hits: Hits, times: int) -> Tensor:
    _, height, width = hits.size
    row, column = hits.pixel // width, hits.pixel % width
    coarse = (hits.sample * (height // times) + row // times) * (width // times) + column // times
    return coarse * times**2 + row % times * times + column % times


def _leaders(cells: Tensor) -> Tensor:
    """For each of the K places of each pixel [P, K] the slot number of the first place with the same part; [P * K]."""
    count = cells.shape[1]
    first = torch.stack([(cells == cells[:, k, None]).to(torch.uint8).argmax(1) for k in range(count)], 1)
    return (first + torch.arange(len(cells), device=cells.device)[:, None] * count).flatten()
