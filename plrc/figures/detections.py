"""Pictures with the boxes that a detector draws in them: what is right, what is false and what is missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from plrc.figures.grid import aspect, finish, fold, page, show, show_picture
from plrc.figures.style import CATEGORIES, DASHES, GREY, PAGE, styled

_MOST_PICTURES = 12
_IOU = 0.5
_COLOURS = CATEGORIES[:-1]  # without the last, black, which is the missed objects'
# Kind of box → width of its line, points; its line, None for that of its class; what it is called in the key.
_KINDS: dict[str, tuple[float, Any, str]] = {
    "right": (1.3, None, "found"),
    "false": (0.6, None, "✗ false"),
    "excused": (0.6, None, ""),
    "object": (0.5, (0, (5, 3)), "object"),
    "missed": (1.2, (0, (3, 2)), "missed object, named in black"),
    "uncounted": (0.5, (0, (1, 1.5)), "not counted"),
}


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
        n, m = len(self.boxes), len(self.truth_boxes)
        self.counted = ~np.asarray(np.zeros(m) if self.uncounted is None else self.uncounted, dtype=bool)
        if {n} != {len(part) for part in (self.scores, self.labels, self.masks) if part is not None}:
            raise ValueError(f"{self.name}: boxes, scores, labels and masks of detections differ in number")
        if self.masks is not None and np.shape(self.masks)[1:] != self.image.shape[:2]:
            given, wanted = (" × ".join(map(str, s)) for s in (np.shape(self.masks)[1:], self.image.shape[:2]))
            raise ValueError(f"{self.name}: masks are of {given} pixels, the image of {wanted}: they have one size")
        if {m} != {len(self.truth_labels), len(self.counted)}:
            raise ValueError(f"{self.name}: boxes, labels and uncounted of the objects differ in number")


@styled
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
    occurring = {name for picture in pictures for name in (*picture.labels, *picture.truth_labels)}
    order = sorted(occurring) if classes is None else list(classes)
    if occurring - set(order):
        raise ValueError(f"the classes lack {min(occurring - set(order))}, which a picture has")

    columns = columns or min(len(pictures), 1 + (len(pictures) > 1) + (len(pictures) > 4))
    ratios = [max(aspect(p.image), 1.0) for p in pictures]
    rows = [1 / min(ratios[i : i + columns]) for i in range(0, len(pictures), columns)]
    width = min(PAGE / columns, 5.0)
    body, grid = page(rows, [1.0] * columns, width * columns, len(pictures))
    written, kinds = [], {"right", "false", "object"}
    for picture, axes in zip(pictures, grid.flat, strict=False):
        shown, kind_of, missed = judge(picture, least, most)
        show_picture(axes, picture.image)
        hidden = np.delete(picture.scores, shown)
        more = f"… and {len(hidden)} more, at most {100 * hidden.max():.0f} %" if len(hidden) else ""
        said = [picture.name, _line(picture, kind_of), more]
        axes.set_xlabel("\n".join(fold(line, width) for line in said if line), color=GREY)
        size = np.tile(picture.image.shape[1::-1], 2)
        if picture.masks is not None:
            tint = np.zeros((*picture.image.shape[:2], 4))
            for d in shown[::-1]:  # the highest score on top
                colour, _ = _look(order.index(picture.labels[d]))
                tint[np.asarray(picture.masks[d], dtype=bool)] = (*to_rgb(colour), 0.45)
            show(axes, tint, aspect(picture.image), "masks")
        labels = []
        for i, box in enumerate(picture.truth_boxes / size):
            kind = "missed" if i in missed else "object" if picture.counted[i] else "uncounted"
            kinds.add(kind)
            axes.add_patch(_box(box, kind, "white", "black"))
        for d, kind in zip(shown, kind_of, strict=True):
            colour, style = _look(order.index(picture.labels[d]))
            axes.add_patch(_box(picture.boxes[d] / size, kind, colour, "white", style))
            text = f"{'✗ ' * (kind == 'false')}{picture.labels[d]} {100 * picture.scores[d]:.0f} %"
            labels.append((picture.boxes[d] / size, text, colour, kind == "right"))
        labels += [(picture.truth_boxes[i] / size, picture.truth_labels[i], "black", True) for i in missed]
        written.append((axes, labels))
    shape = np.zeros(4)  # a key has its own places
    handles: list[Artist] = [_box(shape, kind, "white", "black") for kind in ("object", "missed", "uncounted")]
    handles = [_box(shape, kind, _COLOURS[0], "white", "solid") for kind in ("right", "false")] + handles
    handles = [handle for handle in handles if handle.get_label() in kinds]
    for handle in handles:
        handle.set_label(_KINDS[str(handle.get_label())][2])
    body.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    note = "; ".join(filter(None, (note, f"drawn are scores of {least:.0%} or more, {most} a picture at most")))
    figure = finish(body, note)
    for axes, labels in written:
        _write(axes, labels, 5.5 if columns < 3 else 5.0)
    return figure


def judge(picture: DetectedPicture, least: float, most: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Match what is drawn to the objects, the highest score first; each object is found once.

    Returns:
        Indices of the detections that are drawn, by falling score; the kind of each, "right", "excused" (of an object
        that does not count) or "false"; indices of the counted objects that none of them finds.
    """
    shown = np.argsort(-picture.scores, kind="stable")
    shown = shown[picture.scores[shown] >= least][:most]
    boxes, objects = picture.boxes[shown][:, None], picture.truth_boxes
    sides = np.minimum(boxes[..., 2:], objects[:, 2:]) - np.maximum(boxes[..., :2], objects[:, :2])
    shared = sides.clip(0).prod(axis=2)
    own, theirs = ((b[..., 2:] - b[..., :2]).prod(axis=-1) for b in (boxes, objects))
    same = np.array([[picture.labels[d] == name for name in picture.truth_labels] for d in shown], dtype=bool)
    same, counted = same.reshape(shared.shape), picture.counted
    iou = np.where(same & counted, shared / np.maximum(own + theirs - shared, 1e-9), 0.0)
    # COCO's rule for crowds: half of the detection lies in it. VOC's for difficult objects, IoU 0.5, says less.
    excused = (same & ~counted & (shared >= _IOU * np.maximum(own, 1e-9))).any(axis=1)
    free, kinds = np.ones(len(counted), dtype=bool), []
    for row, may in zip(iou, excused, strict=True):
        left = np.where(free, row, 0.0)
        right = len(left) > 0 and left.max() >= _IOU
        if right:
            free[left.argmax()] = False
        kinds.append("right" if right else "excused" if may else "false")
    return shown, kinds, np.flatnonzero(free & counted)


