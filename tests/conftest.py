"""What tests share: the real inputs beside the checkout, and synthetic spheres under known lights."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers share the machine; before torch is imported, here or below

import numpy as np
import pytest
from numpy.typing import NDArray

from casfne.normals import direction_from_zenith, sphere

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inputs; tests that need it skip, saying so, where it is not there."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real inputs: ../shared/data does not exist")
    return folder


@pytest.fixture
def ball() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A sphere of 96 pixels."""
    return sphere(96)


@pytest.fixture
def four_lights() -> NDArray[np.float32]:
    """Photoface-like lights [4, 3]."""
    return direction_from_zenith([35, 35, 30, 30], [45, 135, 225, 315])
