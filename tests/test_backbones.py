"""plrc.backbones: one interface, the promised maps, libraries' names, and what the weights start from."""

import sys

import pytest
import torch
import torchvision
from torch import nn

from plrc.backbones import Backbone, Encoder, build
from plrc.registry import BACKBONES

RESNETS = [name for name in BACKBONES if "resne" in name]
STAGES = ("c2", "c3", "c4", "c5")
# name → layers, strides, channels
TIMM = {
    "convnext_atto": (STAGES, (4, 8, 16, 32), (40, 80, 160, 320)),
    "timm:resnet18": (STAGES, (4, 8, 16, 32), (64, 128, 256, 512)),
    "resnet18d": (STAGES, (4, 8, 16, 32), (64, 128, 256, 512)),
    "regnety_002": (STAGES, (4, 8, 16, 32), (24, 56, 152, 368)),
    "swin_tiny_patch4_window7_224": (STAGES, (4, 8, 16, 32), (96, 192, 384, 768)),
    "vit_small_patch14_dinov2": (("block2", "block5", "block8", "block11"), (14,) * 4, (384,) * 4),
    "vit_small_patch16_dinov3": (("block2", "block5", "block8", "block11"), (16,) * 4, (384,) * 4),
}


def without_memory(name: str) -> Backbone:
    with torch.device("meta"):
        return build(name)


def assert_promised(backbone: Backbone, height: int, width: int, device: str = "cpu") -> None:
    images = torch.zeros(2, 3, height, width, device=device)
    maps = backbone.maps(images)
    assert tuple(maps) == backbone.layers
    for layer, values in maps.items():
        stride = backbone.strides[layer]
        assert values.shape == (2, backbone.channels[layer], -(-height // stride), -(-width // stride)), layer
    assert backbone(images).shape == maps[backbone.layers[-1]].shape
    assert (backbone.width, backbone.stride) == (values.shape[1], stride)
    first = backbone.layers[0]
    assert list(backbone.maps(images, until=first)) == [first]
    with pytest.raises(KeyError):
        backbone.maps(images, until="c9")


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_have_torchvisions_names_and_the_maps_of_all_strides(name):
    backbone = without_memory(name)
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name).state_dict()
    expected = {name: value.shape for name, value in theirs.items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in backbone.state_dict().items()} == expected
    assert list(backbone.state_dict()) == list(expected)
    assert backbone.layers == STAGES
    assert_promised(backbone, 65, 33, "meta")  # of even sides: below, against torchvision's own features


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 33)])
def test_maps_of_the_small_net(height, width):
    backbone = build("tiny")
    assert_promised(backbone, height, width)
    assert (backbone.strides, backbone.channels) == ({"c2": 4, "c3": 8}, {"c2": 64, "c3": 128})


@pytest.mark.parametrize("name", TIMM)
def test_maps_of_timms_models(name):
    backbone = build(name).eval()
    layers, strides, channels = TIMM[name]
    assert (backbone.layers, tuple(backbone.strides.values())) == (layers, strides)
    assert tuple(backbone.channels.values()) == channels
    assert build(backbone.name).name == backbone.name
    assert_promised(backbone, 2 * backbone.multiple, 3 * backbone.multiple)
    side = backbone.multiple
    with pytest.raises(ValueError, match=rf"sides that are multiples of {side}, not 65 × {side}"):
        backbone.maps(torch.zeros(1, 3, side, 65))


@pytest.mark.parametrize("name", ["convnext_atto", "resnet18d", "vit_tiny_patch16_224"])
def test_every_parameter_of_a_timm_model_is_trained(name):
    """DistributedDataParallel wants a gradient for each: no classifier is left."""
    backbone = build(name)
    backbone(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


def test_a_vits_last_map_is_its_patch_tokens_in_their_places():
    backbone = build("vit_tiny_patch16_224").eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        tokens = backbone.net.forward_features(images * backbone.scale + backbone.shift)[0, 1:]
        torch.testing.assert_close(backbone(images)[0].flatten(1).T, tokens)


def test_timms_models_see_images_with_their_own_mean_and_std():
    backbone = build("vit_tiny_patch16_224")  # trained with a mean and a std of 0.5
    red, green, blue = ((0.0 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225)))
    black = torch.tensor([red, green, blue])[None, :, None, None]
    torch.testing.assert_close(black * backbone.scale + backbone.shift, torch.full((1, 3, 1, 1), -1.0))
    same = build("convnext_atto")
    assert (same.scale == 1).all()
    assert (same.shift == 0).all()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])  # of both kinds of blocks
def test_torchvisions_weights_give_torchvisions_features(name):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name).eval()
    ours = build(name).eval()
    missing = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == ([], ["fc.weight", "fc.bias"])
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.fc(ours(images).mean(dim=(2, 3))), theirs(images))
        layers = nn.Sequential(*list(theirs.children())[:7])
        torch.testing.assert_close(ours.last_stage(layers(images)), ours(images))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_weights_start_as_torchvisions_do(name):
    """To the bit: the last BatchNorm γ of each residual block at 0, and the same random numbers."""
    torch.manual_seed(5)
    theirs = torchvision.models.get_model(name, zero_init_residual=True).state_dict()
    after = torch.rand(1)
    torch.manual_seed(5)
    ours = build(name).state_dict()
    assert torch.rand(1) == after
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_the_blocks_of_the_small_net_do_not_start_as_their_shortcuts():
    assert all((m.weight == 1).all() for m in build("tiny").modules() if isinstance(m, nn.BatchNorm2d))


# float64 sums of the weights that seed 3 has always given: an old run's seed gives the same network.
@pytest.mark.parametrize(
    ("arch", "backbone", "projector"),
    [("tiny", 41898.64490174616, 1460.294746351755), ("resnet50", 726613.8435352426, 49241.4856018979)],
)
def test_the_weights_of_a_seed_stay(arch, backbone, projector):
    torch.manual_seed(3)
    encoder = Encoder(arch)
    parts = (encoder.backbone, encoder.projector)
    sums = [sum(p.double().abs().sum().item() for p in part.parameters()) for part in parts]
    assert sums == pytest.approx([backbone, projector], rel=1e-9)


@pytest.mark.parametrize(("arch", "dim"), [("tiny", 128), ("tiny", 32), ("convnext_atto", 64)])
def test_the_projector_works_at_every_position(arch, dim):
    torch.manual_seed(0)
    encoder = Encoder(arch, dim).eval()
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        features = encoder.backbone(images)
        z = encoder(images)
        assert z.shape == (2, dim, *features.shape[2:])
        first, second = encoder.projector[0], encoder.projector[2]
        vector = features[1, :, 1, 0]
        hidden = (first.weight.flatten(1) @ vector + first.bias).clamp(min=0)
        by_hand = second.weight.flatten(1) @ hidden + second.bias
    torch.testing.assert_close(z[1, :, 1, 0], by_hand, rtol=1e-4, atol=1e-5)


def test_an_unknown_backbone_is_refused_with_the_choice(monkeypatch):
    with pytest.raises(ValueError, match=r"unknown backbone 'resnet52': choose one of tiny, resnet18, .*did you mean"):
        build("resnet52")
    with pytest.raises(ValueError, match="timm has no model 'convnext_otto'"):
        build("timm:convnext_otto")
    with pytest.raises(ValueError, match=r"mixer_s32_224 takes no input of 64 × 64 pixels"):
        build("mixer_s32_224").maps(torch.zeros(1, 3, 64, 64))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm:convnext_atto needs timm: pip install 'plrc\[timm\]'"):
        build("timm:convnext_atto")
