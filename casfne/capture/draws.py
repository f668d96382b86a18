"""Random numbers that follow from a sample's seed and a name alone: on any device, in any batch, in any order."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_STEP = -7046029254386353131  # 2**64 / golden ratio, as a signed number
_MIX_1, _MIX_2 = -4658895280553007687, -7723592293110705685


@dataclass(frozen=True)
class Draws:
    """One stream of numbers a sample. ``seeds``: int64 [B], on the device on which the numbers are wanted.

    A name gives the same numbers each time it is asked for; other names and other samples give independent ones.
    """

    seeds: Tensor

    def __post_init__(self) -> None:
        if self.seeds.dtype != torch.int64 or self.seeds.ndim != 1:
            raise ValueError(f"expected int64 seeds [B], got {self.seeds.dtype} {list(self.seeds.shape)}")

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def device(self) -> torch.device:
        """Where the numbers are made."""
        return self.seeds.device

    @classmethod
    def numbered(cls, seed: int, numbers: Sequence[int], device: torch.device) -> "Draws":
        """The streams of samples ``numbers`` of the data set ``seed``."""
        of_set = _mix(torch.tensor(seed, dtype=torch.int64, device=device))
        return cls(_mix(torch.tensor(numbers, dtype=torch.int64, device=device) + of_set))

    def sub(self, name: str) -> "Draws":
        """Streams of the same samples whose names cannot meet those of this one."""
        return Draws(_mix(_named(self.seeds, name)))

    def of(self, index: Tensor) -> "Draws":
        """The streams of some of the samples, by index int64 [N] or mask bool [B]."""
        return Draws(self.seeds[index])

    def bits(self, name: str, *shape: int) -> Tensor:
        """Uniform int64 numbers of 53 bits, [B, *shape]."""
        count = math.prod(shape)
        steps = torch.arange(1, count + 1, device=self.device) * _STEP
        mixed = _mix(_named(self.seeds, name)[:, None] + steps)
        return ((mixed >> 11) & (2**53 - 1)).view(len(self), *shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform in 0 <= x < 1, float32 [B, *shape]."""
        return (self.bits(name, *shape) >> 29).float() * 2.0**-24

    def between(self, name: str, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in low..high, [B, *shape]."""
        return low + (high - low) * self.uniform(name, *shape)

    def log_between(self, name: str, low: float, high: float, *shape: int) -> Tensor:
        """Log-uniform in low..high, [B, *shape]."""
        return low * (high / low) ** self.uniform(name, *shape)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal, [B, *shape] (Box and Muller's pairs)."""
        bits = self.bits(name, *shape)
        radius = (((bits >> 27) + 1).float() * 2.0**-26).log().mul(-2).sqrt()
        return radius * ((bits & (2**27 - 1)).float() * (2 * math.pi * 2.0**-27)).cos()

    def chance(self, name: str, share: float | Tensor) -> Tensor:
        """True for a ``share`` (a number, or [B]) of the samples, bool [B]."""
        return self.uniform(name) < share

    def choice(self, name: str, shares: Sequence[float]) -> Tensor:
        """Numbers 0, 1, .. drawn in proportion to ``shares``, int64 [B]."""
        edges = torch.tensor(shares, device=self.device, dtype=torch.float32).cumsum(0)
        return torch.bucketize(self.uniform(name) * edges[-1], edges[:-1], right=True)


def _named(seeds: Tensor, name: str) -> Tensor:
    return _mix(_mix(seeds) ^ (zlib.crc32(name.encode()) << 20))


def _mix(state: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele, Lea and Flood 2014), on int64 that wrap."""
    state = (state ^ _shifted(state, 30)) * _MIX_1
    state = (state ^ _shifted(state, 27)) * _MIX_2
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, count: int) -> Tensor:
    """Shifted right as if unsigned."""
    return (state >> count) & (2 ** (64 - count) - 1)
