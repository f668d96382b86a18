"""Shadows: where they must fall, where none may, and how a light's size and place change them."""

import math

import pytest
import torch
from test_raster import sphere
from torch import Tensor
from torch.nn import functional

from casfne.capture.lighting.shadows import Lights, visibility
from casfne.capture.optics.raster import vertex_normals

UP = torch.tensor([0.0, 0.0, 1.0])


def lights(place: list, near: bool = False, size: float = 0.0) -> Lights:
    """One light for each place of [B, 3], or several of [B, L, 3]."""
    where = torch.tensor(place)
    where = where[:, None] if where.ndim == 2 else where
    batch, count, _ = where.shape
    is_near = torch.full((batch, count), near)
    where = where if near else functional.normalize(where, dim=-1)
    return Lights(
        where, is_near, torch.ones(batch, count, 3), torch.full((batch, count), size), torch.zeros(batch, 9, 3)
    )


def scene(height: float = 0.05) -> tuple[Tensor, Tensor]:
    """A square of 4 cm above one of 20 cm: vertices [1, 8, 3], triangles."""
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    vertices = torch.cat([corners * 0.1, corners * 0.02 + torch.tensor([0, 0, height])])
    return vertices[None], torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])


def grid(count: int = 77) -> Tensor:
    x = torch.linspace(-0.095, 0.095, count)
    plane = torch.stack(torch.meshgrid(x, x, indexing="ij"), -1).view(-1, 2)
    return torch.cat([plane, torch.zeros(len(plane), 1)], -1)


def on_the_plane(of: Lights, points: Tensor, texels: int = 512, height: float = 0.05) -> Tensor:
    """Share of the first light on the lower square, [N]."""
    sample = torch.zeros(len(points), dtype=torch.int64)
    return visibility(points, UP.expand_as(points), sample, *scene(height), of, texels)[:, 0]


def outside(points: Tensor, x: float, half_x: float = 0.02, half_y: float = 0.02) -> Tensor:
    """Metres, about, from a rectangle on the plane; negative within it."""
    return torch.maximum((points[:, 0] - x).abs() - half_x, points[:, 1].abs() - half_y)


# --- where ---


@pytest.mark.parametrize("texels", [256, 512])
def test_square_above_a_plane_casts_its_shadow_to_within_two_texels(texels: int) -> None:
    points = grid()
    lit = on_the_plane(lights([[1.0, 0, 1]]), points, texels)  # from the right: the shadow falls to the left
    away, two = outside(points, -0.05), 2 * 0.19 / texels
    assert lit[away < -two].max() == 0
    assert lit[away > two].min() == 1


def test_near_light_casts_a_larger_shadow() -> None:
    points = grid()
    lit = on_the_plane(lights([[0.0, 0, 0.15]], near=True), points)  # the square is at two thirds of the way
    away = outside(points, 0.0, 0.03, 0.03)
    assert lit[away < -0.002].max() == 0
    assert lit[away > 0.002].min() == 1


def test_far_near_light_is_a_distant_one() -> None:
    points = grid()
    distant = on_the_plane(lights([[1.0, 0.3, 1]], size=0.05), points)
    far = on_the_plane(lights([[60.0, 18, 60]], near=True, size=0.05), points)
    assert (distant - far).abs().mean() < 0.005
    here, there = lights([[1.0, 0.3, 1]]), lights([[60.0, 18, 60]], near=True)
    sample = torch.zeros(len(points), dtype=torch.int64)
    for a, b in zip(here.towards(points, sample, 0), there.towards(points, sample, 0), strict=True):
        assert torch.allclose(a, b, atol=5e-3)


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("size", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("rings", [24, 100])
def test_convex_body_casts_no_shadow_on_itself(near: bool, size: float, rings: int) -> None:
    vertices, triangles = sphere(0.1, rings, 2 * rings)
    of = lights([[math.sin(math.radians(40)), 0.0, math.cos(math.radians(40))]], near, size)
    corners = vertices[0][triangles]
    weights = torch.rand(len(triangles), 4, 3, generator=torch.Generator().manual_seed(0)).log()
    weights = weights / weights.sum(-1, keepdim=True)  # uniform on the triangle
    points = (weights @ corners).view(-1, 3)
    normals = (weights @ vertex_normals(vertices, triangles)[0][triangles]).view(-1, 3)
    normals = functional.normalize(normals, dim=-1)
    sample = torch.zeros(len(points), dtype=torch.int64)
    cosine = (normals * of.towards(points, sample, 0)[0]).sum(-1)
    for two_sided in (None, torch.zeros(len(triangles), dtype=torch.bool)):
        lit = visibility(points, normals, sample, vertices, triangles, of, 384, two_sided)[:, 0]
        assert lit[cosine > 0.05].min() == 1
        assert (lit[cosine < -0.01] == 1).all()  # attached shadows are the cosine's


def test_what_is_behind_a_near_light_casts_nothing() -> None:
    points = grid()
    assert on_the_plane(lights([[0.0, 0, 0.03]], near=True), points).min() == 1  # between the two squares
    assert on_the_plane(lights([[0.0, 0, 0.0001]], near=True), points).isfinite().all()


# --- how much ---


def test_larger_light_makes_a_softer_edge_and_keeps_the_mean() -> None:
    points = grid(155)
    shares = [on_the_plane(lights([[1.0, 0, 1]], size=size), points) for size in (0.0, 0.05, 0.15)]
    widths = [((s > 0.02) & (s < 0.98)).float().mean() for s in shares]
    assert 2 * widths[0] < widths[1] < widths[2] / 2
    assert abs(shares[1].mean() - shares[0].mean()) < 0.01 and abs(shares[2].mean() - shares[0].mean()) < 0.02


def test_edge_of_a_soft_shadow_is_as_wide_as_the_light_makes_it() -> None:
    points = torch.stack([torch.linspace(-0.05, 0.05, 2001), torch.zeros(2001), torch.zeros(2001)], -1)
    for height in (0.02, 0.05):  # light from above: the half width of the edge is the height times the size's tangent
        share = on_the_plane(lights([[0.0, 0, 1]], size=0.2), points, height=height)
        half = height * math.tan(0.2)
        away = outside(points, 0.0)
        assert share[away < -1.3 * half].max() == 0
        assert share[away > 1.3 * half].min() == 1
        assert abs(share[away.abs() < 0.001].mean() - 0.5) < 0.1


def test_near_light_falls_by_the_square_of_the_distance() -> None:
    of = lights([[0.0, 0, 0.5]], near=True)
    points = torch.tensor([[0.0, 0, 0], [0, 0, 0.25], [0, 0, -0.5], [0.5, 0, 0.5]])
    direction, colour = of.towards(points, torch.zeros(4, dtype=torch.int64), 0)
    assert torch.allclose(colour, torch.tensor([1, 4, 0.25, 1])[:, None].expand(4, 3))
    assert torch.allclose(direction, torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 1], [-1, 0, 0]]), atol=1e-6)


