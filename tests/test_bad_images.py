"""Pictures of every kind that a corpus of millions holds: each has its right pixels, or its documented reason."""

import io
import os
import signal
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from casfne import images, schema, sources
from casfne.corpora.record import Photo
from casfne.images import Crop
from casfne.labelling import label as steps

HEIGHT, WIDTH = 40, 56
_Y, _X = np.mgrid[:HEIGHT, :WIDTH]
PICTURE = np.stack([_X * 4, _Y * 6, 255 - _X * 2 - _Y * 2], -1).astype(np.uint8)  # no corner like another
RGB = Image.fromarray(PICTURE)
GREY = np.asarray(RGB.convert("L"))
PALETTE = RGB.convert("P", palette=Image.Palette.ADAPTIVE)
OTHER = Image.fromarray(255 - PICTURE)


class Whole:
    """One face: the middle of the image."""

    identity = "whole"

    def __call__(self, image: NDArray[np.uint8]) -> list[Crop]:
        return [images.centre_crop(*image.shape[:2])]


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.copy().save(buffer, kind, **options)  # an image keeps the options of its last format
    return buffer.getvalue()


def repeated(grey: NDArray) -> NDArray[np.uint8]:
    return np.repeat(grey[..., None], 3, -1)


def turned(orientation: int) -> bytes:
    """A JPEG that is upright once this EXIF orientation is applied."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpose methods, which are undone by these
    stored = RGB if orientation == 1 else RGB.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(stored, "JPEG", quality=98, subsampling=0, exif=exif)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of kilobytes that says it is this large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG with its size overwritten in the frame header."""
    data = bytearray(saved(RGB, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def with_text_bomb() -> bytes:
    """A good PNG with a comment that unpacks to 20 MB, before its pixels."""
    data = saved(RGB, "PNG")
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000), 9))
    return data[:33] + bomb + data[33:]


