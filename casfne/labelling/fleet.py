"""Labelling on Ray: many photographs to shards of Parquet, resumable. The only file here that imports Ray.

Every shard is fixed before the start: so many photos of one corpus, in order. A shard travels as one block through
three stages (decode on CPUs, the model in actors, encode and write on CPUs) and appears whole or not at all. Its
file carries a fingerprint of all that decides its content, so a run that was killed goes on with what is missing,
and a shard of other weights or other images is never taken for a fresh one.

A shard whose workers die is dropped by Ray; what was dropped is probed image by image (`suspects`) and sent again,
without those that kill. Long runs go in waves, so that memory does not grow with the corpus.
"""

import functools
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.metrics import Gauge

from casfne.cluster import connected
from casfne.corpora.record import Photo
from casfne.errors import InputError
from casfne.labelling import batches, faces, shards, stages, suspects
from casfne.labelling import label as steps
from casfne.labelling.output import Output
from casfne.labelling.progress import Meter, Progress
from casfne.labelling.shards import Shard, Summary
from casfne.model.releases import RELEASES

_RETRIES = 1  # of a shard whose worker died: Ray's default would chase an image that kills workers for ever
_ROUNDS = 5  # of sending what was lost again; machines that come and go cost rounds too
_WAVE = 4096  # shards under way: the list of their photos lies in Ray's store, some 10 KB each
_ACTOR_CPU, _TASK_CPU = 0.01, 0.9  # a machine of one core holds a task and a few actors
_ACTOR_BYTES = 2 << 30  # of memory, of an actor on CPUs: torch, the network, a shard on its way in and one out
_HOPELESS = 16  # shards in a row that could not be written: the disk is full, or the store gone

MakePredictor = Callable[[], steps.Predictor]
Tell = Callable[[Progress], None]
Deadly = dict[str, stages.Deadly]  # by part


def run(
    photos: Sequence[Photo],
    out: Path | str,
    weights: Path | str,
    *,
    detector: Path | str | None = None,
    device: str = "auto",
    precision: str = "auto",
    **options: Any,
) -> Summary:
    """Label photos with the model of a weights file; ``options`` are those of `label`.

    detector: an ONNX file of YuNet; None for dlib's. device: "auto", "cpu" or "cuda", which is every GPU of the cluster
    that CUDA_VISIBLE_DEVICES leaves. Raises InputError before anything is written: no such weights, device or detector,
    and what `label` refuses.
    """
    if device.startswith("cuda:"):  # Ray shows every worker the one GPU that it gave it
        raise InputError(f"device {device!r}: every GPU is used; choose with CUDA_VISIBLE_DEVICES, and say cuda")
    from casfne.model.predictor import load  # workers that only decode must not import torch

    found = faces.YuNet(detector) if detector is not None else faces.Dlib()
    named = weights if str(weights) in RELEASES else Path(weights).absolute()  # nodes have the releases themselves
    make = functools.partial(load, named, device, precision)
    identity = steps.Identity.of(load(weights, device, precision))
    return label(photos, out, make, identity, detector=found, gpu=device != "cpu", **options)


