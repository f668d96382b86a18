"""One frozen dataclass per stage; `params.yaml` has a section of the same name for each and explains the keys.

An unknown key, a missing one, or a value of the wrong type is an InputError that names file and key.
"""

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casfne.errors import InputError

NEAREST_LAMP = 0.1  # metres from the middle of the face: a lamp nearer than that is in the head


def _within(prefix: str, section: Any, low: float, *names: str, high: float = math.inf) -> None:
    """InputError where one of these values of ``section`` is not in low..high, or not a number; null may stay."""
    for name in names:
        value = getattr(section, name)
        if value is not None and not low <= value <= high:
            expected = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise InputError(f"{prefix}{name}: {value}, expected {expected}")


@dataclass(frozen=True)
class Simulate:
    """Stage ``simulate``: how many people and pictures, how large, how they look."""

    heads: str
    seed: int
    people: int
    sessions: int
    height: int
    width: int
    max_yaw_deg: float
    max_pitch_deg: float
    noise: float
    gloss: float
    ambient: float
    light_distance: float
    motion: float
    corpus_images: int

    def __post_init__(self) -> None:
        _within("simulate.", self, 1, "people", "sessions", "height", "width", "corpus_images")
        _within("simulate.", self, 0, "seed", "noise", "gloss", "ambient", "motion")
        _within("simulate.", self, 0, "max_yaw_deg", "max_pitch_deg", high=90)
        _within("simulate.", self, NEAREST_LAMP, "light_distance")


@dataclass(frozen=True)
class Prepare:
    """Stage ``prepare``: where the captures are, how far their lamps, and which pixels photometric stereo may use."""

    root: str
    light_distance: float | None
    shadow: float
    saturation: float
    workers: int
    max_failed_share: float

    def __post_init__(self) -> None:
        _within("prepare.", self, NEAREST_LAMP, "light_distance")
        _within("prepare.", self, 0, "shadow", "saturation", "max_failed_share", high=1)
        _within("prepare.", self, 0, "workers")


@dataclass(frozen=True)
class Split:
    """Stage ``split``: which share of the people is held out for testing."""

    test_share: float
    seed: int

    def __post_init__(self) -> None:
        _within("split.", self, 0, "test_share", high=1)
        _within("split.", self, 0, "seed")


@dataclass(frozen=True)
class Step:
    """One part of a training schedule: ``steps`` optimiser steps on ``batch`` crops of ``size`` pixels, augmented by
    the kinds ``augment``.

    The rate falls from ``learning_rate`` to ``end_rate`` along half a cosine; equal, it is constant.
    """

    size: int
    batch: int
    steps: int
    learning_rate: float
    end_rate: float
    augment: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.size < 64 or self.size % 32 or self.batch < 1 or self.steps < 1:
            raise InputError(f"train schedule: {self}: size a multiple of 32 from 64 on, batch and steps at least 1")
        _within("train schedule: ", self, 0, "learning_rate", "end_rate")


@dataclass(frozen=True)
class Portraits:
    """The studio's portraits as training images: those of ``heads`` (files of head models, in turn) that follow from
    ``seed``, numbers 0 to ``count - 1``, and the next ``held`` for calibration. ``keep``: a folder that keeps
    them once rendered, or null.
    """

    heads: tuple[str, ...]
    seed: int
    count: int
    held: int
    supersample: int
    keep: str | None

    def __post_init__(self) -> None:
        if not self.heads:
            raise InputError("train portraits: no heads, expected at least one head model")
        _within("train portraits: ", self, 1, "count", "supersample")
        _within("train portraits: ", self, 0, "seed", "held")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What differs between a demonstration, the paper and the release; ``portraits`` is null where samples train."""

    portraits: Portraits | None
    width: int
    encoder: str
    residual: bool
    symmetric: bool
    start: str
    normalisation: str
    weight_decay: float
    clip_norm: float
    ema: float
    schedule: tuple[Step, ...]

    def __post_init__(self) -> None:
        if self.normalisation not in ("none", "imagenet"):
            raise InputError(f"train profile: normalisation: {self.normalisation!r}, expected none or imagenet")
        _within("train profile: ", self, 1, "width")
        _within("train profile: ", self, 0, "weight_decay", "clip_norm")
        if not 0 <= self.ema < 1:
            raise InputError(f"train profile: ema: {self.ema}, expected from 0, below 1")
        if not self.schedule:
            raise InputError("train profile: an empty schedule")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole schedule."""
        return sum(part.steps for part in self.schedule)

    def check_processes(self, count: int, named: str) -> None:
        """InputError, which begins with ``named``, where ``count`` processes cannot have equal parts of every batch."""
        for part in self.schedule:
            if part.batch % count:
                raise InputError(f"{named}: {count} cannot share batches of {part.batch}")


