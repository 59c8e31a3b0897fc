"""Pictures as they are named on the command line and in recipes: a file, or a numbered one of a data set."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from plrc.data.annotated import open_annotated
from plrc.data.sources import ImageFolder, Source, UndecodableImage, decode, warn_left_out
from plrc.regions import open_regions

logger = logging.getLogger(__name__)

REGION_CACHE = Path.home() / ".cache" / "plrc" / "regions"
_NUMBERED = re.compile(r"(.+)#([0-9]+)")
SAMPLES = ("sample:china", "sample:flower")
"""The two photographs that scikit-learn ships: at hand wherever this package is."""

_SCENES = re.compile(r"scenes([:@][^#]*)?")
WHAT_MAY_BE_GIVEN = (
    "give a picture, a folder, scenes#0 for an embedded scene, sample:china, or DIR#0 for one of a data set with masks "
    "or boxes"
)


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        spec: what it was named by. name: short, for headings and tables. image: upright RGB.
        masks: ``(n, H, W)`` bool, its objects, and classes: their n names; where they are known.
        sha256: of the pixels. inputs: what a recipe notes of it: name → SHA-256, of the objects too.
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

    @property
    def inputs(self) -> dict[str, str]:
        if self.masks is None:
            return {self.spec: self.sha256}
        head = f"{self.masks.shape} {self.classes} ".encode(errors="surrogateescape")
        objects = hashlib.sha256(head + np.packbits(self.masks).tobytes()).hexdigest()
        return {self.spec: self.sha256, f"{self.spec} (objects)": objects}


def open_picture(spec: str) -> Picture:
    """A picture by its name: a file; ``scenes#12`` or ``scenes:300@7#12``, a scene; ``DIR#12``, of a data set; one of
    ``SAMPLES``.

    Raises:
        ValueError: there is no such picture, or it cannot be decoded; names it and what may be given.
    """
    numbered = _NUMBERED.fullmatch(spec)
    try:
        if numbered and not Path(spec).exists():
            return _of_data_set(spec, numbered[1], int(numbered[2]))
        if spec in SAMPLES:
            name = spec.removeprefix("sample:")
            return Picture(spec, name, decode(_sample(name), name=spec), None, None)
        file = Path(spec)
        if file.is_dir():
            raise ValueError(f"{spec} is a folder; one picture is wanted here")
        if not file.exists():
            raise ValueError(f"{spec}: there is no such file; {WHAT_MAY_BE_GIVEN}")
        return Picture(spec, file.stem, decode(file, name=spec), None, None)
    except UndecodableImage as error:
        what = spec if error.name == spec else f"{spec} ({error.name})"  # of a data set: the file, or that of the mask
        raise ValueError(
            f"{what} cannot be shown: {error.reason}; give another picture, or a whole copy of this one"
        ) from error
    except OSError as error:
        raise ValueError(f"{spec}: {error}") from error


def _sample(name: str) -> Path:
    package = find_spec("sklearn")  # found, not imported, which takes a second
    assert package is not None
    assert package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0], "datasets", "images", f"{name}.jpg")


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
        numbered = getattr(source, "has_objects", False)
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


def largest(masks: np.ndarray) -> int:
    """Which of the masks ``(n, H, W)`` has most pixels."""
    return int(masks.sum(axis=(1, 2)).argmax())


def innermost(mask: np.ndarray) -> tuple[float, float]:
    """The point ``(x, y)`` of the image frame that lies deepest in a mask ``(H, W)``."""
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return (float(column) + 0.5) / mask.shape[1], (float(row) + 0.5) / mask.shape[0]


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
        regions: "grid:4", "superpixels:16", "masks:DIR", see ``mask_files``, or "objects", the picture's own, 0 being
            the background.

    Raises:
        ValueError: regions are none of these, there is no such mask, or the picture's objects are not known.
    """
    if regions != "objects":
        # Superpixels are kept for these very pixels.
        maps = open_regions(regions, picture.sha256, REGION_CACHE, ("objects",))
        name = _mask_name(picture.spec, regions) if regions.startswith("masks:") else picture.name
        return maps.raster(name, lambda at_least: picture.image.copy())
    if picture.masks is None:
        raise ValueError(f"{picture.spec}: its objects are not known; name other regions, such as grid:4")
    raster = torch.zeros(picture.masks.shape[1:], dtype=torch.long)
    for i, mask in enumerate(picture.masks, start=1):
        raster[torch.from_numpy(np.array(mask))] = i
    return raster


def mask_files(specs: Sequence[str], regions: str | None) -> dict[str, str]:
    """The files that "masks:DIR" has for pictures → their SHA-256; of other regions none.

    The mask of ``photos/a/1.jpg`` is ``DIR/photos/a/1.png``, or else ``DIR/a/1.png``, or else ``DIR/1.png``: as in
    training, where names are relative to the folder of the pictures, and that may be any of those above a picture.

    Raises:
        ValueError: two pictures would have one mask.
    """
    found: dict[str, str] = {}
    owners: dict[Path, str] = {}
    if regions is None or not regions.startswith("masks:"):
        return found
    for spec in specs:
        file = Path(regions.removeprefix("masks:"), _mask_name(spec, regions))
        if not file.is_file():
            continue  # which ``region_raster`` says
        picture = os.path.realpath(file_of(spec)) if os.path.exists(file_of(spec)) else spec  # a scene
        owner = owners.setdefault(file, picture)
        if owner != picture:
            raise ValueError(
                f"{file} would be the mask of both {owner} and {picture}: give masks in folders as the pictures are"
            )
        found[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def _mask_name(spec: str, regions: str) -> str:
    """Where in the folder of "masks:DIR" a picture's mask is, or may be put if there is none."""
    parts = Path(file_of(spec)).with_suffix(".png").parts
    places = ["/".join(parts[i:]) for i in range(len(parts)) if not {"..", "/"} & set(parts[i:])]
    folder = Path(regions.removeprefix("masks:"))
    return next((place for place in places if (folder / place).is_file()), places[-1])


def file_of(spec: str) -> str:
    """The path of a picture's file; of a scene its name, as there is none.

    Raises:
        ValueError: the data set that ``DIR#12`` names is not there.
    """
    numbered = _NUMBERED.fullmatch(spec)
    if not numbered or Path(spec).exists():
        return spec
    source = _data_set(numbered[1])
    name = source.name(int(numbered[2]))
    return name if _SCENES.fullmatch(numbered[1]) else str(Path(getattr(source, "root", numbered[1])) / name)
