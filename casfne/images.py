"""Pictures: reading them safely, sRGB and linear light, face crops, grids of tiles."""

import errno
import functools
import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from casfne.errors import InputError, one_line
from casfne.files import atomic_open

SIZE = 256  # working size of a face crop, pixels
MAX_PIXELS = 200_000_000  # a larger picture is refused: it would take over 600 MB decoded
MAX_BYTES = 256 * 2**20  # of a file
# what Pillow may open: a reader for each kind of photograph, none that starts programs (EPS) or has no mark of its own
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
_JPEG, _NETPBM = {".jpg", ".jpeg", ".jpe", ".jfif", ".jp2"}, {".pbm", ".pgm", ".ppm", ".pnm"}
_OTHER = {".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".avif"}
SUFFIXES = frozenset(_JPEG | _NETPBM | _OTHER | {".heic", ".heif"})  # the last are not read: their rows say so
WRITTEN = (".png", ".jpg", ".jpeg", ".bmp", ".webp")  # kinds that hold what `write_image` is given

Image.MAX_IMAGE_PIXELS = None  # the limit above is ours, and an error instead of a warning


class PictureError(InputError):
    """A picture that cannot be had. ``code`` says why, for counting: a key of `casfne.schema.REASONS`."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


def read_image(source: Path | str | bytes, name: str | None = None) -> NDArray[np.uint8]:
    """A picture as uint8 RGB [H, W, 3], upright, from a path or its bytes; see `decode_image`.

    Raises PictureError naming the file (``name`` for bytes).
    """
    label = name or (str(source) if not isinstance(source, bytes) else "image")
    return decode_image(source if isinstance(source, bytes) else _read_bytes(Path(source)), label)


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """The bytes of a picture as uint8 RGB [H, W, 3], upright (EXIF orientation applied); of several, the first.

    Grey, palette, alpha (dropped), CMYK and 16-bit (upper byte) pictures are converted; colour profiles are not
    applied. The size is judged by the header, before anything is decoded.
    Raises PictureError naming ``name`` when it is empty, truncated, too large, no picture, or of floats.
    """
    with _opened(data, name) as (label, _, picture):
        upright = _upright(picture)
        if upright.mode.startswith("I"):
            grey = (_deep_grey(upright, label) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, -1)
        if upright.mode in _NO_COLOURS:
            raise PictureError(f"{label}: pixels of mode {upright.mode}, expected 8 or 16 bits", "unsupported_pixels")
        return np.asarray(upright.convert("RGB"))


_NO_COLOURS = ("F", "LAB", "HSV")  # Pillow would clip floats to black or white, and knows no way from the others


def _upright(picture: ImageFile.ImageFile) -> Image.Image:
    """The decoded picture as its EXIF orientation wants it; as it is where the EXIF block is broken."""
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a broken block raises anything, and costs no pixel
        return picture


def read_pixels(source: Path | str | bytes, name: str | None = None) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A picture as its file holds it: uint8 or uint16, grey [H, W, 1] or RGB [H, W, 3], upright; alpha is dropped.

    Values of 9 to 15 bits (PGM, PPM) are scaled to 0..65535. Raises InputError as `read_image` does, and for
    pictures of floats or of 32 bits.
    """
    named = name or (str(source) if not isinstance(source, bytes) else "image")
    content = source if isinstance(source, bytes) else _read_bytes(Path(source))
    with _opened(content, named) as (label, data, picture):
        if picture.mode.startswith("RGB") and (white := _deep_white(picture)):
            picture.load()  # says what is wrong with a damaged file
            return _deep_colour(data, white)
        upright = _upright(picture)
        if upright.mode.startswith("I"):
            return _deep_grey(upright, label)[..., None]
        if upright.mode == "F":
            raise PictureError(f"{label}: pixels are floats, expected 8 or 16 bits", "unsupported_pixels")
        if upright.mode in ("1", "L", "LA"):
            return np.asarray(upright.convert("L"))[..., None]
        return np.asarray(upright.convert("RGB"))


@contextmanager
def _opened(data: bytes, label: str) -> Iterator[tuple[str, bytes, ImageFile.ImageFile]]:
    """Its name, its bytes, and the picture, not yet decoded; what is raised for its sake becomes a PictureError."""
    if not data:
        raise PictureError(f"{label}: empty file", "empty_file")
    try:
        # Pillow warns of what it can live with: lines without a name, by the thousand in a corpus
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=_formats()) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                size = f"{picture.width}x{picture.height}"
                raise PictureError(f"{label}: {size} pixels, more than {MAX_PIXELS:,}", "too_large")
            yield label, data, picture
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{label}: not an image", "not_an_image") from None
    except Exception as error:  # a broken file leads Pillow's readers into errors of every kind
        said = one_line(error)
        raise PictureError(f"{label}: damaged image ({said})", "damaged_image") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow knows."""
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _deep_grey(picture: Image.Image, label: str) -> NDArray[np.uint16]:
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError(f"{label}: pixels of 32 bits, expected 8 or 16", "unsupported_pixels")
    return values.astype(np.uint16)


def _deep_white(picture: ImageFile.ImageFile) -> int:
    """The value of full scale where a colour file holds more than 8 bits, which Pillow would cut to 8; else 0."""
    if not picture.tile:  # WebP, of 8 bits
        return 0
    arguments = picture.tile[0].args  # what Pillow's decoder is told: "RGB;16B", or for PPM ("RGB", 4095)
    kind, *more = arguments if isinstance(arguments, tuple) else (arguments,)
    if picture.format == "PPM" and more and more[0] > 255:
        return int(more[0])
    return 65535 if ";16" in str(kind) else 0


def _deep_colour(data: bytes, white: int) -> NDArray[np.uint16]:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if bgr is None or bgr.dtype != np.uint16:
        raise ValueError("16-bit colours that cannot be decoded")
    rgb = bgr[..., ::-1]
    return (rgb if white == 65535 else np.rint(rgb * (65535 / white))).astype(np.uint16)


def _read_bytes(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for ever
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise PictureError(f"{path}: cannot be read (not a regular file)", "not_a_file")
            if found.st_size > MAX_BYTES:
                raise PictureError(f"{path}: more than {MAX_BYTES:,} bytes", "too_large")
            return file.read(found.st_size + 1)
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror})", os_reason(error)) from None


def os_reason(error: OSError) -> str:
    """The reason code of a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return "missing_file"
    if isinstance(error, PermissionError):
        return "no_permission"
    settled = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EINVAL)
    return "not_a_file" if error.errno in settled else "io_error"


