"""Meshes that follow normals: nearer to the truth, through themselves nowhere anew, and the same from file to file."""

from pathlib import Path

import numpy as np
import pytest
from analytic_face import analytic_face
from numpy.typing import NDArray

from benchmarks.applied import Face, faces, new_crossings
from casfne.applied.crossings import crossings, kept_apart
from casfne.applied.geometry import (
    Mesh,
    from_depth,
    placed,
    read_mesh,
    refine,
    rendered,
    subdivided,
    write_mesh,
)
from casfne.applied.heads import mean_head
from casfne.applied.lighting import Light
from casfne.capture.people.anny import anny_model
from casfne.capture.scene import Studio
from casfne.errors import InputError
from casfne.normals import angle_deg, normalise, sphere

SIZE = 96


@pytest.fixture(scope="module")
def head() -> Face:
    return faces(Studio([anny_model()], without=("hair", "accessories")), 7, [5], SIZE, [Light.directional(0, 0)])[0]


def grid_mesh(depth: NDArray, step: int = 4) -> Mesh:
    """A surface over a whole picture with a vertex every ``step`` pixels."""
    size = len(depth)
    places = np.arange(0, size, step)
    rows, columns = (v.ravel() for v in np.meshgrid(places, places, indexing="ij"))
    vertices = np.stack([columns, size - 1 - rows, depth[rows, columns]], 1).astype(np.float64)
    number = np.arange(len(vertices)).reshape(len(places), -1)
    a, b, c, d = (v.ravel() for v in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    return Mesh(vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]))


def pairs(mesh: Mesh) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in crossings(mesh.vertices, mesh.triangles)}


# --- rendering and refining ---


def test_a_rendered_height_field_has_the_normals_of_its_formula() -> None:
    normals, mask, depth = analytic_face(SIZE)
    seen, shown = rendered(grid_mesh(depth, 1), SIZE, SIZE)
    inside = mask.copy()
    inside[[0, -1]], inside[:, [0, -1]] = False, False
    assert np.abs(seen - depth)[inside].max() < 1e-3
    assert np.median(angle_deg(shown, normals)[inside]) < 1


def test_a_bare_ellipsoid_becomes_the_face() -> None:
    normals, mask, depth = analytic_face(SIZE)
    y, x = (np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) * 2.2 / SIZE
    smooth = 0.85 * SIZE / 2.2 * np.sqrt(np.maximum(1 - (x / 0.78) ** 2 - (y / 1.15) ** 2, 0.05))
    made = refine(grid_mesh(smooth), normals, mask)
    found = rendered(made.mesh, SIZE, SIZE)[0]
    assert made.after_deg < 0.3 * made.before_deg and made.share > 0.9
    apart = [values[mask] - depth[mask] for values in (smooth, found)]
    assert np.std(apart[1]) < 0.4 * np.std(apart[0])  # the shape too, not its normals alone
    assert not pairs(made.mesh)


def test_a_base_that_is_right_already_stays() -> None:
    _, mask, depth = analytic_face(SIZE)
    base = grid_mesh(depth, 1)
    made = refine(base, rendered(base, SIZE, SIZE)[1], mask)
    assert np.abs(made.mesh.vertices - base.vertices).max() < 0.5  # of 37: what means round a vertex smooth


def test_wild_normals_move_nothing_out_of_reach() -> None:
    _, mask, depth = analytic_face(SIZE)
    wild = normalise(np.random.default_rng(0).normal(size=(SIZE, SIZE, 3)))
    made = refine(grid_mesh(depth), wild, mask)
    assert np.isfinite(made.mesh.vertices).all() and np.abs(made.mesh.vertices[:, 2]).max() < 10 * SIZE
    assert not pairs(made.mesh)


def test_a_studio_head_comes_40_percent_nearer_and_crosses_itself_nowhere_anew(head: Face) -> None:
    base = mean_head(head.normal, head.mask, head.landmarks)
    made = refine(base, head.normal, head.mask)
    fine = subdivided(base, head.mask)
    assert made.after_deg < 0.6 * made.before_deg and made.share > 0.95
    assert np.array_equal(made.mesh.triangles, fine.triangles)
    assert np.array_equal(made.mesh.vertices[:, :2], fine.vertices[:, :2])  # along the rays alone
    assert new_crossings(fine, made.mesh) == 0


def test_without_points_the_mean_head_is_turned_by_the_normals(head: Face) -> None:
    base = mean_head(head.normal, head.mask)
    depth, shown = rendered(base, SIZE, SIZE)
    seen = head.mask & np.isfinite(depth)
    by_points = rendered(mean_head(head.normal, head.mask, head.landmarks), SIZE, SIZE)[1]
    found, given = (angle_deg(n, head.normal)[seen].mean() for n in (shown, by_points))
    assert seen.sum() > 0.95 * head.mask.sum() and found < given + 2


