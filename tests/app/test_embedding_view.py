"""The view *Embedding*: dots and pictures mark each other in a browser, scenes say where items lie, runs can end."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gr = pytest.importorskip("gradio", reason="gradio is missing: pip install -e '.[app]'")

from gradio.context import LocalContext  # noqa: E402

from app.embedding import Kept, Runs, Stopped, build  # noqa: E402
from app.scatter_scene import scene_of  # noqa: E402
from app.tab import Tab  # noqa: E402
from app.viewer import head  # noqa: E402
from app.workbench import Workbench  # noqa: E402
from plrc.figures.style import CATEGORIES  # noqa: E402
from plrc.views import Session, draw_embedding, open_picture  # noqa: E402

SCENES = [f"scenes#{i}" for i in range(4)]
OVER = "canvas + canvas"  # of a plane, that which takes the pointer

# --- in the browser


def scene(n: int = 12, kind: str = "regions", categories: int = 3, planes: int = 2) -> dict[str, Any]:
    """Items on a circle; in the second plane in reverse. Item i lies in picture i mod 3, in a column of its own."""
    angles = 2 * np.pi * np.arange(n) / n
    circle = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    svg = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='90' height='60'/>"
    return {
        "kind": kind,
        "pictures": [{"src": svg, "width": 90, "height": 60, "name": f"p{k}"} for k in range(3)],
        "items": {
            "image": [i % 3 for i in range(n)],
            "box": [[i // 3 * 3 / n, 0.0, (i // 3 + 1) * 3 / n, 1.0] for i in range(n)],
        },
        "groupings": [
            {"name": "class", "names": [f"c{k}" for k in range(categories)], "of": [i % categories for i in range(n)]},
            {"name": "picture", "names": ["p0", "p1", "p2"], "of": [i % 3 for i in range(n)]},
        ],
        "colour": "class",
        "planes": [
            {"name": f"net{k}", "caption": "", "coordinates": (circle if k == 0 else circle[::-1]).tolist()}
            for k in range(planes)
        ],
        "note": "",
    }


@pytest.fixture
def bare(browser: Any) -> Any:
    """``bare(scene, width)``: a page with nothing but the viewer, its events in ``window.events``."""
    pages = []

    def opened(shown: dict[str, Any] | None, width: int = 1280, dark: bool = False, **how: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, **how)
        pages.append(page)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        colours = "--background-fill-primary: #0b0f19; --body-text-color: #f3f4f6" if dark else ""
        page.set_content(f"{head()}<body style='{colours}'><div id=here></div>")
        page.evaluate(
            "(scene) => { window.events = []; window.view = plrc.scatter(document.querySelector('#here'), "
            "(event) => events.push(event)); view.show(scene); }",
            shown,
        )
        page.wait_for_timeout(60)
        return page

    yield opened
    for page in pages:
        assert not page.faults
        page.close()


def dot(page: Any, item: int, plane: int = 0) -> tuple[float, float]:
    place = page.locator(OVER).nth(plane).evaluate("(canvas, item) => canvas.at(item)", item)
    return place["x"], place["y"]


def marked(page: Any) -> list[int] | None:
    """The items of the last event."""
    event = page.evaluate("events.filter((event) => event.kind === 'select').pop()")
    return None if event is None else event["indices"]


def ringed(page: Any, item: int, plane: int) -> bool:
    """Whether a ring, or a marked dot, is drawn at an item's dot."""
    page.wait_for_timeout(60)
    return (
        page.locator(OVER)
        .nth(plane)
        .evaluate(
            "(canvas, item) => { const s = devicePixelRatio, box = canvas.getBoundingClientRect(), p = canvas.at(item);"
            "const [x, y] = [(p.x - box.left) * s, (p.y - box.top) * s];"
            "return canvas.getContext('2d').getImageData(x, y, 1, 1).data[3] > 0; }",
            item,
        )
    )


def drag(page: Any, corners: list[tuple[float, float]]) -> None:
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()


def around(page: Any, items: list[int], plane: int = 0) -> list[tuple[float, float]]:
    """A box around dots, by 9 pixels."""
    places = np.array([dot(page, item, plane) for item in items])
    (x0, y0), (x1, y1) = places.min(axis=0) - 9, places.max(axis=0) + 9
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


