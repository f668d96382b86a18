"""Checkpoints: safetensors with the configuration and the origin of the weights in the file's metadata."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from casfne.errors import InputError
from casfne.images import atomic_open
from casfne.model.cascade import Cascade, CascadeConfig


def save_weights(path: Path | str, network: Cascade, about: dict[str, Any]) -> None:
    """Write the weights, whole or not at all; ``about`` (plain values) goes to the metadata as JSON."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    metadata = {
        "format": "casfne",
        "frame": "opengl",
        "config": json.dumps(network.config.as_dict()),
        "about": json.dumps(about),
    }
    with atomic_open(path) as file:
        file.write(save(tensors, metadata))


def load_weights(path: Path | str) -> tuple[Cascade, dict[str, Any]]:
    """The network in evaluation mode, float32, on the CPU, and what is known about it.

    Raises InputError naming the file: missing, no safetensors, not ours, or tensors that are missing, extra,
    misshaped or not finite.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such weights")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from None
    if metadata.get("format") != "casfne":
        raise InputError(f"{path}: safetensors, but not written by casfne")
    network = Cascade(CascadeConfig(**json.loads(metadata["config"])))
    _fill(network, tensors, str(path))
    return network.eval(), json.loads(metadata["about"])


def _fill(network: nn.Module, tensors: dict[str, torch.Tensor], path: str) -> None:
    expected = network.state_dict()
    for verb, names in (("missing", expected.keys() - tensors), ("unknown", tensors.keys() - expected)):
        if names:
            raise InputError(f"{path}: {len(names)} {verb} tensors, first {min(names)}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            expects, came = tuple(expected[name].shape), tuple(tensor.shape)
            raise InputError(f"{path}: {name} has shape {came}, expected {expects}")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {name} holds values that are not finite")
    network.load_state_dict(tensors)
