"""How far each pixel of a surface can be believed: 0..1, meant as the chance to be within 5 degrees of the truth.

Logistic regression on a few quantities that stereo measures on its way; every one counts against a pixel, never for it,
whatever a fit says. Where fewer than four lights are usable the residual says nothing, since three fit anything: such
pixels have coefficients of their own, without it.

`python -m benchmarks.photometric.trust` fits ``FITTED`` anew; benchmarks/photometric/results.md shows how well that
holds on people that the fit has not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from casfne.normals import angle_deg, normalise
from casfne.stereo.captures import Capture
from casfne.stereo.near import NearLamps
from casfne.stereo.registration import STILL, Registration
from casfne.stereo.solvers import registry
from casfne.stereo.solvers.base import Rays
from casfne.stereo.surface import Pictures, Surface

Floats = NDArray[np.float32]

WITHIN_DEG = 5.0  # of the truth: what trust is the chance of
LEAST_LIGHTS = 4  # usable; with fewer the residual is no evidence
COMPARED = ("least-squares", "masked", "cauchy")  # solvers whose normals are asked to agree, those that can run
UNKNOWN = 1.0  # pixels that a face may have moved by where nothing tells
FAR = 6.0  # pixels from a shadow's edge at which it does not matter any more


@dataclass(frozen=True, eq=False)
class Features:
    """What speaks against a pixel, float32 [H, W] each. ``residual``: relative to the albedo; ``condition``: smallest
    over largest eigenvalue of the lights used, relative to all; ``usable``: number of usable lights; ``disagreement``:
    largest angle between solvers' normals, degrees; ``edge``: pixels to the nearest edge of a shadow; ``facing``: n.z;
    ``brightness``: of the brightest picture, 0..1; ``curl``: depth gained round four pixels, in pixels; ``slip``: by
    what share of its brightness a pixel may be off because the face has moved between the pictures, see `slip_of`;
    ``highlight``: the largest share of a usable light's brightness that was taken off as highlight.
    """

    residual: Floats
    condition: Floats
    usable: Floats
    disagreement: Floats
    edge: Floats
    facing: Floats
    brightness: Floats
    curl: Floats
    slip: Floats
    highlight: Floats


@dataclass(frozen=True)
class Coefficients:
    """``bias``, and one weight for each column of `columns`, none above 0."""

    bias: float
    weights: tuple[float, ...]


# residual, condition, disagreement, edge, facing, darkness, curl, slip, highlight; the first for four lights
FITTED = (
    Coefficients(bias=6.822, weights=(-2.289, -1.517, 0.0, -0.125, -0.542, -7.603, -1.69, -0.742, -0.626)),
    Coefficients(bias=4.554, weights=(0.0, -1.129, -0.116, -0.522, -0.206, -5.545, -0.612, -0.399, -1.275)),
)


def trust(features: Features, fitted: Sequence[Coefficients] = FITTED) -> Floats:
    """The chance that each pixel is within ``WITHIN_DEG`` of the truth, float32 [H, W]; 0 where a feature is not finite
    or fewer than three lights are usable."""
    table = columns(features)
    finite = np.isfinite(table).all(0)
    table = np.where(finite, table, 0)
    many, few = (1 / (1 + np.exp(-(f.bias + np.tensordot(f.weights, table, 1)))) for f in fitted)
    believed = np.where(features.usable >= LEAST_LIGHTS, many, few)
    return (believed * (finite & (features.usable >= 3))).astype(np.float32)


def columns(features: Features) -> NDArray[np.float64]:
    """What the regression sees, [9, H, W]: 0 for a flawless pixel, of the order of 1 for a doubtful one, more for a
    bad one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = (
            np.log1p(features.residual / 0.03),
            -np.log(np.clip(features.condition, 1e-3, 1)) / 2,
            np.log1p(features.disagreement / 3),
            np.clip(1 - features.edge / FAR, 0, 1),
            1 / np.clip(features.facing, 0.1, 1) - 1,
            np.log1p(0.05 / np.maximum(features.brightness, 1e-4)),
            np.log1p(features.curl / 0.1),
            np.log1p(features.slip / 0.02),
            np.log1p(features.highlight / 0.05),
        )
    return np.stack([np.asarray(row, np.float64) for row in rows])


