"""Panels in rows and columns, laid out by matplotlib; images, maps, marks and region rasters in them.

A panel's coordinates are those of its image's frame, (x, y) in [0, 1], y downward, whatever the resolution, as
``plrc.geometry`` has them; a map may reach beyond it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from scipy import ndimage
from torch import Tensor

from plrc.data.images import as_image
from plrc.figures.style import GREY, LOOK, Scale, line
from plrc.geometry import cell_centres, cell_of

Picture = str | Path | Image.Image | np.ndarray | Tensor  # whatever ``as_image`` takes
Values = np.ndarray | Tensor
Extent = np.ndarray | Tensor | Sequence[float]  # how far right and down a map reaches, the image being 1
WHOLE = (1.0, 1.0)
UNMATCHED = to_rgb(LOOK["unmatched"])
_LONGER = 160  # cells of the longer side of an enlarged raster


def as_array(values: Values | Sequence[float]) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def as_pixels(image: Picture) -> np.ndarray:
    """``(H, W, 3)`` uint8 of a path, a PIL image, an array or a tensor; see ``plrc.data.images.as_image``."""
    return np.asarray(as_image(image))


def aspect(pixels: np.ndarray) -> float:
    """Width of an image ``(H, W, 3)``, its height being 1."""
    return pixels.shape[1] / pixels.shape[0]


def each(n: int, of: str, /, **given: Any) -> None:
    """Raise a ValueError unless each of the parts that are given has so many values."""
    for name, values in given.items():
        if values is not None and not isinstance(values, str) and len(values) != n:
            raise ValueError(f"{name}: {len(values)} for {n} {of}: give one for each")


def letters(inches: float, size: float = 6.0) -> int:
    """How many letters of this size (points) a line has."""
    return max(6, int(inches * 72 / (0.62 * size)))


def fold(text: str, inches: float, size: float = 6.0) -> str:
    """Text in lines that fit into this width."""
    return "\n".join(textwrap.fill(part, letters(inches, size)) for part in text.splitlines())


def cut(name: str, most: int = 28) -> str:
    """A name of at most so many letters: of a long one its beginning and end."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most - most // 2) :]}"


def page(rows: Sequence[float], columns: Sequence[float], width: float, used: int = 0) -> tuple[Any, np.ndarray]:
    """The body of a page, to which legends belong, and its axes, of these heights and widths in any unit.

    used: how many of the axes, from the first one on, if not all.
    """
    height = width * sum(rows) / sum(columns) + 0.3 * len(rows) + 0.8
    body: Any = Figure(figsize=(width, height), layout="constrained").subfigures()
    ratios = {"height_ratios": list(rows), "width_ratios": list(columns)}
    axes = body.subplots(len(rows), len(columns), squeeze=False, gridspec_kw=ratios)
    for unused in axes.flat[used or axes.size :]:
        unused.set_axis_off()
    return body, axes


def finish(body: Any, note: str = "", title: str = "", details: str = "") -> Figure:
    """The page, with note, title and details under it, as high as its panels need to keep their proportions."""
    figure = body.figure
    width, height = figure.get_size_inches()
    small = {"fontsize": 6, "weight": "normal"}
    for write, text, size, how in (
        (figure.suptitle, title, 8.5, {}),
        (body.suptitle, details, 6, {**small, "color": GREY}),
        (figure.supxlabel, note, 6, {**small, "color": "0.45"}),
    ):
        if text:
            write(fold(text, width - 0.1, size), x=0.01, ha="left", **how)
    for panel in figure.findobj(Axes):  # what lies inside of panels needs no room, and costs time
        for artist in (*panel.lines, *panel.collections, *panel.images, *panel.patches):
            artist.set_in_layout(False)
    first, grid, lay_out = body.axes[0], body.axes[0].get_gridspec(), figure.get_layout_engine().execute
    aspects = {panel: panel.get_aspect() for panel in body.axes}
    for panel in aspects:  # to fill its place, or what stands around it would need no room of its own
        panel.set_aspect("auto")
    lay_out(figure)
    unit, now = first.bbox.width / grid.get_width_ratios()[0], first.bbox.height / grid.get_height_ratios()[0]
    figure.set_figheight(height + (unit - now) / figure.dpi * sum(grid.get_height_ratios()))
    lay_out(figure)
    for panel, wanted in aspects.items():
        panel.set_aspect(wanted)
        panel.apply_aspect()
    figure.set_layout_engine("none")
    return figure


