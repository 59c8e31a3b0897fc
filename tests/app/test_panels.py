"""The viewer of maps over an image, in a bare page: what a click asks, which pixels a cell covers, what is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.scenes import data_uri

LUT = [(i, 255 - i, (7 * i) % 256) for i in range(256)]
COLOURS = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in LUT]
SIZE = (60, 40)  # of the image: smaller than any panel
SURFACE = ".plrc-canvas"

Scene = dict[str, Any]


def panel(h: int, w: int, title: str = "demo", extent: float = 1.0, **scale: Any) -> Scene:
    """A map that goes evenly from the scale's low end to its high one, row after row."""
    ends: dict[str, Any] = {"quantity": "cosine", "low": -1.0, "high": 1.0, "colours": COLOURS} | scale
    values = ends["low"] + (ends["high"] - ends["low"]) * np.linspace(0, 1, h * w)
    drawn = {"h": h, "w": w, "values": values.tolist(), "extent": [extent, extent]}
    return {"title": title, "caption": "AUC 0.91", "map": drawn, "scale": ends}


def scene(*panels: Scene, colour: tuple[int, ...] = (90, 90, 90), size: tuple[int, int] = SIZE, **more: Any) -> Scene:
    """The image itself, of one colour, and these panels beside it."""
    src = data_uri(Image.new("RGB", size, colour), "png")
    image = {"src": src, "width": size[0], "height": size[1], "name": "photo"}
    first = {"title": "image", "caption": "", "map": None, "scale": None}
    return {"image": image, "panels": [first, *panels], "points": []} | more


def box(viewer: Any, number: int) -> dict[str, float]:
    found: dict[str, float] = viewer.page.locator(SURFACE).nth(number).bounding_box()
    return found


def click(viewer: Any, number: int, x: float, y: float, **how: Any) -> list[dict[str, Any]]:
    """The points that a click at pixels of a panel asks about."""
    viewer.page.locator(SURFACE).nth(number).click(position={"x": x, "y": y}, **how)
    (event,) = viewer.told()
    points: list[dict[str, Any]] = event["points"]
    return points


def point(x: float, y: float, negative: bool = False) -> dict[str, Any]:
    return {"x": x, "y": y, "negative": negative}


@pytest.mark.parametrize("scale", [1, 2])
def test_a_click_asks_about_the_share_of_the_image_under_it(bare, scale):
    viewer = bare("panels", scene(panel(3, 5), panel(4, 6)), 1000, scale=scale)
    for number in (0, 2):
        at = box(viewer, number)
        assert at["width"] > 2 * SIZE[0], "a small image is enlarged"
        assert at["width"] / at["height"] == pytest.approx(1.5, abs=0.01)
        for x, y in [(10, 7), (200, 31), (151, 120)]:
            (asked,) = click(viewer, number, x, y)
            assert asked == point(pytest.approx(x / at["width"], abs=0.01), pytest.approx(y / at["height"], abs=0.01))


@pytest.mark.parametrize(("extent", "scale"), [(1.0, 1), (1.15, 1.5), (0.8, 1)])
def test_every_pixel_has_the_colour_of_the_cell_that_covers_it(bare, extent, scale):
    h, w = 7, 11
    shown = scene(panel(h, w, extent=extent))
    values = np.random.default_rng(0).uniform(-1.2, 1.2, (h, w))  # some beyond the scale's ends
    shown["panels"][1]["map"]["values"] = values.ravel().tolist()
    shown["panels"][1]["map"]["values"][w + 1] = None
    pixels = bare("panels", shown, scale=scale).pixels(SURFACE, 1)
    H, W = pixels.shape[:2]

    row, column = ((np.arange(side) + 0.5) / side / extent * n for side, n in ((H, h), (W, w)))
    i, j = np.minimum(row.astype(int), h)[:, None], np.minimum(column.astype(int), w)[None]
    table = np.array(LUT)[((values.clip(-1, 1) + 1) / 2 * 256).astype(int).clip(0, 255)]
    table[1, 1] = 90  # no value: the image
    expected = np.pad(table, ((0, 1), (0, 1), (0, 0)), constant_values=90)[i, j]  # beyond the map: the image
    # Within two pixels of a cell's edge, or of the panel's, colours may be mixed.
    near = [np.abs(of - of.round()) < 2 * n / side / extent for of, side, n in ((row, H, h), (column, W, w))]
    for of in near:
        of[-2:] = True
    edge = near[0][:, None] | near[1][None]
    assert edge.mean() < 0.35
    assert (pixels == expected)[~edge].all()


