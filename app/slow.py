"""Views that take seconds: drawn when a button is pressed, told how far they are, and stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, ClassVar

import gradio as gr
from cachetools import LRUCache, cachedmethod
from gradio.context import LocalContext

from plrc.options import Options
from plrc.views import Drawing, Progress

from .tab import QUIET, Tab, lines

_KEPT = 4  # drawings: what is exported is what is seen, without drawing it again


class Stopped(Exception):
    """The user does not want to wait for it any more."""


class SlowTab(Tab):
    """A view with buttons to draw and to stop.

    Attributes:
        ends_early: what is stopped has an answer.
    """

    ends_early: ClassVar = False

    def buttons(self, word: str = "Draw", **how: Any) -> tuple[Any, Any]:
        """To draw and to stop; laid out here."""
        self._kept: LRUCache[Options, Drawing] = LRUCache(_KEPT)  # of all users: the same is drawn for the same
        self._going: dict[str, threading.Event] = {}  # the page that waits → what ends its drawing
        self._lock = threading.Lock()
        with gr.Row():
            how = {"scale": 0, "min_width": 140} | how
            draw = gr.Button(word, variant="primary", elem_id=f"{self.name}-{word.lower()}", **how)
            stop = gr.Button("Stop", elem_id=f"{self.name}-stop", **how)
        return draw, stop

    def listen(self, draw: Any, stop: Any) -> None:
        """Answers the buttons, once all controls are there; progress is shown on the first one of ``outputs``."""
        if "layer" in self.controls:
            self.follow_checkpoints()
        # A run at a time: two would share the cores.
        waiting: dict[str, Any] = {"show_progress_on": self.outputs[0], "concurrency_limit": 1}
        inputs = list(self.controls.values())
        draw.click(self.answering(self.draw), inputs, self.outputs, **waiting, api_visibility="private")
        stop.click(self._stop, None, None, **QUIET)

    def drawings(self, query: Any) -> list[Any]:
        return [self._drawn(query)]

    @cachedmethod(attrgetter("_kept"), lock=attrgetter("_lock"))
    def _drawn(self, query: Any) -> Drawing:
        with self.going() as told:
            return self.bench.draw(query, told)

    @contextmanager
    def going(self) -> Iterator[Progress]:
        """Shows in the page how far a drawing is, and ends it once its user wants that."""
        flag, bar, page = threading.Event(), gr.Progress(), page_of_event()
        self._going[page] = flag

        def told(what: str, done: int, total: int) -> bool:
            if flag.is_set() and not self.ends_early:
                raise Stopped
            bar((done, total), desc=what, unit="")
            return flag.is_set()

        try:
            yield told
        finally:
            self._going.pop(page, None)

    def draw(self, query: Any) -> list[Any]:
        """Answers the button."""
        return self.show(query)

    def show(self, query: Any) -> list[Any]:
        try:
            (drawing,) = self.drawings(query)
        except Stopped:
            return self.nothing
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
        gr.Info("Stopped." if flag else "There is nothing to stop.")


class SheetTab(SlowTab):
    """Controls, buttons, and a sheet of HTML with the numbers below it.

    Attributes:
        style: CSS of the sheet. script: what runs in the page when it is there.
    """

    style: ClassVar[str] = ""
    script: ClassVar[str] = ""

    def build(self) -> None:
        self.row(self.top)
        self.rest()
        draw, stop = self.buttons()
        how: dict[str, Any] = {"css_template": self.style, "apply_default_css": False}
        sheet = gr.HTML(
            f"<p>{self.first_view}</p>", **how, js_on_load=self.script or None, elem_id=f"{self.name}-sheet"
        )
        self.outputs = [sheet, gr.HTML(elem_id=f"{self.name}-numbers", apply_default_css=False)]
        self.listen(draw, stop)


def page_of_event() -> str:
    """The page that the event came from: each user stops what is theirs. The same for all that come from none."""
    return str(getattr(LocalContext.request.get(None), "session_hash", ""))
