"""Pictures as they are named on the command line and in recipes: a file, or a numbered one of a data set."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from plrc.data.annotated import COCO, VOC, MaskFolder, open_annotated
from plrc.data.annotated.pictures import warn_left_out
from plrc.data.sources import ImageFolder, Source, UndecodableImage, decode
from plrc.regions import open_regions

logger = logging.getLogger(__name__)

REGION_CACHE = Path.home() / ".cache" / "plrc" / "regions"
_NUMBERED = re.compile(r"(.+)#([0-9]+)")
_SCENES = re.compile(r"scenes([:@][^#]*)?")
WHAT_MAY_BE_GIVEN = (
    "give a picture, a folder, scenes#0 for an embedded scene, or DIR#0 for one of a data set with masks or boxes"
)


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        spec: what it was named by. name: short, for headings and tables. image: upright RGB.
        masks: ``(n, H, W)`` bool, its objects, and classes: their n names; where they are known.
        sha256: of the pixels.
    """

    spec: str
    name: str
    image: Image.Image
    masks: np.ndarray | None
    classes: list[str] | None

    @property
    def pixels(self) -> np.ndarray:
        """``(H, W, 3)`` uint8."""
        return np.asarray(self.image)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr(self.image.size).encode() + self.image.tobytes()).hexdigest()


def open_picture(spec: str) -> Picture:
    """A picture by its name: a file; ``scenes#12`` or ``scenes:300@7#12``, a scene; ``DIR#12``, of a data set.

    Raises:
        ValueError: there is no such picture, or it cannot be decoded; names it and what may be given.
    """
    numbered = _NUMBERED.fullmatch(spec)
    try:
        if numbered and not Path(spec).exists():
            return _of_data_set(spec, numbered[1], int(numbered[2]))
        file = Path(spec)
        if file.is_dir():
            raise ValueError(f"{spec} is a folder; one picture is wanted here")
        if not file.exists():
            raise ValueError(f"{spec}: there is no such file; {WHAT_MAY_BE_GIVEN}")
        return Picture(spec, file.stem, decode(file, name=spec), None, None)
    except UndecodableImage as error:
        what = spec if error.name == spec else f"{spec} ({error.name})"  # of a data set: the file, or that of the mask
        raise ValueError(f"{what} cannot be shown: {error.reason}") from error
    except OSError as error:
        raise ValueError(f"{spec}: {error}") from error


def _of_data_set(spec: str, path: str, i: int) -> Picture:
    source = _data_set(path)
    if i >= len(source):
        raise ValueError(f"{spec}: there are the pictures {path}#0 … {path}#{len(source) - 1}")
    annotation = source.annotation(i)
    known = annotation is not None and annotation.masks is not None
    name = f"scene {i}" if _SCENES.fullmatch(path) else Path(source.name(i)).stem
    masks, classes = (annotation.masks, annotation.classes) if annotation and known else (None, None)
    return Picture(spec, name, source.load(i), masks, classes)


@lru_cache(maxsize=4)
def _data_set(path: str) -> Source:
    return open_annotated(path)


def list_pictures(specs: Sequence[str], most: int | None = None) -> list[str]:
    """The pictures that files, folders and data sets name, in order.

    A folder in a layout with masks or boxes (``plrc.data.annotated``) is taken as that data set, so that its objects
    are known; of any other one the pictures at any depth, sorted.

    Those of a folder that cannot be decoded are left out, with a warning that names them.

    Args:
        most: of a folder or data set, only so many, evenly spread.

    Raises:
        ValueError: a folder without pictures, or none that can be decoded, or nothing at all.
    """
    if most is not None and most < 1:
        raise ValueError(f"--most takes 1 picture or more of a folder, not {most}")
    found: list[str] = []
    for spec in specs:
        if _SCENES.fullmatch(spec):
            found += [f"{spec}#{i}" for i in spread(len(_data_set(spec)), most)]
        elif Path(spec).is_dir():
            found += _in_folder(spec, most)
        else:
            found.append(spec)
    if not found:
        raise ValueError(f"there is no picture to look at: {WHAT_MAY_BE_GIVEN}")
    return found


def _in_folder(path: str, most: int | None) -> list[str]:
    try:
        source = _data_set(path)
        numbered = isinstance(source, MaskFolder | COCO | VOC)
        listed = source if numbered else ImageFolder(path)
    except OSError as error:
        raise ValueError(str(error)) from error
    found, broken = [], []
    for i in spread(len(listed), most):
        try:
            listed.load(i, (1, 1))  # of a JPEG an eighth, which tells as much and is soon done
        except UndecodableImage as error:
            broken.append(str(error))
        else:
            found.append(f"{path}#{i}" if numbered else str(Path(path) / listed.name(i)))
    if not found:
        raise ValueError(f"{path}: none of {len(broken)} pictures can be decoded, among them {broken[0]}")
    warn_left_out(logger, Path(path), "pictures that cannot be decoded", broken)
    return found


def spread(n: int, most: int | None) -> list[int]:
    """At most so many of 0 … n − 1, evenly spread."""
    return list(range(n)) if most is None or n <= most else [i * n // most for i in range(most)]


def innermost(masks: np.ndarray) -> tuple[float, float]:
    """The point ``(x, y)`` of the image frame that lies deepest in the largest of the masks ``(n, H, W)``."""
    largest = masks[masks.sum(axis=(1, 2)).argmax()]
    depth = distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return (float(column) + 0.5) / largest.shape[1], (float(row) + 0.5) / largest.shape[0]


def points_in_frame(points: Sequence[Sequence[Any]], picture: Picture) -> Tensor:
    """Points ``(n, 2)`` of the image frame, given as shares ``[x, y]`` of the sides or in pixels, ``[x, y, "px"]``.

    Raises:
        ValueError: a point lies outside the picture.
    """
    width, height = picture.image.size
    found = []
    for x, y, *unit in points:
        share = (x / width, y / height) if unit else (x, y)
        if not all(0 <= v <= 1 for v in share):
            raise ValueError(f"the point {x:g},{y:g} lies outside {picture.name}, which has {width} × {height} pixels")
        found.append(share)
    return torch.tensor(found, dtype=torch.float32).reshape(-1, 2)


def region_raster(picture: Picture, regions: str) -> Tensor:
    """The regions ``(h, w)`` of a picture.

    Args:
        regions: "grid:4", "superpixels:16", "masks:DIR", for the file of the picture's name there, or "objects", the
            picture's own, 0 being the background.

    Raises:
        ValueError: regions are none of these, there is no such mask, or the picture's objects are not known.
    """
    if regions != "objects":
        maps = open_regions(regions, picture.sha256, REGION_CACHE)  # superpixels are kept for these very pixels
        return maps.raster(f"{picture.name}.png", lambda at_least: picture.image.copy())
    if picture.masks is None:
        raise ValueError(f"{picture.spec}: its objects are not known; name other regions, such as grid:4")
    raster = torch.zeros(picture.masks.shape[1:], dtype=torch.long)
    for i, mask in enumerate(picture.masks, start=1):
        raster[torch.from_numpy(np.array(mask))] = i
    return raster
