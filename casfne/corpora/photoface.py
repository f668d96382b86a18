"""Photoface sessions, real or simulated, as samples: stereo, face crop, 256x256, one archive a session."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casfne.corpora.samples import write_archive
from casfne.errors import InputError
from casfne.images import SIZE, Crop, crop_from_points, linear_to_srgb, to_uint8
from casfne.normals import angle_deg, normalise
from casfne.stereo.captures import Capture, five_points, read_photoface
from casfne.stereo.face import solve_capture
from casfne.stereo.solve import Surface


def prepare_session(
    folder: Path, out: Path, truth: Path | None, shadow: float, saturation: float
) -> list[dict[str, Any]]:
    """Solve one session, write its archive into ``out``, and give its rows of the index, one for each light.

    ``truth`` is the archive of exact normals (`normal` [H, W, 3], `mask` [H, W]) of a simulated session; the
    rows then carry the angular error against it. InputError for a session that cannot be used.
    """
    capture = read_photoface(folder)
    if capture.points is None:
        raise InputError(f"{folder}: no metadata.txt, whose points place the face")
    surface = solve_capture(capture, shadow, saturation)
    crop = crop_from_points(five_points(capture.points))
    images, maps = crop_sample(capture, surface, crop)
    if not maps["mask"].any():
        raise InputError(f"{folder}: no face pixel is lit by three lights")
    archive = f"{capture.name}.npz"
    write_archive(out / archive, images, maps)
    common = describe(capture, maps) | {"archive": archive}
    if truth is not None and truth.is_file():
        common |= error_against(truth, surface)
    return [common | _light_row(capture, light) for light in range(len(capture.lights))]


def crop_sample(capture: Capture, surface: Surface, crop: Crop) -> tuple[NDArray[np.uint8], dict[str, NDArray]]:
    """The face at 256x256: images sRGB uint8 [L, 256, 256, 3]; normal, mask, trust and albedo as a dict."""
    images = np.stack([to_uint8(linear_to_srgb(crop.apply(image))) for image in capture.images])
    weight = crop.apply(surface.mask.astype(np.float32))
    inside = crop.inside(*surface.mask.shape)
    normal = normalise(crop.apply(surface.normals * surface.mask[..., None]))
    maps = {
        "normal": normal,
        "mask": (weight > 0.99) & inside,
        "trust": np.clip(crop.apply(surface.trust), 0, 1) * inside,
        "albedo": crop.apply(surface.albedo),
    }
    return images, maps


def describe(capture: Capture, maps: dict[str, NDArray]) -> dict[str, Any]:
    """What the index says of a session: who, when, how much of the crop is face, how far it is trusted."""
    subject, session = capture.name.split("_", 1)
    mask = maps["mask"]
    return {
        "subject": subject,
        "session": session,
        "source": "photoface",
        "coverage": float(mask.sum() / SIZE**2),
        "mean_trust": float(maps["trust"][mask].mean()),
    } | capture.attributes


def _light_row(capture: Capture, light: int) -> dict[str, Any]:
    x, y, z = (float(v) for v in capture.lights[light])
    return {
        "sample_id": f"{capture.name}_im{light}",
        "light": light,
        "light_azimuth_deg": float(np.degrees(np.arctan2(x, z))),
        "light_elevation_deg": float(np.degrees(np.arcsin(y))),
    }


def error_against(truth: Path, surface: Surface) -> dict[str, float]:
    """Angular error of stereo against the exact normals, in degrees, over both masks, and where trust > 0.5."""
    with np.load(truth, allow_pickle=False) as arrays:
        normal, mask = arrays["normal"].astype(np.float32), arrays["mask"]
    both = mask & surface.mask
    error = angle_deg(surface.normals[both], normalise(normal[both]))
    trusted = surface.trust[both] > 0.5
    return {
        "stereo_pixels": int(both.sum()),
        "stereo_error_deg": float(error.mean()),
        "trusted_pixels": int(trusted.sum()),
        "trusted_error_deg": float(error[trusted].mean()) if trusted.any() else float("nan"),
    }