# --- batches ---


def test_a_batch_is_what_its_samples_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, triangles = scene()
    meshes = torch.cat([vertices, vertices * 1.2])
    of = lights([[[1.0, 0, 1], [0.3, 0.2, 0.6]], [[0.0, 1, 1], [-0.4, 0.1, 0.5]]], size=0.05)
    of = Lights(of.place, torch.tensor([[False, True], [False, True]]), of.colour, of.size, of.ambient)
    points = torch.cat([grid(), grid(50)])
    sample = torch.cat([torch.zeros(77**2), torch.ones(50**2)]).long()
    normals = UP.expand_as(points)
    both = visibility(points, normals, sample, meshes, triangles, of, 256)
    assert both.shape == (len(points), 2) and both.min() == 0 and both.max() == 1
    for i in range(2):
        one = Lights(*(getattr(of, n)[i : i + 1] for n in ("place", "near", "colour", "size", "ambient")))
        mine = points[sample == i]
        zero = torch.zeros(len(mine), dtype=torch.int64)
        alone = visibility(mine, normals[: len(mine)], zero, meshes[i : i + 1], triangles, one, 256)
        assert torch.equal(both[sample == i], alone)
    monkeypatch.setattr("casfne.capture.lighting.shadows.CHUNK", 100)
    assert torch.equal(both, visibility(points, normals, sample, meshes, triangles, of, 256))


def test_nobody_to_light_is_an_empty_answer() -> None:
    none = torch.zeros(0, 3)
    assert on_the_plane(lights([[1.0, 0, 1]]), none).shape == (0,)
    assert (on_the_plane(lights([[0.0, 0, -1]]), grid(5)) == 1).all()  # lit from behind: the cosine says so


def test_wrong_shapes_are_named() -> None:
    points = grid(3)
    with pytest.raises(ValueError, match=r"got \[\[9, 3\], \[9, 3\], \[4\]\]"):
        visibility(points, points, torch.zeros(4, dtype=torch.int64), *scene(), lights([[1.0, 0, 1]]), 64)
    with pytest.raises(ValueError, match=r"vertices \[2, V, 3\].*got \[1, 8, 3\]"):
        visibility(points, points, torch.zeros(9, dtype=torch.int64), *scene(), lights([[1.0, 0, 1]] * 2), 64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_lights_the_same() -> None:
    points, (vertices, triangles) = grid(), scene()
    sample, of = torch.zeros(len(points), dtype=torch.int64), lights([[1.0, 0.3, 1]], size=0.05)
    there = Lights(*(getattr(of, n).cuda() for n in ("place", "near", "colour", "size", "ambient")))
    here = visibility(points, UP.expand_as(points), sample, vertices, triangles, of, 256)
    points, sample, vertices, triangles = points.cuda(), sample.cuda(), vertices.cuda(), triangles.cuda()
    moved = visibility(points, UP.cuda().expand_as(points), sample, vertices, triangles, there, 256).cpu()
    assert (here - moved).abs().mean() < 0.01
