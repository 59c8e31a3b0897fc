"""What a network is given of a picture: its size, tiles of a large one, shifts for a finer map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc.backbones import Backbone

# Pixels that are encoded at once. A larger input goes through in overlapping tiles of at most so many.
MAX_PIXELS = 2048 * 2048


def input_size(image_size: tuple[int, int], size: int | tuple[int, int] | None, stride: int) -> tuple[int, int]:
    """Width and height of the input for a picture of that width and height.

    Args:
        size: a number: the shorter side, both sides then rounded to multiples of ``stride``; ``(width, height)``:
            exactly so; None: the picture's own size, rounded likewise.

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


def as_tensor(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """A picture resized to width and height, ``(1, 3, H, W)`` RGB in [0, 1]."""
    resized = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
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


@dataclass(frozen=True)
class Tile:
    """A part of an input, and which of its cells are those of the whole.

    Attributes:
        rows, columns: the pixels to encode. keep_rows, keep_columns: the pixels of the whole input whose cells are
            right, starting at multiples of the trunk's stride. whole: there is but this tile.
    """

    rows: slice
    columns: slice
    keep_rows: slice
    keep_columns: slice
    whole: bool

    def paste(self, part: Tensor, out: Tensor, stride: int) -> None:
        """Copy the right cells of this tile's map ``(B, C, h, w)`` into the map of the whole input."""
        inner, outer = [], []
        for pixels, keep in ((self.rows, self.keep_rows), (self.columns, self.keep_columns)):
            start, stop = keep.start // stride, -(-keep.stop // stride)
            outer.append(slice(start, stop))
            inner.append(slice(start - pixels.start // stride, stop - pixels.start // stride))
        out[:, :, outer[0], outer[1]] = part[:, :, inner[0], inner[1]]


def tiles(backbone: Backbone, h: int, w: int) -> Iterator[Tile]:
    """Tiles of an input of h × w pixels: one if it has no more than ``MAX_PIXELS``, or if every cell sees the whole.

    Each tile reaches beyond its cells as far as they see, so that nothing changes but the order of some sums.
    """
    if h * w <= MAX_PIXELS or backbone.reach is None:
        yield Tile(slice(0, h), slice(0, w), slice(0, h), slice(0, w), whole=True)
        return
    stride = backbone.stride
    margin = -(-backbone.reach // stride) * stride
    side = int(MAX_PIXELS**0.5) // stride * stride - 2 * margin
    for top in range(0, h, side):
        for left in range(0, w, side):
            bottom, right = min(h, top + side), min(w, left + side)
            yield Tile(
                slice(max(0, top - margin), min(h, bottom + margin)),
                slice(max(0, left - margin), min(w, right + margin)),
                slice(top, bottom),
                slice(left, right),
                whole=False,
            )
