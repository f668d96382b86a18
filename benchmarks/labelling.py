"""Labelling end to end against the bare model and against the authors' manner, in one run, on the same pictures."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

import casfne
from benchmarks import Result
from casfne import normals
from casfne.corpora.record import Photo
from casfne.images import SIZE, encode_image, read_image
from casfne.labelling import fleet
from casfne.labelling.progress import Progress
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import load_weights, save_weights

COUNT, BATCH, SHARD = 2000, 8, 64
SOME = 256  # of the photos, for the slower loops: before and after the fleet, half each
POINTS = np.array([[90, 100], [166, 100], [128, 140], [98, 180], [158, 180]], float)


def run() -> list[Result]:
    """Rates in images/s and their ratios. What happens once is left out: the clock runs from a quarter of the images
    on, when no worker starts any more and what piled up while they did is done."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = folder / "bench.safetensors"
        save_weights(weights, Cascade(CascadeConfig()), {})
        photos = make_photos(folder / "photos", COUNT)
        first, second = photos[: SOME // 2], photos[-SOME // 2 :]
        seconds = {"bare": bare_seconds(weights, first), "authors": authors_seconds(weights, first, folder / "png")}
        start_up, rate = label_rate(photos, folder / "labels", weights)
        seconds["bare"] += bare_seconds(weights, second)
        seconds["authors"] += authors_seconds(weights, second, folder / "png")
    bare, authors = (SOME / seconds[name] for name in ("bare", "authors"))
    setting = f"F = 32, T = 2, {SIZE}x{SIZE} JPEGs with landmarks, batch {BATCH}"
    manner = f"DataLoader with 2 workers, eager fp32, a PNG an image; {setting}"
    return [
        Result("label_images_per_s", rate, "images/s", f"read, crop, predict, encode, write on Ray; {setting}"),
        Result("model_images_per_s", bare, "images/s", f"the predictor alone on decoded crops; {setting}"),
        Result("authors_loop_images_per_s", authors, "images/s", manner),
        Result("label_vs_model", rate / bare, "ratio", "label_images_per_s / model_images_per_s; start-up excluded"),
        Result(
            "label_vs_authors_loop", rate / authors, "ratio", "label_ / authors_loop_images_per_s; without start-up"
        ),
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


def bare_seconds(weights: Path, photos: list[Photo]) -> float:
    """What the predictor alone takes for these photos, after a warm-up."""
    predictor = casfne.load(weights)
    crops = np.stack([read_image(p.path) for p in photos])
    batches = [crops[i : i + BATCH] for i in range(0, len(crops), BATCH)]
    predictor.predict_stages(batches[0])
    start = time.perf_counter()
    for batch in batches:
        predictor.predict_stages(batch)
    return time.perf_counter() - start


class Pictures(Dataset):
    """Photos as float tensors [3, H, W] in 0..1."""

    def __init__(self, photos: list[Photo]) -> None:
        self.photos = photos

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        pixels: NDArray[np.uint8] = read_image(self.photos[index].path)
        return torch.tensor(pixels).permute(2, 0, 1).float() / 255, self.photos[index].image_id


def authors_seconds(weights: Path, photos: list[Photo], out: Path) -> float:
    """What a loop in the authors' manner takes: batches from a DataLoader, the network as it is, a PNG for each."""
    out.mkdir(exist_ok=True)
    network, everywhere = load_weights(weights)[0].eval(), np.ones((SIZE, SIZE), bool)
    loader = DataLoader(Pictures(photos), batch_size=BATCH, num_workers=2)
    with torch.no_grad():
        network(torch.zeros(BATCH, 3, SIZE, SIZE))
        start = time.perf_counter()
        for images, names in loader:
            last = network(images)[-1].permute(0, 2, 3, 1).numpy()
            for name, normal in zip(names, last, strict=True):
                (out / f"{name}.png").write_bytes(encode_image(normals.encode(normal, everywhere)))
    return time.perf_counter() - start


def label_rate(photos: list[Photo], out: Path, weights: Path) -> tuple[float, float]:
    """Seconds until the first shard was there, and images/s from a quarter of them to the end."""
    ticks: list[tuple[int, float]] = []

    def tick(at: Progress) -> None:
        ticks.append((at.done, time.perf_counter()))

    summary = fleet.run(photos, out, weights, shard_rows=SHARD, progress=tick)
    if summary.statuses["ok"] != len(photos):
        raise RuntimeError(f"{summary.statuses} of {len(photos)} photos")
    first, began = next((done, at) for done, at in ticks if done >= len(photos) / 4)
    last, ended = ticks[-1]
    return ticks[1][1] - ticks[0][1], (last - first) / (ended - began)
