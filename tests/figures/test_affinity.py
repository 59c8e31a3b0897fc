"""Pictures beside maps: where a cell lies and which colour it has, marks, captions; views and their regions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from PIL import Image

from plrc import figures
from plrc.figures.grid import UNMATCHED, depth_in_region
from plrc.figures.style import DIVERGING, LOOK, SEQUENTIAL, region_colours
from plrc.geometry import Crop, cell_centres, cell_of
from tests.figures.readback import box_of, labelled, marks, one, panels, picture, pixel, rendered, texts, words

POINT, AWAY = np.array([[0.5, 0.5]]), np.array([[3.0, 3.0]])


def ramp(h: int, w: int) -> np.ndarray:
    """A map whose every cell has its own value in (−1, 1)."""
    return np.linspace(-0.98, 0.98, h * w).reshape(h, w)


def drawn_in(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[-1].get_array())


# ---------------------------------------------------------------------------------------------------------- affinity


@pytest.mark.parametrize("extent", [(1.0, 1.0), (1.25, 1.5)])
@pytest.mark.parametrize("limits", [None, (-1.0, 1.0)])
def test_each_cell_of_a_map_is_where_the_coordinate_rule_says_and_has_the_colour_of_its_value(
    extent: tuple[float, float], limits: tuple[float, float] | None
) -> None:
    """Read from the pixels of the drawn figure, close to the four corners of every cell."""
    values = ramp(5, 7) + 0.01
    figure = figures.affinity(picture(60, 90), values[None], AWAY, extent=extent, limits=limits)
    figure.set_dpi(300)
    pixels = rendered(figure)
    (axes,) = panels(figure, "map")
    low, high = limits or (values.min(), values.max())
    for i, j, a, b in itertools.product(range(5), range(7), (0.15, 0.85), (0.15, 0.85)):
        x, y = (j + a) / 7 * extent[0], (i + b) / 5 * extent[1]
        if max(x, y) < 1:
            wanted = (DIVERGING if limits else SEQUENTIAL)((values[i, j] - low) / (high - low))
            np.testing.assert_allclose(pixel(pixels, axes, x, y), wanted, atol=0.01)


def test_points_are_marked_and_numbered_on_the_picture_and_each_on_its_own_map() -> None:
    points = [(0.25, 0.5), (0.99, 0.01), (0.0, 1.0)]
    figure = figures.affinity(picture(40, 60), np.stack([ramp(4, 6)] * 3), np.array(points))
    (shown,) = panels(figure, "picture")
    assert marks(shown) == points
    assert [(t.get_text(), t.xy) for t in shown.texts] == list(zip("123", points, strict=True))
    assert [marks(axes) for axes in panels(figure, "map")] == [[point] for point in points]
    assert {"image", "point 1", "point 2", "point 3"} <= words(figure)


def test_a_prompt_has_one_number_and_negative_points_look_different_in_grey() -> None:
    positive = [np.array([[0.25, 0.5], [0.5, 0.5]]), np.array([[0.75, 0.25]])]
    negative = [np.zeros((0, 2)), torch.tensor([[0.5, 0.75]])]
    figure = figures.affinity(picture(40, 60), np.stack([ramp(2, 3)] * 2), positive, negatives=negative)
    first, second = panels(figure, "map")
    assert (marks(first), marks(first, "negative point")) == ([(0.25, 0.5), (0.5, 0.5)], [])
    assert (marks(second), marks(second, "negative point")) == ([(0.75, 0.25)], [(0.5, 0.75)])
    assert [t.get_text() for t in panels(figure, "picture")[0].texts] == ["1", "1", "2", "2"]
    assert {"prompt 1", "prompt 2"} <= words(figure)
    alone = figures.affinity(picture(40, 60), ramp(2, 3)[None], [np.full((3, 2), 0.5)])
    assert not panels(alone, "picture")[0].texts
    assert "prompt" in words(alone)

    def middle(**points: Any) -> float:
        figure = figures.affinity(np.full((50, 50, 3), 128, np.uint8), np.eye(2)[None], **points)
        figure.set_dpi(300)
        return pixel(rendered(figure), panels(figure, "picture")[0], 0.5, 0.5)[:3].mean() * 255

    assert middle(points=POINT) == pytest.approx(128, abs=2), "the picture is seen through the ring"
    assert middle(points=[AWAY], negatives=[POINT]) < 40, "a bar crosses it"


def test_maps_after_the_fourth_go_to_the_next_row_under_the_first() -> None:
    figure = figures.affinity(picture(30, 40), np.stack([ramp(3, 4)] * 6), np.full((6, 2), 0.5))
    places = np.array([axes.get_position().min for axes in panels(figure, "map")])
    assert len(set(places[:4, 1].round(6))) == len(set(places[4:, 1].round(6))) == 1
    assert places[4, 1] < places[0, 1]
    np.testing.assert_allclose(places[4:, 0], places[:2, 0])


def test_a_known_object_is_outlined_along_its_cells_on_picture_and_map() -> None:
    mask = np.zeros((4, 8), dtype=bool)
    mask[:2, 4:] = True
    for figure in (
        figures.affinity(picture(40, 80), ramp(4, 6)[None], POINT, mask=torch.tensor(mask)),
        figures.affinity_sheet([picture(40, 80)], POINT, {"a": [ramp(4, 6)]}, masks=[mask]),
    ):
        for axes in panels(figure, "picture") + panels(figure, "map"):
            lines = [c for c in axes.collections if len(c.get_paths())]
            assert len(lines) == 2, "white in black"
            x, y = lines[0].get_paths()[0].vertices.T
            np.testing.assert_allclose((x.min(), x.max(), y.min(), y.max()), (0.5, 1, 0, 0.5), atol=0.001)


def test_tensors_and_pictures_of_pillow_draw_as_arrays_do() -> None:
    image, maps, points = picture(40, 60), ramp(4, 6)[None], np.array([[0.25, 0.5]])
    plain = rendered(figures.affinity(image, maps, points))
    tensors = torch.tensor(maps, requires_grad=True), torch.tensor(points)
    np.testing.assert_array_equal(rendered(figures.affinity(Image.fromarray(image), *tensors)), plain)


def test_a_sheet_has_a_row_an_image_and_a_column_a_network() -> None:
    points = np.array([[0.25, 0.5], [0.5, 0.75]])
    columns = {"before": [ramp(2, 3), ramp(6, 2)], "step 400": [ramp(4, 6), ramp(9, 3)]}
    figure = figures.affinity_sheet([picture(40, 60), picture(90, 30)], points, columns)
    wanted = [tuple(point) for point in points]
    assert [marks(axes) for axes in panels(figure, "picture")] == [[w] for w in wanted]
    maps = panels(figure, "map")
    shown = {(axes.images[0].get_array().shape, marks(axes)[0]) for axes in maps}
    assert shown == {((2, 3), wanted[0]), ((4, 6), wanted[0]), ((6, 2), wanted[1]), ((9, 3), wanted[1])}
    centres = {axes.images[0].get_array().shape: np.mean(axes.bbox.intervalx) for axes in maps}
    assert centres[2, 3] == pytest.approx(centres[6, 2])
    assert centres[4, 6] == pytest.approx(centres[9, 3])
    empty = figures.affinity_sheet([picture(4, 6)] * 2, [POINT, np.zeros((0, 2))], {"a": [ramp(2, 2)] * 2})
    assert [marks(axes) for axes in panels(empty, "map")] == [[(0.5, 0.5)], []], "a row may have no point"


def test_captions_stand_under_headings_or_under_each_map() -> None:
    columns = {"random": [ramp(2, 2)] * 2, "last": [ramp(3, 3)] * 2}
    captions = {"random": "AUC 0.51", "last": ["AUC 0.6", "AUC 0.7"]}
    figure = figures.affinity_sheet([picture(40, 60)] * 2, np.full((2, 2), 0.5), columns, captions=captions)
    rendered(figure)
    at = {text.get_text(): box_of(text) for text in texts(figure)}
    first, last, _, lower = (axes.bbox for axes in panels(figure, "map"))
    for text, panel in (("random\nAUC 0.51", first), ("last", last), ("AUC 0.6", last), ("AUC 0.7", lower)):
        assert (at[text].x0 + at[text].x1) / 2 == pytest.approx((panel.x0 + panel.x1) / 2, abs=1)
    assert last.y1 < at["last"].y0
    assert lower.y1 < at["AUC 0.6"].y0 < at["AUC 0.6"].y1 < last.y0
    assert at["AUC 0.7"].y1 < lower.y0


def test_what_does_not_belong_together_is_refused() -> None:
    image, two, last = picture(4, 6), np.stack([ramp(4, 6)] * 2), {"last": [ramp(2, 2)]}
    for message, draw in (
        ("2 maps, 1 points", lambda: figures.affinity(image, two, POINT)),
        ("3 titles", lambda: figures.affinity(image, two, np.full((2, 2), 0.5), ["a", "b", "c"])),
        ("points of 2 maps, negative ones of 1", lambda: figures.affinity(image, two, two[0, :2, :2], negatives=POINT)),
        ("last: 1 maps for 2 pictures", lambda: figures.affinity_sheet([image] * 2, [POINT] * 2, last)),
        ("1 pictures, 2 points", lambda: figures.affinity_sheet([image], [POINT] * 2, last)),
        ("'first', which is no", lambda: figures.affinity_sheet([image], POINT, last, captions={"first": "AUC"})),
        ("2 captions for 1", lambda: figures.affinity_sheet([image], POINT, last, captions={"last": ["a", "b"]})),
        ("last: 1 maps for 4 pictures", lambda: figures.feature_colours([image] * 4, last)),
        (r"not of shape \(2, 2, 4\)", lambda: figures.feature_colours([image], {"": [np.zeros((2, 2, 4))]})),
        ("2 extents for 1", lambda: figures.feature_colours([image], last, extents={"last": [(1, 1)] * 2})),
    ):
        with pytest.raises(ValueError, match=message):
            draw()


# ------------------------------------------------------------------------------------- feature colours and segments

IMAGES = [picture(40, 60), picture(60, 30), picture(20, 80), picture(40, 60)]
RGBS = [np.random.default_rng(i).random((3, 4, 3)) * 1.2 for i in range(4)]
LABELS = [np.random.default_rng(i).integers(-1, 5, (3, 4)) for i in range(4)]


def test_each_picture_has_its_map_at_its_right_clipped_to_colours() -> None:
    figure = figures.feature_colours(IMAGES, {"PCA": [torch.tensor(rgb) for rgb in RGBS]})
    maps = panels(figure, "map")
    for image, axes, left, rgb in zip(IMAGES, maps, panels(figure, "picture"), RGBS, strict=True):
        np.testing.assert_array_equal(drawn_in(left), image)
        np.testing.assert_allclose(drawn_in(axes), rgb.clip(0, 1))
        assert left.bbox.y0 == pytest.approx(axes.bbox.y0)
        assert axes.bbox.x0 > left.bbox.x1
    assert maps[0].bbox.x0 < maps[1].bbox.x0 < maps[2].bbox.x0, "three pairs a row"
    assert maps[3].bbox.y1 < maps[0].bbox.y0
    two = figures.feature_colours(
        IMAGES[:2], {"random": RGBS[:2], "last": RGBS[2:]}, captions={"last": "31 % of variance"}
    )
    for axes, rgb in zip(panels(two, "map"), (RGBS[0], RGBS[2], RGBS[1], RGBS[3]), strict=True):
        np.testing.assert_allclose(drawn_in(axes), rgb.clip(0, 1))
    assert {"image", "random", "last 31 % of variance"} <= words(two)


def test_a_segment_has_its_colour_in_every_picture_and_white_is_none() -> None:
    for axes, labels in zip(panels(figures.feature_colours(IMAGES, {"segments": LABELS}), "map"), LABELS, strict=True):
        np.testing.assert_array_equal(drawn_in(axes)[labels >= 0], region_colours(labels[labels >= 0]))
        np.testing.assert_array_equal((drawn_in(axes) == 1).all(axis=2), labels < 0)


def test_borders_lie_between_segments_also_where_maps_reach_beyond() -> None:
    figure = figures.feature_colours([picture(40, 60)], {"a": [np.array([[0, 0, 1]])]}, extents={"a": [(1.5, 1.0)]})
    (axes,) = panels(figure, "map")
    np.testing.assert_allclose(one(axes, "borders").get_segments(), [[(1, 0), (1, 1)]])
    assert tuple(axes.images[-1].get_extent()) == (0, 1.5, 1, 0)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (1, 0))
    reach = {"last": [(1.0, 1.25), (1.5, 1.0)]}
    figure = figures.feature_colours([picture(40, 60)] * 2, {"last": RGBS[:2], "random": RGBS[2:]}, extents=reach)
    extents = [tuple(axes.images[-1].get_extent()) for axes in panels(figure, "map")]
    assert extents == [(0, 1, 1.25, 0), (0, 1, 1, 0), (0, 1.5, 1, 0), (0, 1, 1, 0)]


# ------------------------------------------------------------------------------------------------- views and regions


def example(
    boxes: list[list[float]],
    flips: tuple[bool, bool] = (False, True),
    query: tuple[float, float] = (0.5, 0.5),
    raster: np.ndarray | None = None,
) -> figures.Example:
    """Two crops of a picture whose regions are ``raster`` (16 squares unless told), looked up as training does."""
    raster = np.arange(16).reshape(4, 4) if raster is None else raster
    crops = Crop(torch.tensor(boxes), torch.tensor(flips))
    inside = crops.to_image(cell_centres(56, 56).flatten(0, 1).expand(2, -1, -1))
    row, column = cell_of(inside, *raster.shape)
    regions = raster[row, column].reshape(2, 56, 56)
    count = raster.max() + 1
    valid = np.array([all((r == regions[v]).any() for v in range(2)) for r in range(count)])
    points = np.full((2, count, 3, 2), 0.5)  # of regions that a view does not see: placeholders in its middle
    rng = np.random.default_rng(0)
    for v, r in itertools.product(range(2), range(count)):
        cells = np.argwhere(regions[v] == r)
        if len(cells):
            points[v, r] = (rng.choice(cells, 3)[:, ::-1] + 0.5) / 56
    return figures.Example(
        image=picture(128, 160), box=np.array(boxes, dtype=np.float32), flip=np.array(flips),
        views=np.stack([picture(32, 32)] * 2), regions=regions.astype(np.uint8), points=points, valid=valid,
        query=np.array(query), maps={"before": ramp(4, 5), "after": ramp(8, 10)},
    )  # fmt: skip


BOXES = [[0.1, 0.05, 0.7, 0.8], [0.3, 0.2, 0.95, 1.0]]
WHOLE = [[0.0, 0.0, 1.0, 1.0]] * 2


def test_crops_are_outlined_where_they_lie_and_their_views_are_framed_alike() -> None:
    figure = figures.views_and_affinity([example(BOXES)])
    image, *views = panels(figure, "picture")
    for v, (box, axes) in enumerate(zip(BOXES, views, strict=True)):
        outline = one(image, f"view {v + 1}")
        np.testing.assert_allclose(outline.get_bbox().extents, box, rtol=1e-5)
        assert axes.spines["left"].get_edgecolor() == outline.get_edgecolor() == to_rgba(LOOK["views"][v]["colour"])
    assert len({str(one(image, f"view {v}").get_linestyle()) for v in (1, 2)}) == 2


@pytest.mark.parametrize(("boxes", "shared"), [(BOXES, 8), (WHOLE, 16)])
def test_a_region_has_one_colour_in_both_views_and_no_other_has_it(boxes: list[list[float]], shared: int) -> None:
    shown = example(boxes)
    colours: dict[int, set[tuple[float, ...]]] = {}
    for v, axes in enumerate(panels(figures.views_and_affinity([shown]), "picture")[1:]):
        tint = one(axes, "regions").get_array()
        for r in np.flatnonzero(shown.valid):
            colours.setdefault(r, set()).update(map(tuple, tint[shown.regions[v] == r][:, :3]))
        dots = one(axes, "points")
        both = np.intersect1d(shown.regions[v], np.flatnonzero(shown.valid))
        np.testing.assert_allclose(dots.get_offsets(), shown.points[v, both].reshape(-1, 2))
        for r, colour in zip(both.repeat(3), dots.get_facecolor()[:, :3], strict=True):
            colours[r].add(tuple(colour))
    assert len(colours) == shared
    assert all(len(of_one) == 1 for of_one in colours.values())
    assert len(set.union(*colours.values())) == len(colours)


def test_regions_that_one_view_misses_are_grey_and_hatched_and_have_no_points() -> None:
    shown = example([[0.0, 0.0, 0.6, 1.0], [0.2, 0.0, 1.0, 0.6]])
    for v, axes in enumerate(panels(figures.views_and_affinity([shown]), "picture")[1:]):
        assert len(one(axes, "points").get_offsets()) == 3 * shown.valid.sum()
        masked = ~shown.valid[shown.regions[v]]
        tint = one(axes, "regions").get_array()
        np.testing.assert_array_equal((tint[..., :3] == UNMATCHED).all(axis=2), masked)
        (path,) = one(axes, "not seen by both").get_paths()
        deep = depth_in_region(masked) > 2  # a hatch ends between two cells
        inside = path.contains_points(cell_centres(56, 56).flatten(0, 1).numpy()).reshape(56, 56)
        np.testing.assert_array_equal(inside[deep], masked[deep])
    assert not labelled(figures.views_and_affinity([example(WHOLE)]), "not seen by both")


@pytest.mark.parametrize("flips", [(False, False), (True, False), (True, True)])
def test_region_borders_lie_in_the_image_where_the_regions_do(flips: tuple[bool, bool]) -> None:
    """Region 0 is the left quarter: mirroring a view must not move its border in the image."""
    figure = figures.views_and_affinity([example([[0.0, 0.0, 0.8, 1.0]] * 2, flips, raster=np.array([[0, 1, 1, 1]]))])
    image, *views = panels(figure, "picture")
    assert upright(image) == pytest.approx([0.25, 0.8], abs=0.01), "its border, and the crops' right edge"
    for axes, flip in zip(views, flips, strict=True):
        assert upright(axes) == pytest.approx([1 - 0.25 / 0.8 if flip else 0.25 / 0.8], abs=1 / 56)


def upright(axes: Axes) -> list[float]:
    """Where borders run from top to bottom of a panel."""
    edges = [(a[0], abs(b[1] - a[1])) for a, b in one(axes, "borders").get_segments() if a[0] == b[0]]
    return sorted({x for x, _ in edges if sum(length for at, length in edges if at == x) > 0.9})


def test_the_query_is_marked_in_the_image_its_maps_and_the_views_that_see_it_mirrored_too() -> None:
    shown = example(BOXES, query=(0.25, 0.5))  # view 2 begins at x = 0.3
    figure = figures.views_and_affinity([shown])
    image, first, second = panels(figure, "picture")
    assert marks(image) == [(0.25, 0.5)]
    np.testing.assert_allclose(marks(first), [(0.15 / 0.6, 0.45 / 0.75)], rtol=1e-5)
    assert marks(second) == []
    assert [marks(axes) for axes in panels(figure, "map")] == [[(0.25, 0.5)]] * 2
    for axes, values in zip(panels(figure, "map"), shown.maps.values(), strict=True):
        np.testing.assert_array_equal(drawn_in(axes), values)
    _, plain, mirrored = panels(figures.views_and_affinity([example([BOXES[0]] * 2, query=(0.25, 0.5))]), "picture")
    assert marks(mirrored)[0][0] == pytest.approx(1 - marks(plain)[0][0], rel=1e-5)
    assert [plain.get_xlabel(), mirrored.get_xlabel()] == ["", "mirrored"]


def test_every_number_stands_in_its_own_region_clear_of_the_mark_and_slivers_have_none() -> None:
    shown = example([[0.24, 0.0, 1.0, 1.0], WHOLE[0]], (False, False))
    numbers = []
    for v, axes in enumerate(panels(figures.views_and_affinity([shown]), "picture")[1:]):
        for text in axes.texts:
            x, y = text.get_position()
            numbers.append((v, int(text.get_text())))
            assert shown.regions[v][int(y * 56), int(x * 56)] == numbers[-1][1]
            assert max(np.abs(np.array(marks(axes)[0]) - (x, y))) > 0.09
    assert {(0, r) for r in (0, 4, 8, 12)}.isdisjoint(numbers), "slivers of the left column"
    assert {(1, r) for r in (0, 4, 8, 12)} <= set(numbers)


def test_depth_is_the_distance_in_cells_to_another_region_or_the_edge() -> None:
    regions = np.random.default_rng(0).integers(2, size=(3, 4)).repeat(4, axis=0).repeat(3, axis=1).astype(np.uint8)
    padded = np.pad(regions.astype(int), 1, constant_values=-1)
    cells = list(np.ndindex(padded.shape))
    for i, j in np.ndindex(regions.shape):
        others = [max(abs(a - i - 1), abs(b - j - 1)) for a, b in cells if padded[a, b] != regions[i, j]]
        assert depth_in_region(regions)[i, j] == min(others)


def test_examples_must_have_maps_of_the_same_names() -> None:
    other = example(BOXES)
    other.maps = {"later": ramp(4, 5)}
    for examples in ([example(BOXES), other], []):
        with pytest.raises(ValueError, match="maps of the same names"):
            figures.views_and_affinity(examples)
