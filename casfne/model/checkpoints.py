"""Checkpoints: safetensors with the configuration and the origin of the weights in the file's metadata."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from casfne.errors import InputError
from casfne.files import atomic_open
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.releases import weights_file
from casfne.provenance import code_version


def save_weights(path: Path | str, network: Cascade, about: dict[str, Any], half: bool = False) -> None:
    """Write the weights, whole or not at all; ``about`` (plain values) goes to the metadata as JSON.

    ``half``: convolutions in fp16, which halves the file; biases and batch norms stay fp32.
    """
    tensors = {k: _stored(v, half) for k, v in network.state_dict().items()}
    metadata = {
        "format": "casfne",
        "frame": "opengl",
        "config": json.dumps(network.config.as_dict()),
        "code_version": code_version(),
        "about": json.dumps(about),
    }
    with atomic_open(path) as file:
        file.write(save(tensors, metadata))


def _stored(tensor: torch.Tensor, half: bool) -> torch.Tensor:
    kept = tensor.half() if half and tensor.ndim > 1 else tensor
    return kept.detach().cpu().contiguous()


def load_weights(path: Path | str) -> tuple[Cascade, dict[str, Any]]:
    """The network of a release's name or a file, in evaluation mode, float32, on the CPU, and what is known about it.

    Raises InputError naming the file: missing, no safetensors, not ours, a configuration that this version does
    not know, or tensors that are missing, extra, misshaped or not finite.
    """
    path = weights_file(path)
    metadata, tensors = _read(path)
    config, expected = metadata["config"], CascadeConfig().as_dict()
    if config.keys() != expected.keys():  # of another version: the names of tensors may agree and not their meaning
        raise InputError(f"{path}: configuration {', '.join(config)}, this version's is {', '.join(expected)}")
    network = Cascade(CascadeConfig(**config))
    fill(network, tensors, str(path))
    return network.eval(), metadata["about"]


def read_metadata(path: Path | str) -> dict[str, Any]:
    """All that the weights of a release's name or a file say of themselves: format, frame, code_version, config and
    about. InputError as for `load_weights`."""
    return _read(weights_file(path))[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from None
    if metadata.get("format") != "casfne":
        raise InputError(f"{path}: safetensors, but not written by casfne")
    said = {name: metadata.get(name) for name in ("format", "frame", "code_version")}
    return said | {name: json.loads(metadata[name]) for name in ("config", "about")}, tensors


def fill(network: nn.Module, tensors: dict[str, torch.Tensor], path: str) -> None:
    """Give ``network`` these tensors; InputError naming ``path`` when names, shapes or values are not right."""
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
