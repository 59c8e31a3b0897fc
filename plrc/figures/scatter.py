"""Embeddings: points, regions or images as dots in a plane, in the colours of their categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from plrc.figures.grid import Picture, Values, as_array, as_pixels, cut, finish, fold, page
from plrc.figures.style import CATEGORIES, GREY, LOOK, OTHER, PAGE, styled

Category = str | int
Group = tuple[str, np.ndarray, dict[str, Any]]  # name, members, look
_THUMBNAIL = 0.07  # longer side of a picture in the plane, whose width is 1


@styled
def embedding(
    coordinates: Values | Mapping[str, Values],
    labels: Sequence[Category] | Values | None = None,
    *,
    colours: Values | None = None,
    thumbnails: Sequence[Picture] | None = None,
    order: Sequence[Category] | None = None,
    explained: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    captions: str | Mapping[str, str] | None = None,
    note: str = "",
) -> Figure:
    """Dots in a plane, or in one plane for each of several networks, with a key of the categories.

    Both directions have one unit; there are no numbers on the axes, for they would mean nothing. The first
    eight categories have eight colours, the next eight the same with another mark, and so on; after 48 they are grey.

    Args:
        coordinates: ``(n, 2)`` of t-SNE, PCA, …; or heading → ``(n, 2)``, of the same n samples.
        labels: n categories. order: all that there may be, in the order of their colours, so that these stay the same
            whichever occur; the sorted ones that occur if not given.
        colours: ``(n, 3)`` RGB in [0, 1] instead of labels.
        thumbnails: n pictures, drawn in place of their dots where they do not cover one another.
        explained: the shares of variance that the two axes explain, for PCA; or heading → the two.
        captions: a line under the plane ("purity 0.61"), or heading → a line.
        note: as of ``plrc.figures.affinity``; the method and its perplexity belong there.

    Raises:
        ValueError: coordinates of another shape, numbers that differ, labels and colours together, or a label that
            ``order`` does not have.
    """
    planes = dict(coordinates) if isinstance(coordinates, Mapping) else {"": coordinates}
    arrays = {name: as_array(plane).astype(float) for name, plane in planes.items()}
    rgb = None if colours is None else as_array(colours)
    for name, plane in arrays.items():
        if plane.ndim != 2 or plane.shape[1] != 2 or not np.isfinite(plane).all():
            where = f" of {name}" if name else ""
            raise ValueError(f"coordinates{where} are (n, 2) finite numbers, not of shape {plane.shape} or not finite")
    if labels is not None and rgb is not None:
        raise ValueError("dots have the colours of their labels or their own: give labels or colours, not both")
    lengths = {len(part) for part in (*arrays.values(), labels, rgb, thumbnails) if part is not None}
    if len(lengths) != 1:
        raise ValueError(f"coordinates, labels, colours and thumbnails are of {sorted(lengths)} samples")
    groups = _groups(labels, order, lengths.pop())

    spans = [np.ptp(plane, axis=0) if len(plane) else np.ones(2) for plane in arrays.values()]
    share = max(min(1.0, max(0.4, float(y / x))) if x > 0 else 1.0 for x, y in spans)
    beside = len(arrays) == 1 and labels is not None
    key_columns = -(-len(groups) // 24) if beside else 5
    width = min((PAGE - beside * 0.9 * key_columns) / len(arrays), 5.0 if thumbnails is not None else 3.6)
    width = max(width, 1.2)
    body, axes = page([share], [1.0] * len(arrays), width * len(arrays) + beside * 0.9 * key_columns)
    for panel, (name, plane) in zip(axes[0], arrays.items(), strict=True):
        panel.set_title(fold(name, width, 7))
        of = explained.get(name) if isinstance(explained, Mapping) else explained
        said = [] if of is None else ["PC 1 (→) {:.0%}, PC 2 (↑) {:.0%} of variance".format(*of).replace("%", " %")]
        said += [captions.get(name, "") if isinstance(captions, Mapping) else captions or ""]
        panel.set_xlabel(fold("\n".join(filter(None, said)), width), color=GREY)
        low, high = (plane.min(axis=0), plane.max(axis=0)) if len(plane) else (np.zeros(2), np.ones(2))
        half = 0.55 * max(float(((high - low) / (1, share)).max()), 1e-9) * np.array([1, share])
        (x0, y0), (x1, y1) = (low + high) / 2 - half, (low + high) / 2 + half
        panel.set(xlim=(x0, x1), ylim=(y0, y1), xticks=[], yticks=[])
        shown = _thumbnails(panel, plane, thumbnails, groups) if thumbnails is not None else []
        area = float(np.clip(4000 / max(1, len(plane)), 3.0, 22.0))
        # The rarer a category, the further up.
        for z, (label, members, look) in enumerate(sorted(groups, key=lambda group: -len(group[1]))):
            drawn = members[~np.isin(members, shown)]
            look = {**look, "color": look["color"] if rgb is None else rgb[drawn].clip(0, 1)}
            panel.scatter(
                plane[drawn, 0], plane[drawn, 1], s=area, edgecolors="white", linewidths=0.25, alpha=0.9,
                label=label or "samples", clip_on=False, zorder=4 + z / 1000, **look,
            )  # fmt: skip
    if labels is not None:
        handles = [
            Line2D([], [], linestyle="none", markersize=4, markeredgewidth=0, label=f"{cut(name)}  {len(of)}", **look)
            for name, of, look in groups
        ]
        loc: Any = "outside right upper" if beside else "outside lower left"
        body.legend(handles=handles, loc=loc, ncols=min(key_columns, len(handles)), handlelength=1.0)
    return finish(body, note)


def _groups(labels: Sequence[Category] | Values | None, order: Sequence[Category] | None, count: int) -> list[Group]:
    """Name, members and look of each category that occurs; one without a name if there are no labels."""
    colours, markers = len(CATEGORIES), LOOK["markers"]
    if labels is None:
        return [("", np.arange(count), {"color": CATEGORIES[0], "marker": markers[0]})]
    of: list[Any] = [label.item() if hasattr(label, "item") else label for label in labels]
    known = sorted(set(of)) if order is None else list(dict.fromkeys(order))
    unknown = set(of) - set(known)
    if unknown:
        raise ValueError(f"{min(unknown, key=str)!r} is a label that the order of categories does not have: {known}")
    places = np.array([known.index(label) for label in of], dtype=int)
    groups: list[Group] = []
    for i in np.unique(places[places < colours * len(markers)]):
        look = {"color": CATEGORIES[i % colours], "marker": markers[i // colours]}
        groups.append((str(known[i]), np.flatnonzero(places == i), look))
    rest = np.flatnonzero(places >= colours * len(markers))
    if len(rest):
        groups.append((f"{len(set(places[rest]))} others", rest, {"color": OTHER, "marker": markers[0]}))
    return groups


def _thumbnails(axes: Axes, plane: np.ndarray, pictures: Sequence[Picture], groups: Sequence[Group]) -> list[int]:
    """Draw pictures at their dots, framed in their category's colour, unless one is in the way; returns which."""
    colour_of = {k: look["color"] for _, members, look in groups for k in members}
    unit = _THUMBNAIL * (axes.get_xlim()[1] - axes.get_xlim()[0])
    placed: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for k, (place, picture) in enumerate(zip(plane, pictures, strict=True)):
        small = Image.fromarray(as_pixels(picture))
        half = np.array(small.size) / max(small.size) * unit / 2
        if any((np.abs(place - other) < half + reach).all() for other, reach in placed.values()):
            continue
        placed[k] = (place, half)
        small.thumbnail((96, 96))
        (x0, y0), (x1, y1) = place - half, place + half
        how: dict[str, Any] = {"aspect": "auto", "clip_on": False, "interpolation": "antialiased", "zorder": 3}
        axes.imshow(np.asarray(small), extent=(x0, x1, y0, y1), label=f"picture {k}", **how)
        box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour_of[k], lw=1.2, zorder=3.5, clip_on=False)
        axes.add_patch(box)
    return list(placed)
