"""Of what hands and the things that they hold are made: skin with its creases and nails, sleeves, phones, mugs."""

import math

import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import Material
from casfne.capture.noise import layered, noise
from casfne.capture.wear.fabrics import dye, fabric, offsets
from casfne.capture.wear.hands import BONES, CALL, KNUCKLES, MICROPHONE, OBJECT, PHOTO, SLEEVE, STICK, THING, hand_kind
from casfne.capture.wear.meshes import ramp

_OTHER_PERSON = 0.2  # share of hands whose tone is not the face's


def hand_material(place: Tensor, sample: Tensor, draws: Draws, tone: Tensor) -> Material:
    """Skin (``tone`` [B, 3]: the face's albedo), sleeve and what is held, at ``place`` [N, 3] of samples [N]."""
    own, kind = draws.sub("hand"), hand_kind(draws)
    piece = place[:, 0].round()
    local = torch.stack([place[:, 0] - piece, place[:, 1], place[:, 2]], -1)
    piece = piece.long()
    sleeve = fabric(local, sample, own.sub("sleeve"), own.choice("sleeve pattern", (0.6, 0.12, 0.08, 0.1, 0.1, 0)))
    held = _held_material(local, sample, own, kind, piece)
    skin = _skin_material(local, sample, own, tone)
    bare = own.between("sleeve ends", -0.3, -0.05)
    bare = torch.where(own.chance("bare arm", 0.45), -1.0, bare)[sample]
    cloth = (piece == SLEEVE) & (local[:, 1] < bare)
    return _mixed(_mixed(skin, sleeve, cloth), held, piece >= OBJECT)


def _mixed(first: Material, second: Material, where: Tensor) -> Material:
    return Material(
        torch.where(where[:, None], second.albedo, first.albedo),
        torch.where(where, second.specular, first.specular),
        torch.where(where, second.roughness, first.roughness),
        torch.where(where, second.scatter, first.scatter),
        torch.where(where, second.sheen, first.sheen),
    )


def _skin_material(local: Tensor, sample: Tensor, own: Draws, tone: Tensor) -> Material:
    pale, dark = tone.new_tensor([0.58, 0.39, 0.3]), tone.new_tensor([0.1, 0.055, 0.036])
    other = torch.lerp(pale, dark, own.uniform("other tone", 1))
    base = torch.where(own.chance("other person", _OTHER_PERSON)[:, None], other, tone)
    blotches = layered(local, 0.018, offsets(own, "blotches")[sample], 2)
    pores = noise(local, 0.0012, offsets(own, "pores")[sample])[:, 0]
    red = ramp(local[:, 1], 0.02, 0.12) * 0.07 + 0.02 * blotches[:, 0] + 0.1 * _knuckles(local)
    shade = 1 + 0.06 * blotches[:, 1] + 0.05 * pores - 0.3 * _creases(local)
    flush = torch.stack([1 + 0.3 * red, 1 - 0.8 * red, 1 - 0.7 * red], -1)
    nail = _nails(local)
    albedo = base[sample] * shade[:, None] * flush
    albedo = torch.lerp(albedo, albedo * albedo.new_tensor([1.2, 1.1, 1.1]) + 0.03, nail[:, None])
    rough = 0.48 + 0.03 * blotches[:, 2] - 0.25 * nail
    one = torch.ones_like(rough)
    return Material(albedo.clamp(0.01, 0.85), 0.028 * one + 0.015 * nail, rough, 0.9 - 0.6 * nail, 0 * one)


def _knuckles(local: Tensor) -> Tensor:
    """Where the skin over the joints is redder, 0..1, on the open hand."""
    total = torch.zeros_like(local[:, 0])
    for (x, y), bones in zip(KNUCKLES, BONES, strict=True):
        for at in (0.0, bones[0], bones[0] + bones[1]):
            square = (local[:, 0] - x * (1 + 1.3 * at)) ** 2 + (local[:, 1] - y - at) ** 2
            total = total + torch.exp(-square / (2 * 0.006**2))
    return total.clamp_max(1) * ramp(local[:, 2], 0.0, 0.008)


def _creases(local: Tensor) -> Tensor:
    """Folds across the fingers' joints, 0..1."""
    total = torch.zeros_like(local[:, 0])
    for (x, y), bones in zip(KNUCKLES, BONES, strict=True):
        near = torch.exp(-(((local[:, 0] - x * 1.05) / 0.008) ** 2))
        for at in (bones[0], bones[0] + bones[1]):
            away = local[:, 1] - y - at
            total = total + near * torch.exp(-((away / 0.004) ** 2)) * (
                0.5 + 0.5 * (away * (2 * math.pi / 0.0022)).cos()
            )
    return total.clamp_max(1)


def _nails(local: Tensor) -> Tensor:
    """On the backs of the fingers' ends, 0..1."""
    total = torch.zeros_like(local[:, 0])
    for (x, y), bones in zip(KNUCKLES, BONES, strict=True):
        end = y + sum(bones) - 0.001
        away = ((local[:, 0] - x * 1.12) / 0.0052) ** 4 + ((local[:, 1] - end) / 0.0062) ** 4
        total = total + ramp(-away, -1.15, -0.85)
    return total * (local[:, 2] > 0.0015)


def _held_material(local: Tensor, sample: Tensor, own: Draws, kind: Tensor, piece: Tensor) -> Material:
    """A phone's back with its camera, a microphone's grid, a mug, cloth or wood."""
    colour, second = dye(own, "held"), dye(own, "mark")
    at = kind[sample]
    phone = (at == CALL) | (at == PHOTO)
    lens = phone & (torch.maximum((local[:, 0] + 0.02).abs(), (local[:, 1] - 0.055).abs()) < 0.012)
    glass = lens & (((local[:, 0] + 0.02) ** 2 + (local[:, 1] - 0.055) ** 2) < 0.007**2)
    metal = (at == MICROPHONE) & (piece == OBJECT)
    holes = (local[:, 1] * 2100).sin() * (torch.atan2(local[:, 0], local[:, 2]) * 48).sin()
    spots = layered(local, 0.03, offsets(own, "spots")[sample], 2)
    grain = 1 + 0.12 * spots[:, 0] * (at == THING)
    mark = own.chance("marked", 0.4)[sample] & (spots[:, 1] > 0.9)
    albedo = torch.where((mark & ~phone & ~metal)[:, None], second[sample], colour[sample]) * grain[:, None]
    albedo = torch.where(lens[:, None], albedo * 0.5 + 0.01, albedo)
    albedo = torch.where(glass[:, None], 0.01, albedo)
    albedo = torch.where(metal[:, None], (0.16 + 0.12 * holes)[:, None].expand_as(albedo), albedo)
    albedo = torch.where((piece == STICK)[:, None], 0.02, albedo)
    rough = own.between("held rough", 0.1, 0.6)[sample]
    rough = torch.where((at == THING), own.between("thing rough", 0.3, 0.95)[sample], rough)
    specular = torch.where(metal, 0.3, 0.045)
    zero = torch.zeros_like(rough)
    return Material(albedo.clamp(0.005, 0.85), specular, torch.where(glass, 0.05, rough), zero, zero)
