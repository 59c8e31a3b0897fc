"""Charts, read back: curves of runs, scores with intervals, precision over recall, kinds of errors."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from plrc import figures
from plrc.figures.charts import GRID, KINDS, running_mean
from tests.figures.readback import one, rendered, texts, words

NAN = float("nan")


def titled(figure: Figure, heading: str) -> Axes:
    (axes,) = [axes for axes in figure.axes if heading in (axes.get_title(), axes.get_title(loc="left"))]
    return axes


STEPS = np.arange(10.0, 410, 10)
HEADINGS = {
    "total": "total loss, weighted", "image": "image loss", "my_term": "my term loss", "lr": "learning rate",
    "images_per_second": "images/s", "data_wait": "waiting for data, %", "memory_mib": "peak memory, GiB",
}  # fmt: skip


def run(**changes: np.ndarray) -> dict[str, np.ndarray]:
    rise = np.linspace(0, 1, len(STEPS))
    return {"step": STEPS, "epoch": STEPS / 40, **{q: rise + i for i, q in enumerate(HEADINGS)}, **changes}


def test_running_mean_against_a_loop() -> None:
    values = np.random.default_rng(0).normal(size=30)
    values[[4, 5, 17]] = NAN, np.inf, NAN
    for n in (1, 3, 7, 99):
        near = [values[max(0, i - n // 2) : i + n // 2 + 1] for i in range(len(values))]
        wanted = [of[np.isfinite(of)].mean() if np.isfinite(v) else NAN for of, v in zip(near, values, strict=True)]
        np.testing.assert_allclose(running_mean(values, n), wanted)


@pytest.mark.parametrize("smooth", [1, 5])
def test_each_quantity_of_the_log_has_its_panel_with_values_and_mean_a_loss_of_any_name_too(smooth: int) -> None:
    of = run()
    figure = figures.curves({"demo": of}, 40, smooth=smooth)
    drawn = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title() for axes in drawn] == list(HEADINGS.values())
    for axes, quantity in zip(drawn, HEADINGS, strict=True):
        values = {"data_wait": 100, "memory_mib": 1 / 1024}.get(quantity, 1) * of[quantity]
        varies = quantity not in ("lr", "memory_mib") and smooth > 1
        mean = running_mean(values, smooth) if varies else values
        np.testing.assert_allclose(one(axes, "curve 0").get_xydata(), np.stack((STEPS, mean), axis=1))
        assert ("values 0" in [line.get_label() for line in axes.lines]) == varies
        if varies:
            np.testing.assert_allclose(one(axes, "values 0").get_ydata(), values)
            assert one(axes, "values 0").get_linewidth() < 0.5 < one(axes, "curve 0").get_linewidth()
    assert ("mean of 5 log lines, centred" in words(figure)) == (smooth > 1)
    # Steps stand under the lowest panels, epochs over the highest; of seven panels one column is longer.
    assert [axes.get_xlabel() for axes in drawn] == [""] * 4 + ["step"] * 3
    assert [any(t.get_visible() and t.get_text() for t in axes.get_xticklabels()) for axes in drawn[:3]] == [False] * 3
    above = [axes.child_axes for axes in drawn]
    assert [len(a) for a in above] == [1] * 3 + [0] * 4
    assert (drawn[0].get_xlim(), above[0][0].get_xlim()) == ((0, 400), pytest.approx((0, 10)))


def test_what_no_run_has_is_left_out_gaps_and_single_values_are_drawn_and_runs_differ_and_are_named() -> None:
    image = run()["image"].copy()
    image[10:12] = NAN, np.inf
    bare = run(my_term=np.full(len(STEPS), NAN), image=image)
    del bare["memory_mib"]
    figure = figures.curves({"old": bare})
    assert not {"my term loss", "peak memory, GiB", "old"} & words(figure)
    assert not any(axes.child_axes for axes in figure.axes)
    assert np.isnan(one(titled(figure, "image loss"), "curve 0").get_ydata()[10:12]).all()
    several = figures.curves({"a_$1$": bare, "b": run(), "c": run()})
    assert [drawn.get_label() for drawn in titled(several, "peak memory, GiB").lines] == ["curve 1", "curve 2"]
    drawn = [one(titled(several, "image loss"), f"curve {k}") for k in range(3)]
    assert len({line.get_color() for line in drawn}) == len({str(line._unscaled_dash_pattern) for line in drawn}) == 3
    assert words(several) >= {"a_$1$", "b", "c"}
    alone = figures.curves({"new": {"step": np.array([10.0]), "image": np.array([5.0])}}, 31)
    assert titled(alone, "image loss").lines[-1].get_marker() == "."


def test_bad_runs_are_refused() -> None:
    assert "mean of" not in " ".join(words(figures.curves({"demo": run()}, smooth=1001))), "of fewer lines than that"
    for smooth in (0, 4, -1):
        with pytest.raises(ValueError, match=f"odd number of log lines.*not {smooth}"):
            figures.curves({"demo": run()}, smooth=smooth)
    for nothing in ({}, {"demo": {"step": STEPS, "image": np.full(len(STEPS), NAN)}}):
        with pytest.raises(ValueError, match="no curve to draw"):
            figures.curves(nothing)


SCORES = {
    "recall": {"random": (0.2, 0.15, 0.25), "last": (0.6, 0.55, 0.65), "distance": (0.3, 0.29, 0.32)},
    "AUC": {"last": (0.61, 0.6, 0.63), "random": (0.5, 0.48, 0.52), "colour": (0.55, 0.5, 0.6)},
    "PCK": {"last": (0.1, 0.05, 0.2), "random": (NAN,) * 3, "distance": (0.05, 0.05, 0.05)},
    "purity": {"early": (0.4, 0.4, 0.4)},
}
BASELINES = ("colour", "distance")


@pytest.mark.parametrize("order", [None, ["early", "none", "last", "random"]])
def test_marks_are_at_means_and_bars_over_intervals_with_their_numbers(order: list[str] | None) -> None:
    figure = figures.score_chart(SCORES, BASELINES, order)
    names = [*(name for name in order or ("random", "last", "early") if name != "none"), *BASELINES]
    looks: dict[str, set[Any]] = {}
    for measure, row in SCORES.items():
        axes = titled(figure, measure)
        drawn = {line.get_label(): line for line in axes.lines}
        for name, (mean, low, high) in row.items():
            if np.isfinite(mean):
                y, mark = names.index(name), drawn[name]
                assert mark.get_xydata().tolist() == [[mean, y]]
                assert drawn[f"interval of {name}"].get_xydata().tolist() == [[low, y], [high, y]]
                assert axes.get_xlim()[0] < low <= high < axes.get_xlim()[1]
                colour, inside = to_rgb(mark.get_color()), to_rgb(mark.get_markerfacecolor())
                assert (len(set(colour)) == 1) == (inside == (1, 1, 1)) == (name in BASELINES), "grey and open"
                looks.setdefault(name, set()).add((mark.get_color(), mark.get_marker()))
        assert {name for name in drawn if name in names} == {n for n, of in row.items() if np.isfinite(of[0])}
        assert axes.yaxis_inverted()
        numbers = [text.get_text() for text in sorted(axes.texts, key=lambda text: text.get_position()[1])]
        assert numbers == [f"{row[n][0]:.3f}" if n in row and row[n][0] == row[n][0] else "–" for n in names]
    assert all(len(of_one) == 1 for of_one in looks.values())
    assert len(set.union(*looks.values())) == len(names)
    named = [[t.get_text() for t in axes.get_yticklabels() if t.get_text()] for axes in figure.axes]
    assert named == [names, [], names, []]
    assert words(figure) >= {"network: mean, 95 % interval", "baseline"}
    kept = figures.score_chart({"AUC": {"last": (0.5, 0.4, 0.6)}}, order=order)
    assert "baseline" not in words(kept)
    if order:
        assert {(one(kept, "last").get_color(), "o")} == looks["last"], "whichever others there are"


def test_a_count_is_never_torn_apart_and_a_long_name_keeps_both_ends() -> None:
    measure = "how often a point of an image finds its place in a strongly distorted copy of it, n = 12"
    names = ["/runs/of/a/long/name/checkpoints/epoch_0100.pt", "b"]
    said = words(figures.score_chart({measure: dict.fromkeys(names, (0.5, 0.4, 0.6)), "a": {}, "b": {}}))
    assert any(text.endswith(", n\xa0=\xa012") for text in said), said
    assert any(text.startswith("/runs") and text.endswith("0100.pt") and "…" in text for text in said), said


def test_scores_that_cannot_be_compared_are_refused() -> None:
    for scores, how in (
        ({"AUC": {"distance": (0.5, 0.4, 0.6)}}, {"baselines": ["distance"]}),
        ({}, {}),
        (SCORES, {"baselines": BASELINES, "order": ["random", "early"]}),
    ):
        with pytest.raises(ValueError, match="nothing to compare"):
            figures.score_chart(scores, **how)


def test_scores_over_epochs_lie_at_their_means_in_their_bands_beside_the_losses() -> None:
    of = {"a": np.array([[0, 0.5, 0.4, 0.6], [2, 0.7, 0.6, 0.9]]), "b": np.array([[2, 0.3, np.nan, np.nan]])}
    log = {"epoch": np.array([0.5, 2.0]), "total": np.array([3.0, 1.0]), "point": np.array([np.nan, 1.0])}
    figure = figures.scores_over_epochs({"AUC, n = 3": of}, {"AUC, n = 3": {"chance": 0.5}}, {"a": log})
    axes = titled(figure, "AUC, n\xa0=\xa03")
    for k, run in enumerate(of.values()):
        assert one(axes, f"curve {k}").get_xydata().tolist() == run[:, :2].tolist()
    assert one(axes, "chance").get_xydata()[:, 1].tolist() == [0.5, 0.5]
    band = axes.collections[0].get_paths()[0].vertices
    for epoch, low, high in ((0, 0.4, 0.6), (2, 0.6, 0.9)):
        assert {low, high} <= set(band[band[:, 0] == epoch, 1])
    assert one(titled(figure, "total loss, weighted"), "curve 0").get_xydata().tolist() == [[0.5, 3], [2, 1]]
    assert {axes.get_xlim() for axes in figure.axes if axes.axison} == {(-0.04, 2.04)}
    assert words(figure) >= {"a", "b", "chance", "point loss"}
    assert "Band: 95 % interval." in words(figure)
    long = "superpixels: points, affinity from the eighth epoch"
    alone = words(figures.scores_over_epochs({"AUC": {long: of["b"]}}, {}, {}))
    assert long in alone, "not cut: there is room"
    assert "Band: 95 % interval." not in alone, "there is none"


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
    figure = figures.precision_recall(CURVES, AP, "after 24k")
    drawn = lines(figure)
    for name, reach in (("cat", 0.4), ("dog", 0.8)):
        assert at(drawn[name], 0.2) == pytest.approx(0.9)
        assert at(drawn[name], reach) == pytest.approx(1 - reach / 2)
        assert drawn[name].get_xydata()[-1] == pytest.approx((reach, 0))
        assert drawn["mean"].get_linewidth() >= 2 * drawn[name].get_linewidth()
    assert at(drawn["mean"], 0.4) == pytest.approx(0.8)
    assert at(drawn["mean"], 0.41) == pytest.approx(0.795 / 2), "a class counts as 0 beyond its reach"
    assert drawn["mean"].get_xydata()[-1] == pytest.approx((0.8, 0))
    said = {"after 24k", "AP50 50.2 %, mean of 2 classes", "50.2 mean of 2 classes", "36.1 cat", "64.3 dog"}
    assert said <= words(figure)
    alone = figures.precision_recall({"cat": CURVES["cat"]}, {"cat": 0.361})
    assert set(lines(alone)) == {"cat"}
    assert "AP50 36.1 %, cat" in words(alone)


def test_up_to_eight_classes_keep_their_look_and_of_more_the_best_and_the_worst_three_are_named() -> None:
    eight = dict(list(MANY.items())[:8])
    ap = {name: MANY_AP[name] for name in eight}
    looks = [
        {name: (line.get_color(), line.get_linestyle()) for name, line in lines(figure).items() if name != "mean"}
        for figure in (figures.precision_recall(eight, p) for p in (ap, {name: 1 - p for name, p in ap.items()}))
    ]
    assert looks[0] == looks[1], "whatever their rank"
    assert len({colour for colour, _ in looks[0].values()}) == 8
    figure = figures.precision_recall(MANY, MANY_AP)
    key = [text.get_text() for text in figure.subfigs[0].legends[0].get_texts()]
    assert key[1:4] == [f"{85 - 5 * i}.0  class {11 - i}" for i in range(3)]
    assert key[4:] == ["6 others", *(f"{40 - 5 * i}.0  class {2 - i}" for i in range(3))]
    colours = {name: to_rgb(lines(figure)[name].get_color()) for name in MANY}
    named = {name for name, colour in colours.items() if len(set(colour)) > 1}
    assert named == {f"class {i}" for i in (0, 1, 2, 9, 10, 11)}, "others are grey"
    assert len({colours[name] for name in named}) == 6


@pytest.mark.parametrize("nothing", [-1.0, NAN])
def test_a_class_without_objects_is_no_part_of_the_mean_one_of_which_nothing_is_found_is(nothing: float) -> None:
    figure = figures.precision_recall({**CURVES, "owl": np.full(101, -1.0)}, {**AP, "owl": nothing})
    assert words(figure) >= {"AP50 50.2 %, mean of 2 classes", "1 without objects"}
    assert "owl" not in lines(figure)
    figure = figures.precision_recall({**CURVES, "owl": np.zeros(101)}, {**AP, "owl": 0.0})
    assert at(lines(figure)["mean"], 0.2) == pytest.approx(0.6)
    assert "AP50 33.5 %, mean of 3 classes" in words(figure)


LOST = {"missed": 0.9, "classification": NAN, "localisation": 0.134, "both": -0.004, "duplicate": 0, "background": 0.03}
COUNTS = {kind: 10 + i for i, kind in enumerate(LOST)} | {"background": 12345}


def test_bars_are_as_long_as_the_points_lost_with_numbers_and_counts_beside_them() -> None:
    figure = figures.error_types(LOST, COUNTS, 0.653, "after 24k")
    rendered(figure)
    low, high = figure.axes[0].get_xlim()
    middles = []
    for kind in KINDS:
        bar = one(figure, kind)
        assert bar.get_width() == pytest.approx(np.nan_to_num(100 * LOST[kind]))
        assert low <= bar.get_width() <= high
        box = bar.get_window_extent()
        middles.append(box.y0)
        number = f"{100 * LOST[kind]:.1f}".replace("-", "−").replace("nan", "–")
        for said in (kind, number, "12\u202f345" if kind == "background" else str(COUNTS[kind])):
            boxes = [t.get_window_extent() for t in texts(figure) if t.get_text().split("\n")[0] == said]
            assert any(abs(b.y0 + b.y1 - box.y0 - box.y1) < box.height for b in boxes), (kind, said)
    assert middles == sorted(middles, reverse=True)
    assert words(figure) >= {"after 24k", "AP50 65.3 % reached", "points of AP50 lost", "count"}


def test_numbers_of_detection_that_do_not_fit_are_refused() -> None:
    share, few = "a share|give shares", {kind: 0.1 for kind in KINDS if kind != "missed"}
    for draw, message in (
        (lambda: figures.precision_recall(CURVES, {**AP, "owl": 0.1}), "of every class"),
        (lambda: figures.precision_recall(CURVES, {**AP, "cat": 36.1}), share),
        (lambda: figures.precision_recall(CURVES, dict.fromkeys(CURVES, -1.0)), "no class has an object"),
        (lambda: figures.precision_recall({**CURVES, "cat": np.ones(50)}, AP), "101 recalls"),
        (lambda: figures.error_types(few, COUNTS, 0.5), "each kind of error: classification, "),
        (lambda: figures.error_types(LOST, {**COUNTS, "other": 1}, 0.5), "each kind of error"),
        (lambda: figures.error_types(LOST, COUNTS, 65.3), share),
        (lambda: figures.error_types({**LOST, "both": 4.0}, COUNTS, 0.5), share),
        (lambda: figures.error_types(LOST, COUNTS, NAN), "AP50 of nan"),
    ):
        with pytest.raises(ValueError, match=message):
            draw()
