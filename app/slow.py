"""Views that take seconds: drawn when a button is pressed, told how far they are, and stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import gradio as gr
from cachetools import LRUCache
from gradio.context import LocalContext

from plrc.options import Options
from plrc.views import Drawing

from .tab import QUIET, Tab, lines

_KEPT = 4  # drawings: what is exported is what is seen, without drawing it again


class Stopped(Exception):
    """The user does not want to wait for it any more."""


class SlowTab(Tab):
    """A view with buttons to draw and to stop."""

    def buttons(self) -> tuple[Any, Any]:
        """To draw and to stop; laid out here."""
        self._kept: LRUCache[Options, Drawing] = LRUCache(_KEPT)  # of all users: the same is drawn for the same
        self._going: dict[str, threading.Event] = {}  # the page that waits → what ends its drawing
        self._lock = threading.Lock()
        with gr.Row():
            draw = gr.Button("Draw", variant="primary", scale=0, min_width=160, elem_id=f"{self.name}-draw")
            stop = gr.Button("Stop", scale=0, min_width=120, elem_id=f"{self.name}-stop")
        return draw, stop

    def listen(self, draw: Any, stop: Any) -> None:
        """Answers the buttons, once all controls are there; progress is shown on the first one of ``outputs``."""
        if "layer" in self.controls:
            self.follow_checkpoints()
        # A run at a time: two would share the cores.
        waiting: dict[str, Any] = {"show_progress_on": self.outputs[0], "api_visibility": "private"}
        anew = self.answering(self.show)
        draw.click(anew, list(self.controls.values()), self.outputs, **waiting, concurrency_limit=1)
        stop.click(self._stop, None, None, **QUIET)

    def drawings(self, query: Any) -> list[Any]:
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

    def show(self, query: Any) -> list[Any]:
        try:
            (drawing,) = self.drawings(query)
        except Stopped:
            return [gr.skip()] * len(self.outputs)
        return [self.shown(drawing), self.told(drawing)]

    def shown(self, drawing: Any) -> Any:
        """The update of the first one of ``outputs``."""
        raise NotImplementedError

    def told(self, drawing: Any) -> str:
        """Of the second one, the numbers."""
        return lines(drawing)

    def _stop(self) -> None:
        if flag := self._going.get(page_of_event()):
            flag.set()
        gr.Info("Stopped." if flag else "Nothing is being drawn.")


class SheetTab(SlowTab):
    """Controls, buttons, and a sheet of HTML with the numbers below it.

    Attributes:
        style: CSS of the sheet. script: what runs in the page when it is there.
    """

    style: ClassVar[str] = ""
    script: ClassVar[str] = ""

    def build(self) -> None:
        with gr.Row():
            for name, scale in self.top.items():
                with gr.Column(scale=scale, min_width=160 * scale):
                    several = {"choices": [*self.bench.sets(), *self.bench.choices(name)]} if name == "images" else {}
                    self.control(name, **several)
        self.rest()
        draw, stop = self.buttons()
        how: dict[str, Any] = {"css_template": self.style, "apply_default_css": False}
        sheet = gr.HTML(**how, js_on_load=self.script or None, elem_id=f"{self.name}-sheet")
        self.outputs = [sheet, gr.HTML(elem_id=f"{self.name}-numbers", apply_default_css=False)]
        self.listen(draw, stop)


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
