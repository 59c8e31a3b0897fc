"""The page: panels in rows and columns with headings, and the colour bar of cosines beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from plrc.figures.colours import COSINE
from plrc.figures.panels import fill

LINE = 0.125  # height of a line of headings
_PAGE = 7.0  # inches, the text width of a two-column paper
_GAP, _MARGIN = 0.07, 0.06
_BAR = (0.1, 0.08, 0.34)  # in front of the colour bar, its width, room for its numbers
_LOWEST_BAR = 0.6


def room(columns: int) -> float:
    """Width that so many columns of panels have together on a page."""
    return _PAGE - _edges(columns)


def fold(heading: str, width: float) -> str:
    """A heading in lines that fit over a panel of this width."""
    return textwrap.fill(heading, max(6, int(width * 72 / 3.9)))


def height_of(headings: Iterable[str]) -> float:
    """Height of a row of folded headings."""
    return LINE * max((heading.count("\n") + 1 for heading in headings), default=1)


class Page:
    """A figure of panels in rows and columns, of sizes in inches; a colour bar at the right."""

    def __init__(
        self, widths: Sequence[float], heights: Sequence[float], above: Sequence[float], below: Sequence[float] = ()
    ) -> None:
        below = below or [0.0] * len(heights)
        self._widths, self._heights = widths, heights
        self._left = np.cumsum([_MARGIN, *(w + _GAP for w in widths)])[:-1]
        self._width = sum(widths) + _edges(len(widths))
        down, self._top = _MARGIN, []
        for head, height, foot in zip(above, heights, below, strict=True):
            self._top.append(down + head)
            down = self._top[-1] + height + foot + _GAP
        self._height = max(down - _GAP, self._top[0] + _LOWEST_BAR) + _MARGIN
        self.figure = Figure(figsize=(self._width, self._height), facecolor="white")

    def panel(self, row: int, column: int, pixels: np.ndarray, values: np.ndarray | Tensor | None = None) -> Axes:
        """A picture ``(H, W, 3)``, or a map ``(h, w)`` of cosines under its shadows, as large as its place allows."""
        h, w = pixels.shape[:2]
        width, height = self._widths[column], self._heights[row]
        scale = min(width / w, height / h)
        x, y = self._left[column] + (width - scale * w) / 2, self._top[row] + (height - scale * h) / 2
        axes = self._axes(x, y, scale * w, scale * h)
        fill(axes, pixels, values)
        return axes

    def heading(self, row: int, column: int, text: str, colour: str = "black") -> None:
        x, y = self._left[column] + self._widths[column] / 2, self._top[row] - 0.025
        at = (x / self._width, 1 - y / self._height)
        self.figure.text(*at, text, ha="center", va="bottom", fontsize=7, color=colour, linespacing=1.1)

    def colour_bar(self) -> None:
        """The colours of [−1, 1], beside all rows or, of many, their middle."""
        top, bottom = self._top[0], self._top[-1] + self._heights[-1]
        height = min(max(bottom - top, _LOWEST_BAR), 2.5)
        x, y = self._width - _MARGIN - sum(_BAR[1:]), max(top, (top + bottom - height) / 2)
        axes = self._axes(x, y, _BAR[1], height)
        ticks = [-1, -0.5, 0, 0.5, 1] if height > 0.8 else [-1, 0, 1]
        bar = self.figure.colorbar(ScalarMappable(Normalize(-1, 1), COSINE), cax=axes, ticks=ticks)
        bar.ax.set_yticklabels([f"{tick:g}".replace("-", "−") for tick in ticks], fontsize=6, color="black")
        bar.ax.tick_params(length=2, width=0.4, pad=1.5, color="0.3")
        bar.ax.grid(False)
        bar.outline.set_linewidth(0.4)
        bar.ax.set_title("cosine", fontsize=6.5, color="black", loc="left", pad=5)

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose top left corner is x, y inches from the figure's."""
        w, h = self._width, self._height
        return self.figure.add_axes((x / w, 1 - (y + height) / h, width / w, height / h))


def _edges(columns: int) -> float:
    """Width of all that is not panels."""
    return 2 * _MARGIN + (columns - 1) * _GAP + sum(_BAR)
