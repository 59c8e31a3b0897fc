"""Pooling of regions: the right place, the right level, the right order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from plrc.detection.pooling import pool, region_levels

STRIDES = [4, 8, 16, 32]


def ramps(stride: int, size: int = 256, pictures: int = 1) -> Tensor:
    """``(pictures, 3, h, w)``: x and y of each cell's centre in pixels, and the picture's number."""
    at = (torch.arange(size // stride) + 0.5) * stride
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([torch.stack((x, y, torch.full_like(x, i))) for i in range(pictures)])


def test_cells_of_a_region_lie_at_their_own_pixels() -> None:
    box = torch.tensor([[70.3, 81.9, 150.8, 120.1]])
    pooled = pool([ramps(16)], [16], [box], 7)
    share = (torch.arange(7) + 0.5) / 7
    torch.testing.assert_close(pooled[0, 0, 3], 70.3 + share * (150.8 - 70.3), rtol=0, atol=1e-3)
    torch.testing.assert_close(pooled[0, 1, :, 3], 81.9 + share * (120.1 - 81.9), rtol=0, atol=1e-3)


def test_regions_keep_their_order_and_picture_whatever_level_they_come_from() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = []
    for count in (5, 0, 7):
        centre = 450 + 100 * torch.rand(count, 2, generator=generator)
        half = 20 * 2 ** (4 * torch.rand(count, 2, generator=generator))
        boxes.append(torch.cat((centre - half, centre + half), 1))
    features = [ramps(stride, 1024, pictures=3) for stride in STRIDES]
    features = [torch.cat((f, torch.full_like(f[:, :1], i)), 1) for i, f in enumerate(features)]
    pooled = pool(features, STRIDES, boxes, 7)
    assert pooled.shape == (12, 4, 7, 7)
    flat = torch.cat(boxes)
    torch.testing.assert_close(pooled[:, :2].mean((2, 3)), (flat[:, :2] + flat[:, 2:]) / 2, rtol=0, atol=0.05)
    assert pooled[:, 2].mean((1, 2)).tolist() == [0.0] * 5 + [2.0] * 7
    levels = region_levels(flat, STRIDES)
    assert len(levels.unique()) > 2
    torch.testing.assert_close(pooled[:, 3, 0, 0], levels.float())


def test_level_follows_the_size_as_in_the_paper() -> None:
    sides = [1, 56, 111.9, 112, 223, 224, 447, 448, 2000]
    boxes = torch.tensor([[10, 20, 10 + 2 * side, 20 + side / 2] for side in sides])
    expected = [min(max(math.floor(4 + math.log2(side / 224 + 1e-8)), 2), 5) - 2 for side in sides]
    assert region_levels(boxes, STRIDES).tolist() == expected == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    # Without the coarser maps a level still means the same size.
    assert region_levels(boxes, [4, 8]).tolist() == [min(level, 1) for level in expected]


def test_half_precision_moves_no_region() -> None:
    box = torch.tensor([[1001.25, 1003.5, 1101.75, 1055.5]])
    feature = ramps(16, size=1280) / 1280
    exact = pool([feature], [16], [box], 7)
    half = pool([feature.bfloat16()], [16], [box], 7)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=2**-8)
