"""On the whole page, whatever the images: type is legible and nothing lies over anything."""

import itertools
from collections.abc import Callable
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
NORMAL, NAMES, RASTER = picture(128, 160), ("random", LONG, "last"), np.arange(56).reshape(7, 8)
TITLES = ["beak", "a point on the head of a bird", LONG, "feet", "sky"]
CAPTIONS = {"random": "AUC 0.51 [0.47, 0.55]", LONG: ["intersection over union 0.41", "0.1"], "last": "AUC 0.61"}
TOLD = {"captions": dict.fromkeys(NAMES, "purity 0.61 [0.55, 0.66]"), "explained": dict.fromkeys(NAMES, (0.3, 0.1))}
MEASURES = ("view-match recall within 1 cell, n = 40", "AUC", "PCK@0.1", "purity")
SCORED = ["random", LONG, *(f"epoch {i}" for i in range(8)), "distance", "Lab colour"]
BOX = np.array([[0, 0, 20, 20], [5, 30, 25, 60]])


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def found(n: int, judged: bool) -> SimpleNamespace:
    visible = np.arange(n) % 5 > 0
    known = (values(n, 2), visible, visible & (np.arange(n) % 2 > 0)) if judged else (None, None, None)
    parts = dict(zip(("truth", "visible", "right"), known, strict=True))
    return SimpleNamespace(start=values(n, 2), end=values(n + 1, 2)[1:], similarity=values(n), **parts)


def detected(image: np.ndarray) -> figures.DetectedPicture:
    return figures.DetectedPicture(image, LONG, BOX, [0.9, 0.6], ["a cat", "b"], BOX[:1], ["a cat"])


OF_IMAGES: dict[str, Callable[[np.ndarray], Figure]] = {
    "affinity": lambda image: figures.affinity(
        image, values(5, 3, 4), values(5, 2, 2), TITLES, negatives=values(5, 2, 2), note=NOTE
    ),
    "one affinity": lambda image: figures.affinity(image, values(1, 3, 4), np.array([[1.0, 0.0]]), note=NOTE),
    "sheet": lambda image: figures.affinity_sheet(
        [image, NORMAL], values(2, 2), dict.fromkeys((*NAMES, *"abc"), values(2, 3, 4)), captions=CAPTIONS, note=NOTE
    ),
    "segments": lambda image: figures.feature_colours(
        [image, NORMAL, picture(160, 128), image], {"segments": (5 * values(4, 6, 8)).astype(int)},
        captions={"segments": [f"purity 0.{i}" for i in range(4)]}, note=NOTE,
    ),
    "retrieval": lambda image: figures.retrieval(
        [
            [figures.Retrieved(image, BOX[0], f"{name} · {NOTE}", points=values(1, 2))]
            + [figures.Retrieved(image, BOX[0], "", "0.987", right) for right in (True, False, None)] * n
            for name, n in zip(NAMES, (1, 3, 2), strict=False)
        ], NOTE,
    ),
    "views": lambda image: figures.views_and_affinity(
        [example(BOXES)._replace(image=image, maps=dict.fromkeys(("of the untrained", "trained"), values(3, 4)))] * 2
    ),
    "matches": lambda image: figures.correspondence(
        [(image, image)], {"last": [found(100, True)]}, [LONG], chances={"last": [0.01]}, note=NOTE
    ),
    "unequal matches": lambda image: figures.correspondence([(image, NORMAL)], {"last": [found(3, False)]}, note=NOTE),
    "match sheet": lambda image: figures.correspondence(
        [(image, image), (NORMAL, image)], {name: [found(30, True), found(5, True)] for name in NAMES},
        [LONG * 2, "$a$"], views=True, note=NOTE,
    ),
    "regions": lambda image: figures.region_correspondence(
        image, image, (RASTER, RASTER), values(56, 56), views=True, keep=values(56) < 0.5, chance=0.02, note=NOTE
    ),
    "few regions": lambda image: figures.region_correspondence(
        image, NORMAL, (np.zeros((1, 1), int), RASTER[:2, :2] * 100), values(1, 4), names=(LONG, "b")
    ),
    "thumbnails": lambda image: figures.embedding(values(20, 2), ["a"] * 20, thumbnails=lambda _: image, note=NOTE),
    "detections": lambda image: figures.detections([detected(image)] * 5, note=NOTE),
}  # fmt: skip
CHARTS: dict[str, Callable[[np.ndarray], Figure]] = {
    "planes": lambda _: figures.embedding(
        {name: values(50, 2) for name in NAMES}, ["a long name, " * (i % 3) + str(i) for i in range(50)], **TOLD
    ),
    "scores": lambda _: figures.score_chart(
        {measure: {name: (0.1 * i, 0.1 * i, 0.1 * i + 0.3) for i, name in enumerate(SCORED)} for measure in MEASURES},
        SCORED[-2:], title="masked", details=NOTE,
    ),
    "curves": lambda _: figures.curves({"demo": run(), LONG: run()}, 31),
    "precision": lambda _: figures.precision_recall(
        *({f"{name} of a long name that goes on": of[name] for name in MANY} for of in (MANY, MANY_AP)), "long, " * 24
    ),
    "errors": lambda _: figures.error_types(LOST, dict.fromkeys(COUNTS, 123456), 0.05, "title " * 20),
}  # fmt: skip
SIZES = [*itertools.product(OF_IMAGES, [(300, 60), (60, 300)]), *((name, (1, 1)) for name in CHARTS)]


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_type_is_on_the_page_large_enough_and_nothing_overlaps(name: str, size: tuple[int, int]) -> None:
    figure = (OF_IMAGES | CHARTS)[name](picture(*size))
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
    assert all(boxes[text].y0 >= boxes[note].y1 - 1 for note in notes for text in boxes if text is not note), "below"
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


@pytest.mark.parametrize("name", ["one affinity", "few regions", "errors"])
def test_the_reader_s_own_style_changes_nothing(name: str) -> None:
    drawn = []
    dark = {"text.color": "white", "axes.grid": True, "image.origin": "lower", "axes.facecolor": "black"}
    for style in ({}, {**dark, "xtick.color": "white", "font.size": 30, "axes.labelcolor": "white"}):
        with matplotlib.rc_context(style):
            drawn.append(rendered((OF_IMAGES | CHARTS)[name](picture(64, 64))))
    np.testing.assert_array_equal(*drawn)
