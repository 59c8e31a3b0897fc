"""Names of tensors, Detectron2 ↔ torchvision: every name of real models, and what is not of the trunk."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet

from plrc.pretrained.names import DETECTRON2

to_detectron2, to_torchvision = DETECTRON2.from_torchvision, DETECTRON2.to_torchvision

KEY_LISTS = (
    "detectron2_keys_r50_c4_mask_coco.txt",
    "detectron2_keys_r50_c4_voc.txt",
    "detectron2_keys_r50_fpn_mask_coco.txt",
)


def trunk_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ResNet without the classifier."""
    with torch.device("meta"):
        state = getattr(resnet, arch)().state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.startswith("fc.")}


def listed(file: str) -> dict[str, tuple[int, ...]]:
    path = Path(__file__).resolve().parents[3] / "shared" / "facts" / file
    if not path.is_file():
        pytest.skip(f"../shared/facts/{file} is missing: the names of real Detectron2 models")
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name: ast.literal_eval(shape) for name, shape in (line.split(" ", 1) for line in lines)}


@pytest.mark.parametrize("file", KEY_LISTS)
def test_real_model_gives_exactly_torchvisions_trunk_with_its_shapes(file: str) -> None:
    there = listed(file)
    translated = {name: to_torchvision(name) for name in there}
    found = {theirs: there[name] for name, theirs in translated.items() if theirs is not None}
    assert len(found) == sum(theirs is not None for theirs in translated.values()), "two tensors got one name"
    assert found == trunk_shapes("resnet50")


@pytest.mark.parametrize("file", KEY_LISTS)
def test_what_is_left_of_a_real_model_is_no_part_of_a_resnet(file: str) -> None:
    left = {name for name in listed(file) if to_torchvision(name) is None}
    parts = ("proposal_generator.", "roi_heads.res5.norm.", "roi_heads.box_", "roi_heads.mask_head.", "backbone.fpn_")
    assert left == {name for name in listed(file) if name.startswith(parts)}


@pytest.mark.parametrize("file", KEY_LISTS)
def test_way_back_gives_the_real_name_without_its_prefix(file: str) -> None:
    for name in listed(file):
        theirs = to_torchvision(name)
        if theirs is not None:
            back = to_detectron2(theirs)
            assert back is not None
            assert name in (f"backbone.{back}", f"backbone.bottom_up.{back}", f"roi_heads.{back}")


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_every_tensor_of_every_trunk_goes_there_and_back(arch: str) -> None:
    names = list(trunk_shapes(arch))
    there = [to_detectron2(name) for name in names]
    assert None not in there
    assert len(set(there)) == len(names)
    assert [to_torchvision(name) for name in there if name] == names


# One of each kind, written out: a rule that is wrong in the same way in both directions would pass the tests above.
PAIRS = [
    ("conv1.weight", "stem.conv1.weight"),
    ("bn1.running_var", "stem.conv1.norm.running_var"),
    ("bn1.num_batches_tracked", "stem.conv1.norm.num_batches_tracked"),
    ("layer1.0.conv1.weight", "res2.0.conv1.weight"),
    ("layer1.0.bn1.weight", "res2.0.conv1.norm.weight"),
    ("layer1.0.downsample.0.weight", "res2.0.shortcut.weight"),
    ("layer2.0.downsample.1.bias", "res3.0.shortcut.norm.bias"),
    ("layer3.22.bn3.running_mean", "res4.22.conv3.norm.running_mean"),
    ("layer4.2.conv2.weight", "res5.2.conv2.weight"),
]


@pytest.mark.parametrize(("torchvision", "detectron2"), PAIRS)
def test_one_of_each_kind(torchvision: str, detectron2: str) -> None:
    assert to_detectron2(torchvision) == detectron2
    assert to_torchvision(detectron2) == torchvision
    assert to_torchvision(f"backbone.{detectron2}") == torchvision
    assert to_torchvision(f"backbone.bottom_up.{detectron2}") == torchvision


def test_fifth_stage_of_a_c4_head_is_of_the_trunk_and_its_appended_norm_is_not() -> None:
    assert to_torchvision("roi_heads.res5.0.shortcut.norm.weight") == "layer4.0.downsample.1.weight"
    assert to_torchvision("roi_heads.res5.norm.weight") is None


@pytest.mark.parametrize(
    "name",
    [
        "backbone.fpn_lateral2.weight",
        "backbone.fpn_output5.norm.bias",
        "proposal_generator.rpn_head.conv.weight",
        "roi_heads.box_head.fc1.weight",
        "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.mask_head.predictor.bias",
        "roi_heads.stem.conv1.weight",  # only the fifth stage may lie there
        "roi_heads.res4.0.conv1.weight",
        "backbone.linear.weight",
        "res3.0.conv2_offset.weight",  # of deformable convolutions
        "res1.0.conv1.weight",
        "res6.0.conv1.weight",
        "res2.0.conv4.weight",
        "res2.0.conv1.bias",  # a ResNet with BatchNorm has none
        "res2.00.conv1.weight",
        "stem.conv2.weight",
        "stem.conv1.norm.weight.more",
        "more.stem.conv1.weight",
        "conv1.weight",  # torchvision's
        "layer1.0.conv1.weight",
        "",
    ],
)
def test_names_that_are_not_of_detectron2s_trunk(name: str) -> None:
    assert to_torchvision(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "fc.weight",
        "fc.bias",
        "projector.0.weight",
        "conv2.weight",  # before the stages there is only conv1
        "bn3.bias",
        "downsample.0.weight",
        "layer0.0.conv1.weight",
        "layer5.0.conv1.weight",
        "layer1.0.conv1.bias",
        "layer1.conv1.weight",
        "layer1.0.downsample.2.weight",
        "module.conv1.weight",
        "stem.conv1.weight",  # Detectron2's
        "",
    ],
)
def test_names_that_are_not_of_torchvisions_trunk(name: str) -> None:
    assert to_detectron2(name) is None
