"""Building blocks of what is worn: grids, tubes, rounded bodies, and the envelope of a head; batched."""

import math
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.people.heads import HeadModel
from casfne.capture.wear.parts import Part

SPAN = 0.0892  # metres between the outer corners of the eyes of a mean head: the unit of people's size
_ABOVE_EARS = 0.25  # of the crown's height: from here up there are no ears
_SPACING = 0.016  # metres between the vertices that stand for a head's surface
TUBE_SIDES, CAPSULE_RINGS, CAPSULE_SIDES, BODY_RINGS, BODY_SIDES = 6, 6, 8, 13, 20
_POLE = 1e-3  # of a radius: poles stay tiny rings, whose normals are defined
_CAPSULE = ((-1.0, _POLE), (-0.707, 0.707), (0.0, 1.0), (0.0, 1.0), (0.707, 0.707), (1.0, _POLE))  # along, across


def check(model: HeadModel, vertices: Tensor, count: int) -> None:
    """ValueError unless ``vertices`` are [count, V, 3] of this model."""
    if vertices.shape != (count, len(model.template), 3):
        raise ValueError(f"expected vertices {[count, len(model.template), 3]}, got {list(vertices.shape)}")


def span(model: HeadModel, vertices: Tensor) -> Tensor:
    """Each head's size, as a multiple of a mean head's, [B, 1]."""
    corners = vertices[:, model.landmarks[[36, 45]]]
    return (corners[:, 0] - corners[:, 1]).norm(dim=-1, keepdim=True) / SPAN


def skin(model: HeadModel) -> Tensor:
    """Vertices of the outer surface of head and neck, sorted, int64 [S]."""
    return _skin(model.triangles, model.region)


def ear_tops(model: HeadModel, vertices: Tensor) -> Tensor:
    """The highest points of both ears, the picture's left first, [B, 2, 3]."""
    return vertices[:, _ear_tops(model.template, skin(model), model.landmarks)]


def anchors(model: HeadModel) -> Tensor:
    """Vertices spread evenly over head and neck, about one in ``_SPACING``, int64 [A]."""
    return _anchors(model.template, skin(model))


# tensors count as keys by who they are: a model's vertices are chosen once


@lru_cache(maxsize=8)
def _skin(triangles: Tensor, region: Tensor) -> Tensor:
    return triangles[region < 2].unique()


@lru_cache(maxsize=8)
def _ear_tops(template: Tensor, outer: Tensor, landmarks: Tensor) -> Tensor:
    places = template[outer]
    upper = places[:, 1] > _ABOVE_EARS * places[:, 1].amax()
    skull = places[upper, 0].abs().amax() + 0.003  # ears stand out from the skull above them
    tops = []
    for sign in (-1, 1):
        inside = (sign * places[:, 0] > skull) & (places[:, 1] > template[landmarks[8], 1] / 2)
        tops.append(torch.where(inside, places[:, 1], -1.0).argmax())
    return outer[torch.stack(tops)]


@lru_cache(maxsize=8)
def _anchors(template: Tensor, outer: Tensor) -> Tensor:
    cell = (template[outer] / _SPACING).round().long() + 64
    key = (cell * cell.new_tensor([1, 128, 128 * 128])).sum(1)
    number, group = key.unique(return_inverse=True)
    first = torch.full_like(number, len(key))
    return outer[first.scatter_reduce(0, group, torch.arange(len(key), device=key.device), "amin")]


def envelope(points: Tensor, centre: Tensor, direction: Tensor, tightness: int = 8) -> Tensor:
    """Distance [B, D] from ``centre`` [B, 3] to a taut cover of ``points`` [B, A, 3] in unit directions [B, D, 3].

    A point at angle t from a direction counts with cos(t) ** tightness of its distance.
    """
    arrows = points - centre[:, None]
    length = arrows.norm(dim=-1)
    cosine = (direction @ (arrows / length[..., None]).mT).clamp_min(0)
    return (cosine.pow(tightness) * length[:, None]).amax(-1)


@cache
def grid(rows: int, columns: int, wrap_rows: bool = False, wrap_columns: bool = False) -> Tensor:
    """Triangles of a grid of vertices (row by row), int64 [Q, 3]; outside is (along a row) x (down the rows)."""
    row = torch.arange(rows if wrap_rows else rows - 1)[:, None]
    column = torch.arange(columns if wrap_columns else columns - 1)
    here, right = row * columns + column, row * columns + (column + 1) % columns
    below = (row + 1) % rows * columns + column
    across = (row + 1) % rows * columns + (column + 1) % columns
    pairs = torch.stack([here, right, below, right, across, below], -1)
    return pairs.view(-1, 3)


