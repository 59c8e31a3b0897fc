"""Ranges of colours: what they are taken from, what the colour bar says of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from readback import bar, marks, panels, picture, rendered, words

from plrc import figures
from plrc.figures.colours import COSINE, SEQUENTIAL
from plrc.figures.scales import Scale, scale_of

POINT = np.array([[0.5, 0.5]])


def test_an_automatic_range_is_that_of_all_maps_and_only_of_differences_symmetric() -> None:
    maps = [np.array([[0.2, np.nan]]), np.array([[-0.5, 0.4]])]
    plain, difference = scale_of("cosine", None, maps), scale_of("difference", None, maps)
    assert (plain.low, plain.high) == (-0.5, 0.4)
    assert (difference.low, difference.high) == (-0.5, 0.5)
    assert scale_of("positive − negative", None, [-m for m in maps]).low == -0.5, "whichever end is further out"


@pytest.mark.parametrize(("low", "high", "colours"), [(-1, 1, COSINE), (0, 1, SEQUENTIAL), (-0.2, 1, SEQUENTIAL)])
def test_white_is_nothing_but_0(low: float, high: float, colours: object) -> None:
    assert Scale("cosine", low, high).colours is colours


def test_the_one_sided_colours_grow_lighter_and_are_nowhere_white() -> None:
    light = SEQUENTIAL(np.linspace(0, 1, 50))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(light) > 0).all()
    assert light.max() < 0.9
    grey = COSINE(np.array([0.0, 1.0]))[:, :3] @ (0.299, 0.587, 0.114)
    assert light[-1] > grey.max() + 0.3, "its upper end is no end of the cosines'"


def test_values_beyond_the_limits_are_told() -> None:
    maps = [np.array([-0.1, 0.5, 1.2])]
    assert [scale_of("x", limits, maps).beyond for limits in ((-1, 2), (0, 2), (-1, 1), (0, 1))] == [
        "neither", "min", "max", "both",
    ]  # fmt: skip
    assert scale_of("cosine", (-1, 1), [np.array([1 + 1e-6])]).beyond == "neither", "rounding is not beyond"


@pytest.mark.parametrize("limits", [(1, 0), (0, 0), (0, float("nan")), (0, float("inf"))])
def test_limits_that_are_no_range_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="low < high"):
        figures.affinity(picture(4, 6), np.zeros((1, 2, 3)), POINT, limits=limits)


def test_a_range_of_nothing_is_refused_and_one_of_a_constant_holds_it() -> None:
    with pytest.raises(ValueError, match="no finite softmax"):
        scale_of("softmax", None, [np.full((2, 2), np.nan)])
    for value in (0.0, 0.3, -2.0):
        scale = scale_of("cosine", None, [np.full((2, 2), value)])
        assert scale.low < value < scale.high


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [
        (-1, 1, ("−1", "1")),
        (0.4132, 0.987, ("0.41", "0.99")),
        (0.9321, 0.9873, ("0.932", "0.987")),
        (-1.93, 1.93, ("−1.9", "1.9")),
        (0, 0.00213, ("0", "2.1")),
        (10, 250, ("10", "250")),
    ],
)
def test_the_bar_s_ends_are_the_range_s(low: float, high: float, ends: tuple[str, str]) -> None:
    scale = Scale("cosine", low, high)
    for most in (2, 4):
        ticks = scale.ticks(most)
        labels = scale.labels(ticks)
        assert (ticks[0], ticks[-1]) == (low, high)
        assert (labels[0], labels[-1]) == ends
        assert ticks == sorted(set(ticks))
        factor = 1e3 if high < 0.01 else 1.0
        np.testing.assert_allclose([float(n.replace("−", "-")) for n in labels[1:-1]], np.array(ticks[1:-1]) * factor)


def test_small_numbers_are_told_in_powers_of_ten() -> None:
    assert Scale("softmax", 0, 0.00213).title == "softmax\n× 10⁻³"
    assert Scale("softmax", 0, 0.013).title == "softmax"


# ------------------------------------------------------------------------------------------------------- in figures


def draw(values: np.ndarray, **how: object) -> Figure:
    return figures.affinity(picture(40, 60), values, np.full((len(values), 2), 0.5), **how)


def test_maps_and_bar_of_a_figure_have_the_range_and_the_name() -> None:
    values = np.stack([np.linspace(0.1, 0.3, 6).reshape(2, 3), np.linspace(0.2, 0.7, 6).reshape(2, 3)])
    figure = draw(values, quantity="softmax", limits=None)
    for axes in panels(figure, "map"):
        assert axes.images[0].get_clim() == (0.1, 0.7)
        assert axes.images[0].get_cmap() is SEQUENTIAL
    assert bar(figure).get_ylim() == (0.1, 0.7)
    assert bar(figure).get_title(loc="left") == "softmax"


def test_an_end_of_the_bar_is_pointed_where_values_lie_beyond_it() -> None:
    values = np.linspace(0, 1, 6).reshape(1, 2, 3)
    tops = []
    for limits in ((0, 1), (0, 0.5)):
        figure = draw(values, limits=limits)
        rendered(figure)
        tops.append(bar(figure).spines["outline"].get_path().vertices[:, 1].max())
    assert tops[1] > tops[0]


def test_all_columns_of_a_sheet_have_one_range() -> None:
    columns = {"a": [np.full((2, 2), 0.1)], "b": [np.full((2, 2), 0.9)]}
    figure = figures.affinity_sheet([picture(40, 60)], POINT, columns, limits=None)
    assert {axes.images[0].get_clim() for axes in panels(figure, "map")} == {(0.1, 0.9)}


# ----------------------------------------------------------------------------------------------------- extents, points


def test_a_map_that_reaches_beyond_its_picture_lies_where_its_cells_do() -> None:
    """A map of 2 × 2 cells, each of 0.75 × 0.6 of the picture: read from the drawn pixels."""
    values = np.array([[-0.9, -0.3], [0.3, 0.9]])
    grey = np.full((50, 80, 3), 128, dtype=np.uint8)
    figure = figures.affinity(grey, values[None], np.array([[2.0, 2.0]]), extent=torch.tensor([1.5, 1.2]))
    pixels = rendered(figure)
    (axes,) = panels(figure, "map")
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 80), (50, 0))
    for x, y in itertools.product((0.1, 0.7, 0.8, 0.95), (0.1, 0.55, 0.65, 0.95)):
        at = axes.transData.transform((x * 80, y * 50))
        shown = pixels[pixels.shape[0] - 1 - int(at[1]), int(at[0])] / 255
        value = values[int(y / 0.6), int(x / 0.75)]
        np.testing.assert_allclose(shown, axes.images[0].cmap((value + 1) / 2), atol=0.01)


def test_each_map_of_a_sheet_has_its_own_extent() -> None:
    columns = {"a": [np.zeros((2, 2))] * 2, "b": [np.zeros((3, 3))] * 2}
    extents = {"b": [(1.25, 1.0), np.array([1.0, 2.0])]}
    figure = figures.affinity_sheet([picture(40, 60)] * 2, np.full((2, 2), 0.5), columns, extents=extents)
    reach = [tuple(axes.images[0].get_extent()) for axes in panels(figure, "map")]
    assert reach == [(0, 60, 40, 0)] * 2 + [(0, 75, 40, 0), (0, 60, 80, 0)]
    with pytest.raises(ValueError, match="'c', which is no column"):
        figures.affinity_sheet([picture(4, 6)], POINT, {"a": [np.zeros((2, 2))]}, extents={"c": [(1, 1)]})
    with pytest.raises(ValueError, match="a has 1 maps and 2 extents"):
        figures.affinity_sheet([picture(4, 6)], POINT, {"a": [np.zeros((2, 2))]}, extents={"a": [(1, 1)] * 2})


def test_positive_and_negative_points_stand_on_their_map_and_have_its_number() -> None:
    positive = [np.array([[0.25, 0.5], [0.5, 0.5]]), np.array([[0.75, 0.25]])]
    negative = [np.zeros((0, 2)), torch.tensor([[0.5, 0.75]])]
    maps = np.zeros((2, 2, 3))
    figure = figures.affinity(picture(40, 60), maps, positive, negatives=negative, quantity="positive − negative")
    first, second = panels(figure, "map")
    assert (marks(first), marks(first, "negative point")) == ([(15, 20), (30, 20)], [])
    assert (marks(second), marks(second, "negative point")) == ([(45, 10)], [(30, 30)])
    (shown,) = panels(figure, "picture")
    assert [(t.get_text(), t.xy) for t in shown.texts] == [
        ("1", (15, 20)),
        ("1", (30, 20)),
        ("2", (45, 10)),
        ("2", (30, 30)),
    ]
    assert {"prompt 1", "prompt 2"} <= words(figure)


def test_a_negative_point_looks_different_in_grey() -> None:
    def middle(**points: object) -> np.ndarray:
        figure = figures.affinity(np.full((50, 50, 3), 128, np.uint8), np.zeros((1, 2, 2)), **points)
        figure.set_dpi(300)
        pixels = rendered(figure)[..., :3].mean(axis=2)
        (axes,) = panels(figure, "picture")
        x, y = axes.transData.transform((25, 25))
        return pixels[pixels.shape[0] - 1 - int(y), int(x)]

    away = np.array([[3.0, 3.0]])
    assert middle(points=POINT) == pytest.approx(128, abs=2), "the picture is seen through the ring"
    assert middle(points=[away], negatives=[POINT]) < 40, "a bar crosses it"


def test_a_single_prompt_of_several_points_has_no_numbers() -> None:
    figure = figures.affinity(picture(40, 60), np.zeros((1, 2, 3)), [np.full((3, 2), 0.5)])
    assert not panels(figure, "picture")[0].texts
    assert "prompt" in words(figure)
    with pytest.raises(ValueError, match="2 maps, negative points for 1"):
        figures.affinity(picture(4, 6), np.zeros((2, 2, 3)), np.full((2, 2), 0.5), negatives=[POINT])


def test_a_row_of_a_sheet_may_have_no_point() -> None:
    columns = {"a": [np.zeros((2, 2))] * 2}
    figure = figures.affinity_sheet([picture(40, 60)] * 2, [POINT, np.zeros((0, 2))], columns)
    assert [marks(axes) for axes in panels(figure, "map")] == [[(30, 20)], []]


# ----------------------------------------------------------------------------------------------------------- captions


def test_captions_stand_under_headings_or_under_each_map() -> None:
    columns = {"random": [np.zeros((2, 2))] * 2, "last": [np.zeros((2, 2))] * 2}
    captions = {"random": "AUC 0.51", "last": ["AUC 0.6", "AUC 0.7"]}
    figure = figures.affinity_sheet([picture(40, 60)] * 2, np.full((2, 2), 0.5), columns, captions=captions)
    at = {text.get_text(): text.get_window_extent(figure.canvas.get_renderer()) for text in drawn_texts(figure)}
    boxes = [axes.bbox for axes in panels(figure, "map")]
    middle = [(box.x0 + box.x1) / 2 for box in boxes]
    for text, panel in (("random", 0), ("AUC 0.51", 0), ("last", 2), ("AUC 0.6", 2), ("AUC 0.7", 3)):
        assert (at[text].x0 + at[text].x1) / 2 == pytest.approx(middle[panel], abs=1)
    assert boxes[0].y1 < at["AUC 0.51"].y0 < at["AUC 0.51"].y1 < at["random"].y0
    assert boxes[3].y1 < at["AUC 0.6"].y0 < at["AUC 0.6"].y1 < boxes[2].y0
    assert at["AUC 0.7"].y1 < boxes[3].y0


def drawn_texts(figure: Figure) -> list:
    rendered(figure)
    return list(figure.texts)


def test_captions_that_fit_no_column_are_refused() -> None:
    columns = {"last": [np.zeros((2, 2))]}
    with pytest.raises(ValueError, match="'first', which is no column"):
        figures.affinity_sheet([picture(4, 6)], POINT, columns, captions={"first": "AUC"})
    with pytest.raises(ValueError, match="1 pictures and 2 captions"):
        figures.affinity_sheet([picture(4, 6)], POINT, columns, captions={"last": ["a", "b"]})
