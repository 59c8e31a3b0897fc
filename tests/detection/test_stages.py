"""The two stages: anchors, proposals, pooling and regions' heads; losses against plain loops."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import _utils
from torchvision.ops import box_iou

from plrc.detection import stages
from plrc.detection.stages import RATIOS, Prediction, RegionProposalNetwork, Regions, Target

CLASSES = 3
TARGET = Target(torch.tensor([[10.0, 10, 50, 40], [60, 20, 110, 90]]), torch.tensor([2, 0]))
NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def test_anchors_are_sizes_outside_and_ratios_inside_and_nothing_is_rounded() -> None:
    boxes = stages.cell_anchors((32, 64))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    torch.testing.assert_close((width * height).sqrt(), torch.tensor([32.0, 32, 32, 64, 64, 64]))
    torch.testing.assert_close(height / width, torch.tensor([*RATIOS, *RATIOS]))
    torch.testing.assert_close(boxes[:, :2], -boxes[:, 2:])


def test_rows_come_first_then_columns_then_the_anchors_of_a_cell() -> None:
    cells = stages.cell_anchors((8,), (1.0, 4.0))
    boxes = stages.grid_anchors(cells, stride=16, height=2, width=3)
    assert boxes.shape == (12, 4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    expected = [(16.0 * column, 16.0 * row) for row in range(2) for column in range(3) for _ in range(2)]
    torch.testing.assert_close(centres, torch.tensor(expected))
    torch.testing.assert_close(boxes[:2], cells)


# ----------------------------------------------------------------------------------------------------------- proposals

SIZES = [(96, 128), (80, 90)]


@pytest.fixture
def network() -> RegionProposalNetwork:
    torch.manual_seed(0)
    return RegionProposalNetwork(4, (8, 16), ((24,), (48,)), limits=[(200, 50), (100, 20)])


def predicted(network: RegionProposalNetwork, spread: float = 1.0, rows: int = 6) -> Prediction:
    """Of two pictures: random logits and deltas."""
    anchors, logits, deltas = network([torch.rand(2, 4, 2 * rows, 16), torch.rand(2, 4, rows, 8)])
    logits = [spread * torch.randn_like(x) for x in logits]
    return anchors, logits, [0.1 * torch.randn_like(x) for x in deltas]


ONE = Target(torch.tensor([[10.0, 12, 40, 30], [60, 20, 110, 90], [3, 3, 7, 6]]), torch.tensor([0, 1, 0]))


@pytest.mark.parametrize("rows", [6, 2])
def test_losses_equal_a_plain_loop(network: RegionProposalNetwork, rows: int) -> None:
    """Two rows have fewer anchors than are to be sampled, which divides the sums none the less."""
    prediction = predicted(network, rows=rows)
    anchors, logits, deltas = (torch.cat(part, dim) for part, dim in zip(prediction, (0, 1, 1), strict=True))
    targets = [ONE, NOTHING]
    matches = [stages.match(network.matcher, target.boxes, anchors) for target in targets]
    torch.manual_seed(1)
    losses = network.losses(prediction, targets)
    torch.manual_seed(1)
    picked, rest = network.sampler([torch.where(m >= 0, 1, m + 1) for m in matches])
    objectness, box = 0.0, 0.0
    for i, target in enumerate(targets):
        for a, anchor in enumerate(anchors):
            if picked[i][a]:
                objectness += float(torch.log1p(torch.exp(-logits[i, a].double())))
                wanted = target.boxes[matches[i][a]]
                size, own = anchor[2:] - anchor[:2], wanted[2:] - wanted[:2]
                shift = ((wanted[2:] + wanted[:2]) - (anchor[2:] + anchor[:2])) / 2 / size
                box += float((deltas[i, a] - torch.cat((shift, torch.log(own / size)))).abs().sum())
            if rest[i][a]:
                objectness += float(torch.log1p(torch.exp(logits[i, a].double())))
    assert int(sum(x.sum() for x in picked)) > 0
    assert float(losses["rpn_objectness"]) == pytest.approx(objectness / (2 * stages.ANCHORS), rel=1e-5)
    assert float(losses["rpn_box"]) == pytest.approx(box / (2 * stages.ANCHORS), rel=1e-5)


def test_half_of_the_sampled_anchors_are_objects_at_most(network: RegionProposalNetwork) -> None:
    on, off = torch.tensor([10.0, 10, 40, 40]), torch.tensor([60.0, 60, 90, 90])
    logits = [torch.zeros(2, 576), torch.full((2, 144), -50.0)]
    target = Target(on[None], torch.tensor([0]))
    prediction = [on.expand(576, 4), off.expand(144, 4)], logits, predicted(network)[2]
    loss = network.losses(prediction, [target, target])["rpn_objectness"]
    # The half that is an object is undecided, the other half is right.
    assert float(loss) == pytest.approx(math.log(2) / 2)


def test_every_object_has_an_anchor_and_the_thresholds_are_detectron2s(network: RegionProposalNetwork) -> None:
    anchors, boxes = torch.cat(predicted(network)[0]), ONE.boxes
    match, overlap = stages.match(network.matcher, boxes, anchors), box_iou(boxes, anchors)
    assert overlap[2].max() < 0.3  # the third object is too small for any of them
    best = (overlap == overlap.amax(1, keepdim=True)).any(0)
    assert (match[best] >= 0).all()
    for a in (~best).nonzero()[:, 0].tolist():
        value, which = overlap[:, a].max(0)
        assert match[a] == (which if value >= 0.7 else -1 if value < 0.3 else -2)


def test_proposals_fall_in_logit_lie_in_their_picture_and_do_not_repeat(network: RegionProposalNetwork) -> None:
    prediction = predicted(network, spread=100)  # probabilities would all be 0 or 1
    for mode, limit in ((True, 50), (False, 20)):
        network.train(mode)
        for i, ((boxes, logits), size) in enumerate(zip(network.propose(prediction, SIZES), SIZES, strict=True)):
            assert len(boxes) == limit
            assert (logits.diff() <= 0).all()
            if i == 0:  # of the smaller image the best may lie in its padding
                assert logits[0] == max(level[0].max() for level in prediction[1])
            assert boxes.min() >= 0
            assert (boxes[:, 2:] <= torch.tensor(size[::-1])).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_levels_are_limited_and_suppressed_apart(network: RegionProposalNetwork) -> None:
    network.limits[False] = (2, 50)
    _, logits, deltas = predicted(network.eval())
    # The same box is the best of both levels: each keeps it. Its second on a level overlaps the first.
    box = torch.tensor([[10.0, 10, 60, 60]])
    anchors = [box.expand(x.shape[1], 4) for x in logits]
    for boxes, _ in network.propose((anchors, logits, [torch.zeros_like(x) for x in deltas]), SIZES):
        torch.testing.assert_close(boxes, box.expand(2, 4))


def test_what_is_not_finite_is_left_out(network: RegionProposalNetwork) -> None:
    prediction = predicted(network)
    _, logits, deltas = prediction
    deltas[0][0, logits[0][0].argmax()] = torch.nan
    for boxes, _ in network.propose(prediction, SIZES):
        assert boxes.isfinite().all()


def test_head_says_the_same_of_an_anchor_in_any_memory_format(network: RegionProposalNetwork) -> None:
    features = [torch.rand(2, 4, 12, 16), torch.rand(2, 4, 6, 8)]
    plain = network(features)
    last = network.to(memory_format=torch.channels_last)([x.to(memory_format=torch.channels_last) for x in features])
    for one, other in zip(plain, last, strict=True):
        torch.testing.assert_close(one, other)
    # Channel a of the head is anchor a of the cell, channels 4a … 4a + 3 its box.
    logits, deltas = network.head(features)
    torch.testing.assert_close(plain[1][1][1, (2 * 8 + 5) * 3 + 2], logits[1][1, 2, 2, 5])
    torch.testing.assert_close(plain[2][1][1, (2 * 8 + 5) * 3 + 2], deltas[1][1, 8:12, 2, 5])


# ------------------------------------------------------------------------------------------------------------- pooling

STRIDES = [4, 8, 16, 32]


def ramps(stride: int, size: int = 256, pictures: int = 1) -> Tensor:
    """``(pictures, 3, h, w)``: x and y of each cell's centre in pixels, and the picture's number."""
    at = (torch.arange(size // stride) + 0.5) * stride
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([torch.stack((x, y, torch.full_like(x, i))) for i in range(pictures)])


def test_cells_of_a_region_lie_at_their_own_pixels_and_half_precision_moves_none() -> None:
    share = (torch.arange(7) + 0.5) / 7
    pooled = stages.pool([ramps(16)], [16], [torch.tensor([[70.3, 81.9, 150.8, 120.1]])], 7)
    torch.testing.assert_close(pooled[0, 0, 3], 70.3 + share * (150.8 - 70.3), rtol=0, atol=1e-3)
    torch.testing.assert_close(pooled[0, 1, :, 3], 81.9 + share * (120.1 - 81.9), rtol=0, atol=1e-3)
    box, feature = torch.tensor([[1001.25, 1003.5, 1101.75, 1055.5]]), ramps(16, size=1280) / 1280
    exact, half = (stages.pool([of], [16], [box], 7) for of in (feature, feature.bfloat16()))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=2**-8)


def test_regions_keep_their_order_and_picture_whatever_level_they_come_from() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = []
    for count in (5, 0, 7):
        centre = 450 + 100 * torch.rand(count, 2, generator=generator)
        half = 20 * 2 ** (4 * torch.rand(count, 2, generator=generator))
        boxes.append(torch.cat((centre - half, centre + half), 1))
    features = [ramps(stride, 1024, pictures=3) for stride in STRIDES]
    features = [torch.cat((f, torch.full_like(f[:, :1], i)), 1) for i, f in enumerate(features)]
    pooled = stages.pool(features, STRIDES, boxes, 7)
    assert pooled.shape == (12, 4, 7, 7)
    flat = torch.cat(boxes)
    torch.testing.assert_close(pooled[:, :2].mean((2, 3)), (flat[:, :2] + flat[:, 2:]) / 2, rtol=0, atol=0.05)
    assert pooled[:, 2].mean((1, 2)).tolist() == [0.0] * 5 + [2.0] * 7
    levels = stages.region_levels(flat, STRIDES)
    assert len(levels.unique()) > 2
    torch.testing.assert_close(pooled[:, 3, 0, 0], levels.float())


def test_level_follows_the_size_as_in_the_paper() -> None:
    sides = [1, 56, 111.9, 112, 223, 224, 447, 448, 2000]
    boxes = torch.tensor([[10, 20, 10 + 2 * side, 20 + side / 2] for side in sides])
    expected = [min(max(math.floor(4 + math.log2(side / 224 + 1e-8)), 2), 5) - 2 for side in sides]
    assert stages.region_levels(boxes, STRIDES).tolist() == expected == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    # Without the coarser maps a level still means the same size.
    assert stages.region_levels(boxes, [4, 8]).tolist() == [min(level, 1) for level in expected]


# ----------------------------------------------------------------------------------------------- regions and detections


def jittered(count: int) -> Tensor:
    """Boxes near the objects and boxes anywhere."""
    near = TARGET.boxes.repeat(count // 4, 1) + torch.randint(-9, 10, (count // 2, 4))
    corner = 60 * torch.rand(count // 2, 2)
    return torch.cat((near, torch.cat((corner, corner + 5 + 30 * torch.rand(count // 2, 2)), 1)))


def test_a_quarter_of_the_regions_are_objects_and_the_rest_is_background() -> None:
    torch.manual_seed(0)
    proposals = jittered(400)
    one, other = stages.sample_regions([proposals, proposals], [TARGET, NOTHING], CLASSES, 64)
    assert len(one.boxes) == len(other.boxes) == 64
    assert int((one.labels < CLASSES).sum()) == 16
    assert (other.labels == CLASSES).all()
    overlap, best = box_iou(one.boxes, TARGET.boxes).max(1)
    assert torch.equal(one.labels < CLASSES, overlap >= 0.5)
    found = one.labels < CLASSES
    assert torch.equal(one.labels[found], TARGET.labels[best[found]])
    assert torch.equal(one.objects[found], best[found])


def test_an_object_is_a_region_of_its_own_even_without_proposals() -> None:
    one, other = stages.sample_regions([torch.zeros(0, 4)] * 2, [TARGET, NOTHING], CLASSES, 64)
    torch.testing.assert_close(one.boxes, TARGET.boxes)
    assert torch.equal(one.labels, TARGET.labels)
    assert len(other.boxes) == 0


def test_box_losses_equal_a_plain_loop() -> None:
    torch.manual_seed(0)
    proposals = jittered(200)
    regions = stages.sample_regions([proposals, proposals], [NOTHING, TARGET], CLASSES, 32)
    logits, deltas = torch.randn(64, CLASSES + 1), torch.randn(64, 4 * CLASSES)
    losses = stages.box_losses(logits, deltas, regions, [NOTHING, TARGET])
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
    losses = stages.box_losses(logits, deltas, [nothing], [NOTHING])
    losses["mask"] = stages.mask_loss(torch.zeros(0, CLASSES, 14, 14, requires_grad=True), [nothing], [NOTHING])
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
    assert float(stages.mask_loss(logits, [regions], [target])) < 1e-6
    logits[1, 0] = -20
    assert float(stages.mask_loss(logits, [regions], [target])) == pytest.approx(10, rel=1e-4)
    # Wider regions have 14 columns too, of which the object covers 3.54 and 3.26: half a cell decides.
    for right, columns in ((89.0, 4), (96.0, 3)):
        wide = Regions(torch.tensor([[10.0, 10, right, 40]]), torch.tensor([2]), torch.tensor([0]))
        logits[0, 2] = -20
        logits[0, 2, :, :columns] = 20
        assert float(stages.mask_loss(logits[:1], [wide], [target])) < 1e-6, columns
    with pytest.raises(ValueError, match="without masks"):
        stages.mask_loss(logits, [regions], [TARGET])


def certain(labels: list[int], scores: list[float]) -> Tensor:
    """Logits whose softmax is the score for the label, the rest for the background."""
    chances = torch.full((len(labels), CLASSES + 1), 1e-9)
    for row, label, score in zip(chances, labels, scores, strict=True):
        row[label], row[-1] = score, 1 - score
    return chances.log()


def test_detections_fall_in_score_and_are_suppressed_within_their_class_alone() -> None:
    boxes = torch.tensor([[10.0, 10, 50, 50], [11, 10, 51, 50], [12, 10, 52, 50], [60, 60, 90, 90], [5, 5, 9, 9]])
    logits = certain([0, 0, 1, 2, 1], [0.6, 0.8, 0.5, 0.9, 0.04])
    found = stages.detections(logits, torch.zeros(5, 4 * CLASSES), boxes, (100, 100))
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.5]))
    assert found.labels.tolist() == [2, 0, 1]
    torch.testing.assert_close(found.boxes, boxes[[3, 1, 2]])


def test_a_detection_has_the_box_of_its_class_inside_the_picture() -> None:
    region = torch.tensor([[10.0, 10, 50, 50]])
    wanted = torch.tensor([[20.0, 30, 120, 60]])
    deltas = torch.randn(1, 4 * CLASSES)
    deltas[:, 4:8] = stages.CODER.encode_single(wanted, region)
    found = stages.detections(certain([1], [0.9]), deltas, region, (100, 100))
    torch.testing.assert_close(found.boxes, torch.tensor([[20.0, 30, 100, 60]]))
    # Wholly outside there is nothing to see.
    assert len(stages.detections(certain([1], [0.9]), deltas, region, (20, 15)).boxes) == 0


def test_at_most_a_hundred_detections_the_best() -> None:
    corner = 20.0 * torch.stack(torch.meshgrid(torch.arange(15), torch.arange(15), indexing="ij"), -1).view(-1, 2)
    boxes = torch.cat((corner, corner + 10), 1)
    scores = torch.linspace(0.1, 0.9, 225)
    found = stages.detections(certain([0] * 225, scores.tolist()), torch.zeros(225, 4 * CLASSES), boxes, (400, 400))
    torch.testing.assert_close(found.scores, scores.flip(0)[:100])


def test_the_private_parts_of_torchvision_are_as_they_are_used_here() -> None:
    """``torchvision.models.detection._utils`` may change without notice."""
    used = {
        _utils.BoxCoder: ["weights"],
        _utils.Matcher: ["high_threshold", "low_threshold", "allow_low_quality_matches"],
        _utils.BalancedPositiveNegativeSampler: ["batch_size_per_image", "positive_fraction"],
        _utils.BoxCoder.encode_single: ["self", "reference_boxes", "proposals"],
        _utils.BoxCoder.decode_single: ["self", "rel_codes", "boxes"],
    }
    for part, names in used.items():
        assert list(inspect.signature(part).parameters)[: len(names)] == names
    assert (_utils.Matcher.BELOW_LOW_THRESHOLD, _utils.Matcher.BETWEEN_THRESHOLDS) == (-1, -2)
