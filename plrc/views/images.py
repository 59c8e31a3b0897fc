"""Images as they are named on the command line and in recipes: a file, or a numbered one of a data set."""

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

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc.data.annotated import open_annotated
from plrc.data.images import printable, spread
from plrc.data.shards import Shards, is_shards
from plrc.data.sources import Annotation, ImageFiles, ImageFolder, Source, UndecodableImage, decode, warn_left_out
from plrc.files import at_home
from plrc.geometry import cell_of
from plrc.options import Point
from plrc.regions import open_regions, raster_of
from plrc.registry import did_you_mean

SAMPLES = ("sample:china", "sample:flower")
"""The two photographs that scikit-learn ships: at hand wherever this package is."""

_NUMBERED = re.compile(r"(.+)#([0-9]+)")
_SCENES = re.compile(r"scenes([:@][^#]*)?")
_MAY_BE_GIVEN = "give an image, a folder, scenes#0 for an embedded scene, sample:china, or DIR#0 for one of a data set"
_data_set = lru_cache(maxsize=4)(open_annotated)


@dataclass(frozen=True, eq=False)
class NamedImage:
    """A decoded image.

    Attributes:
        spec: what it was named by. name: short, for headings and tables. image: upright RGB.
        masks: ``(n, H, W)`` bool, its objects, and classes: their n names; where they are known.
        annotation: what is known of its objects, boxes without masks too.
        sha256: of the pixels. inputs: what a recipe notes of it: name → SHA-256, of the objects too.
    """

    spec: str
    name: str
    image: Image.Image
    masks: np.ndarray | None = None
    classes: list[str] | None = None
    annotation: Annotation | None = None

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

    def objects_at(self, points: Tensor) -> list[int]:
        """The object at each point ``(n, 2)``, the smallest one if several are there; −1: none, or none is known."""
        if self.masks is None or not len(self.masks):
            return [-1] * len(points)
        row, column = (index.numpy() for index in cell_of(points, *self.masks.shape[1:]))
        areas = np.where(self.masks[:, row, column], self.masks.sum(axis=(1, 2))[:, None], np.inf)
        return np.where(np.isfinite(areas).any(axis=0), areas.argmin(axis=0), -1).tolist()


def open_image(spec: str) -> NamedImage:
    """An image by its name: a file, a scene (``scenes#12``, ``scenes:300@7#12``), ``DIR#12`` of a data set, a sample.

    Raises a ValueError that names it and what may be given if there is no such image, or it cannot be decoded.
    """
    numbered, file = _NUMBERED.fullmatch(spec), Path(spec)
    try:
        if numbered and not file.exists():
            path, i = numbered[1], int(numbered[2])
            source = _data_set(path)
            if i >= len(source):
                raise ValueError(f"{spec}: there are the images {path}#0 … {path}#{len(source) - 1}")
            name = f"scene {i}" if _SCENES.fullmatch(path) else Path(source.name(i)).stem
            known = source.annotation(i)
            masks, classes = (known.masks, known.classes) if known and known.masks is not None else (None, None)
            return NamedImage(spec, printable(name), source.load(i), masks, classes, known)
        if spec in SAMPLES:
            file = _sample(spec)
        elif not file.is_file():
            if file.is_dir():
                raise ValueError(f"{spec}: name one image, not a folder")
            near = did_you_mean(spec, (*SAMPLES, "scenes#0"), file=True) or f"; {_MAY_BE_GIVEN}"
            raise ValueError(f"{spec}: there is no such file{near}")
        return NamedImage(spec, printable(file.stem), decode(file, name=spec))
    except UndecodableImage as error:
        what = spec if error.name == spec else f"{spec} ({error.name})"  # of a data set: the file, or that of the mask
        remedy = "give another image, or a whole copy of this one"
        raise ValueError(f"{what} cannot be shown: {error.reason}; {remedy}") from error
    except OSError as error:
        raise ValueError(f"{spec}: {error}") from error


def _sample(spec: str) -> Path:
    package = Path(str(getattr(find_spec("sklearn"), "origin", "")))  # not imported: that takes a second
    return package.with_name("datasets") / "images" / f"{spec.removeprefix('sample:')}.jpg"


def source_of(spec: str) -> tuple[Source, int]:
    """The source that an image is of, as training reads it, and its number there; a file by itself is a source."""
    numbered, file = _NUMBERED.fullmatch(spec), _sample(spec) if spec in SAMPLES else Path(spec)
    if numbered and not file.exists():
        return _data_set(numbered[1]), int(numbered[2])
    return ImageFiles(file.parent, [file.name]), 0


def list_images(specs: Sequence[str], most: int | None = None) -> list[str]:
    """The images that files, folders and data sets name, in order; of each folder at most so many, evenly spread.

    A folder in a layout with masks or boxes (``plrc.data.annotated``), or the file of a split, such as COCO's
    ``instances_val2017.json``, is taken as that data set, so that its objects are known; of any other folder the images
    at any depth, sorted. What cannot be decoded is left out, with a warning. Raises a ValueError if a folder, or all of
    it, holds no image that can be decoded.
    """
    found: list[str] = []
    for spec in specs:
        if _SCENES.fullmatch(spec):
            found += [f"{spec}#{i}" for i in spread(len(_data_set(spec)), most)]
        else:
            found += _in_folder(spec, most) if are_several(spec) else [spec]
    if not found:
        raise ValueError(f"there is no image to look at: {_MAY_BE_GIVEN}")
    return found


