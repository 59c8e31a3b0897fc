"""Images of which something is known, recognised by what is in their folder; and the layouts that are just folders."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from plrc.data.images import (
    boxes_of,
    opened,
    stored_frame,
    turn_needed,
    upright_boxes,
    upright_masks,
    upright_points,
    upright_size,
)
from plrc.data.sources import (
    Annotation,
    ImageFiles,
    ImageFolder,
    Source,
    images_in,
    open_source,
    read_json,
    warn_left_out,
)
from plrc.registry import LAYOUTS

logger = logging.getLogger(__name__)

_VOID = 255  # the label of PASCAL VOC's borders: neither an object nor background
_KEYPOINTS = "keypoints.json"


@runtime_checkable
class KeypointSource(Source, Protocol):
    """A Source of images that can be matched point by point."""

    def group(self, i: int) -> str:
        """The images of one group show one kind of object, and lie one after another."""

    def keypoints(self, i: int) -> np.ndarray:
        """(K, 2) in the image frame, not a number where a point is not seen; K is the group's."""


@runtime_checkable
class LabelledSource(Source, Protocol):
    """A Source of images that have a class each."""

    def label(self, i: int) -> str:
        """The image's class."""


def open_annotated(path: str) -> Source:
    """The data set that a path names, recognised by its contents: the first of ``plrc.registry.LAYOUTS`` that fits.

    Args:
        path: a folder; the file of one split of several, such as PASCAL VOC's ``ImageSets/Main/<split>.txt`` or COCO's
            ``annotations/instances_<split>.json``; or "scenes:N", see ``plrc.data.sources.open_source``.

    Raises:
        FileNotFoundError: there is no such path. ValueError: nothing known is in it, or it is malformed.
    """
    if path.split(":")[0].split("@")[0] == "scenes":
        return open_source(path)
    root = Path(path).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"{path} does not exist: give a data set's folder or 'scenes:N'")
    for layout in sorted(LAYOUTS.values(), key=lambda entry: entry.traits.get("last", False)):
        source = layout.load()(root)
        if source is not None:
            return source
    if root.is_file():
        raise ValueError(f"{path} names no split: a file may be COCO's instances_*.json or VOC's ImageSets/Main/*.txt")
    raise ValueError(f"{path} holds no data set: looked for {LAYOUTS.helps()}")


def layout_of(source: Source) -> str:
    """What is known of a data set's images, and from which files, such as "with masks (images/, masks/)"."""
    return getattr(source, "layout", ImageFiles.layout)


def open_images(path: Path) -> Source | None:
    """The images under a folder at any depth; None if there is none, or it is no folder."""
    try:
        return ImageFolder(path)
    except OSError:
        return None


class BoxFiles(ImageFiles):
    """What the layouts with boxes in pixels share. An image of another size than was annotated raises a ValueError."""

    has_objects = True

    def pixel_boxes(self, i: int) -> np.ndarray:
        """The boxes of ``annotation(i)``: ``(n, 4)`` float64, x0, y0, x1, y1 in pixels of the upright image."""
        return upright_boxes(*self._stored(i))

    def _stored(self, i: int) -> tuple[np.ndarray, tuple[int, int], int]:
        """Boxes in pixels as annotated, (width, height) as annotated, the EXIF orientation by which they are turned."""
        raise NotImplementedError

    def _fractions(self, boxes: np.ndarray, size: tuple[int, int], turn: int) -> np.ndarray:
        """What ``_stored`` gives, in the image frame."""
        return (upright_boxes(boxes, size, turn) / (upright_size(size, turn) * 2)).astype(np.float32)


# --------------------------------------------------------------------------------------------------------------- masks


class MaskFolder(ImageFiles):
    """Images in ``images/`` with a mask of their name in ``masks/``, as in ECSSD, DUTS and the like.

    Raises:
        ValueError: there is no such pair.
    """

    CLASSES = ("object",)
    layout = "with masks (images/, masks/)"
    has_objects = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = Path(root)
        images = images_in(base / "images")
        masks = {Path(name).stem: name for name in images_in(base / "masks")}
        paired = [name for name in images if Path(name).stem in masks]
        super().__init__(base, [f"images/{name}" for name in paired])
        if not paired:
            raise ValueError(f"{base} has no image images/NAME.jpg with a mask masks/NAME.png")
        warn_left_out(logger, base, "images without a mask", [name for name in images if name not in set(paired)])
        self._masks = [masks[Path(name).stem] for name in paired]

    def annotation(self, i: int) -> Annotation:
        """The objects of the mask, class "object" each, with their masks' bounding boxes.

        Raises a ValueError if the mask is coloured, or of another size than the image.
        """
        path, file = self.path(i), self.root / "masks" / self._masks[i]
        masks = read_masks(file)
        masks = upright_masks(masks, turn_needed(path, (masks.shape[2], masks.shape[1]), f"the mask {file}"))
        return Annotation(masks, boxes_of(masks), [*self.CLASSES] * len(masks))


def open_masks(path: Path) -> Source | None:
    return MaskFolder(path) if images_in(path / "images") and images_in(path / "masks") else None


