"""The notebooks run from a fresh clone, and carry their pictures; the widget's clicks are answered."""

import base64
import io
import os
import re
import shutil
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

if not os.environ.get("CI"):
    for package in ("anywidget", "faster_coco_eval", "nbclient"):
        pytest.importorskip(package, reason=f"{package} is missing: pip install -e '.[notebooks]'")
import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from notebooks.clicking import Click
from notebooks.execute import REPOSITORY, WIDGET, clean, execute
from plrc.options import Point
from plrc.queries import Affinity
from plrc.views import draw

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST_CELL, LARGEST = 12, 2_000_000  # lines, bytes
PAGE = 950  # pixels of a figure that fills the page's width
# The trainings in them are cut short here. (What is committed was given by the whole ones.)
SHORTER = {
    '"dpi": 150': '"dpi": 50',
    '["scenes:300"], most=24': '["scenes:300"], most=4',
    'list_images(["scenes:300"], 60)': 'list_images(["scenes:300"], 12)',
    "per_image=980": "per_image=60",
    'dataset="scenes:60"': 'dataset="scenes:5"',
    "--data scenes:200 --epochs 12": "--data scenes:64 --epochs 6",
    "--picture-every 24": "--picture-every 6",
    "scenes:40@9": "scenes:4@9",
    'write("scenes:100"': 'write("scenes:8"',
    'write("scenes:24@1"': 'write("scenes:9@1"',
    "range(0, 24, 4)": "range(0, 9, 4)",
    "seeds = range(3)": "seeds = range(1)",
    '(96, 112), "test_short_side": 112': '(48,), "test_short_side": 48',
    '"iterations": 80, "milestones": (64,), "warmup": 10, "precise_bn": 10': '"iterations": 4, "precise_bn": 2',
    'dataset="scenes:20"': 'dataset="scenes:5"',
}
SOMEBODYS = re.compile(r"/(root|home|Users|tmp|work|opt|usr|var)/|[A-Z]:\\|0x[0-9a-f]{6,}")

each = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook: nbformat.NotebookNode) -> list[Image.Image]:
    shown = [output.get("data", {}).get("image/png") for cell in code(notebook) for output in cell.outputs]
    return [Image.open(io.BytesIO(base64.b64decode(png))) for png in shown if png]


def texts(notebook: nbformat.NotebookNode) -> str:
    found = []
    for cell in code(notebook):
        for output in cell.outputs:
            found += [
                output.get("text", ""),
                *(text for kind, text in output.get("data", {}).items() if "text" in kind),
            ]
    return "\n".join(found)


# ------------------------------------------------------------------------------------------------- what is committed


