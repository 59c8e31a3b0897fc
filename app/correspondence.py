"""The view *Region correspondence*: what of one image, or of a view of it, a network finds in another."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import gradio as gr

from plrc.options import Point
from plrc.queries import Correspondence

from .scenes import matches_scene
from .tab import QUIET, Tab, lines, showing, viewer

_MOST_POINTS = 16384  # of a network: more of them a page cannot show
_GEOMETRY = ("images", "other", "seed", "scale")  # a chosen point means something only while these stay


class CorrespondenceTab(Tab):
    name, title, kind = "correspond", "Region correspondence", Correspondence
    start: ClassVar = {"size": 224}
    fixed: ClassVar = {"most": None}

    def build(self) -> None:
        with gr.Row():
            with gr.Column(scale=1, min_width=220):
                self.image_chooser()
            with gr.Column(scale=1, min_width=220):
                known = "Of two views the true places are known."
                self.control("other", label="Match with", info=known, none="two views of it")
            with gr.Column(scale=1, min_width=220):
                self.control("regions", info="Matched whole, by their mean features.", none="none: match points")
            with gr.Column(scale=2, min_width=320):
                self.checkpoint_chooser()
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                matches = viewer("matches", "correspond-viewer")
                numbers = gr.HTML(elem_id="correspond-numbers", apply_default_css=False)
            with gr.Column(scale=1, min_width=260):
                more = gr.Button("Other views", size="sm", elem_id="correspond-more")
                seed = self.control("seed")
                self.control("scale", label="Crop scale")
                self.control("size", label="Input size, pixels", info="Side of a view, short side of an image.")
                self.control("mutual", label="Mutual only")
                self.control("layer", label="Layer or head", none="last map")
                points = self.control("points", visible="hidden")
                self.rest()
        self.outputs = [matches, numbers, points]
        inputs = list(self.controls.values())
        self.redraws(name for name in self.controls if name not in (*_GEOMETRY, "points"))
        anew = self.redraws(_GEOMETRY, lambda query: self.show(replace(query, points=())))
        self.uploaded.success(anew, inputs, self.outputs, **QUIET)
        more.click(lambda now: int(now or 0) + 1, seed, seed, **QUIET).then(anew, inputs, self.outputs, **QUIET)
        matches.select(_chosen, matches, points, trigger_mode="multiple", **QUIET)

    def drawings(self, query: Correspondence) -> list[Any]:
        """All matches; and, where one is chosen, that one, which is its recipe's ``points``."""
        self._check(query)
        found = [self.bench.draw(replace(query, points=()))]
        return [*found, self.bench.draw(query)] if query.points and not query.regions else found

    def show(self, query: Correspondence) -> list[Any]:
        if not query.images or not query.checkpoints:
            return [showing(None), "", ""]
        (drawing,) = self.drawings(replace(query, points=()))
        scene = matches_scene(drawing, query.points, self.bench.session)
        chosen = "" if scene["chosen"] is None else " ".join(map(str, query.points))  # the view may not show it
        return [showing(scene), lines(drawing), chosen]

    def _check(self, query: Correspondence) -> None:
        """Raise a ValueError, before any work is done, if there would be too many points."""
        self.bench.check(query)
        width, height = self.bench.session.image(query.images[0]).image.size if query.other else (1, 1)
        for network in self.bench.session.networks(query).values() if not query.regions else ():
            side = query.size.width / network.stride(query.layer)
            cells = math.ceil(side**2 * max(width, height) / min(width, height))
            if cells > _MOST_POINTS:
                raise ValueError(
                    f"{query.layer or network.last} at size {query.size} makes {cells} points, more than the "
                    f"{_MOST_POINTS} that can be shown: choose a smaller size, a coarser layer, or regions"
                )


def _chosen(event: dict[str, Any] | None) -> Any:
    """The point of a match that was chosen in the viewer, or none."""
    if event is None:
        return gr.skip()
    return str(Point(*event["place"])) if event["place"] else ""
