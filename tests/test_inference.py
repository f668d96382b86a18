"""The fused cascade against the plain one, the predictor, exports, and pictures of every kind."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import casfne
from casfne.errors import InputError
from casfne.images import Crop, read_image
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import save_weights
from casfne.model.devices import choose_device, choose_precision
from casfne.model.encoders import ENCODERS
from casfne.model.export import export
from casfne.model.fused import fuse, interleave, sub_pixel
from casfne.model.fusion import FUSIONS
from casfne.model.predictor import as_crops
from casfne.normals import angle_deg


def lively(config):
    """A cascade whose batch norms have seen something: folding them must matter."""
    torch.manual_seed(0)
    network = Cascade(config).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.3, 0.3)
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return network


@pytest.fixture(scope="module")
def network():
    return lively(CascadeConfig(width=4, refinements=2))


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, network, {"confidence": {"one": 2.0, "last move": 0.5}})
    return path


def random_picture(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# --- the fused form ---


@pytest.mark.parametrize("encoder", list(ENCODERS))
@pytest.mark.parametrize("normalisation", ["none", "imagenet"])
@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_the_fused_network_is_the_same_function(fusion, normalisation, encoder):
    network = lively(CascadeConfig(6, 3, normalisation, fusion, encoder, residual=encoder != "resnet18"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fast, image = fuse(network), torch.rand(2, 3, 96, 64)
    with torch.inference_mode():
        for refinements in (0, 1, 3):
            plain, fused = network(image, refinements), fast(image, refinements)
            assert len(plain) == len(fused) == refinements + 1
            assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(plain, fused, strict=True))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fast.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_fused_symmetric_network_still_sees_both_views():
    network, image = lively(CascadeConfig(6, 1, symmetric=True)), torch.rand(2, 3, 96, 64)
    with torch.inference_mode():
        plain, fused = network(image)[-1], fuse(network)(image)[-1]
    assert ((plain - fused).abs() < 1e-3).float().mean() > 0.99  # views that all but cancel leave any direction


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_every_fusion_computes_in_half_precision(fusion):
    network, images = lively(CascadeConfig(width=8, fusion=fusion)), torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        full, half = network(images)[-1], fuse(network, torch.bfloat16)(images)[-1]
    assert angle_deg(full.movedim(1, -1).numpy(), half.movedim(1, -1).numpy()).mean() < 0.5


@pytest.mark.parametrize("precision, tiny", [(torch.float16, 1e-9), (torch.bfloat16, 1e-41), (torch.float32, 1e-41)])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_biases_too_small_for_a_precision_are_no_trouble(precision, tiny, scale):
    """Weight decay leaves such ones: alone, or with a channel that still says something."""
    network, images = lively(CascadeConfig(width=8)), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for norms in (network.initial.norm, network.refinement.norm):
            for norm in norms:
                norm.running_mean[0] = 0
                norm.weight[0] *= scale
                norm.bias[0] = tiny
        for up in (*network.initial.up, *network.refinement.up):
            up.bias[0] = 0
        full, rounded = network(images)[-1], fuse(network, precision)(images)[-1]
    assert angle_deg(full.movedim(1, -1).numpy(), rounded.movedim(1, -1).numpy()).mean() < 0.5


def test_folding_matters(network):
    image = torch.rand(1, 3, 64, 64)
    without = fuse(Cascade(network.config))
    with torch.inference_mode():
        assert (without(image)[0] - network(image)[0]).abs().mean() > 0.1


@pytest.mark.parametrize("kernel", [4, 6])
def test_sub_pixels_are_the_transposed_convolution(kernel):
    torch.manual_seed(0)
    up, image = nn.ConvTranspose2d(5, 3, kernel, 2, kernel // 2 - 1), torch.randn(2, 5, 7, 9)
    shuffled = interleave(sub_pixel(up)(image))
    assert shuffled.shape == (2, 3, 14, 18)
    assert torch.allclose(shuffled, up(image), atol=1e-5)


def test_what_is_shared_is_computed_once(network):
    fast, runs = fuse(network), []
    for level in fast.refinement.levels:
        level.share.register_forward_hook(lambda *_: runs.append(1))
    with torch.inference_mode():
        fast(torch.rand(1, 3, 64, 64), 4)
    assert len(runs) == 5


# --- the predictor ---


def test_the_prediction_is_deterministic(weights):
    crop = random_picture(0, 2, 256, 256, 3)
    first, second = (casfne.load(weights, "cpu", "fp32").predict(crop) for _ in range(2))
    assert (first == second).all()


def test_batches_of_every_size_agree(weights):
    predictor = casfne.load(weights, "cpu", "fp32")
    crops = random_picture(5, 7, 256, 256, 3)
    whole = predictor.predict_stages(crops)
    assert whole.shape == (7, 3, 256, 256, 3)
    assert np.allclose(whole[5], predictor.predict_stages(crops[5:6])[0], atol=1e-4)
    assert np.allclose(whole[:, -1], predictor.predict(crops, batch=3), atol=1e-4)
    assert predictor.predict_stages(crops[:0]).shape == (0, 3, 256, 256, 3)


def test_normals_at_source_size_lie_where_the_face_is(weights):
    predictor = casfne.load(weights, "cpu", "fp32")
    photos = [random_picture(1, 300, 200, 3), random_picture(2, 512, 512, 3), random_picture(3, 90, 120, 3)]
    crops = [Crop(20, 60, 150), Crop(0, 0, 512), Crop(-30, 20, 100)]  # inside, enlarged, reaching outside
    for photo, crop, placed in zip(photos, crops, predictor.predict_at_source(photos, crops), strict=True):
        assert placed.shape == photo.shape and placed.dtype == np.float32
        length = np.linalg.norm(placed, axis=-1)
        inside = np.zeros(photo.shape[:2], bool)
        inside[max(crop.top, 0) : crop.top + crop.side, max(crop.left, 0) : crop.left + crop.side] = True
        assert np.array_equal(length > 0, inside) and np.allclose(length[inside], 1, atol=1e-5)
    middle = predictor.predict_at_source(photos[:1])[0]
    assert middle[:50].max() == 0 and np.linalg.norm(middle[150, 100]) > 0.99  # the centre square: rows 50 to 249


def test_a_crop_of_the_working_size_is_pasted_as_it_is(weights):
    predictor = casfne.load(weights, "cpu", "fp32")
    photo, crop = random_picture(4, 400, 300, 3), Crop(30, 70, 256)
    placed = predictor.predict_at_source([photo], [crop])[0]
    expected = predictor.predict(photo[70:326, 30:286])[0]
    assert np.allclose(placed[70:326, 30:286], expected, atol=1e-5)


def test_the_python_face(weights):
    predictor = casfne.load(weights, device="cpu", precision="fp32")
    one, square = random_picture(1, 300, 200, 3), random_picture(2, 256, 256, 3)
    both = predictor.predict([one, square])
    assert both.shape == (2, 256, 256, 3) and both.dtype == np.float32
    assert np.allclose(predictor.predict(one), both[:1], atol=1e-5)
    assert predictor.predict([]).shape == (0, 256, 256, 3)
    stages = predictor.network(torch.from_numpy(square).permute(2, 0, 1)[None] / 255)
    assert len(stages) == 3
    assert np.allclose(stages[-1][0].detach().permute(1, 2, 0).numpy(), both[1], atol=1e-4)
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
    with pytest.raises(InputError, match="expected auto, fp32, bf16, fp16"):
        choose_precision("fp8", cpu)
    for name in ("gpu", "cuda:99"):
        with pytest.raises(InputError, match=f"device '{name}'"):
            choose_device(name)


def test_half_precision_needs_a_processor_that_has_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with pytest.raises(InputError, match="this processor does not compute it; use auto, bf16 or fp32"):
        choose_precision("fp16", torch.device("cpu"))
    assert choose_precision("fp16", torch.device("cuda")) == "fp16"
    assert choose_precision("auto", torch.device("cpu")) == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_precision("auto", torch.device("cpu")) == "fp32"


def test_bf16_is_bf16_and_stays_close_to_fp32(weights):
    crop = random_picture(3, 1, 256, 256, 3)
    full, half = (casfne.load(weights, "cpu", p) for p in ("fp32", "bf16"))
    rounded = sum(p.numel() for p in half.network.parameters() if p.dtype == torch.bfloat16)
    assert rounded > 0.9 * sum(p.numel() for p in half.network.parameters())
    assert all(p.dtype == torch.float32 for p in full.network.parameters())
    assert np.abs(full.predict(crop) - half.predict(crop)).mean() < 0.05
    assert np.linalg.norm(half.predict(crop), axis=-1) == pytest.approx(1, abs=1e-4)


# --- pictures of every kind, from the file to the normals ---


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pictures_of_every_mode_give_the_same_normals(weights):
    predictor = casfne.load(weights, "cpu", "fp32")
    smooth = np.add.outer(np.arange(256), np.arange(256)).astype(np.uint8) // 2
    grey = Image.fromarray(smooth)
    expected = predictor.predict(np.repeat(smooth[..., None], 3, -1))
    sixteen = Image.fromarray(smooth.astype(np.uint16) * 257)
    same = [saved(grey, "PNG"), saved(grey.convert("RGBA"), "PNG"), saved(sixteen, "PNG")]
    same += [saved(grey.convert("RGB").quantize(256), "PNG"), saved(grey.convert("CMYK"), "TIFF")]
    for data in same:
        assert np.abs(predictor.predict(read_image(data)) - expected).mean() < 0.02
    assert predictor.predict(read_image(saved(grey.convert("CMYK"), "JPEG"))).shape == expected.shape


def test_a_single_pixel_is_a_picture(weights):
    normals = casfne.load(weights, "cpu", "fp32").predict(read_image(saved(Image.new("RGB", (1, 1)), "PNG")))
    assert normals.shape == (1, 256, 256, 3) and np.isfinite(normals).all()


def test_a_picture_of_400_million_pixels_is_refused_before_it_is_decoded():
    data = saved(Image.new("1", (20000, 20000)), "PNG")  # 50 kB that would become 1.2 GB
    assert len(data) < 100_000
    with pytest.raises(InputError, match="20000x20000 pixels, more than 200,000,000"):
        read_image(data)


# --- exports ---


def test_the_onnx_export_is_the_same_function(network, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime has no wheel for this platform")
    path = tmp_path / "model.onnx"
    export(network, path, {"source": "a test"})
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["frame"] == "opengl" and "a test" in facts["about"]
    for batch in (1, 3):
        image = torch.rand(batch, 3, 256, 256)
        with torch.inference_mode():
            expected = torch.stack(network(image), 1).numpy()
        (normals,) = session.run(None, {"image": image.numpy()})
        assert normals.shape == (batch, 3, 3, 256, 256)
        assert np.abs(normals - expected).max() < 1e-3


def test_the_torch_export_is_the_same_function(network, tmp_path):
    export(network, tmp_path / "model.pt2", {})
    program = torch.export.load(tmp_path / "model.pt2").module()
    for batch in (1, 3):
        image = torch.rand(batch, 3, 256, 256)
        with torch.inference_mode():
            assert torch.allclose(program(image), torch.stack(network(image), 1), atol=1e-3)


def test_exports_that_cannot_be_are_named(network, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"expected a name in \.onnx or \.pt2"):
        export(network, tmp_path / "model.trt", {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'casfne\[onnx\]'"):
        export(network, tmp_path / "model.onnx", {})
    assert not list(tmp_path.iterdir())
