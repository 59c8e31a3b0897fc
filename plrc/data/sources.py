"""Where images come from: listed files on disk, or the embedded scenes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from plrc.data.images import (
    SUFFIXES,
    AtLeast,
    UndecodableImage,
    decode,
    exif_orientation,
    opened,
    printable,
    upright_size,
)
from plrc.files import at_home
from plrc.registry import did_you_mean

logger = logging.getLogger(__name__)
T = TypeVar("T")

_NAMED = 10  # items that a warning names before it counts the rest
_NEIGHBOURS = 100  # that are tried instead of an image that cannot be decoded
_MOST_UNDECODABLE = 0.01  # share of the images that may be undecodable before a run stops


@dataclass(frozen=True, eq=False)
class Annotation:
    """What is known of the n instances in an image of W × H pixels (upright frame).

    masks: (n, H, W) bool, the visible part of every instance, None where only boxes are known; boxes: (n, 4) float32,
    x0, y0, x1, y1 in the image frame, [0, 1]; classes: n names; difficult: numbers of those that are hard to recognise
    (PASCAL VOC's evaluation passes over them); crowd: of groups outlined as one (COCO's ``iscrowd``).
    """

    masks: np.ndarray | None
    boxes: np.ndarray
    classes: list[str]
    difficult: frozenset[int] = frozenset()
    crowd: frozenset[int] = frozenset()


class Source(Protocol):
    """A numbered collection of images, 0 <= i < len(source).

    ``name(i)`` is the same on every run and machine; ``size(i)`` is (width, height) in pixels of the upright image;
    ``load(i)`` is the upright image, mode RGB, or with ``at_least`` (w, h), or what tells it from the image's size, a
    smaller rendering of the same frame, of at least w × h pixels, or as many as there are. Both raise UndecodableImage.
    ``annotation(i)`` is what is known of the image's instances, or None.

    There may be besides: ``label(i)``, the image's class; ``keypoints(i)``, ``(K, 2)`` in the image frame, not a number
    where a point is not seen, and ``group(i)``: the images of one group show one kind of object, with K points each,
    and lie one after another; ``stamp(i)``, which changes when an image does.
    """

    def __len__(self) -> int: ...
    def name(self, i: int) -> str: ...
    def size(self, i: int) -> tuple[int, int]: ...
    def load(self, i: int, at_least: AtLeast = None) -> Image.Image: ...
    def annotation(self, i: int) -> Annotation | None: ...


class ImageFiles:
    """A Source of files: what all layouts on disk share. It is made from paths relative to ``root`` with ``/``.

    Attributes:
        names: one bytes object, every path followed by a zero byte: 1.28 million ``str`` would be copied into every
            DataLoader worker as their reference counts change.
        layout: what is known of the images, and from which files, to be read after "images".
        has_objects: whether ``annotation`` gives masks or boxes.
        notes: what was left out → which of it.
    """

    layout = "of which nothing is known"
    has_objects = False

    def __init__(self, root: str | os.PathLike[str], names: Iterable[str]) -> None:
        self.root = at_home(root)
        self.names = b"".join(os.fsencode(name) + b"\0" for name in names)
        self.notes = dict[str, Sequence[str]]()
        self._ends = np.flatnonzero(np.frombuffer(self.names, dtype=np.uint8) == 0)

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, i: int) -> str:
        """Path relative to ``root``, with ``/``. Bytes that are not UTF-8 are escaped as ``os.fsdecode`` does."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return os.fsdecode(self.names[self._ends[i - 1] + 1 if i else 0 : self._ends[i]])

    def path(self, i: int) -> Path:
        """The image's file."""
        return self.root / self.name(i)

    def stamp(self, i: int) -> str:
        """What tells whether an image is still the same."""
        about = self.path(i).stat()
        return f"{self.name(i)} {about.st_size} {about.st_mtime_ns}"

    def size(self, i: int) -> tuple[int, int]:  # from the file's header
        with opened(self.path(i), self.name(i)) as image:
            return upright_size(image.size, exif_orientation(image))

    def load(self, i: int, at_least: AtLeast = None) -> Image.Image:
        return decode(self.path(i), at_least, name=self.name(i))

    def annotation(self, i: int) -> Annotation | None:
        self.name(i)  # an index that is out of range is an error here too
        return None

    def warn_left_out(self, what: str, items: Sequence[str]) -> None:
        """One line that names what the layout leaves out; none if there is nothing."""
        if items:
            self.notes[what] = items
        warn_left_out(logger, self.root, what, items)


