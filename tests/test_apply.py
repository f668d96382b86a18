"""The commands that use normals, as a user gives them: what they write, and what they refuse in one line."""

import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from click.testing import Result
from numpy.typing import NDArray
from typer.testing import CliRunner

from casfne import files, images, octahedral, schema
from casfne.cli import app
from casfne.errors import InputError, guard
from casfne.images import Crop, linear_to_srgb, read_image, to_uint8, write_image
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import save_weights
from casfne.normals import direction, encode, sphere

SIZE = 256
BALL, ROUND = sphere(SIZE)
SKIN = np.array([0.5, 0.35, 0.25], np.float32)
TAKEN = direction(-30, 20)  # the light of every photograph here


def photograph(path: Path, height: int, width: int, crops: list[Crop]) -> Path:
    """A matte ball in each window, lit from ``TAKEN``, on grey."""
    picture = np.full((height, width, 3), 90, np.uint8)
    shading = (0.25 + 0.75 * np.maximum(BALL @ TAKEN, 0))[..., None] * SKIN
    for crop in crops:
        lit = images.resize(to_uint8(linear_to_srgb(shading)), crop.side)
        inside = images.resize(ROUND.astype(np.float32), crop.side) > 0.5
        picture[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side][inside] = lit[inside]
    write_image(path, picture)
    return path


def row(photo: Path, crop: Crop, face: int, **other: Any) -> dict[str, Any]:
    """What labelling would write of a ball in that window, were the model perfect."""
    height, width = read_image(photo).shape[:2] if photo.exists() else (300, 300)
    mask = {"bytes": images.encode_image(ROUND.astype(np.uint8) * 255), "path": None}
    return {
        "corpus": "f",
        "image_id": photo.name,
        "path": str(photo),
        "face_index": face,
        "status": "ok",
        "reason": "",
        "crop_to_image": crop.transform().ravel().tolist(),
        "source_height": height,
        "source_width": width,
        "normal": {"bytes": images.encode_image(encode(BALL, ROUND)), "path": None},
        "normal_octahedral": octahedral.encode(BALL, ROUND),
        "mask": mask,
    } | other


def labels(folder: Path, rows: list[dict[str, Any]]) -> Path:
    with files.atomic_open(folder / "corpus=f" / "part-00000.parquet") as file:
        schema.write(file, rows, {})
    return folder


