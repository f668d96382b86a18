"""Stage train: samples of the training people, or the studio's portraits -> data/model/model.safetensors.

`--write-job FILE` writes the job instead, for `python -m casfne.training FILE` on a machine that has the samples, or
the head models.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvclive import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from casfne import config
from casfne.errors import guard
from casfne.training import fleet
from casfne.training import job as jobs
from casfne.training.inputs import job_of
from casfne.training.loop import Report, read_checkpoint

SAMPLES, SPLIT, OUT, LOG = Path("data/samples"), Path("data/split.json"), Path("data/model"), Path("data/train_log")


@guard
def main() -> None:
    """Train, or go on where an interrupted run of the same settings, data and code stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write-job", type=Path)
    to_file = parser.parse_args().write_job
    job = job_of(config.load("params.yaml", "train"), SAMPLES, SPLIT, OUT)
    if to_file:
        return job.write(to_file)
    run = fleet.run if job.settings.replicas > 1 else jobs.run
    return run(job, Reporter(LOG.absolute(), job))


@dataclasses.dataclass(frozen=True)
class Reporter:
    """Losses to DVCLive under ``log``, and a progress bar."""

    log: Path
    job: jobs.Job

    @contextmanager
    def __call__(self) -> Iterator[Report]:
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"), TimeRemainingColumn()
        if saved := read_checkpoint(self.job.checkpoint, self.job.made_by):
            print(f"going on at step {saved['step']}", flush=True)
        live = Live(str(self.log), resume=bool(saved), dvcyaml=None, save_dvc_exp=False)
        with live, Progress(*columns) as bar:
            task = bar.add_task("train", total=self.job.settings.chosen.steps, loss=float("nan"))

            def report(step: int, losses: dict[str, float]) -> None:
                bar.update(task, completed=step, loss=losses["loss"])
                live.step = step
                for name, value in losses.items():
                    live.log_metric(f"train/{name}", value)

            yield report


if __name__ == "__main__":
    main()
