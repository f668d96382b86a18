"""What a folder of labels is to hold and what it holds: shards, their fingerprints, the summary. No Ray in it."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from casfne import files, schema, table
from casfne.corpora.record import Photo
from casfne.errors import InputError
from casfne.labelling.faces import Detector
from casfne.labelling.label import Identity
from casfne.provenance import fingerprint

# written last: where it stands, every image of the last run has its rows. Readers of Parquet folders skip names with
# an underscore
SUMMARY = "_summary.json"

_REASONS = 5


@dataclass(frozen=True)
class Summary:
    """What a folder of labels holds, recomputed from its shards, and what this run could not write."""

    images: int
    faces: int
    statuses: dict[str, int]  # rows of each status
    corpora: dict[str, dict[str, int]]  # the same per corpus, with its images
    reasons: list[str]  # of the first rows that are unreadable or in error, "path: reason"
    missing: int  # images of this run without a row
    failures: list[str]  # the shards that they belong to, "shard: reason"

    @property
    def failed_share(self) -> float:
        """Images unreadable, in error or missing, as a share of all; 0..1."""
        failed = self.statuses["unreadable"] + self.statuses["error"] + self.missing
        return failed / max(self.images + self.missing, 1)


@dataclass(frozen=True)
class Shard:
    """One file to come: its path below the output folder, its photos, and what its content hangs on."""

    part: str
    photos: tuple[Photo, ...]
    fingerprint: str


def plan(photos: Sequence[Photo], shard_rows: int, identity: Identity, detector: Detector) -> list[Shard]:
    """Photos in shards of ``shard_rows``, corpus by corpus, in order.

    The fingerprint covers the identity of model and detector and each photo's name, path, size in bytes and
    points; not the batch size, which only moves the last bits. ValueError when an image comes twice.
    """
    if not photos:
        raise InputError("no images to label")
    if len({(p.corpus, p.image_id) for p in photos}) < len(photos):
        raise ValueError("the same corpus and image id come twice")
    shards = []
    for corpus, members in groupby(sorted(photos, key=lambda p: p.corpus), key=lambda p: p.corpus):
        ordered = tuple(members)
        for number, first in enumerate(range(0, len(ordered), shard_rows)):
            group = ordered[first : first + shard_rows]
            content = [vars(identity), detector.identity, [_describe(photo) for photo in group]]
            shards.append(Shard(f"corpus={corpus}/part-{number:05d}.parquet", group, fingerprint(content)))
    return shards


def _describe(photo: Photo) -> list[Any]:
    try:
        size = os.stat(photo.path).st_size
    except OSError:
        size = -1
    return [photo.image_id, photo.path, size, None if photo.points is None else photo.points.tolist()]


def survey(out: Path, shards: Sequence[Shard], overwrite: bool) -> tuple[list[Shard], list[Path]]:
    """The shards that are still to be made, and the files that must go before.

    Those are what a killed run left half-written and, with ``overwrite``, the labels of another run (other
    weights, code or images, or left over from a larger one); without it, InputError names the first of them.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, expected a folder for the labels")
    wanted = {out / shard.part: shard.fingerprint for shard in shards}
    folders = sorted({path.parent for path in wanted})
    present = [path for folder in folders for path in table.parts(folder)]
    foreign = [path for path in present if _fingerprint(path) != wanted.get(path)]
    if foreign and not overwrite:
        raise InputError(
            f"{foreign[0]}: holds labels of other weights, code or images ({len(foreign)} such files);"
            " overwrite them or name another folder"
        )
    fresh = set(present) - set(foreign)
    todo = [shard for shard in shards if out / shard.part not in fresh]
    halves = [path for folder in folders for path in folder.glob(".part-*.tmp")]
    marker = [out / SUMMARY] if todo or foreign else []
    return todo, [*marker, *foreign, *halves]


def clear(obsolete: Sequence[Path]) -> None:
    """Remove what `survey` said must go; the marker goes first."""
    for path in obsolete:
        path.unlink(missing_ok=True)


def _fingerprint(path: Path) -> str:
    try:
        return schema.metadata(path).get("fingerprint", "")
    except (OSError, ValueError):  # no Parquet file: none of ours, which appear whole
        return ""


def finish(out: Path, shards: Sequence[Shard], failures: dict[str, str]) -> Summary:
    """Compare ``out`` with what was wanted; where every photo has its rows, write the marker, _summary.json.

    failures: the reasons, by shard, of those that could not be written.
    """
    summary = _summarise(out, shards, failures)
    if not summary.missing:
        marker = asdict(summary) | {"fingerprint": fingerprint([s.fingerprint for s in shards])}
        files.write_text(out / SUMMARY, json.dumps(marker, indent=1) + "\n")
    return summary


def _summarise(out: Path, shards: Sequence[Shard], failures: dict[str, str]) -> Summary:
    columns = ["corpus", "image_id", "path", "face_index", "status", "reason"]
    frame = table.read(out, columns) if table.parts(out) else pd.DataFrame(columns=columns)
    there = set(zip(frame["corpus"], frame["image_id"], strict=True))
    absent = {s.part: sum((p.corpus, p.image_id) not in there for p in s.photos) for s in shards}
    failed = frame[frame["status"].isin(["unreadable", "error"])][:_REASONS]
    counts = table.summary(frame)[["images", *schema.STATUSES]].astype(int)
    lost = "its worker failed; Ray's messages say why"
    return Summary(
        images=int(counts["images"].sum()),
        faces=int((frame["face_index"] >= 0).sum()),
        statuses={status: int(counts[status].sum()) for status in schema.STATUSES},
        corpora={str(corpus): {str(k): int(v) for k, v in row.items()} for corpus, row in counts.iterrows()},
        reasons=[f"{path}: {reason}" for path, reason in zip(failed["path"], failed["reason"], strict=True)],
        missing=sum(absent.values()),
        failures=[f"{part}: {failures.get(part, lost)}" for part, count in absent.items() if count],
    )
