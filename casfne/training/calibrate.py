"""How far the cascade's own movement tells its error: a line, fitted on people kept out of training."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from casfne.evaluation.metrics import masked_errors
from casfne.model.cascade import Cascade
from casfne.training.dataset import Batch, Request, Source, unpack

if TYPE_CHECKING:
    import pandas as pd

FEWEST_PEOPLE = 8  # of the training set; with fewer nobody is spared


def calibration_people(rows: "pd.DataFrame") -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(held, used) rows of the training index: every tenth person is held out for calibration, at least one."""
    people = sorted(rows["subject"].unique())
    held = people[::10] if len(people) >= FEWEST_PEOPLE else []
    is_held = rows["subject"].isin(held)
    return rows[is_held].reset_index(drop=True), rows[~is_held].reset_index(drop=True)


def fit_confidence(network: Cascade, source: Source, size: int) -> list[float] | None:
    """[base, slope] of error_deg = base + slope * last_move_deg over the images of ``source`` (``size``: of those
    that are made when asked for); None where it has none.

    Means over the masked pixels of each image. A negative slope (a noisy fit: more movement cannot mean less
    error) or a network without refinements gives the mean error alone.
    """
    if not len(source):
        return None
    images = (source.__getitems__([Request(i, 0, size)]) for i in range(len(source)))
    moves, errors = np.array([_move_and_error(network, image) for image in images]).T
    return fit_line(moves, errors)


def fit_line(moves: NDArray, errors: NDArray) -> list[float]:
    """[base, slope >= 0] of the least-squares line of ``errors`` [N] over ``moves`` [N]."""
    if len(moves) > 2 and np.ptp(moves) > 0:
        slope, base = np.polyfit(moves, errors, 1)
        if slope > 0:
            return [float(base), float(slope)]
    return [float(np.mean(errors)), 0.0]


def _move_and_error(network: Cascade, stored: Batch) -> tuple[float, float]:
    device = next(network.parameters()).device
    batch = unpack(stored, device)
    with torch.inference_mode():
        stages = network(batch["image"])
    before, last, truth = (n[0].permute(1, 2, 0).cpu().numpy() for n in (*[stages[0], *stages][-2:], batch["normal"]))
    mask = batch["mask"][0, 0].cpu().numpy() > 0
    return float(masked_errors(last, before, mask).mean()), float(masked_errors(last, truth, mask).mean())
