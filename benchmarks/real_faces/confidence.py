"""Whether weights know where they are wrong: expected against actual errors, in degrees."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

PARTS = 5  # of the faces, from the most to the least confident


@dataclass(frozen=True)
class Faces:
    """Mean expected and mean actual error of each of N faces [N], and both of a sample of their pixels [P]."""

    expected: NDArray[np.float64]
    actual: NDArray[np.float64]
    pixels_expected: NDArray[np.float32]
    pixels_actual: NDArray[np.float32]

    @classmethod
    def of(cls, maps: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> "Faces":
        """Of each face's expected and actual errors [P] over its mask; every eighth pixel is kept."""
        means = np.array([[expected.mean(), actual.mean()] for expected, actual in maps], np.float64)
        kept = [np.concatenate([pair[i][::8] for pair in maps]) for i in (0, 1)]
        return cls(means[:, 0], means[:, 1], *kept)

    @classmethod
    def join(cls, parts: "Sequence[Faces]") -> "Faces":
        """The faces of all parts."""
        columns = [[getattr(part, field.name) for part in parts] for field in fields(cls)]
        return cls(*(np.concatenate(column) for column in columns))

    def fifths(self) -> NDArray[np.float64]:
        """[5, 2]: mean expected and actual error of the faces, from the most confident fifth to the least."""
        order = np.argsort(self.expected, kind="stable")
        return np.array([(self.expected[i].mean(), self.actual[i].mean()) for i in np.array_split(order, PARTS)])

    def tenths(self) -> NDArray[np.float64]:
        """[10, 2]: the same of pixels, by tenths."""
        order = np.argsort(self.pixels_expected, kind="stable")
        pairs = self.pixels_expected, self.pixels_actual
        return np.array([[values[i].mean() for values in pairs] for i in np.array_split(order, 10)])

    @property
    def ratio(self) -> float:
        """The least confident fifth's error over the most confident one's."""
        return self._ratio(self.expected)

    @property
    def bound(self) -> float:
        """``ratio``, were faces sorted by their errors themselves: no confidence does better."""
        return self._ratio(self.actual)

    def _ratio(self, by: NDArray[np.float64]) -> float:
        parts = np.array_split(self.actual[np.argsort(by, kind="stable")], PARTS)
        return float(parts[-1].mean() / parts[0].mean())
