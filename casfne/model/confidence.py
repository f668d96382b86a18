"""How far off the normals are to be expected, in degrees, for each pixel: from the picture and the stages alone.

A generalised linear model: the logarithm of the expected error is a weighted sum of `evidence`, fitted on people that
the cascade has not seen (`casfne.training.calibrate`). It costs a hundredth of the cascade's time.
"""

import math
from collections.abc import Mapping

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


def expected_error_deg(images: Tensor, stages: Tensor, weights: Mapping[str, float]) -> Tensor:
    """Expected angular error in degrees, float32 [B, S, S], of arguments as of `evidence` and its
    ``weights`` by name; 0 where one is not named."""
    vector = torch.tensor([weights.get(name, 0.0) for name in EVIDENCE], device=images.device)
    score = torch.einsum("bkhw,k->bhw", evidence(images, stages), vector)
    cells = score.exp().clamp(LEAST_DEG, MOST_DEG)[:, None]
    return F.interpolate(cells, scale_factor=CELL, mode="bilinear", align_corners=False)[:, 0]


def fit(found: Tensor, errors_deg: Tensor, counts: Tensor) -> dict[str, float]:
    """The weights, by name, that make errors likeliest: of ``found`` [N, K], ``errors_deg`` [N], and how much each of
    them counts [N].

    Errors are taken as gamma distributed: one that is twice as large as expected weighs the same at any size.
    """
    kept = errors_deg.clamp_min(LEAST_DEG).double()
    centre, scale = found.double().mean(0), found.double().std(0, correction=0)
    fixed = scale < 1e-6  # the constant, and what does not vary here
    centre, scale = centre.masked_fill(fixed, 0), scale.masked_fill(fixed, 1)
    x, share = (found.double() - centre) / scale, counts.double() / counts.sum()
    weights = torch.zeros(found.shape[1], dtype=torch.float64)
    weights[0] = math.log(float((share * kept).sum()))
    weights.requires_grad_(True)
    solver = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        score = x @ weights
        value = (share * (score + kept * (-score).exp())).sum() + 1e-4 * weights[1:].square().sum()
        value.backward()
        return value

    solver.step(loss)
    final = (weights.detach() / scale).masked_fill(fixed, 0)
    final[0] = weights.detach()[0] - (final * centre).sum()
    return {name: float(value) for name, value in zip(EVIDENCE, final, strict=True)}


def angle_deg(a: Tensor, b: Tensor) -> Tensor:
    """Angles in degrees between unit vectors [B, 3, H, W], from the chord; [B, 1, H, W]."""
    half = (a - b).norm(dim=1, keepdim=True) / 2
    return torch.rad2deg(2 * torch.asin(half.clamp(0, 1)))


def _around(cells: Tensor) -> Tensor:
    return F.avg_pool2d(cells, WINDOW, 1, WINDOW // 2, count_include_pad=False)
