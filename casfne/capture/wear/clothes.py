"""Shoulders and chest in clothes. They stand still in world space while the head above them turns."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import Material
from casfne.capture.noise import layered, noise
from casfne.capture.people.heads import HeadModel
from casfne.capture.wear.fabrics import KNIT, dye, fabric, offsets
from casfne.capture.wear.meshes import check, grid, part, ramp, skin, span
from casfne.capture.wear.parts import CLOTH, Part

CREW, VEE, SHIRT, TURTLE, HOODIE, SUIT, SCOOP = range(7)
_SHARES = (0.26, 0.12, 0.19, 0.08, 0.11, 0.14, 0.1)
_ROWS, _COLUMNS = 20, 49  # columns run from the nape round to the nape, the first one again at the end
_COLLAR_DOWN = 1.24  # the collar's height, as a multiple of the chin's, on the template: 3 cm below the chin
_BAND_M = 0.008  # half height of the slice of neck that is measured
_INSIDE = 1.0  # metres by which the place of skin inside the collar lies higher
_ROOTED_M = 0.005  # skin in an open neckline begins so far inside the neck, which is not quite an ellipse
_TUCK_M = 0.03  # the head model's own shoulders are drawn in over this height
# of each row below the collar: height (m), half width and half depth (m) of a middling adult, how far its middle lies
# before the neck's
_BODY = (
    (-0.018, 0.086, 0.074, 0.000), (-0.032, 0.106, 0.080, 0.002), (-0.047, 0.130, 0.087, 0.005),
    (-0.063, 0.154, 0.093, 0.009), (-0.082, 0.177, 0.098, 0.013), (-0.104, 0.196, 0.103, 0.018),
    (-0.128, 0.210, 0.107, 0.024), (-0.155, 0.219, 0.111, 0.029), (-0.188, 0.224, 0.115, 0.033),
    (-0.225, 0.226, 0.119, 0.036), (-0.270, 0.225, 0.121, 0.037), (-0.330, 0.222, 0.121, 0.036),
    (-0.400, 0.216, 0.119, 0.033),
)  # fmt: skip
# rows of each collar: distance from the neck (m), height (m); the first, the middle, closes it under a short neck
_COLLARS = (
    (
        (-0.200, 0.012),
        (0.002, -0.001),
        (0.004, 0.002),
        (0.007, 0.000),
        (0.010, -0.004),
        (0.013, -0.008),
        (0.018, -0.011),
    ),
    (
        (-0.200, 0.012),
        (0.002, -0.003),
        (0.004, -0.001),
        (0.007, -0.002),
        (0.010, -0.005),
        (0.013, -0.008),
        (0.018, -0.011),
    ),
    (
        (-0.200, 0.012),
        (0.003, 0.022),
        (0.006, 0.025),
        (0.010, 0.022),
        (0.019, 0.000),
        (0.021, -0.008),
        (0.016, -0.010),
    ),
    ((-0.200, 0.012), (0.001, 0.036), (0.005, 0.041), (0.009, 0.036), (0.010, 0.018), (0.010, 0.002), (0.014, -0.007)),
    (
        (-0.200, 0.012),
        (0.008, 0.004),
        (0.016, 0.014),
        (0.027, 0.014),
        (0.035, 0.004),
        (0.036, -0.008),
        (0.030, -0.014),
    ),
    (
        (-0.200, 0.012),
        (0.003, 0.022),
        (0.006, 0.025),
        (0.010, 0.022),
        (0.018, 0.003),
        (0.020, -0.006),
        (0.018, -0.010),
    ),
    (
        (-0.200, 0.012),
        (0.001, -0.004),
        (0.003, -0.003),
        (0.006, -0.003),
        (0.010, -0.005),
        (0.013, -0.008),
        (0.018, -0.011),
    ),
)


def neck_place(model: HeadModel, vertices: Tensor) -> Tensor:
    """Middle of the neck where a collar lies round it, [B, 3], in the space of ``vertices`` [B, V, 3].

    Turn it with the head and give it to `clothes`.
    """
    band = vertices[:, _band(model)]
    return (band.amin(1) + band.amax(1)) / 2


def tucked(model: HeadModel, vertices: Tensor) -> Tensor:
    """The head's vertices [B, V, 3] (head space) with what lies below the collar drawn in, so that a model's own
    shoulders stay inside the clothes however the head turns. What lies above the collar is as it was."""
    neck, radius = neck_place(model, vertices), _radius(model, vertices)
    below = _collar_height(model) - _BAND_M - model.template[:, 1]
    chosen = (below > 0).nonzero()[:, 0]  # of the model alone, not of the samples
    share = ramp(below[chosen], 0.0, _TUCK_M)[:, None]
    apart = vertices[:, chosen] - neck[:, None]
    reach = apart[..., ::2].norm(dim=-1).clamp_min(1e-6)
    narrow = torch.minimum(reach, 0.8 * radius) / reach
    level = -_TUCK_M * torch.tanh(-apart[..., 1].clamp_max(0) / _TUCK_M)
    inside = torch.stack([apart[..., 0] * narrow, level, apart[..., 2] * narrow], -1)
    return vertices.index_copy(1, chosen, neck[:, None] + torch.lerp(apart, inside, share))


def _collar_height(model: HeadModel) -> Tensor:
    return _COLLAR_DOWN * model.template[model.landmarks[8], 1]


def _band(model: HeadModel) -> Tensor:
    """Vertices of the neck at the collar, int64 [M]."""
    outer = skin(model)
    away = (model.template[outer, 1] - _collar_height(model)).abs()
    return outer[away < torch.maximum(away.sort().values[40], away.new_tensor(_BAND_M))]


def _radius(model: HeadModel, vertices: Tensor) -> Tensor:
    """Half the neck's larger breadth at the collar, [B, 1]."""
    band = vertices[:, _band(model)]
    return (band.amax(1) - band.amin(1))[:, ::2].amax(-1, keepdim=True) / 2


