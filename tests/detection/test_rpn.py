"""Region proposal network: losses against a plain loop, and which proposals are kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from plrc.detection.rpn import SAMPLES, Level, Limits, Prediction, RegionProposalNetwork
from plrc.detection.target import Target

SIZES = [(96, 128), (80, 90)]


@pytest.fixture
def network() -> RegionProposalNetwork:
    torch.manual_seed(0)
    levels = [Level(8, (24,)), Level(16, (48,))]
    return RegionProposalNetwork(4, levels, training=Limits(200, 50), testing=Limits(100, 20))


def predicted(network: RegionProposalNetwork, spread: float = 1.0, rows: int = 6) -> Prediction:
    """Of two pictures: random logits and deltas."""
    prediction = network([torch.rand(2, 4, 2 * rows, 16), torch.rand(2, 4, rows, 8)])
    prediction.logits = [spread * torch.randn_like(x) for x in prediction.logits]
    prediction.deltas = [0.1 * torch.randn_like(x) for x in prediction.deltas]
    return prediction


def targets() -> list[Target]:
    one = Target(torch.tensor([[10.0, 12, 40, 30], [60, 20, 110, 90], [3, 3, 7, 6]]), torch.tensor([0, 1, 0]))
    return [one, Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))]


@pytest.mark.parametrize("rows", [6, 2])
def test_losses_equal_a_plain_loop(network: RegionProposalNetwork, rows: int) -> None:
    """Two rows have fewer anchors than are to be sampled, which divides the sums none the less."""
    prediction = predicted(network, rows=rows)
    anchors, logits, deltas = (
        torch.cat(prediction.anchors),
        torch.cat(prediction.logits, 1),
        torch.cat(prediction.deltas, 1),
    )
    matches = [network._match(anchors, target.boxes) for target in targets()]
    torch.manual_seed(1)
    losses = network.losses(prediction, targets())
    torch.manual_seed(1)
    picked, rest = network.sampler([torch.where(m >= 0, 1, m + 1) for m in matches])
    objectness, box = 0.0, 0.0
    for i, target in enumerate(targets()):
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
    assert float(losses["rpn_objectness"]) == pytest.approx(objectness / (2 * SAMPLES), rel=1e-5)
    assert float(losses["rpn_box"]) == pytest.approx(box / (2 * SAMPLES), rel=1e-5)


def test_half_of_the_sampled_anchors_are_objects_at_most(network: RegionProposalNetwork) -> None:
    prediction = predicted(network)
    on, off = torch.tensor([10.0, 10, 40, 40]), torch.tensor([60.0, 60, 90, 90])
    prediction.anchors = [on.expand(576, 4), off.expand(144, 4)]
    prediction.logits = [torch.zeros(2, 576), torch.full((2, 144), -50.0)]
    target = Target(on[None], torch.tensor([0]))
    loss = network.losses(prediction, [target, target])["rpn_objectness"]
    # The half that is an object is undecided, the other half is right.
    assert float(loss) == pytest.approx(math.log(2) / 2)


def test_every_object_has_an_anchor_and_the_thresholds_are_detectron2s(network: RegionProposalNetwork) -> None:
    anchors, boxes = torch.cat(predicted(network).anchors), targets()[0].boxes
    match, overlap = network._match(anchors, boxes), box_iou(boxes, anchors)
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
        for i, (found, (height, width)) in enumerate(zip(network.propose(prediction, SIZES), SIZES, strict=True)):
            assert len(found.boxes) == limit
            assert (found.logits.diff() <= 0).all()
            if i == 0:  # of the smaller picture the best may lie in its padding
                assert found.logits[0] == max(level[0].max() for level in prediction.logits)
            assert found.boxes.min() >= 0
            assert (found.boxes[:, 2:] <= torch.tensor([width, height])).all()
            assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


def test_levels_are_limited_and_suppressed_apart(network: RegionProposalNetwork) -> None:
    network.limits[False] = Limits(before=2, after=50)
    prediction = predicted(network.eval())
    # The same box is the best of both levels: each keeps it. Its second on a level overlaps the first.
    box = torch.tensor([[10.0, 10, 60, 60]])
    prediction.anchors = [box.expand(x.shape[1], 4) for x in prediction.logits]
    prediction.deltas = [torch.zeros_like(x) for x in prediction.deltas]
    for found in network.propose(prediction, SIZES):
        torch.testing.assert_close(found.boxes, box.expand(2, 4))


def test_what_is_not_finite_stops_training_and_is_left_out_in_testing(network: RegionProposalNetwork) -> None:
    prediction = predicted(network)
    best = prediction.logits[0][0].argmax()
    prediction.deltas[0][0, best] = torch.nan
    with pytest.raises(ValueError, match="lower the learning rate"):
        network.propose(prediction, SIZES)
    for found in network.eval().propose(prediction, SIZES):
        assert found.boxes.isfinite().all()


def test_head_says_the_same_of_an_anchor_in_any_memory_format(network: RegionProposalNetwork) -> None:
    def flat(prediction: Prediction) -> Tensor:
        return torch.cat((torch.cat(prediction.logits, 1)[..., None], torch.cat(prediction.deltas, 1)), 2)

    features = [torch.rand(2, 4, 12, 16), torch.rand(2, 4, 6, 8)]
    plain = network(features)
    last = network.to(memory_format=torch.channels_last)([x.to(memory_format=torch.channels_last) for x in features])
    torch.testing.assert_close(flat(last), flat(plain))
    # Channel a of the head is anchor a of the cell, channels 4a … 4a + 3 its box.
    logits, deltas = network.head(features)
    torch.testing.assert_close(plain.logits[1][1, (2 * 8 + 5) * 3 + 2], logits[1][1, 2, 2, 5])
    torch.testing.assert_close(plain.deltas[1][1, (2 * 8 + 5) * 3 + 2], deltas[1][1, 8:12, 2, 5])
