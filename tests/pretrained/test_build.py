"""A backbone that is not whole fails by the name of what is wrong; heads work at every position of a map."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from plrc.pretrained import CheckpointError
from plrc.pretrained.build import HeadNotUnderstood, arch_of, build_head, filled, skeleton
from plrc.pretrained.formats import find
from plrc.registry import BACKBONES
from tests.pretrained.fabricated import CASES, FC, KEY, QUERY, WIDTH, at_every_position, mlp, tensors_of, under


def built(content: Any, file: str = "dir/some.pth") -> str:
    """The architecture of a content, the way ``load`` goes without reading files."""
    found = find(content, file)
    arch = arch_of(found.backbone, file)
    return filled(skeleton(arch), found.backbone, file, found.spelled).name


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("damage", "lost"),
    [("removed", "conv1.weight"), ("renamed", "layer1.0.bn2.running_var"), ("shape", "layer4.0.downsample.0.weight")],
)
def test_a_trunk_that_is_not_whole_fails_by_name(name, damage, lost):
    case = CASES[name]()
    state = tensors_of(case)
    state.update({n: torch.as_tensor(t) for n, t in state.items()})  # what ``read`` makes of arrays
    assert built(case.content) == "small"
    full = case.spell(lost)
    tensor = state.pop(full)
    expected = ["dir/some.pth", "small", full]
    if damage == "renamed":
        state[f"{full}_x"] = tensor
        expected.append(f"{full}_x")
    if damage == "shape":
        state[full] = tensor[:-1]
        expected.append(f"{full} of shape {tuple(tensor[:-1].shape)} instead of {tuple(tensor.shape)}")
    with pytest.raises(CheckpointError) as error:
        built(case.content)
    assert all(part in str(error.value) for part in expected), str(error.value)


def test_what_is_lacking_is_counted():
    state = {name: t for name, t in QUERY.state_dict().items() if not name.startswith("layer3.0")}
    with pytest.raises(CheckpointError, match=r"residual network of 1-1-1 basic blocks of 8, .*small; .*timm:NAME@F"):
        built(state)
    state = {name: t for name, t in QUERY.state_dict().items() if not name.endswith("running_mean")}
    with pytest.raises(CheckpointError, match=r"lacks bn1\.running_mean, .* and 9 more \(13 in all\); save it anew"):
        built(state)


def test_values_that_are_no_finite_numbers_are_found():
    state = {name: t.clone() for name, t in QUERY.state_dict().items()}
    state["layer2.0.conv1.weight"][0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"some\.pth has .* values in layer2\.0\.conv1\.weight: its training div"):
        built(state)
    state["layer2.0.conv1.weight"] = torch.zeros(16, 8, 3, 3, dtype=torch.int8)
    with pytest.raises(CheckpointError, match=r"no floating-point numbers in layer2\.0\.conv1\.weight"):
        built(state)


# ------------------------------------------------------------------------------------------------------ what is neither


OTHERS = {
    "squeeze": (
        lambda: under("", QUERY) | {"layer1.0.se.fc1.weight": torch.zeros(4, 8, 1, 1)},
        r"has layer1\.0\.se\.fc1\.weight, which a small has not; if it is another network .*timm:NAME@FILE",
    ),
    "deep stem": (
        lambda: under("", QUERY, ("conv1.",)) | {f"conv1.{i}.weight": torch.zeros(4, 4, 3, 3) for i in (0, 3, 6)},
        r"lacks conv1\.weight; it has conv1\.0\.weight, .*timm:NAME@FILE",
    ),
    "grey": (
        lambda: under("", QUERY) | {"conv1.weight": torch.zeros(8, 1, 7, 7)},
        r"has conv1\.weight of shape \(8, 1, 7, 7\) instead of \(8, 3, 7, 7\); if it is another network",
    ),
    "VGG": (
        lambda: {f"features.{i}.{kind}": torch.zeros(3) for i in range(0, 30, 2) for kind in ("weight", "bias")},
        r"holds no network .*: its keys are features\.0\.weight, .*features\.\d+\* \(2\).*known are PLRC run",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_networks_are_told_apart(kind):
    make, message = OTHERS[kind]
    with pytest.raises(CheckpointError, match=message):
        built(make())


def test_the_weights_are_copies():
    """A file stays mapped into memory as long as a tensor of it lives."""
    state = under("", QUERY, FC)
    trunk = filled(skeleton("small"), state, "x.pth", str)
    own = {tensor.untyped_storage().data_ptr() for tensor in trunk.state_dict().values()}
    assert own.isdisjoint(tensor.untyped_storage().data_ptr() for tensor in state.values())


def test_an_unknown_prefix_is_no_obstacle_but_two_are():
    content = {"weights": under("student.net.", QUERY, FC)}
    assert built(content) == "small"
    assert find(content, "x.pth").format == "network under student.net."
    with pytest.raises(CheckpointError, match=r"x\.pth holds several networks \(weights: a\.\*, weights: b\.\*\)"):
        find({"weights": under("a.", QUERY) | under("b.", KEY)}, "x.pth")


def test_every_form_in_the_registry_is_that_of_its_network():
    for name, entry in BACKBONES.items():
        if "form" in entry.traits:
            assert arch_of(skeleton(name).state_dict(), "x.pth") == name


# ---------------------------------------------------------------------------------------------------------------- heads

MAPS = torch.randn(2, WIDTH, 2, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layers", ["LRL", "LBRL", "lBRlb", "LGL", "LBRLBRL", "lb", "LL", "LBLBRL"])
def test_every_position_gets_what_its_vector_would(layers):
    count = layers.lower().count("l")
    head = mlp(layers, sizes=(WIDTH, *(40, 24, 16)[:count]))
    before = torch.random.get_rng_state()
    built = build_head(head.state_dict(), WIDTH, nn.GELU if "G" in layers else nn.ReLU)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not built.training
    with torch.no_grad():
        known = at_every_position(head, MAPS)
        torch.testing.assert_close(built(MAPS), known, rtol=1e-5, atol=1e-5)
        unit = build_head(head.state_dict(), WIDTH, nn.GELU if "G" in layers else nn.ReLU, normalised=True)(MAPS)
    torch.testing.assert_close(unit, known / known.norm(dim=1, keepdim=True), rtol=1e-5, atol=1e-5)


def test_one_layer_and_layers_with_names():
    head = mlp("LBRL")
    state = head.state_dict()
    single = {"weight": state["0.weight"], "bias": state["0.bias"]}
    torch.testing.assert_close(build_head(single, WIDTH)(MAPS), at_every_position(head[0], MAPS), rtol=1e-5, atol=1e-5)
    names = {"0": "linear1", "1": "bn1", "3": "linear2"}
    named = {names[name[0]] + name[1:]: t for name, t in state.items()}
    built = build_head(named, WIDTH, slots=("linear1", "bn1", "", "linear2"))
    torch.testing.assert_close(built(MAPS), at_every_position(head, MAPS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"0.weight": None}, "0 has bias, which is no linear layer"),
        ({"0.weight": (48, 65)}, r"0 has a weight of \(48, 65\), which does not fit 64 channels"),
        ({"0.weight": (48, WIDTH, 3, 3)}, r"0 has a weight of \(48, 64, 3, 3\), which is no linear layer"),
        ({"1.running_mean": (47,)}, "1 is a BatchNorm that does not fit 48 channels"),
        ({"1.bias": None}, "1 has .*, which is no BatchNorm"),
        ({"1.running_var": None}, "1 has .*, which is no BatchNorm"),
        ({"3.weight_g": (32, 1)}, "3 has bias, weight, weight_g, which is no linear layer"),
        ({"last.weight": (3, 32)}, "last has no place in an order of layers"),
        ({"6.weight": (3, 32), "6.bias": (3,)}, "layers without tensors come first, or two in a row"),
        (dict.fromkeys(("0.weight", "0.bias", "3.weight", "3.bias")), "layers without tensors come first"),
    ],
)
def test_what_is_not_understood_is_not_guessed(changes, reason):
    state = mlp("LBRL").state_dict()
    for name, shape in changes.items():
        if shape is None:
            del state[name]
        else:
            state[name] = torch.zeros(shape)
    with pytest.raises(HeadNotUnderstood, match=reason):
        build_head(state, WIDTH)


def test_heads_with_names_without_a_layer_and_diverged_are_not_understood():
    one = {"linear1.weight": torch.zeros(4, WIDTH)}
    two = one | {"linear3.weight": torch.zeros(2, 4)}
    for state, slots, reason in (
        (one, ("linear1", "", "linear2"), "linear2 is missing"),
        (two, ("linear1",), "linear3 is not known"),
        (nn.BatchNorm1d(WIDTH).state_dict(), (), "it has no linear layer"),
        ({"0.weight": torch.full((4, WIDTH), torch.nan)}, (), "its weight has infinite or undefined values"),
    ):
        with pytest.raises(HeadNotUnderstood, match=reason):
            build_head(state, WIDTH, slots=slots)
