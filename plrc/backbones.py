"""Backbones behind one interface, and the encoder that PLRC trains: a backbone and a 1×1 projector.

A backbone says what its maps are called, how fine and how wide they are; nothing else in this package knows one by
name. ``plrc.registry.BACKBONES`` lists them, ``build`` makes one.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from plrc.registry import BACKBONES


class Backbone(nn.Module):
    """Images → feature maps. A new one sets the attributes, writes ``maps``, and gets a line in ``BACKBONES``.

    Attributes:
        name: what ``build`` made it from.
        strides: layer → pixels a cell, from fine to coarse. channels: layer → channels of its map.
        multiple: the sides of the input must be multiples of it.
        reach: how far a cell of the last map sees beyond its first pixel, in pixels; None: the whole input, so that
            large inputs cannot be encoded in tiles.
        last_stage: the module that makes the last map from the one before, where there is such a module: Detectron2's
            C4 detectors use it as their head.
    """

    name: str
    strides: dict[str, int]
    channels: dict[str, int]
    multiple: int = 1
    reach: int | None = None
    last_stage: nn.Module | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the maps, from fine to coarse."""
        return tuple(self.strides)

    @property
    def stride(self) -> int:
        """Pixels a cell of the last map."""
        return self.strides[self.layers[-1]]

    @property
    def width(self) -> int:
        """Channels of the last map."""
        return self.channels[self.layers[-1]]

    @property
    def named(self) -> nn.Module:
        """The module whose tensors carry the names of the library that it comes from."""
        return self

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        """Feature maps ``(B, channels, ⌈H/stride⌉, ⌈W/stride⌉)`` by layer, from fine to coarse.

        Args:
            images: ``(B, 3, H, W)`` RGB, normalised with ImageNet's mean and std.
            until: the last layer that is needed; no further one is computed.

        Raises:
            ValueError: sides that are no multiples of ``multiple``. KeyError: no such layer.
        """
        raise NotImplementedError

    def _needed(self, until: str | None) -> tuple[str, ...]:
        if until is not None and until not in self.strides:
            raise KeyError(until)
        return self.layers if until is None else self.layers[: self.layers.index(until) + 1]

    def forward(self, images: Tensor) -> Tensor:
        """The last map."""
        return self.maps(images)[self.layers[-1]]


class _Staged(Backbone):
    """A stem, then residual stages named as torchvision names them: ``layer1`` gives c2, and so on."""

    def __init__(self, name: str, stem: tuple[str, ...], widths: list[int]) -> None:
        super().__init__()
        self.name, self.stem = name, stem
        self.strides = {f"c{i}": 2**i for i in range(2, 2 + len(widths))}
        self.channels = dict(zip(self.strides, widths, strict=True))

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        x, maps = images, {}
        for module in self.stem:
            x = self.get_submodule(module)(x)
        for i, name in enumerate(self._needed(until), 1):
            maps[name] = x = self.get_submodule(f"layer{i}")(x)
        return maps

    @property
    def reach(self) -> int:  # type: ignore[override]
        """Along the longest way: the stem, then every convolution of every block."""
        radius, stride = 0, 1
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.MaxPool2d) and "downsample" not in name:
                kernel, step = (v[0] if isinstance(v, tuple) else v for v in (module.kernel_size, module.stride))
                radius += kernel // 2 * stride
                stride *= step
        return radius


