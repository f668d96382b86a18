"""Where the faces of a photograph are: from its corpus' points, else its box, else from a detector."""

import functools
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne import images
from casfne.corpora.record import Photo
from casfne.errors import InputError
from casfne.images import Crop
from casfne.provenance import file_sha256

_DLIB_UPSAMPLED_BELOW = 1500  # pixels of the longer side; larger photographs hold large enough faces
_DLIB_LONGEST = 4096  # larger photographs are shrunk to this: dlib takes a second for 4 million pixels
_YUNET_SIDE = 640  # one fixed input size: OpenCV 5 cannot give the older model file another
_YUNET_SCORE = 0.7


class Detector(Protocol):
    """Finds faces. It is sent to worker processes, so it holds no loaded model."""

    identity: str  # what detects, with the hash of its weights where it has a file

    def __call__(self, image: NDArray[np.uint8]) -> list[Crop]:
        """The square windows of the faces of a uint8 RGB image [H, W, 3], in any order."""


class Dlib:
    """dlib's detector of frontal faces; its model comes with the package. Faces from about 80 pixels."""

    identity = "dlib-frontal"

    def __call__(self, image: NDArray[np.uint8]) -> list[Crop]:
        """See Detector. Photographs up to 1500 pixels are doubled first, so that faces from 40 are found."""
        longer = max(image.shape[:2])
        scale = min(1.0, _DLIB_LONGEST / longer)
        boxes, _, _ = _dlib_model().run(_fitted(image, scale), int(longer <= _DLIB_UPSAMPLED_BELOW), 0.0)
        found = [(b.left() / scale, b.top() / scale, b.width() / scale, b.height() / scale) for b in boxes]
        return [images.crop_from_box(*box) for box in found]


class YuNet:
    """OpenCV's YuNet, from its ONNX file: also turned and small faces, and five points for each.

    Raises InputError naming the file when it is missing or no such model.
    """

    def __init__(self, model: Path | str) -> None:
        self.model = str(Path(model).absolute())
        try:
            digest = file_sha256(model)
            nothing = np.zeros((_YUNET_SIDE, _YUNET_SIDE, 3), np.uint8)
            _yunet_model(self.model).detect(nothing)  # other networks load as well
        except OSError as error:
            raise InputError(f"{model}: cannot be read ({error.strerror})") from None
        except cv2.error:
            raise InputError(f"{model}: not a YuNet model (ONNX) that this OpenCV can load") from None
        self.identity = f"yunet-{digest}"

    def __call__(self, image: NDArray[np.uint8]) -> list[Crop]:
        """See Detector. The photograph is fitted into 640x640: faces from about 1/60 of its longer side."""
        scale = _YUNET_SIDE / max(image.shape[:2])
        canvas = np.zeros((_YUNET_SIDE, _YUNET_SIDE, 3), np.uint8)
        fitted = _fitted(image, scale)
        canvas[: fitted.shape[0], : fitted.shape[1]] = fitted[..., ::-1]  # OpenCV's models read BGR
        _, rows = _yunet_model(self.model).detect(canvas)
        return [yunet_crop(row, scale) for row in (rows if rows is not None else ())]


def _fitted(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale == 1:
        return np.ascontiguousarray(image)
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def yunet_crop(row: NDArray[np.float32], scale: float) -> Crop:
    """The window of one detection, float [15], found in a photograph resized by ``scale``.

    Columns 4 to 13 are five points: right eye of the person, which is the left one of the picture, left eye,
    nose tip, right and left mouth corner: already the order of `images.crop_from_points`.
    """
    points = (row[4:14].reshape(5, 2).astype(np.float64) + 0.5) / scale - 0.5
    return images.crop_from_points(points)


class LocationError(ValueError):
    """The corpus' points or box are no face window inside the image."""


def find(image: NDArray[np.uint8], photo: Photo, detector: Detector) -> list[Crop]:
    """The face windows of a photograph, uint8 RGB [H, W, 3], largest first, then from the top, then the left.

    A photo with points has one face, there; else one with a box; any other is shown to the detector.
    Raises LocationError when points or box are not finite, without extent, or have their window outside the image.
    """
    if photo.points is None and photo.box is None:
        return sorted(set(detector(image)), key=lambda crop: (-crop.side, crop.top, crop.left))
    height, width = image.shape[:2]
    crop = _located(photo)
    if crop.left >= width or crop.top >= height or crop.left + crop.side <= 0 or crop.top + crop.side <= 0:
        raise LocationError(f"the face's window {crop} lies outside the image of {width}x{height} pixels")
    if crop.side > min(_LARGEST_WINDOW * max(height, width), _LONGEST_WINDOW):
        raise LocationError(f"the face's window {crop} is far larger than the image of {width}x{height} pixels")
    return [crop]


_LARGEST_WINDOW = 4  # windows of close portraits reach outside; one of this many sides is a mistake of units
_LONGEST_WINDOW = 20_000  # pixels: 1.2 GB as it is cut out


def _located(photo: Photo) -> Crop:
    """The window of a photo's points, else of its box."""
    if photo.points is not None:
        try:
            return images.crop_from_points(photo.points)
        except (ValueError, OverflowError) as error:
            raise LocationError(str(error)) from None
    box = np.asarray(photo.box, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or not (box[2:] > 0).all():
        raise LocationError(f"expected a box (left, top, width, height) with an extent, got {photo.box}")
    return images.crop_from_box(*box)


@functools.cache  # one per process
def _dlib_model() -> Any:
    import dlib  # only processes that detect pay for it

    return dlib.get_frontal_face_detector()


@functools.cache
def _yunet_model(path: str) -> Any:
    return cv2.FaceDetectorYN.create(path, "", (_YUNET_SIDE, _YUNET_SIDE), _YUNET_SCORE)
