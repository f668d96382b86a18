"""A capture: exact geometry and light, faces in the project's frame, sessions laid out as Photoface has them."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from casfne import images
from casfne.capture import corpora, heads, photoface, shading
from casfne.capture.raster import Camera, rasterise, vertex_normals, visibility
from casfne.normals import angle_deg, direction_from_zenith, recognise_frame

STUDIO = photoface.Studio(120, 160, 25, 12, noise=0.0, specular=0.08, ambient=0.02)


def sphere(radius: float, rings: int = 60, around: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere of quads cut in two, counter-clockwise from outside."""
    polar = torch.linspace(0, torch.pi, rings + 1)[:, None]
    turn = torch.arange(around) * (2 * torch.pi / around)
    points = torch.stack([polar.sin() * turn.cos(), polar.cos().expand(-1, around), -polar.sin() * turn.sin()], -1)
    i, j = torch.meshgrid(torch.arange(rings), torch.arange(around), indexing="ij")
    a, b = i * around + j, i * around + (j + 1) % around
    c, d = a + around, b + around
    triangles = torch.cat([torch.stack([a, c, b], -1).view(-1, 3), torch.stack([b, c, d], -1).view(-1, 3)])
    return radius * points.view(-1, 3), triangles


def surface_of(vertices: torch.Tensor, triangles: torch.Tensor, camera: Camera) -> shading.Surface:
    """A mesh of albedo 0.5, with nothing of a head about it."""
    raster = camera.see(vertices, triangles)
    seen = raster.covered
    points, normals = (raster.interpolate(v, triangles)[seen] for v in (vertices, vertex_normals(vertices, triangles)))
    normals = torch.nn.functional.normalize(normals, dim=-1)
    flat = torch.zeros(len(points), dtype=torch.int64)
    view = torch.nn.functional.normalize(torch.tensor([0.0, 0.0, camera.distance]) - points, dim=-1)
    albedo = torch.full_like(points, 0.5)
    return shading.Surface(seen, points, normals, albedo, view, flat, vertices, triangles)


# --- geometry ---


def test_sphere_normals_are_those_of_the_formula() -> None:
    vertices, triangles = sphere(0.1, 120, 240)
    camera = Camera(2.0, 1600.0, 200, 200, (99.5, 99.5))
    surface = surface_of(vertices, triangles, camera)
    rows, columns = np.nonzero(surface.seen.numpy())
    ray = np.stack([(columns - 99.5) / 1600, (99.5 - rows) / 1600, -np.ones(len(rows))], -1)
    # |(0, 0, 2) + t ray| = 0.1, the nearer of the two
    half, square = 2.0, (ray**2).sum(-1)
    root = half**2 - square * (4 - 0.01)
    assert (root > 0).all()  # the mesh lies inside the sphere: every pixel that it covers has a solution
    t = (half - np.sqrt(root)) / square
    exact = (np.array([0, 0, 2.0]) + t[:, None] * ray) / 0.1
    error = angle_deg(surface.normals.numpy(), exact)
    facing = (-ray * exact).sum(-1) / np.sqrt(square) > 0.5  # within 60 degrees of the line of sight
    assert error[facing].max() < 0.05


def test_nearest_triangle_is_that_of_a_slow_search() -> None:
    generator = torch.Generator().manual_seed(0)
    height, width = 40, 50
    middle = torch.rand(150, 1, 3, generator=generator) * torch.tensor([60.0, 50.0, 1.0]) - 5
    corners = middle + (torch.rand(150, 3, 3, generator=generator) - 0.5) * torch.tensor([20.0, 20.0, 0.5])
    triangles = torch.arange(450).view(150, 3)
    found = rasterise(corners.view(-1, 3), triangles, height, width)
    expected = torch.full((height, width), -1)
    best = torch.full((height, width), -torch.inf, dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).double()
    for index, triangle in enumerate(corners.double()):
        system = torch.cat([triangle[:, :2].T, torch.ones(1, 3, dtype=torch.float64)])
        weights = pixels @ torch.linalg.inv(system).T
        near = weights @ triangle[:, 2]
        wins = (weights >= 0).all(-1) & (near > best)
        best[wins], expected[wins] = near[wins], index
    assert torch.equal(found.triangle, expected)
    assert torch.allclose(found.nearness[expected >= 0], best[expected >= 0])


