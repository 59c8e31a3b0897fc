"""The view *Embedding*: dots and images mark each other in a browser, scenes say where samples lie, runs can end."""

from __future__ import annotations

import json
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.context import LocalContext
from PIL import Image

from app.embedding import EmbeddingTab
from app.scenes import data_uri, scatter_scene
from app.workbench import Workbench
from plrc.queries import Embedding
from plrc.views import Session, draw, open_image

SCENES = tuple(f"scenes#{i}" for i in range(4))
OVER = "canvas + canvas"  # of a plane, that which takes the pointer

# ---- In the browser


def scene(n: int = 12, categories: int = 3, planes: int = 2) -> dict[str, Any]:
    """Samples on a circle; in the second plane in reverse. Sample i lies in image i mod 3, in a column of its own."""
    angles = 2 * np.pi * np.arange(n) / n
    circle = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    svg = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='90' height='60'/>"
    return {
        "kind": "regions",
        "images": [{"src": svg, "width": 90, "height": 60, "name": f"p{k}"} for k in range(3)],
        "samples": {
            "image": [i % 3 for i in range(n)],
            "box": [[i // 3 * 3 / n, 0.0, (i // 3 + 1) * 3 / n, 1.0] for i in range(n)],
        },
        "groupings": [
            {"name": "class", "names": [f"c{k}" for k in range(categories)], "of": [i % categories for i in range(n)]},
            {"name": "image", "names": ["p0", "p1", "p2"], "of": [i % 3 for i in range(n)]},
        ],
        "planes": [
            {"name": f"net{k}", "caption": "", "coordinates": (circle if k == 0 else circle[::-1]).tolist()}
            for k in range(planes)
        ],
        "note": "",
    }


def dot(viewer: Any, sample: int, plane: int = 0) -> tuple[float, float]:
    place = viewer.page.locator(OVER).nth(plane).evaluate("(canvas, sample) => canvas.at(sample)", sample)
    return place["x"], place["y"]


def marked(viewer: Any) -> list[int] | None:
    """The samples of the last event."""
    events = viewer.told()
    return events[-1]["indices"] if events else None


def ringed(viewer: Any, sample: int, plane: int) -> bool:
    """Whether a ring, or a marked dot, is drawn at a sample's dot."""
    viewer.settle()
    look = (
        "(canvas, sample) => { const s = devicePixelRatio, box = canvas.getBoundingClientRect();"
        "const p = canvas.at(sample), [x, y] = [(p.x - box.left) * s, (p.y - box.top) * s];"
        "return canvas.getContext('2d').getImageData(x, y, 1, 1).data[3] > 0; }"
    )
    return bool(viewer.page.locator(OVER).nth(plane).evaluate(look, sample))


def drag(viewer: Any, corners: list[tuple[float, float]]) -> None:
    mouse = viewer.page.mouse
    mouse.move(*corners[0])
    mouse.down()
    for corner in corners[1:]:
        mouse.move(*corner, steps=4)
    mouse.up()


def around(viewer: Any, samples: list[int], plane: int = 0) -> list[tuple[float, float]]:
    """A box around dots, by 9 pixels."""
    places = np.array([dot(viewer, sample, plane) for sample in samples])
    (x0, y0), (x1, y1) = places.min(axis=0) - 9, places.max(axis=0) + 9
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


@pytest.mark.parametrize(("width", "scale"), [(1280, 1), (390, 2)])
def test_what_is_hovered_in_a_plane_is_ringed_in_the_other_and_shown(bare, width, scale):
    viewer = bare("scatter", scene(), width, scale=scale)
    x, y = dot(viewer, 5)
    viewer.page.mouse.move(x + 6, y + 6)  # within 10 pixels
    assert ringed(viewer, 5, 1)
    assert not ringed(viewer, 4, 1)
    card = viewer.page.locator(".card")
    assert card.is_visible()
    assert card.inner_text().split("\n") == ["p2", "class: c2"]
    frame = card.bounding_box()
    assert frame["x"] >= 0
    assert frame["x"] + frame["width"] <= width
    viewer.page.mouse.move(x + 11, y + 11)
    assert not ringed(viewer, 5, 1)
    assert not card.is_visible()
    assert viewer.page.evaluate("document.documentElement.scrollWidth") == width


def test_a_click_marks_and_takes_back_a_lasso_begins_anew_and_shift_adds(bare):
    viewer = bare("scatter", scene())
    click = viewer.page.mouse.click
    click(*dot(viewer, 2))
    click(*dot(viewer, 7))
    assert marked(viewer) == [2, 7]
    click(*dot(viewer, 2))
    assert marked(viewer) == [7]
    drag(viewer, around(viewer, [3, 4]))
    assert marked(viewer) == [3, 4]
    viewer.page.keyboard.down("Shift")
    drag(viewer, around(viewer, [9], plane=1))  # the second plane has it elsewhere
    viewer.page.keyboard.up("Shift")
    assert marked(viewer) == [3, 4, 9]
    assert viewer.texts(".status") == ["3 of 12 regions marked, in 2 images, by class: c0 (2), c1 (1)."]
    viewer.page.keyboard.press("Escape")
    assert marked(viewer) == []
    assert viewer.page.locator(".strip figure").count() == 0


def test_a_lasso_is_no_rectangle(bare):
    viewer = bare("scatter", scene())
    x, y = dot(viewer, 0)  # rightmost; a line that goes around 3 (top) and 9 (bottom), but comes in at 0
    (_, top), (left, bottom) = dot(viewer, 3), dot(viewer, 9)
    notch = [(left - 20, top - 15), (x + 15, top - 15), (left + 30, y), (x + 15, bottom + 15), (left - 20, bottom + 15)]
    drag(viewer, notch)
    found = set(marked(viewer) or [])
    assert {3, 9} <= found
    assert 0 not in found


def test_images_mark_their_samples_in_the_planes(bare):
    shown = scene()
    viewer = bare("scatter", shown)
    viewer.page.get_by_label("Mark all of").select_option(label="p1")
    assert marked(viewer) == [1, 4, 7, 10]
    assert viewer.texts(".strip figcaption") == ["p1: 4 of 4"]
    box = viewer.page.locator(".strip canvas").bounding_box()
    viewer.page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2)  # the third column: sample 7
    assert marked(viewer) == [1, 4, 10]
    assert ringed(viewer, 7, 0)  # hovered still
    viewer.page.mouse.move(1, 1)
    assert not ringed(viewer, 7, 0)
    assert ringed(viewer, 10, 1)
    # Of samples that overlap in an image the smallest is meant.
    shown["samples"]["box"][1], shown["samples"]["box"][4] = [0, 0, 1, 1], [0.5, 0.2, 0.75, 0.8]
    viewer.show(shown)
    viewer.page.get_by_label("Mark all of").select_option(label="p1")
    box = viewer.page.locator(".strip canvas").bounding_box()
    viewer.page.mouse.click(box["x"] + box["width"] * 0.55, box["y"] + box["height"] / 2)
    assert marked(viewer) == [1, 7, 10]


def test_that_the_page_grows_is_no_reason_to_draw_the_strip_anew(bare):
    """Else it is replaced under the pointer, a frame after it has come."""
    viewer = bare("scatter", scene())
    chosen = "(list) => { list.value = '1'; list.onchange(); window.strip = document.querySelector('.strip canvas'); }"
    viewer.page.get_by_label("Mark all of").evaluate(chosen)
    viewer.settle()
    assert viewer.page.evaluate("strip.isConnected")


def test_a_tap_marks_and_leaves_the_card_open(bare):
    viewer = bare("scatter", scene(), 390, has_touch=True)
    viewer.page.touchscreen.tap(*dot(viewer, 5))
    viewer.settle()
    assert marked(viewer) == [5]
    assert viewer.page.locator(".card").is_visible()
    viewer.page.touchscreen.tap(*dot(viewer, 6, 1))
    assert viewer.texts(".card b") == ["p0"]


def test_twelve_images_of_the_marked_are_shown_and_the_rest_counted(bare):
    shown = scene(30)
    shown["samples"]["image"] = list(range(30))
    shown["images"] = [{**shown["images"][0], "name": f"p{k}"} for k in range(30)]
    viewer = bare("scatter", shown)
    drag(viewer, around(viewer, list(range(14))))
    found = marked(viewer) or []
    assert len(found) > 13
    assert viewer.page.locator(".strip figure").count() == 12
    assert viewer.texts(".strip p") == [f"and {len(found) - 12} images more"]


def test_keys_walk_from_dot_to_dot(bare):
    shown = scene(6)
    shown["planes"][0]["coordinates"] = [[0, 0], [1, 0.2], [2, 0], [1.1, 1.3], [-1, 0], [-1, -2]]
    viewer = bare("scatter", shown)
    viewer.page.locator(OVER).first.focus()
    for key, spoken in (
        ("Up", "p0, class: c0"),  # nothing was meant yet: the one in the middle
        ("Right", "p1, class: c1"),
        ("Up", "p0, class: c0"),
        ("Up", "p0, class: c0"),  # there is none
        ("Down", "p1, class: c1"),
        ("Right", "p2, class: c2"),
    ):
        viewer.page.keyboard.press(f"Arrow{key}")
        assert viewer.texts(".spoken") == [spoken]
    assert ringed(viewer, 2, 1)
    viewer.page.keyboard.press("Enter")
    assert marked(viewer) == [2]
    viewer.page.keyboard.press("Escape")
    assert marked(viewer) == []


def test_the_legend_shows_one_category_and_another_grouping_keeps_the_marks(bare):
    viewer = bare("scatter", scene())
    only = viewer.page.locator(".legend button", has_text="c1")
    only.click()
    viewer.page.mouse.move(*dot(viewer, 2))
    assert not viewer.page.locator(".card").is_visible()
    drag(viewer, around(viewer, list(range(12))))
    assert marked(viewer) == [1, 4, 7, 10]
    only.click()
    drag(viewer, around(viewer, list(range(12))))
    assert len(marked(viewer) or []) == 12
    viewer.page.get_by_label("Colour by").select_option("image")
    assert viewer.texts(".legend .name") == ["p0", "p1", "p2"]
    assert ringed(viewer, 2, 1)


def test_of_many_categories_the_largest_have_a_mark_and_the_legend_says_so(bare):
    shown = scene(60, categories=40)
    shown["groupings"][0]["of"] = [(i + 20) % 40 for i in range(60)]  # c20 … c39 twice
    viewer = bare("scatter", shown)
    assert viewer.texts(".legend .name") == [*(f"c{k}" for k in range(20, 36)), "24 others"]
    assert viewer.texts(".legend .number") == [*["2"] * 16, "28"]
    assert "The largest have a mark of their own." in viewer.texts(".legend")[0]
    viewer.show(scene(96, categories=16))
    assert "others" not in viewer.texts(".legend")[0]


def test_the_same_scene_again_keeps_the_marks_and_another_begins_anew(bare):
    viewer = bare("scatter", scene() | {"key": "a"})
    viewer.page.mouse.click(*dot(viewer, 2))
    viewer.show(scene() | {"key": "a"})
    assert ringed(viewer, 2, 0)
    viewer.show(scene(6) | {"key": "b"})
    assert not ringed(viewer, 2, 0)
    viewer.show({"note": "nothing yet"})
    assert viewer.texts(".status") == ["nothing yet"]
    assert not viewer.page.locator(OVER).count()


def test_zoom_keeps_what_is_under_the_pointer(bare):
    viewer = bare("scatter", scene())
    x, y = dot(viewer, 2)
    viewer.page.mouse.move(x, y)
    viewer.enlarge(2)
    assert dot(viewer, 2) == pytest.approx((x, y), abs=4)  # the pointer's place is in whole pixels
    far = np.hypot(*np.subtract(dot(viewer, 3), dot(viewer, 2)))
    assert far > 1.5 * np.hypot(*np.subtract(dot(viewer, 3, 1), dot(viewer, 2, 1)))  # the other plane is as it was


def test_enlarged_dots_are_seen_as_what_they_are_of(bare):
    shown = scene()
    for image in shown["images"]:
        image["src"] = data_uri(Image.new("RGB", (90, 60), (0, 255, 0)), "png")
    viewer = bare("scatter", shown)
    x, y = dot(viewer, 2)
    at = viewer.page.locator("canvas:has(+ canvas)").first.bounding_box()

    def colour() -> list[int]:
        viewer.settle()
        pixels = viewer.pixels("canvas:has(+ canvas)")
        return [int(v) for v in pixels[int(y - at["y"]) + 10, int(x - at["x"])]]

    before = colour()
    viewer.page.mouse.move(x, y)
    viewer.enlarge(4)
    viewer.page.mouse.move(0, 0)
    assert before != [0, 255, 0] == colour()


@pytest.mark.parametrize("dark", [False, True])
def test_dots_are_seen_on_light_and_on_dark(bare, dark):
    """The eighth colour is nearly black: on a dark page it is nearly white."""
    colours = "--background-fill-primary: #0b0f19; --body-text-color: #f3f4f6" if dark else ""
    viewer = bare("scatter", scene(16, categories=8), colours=colours)
    pixel = viewer.page.locator("canvas:has(+ canvas)").first.evaluate(
        "(canvas, [x, y]) => { const box = canvas.getBoundingClientRect();"
        "return [...canvas.getContext('2d').getImageData(x - box.left, y - box.top, 1, 1).data]; }",
        list(dot(viewer, 7)),
    )
    assert (min(pixel[:3]) > 200) == dark


def test_five_thousand_dots_answer_within_a_frame(bare):
    viewer = bare("scatter", scene(5000))
    viewer.page.evaluate(
        """() => { window.took = []; const ask = window.requestAnimationFrame;
        const timed = (f) => (...of) => { const t = performance.now(); f(...of); took.push(performance.now() - t); };
        window.requestAnimationFrame = (f) => ask(timed(f));
        const canvas = document.querySelector('canvas + canvas');
        for (let i = 0; i < 200; i++) {
          const p = canvas.at(i * 25), t = performance.now();
          canvas.dispatchEvent(new PointerEvent('pointermove', {clientX: p.x, clientY: p.y}));
          took.push(performance.now() - t); } }"""
    )
    viewer.settle()
    took = np.array(viewer.page.evaluate("took"))
    assert len(took) > 200
    assert np.median(took) < 16


# ---- Scenes


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(200)


def drawn(session: Session, *checkpoints: str, **how: Any) -> Any:
    start = {"images": SCENES, "method": "pca", "size": 64}
    return draw(Embedding(checkpoints=checkpoints or ("plrc:tiny",), **(start | how)), session)


def test_regions_lie_where_their_objects_are(session):
    drawing = drawn(session, regions="objects")
    found = scatter_scene(drawing, session)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    samples, seen = drawing.samples, 0
    for k, (image, box) in enumerate(zip(found["samples"]["image"], found["samples"]["box"], strict=True)):
        masks = open_image(SCENES[image]).masks
        if not samples.region[k]:
            continue
        later = masks[samples.region[k] :].any(axis=0) if samples.region[k] < len(masks) else np.zeros_like(masks[0])
        rows, columns = np.nonzero(masks[samples.region[k] - 1] & ~later)
        h, w = masks.shape[1:]
        exact = [columns.min() / w, rows.min() / h, (columns.max() + 1) / w, (rows.max() + 1) / h]
        assert box == pytest.approx(exact, abs=1e-4)
        seen += 1
    assert seen > 8
    assert [grouping["name"] for grouping in found["groupings"]] == ["class", "image"]
    names = found["groupings"][0]["names"]
    assert [names[i] for i in found["groupings"][0]["of"]] == samples.labels.tolist()


def test_points_cover_their_cells_and_regions_of_a_grid_their_parts(session):
    drawing = drawn(session, of="points", per_image=5)
    boxes = np.array(scatter_scene(drawing, session)["samples"]["box"])
    (network,) = session.networks(drawing.query).values()
    for k in range(len(boxes)):
        fmap = network.features(open_image(SCENES[drawing.samples.image[k]]).image, size=64)
        h, w = fmap.shape
        np.testing.assert_allclose(boxes[k, 2:] - boxes[k, :2], fmap.extent.numpy() / (w, h), atol=1e-4)
        np.testing.assert_allclose((boxes[k, 2:] + boxes[k, :2]) / 2, drawing.samples.point[k], atol=1e-4)
    drawing = drawn(session, "plrc:tiny", "random:tiny", regions="grid:2")
    found = scatter_scene(drawing, session)
    assert found["samples"]["box"][1] == [0.5, 0, 1, 0.5]
    assert found["groupings"][1] == {"name": "region", "names": ["0", "1", "2", "3"], "of": [0, 1, 2, 3] * 4}
    assert len(found["planes"]) == 2
    assert found["planes"][0]["coordinates"][0] == pytest.approx(next(iter(drawing.planes.values()))[0], rel=1e-4)
    keys = {scatter_scene(drawn(session, *of, regions="grid:2"), session)["key"] for of in ((), ("random:tiny",))}
    assert len({found["key"], *keys}) == 3, "another drawing has another key"


# ---- The tab


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingTab:
    bench = Workbench(["plrc:tiny", "random:tiny"], runs=tmp_path_factory.mktemp("runs"))
    with gr.Blocks():
        return EmbeddingTab(bench)


def test_a_drawing_is_stopped_by_its_user_alone_and_t_sne_itself_ends(tab, monkeypatch):
    """A Stop that only hid the result would leave a server at work."""
    steps, results, ready, go = [], {}, threading.Barrier(3), threading.Event()

    def told(self, done_total, desc="", unit=""):
        if desc.startswith("t-SNE"):
            steps.append(done_total)
        if desc.startswith("images") and done_total[0] == 1:
            ready.wait(30)
            go.wait(30)

    def start(user: str, name: str, act: Any) -> threading.Thread:
        def work() -> None:
            LocalContext.request.set(SimpleNamespace(session_hash=user))  # type: ignore[arg-type]
            results[name] = act()

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def shown(seed: int) -> Any:
        how: dict[str, Any] = {"checkpoints": ("plrc:tiny",), "size": 64, "regions": "grid:4"}
        return tab.show(Embedding(images=SCENES[:2], seed=seed, **how))

    monkeypatch.setattr(gr.Progress, "__call__", told)
    threads = [start(user, user, partial(shown, seed)) for seed, user in enumerate(("ann", "bob"))]
    ready.wait(30)
    monkeypatch.setattr(gr, "Info", lambda text: results.setdefault("told", text))
    start("bob", "stop", tab._stop).join(10)
    go.set()
    for thread in threads:
        thread.join(60)
    assert results["told"] == "Stopped."
    assert steps, "Ann's went on"
    assert "planes" in results["ann"][0].props["scene"]
    assert "planes" not in str(results["bob"][0])
