"""What a folder is, by what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from plrc.data.annotated.classes import ClassFolders
from plrc.data.annotated.coco import COCO
from plrc.data.annotated.keypoints import KeypointFolders
from plrc.data.annotated.masks import MaskFolder
from plrc.data.annotated.pictures import pictures_in
from plrc.data.annotated.voc import VOC
from plrc.data.scenes import Scenes
from plrc.data.sources import ImageFolder, Source, open_source

_KNOWN = (
    "images/ and masks/ (masks); keypoints.json, in it or in its folders (keypoints); Annotations/*.xml and "
    "JPEGImages/ (PASCAL VOC); annotations/instances_*.json (COCO); <class>/* or train/<class>/* (classes); "
    "pictures at any depth"
)

_LAYOUTS: dict[type, str] = {
    MaskFolder: "with masks (images/, masks/)",
    KeypointFolders: "with keypoints (keypoints.json)",
    VOC: "with boxes (PASCAL VOC: Annotations/, JPEGImages/)",
    Scenes: "with masks (rendered)",
}


@runtime_checkable
class KeypointSource(Source, Protocol):
    """A Source of pictures that can be matched point by point."""

    def group(self, i: int) -> str:
        """The pictures of one group show one kind of object, and lie one after another."""

    def keypoints(self, i: int) -> np.ndarray:
        """(K, 2) in the image frame, not a number where a point is not seen; K is the group's."""


@runtime_checkable
class LabelledSource(Source, Protocol):
    """A Source of pictures that have a class each."""

    def label(self, i: int) -> str:
        """The picture's class."""


def open_annotated(path: str) -> Source:
    """The data set that a path names, recognised by its contents.

    Args:
        path: a folder; PASCAL VOC's ``ImageSets/Main/<split>.txt`` or COCO's ``annotations/instances_<split>.json``
            for one split of several; or "scenes:N", see ``plrc.data.sources.open_source``.

    Returns:
        A ``Source``: ``MaskFolder``, ``KeypointFolders``, ``VOC``, ``COCO``, ``ClassFolders``, ``Scenes``, or an
        ``ImageFolder`` where there are just pictures.

    Raises:
        FileNotFoundError: there is no such path. ValueError: nothing known is in it, or it is malformed.
    """
    if path.split(":")[0].split("@")[0] == "scenes":
        return open_source(path)
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"{path} does not exist: give a data set's folder or 'scenes:N'")
    if root.is_file():
        if root.suffix == ".json" and root.name.startswith("instances_"):
            return COCO(root.parent.parent, root.stem.removeprefix("instances_"))
        if root.suffix == ".txt" and root.parent.name == "Main":
            return VOC(root.parent.parent.parent, root.stem)
        raise ValueError(f"{path} names no split: a file may be COCO's instances_*.json or VOC's ImageSets/Main/*.txt")
    if any((root / "annotations").glob("instances_*.json")):
        return COCO(root)
    if (root / "JPEGImages").is_dir() and any((root / "Annotations").glob("*.xml")):
        return VOC(root)
    if pictures_in(root / "images") and pictures_in(root / "masks"):
        return MaskFolder(root)
    if (root / "keypoints.json").is_file() or any(root.glob("*/keypoints.json")):
        return KeypointFolders(root)
    try:
        return ClassFolders(root)
    except ValueError:  # pictures, but not in class folders
        return ImageFolder(root)
    except FileNotFoundError as error:
        raise ValueError(f"{path} holds no data set: looked for {_KNOWN}") from error


def layout_of(source: Source) -> str:
    """What is known of a data set's pictures, and from which files, such as "with masks (images/, masks/)"."""
    if isinstance(source, COCO):
        return f"with outlines or boxes (COCO: annotations/{source.file.name})"
    if isinstance(source, ClassFolders):
        return "in class folders"
    for kind, layout in _LAYOUTS.items():
        if isinstance(source, kind):
            return layout
    return "of which nothing is known"