def test_chunks_do_not_change_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, triangles = sphere(0.1, 12, 20)
    camera = Camera(2.0, 800.0, 100, 100, (49.5, 49.5))
    whole = camera.see(vertices, triangles)
    monkeypatch.setattr("casfne.capture.raster.CHUNK", 100)
    pieces = camera.see(vertices, triangles)
    assert torch.equal(whole.triangle, pieces.triangle)
    assert torch.equal(whole.barycentric, pieces.barycentric)


def test_closed_mesh_has_no_cracks() -> None:
    vertices, triangles = sphere(0.1, 30, 40)
    covered = Camera(2.0, 1600.0, 200, 200, (99.5, 99.5)).see(vertices, triangles).covered
    for row in covered:
        inside = row.nonzero()[:, 0]
        assert len(inside) == 0 or len(inside) == int(inside[-1] - inside[0]) + 1


def test_perspective_interpolation_is_exact_on_a_slanted_plane() -> None:
    vertices = torch.tensor([[-0.2, -0.1, 0.3], [0.2, -0.1, -0.5], [0.2, 0.1, -0.5], [-0.2, 0.1, 0.3]])
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])
    camera = Camera(2.0, 400.0, 60, 100, (49.5, 29.5))
    raster = camera.see(vertices, triangles)
    points = raster.interpolate(vertices, triangles)[raster.covered]
    rows, columns = raster.covered.nonzero().T
    back = camera.project(points)
    assert torch.allclose(back[:, 0], columns.float(), atol=1e-3)
    assert torch.allclose(back[:, 1], rows.float(), atol=1e-3)


def test_rasterise_names_bad_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        rasterise(torch.zeros(4, 2), torch.zeros(1, 3, dtype=torch.int64), 8, 8)


# --- light ---


def test_lambertian_is_albedo_times_cosine() -> None:
    vertices, triangles = sphere(0.1)
    surface = surface_of(vertices, triangles, Camera(2.0, 1600.0, 200, 200, (99.5, 99.5)))
    light = torch.from_numpy(direction_from_zenith(40, 60))
    rendered = images.to_uint8(shading.shade(surface, light, specular=0.0, ambient=0.0).numpy())
    expected = 0.5 * (surface.points / 0.1 @ light).clamp_min(0)[:, None].numpy() * 255
    assert np.abs(rendered - expected).max() < 1.0  # a convex body casts no shadow on itself


def test_highlight_and_ambient_add_light() -> None:
    vertices, triangles = sphere(0.1, 30, 40)
    surface = surface_of(vertices, triangles, Camera(2.0, 400.0, 50, 50, (24.5, 24.5)))
    light = torch.from_numpy(direction_from_zenith(30, 0))
    plain, ambient, glossy = (shading.shade(surface, light, s, a) for s, a in ((0, 0), (0, 0.1), (0.1, 0)))
    assert torch.allclose(ambient - plain, torch.full_like(plain, 0.05), atol=1e-6)
    half = torch.nn.functional.normalize(surface.view + light, dim=-1)
    peak = (glossy - plain)[:, 0].argmax()
    assert angle_deg(surface.normals[peak].numpy(), half[peak].numpy()) < 5


def test_square_above_a_plane_casts_its_shadow() -> None:
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    vertices = torch.cat([corners * 0.1, corners * 0.02 + torch.tensor([0, 0, 0.05])])
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    light = torch.from_numpy(direction_from_zenith(45, 0))  # from the right: the shadow falls to the left
    x = torch.linspace(-0.095, 0.095, 77)
    grid = torch.stack(torch.meshgrid(x, x, indexing="ij"), -1).view(-1, 2)
    points = torch.cat([grid, torch.zeros(len(grid), 1)], -1)
    up = torch.tensor([0.0, 0, 1]).expand_as(points)
    lit = visibility(points, up, vertices, triangles, light)
    outside = torch.maximum((grid[:, 0] + 0.05).abs(), grid[:, 1].abs()) - 0.02
    assert lit[outside < -0.002].max() == 0
    assert lit[outside > 0.002].min() > 0.999


# --- people ---


