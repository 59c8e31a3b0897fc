"""Matches: where lines begin and end, which are drawn, what is counted; regions, their matrix and its marks."""

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
from plrc.figures.style import LOOK, region_colours
from tests.figures.readback import bar, one, panels, picture, rendered, shown, words

WIDE, TALL = picture(40, 60), picture(60, 30)
FRAMES = [to_rgba(view["colour"]) for view in LOOK["views"]]


def found(seed: int, start: np.ndarray, known: bool = True, **changes: Any) -> SimpleNamespace:
    """Matches from these points to anywhere; where they are judged one of three is right."""
    rng, n = np.random.default_rng(seed), len(start)
    truth = {"truth": rng.random((n, 2)), "visible": torch.ones(n, dtype=bool), "right": np.arange(n) % 3 == 0}
    parts = {"start": torch.tensor(start), "end": rng.random((n, 2)), "similarity": rng.random(n), **truth}
    return SimpleNamespace(**{**parts, **({} if known else dict.fromkeys(truth)), **changes})


def grid(h: int, w: int) -> np.ndarray:
    return np.stack(np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h), axis=-1).reshape(-1, 2)


def match(networks: dict[str, Any], left: Any = WIDE, right: Any = WIDE, **how: Any) -> Figure:
    return figures.correspondence([(left, right)], {name: [m] for name, m in networks.items()}, **how)


def cells(figure: Figure) -> list[Axes]:
    """Axes that hold two images and their lines, as they are drawn."""
    rendered(figure)
    return [axes for axes in figure.axes if len(axes.child_axes) == 2]


def collection(axes: Axes, label: str) -> Any:
    (found,) = [c for c in axes.collections if c.get_label() == label]
    return found


def lines(axes: Axes, label: str) -> np.ndarray:
    """``(n, 2, 2)``: starts and ends, each in the frame of its image, read from where they are drawn."""
    segments = np.array(collection(axes, label).get_segments()).reshape(-1, 2, 2)
    ends = [
        panel.transData.inverted().transform(axes.transData.transform(segments[:, v]))
        for v, panel in enumerate(axes.child_axes)
    ]
    return np.stack(ends, axis=1).round(4)


def coloured(axes: Axes) -> list[Any]:
    """Each line with its colour."""
    of = [(lines(axes, label), collection(axes, label).get_edgecolor()) for label in ("right", "wrong")]
    return [pair for line, colour in of for pair in zip(line, colour, strict=True)]


def starts(axes: Axes) -> set[tuple[float, ...]]:
    return {tuple(line[0]) for label in ("right", "wrong") for line in lines(axes, label)}


@pytest.mark.parametrize("sizes", [((40, 60), (30, 80)), ((20, 80), (20, 90)), ((90, 30), (40, 60))])
def test_lines_go_from_each_start_to_its_end_in_the_frame_of_either_image(sizes: Any) -> None:
    left, right = (picture(*size) for size in sizes)
    m = found(0, grid(2, 3), visible=np.arange(6) != 5)
    (axes,) = cells(match({"last": m}, left, right))
    for panel, image in zip(axes.child_axes, (left, right), strict=True):
        np.testing.assert_array_equal(shown(panel), image)
        assert panel.bbox.width / panel.bbox.height == pytest.approx(image.shape[1] / image.shape[0])
    for state, which in (("right", [0, 3]), ("wrong", [1, 2, 4])):
        np.testing.assert_allclose(lines(axes, state), np.stack((m.start, m.end), axis=1)[which], atol=1e-4)
    ends = [line for line in axes.lines if line.get_label() == "true place of a wrong one"]
    at = axes.transData.transform(np.concatenate([line.get_xydata() for line in ends]))
    crosses = axes.child_axes[1].transData.inverted().transform(at)
    np.testing.assert_allclose(crosses, m.truth[[1, 2, 4]], atol=1e-6)
    (first, second), stacked = axes.child_axes, sizes[0] == (20, 80)
    assert bool(first.bbox.x1 < second.bbox.x0) is not stacked
    assert bool(first.bbox.y0 > second.bbox.y1) is stacked


