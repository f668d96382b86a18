"""Photometric stereo: its speed against a loop over pixels, and the memory that large captures take.

`python -m benchmarks.stereo` prints the speeds; `--memory` solves 64 pictures of 12 megapixels, grey and in colour,
each in a process of its own, and prints the most memory that it took, pictures and results included.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import Result
from casfne.model.timing import machine, timings
from casfne.normals import direction, sphere
from casfne.stereo.solvers import registry
from casfne.stereo.solvers.base import Rays
from casfne.stereo.solvers.registry import DEFAULT
from casfne.stereo.surface import Settings, solve_images

FEW, MANY = 4, 64  # lights: a Photoface session's, and a Yale B person's
SIZE, LOOPED, ROUNDS = 400, 2_000, 5
HEIGHT, WIDTH = 3000, 4000  # of the large pictures
LIMIT_GB = 4.0


def run() -> list[Result]:
    """How much faster than a loop least squares is, and the rates of the robust solver and of the defaults."""
    few, many = rays(FEW), rays(MANY)
    pictures, directions = capture(MANY)
    tasks = {
        "least squares": lambda: registry.run("least-squares", few),
        "loop": lambda: loop(few),
        "robust": lambda: registry.run("cauchy", many),
        "default, few": lambda: registry.run(DEFAULT, few),
        "default, many": lambda: registry.run(DEFAULT, many),
        "whole": lambda: solve_images(pictures, directions, Settings("cauchy"), 255),
    }
    with torch.inference_mode():
        best = {name: min(seconds) for name, seconds in timings(tasks, ROUNDS).items()}
    rate = {name: taken.signal.numel() / best[name] / 1e6 for name, taken in _timed(few, many).items()}
    threads = f"{torch.get_num_threads()} threads"
    pixels = f"{few.signal.shape[1]:,} pixels"
    unit = "megapixel-lights/s"
    return [
        Result(
            "stereo_vs_lstsq_loop",
            best["loop"] / LOOPED * few.signal.shape[1] / best["least squares"],
            "ratio",
            f"least squares to numpy.linalg.lstsq pixel by pixel ({LOOPED:,} of them, scaled); {FEW} lights, {pixels}",
        ),
        Result("stereo_robust_mpix_lights_per_s", rate["robust"], unit, f"cauchy, {MANY} lights, {pixels}, {threads}"),
        Result(
            "stereo_whole_mpix_lights_per_s", rate["whole"], unit, f"the same from grey 8-bit pictures on; {threads}"
        ),
        Result("stereo_default_few_mpix_lights_per_s", rate["default, few"], unit, f"{DEFAULT}, {FEW} lights"),
        Result("stereo_default_many_mpix_lights_per_s", rate["default, many"], unit, f"{DEFAULT}, {MANY} lights"),
    ]


def _timed(few: Rays, many: Rays) -> dict[str, Rays]:
    return {"robust": many, "default, few": few, "default, many": many, "whole": many}


def capture(count: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Noisy pictures [L, 400, 400] of a matte ball, and their lights [L, 3]."""
    random = np.random.default_rng(0)
    lights = direction(random.uniform(-60, 60, count), random.uniform(-40, 40, count))
    shading = np.maximum(np.einsum("hwc,lc->lhw", sphere(SIZE)[0], lights), 0)
    noisy = 0.8 * shading + random.normal(0, 0.01, shading.shape)
    return np.rint(noisy.clip(0, 1) * 255).astype(np.uint8), lights


def rays(count: int) -> Rays:
    """The same as solvers take it."""
    pictures, lights = capture(count)
    signal = torch.from_numpy(pictures.astype(np.float32) / 255).flatten(1)
    return Rays(signal, torch.from_numpy(lights), signal > 0.03)


def loop(few: Rays) -> None:
    """Least squares of ``LOOPED`` pixels, one after the other."""
    lights, signal = few.lights.numpy(), few.signal.numpy()
    for pixel in range(LOOPED):
        np.linalg.lstsq(lights, signal[:, pixel], rcond=None)


# --- memory ---


def large(colours: int) -> None:
    """Solve 64 large pictures of a ball, and print seconds and the process's peak of resident memory."""
    random = np.random.default_rng(0)
    lights = direction(random.uniform(-60, 60, MANY), random.uniform(-40, 40, MANY))
    ball = sphere(HEIGHT)[0]
    images = np.empty((MANY, HEIGHT, WIDTH, colours), np.uint8)
    for light, image in zip(lights, images, strict=True):
        image[:] = 0
        image[:, :HEIGHT] = (200 * np.maximum(ball @ light, 0)).astype(np.uint8)[..., None]
        image[..., 1:] //= 2  # a reddish ball
    del ball
    start = time.perf_counter()
    surface = solve_images(images, lights, white=255)
    seconds = time.perf_counter() - start
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    own = sum(v.nbytes for v in (images, *(p for p in vars(surface).values() if isinstance(p, np.ndarray)))) / 2**30
    print(
        f"{MANY} pictures of {HEIGHT * WIDTH / 1e6:.0f} megapixels, {colours} colour(s): peak {peak_gb:.2f} GiB"
        f" (pictures and results {own:.2f}), {seconds:.0f} s, {surface.mask.mean():.2f} solved"
    )
    if peak_gb > LIMIT_GB:
        sys.exit(f"more than {LIMIT_GB} GiB")


def main() -> None:
    """The command; exits with 1 where large captures take too much memory."""
    parser = argparse.ArgumentParser(description="Speed of photometric stereo, or the memory of large captures.")
    parser.add_argument("--memory", action="store_true", help="solve 64 pictures of 12 megapixels, grey and in colour")
    parser.add_argument("--large", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.large:
        large(arguments.large)
    elif arguments.memory:
        for colours in (1, 3):
            subprocess.run([sys.executable, "-m", "benchmarks.stereo", "--large", str(colours)], check=True)
    else:
        for result in run():
            print(f"{result.name:40s} {result.value:10.2f} {result.unit:20s} {result.what}")
        print(machine())


if __name__ == "__main__":
    main()
