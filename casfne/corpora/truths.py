"""Corpora whose normals are known, as samples that any method can be measured on: archives, index, and pictures.

A folder of truth holds what `casfne.corpora.samples` says, and `images/<sample_id>.png`: the crops that a method is
given. It names its predictions so, and `casfne compare` finds them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne.corpora.photoface import Settings
from casfne.corpora.samples import INDEX, Row, mask_columns, read_index, read_stored, write_archive, write_index
from casfne.corpora.sessions import Task, attempt, plan, survey
from casfne.corpora.split import rows_of
from casfne.errors import InputError
from casfne.files import array_names, atomic_open
from casfne.images import Crop, write_image
from casfne.stereo import surface

IMAGES = "images"
SHARES = (1.0, 0.94, 0.88, 0.83, 0.78)  # of a picture's size, at which a face is looked for

Split = Mapping[str, list[str]]
"""People by part, ``train`` and ``test``."""


@dataclass(frozen=True)
class Job:
    """What to bring in. ``make`` writes ``archives``, a capture each, and gives their rows of the index; it raises
    InputError, which names the file, where it cannot."""

    name: str
    archives: Sequence[str]
    make: Callable[[], list[Row]]


@dataclass(frozen=True)
class Cutter:
    """How faces are cut out of pictures, as labels have them. ``find``: the windows of the faces of a picture uint8 RGB
    [H, W, 3]; ``oval``: where the face lies in a crop, bool [256, 256]."""

    find: Callable[[NDArray[np.uint8]], list[Crop]]
    oval: NDArray[np.bool_]

    def largest(self, image: NDArray[np.uint8], name: str) -> Crop:
        """The largest face's window; InputError naming the picture where there is none.

        dlib's boxes come in steps of a fifth of their size, so the window is the median over copies of the picture at
        several sizes.
        """
        windows = [self._window(image, share) for share in SHARES]
        if not (found := [window for window in windows if window]):
            raise InputError(f"{name}: no face found, expected one that looks at the camera, upright")
        x, y, side = np.median(found, 0)
        return Crop(round(x - side / 2), round(y - side / 2), round(side))

    def _window(self, image: NDArray[np.uint8], share: float) -> tuple[float, float, float] | None:
        """Middle and side of the largest face, found in a smaller copy."""
        height, width = (max(round(share * n), 1) for n in image.shape[:2])
        found = self.find(np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8))
        if not found:
            return None
        crop = max(found, key=lambda crop: crop.side)
        scale = image.shape[1] / width
        return (crop.left + crop.side / 2) * scale, (crop.top + crop.side / 2) * scale, crop.side * scale


def write_truth(out: Path, jobs: Sequence[Job], on_job: Callable[[], None] = lambda: None) -> tuple[int, list[str]]:
    """Do all jobs, write their pictures, and the index last: the number of images, and why jobs failed.

    An index that is there goes first, so none ever speaks of other archives; pictures of earlier runs that have no row
    any more, and their archives, go at the end. on_job: called after each. InputError: none of the jobs could be done;
    or two would write one archive, and then nothing has been touched.
    """
    taken = dict[str, str]()
    for job in jobs:
        for archive in job.archives:
            _claim(taken, archive, job)
    (out / INDEX).unlink(missing_ok=True)
    rows: list[Row] = []
    failures: list[str] = []
    ids = dict[str, str]()
    for job in jobs:
        try:
            rows += _done(out, job, ids)
        except InputError as error:
            failures.append(str(error))
        on_job()
    if not rows:
        raise InputError(f"{failures[0]} ({len(failures)} of {len(jobs)} captures cannot be used)")
    _clear(out, rows)
    write_index(out, rows)
    return len(rows), failures


def _claim(taken: dict[str, str], name: str, job: Job) -> None:
    if name in taken:
        raise InputError(f"{job.name}: {name} is there already, of {taken[name]}")
    taken[name] = job.name


def _done(out: Path, job: Job, ids: dict[str, str]) -> list[Row]:
    """The rows of a job; its pictures are written. Where that cannot be done nothing of it stays."""
    rows = job.make()
    written = [out / row["archive"] for row in rows]
    try:
        for row in rows:
            _claim(ids, row["sample_id"], job)
            image = read_stored(out, row["archive"], row["light"])["image"]
            written.append(out / IMAGES / f"{row['sample_id']}.png")
            write_image(written[-1], image)
    except InputError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return rows


def _clear(out: Path, rows: Sequence[Row]) -> None:
    """Remove pictures of no row, and the archives that they are of where these have no row either. Archives without
    pictures are no earlier truth's, and stay; so do pictures of no archive."""
    ids, archives = {row["sample_id"] for row in rows}, {row["archive"] for row in rows}
    present = archives | {path.name for path in out.glob("*.npz") if _holds_samples(path)}
    for picture in (out / IMAGES).glob("*.png"):
        parts = picture.stem.split("_")
        shown = present & {f"{'_'.join(parts[: i + 1])}.npz" for i in range(len(parts))}
        if picture.stem not in ids and shown:
            picture.unlink()
            for archive in shown - archives:
                (out / archive).unlink(missing_ok=True)


