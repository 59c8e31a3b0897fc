"""Faster and Mask R-CNN on a pre-trained backbone: C4 as MoCo's recipe has it, and with a feature pyramid.

They compute what Detectron2's models compute, from torchvision's parts. (Mask R-CNN; Feature Pyramid Networks)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from plrc.backbones import Backbone, build
from plrc.detection import stages
from plrc.detection.stages import Detections, RegionProposalNetwork, Target, pool

MEAN = (123.675, 116.28, 103.53)  # of ImageNet, RGB, 0–255
STD = (58.395, 57.12, 57.375)

# Most proposals of an image in training and in testing: a level before suppression, and in all after it.
PROPOSALS = {"c4": ((12000, 2000), (6000, 1000)), "fpn": ((2000, 1000), (1000, 1000))}
C4_STRIDE, C4_SIZES = 16, (32, 64, 128, 256, 512)
FPN_CHANNELS = 256
FPN_SIZE = 8  # of a level's anchors, in cells of the level
DIVISOR = 32  # an FPN's batch is padded to a multiple, so that each level has twice the cells of the next


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What decides a detector's tensors and what it computes: all that a file must say beside the weights.

    Attributes:
        arch: of the backbone, see ``plrc.registry.BACKBONES``.
        neck: "c4" (proposals and pooling on c4, the fifth stage as the box head) or "fpn" (feature pyramid).
        classes: names, label k is ``classes[k]``; each once. masks: with a mask head (Mask R-CNN).
        head_norm: FPN only: the box head has four convolutions with normalisation before one linear layer, and the mask
            head's convolutions have it too.
        roi_per_image: regions of interest that are sampled of an image in training.
    """

    arch: str
    neck: str
    classes: tuple[str, ...]
    masks: bool = False
    head_norm: bool = False
    roi_per_image: int = 512

    def __post_init__(self) -> None:
        if self.neck not in PROPOSALS:
            raise ValueError(f"unknown neck {self.neck!r}: choose c4 or fpn")
        if self.neck == "c4" and self.head_norm:
            raise ValueError("the C4 box head, the backbone's fifth stage, has norms anyway: leave head_norm out")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must be one name or more, each once, not {', '.join(self.classes) or 'none'}")

    def __str__(self) -> str:
        return f"{'Mask' if self.masks else 'Faster'} R-CNN {self.arch}-{self.neck.upper()}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a file holds them."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """What ``to_dict`` wrote."""
        return cls(**{**values, "classes": tuple(values["classes"])})


class BoxPredictor(nn.Module):
    """Classes and boxes of regions. torchvision's has regression columns for the background too."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(channels, classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 * classes)
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):  # Detectron2's default
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(n, channels)`` → logits ``(n, K + 1)``, the background last, and deltas ``(n, 4K)``."""
        return self.cls_score(x), self.bbox_pred(x)


