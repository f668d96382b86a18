"""Lambertian photometric stereo by least squares over the lights that can be trusted at each pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.normals import normalise

Floats = NDArray[np.float32]

RELATIVE_SHADOW = 0.12  # of the pixel's brightest image: below it a light is shadowed, or too grazing to use
LEAST_CHROMA = 0.1  # of the brightness: with less, colour says nothing
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
    """Normals and albedo from ``images`` [L, H, W, 3] (linear RGB, 0..1) or [L, H, W], under ``lights`` [L, 3].

    Lights are unit vectors, frame opengl, and white: highlights then have no colour of their own, and where
    the surface has one the normals are found from its colour alone (see `diffuse`). At each pixel, images
    whose brightness is below ``shadow`` or 12 % of the pixel's brightest, or with a channel at ``saturation``,
    are left out, and with eight lights or more also the quarter with the worst residuals. Lights further than
    ``max_zenith_deg`` from the camera axis are not used. A pixel with fewer than three lights left, with
    nearly coplanar ones, or whose normal faces away is outside the mask and has trust 0.
    InputError for fewer than three such lights or coplanar ones; ValueError for shapes that do not fit.
    """
    if images.ndim not in (3, 4) or lights.shape != (len(images), 3):
        raise ValueError(f"expected images [L, H, W(, 3)] and lights [L, 3], got {images.shape} and {lights.shape}")
    near = lights[:, 2] >= np.cos(np.radians(max_zenith_deg)) - 1e-6
    if near.sum() < 3:
        raise InputError(f"{near.sum()} lights within {max_zenith_deg:g} degrees of the camera axis, 3 are needed")
    if condition(_outer(lights[near]).sum(0)) < 1e-3:
        raise InputError(f"the {near.sum()} lights lie in one plane: they do not determine normals")
    colour = (images if images.ndim == 4 else images[..., None])[near].astype(np.float64)
    grey, brightest, lights = colour.mean(-1), colour.max(-1), lights[near].astype(np.float64)
    signal = diffuse(colour)
    weights = usable(grey, shadow) & (brightest < saturation)
    scaled = least_squares(signal, lights, weights)
    if len(lights) >= TRIM_FROM:
        weights = trim(signal, lights, weights, scaled)
        scaled = least_squares(signal, lights, weights)
    return _surface(signal, grey, lights, weights, scaled)


def diffuse(colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """What of ``colour`` [L, H, W, C] the matte surface sends back, up to a factor for each pixel; [L, H, W].

    A white light's highlight is white. Taking the grey part off every colour leaves the chroma of the matte
    surface times its shading, free of highlights. Where there is hardly any chroma (grey pictures, eyes,
    dark hair) the brightness is all there is, and is given as it is.
    """
    grey = colour.mean(-1)
    chroma = colour - grey[..., None]
    total = chroma.sum(0)  # [H, W, C]: the hue of the pixel under all lights
    strength = np.linalg.norm(total, axis=-1)
    hue = np.divide(total, strength[..., None], out=np.zeros_like(total), where=strength[..., None] > 0)
    matte = (chroma * hue).sum(-1)
    coloured = strength > np.maximum(LEAST_CHROMA * grey.sum(0), 0.02 * len(colour))
    scale = np.divide(grey.sum(0), matte.sum(0), out=np.ones_like(strength), where=coloured)
    return np.where(coloured, matte * scale, grey)


def usable(grey: NDArray, shadow: float) -> NDArray[np.bool_]:
    """Which images [L, H, W] are not shadowed at each pixel."""
    return grey > np.maximum(shadow, RELATIVE_SHADOW * grey.max(0))


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


def _surface(signal: NDArray, grey: NDArray, lights: NDArray, weights: NDArray[np.bool_], scaled: NDArray) -> Surface:
    length = np.linalg.norm(scaled, axis=-1)
    used = weights.sum(0)
    squares = np.where(weights, (signal - predict(scaled, lights)) ** 2, 0).sum(0) / np.maximum(used, 1)
    residual = np.divide(np.sqrt(squares), length, out=np.zeros_like(length), where=length > 0)
    normals = normalise(scaled)
    mask = (used >= 3) & (length > 0) & (scaled[..., 2] > 0)
    return Surface(
        normals,
        albedo(grey, predict(normals, lights), weights),
        mask,
        trust(lights, weights, residual) * mask,
        residual.astype(np.float32),
        used,
    )


def albedo(grey: NDArray, shading: NDArray, weights: NDArray[np.bool_]) -> Floats:
    """Brightness over shading, both [L, H, W], in least squares over the lights used; [H, W], 0 where unknown."""
    over, under = (np.where(weights, shading * other, 0).sum(0) for other in (grey, shading))
    return np.divide(over, under, out=np.zeros_like(over), where=under > 1e-6).astype(np.float32)


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
