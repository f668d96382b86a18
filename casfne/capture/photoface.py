"""One simulated capture, and a session on disk exactly as the real Photoface database lays it out.

A session is ``<root>/<subject, 4 digits>/<YYYY-MM-DD_HH-MM-SS>/`` with im0.bmp .. im3.bmp (one light each; values
are LINEAR in light, as the rig's cameras give them), LightSource.m, metadata.txt and metadataII.txt. What the real
database does not hold, the exact normals, lies apart: ``<truth>/<subject>/<session>.npz``.
"""

import datetime
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from casfne.capture.heads import LANDMARKS_68, MID_FOREHEAD, Expression, Person, build_head, sample_expression
from casfne.capture.raster import Camera
from casfne.capture.shading import Skin, Surface, observe, rotation, shade
from casfne.files import atomic_open, write_text
from casfne.images import to_uint8, write_image
from casfne.normals import direction_from_zenith

DISTANCE = 2.0  # metres from the camera to the middle of the head
FIELD = 0.285  # metres that the picture's height spans at that distance: a head and a little air
TILTS_DEG = (45.0, 135.0, 225.0, 315.0)  # of the four lights, about the camera's axis
TILT_JITTER_DEG, ZENITH_DEG = 8.0, (25.0, 50.0)  # how they vary from session to session
WHITE = 0.85  # where exposure puts the 99.5th percentile of the brightest light

# metadata.txt's 11 points: eyes and forehead, nose, mouth, chin; each from the left of the picture to the right
_POINTS = [LANDMARKS_68[36], LANDMARKS_68[39], MID_FOREHEAD, LANDMARKS_68[42], LANDMARKS_68[45]]
_POINTS += [LANDMARKS_68[i] for i in (31, 30, 35, 48, 54, 8)]


@dataclass(frozen=True)
class Studio:
    """Size of the pictures in pixels; largest turn of the head in degrees; sensor noise (standard deviation, of
    1.0 = white), strength of the skin's highlight, and ambient light (of 1.0 = one light)."""

    height: int
    width: int
    max_yaw_deg: float
    max_pitch_deg: float
    noise: float
    specular: float
    ambient: float


@dataclass(frozen=True)
class Capture:
    """Four pictures and what is known of them.

    pictures uint8 [4, H, W, 3], linear RGB; lights float64 [4, 2]: zenith and tilt in degrees; points float64
    [11, 2]: x, y in pixels, the centre of the top left pixel at (0, 0); attributes: metadataII's fields.
    Truth: normal float32 [H, W, 3], mask bool [H, W], albedo float32 [H, W, 3] (linear, times the exposure).
    """

    pictures: NDArray[np.uint8]
    lights: NDArray[np.float64]
    points: NDArray[np.float64]
    attributes: tuple[str, ...]
    normal: NDArray[np.float32]
    mask: NDArray[np.bool_]
    albedo: NDArray[np.float32]


def capture(person: Person, skin: Skin, studio: Studio, rng: np.random.Generator) -> Capture:
    """A person takes a pose and an expression in the studio, and is pictured under four lights."""
    expression = sample_expression(rng)
    head = build_head(person, expression)
    yaw = float(rng.uniform(-studio.max_yaw_deg, studio.max_yaw_deg))
    pitch = float(rng.uniform(-studio.max_pitch_deg, studio.max_pitch_deg))
    vertices = head.vertices @ rotation(yaw, pitch).T
    camera = _camera(vertices, studio, rng)
    surface = observe(head, vertices, skin, camera)
    lights = sample_lights(rng)
    pictures, exposure = _expose(surface, lights, studio, rng)
    return Capture(
        pictures=pictures,
        lights=lights,
        points=camera.project(vertices[_POINTS])[:, :2].double().numpy(),
        attributes=_attributes(person, expression, yaw),
        normal=surface.map(surface.normals).numpy(),
        mask=surface.skin_mask.numpy(),
        albedo=surface.map(surface.albedo * exposure).numpy(),
    )


