"""How far a run is."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_RECENT = 64  # reports over which the rate is taken: the start is slow, and machines come and go


@dataclass(frozen=True)
class Progress:
    """How far a run is. What was there before it counts as done; faces and failures are those of this run."""

    done: int  # images
    total: int
    faces: int  # labelled
    failures: dict[str, int]  # rows that are unreadable or in error, by reason_code
    images_per_s: float  # over the last shards; 0 until two have come
    seconds_left: float | None  # at that rate; None while there is none


class Meter:
    """Adds up what shards report and tells ``tell``, at once with what is there already."""

    def __init__(self, done: int, total: int, tell: Callable[[Progress], None] | None) -> None:
        self._done, self._total, self._tell = done, total, tell
        self._faces = 0
        self._failures: Counter[str] = Counter()
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._report()

    def add(self, images: int, faces: int = 0, failures: Mapping[str, int] | None = None) -> None:
        """A shard is done."""
        self._done += images
        self._faces += faces
        self._failures.update(failures or {})
        self._recent.append((time.monotonic(), self._done))
        self._report()

    def _report(self) -> None:
        if self._tell:
            rate = self._rate()
            left = (self._total - self._done) / rate if rate else None
            self._tell(Progress(self._done, self._total, self._faces, dict(self._failures), rate, left))

    def _rate(self) -> float:
        if len(self._recent) < 2:
            return 0.0
        (began, first), (ended, last) = self._recent[0], self._recent[-1]
        return (last - first) / max(ended - began, 1e-9)
