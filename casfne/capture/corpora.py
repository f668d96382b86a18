"""Small corpora of simulated photographs, laid out on disk as CelebA, FFHQ and 300-W are.

Photographs are sRGB: a key and a fill light of different tints, ambient light, a plain background, shoulders.
Each writer yields after every picture and leaves its index file for last: exhaust it.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from casfne.capture.heads import build_head, sample_expression, sample_person
from casfne.capture.raster import Camera
from casfne.capture.shading import Surface, observe, rotation, sample_skin, shade
from casfne.files import atomic_open, write_text
from casfne.images import encode_image, linear_to_srgb, to_uint8, write_image
from casfne.normals import direction_from_zenith

# streams of random numbers: people of the corpora are never those of the captures (stream 0)
_CELEBA, _FFHQ, _300W = 1, 2, 3


@dataclass(frozen=True)
class Framing:
    """Where a face lies in a picture of ``height`` x ``width`` pixels: midpoint of the eyes (x, y), and the
    largest distances between the eyes and from eyes to mouth, in pixels. ``samples``: per pixel and direction.
    """

    height: int
    width: int
    eyes_at: tuple[float, float]
    between_eyes: float
    eyes_to_mouth: float
    samples: int

    def camera(self, landmarks: Tensor, distance: float) -> Camera:
        """The camera, ``samples`` times as fine as the picture, that frames 68 points [68, 3] so."""
        unit = Camera(distance, 1.0, 1, 1, (0.0, 0.0)).project(landmarks)[:, :2]
        eyes, mouth = (unit[36:42].mean(0) + unit[42:48].mean(0)) / 2, unit[[48, 54]].mean(0)
        apart = float((unit[42:48].mean(0) - unit[36:42].mean(0)).norm())
        focal = self.samples * min(self.between_eyes / apart, self.eyes_to_mouth / float((mouth - eyes).norm()))
        x, y = ((at + 0.5) * self.samples - 0.5 for at in self.eyes_at)
        centre = (x - focal * float(eyes[0]), y - focal * float(eyes[1]))
        return Camera(distance, focal, self.height * self.samples, self.width * self.samples, centre)


def photograph(
    framing: Framing, pose_deg: tuple[float, float, float], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A new person's photograph: uint8 sRGB [H, W, 3], and 68 points [68, 2] as x, y in pixels.

    ``pose_deg``: yaw, pitch, roll as `shading.rotation` takes them.
    """
    person = sample_person(rng)
    head, skin = build_head(person, sample_expression(rng)), sample_skin(rng, person)
    turn = rotation(*pose_deg).T
    landmarks = head.landmarks_68 @ turn
    camera = framing.camera(landmarks, float(rng.uniform(1.2, 2.5)))
    surface = observe(head, head.vertices @ turn, skin, camera)
    linear = _backdrop(camera, surface, rng)
    linear[surface.seen] = _light_up(surface, rng)
    small = cv2.resize(linear.numpy(), (framing.width, framing.height), interpolation=cv2.INTER_AREA)
    noisy = linear_to_srgb(small) + rng.normal(0, rng.uniform(0.002, 0.012), small.shape)
    points = (camera.project(landmarks)[:, :2].double().numpy() + 0.5) / framing.samples - 0.5
    return to_uint8(noisy), points


def _light_up(surface: Surface, rng: np.random.Generator) -> Tensor:
    """The head's radiance [N, 3] under a key light from above, a fainter fill and ambient light; exposed."""
    key = direction_from_zenith(rng.uniform(15, 60), rng.uniform(15, 165))
    fill = direction_from_zenith(rng.uniform(10, 60), rng.uniform(0, 360))
    gloss, ambient, share = rng.uniform(0.02, 0.12), rng.uniform(0.12, 0.4), rng.uniform(0, 0.5)
    radiance = shade(surface, torch.from_numpy(key), gloss, ambient) * _tint(rng)
    radiance += share * shade(surface, torch.from_numpy(fill), gloss, 0.0) * _tint(rng)
    white = radiance.amax(-1)[surface.points[:, 2] > 0].quantile(0.98)
    return radiance * float(rng.uniform(0.55, 0.95) / white)


