"""Scores: a panel a measure, in it a row a network and a trivial baseline, with a mark at the mean and its interval."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from plrc.figures.colours import CATEGORIES
from plrc.figures.page import GAP, LINE, Page, fold, height_of, room

Interval = tuple[float, float, float]  # mean, low, high
_PAGE = 7.0  # inches
_NAMES, _LEAST_NAMES = 1.5, 0.6  # inches of the rows' names
_NARROWEST, _WIDEST, _ROW = 1.4, 2.5, 0.15  # of a panel, and of a row in it, inches
_NUMBER = 0.38  # inches of the number at the right
_COLUMNS = 3
_AXIS = 0.17  # inches of the numbers of the axis
_HEAD = 7.0  # points
_GREY = "0.4"
_OPEN = ("s", "D", "^", "v", "p", "h")  # marks of the baselines
_BAR: dict[str, Any] = {"linewidth": 1.5, "solid_capstyle": "butt"}


def score_chart(
    scores: Mapping[str, Mapping[str, Interval]],
    baselines: Sequence[str] = (),
    order: Collection[str] | None = None,
    title: str = "",
    details: str = "",
    width: float = _PAGE,
) -> Figure:
    """A panel a measure, a row a network: its mean as a dot with a number at the right, its 95 % interval as a bar.

    Below the networks a row each baseline: in grey, with an open mark of its own. A name has the same row in every
    panel; where a measure has no value of it there is a dash. Each measure has its own range, which need not begin at
    0, since marks have no length.

    Args:
        scores: measure ("distance-matched AUC, n = 40") → network or baseline → (mean, low, high); not a number where
            there is none.
        baselines: which of the names are baselines, from the top.
        order: of the networks, from the top: the one of their colours, to be the same in several charts; as they come
            in the scores if not given. Names that do not occur keep their colour and have no row.
        title, details: over all panels. width: inches of the figure at most: 7 of a page, 3.3 of one of its two
            columns. Type has its size in points either way.

    Raises:
        ValueError: there is no measure or no network, an interval does not hold its mean, or ``order`` lacks a network.
    """
    networks, colours, trivial = _rows(scores, baselines, order)
    names = [*networks, *trivial]
    longest = max(len(name) for name in names)
    left = min(_NAMES, max(_LEAST_NAMES, 0.058 * longest + 0.05), 0.38 * width)
    labels = [fold(_drawable(name), left) for name in names]
    row_heights = [max(_ROW, 0.105 * (label.count("\n") + 1) + 0.03) for label in labels]
    centres = np.cumsum(row_heights) - np.array(row_heights) / 2

    columns, wide = _columns(scores, width, left)
    over = wide if columns > 1 else left + GAP + wide  # a heading may begin over the names if there is one column
    heads = [_heading(measure, over) for measure in scores]
    rows = math.ceil(len(scores) / columns)
    above = [height_of(heads[columns * r : columns * (r + 1)]) + 0.03 for r in range(rows)]
    whole = left + columns * (GAP + wide)
    title, details = fold(_drawable(title), 0.9 * whole), fold(_drawable(details), 1.15 * whole)
    above[0] += height_of([title]) + height_of([details]) + 0.08 * bool(title)
    widths = [left] + [wide] * columns
    page = Page(widths, [sum(row_heights)] * rows, above, [_AXIS] * rows, None, 0.05 + LINE)
    if title:
        page.at_top(title, details)
    for i, (head, row) in enumerate(zip(heads, scores.values(), strict=True)):
        at = (i // columns, 1 + i % columns)
        axes = page.inset(*at, 0, wide, sum(row_heights))
        axes.set_ylim(sum(row_heights), 0)
        _frame(axes, row, wide)
        _write(axes, (1 - over / wide, 1), head, (0, 3), fontsize=_HEAD, va="bottom", color="black", linespacing=1.1)
        if at[1] == 1:
            axes.set_yticks(centres, labels, parse_math=False)
            for tick in axes.get_yticklabels()[len(networks) :]:
                tick.set_color(_GREY)
        if trivial:
            axes.axhline(sum(row_heights[: len(networks)]), color="0.85", linewidth=0.5, label="_", zorder=0.5)
        for name, y in zip(names, centres, strict=True):
            how = _dot(colours[name]) if name in colours else _open(trivial.index(name))
            _mark(axes, name, row.get(name, (math.nan,) * 3), float(y), how)
    kinds = [{**_dot(CATEGORIES[0]), **_BAR}] + [{**_open(0), **_BAR}] * bool(trivial)
    words = ["network: mean, 95 % interval", "baseline"] if trivial else ["mean, 95 % interval"]
    page.key([Line2D([], [], **kind) for kind in kinds], words)
    return page.figure


def _rows(
    scores: Mapping[str, Mapping[str, Interval]], baselines: Sequence[str], order: Collection[str] | None
) -> tuple[list[str], dict[str, str], list[str]]:
    """The networks and their colours, and the baselines that occur, from the top."""
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
    return networks, colours, [name for name in baselines if name in names]


def _columns(measures: Collection[str], width: float, left: float) -> tuple[int, float]:
    """As many columns of panels as their headings leave room for, at least one, and a panel's width."""
    needed = max(_NARROWEST, *(_length(measure) for measure in measures))
    for columns in range(min(_COLUMNS, len(measures)), 0, -1):
        space = (room(columns + 1, None) - _PAGE + width - left) / columns
        if space >= needed or columns == 1:
            break
    return columns, min(_WIDEST, space)


