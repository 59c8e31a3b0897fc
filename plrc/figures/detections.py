"""Pictures with the boxes that a detector draws in them: what is right, what is false and what is missed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from plrc.figures.colours import CATEGORIES
from plrc.figures.labels import label_size, leader, place_labels
from plrc.figures.page import LINE, Page, fold, height_of, room
from plrc.figures.panels import lay, size, size_in_points

_MOST_PICTURES = 12
_TALLEST = 1.0  # height of a panel at most, its column's width being 1
_WIDEST = 4.6  # of a picture alone, inches
_IOU = 0.5
_COLOURS = CATEGORIES[:-1]  # without the last, black, which is the missed objects'
_STYLES: tuple[Any, ...] = ("solid", (0, (4, 1)), (0, (1.5, 0.8)))  # class k has colour k mod 7, style k // 7 mod 3
# Kind of box → width of its line and of what its rim adds, points; and what is over what.
_KINDS = {
    "object": (0.5, 0.5, 2.0),
    "uncounted": (0.5, 0.5, 2.1),
    "missed": (1.2, 0.7, 2.2),
    "false": (0.6, 0.7, 2.3),
    "excused": (0.6, 0.7, 2.3),
    "right": (1.3, 0.7, 2.4),
}
_DASHES, _DOTS = (0, (3, 2)), (0, (1, 1.5))
_CROSS = "✗ "


@dataclass(eq=False)
class DetectedPicture:
    """A picture, what a detector finds in it, and what there is.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB. name: said under the picture.
        boxes: ``(n, 4)`` x0, y0, x1, y1 in pixels of the image, from its left and upper border. scores: ``(n,)`` in
            [0, 1], in any order. labels: n names of classes. masks: ``(n, H, W)`` bool, or None.
        truth_boxes, truth_labels: ``(m, 4)`` and m names, of the objects that there are.
        uncounted: ``(m,)`` bool, the objects that the evaluation leaves out: "difficult" ones of VOC, crowds of COCO.
    """

    image: np.ndarray
    name: str
    boxes: np.ndarray
    scores: np.ndarray
    labels: Sequence[str]
    truth_boxes: np.ndarray
    truth_labels: Sequence[str]
    masks: np.ndarray | None = None
    uncounted: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.boxes = np.asarray(self.boxes, dtype=float).reshape(-1, 4)
        self.truth_boxes = np.asarray(self.truth_boxes, dtype=float).reshape(-1, 4)
        self.scores = np.asarray(self.scores, dtype=float)
        n, m, lengths = len(self.boxes), len(self.truth_boxes), (len(self.scores), len(self.labels))
        if lengths != (n, n) or (self.masks is not None and len(self.masks) != n):
            raise ValueError(f"{self.name}: boxes, scores, labels and masks of detections differ in number")
        if self.masks is not None and np.shape(self.masks)[1:] != self.image.shape[:2]:
            given, wanted = (" × ".join(map(str, s)) for s in (np.shape(self.masks)[1:], self.image.shape[:2]))
            raise ValueError(f"{self.name}: masks are of {given} pixels, the image of {wanted}: they have one size")
        if self.uncounted is None:
            self.uncounted = np.zeros(m, dtype=bool)
        if len(self.truth_labels) != m or len(self.uncounted) != m:
            raise ValueError(f"{self.name}: boxes, labels and uncounted of the objects differ in number")


class _Label(NamedTuple):
    """box: in pixels. filled: the label has the colour of its box; else it is white, in a frame of that colour."""

    box: np.ndarray
    text: str
    colour: str
    filled: bool


class _Judged(NamedTuple):
    """shown: indices of the detections that are drawn, by falling score. right, excused: of each of these, whether it
    finds an object, or one that does not count. missed: indices of the counted objects that none of them finds."""

    shown: np.ndarray
    right: np.ndarray
    excused: np.ndarray
    missed: np.ndarray


def detections(
    pictures: Sequence[DetectedPicture],
    columns: int | None = None,
    *,
    classes: Sequence[str] | None = None,
    least: float = 0.5,
    most: int = 20,
    note: str = "",
) -> Figure:
    """Up to twelve pictures with detected boxes, their classes and confidences, over the objects that there are.

    A detection is right if it has IoU ≥ 0.5 with an object of its class that no detection of a higher score has
    found: a strong box with a filled label. All others are false: a thin box, and a cross in an open label; without a
    cross where half of it lies in an object of its class that does not count. Objects are thin dashed outlines, dotted
    if they do not count; one that no drawn detection finds is strong and has its name in black. A class has one
    colour on the whole sheet, and beyond seven classes another line.

    Args:
        pictures: in rows, from the upper left. columns: how many in a row; 1, 2 or 3 by their number if not given.
        classes: all that there may be, in the order of their colours, so that these stay the same on every sheet; the
            sorted ones that occur if not given.
        least: the score that a detection must have to be drawn. most: how many are drawn of a picture, those of the
            highest scores; the line under it says how many are not drawn.
        note: of what it is; at the foot, where the least score and the number stand too.

    Raises:
        ValueError: there is no picture, there are more than twelve, or ``classes`` lacks one that occurs.
    """
    if not 1 <= len(pictures) <= _MOST_PICTURES:
        raise ValueError(f"a sheet has room for 1 to {_MOST_PICTURES} pictures, not {len(pictures)}: draw several")
    order = {name: k for k, name in enumerate(_classes(pictures, classes))}
    judged = [_judge(picture, least, most) for picture in pictures]

    columns = columns or min(len(pictures), 1 + (len(pictures) > 1) + (len(pictures) > 4))
    rows = math.ceil(len(pictures) / columns)
    width = min(_WIDEST, room(columns, None) / columns)
    tall = [min(_TALLEST * width, width * p.image.shape[0] / p.image.shape[1]) for p in pictures]
    heights = [max(tall[columns * row : columns * (row + 1)]) for row in range(rows)]
    unders = [
        "\n".join(fold(line, 1.15 * width) for line in _lines(*both)) for both in zip(pictures, judged, strict=True)
    ]
    below = [height_of(unders[columns * row : columns * (row + 1)]) + 0.03 for row in range(rows)]
    note = "; ".join(filter(None, (note, f"drawn are scores of {least:.0%} or more, {most} a picture at most")))
    page = Page([width] * columns, heights, [0.0] * rows, below, None, LINE, note)
    for i, (picture, verdict) in enumerate(zip(pictures, judged, strict=True)):
        axes = page.panel(*divmod(i, columns), picture.image)
        _draw(axes, picture, verdict, order, 5.5 if columns < 3 else 5.0)
        page.below(axes, unders[i])
    page.key(*_key(pictures, judged))
    return page.figure


def _classes(pictures: Sequence[DetectedPicture], classes: Sequence[str] | None) -> Sequence[str]:
    occurring = {name for picture in pictures for name in (*picture.labels, *picture.truth_labels)}
    if classes is None:
        return sorted(occurring)
    if occurring - set(classes):
        raise ValueError(f"the classes lack {min(occurring - set(classes))}, which a picture has")
    return classes


def _judge(picture: DetectedPicture, least: float, most: int) -> _Judged:
    """Match what is drawn to the objects, the highest score first; each object is found once."""
    shown = np.argsort(-picture.scores, kind="stable")
    shown = shown[picture.scores[shown] >= least][:most]
    shared, union, own = _overlaps(picture.boxes[shown], picture.truth_boxes)
    same = np.array([[picture.labels[d] == name for name in picture.truth_labels] for d in shown], dtype=bool)
    same = same.reshape(shared.shape)
    counted = ~np.asarray(picture.uncounted, dtype=bool)
    iou = np.where(same & counted, shared / np.maximum(union, 1e-9), 0.0)
    free = np.ones(len(counted), dtype=bool)
    right = np.zeros(len(shown), dtype=bool)
    for d, row in enumerate(iou):
        left = np.where(free, row, 0.0)
        if len(left) and left.max() >= _IOU:
            right[d], free[left.argmax()] = True, False
    # COCO's rule for crowds: half of the detection lies in it. VOC's for difficult objects, IoU 0.5, says less.
    excused = ~right & (same & ~counted & (shared >= _IOU * np.maximum(own, 1e-9))).any(axis=1)
    return _Judged(shown, right, excused, np.flatnonzero(free & counted))


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas ``(n, m)`` that boxes share with others and cover together, and ``(n, 1)`` of the boxes."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = np.prod((high - low).clip(0), axis=2)
    own, theirs = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    return shared, own[:, None] + theirs - shared, own[:, None]


def _lines(picture: DetectedPicture, judged: _Judged) -> list[str]:
    """What stands under a picture: its name, what is drawn of it, and how much is not drawn."""
    objects = int((~np.asarray(picture.uncounted, dtype=bool)).sum())
    false = int((~judged.right & ~judged.excused).sum())
    said = [f"{judged.right.sum()} of {objects} objects found", *([f"{false} false"] if false else [])]
    said += [f"{judged.excused.sum()} not counted"] if judged.excused.any() else []
    lines = [picture.name, " · ".join(said)]
    hidden = np.delete(picture.scores, judged.shown)
    if len(hidden):
        lines.append(f"… and {len(hidden)} more, at most {100 * hidden.max():.0f} %")
    return lines


def _draw(axes: Axes, picture: DetectedPicture, judged: _Judged, order: dict[str, int], type_size: float) -> None:
    if picture.masks is not None:
        _draw_masks(axes, picture, judged, order)
    frames: list[tuple[Rectangle, Rectangle]] = []
    for i, (box, left_out) in enumerate(zip(picture.truth_boxes, np.asarray(picture.uncounted), strict=True)):
        frames.append(_frame(box, "missed" if i in judged.missed else "uncounted" if left_out else "object"))
    labels: list[_Label] = []
    for d, right, excused in zip(*judged[:3], strict=True):
        kind = "right" if right else "excused" if excused else "false"
        colour, style = _look(order[picture.labels[d]])
        frames.append(_frame(picture.boxes[d], kind, colour, style))
        text = f"{_CROSS if kind == 'false' else ''}{picture.labels[d]} {100 * picture.scores[d]:.0f} %"
        labels.append(_Label(picture.boxes[d], text, colour, bool(right)))
    labels += [_Label(picture.truth_boxes[i], picture.truth_labels[i], "black", True) for i in judged.missed]
    for patch in (patch for frame in frames for patch in frame):
        axes.add_patch(patch)
    _write(axes, labels, type_size)


def _draw_masks(axes: Axes, picture: DetectedPicture, judged: _Judged, order: dict[str, int]) -> None:
    """A tint of its class over each mask, the highest score on top."""
    assert picture.masks is not None
    tint = np.zeros((*picture.image.shape[:2], 4))
    for d in judged.shown[::-1]:
        tint[np.asarray(picture.masks[d], dtype=bool)] = (*to_rgb(_look(order[picture.labels[d]])[0]), 0.45)
    lay(axes, tint, "masks", interpolation="nearest")


def _look(k: int) -> tuple[str, Any]:
    return _COLOURS[k % len(_COLOURS)], _STYLES[k // len(_COLOURS) % len(_STYLES)]


def _frame(box: np.ndarray, kind: str, colour: str = "white", style: Any = _DASHES) -> tuple[Rectangle, Rectangle]:
    """A box and the rim under it, with which it is seen on any ground; of an object white in black."""
    (x0, y0, x1, y1), (width, rim, z) = box, _KINDS[kind]
    if kind in ("object", "uncounted", "missed"):
        ground, style = "black", _DOTS if kind == "uncounted" else _DASHES
    else:
        ground = "white"
    at: tuple[Any, ...] = ((x0, y0), x1 - x0, y1 - y0)
    under = Rectangle(*at, fill=False, edgecolor=ground, linewidth=width + rim, alpha=0.75, zorder=z, label="_")
    over = Rectangle(*at, fill=False, edgecolor=colour, linewidth=width, linestyle=style, zorder=z + 0.05, label=kind)
    return under, over


def _write(axes: Axes, labels: Sequence[_Label], type_size: float) -> None:
    """The labels, in the order of their importance, each where it covers none of those before it."""
    panel = size_in_points(axes)
    unit = panel / size(axes)
    sizes = [label_size(label.text, type_size) for label in labels]
    boxes = np.array([np.reshape(label.box, (2, 2)).clip(0, size(axes)) * unit for label in labels]).reshape(-1, 4)
    corners = place_labels(boxes, sizes, panel)
    for label, box, corner, extent in zip(labels, boxes, corners, sizes, strict=True):
        line = leader(box, np.concatenate((corner, corner + extent)))
        if line is not None:
            axes.plot(*(line / unit).T, color=label.colour, linewidth=0.6, zorder=3.9, label="leader")
        w, h = extent / unit
        x, y = corner / unit
        face = Rectangle((x, y), w, h, facecolor=label.colour if label.filled else "white", label="label")
        face.set(edgecolor=label.colour, linewidth=0.4, zorder=4, alpha=0.9)
        axes.add_patch(face)
        axes.text(
            x + w / 2, y + h / 2, label.text, fontsize=type_size, ha="center", va="center_baseline", zorder=5,
            color="white" if label.filled and _dark(label.colour) else "black", parse_math=False, clip_on=True,
        )  # fmt: skip


def _dark(colour: str) -> bool:
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) < 0.55


def _key(pictures: Sequence[DetectedPicture], judged: Sequence[_Judged]) -> tuple[list[Any], list[str]]:
    """What the marks that occur mean."""
    meanings = {"right": "found", "false": f"{_CROSS}false", "object": "object"}
    if any(len(of.missed) for of in judged):
        meanings["missed"] = "missed object, named in black"
    if any(np.any(picture.uncounted) for picture in pictures):
        meanings["uncounted"] = "not counted"
    box = np.zeros(4)  # a key has its own places
    plain = {"colour": _COLOURS[0], "style": "solid"}
    frames = [_frame(box, kind, **(plain if kind in ("right", "false") else {})) for kind in meanings]
    return list(frames), list(meanings.values())
