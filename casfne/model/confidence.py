"""How far off the normals are to be expected, in degrees, for each pixel: from the picture and the stages alone.

A generalised linear model: the logarithm of the expected error is a weighted sum of a pixel's `evidence` and of what
E_f sees in the whole picture (`Cascade.with_summary`), fitted on people that the cascade has not seen
(`casfne.training.calibrate`). It costs a hundredth of the cascade's time.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 4  # pixels of a side that share an expectation
WINDOW = 9  # cells of a side of a pixel's surroundings
EVIDENCE = (
    "one",
    "last move",
    "whole move",
    "slant",
    "relief",
    "brightness",
    "contrast",
    "last move around",
    "whole move around",
    "relief around",
    "brightness around",
    "contrast around",
    "last move of the crop",
    "whole move of the crop",
    "relief of the crop",
    "brightness of the crop",
)
_AROUND = ("last move", "whole move", "relief", "brightness", "contrast")
LEAST_DEG, MOST_DEG = 0.5, 180.0  # what is expected stays within
# of a pixel's weights, a share of the loss; of a picture's, in pictures that say they are zero: of 60 to 1000 best on
# pictures left out of the fit, with 3,072 of them as with 6,144
_PRIOR = 1e-4, 500.0


def evidence(images: Tensor, stages: Tensor) -> Tensor:
    """What tells an error, of images [B, 3, S, S] (sRGB, 0..1) and stages [B, T + 1, 3, S, S] (unit normals).

    float32 [B, K, S / 4, S / 4], in the order of ``EVIDENCE``: logarithms of how far the last refinement and all of
    them moved (degrees), of slant (from the camera's axis), relief (how normals of a cell disagree), brightness and
    contrast; some of them also as means over 9x9 cells around, and over the crop. S is a multiple of 4.
    """
    last, first, before = stages[:, -1], stages[:, 0], stages[:, max(stages.shape[1] - 2, 0)]
    mean = F.avg_pool2d(last, CELL)
    luma = images.mean(1, keepdim=True)
    bright = F.avg_pool2d(luma, CELL)
    spread = (F.avg_pool2d(luma.square(), CELL) - bright.square()).clamp_min(0).sqrt()
    found = {
        "one": torch.ones_like(bright),
        "last move": (F.avg_pool2d(angle_deg(last, before), CELL) + 0.1).log(),
        "whole move": (F.avg_pool2d(angle_deg(last, first), CELL) + 0.1).log(),
        "slant": torch.rad2deg(torch.acos(F.normalize(mean, dim=1)[:, 2:].clamp(-1, 1))) / 45,
        "relief": (1 - mean.norm(dim=1, keepdim=True) + 1e-3).log(),
        "brightness": (bright + 0.02).log(),
        "contrast": (spread / (bright + 0.02) + 0.01).log(),
    }
    found |= {f"{name} around": _around(found[name]) for name in _AROUND}
    whole = ("last move", "whole move", "relief", "brightness")
    found |= {f"{name} of the crop": found[name].mean((2, 3), keepdim=True).expand_as(bright) for name in whole}
    return torch.cat([found[name] for name in EVIDENCE], 1)


def names(channels: int) -> list[str]:
    """Of all weights: the evidence, then a summary's numbers [C]."""
    return [*EVIDENCE, *(f"structure {i}" for i in range(channels))]


def expected_error_deg(images: Tensor, stages: Tensor, summary: Tensor, weights: Mapping[str, float]) -> Tensor:
    """Expected angular error in degrees, float32 [B, S, S], of arguments as of `evidence`, a summary [B, C] and
    ``weights`` by name; 0 where one is not named."""
    vector = torch.tensor([weights.get(name, 0.0) for name in names(summary.shape[1])], device=images.device)
    of_pixels, of_pictures = vector.split([len(EVIDENCE), summary.shape[1]])
    score = torch.einsum("bkhw,k->bhw", evidence(images, stages), of_pixels) + (summary @ of_pictures)[:, None, None]
    cells = score.exp().clamp(LEAST_DEG, MOST_DEG)[:, None]
    return F.interpolate(cells, scale_factor=CELL, mode="bilinear", align_corners=False)[:, 0]


@dataclass(frozen=True)
class Cells:
    """What to fit on: of N cells evidence [N, K], error in degrees [N] and the number of their picture [N]; of M
    pictures summaries [M, C]."""

    found: Tensor
    errors_deg: Tensor
    picture: Tensor
    summaries: Tensor

    @classmethod
    def join(cls, parts: Sequence["Cells"]) -> "Cells":
        """Those of several pictures or groups of them."""
        starts = itertools.accumulate((len(part.summaries) for part in parts), initial=0)
        return cls(
            torch.cat([part.found for part in parts]),
            torch.cat([part.errors_deg for part in parts]),
            torch.cat([part.picture + start for part, start in zip(parts, starts, strict=False)]),
            torch.cat([part.summaries for part in parts]),
        )


def fit(cells: Cells) -> dict[str, float]:
    """The weights, by name, that make errors likeliest, the cells of a picture together counting as much as another's.

    Errors are taken as gamma distributed: one that is twice as large as expected weighs the same at any size.
    """
    found, summaries = _Standard.of(cells.found), _Standard.of(cells.summaries)
    errors, (many, channels) = cells.errors_deg.clamp_min(LEAST_DEG).double(), cells.summaries.shape
    share = (1 / torch.bincount(cells.picture, minlength=many).double())[cells.picture]
    share /= share.sum()
    weights = torch.zeros(len(EVIDENCE) + channels, dtype=torch.float64)
    weights[0] = math.log(float((share * errors).sum()))
    weights.requires_grad_(True)
    solver = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        of_pixels, of_pictures = weights.split([len(EVIDENCE), channels])
        score = found.values @ of_pixels + (summaries.values @ of_pictures)[cells.picture]
        prior = _PRIOR[0] * of_pixels[1:].square().sum() + _PRIOR[1] / many * of_pictures.square().sum() / 2
        value = (share * (score + errors * (-score).exp())).sum() + prior
        value.backward()
        return value

    solver.step(loss)
    of_pixels, of_pictures = weights.detach().split([len(EVIDENCE), channels])
    (pixels, a), (pictures, b) = found.undone(of_pixels), summaries.undone(of_pictures)
    pixels[0] = of_pixels[0] + a + b
    return dict(zip(names(channels), [*pixels.tolist(), *pictures.tolist()], strict=True))


@dataclass(frozen=True)
class _Standard:
    """``values`` [N, K] float64 of mean 0 and deviation 1; columns that do not vary as they were."""

    values: Tensor
    centre: Tensor
    scale: Tensor
    fixed: Tensor

    @classmethod
    def of(cls, columns: Tensor) -> "_Standard":
        x = columns.double()
        centre, scale = x.mean(0), x.std(0, correction=0)
        fixed = scale < 1e-6
        centre, scale = centre.masked_fill(fixed, 0), scale.masked_fill(fixed, 1)
        return cls((x - centre) / scale, centre, scale, fixed)

    def undone(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the columns as they came, and what is to be added to the sum; nothing for those that are fixed."""
        own = (weights / self.scale).masked_fill(self.fixed, 0)
        return own, -(own * self.centre).sum()


def angle_deg(a: Tensor, b: Tensor) -> Tensor:
    """Angles in degrees between unit vectors [B, 3, H, W], from the chord; [B, 1, H, W]."""
    half = (a - b).norm(dim=1, keepdim=True) / 2
    return torch.rad2deg(2 * torch.asin(half.clamp(0, 1)))


def _around(cells: Tensor) -> Tensor:
    return F.avg_pool2d(cells, WINDOW, 1, WINDOW // 2, count_include_pad=False)
