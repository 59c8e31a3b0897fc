"""The views *Colours* and *Segments*: images beside what each network makes of all of them; and *Scores*, a table."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from plrc.figures.style import region_colours
from plrc.options import Options
from plrc.queries import Colours, Scores, Segments
from plrc.views.embedding import SheetDrawing
from plrc.views.score import ScoreDrawing

from .scenes import data_uri, image_of
from .slow import SheetTab
from .tab import lines

_SIDE = 480  # pixels of an image's longer side
_DPI = 200
_SHARED = {  # view → of each network, of several
    "colours": (
        "All images share one basis: a colour means the same in each.",
        "Networks have no basis in common: the further ones' components have the order and the signs by which they are "
        "most like the first one's.",
    ),
    "segments": (
        "All images share their segments: a colour is the same one in each. Cohesion, how alike a segment's cells are, "
        "is no quality: features that hardly differ have a high one.",
        "The further networks' segments have the colours of those of the first one that they are most like.",
    ),
}
_SHEET = """
.sheet { display: grid; gap: 16px 28px; grid-template-columns: repeat(auto-fill, minmax(var(--least), 1fr)); }
.row { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 340px)); gap: 6px; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 13px; overflow-wrap: anywhere; }
.cells { position: relative; overflow: hidden; background: #808080; }
.cells img { position: absolute; inset: 0 auto auto 0; display: block; max-width: none; }
.map { image-rendering: pixelated; }
p { margin: 0 0 10px; }
"""


class ColoursTab(SheetTab):
    name, title, style = "colours", "Colours", _SHEET
    kind: ClassVar[type[Options]] = Colours
    start: ClassVar = {"images": ("sample:china", "sample:flower", "scenes#12", "scenes#3"), "most": 12}
    fixed: ClassVar = {"basis": None, "keep_basis": None}
    top: ClassVar = {"images": 1, "checkpoints": 2}
    words: ClassVar = {"images": {"info": "Several share the meaning of colours."}, "most": {"info": "Of a folder."}}

    def begin(self) -> Mapping[str, Any]:
        return {**super().begin(), "finer": self.bench.finer}

    def shown(self, drawing: SheetDrawing) -> str:
        n = len(drawing.columns)
        told = " ".join(_SHARED[self.name][: 1 + (n > 1)])
        rows = "".join(_row(drawing, i) for i in range(len(drawing.shown)))
        part = f" Shown are {drawing.part}." if drawing.part else ""
        how = f"--columns: {n + 1}; --least: min(100%, {160 * (n + 1)}px)"
        return f'<p>{told}{part}</p><div class="sheet" style="{how}">{rows}</div>'


class SegmentsTab(ColoursTab):
    name, title, kind = "segments", "Segments", Segments
    fixed: ClassVar = {}
    top: ClassVar = {"images": 2, "checkpoints": 3, "clusters": 1}


def _row(drawing: SheetDrawing, i: int) -> str:
    """An image, and its map by each network."""
    image = drawing.shown[i]
    width, height = image.image.size
    name = html.escape(image.name)
    panels = [(name, name, image_of(image.image, _SIDE)["src"], 'style="width: 100%; height: 100%"')]
    for head, maps in drawing.columns.items():
        values, (across, down) = maps[i], drawing.extents[head][i]
        rgb = values if values.ndim == 3 else region_colours(values.astype(int))
        src = data_uri(Image.fromarray((np.asarray(rgb) * 255).round().astype(np.uint8)), "png")
        size = f'class="map" style="width: {100 * across:.3f}%; height: {100 * down:.3f}%"'
        panels.append((html.escape(head), f"{name} by {html.escape(head)}", src, size))
    figures = "".join(
        f'<figure><div class="cells" style="aspect-ratio: {width} / {height}"><img src="{src}" alt="{alt}" {how}></div>'
        f"<figcaption>{caption}</figcaption></figure>"
        for caption, alt, src, how in panels
    )
    return f'<div class="row">{figures}</div>'


class ScoresTab(SheetTab):
    name, title, kind = "score", "Scores", Scores
    start: ClassVar = {"dataset": "scenes:60@1", "most": 12}
    fixed: ClassVar = {"until": None}
    top: ClassVar = {"dataset": 1, "most": 1, "checkpoints": 3}
    words: ClassVar = {
        "dataset": {
            "label": "Data set",
            "info": "Drawn scenes, or a folder: --images at the start, or the foot of the page.",
        },
        "most": {"label": "Number of images", "info": "Evenly spread."},
    }
    style = """
    .wide { overflow-x: auto; margin-bottom: 18px; }
    .hint { display: none; }
    table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
    th, td { text-align: left; padding: 5px 14px 5px 4px; vertical-align: top; white-space: nowrap; }
    tbody tr { border-top: 1px solid var(--border-color-primary); }
    .baseline { font-style: italic; }
    small { display: block; font-size: 12px; }
    thead button { all: unset; cursor: pointer; font-weight: 600; white-space: normal; }
    thead button:focus-visible { outline: 2px solid; outline-offset: 2px; }
    thead button::after { content: " ↕"; }
    [aria-sort="descending"] button::after { content: " ↓"; }
    [aria-sort="ascending"] button::after { content: " ↑"; }
    img { display: block; width: 100%; min-width: 700px; max-width: 1100px; border-radius: 6px; }
    @media (max-width: 740px) {
      .hint { display: inline; }
      .wide { border-right: 3px solid var(--border-color-primary); }
      th, td { padding-right: 8px; font-size: 13px; }
      tr > :first-child { position: sticky; left: 0; z-index: 1; background: var(--background-fill-primary); }
      tr > :first-child { min-width: 84px; white-space: normal; overflow-wrap: break-word; }
    }
    """
    script = """
    element.addEventListener("click", (event) => {
      const head = event.target.closest("thead th"), body = element.querySelector("tbody");
      if (!head) return;
      const falling = head.ariaSort !== "descending", column = head.cellIndex;
      for (const other of head.parentElement.children) other.ariaSort = null;
      head.ariaSort = falling ? "descending" : "ascending";
      const key = (row) => row.cells[column].dataset.value;
      const worth = (row) => (key(row) === "" ? -Infinity : +key(row));
      const order = (a, b) => (column ? worth(b) - worth(a) : key(b).localeCompare(key(a)));
      body.append(...[...body.rows].sort((a, b) => (falling ? order(a, b) : order(b, a))));
    });
    """

    def shown(self, drawing: ScoreDrawing) -> str:
        """A table, a row a network or baseline, that is sorted by a click on a heading; and the chart."""
        table = drawing.table
        heads = [f"{measure}, n = {max(s.n for s in of.values())}" for measure, of in table.rows.items()]
        rows = ""
        for column in table.columns:
            cells = ""
            for of in table.rows.values():
                mean, _, interval = str(of.get(column, "–")).partition(" ")
                value = of[column].mean if column in of else ""
                cells += f'<td data-value="{value}">{mean}<small>{html.escape(interval)}</small></td>'
            name, kind = html.escape(column), ' class="baseline"' * (column in table.baselines)
            rows += f'<tr{kind}><th scope="row" data-value="{name}">{name}</th>{cells}</tr>'
        head = "".join(f"<th><button>{html.escape(h)}</button></th>" for h in ["network", *heads])
        src = data_uri(drawing.figure, "png", dpi=_DPI)
        told = "Mean and 95 % interval; in italics what needs no network. A click on a heading sorts."
        told += '<b class="hint"> Table and chart go on to the right: swipe.</b>'
        table_html = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        chart = f'<img class="plrc-chart" src="{src}" alt="the same as a chart">'
        return f"<p>{told}</p>" + "".join(
            f'<div class="wide" tabindex="0">{part}</div>' for part in (table_html, chart)
        )

    def told(self, drawing: ScoreDrawing) -> str:
        return lines(drawing.table.notes())
