"""Region proposal network: boxes that may hold an object, of any class. (Faster R-CNN, section 3.1)

It computes what Detectron2's does, with torchvision's head, coder, matcher and sampler. torchvision's own network ranks
proposals by probability, which saturates, divides its losses by the samples at hand, and has another box loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from plrc.detection.anchors import cell_anchors, grid_anchors
from plrc.detection.target import Target

# Detectron2's defaults
POSITIVE_IOU = 0.7
NEGATIVE_IOU = 0.3
SAMPLES = 256  # anchors of a picture that the losses are taken over
POSITIVE_SHARE = 0.5  # of the samples, at most
NMS_IOU = 0.7


@dataclass(frozen=True)
class Level:
    """A feature map that proposals are made on: pixels a cell, and the sizes of its anchors in pixels."""

    stride: int
    sizes: tuple[float, ...]


@dataclass(frozen=True)
class Limits:
    """The most proposals of a picture: by level before suppression, and over all levels after it."""

    before: int
    after: int


@dataclass(eq=False)
class Prediction:
    """What the head says of every anchor: a list entry a level, of B pictures and A anchors.

    Attributes:
        anchors: ``(A, 4)``, pixels of the input picture. logits: ``(B, A)`` float32. deltas: ``(B, A, 4)`` float32.
    """

    anchors: list[Tensor]
    logits: list[Tensor]
    deltas: list[Tensor]


@dataclass(eq=False)
class Proposals:
    """The n proposals of a picture by falling logit.

    Attributes:
        boxes: ``(n, 4)`` float32, inside the picture, in its pixels. logits: ``(n,)`` float32.
    """

    boxes: Tensor
    logits: Tensor


class RegionProposalNetwork(nn.Module):
    """Objectness and box of every anchor, the best of which are proposals.

    Args:
        channels: of each feature map. levels: one a feature map, all with as many anchor sizes.
        training, testing: how many proposals are kept.
    """

    def __init__(self, channels: int, levels: Sequence[Level], training: Limits, testing: Limits) -> None:
        super().__init__()
        self.levels = tuple(levels)
        cells = [cell_anchors(level.sizes) for level in levels]
        self.head = RPNHead(channels, len(cells[0]))
        # Buffers follow the model to its device. They are no weights, and no checkpoint has them.
        self.register_buffer("cells", torch.stack(cells), persistent=False)
        self.cells: Tensor
        self.limits = {True: training, False: testing}
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(POSITIVE_IOU, NEGATIVE_IOU, allow_low_quality_matches=True)
        self.sampler = BalancedPositiveNegativeSampler(SAMPLES, POSITIVE_SHARE)

    def forward(self, features: Sequence[Tensor]) -> Prediction:
        """Feature maps ``(B, channels, h, w)``, one a level, finest first → what the head says of every anchor."""
        logits, deltas = self.head(list(features))
        anchors = [
            grid_anchors(cells, level.stride, *feature.shape[-2:])
            for cells, level, feature in zip(self.cells, self.levels, features, strict=True)
        ]
        return Prediction(
            anchors,
            # Boxes and losses are computed in float32, whatever the convolutions ran in.
            [x.permute(0, 2, 3, 1).flatten(1).float() for x in logits],
            [x.permute(0, 2, 3, 1).reshape(len(x), -1, 4).float() for x in deltas],
        )

    @torch.no_grad()
    def propose(self, prediction: Prediction, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """The proposals of each picture; no gradient flows through them.

        Args:
            prediction: of ``forward``. sizes: height and width of each picture without padding.

        Raises:
            ValueError: a prediction is not finite in training (in testing such boxes are left out).
        """
        limits = self.limits[self.training]
        boxes, logits, level = [], [], []
        for i, (anchors, scores, deltas) in enumerate(
            zip(prediction.anchors, prediction.logits, prediction.deltas, strict=True)
        ):
            best, index = scores.topk(min(limits.before, scores.shape[1]), dim=1)
            chosen = deltas.gather(1, index[..., None].expand(-1, -1, 4))
            boxes.append(self.coder.decode_single(chosen.flatten(0, 1), anchors[index.flatten()]).view_as(chosen))
            logits.append(best)
            level.append(torch.full_like(index[0], i))
        all_boxes, all_logits, all_levels = torch.cat(boxes, 1), torch.cat(logits, 1), torch.cat(level)
        return [
            self._keep(image_boxes, image_logits, all_levels, size, limits.after)
            for image_boxes, image_logits, size in zip(all_boxes, all_logits, sizes, strict=True)
        ]

    def _keep(self, boxes: Tensor, logits: Tensor, levels: Tensor, size: tuple[int, int], count: int) -> Proposals:
        valid = boxes.isfinite().all(1) & logits.isfinite()
        if self.training and not valid.all():
            raise ValueError("the region proposals are not finite, training has diverged: lower the learning rate")
        boxes = clip_boxes_to_image(boxes, size)
        valid &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, logits, levels = boxes[valid], logits[valid], levels[valid]
        keep = batched_nms(boxes, logits, levels, NMS_IOU)[:count]
        return Proposals(boxes[keep], logits[keep])

    def losses(self, prediction: Prediction, targets: Sequence[Target]) -> dict[str, Tensor]:
        """``rpn_objectness`` (cross entropy) and ``rpn_box`` (L1): sums over sampled anchors of all pictures.

        Both are divided by the number of samples that were wanted, not by that of those found (Detectron2).
        Anchors are sampled by torch's global generator of their device.
        """
        anchors, logits, deltas = (
            torch.cat(prediction.anchors),
            torch.cat(prediction.logits, 1),
            torch.cat(prediction.deltas, 1),
        )
        matches = [self._match(anchors, target.boxes) for target in targets]
        # The sampler's code: 1 an object, 0 background, −1 neither.
        picked, rest = self.sampler([torch.where(match >= 0, 1, match + 1) for match in matches])
        positive, negative = torch.stack(picked).bool(), torch.stack(rest).bool()
        sampled = positive | negative
        wanted = [
            self.coder.encode_single(target.boxes[match[mask]], anchors[mask])
            for target, match, mask in zip(targets, matches, positive, strict=True)
        ]
        count = SAMPLES * len(targets)
        objectness = F.binary_cross_entropy_with_logits(logits[sampled], positive[sampled].float(), reduction="sum")
        box = F.l1_loss(deltas[positive], torch.cat(wanted), reduction="sum")
        return {"rpn_objectness": objectness / count, "rpn_box": box / count}

    def _match(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """``(A,)``: the object of each anchor, −1 background, −2 neither. Every object has at least one anchor."""
        if not len(boxes):
            return anchors.new_full((len(anchors),), Matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64)
        matches: Tensor = self.matcher(box_iou(boxes, anchors))
        return matches