def _holds_samples(path: Path) -> bool:
    try:
        return set(array_names(path)) >= {"image_0", "normal", "mask", "trust", "albedo"}
    except InputError:
        return False


def capture_rows(
    out: Path, stem: str, images: NDArray[np.uint8], maps: Mapping[str, NDArray], common: Row, each: Sequence[Row]
) -> list[Row]:
    """Write a capture's archive ``stem``.npz into ``out``; its rows of the index, one for each image.

    images, maps: see `casfne.corpora.samples.write_archive`; common: what holds of all images, each: of one.
    InputError naming the capture: its mask is empty.
    """
    mask = maps["mask"]
    if not mask.any():
        raise InputError(f"{stem}: no pixel of the face has a known normal")
    write_archive(out / f"{stem}.npz", images, maps)
    shared = {"archive": f"{stem}.npz", **common, **mask_columns(mask, maps["trust"])}
    return [{**shared, "light": light, **one} for light, one in enumerate(each)]


# --- truth that is there already ---


def sample_jobs(root: Path, out: Path, split: Split | None = None) -> list[Job]:
    """Of samples as they are: what the stage `prepare` or `casfne studio render` wrote. With a split the test people's
    alone. InputError: no index, nobody is left, index and split disagree, ``out`` is the samples' own folder."""
    if root.resolve() == out.resolve():
        raise InputError(f"{out}: the samples' own folder, name another")
    index = read_index(root)
    if split is not None:
        index = rows_of(index, dict(split), "test")
    if index.empty:
        raise InputError(f"{root / INDEX}: no samples")
    groups = index.groupby("archive", sort=True)
    return [
        Job(str(name), [str(name)], partial(_copied, root, out, str(name), part.to_dict("records")))
        for name, part in groups
    ]


def _copied(root: Path, out: Path, archive: str, rows: list[dict[Any, Any]]) -> list[Row]:
    source = root / archive
    try:
        content = source.read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    with atomic_open(out / archive) as file:
        file.write(content)
    return rows


def photoface_jobs(root: Path, out: Path, split: Split | None = None) -> list[Job]:
    """Of a Photoface tree, by stereo, one session after the other; archives that are there already, of the same files,
    are kept; thresholds as `casfne stereo` has them, lamps taken as far. With a split the test people's sessions alone.

    InputError: no session below ``root``, or a test person who has none.
    """
    whole = plan(root, out, root.parent / "truth", Settings(surface.Settings.shadow, surface.Settings.saturation))
    people = None if split is None else set(split["test"])
    tasks = [task for task in whole.tasks if people is None or task.subject in people]
    if people is not None and (lacking := sorted(people - {task.subject for task in tasks})):
        raise InputError(
            f"{root}: no session of {lacking[0]}, whom the split names ({len(lacking)} of the test people)"
        )
    done = survey(tasks)
    jobs = [
        Job(
            str(task.folder),
            [task.archive.name],
            partial(list, done[task.archive].rows) if task.archive in done else partial(_solved, task),
        )
        for task in tasks
    ]
    rejected = {f: why for f, why in whole.rejected.items() if people is None or f.parent.name in people}
    return jobs + [Job(str(folder), [], partial(_refused, f"{folder}: {why}")) for folder, why in rejected.items()]


def _solved(task: Task) -> list[Row]:
    outcome = attempt(task)
    return outcome.rows or _refused(f"{task.folder}: {outcome.reason}")


def _refused(message: str) -> list[Row]:
    raise InputError(message)
