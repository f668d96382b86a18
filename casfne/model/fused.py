"""The cascade made fast for inference: the same function with fewer operations, and in half precision where it may be.

Each change is exact but for rounding. Batch norms are folded into the convolutions before them. D_cn's transposed
convolutions over [normal, structure] are split in two, so that the structure's half, the same in every refinement,
is computed once. Transposed convolutions that give three channels become convolutions to all four sub-pixels and
an interleaving, which CPUs compute several times faster; D_n's last one and its head, with nothing between them, first
become one. The layers that read or write pictures stay in float32: rounding them is most of half precision's error.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from casfne.model.blocks import InitialDecoder, RefinementDecoder
from casfne.model.cascade import Cascade


def fuse(network: Cascade, precision: torch.dtype = torch.float32) -> Cascade:
    """A copy of ``network`` for inference, float32 to float32, its inner layers in ``precision``, channels last.

    It cannot be trained or saved.
    """
    fast: Any = copy.deepcopy(network).eval().requires_grad_(False)
    _fold_encoder(fast.structure)
    for convolutions, norms, transposed in (
        (fast.initial.up, fast.initial.norm, True),
        (fast.normal_encoder.down[1:], fast.normal_encoder.norm, False),
        (fast.refinement.up, fast.refinement.norm, True),
    ):
        for i in range(len(norms)):
            _fold(convolutions[i], norms[i], transposed)
            norms[i] = nn.Identity()
    parts, down = fast.structure.parts, fast.normal_encoder.down
    parts[1] = In(precision, parts[1], precision)
    for part in parts[2:]:
        part.to(precision)
    fast.initial = MergedDecoder(fast.initial, fast.structure.channels, precision)
    fast.normal_encoder.to(precision)
    down[0] = In(precision, down[0], precision)
    if network.config.fusion == "cat":
        fast.refinement = SplitDecoder(fast.refinement, fast.structure.channels, precision)
    else:
        fast.refinement.to(precision)
    return fast.to(memory_format=torch.channels_last)


class In(nn.Module):
    """A module that computes in ``inner`` precision, whatever comes, and hands on in ``outer``."""

    def __init__(self, inner: torch.dtype, module: nn.Module, outer: torch.dtype) -> None:
        super().__init__()
        self.inner, self.outer = inner, outer
        self.module = module.to(inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.to(self.inner)).to(self.outer)


# --- batch norms ---


def _fold(convolution: Any, norm: Any, transposed: bool = False) -> None:
    folded = fuse_conv_bn_eval(convolution, norm, transpose=transposed)
    convolution.weight, convolution.bias = folded.weight, folded.bias


def _fold_encoder(encoder: nn.Module) -> None:
    """Fold every norm that stands behind a convolution."""
    for module in list(encoder.modules()):
        for (_, layer), (name, norm) in pairwise(module.named_children()):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(layer, norm)
                setattr(module, name, nn.Identity())


# --- decoders ---


class MergedDecoder(nn.Module):
    """D_n, folded, its last transposed convolution and its head in one."""

    def __init__(self, decoder: InitialDecoder, channels: Sequence[int], precision: torch.dtype) -> None:
        super().__init__()
        ups: Any = decoder.up
        _settle_biases(ups, precision)
        *inner, last = ups
        self.up = nn.ModuleList(inner).to(precision)
        self.both = nn.Sequential(last, decoder.head)
        of_normals, of_structure = _split(_merge(last, decoder.head), last.in_channels - channels[0])
        self.of_normals, self.of_structure = TwoParts(sub_pixel(of_normals), precision), sub_pixel(of_structure)

    def forward(self, structure: list[Tensor]) -> Tensor:
        """E_f's features, fine to coarse and never negative, to raw normals [B, 3, H, W]."""
        x = F.relu_(self.up[0](structure[4]))
        for up, skip in zip(self.up[1:], structure[3:0:-1], strict=True):
            x = F.relu_(up(torch.cat([x, skip], 1)))
        raw = interleave(self.of_structure(structure[0]).add_(self.of_normals(x)))
        return self._framed(raw, x, structure[0])

    def _framed(self, raw: Tensor, x: Tensor, skip: Tensor) -> Tensor:
        """``raw`` with its outermost pixels computed by the two layers, on strips: the second pads the first one's
        result with zeros, of which the merged form knows nothing."""

        def strip(*window: slice) -> Tensor:
            return self.both(torch.cat([x[:, :, *window].float(), skip[:, :, *window]], 1))

        first, last, whole = slice(None, 2), slice(-2, None), slice(None)
        top, bottom = strip(first, whole)[:, :, :1], strip(last, whole)[:, :, -1:]
        left, right = strip(whole, first)[:, :, 1:-1, :1], strip(whole, last)[:, :, 1:-1, -1:]
        return torch.cat([top, torch.cat([left, raw[:, :, 1:-1, 1:-1], right], 3), bottom], 2)


class SplitDecoder(nn.Module):
    """D_cn of concatenated features, folded: what it reads of the structure alone is computed once an image."""

    def __init__(self, decoder: RefinementDecoder, channels: Sequence[int], precision: torch.dtype) -> None:
        super().__init__()
        ups: Any = decoder.up
        _settle_biases(ups, precision)
        pairs = [_split(up, up.in_channels - skip) for up, skip in zip(ups, channels[::-1], strict=True)]
        levels: list[nn.Module] = [Split(*pair).to(precision) for pair in pairs[:3]]
        # adding two rounded halves rounds twice more, which is heard this close to the picture
        levels.append(Whole(ups[3]).to(precision))
        levels.append(Split(TwoParts(sub_pixel(pairs[4][0]), precision), sub_pixel(pairs[4][1])))
        self.levels: Any = nn.ModuleList(levels)

    def share(self, structure: list[Tensor]) -> list[Tensor]:
        """What every refinement takes from E_f's features (fine to coarse, never negative), coarse to fine."""
        return [level.share(s) for level, s in zip(self.levels, structure[::-1], strict=True)]

    def forward(self, shared: list[Tensor], z: Tensor) -> Tensor:
        """What `share` gave, and z, to raw normals [B, 3, H, W]."""
        x = z
        for level, given in zip(self.levels, shared, strict=True):
            x = level(F.relu_(x), given)
        return interleave(x)