def features_of(
    pictures: Pictures, surface: Surface, lamps: NearLamps | None = None, slip: Floats | None = None
) -> Features:
    """Those of ``surface``, solved from ``pictures``, under far lamps or near ones; tile by tile. ``slip`` [H, W]: of a
    face that may have moved."""
    found = {f.name: np.zeros(surface.mask.shape, np.float32) for f in fields(Features)}
    shadowed = np.zeros(surface.mask.shape, bool)
    for rows in pictures.tiles():
        measured = pictures.measured(rows)
        size = measured.grey.shape[1:]
        lights = lamps.lights(rows) if lamps else pictures.lights
        found["usable"][rows] = measured.usable.sum(0).numpy()
        found["brightness"][rows] = measured.grey.amax(0).numpy()
        shine = (measured.grey - measured.signal).abs() / (measured.grey + 0.02)
        found["highlight"][rows] = (shine * measured.usable).amax(0).numpy()
        found["disagreement"][rows] = disagreement_deg(measured.rays(lights)).reshape(size)
        shadowed[rows] = measured.at_edge.any(0).numpy()
    found["residual"], found["condition"] = surface.residual, surface.condition
    found["facing"] = surface.normals[..., 2]
    found["edge"] = distance_from(shadowed)
    found["curl"] = curl(surface.normals, surface.mask)
    found["slip"] = found["slip"] if slip is None else slip
    return Features(**found)


def slip_of(capture: Capture, registration: Registration, moved: bool) -> Floats:
    """By what share of its brightness each pixel [H, W] of the worst picture may be off through motion.

    What pictures were ``moved`` back by is known but for its standard error, and interpolation has smoothed their
    detail; of pictures that were not, nobody knows by how much they should be.
    """
    worst = np.zeros(capture.images.shape[1:3], np.float32)
    still = np.linalg.norm(registration.shifts, axis=1) < STILL
    for number in range(1, len(capture.images)):
        grey = capture.linear(lights=slice(number, number + 1))[0].mean(-1)
        smooth = cv2.GaussianBlur(grey, (0, 0), 1)
        slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)) / 8
        off = slope * (min(float(registration.doubt[number]), UNKNOWN) if moved else UNKNOWN)
        if moved and not still[number]:
            off = off + np.abs(cv2.Laplacian(smooth, cv2.CV_32F))
        worst = np.maximum(worst, off / (cv2.GaussianBlur(grey, (0, 0), 2) + 0.02))
    return worst


def disagreement_deg(rays: Rays) -> Floats:
    """Largest angle in degrees between the normals [N] of the solvers of ``COMPARED`` that have lights enough."""
    count = len(rays.signal)
    able = [name for name in COMPARED if registry.SOLVERS[name].least <= count]
    normals = [_unit(registry.run(name, rays).scaled) for name in able]
    angles = [angle_deg(a, b) for i, a in enumerate(normals) for b in normals[:i]]
    return np.max(angles, 0) if angles else np.zeros(rays.signal.shape[1], np.float32)


def _unit(scaled: Tensor) -> Floats:
    return normalise(scaled.T.cpu().numpy())


def distance_from(flagged: NDArray[np.bool_]) -> Floats:
    """Pixels [H, W] to the nearest flagged one; far where none is."""
    if not flagged.any():
        return np.full(flagged.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform((~flagged).astype(np.uint8), cv2.DIST_L2, 3), np.float32)


def curl(normals: Floats, mask: NDArray[np.bool_]) -> Floats:
    """|d p / d y - d q / d x| [H, W] in pixels, p and q the slopes that unit ``normals`` [H, W, 3] stand for, taken
    round the four pixels to the right and below; 0 beside the mask's edge."""
    facing = np.maximum(normals[..., 2], 0.1)
    right, down = -normals[..., 0] / facing, normals[..., 1] / facing
    whole = np.zeros(mask.shape, np.float32)
    inside = mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]
    whole[:-1, :-1] = np.abs(np.diff(right, axis=0)[:, :-1] - np.diff(down, axis=1)[:-1]) * inside
    return whole
