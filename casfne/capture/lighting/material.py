"""What surfaces are made of, and the classes of a portrait's mask."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

CLASSES = (
    "background",
    "face",
    "hair",
    "occluder",
    "body",
)  # face: skin of face and ears, eyes, teeth; body: neck, clothes
BACKGROUND, FACE_CLASS, HAIR_CLASS, OCCLUDER, BODY = range(5)


@dataclass(frozen=True)
class Material:
    """N surface points: albedo float32 [N, 3] (linear RGB); and [N] each: specular, the reflectance at normal incidence
    (skin 0.028); roughness (GGX's alpha is its square), 0.02..1; scatter, how soft the terminator is, 0..1;
    sheen, the rim of velvet, 0..1.
    """

    albedo: Tensor
    specular: Tensor
    roughness: Tensor
    scatter: Tensor
    sheen: Tensor

    def of(self, index: Tensor) -> "Material":
        """Some of the points, by index or mask."""
        return Material(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def join(parts: Sequence["Material"]) -> "Material":
        """The points of all ``parts``, one after the other."""
        return Material(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Material)))
