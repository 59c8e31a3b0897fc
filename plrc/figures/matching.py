"""Matches of points: two pictures side by side, and lines from where a point is to where a network finds it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from plrc.figures.colours import RIGHT, WRONG
from plrc.figures.page import Page
from plrc.figures.pairs import KEY, default_names, place_pair
from plrc.figures.panels import as_array, as_pixels, size
from plrc.figures.scales import Limits, scale_of

Values = np.ndarray | Tensor


class PointMatches(Protocol):
    """Matches of n points; ``plrc.analysis.correspondence.Matches`` is one.

    Attributes:
        start: ``(n, 2)`` in the frame of the left picture. end: ``(n, 2)`` in the frame of the right one.
        similarity: ``(n,)``. truth: ``(n, 2)`` in the frame of the right picture. visible, right: ``(n,)`` bool:
            that shows the true place; the match is right. The last three are None where nobody knows.
    """

    @property
    def start(self) -> Values: ...
    @property
    def end(self) -> Values: ...
    @property
    def similarity(self) -> Values: ...
    @property
    def truth(self) -> Values | None: ...
    @property
    def visible(self) -> Values | None: ...
    @property
    def right(self) -> Values | None: ...


def correspondence(
    left: np.ndarray | Image.Image,
    right: np.ndarray | Image.Image,
    matches: PointMatches,
    *,
    views: bool = False,
    names: tuple[str, str] | None = None,
    most: int = 40,
    limits: Limits | None = (0.0, 1.0),
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

    Raises:
        ValueError: the parts of the matches differ in number, or of truth, visible and right only some are known.
    """
    start, end, similarity, truth, visible, correct = _parts(matches)
    judged = truth is not None
    shown = np.flatnonzero(visible)
    shown = shown[evenly(start[shown], most)]

    scale = None if judged else scale_of("cosine", limits, [similarity])
    notes = _headline(similarity, visible, correct if judged else None, len(shown), (names or default_names(views))[1])
    pictures = as_pixels(left), as_pixels(right)
    page, panels, _ = place_pair(pictures, names, views, notes, scale, KEY if judged else 0.0)
    if scale is None:
        _key(page)
        for i in shown:
            colour, style = RIGHT if correct[i] else WRONG
            _draw(panels, start[i], end[i], "right" if correct[i] else "wrong", colour, style)
            if not correct[i]:
                _cross(panels[1], truth[i], colour)
    else:
        page.colour_bar()
        shares = ((similarity - scale.low) / (scale.high - scale.low)).clip(0, 1)
        for i in sorted(shown, key=lambda i: similarity[i]):  # the surer over the less sure
            _draw(panels, start[i], end[i], "match", scale.colours(float(shares[i])), halo="0.15")
    return page.figure


def evenly(points: np.ndarray, count: int) -> np.ndarray:
    """Which ``count`` of the points ``(n, 2)`` to take so that they are spread as all are: rising indices.

    The points are halved along their longer side again and again; of each part the one nearest its middle is taken.
    """
    if len(points) <= count:
        return np.arange(len(points))

    def parts(of: np.ndarray, count: int) -> list[np.ndarray]:
        if count <= 1:
            return [of] * count
        axis = int(np.ptp(points[of], axis=0).argmax())
        of = of[np.argsort(points[of, axis], kind="stable")]
        first = count // 2
        cut = round(len(of) * first / count)
        return parts(of[:cut], first) + parts(of[cut:], count - first)

    chosen = []
    for part in parts(np.arange(len(points)), count):
        away = points[part] - points[part].mean(axis=0)
        chosen.append(part[(away**2).sum(axis=1).argmin()])
    return np.sort(np.array(chosen, dtype=int))


def _parts(matches: PointMatches) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Start, end, similarity, truth, visible and right as arrays; without truth all are visible and none is right."""
    start, end, similarity = (as_array(part) for part in (matches.start, matches.end, matches.similarity))
    known = [None if part is None else as_array(part) for part in (matches.truth, matches.visible, matches.right)]
    if len({part is None for part in known}) > 1:
        raise ValueError("of truth, visible and right some are None: give all three, or none where nobody knows")
    truth, visible, right = known
    if visible is None or right is None:
        visible, right = np.ones(len(start), dtype=bool), np.zeros(len(start), dtype=bool)
    counts = {len(part) for part in (start, end, similarity, truth, visible, right) if part is not None}
    if len(counts) > 1:
        raise ValueError(f"the parts of the matches are of {sorted(counts)} points: they belong together")
    return start, end, similarity, truth, visible.astype(bool), right.astype(bool)


def _headline(
    similarity: np.ndarray, visible: np.ndarray, right: np.ndarray | None, drawn: int, where: str
) -> tuple[str, str]:
    """What all matches come to, and what of them is drawn."""
    n = int(visible.sum())
    details = [f"{drawn} of {n} drawn"] if drawn < n else []
    if right is None:
        text = f"{n} matches" + (f", mean cosine {similarity.mean():.2f}".replace("-", "−") if n else "")
    else:
        count = int(right[visible].sum())
        text = f"{count} of {n} right" + (f" ({count / n:.0%})".replace("%", " %") if n else "")
        if n < len(visible):
            details.append(f"{len(visible) - n} more are not in {where}")
    return text, " · ".join(details)


def _draw(
    panels: tuple[Axes, Axes],
    start: np.ndarray,
    end: np.ndarray,
    label: str,
    colour: Any,
    style: Any = "solid",
    halo: str = "white",
) -> None:
    """A line between points of the frames of two panels, with a dot at either end."""
    places = [point * size(axes) for axes, point in zip(panels, (start, end), strict=True)]
    line = ConnectionPatch(
        places[0], places[1], coordsA="data", coordsB="data", axesA=panels[0], axesB=panels[1], arrowstyle="-",
        shrinkA=0, shrinkB=0, color=colour, linestyle=style, linewidth=1.1, capstyle="butt", path_effects=_halo(halo),
        label=label, annotation_clip=False,
    )  # fmt: skip
    panels[0].figure.add_artist(line)
    for axes, place, name in zip(panels, places, ("start", "end"), strict=True):
        _dot(axes, place, name, marker="o", markersize=3.6, markerfacecolor=colour, markeredgecolor=halo)


def _cross(axes: Axes, point: np.ndarray, colour: Any) -> None:
    look = {"markeredgecolor": colour, "markeredgewidth": 1.1, "path_effects": _halo("white")}
    _dot(axes, point * size(axes), "true place", marker="x", markersize=3.6, **look)


def _halo(colour: str) -> list[withStroke]:
    return [withStroke(linewidth=2.0, foreground=colour)]


def _dot(axes: Axes, place: np.ndarray, label: str, **look: Any) -> None:
    """A mark of a panel that belongs to the figure, so that it lies over the lines, which do too."""
    look = {"markeredgewidth": 0.5, "zorder": 3, **look}
    x, y = place
    axes.figure.add_artist(Line2D([x], [y], linestyle="none", transform=axes.transData, label=label, **look))


def _key(page: Page) -> None:
    """Which line is which, at the foot of the page."""
    styles: list[tuple[str, Any]] = [RIGHT, WRONG]
    lines = [Line2D([], [], color=c, linestyle=s, linewidth=1.1) for c, s in styles]
    cross = Line2D([], [], linestyle="none", marker="x", markersize=3.6, markeredgewidth=1.1, markeredgecolor=WRONG[0])
    page.key([*lines, cross], ["right", "wrong", "its true place"])
