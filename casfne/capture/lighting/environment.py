"""Light from all round as spherical harmonics of order 0 to 2: made up, or read from a picture.

Head space: x right in the picture, y up, z to the camera. The nine coefficients are in the usual order (Y00; y, z, x;
xy, yz, 3z^2-1, xz, x^2-y^2) and orthonormal, as in Ramamoorthi and Hanrahan 2001. A panorama is what the person who is
photographed sees: its middle looks at the camera (+z), its right edge and its left one meet behind them.
"""

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from casfne.errors import InputError

_ROWS, _COLUMNS = 12, 24  # of the panoramas that are made up: order 2 sees no more
_SUFFIXES = (".hdr", ".png", ".jpg", ".jpeg", ".webp")
_TURNS = 8  # ways in which a panorama is turned about the vertical
_HDR_MAGIC = (b"#?RADIANCE", b"#?RGBE")
_LONGEST_HDR_LINE = 32768  # pixels: Radiance's run-length code knows no longer ones


def basis(directions: Tensor) -> Tensor:
    """The nine functions at unit directions [..., 3], [..., 9]."""
    x, y, z = directions.unbind(-1)
    one = torch.ones_like(x)
    return torch.stack(
        [
            0.282095 * one,
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )


def directions(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Unit directions [h, w, 3] of a panorama's pixels."""
    polar = (torch.arange(height, device=device) + 0.5) * (math.pi / height)
    right = ((torch.arange(width, device=device) + 0.5) / width - 0.5) * (2 * math.pi)
    across = polar.sin()[:, None]
    up = polar.cos()[:, None].expand(height, width)
    return torch.stack([-across * right.sin(), up, across * right.cos()], -1)


def project(panorama: Tensor) -> Tensor:
    """Coefficients [B, 9, 3] of radiance in panoramas [B, 3, h, w] (linear RGB)."""
    if panorama.ndim != 4 or panorama.shape[1] != 3:
        raise ValueError(f"expected panoramas [B, 3, h, w], got {list(panorama.shape)}")
    weights = _weights(*panorama.shape[2:]).to(panorama.device)
    return torch.einsum("bchw,hwk->bkc", panorama, weights)


@cache
def _weights(height: int, width: int) -> Tensor:
    """The functions times each pixel's solid angle, [h, w, 9] on the CPU; the solid angles sum to the sphere's."""
    edges = (torch.arange(height + 1, dtype=torch.float64) * (math.pi / height)).cos()
    angle = (edges[:-1] - edges[1:]) * (2 * math.pi / width)
    return basis(directions(height, width)) * angle.float()[:, None, None]


def surround(zones: Tensor, lobes: Tensor, towards: Tensor, focus: Tensor) -> Tensor:
    """Coefficients [B, 9, 3] of a place with a bright above, a middle and a ground, and soft lights in it.

    zones [B, 3, 3]: radiance of zenith, horizon and ground, linear RGB; lobes [B, L, 3]: radiance at the middle of
    soft lights (windows, soft boxes, lamps' glow, the sky round the sun); towards [B, L, 3]: unit directions to them;
    focus [B, L]: how narrow (1: half the sphere; 20: a window near by).
    """
    places = directions(_ROWS, _COLUMNS, zones.device).view(-1, 3)
    up = places[:, 1]
    # a sky brightens gradually from the horizon up; the ground begins at once
    shares = torch.stack([up.clamp_min(0), 1 - up.clamp_min(0) - (-4 * up).clamp(0, 1), (-4 * up).clamp(0, 1)], -1)
    radiance = torch.einsum("pz,bzc->bcp", shares, zones)
    cosine = torch.einsum("pi,bli->blp", places, towards)
    radiance = radiance + torch.einsum("blp,blc->bcp", torch.exp(focus[..., None] * (cosine - 1)), lobes)
    return project(radiance.view(-1, 3, _ROWS, _COLUMNS))


def black_body(kelvin: Tensor) -> Tensor:
    """Linear RGB [..., 3] of luminance 1 of a black body at 2000 to 25000 K; 6500 K is nearly white.

    The Planckian locus by the cubic fits of Kim et al. (US patent 7024034, 2006), then IEC 61966-2-1's primaries.
    """
    t = 1000 / kelvin
    cool = ((-3.0258469 * t + 2.1070379) * t + 0.2226347) * t + 0.240390
    warm = ((-0.2661239 * t - 0.2343589) * t + 0.8776956) * t + 0.179910
    x = torch.where(kelvin < 4000, warm, cool)
    low = ((-0.9549476 * x - 1.37418593) * x + 2.09137015) * x - 0.16748867
    high = ((3.0817580 * x - 5.87338670) * x + 3.75112997) * x - 0.37001483
    y = torch.where(kelvin < 4000, low, high)
    rgb = torch.stack([x / y, torch.ones_like(x), (1 - x - y) / y], -1) @ _FROM_XYZ.T.to(kelvin.device)
    return unit_luminance(rgb.clamp_min(0.01))


_FROM_XYZ = torch.tensor(  # IEC 61966-2-1
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
)
_LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])  # of linear sRGB


