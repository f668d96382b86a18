"""What tests share: the real inputs beside the checkout, and synthetic spheres under known lights."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inputs; tests that need it skip, saying so, where it is not there."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real inputs: ../shared/data does not exist")
    return folder


def sphere(size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Normals [S, S, 3] (frame opengl) and mask of a sphere that fills the picture."""
    centre = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(centre, -centre)
    z2 = 1 - x**2 - y**2
    mask = z2 > 0
    return np.stack([x, y, np.sqrt(np.maximum(z2, 0))], -1).astype(np.float32), mask


@pytest.fixture
def ball() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A sphere of 96 pixels."""
    return sphere(96)


@pytest.fixture
def four_lights() -> NDArray[np.float32]:
    """Photoface-like lights [4, 3]."""
    from casfne.normals import direction_from_zenith

    return direction_from_zenith([35, 35, 30, 30], [45, 135, 225, 315])
