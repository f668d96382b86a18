"""Which device, and in which precision: what "auto" means, and what a device cannot do."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from casfne.errors import InputError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = tuple(DTYPES)


def choose_device(device: str) -> torch.device:
    """ "auto" or a torch device name as a device; InputError for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"device {device!r}: expected auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r}: there are {torch.cuda.device_count()} CUDA devices")
    return chosen


def choose_precision(precision: str, device: torch.device) -> str:
    """ "auto" as what ``device`` computes natively: bf16 where it can, else fp32.

    InputError for another name, and for fp16 on a processor that would emulate it, slower than fp32.
    """
    if precision == "auto":
        return "bf16" if _has_bf16(device) else "fp32"
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r}: expected auto, {', '.join(PRECISIONS)}")
    if precision == "fp16" and device.type == "cpu" and not _cpu_has("avx512_fp16", "amx_fp16", "arm_fp16"):
        raise InputError("precision 'fp16': this processor does not compute it; use auto, bf16 or fp32")
    return precision


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return _cpu_has("avx512_bf16", "amx_bf16", "arm_bf16")


def _cpu_has(*names: str) -> bool:
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in names)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision on ``device`` for "bf16"; nothing for "fp32". For training: inference casts the weights."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
