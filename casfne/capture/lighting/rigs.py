"""Set-ups of light in which people are photographed: what each may be, as ranges, and numbers drawn from them.

A lamp's place is told by two angles: ``off``, how far it is from the camera's side of the head (0: behind the camera,
90: beside the head, 180: behind it), and ``clock``, its direction round that axis (0: right, 90: above). Half of the
samples are mirrored, so a rig's "right" is either side. Strengths are ratios within a rig; lengths in metres.
"""

import math
from dataclasses import astuple, dataclass
from functools import cache

import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.lighting.environment import black_body, surround, unit_luminance

LAMPS = 3

Range = tuple[float, float]

_FAR = (0.0, 0.0)  # distance of a lamp that is infinitely far
_SUN = 0.0047  # angular radius of the sun
_COOL, _DAY, _WARM, _ANY = (6500.0, 9000.0), (5000.0, 6500.0), (2700.0, 3800.0), (2500.0, 9000.0)


@dataclass(frozen=True)
class Lamp:
    """share: how often it is lit; size: angular radius in radians; the others as this module says."""

    share: float
    off_deg: Range
    clock_deg: Range
    strength: Range
    kelvin: Range
    size: Range
    distance: Range = _FAR


_DARK = Lamp(0.0, (0, 1), (0, 1), (1, 1), _DAY, (0.01, 0.01))
_BOUNCE = Lamp(0.3, (30, 100), (100, 250), (0.1, 0.6), (3500, 5500), (0.3, 0.5))  # a sunlit wall or pavement
_WINDOW = Lamp(1.0, (25, 95), (-15, 60), (1, 4), (5000, 7500), (0.15, 0.5), (0.6, 2.5))
_BULB = Lamp(0.6, (20, 120), (30, 190), (0.1, 0.9), _WARM, (0.03, 0.1), (0.8, 3))
_CATCH = Lamp(0.6, (8, 50), (20, 160), (0.03, 0.15), _ANY, (0.02, 0.1))  # little light, but seen in the eyes
_HAIR_LIGHT = Lamp(0.5, (120, 160), (30, 150), (0.4, 2.5), _DAY, (0.05, 0.2), (0.8, 2))


@dataclass(frozen=True)
class Rig:
    """share: how often it is found; lamps; radiance of what is above, round and below, and their colours; glow:
    radiance of a soft light in the first lamp's direction, other: of one elsewhere; focus: how narrow they are;
    adapted: how far the camera takes the light's colour out; coloured: 1 where lamps may have any hue.
    """

    share: float
    lamps: tuple[Lamp, ...]
    zones: tuple[Range, Range, Range]
    kelvin: tuple[Range, Range, Range]
    glow: Range
    other: Range
    focus: Range = (1.5, 6)
    adapted: Range = (0.75, 1.0)
    coloured: float = 0.0


_SKY = ((0.5, 1.2), (0.5, 1.2), (0.12, 0.5))
_SKY_KELVIN = ((7500.0, 11000.0), (5500.0, 7500.0), (4000.0, 5500.0))
_ROOM = ((0.1, 0.5), (0.08, 0.4), (0.04, 0.25))
_ROOM_KELVIN = ((3500.0, 5500.0), (3300.0, 5500.0), (3000.0, 4500.0))
_DIM = ((0.02, 0.15), (0.02, 0.12), (0.01, 0.06))
_WARM_KELVIN = ((2600.0, 4000.0), (2600.0, 4000.0), (2500.0, 3500.0))
_BLACK = ((0.005, 0.1), (0.005, 0.1), (0.003, 0.04))  # a laboratory with one flash
_GREY_KELVIN = ((4500.0, 6000.0),) * 3

