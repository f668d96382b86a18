"""Angular error over masked pixels: mean ± std, median, shares below angles; by pixel and by image."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from casfne.normals import angle_deg

THRESHOLDS_DEG = (5.0, 7.5, 11.25, 20.0, 25.0, 30.0)


def masked_errors(prediction: NDArray, truth: NDArray, mask: NDArray) -> NDArray[np.float32]:
    """Angular errors in degrees over the mask, float32 [P]; maps are unit normals [H, W, 3], mask bool [H, W]."""
    if prediction.shape != truth.shape or prediction.shape[:2] != mask.shape:
        raise ValueError(f"shapes differ: {prediction.shape}, {truth.shape}, mask {mask.shape}")
    inside = mask.astype(bool)
    return angle_deg(prediction[inside], truth[inside])


def summarise(errors_deg: ArrayLike) -> dict[str, float]:
    """Statistics of angular errors [P]; shares are fractions 0..1 (paper Sec. IV-B). NaN where P is 0."""
    e = np.asarray(errors_deg, np.float64)
    if e.size == 0:
        return dict.fromkeys(_names(), float("nan"))
    shares = [float((e < limit).mean()) for limit in THRESHOLDS_DEG]
    return dict(zip(_names(), [float(e.mean()), float(e.std()), float(np.median(e)), *shares], strict=True))


def _names() -> list[str]:
    return ["mean_deg", "std_deg", "median_deg", *(f"below_{limit:g}_deg" for limit in THRESHOLDS_DEG)]
