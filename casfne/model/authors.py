"""The authors' released checkpoint (``epoch_500.pth``) as a cascade of ours: names, checks and frame.

The file is what ``torch.save`` makes of ``{"epoch": ..., "model": state dict, "Dmodel": ...}``. The state dict
holds E_f twice: as a whole ResNet-18 (``BasedNormalNet.base_model``) and as the cut of it that computes.
"""

import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from casfne.errors import InputError
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.encoders import ResNet18
from casfne.normals import FRAMES, convert
from casfne.provenance import file_sha256

MAX_WIDTH = 1024  # the release has 32

# part of torchvision's ResNet-18 -> where it stands in the cut; "layerN" of the authors and our parts count alike
_CUT = {"conv1": "0.0", "bn1": "0.1", "layer1": "1.1", "layer2": "2", "layer3": "3", "layer4": "4"}

# the authors' module -> ours
_MODULES = {
    **{f"BasedNormalNet.base_model.{whole}": f"structure.parts.{cut}" for whole, cut in _CUT.items()},
    **{f"BasedNormalNet.layer{cut}": f"structure.parts.{cut}" for cut in _CUT.values()},
    **{f"BasedNormalNet.deconv{4 + i}": f"initial.up.{i}" for i in range(5)},
    **{f"BasedNormalNet.deconv{4 + i}_bn": f"initial.norm.{i}" for i in range(5)},
    "BasedNormalNet.conhead": "initial.head",
    **{f"NormalEncoder.conv{1 + i}": f"normal_encoder.down.{i}" for i in range(5)},
    **{f"NormalEncoder.conv{2 + i}_bn": f"normal_encoder.norm.{i}" for i in range(3)},
    **{f"NormalDecoder.N2deconv{4 + i}": f"refinement.up.{i}" for i in range(5)},
    **{f"NormalDecoder.N2deconv{4 + i}_bn": f"refinement.norm.{i}" for i in range(4)},
}
_UNUSED = ("BasedNormalNet.base_model.fc.weight", "BasedNormalNet.base_model.fc.bias")  # ResNet-18's classifier
_HEAD = "BasedNormalNet.conhead.weight"  # [F, 3, 3, 3]: tells the width F
_COUNTER = "num_batches_tracked"  # of batch norm; computes nothing, and old versions of torch did not save it

# our tensors that write or read normals, and the axis of their x, y, z
_NORMAL_AXES = {
    "initial.head.weight": 1,
    "initial.head.bias": 0,
    "refinement.up.4.weight": 1,
    "refinement.up.4.bias": 0,
    "normal_encoder.down.0.weight": 1,
}


def import_authors(path: Path | str, frame: str) -> tuple[Cascade, dict[str, Any]]:
    """The authors' network, T = 2, in evaluation mode, float32, on the CPU; and its origin, for ``save_weights``.

    ``frame``, one of ``casfne.normals.FRAMES``: the frame in which the released network writes its normals.
    Our network answers in ``opengl`` whatever it was, exactly: the channels of the convolutions that write and
    read normals are permuted and negated, which tanh and the normalisation let through. "opengl" leaves the
    weights as they are. The checkpoint does not say its frame. Their public training script turns the
    stored ground truth (down, right, out: ``sfs``) into (right, up, out) before its loss, which speaks for "opengl";
    ``casfne.normals.recognise_frame`` tells it from the prediction for one face.

    Raises InputError as ``read_authors`` does, and for an unknown frame.
    """
    if frame not in FRAMES:
        raise InputError(f"frame {frame!r}: expected one of {', '.join(FRAMES)}")
    tensors, about = read_authors(path)
    network = Cascade(_config(tensors["initial.head.weight"].shape[0]))
    network.load_state_dict(_turned(tensors, frame))
    return network.eval(), about | {"source_frame": frame}


