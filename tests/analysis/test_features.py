"""plrc.analysis.features: cells lie where the coordinate rule says, whatever the size, layer and tiling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from plrc.analysis import features as module
from plrc.analysis.descriptors import dense
from plrc.analysis.features import DenseEncoder
from plrc.backbones import Backbone, Encoder
from plrc.geometry import cell_centres
from plrc.pretrained import CheckpointInfo, Pretrained
from tests.analysis.maps import blank, map_of


def encoder_of(arch: str, seed: int = 0) -> DenseEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        whole = Encoder(arch)
        for part in whole.modules():  # statistics and scales that a mistake would show
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.0)
                part.running_mean.uniform_(-0.2, 0.2)
    return pretrained(whole.backbone, {"projector": whole.projector}, arch)


def pretrained(backbone: nn.Module, heads: dict[str, nn.Module], arch: str, **origin: str) -> DenseEncoder:
    known = {"name": "test", "path": None, "format": "", "branch": "", "sha256": None, "note": "", **origin}
    info = CheckpointInfo(arch=arch, **known)
    return DenseEncoder(Pretrained(backbone=backbone, heads=heads, origin=info))


@pytest.fixture(scope="module")
def tiny() -> DenseEncoder:
    return encoder_of("tiny")


@pytest.fixture(scope="module")
def resnet18() -> DenseEncoder:
    return encoder_of("resnet18")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


SIZES = [(64, 64), (96, 64), (64, 128), (65, 97), (101, 63), (33, 224), (31, 31)]


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_pixel_to_cell_to_pixel_is_the_identity_on_centres(width, height, stride):
    fmap = blank(width, height, stride)
    h, w = fmap.shape
    centres = fmap.centres()
    pixels = centres * torch.tensor([width, height])
    expected = torch.stack(
        torch.meshgrid(torch.arange(w) * stride + stride / 2, torch.arange(h) * stride + stride / 2, indexing="xy"), -1
    )
    torch.testing.assert_close(pixels, expected)  # cell j covers pixels j·s … (j + 1)·s of the input
    row, column = fmap.cell_of(centres)
    assert row.tolist() == [[i] * w for i in range(h)]
    assert column.tolist() == [list(range(w))] * h
    torch.testing.assert_close(fmap.to_image(fmap.to_map(centres)), centres)


@pytest.mark.parametrize("stride", [4, 8, 32])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_features_that_are_coordinates_come_out_as_the_point(width, height, stride):
    fmap = blank(width, height, stride)
    fmap = map_of(fmap.centres().permute(2, 0, 1), width, height, stride)
    inner = fmap.centres()[:-1, :-1].reshape(-1, 2) + 0.3 * torch.tensor([stride / width, stride / height])
    torch.testing.assert_close(fmap.at(inner), inner)


def test_sizes_of_the_input():
    assert module.input_size((640, 480), 448, 32) == (608, 448)
    assert module.input_size((480, 640), 448, 32) == (448, 608)
    assert module.input_size((640, 480), (300, 201), 32) == (300, 201)
    assert module.input_size((650, 470), None, 32) == (640, 480)
    assert module.input_size((1000, 3), 32, 32) == (10656, 32)
    assert module.input_size((5, 5), None, 8) == (8, 8)
    for wrong in (0, -3, (0, 5)):
        with pytest.raises(ValueError, match="1 pixel"):
            module.input_size((10, 10), wrong, 8)


def test_layers_and_strides(resnet18, tiny):
    assert resnet18.layers == ("c2", "c3", "c4", "c5", "projector")
    assert tiny.layers == ("c2", "c3", "projector")
    assert (resnet18.last, tiny.last) == ("c5", "c3")
    image = noise(70, 90)
    for layer, stride, channels in (
        ("c2", 4, 64),
        ("c3", 8, 128),
        ("c4", 16, 256),
        ("c5", 32, 512),
        ("projector", 32, 128),
    ):
        fmap = resnet18.features(image, layer, size=96)
        assert (fmap.features.shape[0], fmap.shape) == (channels, (128 // stride, 96 // stride))
        assert (fmap.stride, fmap.layer, fmap.image_size, fmap.input_size) == (stride, layer, (70, 90), (96, 128))
    assert resnet18.features(image, size=96).layer == "c5"
    with pytest.raises(ValueError, match="'c6': it has c2, c3, c4, c5, projector"):
        resnet18.features(image, "c6")


def test_features_are_those_of_the_network(resnet18):
    """Resized, normalised, in evaluation mode: by hand."""
    image = noise(64, 96)
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        c5 = resnet18.backbone((x - mean) / std)
        z = resnet18.heads["projector"](c5)
    torch.testing.assert_close(resnet18.features(image, size=None).features, c5[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(resnet18.features(image, "projector", None).features, z[0], rtol=1e-4, atol=1e-5)


def test_a_batch_is_in_order_and_as_one_by_one(tiny):
    images = [noise(64, 64, 1), noise(64, 64, 2), noise(96, 64, 3), noise(64, 64, 4)]
    maps = list(tiny.batch(images, size=64, at_once=3))
    assert [m.image_size for m in maps] == [p.size for p in images]
    for image, fmap in zip(images, maps, strict=True):
        torch.testing.assert_close(fmap.features, tiny.features(image, size=64).features, rtol=1e-4, atol=1e-5)


def test_files_come_out_upright(tiny, tmp_path):
    image = noise(64, 96)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    fmap = tiny.features(tmp_path / "turned.png", size=None)
    assert fmap.image_size == (64, 96)
    torch.testing.assert_close(fmap.features, tiny.features(image, size=None).features)


TILED = [
    ("tiny", "c3", 520, 400, 344, 2),
    ("tiny", "projector", 403, 337, 344, 2),
    ("tiny", "c2", 300, 611, 344, 2),
    ("resnet18", "c5", 900, 700, 672, 4),
]


@pytest.mark.parametrize(("arch", "layer", "width", "height", "side", "tiles"), TILED)
def test_tiles_give_the_map_of_the_whole(arch, layer, width, height, side, tiles, monkeypatch):
    encoder, seen = encoder_of(arch), []
    pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    whole, real = encoder.encode(pixels, layer), encoder._encode
    monkeypatch.setattr(module, "MAX_PIXELS", side**2)
    monkeypatch.setattr(encoder, "_encode", lambda x, names: seen.append(x.shape[2] * x.shape[3]) or real(x, names))
    torch.testing.assert_close(encoder.encode(pixels, layer), whole, rtol=1e-4, atol=1e-4)
    assert max(seen) <= side**2
    assert len(seen) >= tiles


@pytest.mark.parametrize("arch", ["tiny", "resnet18"])
def test_reach_is_how_far_a_cell_sees(arch):
    """A change of the image farther off changes nothing, a nearer one does."""
    encoder = encoder_of(arch)
    radius, stride = encoder.backbone.reach, encoder.backbone.stride
    cell = -(-radius // stride)
    width = 2 * (cell + 1) * stride
    image = torch.rand(1, 3, stride, width, generator=torch.Generator().manual_seed(0)).double()
    encoder.backbone.double()
    first = cell * stride  # the cell's first pixel

    def seen(x: Tensor) -> Tensor:
        with torch.no_grad():
            return encoder.backbone(x)[0, :, 0, cell]

    here = seen(image)
    for away, expected in ((radius, False), (radius + 1, True)):
        changed = image.clone()
        changed[..., first + away :] += 1e3
        changed[..., : first - away + 1] += 1e3 if away > radius else 0
        assert torch.equal(seen(changed), here) == expected, away


def test_shifts_bring_centres_together():
    assert module.shifts(32, 2) == [-8, 8]
    assert module.shifts(32, 4) == [-12, -4, 4, 12]
    assert module.shifts(4, 2) == [-1, 1]
    for stride, factor in ((32, 3), (4, 4), (32, 1), (8, 8)):
        with pytest.raises(ValueError, match=f"stride {stride} cannot be made {factor}"):
            module.shifts(stride, factor)


class Ramp(Backbone):
    """A backbone of stride 8 that gives the mean of each cell's pixels: a ramp's value at the cell's centre."""

    name, strides, channels = "ramp", {"c3": 8}, {"c3": 3}

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        return {"c3": nn.functional.avg_pool2d(images, 8, ceil_mode=True)}


