"""Who stands before the camera: heads with an expression and a pose, and what they wear, as one mesh a sample."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.people.appearance import Looks, sample_looks
from casfne.capture.people.fields import fields
from casfne.capture.people.heads import HeadModel, sample_expression, sample_identity
from casfne.capture.wear.clothes import clothes, neck_place, tucked
from casfne.capture.wear.glasses import Glasses, glasses
from casfne.capture.wear.hair import hair
from casfne.capture.wear.hands import hands
from casfne.capture.wear.hats import Hats, hats
from casfne.capture.wear.lashes import lashes
from casfne.capture.wear.parts import CLOTH, HAIR, LASHES, Part
from casfne.errors import InputError

# what a studio may be told to leave out, to learn what it is worth
INGREDIENTS = ("expression", "hair", "accessories", "relief", "shadows", "gloss", "surroundings", "lens")
HEAD = 0  # number of the head among a scene's parts; the others follow it


class Studio:
    """Head models, and what is made of each once; all on one device.

    ``without``: ``INGREDIENTS`` to leave out. The user's own: ``photographs`` for backgrounds (see
    `background.read_photographs`), ``environments`` for surroundings (see `environment.read_environments`).
    """

    def __init__(
        self,
        models: Sequence[HeadModel],
        without: Collection[str] = (),
        photographs: Tensor | None = None,
        environments: Tensor | None = None,
    ) -> None:
        if unknown := sorted(set(without) - set(INGREDIENTS)):
            raise InputError(f"studio without {unknown[0]!r}: expected one of {', '.join(INGREDIENTS)}")
        self.models, self.without = tuple(models), frozenset(without)
        self.photographs, self.environments = photographs, environments
        self.fields = tuple(fields(model) for model in models)

    @property
    def device(self) -> torch.device:
        """Where it renders."""
        return self.models[0].template.device


@dataclass(frozen=True)
class People:
    """B people with an expression each, in head space: vertices float32 [B, V, 3] in metres, expression [B, E], looks,
    and what they wear. ``who`` and ``moment``: the streams that made them; ``fields`` [V, F]: the model's.
    """

    model: HeadModel
    fields: Tensor
    vertices: Tensor
    expression: Tensor
    looks: Looks
    worn: tuple[Part, ...]
    glasses: Glasses
    who: Draws
    moment: Draws


@dataclass(frozen=True)
class Scene:
    """People in a pose, as meshes of one topology in world space (frame as everywhere, metres).

    vertices, place (where textures are looked up: heads on their template, parts in head space) and along (of strands)
    [B, V, 3]; triangles int64 [T, 3]; part int64 [T]: 0 the head, i + 1 ``parts[i]``; landmarks [B, 68, 3]; turn
    [B, 3, 3] of the heads.
    """

    people: People
    parts: tuple[Part, ...]
    vertices: Tensor
    triangles: Tensor
    part: Tensor
    place: Tensor
    along: Tensor
    landmarks: Tensor
    turn: Tensor

    @property
    def two_sided(self) -> Tensor:
        """Triangles without an inside: everything but heads, bool [T]."""
        return self.part != HEAD

    @property
    def casting(self) -> Tensor:
        """Triangles that cast shadows, bool [T]: lashes are too thin for shadow maps."""
        thin = [i + 1 for i, part in enumerate(self.parts) if part.kind == LASHES]
        return ~torch.isin(self.part, torch.tensor(thin, device=self.part.device))


def invite(studio: Studio, which: int, who: Draws, moment: Draws) -> People:
    """People of the studio's model number ``which`` who follow from ``who``, with the expression and the accessories of
    the ``moment``."""
    model = studio.models[which]
    expression = sample_expression(model, moment) * ("expression" not in studio.without)
    vertices = model.vertices(sample_identity(model, who), expression)
    looks = sample_looks(model, expression, who)
    hat, eyewear = hats(model, vertices, moment), glasses(model, vertices, who)
    worn: list[Part] = []
    if "hair" not in studio.without:
        worn += [*hair(model, vertices, who, female=looks.sex > 0.5, bald=looks.bald), lashes(model, vertices, who)]
    if "accessories" not in studio.without:
        worn = [_under(hat, part) if part.kind == HAIR else part for part in worn]
        worn += [eyewear.frame, _opaque(eyewear), hat.part, hands(model, vertices, moment)]
    return People(model, studio.fields[which], vertices, expression, looks, tuple(worn), eyewear, who, moment)


def _under(hat: Hats, part: Part) -> Part:
    """Hair as a hat leaves it: pressed inside, or (a scarf) not seen at all."""
    shown = part.worn & ~hat.hides_hair
    return replace(part, vertices=hat.press(part.vertices) * shown[:, None, None], worn=shown)


def _opaque(eyewear: Glasses) -> Part:
    """The lenses that hide the eyes; clear ones are only glare (see `render`)."""
    dark = eyewear.lens_opaque
    return replace(eyewear.lens, vertices=eyewear.lens.vertices * dark[:, None, None], worn=dark)


def pose(people: People, turn: Tensor) -> Scene:
    """The scene of people whose heads are turned by ``turn`` [B, 3, 3] (see `rotation`); clothes stay upright."""
    back = turn.transpose(1, 2)
    model = people.model
    head = tucked(model, people.vertices) @ back
    neck = (neck_place(model, people.vertices)[:, None] @ back)[:, 0]
    parts = (*people.worn, clothes(model, people.vertices, neck, people.moment))
    standing = [part.kind == CLOTH for part in parts]
    turned = [p.vertices if still else p.vertices @ back for p, still in zip(parts, standing, strict=True)]
    along = [p.along if still else p.along @ back for p, still in zip(parts, standing, strict=True)]
    starts = accumulate([head.shape[1], *(part.vertices.shape[1] for part in parts)])
    moved = [part.triangles + start for part, start in zip(parts, starts, strict=False)]
    numbers = [torch.full_like(part.triangles[:, 0], i + 1) for i, part in enumerate(parts)]
    return Scene(
        people=people,
        parts=parts,
        vertices=torch.cat([head, *turned], 1),
        triangles=torch.cat([model.triangles, *moved]),
        part=torch.cat([torch.zeros_like(model.region), *numbers]),
        place=torch.cat([model.template.expand_as(head), *(part.place for part in parts)], 1),
        along=torch.cat([torch.zeros_like(head), *along], 1),
        landmarks=head[:, model.landmarks],
        turn=turn,
    )


def rotation(yaw_deg: Tensor, pitch_deg: Tensor, roll_deg: Tensor) -> Tensor:
    """[B, 3, 3] of angles [B]: a head first tilted up by pitch, then turned to the right of the picture by yaw, then
    rolled counter-clockwise in the picture; rotated points are ``points @ rotation.transpose(1, 2)``."""
    (sy, cy), (sp, cp), (sr, cr) = (
        (a.sin(), a.cos()) for a in (yaw_deg.deg2rad(), pitch_deg.deg2rad(), roll_deg.deg2rad())
    )
    zero, one = torch.zeros_like(sy), torch.ones_like(sy)
    yaw = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1)
    pitch = torch.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp], -1)
    roll = torch.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], -1)
    return roll.view(-1, 3, 3) @ yaw.view(-1, 3, 3) @ pitch.view(-1, 3, 3)
