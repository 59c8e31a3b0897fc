"""Charts: curves of training runs, scores with their intervals, precision over recall, kinds of detection errors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from plrc.data.images import printable
from plrc.figures.grid import cut, finish, fold, letters, page
from plrc.figures.style import CATEGORIES, DASHES, GREY, LOOK, OTHER, PAGE, ROUND, number, styled

Interval = tuple[float, float, float]  # mean, low, high
# Quantities of a log that are no loss → heading, factor, whether they are smoothed: what varies from line to line is.
_NO_LOSSES = {
    "lr": ("learning rate", 1.0, False),
    "images_per_second": ("images/s", 1.0, True),
    "data_wait": ("waiting for data, %", 100.0, True),
    "memory_mib": ("peak memory, GiB", 1 / 1024, False),
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
_LEVEL: tuple[Any, ...] = ((0, (1, 1)), (0, (4, 2)), (0, (6, 1, 1, 1)), "solid")  # of what does not change with epochs
GRID = np.linspace(0, 1, 101)  # COCO's recall thresholds


def _round(axis: Axis, most: int = 4, digits: str = ".6g", **how: Any) -> None:
    """Round numbers, with minus signs and thousands as k."""
    axis.set_major_locator(MaxNLocator(most, **ROUND, **how))
    axis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 10000 else number(x, digits))


def _open(axes: Axes, across: Literal["x", "y", "both"]) -> None:
    """Lines at the left and below only, and thin ones of a grid along this axis."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis=across)


def _run(k: int) -> dict[str, Any]:
    return {"color": CATEGORIES[k % len(CATEGORIES)], "linestyle": DASHES[k % len(DASHES)]}


