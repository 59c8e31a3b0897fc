"""PASCAL VOC: a picture's boxes in an XML file, lists of pictures in text files."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from plrc.data.annotated.pictures import PictureFiles, pictures_in, warn_left_out
from plrc.data.annotated.upright import stored_frame, turn_needed, upright_boxes, upright_pixel_boxes
from plrc.data.sources import Annotation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Objects:
    """What an XML file says: size (None if it does not), boxes ``(n, 4)`` in pixels from the left and upper border."""

    size: tuple[int, int] | None
    boxes: np.ndarray
    classes: list[str]
    difficult: frozenset[int]


class VOC(PictureFiles):
    """A Source of the pictures of ``ImageSets/Main/<split>.txt``, or of all that have an XML file if not given.

    Boxes in the files count pixels from 1 and include the last one: x0 = xmin − 1, x1 = xmax. Boxes with
    xmax <= xmin or ymax <= ymin (a click that was no drag), or outside the picture, are left out, with one warning.

    Raises:
        ValueError: no such split, or no picture in it; an XML file is malformed.
    """

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        base = Path(root)
        pictures = {Path(n).stem: n for n in pictures_in(base / "JPEGImages")}
        wanted = _listed(base, split)
        ids = [i for i in wanted if i in pictures and (base / "Annotations" / f"{i}.xml").is_file()]
        super().__init__(base, [f"JPEGImages/{pictures[i]}" for i in ids])
        if not ids:
            raise ValueError(f"{base}: none of {len(wanted)} listed has Annotations/NAME.xml and JPEGImages/NAME.jpg")
        warn_left_out(logger, base, "without a picture or an XML file", sorted(set(wanted) - set(ids)))
        empty: list[str] = []
        self._ids = ids
        self._objects = [_read(base / "Annotations" / f"{i}.xml", empty) for i in ids]
        warn_left_out(logger, base, "boxes without area", empty)

    def annotation(self, i: int) -> Annotation:
        """The picture's boxes; no masks.

        Raises:
            ValueError: the XML file is of a picture of another size.
        """
        boxes, size, turn = self._stored(i)
        known = self._objects[i]
        fractions = boxes / np.array([*size, *size])
        return Annotation(None, upright_boxes(fractions, turn), list(known.classes), difficult=known.difficult)

    def pixel_boxes(self, i: int) -> np.ndarray:
        """The boxes of ``annotation(i)``: ``(n, 4)`` float64, x0, y0, x1, y1 in pixels of the upright picture.

        Raises:
            ValueError: the XML file is of a picture of another size.
        """
        return upright_pixel_boxes(*self._stored(i))

    def instances(self, i: int) -> list[tuple[str, bool]]:
        """Class of each of the boxes of ``annotation(i)`` and whether it is difficult, without opening the picture."""
        self.name(i)
        known = self._objects[i]
        return [(name, k in known.difficult) for k, name in enumerate(known.classes)]

    def frame(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels as the XML file has it; of the picture's header where it has none."""
        self.name(i)
        return self._objects[i].size or self.size(i)

    def _stored(self, i: int) -> tuple[np.ndarray, tuple[int, int], int]:
        """Boxes in pixels of the annotated frame, its size, and the orientation by which it has to be turned."""
        self.name(i)
        known, picture = self._objects[i], self.path(i)
        if known.size is None:
            size, turn = stored_frame(picture)
        else:
            size = known.size
            turn = turn_needed(picture, size, str(self.root / "Annotations" / f"{self._ids[i]}.xml"))
        return known.boxes.clip(0, np.array([*size, *size])), size, turn


def _listed(base: Path, split: str | None) -> list[str]:
    """Names of the pictures, without suffix."""
    if split is None:
        return sorted(f.stem for f in (base / "Annotations").glob("*.xml") if not f.name.startswith("."))
    file = base / "ImageSets" / "Main" / f"{split}.txt"
    if not file.is_file():
        there = ", ".join(sorted(f.stem for f in file.parent.glob("*.txt"))) or "none"
        raise ValueError(f"{file} is missing: the splits there are {there}")
    return [line.split()[0] for line in file.read_text().splitlines() if line.split()]  # a class's list has ±1 behind


def _read(file: Path, empty: list[str]) -> _Objects:
    """An XML file's objects; adds those without area to ``empty``."""
    try:
        root = ElementTree.parse(file).getroot()
        width, height = (round(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
        boxes: list[tuple[float, ...]] = []
        classes: list[str] = []
        difficult: set[int] = set()
        for item in root.findall("object"):
            name = (item.findtext("name") or "").strip()
            corners = [float(item.findtext(f"bndbox/{c}") or "") for c in ("xmin", "ymin", "xmax", "ymax")]
            x0, y0, x1, y1 = corners
            inside = not (width and height) or (x0 <= width and y0 <= height)
            if x1 <= x0 or y1 <= y0 or x1 <= 0 or y1 <= 0 or not inside:
                empty.append(f"{file.stem} ({name} at {x0:g}, {y0:g})")
                continue
            if (item.findtext("difficult") or "0").strip() == "1":
                difficult.add(len(boxes))
            boxes.append((x0 - 1, y0 - 1, x1, y1))
            classes.append(name)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{file} is no PASCAL VOC annotation ({error}): correct it or take it off the list") from error
    size = (width, height) if width and height else None
    return _Objects(size, np.array(boxes, dtype=np.float64).reshape(-1, 4), classes, frozenset(difficult))
