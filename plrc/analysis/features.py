"""Dense features: a picture is encoded once, and many questions are asked of its map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from plrc.analysis.inputs import MAX_PIXELS, as_tensor, input_size, shifts, tiles
from plrc.data.photometric import normalise
from plrc.data.sources import decode
from plrc.geometry import cell_centres, cell_of, sample
from plrc.pretrained import Origin, Pretrained, load

Picture = Image.Image | str | Path
Size = int | tuple[int, int] | None
DEFAULT_SIZE = 448  # short side, pixels: 14 cells of a ResNet's c5


@dataclass(frozen=True, eq=False, repr=False)
class FeatureMap:
    """Features of every cell of a picture, and where the cells lie in it.

    Points are of the *image frame*, [0, 1]², unless they are said to be of the map. The map's frame is the image's if
    the input's sides are multiples of the stride, and reaches beyond it to the right and below if they are not.

    Attributes:
        features: ``(C, h, w)`` fp32. image_size: width and height of the upright picture, pixels.
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
        return f"FeatureMap({layer}: {channels} channels, {h} × {w} cells of a picture of {width} × {height} pixels)"

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

    def to_picture(self, maps: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Maps ``(n, h, w)`` over the map's cells as they lie over the picture: ``(n, H, W)``, bilinear.

        Args:
            size: width and height W, H in pixels; the picture's own if not given.
        """
        width, height = size or self.image_size
        points = self.to_map(cell_centres(height, width, maps.device)).flatten(0, 1)
        return sample(maps[None], points[None])[0].T.reshape(-1, height, width)


class DenseEncoder:
    """A pretrained network that gives feature maps.

    Attributes:
        trunk: the backbone, in evaluation mode. heads: name → module, what the checkpoint applies to the trunk's last
            map, here at every position. origin: where the weights came from.
    """

    def __init__(self, pretrained: Pretrained, device: torch.device | str = "cpu") -> None:
        self.origin: Origin = pretrained.origin
        self.device = torch.device(device)
        self.backbone = pretrained.backbone.to(self.device).to(memory_format=torch.channels_last).eval()
        self.heads = nn.ModuleDict(pretrained.heads).to(self.device).eval()
        self._strides = self.backbone.strides

    def __repr__(self) -> str:
        of = " ".join(part for part in (self.origin.arch, self.origin.branch) if part)
        return f"DenseEncoder({self.origin.name}: {of}, layers {', '.join(self.layers)}, on {self.device})"

    @property
    def layers(self) -> tuple[str, ...]:
        """What ``layer`` may be: the trunk's maps, fine to coarse, then the heads."""
        return (*self._strides, *self.heads)

    @property
    def last(self) -> str:
        """The trunk's last map, the default: what a detector inherits, and what every checkpoint has."""
        return list(self._strides)[-1]

    def stride(self, layer: str | None = None) -> int:
        """Pixels of the input a cell of a layer.

        Raises:
            ValueError: there is no such layer; names those there are.
        """
        if layer is not None and layer not in self.layers:
            raise ValueError(f"{self.origin.name} has no layer {layer!r}: it has {', '.join(self.layers)}")
        return self._strides.get(layer or self.last, self.backbone.stride)

    def features(
        self,
        image: Picture,
        layer: str | None = None,
        size: Size = DEFAULT_SIZE,
        finer: str | None = None,
        factor: int = 2,
    ) -> FeatureMap:
        """The feature map of one picture; ``batch`` takes several.

        A large input is encoded in overlapping tiles, so that working memory stays below a ceiling
        (``plrc.analysis.inputs.MAX_PIXELS``) and the map is that of the whole picture.

        Args:
            image: a picture, taken as it stands, or a file, upright as a person sees it.
            layer: one of ``layers``; the trunk's last map if not given.
            size: of the input. A number: the shorter side, both sides then rounded to multiples of the trunk's stride;
                ``(width, height)``: exactly so; None: the picture's own size, rounded likewise.
            finer: "shifted": the input is shifted by fractions of a cell, and the maps of all shifts are averaged where
                they come to lie; "upscaled": the input is enlarged. Neither is what the network was trained for.
            factor: how many times finer, 2 or 4 … up to half the layer's stride.

        Raises:
            ValueError: no such layer, a size that is no size, an unknown ``finer`` or ``factor``.
            UndecodableImage: the file is no picture.
        """
        return next(self.batch([image], layer, size, finer, factor))

    def batch(
        self,
        images: Iterable[Picture],
        layer: str | None = None,
        size: Size = DEFAULT_SIZE,
        finer: str | None = None,
        factor: int = 2,
        at_once: int = 8,
    ) -> Iterator[FeatureMap]:
        """Feature maps of several pictures, in order; neighbours of one input size are encoded together.

        Args:
            at_once: pictures encoded together, fewer where they are large. The others: see ``features``.
        """
        name, stride = layer or self.last, self.stride(layer)
        if finer not in (None, "shifted", "upscaled"):
            raise ValueError(f"finer maps can be 'shifted' or 'upscaled', not {finer!r}")
        offsets = shifts(stride, factor) if finer == "shifted" else []  # checks the factor before any work
        if finer == "upscaled" and factor < 2:
            raise ValueError(f"an input can be enlarged 2 times or more, not {factor}")
        label = f"{finer} ×{factor}" if finer else ""

        def encoded(pictures: list[Image.Image], to: tuple[int, int]) -> Iterator[FeatureMap]:
            pixels = torch.cat([as_tensor(picture, to) for picture in pictures])
            maps = self._shifted(pixels, name, offsets, factor) if offsets else self.encode(pixels, name)
            cell = stride // factor if offsets else stride
            for picture, features in zip(pictures, maps, strict=True):
                yield FeatureMap(features, picture.size, to, cell, name, label)

        waiting: list[Image.Image] = []
        sides = (0, 0)
        for image in images:
            picture = image if isinstance(image, Image.Image) else decode(image, name=str(image))
            wanted = input_size(picture.size, size, self.backbone.stride)
            if finer == "upscaled":
                wanted = (wanted[0] * factor, wanted[1] * factor)
            full = len(waiting) == at_once or (len(waiting) + 1) * wanted[0] * wanted[1] > MAX_PIXELS
            if waiting and (wanted != sides or full):
                yield from encoded(waiting, sides)
                waiting = []
            waiting.append(picture)
            sides = wanted
        if waiting:
            yield from encoded(waiting, sides)

    @torch.no_grad()
    def encode(self, pictures: Tensor, layer: str | None = None) -> Tensor:
        """Maps ``(B, C, h, w)`` fp32 of pictures ``(B, 3, H, W)`` RGB in [0, 1], of any size, in tiles if need be."""
        name = layer or self.last
        stride = self.stride(layer)
        h, w = pictures.shape[2:]
        out: Tensor | None = None
        for tile in tiles(self.backbone, h, w):
            part = self._encode(pictures[:, :, tile.rows, tile.columns], name)
            if tile.whole:
                return part
            if out is None:
                out = part.new_empty(len(part), part.shape[1], -(-h // stride), -(-w // stride))
            tile.paste(part, out, stride)
        assert out is not None
        return out

    def _encode(self, pictures: Tensor, layer: str) -> Tensor:
        x = normalise(pictures.to(self.device)).contiguous(memory_format=torch.channels_last)
        if layer in self._strides:
            return self.backbone.maps(x, until=layer)[layer].float()
        return self.heads[layer](self.backbone(x)).float()

    def _shifted(self, pictures: Tensor, layer: str, offsets: list[int], factor: int) -> Tensor:
        """The mean of the maps of all shifts of the input, each sampled at the centres of finer cells."""
        stride, reach = self.stride(layer), max(offsets)
        padded = nn.functional.pad(pictures, (reach, reach, reach, reach), mode="replicate")
        height, width = pictures.shape[2:]
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
    path_or_name: str | Path, device: torch.device | str = "cpu", branch: str | None = None
) -> DenseEncoder:
    """A network from a checkpoint in any known format, recognised by its contents, or by name.

    Args:
        path_or_name: a file; a run folder of ours; ``torchvision:resnet50`` or ``random:resnet50``.
        branch: "query" or "key" ("teacher" or "student"), where a file holds two networks; the one that others use of
            that format if not given.

    Raises:
        ValueError: the file is missing, damaged, of no known format, or lacks a tensor of the trunk; says which.
    """
    return DenseEncoder(load(path_or_name, branch), device)
