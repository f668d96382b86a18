"""How far the face has moved from flash to flash, and pictures with that undone.

The same face under other lights looks different, so pictures cannot be laid on each other by their brightness. What
they share is detail: spots and lashes (albedo) appear in all alike, pores and wrinkles (shape) by their light. At each
pixel, the contrasts of the L pictures to their surroundings are L numbers, and over a face these go together: their
covariance is nearly singular where the pictures lie on each other, because albedo and the normal's two numbers explain
them all. So the shifts are those under which the contrasts have the most mutual information, -1/2 log det of their
correlations. They are taken to be Student-t: shadows' edges and highlights count little. Newton's method, from coarse
detail to fine. Where there is colour, the pixels' chromaticities, which no white light changes, add theirs.

Three pictures can be explained whatever the shifts, and of many no pixel is lit by all: ``FEWEST`` to ``MOST`` can be
registered. Of many, solvers trim what does not fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne.stereo.captures import Capture
from casfne.stereo.measure import RELATIVE_SHADOW

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_PIXELS = 40_000  # of the face that are looked at; larger pictures are reduced
FEWEST, MOST = 4, 7  # pictures
LEAST_PIXELS = 400  # lit in all pictures
MOST_DOUBT = 0.2  # pixels; more, and a shift is not sure
MOST_MOVED = 8.0  # pixels: what is further was not found, but lost
STILL = 0.05  # pixels: what has moved less is left as it is, for resampling costs more
_LEVELS = ((2.0, 1.0, False), (1.0, 0.7, False), (0.8, 0.5, True), (0.5, 0.3, True))
"""Of each: standard deviation of the detail in pixels, share of the prior in the covariance, with colour or not."""
_SURROUNDINGS = 2.0  # how much wider, than the detail, what it is compared with is
_ROUNDS, _CLOSE = 12, 0.01  # Newton steps of a level; pixels
_MOVES = 1.0  # pixels, standard deviation of motion before anything is seen
_FREEDOM = 0.3  # of Student's t
_DARK, _BRIGHT = 0.03, 0.7  # of full scale: what is darker is shadow, what is brighter may be a highlight
_EDGE = 3  # pixels across, of what is left out about shadows' edges
_SHAPE, _OWN = 1.0, 0.3  # how strong shape's detail and a picture's own are, before anything is seen; albedo's is 1
_HUE_OWN = 0.3  # the same in chromaticity, where shape has none
_RIDGE, _HUE_RIDGE = 0.002, 0.02  # of a mean variance: what pictures have of their own at the least
_CELL = 24  # pixels, side of the squares of the face that are taken as independent of each other


@dataclass(frozen=True, eq=False)
class Registration:
    """``shifts`` float32 [L, 2]: x and y in pixels by which the face has moved since the first picture, 0 where it is
    not sure; ``doubt`` float32 [L]: their standard error in pixels, inf where nothing was found; ``sure`` bool [L];
    ``reason``: why not, by picture ("picture 3")."""

    shifts: Floats
    doubt: Floats
    sure: Mask
    reason: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Kind:
    """One thing to compare pictures by: ``planes`` [L, H, W]; ``relative``: by contrast to the surroundings' mean, not
    by difference; ``prior`` [L, L]: the covariance of details before anything is seen, of mean variance 1; ``ridge``.
    """

    planes: Floats
    relative: bool
    prior: Doubles
    ridge: float


def register(images: Floats, lights: Floats, region: Mask) -> Registration:
    """The shifts between ``images`` float32 [L, H, W, C] (linear, 0..1, 1 or 3 colours) under ``lights`` [L, 3] (unit,
    frame opengl), of what is in ``region`` bool [H, W] of the first. ValueError for shapes that do not fit.

    A shift is sure where its standard error, by how much the squares of the face differ, is at most ``MOST_DOUBT``.
    """
    if images.ndim != 4 or lights.shape != (len(images), 3) or region.shape != images.shape[1:3]:
        shapes = f"{images.shape}, {lights.shape} and {region.shape}"
        raise ValueError(f"expected images [L, H, W, C], lights [L, 3] and region [H, W], got {shapes}")
    if not region.any():
        return _judged(np.zeros((len(images), 2)), np.full(len(images), np.inf), 1)
    rows, columns, scale = _window(region)
    images = np.stack([_reduced(image[rows, columns], scale) for image in images])
    return _register(images, lights, _reduced(region[rows, columns].astype(np.float32), scale) > 0.5, scale)


def register_capture(capture: Capture, region: Mask) -> Registration:
    """The same for a capture, whose pictures are reduced one by one where they are large."""
    if not region.any():
        return _judged(np.zeros((len(capture.images), 2)), np.full(len(capture.images), np.inf), 1)
    rows, columns, scale = _window(region)
    numbers = range(len(capture.images))
    images = np.stack([_reduced(capture.linear(rows, slice(i, i + 1))[0][:, columns], scale) for i in numbers])
    return _register(images, capture.lights, _reduced(region[rows, columns].astype(np.float32), scale) > 0.5, scale)


def undo(capture: Capture, found: Registration) -> tuple[Capture, dict[str, str]]:
    """The capture with its pictures moved back, and what was not done, and why.

    Shifts are found together, so one that is not sure casts doubt on all: then nothing is moved.
    """
    if not found.sure.all():
        return capture, found.reason | {"registration": "none moved"}
    return replace(capture, images=align(capture.images, found.shifts, capture.white)), {}


def align(images: NDArray, shifts: Floats, white: float) -> NDArray:
    """``images`` [L, H, W, C] of any type with each one's shift undone, by cubic interpolation.

    What comes from outside a picture is 0: a shadow to every solver. What touches full scale, ``white``, stays there:
    interpolated, it would pass for unsaturated. Pictures that have moved by less than ``STILL`` are left as they are.
    """
    aligned = images.copy()
    for i in np.flatnonzero(np.linalg.norm(shifts, axis=1) >= STILL):
        values = images[i].astype(np.float32)
        moved = _moved(values, shifts[i]).reshape(values.shape)
        saturated = (values >= white).astype(np.float32)
        moved[_moved(saturated, shifts[i]).reshape(values.shape) > 0.01] = white
        inside = _moved(np.ones(values.shape[:2], np.float32), shifts[i], cv2.BORDER_CONSTANT) > 0.999
        moved = np.clip(moved, 0, white) * inside[..., None]
        aligned[i] = np.rint(moved) if np.issubdtype(images.dtype, np.integer) else moved
    return aligned


# --- the working size ---


def _window(region: Mask) -> tuple[slice, slice, int]:
    """Rows and columns about ``region`` with room to move, and by how much to reduce them."""
    scale = int(np.ceil(np.sqrt(region.sum() / MOST_PIXELS)))
    room = int(2 * MOST_MOVED * scale)
    spans = []
    for axis in (1, 0):
        found = np.flatnonzero(region.any(axis))
        spans.append(slice(max(int(found[0]) - room, 0), int(found[-1]) + 1 + room))
    return spans[0], spans[1], scale


def _reduced(image: Floats, scale: int) -> Floats:
    """Means over squares of ``scale`` pixels; what is left over at the right and below is cut off."""
    height, width = (n // scale * scale for n in image.shape[:2])
    if scale == 1:
        return image
    size = (width // scale, height // scale)
    reduced = cv2.resize(image[:height, :width], size, interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, np.float32).reshape(*size[::-1], *image.shape[2:])


def _register(images: Floats, lights: Floats, region: Mask, scale: int) -> Registration:
    shifts, doubt = _all_together(images, lights, region)
    return _judged(shifts * scale, doubt * scale, scale)


def _judged(shifts: Doubles, doubt: Doubles, scale: int) -> Registration:
    """What of that can be believed."""
    length = np.linalg.norm(shifts, axis=1)
    sure = (doubt <= MOST_DOUBT * scale) & (length <= MOST_MOVED * scale)
    reason = {
        f"picture {i}": f"shift of {length[i]:.2f} pixels with a standard error of {doubt[i]:.2f}: not sure"
        if np.isfinite(doubt[i])
        else "too little of the face is lit to register it"
        for i in np.flatnonzero(~sure)
    }
    return Registration((shifts * sure[:, None]).astype(np.float32), doubt.astype(np.float32), sure, reason)


# --- what is compared ---


def _all_together(images: Floats, lights: Floats, region: Mask) -> tuple[Doubles, Doubles]:
    """Shifts [L, 2] and their standard errors [L]."""
    grey = images.mean(-1)
    kinds = [_Kind(grey, True, _shape_prior(lights), _RIDGE)]
    if images.shape[-1] == 3:
        own = np.eye(len(images)) * _HUE_OWN**2 + 1
        total = images.sum(-1) + _DARK  # so that the dark, which is noise, has no colour
        kinds += [_Kind(images[..., c] / total, False, own / own[0, 0], _HUE_RIDGE) for c in (0, 2)]
    return _newton(kinds, _lit(grey, grey.max(0)), region, np.zeros((len(images), 2)))


def _shape_prior(lights: Floats) -> Doubles:
    """Covariance [L, L] of contrasts: albedo's, equal in all, that of a normal that leans a little, and noise."""
    lean = lights[:, :2].astype(np.float64) / np.maximum(lights[:, 2:], 0.25)
    prior = 1 + _SHAPE**2 * lean @ lean.T + _OWN**2 * np.eye(len(lights))
    return prior / (np.trace(prior) / len(prior))


