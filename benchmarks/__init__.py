"""Benchmarks: every module of this folder has `run() -> list[Result]`; `make bench` runs them all.

Speeds are ratios of one run. Long comparisons are commands of their own (`python -m benchmarks.inference`), which
write what they measured beside their module.
"""

from dataclasses import dataclass
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"  # the real inputs, beside the checkout
FACEKIT = SHARED / "facekit" / "facekit.npz"
YALE_B = SHARED / "yale_b"
PORTRAITS = SHARED / "portraits"


@dataclass(frozen=True)
class Result:
    """One number: its name, value, unit, and what was measured or compared."""

    name: str
    value: float
    unit: str
    what: str