def _outline(model: HeadModel, vertices: Tensor, turn: Tensor) -> Tensor:
    """The neck's radius at the collar in directions ``turn`` [C] (0: the front), as of an ellipse, [B, C]."""
    band = vertices[:, _band(model)]
    wide, deep = ((band.amax(1) - band.amin(1)) / 2)[:, ::2].unbind(-1)
    return ((turn.sin() / wide[:, None]).square() + (turn.cos() / deep[:, None]).square()).rsqrt()


def clothes_kind(draws: Draws) -> Tensor:
    """One of CREW, VEE, SHIRT, TURTLE, HOODIE, SUIT, SCOOP, int64 [B]."""
    return draws.sub("clothes").choice("kind", _SHARES)


def clothes(model: HeadModel, vertices: Tensor, neck: Tensor, draws: Draws) -> Part:
    """Shoulders and chest of everybody, in world space: for heads ``vertices`` [B, V, 3] (head space, before `tucked`)
    and the neck's place ``neck`` [B, 3] after the head has turned."""
    check(model, vertices, len(draws))
    own, kind = draws.sub("clothes"), clothes_kind(draws)
    turn = torch.linspace(-math.pi, math.pi, _COLUMNS, device=vertices.device)
    radius, scale = _radius(model, vertices), span(model, vertices)
    rest = torch.cat([_collar(own, kind, _outline(model, vertices, turn), turn), _torso(own, radius, scale, turn)], 1)
    folded = rest + _folds(rest, own)
    leaning = _lean(neck)
    share = ramp(rest[..., 1], -0.05, 0.03)[..., None]  # the collar goes with the neck, the chest does not
    sway = own.between("body turn", -18, 18).deg2rad()
    world = neck[:, None, None] + _turned(folded, sway) + share * rest[..., 1:2] * leaning[:, None, None]
    inside = (torch.arange(_ROWS, device=turn.device) == 0).float()[:, None] * _INSIDE
    place = torch.stack([rest[..., 0], rest[..., 1] + inside, rest[..., 2]], -1).flatten(1, 2)
    worn = torch.ones_like(kind, dtype=torch.bool)
    return part(CLOTH, world.flatten(1, 2), grid(_ROWS, _COLUMNS).flip(1).to(place.device), place, worn)


def _lean(neck: Tensor) -> Tensor:
    """How the neck leans away from upright, metres sideways and forwards in each metre up, [B, 3]."""
    upright = -neck[:, 1:2].clamp_max(-0.05)
    lean = -neck / upright
    return torch.stack([lean[:, 0], torch.zeros_like(lean[:, 1]), lean[:, 2]], -1).clamp(-0.8, 0.8)


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    x, y, z = points.unbind(-1)
    return torch.stack([x * cosine + z * sine, y, z * cosine - x * sine], -1)


