"""What stereo writes: arrays, pictures, a figure to look at, and a summary that comes last."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from casfne.files import write_array, write_text
from casfne.images import grey_to_rgb, grid, linear_to_srgb, shade, to_uint8, write_image
from casfne.normals import direction, encode, recognise_frame
from casfne.stereo.captures import Capture
from casfne.stereo.integrate import Integrability, normals_of
from casfne.stereo.near import near_lights
from casfne.stereo.registration import Registration
from casfne.stereo.solution import Solution
from casfne.stereo.surface import Surface, predict

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

MOST_SHOWN = 6  # lights in a figure
MOST_HEIGHT = 256  # pixels of a tile of it
KEY_LIGHT = direction(35, 25)  # of the depth's shading: from the upper right
DIFFERENCE = 4.0  # times: differences between re-rendered and captured are small


def write_solution(out: Path | str, solution: Solution, summary: dict[str, Any]) -> None:
    """normals.npy float32 [H, W, 3] (0 where there is none), normals.png, albedo.npy float32 [H, W] and albedo.png,
    mask.png (0 or 255), trust.npy float32 [H, W] and trust.png, depth.npy float32 [H, W] (pixels, NaN off the
    mask) and figure.png; summary.json appears only when the rest is there."""
    surface = solution.surface
    out = Path(out)
    (out / "summary.json").unlink(missing_ok=True)
    write_array(out / "normals.npy", surface.normals * surface.mask[..., None])
    write_image(out / "normals.png", encode(surface.normals, surface.mask))
    write_array(out / "albedo.npy", surface.albedo)
    write_image(out / "albedo.png", albedo_picture(surface))
    write_image(out / "mask.png", to_uint8(surface.mask))
    write_array(out / "trust.npy", solution.trust)
    write_image(out / "trust.png", to_uint8(solution.trust))
    write_array(out / "depth.npy", solution.depth)
    write_image(out / "figure.png", figure(solution))
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")


def describe(solution: Solution) -> dict[str, Any]:
    """Numbers that tell whether a result can be believed; the mean normal of a frontal face has x near 0."""
    capture, surface = solution.capture, solution.surface
    inside = surface.mask
    frame, certainty = recognise_frame(surface.normals, inside) if inside.sum() > 2 else ("unknown", 0.0)
    return {
        "capture": capture.name,
        "lights": len(capture.lights),
        "height": inside.shape[0],
        "width": inside.shape[1],
        "frame": "opengl",
        "frame_seen": frame,
        "frame_certainty": round(certainty, 3),
        "pixels": int(inside.sum()),
        "coverage": float(inside.mean()),
        "mean_trust": _mean(solution.trust[inside]),
        "share_of_trust_over_half": _mean(solution.trust[inside] > 0.5),
        "mean_lights_used": _mean(surface.used[inside]),
        "mean_relative_residual": _mean(surface.residual[inside]),
        "mean_normal": [_mean(surface.normals[inside][:, i]) for i in range(3)],
        "left_right_balance": balance(surface),
        "integrability": _integrability(solution.integrability),
        "registration": _registration(solution.registration),
        "metres_a_pixel": solution.pixel_m,
        "attributes": capture.attributes,
        "reasons": surface.reason,
    }


def balance(surface: Surface) -> float | None:
    """The mean n.x of the mask's left half plus that of its right half, about its middle column: near 0 for a frontal
    face, whose halves mirror each other; None where a half is empty."""
    columns = np.nonzero(surface.mask)[1]
    if not columns.size:
        return None
    middle = (columns.min() + columns.max()) / 2
    across = surface.normals[surface.mask][:, 0]
    left, right = _mean(across[columns < middle]), _mean(across[columns > middle])
    return None if left is None or right is None else left + right


def figure(solution: Solution) -> Picture:
    """One picture of all that came out, uint8 RGB.

    Rows: the captured pictures; the same re-rendered from normals and albedo; their difference, black where there is
    none and white from a quarter of full scale; then normals, albedo, trust and the depth's shading. Of more than
    ``MOST_SHOWN`` lights, some spread evenly over them.
    """
    capture, surface = solution.capture, solution.surface
    count = len(capture.lights)
    shown = np.unique(np.linspace(0, count - 1, min(count, MOST_SHOWN)).round().astype(int))
    rows: list[list[Picture]] = [[], [], []]
    for number in shown:
        linear = capture.linear(lights=slice(number, number + 1))[0].mean(-1)
        again = rendered(solution, number)
        difference = np.abs(linear - again) * surface.mask * DIFFERENCE
        for row, values in zip(rows, (linear, again, difference), strict=True):
            row.append(_small(grey_to_rgb(linear_to_srgb(values))))
    results, names = _results(solution)
    width = max(len(shown), len(results))
    blank = np.full_like(results[0], 255)
    above = grid([row + [blank] * (width - len(shown)) for row in rows], _titles(shown, capture, width))
    below = grid([results + [blank] * (width - len(results))], names + [""] * (width - len(names)))
    return np.concatenate([above, below])


def rendered(solution: Solution, number: int) -> Floats:
    """What light ``number`` makes of the surface, float32 [H, W], linear; 0 off the mask."""
    capture, surface, one = solution.capture, solution.surface, slice(number, number + 1)
    scaled = surface.normals * (surface.albedo * surface.mask)[..., None]
    if solution.place is None or capture.positions is None:
        return np.asarray(predict(scaled, capture.lights[one])[0], np.float32)
    place = torch.from_numpy(solution.place.reshape(3, -1))
    towards = near_lights(torch.from_numpy(capture.positions[one]), place)[0].numpy().reshape(3, *surface.mask.shape)
    return np.maximum((np.moveaxis(scaled, -1, 0) * towards).sum(0), 0)


def _results(solution: Solution) -> tuple[list[Picture], list[str]]:
    surface, (normals, known) = solution.surface, normals_of(solution.depth)
    tiles = [encode(surface.normals, surface.mask), albedo_picture(surface), grey_to_rgb(solution.trust)]
    tiles.append(shade(normals, KEY_LIGHT, known))
    return [_small(tile) for tile in tiles], ["normals", "albedo", "trust, white = 1", "depth, shaded"]


def albedo_picture(surface: Surface) -> Picture:
    """Albedo as grey sRGB, white at its 99.5th percentile over the mask; black off it."""
    inside = surface.albedo[surface.mask]
    white = max(float(np.percentile(inside, 99.5)), 1e-6) if inside.size else 1.0
    return grey_to_rgb(linear_to_srgb(surface.albedo * surface.mask / white))


def _titles(shown: Sequence[int] | NDArray[np.int64], capture: Capture, width: int) -> list[str]:
    named = [f"light {i}: {_angle_deg(capture.lights[i]):.0f} deg off axis" for i in shown]
    return named + [""] * (width - len(named))


def _angle_deg(light: Floats) -> float:
    return float(np.degrees(np.arccos(np.clip(light[2] / np.linalg.norm(light), -1, 1))))


def _small(tile: Picture) -> Picture:
    """At most ``MOST_HEIGHT`` pixels high."""
    height, width = tile.shape[:2]
    if height <= MOST_HEIGHT:
        return tile
    size = (max(round(width * MOST_HEIGHT / height), 1), MOST_HEIGHT)
    return np.asarray(cv2.resize(tile, size, interpolation=cv2.INTER_AREA), np.uint8)


def _integrability(found: Integrability) -> dict[str, float | None]:
    """NaN is no JSON."""
    values = {"curl_rms_pixels": found.curl_rms, "angle_deg": found.angle_deg}
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _registration(found: Registration | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "shifts_pixels": found.shifts.round(3).tolist(),
        "standard_errors_pixels": [round(float(d), 3) if np.isfinite(d) else None for d in found.doubt],
        "sure": found.sure.tolist(),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
