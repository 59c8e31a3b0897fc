"""Lines between matches: where they begin and end, which are drawn, and what the headline counts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from readback import bar, labelled, panels, picture, words

from plrc import figures
from plrc.figures.colours import RIGHT, SEQUENTIAL, VIEWS, WRONG
from plrc.figures.matching import evenly

START = np.array([[0.1, 0.2], [0.5, 0.5], [0.9, 0.8], [0.3, 0.7]])
END = np.array([[0.2, 0.2], [0.6, 0.4], [0.1, 0.1], [0.9, 0.9]])
TRUTH = np.array([[0.2, 0.25], [0.6, 0.5], [0.8, 0.75], [np.nan, np.nan]])


def judged() -> SimpleNamespace:
    """Two right, one wrong, one not to be seen."""
    return SimpleNamespace(
        start=torch.tensor(START),
        end=END,
        similarity=np.array([0.9, 0.5, 0.25, 0.7]),
        truth=TRUTH,
        visible=torch.tensor([True, True, True, False]),
        right=np.array([True, True, False, False]),
    )


def unknown() -> SimpleNamespace:
    return SimpleNamespace(**{**vars(judged()), "truth": None, "visible": None, "right": None})


def lines(figure: Figure, label: str) -> list[ConnectionPatch]:
    return [line for line in labelled(figure, label) if isinstance(line, ConnectionPatch)]


def test_lines_go_from_each_start_to_its_end_in_the_pixels_of_either_picture() -> None:
    figure = figures.correspondence(picture(40, 60), picture(30, 80), judged())
    left, right = panels(figure, "picture")
    drawn = lines(figure, "right") + lines(figure, "wrong")
    assert {line.axesA for line in drawn} == {left}
    assert {line.axesB for line in drawn} == {right}
    np.testing.assert_allclose([line.xy1 for line in drawn], START[:3] * (60, 40))
    np.testing.assert_allclose([line.xy2 for line in drawn], END[:3] * (80, 30))
    for name, axes, points in (("start", left, START[:3] * (60, 40)), ("end", right, END[:3] * (80, 30))):
        dots = labelled(figure, name)
        np.testing.assert_allclose([dot.get_xydata()[0] for dot in dots], points)
        assert all(dot.get_transform() == axes.transData for dot in dots)


def test_right_and_wrong_differ_in_colour_line_and_grey_and_only_wrong_ones_show_their_true_place() -> None:
    figure = figures.correspondence(picture(40, 60), picture(30, 80), judged())
    right, wrong = lines(figure, "right"), lines(figure, "wrong")
    assert (len(right), len(wrong)) == (2, 1)
    assert {line.get_edgecolor() for line in right} == {to_rgba(RIGHT[0])}
    assert wrong[0].get_edgecolor() == to_rgba(WRONG[0])
    assert (right[0].get_linestyle(), wrong[0].get_linestyle()) == ("solid", WRONG[1])
    blue, orange = (np.dot(to_rgba(colour)[:3], (0.299, 0.587, 0.114)) for colour, _ in (RIGHT, WRONG))
    assert abs(blue - orange) > 0.2
    (cross,) = labelled(figure, "true place")
    np.testing.assert_allclose(cross.get_xydata()[0], TRUTH[2] * (80, 30))
    assert {"right", "wrong", "its true place"} <= words(figure)


def test_the_headline_counts_what_can_be_right_and_names_what_cannot_be_seen() -> None:
    said = words(figures.correspondence(picture(40, 60), picture(30, 80), judged(), views=True))
    assert {"2 of 3 right (67 %)", "1 more are not in view 2"} <= said
    hidden = judged()
    hidden.visible = hidden.right = np.zeros(4, dtype=bool)
    assert "0 of 0 right" in words(figures.correspondence(picture(40, 60), picture(30, 80), hidden))


def test_of_many_matches_an_even_part_is_drawn_but_all_are_counted() -> None:
    centres = np.stack(np.meshgrid(*[(np.arange(14) + 0.5) / 14] * 2), axis=-1).reshape(-1, 2)
    many = SimpleNamespace(
        start=centres, end=centres, similarity=np.ones(196), truth=centres, visible=np.ones(196, bool),
        right=centres[:, 0] < 0.5,
    )  # fmt: skip
    figure = figures.correspondence(picture(40, 40), picture(40, 40), many, most=20)
    drawn = lines(figure, "right") + lines(figure, "wrong")
    assert len(drawn) == 20
    assert {"98 of 196 right (50 %)", "20 of 196 drawn"} <= words(figure)
    quarters = {(x > 20, y > 20) for x, y in (line.xy1 for line in drawn)}
    counts = [sum((x > 20, y > 20) == q for x, y in (line.xy1 for line in drawn)) for q in quarters]
    assert counts == [5] * 4


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


def test_without_truth_lines_have_the_colour_of_their_similarity() -> None:
    figure = figures.correspondence(picture(40, 60), picture(30, 80), unknown())
    drawn = lines(figure, "match")
    assert len(drawn) == 4
    assert not labelled(figure, "true place")
    wanted = [SEQUENTIAL(s) for s in (0.25, 0.5, 0.7, 0.9)]
    np.testing.assert_allclose([line.get_edgecolor() for line in drawn], wanted)
    assert bar(figure).get_ylim() == (0, 1)
    assert bar(figure).get_title(loc="left") == "cosine"
    assert "4 matches, mean cosine 0.59" in words(figure)
    figure = figures.correspondence(picture(40, 60), picture(30, 80), unknown(), limits=None)
    assert bar(figure).get_ylim() == (0.25, 0.9)


def test_views_are_framed_and_named_in_their_colours_and_images_are_not() -> None:
    for views, names in ((True, {"view 1", "view 2"}), (False, {"image 1", "image 2"})):
        figure = figures.correspondence(picture(40, 40), picture(40, 40), judged(), views=views)
        assert names <= words(figure)
        frames = [axes.spines["left"].get_edgecolor() for axes in panels(figure, "picture")]
        assert (frames == [to_rgba(colour) for colour, _ in VIEWS]) is views


def test_wide_pictures_stand_above_one_another_and_others_side_by_side() -> None:
    for size, across in (((30, 40), True), ((20, 80), False)):
        figure = figures.correspondence(picture(*size), picture(*size), judged())
        left, right = (axes.get_position() for axes in panels(figure, "picture"))
        assert bool(left.x1 < right.x0) is across
        assert bool(left.y0 > right.y1) is not across


def test_parts_that_do_not_fit_are_refused() -> None:
    image = picture(40, 60)
    short, half = judged(), judged()
    short.end, half.right = END[:3], None
    with pytest.raises(ValueError, match=r"\[3, 4\] points"):
        figures.correspondence(image, image, short)
    with pytest.raises(ValueError, match="give all three, or none"):
        figures.correspondence(image, image, half)
