"""Portraits: one photograph in the wild each, with everything that is known of it. A data set is a seed and a count."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.lighting.light import among, sample_lights
from casfne.capture.lighting.material import FACE_CLASS
from casfne.capture.lighting.shadows import Lights
from casfne.capture.optics.background import background
from casfne.capture.optics.camera import Camera
from casfne.capture.optics.framing import Framing
from casfne.capture.optics.lens import develop, srgb
from casfne.capture.render import Surface, from_light, from_surroundings, observe, shadows
from casfne.capture.scene import Scene, Studio, invite, pose, rotation
from casfne.capture.wear.glare import behind_lenses

FAR = 8.0  # metres from the camera: depth of the background
DISTANCE = (0.45, 4.0)  # metres: from a phone at arm's length to a telephoto lens
DIMMEST = 0.02  # of a face that no exposure brightens further, as one that is hidden
MIDDLE_TONE, TONES = 0.35, (0.1, 2.0)  # albedo of skin that is exposed so; others keep half of their difference
EXPOSURE = (0.22, 0.46)  # root mean square of the face's light; 1 is white


@dataclass(frozen=True)
class Portraits:
    """B photographs of H x W pixels and their truth.

    image uint8 [B, 3, H, W] (sRGB); normal float32 [B, 3, H, W] (our frame; zero on the background); depth
    [B, 1, H, W] metres along the axis from the camera (FAR: background); classes uint8 [B, 1, H, W]
    (`material.CLASSES`); albedo float32 [B, 3, H, W] (linear); landmarks float32 [B, 68, 2] (x, y in pixels);
    angles_deg [B, 3] (yaw, pitch, roll); lights.
    """

    image: Tensor
    normal: Tensor
    depth: Tensor
    classes: Tensor
    albedo: Tensor
    landmarks: Tensor
    angles_deg: Tensor
    lights: Lights

    @staticmethod
    def join(parts: "Sequence[Portraits]") -> "Portraits":
        """All portraits of ``parts``, one after the other."""
        return _together(parts, torch.cat)

    def to(self, device: torch.device | str) -> "Portraits":
        """The same on another device."""
        return _together([self], lambda values: values[0].to(device))

    def maps(self) -> Iterator[dict[str, NDArray]]:
        """Each portrait as arrays, channels last; mask bool [H, W]: the face; trust 1 on it."""
        for i in range(len(self.image)):
            flat = {name: getattr(self, name)[i, 0].cpu().numpy() for name in ("classes", "depth")}
            whole = {
                name: getattr(self, name)[i].movedim(0, -1).cpu().numpy() for name in ("image", "normal", "albedo")
            }
            mask = flat["classes"] == FACE_CLASS
            about = {name: getattr(self, name)[i].cpu().numpy() for name in ("landmarks", "angles_deg")}
            yield flat | whole | about | {"mask": mask, "trust": mask.astype(np.float32)}


@dataclass(frozen=True)
class Setting:
    """How portraits are taken: framing; poses by their standard deviations in degrees; zoom times as large or small;
    shift, a standard deviation in widths of the picture. Deviations are cut off at 2.5.
    """

    framing: Framing
    yaw_deg: float = 22.0
    pitch_deg: float = 10.0
    roll_deg: float = 7.0
    zoom: tuple[float, float] = (0.85, 1.2)
    shift: float = 0.03


def render(
    studio: Studio,
    seed: int,
    numbers: Sequence[int],
    setting: Setting,
    supersample: int = 2,
) -> Portraits:
    """Portraits ``numbers`` of the data set ``seed``: each follows from these two, not from its neighbours.

    Number i shows a head of the studio's model i modulo their count. Visibility is found at ``supersample`` times as
    many pixels a side.
    """
    if not len(numbers):
        raise ValueError("no portraits asked for")
    count = len(studio.models)
    made, order = [], []
    for which in range(count):
        mine = [i for i, number in enumerate(numbers) if number % count == which]
        if mine:
            draws = Draws.numbered(seed, [numbers[i] for i in mine], studio.device)
            made.append(_render(studio, which, draws, setting, supersample))
            order += mine
    back = torch.tensor(order, device=studio.device).argsort()
    return _together(made, lambda values: torch.cat(values)[back])


def _render(studio: Studio, which: int, draws: Draws, setting: Setting, supersample: int) -> Portraits:
    people = invite(studio, which, draws.sub("who"), draws.sub("moment"))
    angles = sample_angles(setting, draws)
    scene = pose(people, rotation(*angles.unbind(-1)))
    camera = _camera(setting, scene, draws)
    surface = observe(scene, camera, supersample, studio.without)
    lights = sample_lights(draws)
    if studio.environments is not None:
        lights = among(lights, studio.environments, draws)
    picture, front = surface.fragments.picture, surface.fragments.front
    depth = _depth(surface, camera)
    radiance = lit(surface, scene, lights, studio.without)
    gain = exposure(radiance, surface, draws)
    radiance = radiance * gain[surface.fragments.sample, None]
    covered = picture(torch.ones_like(radiance[:, :1]))
    behind = background(draws, camera.height, camera.width, studio.photographs)
    linear = picture(radiance) + (1 - covered).clamp_min(0) * behind
    linear = behind_lenses(linear, depth, scene, camera, _times(lights, gain), supersample, studio.without)
    image = srgb(linear.clamp(0, 1)) if "lens" in studio.without else develop(linear, depth, draws)
    return Portraits(
        image=(image * 255).round().to(torch.uint8),
        normal=front(surface.normals),
        depth=depth,
        classes=front(surface.classes[:, None].float()).to(torch.uint8),
        albedo=picture(surface.material.albedo),
        landmarks=camera.project(scene.landmarks)[..., :2],
        angles_deg=angles,
        lights=lights,
    )


def sample_angles(setting: Setting, draws: Draws) -> Tensor:
    """Yaw, pitch and roll in degrees, [B, 3]."""
    spread = torch.tensor([setting.yaw_deg, setting.pitch_deg, setting.roll_deg], device=draws.device)
    return draws.normal("angles", 3).clamp(-2.5, 2.5) * spread


def _camera(setting: Setting, scene: Scene, draws: Draws) -> Camera:
    shift = draws.normal("shift", 2).clamp(-2.5, 2.5) * setting.shift
    zoom, distance = draws.log_between("zoom", *setting.zoom), draws.log_between("distance", *DISTANCE)
    return setting.framing.camera(scene.landmarks, distance, zoom, shift)


def lit(surface: Surface, scene: Scene, lights: Lights, without: Collection[str]) -> Tensor:
    """Radiance [M, 3] under all lights and their surroundings."""
    total = from_surroundings(surface, lights) * ("surroundings" not in without)
    visible = None if "shadows" in without else shadows(surface, scene, lights)
    for number in range(lights.near.shape[1]):
        lets_through = torch.ones_like(total[:, 0]) if visible is None else visible[:, number]
        total = total + from_light(surface, lights, number, lets_through)
    return total


def exposure(radiance: Tensor, surface: Surface, draws: Draws) -> Tensor:
    """Gains [B] of radiance [M, 3]: faces, their bright parts above all, come out as photographers expose them."""
    sample, batch = surface.fragments.sample, len(draws)
    face = (surface.classes == FACE_CLASS).float() * surface.fragments.share
    bright = radiance.mean(-1).square() * face
    tone = surface.material.albedo.mean(-1) * face
    total = torch.zeros(3, batch, device=face.device).index_add_(1, sample, torch.stack([face, bright, tone]))
    level, albedo = total[1:] / total[0].clamp_min(1e-6)
    wanted = draws.log_between("exposure", *EXPOSURE) * (albedo / MIDDLE_TONE).clamp(*TONES).sqrt()
    return wanted / level.sqrt().clamp_min(DIMMEST)


def _times(lights: Lights, gain: Tensor) -> Lights:
    by = gain[:, None, None]
    return replace(lights, colour=lights.colour * by, ambient=lights.ambient * by)


def _depth(surface: Surface, camera: Camera) -> Tensor:
    sample, front = surface.fragments.sample, surface.fragments.front
    near = front(1 / (camera.distance[sample] - surface.points[:, 2])[:, None])
    return torch.where(near > 0, 1 / near, FAR)


def _together(values: Sequence[Any], how: Callable[[list[Tensor]], Tensor]) -> Any:
    """Dataclasses of tensors made into one, field by field."""
    if isinstance(values[0], Tensor):
        return how(list(values))
    names = [field.name for field in fields(values[0])]
    return type(values[0])(**{name: _together([getattr(v, name) for v in values], how) for name in names})
