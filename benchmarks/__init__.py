"""Benchmarks: every module here but this package's own has `run() -> list[Result]`; `make bench` runs them all."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One number: its name, value, unit, and what was measured or compared."""

    name: str
    value: float
    unit: str
    what: str
