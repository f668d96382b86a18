"""Labelling end to end against the bare model, in one run, on the same pictures at the same precision."""

import tempfile
import time
from pathlib import Path

import numpy as np

import casfne
from benchmarks import Result
from casfne.corpora.record import Photo
from casfne.images import SIZE, encode_image, read_image
from casfne.labelling import fleet
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import save_weights

COUNT, BATCH, SHARD = 512, 8, 32
POINTS = np.array([[90, 100], [166, 100], [128, 140], [98, 180], [158, 180]], float)


def run() -> list[Result]:
    """Rates in images/s and their ratio. What happens once is left out: the clock runs from the first shard on."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = folder / "bench.safetensors"
        save_weights(weights, Cascade(CascadeConfig()), {})
        photos = make_photos(folder / "photos", COUNT)
        bare = bare_rate(weights, photos)
        start_up, rate = label_rate(photos, folder / "labels", weights)
    setting = f"F = 32, T = 2, {SIZE}x{SIZE} JPEGs with landmarks, batch {BATCH}"
    return [
        Result("label_images_per_s", rate, "images/s", f"read, crop, predict, encode, write on Ray; {setting}"),
        Result("model_images_per_s", bare, "images/s", f"the predictor alone on decoded crops; {setting}"),
        Result("label_vs_model", rate / bare, "ratio", "label_images_per_s / model_images_per_s; start-up excluded"),
        Result("label_start_up_s", start_up, "s", f"start of Ray and the model, and the first {SHARD} images"),
    ]


def make_photos(folder: Path, count: int) -> list[Photo]:
    """JPEGs of a noisy blob under different lights, with face points."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    photos = []
    for i in range(count):
        a, b = rng.uniform(-0.5, 0.5, 2)
        grey = np.clip(1 - (x - a) ** 2 - (y - b) ** 2, 0, 1)[..., None] * rng.uniform(0.5, 1, 3)
        picture = np.clip(grey * 255 + rng.normal(0, 4, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
        path = folder / f"{i:06d}.jpg"
        path.write_bytes(encode_image(picture, ".jpg"))
        photos.append(Photo("bench", path.stem, str(path), POINTS))
    return photos


def bare_rate(weights: Path, photos: list[Photo]) -> float:
    """Images/s of the predictor alone, after a warm-up."""
    predictor = casfne.load(weights)
    crops = np.stack([read_image(p.path) for p in photos[: 20 * BATCH]])
    batches = [crops[i : i + BATCH] for i in range(0, len(crops), BATCH)]
    predictor.predict_stages(batches[0])
    start = time.perf_counter()
    for batch in batches:
        predictor.predict_stages(batch)
    return len(crops) / (time.perf_counter() - start)


def label_rate(photos: list[Photo], out: Path, weights: Path) -> tuple[float, float]:
    """Seconds until the first shard was there, and images/s from then to the end."""
    ticks = [(0, time.perf_counter())]

    def tick(done: int, _: int) -> None:
        ticks.append((done, time.perf_counter()))

    summary = fleet.run(photos, out, weights, shard_rows=SHARD, batch=BATCH, progress=tick)
    if summary.statuses["ok"] != len(photos):
        raise RuntimeError(f"{summary.statuses} of {len(photos)} photos")
    (first, began), (last, ended) = next(t for t in ticks if t[0]), ticks[-1]
    return began - ticks[0][1], (last - first) / (ended - began)
