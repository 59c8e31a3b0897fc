"""Contact sheets of matches: the same pairs of pictures by several networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from plrc.figures.colours import VIEWS
from plrc.figures.matching import (
    Parts,
    PointMatches,
    Values,
    blind,
    counts,
    draw_matches,
    evenly,
    key_of_matches,
    parts_of,
)
from plrc.figures.page import GAP, Page, fold, height_of, room
from plrc.figures.pairs import KEY, default_names
from plrc.figures.panels import as_array, as_pixels, fill, size
from plrc.figures.rasters import draw_borders, enlarge
from plrc.figures.scales import Limits, scale_of

Picture = np.ndarray | Image.Image
_TALLEST = 1.6  # inches
_NARROWEST = 1.5  # of a cell, inches: the line under it is wider than two narrow pictures
_MEANING = 0.66  # inches that a line or frame of the key takes with its meaning, about
_APART = 0.12  # inches between cells besides the gap that is between all panels


def correspondence_sheet(
    pairs: Sequence[tuple[Picture, Picture]],
    columns: Mapping[str, Sequence[PointMatches]],
    names: Sequence[str],
    *,
    views: bool = False,
    most: int = 20,
    limits: Limits | None = (0.0, 1.0),
    guesses: Mapping[str, Sequence[float]] | None = None,
    rasters: Sequence[tuple[Values, Values]] | None = None,
    lines: Mapping[str, Sequence[Values]] | None = None,
    note: str = "",
) -> Figure:
    """Matches of pairs of pictures by several networks: a row a pair, a column a network.

    Lines are those of ``correspondence``; the line under a cell counts all matches that can be right, drawn or not.
    All networks of a row show the same points, so that they can be compared; one that has no match of such a point
    (its map has other cells, or the match was left out) shows the nearest that it has.

    Args:
        pairs: n times a left and a right picture, ``(H, W, 3)`` uint8 or PIL, drawn side by side with one height.
        columns: heading → n matches, from left to right. names: n headings of the rows.
        views: the pictures of a pair are the two views of an image, framed in the views' colours.
        most: lines drawn at most in a cell.
        limits: of the similarity's colours, as of ``affinity``; not used where the true places are known.
        guesses: heading → n shares that a blind guess gets right, told under each cell: columns may have maps of
            different numbers of cells.
        rasters: n pairs of integers ``(h, w)``, if regions were matched: their borders are drawn.
        lines: heading → n arrays of bool, which matches may have a line (the background has no place); others only
            count. note: as of ``affinity``.

    Raises:
        ValueError: there is no pair or no column; pairs, names and the matches of a column differ in number; the true
            places of some matches are known and those of others are not; or as ``correspondence`` does.
    """
    cells = _cells(len(pairs), columns, names)
    judged = cells[0][0].judged
    scale = None if judged else scale_of("cosine", limits, [parts.similarity for row in cells for parts in row])
    handles, meanings = _key(judged, views)
    pictures = [(as_pixels(left), as_pixels(right)) for left, right in pairs]
    aspects = [sum(pixels.shape[1] / pixels.shape[0] for pixels in pair) for pair in pictures]
    n, beside = len(columns), GAP + _APART
    width = min(_TALLEST * max(aspects) + beside, room(n, scale) / n)
    width = max(width, _NARROWEST, _MEANING * len(meanings) / n)
    heights = [min(_TALLEST, (width - beside) / aspect) for aspect in aspects]
    may = [
        [_may(lines, name, i, parts) for name, parts in zip(columns, row, strict=True)] for i, row in enumerate(cells)
    ]
    chosen = [_same_points(row, lined, most) for row, lined in zip(cells, may, strict=True)]
    blinds = [[blind(guesses[name][i] if guesses else None) for name in columns] for i in range(len(cells))]

    heads = [fold(name, width - _APART) for name in columns]
    titles = [fold(name, 1.1 * n * width) for name in names]
    unders = [
        [_line(parts, len(drawn), guess, width) for parts, drawn, guess in zip(*row, strict=True)]
        for row in zip(cells, chosen, blinds, strict=True)
    ]
    # The first row is the headings alone, so that they stand over the name of the first pair.
    above, below = [height_of(heads), *(height_of([t]) for t in titles)], [0.0, *(height_of(u) for u in unders)]
    page = Page([width] * n, [0.0, *heights], above, below, scale, KEY if handles else 0.0, note)
    for column, head in enumerate(heads):
        page.heading(0, column, head)
    for row, (pair, title) in enumerate(zip(pictures, titles, strict=True)):
        for column in range(n):
            whole = page.inset(row + 1, column, 0.0, width, heights[row])  # holds what is said of the cell
            whole.set_axis_off()
            if column == 0:
                _name(whole, title)
            left = (width - heights[row] * aspects[row] - GAP) / 2
            panels = _place(page, row + 1, column, pair, left, heights[row], views)
            for axes, raster in zip(panels, rasters[row] if rasters else (), strict=False):
                draw_borders(axes, enlarge(as_array(raster).astype(int), *size(axes)), halo=True)
            draw_matches(panels, cells[row][column], chosen[row][column], scale)
            page.below(whole, unders[row][column])
    if handles:
        page.key(handles, meanings)
    if scale:
        page.colour_bar()
    return page.figure


def _cells(count: int, columns: Mapping[str, Sequence[PointMatches]], names: Sequence[str]) -> list[list[Parts]]:
    """The matches of each pair by each network."""
    if not (count and columns):
        raise ValueError("there is nothing to draw: give at least one pair and the matches of one network")
    if len(names) != count:
        raise ValueError(f"{count} pairs of pictures and {len(names)} names: they belong together")
    for name, matches in columns.items():
        if len(matches) != count:
            raise ValueError(f"{name}: matches of {len(matches)} pairs, pictures of {count}: they belong together")
    cells = [[parts_of(matches[i]) for matches in columns.values()] for i in range(count)]
    if len({parts.judged for row in cells for parts in row}) > 1:
        raise ValueError("the true places of some matches are known and of others not: draw them on two sheets")
    return cells


def _key(judged: bool, views: bool) -> tuple[list[Artist], list[str]]:
    handles, meanings = key_of_matches() if judged else ([], [])
    if views:
        frames: tuple[tuple[str, Any], ...] = VIEWS
        handles += [Patch(fill=False, edgecolor=c, linestyle=s, linewidth=1.3) for c, s in frames]
        meanings += default_names(views)
    return handles, meanings


def _may(lines: Mapping[str, Sequence[Values]] | None, name: str, i: int, parts: Parts) -> np.ndarray:
    """Which matches may have a line: those whose true place the right picture shows, less those that have none."""
    return parts.visible if lines is None else parts.visible & as_array(lines[name][i]).astype(bool)


def _same_points(row: Sequence[Parts], may: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """Which matches to draw of each network: indices of the same points, or of those nearest to them.

    The network with the fewest matches chooses first, so that it can show what the others show.
    """
    chosen = [np.zeros(0, dtype=int)] * len(row)
    shown = [np.flatnonzero(lined) for lined in may]
    targets = np.zeros((0, 2))
    for k in sorted(range(len(row)), key=lambda k: len(shown[k])):
        points = row[k].start[shown[k]]
        near = _nearest(targets, points)
        rest = np.setdiff1d(np.arange(len(points)), near)
        mine = np.concatenate((near, rest[evenly(points[rest], most - len(near))]))
        chosen[k], targets = np.sort(shown[k][mine]), points[mine]
    return chosen


def _nearest(targets: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each target another of the points ``(n, 2)``, at least as many: the closest pairs first."""
    away = np.linalg.norm(targets[:, None] - points, axis=2)
    found = np.zeros(len(targets), dtype=int)
    for _ in targets:
        i, j = np.unravel_index(away.argmin(), away.shape)
        found[i] = j
        away[i], away[:, j] = np.inf, np.inf
    return found


