"""The second stage: which regions are trained on, the losses of what the heads say of them, and detections.

It computes what Detectron2 does: the background is the last class, and box regression has no columns for it.
(Fast R-CNN, section 2; Mask R-CNN, section 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, roi_align

from plrc.detection.target import Detections, Target

# Detectron2's defaults
POSITIVE_IOU = 0.5
POSITIVE_SHARE = 0.25  # of the regions sampled of a picture, at most
LEAST_SCORE = 0.05
NMS_IOU = 0.5
MOST_DETECTIONS = 100  # of a picture

CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


@dataclass(eq=False)
class Regions:
    """The n regions of a picture that are trained on.

    Attributes:
        boxes: ``(n, 4)`` pixels of the input picture. labels: ``(n,)``, 0 … K − 1, or K, the background.
        objects: ``(n,)``, the object of the picture's target that each region is to become; 0 for the background.
    """

    boxes: Tensor
    labels: Tensor
    objects: Tensor


@torch.no_grad()
def sample_regions(boxes: Sequence[Tensor], targets: Sequence[Target], classes: int, count: int) -> list[Regions]:
    """Regions to train on, ``count`` of a picture, from its proposals and its objects' own boxes.

    They are drawn by torch's global generator of their device.
    """
    matcher = Matcher(POSITIVE_IOU, POSITIVE_IOU)
    sampler = BalancedPositiveNegativeSampler(count, POSITIVE_SHARE)
    sampled = []
    for proposed, target in zip(boxes, targets, strict=True):
        candidates = torch.cat((proposed, target.boxes))
        if len(target.boxes):
            match = matcher(box_iou(target.boxes, candidates))
            labels = torch.where(match >= 0, target.labels[match.clamp(min=0)], classes)
        else:
            labels = target.labels.new_full((len(candidates),), classes)
            match = labels - classes
        (positive,), (negative,) = sampler([(labels < classes).long()])
        chosen = torch.cat((positive.nonzero()[:, 0], negative.nonzero()[:, 0]))
        sampled.append(Regions(candidates[chosen], labels[chosen], match[chosen].clamp(min=0)))
    return sampled


def box_losses(
    logits: Tensor, deltas: Tensor, regions: Sequence[Regions], targets: Sequence[Target]
) -> dict[str, Tensor]:
    """``box_class``: cross entropy; ``box_regression``: L1 of the true class's box. Means over all n regions.

    Args:
        logits: ``(n, K + 1)``. deltas: ``(n, 4K)``. regions: n altogether, in the same order.
    """
    labels = torch.cat([region.labels for region in regions])
    boxes = torch.cat([region.boxes for region in regions])
    classes = logits.shape[1] - 1
    objects = [region.labels < classes for region in regions]
    wanted = torch.cat(
        [target.boxes[region.objects[mask]] for region, target, mask in zip(regions, targets, objects, strict=True)]
    )
    found = torch.cat(objects).nonzero()[:, 0]
    predicted = deltas.float().view(len(deltas), classes, 4)[found, labels[found]]
    box = F.l1_loss(predicted, CODER.encode_single(wanted, boxes[found]), reduction="sum")
    count = max(len(labels), 1)  # no proposal at all is rare, but not an error
    return {
        "box_class": F.cross_entropy(logits.float(), labels, reduction="sum") / count,
        "box_regression": box / count,
    }


def mask_loss(logits: Tensor, regions: Sequence[Regions], targets: Sequence[Target]) -> Tensor:
    """Cross entropy of the true class's mask, mean over the cells of all n regions; 0 without any.

    Args:
        logits: ``(n, K, M, M)``. regions: n altogether, none of them background, in the same order.
        targets: with masks.

    Raises:
        ValueError: a target without masks.
    """
    labels = torch.cat([region.labels for region in regions])
    wanted = torch.cat(
        [_cut(target.masks, region, logits.shape[-1]) for region, target in zip(regions, targets, strict=True)]
    )
    own = logits[torch.arange(len(labels), device=labels.device), labels]
    return F.binary_cross_entropy_with_logits(own.float(), wanted, reduction="sum") / max(wanted.numel(), 1)


def _cut(masks: Tensor | None, regions: Regions, size: int) -> Tensor:
    """``(n, size, size)`` 0 or 1: the mask of each region's object, in the region's box."""
    if not len(regions.boxes):
        return regions.boxes.new_zeros(0, size, size)
    if masks is None:
        raise ValueError("a mask head is trained on masks, and a picture has none: choose a design without masks")
    boxes = torch.cat((regions.objects[:, None].to(regions.boxes.dtype), regions.boxes), dim=1)
    cut: Tensor = roi_align(masks[:, None].to(boxes.dtype), boxes, size, 1.0, sampling_ratio=0, aligned=True)
    return (cut[:, 0] >= 0.5).to(boxes.dtype)


@torch.no_grad()
def detections(logits: Tensor, deltas: Tensor, boxes: Tensor, size: tuple[int, int]) -> Detections:
    """The detections of one picture, without masks.

    Args:
        logits: ``(n, K + 1)``. deltas: ``(n, 4K)``. boxes: ``(n, 4)``, the regions, pixels of the input picture.
        size: height and width of the picture.
    """
    scores = logits.float().softmax(1)[:, :-1]
    found = CODER.decode_single(deltas.float(), boxes)
    finite = found.isfinite().all(1) & scores.isfinite().all(1)
    found, scores = found[finite].view(-1, scores.shape[1], 4), scores[finite]
    found = clip_boxes_to_image(found, size)
    region, labels = (scores > LEAST_SCORE).nonzero(as_tuple=True)
    found, scores = found[region, labels], scores[region, labels]
    keep = batched_nms(found, scores, labels, NMS_IOU)[:MOST_DETECTIONS]
    # What lay outside the picture has no area left. Detectron2 leaves it out last, too.
    keep = keep[(found[keep, 2:] > found[keep, :2]).all(1)]
    return Detections(found[keep], scores[keep], labels[keep])
