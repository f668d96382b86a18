"""What a folder of labels is to hold and what it holds: shards, their fingerprints, the summary. No Ray in it."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from casfne import schema, sources, table
from casfne.corpora.record import Photo
from casfne.errors import InputError
from casfne.labelling import attributes
from casfne.labelling.faces import Detector
from casfne.labelling.label import Identity, Options, checksum
from casfne.labelling.output import Output
from casfne.provenance import fingerprint

# written last: where it stands, every image of the last run has its rows. Readers of Parquet folders skip names with
# an underscore
SUMMARY = "_summary.json"

_REASONS = 5
_READERS = 16  # files looked at together: a store takes some 30 ms to answer
_FAILED = ("unreadable", "error")
_OURS, _OURS_HALF = ("part-", "corpus="), (".part-", ".corpus=")  # how names of shards and tables start
_MARKS = ("fingerprint", "made_by")  # what a file's metadata says of its run


@dataclass(frozen=True)
class Summary:
    """What a folder of labels holds, recomputed from its shards, and how the images of this run fared."""

    images: int
    faces: int
    statuses: dict[str, int]  # rows of each status
    corpora: dict[str, dict[str, int]]  # the same per corpus, with its images
    codes: dict[str, int]  # rows that are unreadable or in error, by reason_code
    wanted: int  # images of this run
    failed: int  # of them, those with a row that is unreadable or in error
    reasons: list[str]  # of the first of these rows, "path: reason"
    missing: int  # images of this run without a row
    failures: list[str]  # the shards that they belong to, "shard: reason"

    @property
    def failed_share(self) -> float:
        """Images of this run that are unreadable, in error or missing, as a share of all of them; 0..1."""
        return (self.failed + self.missing) / self.wanted


@dataclass(frozen=True)
class Shard:
    """One file to come: its path below the output folder, its photos, and what its content hangs on."""

    part: str
    photos: tuple[Photo, ...]
    fingerprint: str
    written_ns: tuple[int, ...] = ()  # when each of its photos was, see `sources.State`
    again: frozenset[str] | None = None  # of a file that is there: the images that are made again; None: all

    @property
    def wanted(self) -> tuple[Photo, ...]:
        """The photos that are still to be labelled."""
        return self.photos if self.again is None else tuple(p for p in self.photos if p.image_id in self.again)


@dataclass(frozen=True)
class Survey:
    """What an output folder lacks, and what must go before."""

    todo: list[Shard]
    tables: list[attributes.Table]  # of what the corpora say of their images, still to be written
    obsolete: list[str]  # files, below the folder


def maker(identity: Identity, detector: Detector, options: Options | None = None) -> dict[str, Any]:
    """All that decides what a label is, besides the image: model, code, detector, options."""
    return vars(identity) | {"detector": detector.identity} | vars(options or Options())


def plan(
    photos: Sequence[Photo],
    shard_rows: int,
    identity: Identity,
    detector: Detector,
    options: Options | None = None,
) -> list[Shard]:
    """Photos in shards of ``shard_rows``, corpus by corpus, in order.

    The fingerprint covers `maker` and each photo's name, path, size in bytes, points and box; not the batch size,
    which only moves the last bits, nor when the photo was written, so that a copy has the same labels: `survey` reads
    what was written since. ValueError when an image comes twice.
    """
    if not photos:
        raise InputError("no images to label")
    if len({(p.corpus, p.image_id) for p in photos}) < len(photos):
        raise ValueError("the same corpus and image id come twice")
    made_by = maker(identity, detector, options)
    shards = []
    for corpus, members in by_corpus(photos):
        states = sources.states(photo.path for photo in members)
        for number, first in enumerate(range(0, len(members), shard_rows)):
            group = tuple(members[first : first + shard_rows])
            theirs = states[first : first + shard_rows]
            content = [made_by, [_describe(photo, state.size) for photo, state in zip(group, theirs, strict=True)]]
            written_ns = tuple(state.written_ns for state in theirs)
            shards.append(Shard(f"corpus={corpus}/part-{number:05d}.parquet", group, fingerprint(content), written_ns))
    return shards


def by_corpus(photos: Sequence[Photo]) -> Iterator[tuple[str, list[Photo]]]:
    """Each corpus' name and photos, by name; their order within it is kept."""
    for corpus, members in groupby(sorted(photos, key=lambda p: p.corpus), key=lambda p: p.corpus):
        yield corpus, list(members)


def _describe(photo: Photo, size: int) -> list[Any]:
    points = None if photo.points is None else photo.points.tolist()
    return [photo.image_id, photo.path, size, points, photo.box]


