"""Colours and patterns of cloth, knitwear and plastics."""

import math

import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import Material
from casfne.capture.noise import layered, noise
from casfne.capture.wear.meshes import ramp

_PATTERNS = (0.42, 0.13, 0.1, 0.15, 0.12, 0.08)  # plain, stripes, plaid, knit, heather, print
STRIPES, PLAID, KNIT, HEATHER, PRINT = range(1, 6)


def rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Linear RGB [..., 3] of a hue (0..1 round the circle), saturation and largest channel."""
    shift = hue.new_tensor([0.0, 2 / 3, 1 / 3])
    ramped = (((hue[..., None] + shift) % 1 * 6 - 3).abs() - 1).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * (1 - ramped))


def dye(draws: Draws, name: str) -> Tensor:
    """A colour of clothes, [B, 3]: black, white, grey, denim and navy often, any colour else."""
    kind = draws.choice(f"{name} dye", (0.2, 0.14, 0.16, 0.14, 0.36))
    value = draws.log_between(f"{name} value", 0.03, 0.6)
    bounds = value.new_tensor([[0.012, 0.03], [0.55, 0.8], [0.05, 0.4], [0.015, 0.16], [0.03, 0.6]])[kind]
    value = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * (value - 0.03) / 0.57
    vivid = draws.between(f"{name} saturation", 0.15, 0.9)
    saturation = torch.where(kind < 3, 0.1 * vivid, torch.where(kind == 3, 0.3 + 0.5 * vivid, vivid))
    hue = torch.where(kind == 3, draws.between(f"{name} blue", 0.58, 0.66), draws.uniform(f"{name} hue"))
    return rgb(hue, saturation, value)


def offsets(draws: Draws, name: str) -> Tensor:
    """Where each sample reads the noise, [B, 3]."""
    return draws.uniform(f"{name} offset", 3)


def fabric(place: Tensor, sample: Tensor, draws: Draws, pattern: Tensor | None = None) -> Material:
    """Cloth at ``place`` [N, 3] (metres on the garment: y runs up it), of samples ``sample`` [N]; ``pattern`` int64
    [B] chooses one of plain, stripes, plaid, knit, heather, print."""
    if pattern is None:
        pattern = draws.choice("pattern", _PATTERNS)
    fine = noise(place, 0.0025, offsets(draws, "weave")[sample])
    wide = layered(place, 0.03, offsets(draws, "worn")[sample], 2)
    first, second = dye(draws, "first"), dye(draws, "second")
    share = _share(place, wide, fine, sample, draws, pattern[sample])[:, None]
    albedo = first[sample] * (1 - share) + second[sample] * share
    knitted = torch.where(
        pattern[sample] == KNIT, _stitches(place, draws.log_between("rib", 0.004, 0.011)[sample]), 1.0
    )
    shade = (1 + 0.05 * fine[:, 0] + 0.05 * wide[:, 1]) * knitted
    rough = draws.between("cloth roughness", 0.7, 0.95)[sample] + 0.02 * fine[:, 1]
    sheen = draws.between("cloth sheen", 0.1, 0.6)[sample]
    one = torch.ones_like(rough)
    albedo = (albedo * shade.clamp_min(0.2)[:, None]).clamp(0.005, 0.85)
    return Material(albedo, 0.035 * one, rough.clamp(0.6, 1), 0.15 * one, sheen)


def _share(place: Tensor, wide: Tensor, fine: Tensor, sample: Tensor, draws: Draws, pattern: Tensor) -> Tensor:
    """How much of the second colour each point has, [N]."""
    period = draws.log_between("period", 0.008, 0.07)[sample]
    width = draws.between("width", 0.25, 0.7)[sample]
    level, upright = _band(place[:, 1], period, width), _band(place[:, 0], period, width)
    turned = draws.chance("upright", 0.35)[sample]
    stripes = torch.where(turned, upright, level)
    heather = (0.35 + 0.2 * fine[:, 2] + 0.1 * wide[:, 2]).clamp(0, 1)
    found = torch.zeros_like(period)
    kinds = (
        (STRIPES, stripes),
        (PLAID, (level + upright) / 2),
        (HEATHER, heather),
        (PRINT, ramp(wide[:, 3], 0.55, 0.7)),
    )
    for kind, value in kinds:
        found = torch.where(pattern == kind, value, found)
    return found


def _band(where: Tensor, period: Tensor, width: Tensor) -> Tensor:
    """Soft stripes: 1 within ``width`` of each period."""
    phase = ((where / period) % 1 - 0.5).abs() * 2
    return ramp(phase, 1 - width - 0.06, 1 - width + 0.06)


def _stitches(place: Tensor, rib: Tensor) -> Tensor:
    """Shade of ribs along y with stitches across them, about 0.5..1."""
    ribs = (place[:, 0] * (2 * math.pi) / rib).cos()
    rows = ((place[:, 1] + 0.15 * rib * ribs) * (2 * math.pi) / (0.6 * rib)).cos()
    return 0.8 + 0.2 * ribs + 0.05 * rows