def _line(parts: Parts, drawn: int, guess: str, width: float) -> str:
    """What stands under a cell of this width, in lines that each have as much of it as fits."""
    said = [counts(parts), *([guess] if guess else [])]
    said += [f"{drawn} drawn"] if drawn < parts.visible.sum() else []
    lines = said[:1]
    for more in said[1:]:
        line = f"{lines[-1]} · {more}"
        lines[-1:] = [line] if fold(line, 1.15 * width) == line else [lines[-1], more]
    return "\n".join(lines)


def _place(
    page: Page, row: int, column: int, pair: tuple[np.ndarray, np.ndarray], left: float, height: float, views: bool
) -> tuple[Axes, Axes]:
    """The panels of two pictures of one height, so many inches from the left of a place."""
    panels = []
    for pixels, (colour, style) in zip(pair, VIEWS, strict=True):
        width = height * pixels.shape[1] / pixels.shape[0]
        panels.append(page.inset(row, column, left, width, height))
        fill(panels[-1], pixels)
        if views:
            panels[-1].spines[:].set(color=colour, linestyle=style, linewidth=1.3)
        left += width + GAP
    return panels[0], panels[1]


def _name(whole: Axes, text: str) -> None:
    """The name of a pair, over the left of its first cell."""
    whole.annotate(
        text, (0, 1), (36 * _APART, 1.8), "axes fraction", "offset points", ha="left", va="bottom", fontsize=6,
        color="0.1", linespacing=1.1, parse_math=False, annotation_clip=False,
    )  # fmt: skip
