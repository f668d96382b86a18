"""Angular error over masked pixels: mean ± std, median, RMSE, shares below angles; of an image, and of many pooled."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from casfne.normals import angle_deg

if TYPE_CHECKING:
    import pandas as pd  # training measures on machines without it

THRESHOLDS_DEG = (5.0, 7.5, 11.25, 20.0, 25.0, 30.0)
MISSING_DEG = 90.0  # what a pixel without a normal counts as: the mean angle to all directions
LENGTH_TOLERANCE = 0.2  # 8 bits, half floats and a resampled map stay within; (128, 128, 128) and black do not

_SHIFT = 16  # bits of a float32 that its bucket leaves out: 1/128 of the value
_BUCKETS = (int(np.float32(180).view(np.uint32)) >> _SHIFT) + 1


def unit_vectors(vectors: NDArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors [P, 3] brought to length 1, and which of them are normals, bool [P]; the others become 0.

    A normal is finite and of length 1, give or take ``LENGTH_TOLERANCE``.
    """
    v = np.asarray(vectors, np.float32)
    length = np.sqrt(np.einsum("pi,pi->p", v, v))
    there = abs(length - 1) <= LENGTH_TOLERANCE  # NaN is not
    return np.divide(v, length[:, None], out=np.zeros_like(v), where=there[:, None]), there


def angular_errors(predicted: NDArray, true: NDArray) -> NDArray[np.float32]:
    """Angles in degrees, float32 [P], of what `unit_vectors` gives to unit vectors [P, 3]; ``MISSING_DEG`` for 0."""
    return np.where(predicted.any(-1), angle_deg(predicted, true), np.float32(MISSING_DEG))


def masked_errors(prediction: NDArray, truth: NDArray, mask: NDArray) -> NDArray[np.float32]:
    """Angular errors in degrees over the mask, float32 [P]; maps are [H, W, 3], mask bool [H, W].

    truth: unit normals. A prediction is brought to length 1, and counts as ``MISSING_DEG`` where it is no normal.
    """
    if prediction.shape != truth.shape or prediction.shape[:2] != mask.shape:
        raise ValueError(f"shapes differ: {prediction.shape}, {truth.shape}, mask {mask.shape}")
    inside = mask.astype(bool)
    return angular_errors(unit_vectors(prediction[inside])[0], truth[inside])


def summarise(errors_deg: ArrayLike) -> dict[str, float]:
    """Statistics of angular errors [P]; shares are fractions 0..1 (paper Sec. IV-B). NaN where P is 0."""
    e = np.sort(np.asarray(errors_deg, np.float64))
    if e.size == 0:
        return dict.fromkeys(_names(), float("nan"))
    shares = np.searchsorted(e, THRESHOLDS_DEG) / e.size  # those below
    return _statistics(e.mean(), e.std(), e[[(e.size - 1) // 2, e.size // 2]].mean(), list(shares))


def pool(parts: "pd.DataFrame", median_deg: float) -> dict[str, float]:
    """The statistics of all pixels together, from those of parts: a row each of `summarise`, and ``pixels``.

    All but the median, which the parts do not tell.
    """
    n = parts["pixels"].to_numpy(np.float64)
    means, variances = parts["mean_deg"].to_numpy(np.float64), parts["std_deg"].to_numpy(np.float64) ** 2
    mean = np.average(means, weights=n)
    variance = np.average(variances + (means - mean) ** 2, weights=n)
    shares = [np.average(parts[name], weights=n) for name in _below()]
    return _statistics(mean, np.sqrt(variance), median_deg, shares)


def median(pieces: Iterable[NDArray[np.float32]]) -> float:
    """The exact median of angular errors that lie in ``pieces``, float32 [P] each, which are asked for twice.

    First the bucket that holds it is found, then sorted: of some 100 values about one is in memory at a time.
    """
    counts = np.zeros(_BUCKETS, np.int64)
    for piece in pieces:
        counts += np.bincount(_bucket(piece), minlength=_BUCKETS)
    ends = np.cumsum(counts)
    middle = np.array([(ends[-1] - 1) // 2, ends[-1] // 2])
    first, last = np.searchsorted(ends, middle, side="right")
    near = [np.unique(_between(piece, first, last), return_counts=True) for piece in pieces]
    values, times = (np.concatenate(part) for part in zip(*near, strict=True))
    order = np.argsort(values)
    reached = np.cumsum(times[order]) + ends[first] - counts[first]
    return float(values[order][np.searchsorted(reached, middle, side="right")].astype(np.float64).mean())


def _between(piece: NDArray[np.float32], first: int, last: int) -> NDArray[np.float32]:
    bucket = _bucket(piece)
    return piece[(bucket >= first) & (bucket <= last)]


def _bucket(errors_deg: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The leading bits of values >= 0, whose order is theirs."""
    return errors_deg.view(np.uint32) >> np.uint32(_SHIFT)


def _statistics(mean: float, std: float, median_deg: float, shares: Sequence[float]) -> dict[str, float]:
    rmse = np.hypot(mean, std)  # the mean square is the square of the mean and the variance
    return dict(zip(_names(), map(float, (mean, std, median_deg, rmse, *shares)), strict=True))


def _names() -> list[str]:
    return ["mean_deg", "std_deg", "median_deg", "rmse_deg", *_below()]


def _below() -> list[str]:
    return [f"below_{limit:g}_deg" for limit in THRESHOLDS_DEG]
