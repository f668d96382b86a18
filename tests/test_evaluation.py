"""Angular error: closed forms, pooling, the trivial predictors, splits without leaks."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casfne.corpora.samples import write_archive
from casfne.corpora.split import rows_of, split_subjects
from casfne.errors import InputError
from casfne.evaluation.evaluate import evaluate, mean_map
from casfne.evaluation.metrics import masked_errors, summarise
from casfne.normals import direction, sphere


def test_errors_are_taken_over_the_mask():
    truth = np.broadcast_to(np.float32([0, 0, 1]), (4, 4, 3))
    prediction = np.broadcast_to(direction(10, 0), (4, 4, 3)).copy()
    prediction[0] = -1
    mask = np.ones((4, 4), bool)
    mask[0] = False
    assert masked_errors(prediction, truth, mask) == pytest.approx(np.full(12, 10), abs=1e-3)
    with pytest.raises(ValueError, match="shapes differ"):
        masked_errors(prediction[:3], truth, mask)


@given(st.lists(st.floats(0, 180), min_size=1, max_size=50))
def test_summary_against_straight_numpy(errors):
    numbers, e = summarise(errors), np.array(errors)
    assert numbers["mean_deg"] == pytest.approx(e.mean()) and numbers["std_deg"] == pytest.approx(e.std())
    assert numbers["median_deg"] == pytest.approx(np.median(e))
    assert numbers["below_11.25_deg"] == pytest.approx(np.mean(e < 11.25))
    shares = [numbers[f"below_{t}_deg"] for t in ("5", "7.5", "11.25", "20", "25", "30")]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1


def test_no_pixels_is_not_a_perfect_score():
    assert np.isnan(summarise([])["mean_deg"])


class Exact:
    """A predictor that knows the sphere, and is 10 degrees off at t = 0."""

    refinements = 1

    def predict_stages(self, crops):
        n, _ = sphere(256)
        off = n @ np.array(
            [[np.cos(np.pi / 18), 0, -np.sin(np.pi / 18)], [0, 1, 0], [np.sin(np.pi / 18), 0, np.cos(np.pi / 18)]]
        )
        return np.broadcast_to(np.stack([off, n]).astype(np.float32), (len(crops), 2, 256, 256, 3))


def test_every_stage_and_the_trivial_predictors_are_scored(tmp_path):
    n, mask = sphere(256)
    image = np.zeros((1, 256, 256, 3), np.uint8)
    rows = []
    for i in range(4):
        truth = {"normal": n, "mask": mask & (np.arange(256) < 128 + 32 * i), "trust": mask, "albedo": mask}
        write_archive(tmp_path / f"{i}.npz", image, truth)
        rows.append({"sample_id": str(i), "archive": f"{i}.npz", "light": 0, "subject": str(i)})
    index = pd.DataFrame(rows)
    result = evaluate(Exact(), tmp_path, index[2:], index[:2], batch=1)
    by_pixel = result.metrics["by_pixel"]
    assert by_pixel["t1"]["mean_deg"] < 0.1 and 5 < by_pixel["t0"]["mean_deg"] < 10.1
    assert by_pixel["constant"]["mean_deg"] > 20
    assert by_pixel["mean_map"]["mean_deg"] < by_pixel["constant"]["mean_deg"]
    assert result.metrics["images"] == 2 and len(result.per_image) == 2 * 4
    assert (mean_map(tmp_path, index[:1])[0, 0] == [0, 0, 1]).all()


@given(st.integers(2, 60), st.floats(0.05, 0.95), st.integers(0, 5))
def test_splits_never_leak(count, share, seed):
    people = [f"{i:04d}" for i in range(count)]
    split = split_subjects(people * 3, share, seed)
    assert not set(split["train"]) & set(split["test"])
    assert sorted(split["train"] + split["test"]) == people
    assert split["train"] and split["test"]
    assert split == split_subjects(people[::-1], share, seed)


def test_leaks_and_strangers_are_named():
    index = pd.DataFrame({"subject": ["1", "2", "2"]})
    assert len(rows_of(index, {"train": ["1"], "test": ["2"]}, "test")) == 2
    with pytest.raises(InputError, match="2 is in both"):
        rows_of(index, {"train": ["1", "2"], "test": ["2"]}, "train")
    with pytest.raises(InputError, match="3 is in only one"):
        rows_of(index, {"train": ["1"], "test": ["2", "3"]}, "train")
    with pytest.raises(InputError, match="1 people"):
        split_subjects(["1", "1"], 0.2, 0)
