"""plrc.analysis.features: cells lie where the coordinate rule says, whatever the size, layer and tiling."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from plrc.analysis import features as module
from plrc.analysis.descriptors import dense
from plrc.analysis.features import DenseEncoder, point_features, region_features, region_points
from plrc.backbones import Backbone, Encoder
from plrc.geometry import cell_centres
from plrc.pretrained import CheckpointInfo, Pretrained
from tests.analysis.maps import blank, map_of, random_map
from tests.sets import noise


def encoder_of(arch: str) -> DenseEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
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


@pytest.mark.parametrize("stride", [4, 8, 32])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (65, 97), (101, 63), (33, 224), (31, 31)])
def test_pixel_to_cell_to_pixel_is_the_identity_on_centres(width, height, stride):
    fmap = blank(width, height, stride)
    h, w = fmap.shape
    centres = fmap.centres()
    across, down = (torch.arange(n) * stride + stride / 2 for n in (w, h))
    expected = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)
    torch.testing.assert_close(centres * torch.tensor([width, height]), expected)  # cell j covers j·s … (j + 1)·s
    row, column = fmap.cell_of(centres)
    assert row.tolist() == [[i] * w for i in range(h)]
    assert column.tolist() == [list(range(w))] * h
    fmap = map_of(centres.permute(2, 0, 1), width, height, stride)  # coded with coordinates
    inner = centres[:-1, :-1].reshape(-1, 2) + 0.3 * torch.tensor([stride / width, stride / height])
    torch.testing.assert_close(point_features(fmap, inner), inner)


def test_sizes_of_the_input():
    assert module.input_size((640, 480), 448, 32) == (608, 448)
    assert module.input_size((640, 480), (300, 201), 32) == (300, 201)
    assert module.input_size((650, 470), None, 32) == (640, 480)
    assert module.input_size((1000, 3), 32, 32) == module.input_size((20000, 20), 32, 32) == (256, 32)
    assert module.input_size((256, 32), 64, 32) == (512, 64)
    assert module.input_size((5, 5), None, 8) == (8, 8)
    assert module.input_size((640, 480), (2**14, 2**14), 8) == (2**14, 2**14)
    for huge in (100_000, (2**14, 2**14 + 1)):
        with pytest.raises(ValueError, match="268 million pixels are the most"):
            module.input_size((640, 480), huge, 8)
    for wrong in (0, -3, (0, 5)):
        with pytest.raises(ValueError, match="1 pixel"):
            module.input_size((10, 10), wrong, 8)


def test_features_are_those_of_the_network(resnet18, monkeypatch):
    """Resized, normalised, in evaluation mode: by hand; of all layers from one pass."""
    image = noise(64, 96)
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    passes, real = [], resnet18.backbone.maps
    monkeypatch.setattr(resnet18.backbone, "maps", lambda x, until=None: passes.append(until) or real(x, until))
    maps = resnet18.features(image, resnet18.layers, None)
    assert (list(maps), passes) == (["c2", "c3", "c4", "c5", "projector"], ["c5"])
    with torch.no_grad():
        expected = real((x - mean) / std)
        expected["projector"] = resnet18.heads["projector"](expected["c5"])
    for (layer, fmap), stride in zip(maps.items(), (4, 8, 16, 32, 32), strict=True):
        torch.testing.assert_close(fmap.features, expected[layer][0], rtol=1e-4, atol=1e-5)
        assert (fmap.stride, fmap.layer, fmap.shape) == (stride, layer, (96 // stride, 64 // stride))
        assert (fmap.image_size, fmap.input_size) == ((64, 96), (64, 96))
    assert (resnet18.features(image, size=32).layer, resnet18.last, resnet18.features(image, "c2").layer) == (
        "c5",
        "c5",
        "c2",
    )
    assert passes[1:] == ["c5", "c2"]


@pytest.mark.parametrize(
    ("arch", "layer", "width", "height", "side", "tiles"),
    [
        ("tiny", "c3", 520, 400, 344, 2),
        ("tiny", "projector", 403, 337, 344, 2),
        ("tiny", "c2", 300, 611, 344, 2),
        ("resnet18", "c5", 1400, 340, 672, 2),
    ],
)
def test_tiles_give_the_map_of_the_whole(arch, layer, width, height, side, tiles, monkeypatch, request):
    encoder, seen = request.getfixturevalue(arch), []
    pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    whole, real = encoder.encode(pixels, [layer])[layer], encoder._encode
    monkeypatch.setattr(module, "MAX_PIXELS", side**2)
    monkeypatch.setattr(encoder, "_encode", lambda x, names: seen.append(x.shape[2] * x.shape[3]) or real(x, names))
    torch.testing.assert_close(encoder.encode(pixels, [layer])[layer], whole, rtol=1e-4, atol=1e-4)
    assert max(seen) <= side**2
    assert len(seen) >= tiles


@pytest.mark.parametrize("arch", ["tiny", "resnet18"])
def test_reach_is_how_far_a_cell_sees(arch):
    """A change of the image farther off changes nothing, a nearer one does."""
    backbone = encoder_of(arch).backbone.double()
    radius, stride = backbone.reach, backbone.stride
    cell = -(-radius // stride)
    image = torch.rand(1, 3, stride, 2 * (cell + 1) * stride, generator=torch.Generator().manual_seed(0)).double()
    first = cell * stride  # the cell's first pixel
    with torch.no_grad():
        here = backbone(image)[0, :, 0, cell]
        for away, expected in ((radius, False), (radius + 1, True)):
            changed = image.clone()
            changed[..., first + away :] += 1e3
            changed[..., : first - away + 1] += 1e3 if away > radius else 0
            assert torch.equal(backbone(changed)[0, :, 0, cell], here) == expected, away


class Ramp(Backbone):
    """A backbone of stride 8 that gives the mean of each cell's pixels: a ramp's value at the cell's centre."""

    name, strides, channels = "ramp", {"c3": 8}, {"c3": 3}

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        return {"c3": nn.functional.avg_pool2d(images, 8, ceil_mode=True)}


