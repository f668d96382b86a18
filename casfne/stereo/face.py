"""Where the face is in a capture, and how well a solved surface explains images it has not seen."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.stereo.captures import Capture
from casfne.stereo.surface import Settings, predict, solve


def face_region(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The face as an ellipse through Photoface's 11 points [11, 2]: bool [H, W].

    Its long axis runs from a fifth above the mid forehead to just below the chin; its short axis reaches
    beyond the outer corners of the eyes.
    """
    forehead, chin = points[2], points[10]
    axis = chin - forehead
    length = float(np.linalg.norm(axis))
    centre = forehead + 0.42 * axis
    half_width = max(0.72 * float(np.ptp(points[[0, 4], 0])), 0.42 * length)
    angle = float(np.degrees(np.arctan2(axis[1], axis[0])))
    canvas = np.zeros((height, width), np.uint8)
    box = ((float(centre[0]), float(centre[1])), (1.24 * length, 2 * half_width), angle)
    cv2.ellipse(canvas, box, 1, thickness=-1)
    return canvas.astype(bool)


def held_out_error(capture: Capture, count: int, settings: Settings) -> dict[str, float]:
    """Solve without ``count`` of the images, evenly spread over the lights, and predict those.

    Errors are over their lit pixels (neither shadowed nor saturated) inside the mask, in 0..255: mean
    absolute error, root mean square, and the mean relative to the mean lit brightness; for scale, also that
    of the same albedo on a face whose normals are all (0, 0, 1).
    """
    total = len(capture.lights)
    if not 0 < count <= total - 3:
        raise InputError(f"cannot hold out {count} of {total} images: 3 must remain")
    held = np.linspace(0, total - 1, count).round().astype(int)
    kept = np.setdiff1d(np.arange(total), held)
    grey = capture.grey
    known = replace(capture, images=capture.images[kept], lights=capture.lights[kept], positions=None)
    surface = solve(known, settings)
    albedo = surface.albedo[..., None]
    flat = np.array([0, 0, 1], np.float32)
    lit = (grey[held] > settings.shadow) & (grey[held] < settings.saturation) & surface.mask
    measured = grey[held][lit]
    error, error_flat = (
        np.abs(predict(normals * albedo, capture.lights[held])[lit] - measured) * 255
        for normals in (surface.normals, flat)
    )
    return {
        "solved_from": len(kept),
        "predicted": len(held),
        "lit_pixels": int(lit.sum()),
        "mean_abs_error_of_255": float(error.mean()),
        "rms_error_of_255": float(np.sqrt((error**2).mean())),
        "relative_error": float(error.mean() / (measured.mean() * 255)),
        "relative_error_of_a_flat_face": float(error_flat.mean() / (measured.mean() * 255)),
    }
