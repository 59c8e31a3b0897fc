"""The view *Training run*: what it shows of a run, follows, refuses, and gives to link and export."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import yaml
from PIL import Image

from app.run import RunTab
from app.workbench import Workbench
from plrc.queries import Run
from tests.app.conftest import handler

NAMES = ["runs", "numbers", "curves", "step", "strip", "images", "learnt", "follow", "timer", "seen"]


def line(step: int) -> str:
    values = {"step": step, "epoch": step / 40, "image": 5 - step / 100, "point": 4.0, "affinity": 2.0}
    return json.dumps(values | {"lr": 1e-3, "images_per_second": 64.0, "data_wait": 0.25, "memory_mib": 100}) + "\n"


def picture(folder: Path, step: int) -> None:
    (folder / "figures").mkdir(exist_ok=True)
    Image.new("RGBA", (40, 60), (step % 256, 0, 0, 255)).save(folder / "figures" / f"affinity_{step:07d}.png")


class Page:
    """The tab alone on a page; its events by the names of what they show."""

    def __init__(self, runs: Path) -> None:
        with gr.Blocks() as self.blocks:
            self.tab = RunTab(Workbench(["random:tiny"], runs=runs, megabytes=1))

    def show(self, runs: Sequence[Path] = (), **how: Any) -> dict[str, Any]:
        return dict(zip(NAMES, self.tab.show(Run(runs=tuple(map(str, runs)), **how)), strict=True))

    def tick(self, runs: Sequence[Path], at: int, seen: Any) -> dict[str, Any] | None:
        updates = handler(self.blocks, "tick")(seen, *self.values(runs, at))
        return dict(zip(NAMES, updates, strict=True)) if isinstance(updates, list) else None

    def values(self, runs: Sequence[Path], at: int) -> list[Any]:
        return self.tab.values(Run(runs=tuple(map(str, runs)), affinity_at=at))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that is going on, ``new``, and one that is finished, ``old``."""
    monkeypatch.setattr("app.run._DPI", 30)  # soon drawn
    for name, steps, written in (("old", range(40, 440, 40), 1_700_000_000), ("new", (10, 20), 1_800_000_000)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "log.jsonl").write_text("".join(map(line, steps)))
        os.utime(folder / "log.jsonl", (written, written))
        settings = {"epochs": 10, "batch_size": 32, "weight_image": 1.0, "weight_point": 1.0, "weight_affinity": 1.0}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        picture(folder, 200)
    picture(tmp_path / "old", 400)
    return tmp_path