@pytest.mark.parametrize("views", [True, False])
def test_right_and_wrong_differ_in_line_and_end_and_views_are_framed_in_theirs(views: bool) -> None:
    ends = np.random.default_rng(0).random((6, 2))
    ends[4] = ends[1]
    figure = match({"last": found(0, grid(2, 3), end=ends)}, views=views, chances={"last": [0.012]})
    (axes,) = cells(figure)
    looks = [collection(axes, state) for state in ("right", "wrong")]
    wanted = region_colours(np.arange(6))  # each its own
    for look, which in zip(looks, ([0, 3], [1, 2, 4, 5]), strict=True):
        np.testing.assert_allclose(look.get_edgecolor()[:, :3], wanted[which])
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == ["1", "2", "3", "4", "5", "6", "1", "2,5", "3", "4", "6"]
    assert [look.get_linestyle()[0][1] is None for look in looks] == [True, False]
    assert {"right", "wrong", "true place of a wrong one", "2 of 6 right (33 %) · chance 1.2 %"} <= words(figure)
    assert ({"view 1", "view 2"} <= words(figure)) is views
    assert ([panel.spines["left"].get_edgecolor() for panel in axes.child_axes] == FRAMES) is views


@pytest.mark.parametrize("count", [0, 1, 7, 40, 300])
def test_an_even_choice_has_so_many_different_points_and_follows_the_density(count: int) -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate((rng.random((90, 2)) * 0.1, 0.9 + rng.random((30, 2)) * 0.1))
    chosen = evenly(points, count)
    assert len(chosen) == min(count, 120)
    assert (np.diff(chosen) > 0).all()
    assert (points[chosen] > 0.5).all(axis=1).sum() == pytest.approx(len(chosen) / 4, abs=1)


def test_without_truth_nothing_is_called_right_or_wrong() -> None:
    similar = {"a": np.array([0.4, 0.2]), "b": np.array([-0.1, 0.8])}
    figure = match({name: found(0, grid(1, 2), False, similarity=of) for name, of in similar.items()})
    for axes in cells(figure):
        assert (len(lines(axes, "right")), len(lines(axes, "wrong"))) == (2, 0)
    assert {f"2 matches, mean cosine {v}" for v in ("0.30", "0.35")} <= words(figure)
    assert not {"right", "wrong", "true place of a wrong one"} & words(figure)


def test_a_cell_has_the_images_and_all_matches_of_its_pair_by_its_network() -> None:
    columns = {name: [found(2 * k + i, grid(2, 3)) for i in range(2)] for k, name in enumerate(("random", "last"))}
    pairs = [(WIDE, TALL), (TALL, WIDE)]
    drawn = cells(figures.correspondence(pairs, columns, ["first", "second"]))
    assert len(drawn) == 4
    for number, axes in enumerate(drawn):
        row, column = divmod(number, 2)
        m = list(columns.values())[column][row]
        for panel, image in zip(axes.child_axes, pairs[row], strict=True):
            np.testing.assert_array_equal(shown(panel), image)
        for state, of in (("right", m.right), ("wrong", ~m.right)):
            assert {tuple(end) for _, end in lines(axes, state)} == {tuple(end) for end in m.end[of].round(4)}
        assert axes.get_xlabel() == "2 of 6 right (33 %)"
    assert [axes.get_title().strip() for axes in drawn] == ["random", "last", "", ""]
    assert [axes.get_title(loc="left") for axes in drawn] == ["first", "", "second", ""]