def a_head(seed: int, emotion: str = "blankstare") -> heads.Head:
    person = heads.sample_person(np.random.default_rng(seed))
    return heads.build_head(person, heads.Expression(emotion, {}))


def test_face_lies_in_the_frame() -> None:
    for seed in range(4):
        head = a_head(seed)
        p = head.landmarks_68
        assert p[8, 1] < 0 < head.mid_forehead[1]  # chin below, forehead above
        assert p[36:42, 0].mean() < 0 < p[42:48, 0].mean()  # point 36 is on the left of the picture
        assert p[48, 0] < p[54, 0] and p[37, 1] > p[41, 1] and p[31, 0] < p[35, 0]
        normal = vertex_normals(head.vertices, head.triangles)
        assert normal[heads.LANDMARKS_68[30], 2] > 0.85
        assert head.vertices[:, 2].argmax() in head.triangles[head.region == heads.FACE]
        assert 0.18 < float(p[:, 1].amax() - p[8, 1]) + 0.09 < 0.30  # metres


def test_landmarks_lie_on_the_regions_that_they_mark() -> None:
    head = a_head(0)
    of = {r: set(head.triangles[head.region == r].flatten().tolist()) for r in (heads.FACE, heads.EYELID)}
    assert len(set(heads.LANDMARKS_68)) == 68
    for vertex in heads.LANDMARKS_68[36:48]:  # the lids' edges: where face and inner lid meet
        assert vertex in of[heads.FACE] and vertex in of[heads.EYELID]
    template = head.template[list(heads.LANDMARKS_68)]
    mirror = list(range(16, -1, -1)) + list(range(26, 16, -1)) + [27, 28, 29, 30, 35, 34, 33, 32, 31]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    gap = (template[mirror] * torch.tensor([-1.0, 1, 1]) - template).norm(dim=-1)
    assert gap.max() < 5e-4


def test_people_differ_and_repeat() -> None:
    one, again, other = a_head(1), a_head(1), a_head(2)
    assert torch.equal(one.vertices, again.vertices)
    assert (one.vertices - other.vertices).norm(dim=-1).mean() > 0.001


def make(seed: int) -> photoface.Capture:
    rng = np.random.default_rng(seed)
    person = heads.sample_person(rng)
    return photoface.capture(person, shading.sample_skin(rng, person), STUDIO, rng)