@pytest.mark.parametrize(("width", "scale"), [(1280, 1), (390, 2)])
def test_what_is_hovered_in_a_plane_is_ringed_in_the_other_and_shown(bare, width, scale):
    page = bare(scene(), width, device_scale_factor=scale)
    x, y = dot(page, 5)
    page.mouse.move(x + 6, y + 6)  # within 10 pixels
    assert ringed(page, 5, 1)
    assert not ringed(page, 4, 1)
    card = page.locator(".card")
    assert card.is_visible()
    assert card.inner_text().split("\n") == ["p2", "class: c2"]
    frame = card.bounding_box()
    assert frame["x"] >= 0
    assert frame["x"] + frame["width"] <= width
    page.mouse.move(x + 11, y + 11)
    assert not ringed(page, 5, 1)
    assert not card.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_click_marks_and_takes_back_a_lasso_begins_anew_and_shift_adds(bare):
    page = bare(scene())
    page.mouse.click(*dot(page, 2))
    page.mouse.click(*dot(page, 7))
    assert marked(page) == [2, 7]
    page.mouse.click(*dot(page, 2))
    assert marked(page) == [7]
    drag(page, around(page, [3, 4]))
    assert marked(page) == [3, 4]
    page.keyboard.down("Shift")
    drag(page, around(page, [9], plane=1))  # the second plane has it elsewhere
    page.keyboard.up("Shift")
    assert marked(page) == [3, 4, 9]
    told = page.locator(".status").text_content()
    assert told == "3 of 12 regions marked, in 2 pictures, by class: c0 (2), c1 (1)."
    page.keyboard.press("Escape")
    assert marked(page) == []
    assert page.locator(".strip figure").count() == 0


def test_a_lasso_is_no_rectangle(bare):
    page = bare(scene())
    x, y = dot(page, 0)  # rightmost; a line that goes around 3 (top) and 9 (bottom), but comes in at 0
    (_, top), (left, bottom) = dot(page, 3), dot(page, 9)
    notch = [(left - 20, top - 15), (x + 15, top - 15), (left + 30, y), (x + 15, bottom + 15), (left - 20, bottom + 15)]
    drag(page, notch)
    assert 3 in marked(page)
    assert 9 in marked(page)
    assert 0 not in marked(page)


def test_pictures_mark_their_items_in_the_planes(bare):
    page = bare(scene())
    page.get_by_label("Mark all of").select_option(label="p1")
    assert marked(page) == [1, 4, 7, 10]
    assert page.locator(".strip figcaption").all_text_contents() == ["p1: 4 of 4"]
    box = page.locator(".strip canvas").bounding_box()
    third = (box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2)  # the third of four columns: item 7
    page.mouse.click(*third)
    assert marked(page) == [1, 4, 10]
    assert ringed(page, 7, 0)  # hovered still
    page.mouse.move(1, 1)
    assert not ringed(page, 7, 0)
    assert ringed(page, 10, 1)


