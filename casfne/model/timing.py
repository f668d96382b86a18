"""How long things take, taken in turns; and on what machine."""

import os
import platform
import time
from collections.abc import Callable, Mapping

import torch


def medians(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each task, the median of ``rounds``; see `timings`."""
    return {name: sorted(seconds)[rounds // 2] for name, seconds in timings(tasks, rounds).items()}


def timings(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each task in every round.

    Tasks take turns, so that a moment in which the machine is busy hits all alike. In its turn a task runs twice and
    the second time counts: in use it would not find the memory that another task has just left.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            task()
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def machine() -> str:
    """The processor, its cores, and torch, in one line."""
    features = torch.cpu.get_capabilities()
    name = features.get("cpu_name") or platform.processor() or platform.machine()
    bf16 = " with bf16" if features.get("avx512_bf16") or features.get("amx_bf16") else ""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}{bf16}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}, Python {platform.python_version()}"
