"""Images beside maps of them: affinity, feature colours, segments; and what PLRC trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from plrc.figures import grid
from plrc.figures.grid import WHOLE, Extent, Picture, Values, as_array, as_pixels, aspect, each, fold, halo, mark
from plrc.figures.style import GREY, LOOK, PAGE, Limits, Scale, line, region_colours, scale_of, styled
from plrc.geometry import Crop, cell_centres, cell_of
from plrc.queries import COLOUR_MAPS

Images = Sequence[Picture]
Several = Values | Sequence[Values]
Columns = Mapping[str, Sequence[Values]]
Captions = Mapping[str, str | Sequence[str]] | None
Extents = Mapping[str, Sequence[Extent]] | None
Prompt = tuple[np.ndarray, np.ndarray, str]  # points (k, 2) to be like, others not to be like, a number beside them


class _Panel(NamedTuple):
    """An image, or a map of it: ``(h, w)`` values, ``(h, w, 3)`` RGB, or without a scale ``(h, w)`` segments."""

    pixels: np.ndarray
    values: np.ndarray | None = None
    heading: str = ""
    caption: str = ""
    extent: Extent = WHOLE
    mask: Values | None = None
    prompts: Sequence[Prompt] = ()
    box: Values | None = None
    look: str = ""  # of the box, one of LOOK["matches"]


class Retrieved(NamedTuple):
    """What was asked, or an answer: an image ``(H, W, 3)`` uint8 with a box ``(4,)``, x0, y0, x1, y1 of its frame.

    right: whether the answer's label is the question's, None where that is not known. points ``(n, 2)`` and mask
    ``(h, w)``: of what was asked.
    """

    pixels: np.ndarray
    box: np.ndarray | None
    heading: str = ""
    caption: str = ""
    right: bool | None = None
    points: np.ndarray = np.zeros((0, 2))
    mask: np.ndarray | None = None


@styled
def retrieval(rows: Sequence[Sequence[Retrieved]], note: str = "") -> Figure:
    """A row a question and network: what was asked, then the answers, best first, each with its box.

    A box is solid blue where the label is right, dashed orange where it is not, grey where that is not known, white of
    what was asked. note: at the foot. Raises a ValueError if there is no row.
    """
    if not rows:
        raise ValueError("there is nothing to draw: give a row")
    across, panels = max(map(len, rows)), list[_Panel | None]()
    for row in rows:
        looks = ["", *({True: "right", False: "wrong", None: "unknown"}[one.right] for one in row[1:])]
        for one, look in zip(row, looks, strict=True):
            prompts = [(one.points, one.points[:0], "")]
            how: dict[str, Any] = {"mask": one.mask, "prompts": prompts, "box": one.box, "look": look}
            panels.append(_Panel(one.pixels, caption=one.caption, **how))
        panels += [None] * (across - len(row))
    body, places = _sheet(panels, across, None)
    for (axes, *_), (first, *_) in zip(places, rows, strict=True):  # over the whole row, in the room of its titles
        text = fold(first.heading, body.figure.get_figwidth() - 0.1, 7)
        axes.set_title("\n".join(" " for _ in text.splitlines()))
        axes.annotate(text, (0, 1), (0, 3), "axes fraction", "offset points", fontsize=7).set_in_layout(False)
    return grid.finish(body, note)


@styled
def affinity(
    image: Picture,
    maps: Several,
    points: Several,
    titles: Sequence[str] | None = None,
    *,
    negatives: Several | None = None,
    quantity: str = "cosine",
    limits: Limits | None = None,
    colour_map: str = COLOUR_MAPS[0],
    extent: Extent = WHOLE,
    mask: Values | None = None,
    note: str = "",
) -> Figure:
    """An image with numbered points, and for each point how alike every cell is (paper figure 2). Four maps a row.

    image: ``(H, W, 3)`` uint8 or a PIL image. maps: ``(n, h, w)``. points: ``(n, 2)`` in the image frame, one a map, or
    n arrays ``(k, 2)`` where a map answers for several (a prompt). negatives: n arrays ``(k, 2)``, perhaps empty, of
    points that a map is *not* to be like. titles: n headings. quantity, limits, colour_map: as of ``scale_of``. extent:
    how far right and down maps reach, the image being 1. mask: ``(h, w)`` bool, an object, outlined. note: at the foot.
    Raises a ValueError if maps, points, negatives or titles differ in number, or limits are no range.
    """
    each(len(maps), "maps", points=points, titles=titles, negatives=negatives)
    pixels, prompts = as_pixels(image), _prompts(points, negatives)
    sizes = [len(wanted) + len(unwanted) for wanted, unwanted, _ in prompts]
    alone = len(sizes) == 1 and sizes[0] > 1
    words = ["prompt"] if alone else [f"{('prompt', 'point')[n == 1]} {i}" for i, n in enumerate(sizes, start=1)]
    numbered = [(wanted, no, "" if alone else str(i)) for i, (wanted, no, _) in enumerate(prompts, start=1)]
    panels: list[_Panel | None] = [_Panel(pixels, heading="image", mask=mask, prompts=numbered)]
    for i, (values, title, prompt) in enumerate(zip(maps, titles or words, prompts, strict=True)):
        panels += [None] * (i > 0 and i % 4 == 0)
        panels.append(_Panel(pixels, as_array(values), title, "", extent, mask, [prompt]))
    scale = scale_of(quantity, limits, map(as_array, maps), colour_map)
    return grid.finish(_sheet(panels, min(5, len(panels)), scale, len(panels))[0], note)


@styled
def affinity_sheet(
    images: Images,
    points: Several,
    columns: Columns,
    *,
    negatives: Several | None = None,
    captions: Captions = None,
    quantity: str = "cosine",
    limits: Limits | None = None,
    colour_map: str = COLOUR_MAPS[0],
    extents: Extents = None,
    masks: Sequence[Values | None] | None = None,
    note: str = "",
) -> Figure:
    """One row an image: the image with its point, then the affinity of that point by each of several networks.

    images: n of them. points: ``(n, 2)``, or n arrays ``(k, 2)``, an empty one where the map is of a point in another
    image. columns: heading ("step 400") → n maps ``(h, w)``; all have one range of colours. captions: heading → a line
    under it ("AUC 0.61"), or n lines, one under each map. extents: heading → n extents. masks: n masks, or None.
    All else as of ``affinity``. Raises a ValueError if something is not given for each image, or limits are no range.
    """
    each(len(images), "images", points=points, negatives=negatives, masks=masks)
    marks = masks or [None] * len(images), _prompts(points, negatives), _rows(images, columns, captions, extents)
    panels = [panel._replace(mask=m, prompts=[p]) for m, p, row in zip(*marks, strict=True) for panel in row]
    scale = scale_of(quantity, limits, map(as_array, chain(*columns.values())), colour_map)
    return grid.finish(_sheet(panels, 1 + len(columns), scale)[0], note)


@styled
def feature_colours(
    images: Images, columns: Columns, *, captions: Captions = None, extents: Extents = None, note: str = ""
) -> Figure:
    """Images beside their features as colours, or beside their segments; several in a row of six panels.

    columns: heading ("PCA as RGB") → n maps: RGB ``(h, w, 3)``, clipped to [0, 1]; or numbers of segments ``(h, w)``,
    which have one colour in all images of all networks and a border; negative (white) where there is none. All else as
    of ``affinity_sheet``. Raises a ValueError if something is not given for each image, or a map has another shape.
    """
    for shape in (as_array(values).shape for values in chain(*columns.values())):
        if len(shape) != 2 and shape[2:] != (3,):
            raise ValueError(f"a map is (h, w, 3) RGB or (h, w) numbers of segments, not of shape {shape}")
    across = (1 + len(columns)) * max(1, min(6 // (1 + len(columns)), len(images)))
    return grid.finish(_sheet(list(chain(*_rows(images, columns, captions, extents))), across, None)[0], note)


def _rows(images: Images, columns: Columns, captions: Captions, extents: Extents) -> list[list[_Panel]]:
    """Of each image its panel and its map by each network."""
    captions, extents = captions or {}, extents or {}
    for of in (columns, captions, extents):
        each(len(images), "images", **of)
    rows = [[_Panel(as_pixels(image), heading="image")] for image in images]
    for name, maps in columns.items():
        said, reach = captions.get(name, ""), extents.get(name, [WHOLE] * len(images))
        head, under = (f"{name}\n{said}".rstrip(), [""] * len(images)) if isinstance(said, str) else (name, said)
        for i, row in enumerate(rows):
            row.append(_Panel(row[0].pixels, as_array(maps[i]), head, under[i], reach[i]))
    return rows


def _sheet(
    panels: Sequence[_Panel | None], across: int, scale: Scale | None, headed: int = 1
) -> tuple[Any, np.ndarray]:
    """So many panels a row, headings in so many rows, a colour bar of the scale: a page's body, and its axes."""
    rows = [panels[i : i + across] for i in range(0, len(panels), across)]
    least = 0.7 if len(rows) > 1 else 0.2  # a narrower image does not fill its panel
    heights = [max(1 / max(aspect(panel.pixels), least) for panel in row if panel) for row in rows]
    room = 0.5 * bool(scale)
    width = max(0.62, min((PAGE - room) / across, 2.2, 2.8 / max(heights), max(1.2, 9 / sum(heights))))  # inches
    body, places = grid.page(heights, [1.0] * across, across * width + room)
    for i, (axes, panel) in enumerate(zip_longest(places.flat, panels)):
        if panel is None:
            axes.set_axis_off()
            continue
        _draw(axes, panel, scale)
        axes.set_title(fold(panel.heading, width, 7.5) if i < headed * across else "")
        axes.set_xlabel(fold(panel.caption, width), color=GREY)
    if scale:
        grid.colour_bar(body, places.flat, scale, width * sum(heights))
    return body, places


