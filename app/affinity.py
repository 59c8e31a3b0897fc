"""The view *Point affinity*: click an image, see what is like that place, by up to three networks side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import gradio as gr

from plrc.options import Point
from plrc.queries import Affinity

from .scenes import affinity_scene, image_of
from .tab import QUIET, Tab, lines, said, showing, viewer


class AffinityTab(Tab):
    name, title, kind = "affinity", "Point affinity", Affinity
    fixed: ClassVar = {"together": True, "to": (), "most": None}

    def build(self) -> None:
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                self.image_chooser()
            with gr.Column(scale=2, min_width=320):
                self.checkpoint_chooser()
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                maps = viewer("panels", "affinity-viewer")
                numbers = gr.HTML(elem_id="affinity-numbers", apply_default_css=False)
            with gr.Column(scale=1, min_width=260):
                self.control("difference")
                self.control("colour_range", label="Range of the colours", info="Of all maps shown, or −1 to 1.")
                self.control("layer", label="Layer or head", none="last map")
                self.control("size", label="Input size, pixels", info="Short side of what the network sees.")
                points = [self.control(name, visible="hidden") for name in ("points", "negatives")]
                self.rest()
        self.outputs = [maps, numbers, *points]
        inputs = list(self.controls.values())
        maps.select(said(self._act), [maps, *inputs], self.outputs, trigger_mode="multiple", **QUIET)
        self.redraws(name for name in self.controls if name not in ("images", "points", "negatives"))
        self.uploaded.success(self.redraws(["images"], self._forget), inputs, self.outputs, **QUIET)

    def drawings(self, query: Affinity) -> list[Any]:
        """The maps by each network, and their difference if it is wanted."""
        found = [self.bench.draw(replace(query, difference=False))]
        several = query.difference and len(query.checkpoints) > 1
        return [*found, self.bench.draw(query)] if several else found

    def show(self, query: Affinity, still: bool = True) -> list[Any]:
        if not query.images or not query.checkpoints:
            return [showing(None), "", "", ""]
        drawings = self.drawings(query)
        asked = next(iter(drawings[0].columns.values()))[0]  # its points are known, also where none was given
        points = [" ".join(str(Point(x, y)) for x, y in of.tolist()) for of in (asked.positive, asked.negative)]
        image = {"image": image_of(asked.image.image) | {"name": asked.image.name}} if still else None
        return [showing(affinity_scene(drawings), image), lines(drawings[-1]), *points]

    def _act(self, event: dict[str, Any] | None, *values: Any) -> list[Any]:
        """Other points, by a click in the viewer, which has the image."""
        if event is None:
            return [gr.skip()] * len(self.outputs)
        of: list[list[Point]] = [[], []]
        for point in event["points"]:
            of[bool(point["negative"])].append(Point(float(point["x"]), float(point["y"])))
        return self.show(replace(self.query(values), points=tuple(of[0]), negatives=tuple(of[1])), still=False)

    def _forget(self, query: Affinity) -> list[Any]:
        return self.show(replace(query, points=(), negatives=()))  # another image has its own point
