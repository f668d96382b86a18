"""Numbers that say how far a label can be believed, from the normals before they are encoded, and the flags for the
cases in which the method is known to fail.

The numbers take under 2 ms a face: they are float32, and share what they have in common (`Angles`).
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne import images
from casfne.images import Crop

# the oval of a face in the crop convention: it puts the eyes near y = 81, the mouth near 175, the chin near 233
FACE_CENTRE = (128.0, 124.0)  # x, y in pixels of a 256x256 crop
FACE_HALF_AXES = (84.0, 110.0)

# Limits of the flags; docstrings say what was measured. Users who want others filter by the columns of numbers.
CLIPPED_LUMA, DARK_LUMA = 250, 16  # levels of 255: no shading is left to read beyond them
CLIPPED_SHARE = 0.2  # bright backgrounds beside a profile reach 0.14
DARK_SHARE = 0.3  # dark backgrounds beside a profile reach 0.20; dark skin in fair light stays below 0.05
IMBALANCE = 0.5  # one half three times as bright as the other; the brightest of the usual side lights gives 0.40
ROUGH_DEG = (
    10.0  # to the right and below together, averaged over 17x17 pixels: skin stays below, edges of things do not
)
ROUGH_WINDOW = 17
DISTURBED_SHARE = 0.14
CUT_COVERAGE = 0.8
SMALL_WINDOW = 96  # pixels of the photograph: a face 60 wide, blown up almost three times
BLURRED = 20.0  # of `sharpness`; the softest of the real portraits has 36
BLOCKY = 2.0  # nine in ten JPEGs of quality 15, one in seven of 40
PROFILE_YAW_DEG = 20.0  # of the mean normal; true normals of heads turned by 39, 55 degrees: 20, 28
PROFILE_NOSE = 0.6  # eye distances from the middle of the eyes; heads turned by 39, 50, 55 degrees: 0.54, 0.81, 0.76

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
_SUM = np.ones((1, 3), np.float32)


@functools.cache
def oval() -> Mask:
    """The fixed face oval of a crop; bool [256, 256], not to be written to."""
    y, x = np.mgrid[: images.SIZE, : images.SIZE]
    (cx, cy), (ax, ay) = FACE_CENTRE, FACE_HALF_AXES
    inside: Mask = ((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 <= 1
    inside.flags.writeable = False
    return inside


def face_mask(crop: Crop, height: int, width: int) -> Mask:
    """The oval, as far as it lies inside a photograph of ``height`` x ``width``; bool [256, 256]."""
    return oval() & crop.inside(height, width)


def coverage(mask: Mask) -> float:
    """Share of the face oval that lies inside the photograph, 0..1."""
    return float(np.count_nonzero(mask) / np.count_nonzero(oval()))


def angles_deg(a: Floats, b: Floats) -> Floats:
    """Degrees between unit vectors [H, W, 3] and [H, W, 3], float32 [H, W]: `casfne.normals.angle_deg` in float32,
    ten times as quick and within 0.0001 degrees of it."""
    chord = cv2.subtract(a, b)  # a view of rows of whole pixels is taken as it is
    half = np.sqrt(cv2.transform(cv2.multiply(chord, chord), _SUM)) * np.float32(0.5)
    return np.asarray(np.arcsin(np.minimum(half, 1)) * np.float32(180 / np.pi * 2), np.float32)


def last_move_deg(stages: Floats, mask: Mask) -> float:
    """Mean angle between the last two stages of [T+1, 256, 256, 3] over the mask; NaN without refinement."""
    if len(stages) < 2:
        return float("nan")
    return mean(angles_deg(stages[-1], stages[-2])[mask])


@dataclass(frozen=True)
class Angles:
    """Degrees between neighbours of a map, within the box around its mask: to the right [H, W - 1] and below
    [H - 1, W], 0 where one of the two is outside the mask."""

    right: Floats
    below: Floats
    inside: Mask  # the mask in that box, [H, W]
    pairs: int  # of neighbours within the mask

    @classmethod
    def of(cls, normal: Floats, mask: Mask) -> "Angles":
        """Of a map [256, 256, 3]. The box is half of it, and its arrays are small enough to be reused by malloc
        instead of being mapped anew, which takes longer than the arithmetic."""
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
        if not width:
            return cls(np.zeros((1, 0), np.float32), np.zeros((0, 1), np.float32), np.zeros((1, 1), bool), 0)
        box = (slice(top, top + height), slice(left, left + width))
        part, inside = np.ascontiguousarray(normal[box]), mask[box]
        across, down = inside[:, 1:] & inside[:, :-1], inside[1:] & inside[:-1]
        right = angles_deg(part[:, 1:], part[:, :-1]) * across if width > 1 else np.zeros(across.shape, np.float32)
        below = angles_deg(part[1:], part[:-1]) * down if height > 1 else np.zeros(down.shape, np.float32)
        return cls(right, below, inside, int(np.count_nonzero(across) + np.count_nonzero(down)))

    def mean(self) -> float:
        """Over all pairs, degrees; NaN where there are none."""
        return float(self.right.sum() + self.below.sum()) / self.pairs if self.pairs else float("nan")


def roughness_deg(normal: Floats, mask: Mask) -> float:
    """Mean angle between neighbours (right and below) of a map [256, 256, 3], both within the mask."""
    return Angles.of(normal, mask).mean()


def facing_away(normal: Floats, mask: Mask) -> float:
    """Share of the mask whose normal [256, 256, 3] points away from the camera (z < 0), 0..1."""
    return mean(normal[..., 2][mask] < 0)


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the crop [256, 256, 3] in grey levels 0..255: low when out of focus."""
    laplacian = cv2.Laplacian(_luma(pixels), cv2.CV_32F)
    return float(cv2.meanStdDev(laplacian)[1][0, 0]) ** 2