RIGS = {
    "sun": Rig(
        0.13,
        (Lamp(1, (15, 95), (20, 90), (1.5, 5), (4200, 6000), (_SUN, 0.02)), _BOUNCE, _DARK),
        *(_SKY, _SKY_KELVIN, (0.3, 1.5), (0.05, 0.5)),
    ),
    "backlit": Rig(
        0.05,
        (Lamp(1, (105, 155), (30, 90), (2, 6), (3500, 5600), (_SUN, 0.03)), _BOUNCE, _CATCH),
        *(_SKY, _SKY_KELVIN, (0.5, 2.5), (0.05, 0.5)),
    ),
    "shade": Rig(
        0.20,
        (Lamp(0.7, (15, 80), (40, 140), (0.1, 0.8), (6000, 8000), (0.3, 0.6)), _CATCH, _DARK),
        *(((0.7, 1.3), (0.15, 1.0), (0.08, 0.5)), _SKY_KELVIN, (0.2, 1.5), (0.05, 0.8)),
    ),
    "window": Rig(0.12, (_WINDOW, _BULB, _CATCH), _ROOM, _ROOM_KELVIN, (0.3, 1.5), (0.05, 0.4), (3, 12)),
    "evening": Rig(
        0.08,
        (Lamp(1, (15, 90), (30, 150), (1, 2), _WARM, (0.04, 0.15), (0.6, 2.5)), _BULB, _BULB),
        *(_ROOM, _WARM_KELVIN, (0.2, 1.0), (0.05, 0.4)),
    ),
    "flash": Rig(
        0.09,
        (Lamp(1, (1.5, 9), (45, 135), (1.5, 6), (5200, 6000), (0.01, 0.03), (0.5, 1.8)), _BULB, _DARK),
        *(_DIM, _WARM_KELVIN, (0.02, 0.1), (0.02, 0.2)),
    ),
    "studio": Rig(
        0.13,
        (
            Lamp(1, (20, 60), (25, 85), (1, 2), _DAY, (0.08, 0.35), (0.8, 2)),
            Lamp(0.8, (15, 60), (110, 190), (0.15, 0.9), _DAY, (0.1, 0.4), (1, 2.5)),
            _HAIR_LIGHT,
        ),
        *(((0.05, 0.35), (0.05, 0.35), (0.03, 0.3)), _GREY_KELVIN, (0.1, 0.8), (0.05, 0.4)),
    ),
    "hard": Rig(
        0.07,
        (Lamp(1, (0.1, 40), (-180, 180), (2, 3), (4500, 6500), (0.002, 0.02)), _DARK, _DARK),
        *(_BLACK, _GREY_KELVIN, (0.005, 0.05), (0.005, 0.05)),
    ),
    "hard_wide": Rig(
        0.07,
        (Lamp(1, (10, 80), (-180, 180), (2, 3), (4500, 6500), (0.002, 0.02)), _DARK, _DARK),
        *(_BLACK, _GREY_KELVIN, (0.005, 0.05), (0.005, 0.05)),
    ),
    "night": Rig(
        0.02,
        (Lamp(1, (35, 85), (50, 130), (1, 2), (2500, 3800), (0.02, 0.08)), _BULB, _CATCH),
        *(_DIM, _WARM_KELVIN, (0.05, 0.3), (0.02, 0.3)),
        adapted=(0.3, 0.9),
    ),
    "mixed": Rig(
        0.04,
        (
            Lamp(1, (30, 85), (0, 60), (1, 2), _COOL, (0.1, 0.4), (0.6, 2)),
            Lamp(1, (30, 85), (120, 180), (0.5, 1.5), _WARM, (0.03, 0.2), (0.6, 2)),
            _HAIR_LIGHT,
        ),
        *(_ROOM, _ROOM_KELVIN, (0.1, 0.6), (0.05, 0.4)),
    ),
    "club": Rig(
        0.02,
        (
            Lamp(1, (20, 85), (-20, 90), (1, 2), _ANY, (0.03, 0.2), (0.8, 2.5)),
            Lamp(0.9, (30, 100), (90, 200), (0.4, 1.5), _ANY, (0.03, 0.2), (0.8, 2.5)),
            _HAIR_LIGHT,
        ),
        *(_DIM, _ROOM_KELVIN, (0.05, 0.4), (0.05, 0.4)),
        adapted=(0.0, 0.4),
        coloured=1.0,
    ),
}


@dataclass(frozen=True)
class Drawn:
    """What was drawn of rigs: which [B]; of lamps direction [B, 3, 3], distance in metres [B, 3] (0: far), colour
    [B, 3, 3], size [B, 3]; and ambient [B, 9, 3]."""

    rig: Tensor
    direction: Tensor
    distance: Tensor
    colour: Tensor
    size: Tensor
    ambient: Tensor


