"""On the whole page, whatever the images: type is legible and nothing lies over anything."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from plrc import figures
from tests.figures.readback import panels, picture, rendered, texts
from tests.figures.test_affinity import BOXES, example
from tests.figures.test_charts import COUNTS, LOST, MANY, MANY_AP, run

LONG = "/folder/of/runs/a_very_long_run_name/checkpoints/epoch_0100 ($50$)"
NOTE = "scene 77, china · layer c3 (demo/last), c5 (random:resnet50) · input's short side 448 · softmax at 0.1"
RNG = np.random.default_rng(0)
NORMAL = picture(128, 160)
NAMES = ("random", LONG, "last")


def maps(n: int) -> np.ndarray:
    return RNG.random((n, 3, 4))


def found(n: int, judged: bool) -> SimpleNamespace:
    start, visible = RNG.random((n, 2)), RNG.random(n) < 0.8
    known = (start, visible, visible & (RNG.random(n) < 0.5)) if judged else (None, None, None)
    parts = dict(zip(("truth", "visible", "right"), known, strict=True))
    return SimpleNamespace(start=start, end=RNG.random((n, 2)), similarity=RNG.random(n), **parts)


def affinity(image: np.ndarray) -> Figure:
    points = [RNG.random((2, 2)) for _ in range(5)]
    titles = ["beak", "a point on the head of a bird", LONG, "feet", "sky"]
    how = {"quantity": "positive − negative", "negatives": points, "note": NOTE}
    return figures.affinity(image, maps(5), points, titles, **how)


def one_affinity(image: np.ndarray) -> Figure:
    return figures.affinity(image, maps(1), np.array([[1.0, 0.0]]), note=NOTE)


def sheet(image: np.ndarray) -> Figure:
    columns = {name: list(maps(2)) for name in (*NAMES, "a", "b", "c")}
    captions = {"random": "AUC 0.51 [0.47, 0.55]", LONG: ["intersection over union 0.41", "0.1"], "last": "AUC 0.61"}
    return figures.affinity_sheet([image, NORMAL], np.full((2, 2), 0.5), columns, captions=captions, note=NOTE)


def segments(image: np.ndarray) -> Figure:
    captions = {"segments": [f"purity 0.{i}" for i in range(4)]}
    labels, images = {"segments": [RNG.integers(5, size=(6, 8))] * 4}, [image, NORMAL, picture(160, 128), image]
    return figures.feature_colours(images, labels, captions=captions, note=NOTE)


def views(image: np.ndarray) -> Figure:
    by = {"of the untrained network": maps(1)[0], "of the fully trained network": maps(1)[0]}
    return figures.views_and_affinity([replace(example(BOXES), image=image, maps=by)] * 2)


def matches(image: np.ndarray) -> Figure:
    how = {"names": [LONG], "chances": {"last": [0.01]}, "note": NOTE}
    return figures.correspondence([(image, image)], {"last": [found(100, True)]}, **how)


def unequal_matches(image: np.ndarray) -> Figure:
    return figures.correspondence([(image, NORMAL)], {"last": [found(3, False)]}, note=NOTE)


def match_sheet(image: np.ndarray) -> Figure:
    columns = {name: [found(30, True), found(5, True)] for name in NAMES}
    pairs = [(image, image), (NORMAL, image)]
    return figures.correspondence(pairs, columns, [LONG * 2, "$a$"], views=True, note=NOTE)


def regions(image: np.ndarray) -> Figure:
    raster = np.arange(56).reshape(7, 8)
    how = {"views": True, "keep": RNG.random(56) < 0.5, "chance": 0.02, "note": NOTE}
    return figures.region_correspondence(image, image, (raster, raster), RNG.random((56, 56)), **how)


def few_regions(image: np.ndarray) -> Figure:
    rasters = np.zeros((1, 1), int), np.arange(4).reshape(2, 2) * 100
    return figures.region_correspondence(image, NORMAL, rasters, RNG.random((1, 4)), names=(LONG, "b"))


def planes(image: np.ndarray) -> Figure:
    names = [f"{'a long name of a class, ' * (i % 3)}{i}" for i in range(50)]
    said = {"captions": dict.fromkeys(NAMES, "purity 0.61 [0.55, 0.66]"), "explained": dict.fromkeys(NAMES, (0.3, 0.1))}
    return figures.embedding({name: RNG.normal(size=(50, 2)) for name in NAMES}, names, **said, note=NOTE)


def thumbnails(image: np.ndarray) -> Figure:
    return figures.embedding(RNG.normal(size=(20, 2)), ["a"] * 20, thumbnails=[image] * 20, note=NOTE)


def scores(image: np.ndarray) -> Figure:
    names = ["random", LONG, *(f"epoch {i}" for i in range(8)), "distance", "Lab colour"]
    row = {name: (0.1 * i, 0.1 * i - 0.05, 0.1 * i + 0.3) for i, name in enumerate(names)}
    measures = ("view-match recall within 1 cell, n = 40", "AUC", "PCK@0.1", "purity")
    return figures.score_chart(dict.fromkeys(measures, row), names[-2:], title="masked", details=NOTE)


def curves(image: np.ndarray) -> Figure:
    return figures.curves({"demo": run(), LONG: run()}, 31)


def precision(image: np.ndarray) -> Figure:
    names = {f"{name} of a long name that goes on and on": name for name in MANY}
    drawn = ({long: of[name] for long, name in names.items()} for of in (MANY, MANY_AP))
    return figures.precision_recall(*drawn, "a long title, " * 12)


def errors(image: np.ndarray) -> Figure:
    return figures.error_types(LOST, dict.fromkeys(COUNTS, 123456), 0.05, "title " * 20)


def detections(image: np.ndarray) -> Figure:
    boxes = np.array([[0, 0, 20, 20], [5, 30, 25, 60]])
    found = figures.DetectedPicture(image, LONG, boxes, [0.9, 0.6], ["a cat", "b"], boxes[:1], ["a cat"])
    return figures.detections([found] * 5, note=NOTE)


OF_IMAGES = [
    affinity, one_affinity, sheet, segments, views, matches, unequal_matches, match_sheet, regions, few_regions,
    thumbnails, detections,
]  # fmt: skip
CHARTS = [planes, scores, curves, precision, errors]


@pytest.mark.parametrize(
    ("draw", "size"), [*itertools.product(OF_IMAGES, [(300, 60), (60, 300)]), *((draw, (1, 1)) for draw in CHARTS)]
)
def test_type_is_on_the_page_large_enough_and_nothing_overlaps(
    draw: Callable[[np.ndarray], Figure], size: tuple[int, int]
) -> None:
    figure = draw(picture(*size))
    rendered(figure)
    page = Bbox.from_bounds(0, 0, *figure.bbox.size)
    boxes = {}
    for text in texts(figure):
        box = (text.get_bbox_patch() or text).get_window_extent()
        assert page.x0 <= box.x0 + 1 < box.x1 <= page.x1 + 1, text
        assert page.y0 <= box.y0 + 1 < box.y1 <= page.y1 + 1, text
        assert text.get_fontsize() >= 5
        boxes[text] = box
    notes = [text for text in boxes if " ".join(text.get_text().split()) == NOTE and text.get_color() == "0.45"]
    assert all(boxes[text].y0 >= boxes[note].y1 - 1 for note in notes for text in boxes if text is not note), (
        "below all"
    )
    drawn = [axes for axes in figure.findobj(Axes) if not axes.child_axes and axes.axison]
    on_panels = {text for axes in drawn for text in axes.texts if axes.images}
    for a, b in itertools.combinations(boxes, 2):
        blank = any(text.get_text().endswith("\n ") for text in (a, b))  # a line left free for the other
        if not {a, b} <= on_panels and not blank:  # points and their numbers may crowd
            shared = Bbox.intersection(boxes[a], boxes[b])
            assert shared is None or min(shared.size) < 1.5, (a, b)
    assert figure.get_figwidth() <= 7.6
    for a, b in itertools.combinations(drawn, 2):
        shared = Bbox.intersection(a.bbox, b.bbox)
        assert shared is None or min(shared.size) < 1e-6, (a, b)
    for axes in panels(figure, "picture") + panels(figure, "map"):
        ratio = axes.bbox.width / axes.bbox.height
        h, w = axes.images[0].get_array().shape[:2]
        assert axes.images[0].get_label() == "map" or ratio == pytest.approx(w / h, rel=1e-3)
        assert axes.bbox.height / figure.dpi <= 7


@pytest.mark.parametrize("draw", [one_affinity, few_regions, errors])
def test_the_reader_s_own_style_changes_nothing(draw: Callable[[np.ndarray], Figure]) -> None:
    global RNG
    drawn = []
    dark = {"text.color": "white", "axes.grid": True, "image.origin": "lower", "axes.facecolor": "black"}
    for style in ({}, {**dark, "xtick.color": "white", "font.size": 30, "axes.labelcolor": "white"}):
        RNG = np.random.default_rng(1)
        with matplotlib.rc_context(style):
            drawn.append(rendered(draw(picture(64, 64))))
    np.testing.assert_array_equal(*drawn)
