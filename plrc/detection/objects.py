"""The objects of one data set's pictures, in pixels, whatever layout the data set comes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from plrc.data.annotated import MaskFolder, layout_of
from plrc.data.coco import COCO
from plrc.data.scenes import Scenes
from plrc.data.sources import Source
from plrc.data.voc import VOC

_LEAST = 1e-5  # pixels: a box with a shorter side is none (Detectron2's default)
_ACCEPTED = (
    "PASCAL VOC (Annotations/, JPEGImages/, or its ImageSets/Main/<split>.txt), COCO (annotations/instances_*.json), "
    "images/ with masks/, or 'scenes:N'"
)


@dataclass(frozen=True, eq=False)
class Objects:
    """The n objects of a picture of W × H pixels (original, upright).

    Attributes:
        boxes: ``(n, 4)`` float64, x0, y0, x1, y1 in pixels from the left and upper border; every side above 0.
        labels: ``(n,)`` int64. crowd, difficult: ``(n,)`` bool: COCO's ``iscrowd``, PASCAL VOC's ``difficult``.
        areas: ``(n,)`` float64 in pixels: as COCO's file says, else of the mask, else of the box.
        masks: ``(n, H, W)`` bool; None where they were not asked for or are not known.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    areas: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def chosen(self, keep: np.ndarray) -> Objects:
        """Those where ``keep``, ``(n,)`` bool, is True."""
        masks = None if self.masks is None else self.masks[keep]
        return Objects(
            self.boxes[keep], self.labels[keep], self.crowd[keep], self.difficult[keep], self.areas[keep], masks
        )


