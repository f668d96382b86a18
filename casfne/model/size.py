"""What a cascade costs: parameters and multiply-adds per number of refinements."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from casfne.images import SIZE
from casfne.model.cascade import Cascade, CascadeConfig, count_parameters


@dataclass(frozen=True)
class Size:
    """One number of refinements T; the numbers are those of one picture."""

    refinements: int
    predictions: int  # T + 1, which Table IV of the paper calls t
    parameters: int  # of the parts that compute; those that refine count once, however often they run
    multiply_adds: int
    parameters_counted_twice: int  # as Table IV has them: E_f once more, as the whole network and as its cut


def describe(config: CascadeConfig, most: int = 5, size: int = SIZE) -> list[Size]:
    """The cascade of ``config`` on one picture [1, 3, size, size], for T = 0 .. ``most`` (its own T is not read).

    Multiply-adds are those of convolutions, transposed convolutions and linear layers, each counted where it
    multiplies: at every output pixel of a convolution, at every input pixel of a transposed one (products with
    padding, or cropped away, included). Norms, biases and activations are left out. No weights are made: the
    network runs on torch's device "meta".

    Table IV's parameters are ``parameters_counted_twice``: 22.9 M for one prediction and 29.3 M for more, at
    width 32. The classifier is in neither, as it never runs.
    """
    with torch.device("meta"):
        network, image = Cascade(config).eval(), torch.empty(1, 3, size, size)
    again = count_parameters(network.structure)
    rows = []
    for refinements in range(most + 1):
        with _counting(network) as cost, torch.no_grad():
            network(image, refinements)
        parameters = sum(p.numel() for module in cost for p in module.parameters(recurse=False))
        rows.append(Size(refinements, refinements + 1, parameters, sum(cost.values()), parameters + again))
    return rows


@contextmanager
def _counting(network: nn.Module) -> Iterator[dict[nn.Module, int]]:
    """Every module that runs inside, with its multiply-adds, summed over its runs."""
    cost: dict[nn.Module, int] = {}

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        cost[module] = cost.get(module, 0) + _multiply_adds(module, inputs, output)

    hooks = [module.register_forward_hook(add) for module in network.modules()]
    try:
        yield cost
    finally:
        for hook in hooks:
            hook.remove()


def _multiply_adds(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> int:
    """Of one call. ``weight[0]`` is what one output value reads, or one input value of a transposed layer writes."""
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        return 0
    values: Tensor = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
    return values.numel() * module.weight[0].numel()
