"""A capture: pictures that follow from exact normals and lights, sessions laid out as Photoface has them; corpora."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from casfne import images
from casfne.capture import corpora, photoface
from casfne.capture.draws import Draws
from casfne.capture.people.anny import anny_model
from casfne.capture.photoface import EMOTIONS
from casfne.capture.scene import Studio
from casfne.normals import angle_deg, direction_from_zenith, recognise_frame

RIG = photoface.Rig(120, 160, 25, 12, noise=0.0, gloss=1.0, ambient=0.02, light_distance=1.5, motion=0.0)


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio([anny_model()])


def make(studio: Studio, *numbers: int, **changes: float) -> list[photoface.Capture]:
    who = Draws.numbered(5, numbers, studio.device)
    return photoface.capture(studio, 0, who, who.sub("moment"), dataclasses.replace(RIG, **changes))


def test_capture_repeats_alone_and_among_others(studio: Studio) -> None:
    [one] = make(studio, 1)
    _, again, other = make(studio, 3, 1, 2)
    for name in ("lights", "points", "normal", "mask", "albedo"):
        assert np.allclose(getattr(one, name), getattr(again, name), atol=1e-6)
    assert np.abs(one.pictures.astype(int) - again.pictures).max() <= 1
    assert one.attributes == again.attributes
    assert np.abs(one.pictures.astype(int) - other.pictures).mean() > 2


def test_capture_is_a_face_in_our_frame(studio: Studio) -> None:
    for made in make(studio, 1, 2):
        assert 0.05 < made.mask.mean() < 0.6
        assert recognise_frame(made.normal, made.mask)[0] == "opengl"
        assert np.abs(np.linalg.norm(made.normal[made.mask], axis=-1) - 1).max() < 1e-5
        assert (made.normal[made.mask][:, 2] > 0).all()
        brightest = made.pictures.max((0, 3))[made.mask]
        assert abs(np.quantile(brightest, 0.995) - 255 * photoface.WHITE) < 2


def test_pictures_are_albedo_times_cosine_but_for_shadows(studio: Studio) -> None:
    """Without gloss and ambient light; from so far that the flashes are as good as distant."""
    for made in make(studio, 3, 4, gloss=0.0, ambient=0.0, light_distance=1000.0):
        direction = direction_from_zenith(made.lights[:, 0], made.lights[:, 1])
        for picture, light in zip(made.pictures, direction, strict=True):
            expected = 255 * np.clip(made.albedo * np.clip(made.normal @ light, 0, None)[..., None], 0, 1)
            error = (picture - expected)[made.mask][:, 1]  # green: its terminator is nearly as hard as the formula's
            assert (np.abs(error) < 6).mean() > 0.6
            assert np.quantile(error, 0.95) < 8  # brighter nowhere, but for the skin's glow past the terminator


def test_near_flashes_are_brighter_where_they_are_nearer(studio: Studio) -> None:
    [far], [near] = make(studio, 5, light_distance=1000.0), make(studio, 5, light_distance=0.5)
    assert np.allclose(far.lights, near.lights)
    x, y = np.meshgrid(np.linspace(-1, 1, 160), np.linspace(1, -1, 120))
    for light, from_far, from_near in zip(near.lights, far.pictures, near.pictures, strict=True):
        direction = direction_from_zenith(*light)
        lit = near.mask & (from_far[..., 1] > 40) & (from_near[..., 1] > 40)
        ratio = from_near[..., 1][lit] / from_far[..., 1][lit].astype(float)
        assert np.corrcoef(ratio, x[lit] * direction[0] + y[lit] * direction[1])[0, 1] > 0.3


def test_motion_moves_the_pictures_as_the_truth_says(studio: Studio) -> None:
    [still], [moving] = make(studio, 6), make(studio, 6, motion=3.0)
    assert np.array_equal(moving.normal, still.normal) and (moving.moved[0] == 0).all()
    assert np.abs(moving.moved[1:]).max() > 0.5 and (still.moved[0] == 0).all()
    for shot in range(1, 4):
        grid = torch.from_numpy(still.pictures[shot]).movedim(-1, 0)[None].float()
        shift = torch.tensor(moving.moved[shot]) * 2 / torch.tensor([160.0, 120.0])
        matrix = torch.tensor([[[1.0, 0, -shift[0]], [0, 1, -shift[1]]]])
        where = torch.nn.functional.affine_grid(matrix, list(grid.shape), align_corners=False)
        expected = torch.nn.functional.grid_sample(grid, where, align_corners=False)[0].movedim(0, -1).numpy()
        there, inner = moving.pictures[shot].astype(float), still.mask
        scale = there[inner].mean() / expected[inner].mean()  # exposures differ a little
        assert np.abs(there - scale * expected)[inner].mean() < 0.7 * np.abs(there - still.pictures[shot])[inner].mean()


def test_attributes_say_what_the_pictures_show(studio: Studio) -> None:
    made = make(studio, *range(24))
    fields = np.array([capture.attributes for capture in made])
    assert set(fields[:, 0]) == {"male", "female"} and set(fields[:, 1]) <= {"yes", "no"}
    assert set(fields[:, 2]) <= {"none", "beard", "moustache", "both", "stubble"}
    assert set(fields[:, 3]) <= set("12345") and set(fields[:, 5]) <= {"", "hand", "-other"}
    assert len(set(fields[:, 6])) > 1 and set(fields[:, 6]) <= set(EMOTIONS)


# --- on disk ---


def test_session_is_laid_out_as_photoface(studio: Studio, tmp_path: Path) -> None:
    [made] = make(studio, 4)
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
    assert (points >= 0).all() and (points < [RIG.width, RIG.height]).all()
    assert points[0, 0] < points[1, 0] < points[3, 0] < points[4, 0] and points[10, 1] == points[:, 1].max()
    fields = (folder / "metadataII.txt").read_text().strip().split(",")
    assert fields[0] in ("male", "female") and fields[3] in "12345" and fields[6] in EMOTIONS
    with np.load(tmp_path / "truth" / "0017" / f"{name}.npz") as truth:
        assert np.array_equal(truth["mask"], made.mask) and np.array_equal(truth["moved"], made.moved)
        error = angle_deg(truth["normal"][made.mask].astype(np.float32), made.normal[made.mask])
        assert error.max() < 0.05


def test_failing_write_leaves_nothing_behind(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [made], real = make(studio, 4), photoface.write_text

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


def test_corpora_have_the_layouts_of_the_real_ones(studio: Studio, tmp_path: Path) -> None:
    assert len(list(corpora.write_celeba(tmp_path / "celeba", studio, 2, 7))) == 2
    lines = (tmp_path / "celeba" / "list_landmarks_align_celeba.txt").read_text().splitlines()
    assert lines[0] == "2" and lines[1].startswith("lefteye_x lefteye_y") and len(lines) == 4
    name, *values = lines[2].split()
    assert images.read_image(tmp_path / "celeba" / "img_align_celeba" / name).shape == (218, 178, 3)
    five = np.array(values, float).reshape(5, 2)
    assert np.abs(five[:2].mean(0) - [88.5, 111.5]).max() < 1.5 and five[0, 0] < five[1, 0]

    list(corpora.write_300w(tmp_path / "300w", studio, 2, 7))
    text = (tmp_path / "300w" / "02_Outdoor" / "outdoor_001.pts").read_text()
    assert text.startswith("version: 1\nn_points: 68\n{\n") and text.endswith("}\n")
    assert len(text.splitlines()) == 4 + 68
    assert images.read_image(tmp_path / "300w" / "01_Indoor" / "indoor_001.png").shape == (480, 640, 3)

    list(corpora.write_ffhq(tmp_path / "ffhq", studio, 1, 7))
    index = json.loads((tmp_path / "ffhq" / "ffhq-dataset-v2.json").read_text())
    picture = index["0"]["image"]
    assert images.read_image(tmp_path / "ffhq" / picture["file_path"]).shape == (1024, 1024, 3)
    assert np.shape(picture["face_landmarks"]) == (68, 2)
