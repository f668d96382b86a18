"""How well normals are found on real captures: two people of the Extended Yale Face Database B.

`python -m benchmarks.real_faces.yale_b WEIGHTS.safetensors [...] [--sheet OUT.png]` prints a row for each weights
file, and two baselines. The truth is photometric stereo over many of a person's images; the input is one of them.

Two references: the `plain` one leaves out what ../shared/data/README.md says, brightness under 8 of 255. Into shadows
on the picture's right the room sends 8 to 15, on the left 3 to 8: shadows of the one side are taken for lit, the
surface comes out flatter by 3.5 to 4.5 degrees of mean slope, and one side of the nose is lost. The `strict` one, the
library's own, also leaves out what is under 12 % of a pixel's brightest.
"""

import argparse
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import YALE_B
from benchmarks.real_faces.confidence import Faces
from casfne.corpora.yale_b import (
    LEAST_LIGHTS,
    MAX_ZENITH_DEG,
    POINTS,
    SATURATION,
    SHADOW,
    Reference,
    clean,
    read_person,
    strict_reference,
)
from casfne.errors import InputError, guard
from casfne.evaluation.metrics import masked_errors
from casfne.images import SIZE, Crop, linear_to_srgb, to_uint8, write_image
from casfne.model.predictor import CascadePredictor, load
from casfne.normals import angle_deg, encode, normalise
from casfne.report.figures import error_map, grid
from casfne.stereo.captures import Capture
from casfne.stereo.solvers.base import Rays
from casfne.stereo.solvers.least_squares import trimmed

