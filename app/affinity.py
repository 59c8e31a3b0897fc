"""The view *Point affinity*: click an image, see what is like that place, by up to three networks side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import gradio as gr

from plrc.options import Point
from plrc.queries import Affinity

from .scenes import affinity_scene, asking, image_of, packed
from .tab import Tab, lines, showing


class AffinityTab(Tab):
    name, title, kind, viewer = "affinity", "Point affinity", Affinity, "panels"
    fixed: ClassVar = {"together": True, "to": (), "most": None}
    top: ClassVar = {"images": 1, "checkpoints": 2}
    below: ClassVar = ("difference", "colour_range", "layer", "size")
    words: ClassVar = {
        "colour_range": {"label": "Range of the colours", "info": "Of all maps shown, or −1 to 1."},
    }

    def drawings(self, query: Affinity) -> list[Any]:
        """The maps by each network, and their difference if it is wanted."""
        found = [self.bench.draw(replace(query, difference=False))]
        return [*found, *([self.bench.draw(query)] if query.difference and len(query.checkpoints) > 1 else [])]

    def show(self, query: Affinity, still: bool = True) -> list[Any]:
        if not query.images or not query.checkpoints:
            return [showing(scene=None), "", "", ""]
        drawings = self.drawings(query)
        answer = next(iter(drawings[0].columns.values()))[0]  # its points are known, also where none was given
        points = [" ".join(str(Point(x, y)) for x, y in of.tolist()) for of in answer.asked]
        image = {"still": {"image": image_of(answer.image.image) | {"name": answer.image.name}}} if still else {}
        return [showing(scene=affinity_scene(drawings), **image), lines(drawings[-1]), *points]

    def act(self, event: dict[str, Any], query: Affinity) -> list[Any]:
        """Other points, by a click; the viewer has the image. Or the feature maps that it lacks, so that it can draw
        maps by itself."""
        if "points" in event:
            return self.show(asking(query, event), still=False)
        (drawing, *_) = self.drawings(replace(query, difference=False))
        return [showing(live=packed(drawing, event["lacks"])), *[gr.skip()] * (len(self.outputs) - 1)]