def exposure(pixels: NDArray[np.uint8], mask: Mask) -> float:
    """Mean luma of the crop [256, 256, 3] over the mask, as stored (sRGB), 0..1."""
    return mean(_luma(pixels)[mask]) / 255


# --- the paper's failure cases ---


def clipped(pixels: NDArray[np.uint8], mask: Mask) -> float:
    """Share of the mask with luma from CLIPPED_LUMA, 0..1."""
    return mean(_luma(pixels)[mask] >= CLIPPED_LUMA)


def dark(pixels: NDArray[np.uint8], mask: Mask) -> float:
    """Share of the mask with luma up to DARK_LUMA, 0..1."""
    return mean(_luma(pixels)[mask] <= DARK_LUMA)


def imbalance(pixels: NDArray[np.uint8], mask: Mask) -> float:
    """(right - left) / (right + left) of the mean luma of the mask's two halves, -1..1; NaN without one of them."""
    luma, middle = _luma(pixels), round(FACE_CENTRE[0])
    left = mean(luma[:, :middle][mask[:, :middle]])
    right = mean(luma[:, middle:][mask[:, middle:]])
    return (right - left) / max(right + left, 1.0) if np.isfinite(left + right) else float("nan")


def extreme_light(clipped: float, dark: float, imbalance: float) -> bool:
    """Whether shading is lost: much of the face clipped or black, or one half far darker than the other.

    None of 15 real portraits in fair light, and the one of 24 simulated ones that is lit from the side alone. It
    cannot tell a black background within the oval from a black face.
    """
    return clipped > CLIPPED_SHARE or dark > DARK_SHARE or abs(imbalance) > IMBALANCE


def disturbed(angles: Angles) -> float:
    """Share of the mask where neighbours differ by more than ROUGH_DEG on average over ROUGH_WINDOW pixels, 0..1."""
    both = np.zeros(angles.inside.shape, np.float32)
    both[:, 1:] += angles.right
    both[1:] += angles.below
    near = 0.5 * cv2.boxFilter(both, -1, (ROUGH_WINDOW, ROUGH_WINDOW), borderType=cv2.BORDER_CONSTANT)
    return mean(near[angles.inside] > ROUGH_DEG)


