"""Matches of points: two pictures side by side, and lines from where a point is to where a network finds it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from plrc.figures.colours import RIGHT, WRONG
from plrc.figures.pairs import KEY, default_names, place_pair
from plrc.figures.panels import as_array, as_pixels, size
from plrc.figures.scales import Limits, Scale, scale_of

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
    guess: float | None = None,
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
        guess: the share that a blind guess gets right, told beside the count. note: as of ``affinity``.

    Raises:
        ValueError: the parts of the matches differ in number, or of truth, visible and right only some are known.
    """
    parts = parts_of(matches)
    shown = np.flatnonzero(parts.visible)
    shown = shown[evenly(parts.start[shown], most)]

    scale = None if parts.judged else scale_of("cosine", limits, [parts.similarity])
    notes = counts(parts), _details(parts, len(shown), (names or default_names(views))[1], guess)
    pictures = as_pixels(left), as_pixels(right)
    page, panels, _ = place_pair(pictures, names, views, notes, scale, KEY if parts.judged else 0.0, note=note)
    draw_matches(panels, parts, shown, scale)
    if scale is None:
        page.key(*key_of_matches())
    else:
        page.colour_bar()
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


class Parts(NamedTuple):
    """Matches as arrays, as ``PointMatches`` has them; without truth all are visible and none is right."""

    start: np.ndarray
    end: np.ndarray
    similarity: np.ndarray
    truth: np.ndarray | None
    visible: np.ndarray
    right: np.ndarray

    @property
    def judged(self) -> bool:
        """Whether the true places are known."""
        return self.truth is not None


def parts_of(matches: PointMatches) -> Parts:
    """The matches as arrays.

    Raises:
        ValueError: the parts differ in number, or of truth, visible and right only some are known.
    """
    start, end, similarity = (as_array(part) for part in (matches.start, matches.end, matches.similarity))
    known = [None if part is None else as_array(part) for part in (matches.truth, matches.visible, matches.right)]
    if len({part is None for part in known}) > 1:
        raise ValueError("of truth, visible and right some are None: give all three, or none where nobody knows")
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
    if not parts.judged:
        return f"{n} matches" + (f", mean cosine {parts.similarity.mean():.2f}".replace("-", "−") if n else "")
    right = int(parts.right[parts.visible].sum())
    return f"{right} of {n} right" + (f" ({right / n:.0%})".replace("%", " %") if n else "")


def blind(guess: float | None) -> str:
    """The share that a blind guess gets right, in words; nothing where nobody knows it."""
    if guess is None or not math.isfinite(guess):
        return ""
    return f"blind guess {100 * guess:.{0 if guess > 0.095 else 1}f} %"


def _details(parts: Parts, drawn: int, where: str, guess: float | None) -> str:
    """A blind guess, what of the matches is drawn, and what the right picture, named ``where``, does not show."""
    n, hidden = int(parts.visible.sum()), int((~parts.visible).sum())
    details = [blind(guess)] if blind(guess) else []
    details += [f"{drawn} of {n} drawn"] if drawn < n else []
    details += [f"{hidden} more are not in {where}"] if hidden else []
    return " · ".join(details)


def draw_matches(panels: tuple[Axes, Axes], parts: Parts, shown: Iterable[int], scale: Scale | None) -> None:
    """Lines of the matches ``shown`` between two panels: right and wrong, or by similarity if there is a scale."""
    start, end, similarity, truth, _, right = parts
    if scale is not None:
        shares = ((similarity - scale.low) / (scale.high - scale.low)).clip(0, 1)
        for i in sorted(shown, key=lambda i: similarity[i]):  # the surer over the less sure
            _draw(panels, start[i], end[i], "match", scale.colours(float(shares[i])), halo="0.15")
        return
    assert truth is not None
    for i in shown:
        colour, style = RIGHT if right[i] else WRONG
        _draw(panels, start[i], end[i], "right" if right[i] else "wrong", colour, style)
        if not right[i]:
            _cross(panels[1], truth[i], colour)


def key_of_matches() -> tuple[list[Artist], list[str]]:
    """Which line is which, where the true places are known: handles and their names, for ``Page.key``."""
    styles: list[tuple[str, Any]] = [RIGHT, WRONG]
    lines = [Line2D([], [], color=c, linestyle=s, linewidth=1.1) for c, s in styles]
    cross = Line2D([], [], linestyle="none", marker="x", markersize=3.6, markeredgewidth=1.1, markeredgecolor=WRONG[0])
    return [*lines, cross], ["right", "wrong", "its true place"]


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
