"""Glasses fitted to each head: rims, bridge, temples and lenses."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import Material
from casfne.capture.noise import layered
from casfne.capture.people.heads import HeadModel
from casfne.capture.wear.fabrics import offsets, rgb
from casfne.capture.wear.meshes import (
    TUBE_SIDES,
    body,
    check,
    ear_tops,
    grid,
    join,
    part,
    power,
    ramp,
    skin,
    span,
    tube,
)
from casfne.capture.wear.parts import GLASSES, LENS, Part

SHARE, SUNGLASSES, TINTED = 0.15, 0.2, 0.15  # of people; of the wearers, the first opaque
_ROUND, _RECTANGLE, _AVIATOR, _CAT_EYE, _HALF_RIM, _RIMLESS, _PANTO = range(7)
_SHAPES = (0.16, 0.26, 0.1, 0.12, 0.1, 0.1, 0.16)
# of each shape: half width, half height (mm), superellipse exponent, how much wider above than below, lift of the
# outer corner (share of the half height)
_OUTLINES = (
    (22.5, 21.5, 2.0, 0.0, 0.0),
    (26.0, 16.5, 4.0, 0.04, 0.0),
    (28.0, 23.5, 2.6, 0.16, 0.0),
    (26.0, 18.5, 2.7, 0.1, 0.35),
    (26.0, 15.5, 3.4, 0.06, 0.0),
    (25.0, 15.5, 2.8, 0.04, 0.0),
    (24.0, 20.5, 2.5, 0.12, 0.06),
)
_POINTS, _RINGS, _BRIDGE, _TEMPLE = 40, 6, 9, 14  # points along each piece
_NEAR_M, _PUSH_M = 0.004, 0.006  # skin this close to a rim counts; glasses slide down the nose at most so far
_CURVE_M = 0.16  # radius of the lenses' surface
_VERTEX_MM = (11.0, 15.0)  # from the eyelids to the lens, optician's range
_TILT_DEG, _WRAP_DEG = (4.0, 10.0), (3.0, 9.0)  # lower rim towards the cheeks; outer rim backwards
_PLASTIC, _METAL, _TORTOISE, _CRYSTAL = range(4)


class Glasses(NamedTuple):
    """Frame and lenses (the latter kept for all wearers; clear ones show as glare alone) and bool [B]: dark lenses."""

    frame: Part
    lens: Part
    lens_opaque: Tensor


class LensLooks(NamedTuple):
    """Of each sample's lenses: kind int64 [B] (0 clear, 1 tinted, 2 opaque); transmission [B, 3], the share of light
    that passes once, linear RGB; reflectance [B] at normal incidence, both faces together."""

    kind: Tensor
    transmission: Tensor
    reflectance: Tensor


@dataclass(frozen=True)
class _Fit:
    """Each pair's measures in metres, [B, 1] unless said; ``outline`` [B, K, 2]: outwards from the nose, up."""

    shape: Tensor
    outline: Tensor
    half: Tensor  # half width of a lens
    high: Tensor
    apart: Tensor  # from the middle to a lens' centre
    level: Tensor
    front: Tensor
    wrap: Tensor
    tilt: Tensor
    rim: Tensor  # half thickness seen from the front
    deep: Tensor  # half thickness seen from the side


def wears_glasses(draws: Draws) -> Tensor:
    """Who does, bool [B]."""
    return draws.sub("glasses").chance("worn", SHARE)


def lens_looks(draws: Draws) -> LensLooks:
    """What the lenses let through and reflect."""
    own = draws.sub("glasses")
    pick = own.uniform("lens kind")
    kind = (pick < SUNGLASSES + TINTED * (1 - SUNGLASSES)).long() + (pick < SUNGLASSES)
    hue = own.uniform("lens hue")
    tinted = rgb(hue, own.between("lens saturation", 0.0, 0.5), own.between("lens value", 0.35, 0.85))
    clear = own.between("lens clear", 0.92, 0.98)[:, None].expand(-1, 3)
    transmission = torch.where(kind[:, None] == 0, clear, torch.where(kind[:, None] == 1, tinted, 0.0))
    coated = own.chance("coated", 0.6)  # against reflections: 1 %; plain polymer reflects 4 % at each of two faces
    reflectance = torch.where(coated, own.between("coating", 0.008, 0.025), own.between("plain", 0.06, 0.085))
    return LensLooks(kind, transmission, reflectance)


