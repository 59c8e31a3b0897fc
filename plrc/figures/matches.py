"""Matches of points and regions between two pictures, of one pair or of several pairs by several networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from plrc.figures import grid
from plrc.figures.grid import UNMATCHED, Picture, Values, as_array, as_pixels, aspect, cut, finish, fold, frame, page
from plrc.figures.style import GREY, LOOK, PAGE, Limits, Scale, line, number, region_colours, scale_of, styled

_STATES = {"right": LOOK["matches"]["right"], "wrong": LOOK["matches"]["wrong"]}
_CROSS: dict[str, Any] = {"linestyle": "none", "marker": "x", "markersize": 3.6, "markeredgewidth": 1.1}
_CROSS["markeredgecolor"] = _STATES["wrong"]["colour"]
_WIDE = 2.0  # two pictures wider than so many times their height stand above one another
_TALLEST = 2.6  # inches of a picture


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
    if chance is None or not math.isfinite(chance):
        return []
    return [f"chance {100 * chance:.{0 if chance > 0.095 else 1}f} %"]


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
    left: Picture,
    right: Picture,
    matches: Any,
    *,
    views: bool = False,
    names: tuple[str, str] | None = None,
    most: int = 40,
    limits: Limits | None = None,
    chance: float | None = None,
    note: str = "",
) -> Figure:
    """Lines from points of one picture to the places of another that are most alike to them.

    Where the true places are known: right matches are solid and blue, wrong ones dashed and orange, with a cross at the
    true place; points that the right picture does not show are counted but have no line. The headline counts all
    matches, drawn or not. Where they are not known: a line has the colour of its similarity.

    Args:
        left, right: ``(H, W, 3)`` uint8 or PIL; wide ones stand above one another. matches: from left to right.
        views: the pictures are the two views of an image, framed in the views' colours.
        names: headings; "view 1" and "view 2", or "image 1" and "image 2", if not given.
        most: lines drawn at most; of more matches, so many that are spread over the left picture as all are.
        limits: of the similarity's colours, as of ``affinity``; not used where the true places are known.
        chance: the share that is right by chance, told beside the count. note: as of ``affinity``.

    Raises:
        ValueError: the parts of the matches differ in number, or of truth, visible and right only some are known.
    """
    parts, names = parts_of(matches), names or _names(views)
    lined = np.flatnonzero(parts.visible)
    shown = lined[evenly(parts.start[lined], most)]
    details = _chance(chance) + ([f"{len(shown)} of {len(lined)} drawn"] if len(shown) < len(lined) else [])
    details += (
        [f"{len(parts.visible) - len(lined)} more are not in {names[1]}"] if len(lined) < len(parts.visible) else []
    )

    pair = as_pixels(left), as_pixels(right)
    ratio, width, stacked = _size(pair, PAGE - 0.5)
    body, ((axes,),) = page([1 / ratio], [1.0], width + 0.4)
    canvas = _Canvas(axes, pair, views, names, width, stacked)
    scale = None if parts.truth is not None else scale_of("cosine", limits, [parts.similarity])
    canvas.draw(parts, shown, scale)
    _explain(body, [axes], scale, width / ratio, [])
    return finish(body, note, counts(parts), " · ".join(details))


@styled
def correspondence_sheet(
    pairs: Sequence[tuple[Picture, Picture]],
    columns: Mapping[str, Sequence[Any]],
    names: Sequence[str],
    *,
    views: bool = False,
    most: int = 20,
    limits: Limits | None = None,
    chances: Mapping[str, Sequence[float]] | None = None,
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
        chances: heading → n shares that are right by chance, told under each cell: columns may have maps of
            different numbers of cells.
        rasters: n pairs of integers ``(h, w)``, if regions were matched: their borders are drawn.
        lines: heading → n arrays of bool, which matches may have a line (the background has no place); others only
            count. note: as of ``affinity``.

    Raises:
        ValueError: there is no pair or no column; pairs, names and the matches of a column differ in number; the true
            places of some matches are known and those of others are not; or as ``correspondence`` does.
    """
    if not (pairs and columns):
        raise ValueError("there is nothing to draw: give at least one pair and the matches of one network")
    if len(names) != len(pairs):
        raise ValueError(f"{len(pairs)} pairs of pictures and {len(names)} names: they belong together")
    for name, of in columns.items():
        if len(of) != len(pairs):
            raise ValueError(f"{name}: matches of {len(of)} pairs, pictures of {len(pairs)}: they belong together")
    cells = [[parts_of(of[i]) for of in columns.values()] for i in range(len(pairs))]
    if len({parts.truth is None for row in cells for parts in row}) > 1:
        raise ValueError("the true places of some matches are known and of others not: draw them on two sheets")
    scale = (
        None if cells[0][0].truth is not None else scale_of("cosine", limits, [p.similarity for r in cells for p in r])
    )

    pictures = [(as_pixels(left), as_pixels(right)) for left, right in pairs]
    width = max(1.5, min((PAGE - 0.5) / len(columns), 4.5))
    ratios = [max(_size(pair, width, False)[0], width / 1.8) for pair in pictures]
    body, places = page([1 / r for r in ratios], [1.0] * len(columns), width * len(columns) + 0.5)
    for i, (pair, row, axes) in enumerate(zip(pictures, cells, places, strict=True)):
        may = [as_array(lines[name][i]).astype(bool) if lines else np.True_ for name in columns]
        shown = _same_points(row, [parts.visible & m for parts, m in zip(row, may, strict=True)], most)
        for k, (name, parts) in enumerate(zip(columns, row, strict=True)):
            canvas = _Canvas(axes[k], pair, views, ("", ""), width)
            for panel, pixels, raster in zip(canvas.panels, pair, rasters[i] if rasters else (), strict=False):
                regions = grid.enlarge(as_array(raster).astype(int), aspect(pixels), 1)
                grid.draw_borders(panel, regions, halo=True)
            canvas.draw(parts, shown[k], scale)
            said = [counts(parts), *_chance(chances[name][i] if chances else None)]
            said += [f"{len(shown[k])} drawn"] if len(shown[k]) < parts.visible.sum() else []
            head = fold(name, width, 7) if i == 0 else ""
            axes[k].set_title(f"{head}\n ".lstrip("\n"))
            axes[k].set_xlabel(fold(" · ".join(said), width), color=GREY)
        left = cut(names[i], grid.letters(width * len(columns)))
        axes[0].set_title(left, loc="left", fontsize=6).set_in_layout(False)  # over the whole row
    frames = [Patch(fill=False, linewidth=1.3, label=f"view {v}", **line(LOOK["views"][v - 1])) for v in (1, 2)]
    _explain(body, places.flat, scale, sum(width / r for r in ratios), frames if views else [])
    return finish(body, note)


