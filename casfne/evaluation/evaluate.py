"""The trained cascade against held-out people: every stage, and the predictors that any network must beat."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from casfne.corpora.samples import Sample, read_sample
from casfne.evaluation.metrics import masked_errors, summarise
from casfne.images import SIZE
from casfne.model.predictor import CascadePredictor
from casfne.normals import normalise


@dataclass(frozen=True)
class Evaluation:
    """``metrics``: numbers by predictor; ``per_image``: one row for each image and predictor."""

    metrics: dict[str, Any]
    per_image: pd.DataFrame


def evaluate(
    predictor: CascadePredictor,
    root: Path | str,
    test: pd.DataFrame,
    train: pd.DataFrame,
    batch: int,
    on_image: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Angular error on ``test`` of each stage t and of two trivial predictors.

    ``constant`` says (0, 0, 1) everywhere; ``mean_map`` says the mean normal map of ``train``. Errors are
    pooled by pixel (every masked pixel of every image counts alike) and by image (mean over images of the
    image's mean). ``on_image`` is called after each image.
    """
    trivial = {
        "constant": np.broadcast_to(np.array([0, 0, 1], np.float32), (SIZE, SIZE, 3)),
        "mean_map": mean_map(root, train),
    }
    pooled: dict[str, list[NDArray]] = {}
    rows = []
    for row, sample, stages in predictions(predictor, root, test, batch):
        named = trivial | {f"t{t}": stage for t, stage in enumerate(stages)}
        for name, prediction in named.items():
            errors = masked_errors(prediction, sample.normal, sample.mask)
            pooled.setdefault(name, []).append(errors)
            rows.append(
                {"sample_id": row["sample_id"], "subject": row["subject"], "predictor": name} | summarise(errors)
            )
        on_image()
    per_image = pd.DataFrame(rows)
    return Evaluation(_metrics(pooled, per_image, len(test)), per_image)


def _metrics(pooled: dict[str, list[NDArray]], per_image: pd.DataFrame, images: int) -> dict[str, Any]:
    by_image = per_image.groupby("predictor")["mean_deg"].agg(["mean", "std"])
    return {
        "images": images,
        "people": int(per_image["subject"].nunique()),
        "pixels": int(sum(e.size for e in pooled["constant"])),
        "by_pixel": {name: summarise(np.concatenate(errors)) for name, errors in pooled.items()},
        "by_image": {
            str(name): {"mean_deg": float(values["mean"]), "std_deg": float(values["std"])}
            for name, values in by_image.iterrows()
        },
    }


def predictions(
    predictor: CascadePredictor, root: Path | str, rows: pd.DataFrame, batch: int
) -> Iterator[tuple[dict[str, Any], Sample, NDArray[np.float32]]]:
    """Each row of the index with its sample and the stages [T + 1, 256, 256, 3] predicted for it."""
    records = rows.to_dict("records")
    for i in range(0, len(records), batch):
        part = records[i : i + batch]
        samples = [read_sample(root, r["archive"], r["light"]) for r in part]
        stages = predictor.predict_stages(np.stack([s.image for s in samples]))
        yield from zip(part, samples, stages, strict=True)


def mean_map(root: Path | str, rows: pd.DataFrame) -> NDArray[np.float32]:
    """Mean of the true normals of the captures in ``rows``, [256, 256, 3]; (0, 0, 1) where there is no truth."""
    total = np.zeros((SIZE, SIZE, 3), np.float32)
    for archive, light in rows.groupby("archive")["light"].first().items():
        sample = read_sample(root, str(archive), int(light))
        total += sample.normal * sample.mask[..., None]
    total[~total.any(-1)] = (0, 0, 1)
    return normalise(total)
