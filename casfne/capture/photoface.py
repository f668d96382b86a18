"""Simulated captures, and sessions on disk exactly as the real Photoface database lays them out.

A session is ``<root>/<subject, 4 digits>/<YYYY-MM-DD_HH-MM-SS>/`` with im0.bmp .. im3.bmp (one light each; values
are LINEAR in light, as the rig's cameras give them), LightSource.m, metadata.txt and metadataII.txt. What the real
database does not hold, the exact normals, lies apart: ``<truth>/<subject>/<session>.npz``.
"""

import datetime
import math
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import FACE_CLASS
from casfne.capture.lighting.shadows import Lights
from casfne.capture.optics.camera import Camera
from casfne.capture.people.heads import CHIN, NOSE_BRIDGE, HeadModel
from casfne.capture.render import Surface, from_light, from_surroundings, observe, shadows
from casfne.capture.scene import People, Scene, Studio, invite, pose, rotation
from casfne.capture.wear.parts import GLASSES, HAND, HAT
from casfne.files import atomic_open, write_text
from casfne.images import to_uint8, write_image

SHOTS = 4
DISTANCE = 2.0  # metres from the camera to the middle of the head
FIELD = 0.285  # metres that the picture's height spans at that distance: a head and a little air
TILTS_DEG = (45.0, 135.0, 225.0, 315.0)  # of the four lights, about the camera's axis
TILT_JITTER_DEG, ZENITH_DEG = 8.0, (25.0, 50.0)  # how they vary from session to session
EYES_AHEAD = 0.079  # metres from the middle of the head, round which it turns, to the eyes, on which lamps are set
LIGHT_RADIUS = 0.01  # of the flashes as the head sees them, radians
WHITE = 0.85  # where exposure puts the 99.5th percentile of the face under its brightest light
_Y00 = 0.5 / math.sqrt(math.pi)
_FOREHEAD = 0.045  # metres from the bridge of the nose to the mid forehead

# metadata.txt's 11 points, the third of which, the mid forehead, is not among the 68: eyes, nose, mouth, chin; each
# from the picture's left
_POINTS = (36, 39, 42, 45, 31, 30, 35, 48, 54, CHIN)


# the database's words for what a face does, with the action that tells, and how strong that must be
EMOTIONS = {
    "eyes closed": ("eyeBlink", 0.7),
    "mouth ajar": ("jawOpen", 0.2),
    "positive": ("mouthSmile", 0.25),
    "negative": ("mouthFrown", 0.25),
    "emoOther": ("browInnerUp", 0.4),
    "blankstare": ("", 0.0),
}


@dataclass(frozen=True)
class Rig:
    """The four-light studio. height, width in pixels; heads turn by up to max_yaw_deg and max_pitch_deg; noise of the
    sensor (standard deviation, of 1.0 = white); gloss, times that of real skin; ambient light (of 1.0 = one flash);
    light_distance in metres from where the eyes are of a head that looks ahead; motion of the head from flash to flash
    (standard deviation, in pixels).
    """

    height: int
    width: int
    max_yaw_deg: float
    max_pitch_deg: float
    noise: float
    gloss: float
    ambient: float
    light_distance: float
    motion: float


@dataclass(frozen=True)
class Capture:
    """Four pictures and what is known of them.

    pictures uint8 [4, H, W, 3], linear RGB; lights float64 [4, 2]: zenith and tilt in degrees; points float64
    [11, 2]: x, y in pixels, the centre of the top left pixel at (0, 0); attributes: metadataII's fields.
    Truth, of the first picture: normal float32 [H, W, 3], mask bool [H, W], albedo float32 [H, W, 3] (linear, times the
    exposure); moved float32 [4, 2]: where the head has moved to since then, x and y in pixels.
    """

    pictures: NDArray[np.uint8]
    lights: NDArray[np.float64]
    points: NDArray[np.float64]
    attributes: tuple[str, ...]
    normal: NDArray[np.float32]
    mask: NDArray[np.bool_]
    albedo: NDArray[np.float32]
    moved: NDArray[np.float32]


def capture(studio: Studio, which: int, who: Draws, moment: Draws, rig: Rig) -> list[Capture]:
    """People who follow from ``who`` (heads of the studio's model ``which``) take a pose and an expression, and are
    pictured under four lights. Each follows from its own streams alone."""
    people = invite(studio, which, who, moment)
    yaw = moment.between("yaw", -rig.max_yaw_deg, rig.max_yaw_deg)
    pitch = moment.between("pitch", -rig.max_pitch_deg, rig.max_pitch_deg)
    scene = pose(people, rotation(yaw, pitch, torch.zeros_like(yaw)))
    camera = _camera(scene, rig, moment)
    lights, angles_deg = sample_lights(rig, moment)
    moved = moment.normal("motion", SHOTS, 2).cumsum(1) * rig.motion
    moved = moved - moved[:, :1]
    first = _observe(scene, camera, rig)
    linear = []
    for shot in range(SHOTS):
        there = replace(camera, centre=camera.centre + moved[:, shot])
        surface = first if shot == 0 or rig.motion == 0 else _observe(scene, there, rig)
        linear.append(_shoot(surface, scene, _only(lights, shot)))
    return _developed(first, scene, camera, torch.stack(linear, 1), angles_deg, moved, yaw, moment, rig)