def join(pieces: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Vertices [B, P, 3] and triangles of several meshes as one, on the vertices' device."""
    faces, count = [], 0
    for vertices, triangles in pieces:
        faces.append(triangles + count)
        count += vertices.shape[1]
    vertices = torch.cat([v for v, _ in pieces], 1)
    return vertices, torch.cat(faces).to(vertices.device)


def part(kind: int, vertices: Tensor, triangles: Tensor, place: Tensor, worn: Tensor) -> Part:
    """A part without strands; all at the origin where it is not worn."""
    kept = torch.where(worn[:, None, None], vertices, 0.0)
    return Part(kind, kept, triangles, place.expand_as(kept), torch.zeros_like(kept), worn)


def tube(path: Tensor, up: Tensor, wide: Tensor, high: Tensor, closed: bool = False) -> Tensor:
    """Elliptic tubes round paths [B, K, 3]: half axes ``wide`` [B, K] and, towards ``up`` [B, K, 3], ``high``.

    Gives [B, K * TUBE_SIDES, 3], for `grid` (K, TUBE_SIDES, closed, True).
    """
    if closed:
        tangent = path.roll(-1, 1) - path.roll(1, 1)
    else:
        step = path.diff(dim=1)
        tangent = torch.cat([step[:, :1], step[:, 1:] + step[:, :-1], step[:, -1:]], 1)
    tangent = functional.normalize(tangent, dim=-1)
    side = functional.normalize(torch.linalg.cross(up.expand_as(tangent), tangent), dim=-1)
    turn = torch.arange(TUBE_SIDES, device=path.device) * (2 * math.pi / TUBE_SIDES)
    across = (wide[..., None] * turn.cos())[..., None] * side[:, :, None]
    upwards = (high[..., None] * turn.sin())[..., None] * torch.linalg.cross(tangent, side)[:, :, None]
    return (path[:, :, None] + across + upwards).flatten(1, 2)


def capsules(start: Tensor, end: Tensor, radius: Tensor, end_radius: Tensor) -> tuple[Tensor, Tensor]:
    """Round-ended cones from ``start`` to ``end`` [B, M, 3] with radii [B, M]; vertices and triangles."""
    axis = functional.normalize(end - start, dim=-1)
    helper = torch.where(axis[..., :1].abs() < 0.7, axis.new_tensor([1.0, 0, 0]), axis.new_tensor([0, 0, 1.0]))
    side = functional.normalize(torch.linalg.cross(helper.expand_as(axis), axis), dim=-1)
    other = torch.linalg.cross(axis, side)
    turn = torch.arange(CAPSULE_SIDES, device=start.device) * (2 * math.pi / CAPSULE_SIDES)
    round_ = turn.cos()[:, None] * side[:, :, None] + turn.sin()[:, None] * other[:, :, None]  # [B, M, S, 3]
    rings = []
    for i, (along, across) in enumerate(_CAPSULE):
        base, size = (start, radius) if 2 * i < CAPSULE_RINGS else (end, end_radius)
        centre = base + axis * (along * size)[..., None]
        rings.append(centre[:, :, None] + round_ * (across * size)[..., None, None])
    vertices = torch.stack(rings, 2)  # [B, M, rings, S, 3]
    one = grid(CAPSULE_RINGS, CAPSULE_SIDES, False, True)
    offsets = torch.arange(start.shape[1])[:, None, None] * (CAPSULE_RINGS * CAPSULE_SIDES)
    return vertices.flatten(1, 3), (one + offsets).flatten(0, 1)


def body(size: Tensor, roundness: Tensor) -> tuple[Tensor, Tensor]:
    """Superquadrics along y round the origin: half axes ``size`` [B, 3]; exponents ``roundness`` [B, 2] across and
    along: 1 an ellipsoid, 0.2 a box (0.2 along, 1 across: a cylinder). Vertices and triangles."""
    rise = (torch.linspace(-0.5, 0.5, BODY_RINGS, device=size.device) * (math.pi - 2 * _POLE))[:, None]
    turn = torch.arange(BODY_SIDES, device=size.device) * (2 * math.pi / BODY_SIDES)
    across, along = roundness[:, 0, None, None], roundness[:, 1, None, None]
    reach = power(rise.cos(), along)
    x, z = reach * power(turn.sin(), across), reach * power(turn.cos(), across)
    y = power(rise.sin(), along).expand_as(x)
    vertices = torch.stack([x, y, z], -1).flatten(1, 2) * size[:, None]
    return vertices, grid(BODY_RINGS, BODY_SIDES, False, True)


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Sign kept, magnitude to the exponent."""
    return base.sign() * base.abs().clamp_min(1e-9) ** exponent


def ramp(value: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
