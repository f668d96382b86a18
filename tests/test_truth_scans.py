"""Textured scans as truth: exact normals of a body that formulas give, and real heads through the real detector."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from casfne.capture.draws import Draws
from casfne.capture.optics.framing import training_crop
from casfne.capture.people.anny import anny_model
from casfne.capture.render import observe
from casfne.capture.scene import HEAD, Studio, invite, pose, rotation
from casfne.corpora import scans
from casfne.corpora.florence import florence_jobs
from casfne.corpora.record import five_points
from casfne.corpora.samples import read_index, read_sample
from casfne.corpora.truths import Cutter, write_truth
from casfne.errors import InputError
from casfne.images import Crop, crop_from_points, linear_to_srgb, to_uint8, write_image
from casfne.labelling.faces import Dlib
from casfne.labelling.quality import oval
from casfne.normals import angle_deg, direction, normalise

HALF = np.array([70.0, 100.0, 90.0])  # millimetres: an ellipsoid like a head
WINDOW = Crop(166, 136, 180)  # of the first look, 512 pixels for 200 / 0.9 mm


def stand_in(*found: Crop) -> Cutter:
    """A detector that finds these windows in the whole picture, and none in its smaller copies."""
    return Cutter(lambda image: list(found) if len(image) == 512 else [], oval())


def write_scan(
    root: Path,
    who: str,
    vertices: NDArray,
    triangles: NDArray,
    uv: NDArray,
    texture: NDArray[np.uint8],
    name: str = "110920150452",
) -> Path:
    """A scan as MICC Florence has them."""
    folder = root / who / "Model" / "frontal1" / "obj"
    folder.mkdir(parents=True)
    rows = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices] + [f"vt {u:.6f} {v:.6f}" for u, v in uv]
    corners = (" ".join(f"{i}/{i}" for i in t) for t in triangles + 1)
    text = [f"mtllib {name}.mtl", *rows, "usemtl skin", *(f"f {c}" for c in corners)]
    (folder / f"{name}.obj").write_text("\n".join(text) + "\n")
    (folder / f"{name}.mtl").write_text(f"newmtl skin\nKd 1 1 1\nmap_Kd {name}.png\n")
    write_image(folder / f"{name}.png", texture)
    return folder / f"{name}.obj"


def ellipsoid(shift: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Vertices, triangles (outside counter-clockwise) and texture coordinates; moved by ``shift``."""
    rows, columns = 160, 320
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(-np.pi, np.pi, columns), indexing="ij")
    unit = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1).reshape(-1, 3)
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    uv = np.stack([(phi / np.pi + 1) / 2, 1 - theta / np.pi], -1).reshape(-1, 2)
    return unit * HALF + shift, triangles, uv


