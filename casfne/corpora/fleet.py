"""Preparing sessions in many processes, on this machine or a Ray cluster; the file of this folder that imports Ray.

One session is one task of one processor: it writes its archive itself and sends back rows alone. So a worker holds one
session at a time, a session that kills its worker costs that session, and what is done stays done.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from casfne.cluster import connected
from casfne.corpora.sessions import Outcome, Task, attempt, survey

SMALL = 8  # sessions a process: starting Ray, and importing torch once more, takes as long as preparing so many
_RETRIES = 1  # of a session whose worker died

Progress = Callable[[int, int], None]  # sessions done, sessions in all


def run(
    tasks: Sequence[Task], *, workers: int = 0, address: str | None = None, progress: Progress | None = None
) -> list[Outcome]:
    """Make the archives that are not there yet, and give the outcome of every task, in order. None is lost: what
    cannot be made has its reason.

    workers: sessions at a time, each on one processor; 0: one for every processor. address: of a Ray cluster, whose
    machines must see the tasks' files under these paths; None: the one of RAY_ADDRESS, else this machine, and this
    process alone while there are fewer than 8 sessions for each of two. InputError where there is no such cluster.
    """
    found = survey(tasks)
    todo = [task for task in tasks if task.archive not in found]
    tell = progress or (lambda done, total: None)
    tell(len(found), len(tasks))
    for task, outcome in _attempts(todo, workers, address or os.environ.get("RAY_ADDRESS")):
        found[task.archive] = outcome
        tell(len(found), len(tasks))
    return [found[task.archive] for task in tasks]


def _attempts(todo: Sequence[Task], workers: int, address: str | None) -> Iterator[tuple[Task, Outcome]]:
    """Tasks as they end."""
    here = min(workers or processors(), len(todo) // SMALL)
    if todo and (address or here > 1):
        yield from _spread(todo, workers if address else here, address)
    else:
        yield from ((task, attempt(task)) for task in todo)


def processors() -> int:
    """That this process may use: a container may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spread(todo: Sequence[Task], workers: int, address: str | None) -> Iterator[tuple[Task, Outcome]]:
    """On Ray: ``workers`` tasks at a time, 0: as many as the cluster has processors."""
    import ray  # seconds to import

    with connected(address):
        work = ray.remote(num_cpus=1, max_retries=_RETRIES)(_work)
        limit = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        queue = iter(todo)
        running = {work.remote(task): task for task in islice(queue, limit)}
        while running:
            [ended], _ = ray.wait(list(running), num_returns=1)
            task = running.pop(ended)
            running |= {work.remote(following): following for following in islice(queue, 1)}
            try:
                yield task, ray.get(ended)
            except ray.exceptions.RayError as error:
                *_, last = ("", *str(error).strip().splitlines())
                yield task, Outcome([], f"its worker failed: {type(error).__name__}: {last}", 0.0)


def _work(task: Task) -> Outcome:
    import cv2

    cv2.setNumThreads(1)  # Ray tells the other libraries; OpenCV would take every processor
    return attempt(task)
