"""COCO: boxes and outlines of all images in one ``instances_*.json``."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from plrc.data.annotated import BoxFiles
from plrc.data.images import turn_needed, upright_masks
from plrc.data.sources import Annotation, Source, read_json


class COCO(BoxFiles):
    """A Source of the images that ``annotations/instances_<split>.json`` lists, by their number in it.

    Images are looked for in ``<split>/``, ``images/<split>/``, ``images/`` and ``root`` itself. Boxes without area
    in the image are left out, with one warning. The split may be left out where there is one only. Raises a ValueError
    if there is no such file, or several without ``split``, it is not in COCO's layout, or there are no images.

    Attributes:
        file: the JSON file. categories: name by number, in the order of numbers. used: numbers of the categories that
            annotations name. outlined: every object has an outline, so that every ``annotation`` has masks.
    """

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        base = Path(root)
        files = sorted((base / "annotations").glob(f"instances_{split or '*'}.json"))
        if len(files) != 1:
            such = f", such as {files[0]}" if files else ""
            raise ValueError(f"{base} has {len(files)} files annotations/instances_{split or '*'}.json: name one{such}")
        self.file = files[0]
        self.layout = f"with outlines or boxes (COCO: annotations/{self.file.name})"
        content = read_json(self.file)
        try:
            self.categories = {c["id"]: str(c["name"]) for c in sorted(content["categories"], key=itemgetter("id"))}
            images = {image["id"]: image for image in sorted(content["images"], key=itemgetter("id"))}
            of_image: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
            self.used, self.outlined, empty = {a["category_id"] for a in content["annotations"]}, True, list[str]()
            for item in content["annotations"]:
                of_image[item["image_id"]].append(item)
                if _has_area(item, images[item["image_id"]]):
                    self.outlined &= bool(item.get("segmentation"))
                else:
                    empty.append(f"annotation {item['id']} (image {item['image_id']})")
            names = [image["file_name"] for image in images.values()]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.file} lacks {error}: expected COCO's images, annotations, categories") from error
        # The first folder in which one of the images is; the first candidate if none has any.
        of_split = self.file.stem.removeprefix("instances_")
        folders = [base / of_split, base / "images" / of_split, base / "images", base]
        folder = next((f for f in folders if any((f / name).is_file() for name in names)), folders[0])
        there = [image for image in images.values() if (folder / image["file_name"]).is_file()]
        super().__init__(folder, [image["file_name"] for image in there])
        if not there:
            raise ValueError(f"{self.file}: none of its {len(images)} images is in {folder}")
        self.warn_left_out("listed images that are missing", sorted({*names} - {image["file_name"] for image in there}))
        self.warn_left_out("boxes without area", empty)
        self._images = _Packed(there)
        self._of_image = _Packed(of_image[image["id"]] for image in there)

    def annotation(self, i: int) -> Annotation:
        """The image's instances, in the file's order. No masks where one of them has no outline. Polygons are filled
        where a pixel's centre is inside. Raises a ValueError if an outline cannot be read."""
        items, (width, height), masks = self.instances(i), self.frame(i), None
        if all(item.get("segmentation") for item in items):
            masks = np.zeros((len(items), height, width), dtype=bool)
            for mask, item in zip(masks, items, strict=True):
                try:
                    mask[:] = outline_mask(item["segmentation"], height, width)
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{self.file}: the outline of annotation {item['id']}: {error}") from error
            masks = upright_masks(masks, self.turn(i))
        classes = [self.categories.get(item["category_id"], "unknown") for item in items]
        crowd = frozenset(k for k, item in enumerate(items) if item.get("iscrowd"))
        return Annotation(masks, self._fractions(i), classes, crowd=crowd)

    def _stored(self, i: int) -> tuple[np.ndarray, tuple[int, int], int]:
        corners = np.array([item["bbox"] for item in self.instances(i)], dtype=np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return corners, self.frame(i), self.turn(i)

    def frame(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels as the file has it."""
        image = self.image(i)
        return int(image["width"]), int(image["height"])

    def image(self, i: int) -> dict[str, Any]:
        """The image's entry in the file."""
        self.name(i)
        return self._images[i]

    def entries(self, i: int) -> list[dict[str, Any]]:
        """The image's annotations as the file has them, also those without area."""
        self.name(i)
        return self._of_image[i]

    def instances(self, i: int) -> list[dict[str, Any]]:
        """Those of the image's annotations that have an area: of these are ``annotation`` and ``pixel_boxes``."""
        return [item for item in self.entries(i) if _has_area(item, self.image(i))]

    def turn(self, i: int) -> int:
        """The EXIF orientation by which the file's boxes and outlines have to be turned, 1 if they are upright."""
        return turn_needed(self.path(i), self.frame(i), f"image {self.image(i)['id']} of {self.file}")


def open_coco(path: Path) -> Source | None:
    """The data set in a folder or of one ``instances_*.json``."""
    if path.suffix == ".json" and path.name.startswith("instances_"):
        return COCO(path.parents[1], path.stem.removeprefix("instances_"))
    return COCO(path) if any((path / "annotations").glob("instances_*.json")) else None


class _Packed:
    """A list of plain values in one block of bytes: every DataLoader worker would get a copy of its own of COCO's
    860 000 dictionaries, as their reference counts change."""

    def __init__(self, values: Iterable[Any]) -> None:
        parts = [pickle.dumps(value, pickle.HIGHEST_PROTOCOL) for value in values]
        self._block, self._ends = b"".join(parts), np.cumsum([0, *map(len, parts)])

    def __getitem__(self, i: int) -> Any:
        return pickle.loads(self._block[self._ends[i] : self._ends[i + 1]])


def _has_area(item: dict[str, Any], image: dict[str, Any]) -> bool:
    """Whether a part of an annotation's box lies in the image."""
    x, y, width, height = item["bbox"]
    across, down = min(x + width, image["width"]) - max(x, 0), min(y + height, image["height"]) - max(y, 0)
    return bool(across > 0 and down > 0)


# Not by faster_coco_eval: COCO's own code draws other pixels along a polygon's border, and older releases of it read
# beyond run lengths that are too short.


def outline_mask(outline: Any, height: int, width: int) -> np.ndarray:
    """A ``segmentation`` as pixels ``(height, width)`` bool: polygons, or run lengths of either form.

    Raises a ValueError, KeyError or TypeError if it is neither, or of another size.
    """
    if not isinstance(outline, dict):
        return np.logical_or.reduce([_polygon_mask(polygon, height, width) for polygon in outline])
    if list(outline["size"]) != [height, width]:
        raise ValueError(f"its size is {outline['size']}")
    counts = outline["counts"]
    runs = np.asarray(_read_runs(counts) if isinstance(counts, str | bytes) else counts, dtype=np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"the run lengths fill {runs.sum()} pixels of {height * width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _polygon_mask(polygon: Sequence[float], height: int, width: int) -> np.ndarray:
    """Pixels whose centre lies in a polygon x0, y0, x1, y1, … in pixels from the left and upper border (even–odd)."""
    corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = sorted((one, other), key=itemgetter(1))
        # Rows whose centre line i + 0.5 the edge crosses, its upper end included, its lower end not.
        rows = np.arange(max(0, int(np.ceil(y0 - 0.5))), min(height, int(np.ceil(y1 - 0.5))))
        if len(rows):
            at = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            # The first centre at or behind the crossing.
            crossings[rows, np.ceil(at - 0.5).clip(0, width).astype(np.int64)] += 1
    return crossings.cumsum(axis=1)[:, :width] % 2 == 1


def _read_runs(text: str | bytes) -> list[int]:
    """Runs, column by column, a run of 0 first, from COCO's text form: groups of five bits, lowest first, from "0" on.
    Bit 5 says that more groups follow, bit 4 of the last is the sign. The fourth number and later ones are differences
    to the number two before."""
    runs, value, shift = list[int](), 0, 0
    for code in text.encode("ascii") if isinstance(text, str) else text:
        value |= (code - 48 & 31) << shift
        shift += 5
        if not code - 48 & 32:
            value -= (1 << shift) if code - 48 & 16 else 0
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs
