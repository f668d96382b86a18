"""Which solver stands what: mean angular error and coverage, by disturbance.

`python -m benchmarks.photometric.solvers` prints the table; `--write` writes it to benchmarks/solvers.md. The rows are
those of `SOLVERS`, on pictures as they were taken with lamps far away, and what `casfne stereo` does: pictures
registered, near lamps where they are near.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.photometric.sessions import FAR_M, Session, session, studio
from casfne.errors import guard
from casfne.files import write_text
from casfne.normals import angle_deg
from casfne.stereo.solution import solve_capture
from casfne.stereo.solvers.registry import SOLVERS
from casfne.stereo.surface import Settings, Surface, solve

SEED, PEOPLE, LIGHTS = 500, 6, 4
TABLE = Path(__file__).parents[1] / "solvers.md"
CASES: dict[str, dict[str, float]] = {
    "none": {},
    "noise 0.01": {"noise": 0.01},
    "gloss": {"gloss": 1.0},
    "ambient 0.05": {"ambient": 0.05},
    "lamps at 1 m": {"light_distance": 1.0},
    "motion 0.7 px": {"motion": 0.7},
    "all": {"noise": 0.005, "gloss": 1.0, "ambient": 0.02, "light_distance": 1.2, "motion": 0.7},
}
HEAD = f"""# Photometric stereo: solver by disturbance

`python -m benchmarks.photometric.solvers --write` made this: {PEOPLE} simulated people before {LIGHTS} lights, 256x256
pixels, lamps {FAR_M:g} m away where nothing else is said. In each cell: mean angle to the truth in degrees over the
solved part of the face, and the share of the face that is solved.

"""


def rows() -> dict[str, Callable[[Session], Surface]]:
    """What each row of the table solves with."""

    def plain(name: str) -> Callable[[Session], Surface]:
        return lambda taken: solve(taken.capture, Settings(solver=name))

    found = {name: plain(name) for name, entry in SOLVERS.items() if entry.least <= LIGHTS}
    return found | {"the default": lambda taken: solve_capture(taken.capture).surface}


def cell(solved: Callable[[Session], Surface], sessions: list[Session]) -> str:
    """Mean error and coverage."""
    errors, covered, pixels = [], 0, 0
    for taken in sessions:
        surface = solved(taken)
        both = surface.mask & taken.face
        errors.append(angle_deg(surface.normals, taken.normal)[both])
        covered, pixels = covered + int(both.sum()), pixels + int(taken.face.sum())
    return f"{np.concatenate(errors).mean():.2f}, {covered / pixels:.0%}"


def table() -> str:
    """In Markdown."""
    place = studio()
    cases = {name: [session(place, SEED, i, changes) for i in range(PEOPLE)] for name, changes in CASES.items()}
    lines = [f"| solver | {' | '.join(cases)} |", "| --- |" + " --- |" * len(cases)]
    for name, solved in rows().items():
        lines.append(f"| {name} | {' | '.join(cell(solved, sessions) for sessions in cases.values())} |")
    return "\n".join(lines) + f"\n\nMachine: {machine()}.\n"


@guard
def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    write = parser.parse_args().write
    text = HEAD + table()
    print(text)
    if write:
        write_text(TABLE, text)


if __name__ == "__main__":
    main()
