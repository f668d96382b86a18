"""Relief too fine for meshes: wrinkles, the grain of skin, lines of lips, brows, beards, pimples; as normals.

Heights are functions of a few coordinates (fields and noises). Their slopes are taken along two edges of each triangle,
on the template, and belong to the same two edges of the posed triangle: so relief turns, bends and stretches with the
skin. Weights that fade a wrinkle in over centimetres count as level.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.noise import noise
from casfne.capture.people.fields import FIELDS, NOISES
from casfne.capture.people.looks import Looks, Spots, beard, brow, ramp, strand_places

_FINEST = 0.0006  # m, the wavelength of pores
_COARSER = 2.2  # wavelength of the second noise over that of the first
_STEEPEST = 1.2  # rise over run: skin folds no further
_SIDE, _PER_WAVE = 64, 8  # of the noise's period: lattice points, and those in one wavelength


@dataclass(frozen=True)
class Relief:
    """height float32 [N]: metres outwards. rise [2, N]: metres that it gains along two edges of the triangle."""

    height: Tensor
    rise: Tensor


@dataclass(frozen=True)
class _Coordinate:
    """A quantity at N points, [N], and its change along two edges, [2, N]."""

    value: Tensor
    change: Tensor

    def __add__(self, other: "_Coordinate") -> "_Coordinate":
        return _Coordinate(self.value + other.value, self.change + other.change)

    def __mul__(self, factor: float | Tensor) -> "_Coordinate":
        return _Coordinate(self.value * factor, self.change * factor)

    def ramp(self, low: float, high: float) -> "_Coordinate":
        """`looks.ramp` of it."""
        t = ((self.value - low) / (high - low)).clamp(0, 1)
        return _Coordinate(t * t * (3 - 2 * t), 6 * t * (1 - t) / (high - low) * self.change)

    def shifted(self, by: float | Tensor) -> "_Coordinate":
        """Its zero moved to where it is ``by``."""
        return _Coordinate(self.value - by, self.change)


def relief_normals(
    normals: Tensor,
    corners: Tensor,
    posed: Tensor,
    template: Tensor,
    vertex_fields: Tensor,
    where: Tensor,
    fields: Tensor,
    sample: Tensor,
    looks: Looks,
    footprint: Tensor,
) -> Tensor:
    """Unit normals [N, 3] of the head with its fine relief, at N surface points.

    normals float32 [N, 3]: unit, of the mesh, in posed space. corners int64 [N, 3]: vertices of the points' triangles.
    posed [B, V, 3], template [V, 3] in metres; vertex_fields [V, F] (`fields.fields`). where [N, 3], fields [N, F],
    sample int64 [N]: as for `looks.paint`. footprint [N]: metres that a pixel spans.
    """
    if corners.shape != normals.shape or where.shape != normals.shape:
        raise ValueError(f"expected three [N, 3], got {[*normals.shape]}, {[*corners.shape]}, {[*where.shape]}")
    flat = posed.reshape(-1, 3)
    first = sample * posed.shape[1]
    edges = _edges(flat, corners + first[:, None])
    found = relief(where, fields, _edges(template, corners), _edges(vertex_fields, corners), sample, looks, footprint)
    return displaced(normals, edges, found.rise)


def displaced(normals: Tensor, edges: Tensor, rise: Tensor) -> Tensor:
    """Unit normals [N, 3] of a surface moved along its normals by a height that changes slowly.

    normals [N, 3]: unit, before. edges [2, N, 3]: two directions along the surface, in metres. rise [2, N]: what the
    height gains along each. The normal tips against the gradient that has these rises.
    """
    along = edges - (edges * normals).sum(-1, keepdim=True) * normals
    a, b, c = (along[0] ** 2).sum(-1), (along[0] * along[1]).sum(-1), (along[1] ** 2).sum(-1)
    spread = a * c - b * b
    good = spread > 1e-4 * a * c  # seen from the side of a smoothed edge a triangle may span no plane
    inverse = torch.where(good, 1 / spread.clamp_min(1e-24), 0.0)
    first, second = (c * rise[0] - b * rise[1]) * inverse, (a * rise[1] - b * rise[0]) * inverse
    gradient = first[:, None] * along[0] + second[:, None] * along[1]
    steep = gradient.norm(dim=-1, keepdim=True)
    gradient = gradient * (_STEEPEST / steep.clamp_min(_STEEPEST))
    return functional.normalize(normals - gradient, dim=-1)


def relief(
    where: Tensor,
    fields: Tensor,
    edges: Tensor,
    field_edges: Tensor,
    sample: Tensor,
    looks: Looks,
    footprint: Tensor,
) -> Relief:
    """Height and rise of the fine relief at N points.

    where [N, 3], fields [N, F], sample int64 [N]: as for `looks.paint`. edges [2, N, 3], field_edges [2, N, F]: what
    ``where`` and ``fields`` change by along two edges of the triangle. footprint [N] in metres: waves below two of it
    are left out.
    """
    spots = Spots(where, fields, sample, looks)
    lines = _Lines(spots, field_edges, edges, footprint)
    terms = [*_forehead(lines), *_folds(lines), *_eyes(lines), *_neck(lines), *_fine(lines)]
    height, rise = torch.zeros_like(where[:, 0]), torch.zeros_like(edges[..., 0])
    for value, slope, change in terms:
        height = height + value
        rise = rise + slope * change
    return Relief(height, rise)


_Term = tuple[Tensor, Tensor, Tensor]  # height [N], its derivative by a coordinate [N], that one's change [2, N]


class _Lines:
    """Coordinates with their changes, for relief at points."""

    def __init__(self, spots: Spots, field_edges: Tensor, edges: Tensor, footprint: Tensor) -> None:
        self.spots, self.edges, self.footprint = spots, edges, footprint
        self._field_edges = field_edges
        own = spots.own()
        mix = spots.looks.mix.flatten(1).index_select(0, spots.sample).view(-1, 7, 4)
        first = FIELDS.index(NOISES[0])
        changes = torch.einsum("enk,nkc->cen", field_edges[..., first : first + 7], mix)
        self.own = [_Coordinate(value, change) for value, change in zip(own, changes, strict=True)]

    def field(self, name: str) -> _Coordinate:
        return _Coordinate(self.spots.field(name), self._field_edges[..., FIELDS.index(name)])

    def level(self, name: str, strength: str) -> Tensor:
        """A zone times a strength of the looks, [N]."""
        return self.spots.field(name) * self.spots.look(strength)

    def visible(self, wavelength: float | Tensor) -> Tensor:
        """0 for waves shorter than two pixels, 1 from three on."""
        return ramp(torch.as_tensor(wavelength / self.footprint), 1.7, 3.0)


# --- wrinkles ---


def _groove(line: _Coordinate, half_width: float, depth: Tensor) -> _Term:
    """A valley along a coordinate's zero; a negative depth is a ridge."""
    share = line.value / half_width
    height = -depth * torch.exp(-share.square())
    return height, -2 * share / half_width * height, line.change


