"""The protocol: everything that decides a number besides the maps, fixed, with its hash."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from casfne.evaluation.bins import EDGES, Edges
from casfne.evaluation.metrics import LENGTH_TOLERANCE, MISSING_DEG, THRESHOLDS_DEG
from casfne.evaluation.regions import PLACES, REGIONS, Places
from casfne.provenance import fingerprint


@dataclass(frozen=True)
class Protocol:
    """How maps are compared. A change of anything here or of what it means is another ``version``."""

    version: int = 1
    pixels: str = "every pixel of the truth's mask, whatever its trust"
    size: str = "the truth's own; a prediction of another size counts as missing, none is resized"
    by_pixel: str = "statistics of all pixels of all images together"
    by_image: str = "the same statistics of the images' mean errors"
    thresholds_deg: tuple[float, ...] = THRESHOLDS_DEG
    ddof: int = 0  # of standard deviations
    missing_deg: float = MISSING_DEG  # a pixel without a normal, and every pixel of a map that is missing
    length_tolerance: float = LENGTH_TOLERANCE  # a vector whose length is not within 1 ± this is no normal
    resamples: int = 1000  # bootstrap over people, each with all their images; percentiles
    seed: int = 0
    level: float = 0.95
    regions: tuple[str, ...] = REGIONS
    places: Places = PLACES
    edges: Edges = EDGES

    def as_dict(self) -> dict[str, Any]:
        """Everything it says, as JSON has it."""
        return dict(json.loads(json.dumps(asdict(self))))

    @property
    def sha256(self) -> str:
        """The hash that goes into every result."""
        return fingerprint(self.as_dict())


PROTOCOL = Protocol()