def _lit(grey: Floats, brightest: Floats) -> Floats:
    """Where pictures [L, H, W] are neither in shadow nor in a highlight, nor beside: 1, else 0."""
    lit = (grey > np.maximum(_DARK, RELATIVE_SHADOW * brightest)) & (grey < _BRIGHT)
    return np.stack([cv2.erode(a.astype(np.uint8), np.ones((_EDGE, _EDGE), np.uint8)) for a in lit]).astype(np.float32)


# --- Newton's method ---


def _newton(kinds: Sequence[_Kind], lit: Floats, region: Mask, shifts: Doubles) -> tuple[Doubles, Doubles]:
    """Shifts [L, 2] after all levels, the first 0, and their standard errors [L]; inf where too little is lit."""
    unknown = np.full(len(shifts), np.inf)
    spread = unknown
    for size, share, coloured in _LEVELS:
        used = kinds if coloured else kinds[:1]
        for _ in range(_ROUNDS):
            mask = region & (_all_moved(lit, shifts) > 0.95).all(0)
            if mask.sum() < LEAST_PIXELS:
                return shifts, unknown
            curvature, slopes = _equations(used, mask, shifts, size, share)
            step = _step(curvature, slopes.sum(0), shifts)
            shifts = shifts + step * min(1, size / 2 / max(np.abs(step).max(), 1e-9))
            if np.abs(step).max() < _CLOSE:
                break
        else:
            slopes = slopes * 2  # not at rest: its errors are larger than they seem
        spread = _errors(curvature, slopes)
    return shifts, spread


