"""Images and their truth as batches, in an order that depends on the seed and the step alone.

A source gives stored batches: image uint8 [B, 3, S, S] (sRGB), normal float16 [B, 3, S, S] (frame opengl), mask bool
and trust uint8 (trust times 255) [B, 1, S, S], and seed int64 [B] on the CPU: the seeds that they were asked for with.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from casfne.config import Step
from casfne.corpora.samples import read_stored
from casfne.training.augment import Batch, unit


class Request(NamedTuple):
    """An image to be had: its row, the seed of its augmentation, and the size at which a step will use it."""

    row: int
    seed: int
    size: int


class Source(Protocol):
    """Where images come from."""

    prepares_on: torch.device  # where its batches lie

    def __len__(self) -> int: ...

    def __getitems__(self, requests: Sequence[Request]) -> Batch: ...


class Samples:
    """Images of sample archives, as large as they are stored."""

    prepares_on = torch.device("cpu")

    def __init__(self, root: Path | str, rows: Sequence[tuple[str, int]]) -> None:
        self.root, self.rows = root, rows  # archive and light of each image

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, request: Request) -> Batch:
        stored = read_stored(self.root, *self.rows[request.row])
        maps = {name: torch.from_numpy(stored[name]).movedim(-1, 0) for name in ("image", "normal")}
        flat = {name: torch.from_numpy(stored[name])[None] for name in ("mask", "trust")}
        return maps | flat | {"seed": torch.tensor(request.seed)}

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        return default_collate([self[request] for request in requests])


def unpack(batch: Batch, device: torch.device) -> Batch:
    """Stored values as float32 on ``device``: image [B, 3, S, S] in 0..1 (sRGB), unit normal [B, 3, S, S],
    mask and trust [B, 1, S, S] in 0..1."""
    there = {name: values.to(device, non_blocking=True) for name, values in batch.items() if name != "seed"}
    return {
        "image": there["image"].float() / 255,
        "normal": unit(there["normal"].float()),
        "mask": there["mask"].float(),
        "trust": there["trust"].float() / 255,
    }


class Order(Sampler[list[Request]]):
    """The batches of a schedule from ``start`` on. A step draws from (seed, step): resuming changes nothing.

    Of ``world`` processes that train together, number ``rank`` gets every world-th image of each batch.
    """

    def __init__(
        self, rows: int, schedule: tuple[Step, ...], seed: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.rows, self.seed, self.start, self.rank, self.world = rows, seed, start, rank, world
        self.batches = [part.batch for part in schedule for _ in range(part.steps)]
        self.sizes = [part.size for part in schedule for _ in range(part.steps)]

    def __iter__(self) -> Iterator[list[Request]]:
        return (self._draw(step)[self.rank :: self.world] for step in range(self.start, len(self.batches)))

    def __len__(self) -> int:
        return len(self.batches) - self.start

    def _draw(self, step: int) -> list[Request]:
        size = self.batches[step]
        draws = np.random.default_rng((self.seed, step))
        chosen = draws.choice(self.rows, size, replace=size > self.rows)
        seeds = draws.integers(0, 2**31, size)
        return [Request(row, seed, self.sizes[step]) for row, seed in zip(chosen.tolist(), seeds.tolist(), strict=True)]


def loader(source: Source, order: Order, workers: int) -> DataLoader[Batch]:
    """Batches in ``order``, prepared by ``workers`` processes (0: in this one)."""
    pin = torch.cuda.is_available() and source.prepares_on.type == "cpu"
    dataset = cast("Dataset[Batch]", source)  # torch asks a data set for no more than a source has
    return DataLoader(dataset, batch_sampler=order, num_workers=workers, collate_fn=_as_it_is, pin_memory=pin)


def _as_it_is(batch: Any) -> Any:
    return batch
