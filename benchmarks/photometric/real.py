"""Real captures: two people of the Extended Yale Face Database B, 64 lights each."""

from dataclasses import replace

import numpy as np

from benchmarks import YALE_B
from casfne.normals import angle_deg, direction
from casfne.stereo.captures import Capture, open_capture
from casfne.stereo.held_out import held_out_error
from casfne.stereo.solvers.registry import SOLVERS
from casfne.stereo.surface import Settings, Surface, solve

PEOPLE = ("yaleB01", "yaleB02")
PLAIN = Settings(shadow=8 / 255)  # the room is bright there
AZIMUTHS, ELEVATIONS = (25, 35, 50), (-20, 20)
TITLE = "Real captures"
TEXT = """Two people of Yale B (`../shared/data/yale_b`). Unseen: mean absolute error, of 255, over the lit pixels of 16
pictures that were left out of the solution from the other 48. Four lights: mean angle in degrees, over the same pixels
for all solvers, between normals from four lights (azimuths of 25, 35 and 50 degrees to both sides, elevations of 20 up
and down) and those that the default finds from all. Balance: the mean x of the normals of these frontal faces, 0 where
left and right are alike."""


def four_lights_error(person: Capture, many: Surface, settings: Settings) -> float:
    """Mean over the azimuths."""
    believed = many.mask & (many.used >= 15) & (many.residual < 0.1)
    errors = []
    for azimuth in AZIMUTHS:
        wanted = np.stack([direction(a, e) for a in (-azimuth, azimuth) for e in ELEVATIONS])
        chosen = (person.lights @ wanted.T).argmax(0)
        four = replace(person, images=person.images[chosen], lights=person.lights[chosen])
        common = solve(four, PLAIN).mask & believed
        errors.append(angle_deg(solve(four, settings).normals, many.normals)[common].mean())
    return float(np.mean(errors))


def row(person: Capture, many: Surface, settings: Settings) -> list[str]:
    """Unseen, four lights, balance; - where a solver needs more lights."""
    surface = solve(person, settings)
    few = SOLVERS[settings.solver].least <= 4
    return [
        f"{held_out_error(person, 16, settings)['mean_abs_error_of_255']:.2f}",
        f"{four_lights_error(person, many, settings):.2f}" if few else "-",
        f"{surface.normals[surface.mask][:, 0].mean():+.3f}",
    ]


def table() -> list[list[str]]:
    """Rows of cells, the first the heads."""
    people = [open_capture(YALE_B / name) for name in PEOPLE]
    many = [solve(person, PLAIN) for person in people]
    lines = [["solver", *(f"{what}, {name}" for name in PEOPLE for what in ("unseen", "four lights", "balance"))]]
    for solver in SOLVERS:
        cells = [row(*pair, replace(PLAIN, solver=solver)) for pair in zip(people, many, strict=True)]
        lines.append([solver, *cells[0], *cells[1]])
    return lines
