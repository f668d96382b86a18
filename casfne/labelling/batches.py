"""How many faces go into the network at once, found by itself."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casfne import images
from casfne.labelling.label import Predictor

# on a CPU the predictor computes four at once (`predictor.CPU_CHUNK`: more overflow the cache), so that a larger batch
# gains nothing; two such chunks keep what is copied around them small
CPU_BATCH = 8
_FIRST, _LARGEST = 8, 1024
_SHARE = 0.6  # of the device's memory: the rest is for what else runs there, and for fragments


class Frugal:
    """A predictor within its device's memory: a batch that does not fit is halved, and so are those after it."""

    def __init__(self, predictor: Predictor) -> None:
        self.inner = predictor
        self.name, self.sha256 = predictor.name, predictor.sha256
        self.refinements, self.precision = predictor.refinements, predictor.precision
        self.limit = sys.maxsize

    def assess(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See Predictor. What does not fit even alone raises what the device raised."""
        done: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        first = 0
        while first < len(crops):
            part = crops[first : first + self.limit]
            try:
                done.append(self.inner.assess(part))
                first += len(part)
            except Exception as error:
                if not out_of_memory(error) or len(part) == 1:
                    raise
                self.limit = len(part) // 2
                _forget()
        stages, expected = map(np.concatenate, zip(*done, strict=True))
        return stages, expected


def out_of_memory(error: Exception) -> bool:
    """Whether this is what Python or torch raise when memory is short."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def choose(predictor: Any) -> int:
    """The batch for a predictor: CPU_BATCH, or on a GPU the largest power of two within a share of its memory.

    Memory grows with the batch: what one batch took at its peak tells what the next, twice as large, would take.
    """
    device = getattr(predictor, "device", None)
    if getattr(device, "type", "cpu") != "cuda":
        return CPU_BATCH
    import torch

    batch, room = _FIRST, _SHARE * torch.cuda.mem_get_info(device)[0]
    while batch < _LARGEST:
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        try:
            predictor.assess(np.zeros((batch, images.SIZE, images.SIZE, 3), np.uint8))
        except Exception as error:
            if not out_of_memory(error) or batch == 1:
                raise
            _forget()
            return max(batch // 2, 1)
        if 2 * (torch.cuda.max_memory_allocated(device) - held) > room:
            break
        batch *= 2
    return batch


def _forget() -> None:
    if torch := sys.modules.get("torch"):
        torch.cuda.empty_cache()  # nothing where there is no GPU in use
