"""The cascade (paper Sec. III-B): an initial block, then one shared block that refines its own prediction."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from casfne.errors import InputError
from casfne.model.blocks import InitialDecoder, NormalEncoder, RefinementDecoder
from casfne.model.encoders import ENCODERS, start_from
from casfne.model.fusion import FUSIONS

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class CascadeConfig:
    """``width`` F of the decoders, ``refinements`` T, what is taken off the input ("none" or "imagenet"), how normal
    and structure features are fused ("cat", "adain" or "fmm"), E_f ("resnet18" or "efficientnet_lite0"), whether
    D_cn's output is added to the normals that it refines (``residual``) or takes their place (the paper's), and whether
    a picture's normals are, but for training, the mean of its own and its mirror image's (``symmetric``): twice the
    work, and a mirrored picture then has exactly the mirrored normals.
    """

    width: int = 32
    refinements: int = 2
    normalisation: str = "none"
    fusion: str = "cat"
    encoder: str = "resnet18"
    residual: bool = False
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.refinements < 0:
            raise InputError(f"width {self.width} and refinements {self.refinements}: at least 1 and 0")
        if self.normalisation not in ("none", "imagenet"):
            raise InputError(f"normalisation {self.normalisation!r}: expected none or imagenet")
        if self.fusion not in FUSIONS:
            raise InputError(f"fusion {self.fusion!r}: expected one of {', '.join(FUSIONS)}")
        if self.encoder not in ENCODERS:
            raise InputError(f"encoder {self.encoder!r}: expected one of {', '.join(ENCODERS)}")

    def as_dict(self) -> dict[str, int | str | bool]:
        """Plain values, for a checkpoint's metadata."""
        return asdict(self)


class Cascade(nn.Module):
    """Image [B, 3, H, W] in 0..1, H and W multiples of 32, to the T + 1 stages' unit normals [B, 3, H, W].

    Frame ``opengl``. E_f runs once; E_cn and D_cn are shared by all refinements (paper eqs. 3 and 4).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        self.structure = ENCODERS[config.encoder]()
        channels = self.structure.channels
        self.initial = InitialDecoder(config.width, channels)
        self.normal_encoder = NormalEncoder(config.width)
        self.refinement = RefinementDecoder(config.width, config.fusion, channels)
        imagenet = config.normalisation == "imagenet"
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if imagenet else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor, refinements: int | None = None) -> list[Tensor]:
        """All stages, t = 0 first. ``refinements`` overrides the configured T for this call."""
        return self.with_summary(image, refinements)[0]

    def with_summary(self, image: Tensor, refinements: int | None = None) -> tuple[list[Tensor], Tensor]:
        """`forward`'s stages, and what E_f sees in the whole picture, float32 [B, C]: the means of its two coarsest
        features, one after the other."""
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % 32 or image.shape[3] % 32:
            raise ValueError(f"expected [B, 3, H, W] with H and W multiples of 32, got {tuple(image.shape)}")
        steps = self.config.refinements if refinements is None else refinements
        if not self.config.symmetric or self.training:
            return self._stages(image, steps)
        both, summary = self._stages(torch.cat([image, image.flip(-1)]), steps)
        count = image.shape[0]
        return [_mean_of_views(normals, count) for normals in both], (summary[:count] + summary[count:]) / 2

    def _stages(self, image: Tensor, steps: int) -> tuple[list[Tensor], Tensor]:
        structure = self.structure((image - self.mean) / self.std)
        stages = [to_normals(self.initial(structure))]
        shared = self.refinement.share(structure) if steps else []
        for _ in range(steps):
            raw = self.refinement(shared, self.normal_encoder(stages[-1]))
            stages.append(to_normals(raw, stages[-1] if self.config.residual else None))
        return stages, torch.cat([feature.float().mean((2, 3)) for feature in structure[-2:]], 1)


def _mean_of_views(normals: Tensor, count: int) -> Tensor:
    """Unit normals [2 B, 3, H, W] of B = ``count`` pictures, then of their mirror images, to the pictures'."""
    seen, mirrored = normals[:count], normals[count:]
    x, yz = mirrored.flip(-1).split([1, 2], 1)
    return nn.functional.normalize(seen + torch.cat([-x, yz], 1), dim=1, eps=1e-6)


def to_normals(raw: Tensor, before: Tensor | None = None) -> Tensor:
    """tanh, added to the normals ``before`` where there are any, then unit length over the channels; float32 whatever
    the precision of ``raw`` [B, 3, H, W]."""
    bounded = torch.tanh(raw.float())
    return nn.functional.normalize(bounded if before is None else before + bounded, dim=1, eps=1e-6)


def build(config: CascadeConfig, start: str) -> Cascade:
    """A cascade to train. ``start``: of E_f, "random" or as `casfne.model.encoders.start_from` takes it."""
    network = Cascade(config)
    if config.residual:  # begins by changing nothing
        for values in network.refinement.up[-1].parameters():
            nn.init.zeros_(values)
    if start != "random":
        start_from(network.structure, start)
    return network


def count_parameters(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in network.parameters())