def colour_bar(body: Any, axes: Iterable[Axes], scale: Scale, height: float) -> None:
    """The colours of a scale beside panels, or below them if there is little height (inches)."""
    beside = height > 0.75
    ticks = scale.ticks(2 if 0.75 < height <= 1 else 4)
    length, share = (min(height, 2.5), min(1.0, 2.5 / height)) if beside else (1.5, 0.4)
    bar = body.colorbar(
        ScalarMappable(Normalize(scale.low, scale.high), scale.colours), ax=list(axes), ticks=ticks,
        extend=scale.beyond, location="right" if beside else "bottom", shrink=share, aspect=length / 0.08, pad=0.02,
        panchor=False, label=scale.quantity,
    )  # fmt: skip
    bar.set_ticklabels(scale.labels(ticks))
    bar.outline.set_linewidth(0.4)


def show(
    axes: Axes, values: np.ndarray, ratio: float, label: str, extent: Extent = WHOLE, scale: Scale | None = None
) -> None:
    """Colours, or values of a scale, over the whole panel of an image of this aspect, or beyond it to their extent."""
    how: dict[str, Any] = {"origin": "upper", "aspect": 1 / ratio, "label": label}
    if scale and values.ndim == 2:
        how |= {"cmap": scale.colours, "vmin": scale.low, "vmax": scale.high}
    right, below = as_array(extent)
    axes.imshow(values, extent=(0, right, below, 0), **how)
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], anchor="N")
    axes.yaxis.set_visible(False)


def show_picture(axes: Axes, pixels: np.ndarray) -> None:
    show(axes, pixels, aspect(pixels), "picture")


def frame(axes: Axes, v: int) -> None:
    """Frame a panel in the colour and line of view ``v`` (0 or 1)."""
    axes.spines[:].set(linewidth=1.3, **line(LOOK["views"][v]))


def halo(width: float, colour: str = "white") -> list[Any]:
    """``path_effects``: a rim of so many points across, with which a line or a text is seen on any ground."""
    return [withStroke(linewidth=width, foreground=colour)]


def mark(axes: Axes, points: np.ndarray, number: str = "", negative: bool = False) -> None:
    """A ring around each of the points ``(n, 2)``, white in black; a negative one is black in white, with a bar."""
    ink, rim = ("black", "white") if negative else ("white", "black")
    look: dict[str, Any] = {"mec": ink, "mew": 1.2, "clip_on": False, "zorder": 6}
    rings = axes.plot(*points.T, "o", ms=5.5, mfc=rim if negative else "none", path_effects=halo(2.4, rim), **look)
    rings[0].set_label("negative point" if negative else "point")
    if negative:
        axes.plot(*points.T, "_", ms=5, **look)
    for x, y in points if number else ():
        right, below = x < 0.85, y < 0.3
        axes.annotate(
            number, (x, y), (4.5 if right else -4.5, -2.5 if below else 2.5), textcoords="offset points", fontsize=7.5,
            ha="left" if right else "right", va="top" if below else "bottom", color="white", weight="bold",
            path_effects=halo(1.8, "black"), zorder=7,
        ).set_in_layout(False)  # fmt: skip


def outline(axes: Axes, mask: Values) -> None:
    """The border of an object's mask ``(h, w)`` bool over the whole panel, white in black."""
    borders = border(as_array(mask))
    for width, colour in ((1.6, "black"), (0.7, "white")):
        axes.add_collection(LineCollection(borders, colors=colour, linewidths=width))


