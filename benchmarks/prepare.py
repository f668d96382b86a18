"""Stage prepare: sessions a second at 640x480, as users get them: read, solved, cropped, written, on every processor.

The sessions are of a plain surface (an oval with a nose, matte, with noise) and lie in a temporary folder.
`python -m benchmarks.prepare` runs this alone.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import Result
from casfne.capture.photoface import light_source_text
from casfne.corpora import fleet, sessions
from casfne.corpora.photoface import Settings
from casfne.images import to_uint8, write_image
from casfne.normals import direction_from_zenith, normalise

WHOLE = 3187  # sessions of the real database
HEIGHT, WIDTH = 480, 640
ANGLES_DEG = np.array([[35.0, 45], [40, 135], [35, 225], [30, 315]])  # zenith and azimuth of the four lights
SETTINGS = Settings(shadow=0.03, saturation=0.98)
# metadata.txt's points on that surface, from the face's middle, in its half height
POINTS = (
    *((-0.5, -0.2), (-0.2, -0.2), (0, -0.7), (0.2, -0.2), (0.5, -0.2)),
    *((-0.12, 0.15), (0, 0.12), (0.12, 0.15), (-0.25, 0.45), (0.25, 0.45), (0, 0.9)),
)


def run() -> list[Result]:
    """The rate once every process is at work, and how long the whole database would take, with the start."""
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "sessions", Path(folder) / "samples"
        workers = fleet.processors()
        write_sessions(root, fleet.SMALL * workers)
        tasks = sessions.plan(root, out, Path(folder) / "truth", SETTINGS).tasks
        start, ends = time.perf_counter(), []
        outcomes = fleet.run(tasks, progress=lambda done, total: ends.append(time.perf_counter() - start))
    if failed := [outcome.reason for outcome in outcomes if outcome.reason]:
        raise RuntimeError(f"{len(failed)} sessions failed, the first: {failed[0]}")
    first, last = ends[workers], ends[-1]  # ends[0] is before any; each process has one behind it at `first`
    rate = (len(tasks) - workers) / (last - first)
    what = f"{WIDTH}x{HEIGHT}, four lights, {workers} processes"
    return [
        Result("prepare_sessions_per_s", rate, "1/s", f"{what}, {len(tasks)} sessions, without the start"),
        Result(
            "prepare_photoface_minutes", (first + WHOLE / rate) / 60, "min", f"{WHOLE:,} sessions of {what}, projected"
        ),
    ]


def write_sessions(root: Path, count: int) -> None:
    """``count`` sessions, of one person each; all have the same pictures."""
    normals, albedo = surface()
    random = np.random.default_rng(0)
    shading = np.maximum(np.moveaxis(normals @ direction_from_zenith(*ANGLES_DEG.T).T, -1, 0), 0)  # [4, H, W]
    linear = shading[..., None] * albedo * np.array([1.0, 0.7, 0.6])
    pictures = [to_uint8(picture + random.normal(0, 0.004, picture.shape)) for picture in linear]
    points = np.array(POINTS) * 0.4 * HEIGHT + [WIDTH / 2, HEIGHT / 2]
    for i in range(count):
        folder = root / f"{i:04d}" / "2008-03-03_09-00-00"
        folder.mkdir(parents=True)
        for light, picture in enumerate(pictures):
            write_image(folder / f"im{light}.bmp", picture)
        (folder / "LightSource.m").write_text(light_source_text(ANGLES_DEG))
        (folder / "metadata.txt").write_text("".join(f"{x:.2f} {y:.2f}\n" for x, y in points))
        (folder / "metadataII.txt").write_text("female,no,none,1,ok,,blankstare\n")


def surface() -> tuple[np.ndarray, np.ndarray]:
    """Normals [H, W, 3] of an oval with a nose before nothing, and its albedo [H, W, 1], 0 around it."""
    x, y = np.meshgrid(np.arange(WIDTH) - WIDTH / 2, HEIGHT / 2 - np.arange(HEIGHT))
    x, y = x / (0.4 * HEIGHT), y / (0.4 * HEIGHT)
    inside = (x / 0.75) ** 2 + y**2 < 1
    height = 0.8 * np.sqrt(np.maximum(1 - (x / 0.8) ** 2 - (y / 1.05) ** 2, 0))
    height += 0.22 * np.exp(-((x / 0.13) ** 2) - ((y + 0.05) / 0.22) ** 2)
    down, right = np.gradient(height, 1 / (0.4 * HEIGHT))
    albedo = inside * (0.7 + 0.1 * np.sin(9 * x) * np.sin(7 * y))
    return normalise(np.stack([-right, down, np.ones_like(x)], -1)), albedo[..., None]


if __name__ == "__main__":
    for result in run():
        print(f"{result.name} {result.value:.4g} {result.unit}: {result.what}")