def _step(curvature: Doubles, slope: Doubles, shifts: Doubles) -> Doubles:
    """Newton's, [L, 2], towards no motion where the pictures say little; the first stays."""
    values, vectors = np.linalg.eigh(curvature + np.eye(len(slope)) / _MOVES**2)
    right = vectors.T @ (slope + shifts[1:].ravel() / _MOVES**2)
    step = -vectors @ (right / np.maximum(values, 0.003 * values[-1]))
    return np.concatenate([np.zeros((1, 2)), step.reshape(-1, 2)])


def _errors(curvature: Doubles, slopes: Doubles) -> Doubles:
    """Standard errors [L] of shifts from the slopes of independent parts of the face [P, 2 L - 2]."""
    inverse = np.linalg.pinv(curvature, hermitian=True)
    variance = np.diag(inverse @ (slopes.T @ slopes) @ inverse).reshape(-1, 2).sum(1)
    return np.concatenate([[0.0], np.sqrt(variance)])


def _equations(
    kinds: Sequence[_Kind], mask: Mask, shifts: Doubles, size: float, share: float
) -> tuple[Doubles, Doubles]:
    """Second derivative [2 L - 2, 2 L - 2] of minus the mutual information by the shifts of all but the first, and
    the first derivative over each square of the face, [P, 2 L - 2]."""
    count, area = len(shifts), 4 * np.pi * size**2  # pixels that tell the same
    rows, columns = np.nonzero(mask)
    _, cell = np.unique(rows // _CELL * 10_000 + columns // _CELL, return_inverse=True)
    total, slopes = np.zeros((2 * count, 2 * count)), np.zeros((cell.max() + 1, 2 * count))
    for kind in kinds:
        detail, gradient = _details(kind, mask, shifts, size)
        precision, own, weight = _student(detail, kind, share)
        pull = ((precision - np.diag(1 / own)) @ detail) * weight
        products = gradient * np.repeat(pull, 2, 0)
        slopes += np.stack([np.bincount(cell, row, len(slopes)) for row in products], 1)
        total += _curvature(gradient, weight, precision)
    return total[2:, 2:] / area, slopes[:, 2:] / area


def _student(detail: Floats, kind: _Kind, share: float) -> tuple[Doubles, Doubles, Floats]:
    """Student's t fitted to contrasts [L, N]: inverse covariance [L, L], variances [L], weight of each pixel [N]."""
    count, pixels = detail.shape
    weight = np.ones(pixels, np.float32)
    for _ in range(4):
        covariance = ((detail * weight) @ detail.T / pixels).astype(np.float64)
        mean = max(np.trace(covariance) / count, 1e-12)
        covariance = (1 - share) * covariance + share * mean * kind.prior + kind.ridge * mean * np.eye(count)
        precision = np.linalg.inv(covariance)
        distance = np.einsum("ln,ln->n", detail, precision.astype(np.float32) @ detail)
        weight = ((_FREEDOM + count) / (_FREEDOM + distance)).astype(np.float32)
    return precision, np.diag(covariance), weight


def _curvature(gradient: Floats, weight: Floats, precision: Doubles) -> Doubles:
    """[2 L, 2 L]: between pictures, their gradients' products; of one, less the sum of its row, since moving all
    together changes nothing. Unlike its own gradients' squares that is free of noise; it is kept above a tenth of
    them."""
    count = len(precision)
    products = ((gradient * weight) @ gradient.T).astype(np.float64) * np.kron(precision, np.ones((2, 2)))
    blocks = products.reshape(count, 2, count, 2)
    for i in range(count):
        own = blocks[i, :, i].copy()
        others = own - blocks[i].sum(1)
        values, vectors = np.linalg.eigh((others + others.T) / 2)
        blocks[i, :, i] = vectors @ np.diag(np.maximum(values, 0.1 * np.trace(own) / 2)) @ vectors.T
    whole = blocks.reshape(2 * count, 2 * count)
    symmetric: Doubles = (whole + whole.T) / 2
    return symmetric


def _details(kind: _Kind, mask: Mask, shifts: Doubles, size: float) -> tuple[Floats, Floats]:
    """Contrasts [L, N] at the mask's pixels, and their gradients [2 L, N] (x, y of each), of pictures moved back.

    Means are over pixels of the mask alone: what is in shadow in one picture counts in none.
    """
    inside = mask.astype(np.float32)
    near, far = (np.maximum(_blurred(inside, s), 1e-3) for s in (size, size * _SURROUNDINGS))

    def detail(plane: Floats) -> Floats:
        plane = plane * inside
        difference = _blurred(plane, size) / near - _blurred(plane, size * _SURROUNDINGS) / far
        return np.asarray(difference[mask], np.float32)

    details, gradients = [], []
    for plane in _all_moved(kind.planes, shifts):
        mean = _blurred(plane * inside, size * _SURROUNDINGS) / far + 0.005 if kind.relative else np.float32(1)
        details.append(detail(plane / mean))
        gradients += [detail(cv2.filter2D(plane, -1, kernel) / mean) for kernel in _DERIVATIVES]
    return np.stack(details), np.stack(gradients)


_DERIVATIVES = (np.array([[-0.5, 0, 0.5]], np.float32), np.array([[-0.5], [0], [0.5]], np.float32))


def _blurred(plane: Floats, size: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), size), np.float32)


def _all_moved(planes: Floats, shifts: Doubles) -> Floats:
    """Pictures [L, H, W] with their shifts undone."""
    pairs = zip(planes, shifts, strict=True)
    return np.stack([_moved(plane, shift) if shift.any() else plane for plane, shift in pairs])


def _moved(image: Floats, shift: NDArray, border: int = cv2.BORDER_REPLICATE) -> Floats:
    """``image`` [H, W, ...] at each pixel's place plus ``shift`` (x, y), by cubic interpolation."""
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[1::-1], flags=flags, borderMode=border), np.float32)