def refuse_inside(out: Output, inputs: Iterable[Path | str]) -> None:
    """InputError where ``out`` is one of the folders that are read, or lies in one: a second run would read it."""
    for given in inputs:
        root = str(given).partition("?")[0].rstrip("/")  # without the options of a URI
        if "://" in root:
            inside = f"{out.where.partition('?')[0]}/".startswith(f"{root}/")
        else:
            root, inner = os.path.realpath(given), os.path.realpath(out.where)
            inside = out.is_local and os.path.isdir(root) and os.path.commonpath([root, inner]) == root
        if inside:
            raise InputError(f"{out.name}: lies inside the input {given}; name a folder outside it")


def survey(
    out: Output,
    shards: Sequence[Shard],
    made_by: Mapping[str, Any],
    overwrite: bool = False,
    retry_errors: bool = False,
) -> Survey:
    """What is still to be made, and the files that must go before.

    Those are what a killed run left half-written and, with ``overwrite``, the labels of another run (other
    weights, code, options or images, or left over from a larger one); without it, InputError names the first. Images
    that were written later than their labels are read, and are others where their bytes are.
    ``retry_errors``: shards that are there are made again for their images that failed for a reason that can pass.
    """
    out.require_folder()
    wanted = {shard.part: shard.fingerprint for shard in shards}
    tables = [attributes.of(corpus, photos) for corpus, photos in by_corpus([p for s in shards for p in s.photos])]
    wanted |= {table.part: table.fingerprint for table in tables if table.columns}
    present, ruined = _present(out, {os.path.dirname(shard.part) for shard in shards}, {t.part for t in tables})
    foreign = [part for part, about in present.items() if about.get("fingerprint") != wanted.get(part)]
    if foreign and not overwrite:
        raise _refusal(out, foreign, _difference(present[foreign[0]], made_by))
    stale = _outdated(out, [shard for shard in shards if shard.part in set(present) - set(foreign)])
    if stale and not overwrite:
        raise _refusal(out, stale, "an image is another one since these labels")
    foreign += stale
    fresh = set(present) - set(foreign)
    todo = [shard for shard in shards if shard.part not in fresh]
    if retry_errors:
        todo += _to_retry(out, [shard for shard in shards if shard.part in fresh])
    lacking = [table for table in tables if table.columns and table.part not in fresh]
    marker = [SUMMARY] if todo or foreign or lacking else []
    return Survey(todo, lacking, [*marker, *foreign, *ruined])


