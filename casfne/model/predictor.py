"""From face crops to normals: one object that holds the network, its device and its precision."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.images import SIZE, centre_crop
from casfne.model.cascade import Cascade
from casfne.model.checkpoints import load_weights
from casfne.provenance import code_version, file_sha256

PRECISIONS = ("fp32", "bf16")


def load(name_or_path: str | Path, device: str = "auto", precision: str = "auto") -> "Predictor":
    """A predictor from a weights file. InputError, in one line, where there is none.

    ``device``: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1". ``precision``: "auto" (bf16 where
    the device computes it natively), "fp32", "bf16".
    """
    path = Path(name_or_path)
    if not path.is_file():
        raise InputError(f"no weights at {path}: `make repro` trains data/model/model.safetensors; or name yours")
    network, about = load_weights(path)
    chosen = choose_device(device)
    return Predictor(network, path.stem, file_sha256(path), about, chosen, choose_precision(precision, chosen))


class Predictor:
    """The cascade, ready for uint8 RGB crops. ``network`` is the torch module on ``device``."""

    def __init__(
        self,
        network: Cascade,
        name: str,
        sha256: str,
        about: dict[str, Any],
        device: torch.device,
        precision: str,
    ) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last).eval()
        self.name, self.sha256, self.about = name, sha256, about
        self.device, self.precision = device, precision
        self.refinements = network.config.refinements
        self.code_version = code_version()

    def predict(self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], batch: int = 8) -> NDArray:
        """Last stage's unit normals, float32 [N, 256, 256, 3], frame ``opengl``, of N face crops.

        ``images``: uint8 RGB [H, W, 3], or a list (or [N, H, W, 3]) of them; other sizes are resized, and of
        a picture that is not square the centre square is taken. At most ``batch`` crops are computed at once.
        """
        crops = as_crops(images)
        parts = [self.predict_stages(crops[i : i + batch])[:, -1] for i in range(0, len(crops), batch)]
        return np.concatenate(parts) if parts else np.zeros((0, SIZE, SIZE, 3), np.float32)

    def predict_stages(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """All stages, float32 [N, T + 1, 256, 256, 3], of uint8 [N, 256, 256, 3], computed in one go."""
        if crops.ndim != 4 or crops.shape[1:] != (SIZE, SIZE, 3) or crops.dtype != np.uint8:
            raise ValueError(f"expected uint8 [N, {SIZE}, {SIZE}, 3], got {crops.dtype} {crops.shape}")
        image = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device).permute(0, 3, 1, 2)
        with torch.inference_mode(), autocast(self.device, self.precision):
            stages = torch.stack(self.network(image.float() / 255), 1)  # [N, T + 1, 3, 256, 256]
        return stages.permute(0, 1, 3, 4, 2).cpu().numpy()

    def expected_error(self, last_move_deg: NDArray) -> NDArray[np.float64]:
        """Expected mean angular error in degrees of faces whose last refinement moved by ``last_move_deg``.

        A line fitted at training on people it had not seen; NaN where the checkpoint carries none.
        """
        base, slope = self.about.get("confidence") or (np.nan, np.nan)
        return base + slope * np.asarray(last_move_deg, np.float64)


def as_crops(images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """One picture or several as uint8 [N, 256, 256, 3]; ValueError for anything that is not uint8 RGB."""
    many = [images] if isinstance(images, np.ndarray) and images.ndim == 3 else list(images)
    for i, image in enumerate(many):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"image {i}: expected uint8 RGB [H, W, 3], got {came}")
    crops = [i if i.shape[:2] == (SIZE, SIZE) else centre_crop(*i.shape[:2]).apply(i) for i in many]
    return np.stack(crops) if crops else np.zeros((0, SIZE, SIZE, 3), np.uint8)


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
    """ "auto" as what ``device`` computes natively: bf16 where it can, else fp32."""
    if precision == "auto":
        return "bf16" if _has_bf16(device) else "fp32"
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r}: expected auto, {' or '.join(PRECISIONS)}")
    return precision


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision on ``device`` for "bf16"; nothing for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
