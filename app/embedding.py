"""The view *Embedding*: points, regions or images as dots, by up to three networks; what is marked there, and where."""

from __future__ import annotations

import html
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import LocalContext

from app.choosers import LAST, MOST, SIZES, checkpoint_chooser, kept_layer, layers_of
from app.errors import said
from app.scatter_scene import scene_of
from app.tab import Tab
from app.viewer import showing, viewer
from app.workbench import Workbench
from plrc.views import Drawing, EmbeddingDrawing, draw_embedding, list_pictures
from plrc.views.pictures import SAMPLES

SCENES, PHOTOGRAPHS = "scenes", "photographs"  # sets of pictures; others are folders
METHODS = {"t-SNE": "tsne", "PCA": "pca"}
MOST_PICTURES = 200
_KEPT = 4  # drawings: what is exported is what is seen, without drawing it again


class Stopped(Exception):
    """The user does not want to wait for it any more."""


def build(bench: Workbench) -> Tab:
    """The view's controls and viewer, to be called inside a ``gr.Tab``."""
    sets = [("drawn scenes, objects known", SCENES), ("two photographs", PHOTOGRAPHS)]
    sets += [(str(folder), str(folder)) for folder in bench.folders]
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            pictures = gr.Dropdown(
                sets, value=SCENES, label="Pictures", info="A folder: --images at the start.", allow_custom_value=True
            )
            most = gr.Slider(2, MOST_PICTURES, 60, step=1, label="Number of pictures", info="Evenly spread over all.")
        with gr.Column(scale=2, min_width=320):
            checkpoints = checkpoint_chooser(bench)
            with gr.Row():
                of = gr.Radio(
                    ["points", "regions", "images"],
                    value="regions",
                    label="What is a dot",
                    info="A cell of the map; the mean feature of a region, or of all of an image.",
                    min_width=260,
                )
                method = gr.Radio(
                    list(METHODS),
                    value="t-SNE",
                    label="Method",
                    info="t-SNE keeps neighbours together; PCA keeps distances.",
                    min_width=220,
                )
    with gr.Accordion("More: regions, points, perplexity, clusters, layer, size, seed", open=False), gr.Row():
        regions = gr.Dropdown(
            ["objects", "grid:2", "grid:4", "grid:8", "superpixels:16", "superpixels:36"],
            value="objects",
            label="Regions",
            info="objects: where they are known; grid:4: 4 × 4 parts of any picture.",
            allow_custom_value=True,
            min_width=220,
        )
        per_picture = gr.Slider(1, 64, 16, step=1, label="Points of each picture", info="Drawn at random.")
        perplexity = gr.Slider(2, 100, 30, step=1, label="Perplexity", info="About how many neighbours count in t-SNE.")
        clusters = gr.Slider(0, 16, 8, step=1, label="Clusters", info="By k-means of the features; a way to colour.")
        layer = gr.Dropdown(
            layers_of(bench, bench.shown),
            value=LAST,
            label="Layer or head",
            info="Of all checkpoints.",
            allow_custom_value=True,
        )
        size = gr.Dropdown(SIZES, value=224, label="Input size", info="Short side, pixels that the network sees.")
        seed = gr.Number(0, precision=0, minimum=0, label="Seed", info="Of the points, and of where t-SNE starts.")
    with gr.Row():
        draw = gr.Button("Draw", variant="primary", scale=0, min_width=160, elem_id="embedding-draw")
        stop = gr.Button("Stop", scale=0, min_width=120, elem_id="embedding-stop")
    dots = viewer("scatter", "embedding-dots", {"note": "Draw takes a few seconds."})
    numbers = gr.HTML(elem_id="embedding-numbers", apply_default_css=False)
    colour = gr.Textbox("class", visible="hidden")

    fields: dict[str, Component] = {
        "pictures": pictures,
        "most": most,
        "checkpoints": checkpoints,
        "of": of,
        "method": method,
        "regions": regions,
        "per_picture": per_picture,
        "perplexity": perplexity,
        "clusters": clusters,
        "layer": layer,
        "size": size,
        "seed": seed,
        "colour": colour,
    }
    outputs: list[Component] = [dots, numbers]
    controls = list(fields.values())
    runs, kept = Runs(), Kept()

    def drawing(**state: Any) -> EmbeddingDrawing:
        del state["colour"]  # of the page alone: a figure is coloured by class
        found = kept.get(state)
        if found is None:  # not what is seen
            raise ValueError("the controls were changed since: press Draw first, to export what is seen")
        return found

    def drawn(state: dict[str, Any]) -> EmbeddingDrawing:
        found = _draw(bench, runs.progress(), **state)
        kept.put(state, found)
        return found

    @said
    def show(*values: Any, anew: bool = False) -> list[Any]:
        state = dict(zip(fields, values, strict=True))
        chosen = state.pop("colour")
        try:
            with runs.one():
                found = (None if anew else kept.get(state)) or drawn(state)
        except Stopped:
            return [gr.skip(), gr.skip()]
        return [showing(scene_of(found, chosen, bench.session)), _lines(found)]

    def redraw(*values: Any) -> list[Any]:
        return show(*values, anew=True)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
    # A run at a time: two would share the cores, and t-SNE's steps are told to one listener only.
    running = draw.click(
        redraw, controls, outputs, show_progress_on=dots, api_visibility="private", concurrency_limit=1
    )
    stop.click(lambda: gr.Info("Stopped." if runs.stop() else "Nothing is being drawn."), cancels=running, **quiet)
    dots.select(lambda event: _colour(event), dots, colour, **quiet)
    checkpoints.input(partial(kept_layer, bench), [checkpoints, layer], layer, **quiet)
    return Tab("embedding", fields, drawing, show, outputs)