def _collar(own: Draws, kind: Tensor, neck: Tensor, turn: Tensor) -> Tensor:
    """Rows round the neck, [B, 7, COLUMNS, 3], round the neck's middle; lower in front than behind.
    neck [B, COLUMNS]: its radius."""
    rows = torch.tensor(_COLLARS, device=turn.device)[kind]  # [B, 7, 2]
    away, height = rows[..., :1], rows[..., 1:]
    front = (1 + turn.cos()) / 2
    shirt = ((kind == SHIRT) | (kind == SUIT))[:, None, None]
    open_ = ((kind == VEE) | (kind == SCOOP))[:, None, None]
    points = shirt * ramp(front, 0.75, 1.0) * ((away > 0.015) & (height > -0.009))  # of the turned-down collar
    notch = shirt * ramp(front, 0.94, 1.0) * (height > 0.01)
    hood = (kind == HOODIE)[:, None, None] * (1 - front) ** 2 * (away > 0.01)
    loose = own.between("loose", 0.003, 0.012)[:, None, None] * torch.where(kind == TURTLE, 0.3, 1.0)[:, None, None]
    close = open_.float() * (away > -0.1) * (height > -0.006)  # an open neckline's skin comes out of the neck
    reach = (neck[:, None] + (away + loose) * (1 - close) - _ROOTED_M * close + 0.03 * hood).clamp_min(1e-3)
    level = height - 0.016 * turn.cos() - 0.02 * points - 0.028 * notch + 0.012 * hood
    return torch.stack([reach * turn.sin(), level.expand_as(reach), reach * turn.cos()], -1)


def _torso(own: Draws, radius: Tensor, scale: Tensor, turn: Tensor) -> Tensor:
    """Rows below the collar, [B, 13, COLUMNS, 3]."""
    height, wide, deep, ahead = torch.tensor(_BODY, device=turn.device)[:, :, None].unbind(1)  # [13, 1]
    broad = (scale * own.between("broad", 0.84, 1.12, 1))[..., None]
    square = own.between("square", 0.7, 1.35, 1)[..., None]  # 0.7: level shoulders, 1.35: sloping ones
    thick = (scale * own.between("thick", 0.9, 1.25, 1))[..., None]
    least = radius[..., None] + 0.022
    blend = ramp(-height, 0.0, 0.06)
    half = torch.maximum(wide * broad, least)
    depth = torch.maximum(deep * thick, least - 0.004)
    corner = 1 + 0.12 * blend * (2 * turn).sin() ** 2  # shoulders are squarer than an ellipse
    x = half * turn.sin() * corner
    z = depth * turn.cos() * corner + ahead * thick
    sag = torch.where(height > -0.2, square, 1.0)
    level = height * sag - 0.016 * turn.cos() * (1 - blend)
    level = level - 0.035 * blend * ramp(-height, 0.0, 0.03) * (1 - ramp(-height, 0.15, 0.3)) * (turn.cos() ** 2)
    return torch.stack([x, level.expand_as(x), z], -1)


def _folds(rest: Tensor, own: Draws) -> Tensor:
    """Waves of the cloth, away from the body's axis, [B, ROWS, COLUMNS, 3]."""
    flat, rows = rest.flatten(1, 2), rest.shape[1:3]
    offset = offsets(own, "folds")[:, None].expand(-1, flat.shape[1], -1).reshape(-1, 3)
    stretched = flat * flat.new_tensor([1.0, 0.45, 1.0])  # cloth hangs: folds run down more than across
    wave = layered(stretched.reshape(-1, 3), 0.07, offset, 2)[:, 0].view(len(flat), *rows)
    strength = own.between("folded", 0.0008, 0.0035)[:, None, None] * ramp(-rest[..., 1], 0.01, 0.06)
    seam = torch.linspace(-1, 1, rows[1], device=rest.device).abs()  # both ends meet at the nape
    outward = functional.normalize(rest * rest.new_tensor([1.0, 0.3, 1.0]), dim=-1)
    return outward * (wave * strength * (1 - ramp(seam, 0.9, 1.0)))[..., None]


