"""From face crops to normals: one object that holds the network, its device and its precision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from casfne.errors import InputError
from casfne.images import SIZE, Crop, centre_crop
from casfne.model import confidence
from casfne.model.cascade import Cascade
from casfne.model.checkpoints import load_weights
from casfne.model.devices import DTYPES, choose_device, choose_precision
from casfne.model.fused import fuse
from casfne.model.releases import weights_file
from casfne.normals import normalise
from casfne.provenance import code_version, file_sha256

CPU_CHUNK = 4  # crops at once on a CPU: their features stay in its cache, which a batch of 8 already overflows


def load(
    name_or_path: str | Path, device: str = "auto", precision: str = "auto", compiled: bool = False
) -> "CascadePredictor":
    """A predictor from a release's name or a weights file. InputError, in one line, where there is none.

    ``device``: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1". ``precision``: "auto" (bf16 where
    the device computes it natively), "fp32", "bf16", "fp16". ``compiled``: through `torch.compile`, which takes
    a minute and wants a C++ compiler; benchmarks/inference.md says what it gains.
    """
    path = weights_file(name_or_path)
    network, about = load_weights(path)
    known = confidence.names(sum(network.structure.channels[-2:]))
    if unknown := sorted(set(about.get("confidence") or {}) - set(known)):
        raise InputError(f"{path}: confidence by {unknown[0]!r}, which this version does not know")
    chosen = choose_device(device)
    precision = choose_precision(precision, chosen)
    return CascadePredictor(network, path.stem, file_sha256(path), about, chosen, precision, compiled)


class CascadePredictor:
    """The cascade, ready for uint8 RGB crops. ``network`` is its fused form (`fuse`) on ``device``:
    images [B, 3, H, W] in 0..1 to T + 1 unit normals [B, 3, H, W], float32."""

    def __init__(
        self,
        network: Cascade,
        name: str,
        sha256: str,
        about: dict[str, Any],
        device: torch.device,
        precision: str,
        compiled: bool = False,
    ) -> None:
        self.network = fuse(network, DTYPES[precision]).to(device)
        self._compute = torch.compile(self.network.with_summary) if compiled else self.network.with_summary
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

    def predict_at_source(
        self, photos: Sequence[NDArray[np.uint8]], crops: Sequence[Crop] | None = None, batch: int = 8
    ) -> list[NDArray[np.float32]]:
        """Unit normals in the photographs' own pixels, float32 [H, W, 3] each; (0, 0, 0) outside its crop.

        ``photos``: uint8 RGB [H, W, 3]. ``crops``: where the face is in each (`images.crop_from_points`);
        default: the centre square.
        """
        windows = [centre_crop(*p.shape[:2]) for p in photos] if crops is None else crops
        normals = self.predict([window.apply(photo) for photo, window in zip(photos, windows, strict=True)], batch)
        pasted = (w.paste(n, *p.shape[:2]) for p, w, n in zip(photos, windows, normals, strict=True))
        return [normalise(normal) for normal in pasted]

    def predict_stages(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """All stages' normals, float32 [N, T + 1, 256, 256, 3], of uint8 [N, 256, 256, 3]."""
        return self.assess(crops)[0]

    def assess(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """All stages' normals, float32 [N, T + 1, 256, 256, 3], of uint8 [N, 256, 256, 3], and the angular error to
        expect of the last, in degrees, float32 [N, 256, 256]; on a GPU computed in one go.

        The expectation was fitted at training on people that it had not seen (`casfne.model.confidence`); NaN where
        the weights carry no fit.
        """
        if crops.ndim != 4 or crops.shape[1:] != (SIZE, SIZE, 3) or crops.dtype != np.uint8:
            raise ValueError(f"expected uint8 [N, {SIZE}, {SIZE}, 3], got {crops.dtype} {crops.shape}")
        images = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2)
        chunk = CPU_CHUNK if self.device.type == "cpu" else max(len(images), 1)
        with torch.inference_mode():
            parts = [self._assess(part) for part in images.split(chunk)]
        stages, expected = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
        return stages, expected

    def _assess(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pictures = images.to(self.device).float() / 255
        each, summary = self._compute(pictures)
        stages = torch.stack(each, 1)
        if weights := self.about.get("confidence"):
            expected = confidence.expected_error_deg(pictures, stages, summary, weights)
        else:
            expected = torch.full_like(stages[:, 0, 0], torch.nan)
        return stages.permute(0, 1, 3, 4, 2).cpu(), expected.cpu()


def as_crops(images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """One picture or several as uint8 [N, 256, 256, 3]; ValueError for anything that is not uint8 RGB."""
    many = [images] if isinstance(images, np.ndarray) and images.ndim == 3 else list(images)
    for i, image in enumerate(many):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"image {i}: expected uint8 RGB [H, W, 3], got {came}")
    crops = [i if i.shape[:2] == (SIZE, SIZE) else centre_crop(*i.shape[:2]).apply(i) for i in many]
    return np.stack(crops) if crops else np.zeros((0, SIZE, SIZE, 3), np.uint8)
