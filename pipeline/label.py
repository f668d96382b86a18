"""Stage `label`: the trained cascade over the corpora of `params.yaml`, to data/labels.

A shard that is there and fresh is kept; a stale one, or a corpus that is no longer asked for, goes.
"""

import shutil
from pathlib import Path

from casfne import config, table
from casfne.corpora.catalogue import open_corpus
from casfne.errors import InputError, guard
from casfne.labelling import fleet

OUT = Path("data/labels")
WEIGHTS = Path("data/model/model.safetensors")


@guard
def main() -> None:
    """Label every corpus; exit with 1 when more than `max_failed_share` of the images failed."""
    settings: config.Label = config.load("params.yaml", "label")
    photos = [photo for name, root in settings.corpora.items() for photo in open_corpus(name, root)]
    for folder in OUT.glob("corpus=*"):
        if (name := folder.name.removeprefix("corpus=")) not in settings.corpora:
            shutil.rmtree(folder)
            (OUT / table.ATTRIBUTES / f"corpus={name}.parquet").unlink(missing_ok=True)
    summary = fleet.run(
        photos,
        OUT,
        WEIGHTS,
        device=settings.device,
        precision=settings.precision,
        shard_rows=settings.shard_rows,
        batch=settings.batch,
        actors=settings.actors,
        overwrite=True,
        progress=lambda at: print(f"label: {at.done} of {at.total} images", flush=True),
    )
    print(f"label: {summary.images} images, {summary.faces} faces, rows by status {summary.statuses}")
    if summary.missing or summary.failed_share > settings.max_failed_share:
        reasons = "; ".join(summary.failures + summary.reasons)
        raise InputError(f"{summary.failed_share:.1%} of the images failed ({summary.missing} missing): {reasons}")


if __name__ == "__main__":
    main()