def broken_inside(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(64) + data[middle + 64 :]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def info(**texts: str) -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    for key, value in texts.items():
        found.add_text(key, value)
    return found


NOISE = np.random.default_rng(0).integers(0, 256, (200, 240, 3), np.uint8)  # large enough to be cut somewhere inside
NOISY = Image.fromarray(NOISE)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# name of the file -> its bytes, and the pixels that must come (None: a lossy picture, close to PICTURE)
GOOD: dict[str, tuple[bytes, NDArray[np.uint8] | None]] = {
    "rgb.png": (saved(RGB, "PNG"), PICTURE),
    "alpha.png": (saved(Image.fromarray(np.dstack([PICTURE, GREY])), "PNG"), PICTURE),
    "grey.png": (saved(RGB.convert("L"), "PNG"), repeated(GREY)),
    "grey_alpha.png": (saved(RGB.convert("LA"), "PNG"), repeated(GREY)),
    "bilevel.png": (saved(Image.fromarray(GREY > 127), "PNG"), repeated((GREY > 127) * np.uint8(255))),
    "grey_16_bits.png": (saved(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"), repeated(GREY)),
    "rgb_16_bits.png": (cv2.imencode(".png", PICTURE[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), PICTURE),
    "palette.png": (saved(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "palette_transparency.png": (saved(PALETTE, "PNG", transparency=3), np.asarray(PALETTE.convert("RGB"))),
    "rgb_transparency.png": (saved(RGB, "PNG", transparency=(0, 0, 255)), PICTURE),
    "animated.png": (saved(RGB, "PNG", save_all=True, append_images=[OTHER.copy(), OTHER.copy()]), PICTURE),
    "with_texts.png": (saved(RGB, "PNG", pnginfo=info(Comment="x" * 50_000)), PICTURE),
    "animated.gif": (
        saved(PALETTE, "GIF", save_all=True, append_images=[OTHER.convert("P")]),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "lossless.webp": (saved(RGB, "WEBP", lossless=True), PICTURE),
    "lossy.webp": (saved(RGB, "WEBP", quality=98), None),
    "animated.webp": (saved(RGB, "WEBP", save_all=True, append_images=[OTHER.copy()], lossless=True), PICTURE),
    "baseline.jpg": (saved(RGB, "JPEG", quality=98, subsampling=0), None),
    "progressive.jpg": (saved(RGB, "JPEG", quality=98, subsampling=0, progressive=True), None),
    "grey.jpg": (saved(RGB.convert("L"), "JPEG", quality=100), repeated(GREY)),
    "cmyk.jpg": (saved(RGB.convert("CMYK"), "JPEG", quality=98, subsampling=0), None),
    "two_pictures.mpo": (
        saved(RGB, "MPO", save_all=True, append_images=[OTHER.copy()], quality=98, subsampling=0),
        None,
    ),
    "bytes_after_the_end.jpg": (saved(RGB, "JPEG", quality=98, subsampling=0) + b"\0" * 5000, None),
    "icc_profile.jpg": (saved(RGB, "JPEG", quality=98, subsampling=0, icc_profile=SRGB), None),
    "icc_profile_broken.png": (saved(RGB, "PNG", icc_profile=b"no profile at all"), PICTURE),
    "exif_broken.jpg": (saved(RGB, "JPEG", quality=98, subsampling=0, exif=b"Exif\0\0II*\0" + b"\xff" * 40), None),
    **{f"exif_orientation_{i}.jpg": (turned(i), None) for i in range(1, 9)},
    "exif_orientation_99.jpg": (
        saved(
            RGB, "JPEG", quality=98, subsampling=0, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0c\0\0\0"
        ),
        None,
    ),
    "plain.bmp": (saved(RGB, "BMP"), PICTURE),
    "palette.bmp": (saved(PALETTE, "BMP"), np.asarray(PALETTE.convert("RGB"))),
    "lzw.tif": (saved(RGB, "TIFF", compression="tiff_lzw"), PICTURE),
    "pages.tif": (saved(RGB, "TIFF", save_all=True, append_images=[OTHER.copy()]), PICTURE),
    "cmyk.tif": (saved(RGB.convert("CMYK"), "TIFF"), PICTURE),
    "grey_16_bits.tif": (saved(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"), repeated(GREY)),
    "text.ppm": (f"P3 {WIDTH} {HEIGHT} 255\n{' '.join(map(str, PICTURE.ravel()))}\n".encode(), PICTURE),
    "binary.pgm": (saved(RGB.convert("L"), "PPM"), repeated(GREY)),
    "a_png_by_content.jpg": (saved(RGB, "PNG"), PICTURE),
    "no_suffix": (saved(RGB, "PNG"), PICTURE),
    "suffix.JPG.PNG": (saved(RGB, "PNG"), PICTURE),
    "1x1.png": (saved(RGB.crop((0, 0, 1, 1)), "PNG"), PICTURE[:1, :1]),
    "30000x2.png": (saved(RGB.resize((30_000, 2), 0), "PNG"), np.asarray(RGB.resize((30_000, 2), 0))),
    "2x30000.jpg": (
        saved(RGB.resize((2, 30_000), 0), "JPEG", quality=98, subsampling=0),
        np.asarray(RGB.resize((2, 30_000), 0)),
    ),
    "new\nline.png": (saved(RGB, "PNG"), PICTURE),
    "blank space, ünï©ode 😀 %41.png": (saved(RGB, "PNG"), PICTURE),
    os.fsdecode(b"no \xff utf-8 \xfe.png"): (saved(RGB, "PNG"), PICTURE),
}

# name of the file -> its bytes, and the code that its row must have
BAD: dict[str, tuple[bytes, str]] = {
    "zero_bytes.jpg": (b"", "empty_file"),
    "one_byte.jpg": (b"\xff", "not_an_image"),
    "only_the_mark.jpg": (b"\xff\xd8\xff", "not_an_image"),
    "only_the_mark.png": (b"\x89PNG\r\n\x1a\n", "not_an_image"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404 not found</body></html>", "not_an_image"),
    "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', "not_an_image"),
    "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not_an_image"),
    "paper.pdf.jpg": (b"%PDF-1.7\n" + bytes(500), "not_an_image"),
    "archive.jpg": (b"PK\x03\x04" + bytes(500), "not_an_image"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "not_an_image"),
    "zeros.jpg": (bytes(100_000), "not_an_image"),
    "noise.jpg": (np.random.default_rng(1).bytes(10_000), "not_an_image"),
    "cut_header.png": (saved(NOISY, "PNG")[:20], "damaged_image"),
    "cut.png": (half(saved(NOISY, "PNG")), "damaged_image"),
    "cut.jpg": (half(saved(NOISY, "JPEG")), "damaged_image"),
    "progressive_cut.jpg": (half(saved(NOISY, "JPEG", progressive=True)), "damaged_image"),
    "cut.gif": (half(saved(NOISY.convert("P"), "GIF")), "damaged_image"),
    "cut.webp": (half(saved(NOISY, "WEBP", lossless=True)), "damaged_image"),
    "cut.bmp": (half(saved(NOISY, "BMP")), "damaged_image"),
    "cut.tif": (half(saved(NOISY, "TIFF")), "damaged_image"),
    "cut_lzw.tif": (half(saved(NOISY, "TIFF", compression="tiff_lzw")), "not_an_image"),  # its directory comes last
    "cut.ppm": (half(saved(NOISY, "PPM")), "damaged_image"),
    "broken_inside.png": (broken_inside(saved(NOISY, "PNG")), "damaged_image"),
    "no_size.png": (png_bomb(0, 0), "not_an_image"),
    "text_bomb.png": (with_text_bomb(), "damaged_image"),
    "floats.tif": (saved(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"), "unsupported_pixels"),
    "grey_32_bits.tif": (saved(Image.fromarray(GREY.astype(np.int32) * 70_000), "TIFF"), "unsupported_pixels"),
    "lab.tif": (saved(Image.merge("LAB", RGB.split()), "TIFF"), "unsupported_pixels"),
    "30000x30000.png": (png_bomb(30_000, 30_000), "too_large"),
    "2_billion_wide.png": (png_bomb(2**31 - 1, 1), "too_large"),
    "65500x65500.jpg": (jpeg_of_size(65_500, 65_500), "too_large"),
    "65535x65535.gif": (b"GIF89a\xff\xff\xff\xff" + saved(PALETTE, "GIF")[10:], "too_large"),
    "bomb.png": (png_bomb(14_000, 14_000), "damaged_image"),
}


def put(folder: Path, name: str, data: bytes) -> Photo:
    path = folder / name
    path.write_bytes(data)
    return Photo("bad", "x", sources.address(str(path)))


@pytest.fixture(autouse=True)
def bounded_time() -> Iterator[None]:
    """Nothing may wait for ever."""

    def stop(*_: object) -> None:
        raise TimeoutError("more than 30 seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_there_are_more_than_forty_kinds() -> None:
    assert len(GOOD) >= 40
    assert len(BAD) + len(PLACES) >= 40


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_what_is_a_picture_has_its_right_pixels(name: str, tmp_path: Path) -> None:
    data, expected = GOOD[name]
    (entry,) = steps.decode(put(tmp_path, name, data), Whole())
    assert (entry.status, entry.reason, entry.reason_code) == ("ok", "", None)
    pixels = images.decode_image(data, "x")
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    if expected is not None and not name.endswith(".jpg"):
        np.testing.assert_array_equal(pixels, expected)
    else:
        wanted = PICTURE if expected is None else expected
        assert pixels.shape == wanted.shape
        assert np.abs(pixels.astype(float) - wanted).mean() < 3
    assert entry.size == pixels.shape[:2]


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_what_is_no_whole_picture_has_its_reason(name: str, tmp_path: Path) -> None:
    data, code = BAD[name]
    photo = put(tmp_path, name, data)
    (entry,) = steps.decode(photo, Whole())
    assert (entry.status, entry.reason_code) == ("unreadable", code), entry.reason
    check(entry, tmp_path)


def check(entry: steps.Face, folder: Path) -> None:
    assert entry.face_index == steps.NO_FACE_INDEX
    assert entry.reason and "\n" not in entry.reason and len(entry.reason) < 300
    assert str(folder) not in entry.reason  # machines differ in it, labels must not


def linked(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(sources.LIMIT + 1)


# what is no file with bytes in it: how it is made at a path, and its code
PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, "not_a_file"),
    "nothing": (lambda path: None, "missing_file"),
    "a link to nowhere": (linked("nowhere.jpg"), "missing_file"),
    "a link to itself": (linked("x.jpg"), "not_a_file"),
    "a link to a folder": (linked("."), "not_a_file"),
    "a pipe": (os.mkfifo, "source_refused"),
    "an endless device": (linked("/dev/zero"), "source_refused"),
    "an empty device": (linked("/dev/null"), "source_refused"),
    "a socket": (listening, "not_a_file"),
    "more bytes than are read": (sparse, "source_refused"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_file_has_its_reason(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, code = PLACES[kind]
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    make(Path("x.jpg"))
    (entry,) = steps.decode(Photo("bad", "x", "x.jpg"), Whole(), tmp_path)
    assert (entry.status, entry.reason_code) == ("unreadable", code), entry.reason
    check(entry, tmp_path)


@pytest.mark.parametrize(("path", "code"), [("", "not_a_file"), ("n" * 5000, "not_a_file"), ("a\0b.jpg", "not_a_file")])
def test_names_that_no_file_can_bear_have_their_reason(path: str, code: str, tmp_path: Path) -> None:
    (entry,) = steps.decode(Photo("bad", "x", path), Whole(), tmp_path)
    assert (entry.status, entry.reason_code) == ("unreadable", code), entry.reason


def test_a_file_that_may_not_be_read_has_its_reason(tmp_path: Path) -> None:
    photo = put(tmp_path, "locked.png", saved(RGB, "PNG"))
    os.chmod(tmp_path / "locked.png", 0)
    user = os.geteuid()
    if user == 0:  # root reads everything: be nobody for a moment
        os.seteuid(65534)
    try:
        (entry,) = steps.decode(photo, Whole())
    finally:
        os.seteuid(user)
    assert (entry.status, entry.reason_code) == ("unreadable", "no_permission")


def test_a_disk_that_fails_can_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: str) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sources, "read_bytes", fails)
    (entry,) = steps.decode(Photo("bad", "x", "x.png"), Whole(), tmp_path)
    assert (entry.status, entry.reason_code) == ("unreadable", "io_error")
    assert schema.REASONS["io_error"].can_pass


LOCATIONS = {
    "points far away": (np.full((5, 2), 1e6) + np.arange(10).reshape(5, 2) * 9, None),
    "points not finite": (np.full((5, 2), np.nan), None),
    "points in other units": (np.arange(10).reshape(5, 2) * 1e5 - 4e5, None),
    "four points": (np.zeros((4, 2)), None),
    "a box beside the image": (None, (500.0, 0.0, 20.0, 20.0)),
    "a box without extent": (None, (5.0, 5.0, 0.0, 20.0)),
    "a box not finite": (None, (5.0, 5.0, float("inf"), 20.0)),
    "a box of the size of a planet": (None, (-1e7, -1e7, 2e7, 2e7)),
}


@pytest.mark.parametrize("kind", LOCATIONS)
def test_a_place_that_is_no_face_window_has_its_reason(kind: str, tmp_path: Path) -> None:
    points, box = LOCATIONS[kind]
    path = put(tmp_path, "x.png", saved(RGB, "PNG")).path
    (entry,) = steps.decode(Photo("bad", "x", path, points, box), Whole())
    assert (entry.status, entry.reason_code) == ("error", "bad_location"), entry.reason
    check(entry, tmp_path)


def test_the_corpus_box_takes_the_place_of_a_detector(tmp_path: Path) -> None:
    path = put(tmp_path, "x.png", saved(RGB, "PNG")).path
    (entry,) = steps.decode(Photo("bad", "x", path, None, (10.0, 12.0, 20.0, 16.0)), Whole())
    assert entry.crop == images.crop_from_box(10, 12, 20, 16)


BOMBS = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_bad_images as t
from casfne.labelling import label as steps
kinds = {{name: t.BAD[name] for name in ("30000x30000.png", "2_billion_wide.png", "65500x65500.jpg", "65535x65535.gif",
    "text_bomb.png", "30000x30000.png")}}
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 150_000_000,) * 2)
for name, (data, code) in kinds.items():
    (entry,) = steps.decode(t.put(Path({folder!r}), name, data), t.Whole())
    assert entry.reason_code == code, (name, entry.reason_code, entry.reason)
"""


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    """Within 150 MB, where the smallest of them would take over 2 GB."""
    code = BOMBS.format(tests=str(ROOT / "tests"), folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize(
    "name", ["rgb.png", "animated.gif", "lossless.webp", "progressive.jpg", "lzw.tif", "plain.bmp"]
)
def test_bytes_that_flip_never_surprise(name: str, tmp_path: Path) -> None:
    data, random = GOOD[name][0], np.random.default_rng(7)
    for _ in range(150):
        broken = np.frombuffer(data, np.uint8).copy()
        broken[random.integers(0, len(broken), random.integers(1, 6))] = random.integers(0, 256)
        (entry,) = steps.decode(put(tmp_path, "x", broken.tobytes()), Whole())
        assert entry.status in ("ok", "unreadable"), entry.reason
        assert (entry.reason_code in schema.REASONS) == (entry.status == "unreadable")
