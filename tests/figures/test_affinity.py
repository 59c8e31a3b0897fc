"""Images beside maps: where a cell lies and which colour it has, marks, captions; views and their regions."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from PIL import Image

from plrc import figures
from plrc.figures.grid import UNMATCHED, depth_in_region
from plrc.figures.style import DIVERGING, LOOK, region_colours
from plrc.geometry import Crop, cell_centres, cell_of
from tests.figures.readback import labelled, marks, one, panels, picture, pixel, ramp, rendered, shown, texts, words

POINT, AWAY = np.array([[0.5, 0.5]]), np.array([[3.0, 3.0]])
IMAGES = [picture(40, 60), picture(60, 30), picture(20, 80), picture(40, 60)]


@pytest.mark.parametrize(("extent", "limits"), [((1.0, 1.0), (-1.0, 1.0)), ((1.25, 1.5), None)])
def test_each_cell_of_a_map_is_where_the_coordinate_rule_says_and_has_the_colour_of_its_value(
    extent: tuple[float, float], limits: tuple[float, float] | None
) -> None:
    """Read from the pixels of the drawn figure, close to the four corners of every cell."""
    values = ramp(5, 7) + 0.01
    colours = {"limits": limits, "colour_map": "magma"}
    figure = figures.affinity(picture(60, 90), values[None], AWAY, extent=extent, **colours)
    figure.set_dpi(300)
    pixels, (axes,) = rendered(figure), panels(figure, "map")
    low, high = limits or (values.min(), values.max())
    for i, j, a, b in itertools.product(range(5), range(7), (0.15, 0.85), (0.15, 0.85)):
        x, y = (j + a) / 7 * extent[0], (i + b) / 5 * extent[1]
        if max(x, y) < 1:
            wanted = (DIVERGING if limits else colormaps["magma"])((values[i, j] - low) / (high - low))
            np.testing.assert_allclose(pixel(pixels, axes, x, y), wanted, atol=0.01)


def test_points_are_marked_and_numbered_on_the_image_and_each_on_its_own_map() -> None:
    points = [(0.25, 0.5), (0.99, 0.01), (0.0, 1.0)]
    image, maps = picture(40, 60), np.stack([ramp(4, 6)] * 3)
    figure = figures.affinity(image, maps, np.array(points))
    (axes,) = panels(figure, "picture")
    assert marks(axes) == points
    assert [(t.get_text(), t.xy) for t in axes.texts] == list(zip("123", points, strict=True))
    assert [marks(axes) for axes in panels(figure, "map")] == [[point] for point in points]
    assert {"image", "point 1", "point 2", "point 3"} <= words(figure)
    tensors = torch.tensor(maps, requires_grad=True), torch.tensor(points, dtype=torch.float64)
    pixels = rendered(figures.affinity(Image.fromarray(image), *tensors))
    np.testing.assert_array_equal(pixels, rendered(figure), "tensors and Pillow's images draw as arrays do")


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

    assert middle(points=POINT) == pytest.approx(128, abs=2), "the image is seen through the ring"
    assert middle(points=[AWAY], negatives=[POINT]) < 40, "a bar crosses it"


def test_maps_after_the_fourth_go_to_the_next_row_under_the_first() -> None:
    figure = figures.affinity(picture(30, 40), np.stack([ramp(3, 4)] * 6), np.full((6, 2), 0.5))
    x, y = np.array([axes.get_position().min for axes in panels(figure, "map")]).round(6).T
    assert set(y[4:]) == {y.min()} != set(y[:4]) == {y.max()}
    assert set(x[4:]) == set(x[:2])


def test_a_known_object_is_outlined_along_its_cells_on_image_and_map() -> None:
    mask = np.zeros((4, 8), dtype=bool)
    mask[:2, 4:] = True
    for figure in (
        figures.affinity(picture(40, 80), ramp(4, 6)[None], POINT, mask=torch.tensor(mask)),
        figures.affinity_sheet([picture(40, 80)], POINT, {"a": [ramp(4, 6)]}, masks=[mask]),
    ):
        for axes in panels(figure, "picture") + panels(figure, "map"):
            black, white = (c for c in axes.collections if len(c.get_paths()))
            np.testing.assert_array_equal(black.get_paths()[0].vertices, white.get_paths()[0].vertices)
            x, y = white.get_paths()[0].vertices.T
            np.testing.assert_allclose((x.min(), x.max(), y.min(), y.max()), (0.5, 1, 0, 0.5), atol=0.001)


def test_a_sheet_has_a_row_an_image_and_a_column_a_network_with_captions_under_headings_or_maps() -> None:
    points = [np.array([[0.25, 0.5]]), np.zeros((0, 2))]
    columns = {"random": [ramp(2, 3), ramp(6, 2)], "last": [ramp(4, 6), ramp(9, 3)]}
    captions = {"random": "AUC 0.51", "last": ["AUC 0.6", "AUC 0.7"]}
    figure = figures.affinity_sheet([picture(40, 60)] * 2, points, columns, captions=captions)
    assert [marks(axes) for axes in panels(figure, "picture")] == [[(0.25, 0.5)], []], "a row may have no point"
    maps = panels(figure, "map")
    found = [(shown(axes).shape, marks(axes)) for axes in maps]
    assert found == [((2, 3), [(0.25, 0.5)]), ((4, 6), [(0.25, 0.5)]), ((6, 2), []), ((9, 3), [])]
    rendered(figure)
    at = {text.get_text(): text.get_window_extent() for text in texts(figure)}
    first, last, under, lower = (axes.bbox for axes in maps)
    assert first.x0 == pytest.approx(under.x0)
    for text, panel in (("random\nAUC 0.51", first), ("last", last), ("AUC 0.6", last), ("AUC 0.7", lower)):
        assert (at[text].x0 + at[text].x1) / 2 == pytest.approx((panel.x0 + panel.x1) / 2, abs=1)
    assert at["AUC 0.7"].y1 < lower.y0 < lower.y1 < at["AUC 0.6"].y0 < at["AUC 0.6"].y1 < last.y0
    assert last.y1 < at["last"].y0


def test_each_image_has_its_map_at_its_right_clipped_to_colours() -> None:
    rgbs = [np.random.default_rng(i).random((3, 4, 3)) * 1.2 for i in range(4)]
    figure = figures.feature_colours(IMAGES, {"PCA": [torch.tensor(rgb) for rgb in rgbs]})
    maps = panels(figure, "map")
    for image, axes, left, rgb in zip(IMAGES, maps, panels(figure, "picture"), rgbs, strict=True):
        np.testing.assert_array_equal(shown(left), image)
        np.testing.assert_allclose(shown(axes), rgb.clip(0, 1))
        assert left.bbox.y0 == pytest.approx(axes.bbox.y0)
        assert axes.bbox.x0 > left.bbox.x1
    assert maps[0].bbox.x0 < maps[1].bbox.x0 < maps[2].bbox.x0, "three pairs a row"
    assert maps[3].bbox.y1 < maps[0].bbox.y0
    columns, reach = {"last": rgbs[:2], "random": rgbs[2:]}, {"last": [(1.0, 1.25), (1.5, 1.0)]}
    two = figures.feature_colours(IMAGES[:2], columns, captions={"last": "31 % of variance"}, extents=reach)
    for axes, rgb in zip(panels(two, "map"), (rgbs[0], rgbs[2], rgbs[1], rgbs[3]), strict=True):
        np.testing.assert_allclose(shown(axes), rgb.clip(0, 1))
    extents = [tuple(axes.images[-1].get_extent()) for axes in panels(two, "map")]
    assert extents == [(0, 1, 1.25, 0), (0, 1, 1, 0), (0, 1.5, 1, 0), (0, 1, 1, 0)]
    assert {"image", "random", "last 31 % of variance"} <= words(two)


def test_a_segment_has_its_colour_in_every_image_white_is_none_and_borders_lie_between() -> None:
    segments = [np.random.default_rng(i).integers(-1, 5, (3, 4)) for i in range(4)]
    for axes, numbers in zip(panels(figures.feature_colours(IMAGES, {"a": segments}), "map"), segments, strict=True):
        np.testing.assert_array_equal(shown(axes)[numbers >= 0], region_colours(numbers[numbers >= 0]))
        np.testing.assert_array_equal((shown(axes) == 1).all(axis=2), numbers < 0)
    figure = figures.feature_colours([picture(40, 60)], {"a": [np.array([[0, 0, 1]])]}, extents={"a": [(1.5, 1.0)]})
    (axes,) = panels(figure, "map")
    np.testing.assert_allclose(one(axes, "borders").get_segments(), [[(1, 0), (1, 1)]])
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (1, 0))


def test_what_does_not_belong_together_is_refused() -> None:
    image, two, last = picture(4, 6), np.stack([ramp(4, 6)] * 2), {"last": [ramp(2, 2)]}
    for message, draw in (
        ("points: 1 for 2 maps", lambda: figures.affinity(image, two, POINT)),
        ("titles: 3 for 2", lambda: figures.affinity(image, two, np.full((2, 2), 0.5), ["a", "b", "c"])),
        ("negatives: 1 for 2", lambda: figures.affinity(image, two, two[0, :2, :2], negatives=POINT)),
        ("last: 1 for 2 images", lambda: figures.affinity_sheet([image] * 2, [POINT] * 2, last)),
        ("points: 2 for 1", lambda: figures.affinity_sheet([image], [POINT] * 2, last)),
        ("last: 2 for 1", lambda: figures.affinity_sheet([image], POINT, last, captions={"last": ["a", "b"]})),
        (r"not of shape \(2, 2, 4\)", lambda: figures.feature_colours([image], {"": [np.zeros((2, 2, 4))]})),
        ("last: 2 for 1", lambda: figures.feature_colours([image], last, extents={"last": [(1, 1)] * 2})),
    ):
        with pytest.raises(ValueError, match=message):
            draw()


BOXES = [[0.1, 0.05, 0.7, 0.8], [0.3, 0.2, 0.95, 1.0]]
WHOLE = [[0.0, 0.0, 1.0, 1.0]] * 2


def example(
    boxes: list[list[float]],
    flips: tuple[bool, bool] = (False, True),
    query: tuple[float, float] = (0.5, 0.5),
    raster: np.ndarray | None = None,
) -> figures.Example:
    """Two crops of an image whose regions are ``raster`` (16 squares unless told), looked up as training does."""
    raster = np.arange(16).reshape(4, 4) if raster is None else raster
    crops = Crop(torch.tensor(boxes), torch.tensor(flips))
    row, column = cell_of(crops.to_image(cell_centres(56, 56).flatten(0, 1).expand(2, -1, -1)), *raster.shape)
    regions = raster[row, column].reshape(2, 56, 56)
    points = np.full((2, 16, 3, 2), 0.5)  # of regions that a view does not see: placeholders in its middle
    rng = np.random.default_rng(0)
    for v, r in itertools.product(range(2), range(16)):
        if (regions[v] == r).any():
            points[v, r] = (rng.choice(np.argwhere(regions[v] == r), 3)[:, ::-1] + 0.5) / 56
    return figures.Example(
        image=picture(128, 160), crops=crops, views=np.stack([picture(32, 32)] * 2), regions=regions.astype(np.uint8),
        points=points, query=np.array(query), maps={"before": ramp(4, 5), "after": ramp(8, 10)},
    )  # fmt: skip


def views_of(example: figures.Example) -> list[Axes]:
    """The image, and the two views."""
    return panels(figures.views_and_affinity([example]), "picture")


def test_crops_are_outlined_where_they_lie_and_their_views_are_framed_alike() -> None:
    image, *views = views_of(example(BOXES))
    for v, (box, axes) in enumerate(zip(BOXES, views, strict=True)):
        outline = one(image, f"view {v + 1}")
        np.testing.assert_allclose(outline.get_bbox().extents, box, rtol=1e-5)
        assert axes.spines["left"].get_edgecolor() == outline.get_edgecolor() == to_rgba(LOOK["views"][v]["colour"])
    assert len({str(one(image, f"view {v}").get_linestyle()) for v in (1, 2)}) == 2


@pytest.mark.parametrize(("boxes", "shared"), [(BOXES, 8), (WHOLE, 16)])
def test_a_region_has_one_colour_in_both_views_and_no_other_has_it(boxes: list[list[float]], shared: int) -> None:
    drawn = example(boxes)
    both = np.intersect1d(*drawn.regions)
    colours: dict[int, set[tuple[float, ...]]] = {r: set() for r in both}
    for v, axes in enumerate(views_of(drawn)[1:]):
        for r in both:
            colours[r].update(map(tuple, one(axes, "regions").get_array()[drawn.regions[v] == r][:, :3]))
        dots = one(axes, "points")
        np.testing.assert_allclose(dots.get_offsets(), drawn.points[v, both].reshape(-1, 2))
        for r, colour in zip(both.repeat(3), dots.get_facecolor()[:, :3], strict=True):
            colours[r].add(tuple(colour))
    assert len(colours) == shared
    assert all(len(of_one) == 1 for of_one in colours.values())
    assert len(set.union(*colours.values())) == len(colours)


def test_regions_that_one_view_misses_are_grey_and_hatched() -> None:
    drawn = example([[0.0, 0.0, 0.6, 1.0], [0.2, 0.0, 1.0, 0.6]])
    for v, axes in enumerate(views_of(drawn)[1:]):
        masked = ~np.isin(drawn.regions[v], drawn.regions[1 - v])
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
    image, *views = views_of(example([[0.0, 0.0, 0.8, 1.0]] * 2, flips, raster=np.array([[0, 1, 1, 1]])))

    def upright(axes: Axes) -> list[float]:
        """Where borders run from top to bottom of a panel."""
        edges = [(a[0], abs(b[1] - a[1])) for a, b in one(axes, "borders").get_segments() if a[0] == b[0]]
        return sorted({x for x, _ in edges if sum(length for at, length in edges if at == x) > 0.9})

    assert upright(image) == pytest.approx([0.25, 0.8], abs=0.01), "its border, and the crops' right edge"
    for axes, flip in zip(views, flips, strict=True):
        assert upright(axes) == pytest.approx([1 - 0.25 / 0.8 if flip else 0.25 / 0.8], abs=1 / 56)


def test_the_query_is_marked_in_the_image_its_maps_and_the_views_that_see_it_mirrored_too() -> None:
    drawn = example(BOXES, query=(0.25, 0.5))  # view 2 begins at x = 0.3
    figure = figures.views_and_affinity([drawn])
    image, first, second = panels(figure, "picture")
    assert marks(image) == [(0.25, 0.5)]
    np.testing.assert_allclose(marks(first), [(0.15 / 0.6, 0.45 / 0.75)], rtol=1e-5)
    assert marks(second) == []
    for axes, values in zip(panels(figure, "map"), drawn.maps.values(), strict=True):
        assert marks(axes) == [(0.25, 0.5)]
        np.testing.assert_array_equal(shown(axes), values)
    _, plain, mirrored = views_of(example([BOXES[0]] * 2, query=(0.25, 0.5)))
    assert marks(mirrored)[0][0] == pytest.approx(1 - marks(plain)[0][0], rel=1e-5)
    assert [plain.get_xlabel(), mirrored.get_xlabel()] == ["", "mirrored"]


def test_every_number_stands_in_its_own_region_clear_of_the_mark_and_slivers_have_none() -> None:
    drawn = example([[0.24, 0.0, 1.0, 1.0], WHOLE[0]], (False, False))
    numbers = []
    for v, axes in enumerate(views_of(drawn)[1:]):
        for text in axes.texts:
            x, y = text.get_position()
            numbers.append((v, int(text.get_text())))
            assert drawn.regions[v][int(y * 56), int(x * 56)] == numbers[-1][1]
            assert max(np.abs(np.array(marks(axes)[0]) - (x, y))) > 0.09
    assert {(0, r) for r in (0, 4, 8, 12)}.isdisjoint(numbers), "slivers of the left column"
    assert {(1, r) for r in (0, 4, 8, 12)} <= set(numbers)


def test_depth_is_the_distance_in_cells_to_another_region_or_the_edge() -> None:
    regions = np.random.default_rng(0).integers(2, size=(3, 4)).repeat(4, axis=0).repeat(3, axis=1).astype(np.uint8)
    padded = np.pad(regions.astype(int), 1, constant_values=-1)
    for i, j in np.ndindex(regions.shape):
        others = np.argwhere(padded != regions[i, j]) - 1
        assert depth_in_region(regions)[i, j] == np.abs(others - (i, j)).max(axis=1).min()