def glasses(model: HeadModel, vertices: Tensor, draws: Draws) -> Glasses:
    """Frame and lenses for heads ``vertices`` [B, V, 3] (posed, head space), worn by ``SHARE`` of the samples."""
    check(model, vertices, len(draws))
    worn, own = wears_glasses(draws), draws.sub("glasses")
    fit = _fit(model, vertices, own)
    left, right = _rim(fit, -1), _rim(fit, 1)
    tubes = [(_rim_tube(fit, r, own), grid(_POINTS, TUBE_SIDES, True, True)) for r in (left, right)]
    bars = [(_bridge(model, vertices, fit, own, i), grid(_BRIDGE, TUBE_SIDES, False, True)) for i in (0, 1)]
    ears = ear_tops(model, vertices)
    arms = [(_temple(fit, ears[:, i], s), grid(_TEMPLE, TUBE_SIDES, False, True)) for i, s in ((0, -1), (1, 1))]
    pads = [_pad(fit, s) for s in (-1, 1)]
    frame, frame_faces = join(tubes + bars + arms + pads)
    lens, lens_faces = join([(_lens(fit, s), grid(_RINGS, _POINTS, False, True)) for s in (-1, 1)])
    opaque = worn & (lens_looks(draws).kind == 2)
    middle = torch.cat([torch.zeros_like(fit.level), fit.level, fit.front], 1)[:, None]
    return Glasses(
        part(GLASSES, frame, frame_faces, frame - middle, worn),
        part(LENS, lens, lens_faces, lens - middle, worn),
        opaque,
    )


def _fit(model: HeadModel, vertices: Tensor, own: Draws) -> _Fit:
    marks = vertices[:, model.landmarks]
    scale = span(model, vertices)
    shape = own.choice("shape", _SHAPES)
    table = vertices.new_tensor(_OUTLINES)[shape]
    size = scale * own.between("size", 0.92, 1.12, 1) * 1e-3
    half, high = (
        table[:, :1] * size * own.between("long", 0.95, 1.05, 1),
        table[:, 1:2] * size * own.between("tall", 0.92, 1.12, 1),
    )
    eyes = torch.stack([marks[:, 36:42].mean(1), marks[:, 42:48].mean(1)], 1)
    apart = (eyes[:, 1, :1] - eyes[:, 0, :1]) / 2 + 0.0015
    apart = torch.maximum(apart, half + 0.0075 * scale)  # room for the nose
    level = eyes[:, :, 1].mean(1, keepdim=True) - own.between("low", 0.0, 0.004, 1) - 0.12 * high
    front = marks[:, 36:48, 2].amax(1, keepdim=True) + own.between("vertex", *_VERTEX_MM, 1) * 1e-3
    front = torch.maximum(front, marks[:, 17:27, 2].amax(1, keepdim=True) + 0.003)
    bold = own.uniform("bold", 1) * (_material(own) != _METAL)[:, None]
    rim = 0.0007 + 0.0019 * bold
    thin = ((shape == _HALF_RIM) | (shape == _RIMLESS))[:, None]
    rim = torch.where(thin, 0.0008, rim)
    wrap, tilt = own.between("wrap", *_WRAP_DEG, 1).deg2rad(), own.between("tilt", *_TILT_DEG, 1).deg2rad()
    outline = _outline(table, half, high)
    fit = _Fit(shape, outline, half, high, apart, level, front, wrap, tilt, rim, 0.001 + 0.5 * rim)
    return replace(fit, front=front + _sunk(model, vertices, fit))


def _sunk(model: HeadModel, vertices: Tensor, fit: _Fit) -> Tensor:
    """How far the rims lie behind the skin at the deepest, at most ``_PUSH_M``, [B, 1]."""
    face = vertices[:, _around_eyes(model.template, skin(model), model.landmarks)]
    rims = torch.cat([_rim(fit, -1), _rim(fit, 1)], 1)[:, ::2]
    close = torch.cdist(rims[..., :2], face[..., :2], compute_mode="donot_use_mm_for_euclid_dist") < _NEAR_M
    over = torch.where(close, face[:, None, :, 2] - rims[..., 2:], 0.0)
    return (over.amax((1, 2)) + 0.001).clamp(0, _PUSH_M)[:, None]


@lru_cache(maxsize=8)
def _around_eyes(template: Tensor, outer: Tensor, landmarks: Tensor) -> Tensor:
    """Every other vertex of brows, nose bridge and cheeks that rims could touch, int64 [M]."""
    places, brows, nose = template[outer], template[landmarks[19], 1], template[landmarks[30], 1]
    chosen = (places[:, 2] > 0.06) & (places[:, 1] < brows + 0.01) & (places[:, 1] > nose)
    return outer[chosen][::2]


