"""Pictures beside maps of them: affinity, feature colours, segments; and what PLRC trains on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from plrc.figures import grid
from plrc.figures.grid import WHOLE, Extent, Picture, Values, as_array, as_pixels, aspect, fold, mark
from plrc.figures.style import GREY, LOOK, PAGE, Limits, Scale, line, region_colours, scale_of, styled
from plrc.geometry import Crop, cell_centres, cell_of

Points = Values | Sequence[Values]
Maps = Sequence[Values]
Captions = Mapping[str, str | Sequence[str]]
Extents = Mapping[str, Sequence[Extent]]
_WIDEST, _TALLEST = 2.2, 2.8  # of a panel, inches


class _Panel(NamedTuple):
    """A picture, or a map of it: ``(h, w)`` values, ``(h, w, 3)`` RGB, or without a scale ``(h, w)`` segments."""

    pixels: np.ndarray
    values: np.ndarray | None = None
    heading: str = ""
    caption: str = ""
    extent: Extent = WHOLE
    mask: Values | None = None
    marks: Sequence[tuple[np.ndarray, bool, str]] = ()  # points (n, 2), whether negative, number


@styled
def affinity(
    image: Picture,
    maps: Values | Maps,
    points: Points,
    titles: Sequence[str] | None = None,
    *,
    negatives: Points | None = None,
    quantity: str = "cosine",
    limits: Limits | None = None,
    extent: Extent = WHOLE,
    mask: Values | None = None,
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
        mask: ``(h, w)`` bool, an object of the image, outlined on it and on the maps.
        note: how it was drawn (layer, input, …), a small line at the foot.

    Raises:
        ValueError: maps, points and titles differ in number; limits are no range.
    """
    pixels, prompts = as_pixels(image), _prompts(points, negatives)
    one = len(maps) == 1 and sum(map(len, prompts[0])) > 1
    if titles is None:
        words = ["point" if len(wanted) + len(unwanted) == 1 else "prompt" for wanted, unwanted in prompts]
        titles = ["prompt"] if one else [f"{word} {i}" for i, word in enumerate(words, start=1)]
    if not len(maps) == len(prompts) == len(titles):
        raise ValueError(f"{len(maps)} maps, {len(prompts)} points and {len(titles)} titles: they belong together")
    marks = [m for i, prompt in enumerate(prompts, start=1) for m in _marks(prompt, "" if one else str(i))]
    panels: list[_Panel | None] = [
        _Panel(pixels, as_array(values), title, "", extent, mask, _marks(prompt))
        for values, prompt, title in zip(maps, prompts, titles, strict=True)
    ]
    rows = [[None, *panels[i : i + 4]] for i in range(0, len(panels), 4)] or [[None]]
    rows[0][0] = _Panel(pixels, None, "image", mask=mask, marks=marks)
    return _sheet(rows, scale_of(quantity, limits, map(as_array, maps)), note)


