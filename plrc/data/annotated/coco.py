"""COCO: boxes and outlines of all pictures in one ``instances_*.json``."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from plrc.data.annotated.pictures import PictureFiles, read_json, warn_left_out
from plrc.data.annotated.rasters import polygon_mask, run_length_mask
from plrc.data.annotated.upright import turn_needed, upright_boxes, upright_masks, upright_pixel_boxes
from plrc.data.sources import Annotation

logger = logging.getLogger(__name__)


class _Packed:
    """A list of plain values in one block of bytes.

    COCO's 118 000 pictures have 860 000 dictionaries: every DataLoader worker would get a copy of its own of them all,
    as their reference counts change.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        parts = [pickle.dumps(value, pickle.HIGHEST_PROTOCOL) for value in values]
        self._block = b"".join(parts)
        self._ends = np.cumsum([0, *map(len, parts)])

    def __getitem__(self, i: int) -> Any:
        return pickle.loads(self._block[self._ends[i] : self._ends[i + 1]])


class COCO(PictureFiles):
    """A Source of the pictures that ``annotations/instances_<split>.json`` lists, by their number in it.

    Pictures are looked for in ``<split>/``, ``images/<split>/``, ``images/`` and ``root`` itself. Boxes without area
    in the picture are left out, with one warning.

    Args:
        split: such as "val2017"; may be left out where there is one only.

    Attributes:
        file: the JSON file. categories: name by number, in the order of numbers. used: numbers of the categories that
            annotations name. outlined: every object has an outline, so that every ``annotation`` has masks.

    Raises:
        ValueError: no such file, several without ``split``, not COCO's layout, or no pictures.
    """

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        base = Path(root)
        self.file = _instances(base, split)
        content = read_json(self.file)
        try:
            listed = sorted(content["categories"], key=lambda category: category["id"])
            self.categories: dict[int, str] = {category["id"]: str(category["name"]) for category in listed}
            images = {image["id"]: image for image in content["images"]}
            ordered = [images[number] for number in sorted(images)]
            folder = _pictures(base, self.file.stem.removeprefix("instances_"), [i["file_name"] for i in ordered])
            there = [image for image in ordered if (folder / image["file_name"]).is_file()]
            of_image: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
            empty: list[str] = []
            self.used: set[int] = set()
            self.outlined = True
            for item in content["annotations"]:
                of_image[item["image_id"]].append(item)
                has_area = _has_area(item, images[item["image_id"]])
                self.used.add(item["category_id"])
                if has_area:
                    self.outlined &= bool(item.get("segmentation"))
                else:
                    empty.append(f"annotation {item['id']} (image {item['image_id']})")
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.file} lacks {error}: expected COCO's images, annotations, categories") from error
        super().__init__(folder, [image["file_name"] for image in there])
        if not there:
            raise ValueError(f"{self.file}: none of its {len(images)} pictures is in {folder}")
        missing = sorted({image["file_name"] for image in ordered} - set(self.names))
        warn_left_out(logger, self.file, "listed pictures that are missing", missing)
        warn_left_out(logger, self.file, "boxes without area", empty)
        self._images = _Packed(there)
        self._of_image = _Packed(of_image[image["id"]] for image in there)

    def annotation(self, i: int) -> Annotation:
        """The picture's instances, in the file's order. No masks where one of them has no outline.

        Polygons are filled where a pixel's centre is inside.

        Raises:
            ValueError: an outline cannot be read, or the picture has another size than the file says.
        """
        items = self.instances(i)
        boxes, (width, height), turn = self._stored(i, items)
        masks = None
        if all(item.get("segmentation") for item in items):
            masks = np.zeros((len(items), height, width), dtype=bool)
            for mask, item in zip(masks, items, strict=True):
                mask[:] = self._mask(item, height, width)
            masks = upright_masks(masks, turn)
        return Annotation(
            masks,
            upright_boxes(boxes / np.array([width, height, width, height]), turn),
            [self.categories.get(item["category_id"], "unknown") for item in items],
            crowd=frozenset(k for k, item in enumerate(items) if item.get("iscrowd")),
        )

    def pixel_boxes(self, i: int) -> np.ndarray:
        """The boxes of ``annotation(i)``: ``(n, 4)`` float64, x0, y0, x1, y1 in pixels of the upright picture.

        Raises:
            ValueError: the picture has another size than the file says.
        """
        return upright_pixel_boxes(*self._stored(i, self.instances(i)))

    def image(self, i: int) -> dict[str, Any]:
        """The picture's entry in the file."""
        self.name(i)
        return self._images[i]

    def entries(self, i: int) -> list[dict[str, Any]]:
        """The picture's annotations as the file has them, also those without area."""
        self.name(i)
        return self._of_image[i]

    def instances(self, i: int) -> list[dict[str, Any]]:
        """Those of the picture's annotations that have an area: of these are ``annotation`` and ``pixel_boxes``."""
        image = self.image(i)
        return [item for item in self.entries(i) if _has_area(item, image)]

    def turn(self, i: int) -> int:
        """The EXIF orientation by which the file's boxes and outlines have to be turned, 1 if they are upright.

        Raises:
            ValueError: the picture has another size than the file says.
        """
        image = self.image(i)
        size = (int(image["width"]), int(image["height"]))
        return turn_needed(self.path(i), size, f"image {image['id']} of {self.file}")

    def _stored(self, i: int, items: list[dict[str, Any]]) -> tuple[np.ndarray, tuple[int, int], int]:
        """Boxes in pixels of the annotated frame, its size, and the orientation by which it has to be turned."""
        image = self.image(i)
        width, height = int(image["width"]), int(image["height"])
        corners = np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return corners.clip(0, np.array([width, height, width, height])), (width, height), self.turn(i)

    def _mask(self, item: dict[str, Any], height: int, width: int) -> np.ndarray:
        outline = item["segmentation"]
        try:
            if isinstance(outline, dict):
                if list(outline["size"]) != [height, width]:
                    raise ValueError(f"its size is {outline['size']}")
                return run_length_mask(outline["counts"], height, width)
            return np.logical_or.reduce([polygon_mask(polygon, height, width) for polygon in outline])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.file}: the outline of annotation {item['id']} cannot be read: {error}") from error


def _has_area(item: dict[str, Any], image: dict[str, Any]) -> bool:
    """Whether a part of an annotation's box lies in the picture."""
    x, y, width, height = item["bbox"]
    across = min(x + width, image["width"]) - max(x, 0)
    down = min(y + height, image["height"]) - max(y, 0)
    return bool(across > 0 and down > 0)


def _instances(base: Path, split: str | None) -> Path:
    found = sorted((base / "annotations").glob(f"instances_{split or '*'}.json"))
    if len(found) == 1:
        return found[0]
    wanted = f"annotations/instances_{split or '*'}.json"
    if not found:
        raise ValueError(f"{base} has no {wanted}")
    raise ValueError(f"{base} has {len(found)} files {wanted}: name one, such as {found[-1]}")


def _pictures(base: Path, split: str, names: list[str]) -> Path:
    """The first folder in which one of the pictures is; the first candidate if none has any."""
    candidates = [base / split, base / "images" / split, base / "images", base]
    return next((f for f in candidates if any((f / name).is_file() for name in names)), candidates[0])
