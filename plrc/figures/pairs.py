"""A page with two pictures side by side, or above one another, under a headline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from plrc.figures.colours import VIEWS
from plrc.figures.page import GAP, Page, fold, height_of, room
from plrc.figures.scales import Scale

KEY = 0.17  # inches of a line that says which line or mark means what
_WIDE = 2.0  # pictures wider than so many times their height stand above one another
_TALLEST = 2.2  # inches
_NARROWEST = 1.3  # of a column without anything beside: headline and key are wider than two narrow pictures


def place_pair(
    pictures: Sequence[np.ndarray],
    names: tuple[str, str] | None,
    views: bool,
    notes: tuple[str, str],
    scale: Scale | None,
    foot: float = 0.0,
    beside: tuple[float, float, float] | None = None,
    note: str = "",
) -> tuple[Page, tuple[Axes, Axes], Axes | None]:
    """The page, the panels of the two, and empty axes at their right if anything is to stand there.

    Args:
        names: headings; if not given "view 1" and "view 2", or "image 1" and "image 2".
        views: frame and name them in the colours of the views. notes: headline, and details under it.
        foot: inches left free below all. beside: width and height of the axes at the right, and the room that their
            numbers take at the left and below, inches. note: as of ``Page``.
    """
    names = names or default_names(views)
    wide, high, numbers = beside or (0.0, 0.0, 0.0)
    right = [numbers + wide] if beside else []
    aspects = [pixels.shape[1] / pixels.shape[0] for pixels in pictures]
    stacked = min(aspects) > _WIDE
    space = room((1 if stacked else 2) + len(right), scale) - sum(right)
    if stacked:
        width = min(space, _TALLEST * min(aspects))
        widths, heights = [width], [width / aspect for aspect in aspects]
    else:
        least = _NARROWEST / (2 if beside else 1)
        height = min(_TALLEST, space / sum(aspects), *((space - least) / aspect for aspect in aspects))
        widths, heights = [max(least, height * aspect) for aspect in aspects], [max(height, high)]
    heads = [fold(name, width) for name, width in zip(names, widths * 2 if stacked else widths, strict=True)]
    headline, details = fold(notes[0], 0.9 * sum(widths + right)), fold(notes[1], 1.15 * sum(widths + right))
    top = height_of([headline]) + height_of([details]) + 0.04
    above = [top + height_of(heads[:1]), height_of(heads[1:])] if stacked else [top + height_of(heads)]
    if stacked:  # two low pictures may be lower than what stands beside them
        heights = [height + max(0.0, high - sum(heights) - GAP - above[1]) / 2 for height in heights]
    under = max(0.0, high + numbers - sum(heights) - sum(above[1:]) - GAP * (len(heights) - 1))
    page = Page([*widths, *right], heights, above, [0.0] * (len(heights) - 1) + [under], scale, foot, note)
    page.at_top(headline, details)
    panels = []
    for v, (pixels, head) in enumerate(zip(pictures, heads, strict=True)):
        row, column = (v, 0) if stacked else (0, v)
        colour, style = VIEWS[v]
        panels.append(page.panel(row, column, pixels))
        if views:
            panels[-1].spines[:].set(color=colour, linestyle=style, linewidth=1.3)
        page.heading(row, column, head, colour if views else "black")
    return page, (panels[0], panels[1]), page.inset(0, len(widths), numbers, wide, high) if beside else None


def default_names(views: bool) -> tuple[str, str]:
    return ("view 1", "view 2") if views else ("image 1", "image 2")
