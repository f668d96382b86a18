"""Hair: a cap over the scalp and several hundred tapering locks that are combed, fall, curl and rest on the head.

All styles share one topology. Locks grow in steps from fixed places of the scalp; each step goes on in the direction of
the last one, is bent by gravity and kept out of head, neck, shoulders and (but for a fringe) the face.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.people.heads import HeadModel
from casfne.capture.wear.haircolour import LOCK, hair_material
from casfne.capture.wear.hairstyles import BALD, STYLES, Look, Style, choose, sample_look, sample_style
from casfne.capture.wear.meshes import ramp
from casfne.capture.wear.parts import HAIR, Part
from casfne.capture.wear.scalp import CARDS, RINGS, SPOKES, Body, Scalp, body_of, hairline, noise_at, scalp_of

__all__ = ["BALD", "CARDS", "SEGMENTS", "STYLES", "Style", "hair", "hair_material", "hairline", "sample_style"]

SEGMENTS = 16  # of a lock
_LEAST_WAVE = 6  # segments in a wave: fewer look like zigzags
_FLATTEST = 0.17  # amplitude of a curl at most, in waves: a wider one stretches its strip


def hair(
    model: HeadModel, vertices: Tensor, draws: Draws, female: Tensor | None = None, bald: Tensor | None = None
) -> list[Part]:
    """What grows on heads whose vertices are [B, V, 3]: one part of 23 k triangles.

    ``female`` bool [B] makes styles as common as among women or men; without it they are mixed evenly. ``bald`` bool
    [B] says who wears none; without it some draw that.
    """
    if vertices.ndim != 3 or vertices.shape[1:] != model.template.shape or len(vertices) != len(draws):
        raise ValueError(f"expected vertices [{len(draws)}, {len(model.template)}, 3], got {list(vertices.shape)}")
    draws = draws.sub("hair")
    scalp = scalp_of(model)
    look = sample_look(draws, choose(draws, female, bald))
    body = body_of(model, scalp, vertices, draws)
    cap = _cap(scalp, body, look, draws)
    cards = _cards(scalp, body, look, draws)
    worn = look.worn
    points, place, along = (torch.cat(pair, 1) for pair in zip(cap, cards, strict=True))
    on = worn[:, None, None]
    return [Part(HAIR, points * on, _topology(points.device), place * on, along * on, worn)]


def _combed(points: Tensor, up: Tensor, fringe: Tensor, look: Look) -> Tensor:
    """Unit directions along the scalp in which hair lies at places [B, N, 3]; fringe [B, N]: 1 where that grows."""
    away = torch.tanh((points[..., 0] - look.part) / 0.012)
    top = ramp(up[..., 1], 0.3, 0.75)
    zero = torch.zeros_like(away)
    over = torch.stack([look.across * look.sign + look.out * away, zero - look.fall, zero + look.ahead], -1)
    beside = torch.stack([zero, zero - 1, zero + look.side_ahead], -1)
    hanging = torch.stack([look.fringe_across + look.fringe_out * away, zero - 0.5, zero + 1], -1)
    wish = torch.lerp(beside, over, top[..., None])
    wish = torch.lerp(wish, functional.normalize(look.knot[:, None] - points, dim=-1), look.tie[..., None])
    wish = torch.lerp(wish, hanging, fringe[..., None])
    return functional.normalize(wish - up * (wish * up).sum(-1, keepdim=True), dim=-1)


def _fringe(points: Tensor, up: Tensor, line: Tensor, look: Look) -> Tensor:
    """1 where hair hangs over the forehead, [B, N]."""
    front = ramp(up[..., 2], 0.2, 0.4) * (1 - ramp(points[..., 0].abs(), 0.045, 0.06)) * (1 - ramp(line, 0.025, 0.04))
    return front * look.fringed


def _lengths(points: Tensor, up: Tensor, fringe: Tensor, look: Look, draws: Draws) -> Tensor:
    """[B, N]"""
    back = torch.lerp(look.side, look.back, ramp(-up[..., 2], 0, 0.5))
    length = torch.lerp(back, look.top, ramp(up[..., 1], 0.2, 0.6))
    length = length + look.hem * 1.2 * (points[..., 1] + 0.04).clamp_min(0)
    to_knot = (points - look.knot[:, None]).norm(dim=-1) * 1.2 + 0.05
    length = torch.lerp(length, to_knot, look.tie)
    length = length * draws.between("lengths", 0.8, 1.12, points.shape[1])
    spread = draws.between("fringe lengths", 0.8, 1.1, points.shape[1])
    from_sides = 1 + 0.3 * (points[..., 0].abs() / 0.05) ** 2
    return torch.lerp(length, look.fringe_length * spread * from_sides, fringe)


def _cap(scalp: Scalp, body: Body, look: Look, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, places, directions [B, RINGS * SPOKES, 3] each."""
    points, line = body.cap, scalp.line[: body.cap.shape[1]]
    up = body.up(points)
    ragged = noise_at(points, 0.012, draws, "edge")[..., 0]
    lumps = noise_at(points, 0.035, draws, "lumps")
    thick = look.cap * torch.lerp(look.cap_side, torch.ones_like(look.cap), ramp(up[..., 1], 0.1, 0.6))
    rise = ramp(line + 0.003 * ragged - 0.002, 0, 0.008 + (0.7 * thick).clamp_max(0.010))
    rough = 1 + 0.16 * lumps[..., 0] + 0.1 * lumps[..., 1]
    lifted = points + up * (-0.003 + (thick * rough + 0.003) * rise)[..., None]
    along = _combed(points, up, _fringe(points, up, line, look), look)
    return lifted, _cap_places(points), along


