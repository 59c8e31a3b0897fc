"""Rasters of regions over a whole panel: the borders between them, and how deep in one a cell lies."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke

from plrc.figures.panels import WHOLE, Extent, as_array, lay, size, size_in_points
from plrc.geometry import cell_centres, cell_of

_LONGER = 160  # cells of the longer side of an enlarged raster
UNMATCHED = (0.6, 0.6, 0.6)  # of a region that has no counterpart


def depth_in_region(regions: np.ndarray) -> np.ndarray:
    """How deep in its region each cell of ``(h, w)`` lies: 1 at a border, which the raster's edge is too."""
    h, w = regions.shape
    depth = np.zeros((h, w), dtype=int)
    names, inside = np.pad(regions.astype(int), 1, constant_values=-1), np.pad(np.ones((h, w), dtype=bool), 1)
    shifts = [np.s_[i : i + h, j : j + w] for i in range(3) for j in range(3)]
    while inside.any():
        depth += inside[1:-1, 1:-1]
        inside[1:-1, 1:-1] = np.all([inside[s] & (names[s] == regions) for s in shifts], axis=0)
    return depth


def enlarge(regions: np.ndarray, w: float, h: float) -> np.ndarray:
    """A raster on about square cells of a picture of these proportions, 160 along the longer side."""
    scale = _LONGER / max(w, h)
    rows, columns = max(1, round(h * scale)), max(1, round(w * scale))
    row, column = cell_of(cell_centres(rows, columns), *regions.shape)
    return regions[row.numpy(), column.numpy()]


def draw_borders(axes: Axes, regions: np.ndarray, extent: Extent = WHOLE, halo: bool = False) -> None:
    """White lines along the edges of cells between different regions of ``(h, w)``, which reach so far.

    halo: with a dark rim, to be seen on a picture that nothing is laid over.
    """
    h, w = regions.shape
    upright = [((j, a), (j, b)) for j, a, b in _runs((regions[:, 1:] != regions[:, :-1]).T)]
    level = [((a, i), (b, i)) for i, a, b in _runs(regions[1:] != regions[:-1])]
    lines = np.array(upright + level).reshape(-1, 2, 2) * (as_array(extent) * size(axes) / (w, h))
    borders = LineCollection(list(lines), colors="white", linewidths=0.6, capstyle="projecting", label="borders")
    if halo:
        borders.set_path_effects([withStroke(linewidth=1.4, foreground="0.15")])
    axes.add_collection(borders, autolim=False)


def draw_regions(axes: Axes, regions: np.ndarray, depth: np.ndarray, colours: np.ndarray) -> None:
    """Each region in its colour over a picture, and the borders between them.

    regions, depth: ``(h, w)``, and ``depth_in_region`` of it; −1 is no region and has no colour.
    colours: ``(h, w, 3)``; grey where ``UNMATCHED``.
    """
    # Thin within and strong along the border: the picture stays visible and the colour is sure.
    opacity = np.where(depth <= max(1, min(regions.shape) // 28), 0.8, 0.2)
    opacity = np.where((colours == UNMATCHED).all(axis=2), 0.6, opacity)
    opacity = np.where(regions < 0, 0.0, opacity)
    lay(axes, np.dstack((colours, opacity)), "regions", interpolation="nearest")
    draw_borders(axes, regions)


def number(axes: Axes, text: str, depth: np.ndarray, ring: np.ndarray | None = None) -> None:
    """A region's number where there is most room, or none in a sliver.

    depth: ``(h, w)``, 0 outside the region. ring: ``(2,)`` in the frame, a mark to stay clear of.
    """
    h, w = depth.shape
    sides = size_in_points(axes)
    centres = cell_centres(h, w).numpy()
    room = (depth - 0.5) * min(sides / (w, h))
    if ring is not None:
        room = np.minimum(room, np.hypot(*np.moveaxis((centres - ring) * sides, 2, 0)) - 4)
    places = np.argwhere(room >= room.max() - 0.5)
    middle = centres[tuple(places[np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()])]
    if room.max() > 1.5 + 1.3 * len(text):
        x, y = middle * size(axes)
        axes.text(
            x, y, text, fontsize=6, color="black", ha="center", va="center_baseline",
            path_effects=[withStroke(linewidth=1.4, foreground="white")], zorder=5,
        )  # fmt: skip


def hatch(axes: Axes, chosen: np.ndarray, label: str) -> None:
    """Diagonal lines over the chosen cells, at least one, of ``(h, w)`` bool over a square panel."""
    h, w = chosen.shape
    side = size(axes)[0]
    diagonals = [[(t * side, 0), (t * side - side, side)] for t in np.arange(0.04, 2, 0.06)]
    lines = LineCollection(diagonals, colors="0.35", linewidths=0.5, label=label)
    axes.add_collection(lines, autolim=False)
    rows = [(i - 1, a, b) for i, a, b in _runs(chosen)]
    boxes = [Outline([(a, i), (b, i), (b, i + 1), (a, i + 1), (a, i)], closed=True) for i, a, b in rows]
    joined = Outline.make_compound_path(*boxes)
    outline = Outline(np.asarray(joined.vertices) * (size(axes) / (w, h)), joined.codes)
    lines.set_clip_path(outline, axes.transData)


def _runs(edges: np.ndarray) -> list[tuple[int, int, int]]:
    """(line, start, end) of every run of True in the lines of ``(n, m)``; line i lies between cells i − 1 and i."""
    steps = np.diff(np.pad(edges.astype(int), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    return [(int(i) + 1, int(a), int(b)) for (i, a), (_, b) in zip(starts, ends, strict=True)]
