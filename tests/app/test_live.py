"""Maps that the page draws by itself, beside what ``plrc affinity`` answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex

from app import scenes
from app.scenes import affinity_scene, image_of, packed
from plrc.options import Point
from plrc.queries import Affinity
from plrc.views import Session, draw

SURFACE, VALUES = ".plrc-canvas", "(c) => Array.from(c.values)"
CLOSE = 1e-3  # features come as halves
QUERY = Affinity(images=("scenes#12",), checkpoints=("plrc:tiny",), together=True, size=64, points=(Point(0.2, 0.3),))


class Live:
    """A viewer that shows a query's drawings, with the feature maps that it asks for."""

    def __init__(self, bare: Any, query: Affinity) -> None:
        self.query, self.session = query, Session(100)
        self.viewer = bare("panels")
        self.show(query)
        ((lacks,),) = (event.values() for event in self.viewer.told())
        self.maps = packed(draw(replace(query, difference=False), self.session), lacks)
        self.viewer.page.evaluate("(maps) => view.take(maps)", self.maps)

    def drawings(self, query: Affinity) -> list[Any]:
        each = (False, True) if query.difference else (False,)
        return [draw(replace(query, difference=difference), self.session) for difference in each]

    def show(self, query: Affinity) -> None:
        image = self.session.image(query.images[0])
        self.viewer.show(affinity_scene(self.drawings(query)) | {"image": image_of(image.image) | {"name": "scene"}})

    def values(self) -> list[np.ndarray]:
        maps = self.viewer.page.locator(".plrc-map").all()[1:]
        return [np.array(map_.evaluate(VALUES), dtype=np.float64) for map_ in maps]

    def colour_of_the_highest(self) -> str:
        """Of all cells of the first network's map."""
        where = self.values()[0].argmax()
        pixel = f"(c) => c.getContext('2d').getImageData({where} % c.width, {where} / c.width | 0, 1, 1).data"
        red, green, blue, _ = self.viewer.page.locator(".plrc-map").nth(1).evaluate(f"(c) => [...({pixel})(c)]")
        return f"#{red:02x}{green:02x}{blue:02x}"

    def compare(self, query: Affinity, atol: float = CLOSE) -> None:
        """All maps of the page, and their colours' ends, with those of the query's drawings."""
        drawn = [(d, answer.values) for d in self.drawings(query) for (answer, *_) in d.columns.values()]
        ends = self.viewer.texts(".plrc-low")[1:], self.viewer.texts(".plrc-high")[1:]
        for values, (drawing, expected), *numbers in zip(self.values(), drawn, *ends, strict=True):
            np.testing.assert_allclose(values, expected.numpy().ravel(), atol=atol, rtol=1e-3)
            shown = [float(number.replace("−", "-")) for number in numbers]
            low, high = drawing.scale.low, drawing.scale.high
            assert shown == pytest.approx([low, high], abs=max(0.01, atol, high / 150))  # written with two digits


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"checkpoints": ("plrc:tiny", "random:resnet18"), "difference": True, "size": "100x75"},  # other grids
        {"temperature": 0.1, "checkpoints": ("plrc:tiny", "random:tiny"), "difference": True},
        {"colour_range": "full", "layer": "c2"},
        {"colour_range": "percentiles", "colour_map": "magma"},
    ],
)
def test_a_map_that_follows_the_pointer_is_what_a_click_would_answer(bare, how):
    query = replace(QUERY, **how)
    live = Live(bare, query)
    live.compare(query)
    for at in ((0.71, 0.62), (0.004, 0.99)):
        there = Point(*live.viewer.hover(*at))
        live.compare(replace(query, points=(there,)), 0.05 if query.temperature else CLOSE)
    assert live.viewer.texts(".plrc-caption")[1] == "click for its numbers"
    if "colour_map" in how:
        assert live.colour_of_the_highest() == to_hex(colormaps[query.colour_map](1.0))
    live.viewer.page.get_by_label("but not this").check()
    there = Point(*live.viewer.hover(0.6, 0.3))
    live.compare(replace(query, negatives=(there,)), 0.05 if query.temperature else CLOSE)
    live.viewer.page.get_by_label("this too").check()
    there = Point(*live.viewer.hover(0.6, 0.3))
    live.compare(replace(query, points=(*query.points, there)), 0.05 if query.temperature else CLOSE)
    live.viewer.page.mouse.move(5, 790)
    live.viewer.settle()
    live.compare(query, 1e-4)  # the server's own, as it was sent
    assert live.viewer.told() == []