def _names(views: bool) -> tuple[str, str]:
    return ("view 1", "view 2") if views else ("image 1", "image 2")


def _size(pair: tuple[np.ndarray, np.ndarray], most: float, stack: bool = True) -> tuple[float, float, bool]:
    """Of two pictures, what they are together: width by height, width in inches, whether they are stacked."""
    ratios = [aspect(pixels) for pixels in pair]
    if stack and min(ratios) > _WIDE:
        return 1 / (sum(1 / r for r in ratios) + 3 * _Canvas.GAP), min(most, _TALLEST * min(ratios)), True
    ratio = sum(ratios) * (1 + _Canvas.GAP)
    return ratio, min(most, max(2.2, _TALLEST * ratio)), False


class _Canvas:
    """Two pictures of one height side by side, or of one width above one another, and the lines between them.

    Attributes:
        panels: axes of the two, each in the frame of its picture.
    """

    GAP = 0.02  # between the two, as a share of their width together

    def __init__(
        self, axes: Axes, pair: tuple[np.ndarray, np.ndarray], views: bool, names: tuple[str, str], width: float,
        stacked: bool = False,
    ) -> None:  # fmt: skip
        ratios = np.array([aspect(pixels) for pixels in pair])
        if stacked:
            self._sizes = np.stack((np.ones(2), 1 / ratios), axis=1)
            self._corners = np.array([[0, 1 / ratios[1] + 3 * self.GAP], [0, 0]])
        else:
            self._sizes = np.stack((ratios, np.ones(2)), axis=1)
            self._corners = np.array([[0, 0], [ratios[0] + self.GAP * ratios.sum(), 0]])
        reach = (self._corners + self._sizes).max(axis=0)
        axes.set(xlim=(0, reach[0]), ylim=(0, reach[1]), aspect="equal", xticks=[], yticks=[], facecolor="none")
        axes.spines[:].set_visible(False)
        self._axes, self.panels = axes, []
        for v, (pixels, corner, size) in enumerate(zip(pair, self._corners, self._sizes, strict=True)):
            panel = axes.inset_axes((*corner, *size), transform=axes.transData, zorder=1)
            grid.show_picture(panel, pixels)
            panel.set_title(fold(names[v], width * size[0] / reach[0], 7))
            if views:
                frame(panel, v)
                panel.title.set_color(LOOK["views"][v]["colour"])
            self.panels.append(panel)

    def draw(self, parts: Parts, shown: Iterable[int], scale: Scale | None) -> None:
        """Lines of the matches ``shown``: right and wrong, or by similarity if there is a scale."""
        shown = np.asarray(shown, dtype=int)
        if scale is None:
            for state, of in (("right", shown[parts.right[shown]]), ("wrong", shown[~parts.right[shown]])):
                self._lines(parts, of, state, _STATES[state]["colour"], line(_STATES[state])["linestyle"])
            wrong = shown[~parts.right[shown]]
            if parts.truth is not None and len(wrong):
                at = self._place(1, parts.truth[wrong])
                look = {
                    "markeredgecolor": _STATES["wrong"]["colour"],
                    "markeredgewidth": 1.1,
                    "path_effects": _halo("white"),
                }
                self._axes.plot(*at.T, "x", markersize=3.6, label="true place", zorder=4, clip_on=False, **look)
        else:
            shown = shown[np.argsort(parts.similarity[shown], kind="stable")]  # the surer over the less sure
            share = (parts.similarity[shown] - scale.low) / (scale.high - scale.low)
            self._lines(parts, shown, "match", scale.colours(share.clip(0, 1)), "solid", "0.15")

    def _lines(self, parts: Parts, of: np.ndarray, label: str, colour: Any, style: Any, halo: str = "white") -> None:
        ends = [self._place(0, parts.start[of]), self._place(1, parts.end[of])]
        how: dict[str, Any] = {"linestyles": style, "capstyle": "butt", "path_effects": _halo(halo), "clip_on": False}
        self._axes.add_collection(
            LineCollection(list(np.stack(ends, axis=1)), colors=colour, linewidths=1.1, label=label, zorder=2, **how),
            autolim=False,
        )
        for name, at in zip(("start", "end"), ends, strict=True):
            x, y = at.T
            look: dict[str, Any] = {"c": colour, "edgecolors": halo, "linewidths": 0.5, "zorder": 3, "clip_on": False}
            self._axes.scatter(x, y, s=13, label=f"{name} of {label}", **look)

    def _place(self, v: int, points: np.ndarray) -> np.ndarray:
        """Points of a picture's frame in the coordinates of the canvas, whose y goes up."""
        return self._corners[v] + (points * (1, -1) + (0, 1)) * self._sizes[v]