def test_of_items_that_overlap_in_a_picture_the_smallest_is_meant(bare):
    shown = scene()
    shown["items"]["box"][1], shown["items"]["box"][4] = [0, 0, 1, 1], [0.5, 0.2, 0.75, 0.8]
    page = bare(shown)
    page.get_by_label("Mark all of").select_option(label="p1")
    box = page.locator(".strip canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.55, box["y"] + box["height"] / 2)
    assert marked(page) == [1, 7, 10]


def test_a_tap_marks_and_leaves_the_card_open(bare):
    page = bare(scene(), 390, has_touch=True)
    page.touchscreen.tap(*dot(page, 5))
    page.wait_for_timeout(60)
    assert marked(page) == [5]
    assert page.locator(".card").is_visible()
    page.touchscreen.tap(*dot(page, 6, 1))
    assert page.locator(".card b").text_content() == "p0"


def test_twelve_pictures_of_the_marked_are_shown_and_the_rest_counted(bare):
    shown = scene(30)
    shown["items"]["image"] = list(range(30))
    shown["pictures"] = [{**shown["pictures"][0], "name": f"p{k}"} for k in range(30)]
    page = bare(shown)
    drag(page, around(page, list(range(14))))
    found = marked(page)
    assert len(found) > 13
    assert page.locator(".strip figure").count() == 12
    assert page.locator(".strip p").text_content() == f"and {len(found) - 12} pictures more"


def test_keys_walk_from_dot_to_dot(bare):
    shown = scene(6)
    shown["planes"][0]["coordinates"] = [[0, 0], [1, 0.2], [2, 0], [1.1, 1.3], [-1, 0], [-1, -2]]
    page = bare(shown)
    page.locator(OVER).first.focus()
    for key, spoken in (
        ("Up", "p0, class: c0"),  # nothing was meant yet: the one in the middle
        ("Right", "p1, class: c1"),
        ("Up", "p0, class: c0"),
        ("Up", "p0, class: c0"),  # there is none
        ("Down", "p1, class: c1"),
        ("Right", "p2, class: c2"),
    ):
        page.keyboard.press(f"Arrow{key}")
        assert page.locator(".spoken").text_content() == spoken
    assert ringed(page, 2, 1)
    page.keyboard.press("Enter")
    assert marked(page) == [2]
    page.keyboard.press("Escape")
    assert marked(page) == []


def test_the_legend_shows_one_category_and_only_that_is_found(bare):
    page = bare(scene())
    page.locator(".legend button", has_text="c1").click()
    page.mouse.move(*dot(page, 2))
    assert not page.locator(".card").is_visible()
    drag(page, around(page, list(range(12))))
    assert marked(page) == [1, 4, 7, 10]
    page.locator(".legend button", has_text="c1").click()
    drag(page, around(page, list(range(12))))
    assert len(marked(page)) == 12


def test_another_grouping_is_told_and_keeps_what_is_marked(bare):
    page = bare(scene())
    page.mouse.click(*dot(page, 2))
    page.get_by_label("Colour by").select_option("picture")
    assert page.evaluate("events.at(-1)") == {"kind": "colour", "colour": "picture"}
    assert page.locator(".legend .name").all_text_contents() == ["p0", "p1", "p2"]
    assert ringed(page, 2, 1)


def test_more_categories_than_marks_share_one_and_the_legend_says_so(bare):
    page = bare(scene(120, categories=60))
    assert page.locator(".legend button").count() == 48
    assert page.locator(".legend .name").last.text_content() == "13 others"
    assert "Only 47 of 60 have a mark of their own" in page.locator(".legend").text_content()
    assert "others" not in bare(scene(96, categories=48)).locator(".legend").text_content()


def test_the_same_scene_again_keeps_the_marks_and_another_begins_anew(bare):
    page = bare(scene() | {"key": "a"})
    page.mouse.click(*dot(page, 2))
    page.evaluate("(scene) => view.show(scene)", scene() | {"key": "a"})
    assert ringed(page, 2, 0)
    page.evaluate("(scene) => view.show(scene)", scene(6) | {"key": "b"})
    assert not ringed(page, 2, 0)
    page.evaluate("view.show({note: 'nothing yet'})")
    assert page.locator(".status").text_content() == "nothing yet"
    assert not page.locator(OVER).count()


def test_zoom_keeps_what_is_under_the_pointer(bare):
    page = bare(scene())
    x, y = dot(page, 2)
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.wait_for_timeout(60)
    assert dot(page, 2) == pytest.approx((x, y), abs=4)  # the pointer's place is in whole pixels
    far = np.hypot(*np.subtract(dot(page, 3), dot(page, 2)))
    assert far > 1.5 * np.hypot(*np.subtract(dot(page, 3, 1), dot(page, 2, 1)))  # the other plane is as it was


def test_dots_are_seen_on_light_and_on_dark(bare):
    """The eighth colour is nearly black: on a dark page it is nearly white."""
    for dark in (False, True):
        shown = scene(16, categories=8)
        page = bare(shown, dark=dark)
        x, y = dot(page, 7)
        pixel = page.locator("canvas:has(+ canvas)").first.evaluate(
            "(canvas, [x, y]) => { const box = canvas.getBoundingClientRect();"
            "return [...canvas.getContext('2d').getImageData(x - box.left, y - box.top, 1, 1).data]; }",
            [x, y],
        )
        assert (min(pixel[:3]) > 200) == dark


def test_five_thousand_dots_answer_within_a_frame(bare):
    page = bare(scene(5000))
    page.evaluate(
        """() => { window.took = []; const ask = window.requestAnimationFrame;
        const timed = (f) => (...of) => { const t = performance.now(); f(...of); took.push(performance.now() - t); };
        window.requestAnimationFrame = (f) => ask(timed(f));
        const canvas = document.querySelector('canvas + canvas'), box = canvas.getBoundingClientRect();
        window.walk = () => { for (let i = 0; i < 200; i++) {
          const p = canvas.at(i * 25), t = performance.now();
          canvas.dispatchEvent(new PointerEvent('pointermove', {clientX: p.x, clientY: p.y}));
          took.push(performance.now() - t); } };
        walk(); }"""
    )
    page.wait_for_timeout(100)
    took = np.array(page.evaluate("took"))
    assert len(took) > 200
    assert np.median(took) < 16


def test_the_colours_are_those_of_printed_figures():
    script = (Path("app") / "static" / "scatter.js").read_text(encoding="utf-8")
    listed = re.search(r"COLOURS = (\[.*\]);", script)
    assert listed
    assert json.loads(listed[1]) == CATEGORIES


# --- scenes


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(200)


def test_regions_lie_where_their_objects_are(session):
    drawing = draw_embedding(SCENES, ["plrc:tiny"], regions="objects", method="pca", size=64, session=session)
    found = scene_of(drawing, "class", session)
    assert json.loads(json.dumps(found)) == found
    items, seen = drawing.items, 0
    for k, (image, box) in enumerate(zip(found["items"]["image"], found["items"]["box"], strict=True)):
        masks = open_picture(SCENES[image]).masks
        if not items.region[k]:
            continue
        later = masks[items.region[k] :].any(axis=0) if items.region[k] < len(masks) else np.zeros_like(masks[0])
        rows, columns = np.nonzero(masks[items.region[k] - 1] & ~later)
        h, w = masks.shape[1:]
        exact = [columns.min() / w, rows.min() / h, (columns.max() + 1) / w, (rows.max() + 1) / h]
        assert box == pytest.approx(exact, abs=1e-4)
        seen += 1
    assert seen > 8
    assert [grouping["name"] for grouping in found["groupings"]] == ["class", "picture"]
    names = found["groupings"][0]["names"]
    assert [names[i] for i in found["groupings"][0]["of"]] == items.labels.tolist()
    assert max(found["pictures"][0]["width"], found["pictures"][0]["height"]) <= 320


def test_points_cover_their_cells_and_regions_of_a_grid_their_parts(session):
    drawing = draw_embedding(SCENES, ["plrc:tiny"], of="points", method="pca", size=64, per_picture=5, session=session)
    boxes = np.array(scene_of(drawing, session=session)["items"]["box"])
    (network,) = session.networks(["plrc:tiny"], "cpu", None).values()
    for k in range(len(boxes)):
        fmap = network.features(open_picture(SCENES[drawing.items.image[k]]).image, size=64)
        h, w = fmap.shape
        np.testing.assert_allclose(boxes[k, 2:] - boxes[k, :2], fmap.extent.numpy() / (w, h), atol=1e-4)
        np.testing.assert_allclose((boxes[k, 2:] + boxes[k, :2]) / 2, drawing.items.point[k], atol=1e-4)
    drawing = draw_embedding(SCENES, ["plrc:tiny"], regions="grid:2", method="pca", size=64, session=session)
    found = scene_of(drawing, "region", session)
    assert found["items"]["box"][1] == [0.5, 0, 1, 0.5]
    assert found["groupings"][1] == {"name": "region", "names": ["0", "1", "2", "3"], "of": [0, 1, 2, 3] * 4}


def test_two_networks_have_a_plane_each_and_another_drawing_another_key(session):
    how: dict[str, Any] = {"regions": "grid:2", "method": "pca", "size": 64, "session": session}
    found = scene_of(draw_embedding(SCENES, ["plrc:tiny", "random:tiny"], **how), session=session)
    drawing = draw_embedding(SCENES, ["plrc:tiny"], **how)
    assert len(found["planes"]) == 2
    assert found["planes"][0]["coordinates"][0] == pytest.approx(next(iter(drawing.planes.values()))[0], rel=1e-4)
    again = scene_of(draw_embedding(SCENES, ["plrc:tiny"], **how), "picture", session)
    assert scene_of(drawing, session=session)["key"] == again["key"] != found["key"]


# --- the tab


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Tab:
    bench = Workbench(["plrc:tiny", "random:tiny"], runs=tmp_path_factory.mktemp("runs"))
    with gr.Blocks():
        return build(bench)


def values(tab: Tab, **changed: Any) -> list[Any]:
    """The fields as they are at the start, small, but for some."""
    start = {name: component.value for name, component in tab.fields.items()}
    return list((start | {"most": 4, "size": 64} | changed).values())


def test_show_gives_the_scene_and_the_numbers_and_drawing_the_same(tab):
    shown, numbers = tab.show(*values(tab, method="PCA"))
    assert [plane["name"] for plane in json.loads(shown.props["scene"])["planes"]] == ["plrc:tiny", "random:tiny"]
    assert "PCA of" in numbers
    drawing = tab.drawing(**dict(zip(tab.fields, values(tab, method="PCA"), strict=True)))
    assert "<br>".join(drawing.lines) == numbers
    assert drawing.parameters["method"] == "pca"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"regions": "masks:/etc"}, "or objects here, not masks:/etc"),
        ({"pictures": "/etc"}, "/etc is not offered here"),
        ({"checkpoints": ["/etc/passwd"]}, "/etc/passwd is not offered here"),
        ({"checkpoints": []}, "1 to 3 checkpoints"),
        ({"most": 5000}, "1 to 200 pictures"),
        ({"method": "UMAP"}, "no method UMAP"),
        ({"of": "dots"}, "dots cannot be dots"),
        ({"pictures": "photographs"}, "objects are not known"),
    ],
)
def test_what_is_not_offered_is_refused_in_a_sentence(tab, changed, named):
    with pytest.raises(gr.Error, match=re.escape(named)):
        tab.show(*values(tab, **changed))