def unit_luminance(colour: Tensor) -> Tensor:
    """Linear RGB [..., 3] scaled to luminance 1."""
    return colour / luminance_of(colour)


def luminance_of(colour: Tensor) -> Tensor:
    """Of linear RGB [..., 3], [..., 1]."""
    return (colour * _LUMINANCE.to(colour.device)).sum(-1, keepdim=True)


# --- panoramas from files ---


def read_environments(folder: Path) -> Tensor:
    """Coefficients [K, 9, 3] of every panorama in ``folder``, turned ``_TURNS`` ways, each of mean luminance 1.

    InputError: no such folder, no panorama in it, or a file that cannot be read, which it names.
    """
    paths = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: no panoramas ({', '.join(_SUFFIXES)}) for surroundings")
    found = []
    for panorama in map(read_environment, paths):
        width = panorama.shape[-1]
        turned = torch.stack([panorama.roll(round(width * i / _TURNS), -1) for i in range(_TURNS)])
        found.append(project(turned))
    whole = torch.cat(found)
    return whole / mean_luminance(whole)[:, None, None].clamp_min(1e-6)


def mean_luminance(ambient: Tensor) -> Tensor:
    """Of surroundings with coefficients [B, 9, 3], [B]."""
    return luminance_of(ambient[:, 0])[:, 0] * 0.282095


def read_environment(path: Path) -> Tensor:
    """A panorama [3, h, w] of linear radiance from a Radiance file (.hdr), or a PNG, JPEG, GIF or WebP picture (sRGB).

    InputError naming the file: missing, damaged, or not of these kinds.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if data.startswith(_HDR_MAGIC):
        return torch.from_numpy(_read_hdr(data, path)).permute(2, 0, 1).contiguous()
    try:
        if not data:
            raise RuntimeError("empty file")
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        picture = decode_image(encoded, ImageReadMode.RGB)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected a PNG, JPEG, GIF, WebP or Radiance picture ({reason})") from None
    return to_linear(picture.float() / torch.iinfo(picture.dtype).max)  # PNGs may have 16 bits


def to_linear(srgb: Tensor) -> Tensor:
    """Light of sRGB values in 0..1 (IEC 61966-2-1)."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _read_hdr(data: bytes, path: Path) -> NDArray[np.float32]:
    """Radiance [h, w, 3] of a Radiance RGBE file with the usual orientation (-Y, +X)."""
    header, _, rest = data.partition(b"\n\n")
    size, _, pixels = rest.partition(b"\n")
    words = size.split()
    if b"FORMAT=32-bit_rle_rgbe" not in header or len(words) != 4 or (words[0], words[2]) != (b"-Y", b"+X"):
        raise InputError(f"{path}: expected a 32-bit_rle_rgbe picture with -Y and +X")
    try:
        height, width = int(words[1]), int(words[3])
        if not (height > 0 and 0 < width < _LONGEST_HDR_LINE):
            raise ValueError(f"{width}x{height} pixels")
        rgbe = _hdr_pixels(pixels, height, width)
    except (ValueError, IndexError) as error:
        raise InputError(f"{path}: damaged Radiance picture ({error})") from None
    scale = np.ldexp(np.float32(1), rgbe[..., 3:].astype(np.int32) - 136)  # 128, and 8 bits of mantissa
    return np.where(rgbe[..., 3:] > 0, rgbe[..., :3] * scale, 0).astype(np.float32)


def _hdr_pixels(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Bytes [h, w, 4], run-length coded by lines or plain."""
    if data[:2] != b"\x02\x02" or width < 8:
        return np.frombuffer(data, np.uint8, height * width * 4).reshape(height, width, 4)
    lines, at = np.empty((height, 4, width), np.uint8), 0
    for line in lines:
        if data[at : at + 4] != bytes([2, 2, width >> 8, width & 255]):
            raise ValueError("a line does not begin as it should")
        at += 4
        for channel in line:
            at = _unpack(data, at, channel)
    return lines.transpose(0, 2, 1)


def _unpack(data: bytes, at: int, into: NDArray[np.uint8]) -> int:
    """Fill one line of one channel from ``at`` on; where the next one begins."""
    done = 0
    while done < len(into):
        count = data[at]
        repeated = count > 128
        count = count - 128 if repeated else count
        found = data[at + 1 : at + 2] * count if repeated else data[at + 1 : at + 1 + count]
        if count == 0 or len(found) != count or done + count > len(into):
            raise ValueError("a run does not fit its line")
        into[done : done + count] = np.frombuffer(found, np.uint8)
        at, done = at + 1 + (1 if repeated else count), done + count
    return at