def test_points_are_numbered_rings_and_a_negative_one_is_black_with_a_bar(bare):
    viewer = bare("panels", scene(panel(2, 2), points=[point(0.25, 0.5), point(0.75, 0.5, True)]))
    pixels = viewer.pixels(SURFACE)
    H, W = pixels.shape[:2]

    def at(x: float, right: int, down: int) -> list[int]:
        found: list[int] = pixels[H // 2 + down, int(x * W) + right].tolist()
        return found

    assert min(at(0.25, 0, 6) + at(0.75, 0, 6)) > 220, "the rings"
    assert at(0.25, 0, 0) == [90] * 3, "what is asked about is seen"
    assert at(0.75, 0, 3) == [0] * 3
    assert min(at(0.75, 0, 0)) > 120, "the bar"
    assert pixels[H // 2 - 20 : H // 2 - 4, int(0.25 * W) + 8 : int(0.25 * W) + 20].max() > 200, "its number"


def test_hovering_names_the_cell_of_one_place_in_every_panel(bare):
    panels = panel(4, 8), panel(10, 10, "other"), panel(5, 5, "wide", extent=1.25), panel(4, 4, "short", extent=0.4)
    viewer = bare("panels", scene(*panels))
    plain = viewer.pixels(SURFACE, 1)
    for number in range(4):
        viewer.hover(0.55, 0.45, number)
        told = [text.partition(" at ")[2] for text in viewer.texts(".plrc-reading")]
        cells = ["row 1, column 4", "row 4, column 5", "row 1, column 2"]
        assert told == ["", *cells, ""]  # the last does not reach there
        value = -1 + 2 * (1 * 8 + 4) / 31
        assert viewer.texts(".plrc-reading")[1].startswith(f"{value:.2f} ".replace("-", "−"))
    changed = np.argwhere((viewer.pixels(SURFACE, 1) != plain).any(axis=2)) / plain.shape[:2]
    np.testing.assert_allclose(changed.min(axis=0), (0.25, 0.5), atol=0.02)  # an outline around that cell
    np.testing.assert_allclose(changed.max(axis=0), (0.5, 0.625), atol=0.02)
    left = viewer.page.locator(".plrc-here").nth(1).evaluate("(e) => parseFloat(e.style.left)")
    assert left == pytest.approx(100 * 12 / 31), "the value on the bar"
    viewer.page.mouse.move(5, 790)
    assert viewer.texts(".plrc-reading") == [""] * 5
    assert (viewer.pixels(SURFACE, 1) == plain).all()


def test_a_cell_without_a_value_says_so(bare):
    shown = scene(panel(1, 2))
    shown["panels"][1]["map"]["values"][0] = None
    viewer = bare("panels", shown)
    viewer.hover(0.2, 0.5, 1)
    assert viewer.texts(".plrc-reading")[1] == "no value at row 0, column 0"


def test_the_right_button_shift_and_alt_ask_for_the_unlike_too(bare):
    viewer = bare("panels", scene(panel(3, 5), points=[point(0.5, 0.5)]))
    viewer.page.locator(".plrc-title").first.click()
    for how in ({"button": "right"}, {"modifiers": ["Shift"]}, {"modifiers": ["Alt"]}):
        points = click(viewer, 1, 80, 60, **how)
        assert [p["negative"] for p in points] == [False, True]
        assert points[1]["x"] == pytest.approx(80 / box(viewer, 1)["width"], abs=0.01)
        viewer.show(scene(panel(3, 5), points=[point(0.5, 0.5)]))
        assert viewer.page.evaluate("getSelection().toString()") == "", "Shift selects no text"


def test_a_click_forgets_adds_or_excludes_and_points_are_taken_back(bare):
    viewer = bare("panels", scene(panel(3, 5), points=[point(0.5, 0.5)]))
    assert len(click(viewer, 0, 20, 90)) == 1
    viewer.show(scene(panel(3, 5)))
    viewer.page.get_by_label("this too").check()
    first = click(viewer, 0, 20, 20)
    points = click(viewer, 0, 90, 20)  # before the first one is answered
    assert points[:1] == first
    assert [p["negative"] for p in points] == [False, False]
    viewer.page.get_by_label("but not this").check()
    assert [p["negative"] for p in click(viewer, 0, 90, 90)] == [False, False, True]
    assert viewer.page.locator(f"{SURFACE} .plrc-point").count() == 6, "they are seen at once, in both panels"
    viewer.show(scene(panel(3, 5), points=points))
    viewer.page.get_by_text("Undo").click()
    viewer.page.get_by_text("Clear").click()
    assert [event["points"] for event in viewer.told()] == [points[:1], []]


def test_undo_goes_back_to_the_places_before_and_what_is_answered_is_not_asked_again(bare):
    viewer = bare("panels", scene(panel(3, 5), points=[point(0.5, 0.5)]))
    first = click(viewer, 0, 20, 90)
    viewer.show(scene(panel(3, 5), points=first))
    viewer.show(scene(panel(3, 5), points=click(viewer, 0, 90, 20)))
    viewer.page.locator(SURFACE).first.click(position={"x": 90, "y": 20})  # the same place
    viewer.settle()
    assert viewer.told() == [], "its answer is there"
    viewer.page.get_by_text("Undo").click()
    viewer.page.get_by_text("Undo").click()
    assert [event["points"][0]["x"] for event in viewer.told()] == [first[0]["x"], 0.5]


def test_the_object_that_is_meant_is_outlined_in_all_panels(bare):
    viewer = bare(
        "panels", scene(panel(1, 1), colour=(90, 90, 90)) | {"outline": "M0.25 0.25L0.75 0.25L0.75 0.75L0.25 0.75Z"}
    )
    for k in range(2):
        shot = viewer.pixels(SURFACE, k).astype(int)
        h, w, _ = shot.shape
        border = shot[h // 2, w // 4 - 3 : w // 4 + 4].sum(axis=1)
        assert [border.min() < 90, border.max() > 600] == [True, True], "white in black"
    viewer.show(scene(panel(1, 1), colour=(90, 90, 90)))
    assert np.unique(viewer.pixels(SURFACE, 0)[5:-5, 5:-5]).tolist() == [90]


def test_where_there_is_no_answer_the_points_are_as_before(bare):
    viewer = bare("panels", scene(panel(3, 5), points=[point(0.5, 0.5)]))
    click(viewer, 0, 20, 90)
    viewer.page.evaluate("view.take(null)")
    viewer.settle()
    left = viewer.page.locator(f"{SURFACE} .plrc-point").first.evaluate("(e) => e.style.left")
    assert left == "50%"


def test_the_opacity_of_the_maps_shows_the_image(bare):
    viewer = bare("panels", scene(panel(1, 1), colour=(200, 200, 200)))
    assert viewer.pixels(SURFACE, 1)[50, 50].tolist() == list(LUT[0])
    viewer.page.get_by_label("Opacity of the maps").fill("0.6")
    mixed = 0.4 * 200 + 0.6 * np.array(LUT[0])
    np.testing.assert_allclose(viewer.pixels(SURFACE, 1)[50, 50], mixed, atol=2)
    assert viewer.pixels(SURFACE, 0)[50, 50].tolist() == [200] * 3


def test_a_tap_asks_and_its_value_stays(bare):
    viewer = bare("panels", scene(panel(2, 2)), 390, scale=2, has_touch=True)
    viewer.page.locator(SURFACE).nth(1).tap(position={"x": 20, "y": 20})
    viewer.settle()
    assert len(viewer.told()) == 1
    assert viewer.texts(".plrc-reading")[1] == "−1.00 at row 0, column 0"


def test_the_wheel_zooms_all_panels_at_the_pointer_and_a_drag_moves_them_without_asking(bare):
    viewer = bare("panels", scene(panel(8, 8), panel(4, 4), points=[point(0.5, 0.5)]))
    mouse, whole = viewer.page.mouse, viewer.page.get_by_role("button", name="Whole image")
    rings = viewer.page.locator(".plrc-point").all()

    def place(number: int) -> tuple[float, float]:
        """Of the ring, in its panel."""
        at, ring = box(viewer, number), rings[number].bounding_box()
        shares = (ring["x"] + ring["width"] / 2 - at["x"]) / at["width"], (ring["y"] + 7 - at["y"]) / at["height"]
        return shares[0], shares[1]

    assert whole.is_disabled()
    viewer.hover(0.7, 0.7, 1)
    reading = viewer.texts(".plrc-reading")
    mouse.wheel(0, -400 * np.log(2))
    viewer.settle()
    assert viewer.texts(".plrc-tip") == ["Ctrl + wheel enlarges"]
    assert whole.is_disabled(), "the wheel alone scrolls the page"
    viewer.enlarge(2)
    assert rings[0].bounding_box()["width"] == 14, "marks are as large as before"
    assert [place(number) for number in range(3)] == [pytest.approx((0.3, 0.3), abs=0.02)] * 3
    mouse.move(0, 0)
    viewer.hover(0.7, 0.7, 1)
    assert viewer.texts(".plrc-reading") == reading, "what is under the pointer stays there"
    mouse.down()
    viewer.hover(0.8, 0.9, 1)
    mouse.up()
    viewer.settle()
    assert [place(number) for number in range(3)] == [pytest.approx((0.4, 0.5), abs=0.02)] * 3
    assert viewer.told() == []
    at = box(viewer, 2)  # a click means what is seen under it: the ring, and a quarter of 60 pixels more
    (asked,) = click(viewer, 2, 0.4 * at["width"] + 30, 0.5 * at["height"])
    assert asked == point(pytest.approx(0.5 + 15 / at["width"], abs=0.01), pytest.approx(0.5, abs=0.01))
    viewer.enlarge(1e-9)
    assert whole.is_disabled(), "the whole image is the least"
    viewer.page.keyboard.press("+")
    assert not whole.is_disabled()
    viewer.page.keyboard.press("0")
    assert whole.is_disabled()


def test_the_keyboard_does_all_that_a_pointer_does(bare):
    viewer = bare("panels", scene(panel(4, 8), panel(5, 5, extent=1.3), points=[point(0.1, 0.1)]))
    press = viewer.page.keyboard.press
    surface = viewer.page.locator(SURFACE)

    def moved(keys: str) -> tuple[float, float]:
        for key in keys.split():
            press(f"Arrow{key}")
        press("Enter")
        (event,) = viewer.told()
        ((x, y, negative),) = (p.values() for p in event["points"])
        assert negative is False
        return x, y

    viewer.page.get_by_label("Opacity of the maps").focus()
    press("Tab")
    assert viewer.page.evaluate("document.activeElement.ariaLabel").startswith("image. Click")
    assert moved("Right Right Up") == pytest.approx((0.625, 0.4375))
    assert viewer.texts(".plrc-aloud")[0].startswith("63 % across, 44 % down; demo: ")
    press("Tab")
    label = str(surface.nth(1).get_attribute("aria-label"))
    assert all(part in label for part in ("demo", "AUC 0.91", "Enter", "Shift", "Backspace", "Escape"))
    assert moved("Left Down") == pytest.approx((4.5 / 8, 2.5 / 4))  # from cell (1, 5)
    assert viewer.texts(".plrc-aloud") == [viewer.texts(".plrc-reading")[1]] == ["0.29 at row 2, column 4"]
    assert moved("Left " * 20) == pytest.approx((0.5 / 8, 2.5 / 4))
    press("Tab")
    # The middle of what the image shows of its last cell: a part lies beyond it.
    assert moved("Right " * 20)[0] == pytest.approx((3 / 5 * 1.3 + 1) / 2, abs=1e-5)
    assert moved("Left")[0] == pytest.approx(2.5 / 5 * 1.3, abs=1e-5)
    for key in ("Shift+Enter", "-", "Backspace", "Escape", "a"):
        press(key)
    assert [[p["negative"] for p in event["points"]] for event in viewer.told()] == [
        [False, True],
        [False, True, True],
        [False, True],
        [],
    ]
    ring = surface.nth(2).evaluate("(e) => getComputedStyle(e).outlineStyle")
    assert ring == "solid", "one sees which panel has the keyboard"


def test_arrows_go_on_from_a_click(bare):
    viewer = bare("panels", scene(panel(4, 4)))
    click(viewer, 1, 3, 3)
    viewer.page.keyboard.press("ArrowRight")
    viewer.page.keyboard.press("Enter")
    ((asked,),) = (event["points"] for event in viewer.told())
    assert asked["x"] == pytest.approx(1.5 / 4)
    assert asked["y"] < 0.05, "the side that was not moved along stays"


@pytest.mark.parametrize(("width", "columns"), [(1280, 4), (690, 4), (390, 2), (200, 1)])
def test_as_many_columns_as_fit_and_no_horizontal_scroll(bare, width, columns):
    panels = panel(2, 2), panel(2, 2, "a rather long title that wraps " * 3), panel(2, 2, "x" * 200)
    viewer = bare("panels", scene(*panels), width)
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width
    tops = [box(viewer, k)["y"] for k in range(4)]
    assert tops.count(tops[0]) == columns
    bars = [bar.bounding_box()["y"] for bar in viewer.page.locator(".plrc-bar:visible").all()]
    assert len(set(bars)) == {4: 1, 2: 2, 1: 3}[columns], "the bars of a line stand level"


def test_a_tall_image_is_limited_in_height_and_what_was_hidden_is_drawn(bare):
    viewer = bare("panels")
    viewer.page.evaluate("root.style.display = 'none'")
    viewer.show(scene(panel(2, 2), size=(30, 60)))
    viewer.page.evaluate("root.style.display = ''")
    assert box(viewer, 1)["height"] == pytest.approx(0.7 * 800, abs=2)
    assert box(viewer, 1)["width"] == pytest.approx(box(viewer, 1)["height"] / 2, abs=1)
    assert viewer.pixels(SURFACE, 1)[5, 5].tolist() == list(LUT[0])


HOLD = """() => { const decode = window.createImageBitmap; window.held = [];
window.createImageBitmap = async (image) => {
  await new Promise((go) => held.push(go));
  return decode.call(window, image);
} }"""


def test_the_latest_scene_wins_whenever_its_image_comes(bare):
    viewer = bare("panels", scene(colour=(1, 1, 1)))
    viewer.page.evaluate(HOLD)
    viewer.show(scene(panel(2, 2), colour=(20, 0, 0)), wait=False)
    viewer.show(scene(panel(2, 2), panel(2, 2), colour=(0, 30, 0)), wait=False)
    viewer.page.wait_for_function("held.length === 2")
    assert viewer.pixels(SURFACE)[9, 9].tolist() == [1, 1, 1], "until an image is there the last one stays"
    viewer.page.evaluate("held[1]()")
    viewer.page.wait_for_function(f"document.querySelectorAll('{SURFACE}').length === 3")
    viewer.page.evaluate("held[0]()")
    viewer.settle()
    assert viewer.page.locator(SURFACE).count() == 3
    assert viewer.pixels(SURFACE)[9, 9].tolist() == [0, 30, 0]
    viewer.show(scene(colour=(0, 0, 40)), wait=False)
    viewer.page.wait_for_function("held.length === 3")
    viewer.show(None)
    viewer.page.evaluate("held[2]()")
    viewer.settle()
    assert viewer.page.locator(".plrc-empty").is_visible(), "nothing is a scene too"


def test_a_known_image_is_drawn_at_once_and_the_keyboard_keeps_its_panel(bare):
    viewer = bare("panels", scene(panel(2, 2)))
    viewer.page.get_by_label("Opacity of the maps").focus()
    viewer.page.keyboard.press("Tab")
    viewer.page.keyboard.press("Tab")
    count = f"Number(document.querySelectorAll('{SURFACE}')[1].dataset.drawn)"
    shown = scene(panel(2, 2, low=-2.0, high=2.0))
    before, after = viewer.page.evaluate(f"(s) => {{ const b = {count}; view.show(s); return [b, {count}]; }}", shown)
    assert after == before + 1
    assert viewer.page.evaluate(f"document.activeElement === document.querySelectorAll('{SURFACE}')[1]")
    assert viewer.texts(".plrc-aloud")[0] == "2.00 at row 1, column 1", "the value under the crosshair is another now"


def test_without_a_scene_or_with_a_broken_image_a_sentence_stands_there(bare):
    viewer = bare("panels")
    empty = viewer.page.locator(".plrc-empty")
    assert empty.text_content() == "Choose an image and a checkpoint."
    viewer.show(scene(panel(2, 2)))
    assert not empty.is_visible()
    broken = scene(panel(2, 2))
    broken["image"]["src"] = "data:image/png;base64,AAAA"
    viewer.show(broken)
    assert "could not be read" in str(empty.text_content())
    viewer.show(scene(panel(2, 2)))
    assert not empty.is_visible()
    assert viewer.page.locator(SURFACE).nth(1).is_visible()


@pytest.mark.parametrize(
    ("low", "high", "quantity", "numbers"),
    [
        (-1, 1, "cosine", "−1 0 1"),
        (-0.1, 1, "cosine", "−0.1  1"),  # 0 would stand on the low end's number
        (0, 0.0068, "cosine × 10⁻³", "0 3.4 6.8"),
        (98, 100, "cosine", "98 99 100"),
    ],
)
def test_the_bar_tells_its_ends_and_0_or_its_middle(bare, low, high, quantity, numbers):
    viewer = bare("panels", scene(panel(2, 2, low=low, high=high)))
    assert viewer.texts(".plrc-quantity")[1] == quantity
    assert [viewer.texts(f".plrc-{name}")[1] for name in ("low", "between", "high")] == numbers.split(" ")
    look = "(s) => getComputedStyle(s).backgroundImage.match(/rgb\\([^)]*\\)/g)"
    colours = viewer.page.locator(".plrc-strip").nth(1).evaluate(look)
    assert [colours[0], colours[-1]] == [f"rgb({r}, {g}, {b})" for r, g, b in (LUT[0], LUT[255])]