def _grooves(line: _Coordinate, spacing: float, sharpness: int, depth: Tensor) -> _Term:
    """Valleys every ``spacing`` metres of a coordinate, narrower with more ``sharpness``."""
    phase = line.value * (2 * math.pi / spacing)
    valley = 0.5 + 0.5 * phase.cos()
    height = -depth * valley**sharpness
    slope = depth * sharpness * valley ** (sharpness - 1) * (math.pi / spacing) * phase.sin()
    return height, slope, line.change


def _faded(term: _Term, share: _Coordinate) -> list[_Term]:
    """A term times a share that changes along the wrinkle: gaps, and ends that run out."""
    height, slope, change = term
    return [(height * share.value, slope * share.value, change), (torch.zeros_like(height), height, share.change)]


def _forehead(lines: _Lines) -> list[_Term]:
    """Lines across the forehead, and those that stand between the brows."""
    wavy = lines.field("forehead") + lines.own[0] * 0.0020 + lines.own[2] * 0.0006
    gaps = (lines.own[3] + lines.own[1] * 0.7).ramp(-1.1, 0.5)
    across = _grooves(wavy, 0.0092, 4, 0.00070 * lines.level("forehead_zone", "raised") * lines.visible(0.005))
    x, change = lines.spots.where[:, 0], lines.edges[..., 0]
    side = _Coordinate(x.abs(), change * x.sign()) + lines.own[2] * 0.0009
    upright = lines.level("glabella_zone", "frown") * lines.visible(0.004)
    even = (lines.own[3] * x.sign()).ramp(-2.0, 0.5)
    return [*_faded(across, gaps), *_faded(_groove(side.shifted(0.0058), 0.0014, 0.0008 * upright), even)]


def _folds(lines: _Lines) -> list[_Term]:
    """From nostril to the corner of the mouth and on: a valley, and the cheek that swells over it."""
    line = lines.field("fold") + lines.own[2] * 0.0007
    deep = lines.level("fold_zone", "smile")
    return [
        _groove(line, 0.0023, 0.00115 * deep * lines.visible(0.006)),
        _groove(line.shifted(0.0062), 0.0050, -0.00080 * deep),
    ]


def _eyes(lines: _Lines) -> list[_Term]:
    """Crow's feet, and bags with their lower edge."""
    fan = lines.field("crow") + lines.own[3] * 0.0010 + lines.own[0] * 0.0012
    crow = _grooves(fan, 0.0062, 3, 0.00050 * lines.level("crow_zone", "squint") * lines.visible(0.004))
    below = lines.field("lid") + lines.own[3] * 0.0009
    bag = lines.level("bag_zone", "bags")
    return [
        *_faded(crow, lines.own[2].ramp(-1.3, 0.4)),
        _groove(below.shifted(0.0046), 0.0030, -0.00065 * bag),
        _groove(below.shifted(0.0098), 0.0020, 0.00045 * bag * lines.visible(0.005)),
        _grooves(below, 0.0031, 2, 0.00008 * lines.level("bag_zone", "age") * lines.visible(0.0031)),
    ]


