"""Preparing a tree of captures: what there is to do, what is done already, and a row for every session. No Ray in it.

An archive is its own marker: it holds the fingerprint of all that decided its content (see `casfne.corpora.samples`),
so a run that was killed goes on with what is missing, and an archive of other files, settings or code is made again.
"""

import os
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from casfne.corpora.photoface import Settings, prepare_session, session_fingerprint
from casfne.corpora.prepared import Copy, copy_fingerprint, find_prepared, prepare_copy
from casfne.corpora.samples import Row, read_record, write_table
from casfne.errors import InputError
from casfne.stereo.photoface import ATTRIBUTE_NAMES, find_sessions, read_attributes

if TYPE_CHECKING:
    import pandas as pd

SESSIONS = "sessions.parquet"

_READERS = 8  # threads that compare archives with their sessions: they wait for the disk
_OF_ONE_IMAGE = ("sample_id", "light", "light_azimuth_deg", "light_elevation_deg")


@dataclass(frozen=True)
class Task:
    """One archive to make. folder: what it is made of; make: writes it and gives its rows of the index; fingerprint:
    of all that decides its content. Both go to other processes, so paths are absolute."""

    subject: str
    session: str
    folder: Path
    archive: Path
    make: Callable[[], list[Row]]
    fingerprint: Callable[[], str]


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its rows of the index, or none and the reason."""

    rows: list[Row]
    reason: str
    seconds: float


@dataclass(frozen=True)
class Plan:
    """All there is to do below ``root``, and the folders that look like a session and cannot be used, with the
    reason."""

    root: Path
    tasks: list[Task]
    rejected: dict[Path, str]


def plan(root: Path | str, out: Path | str, truth: Path | str, settings: Settings) -> Plan:
    """The sessions of a Photoface tree, and the authors' prepared copies of sessions that are not there themselves.

    out: where archives go; truth: `<subject>/<session>.npz` below it are the exact normals of simulated sessions.
    InputError: no such folder, nothing in it that looks like a session.
    """
    root, out, truth = (Path(path).absolute() for path in (root, out, truth))
    copies = find_prepared(root)
    try:
        found = find_sessions(root)
        sessions, rejected = found.sessions, found.rejected
    except InputError:
        if not copies.copies and not copies.rejected:
            raise
        sessions, rejected = [], {}
    whole, copied = set(sessions), {copy.folder for copy in copies.copies}
    reasons = {folder: why for folder, why in rejected.items() if folder not in copied}
    reasons |= {folder: why for folder, why in copies.rejected.items() if not {folder, folder.parent} & whole}
    tasks = {task.archive: task for task in (_session_task(folder, out, truth, settings) for folder in sessions)}
    for task in (_copy_task(copy, out) for copy in copies.copies if copy.folder not in whole):
        if tasks.setdefault(task.archive, task) is not task:
            other = tasks[task.archive].folder.relative_to(root)
            reasons[task.folder] = f"its name {task.archive.stem} is that of {other} too"
    return Plan(root, list(tasks.values()), reasons)


def _session_task(folder: Path, out: Path, truth: Path, settings: Settings) -> Task:
    subject, session = folder.parent.name, folder.name
    exact = truth / subject / f"{session}.npz"
    return Task(
        subject,
        session,
        folder,
        out / f"{subject}_{session}.npz",
        partial(prepare_session, folder, out, exact, settings),
        partial(session_fingerprint, folder, exact, settings),
    )


def _copy_task(copy: Copy, out: Path) -> Task:
    archive = out / f"{copy.subject}_{copy.session}.npz"
    make, mark = partial(prepare_copy, copy, out), partial(copy_fingerprint, copy)
    return Task(copy.subject, copy.session, copy.folder, archive, make, mark)


def attempt(task: Task) -> Outcome:
    """Make one archive. It never raises: also what nobody foresaw is a reason, and costs one session alone."""
    start = time.perf_counter()
    try:
        rows = task.make()
        record = read_record(task.archive)  # its seconds, so that the next run, which keeps the archive, says the same
        return Outcome(rows, "", record.seconds if record else time.perf_counter() - start)
    except InputError as error:
        reason = str(error).replace(f"{task.folder}{os.sep}", "").removeprefix(f"{task.folder}: ")
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    return Outcome([], reason, time.perf_counter() - start)


def survey(tasks: Sequence[Task]) -> dict[Path, Outcome]:
    """What is done already, by archive: those that are there with the right fingerprint."""
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(_kept, tasks)
        return {task.archive: outcome for task, outcome in zip(tasks, found, strict=True) if outcome}


def _kept(task: Task) -> Outcome | None:
    record = read_record(task.archive)
    try:
        return Outcome(record.rows, "", record.seconds) if record and record.fingerprint == task.fingerprint() else None
    except OSError:  # files that cannot be read: making the archive will say so
        return None


def write_sessions(out: Path | str, plan: Plan, outcomes: Sequence[Outcome]) -> "pd.DataFrame":
    """Write a row for every session, ``outcomes`` in the order of the plan's tasks, and give the rows.

    Columns: session_id, subject, session, folder (below the root), status (ok, failed), reason, seconds, images, the
    attributes of the corpus, and what the index says of the whole session. A failure that the last run saw too keeps
    its seconds, so that nothing changes where nothing happened.
    """
    out = Path(out)
    rows = [_row(plan, t.folder, t.subject, t.session, o) for t, o in zip(plan.tasks, outcomes, strict=True)]
    for folder, reason in plan.rejected.items():
        rows.append(_row(plan, folder, folder.parent.name, folder.name, Outcome([], reason, 0.0)))
    before = _last_seconds(out / SESSIONS)
    for row in rows:
        row["seconds"] = before.get((row["folder"], row["session_id"], row["reason"]), row["seconds"])
    return write_table(out / SESSIONS, rows, "session_id")


def _row(plan: Plan, folder: Path, subject: str, session: str, outcome: Outcome) -> Row:
    said = outcome.rows[0] if outcome.rows else read_attributes(folder)
    return {
        "session_id": f"{subject}_{session}",
        "subject": subject,
        "session": session,
        "folder": folder.relative_to(plan.root).as_posix(),
        "status": "ok" if outcome.rows else "failed",
        "reason": outcome.reason,
        "seconds": outcome.seconds,
        "images": len(outcome.rows),
        **dict.fromkeys(ATTRIBUTE_NAMES),
        **{name: value for name, value in said.items() if name not in _OF_ONE_IMAGE},
    }


def _last_seconds(path: Path) -> dict[tuple[str, str, str], float]:
    """Of the failures in a table of the last run."""
    import pandas as pd

    try:
        table = pd.read_parquet(path, columns=["folder", "session_id", "reason", "seconds", "status"])
    except (OSError, ValueError):
        return {}
    failed = table[table["status"] == "failed"]
    return {(folder, name, reason): seconds for folder, name, reason, seconds, _ in failed.itertuples(index=False)}