def _outline(table: Tensor, half: Tensor, high: Tensor) -> Tensor:
    """Closed curves [B, K, 2], outwards first, then upwards."""
    turn = torch.arange(_POINTS, device=table.device) * (2 * math.pi / _POINTS)
    power_of = 2 / table[:, 2:3]
    x, y = power(turn.cos()[None], power_of), power(turn.sin()[None], power_of)
    y = y + table[:, 4:5] * x.clamp_min(0) ** 2 * (0.5 + 0.5 * y)
    x = x * (1 + table[:, 3:4] * y)
    return torch.stack([x * half, y * high], -1)


def _sheet(fit: _Fit, outline: Tensor, side: int) -> Tensor:
    """Places [B, K, 3] on the curved, tilted plane of one lens."""
    out, up = outline.unbind(-1)
    depth = fit.tilt.tan() * up - fit.wrap.tan() * (out + fit.half) - (out**2 + up**2) / (2 * _CURVE_M)
    return torch.stack([side * (fit.apart + out * fit.wrap.cos()), fit.level + up, fit.front + depth], -1)


def _rim(fit: _Fit, side: int) -> Tensor:
    return _sheet(fit, fit.outline if side > 0 else fit.outline.flip(1), side)


def _rim_tube(fit: _Fit, path: Tensor, own: Draws) -> Tensor:
    """A tube round a lens; without its lower part at half rims, nothing at rimless ones."""
    rise = (path[..., 1] - fit.level) / fit.high
    upper = torch.where(fit.shape[:, None] == _HALF_RIM, ramp(rise, 0.05, 0.3), 1.0)
    there = torch.where(fit.shape[:, None] == _RIMLESS, 0.0, upper)
    heavy = 1 + own.uniform("brow line", 1) * 0.6 * ramp(rise, 0.2, 0.9)
    wide, deep = (fit.rim * there * heavy).expand_as(rise), (fit.deep * there).expand_as(rise)
    towards = path.new_tensor([0.0, 0.0, 1.0]).expand_as(path)
    return tube(path, towards, wide.clamp_min(2e-5), deep.clamp_min(2e-5), closed=True)


def _bridge(model: HeadModel, vertices: Tensor, fit: _Fit, own: Draws, number: int) -> Tensor:
    """The bar over the nose; the second one is an aviator's, and hides within the first at other shapes."""
    nose = vertices[:, model.landmarks[27]]
    second = float(number) * (fit.shape == _AVIATOR)[:, None]
    gap = fit.apart - fit.half * (1 - 0.02 * second)
    along = torch.linspace(-1, 1, _BRIDGE, device=vertices.device)
    level = fit.level + (0.3 + 0.3 * second) * fit.high
    arch = (0.16 * (1 - second)) * fit.high * (1 - along**2)
    base = fit.front + 0.004 * own.uniform("bridge", 1)
    push = (nose[:, 2:] + 0.004 - base).clamp_min(0) * (1 - along**2)
    inner = fit.front + (0.3 * fit.high) * fit.tilt.tan() - 0.5e-3
    depth = torch.lerp(inner.expand_as(push), base + push, 1 - along**2)
    path = torch.stack([gap * along, level + arch, depth], -1)
    thick = (0.8 + 0.2 * along**2) * fit.rim.clamp_min(0.0009)
    return tube(path, path.new_tensor([0.0, 0.0, 1.0]).expand_as(path), thick, (0.9 * fit.deep).expand_as(thick))


def _temple(fit: _Fit, ear: Tensor, side: int) -> Tensor:
    """The arm from a rim's outer end over the ear and down behind it."""
    out = fit.half * 1.01
    start = _sheet(fit, torch.stack([out, 0.4 * fit.high], -1), side)[:, 0]
    shift = start.new_tensor
    rest = ear + shift([-0.006 * side, 0.0015, 0.004])
    hinge = start + shift([0.003 * side, 0.0, -0.006])
    outer = torch.maximum(hinge[:, :1] * side, (hinge[:, :1] * side + rest[:, :1] * side) / 2 + 0.002) * side
    middle = torch.cat([outer, (hinge[:, 1:] + rest[:, 1:]) / 2], 1)
    knots = [start, hinge, (hinge + middle) / 2, middle, (middle + rest) / 2, rest]
    knots += [rest + shift([-0.001 * side, -0.004, -0.012]), rest + shift([-0.005 * side, -0.03, -0.022])]
    path = _spread(torch.stack(knots, 1), _TEMPLE)
    along = torch.linspace(0, 1, _TEMPLE, device=ear.device)
    tall = (fit.rim * (1.5 - 0.6 * along)).clamp_min(0.0008) + 0.0015 * ramp(along, 0.75, 1.0)
    wide = (0.7 * fit.deep).expand_as(tall)
    return tube(path, path.new_tensor([0.0, 1.0, 0.0]).expand_as(path), wide, tall)


