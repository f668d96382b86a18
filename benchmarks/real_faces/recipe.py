"""What of the recipe pays: one change at a time, the same short budget for each, on the studio's and on real faces.

`python -m benchmarks.real_faces.recipe --out FOLDER [ROW ...]` trains the rows of ``ROWS`` that recipe.md lacks, or
those named, on ``PORTRAITS`` portraits of 64 pixels, one core each, and adds them there. FOLDER keeps the portraits.
"""

import argparse
import dataclasses
import functools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks import FACEKIT
from benchmarks.real_faces import yale_b
from benchmarks.real_faces.probe import (
    HELD,
    HELD_SEED,
    Stored,
    add_row,
    chunk_folder,
    held_out_error,
    predicted,
    write_chunks,
)
from casfne import config
from casfne.capture.optics.framing import training_crop
from casfne.capture.parallel import Order, usable_cores
from casfne.capture.portraits import Setting
from casfne.errors import InputError, guard
from casfne.model.timing import machine
from casfne.provenance import fingerprint
from casfne.training.augment import KINDS
from casfne.training.loop import train

SIZE, PORTRAITS, STEPS, BATCH, SEED = 64, 768, 400, 16, 11
BOTH = ("anny", str(FACEKIT))
GEOMETRY = ("crop", "roll", "flip", "cut")
WEAR, LIGHT = ("hair", "accessories"), ("shadows", "gloss", "surroundings")

ROWS: dict[str, dict[str, Any]] = {
    "the release's": {},
    "the same, another seed": {"seed": 12},
    "the same, a third seed": {"seed": 13},
    "augmentation: none": {"augment": ()},
    "augmentation: of geometry alone (crop, roll, flip, cut)": {"augment": GEOMETRY},
    "augmentation: of colours and pixels alone": {"augment": tuple(kind for kind in KINDS if kind not in GEOMETRY)},
    "augmentation: all but cut": {"augment": tuple(kind for kind in KINDS if kind != "cut")},
    "heads: anny alone": {"heads": ("anny",)},
    "heads: facekit alone": {"heads": (str(FACEKIT),)},
    "the same heads, another seed": {"heads": (str(FACEKIT),), "seed": 12},
    "the same heads, a third seed": {"heads": (str(FACEKIT),), "seed": 13},
    "studio: no hair, glasses, hats, hands": {"without": WEAR},
    "studio: no cast shadows, gloss, surroundings": {"without": LIGHT},
    "studio: no relief of the skin": {"without": ("relief",)},
    "studio: no expressions": {"without": ("expression",)},
    "studio: an ideal lens and sensor": {"without": ("lens",)},
    "loss: chords in place of cosines": {"reconstruction": "chord"},
    "the same chords, another seed": {"reconstruction": "chord", "seed": 12},
    "the same chords, a third seed": {"reconstruction": "chord", "seed": 13},
    "loss: with the discriminator (1e-4)": {"weight_adv": 1e-4},
    "loss: no total variation": {"weight_tv": 0.0},
    "refinements: 0": {"refinements": 0},
    "refinements: 1": {"refinements": 1},
    "refinements: 2, each in place of the normals (the paper's)": {"residual": False},
    "the same, weight decay 5e-5 (the authors')": {"residual": False, "weight_decay": 5e-5},
    "E_f: from random weights": {"start": "random", "normalisation": "none"},
    "E_f: ResNet-18, from random weights": {"start": "random", "normalisation": "none", "encoder": "resnet18"},
}
TABLE = Path(__file__).with_suffix(".md")


def settings(changes: dict[str, Any]) -> config.Train:
    """The release's, as short as all rows are, with ``changes``."""
    plain = config.load("params.yaml", "train")
    release = plain.profiles["release"]
    part = config.Step(SIZE, BATCH, STEPS, 1e-3, 1e-5, changes.get("augment", release.schedule[-1].augment))
    own = {name: value for name, value in changes.items() if hasattr(release, name)}
    profile = dataclasses.replace(release, portraits=None, ema=0.99, schedule=(part,), **own)
    others = {name: value for name, value in changes.items() if hasattr(plain, name)}
    every = {"weight_adv": 0.0, "seed": SEED, "log_every": STEPS, "checkpoint_every": STEPS}
    return dataclasses.replace(plain, profile="row", profiles={"row": profile}, **{**every, **others})


def order(changes: dict[str, Any], seed: int, count: int) -> Order:
    """The portraits of a row."""
    without = changes.get("without", ())
    return Order(changes.get("heads", BOTH), seed, count, Setting(training_crop(SIZE)), without=without)


def row(out: Path, name: str) -> str:
    """Train a row on this process's core, on portraits under ``out``; its line of the table."""
    torch.set_num_threads(1)
    folder = chunk_folder(out, order(ROWS[name], SEED, PORTRAITS))  # rows of the same portraits share them
    source = Stored(folder, PORTRAITS)
    chosen = settings(ROWS[name])
    made_by = fingerprint([folder.name, dataclasses.asdict(chosen)])
    network = train(chosen, source, out / f"{made_by[:12]}.pt", made_by, lambda *_: None).network
    predict = functools.partial(predicted, network, SIZE)
    own = held_out_error(predict, Stored(chunk_folder(out, order({}, HELD_SEED, HELD)), HELD))
    real = yale_b.evaluate(predict)
    people = [real[who]["mean_deg"] for who in ("yaleB01", "yaleB02", "pooled")]
    wide = real["pooled"]["within_60_deg"]
    return f"| {name} | {' | '.join(f'{value:.2f}' for value in (own, *people, wide))} |"


@guard
def main() -> None:
    """Render what is missing, train, add rows to the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", default=list(ROWS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if unknown := [name for name in given.rows if name not in ROWS]:
        raise InputError(f"{unknown[0]!r}: expected one of {', '.join(ROWS)}")
    yale_b.people()
    text = TABLE.read_text()
    names = [name for name in given.rows if f"| {name} |" not in text]
    write_chunks(given.out, order({}, HELD_SEED, HELD))
    for name in names:
        write_chunks(given.out, order(ROWS[name], SEED, PORTRAITS))
    with ProcessPoolExecutor(usable_cores(), get_context("spawn")) as pool:
        for line in pool.map(functools.partial(row, given.out), names):
            print(line, flush=True)
            add_row(TABLE, line)
    print(machine())


if __name__ == "__main__":
    main()
