"""The studio as a source of training images: rendered when asked for, nothing stored."""

from collections.abc import Sequence
from pathlib import Path

import torch

from casfne.capture.lighting.material import FACE_CLASS
from casfne.capture.optics.framing import training_crop
from casfne.capture.people.anny import head_model_file
from casfne.capture.people.heads import read_head_model
from casfne.capture.portraits import Portraits, Setting, render
from casfne.capture.scene import Studio
from casfne.config import Portraits as Settings
from casfne.training.augment import Batch
from casfne.training.dataset import Request


class Rendered:
    """The studio's portraits number ``first`` to ``first + count - 1``, rendered when asked for, at the size asked
    for, where the studio lies. The mask is the visible skin of the face; hair, glasses and hands are not in it.
    """

    def __init__(self, studio: Studio, settings: Settings, first: int, count: int) -> None:
        self.studio, self.settings, self.first, self.count = studio, settings, first, count
        self.prepares_on = studio.device

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        """One stored batch (see `casfne.training.dataset`); all requests are of one size."""
        numbers = [self.first + request.row for request in requests]
        setting = Setting(training_crop(requests[0].size))
        made = render(self.studio, self.settings.seed, numbers, setting, self.settings.supersample)
        return _stored(made) | {"seed": torch.tensor([request.seed for request in requests])}


def open_studio(root: Path | str, settings: Settings, device: torch.device) -> Studio:
    """A studio on ``device`` with the settings' head models, ``anny`` or files under ``root``; InputError names a
    faulty one."""
    return Studio([read_head_model(file).to(device) for file in head_files(root, settings)])


def head_files(root: Path | str, settings: Settings) -> list[Path]:
    """Of the settings' head models; files of theirs lie under ``root``."""
    return [Path(root) / head_model_file(name) for name in settings.heads]


def _stored(made: Portraits) -> Batch:
    face = made.classes == FACE_CLASS
    return {"image": made.image, "normal": made.normal.half(), "mask": face, "trust": face.to(torch.uint8) * 255}
