"""A listed set of picture files, the part that all readers share."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from plrc.data.annotated.upright import SIDEWAYS, stored_frame
from plrc.data.sources import Annotation, decode

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_NAMED = 10  # items that a warning names before it counts the rest


class PictureFiles:
    """A Source of the files ``names``, paths relative to ``root`` with ``/``."""

    def __init__(self, root: str | os.PathLike[str], names: Sequence[str]) -> None:
        self.root = Path(root)
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, i: int) -> str:
        """Path relative to ``root``."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return self.names[i]

    def path(self, i: int) -> Path:
        """The picture's file."""
        return self.root / self.name(i)

    def size(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels of the upright picture. Raises UndecodableImage."""
        (width, height), orientation = stored_frame(self.path(i))
        return (height, width) if orientation in SIDEWAYS else (width, height)

    def load(self, i: int, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The upright picture, mode RGB: see ``plrc.data.sources.decode``. Raises UndecodableImage."""
        return decode(self.path(i), at_least, name=self.name(i))

    def annotation(self, i: int) -> Annotation | None:
        """None, unless the reader knows of instances."""
        self.name(i)  # an index that is out of range is an error here too
        return None


def pictures_in(folder: Path) -> list[str]:
    """Names of the pictures directly in a folder, in order; hidden files are passed over."""
    if not folder.is_dir():
        return []
    return sorted(f.name for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES and not f.name.startswith("."))


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # also of the encoding
        raise ValueError(f"{file} is not JSON ({error}): it may be cut off, get it again") from error


def warn_left_out(logger: logging.Logger, where: Path, what: str, items: Sequence[str]) -> None:
    """One line that names what a reader leaves out; none if there is nothing."""
    if items:
        more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
        logger.warning("%s: left out %d %s: %s%s", where, len(items), what, ", ".join(items[:_NAMED]), more)
