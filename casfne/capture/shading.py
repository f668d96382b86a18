"""Skin, eyes and hair as colours, and linear light on them: Lambert, a small highlight, ambient, cast shadows.

Everything here is linear light, RGB, float32; pixels that see the head are flat lists [N, ...] in row order.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from casfne.capture.heads import EYE, EYELID, FACE, LANDMARKS_68, MOUTH, NECK, Head, Person, is_neck
from casfne.capture.raster import Camera, vertex_normals, visibility

_LIGHT_SKIN, _DARK_SKIN = np.array([0.66, 0.42, 0.31]), np.array([0.13, 0.070, 0.046])
_SHININESS = 24.0  # Blinn-Phong exponent: skin, dry to slightly oily
_EYE_GLOSS, _EYE_SHININESS = 6.0, 250.0  # a wet eye against skin
_PUPIL, _IRIS = np.cos(np.radians([10.0, 23.0]))  # half angles seen from the eyeball's centre


@dataclass(frozen=True)
class Skin:
    """A person's colours, linear RGB float32 [3] each, and blotches as plane waves over the mean head:
    wave vectors [K, 3] in radians per metre, phases [K], amplitudes [K] (shares of the tone).
    """

    tone: Tensor
    lips: Tensor
    brows: Tensor
    iris: Tensor
    hair: Tensor | None  # None: shaven
    waves: Tensor
    phases: Tensor
    amplitudes: Tensor


@dataclass(frozen=True)
class Surface:
    """What a camera sees of a head: seen bool [H, W]; for its N pixels, points [N, 3] in metres, unit normals
    [N, 3], albedo [N, 3] (linear), view [N, 3] (unit, to the camera), region int64 [N]; and the mesh itself.
    """

    seen: Tensor
    points: Tensor
    normals: Tensor
    albedo: Tensor
    view: Tensor
    region: Tensor
    vertices: Tensor
    triangles: Tensor

    def map(self, values: Tensor) -> Tensor:
        """Values [N, C] of the seen pixels as a picture [H, W, C], zero elsewhere."""
        picture = torch.zeros(*self.seen.shape, values.shape[-1], dtype=values.dtype)
        picture[self.seen] = values
        return picture

    @property
    def skin_mask(self) -> Tensor:
        """Face, scalp, ears and eyes that face the camera, without neck and inner mouth; bool [H, W]."""
        good = (self.region != NECK) & (self.region != MOUTH) & (self.normals[:, 2] > 0)
        return self.map(good[:, None])[..., 0]


def sample_skin(rng: np.random.Generator, person: Person) -> Skin:
    """Colours for a person: the tone follows the phenotype's origins, the rest varies freely."""
    weights = [person.phenotypes[name] for name in ("african", "asian", "caucasian")]
    darkness = float(np.clip(np.dot(weights, [0.85, 0.35, 0.12]) + rng.normal(0, 0.12), 0, 1))
    tone = _LIGHT_SKIN ** (1 - darkness) * _DARK_SKIN**darkness * rng.uniform(0.95, 1.05, 3)
    hair = np.array([0.035, 0.022, 0.014]) * rng.uniform(0.4, 1) * (1 + 5 * rng.random() ** 4 * (1 - darkness))
    iris = np.array([[0.07, 0.035, 0.015], [0.10, 0.09, 0.05], [0.09, 0.14, 0.20]])[
        rng.choice(3, p=[0.4 + 0.6 * darkness, 0.3 - 0.3 * darkness, 0.3 - 0.3 * darkness])
    ]
    wavelength = np.exp(rng.uniform(np.log(0.004), np.log(0.08), 40))
    axes = rng.normal(size=(40, 3))
    waves = 2 * np.pi * axes / np.linalg.norm(axes, axis=1, keepdims=True) / wavelength[:, None]
    return Skin(
        tone=_tensor(tone),
        lips=_tensor(tone * [0.78, 0.47, 0.50] * rng.uniform(0.9, 1.1)),
        brows=_tensor(hair * 1.5),
        iris=_tensor(iris),
        hair=_tensor(hair) if rng.random() < 0.8 else None,
        waves=_tensor(waves),
        phases=_tensor(rng.uniform(0, 2 * np.pi, 40)),
        amplitudes=_tensor(rng.uniform(0.3, 1, 40) * 0.12 * wavelength**0.5),
    )


