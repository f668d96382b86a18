"""JPEG's loss without JPEG files: batched, on any device."""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

_LUMINANCE = (0.299, 0.587, 0.114)  # Rec. 601

# ISO/IEC 10918-1 (JPEG), annex K, tables K.1 and K.2
# fmt: off
_LUMINANCE_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)
_CHROMINANCE_TABLE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
) + 32 * (99,)
# fmt: on


def luminance(image: Tensor) -> Tensor:
    """Of RGB [N, 3, H, W], [N, 1, H, W]."""
    red, green, blue = image.split(1, 1)
    return red * _LUMINANCE[0] + green * _LUMINANCE[1] + blue * _LUMINANCE[2]


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """What is left of pictures [N, 3, H, W] in 0..1 after JPEG files (4:2:0) of ``quality`` 1..100 ([N, 1, 1, 1])."""
    height, width = image.shape[-2:]
    padded = functional.pad(image, (0, -width % 16, 0, -height % 16), mode="replicate")
    luma, chroma = _to_ycc((padded * 255).round())
    luma = _through_blocks(luma, _scaled(_LUMINANCE_TABLE, quality))
    chroma = _through_blocks(functional.avg_pool2d(chroma, 2).round(), _scaled(_CHROMINANCE_TABLE, quality))
    rgb = _to_rgb(luma, functional.interpolate(chroma, scale_factor=2.0, mode="nearest"))
    return rgb[..., :height, :width].round().clamp(0, 255) / 255


def _scaled(table: tuple[int, ...], quality: Tensor) -> Tensor:
    """A table at each quality, as libjpeg scales it; [N, 1, 64]."""
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality).view(-1, 1, 1)
    return ((torch.tensor(table, device=quality.device) * percent + 50) / 100).floor().clamp(1, 255)


def _to_ycc(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Luma [N, 1, H, W] and chroma [N, 2, H, W] of 0..255, round 0 and whole."""
    luma = luminance(rgb)
    red, _, blue = rgb.split(1, 1)
    chroma = torch.cat([(blue - luma) / (2 - 2 * _LUMINANCE[2]), (red - luma) / (2 - 2 * _LUMINANCE[0])], 1)
    return luma.round() - 128, chroma.round()


def _to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Back again, [N, 3, H, W] of about 0..255."""
    luma, (blueness, redness) = luma + 128, chroma.split(1, 1)
    red, blue = luma + (2 - 2 * _LUMINANCE[0]) * redness, luma + (2 - 2 * _LUMINANCE[2]) * blueness
    green = (luma - _LUMINANCE[0] * red - _LUMINANCE[2] * blue) / _LUMINANCE[1]
    return torch.cat([red, green, blue], 1)


def _through_blocks(planes: Tensor, table: Tensor) -> Tensor:
    """Planes [N, C, H, W] after their 8x8 blocks' cosine coefficients were rounded to steps of ``table``."""
    n, c, h, w = planes.shape
    blocks = planes.reshape(n, c, h // 8, 8, w // 8, 8).transpose(3, 4).reshape(n, -1, 64)
    cosines = _cosines().to(planes.device)
    kept = (blocks @ cosines.T / table).round() * table
    return (kept @ cosines).view(n, c, h // 8, w // 8, 8, 8).transpose(3, 4).reshape(n, c, h, w).clamp(-128, 127)


@cache
def _cosines() -> Tensor:
    """The 64 patterns of an 8x8 block (ISO/IEC 10918-1, A.3.3), one a row, orthonormal; [64, 64] on the CPU."""
    index = torch.arange(8, dtype=torch.float64)
    line = torch.cos((2 * index + 1) * index[:, None] * (math.pi / 16)) / 2
    line[0] = math.sqrt(1 / 8)
    return torch.kron(line, line).float()
