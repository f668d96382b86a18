"""All that stereo does with a capture: register, solve under far lamps or near ones, and say how far to believe it."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.stereo.captures import Capture
from casfne.stereo.face import face_region
from casfne.stereo.integrate import Integrability, integrability_error, poisson
from casfne.stereo.near import NearLamps, View, solve_near
from casfne.stereo.refine_lights import refine_capture
from casfne.stereo.registration import FEWEST, MOST, Registration, register_capture, undo
from casfne.stereo.solvers.least_squares import masked
from casfne.stereo.solvers.registry import solver_of
from casfne.stereo.surface import Pictures, Settings, Surface, assemble, blank, put, solve_pictures
from casfne.stereo.trust import Features, features_of, slip_of, trust

Floats = NDArray[np.float32]

MISFIT_PIXELS = 40_000
MISFIT_SCALE = 0.02  # of the albedo
WORSE = 0.05  # as much less well moved pictures may fit: gloss and noise make some difference


@dataclass(frozen=True, eq=False)
class Solution:
    """All that stereo finds out about a face. capture: as it was solved, its pictures moved back. surface: its mask cut
    to the face where the capture has points. trust: float32 [H, W], 0..1, 0 off the mask; see `casfne.stereo.trust`.
    ``pixel_m``: metres a pixel, or None; ``place``: float32 [3, H, W], metres, of pixels under near lamps, and
    ``near_depth`` float32 [H, W], their depth in pixels from the eyes, or None. registration: None for many pictures,
    or without points. features: what trust follows from."""

    capture: Capture
    surface: Surface
    trust: Floats
    pixel_m: float | None
    place: Floats | None
    near_depth: Floats | None
    registration: Registration | None
    features: Features

    @property
    def depth(self) -> Floats:
        """float32 [H, W] in pixels, towards the camera, NaN off the mask: from the eyes where the lamps' places are
        known, else of mean 0 over each connected part."""
        return self._integrated if self.near_depth is None else self.near_depth

    @property
    def integrability(self) -> Integrability:
        """How well the normals fit any surface."""
        return integrability_error(self.surface.normals, self.surface.mask, self._integrated)

    @cached_property
    def _integrated(self) -> Floats:
        """As long as all the rest takes, so only when it is asked for."""
        return poisson(self.surface.normals, self.surface.mask)


def solve_capture(capture: Capture, settings: Settings | None = None) -> Solution:
    """Solve a capture: register its pictures and cut the mask to the face where it carries points; with lamps whose
    places are known as well, near ones; trust; depth. What could not be done stands in the surface's ``reason``."""
    settings, points = settings or Settings(), capture.points
    height, width = capture.images.shape[1:3]
    region = np.ones((height, width), bool) if points is None else face_region(points, height, width)
    registration, slip, reason = None, None, dict[str, str]()
    if points is not None and FEWEST <= len(capture.lights) <= MOST:
        registration = register_capture(capture, region)
        capture, reason = _moved_back(capture, registration, settings, region)
        slip = slip_of(capture, registration, moved=not reason)
    capture, settings, taken = _with_its_lights(capture, settings, region)
    pictures = Pictures.of(capture, settings)
    near = _solve_near(capture, pictures, region)
    surface = near[0] if near else _solve_far(pictures, region)
    features = features_of(pictures, surface, near[1] if near else None, slip)
    if not surface.mask.any():
        taken = taken | {"mask": _why_empty(features, region)}
    return Solution(
        capture,
        replace(surface, reason=surface.reason | reason | taken),
        trust(features) * surface.mask,
        View.of(points).pixel_m if points is not None else None,
        near[1].place if near else None,
        near[2] if near else None,
        registration,
        features,
    )


def _moved_back(
    capture: Capture, registration: Registration, settings: Settings, region: NDArray[np.bool_]
) -> tuple[Capture, dict[str, str]]:
    """The capture as `undo` gives it, unless its pictures fit each other less well then: smooth skin has nothing to
    hold on to, and shading alone misleads."""
    moved, reason = undo(capture, registration)
    if moved is capture:
        return capture, reason
    before, after = (misfit(Pictures.of(taken, settings), region) for taken in (capture, moved))
    if after <= (1 + WORSE) * before:
        return moved, reason
    return capture, {"registration": f"moved, the pictures fit by {after / before - 1:.0%} less well: none moved"}


def misfit(pictures: Pictures, region: NDArray[np.bool_]) -> float:
    """How far the lights are from agreeing over the face: Cauchy's loss of what least squares over four usable lights
    or more leave of the albedo, its mean over some of ``region``; 0 where no pixel has four."""
    step = max(int(region.sum()) // MISFIT_PIXELS, 1)
    measured = pictures.look(slice(0, None, step)).inside(torch.from_numpy(region[::step]))
    rays = measured.rays(pictures.lights)
    rays = rays.part((rays.usable.sum(0) >= 4).nonzero()[:, 0])
    if not rays.signal.shape[1]:
        return 0.0
    squares = rays.misfit(masked(rays).scaled).square().sum(0)
    return float((squares / MISFIT_SCALE**2).log1p().mean())


def _with_its_lights(
    capture: Capture, settings: Settings, region: NDArray[np.bool_]
) -> tuple[Capture, Settings, dict[str, str]]:
    """The capture with the directions of its lights refined, if the settings ask for that; settings that ask for what
    can be done; and why not, or how far lights have moved."""
    asked = [name for name in ("strengths", "refine_lights") if getattr(settings, name)]
    if capture.positions is not None and capture.points is not None and asked:
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


def _solve_far(pictures: Pictures, region: NDArray[np.bool_]) -> Surface:
    surface = solve_pictures(pictures)
    mask = surface.mask & region
    return replace(surface, mask=mask, normals=surface.normals * mask[..., None], albedo=surface.albedo * mask)


def _solve_near(
    capture: Capture, pictures: Pictures, region: NDArray[np.bool_]
) -> tuple[Surface, NearLamps, Floats] | None:
    """The surface under lamps at their places, their lights at each pixel, and the depth in pixels. None where the
    places are not known and, which ``pictures.reason`` says, without points that tell how large a pixel is."""
    if capture.positions is None:
        return None
    if capture.points is None:
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
