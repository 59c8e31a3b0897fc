"""Embeddings: points, regions or images as dots in a plane, in the colours of their categories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from PIL import Image
from torch import Tensor

from plrc.figures.colours import CATEGORIES, OTHER
from plrc.figures.page import Page, fold, height_of, room
from plrc.figures.panels import as_array, as_pixels

Plane = np.ndarray | Tensor
Category = str | int
Style = tuple[str, str]  # colour and marker
Group = tuple[str, np.ndarray, Style]  # name, members, style
_MARKERS = "o^sDvP"  # of categories 0 … 7, 8 … 15 and so on
_SIDE, _LARGE, _SMALL = 2.6, 4.6, 1.4  # of the plane, of one with pictures, and the least, inches
_KEY_ROW, _KEY_TYPE = 0.118, 6.0  # inches, points
_KEY_WIDEST = 1.7  # inches of one column of the key
_NO_MARK: Style = ("none", "")
_PICTURE = 0.3  # longer side of a picture in the plane, inches


def embedding(
    coordinates: Plane | Mapping[str, Plane],
    labels: Sequence[Category] | np.ndarray | Tensor | None = None,
    *,
    colours: Plane | None = None,
    thumbnails: Sequence[np.ndarray | Image.Image] | None = None,
    order: Sequence[Category] | None = None,
    explained: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    captions: str | Mapping[str, str] | None = None,
    note: str = "",
) -> Figure:
    """Dots in a plane, or in one plane for each of several networks, with a key of the categories.

    Both directions have one unit; there are no numbers on the axes, for they would mean nothing. The first
    eight categories have eight colours, the next eight the same with another mark, and so on; after 48 they are grey.
    A key that has no room for all says how many more there are.

    Args:
        coordinates: ``(n, 2)`` of t-SNE, PCA, …; or heading → ``(n, 2)``, of the same n things.
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
    shares = explained if isinstance(explained, Mapping) else dict.fromkeys(arrays, explained)
    notes = captions if isinstance(captions, Mapping) else dict.fromkeys(arrays, captions or "")
    pictures = None if thumbnails is None else [_small(picture) for picture in thumbnails]
    rgb = None if colours is None else as_array(colours)
    count = _count(arrays, labels, rgb, pictures)
    groups = _groups(labels, order, count)

    key = [] if labels is None else [(name, f"{len(members)}", style) for name, members, style in groups]
    key_columns, rows, key_width = _key_shape(key, _LARGE if pictures else _SIDE, len(arrays))
    if len(key) > key_columns * rows:
        listed = key[: key_columns * rows - 1]
        named = {name for name, _, _ in listed}
        more = len({str(label) for label in _plain(labels)} - named)
        key = [*listed, (f"and {more} more", "", _NO_MARK)]
    free = room(len(arrays) + bool(key), None) - key_columns * key_width
    side = max(_SMALL, min(_LARGE if pictures else _SIDE, free / max(1, len(arrays))))
    heads, under = [fold(name, side) if name else "" for name in arrays], [fold(notes.get(n, ""), side) for n in arrays]
    variance = {name: fold(_variance(shares.get(name)), side) for name in arrays}
    widths = [side] * len(arrays) + ([key_columns * key_width] if key else [])
    share = _flatness(arrays.values())
    height = max(side * share, _KEY_ROW * min(rows, len(key)))
    page = Page(
        widths, [height], [height_of(heads)], [height_of(variance.values()) + height_of(under)], None, note=note
    )
    for column, ((name, plane), head, caption) in enumerate(zip(arrays.items(), heads, under, strict=True)):
        axes = page.inset(0, column, 0, side, side * share)
        page.heading(0, column, head)
        _frame(axes, plane, share, variance[name])
        shown = _pictures(axes, plane, pictures, groups, side) if pictures else []
        _dots(axes, plane, groups, rgb, shown)
        page.below(axes, caption, height_of(variance.values()))
    if key:
        _draw_key(page.inset(0, len(arrays), 0, key_columns * key_width, height), key, rows, key_width)
    return page.figure


