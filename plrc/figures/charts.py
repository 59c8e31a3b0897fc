"""Charts: curves of training runs, scores with their intervals, precision over recall, kinds of detection errors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from plrc.figures.grid import cut, finish, fold, letters, page
from plrc.figures.style import CATEGORIES, DASHES, GREY, LOOK, OTHER, PAGE, number, styled

Interval = tuple[float, float, float]  # mean, low, high
Curve = np.ndarray | tuple[np.ndarray, np.ndarray]
# Quantities of a log that are no loss → heading, factor, whether they are smoothed: what varies from line to line is.
_NO_LOSSES = {
    "lr": ("learning rate", 1.0, False),
    "images_per_second": ("images/s", 1.0, True),
    "data_wait": ("waiting for data, %", 100.0, True),
    "memory_mib": ("peak memory, GiB", 1 / 1024, False),
}
_HEADINGS = {
    "total": "total loss, weighted",
    "rpn_objectness": "objectness of anchors, loss",  # these four of a detector
    "rpn_box": "boxes of anchors, loss",
    "box_class": "class of regions, loss",
    "box_regression": "boxes of regions, loss",
}
# Kind of error → what it is. TIDE's kinds (Bolya et al., ECCV 2020) and its overlaps, 0.5 and 0.1.
KINDS = {
    "classification": "right place, wrong class",
    "localisation": "right class, IoU 0.1 … 0.5",
    "both": "wrong class, IoU 0.1 … 0.5",
    "duplicate": "object that is already found",
    "background": "no object there, IoU < 0.1",
    "missed": "not found, none of the above",
}
GRID = np.linspace(0, 1, 101)  # COCO's recall thresholds


def _drawable(name: str) -> str:
    """Bytes of a file's name that are no UTF-8 as escapes: no font has them."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _numbers(axes: Axes, most: int = 4) -> None:
    """Round numbers along x, with minus signs; only left and bottom have a line."""
    axes.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.spines[["top", "right"]].set_visible(False)


# ------------------------------------------------------------------------------------------------------------ curves