def _present(out: Output, folders: Iterable[str], tables: set[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """What the Parquet files there say of themselves; and files that are none, or were never finished."""
    found = [f"{folder}/{name}" for folder in sorted(folders) for name in out.names(folder)]
    found += [part for name in out.names(attributes.FOLDER) if _of(part := f"{attributes.FOLDER}/{name}", tables)]
    halves = [part for part in found if part.endswith(".tmp") and os.path.basename(part).startswith(_OURS_HALF)]
    parts = [part for part in found if part.endswith(".parquet") and os.path.basename(part).startswith(_OURS)]
    with ThreadPoolExecutor(_READERS) as pool:
        said = dict(zip(parts, pool.map(lambda part: out.metadata(part, _MARKS), parts), strict=True))
    ruined = [part for part, about in said.items() if about is None]
    return {part: about for part, about in said.items() if about is not None}, [*ruined, *halves]


def _refusal(out: Output, parts: Sequence[str], why: str) -> InputError:
    return InputError(f"{out.name}/{parts[0]}: {why} ({len(parts)} such files); overwrite them or name another folder")


def _outdated(out: Output, shards: Sequence[Shard]) -> list[str]:
    """The files of which an image has other bytes now. Only images written later than their file are read."""
    folders = {os.path.dirname(shard.part) for shard in shards}
    made = {f"{folder}/{name}": when for folder in folders for name, when in out.written_ns(folder).items()}
    found = []
    with ThreadPoolExecutor(_READERS) as pool:
        for shard in shards:
            later = [p for p, when in zip(shard.photos, shard.written_ns, strict=True) if when > made[shard.part]]
            said = checksums(out, shard.part) if later else {}
            known = [photo for photo in later if said.get(photo.image_id) is not None]
            if any(said[p.image_id] != now for p, now in zip(known, pool.map(checksum, known), strict=True)):
                found.append(shard.part)
    return found


def checksums(out: Output, part: str) -> dict[str, int | None]:
    """What a shard's file says of its images' bytes, by id; None of one that was not read."""
    said: dict[str, int | None] = json.loads((out.metadata(part, ("checksums",)) or {}).get("checksums", "{}"))
    return said


def _of(part: str, tables: set[str]) -> bool:
    """Whether a file of attributes, whole or half-written, is one of these corpora's."""
    folder, name = os.path.split(part)
    return f"{folder}/{name.removeprefix('.').partition('.parquet')[0]}.parquet" in tables


def _difference(about: Mapping[str, str], made_by: Mapping[str, Any]) -> str:
    """What tells labels that are there from those that are wanted, in words."""
    there = json.loads(about.get("made_by", "{}"))
    for key, value in made_by.items():
        if key in there and there[key] != value:
            return f"holds labels of another run: {key} was {there[key]!r}, now {value!r}"
    return "holds labels of other images, or of an older version"


def _to_retry(out: Output, shards: Sequence[Shard]) -> list[Shard]:
    passing = {code for code, reason in schema.REASONS.items() if reason.can_pass}
    with ThreadPoolExecutor(_READERS) as pool:
        tables = pool.map(lambda shard: out.read(shard.part, ["image_id", "reason_code"]), shards)
        pairs = [
            (shard, frozenset(row["image_id"] for row in table.to_pylist() if row["reason_code"] in passing))
            for shard, table in zip(shards, tables, strict=True)
        ]
    return [replace(shard, again=again) for shard, again in pairs if again]


def merge(there: Iterable[Mapping[str, Any]], made: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a shard with those of some images replaced by ``made``, each image at its old place."""
    fresh = {image_id: list(rows) for image_id, rows in groupby(made, key=lambda row: row["image_id"])}
    merged: list[Mapping[str, Any]] = []
    for image_id, rows in groupby(there, key=lambda row: row["image_id"]):
        merged += fresh.get(image_id, rows)
    return merged


def clear(out: Output, obsolete: Sequence[str]) -> None:
    """Remove what `survey` said must go; the marker goes first."""
    for part in obsolete:
        out.remove(part)


def finish(out: Output, shards: Sequence[Shard], failures: Mapping[str, str]) -> Summary:
    """Compare ``out`` with what was wanted; where every photo has its rows, write the index (`table.index`) and the
    marker, _summary.json.

    failures: the reasons, by shard, of those that could not be written. OSError or InputError when the rest cannot be.
    """
    summary = _summarise(out, shards, failures)
    if not summary.missing:
        table.index(out.where)
        marker = asdict(summary) | {"fingerprint": fingerprint([s.fingerprint for s in shards])}
        text = json.dumps(marker, indent=1) + "\n"
        out.write(SUMMARY, lambda file: _ignore(file.write(text.encode())))
    return summary


def _ignore(_: object) -> None:
    """For a callback that gives nothing."""


def _summarise(out: Output, shards: Sequence[Shard], failures: Mapping[str, str]) -> Summary:
    """One file after the other, so that memory does not grow with the corpus."""
    wanted = {shard.part: shard for shard in shards}
    counts: dict[str, Counter[str]] = {}
    codes: Counter[str] = Counter()
    reasons: list[str] = []
    faces = failed = 0
    absent = {part: len(shard.photos) for part, shard in wanted.items()}
    for part, rows in _rows(out):
        corpus = part.partition("/")[0].removeprefix("corpus=")
        ids = set(rows["image_id"])
        count = counts.setdefault(corpus, Counter())
        count.update(rows["status"])
        count["images"] += len(ids)
        faces += sum(index >= 0 for index in rows["face_index"])
        bad = [i for i, status in enumerate(rows["status"]) if status in _FAILED]
        codes.update(str(rows["reason_code"][i]) for i in bad)
        if part in wanted:
            failed += len({rows["image_id"][i] for i in bad})
            reasons += [f"{rows['path'][i]}: {rows['reason'][i]}" for i in bad[: _REASONS - len(reasons)]]
            absent[part] = sum(photo.image_id not in ids for photo in wanted[part].photos)
    lost = "its worker failed; Ray's messages say why"
    return Summary(
        images=sum(count["images"] for count in counts.values()),
        faces=faces,
        statuses={status: sum(count[status] for count in counts.values()) for status in schema.STATUSES},
        corpora={corpus: {k: count[k] for k in ("images", *schema.STATUSES)} for corpus, count in counts.items()},
        codes=dict(sorted(codes.items())),
        wanted=sum(len(shard.photos) for shard in shards),
        failed=failed,
        reasons=reasons,
        missing=sum(absent.values()),
        failures=[f"{part}: {failures.get(part, lost)}" for part, count in absent.items() if count or part in failures],
    )


def _rows(out: Output) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """Every shard there, of whatever corpus: its path and the columns that a summary needs."""
    columns = ["image_id", "path", "face_index", "status", "reason_code", "reason"]
    folders = [folder for folder in out.folders() if folder.startswith("corpus=")]
    names = [(folder, name) for folder in folders for name in out.names(folder)]
    parts = [f"{folder}/{name}" for folder, name in names if name.startswith("part-") and name.endswith(".parquet")]
    with ThreadPoolExecutor(_READERS) as pool:
        for first in range(0, len(parts), _READERS):  # as many in memory at once
            some = parts[first : first + _READERS]
            tables = pool.map(lambda part: out.read(part, columns), some)
            yield from ((part, table.to_pydict()) for part, table in zip(some, tables, strict=True))
