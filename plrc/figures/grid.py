"""Panels in rows and columns, laid out by matplotlib; pictures, maps, marks and region rasters in the image frame.

A panel's coordinates are those of its picture's frame, (x, y) in [0, 1], y downward, whatever the resolution: cell
``(row i, column j)`` of an ``h × w`` map covers ``j/w … (j + 1)/w`` of the width, as ``plrc.geometry`` has it, or of
the map's extent where that reaches beyond the picture.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import Collection, LineCollection
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from PIL import Image
from scipy import ndimage
from torch import Tensor

from plrc.data.images import as_image
from plrc.figures.style import GREY, LOOK, PAGE, Scale, line
from plrc.geometry import cell_centres, cell_of

Picture = str | Path | Image.Image | np.ndarray | Tensor  # whatever ``as_image`` takes
Values = np.ndarray | Tensor
Extent = np.ndarray | Tensor | Sequence[float]  # how far right and down a map reaches, the picture being 1
WHOLE = (1.0, 1.0)
UNMATCHED = to_rgb(LOOK["unmatched"])
_LONGER = 160  # cells of the longer side of an enlarged raster


def as_array(values: Values | Sequence[float]) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def as_pixels(image: Picture) -> np.ndarray:
    """``(H, W, 3)`` uint8 of a path, a PIL image, an array or a tensor; see ``plrc.data.images.as_image``."""
    return np.asarray(as_image(image))


def aspect(pixels: np.ndarray) -> float:
    """Width of a picture ``(H, W, 3)``, its height being 1."""
    return pixels.shape[1] / pixels.shape[0]


def letters(inches: float, size: float = 6.0) -> int:
    """How many letters of this size (points) a line has."""
    return max(6, int(inches * 72 / (0.62 * size)))


def fold(text: str, inches: float, size: float = 6.0) -> str:
    """Text in lines that fit into this width."""
    wide = letters(inches, size)
    return "\n".join(textwrap.fill(part, wide) for part in text.splitlines())


def cut(name: str, most: int = 28) -> str:
    """A name of at most so many letters: of a long one its beginning and end."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most - most // 2) :]}"


# --------------------------------------------------------------------------------------------------------- the page


def page(rows: Sequence[float], columns: Sequence[float], width: float = PAGE) -> tuple[SubFigure, np.ndarray]:
    """A page with panels of these heights and widths, in any unit; it gets its own height in ``finish``.

    Returns:
        The body of the page, to which legends belong, and its axes ``(rows, columns)``.
    """
    height = width * sum(rows) / sum(columns) + 0.3 * len(rows) + 0.8
    body: Any = Figure(figsize=(width, height), layout="constrained").subfigures()
    ratios = {"height_ratios": list(rows), "width_ratios": list(columns)}
    return body, body.subplots(len(rows), len(columns), squeeze=False, gridspec_kw=ratios)


def finish(body: SubFigure, note: str = "", title: str = "", details: str = "") -> Figure:
    """The page, with a note at its foot and a headline, as high as its panels need to keep their proportions.

    note: how it was drawn, in small grey type. details: smaller, under the title.
    """
    figure = body.figure.get_figure(root=True)
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    if title:
        figure.suptitle(fold(title, width - 0.2, 8), x=0.01, ha="left")
    if details:
        body.suptitle(fold(details, width - 0.1), x=0.01, ha="left", fontsize=6, color=GREY, weight="normal")
    if note:
        figure.supxlabel(fold(note, width - 0.1), x=0.01, ha="left", fontsize=6, color="0.45")
    for artist in figure.findobj(lambda artist: isinstance(artist, (Line2D, Collection, AxesImage, Patch))):
        artist.set_in_layout(False)  # what lies inside of panels needs no room, and costs time
    axes = next(axes for axes in body.axes if axes.get_subplotspec())
    spec = axes.get_subplotspec()
    engine = figure.get_layout_engine()
    assert spec
    assert engine
    grid: Any = spec.get_gridspec()
    aspects = {panel: panel.get_aspect() for panel in body.axes}
    for panel in aspects:  # to fill its place, or what stands around it would need no room of its own
        panel.set_aspect("auto")
    engine.execute(figure)
    cell = axes.get_position(original=True).transformed(body.transSubfigure)
    unit = cell.width / figure.dpi / grid.get_width_ratios()[spec.colspan.start]
    now = cell.height / figure.dpi / grid.get_height_ratios()[spec.rowspan.start]
    figure.set_figheight(height + (unit - now) * sum(grid.get_height_ratios()))
    for panel, aspect_wanted in aspects.items():
        panel.set_aspect(aspect_wanted)
    engine.execute(figure)
    for panel in aspects:
        panel.apply_aspect()
    figure.set_layout_engine("none")
    return figure


