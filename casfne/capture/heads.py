"""People: head meshes sampled from anny, a parametric human whose data are in the public domain (CC0).

Heads live in the project's frame (x right in the picture, y up, z to the camera), in metres, facing +z, with the
origin inside the head halfway between chin and crown. Left and right are those of the picture.
The first head on a machine takes about a minute while anny fills its cache (``ANNY_CACHE_DIR`` moves it).
"""

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

REGIONS = ("face", "eye", "eyelid", "mouth", "neck")
FACE, EYE, EYELID, MOUTH, NECK = range(5)  # EYELID: the inner side of the lids; MOUTH: what lies behind the lips
EMOTIONS = ("blankstare", "positive", "negative", "emoOther", "mouth ajar", "eyes closed")

# iBUG order, in pairs of (left of the picture, right of the picture) where a point has a mirror image
# fmt: off
LANDMARKS_68 = (
    1592, 1541, 1447, 1593, 1596, 737, 1581, 1577, 1580, 3636, 3639, 2827, 3654, 3651, 3511, 3602, 3650,  # jaw
    212, 206, 204, 177, 209, 2354, 2323, 2349, 2351, 2357,  # brows
    132, 131, 201, 1409, 286, 309, 317, 2443, 2425,  # nose: bridge to tip, then its base
    1027, 1020, 1036, 1040, 1033, 1030, 3108, 3104, 3088, 3095, 3098, 3101,  # eyes
    425, 447, 450, 455, 2580, 2577, 2555, 2603, 2615, 496, 490, 478,  # outer lips
    444, 472, 474, 2598, 2574, 2612, 493, 487,  # inner lips
)
MID_FOREHEAD = 1675

# shape changes that anny keeps apart for the two sides, and those that it does not
_PAIRED = [
    "cheek-trans-up", "cheek-volume-incr", "cheek-inner-incr", "cheek-bones-incr", "ear-scale-incr",
    "ear-wing-incr", "ear-trans-up", "eye-corner1-up", "eye-corner2-up", "eye-height1-incr",
    "eye-height2-incr", "eye-height3-incr", "eye-scale-incr", "eye-push1-out", "eye-push2-out",
    "eye-eyefold-angle-up", "eye-eyefold-up", "eye-bag-incr", "eye-epicanthus-out", "eye-trans-out",
    "eye-trans-up",
]
_SINGLE = [
    "chin-jaw-drop-incr", "chin-height-incr", "chin-prominent-incr", "chin-bones-incr", "chin-width-incr",
    "chin-cleft-incr", "chin-prognathism-incr", "eyebrows-angle-up", "eyebrows-trans-up",
    "eyebrows-trans-forward", "forehead-temple-incr", "forehead-trans-forward", "forehead-scale-vert-incr",
    "forehead-nubian-incr", "head-scale-vert-incr", "head-scale-horiz-incr", "head-scale-depth-incr",
    "head-fat-incr", "head-back-scale-depth-incr", "mouth-lowerlip-height-incr", "mouth-scale-horiz-incr",
    "mouth-cupidsbow-incr", "mouth-laugh-lines-out", "mouth-lowerlip-volume-incr", "mouth-angles-up",
    "mouth-trans-forward", "mouth-scale-vert-incr", "mouth-upperlip-height-incr",
    "mouth-upperlip-volume-incr", "mouth-trans-up", "mouth-philtrum-volume-incr", "nose-flaring-incr",
    "nose-curve-convex", "nose-scale-depth-incr", "nose-scale-vert-incr", "nose-point-width-incr",
    "nose-scale-horiz-incr", "nose-width1-incr", "nose-width2-incr", "nose-width3-incr", "nose-trans-forward",
    "nose-trans-up", "nose-hump-incr", "nose-nostrils-width-incr", "nose-greek-incr", "nose-point-up",
    "nose-septumangle-incr", "nose-base-up", "nose-volume-incr",
]
# fmt: on
_CHANGE_SPREAD, _ASYMMETRY = 0.22, 0.04  # standard deviations, of 1.0 = the largest change modelled


