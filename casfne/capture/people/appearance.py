"""Who has which colours, make-up, hair and wrinkles: the numbers that make people look different."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.people.sexes import sample_sex
from casfne.capture.people.skin import MELANIN

# linear RGB
_IRISES = ((0.050, 0.024, 0.011), (0.13, 0.075, 0.030), (0.115, 0.12, 0.060), (0.095, 0.15, 0.21), (0.17, 0.19, 0.21))
_LIPSTICKS = ((0.42, 0.02, 0.03), (0.50, 0.13, 0.15), (0.22, 0.015, 0.035), (0.55, 0.10, 0.22), (0.40, 0.17, 0.12))
_SHADOWS = ((0.10, 0.06, 0.045), (0.03, 0.03, 0.035), (0.28, 0.13, 0.10), (0.10, 0.09, 0.16), (0.35, 0.24, 0.14))
_LIGHT = 1.6  # power of a uniform number: half of the people have the lightest third of tones
_EUMELANIN, _PHEOMELANIN = (1.00, 1.38, 1.90), (0.30, 0.95, 2.05)  # relative absorption of hair's pigments


@dataclass(frozen=True)
class Looks:
    """Appearance of B people; float32 [B] in 0..1 unless said otherwise. Colours are linear RGB [B, 3].

    sex: 0 male, 1 female. age: 0 twenty, 1 eighty years. melanin, blood: volume fractions (see `skin`). Strengths of
    wrinkles (raise: forehead, frown, squint: crow's feet, smile: nasolabial fold) hold age and expression together.
    """

    sex: Tensor
    age: Tensor
    melanin: Tensor
    blood: Tensor
    oil: Tensor
    blotch: Tensor
    freckles: Tensor
    moles: Tensor
    pimples: Tensor
    nose_red: Tensor
    cheek_red: Tensor
    eye_dark: Tensor
    foundation: Tensor
    lipstick: Tensor
    lipstick_strength: Tensor
    lip_gloss: Tensor
    eye_shadow: Tensor
    eye_shadow_strength: Tensor
    blush: Tensor
    eyeliner: Tensor
    brow_colour: Tensor
    brow_half: Tensor  # m, half its thickness
    brow_density: Tensor
    brow_shift: Tensor  # m, upwards
    iris: Tensor
    iris_inner: Tensor  # about the pupil
    iris_radius: Tensor  # m
    pupil_radius: Tensor  # m
    veins: Tensor
    teeth: Tensor  # whiteness
    hair_colour: Tensor
    grey: Tensor
    bald: Tensor  # bool
    scalp: Tensor  # how much of the scalp hair covers
    recession: Tensor  # m by which the hairline lies further back
    moustache: Tensor
    goatee: Tensor
    jaw: Tensor
    throat: Tensor
    beard_length: Tensor  # m
    bearded: Tensor  # bool: a beard that hides the skin
    raised: Tensor
    frown: Tensor
    squint: Tensor
    smile: Tensor
    bags: Tensor
    grain: Tensor
    offset: Tensor  # [B, 3], of noises
    mix: Tensor  # [B, 7, 4]: of a head model's noises into four of one's own


class Actions(Protocol):
    """What is read of a head model: the strength [B] of an action in expressions [B, E]."""

    def weight(self, expression: Tensor, name: str) -> Tensor: ...


def sample_looks(model: Actions, expression: Tensor, draws: Draws) -> Looks:
    """Looks of the people whose numbers ``draws`` gives, with expressions float32 [B, E] of the head model."""
    sex, draws = sample_sex(draws), draws.sub("looks")
    age = draws.uniform("age") ** 1.5
    dark = draws.uniform("tone") ** _LIGHT
    melanin = MELANIN[0] * (MELANIN[1] / MELANIN[0]) ** (0.05 + 0.93 * dark)
    values = _skin(draws, sex, age, dark) | _make_up(draws, sex, age) | _hair(draws, sex, age, dark)
    values |= _eyes(draws, dark, age) | _relief(model, expression, draws, sex, age) | _own_noise(draws)
    return Looks(sex=sex, age=age, melanin=melanin, **values)


def _skin(draws: Draws, sex: Tensor, age: Tensor, dark: Tensor) -> dict[str, Tensor]:
    light = (1 - 1.5 * dark).clamp(0, 1)
    return {
        "blood": draws.log_between("blood", 0.014, 0.042) * (1 + 0.1 * dark),
        "oil": draws.uniform("oil") ** 1.5,
        "blotch": 0.35 + 0.45 * draws.uniform("blotch") + 0.3 * age,
        "freckles": draws.chance("freckled", 0.05 + 0.3 * light) * draws.uniform("freckles") * (0.25 + 0.75 * light),
        "moles": draws.chance("moles", 0.5) * draws.uniform("mole strength"),
        "pimples": draws.chance("pimples", 0.25) * draws.uniform("pimple strength") * (1 - age),
        "nose_red": draws.between("nose red", 0.1, 0.9),
        "cheek_red": draws.between("cheek red", 0.0, 0.8) + 0.3 * draws.uniform("flush") ** 4,
        "eye_dark": draws.uniform("eye dark") ** 1.5 * (0.5 + 0.6 * age),
    }


def _make_up(draws: Draws, sex: Tensor, age: Tensor) -> dict[str, Tensor]:
    wears = draws.chance("make-up", 0.02 + 0.73 * sex).float()
    strong = draws.uniform("make-up strength")

    def worn(name: str, share: float) -> Tensor:
        return wears * draws.chance(name, share) * (0.25 + 0.75 * strong) * draws.between(name + " strength", 0.5, 1)

    return {
        "foundation": worn("foundation", 0.8) * 0.8,
        "lipstick": _pick(draws, "lipstick", _LIPSTICKS) * draws.between("lipstick shade", 0.6, 1.2)[:, None],
        "lipstick_strength": worn("lips", 0.75) * 0.85,
        "lip_gloss": (draws.uniform("gloss") ** 2 + worn("glossy", 0.4)).clamp(0, 1),
        "eye_shadow": _pick(draws, "eye shadow", _SHADOWS),
        "eye_shadow_strength": worn("shadow", 0.6) * 0.6,
        "blush": worn("blush", 0.6) * 0.5,
        "eyeliner": worn("liner", 0.7),
    }


def _hair(draws: Draws, sex: Tensor, age: Tensor, dark: Tensor) -> dict[str, Tensor]:
    male = 1 - sex
    colour, grey = _hair_colour(draws, age, dark)
    brow_grey = torch.lerp(colour, colour.mean(-1, keepdim=True), 0.3) * 0.8 + 0.012
    beard = draws.choice("beard", (0.50, 0.26, 0.08, 0.05, 0.11))  # none, stubble, moustache, goatee, full
    male_beard = beard * (male > 0)
    stubble = (male_beard == 1) * draws.between("stubble", 0.15, 0.75) + male * (male_beard != 1) * 0.12
    full, chin, lip = ((male_beard == kind).float() for kind in (4, 3, 2))
    density = draws.between("beard density", 0.75, 1.0)
    bald = draws.chance("bald", 0.03 + 0.17 * male * (0.4 + age)) & (male > 0)
    return {
        "hair_colour": colour,
        "grey": grey,
        "brow_colour": brow_grey * (1 - 0.35 * draws.uniform("brow shade"))[:, None] * (0.7 + 0.3 * male[:, None]),
        "brow_half": draws.between("brow half", 0.0021, 0.0038) * (1 + 0.2 * male),
        "brow_density": draws.between("brow density", 0.35, 0.85) * (1 - 0.2 * age * sex),
        "brow_shift": draws.between("brow shift", -0.0022, 0.0012),
        "bald": bald,
        "scalp": torch.where(bald, draws.uniform("shaven") ** 2 * 0.5, 1.0),
        "recession": draws.between("recession", -0.006, 0.006) + male * age * draws.between("receding", 0.0, 0.025),
        "moustache": torch.maximum(stubble, density * (full + chin * draws.chance("goatee lip", 0.8) + lip)),
        "goatee": torch.maximum(stubble, density * (full + chin)),
        "jaw": torch.maximum(stubble * 0.9, density * full),
        "throat": torch.maximum(stubble * 0.7, density * full * draws.uniform("throat")),
        "beard_length": torch.where(male_beard >= 2, draws.log_between("beard length", 0.001, 0.004), 0.0003),
        "bearded": male_beard == 4,
    }


def _hair_colour(draws: Draws, age: Tensor, dark: Tensor) -> tuple[Tensor, Tensor]:
    """What hair's two melanins leave of white, and how many hairs have none; darker with darker skin."""
    black = draws.chance("dark hair", (0.35 + 1.1 * dark).clamp(0, 0.98))
    eumelanin = torch.where(black, draws.log_between("black", 2.3, 4.5), draws.log_between("blond", 0.40, 2.2))
    red = draws.chance("red", 0.09) & ~black
    pheomelanin = torch.where(red, draws.between("redness", 0.6, 1.1), draws.between("warmth", 0.05, 0.4))
    pigment = eumelanin[:, None] * torch.tensor(_EUMELANIN, device=age.device)
    pigment = pigment + pheomelanin[:, None] * torch.tensor(_PHEOMELANIN, device=age.device)
    dyed = draws.chance("dyed", 0.35)
    grey = ((age - draws.between("grey from", 0.35, 1.0)) * 3).clamp(0, 1) * ~dyed
    white = torch.tensor((0.46, 0.44, 0.41), device=age.device)
    return torch.lerp(0.62 * torch.exp(-pigment) + 0.006, white, 0.9 * grey[:, None]), grey


def _eyes(draws: Draws, dark: Tensor, age: Tensor) -> dict[str, Tensor]:
    brown = draws.chance("brown eyes", (0.30 + 1.6 * dark).clamp(0, 1))
    kind = torch.where(
        brown, draws.choice("brown", (0.75, 0.25)) * (dark < 0.6), 1 + draws.choice("light", (0.2, 0.25, 0.35, 0.2))
    )
    iris = torch.tensor(_IRISES, device=dark.device)[kind]
    iris = iris * draws.log_between("iris shade", 0.7, 1.5)[:, None]
    warm = torch.tensor((0.14, 0.075, 0.03), device=dark.device)
    return {
        "iris": iris,
        "iris_inner": torch.lerp(iris, warm, draws.between("iris inner", 0.0, 0.7)[:, None]),
        "iris_radius": draws.between("iris radius", 0.0056, 0.0062),
        "pupil_radius": draws.between("pupil", 0.0012, 0.0027),
        "veins": draws.uniform("veins") ** 1.5 * (0.6 + 0.4 * age),
        "teeth": draws.uniform("teeth") * (1 - 0.5 * age),
    }


def _relief(model: Actions, expression: Tensor, draws: Draws, sex: Tensor, age: Tensor) -> dict[str, Tensor]:
    """Strengths of wrinkles: some skin folds only when it moves, old skin always."""

    def acting(*names: str) -> Tensor:
        return torch.stack([model.weight(expression, name) for name in names]).amax(0).clamp(0, 1)

    def fold(name: str, action: Tensor, young: float) -> Tensor:
        rest = (age**1.6) * draws.between(name + " rest", 0.3, 1.0)
        return (rest + action * (young + (1 - young) * age) * draws.between(name, 0.5, 1)).clamp(0, 1.2)

    return {
        "raised": fold("raised", acting("browInnerUp", "browOuterUp"), 0.15),
        "frown": fold("frown", acting("browDown", "noseSneer"), 0.25),
        "squint": fold("squint", acting("eyeSquint", "cheekSquint", "mouthSmile") * 0.9, 0.15),
        "smile": fold("smile", acting("mouthSmile", "noseSneer", "mouthUpperUp"), 0.35),
        "bags": (draws.uniform("bags") ** 2 * (0.35 + 0.8 * age)).clamp(0, 1),
        "grain": draws.between("grain", 0.5, 1.0) * (1 + 0.6 * age) * (1 - 0.25 * sex),
    }


def _own_noise(draws: Draws) -> dict[str, Tensor]:
    wide = torch.nn.functional.normalize(draws.normal("wide", 3, 2), dim=1)
    narrow = torch.nn.functional.normalize(draws.normal("narrow", 4, 2), dim=1)
    mix = torch.zeros(len(draws), 7, 4, device=draws.device)
    mix[:, :3, :2], mix[:, 3:, 2:] = wide, narrow
    return {"offset": draws.uniform("offset", 3), "mix": mix}


def _pick(draws: Draws, name: str, colours: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(colours, device=draws.device)[draws.choice(name, [1] * len(colours))]