@styled
def affinity_sheet(
    images: Sequence[Picture],
    points: Points,
    columns: Mapping[str, Maps],
    *,
    negatives: Points | None = None,
    captions: Captions | None = None,
    quantity: str = "cosine",
    limits: Limits | None = None,
    extents: Extents | None = None,
    masks: Sequence[Values | None] | None = None,
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
        masks: n masks ``(h, w)`` bool, or None, of the points' objects, which are outlined.

    Raises:
        ValueError: points or a column have another number than there are images, or captions or extents have a heading
            that no column has; limits are no range.
    """
    prompts, masks = _prompts(points, negatives), masks or [None] * len(images)
    if not len(images) == len(prompts) == len(masks):
        raise ValueError(f"{len(images)} pictures, {len(prompts)} points, {len(masks)} masks: give one for each")
    scale = scale_of(quantity, limits, [as_array(m) for maps in columns.values() for m in maps])
    rows = [
        [panel._replace(mask=mask, marks=_marks(prompt)) for panel in row]
        for row, prompt, mask in zip(_rows(images, columns, captions, extents), prompts, masks, strict=True)
    ]
    return _sheet(rows, scale, note)


@styled
def feature_colours(
    images: Sequence[Picture],
    columns: Mapping[str, Maps],
    *,
    captions: Captions | None = None,
    extents: Extents | None = None,
    note: str = "",
) -> Figure:
    """Pictures beside their features as colours, or beside their segments; several in a row of six panels.

    A segment of one number has one colour in all pictures of all networks, and its border is drawn.

    Args:
        images: n pictures, ``(H, W, 3)`` uint8 or PIL.
        columns: heading ("PCA as RGB") → n maps: RGB ``(h, w, 3)``, clipped to [0, 1]; or numbers of segments
            ``(h, w)``, negative (white) where there is none.
        captions, extents, note: as of ``affinity_sheet``.

    Raises:
        ValueError: other numbers of maps than of images, or a map of another shape.
    """
    for name, maps in columns.items():
        for shape in (np.shape(as_array(values)) for values in maps):
            if len(shape) != 2 and shape[2:] != (3,):
                raise ValueError(f"{name}: a map is (h, w, 3) RGB or (h, w) numbers of segments, not of shape {shape}")
    beside = max(1, min(6 // (1 + len(columns)), len(images)))
    return _sheet(_rows(images, columns, captions, extents, beside), None, note)


def _rows(
    images: Sequence[Picture],
    columns: Mapping[str, Maps],
    captions: Captions | None,
    extents: Extents | None,
    beside: int = 1,
) -> list[list[_Panel]]:
    """So many images in a row, each with its map by each network at its right."""
    captions, extents = captions or {}, extents or {}
    for what, of in (("maps", columns), ("captions", captions), ("extents", extents)):
        for name, values in of.items():
            if name not in columns:
                raise ValueError(f"{what} are given for {name!r}, which is no column: there are {', '.join(columns)}")
            if not isinstance(values, str) and len(values) != len(images):
                raise ValueError(f"{name}: {len(values)} {what} for {len(images)} pictures: give one for each")
    rows: list[list[_Panel]] = [[] for _ in range(0, len(images), beside)]
    for i, pixels in enumerate(map(as_pixels, images)):
        row, first = rows[i // beside], i < beside
        row.append(_Panel(pixels, None, "image" * first))
        for name, maps in columns.items():
            said, extent = captions.get(name, ""), extents[name][i] if name in extents else WHOLE
            head, under = (f"{name}\n{said}".rstrip(), "") if isinstance(said, str) else (name, said[i])
            row.append(_Panel(pixels, as_array(maps[i]), head * first, under, extent))
    return rows


def _sheet(rows: Sequence[Sequence[_Panel | None]], scale: Scale | None, note: str) -> Figure:
    """Panels in rows, with their colour bar if there is a scale."""
    columns = max(map(len, rows), default=1)
    least = 0.7 if len(rows) > 1 else 0.2  # a narrower picture does not fill its panel
    heights = [max(1 / max(aspect(panel.pixels), least) for panel in row if panel) for row in rows]
    width = min((PAGE - 0.5 * bool(scale)) / columns, _WIDEST, _TALLEST / max(heights), max(1.2, 9 / sum(heights)))
    width = max(width, 0.62)
    body, axes = grid.page(heights, [1.0] * columns, columns * width + 0.5 * bool(scale))
    for row, panels in zip(axes, rows, strict=True):
        for place, panel in itertools.zip_longest(row, panels):
            if panel is None:
                place.set_axis_off()
            else:
                _draw_panel(place, panel, scale)
                place.set_title(fold(panel.heading, width, 7.5))
                place.set_xlabel(fold(panel.caption, width), color=GREY)
    if scale:
        grid.colour_bar(body, axes.flat, scale, width * sum(heights))
    return grid.finish(body, note)


def _draw_panel(axes: Axes, panel: _Panel, scale: Scale | None) -> None:
    ratio, values = aspect(panel.pixels), panel.values
    if values is None:
        grid.show(axes, panel.pixels, ratio, "picture")
    elif scale:
        grid.show_map(axes, values, ratio, scale, panel.extent)
    elif values.ndim == 3:
        grid.show(axes, values.clip(0, 1), ratio, "map", panel.extent)
    else:
        colours = np.where(values[..., None] < 0, 1.0, region_colours(values.astype(int)))
        grid.show(axes, colours, ratio, "map", panel.extent)
        grid.draw_borders(axes, values, panel.extent)
    if panel.mask is not None:
        grid.outline(axes, panel.mask)
    for points, negative, number in panel.marks:
        mark(axes, points, number, negative)


def _marks(prompt: tuple[np.ndarray, np.ndarray], number: str = "") -> list[tuple[np.ndarray, bool, str]]:
    return [(points, negative, number) for points, negative in zip(prompt, (False, True), strict=True)]


def _prompts(points: Points, negatives: Points | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points ``(n, 2)``, or n arrays of them, as n pairs of arrays ``(k, 2)``: wanted, not wanted."""
    wanted = [as_array(p).reshape(-1, 2) for p in points]
    unwanted = [as_array(p).reshape(-1, 2) for p in ([np.zeros(0)] * len(wanted) if negatives is None else negatives)]
    if len(unwanted) != len(wanted):
        raise ValueError(f"points of {len(wanted)} maps, negative ones of {len(unwanted)}: an empty array is none")
    return list(zip(wanted, unwanted, strict=True))


# ------------------------------------------------------------------------------------------------- views and regions


@dataclass
class Example:
    """An image, the two views of it that training saw, and how alike its cells are to one point.

    Attributes:
        image: ``(H, W, 3)`` uint8. box: ``(2, 4)`` and flip: ``(2,)`` bool, the views' crops (image frame).
        views: ``(2, S, S, 3)`` uint8, coloured as trained on.
        regions: ``(2, h, w)`` integer, the region that each cell of each view sees.
        points: ``(2, R, P, 2)`` in the view frames. valid: ``(R,)`` bool, regions that both views see.
        query: ``(2,)``, a point of the image frame. maps: name → ``(h, w)`` cosines with the query, image frame.
    """

    image: np.ndarray
    box: np.ndarray
    flip: np.ndarray
    views: np.ndarray
    regions: np.ndarray
    points: np.ndarray
    valid: np.ndarray
    query: np.ndarray
    maps: Mapping[str, np.ndarray]

    @property
    def crops(self) -> Crop:
        """Both crops; ``crops[v]`` is that of view v."""
        return Crop(torch.tensor(np.asarray(self.box)), torch.tensor(np.asarray(self.flip)))


@styled
def views_and_affinity(examples: Sequence[Example], limits: Limits | None = None) -> Figure:
    """What PLRC trains on and what comes of it, a row an example.

    The image with both crops, outlined as the views are framed, and the borders of the regions that they show; each
    view with its regions (a region has the same colour and number everywhere; hatched: not seen by both, so not trained
    on) and the points drawn in them (dots); the affinity of the marked point by each network.

    Args:
        examples: at least one; all have the maps of the same networks, in the same order.
        limits: of the affinities, as of ``affinity``.

    Raises:
        ValueError: there is no example, or their maps have different names.
    """
    names = {tuple(example.maps) for example in examples}
    if len(names) != 1:
        raise ValueError(f"examples need maps of the same names, not {sorted(names)}")
    heads = ["image and crops", "view 1", "view 2", *(f"affinity {name}" for name in names.pop())]
    scale = scale_of("cosine", limits, [m for example in examples for m in example.maps.values()])
    wide = max(max(0.5, min(1.6, aspect(e.image))) for e in examples)
    columns = [wide, 1.0, 1.0] + [wide] * (len(heads) - 3)
    side = max(0.8, min(1.6, (PAGE - 0.5) / sum(columns)))
    body, axes = grid.page([1.0] * len(examples), columns, side * sum(columns) + 0.5)
    for example, (image, *panels) in zip(examples, axes, strict=True):
        grid.show_picture(image, example.image)
        _draw_crops(image, example)
        for v in range(2):
            _draw_view(panels[v], example, v)
        for panel, values in zip(panels[2:], example.maps.values(), strict=True):
            grid.show_map(panel, values, aspect(example.image), scale)
        for panel in (image, *panels[2:]):
            mark(panel, example.query[None])
    for v, (head, panel, width) in enumerate(zip(heads, axes[0], columns, strict=True), start=-1):
        panel.set_title(fold(head, side * width, 7.5), color=LOOK["views"][v]["colour"] if v in (0, 1) else "black")
    grid.colour_bar(body, axes.flat, scale, side * len(examples))
    return grid.finish(body)


def _draw_crops(axes: Axes, example: Example) -> None:
    """Both crops in the panel of the image, and the borders of what they show: of view 1 where both show it."""
    seen = grid.enlarge(np.full((1, 1), -1), aspect(example.image), 1)
    centres = cell_centres(*seen.shape).flatten(0, 1)
    for v in (1, 0):
        inside = example.crops[v].to_view(centres)
        shown = ((inside >= 0) & (inside < 1)).all(dim=1).numpy()
        row, column = cell_of(inside, *example.regions[v].shape)
        seen.flat[shown] = example.regions[v].astype(int)[row.numpy(), column.numpy()][shown]
    grid.draw_borders(axes, seen)
    for v, (x0, y0, x1, y1) in enumerate(np.asarray(example.box).tolist()):
        look: dict[str, Any] = {
            "lw": 1.3,
            "path_effects": [withStroke(linewidth=2.4, foreground="white")],
            **line(LOOK["views"][v]),
        }
        box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, clip_on=False, zorder=4 - v, **look)
        axes.add_patch(box).set_label(f"view {v + 1}")