def occluded(disturbed: float, coverage: float) -> bool:
    """Whether something seems to stand before the face, or the picture's edge cuts it.

    This sees edges, in the normals; it knows no objects. Things painted over 39 portraits (15 real, 24 simulated),
    with the model of `make repro`: of pale masks over mouth and cheeks it flags 39, of strands of hair 39, of dark
    glasses 37, of microphones 5, of smooth patches of skin (a hand) 3. With nothing painted it flags 4, of which two
    have hair or a hand before the face as they are.
    """
    return disturbed > DISTURBED_SHARE or coverage < CUT_COVERAGE


def blockiness(image: NDArray[np.uint8], crop: Crop) -> float:
    """How much larger steps across JPEG's 8-pixel blocks are than others, in the photograph [H, W, 3]; about 1: none.

    Taken within the middle 256 pixels of the window at the photograph's own size, where blocks are where they were
    made; a photograph that was resized after its compression shows none. NaN in windows of less than 32 pixels.
    """
    height, width = image.shape[:2]
    x, y = crop.left + crop.side // 2, crop.top + crop.side // 2
    reach = min(crop.side // 2, 128)
    part = image[max(y - reach, 0) : max(min(y + reach, height), 0), max(x - reach, 0) : max(min(x + reach, width), 0)]
    if min(part.shape[:2]) < 32:
        return float("nan")
    luma = _luma(np.ascontiguousarray(part)).astype(np.float32)
    return max(_steps(luma), _steps(luma.T))


def _steps(luma: Floats) -> float:
    """The mean step between columns at the strongest of the eight places of a grid, over the median place."""
    steps = np.abs(np.diff(luma, axis=1)).mean(0)
    places = np.array([steps[i::8].mean() for i in range(8)])
    return float((places.max() + 0.1) / (np.median(places) + 0.1))  # 0.1: flat pictures have no steps to compare


def low_quality(side: int, sharpness: float, blockiness: float) -> bool:
    """Whether the photograph has little to read: a window of few pixels, out of focus, or strongly compressed.

    Of 39 portraits none is flagged for its sharpness as it is; blurred by 1 pixel of 256 it is 4 in ten, by 1.5 nine in
    ten. Most have a blockiness of 1.0 to 1.4; as JPEGs of quality 20 two in three exceed BLOCKY. One that is not known
    (NaN) flags nothing.
    """
    return side < SMALL_WINDOW or sharpness < BLURRED or blockiness > BLOCKY


def yaw_deg(normal: Floats, mask: Mask) -> float:
    """Azimuth of the mean normal of a map [256, 256, 3] over the mask, degrees; NaN without a mask.

    For the true normals of a head turned by a this is about a / 2: the far side is hidden, and its oval holds
    background too.
    """
    x, _, z, _ = cv2.mean(np.ascontiguousarray(normal), mask.astype(np.uint8))
    return float(np.degrees(np.arctan2(x, z))) if mask.any() else float("nan")


def nose_offset(points: NDArray[np.float64]) -> float:
    """How far the nose of five points [5, 2] lies from the middle of the eyes, along them, in eye distances."""
    across = points[1] - points[0]
    square = float(across @ across)
    return float((points[2] - points[:2].mean(0)) @ across / square) if square else float("inf")


def profile(yaw_deg: float, points: NDArray[np.float64] | None) -> bool:
    """Whether the head is turned by some 45 degrees or more: by its points where it has any, or by its normals.

    The limits are those of simulated heads with known angles. A model of little training flattens turned heads; then
    points alone tell.
    """
    turned = points is not None and abs(nose_offset(points)) > PROFILE_NOSE
    return turned or abs(yaw_deg) > PROFILE_YAW_DEG


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def mean(values: NDArray) -> float:
    """Of any values; NaN where there are none."""
    return float(values.mean()) if values.size else float("nan")
