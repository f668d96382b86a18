"""The cascade: shapes, gradients, determinism, sizes of the paper; checkpoints; the predictor."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import casfne
from casfne.errors import InputError
from casfne.model.cascade import Cascade, CascadeConfig, build, count_parameters
from casfne.model.checkpoints import load_weights, save_weights
from casfne.model.discriminator import Discriminator
from casfne.model.predictor import as_crops, choose_device, choose_precision


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Cascade(CascadeConfig(width=4, refinements=2)).eval()


@pytest.fixture
def weights(network, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(path, network, {"confidence": [2.0, 0.5]})
    return path


def test_the_papers_network_has_the_papers_size():
    full = Cascade(CascadeConfig(width=32, refinements=2))
    assert count_parameters(full) == 18_102_758
    assert count_parameters(full.structure) + count_parameters(full.initial) == 11_767_683


def test_every_stage_gives_unit_normals(network):
    image = torch.rand(2, 3, 64, 96)
    stages = network(image)
    assert len(stages) == 3 and len(network(image, 0)) == 1 and len(network(image, 4)) == 5
    for stage in stages:
        assert stage.shape == (2, 3, 64, 96)
        assert torch.allclose(stage.norm(dim=1), torch.ones(2, 64, 96), atol=1e-5)


def test_refinements_are_the_same_block_again(network):
    image = torch.rand(1, 3, 64, 64)
    two, four = network(image, 2), network(image, 4)
    assert all(torch.equal(a, b) for a, b in zip(two, four, strict=False))
    assert not torch.equal(four[1], four[2])


def test_gradients_reach_every_parameter():
    network = Cascade(CascadeConfig(width=4, refinements=1))
    sum(stage.square().mul(torch.rand_like(stage)).sum() for stage in network(torch.rand(2, 3, 64, 64))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or ".bias" in name, name


def test_the_prediction_is_deterministic(weights):
    crop = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    first, second = (casfne.load(weights, "cpu", "fp32").predict(crop) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("shape", [(1, 3, 65, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_wrong_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match="multiples of 32"):
        network(torch.rand(shape))


def test_the_discriminator_gives_a_map_of_logits():
    assert Discriminator()(torch.rand(2, 3, 256, 256)).shape == (2, 1, 16, 16)


def test_normalisation_is_part_of_the_model():
    torch.manual_seed(0)
    plain = Cascade(CascadeConfig(4, 0, "none")).eval()
    imagenet = Cascade(CascadeConfig(4, 0, "imagenet")).eval()
    imagenet.load_state_dict(plain.state_dict())
    image = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    by_hand = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert torch.equal(imagenet(image)[0], plain(by_hand)[0])


def test_encoder_starts_are_named_and_never_silent(tmp_path):
    assert build(CascadeConfig(4, 0), "random").config.width == 4
    with pytest.raises(InputError, match="neither 'random', 'imagenet' nor a file"):
        build(CascadeConfig(4, 0), "imagnet")
    path = tmp_path / "resnet.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"resnet\.pth: not a ResNet-18 state dict"):
        build(CascadeConfig(4, 0), str(path))
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), path)
    network = build(CascadeConfig(4, 0), str(path))
    saved = torch.load(path, weights_only=True)
    assert torch.equal(network.structure.parts[0][0].weight, saved["conv1.weight"])


def test_checkpoints_round_trip(network, weights):
    again, about = load_weights(weights)
    assert about == {"confidence": [2.0, 0.5]} and again.config == network.config
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(image)[-1], network(image)[-1])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda t: t.pop("initial.head.bias"), "1 missing tensors, first initial.head.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unknown tensors, first extra"),
        (
            lambda t: t.update({"initial.head.bias": torch.zeros(4)}),
            r"initial.head.bias has shape \(4,\), expected \(3,\)",
        ),
        (
            lambda t: t["initial.head.bias"].fill_(float("nan")),
            "initial.head.bias holds values that are not finite",
        ),
    ],
)
def test_spoilt_checkpoints_are_named(weights, spoil, message):
    from safetensors import safe_open

    tensors = load_file(weights)
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    spoil(tensors)
    save_file(tensors, weights, metadata)
    with pytest.raises(InputError, match=message):
        load_weights(weights)


def test_foreign_files_are_not_weights(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"nonsense, but long enough to have a header")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_weights(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="not written by casfne"):
        load_weights(path)
    with pytest.raises(InputError, match="make repro"):
        casfne.load(tmp_path / "none.safetensors")


def test_metadata_says_frame_and_configuration(weights):
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    assert metadata["frame"] == "opengl"
    assert json.loads(metadata["config"]) == {"width": 4, "refinements": 2, "normalisation": "none"}


def test_the_python_face(weights):
    predictor = casfne.load(weights, device="cpu", precision="fp32")
    one = np.random.default_rng(1).integers(0, 256, (300, 200, 3), np.uint8)
    square = np.random.default_rng(2).integers(0, 256, (256, 256, 3), np.uint8)
    both = predictor.predict([one, square])
    assert both.shape == (2, 256, 256, 3) and both.dtype == np.float32
    assert np.allclose(predictor.predict(one), both[:1], atol=1e-5)
    assert predictor.predict([]).shape == (0, 256, 256, 3)
    stages = predictor.network(torch.from_numpy(square).permute(2, 0, 1)[None] / 255)
    assert len(stages) == 3
    assert np.allclose(stages[-1][0].detach().permute(1, 2, 0).numpy(), both[1], atol=1e-4)
    assert predictor.expected_error(np.array([4.0])) == pytest.approx([4.0])
    assert len(predictor.sha256) == 64 and predictor.name == "tiny"


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), "face.png", np.zeros((4, 4, 4), np.uint8)]
)
def test_what_is_no_picture_is_refused(bad):
    with pytest.raises(ValueError, match="expected uint8 RGB"):
        as_crops([bad])


def test_devices_and_precisions_are_checked():
    cpu = choose_device("cpu")
    assert choose_precision("auto", cpu) in ("fp32", "bf16")
    with pytest.raises(InputError, match="expected auto, fp32 or bf16"):
        choose_precision("fp16", cpu)
    for name in ("gpu", "cuda:99"):
        with pytest.raises(InputError, match=f"device '{name}'"):
            choose_device(name)


def test_bf16_stays_close_to_fp32(weights):
    crop = np.random.default_rng(3).integers(0, 256, (1, 256, 256, 3), np.uint8)
    full, half = (casfne.load(weights, "cpu", p).predict(crop) for p in ("fp32", "bf16"))
    assert np.abs(full - half).mean() < 0.05
    assert np.linalg.norm(half, axis=-1) == pytest.approx(1, abs=1e-4)