class DataSet(Protocol):
    """One data set. Labels are places in its own ``classes``.

    Attributes:
        path: as the user named it. source: its pictures. classes: all that its objects may have, in its own order.
        used: those that objects have, as far as that is known without opening pictures. has_masks: of every object.
    """

    path: str
    classes: tuple[str, ...]
    used: frozenset[str]
    has_masks: bool

    @property
    def source(self) -> Source: ...

    def frame(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels as annotated: of a file stored turned they are perhaps exchanged.

        Opens no picture, but where only that tells. Raises UndecodableImage.
        """

    def trainable(self, i: int) -> bool:
        """Whether picture i has an object that is not a crowd."""

    def objects(self, i: int, masks: bool) -> Objects:
        """The objects of picture i, in their order in the file; with masks if asked for and known."""

    def annotations(self, i: int) -> list[dict[str, Any]]:
        """Those of picture i in COCO's format, but with ``label`` instead of ``category_id``, and some without ``id``;
        also those that ``objects`` leaves out. COCO's: all that the file says of them."""


def data_set(path: str, source: Source) -> DataSet:
    """What is known of the objects in a source's pictures.

    Raises:
        ValueError: there are no boxes in such a source, or its categories are ambiguous.
    """
    if isinstance(source, COCO):
        return _COCOSet(path, source)
    if isinstance(source, VOC):
        return _VOCSet(path, source)
    if isinstance(source, MaskFolder | Scenes):
        return _MaskSet(path, source)
    raise ValueError(f"{path} holds pictures {layout_of(source)}, without boxes: give {_ACCEPTED}")


class _COCOSet:
    def __init__(self, path: str, source: COCO) -> None:
        self.path, self.source = path, source
        self.classes = tuple(source.categories.values())
        self.has_masks = source.outlined
        self._label = {number: k for k, number in enumerate(source.categories)}
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            raise ValueError(f"{source.file} has several categories of the name {twice[0]}: give each its own name")
        unknown = sorted(source.used - set(source.categories))
        if unknown:
            raise ValueError(
                f"{source.file} has annotations of category {unknown[0]}, which its categories lack: list it there"
            )
        self.used = frozenset(source.categories[number] for number in source.used)

    def frame(self, i: int) -> tuple[int, int]:
        image = self.source.image(i)
        return int(image["width"]), int(image["height"])

    def trainable(self, i: int) -> bool:
        return any(not item.get("iscrowd") for item in self.source.instances(i))

    def objects(self, i: int, masks: bool) -> Objects:
        items = self.source.instances(i)
        boxes = self.source.pixel_boxes(i)
        sides = boxes[:, 2:] - boxes[:, :2]
        areas = [item.get("area", area) for item, area in zip(items, sides.prod(axis=1), strict=True)]
        return _with_area(
            Objects(
                boxes,
                np.array([self._label[item["category_id"]] for item in items], dtype=np.int64),
                np.array([bool(item.get("iscrowd")) for item in items], dtype=bool),
                np.zeros(len(items), dtype=bool),
                np.array(areas, dtype=np.float64),
                self.source.annotation(i).masks if masks else None,
            )
        )

    def annotations(self, i: int) -> list[dict[str, Any]]:
        items = self.source.entries(i)
        if self.source.turn(i) != 1:  # outlines, too, are of the stored picture then
            items = self.source.instances(i)
            turned = _annotations(self.objects(i, masks=True))
            items = [{**item, **new} for item, new in zip(items, turned, strict=True)]
        found = []
        for item in items:
            _, _, width, height = item["bbox"]
            rest = {key: value for key, value in item.items() if key not in ("category_id", "image_id")}
            label = self._label[item["category_id"]]
            found.append({"iscrowd": 0, "area": max(width * height, 0.0), **rest, "label": label})
        return found


class _VOCSet:
    has_masks = False

    def __init__(self, path: str, source: VOC) -> None:
        self.path, self.source = path, source
        self.used = frozenset(name for i in range(len(source)) for name, _ in source.instances(i))
        self.classes = tuple(sorted(self.used))
        self._label = {name: k for k, name in enumerate(self.classes)}

    def frame(self, i: int) -> tuple[int, int]:
        return self.source.frame(i)

    def trainable(self, i: int) -> bool:
        return bool(self.source.instances(i))

    def objects(self, i: int, masks: bool) -> Objects:
        boxes, known = self.source.pixel_boxes(i), self.source.instances(i)
        labels = np.array([self._label[name] for name, _ in known], dtype=np.int64)
        difficult = np.array([hard for _, hard in known], dtype=bool)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        return _with_area(Objects(boxes, labels, np.zeros_like(difficult), difficult, areas))

    def annotations(self, i: int) -> list[dict[str, Any]]:
        found = self.objects(i, masks=False)
        hard = found.difficult.astype(int).tolist()
        return [{**item, "difficult": d} for item, d in zip(_annotations(found), hard, strict=True)]


class _MaskSet:
    has_masks = True

    def __init__(self, path: str, source: MaskFolder | Scenes) -> None:
        self.path = path
        self.source: MaskFolder | Scenes = source
        # Of scenes all kinds that are painted, so that few scenes and many have the same classes.
        self.classes = tuple(sorted(source.CLASSES)) if isinstance(source, Scenes) else ("object",)
        self.used = frozenset(self.classes)
        self._label = {name: k for k, name in enumerate(self.classes)}

    def frame(self, i: int) -> tuple[int, int]:
        return self.source.size(i)

    def trainable(self, i: int) -> bool:
        return isinstance(self.source, Scenes) or len(self.source.annotation(i).classes) > 0  # no scene is empty

    def objects(self, i: int, masks: bool) -> Objects:
        known = self.source.annotation(i)
        assert known.masks is not None
        height, width = known.masks.shape[1:]
        # Masks begin and end between pixels; the boxes' fractions are rounded to 32 bits.
        boxes = np.rint(known.boxes.astype(np.float64) * [width, height, width, height])
        none = np.zeros(len(boxes), dtype=bool)
        labels = np.array([self._label[name] for name in known.classes], dtype=np.int64)
        areas = known.masks.sum(axis=(1, 2)).astype(np.float64)
        return _with_area(Objects(boxes, labels, none, none, areas, known.masks if masks else None))

    def annotations(self, i: int) -> list[dict[str, Any]]:
        return _annotations(self.objects(i, masks=True))


def _with_area(found: Objects) -> Objects:
    keep = (found.boxes[:, 2:] - found.boxes[:, :2] > _LEAST).all(axis=1)
    return found if keep.all() else found.chosen(keep)


def _annotations(found: Objects) -> list[dict[str, Any]]:
    """Objects in COCO's format, with ``label`` for ``category_id`` and without ``id``."""
    items: list[dict[str, Any]] = []
    for k, (x0, y0, x1, y1) in enumerate(found.boxes.tolist()):
        item = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(found.areas[k])}
        items.append({**item, "iscrowd": int(found.crowd[k]), "label": int(found.labels[k])})
        if found.masks is not None:
            items[-1]["segmentation"] = _run_lengths(found.masks[k])
    return items


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask ``(H, W)`` as COCO's uncompressed run lengths: column by column, a run of 0 first."""
    flat = np.concatenate(([False], mask.T.ravel()))
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate(([0], ends, [mask.size])))
    return {"counts": counts.tolist(), "size": list(mask.shape)}
