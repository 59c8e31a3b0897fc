"""Figures: read back from their artists and their pixels what was drawn, and where."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from plrc import figures
from plrc.figures.panels import OUTLINE
from plrc.figures.rasters import depth_in_region
from plrc.geometry import Crop, cell_centres, cell_of


def picture(h: int, w: int) -> np.ndarray:
    """Channels code the place: red is x, green is y."""
    centres = cell_centres(h, w).numpy()
    return (np.dstack((centres, np.zeros((h, w)))) * 255).astype(np.uint8)


def ramp(h: int, w: int) -> np.ndarray:
    """A map whose every cell has its own value in (−1, 1)."""
    return np.linspace(-0.98, 0.98, h * w).reshape(h, w)


def example(
    boxes: list[list[float]],
    flips: tuple[bool, bool] = (False, True),
    query: tuple[float, float] = (0.5, 0.5),
    size: tuple[int, int] = (128, 160),
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
        image=picture(*size),
        box=np.array(boxes, dtype=np.float32),
        flip=np.array(flips),
        views=np.stack([picture(32, 32)] * 2),
        regions=regions.astype(np.uint8),
        points=points,
        valid=valid,
        query=np.array(query),
        maps={"before": ramp(4, 5), "after": ramp(8, 10)},
    )


BOXES = [[0.1, 0.05, 0.7, 0.8], [0.3, 0.2, 0.95, 1.0]]


def panels(figure: Figure, label: str) -> list[Axes]:
    """The panels that show an array of this kind, in the order of drawing."""
    return [axes for axes in figure.axes if any(image.get_label() == label for image in axes.images)]


def marks(axes: Axes) -> list[tuple[float, float]]:
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_label() == "point"]


def rendered(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def texts(figure: Figure) -> list[Text]:
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]


# ------------------------------------------------------------------------------------------------------ affinity


def test_each_cell_of_a_map_is_where_the_coordinate_rule_says_and_has_the_colour_of_its_value() -> None:
    """Read from the pixels of the drawn figure, close to the four corners of every cell."""
    values = ramp(5, 7)
    grey = np.full((60, 90, 3), 128, dtype=np.uint8)  # no outlines
    figure = figures.affinity(grey, values[None], np.array([[2.0, 2.0]]))  # the ring is out of sight
    figure.set_dpi(300)
    pixels = rendered(figure)
    (axes,) = panels(figure, "map")
    for i, j, a, b in itertools.product(range(5), range(7), (0.15, 0.85), (0.15, 0.85)):
        x, y = axes.transData.transform(((j + a) / 7 * 90, (i + b) / 5 * 60))
        shown = pixels[pixels.shape[0] - 1 - int(y), int(x)] / 255
        wanted = axes.images[0].cmap((values[i, j] + 1) / 2)
        np.testing.assert_allclose(shown, wanted, atol=0.01)


def test_a_map_has_its_own_colours_but_for_the_outlines_of_the_picture() -> None:
    """Black or white, what lies below does not pass for a value; where they meet a line keeps the hue."""
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[:, 20:] = 255
    figure = figures.affinity(image, np.full((1, 2, 2), 0.7), np.array([[2.0, 2.0]]))
    pixels = rendered(figure).astype(float)
    (axes,) = panels(figure, "map")
    black, edge, white = (
        pixels[pixels.shape[0] - 1 - int(y), int(x), :3]
        for x, y in axes.transData.transform([(6, 20), (20, 20), (34, 20)])
    )
    np.testing.assert_array_equal(black, white)
    np.testing.assert_allclose(black / 255, axes.images[0].cmap((0.7 + 1) / 2)[:3], atol=0.01)
    np.testing.assert_allclose(edge / black, 1 - OUTLINE, atol=0.02)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.affinity(picture(40, 60), 0.2 * ramp(4, 6)[None], np.array([[0.5, 0.5]])),
        lambda: figures.affinity_sheet([picture(40, 60)], np.array([[0.5, 0.5]]), {"now": [0.2 * ramp(4, 6)]}),
        lambda: figures.views_and_affinity([example(BOXES), example(BOXES)]),
    ],
)
def test_cosines_have_one_colour_scale_whatever_their_range_and_one_colour_bar(draw: Callable[[], Figure]) -> None:
    figure = draw()
    maps = [image for axes in figure.axes for image in axes.images if image.get_label() == "map"]
    assert {image.get_clim() for image in maps} == {(-1, 1)}
    bars = [axes for axes in figure.axes if axes.get_title(loc="left") == "cosine"]
    assert len(bars) == 1
    assert bars[0].get_ylim() == (-1, 1)
    labels = [float(label.get_text().replace("−", "-")) for label in bars[0].get_yticklabels()]
    assert labels == list(bars[0].get_yticks())
    assert {-1, 0, 1} <= set(labels)


def test_points_are_marked_and_numbered_on_the_picture_and_each_on_its_own_map() -> None:
    points = np.array([[0.25, 0.5], [0.99, 0.01], [0.0, 1.0]])
    figure = figures.affinity(picture(40, 60), np.stack([ramp(4, 6)] * 3), points)
    (shown,) = panels(figure, "picture")
    wanted = [tuple(p) for p in points * (60, 40)]
    assert marks(shown) == wanted
    assert [(t.get_text(), t.xy) for t in shown.texts] == [("1", wanted[0]), ("2", wanted[1]), ("3", wanted[2])]
    assert [marks(axes) for axes in panels(figure, "map")] == [[w] for w in wanted]


def test_maps_after_the_fourth_go_to_the_next_row_under_the_first() -> None:
    figure = figures.affinity(picture(30, 40), np.stack([ramp(3, 4)] * 6), np.full((6, 2), 0.5))
    places = np.array([axes.get_position().min for axes in panels(figure, "map")])
    assert len(set(places[:4, 1])) == len(set(places[4:, 1])) == 1
    assert places[4, 1] < places[0, 1]
    np.testing.assert_allclose(places[4:, 0], places[:2, 0])


def test_tensors_and_pictures_of_pillow_draw_as_arrays_do() -> None:
    image, maps, points = picture(40, 60), ramp(4, 6)[None], np.array([[0.25, 0.5]])
    plain = rendered(figures.affinity(image, maps, points))
    tensors = torch.tensor(maps, requires_grad=True), torch.tensor(points)
    np.testing.assert_array_equal(rendered(figures.affinity(Image.fromarray(image), *tensors)), plain)


def test_what_belongs_together_must_be_of_one_number() -> None:
    image, two = picture(4, 6), np.stack([ramp(4, 6)] * 2)
    with pytest.raises(ValueError, match="2 maps, 1 points"):
        figures.affinity(image, two, np.array([[0.5, 0.5]]))
    with pytest.raises(ValueError, match="3 titles"):
        figures.affinity(image, two, np.full((2, 2), 0.5), ["a", "b", "c"])
    with pytest.raises(ValueError, match="shorter"):
        figures.affinity_sheet([image] * 2, np.full((2, 2), 0.5), {"before": list(two), "after": list(two[:1])})


def test_a_sheet_has_a_row_an_image_and_a_column_a_network() -> None:
    images = [picture(40, 60), picture(90, 30)]
    points = np.array([[0.25, 0.5], [0.5, 0.75]])
    columns = {"before": [ramp(2, 3), ramp(6, 2)], "step 400": [ramp(4, 6), ramp(9, 3)]}
    figure = figures.affinity_sheet(images, points, columns)
    wanted = [(15, 20), (15, 67.5)]
    assert [marks(axes) for axes in panels(figure, "picture")] == [[w] for w in wanted]
    maps = panels(figure, "map")
    assert [marks(axes) for axes in maps] == [[w] for w in wanted * 2]
    for axes, values in zip(maps, itertools.chain(*columns.values()), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), values)
    centres = np.array([np.mean(axes.get_position().intervalx) for axes in maps])
    np.testing.assert_allclose(centres[[0, 2]], centres[[1, 3]])
    upper, lower = (axes.get_position() for axes in maps[:2])
    assert 0 < (upper.y0 - lower.y1) * figure.get_figheight() < 0.1, "inches between rows"
    heads = {t.get_text(): t.get_position()[0] for t in figure.texts}
    np.testing.assert_allclose([heads["before"], heads["step 400"]], centres[[0, 2]])


# --------------------------------------------------------------------------------------------- views and regions


def test_crops_are_outlined_where_they_lie_and_told_apart_by_colour_and_line() -> None:
    figure = figures.views_and_affinity([example(BOXES)])
    image, *views = panels(figure, "picture")
    outlines = [p for p in image.patches if isinstance(p, Rectangle) and p.get_label().startswith("view")]
    for outline, (x0, y0, x1, y1), axes in zip(outlines, BOXES, views, strict=True):
        np.testing.assert_allclose(outline.get_bbox().extents, (x0 * 160, y0 * 128, x1 * 160, y1 * 128), rtol=1e-5)
        assert axes.spines["left"].get_edgecolor() == outline.get_edgecolor(), "the view is framed as its crop is"
    assert len({outline.get_edgecolor() for outline in outlines}) == 2
    assert len({str(outline.get_linestyle()) for outline in outlines}) == 2


@pytest.mark.parametrize(("boxes", "shared"), [(BOXES, 8), ([[0.0, 0.0, 1.0, 1.0]] * 2, 16)])
def test_a_region_has_one_colour_in_both_views_and_no_other_has_it(boxes: list[list[float]], shared: int) -> None:
    shown = example(boxes)
    figure = figures.views_and_affinity([shown])
    colours: dict[int, set[tuple[float, ...]]] = {}
    for v, axes in enumerate(panels(figure, "picture")[1:]):
        (tint,) = [image for image in axes.images if image.get_label() == "regions"]
        for r in np.flatnonzero(shown.valid):
            colours.setdefault(r, set()).update(map(tuple, tint.get_array()[shown.regions[v] == r][:, :3]))
            (dots,) = [c for c in axes.collections if c.get_label() == f"region {r}"]
            colours[r].add(tuple(dots.get_facecolor()[0][:3]))
            np.testing.assert_allclose(dots.get_offsets(), shown.points[v, r] * 32)
    assert len(colours) == shared
    assert all(len(of_one) == 1 for of_one in colours.values())
    assert len(set.union(*colours.values())) == len(colours)


def test_regions_that_one_view_misses_are_hatched_and_have_no_points() -> None:
    shown = example([[0.0, 0.0, 0.6, 1.0], [0.2, 0.0, 1.0, 0.6]])
    figure = figures.views_and_affinity([shown])
    for v, axes in enumerate(panels(figure, "picture")[1:]):
        dots = {c.get_label() for c in axes.collections if c.get_label().startswith("region")}
        assert dots == {f"region {r}" for r in np.flatnonzero(shown.valid)}
        masked = ~shown.valid[shown.regions[v]]
        assert masked.any()
        (tint,) = [image for image in axes.images if image.get_label() == "regions"]
        np.testing.assert_array_equal((tint.get_array()[..., :3] == to_rgba("0.6")[:3]).all(axis=2), masked)
        (hatch,) = [c for c in axes.collections if c.get_label() == "not seen by both"]
        runs = hatch.get_clip_path().get_fully_transformed_path().vertices.reshape(-1, 5, 2)  # closed rectangles
        centres = axes.transData.transform(cell_centres(56, 56).flatten(0, 1).numpy() * 32)[:, None]
        inside = ((centres > runs.min(axis=1)) & (centres < runs.max(axis=1))).all(axis=2).any(axis=1)
        np.testing.assert_array_equal(inside.reshape(56, 56), masked)


def test_nothing_is_hatched_where_both_views_see_every_region() -> None:
    figure = figures.views_and_affinity([example([[0.0, 0.0, 1.0, 1.0]] * 2)])
    assert not [c for axes in figure.axes for c in axes.collections if c.get_label() == "not seen by both"]


@pytest.mark.parametrize("flips", [(False, False), (True, False), (True, True)])
def test_region_borders_lie_in_the_image_where_the_regions_do(flips: tuple[bool, bool]) -> None:
    """Region 0 is the left quarter: mirroring a view must not move its border in the image."""
    raster = np.array([[0, 1, 1, 1]])
    figure = figures.views_and_affinity([example([[0.0, 0.0, 0.8, 1.0]] * 2, flips, raster=raster)])
    image, *views = panels(figure, "picture")
    assert sorted(upright(image)) == pytest.approx([40, 128], abs=1.5), "its border, and the crops' right edge"
    at = 0.25 / 0.8
    for axes, flip in zip(views, flips, strict=True):
        assert upright(axes) == pytest.approx([32 * (1 - at if flip else at)], abs=32 / 56)


def upright(axes: Axes) -> list[float]:
    """Where borders run from top to bottom of a panel."""
    (borders,) = [c for c in axes.collections if c.get_label() == "borders"]
    assert isinstance(borders, LineCollection)
    return [a[0] for a, b in borders.get_segments() if a[0] == b[0] and abs(b[1] - a[1]) > 0.9 * axes.get_ylim()[0]]


def test_the_query_is_marked_in_the_image_its_maps_and_the_views_that_see_it() -> None:
    shown = example(BOXES, query=(0.25, 0.5))  # view 2 begins at x = 0.3
    figure = figures.views_and_affinity([shown])
    image, first, second = panels(figure, "picture")
    assert marks(image) == [(40, 64)]
    np.testing.assert_allclose(marks(first), [(0.15 / 0.6 * 32, 0.45 / 0.75 * 32)], rtol=1e-5)
    assert marks(second) == []
    maps = panels(figure, "map")
    assert [marks(axes) for axes in maps] == [[(40, 64)]] * 2
    for axes, values in zip(maps, shown.maps.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), values)


def test_the_query_in_a_mirrored_view_is_mirrored_and_the_view_says_so() -> None:
    figure = figures.views_and_affinity([example([BOXES[0]] * 2, (False, True), query=(0.25, 0.5))])
    _, plain, mirrored = panels(figure, "picture")
    assert marks(mirrored)[0][0] == pytest.approx(32 - marks(plain)[0][0], rel=1e-5)
    assert [plain.get_xlabel(), mirrored.get_xlabel()] == ["", "mirrored"]


def test_every_number_stands_in_its_own_region_and_slivers_have_none() -> None:
    shown = example([[0.24, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]], (False, False))
    figure = figures.views_and_affinity([shown])
    numbers = []
    for v, axes in enumerate(panels(figure, "picture")[1:]):
        for text in axes.texts:
            x, y = text.get_position()
            assert shown.regions[v][int(y / 32 * 56), int(x / 32 * 56)] == int(text.get_text())
        numbers.append({int(text.get_text()) for text in axes.texts})
    assert numbers == [set(range(16)) - {0, 4, 8, 12}, set(range(16))]


def test_a_number_stands_in_the_middle_of_its_region_but_clear_of_the_mark() -> None:
    figure = figures.views_and_affinity([example([[0.0, 0.0, 1.0, 1.0]] * 2, (False, False), query=(0.375, 0.375))])
    rendered(figure)
    for axes in panels(figure, "picture")[1:]:
        for text in axes.texts:
            r = int(text.get_text())
            x, y = text.get_position()
            if r != 5:
                assert (x, y) == pytest.approx((32 * (r % 4 + 0.5) / 4, 32 * (r // 4 + 0.5) / 4), abs=1)
            else:
                (ring,) = axes.transData.transform(marks(axes))
                away = np.hypot(*(axes.transData.transform((x, y)) - ring)) * 72 / figure.dpi
                assert away > 5.5, "points"


def test_a_number_stands_in_the_middle_of_a_long_region() -> None:
    raster = np.array([[0], [1]])
    whole = [[0.0, 0.0, 1.0, 1.0]] * 2
    figure = figures.views_and_affinity([example(whole, (False, False), query=(0.1, 0.9), raster=raster)])
    upper = panels(figure, "picture")[1].texts[0]
    assert (upper.get_text(), *upper.get_position()) == ("0", pytest.approx(16, abs=1), pytest.approx(8, abs=1))


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
    with pytest.raises(ValueError, match="later"):
        figures.views_and_affinity([example(BOXES), other])
    with pytest.raises(ValueError, match="same names"):
        figures.views_and_affinity([])


# ---------------------------------------------------------------------------------------------- on the whole page

SIZES = [(128, 160), (300, 100), (90, 300), (64, 64), (700, 500)]


def draw_affinity(h: int, w: int) -> Figure:
    titles = ["beak", "a point on the head of a bird", "tail", "feet", "sky"]
    return figures.affinity(
        picture(h, w), np.stack([ramp(4, 5)] * 5), np.linspace(0.02, 0.98, 10).reshape(5, 2), titles
    )


def draw_one_affinity(h: int, w: int) -> Figure:
    return figures.affinity(picture(h, w), ramp(4, 5)[None], np.array([[1.0, 0.0]]))


def draw_sheet(h: int, w: int) -> Figure:
    names = ("before", "step 400", "in the very middle of the training", "after the whole of the training")
    columns = dict.fromkeys(names, [ramp(4, 5)] * 2)
    return figures.affinity_sheet([picture(h, w), picture(128, 160)], np.full((2, 2), 0.5), columns)


def draw_views(h: int, w: int) -> Figure:
    narrow = example([[0.3, 0.2, 0.75, 0.65], [0.35, 0.3, 0.8, 0.7]], query=(0.5, 0.45), size=(h, w))
    shown = [example(BOXES, size=(h, w)), narrow]
    for one in shown:
        one.maps = {"of the untrained network": ramp(4, 5), "of the fully trained network": ramp(8, 10)}
    return figures.views_and_affinity(shown)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("draw", [draw_affinity, draw_one_affinity, draw_sheet, draw_views])
def test_type_is_on_the_page_large_enough_and_does_not_overlap(
    draw: Callable[[int, int], Figure], size: tuple[int, int]
) -> None:
    figure = draw(*size)
    rendered(figure)
    page = Bbox.from_bounds(0, 0, *figure.bbox.size)
    boxes = {}
    for text in texts(figure):
        patch = text.get_bbox_patch()
        box = (patch or text).get_window_extent()
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text
        assert text.get_fontsize() >= 5.5
        boxes[text] = box
    for a, b in itertools.combinations(boxes, 2):
        shared = Bbox.intersection(boxes[a], boxes[b])
        assert shared is None or min(shared.size) < 1, (a, b)
    assert figure.get_figwidth() <= 7


@pytest.mark.parametrize("corner", [0, 1])
def test_a_view_is_named_in_a_corner_of_its_crop_away_from_the_mark(corner: int) -> None:
    figure = draw_views(128, 160)
    at = {text.get_text(): text.xy for text in panels(figure, "picture")[0].texts}
    np.testing.assert_allclose([at["view 1"], at["view 2"]], [(0.1 * 160, 0.05 * 128), (0.95 * 160, 128)], rtol=1e-5)
    # Where view 1 would be named, or view 2.
    query = [(BOXES[0][0] + 0.05, BOXES[0][1] + 0.05), (BOXES[1][2] - 0.05, BOXES[1][3] - 0.05)][corner]
    figure = figures.views_and_affinity([example(BOXES, query=query)])
    rendered(figure)
    axes = panels(figure, "picture")[0]
    mark = axes.transData.transform(marks(axes)[0])
    assert not any(text.get_bbox_patch().get_window_extent().contains(*mark) for text in axes.texts)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("draw", [draw_affinity, draw_one_affinity, draw_sheet, draw_views])
def test_panels_keep_their_pictures_proportions_and_do_not_overlap(
    draw: Callable[[int, int], Figure], size: tuple[int, int]
) -> None:
    figure = draw(*size)
    for axes in panels(figure, "picture") + panels(figure, "map"):
        w, h = axes.get_xlim()[1], axes.get_ylim()[0]
        assert axes.bbox.width / axes.bbox.height == pytest.approx(w / h)
        assert axes.bbox.height / figure.dpi <= 2, "inches"
        assert {tuple(image.get_extent()) for image in axes.images} == {(0, w, h, 0)}
    for a, b in itertools.combinations(figure.axes, 2):
        shared = Bbox.intersection(a.bbox, b.bbox)
        assert shared is None or min(shared.size) < 1e-6


def test_the_reader_s_own_style_changes_nothing() -> None:
    plain = rendered(draw_views(128, 160))
    style = {"image.origin": "lower", "axes.grid": True, "text.color": "white", "xtick.color": "white"}
    with matplotlib.rc_context(
        {**style, "ytick.color": "white", "axes.labelcolor": "white", "axes.titlecolor": "white"}
    ):
        np.testing.assert_array_equal(rendered(draw_views(128, 160)), plain)


def test_pyplot_keeps_no_figure() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    draw_affinity(30, 40)
    draw_sheet(30, 40)
    draw_views(30, 40)
    assert pyplot.get_fignums() == before


# ----------------------------------------------------------------------------------------------------------- save


@pytest.mark.parametrize(("suffix", "opening"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_the_same_figure_is_saved_as_the_same_bytes(tmp_path: Path, suffix: str, opening: bytes) -> None:
    files = [tmp_path / "new" / "folder" / f"{i}{suffix}" for i in range(2)]
    for file in files:
        figures.save(draw_views(30, 40), file)
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert first.startswith(opening)
    assert not [word for word in (b"<dc:date>", b"CreationDate", b"tIME", b"Creation Time") if word in first]
    assert sorted(files[0].parent.iterdir()) == files, "no unfinished file stays"


def test_dots_per_inch_decide_the_size_of_a_png(tmp_path: Path) -> None:
    figure = draw_affinity(30, 40)
    figures.save(figure, tmp_path / "a.png", dpi=200)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == pytest.approx(figure.get_size_inches() * 200, abs=1)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure, file = draw_affinity(30, 40), tmp_path / "a.png"
    figures.save(figure, file)
    old = file.read_bytes()

    def breaks(self: Figure, target: Path, **_: object) -> None:
        target.write_bytes(b"half a picture")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", breaks)
    with pytest.raises(OSError, match="no space"):
        figures.save(figure, file)
    assert file.read_bytes() == old
    assert list(tmp_path.iterdir()) == [file]


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.png, \.pdf or \.svg"):
        figures.save(draw_affinity(30, 40), tmp_path / "picture.jpg")


def test_a_place_that_cannot_be_written_is_named_by_the_file_s_own_name(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match=r"folder\.png'$") as caught:
        figures.save(draw_affinity(30, 40), tmp_path / "folder.png")
    assert ".tmp" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.png"]