class ResNet(_Staged):
    """A ResNet, wide ResNet or ResNeXt as torchvision makes it, without pooling and classifier.

    The trait ``form`` of its line in ``BACKBONES`` says all about it. Tensors have torchvision's names, and start as
    torchvision's do with ``zero_init_residual``: the last BatchNorm γ of each block at 0. (torchvision's own classes
    would cost every command the import of torchvision, which takes as long as that of torch.)
    """

    def __init__(self, name: str) -> None:
        form = re.fullmatch(r"([\d-]+) (\D+) of (\d+)(?: in (\d+) groups)?", BACKBONES[name].traits["form"])
        assert form is not None, name
        expansion = 4 if form[2] == "bottlenecks" else 1
        super().__init__(name, ("conv1", "bn1", "relu", "maxpool"), [64 * expansion << i for i in range(4)])
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)
        inputs = 64
        for i, count in enumerate(map(int, form[1].split("-"))):
            kind = (int(form[3]) << i, int(form[4] or 1)) if expansion == 4 else ()
            stage = _stage(inputs, inputs := 64 * expansion << i, count, 1 if i == 0 else 2, *kind)
            self.add_module(f"layer{i + 1}", stage)
        nn.Linear(self.width, 1000)  # torchvision's classifier: its random numbers come before a projector's
        _start(self)
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.norms[-1].weight)

    @property
    def last_stage(self) -> nn.Module:  # type: ignore[override]
        return self.get_submodule("layer4")


class Tiny(_Staged):
    """A residual net of about 1 M parameters with a stride-8 map, for two CPU cores and images of 64 px (ours).

    Nearly all parameters sit at stride 8, where 64 cells share them: a forward of a 64 px image is 0.15 GFLOP. Unlike
    a ResNet's here, its blocks do not start as the identity: in so short a training that held it back
    (docs/results.md).
    """

    def __init__(self, name: str = "tiny") -> None:
        super().__init__(name, ("conv1", "bn1", "relu"), [64, 128])
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(32), nn.ReLU(inplace=True)
        self.layer1 = _stage(32, 64, 1, stride=2)
        self.layer2 = _stage(64, 128, 4, stride=2)
        _start(self)


