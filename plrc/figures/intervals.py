"""Scores: a dot and its interval for each network, a panel a measure, trivial baselines as lines across."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from plrc.figures.colours import CATEGORIES
from plrc.figures.page import LINE, Page, fold, height_of, room

Interval = tuple[float, float, float]  # mean, low, high
_NAMES, _LEAST_NAMES = 1.5, 0.6  # inches of the networks' names
_WIDEST, _ROW = 2.2, 0.16  # of a panel, and of a network in it, inches
_NUMBER = 0.3  # inches of the number beside a dot
_COLUMNS = 3
_AXIS = 0.17  # inches of the numbers of the axis
_DASHES = ((0, (4, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1)), (0, (7, 2)))
_GREYS = ("0.35", "0.35", "0.35", "0.6", "0.6")


def score_chart(
    scores: Mapping[str, Mapping[str, Interval]], baselines: Collection[str] = (), order: Collection[str] | None = None
) -> Figure:
    """A panel a measure: each network's mean as a dot with a number, its interval as a bar; baselines as grey lines.

    A network has the same row and colour in every panel; where a measure has no value of it there is a dash. Each
    measure has its own range, which need not begin at 0, since dots have no length.

    Args:
        scores: measure ("distance-matched AUC, n = 40") → network or baseline → (mean, low, high); not a number where
            there is none.
        baselines: which of the names are baselines: dashed lines across the panel, with their interval shaded.
        order: of the networks, from the top: the one of their colours, to be the same in several charts; as they come
            in the scores if not given. Names that do not occur keep their colour and have no row.

    Raises:
        ValueError: there is no measure or no network, an interval does not hold its mean, or ``order`` lacks a network.
    """
    names = list(dict.fromkeys(name for row in scores.values() for name in row))
    networks = [name for name in names if name not in baselines]
    if not networks:
        raise ValueError("there is nothing to compare: no measure has a value of a network")
    for measure, row in scores.items():
        for name, (mean, low, high) in row.items():
            if low > mean or mean > high:
                raise ValueError(f"{measure} of {name}: the mean {mean} is outside its interval, {low} to {high}")
    every = networks if order is None else list(order)
    lacking = [name for name in networks if name not in every]
    if lacking:
        raise ValueError(f"the order of networks, {', '.join(every)}, lacks {lacking[0]}")
    networks = [name for name in every if name in networks]
    colours = {name: CATEGORIES[every.index(name) % len(CATEGORIES)] for name in networks}
    lines = [name for name in names if name in baselines]

    longest = max(len(name) for name in networks)
    left = min(_NAMES, max(_LEAST_NAMES, 0.058 * longest + 0.05))
    labels = [fold(name, 0.95 * left) for name in networks]
    row_heights = [max(_ROW, 0.105 * (label.count("\n") + 1) + 0.03) for label in labels]
    columns = min(_COLUMNS, len(scores))
    width = min(_WIDEST, (room(columns + 1, None) - left) / columns)
    heads = [fold(measure, width) for measure in scores]
    rows = math.ceil(len(scores) / columns)
    above = [height_of(heads[columns * r : columns * (r + 1)]) for r in range(rows)]
    foot = 0.04 + LINE if lines else 0.0
    page = Page([left] + [width] * columns, [sum(row_heights)] * rows, above, [_AXIS] * rows, None, foot)
    centres = np.cumsum(row_heights) - np.array(row_heights) / 2
    for i, (head, row) in enumerate(zip(heads, scores.values(), strict=True)):
        at = (i // columns, 1 + i % columns)
        page.heading(*at, head)
        axes = page.inset(*at, 0, width, sum(row_heights))
        axes.set_ylim(sum(row_heights), 0)
        _frame(axes, row, width)
        if at[1] == 1:
            axes.set_yticks(centres, labels, parse_math=False)
        for k, name in enumerate(lines):
            if name in row:
                _baseline(axes, name, row[name], k)
        for name, y in zip(networks, centres, strict=True):
            _dot(axes, name, row.get(name, (math.nan,) * 3), float(y), colours[name])
    if lines:
        page.key([Line2D([], [], linewidth=1, **_dash(k)) for k in range(len(lines))], lines)
    return page.figure


def _frame(axes: Axes, row: Mapping[str, Interval], width: float) -> None:
    """The range of a measure, with room for the numbers at the right."""
    values = np.array([v for interval in row.values() for v in interval], dtype=float)
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    span = max(high - low, 0.02)
    low, high = (low + high - span) / 2 - 0.06 * span, (low + high + span) / 2 + 0.06 * span
    axes.set_xlim(low, low + (high - low) * width / (width - _NUMBER))
    ticks = [t for t in MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= t <= high]
    axes.set_xticks(ticks, [f"{t:.4g}".replace("-", "−") for t in ticks])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(linewidth=0.4, color="0.3")
    axes.tick_params(axis="x", length=2, width=0.4, pad=1.5, labelsize=6, labelcolor="black", color="0.3")
    axes.tick_params(axis="y", length=0, pad=3, labelsize=6.5, labelcolor="black")


def _baseline(axes: Axes, name: str, interval: Interval, k: int) -> None:
    mean, low, high = interval
    if math.isfinite(mean):
        axes.axvspan(low, high, facecolor="0.5", alpha=0.13, linewidth=0, label=f"interval of {name}", zorder=0.5)
        axes.axvline(mean, linewidth=0.9, label=name, zorder=1, **_dash(k))


def _dash(k: int) -> dict[str, Any]:
    return {"color": _GREYS[k % len(_GREYS)], "linestyle": _DASHES[k % len(_DASHES)]}


def _dot(axes: Axes, name: str, interval: Interval, y: float, colour: str) -> None:
    mean, low, high = interval
    at: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": 6, "ha": "right"}
    if not math.isfinite(mean):
        axes.text(1, y, "–", color="0.4", va="center_baseline", **at)
        return
    bar: dict[str, Any] = {"linewidth": 1.6, "solid_capstyle": "butt", "zorder": 3}
    axes.plot([low, high], [y, y], color=colour, label=f"interval of {name}", **bar)
    dot: dict[str, Any] = {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": 4}
    axes.plot(mean, y, "o", color=colour, label=name, **dot)
    axes.text(1, y, f"{mean:.2f}".replace("-", "−"), color="black", va="center_baseline", **at)
