"""Meshes whose rendered normals follow predicted ones.

Picture space, in which everything here is done: pixels of a map [H, W], x right, y up, z towards the camera; the centre
of the lower left pixel is (0, 0). Rays are parallel, as `casfne.stereo.integrate` has it.

Nehab et al. 2005 join positions, believed on the whole, with normals, believed in detail, by linear least squares.
Here the unknown is a displacement along z at each pixel, which moves all vertices before or behind it alike, the back
of the head less: a map of space onto itself that keeps the order of points along every ray. A displacement for each
vertex would move lids into eyeballs. Where the mesh is too coarse to follow that map and would pass through itself, it
moves as one (`crossings.kept_apart`).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import map_coordinates
from scipy.sparse.linalg import spsolve

from casfne.applied.crossings import kept_apart
from casfne.capture.optics.raster import Hits, rasterise, vertex_normals
from casfne.errors import InputError
from casfne.files import atomic_open
from casfne.normals import angle_deg, normalise
from casfne.stereo.integrate import STEEPEST, poisson

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]
Whole = NDArray[np.int64]

TORN = 3.0  # pixels of depth between neighbours of the base: one hides the other, and no normal tells their distance
_PASSES = 2  # the second sees what the first left: 1 to 2 % of the base's error
_POSITIONS = 1e-5  # weight of the base's own depth, per pixel; that of a normal that faces the camera is 1
_MEMBRANE = 1e-3  # of the displacement's own steps: what carries it where there are no normals
_SHALLOWEST = 0.1  # z of the steepest normal that is believed
_FINE = 2.0  # pixels across: longest side of most triangles in the mask, when subdivided
_MOST_TRIANGLES = 400_000
_SUFFIXES = (".obj", ".ply")


@dataclass(frozen=True)
class Mesh:
    """vertices float64 [V, 3]; triangles int64 [T, 3], counter-clockwise from outside."""

    vertices: Doubles
    triangles: Whole


@dataclass(frozen=True)
class Refined:
    """A mesh in picture space and the mean angles, in degrees, between the normals wanted and those rendered of the
    base and of this mesh, over the pixels of the mask that show it; ``share``: that share of the mask."""

    mesh: Mesh
    before_deg: float
    after_deg: float
    share: float


def refine(base: Mesh, normals: Floats, mask: Mask) -> Refined:
    """``base``, in picture space, moved along z so that its rendered normals follow ``normals`` [H, W, 3] (unit, frame
    opengl) where ``mask`` [H, W] says.

    It is subdivided first until its triangles are as small as the pixels. ValueError: shapes that do not fit, or a base
    that shows nowhere in the mask.
    """
    if normals.shape != (*mask.shape, 3):
        raise ValueError(f"expected normals [H, W, 3] and mask [H, W], got {normals.shape} and {mask.shape}")
    fine = subdivided(base, mask)
    depth, shown = rendered(fine, *mask.shape)
    seen = mask & np.isfinite(depth)
    if not seen.any():
        raise ValueError("the mesh shows nowhere in the mask: is it in the picture's pixels?")
    moved = fine
    for _ in range(_PASSES):
        moved = _following(moved, normals, mask)
    moved = replace(moved, vertices=kept_apart(fine.vertices, moved.vertices, fine.triangles))
    errors = [float(angle_deg(n, normals)[seen].mean()) for n in (shown, rendered(moved, *mask.shape)[1])]
    return Refined(moved, errors[0], errors[1], float(seen.sum() / mask.sum()))


def _following(mesh: Mesh, normals: Floats, mask: Mask) -> Mesh:
    """``mesh`` moved once; where it does not show in the mask, as its surroundings are."""
    depth, _ = rendered(mesh, *mask.shape)
    seen = mask & np.isfinite(depth)
    return _displaced(mesh, _displacement(depth, normals, seen), float(depth[seen].min()))


def rendered(mesh: Mesh, height: int, width: int) -> tuple[Floats, Floats]:
    """Depth [H, W] (z; NaN where nothing is seen) and unit normals [H, W, 3] (0 there) of a mesh in picture space.
    Normals are smooth: means over the triangles round a vertex, mixed between vertices."""
    vertices, triangles = torch.from_numpy(mesh.vertices)[None].float(), torch.from_numpy(mesh.triangles)
    hits = seen(mesh, height, width)
    normals = hits.image(hits.mix(vertex_normals(vertices, triangles), triangles))[0].movedim(0, -1).numpy()
    depth = hits.image(hits.nearness[:, None], float("nan"))[0, 0].numpy()
    return depth, normalise(normals)


def seen(mesh: Mesh, height: int, width: int) -> Hits:
    """The triangles that each pixel shows, of those that face the camera."""
    screen = torch.from_numpy(mesh.vertices * (1, -1, 1) + (0, height - 1, 0))[None].float()
    one_sided = torch.zeros(len(mesh.triangles), dtype=torch.bool)
    return rasterise(screen, torch.from_numpy(mesh.triangles), height, width, two_sided=one_sided)


def subdivided(mesh: Mesh, mask: Mask) -> Mesh:
    """Every triangle cut in four, until those that the mask shows are ``_FINE``; all of them, so that none gape."""
    hits = seen(mesh, *mask.shape)
    own = mesh.vertices[mesh.triangles[np.unique(hits.triangle.numpy()[mask.ravel()[hits.pixel.numpy()]])]]
    if not len(own):
        return mesh
    longest = np.linalg.norm((own - np.roll(own, 1, 1))[..., :2], axis=-1).max(1)
    while np.median(longest) > _FINE and 4 * len(mesh.triangles) <= _MOST_TRIANGLES:
        mesh, longest = _halved(mesh), longest / 2
    return mesh


def _halved(mesh: Mesh) -> Mesh:
    """Each triangle as four, by the middles of its sides."""
    a, b, c = mesh.triangles.T
    sides = np.sort(np.concatenate([np.stack(pair, 1) for pair in ((a, b), (b, c), (c, a))]), 1)
    unique, number = np.unique(sides, axis=0, return_inverse=True)
    ab, bc, ca = (number.reshape(3, -1) + len(mesh.vertices)).astype(np.int64)
    parts = [np.stack(corners, 1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return Mesh(np.concatenate([mesh.vertices, mesh.vertices[unique].mean(1)]), np.concatenate(parts))


def _displacement(depth: Floats, normals: Floats, tells: Mask) -> Doubles:
    """Along z in pixels, [H, W], everywhere: least squares in its steps between neighbours and in itself."""
    n = np.where(tells[..., None], normals, 0).astype(np.float64)
    size, number = tells.size, np.arange(tells.size).reshape(tells.shape)
    system, right = _POSITIONS * sparse.eye_array(size, format="csr"), np.zeros(size)
    for axis in (0, 1):
        first, second = (np.take(number, range(i, tells.shape[axis] - 1 + i), axis).ravel() for i in (0, 1))
        step, weight = _steps(depth.ravel(), n.reshape(-1, 3), tells.ravel(), first, second, axis)
        ones, row = np.ones(len(first)), np.arange(len(first))
        change = sparse.csr_array(
            (np.r_[-ones, ones], (np.r_[row, row], np.r_[first, second])), shape=(len(first), size)
        )
        system = system + change.T @ (sparse.diags_array(weight + _MEMBRANE) @ change)
        right += change.T @ (weight * step)
    found: Doubles = spsolve(sparse.csc_array(system), right).reshape(tells.shape)
    return found


def _steps(depth: Floats, n: Doubles, tells: Mask, first: Whole, second: Whole, axis: int) -> tuple[Doubles, Doubles]:
    """By how much the displacement should change from pixels ``first`` to ``second`` (below, or to the right), and how
    much that counts. Slopes are those of chords, as `casfne.stereo.integrate` has them; weighed with the square of z,
    so that angles count and not slopes."""
    both = n[first] + n[second]
    over = both[:, 1] if axis == 0 else -both[:, 0]
    slope = np.clip(over / np.maximum(both[:, 2], 1e-9), -STEEPEST, STEEPEST)
    base = (depth[second] - depth[first]).astype(np.float64)
    good = tells[first] & tells[second] & (both[:, 2] > 2 * _SHALLOWEST) & (np.abs(base) < TORN)
    return np.where(good, slope - base, 0), np.where(good, (both[:, 2] / 2) ** 2, 0)


def _displaced(mesh: Mesh, field: Doubles, front: float) -> Mesh:
    """Vertices moved along z by ``field`` at their place in the picture; wholly from z = ``front`` on, fading to
    nothing over four times the largest displacement behind it, so that no point passes another."""
    x, y, z = mesh.vertices.T
    by = map_coordinates(field, [field.shape[0] - 1 - y, x], order=1, mode="nearest")
    share = np.clip(1 + (z - front) / max(4 * float(np.abs(field).max()), 1e-9), 0, 1)
    return replace(mesh, vertices=np.stack([x, y, z + by * share], 1))


# --- where the base comes from ---


def from_depth(normals: Floats, mask: Mask) -> Mesh:
    """The surface that ``normals`` [H, W, 3] integrate to inside ``mask`` [H, W], in picture space: a vertex a pixel,
    two triangles where four pixels meet."""
    depth = poisson(normals, mask)
    inside = np.isfinite(depth)
    number = np.cumsum(inside).reshape(mask.shape) - 1
    square = inside[:-1, :-1] & inside[1:, :-1] & inside[:-1, 1:] & inside[1:, 1:]
    a, b, c, d = (part[square] for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    rows, columns = np.nonzero(inside)
    vertices = np.stack([columns, mask.shape[0] - 1 - rows, depth[inside]], 1).astype(np.float64)
    return Mesh(vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int64))


def placed(mesh: Mesh, landmarks: Doubles, points: Doubles, height: int) -> Mesh:
    """``mesh`` (any unit; x right, y up, z forward) in picture space: turned, scaled and moved so that its
    ``landmarks`` [K, 3] fall on ``points`` [K, 2] (x right, y down, pixels) of a picture of that ``height``; K >= 4.

    The best affine projection by least squares, then the nearest scaled rotation. ValueError where the points tell
    none.
    """
    if landmarks.shape != (len(points), 3) or points.shape != (len(points), 2) or len(points) < 4:
        raise ValueError(f"expected [K, 3] and [K, 2] with K >= 4, got {landmarks.shape} and {points.shape}")
    target = points * (1, -1) + (0, height - 1)
    solid, flat = landmarks - landmarks.mean(0), target - target.mean(0)
    affine = np.linalg.lstsq(solid, flat, rcond=1e-6)[0].T  # [2, 3]
    u, scales, vt = np.linalg.svd(affine, full_matrices=False)
    if scales[1] < 1e-9 * max(scales[0], 1e-9):
        raise ValueError("the points lie on one line, no pose follows from them")
    rows = u @ vt
    scale = float(np.linalg.norm(flat) / np.linalg.norm(solid @ rows.T))
    turn = np.stack([*rows, np.cross(*rows)])
    moved = scale * (mesh.vertices - landmarks.mean(0)) @ turn.T
    return replace(mesh, vertices=moved + np.append(target.mean(0), 0))


# --- files ---


def read_mesh(path: Path) -> Mesh:
    """Vertices and triangles of an OBJ or PLY file, vertices at one place joined. InputError naming it."""
    import trimesh

    check_suffix(path)
    try:
        found = trimesh.load_mesh(path, process=False)
        vertices, triangles = np.asarray(found.vertices, np.float64), np.asarray(found.faces, np.int64)
    except Exception as error:  # broken files lead trimesh's readers into errors of every kind
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a mesh that can be read ({said})") from None
    if triangles.ndim != 2 or not len(triangles) or not np.isfinite(vertices).all():
        raise InputError(f"{path}: expected triangles between finite vertices")
    joined, number = np.unique(vertices, axis=0, return_inverse=True)
    return Mesh(joined, number.reshape(-1)[triangles].astype(np.int64))


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Write OBJ or PLY, by the suffix, whole or not at all. InputError for another suffix."""
    import trimesh

    check_suffix(path)
    content: Any = trimesh.Trimesh(mesh.vertices, mesh.triangles, process=False).export(
        file_type=path.suffix[1:].lower()
    )
    with atomic_open(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def check_suffix(path: Path) -> None:
    """InputError for a file that is neither OBJ nor PLY."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path}: expected a mesh in {' or '.join(_SUFFIXES)}")
