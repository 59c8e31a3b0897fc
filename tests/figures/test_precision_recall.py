"""Precision against recall: where the lines are, what they are called, and the numbers beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from readback import rendered, texts, words

from plrc import figures

GRID = np.linspace(0, 1, 101)


def falling(reach: float) -> np.ndarray:
    """Precision at 101 recalls: 1 − recall / 2, up to the last that is reached."""
    return np.where(reach + 1e-9 >= GRID, 1 - GRID / 2, 0.0)


CURVES = {"cat": falling(0.4), "dog": falling(0.8)}
AP = {"cat": 0.361, "dog": 0.643}
MANY = {f"class {i}": falling(0.3 + 0.05 * i) for i in range(12)}
MANY_AP = {name: 0.3 + 0.05 * i for i, name in enumerate(MANY)}


def plane(figure: Figure) -> Axes:
    return figure.axes[0]


def lines(figure: Figure) -> dict[str, Line2D]:
    return {line.get_label(): line for line in plane(figure).lines}


def at(line: Line2D, recall: float) -> float:
    """The precision that a line shows there."""
    assert line.get_drawstyle() == "steps-pre"
    x, y = line.get_xdata(), line.get_ydata()
    return float(y[np.searchsorted(x, recall - 1e-9)]) if recall <= x[-1] else 0.0


def test_lines_go_through_their_precisions_and_end_where_recall_does() -> None:
    drawn = lines(figures.precision_recall(CURVES, AP))
    for name, reach in (("cat", 0.4), ("dog", 0.8)):
        assert at(drawn[name], 0.2) == pytest.approx(0.9)
        assert at(drawn[name], reach) == pytest.approx(1 - reach / 2)
        assert drawn[name].get_xydata()[-1] == pytest.approx((reach, 0))
    axes = plane(figures.precision_recall(CURVES, AP))
    assert axes.bbox.width == pytest.approx(axes.bbox.height)
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((0, 1), abs=0.02)


def test_the_mean_is_bold_and_counts_a_class_as_0_beyond_its_reach() -> None:
    drawn = lines(figures.precision_recall(CURVES, AP))
    assert at(drawn["mean"], 0.4) == pytest.approx(0.8)
    assert at(drawn["mean"], 0.41) == pytest.approx(0.795 / 2)
    assert drawn["mean"].get_xydata()[-1] == pytest.approx((0.8, 0))
    widths = {name: line.get_linewidth() for name, line in drawn.items()}
    assert widths["mean"] >= 2 * max(widths["cat"], widths["dog"])


def test_a_pair_is_drawn_as_its_envelope_and_is_averaged_with_others() -> None:
    recall, precision = np.array([0.25, 0.25, 0.5, 0.5, 0.75]), np.array([1.0, 0.5, 0.667, 0.5, 0.6])
    figure = figures.precision_recall({"cat": (recall, precision), "dog": falling(1.0)}, AP)
    shown = [at(lines(figure)["cat"], r) for r in (0.1, 0.25, 0.26, 0.5, 0.6, 0.75, 0.8)]
    assert shown == pytest.approx([1, 1, 0.667, 0.667, 0.6, 0.6, 0])
    assert at(lines(figure)["mean"], 0.6) == pytest.approx((0.6 + 0.7) / 2)


def test_the_numbers_stand_in_the_figure() -> None:
    said = words(figures.precision_recall(CURVES, AP, "after 24k", note="runs/a"))
    assert said >= {
        "after 24k",
        "AP50 50.2 %, mean of 2 classes",
        "mean of 2 classes",
        "50.2",
        "36.1",
        "64.3",
        "runs/a",
    }
    assert "AP50 50.2 %, mean of 2 classes" in words(figures.precision_recall(CURVES, AP))


def test_one_class_has_no_mean() -> None:
    figure = figures.precision_recall({"cat": CURVES["cat"]}, {"cat": 0.361})
    assert set(lines(figure)) == {"cat"}
    assert "AP50 36.1 %, cat" in words(figure)


def test_up_to_eight_classes_are_told_apart_by_their_place_and_not_by_their_rank() -> None:
    eight = dict(list(MANY.items())[:8])
    ap = {name: MANY_AP[name] for name in eight}
    looks = [
        {name: (line.get_color(), line.get_linestyle()) for name, line in lines(figure).items() if name != "mean"}
        for figure in (figures.precision_recall(eight, p) for p in (ap, {name: 1 - p for name, p in ap.items()}))
    ]
    assert looks[0] == looks[1]
    assert len(set(looks[0].values())) == len({colour for colour, _ in looks[0].values()}) == 8
    assert set(eight) <= words(figures.precision_recall(eight, ap))


def test_of_more_the_best_and_the_worst_three_are_named_and_the_others_grey() -> None:
    figure = figures.precision_recall(MANY, MANY_AP)
    named = {f"class {i}" for i in (0, 1, 2, 9, 10, 11)}
    assert words(figure) & set(MANY) == named
    assert "6 others" in words(figure)
    colours = {name: to_rgb(lines(figure)[name].get_color()) for name in MANY}
    assert {name for name, colour in colours.items() if len(set(colour)) > 1} == named
    assert len({colours[name] for name in named}) == 6
    key = [t.get_text() for t in figure.axes[1].texts if t.get_text().startswith("class")]
    assert key == [f"class {i}" for i in (11, 10, 9, 2, 1, 0)]


@pytest.mark.parametrize("nothing", [-1.0, float("nan")])
def test_a_class_without_objects_is_no_part_of_the_mean(nothing: float) -> None:
    figure = figures.precision_recall({**CURVES, "owl": np.full(101, -1.0)}, {**AP, "owl": nothing})
    assert words(figure) >= {"AP50 50.2 %, mean of 2 classes", "1 without objects"}
    assert "owl" not in lines(figure)


def test_a_class_of_which_nothing_is_found_is() -> None:
    figure = figures.precision_recall({**CURVES, "owl": np.zeros(101)}, {**AP, "owl": 0.0})
    assert at(lines(figure)["mean"], 0.2) == pytest.approx(0.6)
    assert "AP50 33.5 %, mean of 3 classes" in words(figure)


def test_type_stays_on_the_page_whatever_the_names() -> None:
    curves = {"a class of a long name that goes on and on": CURVES["cat"], "$x$": CURVES["dog"]}
    figure = figures.precision_recall(curves, dict.fromkeys(curves, 0.5), "a long title, " * 12)
    assert figure.get_figwidth() <= 7
    rendered(figure)
    for text in texts(figure):
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert text.get_fontsize() >= 6
    assert "$x$" in words(figure)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_it_is_saved_the_same_twice(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for file in files:
        figures.save(figures.precision_recall(MANY, MANY_AP, "all"), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="owl has a curve or an AP and not both"):
        figures.precision_recall(CURVES, {**AP, "owl": 0.1})
    with pytest.raises(ValueError, match=r"AP of cat is 36\.1: give shares"):
        figures.precision_recall(CURVES, {**AP, "cat": 36.1})
    with pytest.raises(ValueError, match="no class has an object"):
        figures.precision_recall(CURVES, dict.fromkeys(CURVES, -1.0))
    with pytest.raises(ValueError, match=r"curve of cat is of shape \(50,\)"):
        figures.precision_recall({**CURVES, "cat": np.ones(50)}, AP)