@dataclass(frozen=True)
class Person:
    """Who it is: anny's phenotypes (0..1; gender 1 is female) and local changes (-1..1) by name."""

    phenotypes: dict[str, float]
    changes: dict[str, float]

    @property
    def gender(self) -> str:
        """As Photoface's metadata say it."""
        return "female" if self.phenotypes["gender"] > 0.5 else "male"


@dataclass(frozen=True)
class Expression:
    """What the face does: a name from ``EMOTIONS`` and facial actions (0..1) by their ARKit names."""

    emotion: str
    actions: dict[str, float]


@dataclass(frozen=True)
class Head:
    """A mesh: vertices float32 [V, 3] in metres, triangles int64 [T, 3] (counter-clockwise from outside), region
    int64 [T] (numbers of ``REGIONS``, the neck still counted as face: see ``is_neck``), and template float32
    [V, 3]: where each vertex lies on the mean head.
    """

    vertices: Tensor
    triangles: Tensor
    region: Tensor
    template: Tensor

    @property
    def landmarks_68(self) -> Tensor:
        """The 68 points in iBUG order, float32 [68, 3] in metres."""
        return self.vertices[list(LANDMARKS_68)]

    @property
    def mid_forehead(self) -> Tensor:
        """float32 [3] in metres."""
        return self.vertices[MID_FOREHEAD]


def sample_person(rng: np.random.Generator) -> Person:
    """An adult: any mix of anny's three origins, any age and build, moderate and nearly symmetric changes."""
    origins = rng.dirichlet([0.5, 0.5, 0.5])
    phenotypes = {
        "gender": float(np.clip(rng.normal(rng.integers(2), 0.12), 0, 1)),
        "age": float(rng.uniform(0.55, 1.0)),
        "weight": float(np.clip(rng.normal(0.5, 0.2), 0.05, 0.95)),
        "muscle": float(rng.uniform(0.3, 0.7)),
        **{name: float(share) for name, share in zip(("african", "asian", "caucasian"), origins, strict=True)},
    }
    changes = {name: _change(rng) for name in _SINGLE}
    for name in _PAIRED:
        common = _change(rng)
        changes |= {f"{side}-{name}": common + float(rng.normal(0, _ASYMMETRY)) for side in "lr"}
    return Person(phenotypes, changes)


def _change(rng: np.random.Generator) -> float:
    return float(np.clip(rng.normal(0, _CHANGE_SPREAD), -0.5, 0.5))


def sample_expression(rng: np.random.Generator) -> Expression:
    """One of ``EMOTIONS``, half of the time the blank stare, with its strength and the gaze varied."""
    emotion = str(rng.choice(EMOTIONS, p=[0.5, 0.2, 0.1, 0.08, 0.08, 0.04]))
    strength = float(rng.uniform(0.35, 0.9))
    moves = {
        "blankstare": {},
        "positive": {"mouthSmile": 0.8, "cheekSquint": 0.5, "mouthDimple": 0.3},
        "negative": {"mouthFrown": 0.8, "browDown": 0.8, "noseSneer": 0.3},
        "emoOther": {"browInnerUp": 0.9, "browOuterUp": 0.7, "eyeWide": 0.5, "jawOpen": 0.1},
        "mouth ajar": {"jawOpen": 0.35},
        "eyes closed": {"eyeBlink": 1.0 / strength},
    }[emotion]
    look, sideways = ("Up", "Down")[rng.integers(2)], float(rng.uniform(-0.25, 0.25))
    actions = {f"eyeLook{look}": float(rng.uniform(0, 0.2))} | {k: v * strength for k, v in moves.items()}
    # one eye looks towards the nose where the other looks away from it
    gaze = {f"eyeLook{'In' if sideways > 0 else 'Out'}Left": abs(sideways)}
    gaze[f"eyeLook{'Out' if sideways > 0 else 'In'}Right"] = abs(sideways)
    return Expression(emotion, _both_sides(actions) | gaze)