class Patches(Ramp):
    """Sides must be multiples of 14 and the map has such cells; every cell sees the whole."""

    strides, multiple = {"c3": 14}, 14

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        assert images.shape[2] % 14 == images.shape[3] % 14 == 0
        return {"c3": nn.functional.avg_pool2d(images, 14)}


@pytest.fixture
def ramp(monkeypatch) -> Image.Image:
    """An image whose red is x, whose green is y and whose blue is a wave along x, to networks that see it so."""
    monkeypatch.setattr(module, "normalise", lambda x: x)
    places = cell_centres(64, 96)
    return Image.fromarray((torch.cat((places, wave(places[..., :1])), dim=-1) * 255).round().byte().numpy())


def wave(x: Tensor) -> Tensor:
    return 0.5 + 0.5 * (4 * torch.pi * x).sin()


@pytest.mark.parametrize("finer", ["shifted", "upscaled"])
def test_finer_maps_have_their_cells_in_place(finer, ramp):
    fmap = pretrained(Ramp(), {}, "ramp").features(ramp, size=64, finer=finer)
    assert fmap.shape == (16, 24)
    assert fmap.finer == f"{finer} ×2"
    assert fmap.extent.tolist() == [1, 1]
    expected = fmap.centres().permute(2, 0, 1)[:, 2:-2, 2:-2]
    torch.testing.assert_close(fmap.features[:2, 2:-2, 2:-2], expected, rtol=0, atol=0.004)
    torch.testing.assert_close(fmap.features[2, 2:-2, 2:-2], wave(expected[0]), rtol=0, atol=0.06)


def test_patches_of_14_pixels(ramp, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)  # no tiles where a cell sees the whole
    encoder = pretrained(Patches(), {}, "vit")
    assert encoder.features(ramp, size=64).shape == (5, 7)
    maps = dense(encoder).maps(module.as_tensor(ramp, (96, 64)))
    torch.testing.assert_close(maps[0, :2], cell_centres(5, 7).permute(2, 0, 1), rtol=0, atol=0.01)
    with pytest.raises(ValueError, match="stride 14 cannot be made finer by shifts"):
        encoder.features(ramp, finer="shifted")


