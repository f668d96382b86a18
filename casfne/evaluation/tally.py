"""Errors of one predictor, gathered image by image; then by pixel, by image, by region and by kind of image.

Memory: some 5 KB an image; the errors themselves, 4 bytes a masked pixel, wait in a temporary file for the medians.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from casfne.evaluation.metrics import median, pool, summarise
from casfne.evaluation.protocol import PROTOCOL
from casfne.evaluation.regions import REGIONS

Statistics = dict[str, Any]


class Tally:
    """``add`` every image once, then ask for ``statistics`` and ``per_image``."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as this does
        self._images: list[dict[str, Any]] = []
        self._parts: list[dict[str, Any]] = []
        self._kinds: list[Mapping[str, str]] = []
        self._written = 0

    def add(
        self,
        sample_id: str,
        subject: str,
        errors: NDArray[np.float32],
        regions: NDArray[np.uint8],
        kinds: Mapping[str, str],
    ) -> None:
        """One image: errors in degrees and regions of its masked pixels [P], at least one; the kinds it is of."""
        of = {"image": len(self._images), "subject": subject}
        order = np.argsort(regions, kind="stable")
        errors, regions = errors[order], regions[order]
        ends = np.searchsorted(regions, range(len(REGIONS)), side="right")
        for name, part in zip(REGIONS, np.split(errors, ends[:-1]), strict=True):
            if part.size:
                place = {"region": name, "start": self._written, "pixels": part.size}
                self._parts.append(of | place | summarise(part))
                self._written += part.size
        self._file.write(errors.tobytes())
        self._images.append({"sample_id": sample_id, "subject": subject, "pixels": errors.size} | summarise(errors))
        self._kinds.append(kinds)

    def per_image(self) -> pd.DataFrame:
        """A row for each image: sample_id, subject, pixels and its statistics."""
        return pd.DataFrame(self._images)

    def statistics(self) -> dict[str, Any]:
        """{"by_pixel": numbers, "by_image": numbers, "regions": {region: numbers}, "bins": {bin: {kind: numbers}}}.

        Numbers are those of `summarise` with ``low_deg`` and ``high_deg``, the interval of the mean by bootstrap over
        people (null where there is but one person), and what they count: ``images``, ``people``, ``pixels``.
        Regions and bins are pooled by pixel.
        """
        self._file.flush()
        parts, images = pd.DataFrame(self._parts), self.per_image()
        kinds = pd.DataFrame(self._kinds, dtype="string").reindex(images.index).sort_index(axis=1)
        return {
            "by_pixel": self._pooled(parts),
            "by_image": summarise(images["mean_deg"]) | _interval(images.assign(pixels=1)) | _counts(images),
            "regions": {name: self._pooled(found) for name in REGIONS if len(found := parts[parts["region"] == name])},
            "bins": {str(name): self._by_kind(parts, kinds[name]) for name in kinds},
        }

    def _by_kind(self, parts: pd.DataFrame, kinds: "pd.Series[str]") -> dict[str, Statistics]:
        of = kinds.reindex(parts["image"]).fillna("").to_numpy(str)
        return {kind: self._pooled(parts[of == kind]) for kind in sorted(kinds.dropna().unique())}

    def _pooled(self, parts: pd.DataFrame) -> Statistics:
        ends = parts["start"] + parts["pixels"]
        first = parts["start"] != ends.shift()  # what lies side by side is read at once, an image at most
        first |= parts["image"] != parts["image"].shift()
        spans = pd.DataFrame({"start": parts["start"], "end": ends}).groupby(first.cumsum())
        pieces = _Pieces(self._file.fileno(), list(zip(spans["start"].min(), spans["end"].max(), strict=True)))
        counts = _counts(parts) | {"images": int(parts["image"].nunique())}
        return pool(parts, median(pieces)) | _interval(parts) | counts


@dataclass(frozen=True)
class _Pieces:
    """Stretches of the file of errors, one in memory at a time."""

    file: int
    spans: list[tuple[int, int]]  # first value, and the one behind the last

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        size = np.dtype(np.float32).itemsize
        for start, end in self.spans:
            yield np.frombuffer(os.pread(self.file, size * (end - start), size * start), np.float32)


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    people = int(rows["subject"].nunique())
    return {"images": len(rows), "people": people, "pixels": int(rows["pixels"].sum())}


def _interval(rows: pd.DataFrame) -> dict[str, float | None]:
    """Between which the mean of mean_deg, weighted by pixels, lies when other people had been drawn."""
    weighted = pd.DataFrame({"error": rows["mean_deg"] * rows["pixels"], "weight": rows["pixels"]})
    error, weight = (weighted.groupby(rows["subject"])[name].sum().to_numpy(float) for name in ("error", "weight"))
    if len(error) < 2:
        return {"low_deg": None, "high_deg": None}
    random = np.random.default_rng(PROTOCOL.seed)
    drawn = (random.integers(len(error), size=len(error)) for _ in range(PROTOCOL.resamples))
    means = [error[people].sum() / weight[people].sum() for people in drawn]
    tail = (1 - PROTOCOL.level) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return {"low_deg": float(low), "high_deg": float(high)}
