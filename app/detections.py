"""The view *Detections*: what up to three detectors find in images, beside what is there."""

from __future__ import annotations

import html
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from plrc.detection.look import MOST, DetectionsDrawing
from plrc.figures import DetectedPicture
from plrc.figures.detections import judge
from plrc.figures.style import LOOK
from plrc.queries import Detections

from .scenes import image_of
from .slow import SheetTab
from .tab import QUIET

_NONE = """<p>There is no detector here yet.</p>
<p><code>plrc detect train --preset small --train scenes:200 --test scenes:50@1 --out runs/detector</code> trains one on
the network that ships with the package, with <code>--weights random:tiny</code> one from scratch; open the list of
detectors again then.</p>"""


class DetectionsTab(SheetTab):
    name, title, kind = "detections", "Detections", Detections
    start: ClassVar = {"images": ("scenes#12", "scenes#3"), "most": 6}
    top: ClassVar = {"images": 1, "detectors": 1, "least": 1}
    words: ClassVar = {
        "images": {"info": "Choose, or type a name such as scenes#57."},
        "detectors": {"info": "Side by side: one for each initialisation, for example.", "max_choices": 3},
        "least": {"label": "Confidence, at least", "info": "Right, false and missed follow from it."},
        "most": {"info": "Of a folder."},
    }
    style = f"""
    .sheet {{ display: grid; gap: 18px; grid-template-columns: repeat(auto-fill, minmax(var(--least), 1fr)); }}
    .row {{ display: grid; gap: 8px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr)); }}
    figure {{ margin: 0; min-width: 0; max-width: 760px; }}
    figcaption {{ font-size: 14px; margin-bottom: 4px; overflow-wrap: anywhere; }}
    .boxes {{ position: relative; }}
    .boxes > img {{ display: block; width: 100%; }}
    .box {{ position: absolute; box-sizing: border-box; outline: 1px solid #fffc; }}
    .box b {{ position: absolute; left: -1px; bottom: 100%; font: 600 11px/1.25 system-ui; padding: 0 3px; }}
    .box b {{ white-space: nowrap; }}
    .box.low b {{ bottom: auto; top: 0; }}
    .right {{ border: 3px solid {LOOK["matches"]["right"]["colour"]}; z-index: 2; }}
    .right b {{ background: {LOOK["matches"]["right"]["colour"]}; color: white; }}
    .false {{ border: 2px dashed {LOOK["matches"]["wrong"]["colour"]}; z-index: 3; }}
    .false b {{ background: white; color: black; border: 1px solid {LOOK["matches"]["wrong"]["colour"]}; }}
    .excused {{ border: 1px solid #7a7f87; }}
    .excused b {{ background: white; color: black; }}
    .missed {{ border: 3px dotted black; outline-color: white; }}
    .missed b {{ background: black; color: white; }}
    .object {{ border: 1px dashed white; outline: 1px dashed black; }}
    .key {{ display: flex; flex-wrap: wrap; gap: 4px 18px; margin-bottom: 12px; font-size: 14px; }}
    .key .box {{ position: static; display: inline-block; width: 26px; height: 15px; }}
    .key .box {{ vertical-align: middle; margin-right: 5px; background: #7a7f87; }}
    """

    def build(self) -> None:
        super().build()
        inputs = list(self.controls.values())
        answer, least = self.answering(self.show), self.controls["least"]  # what was found is kept: only drawn anew
        least.input(answer, inputs, self.outputs, trigger_mode="always_last", **QUIET)

    def show(self, query: Detections) -> list[Any]:
        if not query.detectors:
            return ["<p>Choose a detector, and press Draw.</p>" if self.bench.detectors() else _NONE, ""]
        return super().show(query)

    def shown(self, drawing: DetectionsDrawing) -> str:
        least: float = drawing.query.to_dict()["least"]
        n = len(drawing.pictures)
        rows = ""
        for of in zip(*drawing.pictures.values(), strict=True):
            figures = (_figure(name, picture, least) for name, picture in zip(drawing.pictures, of, strict=True))
            rows += f'<div class="row">{"".join(figures)}</div>'
        said = {"right": "found", "false": "✗ false", "missed": "missed object", "object": "object"}
        key = "".join(f'<span><i class="box {kind}"></i>{word}</span>' for kind, word in said.items())
        how = f"--least: min(100%, {340 * n}px)"
        return f'<div class="key">{key}</div><div class="sheet" style="{how}">{rows}</div>'


def _figure(name: str, picture: DetectedPicture, least: float) -> str:
    shown, kinds, missed = judge(picture, least, MOST)
    size = np.tile(picture.image.shape[1::-1], 2)
    boxes = ""
    for i, box in enumerate(picture.truth_boxes / size):
        boxes += _box(box, "missed" if i in missed else "object", picture.truth_labels[i] if i in missed else "")
    for d, kind in zip(shown[::-1], kinds[::-1], strict=True):  # the highest confidence on top
        text = f"{'✗ ' * (kind == 'false')}{picture.labels[d]} {100 * picture.scores[d]:.0f} %"
        boxes += _box(picture.boxes[d] / size, kind, text)
    counted = picture.counted.sum()
    told = f"{kinds.count('right')} of {counted} objects found, {kinds.count('false')} false"
    if not len(picture.counted):
        told = f"{len(shown)} detections (its objects are not known, or there are none)"
    hidden = len(picture.scores) - len(shown)
    told += f", {hidden} less confident" * bool(hidden)
    src, alt = image_of(Image.fromarray(picture.image))["src"], html.escape(f"{picture.name} by {name}: {told}")
    caption = f"<b>{html.escape(name)}</b>, {html.escape(picture.name)}: {told}"
    inside = f'<img src="{src}" alt="{alt}">{boxes}'
    return f'<figure><figcaption>{caption}</figcaption><div class="boxes">{inside}</div></figure>'


def _box(box: np.ndarray, kind: str, text: str) -> str:
    x0, y0, x1, y1 = (100 * box.clip(0, 1)).tolist()
    low = " low" * (y0 < 6)  # its label would leave the image
    place = f"left: {x0:.2f}%; top: {y0:.2f}%; width: {x1 - x0:.2f}%; height: {y1 - y0:.2f}%"
    label = f"<b>{html.escape(text)}</b>" * bool(text)
    return f'<div class="box {kind}{low}" style="{place}">{label}</div>'
