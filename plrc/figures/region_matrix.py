"""Matches of regions: two pictures with their regions, and how alike each is to each."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from torch import Tensor

from plrc.figures.colours import region_colours
from plrc.figures.matching import blind
from plrc.figures.page import Page
from plrc.figures.pairs import KEY, default_names, place_pair
from plrc.figures.panels import as_array, as_pixels, size, size_in_points
from plrc.figures.rasters import UNMATCHED, depth_in_region, draw_regions, enlarge, number
from plrc.figures.scales import Limits, Scale, scale_of

_SIDE = 1.75  # height of the matrix, inches
_NUMBERS = 0.3  # inches of the numbers of its rows and columns, with the name of the axis
Values = np.ndarray | Tensor


def region_correspondence(
    left: np.ndarray | Image.Image,
    right: np.ndarray | Image.Image,
    rasters: tuple[Values, Values],
    matrix: Values,
    *,
    views: bool = False,
    names: tuple[str, str] | None = None,
    quantity: str = "cosine",
    limits: Limits | None = (-1.0, 1.0),
    keep: Values | None = None,
    guess: float | None = None,
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
        quantity, limits, note: as of ``affinity``. guess: as of ``correspondence``.
        keep: ``(n,)`` bool, which regions' matches are kept; all if not given.

    Raises:
        ValueError: the matrix has not a row and a column for each region of the rasters, or a raster has none; or
            ``keep`` has not a value for each row.
    """
    values = as_array(matrix)
    first, second = (as_array(raster).astype(int) for raster in rasters)
    rows, columns = (np.unique(raster[raster >= 0]) for raster in (first, second))
    if values.shape != (len(rows), len(columns)) or not values.size:
        raise ValueError(
            f"a matrix of shape {values.shape} does not fit rasters of {len(rows)} and {len(columns)} regions: give "
            "a row for each region of the left one and a column for each of the right one"
        )
    kept = np.ones(len(rows), dtype=bool) if keep is None else as_array(keep).astype(bool)
    if kept.shape != rows.shape:
        raise ValueError(f"keep has the shape {kept.shape}, and there are {len(rows)} regions: give one value for each")
    best = values.argmax(axis=1)
    same = (rows[:, None] == columns) & views
    mutual = np.zeros(values.shape, dtype=bool)
    mutual[np.arange(len(rows)), best] = kept & (values.argmax(axis=0)[best] == np.arange(len(rows)))
    pairs = [(int(rows[i]), int(columns[j])) for i, j in np.argwhere(same if views else mutual)]

    scale = scale_of(quantity, limits, [values])
    headline = (
        _headline(best[kept], same[kept]) if views else f"{len(pairs)} of {len(rows)} regions have a mutual best match"
    )
    details = [blind(guess)] if blind(guess) else []
    details += [] if kept.all() else [f"{kept.sum()} of {len(rows)} matches are kept"]
    notes = headline, " · ".join(details)
    beside = (_SIDE * min(max(len(columns) / len(rows), 0.5), 1.5), _SIDE, _NUMBERS)
    pictures = as_pixels(left), as_pixels(right)
    page, panels, heat = place_pair(pictures, names, views, notes, scale, KEY, beside, note)
    assert heat is not None
    _draw(panels[0], first, {r: r for r, _ in pairs})
    _draw(panels[1], second, {c: r for r, c in pairs})
    _draw_matrix(heat, values, rows, columns, names or default_names(views), scale)
    _mark_best(page, heat, best, kept, same if views else None)
    page.colour_bar()
    return page.figure


def _headline(best: np.ndarray, same: np.ndarray) -> str:
    right, n = int(same[np.arange(len(best)), best].sum()), int(same.any(axis=1).sum())
    return f"{right} of {n} regions find themselves" + (f" ({right / n:.0%})".replace("%", " %") if n else "")


def _draw(axes: Axes, raster: np.ndarray, likeness: dict[int, int]) -> None:
    """The regions of a picture, numbered.

    likeness: region → the one whose colour it has; others are grey.
    """
    regions = enlarge(raster, *size(axes))
    depth = depth_in_region(regions)
    colours = np.full((*regions.shape, 3), UNMATCHED)
    for r, like in likeness.items():
        colours[regions == r] = region_colours(like)
    draw_regions(axes, regions, depth, colours)
    for r in np.unique(regions[regions >= 0]):
        number(axes, str(r), np.where(regions == r, depth, 0))


def _draw_matrix(
    axes: Axes, values: np.ndarray, rows: np.ndarray, columns: np.ndarray, names: tuple[str, str], scale: Scale
) -> None:
    n, m = values.shape
    axes.set(xlim=(0, m), ylim=(n, 0))
    axes.imshow(
        values, extent=(0, m, n, 0), origin="upper", aspect="auto", cmap=scale.colours, vmin=scale.low, vmax=scale.high,
        interpolation="nearest", label="matrix",
    )  # fmt: skip
    axes.grid(False)
    axes.spines[:].set(linewidth=0.4, color="0.3")
    axes.tick_params(length=0, pad=1.5, labelsize=5.5, labelcolor="black")
    width, height = size_in_points(axes) / (m, n)
    digits = len(str(max(*rows, *columns)))
    every = math.ceil((3.5 * digits + 1.5) / width)  # numbers that do not touch
    axes.set_xticks(np.arange(0, m, every) + 0.5, [str(c) for c in columns[::every]])
    every = math.ceil(6.5 / height)
    axes.set_yticks(np.arange(0, n, every) + 0.5, [str(r) for r in rows[::every]])
    axes.set_xlabel(f"regions of {_short(names[1])}", fontsize=6, color="black", labelpad=1.5)
    axes.set_ylabel(f"regions of {_short(names[0])}", fontsize=6, color="black", labelpad=1.5)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:7]}…{name[-8:]}"


def _mark_best(page: Page, axes: Axes, best: np.ndarray, kept: np.ndarray, same: np.ndarray | None) -> None:
    """A mark at the best of each row that is kept and, where it is known, a box around the same region; and a key."""
    rows, columns = axes.get_ylim()[0], axes.get_xlim()[1]
    cell = min(size_in_points(axes) / (columns, rows))
    rim = min(0.5, 0.1 * cell)
    fill = {"linestyle": "none", "markerfacecolor": "black", "markeredgecolor": "white", "markeredgewidth": rim}
    box = {"linestyle": "none", "markerfacecolor": "none", "markeredgecolor": "black", "markeredgewidth": 0.6}
    i = np.arange(len(best))
    kinds: list[tuple[str, str, np.ndarray, np.ndarray]]
    if same is None:
        kinds = [("best of its row", "o", i[kept], best[kept])]
    else:
        right, wrong = kept & same[i, best], kept & ~same[i, best]
        kinds = [
            ("best of its row, right", "o", i[right], best[right]),
            ("best of its row, wrong", "X", i[wrong], best[wrong]),
            ("the same region", "s", *np.argwhere(same).T),
        ]
    key = []
    for label, shape, row, column in kinds:
        look, most, share = (box, 9.0, 0.8) if shape == "s" else (fill, 4.5, 0.6)
        axes.plot(column + 0.5, row + 0.5, marker=shape, markersize=min(most, share * cell), label=label, **look)
        key.append(Line2D([], [], marker=shape, markersize=5.0 if shape == "s" else 4.0, **look))
    page.key(key, [label for label, *_ in kinds])
