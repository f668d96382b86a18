"""How well a solution explains pictures that it has not seen."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.stereo.captures import Capture
from casfne.stereo.output import rendered
from casfne.stereo.solution import Solution, solve_capture
from casfne.stereo.surface import Settings

Floats = NDArray[np.float32]


def held_out_error(capture: Capture, count: int, settings: Settings) -> dict[str, Any]:
    """Solve without ``count`` of the pictures, evenly spread over the lights, and predict those: with lamps as near as
    `solve_capture` took them, over its mask.

    Errors are over lit pixels (neither shadowed nor saturated), in 0..255: mean absolute error, root mean square, and
    the mean relative to the mean lit brightness; for scale, also that of the same albedo on a face whose normals are
    all (0, 0, 1). Where ``settings`` ask for the strengths of far lamps, each predicted picture is scaled to fit best,
    and ``fitted_strengths`` says by how much. Pictures are predicted as they were taken: what a face moved by before
    one of them counts as error.
    InputError: fewer than three pictures remain, the rest has no solution, no pixel is lit, or lights are to be
    refined, which those that are left out cannot be.
    """
    total = len(capture.lights)
    if not 0 < count <= total - 3:
        raise InputError(f"cannot hold out {count} of {total} images: 3 must remain")
    if settings.refine_lights:
        raise InputError("held-out images cannot judge refined lights: their own directions stay as they were given")
    held = np.linspace(0, total - 1, count).round().astype(int)
    kept = np.setdiff1d(np.arange(total), held)
    solution, unseen = solve_capture(_chosen(capture, kept), settings), _chosen(capture, held)
    surface, measured = solution.surface, unseen.grey
    if not surface.mask.any():
        raise InputError(f"{capture.name}, {len(kept)} of {total} images: {surface.reason['mask']}")
    lit = (measured > settings.shadow) & (measured < settings.saturation) & surface.mask
    if not lit.any():
        raise InputError(f"{capture.name}: none of the {count} held-out images has a lit pixel on the face")
    flat = replace(surface, normals=np.broadcast_to(np.array([0, 0, 1], np.float32), surface.normals.shape))
    scaled = settings.strengths and solution.place is None
    (error, strengths), (error_flat, _) = (
        _misses(replace(solution, capture=unseen, surface=one), measured, lit, scaled) for one in (surface, flat)
    )
    brightness = float(measured[lit].mean()) * 255
    return {
        "solved_from": len(kept),
        "predicted": len(held),
        "lit_pixels": int(lit.sum()),
        "mean_abs_error_of_255": float(error.mean()),
        "rms_error_of_255": float(np.sqrt((error**2).mean())),
        "relative_error": float(error.mean()) / brightness,
        "relative_error_of_a_flat_face": float(error_flat.mean()) / brightness,
        "fitted_strengths": strengths.round(3).tolist() if scaled else None,
    }


def _chosen(capture: Capture, numbers: NDArray[np.int64]) -> Capture:
    """Some of a capture's pictures."""
    positions = None if capture.positions is None else capture.positions[numbers]
    return replace(capture, images=capture.images[numbers], lights=capture.lights[numbers], positions=positions)


def _misses(
    solution: Solution, measured: Floats, lit: NDArray[np.bool_], scaled: bool
) -> tuple[Floats, NDArray[np.float64]]:
    """By how much ``solution``'s surface misses its capture's pictures [L, H, W], of 255, at ``lit`` [L, H, W]; and the
    strength of each of the L lamps: of least squares where ``scaled``, else 1, as where nothing is lit."""
    predicted = np.stack([rendered(solution, number) for number in range(len(measured))])
    strengths = np.ones(len(measured))
    if scaled:
        over, under = ((values * predicted * lit).sum((1, 2), np.float64) for values in (measured, predicted))
        np.divide(over, under, out=strengths, where=under > 0)
        predicted *= strengths[:, None, None]
    return np.abs(predicted - measured)[lit] * 255, strengths