def colour_bar(body: SubFigure, axes: Iterable[Axes], scale: Scale, height: float) -> None:
    """The colours of a scale beside panels, or below them if there is little height (inches)."""
    beside = height > 0.75
    ticks = scale.ticks(4 if height > 1 or not beside else 2)
    length = min(height, 2.5) if beside else 1.5
    share = length / height if beside else 0.4
    bar = body.colorbar(
        ScalarMappable(Normalize(scale.low, scale.high), scale.colours), ax=list(axes), ticks=ticks,
        extend=scale.beyond, location="right" if beside else "bottom", shrink=min(1.0, share), aspect=length / 0.08,
        pad=0.02, panchor=False, label=scale.quantity,
    )  # fmt: skip
    bar.set_ticklabels(scale.labels(ticks))
    bar.outline.set_linewidth(0.4)


# ---------------------------------------------------------------------------------------------------------- panels


def show(axes: Axes, values: np.ndarray, ratio: float, label: str, extent: Extent = WHOLE, **how: Any) -> None:
    """An array over the whole panel of a picture of this aspect, or beyond it where its extent does."""
    right, below = as_array(extent)
    axes.imshow(values, extent=(0, right, below, 0), origin="upper", aspect=1 / ratio, label=label, **how)
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], anchor="N")
    axes.yaxis.set_visible(False)


def show_picture(axes: Axes, pixels: np.ndarray) -> None:
    show(axes, pixels, aspect(pixels), "picture")


def show_map(axes: Axes, values: np.ndarray, ratio: float, scale: Scale, extent: Extent = WHOLE) -> None:
    """A map ``(h, w)`` of values of a picture of this aspect, opaque, with sharp cells."""
    show(axes, values, ratio, "map", extent, cmap=scale.colours, vmin=scale.low, vmax=scale.high)


def frame(axes: Axes, v: int) -> None:
    """Frame a panel in the colour and line of view ``v`` (0 or 1)."""
    axes.spines[:].set(linewidth=1.3, **line(LOOK["views"][v]))


def mark(axes: Axes, points: np.ndarray, number: str = "", negative: bool = False) -> None:
    """A ring around each of the points ``(n, 2)``, seen on any ground, and perhaps a number beside it.

    White in black; of a negative point black in white, filled, with a bar across it.
    """
    ink, rim = ("black", "white") if negative else ("white", "black")
    for x, y in points:
        axes.plot(
            x, y, "o", markersize=5.5, markerfacecolor=rim if negative else "none", markeredgecolor=ink,
            markeredgewidth=1.2, path_effects=[withStroke(linewidth=2.4, foreground=rim)], clip_on=False, zorder=6,
            label="negative point" if negative else "point",
        )  # fmt: skip
        if negative:
            axes.plot(x, y, "_", markersize=5, markeredgecolor=ink, markeredgewidth=1.2, clip_on=False, zorder=6)
        if number:
            right, below = x < 0.85, y < 0.3
            axes.annotate(
                number, (x, y), (4.5 if right else -4.5, -2.5 if below else 2.5), textcoords="offset points",
                fontsize=7.5, ha="left" if right else "right", va="top" if below else "bottom", color="white",
                weight="bold", path_effects=[withStroke(linewidth=1.8, foreground="black")], zorder=7,
            ).set_in_layout(False)  # fmt: skip