def _both_sides(actions: dict[str, float]) -> dict[str, float]:
    single = {"browInnerUp", "jawOpen"}
    paired = {f"{k}{side}": v for k, v in actions.items() if k not in single for side in ("Left", "Right")}
    return paired | {k: v for k, v in actions.items() if k in single}


def build_head(person: Person, expression: Expression) -> Head:
    """The mesh of a person with an expression; the same input gives the same head."""
    model, region, template = _model()
    with torch.no_grad():
        result = model(
            phenotype_kwargs=person.phenotypes,
            local_changes_kwargs=person.changes,
            facial_actions=expression.actions,
        )
    vertices = _to_our_frame(result["vertices"][0])
    return Head(vertices, model.get_triangular_faces().long(), region, template)


def is_neck(where: Tensor) -> Tensor:
    """Which places [N, 3] of the mean head lie below a plane from just behind the chin up to the nape; bool [N].

    Asked per pixel, since the mesh has no edges along such a line.
    """
    return where[:, 1] < -0.1165 + 0.35 * (0.079 - where[:, 2])


@lru_cache(maxsize=1)
def _model() -> tuple[Any, Tensor, Tensor]:
    """anny's model, the region of each triangle, and the mean head's vertices."""
    model = _cached_model()
    mean = {"gender": 0.5, "age": 2 / 3, "african": 1 / 3, "asian": 1 / 3, "caucasian": 1 / 3}
    with torch.no_grad():
        template = _to_our_frame(model(phenotype_kwargs=mean)["vertices"][0])
    return model, _regions(model), template


def _cached_model() -> Any:
    """anny's head model, built once on a machine.

    anny writes its cache in place: a run that is killed, or another at the same time, would leave or meet half
    a file. So it is built in a folder of its own, which gets its name when it is whole; of its 0.6 GB only the
    model itself, 40 MB, is kept.
    """
    import anny  # here, not above: it takes seconds
    from anny.paths import get_anny_cache_path, set_anny_cache_path

    shared = get_anny_cache_path()
    final = shared / f"casfne-anny-{anny.__version__}"
    if not final.is_dir():
        shared.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=shared, prefix=".casfne-") as temporary:
            built = Path(temporary) / "built"
            set_anny_cache_path(built)
            _make_model(anny)
            for part in [*built.rglob("load_data_*"), *built.rglob("build_model_data_*")]:
                part.unlink()
            with suppress(OSError):  # another process was quicker
                built.rename(final)
    set_anny_cache_path(final)
    try:
        return _make_model(anny)
    finally:
        set_anny_cache_path(shared)


def _make_model(anny: Any) -> Any:
    return anny.Anny(
        rig="makehuman-head",
        topology="head",
        phenotypes="all",
        local_changes=[f"{side}-{name}" for name in _PAIRED for side in "lr"] + _SINGLE,
        facial_actions="all",
        skinning_method="lbs",  # the default compiles kernels and prints a banner
    )


def _to_our_frame(vertices: Tensor) -> Tensor:
    """anny's vertices (x right, y away from the camera, z up) in our frame and round our origin; float32."""
    ours = torch.stack([vertices[:, 0], vertices[:, 2], -vertices[:, 1]], -1)
    top, chin = ours[:, 1].amax(), ours[LANDMARKS_68[8], 1]
    middle = torch.stack([ours[LANDMARKS_68[27], 0], (top + chin) / 2, ours[LANDMARKS_68[27], 2] - 0.097])
    return (ours - middle).float()


def _regions(model: Any) -> Tensor:
    """Region number of each triangle, int64 [T], from anny's segmentation."""
    from anny.face_segmentation import get_face_segmentation_mask

    parts = {
        EYE: ["eye_front.L", "eye_front.R", "eye_back.L", "eye_back.R"],
        EYELID: ["eye_cavity.L", "eye_cavity.R"],
        MOUTH: ["mouth_cavity", "tongue"],
    }
    region = torch.full((len(model.faces),), FACE)
    for number, labels in parts.items():
        region[get_face_segmentation_mask(model, labels)] = number
    return region