def _spread(knots: Tensor, count: int) -> Tensor:
    """``count`` points along lines through ``knots`` [B, K, 3], evenly in the knots' number."""
    return torch.nn.functional.interpolate(knots.mT, count, mode="linear", align_corners=True).mT


def _pad(fit: _Fit, side: int) -> tuple[Tensor, Tensor]:
    """A small pad between the rim and the nose."""
    place = torch.cat([side * (fit.apart - fit.half + 0.0005), fit.level - 0.25 * fit.high, fit.front - 0.004], 1)
    size = place.new_tensor([0.0012, 0.0042, 0.0026]).expand(len(place), 3)
    shape, faces = body(size, torch.ones(len(place), 2, device=place.device))
    return shape + place[:, None], faces


def _lens(fit: _Fit, side: int) -> Tensor:
    """Rings from a lens' middle to its rim, [B, RINGS * K, 3]."""
    outline = fit.outline if side > 0 else fit.outline.flip(1)
    shares = torch.linspace(1e-3, 1, _RINGS, device=outline.device)
    # rings run inwards, so that the outside is the front
    return torch.cat([_sheet(fit, outline * share, side) for share in shares.flip(0)], 1)


def _material(own: Draws) -> Tensor:
    return own.choice("material", (0.4, 0.3, 0.2, 0.1))


def glasses_material(place: Tensor, sample: Tensor, draws: Draws) -> Material:
    """Frames at ``place`` [N, 3] of samples ``sample`` [N]: plastic, metal, tortoiseshell or clear plastic."""
    own = draws.sub("glasses")
    kind = _material(own)
    dark = own.chance("dark", 0.6)
    hue, vivid = own.uniform("hue"), own.between("vivid", 0.1, 0.9)
    plastic = torch.where(
        dark[:, None], own.between("black", 0.008, 0.02)[:, None], rgb(hue, vivid, own.between("value", 0.03, 0.4))
    )
    warm = own.chance("gold", 0.4)[:, None]
    metal = torch.where(warm, plastic.new_tensor([0.55, 0.38, 0.17]), own.log_between("steel", 0.03, 0.5)[:, None])
    clear = rgb(hue, 0.2 * vivid, own.between("clear", 0.3, 0.6))
    colours = torch.stack([plastic, metal, plastic.new_tensor([0.16, 0.06, 0.015]).expand_as(metal), clear], 1)
    base = colours.gather(1, kind[:, None, None].expand(-1, 1, 3))[:, 0][sample]
    mottle = ramp(layered(place, 0.009, offsets(own, "shell")[sample], 2)[:, 0], -0.4, 0.6)
    spots = torch.where(kind[sample] == _TORTOISE, 0.08 + 0.92 * mottle, 1.0)
    specular = place.new_tensor([0.045, 0.45, 0.045, 0.05])[kind][sample]
    rough = own.between("matt", 0.12, 0.45)[sample]
    zero = torch.zeros_like(rough)
    return Material((base * spots[:, None]).clamp(0.004, 0.85), specular, rough, zero, zero)


def lens_material(place: Tensor, sample: Tensor, draws: Draws) -> Material:
    """Dark lenses: nearly black, smooth, some of them mirrors, some lighter at the bottom."""
    own = draws.sub("glasses")
    tint = rgb(
        own.uniform("lens hue"), own.between("lens saturation", 0.0, 0.5), own.log_between("lens dark", 0.006, 0.03)
    )
    fade = own.chance("gradient", 0.4)[sample] * ramp(-place[:, 1], -0.015, 0.025)
    mirror = own.chance("mirror", 0.2)[sample]
    specular = torch.where(mirror, own.between("mirror strength", 0.15, 0.5)[sample], 0.05)
    one = torch.ones_like(specular)
    return Material(tint[sample] * (1 + 2.5 * fade)[:, None], specular, 0.03 * one, 0 * one, 0 * one)