@pytest.mark.parametrize(("finer", "factor"), [("shifted", 2), ("shifted", 4), ("upscaled", 3)])
def test_finer_maps_have_their_cells_in_place(finer, factor, monkeypatch):
    monkeypatch.setattr(module, "normalise", lambda x: x)
    encoder = pretrained(Ramp(), {}, "ramp")
    ramp = (cell_centres(64, 96) * 255).round().byte().numpy()
    image = Image.fromarray(np.dstack((ramp, np.zeros_like(ramp[..., :1]))))
    fmap = encoder.features(image, size=64, finer=finer, factor=factor)
    assert fmap.shape == (8 * factor, 12 * factor)
    assert fmap.finer == f"{finer} ×{factor}"
    assert fmap.extent.tolist() == [1, 1]
    inner = slice(factor, -factor)
    expected = fmap.centres().permute(2, 0, 1)[:, inner, inner]
    torch.testing.assert_close(fmap.features[:2, inner, inner], expected, rtol=0, atol=0.004)


class Patches(Ramp):
    """Sides must be multiples of 14 and the map has such cells; every cell sees the whole."""

    strides, multiple = {"c3": 14}, 14

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        assert images.shape[2] % 14 == images.shape[3] % 14 == 0
        return {"c3": nn.functional.avg_pool2d(images, 14)}


