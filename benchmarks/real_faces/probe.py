"""Does the studio work? A small cascade, a fixed short budget on its portraits, then real captures (`yale_b`).

`python -m benchmarks.real_faces.probe HEADS ... --out FOLDER` renders ``PORTRAITS`` portraits into FOLDER, trains on
them for ``STEPS`` steps and prints how far off it is on people of the studio that it has not seen, and on real ones.
`--without INGREDIENT` leaves something out of the studio, but for the unseen people, who have everything in every
row. FOLDER is taken up where it was left.
"""

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.real_faces import yale_b
from casfne import config
from casfne.capture.lighting.material import FACE_CLASS
from casfne.capture.optics.framing import training_crop
from casfne.capture.parallel import Order, rendered
from casfne.capture.people.anny import head_model_file
from casfne.capture.portraits import Portraits, Setting
from casfne.capture.scene import INGREDIENTS
from casfne.errors import guard
from casfne.files import atomic_open, write_text
from casfne.images import resize
from casfne.model.cascade import Cascade
from casfne.model.checkpoints import save_weights
from casfne.model.timing import machine
from casfne.normals import angle_deg, normalise
from casfne.provenance import code_version, file_sha256, fingerprint
from casfne.training.augment import Batch
from casfne.training.dataset import Request
from casfne.training.loop import train

SIZE, PORTRAITS, SEED = 128, 6000, 11
HELD, HELD_SEED = 208, 1000
CHUNK = 16  # portraits of a file
STEPS, BATCH, WIDTH, REFINEMENTS = 4800, 16, 16, 1
TABLE = Path(__file__).with_suffix(".md")
HEAD = """# What the studio is worth on real faces

`python -m benchmarks.real_faces.probe` adds a row: a cascade of width 16 with one refinement, from random weights.
Errors are mean angles in degrees: on people of the same studio that it has not seen, and on the two of
Yale B (lights within 30 degrees of the camera; `yale_b.py` says what reference and strict are). For scale, there:
(0, 0, 1) is off by 28.6, the other person's own normals by 14.0 (strict: 33.3 and 16.1).

| recipe | heads | size | portraits | steps of 16 | own people | yaleB01 | yaleB02 | both | both, strict | machine |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
AUGMENT = ("crop", "roll", "flip", "tone", "grey")


class Stored:
    """Rendered portraits in memory, as a source of training images."""

    prepares_on = torch.device("cpu")

    def __init__(self, folder: Path, count: int) -> None:
        chunks = [np.load(chunk_path(folder, i)) for i in range(count // CHUNK)]
        names = ("image", "normal", "face")
        self.image, self.normal, self.face = (torch.from_numpy(np.concatenate([c[n] for c in chunks])) for n in names)

    def __len__(self) -> int:
        return len(self.image)

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        rows = torch.tensor([request.row for request in requests])
        face = self.face[rows]
        seeds = torch.tensor([request.seed for request in requests])
        normal = self.normal[rows].half() / 127
        return {"image": self.image[rows], "normal": normal, "mask": face, "trust": face.byte() * 255, "seed": seeds}


def chunk_path(folder: Path, number: int) -> Path:
    """Where portraits number * CHUNK and on are."""
    return folder / f"{number:04d}.npz"


def chunk_folder(root: Path, order: Order) -> Path:
    """Where the order's portraits are under ``root``; another order, other head models, or another state of the
    studio's code, have another folder."""
    values = dataclasses.asdict(order) | {
        "heads": [file_sha256(head_model_file(name)) for name in order.heads],
        "code": code_version("capture", "images.py", "normals.py"),
    }
    return root / fingerprint(values)[:12]