def border(mask: np.ndarray) -> list[np.ndarray]:
    """The closed lines ``(k, 2)`` around a mask ``(h, w)`` bool, x and y as shares of its sides."""
    from skimage.measure import find_contours  # takes a quarter of a second to import

    sides = mask.shape[::-1]
    return [(line[:, ::-1] - 0.5) / sides for line in find_contours(np.pad(mask.astype(float), 1), 0.5)]


def enlarge(regions: np.ndarray, w: float, h: float) -> np.ndarray:
    """A raster on about square cells of an image of these proportions, 160 along the longer side."""
    scale = _LONGER / max(w, h)
    rows, columns = (max(1, round(side * scale)) for side in (h, w))
    row, column = cell_of(cell_centres(rows, columns), *regions.shape)
    return regions[row.numpy(), column.numpy()]


def depth_in_region(regions: np.ndarray) -> np.ndarray:
    """How deep in its region each cell of ``(h, w)`` lies: 1 at a border, which the raster's edge is too."""
    depth = np.zeros(regions.shape, dtype=int)
    for r in np.unique(regions):
        depth += ndimage.distance_transform_cdt(np.pad(regions == r, 1), "chessboard")[1:-1, 1:-1]
    return depth


def region_tint(regions: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """RGBA ``(h, w, 4)`` in [0, 1] of regions over an image: thin within, so that it stays visible, strong at borders.

    regions: ``(h, w)``; negative is no region and has no colour. colours: ``(h, w, 3)``; grey where ``UNMATCHED``.
    """
    opacity = np.where(depth_in_region(regions) <= max(1, min(regions.shape) // 28), 0.8, 0.2)
    opacity = np.where((colours == UNMATCHED).all(axis=2), 0.6, opacity)
    return np.dstack((colours, np.where(regions < 0, 0.0, opacity)))


def draw_borders(axes: Axes, regions: np.ndarray, extent: Extent = WHOLE, rim: float = 0.0) -> None:
    """White lines between the different regions of ``(h, w)``, with a dark rim of so many points across."""
    (i, j), (k, m) = (np.nonzero(np.diff(regions, axis=axis)) for axis in (1, 0))
    edges = np.hstack(((j + 1, i, j + 1, i + 1), (m, k + 1, m + 1, k + 1))).T.reshape(-1, 2, 2)
    lines = list(edges * (as_array(extent) / regions.shape[::-1]))
    borders = LineCollection(lines, colors="white", linewidths=0.6, capstyle="projecting", label="borders")
    borders.set_path_effects(halo(rim, "0.15") if rim else [])
    axes.add_collection(borders, autolim=False)


def draw_regions(
    axes: Axes, regions: np.ndarray, colours: np.ndarray, numbered: Iterable[int], clear: np.ndarray | None = None
) -> None:
    """Regions ``(h, w)`` in their colours ``(h, w, 3)`` over an image, some numbered where there is most room.

    clear: ``(n, 2)``, marks that numbers keep off.
    """
    show(axes, region_tint(regions, colours), 1 / float(axes.get_aspect()), "regions")
    draw_borders(axes, regions)
    centres, depth = cell_centres(*regions.shape).numpy(), depth_in_region(regions)
    for point in () if clear is None else clear:
        depth = np.where(np.abs(centres - point).max(axis=2) < 0.1, 0, depth)
    for r in numbered:
        inside = np.where(regions == r, depth, 0)
        if inside.max() < max(2, min(regions.shape) / 25):
            continue
        places = np.argwhere(inside == inside.max())
        i, j = places[np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()]
        x, y = centres[i, j]
        text = axes.text(x, y, str(r), ha="center", va="center_baseline", zorder=5)
        text.set_path_effects(halo(1.4))
