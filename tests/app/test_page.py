"""The page in a real browser: clicks land where they should, views can be exported, sent and opened again."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import typing
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app import __main__ as program
from app.affinity import AffinityTab
from app.correspondence import CorrespondenceTab
from app.embedding import EmbeddingTab
from app.page import build, endpoint
from app.sheets import ColoursTab
from app.workbench import Workbench
from plrc.checkpoint import save_checkpoint
from plrc.config import load_config
from plrc.model import PLRC
from plrc.options import option
from plrc.pretrained import load
from plrc.pretrained.export import export
from plrc.queries import VIEWS, Affinity
from plrc.views import draw, replay
from tests.app.conftest import handler
from tests.views.conftest import save_masked

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = ("plrc:tiny", "random:tiny")
BOTH = "checkpoints=plrc:tiny&checkpoints=random:tiny&size=112"
PANELS = "#affinity-viewer .plrc-canvas"
STATE = (  # what is asked, and how often it was drawn
    "[['points', 'negatives'].map((n) => document.querySelector(`#affinity-${n} textarea`).value).join('|'),"
    f"document.querySelector('{PANELS}').dataset.drawn]"
)
TAKES = 60_000  # ms, on a loaded machine


def ready(page, panels=3):
    page.wait_for_function(
        f"document.querySelectorAll('{PANELS}').length === {panels} && "
        f"[...document.querySelectorAll('{PANELS}')].every((c) => c.dataset.drawn) && {STATE}[0].length > 1",
        timeout=TAKES,
    )


def points(page):
    """Those of both fields, as numbers."""
    fields = [field.split() for field in page.evaluate(STATE)[0].split("|")]
    return [[tuple(map(float, point.split(","))) for point in field] for field in fields]


def answered(page, act):
    """Act, and wait until the points are others, and drawn."""
    before = page.evaluate(STATE)
    act()
    page.wait_for_function(f"(before) => {STATE}.every((now, i) => now !== before[i])", arg=before, timeout=TAKES)


def click(page, x, y, panel=0, **how):
    """At that share of a panel, as it lies on the page now, and wait until the page has answered."""
    surface = page.locator(PANELS).nth(panel)
    box = surface.bounding_box()
    spot = {"x": round(box["width"] * x), "y": round(box["height"] * y)}
    answered(page, lambda: surface.click(position=spot, **how))
    return spot["x"] / box["width"], spot["y"] / box["height"]


def exported(page, view, folder):
    page.locator(f"#{view}-export").click()
    link = page.locator(f"#{view}-files a").first
    link.wait_for(timeout=4 * TAKES)
    with page.expect_download() as download:
        link.click()
    folder.mkdir(exist_ok=True)
    bundle = folder / f"{view}.zip"
    download.value.save_as(bundle)
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
        return archive.namelist()


def toast(page, sentence):
    shown = page.locator(".toast-body", has_text=re.compile(re.escape(sentence), re.IGNORECASE)).first
    shown.wait_for(timeout=TAKES)
    assert "/gradio" not in shown.inner_text()
    assert "Traceback" not in page.content()


@pytest.mark.parametrize(("width", "scale", "image"), [(1280, 1, "wide"), (390, 2, "tall")])
def test_a_click_asks_the_cell_under_it(visit, photos, image, width, scale, tmp_path):
    page = visit(f"?view=affinity&images={photos / image}.png&{BOTH}", width, device_scale_factor=scale)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "no horizontal scroll"
    for x, y in ((0.13, 0.82), (0.66, 0.31)):
        there = click(page, x, y)
        (((px, py),), negatives) = points(page)
        assert (px, py) == pytest.approx(there, abs=0.008)
        assert negatives == []
    names = exported(page, "affinity", tmp_path)
    assert {"affinity.png", "affinity.svg", "affinity.npz", "affinity.json"} <= set(names)
    with np.load(tmp_path / "affinity.npz") as arrays:
        for name in CHECKPOINTS:
            values = arrays[f"{name} 0"]
            h, w = values.shape
            row, column = np.unravel_index(values.argmax(), values.shape)
            assert abs(column - min(int(px * w), w - 1)) <= 1  # a bilinear sample may peak in the neighbouring cell
            assert abs(row - min(int(py * h), h - 1)) <= 1
    Image.open(tmp_path / "affinity.png").verify()
    assert "<svg" in (tmp_path / "affinity.svg").read_text()[:1000]


def test_the_maps_follow_the_pointer_without_the_server(visit):
    page = visit(f"?images=scenes%2312&{BOTH}")
    ready(page)
    surface, shown = page.locator(PANELS).first, "document.querySelectorAll('#affinity-viewer .plrc-map')[1].values"
    before = page.evaluate(f"Array.from({shown})")
    box = surface.bounding_box()
    surface.hover(position={"x": 0.7 * box["width"], "y": 0.6 * box["height"]})
    page.get_by_text("click for its numbers").first.wait_for(timeout=TAKES)  # once the feature maps have come
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for x in (0.2, 0.4, 0.8):
        surface.hover(position={"x": round(x * box["width"]), "y": round(0.3 * box["height"])})
    following = page.evaluate(f"Array.from({shown})")
    assert asked == []
    assert following != before
    click(page, 0.8, 0.3)
    page.mouse.move(5, 5)
    page.wait_for_function("!document.body.innerText.includes('click for its numbers')", timeout=TAKES)
    np.testing.assert_allclose(page.evaluate(f"Array.from({shown})"), following, atol=0.01)


def test_points_are_added_taken_back_and_cleared_and_the_keyboard_asks(visit):
    page = visit(f"?images=scenes%2312&{BOTH}&__theme=dark")
    ready(page)
    colour = page.evaluate("getComputedStyle(document.querySelector('.plrc-title')).color")
    assert min(map(int, re.findall(r"\d+", colour)[:3])) > 128, "light on dark"
    text = page.locator("#affinity-viewer").inner_text()
    assert all(name in text for name in CHECKPOINTS), "the first view shows something by two networks"
    assert len(re.findall(r"AUC 0\.\d\d · best IoU 0\.\d\d", text)) == 2
    (first,) = points(page)[0]
    click(page, 0.4, 0.4)
    page.get_by_label("this too").check()
    click(page, 0.7, 0.7, panel=2)  # panels share their clicks
    click(page, 0.1, 0.1, modifiers=["Shift"])
    assert list(map(len, points(page))) == [2, 1]
    for button, number in (("Undo", [2, 0]), ("Clear", [1, 0])):
        answered(page, page.get_by_text(button, exact=True).click)
        assert list(map(len, points(page))) == number
    assert points(page)[0] == [pytest.approx(first, abs=1e-4)], "none asks about the first one again"
    page.get_by_role("radio", name="this place").check()
    page.locator(PANELS).nth(1).focus()
    answered(page, lambda: [page.keyboard.press(key) for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Enter")])
    assert len(points(page)[0]) == 1
    page.get_by_label("Difference").check()
    ready(page, 4)


CONTRASTS = """() => { // of the texts that are seen: [ratio, text], where it is below 4.5
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (colour) => colour.slice(0, 3).map(linear)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const seen = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  return [...document.querySelectorAll("body *:not(script, style, .plrc-point *)")].flatMap((e) => {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !seen(e)) return [];
    let ground = [255, 255, 255];
    for (let p = e; p; p = p.parentElement) {
      const colour = rgba(getComputedStyle(p).backgroundColor);
      if (colour[3] > 127) { ground = colour; break; }
    }
    const [low, high] = [light(rgba(getComputedStyle(e).color)), light(ground)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    return ratio < 4.5 ? [[ratio, e.textContent.trim()]] : [];
  });
}"""


@pytest.mark.parametrize(("width", "theme", "columns"), [(1600, "dark", 4), (1280, "light", 4), (390, "light", 2)])
def test_all_panels_lie_in_a_row_texts_can_be_read_and_clear_moves_nothing(visit, width, theme, columns):
    page = visit(f"?images=scenes%2312&{BOTH}&difference=1&__theme={theme}", width)
    ready(page, 4)

    def boxes():
        return [panel.bounding_box() for panel in page.locator(PANELS).all()]

    click(page, 0.3, 0.3)
    before = boxes()
    assert [box["y"] for box in before].count(before[0]["y"]) == columns
    assert columns == 2 or before[-1]["x"] + before[-1]["width"] > 0.9 * width, "the width is used"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "no horizontal scroll"
    answered(page, page.get_by_text("Clear", exact=True).click)
    assert boxes() == before
    assert page.evaluate(CONTRASTS) == []
    if columns == 2:
        page.mouse.wheel(0, 700)
        page.wait_for_function("scrollY > 400")
        assert page.get_by_label("but not this").bounding_box()["y"] >= 0, "the click mode stays within reach"


def test_a_link_restores_the_view_in_a_fresh_browser_and_a_server_with_a_password(visit, serve, tmp_path):
    other = serve("--checkpoint=plrc:tiny", "--auth=me:secret")  # it begins with other networks
    page = visit()
    ready(page)
    colour = page.evaluate("getComputedStyle(document.querySelector('.plrc-title')).color")
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 128, "dark on light"
    page.get_by_label("this too").check()
    click(page, 0.6, 0.2)
    assert len(points(page)[0]) == 1, "the point that nobody chose is replaced"
    click(page, 0.3, 0.7)
    page.get_by_label("Difference").check()
    ready(page, 4)
    drawn = page.evaluate(STATE)[1]
    page.get_by_label("Layer or head").first.click()
    page.get_by_role("option", name="c2").click()
    page.wait_for_function(f"(drawn) => {STATE}[1] !== drawn", arg=drawn, timeout=TAKES)
    assert "affinity-difference.npz" in exported(page, "affinity", tmp_path)
    page.locator("#affinity-link").click()
    page.wait_for_function("location.search.includes('view=affinity')", timeout=TAKES)
    query = page.evaluate("location.search")
    assert "images=" in query
    assert "checkpoints=" in query
    assert "size=" not in query  # as by default
    asked = points(page)
    assert len(asked[0]) == 2

    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{other.url}config", timeout=60)  # what the page is built from
    again = visit(query, url=other.url, login={"username": "me", "password": "secret"})
    ready(again, 4)
    assert points(again) == asked
    exported(again, "affinity", tmp_path / "again")
    for name in ("affinity", "affinity-difference"):
        recipes = [json.loads((folder / f"{name}.json").read_text()) for folder in (tmp_path, tmp_path / "again")]
        assert recipes[0] == recipes[1]
        assert recipes[0]["query"]["layer"] == "c2"
        assert (tmp_path / f"{name}.npz").read_bytes() == (tmp_path / "again" / f"{name}.npz").read_bytes()
    assert list(other.folder.glob("plrc-app-*"))
    other.stop()
    assert not list(other.folder.glob("plrc-app-*")), "a server that is ended by SIGTERM leaves its files behind"


def test_an_epoch_of_a_run_that_came_later_is_drawn_for_the_same_points(visit, server):
    config = load_config("demo", given={"queue_size": 64})
    model = PLRC(config)
    for epoch in (2, 4):
        content = {"step": epoch, "epoch": float(epoch), "ranks": 1, "config": config.to_dict()}
        kept = server.folder / "runs" / "later" / "checkpoints" / f"epoch_{epoch:04d}.pt"
        save_checkpoint(kept.with_name("last.pt"), content | {"model": model.state_dict()}, also=kept)
    (server.folder / "runs" / "later" / "log.jsonl").write_text("")
    page = visit("?images=scenes%2312&size=112&checkpoints=random:tiny&checkpoints=runs/later&points=0.3,0.6")
    ready(page)
    slider = page.locator("#affinity-epoch input[type=range]")
    assert slider.input_value() == "4"
    exactly = page.locator("#affinity-epoch input[type=number]")
    exactly.fill("3")  # between two that are stored
    exactly.press("Enter")
    page.wait_for_function("document.querySelector('#affinity-epoch input[type=number]').value === '2'", timeout=TAKES)
    exactly.fill("4")
    exactly.press("Enter")
    page.locator(".plrc-title", has_text="later/epoch_0004").wait_for(timeout=TAKES)
    slider.focus()
    for name in ("epoch_0002", "untrained"):
        page.keyboard.press("ArrowLeft")
        page.locator(".plrc-title", has_text=f"later/{name}").wait_for(timeout=TAKES)
    assert page.locator(".plrc-title").all_inner_texts() == ["image", "random:tiny", "later/untrained"]
    assert points(page) == [[(0.3, 0.6)], []]
    page.locator("#affinity-link").click()
    page.wait_for_function("location.search.includes('later%400')", timeout=TAKES)
    shutil.rmtree(server.folder / "runs")


def test_a_list_of_checkpoints_is_answered_however_it_is_changed(visit):
    page = visit(f"?images=scenes%2312&{BOTH}")
    ready(page)
    chooser = page.locator("#affinity-checkpoints")
    field = chooser.get_by_role("combobox")

    def shown(*names):
        now = "[...document.querySelectorAll('.plrc-title')].map((e) => e.innerText).join()"
        page.wait_for_function(f"(wanted) => {now} === wanted", arg=",".join(["image", *names]), timeout=TAKES)

    field.press("Backspace")  # which Gradio tells nobody
    shown("plrc:tiny")
    field.fill("random:tiny@key")  # typed, a branch that the list does not have
    field.press("Enter")
    page.get_by_text("This cannot be shown: random:tiny has no branch").wait_for(timeout=TAKES)
    page.locator("#affinity-viewer .plrc-stale").wait_for(timeout=TAKES)
    field.press("Backspace")
    field.press("Backspace")
    page.get_by_text("Choose an image and a checkpoint.").wait_for(timeout=TAKES)
    field.click()
    page.get_by_role("option", name="random:tiny", exact=True).click()
    shown("random:tiny")
    assert page.locator(".plrc-stale").count() == 0
    image = page.locator("#affinity-images input")
    image.focus()
    page.locator("#affinity-images .options").wait_for(timeout=TAKES)
    for _ in range(3):
        page.keyboard.press("Tab")
    page.locator("#affinity-images .options").wait_for(state="detached", timeout=TAKES)
    image.fill("nonsense")
    image.press("Enter")
    page.get_by_text("This cannot be shown: nonsense is not offered here").wait_for(timeout=TAKES)
    page.locator("#affinity-link").click()
    toast(page, "nonsense is not offered here")  # there is no link to what cannot be shown
    assert not chooser.locator(".remove-all").is_visible(), "which Gradio tells nobody either"


def test_what_was_exported_goes_with_its_picture(visit, tmp_path):
    page = visit(f"?images=scenes%2312&{BOTH}")
    ready(page)
    exported(page, "affinity", tmp_path)
    page.locator("#affinity-link").click()
    both = [page.locator(f"#affinity-{name}") for name in ("files", "url")]
    for one in both:
        one.wait_for(timeout=TAKES)
    click(page, 0.3, 0.6)
    for one in both:
        one.wait_for(state="hidden", timeout=TAKES)
    exported(page, "affinity", tmp_path)


def test_an_upload_is_seen_upright_and_its_export_can_be_replayed(visit, photos, tmp_path, monkeypatch):
    page = visit()
    ready(page)
    page.locator("input[type=file]").first.set_input_files(photos / "turned.jpg")
    upright = f"document.querySelectorAll('{PANELS}')[0]"
    page.wait_for_function(f"{upright}.clientHeight > {upright}.clientWidth", timeout=TAKES)
    click(page, 0.25, 0.75)
    assert "turned.jpg" in exported(page, "affinity", tmp_path)
    monkeypatch.chdir(tmp_path)
    drawing, changed = replay(tmp_path / "affinity.json")
    assert changed == []
    assert drawing.query.images == ("turned.jpg",)


def test_an_image_that_cannot_be_taken_is_told_in_a_sentence(visit, photos, tmp_path):
    Image.new("RGB", (3000, 20)).save(tmp_path / "strip.png")  # its input would be a hundred times as long as wide
    page = visit(f"?images=scenes%2312&{BOTH}")
    ready(page)
    for file, sentence in (
        (photos / "broken.png", "broken.png cannot be shown"),
        (tmp_path / "strip.png", "strip.png has 3000 × 20 pixels"),
    ):
        page.locator("input[type=file]").first.set_input_files(file)
        toast(page, sentence)
    click(page, 0.5, 0.5)  # the page goes on


@pytest.mark.parametrize(
    ("query", "sentence"),
    [("?images=/etc/hostname", "/etc/hostname is not offered here"), ("?view=no", "the link's view=no is none of")],
)
def test_a_spoiled_link_is_told_in_a_sentence(visit, query, sentence):
    told = visit(query).locator("#affinity-numbers", has_text=f"This cannot be shown: {sentence}")
    told.wait_for(timeout=TAKES)
    assert "Traceback" not in told.inner_text()


def test_each_view_shows_something_when_it_is_first_chosen_and_is_exported(visit, tmp_path):
    page = visit(f"?view=correspond&images=scenes%233&seed=2&scale=0.9&{BOTH}")
    page.locator("#correspond-viewer canvas").first.wait_for(timeout=TAKES)
    numbers = page.locator("#correspond-numbers").text_content()
    left = page.locator("#correspond-viewer figure canvas").first
    left.click(position={"x": 100, "y": 100})
    page.wait_for_function("document.querySelector('#correspond-points textarea').value", timeout=TAKES)
    names = exported(page, "correspond", tmp_path)
    assert {"correspond.png", "correspond.npz", "correspond.json", "correspond-1.json"} <= set(names)
    for name in ("correspond", "correspond-1"):  # all matches, and the chosen one
        recipe = json.loads((tmp_path / f"{name}.json").read_text())
        assert (recipe["query"]["seed"], recipe["query"]["size"]) == (2, 112)
        assert replay(tmp_path / f"{name}.json")[1] == []
        assert (len(recipe["query"]["points"]) > 0) == (name == "correspond-1")
    assert all(name in numbers for name in CHECKPOINTS)
    page.get_by_role("button", name="Other views").click()
    page.wait_for_function("!document.querySelector('#correspond-points textarea').value", timeout=TAKES)
    assert page.locator("#correspond-seed input").input_value() == "3"
    page.get_by_role("tab", name="Training run").click()
    page.get_by_text("There is no training run here yet").wait_for(timeout=TAKES)
    page.get_by_role("tab", name="Point affinity").click()
    ready(page)


def test_dots_are_seen_and_exported(visit, tmp_path):
    page = visit(f"?view=embed&images=scenes&most=6&method=pca&regions=objects&{BOTH}")
    page.locator("#embed-viewer canvas + canvas").first.wait_for(timeout=TAKES)
    assert "embed.npz" in exported(page, "embed", tmp_path)
    with np.load(tmp_path / "embed.npz") as arrays:
        assert {f"{name} coordinates" for name in CHECKPOINTS} <= arrays.keys()
        assert arrays["image"].max() == 5


def test_a_link_draws_what_it_names_alone(visit):
    """Also of a view that is not the first, whose own start must not come in between."""
    page = visit("?view=correspond&images=scenes%233&size=64&checkpoints=random:tiny")
    page.locator("#correspond-viewer figure").first.wait_for(timeout=TAKES)
    page.get_by_role("tab", name="Training run").click()  # an event after those of the start, answered after them
    page.get_by_text("There is no training run here yet").wait_for(timeout=TAKES)
    page.get_by_role("tab", name="Region correspondence").click()
    assert page.locator("#correspond-viewer figcaption b").all_inner_texts() == ["random:tiny"]
    assert "plrc:tiny" not in page.locator("#correspond-numbers").text_content()


def test_an_answer_that_comes_late_is_dropped(visit):
    page = visit(f"?images=scenes%2312&{BOTH}")
    ready(page)
    held = []

    def hold(route):
        if "points" in (route.request.post_data or "") and not held:
            held.append(route)  # a click that is on its way for long
        else:
            route.continue_()

    page.route("**/run/predict*", hold)
    surface = page.locator(PANELS).first
    surface.click(position={"x": 10, "y": 10})
    answered(page, lambda: surface.click(position={"x": 100, "y": 100}))
    assert len(held) == 1
    before = page.evaluate(STATE)
    with page.expect_response("**/run/predict*"):
        held[0].continue_()
    page.get_by_label("Difference").check()  # an event after it, which is answered after it
    ready(page, 4)
    assert page.evaluate(STATE)[0] == before[0]
    assert page.evaluate(STATE)[1] == str(int(before[1]) + 1)


def test_what_is_dropped_on_the_page_is_shown_or_offered(visit, tmp_path):
    page = visit(f"?images=scenes%2312&{BOTH}")
    ready(page)
    page.evaluate("addEventListener('dragover', () => (window.over = document.body.className))")
    Image.new("RGB", (64, 48), "red").save(tmp_path / "mine.png")
    export(load("random:tiny"), "safetensors", tmp_path / "mine.safetensors")
    (tmp_path / "mine.txt").write_text("no checkpoint")

    def drop(name, kind):
        content = base64.b64encode((tmp_path / name).read_bytes()).decode()
        made = """([content, name, type]) => {
          const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0)), dropped = new DataTransfer();
          dropped.items.add(new File([bytes], name, { type }));
          return dropped;
        }"""
        dropped = page.evaluate_handle(made, [content, name, kind])
        for event in ("dragover", "drop"):
            page.dispatch_event("body", event, {"dataTransfer": dropped})

    answered(page, lambda: drop("mine.png", "image/png"))
    assert page.locator("#affinity-images input").input_value() == "mine.png (uploaded)"
    assert "plrc-over" in page.evaluate("window.over")
    assert "plrc-over" not in page.evaluate("document.body.className")
    drop("mine.safetensors", "")
    toast(page, "mine.safetensors: torchvision's names, tiny; under Checkpoints from now on")
    drop("mine.txt", "text/plain")
    toast(page, "mine.txt is no checkpoint")
    assert "/mine.txt" not in page.content()


# ---- Without a browser


def test_what_a_click_cannot_show_is_said_below_the_viewer(tmp_path):
    with gr.Blocks() as page:
        tab = AffinityTab(Workbench(CHECKPOINTS, runs=tmp_path, megabytes=1))
    event = {"points": [{"x": 2, "y": 0.5, "negative": False}]}
    viewer, numbers, *rest = handler(page, "select", "affinity-viewer")(1, {}, event, *tab.values(tab.first))
    assert "This cannot be shown" in numbers
    assert viewer.props == {"live": "null", "stale": "1"}, "there is no answer"
    assert len(rest) == len(tab.outputs) - 2
    assert all(one == gr.skip() for one in rest)


def test_maps_are_finer_at_first_where_an_input_has_few_cells(tmp_path):
    first = {}
    for name in ("plrc:tiny", "random:tiny"):  # which tells no view of a training: its input has 448 pixels
        bench = Workbench([name], runs=tmp_path)
        with gr.Blocks():
            query = AffinityTab(bench).first
        first[name] = query.finer
        bench.prepare()
        encoded = bench.session.encoded
        bench.draw(query)
        assert bench.session.encoded == encoded > 0, "what the page opens with was there"
    assert first == {"plrc:tiny": "shifted", "random:tiny": None}


def test_an_image_that_is_not_listed_is_found_by_its_name_with_its_mask(tmp_path, monkeypatch):
    monkeypatch.setattr("app.workbench.MOST_IMAGES", 2)
    folder = save_masked(tmp_path / "photos", 6)
    bench = Workbench(CHECKPOINTS, [folder], tmp_path, 1)
    assert bench.images[:2] == [f"{folder}#0", f"{folder}#3"]
    for name in ("images/p4.png", "p4.png", "photos/images/p4.png"):
        assert bench.long(name) == f"{folder}#4"
    assert bench.session.image(bench.long("p4.png")).masks.any()
    assert bench.long("p9.png") == "p9.png", "which check refuses"
    assert [spec for *_, spec in bench.thumbnails("P4")[0]] == [f"{folder}#4"]


def test_views_begin_with_the_user_s_folder_and_say_that_they_are_drawn_for_the_first_time(tmp_path):
    for name in "abcdef":
        Image.new("RGB", (64, 48), "red").save(tmp_path / f"{name}.png")
    with gr.Blocks():
        of = {kind: kind(Workbench(CHECKPOINTS, [tmp_path], tmp_path, 1)) for kind in (EmbeddingTab, ColoursTab)}
    dots, sheet = (tab.first for tab in of.values())
    assert (dots.images, dots.regions, dots.clusters) == ((str(tmp_path),), "superpixels:8", 8)
    assert sheet.images == tuple(str(tmp_path / f"{name}.png") for name in "abcd")
    assert "First view of 60 images …" in of[EmbeddingTab].outputs[0].html_template
    assert of[ColoursTab].outputs[0].value == "<p>First view of 4 images …</p>"
    error = ValueError("it is gone")
    assert of[ColoursTab].fault(error, first=True)[0] == ""
    assert of[ColoursTab].fault(error)[0] == gr.skip()


@pytest.fixture(scope="module")
def tabs(tmp_path_factory):
    bench = Workbench(CHECKPOINTS, runs=tmp_path_factory.mktemp("runs"), megabytes=1)
    with gr.Blocks():
        return {kind.name: kind(bench) for kind in (AffinityTab, CorrespondenceTab, EmbeddingTab)}


@pytest.mark.parametrize(
    ("view", "query", "sentence"),
    [
        ("affinity", "checkpoints=/etc/hostname", "/etc/hostname is not offered here: start the app with --checkpoint"),
        ("affinity", "points=nonsense", "--point should be a list"),
        ("affinity", "size=much", "--size should be a size"),
        ("affinity", "to=scenes%233", "the link's to cannot be given in the page"),
        ("correspond", "regions=masks:/etc", "superpixels:16 or objects here, not masks:/etc"),
        ("embed", "images=scenes&most=5000", "200 images are looked at here at most"),
    ],
)
def test_what_a_link_cannot_ask_is_a_sentence(tabs, view, query, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        tabs[view].show(tabs[view].read(parse_qs(query)))


def test_a_link_names_an_image_as_its_list_does(tmp_path):
    for name in ("a/one.png", "b/one.png", "b/a/one.png", "b/two.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    bench = Workbench(["random:tiny"], [tmp_path], runs=tmp_path, megabytes=1)
    with gr.Blocks():
        tab = AffinityTab(bench)
    for name, shown in (("b/two.png", "b/two.png"), ("a/one.png", f"{tmp_path}/a/one.png"), ("scenes#3", "scenes#3")):
        spec = name if "#" in name else str(tmp_path / name)
        query = Affinity(images=(spec,), checkpoints=("random:tiny",), together=True)
        link = parse_qs(tab.link(query))
        assert link == {"view": ["affinity"], "images": [shown], "checkpoints": ["random:tiny"]}
        assert tab.read(link) == query
    typed = tab.values(tab.first)
    typed[list(tab.controls).index("images")] = "b/two.png"
    assert tab.query(typed).images == (str(tmp_path / "b/two.png"),)


def test_programs_can_ask_too(server):
    from gradio_client import Client

    client = Client(server.url, verbose=False)
    offered = client.predict(api_name="/offered")
    assert offered["checkpoints"][: len(CHECKPOINTS)] == list(CHECKPOINTS)
    how = {"images": ("scenes#3",), "checkpoints": CHECKPOINTS, "points": ((0.3, 0.4),), "size": 64}
    answer = client.predict(**{k: list(v) if isinstance(v, tuple) else v for k, v in how.items()}, api_name="/affinity")
    alone = draw(Affinity(**how))
    assert answer["rows"] == json.loads(json.dumps(alone.rows))
    for name, array in alone.arrays.items():  # the server has one thread: a sum in another order
        assert np.allclose(np.array(answer["arrays"][name]).reshape(array.shape), array, rtol=0, atol=1e-5)
    named = set(client.view_api(return_format="dict")["named_endpoints"])
    assert named == {"/offered", *(f"/{name}" for name in VIEWS)}
    for wrong in ({"images": [str(ROOT / "README.md")]}, {"images": ["scenes#3"], "checkpoints": ["nowhere.pth"]}):
        with pytest.raises(Exception, match="is not offered here"):
            client.predict(**wrong, api_name="/affinity")
    with pytest.raises(Exception, match="for the command line alone"):
        client.predict(images=["scenes#3"], keep_basis="/tmp/basis.npz", api_name="/colours")


def test_a_field_of_a_query_has_a_control_a_place_in_the_link_and_one_in_the_endpoint(tabs):
    @dataclass(frozen=True, kw_only=True)
    class More(Affinity):
        contrast: float = option(1.0, "how strong the contrast is", low=0, high=4)

    class MoreTab(AffinityTab):
        kind = More

    bench = tabs["affinity"].bench
    with gr.Blocks():
        tab = MoreTab(bench)
    control = tab.controls["contrast"]
    assert (type(control), control.minimum, control.maximum, control.value) == (gr.Slider, 0, 4, 1)
    assert (control.label, control.info) == ("Contrast", "How strong the contrast is.")
    query = More(images=("scenes#3",), checkpoints=("random:tiny",), contrast=2.5)
    assert tab.link(query) == "view=affinity&checkpoints=random%3Atiny&images=scenes%233&contrast=2.5"
    read = tab.read(parse_qs("images=scenes%233&checkpoints=random:tiny&contrast=2.5"))
    assert read == tab.query(tab.values(query)) == dataclasses.replace(query, together=True)
    answer = endpoint(bench, More)
    assert inspect.signature(answer).parameters["contrast"].default == 1.0
    assert typing.get_type_hints(answer)["contrast"] is float
    with pytest.raises(gr.Error, match="contrast must be between 0 and 4"):
        answer(*(More().to_dict() | {"contrast": 9}).values())


def test_checkpoints_and_runs_that_come_later_are_offered(tmp_path):
    bench = Workbench(["random:tiny"], runs=tmp_path)
    assert bench.runs() == []
    (tmp_path / "new").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "new" / "log.jsonl").write_text("")
    assert bench.runs() == [str(tmp_path / "new")]


def test_the_wheel_has_the_app(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, "."]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    for file in (ROOT / "app").rglob("*.*"):
        if "__pycache__" not in file.parts:
            assert (tmp_path / "installed" / "plrc" / file.relative_to(ROOT)).is_file()
    run = [sys.executable, "-m", "plrc", "app", "--images", "nowhere"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    ended = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == "plrc app: nowhere is no folder or data set: --images takes one with images in it"


def test_the_program_of_the_docs_runs(server, capsys):
    text = (ROOT / "docs" / "app.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(program.replace("http://127.0.0.1:7860/", server.url), {})
    assert "plrc:tiny" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--checkpoint", "broken.pth"], "broken.pth"),
        (["--checkpoint", "nowhere.pth"], "there is no file or folder nowhere.pth"),
        (["--images", "nothing"], "nothing is no folder or data set: --images takes one with images in it"),
        (["--host", "0.0.0.0"], "--auth NAME:PASSWORD"),
        (["--auth", "name:"], "--auth is a name and a password"),
        (["--port", "99999"], "--port must be between 0 and 65535, not 99999"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_sentence(tmp_path, monkeypatch, capsys, arguments, told):
    """Nothing is started, and the sentence names what is wrong and the remedy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    assert program.main(arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.startswith("plrc app: ")
    assert said.count("\n") == 1


def test_a_port_that_is_taken_and_a_mistyped_option_are_told_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert program.main([f"--port={port}", "--checkpoint=no such file"]) == 2
    assert capsys.readouterr().err == f"plrc app: Address already in use (port {port}): choose another --port\n"
    with pytest.raises(SystemExit):
        program.main(["--imagess", "photos"])
    assert "did you mean '--images'?" in capsys.readouterr().err


def test_a_thumbnail_chooses_an_image(visit):
    page = visit(f"?view=affinity&images=sample:china&{BOTH}")
    ready(page)
    before = page.evaluate(STATE)
    page.locator("#affinity-shelf").get_by_text("Thumbnails").click()
    small = page.locator("#affinity-thumbnails button img")
    small.nth(3).wait_for(timeout=TAKES)
    captions = page.locator("#affinity-thumbnails .caption-label").all_inner_texts()
    assert [text.strip() for text in captions[:2]] == ["small.png", "tall.png"]
    shelf = page.locator("#affinity-search")
    assert re.fullmatch(r"Search \((\d+) of \1 images\)", shelf.inner_text())
    shelf.get_by_role("textbox").fill("nowhere")
    shelf.get_by_text("Search (no image has such a name)").wait_for(timeout=TAKES)
    shelf.get_by_role("textbox").fill("SCENE 2")
    page.wait_for_function("document.querySelectorAll('#affinity-thumbnails button img').length === 1", timeout=TAKES)
    small.click()
    page.wait_for_function(f"(before) => {STATE}[0] !== before[0]", arg=before, timeout=TAKES)
    assert page.locator("#affinity-images input").input_value().startswith("scene 21")
    assert page.locator(PANELS).count() == 3


def test_a_data_set_is_given_by_its_file(tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
    image = {"id": 1, "file_name": "a.png", "width": 60, "height": 40}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    file = tmp_path / "two.json"
    file.write_text(json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "thing"}]}))
    bench = Workbench(("random:tiny",), [file], tmp_path / "none")
    assert bench.images[0] == f"{file}#0"
    bench.check(Affinity(images=(f"{file}#0",), checkpoints=("random:tiny",)))
    assert "1 images, first in the lists" in Workbench(("random:tiny",), runs=tmp_path / "none").add(str(file))


