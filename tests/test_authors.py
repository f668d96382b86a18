"""The authors' checkpoint: equal to a forward pass written from the notes alone; frames; refusals."""

import hashlib
import os
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from casfne.errors import InputError
from casfne.model.authors import import_authors, read_authors
from casfne.model.cascade import CascadeConfig, count_parameters
from casfne.model.checkpoints import load_weights, save_weights
from casfne.normals import FRAMES, convert

INITIAL, ENCODER, DECODER = "BasedNormalNet", "NormalEncoder", "NormalDecoder"


# --- a release with random values, by the authors' names ---


def release(width, seed=0):
    """The entry "model" as the authors' script saves it: E_f's tensors are there twice, as the same objects."""
    generator = torch.Generator().manual_seed(seed)
    model = {}

    def normal(*shape, scale=1.0):
        return scale * torch.randn(shape, generator=generator)

    def norm(name, channels, gain=1.0):
        model[f"{name}.weight"] = gain * (0.5 + torch.rand(channels, generator=generator))
        model[f"{name}.bias"] = normal(channels, scale=0.2)
        model[f"{name}.running_mean"] = normal(channels, scale=0.2)
        model[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)
        model[f"{name}.num_batches_tracked"] = torch.tensor(seed + 7)

    def convolution(name, out, into, kernel=4):
        model[f"{name}.weight"] = normal(out, into, kernel, kernel, scale=(2 / (into * kernel**2)) ** 0.5)
        model[f"{name}.bias"] = normal(out, scale=0.1)

    def transposed(name, into, out, kernel=4, gain=1.0):
        reads = into * (kernel // 2) ** 2 if kernel == 4 else into * kernel**2
        model[f"{name}.weight"] = normal(into, out, kernel, kernel, scale=gain * (2 / reads) ** 0.5)
        model[f"{name}.bias"] = normal(out, scale=0.1)
        if out == 3:  # away from length 0, where a direction is all rounding
            model[f"{name}.bias"] += torch.tensor([0.5, -0.4, 0.6])

    for name, value in resnet18().state_dict().items():
        whole = f"{INITIAL}.base_model.{name}"
        if value.ndim == 4:
            model[whole] = normal(*value.shape, scale=(2 / value[0].numel()) ** 0.5)
        elif name.startswith("fc"):
            model[whole] = normal(*value.shape)
        elif name.endswith("running_var"):
            norm(whole.removesuffix(".running_var"), len(value), gain=0.5)
    for name in [name for name in model if ".fc." not in name]:
        model[name.replace(".base_model.conv1", ".layer0.0").replace(".base_model.bn1", ".layer0.1")
              .replace(".base_model.layer1", ".layer1.1").replace(".base_model.", ".")] = model[name]  # fmt: skip

    for i, into in enumerate((512, width + 256, width + 128, width + 64, width + 64)):
        transposed(f"{INITIAL}.deconv{4 + i}", into, width)
        norm(f"{INITIAL}.deconv{4 + i}_bn", width)
    transposed(f"{INITIAL}.conhead", width, 3, kernel=3, gain=0.5)

    channels = (3, width, 2 * width, 4 * width, 8 * width, 8 * width)
    for i in range(5):
        convolution(f"{ENCODER}.conv{1 + i}", channels[i + 1], channels[i])
    for i in (2, 3, 4):
        norm(f"{ENCODER}.conv{i}_bn", channels[i])

    outputs = (8 * width, 4 * width, 2 * width, 2 * width, 3)
    inputs = (512 + 8 * width, 256 + 8 * width, 128 + 4 * width, 64 + 2 * width, 64 + 2 * width)
    for i in range(5):
        transposed(f"{DECODER}.N2deconv{4 + i}", inputs[i], outputs[i], gain=1.0 if i < 4 else 0.5)
        if i < 4:
            norm(f"{DECODER}.N2deconv{4 + i}_bn", outputs[i])
    return model


# --- the forward pass of the notes, in plain functions ---


def reference(w, image, refinements, swap=False):
    """Raw outputs (before tanh) and unit normals of every stage. ``swap``: D_cn's first input the wrong way round."""

    def bn(x, name):
        values = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *values, training=False, eps=1e-5)

    def down(x, name):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=2, padding=1)

    def up(x, name):
        return F.conv_transpose2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=2, padding=1)

    def basic(x, name, stride):
        y = F.relu(bn(F.conv2d(x, w[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
        y = bn(F.conv2d(y, w[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
        if stride == 2:
            x = bn(F.conv2d(x, w[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
        return F.relu(x + y)

    net = "BasedNormalNet.base_model"
    f0 = F.relu(bn(F.conv2d(image, w[f"{net}.conv1.weight"], stride=2, padding=3), f"{net}.bn1"))  # 1/2
    f1 = F.max_pool2d(f0, 3, stride=2, padding=1)
    f1 = basic(basic(f1, f"{net}.layer1.0", 1), f"{net}.layer1.1", 1)  # 1/4
    f2 = basic(basic(f1, f"{net}.layer2.0", 2), f"{net}.layer2.1", 1)  # 1/8
    f3 = basic(basic(f2, f"{net}.layer3.0", 2), f"{net}.layer3.1", 1)  # 1/16
    f4 = basic(basic(f3, f"{net}.layer4.0", 2), f"{net}.layer4.1", 1)  # 1/32

    d = bn(up(f4, "BasedNormalNet.deconv4"), "BasedNormalNet.deconv4_bn")
    d = bn(up(F.relu(torch.cat([d, f3], 1)), "BasedNormalNet.deconv5"), "BasedNormalNet.deconv5_bn")
    d = bn(up(F.relu(torch.cat([d, f2], 1)), "BasedNormalNet.deconv6"), "BasedNormalNet.deconv6_bn")
    d = bn(up(F.relu(torch.cat([d, f1], 1)), "BasedNormalNet.deconv7"), "BasedNormalNet.deconv7_bn")
    d = bn(up(F.relu(torch.cat([d, f0], 1)), "BasedNormalNet.deconv8"), "BasedNormalNet.deconv8_bn")
    head = "BasedNormalNet.conhead"
    raw = [F.conv_transpose2d(d, w[f"{head}.weight"], w[f"{head}.bias"], stride=1, padding=1)]
    normals = [F.normalize(torch.tanh(raw[0]), dim=1)]

    for _ in range(refinements):
        e = down(normals[-1], "NormalEncoder.conv1")
        e = bn(down(F.leaky_relu(e, 0.2), "NormalEncoder.conv2"), "NormalEncoder.conv2_bn")
        e = bn(down(F.leaky_relu(e, 0.2), "NormalEncoder.conv3"), "NormalEncoder.conv3_bn")
        e = bn(down(F.leaky_relu(e, 0.2), "NormalEncoder.conv4"), "NormalEncoder.conv4_bn")
        e = down(F.leaky_relu(e, 0.2), "NormalEncoder.conv5")

        d = torch.cat([e, f4] if swap else [f4, e], 1)
        d = torch.cat([bn(up(F.relu(d), "NormalDecoder.N2deconv4"), "NormalDecoder.N2deconv4_bn"), f3], 1)
        d = torch.cat([bn(up(F.relu(d), "NormalDecoder.N2deconv5"), "NormalDecoder.N2deconv5_bn"), f2], 1)
        d = torch.cat([bn(up(F.relu(d), "NormalDecoder.N2deconv6"), "NormalDecoder.N2deconv6_bn"), f1], 1)
        d = torch.cat([bn(up(F.relu(d), "NormalDecoder.N2deconv7"), "NormalDecoder.N2deconv7_bn"), f0], 1)
        raw.append(up(F.relu(d), "NormalDecoder.N2deconv8"))
        normals.append(F.normalize(torch.tanh(raw[-1]), dim=1))
    return raw, normals


def picture(size, seed=0):
    """Something with coarse and fine structure, [1, 3, size, size] in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = F.interpolate(torch.rand(1, 3, 8, 8, generator=generator), size, mode="bilinear")
    return 0.8 * coarse + 0.2 * torch.rand(1, 3, size, size, generator=generator)


def furthest(stages, others):
    return max(float((a - b).abs().max()) for a, b in zip(stages, others, strict=True))


@pytest.fixture(scope="module")
def model():
    return release(4)


@pytest.fixture(scope="module")
def light(model):
    """The same with one value in each large tensor, which torch saves as one value: a file of 0.2 MB, not 45."""
    return {name: v if v.numel() < 5000 else v.flatten()[0].clone().expand(v.shape) for name, v in model.items()}


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "epoch_500.pth"
    (tmp_path / "epoch_500.pth").unlink(missing_ok=True)


def saved(path, model):
    torch.save({"epoch": 500, "model": model, "Dmodel": {"model.0.weight": torch.zeros(64, 3, 3, 3)}}, path)
    return path


# --- the same numbers ---


@pytest.mark.parametrize("width, size", [(32, 64), (32, 256), (4, 64)])
@torch.inference_mode()
def test_every_stage_is_that_of_the_released_network(path, width, size):
    weights, image = release(width, seed=1), picture(size)
    network, about = import_authors(saved(path, weights), "opengl")
    assert network.config == CascadeConfig(width=width, refinements=2, normalisation="none")
    assert not network.training and about["epoch"] == 500
    raw, expected = reference(weights, image, 3)
    for values, normals in zip(raw, expected, strict=True):
        assert normals.std((2, 3)).min() > 0.05  # it varies over the picture
        assert values.std((2, 3)).min() > 0.05 and values.abs().mean() < 1  # and tanh still tells values apart
    for refinements in range(4):
        assert furthest(network(image, refinements), expected[: refinements + 1]) <= 1e-5
    assert furthest(network(image), expected[:3]) <= 1e-5
    assert min(furthest([a], [b]) for a, b in pairwise(expected[:3])) > 1e-3  # no stage repeats the one before


@torch.inference_mode()
def test_the_order_of_the_concatenation_is_seen_by_that_test(path, model):
    image = picture(64)
    network, _ = import_authors(saved(path, model), "opengl")
    swapped = reference(model, image, 1, swap=True)[1]
    assert furthest(network(image, 1), reference(model, image, 1)[1]) <= 1e-5
    assert furthest(network(image, 1), swapped) > 0.01  # a thousand times that


def test_the_released_size(path):
    network, _ = import_authors(saved(path, release(32)), "opengl")
    assert count_parameters(network) == 18_102_758


# --- the frame ---


@pytest.mark.parametrize("frame", FRAMES)
@torch.inference_mode()
def test_any_frame_becomes_ours(path, model, frame):
    image = picture(64)
    network, about = import_authors(saved(path, model), frame)
    assert about["source_frame"] == frame
    for stage, theirs in zip(network(image, 3), reference(model, image, 3)[1], strict=True):
        expected = convert(theirs.permute(0, 2, 3, 1).numpy(), frame)
        assert np.abs(stage.permute(0, 2, 3, 1).numpy() - expected).max() <= 1e-5


def test_sfs_is_down_right_out(path, model):
    """Said once more in numbers: (x, y, z) = (n1, -n0, n2)."""
    as_is, turned = (import_authors(saved(path, model), frame)[0] for frame in ("opengl", "sfs"))
    bias = model[f"{INITIAL}.conhead.bias"]
    assert torch.equal(as_is.initial.head.bias, bias)
    assert torch.equal(turned.initial.head.bias, torch.stack([bias[1], -bias[0], bias[2]]))


def test_an_unknown_frame_is_refused(path, model):
    with pytest.raises(InputError, match="frame 'up': expected one of opengl, directx, opencv, sfs"):
        import_authors(saved(path, model), "up")


# --- what is accepted ---


def without_counters(model):
    return {name: value for name, value in model.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    "content",
    [
        lambda m: m,  # a bare state dict
        lambda m: {f"module.{name}": value for name, value in m.items()},
        lambda m: {"model": {f"module.{name}": value for name, value in m.items()}},
        lambda m: {"model": without_counters(m)},
        lambda m: {"model": {name: value for name, value in m.items() if ".fc." not in name}},
        lambda m: {"model": {name: v.double() if v.is_floating_point() else v for name, v in m.items()}},
    ],
    ids=["bare", "bare and parallel", "parallel", "no counters", "no classifier", "double"],
)
def test_other_ways_to_save_it(path, light, content):
    expected, _ = read_authors(saved(path, light))
    torch.save(content(light), path)
    tensors, about = read_authors(path)
    assert about["epoch"] is None and tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]) or name.endswith("num_batches_tracked"), name
    import_authors(path, "opengl")


def test_the_older_file_format_is_read(path, light):
    torch.save({"epoch": 500, "model": light}, path, _use_new_zipfile_serialization=False)
    assert read_authors(path)[1]["epoch"] == 500


def test_the_origin_is_kept_in_our_checkpoint(path, light, tmp_path):
    network, about = import_authors(saved(path, light), "sfs")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = {"source": "authors' release", "file": "epoch_500.pth", "sha256": sha256, "epoch": 500}
    expected["source_frame"] = "sfs"
    assert about == expected
    ours = tmp_path / "authors.safetensors"
    save_weights(ours, network, about)
    again, kept = load_weights(ours)
    assert kept == expected and again.config == network.config
    with torch.inference_mode():
        assert furthest(again(picture(64)), network(picture(64))) == 0
    ours.unlink()


# --- what is refused ---


def changed(name, change):
    def spoil(model):
        model[name] = change(model[name].clone())

    return spoil


def poke(value):
    def change(tensor):
        tensor.view(-1)[-1] = value
        return tensor

    return change


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda m: m.pop("NormalDecoder.N2deconv6.bias"), "1 missing tensors, first NormalDecoder.N2deconv6.bias"),
        (lambda m: m.pop("BasedNormalNet.conhead.weight"), "1 missing tensors, first BasedNormalNet.conhead.weight"),
        (lambda m: m.clear(), "missing tensors, first BasedNormalNet.base_model.conv1.weight"),
        (lambda m: m.update({"NormalEncoder.conv6.bias": torch.zeros(1)}), "1 unknown tensors, first NormalEncoder.co"),
        (lambda m: m.update({3: torch.zeros(1)}), "1 unknown tensors, first 3"),
        (changed("NormalEncoder.conv3.weight", lambda t: t[:3]), r"NormalEncoder.conv3.weight has shape \(3, 8, 4, 4"),
        (
            changed("BasedNormalNet.conhead.weight", lambda t: t[0]),
            r"conhead.weight has shape \(3, 3, 3\), expected \(",
        ),
        (changed("BasedNormalNet.conhead.weight", lambda t: t[:0]), r"conhead.weight has shape \(0, 3, 3, 3\), expect"),
        (
            changed("BasedNormalNet.conhead.weight", lambda t: t[:1].expand(1 << 40, 3, 3, 3)),
            r"expected \(1\.\.1024, 3",
        ),
        (changed("BasedNormalNet.conhead.bias", poke(float("nan"))), "conhead.bias holds values that are not finite"),
        (
            changed("BasedNormalNet.layer3.0.bn1.running_var", poke(float("inf"))),
            "running_var holds values that are no",
        ),
        (changed("NormalEncoder.conv1.bias", lambda t: t.double() + 1e300), "conv1.bias holds values that are not fin"),
        (changed("NormalEncoder.conv1.bias", lambda t: t.int()), "conv1.bias has type torch.int32, expected torch.flo"),
        (changed("NormalEncoder.conv1.bias", lambda t: t.to_sparse()), "NormalEncoder.conv1.bias is no plain tensor"),
        (lambda m: m.update({"NormalEncoder.conv1.bias": [0.0] * 4}), "NormalEncoder.conv1.bias is no plain tensor"),
        (changed("BasedNormalNet.layer0.0.weight", poke(9.0)), "layer0.0.weight differs from its copy in Based"),
        (changed("BasedNormalNet.layer1.1.0.conv1.weight", poke(9.0)), "layer1.1.0.conv1.weight differs from its copy"),
        (changed("BasedNormalNet.base_model.layer4.1.bn2.bias", poke(9.0)), "layer4.1.bn2.bias differs from its copy"),
    ],
)
def test_spoilt_tensors_are_named(path, light, spoil, message):
    model = dict(light)
    spoil(model)
    with pytest.raises(InputError, match=message) as error:
        read_authors(saved(path, model))
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_missing_tensor_of_a_parallel_model_is_named(path, light):
    parallel = {f"module.{name}": value for name, value in light.items() if name != "NormalEncoder.conv1.bias"}
    with pytest.raises(InputError, match=r"1 missing tensors, first NormalEncoder\.conv1\.bias"):
        read_authors(saved(path, parallel))


@pytest.mark.parametrize(
    "content, message",
    [
        ({"epoch": 500, "Dmodel": {}}, r"no state dict under the entry 'model' \(entries: epoch, Dmodel\)"),
        ({}, r"no state dict under the entry 'model' \(entries: none\)"),
        ({"model": torch.zeros(3)}, "no state dict under the entry 'model'"),
        ([torch.zeros(3)], "holds a list, expected a dict with the entry 'model'"),
        (torch.zeros(3), "holds a Tensor, expected a dict"),
        (torch.nn.Linear(1, 1), r"holds code or objects \(torch.nn.modules.linear.Linear\), not just tensors: refused"),
        ({"model": {"a": np.zeros(3)}}, r"holds code or objects \(numpy.*\), not just tensors: refused"),
    ],
)
def test_other_contents_are_named(path, content, message):
    torch.save(content, path)
    with pytest.raises(InputError, match=message) as error:
        read_authors(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"not weights", b"\x80\x04 nonsense", b"PK\x03\x04 nonsense", pickle.dumps({"model": {}}, 4)]
)
def test_other_files_are_named(path, content, recwarn):
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"epoch_500\.pth: not a PyTorch checkpoint, or a damaged one"):
        read_authors(path)
    assert not recwarn


def test_a_truncated_file_is_named(path, light):
    saved(path, light)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(InputError, match="not a PyTorch checkpoint, or a damaged one"):
        read_authors(path)


@pytest.mark.parametrize("name", ["none.pth", "."])
def test_no_file_is_named(tmp_path, name):
    with pytest.raises(InputError, match="no such checkpoint"):
        read_authors(tmp_path / name)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False, None], ids=["zip", "legacy", "plain pickle"])
def test_code_in_the_file_is_refused_and_not_run(path, tmp_path, zipped):
    marker = tmp_path / "marker"
    content = {"epoch": 500, "model": Trap(marker), "Dmodel": {}}
    if zipped is None:
        path.write_bytes(pickle.dumps(content, 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"holds code or objects \(posix\.mkdir\), not just tensors: refused"):
        read_authors(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Trap(marker)))
    assert marker.is_dir()  # the trap is a live one
