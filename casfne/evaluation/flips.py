"""Is a method's frame the one that was named? Of all flips and swaps of axes, the one that fits the truth best."""

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from casfne.normals import FRAMES, convert

LEAD = 0.02  # in mean cosine by which another frame must fit better: a plain method's errors have no such preference
# [48, 3, 3]: every way to flip and swap axes
_TURNS = np.array(
    [
        np.diag(signs) @ np.eye(3)[list(order)]
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]
)


def agreement(prediction: NDArray, truth: NDArray) -> NDArray[np.float64]:
    """What unit vectors [P, 3] say of each other's axes, [3, 3]: sum of truth times prediction; adds up over images."""
    return truth.T.astype(np.float64) @ prediction.astype(np.float64)


def frame_warning(agreed: NDArray[np.float64], pixels: int, frame: str) -> str | None:
    """What is wrong with the frame ``frame`` in which predictions were read; None where it fits best, or nearly.

    agreed: the sum of `agreement` over ``pixels`` vectors, of predictions that were converted to frame opengl.
    """
    cosines = np.einsum("kij,ij->k", _TURNS, agreed) / max(pixels, 1)
    best, now = _TURNS[np.argmax(cosines)], float(np.trace(agreed)) / max(pixels, 1)
    if cosines.max() - now < LEAD:
        return None
    named = [other for other in FRAMES if np.array_equal(_between(frame, other), best)]
    guess = f"frame {named[0]}" if named else f"(x, y, z) = ({', '.join(map(_axis, best))}) of what it is now"
    better = f"mean cosine {cosines.max():.3f} for {now:.3f}"
    return f"does not look like frame {frame}: {guess} fits the truth better ({better})"


def _between(frame: str, other: str) -> NDArray[np.float32]:
    """What turns vectors read as ``frame`` into those read as ``other``, [3, 3], both in ours."""
    return convert(convert(np.eye(3), "opengl", frame), other, "opengl").T


def _axis(row: NDArray[np.float64]) -> str:
    place = int(np.argmax(abs(row)))
    return ("-" if row[place] < 0 else "") + "xyz"[place]
