"""Features of regions: ROIAlign on one feature map or on the level of a pyramid that fits a region's size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

CANONICAL_SIZE, CANONICAL_STRIDE = 224, 16  # a region of 224 px is pooled at stride 16 (FPN, equation 1)


def pool(features: Sequence[Tensor], strides: Sequence[int], boxes: Sequence[Tensor], size: int) -> Tensor:
    """ROIAlign with pixel centres at half coordinates and as many samples as a bin has cells (Detectron2's ROIAlignV2).

    torchvision's ``MultiScaleRoIAlign`` is not aligned and takes other levels at the limits.

    Args:
        features: ``(B, C, h, w)``, finest first. strides: pixels a cell of each, a power of two.
        boxes: ``(n_i, 4)`` float32 of each of the B pictures, in pixels of the input picture.
        size: cells of the result in both directions.

    Returns:
        ``(Σ n_i, C, size, size)``, the dtype of the features, the pictures' regions one after the other.
    """
    index = torch.cat([box.new_full((len(box), 1), i) for i, box in enumerate(boxes)])
    regions = torch.cat((index, torch.cat(list(boxes))), dim=1)
    if len(features) == 1:
        return _align(features[0], regions, strides[0], size)
    level = region_levels(regions[:, 1:], strides)
    found = [(level == i).nonzero()[:, 0] for i in range(len(features))]
    parts = [
        _align(feature, regions[i], stride, size) for feature, stride, i in zip(features, strides, found, strict=True)
    ]
    return torch.cat(parts)[torch.cat(found).argsort()]


def region_levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """``(n,)`` int64: the feature map that each box is pooled from, by its size (FPN, equation 1).

    Args:
        boxes: ``(n, 4)``, pixels. strides: of the feature maps, each twice the one before.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    canonical = math.log2(CANONICAL_STRIDE / strides[0])
    # A box of exactly 224 px is above the limit whatever its rounding: Detectron2's 1e-8.
    level = (canonical + torch.log2(area.sqrt() / CANONICAL_SIZE + 1e-8)).floor()
    return level.clamp(0, len(strides) - 1).long()


def _align(feature: Tensor, regions: Tensor, stride: int, size: int) -> Tensor:
    # Coordinates in half precision would be wrong by pixels.
    pooled: Tensor = roi_align(feature.float(), regions, size, 1 / stride, sampling_ratio=0, aligned=True)
    return pooled.to(feature.dtype)