@styled
def curves(
    runs: Mapping[str, Mapping[str, np.ndarray]], steps_per_epoch: float | None = None, smooth: int = 15
) -> Figure:
    """A panel for each quantity of which any run has a value: the losses as they come, then rate, speed and memory.

    Losses, speed and waiting vary from one log line to the next: the thin line is each value, the strong one the mean
    of ``smooth`` neighbouring log lines, centred, so that it does not lag; at both ends, of those there are. Where a
    value is not finite its line has a gap.

    Args:
        runs: name → quantity of ``log.jsonl``, "total" or "step" → its values ``(n,)`` in the order of steps, NaN where
            a log line has none; data_wait is a share, memory_mib is in MiB. What is not known is a loss.
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
    there = {q for of in runs.values() for q, values in of.items() if np.isfinite(values).any()} - {"step", "epoch"}
    named = dict.fromkeys(("total", *(q for of in runs.values() for q in of if q not in _NO_LOSSES), *_NO_LOSSES))
    drawn = [q for q in named if q in there]
    if not drawn:
        raise ValueError("there is no curve to draw: the runs have no value yet")

    rows = -(-len(drawn) // 3)
    columns = -(-len(drawn) // rows)
    body, grid = page([1.0] * rows, [1.7] * columns, min(PAGE, 2.6 * columns))
    last = max(1.0, *(float(of["step"].max()) for of in runs.values() if len(of["step"])))
    for axes in grid.flat[len(drawn) :]:
        axes.set_axis_off()
    varies = {q: q not in _NO_LOSSES or _NO_LOSSES[q][2] for q in drawn}
    for i, (quantity, axes) in enumerate(zip(drawn, grid.flat, strict=False)):
        default = (_HEADINGS.get(quantity, f"{quantity.replace('_', ' ')} loss"), 1.0, True)
        heading, factor, _ = _NO_LOSSES.get(quantity, default)
        for k, of in enumerate(runs.values()):
            if quantity in of:
                _curve(axes, of["step"], factor * of[quantity], k, smooth if varies[quantity] else 1)
        axes.set_title(heading)
        axes.set_xlim(0, last)
        axes.grid(True, axis="y")
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, ".4g")))
        _numbers(axes)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
        if i + columns >= len(drawn):
            axes.set_xlabel("step")
        else:
            axes.tick_params(labelbottom=False)
        if steps_per_epoch and i < columns:
            forth, back = partial(np.multiply, 1 / steps_per_epoch), partial(np.multiply, steps_per_epoch)
            top = axes.secondary_xaxis("top", functions=(forth, back))
            top.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=last >= 2 * steps_per_epoch))
            top.set_xlabel("epoch")
    handles: list[Artist] = []
    if smooth > 1 and any(varies.values()):
        ink = GREY if len(runs) > 1 else CATEGORIES[0]
        handles = [Line2D([], [], color=ink, linewidth=0.45, alpha=0.7, label="each log line")]
        handles += [Line2D([], [], color=ink, linewidth=1.1, label=f"mean of {smooth} log lines, centred")]
    if len(runs) > 1:
        names = [fold(name, min(PAGE, 2.6 * columns) - 0.6) for name in runs]
        handles += [Line2D([], [], linewidth=1.3, label=name, **_run(k)) for k, name in enumerate(names)]
    if handles:
        long = len(runs) > 1 and max(map(len, runs)) > 30
        body.legend(handles=handles, loc="outside lower left", ncols=1 if long else columns, handlelength=2.6)
    return finish(body)


def check_smooth(smooth: int) -> None:
    """Raise a ValueError if curves cannot be smoothed over so many log lines."""
    if smooth < 1 or smooth % 2 == 0:
        raise ValueError(f"curves are smoothed over an odd number of log lines (1: not at all), not {smooth}")


def running_mean(values: np.ndarray, n: int) -> np.ndarray:
    """The mean ``(m,)`` of each of the values ``(m,)`` and its neighbours, n (odd) together; fewer at both ends.

    Half of them come before and half after, so that a slope stays where it is. What is not finite counts as not there,
    and stays so.
    """
    there, window = np.isfinite(values), np.ones(n)
    part = slice(n // 2, n // 2 + len(values))
    sums, counts = (np.convolve(of, window)[part] for of in (np.where(there, values, 0.0), there.astype(float)))
    return np.where(there, sums / np.maximum(counts, 1), np.nan)


def _run(k: int) -> dict[str, Any]:
    return {"color": CATEGORIES[k % len(CATEGORIES)], "linestyle": DASHES[k % len(DASHES)]}


def _curve(axes: Axes, steps: np.ndarray, values: np.ndarray, k: int, smooth: int) -> None:
    values = np.where(np.isfinite(values), values, np.nan)
    if smooth > 1:
        axes.plot(steps, values, color=_run(k)["color"], linewidth=0.45, alpha=0.5, label=f"values {k}")
    dot = "." if np.isfinite(values).sum() == 1 else None  # one value alone makes no line
    how = {"linewidth": 1.1, "marker": dot, "markersize": 3, "zorder": 3, **_run(k)}
    axes.plot(steps, running_mean(values, smooth), label=f"curve {k}", **how)


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10000 else number(value)


# ------------------------------------------------------------------------------------------------------------ scores


@styled
def score_chart(
    scores: Mapping[str, Mapping[str, Interval]],
    baselines: Sequence[str] = (),
    order: Collection[str] | None = None,
    title: str = "",
    details: str = "",
    width: float = PAGE,
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
    names = list(dict.fromkeys(name for row in scores.values() for name in row))
    networks, trivial = [n for n in names if n not in baselines], [n for n in baselines if n in names]
    if not networks:
        raise ValueError("there is nothing to compare: no measure has a value of a network")
    for measure, row in scores.items():
        for name, (mean, low, high) in row.items():
            if low > mean or mean > high:
                raise ValueError(f"{measure} of {name}: the mean {mean} is outside its interval, {low} to {high}")
    every = networks if order is None else list(order)
    if lacking := [name for name in networks if name not in every]:
        raise ValueError(f"the order of networks, {', '.join(every)}, lacks {lacking[0]}")
    rows = [name for name in every if name in networks] + trivial
    labels = [cut(_drawable(name), letters(min(1.5, 0.38 * width))) for name in rows]
    lines = -(-len(scores) // min(3, max(1, int(width / 2.2))))
    columns = -(-len(scores) // lines)
    height = 0.05 + 0.15 * len(rows)
    panel = min(2.4, (width - 0.5 - min(1.5, 0.38 * width)) / columns)
    body, grid = page([height] * lines, [panel] * columns, min(width, columns * (panel + 0.4) + 1.2))
    for unused in grid.flat[len(scores) :]:
        unused.set_axis_off()
    for i, ((measure, row), axes) in enumerate(zip(scores.items(), grid.flat, strict=False)):
        heading = fold(_drawable(measure).replace(" = ", "\xa0=\xa0"), panel + 0.3, 7)  # "n = 12" stays whole
        axes.set_title(heading, loc="left")
        axes.set(ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)))
        axes.set_yticklabels(labels if i % columns == 0 else [""] * len(rows))
        axes.tick_params(axis="y", length=0)
        for tick in axes.get_yticklabels()[len(networks) :]:
            tick.set_color(GREY)
        for y, name in enumerate(rows):
            mean, low, high = row.get(name, (math.nan,) * 3)
            how = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(1.02, y, number(mean, ".3f"), **how)
            if math.isfinite(mean):
                look = _score(every.index(name) if name in networks else -1 - trivial.index(name))
                axes.plot([low, high], [y, y], color=look["color"], linewidth=1.5, label=f"interval of {name}")
                axes.plot(mean, y, label=name, **look)
        if trivial:
            axes.axhline(len(networks) - 0.5, color="0.85", linewidth=0.5, label="_", zorder=0.5)
        axes.margins(x=0.08)
        axes.grid(True, axis="x")
        _numbers(axes, 3)
    kinds = [("network: mean, 95 % interval" if trivial else "mean, 95 % interval", 0), ("baseline", -1)]
    shown = kinds[: 1 + bool(trivial)]
    handles = [Line2D([], [], linewidth=1.5, label=label, **_score(k)) for label, k in shown]
    body.legend(handles=handles, loc="outside lower left", ncols=2)
    return finish(body, title=_drawable(title), details=_drawable(details))


def _score(k: int) -> dict[str, Any]:
    """The mark of network k, or of baseline −1 − k."""
    if k >= 0:
        white = {"markeredgecolor": "white", "markeredgewidth": 0.5}
        return {"color": CATEGORIES[k % len(CATEGORIES)], "marker": "o", "markersize": 4.5, **white}
    marker = "sD^vph"[(-1 - k) % 6]
    return {"color": OTHER, "marker": marker, "markersize": 3.8, "markerfacecolor": "white", "markeredgewidth": 0.9}


# --------------------------------------------------------------------------------------------------------- detection


@styled
def precision_recall(curves: Mapping[str, Curve], ap: Mapping[str, float], title: str = "", note: str = "") -> Figure:
    """Precision over recall at IoU 0.5 of each class, and their mean in bold.

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
        raise ValueError(f"{min(set(curves) ^ set(ap))} has a curve or an AP and not both: give both of every class")
    for name, value in ap.items():
        if value > 1:
            raise ValueError(f"the AP of {name} is {value}: give shares in [0, 1], not per cent")
    ranked = sorted((name for name in ap if ap[name] >= 0), key=lambda name: -ap[name])
    if not ranked:
        raise ValueError("there is no curve to draw: no class has an object")
    precision = {name: _precision(name, curves[name]) for name in ranked}
    mean = sum(ap[name] for name in ranked) / len(ranked)
    few, several = len(ranked) <= 8, len(ranked) > 1
    named = ranked if few else ranked[:3] + ranked[-3:]
    order = [name for name in ap if name in named] if few else named  # a class keeps its colour, whatever its rank

    width = 5.4
    body, ((axes,),) = page([1.0], [1.0], width)
    bold: dict[str, Any] = {"color": "black", "linewidth": 2.0, "zorder": 4}
    grey: dict[str, Any] = {"color": OTHER, "linewidth": 0.5, "zorder": 2}
    of = f"mean of {len(ranked)} classes" if several else ranked[0]
    handles = [Line2D([], [], label=f"{100 * mean:.1f}  {of}", **bold)] if several else []
    for rank, name in enumerate(ranked):
        look = grey
        if name in named:
            k = order.index(name)
            dashes = DASHES[k % 3] if few else DASHES[k // 3]
            look = {"color": CATEGORIES[k], "linestyle": dashes, "linewidth": 0.9, "zorder": 3 - rank / 1000}
            handles.append(Line2D([], [], label=f"{100 * ap[name]:.1f}  {cut(name)}", **look))
        elif rank == 3:
            handles.append(Line2D([], [], label=f"{len(ranked) - len(named)} others", **grey))
        axes.plot(*_line(precision[name]), drawstyle="steps-pre", label=name, **look)
    if several:
        axes.plot(*_line(np.mean(list(precision.values()), axis=0)), drawstyle="steps-pre", label="mean", **bold)
    if absent := len(ap) - len(ranked):
        handles.append(Line2D([], [], linestyle="none", label=f"{absent} without objects"))
    axes.set(xlim=(0, 1.012), ylim=(0, 1.012), xlabel="recall", ylabel="precision at IoU 0.5")
    axes.grid(True)
    axes.spines[["top", "right"]].set_visible(False)
    body.legend(handles=handles, loc="outside right upper", title="AP50, %", alignment="left", handlelength=2.4)
    headline = f"AP50 {100 * mean:.1f} %, {of}"
    return finish(body, note, title or headline, headline if title else "")


def _precision(name: str, curve: Curve) -> np.ndarray:
    """The best precision ``(101,)`` at each recall of ``GRID`` or a higher one; 0 beyond the highest reached."""
    recall, precision = (GRID, curve) if isinstance(curve, np.ndarray) else map(np.asarray, curve)
    if recall.ndim != 1 or recall.shape != precision.shape:
        raise ValueError(
            f"the curve of {name} is of shape {precision.shape}: give precision (101,), or recall and precision (n,)"
        )
    best = np.maximum.accumulate(np.r_[precision.clip(0), 0.0][::-1])[::-1]
    return best[np.searchsorted(recall, GRID - 1e-9)]


def _line(precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision of a line that falls to 0 at the highest recall that is reached."""
    n = np.count_nonzero(precision)
    return np.r_[GRID[:n], GRID[max(n - 1, 0)]], np.r_[precision[:n], 0.0]


@styled
def error_types(
    lost: Mapping[str, float],
    counts: Mapping[str, int],
    ap50: float,
    title: str = "",
    note: str = "Bar: AP50 that would be gained if this kind alone were put right; they do not add up.",
) -> Figure:
    """Horizontal bars of the AP50 lost by each kind of error, and how many there are; the AP50 reached over them.

    Args:
        lost: kind, a key of ``KINDS`` → AP50 that it costs, a share (0.05 is drawn as 5 points); not finite where
            it is not known; below 0 where putting it right would do harm.
        counts: kind → how many detections are wrong so; of "missed", how many objects.
        ap50: what is reached, a share in [0, 1]. title: over all. note: at the foot.

    Raises:
        ValueError: the kinds are not those of ``KINDS``, a number is no share, or there is no AP50.
    """
    for what, of in (("lost AP50", lost), ("counts", counts)):
        if set(of) != set(KINDS):
            wrong = min(set(of) ^ set(KINDS))
            raise ValueError(f"{what}: {wrong} is missing or no kind of error: they are {', '.join(KINDS)}")
    if math.isnan(ap50):
        raise ValueError("there is no AP50 to lose anything of: no class has an object")
    if not 0 <= ap50 <= 1 or any(abs(share) > 1 for share in lost.values()):
        raise ValueError("an AP50 or its loss is outside [0, 1]: give shares, not per cent")
    body, ((axes,),) = page([len(KINDS)], [8.0], 4.6)
    points = np.array([100 * lost[kind] for kind in KINDS])
    for y, (kind, value) in enumerate(zip(KINDS, points, strict=True)):
        there = float(np.nan_to_num(value))
        bar = axes.barh(y, there, 0.55, color=LOOK["matches"]["wrong"]["colour"], label=kind)
        axes.bar_label(bar, [number(value, ".1f")], padding=2)
        many = f"{counts[kind]:,}".replace(",", "\u202f")
        axes.text(1.04, y, many, transform=axes.get_yaxis_transform(), va="center")
    low, high = min(0.0, np.nanmin([*points, 0.0])), max(1.0, np.nanmax([*points, 0.0]))
    axes.set_xlim(low - 0.2 * (low < 0) * (high - low), high + 0.2 * (high - low))  # room for the numbers at their ends
    axes.axvline(0, color="0.3", linewidth=0.5, label="_")
    axes.set(ylim=(len(KINDS) - 0.5, -0.5), title="points of AP50 lost")
    axes.set_yticks(range(len(KINDS)), [f"{kind}\n{meaning}" for kind, meaning in KINDS.items()])
    axes.text(1.04, 1.0, "count", transform=axes.transAxes, va="bottom", fontsize=7)
    axes.tick_params(length=0)
    axes.grid(True, axis="x")
    _numbers(axes)
    axes.spines[:].set_visible(False)
    headline = f"AP50 {100 * ap50:.1f} % reached"
    return finish(body, note, title or headline, headline if title else "")
