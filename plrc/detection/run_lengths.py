"""Masks of detections as COCO's run lengths in the original picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from plrc.detection.coco_api import coco_api


def masks_to_rle(masks: Tensor, boxes: Tensor, width: int, height: int, threshold: float = 0.5) -> list[dict[str, Any]]:
    """Paste masks into the picture, and encode them.

    A pixel belongs to the object if the bilinear sample of the mask at its centre reaches the threshold; outside the
    mask is 0, so that a mask full of ones ends at the box (Mask R-CNN; He et al., ICCV 2017; as Detectron2 pastes).

    Args:
        masks: ``(n, M, M)`` float, probabilities of the cells of each box. boxes: ``(n, 4)`` float, x0, y0, x1, y1 in
            pixels of the original picture. width, height: of that picture, in pixels.

    Returns:
        ``{"size": [height, width], "counts": str}`` for each, ready for JSON; of a box without area an empty mask.

    Raises:
        ValueError: faster-coco-eval is missing.
    """
    encode = coco_api().mask.encode
    found = []
    for mask, box in zip(masks.double().cpu().numpy(), boxes.double().cpu().tolist(), strict=True):
        x0, y0, x1, y1 = box
        whole = np.zeros((height, width), dtype=np.uint8, order="F")
        left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
        right, bottom = min(width, math.ceil(x1)), min(height, math.ceil(y1))
        if x1 > x0 and y1 > y0 and right > left and bottom > top:
            # Bilinear weights are a product of a row's and a column's: two small matrices instead of a grid of points.
            rows, columns = _weights(top, bottom, y0, y1, len(mask)), _weights(left, right, x0, x1, len(mask))
            whole[top:bottom, left:right] = rows @ mask @ columns.T >= threshold
        counts = encode(whole)["counts"]
        found.append({"size": [height, width], "counts": counts.decode("ascii") if type(counts) is bytes else counts})
    return found


def _weights(first: int, end: int, low: float, high: float, cells: int) -> np.ndarray:
    """``(end − first, cells)``: what each cell of [low, high] counts at the centres of pixels first … end − 1."""
    at = (np.arange(first, end) + 0.5 - low) * (cells / (high - low)) - 0.5  # cell k has its centre at k
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(cells)))
