"""The view *Retrieval*: click a place, see what in a folder is most like it, by up to three networks side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import gradio as gr

from plrc.options import Point
from plrc.queries import Retrieval
from plrc.views import Progress
from plrc.views.retrieval import NothingIndexed

from .scenes import answers_scene, image_of
from .slow import SlowTab
from .tab import lines, showing

_AT_ONCE = 100  # images that a click may index; more of them by the button alone
_MISSING = "{} is not indexed yet by these networks, at this layer and size: press Index."


class RetrievalTab(SlowTab):
    name, title, kind, viewer, ends_early = "retrieve", "Retrieval", Retrieval, "answers", True
    start: ClassVar = {"among": "scenes:60"}
    fixed: ClassVar = {"most": None, "until": None}
    words: ClassVar = {
        "of": {"label": "What is asked about", "info": "The patch around the point, its region, or the whole image."},
        "regions": {"info": "Of the image that is asked about."},
        "answers": {"info": "By each network, at most one of an image."},
    }

    def build(self) -> None:
        with gr.Row():
            with gr.Column(min_width=200):
                self.image_chooser()
            with gr.Column(min_width=200):
                self.control("among", label="Look in", info="Indexed once for each network, then kept.")
                buttons = self.buttons("Index", size="sm", min_width=60, scale=1)
            with gr.Column(scale=2, min_width=320):
                self.control("checkpoints")
        self.shelf()
        shown, numbers = self.viewed()
        self.row(dict.fromkeys(("of", "regions", "answers", "size"), 1))
        self.outputs = [shown, numbers, self.control("points", visible="hidden"), self.controls["images"]]
        self.rest()
        self.listen_to(shown)
        self.listen(*buttons)

    def read(self, asked: Mapping[str, list[str]]) -> Any:
        query = super().read(asked)
        return replace(query, among=query.among or self.first.among)

    def drawings(self, query: Retrieval) -> list[Any]:
        return [self._draw(query)]

    def show(self, query: Retrieval, still: bool = True, progress: Progress | None = None) -> list[Any]:
        """Answers from what is indexed; of a small folder the index is made."""
        if not query.images or not query.checkpoints or not query.among:
            return [showing(scene=None), "", "", gr.skip()]
        image = self.bench.session.image(query.images[0])
        parts = {"still": {"image": image_of(image.image) | {"name": image.name}}} if still else {}
        chosen = self.choosing(image.name, query.images[0])
        try:
            drawing = self._draw(query, progress)
        except NothingIndexed:
            scene = {"of": query.of, "points": [], "networks": [], "note": _MISSING.format(query.among)}
            return [showing(scene=scene, **parts), "", " ".join(map(str, query.points)), chosen]
        asked = next(iter(drawing.found.values()))[0].question.point.tolist()
        points = " ".join(str(Point(x, y)) for x, y in asked)
        until = drawing.query.until
        note = f"{until} images are indexed so far, spread over the folder: Index goes on." if until else ""
        return [showing(scene=answers_scene(drawing) | {"note": note}, **parts), lines(drawing), points, chosen]

    def act(self, event: dict[str, Any], query: Retrieval) -> list[Any]:
        """Another point of the image, or an answer that is asked about in turn."""
        other = event.get("image")
        query = replace(query, points=(Point(*event["point"]),), images=(other,) if other else query.images)
        return self.show(query, still=bool(other))

    def _draw(self, query: Retrieval, progress: Progress | None = None) -> Any:
        return self.bench.draw(query, progress or (lambda what, done, total: total > _AT_ONCE))

    def draw(self, query: Retrieval) -> list[Any]:
        """Makes the index, too."""
        with self.going() as told:
            return self.show(query, progress=told)
