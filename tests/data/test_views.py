"""plrc.data.views: what is drawn, and that the pixels that are cut are those that the crop names."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from plrc.data.photometric import Photometric
from plrc.data.views import ViewSampler, cut, pixels_needed
from plrc.geometry import Crop, cell_centres
from tests.sets import ramp

RECIPE = Photometric(0.4, 0.4, 0.4, 0.1, jitter_p=0.8, grey_p=0.2, blur_p=0.5, blur_sigma=(0.1, 2.0))
SAMPLER = ViewSampler((0.2, 1.0), 0.5, RECIPE)
STEP = 1 / 255  # of an 8-bit ramp


@pytest.mark.parametrize("size", [(640, 320), (300, 600), (500, 500)])
@pytest.mark.parametrize("flip", [False, True])
def test_the_pixels_of_a_view_lie_where_the_crop_says(size, flip):
    boxes = [[0.1, 0.25, 0.7, 0.95], [0.33, 0.05, 0.91, 0.45], [0.0, 0.0, 1.0, 1.0]]
    crops = Crop(torch.tensor(boxes), torch.tensor([flip] * 3))
    views = cut(ramp(*size, blue=128), crops, 32)
    assert views.shape == (3, 32, 32, 3)
    assert views.dtype == torch.uint8
    named = crops.to_image(cell_centres(32, 32).view(1, -1, 2).expand(3, -1, -1)).view(3, 32, 32, 2)
    inner = slice(2, -2)  # at the image's border there is nothing to average with on one side
    off = (views[..., :2].float() / 255 - named)[:, inner, inner].abs()
    assert off.max() < 0.8 * STEP, "half a cell of the view would be twice as much or more"
    assert (views[..., 2] == 128).all(), "channels keep their places"


def test_a_view_of_whole_pixels_is_those_pixels():
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (10, 20, 3), dtype=np.uint8)
    crops = Crop(torch.tensor([[4 / 20, 1 / 10, 12 / 20, 9 / 10]] * 2), torch.tensor([False, True]))
    plain, mirrored = cut(Image.fromarray(pixels), crops, 8)
    assert torch.equal(plain, torch.from_numpy(pixels[1:9, 4:12].copy()))
    assert torch.equal(mirrored, plain.flip(1))
    # A box that leaves the image by a rounding error is cut.
    crop = Crop(torch.tensor([[-1e-8, 0.0, 1.0000001, 1.0]]), torch.tensor([False]))
    assert cut(ramp(33, 21), crop, 16).shape == (1, 16, 16, 3)


def test_views_are_a_pure_function_of_seed_epoch_and_index():
    def drawn(*key: int) -> tuple:
        parameters = SAMPLER.draw(*key, (400, 300))
        return (*parameters.crops.box.flatten().tolist(), *parameters.colours.flatten().tolist())

    keys = [(s, e, i) for s in range(3) for e in range(3) for i in range(3)]
    first = {key: drawn(*key) for key in keys}
    assert {key: drawn(*key) for key in reversed(keys)} == first
    assert len(set(first.values())) == len(keys)


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (5000, 1200)])
def test_boxes_are_spread_like_torchvisions(size):
    """Kolmogorov-Smirnov of 500 areas, aspect ratios and places against RandomResizedCrop."""
    width, height = size
    boxes = torch.cat([SAMPLER.draw(1, 0, i, size).crops.box for i in range(250)]).double().numpy()
    assert ((boxes >= 0) & (boxes <= 1)).all()
    torch.manual_seed(0)
    blank = torch.empty(3, 1, 1).expand(3, height, width)
    theirs = [RandomResizedCrop.get_params(blank, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(500)]
    top, left, h, w = np.array(theirs, dtype=np.float64).T
    reference = np.stack((left / width, top / height, (left + w) / width, (top + h) / height), axis=1)
    drawn = []
    for x0, y0, x1, y1 in (boxes.T, reference.T):
        w, h = x1 - x0, y1 - y0
        inner = (h < 1 - 1e-6) & (w < 1 - 1e-6)  # else torchvision takes it from the middle, this anywhere
        places = {"x": x0[inner] / (1 - w[inner]), "y": y0[inner] / (1 - h[inner])}
        drawn.append({"area": w * h, "ratio": w * width / (h * height), **places})
    for name, ours in drawn[0].items():
        assert ks_2samp(ours.round(3), drawn[1][name].round(3)).pvalue > 1e-3, name  # theirs are whole pixels
    area, ratio = drawn[0]["area"], drawn[0]["ratio"]
    assert area.min() > 0.2 - 1e-6
    assert 3 / 4 - 1e-4 < ratio.min() < ratio.max() < 4 / 3 + 1e-4


@pytest.mark.parametrize(("size", "share"), [((3000, 100), (400 / 9000, 1.0)), ((100, 3000), (1.0, 400 / 9000))])
def test_where_no_drawn_box_fits_the_largest_is_taken(size, share):
    sampler = ViewSampler((0.9, 1.0), 0.5, RECIPE)
    boxes = torch.cat([sampler.draw(0, 0, i, size).crops.box for i in range(20)])
    torch.testing.assert_close(boxes[:, 2:] - boxes[:, :2], torch.tensor([share]).expand(40, 2), rtol=1e-4, atol=1e-6)
    assert len({tuple(box) for box in boxes.tolist()}) == 40, "at different places"


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_flips_come_as_often_as_they_should(p):
    sampler = ViewSampler((0.2, 1.0), p, RECIPE)
    flips = torch.stack([sampler.draw(2, 0, i, (400, 300)).crops.flip for i in range(600)]).float()
    assert (flips.mean(dim=0) - p).abs().max() <= (0.08 if p == 0.5 else 0)
    if p == 0.5:
        assert ((flips[:, 0] == flips[:, 1]).float().mean() - 0.5).abs() < 0.08, "each view has a coin of its own"


def test_pixels_needed():
    crops = Crop(torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.0, 0.25, 0.75, 0.5]]), torch.tensor([False, True]))
    assert pixels_needed(crops, 64) == (128, 256)
