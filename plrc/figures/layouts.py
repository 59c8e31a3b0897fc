"""The three figures: which panels stand where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from plrc.figures.colours import VIEWS
from plrc.figures.columns import Captions, Extents, extents_of, split_captions
from plrc.figures.crops import draw_crops
from plrc.figures.example import Example
from plrc.figures.page import LINE, Page, fold, height_of, room
from plrc.figures.panels import WHOLE, Extent, as_array, as_pixels, mark
from plrc.figures.scales import Limits, scale_of
from plrc.figures.views import draw_view

Points = np.ndarray | Tensor | Sequence[np.ndarray | Tensor]
_PANEL = 1.21  # width of a panel where nothing else decides


def affinity(
    image: np.ndarray | Image.Image,
    maps: np.ndarray | Tensor | Sequence[np.ndarray | Tensor],
    points: Points,
    titles: Sequence[str] | None = None,
    *,
    negatives: Points | None = None,
    quantity: str = "cosine",
    limits: Limits | None = (-1.0, 1.0),
    extent: Extent = WHOLE,
    note: str = "",
) -> Figure:
    """A picture with numbered points, and for each point how alike every cell is (paper figure 2). Four maps a row.

    Args:
        image: ``(H, W, 3)`` uint8 or a PIL picture. maps: ``(n, h, w)``. points: ``(n, 2)`` in the image frame, one a
            map, or n arrays ``(k, 2)`` where a map answers for several (a prompt); all of a map have its number.
        titles: n headings of the maps; "point 1" and so on if not given.
        negatives: n arrays ``(k, 2)``, perhaps empty, of points that a map is *not* to be like.
        quantity: what the values are: "cosine", "density (even: 1)", "difference", "positive − negative".
        limits: the values of the ends of the colour bar; None for the least and greatest value of all maps
            (differences: with 0 in the middle). Only a range with 0 in its middle is blue, white and red.
        extent: how far right and down the maps reach, the image being 1 (``FeatureMap.extent``).
        note: how it was drawn (layer, input, …), a small line at the foot.

    Raises:
        ValueError: maps, points and titles differ in number; limits are no range.
    """
    pixels, positive = as_pixels(image), _prompts(points)
    negative = [np.zeros((0, 2))] * len(maps) if negatives is None else _prompts(negatives)
    if len(negative) != len(maps):
        raise ValueError(f"{len(maps)} maps, negative points for {len(negative)}: a map without any has an empty array")
    titles = _names(positive, negative) if titles is None else titles
    if not len(maps) == len(positive) == len(titles):
        raise ValueError(f"{len(maps)} maps, {len(positive)} points and {len(titles)} titles: they belong together")
    values = [as_array(m) for m in maps]
    columns, rows = min(len(maps), 4), max(1, math.ceil(len(maps) / 4))
    aspect = pixels.shape[1] / pixels.shape[0]
    scale = scale_of(quantity, limits, values)
    width = max(0.5, min(_PANEL, 1.6 * _PANEL * aspect, room(1 + columns, scale) / (1 + columns)))
    heads = [fold(title, width) for title in titles]
    above = [height_of(["image", *heads[4 * row : 4 * row + 4]]) for row in range(rows)]
    page = Page([width] * (1 + columns), [width / aspect] * rows, above, scale=scale, note=note)

    page.heading(0, 0, "image")
    picture = page.panel(0, 0, pixels)
    for i, (head, wanted, unwanted, value) in enumerate(zip(heads, positive, negative, values, strict=True)):
        alone = len(maps) == 1 and len(wanted) + len(unwanted) > 1
        _mark_all(picture, wanted, unwanted, "" if alone else str(i + 1))
        row, column = i // 4, 1 + i % 4
        page.heading(row, column, head)
        _mark_all(page.panel(row, column, pixels, value, extent), wanted, unwanted)
    page.colour_bar()
    return page.figure


def affinity_sheet(
    images: Sequence[np.ndarray | Image.Image],
    points: Points,
    columns: Mapping[str, Sequence[np.ndarray | Tensor]],
    *,
    negatives: Points | None = None,
    captions: Captions | None = None,
    quantity: str = "cosine",
    limits: Limits | None = (-1.0, 1.0),
    extents: Extents | None = None,
    note: str = "",
) -> Figure:
    """One row an image: the picture with its point, then the affinity of that point by each of several networks.

    Args:
        images: n pictures, ``(H, W, 3)`` uint8 or PIL. points: ``(n, 2)``, one each, in the image frame; or n arrays
            ``(k, 2)``, an empty one where the map is of a point in another picture.
        columns: heading ("step 400") → n maps ``(h, w)``; all have one range of colours.
        negatives: as of ``affinity``.
        captions: heading → a line under it ("AUC 0.61"), or n lines, one under each map; headings may be missing.
        quantity, limits, note: as of ``affinity``. extents: heading → n extents, where maps reach beyond their images.

    Raises:
        ValueError: a column has another number of maps than there are images, or captions or extents have a heading
            that no column has; limits are no range.
    """
    pictures, positive = [as_pixels(image) for image in images], _prompts(points)
    negative = [np.zeros((0, 2))] * len(pictures) if negatives is None else _prompts(negatives)
    scale = scale_of(quantity, limits, [as_array(m) for maps in columns.values() for m in maps])
    count = 1 + len(columns)
    width = max(0.6, min(_PANEL, room(count, scale) / count))
    overs, unders = split_captions(columns, captions, len(pictures), width)
    reach = extents_of(columns, extents, len(pictures))
    heads = [fold(name, width) for name in columns]
    heights = [width / max(pixels.shape[1] / pixels.shape[0], 0.7) for pixels in pictures]
    above = [height_of(["image", *(f"{h}\n{o}".rstrip() for h, o in zip(heads, overs.values(), strict=True))])]
    above += [0.0] * (len(pictures) - 1)
    feet = [height_of(under[row] for under in unders.values()) for row in range(len(pictures))]
    page = Page([width] * count, heights, above, feet, scale, note=note)

    page.heading(0, 0, "image")
    for row, (pixels, wanted, unwanted) in enumerate(zip(pictures, positive, negative, strict=True)):
        _mark_all(page.panel(row, 0, pixels), wanted, unwanted)
    for column, (head, (name, maps)) in enumerate(zip(heads, columns.items(), strict=True), start=1):
        page.heading(0, column, head, caption=overs[name])
        rows = zip(pictures, positive, negative, maps, reach[name], unders[name], strict=True)
        for row, (pixels, wanted, unwanted, values, extent, under) in enumerate(rows):
            panel = page.panel(row, column, pixels, values, extent)
            _mark_all(panel, wanted, unwanted)
            page.below(panel, under)
    page.colour_bar()
    return page.figure


def _prompts(points: Points) -> list[np.ndarray]:
    """Points ``(n, 2)``, or n arrays of them, as n arrays ``(k, 2)``."""
    return [as_array(p).reshape(-1, 2) for p in points]


def _names(positive: Sequence[np.ndarray], negative: Sequence[np.ndarray]) -> list[str]:
    counts = [len(p) + len(n) for p, n in zip(positive, negative, strict=False)]
    if len(counts) == 1 and counts[0] > 1:
        return ["prompt"]
    return [f"{'point' if count == 1 else 'prompt'} {i + 1}" for i, count in enumerate(counts)]


def _mark_all(axes: Axes, positive: np.ndarray, negative: np.ndarray, number: str = "") -> None:
    for point in positive:
        mark(axes, point, number)
    for point in negative:
        mark(axes, point, number, negative=True)


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
