"""Our C4 and FPN models compute what Detectron2 computes: its own outputs, for weights made by rule."""

import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.detection.detector import Architecture, Detector
from plrc.detection.files import to_detectron2

VOC_C4 = Architecture(arch="resnet50", neck="c4", classes=tuple(map(str, range(20))))
COCO_FPN = Architecture(arch="resnet50", neck="fpn", classes=tuple(map(str, range(80))))
SIZE = (320, 416)


def weight(name: str, like: Tensor, architecture: Architecture) -> Tensor:
    """The value of Detectron2's tensor of that name, by the rule of ../shared/facts/detectron2.md."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "norm.weight")):
        return 1 + 0.2 * torch.rand(like.shape, generator=generator)
    if like.ndim == 1:
        return 0.1 * torch.randn(like.shape, generator=generator)
    value = torch.randn(like.shape, generator=generator) * (1 / like[0].numel()) ** 0.5
    if name.endswith(("anchor_deltas.weight", "bbox_pred.weight")):
        value *= 0.5
    if name.endswith("objectness_logits.weight"):
        value *= 2
    if name.endswith("cls_score.weight"):
        value *= 2 if architecture.neck == "c4" else 1.5
    if "fpn_output" in name and value.ndim == 4:
        value *= 0.02
    return value


def by_rule(architecture: Architecture) -> tuple[Detector, list[float]]:
    """The model with these weights, and the sums of its first five 4-d tensors by Detectron2's names."""
    model = Detector(architecture).eval()
    weights = {}
    for name, tensor in model.state_dict().items():
        theirs = to_detectron2(name, architecture.neck)
        assert theirs is not None, name
        weights[theirs] = (name, weight(theirs, tensor, architecture))
    model.load_state_dict(dict(weights.values()))
    filters = [weights[name][1] for name in sorted(weights) if weights[name][1].ndim == 4]
    return model, [float(value.double().sum()) for value in filters[:5]]


def agree(actual: Tensor, golden: Tensor) -> None:
    """To a relative 1e-4; values near 0 relative to the largest."""
    torch.testing.assert_close(actual, golden, rtol=1e-4, atol=1e-4 * float(golden.abs().max()))


@pytest.mark.parametrize(
    ("file", "architecture"),
    [("detectron2_golden_c4.npz", VOC_C4), ("detectron2_golden_fpn.npz", COCO_FPN)],
    ids=["c4", "fpn"],
)
def test_computes_what_detectron2_computes(file: str, architecture: Architecture, shared_data) -> None:
    golden = {name: torch.from_numpy(value) for name, value in np.load(shared_data(file, "facts")).items()}
    model, sums = by_rule(architecture)
    np.testing.assert_allclose(sums, golden["weight_check"], rtol=1e-6)
    if architecture.neck == "fpn":
        # Unlike what detectron2.md says, this file was made with Detectron2's default normalisation: the mean in the
        # order BGR and deviation 1, on the RGB picture. Features agree to 1e-6 so, and not at all otherwise.
        model.mean.copy_(model.mean.flip(0))
        model.std.fill_(1)
    image = F.interpolate(golden["image_small"][None], size=SIZE, mode="bilinear", align_corners=False)[0]

    with torch.inference_mode():
        features = model.features([image])
        shown = features[0] if architecture.neck == "c4" else features[1]
        agree(shown.mean(), golden["feature_mean"])
        agree(shown.std(), golden["feature_std"])
        agree(shown[0, :8, :6, :6], golden["feature_slice"])

        boxes, proposal_logits = model.rpn.propose(model.rpn(features), [SIZE])[0]
        torch.testing.assert_close(boxes[:50], golden["proposals"], rtol=0, atol=0.05)
        agree(proposal_logits[:50], golden["proposal_logits"])

        vectors = model.box_head(model.region_maps(features, [golden["fixed_boxes"]]))
        logits, deltas = model.box_predictor(vectors)
        agree(vectors[:, :16], golden["box_feature_slice"])
        agree(logits, golden["cls_logits"])
        agree(deltas, golden["box_deltas"])

        found = model([image])[0]
        assert torch.equal(found.labels[:30], golden["det_classes"])
        torch.testing.assert_close(found.boxes[:30], golden["det_boxes"], rtol=0, atol=0.05)
        agree(found.scores[:30], golden["det_scores"])
