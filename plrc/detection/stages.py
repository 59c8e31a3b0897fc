"""The two stages of an R-CNN: proposals of regions that may hold an object, and what becomes of each region.

They compute what Detectron2's do, with torchvision's head, coder, matcher and sampler. torchvision's own first stage
rounds its anchors, ranks proposals by probability, which saturates, divides its losses by the samples at hand, and has
another box loss; in its second stage background is class 0, with box columns of its own. (Faster R-CNN, section 3.1;
Fast R-CNN, section 2; Mask R-CNN, section 3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, roi_align

# Detectron2's defaults
RATIOS = (0.5, 1.0, 2.0)  # height / width of anchors
ANCHOR_IOU = (0.7, 0.3)  # with an object: from here on it is one, below there it is background
ANCHORS = 256  # of an image that the losses are taken over, at most half of them objects
PROPOSAL_NMS_IOU = 0.7
REGION_IOU = 0.5  # with an object, from which a region is one
OBJECT_SHARE = 0.25  # of the regions sampled of an image, at most
LEAST_SCORE, NMS_IOU, MOST_DETECTIONS = 0.05, 0.5, 100
CANONICAL_SIZE, CANONICAL_STRIDE = 224, 16  # a region of 224 px is pooled at stride 16 (FPN, equation 1)

CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))

# What the first stage says of every anchor, a list entry a level, of B images and A anchors: the anchors ``(A, 4)`` in
# pixels of the input image, their logits ``(B, A)`` and deltas ``(B, A, 4)`` float32.
Prediction = tuple[list[Tensor], list[Tensor], list[Tensor]]


class Target(NamedTuple):
    """The n objects to be found in an image, as it is given to the network.

    boxes ``(n, 4)`` float32, x0, y0, x1, y1 in pixels of that image, from its left and upper border; labels ``(n,)``
    int64, 0 … K − 1; masks ``(n, H, W)`` bool, None where only boxes are known.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def to(self, device: torch.device) -> Target:
        parts: Any = (part if part is None else part.to(device, non_blocking=True) for part in self)
        return Target(*parts)


class Detections(NamedTuple):
    """The n objects that a detector finds in an image, by falling score.

    boxes ``(n, 4)`` float32, x0, y0, x1, y1 in pixels of the image that it was given; scores ``(n,)`` in [0, 1]; labels
    ``(n,)`` int64, 0 … K − 1; masks ``(n, M, M)`` float32, the probability that a cell of the box belongs to the
    object, None of a detector without a mask head.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float] = RATIOS) -> Tensor:
    """The anchors of one cell: sizes (square roots of areas, pixels) outside, ratios (height / width) inside.

    ``(len(sizes) · len(ratios), 4)`` float32, x0, y0, x1, y1 in pixels from the cell's corner; not rounded.
    """
    sides = [(size / math.sqrt(ratio), ratio * (size / math.sqrt(ratio))) for size in sizes for ratio in ratios]
    return torch.tensor([[-width / 2, -height / 2, width / 2, height / 2] for width, height in sides])


def grid_anchors(cells: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The anchors of a map of ``height`` × ``width`` cells: rows outside, then columns, then ``cell_anchors``.

    ``(height · width · A, 4)``, x0, y0, x1, y1 in pixels of the input image, over whose border many reach; centred on
    the cells' upper left corners, ``(column · stride, row · stride)``, as Detectron2's are.
    """
    y, x = (torch.arange(n, device=cells.device, dtype=cells.dtype) * stride for n in (height, width))
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    corners = torch.stack((columns, rows, columns, rows), dim=-1)
    return (corners[:, :, None] + cells).reshape(-1, 4)


def match(matcher: Matcher, objects: Tensor, boxes: Tensor) -> Tensor:
    """``(n,)``: the object of each of the boxes ``(n, 4)``, −1 background, −2 neither."""
    if not len(objects):
        return boxes.new_full((len(boxes),), Matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64)
    return matcher(box_iou(objects, boxes))