def test_a_map_of_fewer_channels_says_what_is_lost(bare, monkeypatch):
    monkeypatch.setattr(scenes, "_CHANNELS", 24)
    live = Live(bare, QUERY)
    (told,) = live.maps.values()
    assert (told["channels"], told["of"]) == (24, 128)
    assert 0 < told["lost"] < 0.1
    share = f"{100 * told['lost']:.1f}"
    assert live.viewer.texts(".plrc-reading")[1] == f"follows by 24 of 128 channels, {share} % of length² lost"
    there = Point(*live.viewer.hover(0.71, 0.62))
    live.compare(replace(QUERY, points=(there,)), 0.1)


def test_a_map_that_the_page_has_is_not_asked_for_again(bare):
    live = Live(bare, QUERY)
    live.show(replace(QUERY, points=(Point(0.9, 0.9),)))
    live.show(replace(QUERY, layer="c2"))
    ((keys,),) = (event.values() for event in live.viewer.told())
    assert keys[0] not in live.maps
    live.show(QUERY)
    assert live.viewer.told() == []
    live.viewer.hover(0.5, 0.5)
    assert live.viewer.texts(".plrc-caption")[1] == "click for its numbers", "it follows at once"


def test_a_point_is_dragged_with_its_map_and_a_click_removes_one_of_several(bare):
    query = replace(QUERY, points=(Point(0.2, 0.3), Point(0.5, 0.5)), negatives=(Point(0.8, 0.2),))
    live = Live(bare, query)
    mouse = live.viewer.page.mouse
    live.viewer.hover(0.5, 0.5)
    mouse.down()
    at = live.viewer.hover(0.65, 0.8)
    moved = replace(query, points=(Point(0.2, 0.3), Point(*at)))
    live.compare(moved)
    assert live.viewer.told() == [], "it is asked when it lies"
    mouse.up()
    (event,) = live.viewer.told()
    asked = [(p["x"], p["y"], p["negative"]) for p in event["points"]]
    expected = [(0.2, 0.3, False), (*at, False), (0.8, 0.2, True)]
    assert asked == [pytest.approx(point, abs=1e-4) for point in expected]
    live.show(moved)
    live.viewer.hover(0.2, 0.3)
    live.compare(moved, 1e-4)  # over a point the maps are those of the points
    mouse.down()
    mouse.up()
    (event,) = live.viewer.told()
    assert [p["negative"] for p in event["points"]] == [False, True]
    assert event["points"][0]["x"] == pytest.approx(at[0], abs=1e-4)
    live.show(replace(query, points=(Point(*at),), negatives=()))
    beside = live.viewer.hover(at[0] + 0.01, at[1])  # on the only point's ring, which no click removes: it asks anew
    mouse.down()
    mouse.up()
    (event,) = live.viewer.told()
    assert [(p["x"], p["y"]) for p in event["points"]] == [pytest.approx(beside, abs=1e-4)]


def test_it_follows_the_keyboard_and_can_be_told_not_to_follow(bare):
    live = Live(bare, QUERY)
    live.viewer.page.locator(SURFACE).nth(1).focus()
    for key in ("ArrowRight", "ArrowDown"):
        live.viewer.page.keyboard.press(key)
    live.viewer.settle()
    (told,) = live.maps.values()
    w, h = told["w"], told["h"]
    live.compare(replace(QUERY, points=(Point((w // 2 + 1.5) / w, (h // 2 + 1.5) / h),)))
    live.viewer.page.keyboard.press("-")
    (event,) = live.viewer.told()
    asked = [Point(p["x"], p["y"]) for p in event["points"]]
    unlike = replace(QUERY, points=(asked[0],), negatives=(asked[1],))
    live.show(unlike)
    live.compare(unlike, 1e-4)  # the answer, not what Enter would ask
    live.show(QUERY)
    live.viewer.page.get_by_label("Follow the pointer").uncheck()
    live.viewer.hover(0.7, 0.7)
    live.compare(QUERY, 1e-4)
