"""Matches of points and regions between two pictures, of one pair or of several pairs by several networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from plrc.figures import grid
from plrc.figures.grid import UNMATCHED, Picture, Values, as_array, as_pixels, aspect, cut, finish, fold, page
from plrc.figures.style import GREY, LOOK, PAGE, Limits, Scale, line, number, region_colours, scale_of, styled

Pair = tuple[np.ndarray, np.ndarray]
_WIDE = 2.0  # two pictures wider than so many times their height stand above one another
_TALLEST = 2.6  # inches of a picture
_GAP = 0.02  # between two pictures side by side, as a share of their width together


class Parts(NamedTuple):
    """Matches of n points as arrays.

    Attributes:
        start: ``(n, 2)`` in the frame of the left picture. end: ``(n, 2)`` in the frame of the right one.
        similarity: ``(n,)``. truth: ``(n, 2)`` in the frame of the right picture, or None where it is not known.
        visible, right: ``(n,)`` bool: that shows the true place; the match is right. Without truth all and none are.
    """

    start: np.ndarray
    end: np.ndarray
    similarity: np.ndarray
    truth: np.ndarray | None
    visible: np.ndarray
    right: np.ndarray


def parts_of(matches: Any) -> Parts:
    """Matches as arrays; those of ``plrc.analysis.correspondence.Matches``, or any object with the attributes of Parts.

    Raises:
        ValueError: the parts differ in number, or of truth, visible and right only some are known.
    """
    start, end, similarity = (as_array(part) for part in (matches.start, matches.end, matches.similarity))
    known = [None if part is None else as_array(part) for part in (matches.truth, matches.visible, matches.right)]
    if len({part is None for part in known}) > 1:
        raise ValueError("of truth, visible and right some are None: give all three, or none where they are not known")
    truth, visible, right = known
    if visible is None or right is None:
        visible, right = np.ones(len(start), dtype=bool), np.zeros(len(start), dtype=bool)
    lengths = {len(part) for part in (start, end, similarity, truth, visible, right) if part is not None}
    if len(lengths) > 1:
        raise ValueError(f"the parts of the matches are of {sorted(lengths)} points: they belong together")
    return Parts(start, end, similarity, truth, visible.astype(bool), right.astype(bool))


def counts(parts: Parts) -> str:
    """What all matches come to, drawn or not: how many are right, or how alike their ends are."""
    n = int(parts.visible.sum())
    if parts.truth is None:
        return f"{n} matches" + (f", mean cosine {number(parts.similarity.mean(), '.2f')}" if n else "")
    return _share(int(parts.right[parts.visible].sum()), n, "right")


def _share(part: int, n: int, what: str) -> str:
    return f"{part} of {n} {what}" + (f" ({part / n:.0%})".replace("%", " %") if n else "")


def _chance(chance: float | None) -> list[str]:
    """The share that is right by chance, in words; nothing where it is not known."""
    known = chance is not None and math.isfinite(chance)
    return [f"chance {100 * chance:.{0 if chance > 0.095 else 1}f} %"] if known and chance is not None else []


def evenly(points: np.ndarray, count: int) -> np.ndarray:
    """Which ``count`` of the points ``(n, 2)`` to take so that they are spread as all are: rising indices.

    The points are halved along their longer side again and again; of each part the one nearest its middle is taken.
    """
    if len(points) <= count:
        return np.arange(len(points))

    def halve(of: np.ndarray, count: int) -> list[np.ndarray]:
        if count <= 1:
            return [of] * count
        axis = int(np.ptp(points[of], axis=0).argmax())
        of = of[np.argsort(points[of, axis], kind="stable")]
        cut = round(len(of) * (count // 2) / count)
        return halve(of[:cut], count // 2) + halve(of[cut:], count - count // 2)

    parts = halve(np.arange(len(points)), count)
    nearest = [of[((points[of] - points[of].mean(axis=0)) ** 2).sum(axis=1).argmin()] for of in parts]
    return np.sort(np.array(nearest, dtype=int))


@styled
def correspondence(
    pairs: Sequence[tuple[Picture, Picture]],
    columns: Mapping[str, Sequence[Any]],
    names: Sequence[str] | None = None,
    *,
    views: bool = False,
    most: int | None = None,
    limits: Limits | None = None,
    chances: Mapping[str, Sequence[float]] | None = None,
    rasters: Sequence[tuple[Values, Values]] | None = None,
    lines: Mapping[str, Sequence[Values]] | None = None,
    note: str = "",
) -> Figure:
    """Lines from points of one picture to the places of another that are most alike to them.

    A row a pair of pictures, a column a network. Where the true places are known: right matches are solid and blue,
    wrong ones dashed and orange, with a cross at the true place; points that the right picture does not show have no
    line and are not counted. Where they are not known: a line has the colour of its similarity. The line under a cell
    counts all matches that can be right, drawn or not. All networks of a row show the same points, so that they can be
    compared; one that has no match of such a point (its map has other cells, or the match was left out) shows the
    nearest that it has.

    Args:
        pairs: n times a left and a right picture, ``(H, W, 3)`` uint8 or PIL; wide ones stand above one another.
        columns: heading → n matches, from left to right (``plrc.analysis.correspondence.Matches``).
        names: n headings of the rows. views: the pictures of a pair are the two views of an image, framed in the views'
            colours.
        most: lines drawn at most in a cell, spread over the left picture as all are; 40 of one pair by one network, or
            else 20, if not given.
        limits: of the similarity's colours, as of ``affinity``; not used where the true places are known.
        chances: heading → n shares that are right by chance, told under each cell: columns may have maps of
            different numbers of cells.
        rasters: n pairs of integers ``(h, w)``, if regions were matched: their borders are drawn.
        lines: heading → n arrays of bool, which matches may have a line (the background has no place); others only
            count. note: as of ``affinity``.

    Raises:
        ValueError: there is no pair or no column; pairs, names and the matches of a column differ in number; the true
            places of some matches are known and those of others are not; or the parts of matches do not fit.
    """
    names = [""] * len(pairs) if names is None else names
    if not (pairs and columns):
        raise ValueError("there is nothing to draw: give at least one pair and the matches of one network")
    if len(names) != len(pairs):
        raise ValueError(f"{len(pairs)} pairs of pictures and {len(names)} names: they belong together")
    for name, of in columns.items():
        if len(of) != len(pairs):
            raise ValueError(f"{name}: matches of {len(of)} pairs, pictures of {len(pairs)}: they belong together")
    cells = [[parts_of(of[i]) for of in columns.values()] for i in range(len(pairs))]
    every = [parts for row in cells for parts in row]
    if len({parts.truth is None for parts in every}) > 1:
        raise ValueError("the true places of some matches are known and of others not: draw them on two sheets")
    scale = scale_of("cosine", limits, [p.similarity for p in every]) if every[0].truth is None else None
    most = most or (40 if len(every) == 1 else 20)

    pictures = [(as_pixels(left), as_pixels(right)) for left, right in pairs]
    width = max(1.5, (PAGE - 0.5) / len(columns))
    ratios = [_ratio(pair) for pair in pictures]
    width = max(1.5, min(width, 4.5 if len(every) > 1 else PAGE, max(2.2, _TALLEST * max(ratios))))
    ratios = [max(ratio, width / _TALLEST) for ratio in ratios]
    body, places = page([1 / r for r in ratios], [1.0] * len(columns), width * len(columns) + 0.5)
    for i, (pair, row, axes) in enumerate(zip(pictures, cells, places, strict=True)):
        may = [as_array(lines[name][i]).astype(bool) if lines else np.True_ for name in columns]
        shown = _same_points(row, [parts.visible & m for parts, m in zip(row, may, strict=True)], most)
        for name, parts, drawn, cell in zip(columns, row, shown, axes, strict=True):
            corners, sizes, panels = _pair(cell, pair, views)
            for panel, pixels, raster in zip(panels, pair, rasters[i] if rasters else (), strict=False):
                regions = grid.enlarge(as_array(raster).astype(int), aspect(pixels), 1)
                grid.draw_borders(panel, regions, halo=True)
            _lines(cell, parts, drawn, scale, corners, sizes)
            said = [counts(parts), *_chance(chances[name][i] if chances else None)]
            said += [f"{len(drawn)} drawn"] if len(drawn) < parts.visible.sum() else []
            cell.set_title(f"{fold(name, width, 7) if i == 0 else ''}\n ".lstrip("\n"))
            cell.set_xlabel(fold(" · ".join(said), width), color=GREY)
        left = cut(names[i], grid.letters(width * len(columns)))
        axes[0].set_title(left, loc="left", fontsize=6).set_in_layout(False)  # over the whole row
    handles: list[Artist] = [
        Patch(fill=False, linewidth=1.3, label=f"view {v}", **line(LOOK["views"][v - 1])) for v in (1, 2) if views
    ]
    if scale:
        grid.colour_bar(body, places.flat, scale, sum(width / r for r in ratios))
    else:
        drawn_lines = places[0, 0].collections + places[0, 0].lines
        handles = [a for a in drawn_lines if not str(a.get_label()).startswith("_")] + handles
    _key(body, handles)
    return finish(body, note)


def _ratio(pair: Pair) -> float:
    """Width by height of two pictures together."""
    ratios = [aspect(pixels) for pixels in pair]
    if min(ratios) > _WIDE:
        return 1 / (sum(1 / r for r in ratios) + 3 * _GAP)
    return sum(ratios) * (1 + _GAP)


def _pair(axes: Axes, pair: Pair, views: bool) -> tuple[np.ndarray, np.ndarray, list[Axes]]:
    """Two pictures of one height side by side, or wide ones of one width above one another.

    Returns:
        Lower left corners and sizes ``(2, 2)`` of the two in the axes' coordinates, and a panel for each.
    """
    ratios = np.array([aspect(pixels) for pixels in pair])
    if min(ratios) > _WIDE:
        sizes = np.stack((np.ones(2), 1 / ratios), axis=1)
        corners = np.array([[0, sizes[1, 1] + 3 * _GAP], [0, 0]])
    else:
        sizes = np.stack((ratios, np.ones(2)), axis=1)
        corners = np.array([[0, 0], [ratios[0] + _GAP * ratios.sum(), 0]])
    right, top = (corners + sizes).max(axis=0)
    axes.set(xlim=(0, right), ylim=(0, top), aspect="equal", anchor="N", xticks=[], yticks=[], facecolor="none")
    axes.spines[:].set_visible(False)
    panels = []
    for v, (pixels, corner, size) in enumerate(zip(pair, corners, sizes, strict=True)):
        panels.append(axes.inset_axes((*corner, *size), transform=axes.transData, zorder=1))
        grid.show_picture(panels[v], pixels)
        if views:
            grid.frame(panels[v], v)
    return corners, sizes, panels


def _lines(
    axes: Axes, parts: Parts, shown: np.ndarray, scale: Scale | None, corners: np.ndarray, sizes: np.ndarray
) -> None:
    """Lines of the matches ``shown``: right and wrong, or by similarity if there is a scale."""
    start, end, truth = (
        corners[v] + (points * (1, -1) + (0, 1)) * sizes[v]
        for v, points in ((0, parts.start), (1, parts.end), (1, parts.end if parts.truth is None else parts.truth))
    )
    right = parts.right[shown]
    if scale:
        shown = shown[np.argsort(parts.similarity[shown], kind="stable")]  # the surer over the less sure
        share = (parts.similarity[shown] - scale.low) / (scale.high - scale.low)
        kinds: list[tuple[str, np.ndarray, Any, str]] = [
            ("match", shown, {"color": scale.colours(share.clip(0, 1))}, "0.15")
        ]
    else:
        kinds = [(s, shown[right == (s == "right")], line(LOOK["matches"][s]), "white") for s in ("right", "wrong")]
    for label, of, look, halo in kinds:
        rim: dict[str, Any] = {"path_effects": [withStroke(linewidth=2.0, foreground=halo)], "clip_on": False}
        ends = np.stack((start[of], end[of]), axis=1)
        drawn = LineCollection(list(ends), linewidths=1.1, label=label, zorder=2, capstyle="butt", **look, **rim)
        axes.add_collection(drawn, autolim=False)
        colours = np.repeat(look["color"], 2, axis=0) if scale else look["color"]
        dots: dict[str, Any] = {"color": colours, "edgecolors": halo, "linewidths": 0.5, "label": "_ends", "zorder": 3}
        axes.scatter(ends[..., 0], ends[..., 1], s=13, clip_on=False, **dots)
    if not scale:
        cross: dict[str, Any] = {
            "color": LOOK["matches"]["wrong"]["colour"],
            "markersize": 3.6,
            "markeredgewidth": 1.1,
            **rim,
        }
        axes.plot(*truth[shown[~right]].T, "x", label="true place of a wrong one", zorder=4, **cross)


def _key(body: SubFigure, handles: Sequence[Artist]) -> None:
    """What lines and marks mean, at the foot of the page."""
    if handles:
        body.legend(handles=list(handles), loc="outside lower left", ncols=len(handles), handlelength=2.4)


def _same_points(row: Sequence[Parts], lined: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """Which matches to draw of each network: indices of the same points, or of those nearest to them.

    The network with the fewest matches chooses first, so that it can show what the others show.
    """
    from scipy.optimize import linear_sum_assignment  # a fifth of a second

    chosen, targets = [np.zeros(0, dtype=int)] * len(row), np.zeros((0, 2))
    for k in sorted(range(len(row)), key=lambda k: lined[k].sum()):
        may = np.flatnonzero(lined[k])
        points = row[k].start[may]
        near = linear_sum_assignment(np.linalg.norm(targets[:, None] - points, axis=2))[1]
        rest = np.setdiff1d(np.arange(len(points)), near)
        mine = np.concatenate((near, rest[evenly(points[rest], most - len(near))]))
        chosen[k], targets = np.sort(may[mine]), points[mine]
    return chosen


# --------------------------------------------------------------------------------------------------------- regions


@styled
def region_correspondence(
    left: Picture,
    right: Picture,
    rasters: tuple[Values, Values],
    matrix: Values,
    *,
    views: bool = False,
    names: tuple[str, str] | None = None,
    quantity: str = "cosine",
    limits: Limits | None = None,
    keep: Values | None = None,
    chance: float | None = None,
    note: str = "",
) -> Figure:
    """Two pictures with numbered regions beside the affinity of each region of one with each of the other.

    Regions that belong together have one colour, those without a counterpart are grey. In two views of an image those
    of one number belong together; in two images those that are each other's best. The best of each row of the matrix is
    marked; for views a box marks the same region, and the headline counts the regions that find themselves. A match
    that is not kept is not marked, and not counted, and makes no pair.

    Args:
        left, right: ``(H, W, 3)`` uint8 or PIL; wide ones stand above one another.
        rasters: integers ``(h, w)``, the region of each cell of the whole of each picture; negative: none.
        matrix: ``(n, m)``, rows and columns by the rising numbers of the regions of the left and right raster
            (``plrc.analysis.correspondence.region_affinity``).
        views: the pictures are two views of an image, framed in the views' colours, and their regions are named alike.
        names: headings; "view 1" and "view 2", or "image 1" and "image 2", if not given.
        quantity, limits, note: as of ``affinity``. chance: as of ``correspondence``.
        keep: ``(n,)`` bool, which regions' matches are kept; all if not given.

    Raises:
        ValueError: the matrix has not a row and a column for each region of the rasters, or a raster has none; or
            ``keep`` has not a value for each row.
    """
    values, names = as_array(matrix), names or (("view 1", "view 2") if views else ("image 1", "image 2"))
    first, second = (as_array(raster).astype(int) for raster in rasters)
    rows, columns = (np.unique(raster[raster >= 0]) for raster in (first, second))
    n, m = len(rows), len(columns)
    if values.shape != (n, m) or not values.size:
        raise ValueError(
            f"a matrix of shape {values.shape} does not fit rasters of {n} and {m} regions: give a row for each region "
            "of the left one and a column for each of the right one"
        )
    kept = np.ones(n, dtype=bool) if keep is None else as_array(keep).astype(bool)
    if kept.shape != rows.shape:
        raise ValueError(f"keep has the shape {kept.shape}, and there are {n} regions: give one value for each")
    best, i = values.argmax(axis=1), np.arange(n)
    same = (rows[:, None] == columns) & views
    mutual = np.zeros(values.shape, dtype=bool)
    mutual[i, best] = kept & (values.argmax(axis=0)[best] == i)
    pairs = [(int(rows[i]), int(columns[j])) for i, j in np.argwhere(same if views else mutual)]
    right_ones = kept & same[i, best]
    headline = f"{len(pairs)} of {n} regions have a mutual best match"
    if views:
        headline = _share(int(right_ones.sum()), int(same[kept].any(axis=1).sum()), "regions find themselves")
    details = _chance(chance) + ([] if kept.all() else [f"{kept.sum()} of {n} matches are kept"])

    pair = as_pixels(left), as_pixels(right)
    ratio, wide = _ratio(pair), min(max(m / n, 0.6), 1.4)  # of the pictures, and of the matrix
    height = min(2.6, (PAGE - 1.0) / (ratio + wide))
    square = max(height, 1.5)
    width = max(1.6, min(ratio * height, PAGE - 1.0 - square * wide))
    body, ((axes, heat),) = page([square], [width, square * wide], width + square * wide + 1.0)
    _, sizes, panels = _pair(axes, pair, views)
    likes = {r: r for r, _ in pairs}, {c: r for r, c in pairs}
    for v, (panel, raster, like) in enumerate(zip(panels, (first, second), likes, strict=True)):
        regions = grid.enlarge(raster, aspect(pair[v]), 1)
        colours = np.full((*regions.shape, 3), UNMATCHED)
        for r, other in like.items():
            colours[regions == r] = region_colours(other)
        grid.draw_regions(panel, regions, colours, np.unique(regions[regions >= 0]).tolist())
        share = sizes[v, 0] / axes.get_xlim()[1]
        panel.set_title(fold(names[v], width * share, 7), color=LOOK["views"][v]["colour"] if views else "black")

    scale = scale_of(quantity, limits, [values])
    ends = {"vmin": scale.low, "vmax": scale.high}
    heat.imshow(values, extent=(0, m, n, 0), aspect="auto", cmap=scale.colours, label="matrix", **ends)
    across, down = -(-m // int(10 * min(1.0, square * wide / 2))), -(-n // 12)  # numbers do not touch
    heat.set_xticks(np.arange(0, m, across) + 0.5, [str(c) for c in columns[::across]])
    heat.set_yticks(np.arange(0, n, down) + 0.5, [str(r) for r in rows[::down]])
    heat.tick_params(length=0)
    heat.set(xlabel=f"regions of {cut(names[1], 16)}", ylabel=f"regions of {cut(names[0], 16)}")
    cell = 72 * square * min(wide / m, 1 / n)
    wrong = kept & ~right_ones
    marked: list[tuple[str, str, Any]] = [("best of its row", "o", (i[kept], best[kept]))]
    if views:
        marked = [("best of its row, right", "o", (i[right_ones], best[right_ones]))]
        marked += [("best of its row, wrong", "X", (i[wrong], best[wrong])), ("the same region", "s", np.nonzero(same))]
    rim = {"path_effects": [withStroke(linewidth=2.0, foreground="white")]}
    for label, shape, (row, column) in marked:
        size = min(9.0, 0.8 * cell) if shape == "s" else min(4.5, 0.6 * cell)
        look: dict[str, Any] = {"color": "white", "mfc": "black", "mew": min(0.5, 0.1 * cell), "markersize": size}
        look |= {"mfc": "none", "color": "black", "mew": 0.8, **rim} if shape == "s" else {}
        heat.plot(column + 0.5, row + 0.5, shape, label=label, **look)
    grid.colour_bar(body, [heat], scale, square)
    _key(body, heat.lines)
    for mark in filter(None, body.legends[0].legend_handles):  # cells may be tiny
        mark.set(markersize=4.5)
    return finish(body, note, headline, " · ".join(details))
