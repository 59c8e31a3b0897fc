"""The viewer of maps over a picture, in a bare page: what a click asks, which pixels a cell covers, what is told."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

STATIC = Path(__file__).resolve().parents[2] / "app" / "static"
LUT = [(i, 255 - i, (7 * i) % 256) for i in range(256)]
COLOURS = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in LUT]
SIZE = (60, 40)  # of the picture: smaller than any panel

Scene = dict[str, Any]


def uri(*colour: int, size: tuple[int, int] = SIZE) -> str:
    """A picture of one colour, RGB or RGBA."""
    buffer = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def panel(h: int, w: int, title: str = "demo", extent: float = 1.0, **scale: Any) -> Scene:
    """A map that goes evenly from the scale's low end to its high one, row after row."""
    ends: dict[str, Any] = {"quantity": "cosine", "low": -1.0, "high": 1.0, "colours": COLOURS} | scale
    values = ends["low"] + (ends["high"] - ends["low"]) * np.linspace(0, 1, h * w)
    drawn = {"h": h, "w": w, "values": values.tolist(), "extent": [extent, extent]}
    return {"title": title, "caption": "AUC 0.91", "map": drawn, "scale": ends}


def scene(*panels: Scene, colour: tuple[int, ...] = (90, 90, 90), size: tuple[int, int] = SIZE, **more: Any) -> Scene:
    """The picture itself, of one colour and with no edges, and these panels beside it."""
    picture = {"src": uri(*colour, size=size), "outlines": uri(0, 0, 0, 0, size=size), "name": "photo"}
    first = {"title": "picture", "caption": "", "map": None, "scale": None}
    shown = {"picture": picture | {"width": size[0], "height": size[1]}, "panels": [first, *panels]}
    return shown | {"points": [], "strength": 1.0, "outline": None} | more


