"""Names of tensors, Detectron2 ↔ torchvision: every name of real models, and what is not of the backbone."""

import ast

import pytest
import torch
from torchvision.models import resnet

from plrc.pretrained.formats import DETECTRON2
from tests.pretrained.fabricated import detectron2_name

to_detectron2, to_torchvision = DETECTRON2.from_torchvision, DETECTRON2.to_torchvision


def backbone_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ResNet without the classifier."""
    with torch.device("meta"):
        state = getattr(resnet, arch)().state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.startswith("fc.")}


@pytest.mark.parametrize("model", ["r50_c4_mask_coco", "r50_c4_voc", "r50_fpn_mask_coco"])
def test_real_model_gives_exactly_torchvisions_backbone_and_the_way_back(model, shared_data):
    path = shared_data(f"detectron2_keys_{model}.txt", "facts")
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    there = {name: ast.literal_eval(shape) for name, shape in (line.split(" ", 1) for line in lines)}
    translated = {name: theirs for name in there if (theirs := to_torchvision(name)) is not None}
    assert len(set(translated.values())) == len(translated), "two tensors got one name"
    assert {theirs: there[name] for name, theirs in translated.items()} == backbone_shapes("resnet50")
    parts = ("proposal_generator.", "roi_heads.res5.norm.", "roi_heads.box_", "roi_heads.mask_head.", "backbone.fpn_")
    assert there.keys() - translated == {name for name in there if name.startswith(parts)}
    for name, theirs in translated.items():
        back = to_detectron2(theirs)
        assert name in (f"backbone.{back}", f"backbone.bottom_up.{back}", f"roi_heads.{back}")


@pytest.mark.parametrize("arch", ["resnet18", "resnet101"])
def test_every_tensor_of_every_backbone_is_called_as_mocos_converter_calls_it(arch):
    for name in backbone_shapes(arch):
        there = detectron2_name(name)
        assert to_detectron2(name) == there
        for prefix in ("", "backbone.", "backbone.bottom_up."):
            assert to_torchvision(prefix + there) == name
        in_a_head = name if name.startswith("layer4.") else None
        assert to_torchvision(f"roi_heads.{there}") == in_a_head, "a C4 head has the fifth stage"


NOT_DETECTRON2S = """
backbone.fpn_lateral2.weight roi_heads.box_head.fc1.weight roi_heads.res5.norm.weight res3.0.conv2_offset.weight
res1.0.conv1.weight res6.0.conv1.weight res2.0.conv4.weight res2.0.conv1.bias res2.00.conv1.weight stem.conv2.weight
stem.conv1.norm.weight.more more.stem.conv1.weight conv1.weight"""
NOT_TORCHVISIONS = """
fc.weight conv2.weight bn3.bias downsample.0.weight layer0.0.conv1.weight layer5.0.conv1.weight layer1.0.conv1.bias
layer1.conv1.weight layer1.0.downsample.2.weight module.conv1.weight stem.conv1.weight"""


def test_names_that_are_not_of_a_backbone():
    assert [name for name in ["", *NOT_DETECTRON2S.split()] if to_torchvision(name)] == []
    assert [name for name in ["", *NOT_TORCHVISIONS.split()] if to_detectron2(name)] == []
