"""Samples as batches, in an order that depends on the seed and the step alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from casfne.config import Step
from casfne.corpora.samples import read_stored
from casfne.training.augment import Batch, unit

Request = tuple[int, int]  # row, and the seed of its augmentation


class Samples(Dataset[Batch]):
    """Images of sample archives as they are stored, channels first, and the seed they are asked for with."""

    def __init__(self, root: Path | str, rows: Sequence[tuple[str, int]]) -> None:
        self.root, self.rows = root, rows  # archive and light of each image

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, request: Request) -> Batch:
        row, seed = request
        stored = read_stored(self.root, *self.rows[row])
        maps = {name: torch.from_numpy(stored[name]).movedim(-1, 0) for name in ("image", "normal")}
        flat = {name: torch.from_numpy(stored[name])[None] for name in ("mask", "trust")}
        return maps | flat | {"seed": torch.tensor(seed)}


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

    def __iter__(self) -> Iterator[list[Request]]:
        return (self._draw(step)[self.rank :: self.world] for step in range(self.start, len(self.batches)))

    def __len__(self) -> int:
        return len(self.batches) - self.start

    def _draw(self, step: int) -> list[Request]:
        size = self.batches[step]
        draws = np.random.default_rng((self.seed, step))
        chosen = draws.choice(self.rows, size, replace=size > self.rows)
        seeds = draws.integers(0, 2**31, size)
        return list(zip(chosen.tolist(), seeds.tolist(), strict=True))


def loader(samples: Samples, order: Order, workers: int) -> DataLoader[Batch]:
    """Batches in ``order``, prepared by ``workers`` processes (0: in this one)."""
    return DataLoader(samples, batch_sampler=order, num_workers=workers, pin_memory=torch.cuda.is_available())