def _groups(labels: Sequence[Category] | Plane | None, order: Sequence[Category] | None, count: int) -> list[Group]:
    """Name, members and style of each category that occurs; one without a name if there are no labels."""
    if labels is None:
        return [("", np.arange(count), (CATEGORIES[0], "o"))]
    of = _plain(labels)
    known = sorted(set(of)) if order is None else list(dict.fromkeys(order))
    unknown = set(of) - set(known)
    if unknown:
        raise ValueError(f"{min(unknown, key=str)!r} is a label that the order of categories does not have: {known}")
    groups: list[Group] = []
    rest: list[int] = []
    names = 0
    for i, name in enumerate(known):
        members = np.array([k for k, label in enumerate(of) if label == name], dtype=int)
        if i >= len(CATEGORIES) * len(_MARKERS):
            rest, names = [*rest, *members], names + bool(len(members))
        elif len(members):
            groups.append((str(name), members, (CATEGORIES[i % len(CATEGORIES)], _MARKERS[i // len(CATEGORIES)])))
    if rest:
        groups.append((f"{names} others", np.sort(rest), (OTHER, "o")))
    return groups


def _count(
    planes: Mapping[str, np.ndarray],
    labels: Sequence[Category] | Plane | None,
    rgb: np.ndarray | None,
    pictures: Sequence[np.ndarray] | None,
) -> int:
    """How many things are drawn."""
    for name, plane in planes.items():
        if plane.ndim != 2 or plane.shape[1] != 2 or not np.isfinite(plane).all():
            where = f" of {name}" if name else ""
            raise ValueError(f"coordinates{where} are (n, 2) finite numbers, not of shape {plane.shape} or not finite")
    if labels is not None and rgb is not None:
        raise ValueError("dots have the colours of their labels or their own: give labels or colours, not both")
    counts = {len(part) for part in (*planes.values(), labels, rgb, pictures) if part is not None}
    if len(counts) != 1:
        raise ValueError(f"coordinates, labels, colours and thumbnails are of {sorted(counts)} things")
    return counts.pop()


def _flatness(planes: Iterable[np.ndarray]) -> float:
    """Height of a plane, its width being 1: as its dots need it, at most a square."""
    spans = [np.ptp(plane, axis=0) if len(plane) else np.ones(2) for plane in planes]
    return max((min(1.0, max(0.4, float(y / x))) if x > 0 else 1.0 for x, y in spans), default=1.0)


def _variance(explained: Sequence[float] | None) -> str:
    """What the axes of a PCA are; one line, for at the left of a plane there is no room."""
    if explained is None:
        return ""
    across, up = (f"{share:.0%}".replace("%", " %") for share in explained)
    return f"PC 1 (→) {across}, PC 2 (↑) {up} of variance"


def _frame(axes: Axes, plane: np.ndarray, share: float, label: str) -> None:
    """Limits with one unit in both directions; no numbers."""
    low, high = (plane.min(axis=0), plane.max(axis=0)) if len(plane) else (np.zeros(2), np.ones(2))
    half = 0.55 * max(float(((high - low) / (1, share)).max()), 1e-9)
    (x, y), up = (low + high) / 2, half * share
    axes.set(xlim=(x - half, x + half), ylim=(y - up, y + up), xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.4, color="0.3")
    axes.set_xlabel(label, fontsize=6, color="black", labelpad=2, linespacing=1.1)


def _dots(axes: Axes, plane: np.ndarray, groups: Sequence[Group], rgb: np.ndarray | None, shown: Sequence[int]) -> None:
    """A dot for each thing but those shown as pictures; the rarer a category, the further up."""
    area = float(np.clip(4000 / max(1, len(plane)), 3.0, 22.0))
    for z, (name, members, (colour, marker)) in enumerate(sorted(groups, key=lambda g: -len(g[1]))):
        drawn = members[~np.isin(members, shown)]
        axes.scatter(
            plane[drawn, 0], plane[drawn, 1], s=area, c=colour if rgb is None else rgb[drawn].clip(0, 1), marker=marker,
            edgecolors="white", linewidths=0.25, alpha=0.9, label=name or "points", clip_on=False, zorder=4 + z / 1000,
        )  # fmt: skip


def _pictures(
    axes: Axes, plane: np.ndarray, pictures: Sequence[np.ndarray], groups: Sequence[Group], side: float
) -> list[int]:
    """Pictures, framed in their category's colour, at the dots where none that came before is in the way: which."""
    colour_of = {k: colour for _, members, (colour, _) in groups for k in members}
    unit = (axes.get_xlim()[1] - axes.get_xlim()[0]) / side  # of the plane, an inch
    placed: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for k, (place, pixels) in enumerate(zip(plane, pictures, strict=True)):
        half = np.array([pixels.shape[1], pixels.shape[0]]) / max(pixels.shape[:2]) * _PICTURE / 2 * unit
        if any((np.abs(place - other) < half + reach).all() for other, reach in placed.values()):
            continue
        placed[k] = (place, half)
        (x0, y0), (x1, y1) = place - half, place + half
        how: dict[str, Any] = {"origin": "upper", "aspect": "auto", "clip_on": False, "zorder": 3}
        axes.imshow(pixels, extent=(x0, x1, y0, y1), label=f"picture {k}", **how)
        frame = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour_of[k], lw=1.2, zorder=3.5, clip_on=False)
        axes.add_patch(frame)
    return list(placed)


def _small(picture: np.ndarray | Image.Image) -> np.ndarray:
    """A picture of at most 96 pixels: it is drawn that small."""
    image = Image.fromarray(as_pixels(picture))
    image.thumbnail((96, 96))
    return np.asarray(image)


def _plain(labels: Sequence[Category] | Plane | None) -> list[Any]:
    """Labels as Python's own strings and numbers."""
    return [label.item() if hasattr(label, "item") else label for label in ([] if labels is None else labels)]


def _key_shape(key: Sequence[tuple[str, str, Style]], height: float, planes: int) -> tuple[int, int, float]:
    """Columns and rows of the key, at most as high as a square plane, and the width of a column."""
    if not key:
        return 0, 1, 0.0
    rows = int(height / _KEY_ROW)
    widest = _KEY_WIDEST if len(key) <= rows else 0.7 * _KEY_WIDEST
    width = min(widest, 0.2 + max(_width(f"{name}  {count}") for name, count, _ in key))
    most = max(1, int((room(planes + 1, None) - planes * _SMALL) / width))
    columns = min(most, -(-len(key) // rows))
    return columns, rows, width


def _draw_key(axes: Axes, key: Sequence[tuple[str, str, Style]], rows: int, width: float) -> None:
    """Mark, name and count of each category, in columns."""
    w, h = width * -(-len(key) // rows), axes.bbox.height / axes.figure.dpi
    axes.set(xlim=(0, w), ylim=(h, 0))
    axes.set_axis_off()
    how: dict[str, Any] = {"va": "center_baseline", "ha": "left", "parse_math": False}
    for i, (name, count, (colour, marker)) in enumerate(key):
        x, y = width * (i // rows) + 0.08, _KEY_ROW * (i % rows + 0.5)
        axes.plot(x, y, marker, color=colour, markersize=4, markeredgecolor="white", markeredgewidth=0.25, label=name)
        if not count:
            axes.text(x - 0.04, y, name, fontsize=_KEY_TYPE, color="0.25", **how)
            continue
        axes.text(x + 0.08, y, _cut(name, count, width - 0.2), fontsize=_KEY_TYPE, color="black", **how)


def _cut(name: str, count: str, width: float) -> str:
    """Name and count, the name cut so that they fit."""
    text, keep = f"{name}  {count}", len(name)
    while (wide := _width(text)) > width + 1e-6 and keep > 1:
        keep = max(1, min(keep - 1, int(keep * width / wide) + 1))
        text = f"{name[:keep].rstrip()}…  {count}"
    return text


def _width(text: str) -> float:
    """Inches that a line of the key is wide."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=_KEY_TYPE), False)[0] / 72 + 0.03