def read_authors(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The released weights under our names, float32, on the CPU; and where they come from.

    The names and shapes are those of ``Cascade(CascadeConfig(width=F, refinements=2))``, with F as the file has
    it. The origin holds ``source``, ``file``, ``sha256`` and ``epoch`` (None where the file names none). A bare
    state dict is read too, and names that all begin with ``module.`` (DataParallel). Nothing in the file is run.

    Raises InputError naming the file: missing, no torch file, one with code or objects in it, no state dict, or
    tensors that are missing, unknown, misshaped, not finite, or differ between the two copies of E_f.
    """
    checkpoint = _load(path)
    weights = _state_dict(checkpoint, path)
    _check_names(weights, path)
    epoch = checkpoint.get("epoch")
    about = {
        "source": "authors' release",
        "file": Path(path).name,
        "sha256": file_sha256(path),
        "epoch": epoch if isinstance(epoch, int) else None,
    }
    return _renamed(weights, path), about


def _load(path: Path | str) -> dict[Any, Any]:
    """What is in the file, plain values and tensors only: torch refuses to make, or call, anything else."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles and archives that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # torch raises many kinds
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(f"{path}: holds code or objects ({foreign[1]}), not just tensors: refused") from None
        raise InputError(f"{path}: not a PyTorch checkpoint, or a damaged one") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, expected a dict with the entry 'model'")
    return content


def _state_dict(checkpoint: dict[Any, Any], path: Path | str) -> dict[str, Any]:
    """The entry "model", or the whole where that is a state dict itself; without the prefix "module."."""
    bare = any(str(name).removeprefix("module.").startswith("BasedNormalNet.") for name in checkpoint)
    model = checkpoint if bare else checkpoint.get("model")
    if not isinstance(model, dict):
        entries = ", ".join(map(str, checkpoint)) or "none"
        raise InputError(f"{path}: no state dict under the entry 'model' (entries: {entries:.200})")
    prefix = "module." if all(str(name).startswith("module.") for name in model) else ""
    return {str(name).removeprefix(prefix): value for name, value in model.items()}


def _check_names(weights: dict[str, Any], path: Path | str) -> None:
    known = _names().keys()
    missing = [name for name in known if name not in weights and not name.endswith(_COUNTER)]
    unknown = [name for name in weights if name not in known and name not in _UNUSED]
    for verb, names in (("missing", missing), ("unknown", unknown)):
        if names:
            raise InputError(f"{path}: {len(names)} {verb} tensors, first {names[0]}")


def _renamed(weights: dict[str, Any], path: Path | str) -> dict[str, Tensor]:
    """The tensors under our names, each checked; of two copies one, once they are equal."""
    expected = _expected(_width(weights, path))
    tensors: dict[str, Tensor] = {}
    for theirs, ours in _names().items():
        if theirs in weights:
            tensor = _checked(weights[theirs], expected[ours], f"{path}: {theirs}")
            if not torch.equal(tensors.setdefault(ours, tensor), tensor):
                raise InputError(f"{path}: {theirs} differs from its copy in BasedNormalNet.base_model")
    counters = {name: torch.tensor(0) for name in expected if name.endswith(_COUNTER)}
    return counters | tensors | _normals_first(tensors)


def _normals_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """D_cn's first layer with E_cn's 8F input channels before E_f's 512, as ours reads them: the release has them
    behind, at this level alone."""
    name = "refinement.up.0.weight"  # [512 + 8F, 8F, 4, 4]
    return {name: tensors[name].roll(-ResNet18.channels[-1], 0)}


def _width(weights: dict[str, Any], path: Path | str) -> int:
    head = weights[_HEAD]
    if not isinstance(head, Tensor) or head.ndim != 4 or not 1 <= len(head) <= MAX_WIDTH:
        came = tuple(head.shape) if isinstance(head, Tensor) else type(head).__name__
        raise InputError(f"{path}: {_HEAD} has shape {came}, expected (1..{MAX_WIDTH}, 3, 3, 3)")
    return len(head)


def _checked(value: Any, expected: Tensor, name: str) -> Tensor:
    """``value`` in the type of ``expected``; InputError, beginning with ``name``, where it cannot stand for it."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.device.type != "cpu":
        raise InputError(f"{name} is no plain tensor")
    if value.shape != expected.shape:
        raise InputError(f"{name} has shape {tuple(value.shape)}, expected {tuple(expected.shape)}")
    if value.is_floating_point() != expected.is_floating_point():
        raise InputError(f"{name} has type {value.dtype}, expected {expected.dtype}")
    tensor = value.detach().to(expected.dtype)
    if not torch.isfinite(tensor).all():
        raise InputError(f"{name} holds values that are not finite")
    return tensor


@cache
def _names() -> dict[str, str]:
    """Every tensor of the release under its name there, but the classifier's, with our name for it."""
    ours = _expected(width=1)
    return {
        theirs + name.removeprefix(mine): name
        for theirs, mine in _MODULES.items()
        for name in ours
        if name.startswith(f"{mine}.")
    }


def _expected(width: int) -> dict[str, Tensor]:
    """Our state dict: names, shapes and types, without values."""
    with torch.device("meta"):
        return Cascade(_config(width)).state_dict()


def _config(width: int) -> CascadeConfig:
    return CascadeConfig(width=width, refinements=2, normalisation="none")


def _turned(tensors: dict[str, Tensor], frame: str) -> dict[str, Tensor]:
    """The weights for normals in ``opengl``, from those for normals in ``frame``."""
    to_ours = torch.from_numpy(convert(np.eye(3), frame).T)  # ours = to_ours @ theirs: one +-1 in each row
    order, sign = to_ours.abs().argmax(1), to_ours.sum(1)
    turned = {}
    for name, axis in _NORMAL_AXES.items():
        shape = [3 if i == axis else 1 for i in range(tensors[name].ndim)]
        turned[name] = tensors[name].index_select(axis, order) * sign.view(shape)
    return tensors | turned
