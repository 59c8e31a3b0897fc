"""The view *Embedding*: points, regions or images as dots, by up to three networks; what is marked there, and where."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import gradio as gr
from cachetools import LRUCache
from gradio.context import LocalContext

from plrc.queries import Embedding
from plrc.views import Drawing

from .scenes import scatter_scene
from .tab import QUIET, Tab, lines, showing, viewer
from .workbench import MOST_IMAGES

_KEPT = 4  # drawings: what is exported is what is seen, without drawing it again


class Stopped(Exception):
    """The user does not want to wait for it any more."""


class EmbeddingTab(Tab):
    name, title, kind = "embed", "Embedding", Embedding
    start: ClassVar = {"images": ("scenes",), "most": 60, "size": 224, "regions": "objects", "clusters": 8}

    def build(self) -> None:
        self._kept: LRUCache[Embedding, Drawing] = LRUCache(_KEPT)  # of all users: the same is drawn for the same
        self._going: dict[str, threading.Event] = {}  # the page that waits → what ends its drawing
        self._lock = threading.Lock()
        sets = [("drawn scenes, objects known", "scenes"), *((str(folder),) * 2 for folder in self.bench.folders)]
        most = gr.Slider(2, MOST_IMAGES, 60, step=1, label="Number of images", info="Evenly spread.", render=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                choices = [*sets, *self.bench.choices("images")]
                self.control("images", choices=choices, info="A folder: start the app with --images.")
                most.render()
                self.control("most", most)
            with gr.Column(scale=2, min_width=320):
                self.control("checkpoints")
                with gr.Row():
                    self.control("of", label="What is a dot", info="A cell, a region's or an image's mean feature.")
                    self.control("method", info="t-SNE keeps neighbours together; PCA keeps distances.")
                    self.control("regions", info="objects: where they are known; grid:4: 4 × 4 parts.")
        self.rest()
        with gr.Row():
            draw = gr.Button("Draw", variant="primary", scale=0, min_width=160, elem_id="embed-draw")
            stop = gr.Button("Stop", scale=0, min_width=120, elem_id="embed-stop")
        dots = viewer("scatter", "embed-viewer", {"note": "Draw takes a few seconds."})
        self.outputs = [dots, gr.HTML(elem_id="embed-numbers", apply_default_css=False)]
        self.follow_checkpoints()
        anew = self.answering(self.show)
        # A run at a time: two would share the cores.
        waiting: dict[str, Any] = {"show_progress_on": dots, "api_visibility": "private", "concurrency_limit": 1}
        draw.click(anew, list(self.controls.values()), self.outputs, **waiting)
        stop.click(self._stop, None, None, **QUIET)

    def drawings(self, query: Embedding) -> list[Any]:
        with self._lock:
            found = self._kept.get(query)
        if found is None:
            flag = self._going[page_of_event()] = threading.Event()
            try:
                found = self.bench.draw(query, _progress(flag))
            finally:
                self._going.pop(page_of_event(), None)
            with self._lock:
                self._kept[query] = found
        return [found]

    def show(self, query: Embedding) -> list[Any]:
        try:
            (drawing,) = self.drawings(query)
        except Stopped:
            return [gr.skip(), gr.skip()]
        return [showing(scene=scatter_scene(drawing, self.bench.session)), lines(drawing)]

    def _stop(self) -> None:
        if flag := self._going.get(page_of_event()):
            flag.set()
        gr.Info("Stopped." if flag else "Nothing is being drawn.")


def page_of_event() -> str:
    """The page that the event came from: each user stops what is theirs. The same for all that come from none."""
    return str(getattr(LocalContext.request.get(None), "session_hash", ""))


def _progress(flag: threading.Event) -> Callable[[str, int, int], None]:
    """Shows in the page how far a drawing is, and ends it once the flag is set."""
    bar = gr.Progress()

    def told(what: str, done: int, total: int) -> None:
        if flag.is_set():
            raise Stopped
        bar((done, total), desc=what, unit="")

    return told
