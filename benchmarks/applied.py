"""Relighting and geometry against what the studio knows: the same faces under another light, and their true normals.

`python -m benchmarks.applied` prints the tables of docs/applied.md; with `--weights` (a file, or a release) also for
normals that a model predicts from the pictures.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import Result
from casfne import load
from casfne.applied.crossings import crossings
from casfne.applied.geometry import Mesh, refine, rendered, subdivided
from casfne.applied.heads import mean_head
from casfne.applied.lighting import Light
from casfne.applied.relight import Relightable, picture
from casfne.capture.draws import Draws
from casfne.capture.lighting.light import sample_lights
from casfne.capture.lighting.material import FACE_CLASS
from casfne.capture.lighting.shadows import Lights
from casfne.capture.optics.framing import training_crop
from casfne.capture.people.anny import anny_model
from casfne.capture.portraits import Setting, exposure, lit, sample_angles
from casfne.capture.render import observe
from casfne.capture.scene import Studio, invite, pose, rotation
from casfne.normals import angle_deg, normalise

Floats = NDArray[np.float32]
DIRECTIONS = ((40.0, 20.0), (-40.0, 20.0), (0.0, 45.0), (70.0, 10.0))
NEW, FILL = 1.5, 0.1  # brightness of the new light, and of the even light beside it
DISTANCE = 1.5  # metres from the camera
SIZE, SEED, COUNT, MESHES = 256, 7, 16, 4


@dataclass(frozen=True)
class Face:
    """A face of the studio: photo uint8 [S, S, 3] under some light; relit float32 [L, S, S, 3]: linear light of the
    same face under each of the new ones, everything simulated; normal [S, S, 3], mask [S, S], landmarks [68, 2]."""

    photo: NDArray[np.uint8]
    relit: Floats
    normal: Floats
    mask: NDArray[np.bool_]
    landmarks: Floats


Normals = Callable[[Face], Floats]


def faces(studio: Studio, seed: int, numbers: Sequence[int], size: int, new: Sequence[Light]) -> list[Face]:
    """Faces ``numbers`` of the data set ``seed``, as `casfne.capture.portraits.render` makes them, but for the lens."""
    draws, setting = Draws.numbered(seed, numbers, studio.device), Setting(training_crop(size))
    angles = sample_angles(setting, draws)
    scene = pose(invite(studio, 0, draws.sub("who"), draws.sub("moment")), rotation(*angles.unbind(-1)))
    ones = torch.ones(len(numbers))
    camera = setting.framing.camera(scene.landmarks, DISTANCE * ones, ones, torch.zeros(len(numbers), 2))
    surface = observe(scene, camera, 1, studio.without)

    def shot(lights: Lights, gain: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        radiance = lit(surface, scene, lights, studio.without)
        gain = exposure(radiance, surface, draws) if gain is None else gain
        return surface.fragments.picture(radiance * gain[surface.fragments.sample, None]).movedim(1, -1), gain

    old, gain = shot(sample_lights(draws))
    relit = np.stack([shot(_lights(light, len(numbers)), gain)[0].numpy() for light in new], 1)
    normal = surface.fragments.front(surface.normals).movedim(1, -1).numpy()
    mask = surface.fragments.front(surface.classes[:, None].float())[:, 0].numpy() == FACE_CLASS
    points = camera.project(scene.landmarks)[..., :2].numpy()
    return [
        Face(picture(o), *rest) for o, *rest in zip(old.clamp(0, 1).numpy(), relit, normal, mask, points, strict=True)
    ]


def _lights(light: Light, count: int) -> Lights:
    """A light of ours as the studio has them."""
    place, colour, ambient = (torch.from_numpy(v)[None] for v in (light.towards, light.colour, light.ambient))
    one = Lights(place[None], torch.zeros(1, 1, dtype=torch.bool), colour[None], torch.full((1, 1), 0.05), ambient)
    return replace(one, **{name: getattr(one, name).repeat_interleave(count, 0) for name in one.__dataclass_fields__})


def psnr(made: Floats, truth: Floats, mask: NDArray[np.bool_]) -> float:
    """Decibels between linear pictures [S, S, 3] as sRGB over the mask, once the first is as bright as the second."""
    one, other = made[mask], truth[mask]
    gain = float((one * other).sum() / max(float((one * one).sum()), 1e-9))
    error = picture(one[None] * gain).astype(np.float64) - picture(other[None])
    return float(10 * np.log10(255**2 / max(float((error**2).mean()), 1e-9)))


def flat(normals: Floats, mask: NDArray[np.bool_]) -> Floats:
    """The mean normal of the mask everywhere, [S, S, 3]."""
    return np.broadcast_to(normalise(normals[mask].mean(0)), normals.shape).copy()


def mean_map(made: Sequence[Face]) -> Floats:
    """The mean normal of the faces at each pixel, [S, S, 3]; towards the camera where there is none."""
    whole = np.sum([face.normal * face.mask[..., None] for face in made], 0)
    return normalise(np.where(whole.any(-1, keepdims=True), whole, np.float32([0, 0, 1])))


def run() -> list[Result]:
    """relight_psnr and its lead over the mean normal; by how much true normals mend a mesh, and what crosses then."""
    made = faces(Studio([anny_model()]), SEED, range(COUNT), SIZE, _new())
    own, mean = relighting(made, lambda f: f.normal), relighting(made, lambda f: flat(f.normal, f.mask))
    shapes = [geometry(face, face.normal) for face in made[:MESHES]]
    least = min(shapes, key=lambda one: one.reduction)
    what = f"{COUNT} studio faces under {len(DIRECTIONS)} new lights, from their true normals"
    return [
        Result("relight_psnr", own, "dB", what),
        Result("relight_over_mean_normal", own - mean, "dB", f"the same, against the mean normal's {mean:.2f} dB"),
        Result("geometry_reduction", least.reduction, "share", f"of {least.base_deg:.2f} deg; least of {MESHES} faces"),
        Result("geometry_crossings", sum(one.crossings for one in shapes), "pairs", "of triangles, new in those"),
    ]


def _new() -> list[Light]:
    return [Light.directional(*angles, NEW, FILL) for angles in DIRECTIONS]


def relighting(made: Sequence[Face], normals: Normals) -> float:
    """Mean PSNR of faces relit by ``normals`` of each, dB."""
    values = []
    for face in made:
        taken = Relightable.of(face.photo, normals(face), face.mask)
        values += [psnr(taken.under(new), truth, face.mask) for new, truth in zip(_new(), face.relit, strict=True)]
    return float(np.mean(values))


@dataclass(frozen=True)
class Shape:
    """What refining made of one head. base_deg, refined_deg: mean angle of the rendered normals to the true ones over
    the face; crossings: pairs of triangles that cross in the refined mesh and did not in the base."""

    base_deg: float
    refined_deg: float
    crossings: int

    @property
    def reduction(self) -> float:
        """The share of the base's error that is gone."""
        return 1 - self.refined_deg / self.base_deg


