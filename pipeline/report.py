"""Stage report: numbers, faces under a light and labelling totals -> data/report/index.html."""

import json
from pathlib import Path

import pandas as pd

import casfne
from casfne import config, table
from casfne.corpora.samples import read_index, read_sample
from casfne.errors import InputError, guard
from casfne.evaluation.evaluate import predictions
from casfne.files import write_text
from casfne.images import write_image
from casfne.report.faces import Face, chosen, of_labels, of_sample, pictured, spread
from casfne.report.figures import frame_figure
from casfne.report.page import Evaluation, Labels, render

LABELS, SAMPLES, MODEL = "data/labels", Path("data/samples"), Path("data/model/model.safetensors")
EVALUATED, PER_IMAGE = Path("data/evaluation/evaluation.json"), Path("data/evaluation/per_image.parquet")
PREPARED = Path("data/metrics/prepare.json")
OUT = Path("data/report/index.html")


@guard
def main() -> None:
    """Gather what the other stages wrote into one page."""
    settings = config.load("params.yaml", "report")
    evaluated, prepared = (json.loads(path.read_text()) for path in (EVALUATED, PREPARED))
    if not table.parts(LABELS):
        raise InputError(f"{LABELS}: no labels; `dvc repro label` writes them")
    labels, per_image = Labels(LABELS, table.read(LABELS)), pd.read_parquet(PER_IMAGE)
    index = read_index(SAMPLES).set_index("sample_id", drop=False)
    tested = held_out(index, per_image, settings.tested_faces)
    labelled = of_labels(pictured(LABELS, chosen(labels.frame, settings.labelled_faces)))
    first = index.iloc[0]
    write_image(OUT.with_name("frame.png"), frame_figure(read_sample(SAMPLES, first["archive"], first["light"])))
    write_text(OUT, render(tested, labelled, Evaluation(evaluated, per_image), labels, prepared))
    print(
        f"{OUT}: {len(tested)} faces of test people, {len(labelled)} labelled ones, {OUT.stat().st_size / 1e6:.1f} MB"
    )


def held_out(index: pd.DataFrame, per_image: pd.DataFrame, count: int) -> list[Face]:
    """Test images from the best to the worst of the last stage, predicted again."""
    predictor = casfne.load(MODEL, precision="fp32")
    last = per_image[per_image["predictor"] == f"t{predictor.refinements}"].set_index("sample_id")
    rows = index.loc[spread(last["mean_deg"], count)]
    return [of_sample(r["sample_id"], sample, stages) for r, sample, stages in predictions(predictor, SAMPLES, rows, 4)]


if __name__ == "__main__":
    main()