def casfne(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(*arguments: object) -> str:
    """What the command says where it refuses: one line."""
    result = casfne(*arguments)
    assert isinstance(result.exception, InputError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Labels of one photograph with two faces."""
    crops = [Crop(20, 30, 200), Crop(260, 60, 120)]
    photo = photograph(tmp_path / "two.png", 300, 420, crops)
    return labels(tmp_path / "labels", [row(photo, crop, k) for k, crop in reversed(list(enumerate(crops)))])


@pytest.fixture
def one(tmp_path: Path) -> Path:
    photo = photograph(tmp_path / "one.png", 280, 280, [Crop(10, 12, SIZE)])
    return labels(tmp_path / "one", [row(photo, Crop(10, 12, SIZE), 0)])


def angles(said: str) -> tuple[float, float]:
    """Degrees from the normals, before and after, as `enhance` prints them."""
    found = re.search(r"([\d.]+) deg from the normals before, ([\d.]+) after", said)
    assert found, said
    return float(found[1]), float(found[2])


def side(picture: NDArray[np.uint8], crop: Crop) -> float:
    """How much brighter the right half of a face is than its left."""
    window = picture[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side].astype(float)
    quarter = crop.side // 4
    return float(window[quarter:-quarter, -2 * quarter :].mean() - window[quarter:-quarter, : 2 * quarter].mean())


# --- relight ---


def test_faces_are_relit_where_they_are_and_the_rest_stays(two: Path, tmp_path: Path) -> None:
    before = read_image(tmp_path / "two.png")
    result = casfne("relight", two, "--out", tmp_path / "out", "--azimuth", 60)
    assert result.exit_code == 0, result.output
    assert [line.split(", ")[0][-6:] for line in result.output.splitlines()] == ["face 0", "face 1"]
    after = read_image(tmp_path / "out" / "f" / "two.png.png")
    for crop in (Crop(20, 30, 200), Crop(260, 60, 120)):
        assert side(before, crop) < -5 < 5 < side(after, crop)
    off = np.ones(before.shape[:2], bool)
    off[30:230, 20:220] = off[60:180, 260:380] = False
    assert np.array_equal(before[off], after[off])


def test_where_two_faces_meet_each_is_told_by_the_photograph(tmp_path: Path) -> None:
    crops = [Crop(20, 30, 200), Crop(150, 60, 120)]
    photo = photograph(tmp_path / "meet.png", 300, 420, crops)
    made = {}
    for name, kept in (("both", [0, 1]), ("second", [1])):
        folder = labels(tmp_path / name, [row(photo, crops[k], k) for k in kept])
        made[name] = casfne("relight", folder, "--out", tmp_path / f"{name}.out", "--azimuth", 60).output.splitlines()
    assert made["both"][1].split("face 1")[1] == made["second"][0].split("face 1")[1]


def test_of_a_large_photograph_each_face_costs_its_own_size(tmp_path: Path) -> None:
    crops = [Crop(40 + 380 * k, 200 + 230 * (k % 3), 250) for k in range(10)]
    photo = photograph(tmp_path / "many.png", 3000, 4000, crops)
    folder = labels(tmp_path / "labels", [row(photo, crop, k) for k, crop in enumerate(crops)])
    tracemalloc.start()
    result = casfne("relight", folder, "--out", tmp_path / "out")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.exit_code == 0 and len(result.output.splitlines()) == 10
    assert most < 200e6  # two copies of the photograph; normals of its size alone are 144 MB, and made twice


def test_a_face_that_tells_no_light_stays_and_is_counted(two: Path, tmp_path: Path) -> None:
    picture = read_image(tmp_path / "two.png").copy()
    picture[60:180, 260:380] = 255
    write_image(tmp_path / "two.png", picture)
    message = refusal("relight", two, "--out", tmp_path / "out", "--azimuth", 60)
    assert "1 faces are not relit" in message and "two.png: face 1: 0 pixels" in message
    after = read_image(tmp_path / "out" / "f" / "two.png.png")
    assert np.array_equal(after[60:180, 260:380], picture[60:180, 260:380]) and side(after, Crop(20, 30, 200)) > 5


def test_a_photograph_that_is_gone_costs_no_other_its_light(tmp_path: Path) -> None:
    crop = Crop(10, 20, 150)
    photos = [photograph(tmp_path / f"{name}.png", 200, 220, [crop]) for name in "ab"]
    given = labels(tmp_path / "labels", [row(photo, crop, 0) for photo in photos])
    (tmp_path / "a.png").unlink()
    assert "a.png: cannot be read" in refusal("relight", given, "--out", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "f").iterdir()] == ["b.png.png"]


@pytest.mark.parametrize("suffix", [".png", ".hdr"])
def test_a_panorama_lights(one: Path, tmp_path: Path, suffix: str) -> None:
    sky = np.full((16, 32, 3), 20, np.uint8)
    sky[:, 16:] = 250  # the picture's right, for one who looks at the camera from the face
    path = tmp_path / f"sky{suffix}"
    if suffix == ".png":
        write_image(path, sky)
    else:
        pixels = np.concatenate([sky, np.full((16, 32, 1), 128, np.uint8)], -1)  # of one exponent, runs left out
        path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 16 +X 32\n" + pixels.tobytes())
    outs = []
    for mirrored in (False, True):
        if mirrored and suffix == ".png":
            write_image(path, np.ascontiguousarray(sky[:, ::-1]))
        elif mirrored:
            path.write_bytes(path.read_bytes()[:-2048] + np.ascontiguousarray(pixels[:, ::-1]).tobytes())
        result = casfne("relight", one, "--out", tmp_path / "out", "--environment", path)
        assert result.exit_code == 0, result.output
        outs.append(side(read_image(tmp_path / "out" / "f" / "one.png.png"), Crop(10, 12, SIZE)))
    assert min(outs) < -5 and max(outs) > 5


# --- shade ---


def test_shades_are_those_of_the_ball(one: Path, tmp_path: Path) -> None:
    result = casfne("shade", one, "--out", tmp_path / "out", "--azimuth", 30, "--elevation", 10)
    assert result.exit_code == 0 and "1 faces" in result.output
    shaded = read_image(tmp_path / "out" / "f" / "one.png.png")
    expected = images.shade(BALL, direction(30, 10), ROUND.astype(np.float32))
    inner = sphere(SIZE)[0][..., 2] > 0.2
    assert np.abs(shaded[12 : 12 + SIZE, 10 : 10 + SIZE].astype(int) - expected)[inner].max() <= 4
    assert not shaded[:12].any() and not shaded[12 + SIZE :].any()


# --- enhance ---


def test_depth_of_a_ball_is_a_mesh_that_follows_it(one: Path, tmp_path: Path) -> None:
    result = casfne("enhance", one, "--out", tmp_path / "ball.ply", "--mesh", "depth")
    assert result.exit_code == 0, result.output
    vertices = np.asarray(trimesh.load(tmp_path / "ball.ply", process=False).vertices)
    centre, middle = vertices[:, :2] - (SIZE - 1) / 2, np.hypot(*(vertices[:, :2] - (SIZE - 1) / 2).T)
    inner = middle < SIZE * 0.4
    height = np.sqrt((SIZE / 2) ** 2 - (centre**2).sum(1)[inner])
    assert np.std(vertices[inner, 2] - height) < 1.5


def test_a_users_mesh_is_refined(one: Path, tmp_path: Path) -> None:
    plate = trimesh.creation.icosphere(4, SIZE / 2).apply_scale([1, 1, 0.5])
    plate.apply_translation([(SIZE - 1) / 2, (SIZE - 1) / 2, 0])
    plate.export(tmp_path / "flat.obj")
    result = casfne("enhance", one, "--out", tmp_path / "ball.obj", "--mesh", tmp_path / "flat.obj")
    assert result.exit_code == 0, result.output
    before, after = angles(result.output)
    assert after < 0.5 * before
    assert len(trimesh.load(tmp_path / "ball.obj", process=False).faces) > 1000


def test_the_largest_face_of_one_image_is_taken_and_several_images_are_refused(two: Path, tmp_path: Path) -> None:
    other = photograph(tmp_path / "b.png", 280, 280, [Crop(0, 0, SIZE)])
    both = labels(tmp_path / "both", [row(other, Crop(0, 0, SIZE), 0), row(tmp_path / "one.png", Crop(0, 0, 99), 0)])
    assert "--where has to leave one" in refusal("enhance", both, "--out", tmp_path / "x.ply", "--mesh", "depth")
    chosen = ("--where", "image_id == b.png")
    assert casfne("enhance", both, "--out", tmp_path / "x.ply", "--mesh", "depth", *chosen).exit_code == 0


def test_without_a_mesh_the_mean_head_is_taken(one: Path, tmp_path: Path) -> None:
    result = casfne("enhance", one, "--out", tmp_path / "head.ply")
    assert result.exit_code == 0, result.output
    before, after = angles(result.output)
    assert after < 0.6 * before and len(trimesh.load(tmp_path / "head.ply", process=False).faces) > 9000


# --- photographs ---


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, Cascade(CascadeConfig(4, 0)), {})
    return path


@pytest.mark.parametrize("command, out", [("relight", "a.png"), ("shade", "a.jpg"), ("enhance", "a.obj")])
def test_a_photograph_is_enough(shared_data: Path, weights: Path, tmp_path: Path, command: str, out: str) -> None:
    photo = shared_data / "portraits" / "crops_256" / "00.png"
    more = ("--mesh", "depth") if command == "enhance" else ()
    result = casfne(command, photo, "--out", tmp_path / out, "--weights", weights, *more)
    assert result.exit_code == 0 and result.output.startswith(str(tmp_path / out)), result.output
    if command != "enhance":
        assert read_image(tmp_path / out).shape == read_image(photo).shape


def test_photographs_without_a_face_or_without_a_picture_are_named(weights: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "wall.png", np.full((200, 200, 3), 90, np.uint8))
    (tmp_path / "bad.jpg").write_bytes(b"")
    for name, message in (("wall.png", "found no face"), ("bad.jpg", "empty file"), ("gone.png", "")):
        said = refusal("shade", tmp_path / name, "--out", tmp_path / "x.png", "--weights", weights)
        assert f"{name}: " in said and message in said and not (tmp_path / "x.png").exists()


# --- refusals ---


@pytest.mark.parametrize("command, out", [("relight", "out"), ("shade", "out"), ("enhance", "out.ply")])
def test_labels_that_hold_nothing_are_named(tmp_path: Path, command: str, out: str) -> None:
    photo = photograph(tmp_path / "p.png", 280, 280, [Crop(0, 0, SIZE)])
    bare = labels(tmp_path / "bare", [row(photo, Crop(0, 0, SIZE), 0, normal=None, normal_octahedral=None)])
    none = labels(tmp_path / "none", [row(photo, Crop(0, 0, SIZE), -1, status="no_face")])
    assert "no picture of 'normal'" in refusal(command, bare, "--out", tmp_path / out)
    assert "no labelled face matches" in refusal(command, none, "--out", tmp_path / out)
    assert "gone" in refusal(command, tmp_path / "gone", "--out", tmp_path / out)
    assert "no column 'colour'" in refusal(command, bare, "--out", tmp_path / out, "--where", "colour == 1")
    assert not (tmp_path / out).exists()


def test_photographs_that_moved_or_changed_are_named(one: Path, tmp_path: Path) -> None:
    photo = tmp_path / "one.png"
    photograph(photo, 290, 280, [])
    assert "one.png: 280x290 pixels, labelled as 280x280" in refusal("relight", one, "--out", tmp_path / "out")
    photo.unlink()
    assert "1 faces are not relit; " in (said := refusal("relight", one, "--out", tmp_path / "out"))
    assert "one.png: cannot be read" in said
    assert casfne("shade", one, "--out", tmp_path / "out").exit_code == 0  # needs no photograph


@pytest.mark.parametrize("command, out", [("relight", ""), ("shade", ""), ("enhance", "face.ply")])
def test_where_nothing_can_be_written_it_is_said(one: Path, tmp_path: Path, capsys, command: str, out: str) -> None:
    (tmp_path / "file").write_text("in the way")
    more = ["--mesh", "depth"] if command == "enhance" else []
    with pytest.raises(SystemExit, match=r"^1$"):
        guard(app)([command, str(one), "--out", str(tmp_path / "file" / out), *more])
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {tmp_path / 'file'}")


@pytest.mark.parametrize(
    "content, message",
    [(None, "not a mesh that can be read"), ("", "base.obj"), ("v 0 0 0\n", "base.obj"), ("far", "shows nowhere")],
)
def test_a_base_that_is_none_is_named(one: Path, tmp_path: Path, content: str | None, message: str) -> None:
    base = tmp_path / "base.obj"
    if content is not None:
        base.write_text("v 900 0 0\nv 901 0 0\nv 900 1 0\nf 1 2 3\n" if content == "far" else content)
    said = refusal("enhance", one, "--out", tmp_path / "x.ply", "--mesh", base)
    assert message in said and "base.obj" in said and not (tmp_path / "x.ply").exists()


def test_other_wrong_arguments_are_named(one: Path, tmp_path: Path) -> None:
    assert "x.stl: expected a mesh" in refusal("enhance", one, "--out", tmp_path / "x.stl")
    assert "x.stl: expected a mesh" in refusal("enhance", one, "--out", tmp_path / "x.ply", "--mesh", "x.stl")
    assert "gone.hdr" in refusal("shade", one, "--out", tmp_path / "out", "--environment", tmp_path / "gone.hdr")
    photo = tmp_path / "one.png"
    assert "x.gif: expected a picture" in refusal("relight", photo, "--out", tmp_path / "x.gif")
    assert "--where chooses" in refusal("shade", photo, "--out", tmp_path / "x.png", "--where", "face_index == 0")
    assert "gone.safetensors" in refusal(
        "shade", photo, "--out", tmp_path / "x.png", "--weights", tmp_path / "gone.safetensors"
    )