class Detector(nn.Module):
    """A detector: images → losses in training, detections in testing.

    A pre-trained backbone of the architecture becomes part of it and is trained with it; without one a fresh one is
    made. Raises a ValueError if the neck needs maps that the backbone has not.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone or build(architecture.arch)
        classes, limits = len(architecture.classes), PROPOSALS[architecture.neck]
        strides, widths = self.backbone.strides, self.backbone.channels
        self.neck: FeaturePyramidNetwork | None = None
        self.box_norm: nn.Module | None = None
        norm = nn.BatchNorm2d if architecture.head_norm else None
        if architecture.neck == "c4":
            if self.backbone.last_stage is None or list(strides.values())[-2:] != [C4_STRIDE, 2 * C4_STRIDE]:
                why = f"{architecture.arch} has no fifth stage to be C4's head"
                raise ValueError(f"{why}: choose the neck fpn, or a ResNet")
            self.layers = self.backbone.layers[-2:-1]
            self.strides = [C4_STRIDE]
            channels = self.backbone.width
            self.rpn = RegionProposalNetwork(widths[self.layers[0]], [C4_STRIDE], [C4_SIZES], limits)
            self.box_norm = nn.BatchNorm2d(channels)
            self.box_head: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.box_predictor = BoxPredictor(channels, classes)
        else:
            self.layers = tuple(layer for layer, stride in strides.items() if 4 <= stride <= DIVISOR)
            self.strides = [strides[layer] for layer in self.layers]
            if len(self.layers) < 2 or [2 * stride for stride in self.strides[:-1]] != self.strides[1:]:
                shown = ", ".join(map(str, strides.values()))
                raise ValueError(f"a feature pyramid needs maps at strides 4, 8 …, and {architecture.arch} has {shown}")
            channels = min(FPN_CHANNELS, self.backbone.width)
            of_layers = [widths[layer] for layer in self.layers]
            self.neck = FeaturePyramidNetwork(of_layers, channels, LastLevelMaxPool(), nn.BatchNorm2d)
            levels = [*self.strides, 2 * self.strides[-1]]
            self.rpn = RegionProposalNetwork(channels, levels, [(FPN_SIZE * stride,) for stride in levels], limits)
            if norm:
                self.box_head = FastRCNNConvFCHead((channels, 7, 7), [256] * 4, [1024], norm)
            else:
                self.box_head = TwoMLPHead(channels * 7 * 7, 1024)
            for layer in self.box_head.modules():
                if isinstance(layer, nn.Linear):  # Detectron2's default
                    nn.init.kaiming_uniform_(layer.weight, a=1)
                    nn.init.zeros_(layer.bias)
            self.box_predictor = BoxPredictor(1024, classes)
        if architecture.masks:
            if self.neck:
                self.mask_head = MaskRCNNHeads(channels, [256] * 4, 1, norm)
                channels = 256
            self.mask_predictor = MaskRCNNPredictor(channels, 256, classes)  # (n, channels, m, m) → (n, K, 2m, 2m)
            nn.init.zeros_(self.mask_predictor.conv5_mask.bias)
            nn.init.normal_(self.mask_predictor.mask_fcn_logits.weight, std=0.001)  # Detectron2's default
            nn.init.zeros_(self.mask_predictor.mask_fcn_logits.bias)
        # Constants, not weights: no checkpoint has them.
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses in training mode, detections in evaluation mode.

        Args:
            images: uint8 ``(3, H, W)`` RGB 0–255, as resized for the network, of different sizes; on any device.
            targets: one an image, needed for training; boxes of some area.

        Returns:
            Scalars ``rpn_objectness``, ``rpn_box``, ``box_class``, ``box_regression`` and, with a mask head, ``mask``;
            or the detections of each image in its pixels.

        Raises:
            ValueError: training without targets, or with one that cannot be trained on, or that has diverged.
        """
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        features = self.features(images)
        prediction = self.rpn(features)
        proposals = [boxes for boxes, _ in self.rpn.propose(prediction, sizes)]
        if not self.training:
            return self._detect(features, proposals, sizes)
        if targets is None or len(targets) != len(images):
            raise ValueError(f"training needs targets, one for each of {len(images)} images: pass them, or call eval()")
        # Before they are sent: no device is asked, and none waits.
        if not all((target.boxes[:, 2:] > target.boxes[:, :2]).all() for target in targets):
            raise ValueError("a target has a box without area, which nothing can match: leave it out")
        targets = [target.to(self.mean.device) for target in targets]
        classes = len(self.architecture.classes)
        losses: dict[str, Tensor] = self.rpn.losses(prediction, targets)
        regions = stages.sample_regions(proposals, targets, classes, self.architecture.roi_per_image)
        maps = self.region_maps(features, [region.boxes for region in regions])
        logits, deltas = self.box_predictor(self.box_head(maps))
        losses |= stages.box_losses(logits, deltas, regions, targets)
        if self.architecture.masks:
            # Without any object the mask head runs on nothing: other ranks wait for its gradients and normalisation.
            found = [stages.where(region.labels < classes) for region in regions]
            objects = [region.chosen(places) for region, places in zip(regions, found, strict=True)]
            if self.neck:
                mask_logits = self.mask_logits(features, [region.boxes for region in objects])
            else:
                first = (0, *accumulate(len(region.labels) for region in regions))
                mask_logits = self.mask_predictor(maps[torch.cat([i + n for i, n in zip(found, first, strict=False)])])
            losses["mask"] = stages.mask_loss(mask_logits, objects, targets)
        return losses

    def features(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps of a batch, finest first: c4, or the levels of the pyramid, p2 … p6 on a ResNet.

        Images are normalised, then padded with zeros at the right and at the bottom to one size.
        """
        divisor = DIVISOR if self.neck else self.backbone.multiple
        height, width = (-(-max(image.shape[i] for image in images) // divisor) * divisor for i in (1, 2))
        batch = self.mean.new_zeros(len(images), 3, height, width)
        for image, frame in zip(images, batch, strict=True):
            sent = image.to(self.mean.device, non_blocking=True)
            frame[:, : image.shape[1], : image.shape[2]] = (sent - self.mean) / self.std
        maps = self.backbone.maps(batch, until=self.layers[-1])
        levels = {layer: maps[layer] for layer in self.layers}
        return list((self.neck(levels) if self.neck else levels).values())

    def region_maps(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Maps of regions as the box head takes them ``(n, C, 7, 7)``; of C4 the backbone's fifth stage, normalised.

        Of the features of a batch, and boxes ``(n_i, 4)`` of each image, in its pixels.
        """
        if self.box_norm is None or self.backbone.last_stage is None:
            return pool(features, self.strides, boxes, 7)
        return self.box_norm(self.backbone.last_stage(pool(features, self.strides, boxes, 14)))

    def mask_logits(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Logits ``(n, K, M, M)`` of the mask of each class in each box, M 14 of C4 and 28 of FPN."""
        if self.neck:
            return self.mask_predictor(self.mask_head(pool(features, self.strides, boxes, 14)))
        return self.mask_predictor(self.region_maps(features, boxes))

    @torch.no_grad()
    def _detect(
        self, features: Sequence[Tensor], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        predicted = self.box_predictor(self.box_head(self.region_maps(features, boxes)))
        logits, deltas = (part.split([len(box) for box in boxes]) for part in predicted)
        found = [stages.detections(*parts) for parts in zip(logits, deltas, boxes, sizes, strict=True)]
        if not self.architecture.masks:
            return found
        masks, labels = self.mask_logits(features, [one.boxes for one in found]), torch.cat([f.labels for f in found])
        own = masks[torch.arange(len(labels), device=labels.device), labels].float().sigmoid()
        parts = own.split([len(one.labels) for one in found])
        return [one._replace(masks=mask) for one, mask in zip(found, parts, strict=True)]
