"""The solvers by name, and what each needs."""

from dataclasses import dataclass

from casfne.errors import InputError
from casfne.stereo.solvers.ambient import ambient
from casfne.stereo.solvers.base import Rays, Solved, Solver
from casfne.stereo.solvers.least_squares import least_squares, masked
from casfne.stereo.solvers.low_rank import low_rank
from casfne.stereo.solvers.robust import cauchy, l1
from casfne.stereo.solvers.selective import selective


@dataclass(frozen=True)
class SolverEntry:
    """A solver, the least number of lights that it needs, and what it does in one line."""

    solver: Solver
    least: int
    what: str


SOLVERS: dict[str, SolverEntry] = {
    "least-squares": SolverEntry(least_squares, 3, "all lights alike, in shadow or not: the baseline"),
    "masked": SolverEntry(masked, 3, "least squares over each pixel's usable lights"),
    "selective": SolverEntry(selective, 3, "the lights that agree, by what shadows and highlights look like"),
    "l1": SolverEntry(l1, 4, "least absolute residuals, by reweighting"),
    "cauchy": SolverEntry(cauchy, 4, "reweighting that lets go of what is far off"),
    "low-rank": SolverEntry(low_rank, 12, "a low-rank matte part plus sparse errors"),
    "ambient": SolverEntry(ambient, 6, "least squares with a constant term a pixel: light from all round"),
}

DEFAULT = "selective"  # for few lights and for many


def run(name: str, rays: Rays) -> Solved:
    """What solver ``name`` finds. InputError for an unknown one, or with fewer lights than it needs."""
    return solver_of(name, len(rays.signal))(rays)


def solver_of(name: str, lights: int) -> Solver:
    """Solver ``name``. InputError for an unknown one, and for one that needs more than ``lights`` lights."""
    if name not in SOLVERS:
        raise InputError(f"unknown solver {name!r}: expected one of {', '.join(SOLVERS)}")
    entry = SOLVERS[name]
    if lights < entry.least:
        fitting = ", ".join(other for other, e in SOLVERS.items() if e.least <= lights)
        instead = f"use one of {fitting}" if fitting else "three lights are the least"
        raise InputError(f"solver {name!r} needs at least {entry.least} lights, got {lights}: {instead}")
    return entry.solver
