"""Annotations of files that are stored turned: pictures are shown upright, so what is known of them turns too.

A photo with an EXIF orientation has two frames, that of the stored pixels and the upright one. Which of the two an
annotation means is told by the size written beside it. Where both fit (a square picture, one upside down) the stored
pixels are meant, as COCO's and PASCAL VOC's tools saw them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from plrc.data.sources import exif_orientation, opened

SIDEWAYS = (5, 6, 7, 8)  # the EXIF orientations in which width and height change places


def stored_frame(path: Path) -> tuple[tuple[int, int], int]:
    """(width, height) of the stored pixels, and the EXIF orientation 1 … 8. Raises UndecodableImage."""
    with opened(path, str(path)) as image:
        orientation = exif_orientation(image)
        return image.size, orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def turn_needed(picture: Path, annotated_size: tuple[int, int], source: str) -> int:
    """The orientation by which an annotation has to be turned: 1 (not at all) if it means the upright picture.

    Args:
        annotated_size: (width, height) that the annotation gives. source: the annotation, for the error.

    Raises:
        ValueError: the size is neither that of the stored pixels nor that of the upright picture.
    """
    stored, orientation = stored_frame(picture)
    if annotated_size == stored:
        return orientation
    if orientation in SIDEWAYS and annotated_size == stored[::-1]:
        return 1
    (w, h), (width, height) = annotated_size, stored
    raise ValueError(
        f"{source} is of {w} × {h} pixels and {picture} has {width} × {height}: "
        f"use the picture that was annotated, or correct the annotation"
    )


def upright_points(points: np.ndarray, orientation: int) -> np.ndarray:
    """Points ``(..., 2)`` of the stored frame, [0, 1], in the upright frame."""
    x, y = points[..., 0], points[..., 1]
    u, v = (y, x) if orientation in SIDEWAYS else (x, y)
    return np.stack((1 - u if orientation in (2, 3, 6, 7) else u, 1 - v if orientation in (3, 4, 7, 8) else v), axis=-1)


def upright_boxes(boxes: np.ndarray, orientation: int) -> np.ndarray:
    """Boxes ``(n, 4)`` of the stored frame, x0, y0, x1, y1, in the upright frame."""
    corners = upright_points(boxes.reshape(-1, 2, 2), orientation)
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1).astype(np.float32)


def upright_pixel_boxes(boxes: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Boxes ``(n, 4)`` float64 in pixels of the stored frame, ``size`` = (width, height), in pixels of the upright one.

    Where nothing turns, numbers stay as they are, to the last bit.
    """
    if orientation == 1:
        return boxes
    width, height = size
    upright = (height, width) if orientation in SIDEWAYS else (width, height)
    corners = upright_points((boxes / np.array([*size, *size])).reshape(-1, 2, 2), orientation) * np.array(upright)
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)


def upright_masks(masks: np.ndarray, orientation: int) -> np.ndarray:
    """Masks ``(n, H, W)`` of the stored pixels over the upright picture."""
    if orientation in SIDEWAYS:
        masks = masks.swapaxes(1, 2)
    if orientation in (2, 3, 6, 7):
        masks = masks[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        masks = masks[:, ::-1]
    return np.ascontiguousarray(masks)
