"""Dense features: an image is encoded once, and many questions are asked of its map.

A ``DenseEncoder`` gives a ``FeatureMap``; below it are the features of points and of regions, none of them normalised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from plrc.data.images import as_image
from plrc.data.photometric import normalise
from plrc.geometry import cell_centres, cell_of, sample
from plrc.pretrained import CheckpointInfo, Pretrained, load

Picture = Image.Image | str | Path | np.ndarray | Tensor
"""A path (decoded upright), a PIL image, an array (H, W, 3) or a tensor (3, H, W), uint8 or in [0, 1]."""
Points = Tensor | np.ndarray | Sequence[Sequence[float]]  # (n, 2)
Size = int | tuple[int, int] | None
Layers = list[str] | tuple[str, ...]
DEFAULT_SIZE = 448  # short side, pixels: 14 cells of a ResNet's c5
MAX_PIXELS = 2048 * 2048  # encoded at once; a larger input goes through in overlapping tiles of at most so many


@dataclass(frozen=True, eq=False, repr=False)
class FeatureMap:
    """Features of every cell of an image, and where the cells lie in it.

    Points are of the *image frame*, [0, 1]², unless they are said to be of the map. The map's frame is the image's if
    the input's sides are multiples of the stride, and reaches beyond it to the right and below if they are not.

    Attributes:
        features: ``(C, h, w)`` fp32. image_size: width and height of the upright image, pixels.
        input_size: width and height that the network saw. stride: pixels of the input a cell, as the map stands.
        layer: ``c2`` … ``c5`` or the name of a head.
        finer: empty, or how the map came to be finer than its network makes it: "shifted ×2", "upscaled ×2".
    """

    features: Tensor
    image_size: tuple[int, int]
    input_size: tuple[int, int]
    stride: int
    layer: str
    finer: str = ""

    def __repr__(self) -> str:
        (channels, h, w), (width, height) = self.features.shape, self.image_size
        layer = ", ".join(part for part in (self.layer, self.finer) if part)
        return f"FeatureMap({layer}: {channels} channels, {h} × {w} cells of an image of {width} × {height} pixels)"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.features.shape[1], self.features.shape[2]

    @property
    def extent(self) -> Tensor:
        """``(2,)``: how far right and down the map reaches, the image being 1."""
        h, w = self.shape
        return torch.tensor([w * self.stride / self.input_size[0], h * self.stride / self.input_size[1]])

    def to_map(self, points: Tensor) -> Tensor:
        """Image points ``(..., 2)`` as points of the map's frame."""
        return points / self.extent.to(points.device)

    def to_image(self, points: Tensor) -> Tensor:
        """Points ``(..., 2)`` of the map's frame as image points."""
        return points * self.extent.to(points.device)

    def centres(self) -> Tensor:
        """Image points ``(h, w, 2)``: the centres of the cells."""
        return self.to_image(cell_centres(*self.shape))

    def cell_of(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of the cell in which each image point ``(..., 2)`` lies, the nearest for one outside."""
        return cell_of(self.to_map(points), *self.shape)

    def at(self, points: Tensor) -> Tensor:
        """Features ``(n, C)`` at image points ``(n, 2)``: bilinear samples."""
        return sample(self.features[None], self.to_map(points.to(self.features))[None])[0]

    @cached_property
    def unit_cells(self) -> Tensor:
        """The features of the cells, row by row, each divided by its length: ``(h·w, C)``; kept with the map."""
        return F.normalize(self.features.flatten(1).T, dim=1).contiguous()

    def numpy(self) -> np.ndarray:
        """The features ``(C, h, w)`` as an array."""
        return self.features.cpu().numpy()


class DenseEncoder:
    """A pretrained network that gives feature maps.

    Attributes:
        backbone: in evaluation mode. heads: name → module, what the checkpoint applies to the backbone's last map, here
            at every position. origin: where the weights came from. device: where they are.
    """

    def __init__(self, pretrained: Pretrained, device: torch.device | str = "cpu") -> None:
        self.origin: CheckpointInfo = pretrained.origin
        self.backbone = pretrained.backbone.to(memory_format=torch.channels_last).eval()
        self.heads = nn.ModuleDict(pretrained.heads).eval()
        self.to(device)

    def __repr__(self) -> str:
        of = " ".join(part for part in (self.origin.arch, self.origin.branch) if part)
        return f"DenseEncoder({self.origin.name}: {of}, layers {', '.join(self.layers)}, on {self.device})"

    def to(self, device: torch.device | str) -> DenseEncoder:
        """Move the network; returns itself.

        Raises:
            ValueError: torch cannot use the device here.
        """
        try:
            torch.ones(1, device=device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch without CUDA
            reason = str(error).split("\n")[0].rstrip(".")
            raise ValueError(f"the device {device} cannot be used here ({reason}): take cpu") from error
        self.device = torch.device(device)
        self.backbone.to(self.device)
        self.heads.to(self.device)
        return self

    @property
    def layers(self) -> tuple[str, ...]:
        """What ``layer`` may be: the backbone's maps, fine to coarse, then the heads."""
        return (*self.backbone.layers, *self.heads)

    @property
    def last(self) -> str:
        """The backbone's last map, the default: what a detector inherits, and what every checkpoint has."""
        return self.backbone.layers[-1]

    def stride(self, layer: str | None = None) -> int:
        """Pixels of the input a cell of a layer.

        Raises:
            ValueError: there is no such layer; names those there are.
        """
        if layer is not None and layer not in self.layers:
            raise ValueError(f"{self.origin.name} has no layer {layer!r}: it has {', '.join(self.layers)}")
        return self.backbone.strides.get(layer or self.last, self.backbone.stride)

    def __call__(self, images: Any, layer: str | Layers | None = None, **how: Any) -> Any:
        """The map of one image, or a list of those of a list of images or of a batch ``(B, 3, H, W)``.

        Arguments: as of ``features``.
        """
        if isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4:
            return list(self.batch(images, layer, **how))
        return self.features(images, layer, **how)

    def features(
        self,
        image: Picture,
        layer: str | Layers | None = None,
        size: Size = DEFAULT_SIZE,
        finer: str | None = None,
        factor: int = 2,
    ) -> Any:
        """The feature map of one image; ``batch`` takes several.

        A large input is encoded in overlapping tiles, so that working memory stays below a ceiling (``MAX_PIXELS``) and
        the map is that of the whole image.

        Args:
            image: see ``Picture``. layer: one of ``layers``, the backbone's last map if not given; several: a
                dictionary of their maps, from one forward pass.
            size: of the input. A number: the shorter side, both sides then rounded to multiples of the backbone's
                stride; ``(width, height)``: exactly so; None: the image's own size, rounded likewise.
            finer: "shifted": the input is shifted by fractions of a cell, and the maps of all shifts are averaged where
                they come to lie; "upscaled": the input is enlarged. Neither is what the network was trained for.
            factor: how many times finer, 2 or 4 … up to half the layer's stride.

        Raises:
            ValueError: no such layer, no image, a size that is no size or that the backbone does not take, an unknown
                ``finer`` or ``factor``. UndecodableImage: the file is no image.
        """
        return next(self.batch([image], layer, size, finer, factor))

    def batch(
        self,
        images: Iterable[Picture],
        layer: str | Layers | None = None,
        size: Size = DEFAULT_SIZE,
        finer: str | None = None,
        factor: int = 2,
        at_once: int = 8,
    ) -> Iterator[Any]:
        """Feature maps of several images, in order; neighbours of one input size are encoded together.

        Args:
            at_once: images encoded together, fewer where they are large. The others: see ``features``.
        """
        names = [layer or self.last] if layer is None or isinstance(layer, str) else list(layer)
        strides = {name: self.stride(name) for name in names}
        if finer not in (None, "shifted", "upscaled"):
            raise ValueError(f"finer maps can be 'shifted' or 'upscaled', not {finer!r}")
        offsets = {n: shifts(s, factor) for n, s in strides.items()} if finer == "shifted" else {}  # before any work
        if finer == "upscaled" and factor < 2:
            raise ValueError(f"an input can be enlarged 2 times or more, not {factor}")
        label = f"{finer} ×{factor}" if finer else ""
        larger, multiple = factor if finer == "upscaled" else 1, math.lcm(self.backbone.stride, self.backbone.multiple)

        def sized() -> Iterator[tuple[tuple[int, int], Image.Image]]:
            for image in map(as_image, images):
                width, height = input_size(image.size, size, multiple)
                yield (width * larger, height * larger), image

        for to, group in groupby(sized(), key=itemgetter(0)):
            together = max(1, min(at_once, MAX_PIXELS // (to[0] * to[1])))
            while part := [image for _, image in islice(group, together)]:
                pixels = torch.cat([as_tensor(image, to) for image in part])
                if offsets:
                    maps = {name: self._shifted(pixels, name, offsets[name], factor) for name in names}
                else:
                    maps = self._maps(pixels, names)
                for i, image in enumerate(part):
                    found = {
                        n: FeatureMap(maps[n][i], image.size, to, s // factor if offsets else s, n, label)
                        for n, s in strides.items()
                    }
                    yield found[names[0]] if layer is None or isinstance(layer, str) else found

    def encode(self, images: Tensor, layer: str | None = None) -> Tensor:
        """Maps ``(B, C, h, w)`` fp32 of images ``(B, 3, H, W)`` RGB in [0, 1], of any size, in tiles if need be."""
        return self._maps(images, [layer or self.last])[layer or self.last]

    def _maps(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Each tile reaches beyond its cells as far as they see, so that nothing changes but the order of some sums."""
        (h, w), unit, reach = images.shape[2:], self.backbone.stride, self.backbone.reach
        if h * w <= MAX_PIXELS or reach is None:
            return self._encode(images, layers)
        margin = -(-reach // unit) * unit
        side = int(MAX_PIXELS**0.5) // unit * unit - 2 * margin
        whole: dict[str, Tensor] = {}
        for top in range(0, h, side):
            for left in range(0, w, side):
                y, x = max(0, top - margin), max(0, left - margin)
                tile = images[:, :, y : top + side + margin, x : left + side + margin]
                for name, part in self._encode(tile, layers).items():
                    s = self.stride(name)
                    if name not in whole:
                        whole[name] = part.new_empty(*part.shape[:2], -(-h // s), -(-w // s))
                    rows, columns = slice(top // s, (top + side) // s), slice(left // s, (left + side) // s)
                    right = part[:, :, top // s - y // s :, left // s - x // s :]
                    out = whole[name][:, :, rows, columns]
                    out.copy_(right[:, :, : out.shape[2], : out.shape[3]])
        return whole

    @torch.no_grad()
    def _encode(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        x = normalise(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        last = max((name if name in self.backbone.layers else self.last for name in layers), key=self.layers.index)
        maps = self.backbone.maps(x, until=last)
        return {n: (self.heads[n](maps[last]) if n in self.heads else maps[n]).float() for n in layers}

    def _shifted(self, images: Tensor, layer: str, offsets: list[int], factor: int) -> Tensor:
        """The mean of the maps of all shifts of the input, each sampled at the centres of finer cells."""
        stride, reach = self.stride(layer), max(offsets)
        padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
        height, width = images.shape[2:]
        h, w = -(-height // stride), -(-width // stride)
        centres = cell_centres(h * factor, w * factor).flatten(0, 1)
        total = torch.zeros(())
        for dy in offsets:
            for dx in offsets:
                moved = padded[:, :, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
                maps = self.encode(moved, layer)
                there = centres - torch.tensor([dx / (w * stride), dy / (h * stride)])
                samples = sample(maps, there.to(maps)[None].expand(len(maps), -1, -1))
                total = samples + total.to(samples)
        return (total / len(offsets) ** 2).transpose(1, 2).unflatten(2, (h * factor, w * factor))


def load_encoder(
    source: str | Path | Mapping[str, Any] | nn.Module, device: torch.device | str = "cpu", branch: str | None = None
) -> DenseEncoder:
    """A network from a checkpoint in any known format, recognised by its contents, or by name.

    Args:
        source: what ``plrc.pretrained.load`` takes: a file; a run folder of ours; ``torchvision:resnet50`` or
            ``random:resnet50``; a state dict; a module.
        branch: "query" or "key" ("teacher" or "student"), where a file holds two networks; the one that others use of
            that format if not given.

    Raises:
        ValueError: the file is missing, damaged, of no known format, or lacks a tensor of the backbone; says which. Or
            the device cannot be used.
    """
    return DenseEncoder(load(source, branch), device)


def input_size(image_size: tuple[int, int], size: int | tuple[int, int] | None, stride: int) -> tuple[int, int]:
    """Width and height of the input for an image of that width and height.

    Args:
        size: a number: the shorter side, both sides then rounded to multiples of ``stride``; ``(width, height)``:
            exactly so; None: the image's own size, rounded likewise.

    Raises:
        ValueError: a side below 1.
    """
    if isinstance(size, tuple):
        if min(size) < 1:
            raise ValueError(f"an input has sides of 1 pixel or more, not {size[0]} × {size[1]}")
        return size
    if size is not None and size < 1:
        raise ValueError(f"an input has sides of 1 pixel or more, not {size}")
    scale = 1.0 if size is None else size / min(image_size)
    width, height = (max(1, round(side * scale / stride)) * stride for side in image_size)
    return width, height


def as_tensor(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """An image resized to width and height, ``(1, 3, H, W)`` RGB in [0, 1]."""
    resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None].float() / 255


def shifts(stride: int, factor: int) -> list[int]:
    """Offsets in pixels that bring the centres of a map's cells onto those of cells ``factor`` times finer.

    Raises:
        ValueError: they are no whole pixels.
    """
    if factor < 2 or stride % (2 * factor):
        possible = [str(f) for f in range(2, stride // 2 + 1) if stride % (2 * f) == 0]
        known = f"it can be {' or '.join(possible)}" if possible else "it has no finer shifts"
        raise ValueError(f"a map of stride {stride} cannot be made {factor} times finer by shifts: {known}")
    return [(2 * i + 1) * stride // (2 * factor) - stride // 2 for i in range(factor)]


def as_points(points: Points) -> Tensor:
    """Points ``(n, 2)`` of any kind as a tensor; none is ``(0, 2)``.

    Raises:
        ValueError: they are no numbers, or have another shape.
    """
    wanted = "points have the shape (n, 2), x and y in [0, 1] of the image, such as [[0.4, 0.6]]"
    try:
        found = points if isinstance(points, Tensor) else torch.as_tensor(points, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{wanted}; not {points!r}") from error
    if not found.numel():
        return found.reshape(0, 2)
    if found.ndim != 2 or found.shape[1] != 2:
        raise ValueError(f"{wanted}; not {tuple(found.shape)}")
    return found


def point_features(fmap: FeatureMap, points: Points) -> Tensor:
    """Features ``(n, C)`` at points ``(n, 2)`` of the image frame: bilinear samples.

    Raises:
        ValueError: the points have another shape, or one lies outside the map.
    """
    points = as_points(points)
    outside = ((points < 0) | (points.cpu() > fmap.extent.clamp(min=1)).to(points.device)).any(dim=1)
    if outside.any():
        point = tuple(points[outside][0].tolist())
        raise ValueError(f"points are shares of the image's width and height, in [0, 1]; {point} lies outside")
    return fmap.at(points)


def region_features(fmap: FeatureMap, raster: Tensor) -> Tensor:
    """The mean feature of each region, not normalised: cells weigh as much as they show of the region.

    A region smaller than a cell has that cell's feature. Of the whole image: ``raster = torch.zeros(1, 1).long()``.

    Args:
        raster: ``(h′, w′)`` integer, of any resolution over the whole image: which region each point belongs to, as
            ``plrc.regions`` gives it; negative where it belongs to none.

    Returns:
        ``(n, C)``, a row for each region that the raster has, by rising number: row r is region r where the numbers
        are 0 … n − 1, and else that of ``region_numbers(raster)[r]``.

    Raises:
        ValueError: the raster is no raster of integers, or has no region.
    """
    weights = region_weights(fmap, raster).flatten(1).to(fmap.features)
    return (weights / weights.sum(dim=1, keepdim=True)) @ fmap.features.flatten(1).T


def region_weights(fmap: FeatureMap, raster: Tensor) -> Tensor:
    """Which share of each cell each region covers: ``(n, h, w)`` float64 in [0, 1], exact at any resolutions.

    A cell's shares sum to 1 over the regions where they fill the image, and to less where the map reaches beyond it.
    Arguments, order of the regions and errors: as of ``region_features``.
    """
    numbers = region_numbers(raster)
    h, w = fmap.shape
    # The edges of cells and raster together cut the image into rectangles that lie in one cell and one region each.
    heights, cell_row, raster_row = _pieces(fmap.stride / fmap.input_size[1], h, raster.shape[0])
    widths, cell_column, raster_column = _pieces(fmap.stride / fmap.input_size[0], w, raster.shape[1])
    region = raster.cpu()[raster_row[:, None], raster_column]
    cell = cell_row[:, None] * w + cell_column
    area = heights[:, None] * widths
    inside = region >= 0
    place = torch.searchsorted(numbers, region[inside]) * (h * w) + cell[inside]
    return torch.bincount(place, weights=area[inside], minlength=len(numbers) * h * w).view(-1, h, w)


def region_numbers(raster: Tensor) -> Tensor:
    """The numbers ``(n,)`` int64 of a raster's regions, rising; negative values are no region.

    Raises:
        ValueError: the raster is no raster of integers, or has no region.
    """
    if raster.ndim != 2 or raster.is_floating_point() or not raster.numel():
        kind = f"{tuple(raster.shape)} {str(raster.dtype).removeprefix('torch.')}"
        raise ValueError(f"a region raster is (h, w) integers over the whole image, not {kind}")
    numbers = raster.cpu().long().unique()
    if not len(numbers := numbers[numbers >= 0]):
        raise ValueError("the raster has no region: all its values are negative")
    return numbers


def region_points(raster: Tensor) -> Tensor:
    """A point ``(n, 2)`` of the image frame in the middle of each region, and inside it whatever its shape.

    The centre of the region's raster cell that is nearest to its centroid. Order and errors: as of ``region_features``.
    """
    numbers = region_numbers(raster)
    h, w = raster.shape
    points = []
    for number in numbers:
        row, column = (raster.cpu() == number).nonzero().double().unbind(1)
        nearest = ((row - row.mean()) ** 2 + (column - column.mean()) ** 2).argmin()
        points.append(torch.stack(((column[nearest] + 0.5) / w, (row[nearest] + 0.5) / h)))
    return torch.stack(points).float()


def _pieces(cell: float, cells: int, raster: int) -> tuple[Tensor, Tensor, Tensor]:
    """An axis cut at the edges of cells and raster: lengths of the pieces, in cells; their cells; their parts of it."""
    of_cells = torch.arange(1, cells, dtype=torch.float64) * cell
    of_raster = torch.arange(raster + 1, dtype=torch.float64) / raster
    edges = torch.cat((of_cells[of_cells < 1], of_raster)).sort().values
    middles = (edges[1:] + edges[:-1]) / 2
    in_cell = (middles / cell).long().clamp(max=cells - 1)
    return edges.diff() / cell, in_cell, (middles * raster).long().clamp(max=raster - 1)
