"""Makes the npz file of a head model from a clone of the public ICT-FaceKit repository (MIT licence)."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.capture.people.heads import REGIONS
from casfne.errors import InputError
from casfne.files import atomic_open

# The repository's README gives the order of the parts. Past the eyeballs come transparent shells and lashes: left out.
_VERTICES = 24591
_PARTS = (  # end of the polygons, region
    (9230, "face"),
    (14034, "head"),  # head and neck, then the sockets of mouth and eyes
    (17006, "mouth"),  # gums and tongue
    (21496, "teeth"),
    (22296, "sclera"),
    (23094, "iris"),
    (23894, "sclera"),
    (24692, "iris"),
)
_IDENTITIES = 100
_FOLDER, _NEUTRAL, _NAMES = "FaceXModel", "generic_neutral_mesh", "vertex_indices.json"
_ASYMMETRY_CM = 0.1  # of the jaw's landmarks, at most; early versions of the repository had another order of vertices

# "Multi-PIE 68 point facial landmarks indices" of the README
# fmt: off
_LANDMARKS_68 = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,  # jaw
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509,  # brows
    978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,  # nose
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,  # eyes
    5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841,  # outer lips
    5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,  # inner lips
)
# fmt: on

Corner = tuple[int, int]  # a vertex and a texture coordinate, from 0


def import_facekit(folder: Path | str, out: Path | str) -> None:
    """Write the head model of a clone of ICT-FaceKit (its root, or its FaceXModel) as the npz file ``out``.

    Keys: vertices float32 [V, 3] (centimetres, y up, z out of the face), triangles int32 [T, 3], triangle_region
    uint8 [T] into region_names, uv float32 [U, 2], triangle_uv int32 [T, 3], identity float16 [100, V, 3],
    expression float16 [E, V, 3], expression_names, landmarks_68 int32 [68]. Takes about a minute.
    Raises InputError that names the file which is missing, cut off or of another mesh.
    """
    folder = Path(folder)
    folder = folder / _FOLDER if (folder / _FOLDER).is_dir() else folder
    names = _expression_names(folder)
    path = folder / f"{_NEUTRAL}.obj"
    lines = _lines(path)
    neutral, count = _vertices(path, lines)
    _check_order(path, neutral)
    people = [f"identity{i:03d}" for i in range(_IDENTITIES)]
    arrays = {
        "vertices": neutral.astype(np.float32),
        **_surface(path, lines),
        "region_names": np.array(REGIONS),
        "identity": _displacements(folder, people, neutral, count),
        "expression": _displacements(folder, names, neutral, count),
        "expression_names": np.array(names),
        "landmarks_68": np.array(_LANDMARKS_68, np.int32),
    }
    with atomic_open(out) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _expression_names(folder: Path) -> list[str]:
    """All expressions that are there, in order of name; those that the repository's own list names must be."""
    path = folder / _NAMES
    try:
        listed = set(json.loads(path.read_bytes())["expressions"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}: expected a clone of ICT-FaceKit") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: expected JSON with the key 'expressions'") from None
    present = {file.stem for file in folder.glob("*.obj")}
    for name in sorted(listed - present):
        raise InputError(f"{folder / name}.obj: no such file, but {_NAMES} lists it")
    return sorted(name for name in present if name != _NEUTRAL and not name.startswith("identity"))


def _displacements(folder: Path, names: list[str], neutral: NDArray, count: int) -> NDArray[np.float16]:
    moved = np.empty((len(names), *neutral.shape), np.float16)
    for row, name in zip(moved, names, strict=True):
        path = folder / f"{name}.obj"
        vertices, own_count = _vertices(path, _lines(path))
        if own_count != count:
            raise InputError(f"{path}: {own_count} vertices, but {_NEUTRAL}.obj has {count}")
        row[:] = vertices - neutral
    return moved


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _vertices(path: Path, lines: list[str]) -> tuple[NDArray[np.float64], int]:
    """The vertices that are kept, float64 [V, 3], and how many the file has."""
    values = _numbers(path, lines, "v", 3)
    if len(values) < _VERTICES:
        raise InputError(f"{path}: {len(values)} vertices, expected at least {_VERTICES}")
    return values[:_VERTICES], len(values)


def _numbers(path: Path, lines: list[str], kind: str, columns: int) -> NDArray[np.float64]:
    """The first numbers of all lines of a kind, [N, columns]."""
    rows = [line.split()[1 : columns + 1] for line in lines if line.startswith(kind + " ")]
    try:
        values = np.array(rows, np.float64).reshape(-1, columns)
    except ValueError:
        raise InputError(f"{path}: a line '{kind} ..' has not {columns} numbers") from None
    if not np.isfinite(values).all():
        raise InputError(f"{path}: a line '{kind} ..' has a number that is not finite")
    return values


def _check_order(path: Path, vertices: NDArray) -> None:
    jaw = vertices[list(_LANDMARKS_68[:17]), 0]
    if np.abs(jaw + jaw[::-1]).max() > _ASYMMETRY_CM:
        raise InputError(f"{path}: the vertices are in another order: expected the repository's present version")


def _surface(path: Path, lines: list[str]) -> dict[str, NDArray]:
    """triangles, their regions and texture coordinates."""
    polygons = [line for line in lines if line.startswith("f ")][: _PARTS[-1][0]]
    if len(polygons) < _PARTS[-1][0]:
        raise InputError(f"{path}: {len(polygons)} polygons, expected at least {_PARTS[-1][0]}")
    corners, region = [], []
    for number, line in zip(_polygon_regions(), polygons, strict=True):
        fan = list(_fan(_corners(path, line)))
        corners += fan
        region += [number] * len(fan)
    both = np.array(corners, np.int32)  # [T, 3, 2]
    triangles, triangle_uv = both[..., 0], both[..., 1]
    uv = _numbers(path, lines, "vt", 2)
    for given, known, what in ((triangles, _VERTICES, "vertex"), (triangle_uv, len(uv), "texture coordinate")):
        if given.min() < 0 or given.max() >= known:
            raise InputError(f"{path}: a polygon has {what} {given.max() + 1}, expected 1..{known}")
    return {
        "triangles": np.ascontiguousarray(triangles),
        "triangle_region": np.array(region, np.uint8),
        "uv": uv[: triangle_uv.max() + 1].astype(np.float32),
        "triangle_uv": np.ascontiguousarray(triangle_uv),
    }


def _polygon_regions() -> Iterator[int]:
    """The region of each polygon, in their order."""
    start = 0
    for end, name in _PARTS:
        yield from [REGIONS.index(name)] * (end - start)
        start = end


def _corners(path: Path, line: str) -> list[Corner]:
    try:
        pairs = [corner.split("/")[:2] for corner in line.split()[1:]]
        corners = [(int(vertex) - 1, int(texture) - 1) for vertex, texture in pairs]
    except ValueError:
        corners = []
    if len(corners) < 3:
        raise InputError(f"{path}: {line!r}: expected a polygon of vertex/texture pairs")
    return corners


def _fan(corners: list[Corner]) -> Iterator[tuple[Corner, Corner, Corner]]:
    """A polygon's triangles, all from its first corner."""
    for second, third in pairwise(corners[1:]):
        yield corners[0], second, third
