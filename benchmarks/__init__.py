"""Benchmarks: every module of this folder has `run() -> list[Result]`; `make bench` runs them all.

Speeds are ratios of one run. Long comparisons are commands of their own (`python -m benchmarks.inference`), which
write what they measured beside their module.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One number: its name, value, unit, and what was measured or compared."""

    name: str
    value: float
    unit: str
    what: str