def _halo(colour: str) -> list[withStroke]:
    return [withStroke(linewidth=2.0, foreground=colour)]


def _explain(
    body: SubFigure, axes: Iterable[Axes], scale: Scale | None, height: float, handles: Sequence[Artist]
) -> None:
    """A colour bar, or which line is which where the true places are known."""
    if scale is not None:
        grid.colour_bar(body, axes, scale, height)
    else:
        cross = {
            "marker": "x",
            "markersize": 3.6,
            "markeredgewidth": 1.1,
            "markeredgecolor": _STATES["wrong"]["colour"],
        }
        lines: list[Artist] = [Line2D([], [], linewidth=1.1, label=s, **line(look)) for s, look in _STATES.items()]
        handles = [*lines, Line2D([], [], linestyle="none", label="true place of a wrong one", **cross), *handles]
    if handles:
        key(body, handles)


def key(body: SubFigure, handles: Sequence[Artist]) -> None:
    """What lines and marks mean, at the foot of the page."""
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
    values, names = as_array(matrix), names or _names(views)
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
    wide = min(max(m / n, 0.6), 1.4)  # the matrix, its height being 1
    ratio = _size(pair, PAGE)[0]
    height = min(2.6, (PAGE - 1.0) / (ratio + wide))
    square = max(height, 1.5)
    width, stacked = min(ratio * height, PAGE - 1.0 - square * wide), _size(pair, PAGE)[2]
    body, ((axes, heat),) = page([square], [max(width, 1.6), square * wide], max(width, 1.6) + square * wide + 1.0)
    canvas = _Canvas(axes, pair, views, names, width, stacked)
    likes = {r: r for r, _ in pairs}, {c: r for r, c in pairs}
    for panel, pixels, raster, like in zip(canvas.panels, pair, (first, second), likes, strict=True):
        regions = grid.enlarge(raster, aspect(pixels), 1)
        colours = np.full((*regions.shape, 3), UNMATCHED)
        for r, other in like.items():
            colours[regions == r] = region_colours(other)
        grid.draw_regions(panel, regions, colours, np.unique(regions[regions >= 0]).tolist())

    scale = scale_of(quantity, limits, [values])
    ends = {"vmin": scale.low, "vmax": scale.high}
    heat.imshow(values, extent=(0, m, n, 0), aspect="auto", cmap=scale.colours, label="matrix", **ends)
    digits = len(str(max(*rows, *columns)))
    every = -(-m * (3.9 * digits + 2) // (72 * square * wide)), -(-n * 7 // (72 * square))  # numbers do not touch
    heat.set_xticks(np.arange(0, m, int(every[0])) + 0.5, [str(c) for c in columns[:: int(every[0])]])
    heat.set_yticks(np.arange(0, n, int(every[1])) + 0.5, [str(r) for r in rows[:: int(every[1])]])
    heat.tick_params(length=0)
    heat.set(xlabel=f"regions of {cut(names[1], 16)}", ylabel=f"regions of {cut(names[0], 16)}")
    cell = 72 * square * min(wide / m, 1 / n)
    fill = {"markerfacecolor": "black", "markeredgecolor": "white", "markeredgewidth": min(0.5, 0.1 * cell)}
    box = {
        "markerfacecolor": "none",
        "markeredgecolor": "black",
        "markeredgewidth": 0.8,
        "path_effects": _halo("white"),
    }
    kinds: list[tuple[str, str, Any]] = [("best of its row", "o", (i[kept], best[kept]))]
    if views:
        wrong = kept & ~right_ones
        kinds = [("best of its row, right", "o", (i[right_ones], best[right_ones]))]
        kinds += [("best of its row, wrong", "X", (i[wrong], best[wrong])), ("the same region", "s", np.nonzero(same))]
    handles: list[Artist] = []
    for label, shape, (row, column) in kinds:
        look, most, share = (box, 9.0, 0.8) if shape == "s" else (fill, 4.5, 0.6)
        how: dict[str, Any] = {"linestyle": "none", "marker": shape, "label": label, **look}
        heat.plot(column + 0.5, row + 0.5, markersize=min(most, share * cell), **how)
        handles.append(Line2D([], [], markersize=5.0 if shape == "s" else 4.0, **how))
    grid.colour_bar(body, [heat], scale, square)
    key(body, handles)
    return finish(body, note, headline, " · ".join(details))
