"""The view *Embedding*: points, regions or images as dots, by up to three networks; what is marked there, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gradio as gr

from plrc.queries import Embedding

from .scenes import scatter_scene
from .slow import SlowTab
from .tab import showing, viewer
from .workbench import MOST_IMAGES


class EmbeddingTab(SlowTab):
    name, title, kind = "embed", "Embedding", Embedding
    start: ClassVar = {"images": ("scenes",), "most": 60, "size": 224, "regions": "objects", "clusters": 8}

    def begin(self) -> Mapping[str, Any]:
        own = {"images": (str(self.bench.folders[0]),), "regions": "superpixels:8"} if self.bench.folders else {}
        return self.start | own

    def build(self) -> None:
        most = gr.Slider(2, MOST_IMAGES, 60, step=1, label="Number of images", info="Evenly spread.", render=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                choices = [*self.bench.sets(), *self.bench.choices("images")]
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
        buttons = self.buttons()
        dots = viewer("scatter", "embed-viewer", {"note": "Draw takes a few seconds."})
        self.outputs = [dots, gr.HTML(elem_id="embed-numbers", apply_default_css=False)]
        self.listen(*buttons)

    def shown(self, drawing: Any) -> Any:
        return showing(scene=scatter_scene(drawing, self.bench.session))