def outline(axes: Axes, mask: Values) -> None:
    """The border of an object's mask ``(h, w)`` bool over the whole panel, white in black."""
    inside = np.pad(as_array(mask).astype(float), 1)
    y, x = ((np.arange(n) - 0.5) / (n - 2) for n in inside.shape)
    for width, colour in ((1.6, "black"), (0.7, "white")):
        axes.contour(x, y, inside, [0.5], colors=colour, linewidths=width)


# --------------------------------------------------------------------------------------------------------- regions


def enlarge(regions: np.ndarray, w: float, h: float) -> np.ndarray:
    """A raster on about square cells of a picture of these proportions, 160 along the longer side."""
    scale = _LONGER / max(w, h)
    rows, columns = max(1, round(h * scale)), max(1, round(w * scale))
    row, column = cell_of(cell_centres(rows, columns), *regions.shape)
    return regions[row.numpy(), column.numpy()]


def depth_in_region(regions: np.ndarray) -> np.ndarray:
    """How deep in its region each cell of ``(h, w)`` lies: 1 at a border, which the raster's edge is too."""
    depth = np.zeros(regions.shape, dtype=int)
    for r in np.unique(regions):
        depth += ndimage.distance_transform_cdt(np.pad(regions == r, 1), "chessboard")[1:-1, 1:-1]
    return depth


def region_tint(regions: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """RGBA ``(h, w, 4)`` in [0, 1] of regions over a picture: thin within, so that it stays visible, strong at borders.

    Args:
        regions: ``(h, w)``; negative is no region and has no colour. colours: ``(h, w, 3)``; grey where ``UNMATCHED``.
    """
    opacity = np.where(depth_in_region(regions) <= max(1, min(regions.shape) // 28), 0.8, 0.2)
    opacity = np.where((colours == UNMATCHED).all(axis=2), 0.6, opacity)
    return np.dstack((colours, np.where(regions < 0, 0.0, opacity)))


def draw_borders(axes: Axes, regions: np.ndarray, extent: Extent = WHOLE, halo: bool = False) -> None:
    """White lines along the edges of cells between different regions of ``(h, w)``, which reach so far.

    halo: with a dark rim, to be seen on a picture that nothing is laid over.
    """
    h, w = regions.shape
    i, j = np.nonzero(regions[:, 1:] != regions[:, :-1])
    upright = np.stack((j + 1, i, j + 1, i + 1), axis=1)
    i, j = np.nonzero(regions[1:] != regions[:-1])
    level = np.stack((j, i + 1, j + 1, i + 1), axis=1)
    lines = np.concatenate((upright, level)).reshape(-1, 2, 2) * (as_array(extent) / (w, h))
    borders = LineCollection(list(lines), colors="white", linewidths=0.6, capstyle="projecting", label="borders")
    if halo:
        borders.set_path_effects([withStroke(linewidth=1.4, foreground="0.15")])
    axes.add_collection(borders, autolim=False)


def draw_regions(
    axes: Axes, regions: np.ndarray, colours: np.ndarray, numbered: Iterable[int], ring: np.ndarray | None = None
) -> None:
    """Regions ``(h, w)`` in their colours ``(h, w, 3)`` over a picture, and the borders between them.

    numbered: those with their number where there is most room, if there is any. ring: ``(n, 2)``, marks to keep clear.
    """
    ratio = 1 / float(axes.get_aspect())
    show(axes, region_tint(regions, colours), ratio, "regions")
    draw_borders(axes, regions)
    h, w = regions.shape
    centres, depth = cell_centres(h, w).numpy(), depth_in_region(regions)
    for point in () if ring is None else ring:
        depth = np.where(np.abs(centres - point).max(axis=2) < 0.1, 0, depth)
    for r in numbered:
        inside = np.where(regions == r, depth, 0)
        places = np.argwhere(inside >= max(1, inside.max()))
        if inside.max() < max(2, min(h, w) / 25):
            continue
        middle = places[np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()]
        x, y = centres[middle[0], middle[1]]
        axes.text(
            x, y, str(r), color="black", ha="center", va="center_baseline",
            path_effects=[withStroke(linewidth=1.4, foreground="white")], zorder=5,
        )  # fmt: skip