def _neck(lines: _Lines) -> list[_Term]:
    line = lines.field("neck") + lines.own[0] * 0.0050 + lines.own[3] * 0.0012
    deep = 0.0005 * ramp(line.value, 0.008, 0.016) * (0.15 + 0.85 * lines.spots.look("age")) * lines.visible(0.007)
    return _faded(_grooves(line, 0.023, 7, deep), lines.own[1].ramp(-1.2, 0.3))


# --- grain ---


def _fine(lines: _Lines) -> list[_Term]:
    """Two noises of each sample's two finest visible wavelengths: grain, lips' lines, hairs, pimples."""
    spots = lines.spots
    brows, beards = brow(spots), beard(spots)
    lips = ramp(spots.field("lips"), 0.0005, -0.0012)
    outer = ramp(spots.field("lid"), -0.0003, 0.0008)  # eyes are smooth
    along, across = lines.field("brow_along"), lines.field("brow_across")
    on_brow, on_lips = brows > 0.02, lips > 0.3
    hairy = torch.maximum(brows, beards)

    def places(stretched: Tensor) -> _Coordinate:
        """Where noise is taken, [N, 3] in metres: drawn out along the strands where ``stretched`` (bool [N])."""
        moved = strand_places(spots.where, along.value, across.value, on_brow, on_lips)
        steps = [
            strand_places(edge, a, b, on_brow, on_lips)
            for edge, a, b in zip(lines.edges, along.change, across.change, strict=True)
        ]
        keep = stretched[:, None]
        return _Coordinate(torch.where(keep, moved, spots.where), torch.where(keep, torch.stack(steps), lines.edges))

    wavelength = _finest(spots, lines.footprint)
    grain = 0.000009 * spots.look("grain") * (wavelength / 0.001).sqrt() * (1 - 0.5 * lips) + 0.00003 * lips
    thick = 0.12 * wavelength * spots.look("beard_length") / (spots.look("beard_length") + wavelength)
    fine = outer * (grain + 0.00003 * brows + 0.5 * thick * beards)
    value, slope, change = _noisy(places((hairy > 0.05) | on_lips), wavelength, spots.offset + 0.2)
    coarse = outer * (0.8 * grain * (1 - lips) + thick * beards)
    coarser = _COARSER * wavelength
    value_2, slope_2, change_2 = _noisy(places(beards > 0.05), coarser, spots.offset + 0.7)
    bump = 0.00018 * spots.look("pimples") * (1 - lips) * outer
    over = (value_2 - 2.1).clamp_min(0)
    return [
        (fine * value, fine * slope, change),
        (coarse * value_2 + bump * over.square(), (coarse + 2 * bump * over) * slope_2, change_2),
    ]


def _finest(spots: Spots, footprint: Tensor) -> Tensor:
    """The shortest wavelength worth drawing, a power of two times ``_FINEST`` alike within a sample, [N]."""
    least = torch.full_like(spots.looks.age, torch.inf)
    least.scatter_reduce_(0, spots.sample, footprint, "amin")
    doublings = (2.2 * least / _FINEST).log2().ceil().clamp(0, 12)
    return (_FINEST * 2**doublings).index_select(0, spots.sample)


def _noisy(place: _Coordinate, wavelength: Tensor, offset: Tensor) -> _Term:
    """One noise of standard deviation 1 at places [N, 3], 1, and its change along the two edges."""
    cell = (place.value / (wavelength[:, None] * (_SIDE // _PER_WAVE)) + offset) % 1.0
    grid = (cell * 2 - 1).view(1, 1, 1, -1, 3)
    found = functional.grid_sample(_slopes(cell.device), grid, mode="bilinear", align_corners=True).view(4, -1)
    change = (found[1:].T * place.change).sum(-1) / wavelength
    return found[0], torch.ones_like(wavelength), change


@cache
def _slopes(device: torch.device) -> Tensor:
    """[1, 4, 65, 65, 65]: a noise on its lattice, and its slopes by x, y, z per wavelength."""
    steps = torch.arange(_SIDE) / _SIDE
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    lattice = torch.stack([x, y, z], -1).view(-1, 3)
    value = noise(lattice, 1 / _PER_WAVE, torch.zeros(1, 3))[:, 0].view(_SIDE, _SIDE, _SIDE)
    waves, spectrum = torch.fft.fftfreq(_SIDE) * _PER_WAVE, torch.fft.fftn(value)
    turns = [2j * math.pi * waves.view([-1 if axis == d else 1 for d in range(3)]) for axis in (2, 1, 0)]
    slopes = [torch.fft.ifftn(spectrum * turn).real for turn in turns]
    return functional.pad(torch.stack([value, *slopes])[None], (0, 1, 0, 1, 0, 1), mode="circular").to(device)


def _edges(values: Tensor, corners: Tensor) -> Tensor:
    """What per-vertex values [V, C] change by from the first corner [N, 3] to the second and the third, [2, N, C]."""
    first, second, third = (values.index_select(0, corner) for corner in corners.unbind(-1))
    return torch.stack([second - first, third - first])
