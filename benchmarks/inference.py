"""The cascade's inference on this machine: our form against plain torch, and against what the processor can do.

`python -m benchmarks.inference` compares every engine tried, with its error, and writes benchmarks/inference.md.
"""

import contextlib
import functools
import io
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import PORTRAITS, Result
from casfne.corpora.samples import read_index, read_sample
from casfne.files import write_text
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import load_weights
from casfne.model.devices import DTYPES, choose_precision
from casfne.model.export import export
from casfne.model.fused import fuse
from casfne.model.predictor import CPU_CHUNK
from casfne.model.size import describe
from casfne.model.timing import machine, medians, timings
from casfne.normals import angle_deg

BATCH, ROUNDS = 8, 9
CPU = torch.device("cpu")
TRAINED = Path("data/model/model.safetensors")  # for errors; speeds are those of the paper's network
SAMPLES, FACES = Path("data/samples"), 8
SETTING = f"F = 32, T = 2, 256x256, batch {BATCH}, in one run"
Engine = Callable[[Tensor], Tensor]  # images [B, 3, 256, 256] to the last stage's normals


def run() -> list[Result]:
    """Images/s of eager fp32 and of the predictor's form, their ratio, and its share of a matrix product's rate.

    Each from its fastest round.
    """
    precision = choose_precision("auto", CPU)
    network, images = Cascade(CascadeConfig()).eval(), torch.rand(BATCH, 3, 256, 256)
    crops = images.contiguous(memory_format=torch.channels_last)  # as the predictor's are
    plain, ours = eager(random_copy(network)), fused(network, precision)
    products = {f"gemm_{n}": matrix_product(n, DTYPES[precision]) for n in (2048, 4096)}
    with torch.inference_mode():
        taken = timings({"plain": lambda: plain(images), "ours": lambda: ours(crops), **products}, ROUNDS)
    seconds = {name: min(times) for name, times in taken.items()}  # what the machine can do, for all alike
    rates = {name: 2 * int(name.removeprefix("gemm_")) ** 3 / seconds[name] / 1e9 for name in products}
    ours_per_s = BATCH / seconds["ours"]
    rate = 2 * ours_per_s * describe(CascadeConfig(), 2)[2].multiply_adds / 1e9
    return [
        Result("infer_images_per_s", ours_per_s, "images/s", f"fused, {precision}, {CPU_CHUNK} at once; {SETTING}"),
        Result("infer_eager_fp32_images_per_s", BATCH / seconds["plain"], "images/s", f"plain torch; {SETTING}"),
        Result("infer_vs_eager_fp32", seconds["plain"] / seconds["ours"], "ratio", "infer over infer_eager_fp32"),
        Result("infer_vs_bf16_gemm", rate / rates["gemm_4096"], "ratio", "7.31 G multiply-adds an image, to gemm_4096"),
        *(Result(n, r, "GFLOP/s", f"a {precision} product of two square matrices") for n, r in rates.items()),
        *half_precision(),
    ]


def half_precision() -> list[Result]:
    """How far bf16 moves the normals of the trained model, over the faces of its samples; none before `make repro`."""
    if not TRAINED.is_file():
        return []
    index, network = read_index(SAMPLES), load_weights(TRAINED)[0]
    samples = [read_sample(SAMPLES, archive, 0) for archive in index["archive"].unique()[:FACES]]
    images = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        last, rounded = (fused(network, precision)(images) for precision in ("fp32", "bf16"))
    mask = torch.from_numpy(np.stack([s.mask for s in samples]))
    moved = angles(last, rounded)[mask].mean()
    return [
        Result(
            "infer_bf16_vs_fp32_deg", float(moved), "degrees", f"mean over {FACES} faces, {TRAINED.name}, last stage"
        )
    ]


