"""What is wanted of a detector for a picture, and what it finds there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(eq=False)
class Target:
    """The n objects to be found in a picture, as it is given to the network.

    Attributes:
        boxes: ``(n, 4)`` float32, x0, y0, x1, y1 in pixels of that picture, from its left and upper border.
        labels: ``(n,)`` int64, 0 … K − 1. masks: ``(n, H, W)`` bool; None where only boxes are known.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def to(self, device: torch.device | str) -> Target:
        masks = None if self.masks is None else self.masks.to(device, non_blocking=True)
        return Target(self.boxes.to(device, non_blocking=True), self.labels.to(device, non_blocking=True), masks)


@dataclass(eq=False)
class Detections:
    """The n objects that a detector finds in a picture, by falling score.

    Attributes:
        boxes: ``(n, 4)`` float32, x0, y0, x1, y1 in pixels of the picture that it was given. scores: ``(n,)`` in
            [0, 1]. labels: ``(n,)`` int64, 0 … K − 1. masks: ``(n, M, M)`` float32, the probability that a cell of the
            box belongs to the object; None of a detector without a mask head.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def to(self, device: torch.device | str) -> Detections:
        masks = None if self.masks is None else self.masks.to(device)
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device), masks)
