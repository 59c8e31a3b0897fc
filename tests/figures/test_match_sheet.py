"""Sheets of matches: which pair and network a cell is of, which points it shows, and what is said under it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from readback import bar, labelled, panels, picture, rendered, texts, words

from plrc import figures
from plrc.figures.colours import SEQUENTIAL, VIEWS

WIDE, TALL = picture(40, 60), picture(60, 30)
LONG = "a photograph with a long name from a folder of holidays – another one of the same place, a day later"
LONG += " – and-a-third-without-a-space-in-it-because-cameras-write-such-names-and-people-keep-them.jpg"


def grid(h: int, w: int) -> np.ndarray:
    return np.stack(np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h), axis=-1).reshape(-1, 2)


def found(seed: int, start: np.ndarray, judged: bool = True) -> SimpleNamespace:
    """Matches from these points to anywhere; where they are judged one of three is right."""
    rng, n = np.random.default_rng(seed), len(start)
    known = {"truth": rng.random((n, 2)), "visible": np.ones(n, bool), "right": np.arange(n) % 3 == 0}
    known = known if judged else dict.fromkeys(known)
    return SimpleNamespace(start=torch.tensor(start), end=rng.random((n, 2)), similarity=rng.random(n), **known)


def cells(figure: Figure) -> list[tuple[Axes, Axes]]:
    """The panels of the left and right pictures, row by row."""
    shown = panels(figure, "picture")
    return list(zip(shown[::2], shown[1::2], strict=True))


def lines(figure: Figure, cell: tuple[Axes, Axes]) -> list[ConnectionPatch]:
    return [line for line in figure.findobj(ConnectionPatch) if (line.axesA, line.axesB) == cell]


def starts(figure: Figure, cell: tuple[Axes, Axes]) -> set[tuple[float, float]]:
    """In the frame of the left picture."""
    w, h = cell[0].get_xlim()[1], cell[0].get_ylim()[0]
    return {(round(line.xy1[0] / w, 4), round(line.xy1[1] / h, 4)) for line in lines(figure, cell)}


def under(figure: Figure, cell: tuple[Axes, Axes]) -> str:
    """The text whose middle is under the middle of the two pictures, the nearest."""
    left, right = (axes.get_position() for axes in cell)
    below = [t for t in texts(figure) if t.get_position()[0] == pytest.approx((left.x0 + right.x1) / 2)]
    return max((t for t in below if t.get_position()[1] < left.y0), key=lambda t: t.get_position()[1]).get_text()


def test_a_cell_has_the_pictures_and_all_matches_of_its_pair_by_its_network() -> None:
    columns = {name: [found(2 * k + i, grid(2, 3)) for i in range(2)] for k, name in enumerate(("random", "last"))}
    pairs = [(WIDE, TALL), (TALL, WIDE)]
    figure = figures.correspondence_sheet(pairs, columns, ["first", "second"])
    assert {"random", "last", "first", "second", "right", "wrong", "its true place"} <= words(figure)
    drawn = cells(figure)
    assert len(drawn) == 4
    for number, cell in enumerate(drawn):
        row, column = divmod(number, 2)
        m = list(columns.values())[column][row]
        for axes, image in zip(cell, pairs[row], strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), image)
        size = np.array(pairs[row][1].shape[1::-1])
        ends = {tuple(np.round(line.xy2, 4)): line.get_label() for line in lines(figure, cell)}
        assert ends == {
            tuple(np.round(end * size, 4)): "right" if right else "wrong"
            for end, right in zip(m.end, m.right, strict=True)
        }
        assert under(figure, cell) == "2 of 6 right (33 %)"
        heading = next(t for t in texts(figure) if t.get_text() == list(columns)[column])
        left, right = (axes.get_position() for axes in cell)
        assert left.x0 < heading.get_position()[0] < right.x1


def test_crosses_stand_in_the_right_picture_of_their_own_cell() -> None:
    columns = {"a": [found(0, grid(1, 2))], "b": [found(1, grid(1, 2))]}
    figure = figures.correspondence_sheet([(WIDE, TALL)], columns, ["pair"])
    crosses = labelled(figure, "true place")
    assert len(crosses) == 2
    for (_, right), (m,) in zip(cells(figure), columns.values(), strict=True):
        (cross,) = (cross for cross in crosses if cross.get_transform() is right.transData)
        np.testing.assert_allclose(cross.get_xydata()[0], m.truth[1] * (30, 60))


def test_networks_show_the_same_points_and_all_are_counted() -> None:
    rng = np.random.default_rng(0)
    start = grid(8, 8)
    columns = {name: [found(k, start[rng.permutation(64)])] for k, name in enumerate("abc")}
    figure = figures.correspondence_sheet([(WIDE, WIDE)], columns, ["pair"])
    shown = [starts(figure, cell) for cell in cells(figure)]
    assert len(shown[0]) == 20
    assert shown[0] == shown[1] == shown[2]
    assert under(figure, cells(figure)[0]) == "22 of 64 right (34 %) · 20 drawn"
    figure = figures.correspondence_sheet([(WIDE, WIDE)], columns, ["pair"], most=5)
    assert [len(starts(figure, cell)) for cell in cells(figure)] == [5] * 3


def test_points_the_right_picture_does_not_show_have_no_line_and_do_not_count() -> None:
    hidden = found(0, grid(2, 3))
    hidden.visible[3:] = False
    figure = figures.correspondence_sheet([(WIDE, WIDE)], {"a": [hidden]}, ["pair"])
    (cell,) = cells(figure)
    assert starts(figure, cell) == {tuple(p) for p in np.round(grid(2, 3)[:3], 4)}
    assert under(figure, cell) == "1 of 3 right (33 %)"


def test_the_points_that_few_matches_are_left_of_are_shown_by_all_networks() -> None:
    start = grid(8, 8)
    few = start[[3, 17, 40, 41]]
    columns = {"all": [found(0, start)], "few": [found(1, few)], "none": [found(2, start[:0])]}
    figure = figures.correspondence_sheet([(WIDE, WIDE)], columns, ["pair"], most=10)
    every, kept, nothing = (starts(figure, cell) for cell in cells(figure))
    assert kept == {tuple(p) for p in np.round(few, 4)}
    assert kept < every
    assert len(every) == 10
    assert not nothing
    assert under(figure, cells(figure)[2]) == "0 of 0 right"


def test_networks_with_maps_of_other_sizes_show_the_nearest_points() -> None:
    columns = {"fine": [found(0, grid(28, 28))], "coarse": [found(1, grid(7, 7))]}
    figure = figures.correspondence_sheet([(WIDE, WIDE)], columns, ["pair"])
    fine, coarse = (np.array(sorted(starts(figure, cell))) for cell in cells(figure))
    assert len(fine) == len(coarse) == 20
    away = np.abs(fine[:, None] - coarse).max(axis=2).min(axis=0)
    assert away.max() <= 0.5 / 28 + 1e-3, "the centre of a coarse cell is a corner of four fine ones"


def test_without_truth_one_bar_has_the_colours_of_all_cells() -> None:
    columns = {"a": [found(0, grid(1, 2), False)], "b": [found(1, grid(1, 2), False)]}
    columns["a"][0].similarity, columns["b"][0].similarity = np.array([0.2, 0.4]), np.array([-0.1, 0.8])
    pairs = [(WIDE, TALL)]
    figure = figures.correspondence_sheet(pairs, columns, ["pair"], limits=(0.0, 0.8))
    a, b = (sorted(line.get_edgecolor() for line in lines(figure, cell)) for cell in cells(figure))
    np.testing.assert_allclose(a, sorted(SEQUENTIAL([0.25, 0.5]).tolist()))
    np.testing.assert_allclose(b, sorted(SEQUENTIAL([0.0, 1.0]).tolist()))
    assert [under(figure, cell) for cell in cells(figure)] == [f"2 matches, mean cosine {v}" for v in ("0.30", "0.35")]
    assert not {"right", "wrong"} & words(figure)
    automatic = figures.correspondence_sheet(pairs, columns, ["pair"], limits=None)
    assert bar(automatic).get_ylim() == (-0.1, 0.8)


def test_views_are_framed_in_every_cell_and_the_key_names_them() -> None:
    columns = {"a": [found(0, grid(2, 2))] * 2, "b": [found(1, grid(2, 2))] * 2}
    for views in (True, False):
        figure = figures.correspondence_sheet([(WIDE, WIDE)] * 2, columns, ["1st", "2nd"], views=views)
        for cell in cells(figure):
            frames = [axes.spines["left"].get_edgecolor() for axes in cell]
            assert (frames == [to_rgba(colour) for colour, _ in VIEWS]) is views
        assert ({"view 1", "view 2"} <= words(figure)) is views


@pytest.mark.parametrize(("networks", "judged"), [(1, True), (3, False), (6, True)])
def test_nothing_touches_or_leaves_a_page_of_at_most_seven_inches(networks: int, judged: bool) -> None:
    pairs = [(TALL, TALL), (TALL, TALL) if networks == 1 else (picture(20, 80), WIDE)]
    names = [f"runs/demo of another day/ckpt-{k:06}.pt" for k in range(networks)]
    columns = {name: [found(k, grid(8, 8), judged) for _ in pairs] for k, name in enumerate(names)}
    figure = figures.correspondence_sheet(pairs, columns, [r"50 $ or \frac 60 $", LONG], views=True, most=1)
    assert networks > 3 or figure.get_size_inches()[0] <= 7 + 1e-6
    rendered(figure)
    said = [t for t in texts(figure) if t.get_window_extent().width]  # an offset of the bar's axis is only a blank
    assert len([t for t in said if t.get_text().endswith("1 drawn")]) == 2 * networks
    boxes = [t.get_window_extent() for t in said] + [axes.get_window_extent() for axes in panels(figure, "picture")]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, i
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, i
        for other in boxes[:i]:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            high = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert wide <= 0 or high <= 1, "text or a picture covers another"


def test_the_pictures_of_a_pair_have_one_height_and_their_own_shape() -> None:
    columns = {"a": [found(0, grid(2, 2))] * 2, "b": [found(1, grid(2, 2))] * 2}
    figure = figures.correspondence_sheet([(WIDE, TALL), (TALL, picture(20, 80))], columns, ["1st", "2nd"])
    for left, right in cells(figure):
        assert left.get_position().y0 == pytest.approx(right.get_position().y0)
        assert left.get_position().height == pytest.approx(right.get_position().height)
        assert left.get_position().x1 < right.get_position().x0
        for axes in (left, right):
            box = axes.get_window_extent()
            assert box.width / box.height == pytest.approx(axes.get_xlim()[1] / axes.get_ylim()[0])


def test_what_does_not_belong_together_is_refused() -> None:
    pairs, m = [(WIDE, WIDE)], found(0, grid(2, 2))
    for columns, names, message in (
        ({}, ["pair"], "nothing to draw"),
        ({"a": [m]}, ["pair", "another"], "1 pairs of pictures and 2 names"),
        ({"a": [m], "b": [m, m]}, ["pair"], "b: matches of 2 pairs, pictures of 1"),
        ({"a": [m], "b": [found(0, grid(2, 2), False)]}, ["pair"], "on two sheets"),
    ):
        with pytest.raises(ValueError, match=message):
            figures.correspondence_sheet(pairs, columns, names)
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.correspondence_sheet([], {"a": []}, [])


def test_a_match_without_a_line_counts_and_borders_and_guesses_are_those_of_the_cell() -> None:
    start = grid(2, 2)
    matches = [found(k, start) for k in range(2)]
    may = [np.array([False, True, True, True]), np.ones(4, bool)]
    rasters = [(np.arange(4).reshape(2, 2), np.arange(2).reshape(1, 2))] * 2
    figure = figures.correspondence_sheet(
        [(picture(40, 60), picture(40, 40))] * 2, {"a": matches}, ["p", "q"],
        lines={"a": may}, rasters=rasters, guesses={"a": [0.012, float("nan")]},
    )  # fmt: skip
    first, second = cells(figure)
    visible = [np.asarray(m.visible) for m in matches]
    assert len(lines(figure, first)) == (visible[0] & may[0]).sum()
    assert len(lines(figure, second)) == visible[1].sum()
    assert f"of {visible[0].sum()} right" in under(figure, first)
    assert ("drawn" in under(figure, first)) == bool(visible[0][0])
    assert "blind guess 1.2 %" in under(figure, first)
    assert "blind" not in under(figure, second)
    left, right = ([len(c.get_segments()) for c in axes.collections if c.get_label() == "borders"] for axes in first)
    assert (left, right) == ([2], [1])
