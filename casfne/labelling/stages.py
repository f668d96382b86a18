"""What happens to a shard on its way: decode, model, write, each over a block of one row. No Ray in it: `fleet` sends
the blocks, and workers do this to them.
"""

import json
import pickle
import sys
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from casfne import schema
from casfne.corpora.record import Photo
from casfne.errors import InputError
from casfne.labelling import batches, faces, shards
from casfne.labelling import label as steps
from casfne.labelling.output import Output
from casfne.labelling.shards import Shard

Deadly = dict[str, tuple[str, str]]  # image id -> reason_code and reason, of images that killed their workers


@dataclass(frozen=True)
class Job:
    """What every stage of a run needs to know; sent to the workers."""

    out: Output
    folder: Path  # where relative paths of photos start: a worker may stand elsewhere
    make_predictor: bytes  # pickled once more: who only decodes or writes would import torch to unpickle the job
    identity: steps.Identity
    detector: faces.Detector
    options: steps.Options
    batch: int
    actors: int  # 0: found by the fleet
    gpu: bool
    timings: bool

    @property
    def made_by(self) -> dict[str, Any]:
        """See `shards.maker`."""
        return shards.maker(self.identity, self.detector, self.options)


class Treatment:
    """What happens to photos on their way, without what comes of it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model: Model | None = None

    def decode(self, photos: Sequence[Photo]) -> None:
        """Read the photos and cut out their faces."""
        _decoded(photos, {}, self.job)

    def predict(self, photos: Sequence[Photo]) -> None:
        """The same, and send the faces through the model."""
        self.model = self.model or Model(self.job, 1)
        self.model.predict(_decoded(photos, {}, self.job))


def block_of(shard: Shard, deadly: Deadly) -> pa.Table:
    """A shard as the block that `decode` takes: one row, its photos pickled."""
    photos = [replace(photo, attributes={}) for photo in shard.wanted]  # attributes have their own file
    return pa.table(
        {
            "part": [shard.part],
            "fingerprint": [shard.fingerprint],
            "images": [len(shard.wanted)],
            "again": [shard.again is not None],
            "payload": _binary(zlib.compress(pickle.dumps((photos, deadly)), 1)),  # it lies in the store till the end
        }
    )


def _binary(data: bytes) -> pa.Array:
    return pa.array([data], pa.large_binary())  # plain binary ends at 2 GiB


def _payload(block: pa.Table) -> Any:
    return pickle.loads(block["payload"][0].as_buffer())


def _replaced(block: pa.Table, payload: Any) -> pa.Table:
    packed = _binary(pickle.dumps(payload, protocol=5))
    return block.set_column(block.column_names.index("payload"), "payload", packed)


def decode(block: pa.Table, job: Job) -> pa.Table:
    """The first stage: photos become `label.Face`."""
    photos, deadly = pickle.loads(zlib.decompress(block["payload"][0].as_buffer()))
    return _replaced(block, _decoded(photos, deadly, job))


def _decoded(photos: Sequence[Photo], deadly: Deadly, job: Job) -> list[steps.Face]:
    found = []
    for photo in photos:
        if photo.image_id in deadly:
            code, reason = deadly[photo.image_id]
            found.append(steps.failed(photo, reason, code))
        else:
            found += steps.decode(photo, job.detector, job.folder)
    return found


class Model:
    """The second stage, an actor that holds the model: each `label.Face` becomes `label.Labelled`.

    InputError where the model is not the one that the run was started with.
    """

    def __init__(self, job: Job, threads: int) -> None:
        predictor: steps.Predictor = pickle.loads(job.make_predictor)()
        if (mine := steps.Identity.of(predictor)) != job.identity:
            raise InputError(f"a worker has {mine}, the run was started with {job.identity}")
        if torch := sys.modules.get("torch"):  # Ray gives it one thread
            torch.set_num_threads(threads)
        self.batch = job.batch or batches.choose(predictor)
        self.predictor, self.options = batches.Frugal(predictor), job.options

    def __call__(self, block: pa.Table) -> pa.Table:
        return _replaced(block, self.predict(_payload(block)))

    def predict(self, found: Sequence[steps.Face]) -> list[steps.Labelled]:
        """See `label.predict`; without the pixels, which no row needs."""
        labelled = steps.predict(found, self.predictor, self.batch, self.options)
        return [replace(one, face=replace(one.face, pixels=None)) for one in labelled]


def write(block: pa.Table, job: Job) -> pa.Table:
    """The last stage: write the shard; gives what there is to report of it: part, images, faces, codes (JSON of
    failures by reason_code), and failure, why it could not be written, or ""."""
    row = block.drop_columns(["payload"]).to_pylist()[0]
    done = _payload(block)
    made = [steps.to_row(labelled, job.identity, job.options) for labelled in done]
    checksums = {labelled.face.photo.image_id: labelled.face.checksum for labelled in done}
    if not job.timings:
        made = [one | {"seconds": None} for one in made]
    failure = ""
    try:
        rows: Sequence[Mapping[str, Any]] = made
        if row["again"]:
            rows = shards.merge(job.out.read(row["part"]).to_pylist(), made)
            checksums = shards.checksums(job.out, row["part"]) | checksums
        about = {"fingerprint": row["fingerprint"], "made_by": json.dumps(job.made_by)}
        about["checksums"] = json.dumps(checksums)
        job.out.write(row["part"], lambda file: schema.write(file, rows, about, job.options.encoding))
    except OSError as error:  # a full disk, say: the driver reports it
        failure = str(error) or type(error).__name__
    failed = Counter(one["reason_code"] for one in made if one["status"] in ("unreadable", "error"))
    report = {
        "part": row["part"],
        "images": row["images"],
        "faces": sum(one["status"] == "ok" for one in made),
        "codes": json.dumps(failed),
        "failure": failure,
    }
    return pa.Table.from_pylist([report])