def _draw(axes: Axes, panel: _Panel, scale: Scale | None) -> None:
    values = panel.pixels if panel.values is None else panel.values
    if panel.values is not None and values.ndim == 3:
        values = values.clip(0, 1)
    elif not scale and values.ndim == 2:
        grid.draw_borders(axes, values, panel.extent)
        values = np.where(values[..., None] < 0, 1.0, region_colours(values.astype(int)))
    label = "picture" if panel.values is None else "map"
    grid.show(axes, values, aspect(panel.pixels), label, panel.extent, scale)
    if panel.mask is not None:
        grid.outline(axes, panel.mask)
    if panel.box is not None:
        x0, y0, x1, y1 = as_array(panel.box).tolist()
        how: dict[str, Any] = line(LOOK["matches"][panel.look]) if panel.look else {"color": "white"}
        box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, lw=1.2, clip_on=False, zorder=5, **how)
        box.set_path_effects(halo(2.4, "white" if panel.look else "black"))
        axes.add_patch(box).set_label("box")
    for wanted, unwanted, number in panel.prompts:
        mark(axes, wanted, number)
        mark(axes, unwanted, number, negative=True)


def _prompts(points: Several, negatives: Several | None = None) -> list[Prompt]:
    """Points ``(n, 2)``, or n arrays of them, as n prompts without a number."""
    negatives = [np.zeros(0)] * len(points) if negatives is None else negatives
    arrays = [[as_array(p).reshape(-1, 2) for p in of] for of in (points, negatives)]
    return [(wanted, unwanted, "") for wanted, unwanted in zip(*arrays, strict=True)]