_MASKS = {"images": ("masks",), "JPEGImages": ("SegmentationClass", "SegmentationObject")}


class ImageFolder(ImageFiles):
    """The images under a folder, at any depth, in bytewise order of their relative paths.

    Files are found by ``plrc.data.images.SUFFIXES``, in small or capital letters. Hidden ones are skipped (macOS leaves
    ``._x.jpg``); symbolic links are followed, but no folder is listed twice.

    Those under ``train/`` alone are listed if that is the training split. It is, where ``root`` itself holds no image,
    if ``train/`` has class folders (ImageNet) or a folder val… or test… beside it. Otherwise "train" may be one class
    among others, as in CIFAR-100, and all are listed. Masks are no images: ``masks/`` beside ``images/``, PASCAL VOC's
    ``Segmentation…/`` beside ``JPEGImages/``. Raises a FileNotFoundError if there is nothing to list.

    Attributes:
        left_out: how many files of each suffix are no images by their names.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.left_out = Counter[str]()
        super().__init__(root, self._listed(os.path.expanduser(root)))

    def _listed(self, base: str) -> list[str]:
        shown = printable(base)
        entries = {e: os.path.isdir(os.path.join(base, e)) for e in os.listdir(base)} if os.path.isdir(base) else {}
        beside = {name for images, of in _MASKS.items() if entries.get(images) for name in of if entries.get(name)}
        if beside:
            masks = ", ".join(f"{name}/" for name in sorted(beside))
            logger.warning("%s: left out what is in %s, which annotates the images", shown, masks)
        names: list[str] = []
        if entries.get("train") and not any(_is_image(entry) for entry, is_folder in entries.items() if not is_folder):
            names = self._walk(base, "train")
            splits = any(entry.lower().startswith(("val", "test")) and entries[entry] for entry in entries)
            if splits or any(name.count("/") > 1 for name in names):
                logger.info("%s: using the %d images of its train/ only", shown, len(names))
            else:
                names = []
        names = names or [name for name in self._walk(base, "") if name.partition("/")[0] not in beside]
        if not names:
            accepted = f"{', '.join(SUFFIXES)} files at any depth, such as ImageNet's train/<class>/*.JPEG"
            near = "" if os.path.exists(base) else did_you_mean(base, file=True)
            there = "is a file" if os.path.exists(base) else "does not exist"
            what = "has no images in it" if os.path.isdir(base) else there
            raise FileNotFoundError(f"The folder '{shown}' {what}{near or f': give one with {accepted}'}")
        return sorted(names, key=os.fsencode)

    def _walk(self, base: str, top: str) -> list[str]:
        """Paths relative to ``base`` of the images under ``base/top``, unsorted. A dangling link counts: its name is to
        be logged when it cannot be decoded."""
        found, self.left_out = list[str](), Counter[str]()
        for name in files_under(os.path.join(base, top)):
            if _is_image(os.path.basename(name)):
                found.append(os.path.join(top, name))
            else:
                self.left_out[printable(os.path.splitext(name)[1].lower())] += 1
        return found


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def images_in(folder: Path, deep: bool = False) -> list[str]:
    """Paths of the images directly in a folder, or at any depth, in order; hidden files are passed over."""
    files = files_under(folder) if deep else [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(file for file in files if _is_image(os.path.basename(file)))


def files_under(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Paths of all files at any depth, in linked folders too, each folder once; what is hidden is passed over. Linked
    folders come last and in order: a file that has a path without links is always listed under it."""

    def unlistable(error: OSError) -> None:
        if os.path.exists(error.filename):
            logger.warning("%s: left out, it cannot be listed (%s)", printable(error.filename), error.strerror)

    seen, waiting = set[str](), [""]
    while waiting:
        for path, folders, files in os.walk(os.path.join(folder, heappop(waiting)), onerror=unlistable):
            if (real := os.path.realpath(path)) in seen:
                folders.clear()
                continue
            seen.add(real)
            prefix = os.path.join(os.path.relpath(path, folder), "").removeprefix("./")
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in folders:
                if os.path.islink(os.path.join(path, name)):
                    heappush(waiting, prefix + name)
            yield from (prefix + name for name in files if not name.startswith("."))