def test_networks_show_the_same_points_or_the_nearest_spread_evenly_and_all_are_counted() -> None:
    rng, start = np.random.default_rng(0), grid(8, 8)
    same = cells(match({name: found(k, start[rng.permutation(64)]) for k, name in enumerate("abc")}))
    assert starts(same[0]) == starts(same[1]) == starts(same[2])
    spread = np.array(list(starts(same[0]))) > 0.5
    assert {(spread == quarter).all(axis=1).sum() for quarter in np.ndindex(2, 2)} == {2, 3}
    assert same[0].get_xlabel().replace("\n", " ") == "22 of 64 right (34 %) · 10 drawn"
    one_colour = [{tuple(line[0]): tuple(colour) for line, colour in coloured(axes)} for axes in same]
    assert one_colour[0] == one_colour[1] == one_colour[2]
    few = start[[3, 17, 40, 41]]
    drawn = cells(match({"all": found(0, start), "few": found(1, few), "none": found(2, start[:0])}))
    every, kept, nothing = map(starts, drawn)
    assert kept == {tuple(p) for p in few}
    assert kept < every
    assert (len(every), len(nothing)) == (10, 0)
    assert drawn[2].get_xlabel() == "0 of 0 right"
    drawn = cells(match({"fine": found(0, grid(28, 28)), "coarse": found(1, grid(7, 7))}))
    fine, coarse = (np.array(sorted(starts(axes))) for axes in drawn)
    assert len(fine) == len(coarse) == 10
    away = np.abs(fine[:, None] - coarse).max(axis=2).min(axis=0)
    assert away.max() <= 0.5 / 28 + 1e-3, "the centre of a coarse cell is a corner of four fine ones"


def test_a_match_without_a_line_counts_and_borders_and_chances_are_those_of_the_cell() -> None:
    matches = [found(0, grid(2, 2)), found(1, grid(2, 2), visible=np.arange(4) < 3)]
    figure = figures.correspondence(
        [(WIDE, TALL)] * 2, {"a": matches}, lines={"a": [np.array([False, True, True, True]), np.ones(4, bool)]},
        rasters=[(np.arange(4).reshape(2, 2), np.arange(2).reshape(1, 2))] * 2, chances={"a": [0.012, float("nan")]},
    )  # fmt: skip
    first, second = cells(figure)
    assert (len(starts(first)), len(starts(second))) == (3, 3)
    assert first.get_xlabel() == "2 of 4 right (50 %) · chance 1.2 % · 3 drawn"
    assert second.get_xlabel() == "1 of 3 right (33 %)"
    borders = [np.unique(one(panel, "borders").get_segments(), axis=0) for panel in first.child_axes]
    assert [{(x0 == x1, round(float(x0 if x0 == x1 else y0), 2)) for (x0, y0), (x1, y1) in b} for b in borders] == [
        {(True, 0.5), (False, 0.5)}, {(True, 0.5)},
    ]  # fmt: skip


def test_what_does_not_belong_together_is_refused() -> None:
    pairs, m = [(WIDE, WIDE)], found(0, grid(2, 2))
    for given, columns, names, message in (
        (pairs, {}, ["pair"], "at least one pair and one network"),
        ([], {"a": []}, [], "at least one pair and one network"),
        (pairs, {"a": [m]}, ["pair", "another"], "names: 2 for 1 pairs"),
        (pairs, {"a": [m], "b": [m, m]}, ["pair"], "b: 2 for 1 pairs"),
        (pairs, {"a": [m], "b": [found(0, grid(2, 2), False)]}, ["pair"], "of all matches or of none"),
        (pairs, {"a": [found(0, grid(2, 2), end=grid(1, 3))]}, None, "end: 3 for 4 points"),
    ):
        with pytest.raises(ValueError, match=message):
            figures.correspondence(given, columns, names)


LEFT = np.array([[0, 1, 2], [3, 3, -1]])
RIGHT = np.array([[1, 2], [3, 5]])
# Rows are regions 0 … 3, columns 1, 2, 3 and 5.
MATRIX = np.array([[0.1, 0.2, 0.0, 0.8], [0.9, 0.1, 0.2, 0.3], [0.95, 0.3, 0.1, 0.0], [-0.2, 0.0, 0.5, 0.1]])


def regions(**how: Any) -> Figure:
    rasters = torch.tensor(LEFT), RIGHT
    return figures.region_correspondence(WIDE, picture(40, 40), rasters, torch.tensor(MATRIX), **how)


