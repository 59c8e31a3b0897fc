"""The tab "Training run": the curves of a run's log, its affinity pictures over training, and how far it is."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from app.errors import said
from app.tab import Tab
from plrc.views.run import RunDrawing, draw_run, duration
from plrc.views.run_folder import affinity_pictures, named, nearest

if TYPE_CHECKING:
    from app.workbench import Workbench

_MOST = 3  # runs at once
_EVERY = 5.0  # seconds between two looks at a log
_DPI = 220  # of the curves: a little more than a column of the page shows
_THUMBNAILS, _THUMBNAIL = 12, (96, 130)  # how many of the affinity pictures, and the most pixels of one

_NO_RUN = """<div class="plrc-run"><p>There is no training run here yet.</p>
<p><code>make demo</code> trains a small network in a few minutes, into <code>runs/demo</code>;
<code>python train_ddp.py --preset demo --out runs/mine</code> trains another one. Then start the app again: a run can
be followed here while it is still going.</p></div>"""

_STYLE = """
.plrc-run { color: var(--body-text-color, #1f2937); line-height: 1.45; }
.plrc-run ul { margin: 0; padding-left: 1.2em; }
.plrc-run li { margin: 0.15em 0; }
.plrc-run .sentence { border-left: 4px solid #d55e00; padding-left: 0.7em; }
"""

_STRIP_STYLE = """
.strip { position: relative; display: flex; gap: 6px; overflow-x: auto; padding: 4px; }
.strip button { flex: none; padding: 2px; border: 2px solid transparent; border-radius: 6px; cursor: pointer;
  background: none; color: var(--body-text-color, #1f2937); font-size: 12px; }
.strip button[aria-pressed="true"] { border-color: var(--body-text-color, #1f2937); font-weight: bold; }
.strip button:focus-visible { outline: 3px solid #0072b2; outline-offset: 1px; }
.strip img { display: block; width: 72px; background: white; }
"""

_PICTURES_STYLE = """
.pictures { display: flex; flex-wrap: wrap; gap: 12px; }
.pictures figure { margin: 0; max-width: 100%; }
.pictures figcaption { color: var(--body-text-color, #1f2937); margin-bottom: 4px; overflow-wrap: anywhere; }
.pictures img { display: block; max-width: 100%; background: white; }
@media (max-width: 640px) { .pictures { margin: 0 -12px; } }
"""

# The age of a log grows in the page by itself: the server sends nothing while nothing changes.
_AGES = """
const words = (s) => s < 60 ? `${Math.round(s)} s` : s < 3600 ? `${Math.floor(s / 60)} min`
  : s < 86400 ? `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min` : `${Math.floor(s / 86400)} d`;
const timer = setInterval(() => {
  if (!element.isConnected) return clearInterval(timer);
  for (const span of element.querySelectorAll("[data-age]")) {
    if (!span.dataset.seen) span.dataset.seen = performance.now();
    span.textContent = words(Number(span.dataset.age) + (performance.now() - Number(span.dataset.seen)) / 1000);
  }
}, 1000);
"""

# One listener on the element, which stays while the strip in it changes.
_PICK = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-step]");
  if (button) { props.value = Number(button.dataset.step); trigger("select"); }
});
watch(["strip"], () => requestAnimationFrame(() => {
  const now = element.querySelector('[aria-pressed="true"]');
  if (now) now.parentElement.scrollLeft = now.offsetLeft + now.offsetWidth / 2 - now.parentElement.clientWidth / 2;
}));
"""


def build(bench: Workbench) -> Tab:
    """Lay out the tab and wire its events; to be called inside ``gr.Tab``."""
    offered = [str(run) for run in bench.runs]
    gr.HTML(_NO_RUN, css_template=_STYLE, visible=not offered)
    with gr.Row(visible=bool(offered), equal_height=False):
        with gr.Column(min_width=320):
            runs = gr.Dropdown(
                offered, value=[], multiselect=True, max_choices=_MOST, label="Runs",
                info=f"newest first; up to {_MOST} in one chart", elem_id="training-runs",
            )  # fmt: skip
            numbers = gr.HTML(css_template=_STYLE, js_on_load=_AGES, elem_id="training-numbers")
            follow = gr.Checkbox(
                label="Follow", value=False, elem_id="training-follow", info="look every 5 s whether there is more"
            )
            curves = gr.HTML(css_template=_PICTURES_STYLE, elem_id="training-curves")
            smooth = gr.Slider(
                1, 101, value=15, step=2, label="Smoothing: mean of so many log lines", elem_id="training-smooth"
            )
        with gr.Column(min_width=320):
            # Its true range comes with a run; 0 stands for the newest picture. A link may carry any step.
            step = gr.Slider(
                0, 10**9, value=0, step=1, label="Affinity picture of step", visible=False, elem_id="training-step"
            )
            strip = gr.HTML(
                html_template='${typeof strip === "undefined" ? "" : strip}',  # none yet, while its tab was not open
                strip="",
                css_template=_STRIP_STYLE,
                js_on_load=_PICK,
                elem_id="training-strip",
            )
            pictures = gr.HTML(css_template=_PICTURES_STYLE, elem_id="training-pictures")
    timer = gr.Timer(_EVERY, active=False)
    seen = gr.State(None)  # the stamp of what is shown, see _stamp
    outputs = [runs, numbers, curves, step, strip, pictures, follow, timer, seen]

    def drawing(runs: Sequence[str], smooth: int, affinity_at: int) -> RunDrawing:
        return draw_run(_checked(bench, runs), int(smooth), int(affinity_at) or None)

    def show(runs: Sequence[str], smooth: int, affinity_at: int) -> list[Any]:
        """All outputs, for the values of the fields: no run stands for the newest, and an error is a sentence."""
        chosen = list(runs) or offered[:1]
        stamp = None
        try:
            stamp = _stamp(_checked(bench, chosen))  # before reading: what comes in between is seen at the next look
            drawn = drawing(chosen, smooth, affinity_at)
            pictures = {name: record.pictures for name, record in drawn.records.items()}
            shown = [_numbers(drawn), _curves(drawn), *_over_training(pictures, affinity_at)]
            going = not all(record.finished for record in drawn.records.values())
        except ValueError as error:
            sentence = f'<div class="plrc-run"><p class="sentence" role="alert">{html.escape(str(error))}</p></div>'
            shown = [sentence, "", gr.Slider(visible=False), gr.HTML(strip=""), ""]
            going = stamp is not None  # a log gets its first line
        return [gr.skip() if runs else chosen, *shown, going, gr.Timer(active=going), stamp]

    def choose(runs: Sequence[str], smooth: int) -> Any:
        return show(runs, smooth, 0) if runs else gr.skip()  # none, before another is chosen

    def turn(runs: Sequence[str], affinity_at: int) -> list[Any]:
        folders = named(_checked(bench, runs))
        return _over_training({name: affinity_pictures(Path(run)) for name, run in folders.items()}, affinity_at)

    def redraw(runs: Sequence[str], smooth: int) -> str:
        return _curves(drawing(runs, smooth, 0))

    def look(runs: Sequence[str], smooth: int, affinity_at: int, stamp: tuple[Any, ...] | None) -> Any:
        """What has come since; nothing is sent if that is nothing."""
        if not runs or _stamp(_checked(bench, runs)) == stamp:
            return gr.skip()
        was_newest = stamp is None or affinity_at >= max(newest for *_, newest in stamp)
        return show(runs, smooth, 0 if was_newest else affinity_at)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    runs.input(said(choose), [runs, smooth], outputs, **quiet)
    smooth.input(said(redraw), [runs, smooth], curves, trigger_mode="always_last", **quiet)
    step.input(said(turn), [runs, step], [step, strip, pictures], trigger_mode="always_last", **quiet)
    strip.select(said(turn), [runs, strip], [step, strip, pictures], **quiet)
    follow.input(lambda on: gr.Timer(active=on), follow, timer, **quiet)
    timer.tick(said(look), [runs, smooth, step, seen], outputs, trigger_mode="once", **quiet)
    return Tab("training", {"runs": runs, "smooth": smooth, "affinity_at": step}, drawing, show, outputs)


def _checked(bench: Workbench, runs: Sequence[str]) -> list[str]:
    """The runs, if they are among those offered: the page may be told to ask for anything."""
    if not runs:
        raise ValueError("choose a run to see its curves")
    if len(runs) > _MOST:
        raise ValueError(f"choose at most {_MOST} runs, not {len(runs)}")
    bench.check(runs=runs)
    return list(runs)


def _stamp(runs: Sequence[str]) -> tuple[Any, ...]:
    """What changes when there is more to show, for each run: its log's time and size, its newest affinity picture."""
    found = []
    for run in runs:
        try:
            log = Path(run, "log.jsonl").stat()
            of_log = (log.st_mtime_ns, log.st_size)
        except OSError:  # it is not there yet
            of_log = (0, 0)
        found.append((*of_log, max(affinity_pictures(Path(run)), default=0)))
    return tuple(found)


def _curves(drawn: RunDrawing) -> str:
    buffer = io.BytesIO()
    drawn.figure.savefig(buffer, format="png", dpi=_DPI)
    alt = html.escape(f"Training curves of {', '.join(drawn.records)}")
    return f'<div class="pictures"><img src="{_data_uri(buffer.getvalue(), "png")}" alt="{alt}"></div>'


def _numbers(drawn: RunDrawing) -> str:
    """The lines, and the age of the log of a run that is not finished."""
    items = [html.escape(line) for line in drawn.lines]
    for name, record in drawn.records.items():
        if not record.finished:
            of = f"{html.escape(name)}: its" if len(drawn.records) > 1 else "its"
            items.append(f'{of} last line is <span data-age="{record.age:.0f}">{duration(record.age)}</span> old')
    return f'<div class="plrc-run"><ul>{"".join(f"<li>{item}</li>" for item in items)}</ul></div>'


def _over_training(pictures: Mapping[str, Mapping[int, Path]], at: int) -> list[Any]:
    """The slider over steps, the strip of the first run that has pictures, and each run's picture nearest to a step.

    Args:
        pictures: name of a run → step → file. at: the step; 0 for the newest.
    """
    every = sorted({step for of in pictures.values() for step in of})
    if not every:
        nothing = "There is no affinity picture yet: a run draws one every --picture-every steps."
        return [gr.Slider(visible=False), gr.HTML(strip=""), f'<div class="plrc-run">{nothing}</div>']
    at = nearest(every, at) if at else every[-1]
    slider = gr.Slider(
        minimum=every[0],
        maximum=max(every[-1], every[0] + 1),  # a slider has a range, also where it is not seen
        step=math.gcd(*(step - every[0] for step in every)) or 1,
        value=at,
        visible=len(every) > 1,
    )
    having = {name: of for name, of in pictures.items() if of}
    first = next(iter(having.values()))
    chosen = sorted({list(first)[round(i * (len(first) - 1) / (_THUMBNAILS - 1))] for i in range(_THUMBNAILS)})
    current = nearest(chosen, at)
    buttons = [
        f'<button type="button" data-step="{step}" aria-pressed="{str(step == current).lower()}">'
        f'<img src="{_thumbnail(first[step])}" alt="">{step}</button>'
        for step in chosen
    ]
    shown = [_captioned(name, nearest(of, at), of[nearest(of, at)]) for name, of in having.items()]
    bar = f'<div class="strip" role="group" aria-label="steps">{"".join(buttons)}</div>' if len(chosen) > 1 else ""
    return [slider, gr.HTML(strip=bar), f'<div class="pictures">{"".join(shown)}</div>']


def _captioned(name: str, step: int, file: Path) -> str:
    name = html.escape(name)
    source = _data_uri(file.read_bytes(), "png")
    alt = f"affinity maps of {name} at step {step}"
    return f'<figure><figcaption>{name}, step {step}</figcaption><img src="{source}" alt="{alt}"></figure>'


def _thumbnail(file: Path) -> str:
    return _small(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=200)
def _small(file: Path, _written: int) -> str:
    try:
        with Image.open(file) as picture:
            rgba = picture.convert("RGBA")
    except OSError as error:
        raise ValueError(f"{file} is no picture ({error}): remove it, the run draws others") from error
    small = Image.new("RGB", rgba.size, "white")
    small.paste(rgba, mask=rgba)
    small.thumbnail(_THUMBNAIL)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=90)
    return _data_uri(buffer.getvalue(), "jpeg")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
