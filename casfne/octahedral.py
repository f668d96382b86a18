"""Octahedral normals, the precise way to store them: the sphere unfolded to a square, 2 x 16 bits a pixel, packed to a
third of a 16-bit PNG. Imports nothing of ours."""

import struct

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

OUTSIDE = 65535  # both codes of a pixel outside the mask; directions use 0 to 65534
_HALF = 32767
_HEADER = struct.Struct("<4sHH")  # mark, height, width
_MARK = b"OCT1"
_LARGEST = 2**24  # pixels; a broken header must not ask for gigabytes


def codes_of(normals: ArrayLike, mask: ArrayLike | None = None) -> NDArray[np.uint16]:
    """Unit normals [..., 3] as two codes each, uint16 [..., 2]; OUTSIDE off the mask."""
    x, y, z = np.ascontiguousarray(np.moveaxis(np.asarray(normals, np.float32), -1, 0))  # planes: 5 times as fast
    scale = 1 / np.maximum(np.abs(x) + np.abs(y) + np.abs(z), np.float32(1e-12))
    u, v = x * scale, y * scale
    if (away := z < 0).any():
        folded = np.copysign(1 - np.abs(v), u), np.copysign(1 - np.abs(u), v)
        u, v = np.where(away, folded[0], u), np.where(away, folded[1], v)
    places = np.stack([u, v]) * np.float32(_HALF) + np.float32(_HALF + 0.5)
    codes = places.astype(np.uint16)  # cut off: with the half above, rounded
    if mask is not None:
        codes[:, ~np.asarray(mask, bool)] = OUTSIDE
    return np.moveaxis(codes, 0, -1)


def normals_of(codes: ArrayLike) -> NDArray[np.float32]:
    """The unit normals float32 [..., 3] of uint16 codes [..., 2]; zero where they are OUTSIDE."""
    c = np.ascontiguousarray(np.moveaxis(np.asarray(codes, np.uint16), -1, 0))
    u, v = (c.astype(np.float32) - _HALF) / _HALF
    z = 1 - np.abs(u) - np.abs(v)
    below = np.maximum(-z, 0)
    vectors = np.stack([u - np.copysign(below, u), v - np.copysign(below, v), z])
    vectors *= (c != OUTSIDE).any(0) / np.sqrt((vectors * vectors).sum(0))
    return np.ascontiguousarray(np.moveaxis(vectors, 0, -1), np.float32)


def pack(codes: NDArray[np.uint16]) -> bytes:
    """Codes [H, W, 2] as bytes: differences along each row, low bytes apart from high bytes, zstd."""
    height, width = codes.shape[:2]
    planes = np.ascontiguousarray(codes.transpose(2, 0, 1))
    planes[..., 1:] = planes[..., 1:] - planes[..., :-1]  # uint16: wraps around, and back when summed
    split = np.ascontiguousarray(planes.astype("<u2").view(np.uint8).reshape(-1, 2).T)
    return _HEADER.pack(_MARK, height, width) + pa.Codec("zstd", 1).compress(split, asbytes=True)


def unpack(data: bytes) -> NDArray[np.uint16]:
    """The codes [H, W, 2] of `pack`. ValueError when ``data`` is nothing of the kind."""
    mark, height, width = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (b"", 0, 0)
    size = height * width
    if mark != _MARK or not 0 < size <= _LARGEST:
        raise ValueError("no octahedral normals")
    try:
        raw = pa.Codec("zstd").decompress(data[_HEADER.size :], size * 4, asbytes=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"octahedral normals that cannot be unpacked ({error})") from None
    split = np.frombuffer(raw, np.uint8).reshape(2, -1)
    planes = np.ascontiguousarray(split.T).view("<u2").reshape(2, height, width)
    return np.cumsum(planes, axis=-1, dtype=np.uint16).transpose(1, 2, 0)


def encode(normals: ArrayLike, mask: ArrayLike | None = None) -> bytes:
    """Unit normals [H, W, 3] as the bytes of the column `normal_octahedral`; off the mask they are lost."""
    return pack(codes_of(normals, mask))


def decode(data: bytes) -> NDArray[np.float32]:
    """Those bytes as unit normals float32 [H, W, 3], frame opengl, zero outside the mask. ValueError otherwise."""
    return normals_of(unpack(data))
