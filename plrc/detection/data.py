"""What a detector is trained and tested on: images with boxes, one data set or several as one, one list of classes."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plrc.data.annotated import layout_of, open_annotated
from plrc.data.coco import COCO
from plrc.data.images import UndecodableImage
from plrc.data.scenes import Scenes
from plrc.data.sources import read_json
from plrc.data.voc import VOC
from plrc.detection.metrics import run_lengths

_LEAST = 1e-5  # pixels: a box with a shorter side is none (Detectron2's default)
_FLAGS = ("crowd", "difficult")
_ACCEPTED = (
    "PASCAL VOC (Annotations/, JPEGImages/, or its ImageSets/Main/<split>.txt), COCO (annotations/instances_*.json), "
    "images/ with masks/, or 'scenes:N'"
)


@dataclass(frozen=True, eq=False)
class Objects:
    """The n objects of an image of W × H pixels (original, upright).

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
        parts = (getattr(self, field.name) for field in fields(self))
        return Objects(*(None if part is None else part[keep] for part in parts))  # type: ignore[arg-type]


class _Set:
    """One data set. Labels are places in its own ``classes``.

    Attributes:
        path: as the user named it. source: its images. classes: all that its objects may have, in its own order.
        used: those that objects have, as far as that is known without opening images. has_masks: of every object.
    """

    has_masks = True

    def __init__(self, path: str, source: Any, classes: Sequence[str], used: Sequence[str] | None = None) -> None:
        self.path, self.source, self.classes = path, source, tuple(classes)
        self.used = frozenset(classes if used is None else used)
        self.label = {name: k for k, name in enumerate(self.classes)}

    def wide(self, i: int) -> bool:
        """Whether image i is wider than high as annotated, if the annotation tells; False of a damaged file."""
        try:
            width, height = getattr(self.source, "frame", self.source.size)(i)
        except UndecodableImage:
            return False
        return bool(width > height)

    def trainable(self, i: int) -> bool:
        """Whether image i has an object that is not a crowd."""
        if isinstance(self.source, Scenes):
            return True  # no scene is empty, and to paint them all takes long
        known = self.source.annotation(i)
        return len(known.classes) > len(known.crowd)

    def objects(self, i: int, masks: bool) -> Objects:
        """The objects of image i, in their order in the file; with masks if asked for and known."""
        known, size = self.source.annotation(i), self.source.size(i)
        parts = {name: np.isin(np.arange(len(known.classes)), list(getattr(known, name))) for name in _FLAGS}
        boxes = known.boxes.astype(np.float64) * [*size, *size]
        if known.masks is not None:  # they begin and end between pixels; the boxes' fractions are rounded to 32 bits
            boxes, parts["areas"] = np.rint(boxes), known.masks.sum(axis=(1, 2)).astype(np.float64)
        return self.objects_of(boxes, known.classes, masks=known.masks if masks else None, **parts)

    def objects_of(self, boxes: np.ndarray, classes: Sequence[str], **parts: Any) -> Objects:
        """Objects of these boxes and names, without those of no area."""
        sides, none = boxes[:, 2:] - boxes[:, :2], np.zeros(len(boxes), dtype=bool)
        labels = np.array([self.label[name] for name in classes], dtype=np.int64)
        known = {**dict.fromkeys(_FLAGS, none), "areas": sides.prod(axis=1), **parts}
        return Objects(boxes, labels, **known).chosen((sides > _LEAST).all(axis=1))

    def annotations(self, i: int) -> list[dict[str, Any]]:
        """Those of image i in COCO's format, but with ``label`` instead of ``category_id``, and some without ``id``;
        also those that ``objects`` leaves out. COCO's: all that the file says of them."""
        found, items = self.objects(i, masks=self.has_masks), []
        for k, (x0, y0, x1, y1) in enumerate(found.boxes.tolist()):
            item = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(found.areas[k]), "iscrowd": int(found.crowd[k])}
            items.append({**item, "label": int(found.labels[k])})
            if found.masks is not None:
                items[-1]["segmentation"] = run_lengths(found.masks[k])
        return items


