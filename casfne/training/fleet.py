"""Training in several processes, on one machine or a cluster, by Ray Train: one for each GPU, or on CPUs (gloo)."""

import dataclasses
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from casfne.cluster import connected
from casfne.model.devices import choose_device
from casfne.model.releases import RELEASES
from casfne.training import job as jobs
from casfne.training.job import Job, Reporter
from casfne.training.loop import start_file


def run(job: Job, reporter: Reporter, address: str | None = None) -> None:
    """`casfne.training.job.run` in ``job.settings.replicas`` processes.

    ``address``: of a Ray cluster, whose machines must see ``job.root``, ``job.out``, and the files that the profile
    names, under these paths; default: RAY_ADDRESS, else this machine. What a process raises is raised here.
    """
    from ray.train import (  # seconds to import, for nothing where one process trains
        RunConfig,
        ScalingConfig,
        WorkerGroupError,
    )
    from ray.train.torch import TorchConfig, TorchTrainer

    job = _absolute(job)
    gpu = choose_device(job.settings.device).type == "cuda"
    with connected(address), TemporaryDirectory() as storage:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": job, "reporter": reporter, "threads": _threads(job.settings.replicas)},
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=job.settings.replicas, use_gpu=gpu),
            run_config=RunConfig(storage_path=storage),
        )
        try:
            trainer.fit()
        except WorkerGroupError as error:
            raise next(iter(error.worker_failures.values())) from None


def _absolute(job: Job) -> Job:
    """With absolute paths: Ray's processes have working folders of their own."""
    profile, portraits = job.settings.chosen, job.settings.chosen.portraits
    if portraits and portraits.keep:
        portraits = dataclasses.replace(portraits, keep=_here(portraits.keep))
    begins = profile.start if profile.start in RELEASES or not start_file(profile.start) else _here(profile.start)
    profile = dataclasses.replace(profile, portraits=portraits, start=begins)
    profiles = {**job.settings.profiles, job.settings.profile: profile}
    settings = dataclasses.replace(job.settings, profiles=profiles)
    return dataclasses.replace(job, settings=settings, root=_here(job.root), out=_here(job.out))


def _here(path: str) -> str:
    return str(Path(path).absolute())


def _threads(replicas: int) -> int:
    return max(1, (os.cpu_count() or 1) // replicas)


def _work(settings: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(settings["threads"])
    jobs.run(settings["job"], settings["reporter"])
