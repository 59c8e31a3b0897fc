"""Rasters of regions over a whole panel: the borders between them, and how deep in one a cell lies."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.path import Path as Outline

from plrc.figures.panels import size


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


def draw_borders(axes: Axes, regions: np.ndarray) -> None:
    """White lines along the edges of cells between different regions of ``(h, w)``."""
    h, w = regions.shape
    upright = [((j, a), (j, b)) for j, a, b in _runs((regions[:, 1:] != regions[:, :-1]).T)]
    level = [((a, i), (b, i)) for i, a, b in _runs(regions[1:] != regions[:-1])]
    lines = np.array(upright + level).reshape(-1, 2, 2) * (size(axes) / (w, h))
    borders = LineCollection(list(lines), colors="white", linewidths=0.6, capstyle="projecting", label="borders")
    axes.add_collection(borders, autolim=False)


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
