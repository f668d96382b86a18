"""Hats, caps, scarves and helmets, fitted to each head."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import Material
from casfne.capture.noise import noise
from casfne.capture.people.heads import HeadModel
from casfne.capture.wear.fabrics import HEATHER, KNIT, fabric
from casfne.capture.wear.meshes import anchors, check, ear_tops, envelope, grid, join, part, ramp, span
from casfne.capture.wear.parts import HAT, Part

SHARE = 0.08
BEANIE, CAP, FEDORA, SCARF, BAND, HELMET = range(6)
_CHIN_M = 0.007  # metres by which a cover stands off the chin
_SHARES = (0.25, 0.27, 0.16, 0.14, 0.1, 0.08)
_COARSE, _ROWS, _COLUMNS, _BRIM = (13, 32), 20, 49, 6  # columns run from nape to nape, the first one again at the end
_TILT_DEG = ((12, 22), (12, 18), (8, 16), (88, 96), (24, 36), (10, 16))  # of the axis backwards, by kind
_EDGE_DEG = ((-4, 7), (-4, 2), (-6, 2), (-52, -44), (-4, 7), (-9, -3))  # of the edge above the plane through the ears
_LIFT_MM = ((5, 9), (7, 11), (6, 9), (5, 8), (4.5, 6.5), (22, 32))
_BAND_DEG = (14.0, 30.0)  # how far a head band reaches up
_CENTRE_UP_M = 0.025  # of the middle over the tops of the ears
_HAIR_GAP_M = 0.002


@dataclass(frozen=True)
class Hats:
    """The part, and what hair needs to know: ``hides_hair`` bool [B], a cover under which no hair is seen at all; and
    `press`, which keeps other hair inside the hat.

    frame [B, 3, 3]: rows side, axis, front; centre [B, 3]; edge [B, C] and top [B, 1] (radians over the hat's plane);
    radius [B, R, C]: of the inner side, rows from the edge to the top, columns from nape to nape.
    """

    part: Part
    hides_hair: Tensor
    frame: Tensor
    centre: Tensor
    edge: Tensor
    top: Tensor
    radius: Tensor

    def press(self, points: Tensor) -> Tensor:
        """Points [B, M, 3] in head space, those under the hat moved towards its middle until they lie inside it."""
        side, axis, front = ((points - self.centre[:, None]) @ self.frame.mT).unbind(-1)
        length = (side**2 + axis**2 + front**2).sqrt().clamp_min(1e-6)
        turn, rise = torch.atan2(side, front) / math.pi, torch.asin((axis / length).clamp(-1, 1))
        edge = _look_up(self.edge[:, None], torch.stack([turn, torch.zeros_like(turn)], -1))
        share = (rise - edge) / (self.top - edge)
        inner = _look_up(self.radius, torch.stack([turn, share.clamp(0, 1) * 2 - 1], -1)) - _HAIR_GAP_M
        under = (share > 0) & (share < 1 + 1e-3) & self.part.worn[:, None]
        factor = torch.where(under, (inner / length).clamp_max(1), 1.0)
        return self.centre[:, None] + (points - self.centre[:, None]) * factor[..., None]


def _look_up(table: Tensor, where: Tensor) -> Tensor:
    """Table [B, R, C] at [B, M, 2] in -1..1 (along the columns, down the rows), [B, M]."""
    return functional.grid_sample(table[:, None], where[:, None], align_corners=True, padding_mode="border")[:, 0, 0]


def wears_hat(draws: Draws) -> Tensor:
    """Who does, bool [B]."""
    return draws.sub("hat").chance("worn", SHARE)


def hat_kind(draws: Draws) -> Tensor:
    """One of BEANIE, CAP, FEDORA, SCARF, BAND, HELMET, int64 [B]."""
    return draws.sub("hat").choice("kind", _SHARES)


def hats(model: HeadModel, vertices: Tensor, draws: Draws) -> Hats:
    """What is on heads ``vertices`` [B, V, 3] (posed, head space), for ``SHARE`` of the samples."""
    check(model, vertices, len(draws))
    own, kind, worn = draws.sub("hat"), hat_kind(draws), wears_hat(draws)
    frame, centre = _frame(model, vertices, own, kind)
    turn = torch.linspace(-math.pi, math.pi, _COLUMNS, device=vertices.device)
    edge, top = _edge(own, kind, turn)
    points = torch.cat([vertices[:, anchors(model)], _chin(model, vertices, centre)], 1)
    rise = edge[:, None] + (top - edge)[:, None] * _shares(_ROWS, vertices.device)[:, None]
    direction = _directions(rise, turn) @ frame[:, None]
    bare = _bare(points, centre, frame, edge, top)
    lift = _ranged(own, "lift", _LIFT_MM, kind)[:, None, None] * 1e-3
    outer = bare + lift + _bulge(own, kind, turn, edge, top)
    shell = centre[:, None, None] + direction * outer[..., None]
    shell = _crown(own, kind, shell, centre, frame, turn)
    inner = centre[:, None] + direction[:, 0] * (bare[:, 0] - 0.002)[..., None]
    rolled = torch.cat([inner[:, None], shell], 1)
    brim = _brim(own, kind, shell, frame, turn)
    mesh, faces = join([_sheet(rolled), _sheet(brim)])
    place = _places(turn, top, edge, kind)
    radius = outer - 0.5 * lift
    hides = worn & ((kind == SCARF) | (kind == HELMET))
    return Hats(part(HAT, mesh, faces, place, worn), hides, frame, centre, edge, top, radius)


def _chin(model: HeadModel, vertices: Tensor, centre: Tensor) -> Tensor:
    """Points a little before the chin, [B, 7, 3]: it is narrow, and the cover is smoothed."""
    chin = vertices[:, model.landmarks[5:12]]
    return chin + _CHIN_M * functional.normalize(chin - centre[:, None], dim=-1)


def _ranged(own: Draws, name: str, bounds: tuple[tuple[float, float], ...], kind: Tensor) -> Tensor:
    """A number between the bounds of each sample's kind, [B]."""
    low, high = torch.tensor(bounds, dtype=torch.float32, device=kind.device)[kind].unbind(-1)
    return low + (high - low) * own.uniform(name)


def _shares(count: int, device: torch.device) -> Tensor:
    return torch.linspace(0, 1, count, device=device)


def _frame(model: HeadModel, vertices: Tensor, own: Draws, kind: Tensor) -> tuple[Tensor, Tensor]:
    """Axes (rows: side, axis, front) and middle of each hat."""
    tilt = _ranged(own, "tilt", _TILT_DEG, kind).deg2rad()
    cosine, sine, zero = tilt.cos(), tilt.sin(), torch.zeros_like(tilt)
    roll = own.normal("roll") * torch.where(kind == SCARF, 0.0, 0.03)
    side = torch.stack([roll.cos(), roll.sin(), zero], -1)
    front = torch.stack([zero, sine, cosine], -1)
    axis = functional.normalize(torch.linalg.cross(front, side), dim=-1)
    side = torch.linalg.cross(axis, front)
    up = torch.where(kind == SCARF, 0.0, _CENTRE_UP_M)[:, None] * span(model, vertices)
    centre = ear_tops(model, vertices).mean(1) + torch.cat([torch.zeros_like(up), up, torch.zeros_like(up)], 1)
    return torch.stack([side, axis, front], 1), centre


def _edge(own: Draws, kind: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Elevation of the edge [B, C] and of the top [B, 1], radians."""
    base = _ranged(own, "edge", _EDGE_DEG, kind)[:, None]
    side = turn.sin() ** 2
    # a scarf's opening: forehead at turn 0, temples and cheeks at the sides, chin at the ends
    opening = base + 15 * side + 4 * ((1 - turn.cos()) / 2) ** 2
    ears = torch.where(kind == BEANIE, 14 * own.uniform("over ears"), 0.0)[:, None]
    edge = torch.where((kind == SCARF)[:, None], opening, base - ears * side)
    reach = own.between("band", *_BAND_DEG)[:, None] + base
    top = torch.where((kind == BAND)[:, None], reach, 90.0)
    return edge.deg2rad(), top.deg2rad()


def _directions(rise: Tensor, turn: Tensor) -> Tensor:
    """Unit directions in the hat's own frame for elevations [B, R, C]."""
    return torch.stack([rise.cos() * turn.sin(), rise.sin(), rise.cos() * turn.cos()], -1)


def _bare(points: Tensor, centre: Tensor, frame: Tensor, edge: Tensor, top: Tensor) -> Tensor:
    """Distance [B, ROWS, COLUMNS] of a taut cover of the head, from a coarser grid that smooths it."""
    rows, columns = _COARSE
    turn = torch.arange(columns, device=points.device) * (2 * math.pi / columns) - math.pi
    coarse_edge = _look_up(edge[:, None], (torch.stack([turn / math.pi, 0 * turn], -1)).expand(len(points), -1, -1))
    rise = coarse_edge[:, None] + (top - coarse_edge)[:, None] * _shares(rows, points.device)[:, None]
    direction = (_directions(rise, turn) @ frame[:, None]).flatten(1, 2)
    found = envelope(points, centre, direction).view(-1, 1, rows, columns)
    near = functional.pad(functional.pad(found, (2, 2, 0, 0), mode="circular"), (0, 0, 1, 1), mode="replicate")
    smooth = functional.avg_pool2d(
        near, 3, 1
    )  # [B, 1, rows, columns + 2]: from one column before the nape to one after
    return functional.interpolate(smooth[..., 1:], (_ROWS, _COLUMNS), mode="bilinear", align_corners=True)[:, 0]


def _bulge(own: Draws, kind: Tensor, turn: Tensor, edge: Tensor, top: Tensor) -> Tensor:
    """What stands out of the taut cover, [B, ROWS, COLUMNS] metres."""
    share = _shares(_ROWS, turn.device)[:, None]
    back, front = (1 - turn.cos()) / 2, (1 + turn.cos()) / 2
    lean = 0.85 + (0.9 * back - 0.45) * (1 - share**2)  # level at the top, or there would be a tip
    slouch = 0.035 * own.uniform("slouch")[:, None, None] ** 2 * ramp(share, 0.0, 1.0) * lean
    fold = torch.sin(
        own.between("folds", 3, 7)[:, None, None].round() * turn + 9 * share + 6 * own.uniform("fold", 1, 1)
    )
    cloth = slouch + 0.0018 * fold * share * (1 - share)
    panel = own.between("panel", 0.004, 0.014)[:, None, None] * front * (share * math.pi).sin() + 0.004 * share
    drape = 0.012 * ramp(share, 0.0, 0.5) * back + 0.0025 * fold * ramp(share, 0.05, 0.2) * (1 - share)
    solid = 0.012 * share.expand(-1, _COLUMNS)
    zero = torch.zeros_like(cloth)
    choice = torch.stack([cloth, panel.expand_as(zero), zero, drape.expand_as(zero), zero, solid.expand_as(zero)], 1)
    return choice.gather(1, kind[:, None, None, None].expand(-1, 1, _ROWS, _COLUMNS))[:, 0]


def _crown(own: Draws, kind: Tensor, shell: Tensor, centre: Tensor, frame: Tensor, turn: Tensor) -> Tensor:
    """The shell, with a brimmed hat's steep sides and dented top in place of the head's own round."""
    share = _shares(_ROWS, turn.device)[:, None]
    base = shell[:, :1]
    # above the crown of the head along the axis, so that it stays inside
    along = ((shell - centre[:, None, None]) * frame[:, None, None, 1]).sum(-1)
    room = own.between("crown", 0.006, 0.024)[:, None, None]
    high = along[:, -1:, :1] + room
    slope = own.between("slope", 0.08, 0.2)[:, None, None]
    steep = (share / 0.62).clamp_max(1)
    flat = ((share - 0.62) / 0.38).clamp(0, 1)
    ring = ((1 - slope * steep) * (1 - flat)).clamp_min(2e-3)
    dent = room * own.between("dent", 0.0, 0.9)[:, None, None] * ramp(flat, 0.1, 0.9)
    start = along[:, :1]
    level = start + (high - start) * steep**0.9 - dent + 0.006 * (flat * math.pi).sin()
    flatwise = base - centre[:, None, None] - start[..., None] * frame[:, None, None, 1]
    tall = centre[:, None, None] + flatwise * ring[..., None] + level[..., None] * frame[:, None, None, 1]
    return torch.where((kind == FEDORA)[:, None, None, None], tall, shell)


def _brim(own: Draws, kind: Tensor, shell: Tensor, frame: Tensor, turn: Tensor) -> Tensor:
    """A sheet round the edge, [B, BRIM, COLUMNS, 3]: visor, brim, a beanie's cuff; nothing else."""
    share = _shares(_BRIM, turn.device)[:, None]
    axis, front, side = frame[:, None, None, 1], frame[:, None, None, 2], frame[:, None, None, 0]
    edge = shell[:, :1]
    outward = front * turn.cos()[:, None] + side * turn.sin()[:, None]
    peak = ramp(turn.cos(), 0.28, 0.8) ** 0.8
    visor_wide = own.between("visor", 0.055, 0.08)[:, None, None] * peak
    arch = own.between("arch", 0.012, 0.035)[:, None, None] * (turn.sin() / 0.85) ** 2
    drop = own.between("drop", 0.0, 0.35)[:, None, None]
    ahead = 0.75 * front + 0.25 * outward
    visor = (
        edge
        + (ahead - axis * drop[..., None]) * (visor_wide * share)[..., None]
        - axis * (arch * peak * share**0.7)[..., None]
    )
    brim_wide = own.between("brim", 0.035, 0.085)[:, None, None] * (1 + 0.1 * turn.cos())
    curl = own.between("curl", -0.012, 0.018)[:, None, None] * share**2 * (1 + 0.8 * (turn.sin() ** 2 - turn.cos()))
    brim = edge + outward * (brim_wide * share)[..., None] + axis * curl[..., None]
    cuff = _cuff(own, shell, outward)
    none = edge.expand_as(brim)
    choice = torch.stack([cuff, visor, brim, none, none, none], 1)
    return choice.gather(1, kind[:, None, None, None, None].expand(-1, 1, *none.shape[1:]))[:, 0]


def _cuff(own: Draws, shell: Tensor, outward: Tensor) -> Tensor:
    """A second layer over the lower rows of the shell; flat on it for those without."""
    count = _BRIM - 1
    thick = own.between("cuff", 0.003, 0.006) * own.chance("cuffed", 0.7)
    profile = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.7], device=shell.device)
    layer = shell[:, :count] + outward * (thick[:, None] * profile)[:, :, None, None]
    end = shell[:, count - 1 : count] - outward * 0.001
    return torch.cat([layer, end], 1)