def sample_lights(rig: Rig, moment: Draws) -> tuple[Lights, Tensor]:
    """The four flashes and the room, and the flashes' zenith and tilt in degrees [B, 4, 2], float64, as exact as
    LightSource.m will say them."""
    tilt = torch.tensor(TILTS_DEG, device=moment.device) + moment.between("tilt", -1, 1, SHOTS) * TILT_JITTER_DEG
    angles_deg = torch.stack([moment.between("zenith", *ZENITH_DEG, SHOTS), tilt], -1).double()
    angles_deg = (angles_deg * 1e4).round() / 1e4
    zenith, tilt = angles_deg.deg2rad().unbind(-1)
    direction = torch.stack([zenith.sin() * tilt.cos(), zenith.sin() * tilt.sin(), zenith.cos()], -1).float()
    one = torch.ones_like(direction[..., 0])
    ambient = torch.zeros(len(moment), 9, 3, device=moment.device)
    ambient[:, 0] = rig.ambient / _Y00
    place = direction * rig.light_distance + direction.new_tensor([0, 0, EYES_AHEAD])
    return Lights(place, one > 0, torch.ones_like(place), LIGHT_RADIUS * one, ambient), angles_deg


def _only(lights: Lights, shot: int) -> Lights:
    one = slice(shot, shot + 1)
    return Lights(lights.place[:, one], lights.near[:, one], lights.colour[:, one], lights.size[:, one], lights.ambient)


def _observe(scene: Scene, camera: Camera, rig: Rig) -> Surface:
    surface = observe(scene, camera, 1)
    return replace(surface, material=replace(surface.material, specular=surface.material.specular * rig.gloss))


def _shoot(surface: Surface, scene: Scene, lights: Lights) -> Tensor:
    """Linear light [B, 3, H, W] under one flash and what the room adds."""
    radiance = from_light(surface, lights, 0, shadows(surface, scene, lights)[:, 0])
    return surface.fragments.picture(radiance + from_surroundings(surface, lights))


def _camera(scene: Scene, rig: Rig, moment: Draws) -> Camera:
    """Cameras that have crown and chin about equally far from the picture's edges."""
    middle = torch.tensor([(rig.width - 1) / 2, (rig.height - 1) / 2], device=moment.device).expand(len(moment), 2)
    far = torch.full((len(moment),), DISTANCE, device=moment.device)
    plain = Camera(far, far * (rig.height / FIELD), middle, rig.height, rig.width)
    head = plain.project(scene.vertices[:, : len(scene.people.model.template)])
    marks = plain.project(scene.landmarks)
    x = (marks[:, NOSE_BRIDGE, 0] + head[..., 0].mean(1)) / 2
    y = (head[..., 1].amin(1) + marks[:, CHIN, 1]) / 2
    off = moment.normal("off centre", 2) * (0.01 * rig.height)
    return replace(plain, centre=2 * middle - torch.stack([x, y], -1) + off)


def _developed(
    first: Surface,
    scene: Scene,
    camera: Camera,
    linear: Tensor,
    angles_deg: Tensor,
    moved: Tensor,
    yaw_deg: Tensor,
    moment: Draws,
    rig: Rig,
) -> list[Capture]:
    """Exposed, noisy 8-bit captures of linear light [B, 4, 3, H, W]."""
    front = first.fragments.front
    normal, albedo = front(first.normals), front(first.material.albedo)
    mask = (front(first.classes[:, None].float())[:, 0] == FACE_CLASS) & (normal[:, 2] > 0)
    points = camera.project(_points(scene))[..., :2]
    noise = moment.normal("noise", SHOTS, 3, rig.height, rig.width) * rig.noise
    attributes = _attributes(scene.people, yaw_deg)
    made = []
    for i in range(len(moment)):
        exposure = WHITE / linear[i].amax((0, 1))[mask[i]].quantile(0.995)
        picture = linear[i] * exposure + noise[i]
        made.append(
            Capture(
                pictures=to_uint8(picture.permute(0, 2, 3, 1).cpu()),
                lights=angles_deg[i].cpu().numpy(),
                points=points[i].double().cpu().numpy(),
                attributes=attributes[i],
                normal=normal[i].permute(1, 2, 0).cpu().numpy(),
                mask=mask[i].cpu().numpy(),
                albedo=(albedo[i] * exposure).permute(1, 2, 0).cpu().numpy(),
                moved=moved[i].cpu().numpy(),
            )
        )
    return made


