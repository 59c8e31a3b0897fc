"""The view *What the loss sees*: a click or a key chooses a point, and what is shown is what ``plrc loss`` draws."""

from __future__ import annotations

import re

import numpy as np
import torch

from plrc.options import Point
from plrc.queries import Loss
from plrc.views import draw

ASKED = "?view=loss&images=scenes%233&others=scenes%237&seed=1"
TAKES = 60_000  # milliseconds, on a busy machine
QUERY = {"images": ("scenes#3",), "others": ("scenes#7",), "seed": 1}


def rings(page):
    ring = page.locator("#loss-viewer .first circle[fill=none]").first
    return np.array([float(ring.get_attribute(name)) / 100 for name in ("cx", "cy")])


def test_a_step_that_is_not_given_is_none(visit):
    """Also where the view is chosen by its tab: the checkpoint's own step, not 0."""
    page = visit()
    page.locator("#affinity-viewer .plrc-canvas").first.wait_for(timeout=TAKES)
    page.get_by_role("tab", name="What the loss sees").click()
    page.locator("#loss-viewer .first").wait_for(timeout=TAKES)
    page.locator("#loss-link").click()
    page.wait_for_url(re.compile("view=loss"))
    assert "step" not in page.url


def test_a_click_or_a_key_looks_at_another_point(visit):
    from playwright.sync_api import expect

    drawing = draw(Loss(**QUERY))
    page = visit(ASKED)
    view, numbers, told = (page.locator(f"#loss-{part}") for part in ("viewer .first", "numbers", "points textarea"))
    expect(numbers).to_contain_text(drawing.lines[0], timeout=TAKES)
    places = drawing.arrays["points"][0]
    np.testing.assert_allclose(rings(page), places[drawing.arrays["chosen"]], atol=1e-4)
    assert page.locator("#loss-viewer svg").count() == 7
    assert page.locator("#loss-viewer .first circle:not([fill=none])").count() == len(places)

    apart = np.linalg.norm(places[:, None] - places, axis=2) + 9 * np.eye(len(places))
    apart[drawing.arrays["chosen"]] = 0
    k = int(apart.min(axis=1).argmax())  # the one that no other is near, so that a pixel decides nothing
    wanted, box = places[k], view.bounding_box()
    view.click(position={"x": float(wanted[0]) * box["width"], "y": float(wanted[1]) * box["height"]})
    place = Point(*drawing.crop.to_image(torch.from_numpy(places[k : k + 1]))[0].tolist())
    clicked = draw(Loss(**QUERY, points=(place,)))
    assert clicked.arrays["chosen"] != drawing.arrays["chosen"]
    expect(numbers).to_contain_text(clicked.lines[2], timeout=TAKES)
    np.testing.assert_allclose(rings(page), wanted, atol=0.02)

    view.focus()
    page.keyboard.press("ArrowUp")
    expect(numbers).not_to_contain_text(clicked.lines[2], timeout=TAKES)
    assert rings(page)[1] < wanted[1]
    assert page.evaluate("document.activeElement.matches('#loss-viewer .first')"), "the next key goes on from there"

    page.locator("#loss-link").click()
    page.wait_for_url(re.compile("points="))
    assert re.search(r"points=\d\.\d+%2C\d\.\d+", page.url)
    page.locator("#loss-more").click()
    expect(numbers).to_contain_text(draw(Loss(**QUERY | {"seed": 2})).lines[0], timeout=TAKES)
    assert not told.count() or told.input_value() == ""
