"""Normals: the frame, its pictures, angles between normals, other frames and how to tell them.

Frame ``opengl`` (ours): camera space, x right, y up, z towards the camera, unit length. A wall that faces the
camera is (0, 0, 1); the left cheek of the picture has x < 0, the forehead y > 0, the chin y < 0.
NumPy arrays are float32 [..., 3]; maps are [H, W, 3] with row 0 at the top of the picture.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]

# rows: x, y, z of ours, in the coordinates that the other frame stores
_TO_OURS: dict[str, NDArray[np.float32]] = {
    "opengl": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32),
    "directx": np.array([[1, 0, 0], [0, -1, 0], [0, 0, 1]], np.float32),  # y down, z towards the camera
    "opencv": np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1]], np.float32),  # y down, z into the scene
    "sfs": np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32),  # stored as (down, right, out)
}
FRAMES = tuple(_TO_OURS)


def normalise(vectors: ArrayLike) -> Floats:
    """Unit vectors along the last axis, float32; zero vectors stay zero."""
    v = np.asarray(vectors, np.float32)
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.divide(v, length, out=np.zeros_like(v), where=length > 0)


def angle_deg(a: ArrayLike, b: ArrayLike) -> Floats:
    """Angle in degrees between unit vectors [..., 3] and [..., 3]; float32 [...].

    Taken from the chord, 2 asin(|a - b| / 2): unlike acos of the dot product it keeps its precision near 0.
    """
    chord = np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64), axis=-1)
    return np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1))).astype(np.float32)


def encode(normals: ArrayLike, mask: ArrayLike | None = None) -> NDArray[np.uint8]:
    """Normals [..., 3] to their 8-bit picture, RGB = (n + 1) / 2 rounded to 0..255; (128,128,128) off the mask."""
    n = np.asarray(normals, np.float32)
    picture = np.rint((np.clip(n, -1, 1) + 1) * 127.5).astype(np.uint8)
    if mask is not None:
        picture[~np.asarray(mask, bool)] = 128
    return picture


def decode(picture: ArrayLike) -> Floats:
    """8-bit RGB picture [..., 3] to unit normals, float32. Error of the round trip: mean 0.17, max 0.4 degrees."""
    return normalise(np.asarray(picture, np.float32) / 127.5 - 1)


def convert(normals: ArrayLike, source: str, target: str = "opengl") -> Floats:
    """Normals [..., 3] of frame ``source`` in frame ``target``; both from ``FRAMES``, ValueError otherwise."""
    for name in (source, target):
        if name not in _TO_OURS:
            raise ValueError(f"unknown frame {name!r}: expected one of {', '.join(FRAMES)}")
    matrix = _TO_OURS[target].T @ _TO_OURS[source]  # each is orthogonal: the transpose is the inverse
    return np.asarray(normals, np.float32) @ matrix.T


def recognise_frame(normals: ArrayLike, mask: ArrayLike) -> tuple[str, float]:
    """The frame in which a face's normal map [H, W, 3] is stored, and how sure that is (0..1).

    A face is a bump: from left to right x grows, from bottom to top y grows, and what is seen faces the
    camera. Each frame is scored by those two correlations over the mask [H, W] and by its mean z; the
    certainty is the lead of the best score over the second.
    """
    inside = np.asarray(mask, bool)
    rows, columns = np.nonzero(inside)
    if rows.size < 3:
        raise ValueError(f"a mask of {rows.size} pixels is too small to tell a frame from")
    seen = np.asarray(normals, np.float32)[inside]

    def score(frame: str) -> float:
        n = convert(seen, frame)
        return (_correlation(n[:, 0], columns) + _correlation(n[:, 1], -rows) + float(n[:, 2].mean())) / 3

    ranked = sorted(((score(frame), frame) for frame in FRAMES), reverse=True)
    return ranked[0][1], float(np.clip(ranked[0][0] - ranked[1][0], 0, 1))


def _correlation(a: ArrayLike, b: ArrayLike) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    spread = a.std() * b.std()
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0


def sphere(size: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Normals [size, size, 3] and mask [size, size] of a ball that fills the picture: what every frame is tried on."""
    centre = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(centre, -centre)
    z_squared = 1 - x**2 - y**2
    vectors = np.stack([x, y, np.sqrt(np.maximum(z_squared, 0))], -1).astype(np.float32)
    return vectors, z_squared > 0


def direction(azimuth_deg: ArrayLike, elevation_deg: ArrayLike) -> Floats:
    """Unit vector from azimuth (positive to the right of the picture) and elevation (positive up), degrees."""
    a, e = np.radians(np.asarray(azimuth_deg, np.float64)), np.radians(np.asarray(elevation_deg, np.float64))
    return np.stack([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], -1).astype(np.float32)


def azimuth_elevation(vectors: ArrayLike) -> NDArray[np.float64]:
    """Azimuth and elevation, degrees, [..., 2] of unit vectors [..., 3]: what `direction` makes them of."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float64), -1, 0)
    return np.asarray(np.degrees(np.stack([np.arctan2(x, z), np.arcsin(np.clip(y, -1, 1))], -1)))


def direction_from_zenith(zenith_deg: ArrayLike, tilt_deg: ArrayLike) -> Floats:
    """Unit vector from zenith (from +z) and tilt (about +z, from +x towards +y), degrees."""
    z, t = np.radians(np.asarray(zenith_deg, np.float64)), np.radians(np.asarray(tilt_deg, np.float64))
    return np.stack([np.sin(z) * np.cos(t), np.sin(z) * np.sin(t), np.cos(z)], -1).astype(np.float32)
