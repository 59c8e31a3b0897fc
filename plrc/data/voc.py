"""PASCAL VOC: an image's boxes in an XML file, lists of images in text files."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from plrc.data.annotated import BoxFiles
from plrc.data.images import stored_frame, turn_needed
from plrc.data.sources import Annotation, Source, images_in, warn_left_out

logger = logging.getLogger(__name__)


class VOC(BoxFiles):
    """A Source of the images of ``ImageSets/Main/<split>.txt``, or of all that have an XML file if not given.

    Boxes in the files count pixels from 1 and include the last one: x0 = xmin − 1, x1 = xmax. Boxes with
    xmax <= xmin or ymax <= ymin (a click that was no drag), or outside the image, are left out, with one warning.

    Raises:
        ValueError: no such split, or no image in it; an XML file is malformed.
    """

    layout = "with boxes (PASCAL VOC: Annotations/, JPEGImages/)"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        base = Path(root)
        images = {Path(name).stem: name for name in images_in(base / "JPEGImages")}
        wanted = _listed(base, split)
        ids = [i for i in wanted if i in images and (base / "Annotations" / f"{i}.xml").is_file()]
        super().__init__(base, [f"JPEGImages/{images[i]}" for i in ids])
        if not ids:
            raise ValueError(f"{base}: none of {len(wanted)} listed has Annotations/NAME.xml and JPEGImages/NAME.jpg")
        warn_left_out(logger, base, "without an image or an XML file", sorted(set(wanted) - set(ids)))
        empty: list[str] = []
        self._known = [_read(self._xml(i), empty) for i in range(len(ids))]
        warn_left_out(logger, base, "boxes without area", empty)

    def annotation(self, i: int) -> Annotation:
        """The image's boxes; no masks."""
        difficult = frozenset(k for k, (_, hard) in enumerate(self.instances(i)) if hard)
        classes = [name for name, _ in self.instances(i)]
        return Annotation(None, self._fractions(*self._stored(i)), classes, difficult=difficult)

    def instances(self, i: int) -> list[tuple[str, bool]]:
        """Class of each of the boxes of ``annotation(i)`` and whether it is difficult, without opening the image."""
        self.name(i)
        return self._known[i][2]

    def frame(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels as the XML file has it; of the image's header where it has none."""
        self.name(i)
        return self._known[i][0] or self.size(i)

    def _xml(self, i: int) -> Path:
        return self.root / "Annotations" / f"{self.path(i).stem}.xml"

    def _stored(self, i: int) -> tuple[np.ndarray, tuple[int, int], int]:
        path = self.path(i)
        size, boxes, _ = self._known[i]
        if size is None:
            return boxes, *stored_frame(path)
        return boxes, size, turn_needed(path, size, str(self._xml(i)))


def open_voc(path: Path) -> Source | None:
    """The data set in a folder, or the split that an ``ImageSets/Main/<split>.txt`` lists."""
    if path.suffix == ".txt" and path.parent.name == "Main":
        return VOC(path.parent.parent.parent, path.stem)
    there = (path / "JPEGImages").is_dir() and any((path / "Annotations").glob("*.xml"))
    return VOC(path) if there else None


def _listed(base: Path, split: str | None) -> list[str]:
    """Names of the images, without suffix."""
    if split is None:
        return sorted(f.stem for f in (base / "Annotations").glob("*.xml") if not f.name.startswith("."))
    file = base / "ImageSets" / "Main" / f"{split}.txt"
    if not file.is_file():
        there = ", ".join(sorted(f.stem for f in file.parent.glob("*.txt"))) or "none"
        raise ValueError(f"{file} is missing: the splits there are {there}")
    return [line.split()[0] for line in file.read_text().splitlines() if line.split()]  # a class's list has ±1 behind


def _read(file: Path, empty: list[str]) -> tuple[tuple[int, int] | None, np.ndarray, list[tuple[str, bool]]]:
    """Size (None if not said), boxes ``(n, 4)`` in pixels from the left and upper border, class and difficult of each.

    Adds those without area to ``empty``.
    """
    try:
        root = ElementTree.parse(file).getroot()
        width, height = (round(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
        boxes: list[tuple[float, ...]] = []
        objects: list[tuple[str, bool]] = []
        for item in root.findall("object"):
            name = (item.findtext("name") or "").strip()
            x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{c}") or "") for c in ("xmin", "ymin", "xmax", "ymax"))
            inside = not (width and height) or (x0 <= width and y0 <= height)
            if x1 <= x0 or y1 <= y0 or x1 <= 0 or y1 <= 0 or not inside:
                empty.append(f"{file.stem} ({name} at {x0:g}, {y0:g})")
                continue
            boxes.append((x0 - 1, y0 - 1, x1, y1))
            objects.append((name, (item.findtext("difficult") or "0").strip() == "1"))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{file} is no PASCAL VOC annotation ({error}): correct it or take it off the list") from error
    return (width, height) if width and height else None, np.array(boxes, dtype=np.float64).reshape(-1, 4), objects