def _points(scene: Scene) -> Tensor:
    """metadata.txt's 11 points, [B, 11, 3] in metres."""
    marks = scene.landmarks[:, list(_POINTS)]
    forehead = scene.vertices[:, mid_forehead(scene.people.model)]
    return torch.cat([marks[:, :2], forehead[:, None], marks[:, 2:]], 1)


def mid_forehead(model: HeadModel) -> int:
    """The vertex there."""
    bridge = model.template[model.landmarks[NOSE_BRIDGE]]
    place = model.template[:, :2] - bridge[:2] - bridge.new_tensor([0, _FOREHEAD])
    return int((place.square().sum(-1) + (model.template[:, 2] < 0)).argmin())


def _attributes(people: People, yaw_deg: Tensor) -> list[tuple[str, ...]]:
    """Of each: gender, spectacles, facial hair, pose (1 frontal .. 5 profile), quality, occlusion, emotion."""
    looks = people.looks
    worn = {part.kind: part.worn.tolist() for part in people.worn if part.kind in (GLASSES, HAND, HAT)}
    nobody = [False] * len(yaw_deg)
    emotions = _emotions(people)
    found: list[tuple[str, ...]] = []
    for i, (female, turned) in enumerate(zip((looks.sex > 0.5).tolist(), yaw_deg.abs().tolist(), strict=True)):
        glasses, hand, hat = (worn.get(kind, nobody)[i] for kind in (GLASSES, HAND, HAT))
        lip, chin = float(looks.moustache[i]) > 0.3, float(looks.jaw[i]) > 0.3
        hairs = {(False, False): "none", (True, False): "moustache", (False, True): "beard", (True, True): "both"}
        stubble = (lip or chin) and not bool(looks.bearded[i])
        facial = "stubble" if stubble else hairs[lip, chin]
        occlusion = "hand" if hand else "-other" if hat else ""
        pose_number = str(min(1 + round(turned / 22.5), 5))
        found.append(
            (
                "female" if female else "male",
                "yes" if glasses else "no",
                facial,
                pose_number,
                "ok",
                occlusion,
                emotions[i],
            )
        )
    return found


def _emotions(people: People) -> list[str]:
    """The word of ``EMOTIONS`` for the strongest action; the last where none is strong enough."""
    *actions, _ = EMOTIONS.values()
    strength = torch.stack([people.model.weight(people.expression, action) for action, _ in actions], 1)
    clear = strength * (strength > strength.new_tensor([least for _, least in actions]))
    best = torch.where(clear.any(1), clear.argmax(1), len(actions)).tolist()
    return [list(EMOTIONS)[k] for k in best]


def session_name(subject: int, session: int) -> str:
    """A date and time, YYYY-MM-DD_HH-MM-SS, that is different for every subject and session."""
    start = datetime.datetime(2008, 3, 3, 9, 0, 0)
    when = start + datetime.timedelta(days=7 * session, minutes=6 * subject, seconds=37 * subject % 60)
    return when.strftime("%Y-%m-%d_%H-%M-%S")


def write_session(root: Path, truth: Path, subject: int, session: str, made: Capture) -> Path:
    """Write a capture as ``<root>/<subject>/<session>/`` and its truth; returns the session's directory.

    The directory appears complete or not at all, after its truth; one of that name is replaced. The truth holds
    normal and albedo as float16 (normals to 0.02 degrees) and mask, [H, W, ...], the normals in our frame, and moved.
    """
    final = root / f"{subject:04d}" / session
    temporary = final.with_name(f".{session}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for i, picture in enumerate(made.pictures):
            write_image(temporary / f"im{i}.bmp", picture)
        write_text(temporary / "LightSource.m", light_source_text(made.lights))
        write_text(temporary / "metadata.txt", "".join(f"{x:.2f} {y:.2f}\n" for x, y in made.points))
        write_text(temporary / "metadataII.txt", ",".join(made.attributes) + "\n")
        _write_truth(truth / f"{subject:04d}" / f"{session}.npz", made)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def light_source_text(lights: NDArray[np.float64]) -> str:
    """LightSource.m: zenith and azimuth (about the camera's axis, from the right towards up) in degrees."""
    rows = "; ".join(f"{zenith:.4f} {tilt:.4f}" for zenith, tilt in lights)
    return f"LightSource = [{rows}];\n"


def _write_truth(path: Path, made: Capture) -> None:
    normal, albedo = made.normal.astype(np.float16), made.albedo.astype(np.float16)
    with atomic_open(path) as file:
        np.savez_compressed(file, normal=normal, mask=made.mask, albedo=albedo, moved=made.moved)
