"""The rasteriser: exact visibility, exact interpolation, and nothing that depends on batch, chunks or device."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from benchmarks.raster import ball
from casfne.capture.optics import raster
from casfne.capture.optics.camera import Camera
from casfne.capture.optics.raster import Hits, nearest, rasterise, vertex_normals


def sphere(radius: float, rings: int = 60, around: int = 120) -> tuple[Tensor, Tensor]:
    """Vertices [1, V, 3] and triangles [T, 3]."""
    points, triangles = ball(rings, around)
    return radius * points, triangles


def camera(size: int = 200, focal: float = 1600.0, batch: int = 1) -> Camera:
    middle = torch.full((batch, 2), (size - 1) / 2)
    return Camera(torch.full((batch,), 2.0), torch.full((batch,), focal), middle, size, size)


def some_triangles(batch: int, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Triangles of all sizes from a fraction of a pixel to half the picture of 50 x 40, with vertices of their own."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.rand(batch, count, 1, 3, generator=generator) * torch.tensor([60.0, 50.0, 1.0]) - 5
    extent = 0.2 + 30 * torch.rand(batch, count, 1, 1, generator=generator) ** 3
    corners = middle + (torch.rand(batch, count, 3, 3, generator=generator) - 0.5) * extent * torch.tensor([1, 1, 0.02])
    return corners.view(batch, -1, 3), torch.arange(count * 3).view(-1, 3)


def slow(screen: Tensor, triangles: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One triangle after the other: triangle [H, W], barycentrics, nearness, and distance in pixels to any edge."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).double()
    winner = torch.full((height, width), -1)
    best = torch.full((height, width), -torch.inf, dtype=torch.float64)
    edge, share = torch.full_like(best, torch.inf), torch.zeros(height, width, 3, dtype=torch.float64)
    for index, corners in enumerate(screen.double()[triangles]):
        inverse = torch.linalg.inv(torch.cat([corners[:, :2].T, torch.ones(1, 3, dtype=torch.float64)]))
        weights = pixels @ inverse.T
        near = weights @ corners[:, 2]
        edge = torch.minimum(edge, (weights.abs() / inverse[:, :2].norm(dim=1)).amin(-1))
        wins = (weights >= 0).all(-1) & (near > best)
        best[wins], winner[wins], share[wins] = near[wins], index, weights[wins]
    return winner, share, best, edge


def image_of(hits: Hits) -> Tensor:
    """Triangle of each pixel [B, H, W], -1 where there is none."""
    return hits.image(hits.triangle[:, None], -1)[:, 0]


def assert_same(a: Hits, b: Hits) -> None:
    for field in dataclasses.fields(Hits):
        one, other = getattr(a, field.name), getattr(b, field.name)
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other, field.name


# --- visibility ---


Searched = tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]


@pytest.fixture(scope="module")
def searched() -> Searched:
    screen, triangles = some_triangles(1, 1000)
    return screen, triangles, slow(screen[0], triangles, 40, 50)


def test_nearest_triangle_is_that_of_a_slow_search(searched: Searched) -> None:
    screen, triangles, (winner, share, near, edge) = searched
    hits = rasterise(screen, triangles, 40, 50)
    differs = image_of(hits)[0] != winner
    assert not (differs & (edge > 1e-6)).any()
    assert differs.sum() <= 2 and (edge <= 1e-6).sum() <= 5
    assert 0.9 < len(hits.triangle) / 2000 < 1
    same = ~differs.flatten()[hits.pixel]
    expected = share.view(-1, 3)[hits.pixel]
    assert torch.allclose(hits.barycentric[same].double(), expected[same], atol=1e-6)
    assert torch.allclose(hits.nearness[same].double(), near.flatten()[hits.pixel][same], atol=1e-6)
    values = torch.randn(1, screen.shape[1], 5)
    mixed = (values[0][triangles[hits.triangle]] * expected[..., None].float()).sum(1)
    assert torch.allclose(hits.mix(values, triangles)[same], mixed[same], atol=1e-5)
    assert torch.equal(hits.mix(values[0], triangles), hits.mix(values, triangles))


def test_depth_alone_is_that_of_the_slow_search(searched: Searched) -> None:
    screen, triangles, (winner, _, near, edge) = searched
    depth = nearest(screen, triangles, 40)[0]
    clear = edge[:, :40] > 1e-3  # float32: slivers are not exact
    assert torch.equal(depth.isfinite()[clear], (winner[:, :40] >= 0)[clear])
    seen = clear & (winner[:, :40] >= 0)
    assert (depth.double() - near[:, :40])[seen].abs().max() < 1e-4


def test_a_batch_is_what_its_samples_are_alone() -> None:
    screen, triangles = some_triangles(3, 300)
    two_sided = torch.arange(300) % 2 == 0
    whole = rasterise(screen, triangles, 40, 50, two_sided=two_sided)
    alone = [rasterise(s[None], triangles, 40, 50, two_sided=two_sided) for s in screen]
    for name in ("pixel", "triangle", "barycentric", "nearness"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(h, name) for h in alone])), name
    assert torch.equal(whole.sample, torch.cat([h.sample + i for i, h in enumerate(alone)]))
    values = torch.randn(3, 900, 2)
    mixed = [h.mix(v, triangles) for h, v in zip(alone, values, strict=True)]
    assert torch.equal(whole.mix(values, triangles), torch.cat(mixed))
    depth = torch.cat([nearest(s[None], triangles, 50) for s in screen])
    assert torch.equal(nearest(screen, triangles, 50), depth)


@pytest.mark.parametrize("limit", ["CHUNK", "LARGE", "SET_UP"])
def test_chunks_do_not_change_the_picture(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, triangles = some_triangles(3, 200)
    whole, depth = rasterise(screen, triangles, 40, 50), nearest(screen, triangles, 50)
    monkeypatch.setattr(raster, limit, 7)
    assert_same(whole, rasterise(screen, triangles, 40, 50))
    assert torch.equal(depth, nearest(screen, triangles, 50))


def test_what_is_outside_the_picture_does_not_come_in_elsewhere() -> None:
    screen = torch.tensor([[[-30.0, -20, 1], [90, -20, 1], [20, 60, 1]], [[8.0, 3, 1], [90, 4, 1], [8, 5, 1]]])
    picture = image_of(rasterise(screen, torch.tensor([[0, 1, 2]]), 10, 12))
    assert (picture[0] == 0).all()
    assert (picture[1, 4, 8:] == 0).all() and (picture[1] == 0).sum() < 16 and (picture[1, :, :8] == -1).all()


def test_closed_mesh_has_no_cracks() -> None:
    vertices, triangles = sphere(0.1, 30, 40)
    covered = image_of(camera().see(vertices, triangles))[0] >= 0
    assert torch.equal(
        covered, image_of(camera().see(vertices, triangles, torch.zeros(2400, dtype=torch.bool)))[0] >= 0
    )
    for row in covered:
        inside = row.nonzero()[:, 0]
        assert len(inside) == 0 or len(inside) == int(inside[-1] - inside[0]) + 1


def test_edges_through_pixel_centres_belong_to_both_neighbours() -> None:
    x, y = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    screen = torch.stack([x, y, torch.ones_like(x)], -1).view(1, -1, 3)  # all vertices on pixel centres
    corner = (torch.arange(8)[:, None] * 9 + torch.arange(8)).flatten()
    triangles = torch.cat([corner[:, None] + torch.tensor(t) for t in ((0, 1, 10), (0, 10, 9))])
    hits = rasterise(screen, triangles, 9, 9)
    assert len(hits.pixel) == 81
    touching = (triangles[:, None] == (hits.pixel % 9 * 9 + hits.pixel // 9)[None, :, None]).any(-1)
    assert torch.equal(hits.triangle, touching.int().argmax(0))  # equally near: the lower index wins


def test_culling_keeps_what_is_seen_of_a_closed_convex_mesh() -> None:
    vertices, triangles = sphere(0.1)
    one_sided = torch.zeros(len(triangles), dtype=torch.bool)
    assert_same(camera().see(vertices, triangles), camera().see(vertices, triangles, one_sided))
    inside_out = camera().see(vertices, triangles.flip(1), one_sided)
    assert inside_out.nearness.max() < 0.502  # the far half; the near one goes to 0.526
    assert_same(camera().see(vertices, triangles.flip(1)), camera().see(vertices, triangles.flip(1), ~one_sided))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_broken_triangles_are_not_drawn(bad: float, axis: int) -> None:
    screen = torch.tensor([[[0.0, 0, 1], [9, 0, 1], [0, 9, 1], [9, 9, 1]]])
    screen[0, 3, axis] = bad
    triangles = torch.tensor([[1, 2, 3], [0, 1, 2], [0, 0, 1], [1, 1, 1]])  # the last two are degenerate
    hits = rasterise(screen, triangles, 10, 10)
    assert len(hits.triangle) == 55 and (hits.triangle == 1).all()
    assert nearest(screen, triangles, 10).isfinite().sum() == 55


def test_nothing_behind_the_camera_is_drawn() -> None:
    vertices = torch.tensor([[[-1.0, -1, 3], [1, -1, 3], [0, 1, 3], [0, 1, 2], [0, 1, 1.5], [-1, -1, 0], [1, -1, 0]]])
    triangles = torch.tensor([[0, 1, 2], [1, 0, 3], [4, 5, 1]])  # behind; beside; through the camera's plane
    assert len(camera().see(vertices, triangles).pixel) == 0
    assert len(camera().see(vertices, torch.tensor([[4, 5, 6]])).pixel) > 0


def test_nothing_seen_is_an_empty_answer() -> None:
    hits = rasterise(torch.zeros(2, 3, 3), torch.tensor([[0, 1, 2]]), 4, 5)
    assert hits.mix(torch.ones(2, 3, 2), torch.tensor([[0, 1, 2]])).shape == (0, 2)
    assert torch.equal(hits.image(torch.zeros(0, 2), 3.0), torch.full((2, 2, 4, 5), 3.0))


def test_wrong_shapes_are_named() -> None:
    triangle = torch.zeros(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        rasterise(torch.zeros(4, 3), triangle, 8, 8)
    with pytest.raises(ValueError, match=r"two_sided: expected bool \[1\], got torch.bool \[2\]"):
        rasterise(torch.zeros(1, 4, 3), triangle, 8, 8, two_sided=torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        vertex_normals(torch.zeros(4, 3), triangle)


# --- interpolation ---


def test_perspective_interpolation_is_exact_on_a_slanted_plane() -> None:
    vertices = torch.tensor([[[-0.2, -0.1, 0.3], [0.2, -0.1, -0.5], [0.2, 0.1, -0.5], [-0.2, 0.1, 0.3]]])
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])
    view = Camera(torch.tensor([2.0]), torch.tensor([400.0]), torch.tensor([[49.5, 29.5]]), 60, 100)
    hits = view.see(vertices, triangles)
    points = hits.mix(vertices, triangles)
    back = view.project(points[None])[0]
    assert len(points) > 2000
    assert torch.allclose(back[:, 0], (hits.pixel % 100).float(), atol=1e-3)
    assert torch.allclose(back[:, 1], (hits.pixel // 100).float(), atol=1e-3)
    assert torch.allclose(view.depth(hits.nearness), 2 - points[:, 2], atol=1e-5)


def test_sphere_normals_are_those_of_the_formula() -> None:
    vertices, triangles = sphere(0.1, 120, 240)
    hits = camera().see(vertices, triangles)
    normals = torch.nn.functional.normalize(hits.mix(vertex_normals(vertices, triangles), triangles).double(), dim=-1)
    x, y = (hits.pixel % 200 - 99.5) / 1600, (99.5 - hits.pixel // 200) / 1600
    ray = torch.stack([x, y, -torch.ones_like(x)], -1).double()
    square = ray.square().sum(-1)  # |(0, 0, 2) + t ray| = 0.1, the nearer of the two
    t = (2 - (4 - square * (4 - 0.01)).sqrt()) / square
    exact = (t[:, None] * ray + torch.tensor([0, 0, 2.0])) / 0.1
    facing = (-ray * exact).sum(-1) / square.sqrt() > 0.5  # within 60 degrees of the line of sight
    error = torch.linalg.cross(normals, exact).norm(dim=-1).asin().rad2deg()
    assert error[facing].max() < 0.05 and (normals * exact).sum(-1).min() > 0.9


def test_vertex_normals_of_batches_do_not_depend_on_scale_or_company() -> None:
    vertices, triangles = sphere(0.1)
    several = torch.cat([vertices, vertices * torch.tensor([1, 2.0, 3]), vertices * 1e-3])
    normals = vertex_normals(several, triangles)
    assert torch.equal(normals[1:2], vertex_normals(several[1:2], triangles))
    inner = slice(120, -120)  # the poles' quads are half degenerate
    assert (normals[0] * vertices[0] / 0.1).sum(-1)[inner].min() > math.cos(math.radians(1))
    assert torch.allclose(normals[0, inner], normals[2, inner], atol=1e-6)


# --- cameras, devices ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": torch.tensor([0.0])}, r"finite distance > 0, got 0\.0"),
        ({"focal": torch.tensor([-2.0])}, r"finite focal > 0, got -2\.0"),
        ({"focal": torch.tensor([torch.inf])}, "finite focal > 0, got inf"),
        ({"centre": torch.tensor([[torch.nan, 1.0]])}, "finite centre, got nan"),
        ({"height": 0}, "at least 1 x 1, got 0 x 200"),
        ({"centre": torch.zeros(2, 2)}, r"centre \[B, 2\], got"),
    ],
)
def test_an_impossible_camera_is_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(camera(), **change)


def test_cameras_of_a_batch_are_their_own() -> None:
    vertices, triangles = sphere(0.1, 20, 30)
    focal = torch.tensor([800.0, 1200.0])
    both = Camera(torch.tensor([2.0, 1.5]), focal, torch.tensor([[49.5, 49.5], [30, 60]]), 100, 100)
    hits = both.see(vertices.expand(2, -1, -1), triangles)
    for i in range(2):
        one = Camera(both.distance[i : i + 1], focal[i : i + 1], both.centre[i : i + 1], 100, 100)
        assert torch.equal(hits.triangle[hits.sample == i], one.see(vertices, triangles).triangle)
    with pytest.raises(ValueError, match=r"points \[2, V, 3\], got \[1, "):
        both.see(vertices, triangles)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_sees_the_same() -> None:
    screen, triangles = some_triangles(3, 1000)
    here = rasterise(screen, triangles, 40, 50)
    there = rasterise(screen.cuda(), triangles.cuda(), 40, 50)
    for name in ("sample", "pixel", "triangle"):
        assert torch.equal(getattr(here, name), getattr(there, name).cpu())
    assert torch.allclose(here.barycentric, there.barycentric.cpu(), atol=1e-6)
    vertices, mesh = sphere(0.1)
    assert torch.allclose(vertex_normals(vertices, mesh), vertex_normals(vertices.cuda(), mesh.cuda()).cpu(), atol=1e-6)
