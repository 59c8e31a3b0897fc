"""Embeddings: points, regions or images as dots in a plane, in the colours of their categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from plrc.figures.grid import Picture, Values, as_array, as_pixels, cut, each, finish, fold, page
from plrc.figures.style import CATEGORIES, GREY, LOOK, OTHER, PAGE, styled

Group = tuple[str, np.ndarray, dict[str, Any]]  # name, members, look
_COVERED = 3  # dots, at most, by an image
_THUMBNAIL = 0.07  # longer side of an image in the plane, whose width is 1


@styled
def embedding(
    coordinates: Values | Mapping[str, Values],
    labels: Sequence[str | int] | Values | None = None,
    *,
    thumbnails: Callable[[int], Picture] | None = None,
    explained: Mapping[str, Sequence[float]] | None = None,
    captions: Mapping[str, str] | None = None,
    note: str = "",
) -> Figure:
    """Dots in a plane, or in one plane for each of several networks, with a key of the categories.

    Both directions have one unit; there are no numbers on the axes, for they would mean nothing. The first eight
    categories (sorted) have eight colours, the next eight another mark. Of more than 16 the largest have, and the rest
    is grey.

    coordinates: ``(n, 2)`` of t-SNE, PCA, …; or heading → ``(n, 2)``, of the same n samples. labels: n categories.
    thumbnails: what gives an image of a sample, drawn in place of its dot where it covers no other image and few dots.
    explained: heading ("" of a single plane) → the shares of variance that its two axes explain, for PCA. captions:
    heading → a line under the plane ("purity 0.61"). note: at the foot. Raises a ValueError for coordinates of another
    shape, or another number.
    """
    planes = coordinates if isinstance(coordinates, Mapping) else {"": coordinates}
    arrays = {name: as_array(plane).astype(float) for name, plane in planes.items()}
    n = len(next(iter(arrays.values())))
    each(n, "samples", labels=labels, **arrays)
    if not n or any(plane.shape != (n, 2) or not np.isfinite(plane).all() for plane in arrays.values()):
        raise ValueError("coordinates are (n, 2) finite numbers, of one sample at least")
    groups = _groups(labels, n)

    spans = [np.ptp(plane, axis=0) for plane in arrays.values()]
    share = max(float(np.clip(y / x, 0.4, 1.0)) if x > 0 else 1.0 for x, y in spans)
    beside = len(arrays) == 1 and labels is not None
    key_columns = -(-len(groups) // 24) if beside else 5
    room = 0.9 * key_columns * beside
    width = max(1.2, min((PAGE - room) / len(arrays), 5.0 if thumbnails is not None else 3.6))
    body, axes = page([share], [1.0] * len(arrays), width * len(arrays) + room)
    for panel, (name, plane) in zip(axes[0], arrays.items(), strict=True):
        of = (explained or {}).get(name)
        said = [] if of is None else ["PC 1 (→) {:.0%}, PC 2 (↑) {:.0%} of variance".format(*of).replace("%", " %")]
        said += [(captions or {}).get(name, "")]
        panel.set_title(fold(name, width, 7))
        panel.set_xlabel(fold("\n".join(said), width), color=GREY)
        low, high = plane.min(axis=0), plane.max(axis=0)
        half = 0.55 * max(float(((high - low) / (1, share)).max()), 1e-9) * np.array([1, share])
        (x0, y0), (x1, y1) = (low + high) / 2 - half, (low + high) / 2 + half
        panel.set(xlim=(x0, x1), ylim=(y0, y1), xticks=[], yticks=[])
        shown = _thumbnails(panel, plane, thumbnails, groups) if thumbnails is not None else []
        size = float(np.clip(4000 / n, 3.0, 22.0))
        # The rarer a category, the further up.
        for z, (label, members, look) in enumerate(sorted(groups, key=lambda group: -len(group[1]))):
            how = {"edgecolors": "white", "linewidths": 0.25, "alpha": 0.9, "clip_on": False, "zorder": 4 + z / 1000}
            panel.scatter(*plane[np.setdiff1d(members, shown)].T, s=size, label=label or "samples", **how, **look)
    if labels is not None:
        dot: dict[str, Any] = {"linestyle": "none", "markersize": 4, "markeredgewidth": 0}
        handles = [Line2D([], [], label=f"{cut(name)}  {len(of)}", **dot, **look) for name, of, look in groups]
        loc = "outside right upper" if beside else "outside lower left"
        body.legend(handles=handles, loc=loc, ncols=min(key_columns, len(handles)), handlelength=1.0)
    return finish(body, note)


def _groups(labels: Sequence[str | int] | Values | None, count: int) -> list[Group]:
    """Name, members and look of each category; one without a name if there are no labels."""
    looks = [{"color": colour, "marker": marker} for marker in LOOK["markers"] for colour in CATEGORIES]
    if labels is None:
        return [("", np.arange(count), looks[0])]
    known, places, sizes = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    told = np.sort(np.argsort(-sizes, kind="stable")[: LOOK["most"]])
    groups = [(str(known[k]), np.flatnonzero(places == k), look) for k, look in zip(told, looks, strict=False)]
    if len(known) > len(told):
        other = {"color": OTHER, "marker": LOOK["markers"][0]}
        groups.append((f"{len(known) - len(told)} others", np.flatnonzero(~np.isin(places, told)), other))
    return groups


def _thumbnails(
    axes: Axes, plane: np.ndarray, image_of: Callable[[int], Picture], groups: Sequence[Group]
) -> list[int]:
    """Draw images at their dots, unless one is in the way, framed in their category's colour, with its mark at a corner
    where that is not the first; returns which."""
    look_of = {k: look for _, members, look in groups for k in members}
    unit = _THUMBNAIL * np.ptp(axes.get_xlim())
    covers = np.array([(np.abs(plane - place) < unit / 2).all(axis=1).sum() - 1 for place in plane])
    placed: list[int] = []
    for k in np.argsort(covers, kind="stable").tolist():
        place = plane[k]
        if covers[k] > _COVERED or (np.abs(plane[placed] - place) < unit).all(axis=1).any():
            continue
        placed.append(k)
        small = Image.fromarray(as_pixels(image_of(k)))
        small.thumbnail((96, 96))
        half = np.array(small.size) / max(small.size) * unit / 2
        (x0, y0), (x1, y1) = place - half, place + half
        how: dict[str, Any] = {"aspect": "auto", "clip_on": False, "interpolation": "antialiased", "zorder": 3}
        axes.imshow(np.asarray(small), extent=(x0, x1, y0, y1), label=f"picture {k}", **how)
        frame = {"fill": False, "ec": look_of[k]["color"], "lw": 1.2, "zorder": 3.5, "clip_on": False}
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **frame))
        if look_of[k]["marker"] != LOOK["markers"][0]:
            axes.scatter(x0, y1, 30, edgecolors="white", linewidths=0.5, zorder=3.6, clip_on=False, **look_of[k])
    return placed
