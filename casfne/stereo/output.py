"""What stereo writes: arrays, pictures, and a summary that comes last."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from casfne.files import write_array, write_text
from casfne.images import to_uint8, write_image
from casfne.normals import encode, recognise_frame
from casfne.stereo.captures import Capture
from casfne.stereo.surface import Surface


def write_surface(out: Path | str, surface: Surface, summary: dict[str, Any]) -> None:
    """normals.npy float32 [H, W, 3] (0 where there is none), normals.png, albedo.npy float32 [H, W], mask.png
    (0 or 255), trust.npy float32 [H, W], and summary.json, which appears only when the rest is there."""
    out = Path(out)
    (out / "summary.json").unlink(missing_ok=True)
    write_array(out / "normals.npy", surface.normals * surface.mask[..., None])
    write_image(out / "normals.png", encode(surface.normals, surface.mask))
    write_array(out / "albedo.npy", surface.albedo)
    write_image(out / "mask.png", to_uint8(surface.mask))
    write_array(out / "trust.npy", surface.trust)
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")


def describe(capture: Capture, surface: Surface) -> dict[str, Any]:
    """Numbers that tell whether a result can be believed; the mean normal of a frontal face has x near 0."""
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
        "coverage": float(inside.mean()),
        "mean_trust": _mean(surface.trust[inside]),
        "mean_lights_used": _mean(surface.used[inside]),
        "mean_relative_residual": _mean(surface.residual[inside]),
        "mean_normal": [_mean(surface.normals[inside][:, i]) for i in range(3)],
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
