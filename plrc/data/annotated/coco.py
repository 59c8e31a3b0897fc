"""COCO: boxes and outlines of all pictures in one ``instances_*.json``."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from plrc.data.annotated.pictures import PictureFiles, read_json, warn_left_out
from plrc.data.annotated.rasters import polygon_mask, run_length_mask
from plrc.data.annotated.upright import turn_needed, upright_boxes, upright_masks
from plrc.data.sources import Annotation

logger = logging.getLogger(__name__)


class COCO(PictureFiles):
    """A Source of the pictures that ``annotations/instances_<split>.json`` lists, by their number in it.

    Pictures are looked for in ``<split>/``, ``images/<split>/``, ``images/`` and ``root`` itself. Boxes without area
    are left out, with one warning.

    Args:
        split: such as "val2017"; may be left out where there is one only.

    Raises:
        ValueError: no such file, several without ``split``, not COCO's layout, or no pictures.
    """

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        base = Path(root)
        self.file = _instances(base, split)
        content = read_json(self.file)
        try:
            self._classes = {category["id"]: str(category["name"]) for category in content["categories"]}
            images = sorted(content["images"], key=lambda image: image["id"])
            folder = _pictures(base, self.file.stem.removeprefix("instances_"), [i["file_name"] for i in images])
            there = [image for image in images if (folder / image["file_name"]).is_file()]
            of_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in images}
            empty: list[str] = []
            for item in content["annotations"]:
                _, _, width, height = item["bbox"]
                if width > 0 and height > 0:
                    of_image[item["image_id"]].append(item)
                else:
                    empty.append(f"annotation {item['id']} (image {item['image_id']})")
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.file} lacks {error}: expected COCO's images, annotations, categories") from error
        super().__init__(folder, [image["file_name"] for image in there])
        if not there:
            raise ValueError(f"{self.file}: none of its {len(images)} pictures is in {folder}")
        missing = sorted({image["file_name"] for image in images} - set(self.names))
        warn_left_out(logger, self.file, "listed pictures that are missing", missing)
        warn_left_out(logger, self.file, "boxes without area", empty)
        self._images = there
        self._of_image = of_image

    def annotation(self, i: int) -> Annotation:
        """The picture's instances, in the file's order. No masks where one of them has no outline.

        Polygons are filled where a pixel's centre is inside.

        Raises:
            ValueError: an outline cannot be read, or the picture has another size than the file says.
        """
        self.name(i)
        image = self._images[i]
        items = self._of_image[image["id"]]
        width, height = int(image["width"]), int(image["height"])
        turn = turn_needed(self.path(i), (width, height), f"image {image['id']} of {self.file}")
        corners = np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        boxes = (corners / np.array([width, height, width, height])).clip(0, 1)
        masks = None
        if all(item.get("segmentation") for item in items):
            masks = np.zeros((len(items), height, width), dtype=bool)
            for mask, item in zip(masks, items, strict=True):
                mask[:] = self._mask(item, height, width)
            masks = upright_masks(masks, turn)
        return Annotation(
            masks,
            upright_boxes(boxes, turn),
            [self._classes.get(item["category_id"], "unknown") for item in items],
            crowd=frozenset(k for k, item in enumerate(items) if item.get("iscrowd")),
        )

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
