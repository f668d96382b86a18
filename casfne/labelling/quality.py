"""Numbers that say how far a label can be believed, from the normals before they are encoded."""

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne import images, normals
from casfne.images import Crop

# the oval of a face in the crop convention: it puts the eyes near y = 81, the mouth near 175, the chin near 233
FACE_CENTRE = (128.0, 124.0)  # x, y in pixels of a 256x256 crop
FACE_HALF_AXES = (84.0, 110.0)

Mask = NDArray[np.bool_]


def oval() -> Mask:
    """The fixed face oval of a crop; bool [256, 256]."""
    y, x = np.mgrid[: images.SIZE, : images.SIZE]
    (cx, cy), (ax, ay) = FACE_CENTRE, FACE_HALF_AXES
    return ((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 <= 1


def face_mask(crop: Crop, height: int, width: int) -> Mask:
    """The oval, as far as it lies inside a photograph of ``height`` x ``width``; bool [256, 256]."""
    return oval() & crop.inside(height, width)


def coverage(mask: Mask) -> float:
    """Share of the face oval that lies inside the photograph, 0..1."""
    return float(mask.sum() / oval().sum())


def last_move_deg(stages: NDArray[np.float32], mask: Mask) -> float:
    """Mean angle between the last two stages of [T+1, 256, 256, 3] over the mask; NaN without refinement."""
    if len(stages) < 2:
        return float("nan")
    return _mean(normals.angle_deg(stages[-1][mask], stages[-2][mask]))


def roughness_deg(normal: NDArray[np.float32], mask: Mask) -> float:
    """Mean angle between neighbours (right and below) of a map [256, 256, 3], both within the mask."""
    across, down = mask[:, 1:] & mask[:, :-1], mask[1:] & mask[:-1]
    right = normals.angle_deg(normal[:, 1:][across], normal[:, :-1][across])
    below = normals.angle_deg(normal[1:][down], normal[:-1][down])
    return _mean(np.concatenate([right, below]))


def facing_away(normal: NDArray[np.float32], mask: Mask) -> float:
    """Share of the mask whose normal [256, 256, 3] points away from the camera (z < 0), 0..1."""
    return _mean(normal[..., 2][mask] < 0)


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the crop [256, 256, 3] in grey levels 0..255: low when out of focus."""
    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def exposure(pixels: NDArray[np.uint8], mask: Mask) -> float:
    """Mean luma of the crop [256, 256, 3] over the mask, as stored (sRGB), 0..1."""
    return _mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[mask] / 255)


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else float("nan")
