"""The tab "Training run": what it shows of a run, follows, refuses, and gives to link and export."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import yaml
from PIL import Image

from app import training
from app.tab import Tab
from app.workbench import Workbench

NAMES = ["runs", "numbers", "curves", "step", "strip", "pictures", "follow", "timer", "seen"]


def line(step: int) -> str:
    values = {"step": step, "epoch": step / 40, "image": 5 - step / 100, "point": 4.0, "affinity": 2.0}
    return json.dumps(values | {"lr": 1e-3, "images_per_second": 64.0, "data_wait": 0.25, "memory_mib": 100}) + "\n"


def picture(folder: Path, step: int) -> None:
    (folder / "figures").mkdir(exist_ok=True)
    Image.new("RGBA", (40, 60), (step % 256, 0, 0, 255)).save(folder / "figures" / f"affinity_{step:07d}.png")


class Page:
    """The tab alone on a page; its events by the names of what they show."""

    def __init__(self, runs: Path) -> None:
        self.bench = Workbench(["random:tiny"], runs=runs, megabytes=1)
        with gr.Blocks() as self.blocks:
            self.tab: Tab = training.build(self.bench)

    def event(self, kind: str, source: gr.components.Component | None = None) -> Callable[..., Any]:
        (found,) = [
            fn.fn
            for fn in self.blocks.fns.values()
            for target, name in fn.targets
            if name == kind and (source is None or target == source._id)
        ]
        assert found is not None
        return found

    def show(self, runs: Sequence[Path] = (), smooth: int = 15, at: int = 0) -> dict[str, Any]:
        return dict(zip(NAMES, self.tab.show([str(run) for run in runs], smooth, at), strict=True))

    def tick(self, runs: Sequence[Path], at: int, seen: Any) -> dict[str, Any] | None:
        updates = self.event("tick")([str(run) for run in runs], 15, at, seen)
        return dict(zip(NAMES, updates, strict=True)) if isinstance(updates, list) else None


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run that is going on, ``new``, and one that is finished, ``old``."""
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


