"""The three losses (paper eqs. 5 to 8). Every function takes the list of stages and sums over them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cosine_loss(stages: list[Tensor], target: Tensor, weight: Tensor, total: Tensor | None = None) -> Tensor:
    """L_rec (eq. 5): mean of 1 - cos(prediction, target), weighted per pixel, summed over the stages.

    Stages and ``target`` are unit normals [B, 3, H, W]; ``weight`` [B, 1, H, W] is the mask, mask times trust, or
    one everywhere (the form of the authors' release: where ``target`` is (0, 0, 0), off the face, every prediction
    costs the same 1). ``total``: what the weights sum to, where this is one part of a batch; all zero gives 0.
    """
    return _weighted_mean([1 - (n * target).sum(1, keepdim=True) for n in stages], weight, total)


def chord_loss(stages: list[Tensor], target: Tensor, weight: Tensor, total: Tensor | None = None) -> Tensor:
    """In place of `cosine_loss`, with its arguments: the mean length of prediction - target, which is about their angle
    in radians.

    A cosine grows with the square of the angle, and so aims at the mean of all normals that may be meant, which is
    smooth; a length aims at their median. Within a degree it grows with the square, too: a root has no slope at 0.
    """
    squares = [(2 - 2 * (n * target).sum(1, keepdim=True)).clamp_min(0) for n in stages]
    return _weighted_mean([(square + _ROUND**2).sqrt() - _ROUND for square in squares], weight, total)


RECONSTRUCTION = {"cosine": cosine_loss, "chord": chord_loss}
_ROUND = math.radians(0.6)


def _weighted_mean(stages: list[Tensor], weight: Tensor, total: Tensor | None) -> Tensor:
    whole = (weight.sum() if total is None else total).clamp_min(1e-6)
    return torch.stack([(values * weight).sum() / whole for values in stages]).sum()


def isotropic_variation(stages: list[Tensor]) -> Tensor:
    """L_tv as the paper's eq. 6 has it: the length of the gradient of N / 2 + 0.5, over both directions and all
    channels together, at every pixel; mean over pixels and batch, summed over the stages.

    Forward differences, zero behind the last row and column. Stages [B, 3, H, W].
    """

    def one(n: Tensor) -> Tensor:
        picture = n / 2 + 0.5
        across = F.pad(picture.diff(dim=3), (0, 1))
        down = F.pad(picture.diff(dim=2), (0, 0, 0, 1))
        squared = (across.square() + down.square()).sum(1)
        return (squared + 1e-12).sqrt().mean()  # the root has no slope at 0

    return torch.stack([one(n) for n in stages]).sum()


def anisotropic_variation(stages: list[Tensor]) -> Tensor:
    """L_tv as the authors' release has it: absolute forward differences of N / 2 + 0.5 along x and along y, summed
    over the channels; divided by the number of pixels, mean over the batch, summed over the stages [B, 3, H, W].
    """

    def one(n: Tensor) -> Tensor:
        picture = n / 2 + 0.5
        moved = picture.diff(dim=2).abs().sum() + picture.diff(dim=3).abs().sum()
        return moved / (n.shape[0] * n.shape[2] * n.shape[3])

    return torch.stack([one(n) for n in stages]).sum()


TOTAL_VARIATION = {"isotropic": isotropic_variation, "anisotropic": anisotropic_variation}


def adversarial_loss(discriminator: nn.Module, stages: list[Tensor]) -> Tensor:
    """L_adv of the generator (eq. 7): how little the discriminator is fooled, summed over the stages."""
    return _per_map(discriminator(torch.cat(stages)), len(stages), real=True).sum()


def discriminator_loss(discriminator: nn.Module, stages: list[Tensor], target: Tensor) -> Tensor:
    """Real against fake, the fakes averaged over the stages; no gradient reaches the generator."""
    logits = discriminator(torch.cat([target, *(n.detach() for n in stages)]))
    real, fakes = logits[: len(target)], logits[len(target) :]
    return (_per_map(real, 1, real=True).mean() + _per_map(fakes, len(stages), real=False).mean()) / 2


def _per_map(logits: Tensor, stages: int, real: bool) -> Tensor:
    """Binary cross-entropy of logits [stages * B, ...] against all real or all fake, the mean of each stage.

    softplus is its closed form.
    """
    return F.softplus(-logits.float() if real else logits.float()).view(stages, -1).mean(1)