def _draw_view(axes: Axes, example: Example, v: int) -> None:
    """A view with its regions and points, framed as its crop is outlined."""
    grid.show_picture(axes, example.views[v])
    grid.frame(axes, v)
    axes.set_xlabel("mirrored" if example.flip[v] else "", style="italic")
    regions, valid = example.regions[v].astype(int), np.asarray(example.valid, dtype=bool)
    query = example.crops[v].to_view(torch.tensor(np.asarray(example.query))[None]).numpy()
    query = query[((query >= 0) & (query <= 1)).all(axis=1)]
    mark(axes, query)
    shared, both = valid[regions], np.intersect1d(regions, np.flatnonzero(valid))
    colours = np.where(shared[..., None], region_colours(regions), grid.UNMATCHED)
    grid.draw_regions(axes, regions, colours, both.tolist(), query)
    if not shared.all():
        y, x = ((np.arange(n) + 0.5) / n for n in regions.shape)
        hatched = axes.contourf(x, y, ~shared, [0.5, 1.5], colors="none", hatches=["//////"])
        hatched.set(edgecolor="0.35", linewidth=0, label="not seen by both")
    points = np.asarray(example.points[v])[both]
    colour = region_colours(np.repeat(both, points.shape[1]))
    how: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.3, "label": "points", "zorder": 4}
    x, y = points.reshape(-1, 2).T
    axes.scatter(x, y, s=4.5, color=colour, **how)
