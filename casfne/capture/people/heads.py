"""People: linear models of the head, read from npz files, and how persons and expressions are drawn.

Head space: metres, x right in the picture, y up, z to the camera; the unposed head faces +z, x = 0 is its symmetry
plane, the height's origin lies halfway between chin and crown, the bridge of the nose at z = 0.097. ``_L`` in an
action's name is the person's left, which is the picture's right (x > 0).
"""

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.people.expressions import ACTIONS, sample_actions
from casfne.capture.people.sexes import sample_sex, womanly
from casfne.errors import InputError
from casfne.files import read_arrays

REGIONS = ("face", "head", "teeth", "mouth", "sclera", "iris")
FACE, HEAD, TEETH, MOUTH, SCLERA, IRIS = range(len(REGIONS))

CHIN, NOSE_BRIDGE = 8, 27  # of the 68 landmarks
_BRIDGE_DEPTH = 0.097  # m: puts the origin inside the head, near the axis on which it turns
_CENTIMETRE = 0.01
_SPREAD = (0.55, 0.9)  # of the scans' own standard deviation: beyond it some faces no longer look like people
_MOST = 2.3  # standard deviations of one component
_SEXES = 1.1  # standard deviations from the mean of all to that of either sex
_LIPS = ((61, 67), (62, 66), (63, 65))  # landmarks on the rims of the lips that meet: above, below
_LIP_GAP = 0.0001  # m between those rims at rest; a scan's lips stand apart or overlap by a millimetre
# how far an eye at full strength turns: (degrees upwards, degrees towards the nose); lids of facekit's models follow it
_GAZE_DEG = {"eyeLookIn": (0, 30), "eyeLookOut": (0, -30), "eyeLookUp": (20, 0), "eyeLookDown": (-25, 0)}
_STILL = 0.001  # m: an eyeball that moves by less under full gaze is one that the model leaves in place

# key -> kinds of dtype, and its shape: a letter is a size, equal wherever it stands
_FORM: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "vertices": ("f", ("V", 3)),
    "triangles": ("iu", ("T", 3)),
    "triangle_region": ("iu", ("T",)),
    "region_names": ("U", ("R",)),
    "uv": ("f", ("U", 2)),
    "triangle_uv": ("iu", ("T", 3)),
    "identity": ("f", ("K", "V", 3)),
    "expression": ("f", ("E", "V", 3)),
    "expression_names": ("U", ("E",)),
    "landmarks_68": ("iu", (68,)),
}
_KINDS = {"f": "floats", "iu": "integers", "U": "text"}
_POINTS_INTO = {
    "triangles": "vertices",
    "triangle_uv": "uv",
    "landmarks_68": "vertices",
    "triangle_region": "region_names",
}

Arrays = dict[str, NDArray]


