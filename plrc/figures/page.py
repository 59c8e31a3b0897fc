"""The page: panels in rows and columns with headings, notes and, where values have colours, their colour bar."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from plrc.figures.panels import WHOLE, Extent, fill
from plrc.figures.scales import BAR, COSINES, Scale

LINE = 0.125  # height of a line of headings
GAP = 0.07
_PAGE = 7.0  # inches, the text width of a two-column paper
_MARGIN = 0.06
_LOWEST_BAR = 0.6
_NOTE = 6.0  # points, type of captions and notes
_NOTE_GAP = 0.04  # inches over the note at the foot


def room(columns: int, scale: Scale | None = COSINES) -> float:
    """Width that so many columns of panels have together on a page."""
    return _PAGE - _edges(columns, scale)


def fold(heading: str, width: float) -> str:
    """A heading in lines that fit over a panel of this width."""
    return textwrap.fill(heading, max(6, int(width * 72 / 3.9)))


def height_of(headings: Iterable[str]) -> float:
    """Height of a row of folded headings."""
    return LINE * max((heading.count("\n") + 1 for heading in headings if heading), default=0)


class Page:
    """A figure of panels in rows and columns, of sizes in inches; a colour bar at the right if there is a scale.

    Attributes:
        figure: the figure. scale: what the colours of maps mean, or None.
    """

    def __init__(
        self,
        widths: Sequence[float],
        heights: Sequence[float],
        above: Sequence[float],
        below: Sequence[float] = (),
        scale: Scale | None = COSINES,
        foot: float = 0.0,
        note: str = "",
    ) -> None:
        """Widths of the columns; heights of the rows, of what stands above and below each, and of a foot below all.

        note: how it was drawn, a small grey line at the very foot of the page; folded.
        """
        self.scale = scale
        below = below or [0.0] * len(heights)
        above = list(above)
        if scale:  # its name stands over the bar, a little higher than headings do
            above[0] = max(above[0], LINE * len(scale.title.splitlines()) + (0.02 if "\n" in scale.title else 0))
        self._widths, self._heights = widths, heights
        self._left = np.cumsum([_MARGIN, *(w + GAP for w in widths)])[:-1]
        self._width = sum(widths) + _edges(len(widths), scale)
        down, self._top = _MARGIN, []
        for head, height, feet in zip(above, heights, below, strict=True):
            self._top.append(down + head)
            down = self._top[-1] + height + feet + GAP
        lowest = self._top[0] + _LOWEST_BAR if scale else 0.0
        note = fold(note, 1.25 * (self._width - 2 * _MARGIN))
        self._note = height_of([note]) + (_NOTE_GAP if note else 0.0)
        self._height = max(down - GAP, lowest) + foot + self._note + _MARGIN
        self.figure = Figure(figsize=(self._width, self._height), facecolor="white")
        if note:
            self._text(_MARGIN, self._height - _MARGIN, note, _NOTE, "0.45", "left", "bottom")

    def panel(
        self,
        row: int,
        column: int,
        pixels: np.ndarray,
        values: np.ndarray | Tensor | None = None,
        extent: Extent = WHOLE,
    ) -> Axes:
        """A picture ``(H, W, 3)``, or a map ``(h, w)`` of values under its outlines, as large as its place allows."""
        h, w = pixels.shape[:2]
        width, height = self._widths[column], self._heights[row]
        scale = min(width / w, height / h)
        x, y = self._left[column] + (width - scale * w) / 2, self._top[row] + (height - scale * h) / 2
        axes = self.axes(x, y, scale * w, scale * h)
        fill(axes, pixels, values, self.scale or COSINES, extent)
        return axes

    def inset(self, row: int, column: int, left: float, width: float, height: float) -> Axes:
        """Empty axes of this size, so many inches right of a place's upper left corner."""
        return self.axes(self._left[column] + left, self._top[row], width, height)

    def heading(self, row: int, column: int, text: str, colour: str = "black", caption: str = "") -> None:
        """Over a place, a heading and perhaps a smaller line, both folded."""
        x, y = self._left[column] + self._widths[column] / 2, self._top[row] - 0.025
        if caption:
            self._text(x, y, caption, _NOTE, "0.25", "center", "bottom")
        self._text(x, y - height_of([caption]), text, 7, colour, "center", "bottom")

    def below(self, axes: Axes, text: str, gap: float = 0.0) -> None:
        """A small line under a panel, folded, so many inches below it."""
        place = axes.get_position()
        x, y = (place.x0 + place.x1) / 2 * self._width, (1 - place.y0) * self._height + 0.025 + gap
        self._text(x, y, text, _NOTE, "0.25", "center", "top")

    def at_top(self, text: str, details: str = "") -> None:
        """A headline at the left of the page's upper edge, and smaller lines under it."""
        y = _MARGIN + height_of([text])
        self._text(self._left[0], y - 0.02, text, 7.5, "black", "left", "bottom", weight="bold")
        if details:
            self._text(self._left[0], y + height_of([details]), details, _NOTE, "0.25", "left", "bottom")

    def key(self, handles: Sequence[Artist], names: Sequence[str]) -> None:
        """What lines and marks mean, in one line at the lower left of the page, over its note."""
        corner = (self._left[0] / self._width, (_MARGIN + self._note) / self._height)
        self.figure.legend(
            handles, names, loc="lower left", bbox_to_anchor=corner, ncols=len(names), fontsize=_NOTE, labelcolor="0.1",
            frameon=False, borderpad=0, borderaxespad=0, handlelength=2.2, columnspacing=1.3, handletextpad=0.5,
        )  # fmt: skip

    def colour_bar(self) -> None:
        """The colours of the scale, beside all rows or, of many, their middle."""
        assert self.scale is not None
        scale = self.scale
        top, bottom = self._top[0], self._top[-1] + self._heights[-1]
        height = min(max(bottom - top, _LOWEST_BAR), 2.5)
        x, y = self._width - _MARGIN - scale.width + BAR[0], max(top, (top + bottom - height) / 2)
        axes = self.axes(x, y, BAR[1], height)
        ticks = scale.ticks(4 if height > 0.8 else 2)
        colours = ScalarMappable(Normalize(scale.low, scale.high), scale.colours)
        bar = self.figure.colorbar(colours, cax=axes, ticks=ticks, extend=scale.beyond)
        bar.ax.set_yticklabels(scale.labels(ticks), fontsize=6, color="black")
        bar.ax.tick_params(length=2, width=0.4, pad=1.5, color="0.3")
        bar.ax.grid(False)
        bar.outline.set_linewidth(0.4)
        bar.ax.set_title(scale.title, fontsize=6.5, color="black", loc="left", pad=5, linespacing=1.1)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose top left corner is x, y inches from the figure's."""
        w, h = self._width, self._height
        return self.figure.add_axes((x / w, 1 - (y + height) / h, width / w, height / h), facecolor="white")

    def _text(self, x: float, y: float, text: str, size: float, colour: str, ha: str, va: str, **how: Any) -> None:
        at = (x / self._width, 1 - y / self._height)
        how = {"linespacing": 1.1, "parse_math": False, **how}  # a file's name may have dollars
        self.figure.text(*at, text, ha=ha, va=va, fontsize=size, color=colour, **how)


def _edges(columns: int, scale: Scale | None) -> float:
    """Width of all that is not panels."""
    return 2 * _MARGIN + (columns - 1) * GAP + (scale.width if scale else 0.0)
