"""Matches: where lines begin and end, which are drawn, what is counted; regions, their matrix and its marks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from plrc import figures
from plrc.figures.grid import UNMATCHED, enlarge
from plrc.figures.matches import evenly
from plrc.figures.style import LOOK, SEQUENTIAL
from tests.figures.readback import bar, labelled, one, panels, picture, rendered, words

LEFT_IMAGE, RIGHT_IMAGE = picture(40, 60), picture(30, 80)
START = np.array([[0.1, 0.2], [0.5, 0.5], [0.9, 0.8], [0.3, 0.7]])
END = np.array([[0.2, 0.2], [0.6, 0.4], [0.1, 0.1], [0.9, 0.9]])
TRUTH = np.array([[0.2, 0.25], [0.6, 0.5], [0.8, 0.75], [np.nan, np.nan]])


def judged(**changes: Any) -> SimpleNamespace:
    """Two right, one wrong, one not to be seen."""
    parts = {
        "start": torch.tensor(START), "end": END, "similarity": np.array([0.9, 0.5, 0.25, 0.7]), "truth": TRUTH,
        "visible": torch.tensor([True, True, True, False]), "right": np.array([True, True, False, False]),
    }  # fmt: skip
    return SimpleNamespace(**{**parts, **changes})


def match(left: Any, right: Any, matches: Any, **how: Any) -> Figure:
    return figures.correspondence([(left, right)], {"last": [matches]}, **how)


def unknown() -> SimpleNamespace:
    return judged(truth=None, visible=None, right=None)


def canvases(figure: Figure) -> list[Axes]:
    """Axes that hold two pictures and their lines, as they are drawn."""
    rendered(figure)
    return [axes for axes in figure.axes if len(axes.child_axes) == 2]


def lines(axes: Axes, label: str) -> np.ndarray:
    """``(n, 2, 2)``: starts and ends, each in the frame of its picture, read from where they are drawn."""
    found = [np.array(c.get_segments()) for c in axes.collections if c.get_label() == label]
    segments = np.concatenate([np.zeros((0, 2, 2)), *(of for of in found if len(of))])
    ends = [
        panel.transData.inverted().transform(axes.transData.transform(segments[:, v]))
        for v, panel in enumerate(axes.child_axes)
    ]
    return np.stack(ends, axis=1).round(4)


def drawn(axes: Axes) -> set[tuple[float, ...]]:
    """The starts of all lines."""
    return {tuple(line[0]) for label in ("right", "wrong", "match") for line in lines(axes, label)}


@pytest.mark.parametrize("sizes", [((40, 60), (30, 80)), ((20, 80), (20, 90)), ((90, 30), (40, 60))])
def test_lines_go_from_each_start_to_its_end_in_the_frame_of_either_picture(sizes: Any) -> None:
    left, right = (picture(*size) for size in sizes)
    figure = match(left, right, judged())
    (axes,) = canvases(figure)
    for panel, image in zip(axes.child_axes, (left, right), strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), image)
        assert panel.bbox.width / panel.bbox.height == pytest.approx(image.shape[1] / image.shape[0])
    np.testing.assert_allclose(lines(axes, "right"), np.stack((START, END), axis=1)[:2], atol=1e-4)
    np.testing.assert_allclose(lines(axes, "wrong"), np.stack((START, END), axis=1)[2:3], atol=1e-4)
    (first, second) = axes.child_axes
    stacked = sizes[0] == (20, 80)
    assert bool(first.bbox.x1 < second.bbox.x0) is not stacked
    assert bool(first.bbox.y0 > second.bbox.y1) is stacked


def test_right_and_wrong_differ_in_colour_and_line_and_only_wrong_ones_show_their_true_place() -> None:
    figure = match(LEFT_IMAGE, RIGHT_IMAGE, judged(), views=True, chances={"last": [0.012]})
    (axes,) = canvases(figure)
    looks = []
    for state in ("right", "wrong"):
        (collection,) = [c for c in axes.collections if c.get_label() == state]
        assert tuple(collection.get_edgecolor()[0]) == to_rgba(LOOK["matches"][state]["colour"])
        looks.append(collection.get_linestyle()[0][1])
    assert looks[0] is None
    assert looks[1] is not None
    at = axes.transData.transform(one(axes, "true place of a wrong one").get_xydata())
    np.testing.assert_allclose(axes.child_axes[1].transData.inverted().transform(at), TRUTH[2:3], atol=1e-6)
    assert {"right", "wrong", "true place of a wrong one", "2 of 3 right (67 %) · chance 1.2 %"} <= words(figure)
    none = judged(visible=np.zeros(4, dtype=bool), right=np.zeros(4, dtype=bool))
    assert "0 of 0 right" in words(match(LEFT_IMAGE, RIGHT_IMAGE, none))


def grid(h: int, w: int) -> np.ndarray:
    return np.stack(np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h), axis=-1).reshape(-1, 2)


def found(seed: int, start: np.ndarray, known: bool = True) -> SimpleNamespace:
    """Matches from these points to anywhere; where they are judged one of three is right."""
    rng, n = np.random.default_rng(seed), len(start)
    truth = {"truth": rng.random((n, 2)), "visible": np.ones(n, bool), "right": np.arange(n) % 3 == 0}
    truth = truth if known else dict.fromkeys(truth)
    return SimpleNamespace(start=torch.tensor(start), end=rng.random((n, 2)), similarity=rng.random(n), **truth)


def test_of_many_matches_an_even_part_is_drawn_but_all_are_counted() -> None:
    centres = grid(14, 14)
    many = judged(start=centres, end=centres, truth=centres, similarity=np.ones(196), visible=np.ones(196, bool))
    many.right = centres[:, 0] < 0.5
    figure = match(picture(40, 40), picture(40, 40), many, most=20)
    starts = np.array(list(drawn(canvases(figure)[0])))
    assert "98 of 196 right (50 %) · 20 drawn" in words(figure)
    quarters = [((starts > 0.5) == quarter).all(axis=1).sum() for quarter in np.ndindex(2, 2)]
    assert quarters == [5] * 4


@pytest.mark.parametrize("count", [0, 1, 7, 40, 300])
def test_an_even_choice_has_so_many_different_points(count: int) -> None:
    points = np.random.default_rng(0).random((100, 2))
    chosen = evenly(points, count)
    assert len(set(chosen)) == len(chosen) == min(count, 100)
    assert (np.diff(chosen) > 0).all()


def test_an_even_choice_follows_the_density() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate((rng.random((90, 2)) * 0.1, 0.9 + rng.random((30, 2)) * 0.1))
    assert (points[evenly(points, 12)] > 0.5).all(axis=1).sum() == 3


def test_without_truth_lines_have_the_colour_of_their_similarity_the_surer_over_the_less_sure() -> None:
    for limits, (low, high) in ((None, (0.25, 0.9)), ((0.0, 1.0), (0.0, 1.0))):
        figure = match(LEFT_IMAGE, RIGHT_IMAGE, unknown(), limits=limits)
        assert not labelled(figure, "true place of a wrong one")
        (collection,) = [c for c in canvases(figure)[0].collections if c.get_label() == "match"]
        wanted = SEQUENTIAL((np.array([0.25, 0.5, 0.7, 0.9]) - low) / (high - low))
        np.testing.assert_allclose(collection.get_edgecolor(), wanted)
        assert bar(figure).get_ylim() == (low, high)
        assert "4 matches, mean cosine 0.59" in words(figure)


def test_views_are_framed_and_named_in_their_colours_and_images_are_not() -> None:
    for views in (True, False):
        figure = match(LEFT_IMAGE, RIGHT_IMAGE, judged(), views=views)
        assert ({"view 1", "view 2"} <= words(figure)) is views
        frames = [panel.spines["left"].get_edgecolor() for panel in canvases(figure)[0].child_axes]
        assert (frames == [to_rgba(view["colour"]) for view in LOOK["views"]]) is views


def test_parts_that_do_not_fit_are_refused() -> None:
    for changes, message in (
        ({"end": END[:3]}, r"\[3, 4\] points"),
        ({"right": None}, "give all three, or none"),
    ):
        with pytest.raises(ValueError, match=message):
            match(LEFT_IMAGE, LEFT_IMAGE, judged(**changes))


# ------------------------------------------------------------------------------------------------------------ sheets

WIDE, TALL = picture(40, 60), picture(60, 30)


def test_a_cell_has_the_pictures_and_all_matches_of_its_pair_by_its_network() -> None:
    columns = {name: [found(2 * k + i, grid(2, 3)) for i in range(2)] for k, name in enumerate(("random", "last"))}
    pairs = [(WIDE, TALL), (TALL, WIDE)]
    figure = figures.correspondence(pairs, columns, ["first", "second"])
    assert {"random", "last", "first", "second", "right", "wrong", "true place of a wrong one"} <= words(figure)
    cells = canvases(figure)
    assert len(cells) == 4
    for number, axes in enumerate(cells):
        row, column = divmod(number, 2)
        m = list(columns.values())[column][row]
        for panel, image in zip(axes.child_axes, pairs[row], strict=True):
            np.testing.assert_array_equal(panel.images[0].get_array(), image)
        for state, of in (("right", m.right), ("wrong", ~m.right)):
            assert {tuple(end) for _, end in lines(axes, state)} == {tuple(end) for end in m.end[of].round(4)}
        assert axes.get_xlabel() == "2 of 6 right (33 %)"
    assert [axes.get_title().strip() for axes in cells] == ["random", "last", "", ""]
    assert [axes.get_title(loc="left") for axes in cells] == ["first", "", "second", ""]


def test_networks_show_the_same_points_and_all_are_counted() -> None:
    rng, start = np.random.default_rng(0), grid(8, 8)
    columns = {name: [found(k, start[rng.permutation(64)])] for k, name in enumerate("abc")}
    cells = canvases(figures.correspondence([(WIDE, WIDE)], columns, ["pair"]))
    shown = [drawn(axes) for axes in cells]
    assert len(shown[0]) == 20
    assert shown[0] == shown[1] == shown[2]
    assert cells[0].get_xlabel().replace("\n", " ") == "22 of 64 right (34 %) · 20 drawn"
    few = start[[3, 17, 40, 41]]
    columns = {"all": [found(0, start)], "few": [found(1, few)], "none": [found(2, start[:0])]}
    cells = canvases(figures.correspondence([(WIDE, WIDE)], columns, ["pair"], most=10))
    every, kept, nothing = (drawn(axes) for axes in cells)
    assert kept == {tuple(p) for p in few}
    assert kept < every
    assert (len(every), len(nothing)) == (10, 0)
    assert cells[2].get_xlabel() == "0 of 0 right"


def test_networks_with_maps_of_other_sizes_show_the_nearest_points() -> None:
    columns = {"fine": [found(0, grid(28, 28))], "coarse": [found(1, grid(7, 7))]}
    figure = figures.correspondence([(WIDE, WIDE)], columns, ["pair"])
    fine, coarse = (np.array(sorted(drawn(axes))) for axes in canvases(figure))
    assert len(fine) == len(coarse) == 20
    away = np.abs(fine[:, None] - coarse).max(axis=2).min(axis=0)
    assert away.max() <= 0.5 / 28 + 1e-3, "the centre of a coarse cell is a corner of four fine ones"


def test_without_truth_one_bar_has_the_colours_of_all_cells() -> None:
    columns = {"a": [found(0, grid(1, 2), False)], "b": [found(1, grid(1, 2), False)]}
    columns["a"][0].similarity, columns["b"][0].similarity = np.array([0.2, 0.4]), np.array([-0.1, 0.8])
    figure = figures.correspondence([(WIDE, TALL)], columns, ["pair"])
    for axes, similarity in zip(canvases(figure), ([0.2, 0.4], [-0.1, 0.8]), strict=True):
        (collection,) = [c for c in axes.collections if c.get_label() == "match"]
        np.testing.assert_allclose(collection.get_edgecolor(), SEQUENTIAL((np.array(similarity) + 0.1) / 0.9))
    assert [axes.get_xlabel() for axes in canvases(figure)] == [f"2 matches, mean cosine {v}" for v in ("0.30", "0.35")]
    assert bar(figure).get_ylim() == (-0.1, 0.8)
    assert not {"right", "wrong"} & words(figure)


def test_a_match_without_a_line_counts_and_borders_and_chances_are_those_of_the_cell() -> None:
    matches = [found(k, grid(2, 2)) for k in range(2)]
    matches[1].visible[3] = False
    figure = figures.correspondence(
        [(WIDE, TALL)] * 2, {"a": matches}, ["p", "q"],
        lines={"a": [np.array([False, True, True, True]), np.ones(4, bool)]},
        rasters=[(np.arange(4).reshape(2, 2), np.arange(2).reshape(1, 2))] * 2, chances={"a": [0.012, float("nan")]},
    )  # fmt: skip
    first, second = canvases(figure)
    assert (len(drawn(first)), len(drawn(second))) == (3, 3)
    assert first.get_xlabel() == "2 of 4 right (50 %) · chance 1.2 % · 3 drawn"
    assert second.get_xlabel() == "1 of 3 right (33 %)"
    borders = [np.unique(one(panel, "borders").get_segments(), axis=0) for panel in first.child_axes]
    assert [{(x0 == x1, round(float(x0 if x0 == x1 else y0), 2)) for (x0, y0), (x1, y1) in b} for b in borders] == [
        {(True, 0.5), (False, 0.5)}, {(True, 0.5)},
    ]  # fmt: skip


def test_what_does_not_belong_together_is_refused() -> None:
    pairs, m = [(WIDE, WIDE)], found(0, grid(2, 2))
    for given, columns, names, message in (
        (pairs, {}, ["pair"], "nothing to draw"),
        ([], {"a": []}, [], "nothing to draw"),
        (pairs, {"a": [m]}, ["pair", "another"], "1 pairs of pictures and 2 names"),
        (pairs, {"a": [m], "b": [m, m]}, ["pair"], "b: matches of 2 pairs, pictures of 1"),
        (pairs, {"a": [m], "b": [found(0, grid(2, 2), False)]}, ["pair"], "on two sheets"),
    ):
        with pytest.raises(ValueError, match=message):
            figures.correspondence(given, columns, names)


# ----------------------------------------------------------------------------------------------------------- regions

LEFT = np.array([[0, 1, 2], [3, 3, -1]])
RIGHT = np.array([[1, 2], [3, 5]])
# Rows are regions 0 … 3, columns 1, 2, 3 and 5.
MATRIX = np.array([[0.1, 0.2, 0.0, 0.8], [0.9, 0.1, 0.2, 0.3], [0.95, 0.3, 0.1, 0.0], [-0.2, 0.0, 0.5, 0.1]])


def regions(**how: Any) -> Figure:
    return figures.region_correspondence(
        WIDE, picture(40, 40), (torch.tensor(LEFT), RIGHT), torch.tensor(MATRIX), **how
    )


def colours(figure: Figure, panel: int) -> dict[int, tuple[float, ...]]:
    """Region → its one colour."""
    raster = (LEFT, RIGHT)[panel]
    tint = np.asarray(one(panels(figure, "regions")[panel], "regions").get_array())
    names = enlarge(raster, tint.shape[1], tint.shape[0])
    assert (tint[names == -1][:, 3] == 0).all(), "no region, no colour"
    found = {int(r): {tuple(c) for c in tint[names == r][:, :3]} for r in np.unique(raster[raster >= 0])}
    assert all(len(of_one) == 1 for of_one in found.values())
    return {r: of_one.pop() for r, of_one in found.items()}


def places(figure: Figure, label: str) -> set[tuple[float, float]]:
    """Row and column of the cells of the matrix that have this mark."""
    (axes,) = panels(figure, "matrix")
    return {(y - 0.5, x - 0.5) for x, y in one(axes, label).get_xydata()}


def test_in_two_views_regions_of_one_number_belong_together() -> None:
    figure = regions(views=True)
    left, right = colours(figure, 0), colours(figure, 1)
    assert all(left[r] == right[r] for r in (1, 2, 3))
    assert left[0] == right[5] == UNMATCHED
    assert len({left[r] for r in (1, 2, 3)} | {UNMATCHED}) == 4
    assert places(figure, "best of its row, right") == {(1, 0), (3, 2)}
    assert places(figure, "best of its row, wrong") == {(0, 3), (2, 0)}
    assert places(figure, "the same region") == {(1, 0), (2, 1), (3, 2)}
    assert "2 of 3 regions find themselves (67 %)" in words(figure)
    frames = [panel.spines["top"].get_edgecolor() for panel in panels(figure, "regions")]
    assert frames == [to_rgba(view["colour"]) for view in LOOK["views"]]


def test_in_two_images_those_that_are_each_other_s_best_belong_together() -> None:
    figure = regions()
    left, right = colours(figure, 0), colours(figure, 1)
    assert (left[0], left[2], left[3]) == (right[5], right[1], right[3])
    assert left[1] == right[2] == UNMATCHED, "1 likes 1 best, but 1 likes 2"
    assert places(figure, "best of its row") == {(0, 3), (1, 0), (2, 0), (3, 2)}
    assert "3 of 4 regions have a mutual best match" in words(figure)


def test_regions_are_numbered_where_they_lie() -> None:
    axes = panels(regions(), "regions")[0]
    for text in axes.texts:
        x, y = text.get_position()
        assert LEFT[int(y * 2), int(x * 3)] == int(text.get_text())
    assert sorted(text.get_text() for text in axes.texts) == ["0", "1", "2", "3"]


def test_the_matrix_has_its_rows_from_the_top_with_their_numbers_and_a_bar() -> None:
    figure = regions()
    (axes,) = panels(figure, "matrix")
    np.testing.assert_array_equal(axes.images[0].get_array(), MATRIX)
    assert axes.images[0].get_clim() == bar(figure).get_ylim() == (-0.2, 0.95)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 4), (4, 0))
    ticks = [(t.get_text(), t.get_position()[0]) for t in axes.get_xticklabels()]
    assert ticks == [("1", 0.5), ("2", 1.5), ("3", 2.5), ("5", 3.5)]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "1", "2", "3"]
    raster = np.arange(60).reshape(6, 10)
    many = figures.region_correspondence(picture(60, 100), picture(60, 100), (raster, raster), np.eye(60))
    ticks = [(t.get_text(), t.get_position()[0]) for t in panels(many, "matrix")[0].get_xticklabels()]
    assert 5 < len(ticks) < 40, "numbers are left out rather than overlap"
    assert all(at == int(number) + 0.5 for number, at in ticks)


def test_what_is_not_kept_is_neither_marked_nor_counted_nor_a_pair() -> None:
    keep = np.array([True, True, False, False])
    figure = regions(views=True, keep=keep, chance=0.25)
    assert places(figure, "best of its row, right") == {(1, 0)}
    assert places(figure, "best of its row, wrong") == {(0, 3)}
    assert {"1 of 1 regions find themselves (100 %)", "chance 25 % · 2 of 4 matches are kept"} <= words(figure)
    figure = regions(keep=torch.tensor(keep))
    assert places(figure, "best of its row") == {(0, 3), (1, 0)}
    assert {"1 of 4 regions have a mutual best match", "2 of 4 matches are kept"} <= words(figure)
    assert colours(figure, 0)[3] == UNMATCHED


def test_a_matrix_rasters_or_keep_that_do_not_fit_are_refused() -> None:
    for rasters, matrix, keep, message in (
        ((LEFT, RIGHT), np.zeros((4, 3)), None, "4 and 4 regions"),
        ((LEFT, RIGHT), np.zeros((0, 0)), None, "4 and 4 regions"),
        ((LEFT * 0 - 1, RIGHT), np.zeros((0, 4)), None, "0 and 4 regions"),
        ((LEFT, RIGHT), MATRIX, np.ones(3, bool), r"keep has the shape \(3,\), and there are 4 regions"),
    ):
        with pytest.raises(ValueError, match=message):
            figures.region_correspondence(WIDE, WIDE, rasters, matrix, keep=keep)