@dataclass(frozen=True)
class Train:
    """Stage ``train``: the cascade, its losses, its schedule (chosen by ``profile``)."""

    profile: str
    refinements: int
    fusion: str
    seed: int
    weight_rec: float
    weight_tv: float
    weight_adv: float
    reconstruction: str
    rec_pixels: str
    trust_weighting: bool
    variation: str
    precision: str
    device: str
    compile: bool
    replicas: int
    workers: int
    log_every: int
    checkpoint_every: int
    profiles: dict[str, Profile]

    def __post_init__(self) -> None:
        if self.profile not in self.profiles:
            raise InputError(f"train.profile: {self.profile!r} is none of {', '.join(self.profiles)}")
        _within("train.", self, 0, "refinements", "seed", "weight_rec", "weight_tv", "weight_adv", "workers")
        _within("train.", self, 1, "replicas", "log_every", "checkpoint_every")
        choices = {
            "reconstruction": ("cosine", "chord"),
            "rec_pixels": ("mask", "all"),
            "variation": ("isotropic", "anisotropic"),
            "precision": ("auto", "fp32", "bf16"),  # fp16 would want its loss scaled
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"train.{name}: {getattr(self, name)!r}, expected {' or '.join(known)}")
        self.chosen.check_processes(self.replicas, "train.replicas")

    @property
    def chosen(self) -> Profile:
        """The profile in force."""
        return self.profiles[self.profile]


@dataclass(frozen=True)
class Evaluate:
    """Stage ``evaluate``: batch size and which pictures the figure shows."""

    batch: int
    figure_rows: int

    def __post_init__(self) -> None:
        _within("evaluate.", self, 1, "batch", "figure_rows")


@dataclass(frozen=True)
class Ablate:
    """Stage ``ablate``: what all variants of the cascade share, besides what section ``train`` says."""

    profile: str
    seeds: tuple[int, ...]
    batch: int

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"ablate.seeds: {list(self.seeds)}, expected one or more, each once")
        if min(self.seeds) < 0:
            raise InputError(f"ablate.seeds: {min(self.seeds)}, expected at least 0")
        _within("ablate.", self, 1, "batch")


@dataclass(frozen=True)
class Ablation:
    """Stage ``ablation``: how carefully time is taken."""

    rounds: int

    def __post_init__(self) -> None:
        _within("ablation.", self, 1, "rounds")


@dataclass(frozen=True)
class Label:
    """Stage ``label``: which corpora, how large the shards, which detector, how many actors."""

    corpora: dict[str, str]
    shard_rows: int
    batch: int
    actors: int
    precision: str
    device: str
    max_failed_share: float

    def __post_init__(self) -> None:
        _within("label.", self, 1, "shard_rows")
        _within("label.", self, 0, "batch", "actors")
        _within("label.", self, 0, "max_failed_share", high=1)


@dataclass(frozen=True)
class Report:
    """Stage ``report``: how much the page shows."""

    tested_faces: int
    labelled_faces: int

    def __post_init__(self) -> None:
        _within("report.", self, 0, "tested_faces", "labelled_faces")


def load(path: Path | str, section: str) -> Any:
    """The section of a params file as its dataclass (``train`` -> Train).

    Raises InputError naming the file and the key: no such file, no such section, an unknown, missing or
    mistyped key.
    """
    import yaml  # a machine that only trains, from a job file, may lack it

    stages = {
        c.__name__.lower(): c for c in (Simulate, Prepare, Split, Train, Evaluate, Ablate, Ablation, Label, Report)
    }
    try:
        content = yaml.safe_load(Path(path).read_bytes())  # not text: YAML names bytes that are none
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or section not in content:
        raise InputError(f"{path}: no section {section!r}")
    if unknown := sorted(set(content) - set(stages)):
        raise InputError(f"{path}: unknown section {unknown[0]!r}, expected {', '.join(stages)}")
    try:
        return build(stages[section], content[section], section)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def build(kind: Any, value: Any, key: str) -> Any:
    """Plain ``value`` (of YAML or JSON) as ``kind``, a dataclass, tuple, dict or scalar type; else an InputError
    that names ``key``, dotted."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, key)
    if origin is tuple and isinstance(value, list):
        return tuple(build(arguments[0], v, f"{key}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {str(k): build(arguments[1], v, f"{key}.{k}") for k, v in value.items()}
    if origin is types.UnionType:
        return None if value is None else build(arguments[0], value, key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(kind, type) or not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        name = getattr(origin or kind, "__name__", kind)
        raise InputError(f"{key}: expected {name}, got {value!r}")
    return value


def _build_dataclass(kind: Any, value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{key}: expected keys and values, got {value!r}")
    hints = typing.get_type_hints(kind)
    if unknown := [str(k) for k in value if k not in hints]:
        raise InputError(f"{key}.{unknown[0]}: unknown key, expected one of {', '.join(hints)}")
    if missing := [k for k in hints if k not in value]:
        raise InputError(f"{key}.{missing[0]}: missing")
    return kind(**{k: build(hints[k], v, f"{key}.{k}") for k, v in value.items()})
