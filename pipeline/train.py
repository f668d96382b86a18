"""Stage train: samples of the training people -> data/model/model.safetensors."""

import dataclasses
import json
from pathlib import Path

from dvclive import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from casfne import config
from casfne.corpora.samples import INDEX, read_index
from casfne.corpora.split import rows_of
from casfne.errors import guard
from casfne.model.checkpoints import save_weights
from casfne.provenance import code_version, file_sha256, fingerprint
from casfne.training.calibrate import calibration_people, fit_confidence
from casfne.training.loop import about, read_checkpoint, train

SAMPLES, SPLIT, OUT, LOG = Path("data/samples"), Path("data/split.json"), Path("data/model"), "data/train_log"
LOG_EVERY = 10


@guard
def main() -> None:
    """Train, or go on where an interrupted run of the same settings, data and code stopped."""
    settings = config.load("params.yaml", "train")
    rows = rows_of(read_index(SAMPLES), json.loads(SPLIT.read_text()), "train")
    made_by = fingerprint(
        {
            "settings": dataclasses.asdict(settings),
            "data": [file_sha256(SAMPLES / INDEX), file_sha256(SPLIT)],
            "code": code_version("model", "training", "corpora/samples.py", "normals.py", "images.py"),
        }
    )
    held, used = calibration_people(rows)
    checkpoint = OUT / "checkpoint.pt"
    columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"))
    saved = read_checkpoint(checkpoint, made_by)
    if saved:
        print(f"going on at step {saved['step']}", flush=True)
    with (
        Live(LOG, resume=saved is not None, dvcyaml=None, save_dvc_exp=False) as live,
        Progress(*columns, TimeRemainingColumn()) as bar,
    ):
        total = sum(part.steps for part in settings.chosen.schedule)
        task = bar.add_task("train", total=total, loss=float("nan"))

        def report(step: int, losses: dict[str, float]) -> None:
            bar.update(task, completed=step, loss=losses["loss"])
            if step % LOG_EVERY == 0 or step == total:
                live.step = step
                for name, value in losses.items():
                    live.log_metric(f"train/{name}", value)

        network = train(settings, SAMPLES, used, checkpoint, made_by, report)
        confidence = fit_confidence(network, SAMPLES, held)
        facts = about(settings, made_by, used) | {"confidence": confidence}
        save_weights(OUT / "model.safetensors", network, facts)
    checkpoint.unlink()


if __name__ == "__main__":
    main()
