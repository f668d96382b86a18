"""Predictions of any methods against one truth, by the one protocol."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.evaluation.flips import agreement, frame_warning
from casfne.evaluation.leaderboard import Board, locked
from casfne.evaluation.maps import find_maps, read_map
from casfne.evaluation.metrics import angular_errors, unit_vectors
from casfne.evaluation.protocol import PROTOCOL
from casfne.evaluation.tally import Tally
from casfne.evaluation.truths import Truth, Truths, open_truths
from casfne.normals import FRAMES, convert
from casfne.provenance import fingerprint

_THREADS = 2  # reading and arithmetic beside each other
_AT_ONCE = 16  # images in memory


@dataclass(frozen=True)
class Method:
    """A method's predictions: files <id>.npy, .npz, .png or .exr of one folder, in one frame."""

    name: str
    folder: Path
    frame: str = "opengl"


def parse_method(text: str) -> Method:
    """NAME=DIR or NAME=DIR:FRAME; InputError for anything else."""
    name, equals, rest = text.partition("=")
    if not (name.strip() and equals and rest):
        raise InputError(f"{text!r}: expected NAME=DIR or NAME=DIR:FRAME")
    folder, colon, frame = rest.rpartition(":")
    if not colon or Path(rest).is_dir():
        return Method(name.strip(), Path(rest))
    if frame not in FRAMES:
        raise InputError(f"{text!r}: unknown frame {frame!r}, expected one of {', '.join(FRAMES)}")
    return Method(name.strip(), Path(folder), frame)


def compare(
    truth: Path | str,
    predictions: Sequence[Method],
    board: Path | str,
    split: Path | str | None = None,
    on_image: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, dict[str, Any]]:
    """Measure each method and write the leaderboard in the folder ``board``; all results that it then holds, by name.

    A board may grow, also by several processes at once: methods that it holds already stay, or are replaced by those of
    the same name.
    truth, split: see `open_truths`. on_image: called with the method, images done, and their number.
    What a method lacks counts as 90 degrees and is listed in its result: ``missing`` (ids without a file),
    ``unusable`` (id: why its map cannot be read or has another size) and ``gaps`` (id: pixels of the mask that hold no
    unit normal, NaN among them); ``warnings`` says what looks wrong, such as another frame than was named.
    Raises InputError: names twice, unusable truth, no file bears an id of the truth, a board of another truth.
    """
    names = [method.name for method in predictions]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"predictions: {min(twice)!r} is there twice")
    truths, folder = open_truths(truth, split), Path(board)
    found, before, measured = {method.name: _files(method, truths) for method in predictions}, Board(folder), {}
    for method in predictions:
        measured[method.name] = _measure(truths, method, found[method.name], on_image)
        before.add(method.name, *measured[method.name])  # which refuses another truth before the next one's work
    with locked(folder):
        results = Board(folder)  # as it is now: others may have written meanwhile
        for name, (result, per_image) in measured.items():
            results.add(name, result, per_image)
        results.write()
    return results.results


def _files(method: Method, truths: Truths) -> dict[str, Path]:
    found = find_maps(method.folder)
    if not set(found) & set(truths.ids):
        raise InputError(f"{method.folder}: no predictions: expected files as {truths.ids[0]}.npy, .npz, .png or .exr")
    return found


@dataclass(frozen=True)
class _Scored:
    """One prediction against its truth."""

    truth: Truth
    errors: NDArray[np.float32]
    gaps: int
    agreed: NDArray[np.float64]
    checksum: int  # of the truth
    problem: str | None  # None: the map is usable; "": it is missing


def _measure(
    truths: Truths, method: Method, files: dict[str, Path], on_image: Callable[[str, int, int], None]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The result of a method, and a row for each image."""
    tally, digests = Tally(), []
    problems: dict[str, str] = {}
    gaps: dict[str, int] = {}
    agreed, pixels = np.zeros((3, 3)), 0
    for done, one in enumerate(_scores(truths, method, files), 1):
        truth = one.truth
        tally.add(truth.sample_id, truth.subject, one.errors, truth.regions, truth.kinds)
        digests.append([truth.sample_id, truth.subject, one.checksum])
        if one.problem is not None:
            problems[truth.sample_id] = one.problem
        else:
            agreed, pixels = agreed + one.agreed, pixels + one.errors.size - one.gaps
            gaps |= {truth.sample_id: one.gaps} if one.gaps else {}
        on_image(method.name, done, len(truths.ids))
    warning = frame_warning(agreed, pixels, method.frame)
    result = {
        "kind": "measured",
        "frame": method.frame,
        "truth": {"name": truths.name, "sha256": fingerprint(digests)},
        "protocol_sha256": PROTOCOL.sha256,
        "protocol": PROTOCOL.as_dict(),
        **tally.statistics(),
        "missing": [name for name, why in problems.items() if not why],
        "unusable": {name: why for name, why in problems.items() if why},
        "gaps": gaps,
        "without_truth": len(set(files) - set(truths.ids)),
        "warnings": [warning] if warning else [],
    }
    return result, tally.per_image()


def _scores(truths: Truths, method: Method, files: dict[str, Path]) -> Iterator[_Scored]:
    def score(sample_id: str) -> _Scored:
        return _score(truths.read(sample_id), files.get(sample_id), method.frame)

    with ThreadPoolExecutor(_THREADS) as threads:
        for first in range(0, len(truths.ids), _AT_ONCE):
            yield from threads.map(score, truths.ids[first : first + _AT_ONCE])


def _score(truth: Truth, path: Path | None, frame: str) -> _Scored:
    problem = None
    try:
        vectors, there = unit_vectors(_prediction(truth.mask, path, frame))
    except InputError as error:
        vectors, there, problem = np.zeros_like(truth.normals), np.zeros(len(truth.normals), bool), str(error)
    errors, agreed = angular_errors(vectors, truth.normals), agreement(vectors, truth.normals)
    checksum = zlib.crc32(truth.normals, zlib.crc32(truth.mask))  # type: ignore[arg-type]  # arrays are buffers
    return _Scored(truth, errors, int((~there).sum()), agreed, checksum, problem)


def _prediction(mask: NDArray[np.bool_], path: Path | None, frame: str) -> NDArray[np.float32]:
    """What a map says of the mask's pixels [P, 3], in frame opengl; InputError says why there is none, and nothing
    where there is no file."""
    if path is None:
        raise InputError("")
    stored = read_map(path)
    if stored.shape[:2] != mask.shape:
        sizes = ["x".join(map(str, shape[1::-1])) for shape in (stored.shape[:2], mask.shape)]
        raise InputError(f"{path}: {sizes[0]} pixels, and the truth has {sizes[1]}")
    with np.errstate(invalid="ignore"):  # infinities are no normals afterwards either
        return convert(stored[mask], frame)