def write_chunks(root: Path, order: Order) -> Path:
    """The portraits, 8-bit, in files of ``CHUNK`` in the folder that this returns, unless they are there."""
    folder = chunk_folder(root, order)
    if chunk_path(folder, order.count // CHUNK - 1).exists():
        return folder
    chunk: list[Portraits] = []
    number = 0
    for part in rendered(order):
        chunk.append(part)
        if sum(len(p.image) for p in chunk) == CHUNK:
            whole = Portraits.join(chunk)
            normal = (whole.normal * 127).round().to(torch.int8)
            arrays = {"image": whole.image, "normal": normal, "face": whole.classes == FACE_CLASS}
            with atomic_open(chunk_path(folder, number)) as file:
                np.savez(file, **{name: values.numpy() for name, values in arrays.items()})
            chunk, number = [], number + 1
    return folder


def settings(size: int, steps: int) -> config.Train:
    """A small cascade and a short schedule, the rest as in params.yaml."""
    schedule = (config.Step(size, BATCH, steps, 1e-3, 1e-5, AUGMENT),)
    plain = config.load("params.yaml", "train")
    changed = {"width": WIDTH, "clip_norm": 1.0, "ema": 0.995, "schedule": schedule}
    profile = dataclasses.replace(plain.profiles["demo"], **changed)
    changes = {"profile": "probe", "profiles": {"probe": profile}, "refinements": REFINEMENTS, "weight_adv": 0.0}
    return dataclasses.replace(plain, **changes, log_every=100, checkpoint_every=200)


@guard
def main() -> None:
    """Render, train, measure, add a row to the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heads", nargs="+", help="anny, or files of head models")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without", action="append", default=[], choices=INGREDIENTS)
    parser.add_argument("--portraits", type=int, default=PORTRAITS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels of a side, 32 times a whole number")
    parser.add_argument("--seed", type=int, default=SEED, help="of the portraits")
    given = parser.parse_args()
    yale_b.people()  # what is missing is said before anything is computed
    held = Order(given.heads, HELD_SEED, HELD, Setting(training_crop(given.size)))
    unseen = write_chunks(given.out / "held", held)
    began = time.perf_counter()
    seen = write_chunks(
        given.out / "seen",
        dataclasses.replace(held, seed=given.seed, count=given.portraits, without=given.without),
    )
    ready = time.perf_counter()
    print(f"rendered after {ready - began:.0f} s", flush=True)
    network = trained(given, seen)
    minutes = [(ready - began) / 60, (time.perf_counter() - ready) / 60]
    predict = functools.partial(predicted, network, given.size)
    own = held_out_error(predict, Stored(unseen, HELD))
    record(given, minutes, own, yale_b.evaluate(predict))


def trained(given: argparse.Namespace, seen: Path) -> Cascade:
    """The cascade after all steps on the portraits in ``seen``; its weights go to ``given.out``."""
    made_by = json.dumps([seen.name, given.steps, given.size])

    def report(step: int, losses: dict[str, float]) -> None:
        print(step, losses, flush=True)

    source = Stored(seen, given.portraits)
    network = train(settings(given.size, given.steps), source, given.out / "checkpoint.pt", made_by, report).network
    save_weights(given.out / "model.safetensors", network, {"profile": "probe", "confidence": None})
    return network


def record(given: argparse.Namespace, minutes: list[float], own: float, real: dict[str, Any]) -> None:
    """Print a row of the table and add it to ``TABLE``."""
    recipe = ("without " + ", ".join(given.without) if given.without else "everything") + f", seed {given.seed}"
    names = " + ".join(Path(head).stem for head in given.heads)
    people = [real[name] for name in ("yaleB01", "yaleB02", "pooled")]
    errors = [own, *(person["mean_deg"] for person in people), real["pooled"]["strict_mean_deg"]]
    budget = f"{given.portraits} in {minutes[0]:.0f} min", f"{given.steps} in {minutes[1]:.0f} min"
    cells = [recipe, names, str(given.size), *budget, *(f"{error:.2f}" for error in errors), machine()]
    row = f"| {' | '.join(cells)} |"
    print(json.dumps(real, indent=1), HEAD.splitlines()[-2], row, sep="\n")
    if not TABLE.is_file():
        write_text(TABLE, HEAD)
    add_row(TABLE, row)


def add_row(table: Path, row: str) -> None:
    """Put ``row`` behind the last one of the Markdown table in the file ``table``, before what is written below."""
    lines = table.read_text().splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("| "))
    write_text(table, "\n".join([*lines[: last + 1], row, *lines[last + 1 :]]) + "\n")


def predicted(network: Cascade, size: int, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Unit normals float32 [B, S, S, 3] of uint8 RGB crops [B, S, S, 3], at the ``size`` that it was trained at."""
    images = torch.from_numpy(np.stack([resize(crop, size) for crop in crops])).movedim(-1, 1).float() / 255
    with torch.inference_mode():
        normals = torch.cat([network(part)[-1] for part in images.split(16)]).movedim(1, -1).numpy()
    side = crops.shape[1]
    return np.stack([normalise(cv2.resize(n, (side, side), interpolation=cv2.INTER_LINEAR)) for n in normals])


def held_out_error(predict: yale_b.Predict, held: Stored) -> float:
    """Mean angle in degrees over the faces' pixels."""
    found = predict(held.image.movedim(1, -1).numpy())
    truth = held.normal.movedim(1, -1).float().numpy() / 127
    return float(angle_deg(found, truth)[held.face[:, 0].numpy()].mean())


if __name__ == "__main__":
    main()