def label(
    photos: Sequence[Photo],
    out: Path | str,
    make_predictor: MakePredictor,
    identity: steps.Identity,
    *,
    detector: faces.Detector,
    options: steps.Options | None = None,
    inputs: Iterable[Path | str] = (),
    shard_rows: int = 128,
    batch: int = 0,
    actors: int = 0,
    gpu: bool = True,
    address: str | None = None,
    overwrite: bool = False,
    retry_errors: bool = False,
    timings: bool = False,
    progress: Tell | None = None,
) -> Summary:
    """Label photos into ``out``/corpus=<name>/part-00000.parquet, ...; then _summary.json.

    out: a local folder, or the URI of one in a store.
    make_predictor: called once in every actor; what it gives must have ``identity``.
    inputs: the folders that are read; ``out`` may not lie in one of them.
    batch: faces at once in the network; 0: found by itself, see `batches`.
    actors: copies of the network; 0: one for each GPU of the cluster or, where it has none, for each CPU, as far as
    memory goes. One a CPU labels faster than one over all of them, whose threads wait for each other.
    address: of a Ray cluster; None: the one of RAY_ADDRESS, else one started here and ended afterwards. A Ray
    that this process already holds is used as it is.
    overwrite: replace what other runs left in these corpora, instead of refusing it. Other corpora stay.
    retry_errors: make the images again that failed for a reason that can pass (`schema.REASONS`).
    timings: fill the column `seconds`. Without, files hang on their input alone: two runs on CPUs in fp32 give the
    same bytes.

    A shard that is there with the right fingerprint is kept untouched. The summary is over the whole folder;
    without a row for every photo (``missing``) there is no _summary.json.
    Raises InputError, with nothing written: no photos, ``out`` is a file or lies in an input, labels of another run
    are in the way, no such cluster; and where nothing can be written.
    """
    place = Output(out)
    shards.refuse_inside(place, inputs)
    wanted = shards.plan(photos, shard_rows, identity, detector, options)
    made_by = shards.maker(identity, detector, options)
    found = shards.survey(place, wanted, made_by, overwrite, retry_errors)
    given = options or steps.Options()
    make = ray.cloudpickle.dumps(make_predictor)
    job = stages.Job(place, Path.cwd(), make, identity, detector, given, batch, actors, gpu, timings)
    undone = sum(len(shard.wanted) for shard in found.todo)
    with connected(address) if found.todo else nullcontext():
        try:
            shards.clear(place, found.obsolete)
            for table in found.tables:
                place.write(table.part, table.write)
        except OSError as error:
            raise InputError(f"{place.name}: cannot be written ({error})") from None
        meter = Meter(len(photos) - undone, len(photos), _reporter(progress))
        if found.todo:
            job = replace(job, actors=min(job.actors or _pool(gpu), len(found.todo)))
        failures = _label_shards(found.todo, job, meter)
    try:
        return shards.finish(place, wanted, failures)
    except OSError as error:
        raise InputError(f"{place.name}: cannot be written ({error})") from None


