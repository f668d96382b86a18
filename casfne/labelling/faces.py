"""Where the faces of a photograph are: from its corpus' points, else from a detector."""

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
        upsample = int(max(image.shape[:2]) <= _DLIB_UPSAMPLED_BELOW)
        boxes, _, _ = _dlib_model().run(np.ascontiguousarray(image), upsample, 0.0)
        return [images.crop_from_box(b.left(), b.top(), b.width(), b.height()) for b in boxes]


class YuNet:
    """OpenCV's YuNet, from its ONNX file: also turned and small faces, and five points for each.

    Raises InputError naming the file when it is missing or no such model.
    """

    def __init__(self, model: Path | str) -> None:
        self.model = str(Path(model).absolute())
        try:
            digest = file_sha256(model)
            _yunet_model(self.model)
        except OSError as error:
            raise InputError(f"{model}: cannot be read ({error.strerror})") from None
        except cv2.error:
            raise InputError(f"{model}: not a YuNet model (ONNX) that this OpenCV can load") from None
        self.identity = f"yunet-{digest}"

    def __call__(self, image: NDArray[np.uint8]) -> list[Crop]:
        """See Detector. The photograph is fitted into 640x640: faces from about 1/60 of its longer side."""
        scale = _YUNET_SIDE / max(image.shape[:2])
        canvas = np.zeros((_YUNET_SIDE, _YUNET_SIDE, 3), np.uint8)
        height, width = (max(round(side * scale), 1) for side in image.shape[:2])
        fitted = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        canvas[:height, :width] = fitted[..., ::-1]  # OpenCV's models read BGR
        _, rows = _yunet_model(self.model).detect(canvas)
        return [yunet_crop(row, scale) for row in (rows if rows is not None else ())]


def yunet_crop(row: NDArray[np.float32], scale: float) -> Crop:
    """The window of one detection, float [15], found in a photograph resized by ``scale``.

    Columns 4 to 13 are five points: right eye of the person, which is the left one of the picture, left eye,
    nose tip, right and left mouth corner: already the order of `images.crop_from_points`.
    """
    points = (row[4:14].reshape(5, 2).astype(np.float64) + 0.5) / scale - 0.5
    return images.crop_from_points(points)


def find(image: NDArray[np.uint8], photo: Photo, detector: Detector) -> list[Crop]:
    """The face windows of a photograph, uint8 RGB [H, W, 3], largest first, then from the top, then the left.

    A photo with points has one face, there; any other is shown to the detector.
    """
    if photo.points is not None:
        return [images.crop_from_points(photo.points)]
    return sorted(set(detector(image)), key=lambda crop: (-crop.side, crop.top, crop.left))


@functools.cache  # one per process
def _dlib_model() -> Any:
    import dlib  # only processes that detect pay for it

    return dlib.get_frontal_face_detector()


@functools.cache
def _yunet_model(path: str) -> Any:
    return cv2.FaceDetectorYN.create(path, "", (_YUNET_SIDE, _YUNET_SIDE), _YUNET_SCORE)
