"""Eyelashes: a row of narrow curved triangles along each lid, made from the lids as they are posed."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import Material
from casfne.capture.people.heads import HeadModel
from casfne.capture.wear.parts import LASHES, Part

UPPER, LOWER = 24, 14  # lashes a lid
# iBUG's points along a lid, from the picture's left to its right
_LIDS = {"upper": ((36, 37, 38, 39), (42, 43, 44, 45)), "lower": ((36, 41, 40, 39), (42, 47, 46, 45))}
_MARGIN = 0.002  # m from where landmarks lie, the inner rim of a lid, to the front of its edge
_OPEN = 0.3  # height of an open eye, as a share of its width


def lashes(model: HeadModel, vertices: Tensor, draws: Draws) -> Part:
    """Lashes of heads whose posed vertices are [B, V, 3]; all wear them, some thinner and paler ones.

    Place: across a lash, along it, and its share from root to tip (0..1).
    """
    if vertices.ndim != 3 or vertices.shape[1:] != model.template.shape or len(vertices) != len(draws):
        raise ValueError(f"expected vertices [{len(draws)}, {len(model.template)}, 3], got {list(vertices.shape)}")
    draws = draws.sub("lashes")
    marks = vertices[:, model.landmarks[36:48]]
    grown = [
        _row_of_lashes(marks[:, [i - 36 for i in lid]], _openness(marks, side), row, side, draws)
        for row, lids in _LIDS.items()
        for side, lid in enumerate(lids)
    ]
    points, place, along = (torch.cat(x, 1) for x in zip(*grown, strict=True))
    worn = torch.ones(len(draws), dtype=torch.bool, device=vertices.device)
    return Part(LASHES, points, _topology(vertices.device), place, along, worn)


def lashes_material(place: Tensor, sample: Tensor, colour: Tensor, draws: Draws) -> Material:
    """What lashes are made of at places [N, 3] of samples [N]: darker than hair of ``colour`` [B, 3]."""
    draws = draws.sub("lash colour")
    dark = torch.where(draws.chance("mascara", 0.35), 0.1, draws.between("dark", 0.3, 0.8))[:, None]
    albedo = (colour * dark).clamp(0.004, 0.2)[sample] * (1 + 0.5 * place[:, 2:])
    flat = torch.ones_like(place[:, 0])
    return Material(albedo, specular=0.046 * flat, roughness=0.45 * flat, scatter=0.2 * flat, sheen=0 * flat)


def _openness(marks: Tensor, side: int) -> Tensor:
    """0: shut, 1: open; [B, 1]. marks [B, 12, 3] of both eyes."""
    eye = marks[:, 6 * side : 6 * side + 6]
    height = (eye[:, 1:3] - eye[:, [5, 4]]).norm(dim=-1).mean(1)
    return (height / (eye[:, 3] - eye[:, 0]).norm(dim=-1) / _OPEN).clamp(0, 1)[:, None]


def _row_of_lashes(lid: Tensor, openness: Tensor, row: str, side: int, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, places, directions [B, 5 * count, 3] of a lid's lashes; lid [B, 4, 3]."""
    upper, name = row == "upper", f"{row} {side}"
    count = UPPER if upper else LOWER
    where = (torch.arange(count, device=lid.device) + 0.5) / count + draws.normal(f"{name} at", count) * (0.25 / count)
    root, edge = _on_curve(lid, where.clamp(0.02, 0.98))
    outer = where if side else 1 - where  # 1 at the corner away from the nose
    full = draws.between("length", 0.6, 1.0)[:, None] * (0.0105 if upper else 0.005)
    length = full * (0.55 + 0.45 * outer) * draws.between(f"{name} long", 0.7, 1.1, count)
    fan = (where - 0.5) * 1.1 + 0.15 * draws.normal(f"{name} fan", count)
    rise = -0.9 + 0.8 * openness if upper else torch.full_like(openness, -0.75)  # shut lids point down
    curl = draws.between("curl", 0.3, 1.1)[:, None] * (1 if upper else -0.3)
    start = _unit(fan, rise)
    end = _unit(fan * 1.3, rise + 1.2 * curl + (0.6 * openness if upper else 0))
    half = (draws.between("thickness", 0.5, 1.0)[:, None] * 0.0006)[..., None]
    root = root + torch.tensor([0.0, 0.0, _MARGIN], device=root.device)
    middle = root + start * (0.55 * length)[..., None]
    tip = middle + end * (0.45 * length)[..., None]
    points = [root - half * edge, root + half * edge, middle - 0.4 * half * edge, middle + 0.4 * half * edge, tip]
    bent = functional.normalize(start + end, dim=-1)
    along = [start, start, bent, bent, end]
    return torch.stack(points, 2).flatten(1, 2), _places(length), torch.stack(along, 2).flatten(1, 2)


def _unit(sideways: Tensor, upwards: Tensor) -> Tensor:
    wish = torch.stack([sideways, upwards.expand_as(sideways), torch.ones_like(sideways)], -1)
    return functional.normalize(wish, dim=-1)


def _on_curve(knots: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Points of the cubic through four knots [B, 4, 3] at shares [B, N] of its length, and its chord's directions."""
    t = 3 * where
    weights = [
        -(t - 1) * (t - 2) * (t - 3) / 6,
        t * (t - 2) * (t - 3) / 2,
        -t * (t - 1) * (t - 3) / 2,
        t * (t - 1) * (t - 2) / 6,
    ]
    points = (torch.stack(weights, -1)[..., None] * knots[:, None]).sum(2)
    chord = functional.normalize(knots[:, 3] - knots[:, 0], dim=-1)[:, None]
    return points, chord.expand_as(points)


def _places(length: Tensor) -> Tensor:
    across = torch.tensor([-0.0005, 0.0005, -0.0002, 0.0002, 0.0], device=length.device)
    share = torch.tensor([0, 0, 0.55, 0.55, 1], device=length.device)
    number = torch.arange(length.shape[1], device=length.device)[:, None] * 0.002
    down = length[..., None] * share
    return torch.stack([(number + across).expand_as(down), down, share.expand_as(down)], -1).flatten(1, 2)


@cache
def _topology(device: torch.device) -> Tensor:
    one = torch.tensor([[0, 1, 2], [1, 3, 2], [2, 3, 4]], device=device)
    first = 5 * torch.arange(2 * (UPPER + LOWER), device=device)
    return (one + first[:, None, None]).view(-1, 3)
