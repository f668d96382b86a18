"""`python -m casfne.training JOB`: run a training job file (see `pipeline/train.py --write-job`) on this machine.

Under `torchrun` its processes share the work.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from casfne.errors import guard
from casfne.model.devices import choose_device
from casfne.training.job import Job, run
from casfne.training.loop import Report


@contextmanager
def printing() -> Iterator[Report]:
    """Report by lines on stdout."""

    def report(step: int, losses: dict[str, float]) -> None:
        print(f"step {step}:", ", ".join(f"{name} {value:.5f}" for name, value in losses.items()), flush=True)

    yield report


@guard
def main() -> None:
    """Read the job, join the other processes where there are some, train."""
    parser = argparse.ArgumentParser(prog="python -m casfne.training", description=__doc__)
    parser.add_argument("job", help="JSON file of the job")
    job = Job.read(parser.parse_args().job)
    if "RANK" in os.environ:  # torchrun's
        join(choose_device(job.settings.device))
    run(job, printing)


def join(device: torch.device) -> None:
    """Meet torchrun's other processes, to train on ``device``; of GPUs each takes its own."""
    cuda = device.type == "cuda"
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


if __name__ == "__main__":
    main()
