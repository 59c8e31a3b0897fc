"""Dense features: an image is encoded once, and many questions are asked of its map.

A ``DenseEncoder`` gives a ``FeatureMap``; below it are the features of points and of regions, none of them normalised.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from plrc.data.images import LONGEST, as_image
from plrc.data.photometric import normalise
from plrc.distributed import sent_to
from plrc.geometry import cell_centres, cell_of, sample
from plrc.pretrained import Pretrained, load

AnyImage = Image.Image | str | Path | np.ndarray | Tensor
"""A path (decoded upright), a PIL image, an array (H, W, 3) or a tensor (3, H, W), uint8 or in [0, 1]."""
Points = Tensor | np.ndarray | Sequence[Sequence[float]]  # (n, 2)
Size = int | tuple[int, int] | None
Layers = str | list[str] | tuple[str, ...] | None
DEFAULT_SIZE = 448  # short side, pixels: 14 cells of a ResNet's c5
MAX_PIXELS = 2048 * 2048  # encoded at once; a larger input goes through in overlapping tiles of at most so many
MOST_PIXELS = 2**28  # of an input: as numbers it takes 3 GB, its features as much again


@dataclass(frozen=True, eq=False, repr=False)
class FeatureMap:
    """Features of every cell of an image, and where the cells lie in it.

    Points are of the *image frame*, [0, 1]², unless they are said to be of the map, whose frame reaches beyond that to
    the right and below if the input's sides are no multiples of the stride.
    """

    features: Tensor  # (C, h, w) fp32
    image_size: tuple[int, int]  # width and height of the upright image, pixels
    input_size: tuple[int, int]  # width and height that the network saw
    stride: int  # pixels of the input a cell, as the map stands
    layer: str  # c2 … c5 or the name of a head
    finer: str = ""  # how the map came to be finer than its network makes it: "shifted ×2", "upscaled ×2"

    @property
    def kind(self) -> tuple[str, int]:
        """Layer and channels: features of one kind can be compared."""
        return self.layer, self.features.shape[0]

    def __repr__(self) -> str:
        (channels, h, w), (width, height) = self.features.shape, self.image_size
        layer = ", ".join(filter(None, (self.layer, self.finer)))
        return f"FeatureMap({layer}: {channels} channels, {h} × {w} cells of an image of {width} × {height} pixels)"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        _, h, w = self.features.shape
        return h, w

    @property
    def extent(self) -> Tensor:
        """``(2,)``: how far right and down the map reaches, the image being 1."""
        return torch.tensor([n * self.stride / side for n, side in zip(self.shape[::-1], self.input_size, strict=True)])

    def to_map(self, points: Tensor) -> Tensor:
        """Image points ``(..., 2)`` as points of the map's frame."""
        return points / self.extent.to(points.device)

    def centres(self) -> Tensor:
        """Image points ``(h, w, 2)``: the centres of the cells."""
        return cell_centres(*self.shape) * self.extent

    def cell_of(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of the cell in which each image point ``(..., 2)`` lies, the nearest for one outside."""
        return cell_of(self.to_map(points), *self.shape)

    @cached_property
    def unit_cells(self) -> Tensor:
        """The features of the cells, row by row, each divided by its length: ``(h·w, C)``; kept with the map."""
        return F.normalize(self.features.flatten(1).T, dim=1).contiguous()

    @cached_property
    def sha256(self) -> str:
        """Of the features; kept with the map."""
        return hashlib.sha256(repr(self.kind).encode() + self.numpy().tobytes()).hexdigest()

    def reduced(self, channels: int) -> tuple[Tensor, float]:
        """``unit_cells`` in the ``(h·w, k)`` coordinates that keep most of their lengths, k at most ``channels``.

        Also the share of the squared lengths that is lost: 0 where the features have no more channels than that. Inner
        products of the coordinates are those of what is kept (principal components without centring).
        """
        cells = self.unit_cells
        if cells.shape[1] <= channels:
            return cells, 0.0
        wide = cells.shape[1] > len(cells)  # of two Gram matrices the smaller one
        values, vectors = torch.linalg.eigh(cells @ cells.T if wide else cells.T @ cells)  # rising
        values, vectors = values[-channels:].clamp(min=0).flip(0), vectors[:, -channels:].flip(1)
        lost = 1 - float(values.sum() / cells.square().sum().clamp(min=1e-12))
        return (vectors * values.sqrt() if wide else cells @ vectors), max(0.0, lost)

    def numpy(self) -> np.ndarray:
        """The features ``(C, h, w)`` as an array."""
        return self.features.cpu().numpy()


def check_kinds(kinds: Iterable[tuple[str, int]]) -> None:
    """Raise a ValueError if maps are of different kinds."""
    if len(found := sorted(set(kinds))) > 1:
        layers = " and ".join(f"{layer} ({channels} channels)" for layer, channels in found)
        raise ValueError(f"the maps are of layers {layers}: take all from one layer of one network")


class DenseEncoder:
    """A pretrained network, in evaluation mode, that gives feature maps.

    Attributes:
        backbone, heads: name → module, what the checkpoint applies to the backbone's last map, here at every position.
        layers: the backbone's maps, fine to coarse, then the heads. last: the backbone's last map, which a detector
            inherits. default: the head by which training compared places, where there is one, else ``last``.
        origin: where the weights came from. device: where they are.
    """

    def __init__(self, pretrained: Pretrained, device: torch.device | str = "cpu") -> None:
        self.origin = pretrained.origin
        self.backbone = pretrained.backbone.to(memory_format=torch.channels_last).eval()
        self.heads = nn.ModuleDict(pretrained.heads).eval()
        self.layers, self.last = (*self.backbone.layers, *self.heads), self.backbone.layers[-1]
        self.default = pretrained.dense or self.last
        self.to(device)

    def __repr__(self) -> str:
        of = " ".join(filter(None, (self.origin.arch, self.origin.branch)))
        return f"DenseEncoder({self.origin.name}: {of}, layers {', '.join(self.layers)}, on {self.device})"

    def to(self, device: torch.device | str) -> DenseEncoder:
        """Move the network; returns itself. Raises a ValueError if torch cannot use the device here."""
        check_device(device)
        self.device = torch.device(device)
        self.backbone.to(self.device)
        self.heads.to(self.device)
        return self

    def stride(self, layer: str | None = None) -> int:
        """Pixels of the input a cell of a layer. Raises a ValueError that names the layers if there is no such one."""
        if layer is not None and layer not in self.layers:
            raise ValueError(f"{self.origin.name} has no layer {layer!r}: it has {', '.join(self.layers)}")
        return self.backbone.strides.get(layer or self.default, self.backbone.stride)

    def __call__(self, images: Any, layer: Layers = None, size: Size = DEFAULT_SIZE, finer: str | None = None) -> Any:
        """The feature map of an image, or a list of those of a list of images or of a batch ``(B, 3, H, W)``.

        Images go through one by one: decoding takes longer, and a map's last bits would depend on its neighbours.

        Args:
            images: see ``AnyImage``. layer: of several the maps are a dictionary, from one forward pass.
            size: of the input, see ``input_size``; a number is its shorter side.
            finer: a map twice as fine, for which no network was trained. "shifted": the input is shifted by a quarter
                of a cell either way, and the maps are averaged where they come to lie; "upscaled": it is enlarged.

        Raises a ValueError if there is no such layer, image or ``finer``, or the backbone does not take the size.
        """
        if isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4:
            return [self(image, layer, size, finer) for image in images]
        names = list(layer) if isinstance(layer, list | tuple) else [layer or self.default]
        strides = {name: self.stride(name) for name in names}
        if finer not in (None, "shifted", "upscaled"):
            raise ValueError(f"finer maps can be 'shifted' or 'upscaled', not {finer!r}")
        if finer == "shifted" and (odd := [stride for stride in strides.values() if stride % 4]):
            raise ValueError(f"a map of stride {odd[0]} cannot be made finer by shifts of a quarter of it")
        image = as_image(images)
        width, height = input_size(image.size, size, math.lcm(self.backbone.stride, self.backbone.multiple))
        to = (2 * width, 2 * height) if finer == "upscaled" else (width, height)
        if finer == "shifted":
            maps = {name: self._shifted(as_tensor(image, to), name) for name in names}
            strides = {name: stride // 2 for name, stride in strides.items()}
        else:
            maps = self.encode(as_tensor(image, to), names)
        label = f"{finer} ×2" if finer else ""
        found = {n: FeatureMap(maps[n][0], image.size, to, stride, n, label) for n, stride in strides.items()}
        return found if isinstance(layer, list | tuple) else found[names[0]]

    features = __call__

    def batch(self, images: Iterable[AnyImage], *how: Any, **named: Any) -> Iterator[Any]:
        """``features`` of images that may be an iterator: each map is made when it is asked for."""
        return (self(image, *how, **named) for image in images)

    def encode(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Maps ``(B, C, h, w)`` fp32 by layer of images ``(B, 3, H, W)`` RGB in [0, 1]; large ones go through in tiles.

        A tile reaches beyond its cells as far as they see, so that nothing changes but the order of some sums.
        """
        (h, w), unit, reach = images.shape[2:], self.backbone.stride, self.backbone.reach
        if h * w <= MAX_PIXELS or reach is None:
            return self._encode(images, layers)
        margin = -(-reach // unit) * unit
        side = int(MAX_PIXELS**0.5) // unit * unit - 2 * margin
        whole: dict[str, Tensor] = {}
        for top, left in product(range(0, h, side), range(0, w, side)):
            y, x = max(0, top - margin), max(0, left - margin)
            tile = images[:, :, y : top + side + margin, x : left + side + margin]
            for name, part in self._encode(tile, layers).items():
                s = self.stride(name)
                if name not in whole:
                    whole[name] = part.new_empty(*part.shape[:2], -(-h // s), -(-w // s))
                out = whole[name][:, :, top // s : (top + side) // s, left // s : (left + side) // s]
                out.copy_(part[:, :, (top - y) // s :, (left - x) // s :][:, :, : out.shape[2], : out.shape[3]])
        return whole

    @torch.no_grad()
    def _encode(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        x = normalise(sent_to(images, self.device)).contiguous(memory_format=torch.channels_last)
        last = max((name if name in self.backbone.layers else self.last for name in layers), key=self.layers.index)
        maps = self.backbone.maps(x, until=last)
        return {n: (self.heads[n](maps[last]) if n in self.heads else maps[n]).float() for n in layers}

    def _shifted(self, images: Tensor, layer: str) -> Tensor:
        """The mean of the maps of the four shifts of the input, each sampled at the centres of cells half as wide."""
        stride, (height, width) = self.stride(layer), images.shape[2:]
        total: Any = 0
        reach = stride // 4  # brings the centres of cells onto those of the finer ones
        padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
        h, w = -(-height // stride), -(-width // stride)
        centres = cell_centres(h * 2, w * 2).flatten(0, 1)
        for dy, dx in product((-reach, reach), repeat=2):
            moved = padded[:, :, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
            maps = self.encode(moved, [layer])[layer]
            there = sent_to(centres - torch.tensor([dx / (w * stride), dy / (h * stride)]), maps.device)
            total = sample(maps, there[None].expand(len(maps), -1, -1)) + total
        return (total / 4).transpose(1, 2).unflatten(2, (h * 2, w * 2))


def check_device(device: torch.device | str, called: str = "the device") -> None:
    """Raise a ValueError if torch cannot use a device here."""
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch without CUDA
        reason = re.split(r"\n|\. ", str(error))[0].rstrip(".")
        unknown = reason.startswith(("Expected one of", "Invalid device"))
        said = "there is none of that name): take cuda, mps or cpu" if unknown else f"{reason}): take cpu"
        raise ValueError(f"{called} {device} cannot be used here ({said}") from error


def load_encoder(
    source: str | Path | Mapping[str, Any] | nn.Module, device: torch.device | str = "cpu", branch: str | None = None
) -> DenseEncoder:
    """A network from a checkpoint in any known format, recognised by its contents, or by name.

    Args:
        source: what ``plrc.pretrained.load`` takes: a file; a run folder of ours; ``torchvision:resnet50`` or
            ``random:resnet50``; a state dict; a module.
        branch: "query" or "key" ("teacher" or "student"), where a file holds two networks; if not given, the usual one.

    Raises a ValueError if ``load`` cannot read it (says why), or the device cannot be used.
    """
    return DenseEncoder(load(source, branch), device)


def input_size(image_size: tuple[int, int], size: Size, stride: int) -> tuple[int, int]:
    """Width and height of the input for an image of that width and height.

    A ``size`` is the shorter side, or an eighth of the longer one of an image that is longer than that, both sides then
    rounded to multiples of ``stride``; or ``(width, height)``, exactly so; or None: the image's own size, rounded
    likewise. Raises a ValueError if a side is below 1, or the input has more than ``MOST_PIXELS``.
    """
    if size is not None:
        sides = size if isinstance(size, tuple) else (size,)
        if len(sides) > 2 or not all(isinstance(n, int | float | np.number) and math.isfinite(n) for n in sides):
            raise ValueError(f"a size is the shorter side in pixels, 448, or (width, height), not {size!r}")
        if min(sides) < 1:
            raise ValueError(f"an input has sides of 1 pixel or more, not {size}")
    if isinstance(size, tuple):
        width, height = size
    else:
        scale = 1.0 if size is None else min(size / min(image_size), LONGEST * size / max(image_size))
        width, height = (max(1, round(side * scale / stride)) * stride for side in image_size)
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"an input of {width} × {height} pixels would take more memory than there is: take a smaller size, "
            f"{MOST_PIXELS // 10**6} million pixels are the most"
        )
    return width, height


def as_tensor(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """An image resized to width and height, ``(1, 3, H, W)`` RGB in [0, 1]."""
    resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 255


def as_points(points: Points) -> Tensor:
    """Points ``(n, 2)`` of any kind as a tensor; none is ``(0, 2)``. Raises a ValueError if they are something else."""
    given: Any = None
    with suppress(TypeError, ValueError, RuntimeError):
        found = points if isinstance(points, Tensor) else torch.as_tensor(points, dtype=torch.float32)
        if not found.numel() or (found.ndim == 2 and found.shape[1] == 2):
            return found.reshape(-1, 2)
        given = tuple(found.shape)
    given = given or repr(points)  # of a tensor that takes milliseconds
    raise ValueError(f"points have the shape (n, 2), x and y in [0, 1] of the image, such as [[0.4, 0.6]]; not {given}")


def point_features(fmap: FeatureMap, points: Points) -> Tensor:
    """Features ``(n, C)`` at points ``(n, 2)`` of the image frame: bilinear samples. None may lie outside the map."""
    points = as_points(points)
    inside = (points >= 0) & (points <= fmap.extent.clamp(min=1).to(points.device))  # NaN is not
    outside = points[~inside.all(dim=1)].tolist()
    if outside:
        raise ValueError(f"points are shares of the image's width and height; {tuple(outside[0])} lies outside [0, 1]")
    return sample(fmap.features[None], fmap.to_map(points.to(fmap.features))[None])[0]


def region_features(fmap: FeatureMap, raster: Tensor) -> Tensor:
    """The mean feature ``(n, C)`` of each region, not normalised: cells weigh as much as they show of the region.

    A raster is ``(h′, w′)`` integers, of any resolution over the whole image: which region each point belongs to, as
    ``plrc.regions`` gives it; negative where it belongs to none. Regions come in the order of ``region_numbers``.
    """
    weights = region_weights(fmap, raster).flatten(1).to(fmap.features)
    return (weights / weights.sum(dim=1, keepdim=True)) @ fmap.features.flatten(1).T


def region_weights(fmap: FeatureMap, raster: Tensor) -> Tensor:
    """Which share of each cell each region covers: ``(n, h, w)`` float64 in [0, 1], exact at any resolutions."""

    def overlaps(cells: int, side: int, parts: int) -> Tensor:  # of an axis: which share of a cell is in each part
        cell, edges = fmap.stride / side, torch.arange(parts + 1, dtype=torch.float64) / parts
        low = torch.arange(cells, dtype=torch.float64)[:, None] * cell
        return ((low + cell).minimum(edges[1:]) - low.maximum(edges[:-1])).clamp(min=0) / cell

    (h, w), (width, height) = fmap.shape, fmap.input_size
    down, across = overlaps(h, height, raster.shape[0]), overlaps(w, width, raster.shape[-1]).T
    return torch.stack([down @ (raster.cpu() == n).double() @ across for n in region_numbers(raster)])


def region_numbers(raster: Tensor) -> Tensor:
    """The numbers ``(n,)`` int64 of a raster's regions, rising; negative values are no region."""
    if raster.ndim != 2 or raster.is_floating_point() or not raster.numel():
        kind = f"{tuple(raster.shape)} {str(raster.dtype).removeprefix('torch.')}"
        raise ValueError(f"a region raster is (h, w) integers over the whole image, not {kind}")
    numbers = raster.cpu().long().unique()
    if not len(numbers := numbers[numbers >= 0]):
        raise ValueError("the raster has no region: all its values are negative")
    return numbers


def region_points(raster: Tensor) -> Tensor:
    """Points ``(n, 2)`` of the image frame: the centre of each region's raster cell that is nearest to its centroid."""
    points = []
    for number in region_numbers(raster):
        cells = (raster.cpu() == number).nonzero().double()
        middle = cells[(cells - cells.mean(dim=0)).square().sum(dim=1).argmin()]
        points.append((middle + 0.5) / torch.tensor(raster.shape))
    return torch.stack(points).flip(1).float()