class Example(NamedTuple):
    """An image, the two views of it that training saw, and how alike its cells are to one point.

    image: ``(H, W, 3)`` uint8. crops: of the two views. views: ``(2, S, S, 3)`` uint8, coloured as trained on. regions:
    ``(2, h, w)`` integer, what each cell of each view sees. points: ``(2, R, P, 2)`` in the view frames, those of each
    region. query: ``(2,)``, a point of the image frame. maps: name → ``(h, w)`` cosines with the query, image frame.
    """

    image: np.ndarray
    crops: Crop
    views: np.ndarray
    regions: np.ndarray
    points: np.ndarray
    query: np.ndarray
    maps: Mapping[str, np.ndarray]


@styled
def views_and_affinity(examples: Sequence[Example]) -> Figure:
    """What PLRC trains on and what comes of it, a row an example.

    The image with both crops, outlined as the views are framed, and the borders of the regions that they show; each
    view with its regions (a region has the same colour and number everywhere; hatched: not seen by both, so not trained
    on) and the points drawn in them (dots); the affinity of the marked point by each network, the same in each example.
    """
    panels: list[_Panel] = []
    for example in examples:
        query = _prompts([example.query])
        panels += [_Panel(example.image, heading="image and crops", prompts=query)]
        panels += [_Panel(view, heading=f"view {v}") for v, view in enumerate(example.views, start=1)]
        panels += [_Panel(example.image, m, f"affinity {name}", prompts=query) for name, m in example.maps.items()]
    across = len(panels) // len(examples)
    body, axes = _sheet(panels, across, scale_of("cosine", None, chain(*(e.maps.values() for e in examples))))
    for example, row in zip(examples, axes, strict=True):
        draw_crops(row[0], example)
        for v in (0, 1):
            draw_view(row[1 + v], example, v)
    return grid.finish(body)


