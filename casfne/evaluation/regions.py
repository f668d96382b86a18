"""Regions of a face in its crop: every pixel of the mask is in one of them."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne.corpora.record import Points, five_points

REGIONS = ("cheeks", "forehead", "chin", "eyes", "nose", "mouth", "rim")


@dataclass(frozen=True)
class Places:
    """Where the regions lie. Lengths are in distances from the middle of the eyes to that of the mouth."""

    # of faces without points, in widths and heights: where `casfne.images.crop_from_points` brings an average face
    standard: tuple[tuple[float, float], ...] = (
        *((0.344, 0.327), (0.656, 0.327)),
        (0.5, 0.515),
        *((0.369, 0.673), (0.631, 0.673)),
    )
    eye: tuple[float, float] = (0.30, 0.19)  # half axes of the ellipse around each
    bridge: float = 0.12  # half width of the nose between the eyes,
    wings: float = 0.27  # at its tip,
    nostrils: float = 0.14  # and how far it goes below
    lips: tuple[float, float] = (0.10, 0.21)  # how far the mouth's ellipse goes beyond its corners, and its half height
    brows: float = 0.28  # above this height over the eyes is the forehead
    jaw: float = 0.21  # lower than this below the mouth is the chin
    rim: float = 0.09  # nearer than this to the mask's outer edge; of what the picture cuts off there is none


PLACES = Places()


def region_map(mask: NDArray[np.bool_], points: NDArray | None = None, places: Places = PLACES) -> NDArray[np.uint8]:
    """The region of each pixel [H, W], an index into ``REGIONS``; what it says off the mask means nothing.

    points: of the face, in pixels of this picture: the five of `casfne.images.crop_from_points` or iBUG's 68; None:
    its standard places. Of what overlaps, the region that comes later in ``REGIONS`` holds.
    """
    height, width = mask.shape
    if points is None:
        points = np.array(places.standard) * (width, height) - 0.5
    five = np.asarray(points, np.float64) if len(points) == 5 else five_points(points)
    labels, unit = _inner(height, width, tuple(map(tuple, five.tolist())), places)
    return np.where(_edge_distance(mask) < places.rim * unit, np.uint8(REGIONS.index("rim")), labels)


@lru_cache(maxsize=8)
def _inner(
    height: int, width: int, points: tuple[tuple[float, ...], ...], places: Places
) -> tuple[NDArray[np.uint8], float]:
    """The regions but the rim, and the distance from eyes to mouth in pixels."""
    p, unit = _upright(np.array(points))
    rows, columns = np.mgrid[:height, :width]
    across, along = _turned(np.stack([columns, rows], -1), np.array(points), unit)  # [H, W] each
    labels = np.zeros((height, width), np.uint8)
    for name, inside in _shapes(across, along, p, places).items():
        labels[inside] = REGIONS.index(name)
    return labels, unit


def _shapes(across: NDArray, along: NDArray, p: Points, places: Places) -> dict[str, NDArray[np.bool_]]:
    """Which pixels, in the face's own axes [H, W], are in each region, from its points [5, 2] in the same axes."""
    left, right, tip, mouth = p[0], p[1], p[2], p[3:].mean(0)

    def ellipse(centre: NDArray, half_width: float, half_height: float) -> NDArray[np.bool_]:
        return ((across - centre[0]) / half_width) ** 2 + ((along - centre[1]) / half_height) ** 2 <= 1

    down = np.clip(along / tip[1], 0, 1)  # 0 between the eyes, 1 at the nose's tip
    half = places.bridge + (places.wings - places.bridge) * down
    within = (along >= 0) & (along <= tip[1] + places.nostrils)
    return {
        "forehead": along < -places.brows,
        "chin": along > mouth[1] + places.jaw,
        "eyes": ellipse(left, *places.eye) | ellipse(right, *places.eye),
        "nose": within & (abs(across - tip[0] * down) <= half),
        "mouth": ellipse(mouth, float(abs(p[4, 0] - p[3, 0])) / 2 + places.lips[0], places.lips[1]),
    }


def _upright(points: Points) -> tuple[Points, float]:
    """The points [5, 2] in the face's own axes, see `_turned`, and the distance from eyes to mouth in pixels."""
    unit = float(np.linalg.norm(points[3:].mean(0) - points[:2].mean(0)))
    if not unit > 0:
        raise ValueError("eyes and mouth of a face are in one place")
    return np.stack(_turned(points, points, unit), -1), unit


def _turned(pixels: NDArray, points: Points, unit: float) -> tuple[NDArray, NDArray]:
    """x and y of pixels [..., 2] from the middle of the eyes, y towards the mouth, where it is 1."""
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    down = (mouth - eyes) / unit
    offset = (pixels - eyes) / unit
    return offset @ np.array([down[1], -down[0]]), offset @ down


def _edge_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Pixels from each pixel to the nearest outside the mask, whose holes are no outside; far where there is none."""
    outer, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), outer, -1, 1, cv2.FILLED)
    if filled.all():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform(filled, cv2.DIST_L2, 3), np.float32)
