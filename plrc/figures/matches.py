"""Matches of points and regions between two images, of one pair or of several pairs by several networks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plrc.figures import grid
from plrc.figures.grid import Picture, Values, as_array, as_pixels, aspect, cut, each, finish, fold, halo, page
from plrc.figures.style import GREY, LOOK, PAGE, line, number, region_colours, scale_of, styled

Pair = tuple[np.ndarray, np.ndarray]
DRAWN = 10  # matches of a pair, spread: of more the lines are a tangle
_TALLEST = 2.6  # inches of an image
_GAP = 0.02  # between two images side by side, as a share of their width together
_ENDS = {"right": "o", "wrong": "D"}
_DASHES = {state: line(LOOK["matches"][state])["linestyle"] for state in _ENDS}


class Parts(NamedTuple):
    """Matches of n points as arrays: from ``start (n, 2)`` of the left image to ``end (n, 2)`` of the right one.

    similarity: ``(n,)``. truth: ``(n, 2)`` in the right image, None where it is not known. visible, right: ``(n,)``
    bool: that shows the true place; the match is right. Without truth all and none are.
    """

    start: np.ndarray
    end: np.ndarray
    similarity: np.ndarray
    truth: np.ndarray | None
    visible: np.ndarray
    right: np.ndarray


def parts_of(matches: Any) -> Parts:
    """Those of ``plrc.analysis.correspondence``, or any object with these attributes, checked."""
    n = len(matches.start)
    parts: dict[str, Any] = {name: getattr(matches, name) for name in Parts._fields}
    if matches.truth is None:
        parts |= {"visible": np.ones(n, dtype=bool), "right": np.zeros(n, dtype=bool)}
    each(n, "points", **parts)
    arrays: Any = (None if part is None else as_array(part) for part in parts.values())
    return Parts(*arrays)


def counts(parts: Parts) -> str:
    """What all matches come to, drawn or not: how many are right, or how alike their ends are."""
    n = int(parts.visible.sum())
    if parts.truth is None:
        return f"{n} match{'es' * (n != 1)}" + (f", mean cosine {number(parts.similarity.mean(), '.2f')}" if n else "")
    return _share(int(parts.right[parts.visible].sum()), n, "right")


def _share(part: int, n: int, what: str) -> str:
    return f"{part} of {n} {what}" + (f" ({100 * (part / n):.0f} %)" if n else "")


def _chance(chance: float | None) -> list[str]:
    """The share that is right by chance, in words; nothing where it is not known."""
    known = chance is not None and math.isfinite(chance)
    return [f"chance {100 * chance:.{0 if chance > 0.095 else 1}f} %"] if known and chance is not None else []


def evenly(points: np.ndarray, count: int) -> np.ndarray:
    """Which ``count`` of the points ``(n, 2)`` to take so that they are spread as all are: rising indices.

    The points are halved along their longer side again and again; of each part the one nearest its middle is taken.
    """

    def halve(of: np.ndarray, count: int) -> list[int]:
        if count <= 1:
            return [int(of[((points[of] - points[of].mean(axis=0)) ** 2).sum(axis=1).argmin()])] if count else []
        axis = int(np.ptp(points[of], axis=0).argmax())
        of = of[np.argsort(points[of, axis], kind="stable")]
        middle = round(len(of) * (count // 2) / count)
        return halve(of[:middle], count // 2) + halve(of[middle:], count - count // 2)

    every = np.arange(len(points))
    return np.sort(np.array(halve(every, count), dtype=int)) if count < len(points) else every


@styled
def correspondence(
    pairs: Sequence[tuple[Picture, Picture]],
    columns: Mapping[str, Sequence[Any]],
    names: Sequence[str] | None = None,
    *,
    sides: Sequence[tuple[str, str]] = (),
    views: bool = False,
    chances: Mapping[str, Sequence[float]] | None = None,
    rasters: Sequence[tuple[Values, Values]] | None = None,
    lines: Mapping[str, Sequence[Values]] | None = None,
    note: str = "",
) -> Figure:
    """Lines from points of one image to the places of another that are most alike to them.

    A row a pair of images, a column a network. Ten matches are drawn, spread as all are, each with a number and a
    colour of its own: the same points by all networks, or the nearest that one has. Where the true places are known the
    lines of wrong matches are dashed and end in a diamond, with a cross at the true place; points that the right image
    does not show have no line and are not counted. All others are counted, drawn or not.

    pairs: n times a left and a right image; wide ones stand above one another. columns: heading → n matches, from left
    to right (``plrc.analysis.correspondence.Matches``). names: n headings of the rows. sides: n names of both images.
    views: the images of a pair are two views of an image, framed in their colours. chances: heading → n shares that are
    right by chance. rasters: n pairs of integers ``(h, w)``, regions whose borders are drawn. lines: heading → n arrays
    of bool, which matches may have a line (the background has no place).
    Raises a ValueError if there is no pair or no column, something is not given for each pair or point, or the true
    places of some matches are known and those of others are not.
    """
    each(len(pairs), "pairs", names=names, sides=sides or None, rasters=rasters, **columns)
    sides = sides or [("view 1", "view 2")] * len(pairs) * views
    cells = [[parts_of(of[i]) for of in columns.values()] for i in range(len(pairs))]
    every = [parts for row in cells for parts in row]
    if len({parts.truth is None for parts in every}) != 1:
        raise ValueError("give at least one pair and one network, and the true places of all matches or of none")

    images = [(as_pixels(left), as_pixels(right)) for left, right in pairs]
    ratios = [_layout(pair)[1] for pair in images]
    width = max(2.2, _TALLEST * max(ratios))
    width = max(1.5, min((PAGE - 0.5) / len(columns), 4.5 if len(every) > 1 else PAGE, width))
    heights = [1 / max(ratio, width / _TALLEST) for ratio in ratios]
    body, places = page(heights, [1.0] * len(columns), width * len(columns) + 0.5)
    for i, (pair, row, axes) in enumerate(zip(images, cells, places, strict=True)):
        may = [p.visible & (as_array(lines[name][i]) if lines else True) for name, p in zip(columns, row, strict=True)]
        shown = same_points(row, may)
        for name, parts, drawn, cell in zip(columns, row, shown, axes, strict=True):
            panels = _pair(cell, pair, views)
            for v, raster in enumerate(rasters[i] if rasters else ()):
                grid.draw_borders(panels[v], grid.enlarge(as_array(raster), aspect(pair[v]), 1), rim=1.4)
            boxes = _layout(pair)[0]
            for v, side in enumerate(sides[i] if sides else ()):
                colour = LOOK["views"][v]["colour"] if views else GREY
                panels[v].set_title(cut(side, grid.letters(width * boxes[v, 2])), fontsize=6, color=colour)
            _lines(cell, parts, drawn, boxes)
            said = [counts(parts), *_chance(chances[name][i] if chances else None)]
            said += [f"{len(drawn)} drawn"] if len(drawn) < parts.visible.sum() else []
            title = fold(name, width, 7) if i == 0 else ""
            cell.set_title((f"{title}\n " + "\n " * bool(sides)).lstrip("\n"))
            cell.set_xlabel(fold(" · ".join(said), width), color=GREY)
        name = cut(names[i], grid.letters(width * len(columns))) if names else ""
        axes[0].set_title(name + "\n " * bool(sides), loc="left", fontsize=6).set_in_layout(False)  # over the whole row
    if every[0].truth is not None:
        how: dict[str, Any] = {"color": GREY, "markersize": 3.5}
        key = [Line2D([], [], marker=_ENDS[state], label=state, linestyle=_DASHES[state], **how) for state in _ENDS]
        key.append(Line2D([], [], marker="x", linestyle="none", label="true place of a wrong one", **how))
        body.legend(handles=key, loc="outside lower left", ncols=len(key))
    return finish(body, note)


def _layout(pair: Pair) -> tuple[np.ndarray, float]:
    """Two images in a cell: of one height side by side, or wide ones of one width above one another.

    Their boxes ``(2, 4)``, left, lower, width, height as shares of the cell; the cell's width, its height being 1.
    """
    a, b = (aspect(pixels) for pixels in pair)
    boxes = np.array([[0, 0, a, 1], [a + _GAP * (a + b), 0, b, 1]])
    if min(a, b) > 2:
        boxes = np.array([[0, 1 / b + 3 * _GAP, 1, 1 / a], [0, 0, 1, 1 / b]])
    whole = (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    return boxes / np.tile(whole, 2), whole[0] / whole[1]


def _pair(axes: Axes, pair: Pair, views: bool) -> list[Axes]:
    """Two images in a cell whose frame is [0, 1]², y upward: a panel for each."""
    boxes, ratio = _layout(pair)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect=1 / ratio, anchor="N", xticks=[], yticks=[], facecolor="none")
    axes.spines[:].set_visible(False)
    panels = [axes.inset_axes(box, zorder=1) for box in boxes.tolist()]
    for v, (panel, pixels) in enumerate(zip(panels, pair, strict=True)):
        grid.show_picture(panel, pixels)
        if views:
            grid.frame(panel, v)
    return panels


def _lines(axes: Axes, parts: Parts, shown: np.ndarray, boxes: np.ndarray) -> None:
    """Lines and numbers of the matches ``shown``, each in a colour of its own."""

    def placed(v: int, points: Any) -> np.ndarray:
        return boxes[v, :2] + (points * (1, -1) + (0, 1)) * boxes[v, 2:]

    colours = region_colours(np.arange(len(shown)))
    ends = np.stack((placed(0, parts.start[shown]), placed(1, parts.end[shown])), axis=1)
    right = parts.right[shown] | (parts.truth is None)
    over: dict[str, Any] = {"clip_on": False, "zorder": 3}
    for state, which in (("right", right), ("wrong", ~right)):
        lines = LineCollection(list(ends[which]), colors=colours[which], linewidths=1.1, linestyles=[_DASHES[state]])
        lines.set(label=state, clip_on=False, zorder=2, path_effects=halo(2.0, "0.15"))
        axes.add_collection(lines, autolim=False)
        for v, shape in enumerate(("o", _ENDS[state])):
            x, y = ends[which, v].T
            axes.scatter(x, y, 34, colours[which], marker=shape, edgecolors="0.15", linewidths=0.5, **over)
    for v in (0, 1):
        at = defaultdict[tuple[float, ...], list[int]](list)  # several may end in one cell
        for k, place in enumerate(ends[:, v].round(4).tolist()):
            at[tuple(place)].append(k)
        for (x, y), those in at.items():
            text: dict[str, Any] = {"color": "white" if colours[those[0]] @ (0.299, 0.587, 0.114) < 0.55 else "black"}
            text = text if len(those) == 1 else {"color": "black", "path_effects": halo(1.5)}
            told = ",".join(str(k + 1) for k in those)
            where: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 4, "fontsize": 5}
            axes.text(x, y, told, **where, **text).set_in_layout(False)
    if parts.truth is not None:
        for place, colour in zip(placed(1, parts.truth[shown])[~right], colours[~right], strict=True):
            cross = axes.plot(*place, "x", color=colour, ms=4.5, mew=1.3, path_effects=halo(2.3, "0.15"), **over)
            cross[0].set_label("true place of a wrong one")


def same_points(row: Sequence[Parts], may: Sequence[np.ndarray], most: int = DRAWN) -> list[np.ndarray]:
    """Which matches of each network to draw: the k-th of each is of the same point, or of the nearest that it has.

    row: a network each. may: ``(n,)`` bool, which of its matches may be drawn. Spread as all of the network that has
    the fewest; that one chooses first.
    """
    from scipy.optimize import linear_sum_assignment  # a fifth of a second

    chosen, targets = [np.zeros(0, dtype=int)] * len(row), np.zeros((0, 2))
    for k in sorted(range(len(row)), key=lambda k: may[k].sum()):
        of = np.flatnonzero(may[k])
        points = row[k].start[of]
        near = linear_sum_assignment(np.linalg.norm(targets[:, None] - points, axis=2))[1]
        rest = np.setdiff1d(np.arange(len(points)), near)
        mine = np.concatenate((near, rest[evenly(points[rest], most - len(near))]))
        chosen[k], targets = of[mine], points[mine]
    return chosen


@styled
def region_correspondence(
    left: Picture,
    right: Picture,
    rasters: tuple[Values, Values],
    matrix: Values,
    *,
    views: bool = False,
    names: tuple[str, str] | None = None,
    keep: Values | None = None,
    chance: float | None = None,
    note: str = "",
) -> Figure:
    """Two images with numbered regions beside the affinity of each region of one with each of the other.

    Regions that belong together have one colour, those without a counterpart are grey. In two views of an image those
    of one number belong together; in two images those that are each other's best. The best of each row of the matrix is
    marked; for views a box marks the same region, and the headline counts the regions that find themselves. A match
    that is not kept is not marked, and not counted, and makes no pair.

    rasters: integers ``(h, w)``, the region of each cell of the whole of each image; negative: none. matrix: ``(n, m)``
    cosines, rows and columns by the rising numbers of the regions of the left and right raster
    (``plrc.analysis.correspondence.region_affinity``). views: these are two views of an image. names: two headings.
    keep: ``(n,)`` bool, which matches are kept. chance: the share that is right by chance.
    Raises a ValueError if the matrix or ``keep`` has not a value for each region, or a raster has none.
    """
    values, names = as_array(matrix), names or (("view 1", "view 2") if views else ("image 1", "image 2"))
    numbered = [as_array(raster).astype(int) for raster in rasters]
    rows, columns = (np.unique(raster[raster >= 0]) for raster in numbered)
    n, m = len(rows), len(columns)
    each(n, "regions of the left image", keep=keep, matrix=values)
    if values.shape != (n, m) or not values.size:
        raise ValueError(f"rasters of {n} and {m} regions need a matrix ({n}, {m}) of at least one, not {values.shape}")
    kept = np.ones(n, dtype=bool) if keep is None else as_array(keep).astype(bool)
    best, i = values.argmax(axis=1), np.arange(n)
    same, mutual = (rows[:, None] == columns) & views, np.zeros(values.shape, dtype=bool)
    mutual[i, best] = kept & (values.argmax(axis=0)[best] == i)
    pairs = [(int(rows[i]), int(columns[j])) for i, j in np.argwhere(same if views else mutual)]
    right_ones = kept & same[i, best]
    headline = f"{len(pairs)} of {n} regions have a mutual best match"
    if views:
        headline = _share(int(right_ones.sum()), int(same[kept].any(axis=1).sum()), "regions find themselves")
    details = _chance(chance) + ([] if kept.all() else [f"{kept.sum()} of {n} matches are kept"])

    pair = as_pixels(left), as_pixels(right)
    boxes, ratio = _layout(pair)
    wide = min(max(m / n, 0.6), 1.4)  # the matrix, its height being 1
    height = min(_TALLEST, (PAGE - 1.0) / (ratio + wide))
    square = max(height, 1.5)
    width = max(1.6, min(ratio * height, PAGE - 1.0 - square * wide))
    body, ((axes, heat),) = page([square], [width, square * wide], width + square * wide + 1.0)
    for v, (panel, raster) in enumerate(zip(_pair(axes, pair, views), numbered, strict=True)):
        regions = grid.enlarge(raster, aspect(pair[v]), 1)
        colours = np.full((*regions.shape, 3), grid.UNMATCHED)
        for numbers in pairs:
            colours[regions == numbers[v]] = region_colours(numbers[0])
        grid.draw_regions(panel, regions, colours, np.unique(regions[regions >= 0]).tolist())
        panel.set_title(fold(names[v], width * boxes[v, 2], 7), color=LOOK["views"][v]["colour"] if views else "black")

    scale = scale_of("cosine", None, [values])
    ends = {"cmap": scale.colours, "vmin": scale.low, "vmax": scale.high}
    heat.imshow(values, extent=(0, m, n, 0), aspect="auto", label="matrix", **ends)
    across, down = -(-m // int(10 * min(1.0, square * wide / 2))), -(-n // 12)  # numbers do not touch
    heat.set_xticks(np.arange(0, m, across) + 0.5, columns[::across].tolist())
    heat.set_yticks(np.arange(0, n, down) + 0.5, rows[::down].tolist())
    heat.tick_params(length=0)
    heat.set(xlabel=f"regions of {cut(names[1], 16)}", ylabel=f"regions of {cut(names[0], 16)}")
    grid.colour_bar(body, [heat], scale, square)
    cell = 72 * square * min(wide / m, 1 / n)
    dot = {"color": "white", "mfc": "black", "mew": min(0.5, 0.1 * cell), "ms": min(4.5, 0.6 * cell)}
    marked = {", right": right_ones, ", wrong": kept & ~right_ones} if views else {"": kept}
    for shape, (how, which) in zip("oX", marked.items(), strict=False):
        heat.plot(best[which] + 0.5, i[which] + 0.5, shape, label=f"best of its row{how}", **dot)
    if views:
        box = {"color": "black", "mfc": "none", "mew": 0.8, "ms": min(9.0, 0.8 * cell), "path_effects": halo(2.0)}
        heat.plot(*(np.argwhere(same).T[::-1] + 0.5), "s", label="the same region", **box)
    key = body.legend(handles=heat.lines, loc="outside lower left", ncols=3)
    for mark in key.legend_handles:  # cells may be tiny
        mark.set(markersize=4.5)
    return finish(body, note, headline, " · ".join(details))
