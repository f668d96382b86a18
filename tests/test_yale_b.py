"""The bench on real captures: what it says of predictors whose error is known."""

import sys

import numpy as np
import pytest

from benchmarks.real_faces import yale_b
from casfne.normals import angle_deg


@pytest.fixture(scope="module")
def people(shared_data):
    if not yale_b.YALE_B.is_dir():
        pytest.skip("no captures: ../shared/data/yale_b does not exist")
    return yale_b.people()


def test_the_reference_itself_is_right_but_for_resampling(people):
    for person in people:
        figures = yale_b.measure(person, yale_b.always(person.in_crop()))
        assert figures["mean_deg"] < 1.5 and max(figures["bins"].values()) < 1.5


def test_a_face_in_the_crop_returns_to_its_pixels(people):
    y, x = np.mgrid[:192, :168]
    smooth = np.stack([x / 168 - 0.5, 0.5 - y / 192, np.ones((192, 168))], -1).astype(np.float32)
    for person in people:
        back = person.at_source(person.crop.apply(smooth))
        inside = person.plain.mask
        assert angle_deg(back, smooth / np.linalg.norm(smooth, axis=-1, keepdims=True))[inside].max() < 0.1


def test_baselines_are_where_faces_put_them(people):
    flat, other = yale_b.flat(), yale_b.other_person()
    for person in people:
        assert 24 < flat[person.name]["mean_deg"] < 33
        assert 10 < other[person.name]["mean_deg"] < 20
    assert flat["pooled"]["bins"].keys() == {"0-15", "15-30", "30-45", "45-60", "60-77", "77-180"}


def test_faces_are_frontal_and_mostly_believed(people):
    for person in people:
        for reference in (person.plain, person.strict):
            assert abs(reference.normals[reference.mask][:, 0].mean()) < 0.05
            assert 0.6 < reference.mask.mean() < 0.8


def test_a_predictor_gets_the_files_pixels(people):
    seen = []

    def network(crops):
        seen.append(crops)
        return yale_b.always(np.array([0, 0, 1], np.float32))(crops)

    person = people[0]
    yale_b.measure(person, network)
    as_is, encoded = seen
    assert as_is.shape == (64, 256, 256, 3) and as_is.dtype == encoded.dtype == np.uint8
    assert (as_is[0] == person.crop.apply(person.images[0])).all()
    near = as_is[person.angles_deg < yale_b.FRONTAL_DEG]
    assert len(encoded) == len(near) and encoded.mean() > near.mean() + 20


def test_missing_captures_are_one_line_and_exit_code_1(monkeypatch, capsys, tmp_path):
    yale_b.people.cache_clear()
    monkeypatch.setattr(yale_b, "YALE_B", tmp_path / "nowhere")
    monkeypatch.setattr(sys, "argv", ["yale_b", "any.safetensors"])
    with pytest.raises(SystemExit) as stop:
        yale_b.main()
    message = capsys.readouterr().err
    assert stop.value.code == 1 and len(message.splitlines()) == 1 and "nowhere" in message
