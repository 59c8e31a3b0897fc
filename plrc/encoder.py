"""Encoder: a residual trunk and a 1×1 projector, from pictures to a map of point features.

Paper section "Point-Level Region Contrast" and MoCo: the projector works at every position, so that a point is a
bilinear sample of the projected map. Trunk tensors carry torchvision's names, whatever the architecture allows.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet

_RESNETS: dict[str, tuple[type[resnet.BasicBlock] | type[resnet.Bottleneck], list[int]]] = {
    "resnet18": (resnet.BasicBlock, [2, 2, 2, 2]),
    "resnet34": (resnet.BasicBlock, [3, 4, 6, 3]),
    "resnet50": (resnet.Bottleneck, [3, 4, 6, 3]),
    "resnet101": (resnet.Bottleneck, [3, 4, 23, 3]),
}
ARCHITECTURES = ("tiny", *_RESNETS)


class ResNetTrunk(resnet.ResNet):
    """torchvision's ResNet without pooling and classifier. The last BatchNorm γ of each block starts at 0.

    Attributes:
        channels: channels of c5. ``stride``: pixels a cell of c5, 32.
    """

    def __init__(self, arch: str) -> None:
        block, layers = _RESNETS[arch]
        super().__init__(block, layers, zero_init_residual=True)
        self.channels = self.fc.in_features
        self.stride = 32
        del self.avgpool, self.fc

    def layers(self, images: Tensor, until: str = "c5") -> dict[str, Tensor]:
        """Feature maps ``c2`` … ``until`` (strides 4 … 32) of images ``(B, 3, H, W)``; no further layer is computed."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return _maps(x, {"c2": self.layer1, "c3": self.layer2, "c4": self.layer3, "c5": self.layer4}, until)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)``, ImageNet-normalised → c5 ``(B, channels, ⌈H/32⌉, ⌈W/32⌉)``."""
        return self.layers(images)["c5"]


class TinyTrunk(nn.Module):
    """A residual net of about 1 M parameters with a stride-8 map, for two CPU cores and pictures of 64 px (ours).

    Nearly all parameters sit at stride 8, where 64 cells share them: a forward of a 64 px picture is 0.15 GFLOP. Unlike
    a ResNet's here, its blocks do not start as the identity: in so short a training that held it back
    (docs/results.md).
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels = 128
        self.stride = 8
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(32, 64, blocks=1)
        self.layer2 = _stage(64, 128, blocks=4)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def layers(self, images: Tensor, until: str = "c3") -> dict[str, Tensor]:
        """Feature maps ``c2`` and, unless it is ``until``, ``c3`` (strides 4 and 8) of images ``(B, 3, H, W)``."""
        return _maps(self.relu(self.bn1(self.conv1(images))), {"c2": self.layer1, "c3": self.layer2}, until)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)``, ImageNet-normalised → c3 ``(B, 128, ⌈H/8⌉, ⌈W/8⌉)``."""
        return self.layers(images)["c3"]


def _maps(x: Tensor, stages: dict[str, nn.Sequential], until: str) -> dict[str, Tensor]:
    """The output of each stage in turn, up to the one named ``until``."""
    maps = {}
    for name, stage in stages.items():
        maps[name] = x = stage(x)
        if name == until:
            return maps
    raise KeyError(until)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
    first = resnet.BasicBlock(inputs, outputs, stride=2, downsample=shortcut)
    return nn.Sequential(first, *(resnet.BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


class Encoder(nn.Module):
    """Trunk and projector: pictures → a map of point features ``z``.

    The projector is 1×1 convolutions ``channels → channels``, ReLU, ``channels → dim`` (2048 → 2048 → 128 for
    ResNet-50; released code). ``z`` is not normalised: points are, after they have been sampled from it.
    """

    def __init__(self, arch: str, dim: int = 128) -> None:
        super().__init__()
        if arch not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {arch!r}: choose one of {', '.join(ARCHITECTURES)}")
        self.trunk: ResNetTrunk | TinyTrunk = TinyTrunk() if arch == "tiny" else ResNetTrunk(arch)
        width = self.trunk.channels
        self.projector = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, dim, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)``, ImageNet-normalised → ``z`` ``(B, dim, h, w)``, with h × w the trunk's last map."""
        return self.projector(self.trunk(images))
