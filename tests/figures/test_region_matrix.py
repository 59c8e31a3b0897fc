"""Regions of two pictures and the matrix between them: colours, numbers, marks and counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from readback import bar, labelled, panels, picture, words

from plrc import figures
from plrc.figures.rasters import UNMATCHED, enlarge

LEFT = np.array([[0, 1, 2], [3, 3, -1]])
RIGHT = np.array([[1, 2], [3, 5]])
# Rows are regions 0 … 3, columns 1, 2, 3 and 5.
MATRIX = np.array([[0.1, 0.2, 0.0, 0.8], [0.9, 0.1, 0.2, 0.3], [0.95, 0.3, 0.1, 0.0], [-0.2, 0.0, 0.5, 0.1]])


def tints(figure: Figure, panel: int) -> np.ndarray:
    """``(h, w, 4)``, the colours laid over a picture."""
    return np.asarray(panels(figure, "regions")[panel].images[1].get_array())


def colours(figure: Figure, panel: int, raster: np.ndarray) -> dict[int, tuple[float, ...]]:
    """Region → its one colour."""
    drawn = tints(figure, panel)
    regions = enlarge(raster, drawn.shape[1], drawn.shape[0])
    found = {int(r): {tuple(c) for c in drawn[regions == r][:, :3]} for r in np.unique(raster[raster >= 0])}
    assert all(len(of_one) == 1 for of_one in found.values())
    return {r: of_one.pop() for r, of_one in found.items()}


def test_in_two_views_a_region_has_one_colour_and_those_of_one_view_are_grey() -> None:
    figure = figures.region_correspondence(picture(40, 60), picture(40, 40), (LEFT, RIGHT), MATRIX, views=True)
    left, right = colours(figure, 0, LEFT), colours(figure, 1, RIGHT)
    assert all(left[r] == right[r] for r in (1, 2, 3))
    assert left[0] == right[5] == UNMATCHED
    assert len({left[r] for r in (1, 2, 3)} | {UNMATCHED}) == 4
    drawn = tints(figure, 0)
    assert (drawn[enlarge(LEFT, 60, 40) == -1][:, 3] == 0).all(), "no region, no colour"


def test_in_two_images_those_that_are_each_other_s_best_have_one_colour() -> None:
    figure = figures.region_correspondence(
        picture(40, 60), picture(40, 40), (torch.tensor(LEFT), RIGHT), torch.tensor(MATRIX)
    )
    left, right = colours(figure, 0, LEFT), colours(figure, 1, RIGHT)
    assert left[0] == right[5]
    assert left[2] == right[1]
    assert left[3] == right[3]
    assert left[1] == right[2] == UNMATCHED, "1 likes 1 best, but 1 likes 2"
    assert "3 of 4 regions have a mutual best match" in words(figure)


def test_regions_are_numbered_where_they_lie() -> None:
    figure = figures.region_correspondence(picture(40, 60), picture(40, 40), (LEFT, RIGHT), MATRIX)
    axes = panels(figure, "regions")[0]
    for text in axes.texts:
        x, y = text.get_position()
        assert LEFT[int(y / 20), int(x / 20)] == int(text.get_text())
    assert sorted(text.get_text() for text in axes.texts) == ["0", "1", "2", "3"]


def test_the_matrix_has_its_rows_from_the_top_with_their_numbers_and_a_bar() -> None:
    figure = figures.region_correspondence(picture(40, 60), picture(40, 40), (LEFT, RIGHT), MATRIX, limits=None)
    (axes,) = panels(figure, "matrix")
    np.testing.assert_array_equal(axes.images[0].get_array(), MATRIX)
    assert axes.images[0].get_clim() == bar(figure).get_ylim() == (-0.2, 0.95)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 4), (4, 0))
    assert [(t.get_text(), t.get_position()[0]) for t in axes.get_xticklabels()] == [
        ("1", 0.5), ("2", 1.5), ("3", 2.5), ("5", 3.5),
    ]  # fmt: skip
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "1", "2", "3"]


def places(figure: Figure, label: str) -> set[tuple[float, float]]:
    """Row and column of the cells that have this mark."""
    (axes,) = panels(figure, "matrix")
    (line,) = labelled(axes, label)
    return {(y - 0.5, x - 0.5) for x, y in line.get_xydata()}


def test_the_best_of_each_row_is_marked_and_in_views_whether_it_is_right() -> None:
    image = picture(40, 60)
    figure = figures.region_correspondence(image, image, (LEFT, RIGHT), MATRIX)
    assert places(figure, "best of its row") == {(0, 3), (1, 0), (2, 0), (3, 2)}
    figure = figures.region_correspondence(image, image, (LEFT, RIGHT), MATRIX, views=True)
    assert places(figure, "best of its row, right") == {(1, 0), (3, 2)}
    assert places(figure, "best of its row, wrong") == {(0, 3), (2, 0)}
    assert places(figure, "the same region") == {(1, 0), (2, 1), (3, 2)}
    assert "2 of 3 regions find themselves (67 %)" in words(figure)


def test_of_many_regions_numbers_are_left_out_rather_than_overlap() -> None:
    raster = np.arange(60).reshape(6, 10)
    figure = figures.region_correspondence(picture(60, 100), picture(60, 100), (raster, raster), np.eye(60))
    (axes,) = panels(figure, "matrix")
    ticks = {float(t.get_text()): t.get_position()[0] for t in axes.get_xticklabels()}
    assert 10 < len(ticks) < 40
    assert all(at == number + 0.5 for number, at in ticks.items())


def test_views_have_their_frames() -> None:
    figure = figures.region_correspondence(picture(40, 60), picture(40, 40), (LEFT, RIGHT), MATRIX, views=True)
    styles = [axes.spines["top"].get_edgecolor() for axes in panels(figure, "regions")]
    assert styles == [to_rgba("#0072b2"), to_rgba("#d55e00")]


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (0, 0)])
def test_a_matrix_of_another_shape_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="4 and 4 regions"):
        figures.region_correspondence(picture(4, 6), picture(4, 6), (LEFT, RIGHT), np.zeros(shape))


def test_rasters_without_regions_are_refused() -> None:
    with pytest.raises(ValueError, match="0 and 4 regions"):
        figures.region_correspondence(picture(4, 6), picture(4, 6), (LEFT * 0 - 1, RIGHT), np.zeros((0, 4)))


def test_what_is_not_kept_is_neither_marked_nor_counted_nor_a_pair() -> None:
    image, keep = picture(40, 60), np.array([True, True, False, False])
    figure = figures.region_correspondence(image, image, (LEFT, RIGHT), MATRIX, views=True, keep=keep, guess=0.25)
    assert places(figure, "best of its row, right") == {(1, 0)}
    assert places(figure, "best of its row, wrong") == {(0, 3)}
    assert {"1 of 1 regions find themselves (100 %)", "blind guess 25 % · 2 of 4 matches are kept"} <= words(figure)
    figure = figures.region_correspondence(image, image, (LEFT, RIGHT), MATRIX, keep=torch.tensor(keep))
    assert places(figure, "best of its row") == {(0, 3), (1, 0)}
    assert {"1 of 4 regions have a mutual best match", "2 of 4 matches are kept"} <= words(figure)
    assert colours(figure, 0, LEFT)[3] == UNMATCHED
    with pytest.raises(ValueError, match=r"keep has the shape \(3,\), and there are 4 regions"):
        figures.region_correspondence(image, image, (LEFT, RIGHT), MATRIX, keep=keep[:3])
