"""`casfne compare`: 1,000 samples of 256x256 against one method's arrays, every pixel in the mask; seconds and memory.

Files are fifty, each under twenty names, in a temporary folder. `python -m benchmarks.evaluation` runs this alone.
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks import Result
from casfne.corpora.samples import write_archive, write_index
from casfne.evaluation.compare import Method, compare
from casfne.files import write_array
from casfne.normals import normalise

IMAGES, FILES, SIZE = 1000, 50, 256
T = TypeVar("T")


def run() -> list[Result]:
    """What `measure` does, in a process of its own."""
    return alone(measure)


def alone(task: Callable[[], T]) -> T:
    """What ``task`` gives in a process whose peak of memory is its own; a spawned one would begin with its parent's."""
    with ProcessPoolExecutor(1, get_context("forkserver")) as process:
        return process.submit(task).result()


def measure() -> list[Result]:
    """Wall time, processor time, and how much this process grew."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_samples(root / "samples", root / "predictions")
        before, start, used = memory_mb(), time.perf_counter(), time.process_time()
        result = compare(root / "samples", [Method("m", root / "predictions")], root / "board")["m"]
        seconds, used = time.perf_counter() - start, time.process_time() - used
    what = f"{result['by_pixel']['images']} images of {SIZE}x{SIZE}, {result['by_pixel']['pixels'] / 1e6:.1f} M pixels"
    return [
        Result("compare_1000_s", seconds, "s", f"{what}; the bar is 20 s"),
        Result("compare_1000_cpu_s", used, "s", f"{what}, time of all processors"),
        Result("compare_1000_mb", memory_mb() - before, "MB", f"{what}, growth of the process at most"),
    ]


def write_samples(samples: Path, predictions: Path) -> None:
    """An index of ``IMAGES`` rows with its archives, and as many predictions, some 10 degrees off."""
    random, rows = np.random.default_rng(0), []
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    normal = normalise(np.stack([x, -y, np.ones_like(x)], -1))
    whole = np.ones((SIZE, SIZE))
    for i in range(FILES):
        images = random.integers(0, 255, (1, SIZE, SIZE, 3), np.uint8)
        write_archive(samples / f"{i}.npz", images, {"normal": normal, "mask": whole, "trust": whole, "albedo": whole})
        write_array(predictions / f"{i}_0.npy", normalise(normal + random.normal(0, 0.12, normal.shape)))
        for k in range(IMAGES // FILES):
            about = {
                "archive": f"{i}.npz",
                "light": 0,
                "subject": f"{i}",
                "light_azimuth_deg": 5.0 * k - 50,
                "pose": "1",
            }
            rows.append({"sample_id": f"{i}_{k}", **about})
            if k:
                os.link(predictions / f"{i}_0.npy", predictions / f"{i}_{k}.npy")
    write_index(samples, rows)


def memory_mb() -> float:
    """The most that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    for result in run():
        print(f"{result.name} {result.value:.4g} {result.unit}: {result.what}")