def geometry(face: Face, normals: Floats) -> Shape:
    """The mean head, placed by the face's 68 points, refined by ``normals``."""
    base = mean_head(normals, face.mask, face.landmarks)
    made = refine(base, normals, face.mask).mesh
    before, after = (_error(mesh, face) for mesh in (base, made))
    return Shape(before, after, new_crossings(subdivided(base, face.mask), made))


def _error(mesh: Mesh, face: Face) -> float:
    depth, shown = rendered(mesh, *face.mask.shape)
    return float(angle_deg(shown, face.normal)[face.mask & np.isfinite(depth)].mean())


def new_crossings(base: Mesh, made: Mesh) -> int:
    """Pairs of triangles that cross in ``made`` alone, those left aside that have not moved against each other: what
    touches may cross by rounding."""
    before, after = ({tuple(pair) for pair in crossings(m.vertices, m.triangles).tolist()} for m in (base, made))
    moved = (made.vertices - base.vertices)[:, 2]
    return sum(float(np.ptp(moved[made.triangles[list(pair)]])) > 1e-9 for pair in after - before)


def main() -> None:
    """The tables."""
    parser = argparse.ArgumentParser(description="What normals are worth for relighting and geometry.")
    parser.add_argument("--weights", help="a release's name or a file: also the normals that it predicts")
    given = parser.parse_args()
    made = faces(Studio([anny_model()]), SEED, range(COUNT), SIZE, _new())
    average = mean_map(made)
    ways: dict[str, Normals] = {
        "mean normal of the face": lambda f: flat(f.normal, f.mask),
        "mean map of all faces": lambda _: average,
    }
    own: dict[str, Normals] = {"true normals": lambda f: f.normal}
    if given.weights:
        predictor = load(given.weights)
        own["predicted normals"] = lambda f: predictor.predict(f.photo)[0]
    for name, way in (ways | own).items():
        print(f"relit by the {name}: {relighting(made, way):.2f} dB", flush=True)
    for name, way in own.items():
        _print_geometry(name, made, way)


def _print_geometry(name: str, made: Sequence[Face], way: Normals) -> None:
    print(f"\ngeometry by the {name}\nhead  error of normals  base mesh  refined  reduction  new crossings")
    shapes = []
    for number, face in enumerate(made):
        normals = way(face)
        wrong = float(angle_deg(normals, face.normal)[face.mask].mean())
        shapes.append(one := geometry(face, normals))
        figures = f"{wrong:13.2f} deg  {one.base_deg:5.2f} deg  {one.refined_deg:3.2f} deg  {one.reduction:8.1%}"
        print(f"{number:4d}  {figures}  {one.crossings:13d}", flush=True)
    before, after = (float(np.mean([getattr(one, key) for one in shapes])) for key in ("base_deg", "refined_deg"))
    least = min(one.reduction for one in shapes)
    print(f"mean {before:.2f} deg before, {after:.2f} after; least reduction {least:.1%}")


if __name__ == "__main__":
    main()
