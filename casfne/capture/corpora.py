"""Small corpora of simulated photographs, laid out on disk as CelebA, FFHQ and 300-W are.

Each writer yields after every picture and leaves its index file for last: exhaust it.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.capture.optics.framing import Framing
from casfne.capture.portraits import Setting, render
from casfne.capture.scene import Studio
from casfne.files import atomic_open, write_text
from casfne.images import encode_image, write_image

# first numbers of each corpus' people, who are never those of the captures (from 0) nor of another corpus
_CELEBA, _FFHQ, _300W = 1_000_000, 2_000_000, 3_000_000
CELEBA = Framing(218, 178, (88.5, 111.5), 0.0, 38, 41)
# twice the larger of 2.0 eye distances and 1.8 distances from eyes to mouth
FFHQ = Framing(1024, 1024, (511.5, 483.5), 0.0, 256, 284)


def photograph(
    studio: Studio, seed: int, number: int, setting: Setting, supersample: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A new person's photograph: uint8 sRGB [H, W, 3], and 68 points [68, 2] as x, y in pixels."""
    made = render(studio, seed, [number], setting, supersample)
    return made.image[0].permute(1, 2, 0).cpu().numpy(), made.landmarks[0].double().cpu().numpy()


def aligned(framing: Framing) -> Setting:
    """Faces as a corpus aligns them, by their eyes."""
    return Setting(framing, yaw_deg=15, pitch_deg=6, roll_deg=0, zoom=(1, 1), shift=0)


def write_celeba(root: Path, studio: Studio, count: int, seed: int) -> Iterator[Path]:
    """``img_align_celeba/000001.jpg`` .. (178x218, aligned by the eyes), landmarks and partition lists."""
    points_of: dict[str, NDArray[np.float64]] = {}
    for i in range(1, count + 1):
        picture, points = photograph(studio, seed, _CELEBA + i, aligned(CELEBA), 2)
        path = root / "img_align_celeba" / f"{i:06d}.jpg"
        write_image(path, picture)
        points_of[path.name] = _five(points)
        yield path
    names = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    header = " ".join(f"{name}_{axis}" for name in names for axis in "xy")
    rows = (f"{name} " + " ".join(f"{v:.0f}" for v in p.flatten()) for name, p in points_of.items())
    write_text(root / "list_landmarks_align_celeba.txt", "\n".join([str(count), header, *rows]) + "\n")
    parts = (f"{name} {(0, 0, 0, 1, 2)[i % 5]}\n" for i, name in enumerate(points_of))
    write_text(root / "list_eval_partition.txt", "".join(parts))


def _five(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Left and right eye, nose tip, left and right mouth corner [5, 2] of 68 points [68, 2]."""
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])


def write_ffhq(root: Path, studio: Studio, count: int, seed: int) -> Iterator[Path]:
    """``images1024x1024/00000/00000.png`` .. (aligned) and ``ffhq-dataset-v2.json`` with 68 landmarks each."""
    index: dict[str, object] = {}
    for i in range(count):
        picture, points = photograph(studio, seed, _FFHQ + i, aligned(FFHQ), 1)
        name = f"images1024x1024/{i // 1000 * 1000:05d}/{i:05d}.png"
        data = encode_image(picture, ".png")
        with atomic_open(root / name) as file:
            file.write(data)
        entry = {
            "file_path": name,
            "file_size": len(data),
            "file_md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            "pixel_size": [1024, 1024],
            "face_landmarks": points.round(2).tolist(),
        }
        index[str(i)] = {"category": "training" if i % 7 else "validation", "image": entry}
        yield root / name
    write_text(root / "ffhq-dataset-v2.json", json.dumps(index))


def write_300w(root: Path, studio: Studio, count: int, seed: int) -> Iterator[Path]:
    """``01_Indoor/indoor_001.png`` and ``02_Outdoor/outdoor_001.png`` .. with a .pts (1-based) beside each."""
    for i in range(count):
        rng = np.random.default_rng([seed, _300W, i])
        eyes = (float(rng.uniform(230, 410)), float(rng.uniform(180, 250)))
        apart = float(rng.uniform(55, 100))
        loose = Setting(Framing(480, 640, eyes, 0.0, apart, 1.1 * apart), 20, 8, 10, zoom=(1, 1), shift=0)
        picture, points = photograph(studio, seed, _300W + i, loose, 1)
        folder, name = (("01_Indoor", "indoor"), ("02_Outdoor", "outdoor"))[i % 2]
        path = root / folder / f"{name}_{i // 2 + 1:03d}.png"
        rows = "".join(f"{x:.3f} {y:.3f}\n" for x, y in points + 1)
        write_text(path.with_suffix(".pts"), f"version: 1\nn_points: 68\n{{\n{rows}}}\n")
        write_image(path, picture)
        yield path