def shown_steps(html: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", html)


def test_it_opens_with_the_newest_run_and_follows_it_while_it_is_going(runs: Path) -> None:
    page = Page(runs)
    shown = page.show()
    assert shown["runs"] == [str(runs / "new")]
    assert "step 20 of 400, 5%" in shown["numbers"]
    assert "data-age=" in shown["numbers"]
    assert shown["curves"].startswith('<div class="pictures"><img src="data:image/png;base64,')
    assert shown["follow"] is True
    assert shown["timer"].active
    old = page.show([runs / "old"])
    assert "finished: 400 steps, 10 epochs" in old["numbers"]
    assert "data-age=" not in old["numbers"]
    assert old["follow"] is False
    assert not old["timer"].active


def test_following_sees_a_line_appended_and_sends_nothing_else(runs: Path) -> None:
    page, new = Page(runs), runs / "new"
    seen = page.show([new])["seen"]
    assert page.tick([new], 200, seen) is None
    with (new / "log.jsonl").open("a") as log:
        log.write(line(30))
    shown = page.tick([new], 200, seen)
    assert shown is not None
    assert "step 30 of 400" in shown["numbers"]
    assert page.tick([new], 200, shown["seen"]) is None
    with (new / "log.jsonl").open("a") as log:
        log.write('{"step": 40')  # half a line
    half = page.tick([new], 200, shown["seen"])
    assert half is not None
    assert "step 30 of 400" in half["numbers"]
    (new / "log.jsonl").write_text("".join(map(line, range(40, 440, 40))))
    last = page.tick([new], 200, half["seen"])
    assert last is not None
    assert "finished" in last["numbers"]
    assert last["follow"] is False
    assert not last["timer"].active
    assert page.tick([], 0, None) is None


def test_a_new_picture_comes_into_view_unless_an_older_one_is_looked_at(runs: Path) -> None:
    page, new = Page(runs), runs / "new"
    picture(new, 400)
    seen = page.show([new])["seen"]
    picture(new, 600)
    newest, older = page.tick([new], 400, seen), page.tick([new], 200, seen)
    assert newest is not None
    assert older is not None
    assert shown_steps(newest["pictures"]) == ["new, step 600"]
    assert newest["step"].value == 600
    assert shown_steps(older["pictures"]) == ["new, step 200"]


def test_pictures_of_a_step_side_by_side_with_strip_and_slider(runs: Path) -> None:
    page, both = Page(runs), [runs / "old", runs / "new"]
    shown = page.show(both)
    assert shown_steps(shown["pictures"]) == ["old, step 400", "new, step 200"]
    assert (shown["step"].minimum, shown["step"].maximum, shown["step"].step) == (200, 400, 200)
    pressed = re.findall(r'data-step="(\d+)" aria-pressed="(\w+)"', shown["strip"].props["strip"])
    assert pressed == [("200", "false"), ("400", "true")]
    slider, _, pictures = page.event("input", page.tab.fields["affinity_at"])([str(run) for run in both], 260)
    assert shown_steps(pictures) == ["old, step 200", "new, step 200"]
    assert slider.value == 200
    bare = runs / "bare"
    bare.mkdir()
    (bare / "log.jsonl").write_text(line(10))
    page = Page(runs)
    nothing = page.show([bare])
    assert "no affinity picture yet" in nothing["pictures"]
    assert nothing["step"].visible is False


def test_many_pictures_become_a_short_strip(runs: Path) -> None:
    for step in range(100, 5000, 100):
        picture(runs / "old", step)
    strip = Page(runs).show([runs / "old"], at=2500)["strip"].props["strip"]
    steps = [int(step) for step in re.findall(r'data-step="(\d+)"', strip)]
    assert len(steps) == 12
    assert (steps[0], steps[-1]) == (100, 4900)
    assert strip.count('aria-pressed="true"') == 1


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
    assert "step 10" in begun["numbers"]


def test_only_runs_that_are_offered_can_be_asked_for(runs: Path, tmp_path: Path) -> None:
    page = Page(runs)
    other = runs / "elsewhere" / "run"
    other.mkdir(parents=True)
    (other / "log.jsonl").write_text(line(10))
    for asked in (other, runs / "old" / ".." / "elsewhere" / "run"):
        with pytest.raises(ValueError, match="run is no run that is offered here"):
            page.tab.drawing([str(asked)], 15, 0)
        assert "no run that is offered here" in page.show([asked])["numbers"]
        assert not page.show([asked])["timer"].active
        with pytest.raises(gr.Error, match="offered here"):
            page.event("input", page.tab.fields["affinity_at"])([str(asked)], 0)
        with pytest.raises(gr.Error, match="offered here"):
            page.tick([asked], 0, None)
    with pytest.raises(ValueError, match="choose at most 3 runs, not 4"):
        page.tab.drawing([str(runs / "old")] * 4, 15, 0)
    with pytest.raises(ValueError, match="choose a run"):
        page.tab.drawing([], 15, 0)


def test_link_and_export_get_what_is_seen(runs: Path) -> None:
    page = Page(runs)
    assert list(page.tab.fields) == ["runs", "smooth", "affinity_at"]
    drawn = page.tab.drawing([str(runs / "old")], 3, 200)
    assert drawn.kind == "run"
    assert drawn.parameters == {"runs": [str(runs / "old")], "smooth": 3, "affinity_at": 200}
    assert "old affinity at step 200" in drawn.arrays
    assert "odd number of log lines" in page.show([runs / "old"], smooth=4)["numbers"]
    assert shown_steps(page.show([runs / "old"], at=200)["pictures"]) == ["old, step 200"]


def test_names_are_text_in_the_page(runs: Path) -> None:
    odd = (runs / "new").rename(runs / "<img src=x onerror=alert(1)>")
    (runs / "old").rename(runs / "a&b")
    shown = Page(runs).show([odd, runs / "a&b"])
    for part in ("numbers", "curves", "pictures"):
        assert "<img src=x" not in shown[part]
        assert "a&amp;b" in shown[part]


def test_without_a_run_it_says_how_to_start_one(tmp_path: Path) -> None:
    page = Page(tmp_path)
    said = [block for block in page.blocks.blocks.values() if isinstance(block, gr.HTML) and block.visible]
    assert any("make demo" in str(block.value) for block in said)
    assert "choose a run" in page.show()["numbers"]
