"""Embeddings: where dots are, what colours and marks they have, and what the key says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from plrc import figures
from tests.figures.readback import picture, words

XY = np.random.default_rng(0).normal(size=(60, 2))
LABELS = np.array(["cat", "dog", "owl"])[np.random.default_rng(1).integers(3, size=60)]


def planes(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if dots(axes)]


def dots(axes: Axes) -> dict[str, PathCollection]:
    return {c.get_label(): c for c in axes.collections if isinstance(c, PathCollection)}


def look(collection: PathCollection) -> tuple[object, ...]:
    """Colour and shape."""
    return (*collection.get_facecolor()[0][:3], collection.get_paths()[0].vertices.round(4).tobytes())


def test_every_sample_is_a_dot_at_its_place_in_its_category() -> None:
    (axes,) = planes(figures.embedding(torch.tensor(XY), LABELS))
    assert set(dots(axes)) == {"cat", "dog", "owl"}
    for name, collection in dots(axes).items():
        np.testing.assert_array_equal(collection.get_offsets(), XY[name == LABELS])
    assert len({look(collection) for collection in dots(axes).values()}) == 3


def test_the_key_has_names_and_counts_and_long_names_are_cut() -> None:
    said = words(figures.embedding(XY, LABELS.tolist()))
    assert {f"{name} {(name == LABELS).sum()}" for name in ("cat", "dog", "owl")} == said
    said = words(figures.embedding(XY[:2], ["a category whose name goes on and on and on", "$HOME$"]))
    assert said == {"$HOME$ 1", "a category wh… and on and on 1"}


def test_the_order_of_categories_keeps_their_looks_when_some_are_missing() -> None:
    every = ["ant", "cat", "dog", "owl"]
    (whole,) = planes(figures.embedding(XY, LABELS, order=every))
    keep = LABELS != "cat"
    (part,) = planes(figures.embedding(XY[keep], LABELS[keep], order=every))
    assert set(dots(part)) == {"dog", "owl"}
    for name, collection in dots(part).items():
        assert look(collection) == look(dots(whole)[name])
    with pytest.raises(ValueError, match="'cat' is a label"):
        figures.embedding(XY, LABELS, order=["dog", "owl"])


def test_up_to_48_categories_differ_and_the_rest_is_grey() -> None:
    labels = np.arange(60)
    (axes,) = planes(figures.embedding(XY, torch.tensor(labels)))
    assert len(dots(axes)) == 49
    assert len({look(collection) for collection in dots(axes).values()}) == 49
    others = dots(axes)["12 others"]
    np.testing.assert_array_equal(others.get_offsets(), XY[48:])
    assert len(set(others.get_facecolor()[0][:3])) == 1, "grey"
    first = {tuple(dots(axes)[str(i)].get_facecolor()[0][:3]) for i in range(8)}
    assert len(first) == 8, "the first eight are told apart by colour"


def test_several_networks_have_a_plane_each_and_one_look_of_a_category() -> None:
    planes_of = {"random": XY, "last": 3 * XY}
    figure = figures.embedding(planes_of, LABELS, captions={"last": "purity 0.61"})
    first, second = planes(figure)
    for name in ("cat", "dog", "owl"):
        assert look(dots(first)[name]) == look(dots(second)[name])
        np.testing.assert_array_equal(dots(second)[name].get_offsets(), 3 * XY[name == LABELS])
    assert {"random", "last", "purity 0.61"} <= words(figure)
    assert second.get_xlabel() == "purity 0.61"


@pytest.mark.parametrize("stretch", [(1, 1), (5, 1), (1, 5), (40, 1), (0, 0)])
def test_both_directions_have_one_unit_and_every_dot_is_inside(stretch: tuple[int, int]) -> None:
    xy = XY * stretch
    (axes,) = planes(figures.embedding(xy))
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    assert (x1 - x0) / axes.bbox.width == pytest.approx((y1 - y0) / axes.bbox.height, rel=1e-3)
    assert (xy > (x0, y0)).all()
    assert (xy < (x1, y1)).all()
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == []


def test_pca_says_what_its_axes_explain_and_t_sne_nothing() -> None:
    assert "PC 1 (→) 34 %, PC 2 (↑) 12 % of variance" in words(figures.embedding(XY, explained=(0.342, 0.118)))
    assert words(figures.embedding(XY)) == set()


def test_dots_may_have_their_own_colours() -> None:
    rgb = np.random.default_rng(0).random((60, 3))
    (axes,) = planes(figures.embedding(XY, colours=torch.tensor(rgb)))
    np.testing.assert_allclose(dots(axes)["samples"].get_facecolor()[:, :3], rgb)


def test_pictures_stand_at_their_dots_and_do_not_cover_one_another() -> None:
    images = [picture(30, 40), picture(40, 10)] * 30
    (axes,) = planes(figures.embedding(XY, LABELS, thumbnails=images))
    shown = {int(image.get_label().split()[1]): image.get_extent() for image in axes.images}
    assert 10 < len(shown) < 60
    for k, (x0, x1, y0, y1) in shown.items():
        np.testing.assert_allclose(((x0 + x1) / 2, (y0 + y1) / 2), XY[k])
        assert (x1 - x0) / (y1 - y0) == pytest.approx(images[k].shape[1] / images[k].shape[0], rel=0.05)
    for (a0, a1, b0, b1), (c0, c1, d0, d1) in itertools.combinations(shown.values(), 2):
        both = Bbox.intersection(Bbox([(a0, b0), (a1, b1)]), Bbox([(c0, d0), (c1, d1)]))
        assert both is None or min(both.size) < 1e-9
    elsewhere = np.concatenate([c.get_offsets() for c in dots(axes).values()])
    assert sorted(map(tuple, elsewhere)) == sorted(tuple(XY[k]) for k in range(60) if k not in shown)
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    for k, frame in zip(shown, frames, strict=True):
        assert frame.get_edgecolor()[:3] == tuple(dots(axes)[LABELS[k]].get_facecolor()[0][:3])


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="labels or colours, not both"):
        figures.embedding(XY, LABELS, colours=np.zeros((60, 3)))
    with pytest.raises(ValueError, match=r"\[3, 60\] samples"):
        figures.embedding(XY, LABELS[:3])
    with pytest.raises(ValueError, match="coordinates of last are"):
        figures.embedding({"last": np.zeros((60, 3))})
    with pytest.raises(ValueError, match="finite"):
        figures.embedding(np.array([[0, np.nan]]))
