"""Masks of detections, pasted into the picture."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install 'plrc[detection]'")

from plrc.data.coco import outline_mask
from plrc.detection.run_lengths import masks_to_rle


def pasted(mask: torch.Tensor, box: list[float], width: int, height: int) -> np.ndarray:
    """``(height, width)`` bool, read by our own reader of run lengths."""
    (found,) = masks_to_rle(mask[None], torch.tensor([box]), width, height)
    assert json.loads(json.dumps(found)) == found
    assert found["size"] == [height, width]
    return outline_mask(found, height, width)


def disk(cells: int = 28) -> torch.Tensor:
    """A soft disk, half as wide as the box: 0.5 at its border, by distance."""
    at = (torch.arange(cells) + 0.5) / cells - 0.5
    return (0.5 + (0.25 - torch.hypot(at[:, None], at)) * 4).clamp(0, 1)


def test_a_disk_has_its_area_and_its_centre():
    found = pasted(disk(), [20.3, 10.6, 180.3, 90.6], 200, 120)  # 160 × 80: an ellipse of half axes 40 and 20
    assert found.sum() == pytest.approx(math.pi * 40 * 20, rel=0.01)
    y, x = np.nonzero(found)
    assert (x + 0.5).mean() == pytest.approx(100.3, abs=0.1)
    assert (y + 0.5).mean() == pytest.approx(50.6, abs=0.1)


def test_a_full_mask_covers_the_pixels_whose_centre_is_in_the_box():
    found = pasted(torch.ones(28, 28), [3.4, 5.6, 10.6, 9.4], 20, 15)
    rows, columns = np.nonzero(found.any(1))[0], np.nonzero(found.any(0))[0]
    assert columns.tolist() == list(range(3, 11))  # 3.5 … 10.5
    assert rows.tolist() == list(range(6, 9))  # 6.5 … 8.5
    assert found.sum() == 8 * 3


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.37, 0.5])
def test_mirrored_boxes_give_mirrored_pixels(shift: float):
    # The left half is the object. In a picture 30 wide, a box and its mirror image, and the same from top to bottom.
    half = torch.zeros(14, 14)
    half[:, :7] = 1
    half[:3] *= 0.7
    box = [4 + shift, 6 + shift, 20.11 + shift, 19.34 + shift]  # no pixel centre on a border, where rounding decides
    there = pasted(half, box, 30, 26)
    mirrored = pasted(half.flip(1), [30 - box[2], box[1], 30 - box[0], box[3]], 30, 26)
    upended = pasted(half.flip(0), [box[0], 26 - box[3], box[2], 26 - box[1]], 30, 26)
    assert there.any()
    np.testing.assert_array_equal(mirrored[:, ::-1], there)
    np.testing.assert_array_equal(upended[::-1], there)


def test_what_lies_outside_the_picture_is_cut_off():
    full = pasted(disk(), [10, 10, 50, 50], 60, 60)
    cut = pasted(disk(), [-20, -20, 20, 20], 24, 25)
    np.testing.assert_array_equal(cut[:20, :20], full[30:50, 30:50])
    assert not cut[20:].any()
    assert not cut[:, 20:].any()
    assert not pasted(disk(), [100, 100, 140, 140], 60, 60).any()


def test_boxes_without_area_and_no_masks_at_all():
    assert not pasted(torch.ones(28, 28), [5, 5, 5, 9], 20, 20).any()
    nothing: list[dict[str, Any]] = masks_to_rle(torch.zeros(0, 28, 28), torch.zeros(0, 4), 20, 20)
    assert nothing == []


def test_several_masks_keep_their_order():
    masks = torch.stack([torch.ones(7, 7), torch.zeros(7, 7), torch.ones(7, 7)])
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 9, 9], [2, 2, 5, 8]])
    found = masks_to_rle(masks, boxes, 10, 10)
    assert [int(outline_mask(f, 10, 10).sum()) for f in found] == [16, 0, 18]
