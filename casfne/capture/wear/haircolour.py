"""What hair is made of: its colour from lock to lock, strand to strand and root to tip."""

import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import Material
from casfne.capture.noise import noise
from casfne.capture.wear.scalp import CARDS

_KERATIN = 0.046  # reflectance of its index, 1.55
LOCK = 0.04  # metres: period of locks in a place's first coordinate; more than the widest card


def hair_material(place: Tensor, along: Tensor, sample: Tensor, colour: Tensor, draws: Draws) -> Material:
    """What hair is made of at points whose part has these places and directions [N, 3], sample int64 [N].

    colour [B, 3]: each sample's own, linear RGB. Varied from lock to lock, strand to strand and root to tip; some have
    streaks, bleached tips or grey hair.
    """
    layer = draws.sub("hair").uniform("layers", CARDS)  # the numbers by which `hair` raises locks: deep ones are dark
    draws = draws.sub("hair colour")
    x, down, share = place.unbind(-1)
    lock = (x / LOCK).round()
    offset = draws.uniform("strands", 3)[sample]
    fine = noise(torch.stack([x, 0.010 * down, 0.004 * lock], -1), 0.0017, offset)
    coarse = noise(torch.stack([x, 0.03 * down, 0.013 * lock], -1), 0.006, offset)
    first, second = (lock * 0.6180340) % 1 - 0.5, (lock * 0.7548777) % 1
    dark = draws.between("dark roots", 0.1, 0.5)[sample] * torch.exp(-down / 0.02)
    spread = draws.between("spread", 0.2, 0.5)[sample]
    tips = draws.between("tips", -0.1, 0.5)[sample] * share
    tone = (0.40 * fine[:, 0] + 0.2 * coarse[:, 0] + spread * first + tips).exp() * (1 - dark)
    depth = torch.where(x < 0, 1.0, 1 - layer[sample, lock.long().clamp_min(0)])  # x < 0: the cap below the locks
    albedo = _deepened(colour[sample], 0.35 * depth) * tone[:, None]
    albedo = torch.lerp(albedo, _lighter(albedo), _streaks(second, coarse[:, 1], sample, draws)[:, None])
    grey = (0.28 * (0.3 * fine[:, 2] - 0.5 * depth).exp())[:, None] * place.new_tensor((1.0, 0.97, 0.92))
    albedo = torch.lerp(albedo, grey, _grey(fine[:, 1] + coarse[:, 2], sample, draws)[:, None])
    rough = draws.between("roughness", 0.36, 0.52)[sample] * (0.08 * coarse[:, 3]).exp()
    gloss = (0.55 * fine[:, 3] - 0.4 * depth).exp().clamp_max(2)  # strands shine one by one
    return Material(
        albedo.clamp(0.002, 0.75),
        specular=_KERATIN * 0.6 * gloss,
        roughness=rough.clamp(0.2, 0.7),
        scatter=torch.full_like(x, 0.2),
        sheen=torch.zeros_like(x),
    )


def _deepened(colour: Tensor, depth: Tensor) -> Tensor:
    """Colours [N, 3] of hair below other hair: light that gets there and back passes more pigment, and less does."""
    return colour.clamp_min(1e-4) ** (1 + depth[:, None]) * (1 - 0.8 * depth)[:, None]


def _lighter(albedo: Tensor) -> Tensor:
    return albedo.clamp_min(1e-4) ** 0.7 * albedo.new_tensor((0.95, 0.8, 0.6))


def _streaks(lock: Tensor, strands: Tensor, sample: Tensor, draws: Draws) -> Tensor:
    """How much lighter streaks cover, [N]: a third of the people have some."""
    some = draws.chance("streaked", 0.3) * draws.between("streaks", 0.15, 0.4)
    strength = draws.between("streak strength", 0.2, 0.65)[sample]
    return strength * torch.sigmoid((some[sample] - lock + 0.1 * strands - 0.05) / 0.03)


def _grey(strands: Tensor, sample: Tensor, draws: Draws) -> Tensor:
    """Share of grey hair, [N]: from none to most."""
    some = draws.chance("greying", 0.15) * draws.between("grey", 0.1, 1)
    return torch.sigmoid((strands + 6 * some[sample] - 4) / 1.2) * (some > 0)[sample]
