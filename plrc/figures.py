"""Figures: arrays in, a matplotlib ``Figure`` out; never a model.

Panels are drawn in the pixels of their picture, and a picture fills its panel whatever its resolution: cell
``(row i, column j)`` of an ``h × w`` map covers ``j/w … (j + 1)/w`` of the width, as ``plrc.geometry`` has it. Cosines
always have the colours of [−1, 1], so that figures can be compared; a map's cells are drawn as the cells they are,
under a picture's shadows, which darken a colour but do not change its hue.

Lengths of a layout are inches, sizes of type and lines points; a figure is at most a page wide (7 inches) unless it
has more columns than that can hold. ``Figure`` is constructed directly: pyplot would keep every figure of a server.
"""

from __future__ import annotations

import itertools
import math
import os
import textwrap
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from plrc.geometry import Crop, cell_centres, cell_of

_PAGE = 7.0  # inches, the text width of a two-column paper
_PANEL = 1.21  # width of a panel where nothing else decides
_GAP, _MARGIN = 0.07, 0.06
_BAR = (0.1, 0.08, 0.34)  # in front of the colour bar, its width, room for its numbers
_LINE = 0.125  # height of a line of headings
_LOWEST_BAR = 0.6

# Blue to white to red without the darkest ends: those would be black in a picture's shadows.
_COSINE = LinearSegmentedColormap.from_list("cosine", matplotlib.colormaps["RdBu_r"](np.linspace(0.1, 0.9, 17)))
_SHADOW = 0.42  # share of its colour's light that a map loses where the picture is darkest

