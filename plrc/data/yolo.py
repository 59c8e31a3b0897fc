"""Images with boxes as YOLO has them: a text file beside each image, a line an object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from plrc.data.sources import Annotation, ImageFiles, Source, images_in
from plrc.options import Yaml

_TABLES = ("data.yaml", "dataset.yaml")


class YOLO(ImageFiles):
    """The images of a folder ``…/images/…`` with the boxes of ``…/labels/…``, in files of the same names.

    A line is ``class x y w h``, middle and size in the image frame, or ``class x0 y0 x1 y1 x2 y2 …``, an outline, whose
    box is taken. An image without a file has no objects. Classes have the names of the next ``data.yaml`` above, else
    their numbers. Boxes are cut at the image's border; those without area are left out, with one warning.
    Raises a ValueError if no image has a file, or a line is none of these.
    """

    layout = "with boxes (YOLO: images/, labels/)"
    has_objects = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        root = Path(folder)
        super().__init__(root, images_in(root, deep=True))
        labels, names, empty = _labels_of(root), _names(root), list[str]()
        files = [(labels / self.name(i)).with_suffix(".txt") for i in range(len(self))]
        if not any(map(Path.is_file, files)):
            raise ValueError(f"{root}: none of its {len(self)} images has a file NAME.txt in {labels}")
        self._known = [_read(file, names, empty) if file.is_file() else ([], np.zeros((0, 4))) for file in files]
        self.warn_left_out("boxes without area", empty)

    def annotation(self, i: int) -> Annotation:
        """The image's boxes; no masks."""
        self.name(i)
        classes, boxes = self._known[i]
        return Annotation(None, boxes.astype(np.float32), list(classes))

    def noted(self, i: int) -> Any:
        """The same in plain values."""
        classes, boxes = self._known[i]
        return classes, boxes.tolist()


def open_yolo(path: Path) -> Source | None:
    """The data set in a folder of images, or in one that holds ``images/`` and ``labels/``."""
    if path.name in _TABLES and path.is_file():
        raise ValueError(f"{path} names several splits: give a split's folder of images, such as {_first(path)}")
    folder = path / "images" if (path / "images").is_dir() else path
    labels = _labels_of(folder) if path.is_dir() and "images" in folder.absolute().parts else folder
    return YOLO(folder) if labels != folder and next(labels.rglob("*.txt"), None) else None


def _labels_of(folder: Path) -> Path:
    """The folder of labels: the last ``images`` in a path is ``labels`` there."""
    parts = [*folder.absolute().parts]
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def _table(file: Path) -> dict[str, Any]:
    try:
        table = yaml.load(file.read_text(encoding="utf-8-sig"), Yaml)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no YAML ({' '.join(str(error).split())}): correct it") from error
    if not isinstance(table, dict) or not isinstance(table.get("names"), list | dict):
        raise ValueError(f"{file} has no table 'names' of its classes: write it")
    return table


def _first(file: Path) -> str:
    """The training split that a ``data.yaml`` names."""
    table = _table(file)
    return str(Path(file.parent, str(table.get("path") or ""), str(table.get("train") or "images/train")))


def _names(folder: Path) -> dict[int, str] | None:
    """Number → name of the classes, of the next table above the images."""
    files = (place / name for place in (folder, *folder.absolute().parents[:3]) for name in _TABLES)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    names = _table(file)["names"]
    pairs = enumerate(names) if isinstance(names, list) else names.items()
    try:
        return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{file}: its names are numbered by something else ({error}): write 0: ant, 1: bee") from error


def _read(file: Path, names: dict[int, str] | None, empty: list[str]) -> tuple[list[str], np.ndarray]:
    """Classes, and boxes ``(n, 4)`` in the image frame, x0, y0, x1, y1; those without area go to ``empty``."""
    classes, boxes = list[str](), list[list[float]]()
    for number, line in enumerate(file.read_text("utf-8-sig", "replace").splitlines(), start=1):
        try:
            fields = np.array(line.split(), dtype=np.float64)
        except ValueError:
            fields = np.array([np.nan])
        if not len(fields):
            continue
        label = fields[0]
        boxed, outlined = len(fields) in (5, 6), len(fields) >= 7 and len(fields) % 2  # 6: a detector's confidence
        if not (np.isfinite(fields).all() and (boxed or outlined) and label >= 0 and label == int(label)):
            raise ValueError(f"{file}, line {number}: {line[:60]!r} is no object: write 'class x y w h'")
        if names is not None and label not in names:
            raise ValueError(f"{file}, line {number}: class {label:g} is none of {len(names)}: add it to {_TABLES[0]}")
        if boxed:
            middle, half = fields[1:3], fields[3:5] / 2
            corners = np.concatenate((middle - half, middle + half))
        else:
            outline = fields[1:].reshape(-1, 2)
            corners = np.concatenate((outline.min(axis=0), outline.max(axis=0)))
        corners = corners.clip(0, 1)
        if (corners[2:] > corners[:2]).all():
            classes.append(str(int(label)) if names is None else names[int(label)])
            boxes.append(corners.tolist())
        else:
            empty.append(f"{file.name}, line {number}")
    return classes, np.array(boxes, dtype=np.float64).reshape(-1, 4)
