"""Captures from disk: every layout read as it is documented, and what is wrong with one named."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from casfne.errors import InputError
from casfne.images import encode_image, read_image, read_pixels, write_image
from casfne.normals import direction
from casfne.stereo.captures import Capture, open_capture, stack
from casfne.stereo.lights import yale_light
from casfne.stereo.yale_b import read_yale_b

# --- pixels as files hold them ---


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pnm"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [1, 3])
def test_pixels_keep_their_depth_and_their_colours(tmp_path, suffix, dtype, colours):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 7, colours)).astype(dtype)
    path = tmp_path / f"any{suffix}"
    cv2.imwrite(str(path), values[..., ::-1])
    found = read_pixels(path)
    assert found.dtype == dtype and np.array_equal(found, values)
    upper = values if dtype == np.uint8 else values >> 8
    assert np.abs(read_image(path).astype(int) - upper).max() <= 1  # PNM's deep colours are rounded, not cut


def test_twelve_bits_are_scaled_to_the_whole_range():
    for magic, colours in ((b"P5", 1), (b"P6", 3)):
        values = np.random.default_rng(0).integers(0, 4096, (2, 3, colours))
        found = read_pixels(magic + b"\n3 2\n4095\n" + values.astype(">u2").tobytes())
        assert found.dtype == np.uint16 and np.abs(found - values * 65535 / 4095).max() <= 0.5


def test_deep_colours_are_upright_and_without_alpha():
    values = np.random.default_rng(0).integers(0, 65535, (4, 6, 4)).astype(np.uint16)
    plain = cv2.imencode(".png", values)[1].tobytes()
    tag = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x112, 3, 1, 6) + bytes(4)  # orientation 6: turned right
    chunk = b"eXIf" + tag
    turned = plain[:33] + struct.pack(">I", len(tag)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
    assert np.array_equal(read_pixels(plain), values[..., 2::-1])
    assert np.array_equal(read_pixels(turned), np.rot90(values[..., 2::-1], -1))


@pytest.mark.parametrize(
    "content, message",
    [
        (cv2.imencode(".tif", np.ones((4, 4), np.float32))[1].tobytes(), "floats, expected 8 or 16 bits"),
        (cv2.imencode(".png", np.ones((40, 40, 3), np.uint16))[1].tobytes()[:60], "damaged image"),
        (b"", "empty file"),
        (b"P7", "not an image"),
    ],
)
def test_what_holds_no_such_pixels_is_refused_by_name(content, message):
    with pytest.raises(InputError, match=rf"one\.x: .*{message}"):
        read_pixels(content, "one.x")


def test_thirty_two_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="32 bits"):
        read_pixels(tmp_path / "a.tif")


def test_a_stack_holds_its_pictures_once(tmp_path):
    for i in range(30):
        write_image(tmp_path / f"{i:02d}.bmp", np.full((200, 300, 3), i, np.uint8))
    paths = sorted(tmp_path.iterdir())
    tracemalloc.start()
    pictures = stack(paths)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (pictures == np.arange(30, dtype=np.uint8)[:, None, None, None]).all()
    assert peak < 1.4 * pictures.nbytes  # a list of them, then stacked, would be 2


# --- the record ---


@pytest.mark.parametrize("dtype, white", [(np.uint8, 255.0), (np.uint16, 65535.0)])
def test_linear_takes_the_room_off_in_any_tile(dtype, white):
    random = np.random.default_rng(0)
    images, ambient = (random.integers(0, white, shape).astype(dtype) for shape in ((4, 9, 6, 3), (9, 6, 3)))
    lights = np.repeat([[0, 0, 1]], 4, 0).astype(np.float32)
    capture = Capture("any", images, lights, white, ambient)
    expected = np.maximum(images.astype(np.float64) - ambient, 0) / white
    assert capture.linear().dtype == capture.grey.dtype == np.float32
    assert np.abs(capture.linear() - expected).max() < 1e-6 and capture.linear().min() == 0
    assert np.array_equal(capture.linear(slice(2, 5)), capture.linear()[:, 2:5])
    assert np.array_equal(capture.linear(slice(2, 5), slice(1, 2)), capture.linear()[1:2, 2:5])
    assert np.allclose(capture.grey, expected.mean(-1), atol=1e-6)


def test_grey_is_the_same_in_tiles(monkeypatch):
    images = np.random.default_rng(0).integers(0, 255, (4, 9, 6, 3)).astype(np.uint8)
    capture = Capture("any", images, np.ones((4, 3), np.float32))
    whole = capture.grey
    monkeypatch.setattr("casfne.stereo.captures._TILE", 150)  # two rows at a time
    assert np.array_equal(capture.grey, whole)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": np.zeros((4, 5, 6, 3), np.float32)}, "uint8 or uint16"),
        ({"images": np.zeros((4, 5, 6), np.uint8)}, r"\[L, H, W, 1 or 3\]"),
        ({"lights": np.zeros((3, 3), np.float32)}, "lights"),
        ({"ambient": np.zeros((5, 6, 1), np.uint8)}, "ambient"),
        ({"ambient": np.zeros((5, 6, 3), np.uint16)}, "ambient"),
        ({"points": np.zeros((5, 2))}, "points"),
        ({"authors_normals": np.zeros((5, 6), np.float32)}, "authors_normals"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(changes, message):
    fitting = {"images": np.zeros((4, 5, 6, 3), np.uint8), "lights": np.zeros((4, 3), np.float32)}
    with pytest.raises(ValueError, match=message):
        Capture("any", **(fitting | changes))


# --- Yale B ---


def test_yale_azimuth_is_the_persons():
    assert yale_light("yaleB01_P00A+070E+00")[0] < -0.9  # a light to the person's right: left in the picture
    assert yale_light("yaleB01_P00A+000E-35")[1] < -0.5
    with pytest.raises(InputError, match="no light in the name"):
        yale_light("yaleB01_P00")


def write_yale(folder: Path, ambient=(12, 10), value=50):
    folder.mkdir()
    for name, level in (("A+000E+00", value), ("A-020E+10", 200)):
        (folder / f"yaleB01_P00{name}.pgm").write_bytes(encode_image(np.full((12, 10), level, np.uint8), ".pgm"))
    if ambient:
        (folder / "yaleB01_P00_Ambient.pgm").write_bytes(encode_image(np.full(ambient, 60, np.uint8), ".pgm"))
    return folder


def test_a_yale_b_person_is_read_with_its_room(tmp_path):
    capture = read_yale_b(write_yale(tmp_path / "yaleB01"))
    assert capture.name == "yaleB01" and capture.images.shape == (2, 12, 10, 1) and capture.ambient.shape == (12, 10, 1)
    assert np.allclose(capture.lights, [direction(0, 0), direction(20, 10)])
    assert np.allclose(capture.grey[0], 0) and np.allclose(capture.grey[1], 140 / 255)
    assert (open_capture(tmp_path / "yaleB01").images == capture.images).all()


def test_a_room_of_another_size_is_left_out_and_named(tmp_path):
    capture = read_yale_b(write_yale(tmp_path / "yaleB01", ambient=(48, 64)))
    assert capture.ambient is None and "yaleB01_P00_Ambient.pgm: 64x48 pixels" in capture.attributes["notes"]
    assert np.allclose(capture.grey[0], 50 / 255)


def test_odd_yale_b_folders_are_refused(tmp_path):
    folder = write_yale(tmp_path / "yaleB01")
    (folder / "more_Ambient.pgm").write_bytes((folder / "yaleB01_P00_Ambient.pgm").read_bytes())
    with pytest.raises(InputError, match="2 ambient images"):
        read_yale_b(folder)
    (folder / "more_Ambient.pgm").rename(folder / "unnamed.pgm")
    with pytest.raises(InputError, match="unnamed: no light in the name"):
        read_yale_b(folder)
    with pytest.raises(InputError, match="no image under a light"):
        read_yale_b(tmp_path)


@pytest.mark.parametrize("person", ["yaleB01", "yaleB02"])
def test_the_real_yale_b_is_read(shared_data, person):
    capture = open_capture(shared_data / "yale_b" / person)
    assert capture.images.shape == (64, 192, 168, 1) and capture.images.dtype == np.uint8
    assert capture.ambient.shape == (192, 168, 1) and not capture.attributes
    left, right = capture.lights[:, 0] < -0.3, capture.lights[:, 0] > 0.3
    grey = capture.grey  # what is lit from the left is brighter on the left
    assert grey[left, :, :84].mean() > 1.5 * grey[left, :, 84:].mean()
    assert grey[right, :, 84:].mean() > 1.5 * grey[right, :, :84].mean()


# --- a plain folder ---

ANGLES_CSV = "file,azimuth_deg,elevation_deg\na.png,0,0\nb.png, -30 ,10\n\nc.png,0,45\n"


def write_folder(folder, table, size=(6, 5), dtype=np.uint8):
    folder.mkdir(exist_ok=True)
    for i, name in enumerate("abcd"):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((*size, 3), 40 * (i + 1), dtype))
    (folder / "lights.csv").write_text(table)
    return folder


def test_a_plain_folder_is_read(tmp_path):
    capture = open_capture(write_folder(tmp_path / "mine", ANGLES_CSV))
    assert capture.name == "mine" and capture.images.shape == (3, 6, 5, 3) and capture.ambient is None
    assert np.allclose(capture.lights, [direction(0, 0), direction(-30, 10), direction(0, 45)])
    assert capture.positions is None and (capture.images[1] == 80).all()
    assert np.allclose(open_capture(tmp_path / "mine", 2).positions, 2 * capture.lights)


def test_directions_are_angles_vectors_or_places(tmp_path):
    angles = open_capture(write_folder(tmp_path, ANGLES_CSV)).lights
    vectors = "\ufefffile,x,y,z\n" + "".join(
        f"{n}.png,{3 * x},{3 * y},{3 * z}\n" for n, (x, y, z) in zip("abc", angles, strict=True)
    )
    places = "x_m,y_m,z_m,file\n" + "".join(
        f"{2 * x},{2 * y},{2 * z},{n}.png\n" for n, (x, y, z) in zip("abc", angles, strict=True)
    )
    both = "file,azimuth_deg,elevation_deg,x_m,y_m,z_m\na.png,0,0,0,0.1,2\nb.png,-30,10,-1,0.34,1.7\n"
    assert np.allclose(open_capture(write_folder(tmp_path, vectors)).lights, angles, atol=1e-6)
    placed = open_capture(write_folder(tmp_path, places))
    assert np.allclose(placed.lights, angles, atol=1e-6) and np.allclose(placed.positions, 2 * angles, atol=1e-6)
    assert np.array_equal(open_capture(tmp_path, 5).positions, placed.positions)  # what the file says goes first
    measured = open_capture(write_folder(tmp_path, both))
    assert np.allclose(measured.lights, angles[:2]) and np.allclose(measured.positions[0], [0, 0.1, 2])


def test_the_room_and_deep_pixels_of_a_plain_folder(tmp_path):
    table = ANGLES_CSV.replace("c.png,0,45", "c.png,ambient,")
    capture = open_capture(write_folder(tmp_path, table, dtype=np.uint16))
    assert capture.images.dtype == np.uint16 and capture.white == 65535 and len(capture.lights) == 2
    assert (capture.ambient == 120).all()


@pytest.mark.parametrize(
    "table, message",
    [
        (ANGLES_CSV.replace("b.png", "x.png"), "row 3: no such picture 'x.png'"),
        (ANGLES_CSV.replace("c.png", "a.png"), "a.png is named twice"),
        (ANGLES_CSV.replace("c.png", "./a.png"), "a.png is named twice"),
        (ANGLES_CSV.replace("45", "nan"), "row 5: elevation_deg: 'nan' is no finite number"),
        (ANGLES_CSV.replace("45", "inf"), "row 5: elevation_deg: 'inf' is no finite number"),
        (ANGLES_CSV.replace("45", "up"), "row 5: elevation_deg: 'up' is no finite number"),
        (ANGLES_CSV.replace("45", ""), "row 5: elevation_deg: '' is no finite number"),
        (ANGLES_CSV.replace("45", "95"), "expected at most 360 and 90 degrees"),
        (ANGLES_CSV.replace("0,45", "0"), "row 5: 2 values for 3 columns"),
        (ANGLES_CSV.replace("azimuth_deg", "azimuth"), "unknown or repeated column 'azimuth'"),
        (ANGLES_CSV.replace(",", ";"), "unknown or repeated column 'file;azimuth_deg;elevation_deg'"),
        (ANGLES_CSV.replace("elevation_deg", "azimuth_deg"), "unknown or repeated column"),
        ("file\na.png\n", "columns file: expected file, then"),
        ("file,x,y\na.png,1,2\n", "columns file, x, y: expected"),
        ("file,x,y,z,azimuth_deg,elevation_deg\n", "columns .*: expected"),
        ("", r"columns \(none\): expected"),
        ("file,x,y,z\n", "no picture under a light"),
        ("file,x,y,z\na.png,ambient,,\n", "no picture under a light"),
        ("file,x,y,z\na.png,0,0,1\nb.png,ambient,,\nc.png,ambient,,\n", "2 ambient pictures"),
        ("file,x,y,z\na.png,0,ambient,1\n", "a.png is ambient and has a light"),
        ("file,x,y,z\na.png,0,0,0\n", "row 2: a direction of no length"),
        ("file,x_m,y_m,z_m\na.png,0,0,0\n", "row 2: a direction of no length"),
        ("file,x,y,z,x_m,y_m,z_m\na.png,0,0,1,0,1,1\n", "row 2: the lamp is 45 degrees off its direction"),
    ],
)
def test_a_lights_csv_that_is_wrong_says_where(tmp_path, table, message):
    with pytest.raises(InputError, match=message):
        open_capture(write_folder(tmp_path, table))


def test_pictures_of_a_plain_folder_are_of_one_size(tmp_path):
    write_folder(tmp_path, ANGLES_CSV)
    write_image(tmp_path / "b.png", np.zeros((6, 7, 3), np.uint8))
    with pytest.raises(InputError, match=r"b\.png: 7x6 pixels, but a\.png has 5x6"):
        open_capture(tmp_path)
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(InputError, match=r"b\.png: not an image"):
        open_capture(tmp_path)
