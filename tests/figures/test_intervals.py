"""Scores: marks at their means, bars over their intervals, a row each network and baseline."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from readback import rendered, texts, words

from plrc import figures

NAN = (float("nan"),) * 3
SCORES = {
    "recall": {"random": (0.2, 0.15, 0.25), "last": (0.6, 0.55, 0.65), "distance": (0.3, 0.29, 0.32)},
    "AUC": {"last": (0.61, 0.6, 0.63), "random": (0.5, 0.48, 0.52), "colour": (0.55, 0.5, 0.6)},
    "PCK": {"last": (0.1, 0.05, 0.2), "random": NAN, "distance": (0.05, 0.05, 0.05)},
    "purity": {"early": (0.4, 0.4, 0.4)},
}
BASELINES = ("colour", "distance")
ROWS = ["random", "last", "early", *BASELINES]


def panel(figure: Figure, i: int) -> Axes:
    return figure.axes[i]


def line(axes: Axes, label: str) -> np.ndarray | None:
    found = [line for line in axes.lines if line.get_label() == label]
    return found[0].get_xydata() if found else None


def numbers(axes: Axes) -> list[str]:
    """At the right of the rows, from the top."""
    found = [text for text in axes.texts if not isinstance(text, Annotation)]
    return [text.get_text() for text in sorted(found, key=lambda text: text.get_position()[1])]


def test_marks_are_at_means_and_bars_over_intervals() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    assert len(figure.axes) == 4
    for i, row in enumerate(SCORES.values()):
        axes = panel(figure, i)
        assert not axes.patches, "no bands that overlap"
        for name, (mean, low, high) in row.items():
            if np.isfinite(mean):
                assert line(axes, name).shape == (1, 2)
                assert line(axes, name)[0, 0] == mean
                assert line(axes, f"interval of {name}")[:, 0].tolist() == [low, high]
                assert (line(axes, f"interval of {name}")[:, 1] == line(axes, name)[0, 1]).all()
            else:
                assert line(axes, name) is None
            x0, x1 = axes.get_xlim()
            assert not np.isfinite(mean) or x0 < low <= high < x1


def test_a_name_has_one_row_and_one_look_in_all_panels() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    rows, looks = {}, {}
    for axes in figure.axes:
        assert axes.yaxis_inverted()
        for drawn in axes.lines:
            if drawn.get_label() in ROWS:
                rows.setdefault(drawn.get_label(), set()).add(drawn.get_ydata()[0])
                looks.setdefault(drawn.get_label(), set()).add((drawn.get_color(), drawn.get_marker()))
    assert all(len(ys) == 1 for ys in rows.values())
    assert sorted(rows, key=lambda name: min(rows[name])) == ROWS
    assert len(set.union(*looks.values())) == len(ROWS)


def test_names_stand_beside_the_first_panel_of_each_row_where_their_marks_are() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    named = [[t.get_text() for t in axes.get_yticklabels()] for axes in figure.axes]
    assert named == [ROWS, [], [], ROWS]
    ticks = dict(zip(named[0], panel(figure, 0).get_yticks(), strict=True))
    assert ticks["last"] == line(panel(figure, 0), "last")[0, 1]
    assert ticks["distance"] == line(panel(figure, 0), "distance")[0, 1]


def test_numbers_stand_beside_the_marks_and_a_dash_where_there_is_none() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    assert [numbers(axes) for axes in figure.axes] == [
        ["0.200", "0.600", "–", "–", "0.300"],
        ["0.500", "0.610", "–", "0.550", "–"],
        ["–", "0.100", "–", "–", "0.050"],
        ["–", "–", "0.400", "–", "–"],
    ]


def test_baselines_are_grey_and_open_and_networks_are_neither() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    for drawn in (drawn for axes in figure.axes for drawn in axes.lines if drawn.get_label() in ROWS):
        colour, inside = to_rgb(drawn.get_color()), to_rgb(drawn.get_markerfacecolor())
        assert (len(set(colour)) == 1) == (inside == (1, 1, 1)) == (drawn.get_label() in BASELINES)
    assert words(figure) >= {"network: mean, 95 % interval", "baseline"}
    assert "baseline" not in words(figures.score_chart({"AUC": {"last": (0.5, 0.4, 0.6)}}))


@pytest.mark.parametrize("width", [3.3, 7.0])
@pytest.mark.parametrize("networks", [1, 3, 6])
def test_headings_are_in_one_line_and_type_keeps_its_size_in_a_column_of_a_paper(width: float, networks: int) -> None:
    measures = ["AUC, n = 12", "PCK@0.05 (of the keypoints' box), n = 40", "view match (±1 of 7×7 cells), n = 300"]
    row = {f"checkpoint {i}": (0.5, 0.4, 0.6) for i in range(networks)} | {"chance": (0.1, 0.1, 0.1)}
    figure = figures.score_chart(dict.fromkeys(measures, row), ["chance"], None, "masked", "layer c5", width)
    assert figure.get_figwidth() <= width + 1e-6
    assert figure.get_figwidth() > width / 2, "and uses it"
    rendered(figure)
    assert {text.get_text() for text in texts(figure)} >= {*measures, "masked", "layer c5"}
    boxes = [text.get_window_extent() for text in texts(figure)]
    for a, b in itertools.combinations(boxes, 2):
        shared = Bbox.intersection(a, b)
        assert shared is None or min(shared.size) < 1
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert min(text.get_fontsize() for text in texts(figure)) >= 6


def test_a_count_is_never_torn_apart() -> None:
    measure = "how often a point of a picture finds its place in a strongly distorted copy, n = 12"
    for name in ("last", "a checkpoint of a long name"):
        shown = words(figures.score_chart({measure: {name: (0.5, 0.4, 0.6)}}, width=3.3))
        assert any(text.endswith(", n\xa0=\xa012") for text in shown), shown


def test_an_order_keeps_the_colours_of_those_that_are_left() -> None:
    order = ["random", "early", "last"]
    every = figures.score_chart({"AUC": dict.fromkeys(reversed(order), (0.5, 0.4, 0.6))}, order=order)
    two = figures.score_chart({"AUC": dict.fromkeys(("last", "random"), (0.5, 0.4, 0.6))}, order=order)
    looks = [
        {li.get_label(): li.get_color() for li in figure.axes[0].lines if li.get_label() in order}
        for figure in (every, two)
    ]
    assert {name: looks[0][name] for name in looks[1]} == looks[1]
    assert [t.get_text() for t in panel(two, 0).get_yticklabels()] == ["random", "last"]
    with pytest.raises(ValueError, match="lacks last"):
        figures.score_chart(SCORES, BASELINES, order=["random", "early"])


def test_nothing_to_compare_and_means_outside_their_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        figures.score_chart({"AUC": {"distance": (0.5, 0.4, 0.6)}}, ["distance"])
    with pytest.raises(ValueError, match="nothing to compare"):
        figures.score_chart({})
    with pytest.raises(ValueError, match=r"AUC of last: the mean 0\.7 is outside"):
        figures.score_chart({"AUC": {"last": (0.7, 0.4, 0.6)}})