PLAIN_RESIDUAL = 0.10  # RMS over albedo; the library's own is stricter
FRONTAL_DEG = 30  # the main figures are of inputs lit from within this of the camera axis
WIDE_DEG = 60
BINS_DEG = (0, 15, 30, 45, 60, 77, 180)  # the last: a lamp beside the face or behind it
SHEET_LIGHTS_DEG = (0, 25, 50)  # from the camera axis
SHEET_ZOOM = 2

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Crops uint8 RGB [B, 256, 256, 3] to unit normals float32 [B, 256, 256, 3], frame opengl."""


@dataclass(frozen=True)
class Person:
    """``images`` uint8 RGB [L, H, W, 3] as the files hold them, lit from ``angles_deg`` [L] off the camera axis."""

    name: str
    images: NDArray[np.uint8]
    angles_deg: NDArray[np.float32]
    crop: Crop
    plain: Reference
    strict: Reference

    def predict(self, network: Predict, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit normals [N, H, W, 3] in the pixels of ``images`` [N, H, W, 3], predicted from the face's crops."""
        found = network(np.stack([self.crop.apply(image) for image in images]))
        return np.stack([self.at_source(normals) for normals in found])

    def at_source(self, normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normals of the crop [256, 256, 3], taken bilinearly at the pixels of the picture; unit [H, W, 3]."""
        return normalise(self.back(normals))

    def back(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of the crop [256, 256, ...], taken bilinearly at the pixels of the picture [H, W, ...]."""
        height, width = self.images.shape[1:3]
        return cv2.warpAffine(values, self.crop.transform(), (width, height), borderMode=cv2.BORDER_REPLICATE)

    def in_crop(self) -> NDArray[np.float32]:
        """The plain reference as a prediction, unit [256, 256, 3]; outside the picture its border is repeated."""
        return normalise(self.crop.apply(self.plain.normals))


# --- the captures ---


@functools.cache
def people() -> tuple[Person, ...]:
    """Both people, with their sound images under one light each. InputError where the captures are missing."""
    if not YALE_B.is_dir():
        raise InputError(f"{YALE_B}: no such folder, expected yaleB01 and yaleB02 of the Extended Yale Face Database B")
    return tuple(_person(name) for name in POINTS)


def _person(name: str) -> Person:
    """One person's inputs and references."""
    read = read_person(YALE_B / name, widest_deg=180)
    plain, strict = plain_reference(read.capture, read.face), strict_reference(read.capture, read.face)
    return Person(name, read.images, angle_deg(read.lights, [0, 0, 1]), read.crop, plain, strict)


def plain_reference(capture: Capture, face: NDArray[np.bool_]) -> Reference:
    """Least squares twice: over what is neither dark nor saturated, then without the worst quarter."""
    near = capture.lights[:, 2] >= np.cos(np.radians(MAX_ZENITH_DEG))
    grey = torch.from_numpy(capture.grey[near]).flatten(1)
    rays = Rays(grey, torch.from_numpy(capture.lights[near]), (grey >= SHADOW) & (grey < SATURATION))
    solved = trimmed(rays)
    squares = (solved.weights * (grey - rays.predict(solved.scaled).clamp_min(0)).square()).sum(0)
    used, albedo = solved.weights.sum(0), solved.scaled.norm(dim=0)
    residual = (squares / used.clamp_min(1)).sqrt() / albedo.clamp_min(1e-6)
    believed = (solved.scaled[2] > 0) & (used >= LEAST_LIGHTS) & (residual < PLAIN_RESIDUAL)
    normals = normalise(solved.scaled.T.reshape(*face.shape, 3))
    mask = clean(face & believed.reshape(face.shape).numpy())
    return Reference(normals, mask, albedo.reshape(face.shape).numpy(), mask.astype(np.float32))


# --- errors ---


def evaluate(network: Predict) -> dict[str, Any]:
    """Angular errors in degrees by person and ``pooled`` (both count alike); see `measure`."""
    return pooled({person.name: measure(person, network) for person in people()})


def measure(person: Person, network: Predict) -> dict[str, Any]:
    """Means over a person's input images of their mean and median angular error, in degrees.

    ``mean_deg``, ``median_deg``: images lit from within 30 degrees, as their files are. The same with ``srgb_``:
    encoded as photographs are; with ``strict_``: against the other reference. ``within_60_deg``: the mean of images lit
    from within 60 degrees. ``bins``: mean by the light's angle.
    """
    found = person.predict(network, person.images)
    near = person.angles_deg < FRONTAL_DEG
    encoded = to_uint8(linear_to_srgb(person.images[near].astype(np.float32) / 255))
    means = np.array([masked_errors(normals, person.plain.normals, person.plain.mask).mean() for normals in found])
    which = np.digitize(person.angles_deg, BINS_DEG) - 1
    return {
        **averages("", found[near], person.plain),
        **averages("srgb_", person.predict(network, encoded), person.plain),
        **averages("strict_", found[near], person.strict),
        "within_60_deg": float(means[person.angles_deg < WIDE_DEG].mean()),
        "bins": {name: float(means[which == i].mean()) for i, name in enumerate(bin_names())},
    }


def averages(prefix: str, found: NDArray[np.float32], reference: Reference) -> dict[str, float]:
    """Mean and median error of each of ``found`` [N, H, W, 3], averaged over them."""
    errors = [masked_errors(normals, reference.normals, reference.mask) for normals in found]
    return {
        f"{prefix}mean_deg": float(np.mean([e.mean() for e in errors])),
        f"{prefix}median_deg": float(np.mean([np.median(e) for e in errors])),
    }


def bin_names() -> list[str]:
    """Such as 0-15."""
    return [f"{low}-{high}" for low, high in itertools.pairwise(BINS_DEG)]


def pooled(persons: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of `measure` by person, with their averages as ``pooled``."""
    return {**persons, "pooled": _average(list(persons.values()))}


def _average(many: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: _average([one[key] for one in many]) if isinstance(value, dict) else float(np.mean([m[key] for m in many]))
        for key, value in many[0].items()
    }


def at_stage(predictor: CascadePredictor, t: int) -> Predict:
    """Normals of stage ``t``."""
    return lambda crops: predictor.predict_stages(crops)[:, t]


def expectations(predictor: CascadePredictor) -> Faces:
    """Expected and actual errors of every image, over the plain reference's mask."""
    maps = []
    for person in people():
        crops = np.stack([person.crop.apply(image) for image in person.images])
        stages, each = predictor.assess(crops)
        mask, truth = person.plain.mask, person.plain.normals
        for normals, expected in zip(stages[:, -1], each, strict=True):
            maps.append((person.back(expected)[mask], masked_errors(person.at_source(normals), truth, mask)))
    return Faces.of(maps)


# --- baselines ---


def always(normals: NDArray[np.float32]) -> Predict:
    """A predictor that does not look: ``normals`` [256, 256, 3] or [3] whatever the crops."""
    return lambda crops: np.broadcast_to(normals, (len(crops), SIZE, SIZE, 3)).astype(np.float32)


def flat() -> dict[str, Any]:
    """Errors of a face whose normals are all (0, 0, 1)."""
    return evaluate(always(np.array([0, 0, 1], np.float32)))


def other_person() -> dict[str, Any]:
    """Errors of the other person's plain reference, which lies in the same crop frame."""
    pairs = zip(people(), reversed(people()), strict=True)
    return pooled({person.name: measure(person, always(other.in_crop())) for person, other in pairs})


# --- the command ---


def sheet(network: Predict) -> NDArray[np.uint8]:
    """A row for each of three lights of each person: input, plain reference, prediction, error; uint8 RGB."""
    rows = []
    for person in people():
        chosen = [int(np.abs(person.angles_deg - angle).argmin()) for angle in SHEET_LIGHTS_DEG]
        truth, mask = person.plain.normals, person.plain.mask
        for image, normals in zip(person.images[chosen], person.predict(network, person.images[chosen]), strict=True):
            row = [image, encode(truth, mask), encode(normals), error_map(normals, truth, mask)]
            rows.append([np.kron(tile, np.ones((SHEET_ZOOM, SHEET_ZOOM, 1), np.uint8)) for tile in row])
    return grid(rows, ["input", "reference (stereo)", "prediction", "error, 0..40 deg"])


def show(rows: Mapping[str, dict[str, Any]]) -> None:
    """Print a table of what `evaluate` gives, by name."""
    table = Table(title=f"angular error in degrees; inputs lit from within {FRONTAL_DEG} degrees, bins: by that angle")
    heads = [f"{name} {what}" for name in (*POINTS, "pooled") for what in ("mean", "median")]
    for head in ("normals", *heads, "sRGB mean", "strict mean", *bin_names()):
        table.add_column(head, overflow="fold")
    for name, figures in rows.items():
        every = figures["pooled"]
        values = [figures[who][key] for who in (*POINTS, "pooled") for key in ("mean_deg", "median_deg")]
        values += [every["srgb_mean_deg"], every["strict_mean_deg"], *every["bins"].values()]
        table.add_row(name, *(f"{value:.2f}" for value in values))
    Console(width=150).print(table)


@guard
def main() -> None:
    """The command; exit code 1 and one line where the captures or a weights file are missing."""
    parser = argparse.ArgumentParser(description="Angular errors of weights files on two people of Yale B.")
    parser.add_argument("weights", nargs="+", type=Path, help="WEIGHTS.safetensors")
    parser.add_argument("--sheet", type=Path, help="also write a picture of the first weights' results (PNG)")
    arguments = parser.parse_args()
    people()  # what is missing is said before anything is computed
    predictors = {str(path): load(path) for path in arguments.weights}
    rows = {name: evaluate(predictor.predict) for name, predictor in predictors.items()}
    show({**rows, "(0, 0, 1)": flat(), "other person": other_person()})
    if arguments.sheet:
        write_image(arguments.sheet, sheet(next(iter(predictors.values())).predict))


if __name__ == "__main__":
    main()