def where(mask: Tensor) -> Tensor:
    """The places ``(n,)`` at which a mask of any shape, flattened, is true.

    A device is waited for once then, not each time that something is chosen by the mask.
    """
    return mask.flatten().nonzero()[:, 0]


def objects_of(target: Target, matches: Tensor) -> Tensor:
    """Boxes ``(n, 4)`` of the objects that ``match`` gave; zeros where it gave none."""
    return F.pad(target.boxes, (0, 0, 0, 1))[matches.clamp(min=-1)]


class RegionProposalNetwork(nn.Module):
    """Objectness and box of every anchor, the best of which are proposals.

    Of feature maps with so many channels, strides (pixels a cell) and anchors' sizes (pixels; as many on each map).
    limits: the most proposals of an image in training and in testing, a level before suppression, and in all after it.
    """

    def __init__(
        self, channels: int, strides: Sequence[int], sizes: Sequence[Sequence[float]], limits: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__()
        self.strides, self.sizes, self.limits = tuple(strides), tuple(sizes), {True: limits[0], False: limits[1]}
        # Buffers follow the model to its device. They are no weights, and no checkpoint has them.
        self.register_buffer("cells", torch.stack([cell_anchors(of_level) for of_level in sizes]), persistent=False)
        self.cells: Tensor
        self.head = RPNHead(channels, self.cells.shape[1])
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(*ANCHOR_IOU, allow_low_quality_matches=True)  # every object has at least one anchor
        self.sampler = BalancedPositiveNegativeSampler(ANCHORS, 0.5)

    def forward(self, features: Sequence[Tensor]) -> Prediction:
        """Feature maps ``(B, channels, h, w)``, one a level, finest first → what the head says of every anchor."""
        logits, deltas = self.head(list(features))
        levels = zip(self.cells, self.strides, features, strict=True)
        anchors = [grid_anchors(cells, stride, *feature.shape[-2:]) for cells, stride, feature in levels]
        # Boxes and losses are computed in float32, whatever the convolutions ran in.
        logits = [x.permute(0, 2, 3, 1).flatten(1).float() for x in logits]
        return anchors, logits, [x.permute(0, 2, 3, 1).reshape(len(x), -1, 4).float() for x in deltas]

    @torch.no_grad()
    def propose(self, prediction: Prediction, sizes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """The proposals of each image by falling logit; no gradient flows through them.

        ``sizes``: height and width of each image without padding. Gives boxes ``(n, 4)`` float32, inside the image, in
        its pixels, and their logits ``(n,)``, of each image. What is not finite is left out; in training the losses
        tell of it.
        """
        before, after = self.limits[self.training]
        boxes, logits, level = [], [], []
        for i, (anchors, scores, deltas) in enumerate(zip(*prediction, strict=True)):
            best, index = scores.topk(min(before, scores.shape[1]), dim=1)
            chosen = deltas.gather(1, index[..., None].expand(-1, -1, 4))
            boxes.append(self.coder.decode_single(chosen.flatten(0, 1), anchors[index.flatten()]).view_as(chosen))
            logits.append(best)
            level.append(torch.full_like(index[0], i))
        levels, proposals = torch.cat(level), []
        every, logit_of = torch.cat(boxes, 1), torch.cat(logits, 1)
        finite = every.isfinite().all(2) & logit_of.isfinite()
        for box, logit, valid, size in zip(every, logit_of, finite, sizes, strict=True):
            box = clip_boxes_to_image(box, size)
            chosen = where(valid & (box[:, 2:] > box[:, :2]).all(1))
            box, logit = box[chosen], logit[chosen]
            keep = batched_nms(box, logit, levels[chosen], PROPOSAL_NMS_IOU)[:after]
            proposals.append((box[keep], logit[keep]))
        return proposals

    def losses(self, prediction: Prediction, targets: Sequence[Target]) -> dict[str, Tensor]:
        """``rpn_objectness`` (cross entropy) and ``rpn_box`` (L1): sums over sampled anchors of all images.

        Both are divided by the number of samples that were wanted, not by that of those found (Detectron2).
        Anchors are sampled by torch's global generator of their device.
        """
        anchors, logits, deltas = (torch.cat(part, dim) for part, dim in zip(prediction, (0, 1, 1), strict=True))
        matches = [match(self.matcher, target.boxes, anchors) for target in targets]
        # The sampler's code: 1 an object, 0 background, −1 neither.
        picked, rest = self.sampler([torch.where(of_image >= 0, 1, of_image + 1) for of_image in matches])
        positive, negative = torch.stack(picked).bool(), torch.stack(rest).bool()
        sampled, found = where(positive | negative), where(positive)  # of all images' anchors, one after the other
        objects = torch.stack([objects_of(target, of_image) for target, of_image in zip(targets, matches, strict=True)])
        wanted = self.coder.encode_single(objects.flatten(0, 1)[found], anchors[found % len(anchors)])
        count = ANCHORS * len(targets)
        is_object = positive.flatten()[sampled].float()
        objectness = F.binary_cross_entropy_with_logits(logits.flatten()[sampled], is_object, reduction="sum")
        box = F.l1_loss(deltas.flatten(0, 1)[found], wanted, reduction="sum")
        return {"rpn_objectness": objectness / count, "rpn_box": box / count}


def pool(features: Sequence[Tensor], strides: Sequence[int], boxes: Sequence[Tensor], size: int) -> Tensor:
    """ROIAlign with pixel centres at half coordinates and as many samples as a bin has cells (Detectron2's ROIAlignV2).

    torchvision's ``MultiScaleRoIAlign`` is not aligned and takes other levels at the limits.

    Args:
        features: ``(B, C, h, w)``, finest first. strides: pixels a cell of each that is pooled, a power of two.
        boxes: ``(n_i, 4)`` float32 of each of the B images, in pixels of the input image.

    Returns:
        ``(Σ n_i, C, size, size)``, the dtype of the features, the images' regions one after the other.
    """
    index = torch.cat([box.new_full((len(box), 1), i) for i, box in enumerate(boxes)])
    regions = torch.cat((index, torch.cat(list(boxes))), dim=1)
    level = region_levels(regions[:, 1:], strides)
    counts = torch.stack([(level == i).sum() for i in range(len(strides))]).tolist()
    order = level.argsort(stable=True)
    parts = [  # in float32: coordinates in half precision would be wrong by pixels
        roi_align(feature.float(), regions[of_level], size, 1 / stride, sampling_ratio=0, aligned=True)
        for feature, stride, of_level in zip(features, strides, order.split(counts), strict=False)
    ]
    return torch.cat(parts)[order.argsort()].to(features[0].dtype)


def region_levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """``(n,)`` int64: the map that each of the boxes ``(n, 4)``, pixels, is pooled from, by its size (FPN, equation 1).

    Of the maps' strides each is twice the one before.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    canonical = math.log2(CANONICAL_STRIDE / strides[0])
    # A box of exactly 224 px is above the limit whatever its rounding: Detectron2's 1e-8.
    level = (canonical + torch.log2(area.sqrt() / CANONICAL_SIZE + 1e-8)).floor()
    return level.clamp(0, len(strides) - 1).long()


class Regions(NamedTuple):
    """The n regions of an image that are trained on.

    boxes ``(n, 4)``, pixels of the input image; labels ``(n,)``, 0 … K − 1, or K, the background; objects ``(n,)``, the
    object of the image's target that each region is to become, 0 for the background.
    """

    boxes: Tensor
    labels: Tensor
    objects: Tensor

    def chosen(self, keep: Tensor) -> Regions:
        return Regions(*(part[keep] for part in self))


@torch.no_grad()
def sample_regions(boxes: Sequence[Tensor], targets: Sequence[Target], classes: int, count: int) -> list[Regions]:
    """Regions to train on, ``count`` of an image, from its proposals and its objects' own boxes.

    They are drawn by torch's global generator of their device.
    """
    matcher = Matcher(REGION_IOU, REGION_IOU)
    sampler = BalancedPositiveNegativeSampler(count, OBJECT_SHARE)
    sampled = []
    for proposed, target in zip(boxes, targets, strict=True):
        candidates = torch.cat((proposed, target.boxes))
        of_region = match(matcher, target.boxes, candidates)
        labels = F.pad(target.labels, (0, 1), value=classes)[of_region]  # of −1 the last, the background
        (positive,), (negative,) = sampler([(labels < classes).long()])
        chosen = where(torch.stack((positive, negative))) % len(candidates)  # objects first
        sampled.append(Regions(candidates, labels, of_region.clamp(min=0)).chosen(chosen))
    return sampled


def box_losses(
    logits: Tensor, deltas: Tensor, regions: Sequence[Regions], targets: Sequence[Target]
) -> dict[str, Tensor]:
    """``box_class``: cross entropy; ``box_regression``: L1 of the true class's box. Means over all n regions.

    Of logits ``(n, K + 1)`` and deltas ``(n, 4K)``, in the order of the regions.
    """
    classes = logits.shape[1] - 1
    boxes, labels = (torch.cat(part) for part in list(zip(*regions, strict=True))[:2])
    found = where(labels < classes)
    wanted = torch.cat([objects_of(t, r.objects) for r, t in zip(regions, targets, strict=True)])[found]
    predicted = deltas.float().view(len(deltas), classes, 4)[found, labels[found]]
    box = F.l1_loss(predicted, CODER.encode_single(wanted, boxes[found]), reduction="sum")
    count = max(len(labels), 1)  # no proposal at all is rare, but not an error
    label = F.cross_entropy(logits.float(), labels, reduction="sum")
    return {"box_class": label / count, "box_regression": box / count}


def mask_loss(logits: Tensor, regions: Sequence[Regions], targets: Sequence[Target]) -> Tensor:
    """Cross entropy of the true class's mask, mean over the cells of all n regions; 0 without any.

    Of logits ``(n, K, M, M)``, in the order of the regions, none of which is background. Raises a ValueError if a
    target has no masks.
    """
    size = logits.shape[-1]
    wanted = [logits.new_zeros((0, size, size), dtype=torch.float32)]
    for region, target in zip(regions, targets, strict=True):
        if not len(region.boxes):
            continue
        if target.masks is None:
            raise ValueError("a mask head is trained on masks, and an image has none: take a detector without masks")
        boxes = torch.cat((region.objects[:, None].to(region.boxes.dtype), region.boxes), dim=1)
        masks = target.masks[:, None].to(boxes.dtype)
        cut = roi_align(masks, boxes, size, 1.0, sampling_ratio=0, aligned=True)[:, 0] >= 0.5
        wanted.append(cut.float())
    labels, inside = torch.cat([region.labels for region in regions]), torch.cat(wanted)
    own = logits[torch.arange(len(labels), device=labels.device), labels].float()
    return F.binary_cross_entropy_with_logits(own, inside, reduction="sum") / max(inside.numel(), 1)


@torch.no_grad()
def detections(logits: Tensor, deltas: Tensor, boxes: Tensor, size: tuple[int, int]) -> Detections:
    """The detections of one image, without masks, from its n regions: logits ``(n, K + 1)``, deltas ``(n, 4K)``.

    boxes: ``(n, 4)``, of the regions, pixels of the input image. size: height and width of the image.
    """
    scores = logits.float().softmax(1)[:, :-1]
    found = CODER.decode_single(deltas.float(), boxes)
    finite = found.isfinite().all(1) & scores.isfinite().all(1)
    found, scores = found[finite].view(-1, scores.shape[1], 4), scores[finite]
    found = clip_boxes_to_image(found, size)
    region, labels = (scores > LEAST_SCORE).nonzero(as_tuple=True)
    found, scores = found[region, labels], scores[region, labels]
    keep = batched_nms(found, scores, labels, NMS_IOU)[:MOST_DETECTIONS]
    # What lay outside the image has no area left. Detectron2 leaves it out last, too.
    keep = keep[(found[keep, 2:] > found[keep, :2]).all(1)]
    return Detections(found[keep], scores[keep], labels[keep])
