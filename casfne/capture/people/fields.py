"""What a place on the head is near to: smooth quantities at each vertex of a head model's template, made once.

Everything is worked out from the template and its 68 landmarks on the side of positive x, and mirrored. Flat distances
are taken in a chart: the head unrolled from a vertical cylinder.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.noise import noise
from casfne.capture.people.heads import IRIS, SCLERA, HeadModel
from casfne.capture.people.openness import openness

FIELDS = (
    "lips",  # m, distance from the outline of the lips, negative inside
    "mouth_line",  # m, above (+) or below the line where the lips meet
    "brow_along",  # 0 at the inner end of the brow, 1 at the outer end, continued on both sides
    "brow_across",  # m, above (+) or below the middle of the brow
    "lid",  # m, distance from the lids' edges, negative inside the eye's opening
    "eye_out",  # m, outwards from the axis of gaze (horizontal)
    "eye_up",  # m, upwards from the axis of gaze
    "fold",  # m, from the line between nostril and corner of the mouth and on to the jaw, positive towards the cheek
    "fold_zone",  # 0..1, near that line
    "crow",  # m, across the lines that fan out from the outer corner of the eye
    "crow_zone",  # 0..1
    "forehead",  # m above the brows
    "forehead_zone",  # 0..1
    "glabella_zone",  # 0..1, between the brows
    "bag_zone",  # 0..1, below the eye
    "neck",  # m below a plane from behind the chin up to the nape
    "moustache",  # 0..1
    "goatee",  # 0..1, chin and below the lower lip
    "jaw",  # 0..1, where a beard covers cheeks and jaw
    "throat",  # 0..1, beard below the jaw
    "wide_0", "wide_1", "wide_2",  # noises of mean 0 and standard deviation 1, 50 mm waves
    "narrow_0", "narrow_1", "narrow_2", "narrow_3",  # the same, 16 mm waves
    "hairline",  # m, positive where hair grows
    "nose",  # 0..1, tip and wings
    "cheek",  # 0..1, the apples
    "oily",  # 0..1, forehead, nose and chin
    "ear",  # 0..1
    "open",  # 0..1, share of the sky (weighted by the cosine) that the template itself does not hide
)  # fmt: skip
NOISES = tuple(name for name in FIELDS if name.startswith(("wide", "narrow")))
OPENNESS = FIELDS.index("open")
WIDE, NARROW = (0.050, 0.016)  # m, wavelengths of the noises

_RADIUS = 0.09  # m, of the cylinder from which the chart is unrolled
# azimuth from the front in degrees, height of the hairline above the brows in m: forehead, temple, sideburn, ear, nape
_HAIRLINE = (
    (0, 0.055), (18, 0.056), (30, 0.052), (42, 0.040), (52, 0.022), (62, 0.004), (69, -0.030), (74, -0.055),
    (83, -0.055), (89, -0.019), (100, -0.017), (110, -0.020), (118, -0.060), (132, -0.100), (180, -0.112),
)  # fmt: skip


def fields(model: HeadModel) -> Tensor:
    """The ``FIELDS`` of each vertex of a head model, float32 [V, F], on the CPU or where the model is."""
    template = model.template
    marks = template[model.landmarks]
    chart, flat = _chart(template), _chart(marks)
    found = _mouth(template, chart, marks, flat) | _brow(chart, flat) | _eyes(model, chart, flat)
    found |= _folds(chart, flat) | _beard(template, chart, marks, flat) | _zones(template, chart, marks, flat)
    found |= _noises(template) | {"open": openness(model)}
    return torch.stack([found[name] for name in FIELDS], -1).float().contiguous()


def _chart(points: Tensor) -> Tensor:
    """[..., 2]: metres round the head from the front, both sides alike, and height."""
    return torch.stack([_RADIUS * _azimuth(points), points[..., 1]], -1)


def _azimuth(points: Tensor) -> Tensor:
    return torch.atan2(points[..., 0].abs(), points[..., 2])


# --- curves ---


def _curve(points: Tensor, steps: int = 8) -> Tensor:
    """Catmull and Rom's smooth curve through points [K, D], [(K - 1) * steps + 1, D]."""
    padded = torch.cat([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = torch.linspace(0, 1, steps + 1, device=points.device)[:-1, None]
    bend = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    return torch.cat([(bend / 2).flatten(0, 1), points[-1:]])


def _along(points: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    """Of points [V, 2] at the nearest place of a line [K, 2]: metres along it (continued past its ends) and signed
    distance, positive on the left hand of who walks along it."""
    start, step = line[:-1], line[1:] - line[:-1]
    length = step.norm(dim=-1)
    offset = points[:, None] - start
    t = (offset * step).sum(-1) / length**2
    inner = t.clamp(0, 1)
    near = (offset - inner[..., None] * step).norm(dim=-1)
    best = near.argmin(-1, keepdim=True)
    t[:, 1:-1] = inner[:, 1:-1]
    t[:, 0], t[:, -1] = t[:, 0].clamp_max(1), t[:, -1].clamp_min(0)
    passed = length.cumsum(0) - length + t * length
    side = step[:, 0] * offset[..., 1] - step[:, 1] * offset[..., 0]
    return passed.gather(1, best)[:, 0], (near * side.sign()).gather(1, best)[:, 0]


def _inside(points: Tensor, polygon: Tensor) -> Tensor:
    """Which points [V, 2] lie in a polygon [K, 2], bool [V]."""
    a, b = polygon, polygon.roll(-1, 0)
    crosses = (a[:, 1] > points[:, None, 1]) != (b[:, 1] > points[:, None, 1])
    x = a[:, 0] + (points[:, None, 1] - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
    return (crosses & (points[:, None, 0] < x)).sum(-1) % 2 == 1


def _outline(points: Tensor, line: Tensor, closed: Tensor) -> Tensor:
    """Distance from ``line``, negative inside the polygon ``closed``."""
    distance = _along(points, line)[1].abs()
    return torch.where(_inside(points, closed), -distance, distance)


def _ramp(value: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between (``low`` may be the greater)."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _blob(points: Tensor, centre: Tensor, across: float, up: float) -> Tensor:
    """A smooth hill of height 1 about a centre [2]; ``across``, ``up``: its radii at half height, in metres."""
    offset = (points - centre) / torch.tensor([across, up], device=points.device)
    return torch.exp(-0.693 * offset.square().sum(-1))


# --- fields ---


def _mouth(template: Tensor, chart: Tensor, marks: Tensor, flat: Tensor) -> dict[str, Tensor]:
    upper, lower = _curve(flat[51:55]), _curve(flat[54:58])
    half = torch.cat([upper, lower[1:]])
    lips = _outline(chart, half, torch.cat([half, half[[-1, 0]] * torch.tensor([0.0, 1.0], device=half.device)]))
    behind = (marks[54, 2] - 0.010 - template[:, 2]).clamp_min(0)  # inside of the cheeks, back of the head
    seam = _curve(torch.stack([(flat[62] + flat[66]) / 2, (flat[63] + flat[65]) / 2, flat[64], flat[54]]))
    return {"lips": lips + 2 * behind, "mouth_line": _along(chart, seam)[1]}


def _brow(chart: Tensor, flat: Tensor) -> dict[str, Tensor]:
    line = _curve(flat[22:27])
    along, across = _along(chart, line)
    return {"brow_along": along / (line[1:] - line[:-1]).norm(dim=-1).sum(), "brow_across": across}


def _eyes(model: HeadModel, chart: Tensor, flat: Tensor) -> dict[str, Tensor]:
    ring = _curve(torch.cat([flat[42:48], flat[42:43]]))
    lid = _outline(chart, ring, ring)
    centre = _eye_centre(model)
    offset = torch.stack([model.template[:, 0].abs(), model.template[:, 1]], -1) - centre
    corner = flat[45]
    from_corner = chart - (corner - torch.tensor([0.008, 0.0], device=chart.device))
    angle, reach = torch.atan2(from_corner[:, 1], from_corner[:, 0]), from_corner.norm(dim=-1)
    crow_zone = _ramp(reach, 0.011, 0.017) * _ramp(reach, 0.040, 0.026) * _ramp(angle.abs(), 1.1, 0.7)
    below = _ramp(chart[:, 1] - flat[46:48, 1].mean(), 0.001, -0.003)
    middle = (flat[42, 0] + flat[45, 0]) / 2
    bag = below * _ramp(lid, 0.017, 0.008) * _ramp((chart[:, 0] - middle).abs(), 0.021, 0.012)
    return {
        "lid": lid,
        "eye_out": offset[:, 0],
        "eye_up": offset[:, 1],
        "crow": angle * reach.clamp(0.010, 0.030),
        "crow_zone": crow_zone,
        "bag_zone": bag,
    }


def _eye_centre(model: HeadModel) -> Tensor:
    """Where the axis of gaze of the eye at positive x passes, (x, y): through the top of the cornea."""
    ball = model.template[model.triangles[(model.region == SCLERA) | (model.region == IRIS)].unique()]
    ball = ball[ball[:, 0] > 0]
    return ball[ball[:, 2] > ball[:, 2].amax() - 0.0012, :2].mean(0)


def _folds(chart: Tensor, flat: Tensor) -> dict[str, Tensor]:
    wing, corner = flat[35], flat[54]
    shift = [[0.0050, 0.008], [0.0075, 0.0], [0.0115, 0.005], [0.0125, -0.004], [0.0110, -0.014], [0.0110, -0.024]]
    line = _curve(torch.stack([wing, wing, *[corner] * 4]) + torch.tensor(shift, device=chart.device))
    along, across = _along(chart, line)
    length = (line[1:] - line[:-1]).norm(dim=-1).sum()
    zone = _ramp(along / length, -0.05, 0.12) * _ramp(along / length, 0.95, 0.50) * _ramp(across.abs(), 0.016, 0.006)
    return {"fold": across, "fold_zone": zone}


def _beard(template: Tensor, chart: Tensor, marks: Tensor, flat: Tensor) -> dict[str, Tensor]:
    """Where hair grows on a face, each zone soft over some millimetres."""
    u, y = chart.unbind(-1)
    mouth, chin, nostril = flat[54], flat[8], flat[33]
    outer = mouth[0] + 0.006
    under_nose = y - (nostril[1] - 0.002) + 0.55 * (u - 0.010).clamp_min(0)
    moustache = _ramp(under_nose, 0.003, -0.005) * _ramp(y, mouth[1] - 0.012, mouth[1] + 0.002)
    moustache = moustache * _ramp(u, outer + 0.006, outer - 0.008)
    goatee = _ramp(y, mouth[1] + 0.001, mouth[1] - 0.016) * _ramp(u, mouth[0] + 0.003, mouth[0] - 0.016)
    cheek = torch.stack([mouth, flat[12], flat[15]])
    cheek[:, 1] = torch.stack([mouth[1] + 0.003, mouth[1] + 0.004, flat[16, 1] - 0.012])
    under = -_along(chart, _curve(cheek))[1]
    before_ear = marks[16, 2] - 0.014 - template[:, 2]
    jaw = _ramp(under, -0.004, 0.006) * _ramp(before_ear, 0.008, -0.002)
    neck = _below_neck(template, marks)
    jaw = jaw * _ramp(neck, 0.012, -0.004) * _ramp(y, flat[16, 1] + 0.012, flat[16, 1] - 0.004)
    throat = _ramp(neck, -0.010, 0.002) * _ramp(neck, 0.040, 0.020) * _ramp(template[:, 2], 0.0, 0.025)
    above_throat = _ramp(y, chin[1] - 0.035, chin[1] - 0.015)
    return {"moustache": moustache, "goatee": goatee * above_throat, "jaw": jaw, "throat": throat}


def _below_neck(template: Tensor, marks: Tensor) -> Tensor:
    """Metres below the plane that parts neck from head: from just behind the chin, up towards the nape."""
    level = marks[8, 1] - 0.008 + 0.35 * (marks[8, 2] - 0.015 - template[:, 2])
    return (level - template[:, 1]) / math.hypot(1, 0.35)


def _zones(template: Tensor, chart: Tensor, marks: Tensor, flat: Tensor) -> dict[str, Tensor]:
    u, y = chart.unbind(-1)
    brow_y = flat[22:26, 1].mean()
    forehead = y - brow_y + 0.25 * (u - flat[24, 0]).clamp_min(0)
    level = torch.tensor([0.0, 1.0], device=u.device)
    tip, wing = flat[30] * level, flat[35] + 0.004 * level
    nose = torch.maximum(_blob(chart, tip, 0.012, 0.011), _blob(chart, wing, 0.007, 0.007))
    apple = torch.stack([(flat[45, 0] + flat[42, 0]) / 2 + 0.006, flat[30, 1] + 0.002])
    bridge = _ramp(u, 0.013, 0.005) * _ramp(y, tip[1] - 0.012, tip[1]) * _ramp(y, brow_y + 0.01, brow_y - 0.01)
    oily = torch.maximum(_ramp(forehead, 0.0, 0.012) * _ramp(u, 0.060, 0.030), torch.maximum(nose, bridge))
    return {
        "forehead": forehead,
        "forehead_zone": _ramp(forehead, 0.003, 0.012) * _ramp(forehead, 0.050, 0.034) * _ramp(u, 0.058, 0.036),
        "glabella_zone": _ramp(u, 0.020, 0.012) * _ramp((y - brow_y + 0.002).abs(), 0.017, 0.006),
        "neck": _below_neck(template, marks),
        "hairline": _hairline(template, brow_y, marks),
        "nose": nose * _ramp(template[:, 2], marks[54, 2] - 0.015, marks[54, 2]),
        "cheek": _blob(chart, apple, 0.017, 0.014),
        "oily": torch.maximum(oily, 0.7 * _blob(chart, flat[8] * level, 0.015, 0.015)),
        "ear": _ear(template, marks),
    }


def _ear(template: Tensor, marks: Tensor) -> Tensor:
    """1 on the ears: an ellipse behind the top of the jaw's line, outside the skull."""
    up, forward = template[:, 1] - (marks[16, 1] - 0.031), template[:, 2] - (marks[16, 2] - 0.036)
    away = ((up / 0.036) ** 2 + (forward / 0.021) ** 2).sqrt()
    return _ramp(away, 1.10, 0.95) * _ramp(template[:, 0].abs(), marks[16, 0] - 0.002, marks[16, 0] + 0.003)


def _hairline(template: Tensor, brow_y: Tensor, marks: Tensor) -> Tensor:
    """Signed distance to the hairline, a height by azimuth; the ears and what is behind them stay bare."""
    azimuth, height = torch.tensor(_HAIRLINE, device=template.device).T
    fine = torch.linspace(0, 180, 361, device=template.device)
    place = torch.bucketize(fine, azimuth[1:-1].contiguous(), right=True)
    share = (fine - azimuth[place]) / (azimuth[place + 1] - azimuth[place])
    line = torch.lerp(height[place], height[place + 1], share)
    smooth = functional.avg_pool1d(functional.pad(line[None, None], (9, 9), mode="reflect"), 19, 1)[0, 0]
    at = (_azimuth(template).rad2deg() * 2).clamp(0, 359.999)
    low = at.long()
    steep = (smooth[1:] - smooth[:-1])[low] * 2 * math.degrees(1)  # metres of height per radian
    above = template[:, 1] - brow_y - torch.lerp(smooth[low], smooth[low + 1], at - low)
    reach = template[:, [0, 2]].norm(dim=-1).clamp_min(0.03)
    return above / (1 + (steep / reach) ** 2).sqrt() - 0.03 * _ear(template, marks)


def _noises(template: Tensor) -> dict[str, Tensor]:
    wide, narrow = (noise(template, w, template.new_full((1, 3), 0.31)) for w in (WIDE, NARROW))
    found = {f"wide_{i}": wide[:, i] for i in range(3)}
    return found | {f"narrow_{i}": narrow[:, i] for i in range(4)}