def are_several(spec: str) -> bool:
    """Whether it names a data set, a folder or shards, not one image."""
    split = Path(spec).suffix in (".json", ".txt") and Path(spec).is_file()
    return bool(_SCENES.fullmatch(spec)) or split or Path(spec).is_dir() or is_shards(spec)


def search(path: str, text: str) -> list[str]:
    """The images of a folder or data set whose names have this text, in order. Raises a ValueError if there is none."""
    source = _listed(path)
    return [spec_of(path, source, i) for i in range(len(source)) if text.lower() in source.name(i).lower()]


def _listed(path: str) -> Source:
    try:
        source = _data_set(path)
        return source if getattr(source, "has_objects", isinstance(source, Shards)) else ImageFolder(path)
    except OSError as error:
        raise ValueError(str(error)) from error


def _in_folder(path: str, most: int | None) -> list[str]:
    found, broken, listed = [], [], _listed(path)
    for i in spread(len(listed), most):
        try:
            listed.load(i, (1, 1))  # of a JPEG an eighth, which tells as much and is soon done
            found.append(spec_of(path, listed, i))
        except UndecodableImage as error:
            broken.append(str(error))
    if not found:
        raise ValueError(f"{path}: none of {len(broken)} images can be decoded, among them {broken[0]}")
    warn_left_out(logging.getLogger(__name__), Path(path), "images that cannot be decoded", broken)
    return found


def spec_of(path: str, source: Source, i: int) -> str:
    """What ``open_image`` calls an image of the data set, or plain folder, that lies at a path."""
    numbered = getattr(source, "has_objects", isinstance(source, Shards)) or _SCENES.fullmatch(path)
    return f"{path}#{i}" if numbered else str(Path(path) / source.name(i))


def innermost(mask: np.ndarray) -> tuple[float, float]:
    """The point ``(x, y)`` of the image frame that lies deepest in a mask ``(H, W)``."""
    from scipy.ndimage import distance_transform_edt  # takes a second to import

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return (float(column) + 0.5) / mask.shape[1], (float(row) + 0.5) / mask.shape[0]


def points_in_frame(points: Sequence[Point], image: NamedImage) -> Tensor:
    """Points ``(n, 2)`` of the image frame. Raises a ValueError if one lies outside the image."""
    width, height = image.image.size
    shares = [(x / width, y / height) if unit else (x, y) for x, y, unit in points]
    for (x, y, _), share in zip(points, shares, strict=True):
        if not 0 <= min(share) <= max(share) <= 1:
            raise ValueError(f"the point {x:g},{y:g} lies outside {image.name}, which has {width} × {height} pixels")
    return torch.tensor(shares, dtype=torch.float32).reshape(-1, 2)


def region_raster(image: NamedImage, regions: str) -> Tensor:
    """The regions ``(h, w)`` of an image: "grid:4", "superpixels:16", "masks:DIR", see ``mask_files``, or "objects".

    The last are the image's own, 0 being the background. Raises a ValueError if regions are none of these, there is no
    such mask, or the objects are not known.
    """
    if regions != "objects":
        maps = open_regions(regions, image.sha256, ("objects",))
        name = _mask_name(image.spec, regions) if regions.startswith("masks:") else image.name
        return raster_of(maps, name, lambda at_least: image.image.copy())
    if image.masks is None:
        raise ValueError(f"{image.spec}: its objects are not known; name other regions, such as grid:4")
    raster = torch.zeros(image.masks.shape[1:], dtype=torch.long)
    for i, mask in enumerate(image.masks, start=1):
        raster[torch.from_numpy(np.array(mask))] = i
    return raster


def mask_files(specs: Sequence[str], regions: str | None) -> dict[str, str]:
    """The files that "masks:DIR" has for images → their SHA-256; of other regions none.

    The mask of ``photos/a/1.jpg`` is ``DIR/photos/a/1.png``, or else ``DIR/a/1.png``, or else ``DIR/1.png``: as in
    training, where names are relative to the folder of the images. Raises a ValueError if two images would share one.
    """
    if not regions or not regions.startswith("masks:"):
        return {}
    owners: dict[Path, str] = {}
    for spec in specs:
        file, image = _mask_folder(regions) / _mask_name(spec, regions), os.path.realpath(file_of(spec))
        if owners.setdefault(file, image) != image:
            raise ValueError(
                f"{file} would be the mask of both {owners[file]} and {image}: give masks in folders as the images are"
            )
    # That one is missing is said by ``region_raster``.
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in owners if file.is_file()}


def _mask_folder(regions: str) -> Path:
    return at_home(regions.removeprefix("masks:"))


def _mask_name(spec: str, regions: str) -> str:
    """Where in the folder of "masks:DIR" an image's mask is, or may be put if there is none."""
    parts = Path(file_of(spec)).with_suffix(".png").parts
    places = ["/".join(parts[i:]) for i in range(len(parts)) if not {"..", "/"} & set(parts[i:])]
    folder = _mask_folder(regions)
    return next((place for place in places if (folder / place).is_file()), places[-1])


def file_of(spec: str) -> str:
    """The path of an image's file; of a scene its name. Raises a ValueError if the data set of ``DIR#12`` is gone."""
    numbered = _NUMBERED.fullmatch(spec)
    if not numbered or Path(spec).exists():
        return spec
    source = _data_set(numbered[1])
    name = source.name(int(numbered[2]))
    return name if _SCENES.fullmatch(numbered[1]) else str(Path(getattr(source, "root", numbered[1])) / name)
