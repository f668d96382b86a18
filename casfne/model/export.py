"""The fused cascade as a file that runs without this package: ONNX, or torch's own program format."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from casfne.errors import InputError
from casfne.files import atomic_open
from casfne.images import SIZE
from casfne.model.cascade import Cascade
from casfne.model.fused import fuse


class _Stacked(nn.Module):
    """Image [B, 3, 256, 256] to all stages in one tensor [B, T + 1, 3, 256, 256]."""

    def __init__(self, network: Cascade) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack(self.network(image), 1)


def export(network: Cascade, path: Path | str, about: dict[str, Any]) -> None:
    """Write ``network`` as ``.onnx`` or ``.pt2`` (`torch.export`), fp32, whole or not at all.

    Input ``image``: float32 [B, 3, 256, 256], sRGB in 0..1, any B. Output ``normals``: float32
    [B, T + 1, 3, 256, 256], unit, frame opengl, t = 0 first. ``about`` goes into an ONNX file's metadata, with
    frame and configuration. InputError for another suffix, or ONNX without the packages of `casfne[onnx]`.
    """
    suffix = Path(path).suffix
    if suffix not in (".onnx", ".pt2"):
        raise InputError(f"{path}: expected a name in .onnx or .pt2 (`casfne export` also writes .safetensors)")
    if suffix == ".onnx" and not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise InputError(f"{path}: ONNX needs the packages onnx and onnxscript: pip install 'casfne[onnx]'")
    module = _Stacked(fuse(network)).eval()
    examples = (torch.rand(2, 3, SIZE, SIZE),)
    batch = {"image": {0: torch.export.Dim("batch")}}
    with torch.no_grad(), atomic_open(path) as file:
        program = torch.export.export(module, examples, dynamic_shapes=batch)
        if suffix == ".pt2":
            torch.export.save(program, file)
            return
        onnx: Any = torch.onnx.export(program, input_names=["image"], output_names=["normals"], verbose=False)
        model = onnx.model_proto
        facts = {"frame": "opengl", "config": json.dumps(network.config.as_dict()), "about": json.dumps(about)}
        for key, value in facts.items():
            model.metadata_props.add(key=key, value=value)
        file.write(model.SerializeToString())