def exact(yaw: float, pitch: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Normals of that ellipsoid in the crop by rays, as this module's constants place it."""
    size, depth = 256, HALF[2]
    middle = np.array([WINDOW.left + 89.5, WINDOW.top + 89.5])
    for _ in range(5):  # the first look is from ten of the body's heights away
        per_pixel = 200 / 0.9 / 512 * (1 - depth / 2000)  # millimetres
        x, y = (middle - 255.5) * (1, -1) * per_pixel
        depth = HALF[2] * np.sqrt(1 - (x / HALF[0]) ** 2 - (y / HALF[1]) ** 2)
    nose, metre = np.array([x, y, depth]), scans.CROP_M / (WINDOW.side * per_pixel)
    turn = rotation(*(torch.tensor([a]) for a in (yaw, pitch, 0.0)))[0].double().numpy()
    neck = np.array([0, 0, scans.NECK_M])
    centre = turn @ (np.array([0, 0, scans.NOSE_M]) - nose * metre + neck) - neck  # of the ellipsoid
    face = turn @ neck - neck
    eye = np.array([face[0], face[1], face[2] + scans.DISTANCE_M])
    steps = (np.arange(size) - 127.5) * scans.CROP_M / size / scans.DISTANCE_M
    ahead = np.stack(np.broadcast_arrays(steps[None], -steps[:, None], -1.0), -1)
    # the camera's axis stays that of the room: eye and rays are shifted, not turned
    eye[:2] = 0
    ahead = ahead + np.array([face[0], face[1], 0]) / scans.DISTANCE_M
    inverse = np.diag(1 / (HALF * metre)) @ turn.T
    o, d = inverse @ (eye - centre), ahead @ inverse.T
    a, b, c = (d * d).sum(-1), d @ o, o @ o - 1
    root = b * b - a * c
    t = (-b - np.sqrt(np.maximum(root, 0))) / a
    at = o + d * t[..., None]
    return normalise(at @ inverse), root > 0


def grey(texture: int = 200) -> NDArray[np.uint8]:
    return np.full((64, 64, 3), texture, np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("florence")
    write_scan(folder / "tree", "subject_01", *ellipsoid(np.array([30.0, -500.0, 900.0])), grey())
    cutter = replace(stand_in(WINDOW), oval=np.ones((256, 256), bool))
    poses, lights = [(0.0, 0.0), (35.0, -10.0)], [(0.0, 0.0), (50.0, 20.0)]
    count, failures = write_truth(folder / "out", florence_jobs(folder / "tree", folder / "out", cutter, poses, lights))
    assert (count, failures) == (4, [])
    return folder / "out"


@pytest.mark.parametrize("yaw, pitch, archive", [(0, 0, "+0+0"), (35, -10, "+35-10")])
def test_normals_are_those_of_rays(made: Path, yaw: float, pitch: float, archive: str) -> None:
    sample = read_sample(made, f"subject_01_frontal1_110920150452_{archive}.npz", 0)
    normals, hit = exact(yaw, pitch)
    assert (sample.mask != hit).mean() < 0.01
    both = sample.mask & hit
    steep = both & (normals[..., 2] > 0.2)
    assert angle_deg(sample.normal[steep], normals[steep]).max() < 1
    assert angle_deg(sample.normal[both], normals[both]).mean() < 0.1


def test_images_are_shaded_by_their_lights(made: Path) -> None:
    index = read_index(made)
    assert set(index["subject"]) == {"subject_01"} and sorted(set(index["yaw_deg"])) == [0, 35]
    for row in index.to_dict("records"):
        sample = read_sample(made, row["archive"], row["light"])
        towards = direction(row["light_azimuth_deg"], row["light_elevation_deg"])
        albedo = ((200 / 255 + 0.055) / 1.055) ** 2.4
        shade = scans.FILL + (1 - scans.FILL) * np.maximum(sample.normal @ towards, 0)
        expected = to_uint8(linear_to_srgb(albedo * shade))[sample.mask]
        apart = np.abs(sample.image[sample.mask].astype(int) - expected[:, None])
        assert np.mean(apart <= 2) > 0.98  # but for the soft edge of the shadow that the body casts on itself
        picture = made / "images" / f"{row['sample_id']}.png"
        assert picture.is_file()


# --- heads, and the detector that labels use ---


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray]:
    """A tree with a painted head of the studio, its texture projected from the front, and its 68 landmarks."""
    studio = Studio([anny_model()], without=("hair", "accessories", "expression"))
    people = invite(studio, 0, Draws.numbered(7, [3], studio.device), Draws.numbered(8, [3], studio.device))
    scene = pose(people, rotation(*torch.zeros(3, 1)))
    size, one = 1024, torch.ones(1)
    camera = training_crop(size).camera(scene.landmarks, 2 * one, 0.6 * one, torch.zeros(1, 2))
    surface = observe(scene, camera, 1)
    texture = surface.fragments.picture(surface.material.albedo)[0].movedim(0, -1).numpy()
    uv = ((camera.project(scene.vertices)[0, :, :2] + 0.5) / size).numpy()
    root = tmp_path_factory.mktemp("head")
    triangles = scene.triangles[scene.part == HEAD].numpy()
    vertices = scene.vertices[0].numpy() * 1000 + (12, 40, -300)
    uv = np.stack([uv[:, 0], 1 - uv[:, 1]], 1)
    write_scan(root, "subject_07", vertices, triangles, uv, to_uint8(linear_to_srgb(texture)))
    return root, scene.landmarks[0].numpy() * 1000 + (12, 40, -300)


def test_a_head_is_framed_as_a_label_would_frame_it(head: tuple[Path, NDArray], tmp_path: Path) -> None:
    root, landmarks = head
    cutter = Cutter(Dlib(), oval())
    scan = scans.read_scan(next(root.rglob("*.obj")))
    upright = scans.upright(scan, lambda linear: cutter.largest(to_uint8(linear_to_srgb(linear)), "head"))
    scale = float((upright.vertices[0] - upright.vertices[1]).norm() / (scan.vertices[0] - scan.vertices[1]).norm())
    points = torch.from_numpy(landmarks).float() * scale + (upright.vertices[0] - scan.vertices[0] * scale)
    for yaw in (0.0, 30.0):
        _, camera = scans.turned(upright, yaw, 0.0)
        turn, neck = rotation(*(torch.tensor([a]) for a in (yaw, 0.0, 0.0)))[0], torch.tensor([0, 0, scans.NECK_M])
        pixels = camera.project(((points + neck) @ turn.T - neck)[None])[0, :, :2].numpy()
        crop = crop_from_points(five_points(pixels))
        assert abs(crop.side - 256) < 40 and abs(crop.left + crop.side / 2 - 128) < 20
        assert abs(crop.top + crop.side / 2 - 128) < 25
    count, failures = write_truth(tmp_path, florence_jobs(root, tmp_path, cutter))
    assert (count, failures) == (9, [])
    for row in read_index(tmp_path).to_dict("records"):
        sample = read_sample(tmp_path, row["archive"], row["light"])
        assert sample.mask.mean() > 0.3 and sample.normal[sample.mask][:, 2].mean() > 0.6


def test_poses_that_are_close_have_archives_of_their_own(tmp_path: Path) -> None:
    write_scan(tmp_path / "tree", "subject_01", *ellipsoid(np.zeros(3)), grey())
    close, same = (
        florence_jobs(tmp_path / "tree", tmp_path / "out", stand_in(WINDOW), [(0.0, 0.0), second], [(0.0, 0.0)])
        for second in ((0.4, 0.0), (0.0, 0.0))
    )
    assert write_truth(tmp_path / "out", close) == (2, [])
    assert len(set(read_index(tmp_path / "out")["archive"])) == 2
    with pytest.raises(InputError, match=r"_\+0\+0\.npz is there already"):
        write_truth(tmp_path / "out", same)


# --- trees that are none ---


def refused(root: Path, out: Path, find: list[Crop]) -> str:
    cutter = stand_in(*find)
    with pytest.raises(InputError) as error:
        write_truth(out, florence_jobs(root, out, cutter))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_wrong_trees_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "subject_01/Model" in refused(tmp_path / "empty", tmp_path / "out", [WINDOW])
    body = ellipsoid(np.zeros(3))
    bare = write_scan(tmp_path / "bare", "subject_01", *body, grey())
    bare.with_suffix(".png").unlink()
    assert f"{bare}: no texture" in refused(tmp_path / "bare", tmp_path / "out", [WINDOW])
    broken = write_scan(tmp_path / "broken", "subject_01", *body, grey())
    broken.write_text("v 0 0\nf nothing\n")
    assert str(broken) in refused(tmp_path / "broken", tmp_path / "out", [WINDOW])
    faceless = write_scan(tmp_path / "faceless", "subject_01", *body, grey())
    assert f"{faceless}: no face" in refused(tmp_path / "faceless", tmp_path / "out", [])
    beside = Crop(0, 0, 20)
    assert f"{faceless}: the middle of the face" in refused(tmp_path / "faceless", tmp_path / "out", [beside])


def test_one_bad_scan_does_not_stop_the_others(tmp_path: Path) -> None:
    body = ellipsoid(np.zeros(3))
    write_scan(tmp_path / "tree", "subject_01", *body, grey())
    bad = write_scan(tmp_path / "tree", "subject_02", *body, grey())
    bad.with_suffix(".mtl").unlink()
    cutter = stand_in(WINDOW)
    jobs = florence_jobs(tmp_path / "tree", tmp_path / "out", cutter, [(0.0, 0.0)], [(0.0, 0.0)])
    count, failures = write_truth(tmp_path / "out", jobs)
    assert count == 1 and len(failures) == 1 and str(bad) in failures[0]