# Region r has colour r mod 16. Found by search (ours): the least distance of two colours is largest over normal sight
# and three colour blindnesses, and regions beside each other in a grid of 2 … 5 columns differ most.
_REGIONS = (
    *("#ea8080", "#6a406a", "#806aea", "#955500", "#bfeaaa", "#809500", "#00d4bf", "#eaaa55"),
    *("#2aaaea", "#552aaa", "#d4406a", "#95eaff", "#95002a", "#aa80aa", "#ead400", "#406aaa"),
)
_VIEWS = (("#0072b2", "solid"), ("#d55e00", (0, (2.4, 1.2))))  # safe colours (Okabe and Ito), told apart in grey too
_RASTER = 160  # cells of the longer side on which the regions that two views see are drawn into their image


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
    pixels, maps, points = _pixels(image), _array(maps), _array(points)
    titles = [f"point {i + 1}" for i in range(len(points))] if titles is None else list(titles)
    if not len(maps) == len(points) == len(titles):
        raise ValueError(f"{len(maps)} maps, {len(points)} points and {len(titles)} titles: they belong together")
    columns, rows = min(len(maps), 4), max(1, math.ceil(len(maps) / 4))
    aspect = pixels.shape[1] / pixels.shape[0]
    width = max(0.5, min(_PANEL, 1.6 * _PANEL * aspect))
    titles = [_fold(title, width) for title in titles]
    lines = [max([1, *(title.count("\n") + 1 for title in titles[4 * r : 4 * r + 4])]) for r in range(rows)]
    page = _Page([width] * (1 + columns), [width / aspect] * rows, [_LINE * n for n in lines])

    picture = page.panel(0, 0, pixels)
    page.heading(0, 0, "image")
    for i, (values, point, title) in enumerate(zip(maps, points, titles, strict=True)):
        _mark(picture, point, str(i + 1))
        panel = page.panel(i // 4, 1 + i % 4, pixels, values)
        page.heading(i // 4, 1 + i % 4, title)
        _mark(panel, point)
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
    pictures, points = [_pixels(image) for image in images], _array(points)
    aspects = [p.shape[1] / p.shape[0] for p in pictures]
    width = max(0.6, min(1.0, (_PAGE - _edges(len(columns))) / (1 + len(columns)) / _PANEL) * _PANEL)
    heads = [_fold(name, width) for name in columns]
    lines = max([1, *(head.count("\n") + 1 for head in heads)])
    heights = [width / max(aspect, 0.7) for aspect in aspects]
    page = _Page([width] * (1 + len(columns)), heights, [_LINE * lines] + [0.0] * (len(pictures) - 1))

    page.heading(0, 0, "image")
    for row, (pixels, point) in enumerate(zip(pictures, points, strict=True)):
        _mark(page.panel(row, 0, pixels), point)
    for column, (head, maps) in enumerate(zip(heads, columns.values(), strict=True), start=1):
        page.heading(0, column, head)
        for row, (pixels, point, values) in enumerate(zip(pictures, points, maps, strict=True)):
            _mark(page.panel(row, column, pixels, _array(values)), point)
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
    shares = [max(0.5, min(1.6, e.image.shape[1] / e.image.shape[0])) for e in examples]
    shares = [max(shares), 1.0, 1.0] + [max(shares)] * (len(heads) - 3)
    side = max(0.8, min(1.5, (_PAGE - _edges(len(heads) - 1)) / sum(shares)))
    heads = [_fold(head, share * side) for head, share in zip(heads, shares, strict=True)]
    below = [_LINE if any(example.flip) else 0.0 for example in examples]
    above = [_LINE * max(head.count("\n") + 1 for head in heads)] + [0.0] * (len(examples) - 1)
    page = _Page([share * side for share in shares], [side] * len(examples), above, below)

    for column, head in enumerate(heads):
        page.heading(0, column, head, _VIEWS[column - 1][0] if column in (1, 2) else "black")
    for row, example in enumerate(examples):
        image = page.panel(row, 0, example.image)
        _draw_crops(image, example)
        _mark(image, example.query)
        for v in range(2):
            panel = page.panel(row, 1 + v, example.views[v])
            _draw_view(panel, example, v)
        for column, values in enumerate(example.maps.values(), start=3):
            _mark(page.panel(row, column, example.image, _array(values)), example.query)
    page.colour_bar()
    return page.figure


def save(figure: Figure, file: str | Path, dpi: int = 150) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes. Makes the folder if need be.

    Args:
        file: its suffix says the format, .png, .pdf or .svg. dpi: of a PNG, and of the pictures inside the others
            (300 for print); lines and type of a PDF or SVG are vectors.

    Raises:
        ValueError: another suffix.
    """
    file = Path(file)
    no_dates: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    if file.suffix not in no_dates:
        raise ValueError(f"a figure can be a .png, .pdf or .svg file, not {file.name}")
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    # Names in an SVG are random unless salted; conferences want TrueType (42) in a PDF.
    with matplotlib.rc_context({"svg.hashsalt": "plrc", "pdf.fonttype": 42}):
        try:
            figure.savefig(unfinished, format=file.suffix[1:], dpi=dpi, metadata=no_dates[file.suffix])
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)


class _Page:
    """A figure of panels in rows and columns, of sizes in inches; a colour bar at the right."""

    def __init__(
        self, widths: Sequence[float], heights: Sequence[float], above: Sequence[float], below: Sequence[float] = ()
    ) -> None:
        below = below or [0.0] * len(heights)
        self._widths, self._heights = widths, heights
        self._left = np.cumsum([_MARGIN, *(w + _GAP for w in widths)])[:-1]
        self._width = sum(widths) + _edges(len(widths) - 1)
        down, self._top = _MARGIN, []
        for head, height, foot in zip(above, heights, below, strict=True):
            self._top.append(down + head)
            down = self._top[-1] + height + foot + _GAP
        self._height = max(down - _GAP, self._top[0] + _LOWEST_BAR) + _MARGIN
        self.figure = Figure(figsize=(self._width, self._height), facecolor="white")

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose top left corner is x, y inches from the figure's."""
        w, h = self._width, self._height
        return self.figure.add_axes((x / w, 1 - (y + height) / h, width / w, height / h))

    def panel(self, row: int, column: int, pixels: np.ndarray, values: np.ndarray | None = None) -> Axes:
        """A picture ``(H, W, 3)``, or a map ``(h, w)`` of cosines under its shadows, as large as its place allows."""
        h, w = pixels.shape[:2]
        width, height = self._widths[column], self._heights[row]
        scale = min(width / w, height / h)
        x, y = self._left[column] + (width - scale * w) / 2, self._top[row] + (height - scale * h) / 2
        axes = self._axes(x, y, scale * w, scale * h)
        axes.set(xlim=(0, w), ylim=(h, 0), xticks=[], yticks=[])
        axes.spines[:].set(linewidth=0.4, color="0.3")
        if values is None:
            _lay(axes, pixels, "picture")
        else:
            _lay(axes, values, "map", cmap=_COSINE, vmin=-1, vmax=1, interpolation="nearest")
            _lay(axes, _shadows(pixels), "shadows")
        return axes

    def heading(self, row: int, column: int, text: str, colour: str = "black") -> None:
        x, y = self._left[column] + self._widths[column] / 2, self._top[row] - 0.025
        at = (x / self._width, 1 - y / self._height)
        self.figure.text(*at, text, ha="center", va="bottom", fontsize=7, color=colour, linespacing=1.1)

    def colour_bar(self) -> None:
        """The colours of [−1, 1], beside all rows or, of many, their middle."""
        top, bottom = self._top[0], self._top[-1] + self._heights[-1]
        height = min(max(bottom - top, _LOWEST_BAR), 2.5)
        x, y = self._width - _MARGIN - sum(_BAR[1:]), max(top, (top + bottom - height) / 2)
        axes = self._axes(x, y, _BAR[1], height)
        ticks = [-1, -0.5, 0, 0.5, 1] if height > 0.8 else [-1, 0, 1]
        bar = self.figure.colorbar(ScalarMappable(Normalize(-1, 1), _COSINE), cax=axes, ticks=ticks)
        bar.ax.set_yticklabels([f"{tick:g}".replace("-", "−") for tick in ticks], fontsize=6, color="black")
        bar.ax.tick_params(length=2, width=0.4, pad=1.5, color="0.3")
        bar.ax.grid(False)
        bar.outline.set_linewidth(0.4)
        bar.ax.set_title("cosine", fontsize=6.5, color="black", loc="left", pad=5)


def _edges(gaps: int) -> float:
    """Width of all that is not panels."""
    return 2 * _MARGIN + gaps * _GAP + sum(_BAR)


def _fold(text: str, width: float) -> str:
    """A heading in lines that fit over a panel of this width."""
    return textwrap.fill(text, max(6, int(width * 72 / 3.9)))


def _lay(axes: Axes, values: np.ndarray, label: str, **how: Any) -> None:
    """An array over the whole panel: its cells are equal shares of it."""
    whole = (*axes.get_xlim(), *axes.get_ylim())
    axes.imshow(values, extent=whole, origin="upper", aspect="auto", label=label, **how)


def _array(values: np.ndarray | Tensor) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _pixels(image: np.ndarray | Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)


def _shadows(pixels: np.ndarray) -> np.ndarray:
    """Black ``(H, W, 4)`` uint8, opaque to ``_SHADOW`` where the picture is darkest: it multiplies what lies below."""
    light = pixels @ np.array([0.299, 0.587, 0.114])
    low, high = np.percentile(light, (2, 98))
    dark = ((high - light) / max(high - low, 1)).clip(0, 1)
    shadows = np.zeros((*pixels.shape[:2], 4), dtype=np.uint8)
    shadows[..., 3] = (255 * _SHADOW * dark).round()
    return shadows


def _mark(axes: Axes, point: np.ndarray, number: str = "") -> None:
    """A ring around a point of the panel's frame, seen on any ground, and perhaps a number beside it."""
    x, y = point[0] * axes.get_xlim()[1], point[1] * axes.get_ylim()[0]
    axes.plot(
        x, y, "o", markersize=5.5, markerfacecolor="none", markeredgecolor="white", markeredgewidth=1.2,
        path_effects=[withStroke(linewidth=2.4, foreground="black")], clip_on=False, label="point", zorder=6,
    )  # fmt: skip
    if number:
        right, below = point[0] < 0.85, point[1] < 0.15
        axes.annotate(
            number, (x, y), (4.5 if right else -4.5, -2.5 if below else 2.5), textcoords="offset points", fontsize=7.5,
            ha="left" if right else "right", va="top" if below else "bottom", color="white", weight="bold",
            path_effects=[withStroke(linewidth=1.8, foreground="black")], zorder=7,
        )  # fmt: skip


def _crops(example: Example) -> Crop:
    return Crop(torch.tensor(np.asarray(example.box)), torch.tensor(np.asarray(example.flip)))


def _draw_crops(axes: Axes, example: Example) -> None:
    """Both crops' outlines, with the borders of the regions that they show."""
    w, h = axes.get_xlim()[1], axes.get_ylim()[0]
    scale = _RASTER / max(w, h)
    rows, columns = max(1, round(h * scale)), max(1, round(w * scale))
    crops = _crops(example)
    centres = cell_centres(rows, columns).flatten(0, 1)
    seen = np.full(rows * columns, -1)
    for v in (1, 0):
        inside = crops[v].to_view(centres)
        shown = ((inside >= 0) & (inside < 1)).all(dim=1).numpy()
        row, column = cell_of(inside, *example.regions[v].shape)
        seen[shown] = example.regions[v][row.numpy(), column.numpy()][shown]
    _draw_borders(axes, seen.reshape(rows, columns))

    boxes = np.asarray(example.box).tolist()
    for v, (x0, y0, x1, y1) in enumerate(boxes):
        where = ((x0 * w, y0 * h), (x1 - x0) * w, (y1 - y0) * h)
        (colour, style), name = _VIEWS[v], f"view {v + 1}"
        axes.add_patch(Rectangle(*where, fill=False, clip_on=False, ec="white", lw=2.4, zorder=3))
        axes.add_patch(Rectangle(*where, fill=False, clip_on=False, ec=colour, ls=style, lw=1.3, zorder=4, label=name))
    for v, (i, j) in enumerate(_name_corners(boxes, example.query, axes)):
        corner = (boxes[v][2 * i] * w, boxes[v][2 * j + 1] * h)
        axes.annotate(
            f"view {v + 1}", corner, (-2 if i else 2, 2 if j else -2), textcoords="offset points", fontsize=5.5,
            ha="right" if i else "left", va="bottom" if j else "top", color="white", zorder=5,
            bbox={"boxstyle": "square,pad=0.25", "facecolor": _VIEWS[v][0], "edgecolor": "none"},
        )  # fmt: skip


def _name_corners(boxes: Sequence[Sequence[float]], query: np.ndarray, axes: Axes) -> list[tuple[int, int]]:
    """In which corner of its crop, (right, bottom) each 0 or 1, each view is named: clear of the other and the mark."""
    size = 72 * np.array(axes.get_window_extent().size) / axes.figure.dpi  # points
    label = np.array([22.0, 10.0])

    def clearance(corners: Iterable[tuple[int, int]]) -> tuple[float, float]:
        """Distances of the names, and of the nearer one from the mark, in labels: above 1 they do not touch."""
        one, two = (
            np.array([box[2 * i], box[2 * j + 1]]) * size + label / 2 * (1 - 2 * i, 1 - 2 * j)
            for box, (i, j) in zip(boxes, corners, strict=True)
        )
        pairs = ((one, two), (one, query * size), (two, query * size))
        apart, *from_mark = (float((np.abs(a - b) / label).max()) for a, b in pairs)
        return min(1.1, apart), min(1.1, *from_mark)

    every = [(0, 0), (1, 1), (1, 0), (0, 1)]
    choices = sorted(itertools.product(every, every), key=lambda c: c != ((0, 0), (1, 1)))  # preferred, if it will do
    return list(max(choices, key=clearance))


def _draw_view(axes: Axes, example: Example, v: int) -> None:
    """A view's regions and points, framed as its crop is outlined."""
    colour, style = _VIEWS[v]
    axes.spines[:].set(color=colour, linestyle=style, linewidth=1.3)
    side = axes.get_xlim()[1]
    regions, valid = np.asarray(example.regions[v]), np.asarray(example.valid, dtype=bool)
    shared, depth = valid[regions], _depth(regions)

    # Thin within and strong along the border: the picture stays visible and the colour is sure.
    tint = np.zeros((*regions.shape, 4))
    tint[..., :3] = np.array([to_rgb(c) for c in _REGIONS])[regions % len(_REGIONS)]
    tint[..., 3] = np.where(depth <= max(1, len(regions) // 28), 0.8, 0.2)
    tint[~shared] = (*to_rgb("0.6"), 0.6)
    _lay(axes, tint, "regions", interpolation="nearest")
    if not shared.all():
        diagonals = [[(t * side, 0), (t * side - side, side)] for t in np.arange(0.04, 2, 0.06)]
        hatch = LineCollection(diagonals, colors="0.35", linewidths=0.5, label="not seen by both")
        axes.add_collection(hatch, autolim=False)
        hatch.set_clip_path(_cells(~shared, side), axes.transData)
    _draw_borders(axes, regions)

    there = _crops(example)[v].to_view(torch.tensor(np.asarray(example.query))[None])[0].numpy()
    if ((there >= 0) & (there <= 1)).all():
        _mark(axes, there)
    if example.flip[v]:
        axes.set_xlabel("mirrored", fontsize=6, style="italic", color="black", labelpad=2)
    for r in np.unique(regions):
        if valid[r]:
            x, y = side * np.asarray(example.points[v][r]).T
            c = _REGIONS[r % len(_REGIONS)]
            axes.scatter(x, y, s=4.5, color=c, edgecolors="black", linewidths=0.3, label=f"region {r}", zorder=4)
        _number(axes, str(r), np.where(regions == r, depth, 0), there)


def _number(axes: Axes, number: str, depth: np.ndarray, ring: np.ndarray) -> None:
    """A region's number where there is most room, or none in a sliver.

    depth: ``(h, w)``, 0 outside the region. ring: ``(2,)`` in the frame, a mark to stay clear of.
    """
    h, w = depth.shape
    side = 72 * axes.get_window_extent().height / axes.figure.dpi  # points
    centres = cell_centres(h, w).numpy()
    room = np.minimum((depth - 0.5) * side / h, np.hypot(*np.moveaxis(centres - ring, 2, 0)) * side - 4)
    places = np.argwhere(room >= room.max() - 0.5)
    x, y = centres[tuple(places[np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()])]
    if room.max() > 1.5 + 1.3 * len(number):
        axes.text(
            x * axes.get_xlim()[1], y * axes.get_ylim()[0], number, fontsize=6, color="black", ha="center",
            va="center_baseline", path_effects=[withStroke(linewidth=1.4, foreground="white")], zorder=5,
        )  # fmt: skip


def _depth(regions: np.ndarray) -> np.ndarray:
    """How deep in its region each cell lies: 1 at a border, which the raster's edge is too."""
    h, w = regions.shape
    depth = np.zeros((h, w), dtype=int)
    names, inside = np.pad(regions.astype(int), 1, constant_values=-1), np.pad(np.ones((h, w), dtype=bool), 1)
    shifts = [np.s_[i : i + h, j : j + w] for i in range(3) for j in range(3)]
    while inside.any():
        depth += inside[1:-1, 1:-1]
        inside[1:-1, 1:-1] = np.all([inside[s] & (names[s] == regions) for s in shifts], axis=0)
    return depth


def _draw_borders(axes: Axes, regions: np.ndarray) -> None:
    """White lines along the edges of cells between different regions of a raster ``(h, w)`` over the whole panel."""
    h, w = regions.shape
    upright = [((j, a), (j, b)) for j, a, b in _runs((regions[:, 1:] != regions[:, :-1]).T)]
    level = [((a, i), (b, i)) for i, a, b in _runs(regions[1:] != regions[:-1])]
    size = np.array([axes.get_xlim()[1] / w, axes.get_ylim()[0] / h])
    lines = np.array(upright + level).reshape(-1, 2, 2) * size
    borders = LineCollection(list(lines), colors="white", linewidths=0.6, capstyle="projecting", label="borders")
    axes.add_collection(borders, autolim=False)


def _runs(edges: np.ndarray) -> list[tuple[int, int, int]]:
    """(line, start, end) of every run of True in the lines of ``(n, m)``; line i lies between cells i − 1 and i."""
    steps = np.diff(np.pad(edges.astype(int), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    return [(int(i) + 1, int(a), int(b)) for (i, a), (_, b) in zip(starts, ends, strict=True)]


def _cells(chosen: np.ndarray, side: float) -> Outline:
    """The outline of the chosen cells of a raster ``(h, w)`` over a panel of this side."""
    h, w = chosen.shape
    rows = [(i - 1, a, b) for i, a, b in _runs(chosen)]
    boxes = [Outline([(a, i), (b, i), (b, i + 1), (a, i + 1), (a, i)], closed=True) for i, a, b in rows]
    joined = Outline.make_compound_path(*boxes)
    return Outline(joined.vertices * np.array([side / w, side / h]), joined.codes)
