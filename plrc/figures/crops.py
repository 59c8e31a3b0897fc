"""The two crops of an example, outlined and named in its image, with the borders of the regions that they show."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from plrc.figures.colours import VIEWS
from plrc.figures.example import Example
from plrc.figures.panels import size, size_in_points
from plrc.figures.rasters import draw_borders
from plrc.geometry import cell_centres, cell_of

_RASTER = 160  # cells of the longer side on which the regions that two views see are drawn into their image


def draw_crops(axes: Axes, example: Example) -> None:
    """Both crops in the panel of the image."""
    w, h = size(axes)
    draw_borders(axes, _regions_seen(example, w, h))

    boxes = np.asarray(example.box).tolist()
    corners = _name_corners(boxes, example.query, size_in_points(axes))
    for v, ((x0, y0, x1, y1), (right, bottom)) in enumerate(zip(boxes, corners, strict=True)):
        where = ((x0 * w, y0 * h), (x1 - x0) * w, (y1 - y0) * h)
        (colour, style), name = VIEWS[v], f"view {v + 1}"
        axes.add_patch(Rectangle(*where, fill=False, clip_on=False, ec="white", lw=2.4, zorder=3))
        axes.add_patch(Rectangle(*where, fill=False, clip_on=False, ec=colour, ls=style, lw=1.3, zorder=4, label=name))
        axes.annotate(
            name, ((x1 if right else x0) * w, (y1 if bottom else y0) * h), (-2 if right else 2, 2 if bottom else -2),
            textcoords="offset points", fontsize=5.5, color="white", zorder=5,
            ha="right" if right else "left", va="bottom" if bottom else "top",
            bbox={"boxstyle": "square,pad=0.25", "facecolor": colour, "edgecolor": "none"},
        )  # fmt: skip


def _regions_seen(example: Example, w: float, h: float) -> np.ndarray:
    """A raster of the image: the region that a view shows there, view 1 where both do; −1 where neither does."""
    scale = _RASTER / max(w, h)
    rows, columns = max(1, round(h * scale)), max(1, round(w * scale))
    centres = cell_centres(rows, columns).flatten(0, 1)
    seen = np.full(rows * columns, -1)
    for v in (1, 0):
        inside = example.crops[v].to_view(centres)
        shown = ((inside >= 0) & (inside < 1)).all(dim=1).numpy()
        row, column = cell_of(inside, *example.regions[v].shape)
        seen[shown] = example.regions[v][row.numpy(), column.numpy()][shown]
    return seen.reshape(rows, columns)


def _name_corners(
    boxes: Sequence[Sequence[float]], query: np.ndarray, panel: np.ndarray
) -> tuple[tuple[int, int], tuple[int, int]]:
    """In which corner of its crop, (right, bottom) each 0 or 1, each view is named: clear of the other and the mark.

    panel: its width and height in points.
    """
    label = np.array([22.0, 10.0])

    def clearance(corners: Iterable[tuple[int, int]]) -> tuple[float, float]:
        """Distances of the names, and of the nearer one from the mark, in labels: above 1 they do not touch."""
        one, two = (
            np.array([box[2 * i], box[2 * j + 1]]) * panel + label / 2 * (1 - 2 * i, 1 - 2 * j)
            for box, (i, j) in zip(boxes, corners, strict=True)
        )
        pairs = ((one, two), (one, query * panel), (two, query * panel))
        apart, *from_mark = (float((np.abs(a - b) / label).max()) for a, b in pairs)
        return min(1.1, apart), min(1.1, *from_mark)

    every = [(0, 0), (1, 1), (1, 0), (0, 1)]
    choices = sorted(itertools.product(every, every), key=lambda c: c != ((0, 0), (1, 1)))  # preferred, if it will do
    return max(choices, key=clearance)
