"""Precision against recall: a thin line a class, the mean over classes bold, and AP50 beside each name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from plrc.figures.colours import CATEGORIES, OTHER
from plrc.figures.page import Page, fold, height_of

Curve = np.ndarray | tuple[np.ndarray, np.ndarray]
GRID = np.linspace(0, 1, 101)  # COCO's recall thresholds
_NAMED, _ENDS = 8, 3  # classes named at most; of more, so many of the best and of the worst
_LINES: tuple[Any, ...] = ("solid", (0, (3.5, 1.2)), (0, (1.1, 0.9)))  # of eight, class k has colour k, line k mod 3
_BOLD: dict[str, Any] = {"color": "black", "linewidth": 2.0, "zorder": 4, "solid_capstyle": "butt"}
_SIDE, _AXIS, _UNDER = 2.6, 0.36, 0.3  # inches of the plane, and of what stands at its left and below it
_ROW, _SAMPLE, _NUMBER, _WIDEST = 0.125, 0.3, 0.3, 1.5  # inches of the key: a row, a line, a number, a name at most
_TYPE = 6.0  # points


class _Row(NamedTuple):
    """A line of the key, and how its curve is drawn."""

    name: str
    number: str
    look: Mapping[str, Any] | None  # None: it only says how many there are


def precision_recall(curves: Mapping[str, Curve], ap: Mapping[str, float], title: str = "", note: str = "") -> Figure:
    """Precision over recall at IoU 0.5 of each class, and their mean; half a page to a page's width.

    Up to eight classes are named, by falling AP50; of more, the best three and the worst three are, and the others are
    grey. A line ends, straight down, at the highest recall that its class reaches. A class without any object has
    neither precision nor AP: it is counted in the key, and not part of the mean.

    Args:
        curves: class → precision ``(101,)`` in [0, 1] at the recalls 0, 0.01 … 1, 0 where that recall is not reached
            (COCO's); or a pair of recall and precision ``(n,)``, a point a detection by falling score (VOC's), whose
            envelope is drawn: the best precision at this or a higher recall.
        ap: class → its AP50, a share in [0, 1]; not finite or negative (COCO has −1) of a class without objects.
        title: over the plane. note: how it was drawn, at the foot.

    Raises:
        ValueError: there is no class with an AP; the two differ in their classes; an AP is no share; or a curve is not
            of these shapes.
    """
    if set(curves) != set(ap):
        only = sorted(set(curves) ^ set(ap))[0]
        raise ValueError(f"{only} has a curve or an AP and not both: give both of every class")
    for name, value in ap.items():
        if value > 1:
            raise ValueError(f"the AP of {name} is {value}: give shares in [0, 1], not per cent")
    ranked = sorted((name for name in ap if ap[name] >= 0), key=lambda name: -ap[name])
    if not ranked:
        raise ValueError("there is no curve to draw: no class has an object")
    steps = {name: _steps(name, curves[name]) for name in ranked}
    mean = sum(ap[name] for name in ranked) / len(ranked)

    rows = _rows(ranked, ap, mean, len(ap) - len(ranked))
    widest = min(_WIDEST, max(_width(row.name) for row in rows))
    key = _SAMPLE + widest + _NUMBER
    headline, whole = _headline(ranked, mean), _AXIS + _SIDE + key
    title = fold(title, 0.9 * whole) if title else headline
    details = fold(headline, 1.15 * whole) if title != headline else ""
    above = [height_of([title]) + height_of([details]) + 0.06]
    page = Page([_AXIS, _SIDE, key], [_SIDE], above, [_UNDER], None, note=note)
    page.at_top(title, details)

    axes = page.inset(0, 1, 0, _SIDE, _SIDE)
    _frame(axes)
    looks = {row.name: row.look for row in rows if row.look}
    for name in reversed(ranked):  # the best on top
        look = looks.get(name, {"color": OTHER, "linewidth": 0.5, "zorder": 2})
        axes.plot(*steps[name], drawstyle="steps-pre", label=name, **look)
    if len(ranked) > 1:
        axes.plot(*_mean(list(steps.values())), drawstyle="steps-pre", label="mean", **_BOLD)
    _draw_key(page.inset(0, 2, 0, key, _SIDE), rows, widest)
    return page.figure


def _steps(name: str, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Recall, from 0, and the precision up to there; at the highest recall that is reached it falls to 0."""
    if isinstance(curve, np.ndarray):
        recall, precision = GRID, curve.astype(float)
    else:
        recall, precision = (np.asarray(part, dtype=float) for part in curve)
    if recall.ndim != 1 or recall.shape != precision.shape:
        raise ValueError(
            f"the curve of {name} is of shape {precision.shape}: give precision (101,), or recall and precision (n,)"
        )
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    reached = precision > 0
    recall, precision = recall[reached], precision[reached]
    if not len(recall):
        return np.zeros(1), np.zeros(1)
    return np.r_[0.0, recall, recall[-1]], np.r_[precision[0], precision, 0.0]


