"""Surfaces from captures: any solver, tile by tile, in bounded memory."""

from dataclasses import dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from casfne.errors import InputError
from casfne.stereo.captures import Capture
from casfne.stereo.intensities import relative_strengths
from casfne.stereo.measure import HALO, Measured, measure
from casfne.stereo.solvers.base import LEAST_SPREAD, Rays, Solved, spread
from casfne.stereo.solvers.registry import DEFAULT, run

Floats = NDArray[np.float32]

TILE_BYTES = 96 << 20  # that a tile's measurements take; the rows about it, and low-rank's copies, come on top
PIXEL_BYTES = 30  # of them for each light
SAMPLE = 40_000  # pixels that lights' strengths are estimated from


@dataclass(frozen=True)
class Settings:
    """How to solve. solver: a name of `SOLVERS`. shadow, saturation: of full scale, what is darker or as bright is
    left out. max_zenith_deg: lights further from the camera's axis are left out.
    colour: take highlights off by colour, where there is any. strengths: estimate how bright the lights are, relative
    to each other; without, they count as equal. refine_lights: directions too, of far lamps before a frontal face;
    see `casfne.stereo.refine_lights`. InputError unless 0 <= shadow < saturation <= 1.
    """

    solver: str = DEFAULT
    shadow: float = 0.03
    saturation: float = 0.98
    max_zenith_deg: float = 75.0
    colour: bool = True
    strengths: bool = False
    refine_lights: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.shadow < self.saturation <= 1:
            raise InputError(
                f"shadow {self.shadow:g} and saturation {self.saturation:g}: shares of full scale, expected "
                "0 <= shadow < saturation <= 1"
            )


@dataclass(frozen=True)
class Surface:
    """What stereo found, float32 [H, W] each but ``normals`` [H, W, 3] (unit, frame opengl, 0 where there is none) and
    ``mask`` (bool: where there is a surface).

    ``albedo``: relative; ``residual``: RMS over the lights used, of the albedo; ``used``: the sum of how far each light
    was believed; ``condition``: smallest over largest eigenvalue of the sum of w l l^T, relative to that of all lights;
    ``reason``: what was left out or not determined, and why.
    """

    normals: Floats
    albedo: Floats
    mask: NDArray[np.bool_]
    residual: Floats
    used: Floats
    condition: Floats
    reason: dict[str, str] = field(default_factory=dict)


def solve(capture: Capture, settings: Settings | None = None) -> Surface:
    """Normals and albedo of a capture, its lamps taken as far away; see `solve_images`."""
    return solve_pictures(Pictures.of(capture, settings or Settings()))


def solve_images(
    images: NDArray,
    lights: Floats,
    settings: Settings | None = None,
    white: float = 1.0,
    ambient: NDArray | None = None,
) -> Surface:
    """Normals and albedo from ``images`` [L, H, W, C] (1 or 3 colours) or [L, H, W], any type, linear in light, under
    ``lights`` [L, 3]: unit vectors, frame opengl. ``white``: the images' full scale; ``ambient``: a picture without
    lamps, to be taken off.

    Works on rows that come to ``TILE_BYTES``, whatever the size of the pictures. A pixel that fewer than three lights,
    or lights nearly in one plane, determine, or whose normal faces away, is outside the mask.
    InputError for lights that do not fit the images, for too few, or ones in one plane.
    """
    return solve_pictures(Pictures(images, lights, settings or Settings(), white, ambient))


def solve_pictures(pictures: "Pictures") -> Surface:
    """The same, of pictures that are open already."""
    surface = blank(pictures.height, pictures.width, pictures.reason)
    for rows in pictures.tiles():
        measured = pictures.measured(rows)
        solved = run(pictures.settings.solver, measured.rays(pictures.lights))
        put(assemble(measured, pictures.lights, solved), surface, rows)
    return surface


