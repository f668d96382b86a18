"""How far the cascade's own movement tells its error: a line, fitted on people kept out of training."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from casfne.corpora.samples import read_sample
from casfne.evaluation.metrics import masked_errors
from casfne.images import SIZE
from casfne.model.cascade import Cascade
from casfne.training.dataset import to_tensors

FEWEST_PEOPLE = 8  # of the training set; with fewer nobody is spared


def calibration_people(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(held, used) rows of the training index: every tenth person is held out for calibration, at least one."""
    people = sorted(rows["subject"].unique())
    held = people[::10] if len(people) >= FEWEST_PEOPLE else []
    is_held = rows["subject"].isin(held)
    return rows[is_held].reset_index(drop=True), rows[~is_held].reset_index(drop=True)


def fit_confidence(network: Cascade, root: Path | str, rows: pd.DataFrame) -> list[float] | None:
    """[base, slope] of error_deg = base + slope * last_move_deg over the images of ``rows``; None without them.

    Means over the masked pixels of each image. A negative slope (a noisy fit: more movement cannot mean less
    error) or a network without refinements gives the mean error alone.
    """
    if rows.empty:
        return None
    pairs = [_move_and_error(network, root, a, i) for a, i in zip(rows["archive"], rows["light"], strict=True)]
    moves, errors = np.array(pairs).T
    return fit_line(moves, errors)


def fit_line(moves: NDArray, errors: NDArray) -> list[float]:
    """[base, slope >= 0] of the least-squares line of ``errors`` [N] over ``moves`` [N]."""
    if len(moves) > 2 and np.ptp(moves) > 0:
        slope, base = np.polyfit(moves, errors, 1)
        if slope > 0:
            return [float(base), float(slope)]
    return [float(np.mean(errors)), 0.0]


def _move_and_error(network: Cascade, root: Path | str, archive: str, light: int) -> tuple[float, float]:
    sample = read_sample(root, archive, light)
    device = next(network.parameters()).device
    with torch.inference_mode():
        stages = network(to_tensors(sample, SIZE)["image"][None].to(device))
    before, last = (n[0].permute(1, 2, 0).cpu().numpy() for n in ([stages[0], *stages])[-2:])
    move = masked_errors(last, before, sample.mask)
    return float(move.mean()), float(masked_errors(last, sample.normal, sample.mask).mean())
