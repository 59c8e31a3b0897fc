"""Faster and Mask R-CNN on a pre-trained trunk: C4 as MoCo's recipe has it, and with a feature pyramid.

They compute what Detectron2's models compute, from torchvision's parts. (Mask R-CNN; Feature Pyramid Networks)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from plrc.backbones import Backbone, build
from plrc.detection.design import Design
from plrc.detection.pooling import pool
from plrc.detection.roi_heads import Regions, box_losses, detections, mask_loss, sample_regions
from plrc.detection.rpn import Level, Limits, Proposals, RegionProposalNetwork
from plrc.detection.target import Detections, Target

MEAN = (123.675, 116.28, 103.53)  # of ImageNet, RGB, 0–255
STD = (58.395, 57.12, 57.375)

C4_LEVEL = Level(stride=16, sizes=(32, 64, 128, 256, 512))
C4_TRAINING, C4_TESTING = Limits(12000, 2000), Limits(6000, 1000)
FPN_TRAINING, FPN_TESTING = Limits(2000, 1000), Limits(1000, 1000)
FPN_CHANNELS = 256
FPN_DIVISOR = 32  # a batch is padded to a multiple, so that each level has twice the cells of the next


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
    """A detector: pictures → losses in training, detections in testing.

    Args:
        design: what it is. backbone: a pre-trained one of the architecture, which becomes part of the detector and is
            trained with it; a fresh one without it.
    """

    def __init__(self, design: Design, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.design = design
        self.backbone = backbone or build(design.arch)
        classes = len(design.classes)
        self.neck: FeaturePyramidNetwork | None = None
        self.box_norm: nn.Module | None = None
        if design.neck == "c4":
            channels = self.backbone.width
            self.strides = [C4_LEVEL.stride]
            self.rpn = RegionProposalNetwork(channels // 2, [C4_LEVEL], C4_TRAINING, C4_TESTING)
            self.box_norm = nn.BatchNorm2d(channels)
            self.box_head: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.box_predictor = BoxPredictor(channels, classes)
        else:
            widths = list(self.backbone.channels.values())
            channels = min(FPN_CHANNELS, self.backbone.width)
            self.strides = list(self.backbone.strides.values())
            levels = [Level(stride, (8 * stride,)) for stride in (*self.strides, 2 * self.strides[-1])]
            self.neck = FeaturePyramidNetwork(widths, channels, LastLevelMaxPool(), nn.BatchNorm2d)
            self.rpn = RegionProposalNetwork(channels, levels, FPN_TRAINING, FPN_TESTING)
            self.box_head = _box_head(channels, design.head_norm)
            self.box_predictor = BoxPredictor(1024, classes)
        if design.masks:
            if self.neck:
                norm = nn.BatchNorm2d if design.head_norm else None
                self.mask_head = MaskRCNNHeads(channels, [256] * 4, 1, norm)
                channels = 256
            self.mask_predictor = _mask_predictor(channels, classes)
        # Constants, not weights: no checkpoint has them.
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor

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
        proposals = [found.boxes for found in self.rpn.propose(prediction, sizes)]
        if not self.training:
            return self._detect(features, proposals, sizes)
        checked = _check(targets, len(images), self.mean.device)
        losses = self.rpn.losses(prediction, checked)
        regions = sample_regions(proposals, checked, len(self.design.classes), self.design.roi_per_image)
        maps = self.region_maps(features, [region.boxes for region in regions])
        logits, deltas = self.box_predictor(self.box_head(maps))
        losses |= box_losses(logits, deltas, regions, checked)
        if self.design.masks:
            losses["mask"] = self._mask_loss(features, maps, regions, checked)
        return losses

    def features(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps of a batch, finest first: c4, or p2 … p6 (p2 … p4 of the tiny network).

        Pictures are normalised, then padded with zeros at the right and at the bottom to one size.
        """
        height, width = (max(image.shape[i] for image in images) for i in (1, 2))
        if self.neck:
            height, width = (-(-length // FPN_DIVISOR) * FPN_DIVISOR for length in (height, width))
        batch = self.mean.new_zeros(len(images), 3, height, width)
        for image, place in zip(images, batch, strict=True):
            place[:, : image.shape[1], : image.shape[2]] = (image.to(self.mean.device) - self.mean) / self.std
        if self.neck is None:
            return [self.backbone.maps(batch, until="c4")["c4"]]
        return list(self.neck(self.backbone.maps(batch)).values())

    def propose(self, features: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """The proposals of each picture. ``features`` of the batch; heights and widths of the pictures."""
        return self.rpn.propose(self.rpn(features), sizes)

    def region_maps(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Maps of regions as the box head takes them ``(n, C, 7, 7)``; of C4 the trunk's fifth stage, normalised.

        Args:
            features: of the batch. boxes: ``(n_i, 4)`` of each picture, in its pixels.
        """
        if self.box_norm is None:
            return pool(features[: len(self.strides)], self.strides, boxes, 7)
        res5 = self.backbone.last_stage
        assert res5 is not None  # the design says so
        maps: Tensor = self.box_norm(res5(pool(features, self.strides, boxes, 14)))
        return maps

    def mask_logits(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Logits ``(n, K, M, M)`` of the mask of each class in each box, M 14 of C4 and 28 of FPN."""
        if self.neck:
            maps = self.mask_head(pool(features[: len(self.strides)], self.strides, boxes, 14))
        else:
            maps = self.region_maps(features, boxes)
        logits: Tensor = self.mask_predictor(maps)
        return logits

    def _mask_loss(
        self, features: Sequence[Tensor], maps: Tensor, regions: Sequence[Regions], targets: Sequence[Target]
    ) -> Tensor:
        masks = [region.labels < len(self.design.classes) for region in regions]
        found = [
            Regions(region.boxes[mask], region.labels[mask], region.objects[mask])
            for region, mask in zip(regions, masks, strict=True)
        ]
        # Without any object the mask head runs on nothing: other ranks wait for its gradients and normalisation.
        if self.neck:
            logits = self.mask_logits(features, [region.boxes for region in found])
        else:
            logits = self.mask_predictor(maps[torch.cat(masks)])
        return mask_loss(logits, found, targets)

    @torch.no_grad()
    def _detect(
        self, features: Sequence[Tensor], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        logits, deltas = self.box_predictor(self.box_head(self.region_maps(features, boxes)))
        counts = [len(box) for box in boxes]
        found = [
            detections(*parts) for parts in zip(logits.split(counts), deltas.split(counts), boxes, sizes, strict=True)
        ]
        if self.design.masks:
            masks = self.mask_logits(features, [one.boxes for one in found])
            labels = torch.cat([one.labels for one in found])
            own = masks[torch.arange(len(labels), device=labels.device), labels].float().sigmoid()
            for one, mask in zip(found, own.split([len(one.labels) for one in found]), strict=True):
                one.masks = mask
        return found


def _box_head(channels: int, normalised: bool) -> nn.Module:
    """Maps ``(n, channels, 7, 7)`` → ``(n, 1024)``."""
    if normalised:
        head: nn.Module = FastRCNNConvFCHead((channels, 7, 7), [256] * 4, [1024], nn.BatchNorm2d)
    else:
        head = TwoMLPHead(channels * 7 * 7, 1024)
    for layer in head.modules():
        if isinstance(layer, nn.Linear):  # Detectron2's default
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
    return head


def _mask_predictor(channels: int, classes: int) -> MaskRCNNPredictor:
    """Maps ``(n, channels, m, m)`` → logits ``(n, K, 2m, 2m)``."""
    predictor = MaskRCNNPredictor(channels, 256, classes)
    nn.init.zeros_(predictor.conv5_mask.bias)
    nn.init.normal_(predictor.mask_fcn_logits.weight, std=0.001)  # Detectron2's default
    nn.init.zeros_(predictor.mask_fcn_logits.bias)
    return predictor


def _check(targets: Sequence[Target] | None, images: int, device: torch.device) -> list[Target]:
    """The targets on the device, fit to be trained on."""
    if targets is None or len(targets) != images:
        raise ValueError(f"training needs a target for each of {images} images: pass targets, or call eval() first")
    moved = [target.to(device) for target in targets]
    boxes = torch.cat([target.boxes for target in moved])
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        raise ValueError("a target has a box without area, which nothing can match: leave it out")
    return moved
