"""A trunk that is not whole fails by the name of what is wrong, and other networks are called by theirs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fabricated import CASES, FC, KEY, QUERY, tensors_of, under

from plrc.backbones import Encoder
from plrc.pretrained import CheckpointError
from plrc.pretrained.finding import find
from plrc.pretrained.trunks import build_trunk


def built(content: Any, file: str = "dir/some.pth") -> str:
    """The architecture of a content, the way ``load`` goes without reading files."""
    found = find(content, file)
    return build_trunk(found.backbone, file, found.spelled)[0]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("damage", "lost"),
    [("removed", "conv1.weight"), ("renamed", "layer1.1.bn2.running_var"), ("shape", "layer4.0.downsample.0.weight")],
)
def test_a_trunk_that_is_not_whole_fails_by_name(name, damage, lost):
    case = CASES[name]()
    state = tensors_of(case)
    state.update({n: torch.as_tensor(t) for n, t in state.items()})  # what ``read`` makes of arrays
    assert built(case.content) == "resnet18"
    full = case.spell(lost)
    tensor = state.pop(full)
    expected = ["dir/some.pth", "resnet18", full]
    if damage == "renamed":
        state[f"{full}_x"] = tensor
        expected.append(f"{full}_x")
    if damage == "shape":
        state[full] = tensor[:-1]
        expected.append(f"{full} of shape {tuple(tensor[:-1].shape)} instead of {tuple(tensor.shape)}")
    with pytest.raises(CheckpointError) as error:
        built(case.content)
    assert all(part in str(error.value) for part in expected), str(error.value)


@pytest.mark.parametrize(
    "lost", ["bn1.weight", "layer2.0.conv1.weight", "layer3.1.bn1.bias", "layer4.1.bn2.running_mean"]
)
def test_wherever_the_tensor_is(lost):
    state = under("backbone.", QUERY)
    state["backbone.layer4.1.misnamed"] = state.pop(f"backbone.{lost}")
    with pytest.raises(CheckpointError, match=rf"lacks backbone\.{lost}; it has backbone\.layer4\.1\.misnamed"):
        built(state)


def test_what_is_lacking_is_counted():
    state = {name: t for name, t in QUERY.state_dict().items() if not name.startswith("layer3.1")}
    with pytest.raises(CheckpointError, match=r"looks like a resnet16 \(2-2-1-2 basic blocks\)"):
        built(state)
    state = {name: t for name, t in QUERY.state_dict().items() if not name.endswith("running_mean")}
    with pytest.raises(CheckpointError, match=r"some\.pth .*lacks bn1\.running_mean, .* and 16 more \(20 in all\)"):
        built(state)


def test_values_that_are_no_finite_numbers_are_found():
    state = {name: t.clone() for name, t in QUERY.state_dict().items()}
    state["layer2.0.conv1.weight"][0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"some\.pth has .* values in layer2\.0\.conv1\.weight: its training div"):
        built(state)
    state["layer2.0.conv1.weight"] = torch.zeros(128, 64, 3, 3, dtype=torch.int8)
    with pytest.raises(CheckpointError, match=r"no floating-point numbers in layer2\.0\.conv1\.weight"):
        built(state)


# ------------------------------------------------------------------------------------------------------ what is neither


def other_network(kind: str) -> Any:
    from torchvision import models

    if kind == "deep stem":
        state = under("", QUERY, ("conv1.",))
        return state | {f"conv1.{i}.weight": torch.zeros(32, 32, 3, 3) for i in (0, 3, 6)}
    if kind == "squeeze":
        return under("", QUERY) | {"layer1.0.se.fc1.weight": torch.zeros(4, 64, 1, 1)}
    with torch.device("meta"):
        network = {
            "152": models.resnet152, "wide": models.wide_resnet50_2, "next": models.resnext50_32x4d,
            "vgg": models.vgg11,
            "twice": models.resnet50,
        }[kind]()  # fmt: skip
    shapes = {name: list(t.shape) for name, t in network.state_dict().items()}
    if kind == "twice":
        shapes = {name: [d if d in (1, 3, 7) else 2 * d for d in shape] for name, shape in shapes.items()}
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("152", r"looks like a resnet152 \(3-8-36-3 bottlenecks\), and only resnet18, resnet34, .* can be loaded"),
        ("wide", r"looks like a resnet50 .* with wide bottlenecks \(wide_resnet50_2\)"),
        ("next", r"looks like a resnet50 .* with 32 groups \(ResNeXt-50 32×4d\)"),
        ("twice", r"looks like a resnet50 .* with channels × 2 \(resnet50w2\)"),
        ("squeeze", r"has layer1\.0\.se\.fc1\.weight, which a resnet18 has not"),
        ("deep stem", r"lacks conv1\.weight; it has conv1\.0\.weight, "),
        (
            "vgg",
            r"holds no residual network .*keys are features\.0\.weight, .*features\.\d+\* \(2\).*known are PLRC run",
        ),
    ],
)
def test_other_networks_are_called_by_their_names(kind, message):
    with pytest.raises(CheckpointError, match=message):
        built(other_network(kind))


def test_the_weights_are_copies():
    """A file stays mapped into memory as long as a tensor of it lives."""
    state = under("", QUERY, FC)
    _, trunk = build_trunk(state, "x.pth", str)
    own = {tensor.untyped_storage().data_ptr() for tensor in trunk.state_dict().values()}
    assert own.isdisjoint(tensor.untyped_storage().data_ptr() for tensor in state.values())


def test_an_unknown_prefix_is_no_obstacle_but_two_are():
    content = {"weights": under("student.net.", QUERY, FC)}
    assert built(content) == "resnet18"
    assert find(content, "x.pth").layout == "ResNet under student.net."
    with pytest.raises(CheckpointError, match=r"x\.pth holds several networks \(weights: a\.\*, weights: b\.\*\)"):
        find({"weights": under("a.", QUERY) | under("b.", KEY)}, "x.pth")


def test_the_tiny_trunk_is_known_by_its_tensors_alone():
    """As one that was exported is; another net of as many blocks is not."""
    state = {f"backbone.{name}": t for name, t in Encoder("tiny").backbone.state_dict().items()}
    assert built(state) == "tiny"
    state["backbone.layer2.0.conv1.weight"] = torch.zeros(96, 64, 3, 3)
    with pytest.raises(CheckpointError, match=r"layer2.0.conv1.weight.*96, 64, 3, 3"):
        built(state)
