"""Where the face is in a capture, and how well a solved surface explains images it has not seen."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.stereo.captures import Capture
from casfne.stereo.integrate import Integrability, integrability_error, poisson
from casfne.stereo.near import NearLamps, View, solve_near
from casfne.stereo.refine_lights import refine_capture
from casfne.stereo.registration import FEWEST, MOST, Registration, register_capture, undo
from casfne.stereo.solvers.registry import solver_of
from casfne.stereo.surface import Pictures, Settings, Surface, assemble, blank, predict, put, solve
from casfne.stereo.trust import Features, features_of, trust

Floats = NDArray[np.float32]


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


@dataclass(frozen=True, eq=False)
class Solution:
    """All that stereo finds out about a face. capture: as it was solved, its pictures moved back, those that could not
    be left out, and ``numbers`` int [L]: which of the capture's pictures those are. surface: its mask cut to the face
    where the capture has points. trust: float32 [H, W], 0..1, 0 off the mask; see `casfne.stereo.trust`. depth: float32
    [H, W] in pixels, towards the camera, NaN off the mask; from the eyes where the lamps' places are known, else of
    mean 0 over each connected part; ``pixel_m``: metres a pixel, or None. registration: None for many pictures, or
    without points. features: what trust follows from."""

    capture: Capture
    numbers: NDArray[np.int64]
    surface: Surface
    trust: Floats
    depth: Floats
    pixel_m: float | None
    integrability: Integrability
    registration: Registration | None
    features: Features


def solve_capture(capture: Capture, settings: Settings | None = None) -> Solution:
    """Solve a capture: register its pictures and cut the mask to the face where it carries points; with lamps whose
    places are known as well, near ones; trust; depth. What could not be done stands in the surface's ``reason``."""
    settings, points = settings or Settings(), capture.points
    height, width = capture.images.shape[1:3]
    region = np.ones((height, width), bool) if points is None else face_region(points, height, width)
    registration, reason, numbers = None, dict[str, str](), np.arange(len(capture.lights))
    if points is not None and FEWEST <= len(capture.lights) <= MOST:
        registration = register_capture(capture, region)
        capture, reason = undo(capture, registration)
        numbers = numbers if len(capture.lights) == len(numbers) else np.flatnonzero(registration.sure)
    capture, settings, taken = _with_its_lights(capture, settings, region)
    pictures = Pictures.of(capture, settings)
    near = _solve_near(capture, pictures, region) if capture.positions is not None else None
    surface = near[0] if near else _solve_far(capture, settings, region)
    features = features_of(pictures, surface, near[1] if near else None)
    if not surface.mask.any():
        taken = taken | {"mask": _why_empty(features, region)}
    relative = poisson(surface.normals, surface.mask)
    return Solution(
        capture,
        numbers,
        replace(surface, reason=surface.reason | reason | taken),
        trust(features) * surface.mask,
        near[2] if near else relative,
        View.of(points).pixel_m if points is not None else None,
        integrability_error(surface.normals, surface.mask, relative),
        registration,
        features,
    )


def _with_its_lights(
    capture: Capture, settings: Settings, region: NDArray[np.bool_]
) -> tuple[Capture, Settings, dict[str, str]]:
    """The capture with the directions of its lights refined, if the settings ask for that; settings that ask for what
    can be done; and why not, or how far lights have moved."""
    asked = [name for name in ("strengths", "refine_lights") if getattr(settings, name)]
    if capture.positions is not None and asked:
        plain = replace(settings, strengths=False, refine_lights=False)
        return capture, plain, dict.fromkeys(asked, "the lamps' places are given: taken as they are")
    if not settings.refine_lights:
        return capture, settings, {}
    try:
        near, found = refine_capture(Pictures.of(capture, replace(settings, strengths=False)), region)
    except InputError as error:
        return capture, settings, {"refine_lights": str(error)}
    lights = capture.lights.copy()
    lights[near] = found.lights
    moved = f"moved by {found.moved_deg.mean():.1f} degrees, {found.moved_deg.max():.1f} at most"
    return replace(capture, lights=lights), replace(settings, strengths=True), {"refine_lights": moved}


def _why_empty(features: Features, region: NDArray[np.bool_]) -> str:
    most, brightest = features.usable[region].max(initial=0), features.brightness[region].max(initial=0)
    seen = f"at most {most:.0f} lights are usable at a pixel, the brightest value is {brightest:.0%} of full scale"
    return f"no pixel of the face has a normal: {seen}"


def _solve_far(capture: Capture, settings: Settings, region: NDArray[np.bool_]) -> Surface:
    surface = solve(capture, settings)
    mask = surface.mask & region
    return replace(surface, mask=mask, normals=surface.normals * mask[..., None], albedo=surface.albedo * mask)


def _solve_near(
    capture: Capture, pictures: Pictures, region: NDArray[np.bool_]
) -> tuple[Surface, NearLamps, Floats] | None:
    """The surface under lamps at their places, their lights at each pixel, and the depth in pixels; None, and why in
    ``pictures.reason``, without points that tell how large a pixel is."""
    if capture.points is None or capture.positions is None:
        pictures.reason["near lamps"] = "no face points, which tell metres from pixels: lamps taken as far"
        return None
    positions = capture.positions[pictures.near]
    measured = pictures.inside(region)
    solver = solver_of(pictures.settings.solver, len(positions))
    view = View.of(capture.points)
    found = solve_near(measured.rays(pictures.lights), region, positions, view, solver)
    place = np.zeros((3, *region.shape), np.float32)
    place[:, region] = found.place.numpy()
    lamps = NearLamps(torch.from_numpy(positions), place)
    surface = blank(pictures.height, pictures.width, pictures.reason)
    put(assemble(measured, lamps.lights(region), found.solved), surface, region)
    return surface, lamps, np.where(surface.mask, found.depth_m / view.pixel_m, np.nan).astype(np.float32)
