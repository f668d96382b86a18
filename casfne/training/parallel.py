"""Several processes that train one network: what they must share to do the same as one process would.

Each holds a part of every batch. With statistics of batch norm, the loss's total weight and gradients shared, a
step of N processes is a step of one on the whole batch, but for rounding. Without `torch.distributed` at work
every function here leaves its argument as it is.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as shared
from torch import Tensor, nn


def rank_and_world() -> tuple[int, int]:
    """Which process this is, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of ``value`` over the processes, without gradient."""
    if not dist.is_initialized():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def average_gradients(network: nn.Module) -> None:
    """Every process's gradients replaced by their mean, in one exchange."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = mean_over_processes(torch.cat([g.flatten() for g in gradients]))
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def share_batch_norms(network: nn.Module) -> None:
    """Make every batch norm of ``network`` count the whole batch; parameters and names stay."""
    if not dist.is_initialized():
        return
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.__class__ = SharedBatchNorm


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes. torch's own SyncBatchNorm refuses CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], this process's part of a batch, normalised by the whole; in evaluation as `nn.BatchNorm2d`."""
        if not self.training:
            return super().forward(x)
        count = x.numel() / x.shape[1] * dist.get_world_size()
        wide = x.float()
        mean = _total(wide.sum((0, 2, 3))) / count
        centred = wide - mean[:, None, None]
        variance = _total(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        buffers: Any = self
        buffers.running_mean.lerp_(mean, self.momentum)
        buffers.running_var.lerp_(variance, self.momentum)
        buffers.num_batches_tracked += 1


def _total(value: Tensor) -> Tensor:
    return shared.all_reduce(value)  # differentiable
