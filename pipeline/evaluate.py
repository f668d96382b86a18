"""Stage evaluate: the trained cascade on the test people -> metrics, per-image errors, a figure."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from rich.progress import Progress

import casfne
from casfne import config
from casfne.corpora.samples import read_index
from casfne.corpora.split import rows_of
from casfne.errors import guard
from casfne.evaluation.evaluate import evaluate, predictions
from casfne.files import atomic_open, write_text
from casfne.images import write_image
from casfne.report.figures import error_figure

SAMPLES, SPLIT, MODEL = Path("data/samples"), Path("data/split.json"), Path("data/model/model.safetensors")
OUT, METRICS = Path("data/evaluation"), Path("data/metrics/evaluate.json")


@guard
def main() -> None:
    """Evaluate every stage t and the trivial predictors on people the training has not seen."""
    settings = config.load("params.yaml", "evaluate")
    index, split = read_index(SAMPLES), json.loads(SPLIT.read_text())
    train, test = rows_of(index, split, "train"), rows_of(index, split, "test")
    predictor = casfne.load(MODEL, precision="fp32")
    with Progress() as bar:
        task = bar.add_task("evaluate", total=len(test))
        result = evaluate(predictor, SAMPLES, test, train, settings.batch, lambda: bar.advance(task))
    write_text(OUT / "evaluation.json", json.dumps(result.metrics, indent=2) + "\n")
    write_text(METRICS, json.dumps(result.headlines, indent=2) + "\n")
    with atomic_open(OUT / "per_image.parquet") as file:
        result.per_image.to_parquet(file, index=False)
    stages = [(t, result.metrics["by_pixel"][f"t{t}"]) for t in range(predictor.refinements + 1)]
    with atomic_open(OUT / "stages.csv") as file:
        pd.DataFrame([{"t": t} | numbers for t, numbers in stages]).to_csv(file, index=False)
    shown = test.groupby("subject").nth(0).head(settings.figure_rows)
    figure = error_figure([(s, stages) for _, s, stages in predictions(predictor, SAMPLES, shown, settings.batch)])
    write_image(OUT / "error_maps.png", figure)
    for name, numbers in result.metrics["by_pixel"].items():
        print(f"{name:9s} {numbers['mean_deg']:6.2f} ± {numbers['std_deg']:5.2f} deg{between(numbers)}")


def between(numbers: dict[str, Any]) -> str:
    """The interval of a mean, in words; nothing where one person alone was measured."""
    return f", {numbers['low_deg']:.2f} to {numbers['high_deg']:.2f}" if numbers["low_deg"] is not None else ""


if __name__ == "__main__":
    main()
