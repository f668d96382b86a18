"""The bench of expected errors: fifths, ratio and bound of faces whose errors are known."""

import numpy as np
import pytest

from benchmarks.real_faces.confidence import Faces


def faces(expected, actual):
    """One face a number; all its four pixels are alike."""
    return Faces.of(
        [(np.full(4, e, np.float32), np.full(4, a, np.float32)) for e, a in zip(expected, actual, strict=True)]
    )


def test_who_knows_the_errors_reaches_the_bound():
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 11))
    told = faces(errors, errors)
    assert told.ratio == told.bound == pytest.approx(9.5 / 1.5)
    assert np.allclose(told.fifths(), np.array([1.5, 3.5, 5.5, 7.5, 9.5])[:, None])
    assert np.allclose(told.tenths(), np.arange(1.0, 11)[:, None])


def test_who_knows_nothing_stays_below_it_and_who_is_wrong_below_one():
    draws = np.random.default_rng(0)
    errors = draws.uniform(5, 15, 5000)
    assert faces(draws.uniform(5, 15, 5000), errors).ratio == pytest.approx(1, abs=0.05)
    assert faces(-errors, errors).ratio == pytest.approx(1 / faces(errors, errors).bound)


def test_together_they_are_all_there():
    one, two = faces([5, 6, 7], [8, 8, 8]), faces([1, 2], [3, 4])
    joined = Faces.join([one, two])
    assert joined.expected.tolist() == [5, 6, 7, 1, 2] and joined.actual.tolist() == [8, 8, 8, 3, 4]
    assert len(joined.pixels_expected) == len(joined.pixels_actual) == 5