@pytest.mark.parametrize("spoil, message", [("shape", r"expected normals"), ("away", "shows nowhere")])
def test_what_cannot_be_refined_is_refused(spoil: str, message: str) -> None:
    normals, mask, depth = analytic_face(SIZE)
    base = grid_mesh(depth)
    if spoil == "away":
        base = Mesh(base.vertices + 1000, base.triangles)
    with pytest.raises(ValueError, match=message):
        refine(base, normals, mask[1:] if spoil == "shape" else mask)


# --- bases ---


def test_depth_gives_a_surface_of_those_normals() -> None:
    normals, mask = sphere(64)
    mask &= normals[..., 2] > 0.4
    depth, shown = rendered(from_depth(normals, mask), 64, 64)
    inside = mask & np.isfinite(depth)
    assert inside.sum() > 0.9 * mask.sum() and angle_deg(shown, normals)[inside].mean() < 1.5


def test_landmarks_place_a_mesh_that_was_turned_scaled_and_moved() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(7, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    moved = 40 * points @ turn.T + (100, 80, 0)
    mesh = Mesh(points, np.array([[0, 1, 2]]))
    found = placed(mesh, points, np.stack([moved[:, 0], 255 - moved[:, 1]], 1), 256).vertices
    assert np.abs(found[:, :2] - moved[:, :2]).max() < 1e-6
    assert np.abs(np.diff(found[:, 2]) - np.diff(moved[:, 2])).max() < 1e-6
    with pytest.raises(ValueError, match="one line"):
        placed(mesh, points, np.stack([np.arange(7.0)] * 2, 1), 256)


# --- crossings ---


def naive(vertices: NDArray, triangles: NDArray) -> set[tuple[int, int]]:
    """Every pair, by a linear system for each side and triangle."""
    found = set()
    for i in range(len(triangles)):
        for k in range(i + 1, len(triangles)):
            if set(triangles[i]) & set(triangles[k]):
                continue
            for one, other in ((vertices[triangles[i]], vertices[triangles[k]]),) * 1 + (
                (vertices[triangles[k]], vertices[triangles[i]]),
            ):
                for j in range(3):
                    start, end = one[j], one[(j + 1) % 3]
                    system = np.stack([other[1] - other[0], other[2] - other[0], start - end], 1)
                    u, v, t = np.linalg.solve(system, start - other[0])
                    if min(u, v, 1 - u - v, t, 1 - t) > 0:
                        found.add((i, k))
    return found


def test_crossings_are_those_of_trying_every_pair() -> None:
    rng = np.random.default_rng(1)
    vertices = rng.normal(size=(60, 3))
    vertices[:6] *= 10  # two large triangles among small ones
    triangles = np.concatenate([np.arange(60).reshape(20, 3), rng.permutation(60).reshape(20, 3)])
    expected = naive(vertices, triangles)
    assert pairs(Mesh(vertices, triangles)) == expected and len(expected) > 50
    some = crossings(vertices, triangles, np.array([3, 30]))
    assert {tuple(p) for p in some.tolist()} == {p for p in expected if {3, 30} & set(p)}


def test_sheets_that_would_pass_through_each_other_move_as_one() -> None:
    flat = grid_mesh(np.zeros((16, 16)), 3)
    count = len(flat.vertices)
    two = Mesh(
        np.concatenate([flat.vertices, flat.vertices * (0.9, 0.9, 1) + (0.7, 0.4, 1)]),
        np.concatenate([flat.triangles, flat.triangles + count]),
    )
    after = two.vertices.copy()
    after[:count, 2] += 3 * np.exp(-(((after[:count, :2] - 7) / 3) ** 2).sum(1))  # the lower one bulges
    assert pairs(Mesh(after, two.triangles))
    kept = kept_apart(two.vertices, after, two.triangles)
    assert not pairs(Mesh(kept, two.triangles))
    free = np.hypot(*(after[:, :2] - 7).T) > 8
    assert np.abs(kept - after)[free].max() < 0.2


# --- files ---


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_meshes_go_through_files(tmp_path: Path, suffix: str) -> None:
    mesh = grid_mesh(analytic_face(32)[2])
    write_mesh(tmp_path / f"face{suffix}", mesh)
    back = read_mesh(tmp_path / f"face{suffix}")
    one, other = (m.vertices[m.triangles] for m in (mesh, back))
    assert np.abs(one - other).max() < 1e-4


def test_seams_of_a_textured_mesh_are_joined(tmp_path: Path) -> None:
    lines = ["v 0 0 0", "v 1 0 0", "v 1 1 0", "v 0 1 0", "vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1", "vt .5 .5"]
    (tmp_path / "seam.obj").write_text("\n".join([*lines, "f 1/1 2/2 3/3", "f 1/5 3/4 4/1"]))
    assert len(read_mesh(tmp_path / "seam.obj").vertices) == 4


@pytest.mark.parametrize("name, content", [("a.stl", ""), ("gone.ply", None), ("b.obj", "nonsense"), ("c.ply", "ply")])
def test_files_that_are_no_meshes_are_named(tmp_path: Path, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=name):
        read_mesh(tmp_path / name)
    if name.endswith("stl"):
        with pytest.raises(InputError, match=name):
            write_mesh(tmp_path / name, Mesh(np.zeros((3, 3)), np.zeros((1, 3), np.int64)))