def test_images_may_be_anything_and_several_at_once(tiny, tmp_path):
    image, file = noise(64, 96), tmp_path / "a.png"
    image.save(file)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = tiny.features(image, size=64)
    assert expected.image_size == (64, 96)
    for given in (file, str(file), array, tensor, tensor.float() / 255):
        assert torch.equal(tiny(given, size=64).features, expected.features)
    for images in (torch.stack((tensor, tensor)), [image, array]):
        for maps in (tiny(images, size=64), tiny.batch(iter(images), size=64)):
            assert [torch.equal(fmap.features, expected.features) for fmap in maps] == [True, True]
    np.testing.assert_array_equal(expected.numpy(), expected.features.numpy())


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda net: net(noise(64, 64), ["c2", "c9"]), "no layer 'c9': it has c2, c3, projector"),
        (lambda net: net(noise(64, 64), finer="sharp"), "'shifted' or 'upscaled', not 'sharp'"),
        (lambda net: net.to("cuda:7"), r"^the device cuda:7 cannot be used here \([^\n]*\): take cpu$"),
        (lambda net: net.to("no device"), r"^the device no device .*\(there is none of that name\): take cuda"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(ask, message, tiny):
    assert tiny.to("cpu") is tiny
    with pytest.raises(ValueError, match=message):
        ask(tiny)


def test_maps_and_encoders_tell_what_they_are(tiny):
    fmap = tiny.features(noise(64, 96), size=64, finer="shifted")
    assert repr(fmap) == "FeatureMap(c3, shifted ×2: 128 channels, 24 × 16 cells of an image of 64 × 96 pixels)"
    keyed = pretrained(tiny.backbone, {"projector": nn.Identity()}, "tiny", name="demo/last", branch="key")
    assert repr(keyed) == "DenseEncoder(demo/last: tiny key, layers c2, c3, projector, on cpu)"


@pytest.mark.parametrize(("width", "height", "stride"), [(32, 32, 8), (37, 21, 8), (9, 30, 16)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (11, 7)])
def test_weights_are_the_overlaps_of_the_rectangles(width, height, stride, shape):
    """Every cell with every rectangle of the raster, one by one; numbers have gaps, and some are no region."""
    h, w = -(-height // stride), -(-width // stride)
    fmap = map_of(random_map(3, h, w).features, width, height, stride)
    raster = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(1)) * 3 - 1
    raster[-1, -1] = 40
    numbers = [n for n in (2, 5, 8, 40) if n in raster]
    assert module.region_numbers(raster).tolist() == numbers
    expected = torch.zeros(len(numbers), h, w, dtype=torch.float64)
    cw, ch = stride / width, stride / height
    for i, j, r, c in np.ndindex(h, w, *shape):
        across = min((j + 1) * cw, (c + 1) / shape[1]) - max(j * cw, c / shape[1])
        down = min((i + 1) * ch, (r + 1) / shape[0]) - max(i * ch, r / shape[0])
        if across > 0 and down > 0 and raster[r, c] >= 0:
            expected[numbers.index(raster[r, c]), i, j] += across * down / (cw * ch)
    torch.testing.assert_close(module.region_weights(fmap, raster), expected, rtol=0, atol=1e-12)
    means = torch.einsum("nhw,chw->nc", expected, fmap.features.double()) / expected.sum(dim=(1, 2))[:, None]
    for kind in (torch.int16, torch.int64):
        torch.testing.assert_close(region_features(fmap, raster.to(kind)).double(), means, rtol=1e-5, atol=1e-6)


def test_region_points_lie_in_their_regions():
    raster = torch.zeros(9, 12, dtype=torch.long)
    raster[2:7, 3:10] = 3  # around it a ring, whose centroid it holds
    raster[0, 11] = 5
    points = region_points(raster)
    row, column = (points[:, 1] * 9).long(), (points[:, 0] * 12).long()
    assert raster[row, column].tolist() == [0, 3, 5]
    torch.testing.assert_close(points[1:], torch.tensor([[6.5 / 12, 4.5 / 9], [11.5 / 12, 0.5 / 9]]))


@pytest.mark.parametrize("raster", [torch.zeros(2, 2), torch.zeros(2, 2, 2).long(), torch.zeros(0, 3).long()])
def test_what_is_no_raster_is_refused(raster):
    with pytest.raises(ValueError, match=r"a region raster is \(h, w\) integers over the whole image, not \(.*\) "):
        region_features(blank(16, 16, 8), raster)
    with pytest.raises(ValueError, match="has no region"):
        region_features(blank(16, 16, 8), torch.full((2, 2), -1))


@pytest.mark.parametrize("point", [(1.2, 0.5), (0.5, -0.01), (40.0, 30.0), (float("nan"), 0.5)])
def test_a_point_outside_is_refused(point):
    """Pixels instead of shares, most often; a map that reaches beyond its image may be asked there."""
    with pytest.raises(ValueError, match=r"\(.*\) lies outside"):
        point_features(blank(64, 64, 8), torch.tensor([[0.5, 0.5], point]))
    assert point_features(blank(33, 33, 32), torch.tensor([[1.5, 1.5]])).shape == (1, 1)


@pytest.mark.parametrize("size", ["64", "64x48", [64, 48], (1, 2, 3), float("nan")])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(ValueError, match=r"a size is the shorter side in pixels, 448, or \(width, height\), not"):
        module.input_size((640, 480), size, 8)


@pytest.mark.parametrize(("c", "h", "w"), [(40, 3, 5), (12, 9, 8)])
def test_reduced_cells_keep_most_of_their_lengths_and_tell_the_rest(c, h, w):
    fmap = random_map(c, h, w)
    units = fmap.unit_cells.double()
    squares = torch.linalg.svdvals(units).square()  # falling
    cells, lost = fmap.reduced(10)
    assert cells.shape == (h * w, 10)
    assert lost == pytest.approx(float(squares[10:].sum() / squares.sum()), abs=1e-5)
    left, values, right = torch.linalg.svd(units, full_matrices=False)
    best = (left[:, :10] * values[:10]) @ right[:10]  # of that rank
    torch.testing.assert_close(cells.double() @ cells.double().T, best @ best.T, atol=1e-4, rtol=0)
    whole, nothing = fmap.reduced(c)
    assert nothing == 0
    assert whole is fmap.unit_cells


def test_a_map_is_told_by_its_features():
    first, other = random_map(4, 3, 5), random_map(4, 3, 5, seed=1)
    assert first.sha256 == random_map(4, 3, 5).sha256 != other.sha256
