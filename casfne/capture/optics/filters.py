"""Blurs and resampling as matrices: a side of a picture is multiplied by one, whatever each sample's strength is."""

import torch
from torch import Tensor
from torch.nn import functional


def separable(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pictures [N, C, H, W], columns multiplied by ``rows`` [N, H', H] and rows by ``columns`` [N, W', W]."""
    n, c, h, w = image.shape
    across = torch.bmm(image.reshape(n, c * h, w), columns.transpose(1, 2)).view(n, c, h, -1)
    spread = rows[:, None].expand(n, c, *rows.shape[1:]).reshape(n * c, *rows.shape[1:])
    return torch.bmm(spread, across.flatten(0, 1)).view(n, c, rows.shape[1], -1)


def gaussian(sigma: Tensor, size: int) -> Tensor:
    """Weights [N, S, S] of the pixels in each blurred pixel, for standard deviations [N, 1, 1] in pixels."""
    pixel = torch.arange(size, device=sigma.device)
    weights = torch.exp((pixel[:, None] - pixel).square() * (-0.5 / sigma.square()))
    return weights / weights.sum(-1, keepdim=True)


def averaging(factor: Tensor, size: int) -> Tensor:
    """Weights [N, S, S] of the pixels in each of about S / factor cells (the rest of the rows: of no use).

    factor [N, 1, 1], at least 1; cells that lie beyond the picture get zeros.
    """
    width = _width(factor, size)
    index = torch.arange(size, device=factor.device, dtype=factor.dtype)
    low, high = index[:, None] * width, (index[:, None] + 1) * width
    return (torch.minimum(high, index + 1) - torch.maximum(low, index)).clamp_min(0) / width


def enlarging(factor: Tensor, size: int, cubic: Tensor | float = 0.0) -> Tensor:
    """Weights [N, S, S] of the cells of `averaging` in each pixel: interpolated linearly, or with Keys's cubic kernel
    where ``cubic`` (a number or [N, 1, 1]) is 1."""
    width = _width(factor, size)
    index = torch.arange(size, device=factor.device, dtype=factor.dtype)
    where = ((index + 0.5) / width - 0.5).clamp_min(0).minimum(size / width - 1)  # [N, 1, pixel]
    apart = (where.transpose(1, 2) - index).abs()  # [N, pixel, cell]
    linear = (1 - apart).clamp_min(0)
    weights = linear + cubic * (_keys(apart) - linear)
    weights = weights * (index < size / width)
    return weights / weights.sum(-1, keepdim=True)


def reduction(factor: Tensor, size: int, cubic: Tensor | float = 0.0) -> Tensor:
    """Weights [N, S, S] of the pixels in each pixel after S / factor cells were averaged and interpolated again."""
    return enlarging(factor, size, cubic) @ averaging(factor, size)


def _width(factor: Tensor, size: int) -> Tensor:
    """Of a cell in pixels, when a whole number of cells makes the side; [N, 1, 1]."""
    return size / (size / factor).round()


def _keys(apart: Tensor) -> Tensor:
    """Cubic convolution at distances from a cell's centre (Keys 1981, a = -1/2)."""
    near = (1.5 * apart - 2.5) * apart.square() + 1
    far = ((-0.5 * apart + 2.5) * apart - 4) * apart + 2
    return torch.where(apart < 1, near, far * (apart < 2))


def shrunk_gaussian(sigma: Tensor, size: int, cells: int) -> tuple[Tensor, Tensor]:
    """A wide Gaussian through few cells: weights [N, cells, S] to shrink and blur, and [N, S, cells] to enlarge.

    sigma [N, 1, 1] in pixels of the whole picture: from 0.7 cells on it is as good as `gaussian`, never narrower.
    """
    pixel = (torch.arange(size, device=sigma.device) + 0.5) * (cells / size) - 0.5
    cell = torch.arange(cells, device=sigma.device)
    # interpolation itself spreads by a sixth of a cell's square
    inner = ((sigma * (cells / size)).square() - 1 / 6).clamp_min(0.25)
    down = torch.exp((cell[:, None] - pixel).square() * (-0.5 / inner))
    up = (1 - (pixel.clamp(0, cells - 1)[:, None] - cell).abs()).clamp_min(0)
    return down / down.sum(-1, keepdim=True), up.expand(len(sigma), size, cells)


def softened(image: Tensor) -> Tensor:
    """Pictures [N, C, H, W] through the kernel (1, 2, 1) / 4 along both sides: a blur of 0.7 pixels."""
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., 1:-1, :] * 2 + padded[..., :-2, :] + padded[..., 2:, :]
    return (rows[..., 1:-1] * 2 + rows[..., :-2] + rows[..., 2:]) * (1 / 16)