def _pool(gpu: bool) -> int:
    """How many copies of the network the cluster is good for."""
    has = ray.cluster_resources()
    if gpu and has.get("GPU", 0):
        return int(has["GPU"])
    return max(1, min(int(has.get("CPU", 1)), int(has.get("memory", 0)) // _ACTOR_BYTES))


def _reporter(progress: Tell | None) -> Tell:
    """Tells ``progress``, and Ray's dashboard and Prometheus where Ray runs: ray_casfne_images and so on."""
    if not ray.is_initialized():
        return progress or (lambda _: None)
    gauges = {
        "done": Gauge("casfne_images", "Images labelled or given up."),
        "faces": Gauge("casfne_faces", "Faces labelled."),
        "images_per_s": Gauge("casfne_images_per_s", "Images a second, over the last shards."),
    }
    failures = Gauge("casfne_failures", "Images or faces without a label.", ("reason_code",))

    def tell(at: Progress) -> None:
        if progress:
            progress(at)
        for name, gauge in gauges.items():
            gauge.set(getattr(at, name))
        for code, count in at.failures.items():
            failures.set(count, {"reason_code": code})

    return tell


# --- Ray ---


def _label_shards(todo: Sequence[Shard], job: stages.Job, meter: Meter) -> dict[str, str]:
    """Write the shards; those that could not be, with the reason."""
    failures: dict[str, str] = {}
    for first in range(0, len(todo), _WAVE):
        failures |= _label_wave(todo[first : first + _WAVE], job, meter)
    return failures


def _label_wave(todo: Sequence[Shard], job: stages.Job, meter: Meter) -> dict[str, str]:
    """Send shards through the stages until each is there or has failed. An image that kills its worker is isolated."""
    failures: dict[str, str] = {}
    deadly: Deadly = {}
    left = list(todo)
    for _ in range(_ROUNDS):
        reported = _flow(left, deadly, job, meter)
        failures |= {part: failure for part, failure in reported.items() if failure}
        left = [shard for shard in left if shard.part not in reported and not _arrived(shard, job, meter)]
        if not left:
            break
        probe = _Probe(job)
        isolated = {shard.part: suspects.isolate(shard.wanted, probe.dies) for shard in left}
        probe.end()
        if not any(isolated.values()):  # each can be treated alone, so that all at once may be too much
            job = replace(job, batch=max(1, (job.batch or batches.CPU_BATCH) // 2))
        deadly |= isolated
    return failures


def _arrived(shard: Shard, job: stages.Job, meter: Meter) -> bool:
    """Whether a shard of which no report came was written all the same: the report can be lost with its node."""
    if shard.again is not None or not job.out.exists(shard.part):
        return False
    meter.add(len(shard.photos))
    return True


def _flow(todo: Sequence[Shard], deadly: Deadly, job: stages.Job, meter: Meter) -> dict[str, str]:
    """One run of shards through the stages, one block each: what came of them, "" or why one was not written.

    A block whose worker keeps dying is dropped, and not among them.
    """
    context = DataContext.get_current().copy()
    context.target_max_block_size = None  # a shard is never split
    context.max_errored_blocks = -1  # the caller sees which shards are not there
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    reported: dict[str, str] = {}
    in_vain = 0
    with DataContext.current(context), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the limits on retries have no named parameter to move to yet
        try:
            blocks = ray.data.from_arrow([stages.block_of(shard, deadly.get(shard.part, {})) for shard in todo])
            for row in _stages(blocks, job).iter_rows():
                reported[row["part"]] = row["failure"]
                in_vain = in_vain + 1 if row["failure"] else 0
                if not row["failure"]:
                    meter.add(row["images"], row["faces"], json.loads(row["codes"]))
                if in_vain == _HOPELESS:
                    return {shard.part: row["failure"] for shard in todo} | reported
        except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError) as error:
            # actors that died before they were ready end the flow; what is not there yet counts as lost
            if "InputError: " in str(error):
                raise InputError(str(error).rpartition("InputError: ")[2].strip()) from None
    return reported


def _stages(blocks: ray.data.Dataset, job: stages.Job) -> ray.data.Dataset:
    cpus = ray.cluster_resources().get("CPU", 1)
    task = min(_TASK_CPU, 0.5 * cpus)
    threads = max(1, int(cpus) // job.actors)
    block: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
    return (
        blocks.map_batches(functools.partial(stages.decode, job=job), num_cpus=task, max_retries=_RETRIES, **block)
        .map_batches(
            stages.Model,
            fn_constructor_args=[job, threads],
            compute=ActorPoolStrategy(size=job.actors),
            max_task_retries=_RETRIES,
            **_share(job),
            **block,
        )
        .map_batches(functools.partial(stages.write, job=job), num_cpus=task, max_retries=_RETRIES, **block)
    )


def _share(job: stages.Job) -> dict[str, Any]:
    """What an actor takes of the cluster: of CPUs hardly anything, so that decoding, which takes more, is not fused
    into it. An actor that is killed while it starts comes back beside the one that replaces it, for the rest of the
    flow: with a real share of the CPUs it would keep the tasks waiting for ever."""
    gpus = ray.cluster_resources().get("GPU", 0) if job.gpu else 0
    return {"num_cpus": _ACTOR_CPU, "num_gpus": min(1, gpus / job.actors) or None}


# --- what kills workers ---


class _Probe:
    """Treats photos in a worker of its own, which may die of them; see `suspects`."""

    def __init__(self, job: stages.Job) -> None:
        self._make = ray.remote(**_share(job))(stages.Treatment).options(max_restarts=0, max_task_retries=0)
        self._job = job
        self._actor: Any = None

    def dies(self, step: str, photos: Sequence[Photo]) -> str:
        """See `suspects.Dies`."""
        self._actor = self._actor or self._make.remote(self._job)
        try:
            ray.get(getattr(self._actor, step).remote(photos))
        except ray.exceptions.RayTaskError:  # it raised, so it lives; what photos raise is a row, this is a defect
            raise
        except ray.exceptions.RayError as error:
            self._actor = None
            return "out_of_memory" if isinstance(error, ray.exceptions.OutOfMemoryError) else "worker_died"
        return ""

    def end(self) -> None:
        """Free the worker."""
        if self._actor is not None:
            ray.kill(self._actor)
