"""Textured meshes of heads as pictures with exact normals: read, brought before a camera, turned, and lit.

The camera and the rasteriser are the studio's. A texture is a photograph and holds the light of its own capture; a
light multiplies it: what faces the light is as bright as the texture, what does not see it `FILL` of that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from casfne.capture.lighting.shadows import Lights, visibility
from casfne.capture.optics.camera import Camera
from casfne.capture.optics.framing import finer
from casfne.capture.optics.raster import Hits, vertex_normals
from casfne.capture.scene import rotation
from casfne.errors import InputError, one_line
from casfne.images import SIZE, Crop, srgb_to_linear
from casfne.normals import direction, normalise

CROP_M = 0.19  # side of a face's crop: 2.7 times the 7 cm from eyes to mouth
NOSE_M = 0.03  # by which the surface in the middle of the crop, the nose, lies before eyes and mouth
NECK_M = 0.08  # behind these is the axis on which a head turns
DISTANCE_M = 1.2  # from the camera to the face
FILL = 0.25  # of a texture's brightness where no light arrives; a light adds up to all the rest
LIGHT_RADIUS = 0.03  # radians: edges of shadows are a little soft
BACKGROUND = 0.2  # linear grey
LEAST_TEXTURE = 16  # pixels a side; trimesh paints meshes whose .mtl is missing with a picture of 2
LOOK = 512  # pixels of the picture in which the face is looked for
LOOK_LIGHT = (0.0, 20.0)  # azimuth, elevation: dlib takes a face that casts no shadow for a larger one
FINER = 2  # visibility is found at so many times as many pixels a side

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scan:
    """vertices float32 [V, 3]: x right, y up, z forward, any unit; normals float32 [V, 3], outward; triangles int64
    [T, 3], counter-clockwise from outside; uv float32 [V, 2], v up; texture uint8 RGB [H, W, 3], sRGB."""

    vertices: Tensor
    normals: Tensor
    triangles: Tensor
    uv: Tensor
    texture: NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """What a camera sees of a scan, H x W: albedo, the texture in linear light, float32 [H, W, 3]; normal, unit, 0 off
    the mask; mask bool [H, W]: pixels that the scan fills; shades: brightness under each light, float32 [L, H, W], 0
    off the scan; cover float32 [H, W]: the share of each pixel that the scan fills."""

    albedo: Floats
    normal: Floats
    mask: NDArray[np.bool_]
    shades: Floats
    cover: Floats

    def image(self, light: int) -> Floats:
        """Under one of the lights, before a grey wall: linear, float32 [H, W, 3]."""
        behind = (1 - self.cover)[..., None] * np.float32(BACKGROUND)
        return self.albedo * self.shades[light, ..., None] + behind


def read_scan(path: Path) -> Scan:
    """An OBJ with its one texture, which its .mtl names. InputError naming the file for anything else."""
    import trimesh

    try:
        mesh = trimesh.load_mesh(path, process=False, maintain_order=True)
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
        uv, picture = getattr(mesh.visual, "uv", None), _picture(getattr(mesh.visual, "material", None))
    except Exception as error:  # broken files lead trimesh's readers into errors of every kind
        raise InputError(f"{path}: not a mesh that can be read ({one_line(error)})") from None
    if faces.ndim != 2 or not len(faces) or not np.isfinite(vertices).all():
        raise InputError(f"{path}: expected triangles between finite vertices")
    if uv is None or len(uv) != len(vertices) or picture is None:
        raise InputError(f"{path}: no texture: expected one picture, named by map_Kd of its .mtl, and its coordinates")
    joined, number = np.unique(vertices, axis=0, return_inverse=True)  # apart where the texture's pieces meet
    number = number.reshape(-1)
    smooth = vertex_normals(torch.from_numpy(joined)[None].float(), torch.from_numpy(number[faces]))[0, number]
    return Scan(
        torch.from_numpy(vertices).float(),
        smooth,
        torch.from_numpy(faces),
        torch.from_numpy(np.asarray(uv, np.float32)),
        picture,
    )


def _picture(material: object) -> NDArray[np.uint8] | None:
    image = getattr(material, "image", None)
    if image is None or min(image.size) < LEAST_TEXTURE:
        return None
    return np.asarray(image.convert("RGB"), np.uint8)


def upright(scan: Scan, find: Callable[[NDArray[np.float32]], Crop]) -> Scan:
    """The scan in metres, the middle between its eyes and mouth at the origin, as one frontal look shows them.

    find: the face's window in a picture, linear RGB [H, W, 3]. ValueError: the window's middle shows no surface.
    """
    low, high = scan.vertices.amin(0), scan.vertices.amax(0)
    extent = float((high - low)[:2].max())
    centred = moved(scan, -(low + high) / 2, 1 / max(extent, 1e-9))
    far, middle = 10.0, (LOOK - 1) / 2
    camera = Camera(torch.tensor([far]), torch.tensor([0.9 * LOOK * far]), torch.full((1, 2), middle), LOOK, LOOK)
    crop = find(see(centred, camera, [LOOK_LIGHT]).image(0))
    x, y = (first + crop.side / 2 - 0.5 for first in (crop.left, crop.top))
    hits = _hits(centred, camera)
    at = round(min(max(y, 0), LOOK - 1)) * LOOK + round(min(max(x, 0), LOOK - 1))
    shown = (hits.pixel == at).nonzero()[:, 0]
    if not len(shown):
        raise ValueError("the middle of the face shows no surface")
    step = 1 / float(hits.nearness[shown[0]]) / float(camera.focal[0])  # of the scan's unit for a pixel
    nose = torch.tensor([(x - middle) * step, (middle - y) * step, far - 1 / float(hits.nearness[shown[0]])])
    scale = CROP_M / (crop.side * step)
    return moved(centred, -nose + torch.tensor([0, 0, NOSE_M / scale]), scale)


def moved(scan: Scan, by: Tensor, scale: float) -> Scan:
    """Moved, then scaled."""
    return replace(scan, vertices=(scan.vertices + by) * scale)


def turned(scan: Scan, yaw_deg: float, pitch_deg: float) -> tuple[Scan, Camera]:
    """An `upright` scan turned on its neck, and the camera whose picture is the face's crop."""
    turn = rotation(*(torch.tensor([angle]) for angle in (yaw_deg, pitch_deg, 0.0)))[0]
    neck = torch.tensor([0, 0, NECK_M])
    face = neck @ turn.T - neck  # where the origin goes
    middle, focal = (SIZE - 1) / 2, SIZE * DISTANCE_M / CROP_M
    centre = torch.stack([middle - focal / DISTANCE_M * face[0], middle + focal / DISTANCE_M * face[1]])
    camera = Camera((DISTANCE_M + face[2])[None], torch.tensor([focal]), centre[None], SIZE, SIZE)
    vertices = (scan.vertices + neck) @ turn.T - neck
    return replace(scan, vertices=vertices, normals=scan.normals @ turn.T), camera