class Viewer:
    """``plrc.panels`` alone on a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        code = "".join((STATIC / name).read_text(encoding="utf-8") for name in ("panels.js", "panels_parts.js"))
        page.set_content(f"<body style='margin: 16px'><div id='root'></div><script>{code}</script></body>")
        page.evaluate("window.asked = []; window.view = plrc.panels(root, (event) => asked.push(event)); undefined")

    def show(self, shown: Scene | None, wait: bool = True) -> None:
        self.page.evaluate("(scene) => view.show(scene)", shown)
        if wait and shown:
            self.settle()

    def settle(self) -> None:
        """Until two frames have passed: what is laid out, observed and asked for the next frame is drawn."""
        self.page.wait_for_function("document.querySelectorAll('canvas[data-drawn]').length > 0")
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def canvas(self, number: int) -> Locator:
        return self.page.locator("canvas").nth(number)

    def box(self, number: int) -> dict[str, float]:
        box = self.canvas(number).bounding_box()
        assert box is not None
        return {side: float(box[side]) for side in ("x", "y", "width", "height")}

    def pixels(self, number: int) -> np.ndarray:
        """``(H, W, 3)``, read back from the canvas."""
        url = self.canvas(number).evaluate("(c) => c.toDataURL('image/png')")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))

    def cell(self, number: int) -> str | None:
        return self.canvas(number).get_attribute("data-cell")

    def words(self, name: str) -> list[str]:
        return self.page.locator(f".plrc-{name}").all_text_contents()

    def asked(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = self.page.evaluate("asked.splice(0)")
        return events

    def hover(self, number: int, x: float, y: float) -> None:
        box = self.box(number)
        self.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        self.settle()


Opens = Callable[..., Viewer]


@pytest.fixture
def opens(browser: Browser) -> Iterator[Opens]:
    """``opens(width, scale)``: a viewer on a page so wide, of so many pixels in a CSS pixel."""
    viewers = []

    def open_page(width: int = 1280, scale: float = 1, **how: Any) -> Viewer:
        size = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, device_scale_factor=scale, **how)  # type: ignore[arg-type]
        viewers.append(Viewer(context.new_page()))
        return viewers[-1]

    yield open_page
    for viewer in viewers:
        assert viewer.problems == []
        assert [url for url in viewer.requests if not url.startswith("data:")] == []
        viewer.page.context.close()


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("number", [0, 2])
def test_a_click_asks_about_the_share_of_the_picture_under_it(opens: Opens, number: int, scale: int) -> None:
    viewer = opens(1000, scale)
    viewer.show(scene(panel(3, 5), panel(4, 6)))
    box = viewer.box(number)
    assert box["width"] > 2 * SIZE[0], "a small picture is enlarged"
    assert box["width"] / box["height"] == pytest.approx(1.5, abs=0.01)
    assert len(viewer.pixels(number)[0]) == pytest.approx(box["width"] * scale, abs=1)
    for spot in [(10, 7), (200, 31), (151, 120)]:
        viewer.canvas(number).click(position={"x": spot[0], "y": spot[1]})
        (event,) = viewer.asked()
        assert (event["kind"], event["negative"]) == ("point", False)
        assert (event["x"], event["y"]) == pytest.approx((spot[0] / box["width"], spot[1] / box["height"]), abs=1e-3)


@pytest.mark.parametrize("scale", [1, 1.5])
@pytest.mark.parametrize("extent", [1.0, 1.15, 0.8])
def test_every_pixel_has_the_colour_of_the_cell_that_covers_it(opens: Opens, extent: float, scale: float) -> None:
    h, w = 7, 11
    shown = scene(panel(h, w, extent=extent))
    values = np.random.default_rng(0).uniform(-1.2, 1.2, (h, w))  # some beyond the scale's ends
    shown["panels"][1]["map"]["values"] = values.ravel().tolist()
    shown["panels"][1]["map"]["values"][w + 1] = None
    viewer = opens(900, scale)
    viewer.show(shown)
    pixels = viewer.pixels(1)
    H, W = pixels.shape[:2]

    row, column = ((np.arange(side) + 0.5) / side / extent * n for side, n in ((H, h), (W, w)))
    i, j = np.minimum(row.astype(int), h)[:, None], np.minimum(column.astype(int), w)[None]
    table = np.array(LUT)[((values.clip(-1, 1) + 1) / 2 * 256).astype(int).clip(0, 255)]
    table[1, 1] = 90  # no value: the picture
    expected = np.pad(table, ((0, 1), (0, 1), (0, 0)), constant_values=90)[i, j]  # beyond the map: the picture
    edge = (np.abs(row - row.round()) < 1e-3 * h)[:, None] | (np.abs(column - column.round()) < 1e-3 * w)[None]
    if extent < 1:  # a pixel that the map's own end cuts is mixed
        edge = edge | (np.abs(row - h) < 0.02 * h)[:, None] | (np.abs(column - w) < 0.02 * w)[None]
    assert edge.mean() < 0.2
    assert (pixels == expected)[~edge].all()
    assert (viewer.pixels(0) == 90).all(), "the picture itself has no map"


def test_strength_is_the_opacity_of_the_colours_and_half_of_it_that_of_the_outlines(opens: Opens) -> None:
    shown = scene(panel(1, 1), colour=(200, 200, 200), strength=0.6)
    viewer = opens()
    viewer.show(shown)
    mixed = 0.4 * 200 + 0.6 * np.array(LUT[0])
    np.testing.assert_allclose(viewer.pixels(1)[50, 50], mixed, atol=2)
    shown["picture"]["outlines"] = uri(0, 0, 0, 255)
    viewer.show(shown)
    viewer.page.wait_for_function("(b) => document.querySelectorAll('canvas')[1].dataset.drawn > b", arg="1")
    np.testing.assert_allclose(viewer.pixels(1)[50, 50], 0.7 * mixed, atol=2)
    assert (viewer.pixels(0) == 200).all(), "the picture itself is not covered"
    viewer.show(shown | {"outline": {"src": uri(255, 230, 0, 255)}})
    viewer.page.wait_for_function("() => document.querySelectorAll('canvas')[1].dataset.drawn > 2")
    assert [viewer.pixels(k)[50, 50].tolist() for k in (0, 1)] == [[255, 230, 0]] * 2


def test_a_positive_point_is_a_white_ring_and_a_negative_one_black_with_a_bar(opens: Opens) -> None:
    points = [{"x": 0.25, "y": 0.5, "negative": False}, {"x": 0.75, "y": 0.5, "negative": True}]
    viewer = opens()
    viewer.show(scene(panel(2, 2), points=points))
    pixels = viewer.pixels(0)
    H, W = pixels.shape[:2]

    def at(x: float, right: int, down: int) -> list[int]:
        found: list[int] = pixels[H // 2 + down, int(x * W) + right].tolist()
        return found

    assert at(0.25, 0, 6) == at(0.75, 0, 6) == [255] * 3, "the rings"
    assert at(0.25, 0, 0) == [90] * 3, "what is asked about is seen"
    assert at(0.75, 0, 3) == [0] * 3
    assert min(at(0.75, 0, 0)) > 120, "the bar"
    assert pixels[H // 2 - 20 : H // 2 - 4, int(0.25 * W) + 7 : int(0.25 * W) + 18].max() > 200, "its number"


def test_hovering_names_the_cell_of_one_place_in_every_panel(opens: Opens) -> None:
    viewer = opens()
    viewer.show(scene(panel(4, 8), panel(10, 10, "other"), panel(5, 5, "wide", extent=1.25)))
    plain = viewer.pixels(1)
    for number in range(4):
        viewer.hover(number, 0.55, 0.45)
        assert [viewer.cell(k) for k in range(4)] == [None, "1,4", "4,5", "1,2"]
        value = -1 + 2 * (1 * 8 + 4) / 31
        assert viewer.words("reading")[:2] == ["", f"{value:.2f} at row 1, column 4".replace("-", "−")]
    changed = np.argwhere((viewer.pixels(1) != plain).any(axis=2)) / plain.shape[:2]
    np.testing.assert_allclose(changed.min(axis=0), (0.25, 0.5), atol=0.02)  # an outline around that cell
    np.testing.assert_allclose(changed.max(axis=0), (0.5, 0.625), atol=0.02)
    left = viewer.page.locator(".plrc-here").nth(1).evaluate("(e) => parseFloat(e.style.left)")
    assert left == pytest.approx(100 * 12 / 31), "the value on the bar"
    viewer.page.mouse.move(5, 700)
    viewer.settle()
    assert [viewer.cell(k) for k in range(4)] == [None] * 4
    assert viewer.words("reading") == [""] * 4
    assert (viewer.pixels(1) == plain).all()


def test_beyond_a_map_there_is_no_cell(opens: Opens) -> None:
    viewer = opens()
    viewer.show(scene(panel(4, 4, extent=0.8), panel(4, 4)))
    for x, y in [(0.9, 0.1), (0.1, 0.9)]:
        viewer.hover(0, x, y)
        assert viewer.cell(1) is None
        assert viewer.cell(2) is not None
        assert viewer.words("reading")[1] == ""


def test_a_cell_without_a_value_says_so(opens: Opens) -> None:
    viewer, shown = opens(), scene(panel(1, 2))
    shown["panels"][1]["map"]["values"][0] = None
    viewer.show(shown)
    viewer.hover(1, 0.2, 0.5)
    assert viewer.words("reading")[1] == "no value at row 0, column 0"
    assert not viewer.page.locator(".plrc-here").nth(1).is_visible()


@pytest.mark.parametrize("how", [{"button": "right"}, {"modifiers": ["Shift"]}, {"modifiers": ["Alt"]}])
def test_the_right_button_shift_and_alt_ask_for_the_unlike(opens: Opens, how: dict[str, Any]) -> None:
    viewer = opens()
    viewer.show(scene(panel(3, 5)))
    viewer.page.locator(".plrc-title").first.click()
    viewer.canvas(1).click(position={"x": 80, "y": 60}, **how)
    (event,) = viewer.asked()
    assert event["negative"] is True
    assert event["x"] == pytest.approx(80 / viewer.box(1)["width"], abs=1e-3)
    assert viewer.page.evaluate("getSelection().toString()") == "", "Shift selects no text"


def test_a_tap_asks_and_its_value_stays(opens: Opens) -> None:
    viewer = opens(390, 2, has_touch=True)
    viewer.show(scene(panel(2, 2)))
    viewer.canvas(1).tap(position={"x": 20, "y": 20})
    viewer.settle()
    (event,) = viewer.asked()
    assert event["negative"] is False
    assert viewer.words("reading")[1] == "−1.00 at row 0, column 0"


def test_the_keyboard_does_all_that_a_pointer_does(opens: Opens) -> None:
    viewer = opens()
    viewer.show(scene(panel(4, 8), panel(5, 5, extent=1.3)))
    press = viewer.page.keyboard.press

    def moved(keys: str) -> tuple[float, float]:
        for key in keys.split():
            press(f"Arrow{key}")
        press("Enter")
        (event,) = viewer.asked()
        assert event["negative"] is False
        return event["x"], event["y"]

    press("Tab")
    assert "picture" in str(viewer.canvas(0).get_attribute("aria-label"))
    assert viewer.page.evaluate("document.activeElement === document.querySelector('canvas')")
    assert moved("Right Right Up") == pytest.approx((0.625, 0.4375))
    assert viewer.words("said")[0].startswith("63 % across, 44 % down; demo: ")
    press("Tab")
    label = str(viewer.canvas(1).get_attribute("aria-label"))
    assert all(part in label for part in ("demo", "AUC 0.91", "Enter", "Shift", "Backspace", "Escape"))
    assert moved("Left Down") == pytest.approx((4.5 / 8, 2.5 / 4))  # from cell (1, 5)
    assert viewer.cell(1) == "2,4"
    assert viewer.words("said") == [viewer.words("reading")[1]] == ["0.29 at row 2, column 4"]
    assert moved("Left " * 20) == pytest.approx((0.5 / 8, 2.5 / 4))
    press("Tab")
    # The middle of what the picture shows of its last cell: a fifth lies beyond it.
    assert moved("Right " * 20)[0] == pytest.approx((3 / 5 * 1.3 + 1) / 2, abs=1e-5)
    assert moved("Left")[0] == pytest.approx(2.5 / 5 * 1.3, abs=1e-5)
    press("Shift+Enter")
    press("-")
    press("Backspace")
    press("Escape")
    press("a")
    kinds = [(event["kind"], event.get("negative")) for event in viewer.asked()]
    assert kinds == [("point", True), ("point", True), ("undo", None), ("clear", None)]
    ring = viewer.canvas(2).evaluate("(c) => getComputedStyle(c).outlineStyle")
    assert ring == "solid", "one sees which panel has the keyboard"


def test_arrows_go_on_from_a_click(opens: Opens) -> None:
    viewer = opens()
    viewer.show(scene(panel(4, 4)))
    viewer.canvas(1).click(position={"x": 3, "y": 3})
    viewer.asked()
    viewer.page.keyboard.press("ArrowRight")
    viewer.page.keyboard.press("Enter")
    (event,) = viewer.asked()
    assert event["x"] == pytest.approx(1.5 / 4)
    assert event["y"] < 0.05, "the side that was not moved along stays"


@pytest.mark.parametrize(("width", "columns"), [(1280, 4), (700, 2), (390, 1)])
def test_as_many_columns_as_fit_and_no_horizontal_scroll(opens: Opens, width: int, columns: int) -> None:
    viewer = opens(width)
    viewer.show(scene(panel(2, 2), panel(2, 2, "a rather long title that wraps " * 3), panel(2, 2, "x" * 200)))
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width
    tops = [viewer.box(k)["y"] for k in range(4)]
    assert tops.count(tops[0]) == columns
    bars = [box["y"] for bar in viewer.page.locator(".plrc-bar:visible").all() if (box := bar.bounding_box())]
    assert len(set(bars)) == {4: 1, 2: 2, 1: 3}[columns], "the bars of a line stand level"


def test_a_tall_picture_is_limited_in_height(opens: Opens) -> None:
    viewer = opens()
    viewer.show(scene(panel(2, 2), size=(30, 60)))
    box = viewer.box(1)
    assert box["height"] == pytest.approx(0.7 * 800, abs=2)
    assert box["width"] == pytest.approx(box["height"] / 2, abs=1)


def test_panels_are_drawn_again_in_another_width_and_after_being_hidden(opens: Opens) -> None:
    viewer = opens(1280)
    viewer.page.evaluate("root.style.display = 'none'")
    viewer.page.evaluate("(scene) => view.show(scene)", scene(panel(2, 2)))
    viewer.page.wait_for_timeout(50)
    viewer.page.evaluate("root.style.display = ''")
    viewer.settle()
    assert viewer.pixels(1)[5, 5].tolist() == list(LUT[0])
    viewer.page.set_viewport_size({"width": 600, "height": 800})
    viewer.settle()
    pixels = viewer.pixels(1)
    assert len(pixels[0]) == pytest.approx(viewer.box(1)["width"], abs=1)
    assert pixels[5, 5].tolist() == list(LUT[0])


HOLD = """const decode = window.createImageBitmap; window.held = [];
window.createImageBitmap = async (image) => {
  await new Promise((go) => held.push(go));
  return decode.call(window, image);
}"""


def test_the_latest_scene_wins_whenever_its_pictures_come(opens: Opens) -> None:
    viewer = opens()
    viewer.show(scene(colour=(1, 1, 1)))
    viewer.page.evaluate(f"() => {{ {HOLD} }}")
    viewer.show(scene(panel(2, 2), colour=(20, 0, 0)), wait=False)
    viewer.page.wait_for_function("held.length === 1")  # the outlines are known
    viewer.show(scene(panel(2, 2), panel(2, 2), colour=(0, 30, 0)), wait=False)
    viewer.page.wait_for_function("held.length === 2")
    assert viewer.page.locator("canvas").count() == 1
    assert (viewer.pixels(0) == 1).all(), "until a picture is there the last one stays"
    viewer.page.evaluate("held[1]()")
    viewer.page.wait_for_function("document.querySelectorAll('canvas').length === 3")
    viewer.page.evaluate("held[0]()")
    viewer.settle()
    assert viewer.page.locator("canvas").count() == 3
    assert viewer.pixels(0)[0, 0].tolist() == [0, 30, 0]
    viewer.show(scene(colour=(0, 0, 40)), wait=False)
    viewer.page.wait_for_function("held.length === 3")
    viewer.show(None)
    viewer.page.evaluate("held[2]()")
    viewer.settle()
    assert viewer.page.locator(".plrc-empty").is_visible(), "nothing is a scene too"


def test_a_known_picture_is_drawn_at_once_and_the_keyboard_keeps_its_panel(opens: Opens) -> None:
    viewer = opens()
    viewer.show(scene(panel(2, 2)))
    viewer.page.keyboard.press("Tab")
    viewer.page.keyboard.press("Tab")
    shown = scene(panel(2, 2, low=-2.0, high=2.0), points=[{"x": 0.5, "y": 0.5, "negative": False}])
    count = "Number(document.querySelectorAll('canvas')[1].dataset.drawn)"
    before, after = viewer.page.evaluate(f"(s) => {{ const b = {count}; view.show(s); return [b, {count}]; }}", shown)
    assert after == before + 1
    assert viewer.page.evaluate("document.activeElement === document.querySelectorAll('canvas')[1]")
    assert viewer.words("said")[0] == "2.00 at row 1, column 1", "the value under the crosshair is another now"


def test_without_a_scene_or_with_a_broken_picture_a_sentence_stands_there(opens: Opens) -> None:
    viewer = opens()
    empty = viewer.page.locator(".plrc-empty")
    assert empty.text_content() == "Choose a picture and a checkpoint."
    viewer.show(scene(panel(2, 2)))
    assert not empty.is_visible()
    viewer.show(None)
    assert empty.is_visible()
    assert not viewer.canvas(0).is_visible()
    broken = scene(panel(2, 2))
    broken["picture"]["src"] = "data:image/png;base64,AAAA"
    viewer.show(broken, wait=False)
    viewer.page.wait_for_function("document.querySelector('.plrc-empty').textContent.includes('could not be read')")
    viewer.show(scene(panel(2, 2)))
    assert not empty.is_visible()
    assert viewer.canvas(1).is_visible()


@pytest.mark.parametrize(
    ("low", "high", "quantity", "numbers"),
    [
        (-1, 1, "cosine", "−1 0 1"),
        (-2, 2, "cosine", "−2 0 2"),
        (0.25, 0.75, "cosine", "0.25 0.5 0.75"),
        (-0.1, 1, "cosine", "−0.1  1"),  # 0 would stand on the low end's number
        (0, 0.0068, "cosine × 10⁻³", "0 3.4 6.8"),
        (98, 100, "cosine", "98 99 100"),
    ],
)
def test_the_bar_tells_its_ends_and_0_or_its_middle(
    opens: Opens, low: float, high: float, quantity: str, numbers: str
) -> None:
    viewer = opens()
    viewer.show(scene(panel(2, 2, low=low, high=high)))
    assert viewer.words("quantity")[1] == quantity
    told = [viewer.words(name)[1] for name in ("low", "between", "high")]
    assert told == numbers.split(" ")
    left, right = (viewer.page.locator(".plrc-strip").nth(1).evaluate(
        f"(s) => getComputedStyle(s).backgroundImage.match(/rgb\\([^)]*\\)/g).at({k})") for k in (0, -1))  # fmt: skip
    assert (left, right) == tuple(f"rgb({r}, {g}, {b})" for r, g, b in (LUT[0], LUT[255]))
