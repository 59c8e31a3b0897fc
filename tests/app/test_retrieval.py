"""The view *Retrieval*: a click asks, an answer becomes the question; what is large is indexed by the button alone."""

from __future__ import annotations

import json
import threading
from typing import Any

import gradio as gr
import pytest

from app import retrieval
from app.retrieval import RetrievalTab
from app.workbench import Workbench
from plrc.queries import Retrieval
from plrc.views import draw
from tests.app.test_page import TAKES, exported

SVG = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{}'/>"
ANSWERS = "#retrieve-viewer .answer"


def answer(name: str, width: int, height: int, right: bool | None) -> dict[str, Any]:
    told = {"name": name, "spec": f"photos/{name}", "cosine": -0.25, "right": right, "box": [0.5, 0.25, 0.75, 0.75]}
    return {"src": SVG.format(width, height), "width": width, "height": height} | told


def scene(of: str = "point") -> dict[str, Any]:
    answers = [answer("a", 60, 30, True), answer("b", 30, 60, False), answer("c", 40, 40, None)]
    networks = [{"name": n, "caption": "", "box": [0, 0, 0.5, 0.5], "answers": answers} for n in ("first", "second")]
    image = {"src": SVG.format(90, 60), "width": 90, "height": 60, "name": "p"}
    return {"image": image, "of": of, "points": [[0.25, 0.25]], "networks": networks, "note": ""}


@pytest.mark.parametrize("width", [900, 390])
def test_a_click_asks_and_an_answer_becomes_the_question(bare, width):
    view = bare("answers", scene(), width)
    surface = view.page.locator(".plrc-canvas")
    box = surface.bounding_box()
    surface.click(position={"x": 0.8 * box["width"], "y": 0.6 * box["height"]})
    view.page.locator(".answer").nth(4).click()
    (asked, other) = view.told()
    assert asked["point"] == pytest.approx([0.8, 0.6], abs=0.01)
    assert other == {"image": "photos/b", "point": [0.625, 0.5]}
    surface.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        view.page.keyboard.press(key)
    (event,) = view.told()
    assert event["point"] == pytest.approx([0.8 + 1 / 16, 0.6 + 1 / 16], abs=0.01)
    assert view.texts(".answer span") == ["−0.250"] * 6
    assert view.page.locator(".answer").nth(1).get_attribute("aria-label") == "b, cosine −0.250, wrong: ask about it"
    picture, marked = (view.page.locator(f".answer {part}").nth(1).bounding_box() for part in (".picture", ".plrc-box"))
    assert picture["height"] == pytest.approx(2 * picture["width"], abs=1)
    assert marked["x"] - picture["x"] == pytest.approx(picture["width"] / 2, abs=1)
    assert marked["height"] == pytest.approx(picture["height"] / 2, abs=1)
    assert view.page.evaluate("document.documentElement.scrollWidth") <= width
    view.show(scene("image"))
    surface.click()
    assert view.told() == []  # a whole image has no place


def test_answers_follow_a_click_and_are_exported(visit, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    both = "checkpoints=plrc:tiny&checkpoints=random:tiny&size=64"
    page = visit(f"?view=retrieve&images=scenes%233&among=scenes:12&answers=3&{both}")
    page.wait_for_function(f"document.querySelectorAll('{ANSWERS}').length === 6", timeout=TAKES)
    surface = page.locator("#retrieve-viewer .plrc-canvas")
    box, drawn = surface.bounding_box(), "document.querySelector('#retrieve-viewer .plrc-canvas').dataset.drawn"
    surface.click(position={"x": 0.9 * box["width"], "y": 0.9 * box["height"]})
    page.wait_for_function(f"{drawn} === '2'", timeout=TAKES)
    point = [float(v) for v in page.locator("#retrieve-points textarea").input_value().split(",")]
    assert point == pytest.approx([0.9, 0.9], abs=0.02)
    how: dict[str, Any] = {"checkpoints": ("plrc:tiny", "random:tiny"), "among": "scenes:12", "answers": 3, "size": 64}
    alone = draw(Retrieval(images=("scenes#3",), points=(point,), **how))
    assert page.locator(f"{ANSWERS} span").all_text_contents() == [f"{row['cosine']:.3f}" for row in alone.rows]
    page.locator(ANSWERS).nth(4).click()
    named = f"scene {alone.rows[4]['answer'].partition('#')[2]}"
    shown = ("#retrieve-viewer figcaption').textContent", "#retrieve-images input').value")
    both = " && ".join(f"document.querySelector('{part} === name" for part in shown)
    page.wait_for_function(f"(name) => {both}", arg=named, timeout=TAKES)
    assert "retrieve.csv" in exported(page, "retrieve", tmp_path)
    recipe = json.loads((tmp_path / "retrieve.json").read_text())
    assert recipe["query"]["images"] == [alone.rows[4]["answer"]]


@pytest.fixture
def tab(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(retrieval, "_AT_ONCE", 5)
    monkeypatch.setattr("plrc.views.retrieval._PART", 3)
    with gr.Blocks():
        return RetrievalTab(Workbench(["random:tiny"], runs=tmp_path / "runs"))


def test_what_is_large_is_indexed_by_the_button_alone_and_can_be_stopped(tab, monkeypatch):
    query = tab.read({"images": ["scenes#3"], "among": ["scenes:8"], "size": ["64"]})

    def shown(update: list[Any]) -> dict[str, Any]:
        return json.loads(update[0].props["scene"])

    assert shown(tab.show(query))["networks"] == []
    assert "press Index" in shown(tab.show(query))["note"]
    seen: list[int] = []

    def told(self: Any, done_total: tuple[int, int], desc: str = "", unit: str = "") -> None:
        seen.append(done_total[0])
        if done_total[0] == 4:
            threading.Thread(target=tab._stop).run()

    monkeypatch.setattr(gr.Progress, "__call__", told)
    monkeypatch.setattr(gr, "Info", lambda text: None)
    found = shown(tab.draw(query))
    assert seen == [0, 1, 2, 3, 4]
    assert "3 images are indexed so far" in found["note"]
    assert len(found["networks"][0]["answers"]) in (2, 3)  # the asked scene may be among them
    monkeypatch.setattr(gr.Progress, "__call__", lambda *args, **how: None)
    assert shown(tab.draw(query))["note"] == ""
    assert tab.read({"images": ["scenes#3"]}).among == "scenes:60"
    with pytest.raises(ValueError, match="/etc is not offered here"):
        tab.show(tab.read({"images": ["scenes#3"], "among": ["/etc"]}))
