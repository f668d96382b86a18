"""Is trust p right for a share p of pixels?

`python -m benchmarks.photometric.trust` fits the coefficients on people of their own and prints them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.photometric.sessions import Session, studio, varied
from casfne.normals import angle_deg
from casfne.stereo.solution import solve_capture
from casfne.stereo.trust import FITTED, LEAST_LIGHTS, WITHIN_DEG, Coefficients, Features, columns, trust

FIT_SEED, FIT_COUNT = 7000, 80
SEED, COUNT = 9000, 40
TITLE = "Trust"
TEXT = f"""Pixels of {COUNT} other people, under all kinds of disturbance at once, by their trust: its mean, and the
share that is within {WITHIN_DEG:g} degrees of the truth. The coefficients were fitted on {FIT_COUNT} people that are
not among them (`python -m benchmarks.photometric.trust`)."""
EACH = 3000  # pixels of a session: neighbours tell the same
BINS = np.linspace(0, 1, 11)
RIDGE = 1.0  # of the weights: as much as one pixel's doubt
STEPS = 50

Doubles = NDArray[np.float64]


def measured(session: Session, random: np.random.Generator) -> tuple[Features, NDArray[np.bool_]]:
    """Features of some pixels of the solved face, [N] each, and whether they are within ``WITHIN_DEG`` of the truth."""
    solution = solve_capture(session.capture)
    surface, features = solution.surface, solution.features
    inside = np.flatnonzero(surface.mask & session.face)
    chosen = random.choice(inside, min(EACH, len(inside)), replace=False)
    good = angle_deg(surface.normals, session.normal) < WITHIN_DEG
    return Features(**{name: plane.ravel()[chosen] for name, plane in vars(features).items()}), good.ravel()[chosen]


def gathered(seed: int, count: int) -> tuple[Features, NDArray[np.bool_]]:
    """Of ``count`` sessions of ``seed``."""
    random, place = np.random.default_rng(seed), studio()
    parts = [measured(session, random) for session in varied(place, seed, count)]
    joined = {name: np.concatenate([getattr(f, name) for f, _ in parts]) for name in vars(parts[0][0])}
    return Features(**joined), np.concatenate([good for _, good in parts])


def fit(features: Features, good: NDArray[np.bool_]) -> tuple[Coefficients, Coefficients]:
    """Logistic regression for pixels with four usable lights or more, and for those with three."""
    table, many = columns(features), features.usable >= LEAST_LIGHTS
    few = ~many & (features.usable >= 3)
    free = np.ones(len(table), bool)
    without_residual = free.copy()
    without_residual[0] = False
    return regression(table[:, many], good[many], free), regression(table[:, few], good[few], without_residual)


def regression(table: Doubles, good: NDArray[np.bool_], free: NDArray[np.bool_]) -> Coefficients:
    """By Newton's method; weights that come out above 0 are set to 0, and the others fitted again."""
    while True:
        rows = np.concatenate([np.ones((1, table.shape[1])), table[free]])
        weights = np.zeros(len(rows))
        for _ in range(STEPS):
            share = 1 / (1 + np.exp(-weights @ rows))
            ridge = RIDGE * np.r_[0.0, np.ones(len(rows) - 1)]
            slope = rows @ (good - share) - ridge * weights
            step = np.linalg.solve((rows * share * (1 - share)) @ rows.T + np.diag(ridge + 1e-9), slope)
            weights = weights + step
            if np.abs(step).max() < 1e-6:
                break
        if not (weights[1:] > 0).any():
            whole = np.zeros(len(table))
            whole[free] = weights[1:]
            return Coefficients(round(float(weights[0]), 3), tuple(round(float(w), 3) for w in whole))
        free = free.copy()
        free[np.flatnonzero(free)[weights[1:] > 0]] = False


def curve(trusted: NDArray[np.floating], good: NDArray[np.bool_]) -> list[tuple[float, float, int]]:
    """Mean trust, share within ``WITHIN_DEG`` and number of pixels of each bin that is not empty."""
    number = np.clip(np.digitize(trusted, BINS) - 1, 0, len(BINS) - 2)
    rows = [(trusted[number == b], good[number == b]) for b in range(len(BINS) - 1)]
    return [(float(t.mean()), float(g.mean()), len(t)) for t, g in rows if len(t)]


def calibration_error(rows: Sequence[tuple[float, float, int]]) -> float:
    """The mean over pixels of how far the share is from what was said."""
    return sum(abs(said - share) * n for said, share, n in rows) / sum(n for _, _, n in rows)


def table(fitted: Sequence[Coefficients] = FITTED) -> list[list[str]]:
    """Rows of cells, the first the heads; the last the calibration error."""
    features, good = gathered(SEED, COUNT)
    rows = curve(trust(features, fitted), good)
    lines = [["mean trust", f"share within {WITHIN_DEG:g} degrees", "pixels"]]
    lines += [[f"{said:.3f}", f"{share:.3f}", f"{n:,}"] for said, share, n in rows]
    return [*lines, ["mean difference", f"{calibration_error(rows):.3f}", f"{len(good):,}"]]


def main() -> None:
    """Print the coefficients anew, as casfne/stereo/trust.py wants them, and their curve."""
    fitted = fit(*gathered(FIT_SEED, FIT_COUNT))
    print("FITTED = (", *(f"    {one}," for one in fitted), ")", sep="\n")
    print(*table(fitted), sep="\n")


if __name__ == "__main__":
    main()
