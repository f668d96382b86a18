"""The cascade: shapes, gradients, fusions, sizes of the paper; checkpoints."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import casfne
from casfne.errors import InputError
from casfne.model.cascade import Cascade, CascadeConfig, build, count_parameters
from casfne.model.checkpoints import load_weights, save_weights
from casfne.model.discriminator import Discriminator
from casfne.model.encoders import ENCODERS
from casfne.model.fusion import FUSIONS


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Cascade(CascadeConfig(width=4, refinements=2)).eval()


@pytest.fixture
def weights(network, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(path, network, {"confidence": {"one": 2.0, "last move": 0.5}})
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


def test_residual_refinements_begin_by_changing_nothing_and_add_to_what_they_refine():
    torch.manual_seed(0)
    network, image = build(CascadeConfig(4, 2, residual=True), "random").eval(), torch.rand(1, 3, 64, 64)
    first, *others = network(image)
    assert all(torch.allclose(first, other, atol=1e-6) for other in others)
    with torch.no_grad():
        network.refinement.up[-1].bias.copy_(torch.tensor([0.2, 0, 0]))
    turned = torch.nn.functional.normalize(first + torch.tensor([0.2, 0, 0]).tanh().view(3, 1, 1), dim=1)
    assert torch.allclose(network(image)[1], turned, atol=1e-6)


def test_a_symmetric_network_mirrors_with_the_picture_and_trains_as_any():
    torch.manual_seed(0)
    network, image = Cascade(CascadeConfig(4, 1, symmetric=True)).eval(), torch.rand(2, 3, 64, 96)
    plain = Cascade(CascadeConfig(4, 1)).eval()
    plain.load_state_dict(network.state_dict())
    mirror = torch.tensor([-1, 1, 1.0]).view(3, 1, 1)
    with torch.inference_mode():
        stages, others, alone = network(image), network(image.flip(-1)), plain(image)
    for stage, other in zip(stages, others, strict=True):
        same = (other - stage.flip(-1) * mirror).abs() < 1e-3
        assert same.float().mean() > 0.99  # views that all but cancel leave any direction
        assert torch.allclose(stage.norm(dim=1), torch.ones(2, 64, 96), atol=1e-5)
    assert not torch.allclose(stages[-1], alone[-1], atol=1e-2)
    assert torch.equal(network.train()(image)[-1], plain.train()(image)[-1])


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_gradients_reach_every_parameter(fusion):
    network = Cascade(CascadeConfig(width=4, refinements=1, fusion=fusion))
    sum(stage.square().mul(torch.rand_like(stage)).sum() for stage in network(torch.rand(2, 3, 64, 64))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or ".bias" in name, name


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_every_level_hears_both_kinds_of_features(fusion):
    """Of each fusion: what comes out changes with the normal features, and with the structure features, of a level."""
    torch.manual_seed(0)
    decoder = Cascade(CascadeConfig(width=4, refinements=1, fusion=fusion)).refinement.eval()
    structure = [torch.rand(2, c, 64 >> i, 64 >> i) for i, c in enumerate((64, 64, 128, 256, 512))]
    z = torch.rand(2, 32, 4, 4)
    whole = decoder(decoder.share(structure), z)
    assert not torch.allclose(whole, decoder(decoder.share(structure), torch.rand_like(z)), atol=1e-4)
    for level in range(5):
        other = list(structure)
        other[level] = torch.rand_like(other[level])
        assert not torch.allclose(whole, decoder(decoder.share(other), z), atol=1e-5), level
    alone = decoder(decoder.share([s[:1] for s in structure]), z[:1])
    assert torch.allclose(whole[:1], alone, atol=1e-5)  # one image does not hear of another


def test_adain_gives_the_structure_the_normal_features_statistics():
    fuse = FUSIONS["adain"](8, 16)
    normal, structure = torch.randn(2, 8, 6, 6) * 3 + 1, torch.rand(2, 16, 6, 6)
    joined = fuse(normal, fuse.share(structure))
    assert joined.shape == (2, fuse.channels, 6, 6) and torch.equal(joined[:, :8], normal)
    taken, given = joined[:, 8:], normal.repeat_interleave(2, 1)
    assert torch.allclose(taken.mean((2, 3)), given.mean((2, 3)), atol=1e-4)
    assert torch.allclose(taken.std((2, 3)), given.std((2, 3)), rtol=1e-3)
    corner = [c.flatten(2) for c in (taken, structure)]  # the same pattern, rescaled
    assert all(
        torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.999 for a, b in zip(corner[0][0], corner[1][0], strict=True)
    )


def test_feature_modulation_scales_and_shifts():
    fuse = FUSIONS["fmm"](8, 16)
    normal, structure = torch.randn(2, 8, 6, 6), torch.rand(2, 16, 6, 6)
    scale, shift = fuse.modulate(structure).chunk(2, 1)
    assert torch.allclose(fuse(normal, fuse.share(structure)), normal * (1 + scale) + shift, atol=1e-6)


def test_an_unknown_fusion_is_named():
    with pytest.raises(InputError, match="fusion 'add': expected one of cat, adain, fmm"):
        CascadeConfig(fusion="add")


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
    with pytest.raises(InputError, match=r"resnet\.pth: not a state dict"):
        build(CascadeConfig(4, 0), str(path))
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), path)
    network = build(CascadeConfig(4, 0), str(path))
    saved = torch.load(path, weights_only=True)
    assert torch.equal(network.structure.parts[0][0].weight, saved["conv1.weight"])


def test_the_light_encoder_starts_from_its_published_weights(tmp_path):
    config = CascadeConfig(4, 0, encoder="efficientnet_lite0")
    ours = Cascade(config).structure
    published = {
        f"_{i}.{name}": torch.rand_like(tensor.float()) for i, (name, tensor) in enumerate(ours.state_dict().items())
    }
    path = tmp_path / "lite0.pth"
    torch.save(published | {"_conv_head.weight": torch.ones(1), "_fc.bias": torch.ones(1)}, path)
    network = build(config, str(path))
    assert all(
        torch.equal(a, b.to(a.dtype))
        for a, b in zip(network.structure.state_dict().values(), published.values(), strict=True)
    )
    with pytest.raises(InputError, match=r"lite0\.pth: not a state dict of ResNet18"):
        build(CascadeConfig(4, 0), str(path))
    with pytest.raises(InputError, match="encoder 'vgg': expected one of resnet18, efficientnet_lite0"):
        CascadeConfig(encoder="vgg")


@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_features_halve_five_times_and_are_never_negative(encoder):
    network = Cascade(CascadeConfig(4, 1, encoder=encoder)).eval()
    features = network.structure(torch.randn(2, 3, 64, 96))
    sizes = [(2, channels, 64 >> i, 96 >> i) for i, channels in enumerate(network.structure.channels, start=1)]
    assert [tuple(f.shape) for f in features] == sizes and all((f >= 0).all() for f in features)
    assert [tuple(n.shape) for n in network(torch.rand(2, 3, 64, 96))] == [(2, 3, 64, 96)] * 2


def test_checkpoints_round_trip(network, weights):
    again, about = load_weights(weights)
    assert about == {"confidence": {"one": 2.0, "last move": 0.5}} and again.config == network.config
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


def test_half_precision_files_are_half_as_large(network, weights, tmp_path):
    path = tmp_path / "half.safetensors"
    save_weights(path, network, {}, half=True)
    assert path.stat().st_size < 0.55 * weights.stat().st_size
    again, _ = load_weights(path)
    kept, stored = network.state_dict(), again.state_dict()
    assert all(stored[name].dtype == kept[name].dtype for name in kept)
    assert all(torch.equal(stored[n], kept[n]) for n in kept if kept[n].ndim <= 1)  # biases and norms stay fp32
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert angles(again(image)[-1], network(image)[-1]).mean() < 0.1


def angles(a, b):
    """Degrees between unit normals [B, 3, H, W]."""
    return torch.rad2deg(2 * torch.asin(((a - b).norm(dim=1) / 2).clamp(max=1)))


@pytest.mark.parametrize("config", ['{"width": 4, "refinements": 2, "normalisation": "none"}', '{"depth": 3}'])
def test_weights_of_another_version_are_named(weights, config):
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        metadata = file.metadata() | {"config": config}
    save_file(load_file(weights), weights, metadata)
    with pytest.raises(InputError, match="this version's is width, refinements, normalisation, fusion, encoder"):
        load_weights(weights)


def test_foreign_files_are_not_weights(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"nonsense, but long enough to have a header")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_weights(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="not written by casfne"):
        load_weights(path)
    with pytest.raises(InputError, match="or the name of a release: release"):
        casfne.load(tmp_path / "none.safetensors")


def test_metadata_says_frame_and_configuration(weights):
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    assert metadata["frame"] == "opengl" and metadata["code_version"].startswith(f"{casfne.__version__}+")
    assert json.loads(metadata["config"]) == {
        "width": 4,
        "refinements": 2,
        "normalisation": "none",
        "fusion": "cat",
        "encoder": "resnet18",
        "residual": False,
        "symmetric": False,
    }
