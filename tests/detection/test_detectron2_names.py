"""Names of a detector's tensors, Detectron2 ↔ here: complete lists of real models, and every kind of design."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from plrc.detection.design import Design
from plrc.detection.detector import Detector
from plrc.detection.detectron2 import from_detectron2, to_detectron2


def classes(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


C4 = Design(arch="resnet50", neck="c4", classes=classes(20))
FPN = Design(arch="resnet50", neck="fpn", classes=classes(80), masks=True)
NORMALISED = Design(arch="resnet18", neck="fpn", classes=classes(3), masks=True, head_norm=True)
REAL = {
    "detectron2_keys_r50_c4_voc.txt": C4,
    "detectron2_keys_r50_c4_mask_coco.txt": Design(arch="resnet50", neck="c4", classes=classes(80), masks=True),
    "detectron2_keys_r50_fpn_mask_coco.txt": FPN,
}

Shapes = dict[str, tuple[int, ...]]


def shapes_of(design: Design) -> Shapes:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Detector(design).state_dict().items()}


def listed(file: str) -> Shapes:
    path = Path(__file__).resolve().parents[3] / "shared" / "facts" / file
    if not path.is_file():
        pytest.skip(f"../shared/facts/{file} is missing: the names of real Detectron2 models")
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name: ast.literal_eval(shape) for name, shape in (line.split(" ", 1) for line in lines)}


@pytest.mark.parametrize(("file", "design"), REAL.items(), ids=[file.split("keys_")[1][:-4] for file in REAL])
def test_real_model_is_the_detector_tensor_by_tensor_both_ways(file: str, design: Design) -> None:
    there, here = listed(file), shapes_of(design)
    assert {to_detectron2(name, design): shape for name, shape in here.items()} == there
    assert {from_detectron2(name, design): shape for name, shape in there.items()} == here
    assert all(from_detectron2(to_detectron2(name, design) or "", design) == name for name in here)


@pytest.mark.parametrize("design", [NORMALISED, Design(arch="resnet18", neck="c4", classes=("a",), masks=True)])
def test_every_tensor_of_other_designs_goes_there_and_back(design: Design) -> None:
    names = list(shapes_of(design))
    there = [to_detectron2(name, design) for name in names]
    assert None not in there
    assert len(set(there)) == len(names)
    assert [from_detectron2(name or "", design) for name in there] == names


# One of each kind, written out: two names that are swapped in both directions and have one shape would pass above.
PAIRS = [
    (C4, "backbone.conv1.weight", "backbone.stem.conv1.weight"),
    (C4, "backbone.layer3.0.downsample.1.bias", "backbone.res4.0.shortcut.norm.bias"),
    (C4, "backbone.layer4.2.bn1.running_var", "roi_heads.res5.2.conv1.norm.running_var"),
    (C4, "box_norm.running_mean", "roi_heads.res5.norm.running_mean"),
    (C4, "rpn.head.conv.0.0.bias", "proposal_generator.rpn_head.conv.bias"),
    (C4, "rpn.head.cls_logits.weight", "proposal_generator.rpn_head.objectness_logits.weight"),
    (C4, "rpn.head.bbox_pred.weight", "proposal_generator.rpn_head.anchor_deltas.weight"),
    (C4, "box_predictor.cls_score.bias", "roi_heads.box_predictor.cls_score.bias"),
    (C4, "box_predictor.bbox_pred.bias", "roi_heads.box_predictor.bbox_pred.bias"),
    (FPN, "backbone.layer4.0.conv2.weight", "backbone.bottom_up.res5.0.conv2.weight"),
    (FPN, "neck.inner_blocks.0.0.weight", "backbone.fpn_lateral2.weight"),
    (FPN, "neck.inner_blocks.3.1.num_batches_tracked", "backbone.fpn_lateral5.norm.num_batches_tracked"),
    (FPN, "neck.layer_blocks.1.1.weight", "backbone.fpn_output3.norm.weight"),
    (FPN, "box_head.fc6.bias", "roi_heads.box_head.fc1.bias"),
    (FPN, "box_head.fc7.bias", "roi_heads.box_head.fc2.bias"),
    (FPN, "mask_head.0.0.bias", "roi_heads.mask_head.mask_fcn1.bias"),
    (FPN, "mask_head.3.0.weight", "roi_heads.mask_head.mask_fcn4.weight"),
    (FPN, "mask_predictor.conv5_mask.weight", "roi_heads.mask_head.deconv.weight"),
    (FPN, "mask_predictor.mask_fcn_logits.bias", "roi_heads.mask_head.predictor.bias"),
    (NORMALISED, "box_head.0.0.weight", "roi_heads.box_head.conv1.weight"),
    (NORMALISED, "box_head.3.1.bias", "roi_heads.box_head.conv4.norm.bias"),
    (NORMALISED, "box_head.5.weight", "roi_heads.box_head.fc1.weight"),
    (NORMALISED, "mask_head.2.1.running_mean", "roi_heads.mask_head.mask_fcn3.norm.running_mean"),
]


@pytest.mark.parametrize(("design", "here", "there"), PAIRS, ids=[pair[1] for pair in PAIRS])
def test_one_of_each_kind(design: Design, here: str, there: str) -> None:
    assert to_detectron2(here, design) == there
    assert from_detectron2(there, design) == here


@pytest.mark.parametrize(
    ("design", "name"),
    [
        (C4, "backbone.bottom_up.stem.conv1.weight"),  # of the other neck
        (C4, "backbone.res5.0.conv1.weight"),
        (C4, "backbone.fpn_lateral2.weight"),
        (C4, "roi_heads.mask_head.deconv.weight"),  # of a design with masks
        (C4, "stem.conv1.weight"),  # of a trunk's file
        (FPN, "backbone.stem.conv1.weight"),
        (FPN, "roi_heads.res5.0.conv1.weight"),
        (FPN, "roi_heads.res5.norm.weight"),
        (FPN, "roi_heads.box_head.conv1.weight"),  # of a normalised head
        (FPN, "roi_heads.mask_head.mask_fcn1.norm.weight"),
        (NORMALISED, "roi_heads.box_head.fc2.weight"),
        (FPN, "pixel_mean"),
        (FPN, "backbone.conv1.weight"),  # ours
    ],
)
def test_names_that_are_not_of_the_design_in_detectron2(design: Design, name: str) -> None:
    assert from_detectron2(name, design) is None


@pytest.mark.parametrize(
    "name", ["conv1.weight", "backbone.fc.weight", "mean", "box_norm.weight", "box_head.fc8.weight"]
)
def test_names_that_are_not_of_the_design_here(name: str) -> None:
    assert to_detectron2(name, FPN) is None


def test_detectron2_has_no_tiny_network() -> None:
    tiny = Design(arch="tiny", neck="fpn", classes=("a",))
    assert {to_detectron2(name, tiny) for name in shapes_of(tiny)} == {None}
    assert from_detectron2("roi_heads.box_head.fc1.weight", tiny) is None
