"""Training curves: a panel a quantity, values and their running mean, steps below and epochs above."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from readback import rendered, texts, words

from plrc import figures
from plrc.figures.curves import QUANTITIES, running_mean

STEPS = np.arange(10.0, 410, 10)
NAN = float("nan")


def run(**changes: np.ndarray) -> dict[str, np.ndarray]:
    rise = np.linspace(0, 1, len(STEPS))
    return {"step": STEPS, **{q: rise + i for i, q in enumerate(QUANTITIES)}, **changes}


def panel(figure: Figure, quantity: str) -> Axes:
    heading = QUANTITIES[quantity][0]
    (axes,) = [axes for axes in figure.axes if axes.get_title().startswith(heading)]
    return axes


def line(axes: Axes, label: str) -> np.ndarray:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(found.get_xydata())


def test_running_mean_against_a_loop_and_at_its_ends() -> None:
    values = np.random.default_rng(0).normal(size=30)
    values[[4, 5, 17]] = NAN, np.inf, NAN
    for n in (1, 3, 7, 99):
        wanted = []
        for i in range(len(values)):
            near = [v for v in values[max(0, i - n // 2) : i + n // 2 + 1] if np.isfinite(v)]
            wanted.append(np.mean(near) if np.isfinite(values[i]) else NAN)
        np.testing.assert_allclose(running_mean(values, n), wanted)
    slope = np.arange(20.0)
    np.testing.assert_allclose(running_mean(slope, 5)[2:-2], slope[2:-2])  # it does not lag


def test_each_quantity_has_its_panel_with_values_and_mean() -> None:
    of = run()
    figure = figures.curves({"demo": of}, 31, smooth=5)
    assert len(figure.axes) == len(QUANTITIES)
    for quantity, (_, factor, varies) in QUANTITIES.items():
        axes = panel(figure, quantity)
        values = factor * of[quantity]
        mean = running_mean(values, 5) if varies else values
        np.testing.assert_allclose(line(axes, "curve 0"), np.stack((STEPS, mean), axis=1))
        assert ("values 0" in [drawn.get_label() for drawn in axes.lines]) == varies
        if varies:
            np.testing.assert_allclose(line(axes, "values 0")[:, 1], values)
            thin, strong = (next(li for li in axes.lines if li.get_label() == of) for of in ("values 0", "curve 0"))
            assert thin.get_linewidth() < 0.5 < strong.get_linewidth()
    assert "mean of 5 log lines, centred" in words(figure)


def test_smoothing_of_one_line_is_none() -> None:
    figure = figures.curves({"demo": run()}, smooth=1)
    assert not any("mean of" in word for word in words(figure))
    np.testing.assert_allclose(line(panel(figure, "image"), "curve 0")[:, 1], run()["image"])


def test_what_no_run_has_is_left_out() -> None:
    none = np.full(len(STEPS), NAN)
    bare = run(affinity=none)
    del bare["memory_mib"]
    figure = figures.curves({"old": bare})
    assert len(figure.axes) == len(QUANTITIES) - 2
    assert not {"affinity loss", "peak memory, GiB"} & words(figure)
    both = figures.curves({"old": bare, "new": run()})
    assert [drawn.get_label() for drawn in panel(both, "memory_mib").lines] == ["curve 1"]


def test_steps_stand_under_the_lowest_panels_and_epochs_over_the_highest() -> None:
    none = np.full(len(STEPS), NAN)
    figure = figures.curves({"demo": run(memory_mib=none, mask=none)}, 40)  # eleven: one column is shorter
    rendered(figure)
    said = [[t.get_text() for t in axes.get_xticklabels()] for axes in figure.axes]
    assert [any(labels) for labels in said] == [False] * 9 + [True] * 2
    assert said[10][:2] == ["0", "100"]
    assert figure.axes[0].get_xlim() == (0, 400)
    above = [axes.child_axes for axes in figure.axes]
    assert [len(a) for a in above] == [1, 1] + [0] * 9
    top = above[0][0]
    assert [t.get_text() for t in top.get_xticklabels()] == ["0", "5", "10"]
    assert top.get_xlim() == pytest.approx((0, 10))
    assert not any(axes.child_axes for axes in figures.curves({"demo": run()}).axes)


def test_runs_differ_in_colour_and_line_and_are_named() -> None:
    names = ["a_$1$", "b", "c"]
    figure = figures.curves({name: run() for name in names})
    drawn = [li for li in panel(figure, "image").lines if str(li.get_label()).startswith("curve")]
    assert len({li.get_color() for li in drawn}) == len({str(li._unscaled_dash_pattern) for li in drawn}) == 3
    assert words(figure) >= {"b", "c"}
    assert not words(figures.curves({"alone": run()})) & {"alone"}
    rendered(figure)


def test_the_learning_rate_says_its_power_of_ten() -> None:
    figure = figures.curves({"demo": run(lr=np.linspace(1.5e-3, 0, len(STEPS)))})
    axes = panel(figure, "lr")
    assert axes.get_title() == "learning rate, 10⁻³"
    labels = [t.get_text() for t in axes.get_yticklabels()]
    np.testing.assert_allclose([float(label) / 1000 for label in labels], axes.get_yticks(), atol=1e-9)


def test_gaps_single_values_and_no_warning() -> None:
    image = run()["image"].copy()
    image[10:12] = NAN, np.inf
    figure = figures.curves({"demo": run(image=image)})
    assert np.isnan(line(panel(figure, "image"), "curve 0")[10:12, 1]).all()
    rendered(figure)
    one = figures.curves({"new": {"step": np.array([10.0]), "image": np.array([5.0])}}, 31)
    assert panel(one, "image").lines[-1].get_marker() == "."
    rendered(one)


def test_it_is_as_wide_as_a_column_and_its_type_can_be_read() -> None:
    figure = figures.curves({"demo": run()}, 31)
    assert 3.2 < figure.get_size_inches()[0] < 3.5
    assert all(text.get_fontsize() >= 6 for text in texts(figure))
    canvas = rendered(figure)
    height, width = canvas.shape[:2]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for text in texts(figure):
        box = text.get_window_extent(renderer)
        assert 0 <= box.x0 < box.x1 <= width, text.get_text()
        assert 0 <= box.y0 < box.y1 <= height, text.get_text()


def test_bad_input_is_refused() -> None:
    for smooth in (0, 4, -1):
        with pytest.raises(ValueError, match=f"odd number of log lines.*not {smooth}"):
            figures.curves({"demo": run()}, smooth=smooth)
    with pytest.raises(ValueError, match="image of demo has 3 values for 40 steps"):
        figures.curves({"demo": run(image=np.zeros(3))})
    for nothing in ({}, {"demo": {"step": STEPS, "image": np.full(len(STEPS), NAN)}}):
        with pytest.raises(ValueError, match="no curve to draw"):
            figures.curves(nothing)
