"""Simulated sessions with exact truth, in memory, by fixed seeds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks import FACEKIT
from casfne.capture import photoface
from casfne.capture.draws import Draws
from casfne.capture.people.anny import open_head_model
from casfne.capture.scene import Studio
from casfne.normals import direction_from_zenith
from casfne.stereo.captures import Capture
from casfne.stereo.face import face_region

FAR_M = 1000.0
PLAIN = photoface.Rig(
    height=480, width=640, max_yaw_deg=15, max_pitch_deg=8, noise=0, gloss=0, ambient=0, light_distance=FAR_M, motion=0
)


@dataclass(frozen=True, eq=False)
class Session:
    """A capture and its truth: ``normal`` float32 [H, W, 3], frame opengl; ``face`` bool [H, W]: where the face is;
    ``moved`` float32 [L, 2]: x and y in pixels by which the head has moved since the first picture."""

    capture: Capture
    normal: NDArray[np.float32]
    face: NDArray[np.bool_]
    moved: NDArray[np.float32]


def studio() -> Studio:
    """Of the head models that are there: the built-in one, and facekit's where ../shared has it."""
    models = [open_head_model("anny")]
    return Studio([*models, open_head_model(str(FACEKIT))] if FACEKIT.exists() else models)


def session(place: Studio, seed: int, number: int, changes: Mapping[str, float]) -> Session:
    """Person ``number`` of ``seed``, before a rig that differs from ``PLAIN`` by ``changes``."""
    who = Draws.numbered(seed, range(number, number + 1), "cpu")
    which = number % len(place.models)
    made = photoface.capture(place, which, who, who.sub("moment"), replace(PLAIN, **changes))[0]
    lights = direction_from_zenith(*made.lights.T)
    near = changes.get("light_distance", FAR_M) < FAR_M
    positions = (lights * np.float32(changes["light_distance"])).astype(np.float32) if near else None
    capture = Capture(f"{seed}_{number}", made.pictures, lights, points=made.points, positions=positions)
    face = face_region(made.points, *made.mask.shape) & made.mask
    return Session(capture, made.normal, face, made.moved)


def varied(place: Studio, seed: int, count: int) -> Iterator[Session]:
    """Sessions of all kinds of disturbance at once: lamps at 1 to 3 m or far, gloss, noise, ambient light, motion."""
    random = np.random.default_rng(seed)
    for number in range(count):
        far = random.random() < 0.3
        changes = {
            "light_distance": FAR_M if far else float(random.uniform(1, 3)),
            "gloss": float(random.uniform(0, 1.5)),
            "noise": float(random.choice([0, 0.002, 0.005, 0.01])),
            "ambient": float(random.choice([0, 0.02, 0.05])),
            "motion": float(random.choice([0, 0.3, 0.7])),
        }
        yield session(place, seed, number, changes)