def colours(figure: Figure, panel: int) -> dict[int, tuple[float, ...]]:
    """Region → its one colour."""
    raster, tint = (LEFT, RIGHT)[panel], shown(panels(figure, "regions")[panel])
    names = enlarge(raster, tint.shape[1], tint.shape[0])
    assert (tint[names == -1][:, 3] == 0).all(), "no region, no colour"
    found = {int(r): {tuple(c) for c in tint[names == r][:, :3]} for r in np.unique(raster[raster >= 0])}
    assert all(len(of_one) == 1 for of_one in found.values())
    return {r: of_one.pop() for r, of_one in found.items()}


def places(figure: Figure, label: str) -> set[tuple[float, float]]:
    """Row and column of the cells of the matrix that have this mark."""
    return {(y - 0.5, x - 0.5) for x, y in one(panels(figure, "matrix")[0], label).get_xydata()}


def test_in_two_views_regions_of_one_number_belong_together() -> None:
    figure = regions(views=True)
    left, right = colours(figure, 0), colours(figure, 1)
    assert all(left[r] == right[r] for r in (1, 2, 3))
    assert left[0] == right[5] == UNMATCHED
    assert len(set(left.values())) == 4
    assert places(figure, "best of its row, right") == {(1, 0), (3, 2)}
    assert places(figure, "best of its row, wrong") == {(0, 3), (2, 0)}
    assert places(figure, "the same region") == {(1, 0), (2, 1), (3, 2)}
    assert "2 of 3 regions find themselves (67 %)" in words(figure)
    assert [panel.spines["top"].get_edgecolor() for panel in panels(figure, "regions")] == FRAMES


def test_in_two_images_those_that_are_each_other_s_best_belong_together_and_all_are_numbered() -> None:
    figure = regions()
    left, right = colours(figure, 0), colours(figure, 1)
    assert (left[0], left[2], left[3]) == (right[5], right[1], right[3])
    assert left[1] == right[2] == UNMATCHED, "1 likes 1 best, but 1 likes 2"
    assert places(figure, "best of its row") == {(0, 3), (1, 0), (2, 0), (3, 2)}
    assert "3 of 4 regions have a mutual best match" in words(figure)
    numbers = panels(figure, "regions")[0].texts
    places_of = [(int(y * 2), int(x * 3)) for x, y in (text.get_position() for text in numbers)]
    assert [LEFT[place] for place in places_of] == [int(text.get_text()) for text in numbers] == [0, 1, 2, 3]


def test_the_matrix_has_its_rows_from_the_top_with_their_numbers_and_a_bar() -> None:
    figure = regions()
    (axes,) = panels(figure, "matrix")
    np.testing.assert_array_equal(shown(axes), MATRIX)
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
    keep = torch.tensor([True, True, False, False])
    figure = regions(views=True, keep=keep, chance=0.25)
    assert places(figure, "best of its row, right") == {(1, 0)}
    assert places(figure, "best of its row, wrong") == {(0, 3)}
    assert {"1 of 1 regions find themselves (100 %)", "chance 25 % · 2 of 4 matches are kept"} <= words(figure)
    figure = regions(keep=keep)
    assert places(figure, "best of its row") == {(0, 3), (1, 0)}
    assert {"1 of 4 regions have a mutual best match", "2 of 4 matches are kept"} <= words(figure)
    assert colours(figure, 0)[3] == UNMATCHED


def test_a_matrix_rasters_or_keep_that_do_not_fit_are_refused() -> None:
    for rasters, matrix, keep, message in (
        ((LEFT, RIGHT), np.zeros((4, 3)), None, r"of 4 and 4 regions need a matrix \(4, 4\)"),
        ((LEFT, RIGHT), np.zeros((0, 0)), None, "matrix: 0 for 4 regions"),
        ((LEFT * 0 - 1, RIGHT), np.zeros((0, 4)), None, "0 and 4 regions"),
        ((LEFT, RIGHT), MATRIX, np.ones(3, bool), "keep: 3 for 4 regions"),
    ):
        with pytest.raises(ValueError, match=message):
            figures.region_correspondence(WIDE, WIDE, rasters, matrix, keep=keep)
