"""The page in a real browser: clicks land where they should, views can be exported, sent and opened again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plrc.views import KINDS, draw_affinity, replay

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = ("plrc:tiny", "random:tiny")
PANELS = "#affinity-panels .plrc-canvas"
TAKES = 10_000  # ms, on a loaded machine


def drawn(page, panel=1):
    return page.locator(PANELS).nth(panel).get_attribute("data-drawn")


def ready(page, panels=3):
    page.wait_for_function(
        f"document.querySelectorAll('{PANELS}').length === {panels} && "
        f"[...document.querySelectorAll('{PANELS}')].every((c) => c.dataset.drawn) && "
        "document.querySelector('#affinity-points textarea').value",
        timeout=TAKES,
    )


def points(page):
    return json.loads(page.locator("#affinity-points textarea").input_value() or "[]")


def click(page, x, y, panel=0, **how):
    """At that share of a panel, as it lies on the page now, and wait until the page has answered."""
    asked = points(page)
    box = page.locator(PANELS).nth(panel).bounding_box()
    spot = {"x": round(box["width"] * x), "y": round(box["height"] * y)}
    page.locator(PANELS).nth(panel).click(position=spot, **how)
    page.wait_for_function(
        "(before) => (document.querySelector('#affinity-points textarea').value || '[]') !== before",
        arg=json.dumps(asked),
        timeout=TAKES,
    )
    page.wait_for_timeout(150)
    return spot["x"] / box["width"], spot["y"] / box["height"]


def exported(page, view, folder):
    page.locator(f"#{view}-export").click()
    link = page.locator(f"#{view}-files a").first
    link.wait_for(timeout=4 * TAKES)
    with page.expect_download() as download:
        link.click()
    bundle = folder / f"{view}.zip"
    download.value.save_as(bundle)
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
        return archive.namelist()


@pytest.mark.parametrize(("width", "scale"), [(1280, 1), (390, 2)])
@pytest.mark.parametrize("picture", ["small", "wide", "tall"])
def test_a_click_asks_the_cell_under_it(visit, photos, picture, width, scale, tmp_path):
    page = visit(f"?view=affinity&picture={photos / picture}.png", width, device_scale_factor=scale)
    ready(page)
    for x, y in ((0.13, 0.82), (0.66, 0.31)):
        there = click(page, x, y)
        ((px, py, sign),) = points(page)
        assert (px, py) == pytest.approx(there, abs=0.002)
        assert sign == 1
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


def test_no_horizontal_scroll_on_a_phone(visit):
    page = visit("", 390)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_first_view_shows_something_by_two_networks(visit):
    page = visit("?picture=scenes%2312")
    ready(page)
    assert len(points(page)) == 1
    text = page.locator("#affinity-panels").inner_text()
    assert all(name in text for name in CHECKPOINTS)
    assert len(re.findall(r"AUC 0\.\d\d · best IoU 0\.\d\d", text)) == 2


def test_points_are_added_taken_back_and_cleared(visit):
    page = visit()
    ready(page)
    click(page, 0.4, 0.4)
    page.get_by_role("radio", name="this too").check()
    click(page, 0.7, 0.7, panel=2)  # panels share their clicks
    click(page, 0.1, 0.1, modifiers=["Shift"])
    assert [sign for *_, sign in points(page)] == [1, 1, -1]
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("JSON.parse(document.querySelector('#affinity-points textarea').value).length === 2")
    page.get_by_text("Clear", exact=True).click()
    page.wait_for_function("document.querySelector('#affinity-points textarea').value === '[]'")
    page.get_by_role("radio", name="this place").check()
    click(page, 0.5, 0.5)
    assert len(points(page)) == 1


def test_the_difference_is_a_panel_of_its_own(visit, tmp_path):
    page = visit()
    ready(page)
    page.get_by_label("Difference").check()
    ready(page, 4)
    assert "affinity-difference.npz" in exported(page, "affinity", tmp_path)
    with np.load(tmp_path / "affinity.npz") as maps, np.load(tmp_path / "affinity-difference.npz") as difference:
        first, last = (maps[f"{name} 0"] for name in CHECKPOINTS)
        (name,) = (name for name in difference if "−" in name and name.endswith(" 0"))
        assert np.allclose(difference[name], last - first, atol=1e-6)


def test_a_link_restores_the_view_in_a_fresh_browser_and_server(visit, serve, server, photos, tmp_path):
    page = visit()
    ready(page)
    page.get_by_role("radio", name="this too").check()
    click(page, 0.3, 0.7)
    page.get_by_label("Automatic range").check()
    page.get_by_label("Layer or head").first.click()
    page.get_by_role("option", name="c2").click()
    page.wait_for_timeout(1500)
    exported(page, "affinity", tmp_path)
    page.locator("#affinity-link").click()
    page.wait_for_function("location.search.includes('view=affinity')", timeout=TAKES)
    query = page.evaluate("location.search")
    assert "picture=" in query  # another server may begin with another
    assert "checkpoints=" in query
    asked = points(page)
    assert len(asked) == 2

    other = serve(*(f"--checkpoint={c}" for c in CHECKPOINTS), "--images", str(photos))
    again = visit(query, url=other.url)
    ready(again)
    assert points(again) == asked
    (tmp_path / "again").mkdir()
    exported(again, "affinity", tmp_path / "again")
    recipes = [json.loads((folder / "affinity.json").read_text()) for folder in (tmp_path, tmp_path / "again")]
    assert recipes[0] == recipes[1]
    assert recipes[0]["parameters"]["layer"] == "c2"
    assert (tmp_path / "affinity.npz").read_bytes() == (tmp_path / "again" / "affinity.npz").read_bytes()
    other.stop()


def test_an_upload_is_seen_upright_and_its_export_can_be_replayed(visit, photos, tmp_path, monkeypatch):
    page = visit()
    ready(page)
    before = drawn(page, 0)
    page.locator("input[type=file]").first.set_input_files(photos / "turned.jpg")
    page.wait_for_function(
        f"document.querySelectorAll('{PANELS}')[0].dataset.drawn !== '{before}' && "
        f"document.querySelectorAll('{PANELS}')[0].clientHeight > document.querySelectorAll('{PANELS}')[0].clientWidth",
        timeout=TAKES,
    )
    click(page, 0.25, 0.75)
    names = exported(page, "affinity", tmp_path)
    assert "turned.jpg" in names
    monkeypatch.chdir(tmp_path)
    drawing, changed = replay(tmp_path / "affinity.json", KINDS)
    assert changed == []
    assert drawing.parameters["pictures"] == ["turned.jpg"]


def test_a_broken_picture_is_told_in_a_sentence(visit, photos):
    page = visit()
    ready(page)
    page.locator("input[type=file]").first.set_input_files(photos / "broken.png")
    toast = page.locator(".toast-body")
    toast.wait_for(timeout=TAKES)
    said = toast.inner_text()
    assert "broken.png cannot be shown" in said
    assert "Traceback" not in page.content()
    assert "/gradio" not in said
    click(page, 0.5, 0.5)  # the page goes on


def test_a_strip_is_refused_before_it_is_encoded(visit, tmp_path):
    """Its input would be a hundred times as long as wide."""
    Image.new("RGB", (3000, 20)).save(tmp_path / "strip.png")
    page = visit()
    ready(page)
    page.locator("input[type=file]").first.set_input_files(tmp_path / "strip.png")
    toast = page.locator(".toast-body")
    toast.wait_for(timeout=TAKES)
    assert "strip.png has 3000 × 20 pixels" in toast.inner_text()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?picture=/etc/hostname", "/etc/hostname is not offered here"),
        ("?checkpoints=/etc/hostname", "/etc/hostname is not offered here"),
        ("?points=nonsense", "the points of this link cannot be read"),
        ("?strength=much", "the link's strength=much is no number"),
        ("?view=nothing", "the link's view=nothing is none of"),
        ("?strength=7", "the link's strength=7 lies outside 0 … 1"),
        ("?size=99999", "the link's size=99999 is not offered here"),
        ("?view=training&runs=runs/none", "the link's runs=runs/none"),
    ],
)
def test_a_spoiled_link_is_told_in_a_sentence(visit, query, told):
    page = visit(query)
    toast = page.locator(".toast-body").first
    toast.wait_for(timeout=TAKES)
    assert told.lower() in toast.inner_text().lower()


def test_dark_and_light(visit):
    for theme in ("dark", "light"):
        page = visit(f"?__theme={theme}")
        ready(page)
        colour = page.evaluate("getComputedStyle(document.querySelector('.plrc-title')).color")
        brightness = sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
        assert (brightness > 128) == (theme == "dark")


def test_the_keyboard_asks_too(visit):
    page = visit()
    ready(page)
    page.locator(PANELS).nth(1).focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    asked = points(page)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "(before) => document.querySelector('#affinity-points textarea').value !== before", arg=json.dumps(asked)
    )
    assert len(points(page)) == 1


def test_programs_can_ask_too(server):
    from gradio_client import Client

    client = Client(server.url, verbose=False)
    offered = client.predict(api_name="/offered")
    assert offered["checkpoints"][: len(CHECKPOINTS)] == list(CHECKPOINTS)
    answer = client.predict("scenes#3", list(CHECKPOINTS), [[0.3, 0.4]], size=64, api_name="/affinity")
    alone = draw_affinity(["scenes#3"], CHECKPOINTS, points=[[0.3, 0.4]], size=64, together=True)
    assert answer["rows"] == json.loads(json.dumps(alone.rows))
    for name, array in alone.arrays.items():
        assert np.array_equal(np.array(answer["arrays"][name], dtype=array.dtype).reshape(array.shape), array)
    named = set(client.view_api(return_format="dict")["named_endpoints"])
    assert named == {"/offered", "/affinity", "/correspondence", "/embedding"}
    with pytest.raises(Exception, match="is not offered here"):
        client.predict(str(ROOT / "README.md"), list(CHECKPOINTS), [[0.3, 0.4]], api_name="/affinity")


def test_matches_are_seen_chosen_and_exported(visit, tmp_path):
    page = visit("?view=correspondence&picture=scenes%233&size=112&seed=2")
    left = page.locator("#correspondence-pairs canvas").first
    left.wait_for(timeout=TAKES)
    page.get_by_text("recall", exact=True).first.wait_for(timeout=TAKES)
    numbers = page.locator("#correspondence-numbers").inner_text()
    assert all(name in numbers for name in CHECKPOINTS)
    names = exported(page, "correspondence", tmp_path)
    assert {"correspondence.png", "correspondence.svg", "correspondence.npz", "correspondence.json"} <= set(names)
    recipe = json.loads((tmp_path / "correspondence.json").read_text())
    assert (recipe["parameters"]["seed"], recipe["parameters"]["size"]) == (2, 112)
    _, changed = replay(tmp_path / "correspondence.json", KINDS)
    assert changed == []
    for line in recipe["lines"]:
        assert line.split(": ")[0] in numbers


def test_dots_are_seen_and_exported(visit, tmp_path):
    page = visit("?view=embedding&most=6&size=64&method=PCA")
    page.locator("#embedding-dots canvas").first.wait_for(timeout=TAKES)
    page.get_by_text("neighbours kept").first.wait_for(timeout=TAKES)
    assert "embedding.npz" in exported(page, "embedding", tmp_path)
    with np.load(tmp_path / "embedding.npz") as arrays:
        assert {f"{name} coordinates" for name in CHECKPOINTS} <= arrays.keys()
        assert arrays["image"].max() == 5


def test_each_view_shows_something_when_it_is_first_chosen(visit):
    page = visit()
    ready(page)
    page.get_by_role("tab", name="Region correspondence").click()
    page.locator("#correspondence-pairs canvas").first.wait_for(timeout=TAKES)
    page.get_by_role("tab", name="Training run").click()
    page.get_by_text("There is no training run here yet").wait_for(timeout=TAKES)
    page.get_by_role("tab", name="Point affinity").click()
    assert drawn(page)


def test_the_program_of_the_docs_runs(server, capsys):
    text = (ROOT / "docs" / "app.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(program.replace("http://127.0.0.1:7860/", server.url), {})
    assert "plrc:tiny" in capsys.readouterr().out


def test_what_cannot_be_served_is_told_in_a_sentence(tmp_path):
    """Nothing is started, and the sentence names what is wrong and the remedy."""
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    for arguments, told in (
        (["--checkpoint", str(tmp_path / "broken.pth")], "broken.pth"),
        (["--checkpoint", "nowhere.pth"], "there is no file or folder nowhere.pth"),
        (["--images", str(tmp_path / "nothing")], "nothing"),
        (["--host", "0.0.0.0"], "--auth NAME:PASSWORD"),
    ):
        command = [sys.executable, "-m", "app", *arguments]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 2, ended.stderr
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr
        assert len(ended.stderr.strip().splitlines()) == 1


def test_a_server_with_a_password_asks_for_it(serve):
    guarded = serve("--checkpoint=plrc:tiny", "--auth", "me:secret")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{guarded.url}config", timeout=10)  # what the page is built from
    assert list(guarded.folder.glob("plrc-app-*"))
    guarded.stop()
    assert not list(guarded.folder.glob("plrc-app-*")), "a server that is ended by SIGTERM leaves its files behind"
