"""Masks of detections as COCO's run lengths in the original picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from plrc.detection.coco_api import coco_api
from plrc.geometry import Crop, cell_centres, sample


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
    cells = masks.shape[-1]
    padded = F.pad(masks.float().cpu(), (1, 1, 1, 1))  # a border of 0: beyond the box there is nothing
    found = []
    for mask, box in zip(padded, boxes.double().cpu(), strict=True):
        x0, y0, x1, y1 = box.tolist()
        whole = np.zeros((height, width), dtype=np.uint8, order="F")
        left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
        right, bottom = min(width, math.ceil(x1)), min(height, math.ceil(y1))
        if x1 > x0 and y1 > y0 and right > left and bottom > top:
            # Pixel centres → the padded mask's frame, which is the box and a cell more on each side.
            rows, columns = bottom - top, right - left
            at = cell_centres(rows, columns).double() * box.new_tensor([columns, rows]) + box.new_tensor([left, top])
            margin = (box[2:] - box[:2]) / cells
            frame = Crop(box + margin.repeat(2) * box.new_tensor([-1, -1, 1, 1]), box.new_zeros(()).bool())
            points = frame.to_view(at.reshape(-1, 2))
            values = sample(mask.double()[None, None], points[None])
            whole[top:bottom, left:right] = (values >= threshold).reshape(rows, columns).numpy()
        counts = encode(whole)["counts"]
        found.append({"size": [height, width], "counts": counts.decode("ascii") if type(counts) is bytes else counts})
    return found
