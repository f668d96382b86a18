"""Stage report: numbers, pictures and labelling totals -> data/report/index.html."""

import json
from pathlib import Path

from casfne import config, table
from casfne.corpora.samples import read_index, read_sample
from casfne.errors import InputError, guard
from casfne.files import write_text
from casfne.images import read_image, write_image
from casfne.report.figures import SHOWN, frame_figure, label_figure
from casfne.report.page import render

METRICS, EVALUATION, LABELS = Path("data/metrics"), Path("data/evaluation"), Path("data/labels")
SAMPLES = Path("data/samples")
OUT = Path("data/report/index.html")


@guard
def main() -> None:
    """Gather what the other stages wrote into one page."""
    settings = config.load("params.yaml", "report")
    evaluation, prepare = (json.loads((METRICS / f"{s}.json").read_text()) for s in ("evaluate", "prepare"))
    if not table.parts(LABELS):
        raise InputError(f"{LABELS}: no labels; `dvc repro label` writes them")
    labels = table.summary(table.read(LABELS))
    figures = {"Held-out people: stages, shading and error": read_image(EVALUATION / "error_maps.png")}
    for corpus in labels.index:
        one = table.read(LABELS, list(SHOWN), [("corpus", "==", corpus), ("status", "==", "ok")])
        if len(one):
            figures[f"Labelled faces of {corpus}"] = label_figure(one.head(settings.faces_per_corpus))
    write_image(OUT.with_name("frame.png"), frame_figure(read_sample(SAMPLES, *first_sample())))
    write_text(OUT, render(evaluation, prepare, labels, figures))
    print(f"{OUT}: {len(figures)} figures")


def first_sample() -> tuple[str, int]:
    """Archive and light of the first sample: a face for the figure of the frame."""
    row = read_index(SAMPLES).iloc[0]
    return row["archive"], row["light"]


if __name__ == "__main__":
    main()