def read_grey(path: Path | str) -> NDArray[np.float32]:
    """A picture as one float32 channel [H, W] in 0..1: the mean of R, G and B, as stored (no gamma undone)."""
    return read_image(path).mean(-1, dtype=np.float32) / np.float32(255)


def srgb_to_linear(srgb: ArrayLike) -> NDArray[np.float32]:
    """sRGB in 0..1 to linear light in 0..1 (IEC 61966-2-1), float32, any shape."""
    v = np.asarray(srgb, np.float32)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(linear: ArrayLike) -> NDArray[np.float32]:
    """Linear light to sRGB, clipped to 0..1, float32, any shape."""
    v = np.clip(np.asarray(linear, np.float32), 0, 1)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055).astype(np.float32)


def to_uint8(values: ArrayLike) -> NDArray[np.uint8]:
    """Values in 0..1, clipped, as 0..255."""
    return np.rint(np.clip(np.asarray(values, np.float32), 0, 1) * 255).astype(np.uint8)


# --- face crops ---


@dataclass(frozen=True)
class Crop:
    """A square window of a photograph: top left corner and side, in its pixels; it may reach outside."""

    left: int
    top: int
    side: int

    def transform(self, size: int = SIZE) -> NDArray[np.float64]:
        """[2, 3] matrix from pixel centres of the crop (resized to ``size``) to those of the photograph."""
        k = self.side / size
        return np.array([[k, 0, self.left + k / 2 - 0.5], [0, k, self.top + k / 2 - 0.5]])

    def apply(self, image: NDArray, size: int = SIZE) -> NDArray:
        """The window of ``image`` [H, W] or [H, W, C] resized to ``size``; outside it the border is repeated."""
        return resize(_window(image, self), size)

    def paste(self, values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """What `apply` took, put back: ``values`` [S, S, C] in a photograph of ``height`` x ``width``, else 0."""
        window = resize(values, self.side)
        photo = np.zeros((height, width, values.shape[2]), np.float32)
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.side, height), min(self.left + self.side, width)
        if top < bottom and left < right:
            photo[top:bottom, left:right] = window[
                top - self.top : bottom - self.top, left - self.left : right - self.left
            ]
        return photo

    def inside(self, height: int, width: int, size: int = SIZE) -> NDArray[np.bool_]:
        """Which pixels of the crop come from a photograph of ``height`` x ``width``; bool [size, size]."""
        steps = (np.arange(size) + 0.5) * self.side / size
        y, x = self.top + steps, self.left + steps
        return ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None, :]


def _window(image: NDArray, crop: Crop) -> NDArray:
    height, width = image.shape[:2]
    # a window wholly outside still repeats the nearest edge
    top, left = np.clip(crop.top, 1 - crop.side, height - 1), np.clip(crop.left, 1 - crop.side, width - 1)
    bottom, right = top + crop.side, left + crop.side
    inner = image[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    pads = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    above, below, before, after = (int(p) for p in pads)
    return cv2.copyMakeBorder(inner, above, below, before, after, cv2.BORDER_REPLICATE)


def resize(image: NDArray, size: int) -> NDArray:
    """Square [S, S] or [S, S, C] to ``size``: area averaging when shrinking, cubic when growing."""
    shrinking = image.shape[0] > size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)


