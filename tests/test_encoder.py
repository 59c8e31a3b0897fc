"""plrc.encoder: torchvision's names, the promised shapes, and what the weights start from."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from plrc.encoder import ARCHITECTURES, Encoder

RESNETS = [name for name in ARCHITECTURES if name != "tiny"]


def trunk_without_memory(arch: str) -> nn.Module:
    with torch.device("meta"):
        return Encoder(arch).trunk


def test_which_architectures_there_are():
    assert ARCHITECTURES == ("tiny", "resnet18", "resnet34", "resnet50", "resnet101")


@pytest.mark.parametrize("arch", RESNETS)
def test_trunks_carry_torchvisions_names_and_shapes(arch):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, arch)().state_dict()
    expected = {name: value.shape for name, value in theirs.items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in trunk_without_memory(arch).state_dict().items()} == expected


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_torchvisions_weights_give_torchvisions_features(arch):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, arch)().eval()
    ours = Encoder(arch).trunk.eval()
    missing = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == ([], ["fc.weight", "fc.bias"])
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled = ours(images).mean(dim=(2, 3))
        torch.testing.assert_close(theirs.fc(pooled), theirs(images))


@pytest.mark.parametrize(
    ("arch", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)),
        ("resnet34", (64, 128, 256, 512)),
        ("resnet50", (256, 512, 1024, 2048)),
        ("resnet101", (256, 512, 1024, 2048)),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 33)])
def test_maps_of_resnets(arch, channels, height, width):
    trunk = trunk_without_memory(arch)
    images = torch.empty(2, 3, height, width, device="meta")
    maps = trunk.layers(images)
    assert list(maps) == ["c2", "c3", "c4", "c5"]
    for (name, value), c, stride in zip(maps.items(), channels, (4, 8, 16, 32), strict=True):
        assert value.shape == (2, c, -(-height // stride), -(-width // stride)), name
    assert trunk(images).shape == maps["c5"].shape
    assert (trunk.channels, trunk.stride) == (channels[-1], 32)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 33)])
def test_maps_of_the_tiny_net(height, width):
    trunk = Encoder("tiny").trunk
    images = torch.randn(2, 3, height, width)
    maps = trunk.layers(images)
    assert {name: value.shape for name, value in maps.items()} == {
        "c2": (2, 64, -(-height // 4), -(-width // 4)),
        "c3": (2, 128, -(-height // 8), -(-width // 8)),
    }
    assert (trunk.channels, trunk.stride) == (128, 8)
    assert trunk(images).shape == maps["c3"].shape


def test_the_tiny_net_has_about_a_million_parameters():
    assert 0.8e6 < sum(p.numel() for p in Encoder("tiny").parameters()) < 1.4e6


@pytest.mark.parametrize("arch", ["tiny", "resnet18", "resnet50"])
def test_the_blocks_of_a_resnet_start_as_their_shortcuts(arch):
    """The last BatchNorm γ of each residual block starts at 0 (not in the tiny net), every other one at 1."""
    last = {}
    trunk = Encoder(arch).trunk
    for module in trunk.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            norm = module.bn3 if isinstance(module, Bottleneck) else module.bn2
            last[id(norm)] = norm
    assert len(last) == {"tiny": 5, "resnet18": 8, "resnet50": 16}[arch]
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            zero = id(module) in last and arch != "tiny"
            assert (module.weight == (0.0 if zero else 1.0)).all()


@pytest.mark.parametrize(("arch", "dim"), [("tiny", 128), ("tiny", 32), ("resnet18", 64)])
def test_the_projector_works_at_every_position(arch, dim):
    torch.manual_seed(0)
    encoder = Encoder(arch, dim).eval()
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        features = encoder.trunk(images)
        z = encoder(images)
        assert z.shape == (2, dim, *features.shape[2:])
        first, second = encoder.projector[0], encoder.projector[2]
        vector = features[1, :, 1, 0]
        hidden = (first.weight.flatten(1) @ vector + first.bias).clamp(min=0)
        by_hand = second.weight.flatten(1) @ hidden + second.bias
    torch.testing.assert_close(z[1, :, 1, 0], by_hand, rtol=1e-4, atol=1e-5)


def test_the_projector_of_resnet50_has_the_released_shapes():
    with torch.device("meta"):
        projector = Encoder("resnet50").projector
    assert [tuple(p.shape) for p in projector.parameters()] == [(2048, 2048, 1, 1), (2048,), (128, 2048, 1, 1), (128,)]


def test_an_unknown_architecture_is_refused_with_the_choice():
    with pytest.raises(
        ValueError, match=r"unknown architecture 'resnet52'.*tiny, resnet18, resnet34, resnet50, resnet101"
    ):
        Encoder("resnet52")
