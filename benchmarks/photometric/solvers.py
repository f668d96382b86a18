"""Which solver stands what: mean angular error and coverage, by disturbance, on simulated people."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.photometric.sessions import FAR_M, Session, session, studio
from casfne.normals import angle_deg
from casfne.stereo.solution import solve_capture
from casfne.stereo.solvers.registry import SOLVERS
from casfne.stereo.surface import Settings, solve

SEED, PEOPLE, LIGHTS = 500, 6, 4
CASES: dict[str, dict[str, float]] = {
    "none": {},
    "noise 0.01": {"noise": 0.01},
    "gloss": {"gloss": 1.0},
    "ambient 0.05": {"ambient": 0.05},
    "lamps at 1 m": {"light_distance": 1.0},
    "motion 0.7 px": {"motion": 0.7},
    "all": {"noise": 0.004, "gloss": 1.0, "ambient": 0.02, "light_distance": 1.5, "motion": 0.4},
    "all, more": {"noise": 0.005, "gloss": 1.0, "ambient": 0.02, "light_distance": 1.2, "motion": 0.7},
}
TITLE = "Solver by disturbance"
TEXT = f"""Simulated people ({PEOPLE}, with hair, glasses, hats and hands, which cast shadows) before {LIGHTS} lights,
640x480 pixels, lamps {FAR_M:g} m away where nothing else is said; motion is the standard deviation of x and of y from
one flash to the next, so with 0.4 heads move by up to 2 pixels, with 0.7 by up to 3.3. "All" has the noise, gloss, room
light and lamps of params.yaml. In each cell: mean angle to the truth in degrees over the solved part of the face, and
the share of the face that this is. Solvers see pictures as they were taken and lamps as if far; the default is what
`casfne stereo` and `prepare` do: register, then `selective` under lamps where they are."""

Found = tuple[NDArray[np.float32], NDArray[np.bool_]]  # normals [H, W, 3] and where they count [H, W]


def rows() -> dict[str, Callable[[Session], Found]]:
    """What each row of the table solves with."""

    def plain(name: str) -> Callable[[Session], Found]:
        def solved(taken: Session) -> Found:
            surface = solve(taken.capture, Settings(solver=name))
            return surface.normals, surface.mask

        return solved

    def default(least: float) -> Callable[[Session], Found]:
        def solved(taken: Session) -> Found:
            solution = solve_capture(taken.capture)
            return solution.surface.normals, solution.surface.mask & (solution.trust > least)

        return solved

    found = {name: plain(name) for name, entry in SOLVERS.items() if entry.least <= LIGHTS}
    return found | {"the default": default(-1), "the default, trust > 0.5": default(0.5)}


def cell(solved: Callable[[Session], Found], sessions: list[Session]) -> str:
    """Mean error and coverage."""
    errors, covered, pixels = [], 0, 0
    for taken in sessions:
        normals, mask = solved(taken)
        both = mask & taken.face
        errors.append(angle_deg(normals, taken.normal)[both])
        covered, pixels = covered + int(both.sum()), pixels + int(taken.face.sum())
    return f"{np.concatenate(errors).mean():.2f}, {covered / pixels:.0%}"


def table() -> list[list[str]]:
    """Rows of cells, the first the heads."""
    place = studio()
    cases = {name: [session(place, SEED, i, changes) for i in range(PEOPLE)] for name, changes in CASES.items()}
    lines = [["solver", *cases]]
    return lines + [[name, *(cell(solved, s) for s in cases.values())] for name, solved in rows().items()]