def sample_rigs(draws: Draws) -> Drawn:
    """One rig for each sample."""
    rig = draws.choice("rig", [r.share for r in RIGS.values()])
    mirrored = draws.chance("mirrored", 0.5)
    found = _lamp_table()[0].to(rig.device)[rig]
    lit = draws.uniform("lit", LAMPS) < _lamp_table()[1].to(rig.device)[rig]
    angles = _within(found[:, :, :2], draws.uniform("angles", LAMPS, 2)).deg2rad()
    strength, kelvin, size, distance = _log_within(found[:, :, 2:], draws.uniform("lamps", LAMPS, 4)).unbind(-1)
    direction = _direction(angles, mirrored)
    colour = _hued(black_body(kelvin), draws, _rig_values("coloured", rig)) * (strength * lit)[..., None]
    ambient = _ambient(draws, rig, direction[:, 0], black_body(kelvin[:, 0]))
    gains = _adaptation(colour, ambient, _within(_rig_values("adapted", rig), draws.uniform("adapted")))
    return Drawn(rig, direction, distance, colour * gains[:, None], size, ambient * gains[:, None])


def _within(ranges: Tensor, share: Tensor) -> Tensor:
    return ranges[..., 0] + (ranges[..., 1] - ranges[..., 0]) * share


def _log_within(ranges: Tensor, share: Tensor) -> Tensor:
    """Log-uniform in ranges [..., 2]; 0 where a range begins at 0."""
    low, high = ranges.unbind(-1)
    return low * (high / low.clamp_min(1e-9)) ** share


@cache
def _lamp_table() -> tuple[Tensor, Tensor]:
    """Ranges [rigs, lamps, (off, clock, strength, kelvin, size, distance), 2] and shares [rigs, lamps]."""
    lamps = [[astuple(lamp) for lamp in rig.lamps] for rig in RIGS.values()]
    return torch.tensor([[lamp[1:] for lamp in row] for row in lamps]), torch.tensor(
        [[lamp[0] for lamp in row] for row in lamps]
    )


def _rig_values(name: str, rig: Tensor) -> Tensor:
    """One field of each sample's rig, [B, ...]."""
    return torch.tensor([getattr(r, name) for r in RIGS.values()], device=rig.device, dtype=torch.float32)[rig]


def _direction(angles: Tensor, mirrored: Tensor) -> Tensor:
    """Unit vectors [B, L, 3] of (off, clock) in radians."""
    off, clock = angles.unbind(-1)
    x = off.sin() * clock.cos() * torch.where(mirrored, -1.0, 1.0)[:, None]
    return torch.stack([x, off.sin() * clock.sin(), off.cos()], -1)


def _hued(colour: Tensor, draws: Draws, coloured: Tensor) -> Tensor:
    """Lamps [B, L, 3], of any hue where ``coloured`` [B] is 1."""
    phase = draws.uniform("hue", LAMPS)[..., None] + torch.tensor([0, 1 / 3, 2 / 3], device=draws.device)
    hue = (0.5 + 0.5 * (2 * math.pi * phase).cos()).square() + 0.03
    share = coloured[:, None, None] * draws.uniform("saturated", LAMPS)[..., None]
    return torch.lerp(colour, hue / hue.mean(-1, keepdim=True), share)


def _ambient(draws: Draws, rig: Tensor, key: Tensor, key_colour: Tensor) -> Tensor:
    """Coefficients [B, 9, 3] of the rig's surroundings; key [B, 3] is the first lamp's direction."""
    zones = _log_within(_rig_values("zones", rig), draws.uniform("zones", 3))
    kelvin = _log_within(_rig_values("kelvin", rig), draws.uniform("zone_kelvin", 3))
    levels = [_log_within(_rig_values(name, rig), draws.uniform(name)) for name in ("glow", "other")]
    elsewhere = draws.normal("elsewhere", 3)
    elsewhere = elsewhere / elsewhere.norm(dim=1, keepdim=True).clamp_min(1e-6)
    other_colour = _painted(black_body(draws.log_between("other_kelvin", 2800, 8000)), draws)
    lobes = torch.stack([levels[0][:, None] * key_colour, levels[1][:, None] * other_colour], 1)
    focus = _log_within(_rig_values("focus", rig)[:, None], draws.uniform("focus", 2))
    return surround(black_body(kelvin) * zones[..., None], lobes, torch.stack([key, elsewhere], 1), focus)


def _painted(colour: Tensor, draws: Draws) -> Tensor:
    """Light [B, 3] after a wall, leaves or a curtain of any colour."""
    return unit_luminance(colour * (0.25 + draws.uniform("paint", 3)))


def _adaptation(colour: Tensor, ambient: Tensor, share: Tensor) -> Tensor:
    """Gains [B, 3] of a camera's white balance that takes a ``share`` [B] of the mean light's colour out."""
    mean = colour.sum(1) * 0.5 + ambient[:, 0] * 0.282095  # a lamp lights half of the head
    return unit_luminance(mean.clamp_min(1e-6)) ** -share[:, None]