class Block(nn.Module):
    """A residual block: two 3×3 convolutions or, with ``inner`` channels, a bottleneck (1×1, 3×3 in groups, 1×1)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, inner: int = 0, groups: int = 1) -> None:
        super().__init__()
        shortcut = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        plan = [(outputs, 3, stride), (outputs, 3, 1)]
        if inner:
            plan = [(inner, 1, 1), (inner, 3, stride), (outputs, 1, 1)]
        for i, (channels, kernel, step) in enumerate(plan, 1):
            split = groups if kernel == 3 else 1
            convolution = nn.Conv2d(inputs, channels, kernel, step, kernel // 2, groups=split, bias=False)
            self.add_module(f"conv{i}", convolution)
            self.add_module(f"bn{i}", nn.BatchNorm2d(channels))
            inputs = channels
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    @property
    def norms(self) -> list[nn.BatchNorm2d]:
        return [module for module in self.children() if isinstance(module, nn.BatchNorm2d)]

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, len(self.norms) + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(self.relu(y) if i > 1 else y))
        sums: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return sums


def _stage(inputs: int, outputs: int, blocks: int, stride: int, *kind: int) -> nn.Sequential:
    rest = (Block(outputs, outputs, 1, *kind) for _ in range(blocks - 1))
    return nn.Sequential(Block(inputs, outputs, stride, *kind), *rest)


def _start(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:  # there torch would load its compiler to draw
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Timm(Backbone):
    """Any model of timm that gives feature maps: ConvNeXt, RegNet, ResNet-D, … and ViTs, DINOv2 and DINOv3 among them.

    A net of stages has layers c2, c3, … by their strides 4, 8, …; a net whose blocks are all of one stride, as a ViT's
    are, has four of them, at the quarters of its depth, called as timm numbers them (``block2``, ``block5``,
    ``block8``, ``block11`` of 12): the patch tokens as a map, after the final norm, as DINOv2 takes them. Position
    embeddings are resampled for the size of the input. The net's own mean and std are put in place of ImageNet's.

    Args:
        name: timm's, with ``timm:`` before it or not. pretrained: with timm's weights, downloaded as timm does.

    Raises:
        ValueError: timm is missing, knows no such model, or the model gives no maps.
    """

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        model = name.removeprefix("timm:")
        try:
            import timm
            from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        except ImportError as error:
            raise ValueError(f"{name} needs timm: pip install 'plrc[timm]'") from error
        if not timm.is_model(model.partition(".")[0]):
            raise ValueError(f"timm has no model {model!r}: timm.list_models() lists those there are")
        self.name = f"timm:{model}" if model in BACKBONES else model
        any_size: list[dict[str, Any]] = [{"dynamic_img_size": True}, {"strict_img_size": False}, {}]
        for flexible in any_size:
            try:
                self.net: Any = timm.create_model(model, pretrained, num_classes=0, **flexible)
                break
            except TypeError:  # this net has no such option
                if not flexible:
                    raise
        if not hasattr(self.net, "forward_intermediates"):
            raise ValueError(f"timm's {model} gives no feature maps: choose a model that timm takes features_only of")
        reductions = [info["reduction"] for info in self.net.feature_info]
        self._is_isotropic = len(set(reductions)) == 1
        if self._is_isotropic:
            depth = len(reductions)
            self._indices = {f"block{i}": i for i in sorted({depth * k // 4 - 1 for k in (1, 2, 3, 4)} - {-1})}
        else:
            self._indices = {f"c{r.bit_length() - 1}": i for i, r in enumerate(reductions) if r >= 4}
        self.strides = {layer: reductions[i] for layer, i in self._indices.items()}
        self.channels = {layer: self.net.feature_info[i]["num_chs"] for layer, i in self._indices.items()}
        self.multiple = self.stride
        # What no map needs goes: DistributedDataParallel wants a gradient for every parameter.
        self.net.prune_intermediate_layers(len(reductions), prune_norm=not self._is_isotropic, prune_head=True)
        # From images with ImageNet's mean and std to the net's own: x · scale + shift.
        mean, std = (torch.tensor(self.net.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
        from_mean, from_std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
        self.scale = nn.Buffer(from_std / std, persistent=False)
        self.shift = nn.Buffer((from_mean - mean) / std, persistent=False)

    @property
    def named(self) -> nn.Module:
        return self.net

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        h, w = images.shape[2:]
        if h % self.multiple or w % self.multiple:
            raise ValueError(f"{self.name} takes sides that are multiples of {self.multiple}, not {w} × {h} pixels")
        layers = self._needed(until)
        try:
            found = self.net.forward_intermediates(
                images * self.scale + self.shift,
                indices=[self._indices[layer] for layer in layers],
                norm=self._is_isotropic,
                stop_early=True,
                intermediates_only=True,
            )
        except (AssertionError, RuntimeError) as error:  # a net of one input size, as timm says it
            if not re.search("match|divisible", str(error)):
                raise
            raise ValueError(f"{self.name} takes no input of {w} × {h} pixels: {error}") from error
        maps = dict(zip(layers, found, strict=True))
        for layer, values in maps.items():
            stride = self.strides[layer]
            if values.shape[1:] != (self.channels[layer], h // stride, w // stride):
                raise ValueError(f"{self.name} gives no map of stride {stride} at {layer}: choose another model")
        return maps


def build(name: str) -> Backbone:
    """The backbone of that name, weights from the global random generator.

    Args:
        name: one of ``BACKBONES``; ``timm:NAME`` is any model of timm, whose prefix may be left out.

    Raises:
        ValueError: there is none of that name; names those there are.
    """
    backbone: Backbone = BACKBONES[name].load()(name)
    return backbone


class Encoder(nn.Module):
    """Backbone and projector: images → a map of point features ``z``.

    The projector works at every position, so that a point is a bilinear sample of the projected map. It is 1×1
    convolutions ``width → width``, ReLU, ``width → dim`` (2048 → 2048 → 128 for ResNet-50; released code). ``z`` is not
    normalised: points are, after they have been sampled from it.
    """

    def __init__(self, arch: str, dim: int = 128) -> None:
        super().__init__()
        self.backbone = build(arch)
        width = self.backbone.width
        self.projector = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, dim, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)``, ImageNet-normalised → ``z`` ``(B, dim, h, w)``, with h × w the last map's."""
        z: Tensor = self.projector(self.backbone(images))
        return z