def centre_crop(height: int, width: int) -> Crop:
    """The largest centred square of a picture."""
    side = min(height, width)
    return Crop((width - side) // 2, (height - side) // 2, side)


def crop_from_points(points: ArrayLike) -> Crop:
    """The project's one crop convention, from five points of a face, float [5, 2] as x, y in pixels.

    Points: left eye, right eye (as seen in the picture), nose tip, left and right mouth corner. The window is
    upright, centred halfway between eyes and mouth; its side is 2.7 times the distance from eyes to mouth, or
    3.2 times that between the eyes where that is more (heads that look up or down).
    """
    p = np.asarray(points, np.float64)
    if p.shape != (5, 2) or not np.isfinite(p).all():
        raise ValueError(f"expected 5 finite points [5, 2], got shape {p.shape}")
    eyes, mouth = p[:2].mean(0), p[3:].mean(0)
    side = max(2.7 * float(np.linalg.norm(mouth - eyes)), 3.2 * float(np.linalg.norm(p[1] - p[0])))
    return _square((eyes + mouth) / 2, side)


def crop_from_box(left: float, top: float, width: float, height: float) -> Crop:
    """The same window guessed from a detector's box around brows to chin: its centre, 1.4 times its size."""
    return _square(np.array([left + width / 2, top + height / 2]), 1.4 * max(width, height))


def _square(centre: NDArray[np.float64], side: float) -> Crop:
    whole = max(round(side), 2)
    left, top = np.rint(centre - whole / 2).astype(int)
    return Crop(int(left), int(top), whole)


# --- files ---


# run lengths of the differences to the row above. Of 15 maps of normals, against level 1 alone: 1.1 ms and 53 KiB each
# for 2.7 ms and 60 KiB, and read back a little quicker; photographs come out a tenth larger
_SMOOTH_PNG = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]


def encode_image(image: NDArray[np.uint8], suffix: str = ".png", smooth: bool = False) -> bytes:
    """uint8 RGB [H, W, 3] or grey [H, W] as the bytes of a file of that kind, as in ``WRITTEN``.

    smooth: a PNG for maps of normals and masks: quicker, and smaller there.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else np.ascontiguousarray(image)
    level = _SMOOTH_PNG if smooth else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    done, data = cv2.imencode(suffix, bgr, level if suffix == ".png" else [])
    if not done:
        raise ValueError(f"cannot encode {image.shape} {image.dtype} as {suffix}")
    return data.tobytes()


def check_picture(path: Path | str) -> None:
    """InputError where ``path`` does not end as a picture that `write_image` can write: to be asked before the work."""
    if Path(path).suffix.lower() not in WRITTEN:
        raise InputError(f"{path}: expected a picture in {', '.join(WRITTEN)}")


def write_image(path: Path | str, image: NDArray[np.uint8]) -> None:
    """Write uint8 RGB [H, W, 3] or grey [H, W] whole or not at all; the suffix chooses the format, see
    `check_picture`."""
    with atomic_open(path) as file:
        file.write(encode_image(image, Path(path).suffix))


# --- figures ---

GAP, BAR = 4, 22  # pixels between tiles, and of the titles' bar


def grey_to_rgb(grey: NDArray) -> NDArray[np.uint8]:
    """Values 0..1 [H, W] as grey uint8 RGB [H, W, 3]."""
    return np.repeat(to_uint8(grey)[..., None], 3, -1)


def shade(normals: NDArray, light: NDArray, mask: NDArray | None = None) -> NDArray[np.uint8]:
    """A white matte surface [H, W, 3] under one directional light [3], sRGB uint8; black off the mask."""
    linear = np.clip(normals @ np.asarray(light, np.float32), 0, 1)
    return grey_to_rgb(linear_to_srgb(linear if mask is None else linear * mask))


def grid(rows: Sequence[Sequence[NDArray[np.uint8]]], titles: Sequence[str]) -> NDArray[np.uint8]:
    """Tiles of one size in rows, a title above each column; uint8 RGB on white."""
    height, width = rows[0][0].shape[:2]
    canvas = np.full((BAR + len(rows) * (height + GAP), len(titles) * (width + GAP), 3), 255, np.uint8)
    for column, title in enumerate(titles):
        place = (column * (width + GAP) + 2, BAR - 7)
        cv2.putText(canvas, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        for row, tiles in enumerate(rows):
            top, left = BAR + row * (height + GAP), column * (width + GAP)
            canvas[top : top + height, left : left + width] = tiles[column]
    return canvas
