"""Contact sheets: each picture has its maps at its right, as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from readback import panels, picture, words

from plrc import figures
from plrc.figures.colours import region_colours

IMAGES = [picture(40, 60), picture(60, 30), picture(20, 80), picture(40, 60)]
RGBS = [np.random.default_rng(i).random((3, 4, 3)) * 1.2 for i in range(4)]
LABELS = [np.random.default_rng(i).integers(-1, 5, (3, 4)) for i in range(4)]


def test_each_picture_has_its_map_at_its_right_clipped_to_colours(caplog: pytest.LogCaptureFixture) -> None:
    figure = figures.pca_rgb(IMAGES, [torch.tensor(rgb) for rgb in RGBS])
    assert not caplog.records, "matplotlib would clip too, but complain"
    shown = [axes for axes in panels(figure, "picture") if not any(i.get_label() == "map" for i in axes.images)]
    maps = panels(figure, "map")
    for image, axes, left, rgb in zip(IMAGES, maps, shown, RGBS, strict=True):
        np.testing.assert_array_equal(left.images[0].get_array(), image)
        np.testing.assert_allclose(axes.images[-1].get_array(), rgb.clip(0, 1))
        assert left.get_position().y0 == pytest.approx(axes.get_position().y0)
        assert axes.get_position().x0 - left.get_position().x1 > 0
    places = [axes.get_position().x0 for axes in maps]
    assert places[0] < places[1] < places[2], "three pairs a row"
    assert maps[3].get_position().y1 < maps[0].get_position().y0


def test_several_networks_have_their_columns_and_captions() -> None:
    figure = figures.pca_rgb(IMAGES[:2], {"random": RGBS[:2], "last": RGBS[2:]}, captions={"last": "31 % of variance"})
    maps = panels(figure, "map")
    for axes, rgb in zip(maps, (RGBS[0], RGBS[2], RGBS[1], RGBS[3]), strict=True):
        np.testing.assert_allclose(axes.images[-1].get_array(), rgb.clip(0, 1))
    assert {"image", "random", "last", "31 % of variance"} <= words(figure)


def test_a_segment_has_its_colour_in_every_picture_and_none_where_there_is_no_segment() -> None:
    figure = figures.segments(IMAGES, LABELS)
    for axes, labels in zip(panels(figure, "map"), LABELS, strict=True):
        tint = np.asarray(axes.images[-1].get_array())
        np.testing.assert_array_equal(tint[..., :3][labels >= 0], region_colours(labels[labels >= 0]))
        np.testing.assert_array_equal(tint[..., 3] == 0, labels < 0)
        np.testing.assert_array_equal(axes.images[0].get_array().shape[2], 3)


def test_borders_lie_between_segments_also_where_maps_reach_beyond() -> None:
    figure = figures.segments([picture(40, 60)], [np.array([[0, 0, 1]])], extents=[(1.5, 1.0)])
    (axes,) = panels(figure, "map")
    (borders,) = [c for c in axes.collections if c.get_label() == "borders"]
    np.testing.assert_allclose(borders.get_segments(), [[(60, 0), (60, 40)]])
    assert tuple(axes.images[-1].get_extent()) == (0, 90, 40, 0)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 60), (40, 0))


def test_each_map_has_its_own_extent() -> None:
    reach = {"last": [(1.0, 1.25), (1.5, 1.0)]}
    figure = figures.pca_rgb([picture(40, 60)] * 2, {"last": RGBS[:2], "random": RGBS[2:]}, extents=reach)
    drawn = [tuple(axes.images[-1].get_extent()) for axes in panels(figure, "map")]
    assert drawn == [(0, 60, 50, 0), (0, 60, 40, 0), (0, 90, 40, 0), (0, 60, 40, 0)]


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="last: 3 maps of 4 pictures"):
        figures.pca_rgb(IMAGES, {"last": RGBS[:3]})
    with pytest.raises(ValueError, match=r"\(h, w, 3\) RGB, not of shape \(3, 4\)"):
        figures.pca_rgb(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"\(h, w\) integers"):
        figures.segments(IMAGES, RGBS)
    with pytest.raises(ValueError, match="segments has 4 maps and 1 extents"):
        figures.segments(IMAGES, LABELS, extents=[(1, 1)])
