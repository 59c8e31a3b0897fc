"""On the whole page, whatever the pictures: type is legible and nothing lies over anything."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from readback import panels, picture, rendered, texts

from plrc import figures

SIZES = [(300, 60), (30, 300)]
LONG = "/folder/of/runs/a_very_long_run_name/checkpoints/epoch_0100 ($50$)"
NOTE = "scene 77, china · layer c3 (demo/last), c5 (random:resnet50) · input's short side 448 · softmax at 0.1"
NAMES = (LONG, "other")
RNG = np.random.default_rng(0)


def draw_ranges(h: int, w: int) -> Figure:
    maps = RNG.random((5, 3, 4)) / 500
    points = [RNG.random((2, 2)) for _ in range(5)]
    how = {"quantity": "positive − negative", "limits": None, "note": NOTE}
    return figures.affinity(picture(h, w), maps, points, negatives=points, **how)


def draw_captions(h: int, w: int) -> Figure:
    columns = {"random": [RNG.random((3, 4))] * 2, LONG: [RNG.random((3, 4))] * 2, "last": [RNG.random((3, 4))] * 2}
    captions = {"random": "AUC 0.51 [0.47, 0.55]", LONG: ["intersection over union 0.41", "0.1"], "last": "AUC 0.61"}
    images = [picture(h, w), picture(128, 160)]
    return figures.affinity_sheet(
        images, np.full((2, 2), 0.5), columns, captions=captions, quantity="softmax", limits=None, note=NOTE
    )


def matches(n: int, judged: bool) -> SimpleNamespace:
    start = RNG.random((n, 2))
    visible, right = RNG.random(n) < 0.8, RNG.random(n) < 0.5
    known = (start, visible, visible & right) if judged else (None, None, None)
    parts = dict(zip(("truth", "visible", "right"), known, strict=True))
    return SimpleNamespace(start=start, end=RNG.random((n, 2)), similarity=RNG.random(n), **parts)


def draw_matches(h: int, w: int) -> Figure:
    return figures.correspondence(
        picture(h, w), picture(h, w), matches(100, True), names=(LONG, "other"), guess=0.01, note=NOTE
    )


def draw_unequal_matches(h: int, w: int) -> Figure:
    return figures.correspondence(picture(h, w), picture(128, 160), matches(1, False), note=NOTE)


def draw_regions(h: int, w: int) -> Figure:
    raster = np.arange(56).reshape(7, 8)
    return figures.region_correspondence(
        picture(h, w), picture(h, w), (raster, raster), RNG.random((56, 56)), views=True,
        keep=RNG.random(56) < 0.5, guess=0.02, note=NOTE,
    )  # fmt: skip


def draw_few_regions(h: int, w: int) -> Figure:
    rasters = np.zeros((1, 1), int), np.arange(4).reshape(2, 2) * 100
    return figures.region_correspondence(
        picture(h, w), picture(128, 160), rasters, RNG.random((1, 4)), names=(LONG, "b")
    )


def draw_planes(h: int, w: int) -> Figure:
    planes = {"random": RNG.normal(size=(50, 2)), LONG: RNG.normal(size=(50, 2)), "last": RNG.normal(size=(50, 2))}
    names = [f"{'a long name of a class, ' * (i % 3)}{i}" for i in range(50)]
    return figures.embedding(
        planes, names, captions=dict.fromkeys(planes, "purity 0.61 [0.55, 0.66]"), explained=(0.3, 0.1), note=NOTE
    )


def draw_thumbnails(h: int, w: int) -> Figure:
    return figures.embedding(
        RNG.normal(size=(20, 2)), ["a"] * 20, thumbnails=[picture(h, w)] * 20, captions="k-NN 0.5", note=NOTE
    )


def draw_contact_sheet(h: int, w: int) -> Figure:
    images = [picture(h, w), picture(128, 160), picture(160, 128), picture(h, w)]
    captions = {"segments": [f"purity 0.{i}" for i in range(4)]}
    return figures.segments(images, [RNG.integers(5, size=(6, 8))] * 4, captions=captions, note=NOTE)


def draw_colours(h: int, w: int) -> Figure:
    return figures.pca_rgb(
        [picture(h, w)] * 3, {"random": [RNG.random((3, 4, 3))] * 3, LONG: [RNG.random((3, 4, 3))] * 3}
    )


def draw_scores(h: int, w: int) -> Figure:
    names = ["random", LONG, *(f"epoch {i}" for i in range(8)), "distance", "Lab colour"]
    row = {name: (0.1 * i, 0.1 * i - 0.05, 0.1 * i + h / 1000) for i, name in enumerate(names)}
    measures = ("view-match recall within 1 cell, n = 40", "AUC", "PCK@0.1", "purity")
    return figures.score_chart(dict.fromkeys(measures, row), names[-2:])


OF_PICTURES = [
    draw_ranges, draw_captions, draw_matches, draw_unequal_matches, draw_regions, draw_few_regions, draw_thumbnails,
    draw_contact_sheet, draw_colours,
]  # fmt: skip
DRAW = [*itertools.product(OF_PICTURES, SIZES), (draw_planes, SIZES[0]), (draw_scores, SIZES[0])]


@pytest.mark.parametrize(("draw", "size"), DRAW)
def test_type_is_on_the_page_large_enough_and_nothing_overlaps(
    draw: Callable[[int, int], Figure], size: tuple[int, int]
) -> None:
    figure = draw(*size)
    rendered(figure)
    page = Bbox.from_bounds(0, 0, *figure.bbox.size)
    boxes = {}
    for text in texts(figure):
        box = (text.get_bbox_patch() or text).get_window_extent()
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text
        assert text.get_fontsize() >= 5.5
        boxes[text] = box
    on_panels = {text for axes in figure.axes for text in axes.texts}
    for a, b in itertools.combinations(boxes, 2):
        if not {a, b} <= on_panels or draw in (draw_scores, draw_planes):  # points and their numbers may crowd
            shared = Bbox.intersection(boxes[a], boxes[b])
            assert shared is None or min(shared.size) < 1, (a, b)
    assert figure.get_figwidth() <= 7.001
    for a, b in itertools.combinations(figure.axes, 2):
        shared = Bbox.intersection(a.bbox, b.bbox)
        assert shared is None or min(shared.size) < 1e-6, (a, b)
    for axes in panels(figure, "picture"):
        w, h = axes.get_xlim()[1], axes.get_ylim()[0]
        assert axes.bbox.width / axes.bbox.height == pytest.approx(w / h)


@pytest.mark.parametrize("draw", [draw_matches, draw_few_regions, draw_thumbnails, draw_scores])
def test_the_reader_s_own_style_changes_nothing(draw: Callable[[int, int], Figure]) -> None:
    global RNG
    drawn = []
    dark = {"text.color": "white", "axes.grid": True, "image.origin": "lower", "axes.facecolor": "black"}
    for style in ({}, {**dark, "xtick.color": "white", "ytick.color": "white", "axes.labelcolor": "white"}):
        RNG = np.random.default_rng(1)
        with matplotlib.rc_context(style):
            drawn.append(rendered(draw(64, 64)))
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(("draw", "suffix"), [(draw_matches, ".pdf"), (draw_thumbnails, ".svg"), (draw_scores, ".svg")])
def test_a_figure_is_saved_as_the_same_bytes_again(
    draw: Callable[[int, int], Figure], suffix: str, tmp_path: Path
) -> None:
    figure = draw(64, 64)
    for name in "ab":
        figures.save(figure, tmp_path / f"{name}{suffix}")
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize("draw", [draw_ranges, draw_matches, draw_regions, draw_planes, draw_thumbnails])
def test_the_note_is_small_and_grey_and_below_everything(draw: Callable[[int, int], Figure]) -> None:
    figure = draw(64, 64)
    rendered(figure)
    (note,) = [text for text in texts(figure) if " ".join(text.get_text().split()) == NOTE]
    assert note.get_fontsize() == 6
    assert note.get_color() == "0.45"
    top = note.get_window_extent().y1
    assert all(text.get_window_extent().y0 >= top for text in texts(figure) if text is not note)
    assert all(axes.bbox.y0 >= top for axes in figure.axes)
