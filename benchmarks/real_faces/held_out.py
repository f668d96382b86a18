"""(a) People of the studio that no training has seen: errors of every stage, and whether the confidence tells them."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import FACEKIT
from benchmarks.real_faces.confidence import Faces
from benchmarks.real_faces.probe import CHUNK, HELD_SEED, Stored, write_chunks
from casfne.capture.optics.framing import training_crop
from casfne.capture.parallel import Order
from casfne.capture.portraits import Setting
from casfne.images import SIZE
from casfne.model.predictor import CascadePredictor
from casfne.normals import angle_deg, normalise

COUNT = 512
SHARES_DEG = (10, 20, 30)


def people(folder: Path) -> Stored:
    """The portraits, anny's heads and facekit's in turn; rendered into ``folder`` in two minutes, once."""
    order = Order(["anny", str(FACEKIT)], HELD_SEED, COUNT, Setting(training_crop(SIZE)))
    return Stored(write_chunks(folder, order), COUNT)


def evaluate(predictor: CascadePredictor, held: Stored) -> tuple[list[dict[str, Any]], Faces]:
    """Of every stage: the mean over faces of their mean error, and shares of pixels; and what was expected."""
    errors: list[list[np.ndarray]] = [[] for _ in range(predictor.refinements + 1)]
    maps = []
    for i in range(0, COUNT, CHUNK):
        crops = held.image[i : i + CHUNK].movedim(1, -1).contiguous().numpy()
        stages, expected = predictor.assess(crops)
        for j, face in enumerate(held.face[i : i + CHUNK, 0].numpy()):
            truth = normalise(held.normal[i + j].movedim(0, -1).float().numpy())[face]
            for t, of_stage in enumerate(errors):
                of_stage.append(angle_deg(stages[j, t][face], truth))
            maps.append((expected[j][face], errors[-1][-1]))
    return [_summary(of_stage) for of_stage in errors], Faces.of(maps)


def _summary(errors: list[np.ndarray]) -> dict[str, Any]:
    pixels = np.concatenate(errors)
    shares = {f"below_{limit}": float((pixels < limit).mean()) for limit in SHARES_DEG}
    return {"mean_deg": float(np.mean([e.mean() for e in errors])), "median_deg": float(np.median(pixels)), **shares}
