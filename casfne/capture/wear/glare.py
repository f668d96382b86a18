"""Clear and tinted lenses: a layer over the picture that dims what lies behind it and mirrors what lies before it."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.lighting import light
from casfne.capture.lighting.material import Material
from casfne.capture.lighting.shadows import Lights
from casfne.capture.optics.camera import Camera
from casfne.capture.optics.fragments import Fragments, gather
from casfne.capture.optics.framing import finer
from casfne.capture.optics.raster import vertex_normals
from casfne.capture.scene import Scene
from casfne.capture.wear.glasses import lens_looks

_ROUGHNESS = 0.03  # of polished plastic
_SQUARE = 0.6  # share of lights whose mirror image is a square: soft boxes, windows
_SMALLEST = 0.02  # radians: a smaller light's image falls between pixels
_EDGE = 0.15  # width of an image's edge in radii
_UPRIGHT = (0.0, 1.0, 1e-3)  # of squares; not quite, so that a light overhead has a right side too


def behind_lenses(
    linear: Tensor,
    depth: Tensor,
    scene: Scene,
    camera: Camera,
    lights: Lights,
    supersample: int,
    without: Collection[str] = (),
) -> Tensor:
    """The picture ``linear`` [B, 3, H, W] (linear RGB) behind the clear and tinted lenses of those who wear them.

    depth [B, 1, H, W] metres from the camera: a lens is seen where it is nearer. lights: on the scale of ``linear``.
    Light is dimmed once, on its way to the camera. ``without``: of `scene.INGREDIENTS`, accessories, gloss and
    surroundings.
    """
    eyewear = scene.people.glasses
    index = (eyewear.lens.worn & ~eyewear.lens_opaque).nonzero()[:, 0]
    if len(index) == 0 or "accessories" in without:
        return linear
    sheet = _sheet(scene, camera, index, depth[index], supersample)
    looks = lens_looks(scene.people.who)
    share, picture = sheet.share[:, None], sheet.fragments.picture
    lost = picture(share * (1 - looks.transmission[sheet.sample]))
    mirrored = _mirrored(sheet, looks.reflectance[sheet.sample], scene, lights, without)
    added = picture(share * mirrored) * ("gloss" not in without)
    return linear.index_copy(0, index, linear[index] * (1 - lost) + added)


@dataclass(frozen=True)
class _Sheet:
    """The M pixels with a lens: sample int64 [M] of the whole batch; share [M] of the lens there that is not hidden;
    points, view, normals [M, 3] (metres, unit, unit)."""

    fragments: Fragments
    sample: Tensor
    share: Tensor
    points: Tensor
    view: Tensor
    normals: Tensor


def _sheet(scene: Scene, camera: Camera, index: Tensor, depth: Tensor, supersample: int) -> _Sheet:
    lens = scene.people.glasses.lens
    vertices = lens.vertices[index] @ scene.turn[index].transpose(1, 2)
    some = replace(camera, distance=camera.distance[index], focal=camera.focal[index], centre=camera.centre[index])
    hits = finer(some, supersample).see(vertices, lens.triangles)
    fragments = gather(hits, torch.zeros_like(lens.triangles[:, 0]), supersample)
    shown = depth.flatten()[fragments.place[fragments.owner]] > Camera.depth(hits.nearness)
    mixed = hits.mix(torch.cat([vertices, vertex_normals(vertices, lens.triangles)], -1), lens.triangles)
    mixed = fragments.mean(torch.cat([mixed, shown[:, None].float()], -1))
    points, normals = mixed[:, :3], functional.normalize(mixed[:, 3:6], dim=-1)
    sample = index[fragments.sample]
    eye = functional.pad(camera.distance[:, None], (2, 0))[sample]
    view = functional.normalize(eye - points, dim=-1)
    away = (normals * view).sum(-1, keepdim=True) < 0
    return _Sheet(fragments, sample, mixed[:, 6], points, view, torch.where(away, -normals, normals))


def _mirrored(sheet: _Sheet, reflectance: Tensor, scene: Scene, lights: Lights, without: Collection[str]) -> Tensor:
    """Radiance [M, 3] that lenses send to the camera: nothing shades them, the rest of the head is not seen in them."""
    nothing, whole = torch.zeros_like(reflectance), torch.ones_like(reflectance)
    black = torch.zeros_like(sheet.points)
    polished = Material(black, reflectance, torch.full_like(reflectance, _ROUGHNESS), nothing, nothing)
    total = light.environment(sheet.normals, sheet.view, polished, sheet.sample, lights.ambient, whole)
    total = total * ("surroundings" not in without)
    facing = (sheet.normals * sheet.view).sum(-1, keepdim=True)
    mirror = 2 * facing * sheet.normals - sheet.view
    share = reflectance[:, None] + (1 - reflectance[:, None]) * (1 - facing).clamp(0, 1) ** 5  # Schlick 1994
    square = scene.people.moment.sub("glare").uniform("square", lights.near.shape[1]) < _SQUARE
    for number in range(lights.near.shape[1]):
        towards, colour = lights.towards(sheet.points, sheet.sample, number)
        size = lights.size[sheet.sample, number].clamp_min(_SMALLEST)
        total = total + share * colour * _disc(mirror, towards, size, square[sheet.sample, number])[:, None]
    return total


def _disc(mirror: Tensor, towards: Tensor, size: Tensor, square: Tensor) -> Tensor:
    """Radiance [M] in directions ``mirror`` of an even disc, or (``square`` bool [M]) a square of the same area, whose
    middle lies ``towards`` [M, 3] and whose irradiance is 1; size [M]: its angular radius in radians."""
    right = functional.normalize(torch.linalg.cross(towards.new_tensor(_UPRIGHT).expand_as(towards), towards), dim=-1)
    away = mirror - towards
    across = (away * right).sum(-1).abs()
    length = away.norm(dim=-1)
    up = (length.square() - across.square()).clamp_min(0).sqrt()
    side = torch.maximum(across, up) * (2 / math.pi**0.5)
    edge = (_EDGE * size).clamp_min(_SMALLEST / 2)
    inside = ((size - torch.where(square, side, length)) / edge + 0.5).clamp(0, 1)
    return inside / size.sin().square()
