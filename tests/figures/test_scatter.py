"""Embeddings: where dots are, what colours and marks they have, and what the key says."""

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


def test_every_sample_is_a_dot_at_its_place_in_the_look_of_its_category_in_every_plane() -> None:
    named = {"captions": {"last": "purity 0.61"}, "explained": {"last": (0.342, 0.118)}}
    figure = figures.embedding({"random": torch.tensor(XY), "last": 3 * XY}, LABELS.tolist(), **named)
    first, second = planes(figure)
    for name in ("cat", "dog", "owl"):
        np.testing.assert_array_equal(dots(first)[name].get_offsets(), XY[name == LABELS])
        np.testing.assert_array_equal(dots(second)[name].get_offsets(), 3 * XY[name == LABELS])
        assert look(dots(first)[name]) == look(dots(second)[name])
    assert len({look(collection) for collection in dots(first).values()}) == 3
    key = {f"{name} {(name == LABELS).sum()}" for name in ("cat", "dog", "owl")}
    under = "PC 1 (→) 34 %, PC 2 (↑) 12 % of variance purity 0.61"
    assert words(figure) == key | {"random", "last", under}
    assert (first.get_xlabel(), " ".join(second.get_xlabel().split())) == ("", under)
    said = words(figures.embedding(XY[:2], ["a category whose name goes on and on and on", "$HOME$"]))
    assert said == {"$HOME$ 1", "a category wh… and on and on 1"}
    assert words(figures.embedding(XY)) == set()


def test_the_16_largest_categories_differ_and_the_rest_is_grey() -> None:
    labels = torch.arange(60) % 40  # the first 20 have two dots each, the others one
    (axes,) = planes(figures.embedding(XY, (labels + 20) % 40))
    assert len({look(collection) for collection in dots(axes).values()}) == 17
    others = dots(axes)["24 others"]
    np.testing.assert_array_equal(others.get_offsets(), np.concatenate((XY[16:40], XY[56:])))
    assert len(set(others.get_facecolor()[0][:3])) == 1, "grey"
    first = {tuple(dots(axes)[str(i)].get_facecolor()[0][:3]) for i in range(20, 28)}
    assert len(first) == 8, "the first eight are told apart by colour"


@pytest.mark.parametrize("stretch", [(1, 1), (5, 1), (1, 5), (40, 1), (0, 0)])
def test_both_directions_have_one_unit_and_every_dot_is_inside(stretch: tuple[int, int]) -> None:
    xy = XY * stretch
    (axes,) = planes(figures.embedding(xy))
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    assert (x1 - x0) / axes.bbox.width == pytest.approx((y1 - y0) / axes.bbox.height, rel=1e-3)
    assert (xy > (x0, y0)).all()
    assert (xy < (x1, y1)).all()
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == []


def test_images_stand_at_their_dots_and_do_not_cover_one_another() -> None:
    images = [picture(30, 40), picture(40, 10)] * 30
    (axes,) = planes(figures.embedding(XY, LABELS, thumbnails=images.__getitem__))
    shown = {int(image.get_label().split()[1]): image.get_extent() for image in axes.images}
    assert 10 < len(shown) < 60
    for k, (x0, x1, y0, y1) in shown.items():
        np.testing.assert_allclose(((x0 + x1) / 2, (y0 + y1) / 2), XY[k])
        assert (x1 - x0) / (y1 - y0) == pytest.approx(images[k].shape[1] / images[k].shape[0], rel=0.05)
    for (a0, a1, b0, b1), (c0, c1, d0, d1) in itertools.combinations(shown.values(), 2):
        both = Bbox.intersection(Bbox([(a0, b0), (a1, b1)]), Bbox([(c0, d0), (c1, d1)]))
        assert both is None or min(both.size) < 1e-9
    for x0, x1, y0, y1 in shown.values():
        assert (((x0, y0) < XY) & ((x1, y1) > XY)).all(axis=1).sum() <= 4, "few dots are covered"
    elsewhere = np.concatenate([c.get_offsets() for c in dots(axes).values()])
    assert sorted(map(tuple, elsewhere)) == sorted(tuple(XY[k]) for k in range(60) if k not in shown)
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    for k, frame in zip(shown, frames, strict=True):
        assert frame.get_edgecolor()[:3] == tuple(dots(axes)[LABELS[k]].get_facecolor()[0][:3])
    assert len(axes.collections) == 3
    classes = np.arange(60) % 12  # from the ninth on the colours are those of the first, with another mark
    (axes,) = planes(figures.embedding(XY, classes, thumbnails=images.__getitem__))
    shown = {int(image.get_label().split()[1]) for image in axes.images}
    assert len(axes.collections) - 12 == sum(classes[k] >= 8 for k in shown) > 0


def test_what_does_not_belong_together_is_refused() -> None:
    for message, coordinates, labels in (
        ("labels: 3 for 60 samples", XY, LABELS[:3]),
        (r"\(n, 2\) finite", {"last": np.zeros((60, 3))}, None),
        (r"\(n, 2\) finite", np.array([[0, np.nan]]), None),
    ):
        with pytest.raises(ValueError, match=message):
            figures.embedding(coordinates, labels)