def matrix_product(size: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A product of two square matrices: ``size`` cubed multiply-adds."""
    a, b = (torch.rand(size, size).to(dtype) for _ in range(2))
    return lambda: a @ b


# --- engines ---


def eager(network: Cascade, autocast: bool = False, channels_last: bool = False) -> Engine:
    """Plain torch."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(memory_format=layout)

    def compute(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return network(images.contiguous(memory_format=layout))[-1]

    return compute


def fused(network: Cascade, precision: str, compiled: bool = False) -> Engine:
    """What the predictor runs."""
    fast = fuse(network, DTYPES[precision])
    forward = torch.compile(fast) if compiled else fast

    def compute(images: Tensor) -> Tensor:
        return torch.cat([forward(part)[-1] for part in images.split(CPU_CHUNK)])

    return compute


def onnxruntime(network: Cascade, int8: bool = False, calibration: Tensor | None = None) -> Engine:
    """The exported file in ONNX Runtime; int8 by its static quantisation."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = _onnx(network, Path(folder))
        if int8:
            path = _quantised(path, calibration)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"image": images.numpy()})[0][:, -1])


def openvino(network: Cascade, precision: str) -> Engine:
    """The exported file in OpenVINO."""
    import openvino

    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        model = core.read_model(_onnx(network, Path(folder)))
        request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision}).create_infer_request()
    return lambda images: torch.from_numpy(next(iter(request.infer({0: images.numpy()}).values()))[:, -1])


def _onnx(network: Cascade, folder: Path) -> Path:
    with contextlib.redirect_stdout(io.StringIO()):
        export(network, folder / "model.onnx", {})
    return folder / "model.onnx"


def _quantised(path: Path, calibration: Tensor | None) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            images = torch.rand(8, 3, 256, 256) if calibration is None else calibration
            self.batches = iter([{"image": images[i : i + 2].numpy()} for i in range(0, len(images), 2)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    quantize_static(path, path.with_name("int8.onnx"), Reader())
    return path.with_name("int8.onnx")


# --- the long comparison ---

ENGINES: dict[str, Callable[[Cascade, Tensor], Engine]] = {
    "eager fp32": lambda n, _: eager(n),
    "eager fp32, channels last": lambda n, _: eager(n, channels_last=True),
    "eager bf16 (autocast), channels last": lambda n, _: eager(n, autocast=True, channels_last=True),
    "fused fp32": lambda n, _: fused(n, "fp32"),
    "fused bf16": lambda n, _: fused(n, "bf16"),
    "fused fp32, torch.compile": lambda n, _: fused(n, "fp32", compiled=True),
    "fused bf16, torch.compile": lambda n, _: fused(n, "bf16", compiled=True),
    "ONNX Runtime fp32": lambda n, _: onnxruntime(n),
    "ONNX Runtime int8 (static)": lambda n, faces: onnxruntime(n, int8=True, calibration=faces),
    "OpenVINO fp32": lambda n, _: openvino(n, "f32"),
    "OpenVINO bf16": lambda n, _: openvino(n, "bf16"),
}
# torch obeys the limit below; without the instructions for it, bf16 takes minutes a batch
ON_AVX2 = [name for name in ENGINES if name.startswith(("eager fp32", "fused fp32"))]
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def compare(names: list[str]) -> list[tuple[str, float, float]]:
    """(engine, seconds of a batch, mean angle in degrees to eager fp32 on trained weights)."""
    torch.manual_seed(0)
    trained, faces = load_weights(TRAINED)[0], portraits()
    reference = eager(trained)
    random, images = Cascade(CascadeConfig()).eval(), torch.rand(BATCH, 3, 256, 256)
    crops = images.contiguous(memory_format=torch.channels_last)
    tasks, errors = {}, {}
    with torch.inference_mode():
        for name in names:
            errors[name] = float(angles(ENGINES[name](trained, faces)(faces), reference(faces)).mean())
            given = crops if name.startswith("fused") else images
            tasks[name] = functools.partial(ENGINES[name](random_copy(random), images), given)
        seconds = medians(tasks, ROUNDS)
    return [(name, seconds[name], errors[name]) for name in names]


def random_copy(network: Cascade) -> Cascade:
    """The same network, whose memory layout may be changed."""
    copy = Cascade(network.config).eval()
    copy.load_state_dict(network.state_dict())
    return copy


def portraits() -> Tensor:
    """The eight face crops of ../shared/data/portraits [8, 3, 256, 256]."""
    from casfne.images import read_image

    crops = [read_image(path) for path in sorted((PORTRAITS / "crops_256").glob("*.png"))]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


def angles(a: Tensor, b: Tensor) -> Tensor:
    """Degrees between unit normals [B, 3, H, W] and others, [B, H, W]."""
    return torch.from_numpy(angle_deg(*(n.permute(0, 2, 3, 1).numpy() for n in (a, b))))


def main() -> None:
    """Every engine as the processor is, then torch's held to AVX2 in a process of its own."""
    if "--avx2" in sys.argv:
        print(markdown(compare(ON_AVX2)))
        return
    tables = [markdown(compare(list(ENGINES)))]
    command = [sys.executable, "-m", "benchmarks.inference", "--avx2"]
    tables.append(subprocess.run(command, env=os.environ | AVX2, check=True, capture_output=True, text=True).stdout)
    text = f"""# Inference on CPUs: what was tried

`python -m benchmarks.inference` wrote this on: {machine()}. {SETTING}, taken in turns, medians of {ROUNDS}.
The angle is the mean to eager fp32, of the demo model (F = 16) on eight portraits.

{tables[0]}
Held to AVX2 (`{" ".join(f"{k}={v}" for k, v in AVX2.items())}`):

{tables[1]}"""
    write_text(Path(__file__).with_suffix(".md"), text.rstrip() + "\n")
    print(text)


def markdown(rows: list[tuple[str, float, float]]) -> str:
    """A table; ratios are to its first row. An engine whose normals are no numbers has no speed either."""
    lines = ["| engine | images/s | against the first | angle |", "| --- | --- | --- | --- |"]
    for name, seconds, error in rows:
        speed = f"{BATCH / seconds:.1f} | {rows[0][1] / seconds:.2f} | {error:.3f}°"
        lines.append(f"| {name} | {speed if math.isfinite(error) else 'not finite | |'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
