import numpy as np
import pytest
import torch
import torch.nn.functional as F

import casfne
from casfne.errors import InputError
from casfne.model import confidence
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import save_weights
from casfne.model.confidence import EVIDENCE, LEAST_DEG, MOST_DEG, Cells

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


def cells(found, errors, pictures=None, summaries=None):
    """Cells that are pictures of their own, or of ``pictures``."""
    each = torch.arange(len(found)) if pictures is None else pictures
    return Cells(found, errors, each, torch.zeros(int(each.max()) + 1, 2) if summaries is None else summaries)


def test_the_fit_finds_what_made_the_errors():
    draws = np.random.default_rng(0)
    found = torch.from_numpy(draws.normal(size=(20000, len(EVIDENCE)))).float()
    found[:, 0] = 1
    pictures, summaries = torch.arange(20000) // 2, torch.from_numpy(draws.normal(3, 2, size=(10000, 2))).float()
    truth = dict.fromkeys(confidence.names(2), 0.0)
    truth |= {"one": 2.0, "slant": 0.5, "brightness around": -0.3, "structure 1": 0.2}
    *of_pixels, _, of_picture = truth.values()
    mean = (found @ torch.tensor(of_pixels) + of_picture * summaries[pictures, 1]).exp()
    errors = torch.from_numpy(draws.gamma(3, mean / 3)).float()
    weights = confidence.fit(cells(found, errors, pictures, summaries))
    assert weights.keys() == truth.keys()
    assert np.allclose(list(weights.values()), list(truth.values()), atol=0.03)


def test_what_does_not_vary_gets_no_weight():
    found = torch.randn(500, len(EVIDENCE), generator=torch.Generator().manual_seed(0))
    found[:, 0], found[:, 3] = 1, 0.7
    weights = confidence.fit(cells(found, found[:, 1].exp() * 5))
    assert weights["slant"] == weights["structure 0"] == 0 and weights["last move"] == pytest.approx(1, abs=0.02)


def test_a_picture_counts_as_much_as_one_of_fewer_cells():
    found = torch.zeros(101, len(EVIDENCE))
    found[:, 0] = 1
    errors = torch.full((101,), 4.0)
    errors[0] = 16
    weights = confidence.fit(cells(found, errors, torch.tensor([0] + [1] * 100)))
    assert np.exp(weights["one"]) == pytest.approx(10, abs=0.01)


def test_few_pictures_say_little_of_what_they_are_like():
    draws = torch.Generator().manual_seed(0)

    def weight(count):
        found, summaries = torch.zeros(count, len(EVIDENCE)), torch.randn(count, 2, generator=draws)
        found[:, 0] = 1
        return confidence.fit(cells(found, 5 * (0.3 * summaries[:, 0]).exp(), None, summaries))["structure 0"]

    assert 0 < weight(8) < 0.02 < 0.27 < weight(10_000) < 0.31


def test_joined_cells_keep_their_pictures():
    one = Cells(torch.zeros(3, 2), torch.arange(3), torch.tensor([0, 1, 1]), torch.tensor([[1.0], [2]]))
    two = Cells(torch.ones(1, 2), torch.tensor([9]), torch.tensor([0]), torch.tensor([[3.0]]))
    joined = Cells.join([one, two])
    assert joined.picture.tolist() == [0, 1, 1, 2] and joined.summaries[joined.picture, 0].tolist() == [1, 2, 2, 3]
    assert joined.errors_deg.tolist() == [0, 1, 2, 9] and joined.found.sum() == 2


def test_expectations_keep_within_bounds_and_are_as_large_as_the_picture():
    images, stages = faces()
    summary = torch.tensor([[0.0, 1], [0, 2]])
    for one, bound in ((-9.0, LEAST_DEG), (9.0, MOST_DEG)):
        assert (confidence.expected_error_deg(images, stages, summary, {"one": one}) == bound).all()
    weights = {"one": float(np.log(6)), "structure 1": float(np.log(2))}
    found = confidence.expected_error_deg(images, stages, summary, weights)
    assert found.shape == (2, SIZE, SIZE)
    assert torch.allclose(found, torch.tensor([12.0, 24]).view(2, 1, 1).expand_as(found))


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_summary_is_of_the_picture_alone_and_a_mirror_image_has_the_same_where_both_are_seen(symmetric):
    torch.manual_seed(0)
    network = Cascade(CascadeConfig(4, 1, symmetric=symmetric)).eval()
    pictures = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        stages, summary = network.with_summary(pictures)
        assert all((a == b).all() for a, b in zip(stages, network(pictures), strict=True))
        _, alone = network.with_summary(pictures[1:])
        _, mirrored = network.with_summary(pictures.flip(-1))
    assert summary.shape == (2, 256 + 512) and summary.dtype == torch.float32
    assert torch.allclose(alone, summary[1:], atol=1e-5)
    assert torch.allclose(mirrored, summary, atol=1e-5) == symmetric


def weights_of(path, confidence):
    save_weights(path, Cascade(CascadeConfig(4, 1)), {"confidence": confidence})
    return path


def test_the_predictor_expects_errors_by_pixel(tmp_path):
    crops = np.random.default_rng(0).integers(0, 255, (2, 256, 256, 3), dtype=np.uint8)
    weights = {"one": 2.0, "brightness": 0.1, "structure 7": 0.1}
    predictor = casfne.load(weights_of(tmp_path / "w.safetensors", weights), "cpu")
    stages, expected = predictor.assess(crops)
    assert (stages == predictor.predict_stages(crops)).all()
    assert expected.shape == (2, 256, 256) and expected.dtype == np.float32 and (expected > 0).all()
    _, alone = predictor.assess(crops[1:])
    assert np.allclose(alone[0], expected[1], rtol=0.02)  # a batch may round otherwise


def test_weights_without_a_fit_expect_nothing_and_unknown_evidence_is_refused(tmp_path):
    crops = np.zeros((1, 256, 256, 3), np.uint8)
    predictor = casfne.load(weights_of(tmp_path / "w.safetensors", None), "cpu")
    assert np.isnan(predictor.assess(crops)[1]).all()
    for unknown in ("hue", "structure 768"):
        with pytest.raises(InputError, match=f"confidence by '{unknown}'"):
            casfne.load(weights_of(tmp_path / "x.safetensors", {unknown: 1.0}), "cpu")