class _VOCSet(_Set):
    has_masks = False

    def trainable(self, i: int) -> bool:
        return bool(self.source.instances(i))

    def objects(self, i: int, masks: bool) -> Objects:
        known = self.source.instances(i)
        difficult = np.array([hard for _, hard in known], dtype=bool)
        return self.objects_of(self.source.pixel_boxes(i), [name for name, _ in known], difficult=difficult)

    def annotations(self, i: int) -> list[dict[str, Any]]:
        hard = self.objects(i, masks=False).difficult.astype(int).tolist()
        return [{**item, "difficult": d} for item, d in zip(super().annotations(i), hard, strict=True)]


class _COCOSet(_Set):
    def __init__(self, path: str, source: COCO) -> None:
        names = tuple(source.categories.values())
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{source.file} has several categories of the name {twice[0]}: give each its own name")
        if unknown := sorted(source.used - set(source.categories)):
            raise ValueError(
                f"{source.file} has annotations of category {unknown[0]}, which its categories lack: list it there"
            )
        super().__init__(path, source, names, [source.categories[number] for number in source.used])
        self.has_masks = source.outlined

    def trainable(self, i: int) -> bool:
        return any(not item.get("iscrowd") for item in self.source.instances(i))

    def objects(self, i: int, masks: bool) -> Objects:
        items, boxes = self.source.instances(i), self.source.pixel_boxes(i)
        of_boxes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        return self.objects_of(
            boxes,
            [self.source.categories[item["category_id"]] for item in items],
            crowd=np.array([bool(item.get("iscrowd")) for item in items], dtype=bool),
            areas=np.array([item.get("area", a) for item, a in zip(items, of_boxes, strict=True)], dtype=np.float64),
            masks=self.source.annotation(i).masks if masks else None,
        )

    def annotations(self, i: int) -> list[dict[str, Any]]:
        items = self.source.entries(i)
        if self.source.turn(i) != 1:  # outlines, too, are of the stored image then
            turned = super().annotations(i)
            items = [{**item, **new} for item, new in zip(self.source.instances(i), turned, strict=True)]
        found = []
        for item in items:
            rest = {key: value for key, value in item.items() if key not in ("category_id", "image_id")}
            label = self.label[self.source.categories[item["category_id"]]]
            found.append({**_default(item["bbox"]), **rest, "label": label})
        return found


def _default(bbox: Sequence[float]) -> dict[str, Any]:
    """What an annotation has where its file does not say."""
    return {"iscrowd": 0, "area": max(float(bbox[2]) * float(bbox[3]), 0.0)}


def _set(path: str) -> _Set:
    source: Any = open_annotated(path)
    if isinstance(source, COCO):
        return _COCOSet(path, source)
    if isinstance(source, VOC):
        return _VOCSet(path, source, sorted({name for i in range(len(source)) for name, _ in source.instances(i)}))
    if hasattr(source, "CLASSES"):  # masks; of scenes all kinds that are painted, however few the scenes are
        return _Set(path, source, sorted(source.CLASSES))
    if getattr(source, "has_objects", False):  # a layout of one's own
        known = [source.annotation(i) for i in range(len(source))]
        found = _Set(path, source, sorted({name for one in known for name in one.classes}))
        found.has_masks = all(one.masks is not None for one in known)
        return found
    raise ValueError(f"{path} holds images {layout_of(source)}, without boxes: give {_ACCEPTED}")


def open_detection_data(paths: Sequence[str], classes: Sequence[str] | None = None) -> DetectionData:
    """Images with boxes, from one data set or several: PASCAL VOC 07 trainval and 12 trainval, say.

    Args:
        paths: of each data set what ``plrc.data.annotated.open_annotated`` takes. Images come in this order.
        classes: a detector's. Without them those of the data: of COCO all categories of the file, by their numbers; of
            PASCAL VOC those that occur, by name; of data sets that differ in classes, all of them, by name.

    Raises:
        FileNotFoundError: there is no such path. ValueError: a data set is malformed, has no boxes, or has an object
        of none of ``classes``.
    """
    if not paths:
        raise ValueError("no data set is named: give a folder, one split's file, or 'scenes:N'")
    return DetectionData([_set(path) for path in paths], classes)