def _mean(every: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean precision at each of the 101 recalls, as far as any class reaches."""
    at = []
    for recall, precision in every:
        place = np.searchsorted(recall, GRID - 1e-9)  # the first step that goes as far
        at.append(np.where(place < len(recall), precision[np.minimum(place, len(recall) - 1)], 0.0))
    return _steps("mean", np.mean(at, axis=0))


def _rows(ranked: list[str], ap: Mapping[str, float], mean: float, absent: int) -> list[_Row]:
    """What the key says, from the top."""
    rows = []
    if len(ranked) > 1:
        rows.append(_Row(f"mean of {len(ranked)} classes", f"{100 * mean:.1f}", _BOLD))
    thin: dict[str, Any] = {"linewidth": 0.9, "zorder": 3, "solid_capstyle": "butt", "dash_capstyle": "butt"}
    few, order = len(ap) <= _NAMED, list(ap)
    for k, name in enumerate(ranked):
        number = f"{100 * ap[name]:.1f}"
        if few or len(ranked) <= _NAMED:
            i = order.index(name) if few else k
            rows.append(_Row(name, number, {**thin, "color": CATEGORIES[i], "linestyle": _LINES[i % len(_LINES)]}))
        elif k < _ENDS:
            rows.append(_Row(name, number, {**thin, "color": CATEGORIES[k], "linestyle": "solid"}))
        elif k == _ENDS:
            rows.append(_Row(f"{len(ranked) - 2 * _ENDS} others", "", {"color": OTHER, "linewidth": 0.5, "zorder": 2}))
        if not few and k >= len(ranked) - _ENDS:
            rows.append(_Row(name, number, {**thin, "color": CATEGORIES[k - len(ranked) + 6], "linestyle": _LINES[1]}))
    if absent:
        rows.append(_Row(f"{absent} without objects", "", None))
    return rows


def _headline(ranked: list[str], mean: float) -> str:
    of = f"mean of {len(ranked)} classes" if len(ranked) > 1 else ranked[0]
    return f"AP50 {100 * mean:.1f} %, {of}"


def _frame(axes: Axes) -> None:
    """A unit square with a little room, so that lines at 0 and 1 are whole."""
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    axes.set(xlim=(0, 1.012), ylim=(0, 1.012))
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(linewidth=0.4, color="0.3")
    axes.grid(True, linewidth=0.3, color="0.9")
    axes.set_axisbelow(True)
    axes.tick_params(length=2, width=0.4, pad=1.5, labelsize=_TYPE, labelcolor="black", color="0.3")
    axes.set_xlabel("recall", fontsize=7, color="black", labelpad=2)
    axes.set_ylabel("precision at IoU 0.5", fontsize=7, color="black", labelpad=2)


def _draw_key(axes: Axes, rows: list[_Row], widest: float) -> None:
    """Line, name and AP50 of each class that is named, in the order of AP50."""
    axes.set(xlim=(0, _SAMPLE + widest + _NUMBER), ylim=(_SIDE, 0))
    axes.set_axis_off()
    how: dict[str, Any] = {"fontsize": _TYPE, "va": "center_baseline", "parse_math": False}
    right = _SAMPLE + widest + _NUMBER - 0.02
    axes.text(right, _ROW / 2, "AP50, %", color="0.25", ha="right", **how)
    for i, (name, number, look) in enumerate(rows, start=1):
        y, weight = _ROW * (i + 0.5), "bold" if look and look["linewidth"] > 1.5 else "normal"
        if look:
            axes.plot([0.02, _SAMPLE - 0.06], [y, y], label="_", **look)
        axes.text(_SAMPLE, y, _cut(name, widest), color="black" if number else "0.25", weight=weight, ha="left", **how)
        axes.text(right, y, number, color="black", weight=weight, ha="right", **how)


def _cut(name: str, width: float) -> str:
    keep = len(name)
    while keep > 1 and _width(name) > width + 1e-6:
        keep -= 1
        name = f"{name[:keep].rstrip('… ')}…"
    return name


def _width(text: str) -> float:
    """Inches that a name is wide, bold or not."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=_TYPE, weight="bold"), False)[0] / 72
