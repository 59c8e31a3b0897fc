"""The view *Training run*: the curves of a run's log, its affinity maps over training, and how far it is."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from plrc.queries import Run
from plrc.views.run import LEARNT, RunDrawing, RunRecord, affinity_pictures, nearest, open_picture
from plrc.views.session import stamp

from .scenes import data_uri
from .tab import QUIET, Tab, lines, said, used
from .workbench import MOST

_EVERY = 5.0  # seconds between two looks at a log
_DPI = 220  # of the curves: a little more than a column of the page shows
_LAST_FIGURE = 300.0  # seconds that it may take
_THUMBNAILS = 12  # of the affinity maps
_NO_RUN = """<p>There is no training run here yet.</p>
<p><code>make demo</code> trains a small network in a few minutes, into <code>runs/demo</code>;
<code>plrc train --preset demo --out runs/mine</code> trains another one. A run can be followed here while it is still
going: open the list of runs again.</p>"""
_STYLE = """
figure { margin: 0 0 12px; }
figcaption { color: var(--body-text-color); margin-bottom: 4px; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; background: white; border-radius: 6px; }
.sentence { border-left: 4px solid #d55e00; padding-left: 0.7em; }
"""


class RunTab(Tab):
    name, title, kind = "run", "Training run", Run

    def build(self) -> None:
        smooth = gr.Slider(1, 101, 15, step=2, label="Smoothing: mean of so many log lines", render=False)
        told: dict[str, Any] = {"label": "Affinity maps of step", "visible": False, "elem_id": "run-step"}
        # Its true range comes with a run. The least stays 0: a value of before may be under way when another run comes.
        step = gr.Slider(0, 10**9, step=1, **told, render=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                runs = self.control("runs", info=f"Newest first; up to {MOST} in one chart.", max_choices=MOST)
                numbers = gr.HTML(css_template=_STYLE, elem_id="run-numbers")
                follow = gr.Checkbox(label="Follow", info="Look every 5 s whether there is more.", elem_id="run-follow")
                curves = gr.HTML(css_template=_STYLE, elem_id="run-curves")
                self.control("smooth", smooth.render())
            with gr.Column(scale=2, min_width=320):
                self.control("affinity_at", step.render())
                few: dict[str, Any] = {"columns": _THUMBNAILS, "height": 150, "allow_preview": False}
                strip = gr.Gallery(**few, visible=False, label="Steps", elem_id="run-strip")
                images = gr.HTML(css_template=_STYLE, elem_id="run-images")
        learnt = gr.HTML(css_template=_STYLE, elem_id="run-learnt")
        timer = gr.Timer(_EVERY, active=False)
        seen = gr.State(None)  # the stamp of what is shown, see _stamp
        self.outputs = [runs, numbers, curves, step, strip, images, learnt, follow, timer, seen]
        inputs, maps = list(self.controls.values()), [step, strip, images]
        turn = self.answering(self._turn)
        used(runs)(self.answering(self._choose), inputs[:-1], self.outputs, **QUIET)
        smoothed = self.answering(lambda query: _curves(self.drawings(query)[0]))
        smooth.input(smoothed, inputs[:-1], curves, trigger_mode="always_last", **QUIET)
        step.input(turn, inputs, maps, trigger_mode="always_last", **QUIET)
        strip.select(_picked, strip, step, **QUIET).then(turn, inputs, maps, **QUIET)
        follow.input(lambda on: gr.Timer(active=on), follow, timer, **QUIET)
        timer.tick(said(self._look), [seen, *inputs], self.outputs, trigger_mode="once", **QUIET)

    def show(self, query: Run) -> list[Any]:
        """No run stands for the newest; an error is a sentence in the view, as a run that has just begun is awaited."""
        newest = self.bench.runs()[:1]
        if not query.runs and not newest:
            return [gr.skip(), _NO_RUN, *self.nothing[2:]]
        chosen = replace(query, runs=query.runs or tuple(newest))
        seen = None
        try:
            self.bench.check(chosen)
            seen = _stamp(chosen.runs)  # before reading: what comes in between is seen at the next look
            drawn: Any = self.bench.draw(chosen)
            shown = [lines(drawn), _curves(drawn), *_over_training(drawn, query.affinity_at), _learnt(drawn)]
            going = any(map(_goes_on, drawn.records.values()))
        except ValueError as error:
            sentence = f'<p class="sentence" role="alert">{html.escape(str(error))}</p>'
            shown = [sentence, "", gr.Slider(visible=False), gr.Gallery(visible=False), "", ""]
            going = seen is not None  # a log gets its first line
        return [gr.skip() if query.runs else list(chosen.runs), *shown, going, gr.Timer(active=going), seen]

    def _choose(self, query: Run) -> Any:
        if query.runs:
            return self.show(query)
        hidden = [gr.Slider(visible=False), gr.Gallery(visible=False), "", "", False, gr.Timer(active=False), None]
        return [gr.skip(), "<p>Choose a run.</p>", "", *hidden]

    def _turn(self, query: Run) -> list[Any]:
        return _over_training(self.drawings(query)[0], query.affinity_at or 1)  # the least is the oldest here

    def _look(self, seen: tuple[Any, ...] | None, *values: Any) -> Any:
        """What has come since; nothing is sent if that is nothing."""
        query = self.query(values)
        self.bench.check(query)
        if not query.runs or _stamp(query.runs) == seen:
            return gr.skip()
        was_newest = seen is None or (query.affinity_at or 0) >= max(newest for *_, newest in seen)
        return self.show(replace(query, affinity_at=None) if was_newest else query)


def _picked(event: gr.SelectData, shown: list[Any]) -> int:
    """The step of a thumbnail."""
    return int(shown[event.index][1])


def _stamp(runs: Sequence[str]) -> tuple[Any, ...]:
    """What changes when there is more to show, for each run: its log, its last figure, its newest affinity maps."""
    return tuple(
        (stamp(run / "log.jsonl"), stamp(run / LEARNT), max(affinity_pictures(run), default=0))
        for run in map(Path, runs)
    )


def _goes_on(record: RunRecord) -> bool:
    """Whether there will be more to show: after its last step a run draws a last figure."""
    return not record.finished or (record.learnt is None and time.time() - record.written < _LAST_FIGURE)


def _curves(drawn: RunDrawing) -> str:
    return _figure("", f"Training curves of {', '.join(drawn.records)}", drawn.figure, dpi=_DPI)


def _over_training(drawn: RunDrawing, at: int | None) -> list[Any]:
    """The slider over steps, thumbnails of the first run that has affinity maps, and each run's maps nearest to a step
    (None: the newest)."""
    having = {name: record.pictures for name, record in drawn.records.items() if record.pictures}
    every = sorted({step for of in having.values() for step in of})
    if not every:
        nothing = "There are no affinity maps: a run draws them every --picture-every steps."
        return [gr.Slider(visible=False), gr.Gallery(visible=False), nothing]
    at = nearest(every, at) if at else every[-1]
    first = next(iter(having.values()))
    chosen = sorted({list(first)[round(i * (len(first) - 1) / (_THUMBNAILS - 1))] for i in range(_THUMBNAILS)})
    figures = ""
    for name, of in having.items():
        step = nearest(of, at)
        figures += _figure(f"{name}, step {step}", f"affinity maps of {name} at step {step}", _opened(of[step]))
    return [
        gr.Slider(0, max(every[-1], 1), step=math.gcd(*every) or 1, value=at, visible=len(every) > 1),
        gr.Gallery([(_opened(first[step], 130), str(step)) for step in chosen], visible=len(chosen) > 1),
        figures,
    ]


def _learnt(drawn: RunDrawing) -> str:
    """The last figure of each run that has drawn it."""
    having = {name: record.learnt for name, record in drawn.records.items() if record.learnt}
    told = "a point's affinity, before and after training"
    return "".join(_figure(f"{name}, before and after", f"{name}: {told}", _opened(f)) for name, f in having.items())


def _opened(file: Path, longest: int = 4096) -> Image.Image:
    rgba = open_picture(file)
    rgba.thumbnail((longest, longest))
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    return white.convert("RGB")


def _figure(caption: str, alt: str, picture: Any, **how: Any) -> str:
    caption, alt, src = html.escape(caption), html.escape(alt), data_uri(picture, "png", **how)
    return f'<figure tabindex="0"><figcaption>{caption}</figcaption><img src="{src}" alt="{alt}"></figure>'
