"""casfne: surface normals of faces, from one image, at corpus scale."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casfne.model.predictor import CascadePredictor

__version__ = "0.1.0"


def load(
    name_or_path: str | Path, device: str = "auto", precision: str = "auto", compiled: bool = False
) -> "CascadePredictor":
    """A predictor from a weights file, or "release", the one that comes along; see `casfne.model.predictor.load`."""
    from casfne.model.predictor import load as load_predictor  # torch takes seconds to import

    return load_predictor(name_or_path, device, precision, compiled)
