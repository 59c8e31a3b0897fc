"""The view *Embedding*: points, regions or images as dots, by up to three networks; what is marked there, and where."""

from __future__ import annotations

from typing import Any, ClassVar

import gradio as gr

from plrc.queries import Embedding

from .scenes import scatter_scene
from .slow import SlowTab
from .tab import showing
from .workbench import MOST_IMAGES


class EmbeddingTab(SlowTab):
    name, title, kind, viewer = "embed", "Embedding", Embedding, "scatter"
    start: ClassVar = {"images": ("scenes",), "most": 60, "size": 224, "regions": "objects", "clusters": 8}
    words: ClassVar = {
        "images": {"info": "A folder: --images at the start, or the foot of the page."},
        "of": {"label": "What is a dot", "info": "A cell, a region's or an image's mean feature."},
        "method": {"info": "t-SNE keeps neighbours together; PCA keeps distances."},
        "regions": {"info": "objects: where they are known; grid:4: 4 × 4 parts."},
    }

    def build(self) -> None:
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                self.control("images")
                told: dict[str, Any] = {"label": "Number of images", "info": "Evenly spread.", "elem_id": "embed-most"}
                self.control("most", gr.Slider(2, MOST_IMAGES, self.first.most, step=1, **told))
            with gr.Column(scale=2, min_width=320):
                self.control("checkpoints")
                self.row(dict.fromkeys(("of", "method", "regions"), 1))
        self.rest()
        buttons = self.buttons()
        self.outputs = self.viewed()
        self.listen(*buttons)

    def shown(self, drawing: Any) -> Any:
        return showing(scene=scatter_scene(drawing, self.bench.session))
