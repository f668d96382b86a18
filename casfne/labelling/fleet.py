"""Labelling on Ray: many photographs to shards of Parquet, resumable. The only file that imports Ray.

Every shard is fixed before the start: so many photos of one corpus, in order. A shard travels as one block through
three stages (decode on CPUs, the model in actors, encode and write on CPUs) and appears whole or not at all. Its
file carries a fingerprint of all that decides its content, so a run that was killed goes on with what is missing,
and a shard of other weights or other images is never taken for a fresh one.
"""

import functools
import logging
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext

from casfne import files, schema
from casfne.cluster import connected
from casfne.corpora.record import Photo
from casfne.errors import InputError
from casfne.labelling import faces
from casfne.labelling import label as steps
from casfne.labelling.shards import Shard, Summary, clear, finish, plan, survey

_RETRIES = 1  # of a shard whose worker died: Ray's default would chase an image that kills workers for ever

MakePredictor = Callable[[], steps.Predictor]
Progress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class _Job:
    """What every stage of a run needs to know; sent to the workers."""

    out: Path
    folder: Path  # where relative paths of photos start: a worker may stand elsewhere
    make_predictor: MakePredictor
    identity: steps.Identity
    detector: faces.Detector
    batch: int
    actors: int
    gpu: bool


def run(
    photos: Sequence[Photo],
    out: Path | str,
    weights: Path | str,
    *,
    detector: Path | str | None = None,
    device: str = "auto",
    precision: str = "auto",
    shard_rows: int = 128,
    batch: int = 8,
    actors: int = 1,
    address: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Label photos with the model of a weights file; see `label`.

    detector: an ONNX file of YuNet; None for dlib's. Raises InputError before anything is written: no such
    weights, no such detector, and what `label` refuses.
    """
    from casfne.model.predictor import load  # workers that only decode must not import torch

    found = faces.YuNet(detector) if detector is not None else faces.Dlib()
    make = functools.partial(load, Path(weights).absolute(), device, precision)
    return label(
        photos,
        out,
        make,
        steps.Identity.of(load(weights, device, precision)),
        detector=found,
        shard_rows=shard_rows,
        batch=batch,
        actors=actors,
        gpu=device != "cpu",
        address=address,
        overwrite=overwrite,
        progress=progress,
    )


def label(
    photos: Sequence[Photo],
    out: Path | str,
    make_predictor: MakePredictor,
    identity: steps.Identity,
    *,
    detector: faces.Detector,
    shard_rows: int = 128,
    batch: int = 8,
    actors: int = 1,
    gpu: bool = True,
    address: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Label photos into ``out``/corpus=<name>/part-00000.parquet, ...; then _summary.json.

    make_predictor: called once in every actor; what it gives must have ``identity``.
    address: of a Ray cluster; None: the one of RAY_ADDRESS, else one started here and ended afterwards. A Ray
    that this process already holds is used as it is.
    overwrite: replace what other runs left in these corpora, instead of refusing it. Other corpora stay.

    A shard that is there with the right fingerprint is kept untouched. The summary is over the whole folder;
    without a row for every photo (``missing``) there is no _summary.json.
    Raises InputError: no photos, ``out`` is a file, labels of another run are in the way, no such cluster.
    """
    out = Path(out)
    shards = plan(photos, shard_rows, identity, detector)
    todo, obsolete = survey(out, shards, overwrite)
    actors = min(actors, max(len(todo), 1))
    job = _Job(out.absolute(), Path.cwd(), make_predictor, identity, detector, batch, actors, gpu)
    with connected(address) if todo else nullcontext():
        clear(obsolete)
        failures = _label_shards(todo, job, _counter(shards, todo, progress))
    return finish(out, shards, failures)


def _counter(shards: Sequence[Shard], todo: Sequence[Shard], progress: Progress | None) -> Callable[[int], None]:
    total = sum(len(shard.photos) for shard in shards)
    done = total - sum(len(shard.photos) for shard in todo)

    def count(images_done: int) -> None:
        nonlocal done
        done += images_done
        if progress:
            progress(done, total)

    count(0)
    return count


# --- Ray ---


def _label_shards(todo: Sequence[Shard], job: _Job, count: Callable[[int], None]) -> dict[str, str]:
    """Write the shards; those that could not be, with the reason. An image that kills its worker is isolated."""
    if not todo:
        return {}
    failures = _flow(todo, {}, job, count)
    lost = [s for s in todo if s.part not in failures and not (job.out / s.part).exists()]
    if lost:
        failures |= _flow(lost, _deadly(lost, job), job, count)
    return failures


def _flow(
    shards: Sequence[Shard], deadly: dict[str, set[str]], job: _Job, count: Callable[[int], None]
) -> dict[str, str]:
    """One run of shards through the stages, one block each. A block whose worker keeps dying is dropped."""
    context = DataContext.get_current().copy()
    context.target_max_block_size = None  # a shard is never split
    context.max_errored_blocks = -1  # the caller sees which shards are not there
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    blocks = [_block(s, (s.photos, deadly.get(s.part, set()))) for s in shards]
    failures = {}
    with DataContext.current(context), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the limits on retries have no named parameter to move to yet
        for row in _stages(ray.data.from_arrow(blocks), job).iter_rows():
            count(row["images"])
            if row["failure"]:
                failures[row["part"]] = row["failure"]
    return failures


def _stages(blocks: ray.data.Dataset, job: _Job) -> ray.data.Dataset:
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 1), resources.get("GPU", 0) if job.gpu else 0
    task = min(1.0, 0.5 * cpus)
    # less than a task's share, so that decoding is not fused into the actors, and all of them find a place
    actor = min(0.9, 0.4 * cpus / job.actors)
    threads = max(1, (os.cpu_count() or 1) // job.actors)
    block: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
    return (
        blocks.map_batches(functools.partial(_decode, job=job), num_cpus=task, max_retries=_RETRIES, **block)
        .map_batches(
            _Model,
            fn_constructor_args=[job, threads],
            compute=ActorPoolStrategy(size=job.actors),
            num_cpus=actor,
            num_gpus=min(1, gpus / job.actors) or None,
            max_task_retries=_RETRIES,
            **block,
        )
        .map_batches(functools.partial(_write, job=job), num_cpus=task, max_retries=_RETRIES, **block)
    )


def _deadly(lost: Sequence[Shard], job: _Job) -> dict[str, set[str]]:
    """The images, by shard, on which a worker process dies: each is decoded in a task of its own."""
    probe = ray.remote(num_cpus=1, max_retries=0)(_probe)
    running = [(s.part, p.image_id, probe.remote(p, job.detector, job.folder)) for s in lost for p in s.photos]
    deadly: dict[str, set[str]] = {shard.part: set() for shard in lost}
    for part, image_id, reference in running:
        try:
            ray.get(reference)
        except ray.exceptions.RayError:
            deadly[part].add(image_id)
    return deadly


def _probe(photo: Photo, detector: faces.Detector, folder: Path) -> None:
    steps.decode(photo, detector, folder)


# --- the stages, each over a block of one row: one shard ---


def _block(shard: Shard, payload: Any) -> pa.Table:
    return pa.table(
        {
            "part": [shard.part],
            "fingerprint": [shard.fingerprint],
            "images": [len(shard.photos)],
            "payload": _packed(payload),
        }
    )


def _packed(payload: Any) -> pa.Array:
    return pa.array([pickle.dumps(payload, protocol=5)], pa.large_binary())  # plain binary ends at 2 GiB


def _payload(block: pa.Table) -> Any:
    return pickle.loads(block["payload"][0].as_buffer())


def _decode(block: pa.Table, job: _Job) -> pa.Table:
    photos, deadly = _payload(block)
    found = []
    for photo in photos:
        if photo.image_id in deadly:
            found.append(steps.failed(photo, "the worker process died on this image"))
        else:
            found += steps.decode(photo, job.detector, job.folder)
    return block.set_column(3, "payload", _packed(found))


class _Model:
    """The actor: holds the model."""

    def __init__(self, job: _Job, threads: int) -> None:
        self.batch, self.predictor = job.batch, job.make_predictor()
        if (mine := steps.Identity.of(self.predictor)) != job.identity:
            raise InputError(f"a worker has {mine}, the run was started with {job.identity}")
        if torch := sys.modules.get("torch"):  # Ray gives it one thread
            torch.set_num_threads(threads)

    def __call__(self, block: pa.Table) -> pa.Table:
        return block.set_column(3, "payload", _packed(steps.predict(_payload(block), self.predictor, self.batch)))


def _write(block: pa.Table, job: _Job) -> pa.Table:
    part, mark = block["part"][0].as_py(), block["fingerprint"][0].as_py()
    failure = ""
    try:
        rows = [steps.to_row(labelled, job.identity) for labelled in _payload(block)]
        with files.atomic_open(job.out / part) as file:
            schema.write(file, rows, {"fingerprint": mark})
    except OSError as error:  # a full disk, say: the driver reports it
        failure = str(error)
    return block.select(["part", "images"]).append_column("failure", pa.array([failure]))