def cloth_material(place: Tensor, sample: Tensor, draws: Draws, tone: Tensor) -> Material:
    """Clothes at ``place`` [N, 3] (metres round the neck's middle, body not turned) of samples ``sample`` [N], with the
    skin that an open collar shows (``tone`` [B, 3])."""
    own, kind = draws.sub("clothes"), clothes_kind(draws)
    plain = own.choice("suit pattern", (0.8, 0.08, 0.06, 0.0, 0.06, 0.0))
    free = own.choice("pattern", (0.42, 0.14, 0.1, 0.14, 0.12, 0.08))
    pattern = torch.where(kind == SUIT, plain, torch.where(kind == TURTLE, KNIT, free))
    made = fabric(place, sample, own.sub("fabric"), pattern)
    at, (x, y, z) = kind[sample], place.unbind(-1)
    ahead = z > 0.02
    inner = _inner(place, sample, own)
    opening = own.between("opening", 0.05, 0.16)[sample]
    bare = ahead & (_vee(x, y, opening, 0.62) & (at == VEE) | _scoop(x, y, opening) & (at == SCOOP))
    bare = bare | (y > 0.1 * _INSIDE)
    open_shirt = own.chance("open shirt", 0.5)[sample] & (at == SHIRT)
    bare = bare | ahead & open_shirt & _vee(x, y, 0.4 * opening + 0.03, 0.4)
    lapels = own.between("lapels", 0.16, 0.26)[sample]
    shirt = (at == SUIT) & (ahead & _vee(x, y, lapels, 0.36) | (y > -0.004 - 0.2 * z.clamp_min(0)))
    under = (at == SUIT) & ahead
    albedo = torch.where(shirt[:, None], inner, made.albedo)
    tie = shirt & under & own.chance("tie", 0.6)[sample] & _tie(x, y)
    albedo = torch.where(tie[:, None], dye(own, "tie")[sample], albedo)
    albedo = albedo * _seams(x, y, z, at, lapels, open_shirt)[:, None]
    flesh = 0.85 * tone[sample] * (1 + 0.04 * noise(place, 0.02, offsets(own, "chest")[sample])[:, :1])
    return Material(
        torch.where(bare[:, None], flesh, albedo).clamp(0.004, 0.85),
        torch.where(bare, 0.028, made.specular),
        torch.where(bare, 0.5, torch.where(tie, 0.5, made.roughness)),
        torch.where(bare, 0.5, made.scatter),
        torch.where(bare, 0.0, made.sheen),
    )


def _vee(x: Tensor, y: Tensor, depth: Tensor, slope: float) -> Tensor:
    """Inside a V that reaches ``depth`` below the collar."""
    return x.abs() < slope * (y + depth)


def _scoop(x: Tensor, y: Tensor, depth: Tensor) -> Tensor:
    return (x / (0.07 + 0.3 * depth)) ** 2 + ((y + 0.01).clamp_max(0) / depth.clamp_min(0.04)) ** 2 < 1


def _tie(x: Tensor, y: Tensor) -> Tensor:
    knot = y > -0.055
    width = torch.where(knot, 0.012 + 0.12 * (y + 0.055), 0.012 + 0.1 * (-0.055 - y))
    return (x.abs() < width.clamp(0.009, 0.035)) & (y < -0.012)


def _inner(place: Tensor, sample: Tensor, own: Draws) -> Tensor:
    """The shirt under a jacket: white, pale blue or any colour."""
    pale = place.new_tensor([[0.75, 0.75, 0.74], [0.42, 0.52, 0.68]])[own.choice("pale", (0.7, 0.3))]
    return torch.where(own.chance("pale shirt", 0.8)[:, None], pale, dye(own, "shirt"))[sample]


def _seams(x: Tensor, y: Tensor, z: Tensor, at: Tensor, lapels: Tensor, open_shirt: Tensor) -> Tensor:
    """Shade of neckbands, plackets, lapels and buttons, 0.5..1."""
    reach = (x**2 + z**2).sqrt()
    band = ((at == CREW) & (y > -0.024 - 0.4 * (reach - 0.085)) & (reach < 0.095)).float() * 0.14
    placket = ((at == SHIRT) & (z > 0) & ((x.abs() - 0.016).abs() < 0.0012) & (y < -0.03)).float() * 0.3
    buttons = (at == SHIRT) & (z > 0) & (x**2 + (((y + 0.03) % 0.08) - 0.04) ** 2 < 0.0045**2) & (y < -0.05)
    edge = x.abs() - 0.36 * (y + lapels)
    inside = (at == SUIT) & (z > 0.02) & (y > -lapels) & (y < -0.012)  # below the shirt's collar
    lapel = (inside & (edge > 0) & (edge < 0.004)).float() * 0.4
    outer = (inside & ((edge - 0.035 - 0.1 * (y + lapels)).abs() < 0.0018)).float() * 0.45
    zip_ = ((at == HOODIE) & (z > 0) & (x.abs() < 0.003) & (y < -0.02)).float() * 0.4
    return 1 - (band + placket + buttons.float() * 0.35 + lapel + outer + zip_).clamp_max(0.6)
