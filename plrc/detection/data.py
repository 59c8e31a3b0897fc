"""What a detector is trained and tested on: one data set or several as one, with one list of classes."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plrc.data.annotated import open_annotated
from plrc.data.coco import COCO
from plrc.data.sources import Annotation, UndecodableImage, read_json
from plrc.data.voc import VOC
from plrc.detection.objects import DataSet, Objects, data_set


def open_detection_data(paths: Sequence[str], classes: Sequence[str] | None = None) -> DetectionData:
    """Pictures with boxes, from one data set or several: PASCAL VOC 07 trainval and 12 trainval, say.

    Args:
        paths: of each data set what ``plrc.data.annotated.open_annotated`` takes. Pictures come in this order.
        classes: a detector's. Without them those of the data: of COCO all categories of the file, by their numbers; of
            PASCAL VOC those that occur, by name; of data sets that differ in classes, all of them, by name.

    Raises:
        FileNotFoundError: there is no such path. ValueError: a data set is malformed, has no boxes, or has an object
        of none of ``classes``.
    """
    if not paths:
        raise ValueError("no data set is named: give a folder, one split's file, or 'scenes:N'")
    return DetectionData([data_set(path, open_annotated(path)) for path in paths], classes)


class DetectionData:
    """A Source of pictures with boxes, opened by ``open_detection_data``. Labels are places in ``classes``.

    Attributes:
        classes: K names. category_ids: K numbers, label k is category ``category_ids[k]`` in ``truth()``: COCO's own
            where it has the class, else k + 1. image_ids: of each picture, likewise COCO's own, else i + 1.
        metric: "voc" if all is in PASCAL VOC's layout, and VOC's AP is the usual figure, else "coco".
        has_masks: of every object; then ``objects`` gives them.
    """

    def __init__(self, sets: Sequence[DataSet], classes: Sequence[str] | None = None) -> None:
        self._sets = list(sets)
        self._starts = [0, *accumulate(len(s.source) for s in sets)]
        self.paths = tuple(s.path for s in sets)
        self.classes = _classes(sets) if classes is None else tuple(classes)
        self._labels = [_places(s, self.classes) for s in sets]
        self.has_masks = all(s.has_masks for s in sets)
        self.metric = "voc" if all(isinstance(s.source, VOC) for s in sets) else "coco"
        self.category_ids = _category_ids(sets, self.classes)
        self.image_ids = _image_ids(sets, len(self))

    def __len__(self) -> int:
        return self._starts[-1]

    def about(self) -> dict[str, Any]:
        """What results on these pictures must go with to be understood: for ``plrc.detection.results``."""
        categories = dict(zip(map(str, self.category_ids), self.classes, strict=True))
        return {"data": list(self.paths), "pictures": self.fingerprint(), "categories": categories}

    @property
    def title(self) -> str:
        """Short, for figures: the folders' names, and the splits' where splits were named."""
        return " + ".join(_title(path) for path in self.paths)

    def name(self, i: int) -> str:
        """Of the picture, in its data set."""
        part, at = self._place(i)
        return part.source.name(at)

    def size(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels of the upright picture, from the file's header. Raises UndecodableImage."""
        part, at = self._place(i)
        return part.source.size(at)

    def load(self, i: int, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The upright picture, mode RGB: see ``plrc.data.sources.Source``. Raises UndecodableImage."""
        part, at = self._place(i)
        return part.source.load(at, at_least)

    def annotation(self, i: int) -> Annotation | None:
        """The instances as the reader of the data set gives them: see ``plrc.data.sources.Annotation``."""
        part, at = self._place(i)
        return part.source.annotation(at)

    def objects(self, i: int, masks: bool = False) -> Objects:
        """The objects of picture i, boxes in pixels of the upright picture. Boxes without area are left out.

        Raises:
            ValueError: the annotation is of a picture of another size, or masks are asked for and there are none.
        """
        part, at = self._place(i)
        found = part.objects(at, masks)
        if masks and found.masks is None:
            raise ValueError(
                f"{part.path}: the objects of {part.source.name(at)} have no outlines: use data with masks, or a "
                f"detector without a mask head"
            )
        found.labels[:] = self._labels[self._part(i)][found.labels]
        return found

    def landscape(self) -> np.ndarray:
        """Which pictures are wider than high, ``(len(self),)`` bool.

        As annotated, so that no picture need be opened where the annotation tells; False of one that is damaged.
        """

        def wide(part: DataSet, at: int) -> bool:
            try:
                width, height = part.frame(at)
            except UndecodableImage:
                return False
            return width > height

        return np.array([wide(s, at) for s in self._sets for at in range(len(s.source))], dtype=bool)

    def trainable(self) -> list[int]:
        """The pictures with an object that is not a crowd. Detectron2 trains on no others by default."""
        return [i for i in range(len(self)) if (place := self._place(i))[0].trainable(place[1])]

    def fingerprint(self) -> str:
        """Tells these pictures, in this order and with these classes, from others, on every machine."""
        names = [*(self.name(i) for i in range(len(self))), *self.classes]
        return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def truth(self) -> dict[str, Any]:
        """All pictures and objects in COCO's format: images, annotations, categories; for an evaluator.

        COCO's own annotations are as the file has them, also those without area; those of a picture that is stored
        turned are turned. PASCAL VOC's have ``difficult`` 0 or 1. Opens every picture's header.

        Raises:
            ValueError: an annotation is of a picture of another size. UndecodableImage: a file is no picture.
        """
        images, annotations = [], []
        for i, number in enumerate(self.image_ids):
            part, at = self._place(i)
            width, height = part.source.size(at)
            images.append({"id": number, "file_name": part.source.name(at), "width": width, "height": height})
            for item in part.annotations(at):
                label = int(self._labels[self._part(i)][item.pop("label")])
                annotations.append({**item, "image_id": number, "category_id": self.category_ids[label]})
        return _truth(images, annotations, dict(zip(self.category_ids, self.classes, strict=True)))

    def _part(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return bisect_right(self._starts, i) - 1

    def _place(self, i: int) -> tuple[DataSet, int]:
        """The data set that picture i is of, and its place there."""
        part = self._part(i)
        return self._sets[part], i - self._starts[part]


def ground_truth_of_json(file: str | Path) -> dict[str, Any]:
    """A COCO file of boxes as ``DetectionData.truth`` gives it, where the pictures are not at hand.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is not such a file.
    """
    content = read_json(Path(file))
    try:
        categories = {category["id"]: str(category["name"]) for category in content["categories"]}
        names = sorted(categories.values())
        if twice := [name for name, other in pairwise(names) if name == other]:
            raise ValueError(f"it has several categories of the name {twice[0]}")
        images = [dict(image) for image in content["images"]]
        known = {image["id"] for image in images}
        annotations = []
        for item in content["annotations"]:
            _, _, width, height = map(float, item["bbox"])
            for what, number, there in (
                ("image", item["image_id"], known),
                ("category", item["category_id"], categories),
            ):
                if number not in there:
                    raise ValueError(f"annotations are of {what} {number}, which is not listed")
            annotations.append({"iscrowd": 0, "area": max(width * height, 0.0), **item})
    except KeyError as error:
        raise ValueError(f"{file} lacks {error}: expected COCO's images, annotations, categories") from error
    except (TypeError, ValueError) as error:
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


def _title(path: str) -> str:
    """``bccd-voc test`` of ``bccd-voc/ImageSets/Main/test.txt``, ``coco val2017`` of its ``instances_val2017.json``."""
    file = Path(path)
    if not file.is_file():
        return file.name
    root = file.absolute().parents[2 if file.suffix == ".txt" else 1]
    return f"{root.name} {file.stem.removeprefix('instances_')}"


def _classes(sets: Sequence[DataSet]) -> tuple[str, ...]:
    found = {s.classes for s in sets}
    classes = sets[0].classes if len(found) == 1 else tuple(sorted(set().union(*found)))
    if not classes:
        raise ValueError(f"{', '.join(s.path for s in sets)}: no picture has an object: a detector needs some to learn")
    return classes


def _places(part: DataSet, classes: tuple[str, ...]) -> np.ndarray:
    """The label in ``classes`` of each of a data set's own; -1 of those that it does not use and ``classes`` lack."""
    lacking = sorted(part.used - set(classes))
    if lacking:
        raise ValueError(
            f"{part.path} has objects of class {lacking[0]}, which is none of {', '.join(classes)}: give the data that "
            f"the detector was trained for"
        )
    return np.array([classes.index(name) if name in classes else -1 for name in part.classes], dtype=np.int64)


def _category_ids(sets: Sequence[DataSet], classes: tuple[str, ...]) -> tuple[int, ...]:
    files = [s.source.categories for s in sets if isinstance(s.source, COCO)]
    if len(files) < len(sets) or any(categories != files[0] for categories in files):
        return tuple(range(1, len(classes) + 1))
    number_of = {name: number for number, name in files[0].items()}
    free = max(files[0], default=0)
    return tuple(number_of.get(name, free + 1 + k) for k, name in enumerate(classes))


def _image_ids(sets: Sequence[DataSet], count: int) -> tuple[int, ...]:
    if all(isinstance(s.source, COCO) for s in sets):
        own = [s.source.image(at)["id"] for s in sets if isinstance(s.source, COCO) for at in range(len(s.source))]
        if len(set(own)) == count:
            return tuple(own)
    return tuple(range(1, count + 1))