@dataclass(frozen=True)
class HeadModel:
    """A linear head: people and expressions are sums of displacements of one mesh. Metres, in head space.

    template float32 [V, 3]: the mean person at rest. triangles int64 [T, 3], counter-clockwise from outside.
    region int64 [T]: numbers of ``REGIONS``. uv float32 [U, 2], triangle_uv int64 [T, 3] into it. identity float32
    [K, V, 3]: one standard deviation each. expression float32 [E, V, 3]: actions at full strength, by
    expression_names (ARKit's, their sides as _L and _R). landmarks int64 [68]: vertices, in iBUG's order.
    """

    name: str
    template: Tensor
    triangles: Tensor
    region: Tensor
    uv: Tensor
    triangle_uv: Tensor
    identity: Tensor
    expression: Tensor
    expression_names: tuple[str, ...]
    landmarks: Tensor

    def to(self, device: torch.device | str) -> "HeadModel":
        """The same model on ``device``."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {key: value.to(device) for key, value in values.items() if isinstance(value, Tensor)}
        return HeadModel(**values)

    def vertices(self, identity: Tensor, expression: Tensor) -> Tensor:
        """float32 [B, V, 3] of people float32 [B, K] with expressions float32 [B, E]."""
        expected = (len(self.identity), len(self.expression))
        given = tuple(x.shape[-1] for x in (identity, expression))
        if given != expected or identity.shape[:-1] != expression.shape[:-1] or identity.ndim != 2:
            raise ValueError(
                f"expected [B, {expected[0]}] and [B, {expected[1]}], got {[*identity.shape]} and {[*expression.shape]}"
            )
        offsets = torch.cat([identity, expression], -1).double() @ self._bases
        return (self.template.view(1, -1) + offsets.float()).view(len(identity), -1, 3)

    @cached_property
    def _bases(self) -> Tensor:
        """Both bases, float64 [K + E, 3 V]: in float32 a product's rounding would depend on the batch's size."""
        return torch.cat([self.identity, self.expression]).flatten(1).double()

    def weight(self, expression: Tensor, name: str) -> Tensor:
        """Strength [B] of an action in expressions [B, E]: the mean of its sides; 0 where the model lacks it."""
        columns = [i for i, known in enumerate(self.expression_names) if _action(known)[0] == name or known == name]
        return expression[:, columns].mean(-1) if columns else expression.new_zeros(len(expression))


def read_head_model(path: Path | str) -> HeadModel:
    """A head model from an npz file (centimetres; keys as in `casfne.capture.people.facekit.import_facekit`).

    Raises InputError that names the file, the key and what is wrong with it.
    """
    path = Path(path)
    arrays = read_arrays(path, _FORM)
    _check(path, arrays)
    template = torch.from_numpy(arrays["vertices"].astype(np.float32))
    landmarks = torch.from_numpy(arrays["landmarks_68"].astype(np.int64))
    numbers = np.array([REGIONS.index(name) for name in arrays["region_names"]], np.int64)
    model = HeadModel(
        name=path.stem,
        template=(template - _origin(template, landmarks)) * _CENTIMETRE,
        triangles=_whole(arrays["triangles"]),
        region=torch.from_numpy(numbers[arrays["triangle_region"]]),
        uv=torch.from_numpy(arrays["uv"].astype(np.float32)),
        triangle_uv=_whole(arrays["triangle_uv"]),
        identity=_displacements(arrays["identity"]),
        expression=_displacements(arrays["expression"]),
        expression_names=tuple(str(name) for name in arrays["expression_names"]),
        landmarks=landmarks,
    )
    return _with_closed_lips(_with_turning_eyes(model))


def sample_identity(model: HeadModel, draws: Draws) -> Tensor:
    """People [B, K]: float32 coefficients, some nearer to the mean of their sex than others."""
    sex, draws = sample_sex(draws), draws.sub("identity")
    spread = draws.between("spread", *_SPREAD)[:, None]
    own = draws.normal("components", len(model.identity)).clamp(-_MOST, _MOST) * spread
    return own + (_SEXES * (2 * sex - 1))[:, None] * womanly(model.landmarks, model.identity)


def sample_expression(model: HeadModel, draws: Draws) -> Tensor:
    """Expressions [B, E]: float32 in 0..1, plausible combinations; a third of them near rest."""
    both = sample_actions(draws.sub("expression"))
    names = [_action(name) for name in model.expression_names]
    known = torch.tensor([name in ACTIONS for name, _ in names], device=draws.device)
    action = torch.tensor([ACTIONS.index(name) if name in ACTIONS else 0 for name, _ in names], device=draws.device)
    side = torch.tensor([side for _, side in names], device=draws.device)
    return both[:, action, side] * known


def _action(name: str) -> tuple[str, int]:
    """An action's name without its side, and 0 for the person's left (or no side), 1 for the right."""
    return (name[:-2], int(name.endswith("_R"))) if name.endswith(("_L", "_R")) else (name, 0)


def _origin(template: Tensor, landmarks: Tensor) -> Tensor:
    """Where head space has its origin, [3] in centimetres."""
    bridge = template[landmarks[NOSE_BRIDGE]]
    height = (template[:, 1].amax() + template[landmarks[CHIN], 1]) / 2
    return torch.stack([torch.zeros_like(height), height, bridge[2] - _BRIDGE_DEPTH / _CENTIMETRE])


def _with_turning_eyes(model: HeadModel) -> HeadModel:
    """The model with eyeballs that turn where its gaze moves the lids alone."""
    expression = model.expression.clone()
    balls = model.triangles[(model.region == SCLERA) | (model.region == IRIS)].unique()
    for row, name in zip(expression, model.expression_names, strict=True):
        action, side = _action(name)
        own = balls[(model.template[balls, 0] > 0) == (side == 0)]
        if action in _GAZE_DEG and len(own) and row[own].norm(dim=-1).amax() < _STILL:
            up, inwards = _GAZE_DEG[action]
            row[own] += _turned(model.template[own], up, inwards if side else -inwards)
    return replace(model, expression=expression)


def _turned(ball: Tensor, up_deg: float, right_deg: float) -> Tensor:
    """Displacements [N, 3] of an eyeball's vertices when it looks up or to the right of the picture."""
    up, right = math.radians(up_deg), math.radians(right_deg)
    about_x = torch.tensor([[1, 0, 0], [0, math.cos(up), math.sin(up)], [0, -math.sin(up), math.cos(up)]])
    about_y = torch.tensor([[math.cos(right), 0, math.sin(right)], [0, 1, 0], [-math.sin(right), 0, math.cos(right)]])
    from_centre = ball - (ball.amin(0) + ball.amax(0)) / 2
    return from_centre @ (about_y @ about_x).T - from_centre


