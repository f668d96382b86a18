"""The paint of a head: what surface points are made of, from a person's looks and where they lie."""

import torch
from torch import Tensor

from casfne.capture.lighting.material import BODY, FACE_CLASS, HAIR_CLASS, Material
from casfne.capture.noise import noise
from casfne.capture.people.appearance import Looks, sample_looks
from casfne.capture.people.fields import FIELDS, NOISES
from casfne.capture.people.heads import MOUTH, SCLERA, TEETH
from casfne.capture.people.skin import reflectance

__all__ = ["PIXEL", "Looks", "Spots", "beard", "brow", "classes", "paint", "ramp", "sample_looks", "strand_places"]

PIXEL = 0.0008  # m, the footprint when none is given: a face in a portrait of 256 pixels
_STRAND = 0.0011  # m, from hair to hair where they are painted
_SPOT = 0.0036  # m, the noise of freckles, moles and pimples

_WET = 0.21  # roughness of eyes: sharper highlights would fall between pixels

# linear RGB
_SCLERA, _VEIN = (0.66, 0.61, 0.56), (0.46, 0.14, 0.11)
_TOOTH, _GUM, _TONGUE = (0.54, 0.49, 0.40), (0.42, 0.165, 0.15), (0.36, 0.12, 0.11)


class Spots:
    """What paint needs of N surface points: the columns of fields, noises, and numbers of their samples."""

    def __init__(self, where: Tensor, fields: Tensor, sample: Tensor, looks: Looks) -> None:
        self.where, self.sample, self.looks = where, sample, looks
        self._columns = dict(zip(FIELDS, fields.T.contiguous().unbind(0), strict=True))
        self.offset = looks.offset.index_select(0, sample)

    def field(self, name: str) -> Tensor:
        """A field, [N]."""
        return self._columns[name]

    def look(self, name: str) -> Tensor:
        """An attribute of the looks at each point, [N] or [N, 3]."""
        return getattr(self.looks, name).index_select(0, self.sample)

    def own(self) -> Tensor:
        """The sample's own broad noises, [4, N]: two of 50 mm, two of 16 mm."""
        columns = torch.stack([self._columns[name] for name in NOISES])
        mix = self.looks.mix.flatten(1).T.contiguous().index_select(1, self.sample)
        return (mix.view(7, 4, -1) * columns[:, None]).sum(0)


def paint(
    where: Tensor, region: Tensor, fields: Tensor, sample: Tensor, looks: Looks, footprint: Tensor | float = PIXEL
) -> Material:
    """What the head is made of at N surface points.

    where float32 [N, 3]: on the head model's template, in metres. region int64 [N]: of the triangle. fields [N, F]:
    ``fields.FIELDS`` there. sample int64 [N]. footprint, a number or [N]: metres that a pixel spans; hairs finer than
    that are painted as their mean.
    """
    if where.shape != (len(fields), 3) or fields.shape[1:] != (len(FIELDS),):
        raise ValueError(f"expected [N, 3] and [N, {len(FIELDS)}], got {[*where.shape]} and {[*fields.shape]}")
    material = _paint_skin(Spots(where, fields, sample, looks), footprint)
    for belongs, painter in (
        (region >= SCLERA, _paint_eyes),
        (region == TEETH, _paint_teeth),
        (region == MOUTH, _paint_mouth),
    ):
        index = belongs.nonzero()[:, 0]
        painter(Spots(where[index], fields[index], sample[index], looks), material, index)
    return material


def classes(where: Tensor, region: Tensor, fields: Tensor, sample: Tensor, looks: Looks) -> Tensor:
    """Classes of the mask (`material.CLASSES`) of surface points, int64 [N]; arguments as for `paint`."""
    spots = Spots(where, fields, sample, looks)
    hairy = spots.look("scalp") * ramp(_hair_margin(spots), -0.001, 0.001)
    bearded = beard(spots) * (spots.look("beard_length") > 0.0018)
    outer = region < TEETH
    found = torch.full_like(sample, FACE_CLASS)
    found[(spots.field("neck") > 0) & outer] = BODY
    found[(torch.maximum(hairy, bearded) > 0.5) & outer] = HAIR_CLASS
    found[region == MOUTH] = BODY
    return found