@styled
def curves(
    runs: Mapping[str, Mapping[str, np.ndarray]], steps_per_epoch: float | None = None, smooth: int = 15
) -> Figure:
    """A panel for each quantity of which any run has a value: the losses as they come, then rate, speed and memory.

    Losses, speed and waiting vary from one log line to the next: the thin line is each value, the strong one their
    ``running_mean``, where there are as many. Where a value is not finite its line has a gap.

    runs: name → quantity of ``log.jsonl``, "total" or "step" → its values ``(n,)`` in the order of steps, NaN where a
    log line has none; data_wait is a share, memory_mib is in MiB. What is not known is a loss. steps_per_epoch: for an
    axis above; None for none. smooth: how many log lines the mean is of, odd; 1 for none.
    Raises a ValueError if there is no value to draw, or ``smooth`` is no such number.
    """
    check_smooth(smooth)
    there = {q for run in runs.values() for q, of in run.items() if np.isfinite(of).any()} - {"step", "epoch"}
    losses = [q for q in dict.fromkeys(("total", *chain(*runs.values()))) if q not in _NO_LOSSES]
    drawn = [q for q in (*losses, *_NO_LOSSES) if q in there]
    if not drawn:
        raise ValueError("there is no curve to draw: the runs have no value yet")
    rows = -(-len(drawn) // 3)
    columns = -(-len(drawn) // rows)
    width = min(PAGE, 2.6 * columns)
    body, grid = page([1.0] * rows, [1.7] * columns, width, len(drawn))
    if max(len(run["step"]) for run in runs.values()) < smooth:
        smooth = 1
    last = max(1.0, *(run["step"].max(initial=0) for run in runs.values()))
    for i, (axes, quantity) in enumerate(zip(grid.flat, drawn, strict=False)):
        loss = "total loss, weighted" if quantity == "total" else f"{quantity.replace('_', ' ')} loss"
        heading, factor, varies = _NO_LOSSES.get(quantity, (loss, 1.0, True))
        for k, run in enumerate(runs.values()):
            if quantity in run:
                values = factor * np.where(np.isfinite(run[quantity]), run[quantity], np.nan)
                if varies and smooth > 1:
                    thin = {"color": _run(k)["color"], "linewidth": 0.45, "alpha": 0.5}
                    axes.plot(run["step"], values, label=f"values {k}", **thin)
                dot = "." if np.isfinite(values).sum() == 1 else None  # one value alone makes no line
                how = {"linewidth": 1.1, "marker": dot, "markersize": 3, "zorder": 3, **_run(k)}
                axes.plot(run["step"], running_mean(values, smooth if varies else 1), label=f"curve {k}", **how)
        lowest = i + columns >= len(drawn)
        axes.set(title=heading, xlim=(0, last), xlabel="step" if lowest else "")
        axes.tick_params(labelbottom=lowest)
        _open(axes, "y")
        _round(axes.xaxis)
        _round(axes.yaxis, digits=".4g")
        if steps_per_epoch and i < columns:
            forth, back = partial(np.multiply, 1 / steps_per_epoch), partial(np.multiply, steps_per_epoch)
            top = axes.secondary_xaxis("top", functions=(forth, back))
            top.set_xlabel("epoch")
            _round(top.xaxis, integer=last >= 2 * steps_per_epoch)
    handles = []
    if smooth > 1 and any(q not in _NO_LOSSES or _NO_LOSSES[q][2] for q in drawn):
        ink = GREY if len(runs) > 1 else CATEGORIES[0]
        handles = [Line2D([], [], color=ink, linewidth=0.45, alpha=0.7, label="each log line")]
        handles += [Line2D([], [], color=ink, linewidth=1.1, label=f"mean of {smooth} log lines, centred")]
    if len(runs) > 1:
        handles += [Line2D([], [], linewidth=1.3, label=fold(n, width - 0.6), **_run(k)) for k, n in enumerate(runs)]
    if handles:
        long = len(runs) > 1 and max(map(len, runs)) > 30
        body.legend(handles=handles, loc="outside lower left", ncols=1 if long else columns)
    return finish(body)


def check_smooth(smooth: int) -> None:
    """Raise a ValueError if curves cannot be smoothed over so many log lines."""
    if smooth < 1 or smooth % 2 == 0:
        raise ValueError(f"curves are smoothed over an odd number of log lines (1: not at all), not {smooth}")


def running_mean(values: np.ndarray, n: int) -> np.ndarray:
    """The mean ``(m,)`` of each of the values ``(m,)`` and its neighbours, n (odd) together; fewer at both ends.

    It is centred, so that it does not lag. What is not finite counts as not there, and stays so.
    """
    there, part = np.isfinite(values), slice(n // 2, n // 2 + len(values))
    sums, counts = (np.convolve(of, np.ones(n))[part] for of in (np.where(there, values, 0.0), there.astype(float)))
    return np.where(there, sums / np.maximum(counts, 1), np.nan)


@styled
def score_chart(
    scores: Mapping[str, Mapping[str, Interval]],
    baselines: Sequence[str] = (),
    order: Collection[str] | None = None,
    title: str = "",
    details: str = "",
) -> Figure:
    """A panel a measure, a row a network: its mean as a dot with a number at the right, its 95 % interval as a bar.

    Below the networks a row each baseline: in grey, with an open mark of its own. Each measure has its own range, which
    need not begin at 0, since marks have no length; a dash where it has no value.

    scores: measure ("distance-matched AUC, n = 40") → network or baseline → (mean, low, high), or NaN. baselines,
    order: of baselines and of networks from the top, which is that of their colours; networks as they come if not
    given. Names that do not occur keep their colour and have no row. title, details: over all.
    Raises a ValueError if there is no measure or no network, or ``order`` lacks one.
    """
    names = list(dict.fromkeys(chain(*scores.values())))
    networks = [name for name in names if name not in baselines]
    every = networks if order is None else list(order)
    if not networks or set(networks) - set(every):
        raise ValueError(f"there is nothing to compare: the order {every} lacks a network, or no measure has one")
    rows = [name for name in every if name in networks] + [name for name in baselines if name in names]
    lines = -(-len(scores) // 3)
    columns = -(-len(scores) // lines)
    panel = min(2.4, (PAGE - 2.0) / columns)
    width = min(PAGE, columns * (panel + 0.4) + 1.2)
    body, grid = page([0.05 + 0.15 * len(rows)] * lines, [panel] * columns, width, len(scores))
    for i, (axes, measure) in enumerate(zip(grid.flat, scores, strict=False)):
        heading = printable(measure).replace(" = ", "\xa0=\xa0")  # "n = 12" stays whole
        axes.set_title(fold(heading, panel + 0.3, 7), loc="left")
        labels = [cut(printable(name), letters(1.5)) if i % columns == 0 else "" for name in rows]
        axes.set(ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), yticklabels=labels)
        axes.tick_params(axis="y", length=0)
        for y, (name, label) in enumerate(zip(rows, axes.get_yticklabels(), strict=True)):
            mean, low, high = scores[measure].get(name, (math.nan,) * 3)
            axes.text(1.02, y, number(mean, ".3f"), transform=axes.get_yaxis_transform(), va="center")
            label.set_color("black" if name in networks else GREY)
            if math.isfinite(mean):
                look = _score(every.index(name) if name in networks else len(networks) - 1 - y)
                axes.plot([low, high], [y, y], color=look["color"], linewidth=1.5, label=f"interval of {name}")
                axes.plot(mean, y, label=name, **look)
        if len(rows) > len(networks):
            axes.axhline(len(networks) - 0.5, color="0.85", linewidth=0.5, label="_", zorder=0.5)
        axes.margins(x=0.08)
        _open(axes, "x")
        _round(axes.xaxis, 3)
    key = ["network: mean, 95 % interval", "baseline"] if len(rows) > len(networks) else ["mean, 95 % interval"]
    handles = [Line2D([], [], linewidth=1.5, label=label, **_score(-k)) for k, label in enumerate(key)]
    body.legend(handles=handles, loc="outside lower left", ncols=2)
    return finish(body, title=printable(title), details=printable(details))


@styled
def scores_over_epochs(
    scores: Mapping[str, Mapping[str, np.ndarray]],
    beside: Mapping[str, Mapping[str, float]],
    losses: Mapping[str, Mapping[str, np.ndarray]],
    title: str = "",
    details: str = "",
) -> Figure:
    """A panel a measure: how a run's mean and its 95 % interval change with the epochs; then one for each loss.

    scores: measure → run → ``(n, 4)``: epoch, mean, low, high, NaN where there is no interval. beside: measure → what
    does not change with the epochs → its mean, a level grey line. losses: run → "epoch" and each loss → ``(m,)``, NaN
    where a log line has none: thin each, strong the mean of 15 lines, where there are twice as many. title, details:
    over all.
    Raises a ValueError if there is no measure.
    """
    if not scores:
        raise ValueError("there is nothing to draw: no measure has a value")
    runs = list(dict.fromkeys(chain(*scores.values(), losses)))
    level = list(dict.fromkeys(chain(*beside.values())))
    there = {name for of in losses.values() for name, values in of.items() if np.isfinite(values).any()} - {"epoch"}
    drawn = [*scores, *sorted(there, key=lambda loss: (loss != "total", loss))]  # of a set, whose order is none
    rows = -(-len(drawn) // 3)
    columns = -(-len(drawn) // rows)
    width = min(PAGE, 2.6 * columns)
    smooth = 15 if losses and min(len(of["epoch"]) for of in losses.values()) >= 30 else 1
    body, grid = page([1.0] * rows, [1.4] * columns, width, len(drawn))
    last = max(1.0, *(of[:, 0].max() for measure in scores.values() for of in measure.values()))
    for i, (axes, name) in enumerate(zip(grid.flat, drawn, strict=False)):
        of_losses = i >= len(scores)
        heading = name if not of_losses else "total loss, weighted" if name == "total" else f"{name} loss"
        axes.set_title(fold(printable(heading).replace(" = ", "\xa0=\xa0"), width / columns, 7))
        for k, run in enumerate(runs):
            if of_losses and name in losses.get(run, {}):
                epoch, values = losses[run]["epoch"], losses[run][name]
                axes.plot(epoch, values, color=_run(k)["color"], linewidth=0.45, alpha=0.5, label=f"values {k}")
                axes.plot(epoch, running_mean(values, smooth), linewidth=1.1, zorder=3, label=f"curve {k}", **_run(k))
            elif not of_losses and run in scores[name]:
                epoch, mean, low, high = scores[name][run].T
                colour = _run(k)["color"]
                axes.fill_between(epoch, low, high, color=colour, alpha=0.2, linewidth=0, label=f"interval {k}")
                axes.plot(epoch, mean, marker="o", ms=3, linewidth=1.1, zorder=3, label=f"curve {k}", **_run(k))
        for k, other in enumerate(level):
            if not of_losses and math.isfinite(value := beside.get(name, {}).get(other, math.nan)):
                axes.axhline(value, color=GREY, linewidth=0.7, linestyle=_LEVEL[k % len(_LEVEL)], label=other)
        lowest = i + columns >= len(drawn)
        axes.set(xlim=(-0.02 * last, 1.02 * last), xlabel="epoch" if lowest else "")
        axes.tick_params(labelbottom=lowest)
        _open(axes, "y")
        _round(axes.xaxis, integer=True)
        _round(axes.yaxis, digits=".4g")
    dots: dict[str, Any] = {"marker": "o", "ms": 3, "linewidth": 1.1}
    handles = [Line2D([], [], label=cut(run, 60), **dots, **_run(k)) for k, run in enumerate(runs)]
    handles += [
        Line2D([], [], color=GREY, linewidth=0.7, linestyle=_LEVEL[k % len(_LEVEL)], label=cut(other, 60))
        for k, other in enumerate(level)
    ]
    longest = max(len(str(handle.get_label())) for handle in handles)
    ncols = max(1, min(4, len(handles), letters(width) // (longest + 8)))
    body.legend(handles=handles, loc="outside lower left", ncols=ncols)
    banded = any(np.isfinite(of[:, 2:]).any() for measure in scores.values() for of in measure.values())
    said = ["Band: 95 % interval."] * banded
    said += [f"Losses: thin each log line, strong the mean of {smooth}."] * (smooth > 1)
    return finish(body, " ".join(said), printable(title), printable(details))


def _score(k: int) -> dict[str, Any]:
    """The mark of network k, or of baseline −1 − k."""
    if k >= 0:
        return {"color": CATEGORIES[k % len(CATEGORIES)], "marker": "o", "ms": 4.5, "mec": "white", "mew": 0.5}
    return {"color": OTHER, "marker": "sD^vph"[(-1 - k) % 6], "ms": 3.8, "mfc": "white", "mew": 0.9}


@styled
def precision_recall(curves: Mapping[str, np.ndarray], ap: Mapping[str, float], title: str = "") -> Figure:
    """Precision over recall at IoU 0.5 of each class, and their mean in bold.

    Up to eight classes are named, by falling AP50; of more, the best three and the worst three are, and the others are
    grey. A line ends, straight down, at the highest recall that its class reaches. A class without any object has
    neither precision nor AP: it is counted in the key, and not part of the mean.

    curves: class → precision ``(101,)`` in [0, 1], the best at the recalls 0, 0.01 … 1 or higher ones; 0 where a recall
    is not reached. ap: class → its AP50, a share in [0, 1]; NaN or negative (COCO has −1) of a class without objects.
    Raises a ValueError if no class has an AP, an AP is no share, or a class has no curve of this shape.
    """
    ranked = sorted((name for name in ap if ap[name] >= 0), key=lambda name: -ap[name])
    if not ranked:
        raise ValueError("there is no curve to draw: no class has an object")
    if set(curves) != set(ap) or {np.shape(curve) for curve in curves.values()} != {GRID.shape} or ap[ranked[0]] > 1:
        raise ValueError("give of every class its precision at 101 recalls and its AP, a share in [0, 1]")
    mean = sum(ap[name] for name in ranked) / len(ranked)
    named = ranked if len(ranked) <= 8 else ranked[:3] + ranked[-3:]
    order = [name for name in ap if name in named]  # a class keeps its colour, whatever its rank
    of = f"mean of {len(ranked)} classes" if len(ranked) > 1 else ranked[0]
    look: dict[str, Any] = {"color": "black", "linewidth": 2.0, "zorder": 4}
    # name, what the key says ("_" for nothing), precision, look
    drawn = [("mean", f"{100 * mean:.1f}  {of}", np.mean([curves[name] for name in ranked], axis=0), look)]
    for rank, name in enumerate(ranked):
        key = f"{len(ranked) - len(named)} others" if rank == 3 else "_"
        look = {"color": OTHER, "linewidth": 0.5, "zorder": 2}
        if name in named:
            k, key = order.index(name), f"{100 * ap[name]:.1f}  {cut(name)}"
            look = {**_run(k), "linewidth": 0.9, "zorder": 3 - rank / 1000}
        drawn.append((name, key, curves[name], look))
    drawn = drawn[1:] if len(ranked) == 1 else drawn
    body, ((axes,),) = page([1.0], [2.0], PAGE)
    for name, _, precision, look in drawn:
        n = max(1, int(np.count_nonzero(precision)))
        recall, height = np.r_[GRID[:n], GRID[n - 1]], np.r_[precision[:n], 0.0]  # ends with a line straight down
        axes.plot(recall, height, drawstyle="steps-pre", label=name, **look)
    handles = [Line2D([], [], label=key, **look) for _, key, _, look in drawn if key != "_"]
    if absent := len(ap) - len(ranked):
        handles.append(Line2D([], [], linestyle="none", label=f"{absent} without objects"))
    axes.set(xlim=(0, 1.012), ylim=(0, 1.012), xlabel="recall", ylabel="precision at IoU 0.5")
    _open(axes, "both")
    body.legend(handles=handles, loc="outside right upper", title="AP50, %", alignment="left")
    headline = f"AP50 {100 * mean:.1f} %, {of}"
    return finish(body, "", title or headline, headline if title else "")


@styled
def error_types(lost: Mapping[str, float], counts: Mapping[str, int], ap50: float, title: str = "") -> Figure:
    """Horizontal bars of the AP50 lost by each kind of error, and how many there are; the AP50 reached over them.

    lost: kind, a key of ``KINDS`` → AP50 that it costs, a share (0.05 is drawn as 5 points); NaN where it is not known;
    below 0 where putting it right would do harm. counts: kind → how many detections are wrong so; of "missed", how many
    objects. ap50: what is reached, a share.
    Raises a ValueError if the kinds are not those of ``KINDS``, a number is no share, or there is no AP50.
    """
    if not set(lost) == set(counts) == set(KINDS):
        raise ValueError(f"give the AP50 lost and the count of each kind of error: {', '.join(KINDS)}")
    if not 0 <= ap50 <= 1 or any(abs(share) > 1 for share in lost.values()):
        raise ValueError(f"an AP50 of {ap50}, or what is lost of it, is outside [0, 1]: give shares, where objects are")
    body, ((axes,),) = page([len(KINDS)], [16.0], PAGE)
    points = [100 * lost[kind] for kind in KINDS]
    colour = LOOK["matches"]["wrong"]["colour"]
    bars = axes.barh(range(len(KINDS)), np.nan_to_num(points), 0.55, color=colour, label=list(KINDS))
    axes.bar_label(bars, [number(value, ".1f") for value in points], padding=2)
    for y, kind in enumerate(KINDS):
        many = f"{counts[kind]:,}".replace(",", "\u202f")
        axes.text(1.04, y, many, transform=axes.get_yaxis_transform(), va="center")
    low, high = min(0.0, np.nanmin([*points, 0.0])), max(1.0, np.nanmax([*points, 0.0]))
    axes.set_xlim(low - 0.2 * (low < 0) * (high - low), high + 0.2 * (high - low))  # room for the numbers at their ends
    axes.axvline(0, color="0.3", linewidth=0.5, label="_")
    axes.set(ylim=(len(KINDS) - 0.5, -0.5), title="points of AP50 lost")
    axes.set_yticks(range(len(KINDS)), [f"{kind}\n{meaning}" for kind, meaning in KINDS.items()])
    axes.text(1.04, 1.0, "count", transform=axes.transAxes, va="bottom", fontsize=7)
    axes.tick_params(length=0)
    _open(axes, "x")
    axes.spines[:].set_visible(False)
    _round(axes.xaxis)
    headline = f"AP50 {100 * ap50:.1f} % reached"
    note = "Bar: AP50 that would be gained if this kind alone were put right; they do not add up."
    return finish(body, note, title or headline, headline if title else "")
