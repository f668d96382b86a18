"""A face-like surface that formulas give, for tests: an ellipsoid with a nose, brows, eye sockets, lips and a chin."""

import numpy as np
from numpy.typing import NDArray

from casfne.normals import Floats, normalise

# bumps, in half heights of the face: x, y, height, and half width across and along
_BUMPS = (
    (0.0, -0.10, 0.20, 0.12, 0.20),
    (0.0, 0.12, 0.08, 0.09, 0.22),
    (-0.30, 0.22, -0.07, 0.15, 0.09),
    (0.30, 0.22, -0.07, 0.15, 0.09),
    (-0.28, 0.36, 0.04, 0.20, 0.06),
    (0.28, 0.36, 0.04, 0.20, 0.06),
    (0.0, -0.40, 0.07, 0.20, 0.05),
    (0.0, -0.51, 0.07, 0.17, 0.05),
    (0.0, -0.74, 0.06, 0.16, 0.10),
)
_WIDTH, _HEIGHT, _DEPTH = 0.78, 1.15, 0.85  # half axes of the ellipsoid


def analytic_face(size: int) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Normals [S, S, 3], mask [S, S] and depth [S, S] in pixels of a face that fills the picture, symmetric in x."""
    half = size / 2.2  # pixels
    steps = (np.arange(size) - (size - 1) / 2) / half
    x, y = np.meshgrid(steps, -steps)
    square = 1 - (x / _WIDTH) ** 2 - (y / _HEIGHT) ** 2
    root = np.sqrt(np.maximum(square, 0.05))
    depth, slope_x, slope_y = _DEPTH * root, -_DEPTH * x / _WIDTH**2 / root, -_DEPTH * y / _HEIGHT**2 / root
    for at_x, at_y, height, across, along in _BUMPS:
        u, v = (x - at_x) / across, (y - at_y) / along
        bump = height * np.exp(-(u**2) - v**2)
        depth, slope_x, slope_y = depth + bump, slope_x - 2 * u / across * bump, slope_y - 2 * v / along * bump
    mask = (square > 0.25) & (y < 0.85)
    normals = normalise(np.stack([-slope_x, -slope_y, np.ones_like(x)], -1))
    return normals, mask, (depth * half).astype(np.float32)