def _heading(measure: str, width: float) -> str:
    """In one line where there is room, which there nearly always is; "n = 12" is never torn apart."""
    return measure if _length(measure) <= width else fold(measure.replace(" = ", "\xa0=\xa0"), width)


def _length(heading: str) -> float:
    """Inches."""
    return text_to_path.get_text_width_height_descent(heading, FontProperties(size=_HEAD), False)[0] / 72 + 0.02


def _drawable(name: str) -> str:
    """Bytes of a file's name that are no UTF-8 as escapes: no font has them."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


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
    for tick in ticks:
        axes.axvline(tick, color="0.9", linewidth=0.5, label="_", zorder=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(linewidth=0.4, color="0.3")
    axes.tick_params(axis="x", length=2, width=0.4, pad=1.5, labelsize=6, labelcolor="black", color="0.3")
    axes.tick_params(axis="y", length=0, pad=3, labelsize=6.5, labelcolor="black")


def _dot(colour: str) -> dict[str, Any]:
    return {"color": colour, "marker": "o", "markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.5}


def _open(k: int) -> dict[str, Any]:
    mark: dict[str, Any] = {"marker": _OPEN[k % len(_OPEN)], "markersize": 3.8, "markerfacecolor": "white"}
    return {"color": _GREY, **mark, "markeredgecolor": _GREY, "markeredgewidth": 0.9}


def _mark(axes: Axes, name: str, interval: Interval, y: float, how: Mapping[str, Any]) -> None:
    """A row: the interval, the mean over it, and its number at the right."""
    mean, low, high = interval
    number = f"{mean:.3f}".replace("-", "−") if math.isfinite(mean) else "–"
    at: dict[str, Any] = {"fontsize": 6, "ha": "right", "va": "center_baseline"}
    axes.text(1, y, number, color="black", transform=axes.get_yaxis_transform(), **at)
    if math.isfinite(mean):
        axes.plot([low, high], [y, y], color=how["color"], label=f"interval of {name}", zorder=3, **_BAR)
        axes.plot(mean, y, label=name, zorder=4, **how)


def _write(axes: Axes, at: tuple[float, float], text: str, offset: tuple[float, float], **how: Any) -> None:
    """At a share of the panel's width and height, so many points off; a file's name may have dollars."""
    axes.annotate(
        text, at, offset, xycoords="axes fraction", textcoords="offset points", parse_math=False, annotation_clip=False,
        **how,
    )  # fmt: skip