def _with_closed_lips(model: HeadModel) -> HeadModel:
    """The model with a mean person and components whose lips just meet at rest, by means of its own mouthClose.

    Otherwise half of the people show their teeth between lips that stand a millimetre apart.
    """
    if "mouthClose" not in model.expression_names:
        return model
    close = model.expression[model.expression_names.index("mouthClose")]
    gap = _lip_gap(model, close)
    shut = (_LIP_GAP - _lip_gap(model, model.template)) / gap
    return replace(
        model,
        template=model.template + shut * close,
        identity=model.identity - (_lip_gap(model, model.identity) / gap)[:, None, None] * close,
    )


def _lip_gap(model: HeadModel, vertices: Tensor) -> Tensor:
    """Mean height [...] of the upper lip's rim above the lower one's, of vertices (or displacements) [..., V, 3]."""
    above, below = model.landmarks[torch.tensor(_LIPS)].unbind(-1)
    return (vertices[..., above, 1] - vertices[..., below, 1]).mean(-1)


def _whole(array: NDArray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def _displacements(array: NDArray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).mul_(_CENTIMETRE)


def _check(path: Path, arrays: Arrays) -> None:
    """InputError that names the first key that is missing or wrong."""
    sizes: dict[str, int] = {}
    for key, (kinds, shape) in _FORM.items():
        if key not in arrays:
            raise InputError(f"{path}: no key {key!r}: not a head model")
        fault = _form_fault(arrays[key], kinds, shape, sizes) or _content_fault(key, arrays)
        if fault:
            raise InputError(f"{path}: {key}: {fault}")


def _form_fault(array: NDArray, kinds: str, shape: tuple[int | str, ...], sizes: dict[str, int]) -> str | None:
    if array.dtype.kind not in kinds:
        return f"expected {_KINDS[kinds]}, got {array.dtype}"
    wanted = [sizes.get(size, size) if isinstance(size, str) else size for size in shape]
    fits = array.ndim == len(wanted) and array.size > 0
    if not fits or any(isinstance(w, int) and w != got for w, got in zip(wanted, array.shape, strict=True)):
        return f"expected [{', '.join(map(str, wanted))}], got {list(array.shape)}"
    sizes |= {size: got for size, got in zip(shape, array.shape, strict=True) if isinstance(size, str)}
    return None


def _content_fault(key: str, arrays: Arrays) -> str | None:
    """What is wrong with the values of a key whose dtype and shape are right."""
    array = arrays[key]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "some values are not finite"
    if key == "region_names" and not set(array) <= set(REGIONS):
        return f"unknown region in {', '.join(array)}: expected some of {', '.join(REGIONS)}"
    if array.dtype.kind == "U" and len(set(array)) < len(array):
        return "some names occur twice"
    return _index_fault(array, arrays, _POINTS_INTO[key]) if key in _POINTS_INTO else None


def _index_fault(array: NDArray, arrays: Arrays, target: str) -> str | None:
    low, high, count = int(array.min()), int(array.max()), len(arrays.get(target, ()))
    return None if low >= 0 and high < count else f"indices {low}..{high} do not fit {count} {target}"
