"""Scores: dots at their means, bars over their intervals, baselines across."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from readback import words

from plrc import figures

NAN = (float("nan"),) * 3
SCORES = {
    "recall": {"random": (0.2, 0.15, 0.25), "last": (0.6, 0.55, 0.65), "distance": (0.3, 0.29, 0.32)},
    "AUC": {"last": (0.61, 0.6, 0.63), "random": (0.5, 0.48, 0.52), "colour": (0.55, 0.5, 0.6)},
    "PCK": {"last": (0.1, 0.05, 0.2), "random": NAN, "distance": (0.05, 0.05, 0.05)},
    "purity": {"early": (0.4, 0.4, 0.4)},
}
BASELINES = {"distance", "colour"}


def panel(figure: Figure, i: int) -> Axes:
    return figure.axes[i]


def line(axes: Axes, label: str) -> np.ndarray | None:
    found = [line for line in axes.lines if line.get_label() == label]
    return found[0].get_xydata() if found else None


def test_dots_are_at_means_and_bars_over_intervals() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    assert len(figure.axes) == 4
    for i, row in enumerate(SCORES.values()):
        axes = panel(figure, i)
        for name, (mean, low, high) in row.items():
            if name in BASELINES:
                assert (line(axes, name)[:, 0] == mean).all()
                (span,) = [p for p in axes.patches if p.get_label() == f"interval of {name}"]
                assert (span.get_x(), span.get_x() + span.get_width()) == (low, pytest.approx(high))
            elif np.isfinite(mean):
                assert line(axes, name)[0, 0] == mean
                assert line(axes, f"interval of {name}")[:, 0].tolist() == [low, high]
            x0, x1 = axes.get_xlim()
            assert not np.isfinite(mean) or x0 < low <= high < x1


def test_a_network_has_one_row_and_one_colour_in_all_panels() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    rows, colours = {}, {}
    for axes in figure.axes:
        assert axes.yaxis_inverted()
        for drawn in axes.lines:
            if drawn.get_label() in ("random", "last", "early"):
                rows.setdefault(drawn.get_label(), set()).add(drawn.get_ydata()[0])
                colours.setdefault(drawn.get_label(), set()).add(drawn.get_color())
    assert all(len(ys) == 1 for ys in rows.values())
    assert min(rows["random"]) < min(rows["last"]) < min(rows["early"])
    assert len(set.union(*colours.values())) == 3


def test_names_stand_beside_the_first_panel_of_each_row_where_their_dots_are() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    named = [[t.get_text() for t in axes.get_yticklabels()] for axes in figure.axes]
    assert named == [["random", "last", "early"], [], [], ["random", "last", "early"]]
    ticks = dict(zip(named[0], panel(figure, 0).get_yticks(), strict=True))
    assert ticks["last"] == line(panel(figure, 0), "last")[0, 1]


def test_numbers_stand_beside_the_dots_and_a_dash_where_there_is_none() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    for i, wanted in enumerate((["0.20", "0.60", "–"], ["0.50", "0.61", "–"], ["–", "0.10", "–"], ["–", "–", "0.40"])):
        shown = sorted(panel(figure, i).texts, key=lambda text: text.get_position()[1])
        assert [text.get_text() for text in shown] == wanted


def test_baselines_are_grey_differ_in_their_dashes_and_are_named() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    looks = {}
    for axes in figure.axes:
        for drawn in axes.lines:
            if drawn.get_label() in BASELINES:
                assert len(set(to_rgb(drawn.get_color()))) == 1
                looks.setdefault(drawn.get_label(), set()).add(str(drawn._unscaled_dash_pattern))
    assert all(len(dashes) == 1 for dashes in looks.values())
    assert looks["distance"] != looks["colour"]
    assert words(figure) >= BASELINES


def test_an_order_keeps_the_colours_of_those_that_are_left() -> None:
    order = ["random", "early", "last"]
    every = figures.score_chart({"AUC": dict.fromkeys(reversed(order), (0.5, 0.4, 0.6))}, order=order)
    two = figures.score_chart({"AUC": dict.fromkeys(("last", "random"), (0.5, 0.4, 0.6))}, order=order)
    looks = [{li.get_label(): li.get_color() for li in figure.axes[0].lines} for figure in (every, two)]
    assert {name: looks[0][name] for name in looks[1]} == looks[1]
    assert [t.get_text() for t in panel(two, 0).get_yticklabels()] == ["random", "last"]
    with pytest.raises(ValueError, match="lacks last"):
        figures.score_chart(SCORES, BASELINES, order=["random", "early"])


def test_nothing_to_compare_and_means_outside_their_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        figures.score_chart({"AUC": {"distance": (0.5, 0.4, 0.6)}}, {"distance"})
    with pytest.raises(ValueError, match="nothing to compare"):
        figures.score_chart({})
    with pytest.raises(ValueError, match=r"AUC of last: the mean 0\.7 is outside"):
        figures.score_chart({"AUC": {"last": (0.7, 0.4, 0.6)}})