class DetectionData:
    """Images with boxes, opened by ``open_detection_data``. Labels are places in ``classes``.

    Attributes:
        classes: K names. category_ids: K numbers, label k is category ``category_ids[k]`` in ``truth()``: COCO's own
            where it has the class, else k + 1. image_ids: of each image, likewise COCO's own, else i + 1.
        metric: "voc" if all is in PASCAL VOC's layout, and VOC's AP is the usual figure, else "coco".
        has_masks: of every object; then ``objects`` gives them.
    """

    def __init__(self, sets: Sequence[_Set], classes: Sequence[str] | None = None) -> None:
        self._sets, self._starts = list(sets), [0, *accumulate(len(s.source) for s in sets)]
        self.paths = tuple(s.path for s in sets)
        if classes is None:
            several = {s.classes for s in sets}
            classes = sets[0].classes if len(several) == 1 else sorted(set().union(*several))
            if not classes:
                raise ValueError(f"{', '.join(self.paths)}: no image has an object: a detector needs some to learn")
        self.classes = tuple(classes)
        self._labels = [_labels(s, self.classes) for s in sets]
        self.has_masks = all(s.has_masks for s in sets)
        self.metric = "voc" if all(isinstance(s, _VOCSet) for s in sets) else "coco"
        self.category_ids, self.image_ids = tuple(range(1, len(self.classes) + 1)), tuple(range(1, len(self) + 1))
        if all(isinstance(s, _COCOSet) for s in sets):
            categories = sets[0].source.categories
            if all(s.source.categories == categories for s in sets):
                number, free = {name: n for n, name in categories.items()}, max(categories, default=0)
                self.category_ids = tuple(number.get(name, free + 1 + k) for k, name in enumerate(self.classes))
            own = tuple(s.source.image(at)["id"] for s in sets for at in range(len(s.source)))
            self.image_ids = own if len(set(own)) == len(self) else self.image_ids

    def __len__(self) -> int:
        return self._starts[-1]

    def about(self) -> dict[str, Any]:
        """What results on these images must go with to be understood: for ``plrc.detection.evaluate.save_results``."""
        categories = dict(zip(map(str, self.category_ids), self.classes, strict=True))
        return {"data": list(self.paths), "pictures": self.fingerprint(), "categories": categories}

    @property
    def title(self) -> str:
        """Short, for figures: ``bccd-voc test`` of ``bccd-voc/ImageSets/Main/test.txt``, ``coco val2017`` of its
        ``instances_val2017.json``, else the folders' names."""
        shown = []
        for file in map(Path, self.paths):
            root = file.absolute().parents[2 if file.suffix == ".txt" else 1] if file.is_file() else file
            shown.append(f"{root.name} {file.stem.removeprefix('instances_')}" if file.is_file() else file.name)
        return " + ".join(shown)

    def name(self, i: int) -> str:
        """Of the image, in its data set."""
        part, at = self._place(i)
        return str(part.source.name(at))

    def load(self, i: int) -> Image.Image:
        """The upright image, mode RGB: see ``plrc.data.sources.Source``. Raises UndecodableImage."""
        part, at = self._place(i)
        image: Image.Image = part.source.load(at)
        return image

    def objects(self, i: int, masks: bool = False) -> Objects:
        """The objects of image i, boxes in pixels of the upright image. Boxes without area are left out.

        Raises:
            ValueError: the annotation is of an image of another size, or masks are asked for and there are none.
        """
        part, at = self._place(i)
        found = part.objects(at, masks)
        if masks and found.masks is None:
            raise ValueError(
                f"{part.path}: the objects of {part.source.name(at)} have no outlines: use data with masks, or a "
                f"detector without a mask head"
            )
        found.labels[:] = self._labels[self._sets.index(part)][found.labels]
        return found

    def landscape(self) -> np.ndarray:
        """Which images are wider than high, ``(len(self),)`` bool.

        As annotated, so that no image need be opened where the annotation tells; False of one that is damaged.
        """

        return np.array([s.wide(at) for s in self._sets for at in range(len(s.source))], dtype=bool)

    def trainable(self) -> list[int]:
        """The images with an object that is not a crowd. Detectron2 trains on no others by default."""
        return [i for i in range(len(self)) if (place := self._place(i))[0].trainable(place[1])]

    def fingerprint(self) -> str:
        """Tells these images, in this order and with these classes, from others, on every machine."""
        names = [*(self.name(i) for i in range(len(self))), *self.classes]
        return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def truth(self) -> dict[str, Any]:
        """All images and objects in COCO's format: images, annotations, categories; for an evaluator.

        COCO's own annotations are as the file has them, also those without area; those of an image that is stored
        turned are turned. PASCAL VOC's have ``difficult`` 0 or 1. Opens every image's header.

        Raises:
            ValueError: an annotation is of an image of another size, or a file is no image.
        """
        images, annotations = [], []
        for i, number in enumerate(self.image_ids):
            part, at = self._place(i)
            try:
                width, height = part.source.size(at)
            except UndecodableImage as error:
                raise ValueError(f"{error}: in testing every image counts, get the file again") from error
            images.append({"id": number, "file_name": part.source.name(at), "width": width, "height": height})
            labels = self._labels[self._sets.index(part)]
            for item in part.annotations(at):
                category = self.category_ids[int(labels[item.pop("label")])]
                annotations.append({**item, "image_id": number, "category_id": category})
        return _truth(images, annotations, dict(zip(self.category_ids, self.classes, strict=True)))

    def _place(self, i: int) -> tuple[_Set, int]:
        """The data set that image i is of, and its place there."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        part = bisect_right(self._starts, i) - 1
        return self._sets[part], i - self._starts[part]


def _labels(part: _Set, classes: tuple[str, ...]) -> np.ndarray:
    """The label in ``classes`` of each of a data set's own; -1 of those that it does not use and ``classes`` lack."""
    if lacking := sorted(part.used - set(classes)):
        raise ValueError(
            f"{part.path} has objects of class {lacking[0]}, which is none of {', '.join(classes)}: give the data that "
            f"the detector was trained for"
        )
    return np.array([classes.index(name) if name in classes else -1 for name in part.classes], dtype=np.int64)