def _tensor(values: NDArray) -> Tensor:
    return torch.as_tensor(np.asarray(values, np.float32))


def observe(head: Head, vertices: Tensor, skin: Skin, camera: Camera) -> Surface:
    """A head seen by a camera; ``vertices`` [V, 3] are the head's, posed."""
    raster = camera.see(vertices, head.triangles)
    seen = raster.covered

    def at(values: Tensor) -> Tensor:
        return raster.interpolate(values, head.triangles)[seen]

    points, where = at(vertices), at(head.template)
    region = head.region[raster.triangle[seen]]
    region[(region == FACE) & is_neck(where)] = NECK
    return Surface(
        seen=seen,
        points=points,
        normals=functional.normalize(at(vertex_normals(vertices, head.triangles)), dim=-1),
        albedo=paint(where, region, head, skin),
        view=functional.normalize(torch.tensor([0.0, 0.0, camera.distance]) - points, dim=-1),
        region=region,
        vertices=vertices,
        triangles=head.triangles,
    )


# --- colours, painted on the mean head ---


def paint(where: Tensor, region: Tensor, head: Head, skin: Skin) -> Tensor:
    """Albedo [N, 3] at places ``where`` [N, 3] (metres, on the mean head) of regions [N]."""
    blotch = 1 + torch.cos(where @ skin.waves.T + skin.phases) @ skin.amplitudes
    colour = skin.tone * blotch[:, None]
    front = where[:, 2] > 0.03
    colour = torch.lerp(colour, skin.lips * blotch[:, None], (_lips(where, head) * front)[:, None])
    colour = torch.lerp(colour, skin.brows.expand_as(colour), (_brows(where, head) * front)[:, None])
    if skin.hair is not None:
        colour = torch.lerp(colour, skin.hair * blotch[:, None], _scalp(where, blotch)[:, None])
    colour = torch.where((region == EYE)[:, None], _eyes(where, head, skin), colour)
    colour[region == MOUTH] = torch.tensor([0.12, 0.03, 0.03])
    return colour.clamp(0.005, 0.95)


def _lips(where: Tensor, head: Head) -> Tensor:
    """1 inside the outline of the lips, 0 outside, soft over a millimetre; [N]."""
    outline = head.template[_LIPS, :2]
    return torch.sigmoid(-_signed_distance(where[:, :2], outline) / 0.0006)


def _brows(where: Tensor, head: Head) -> Tensor:
    """How much brow hair covers the skin, 0..0.85; [N]."""
    distance = torch.stack([_polyline_distance(where[:, :2], head.template[b, :2]) for b in (_LEFT_BROW, _RIGHT_BROW)])
    return 0.85 * torch.sigmoid((0.0032 - distance.amin(0)) / 0.0007)


def _scalp(where: Tensor, blotch: Tensor) -> Tensor:
    """1 where short hair grows: above a plane from the hairline over the temples to the nape, ears left out."""
    x, y, z = where.unbind(-1)
    above = y - 0.96 * z + 0.0145 + 0.02 * (blotch - 1)
    ear = (x.abs() > 0.070) & (y < 0.010) & (z > -0.045)
    return torch.sigmoid(above / 0.003) * ~ear


