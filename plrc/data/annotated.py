"""Images of which something is known, recognised by what is in their folder: masks, keypoints, boxes, classes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from plrc.data import images
from plrc.data.shards import is_shards
from plrc.data.sources import (
    Annotation,
    ImageFiles,
    ImageFolder,
    Source,
    files_under,
    images_in,
    open_source,
    read_json,
)
from plrc.files import at_home
from plrc.registry import LAYOUTS, did_you_mean

_VOID = 255  # the label of PASCAL VOC's borders: neither an object nor background
_KEYPOINTS = "keypoints.json"


def open_annotated(path: str) -> Source:
    """The data set that a path names, recognised by its contents: the first of ``plrc.registry.LAYOUTS`` that fits.

    The path is a folder; the file of one split of several, such as PASCAL VOC's ``ImageSets/Main/<split>.txt`` or
    COCO's ``annotations/instances_<split>.json``; or scenes or shards, see ``plrc.data.sources.open_source``. Raises a
    FileNotFoundError if there is no such path, a ValueError if nothing known is in it, or it is malformed.
    """
    if path.split(":")[0].split("@")[0] == "scenes" or is_shards(path):
        return open_source(path)
    root = at_home(path)
    if not root.exists():
        near = did_you_mean(path, ("scenes",), file=True) or ": give a data set's folder or 'scenes:N'"
        raise FileNotFoundError(f"{path} does not exist{near}")
    for layout in sorted(LAYOUTS.values(), key=lambda entry: entry.traits.get("last", False)):
        if (source := layout.load()(root)) is not None:
            return source
    splits = "; a file may be a split, COCO's instances_*.json or VOC's ImageSets/Main/*.txt" if root.is_file() else ""
    raise ValueError(f"{path} holds no data set: looked for {LAYOUTS.helps()}{splits}")


def layout_of(source: Source) -> str:
    """What is known of a data set's images, and from which files, such as "with masks (images/, masks/)"."""
    return getattr(source, "layout", ImageFiles.layout)


class MaskFolder(ImageFiles):
    """Images in ``images/`` with a mask of their name in ``masks/``, as in ECSSD, DUTS and the like; at least one."""

    CLASSES = ("object",)
    layout = "with masks (images/, masks/)"
    has_objects = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = Path(root)
        masks = {Path(name).stem: base / "masks" / name for name in images_in(base / "masks")}
        listed = {name: masks.get(Path(name).stem) for name in images_in(base / "images")}
        self._masks = [mask for mask in listed.values() if mask]
        super().__init__(base, [f"images/{name}" for name, mask in listed.items() if mask])
        if not self._masks:
            raise ValueError(f"{base} has no image images/NAME.jpg with a mask masks/NAME.png")
        self.warn_left_out("images without a mask", [name for name, mask in listed.items() if not mask])

    def annotation(self, i: int) -> Annotation:
        """The objects of the mask, class "object" each. Raises a ValueError if it is coloured, or of another size."""
        path, file = self.path(i), self._masks[i]
        masks = read_masks(file)
        masks = images.upright_masks(masks, images.turn_needed(path, masks.shape[:0:-1], f"the mask {file}"))
        return Annotation(masks, images.boxes_of(masks), [*self.CLASSES] * len(masks))

    def noted(self, i: int) -> Any:
        """What is known of the image's objects without opening a file: the bytes of the mask."""
        return self._masks[i].stat().st_size

    def stamp(self, i: int) -> str:
        about = self._masks[i].stat()
        return f"{super().stamp(i)} {about.st_size} {about.st_mtime_ns}"


def open_masks(path: Path) -> Source | None:
    return MaskFolder(path) if images_in(path / "images") and images_in(path / "masks") else None


