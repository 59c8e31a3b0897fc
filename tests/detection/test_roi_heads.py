"""The second stage: sampling, losses against a plain loop, detections."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from plrc.detection.roi_heads import CODER, Regions, box_losses, detections, mask_loss, sample_regions
from plrc.detection.target import Target

CLASSES = 3
TARGET = Target(torch.tensor([[10.0, 10, 50, 40], [60, 20, 110, 90]]), torch.tensor([2, 0]))
NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def jittered(count: int) -> Tensor:
    """Boxes near the objects and boxes anywhere."""
    near = TARGET.boxes.repeat(count // 4, 1) + torch.randint(-9, 10, (count // 2, 4))
    corner = 60 * torch.rand(count // 2, 2)
    return torch.cat((near, torch.cat((corner, corner + 5 + 30 * torch.rand(count // 2, 2)), 1)))


def test_a_quarter_of_the_regions_are_objects_and_the_rest_is_background() -> None:
    torch.manual_seed(0)
    proposals = jittered(400)
    one, other = sample_regions([proposals, proposals], [TARGET, NOTHING], CLASSES, 64)
    assert len(one.boxes) == len(other.boxes) == 64
    assert int((one.labels < CLASSES).sum()) == 16
    assert (other.labels == CLASSES).all()
    overlap, best = box_iou(one.boxes, TARGET.boxes).max(1)
    assert torch.equal(one.labels < CLASSES, overlap >= 0.5)
    found = one.labels < CLASSES
    assert torch.equal(one.labels[found], TARGET.labels[best[found]])
    assert torch.equal(one.objects[found], best[found])


def test_an_object_is_a_region_of_its_own_even_without_proposals() -> None:
    one, other = sample_regions([torch.zeros(0, 4)] * 2, [TARGET, NOTHING], CLASSES, 64)
    torch.testing.assert_close(one.boxes, TARGET.boxes)
    assert torch.equal(one.labels, TARGET.labels)
    assert len(other.boxes) == 0


def test_sampling_repeats_with_the_seed() -> None:
    proposals = jittered(400)

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return sample_regions([proposals], [TARGET], CLASSES, 32)[0].boxes

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_box_losses_equal_a_plain_loop() -> None:
    torch.manual_seed(0)
    proposals = jittered(200)
    regions = sample_regions([proposals, proposals], [NOTHING, TARGET], CLASSES, 32)
    logits, deltas = torch.randn(64, CLASSES + 1), torch.randn(64, 4 * CLASSES)
    losses = box_losses(logits, deltas, regions, [NOTHING, TARGET])
    box = 0.0
    for i, label in enumerate(torch.cat([r.labels for r in regions]).tolist()):
        if label < CLASSES:
            region, target = regions[1].boxes[i - 32], TARGET.boxes[regions[1].objects[i - 32]]
            size, own = region[2:] - region[:2], target[2:] - target[:2]
            shift = 10 * ((target[2:] + target[:2]) - (region[2:] + region[:2])) / 2 / size
            wanted = torch.cat((shift, 5 * torch.log(own / size)))
            box += float((deltas[i, 4 * label : 4 * label + 4] - wanted).abs().sum())
    assert box > 0
    assert float(losses["box_regression"]) == pytest.approx(box / 64, rel=1e-5)
    torch.testing.assert_close(losses["box_class"], F.cross_entropy(logits, torch.cat([r.labels for r in regions])))


def test_no_region_at_all_costs_nothing() -> None:
    nothing = Regions(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    logits, deltas = torch.zeros(0, CLASSES + 1, requires_grad=True), torch.zeros(0, 4 * CLASSES, requires_grad=True)
    losses = box_losses(logits, deltas, [nothing], [NOTHING])
    losses["mask"] = mask_loss(torch.zeros(0, CLASSES, 14, 14, requires_grad=True), [nothing], [NOTHING])
    assert all(loss.item() == 0 and loss.requires_grad for loss in losses.values())


def test_mask_loss_compares_the_true_class_with_the_mask_inside_the_region() -> None:
    masks = torch.zeros(2, 100, 120, dtype=torch.bool)
    masks[0, 10:40, 10:30] = True  # the left half of the first object
    masks[1, 20:90, 60:110] = True
    target = Target(TARGET.boxes, TARGET.labels, masks)
    regions = Regions(TARGET.boxes, TARGET.labels, torch.tensor([0, 1]))
    logits = torch.full((2, CLASSES, 14, 14), torch.nan)
    logits[0, 2], logits[1, 0] = -20, 20
    logits[0, 2, :, :7] = 20
    assert float(mask_loss(logits, [regions], [target])) < 1e-6
    logits[1, 0] = -20
    assert float(mask_loss(logits, [regions], [target])) == pytest.approx(10, rel=1e-4)
    # Wider regions have 14 columns too, of which the object covers 3.54 and 3.26: half a cell decides.
    for right, columns in ((89.0, 4), (96.0, 3)):
        wide = Regions(torch.tensor([[10.0, 10, right, 40]]), torch.tensor([2]), torch.tensor([0]))
        logits[0, 2] = -20
        logits[0, 2, :, :columns] = 20
        assert float(mask_loss(logits[:1], [wide], [target])) < 1e-6, columns
    with pytest.raises(ValueError, match="without masks"):
        mask_loss(logits, [regions], [TARGET])


def certain(labels: list[int], scores: list[float]) -> Tensor:
    """Logits whose softmax is the score for the label, the rest for the background."""
    chances = torch.full((len(labels), CLASSES + 1), 1e-9)
    for row, label, score in zip(chances, labels, scores, strict=True):
        row[label], row[-1] = score, 1 - score
    return chances.log()


def test_detections_fall_in_score_and_are_suppressed_within_their_class_alone() -> None:
    boxes = torch.tensor([[10.0, 10, 50, 50], [11, 10, 51, 50], [12, 10, 52, 50], [60, 60, 90, 90], [5, 5, 9, 9]])
    logits = certain([0, 0, 1, 2, 1], [0.6, 0.8, 0.5, 0.9, 0.04])
    found = detections(logits, torch.zeros(5, 4 * CLASSES), boxes, (100, 100))
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.5]))
    assert found.labels.tolist() == [2, 0, 1]
    torch.testing.assert_close(found.boxes, boxes[[3, 1, 2]])


def test_a_detection_has_the_box_of_its_class_inside_the_picture() -> None:
    region = torch.tensor([[10.0, 10, 50, 50]])
    wanted = torch.tensor([[20.0, 30, 120, 60]])
    deltas = torch.randn(1, 4 * CLASSES)
    deltas[:, 4:8] = CODER.encode_single(wanted, region)
    found = detections(certain([1], [0.9]), deltas, region, (100, 100))
    torch.testing.assert_close(found.boxes, torch.tensor([[20.0, 30, 100, 60]]))
    # Wholly outside there is nothing to see.
    assert len(detections(certain([1], [0.9]), deltas, region, (20, 15)).boxes) == 0


def test_at_most_a_hundred_detections_the_best() -> None:
    corner = 20.0 * torch.stack(torch.meshgrid(torch.arange(15), torch.arange(15), indexing="ij"), -1).view(-1, 2)
    boxes = torch.cat((corner, corner + 10), 1)
    scores = torch.linspace(0.1, 0.9, 225)
    found = detections(certain([0] * 225, scores.tolist()), torch.zeros(225, 4 * CLASSES), boxes, (400, 400))
    torch.testing.assert_close(found.scores, scores.flip(0)[:100])


def test_no_region_gives_no_detection() -> None:
    found = detections(torch.zeros(0, CLASSES + 1), torch.zeros(0, 4 * CLASSES), torch.zeros(0, 4), (50, 50))
    assert found.boxes.shape == (0, 4)
    assert len(found.scores) == len(found.labels) == 0
