"""Heads of vectors, applied at every position of a map, from what a checkpoint keeps of them."""

from __future__ import annotations

import pytest
import torch
from fabricated import WIDTH, at_every_position, mlp
from torch import nn

from plrc.pretrained.heads import HeadNotUnderstood, build_head

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


def test_the_weights_are_copies():
    state = mlp("LRL").state_dict()
    built = build_head(state, WIDTH)
    state["0.weight"].zero_()
    assert built[0].weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"0.weight": None}, "0 has bias, which is no linear layer"),
        ({"0.weight": (48, 513)}, r"0 has a weight of \(48, 513\), which does not fit 512 channels"),
        ({"0.weight": (48, WIDTH, 3, 3)}, r"0 has a weight of \(48, 512, 3, 3\), which is no linear layer"),
        ({"0.bias": (47,)}, "0 has a weight of .* which does not fit"),
        ({"1.running_mean": (47,)}, "1 is a BatchNorm that does not fit 48 channels"),
        ({"1.bias": None}, "1 has .*, which is no BatchNorm"),
        ({"1.running_var": None}, "1 has .*, which is no BatchNorm"),
        ({"3.weight_g": (32, 1)}, "3 has bias, weight, weight_g, which is no linear layer"),
        ({"last.weight": (3, 32)}, "last has no place in an order of layers"),
        ({"6.weight": (3, 32), "6.bias": (3,)}, "layers without tensors come first, or two in a row"),
        ({"0.weight": None, "0.bias": None}, "layers without tensors come first, or two in a row"),
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


def test_named_layers_must_all_be_there():
    with pytest.raises(HeadNotUnderstood, match="linear2 is missing"):
        build_head({"linear1.weight": torch.zeros(4, WIDTH)}, WIDTH, slots=("linear1", "", "linear2"))
    with pytest.raises(HeadNotUnderstood, match="linear3 is not known"):
        build_head(
            {"linear1.weight": torch.zeros(4, WIDTH), "linear3.weight": torch.zeros(2, 4)}, WIDTH, slots=("linear1",)
        )


def test_norms_alone_are_no_head():
    norm = nn.BatchNorm1d(WIDTH).state_dict()
    with pytest.raises(HeadNotUnderstood, match="it has no linear layer"):
        build_head(norm, WIDTH)


def test_a_diverged_head_is_no_head():
    state = mlp("LBRL").state_dict()
    state["3.weight"][0, 0] = torch.nan
    with pytest.raises(HeadNotUnderstood, match="its weight has infinite or undefined values"):
        build_head(state, WIDTH)