def read_masks(file: Path) -> np.ndarray:
    """The objects ``(n, H, W)`` bool of a mask file, in the order of their labels.

    A black-and-white file holds one object, the white: of two values, or grey with soft borders (more than half of
    what is not black is nearly white; taken at half). Any other grey file, and every file with a palette, is a map of
    labels: each value but 0 (background) and 255 (void) is an object. Raises a ValueError if it is coloured without a
    palette, an UndecodableImage if it is no image.
    """
    with images.opened(file) as image:
        image.load()
    if image.mode == "P" or image.mode.startswith("I"):
        values = np.asarray(image)
    else:
        channels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
        values = channels if channels.ndim == 2 else channels[..., 0]
        if channels.ndim == 3 and (channels != values[..., None]).any():
            raise ValueError(f"the mask {file} is coloured: save it as grey labels or with a palette")
    labels = [v for v in np.unique(values).tolist() if v != 0]
    grey = image.mode != "P" and values.dtype == np.uint8 and labels
    if grey and (len(labels) == 1 or (values[values > 0] > 250).mean() > 0.5):
        return (values > labels[-1] // 2)[None]
    objects = [values == label for label in labels if values.dtype != np.uint8 or label != _VOID]
    return np.array(objects, dtype=bool).reshape(-1, *values.shape)


class KeypointFolders(ImageFiles):
    """Images of one kind of object with the same keypoints each, as in PF-WILLOW, folder by folder.

    ``root`` has a ``keypoints.json`` or its folders have one each: file name → K × [x, y] in pixels, or null where a
    point is not seen. Every ordered pair of images in one folder is a pair to match. Raises a ValueError if there is no
    such image, a file is malformed, or two images of a folder differ in K.
    """

    layout = "with keypoints (keypoints.json)"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = Path(root)
        listed = {
            "/".join([*file.parent.relative_to(base).parts, name]): points
            for file in _keypoint_files(base)
            for name, points in sorted(_read_keypoints(file).items())
        }
        known = {name: points for name, points in listed.items() if (base / name).is_file()}
        self._groups, self._points = [name.rpartition("/")[0] for name in known], list(known.values())
        super().__init__(base, known)
        if not known:
            raise ValueError(f"{base}: no {_KEYPOINTS} in it or in its folders lists an image that is there")
        self.warn_left_out("listed images that are missing", [name for name in listed if name not in known])

    def group(self, i: int) -> str:
        """The folder of image i: its pairs are with the folder's other images."""
        self.name(i)
        return self._groups[i]

    def keypoints(self, i: int) -> np.ndarray:
        """Points ``(K, 2)`` float32 in the image frame, not a number where one is not seen. Pixel numbers are taken as
        distances from the image's left and upper border."""
        size, turn = images.stored_frame(self.path(i))
        return (images.upright_points(self._points[i], size, turn) / images.upright_size(size, turn)).astype(np.float32)


def open_keypoints(path: Path) -> Source | None:
    return KeypointFolders(path) if _keypoint_files(path) else None


def _keypoint_files(base: Path) -> list[Path]:
    return [base / _KEYPOINTS] if (base / _KEYPOINTS).is_file() else sorted(base.glob(f"*/{_KEYPOINTS}"))


def _read_keypoints(file: Path) -> dict[str, np.ndarray]:
    """Pixels ``(K, 2)`` of every image that a file lists."""
    listed, found, form = read_json(file), dict[str, np.ndarray](), "file name → K × [x, y] or null"
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{file} lists no image: write {form}")
    for name, points in listed.items():
        try:
            rows = [(np.nan, np.nan) if p is None or None in p else (float(p[0]), float(p[1])) for p in points]
        except (TypeError, ValueError, LookupError) as error:
            raise ValueError(f"{file}: the keypoints of {name} are not K × [x, y] or null: correct them") from error
        found[name] = np.array(rows, dtype=np.float64).reshape(-1, 2)
    counts = {len(points) for points in found.values()}
    if len(counts) > 1:
        raise ValueError(f"{file}: its images have {sorted(counts)} keypoints: write null for one that is not seen")
    return found


class BoxFiles(ImageFiles):
    """What the layouts with boxes in pixels share. An image of another size than was annotated raises a ValueError."""

    has_objects = True

    def misfits(self) -> list[str]:
        """A clause for each image whose size is not the annotated one. Opens every image's header."""
        found = list[str]()
        for i in range(len(self)):
            try:
                self._stored(i)
            except images.UndecodableImage:
                pass
            except ValueError as error:
                found.append(str(error))
        return found

    def pixel_boxes(self, i: int) -> np.ndarray:
        """The boxes of ``annotation(i)``: ``(n, 4)`` float64, x0, y0, x1, y1 in pixels of the upright image."""
        return images.upright_boxes(*self._stored(i))

    def _stored(self, i: int) -> tuple[np.ndarray, tuple[int, int], int]:
        """Boxes in pixels as annotated, (width, height) as annotated, the EXIF orientation by which they are turned."""
        raise NotImplementedError

    def _fractions(self, i: int) -> np.ndarray:
        """``pixel_boxes`` in the image frame."""
        boxes, size, turn = self._stored(i)
        return (images.upright_boxes(boxes, size, turn) / (images.upright_size(size, turn) * 2)).astype(np.float32)


class VOC(BoxFiles):
    """A Source of the images of ``ImageSets/Main/<split>.txt``, or of all that have an XML file if not given.

    XML files and images may lie in folders of ``Annotations/`` and ``JPEGImages/``, an image under the name of its XML
    file; or both in ``annotations/``, ``images/`` or ``root`` itself. A split may name images with their suffixes.
    Boxes in the files count pixels from 1 and include the last one: x0 = xmin − 1, x1 = xmax. Boxes with xmax <= xmin
    or ymax <= ymin (a click that was no drag), or outside the image, are left out, with one warning.
    Raises a ValueError if there is no such split, or no image in it, or an XML file is malformed.
    """

    layout = "with boxes (PASCAL VOC: Annotations/, JPEGImages/)"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        base, file = Path(root), Path(root, "ImageSets", "Main", f"{split}.txt")
        shown, noted = _voc_folders(base)
        jpeg = {os.path.splitext(name)[0]: (shown / name).relative_to(base) for name in images_in(shown, deep=True)}
        files = [noted / name for name in files_under(noted) if name.endswith(".xml") and (noted / name).is_file()]
        xml = {f.relative_to(noted).with_suffix("").as_posix(): f for f in files}
        if split is not None and not file.is_file():
            there = ", ".join(sorted(f.stem for f in file.parent.glob("*.txt"))) or "none"
            raise ValueError(f"{file} is missing: the splits there are {there}")
        if split is None:
            wanted = sorted({*xml, *jpeg})
        else:
            lines = file.read_text("utf-8-sig", "surrogateescape").splitlines()  # as names of files are read
            wanted = [_voc_name(line.strip(), xml) for line in lines if line.strip()]
        ids = [i for i in dict.fromkeys(wanted) if i in jpeg and i in xml]
        super().__init__(base, [jpeg[i].as_posix() for i in ids])
        if not ids:
            raise ValueError(f"{base}: none of {len(wanted)} listed has Annotations/NAME.xml and JPEGImages/NAME.jpg")
        self.warn_left_out("without an image or an XML file", sorted(set(wanted) - set(ids)))
        self.warn_left_out("names that are listed again", sorted(i for i, n in Counter(wanted).items() if n > 1))
        self._xml, empty = [xml[i] for i in ids], list[str]()
        self._known = [_read_voc(file, empty) for file in self._xml]
        self.warn_left_out("boxes without area", empty)

    def annotation(self, i: int) -> Annotation:
        """The image's boxes; no masks."""
        difficult = frozenset(k for k, (_, hard) in enumerate(self.instances(i)) if hard)
        return Annotation(None, self._fractions(i), [name for name, _ in self.instances(i)], difficult=difficult)

    def instances(self, i: int) -> list[tuple[str, bool]]:
        """Class of each of the boxes of ``annotation(i)`` and whether it is difficult, without opening the image."""
        self.name(i)
        return self._known[i][2]

    def noted(self, i: int) -> Any:
        """What the XML file says, in plain values."""
        size, boxes, objects = self._known[i]
        return size, boxes.tolist(), objects

    def frame(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels as the XML file has it; of the image's header where it has none."""
        self.name(i)
        return self._known[i][0] or self.size(i)

    def _stored(self, i: int) -> tuple[np.ndarray, tuple[int, int], int]:
        path, (size, boxes, _) = self.path(i), self._known[i]
        if size is None:
            return boxes, *images.stored_frame(path)
        return boxes, size, images.turn_needed(path, size, str(self._xml[i]))


def open_voc(path: Path) -> Source | None:
    """The data set in a folder, or the split that an ``ImageSets/Main/<split>.txt`` lists."""
    if path.suffix == ".txt" and path.absolute().parent.name == "Main":
        return VOC(path.absolute().parents[2], path.stem)
    shown, noted = _voc_folders(path)
    xml = [name for name in files_under(noted) if name.endswith(".xml") and (noted / name).is_file()]
    if not xml or noted.name == "Annotations":
        return VOC(path) if xml and shown.is_dir() else None
    # Beside photos lie XML files of other kinds, too, and further down whole data sets.
    pictures = {os.path.splitext(name)[0] for name in images_in(shown, deep=True)}
    pairs = (noted / name for name in xml if os.path.splitext(name)[0] in pictures)
    return VOC(path) if b"<annotation" in next((pair.read_bytes() for pair in pairs), b"") else None


def _voc_folders(base: Path) -> tuple[Path, Path]:
    kinds = ("JPEGImages", "images"), ("Annotations", "annotations")
    shown, noted = (next((base / name for name in kind if (base / name).is_dir()), base) for kind in kinds)
    return shown, noted


def _voc_name(line: str, known: Container[str]) -> str:
    """The name that a line of a split means: a class's list has −1, 0 or 1 behind it, others the suffix."""
    bare = re.sub(r"\s+-?[01]$", "", line)
    names = (line, bare, os.path.splitext(line)[0], os.path.splitext(bare)[0])
    return next((name for name in names if name in known), bare)


def _read_voc(file: Path, empty: list[str]) -> tuple[tuple[int, int] | None, np.ndarray, list[tuple[str, bool]]]:
    """Size (None if not said), boxes ``(n, 4)`` in pixels from the left and upper border, class and difficult of each;
    those without area go to ``empty``."""
    boxes, objects = list[tuple[float, ...]](), list[tuple[str, bool]]()
    try:
        root = ElementTree.parse(file).getroot()
        width, height = (round(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
        for item in root.findall("object"):
            name = (item.findtext("name") or "").strip()
            if item.find("bndbox") is None:
                raise ValueError(f"its object {name[:40]!r} has no bndbox")
            x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{c}") or "") for c in ("xmin", "ymin", "xmax", "ymax"))
            right, lower = (width, height) if width and height else (np.inf, np.inf)
            if x0 < x1 > 0 and y0 < y1 > 0 and x0 <= right and y0 <= lower:
                boxes.append((x0 - 1, y0 - 1, x1, y1))
                objects.append((name, (item.findtext("difficult") or "0").strip() == "1"))
            else:
                empty.append(f"{file.stem} ({name} at {x0:g}, {y0:g})")
    except (ElementTree.ParseError, ValueError, OverflowError, LookupError) as error:  # of an encoding that is none
        raise ValueError(f"{file} is no PASCAL VOC annotation ({error}): correct it or take it off the list") from error
    return (width, height) if width and height else None, np.array(boxes, dtype=np.float64).reshape(-1, 4), objects


class ClassFolders(ImageFolder):
    """The images under a folder, labelled by the first folder below it (below its ``train/``), as ImageNet has them.

    Raises a ValueError if an image lies in no class folder, or there is only one class.
    """

    layout = "in class folders"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        split = [self.name(i).split("/") for i in range(len(self))]
        # The training split alone is listed as train/<class>/…; among other folders "train" is a class.
        depth = 1 if all(parts[0] == "train" and len(parts) > 2 for parts in split) else 0
        loose = ["/".join(parts) for parts in split if len(parts) <= depth + 1]
        self._labels = [parts[depth] for parts in split]
        if loose or len(set(self._labels)) < 2:
            what = f"{loose[0]} lies in no class folder" if loose else f"there is one class only, {self._labels[0]}"
            raise ValueError(f"{self.root}: {what}: expected several folders <class>/* or train/<class>/*")

    def label(self, i: int) -> str:
        """The class of image i."""
        self.name(i)
        return self._labels[i]


def open_images(path: Path) -> Source | None:
    """Class folders, or else images at any depth."""
    for layout in (ClassFolders, ImageFolder):
        with suppress(ValueError, OSError):
            return layout(path)
    return None