def open_source(data: str) -> Source:
    """The source that the command line's ``--data`` names.

    "scenes", "scenes:N" or "scenes:N@SEED": N embedded synthetic scenes (1000 and seed 0 unless told). Anything else
    is a folder ("./scenes" for one of that name); how many of its files are left out is logged; or tar shards, see
    ``plrc.data.shards``. Raises a ValueError if it is malformed, and what ``ImageFolder`` and ``Shards`` raise.
    """
    if scenes := re.fullmatch(r"scenes(?::(0*[1-9][0-9]*)(?:@([0-9]+))?)?", data):
        from plrc.data.scenes import Scenes  # only here: scenes are a source themselves, and import this module

        return Scenes(n=int(scenes[1] or 1000), seed=int(scenes[2] or 0))
    if re.match(r"scenes[:@]", data):
        forms = "'scenes', 'scenes:N' or 'scenes:N@SEED' with whole numbers N >= 1 and SEED >= 0"
        raise ValueError(f"{data!r} names no scenes: write {forms}")
    from plrc.data.shards import Shards, is_shards  # likewise

    if is_shards(data):
        return Shards(data)
    folder = ImageFolder(data)
    if others := folder.left_out:
        what = ", ".join(f"{n} {suffix or 'without a suffix'}" for suffix, n in others.most_common(_NAMED))
        logger.warning("%s: left out %d files that are no images by their names: %s", data, others.total(), what)
    return folder


def fingerprint(source: Source) -> str:
    """A hash of the images' names, in order (of shards: of theirs and their sizes), that tells one list of images from
    another."""
    drawn = f"{type(source).__name__} {len(source)}" + (f"@{seed}" if (seed := getattr(source, "seed", 0)) else "")
    names: bytes = getattr(source, "names", drawn.encode())
    return hashlib.sha1(names).hexdigest()


def first_decodable(source: Sized, wanted: int, attempt: Callable[[int], T]) -> tuple[T, int, list[str]]:
    """What ``attempt`` gives for image ``wanted``, or for the next one after it that can be decoded: the same always.

    Also the index that it is of, and a clause (name and reason) for each image that was passed over. Raises a
    ValueError if a hundred images in a row, or all there are, cannot be decoded.
    """
    undecodable: list[str] = []
    for step in range(min(_NEIGHBOURS, len(source))):
        index = (wanted + step) % len(source)
        try:
            return attempt(index), index, undecodable
        except UndecodableImage as error:
            undecodable.append(str(error))
    raise ValueError(f"{len(undecodable)} files in a row cannot be decoded, among them {'; '.join(undecodable[:3])}")


def too_many_undecodable(count: int, images: int) -> str:
    """Why a training on so many images stops where so many of them cannot be decoded; nothing if it goes on."""
    if count <= _MOST_UNDECODABLE * images:
        return ""
    return f"{count} of {images} images cannot be decoded, more than {_MOST_UNDECODABLE:.0%}"


def read_json(file: Path) -> Any:
    """What a JSON file holds. Raises a ValueError if it cannot be read, or is not JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also of the encoding
        raise ValueError(f"{file} is not JSON ({error}): it may be cut off, get it again") from error


def warn_left_out(logger: logging.Logger, where: Path, what: str, items: Sequence[str]) -> None:
    """One line that names what a reader leaves out; none if there is nothing."""
    if items:
        more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
        named = printable(", ".join(items[:_NAMED]))
        logger.warning("%s: left out %d %s: %s%s", printable(str(where)), len(items), what, named, more)
