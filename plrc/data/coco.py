"""COCO: boxes and outlines of all images in one ``instances_*.json``."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from operator import itemgetter, mul
from pathlib import Path
from typing import Any

import numpy as np

from plrc.data.annotated import BoxFiles
from plrc.data.images import UndecodableImage, stored_frame, turn_needed, upright_masks
from plrc.data.sources import Annotation, Source, read_json


class COCOFile:
    """A COCO file of boxes, as far as it can be used: what every reader of one goes through, with images or without.

    What can be read in one way only is read: numbers as text, a polygon that is no list of its own or a list of pairs,
    an area that is missing or 0 (from the outline or the box), an entry written twice. What is damaged is left out
    and named in ``left_out``. What may mean two things raises a ValueError that names the entries.

    Attributes:
        file: the JSON file. categories: name by number, in the order of numbers. images: entry by number, likewise;
            their width and height may be None. annotations: entries. left_out: why → which entries.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.left_out, content = file, dict[str, list[str]](), read_json(file)
        for part in ("images", "annotations", "categories"):
            listed = content.get(part) if isinstance(content, dict) else None
            if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
                like = "give an instances_*.json or its like"
                raise ValueError(f"{file} is no COCO file of boxes, it lacks a list of {part}: {like}")
        self.annotations, wrong = list[dict[str, Any]](), list[str]()
        named = self._numbered("category", content["categories"])
        self.images = self._numbered("image", content["images"])
        for image in self.images.values():
            image |= {side: whole(image.get(side)) or None for side in ("width", "height")}
        seen = dict[Any, dict[str, Any]]()
        for k, item in enumerate(content["annotations"]):
            name = f"annotation {item['id']}" if "id" in item else f"annotations[{k}]"
            number, category = whole(item.get("image_id")), whole(item.get("category_id"))
            if missing := [part for part in ("image_id", "category_id", "bbox") if part not in item]:
                wrong.append(f"{name} lacks {missing[0]!r}")
            elif number not in self.images:
                self._leave_out("annotations of images that are not listed", f"{name} (image {item['image_id']!r})")
            elif "id" in item and (first := seen.setdefault(repr(item["id"]), item)) is not item and first == item:
                self._leave_out("annotations that are written twice", name)
            elif category not in named:
                wrong.append(f"{name} is of category {item['category_id']!r}, which is not listed")
            else:
                try:
                    read = _read_annotation(item, self.images[number])
                except (ValueError, TypeError, KeyError) as error:
                    wrong.append(f"{name}: {error}")
                    continue
                if isinstance(read, str):
                    self._leave_out(read, f"{name} (image {number})")
                else:
                    own = {"id": whole(item["id"]) or 0} if "id" in item else {}
                    self.annotations.append({**item, **read, **own, "image_id": number, "category_id": category})
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ValueError(f"{file}: {'; '.join(wrong[:3])}{more}: correct the file")
        used = {item["category_id"] for item in self.annotations}
        self.categories = {number: str(entry["name"]) for number, entry in named.items()}
        names = list(self.categories.values())
        for number in [n for n, name in self.categories.items() if names.count(name) > 1 and n not in used]:
            del self.categories[number]
        if twice := [name for name in self.categories.values() if list(self.categories.values()).count(name) > 1]:
            raise ValueError(f"{file} has several categories of the name {twice[0]}: give each its own name")

    def _numbered(self, kind: str, entries: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        found, part = dict[int, dict[str, Any]](), "file_name" if kind == "image" else "name"
        owners = dict[Any, int]()
        for given in entries:
            number, name = whole(given.get("id")), given.get(part)
            if number is None:
                raise ValueError(f"{self.file}: the {kind} id {given.get('id')!r} is no whole number: number them")
            entry = {**given, "id": number}
            if found.setdefault(number, entry) is not entry:
                if found[number] == entry:
                    self._leave_out(f"{kind} entries that are written twice", str(number))
                    continue
                both = f"{found[number].get(part)!r} and {name!r}"
                raise ValueError(f"{self.file}: the {kind} id {number} is that of {both}: number them anew")
            if not isinstance(name, str if kind == "image" else str | int) and (kind == "category" or name is not None):
                raise ValueError(f"{self.file}: the {part} of {kind} {number} is {name!r}: write a text")
            if kind == "image" and name is not None and owners.setdefault(name, number) != number:
                both = f"images {owners[name]} and {number} are both {name}"
                raise ValueError(f"{self.file}: {both}: give each file one entry, with all its annotations")
        return dict(sorted(found.items()))

    def _leave_out(self, why: str, entry: str) -> None:
        self.left_out.setdefault(why, []).append(entry)


class COCO(BoxFiles):
    """A Source of the images that a ``COCOFile`` lists, by their number in it.

    The file is ``root`` itself, or the only ``annotations/instances_<split>.json`` (else ``_annotations.coco.json``) in
    it. Images are looked for in ``<split>/``, ``images/<split>/``, ``images/``, the folder of ``annotations`` or of the
    file, and the folders in that. Boxes without area in the image are left out, with one warning. Raises a
    ValueError if there is no such file, or several without ``split``, it is not in COCO's layout, or there are no
    images.

    Attributes:
        file, categories: see ``COCOFile``. used: numbers of the categories that annotations name. bare: of the images
            that have an object without an outline, whose ``annotation`` has no masks, three.
    """

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        base = Path(root)
        if base.is_file():
            self.file = base
            places = base.absolute().parents
            base = next((place.parent for place in places if place.name == "annotations"), places[0])
        else:
            named = f"annotations/instances_{split or '*'}.json"
            files = sorted(base.glob(named)) or sorted(base.glob("_annotations.coco.json"))
            if len(files) != 1:
                such = f", such as {files[0]}" if files else ""
                raise ValueError(f"{base} has {len(files)} files {named}: name one{such}")
            self.file = files[0]
        what, where = "with outlines or boxes", f"(COCO: {self.file.absolute().relative_to(base.absolute())})"
        content = COCOFile(self.file)
        self.categories, images = content.categories, content.images
        for image in images.values():
            if not image.get("file_name"):
                raise ValueError(f"{self.file}: image {image['id']} lacks 'file_name': write it")
            image["file_name"] = image["file_name"].replace("\\", "/")  # as on Windows
        names = [image["file_name"] for image in images.values()]
        # The first folder in which one of the images is; the first candidate if none has any.
        of_split = self.file.stem.removeprefix("instances_")
        others = sorted(folder for folder in base.iterdir() if folder.is_dir())
        others.sort(key=lambda folder: not of_split.startswith(folder.name))
        folders = [base / of_split, base / "images" / of_split, base / "images", base, *others]
        folder = next((f for f in folders if any((f / name).is_file() for name in names)), folders[0])
        there = [image for image in images.values() if (folder / image["file_name"]).is_file()]
        super().__init__(folder, [image["file_name"] for image in there])
        if not there:
            raise ValueError(f"{self.file}: none of its {len(images)} images is in {folder}, nor in a folder near")
        for image in there:
            if not (image["width"] and image["height"]):
                with suppress(UndecodableImage):
                    image["width"], image["height"] = stored_frame(folder / image["file_name"])[0]
        of_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in there}
        empty = list[str]()
        self.used, bare, outlines = set[int](), dict[str, None](), False
        for item in content.annotations:
            if item["image_id"] in of_image:
                of_image[item["image_id"]].append(item)
                self.used.add(item["category_id"])
                image = images[item["image_id"]]
                if _has_area(item, image) and item.get("segmentation"):
                    outlines = True
                elif _has_area(item, image):
                    bare[image["file_name"]] = None
                else:
                    empty.append(f"annotation {item.get('id')} (image {item['image_id']})")
        self.bare = [*bare][:3]
        if bare and outlines:
            what = f"with outlines of all objects in {len(there) - len(bare)} of {len(there)} images, else boxes"
        self.layout = f"{what} {where}"
        for why, entries in content.left_out.items():
            self.warn_left_out(why, entries)
        self.warn_left_out("listed images that are missing", sorted({*names} - {image["file_name"] for image in there}))
        self.warn_left_out("boxes without area", empty)
        self._images = _Packed(there)
        self._of_image = _Packed(of_image.values())

    def annotation(self, i: int) -> Annotation:
        """The image's instances, in the file's order. No masks where one of them has no outline. Polygons are filled
        where a pixel's centre is inside."""
        items, (width, height), turn, masks = self.instances(i), self.frame(i), self.turn(i), None
        if all(item.get("segmentation") for item in items):
            masks = np.zeros((len(items), height, width), dtype=bool)
            for mask, item in zip(masks, items, strict=True):
                mask[:] = outline_mask(item["segmentation"], height, width)
            masks = upright_masks(masks, turn)
        classes = [self.categories[item["category_id"]] for item in items]
        crowd = frozenset(k for k, item in enumerate(items) if item.get("iscrowd"))
        return Annotation(masks, self._fractions(i), classes, crowd=crowd)

    def _stored(self, i: int) -> tuple[np.ndarray, tuple[int, int], int]:
        corners = np.array([item["bbox"] for item in self.instances(i)], dtype=np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return corners, self.frame(i), self.turn(i)

    def frame(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels as the file has it."""
        image = self.image(i)
        return image["width"] or 0, image["height"] or 0

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

    def noted(self, i: int) -> Any:
        """What the file says of the image's objects, in plain values: class, box, crowd flag, outline."""
        return [
            (self.categories[of["category_id"]], of["bbox"], of.get("iscrowd", 0), of.get("segmentation"))
            for of in self.entries(i)
        ]

    def turn(self, i: int) -> int:
        """The EXIF orientation by which the file's boxes and outlines have to be turned, 1 if they are upright."""
        return turn_needed(self.path(i), self.frame(i), f"image {self.image(i)['id']} of {self.file}")


def open_coco(path: Path) -> Source | None:
    """The data set in a folder, or of one JSON file."""
    known = (path / "annotations").glob("instances_*.json"), path.glob("_annotations.coco.json")
    return COCO(path) if (path.is_file() and path.suffix == ".json") or any(map(any, known)) else None


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
    if not (image["width"] and image["height"]):  # of a file that cannot be decoded
        return False
    x, y, width, height = item["bbox"]
    across, down = min(x + width, image["width"]) - max(x, 0), min(y + height, image["height"]) - max(y, 0)
    return bool(across > 0 and down > 0)


def whole(value: Any) -> int | None:
    """A whole number of 64 bits, which may be written as text or as 1.0; None if it is none."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}(\.0*)?\s*", value):
        return int(value.partition(".")[0])
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _numbers(values: Any) -> list[float] | None:
    """Finite numbers, also as text, in one list whatever the nesting; None if they are none."""
    try:
        found = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        return None
    return found.tolist() if np.isfinite(found).all() else None


def _read_annotation(item: dict[str, Any], image: dict[str, Any]) -> dict[str, Any] | str:
    """The box, outline, area and crowd flag of an annotation, or why it is left out. Raises a ValueError, TypeError or
    KeyError if one of them cannot be read."""
    box = _numbers(item["bbox"])
    if box is None or len(box) != 4 or min(box[2:]) < 0:
        return "boxes that are no x, y, width and height of 0 or more"
    read: dict[str, Any] = {"bbox": box}
    if item.get("iscrowd") is not None:
        crowd = whole(item["iscrowd"]) if not isinstance(item["iscrowd"], bool) else int(item["iscrowd"])
        if crowd not in (0, 1):
            raise ValueError(f"its iscrowd is {item['iscrowd']!r}, neither 0 nor 1")
        read["iscrowd"] = crowd
    size, area = box[2] * box[3], _numbers(item.get("area"))
    if outline := item.get("segmentation"):
        read["segmentation"], inside = read_outline(outline, image["height"], image["width"])
        if not inside:
            return "outlines without area in the image"
        size = size and inside
    if area is None or len(area) != 1 or area[0] < 0 or (size and not area[0]):
        area = [size]
    return {**read, "area": area[0]}


def read_outline(outline: Any, height: int | None, width: int | None) -> tuple[Any, float]:
    """A ``segmentation`` as ``outline_mask`` takes it, and its area in pixels: 0 if nothing of it is in the image."""
    if isinstance(outline, dict):
        size, counts = [*map(whole, outline["size"])], outline["counts"]
        if height and width and size != [height, width]:
            raise ValueError(f"its outline is of an image of {outline['size']}, height, width, not {[height, width]}")
        runs = _read_runs(counts) if isinstance(counts, str) else [n for n in map(whole, counts) if n is not None]
        unread, (rows, columns) = isinstance(counts, list) and len(runs) < len(counts), (n or 0 for n in size)
        if unread or min(runs, default=0) < 0 or sum(runs) != rows * columns:
            raise ValueError("its outline's run lengths do not fill its size")
        return {"size": size, "counts": counts if isinstance(counts, str) else runs}, sum(runs[1::2])
    if not isinstance(outline, list):
        raise ValueError("its outline is neither polygons nor run lengths")
    polygons, area = list[list[float]](), 0.0
    for polygon in outline if isinstance(outline[0], list) else [outline]:
        if (corners := _numbers(polygon)) is None or len(corners) % 2:
            raise ValueError("its outline has a polygon that is no pairs of finite numbers")
        if len(corners) >= 6:
            x, y = corners[::2], corners[1::2]  # lists: of few numbers, and a data set has a million outlines
            within = max(x) > 0 and max(y) > 0 and min(x) < (width or np.inf) and min(y) < (height or np.inf)
            polygons.append(corners)
            twice = sum(map(mul, x, y[1:] + y[:1])) - sum(map(mul, y, x[1:] + x[:1]))
            area += within * abs(twice) / 2
    return polygons, area


# Not by faster_coco_eval: COCO's own code draws other pixels along a polygon's border, and older releases of it read
# beyond run lengths that are too short.


def outline_mask(outline: Any, height: int, width: int) -> np.ndarray:
    """A ``segmentation`` as pixels ``(height, width)`` bool: polygons, or run lengths of either form."""
    if not isinstance(outline, dict):
        return np.logical_or.reduce([_polygon_mask(polygon, height, width) for polygon in outline])
    counts = outline["counts"]
    runs = _read_runs(counts) if isinstance(counts, str | bytes) else counts
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
        if shift > 60:
            raise ValueError("its outline's run lengths are no text of COCO's")
        if not code - 48 & 32:
            value -= (1 << shift) if code - 48 & 16 else 0
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs
