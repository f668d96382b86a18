"""Reading pictures safely, crops, files that are never half-written."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from casfne import files, images, normals
from casfne.errors import InputError

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("zero.jpg", b"", "empty file"),
        ("text.png", b"<html>not found</html>", "not an image"),
        ("cut.bmp", images.encode_image(PICTURE, ".bmp")[:700], "damaged image"),
        ("cut.jpg", _saved(Image.fromarray(PICTURE).resize((200, 200)), "JPEG")[:2000], "damaged image"),
        ("cut.png", images.encode_image(PICTURE, ".png")[:900], "damaged image"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {reason}"):
        images.read_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.png: cannot be read"):
        images.read_image(tmp_path / "nowhere.png")


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_round_trip(tmp_path, suffix):
    images.write_image(tmp_path / f"a{suffix}", PICTURE)
    assert (images.read_image(tmp_path / f"a{suffix}") == PICTURE).all()


def test_a_smooth_png_is_lossless_and_smaller_where_it_should_be():
    ball, inside = normals.sphere(256)
    noise = np.random.default_rng(0).normal(0, 0.005, ball.shape)  # a perfect ball repeats itself, a model's does not
    picture = normals.encode(normals.normalise(ball + noise), inside)
    plain, smooth = images.encode_image(picture), images.encode_image(picture, smooth=True)
    assert (images.read_image(smooth) == picture).all() and (images.read_image(plain) == picture).all()
    assert len(smooth) < len(plain)
    mask = inside.astype(np.uint8) * 255
    data = images.encode_image(mask, smooth=True)
    assert Image.open(io.BytesIO(data)).mode == "L"
    assert (images.read_image(data)[..., 0] == mask).all()
    assert (images.read_image(images.encode_image(PICTURE, smooth=True)) == PICTURE).all()


def test_errors_say_why_and_travel_between_processes():
    with pytest.raises(images.PictureError) as caught:
        images.decode_image(b"", "a.png")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.code) == ("a.png: empty file", "empty_file")


def test_formats_that_start_programs_are_not_opened():
    Image.init()
    assert not {"EPS", "WMF", "PDF"} & set(images.FORMATS)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused_at_once(tmp_path, make):
    make(tmp_path / "x.jpg")
    with pytest.raises(images.PictureError, match="cannot be read") as caught:
        images.read_image(tmp_path / "x.jpg")
    assert caught.value.code == "not_a_file"


def test_every_mode_becomes_rgb():
    rgb = Image.fromarray(PICTURE)
    grey = np.asarray(rgb.convert("L"))
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    assert (images.read_image(_saved(rgb.convert("RGBA"), "PNG")) == PICTURE).all()
    assert (images.read_image(_saved(rgb.convert("L"), "PNG"))[..., 0] == grey).all()
    assert (images.read_image(_saved(sixteen, "PNG"))[..., 1] == grey).all()
    assert images.read_image(_saved(rgb.convert("CMYK"), "JPEG")).shape == PICTURE.shape
    assert images.read_image(_saved(rgb.convert("P"), "PNG")).shape == PICTURE.shape


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to look upright
    data = _saved(Image.fromarray(PICTURE), "PNG", exif=exif)
    assert (images.read_image(data) == np.rot90(PICTURE, -1)).all()


@given(st.floats(0, 1))
def test_srgb_round_trip(value):
    assert images.srgb_to_linear(images.linear_to_srgb(value)) == pytest.approx(value, abs=1e-4)


@given(st.integers(-40, 60), st.integers(-40, 60), st.integers(2, 90))
def test_a_crop_is_always_whole_and_its_transform_points_back(left, top, side):
    photo = np.zeros((50, 70, 2), np.float32)
    photo[..., 0], photo[..., 1] = np.meshgrid(np.arange(70), np.arange(50))
    crop = images.Crop(left, top, side)
    window = crop.apply(photo, 64)
    assert window.shape == (64, 64, 2) and np.isfinite(window).all()
    inside = crop.inside(50, 70, 64)
    matrix = crop.transform(64)
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    back = np.stack([x, y, np.ones_like(x)], -1) @ matrix.T
    assert (inside == ((back >= -0.5) & (back < np.array([69.5, 49.5]))).all(-1)).all()
    # the middle of the inside, away from resampling's reach over the border
    deep = (back > side / 16 + 1).all(-1) & (back < np.array([69, 49]) - side / 16 - 1).all(-1) & inside
    assert np.abs(window - back)[deep].max(initial=0) < 1


def test_the_crop_convention():
    points = np.array([[80, 100], [140, 100], [110, 130], [90, 170], [130, 170]])
    crop = images.crop_from_points(points)
    assert crop.side == round(max(2.7 * 70, 3.2 * 60))
    assert crop.left + crop.side / 2 == pytest.approx(110, abs=1)
    assert crop.top + crop.side / 2 == pytest.approx(135, abs=1)
    with pytest.raises(ValueError, match="5 finite points"):
        images.crop_from_points(points[:4])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic_open(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("suffix", images.WRITTEN)
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_what_may_be_written_can_be(suffix, shape, tmp_path):
    path = tmp_path / f"a{suffix.upper()}"
    images.check_picture(path)
    images.write_image(path, np.full(shape, 77, np.uint8))
    assert np.abs(images.read_image(path).astype(int) - 77).max() <= 1
    with pytest.raises(InputError, match=r"a\.ppm: expected a picture in \.png"):
        images.check_picture(tmp_path / "a.ppm")
