"""Pictures beside maps of them: affinity, feature colours, segments; and what PLRC trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from plrc.figures import grid
from plrc.figures.grid import WHOLE, Extent, Picture, Values, as_array, as_pixels, aspect, fold, mark
from plrc.figures.style import GREY, LOOK, PAGE, Limits, Scale, line, region_colours, scale_of, styled
from plrc.geometry import Crop, cell_centres, cell_of

Points = Values | Sequence[Values]
Maps = Sequence[Values]
Captions = Mapping[str, str | Sequence[str]]
Extents = Mapping[str, Sequence[Extent]]
Panel = tuple[np.ndarray, Callable[[Axes], None], str, str]  # picture, what draws the panel, heading, caption
_WIDEST, _TALLEST = 2.2, 2.8  # of a panel, inches
_ROW = 6  # panels in a row of pictures with their feature colours or segments


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
        many = ["point" if len(wanted) + len(unwanted) == 1 else "prompt" for wanted, unwanted in prompts]
        titles = ["prompt"] if one else [f"{word} {i}" for i, word in enumerate(many, start=1)]
    if not len(maps) == len(prompts) == len(titles):
        raise ValueError(f"{len(maps)} maps, {len(prompts)} points and {len(titles)} titles: they belong together")
    scale = scale_of(quantity, limits, [as_array(m) for m in maps])

    def draw_image(axes: Axes) -> None:
        grid.show_picture(axes, pixels, mask)
        for i, (wanted, unwanted) in enumerate(prompts, start=1):
            _mark(axes, wanted, unwanted, "" if one else str(i))

    cells: list[Panel] = [
        (pixels, _map(values, pixels, scale, extent, *prompt, mask), title, "")
        for values, prompt, title in zip(maps, prompts, titles, strict=True)
    ]
    rows: list[list[Panel | None]] = [[None, *cells[i : i + 4]] for i in range(0, len(cells), 4)] or [[None]]
    rows[0][0] = (pixels, draw_image, "image", "")
    return _sheet(rows, scale, note)


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

    def draw_image(pixels: np.ndarray, i: int) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            grid.show_picture(axes, pixels, masks[i])
            _mark(axes, *prompts[i])

        return draw

    def draw_map(pixels: np.ndarray, values: np.ndarray, extent: Extent, i: int) -> Callable[[Axes], None]:
        return _map(values, pixels, scale, extent, *prompts[i], masks[i])

    return _sheet(_groups(images, columns, draw_map, captions, extents, 1, draw_image), scale, note)


@styled
def pca_rgb(
    images: Sequence[Picture],
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

    def draw(pixels: np.ndarray, values: np.ndarray, extent: Extent, i: int) -> Callable[[Axes], None]:
        if values.ndim != 3 or values.shape[2] != 3:
            raise ValueError(f"a map of feature colours is (h, w, 3) RGB, not of shape {values.shape}")
        return lambda axes: grid.show(axes, values.clip(0, 1), aspect(pixels), "map", extent)

    return _sheet(_groups(images, rgbs, draw, captions, extents, _ROW, heading="PCA as RGB"), None, note)


@styled
def segments(
    images: Sequence[Picture],
    labels: Maps | Mapping[str, Maps],
    *,
    captions: Captions | None = None,
    extents: Extents | Sequence[Extent] | None = None,
    note: str = "",
) -> Figure:
    """Pictures beside their segments: a segment of one number has one colour in all pictures of all networks.

    Args:
        images: n pictures, ``(H, W, 3)`` uint8 or PIL. labels: n maps ``(h, w)`` of integers, negative (white) where
            there is no segment; or heading → n maps, for several networks.
        captions, extents, note: as of ``pca_rgb``.

    Raises:
        ValueError: other numbers of maps than of images, or a map of another shape.
    """

    def draw(pixels: np.ndarray, values: np.ndarray, extent: Extent, i: int) -> Callable[[Axes], None]:
        if values.ndim != 2:
            raise ValueError(f"a map of segments is (h, w) integers, not of shape {values.shape}")
        numbers = values.astype(int)
        colours = np.where(numbers[..., None] < 0, 1.0, region_colours(numbers))

        def draw_segments(axes: Axes) -> None:
            grid.show(axes, colours, aspect(pixels), "map", extent)
            grid.draw_borders(axes, numbers, extent)

        return draw_segments

    return _sheet(_groups(images, labels, draw, captions, extents, _ROW, heading="segments"), None, note)


def _groups(
    images: Sequence[Picture],
    given: Maps | Mapping[str, Maps],
    draw: Callable[[np.ndarray, np.ndarray, Extent, int], Callable[[Axes], None]],
    captions: Captions | None,
    extents: Extents | Sequence[Extent] | None,
    most: int,
    draw_image: Callable[[np.ndarray, int], Callable[[Axes], None]] | None = None,
    heading: str = "",
) -> list[list[Panel | None]]:
    """Rows of groups of a picture and its map by each network, as many a row as ``most`` panels hold, at least one."""
    columns: Mapping[str, Maps] = given if isinstance(given, Mapping) else {heading: given}
    captions, n = captions or {}, len(images)
    reach: Extents = extents if isinstance(extents, Mapping) else {} if extents is None else {heading: extents}
    for what, of in (("maps", columns), ("captions", captions), ("extents", reach)):
        for name, values in of.items():
            if name not in columns:
                raise ValueError(f"{what} are given for {name!r}, which is no column: there are {', '.join(columns)}")
            if not isinstance(values, str) and len(values) != n:
                raise ValueError(f"{name}: {len(values)} {what} for {n} pictures: give one for each")
    groups = max(1, min(most // (1 + len(columns)), n))
    cells: list[list[Panel | None]] = []
    for i, image in enumerate(images):
        pixels, first = as_pixels(image), i < groups
        show = draw_image(pixels, i) if draw_image else lambda axes, pixels=pixels: grid.show_picture(axes, pixels)
        cells.append([(pixels, show, "image" * first, "")])
        for name, maps in columns.items():
            said, extent = captions.get(name, ""), reach[name][i] if name in reach else WHOLE
            head, under = (f"{name}\n{said}".rstrip(), "") if isinstance(said, str) else (name, said[i])
            cells[-1].append((pixels, draw(pixels, as_array(maps[i]), extent, i), head * first, under))
    return [[panel for group in cells[i : i + groups] for panel in group] for i in range(0, n, groups)]


def _sheet(rows: Sequence[Sequence[Panel | None]], scale: Scale | None, note: str) -> Figure:
    """Panels in rows, with their colour bar if there is a scale."""
    columns = max(map(len, rows), default=1)
    least = 0.7 if len(rows) > 1 else 0.2  # a narrower picture does not fill its panel
    heights = [max(1 / max(aspect(panel[0]), least) for panel in row if panel) for row in rows]
    width = min((PAGE - 0.5 * bool(scale)) / columns, _WIDEST, _TALLEST / max(heights), max(1.2, 9 / sum(heights)))
    width = max(width, 0.62)
    body, axes = grid.page(heights, [1.0] * columns, columns * width + 0.5 * bool(scale))
    for row, panels in zip(axes, rows, strict=True):
        for unused in row[len(panels) :]:
            unused.set_axis_off()
        for place, panel in zip(row, panels, strict=False):
            if panel is None:
                place.set_axis_off()
                continue
            _, draw, heading, caption = panel
            draw(place)
            place.set_title(fold(heading, width, 7.5))
            place.set_xlabel(fold(caption, width), color=GREY)
    if scale:
        grid.colour_bar(body, axes.flat, scale, width * sum(heights))
    return grid.finish(body, note)


def _map(
    values: Values,
    pixels: np.ndarray,
    scale: Scale,
    extent: Extent,
    wanted: np.ndarray,
    unwanted: np.ndarray,
    mask: Values | None,
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        grid.show_map(axes, values, aspect(pixels), scale, extent, mask)
        _mark(axes, wanted, unwanted)

    return draw


def _mark(axes: Axes, wanted: np.ndarray, unwanted: np.ndarray, number: str = "") -> None:
    mark(axes, wanted, number)
    mark(axes, unwanted, number, negative=True)


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
        row, column = (index.numpy() for index in cell_of(inside, *example.regions[v].shape))
        seen.flat[shown] = example.regions[v].astype(int)[row, column][shown]
    grid.draw_borders(axes, seen)
    for v, (x0, y0, x1, y1) in enumerate(np.asarray(example.box).tolist()):
        at = ((x0, y0), x1 - x0, y1 - y0)
        axes.add_patch(Rectangle(*at, fill=False, clip_on=False, ec="white", lw=2.4, zorder=3))
        how = {"linewidth": 1.3, "label": f"view {v + 1}", **line(LOOK["views"][v])}
        axes.add_patch(Rectangle(*at, fill=False, clip_on=False, zorder=4, **how))


def _draw_view(axes: Axes, example: Example, v: int) -> None:
    """A view with its regions and points, framed as its crop is outlined."""
    grid.show_picture(axes, example.views[v])
    grid.frame(axes, v)
    axes.set_xlabel("mirrored" if example.flip[v] else "", style="italic")
    regions, valid = example.regions[v].astype(int), np.asarray(example.valid, dtype=bool)
    query = example.crops[v].to_view(torch.tensor(np.asarray(example.query))[None]).numpy()
    query = query[((query >= 0) & (query <= 1)).all(axis=1)]
    mark(axes, query)
    shared, both = valid[regions], np.intersect1d(regions, np.flatnonzero(valid)).tolist()
    colours = np.where(shared[..., None], region_colours(regions), grid.UNMATCHED)
    grid.draw_regions(axes, regions, colours, both, query)
    if not shared.all():
        y, x = ((np.arange(n) + 0.5) / n for n in regions.shape)
        hatched = axes.contourf(x, y, ~shared, [0.5, 1.5], colors="none", hatches=["//////"])
        hatched.set(edgecolor="0.35", linewidth=0, label="not seen by both")
    for r in both:
        x, y = np.asarray(example.points[v][r]).T
        axes.scatter(
            x, y, s=4.5, color=region_colours(r), edgecolors="black", linewidths=0.3, label=f"region {r}", zorder=4
        )
