"""Lambertian photometric stereo by least squares over the lights that can be trusted at each pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.normals import normalise

Floats = NDArray[np.float32]

RELATIVE_SHADOW = 0.12  # of the pixel's brightest image: below it a light is shadowed, or too grazing to use
TRIM_FROM = 8  # lights; with fewer there is nothing to spare for trimming
TRIM_SHARE = 0.25


@dataclass(frozen=True)
class Surface:
    """What stereo found, all [H, W]: unit ``normals`` [H, W, 3] (frame opengl), ``albedo`` (relative),
    ``mask`` where there is a surface, ``trust`` 0..1, ``residual`` (RMS over the lights used, relative to the
    albedo), ``used`` number of lights."""

    normals: Floats
    albedo: Floats
    mask: NDArray[np.bool_]
    trust: Floats
    residual: Floats
    used: NDArray[np.int64]


def solve(
    images: Floats, lights: Floats, shadow: float = 0.03, saturation: float = 0.98, max_zenith_deg: float = 75
) -> Surface:
    """Normals and albedo from ``images`` [L, H, W] (linear, 0..1) under ``lights`` [L, 3] (unit, frame opengl).

    At each pixel, images below ``shadow``, below 12 % of the pixel's brightest or from ``saturation`` on are
    left out, and with eight lights or more also the quarter with the worst residuals. Lights further than
    ``max_zenith_deg`` from the camera axis are not used. A pixel with fewer than three lights left, with
    nearly coplanar ones, or whose normal faces away is outside the mask and has trust 0.
    InputError for fewer than three such lights or coplanar ones; ValueError for shapes that do not fit.
    """
    if images.ndim != 3 or lights.shape != (len(images), 3):
        raise ValueError(f"expected images [L, H, W] and lights [L, 3], got {images.shape} and {lights.shape}")
    near = lights[:, 2] >= np.cos(np.radians(max_zenith_deg)) - 1e-6
    if near.sum() < 3:
        raise InputError(f"{near.sum()} lights within {max_zenith_deg:g} degrees of the camera axis, 3 are needed")
    if condition(_outer(lights[near]).sum(0)) < 1e-3:
        raise InputError(f"the {near.sum()} lights lie in one plane: they do not determine normals")
    images, lights = images[near].astype(np.float64), lights[near].astype(np.float64)
    weights = usable(images, shadow, saturation)
    scaled = least_squares(images, lights, weights)
    if len(lights) >= TRIM_FROM:
        weights = trim(images, lights, weights, scaled)
        scaled = least_squares(images, lights, weights)
    return _surface(images, lights, weights, scaled)


def usable(images: NDArray, shadow: float, saturation: float) -> NDArray[np.bool_]:
    """Which images [L, H, W] are neither shadowed nor saturated at each pixel."""
    threshold = np.maximum(shadow, RELATIVE_SHADOW * images.max(0))
    return (images > threshold) & (images < saturation)


def least_squares(images: NDArray, lights: NDArray, weights: NDArray[np.bool_]) -> NDArray[np.float64]:
    """albedo * normal [H, W, 3] that explains the weighted images best; 0 where it is not determined."""
    w = weights.astype(np.float64)
    matrix = np.tensordot(w, _outer(lights), (0, 0))  # sum of w l l^T, [H, W, 3, 3]
    right = np.tensordot(w * images, lights, (0, 0))  # sum of w I l
    determined = condition(matrix) > 1e-3
    matrix[~determined] = np.eye(3)
    return np.linalg.solve(matrix, right[..., None])[..., 0] * determined[..., None]


def _outer(lights: NDArray) -> NDArray:
    """l l^T of each light, [L, 3, 3]."""
    return lights[:, :, None] * lights[:, None, :]


def condition(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest over largest eigenvalue of symmetric [..., 3, 3]: 0 for coplanar lights, 1 for an even spread."""
    values = np.linalg.eigvalsh(matrix)
    return np.divide(values[..., 0], values[..., 2], out=np.zeros(matrix.shape[:-2]), where=values[..., 2] > 0)


def predict(scaled: NDArray, lights: NDArray) -> NDArray:
    """Lambertian images [L, H, W] of albedo * normal [H, W, 3] under lights [L, 3]: max(0, l . (albedo n))."""
    return np.maximum(np.moveaxis(scaled @ lights.T, -1, 0), 0)


def trim(images: NDArray, lights: NDArray, weights: NDArray[np.bool_], scaled: NDArray) -> NDArray[np.bool_]:
    """Weights without each pixel's worst quarter of residuals, never leaving fewer than four lights."""
    residual = np.where(weights, np.abs(images - predict(scaled, lights)), -1)
    rank = np.argsort(np.argsort(-residual, axis=0, kind="stable"), axis=0, kind="stable")  # 0 is the worst
    drop = np.minimum(np.floor(TRIM_SHARE * weights.sum(0)), np.maximum(weights.sum(0) - 4, 0))
    return weights & (rank >= drop)


def _surface(images: NDArray, lights: NDArray, weights: NDArray[np.bool_], scaled: NDArray) -> Surface:
    albedo = np.linalg.norm(scaled, axis=-1)
    used = weights.sum(0)
    squares = np.where(weights, (images - predict(scaled, lights)) ** 2, 0).sum(0) / np.maximum(used, 1)
    residual = np.divide(np.sqrt(squares), albedo, out=np.zeros_like(albedo), where=albedo > 0)
    mask = (used >= 3) & (albedo > 0) & (scaled[..., 2] > 0)
    return Surface(
        normalise(scaled),
        albedo.astype(np.float32),
        mask,
        trust(lights, weights, residual) * mask,
        residual.astype(np.float32),
        used,
    )


def trust(lights: NDArray, weights: NDArray[np.bool_], residual: NDArray) -> Floats:
    """How far each pixel can be believed, 0..1 [H, W].

    The product of two factors: the residual (1 at none, 1/e at 8 % of the albedo) and the spread of the
    lights used, relative to all of them. Three lights fit anything, so their residual says nothing: such
    pixels get at most 0.4.
    """
    used = weights.sum(0)
    outer = _outer(lights)
    matrix = np.tensordot(weights.astype(np.float64), outer, (0, 0))  # [H, W, 3, 3]
    spread = np.clip(condition(matrix) / condition(outer.sum(0)), 0, 1)
    believed = np.exp(-residual / 0.08) * np.sqrt(spread)
    return np.where(used >= 4, believed, np.minimum(believed, 0.4) * (used == 3)).astype(np.float32)