def see(scan: Scan, camera: Camera, lights: Sequence[tuple[float, float]]) -> Seen:
    """What one camera sees of a scan under each of the ``lights``, distant ones by azimuth and elevation in degrees."""
    hits = _hits(scan, finer(camera, FINER))
    values = hits.mix(torch.cat([scan.vertices, scan.normals, scan.uv], -1), scan.triangles)
    points, normals = values[:, :3], torch.nn.functional.normalize(values[:, 3:6], dim=-1)
    shades = _shades(scan, points, normals, lights)
    cover, normal, uv = (_picture_of(hits, v) for v in (torch.ones(len(points), 1), normals, values[:, 6:]))
    colours = _looked_up(scan.texture, uv) * cover
    mask = _mean(cover)[..., 0] == 1
    return Seen(
        albedo=_mean(colours),
        normal=normalise(_mean(normal)) * mask[..., None],
        mask=mask,
        shades=np.moveaxis(_mean(_picture_of(hits, shades)), -1, 0),
        cover=_mean(cover)[..., 0],
    )


def _hits(scan: Scan, camera: Camera) -> Hits:
    """Triangles that face the camera: scans are open, and their insides no surface."""
    return camera.see(scan.vertices[None], scan.triangles, torch.zeros(len(scan.triangles), dtype=torch.bool))


def _shades(scan: Scan, points: Tensor, normals: Tensor, lights: Sequence[tuple[float, float]]) -> Tensor:
    """Brightness of points [N, 3] under each light, [N, L], with the shadows that the scan casts."""
    towards = torch.from_numpy(direction(*np.array(lights, np.float64).T))
    count = len(towards)
    shining = Lights(
        place=towards[None],
        near=torch.zeros(1, count, dtype=torch.bool),
        colour=torch.ones(1, count, 3),
        size=torch.full((1, count), LIGHT_RADIUS),
        ambient=torch.zeros(1, 9, 3),
    )
    sample = torch.zeros(len(points), dtype=torch.int64)
    arrives = visibility(points, normals, sample, scan.vertices[None], scan.triangles, shining, 2 * SIZE)
    return FILL + (1 - FILL) * arrives * (normals @ towards.T).clamp_min(0)


def _picture_of(hits: Hits, values: Tensor) -> Floats:
    return hits.image(values)[0].movedim(0, -1).numpy()


def _mean(fine: Floats) -> Floats:
    """Of each pixel's finer ones, [H, W, C]."""
    height, width, colours = fine.shape
    return fine.reshape(height // FINER, FINER, width // FINER, FINER, colours).mean((1, 3))


def _looked_up(texture: NDArray[np.uint8], uv: Floats) -> Floats:
    """The texture, linear [H, W, 3], at ``uv`` [H, W, 2], from a copy as coarse as the picture is."""
    height, width = texture.shape[:2]
    steps = np.abs(np.diff(uv, axis=1)) * (width, height)
    inside = uv[:, 1:].any(-1) & uv[:, :-1].any(-1)
    step = float(np.median(steps[inside].max(-1))) if inside.any() else 1.0
    times = max(int(step), 1)
    width, height = max(width // times, 1), max(height // times, 1)
    coarse = cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA)
    x, y = uv[..., 0] * width - np.float32(0.5), (1 - uv[..., 1]) * height - np.float32(0.5)
    found = cv2.remap(coarse, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return srgb_to_linear(found / np.float32(255))