def _eyes(where: Tensor, head: Head, skin: Skin) -> Tensor:
    """White, iris and pupil by the angle from the eyeball's axis; [N, 3]."""
    eyeballs = head.template[head.triangles[head.region == EYE].unique()]
    forward = torch.zeros(len(where))
    for side in (-1, 1):
        ball = eyeballs[eyeballs[:, 0] * side > 0]
        radius = (ball[:, 0].amax() - ball[:, 0].amin()) / 2
        centre = (ball.amax(0) + ball.amin(0)) / 2
        centre[2] = ball[:, 2].amax() - radius
        here = where[:, 0] * side > 0
        forward[here] = functional.normalize(where[here] - centre, dim=-1)[:, 2]
    white = torch.tensor([0.62, 0.57, 0.53]) * (0.6 + 0.4 * skin.tone.mean().sqrt())
    colour = torch.lerp(white.expand(len(where), 3), skin.iris, torch.sigmoid((forward - _IRIS) / 0.006)[:, None])
    return colour * torch.sigmoid((_PUPIL - forward) / 0.003)[:, None]


_LIPS = list(LANDMARKS_68[48:60])
_LEFT_BROW, _RIGHT_BROW = list(LANDMARKS_68[17:22]), list(LANDMARKS_68[22:27])


def _polyline_distance(points: Tensor, line: Tensor) -> Tensor:
    """Distance of points [N, 2] from the segments between the successive rows of ``line`` [K, 2]; [N]."""
    start, along = line[:-1], line[1:] - line[:-1]
    offset = points[:, None] - start  # [N, K - 1, 2]
    t = ((offset * along).sum(-1) / along.square().sum(-1)).clamp(0, 1)
    return (offset - t[..., None] * along).norm(dim=-1).amin(-1)


def _signed_distance(points: Tensor, polygon: Tensor) -> Tensor:
    """Distance of points [N, 2] from a polygon [K, 2], negative inside; [N]."""
    closed = torch.cat([polygon, polygon[:1]])
    a, b = closed[:-1], closed[1:]
    crosses = (a[:, 1] > points[:, None, 1]) != (b[:, 1] > points[:, None, 1])  # [N, K]
    x = a[:, 0] + (points[:, None, 1] - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
    inside = (crosses & (points[:, None, 0] < x)).sum(-1) % 2 == 1
    distance = _polyline_distance(points, closed)
    return torch.where(inside, -distance, distance)


# --- light ---


def shade(surface: Surface, light: Tensor, specular: float, ambient: float) -> Tensor:
    """Linear radiance [N, 3] under one distant white light of strength 1; ``light`` [3] is the unit vector to it.

    albedo * (ambient + lit * max(0, n.l)) + lit * highlight, where ``lit`` is the cast shadow's 0..1 and the
    highlight is Blinn-Phong's, ``specular`` strong on skin.
    """
    facing = (surface.normals @ light).clamp_min(0)
    lit = torch.zeros_like(facing)
    turned = facing > 0
    lit[turned] = visibility(
        surface.points[turned], surface.normals[turned], surface.vertices, surface.triangles, light
    )
    diffuse = surface.albedo * (ambient + lit * facing)[:, None]
    return diffuse + (lit * turned * specular * _highlight(surface, light))[:, None]


def _highlight(surface: Surface, light: Tensor) -> Tensor:
    """Blinn-Phong lobe of strength 1 on skin, stronger and tighter on eyes, none inside the mouth; [N]."""
    half = functional.normalize(surface.view + light, dim=-1)
    cosine = (surface.normals * half).sum(-1).clamp_min(0)
    skin = cosine**_SHININESS * ((surface.region == FACE) | (surface.region == NECK) | (surface.region == EYELID))
    return skin + _EYE_GLOSS * cosine**_EYE_SHININESS * (surface.region == EYE)


def rotation(yaw_deg: float, pitch_deg: float, roll_deg: float = 0.0) -> Tensor:
    """[3, 3]: a head first tilted up by pitch, then turned to the right of the picture by yaw, then rolled
    counter-clockwise in the picture; rotated points are ``points @ rotation.T``."""
    (sy, cy), (sp, cp), (sr, cr) = ((np.sin(a), np.cos(a)) for a in np.radians([yaw_deg, pitch_deg, roll_deg]))
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return _tensor(roll @ yaw @ pitch)