def truth_of_json(file: str | Path) -> dict[str, Any]:
    """A COCO file of boxes as ``DetectionData.truth`` gives it, where the images are not at hand.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is not such a file.
    """
    content = read_json(Path(file))
    try:
        categories = {category["id"]: str(category["name"]) for category in content["categories"]}
        names = list(categories.values())
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"it has several categories of the name {twice[0]}")
        images = [dict(image) for image in content["images"]]
        known = {"image": {image["id"] for image in images}, "category": categories}
        for item in content["annotations"]:
            for what, numbers in known.items():
                if item[f"{what}_id"] not in numbers:
                    raise ValueError(f"annotations are of {what} {item[f'{what}_id']}, which is not listed")
        annotations = [{**_default(item["bbox"]), **item} for item in content["annotations"]]
    except KeyError as error:
        raise ValueError(f"{file} lacks {error}: expected COCO's images, annotations, categories") from error
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{file} is no COCO file of boxes ({error}): give an instances_*.json or its like") from error
    return _truth(images, annotations, categories)


def _truth(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], categories: dict[int, str]
) -> dict[str, Any]:
    numbers = {item.get("id", 0) for item in annotations}
    if len(numbers) < len(annotations) or 0 in numbers:  # COCO's evaluation takes the number 0 for "no match"
        annotations = [{**item, "id": k} for k, item in enumerate(annotations, start=1)]
    listed = [{"id": number, "name": name} for number, name in sorted(categories.items())]
    return {"images": images, "annotations": annotations, "categories": listed}
