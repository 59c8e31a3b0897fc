"""Contact sheets: each picture beside what networks make of the whole of it, in colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from plrc.figures.colours import region_colours
from plrc.figures.columns import Captions, Extents, extents_of, split_captions
from plrc.figures.page import Page, fold, height_of, room
from plrc.figures.panels import Extent, as_array, as_pixels, lay
from plrc.figures.rasters import draw_borders

Maps = Sequence[np.ndarray | Tensor]
Item = TypeVar("Item")
_PANELS = 6  # in a row
_WIDEST = 1.3  # of a panel, inches


def pca_rgb(
    images: Sequence[np.ndarray | Image.Image],
    rgbs: Maps | Mapping[str, Maps],
    *,
    captions: Captions | None = None,
    extents: Extents | Sequence[Extent] | None = None,
    note: str = "",
) -> Figure:
    """Pictures beside three components of their features as red, green and blue.

    Args:
        images: n pictures, ``(H, W, 3)`` uint8 or PIL. rgbs: n maps ``(h, w, 3)`` in [0, 1], clipped to that; or
            heading → n maps, for several networks.
        captions, extents, note: as of ``affinity_sheet``; extents without headings where the maps have none.

    Raises:
        ValueError: other numbers of maps than of images, or a map of another shape.
    """

    def draw(axes: Axes, values: np.ndarray, extent: Extent) -> None:
        lay(axes, values.clip(0, 1), "map", extent, interpolation="nearest")

    return _sheet(images, rgbs, "PCA as RGB", 3, draw, captions, extents, note)


def segments(
    images: Sequence[np.ndarray | Image.Image],
    labels: Maps | Mapping[str, Maps],
    *,
    captions: Captions | None = None,
    extents: Extents | Sequence[Extent] | None = None,
    note: str = "",
) -> Figure:
    """Pictures beside their segments: a segment of one number has one colour in all pictures of all networks.

    Args:
        images: n pictures, ``(H, W, 3)`` uint8 or PIL. labels: n maps ``(h, w)`` of integers, negative where there is
            no segment; or heading → n maps, for several networks.
        captions, extents, note: as of ``pca_rgb``.

    Raises:
        ValueError: other numbers of maps than of images, or a map of another shape.
    """

    def draw(axes: Axes, values: np.ndarray, extent: Extent) -> None:
        values = values.astype(int)
        tint = np.dstack((region_colours(values), np.where(values < 0, 0.0, 0.65)))
        lay(axes, tint, "map", extent, interpolation="nearest")
        draw_borders(axes, values, extent)

    return _sheet(images, labels, "segments", 2, draw, captions, extents, note)


def _sheet(
    images: Sequence[np.ndarray | Image.Image],
    given: Maps | Mapping[str, Maps],
    heading: str,
    dimensions: int,
    draw: Callable[[Axes, np.ndarray, Extent], None],
    captions: Captions | None,
    extents: Extents | Sequence[Extent] | None,
    note: str,
) -> Figure:
    """Groups of panels, as many a row as there is room for: a picture, then its map by each network."""
    pictures = [as_pixels(image) for image in images]
    n = len(pictures)
    columns = {name: [as_array(m) for m in maps] for name, maps in _named(given, heading).items()}
    for name, maps in columns.items():
        if len(maps) != n:
            raise ValueError(f"{name}: {len(maps)} maps of {n} pictures: they belong together")
        for m in maps:
            if m.ndim != dimensions or (dimensions == 3 and m.shape[2] != 3):
                shape = "(h, w, 3) RGB" if dimensions == 3 else "(h, w) integers"
                raise ValueError(f"{name}: a map is {shape}, not of shape {m.shape}")
    reach = extents_of(columns, None if extents is None else _named(extents, heading), n)

    size = 1 + len(columns)  # panels of a group
    groups = max(1, min(_PANELS // size, n))
    rows = max(1, math.ceil(n / groups))
    width = max(0.6, min(_WIDEST, room(groups * size, None) / (groups * size)))
    overs, unders = split_captions(columns, captions, n, width)
    tall = [width / max(pixels.shape[1] / pixels.shape[0], 0.7) for pixels in pictures]
    heights = [max(tall[groups * row : groups * (row + 1)], default=width) for row in range(rows)]
    heads = [fold(name, width) for name in columns]
    over = height_of(["image", *(f"{h}\n{o}".rstrip() for h, o in zip(heads, overs.values(), strict=True))])
    below = [height_of(line for u in unders.values() for line in u[groups * r : groups * (r + 1)]) for r in range(rows)]
    page = Page([width] * (groups * size), heights, [over] + [0.0] * (rows - 1), below, None, note=note)
    for group in range(groups):
        page.heading(0, size * group, "image")
        for k, (name, head) in enumerate(zip(columns, heads, strict=True), start=1):
            page.heading(0, size * group + k, head, caption=overs[name])
    for i, pixels in enumerate(pictures):
        row, first = i // groups, size * (i % groups)
        page.panel(row, first, pixels)
        for k, (name, maps) in enumerate(columns.items(), start=1):
            axes = page.panel(row, first + k, pixels)
            draw(axes, maps[i], reach[name][i])
            page.below(axes, unders[name][i])
    return page.figure


def _named(given: Sequence[Item] | Mapping[str, Sequence[Item]], heading: str) -> Mapping[str, Sequence[Item]]:
    return given if isinstance(given, Mapping) else {heading: given}
