"""What faces do: plausible combinations of ARKit's facial actions, drawn for many samples at once."""

from functools import lru_cache

import torch
from torch import Tensor

from casfne.capture.draws import Draws

# ARKit's names without their sides
ACTIONS = (
    *("browDown", "browInnerUp", "browOuterUp", "cheekPuff", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn"),
    *("eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose"),
    *("mouthDimple", "mouthFrown", "mouthFunnel", "mouthLeft", "mouthLowerDown", "mouthPress", "mouthPucker"),
    *("mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmile"),
    *("mouthStretch", "mouthUpperUp", "noseSneer", "PupilDilate"),
)
_AT = {name: i for i, name in enumerate(ACTIONS)}

# name: (share, weakest strength, strongest, actions at strength 1; _L alone: one-sided, mirrored half of the time)
_LIBRARY: dict[str, tuple[float, float, float, dict[str, float]]] = {
    "rest": (0.32, 1, 1, {}),
    "smile": (0.19, 0.4, 1, {"mouthSmile": 0.7, "cheekSquint": 0.45, "mouthDimple": 0.2, "eyeSquint": 0.25}),
    "grin": (
        *(0.16, 0.5, 1),
        {"mouthSmile": 0.85, "mouthUpperUp": 0.3, "mouthLowerDown": 0.3, "cheekSquint": 0.6, "eyeSquint": 0.35}
        | {"jawOpen": 0.08},
    ),
    "laugh": (
        *(0.05, 0.6, 1),
        {"mouthSmile": 0.8, "jawOpen": 0.38, "mouthUpperUp": 0.35, "mouthLowerDown": 0.25, "cheekSquint": 0.8}
        | {"eyeSquint": 0.6, "browOuterUp": 0.15},
    ),
    "smirk": (0.03, 0.4, 1, {"mouthSmile_L": 0.6, "mouthDimple_L": 0.4, "cheekSquint_L": 0.35}),
    "ah": (0.04, 0.3, 1, {"jawOpen": 0.28, "mouthLowerDown": 0.35, "mouthUpperUp": 0.15}),
    "oh": (0.015, 0.4, 1, {"jawOpen": 0.22, "mouthFunnel": 0.5, "mouthPucker": 0.2}),
    "ee": (
        *(0.02, 0.4, 1),
        {"mouthStretch": 0.5, "mouthSmile": 0.2, "mouthLowerDown": 0.45, "jawOpen": 0.12, "mouthUpperUp": 0.2},
    ),
    "surprise": (0.015, 0.5, 1, {"browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.7, "jawOpen": 0.28}),
    "brows": (0.02, 0.4, 1, {"browInnerUp": 0.7, "browOuterUp": 0.7, "eyeWide": 0.35}),
    "sad": (0.02, 0.4, 1, {"mouthFrown": 0.8, "browInnerUp": 0.7, "mouthShrugLower": 0.4, "eyeSquint": 0.2}),
    "anger": (
        *(0.015, 0.4, 1),
        {"browDown": 0.9, "eyeSquint": 0.4, "noseSneer": 0.3, "mouthPress": 0.6, "mouthFrown": 0.35},
    ),
    "shout": (
        *(0.007, 0.5, 1),
        {"jawOpen": 0.5, "browDown": 0.7, "mouthUpperUp": 0.4, "mouthLowerDown": 0.5, "noseSneer": 0.4},
    ),
    "disgust": (
        *(0.01, 0.4, 1),
        {"noseSneer": 0.9, "mouthUpperUp": 0.45, "browDown": 0.5, "cheekSquint": 0.5, "eyeSquint": 0.3},
    ),
    "sneer": (0.01, 0.4, 1, {"noseSneer_L": 0.8, "mouthUpperUp_L": 0.5, "browDown_L": 0.3}),
    "pucker": (0.02, 0.4, 1, {"mouthPucker": 0.8, "mouthFunnel": 0.15}),
    "squint": (0.01, 0.5, 1, {"eyeSquint": 0.9, "cheekSquint": 0.5, "browDown": 0.5}),
    "closed": (0.03, 1, 1, {"eyeBlink": 1}),
    "drowsy": (0.02, 0.3, 1, {"eyeBlink": 0.6, "browInnerUp": 0.15}),
    "wink": (0.01, 1, 1, {"eyeBlink_L": 1, "cheekSquint_L": 0.6, "mouthSmile_L": 0.4, "mouthSmile_R": 0.1}),
    "lips": (0.015, 0.4, 1, {"mouthPress": 0.7, "mouthRollLower": 0.4, "mouthRollUpper": 0.35}),
    "puff": (0.005, 0.4, 1, {"cheekPuff": 0.8, "mouthPress": 0.3}),
    "aside_left": (0.005, 0.3, 0.8, {"mouthLeft": 0.6, "jawLeft": 0.2, "mouthPucker": 0.15}),
    "aside_right": (0.005, 0.3, 0.8, {"mouthRight": 0.6, "jawRight": 0.2, "mouthPucker": 0.15}),
    "chew": (0.005, 0.4, 1, {"jawOpen": 0.3, "mouthClose": 0.28, "jawLeft": 0.3}),
}
_EXTRA_SHARE, _MOST_EXTRA = 0.12, 0.22  # how many further actions, and how strong at most
# further actions that would move the jaw, the gaze or whole lips without what belongs to them
_NO_EXTRA = ("eyeBlink", "eyeLook", "eyeWide", "jaw", "mouthClose", "mouthLeft", "mouthRight", "mouthFunnel", "Pupil")
_JITTER = (0.75, 1.2)  # of each action's strength
_LEAN, _STRONG_LEAN, _STRONG_SHARE = 0.06, 0.25, 0.15  # half the difference of the sides, of their mean: std. dev.
_GAZE, _MOST_GAZE = (0.3, 0.22), 0.8  # standard deviations to the side and in height, and the furthest
_STRAIGHT_SHARE, _FIXATION = 0.5, 0.15  # so many look at the camera, and their gaze strays by this share of _GAZE
_CONTENT = 0.22  # the strongest smile of a face that does nothing else
_LIDS = (0.02, 0.22)  # how far lids hang in an open eye: they cover the iris's upper rim
_LID_WITH_GAZE = 0.45  # lowering the gaze by 1 lowers the upper lid by so many blinks
_LID_WITH_SQUINT = 0.2  # squinting by 1 raises the lower lid by so many blinks


def sample_actions(draws: Draws) -> Tensor:
    """Strengths of ``ACTIONS`` float32 [B, A, 2] in 0..1: for the person's left side, then the right.

    An action without sides has its strength in the first of the two.
    """
    both = (_combination(draws) + _extras(draws)) * _sides(draws)
    return _possible(_resting(_look(both.clamp(0, 1), draws), draws))


def _combination(draws: Draws) -> Tensor:
    """One of the library for each sample, with its strength and its actions' varied, perhaps mirrored; [B, A, 2]."""
    shares, low, high, table = _library(draws.device)
    kind = draws.choice("kind", shares)
    strength = low[kind] + (high - low)[kind] * draws.uniform("strength")
    jitter = draws.between("jitter", *_JITTER, len(ACTIONS))
    jitter[:, _AT["eyeBlink"]] = 1  # eyes that close are closed
    both = table[kind] * (strength[:, None] * jitter)[..., None]
    return torch.where(draws.chance("mirrored", 0.5)[:, None, None], both.flip(-1), both)


def _extras(draws: Draws) -> Tensor:
    """A few weak further actions, [B, A, 1]: most of them very weak."""
    allowed = torch.tensor([not name.startswith(_NO_EXTRA) for name in ACTIONS], device=draws.device)
    chosen = (draws.uniform("extra", len(ACTIONS)) < _EXTRA_SHARE) & allowed
    return (chosen * draws.uniform("extra strength", len(ACTIONS)) ** 2 * _MOST_EXTRA)[..., None]


def _sides(draws: Draws) -> Tensor:
    """Factors of the two sides, [B, A, 2]: nearly 1, and for some people one side is clearly the stronger."""
    whole = draws.normal("lean") * torch.where(draws.chance("one-sided", _STRONG_SHARE), _STRONG_LEAN, _LEAN)
    lean = whole[:, None] + draws.normal("leans", len(ACTIONS)) * _LEAN
    lean[:, _AT["eyeBlink"]] = 0
    return torch.stack([1 - lean, 1 + lean], -1).clamp(0, 2)


def _look(both: Tensor, draws: Draws) -> Tensor:
    """Turns both eyes the same way and opens the pupils."""
    away = ~draws.chance("at the camera", _STRAIGHT_SHARE)
    gaze = (draws.normal("gaze", 2) * torch.tensor(_GAZE, device=draws.device)).clamp(-_MOST_GAZE, _MOST_GAZE)
    right, up = (gaze * torch.where(away, 1.0, _FIXATION)[:, None]).unbind(-1)
    to_right, to_left = right.clamp(min=0), (-right).clamp(min=0)
    both[:, _AT["eyeLookOut"]] = torch.stack([to_right, to_left], -1)
    both[:, _AT["eyeLookIn"]] = torch.stack([to_left, to_right], -1)
    both[:, _AT["eyeLookUp"]] = up.clamp(min=0)[:, None]
    both[:, _AT["eyeLookDown"]] = (-up).clamp(min=0)[:, None]
    both[:, _AT["PupilDilate"]] = draws.between("pupils", 0, 0.7)[:, None]
    return both


def _resting(both: Tensor, draws: Draws) -> Tensor:
    """What faces do all the time: the upper lids of open eyes hang a little; most corners of mouths are raised."""
    hang = draws.between("lids", *_LIDS)[:, None] * (1 - both[:, _AT["eyeWide"]])
    both[:, _AT["eyeBlink"]] = both[:, _AT["eyeBlink"]].maximum(hang)
    calm = 1 - both[:, [_AT[name] for name in ("mouthFrown", "mouthPucker", "browDown")]].amax(1)
    content = draws.between("content", 0, _CONTENT)[:, None] * calm
    both[:, _AT["mouthSmile"]] = both[:, _AT["mouthSmile"]].maximum(content)
    return both


def _possible(both: Tensor) -> Tensor:
    """Weakens what cannot go with something else, so that lids and lips meet and do not pass each other."""
    at = _AT
    both[:, at["mouthClose"]] = both[:, at["mouthClose"]].minimum(both[:, at["jawOpen"]])
    blink = both[:, at["eyeBlink"]]
    for name in ("eyeWide", "eyeLookUp"):
        both[:, at[name]] *= 1 - blink
    both[:, at["eyeSquint"]] *= 1 - blink
    taken = _LID_WITH_GAZE * both[:, at["eyeLookDown"]] + _LID_WITH_SQUINT * both[:, at["eyeSquint"]]
    both[:, at["eyeBlink"]] = blink.minimum((1 - taken).clamp(min=0))
    return both


@lru_cache(maxsize=4)
def _library(device: torch.device) -> tuple[list[float], Tensor, Tensor, Tensor]:
    """Shares, weakest and strongest strengths [L] each, and strengths of the actions' two sides [L, A, 2]."""
    shares, low, high, actions = zip(*_LIBRARY.values(), strict=True)
    table = torch.zeros(len(_LIBRARY), len(ACTIONS), 2)
    for row, moves in zip(table, actions, strict=True):
        for name, strength in moves.items():
            side = {"_L": 0, "_R": 1}.get(name[-2:], slice(None))
            row[_AT[name.removesuffix("_L").removesuffix("_R")], side] = strength
    return list(shares), torch.tensor(low, device=device), torch.tensor(high, device=device), table.to(device)
