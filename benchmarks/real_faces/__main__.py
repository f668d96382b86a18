"""What weights are worth: `python -m benchmarks.real_faces [WEIGHTS] --out FOLDER` prints every figure of their card.

(a) people of the studio that no training has seen, (b) two people of Yale B, (c) portraits. FOLDER keeps the studio's
people (two minutes on two cores, once for each state of the studio's code) and gets yale_b.png and portraits.png to
look at.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.real_faces import held_out, portraits, yale_b
from benchmarks.real_faces.confidence import Faces
from casfne.errors import guard
from casfne.images import write_image
from casfne.model.predictor import CascadePredictor, load
from casfne.model.timing import machine, medians

TIMED = 8  # faces at once


@guard
def main() -> None:
    """Print the tables; exit code 1 and one line where data or weights are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="?", default="release", help="a release's name or a file")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    predictor = load(given.weights)
    yale_b.people()
    print(f"{predictor.name}, SHA-256 {predictor.sha256}; {predictor.precision}, {machine()}\n")
    stages, held = held_out.evaluate(predictor, held_out.people(given.out / "held"))
    print(f"(a) {held_out.COUNT} portraits of the studio's held-out people, error in degrees by stage\n")
    columns = list(stages[0])
    _table(["t", *columns], [[str(t), *(f"{row[name]:.3f}" for name in columns)] for t, row in enumerate(stages)])
    print("\n(b) Yale B, mean error in degrees by the light's angle off the camera axis\n")
    _yale_b(predictor)
    real = yale_b.expectations(predictor)
    told = {"(a)": held, "(b), every light": real, "(a) and (b) together": Faces.join([held, real])}
    for name, group in told.items():
        print(f"\nconfidence on {name}: fifths of the faces, from the most confident; ratio {group.ratio:.3f}")
        print(f"(sorted by their true errors: {group.bound:.3f})\n")
        _pairs(group.fifths())
    print("\ncalibration on (a): tenths of the pixels\n")
    _pairs(held.tenths())
    named = portraits.crops()
    faces = np.stack(list(named.values()))
    print(f"\n(c) {len(named)} faces: how far a mirrored photograph's normals, mirrored back, are off, in degrees\n")
    views = {"as it is": predictor, "one view alone": portraits.one_view(predictor)}
    moved = {name: portraits.flip_differences(one, faces) for name, one in views.items()}
    _table(["", "mean", "most"], [[name, f"{m.mean():.2f}", f"{m.max():.2f}"] for name, m in moved.items()])
    seconds = medians({"predict": lambda: predictor.predict(faces[:TIMED])}, 5)["predict"] / TIMED
    print(f"\n{1000 * seconds:.0f} ms a face")
    write_image(given.out / "portraits.png", portraits.page(predictor, faces))
    write_image(given.out / "yale_b.png", yale_b.sheet(predictor.predict))
    print(f"{given.out}: portraits.png, yale_b.png")


def _yale_b(predictor: CascadePredictor) -> None:
    rows = {f"t = {t}": yale_b.evaluate(yale_b.at_stage(predictor, t)) for t in range(predictor.refinements + 1)}
    rows |= {"(0, 0, 1)": yale_b.flat(), "the other person's normals": yale_b.other_person()}
    heads = ["normals", "person", "within 30", "within 60", *yale_b.bin_names(), "within 30, strict reference"]
    lines = []
    for name, people in rows.items():
        for who, figures in people.items():
            near = [
                figures["mean_deg"],
                figures["within_60_deg"],
                *figures["bins"].values(),
                figures["strict_mean_deg"],
            ]
            lines.append([name, who, *(f"{value:.2f}" for value in near)])
    _table(heads, lines)


def _pairs(pairs: np.ndarray) -> None:
    _table(["expected", "actual"], [[f"{value:.2f}" for value in pair] for pair in pairs])


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """As Markdown."""
    for line in (heads, ["---"] * len(heads), *lines):
        print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()
