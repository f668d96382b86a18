"""Where the face is in a capture."""

import cv2
import numpy as np
from numpy.typing import NDArray


def face_region(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The face as an ellipse through Photoface's 11 points [11, 2]: bool [H, W].

    Its long axis runs from a fifth above the mid forehead to just below the chin; its short axis reaches
    beyond the outer corners of the eyes.
    """
    forehead, chin = points[2], points[10]
    axis = chin - forehead
    length = float(np.linalg.norm(axis))
    centre = forehead + 0.42 * axis
    half_width = max(0.72 * float(np.ptp(points[[0, 4], 0])), 0.42 * length)
    angle = float(np.degrees(np.arctan2(axis[1], axis[0])))
    canvas = np.zeros((height, width), np.uint8)
    box = ((float(centre[0]), float(centre[1])), (1.24 * length, 2 * half_width), angle)
    cv2.ellipse(canvas, box, 1, thickness=-1)
    return canvas.astype(bool)
