"""Many portraits: rendered by as many processes as there are cores, one thread each, or by the GPU."""

import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from casfne.capture.lighting.environment import read_environments
from casfne.capture.optics.background import read_photographs
from casfne.capture.people.anny import open_head_model
from casfne.capture.portraits import Portraits, Setting, render
from casfne.capture.scene import Studio

TOGETHER = 8  # portraits of one piece of work: a process holds that many, about 0.5 GB at 256x256
TOGETHER_CUDA = 64


@dataclass(frozen=True)
class Order:
    """Portraits 0 to ``count - 1`` of the data set ``seed``; heads: names or files for `open_head_model`; without: as
    for `Studio`; photographs, environments: folders of what it has there."""

    heads: Sequence[str]
    seed: int
    count: int
    setting: Setting
    supersample: int = 2
    without: Sequence[str] = ()
    photographs: Path | None = None
    environments: Path | None = None

    def parts(self, together: int) -> list[range]:
        """Numbers of each piece of work."""
        return [range(i, min(i + together, self.count)) for i in range(0, self.count, together)]


def rendered(order: Order) -> Iterator[Portraits]:
    """The order's portraits in parts, numbers ascending, on the CPU; at most two parts a process are held."""
    if torch.cuda.is_available():
        works = _Works(order, "cuda")
        yield from (works.render(numbers).to("cpu") for numbers in order.parts(TOGETHER_CUDA))
        return
    here, parts = _Works(order, "cpu"), order.parts(TOGETHER)  # what is wrong with the order is said here
    processes = min(usable_cores(), len(parts))
    if processes == 1:
        yield from map(here.render, parts)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_open, initargs=(order,)) as pool:
        waiting: deque[Future[bytes]] = deque()
        for numbers in parts:
            if len(waiting) == 2 * processes:
                yield pickle.loads(waiting.popleft().result())
            waiting.append(pool.submit(_render, numbers))
        while waiting:
            yield pickle.loads(waiting.popleft().result())


def usable_cores() -> int:
    """Of this process: a container may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Works:
    """A studio that renders parts of an order."""

    def __init__(self, order: Order, device: str) -> None:
        self.order = order
        models = [open_head_model(name).to(device) for name in order.heads]
        photographs = read_photographs(order.photographs).to(device) if order.photographs else None
        environments = read_environments(order.environments).to(device) if order.environments else None
        self.studio = Studio(models, order.without, photographs, environments)

    def render(self, numbers: range) -> Portraits:
        order = self.order
        return render(self.studio, order.seed, numbers, order.setting, order.supersample)


_works: _Works | None = None  # of a worker process


def _open(order: Order) -> None:
    global _works
    torch.set_num_threads(1)
    _works = _Works(order, "cpu")


def _render(numbers: range) -> bytes:
    """Pickled here: torch would send tensors through files in shared memory, of which there may be few."""
    assert _works is not None
    return pickle.dumps(_works.render(numbers))
