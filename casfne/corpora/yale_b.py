"""The Extended Yale Face Database B, cropped frontal pictures of 168x192, as samples whose truth is stereo.

    <root>/yaleB01/yaleB01_P00A+035E-20.pgm ...     one light each, which the name says; 64 a person
    <root>/yaleB01/yaleB01_P00_Ambient.pgm          the room alone

Normals are those of `casfne stereo` over a person's pictures, where they can be believed: lit by 15 lights or more,
with a small residual, inside the face. The images are a person's single pictures, lit from within 77 degrees of the
camera's axis; they are linear, and encoded as sRGB here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne.corpora.samples import Row, light_columns
from casfne.corpora.truths import Job, capture_rows
from casfne.errors import InputError
from casfne.images import Crop, crop_from_points, linear_to_srgb, read_image, to_uint8
from casfne.normals import angle_deg, normalise
from casfne.stereo.captures import Capture
from casfne.stereo.surface import Pictures, Settings, solve_pictures
from casfne.stereo.trust import features_of, trust
from casfne.stereo.yale_b import read_yale_b

WIDTH, HEIGHT = 168, 192
# Eyes, nose tip, mouth corners as x, y in pixels, read off pictures enlarged five times: no detector finds a face in
# frames that end at the brows. The database's crops are aligned, so that other people's lie near the mean of these.
POINTS = {
    "yaleB01": ((34.6, 45.6), (128.6, 46.0), (80.0, 90.0), (43.5, 153.2), (116.8, 153.6)),
    "yaleB02": ((36.6, 44.0), (132.0, 45.0), (81.6, 94.6), (40.5, 159.0), (127.4, 159.0)),
}
DAMAGED = {"yaleB02_P00A+020E-10", "yaleB02_P00A+025E+00"}  # striped: every other row is of another brightness
SHADOW = 8 / 255
SATURATION = 0.95  # after the ambient light, up to 11 of 255, has been taken off
MAX_ZENITH_DEG = 75  # of the lights that stereo uses
WIDEST_DEG = 77  # from the camera's axis, of the lights whose pictures are inputs
RESIDUAL = 0.08  # RMS over albedo; more is an eye, a nostril, or a cast shadow taken for lit
LEAST_LIGHTS = 15


@dataclass(frozen=True)
class Reference:
    """Unit normals float32 [H, W, 3], frame opengl, and where in the face they can be believed, bool [H, W]; relative
    albedo and trust, float32 [H, W]."""

    normals: NDArray[np.float32]
    mask: NDArray[np.bool_]
    albedo: NDArray[np.float32]
    trust: NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """``images`` uint8 RGB [L, H, W, 3] as the files ``names`` hold them, lit from ``lights`` [L, 3]; ``capture``: all
    sound pictures; ``face`` bool [H, W]: forehead to chin, between the temples."""

    images: NDArray[np.uint8]
    names: Sequence[str]
    lights: NDArray[np.float32]
    capture: Capture
    crop: Crop
    face: NDArray[np.bool_]


def read_person(folder: Path, widest_deg: float = WIDEST_DEG) -> Person:
    """One person's pictures; inputs are those lit from within ``widest_deg`` of the camera's axis.

    InputError: none under a light, or pictures of another size than 168x192.
    """
    capture = read_yale_b(folder)
    height, width = capture.images.shape[1:3]
    if (width, height) != (WIDTH, HEIGHT):
        raise InputError(f"{folder}: pictures of {width}x{height}, expected the cropped ones, {WIDTH}x{HEIGHT}")
    paths = sorted(p for p in folder.glob("*.pgm") if "Ambient" not in p.stem)  # in the capture's order
    whole = np.array([path.stem not in DAMAGED for path in paths])
    inputs = np.flatnonzero(whole & (angle_deg(capture.lights, [0, 0, 1]) < widest_deg))
    if not inputs.size:
        raise InputError(f"{folder}: no picture lit from within {widest_deg} degrees of the camera's axis")
    points = np.array(POINTS.get(folder.name, np.mean(list(POINTS.values()), 0)))
    return Person(
        np.stack([read_image(paths[i]) for i in inputs]),
        [paths[i].stem for i in inputs],
        capture.lights[inputs],
        replace(capture, images=capture.images[whole], lights=capture.lights[whole]),
        crop_from_points(points),
        face_ellipse(points, height, width),
    )


def face_ellipse(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """From the middle of the forehead to the chin, between the temples, by the five points [5, 2]; bool [H, W]."""
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    semi_axes = 0.85 * np.linalg.norm(points[1] - points[0]), 0.95 * np.linalg.norm(mouth - eyes)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    centre = (eyes + mouth) / 2
    return ((x - centre[0]) / semi_axes[0]) ** 2 + ((y - centre[1]) / semi_axes[1]) ** 2 <= 1


def strict_reference(capture: Capture, face: NDArray[np.bool_]) -> Reference:
    """What `casfne stereo` solves."""
    pictures = Pictures.of(capture, Settings("selective", SHADOW, SATURATION, MAX_ZENITH_DEG))
    surface = solve_pictures(pictures)
    believed = face & surface.mask & (surface.used >= LEAST_LIGHTS) & (surface.residual < RESIDUAL)
    return Reference(surface.normals, clean(believed), surface.albedo, trust(features_of(pictures, surface)))


def clean(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without specks, and without the pixels beside what is left out."""
    square = np.ones((3, 3), np.uint8)
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, square)
    return cv2.erode(opened, square).astype(bool)


# --- as samples ---


def yale_b_jobs(root: Path, out: Path) -> list[Job]:
    """A capture a person, for every folder of ``root`` that holds pictures. InputError: there is none."""
    folders = sorted({path.parent for path in root.glob("*/*.pgm")})
    if not folders:
        raise InputError(f"{root}: no Yale B: expected <person>/<person>_P00A+000E+00.pgm and others below it")
    return [Job(str(folder), [f"{folder.name}.npz"], partial(_make, folder, out)) for folder in folders]


def _make(folder: Path, out: Path) -> list[Row]:
    person = read_person(folder)
    found = strict_reference(person.capture, person.face)
    crop, height, width = person.crop, *found.mask.shape
    inside = crop.inside(height, width)
    maps = {
        "normal": normalise(crop.apply(found.normals * found.mask[..., None])),
        "mask": (crop.apply(found.mask.astype(np.float32)) > 0.99) & inside,
        "trust": np.clip(crop.apply(found.trust), 0, 1) * inside,
        "albedo": crop.apply(found.albedo) * inside,
    }
    images = np.stack([to_uint8(linear_to_srgb(crop.apply(image / np.float32(255)))) for image in person.images])
    common = {"subject": folder.name, "session": "0", "source": "yale_b", "yaw_deg": 0.0}
    each = [
        {"sample_id": name, **light_columns(light)} for name, light in zip(person.names, person.lights, strict=True)
    ]
    return capture_rows(out, folder.name, images, maps, common, each)
