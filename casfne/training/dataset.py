"""Samples as tensors, in an order and with augmentation that depend on the seed and the step alone."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from casfne.config import Step
from casfne.corpora.samples import Sample, read_sample
from casfne.images import SIZE
from casfne.normals import normalise

Batch = dict[str, Tensor]


class Samples(Dataset[Batch]):
    """Rows of the index as image [3, S, S] in 0..1, normal [3, S, S], mask and trust [1, S, S], float32.

    Asked for by (row, size, seed): a seed of None gives the sample as it is, any other augments it.
    """

    def __init__(self, root: Path | str, rows: pd.DataFrame) -> None:
        self.root = root
        self.rows = list(zip(rows["archive"], rows["light"], strict=True))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, request: tuple[int, int, int | None]) -> Batch:
        row, size, seed = request
        sample = read_sample(self.root, *self.rows[row])
        if seed is not None:
            sample = augment(sample, np.random.default_rng(seed))
        return to_tensors(sample, size)


def augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """Mirrored half of the time (x of the normals changes sign); exposure, gamma and colour shifted."""
    image = sample.image
    normal, mask, trust = sample.normal, sample.mask, sample.trust
    if rng.random() < 0.5:
        image, mask, trust = image[:, ::-1], mask[:, ::-1], trust[:, ::-1]
        normal = normal[:, ::-1] * np.array([-1, 1, 1], np.float32)
    tone = np.linspace(0, 1, 256) ** rng.uniform(0.7, 1.4) * rng.uniform(0.7, 1.3)
    gains = rng.uniform(0.9, 1.1, 3)
    table = np.rint(np.clip(tone[:, None] * gains, 0, 1) * 255).astype(np.uint8)
    return Sample(np.stack([table[:, c][image[..., c]] for c in range(3)], -1), normal, mask, trust)


def to_tensors(sample: Sample, size: int) -> Batch:
    """A sample at ``size`` pixels: averaged down, normals made unit again; the mask where it was whole."""

    def shrink(array: NDArray) -> NDArray:
        values = np.ascontiguousarray(array, np.float32)
        return values if size == SIZE else cv2.resize(values, (size, size), interpolation=cv2.INTER_AREA)

    mask = shrink(sample.mask) > 0.99
    normal = normalise(shrink(sample.normal * sample.mask[..., None]))
    return {
        "image": torch.from_numpy(shrink(sample.image) / np.float32(255)).permute(2, 0, 1),
        "normal": torch.from_numpy(normal).permute(2, 0, 1),
        "mask": torch.from_numpy(mask[None].astype(np.float32)),
        "trust": torch.from_numpy(shrink(sample.trust)[None]),
    }


class Order(Sampler[list[tuple[int, int, int | None]]]):
    """The batches of a schedule from ``start`` on. A step draws from (seed, step): resuming changes nothing."""

    def __init__(self, rows: int, schedule: tuple[Step, ...], seed: int, start: int = 0) -> None:
        self.rows, self.schedule, self.seed, self.start = rows, schedule, seed, start

    def __iter__(self) -> Iterator[list[tuple[int, int, int | None]]]:
        step = 0
        for part in self.schedule:
            for _ in range(part.steps):
                if step >= self.start:
                    yield self._draw(step, part)
                step += 1

    def __len__(self) -> int:
        return sum(part.steps for part in self.schedule) - self.start

    def _draw(self, step: int, part: Step) -> list[tuple[int, int, int | None]]:
        rng = np.random.default_rng((self.seed, step))
        chosen = rng.choice(self.rows, part.batch, replace=part.batch > self.rows)
        seeds = rng.integers(0, 2**31, part.batch)
        return [(int(row), part.size, int(seed)) for row, seed in zip(chosen, seeds, strict=True)]


def loader(samples: Samples, order: Order, workers: int) -> DataLoader[Batch]:
    """Batches in ``order``, prepared by ``workers`` processes (0: in this one)."""
    return DataLoader(samples, batch_sampler=order, num_workers=workers, pin_memory=torch.cuda.is_available())
