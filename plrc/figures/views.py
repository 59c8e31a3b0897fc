"""A view as PLRC sees it: its regions, numbered, and the points drawn in those that both views see."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patheffects import withStroke

from plrc.figures.colours import VIEWS, region_colours
from plrc.figures.example import Example
from plrc.figures.panels import lay, mark, size, size_in_points
from plrc.figures.rasters import depth_in_region, draw_borders, hatch
from plrc.geometry import cell_centres


def draw_view(axes: Axes, example: Example, v: int) -> None:
    """Regions and points in the panel of view v, framed as its crop is outlined."""
    colour, style = VIEWS[v]
    axes.spines[:].set(color=colour, linestyle=style, linewidth=1.3)
    if example.flip[v]:
        axes.set_xlabel("mirrored", fontsize=6, style="italic", color="black", labelpad=2)
    regions, valid = np.asarray(example.regions[v]), np.asarray(example.valid, dtype=bool)
    depth = depth_in_region(regions)
    _draw_regions(axes, regions, depth, valid[regions])

    there = example.crops[v].to_view(torch.tensor(np.asarray(example.query))[None])[0].numpy()
    if ((there >= 0) & (there <= 1)).all():
        mark(axes, there)
    for r in np.unique(regions):
        if valid[r]:
            x, y = (np.asarray(example.points[v][r]) * size(axes)).T
            c = region_colours(r)
            axes.scatter(x, y, s=4.5, color=c, edgecolors="black", linewidths=0.3, label=f"region {r}", zorder=4)
        _number(axes, str(r), np.where(regions == r, depth, 0), there)


def _draw_regions(axes: Axes, regions: np.ndarray, depth: np.ndarray, shared: np.ndarray) -> None:
    """Each region in its colour; grey and hatched where it is not shared. All ``(h, w)``."""
    # Thin within and strong along the border: the picture stays visible and the colour is sure.
    opacity = np.where(depth <= max(1, len(regions) // 28), 0.8, 0.2)
    tint = np.dstack((region_colours(regions), opacity))
    tint[~shared] = to_rgba("0.6", 0.6)
    lay(axes, tint, "regions", interpolation="nearest")
    if not shared.all():
        hatch(axes, ~shared, "not seen by both")
    draw_borders(axes, regions)


def _number(axes: Axes, number: str, depth: np.ndarray, ring: np.ndarray) -> None:
    """A region's number where there is most room, or none in a sliver.

    depth: ``(h, w)``, 0 outside the region. ring: ``(2,)`` in the frame, a mark to stay clear of.
    """
    h, w = depth.shape
    _, side = size_in_points(axes)
    centres = cell_centres(h, w).numpy()
    room = np.minimum((depth - 0.5) * side / h, np.hypot(*np.moveaxis(centres - ring, 2, 0)) * side - 4)
    places = np.argwhere(room >= room.max() - 0.5)
    middle = centres[tuple(places[np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()])]
    if room.max() > 1.5 + 1.3 * len(number):
        x, y = middle * size(axes)
        axes.text(
            x, y, number, fontsize=6, color="black", ha="center", va="center_baseline",
            path_effects=[withStroke(linewidth=1.4, foreground="white")], zorder=5,
        )  # fmt: skip