def ramp(value: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between (``low`` may be the greater)."""
    t = ((value - low) / (high - low)).clamp_(0, 1)
    return t * t * (3 - 2 * t)


def _hair_margin(spots: Spots) -> Tensor:
    """Metres inside (+) the person's own hairline."""
    temples = spots.look("recession") * ramp(spots.where[:, 2], 0.0, 0.05)
    return spots.field("hairline") - temples


def beard(spots: Spots) -> Tensor:
    """Share of the skin that beard covers, [N]."""
    zones = ("moustache", "goatee", "jaw", "throat")
    cover = torch.stack([spots.field(zone) * spots.look(zone) for zone in zones]).amax(0)
    return cover * ramp(spots.field("lips"), -0.0005, 0.002)


def brow(spots: Spots) -> Tensor:
    """How densely brow hairs grow, 0..1, [N]."""
    along = spots.field("brow_along")
    taper = 0.75 + 0.35 * ramp(along, 0.0, 0.35) - 0.65 * ramp(along, 0.5, 1.05)
    off = (spots.field("brow_across") - spots.look("brow_shift")).abs() / (spots.look("brow_half") * taper)
    return ramp(off, 1.6, 0.3) * ramp(along, -0.13, 0.28) * ramp(along, 1.12, 0.85)


def strand_places(where: Tensor, brow_along: Tensor, brow_across: Tensor, on_brow: Tensor, on_lips: Tensor) -> Tensor:
    """Where to look up the finest noise: drawn out along the hairs, or the lines of the lips; [N, 3].

    Linear in its first three arguments ([N, 3], [N], [N]); on_brow, on_lips bool [N].
    """
    x, y, z = where.unbind(-1)
    run = 0.05 * brow_along
    first = torch.where(on_brow, 0.22 * run + 0.10 * brow_across, x)
    second = torch.where(on_brow, 1.15 * brow_across - 0.45 * run, torch.where(on_lips, 0.2 * y, 0.45 * y))
    return torch.stack([first, second, torch.where(on_brow, 0.1 * x, torch.where(on_lips, 0.2 * z, z))], -1)


def _paint_skin(spots: Spots, footprint: Tensor | float) -> Material:
    brows = brow(spots)
    lips = ramp(spots.field("lips"), 0.0010, -0.0010)
    contrast = ramp(torch.as_tensor(_STRAND / footprint, device=lips.device), 0.4, 2.5)
    places = strand_places(spots.where, spots.field("brow_along"), spots.field("brow_across"), brows > 0.02, lips > 0.5)
    strands = noise(places, _STRAND, spots.offset).T * (0.35 + 0.65 * contrast)
    points = noise(spots.where, _SPOT, spots.offset + 0.5).T
    own = spots.own()
    plain = 1 - 0.75 * spots.look("foundation")
    bare = reflectance(_melanin(spots, points, own, plain, lips), _blood(spots, points, own, plain, lips))
    shade = (1 + 0.035 * strands[2] * (1 + lips)) * (0.45 + 0.55 * ramp(spots.field("open"), 0.14, 0.45))
    colour = _coloured(spots, bare * shade[:, None], lips, strands)
    colour, hairs = _haired(spots, colour, brows, strands, own)
    return _surface(spots, colour.clamp_(0.004, 0.9), lips, hairs, strands, own)


def _melanin(spots: Spots, points: Tensor, own: Tensor, plain: Tensor, lips: Tensor) -> Tensor:
    """Volume fraction of melanin, [N]: uneven, freckled, darker about the eyes."""
    sunny = torch.maximum(spots.field("cheek"), spots.field("nose"))
    blotch = spots.look("blotch")
    uneven = blotch * plain * (0.10 * own[0] + 0.06 * own[2] + 0.05 * points[2])
    freckle = spots.look("freckles") * plain * ramp(points[0] + 0.8 * sunny + 0.4 * own[1], 1.3, 2.3)
    mole = spots.look("moles") * ramp(points[1] + 0.2 * own[3], 3.25, 3.6)
    eyes = spots.look("eye_dark") * plain * torch.maximum(spots.field("bag_zone"), 0.6 * _lid_skin(spots))
    change = uneven + 0.9 * freckle + 2.6 * mole + 0.55 * eyes - 0.2 * lips
    return spots.look("melanin") * torch.exp(change)


def _blood(spots: Spots, points: Tensor, own: Tensor, plain: Tensor, lips: Tensor) -> Tensor:
    """Volume fraction of blood, [N]: red nose, cheeks, ears, pimples; most in the lips."""
    uneven = spots.look("blotch") * plain * (0.22 * own[1] + 0.16 * own[3] + 0.12 * points[3])
    red = spots.look("nose_red") * spots.field("nose") + spots.look("cheek_red") * spots.field("cheek")
    pimple = spots.look("pimples") * ramp(points[3] + 0.3 * own[2], 2.6, 3.2)
    fold = 0.25 * spots.field("fold_zone") * ramp(spots.field("fold").abs(), 0.005, 0.0)
    change = uneven + plain * (0.8 * red + 1.0 * pimple + fold) + 0.5 * spots.field("ear")
    change = (
        change + 0.45 * ramp(spots.field("lid"), 0.004, 0.0) + 0.3 * spots.look("eye_dark") * spots.field("bag_zone")
    )
    return torch.lerp(spots.look("blood") * torch.exp(change), torch.exp(0.1 * points[3]) * 0.058, lips * 0.95)


def _lid_skin(spots: Spots) -> Tensor:
    """1 on the upper lid, 0 a centimetre above it."""
    return ramp(spots.field("lid"), 0.011, 0.003) * ramp(spots.field("eye_up"), -0.003, 0.002)


def _coloured(spots: Spots, colour: Tensor, lips: Tensor, strands: Tensor) -> Tensor:
    """Make-up, and the line of the lashes, over bare skin [N, 3]."""
    stick = (spots.look("lipstick_strength") * lips)[:, None]
    colour = torch.lerp(colour, spots.look("lipstick") * (1 + 0.08 * strands[1])[:, None], stick)
    seam = torch.exp(-((spots.field("mouth_line") / 0.0011) ** 2)) * lips
    colour = colour * (1 - 0.55 * seam)[:, None]
    rouge = (spots.look("blush") * spots.field("cheek"))[:, None]
    colour = colour * (1 - rouge * torch.tensor([0.05, 0.35, 0.28], device=colour.device))
    shadow = (spots.look("eye_shadow_strength") * _lid_skin(spots))[:, None]
    colour = torch.lerp(colour, spots.look("eye_shadow") * (0.4 + colour), shadow)
    return torch.lerp(colour, torch.full_like(colour, 0.010), _lash_line(spots)[:, None])


def _lash_line(spots: Spots) -> Tensor:
    """How dark roots of lashes and eyeliner make the lids' edges, [N]."""
    lid, liner = spots.field("lid"), spots.look("eyeliner")
    upper = ramp(spots.field("eye_up"), -0.0025, 0.0005)
    width = 0.0009 + 0.0016 * liner * upper
    near = ramp(lid.abs(), width * 1.3, width * 0.3)
    return near * (0.28 + 0.45 * upper + (0.15 + 0.25 * upper) * liner).clamp(0, 0.95)


def _haired(spots: Spots, colour: Tensor, brows: Tensor, strands: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Brows, beard and scalp over skin [N, 3], and the share of hair [N]."""
    lock = 1 + 0.25 * strands[1]
    density = brows * spots.look("brow_density")
    on_brow = (density * (1.05 + 0.7 * strands[0] * (1.2 - density))).clamp(0, 0.96)
    colour = torch.lerp(colour, spots.look("brow_colour") * lock[:, None], on_brow[:, None])
    margin = _hair_margin(spots) + 0.003 * own[2] + 0.0012 * strands[0]
    bearded = beard(spots)
    bearded = bearded + (bearded * (1 - bearded)) * (0.25 * own[3] + 0.7 * strands[1])  # its edge is ragged
    grown = torch.maximum(bearded, spots.look("scalp") * 0.94 * ramp(margin, -0.004, 0.006))
    cover = (grown * (0.92 + 0.4 * strands[0] * (1.2 - grown))).clamp(0, 0.97)
    shade = spots.look("hair_colour") * lock[:, None] * (0.55 + 0.45 * ramp(strands[3], -1.5, 1.5))[:, None]
    return torch.lerp(colour, shade, cover[:, None]), torch.maximum(cover, on_brow)


def _surface(spots: Spots, colour: Tensor, lips: Tensor, hairs: Tensor, strands: Tensor, own: Tensor) -> Material:
    """How skin of a colour reflects: oil on forehead and nose, wet lips, dull hair."""
    oil = spots.look("oil") * (1 - 0.5 * spots.look("foundation"))
    roughness = 0.55 - (0.05 + 0.09 * oil) * spots.field("oily") - 0.05 * oil + 0.03 * own[2] + 0.015 * strands[3]
    wet = torch.maximum(spots.look("lip_gloss"), ramp(spots.field("mouth_line").abs(), 0.003, 0.0005))
    roughness = torch.lerp(roughness, 0.40 - 0.17 * wet, lips)
    rim = ramp(spots.field("lid"), 0.0012, -0.0004) * ramp(spots.field("lid"), -0.006, -0.002)
    roughness = torch.lerp(roughness, torch.full_like(roughness, 0.22), 0.8 * rim)
    roughness = torch.lerp(roughness, torch.full_like(roughness, 0.55), hairs)
    specular = 0.028 * (1 - 0.35 * hairs) * (0.7 + 0.3 * spots.field("open"))
    scatter = (0.5 + 0.1 * spots.field("ear") + 0.1 * lips) * (1 - 0.7 * hairs)
    sheen = (0.10 + 0.06 * spots.look("sex")) * (1 - hairs) * (1 - lips)
    return Material(colour, specular, roughness.clamp(0.2, 0.7), scatter, sheen)


def _paint_eyes(spots: Spots, material: Material, index: Tensor) -> None:
    out, up = spots.field("eye_out"), spots.field("eye_up")
    radius = (out.square() + up.square()).sqrt()
    ring = torch.stack([out, up], -1) / radius.clamp_min(1e-5)[:, None] * 0.0060
    place = torch.cat([ring + torch.where(spots.where[:, :1] > 0, 0.02, 0.0), 0.12 * radius[:, None]], -1)
    streaks = noise(place, 0.0011, spots.offset).T
    veins = noise(spots.where * torch.tensor([0.4, 1, 1], device=out.device), 0.0022, spots.offset).T
    edge = radius - spots.look("iris_radius")
    colour = torch.lerp(
        _sclera(spots, veins, edge), _iris(spots, radius, streaks), ramp(edge, 0.00030, -0.00030)[:, None]
    )
    shade = 0.55 + 0.45 * ramp(spots.field("lid"), 0.0006, -0.0030)
    material.albedo[index] = (colour * shade[:, None]).clamp(0.003, 0.85)
    material.specular[index] = 0.025 + 0.012 * ramp(edge, 0.001, -0.001)
    material.roughness[index] = _WET
    material.scatter[index] = 0.45 * ramp(edge, -0.0005, 0.0005)
    material.sheen[index] = 0.0


def _sclera(spots: Spots, veins: Tensor, edge: Tensor) -> Tensor:
    white, vein = (torch.tensor(c, device=edge.device) for c in (_SCLERA, _VEIN))
    inner = ramp(spots.field("eye_out"), -0.0095, -0.0125)  # the corner at the nose
    thread = ramp(veins[0].abs(), 0.16, 0.02) * ramp(edge, 0.0, 0.006) * spots.look("veins")
    red = (0.06 + 0.30 * thread + 0.65 * inner + 0.12 * spots.look("veins") * ramp(edge, 0.001, 0.007)).clamp(0, 0.9)
    yellow = torch.tensor([0.02, 0.06, 0.16], device=edge.device) * spots.look("age")[:, None]
    return torch.lerp(white, vein, red[:, None]) * (1 - yellow) * (1 + 0.03 * veins[1])[:, None]


def _iris(spots: Spots, radius: Tensor, streaks: Tensor) -> Tensor:
    """Radial streaks from the pupil to a dark rim, another colour within; [N, 3]."""
    pupil, outer = spots.look("pupil_radius"), spots.look("iris_radius")
    share = ((radius - pupil) / (outer - pupil)).clamp(0, 1)
    inner = ramp(share + 0.10 * streaks[1], 0.60, 0.15)
    colour = torch.lerp(spots.look("iris"), spots.look("iris_inner"), inner[:, None])
    rim = 1 - 0.72 * ramp(share, 0.72, 0.98)
    light = (1 + 0.30 * streaks[0] + 0.12 * streaks[2]).clamp(0.3, 2) * rim
    return colour * light[:, None] * ramp(radius, pupil - 0.00015, pupil + 0.00025)[:, None]


def _paint_teeth(spots: Spots, material: Material, index: Tensor) -> None:
    tooth, gum = (torch.tensor(c, device=index.device) for c in (_TOOTH, _GUM))
    stain = torch.tensor([0.03, 0.07, 0.20], device=index.device) * (1 - spots.look("teeth"))[:, None]
    scallop = 0.0012 * (spots.where[:, 0] * 900).cos()
    bare = ramp(spots.field("mouth_line").abs() + scallop, 0.0110, 0.0100)[:, None]
    deep = 0.35 + 0.65 * ramp(spots.where[:, 2], 0.062, 0.092)
    material.albedo[index] = torch.lerp(gum, tooth * (1 - stain), bare) * deep[:, None]
    material.specular[index], material.roughness[index] = 0.035, 0.22
    material.scatter[index], material.sheen[index] = 0.4, 0.0


def _paint_mouth(spots: Spots, material: Material, index: Tensor) -> None:
    deep = 0.12 + 0.88 * ramp(spots.where[:, 2], 0.045, 0.095)
    material.albedo[index] = torch.tensor(_TONGUE, device=index.device) * deep[:, None]
    material.specular[index], material.roughness[index] = 0.025, 0.35
    material.scatter[index], material.sheen[index] = 0.5, 0.0
