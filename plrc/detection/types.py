"""What a detector is, what is wanted of it for an image, and what it finds there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
COCO_CATEGORIES = {
    number: name
    for number, name in enumerate(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
    if name not in ("__background__", "N/A")
}
"""COCO's, number → name: 80 of 90 numbers, in their order."""
COCO_CLASSES = tuple(COCO_CATEGORIES.values())


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What decides a detector's tensors and what it computes: all that a file must say beside the weights.

    Attributes:
        arch: of the backbone, see ``plrc.registry.BACKBONES``.
        neck: "c4" (proposals and pooling on c4, the fifth stage as the box head) or "fpn" (feature pyramid).
        classes: names, label k is ``classes[k]``. masks: with a mask head (Mask R-CNN).
        head_norm: FPN only: the box head has four convolutions with normalisation before one linear layer, and the mask
            head's convolutions have it too.
        roi_per_image: regions of interest that are sampled of an image in training.

    Raises:
        ValueError: an unknown neck, no class or one twice, or parts that do not go together.
    """

    arch: str
    neck: str
    classes: tuple[str, ...]
    masks: bool = False
    head_norm: bool = False
    roi_per_image: int = 512

    def __post_init__(self) -> None:
        if self.neck not in ("c4", "fpn"):
            raise ValueError(f"unknown neck {self.neck!r}: choose c4 or fpn")
        if self.neck == "c4" and self.head_norm:
            raise ValueError(
                "the C4 box head is the backbone's fifth stage, which is normalised anyway: leave head_norm out"
            )
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must be one name or more, each once, not {', '.join(self.classes) or 'none'}")
        if self.roi_per_image < 1:
            raise ValueError(f"roi_per_image must be above 0, not {self.roi_per_image}")

    def __str__(self) -> str:
        return f"{'Mask' if self.masks else 'Faster'} R-CNN {self.arch}-{self.neck.upper()}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a file holds them."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """What ``to_dict`` wrote."""
        return cls(**{**values, "classes": tuple(values["classes"])})


@dataclass(eq=False)
class Target:
    """The n objects to be found in an image, as it is given to the network.

    Attributes:
        boxes: ``(n, 4)`` float32, x0, y0, x1, y1 in pixels of that image, from its left and upper border.
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
    """The n objects that a detector finds in an image, by falling score.

    Attributes:
        boxes: ``(n, 4)`` float32, x0, y0, x1, y1 in pixels of the image that it was given. scores: ``(n,)`` in
            [0, 1]. labels: ``(n,)`` int64, 0 … K − 1. masks: ``(n, M, M)`` float32, the probability that a cell of the
            box belongs to the object; None of a detector without a mask head.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None
