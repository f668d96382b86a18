"""The trained cascade against held-out people: every stage, and the predictors that any network must beat."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from casfne.corpora.samples import Sample, read_sample
from casfne.errors import InputError
from casfne.evaluation.metrics import angular_errors, unit_vectors
from casfne.evaluation.protocol import PROTOCOL
from casfne.evaluation.tally import Tally
from casfne.evaluation.truths import read_points, truth_of
from casfne.images import SIZE
from casfne.model.predictor import CascadePredictor
from casfne.normals import normalise


@dataclass(frozen=True)
class Evaluation:
    """``metrics``: numbers by predictor; ``per_image``: one row for each image and predictor."""

    metrics: dict[str, Any]
    per_image: pd.DataFrame

    @property
    def headlines(self) -> dict[str, dict[str, float]]:
        """What a line of `dvc metrics show` can hold: each predictor's mean error, and of the last stage a few more."""
        by_pixel = self.metrics["by_pixel"]
        last = by_pixel[list(by_pixel)[-1]]
        more = ("median_deg", "below_20_deg", "below_25_deg", "below_30_deg")
        return {
            "mean_deg": {name: numbers["mean_deg"] for name, numbers in by_pixel.items()},
            "last": {name: last[name] for name in more},
        }


def evaluate(
    predictor: CascadePredictor,
    root: Path | str,
    test: pd.DataFrame,
    train: pd.DataFrame,
    batch: int,
    on_image: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Angular error on ``test`` of each stage t and of two trivial predictors, by `PROTOCOL`.

    ``constant`` says (0, 0, 1) everywhere; ``mean_map`` says the mean normal map of ``train``. ``metrics`` holds what
    `Tally.statistics` says, by predictor. ``on_image`` is called after each image.
    Raises InputError: a person is in both, or a sample's truth is unusable.
    """
    if seen := set(test["subject"]) & set(train["subject"]):
        raise InputError(f"evaluation: {min(seen)} is among the training people ({len(seen)} of the test people are)")
    trivial = {
        "constant": np.broadcast_to(np.array([0, 0, 1], np.float32), (SIZE, SIZE, 3)),
        "mean_map": mean_map(root, train),
    }
    tallies: dict[str, Tally] = {}
    for row, sample, stages in predictions(predictor, root, test, batch):
        truth = truth_of(row, sample, read_points(root, row["archive"]))
        for name, prediction in (trivial | {f"t{t}": stage for t, stage in enumerate(stages)}).items():
            errors = angular_errors(unit_vectors(prediction[truth.mask])[0], truth.normals)
            tallies.setdefault(name, Tally()).add(truth.sample_id, truth.subject, errors, truth.regions, truth.kinds)
        on_image()
    per_image = [tally.per_image().assign(predictor=name) for name, tally in tallies.items()]
    return Evaluation(_metrics(tallies), pd.concat(per_image, ignore_index=True))


def _metrics(tallies: dict[str, Tally]) -> dict[str, Any]:
    """{"images", "people", "pixels", "protocol", "protocol_sha256"} and what `Tally.statistics` says, each by name."""
    found = {name: tally.statistics() for name, tally in tallies.items()}
    counts = {name: found["constant"]["by_pixel"][name] for name in ("images", "people", "pixels")}
    by_name = {key: {name: said[key] for name, said in found.items()} for key in found["constant"]}
    return {**counts, "protocol_sha256": PROTOCOL.sha256, "protocol": PROTOCOL.as_dict(), **by_name}


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
