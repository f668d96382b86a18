"""Photoface sessions, real or simulated, as samples: stereo, face crop, 256x256, one archive a session."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casfne.corpora.samples import Record, Row, light_columns, mask_columns, write_archive
from casfne.errors import InputError
from casfne.files import read_arrays
from casfne.images import Crop, crop_from_points, linear_to_srgb, to_uint8
from casfne.normals import angle_deg, normalise
from casfne.provenance import code_version, file_sha256, fingerprint
from casfne.stereo import surface as stereo
from casfne.stereo.authors import compare, compare_albedo
from casfne.stereo.captures import NOTES, Capture
from casfne.stereo.photoface import ATTRIBUTE_NAMES, FILES, five_points, read_photoface
from casfne.stereo.solution import Solution, solve_capture

CODE = ("stereo", "corpora/photoface.py", "corpora/samples.py", "images.py", "normals.py")  # what decides an archive


@dataclass(frozen=True)
class Settings:
    """What a session is solved with. shadow, saturation: pixels darker or brighter, of full scale, are left out;
    light_distance_m: of the lamps from the middle of the face, None: far."""

    shadow: float
    saturation: float
    light_distance_m: float | None = None


def prepare_session(folder: Path, out: Path, truth: Path | None, settings: Settings) -> list[Row]:
    """Solve one session, write its archive into ``out``, and give its rows of the index, one for each light.

    ``truth`` is the archive of exact normals (`normal` [H, W, 3], `mask` [H, W]) of a simulated session; the
    rows then carry the angular error against it. InputError for a session that cannot be used.
    """
    start, made_of = time.perf_counter(), session_fingerprint(folder, truth, settings)
    capture = read_photoface(folder, settings.light_distance_m)
    if capture.points is None:
        raise InputError(f"{folder}: no metadata.txt, whose points place the face")
    solution = solve_capture(capture, stereo.Settings(shadow=settings.shadow, saturation=settings.saturation))
    surface = solution.surface
    images, maps = crop_sample(solution, crop_from_points(five_points(capture.points)))
    if not maps["mask"].any():
        raise InputError(f"{folder}: no face pixel is lit by three lights")
    archive = f"{capture.name}.npz"
    common = describe(solution, maps) | {"archive": archive}
    if capture.authors_normals is not None:
        common |= compare(capture.authors_normals, surface.normals, surface.mask)
    if capture.authors_albedo is not None:
        common |= compare_albedo(capture.authors_albedo, surface.albedo, surface.mask)
    if truth is not None and truth.is_file():
        common |= error_against(truth, solution)
    rows = [common | _light_row(capture, light) for light in range(len(capture.lights))]
    write_archive(out / archive, images, maps, record=Record(made_of, rows, time.perf_counter() - start))
    return rows


def session_fingerprint(folder: Path, truth: Path | None, settings: Settings) -> str:
    """Of all that decides a session's archive: the content of its files and of ``truth``, settings, code."""
    files = {name: folder / name for name in FILES} | ({"truth": truth} if truth is not None else {})
    content = {name: file_sha256(path) for name, path in files.items() if path.is_file()}
    return fingerprint([content, asdict(settings), code_version(*CODE)])


def crop_sample(solution: Solution, crop: Crop) -> tuple[NDArray[np.uint8], dict[str, NDArray]]:
    """The face at 256x256: images sRGB uint8 [L, 256, 256, 3]; normal, mask, trust and albedo as a dict."""
    capture, surface = solution.capture, solution.surface
    images = np.stack([_crop_image(capture, light, crop) for light in range(len(capture.lights))])
    weight = crop.apply(surface.mask.astype(np.float32))
    inside = crop.inside(*surface.mask.shape)
    normal = normalise(crop.apply(surface.normals * surface.mask[..., None]))
    maps = {
        "normal": normal,
        "mask": (weight > 0.99) & inside,
        "trust": np.clip(crop.apply(solution.trust), 0, 1) * inside,
        "albedo": crop.apply(surface.albedo),
    }
    return images, maps


def _crop_image(capture: Capture, light: int, crop: Crop) -> NDArray[np.uint8]:
    """One light's picture, sRGB uint8 [256, 256, 3]; grey ones three times."""
    [linear] = capture.linear(lights=slice(light, light + 1))
    height, width = linear.shape[:2]
    return to_uint8(linear_to_srgb(crop.apply(np.broadcast_to(linear, (height, width, 3)).copy())))


def describe(solution: Solution, maps: dict[str, NDArray]) -> dict[str, Any]:
    """What the index says of a session: who, when, how much of the crop is face, how far it is trusted; its notes also
    say what could not be done."""
    capture, reasons = solution.capture, solution.surface.reason
    notes = [capture.attributes.get(NOTES), *(f"{what}: {why}" for what, why in reasons.items())]
    subject, session = capture.name.split("_", 1)
    mask = maps["mask"]
    return {
        "subject": subject,
        "session": session,
        "source": "photoface",
        **mask_columns(mask, maps["trust"]),
        **{name: capture.attributes.get(name) for name in ATTRIBUTE_NAMES},
        NOTES: "; ".join(note for note in notes if note) or None,
    }


def _light_row(capture: Capture, light: int) -> dict[str, Any]:
    return {"sample_id": f"{capture.name}_im{light}", "light": light, **light_columns(capture.lights[light])}


def error_against(truth: Path, solution: Solution) -> dict[str, float]:
    """Angular error of stereo against the exact normals, in degrees, over both masks, and where trust > 0.5."""
    exact = read_arrays(truth, ("normal", "mask"))
    normal, mask = exact["normal"].astype(np.float32), exact["mask"]
    both = mask & solution.surface.mask
    error = angle_deg(solution.surface.normals[both], normalise(normal[both]))
    trusted = solution.trust[both] > 0.5
    return {
        "stereo_pixels": int(both.sum()),
        "stereo_error_deg": float(error.mean()),
        "trusted_pixels": int(trusted.sum()),
        "trusted_error_deg": float(error[trusted].mean()) if trusted.any() else float("nan"),
    }
