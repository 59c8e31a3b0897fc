"""A view as PLRC sees it: its regions, numbered, and the points drawn in those that both views see."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes

from plrc.figures.colours import VIEWS, region_colours
from plrc.figures.example import Example
from plrc.figures.panels import mark, size
from plrc.figures.rasters import UNMATCHED, depth_in_region, draw_regions, hatch, number


def draw_view(axes: Axes, example: Example, v: int) -> None:
    """Regions and points in the panel of view v, framed as its crop is outlined."""
    colour, style = VIEWS[v]
    axes.spines[:].set(color=colour, linestyle=style, linewidth=1.3)
    if example.flip[v]:
        axes.set_xlabel("mirrored", fontsize=6, style="italic", color="black", labelpad=2)
    regions, valid = np.asarray(example.regions[v]), np.asarray(example.valid, dtype=bool)
    depth = depth_in_region(regions)
    shared = valid[regions]
    draw_regions(axes, regions, depth, np.where(shared[..., None], region_colours(regions), UNMATCHED))
    if not shared.all():
        hatch(axes, ~shared, "not seen by both")

    there = example.crops[v].to_view(torch.tensor(np.asarray(example.query))[None])[0].numpy()
    if ((there >= 0) & (there <= 1)).all():
        mark(axes, there)
    for r in np.unique(regions):
        if valid[r]:
            x, y = (np.asarray(example.points[v][r]) * size(axes)).T
            c = region_colours(r)
            axes.scatter(x, y, s=4.5, color=c, edgecolors="black", linewidths=0.3, label=f"region {r}", zorder=4)
        number(axes, str(r), np.where(regions == r, depth, 0), there)