def test_an_error_has_the_field_s_name_in_the_page(tmp_path):
    with gr.Blocks() as page:
        tab = EmbeddingTab(Workbench(CHECKPOINTS, runs=tmp_path, megabytes=1))
    values = dict(zip(tab.controls, tab.values(tab.first), strict=True)) | {"most": 0}
    with pytest.raises(gr.Error, match=r"^'Number of images must be at least 1"):
        handler(page, "click", "embed-draw")(*values.values())


def test_thumbnails_are_of_what_is_listed_and_can_be_decoded(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (300, 40), "red").save(tmp_path / name)
    bench = Workbench(("random:tiny",), [tmp_path])
    (tmp_path / "b.png").write_bytes(b"no image")
    found, every = bench.thumbnails(".PNG")
    assert every == 2
    assert [(small.shape, name) for small, _, name in found] == [((96, 128, 3), str(tmp_path / "a.png"))]
    assert [name for *_, name in bench.thumbnails("china")[0]] == ["sample:china"]


def test_a_folder_and_a_checkpoint_are_added_from_the_page_by_who_runs_the_server_alone(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (64, 48), "red").save(tmp_path / "new" / "a.png")
    bench = Workbench(("random:tiny",), runs=tmp_path / "none")
    query = Affinity(images=(str(tmp_path / "new" / "a.png"),), checkpoints=("random:tiny",))
    with pytest.raises(ValueError, match="is not offered here"):
        bench.check(query)
    assert "1 images, first in the lists" in bench.add(f" {tmp_path / 'new'} ")
    bench.check(query)
    assert bench.images[0] == query.images[0]
    assert [name for _, name in bench.choices("among")] == [str(tmp_path / "new"), "scenes:60"]
    assert [name for *_, name in bench.thumbnails("a.png")[0]] == [query.images[0]]
    export(load("random:tiny"), "safetensors", tmp_path / "b.safetensors")
    assert "torchvision's names, tiny; under Checkpoints" in bench.add(str(tmp_path / "b.safetensors"))
    assert str(tmp_path / "b.safetensors") in bench.checkpoints()
    config = load_config("demo", given={"queue_size": 8})
    content = {"step": 1, "epoch": 1.0, "ranks": 1, "config": config.to_dict(), "model": PLRC(config).state_dict()}
    save_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt", content)
    (tmp_path / "run" / "log.jsonl").write_text("")
    assert bench.choices("runs") == []
    bench.add(str(tmp_path / "run"))
    assert bench.choices("runs") == [str(tmp_path / "run")]
    assert "under Checkpoints from now on" in bench.add("random:tiny@3")
    assert bench.checkpoints().count("random:tiny@3") == 1
    for wrong, why in (("", "give a folder"), ("/no/such", "there is no file"), (str(tmp_path / "empty"), "image")):
        with pytest.raises(ValueError, match=why):
            bench.add(wrong)
    has = [[block.elem_id for block in build(bench, alone).blocks.values()].count("add") for alone in (True, False)]
    assert has == [1, 0], "others may not name files of this machine"
