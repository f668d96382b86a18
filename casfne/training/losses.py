"""The three losses (paper eqs. 5 to 8). Every function takes the list of stages and sums over them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cosine_loss(stages: list[Tensor], target: Tensor, weight: Tensor) -> Tensor:
    """L_rec (eq. 5): mean of 1 - cos(prediction, target), weighted per pixel, summed over the stages.

    Stages and ``target`` are unit normals [B, 3, H, W]; ``weight`` [B, 1, H, W] is the mask, or mask times
    trust. All zero weights give 0.
    """
    total = weight.sum().clamp_min(1e-6)
    return torch.stack([((1 - (n * target).sum(1, keepdim=True)) * weight).sum() / total for n in stages]).sum()


def total_variation(stages: list[Tensor]) -> Tensor:
    """L_tv (eq. 6, in the anisotropic form of the authors' release), summed over the stages.

    Absolute forward differences of N / 2 + 0.5 along x and y, summed over the channels and divided by the
    number of pixels; mean over the batch.
    """

    def one(n: Tensor) -> Tensor:
        picture = n / 2 + 0.5
        moved = picture.diff(dim=2).abs().sum() + picture.diff(dim=3).abs().sum()
        return moved / (n.shape[0] * n.shape[2] * n.shape[3])

    return torch.stack([one(n) for n in stages]).sum()


def adversarial_loss(discriminator: nn.Module, stages: list[Tensor]) -> Tensor:
    """L_adv of the generator (eq. 7): how little the discriminator is fooled, summed over the stages."""
    return torch.stack([_logistic(discriminator(n), real=True) for n in stages]).sum()


def discriminator_loss(discriminator: nn.Module, stages: list[Tensor], target: Tensor) -> Tensor:
    """Real against fake, the fakes averaged over the stages; no gradient reaches the generator."""
    fakes = torch.stack([_logistic(discriminator(n.detach()), real=False) for n in stages]).mean()
    return (_logistic(discriminator(target), real=True) + fakes) / 2


def _logistic(logits: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy of logits against all real or all fake; softplus is its closed form."""
    return F.softplus(-logits.float() if real else logits.float()).mean()
