"""The pictures under a folder: which files there are."""

from __future__ import annotations

import logging
import os
from heapq import heappop, heappush

logger = logging.getLogger(__name__)

_SUFFIXES = (b".jpg", b".jpeg", b".png", b".webp")  # bytes, as file names are


def list_images(root: str) -> list[bytes]:
    """Paths of the images relative to `root`, sorted; those under `train/` alone if that is the training split.

    It is, where `root` itself holds no image, if `train/` has class folders (ImageNet) or a folder val… or test…
    beside it. Otherwise "train" may be one class among others, as in CIFAR-100, and all are listed.
    """
    accepted = "give one with .jpg, .jpeg, .png or .webp files at any depth, such as ImageNet's train/<class>/*.JPEG"
    base, shown = os.fsencode(root), printable(root)
    if not os.path.exists(base):
        raise FileNotFoundError(f"The folder '{shown}' does not exist: {accepted}.")
    if not os.path.isdir(base):
        raise NotADirectoryError(f"'{shown}' is a file, not a folder: {accepted}.")
    images, folders, links = _entries(base)
    if not images and b"train" in folders + links:
        names = _walk(base, b"train")
        has_siblings = any(folder.lower().startswith((b"val", b"test")) for folder in folders + links)
        if names and (has_siblings or any(name.count(b"/") > 1 for name in names)):
            logger.info("%s: using the %d images of its train/ only", shown, len(names))
            return sorted(names)
    names = _walk(base, b"")
    if not names:
        raise FileNotFoundError(f"The folder '{shown}' has no images in it: {accepted}.")
    return sorted(names)


def _walk(base: bytes, top: bytes) -> list[bytes]:
    """Paths relative to `base` of the images under `base/top`, unsorted. No folder twice, hence no loops.

    Linked folders come last and in order: a picture that has a path without links is always listed under it.
    """
    names, waiting, linked, seen = list[bytes](), [top], list[bytes](), set[bytes]()
    while waiting or linked:
        folder = waiting.pop() if waiting else heappop(linked)
        path = os.path.join(base, folder)
        if (real := os.path.realpath(path)) in seen:
            continue
        seen.add(real)
        try:
            images, folders, links = _entries(path)
        except OSError as error:
            if folder == top:
                raise
            logger.warning("%s: left out, it cannot be listed (%s)", printable(os.fsdecode(path)), error.strerror)
            continue
        prefix = folder + b"/" if folder else b""
        names += [prefix + name for name in images]
        waiting += [prefix + name for name in folders]
        for name in links:
            heappush(linked, prefix + name)
    return names


def _entries(path: bytes) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Names of the images, folders and linked folders directly in a folder; hidden ones are left out."""
    images, folders, links = [], [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                links.append(entry.name)
            elif entry.name.lower().endswith(_SUFFIXES) and (entry.is_symlink() or entry.is_file()):
                # A dangling link counts: its name is to be logged when it cannot be decoded.
                images.append(entry.name)
    return images, folders, links


def printable(name: str) -> str:
    """The name with bytes that are not UTF-8 written as escapes: a log cannot encode them."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