def _cap_places(points: Tensor) -> Tensor:
    """Locks that run from the crown down, numbered below those of the cards."""
    ring = torch.arange(RINGS, device=points.device).repeat_interleave(SPOKES) * (0.14 / RINGS)
    spoke = torch.arange(SPOKES, device=points.device).repeat(RINGS)
    return torch.stack([-(1 + spoke) * (0.5 / SPOKES), ring, 0.5 * ring / 0.14], -1).expand(len(points), -1, -1)


def _cards(scalp: Scalp, body: Body, look: Look, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, places, directions [B, CARDS * (2 * SEGMENTS + 1), 3] each."""
    roots = body.roots
    line = scalp.line[body.cap.shape[1] :][:CARDS]
    up = body.up(roots)
    fringe = _fringe(roots, up, line, look)
    length = _lengths(roots, up, fringe, look, draws)
    path = _grow(body, look, draws, line, up, fringe, length)
    sideways, outwards = _across(path, body)
    path = _curled(path, sideways, outwards, look, draws, length)
    return _strips(path, sideways, outwards, look, draws, length)


def _grow(body: Body, look: Look, draws: Draws, line: Tensor, up: Tensor, fringe: Tensor, length: Tensor) -> Tensor:
    """Middle lines of the cards, [B, CARDS, SEGMENTS + 1, 3]."""
    roots = body.roots
    steps = length[:, :, None] * _shares(length.device).diff()  # [B, CARDS, SEGMENTS]
    lift = (look.lift * draws.between("lifts", 0.5, 1.3, CARDS))[..., None] * (1 - 0.4 * fringe[..., None])
    bend = 0.5 * noise_at(roots, 0.04, draws, "bend")[..., :3] + 0.5 * draws.normal("stray", CARDS, 3)
    ahead = functional.normalize(_combed(roots, up, fringe, look) + look.mess[..., None] * bend, dim=-1)
    ahead = functional.normalize(ahead * (1 - lift) + up * lift, dim=-1)
    layer = draws.uniform("layers", CARDS) ** 1.5
    flat = torch.maximum(fringe, 1 - ramp(line, 0.005, 0.04) * (1 - 0.5 * ramp(up[..., 2], 0.3, 0.7)))  # at the edge
    clearance = (0.7 * look.cap * (1 - 0.4 * flat) + look.volume * layer * (1 - 0.65 * flat) + 0.0015)[..., None]
    free = look.free * (1 + 0.06 * draws.normal("free", CARDS))
    hold = look.hold[..., None]
    path = [roots - up * 0.001]
    for number in range(1, SEGMENTS + 1):
        step = steps[:, :, number - 1, None]
        far = (length * _shares(length.device)[number] / 0.03).clamp_max(1)[..., None]
        wish = path[-1] + ahead * step
        placed = body.outside(body.beside_face(wish, free, fringe[..., None]), clearance * far, hold)
        placed = _knotted(placed, look)
        ahead = functional.normalize(placed - path[-1], dim=-1)
        path.append(path[-1] + ahead * step)
        ahead = functional.normalize(
            ahead + look.weight[..., None] * step / 0.02 * _fall(path[-1]) + _to_knot(path[-1], look), dim=-1
        )
    return _smoothed(torch.stack(path, 2))


def _smoothed(path: Tensor) -> Tensor:
    """Lines [B, CARDS, SEGMENTS + 1, 3] without the kinks where they met the head; their ends stay."""
    inner = 0.25 * path[:, :, :-2] + 0.5 * path[:, :, 1:-1] + 0.25 * path[:, :, 2:]
    return torch.cat([path[:, :, :1], inner, path[:, :, -1:]], 2)


def _fall(points: Tensor) -> Tensor:
    """Which way hair hangs: down, and together towards the neck."""
    x, y, z = points.unbind(-1)
    return torch.stack([-3.5 * x, torch.full_like(y, -1.0), -3 * (z + 0.01)], -1)


def _to_knot(points: Tensor, look: Look) -> Tensor:
    return 0.7 * look.tie[..., None] * functional.normalize(look.knot[:, None] - points, dim=-1)


def _knotted(points: Tensor, look: Look) -> Tensor:
    """Points near a knot are moved onto its surface."""
    arm = points - look.knot[:, None]
    reach = arm.norm(dim=-1, keepdim=True).clamp_min(1e-4)
    near = look.tie[..., None] * ramp(-reach, -0.045, -0.034)
    return points + near * arm * (look.bun[..., None] / reach - 1)


def _shares(device: torch.device) -> Tensor:
    """How far along a card its SEGMENTS + 1 rings lie, 0..1: denser at the root, where it bends most."""
    share = torch.arange(SEGMENTS + 1, device=device) / SEGMENTS
    return share * (0.8 + 0.2 * share)


def _curled(path: Tensor, sideways: Tensor, outwards: Tensor, look: Look, draws: Draws, length: Tensor) -> Tensor:
    """Middle lines wound about themselves; a wave is never shorter than ``_LEAST_WAVE`` segments."""
    wave = look.wave * draws.between("waves", 0.8, 1.25, CARDS)
    wave = torch.maximum(wave, _LEAST_WAVE / SEGMENTS * length)[..., None]
    down = length[..., None] * _shares(path.device)
    shared = 2 * noise_at(path[:, :, 0], 0.05, draws, "phase")[..., :1]
    own = (0.1 + 2 * look.mess**2) * draws.normal("phases", CARDS)  # waves lie side by side, curls each for itself
    phase = 2 * math.pi * down / wave + shared + own[..., None]
    size = torch.minimum(look.curl[..., None], _FLATTEST * wave) * (down / 0.04).clamp_max(1)
    across, out = size * phase.sin(), size * 0.5 * (1 + phase.cos())
    return path + across[..., None] * sideways + out[..., None] * outwards


def _across(path: Tensor, body: Body) -> tuple[Tensor, Tensor]:
    """Unit vectors [B, CARDS, SEGMENTS + 1, 3] across a card, and out of it away from the head."""
    along = _tangents(path)
    level = path - body.middle[:, :, None]
    level = torch.cat([level[..., :1], level[..., 1:2].clamp_min(0), level[..., 2:] + 0.02], -1)
    sideways = functional.normalize(torch.linalg.cross(along, level), dim=-1)
    return sideways, torch.linalg.cross(sideways, along)


def _tangents(path: Tensor) -> Tensor:
    before = torch.cat([path[:, :, :1], path[:, :, :-1]], 2)
    after = torch.cat([path[:, :, 1:], path[:, :, -1:]], 2)
    return functional.normalize(after - before, dim=-1)


def _strips(
    path: Tensor, sideways: Tensor, outwards: Tensor, look: Look, draws: Draws, length: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Tapering strips round middle lines: pairs of points, then one at the tip.

    sideways, outwards: across the lines before they were wound, so that strips do not turn over in each curl.
    """
    share = _shares(path.device)
    profile = (0.55 + 2.2 * share).clamp_max(1) * (1 - share**4)
    half = 0.5 * (look.width * draws.log_between("widths", 0.5, 1.3, CARDS))[..., None] * profile
    turn = 0.25 * draws.normal("turns", CARDS)[..., None] + 0.3 * draws.normal("twists", CARDS)[..., None] * share
    sideways = sideways * turn.cos()[..., None] + outwards * turn.sin()[..., None]
    along = _tangents(path)
    number = torch.arange(CARDS, device=path.device) * LOCK
    down = length[..., None] * share
    sides = []
    for sign in (-1, 1):
        place = torch.stack([number[:, None] + sign * half, down, share.expand_as(down)], -1)
        sides.append(torch.stack([path + sign * half[..., None] * sideways, place, along], 0))
    pairs = torch.stack(sides, 4).flatten(3, 4)  # [3, B, CARDS, 2 * (SEGMENTS + 1), 3]
    vertices, place, along = pairs[..., :-1, :].flatten(2, 3).unbind(0)
    return vertices, place, along


@lru_cache(maxsize=4)
def _topology(device: torch.device) -> Tensor:
    ring, spoke = torch.meshgrid(torch.arange(RINGS - 1), torch.arange(SPOKES), indexing="ij")
    a, b = ring * SPOKES + spoke, ring * SPOKES + (spoke + 1) % SPOKES
    cap = torch.stack([a, a + SPOKES, b, b, a + SPOKES, b + SPOKES], -1).view(-1, 3)
    hub = torch.stack([torch.zeros(SPOKES - 2), torch.arange(1, SPOKES - 1), torch.arange(2, SPOKES)], -1).long()
    corner = 2 * torch.arange(SEGMENTS - 1)
    strip = torch.stack([corner, corner + 1, corner + 2, corner + 1, corner + 3, corner + 2], -1).view(-1, 3)
    strip = torch.cat([strip, torch.tensor([[2 * SEGMENTS - 2, 2 * SEGMENTS - 1, 2 * SEGMENTS]])])
    first = RINGS * SPOKES + torch.arange(CARDS)[:, None, None] * (2 * SEGMENTS + 1)
    return torch.cat([cap, hub, (strip + first).view(-1, 3)]).to(device)
