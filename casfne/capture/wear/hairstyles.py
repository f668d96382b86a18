"""Hairstyles: who wears which, and the numbers that make two heads of one style differ."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from casfne.capture.draws import Draws


class Style(NamedTuple):
    """One way to wear hair; lengths in metres, directions as weights. Directions are for the hair on top of the head:
    ahead (back if negative), across (to one side), out (away from the parting), fall (away from the crown).
    """

    men: float  # share
    women: float
    top: float  # lengths
    side: float
    back: float
    hem: float = 0.0  # 1: roots higher up carry longer hair, so that all ends at one height
    fringe: float = 0.0  # chance
    lift: float = 0.25  # how steeply it leaves the scalp, 0..1
    hold: float = 0.5  # how closely it follows the head, 0..1
    weight: float = 0.3  # gravity
    ahead: float = 0.0
    across: float = 0.0
    out: float = 0.0
    fall: float = 0.3
    side_ahead: float = 0.0
    cap: float = 0.006  # thickness
    cap_side: float = 0.6  # that of sides and back, as a share
    volume: float = 0.006  # over which the locks are spread above the cap
    curl: float = 0.0  # amplitude
    wave: float = 0.08  # wavelength
    mess: float = 0.25  # of directions
    width: float = 0.007
    tie: float = 0.0  # drawn to a knot at the back of the head


BALD = 0
_NARROW = 0.66  # of the widths below: so many locks cover a head
# fmt: off
STYLES = (
    Style(0.12, 0.01, 0, 0, 0),
    Style(0.16, 0.01, 0.014, 0.007, 0.007, lift=0.35, cap=0.003, ahead=0.6, mess=0.4, width=0.0045),  # crop
    Style(0.15, 0.02, 0.05, 0.02, 0.02, ahead=0.35, across=1, cap=0.009, cap_side=0.4, volume=0.009),  # to one side
    Style(0.10, 0.02, 0.06, 0.025, 0.03, ahead=-1, side_ahead=-0.8, lift=0.35, hold=0.6, cap=0.009, cap_side=0.4),
    Style(0.09, 0.01, 0.04, 0.016, 0.018, ahead=0.3, lift=0.8, hold=0, weight=0.05, cap=0.008, cap_side=0.4, mess=0.6),
    Style(0.12, 0.02, 0.045, 0.022, 0.025, ahead=0.9, fringe=0.7, lift=0.35, cap=0.009, cap_side=0.5, mess=0.45),
    Style(0.09, 0.04, 0.05, 0.022, 0.03, lift=0.45, hold=0.5, cap=0.015, volume=0.01, curl=0.007, wave=0.026, mess=0.6,
          fringe=0.3, width=0.010),
    Style(0.05, 0.05, 0.05, 0.04, 0.04, lift=0.9, hold=0, weight=0, cap=0.022, cap_side=0.8, volume=0.01, curl=0.006,
          wave=0.02, mess=0.7, width=0.011),  # afro
    Style(0.01, 0.06, 0.07, 0.05, 0.04, across=0.8, ahead=0.7, fringe=0.6, cap=0.009, volume=0.008, mess=0.3),  # pixie
    Style(0.01, 0.11, 0.08, 0.08, 0.07, hem=1, out=1, fall=0, ahead=-0.25, hold=0.8, fringe=0.5, weight=0.6,
          volume=0.016, width=0.011),  # bob
    Style(0.03, 0.16, 0.24, 0.24, 0.24, hem=0.7, out=1, fall=0, ahead=-0.25, hold=0.8, fringe=0.25, weight=0.7,
          volume=0.018, mess=0.12, width=0.0105),  # long, straight
    Style(0.02, 0.16, 0.24, 0.24, 0.24, hem=0.5, out=1, fall=0, ahead=-0.4, hold=0.75, fringe=0.3, weight=0.5,
          volume=0.024, curl=0.01, wave=0.11, mess=0.15, width=0.011),  # long, wavy
    Style(0.02, 0.10, 0.19, 0.19, 0.19, hem=0.3, out=1, fall=0, ahead=-0.3, hold=0.7, weight=0.45, volume=0.03,
          curl=0.014, wave=0.06, mess=0.4, width=0.011),  # long, curly
    Style(0.01, 0.10, 0.22, 0.22, 0.22, hem=0.3, out=0.4, fall=0, ahead=-0.8, side_ahead=-0.7, hold=0.75, weight=0.4,
          volume=0.022, curl=0.006, wave=0.12, width=0.011),  # long, brushed back
    Style(0.02, 0.13, 0.17, 0.15, 0.12, tie=1, fringe=0.25, lift=0.1, hold=0.9, weight=0.02, cap=0.005, cap_side=1,
          volume=0.003, mess=0.05),  # tied
)


@dataclass(frozen=True)
class Look:
    """Numbers of `Style`, each [B, 1], varied. Also [B, 1] each: sign (to which side, -1 or 1), part (x of the parting,
    m), bun (a knot's radius, m) and its middle knot [B, 3]; fringed (bool), a fringe's length (m) and directions across
    and out; free (half the width of the face that is left free, as a share). worn bool [B].
    """

    style: dict[str, Tensor]
    worn: Tensor
    sign: Tensor
    part: Tensor
    knot: Tensor
    bun: Tensor
    fringed: Tensor
    fringe_length: Tensor
    fringe_across: Tensor
    fringe_out: Tensor
    free: Tensor

    def __getattr__(self, name: str) -> Tensor:
        return self.style[name]


def sample_style(draws: Draws, female: Tensor | None = None, bald: Tensor | None = None) -> Tensor:
    """Numbers of ``STYLES``, int64 [B], that `hair` uses with the same arguments."""
    return choose(draws.sub("hair"), female, bald)


def choose(draws: Draws, female: Tensor | None, bald: Tensor | None) -> Tensor:
    """Numbers of ``STYLES``, int64 [B], by the shares of women and men; ``BALD`` where ``bald`` (bool [B]), and nowhere
    else where that is given. female: bool [B]; None draws it."""
    if female is None:
        female = draws.chance("female", 0.5)
    first = 0 if bald is None else BALD + 1
    men, women = (draws.choice("style", shares[first:]) + first for shares in tuple(zip(*STYLES, strict=True))[:2])
    choice = torch.where(female, women, men)
    return choice if bald is None else choice * ~bald


def sample_look(draws: Draws, choice: Tensor) -> Look:
    """The styles ``choice`` (int64 [B], numbers of ``STYLES``), each varied by its own draws."""
    table = torch.tensor(STYLES, device=draws.device)
    style = {name: table[choice, i, None] for i, name in enumerate(Style._fields)}
    for name in ("top", "side", "back", "cap", "volume", "curl", "wave", "mess", "weight", "hold", "width"):
        style[name] = style[name] * draws.log_between(name, 0.75, 1.33)[:, None]
    length = draws.log_between("length", 0.8, 1.25)[:, None]
    style["width"] = style["width"] * _NARROW
    style |= {name: style[name] * length for name in ("top", "side", "back")}
    middle = draws.chance("middle", 0.4)
    part = torch.where(middle, 0.004 * draws.normal("part"), draws.between("part", 0.018, 0.045))[:, None]
    side = torch.where(draws.chance("side", 0.5), 1.0, -1.0)[:, None]
    high = draws.uniform("knot")
    knot = torch.stack([torch.zeros_like(high), -0.02 + 0.15 * high, -0.115 + 0.06 * high], -1)
    sweep = draws.choice("sweep", [0.4, 0.4, 0.2])[:, None]  # straight down, to the side, both ways
    return Look(
        style,
        worn=choice != BALD,
        sign=side,
        part=part * side,
        knot=knot,
        bun=draws.between("bun", 0.018, 0.03)[:, None],
        fringed=draws.chance("fringe", style["fringe"][:, 0])[:, None],
        fringe_length=(draws.between("fringe length", 0.035, 0.07)[:, None] + 0.03 * (sweep > 0)),
        fringe_across=torch.where(sweep == 1, side, side * 0.15) * draws.between("fringe across", 0.5, 1.2)[:, None],
        fringe_out=(sweep == 2) * draws.between("fringe out", 0.5, 1)[:, None],
        free=draws.between("free", 0.88, 1.15)[:, None],
    )