def test_capture_repeats_and_is_a_face_in_our_frame() -> None:
    one, again, other = make(1), make(1), make(2)
    for name in ("pictures", "lights", "points", "normal", "mask", "albedo"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
    assert not np.array_equal(one.pictures, other.pictures)
    assert 0.1 < one.mask.mean() < 0.6
    assert recognise_frame(one.normal, one.mask)[0] == "opengl"
    assert np.abs(np.linalg.norm(one.normal[one.mask], axis=-1) - 1).max() < 1e-5
    assert (one.normal[one.mask][:, 2] > 0).all()


def test_pictures_are_albedo_times_cosine_but_for_shadows() -> None:
    rng = np.random.default_rng(3)
    person = heads.sample_person(rng)
    matte = dataclasses.replace(STUDIO, specular=0.0, ambient=0.0)
    made = photoface.capture(person, shading.sample_skin(rng, person), matte, rng)
    direction = direction_from_zenith(made.lights[:, 0], made.lights[:, 1])
    for picture, light in zip(made.pictures, direction, strict=True):
        expected = 255 * np.clip(made.albedo * np.clip(made.normal @ light, 0, None)[..., None], 0, 1)
        short = (expected - picture)[made.mask].max(-1)
        assert (expected - picture)[made.mask].min() > -0.6  # never brighter
        assert 0.6 < (short < 0.6).mean() < 1  # darker only where a shadow falls


# --- on disk ---


def test_session_is_laid_out_as_photoface(tmp_path: Path) -> None:
    made = make(4)
    name = photoface.session_name(17, 1)
    folder = photoface.write_session(tmp_path / "db", tmp_path / "truth", 17, name, made)
    assert folder == tmp_path / "db" / "0017" / name
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", name)
    files = {"im0.bmp", "im1.bmp", "im2.bmp", "im3.bmp", "LightSource.m", "metadata.txt", "metadataII.txt"}
    assert {p.name for p in folder.iterdir()} == files
    for i in range(4):
        assert np.array_equal(images.read_image(folder / f"im{i}.bmp"), made.pictures[i])
    matrix = re.search(r"\[(.*)\]", (folder / "LightSource.m").read_text())
    assert matrix is not None
    lights = np.array([row.split() for row in matrix[1].split(";")], float)
    assert np.array_equal(lights, made.lights)
    points = np.loadtxt(folder / "metadata.txt")
    assert points.shape == (11, 2)
    assert (points >= 0).all() and (points < [STUDIO.width, STUDIO.height]).all()
    assert points[0, 0] < points[1, 0] < points[3, 0] < points[4, 0] and points[10, 1] == points[:, 1].max()
    fields = (folder / "metadataII.txt").read_text().strip().split(",")
    assert fields[0] in ("male", "female") and fields[3] in "12345" and fields[6] in heads.EMOTIONS
    with np.load(tmp_path / "truth" / "0017" / f"{name}.npz") as truth:
        assert np.array_equal(truth["mask"], made.mask)
        error = angle_deg(truth["normal"][made.mask].astype(np.float32), made.normal[made.mask])
        assert error.max() < 0.05


def test_failing_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = make(4), photoface.write_text

    def fail(path: Path, text: str) -> None:
        if path.name == "metadata.txt":
            raise OSError("disk full")
        real(path, text)

    monkeypatch.setattr(photoface, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        photoface.write_session(tmp_path / "db", tmp_path / "truth", 1, photoface.session_name(1, 0), made)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert list((tmp_path / "db" / "0001").iterdir()) == []


def test_session_names_differ() -> None:
    names = {photoface.session_name(s, k) for s in range(1, 500) for k in range(4)}
    assert len(names) == 499 * 4


def test_corpora_have_the_layouts_of_the_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(corpora.write_celeba(tmp_path / "celeba", 2, 7))) == 2
    lines = (tmp_path / "celeba" / "list_landmarks_align_celeba.txt").read_text().splitlines()
    assert lines[0] == "2" and lines[1].startswith("lefteye_x lefteye_y") and len(lines) == 4
    name, *values = lines[2].split()
    assert images.read_image(tmp_path / "celeba" / "img_align_celeba" / name).shape == (218, 178, 3)
    five = np.array(values, float).reshape(5, 2)
    assert np.abs(five[:2].mean(0) - [88.5, 111.5]).max() < 1.5 and five[0, 0] < five[1, 0]

    list(corpora.write_300w(tmp_path / "300w", 2, 7))
    text = (tmp_path / "300w" / "02_Outdoor" / "outdoor_001.pts").read_text()
    assert text.startswith("version: 1\nn_points: 68\n{\n") and text.endswith("}\n")
    assert len(text.splitlines()) == 4 + 68
    assert images.read_image(tmp_path / "300w" / "01_Indoor" / "indoor_001.png").shape == (480, 640, 3)

    list(corpora.write_ffhq(tmp_path / "ffhq", 1, 7))
    index = json.loads((tmp_path / "ffhq" / "ffhq-dataset-v2.json").read_text())
    picture = index["0"]["image"]
    assert images.read_image(tmp_path / "ffhq" / picture["file_path"]).shape == (1024, 1024, 3)
    assert np.shape(picture["face_landmarks"]) == (68, 2)


def test_the_head_models_cache_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    import anny.paths

    def build(_):
        folder = anny.paths.get_anny_cache_path()
        folder.mkdir(exist_ok=True)
        (folder / "load_data_x").write_text("large")
        (folder / "model").write_text("small")
        if killed:
            raise KeyboardInterrupt
        return "model"

    monkeypatch.setattr(anny.paths, "_ANNY_CACHE_DIR", [tmp_path])
    monkeypatch.setattr(heads, "_make_model", build)
    killed = True
    with pytest.raises(KeyboardInterrupt):
        heads._cached_model()
    assert not list(tmp_path.iterdir())
    killed = False
    anny.paths.set_anny_cache_path(tmp_path)
    assert heads._cached_model() == "model"
    assert [p.name for p in tmp_path.iterdir()] == [f"casfne-anny-{anny.__version__}"]
    assert anny.paths.get_anny_cache_path() == tmp_path