def read_masks(file: Path) -> np.ndarray:
    """The objects ``(n, H, W)`` bool of a mask file, in the order of their labels.

    A black-and-white file holds one object, the white: of two values, or grey with soft borders (more than half of
    what is not black is nearly white; taken at half). Any other grey file, and every file with a palette, is a map of
    labels: each value but 0 (background) and 255 (void) is an object.

    Raises:
        ValueError: it is coloured without a palette. UndecodableImage: it is no image.
    """
    with opened(file) as image:
        image.load()
    if image.mode in ("1", "L", "LA"):
        values = np.asarray(image.convert("L"))
    elif image.mode == "P" or image.mode.startswith("I"):
        values = np.asarray(image)
    else:
        channels = np.asarray(image.convert("RGB"))
        values = channels[..., 0]
        if (channels != values[..., None]).any():
            raise ValueError(f"the mask {file} is coloured: save it as grey labels or with a palette")
    labels = [v for v in np.unique(values).tolist() if v != 0]
    grey = image.mode != "P" and values.dtype == np.uint8 and labels
    if grey and (len(labels) == 1 or (values[values > 0] > 250).mean() > 0.5):
        return (values > labels[-1] // 2)[None]
    objects = [values == label for label in labels if values.dtype != np.uint8 or label != _VOID]
    return np.stack(objects) if objects else np.zeros((0, *values.shape), dtype=bool)


# ----------------------------------------------------------------------------------------------------------- keypoints


class KeypointFolders(ImageFiles):
    """Images of one kind of object with the same keypoints each, as in PF-WILLOW, folder by folder.

    ``root`` has a ``keypoints.json`` or its folders have one each: file name → K × [x, y] in pixels, or null where a
    point is not seen. Every ordered pair of images in one folder is a pair to match.

    Raises:
        ValueError: there is no such image, a file is malformed, or two images of a folder differ in K.
    """

    layout = "with keypoints (keypoints.json)"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = Path(root)
        self._known: list[tuple[str, np.ndarray]] = []  # group, pixels
        names, missing = [], []
        for file in _keypoint_files(base):
            folder = "" if file.parent == base else file.parent.name
            for name, points in sorted(_read_keypoints(file).items()):
                if (file.parent / name).is_file():
                    names.append(f"{folder}/{name}" if folder else name)
                    self._known.append((folder, points))
                else:
                    missing.append(f"{folder}/{name}")
        super().__init__(base, names)
        if not names:
            raise ValueError(f"{base}: no {_KEYPOINTS} in it or in its folders lists an image that is there")
        warn_left_out(logger, base, "listed images that are missing", missing)

    def group(self, i: int) -> str:
        """The folder of image i: its pairs are with the folder's other images."""
        self.name(i)
        return self._known[i][0]

    def keypoints(self, i: int) -> np.ndarray:
        """Points ``(K, 2)`` float32 in the image frame, not a number where one is not seen.

        Pixel numbers are taken as distances from the image's left and upper border.
        """
        size, turn = stored_frame(self.path(i))
        return (upright_points(self._known[i][1], size, turn) / upright_size(size, turn)).astype(np.float32)


def open_keypoints(path: Path) -> Source | None:
    return KeypointFolders(path) if _keypoint_files(path) else None


def _keypoint_files(base: Path) -> list[Path]:
    return [base / _KEYPOINTS] if (base / _KEYPOINTS).is_file() else sorted(base.glob(f"*/{_KEYPOINTS}"))


def _read_keypoints(file: Path) -> dict[str, np.ndarray]:
    """Pixels ``(K, 2)`` of every image that a file lists."""
    listed = read_json(file)
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{file} lists no image: write file name → K × [x, y]")
    found = {}
    for name, points in listed.items():
        try:
            rows = [(np.nan, np.nan) if p is None or None in p else (float(p[0]), float(p[1])) for p in points]
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{file}: the keypoints of {name} are not a list of [x, y] or null") from error
        found[name] = np.array(rows, dtype=np.float64).reshape(-1, 2)
    counts = {len(points) for points in found.values()}
    if len(counts) > 1:
        raise ValueError(f"{file}: its images have {sorted(counts)} keypoints: write null for one that is not seen")
    return found


# ------------------------------------------------------------------------------------------------------------- classes


class ClassFolders(ImageFolder):
    """The images under a folder, labelled by the first folder below it (below its ``train/``), as ImageNet has them.

    Raises:
        ValueError: an image lies in no class folder, or there is only one class. FileNotFoundError: no images.
    """

    layout = "in class folders"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        split = [self.name(i).split("/") for i in range(len(self))]
        # The training split alone is listed as train/<class>/…; among other folders "train" is a class.
        depth = 1 if all(parts[0] == "train" and len(parts) > 2 for parts in split) else 0
        loose = next(("/".join(parts) for parts in split if len(parts) <= depth + 1), None)
        if loose:
            raise ValueError(f"{self.root}: {loose} lies in no class folder: expected <class>/* or train/<class>/*")
        self._labels = [parts[depth] for parts in split]
        if len(set(self._labels)) < 2:
            raise ValueError(f"{self.root} has one class only, {self._labels[0]}: expected several class folders")

    def label(self, i: int) -> str:
        """The class of image i."""
        self.name(i)
        return self._labels[i]


def open_classes(path: Path) -> Source | None:
    try:
        return ClassFolders(path)
    except (ValueError, OSError):  # images, but not in class folders
        return None
