"""Pictures with a mask file each: ``images/NAME.jpg`` and ``masks/NAME.png``, as in ECSSD, DUTS and the like."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from PIL import Image

from plrc.data.annotated.pictures import PictureFiles, pictures_in, warn_left_out
from plrc.data.annotated.upright import turn_needed, upright_masks
from plrc.data.sources import Annotation, opened

logger = logging.getLogger(__name__)

_VOID = 255  # the label of PASCAL VOC's borders: neither an object nor background


class MaskFolder(PictureFiles):
    """A Source of the pictures in ``images/`` that have a mask of their name in ``masks/``.

    Raises:
        ValueError: there is no such pair.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = Path(root)
        pictures = pictures_in(base / "images")
        masks = {Path(n).stem: n for n in pictures_in(base / "masks")}
        super().__init__(base, [f"images/{n}" for n in pictures if Path(n).stem in masks])
        if not len(self):
            raise ValueError(f"{base} has no picture images/NAME.jpg with a mask masks/NAME.png")
        warn_left_out(logger, base, "pictures without a mask", [n for n in pictures if Path(n).stem not in masks])
        self._masks = [f"masks/{masks[Path(n).stem]}" for n in self.names]

    def annotation(self, i: int) -> Annotation:
        """The objects of the mask, class "object" each, with their masks' bounding boxes.

        Raises:
            ValueError: the mask is coloured, or of another size than the picture.
        """
        picture, file = self.path(i), self.root / self._masks[i]
        masks = read_masks(file)
        turn = turn_needed(picture, (masks.shape[2], masks.shape[1]), f"the mask {file}")
        masks = upright_masks(masks, turn)
        return Annotation(masks=masks, boxes=boxes_of(masks), classes=["object"] * len(masks))


def read_masks(file: Path) -> np.ndarray:
    """The objects ``(n, H, W)`` bool of a mask file, in the order of their labels.

    A black-and-white file holds one object, the white: of two values, or grey with soft borders (more than half of
    what is not black is nearly white; taken at half). Any other grey file, and every file with a palette, is a map of
    labels: each value but 0 (background) and 255 (void) is an object.

    Raises:
        ValueError: it is coloured without a palette. UndecodableImage: it is no picture.
    """
    with opened(file, str(file)) as opened_image:
        image = opened_image.copy()  # what is wrong with its colours is no fault of the file
    palette = image.mode == "P"
    values = np.asarray(image if palette or image.mode.startswith("I") else _grey(image, file))
    labels = [v for v in np.unique(values).tolist() if v != 0]
    if not palette and values.dtype == np.uint8 and labels:
        some = values[values > 0]
        if len(labels) == 1 or (some > 250).mean() > 0.5:
            return (values > labels[-1] // 2)[None]
    objects = [values == label for label in labels if values.dtype != np.uint8 or label != _VOID]
    return np.stack(objects) if objects else np.zeros((0, *values.shape), dtype=bool)


def _grey(image: Image.Image, file: Path) -> Image.Image:
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    channels = np.asarray(image.convert("RGB"))
    if (channels != channels[..., :1]).any():
        raise ValueError(f"the mask {file} is coloured: save it as grey labels or with a palette")
    return Image.fromarray(channels[..., 0])


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """Bounding boxes ``(n, 4)`` float32 of masks ``(n, H, W)``, none of them empty, in the image frame."""
    height, width = masks.shape[1:]
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = xs[0] / width, ys[0] / height, (xs[-1] + 1) / width, (ys[-1] + 1) / height
    return boxes
