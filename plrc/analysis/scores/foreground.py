"""Affinity above a threshold as a foreground: its overlap with the object, and the box around it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from plrc.analysis.scores.objects import RasterObject

_LEVELS = 199  # thresholds that are tried: every half percent of the affinities that occur
_FIRST = 32  # images from whose affinities those are taken
_OVERLAP = 0.5  # of boxes, at which an object counts as found (PASCAL VOC's criterion)


class FixedThreshold:
    """Intersection over union with the mask, and CorLoc of the box, at one threshold for the whole data set.

    An affinity has no natural threshold, and the best one of each image would reward any descriptor. One threshold is
    used for all images; it is the best for every second image, and scores the others, and the other way round: nothing
    is judged by what chose it. Candidates are 199 quantiles of the affinities in the first 32 images, which
    use no mask.

    Memory is constant but for two rows of 199 numbers an image.

    Args:
        masks: whether the objects have masks; of boxes only CorLoc is asked.
    """

    def __init__(self, masks: bool = True) -> None:
        self._masks = masks
        self._waiting: list[list[tuple[Tensor, RasterObject]]] = []
        self._levels: np.ndarray | None = None
        self._ious: list[np.ndarray] = []
        self._found: list[np.ndarray] = []

    def add(self, objects: list[tuple[Tensor, RasterObject]]) -> None:
        """One image's objects, at least one: affinities ``(p, h * w)`` and the object they are of."""
        self._waiting.append(objects)
        if self._levels is not None or len(self._waiting) == _FIRST:
            self._measure()

    def ious(self) -> list[float]:
        """A value an image: the foreground's intersection over union with the mask; mean over points, then objects.

        Nothing if there is only one image: no other can choose its threshold.
        """
        self._measure()
        return leave_half_out(self._ious)

    def corlocs(self) -> list[float]:
        """A value an image: the share of points whose box is right; mean over points, then objects.

        The box is that of the connected part of the foreground (by sides) that holds the point, and right where its
        intersection over union with the object's box is at least 0.5. The threshold is CorLoc's own best.
        """
        self._measure()
        return leave_half_out(self._found)

    def _measure(self) -> None:
        if self._levels is None and self._waiting:
            seen = torch.cat([similar.flatten() for objects in self._waiting for similar, _ in objects]).numpy()
            self._levels = np.quantile(seen, np.linspace(0, 1, _LEVELS + 2)[1:-1]).astype(np.float32)
        for objects in self._waiting:
            assert self._levels is not None
            levels = self._levels
            if self._masks:
                self._ious.append(np.mean([overlaps(s, thing.inside, levels) for s, thing in objects], axis=0))
            self._found.append(np.mean([boxes_right(s, thing, levels) for s, thing in objects], axis=0))
        self._waiting = []


def leave_half_out(values: list[np.ndarray]) -> list[float]:
    """Of each image's values ``(t,)`` the one at the threshold that is best on average in the other half.

    Halves are the images at even and at odd places. Nothing if there are fewer than two.
    """
    if len(values) < 2:
        return []
    table = np.stack(values)
    best = [table[1 - half :: 2].mean(axis=0).argmax() for half in (0, 1)]  # for the even, for the odd ones
    return [float(row[best[i % 2]]) for i, row in enumerate(table)]


def overlaps(similar: Tensor, inside: Tensor, levels: np.ndarray) -> np.ndarray:
    """Intersection over union ``(t,)`` of cells with ``similar >= level`` and the object; mean over the points.

    Args:
        similar: ``(p, h * w)``. inside: ``(h, w)`` bool. levels: ``(t,)``.
    """
    mask = inside.flatten().numpy()
    ious = []
    for affinity in similar.numpy():
        # Cells at or above a level: all but those that sort before it.
        above = len(affinity) - np.searchsorted(np.sort(affinity), levels)
        both = mask.sum() - np.searchsorted(np.sort(affinity[mask]), levels)
        ious.append(both / (above + mask.sum() - both))
    return np.mean(ious, axis=0)


def boxes_right(similar: Tensor, thing: RasterObject, levels: np.ndarray) -> np.ndarray:
    """Share ``(t,)`` of the points whose box at each level overlaps the object's box by at least a half."""
    return np.mean(
        [
            box_iou(boxes_around(affinity, int(cell), levels), thing.box) >= _OVERLAP
            for affinity, cell in zip(similar.view(-1, *thing.inside.shape).numpy(), thing.cells, strict=True)
        ],
        axis=0,
    )


def boxes_around(affinity: np.ndarray, cell: int, levels: np.ndarray) -> np.ndarray:
    """Boxes ``(t, 4)`` in the image frame of the connected cells of at least each level that hold cell ``i * w + j``.

    All zeros where the cell itself is below the level.

    Args:
        affinity: ``(h, w)``. levels: ``(t,)``.
    """
    from scipy.ndimage import label

    h, w = affinity.shape
    sides = np.zeros((3, 3, 3), dtype=bool)  # neighbours within a level, none across levels
    sides[1] = [[False, True, False], [True, True, True], [False, True, False]]
    parts, _ = label(affinity[None] >= levels[:, None, None], structure=sides)
    of_cell = parts.reshape(len(levels), -1)[:, cell]
    part = (parts == of_cell[:, None, None]) & (of_cell > 0)[:, None, None]
    rows, columns = part.any(axis=2), part.any(axis=1)
    boxes = np.stack(
        (
            columns.argmax(axis=1) / w,
            rows.argmax(axis=1) / h,
            (w - columns[:, ::-1].argmax(axis=1)) / w,
            (h - rows[:, ::-1].argmax(axis=1)) / h,
        ),
        axis=1,
    )
    return np.where((of_cell > 0)[:, None], boxes, 0.0)


def box_iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union ``(t,)`` of boxes ``(t, 4)`` and a box ``(4,)``, x0, y0, x1, y1."""
    overlap = (np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])).clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return overlap / (areas - overlap)