def _tint(rng: np.random.Generator) -> Tensor:
    """A light's colour between warm and cool, [3]."""
    warmth = rng.uniform(-0.12, 0.12)
    return torch.tensor([1 + warmth, 1.0, 1 - warmth], dtype=torch.float32)


def _backdrop(camera: Camera, surface: Surface, rng: np.random.Generator) -> Tensor:
    """A smooth background and shoulders below the neck, linear RGB [H, W, 3]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, camera.height), torch.linspace(-1, 1, camera.width), indexing="ij")
    slope = rng.uniform(-0.5, 0.5, 2)
    share = (0.5 + slope[0] * x + slope[1] * y).clamp(0, 1)[..., None]
    first, second, cloth = (_plain_colour(rng) for _ in range(3))
    neck = surface.vertices[surface.vertices[:, 1].argsort()[:60]].mean(0, keepdim=True)
    left, top = camera.project(neck)[0, :2].tolist()
    unit = camera.focal / camera.distance  # pixels per metre
    rows, columns = torch.arange(camera.height)[:, None], torch.arange(camera.width)
    shoulders = ((columns - left) / (0.21 * unit)) ** 2 + ((rows - top - 0.13 * unit) / (0.14 * unit)) ** 2 < 1
    return torch.where(shoulders[..., None], cloth, torch.lerp(first, second, share))


def _plain_colour(rng: np.random.Generator) -> Tensor:
    """A rather grey colour of any lightness, linear RGB [3]."""
    return torch.tensor(rng.uniform(0.01, 0.5) * rng.uniform(0.6, 1.4, 3), dtype=torch.float32)


def write_celeba(root: Path, count: int, seed: int) -> Iterator[Path]:
    """``img_align_celeba/000001.jpg`` .. (178x218, aligned by the eyes), landmarks and partition lists."""
    points_of: dict[str, NDArray[np.float64]] = {}
    for i in range(1, count + 1):
        rng = np.random.default_rng([seed, _CELEBA, i])
        pose = (rng.uniform(-30, 30), rng.uniform(-12, 12), 0.0)
        picture, points = photograph(Framing(218, 178, (88.5, 111.5), 38, 41, 2), pose, rng)
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


def write_ffhq(root: Path, count: int, seed: int) -> Iterator[Path]:
    """``images1024x1024/00000/00000.png`` .. (aligned) and ``ffhq-dataset-v2.json`` with 68 landmarks each."""
    index: dict[str, object] = {}
    for i in range(count):
        rng = np.random.default_rng([seed, _FFHQ, i])
        pose = (rng.uniform(-30, 30), rng.uniform(-12, 12), 0.0)
        # FFHQ's window: twice the larger of 2.0 eye distances and 1.8 distances from eyes to mouth
        picture, points = photograph(Framing(1024, 1024, (511.5, 483.5), 256, 284, 1), pose, rng)
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


def write_300w(root: Path, count: int, seed: int) -> Iterator[Path]:
    """``01_Indoor/indoor_001.png`` and ``02_Outdoor/outdoor_001.png`` .. with a .pts (1-based) beside each."""
    for i in range(count):
        rng = np.random.default_rng([seed, _300W, i])
        pose = (rng.uniform(-40, 40), rng.uniform(-15, 15), rng.uniform(-20, 20))
        eyes = (float(rng.uniform(230, 410)), float(rng.uniform(180, 250)))
        apart = float(rng.uniform(55, 100))
        picture, points = photograph(Framing(480, 640, eyes, apart, 1.1 * apart, 2), pose, rng)
        folder, name = (("01_Indoor", "indoor"), ("02_Outdoor", "outdoor"))[i % 2]
        path = root / folder / f"{name}_{i // 2 + 1:03d}.png"
        rows = "".join(f"{x:.3f} {y:.3f}\n" for x, y in points + 1)
        write_text(path.with_suffix(".pts"), f"version: 1\nn_points: 68\n{{\n{rows}}}\n")
        write_image(path, picture)
        yield path
