import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import casfne
from casfne.errors import InputError
from casfne.model import confidence
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import save_weights
from casfne.model.confidence import EVIDENCE, LEAST_DEG, MOST_DEG

SIZE = 32


def faces(count=2, stages=3, seed=0):
    """Images and stages of random smooth maps."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count * (stages + 1), 3, 4, 4, generator=draws)
    smooth = F.interpolate(coarse, (SIZE, SIZE), mode="bicubic").view(count, stages + 1, 3, SIZE, SIZE)
    normals = F.normalize(smooth[:, 1:] + torch.tensor([0, 0, 3.0]).view(3, 1, 1), dim=2)
    return smooth[:, 0].sigmoid(), normals


def named(evidence, name):
    return evidence[:, EVIDENCE.index(name)]


def test_evidence_says_what_its_names_say():
    images, stages = faces()
    found = confidence.evidence(images, stages)
    assert found.shape == (2, len(EVIDENCE), SIZE // 4, SIZE // 4) and torch.isfinite(found).all()
    further = stages.clone()
    further[:, -1] = F.normalize(2 * stages[:, -1] - stages[:, -2], dim=1)
    assert (named(confidence.evidence(images, further), "last move") > named(found, "last move")).float().mean() > 0.9
    brighter = confidence.evidence(images * 0.5 + 0.5, stages)
    assert (named(brighter, "brightness") > named(found, "brightness")).all()
    assert (named(found, "relief of the crop").std((1, 2)) < 1e-5).all()
    whole = named(found, "last move").mean((1, 2))
    assert torch.allclose(named(found, "last move of the crop")[:, 0, 0], whole, atol=1e-5)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_evidence_of_black_and_white_pictures_and_of_few_stages_is_finite(stages, level):
    _, normals = faces(stages=stages)
    found = confidence.evidence(torch.full((2, 3, SIZE, SIZE), level), normals)
    assert torch.isfinite(found).all()
    if stages == 1:
        assert (named(found, "last move") == named(found, "last move").min()).all()  # nothing moved


def test_a_mirrored_face_has_mirrored_evidence():
    images, stages = faces()
    mirrored = stages.flip(-1) * torch.tensor([-1, 1, 1.0]).view(3, 1, 1)
    both = confidence.evidence(images, stages), confidence.evidence(images.flip(-1), mirrored).flip(-1)
    assert torch.allclose(*both, atol=0.02)  # logarithms of nearly nothing


def test_the_fit_finds_what_made_the_errors():
    draws = np.random.default_rng(0)
    found = torch.from_numpy(draws.normal(size=(20000, len(EVIDENCE)))).float()
    found[:, 0] = 1
    truth = dict.fromkeys(EVIDENCE, 0.0) | {"one": 2.0, "slant": 0.5, "brightness around": -0.3}
    mean = (found @ torch.tensor(list(truth.values()))).exp()
    errors = torch.from_numpy(draws.gamma(3, mean / 3)).float()
    weights = confidence.fit(found, errors, torch.ones(len(found)))
    assert weights.keys() == truth.keys()
    assert np.allclose(list(weights.values()), list(truth.values()), atol=0.03)


def test_what_does_not_vary_gets_no_weight_and_what_counts_nothing_changes_nothing():
    found = torch.randn(500, len(EVIDENCE), generator=torch.Generator().manual_seed(0))
    found[:, 0], found[:, 3] = 1, 0.7
    errors, counts = found[:, 1].exp() * 5, torch.ones(500)
    weights = confidence.fit(found, errors, counts)
    assert weights["slant"] == 0 and weights["last move"] == pytest.approx(1, abs=0.02)
    more = torch.cat([found, found]), torch.cat([errors, 0 * errors + 90]), torch.cat([counts, 0 * counts])
    assert list(confidence.fit(*more).values()) == pytest.approx(list(weights.values()), abs=0.02)


def test_expectations_keep_within_bounds_and_are_as_large_as_the_picture():
    images, stages = faces()
    for one, bound in ((-9.0, LEAST_DEG), (9.0, MOST_DEG)):
        assert (confidence.expected_error_deg(images, stages, {"one": one}) == bound).all()
    twice = confidence.expected_error_deg(images, stages, {"one": float(np.log(6))})
    assert twice.shape == (2, SIZE, SIZE) and torch.allclose(twice, torch.tensor(6.0))


def weights_of(path, confidence):
    save_weights(path, Cascade(CascadeConfig(4, 1)), {"confidence": confidence})
    return path


def test_the_predictor_expects_errors_by_pixel(tmp_path):
    crops = np.random.default_rng(0).integers(0, 255, (2, 256, 256, 3), dtype=np.uint8)
    predictor = casfne.load(weights_of(tmp_path / "w.safetensors", {"one": 2.0, "brightness": 0.1}), "cpu")
    stages = predictor.predict_stages(crops)
    expected = predictor.expected_error_deg(crops, stages)
    assert expected.shape == (2, 256, 256) and expected.dtype == np.float32 and (expected > 0).all()
    alone = predictor.expected_error_deg(crops[1:], stages[1:])[0]
    assert np.allclose(alone, expected[1], atol=1e-4)


def test_weights_without_a_fit_expect_nothing_and_unknown_evidence_is_refused(tmp_path):
    crops = np.zeros((1, 256, 256, 3), np.uint8)
    predictor = casfne.load(weights_of(tmp_path / "w.safetensors", None), "cpu")
    assert np.isnan(predictor.expected_error_deg(crops, predictor.predict_stages(crops))).all()
    with pytest.raises(InputError, match="confidence by 'hue'"):
        casfne.load(weights_of(tmp_path / "x.safetensors", json.loads('{"hue": 1.0}')), "cpu")
