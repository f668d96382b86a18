"""What comes before a face: hands, what they hold, and plain things at the picture's edge."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.people.heads import HeadModel
from casfne.capture.wear.meshes import (
    CAPSULE_RINGS,
    CAPSULE_SIDES,
    anchors,
    body,
    capsules,
    check,
    ear_tops,
    envelope,
    join,
    part,
    span,
)
from casfne.capture.wear.parts import HAND, Part

SHARE = 0.08
CHIN, CHEEK, MOUTH, EYE, FOREHEAD, CALL, PHOTO, MICROPHONE, CUP, THING = range(10)
_SHARES = (0.13, 0.17, 0.1, 0.08, 0.1, 0.08, 0.07, 0.09, 0.07, 0.11)
SKIN, SLEEVE, OBJECT, STICK = range(4)  # which piece a point lies on: its place is that many metres to the right

# a right hand seen from its back, fingers up (y), thumb on the left, palm towards -z; metres
KNUCKLES = ((-0.030, 0.040), (-0.0105, 0.044), (0.0095, 0.041), (0.028, 0.033))
BONES = ((0.040, 0.024, 0.020), (0.044, 0.028, 0.021), (0.041, 0.026, 0.021), (0.032, 0.019, 0.018))
_THUMB_AT, _THUMB_BONES = (-0.024, -0.028, -0.006), (0.044, 0.033, 0.027)
_THUMB_OPEN, _THUMB_GRIP = (-0.75, 0.6, -0.25), (-0.15, 0.75, -0.65)  # where it points
_FINGER_RADII, _THUMB_RADII = (0.0110, 0.0096, 0.0086, 0.0070), (0.0165, 0.0125, 0.0108, 0.0082)
_PALM, _PALM_ROUND = (0.041, 0.054, 0.0155), (0.7, 0.5)
_WRIST, _ELBOW, _ARM_RADII = (0.0, -0.040, 0.0), (0.0, -0.33, 0.0), (0.0215, 0.044)
_BEND_DEG = ((25, 65), (4, 22), (6, 18), (4, 16), (4, 20), (35, 50), (30, 45), (76, 86), (30, 42), (0, 1))  # each joint
_GRIP = (0.6, 0.2, 0.2, 0.1, 0.1, 0.9, 0.9, 0.9, 0.7, 0.0)  # how far the thumb is opposed, by kind
# for a hand on the picture's right, by kind: where its back faces and where its fingers point
_BACKS: tuple[tuple[float, float, float], ...] = (
    (0.35, -0.5, 0.8), (0.8, -0.15, 0.6), (0.25, -0.1, 1.0), (0.3, 0.0, 1.0), (0.25, 0.35, 0.9),
    (0.95, 0.0, -0.1), (0.35, -0.2, 0.9), (0.25, 0.1, 0.9), (0.9, -0.1, 0.4), (0.0, 0.0, 1.0),
)  # fmt: skip
_FINGERS: tuple[tuple[float, float, float], ...] = (
    (-0.45, 0.8, 0.2), (-0.15, 1.0, 0.15), (-0.85, 0.5, 0.1), (-0.45, 0.9, 0.0), (-0.8, 0.55, 0.0),
    (0.05, 0.9, 0.45), (-0.8, 0.6, 0.0), (-1.0, 0.15, 0.2), (-0.35, 0.3, 0.85), (0.0, 1.0, 0.0),
)  # fmt: skip
_REACH = 0.05  # from the palm's middle to where the hand touches
# half axes of what is held (metres) and its roundness, by kind; nothing for the first five
_NOTHING = ((1e-4, 1e-4, 1e-4), (1.0, 1.0))
_PHONE, _BALL = ((0.037, 0.077, 0.0045), (0.2, 0.12)), ((0.026, 0.029, 0.026), (1.0, 1.0))
_MUG, _PLANK = ((0.040, 0.048, 0.040), (1.0, 0.16)), ((0.05, 0.16, 0.03), (0.5, 0.4))
_HELD = (_NOTHING,) * 5 + (_PHONE, _PHONE, _BALL, _MUG, _PLANK)
_HANDLE_M = 0.17


class _Pose(NamedTuple):
    """Where something is: rows of ``axes`` [B, 3, 3] are its x, y, z; ``at`` [B, 3] its middle."""

    axes: Tensor
    at: Tensor

    def out(self, local: Tensor) -> Tensor:
        """Own coordinates [B, M, 3] in head space."""
        return self.at[:, None] + local @ self.axes


def wears_hand(draws: Draws) -> Tensor:
    """Who has a hand or a thing before the face, bool [B]."""
    return draws.sub("hand").chance("worn", SHARE)


def hand_kind(draws: Draws) -> Tensor:
    """One of CHIN, CHEEK, MOUTH, EYE, FOREHEAD (touched), CALL, PHOTO, MICROPHONE, CUP, THING, int64 [B]."""
    return draws.sub("hand").choice("kind", _SHARES)


def hands(model: HeadModel, vertices: Tensor, draws: Draws) -> Part:
    """Hands, what they hold and plain things for heads ``vertices`` [B, V, 3] (posed, head space), before ``SHARE``
    of the faces: one palm, 16 capsules (fingers, forearm), a rounded body and a stick.
    """
    check(model, vertices, len(draws))
    own, kind, worn = draws.sub("hand"), hand_kind(draws), wears_hand(draws)
    side = torch.where(own.chance("right", 0.5), 1.0, -1.0)
    targets, points = _targets(model, vertices, side), vertices[:, anchors(model)]
    body_, body_faces = body(_held_size(own, kind), _by_kind([r for _, r in _HELD], kind))
    held = _cleared(_held_pose(targets, own, kind, side), body_, points)
    bent = torch.stack([_bends(own, kind, joint) for joint in range(3)], 1)
    bones = _bones(bent, _by_kind(_GRIP, kind), side, span(model, vertices))
    pose = _hand_pose(targets, held, own, kind, side)
    pose = _touching(pose, bones, points, kind)
    skin, faces = _hand(bones)
    shown = torch.where((kind == THING)[:, None, None], pose.at[:, None], pose.out(skin))
    stick, stick_faces = _stick(held, kind)
    mesh, triangles = join([(shown, faces), (held.out(body_), body_faces), (stick, stick_faces)])
    return part(HAND, mesh, triangles, _places(vertices, body_, stick - held.at[:, None]), worn)


def _by_kind(values: object, kind: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=kind.device)[kind]


def _bends(own: Draws, kind: Tensor, joint: int) -> Tensor:
    """Angle by which each of four fingers bends at a joint, radians [B, 4]; neighbours bend alike."""
    low, high = _by_kind(_BEND_DEG, kind).unbind(-1)
    common = low + (high - low) * own.uniform("bend")
    apart = own.between("apart", -5, 5, 4) + torch.linspace(0, 6, 4, device=kind.device) * own.between("fan", 0, 1, 1)
    share = (0.85, 1.1, 0.75)[joint]
    return ((common[:, None] + apart).clamp_min(2) * share).deg2rad()


def _bones(bent: Tensor, grip: Tensor, side: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Start and end [B, 16, 3] and their radii [B, 16] of fingers, thumb and forearm, in the hand's own frame."""
    starts, ends, radii, end_radii = [], [], [], []
    for finger in range(5):
        at = bent.new_tensor(_THUMB_AT if finger == 4 else (*KNUCKLES[finger], 0.0)).expand(len(bent), 3)
        sizes = _THUMB_RADII if finger == 4 else _FINGER_RADII
        thin = 0.86 if finger == 3 else 1.0
        angle = torch.zeros(len(bent), device=bent.device)
        for joint in range(3):
            if finger == 4:
                length, along = _THUMB_BONES[joint], _thumb(bent, grip, joint)
            else:
                angle = angle + bent[:, joint, finger]
                length, along = BONES[finger][joint], _finger(angle, KNUCKLES[finger][0])
            starts.append(at)
            at = at + length * along
            ends.append(at)
            radii.append(thin * sizes[joint])
            end_radii.append(thin * sizes[joint + 1])
    starts.append(bent.new_tensor(_WRIST).expand(len(bent), 3))
    ends.append(bent.new_tensor(_ELBOW).expand(len(bent), 3))
    flip = torch.stack([-side, torch.ones_like(side), torch.ones_like(side)], -1)[:, None] * scale[:, None]
    one, two = (bent.new_tensor([*r, a]) * scale for r, a in ((radii, _ARM_RADII[0]), (end_radii, _ARM_RADII[1])))
    return torch.stack(starts, 1) * flip, torch.stack(ends, 1) * flip, one, two


