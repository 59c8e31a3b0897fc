"""Objects and detections as arrays, and how much they overlap.

In continuous pixels: a box of one pixel has width 1. PASCAL VOC's own code counts pixels from 1 and includes the last
one, which makes it add 1 to each width; our reader has that in its boxes, so that the overlaps are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Objects:
    """The G objects of a data set.

    Attributes:
        boxes: ``(G, 4)`` float64, x0, y0, x1, y1 in pixels of the original picture. images: ``(G,)`` int64, index of
            the picture by rising id. labels: ``(G,)`` int64, index of the class. ignored: ``(G,)`` bool, difficult or a
            crowd region: neither wanted nor counted against the detector.
    """

    boxes: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """N detections by falling score; of equal scores by picture, then as they were listed (COCO's order).

    Attributes:
        boxes, images, labels: as in ``Objects``. listed: ``(N,)`` int64, position in the list of results.
    """

    boxes: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    listed: np.ndarray


def as_arrays(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> tuple[list[str], Objects, Found]:
    """Names of the classes by rising category id, the objects, and what was found.

    Args:
        truth, results: in COCO's format; the results name pictures and categories of the truth only.
    """
    categories = sorted(truth["categories"], key=lambda c: c["id"])
    label = {c["id"]: k for k, c in enumerate(categories)}
    image = {i: k for k, i in enumerate(sorted(i["id"] for i in truth["images"]))}

    def columns(items: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes = np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        images = np.array([image[item["image_id"]] for item in items], dtype=np.int64)
        return boxes, images, np.array([label[item["category_id"]] for item in items], dtype=np.int64)

    wanted = truth["annotations"]
    ignored = np.array([bool(a.get("iscrowd") or a.get("difficult")) for a in wanted], dtype=bool)
    objects = Objects(*columns(wanted), ignored)

    boxes, images, labels = columns(results)
    scores = np.array([r["score"] for r in results], dtype=np.float64)
    order = np.lexsort((images, -scores))  # stable
    found = Found(boxes[order], images[order], labels[order], order)
    return [str(c["name"]) for c in categories], objects, found


def pairs(found: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a detection and an object with the same key, such as of the same picture.

    Args:
        found: ``(N,)`` and objects: ``(G,)`` int64, the keys.

    Returns:
        Two ``(P,)`` int64: indices of detections, rising, and of objects, rising within a detection.
    """
    order = np.argsort(objects, kind="stable")
    keys = objects[order]
    first = np.searchsorted(keys, found, side="left")
    count = np.searchsorted(keys, found, side="right") - first
    d = np.repeat(np.arange(len(found)), count)
    nth = np.arange(len(d)) - np.repeat(np.cumsum(count) - count, count)
    return d, order[first[d] + nth]


def intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(P,)`` areas, in square pixels, that boxes ``(P, 4)`` share with boxes ``(P, 4)``, row by row."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return np.prod(sides.clip(0), axis=1)


def areas(boxes: np.ndarray) -> np.ndarray:
    """``(P,)`` areas, in square pixels, of boxes ``(P, 4)``."""
    return np.prod((boxes[:, 2:] - boxes[:, :2]).clip(0), axis=1)


def ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(P,)`` intersection over union, in [0, 1], of boxes ``(P, 4)`` with boxes ``(P, 4)``, row by row."""
    shared = intersections(a, b)
    union = areas(a) + areas(b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def best(d: np.ndarray, g: np.ndarray, overlap: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of n detections the highest overlap and its object; of equal ones the first.

    Args:
        d, g: ``(P,)`` pairs as ``pairs`` gives them. overlap: ``(P,)`` in [0, 1].

    Returns:
        ``(n,)`` overlaps, 0 where there is no pair, and ``(n,)`` objects, −1 there.
    """
    highest, which = np.zeros(n), np.full(n, -1, dtype=np.int64)
    if len(d):
        starts = np.flatnonzero(np.r_[True, d[1:] != d[:-1]])
        highest[d[starts]] = np.maximum.reduceat(overlap, starts)
        at = np.flatnonzero(overlap == highest[d])[::-1]  # backwards, so that the first is written last
        which[d[at]] = g[at]
    return highest, which