def _sheet(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows.flatten(1, 2), grid(rows.shape[1], rows.shape[2])


def _places(turn: Tensor, top: Tensor, edge: Tensor, kind: Tensor) -> Tensor:
    """Where fabric is looked up, [B, P, 3]: round the head, up the hat; the third is 1 on a brim."""
    share = _shares(_ROWS, turn.device)[:, None]
    height = 0.095 * (top - edge)[:, None] * share
    height = torch.cat([height[:, :1] - 0.004, height], 1)
    round_ = (0.09 * turn).expand_as(height)
    crown = torch.stack([round_, height, torch.zeros_like(height)], -1)
    out = (0.08 * _shares(_BRIM, turn.device)[:, None]).expand(len(kind), _BRIM, _COLUMNS)
    is_brim = ((kind == CAP) | (kind == FEDORA)).float()[:, None, None].expand_as(out)
    brim = torch.stack([(0.09 * turn).expand_as(out), out, is_brim], -1)
    return torch.cat([crown.flatten(1, 2), brim.flatten(1, 2)], 1)


def hat_material(place: Tensor, sample: Tensor, draws: Draws) -> Material:
    """Cloth, knitwear, felt or a helmet's shell at ``place`` [N, 3] of samples ``sample`` [N]."""
    own, kind = draws.sub("hat"), hat_kind(draws)
    cloth, rest = (
        own.choice("pattern", (0.5, 0.08, 0.06, 0.0, 0.2, 0.16)),
        own.choice("scarf pattern", (0.6, 0.1, 0, 0, 0.1, 0.2)),
    )
    knitted = (kind == BEANIE) | ((kind == BAND) & own.chance("knit band", 0.5))
    plain = (kind == CAP) | (kind == FEDORA) | (kind == HELMET)
    heather = torch.where(own.chance("heather", 0.25) & (kind != HELMET), HEATHER, 0)
    pattern = torch.where(knitted, KNIT, torch.where(plain, heather, torch.where(kind == SCARF, rest, cloth)))
    made = fabric(place, sample, own.sub("cloth"), pattern)
    band = ((kind == FEDORA) & own.chance("hat band", 0.8))[sample] & (place[:, 2] < 0.5) & (place[:, 1] < 0.035)
    seams = (kind == CAP)[sample] & (place[:, 2] < 0.5)
    panel = (place[:, 0] / (0.09 * math.pi / 3)) % 1
    dark = torch.where(seams & ((panel - 0.5).abs() > 0.488), 0.6, 1.0) * torch.where(band, 0.25, 1.0)
    helmet = (kind == HELMET)[sample]
    gloss = (
        own.between("gloss", 0.08, 0.4)[sample] + 0.01 * noise(place, 0.01, own.uniform("gloss at", 3)[sample])[:, 0]
    )
    return Material(
        (made.albedo * dark[:, None]).clamp_min(0.004),
        torch.where(helmet, 0.045, made.specular),
        torch.where(helmet, gloss.clamp_min(0.04), made.roughness),
        torch.where(helmet, 0.0, made.scatter),
        torch.where(helmet, 0.0, made.sheen),
    )
