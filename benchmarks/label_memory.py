"""Does memory grow with the corpus? Peaks of the driver and of Ray's store while a stand-in model labels.

    python -m benchmarks.label_memory 2000 50000     # minutes; prints the peaks, and how much they grow

Each size runs in a process of its own. Photos are one JPEG under many names, so that only the number of images
differs. Peaks are the resident memory of the driver, libraries and all, and the store's fill by Ray's account.

What grows, for each image: the caller's list of `Photo` (some 0.3 KB with points), and nothing else for long: shards
go to the workers in waves of 4096, whose lists of photos lie in the store (some 8 KB a shard of 256), results are
counts, and the summary and the index read some shards at a time. docs/labels.md says what larger corpora would cost.
"""

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (2_000, 50_000)
SHARD = 64
_CODE = "import json; from benchmarks.label_memory import measure; print(json.dumps(measure({count})))"


class Flat:
    """A predictor that gives the same face for every crop, at once."""

    name, sha256, refinements, precision = "flat", "0" * 64, 0, "fp32"

    def assess(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `casfne.labelling.label.Predictor`."""
        stages = np.broadcast_to(np.float32([0, 0, 1]), (len(crops), 1, 256, 256, 3))
        return stages, np.full(crops.shape[:3], np.nan, np.float32)


class Whole:
    """A detector for which a picture is one face."""

    identity = "whole"

    def __call__(self, image: np.ndarray) -> list[Any]:
        """See `casfne.labelling.faces.Detector`."""
        from casfne.images import centre_crop

        return [centre_crop(*image.shape[:2])]


def run() -> list[Any]:
    """Nothing for `make bench`: this takes too long."""
    return []


def measure(count: int) -> dict[str, float]:
    """Label ``count`` images in this process: MB of driver and store at their peaks, images/s."""
    import ray

    from benchmarks.labelling import make_photos
    from casfne.cluster import connected
    from casfne.corpora.record import Photo
    from casfne.labelling import fleet
    from casfne.labelling.label import Identity

    with tempfile.TemporaryDirectory() as temporary, connected(None):
        (one,) = make_photos(Path(temporary) / "photos", 1)
        fleet.label([one], Path(temporary) / "warm", Flat, Identity.of(Flat()), detector=Whole(), gpu=False)
        watch = _Watch(ray)
        began = time.perf_counter()
        photos = [Photo("bench", f"{i:08d}", one.path, one.points) for i in range(count)]
        out = Path(temporary) / "labels"
        fleet.label(photos, out, Flat, Identity.of(Flat()), detector=Whole(), shard_rows=SHARD, gpu=False)
        taken = time.perf_counter() - began
        watch.stop()
    driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": count, "driver_mb": driver, "store_mb": watch.store, "images_per_s": count / taken}


class _Watch:
    """Looks at the store five times a second."""

    def __init__(self, ray: Any) -> None:
        self.store = 0.0
        self._ray, self._done = ray, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        total = self._ray.cluster_resources()["object_store_memory"]
        while not self._done.wait(0.2):
            free = self._ray.available_resources().get("object_store_memory", 0.0)
            self.store = max(self.store, (total - free) / 2**20)

    def stop(self) -> None:
        """Look no longer."""
        self._done.set()
        self._thread.join()


def main() -> None:
    """A line for each size, and how much the peaks grow from the first to the last."""
    sizes = [int(argument) for argument in sys.argv[1:]] or list(SIZES)
    results = []
    for count in sizes:
        command = [sys.executable, "-c", _CODE.format(count=count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(", ".join(f"{name} {value:,.0f}" for name, value in results[-1].items()), flush=True)
    for name in ("driver_mb", "store_mb"):
        print(f"{name}: {results[-1][name] / max(results[0][name], 1e-9) - 1:+.1%}")


if __name__ == "__main__":
    main()