def _camera(vertices: torch.Tensor, studio: Studio, rng: np.random.Generator) -> Camera:
    """A camera that has crown and chin about equally far from the picture's edges."""
    middle = np.array([(studio.width - 1) / 2, (studio.height - 1) / 2])
    focal = studio.height * DISTANCE / FIELD
    plain = Camera(DISTANCE, focal, studio.height, studio.width, (float(middle[0]), float(middle[1])))
    seen = plain.project(vertices)
    y = float(seen[:, 1].amin() + seen[LANDMARKS_68[8], 1]) / 2
    x = float(seen[LANDMARKS_68[27], 0] + seen[:, 0].mean()) / 2
    shift = middle - [x, y] + rng.normal(0, 0.01, 2) * studio.height
    centre = (float(middle[0] + shift[0]), float(middle[1] + shift[1]))
    return Camera(DISTANCE, focal, studio.height, studio.width, centre)


def sample_lights(rng: np.random.Generator) -> NDArray[np.float64]:
    """Zenith and tilt of the four lights in degrees, [4, 2], as exact as LightSource.m will say them."""
    zenith = rng.uniform(*ZENITH_DEG, 4)
    tilt = np.array(TILTS_DEG) + rng.uniform(-TILT_JITTER_DEG, TILT_JITTER_DEG, 4)
    return np.stack([zenith, tilt], -1).round(4).astype(np.float64)


def _expose(
    surface: Surface, lights: NDArray[np.float64], studio: Studio, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], float]:
    """The four pictures with one exposure for all, and that exposure."""
    directions = torch.from_numpy(direction_from_zenith(lights[:, 0], lights[:, 1]))
    radiance = [shade(surface, d, studio.specular, studio.ambient) for d in directions]
    exposure = WHITE / float(torch.stack(radiance).amax((0, -1)).quantile(0.995))
    linear = np.stack([surface.map(r * exposure).numpy() for r in radiance])
    return to_uint8(linear + rng.normal(0, studio.noise, linear.shape)), exposure


def _attributes(person: Person, expression: Expression, yaw_deg: float) -> tuple[str, ...]:
    """Gender, spectacles, facial hair, pose (1 frontal .. 5 profile), quality, occlusion, emotion."""
    pose = min(1 + round(abs(yaw_deg) / 22.5), 5)
    return (person.gender, "no", "none", str(pose), "ok", "", expression.emotion)


def session_name(subject: int, session: int) -> str:
    """A date and time, YYYY-MM-DD_HH-MM-SS, that is different for every subject and session."""
    start = datetime.datetime(2008, 3, 3, 9, 0, 0)
    when = start + datetime.timedelta(days=7 * session, minutes=6 * subject, seconds=37 * subject % 60)
    return when.strftime("%Y-%m-%d_%H-%M-%S")


def write_session(root: Path, truth: Path, subject: int, session: str, made: Capture) -> Path:
    """Write a capture as ``<root>/<subject>/<session>/`` and its truth; returns the session's directory.

    The directory appears complete or not at all, after its truth; one of that name is replaced. The truth holds
    normal and albedo as float16 (normals to 0.02 degrees) and mask, [H, W, ...], the normals in our frame.
    """
    final = root / f"{subject:04d}" / session
    temporary = final.with_name(f".{session}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for i, picture in enumerate(made.pictures):
            write_image(temporary / f"im{i}.bmp", picture)
        write_text(temporary / "LightSource.m", light_source_text(made.lights))
        write_text(temporary / "metadata.txt", "".join(f"{x:.2f} {y:.2f}\n" for x, y in made.points))
        write_text(temporary / "metadataII.txt", ",".join(made.attributes) + "\n")
        _write_truth(truth / f"{subject:04d}" / f"{session}.npz", made)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def light_source_text(lights: NDArray[np.float64]) -> str:
    """LightSource.m: zenith and azimuth (about the camera's axis, from the right towards up) in degrees."""
    rows = "; ".join(f"{zenith:.4f} {tilt:.4f}" for zenith, tilt in lights)
    return f"LightSource = [{rows}];\n"


def _write_truth(path: Path, made: Capture) -> None:
    normal, albedo = made.normal.astype(np.float16), made.albedo.astype(np.float16)
    with atomic_open(path) as file:
        np.savez_compressed(file, normal=normal, mask=made.mask, albedo=albedo)
