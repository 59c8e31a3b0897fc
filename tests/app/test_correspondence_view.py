"""The view "Region correspondence": its scene is what was found, the viewer shows and tells it, links keep it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app import correspondence
from app.correspondence import OBJECTS, POINTS
from app.match_scene import scene_of
from app.pictures import as_png
from app.tab import Tab
from app.viewer import STATIC
from app.workbench import Workbench
from plrc.figures.style import LOOK, region_colours
from plrc.geometry import cell_of
from plrc.views import KINDS, draw_correspondence, replay
from plrc.views.pictures import open_picture, region_raster

TINY = "random:tiny"


# ---- The scene


@pytest.mark.parametrize("other", [None, "scenes#4"])
def test_the_scene_of_points_is_what_was_found(other):
    drawing = draw_correspondence(["scenes#3"], [TINY], other, size=64, seed=2)
    scene = scene_of(drawing)
    json.dumps(scene, allow_nan=False)
    arrays = {name.removeprefix(f"{TINY} "): values for name, values in drawing.arrays.items()}
    (network,) = scene["networks"]
    matches = network["matches"]
    for name in ("start", "end", "similarity", "cycle"):
        np.testing.assert_allclose(matches[name], arrays[name], atol=1e-5)
    assert matches["mutual"] == arrays["mutual"].astype(int).tolist()
    # A place in the left picture belongs to the match of its cell, and to no other.
    cells = {tuple(int(v // side) for v, side in zip(p, network["cell"], strict=True)) for p in matches["start"]}
    assert len(cells) == len(matches["start"])
    assert len(network["overview"]) == 24
    if other:
        assert (matches["right"], matches["truth"], scene["source"]) == (None, None, None)
        assert matches["place"] == matches["start"]
        assert (scene["left"]["width"], scene["left"]["height"]) == open_picture("scenes#3").image.size
        return
    assert matches["right"] == arrays["right"].astype(int).tolist()
    visible = arrays["visible"]
    assert [t is not None for t in matches["truth"]] == visible.tolist()
    assert visible[network["overview"]].all()
    np.testing.assert_allclose([t for t in matches["truth"] if t], arrays["truth"][visible], atol=1e-5)
    crops = drawing.found[TINY][0].pair.crops
    np.testing.assert_allclose(matches["place"], crops[0].to_image(drawing.found[TINY][0].matches.start), atol=1e-5)
    assert ["mirrored" in scene[side]["title"] for side in ("left", "right")] == [bool(c.flip) for c in crops]
    assert 0 < sum(matches["right"]) < visible.sum() < len(visible)  # else the test would be of one case
    # The chosen place is of the whole picture, and the scene's of the view; one that the view does not show is none.
    chosen = scene_of(drawing, [matches["place"][9]])["chosen"]
    np.testing.assert_allclose(chosen, matches["start"][9], atol=1e-4)
    (x0, _, x1, _) = crops[0].box.tolist()
    assert scene_of(drawing, [[x0 / 2 if x0 > 0.01 else (1 + x1) / 2, 0.5]])["chosen"] is None


def tint(src: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2]))) as image:
        return np.asarray(image)


@pytest.mark.parametrize("other", [None, "scenes#4"])
def test_the_scene_of_regions_is_what_was_found(other):
    regions = "objects" if other else "grid:3"
    drawing = draw_correspondence(["scenes#3"], [TINY], other, regions=regions, size=64, seed=2)
    scene = scene_of(drawing)
    json.dumps(scene, allow_nan=False)
    found = drawing.found[TINY][0]
    (network,) = scene["networks"]
    for side, raster in zip(("left", "right"), found.pair.rasters, strict=True):
        told = scene["rasters"][side]
        cells = np.frombuffer(base64.b64decode(told["cells"]), "<u2").reshape(told["h"], told["w"])
        assert told["numbers"] == np.unique(raster).tolist()
        for number, place in zip(told["numbers"], told["places"], strict=True):
            row, column = (int(v * n) for v, n in zip(place[::-1], cells.shape, strict=True))
            assert told["numbers"][cells[row, column] - 1] == number
    pairs = np.array(network["matches"]["region"])
    matrix = found.matrix.numpy()
    rows, columns = np.array(network["matrix"]["rows"]), np.array(network["matrix"]["columns"])
    assert pairs[:, 0].tolist() == rows.tolist()
    assert pairs[:, 1].tolist() == columns[matrix.argmax(axis=1)].tolist()
    np.testing.assert_allclose(network["matrix"]["values"], matrix, atol=1e-4)
    same = [j if j is None else int(columns[j]) for j in network["matrix"]["same"]]
    assert same == [None if other else (r if r in columns else None) for r in rows.tolist()]
    if not other:  # regions of one name have one colour, the figure's
        left = tint(network["tints"]["left"])
        shared = next(int(r) for r in rows if r in columns)
        at = scene["rasters"]["left"]["places"][rows.tolist().index(shared)]
        row, column = (int(v * n) for v, n in zip(at[::-1], left.shape[:2], strict=True))
        np.testing.assert_allclose(left[row, column, :3] / 255, region_colours(shared), atol=1 / 255)


# ---- The view in Python


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench([TINY, "random:tiny@1"], runs=tmp_path, megabytes=100, uploads=tmp_path / "uploads")


def built(bench: Workbench) -> tuple[gr.Blocks, Tab]:
    """The view alone on a page; inside a running event loop, as Gradio would else make several and leave them open."""

    async def make() -> tuple[gr.Blocks, Tab]:
        with gr.Blocks() as blocks:
            return blocks, correspondence.build(bench)

    with ThreadPoolExecutor(1) as pool:  # this thread may have a loop of its own, the browser's
        return pool.submit(lambda: asyncio.run(make())).result()


@pytest.fixture
def tab(bench: Workbench) -> Tab:
    return built(bench)[1]


def state(tab: Tab, **changed: Any) -> dict[str, Any]:
    values = {name: component.value for name, component in tab.fields.items()}  # type: ignore[attr-defined]
    return values | {"picture": "scenes#3", "size": 64} | changed


def seen(tab: Tab, **changed: Any) -> dict[str, Any]:
    names = ["pairs", "numbers", "points", "drawn_of", "regions", "layer", "seed", "scale", "more", "within"]
    return dict(zip(names, tab.show(*state(tab, **changed).values()), strict=True))


def scene(updates: dict[str, Any]) -> dict[str, Any] | None:
    return json.loads(updates["pairs"].props["scene"] or "null")


def test_the_view_is_of_two_views_at_first(tab):
    updates = seen(tab)
    assert [network["name"] for network in scene(updates)["networks"]] == [TINY, "random:tiny@1"]
    assert scene(updates)["views"]
    (drawing,) = tab.drawing(**state(tab))
    for row in drawing.rows:
        assert f">{row['recall']:.3f}</td>" in updates["numbers"]
    assert drawing.lines[0] in updates["numbers"]
    assert updates["seed"].visible
    assert updates["within"].visible
    other = seen(tab, other="scenes#4", regions="grid:2")
    assert not other["seed"].visible
    assert not other["within"].visible
    assert scene(other)["mode"] == "regions"
    assert "blind guess" not in other["numbers"]


@pytest.mark.parametrize(
    ("control", "value", "parameter", "expected"),
    [
        ("seed", 5, "seed", 5),
        ("scale", 0.6, "scale", 0.6),
        ("mutual", True, "mutual", True),
        ("ratio", 0.9, "ratio", 0.9),
        ("ratio", 1, "ratio", None),
        ("within", 0, "within", 0),
        ("layer", "c2", "layer", "c2"),
        ("layer", "projector of another network", "layer", None),
        ("regions", "grid:3", "regions", "grid:3"),
        ("other", "scenes#4", "other", "scenes#4"),
    ],
)
def test_each_control_reaches_the_recipe(tab, control, value, parameter, expected):
    (drawing,) = tab.drawing(**state(tab, **{control: value}))
    assert drawing.parameters[parameter] == expected
    (plain,) = tab.drawing(**state(tab))
    changed = {name: values for name, values in drawing.arrays.items() if name in plain.arrays}
    same = all(np.array_equal(values, plain.arrays[name], equal_nan=True) for name, values in changed.items())
    assert same == (expected is None or (control == "within" and not changed))


def test_a_chosen_point_is_in_link_and_export(tab, tmp_path):
    first = seen(tab, seed=2)
    match = 9
    place = scene(first)["networks"][0]["matches"]["place"][match]
    point = json.dumps([place])
    opened = seen(tab, seed=2, points=point)
    assert opened["points"] == point
    start = scene(first)["networks"][0]["matches"]["start"][match]
    np.testing.assert_allclose(scene(opened)["chosen"], start, atol=1e-4)
    whole, one = tab.drawing(**state(tab, seed=2, points=point))
    assert len(whole.arrays[f"{TINY} start"]) == 64
    np.testing.assert_allclose(one.arrays[f"{TINY} start"], [start], atol=1e-4)
    np.testing.assert_allclose(one.arrays[f"{TINY} end"][0], whole.arrays[f"{TINY} end"][match])
    one.save(tmp_path / "one")
    assert replay(tmp_path / "one.json", KINDS)[1] == []
    # Regions are matched whole; a point that the view does not show is let go.
    assert len(tab.drawing(**state(tab, seed=2, points=point, regions="grid:3"))) == 1
    x0 = scene(first)["source"]["boxes"][0][0]
    hidden = json.dumps([[x0 / 2, 0.5]])
    assert x0 > 0.01
    assert seen(tab, seed=2, points=hidden)["points"] == ""


def events(blocks: gr.Blocks, kind: str) -> list[Callable[..., Any]]:
    return [fn.fn for fn in blocks.fns.values() for _, name in fn.targets if name == kind and fn.fn]


def test_another_picture_lets_the_point_go_and_a_link_keeps_it(bench):
    blocks, tab = built(bench)
    (changed,) = events(blocks, "change")
    first = seen(tab)
    point = json.dumps([scene(first)["networks"][0]["matches"]["place"][9]])
    values = list(state(tab, points=point).values())
    points = 2
    assert changed(first["drawn_of"], *values)[points] == point
    assert changed("", *values)[points] == point
    assert changed(seen(tab, picture="scenes#4")["drawn_of"], *values)[points] == ""
    (choose,) = events(blocks, "select")
    assert json.loads(choose({"kind": "choose", "index": 3, "point": [0.1, 0.2], "place": [0.3, 0.4]})) == [[0.3, 0.4]]
    assert choose({"kind": "choose", "index": None, "point": None, "place": None}) == ""


def test_objects_are_offered_where_they_are_known(tab, bench, tmp_path):
    assert OBJECTS in [value for _, value in seen(tab)["regions"].choices]
    photo = bench.uploads / "a" / "photo.png"
    photo.parent.mkdir(parents=True)
    open_picture("scenes#5").image.save(photo)
    updates = seen(tab, other=str(photo), regions=OBJECTS)
    assert OBJECTS not in [value for _, value in updates["regions"].choices]
    assert updates["regions"].value == POINTS
    assert scene(updates)["mode"] == "points"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"picture": "/etc/passwd"}, "not offered here"),
        ({"other": "/etc/passwd"}, "not offered here"),
        ({"checkpoints": ["/etc/passwd"]}, "not offered here"),
        ({"points": "[[0.5"}, "cannot be read"),
        ({"points": "[[2, 0.5]]"}, "lies outside"),
        ({"size": 896, "layer": "c2"}, "50176 points, more than the 16384"),
        ({"seed": None}, "whole number"),
        ({"ratio": 0.5, "regions": "grid:99"}, "between 2 and 64"),
    ],
)
def test_what_cannot_be_shown_is_said(tab, changed, sentence):
    with pytest.raises(gr.Error, match=sentence):
        seen(tab, **changed)
    with pytest.raises(ValueError, match=sentence):
        tab.drawing(**state(tab, **changed))


def test_nothing_is_shown_of_no_checkpoint(tab):
    updates = seen(tab, checkpoints=[])
    assert scene(updates) is None
    assert tab.drawing(**state(tab, checkpoints=[])) == []


def test_names_are_no_html():
    drawing = draw_correspondence(["scenes#3"], [TINY], size=64)
    drawing.rows[0]["network"] = "<img src=x>"
    drawing.lines[0] = "<script>"
    numbers = correspondence._numbers(drawing)
    assert "<img" not in numbers
    assert "<script" not in numbers


# ---- The viewer in a browser, in a bare page. With 900 pixels, pictures twice as wide as high lie in these boxes:

LEFT, RIGHT_BOX = (8, 20, 420, 210), (472, 20, 420, 210)


def grid(columns: int, rows: int) -> list[list[float]]:
    return [[(j + 0.5) / columns, (i + 0.5) / rows] for i in range(rows) for j in range(columns)]


def network(name: str, columns: int, rows: int, end: list[float], right: bool) -> dict[str, Any]:
    """One whose matches all end at one place; the first is not shown by the other view."""
    n = columns * rows
    return {
        "name": name,
        "caption": "",
        "matches": {
            "start": grid(columns, rows),
            "end": [end] * n,
            "place": [[x / 2, y / 2] for x, y in grid(columns, rows)],
            "truth": [None, *[[0.25, 0.25]] * (n - 1)],
            "similarity": [0.5] * n,
            "cycle": [0.0 if right else 0.125] * n,
            "mutual": [int(right)] * n,
            "visible": [0, *[1] * (n - 1)],
            "right": [0, *[int(right)] * (n - 1)],
            "region": None,
        },
        "cell": [1 / columns, 1 / rows],
        "overview": [1],
        "tints": None,
        "matrix": None,
    }


def points_scene() -> dict[str, Any]:
    sides = {"src": as_png(Image.new("RGB", (200, 100), (0, 128, 0))), "width": 200, "height": 100}
    return {
        "mode": "points",
        "views": True,
        "within": 1,
        "left": {**sides, "name": "view 1", "title": "view 1"},
        "right": {**sides, "name": "view 2", "title": "view 2, mirrored"},
        "source": {**sides, "boxes": [[0, 0, 0.5, 0.5], [0.2, 0.2, 1, 1]]},
        "rasters": None,
        "networks": [network("fine", 4, 2, [0.3, 0.3], True), network("coarse", 2, 1, [0.8, 0.8], False)],
        "chosen": None,
    }


@pytest.fixture
def viewer(browser) -> Iterator[Any]:
    """``viewer(scene)``: a page that shows it, and ``page.events()``: what the viewer has told so far."""
    pages, faults, asked = [], [], []

    def show(scene: dict[str, Any] | None, width: int = 900) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800})
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        scripts = "".join(f"<script>{file.read_text()}</script>" for file in sorted(STATIC.glob("pairs*.js")))
        page.set_content(f"<head>{scripts}</head><body style='margin:0'><div id='root'></div></body>")
        page.evaluate(
            "scene => { window.told = []; window.view = plrc.pairs(root, e => told.push(e)); return view.show(scene) }",
            scene,
        )
        page.events = lambda: page.evaluate("told")
        return page

    yield show
    for page in pages:
        page.close()
    assert not faults
    assert all(url.startswith(("data:", "about:")) for url in asked)


def canvas(page: Any, number: int = 0) -> Any:
    return page.locator("figure > canvas").nth(number)


def click(page: Any, box: tuple[int, int, int, int], x: float, y: float, number: int = 0) -> None:
    canvas(page, number).click(position={"x": box[0] + x * box[2], "y": box[1] + y * box[3]})


def pixel(page: Any, box: tuple[int, int, int, int], x: float, y: float, number: int = 0) -> list[int]:
    place = [round(box[0] + x * box[2]), round(box[1] + y * box[3])]
    look = "(c, [x, y]) => [...c.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"
    return canvas(page, number).evaluate(look, place)


def said(page: Any) -> list[str]:
    return page.locator("figure > .said").all_inner_texts()


def rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_a_click_chooses_the_nearest_match_in_every_network(viewer):
    page = viewer(points_scene())
    assert page.events() == []
    click(page, LEFT, 0.36, 0.72)  # of a 4 × 2 grid the cell in the second row and column
    (event,) = page.events()
    assert event == {"kind": "choose", "network": 0, "index": 5, "point": [0.375, 0.75], "place": [0.1875, 0.375]}
    fine, coarse = said(page)
    assert fine == "cosine 0.500 · mutual (cycle error 0) · right: within 1 cell of its true place (×)."
    # Of the 2 × 1 grid it lies in the first cell, which the other view does not show.
    assert coarse.startswith(
        "cosine 0.500 · one way only: there and back ends 12.5 % of the longer side from the start"
    )
    assert coarse.endswith("view 2 does not show this place.")
    # Where the line of the first ends there is a blue mark, and a cross at the true place; none in the second.
    assert pixel(page, RIGHT_BOX, 0.3, 0.3) == rgb(LOOK["matches"]["right"]["colour"])
    assert max(pixel(page, RIGHT_BOX, 0.25, 0.25)) < 40
    assert pixel(page, RIGHT_BOX, 0.25, 0.25, 1) == [0, 128, 0]
    click(page, LEFT, 0.9, 0.9)
    assert said(page)[1].endswith("wrong: × is its true place.")
    assert pixel(page, RIGHT_BOX, 0.25, 0.25, 1) != [0, 128, 0]
    page.mouse.move(0, 0)
    start, end = np.array([LEFT[0] + 0.75 * 420, 20 + 0.5 * 210]), np.array([472 + 0.8 * 420, 20 + 0.8 * 210])
    steps = np.linspace(0.5, 0.58, 20)
    around = [pixel(page, (0, 0, 1, 1), *(start + s * (end - start)), 1) for s in steps]
    assert rgb(LOOK["matches"]["wrong"]["colour"]) in around  # dashed
    assert any(colour != rgb(LOOK["matches"]["wrong"]["colour"]) for colour in around)


def test_a_choice_is_taken_back(viewer):
    page = viewer(points_scene())
    click(page, LEFT, 0.375, 0.75)
    click(page, LEFT, 0.375, 0.75)
    assert page.events()[-1] == {"kind": "choose", "network": None, "index": None, "point": None, "place": None}
    page.mouse.move(0, 0)
    assert said(page) == ["", ""]
    button = page.get_by_role("button", name="Show all")
    assert button.is_disabled()
    click(page, LEFT, 0.375, 0.75)
    button.click()
    assert [event["index"] for event in page.events()] == [5, None, 5, None]


def test_keys_go_from_match_to_match(viewer):
    page = viewer(points_scene())
    canvas(page).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):  # the first goes to the one nearest to the middle
        page.keyboard.press(key)
    assert page.events() == []
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert [(event["network"], event["index"]) for event in page.events()] == [(0, 6), (None, None)]


def test_a_scene_can_come_with_a_choice_and_another_can_follow(viewer):
    page = viewer({**points_scene(), "chosen": [0.4, 0.8]})
    assert said(page)[0].startswith("cosine 0.500 · mutual")
    assert page.events() == []
    scene = points_scene()
    del scene["networks"][1:]
    scene["networks"][0]["matches"] = {
        name: values and values[:2] for name, values in scene["networks"][0]["matches"].items()
    }
    page.evaluate("scene => view.show(scene)", {**scene, "chosen": [0.4, 0.8]})
    assert said(page) == ["No match is kept here."]
    page.evaluate("view.show(null)")
    assert page.locator("canvas").count() == 0


def test_pictures_stand_above_one_another_on_a_narrow_page(viewer):
    page = viewer(points_scene(), width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = canvas(page).bounding_box()
    assert box["height"] > box["width"]
    click(page, (8, 20, 374, 187), 0.36, 0.72)
    assert page.events()[0]["index"] == 5


def test_where_nobody_knows_the_truth_nothing_is_called_right(viewer):
    scene = points_scene()
    for network in scene["networks"]:
        network["matches"] |= {"right": None, "visible": None, "truth": None}
    page = viewer({**scene, "views": False, "source": None})
    click(page, LEFT, 0.375, 0.75)
    assert said(page)[0].endswith("whether it is right nobody knows.")
    legend = page.locator(".legend").inner_text()
    assert "wrong" not in legend
    assert pixel(page, RIGHT_BOX, 0.3, 0.3) not in (rgb(LOOK["matches"]["right"]["colour"]), rgb(LOOK["matches"]["wrong"]["colour"]))


def test_regions_are_chosen_in_the_picture_and_in_the_matrix(viewer):
    drawing = draw_correspondence(["scenes#3"], [TINY, "random:tiny@1"], "scenes#4", regions="grid:2", size=64)
    scene = scene_of(drawing)
    page = viewer(scene)
    regions = [np.array(network["matches"]["region"]) for network in scene["networks"]]
    raster = region_raster(open_picture("scenes#3"), "grid:2")
    box = canvas(page).bounding_box()
    place = 0.25 * (box["width"] - 60) / 2 + 8, 20 + 0.75 * (box["height"] - 28)
    row, column = cell_of(drawing.found[TINY][0].matches.start[2], *raster.shape)
    assert raster[row, column] == 2
    canvas(page).hover(position={"x": place[0], "y": place[1]})
    assert said(page)[0].startswith(f"region 2 → region {regions[0][2, 1]}: cosine")
    assert page.events() == []
    canvas(page).click(position={"x": place[0], "y": place[1]})
    assert (page.events()[0]["index"], page.events()[0]["network"]) == (2, 0)
    assert [text.split(":")[0] for text in said(page)] == [f"region 2 → region {r[2, 1]}" for r in regions]
    # The matrix of the second network: a cell tells its value, a click chooses its row for all.
    heat = page.locator("canvas[aria-label^='Region affinity']").nth(1)
    heat.hover(position={"x": 46 + 1.5 * 26, "y": 26 + 3.5 * 26})
    value = drawing.found["random:tiny@1"][0].matrix[3, 1].item()
    told = page.locator("figure").nth(1).locator("div .said")
    place, _, number = told.inner_text().partition(": cosine ")
    assert place == "image 1 region 3 × image 2 region 1"
    assert float(number.split(",")[0].rstrip(".")) == pytest.approx(value, abs=1e-3)
    heat.click(position={"x": 46 + 1.5 * 26, "y": 26 + 3.5 * 26})
    assert page.events()[-1]["index"] == 3
    assert [text.split(" →")[0] for text in said(page)] == ["region 3", "region 3"]
    heat.focus()
    page.keyboard.press("ArrowUp")  # from the cell that was clicked
    page.keyboard.press("Enter")
    assert page.events()[-1]["index"] == 2
