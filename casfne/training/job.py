"""A training as one value: settings, images, where to write. `python -m casfne.training JOB` runs it anywhere.

Nothing here, nor what it imports, needs more than torch, torchvision, NumPy and safetensors, so that a bare GPU
machine with the sample archives, or the head models, and a job file can train.
"""

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from casfne import config
from casfne.errors import InputError
from casfne.files import write_text
from casfne.model.checkpoints import load_weights, save_weights
from casfne.model.devices import choose_device
from casfne.model.releases import RELEASES
from casfne.provenance import file_sha256
from casfne.training.augment import check_kinds
from casfne.training.calibrate import fit_confidence
from casfne.training.dataset import Samples, Source
from casfne.training.kept import kept
from casfne.training.loop import Report, is_ours, start_file, train
from casfne.training.parallel import rank_and_world
from casfne.training.rendered import Rendered, head_files, open_studio

Rows = list[tuple[str, int]]  # archive and light
Reporter = Callable[[], AbstractContextManager[Report]]  # opened by the process that reports


@dataclass(frozen=True)
class Job:
    """What to train on lies under ``root``: samples, of whose images ``used`` are for training and ``held`` for
    calibration; or, where the profile asks for portraits, the head models. ``about`` describes it; weights and
    checkpoint go to ``out``; ``made_by`` is a fingerprint of all that decides the result."""

    settings: config.Train
    root: str
    used: Rows
    held: Rows
    about: dict[str, Any]
    out: str
    made_by: str

    def __post_init__(self) -> None:
        for part in self.settings.chosen.schedule:
            check_kinds(part.augment)
        if not self.used and not self.settings.chosen.portraits:
            raise InputError(f"{self.root}: no images to train on")

    @property
    def checkpoint(self) -> Path:
        """What an unfinished training leaves and takes up again."""
        return Path(self.out) / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        """What a finished one leaves."""
        return Path(self.out) / "model.safetensors"

    @property
    def done(self) -> bool:
        """Whether its weights are there, of the same settings, data and code."""
        try:
            return bool(load_weights(self.weights)[1].get("made_by") == self.made_by)
        except InputError:
            return False

    def sources(self) -> tuple[Source, Source]:
        """Images to train on and, others, to calibrate on.

        Portraits are rendered by the worker processes, on the CPU; without any, on the device that trains.
        """
        if (portraits := self.settings.chosen.portraits) is None:
            return Samples(self.root, self.used), Samples(self.root, self.held)
        device = torch.device("cpu") if self.settings.workers else choose_device(self.settings.device)
        studio = open_studio(self.root, portraits, device)
        used = Rendered(studio, portraits, 0, portraits.count)
        held = Rendered(studio, portraits, portraits.count, portraits.held)
        return kept(used, portraits, head_files(self.root, portraits)) if portraits.keep else used, held

    def write(self, path: Path | str) -> None:
        """As JSON."""
        write_text(path, json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path | str) -> "Job":
        """A job file; InputError naming it and what is wrong."""
        try:
            content = json.loads(Path(path).read_text())
            settings = config.build(config.Train, content.pop("settings"), "settings")
            used, held = ([(str(a), int(i)) for a, i in content.pop(name)] for name in ("used", "held"))
            return cls(settings=settings, used=used, held=held, **content)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a training job ({error})") from None


def run(job: Job, reporter: Reporter) -> None:
    """Train, calibrate, write the weights; then the checkpoint goes. One of several processes, or the only one.

    InputError, before anything is done, where the processes cannot have equal parts of every batch.
    """
    rank, world = rank_and_world()
    first = rank == 0
    job.settings.chosen.check_processes(world, "processes")
    used, held = job.sources()
    began = _start(job.settings.chosen.start)  # before the training: the file may be another one after it
    if first:
        print(f"starts from {job.settings.chosen.start} weights", flush=True)
    with reporter() if first else nullcontext(lambda *_: None) as report:
        trained = train(job.settings, used, job.checkpoint, job.made_by, report)
    if first:
        confidence = fit_confidence(trained.network, held, job.settings.chosen.schedule[-1].size)
        facts = {"made_by": job.made_by, "profile": job.settings.profile, "seed": job.settings.seed}
        about = facts | began | {"confidence": confidence}
        save_weights(job.weights, trained.network, about | job.about)
        job.checkpoint.unlink()
        print(f"{trained.steps_per_s:.2f} steps/s, {trained.waiting_share:.1%} of the time waiting for data")


def _start(start: str) -> dict[str, Any]:
    """What weights say of their training's ``start``: its name, the file's hash, and, where it is of ours too, what it
    says of itself: so every one of a chain of trainings is recorded in the last one's weights."""
    file = start_file(start)
    if file is None:
        return {"start": start}
    facts = {"start": start if start in RELEASES else file.name, "start_sha256": file_sha256(file)}
    if not is_ours(start):
        return facts
    _, about = load_weights(start)
    return facts | {"start_about": {name: value for name, value in about.items() if name != "confidence"}}
