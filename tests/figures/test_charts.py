"""Charts, read back: curves of runs, scores with intervals, precision over recall, kinds of errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from plrc import figures
from plrc.figures.charts import KINDS, running_mean
from tests.figures.readback import box_of, one, rendered, texts, words

NAN = float("nan")


def titled(figure: Figure, heading: str) -> Axes:
    (axes,) = [axes for axes in figure.axes if heading in (axes.get_title(), axes.get_title(loc="left"))]
    return axes


# ------------------------------------------------------------------------------------------------------------ curves

STEPS = np.arange(10.0, 410, 10)
HEADINGS = {
    "total": "total loss, weighted", "image": "image loss", "my_term": "my term loss", "lr": "learning rate",
    "images_per_second": "images/s", "data_wait": "waiting for data, %", "memory_mib": "peak memory, GiB",
}  # fmt: skip
FACTORS = {"data_wait": 100, "memory_mib": 1 / 1024}


def run(**changes: np.ndarray) -> dict[str, np.ndarray]:
    rise = np.linspace(0, 1, len(STEPS))
    return {"step": STEPS, "epoch": STEPS / 40, **{q: rise + i for i, q in enumerate(HEADINGS)}, **changes}


def test_running_mean_against_a_loop_and_at_its_ends() -> None:
    values = np.random.default_rng(0).normal(size=30)
    values[[4, 5, 17]] = NAN, np.inf, NAN
    for n in (1, 3, 7, 99):
        wanted = []
        for i in range(len(values)):
            near = [v for v in values[max(0, i - n // 2) : i + n // 2 + 1] if np.isfinite(v)]
            wanted.append(np.mean(near) if np.isfinite(values[i]) else NAN)
        np.testing.assert_allclose(running_mean(values, n), wanted)
    np.testing.assert_allclose(running_mean(np.arange(20.0), 5)[2:-2], np.arange(20.0)[2:-2])  # it does not lag


@pytest.mark.parametrize("smooth", [1, 5])
def test_each_quantity_of_the_log_has_its_panel_with_values_and_mean_a_loss_of_any_name_too(smooth: int) -> None:
    of = run()
    figure = figures.curves({"demo": of}, 31, smooth=smooth)
    assert [axes.get_title() for axes in figure.axes if axes.lines] == list(HEADINGS.values())
    for quantity, heading in HEADINGS.items():
        axes = titled(figure, heading)
        values = FACTORS.get(quantity, 1) * of[quantity]
        varies = quantity not in ("lr", "memory_mib") and smooth > 1
        mean = running_mean(values, smooth) if varies else values
        np.testing.assert_allclose(one(axes, "curve 0").get_xydata(), np.stack((STEPS, mean), axis=1))
        assert ("values 0" in [line.get_label() for line in axes.lines]) == varies
        if varies:
            np.testing.assert_allclose(one(axes, "values 0").get_ydata(), values)
            assert one(axes, "values 0").get_linewidth() < 0.5 < one(axes, "curve 0").get_linewidth()
    assert ("mean of 5 log lines, centred" in words(figure)) == (smooth > 1)


def test_what_no_run_has_is_left_out_and_gaps_and_single_values_are_drawn() -> None:
    image = run()["image"].copy()
    image[10:12] = NAN, np.inf
    bare = run(my_term=np.full(len(STEPS), NAN), image=image)
    del bare["memory_mib"]
    figure = figures.curves({"old": bare})
    assert not {"my term loss", "peak memory, GiB"} & words(figure)
    assert np.isnan(one(titled(figure, "image loss"), "curve 0").get_ydata()[10:12]).all()
    both = figures.curves({"old": bare, "new": run()})
    assert [drawn.get_label() for drawn in titled(both, "peak memory, GiB").lines] == ["curve 1"]
    alone = figures.curves({"new": {"step": np.array([10.0]), "image": np.array([5.0])}}, 31)
    assert titled(alone, "image loss").lines[-1].get_marker() == "."


def test_steps_stand_under_the_lowest_panels_and_epochs_over_the_highest() -> None:
    figure = figures.curves({"demo": run()}, 40)  # seven: one column is longer
    rendered(figure)
    drawn = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_xlabel() for axes in drawn] == [""] * 4 + ["step"] * 3
    assert [any(t.get_visible() and t.get_text() for t in axes.get_xticklabels()) for axes in drawn[:3]] == [False] * 3
    assert drawn[0].get_xlim() == (0, 400)
    above = [axes.child_axes for axes in drawn]
    assert [len(a) for a in above] == [1] * 3 + [0] * 4
    assert above[0][0].get_xlim() == pytest.approx((0, 10))
    assert not any(axes.child_axes for axes in figures.curves({"demo": run()}).axes)


def test_runs_differ_in_colour_and_line_and_are_named() -> None:
    figure = figures.curves({name: run() for name in ("a_$1$", "b", "c")})
    drawn = [line for line in titled(figure, "image loss").lines if str(line.get_label()).startswith("curve")]
    assert len({line.get_color() for line in drawn}) == len({str(line._unscaled_dash_pattern) for line in drawn}) == 3
    assert words(figure) >= {"a_$1$", "b", "c"}
    assert not words(figures.curves({"alone": run()})) & {"alone"}


def test_bad_runs_are_refused() -> None:
    for smooth in (0, 4, -1):
        with pytest.raises(ValueError, match=f"odd number of log lines.*not {smooth}"):
            figures.curves({"demo": run()}, smooth=smooth)
    with pytest.raises(ValueError, match="image of demo has 3 values for 40 steps"):
        figures.curves({"demo": run(image=np.zeros(3))})
    for nothing in ({}, {"demo": {"step": STEPS, "image": np.full(len(STEPS), NAN)}}):
        with pytest.raises(ValueError, match="no curve to draw"):
            figures.curves(nothing)


# ------------------------------------------------------------------------------------------------------------ scores

SCORES = {
    "recall": {"random": (0.2, 0.15, 0.25), "last": (0.6, 0.55, 0.65), "distance": (0.3, 0.29, 0.32)},
    "AUC": {"last": (0.61, 0.6, 0.63), "random": (0.5, 0.48, 0.52), "colour": (0.55, 0.5, 0.6)},
    "PCK": {"last": (0.1, 0.05, 0.2), "random": (NAN,) * 3, "distance": (0.05, 0.05, 0.05)},
    "purity": {"early": (0.4, 0.4, 0.4)},
}
BASELINES = ("colour", "distance")
ROWS = ["random", "last", "early", *BASELINES]


def numbers(axes: Axes) -> list[str]:
    """At the right of the rows, from the top."""
    return [text.get_text() for text in sorted(axes.texts, key=lambda text: text.get_position()[1])]


def test_marks_are_at_means_and_bars_over_intervals_with_their_numbers() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    for measure, row in SCORES.items():
        axes = titled(figure, measure)
        drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
        for name, (mean, low, high) in row.items():
            if np.isfinite(mean):
                assert drawn[name].tolist() == [[mean, ROWS.index(name)]]
                assert drawn[f"interval of {name}"].tolist() == [[low, ROWS.index(name)], [high, ROWS.index(name)]]
                assert axes.get_xlim()[0] < low <= high < axes.get_xlim()[1]
        assert {name for name in drawn if name in ROWS} == {n for n, of in row.items() if np.isfinite(of[0])}
        assert axes.yaxis_inverted()
        assert numbers(axes) == [f"{row[n][0]:.3f}" if n in row and row[n][0] == row[n][0] else "–" for n in ROWS]
    named = [[t.get_text() for t in axes.get_yticklabels() if t.get_text()] for axes in figure.axes]
    assert named == [ROWS, [], ROWS, []]


def test_baselines_are_grey_and_open_and_networks_are_neither() -> None:
    figure = figures.score_chart(SCORES, BASELINES)
    looks: dict[str, set[Any]] = {}
    for drawn in (drawn for axes in figure.axes for drawn in axes.lines if drawn.get_label() in ROWS):
        colour, inside = to_rgb(drawn.get_color()), to_rgb(drawn.get_markerfacecolor())
        assert (len(set(colour)) == 1) == (inside == (1, 1, 1)) == (drawn.get_label() in BASELINES)
        looks.setdefault(drawn.get_label(), set()).add((drawn.get_color(), drawn.get_marker()))
    assert all(len(of_one) == 1 for of_one in looks.values())
    assert len(set.union(*looks.values())) == len(ROWS)
    assert words(figure) >= {"network: mean, 95 % interval", "baseline"}
    assert "baseline" not in words(figures.score_chart({"AUC": {"last": (0.5, 0.4, 0.6)}}))


def test_an_order_keeps_the_colours_of_those_that_are_left() -> None:
    order = ["random", "early", "last"]
    every = figures.score_chart({"AUC": dict.fromkeys(reversed(order), (0.5, 0.4, 0.6))}, order=order)
    two = figures.score_chart({"AUC": dict.fromkeys(("last", "random"), (0.5, 0.4, 0.6))}, order=order)
    looks = [{li.get_label(): li.get_color() for li in figure.axes[0].lines} for figure in (every, two)]
    assert all(looks[0][name] == looks[1][name] for name in ("random", "last"))
    assert [t.get_text() for t in two.axes[0].get_yticklabels()] == ["random", "last"]


def test_a_count_is_never_torn_apart_and_a_long_name_keeps_both_ends() -> None:
    measure = "how often a point of a picture finds its place in a strongly distorted copy, n = 12"
    said = words(figures.score_chart({measure: {"/runs/of/a/long/name/epoch_0100.pt": (0.5, 0.4, 0.6)}}, width=3.3))
    assert any(text.endswith(", n\xa0=\xa012") for text in said), said
    assert any(text.startswith("/runs") and text.endswith("0100.pt") and "…" in text for text in said), said


def test_scores_that_cannot_be_compared_are_refused() -> None:
    for scores, how, message in (
        ({"AUC": {"distance": (0.5, 0.4, 0.6)}}, {"baselines": ["distance"]}, "nothing to compare"),
        ({}, {}, "nothing to compare"),
        ({"AUC": {"last": (0.7, 0.4, 0.6)}}, {}, r"AUC of last: the mean 0\.7 is outside"),
        (SCORES, {"baselines": BASELINES, "order": ["random", "early"]}, "lacks last"),
    ):
        with pytest.raises(ValueError, match=message):
            figures.score_chart(scores, **how)


# --------------------------------------------------------------------------------------------------------- detection

GRID = np.linspace(0, 1, 101)


def falling(reach: float) -> np.ndarray:
    """Precision at 101 recalls: 1 − recall / 2, up to the last that is reached."""
    return np.where(reach + 1e-9 >= GRID, 1 - GRID / 2, 0.0)


CURVES, AP = {"cat": falling(0.4), "dog": falling(0.8)}, {"cat": 0.361, "dog": 0.643}
MANY = {f"class {i}": falling(0.3 + 0.05 * i) for i in range(12)}
MANY_AP = {name: 0.3 + 0.05 * i for i, name in enumerate(MANY)}


def lines(figure: Figure) -> dict[str, Any]:
    return {line.get_label(): line for line in figure.axes[0].lines}


def at(line: Any, recall: float) -> float:
    """The precision that a line shows there."""
    assert line.get_drawstyle() == "steps-pre"
    x, y = line.get_xdata(), line.get_ydata()
    return float(y[np.searchsorted(x, recall - 1e-9)]) if recall <= x[-1] else 0.0


def test_lines_go_through_their_precisions_and_end_where_recall_does_and_so_does_the_mean() -> None:
    figure = figures.precision_recall(CURVES, AP, "after 24k", note="runs/a")
    drawn = lines(figure)
    for name, reach in (("cat", 0.4), ("dog", 0.8)):
        assert at(drawn[name], 0.2) == pytest.approx(0.9)
        assert at(drawn[name], reach) == pytest.approx(1 - reach / 2)
        assert drawn[name].get_xydata()[-1] == pytest.approx((reach, 0))
        assert drawn["mean"].get_linewidth() >= 2 * drawn[name].get_linewidth()
    assert at(drawn["mean"], 0.4) == pytest.approx(0.8)
    assert at(drawn["mean"], 0.41) == pytest.approx(0.795 / 2), "a class counts as 0 beyond its reach"
    assert drawn["mean"].get_xydata()[-1] == pytest.approx((0.8, 0))
    said = {"after 24k", "AP50 50.2 %, mean of 2 classes", "50.2 mean of 2 classes", "36.1 cat", "64.3 dog", "runs/a"}
    assert said <= words(figure)
    alone = figures.precision_recall({"cat": CURVES["cat"]}, {"cat": 0.361})
    assert set(lines(alone)) == {"cat"}
    assert "AP50 36.1 %, cat" in words(alone)


def test_a_pair_is_drawn_as_its_envelope_and_is_averaged_with_others() -> None:
    recall, precision = np.array([0.25, 0.25, 0.5, 0.5, 0.75]), np.array([1.0, 0.5, 0.667, 0.5, 0.6])
    figure = figures.precision_recall({"cat": (recall, precision), "dog": falling(1.0)}, AP)
    shown = [at(lines(figure)["cat"], r) for r in (0.1, 0.25, 0.26, 0.5, 0.6, 0.75, 0.8)]
    assert shown == pytest.approx([1, 1, 0.667, 0.667, 0.6, 0.6, 0])
    assert at(lines(figure)["mean"], 0.6) == pytest.approx((0.6 + 0.7) / 2)


def test_up_to_eight_classes_keep_their_look_whatever_their_rank() -> None:
    eight = dict(list(MANY.items())[:8])
    ap = {name: MANY_AP[name] for name in eight}
    looks = [
        {name: (line.get_color(), line.get_linestyle()) for name, line in lines(figure).items() if name != "mean"}
        for figure in (figures.precision_recall(eight, p) for p in (ap, {name: 1 - p for name, p in ap.items()}))
    ]
    assert looks[0] == looks[1]
    assert len(set(looks[0].values())) == len({colour for colour, _ in looks[0].values()}) == 8


def test_of_more_the_best_and_the_worst_three_are_named_and_the_others_grey() -> None:
    figure = figures.precision_recall(MANY, MANY_AP)
    key = [text.get_text() for text in figure.subfigs[0].legends[0].get_texts()]
    assert key[1:4] == [f"{85 - 5 * i}.0  class {11 - i}" for i in range(3)]
    assert key[4:] == ["6 others", *(f"{40 - 5 * i}.0  class {2 - i}" for i in range(3))]
    colours = {name: to_rgb(lines(figure)[name].get_color()) for name in MANY}
    named = {f"class {i}" for i in (0, 1, 2, 9, 10, 11)}
    assert {name for name, colour in colours.items() if len(set(colour)) > 1} == named
    assert len({colours[name] for name in named}) == 6


@pytest.mark.parametrize("nothing", [-1.0, NAN])
def test_a_class_without_objects_is_no_part_of_the_mean_one_of_which_nothing_is_found_is(nothing: float) -> None:
    figure = figures.precision_recall({**CURVES, "owl": np.full(101, -1.0)}, {**AP, "owl": nothing})
    assert words(figure) >= {"AP50 50.2 %, mean of 2 classes", "1 without objects"}
    assert "owl" not in lines(figure)
    figure = figures.precision_recall({**CURVES, "owl": np.zeros(101)}, {**AP, "owl": 0.0})
    assert at(lines(figure)["mean"], 0.2) == pytest.approx(0.6)
    assert "AP50 33.5 %, mean of 3 classes" in words(figure)


LOST = dict(zip(("missed", "classification", "localisation", "both", "duplicate", "background"),
                (0.115, 0.021, 0.134, 0.004, 0.008, 0.032), strict=True))  # fmt: skip
COUNTS = {kind: 10 + i for i, kind in enumerate(LOST)}


def bars(figure: Figure) -> dict[str, Any]:
    return {of.get_label(): of[0] for axes in figure.axes for of in axes.containers}


def test_bars_are_as_long_as_the_points_lost_with_numbers_and_counts_beside_them() -> None:
    figure = figures.error_types(LOST, {**COUNTS, "background": 12345}, 0.653, "after 24k")
    rendered(figure)
    drawn = bars(figure)
    assert {kind: drawn[kind].get_width() for kind in KINDS} == pytest.approx({k: 100 * v for k, v in LOST.items()})
    middles = [box_of(drawn[kind]).y0 for kind in KINDS]
    assert middles == sorted(middles, reverse=True)
    for kind in KINDS:
        count = "12\u202f345" if kind == "background" else str(COUNTS[kind])
        bar = box_of(drawn[kind])
        for said in (kind, f"{100 * LOST[kind]:.1f}", count):
            boxes = [box_of(t) for t in texts(figure) if t.get_text().split("\n")[0] == said]
            assert any(abs(box.y0 + box.y1 - bar.y0 - bar.y1) < bar.height for box in boxes), (kind, said)
    assert words(figure) >= {"after 24k", "AP50 65.3 % reached", "points of AP50 lost", "count"}


def test_a_perfect_detector_an_unknown_loss_and_a_gain_can_be_drawn() -> None:
    lost = {**dict.fromkeys(KINDS, 0.0), "both": NAN, "duplicate": -0.004}
    figure = figures.error_types(lost, dict.fromkeys(KINDS, 0), 1.0)
    assert bars(figure)["duplicate"].get_width() == pytest.approx(-0.4)
    assert bars(figure)["duplicate"].axes.get_xlim()[0] <= -0.4
    assert bars(figure)["both"].get_width() == 0
    assert words(figure) >= {"–", "−0.4", "AP50 100.0 % reached"}


def test_numbers_of_detection_that_do_not_fit_are_refused() -> None:
    share, few = "give shares", {kind: 0.1 for kind in KINDS if kind != "missed"}
    for draw, message in (
        (lambda: figures.precision_recall(CURVES, {**AP, "owl": 0.1}), "owl has a curve or an AP and not both"),
        (lambda: figures.precision_recall(CURVES, {**AP, "cat": 36.1}), rf"AP of cat is 36\.1: {share}"),
        (lambda: figures.precision_recall(CURVES, dict.fromkeys(CURVES, -1.0)), "no class has an object"),
        (lambda: figures.precision_recall({**CURVES, "cat": np.ones(50)}, AP), r"curve of cat is of shape \(50,\)"),
        (lambda: figures.error_types(few, COUNTS, 0.5), "lost AP50: missed is missing"),
        (lambda: figures.error_types(LOST, {**COUNTS, "other": 1}, 0.5), "counts: other is missing or no kind"),
        (lambda: figures.error_types(LOST, COUNTS, 65.3), share),
        (lambda: figures.error_types({**LOST, "both": 4.0}, COUNTS, 0.5), share),
        (lambda: figures.error_types(LOST, COUNTS, NAN), "no class has an object"),
    ):
        with pytest.raises(ValueError, match=message):
            draw()