def test_patches_of_14_pixels(monkeypatch):
    monkeypatch.setattr(module, "normalise", lambda x: x)
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)  # no tiles where a cell sees the whole
    encoder = pretrained(Patches(), {}, "vit")
    image = Image.fromarray(np.dstack([(cell_centres(64, 96) * 255).round().byte().numpy()] * 2)[..., :3])
    assert encoder.features(image, size=64).shape == (5, 7)
    pixels = module.as_tensor(image, (96, 64))
    maps = dense(encoder).maps(pixels)
    assert maps.shape == (1, 3, 5, 7)
    torch.testing.assert_close(maps[0, :2], cell_centres(5, 7).permute(2, 0, 1), rtol=0, atol=0.01)


def test_images_may_be_anything_and_several_at_once(tiny, tmp_path):
    image = noise(64, 96)
    image.save(tmp_path / "a.png")
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = tiny.features(image, size=64).features
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), array, tensor, tensor.float() / 255):
        assert torch.equal(tiny.features(image, size=64).features, expected)
        assert torch.equal(tiny(image, size=64).features, expected)
    for images in (torch.stack((tensor, tensor)), [image, array]):
        assert [fmap.image_size for fmap in tiny(images, size=64)] == [(64, 96)] * 2
    np.testing.assert_array_equal(tiny(image, size=64).numpy(), expected.numpy())
    with pytest.raises(ValueError, match="an image is a path, a PIL image"):
        tiny(3)


def test_several_layers_come_from_one_pass(tiny, monkeypatch):
    passes, real = [], tiny.backbone.maps
    monkeypatch.setattr(tiny.backbone, "maps", lambda x, until=None: passes.append(until) or real(x, until))
    maps = tiny.features(noise(64, 96), layer=("projector", "c2"), size=64)
    assert (list(maps), passes) == (["projector", "c2"], ["c3"])
    for layer, fmap in maps.items():
        torch.testing.assert_close(fmap.features, tiny.features(noise(64, 96), layer, size=64).features)
        assert (fmap.layer, fmap.stride) == (layer, tiny.stride(layer))
    with pytest.raises(ValueError, match="no layer 'c9'"):
        tiny(noise(64, 64), ["c2", "c9"])


def test_a_device_that_is_not_there_is_said_in_one_sentence(tiny):
    assert tiny.to("cpu") is tiny
    for device in ("cuda:7", "no device"):
        with pytest.raises(ValueError, match=rf"^the device {device} cannot be used here \([^\n]*\): take cpu$"):
            tiny.to(device)


def test_what_cannot_be_made_finer_is_refused(tiny):
    with pytest.raises(ValueError, match="'shifted' or 'upscaled', not 'sharp'"):
        tiny.features(noise(64, 64), finer="sharp")
    with pytest.raises(ValueError, match="it can be 2 or 4"):
        tiny.features(noise(64, 64), finer="shifted", factor=3)
    with pytest.raises(ValueError, match="2 times or more"):
        tiny.features(noise(64, 64), finer="upscaled", factor=1)


def test_maps_and_encoders_tell_what_they_are(tiny):
    fmap = tiny.features(noise(64, 96), size=64, finer="shifted")
    assert repr(fmap) == "FeatureMap(c3, shifted ×2: 128 channels, 24 × 16 cells of an image of 64 × 96 pixels)"
    keyed = pretrained(tiny.backbone, {"projector": nn.Identity()}, "tiny", name="demo/last", branch="key")
    assert repr(keyed) == "DenseEncoder(demo/last: tiny key, layers c2, c3, projector, on cpu)"
