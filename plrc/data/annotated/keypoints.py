"""Pictures of one kind of object with the same keypoints each, as in PF-WILLOW: a ``keypoints.json`` a folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from plrc.data.annotated.pictures import PictureFiles, read_json, warn_left_out
from plrc.data.annotated.upright import stored_frame, upright_points

logger = logging.getLogger(__name__)

_FILE = "keypoints.json"


class KeypointFolders(PictureFiles):
    """A Source of pictures with keypoints, folder by folder.

    ``root`` has a ``keypoints.json`` or its folders have one each: file name → K × [x, y] in pixels, or null where a
    point is not seen. Every ordered pair of pictures in one folder is a pair to match.

    Raises:
        ValueError: there is no such file, a file is malformed, or two pictures of a folder differ in K.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = Path(root)
        files = [base / _FILE] if (base / _FILE).is_file() else sorted(base.glob(f"*/{_FILE}"))
        if not files:
            raise ValueError(f"{base} has no {_FILE}, nor has any of its folders: file name → K × [x, y]")
        names: list[str] = []
        self._groups: list[str] = []
        self._pixels: list[np.ndarray] = []
        missing: list[str] = []
        for file in files:
            folder = "" if file.parent == base else file.parent.name
            listed = _read(file)
            for name in sorted(listed):
                if not (file.parent / name).is_file():
                    missing.append(f"{folder}/{name}")
                    continue
                names.append(f"{folder}/{name}" if folder else name)
                self._groups.append(folder)
                self._pixels.append(listed[name])
        super().__init__(base, names)
        if not names:
            raise ValueError(f"{base}: none of the pictures that its {_FILE} lists is there")
        warn_left_out(logger, base, "listed pictures that are missing", missing)

    def group(self, i: int) -> str:
        """The folder of picture i: its pairs are with the folder's other pictures."""
        self.name(i)
        return self._groups[i]

    def keypoints(self, i: int) -> np.ndarray:
        """Points ``(K, 2)`` float32 in the image frame, not a number where one is not seen.

        Pixel numbers are taken as distances from the picture's left and upper border.
        """
        (width, height), orientation = stored_frame(self.path(i))
        return upright_points(self._pixels[i] / np.array([width, height]), orientation).astype(np.float32)


def _read(file: Path) -> dict[str, np.ndarray]:
    """Pixels ``(K, 2)`` of every picture that a file lists."""
    listed = read_json(file)
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{file} lists no picture: write file name → K × [x, y]")
    found = {}
    for name, points in listed.items():
        try:
            rows = [(np.nan, np.nan) if p is None or None in p else (float(p[0]), float(p[1])) for p in points]
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{file}: the keypoints of {name} are not a list of [x, y] or null") from error
        found[name] = np.array(rows, dtype=np.float64).reshape(-1, 2)
    counts = {len(points) for points in found.values()}
    if len(counts) > 1:
        raise ValueError(f"{file}: its pictures have {sorted(counts)} keypoints: write null for one that is not seen")
    return found