class Runs:
    """What is being drawn, for whom, so that each user can stop what is theirs."""

    def __init__(self) -> None:
        self._flags: defaultdict[str, list[threading.Event]] = defaultdict(list)
        self._lock = threading.Lock()
        self._here = threading.local()

    @contextmanager
    def one(self) -> Iterator[None]:
        """A run of the user whose event is handled here and now."""
        user, flag = _user(), threading.Event()
        with self._lock:
            self._flags[user].append(flag)
        self._here.flag = flag
        try:
            yield
        finally:
            self._here.flag = None
            with self._lock:
                self._flags[user].remove(flag)
                if not self._flags[user]:
                    del self._flags[user]

    def progress(self) -> Callable[[str, int, int], None]:
        """What a recipe tells its progress: it is shown in the page, and raises ``Stopped`` once it is to end."""
        flag, bar = getattr(self._here, "flag", None), gr.Progress()

        def told(what: str, done: int, total: int) -> None:
            if flag is not None and flag.is_set():
                raise Stopped
            bar((done, total), desc=what, unit="")

        return told

    def stop(self) -> int:
        """End all runs of the user whose event this is; gives their number."""
        with self._lock:
            flags = list(self._flags.get(_user(), []))
        for flag in flags:
            flag.set()
        return len(flags)


class Kept:
    """The last few drawings, by what was asked for. All users may share them: the same is drawn for the same."""

    def __init__(self) -> None:
        self._drawings: OrderedDict[str, EmbeddingDrawing] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, state: dict[str, Any]) -> EmbeddingDrawing | None:
        with self._lock:
            return self._drawings.get(repr(sorted(state.items())))

    def put(self, state: dict[str, Any], drawing: EmbeddingDrawing) -> None:
        with self._lock:
            self._drawings[repr(sorted(state.items()))] = drawing
            while len(self._drawings) > _KEPT:
                self._drawings.popitem(last=False)


def _user() -> str:
    """The page that the event came from; the same for all that come from none."""
    request = LocalContext.request.get(None)
    return str(getattr(request, "session_hash", ""))


def _draw(
    bench: Workbench,
    progress: Callable[[str, int, int], None],
    pictures: str,
    most: float,
    checkpoints: list[str],
    of: str,
    method: str,
    regions: str,
    per_picture: float,
    perplexity: float,
    clusters: float,
    layer: str,
    size: float,
    seed: float | None,
) -> EmbeddingDrawing:
    if not 1 <= len(checkpoints) <= MOST:
        raise ValueError(f"1 to {MOST} checkpoints are shown side by side, not {len(checkpoints)}: choose others")
    if not 1 <= most <= MOST_PICTURES:
        raise ValueError(f"1 to {MOST_PICTURES} pictures are embedded in the page, not {most:g}: plrc embed takes more")
    if method not in METHODS:
        raise ValueError(f"there is no method {method}: choose {' or '.join(METHODS)}")
    if of not in ("points", "regions", "images"):
        raise ValueError(f"dots cannot be {of}: choose points, regions or images")
    bench.check(checkpoints, [] if pictures == PHOTOGRAPHS else [pictures], regions=regions)
    specs = list(SAMPLES) if pictures == PHOTOGRAPHS else list_pictures([pictures], int(most))
    bench.check([], specs)
    return draw_embedding(
        specs,
        checkpoints,
        of=of,
        method=METHODS[method],
        regions=regions,
        per_picture=int(per_picture),
        perplexity=float(perplexity),
        clusters=int(clusters),
        layer=None if layer == LAST else layer,
        size=int(size),
        seed=int(seed or 0),
        progress=progress,
        session=bench.session,
    )


def _lines(drawing: Drawing) -> str:
    return "<br>".join(html.escape(line, quote=False) for line in drawing.lines)


def _colour(event: dict[str, Any] | None) -> Any:
    return event["colour"] if event and event.get("kind") == "colour" else gr.skip()
