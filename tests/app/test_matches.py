"""The view "Region correspondence": its scene is what was found, the viewer shows and tells it."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.scenes import data_uri, matches_scene
from plrc.geometry import cell_of
from plrc.options import Point
from plrc.queries import Correspondence
from plrc.views import Session, draw, open_image
from plrc.views.images import region_raster

TINY = "random:tiny"
RIGHT, WRONG = [0x00, 0x72, 0xB2], [0xE6, 0x9F, 0x00]
FIRST = [0xEA, 0x80, 0x80]  # of the colours of points
LOOK = "(c, [x, y]) => [...c.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"


def found(**how: Any) -> Any:
    query = {"images": ("scenes#3",), "checkpoints": (TINY,), "size": 64, "seed": 2} | how
    return draw(Correspondence(**query))


# ---- The scene


@pytest.mark.parametrize("other", [None, "scenes#4"])
def test_the_scene_of_points_is_what_was_found(other):
    drawing = found(other=other)
    scene = matches_scene(drawing, (), Session())
    json.dumps(scene, allow_nan=False)
    arrays = {name.removeprefix(f"{TINY} "): values for name, values in drawing.arrays.items()}
    (network,) = scene["networks"]
    matches = network["matches"]
    for name in ("start", "end", "similarity", "cycle", "mutual"):
        np.testing.assert_allclose(matches[name], arrays[name], atol=1e-5)
    assert len(set(network["overview"])) == 10
    assert network["caption"].startswith("mutual " if other else "correct ")
    assert network["caption"] == " · ".join(drawing.lines[0].split("  ")[1:])
    if other:
        assert (matches["right"], matches["truth"], scene["source"]) == (None, None, None)
        assert matches["place"] == matches["start"]
        assert (scene["left"]["width"], scene["left"]["height"]) == open_image("scenes#3").image.size
        return
    visible = arrays["visible"]
    np.testing.assert_array_equal(matches["right"], arrays["right"])
    assert visible[network["overview"]].all()
    np.testing.assert_allclose(np.array(matches["truth"])[visible], arrays["truth"][visible], atol=1e-5)
    crops = drawing.found[TINY][0].pair.crops
    np.testing.assert_allclose(matches["place"], crops[0].to_image(drawing.found[TINY][0].matches.start), atol=1e-5)
    assert ["mirrored" in scene[side]["title"] for side in ("left", "right")] == [bool(c.flip) for c in crops]
    assert 0 < sum(matches["right"]) < visible.sum() < len(visible)  # else the test would be of one case
    # The chosen place is of the whole image, and the scene's of the view; one that the view does not show is none.
    chosen = matches_scene(drawing, [Point(*matches["place"][9])], Session())["chosen"]
    np.testing.assert_allclose(chosen, matches["start"][9], atol=1e-4)
    (x0, _, x1, _) = crops[0].box.tolist()
    hidden = Point(x0 / 2 if x0 > 0.01 else (1 + x1) / 2, 0.5)
    assert matches_scene(drawing, [hidden], Session())["chosen"] is None


@pytest.mark.parametrize("other", [None, "scenes#4"])
def test_the_scene_of_regions_is_what_was_found(other):
    drawing = found(other=other, regions="objects" if other else "grid:3")
    scene = matches_scene(drawing, (), Session())
    json.dumps(scene, allow_nan=False)
    one = drawing.found[TINY][0]
    (network,) = scene["networks"]
    for side, raster in zip(("left", "right"), one.pair.rasters, strict=True):
        told = scene["rasters"][side]
        cells = np.frombuffer(base64.b64decode(told["cells"]), "<u2").reshape(told["h"], told["w"])
        assert told["numbers"] == np.unique(raster).tolist()
        for number, place in zip(told["numbers"], told["places"], strict=True):
            row, column = (int(v * n) for v, n in zip(place[::-1], cells.shape, strict=True))
            assert told["numbers"][cells[row, column] - 1] == number
    pairs, matrix = np.array(network["matches"]["region"]), one.matrix.numpy()
    rows, columns = np.array(network["matrix"]["rows"]), np.array(network["matrix"]["columns"])
    assert pairs[:, 0].tolist() == rows.tolist()
    assert pairs[:, 1].tolist() == columns[matrix.argmax(axis=1)].tolist()
    np.testing.assert_allclose(network["matrix"]["values"], matrix, atol=1e-4)
    same = [j if j is None else int(columns[j]) for j in network["matrix"]["same"]]
    assert same == [None if other else (r if r in columns else None) for r in rows.tolist()]
    if not other:  # regions of one name have one colour in both views, which no other has
        seen, shared = [], [r for r in rows.tolist() if r in columns]
        for side in ("left", "right"):
            told = scene["rasters"][side]
            tint = Image.open(io.BytesIO(base64.b64decode(network["tints"][side].partition(",")[2])))
            places = [told["places"][told["numbers"].index(r)] for r in shared]
            seen.append([tint.getpixel((int(x * tint.width), int(y * tint.height)))[:3] for x, y in places])
        assert seen[0] == seen[1]
        assert len(set(seen[0])) == len(shared) > 2


# ---- The viewer. With 900 pixels, images twice as wide as high lie in these boxes:

LEFT, RIGHT_BOX = (8, 20, 420, 210), (472, 20, 420, 210)


def network(name: str, kept: list[int], end: list[float], right: bool) -> dict[str, Any]:
    """One of those of 4 × 2 points that are kept; they all end at one place; the other view does not show the first."""
    n, start = len(kept), [[(i % 4 + 0.5) / 4, (i // 4 + 0.5) / 2] for i in kept]
    return {
        "name": name,
        "caption": "",
        "matches": {
            "start": start,
            "end": [end] * n,
            "place": [[x / 2, y / 2] for x, y in start],
            "truth": [[0.25, 0.25]] * n,
            "similarity": [0.5] * n,
            "cycle": [0.0 if right else 0.125] * n,
            "mutual": [int(right)] * n,
            "visible": [0, *[1] * (n - 1)],
            "right": [0, *[int(right)] * (n - 1)],
        },
        "overview": [1],
    }


def points_scene() -> dict[str, Any]:
    sides = {"src": data_uri(Image.new("RGB", (200, 100), (0, 128, 0)), "png"), "width": 200, "height": 100}
    return {
        "mode": "points",
        "views": True,
        "within": 0.1,
        "left": {**sides, "name": "view 1", "title": "view 1"},
        "right": {**sides, "name": "view 2", "title": "view 2, mirrored"},
        "source": {**sides, "boxes": [[0, 0, 0.5, 0.5], [0.2, 0.2, 1, 1]]},
        "rasters": None,
        "networks": [network("all", list(range(8)), [0.3, 0.3], True), network("some", [5, 7], [0.8, 0.8], False)],
        "chosen": None,
    }


def canvas(viewer: Any, number: int = 0) -> Any:
    return viewer.page.locator("figure > canvas").nth(number)


def click(viewer: Any, box: tuple[int, int, int, int], x: float, y: float, number: int = 0) -> None:
    canvas(viewer, number).click(position={"x": box[0] + x * box[2], "y": box[1] + y * box[3]})


def pixel(viewer: Any, box: tuple[int, int, int, int], x: float, y: float, number: int = 0) -> list[int]:
    place = [round(box[0] + x * box[2]), round(box[1] + y * box[3])]
    colour: list[int] = canvas(viewer, number).evaluate(LOOK, place)
    return colour


def said(viewer: Any) -> list[str]:
    return viewer.texts("figure > .said")


def test_a_click_chooses_the_nearest_match_in_every_network(bare):
    viewer = bare("matches", points_scene())
    assert viewer.told() == []
    click(viewer, LEFT, 0.36, 0.72)  # of a 4 × 2 grid the cell in the second row and column
    chosen = {"kind": "choose", "network": 0, "index": 5, "point": [0.375, 0.75], "place": [0.1875, 0.375]}
    assert viewer.told() == [chosen]
    every, some = said(viewer)
    assert every == "right: within 10 % of its true place (×) · cosine 0.500 · mutual."
    assert some == "view 2 does not show this place · cosine 0.500 · not mutual: the way back ends 12.5 % off."
    # Where the line of the first ends there is a blue mark, and a cross at the true place; none in the second.
    assert pixel(viewer, RIGHT_BOX, 0.3, 0.3) == RIGHT
    assert max(pixel(viewer, RIGHT_BOX, 0.25, 0.25)) < 40
    assert pixel(viewer, RIGHT_BOX, 0.25, 0.25, 1) == [0, 128, 0]
    click(viewer, LEFT, 0.9, 0.9)
    assert said(viewer)[1].startswith("wrong: × is its true place · ")
    assert pixel(viewer, RIGHT_BOX, 0.25, 0.25, 1) != [0, 128, 0]
    viewer.page.mouse.move(0, 0)
    start, end = np.array([LEFT[0] + 0.875 * 420, 20 + 0.75 * 210]), np.array([472 + 0.8 * 420, 20 + 0.8 * 210])
    steps = np.linspace(0.5, 0.6, 30)
    around = [pixel(viewer, (0, 0, 1, 1), *(start + s * (end - start)), 1) for s in steps]
    assert FIRST in around  # dashed; it is in that network's overview
    assert any(colour != FIRST for colour in around)


def test_a_choice_is_taken_back(bare):
    viewer = bare("matches", points_scene())
    button = viewer.page.get_by_role("button", name="Clear choice")
    assert button.is_disabled()
    click(viewer, LEFT, 0.375, 0.75)
    click(viewer, LEFT, 0.375, 0.75)
    viewer.page.mouse.move(0, 0)
    assert said(viewer) == ["", ""]
    click(viewer, LEFT, 0.375, 0.75)
    button.click()
    events = viewer.told()
    assert [event["index"] for event in events] == [5, None, 5, None]
    assert events[-1] == {"kind": "choose", "network": None, "index": None, "point": None, "place": None}


def test_ten_points_have_a_colour_each_and_all_are_shown_if_asked_for(bare):
    viewer = bare("matches", points_scene())
    assert pixel(viewer, RIGHT_BOX, 0.3, 0.3 - 6 / 210) == FIRST, "the overview's first, beside its number"
    assert pixel(viewer, LEFT, 0.625, 0.75) == [0, 128, 0]
    viewer.page.get_by_role("button", name="All points").click()
    assert pixel(viewer, LEFT, 0.625, 0.75) == RIGHT
    assert pixel(viewer, LEFT, 0.625, 0.75, 1) == [0, 128, 0], "it has no such point"


def test_keys_go_from_match_to_match(bare):
    viewer = bare("matches", points_scene())
    canvas(viewer).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):  # the first goes to the one nearest to the middle
        viewer.page.keyboard.press(key)
    assert viewer.told() == []
    viewer.page.keyboard.press("Enter")
    viewer.page.keyboard.press("Escape")
    assert [(event["network"], event["index"]) for event in viewer.told()] == [(0, 6), (None, None)]


def test_a_scene_can_come_with_a_choice_and_another_can_follow(bare):
    viewer = bare("matches", {**points_scene(), "chosen": [0.375, 0.75]})
    assert said(viewer)[0].startswith("right: ")
    scene = {**points_scene(), "chosen": [0.375, 0.75]}
    del scene["networks"][1:]
    scene["networks"][0]["matches"] = {name: of[:2] for name, of in scene["networks"][0]["matches"].items()}
    viewer.show(scene)
    assert said(viewer) == ["No match is kept here."]
    viewer.show(None)
    assert viewer.page.locator("canvas").count() == 0
    assert viewer.told() == []


def test_an_image_is_enlarged_in_all_rows_at_the_pointer_and_a_drag_moves_it(bare):
    viewer = bare("matches", points_scene())
    mouse, whole = viewer.page.mouse, viewer.page.get_by_role("button", name="Whole images")
    box = canvas(viewer).bounding_box()
    x, y = box["x"] + LEFT[0] + 0.375 * LEFT[2], box["y"] + LEFT[1] + 0.75 * LEFT[3]
    mouse.move(x, y)
    mouse.wheel(0, -400 * np.log(2))
    assert whole.is_disabled(), "the wheel alone scrolls"
    viewer.enlarge(2)
    click(viewer, LEFT, 0.875, 0.75)  # its neighbour is twice as far away now
    click(viewer, LEFT, 0.375, 0.75, 1)
    assert [event["point"] for event in viewer.told()] == [[0.625, 0.75], [0.375, 0.75]]
    assert pixel(viewer, RIGHT_BOX, 0.3, 0.3) == RIGHT, "the other image is as it was"
    mouse.move(x, y)
    mouse.down()
    mouse.move(x - 0.2 * LEFT[2], y, steps=3)
    mouse.up()
    assert viewer.told() == []
    click(viewer, LEFT, 0.675, 0.75)
    assert viewer.told()[-1]["point"] == [0.625, 0.75]
    whole.click()
    click(viewer, LEFT, 0.625, 0.75)
    assert viewer.told()[-1]["index"] is None, "a second click takes it back"


def test_images_stand_above_one_another_on_a_narrow_page(bare):
    viewer = bare("matches", points_scene(), 390)
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 390
    box = canvas(viewer).bounding_box()
    assert box["height"] > box["width"]
    click(viewer, (8, 20, 374, 187), 0.36, 0.72)
    assert viewer.told()[0]["index"] == 5


def test_where_the_truth_is_not_known_nothing_is_called_right(bare):
    scene = points_scene() | {"views": False, "source": None}
    for one in scene["networks"]:
        one["matches"] |= {"right": None, "visible": None, "truth": None}
    viewer = bare("matches", scene)
    click(viewer, LEFT, 0.375, 0.75)
    assert said(viewer)[0] == "cosine 0.500 · mutual."
    assert "right" not in viewer.page.locator(".legend").inner_text()
    assert pixel(viewer, RIGHT_BOX, 0.3, 0.3) not in (RIGHT, WRONG)


def test_regions_are_chosen_in_the_image_and_in_the_matrix(bare):
    both = (TINY, "random:tiny@1")
    drawing = found(checkpoints=both, other="scenes#4", regions="grid:2")
    scene = matches_scene(drawing, (), Session())
    viewer = bare("matches", scene)
    first, second = (one["matrix"]["scale"] for one in scene["networks"])
    assert first == second, "one range for both, as of maps"
    regions = [np.array(one["matches"]["region"]) for one in scene["networks"]]
    raster = region_raster(open_image("scenes#3"), "grid:2")
    row, column = cell_of(drawing.found[TINY][0].matches.start[2], *raster.shape)
    assert raster[row, column] == 2
    box = canvas(viewer).bounding_box()
    place = {"x": 0.25 * (box["width"] - 60) / 2 + 8, "y": 20 + 0.75 * (box["height"] - 28)}
    canvas(viewer).hover(position=place)
    assert said(viewer)[0].startswith(f"region 2 → region {regions[0][2, 1]} · cosine")
    assert viewer.told() == []
    canvas(viewer).click(position=place)
    assert [(event["index"], event["network"]) for event in viewer.told()] == [(2, 0)]
    assert [text.split(" · ")[0] for text in said(viewer)] == [f"region 2 → region {r[2, 1]}" for r in regions]
    assert viewer.page.locator("tr.chosen th").all_text_contents() == ["2", "2"]
    # The matrix of the second network: a cell tells its value, a click chooses its row for all.
    heat = viewer.page.locator("table").nth(1)
    cell = heat.locator("tr").nth(4).locator("td").nth(1)
    cell.hover()
    told = viewer.texts(".matrix .said")[1]
    where, _, number = told.partition(": cosine ")
    assert where == "image 1 region 3 × image 2 region 1"
    value = drawing.found["random:tiny@1"][0].matrix[3, 1].item()
    assert float(number.split(",")[0].rstrip(".")) == pytest.approx(value, abs=1e-3)
    best = [k for k, text in enumerate(heat.locator("tr").nth(4).locator("td").all_text_contents()) if text]
    assert best == [int(drawing.found["random:tiny@1"][0].matrix[3].argmax())]
    cell.click()
    assert viewer.told()[-1]["index"] == 3
    assert [text.split(" →")[0] for text in said(viewer)] == ["region 3", "region 3"]
    heat.focus()
    viewer.page.keyboard.press("ArrowUp")  # from the cell that was clicked
    viewer.page.keyboard.press("Enter")
    assert viewer.told()[-1]["index"] == 2
