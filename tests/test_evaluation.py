"""Angular error: closed forms, pooling, the trivial predictors, splits without leaks."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casfne.corpora.samples import write_archive
from casfne.corpora.split import rows_of, split_subjects
from casfne.errors import InputError
from casfne.evaluation.bins import bins_of
from casfne.evaluation.evaluate import evaluate, mean_map
from casfne.evaluation.metrics import masked_errors, median, summarise, unit_vectors
from casfne.evaluation.protocol import PROTOCOL
from casfne.evaluation.regions import PLACES, REGIONS, region_map
from casfne.evaluation.tally import Tally
from casfne.images import crop_from_points
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
    assert numbers["rmse_deg"] == pytest.approx(np.sqrt(np.mean(e**2)))
    assert numbers["below_11.25_deg"] == pytest.approx(np.mean(e < 11.25))
    shares = [numbers[f"below_{t}_deg"] for t in ("5", "7.5", "11.25", "20", "25", "30")]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1


def test_an_error_at_a_threshold_is_not_below_it():
    assert summarise([5.0, 11.25])["below_5_deg"] == 0 and summarise([5.0, 11.25])["below_11.25_deg"] == 0.5


ERRORS = st.lists(st.floats(0, 180, width=32), max_size=30)


@settings(deadline=None)
@given(st.lists(ERRORS, min_size=1, max_size=6).filter(any))
def test_the_median_of_pieces_is_exact(lists):
    pieces = [np.array(one, np.float32) for one in lists]
    assert median(pieces) == np.median(np.concatenate(pieces).astype(np.float64))


def test_the_median_of_many_alike():
    pieces = [np.full(1000, 90, np.float32), np.arange(999, dtype=np.float32) / 10, np.full(3, 0, np.float32)]
    assert median(pieces) == np.median(np.concatenate(pieces))


@settings(deadline=None)
@given(st.floats(0, 2), st.integers(0, 3))
def test_what_has_not_length_one_is_no_normal(length, which):
    vectors = np.float32([[0, 0, 1], [0.6, 0, 0.8], [0, -1, 0], [0, 0, -1]])
    vectors[which] *= np.float32(length)
    unit, there = unit_vectors(vectors)
    assert there[which] == (0.8 <= length <= 1.2) or min(abs(length - 0.8), abs(length - 1.2)) < 1e-6
    assert there.sum() >= 3 and np.allclose(np.linalg.norm(unit[there], axis=-1), 1) and not unit[~there].any()


def test_a_pixel_without_a_normal_counts_as_90_degrees():
    truth = np.broadcast_to(np.float32([0, 0, 1]), (1, 5, 3))
    found = np.float32([[[0, 0, 1], [np.nan, 0, 1], [0, 0, 0], [np.inf, 0, 0], [0, 0, -1]]])
    assert masked_errors(found, truth, np.ones((1, 5), bool)).tolist() == [0, 90, 90, 90, 180]


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


def test_people_of_the_training_are_refused(tmp_path):
    index = pd.DataFrame({"subject": ["a", "b"], "archive": ["0.npz"] * 2, "light": 0, "sample_id": ["0", "1"]})
    with pytest.raises(InputError, match="b is among the training people"):
        evaluate(Exact(), tmp_path, index, index[1:], batch=1)


def test_every_result_says_what_it_counts_and_by_which_protocol(tmp_path):
    n, mask = sphere(256)
    truth = {"normal": n, "mask": mask, "trust": mask, "albedo": mask}
    write_archive(tmp_path / "0.npz", np.full((1, 256, 256, 3), 128, np.uint8), truth)
    rows = [{"sample_id": str(i), "archive": "0.npz", "light": 0, "subject": str(i), "yaw_deg": 20.0} for i in range(3)]
    index = pd.DataFrame(rows)
    metrics = evaluate(Exact(), tmp_path, index[:2], index[2:], batch=2).metrics
    assert metrics["protocol_sha256"] == PROTOCOL.sha256
    for name in ("constant", "mean_map", "t0", "t1"):
        assert metrics["by_pixel"][name]["low_deg"] <= metrics["by_pixel"][name]["mean_deg"] + 1e-12
        assert metrics["by_image"][name]["images"] == 2 and metrics["bins"][name]["yaw"]["15 to 30 deg"]["images"] == 2
        assert sum(r["pixels"] for r in metrics["regions"][name].values()) == metrics["pixels"] == 2 * mask.sum()


def test_the_protocol_is_frozen():
    """Change it only with its version: numbers of two protocols cannot be compared."""
    assert (PROTOCOL.version, PROTOCOL.sha256[:16]) == (1, "1bc503eba00dd25a")


# --- regions, kinds, intervals ---

# of an average face, as recognisers align it: 112 pixels of its own, and in a crop of 256
ALIGNED = np.array([[38.3, 51.6], [73.5, 51.6], [56.0, 71.7], [41.5, 92.3], [70.7, 92.3]])
POINTS = (ALIGNED - [56, 71.9]) * 2.25 + 127.5


def at(labels, points):
    return [REGIONS[labels[int(y), int(x)]] for x, y in points]


def test_the_regions_lie_where_their_names_say():
    mask = np.zeros((256, 256), bool)
    mask[10:250, 30:226] = True
    places = [(88, 82), (167, 82), (128, 120), (128, 173), (68, 135), (188, 135), (128, 30), (128, 220), (33, 130)]
    names = ["eyes", "eyes", "nose", "mouth", "cheeks", "cheeks", "forehead", "chin", "rim"]
    assert at(region_map(mask), places) == names == at(region_map(mask, POINTS), places)
    assert set(np.unique(region_map(mask)[mask])) == set(range(len(REGIONS)))


def test_the_standard_places_are_those_of_the_crop_convention():
    crop = crop_from_points(ALIGNED)
    shares = (ALIGNED + 0.5 - [crop.left, crop.top]) / crop.side
    assert np.abs(shares - PLACES.standard).max() < 0.025


@settings(deadline=None)
@given(st.floats(-60, 60), st.floats(0.6, 1.5))
def test_regions_turn_and_grow_with_the_points(roll_deg, scale):
    mask = np.ones((256, 256), bool)
    angle, centre = np.radians(roll_deg), np.array([128, 128])
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    places = np.array([(88, 82), (167, 82), (128, 120), (128, 173), (68, 135), (188, 135)])
    moved = (places - centre) @ turn + centre
    labels = region_map(mask, (POINTS - centre) @ turn + centre)
    assert at(labels, np.clip(moved, 0, 255)) == ["eyes", "eyes", "nose", "mouth", "cheeks", "cheeks"]


def test_holes_and_the_cut_of_the_picture_are_no_rim():
    mask = np.ones((256, 256), bool)
    mask[120:130, 60:70] = False
    assert "rim" not in at(region_map(mask), [(0, 128), (58, 125), (255, 255)])
    mask[:, :20] = False
    assert at(region_map(mask), [(22, 128), (58, 125)]) == ["rim", "cheeks"]


def test_68_points_say_the_same_as_their_five():
    sixty_eight = np.zeros((68, 2))
    sixty_eight[36:42], sixty_eight[42:48], sixty_eight[30] = POINTS[:3]
    sixty_eight[48], sixty_eight[54] = POINTS[3:]
    mask = sphere(256)[1]
    assert (region_map(mask, sixty_eight) == region_map(mask, POINTS)).all()
    with pytest.raises(ValueError, match="one place"):
        region_map(mask, np.zeros((5, 2)))


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        ({"yaw_deg": -14.9}, {"yaw": "under 15 deg"}),
        ({"yaw_deg": -75.0, "pose": "5"}, {"yaw": "60 deg and more", "pose": "5"}),
        ({"light_azimuth_deg": 20.0, "pose": pd.NA}, {"light_azimuth": "20 to 60 deg"}),
        ({"light_azimuth_deg": float("nan"), "yaw_deg": None}, {}),
    ],
)
def test_kinds_are_those_of_the_index(row, kinds):
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2] = 255
    upper = np.arange(4)[:, None] < np.full((1, 4), 2)
    assert bins_of(row, image, upper) == kinds | {"luma": "0.55 and more"}
    assert bins_of(row, image, ~upper) == kinds | {"luma": "under 0.25"}


def tallied(errors_of_people):
    tally = Tally()
    for person, images in enumerate(errors_of_people):
        for i, errors in enumerate(images):
            errors = np.asarray(errors, np.float32)
            tally.add(f"{person}_{i}", str(person), errors, np.zeros(errors.shape, np.uint8), {})
    return tally.statistics()


def test_intervals_come_from_people_not_from_pixels():
    random = np.random.default_rng(0)
    people = random.normal(10, 3, 40)
    few = [[np.full(50, mean)] for mean in people]
    more = [[np.full(500, mean)] * 4 for mean in people]
    narrow, wide = tallied(more)["by_pixel"], tallied(few)["by_pixel"]
    assert narrow["low_deg"] == pytest.approx(wide["low_deg"]) and narrow["high_deg"] == pytest.approx(wide["high_deg"])
    assert wide["high_deg"] - wide["low_deg"] == pytest.approx(2 * 1.96 * people.std() / np.sqrt(40), rel=0.15)
    assert tallied(few) == tallied(few)


def test_an_image_is_one_whatever_its_size():
    found = tallied([[np.full(10, 4.0)], [np.full(1000, 8.0)]])
    assert found["by_image"]["mean_deg"] == 6 and found["by_image"]["std_deg"] == 2
    assert found["by_pixel"]["mean_deg"] == pytest.approx((40 + 8000) / 1010)


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
