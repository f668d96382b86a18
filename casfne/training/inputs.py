"""What a training is given, for its job: the samples of the training people, or the head models of the studio."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from casfne.capture.people.anny import head_model_file
from casfne.capture.people.heads import read_head_model
from casfne.config import Portraits, Step, Train
from casfne.corpora.samples import INDEX, read_index, read_stored
from casfne.corpora.split import rows_of
from casfne.errors import InputError
from casfne.provenance import code_version, file_sha256, fingerprint
from casfne.training.calibrate import calibration_people
from casfne.training.job import Job, Rows
from casfne.training.loop import start_file

if TYPE_CHECKING:
    import pandas as pd


CODE = ("model", "training", "capture", "corpora/samples.py", "normals.py")  # what decides a training's result


class Inputs(NamedTuple):
    """``root``, ``used``, ``held`` and ``about`` as a `Job` has them; hashes of the files that decide the result."""

    root: str
    used: Rows
    held: Rows
    about: dict[str, Any]
    sha256: list[str]


def job_of(settings: Train, samples: Path, split: Path, out: Path) -> Job:
    """The training that ``settings`` describe, into the folder ``out``: on the training people's images of
    ``samples``, or on the portraits that the profile asks for. InputError names what is missing."""
    portraits = settings.chosen.portraits
    given = of_portraits(portraits) if portraits else of_samples(samples, split, settings.chosen.schedule)
    start = start_file(settings.chosen.start)
    values = {
        "settings": dataclasses.asdict(settings),
        "data": given.sha256,
        "start": file_sha256(start) if start else None,
        "code": code_version(*CODE),
    }
    return Job(settings, given.root, given.used, given.held, given.about, str(out), fingerprint(values))


def of_samples(root: Path, split: Path, schedule: Sequence[Step]) -> Inputs:
    """Images of the training people of ``split`` (a file), some of them kept for calibration. InputError where they are
    smaller than a part of ``schedule`` asks for."""
    held, used = calibration_people(rows_of(read_index(root), json.loads(split.read_text()), "train"))
    largest = max(part.size for part in schedule)
    if len(used) and (stored := len(read_stored(root, *_pairs(used)[0])["image"])) < largest:  # all are of one size
        raise InputError(f"train schedule: size: {largest}, but the samples in {root} have {stored} pixels a side")
    about = {"images": len(used), "people": int(used["subject"].nunique()), "sources": sorted(set(used["source"]))}
    return Inputs(str(root), _pairs(used), _pairs(held), about, [file_sha256(root / INDEX), file_sha256(split)])


def _pairs(rows: "pd.DataFrame") -> Rows:
    return list(zip(rows["archive"], rows["light"].tolist(), strict=True))


def of_portraits(portraits: Portraits) -> Inputs:
    """The head models, files relative to the working folder. InputError that names a missing or faulty one."""
    files = [head_model_file(name) for name in portraits.heads]
    for file in files:
        read_head_model(file)  # better now than on the machine that trains
    about = {"images": portraits.count, "people": portraits.count, "sources": ["studio"]}
    return Inputs(".", [], [], about, [file_sha256(file) for file in files])
