"""Anchors: the boxes that a region proposal network starts from. (Faster R-CNN, section 3.1.1)

torchvision's generator rounds them and orders them by ratio first; Detectron2's weights want neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

RATIOS = (0.5, 1.0, 2.0)  # height / width; Detectron2's default


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float] = RATIOS) -> Tensor:
    """The anchors of one cell: sizes outside, ratios inside, not rounded (Detectron2's order).

    Args:
        sizes: square roots of the anchors' areas, in pixels. ratios: height / width.

    Returns:
        ``(len(sizes) · len(ratios), 4)`` float32, x0, y0, x1, y1 in pixels from the cell's corner.
    """
    boxes = []
    for size in sizes:
        for ratio in ratios:
            width = size / math.sqrt(ratio)
            height = ratio * width
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes)


def grid_anchors(cells: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The anchors of a whole feature map: rows outside, then columns, then the anchors of a cell.

    They are centred on the cells' upper left corners, ``(column · stride, row · stride)``, as Detectron2's are.

    Args:
        cells: ``(A, 4)`` from ``cell_anchors``. stride: pixels a cell. height, width: cells of the map.

    Returns:
        ``(height · width · A, 4)``, x0, y0, x1, y1 in pixels of the input picture; many reach over its border.
    """
    y = torch.arange(height, device=cells.device, dtype=cells.dtype) * stride
    x = torch.arange(width, device=cells.device, dtype=cells.dtype) * stride
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    corners = torch.stack((columns, rows, columns, rows), dim=-1)
    return (corners[:, :, None] + cells).reshape(-1, 4)
