"""Labels of boxes in a picture: each at its box, and none over another while there is room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

_PAD = 0.8  # points around the text
_LARGE = 3.0  # a box so many labels high has its label inside
_SMALL = 1.6  # a box of the area of so many labels, or less, would be lost under the label of another
_FAR = 4  # how many heights of a label, at most, it is nudged away from its box


def label_size(text: str, size: float) -> np.ndarray:
    """Width and height ``(2,)`` in points of a label of this type, with what is around it."""
    width = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0]
    return np.array([width + 2 * _PAD, size + 2 * _PAD])


def place_labels(boxes: np.ndarray, sizes: Sequence[np.ndarray], panel: np.ndarray) -> np.ndarray:
    """Where labels stand, so that none covers another, or a small box, if that can be; the first come first.

    A label is at the upper left corner of its box: inside a large box, over a small one, which it would hide. If that
    is taken, it goes along the upper edge and down the left one, to the other corners, then a little away from the
    box; if all that is taken, where it covers little.

    Args:
        boxes: ``(n, 4)`` x0, y0, x1, y1 in points of the panel. sizes: n times ``(2,)``, of the labels, in points.
        panel: ``(2,)``, its width and height; all labels are inside it.

    Returns:
        ``(n, 2)``: the upper left corners of the labels, in points of the panel.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    small = areas <= _SMALL * np.array([size.prod() for size in sizes])
    placed = np.zeros((len(boxes), 4))
    for i, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
        corners = np.clip(_candidates(box, size), 0, np.maximum(panel - size, 0))
        there = np.hstack((corners, corners + size))
        covered = 5 * _overlap(there, placed[:i]) + _overlap(there, boxes[small])
        far = size[1] * np.maximum(0, np.maximum(box[:2] - there[:, 2:], there[:, :2] - box[2:])).max(axis=1)
        best = corners[(covered + far).argmin()]  # the first of the best
        placed[i] = (*best, *(best + size))
    return placed[:, :2]


def leader(box: np.ndarray, label: np.ndarray) -> np.ndarray | None:
    """The ends ``(2, 2)`` of the shortest line from a label ``(4,)`` to its box ``(4,)``; None if they touch."""
    low, high = np.maximum(box[:2], label[:2]), np.minimum(box[2:], label[2:])
    if (low <= high + 1).all():
        return None
    apart = low > high
    middle = (low + high) / 2
    start = np.where(apart, np.clip(middle, label[:2], label[2:]), middle)
    return np.stack((start, np.where(apart, np.clip(middle, box[:2], box[2:]), middle)))


def _candidates(box: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Upper left corners ``(k, 2)`` of a label, the better ones first."""
    x0, y0, x1, y1 = box
    w, h = size
    right, bottom = max(x1 - w, x0), max(y1 - h, y0)
    along = np.arange(x0, right + 1e-6, max(w / 2, 1.0))
    down = np.arange(y0, bottom + 1e-6, max(h / 2, 1.0))
    over, inside = [(x, y0 - h) for x in along], [(x, y0) for x in along]
    top = inside + over if y1 - y0 > _LARGE * h else over + inside
    sides = [(x0, y) for y in down] + [(right, y) for y in down] + [(x, bottom) for x in along]
    around = [(x, y1) for x in along] + [(x0 - w, y) for y in down] + [(x1, y) for y in down]
    steps = np.arange(-_FAR, _FAR + 0.1, 0.5)
    away = np.array([(x0 + a * h, y0 - h + b * h) for a in 2 * steps for b in steps])
    away = away[np.argsort(np.hypot(*(away - (x0, y0 - h)).T), kind="stable")]
    return np.concatenate((np.array(top[:1] + top[len(along) :][:1] + top + sides + around), away))


def _overlap(labels: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """Area ``(k,)`` of each of the labels ``(k, 4)`` that those already placed ``(m, 4)`` cover."""
    low = np.maximum(labels[:, None, :2], placed[:, :2])
    high = np.minimum(labels[:, None, 2:], placed[:, 2:])
    return np.prod((high - low).clip(0), axis=2).sum(axis=1).round(3)
