"""What a detector loses its AP50 by: a bar a kind of error, under the AP50 that it reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plrc.figures.colours import RIGHT, WRONG
from plrc.figures.page import LINE, Page, fold, height_of

# Kind of error → what it is. TIDE's kinds (Bolya et al., ECCV 2020) and its overlaps, 0.5 and 0.1.
KINDS = {
    "classification": "right place, wrong class",
    "localisation": "right class, IoU 0.1 … 0.5",
    "both": "wrong class, IoU 0.1 … 0.5",
    "duplicate": "object that is already found",
    "background": "no object there, IoU < 0.1",
    "missed": "not found, none of the above",
}
_NAMES, _BARS, _COUNTS = 1.3, 1.55, 0.4  # inches of the columns: together a column of a paper
_ROW, _BAR = 0.25, 0.13  # inches of a row and of the bar in it
_AXIS = 0.13  # inches of numbers under bars
_TYPE = 6.0  # points
_MEANING = "Bar: AP50 that would be gained if this kind alone were put right; they do not add up."


def error_types(
    lost: Mapping[str, float], counts: Mapping[str, int], ap50: float, title: str = "", note: str = _MEANING
) -> Figure:
    """Horizontal bars of the AP50 lost by each kind of error, how many there are, and the AP50 reached over them.

    A column of a paper wide. The bars of what is lost have their own range, since a loss is often a few points.

    Args:
        lost: kind, a key of ``KINDS`` → AP50 that it costs, a share (0.05 is drawn as 5 points); not finite where
            nobody knows; below 0 where putting it right would do harm.
        counts: kind → how many detections are wrong so; of "missed", how many objects.
        ap50: what is reached, a share in [0, 1]. title: over all. note: at the foot.

    Raises:
        ValueError: the kinds are not those of ``KINDS``, a number is no share, or there is no AP50.
    """
    for what, of in (("lost AP50", lost), ("counts", counts)):
        if set(of) != set(KINDS):
            wrong = sorted(set(of) ^ set(KINDS))[0]
            raise ValueError(f"{what}: {wrong} is missing or no kind of error: they are {', '.join(KINDS)}")
    if math.isnan(ap50):
        raise ValueError("there is no AP50 to lose anything of: no class has an object")
    if not 0 <= ap50 <= 1 or any(abs(share) > 1 for share in lost.values()):
        raise ValueError("an AP50 or its loss is outside [0, 1]: give shares, not per cent")
    whole = _NAMES + _BARS + _COUNTS
    title = fold(title, 0.9 * whole) if title else ""
    above = [height_of([title]) + 0.06 * bool(title), LINE + 0.04]
    heights = [_ROW, _ROW * len(KINDS)]
    page = Page([_NAMES, _BARS, _COUNTS], heights, above, [_AXIS, _AXIS], None, 0.02, note)
    if title:
        page.at_top(title)

    reached = page.inset(0, 1, 0, _BARS, _ROW)
    _frame(reached, 0, 100, [0, 25, 50, 75, 100], 1)
    reached.barh(0.5, 100, _BAR / _ROW, color="none", edgecolor="0.6", linewidth=0.4, label="all", zorder=1)
    reached.barh(0.5, 100 * ap50, _BAR / _ROW, color=RIGHT[0], label="AP50", zorder=2)
    _name(page.inset(0, 0, 0, _NAMES, _ROW), 0.5, 1, "AP50 reached", "of 100")
    _number(page.inset(0, 2, 0, _COUNTS, _ROW), 0.5, 1, f"{100 * ap50:.1f}", "bold")

    points = {kind: 100 * lost[kind] for kind in KINDS}
    known = [value for value in points.values() if math.isfinite(value)]
    low, high = min(0.0, *known, 0.0), max(1.0, *known, 0.0)
    high += 0.28 * (high - low)  # room for the number at the end of the longest bar
    ticks = [t for t in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= t <= high]
    losses = page.inset(1, 1, 0, _BARS, heights[1])
    _frame(losses, low, high, ticks, len(KINDS))
    names, numbers = page.inset(1, 0, 0, _NAMES, heights[1]), page.inset(1, 2, 0, _COUNTS, heights[1])
    for i, (kind, meaning) in enumerate(KINDS.items()):
        _name(names, i + 0.5, len(KINDS), kind, meaning)
        _number(numbers, i + 0.5, len(KINDS), f"{counts[kind]:,}".replace(",", "\u202f"))
        value = points[kind]
        if math.isfinite(value):
            losses.barh(i + 0.5, value, _BAR / _ROW, color=WRONG[0], label=kind, zorder=2)
        text = f"{value:.1f}".replace("-", "−") if math.isfinite(value) else "–"
        end = max(value, 0.0) if math.isfinite(value) else 0.0
        losses.annotate(
            text, (end, i + 0.5), (2, 0), textcoords="offset points", fontsize=_TYPE, va="center_baseline", ha="left",
            color="black",
        )  # fmt: skip
    page.heading(1, 1, "points of AP50 lost")
    page.heading(1, 2, "count")
    return page.figure


def _frame(axes: Axes, low: float, high: float, ticks: list[float], rows: int) -> None:
    """Rows from the top, a line at 0, and light lines at the other numbers."""
    axes.set(xlim=(low, high), ylim=(rows, 0), yticks=[])
    axes.set_xticks(ticks, [f"{t:g}".replace("-", "−") for t in ticks])
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.grid(True, axis="x", linewidth=0.3, color="0.88")
    axes.set_axisbelow(True)
    axes.axvline(0, color="0.3", linewidth=0.5, label="_", zorder=3)
    axes.tick_params(axis="x", length=0, pad=1.5, labelsize=_TYPE, labelcolor="black")


def _name(axes: Axes, y: float, rows: int, name: str, meaning: str) -> None:
    """At the right of its column, what a row is and, smaller in grey, what that means."""
    axes.set(xlim=(0, 1), ylim=(rows, 0))
    axes.set_axis_off()
    how: dict[str, Any] = {"ha": "right", "textcoords": "offset points"}
    axes.annotate(name, (1, y), (0, 0.4), fontsize=6.5, color="black", va="bottom", **how)
    axes.annotate(meaning, (1, y), (0, -0.4), fontsize=_TYPE, color="0.4", va="top", **how)


def _number(axes: Axes, y: float, rows: int, number: str, weight: str = "normal") -> None:
    axes.set(xlim=(0, 1), ylim=(rows, 0))
    axes.set_axis_off()
    axes.text(0.85, y, number, fontsize=_TYPE, color="black", ha="right", va="center_baseline", weight=weight)
