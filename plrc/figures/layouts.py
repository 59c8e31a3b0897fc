"""The three figures: which panels stand where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from plrc.figures.colours import VIEWS
from plrc.figures.crops import draw_crops
from plrc.figures.example import Example
from plrc.figures.page import LINE, Page, fold, height_of, room
from plrc.figures.panels import as_array, as_pixels, mark
from plrc.figures.views import draw_view

_PANEL = 1.21  # width of a panel where nothing else decides


def affinity(
    image: np.ndarray | Image.Image,
    maps: np.ndarray | Tensor,
    points: np.ndarray | Tensor,
    titles: Sequence[str] | None = None,
) -> Figure:
    """A picture with numbered points, and for each point how alike every cell is (paper figure 2). Four maps a row.

    Args:
        image: ``(H, W, 3)`` uint8 or a PIL picture. maps: ``(n, h, w)`` cosines. points: ``(n, 2)`` in the image frame.
        titles: n headings of the maps; "point 1" and so on if not given.

    Raises:
        ValueError: maps, points and titles differ in number.
    """
    pixels, points = as_pixels(image), as_array(points)
    titles = [f"point {i + 1}" for i in range(len(points))] if titles is None else titles
    if not len(maps) == len(points) == len(titles):
        raise ValueError(f"{len(maps)} maps, {len(points)} points and {len(titles)} titles: they belong together")
    columns, rows = min(len(maps), 4), max(1, math.ceil(len(maps) / 4))
    aspect = pixels.shape[1] / pixels.shape[0]
    width = max(0.5, min(_PANEL, 1.6 * _PANEL * aspect))
    heads = [fold(title, width) for title in titles]
    above = [height_of(heads[4 * row : 4 * row + 4]) for row in range(rows)]
    page = Page([width] * (1 + columns), [width / aspect] * rows, above)

    page.heading(0, 0, "image")
    picture = page.panel(0, 0, pixels)
    for i, (head, point, values) in enumerate(zip(heads, points, maps, strict=True)):
        mark(picture, point, str(i + 1))
        row, column = i // 4, 1 + i % 4
        page.heading(row, column, head)
        mark(page.panel(row, column, pixels, values), point)
    page.colour_bar()
    return page.figure


def affinity_sheet(
    images: Sequence[np.ndarray | Image.Image],
    points: np.ndarray | Tensor,
    columns: Mapping[str, Sequence[np.ndarray | Tensor]],
) -> Figure:
    """One row an image: the picture with its point, then the affinity of that point by each of several networks.

    Args:
        images: n pictures, ``(H, W, 3)`` uint8 or PIL. points: ``(n, 2)``, one each, in the image frame.
        columns: heading ("step 400") → n maps ``(h, w)`` of cosines.

    Raises:
        ValueError: a column has another number of maps than there are images.
    """
    pictures, points = [as_pixels(image) for image in images], as_array(points)
    count = 1 + len(columns)
    width = max(0.6, min(_PANEL, room(count) / count))
    heads = [fold(name, width) for name in columns]
    heights = [width / max(pixels.shape[1] / pixels.shape[0], 0.7) for pixels in pictures]
    page = Page([width] * count, heights, [height_of(heads)] + [0.0] * (len(pictures) - 1))

    page.heading(0, 0, "image")
    for row, (pixels, point) in enumerate(zip(pictures, points, strict=True)):
        mark(page.panel(row, 0, pixels), point)
    for column, (head, maps) in enumerate(zip(heads, columns.values(), strict=True), start=1):
        page.heading(0, column, head)
        for row, (pixels, point, values) in enumerate(zip(pictures, points, maps, strict=True)):
            mark(page.panel(row, column, pixels, values), point)
    page.colour_bar()
    return page.figure


def views_and_affinity(examples: Sequence[Example]) -> Figure:
    """What PLRC trains on and what comes of it, a row an example.

    The image with both crops and the regions that they show; each view with its regions (a region has the same colour
    and number everywhere; hatched: not seen by both, so not trained on) and the points drawn in them (dots); the
    affinity of the marked point by each network.

    Args:
        examples: at least one; all have the maps of the same networks, in the same order.

    Raises:
        ValueError: there is no example, or their maps have different names.
    """
    names = {tuple(example.maps) for example in examples}
    if len(names) != 1:
        raise ValueError(f"examples need maps of the same names, not {sorted(names)}")
    heads = ["image and crops", "view 1", "view 2", *(f"affinity {name}" for name in names.pop())]
    aspect = max(max(0.5, min(1.6, e.image.shape[1] / e.image.shape[0])) for e in examples)
    aspects = [aspect, 1.0, 1.0] + [aspect] * (len(heads) - 3)
    side = max(0.8, min(1.5, room(len(heads)) / sum(aspects)))
    widths = [aspect * side for aspect in aspects]
    heads = [fold(head, width) for head, width in zip(heads, widths, strict=True)]
    above = [height_of(heads)] + [0.0] * (len(examples) - 1)
    below = [LINE if any(example.flip) else 0.0 for example in examples]
    page = Page(widths, [side] * len(examples), above, below)

    for column, head in enumerate(heads):
        page.heading(0, column, head, VIEWS[column - 1][0] if column in (1, 2) else "black")
    for row, example in enumerate(examples):
        image = page.panel(row, 0, example.image)
        draw_crops(image, example)
        mark(image, example.query)
        for v in range(2):
            draw_view(page.panel(row, 1 + v, example.views[v]), example, v)
        for column, values in enumerate(example.maps.values(), start=3):
            mark(page.panel(row, column, example.image, values), example.query)
    page.colour_bar()
    return page.figure