def _finger(angle: Tensor, across: float) -> Tensor:
    """Direction of a bone that is bent by ``angle``; fingers fan out a little from the middle one."""
    return torch.stack([1.3 * across * angle.cos(), angle.cos(), -angle.sin()], -1)


def _thumb(bent: Tensor, grip: Tensor, joint: int) -> Tensor:
    open_, closed = bent.new_tensor(_THUMB_OPEN), bent.new_tensor(_THUMB_GRIP)
    along = open_ + (closed - open_) * grip[:, None]
    inwards = bent.new_tensor([0.45, 0.35, -0.15]) * joint * (0.3 + grip[:, None])
    return functional.normalize(along + inwards, dim=-1)


def _hand(bones: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    fingers, faces = capsules(*bones)
    scale = (bones[2][:, :1] / _FINGER_RADII[0])[..., None]
    palm, palm_faces = body(*(fingers.new_tensor(v).expand(len(fingers), -1) for v in (_PALM, _PALM_ROUND)))
    return join([(fingers, faces), (palm * scale, palm_faces)])


def _targets(model: HeadModel, vertices: Tensor, side: Tensor) -> dict[str, Tensor]:
    """Places of the face that hands go to, [B, 3] each, on the hand's side."""
    marks, ears = vertices[:, model.landmarks], ear_tops(model, vertices)
    right = (side > 0)[:, None]
    up = marks.new_tensor([0.0, 1.0, 0.0])

    def chosen(left_index: slice | int, right_index: slice | int) -> Tensor:
        both = [marks[:, i] if isinstance(i, int) else marks[:, i].mean(1) for i in (left_index, right_index)]
        return torch.where(right, both[1], both[0])

    ear = torch.where(right, ears[:, 1], ears[:, 0])
    mouth = marks[:, 48:60].mean(1)
    cheek = (2 * chosen(3, 13) + chosen(48, 54)) / 3
    brow = chosen(slice(18, 21), slice(23, 26)) + 0.03 * up
    chin = (chosen(6, 10) + marks[:, 8]) / 2
    eye = chosen(slice(36, 42), slice(42, 48))
    return {"chin": chin, "cheek": cheek, "mouth": mouth, "eye": eye, "brow": brow, "ear": ear - 0.028 * up}


def _axes(fingers: Tensor, back: Tensor) -> Tensor:
    """Orthonormal rows x, y, z with y near ``fingers`` and z along ``back``."""
    z = functional.normalize(back, dim=-1)
    x = functional.normalize(torch.linalg.cross(fingers, z), dim=-1)
    return torch.stack([x, torch.linalg.cross(z, x), z], 1)


def _sided(vector: Tensor, side: Tensor) -> Tensor:
    return torch.stack([vector[:, 0] * side, vector[:, 1], vector[:, 2]], -1)


def _held_pose(targets: dict[str, Tensor], own: Draws, kind: Tensor, side: Tensor) -> _Pose:
    """Where the held body, or the plain thing, is."""
    mouth, ear = targets["mouth"], targets["ear"]
    jitter = own.normal("held at", 3)

    def near(at: Tensor, right: float, up: float, front: float, spread: float = 0.006) -> Tensor:
        return at + _sided(at.new_tensor([right, up, front]).expand_as(at), side) + spread * jitter

    corner = own.uniform("corner", 3) * mouth.new_tensor([0.07, 0.24, 0.08]) + mouth.new_tensor([0.055, -0.14, 0.11])
    at = [mouth] * 5 + [near(ear, 0.006, -0.008, 0.024, 0.003), near(mouth, 0.01, 0.0, 0.1, 0.02)]
    at += [near(mouth, 0.012, -0.035, 0.05), near(mouth, 0.0, -0.042, 0.052, 0.003), _sided(corner, side)]
    level = mouth.new_tensor([0.0, 1.0, 0.0]).expand_as(mouth)
    ahead, out = mouth.new_tensor([0.0, 0.0, 1.0]), _sided(mouth.new_tensor([1.0, 0.0, 0.25]).expand_as(mouth), side)
    leaning = level + 0.15 * own.normal("lean", 3)
    ups = [level] * 5 + [
        ear - mouth,
        leaning,
        level - _sided(mouth.new_tensor([0.25, 0.0, 0.45]).expand_as(mouth), side),
    ]
    ups += [leaning, own.normal("thing up", 3)]
    fronts = [ahead.expand_as(mouth)] * 5 + [out, ahead + 0.15 * own.normal("turned", 3)]
    fronts += [ahead.expand_as(mouth)] * 2 + [own.normal("thing front", 3)]
    return _Pose(_axes(_pick(ups, kind), _pick(fronts, kind)), _pick(at, kind))


def _pick(options: list[Tensor], kind: Tensor) -> Tensor:
    """One of several [B, 3] for each sample."""
    return torch.stack(options, 1).gather(1, kind[:, None, None].expand(-1, 1, 3))[:, 0]


def _hand_pose(targets: dict[str, Tensor], held: _Pose, own: Draws, kind: Tensor, side: Tensor) -> _Pose:
    """Where the hand is before it is brought to the skin."""
    back = _sided(_by_kind(_BACKS, kind), side) + 0.1 * own.normal("back", 3)
    fingers = _sided(_by_kind(_FINGERS, kind), side) + 0.15 * own.normal("fingers", 3)
    axes = _axes(fingers, back)
    touch = [targets[name] for name in ("chin", "cheek", "mouth", "eye", "brow")]
    at = [t - _REACH * axes[:, 1] + 0.02 * axes[:, 2] for t in touch]
    down = -held.axes[:, 1]
    behind, across = axes[:, 2], axes[:, 1]
    at += [held.at + 0.026 * behind - 0.03 * across, held.at + 0.026 * behind - 0.045 * across]
    at += [held.at + 0.1 * down + 0.03 * behind - 0.02 * across, held.at + 0.055 * behind - 0.035 * across, held.at]
    return _Pose(axes, _pick(at, kind))


def _touching(pose: _Pose, bones: tuple[Tensor, ...], points: Tensor, kind: Tensor) -> _Pose:
    """The hand moved along its back's direction until its closest joint touches the head; held things: only out."""
    joints = torch.cat([bones[1][:, :15], torch.zeros_like(bones[1][:, :1])], 1)
    radius = torch.cat([bones[3][:, :15], torch.full_like(bones[3][:, :1], _PALM[2])], 1)
    for _ in range(2):
        shift = -(_clearance(pose.out(joints), points) - radius + 0.003).amin(1)
        shift = torch.where(kind < CALL, shift.clamp(-0.06, 0.08), shift.clamp(0, 0.05))
        pose = _Pose(pose.axes, pose.at + shift[:, None] * pose.axes[:, 2])
    return pose


def _cleared(pose: _Pose, shape: Tensor, points: Tensor) -> _Pose:
    """A held body, or plain thing, moved away from the head's axis until it touches the head nowhere."""
    away = functional.normalize(pose.at * pose.at.new_tensor([1.0, 0.0, 1.0]), dim=-1)
    for _ in range(2):
        sunk = -(_clearance(pose.out(shape[:, ::3]), points) - 0.002).amin(1)
        pose = _Pose(pose.axes, pose.at + sunk.clamp_min(0)[:, None] * away)
    return pose


def _clearance(places: Tensor, points: Tensor) -> Tensor:
    """How far places [B, M, 3] lie outside the cover of the head's ``points``, seen from its axis, [B, M]."""
    centre = points.mean(1) * points.new_tensor([1.0, 0.0, 0.0])
    arrows = places - centre[:, None]
    length = arrows.norm(dim=-1).clamp_min(1e-6)
    return length - envelope(points, centre, arrows / length[..., None])


def _held_size(own: Draws, kind: Tensor) -> Tensor:
    """Half axes of the held body, [B, 3]."""
    size = _by_kind([s for s, _ in _HELD], kind)
    thing = torch.exp(0.45 * own.normal("thing size", 3))
    return size * torch.where((kind == THING)[:, None], thing, own.between("held size", 0.92, 1.08, 1))


def _stick(held: _Pose, kind: Tensor) -> tuple[Tensor, Tensor]:
    """A microphone's handle; gathered in one point for the other kinds."""
    there = (kind == MICROPHONE)[:, None].float()
    end = held.at - _HANDLE_M * there * held.axes[:, 1]
    thick = torch.cat([0.0125 * there, 0.0095 * there], 1).clamp_min(1e-5)
    start = held.at + 1e-4 * held.axes[:, 1]
    return capsules(start[:, None], end[:, None], thick[:, :1], thick[:, 1:])


def _places(vertices: Tensor, held: Tensor, stick: Tensor) -> Tensor:
    """Textures' places: on an open hand, on the held body, along the stick; pieces are metres apart."""
    flat = vertices.new_zeros(1, 3, 4)
    one = vertices.new_ones(1)
    rest, _ = _hand(_bones(flat, 0 * one, -one, one[:, None]))
    each = CAPSULE_RINGS * CAPSULE_SIDES
    arm = (torch.arange(rest.shape[1], device=rest.device) // each == 15).float()[:, None]
    shift = rest.new_tensor([1.0, 0.0, 0.0])
    rest = (rest + SLEEVE * arm * shift).expand(len(vertices), -1, -1)
    return torch.cat([rest, held + OBJECT * shift, stick + STICK * shift], 1)