def captions(html: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", html)


def test_it_opens_with_the_newest_run_and_follows_it_while_it_is_going(runs: Path) -> None:
    page = Page(runs)
    shown = page.show()
    assert shown["runs"] == [str(runs / "new")]
    assert "20 of 400 (5%)" in shown["numbers"]
    assert '<img src="data:image/png;base64,' in shown["curves"]
    assert shown["follow"] is True
    assert shown["timer"].active
    old = page.show([runs / "old"])
    assert "400 steps, 10 epochs" in old["numbers"]
    assert old["follow"] is False
    assert not old["timer"].active


def test_following_sees_a_line_appended_and_sends_nothing_else(runs: Path) -> None:
    page, new = Page(runs), runs / "new"
    seen = page.show([new])["seen"]
    begun = (new / "log.jsonl").read_text()
    for text, told in (
        (begun + line(30), "30 of 400"),
        (begun + line(30) + '{"step": 40', "30 of 400"),  # half a line
        ("".join(map(line, range(40, 440, 40))), "finished"),
    ):
        assert page.tick([new], 200, seen) is None
        (new / "log.jsonl").write_text(text)
        last = page.tick([new], 200, seen)
        assert last is not None
        assert told in last["numbers"]
        seen = last["seen"]
    assert [last["follow"], last["learnt"]] == [True, ""], "it draws a last figure"
    Image.new("RGB", (40, 60)).save(new / "figures" / "before_after.png")
    last = page.tick([new], 200, seen)
    assert last is not None
    assert captions(last["learnt"]) == [f"{new.name}, before and after"]
    assert last["follow"] is False
    assert not last["timer"].active
    assert page.tick([], 0, None) is None


def test_new_maps_come_into_view_unless_older_ones_are_looked_at(runs: Path) -> None:
    page, new = Page(runs), runs / "new"
    picture(new, 400)
    seen = page.show([new])["seen"]
    picture(new, 600)
    newest, older = page.tick([new], 400, seen), page.tick([new], 200, seen)
    assert newest is not None
    assert older is not None
    assert captions(newest["images"]) == ["new, step 600"]
    assert newest["step"].value == 600
    assert captions(older["images"]) == ["new, step 200"]


def test_maps_of_a_step_side_by_side_with_slider_and_thumbnails(runs: Path) -> None:
    page, both = Page(runs), [runs / "old", runs / "new"]
    shown = page.show(both)
    assert captions(shown["images"]) == ["old, step 400", "new, step 200"]
    assert (shown["step"].minimum, shown["step"].maximum, shown["step"].step) == (0, 400, 200)
    slider, _, images = handler(page.blocks, "input", "run-step")(*page.values(both, 260))
    assert captions(images) == ["old, step 200", "new, step 200"]
    assert slider.value == 200
    for step in range(100, 5000, 100):
        picture(runs / "old", step)
    steps = [int(item["caption"]) for item in page.show([runs / "old"])["strip"].value]
    assert len(steps) == 12
    assert (steps[0], steps[-1]) == (100, 4900)
    (runs / "bare").mkdir()
    (runs / "bare" / "log.jsonl").write_text(line(10))
    nothing = page.show([runs / "bare"])  # it came after the page was built
    assert "There are no affinity maps" in nothing["images"]
    assert nothing["step"].visible is False


def test_a_run_that_has_just_begun_is_waited_for(runs: Path) -> None:
    new = runs / "new"
    (new / "log.jsonl").write_text("")
    page = Page(runs)
    shown = page.show([new])
    assert "has no line that can be read" in shown["numbers"]
    assert 'role="alert"' in shown["numbers"]
    assert shown["curves"] == ""
    assert shown["timer"].active
    assert page.tick([new], 0, shown["seen"]) is None
    (new / "log.jsonl").write_text(line(10))
    begun = page.tick([new], 0, shown["seen"])
    assert begun is not None
    assert "10 of" in begun["numbers"]


def test_only_runs_that_are_offered_can_be_asked_for(runs: Path) -> None:
    page = Page(runs)
    other = runs / "elsewhere" / "run"
    other.mkdir(parents=True)
    (other / "log.jsonl").write_text(line(10))
    for asked in (other, runs / "old" / ".." / "elsewhere" / "run"):
        with pytest.raises(ValueError, match="not offered here"):
            page.tab.drawings(Run(runs=(str(asked),)))
        assert "not offered here" in page.show([asked])["numbers"]
        assert not page.show([asked])["timer"].active
        with pytest.raises(gr.Error, match="offered here"):
            handler(page.blocks, "input", "run-step")(*page.values([asked], 0))
        with pytest.raises(gr.Error, match="offered here"):
            page.tick([asked], 0, None)
    with pytest.raises(ValueError, match="choose at most 3 runs, not 4"):
        page.tab.drawings(Run(runs=(str(runs / "old"),) * 4))
    with pytest.raises(ValueError, match="name a run folder"):
        page.tab.drawings(Run())


def test_link_and_export_get_what_is_seen_and_names_are_text(runs: Path) -> None:
    page = Page(runs)
    query = Run(runs=(str(runs / "old"),), smooth=3, affinity_at=200)
    assert page.tab.query(page.tab.values(query)) == query
    (drawn,) = page.tab.drawings(query)
    assert "old affinity at step 200" in drawn.arrays
    assert captions(page.show([runs / "old"], affinity_at=200)["images"]) == ["old, step 200"]
    odd = (runs / "new").rename(runs / "<img src=x onerror=alert(1)>")
    shown = page.show([odd, runs / "old"])
    for part in ("numbers", "curves", "images"):
        assert "<img src=x" not in shown[part]


def test_without_a_run_it_says_how_to_start_one(tmp_path: Path) -> None:
    assert "make demo" in Page(tmp_path).show()["numbers"]
