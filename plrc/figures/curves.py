"""Training curves: a small panel a quantity, steps across and epochs above, one run or several in each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from plrc.figures.colours import CATEGORIES
from plrc.figures.page import GAP, LINE, Page, fold

# Quantity of a log → heading, factor, whether it is smoothed: what varies from one log line to the next is. A loss that
# is not named here is drawn too, before the learning rate.
QUANTITIES = {
    "total": ("total loss, weighted", 1.0, True),
    "image": ("image loss", 1.0, True),
    "point": ("point loss", 1.0, True),
    "affinity": ("affinity loss", 1.0, True),
    "rpn_objectness": ("objectness of anchors, loss", 1.0, True),  # these five of a detector
    "rpn_box": ("boxes of anchors, loss", 1.0, True),
    "box_class": ("class of regions, loss", 1.0, True),
    "box_regression": ("boxes of regions, loss", 1.0, True),
    "mask": ("mask loss", 1.0, True),
    "lr": ("learning rate", 1.0, False),
    "images_per_second": ("images/s", 1.0, True),
    "data_wait": ("waiting for data, %", 100.0, True),
    "memory_mib": ("peak memory, GiB", 1 / 1024, False),
}
_LINES: tuple[Any, ...] = ("solid", (0, (3.5, 1.2)), (0, (1.1, 0.9)))  # run i has line i mod 3, colour i mod 8
_COLUMNS = 2
_WIDTH, _HEIGHT = 1.2, 0.72  # inches of a panel: two of them make a column of a paper, 3.4 inches
_NUMBERS = 0.31  # inches of the numbers at the left of a panel
_TICKS = 0.13  # inches of the numbers above or below
_END = 0.02  # inches, and a gap, for half of the last of them
_TYPE = 6.0  # points


def curves(
    runs: Mapping[str, Mapping[str, np.ndarray]], steps_per_epoch: float | None = None, smooth: int = 15
) -> Figure:
    """A panel for each quantity of which any run has a value; a column of a paper wide.

    Losses, speed and waiting vary from one log line to the next: the thin line is each value, the strong one the mean
    of ``smooth`` neighbouring log lines, centred, so that it does not lag; at both ends, of those there are. Where a
    value is not finite its line has a gap.

    Args:
        runs: name → quantity, a key of ``QUANTITIES``, a loss, or "step" → its values ``(n,)`` in order of steps, NaN
            where a log line has none; as in ``log.jsonl``: data_wait is a share, memory_mib is in MiB.
        steps_per_epoch: for the axis above, which is left out if it is None, as where the runs' differ.
        smooth: how many log lines the mean is of, odd; 1 for none.

    Raises:
        ValueError: there is no value to draw, a quantity is not as long as its steps, or ``smooth`` is no such number.
    """
    check_smooth(smooth)
    for name, of in runs.items():
        for quantity, values in of.items():
            if values.shape != of["step"].shape:
                raise ValueError(f"{quantity} of {name} has {len(values)} values for {len(of['step'])} steps")
    new = {q: (f"{q} loss", 1.0, True) for of in runs.values() for q in of if q not in ("step", "epoch", *QUANTITIES)}
    after = {q: QUANTITIES[q] for q in ("lr", "images_per_second", "data_wait", "memory_mib")}
    known = {q: about for q, about in QUANTITIES.items() if q not in after} | new | after
    drawn = [q for q in known if any(q in of and np.isfinite(of[q]).any() for of in runs.values())]
    if not drawn:
        raise ValueError("there is no curve to draw: the runs have no value yet")

    rows = math.ceil(len(drawn) / _COLUMNS)
    lowest = [i + _COLUMNS >= len(drawn) for i in range(len(drawn))]  # nothing is below them
    above = [LINE + 0.02 + (_TICKS if steps_per_epoch and not row else 0) for row in range(rows)]
    below = [_TICKS if any(lowest[_COLUMNS * row : _COLUMNS * (row + 1)]) else 0.0 for row in range(rows)]
    smoothed = smooth > 1 and any(known[q][2] for q in drawn)
    room = _COLUMNS * (_NUMBERS + _WIDTH + GAP)
    names = [fold(name, room - 0.4) for name in runs] if len(runs) > 1 else []
    foot = LINE * (sum(name.count("\n") + 1 for name in names) + smoothed)
    page = Page([*[_NUMBERS, _WIDTH] * _COLUMNS, _END], [_HEIGHT] * rows, above, below, None, foot + 0.06 * bool(foot))
    last = max(float(of["step"].max()) for of in runs.values() if len(of["step"]))
    for i, quantity in enumerate(drawn):
        row, column = divmod(i, _COLUMNS)
        axes = page.inset(row, 2 * column + 1, 0, _WIDTH, _HEIGHT)
        heading, factor, varies = known[quantity]
        for k, of in enumerate(runs.values()):
            if quantity in of:
                _curve(axes, of["step"], factor * of[quantity], k, smooth if varies else 1)
        _frame(axes, last, steps_per_epoch if row == 0 else None, lowest[i])
        _title(axes, heading, above[row] - LINE, quantity == "lr")
    if smoothed or names:
        _key(page.figure, names, smooth if smoothed else 1)
    return page.figure


def check_smooth(smooth: int) -> None:
    """Raise a ValueError if curves cannot be smoothed over so many log lines."""
    if smooth < 1 or smooth % 2 == 0:
        raise ValueError(f"curves are smoothed over an odd number of log lines (1: not at all), not {smooth}")


def running_mean(values: np.ndarray, n: int) -> np.ndarray:
    """The mean ``(m,)`` of each of the values ``(m,)`` and its neighbours, n (odd) together; fewer at both ends.

    Half of them come before and half after, so that a slope stays where it is. What is not finite counts as not there,
    and stays so.
    """
    there = np.isfinite(values)
    sums = np.concatenate(([0.0], np.where(there, values, 0.0).cumsum()))
    counts = np.concatenate(([0], there.cumsum()))
    at = np.arange(len(values))
    low, high = np.maximum(at - n // 2, 0), np.minimum(at + n // 2 + 1, len(values))
    return np.where(there, (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1), np.nan)


def _curve(axes: Axes, steps: np.ndarray, values: np.ndarray, k: int, smooth: int) -> None:
    values = np.where(np.isfinite(values), values, np.nan)
    colour, line = CATEGORIES[k % len(CATEGORIES)], _LINES[k % len(_LINES)]
    dot = "." if np.isfinite(values).sum() == 1 else None  # one value alone makes no line
    if smooth > 1:
        axes.plot(steps, values, color=colour, linewidth=0.45, alpha=0.5, label=f"values {k}", zorder=2)
    mean = running_mean(values, smooth)
    how: dict[str, Any] = {"linewidth": 1.1, "solid_capstyle": "butt", "dash_capstyle": "butt", "zorder": 3}
    axes.plot(steps, mean, color=colour, linestyle=line, marker=dot, markersize=3, label=f"curve {k}", **how)


def _frame(axes: Axes, last: float, steps_per_epoch: float | None, lowest: bool) -> None:
    axes.set_xlim(0, max(last, 1.0))
    axes.spines[:].set(linewidth=0.4, color="0.3")
    axes.grid(True, axis="y", linewidth=0.3, color="0.88", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    ticks = [t for t in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(*axes.get_ylim()) if _inside(axes, t)]
    axes.set_yticks(ticks, [f"{t:.5g}".replace("-", "−") for t in ticks])
    steps = _whole_numbers(last)
    axes.set_xticks(steps, [_short(t) for t in steps] if lowest else [""] * len(steps))
    axes.tick_params(length=2, width=0.4, pad=1.5, labelsize=_TYPE, labelcolor="black", color="0.3")
    small: dict[str, Any] = {"fontsize": _TYPE, "color": "0.25", "ha": "right", "textcoords": "offset points"}
    if lowest:
        axes.annotate("step", (0, 0), (-6, -3.5), xycoords="axes fraction", va="top", **small)
    if steps_per_epoch:
        top = axes.secondary_xaxis(
            "top", functions=(partial(np.multiply, 1 / steps_per_epoch), partial(np.multiply, steps_per_epoch))
        )
        epochs = _whole_numbers(max(last, 1.0) / steps_per_epoch)
        top.set_xticks(epochs, [_short(t) for t in epochs])
        top.tick_params(length=2, width=0.4, pad=1.5, labelsize=_TYPE, labelcolor="black", color="0.3")
        top.spines["top"].set(linewidth=0.4, color="0.3")
        axes.annotate("epoch", (0, 1), (-6, 3), xycoords="axes fraction", va="bottom", **small)


def _title(axes: Axes, heading: str, above: float, is_rate: bool) -> None:
    """Over a panel and the numbers above it. Of the learning rate, the power of ten that its numbers leave out."""
    if is_rate:
        ticks = [float(t) for t in np.asarray(axes.get_yticks())]
        highest = max(abs(t) for t in ticks) if ticks else 0.0
        power = math.floor(math.log10(highest)) if highest > 0 else 0
        if power < -1:
            axes.set_yticks(ticks, [f"{t / 10.0**power:.3g}" for t in ticks])
            heading += f", 10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    axes.set_title(heading, fontsize=7, color="black", pad=1 + 72 * above, y=1.0, parse_math=False)


def _key(figure: Figure, names: Sequence[str], smooth: int) -> None:
    """Which line is which run, and which is smoothed, at the lower left of the page."""
    how: dict[str, Any] = {"frameon": False, "borderpad": 0, "borderaxespad": 0, "fontsize": _TYPE, "labelcolor": "0.1"}
    width, height = figure.get_size_inches()
    left, bottom = 0.1, 0.05
    if smooth > 1:
        ink = "0.25" if names else CATEGORIES[0]
        lines = [Line2D([], [], color=ink, linewidth=0.45, alpha=0.7), Line2D([], [], color=ink, linewidth=1.1)]
        texts = ["each log line", f"mean of {smooth} log lines, centred"]
        at = (left / width, bottom / height)
        figure.legend(
            lines, texts, loc="lower left", bbox_to_anchor=at, ncols=2, handlelength=2.6, handletextpad=0.5, **how
        )
        bottom += LINE
    if names:
        lines = [
            Line2D([], [], color=CATEGORIES[k % len(CATEGORIES)], linestyle=_LINES[k % len(_LINES)], linewidth=1.3)
            for k in range(len(names))
        ]
        at = (left / width, bottom / height)
        figure.legend(
            lines, names, loc="lower left", bbox_to_anchor=at, handlelength=2.6, labelspacing=0.35, handletextpad=0.5,
            **how,
        )  # fmt: skip


def _inside(axes: Axes, value: float) -> bool:
    low, high = axes.get_ylim()
    return low <= value <= high


def _whole_numbers(last: float) -> list[float]:
    """Ticks from 0 to at most last, whole ones if that is 2 or more."""
    found = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=last >= 2).tick_values(0, last)
    return [float(t) for t in found if 0 <= t <= last]


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10000 else f"{value:g}"