def draw_crops(axes: Axes, example: Example) -> None:
    """Both crops in the panel of the image, and the borders of what they show: of view 1 where both show it."""
    seen = grid.enlarge(np.full((1, 1), -1), aspect(example.image), 1)
    centres = cell_centres(*seen.shape).flatten(0, 1)
    for v in (1, 0):
        inside = example.crops[v].to_view(centres)
        shown = ((inside >= 0) & (inside < 1)).all(dim=1)
        row, column = cell_of(inside[shown], *example.regions[v].shape)
        seen.flat[shown.numpy()] = example.regions[v, row.numpy(), column.numpy()]
    grid.draw_borders(axes, seen)
    for v, (x0, y0, x1, y1) in enumerate(example.crops.box.tolist()):
        look: dict[str, Any] = {"lw": 1.3, "path_effects": halo(2.4), **line(LOOK["views"][v])}
        box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, clip_on=False, zorder=4 - v, **look)
        axes.add_patch(box).set_label(f"view {v + 1}")


def draw_view(axes: Axes, example: Example, v: int, query: bool = True) -> None:
    """The regions of a view and its points, framed as its crop is outlined. query: whether to mark that point."""
    grid.frame(axes, v)
    axes.title.set_color(LOOK["views"][v]["colour"])
    axes.set_xlabel("mirrored" if example.crops.flip[v] else "", style="italic", color="black")
    place = example.crops[v].to_view(torch.tensor(example.query)[None]).numpy()
    place = place[((place >= 0) & (place <= 1)).all(axis=1) & query]
    mark(axes, place)
    regions, both = example.regions[v], np.intersect1d(*example.regions)
    shared = np.isin(regions, both)
    colours = np.where(shared[..., None], region_colours(regions), grid.UNMATCHED)
    grid.draw_regions(axes, regions, colours, both.tolist(), place)
    if not shared.all():
        y, x = ((np.arange(n) + 0.5) / n for n in regions.shape)
        hatched = axes.contourf(x, y, ~shared, [0.5, 1.5], colors="none", hatches=["//////"])
        hatched.set(edgecolor="0.35", linewidth=0, label="not seen by both")
    points = example.points[v, both]
    look: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.3, "label": "points", "zorder": 4}
    axes.scatter(points[..., 0], points[..., 1], 4.5, color=region_colours(both.repeat(points.shape[1])), **look)
