"""Anchors as Detectron2 has them: order, sizes and places."""

from __future__ import annotations

import math

import torch

from plrc.detection.anchors import RATIOS, cell_anchors, grid_anchors


def test_sizes_come_first_then_ratios_and_nothing_is_rounded() -> None:
    boxes = cell_anchors((32, 64))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    torch.testing.assert_close((width * height).sqrt(), torch.tensor([32.0, 32, 32, 64, 64, 64]))
    torch.testing.assert_close(height / width, torch.tensor([*RATIOS, *RATIOS]))
    torch.testing.assert_close(boxes[:, :2], -boxes[:, 2:])
    # Of ratio 0.5 the first anchor is 32·√2 wide and 16·√2 high.
    torch.testing.assert_close(boxes[0, 2:], torch.tensor([16 * math.sqrt(2), 8 * math.sqrt(2)]))


def test_rows_come_first_then_columns_then_the_anchors_of_a_cell() -> None:
    cells = cell_anchors((8,), (1.0, 4.0))
    boxes = grid_anchors(cells, stride=16, height=2, width=3)
    assert boxes.shape == (12, 4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    expected = [(16.0 * column, 16.0 * row) for row in range(2) for column in range(3) for _ in range(2)]
    torch.testing.assert_close(centres, torch.tensor(expected))
    torch.testing.assert_close(boxes[:2], cells)
