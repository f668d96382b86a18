"""From a scene to light: what cameras see of it, what that is made of, and how it looks under lights."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.lighting import light
from casfne.capture.lighting.material import BODY, FACE_CLASS, HAIR_CLASS, OCCLUDER, Material
from casfne.capture.lighting.shadows import Lights, visibility
from casfne.capture.optics.camera import Camera
from casfne.capture.optics.fragments import Fragments, gather
from casfne.capture.optics.framing import finer
from casfne.capture.optics.raster import Hits, vertex_normals
from casfne.capture.people.detail import relief_normals
from casfne.capture.people.fields import OPENNESS
from casfne.capture.people.looks import classes, paint
from casfne.capture.people.skin import reflectance
from casfne.capture.scene import HEAD, Scene
from casfne.capture.wear.clothes import cloth_material
from casfne.capture.wear.glasses import glasses_material, lens_material
from casfne.capture.wear.hair import hair_material
from casfne.capture.wear.hand_material import hand_material
from casfne.capture.wear.hats import hat_material
from casfne.capture.wear.lashes import lashes_material
from casfne.capture.wear.parts import CLOTH, GLASSES, HAIR, HAND, HAT, LASHES, LENS

CLASS_OF_PART = {
    HAIR: HAIR_CLASS,
    GLASSES: OCCLUDER,
    LENS: OCCLUDER,
    HAT: OCCLUDER,
    HAND: OCCLUDER,
    CLOTH: BODY,
    LASHES: FACE_CLASS,
}
_TEXELS = 1.5  # of a shadow map's side for each pixel of the picture's
_MOST_TEXELS = 1024
_HAIR_OPENNESS = 0.7  # strands lie among others


@dataclass(frozen=True)
class Surface:
    """The M fragments that cameras see: points [M, 3] (metres, world), view [M, 3] (unit, to the camera), normals
    [M, 3] (unit, of the displaced surface: the truth), smooth [M, 3] (of the mesh), along [M, 3] (of strands, else
    zeros), material, classes int64 [M], openness [M] (share of the surroundings' light that arrives).
    """

    fragments: Fragments
    points: Tensor
    view: Tensor
    normals: Tensor
    smooth: Tensor
    along: Tensor
    material: Material
    classes: Tensor
    openness: Tensor


def observe(scene: Scene, camera: Camera, supersample: int, without: Collection[str] = ()) -> Surface:
    """What ``camera`` sees of each sample, visibility at ``supersample`` times as many pixels a side; ``without``: of
    `scene.INGREDIENTS`, relief and gloss."""
    hits = finer(camera, supersample).see(scene.vertices, scene.triangles, scene.two_sided)
    fragments = gather(hits, scene.part, supersample)
    normals = vertex_normals(scene.vertices, scene.triangles)
    mixed = fragments.mean(hits.mix(torch.cat([scene.vertices, normals], -1), scene.triangles))
    points, smooth = mixed[:, :3], functional.normalize(mixed[:, 3:], dim=-1)
    eye = functional.pad(camera.distance[:, None], (2, 0))[fragments.sample]
    view = functional.normalize(eye - points, dim=-1)
    away = ((smooth * view).sum(-1) < 0) & (fragments.part != HEAD)
    smooth = torch.where(away[:, None], -smooth, smooth)
    footprint = (camera.distance / camera.focal)[fragments.sample]
    surface = _dressed(scene, hits.of(fragments.first), fragments, points, view, smooth, footprint)
    if "relief" in without:
        surface = replace(surface, normals=smooth)
    if "gloss" in without:
        matte = torch.zeros_like(footprint)
        surface = replace(surface, material=replace(surface.material, specular=matte, sheen=matte))
    return surface


def _dressed(
    scene: Scene, hits: Hits, fragments: Fragments, points: Tensor, view: Tensor, smooth: Tensor, footprint: Tensor
) -> Surface:
    """Materials, classes and fine relief, part by part."""
    mixed = hits.mix(torch.cat([scene.place, scene.along], -1), scene.triangles)
    place, along = mixed[:, :3], functional.normalize(mixed[:, 3:], dim=-1)
    normals, openness, kinds = smooth.clone(), torch.ones_like(footprint), torch.empty_like(fragments.part)
    order, materials = [], []
    for number in range(len(scene.parts) + 1):
        index = (fragments.part == number).nonzero()[:, 0]
        where, sample = place[index], fragments.sample[index]
        order.append(index)
        if number == HEAD:
            own = _Head(scene, hits.of(index), where, footprint[index])
            normals[index], openness[index] = own.relief(smooth[index]), own.openness
            kinds[index] = own.classes
            materials.append(own.material)
        else:
            kind = scene.parts[number - 1].kind
            materials.append(_material(kind, scene, where, along[index], sample))
            kinds[index] = CLASS_OF_PART[kind]
            openness[index] = _HAIR_OPENNESS if kind == HAIR else 1.0
    material = Material.join(materials).of(torch.cat(order).argsort())
    return Surface(fragments, points, view, normals, smooth, along, material, kinds, openness)


class _Head:
    """The head's own fragments."""

    def __init__(self, scene: Scene, hits: Hits, where: Tensor, footprint: Tensor) -> None:
        self.scene, self.hits, self.where, self.footprint = scene, hits, where, footprint
        self.region = scene.people.model.region[hits.triangle]
        self.fields = hits.mix(scene.people.fields, scene.triangles)

    @property
    def _about(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.where, self.region, self.fields, self.hits.sample

    @property
    def material(self) -> Material:
        return paint(*self._about, self.scene.people.looks, self.footprint)

    @property
    def classes(self) -> Tensor:
        return classes(*self._about, self.scene.people.looks)

    @property
    def openness(self) -> Tensor:
        return self.fields[:, OPENNESS]

    def relief(self, smooth: Tensor) -> Tensor:
        people = self.scene.people
        corners = self.scene.triangles[self.hits.triangle]
        head = self.scene.vertices[:, : len(people.model.template)]
        shape = corners, head, people.model.template, people.fields
        return relief_normals(smooth, *shape, self.where, self.fields, self.hits.sample, people.looks, self.footprint)


def _material(kind: int, scene: Scene, place: Tensor, along: Tensor, sample: Tensor) -> Material:
    people, looks = scene.people, scene.people.looks
    tone = reflectance(looks.melanin, looks.blood)
    if kind == HAIR:
        return hair_material(place, along, sample, looks.hair_colour, people.who)
    if kind == LASHES:
        return lashes_material(place, sample, looks.hair_colour, people.who)
    if kind == HAND:
        return hand_material(place, sample, people.moment, tone)
    if kind == CLOTH:
        return cloth_material(place, sample, people.moment, tone)
    if kind == HAT:
        return hat_material(place, sample, people.moment)
    return (lens_material if kind == LENS else glasses_material)(place, sample, people.who)


def shadows(surface: Surface, scene: Scene, lights: Lights) -> Tensor:
    """How much of each light reaches each fragment, [M, L] in 0..1."""
    casting = scene.casting
    return visibility(
        surface.points,
        surface.smooth,
        surface.fragments.sample,
        scene.vertices,
        scene.triangles[casting],
        lights,
        min(round(_TEXELS * max(surface.fragments.size[1:])), _MOST_TEXELS),
        scene.two_sided[casting],
    )


def from_light(surface: Surface, lights: Lights, number: int, visible: Tensor) -> Tensor:
    """Radiance [M, 3] that light ``number`` alone sends to the camera; ``visible`` [M]."""
    sample = surface.fragments.sample
    towards, colour = lights.towards(surface.points, sample, number)
    spread = lights.size[sample, number]
    return light.direct(
        surface.normals, surface.view, surface.material, towards, colour, visible, surface.along, spread
    )


def from_surroundings(surface: Surface, lights: Lights) -> Tensor:
    """Radiance [M, 3] of the lights' surroundings."""
    sample = surface.fragments.sample
    return light.environment(surface.normals, surface.view, surface.material, sample, lights.ambient, surface.openness)
