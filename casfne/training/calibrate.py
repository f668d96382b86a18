"""The cascade's expected error, fitted on people kept out of training."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from casfne.model import confidence
from casfne.model.cascade import Cascade
from casfne.model.confidence import Cells
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


def fit_confidence(network: Cascade, source: Source, size: int) -> dict[str, float] | None:
    """Weights of `casfne.model.confidence`, fitted over the masked pixels of the images of ``source`` (``size``: of
    those that are made when asked for); None where it has none. All images count alike; each takes some 1.5 MB."""
    if not len(source):
        return None
    parts = [_cells(network, source.__getitems__([Request(i, 0, size)])) for i in range(len(source))]
    return confidence.fit(Cells.join(parts))


def _cells(network: Cascade, stored: Batch) -> Cells:
    """Those of one image that lie in its mask."""
    device = next(network.parameters()).device
    batch = unpack(stored, device)
    with torch.inference_mode():
        each, summary = network.with_summary(batch["image"])
        stages = torch.stack(each, 1)
        found = confidence.evidence(batch["image"], stages)
    errors = confidence.angle_deg(stages[:, -1], batch["normal"])
    inside = F.avg_pool2d(batch["mask"], confidence.CELL)[0, 0] == 1
    cells = F.avg_pool2d(errors, confidence.CELL)[0, 0][inside].cpu()
    picture = torch.zeros(len(cells), dtype=torch.int64)
    return Cells(found[0].movedim(0, -1)[inside].cpu(), cells, picture, summary.cpu())