def test_what_was_not_drawn_is_not_exported(tab):
    """The page shows what the controls said before."""
    with pytest.raises(ValueError, match="press Draw first"):
        tab.drawing(**dict(zip(tab.fields, values(tab, method="PCA", seed=77), strict=True)))


class Request:
    def __init__(self, session_hash: str) -> None:
        self.session_hash = session_hash


def test_a_run_is_stopped_by_its_user_alone():
    runs, ended, ready = Runs(), [], threading.Barrier(3)
    let_go = threading.Event()

    def work(user: str) -> None:
        LocalContext.request.set(Request(user))  # type: ignore[arg-type]
        with runs.one():
            told = runs.progress()
            told("pictures", 1, 3)
            ready.wait(10)
            let_go.wait(10)
            try:
                told("pictures", 2, 3)
            except Stopped:
                ended.append(user)

    threads = [threading.Thread(target=work, args=(user,)) for user in ("ann", "bob")]
    for thread in threads:
        thread.start()
    ready.wait(10)

    def ask() -> None:
        LocalContext.request.set(Request("bob"))  # type: ignore[arg-type]
        assert runs.stop() == 1

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(10)
    let_go.set()
    for thread in threads:
        thread.join(10)
    assert ended == ["bob"]
    assert runs.stop() == 0


def test_the_flag_ends_t_sne_itself(session):
    """A Stop that only hides the result would leave a server at work."""
    runs, steps = Runs(), []
    with runs.one():
        told = runs.progress()

        def progress(what: str, done: int, total: int) -> None:
            if what.startswith("t-SNE"):
                steps.append(done)
                runs.stop()
            told(what, done, total)

        with pytest.raises(Stopped):
            draw_embedding(SCENES, ["plrc:tiny"], size=64, progress=progress, session=session)
    assert len(steps) == 1


def test_the_last_four_drawings_are_kept(session):
    drawing = draw_embedding(SCENES[:2], ["plrc:tiny"], regions="grid:2", method="pca", size=64, session=session)
    kept = Kept()
    for seed in range(5):
        kept.put({"seed": seed, "of": "points"}, drawing)
    assert kept.get({"of": "points", "seed": 4}) is drawing
    assert kept.get({"of": "points", "seed": 0}) is None
