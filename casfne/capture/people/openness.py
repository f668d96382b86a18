"""How much of the sky each vertex of a head sees past the head itself: dark nostrils, ears, corners of eyes."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.people.heads import HeadModel

_DIRECTIONS = 64  # of the sky, for openness
_CELL, _SLACK = 0.0018, 0.003  # m: texel of a depth map; how much nearer another surface must be to hide one
# least openness by number of `heads.REGIONS`: mouths and eyes open, which the template's do not
_REGION_OPEN = (0.12, 0.12, 0.35, 0.25, 0.2, 0.2)
_SIDE = 512  # texels of a depth map


def openness(model: HeadModel) -> Tensor:
    """Cosine-weighted share of the sky that each vertex sees past the template's own surface, [V] in 0..1."""
    template, triangles = model.template, model.triangles
    normals = _normals(template, triangles)
    samples = torch.einsum("kc,tcd->ktd", _spread(template.device), template[triangles]).reshape(-1, 3)
    seen, whole = torch.zeros(2, len(template), device=template.device)
    for direction in _sky(template.device):
        cosine = (normals @ direction).clamp_min(0)
        seen += cosine * _free(template + 0.0015 * normals, samples, direction)
        whole += cosine
    share = _smooth((seen / whole.clamp_min(1e-6)), triangles)
    least = torch.ones_like(share)
    floor = torch.tensor(_REGION_OPEN, device=share.device)[model.region]
    least.scatter_reduce_(0, triangles.flatten(), floor.repeat_interleave(3), "amin")
    return least + (1 - least) * share


def _normals(template: Tensor, triangles: Tensor) -> Tensor:
    a, b, c = template[triangles].unbind(1)
    area = torch.linalg.cross(b - a, c - a).repeat_interleave(3, 0)
    return functional.normalize(torch.zeros_like(template).index_add_(0, triangles.flatten(), area), dim=-1)


def _spread(device: torch.device) -> Tensor:
    """Barycentrics of 15 places spread over a triangle, [15, 3]."""
    steps = [(i, j, 4 - i - j) for i in range(5) for j in range(5 - i)]
    return torch.tensor(steps, device=device, dtype=torch.float32) / 4


def _sky(device: torch.device) -> Tensor:
    """Directions spread evenly over the sphere (Fibonacci's spiral), [K, 3]."""
    k = torch.arange(_DIRECTIONS, device=device) + 0.5
    up = 1 - 2 * k / _DIRECTIONS
    turn = k * math.pi * (3 - math.sqrt(5))
    level = (1 - up**2).sqrt()
    return torch.stack([level * turn.cos(), up, level * turn.sin()], -1)


def _free(points: Tensor, samples: Tensor, direction: Tensor) -> Tensor:
    """1 where nothing lies between a point and the sky in a direction: a depth map of samples; [V]."""
    helper = torch.eye(3, device=points.device)[direction.abs().argmin()]
    right = functional.normalize(torch.linalg.cross(helper, direction), dim=0)
    axes = torch.stack([right, torch.linalg.cross(direction, right), direction], -1)
    cast, surface = points @ axes, samples @ axes
    cell = (surface[:, :2] / _CELL + _SIDE / 2).long().clamp(0, _SIDE - 1)
    depth = torch.full((_SIDE * _SIDE,), -1.0, device=points.device)
    depth.scatter_reduce_(0, cell[:, 0] * _SIDE + cell[:, 1], surface[:, 2], "amax")
    own = (cast[:, :2] / _CELL + _SIDE / 2).long().clamp(0, _SIDE - 1)
    return (depth[own[:, 0] * _SIDE + own[:, 1]] < cast[:, 2] + _SLACK).float()


def _smooth(values: Tensor, triangles: Tensor) -> Tensor:
    """Mean with the neighbours on the mesh, [V]."""
    total, count = torch.zeros(2, len(values), device=values.device)
    corners = triangles.flatten()
    mean = values[triangles].mean(-1).repeat_interleave(3)
    total.index_add_(0, corners, mean)
    count.index_add_(0, corners, torch.ones_like(mean))
    return torch.where(count > 0, total / count.clamp_min(1), values)