class Split(nn.Module):
    """A level of D_cn as one layer over each kind of feature, the structure's run once."""

    def __init__(self, of_normals: nn.Module, of_structure: nn.Module) -> None:
        super().__init__()
        self.of_normals, self.share = of_normals, of_structure

    def forward(self, x: Tensor, half: Tensor) -> Tensor:
        """Normal features [B, N, h, w] and what ``share`` gave, to the level's result at twice the size."""
        return self.of_normals(x).add_(half)


class Whole(nn.Module):
    """A level of D_cn as it was."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.up, self.share = up, nn.Identity()

    def forward(self, x: Tensor, structure: Tensor) -> Tensor:
        """Normal and structure features [B, ., h, w] to the level's result at twice the size."""
        return self.up(torch.cat([x, structure], 1))


class TwoParts(nn.Module):
    """A convolution in ``precision`` whose weights are sums of two such numbers, their rounding and what it left out:
    near float32 weights at the price of output channels. Gives float32."""

    def __init__(self, convolution: nn.Conv2d, precision: torch.dtype) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        rounded = weight.to(precision)
        self.two = nn.Conv2d(weight.shape[1], 2 * weight.shape[0], 3, 1, 1, bias=False)
        self.two.weight = nn.Parameter(torch.cat([rounded, (weight - rounded).to(precision)]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        rounded, rest = self.two(x).float().chunk(2, 1)
        return rounded + rest


def _settle_biases(ups: Any, precision: torch.dtype) -> None:
    """Make the biases numbers of ``precision``, exactly: rounded, they would shift all pixels of a channel alike.

    A channel is stretched until its bias is such a number, and the next layer reads it shrunk by as much; the ReLU
    between them lets that through. A bias that is 0 in ``precision`` (weight decay leaves such ones) is dropped: to
    stretch its channel to that would leave nothing of it.
    """
    for up, following in pairwise(ups):
        settled = up.bias.to(precision).float()
        stretch = torch.where(settled == 0, 1.0, settled / up.bias)
        up.weight.mul_(stretch.view(1, -1, 1, 1))
        up.bias.copy_(settled)
        following.weight[: len(stretch)].div_(stretch.view(-1, 1, 1, 1))


def _merge(up: Any, head: Any) -> nn.ConvTranspose2d:
    """Two transposed convolutions (kernel 4, stride 2, padding 1; then 3, 1, 1) as one (6, 2, 2), but for the frame.

    The kernel of a chain is the full convolution of its kernels: [I, M, 4, 4] with [M, O, 3, 3] to [I, O, 6, 6].
    """
    merged = nn.ConvTranspose2d(up.in_channels, head.out_channels, 6, 2, 2)
    kernel = F.conv2d(up.weight, head.weight.flip(2, 3).transpose(0, 1), padding=2)
    merged.weight = nn.Parameter(kernel)
    merged.bias = nn.Parameter(head.bias + head.weight.sum((2, 3)).T @ up.bias)
    return merged.requires_grad_(False)


def _split(up: nn.ConvTranspose2d, normal: int) -> tuple[Any, Any]:
    """``up`` over its first ``normal`` input channels, without bias, and over the others, with it."""
    of_normals, of_structure = copy.deepcopy(up), copy.deepcopy(up)
    of_normals.weight, of_normals.bias = nn.Parameter(up.weight[:normal].detach().clone()), None
    of_structure.weight = nn.Parameter(up.weight[normal:].detach().clone())
    of_normals.in_channels, of_structure.in_channels = normal, up.in_channels - normal
    return of_normals, of_structure


def sub_pixel(up: nn.ConvTranspose2d) -> nn.Conv2d:
    """A transposed convolution of stride 2, kernel 4 and padding 1 (or 6 and 2), as a 3x3 convolution before
    ``interleave``.

    Output row 2i + a reads input rows i - 1 + u, u = 0..2, through kernel row a + padding + 2 - 2u, where it exists.
    """
    into, out, kernel, _ = up.weight.shape
    weight = up.weight.new_zeros(2, 2, out, into, 3, 3)
    taps = [(a, u, a + int(up.padding[0]) + 2 - 2 * u) for a in range(2) for u in range(3)]
    taps = [(a, u, row) for a, u, row in taps if 0 <= row < kernel]
    for a, u, row in taps:
        for b, v, column in taps:
            weight[a, b, :, :, u, v] = up.weight[:, :, row, column].detach().T
    convolution = nn.Conv2d(into, 4 * out, 3, 1, 1, bias=up.bias is not None)
    convolution.weight = nn.Parameter(weight.reshape(4 * out, into, 3, 3))
    if up.bias is not None:
        convolution.bias = nn.Parameter(up.bias.detach().repeat(4))
    return convolution.requires_grad_(False)


def interleave(phases: Tensor) -> Tensor:
    """Four sub-pixels side by side, [B, (2, 2, C), H, W], into one picture [B, C, 2H, 2W].

    As `pixel_shuffle`, in an order of channels that is several times faster where channels come last in memory.
    """
    batch, channels, height, width = phases.shape
    rows = phases.permute(0, 2, 3, 1).reshape(batch, height, width, 2, 2, channels // 4).transpose(2, 3)
    return rows.reshape(batch, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)