def test_all_are_there():
    assert [file.name[:2] for file in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@each
def test_carries_what_it_gave_from_top_to_bottom(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert len(pictures(notebook)) >= 3
    assert all(picture.width >= PAGE for picture in pictures(notebook))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not SOMEBODYS.search(texts(notebook)), SOMEBODYS.search(texts(notebook))
    assert file.stat().st_size < LARGEST
    assert clean(deepcopy(notebook)) == notebook  # else another tool wrote it, or it has views of widgets


@each
def test_reads_well(file):
    notebook = nbformat.read(file, as_version=4)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert "You will see" in notebook.cells[0].source
    long = [cell.source for cell in code(notebook) if len(cell.source.splitlines()) > LONGEST_CELL]
    assert not long
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\(([^)#:]+)", cell.source):
                assert (file.parent / link).is_file(), link


def test_what_is_cut_short_is_in_them():
    sources = "\n".join(cell.source for file in NOTEBOOKS for cell in code(nbformat.read(file, as_version=4)))
    assert all(given in sources for given in SHORTER)


@each
def test_ends_with_what_worked_in_numbers_of_its_own_outputs(file):
    notebook = nbformat.read(file, as_version=4)
    last = notebook.cells[-1].source
    assert last.startswith("## What worked\n")
    assert 2 <= last.count("\n- ") <= 4
    said, given = (set(re.findall(r"\d+(?:\.\d+)?", text)) for text in (last, texts(notebook)))
    assert said
    assert not said - given


def test_the_first_cell_is_the_same_in_all_and_has_the_one_address_of_the_repository(monkeypatch):
    first = {code(nbformat.read(file, as_version=4))[0].source for file in NOTEBOOKS}
    assert len(first) == 1
    given = first.pop()
    assert f'\nREPOSITORY = "{REPOSITORY}"  #' in given
    monkeypatch.setitem(sys.modules, "google.colab", None)
    monkeypatch.chdir("/")
    script = TransformerManager().transform_cell(given.replace(f'"{REPOSITORY}"', '""', 1))
    with pytest.raises(AssertionError, match="Write the address of PLRC's git repository"):  # nothing is cloned
        exec(script, {})


# ---------------------------------------------------------------------------------------------------------- they run


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fresh clone has of what notebooks need: no ``runs/``."""
    folder = tmp_path_factory.mktemp("clone")
    for part in ("app", "notebooks", "plrc"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train_ddp.py", folder)
    return folder


@each
def test_runs_from_a_fresh_clone(file, clone):
    stored = nbformat.read(file, as_version=4)
    shorter = deepcopy(stored)
    for cell in code(shorter):
        for given, less in SHORTER.items():
            cell.source = cell.source.replace(given, less)
    nbformat.write(shorter, clone / "notebooks" / file.name)
    fresh = execute(clone / "notebooks" / file.name)  # raises if a cell fails
    assert len(pictures(fresh)) == len(pictures(stored))
    assert str(clone) not in texts(fresh)


# --------------------------------------------------------------------------------------------------------- the widget


@pytest.fixture
def widget() -> Click:
    networks = ["plrc:tiny", "random:resnet18"]
    return Click(Affinity(images=["scenes#12"], checkpoints=networks, size=128, points=[(0.5, 0.5)]))


def ask(widget: Click, *points: tuple[float, float, int]) -> None:
    """What ``model.send`` of the page does."""
    asked = [{"x": x, "y": y, "negative": sign < 0} for x, y, sign in points]
    widget._handle_custom_msg({"points": asked}, [])


def test_a_click_is_answered_by_every_network_with_a_peak_in_its_cell(widget):
    ask(widget, (0.71, 0.62, 1))
    picture, *answers = widget.scene["panels"]
    assert picture["map"] is None
    assert [panel["title"] for panel in answers] == ["plrc:tiny", "random:resnet18"]
    for panel, (h, w) in zip(answers, [(16, 20), (4, 5)], strict=True):
        cells = panel["map"]
        assert (cells["h"], cells["w"], cells["extent"]) == (h, w, [1, 1])
        own = cells["values"][int(0.62 * h) * w + int(0.71 * w)]
        assert own > max(cells["values"]) - 0.05, "the point lies between cells: a neighbour may be as near"
        low, high = min(cells["values"]), max(cells["values"])
        assert re.match(rf"AUC 0...|{low:.2f} to {high:.2f}".replace("-", "−"), panel["caption"])
        assert panel["scale"] == answers[0]["scale"]  # one for all, so that they can be compared
    assert widget.scene["points"] == [pytest.approx({"x": 0.71, "y": 0.62, "negative": False})]


def test_the_feature_maps_that_the_page_lacks_are_sent(widget):
    keys = [panel["key"] for panel in widget.scene["panels"][1:]]
    widget._handle_custom_msg({"lacks": keys[:1]}, [])
    assert list(widget.live) == keys[:1]
    assert (widget.live[keys[0]]["h"], widget.live[keys[0]]["w"]) == (16, 20)


def test_no_network_runs_for_a_click(widget):
    before = widget._session.encoded
    ask(widget, (0.2, 0.3, 1))
    assert widget._session.encoded == before == 2  # an image by two networks


def test_points_are_one_query_that_its_drawing_answers(widget):
    ask(widget, (0.2, 0.3, 1), (0.6, 0.3, 1), (0.9, 0.9, -1))
    assert widget.query.points == (Point(0.2, 0.3), Point(0.6, 0.3))
    assert widget.query.negatives == (Point(0.9, 0.9),)
    assert widget.scene["points"][2] == pytest.approx({"x": 0.9, "y": 0.9, "negative": True})
    assert widget.scene["panels"][1]["scale"]["quantity"] == "positive − negative"
    alone = draw(replace(widget.query, together=True))
    assert widget.drawing.recipe() == alone.recipe()
    widget.query = replace(widget.query, colour_range="full", negatives=())
    assert (widget.drawing.scale.low, widget.drawing.scale.high) == (-1, 1)
    ask(widget)  # all taken back: the object's innermost point stands
    assert widget.query.points == ()
    assert len(widget.scene["points"]) == 1
    with pytest.raises(ValueError, match="one image is clicked, not 2: name one"):
        Click(Affinity(images=["scenes:2"], size=64))


def test_a_picture_stands_beside_the_widget(widget):
    bundle, _ = widget._repr_mimebundle_()
    assert WIDGET in bundle
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).width > 300
    assert repr(widget) == "Click(scenes#12 by plrc:tiny, random:resnet18)"


def test_what_is_written_back_has_the_picture_and_no_view_of_a_kernel_that_is_gone(widget):
    bundle, _ = widget._repr_mimebundle_()
    shown = nbformat.v4.new_output("execute_result", bundle)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("widget", outputs=[shown])])
    notebook.cells.insert(0, nbformat.v4.new_code_cell('REPOSITORY = "an older address"  # …'))
    notebook.metadata["widgets"] = {"state": {}}
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    written = clean(notebook)
    assert written.cells[0].source == f'REPOSITORY = "{REPOSITORY}"  # …'
    assert set(written.cells[1].outputs[0].data) == {"image/png", "text/plain"}
    assert written.metadata == {"language_info": {"name": "python"}}


def test_the_widget_in_a_browser(widget, tmp_path, browser):
    """Its script, with a model that does what Jupyter's does: a click on a panel and the buttons become events."""
    start = """async ([esm, state]) => {
      const blob = URL.createObjectURL(new Blob([esm], {type: "text/javascript"}));
      const {default: {render}} = await import(blob);
      window.sent = []; window.changed = {}; window.state = state;
      const model = {get: (name) => state[name], send: (event) => window.sent.push(event),
                     on: (name, call) => (changed[name] = call), off: (name) => delete changed[name]};
      window.stop = render({model, el: document.body});
    }"""
    page = browser.new_page()
    page.add_style_tag(content=str(Click._css))
    page.evaluate(start, [str(Click._esm), {"scene": widget.scene, "still": widget.still}])
    canvas = page.locator(".plrc-canvas").nth(1)
    page.wait_for_function("document.querySelectorAll('.plrc-canvas[data-drawn]').length === 3")
    box = canvas.bounding_box()
    canvas.click(position={"x": 0.25 * box["width"], "y": 0.75 * box["height"]})
    (point,) = page.evaluate("sent.pop()")["points"]
    assert (point["x"], point["y"]) == pytest.approx((0.25, 0.75), abs=0.01)
    before = int(canvas.get_attribute("data-drawn"))
    ask(widget, (0.9, 0.1, 1))
    page.evaluate("(scene) => { state.scene = scene; changed['change:scene'](); }", widget.scene)
    page.wait_for_function("(n) => document.querySelectorAll('.plrc-canvas')[1].dataset.drawn > n", arg=before)
    assert page.locator(".plrc-caption").nth(1).inner_text() == widget.scene["panels"][1]["caption"]
    page.evaluate("stop()")
    assert page.evaluate("Object.keys(changed).length") == 0
    page.close()