def _line(picture: DetectedPicture, kinds: Sequence[str]) -> str:
    said = [f"{kinds.count('right')} of {picture.counted.sum()} objects found"]
    said += [f"{kinds.count(k)} {word}" for k, word in (("false", "false"), ("excused", "not counted")) if k in kinds]
    return " · ".join(said)


def _look(k: int) -> tuple[str, Any]:
    return _COLOURS[k % len(_COLOURS)], DASHES[k // len(_COLOURS) % len(DASHES)]


def _box(box: np.ndarray, kind: str, colour: str, rim: str, style: Any = None) -> Rectangle:
    """A box with a rim, with which it is seen on any ground."""
    x0, y0, x1, y1 = box
    width, own, _ = _KINDS[kind]
    under = withStroke(linewidth=width + 0.7, foreground=rim, alpha=0.75)
    how = {"linewidth": width, "linestyle": own or style, "edgecolor": colour, "path_effects": [under]}
    above = 2 + list(_KINDS)[::-1].index(kind) / 9
    return Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, label=kind, zorder=above, **how)


def _write(axes: Axes, labels: Sequence[tuple[np.ndarray, str, str, bool]], size: float) -> None:
    """Labels at their boxes, the first come first: where one covers least of those before it, near its own corner.

    labels: box in the picture's frame, text, colour, whether the label is filled with it.
    """
    panel = axes.get_window_extent()
    placed = np.zeros((0, 4))
    for box, text, colour, filled in labels:
        dark = float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) < 0.55
        frame = {"boxstyle": "square,pad=0.12", "facecolor": colour if filled else "white", "edgecolor": colour}
        drawn = axes.annotate(
            text, (0, 0), fontsize=size, va="top", color="white" if filled and dark else "black", zorder=5,
            bbox={**frame, "linewidth": 0.4, "alpha": 0.9},
        )  # fmt: skip
        pad, extent = 0.12 * size * axes.figure.dpi / 72, drawn.get_window_extent()
        label = np.array([extent.width + 2 * pad, extent.height + 2 * pad]) / np.array(panel.size)
        low, high = box.reshape(2, 2).clip(0, 1)
        own = low - (0, label[1] * (high[1] - low[1] < 3 * label[1]))  # inside of a large box, over a small one
        right = max(high[0], low[0] + label[0])
        x = np.r_[low[0], np.arange(low[0] - label[0], right, label[0] / 2), right - label[0]]
        places = np.stack(np.meshgrid(x, own[1] + label[1] * np.arange(-3, 5) / 2), axis=-1).reshape(-1, 2)
        places = places.clip(0, np.maximum(1 - label, 0))
        shared = np.minimum(places[:, None] + label, placed[:, 2:]) - np.maximum(places[:, None], placed[:, :2])
        covered = (shared.clip(0) / label).prod(axis=2).sum(axis=1)
        best = places[(8 * covered + 0.1 * (np.abs(places - own) / label).sum(axis=1)).argmin()]
        placed = np.vstack((placed, np.r_[best, best + label]))
        drawn.set_position(best + pad / np.array(panel.size))