class Pictures:
    """Images of any type under the lights that can be used, read a few rows at a time; arguments as `solve_images`.

    ``near``: the numbers of those lights; ``lights`` float32 [L, 3]: their directions times relative strengths;
    ``reason``: what was left out or not determined, and why.
    """

    def __init__(
        self, images: NDArray, lights: Floats, settings: Settings, white: float = 1.0, ambient: NDArray | None = None
    ) -> None:
        self.images, self.settings, self.white, self.ambient = images, settings, white, ambient
        if images.ndim not in (3, 4) or lights.shape != (len(images), 3):
            shapes = f"{images.shape} and {lights.shape}"
            raise InputError(f"expected images [L, H, W, C] and lights [L, 3], got {shapes}")
        self.height, self.width = images.shape[1:3]
        self.near = usable_lights(lights, settings.max_zenith_deg)
        self.lights = torch.as_tensor(lights[self.near], dtype=torch.float32)
        self.reason: dict[str, str] = {}
        if len(self.near) < len(lights):
            far = f"{len(lights) - len(self.near)} of {len(lights)} are beyond {settings.max_zenith_deg:g} degrees"
            self.reason["lights"] = f"{far}: left out"
        if settings.strengths:
            self._estimate_strengths()

    @staticmethod
    def of(capture: Capture, settings: Settings) -> "Pictures":
        """A capture's."""
        return Pictures(capture.images, capture.lights, settings, capture.white, capture.ambient)

    def tiles(self) -> list[slice]:
        """Rows of about ``TILE_BYTES`` each."""
        step = max(TILE_BYTES // (self.width * len(self.near) * PIXEL_BYTES), 1)
        return [slice(top, min(top + step, self.height)) for top in range(0, self.height, step)]

    def measured(self, rows: slice) -> Measured:
        """The tile of ``rows`` (no step), made with the rows about it that it depends on."""
        top = max(rows.start - HALO, 0)
        return self.look(slice(top, rows.stop + HALO)).rows(slice(rows.start - top, rows.stop - top))

    def inside(self, mask: NDArray[np.bool_]) -> Measured:
        """The N pixels of ``mask`` [H, W], as one row: about 30 bytes for each and each light."""
        parts = [self.measured(rows).inside(torch.from_numpy(mask[rows])) for rows in self.tiles()]
        return Measured.join(parts)

    def look(self, rows: slice) -> Measured:
        """Of any rows, alone."""
        chosen = self.settings

        def picture(number: int) -> Tensor:
            values = _planes(self.images[self.near[number], rows])
            if self.ambient is not None:
                values = np.maximum(values - _planes(self.ambient[rows]), 0)
            return torch.from_numpy(values / np.float32(self.white))

        return measure(picture, self.lights, chosen.shadow, chosen.saturation, chosen.colour)

    def _estimate_strengths(self) -> None:
        """From about ``SAMPLE`` pixels, of rows from top to bottom."""
        step = max(self.height * self.width // SAMPLE, 1)
        found, self.reason["strengths"] = relative_strengths(self.look(slice(0, self.height, step)), self.lights)
        self.lights = self.lights if found is None else self.lights * found[:, None]


def usable_lights(lights: Floats, max_zenith_deg: float) -> NDArray[np.int64]:
    """The numbers of those of ``lights`` [L, 3] that are within ``max_zenith_deg`` of the camera's axis.

    InputError for one without a direction, for fewer than three such lights, and for ones in one plane.
    """
    length = np.linalg.norm(lights, axis=1)
    known = np.isfinite(length) & (length > 0)
    if not known.all():
        raise InputError(f"light {int(known.argmin())} has no direction: {lights[known.argmin()].tolist()}")
    near = np.flatnonzero(lights[:, 2] / length >= np.cos(np.radians(max_zenith_deg)) - 1e-6)
    if len(near) < 3:
        raise InputError(f"{len(near)} lights within {max_zenith_deg:g} degrees of the camera axis, 3 are needed")
    chosen = torch.as_tensor(lights[near], dtype=torch.float32)
    rays = Rays(torch.ones(len(near), 1), chosen, torch.ones(len(near), 1, dtype=torch.bool))
    if float(spread(rays.matrix(rays.signal))) < LEAST_SPREAD:
        raise InputError(f"the {len(near)} lights lie in one plane: they do not determine normals")
    return near


def predict(scaled: NDArray, lights: NDArray) -> NDArray:
    """Lambertian images [L, H, W] of albedo * normal [H, W, 3] under lights [L, 3]: max(0, l . (albedo n))."""
    return np.maximum(np.moveaxis(scaled @ lights.T, -1, 0), 0)


def assemble(measured: Measured, lights: Tensor, solved: Solved) -> Surface:
    """The surface of all of ``measured``'s pixels [H, W], as ``solved`` under ``lights`` [L, 3] or [L, 3, H * W]."""
    rays = measured.rays(lights)
    scaled, weights = solved.scaled, solved.weights
    length, used = scaled.norm(dim=0), weights.sum(0)
    predicted = rays.predict(scaled).clamp_min(0)
    squares = (weights * (rays.signal - predicted).square()).sum(0) / used.clamp_min(1e-6)
    residual = torch.where(length > 0, squares.sqrt() / length, 0.0)
    every = rays.matrix(torch.ones_like(weights[:, :1] if rays.shared else weights))
    condition = (spread(rays.matrix(weights)) / spread(every).clamp_min(1e-6)).clamp(0, 1)
    mask = (length > 0) & (scaled[2] > 0)
    values = {
        "normals": torch.where(mask, scaled / length, 0.0).T,
        "albedo": _albedo(measured.grey.flatten(1), predicted, length, weights),
        "mask": mask,
        "residual": residual,
        "used": used,
        "condition": condition,
    }
    size = measured.grey.shape[1:]
    return Surface(**{name: value.reshape(*size, *value.shape[1:]).cpu().numpy() for name, value in values.items()})


def _albedo(grey: Tensor, predicted: Tensor, length: Tensor, weights: Tensor) -> Tensor:
    """Brightness over shading, [L, N] each, in least squares over the lights used; [N], 0 where unknown."""
    over, under = (weights * predicted * grey).sum(0), (weights * predicted.square()).sum(0)
    return torch.where(under > 0, length * over / under, 0.0)


def blank(height: int, width: int, reason: dict[str, str]) -> Surface:
    """No surface anywhere."""

    def plane() -> Floats:
        return np.zeros((height, width), np.float32)

    normals, mask = np.zeros((height, width, 3), np.float32), np.zeros((height, width), bool)
    return Surface(normals, plane(), mask, plane(), plane(), plane(), reason)


def put(tile: Surface, surface: Surface, where: slice | NDArray[np.bool_]) -> None:
    """Write what ``tile`` found into ``surface``: at some rows, or, for a tile of one row, at the pixels of a mask."""
    for f in fields(Surface):
        if f.name != "reason":
            values = getattr(tile, f.name)
            getattr(surface, f.name)[where] = values if isinstance(where, slice) else values[0]


def _planes(picture: NDArray) -> Floats:
    """[h, W, C] or [h, W] of any type as float32 [C, h, W]."""
    planes = picture[None] if picture.ndim == 2 else np.moveaxis(picture, -1, 0)
    return planes.astype(np.float32, order="C")
