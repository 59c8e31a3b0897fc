"""plrc.analysis.descriptors: baselines that are what they say, networks in evaluation mode on normalised images."""

import pytest
import torch
from skimage.color import rgb2lab
from torch import nn

from plrc.analysis import descriptors
from plrc.analysis.descriptors import rgb_to_lab
from plrc.analysis.features import as_tensor, input_size, load_encoder
from plrc.geometry import sample
from tests.sets import ramp


def test_lab_is_that_of_scikit_image():
    images = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    images[0, :, :4] *= 0.04  # the linear part
    images[0, :, 5], images[0, :, 6] = 0.0, 1.0
    expected = torch.from_numpy(rgb2lab(images.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    torch.testing.assert_close(rgb_to_lab(images), expected.float(), rtol=1e-3, atol=0.05)


def test_absolute_position_measures_distances_in_a_common_unit():
    """Of an image twice as wide as high, a step along the width is as far as one down."""
    descriptor = descriptors.absolute_position(8)
    maps = descriptor.maps(torch.zeros(2, 3, 32, 64))
    assert maps.shape == (2, 2, 4, 8)
    similar = descriptor.similarity(maps[0, :, 1, 1][None], maps[0].flatten(1).T).view(4, 8)
    assert similar[1, 2].item() == pytest.approx(similar[2, 1].item(), abs=1e-5)
    assert similar.argmax() == 1 * 8 + 1
    assert descriptor.maps(torch.zeros(1, 3, 33, 57)).shape == (1, 2, 5, 8), "as many cells as a network of stride 8"


def test_a_network_is_described_in_evaluation_mode_on_normalised_images():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    descriptor = descriptors.network("net", encoder.train())
    images = torch.rand(2, 3, 8, 8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    before = [b.clone() for b in encoder.buffers()]
    maps = descriptor.maps(images)
    assert not maps.requires_grad
    normalised = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(maps, encoder.eval()(normalised).detach())
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.buffers(), strict=True))


@pytest.mark.parametrize("size", [(500, 375), (200, 633), (64, 64)])
def test_a_resized_image_keeps_its_frame(size):
    pixels = as_tensor(ramp(*size), input_size(size, 128, 16))
    inside = 0.1 + 0.8 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample(pixels[:, :2], inside), inside, rtol=0, atol=0.006)


def test_a_layer_of_an_encoder_is_described():
    encoder = load_encoder("plrc:tiny")
    images = torch.rand(2, 3, 32, 64)
    last, fine, mine = (descriptors.dense(encoder, *how) for how in ((), ("c2",), ("c3", "mine")))
    assert [d.name for d in (last, fine, mine)] == ["plrc:tiny", "plrc:tiny c2", "mine"]
    assert [(d.layer, d.origin) for d in (last, fine)] == [("projector", encoder.origin), ("c2", encoder.origin)]
    assert fine.maps(images).shape == (2, 64, 8, 16)
    torch.testing.assert_close(last.maps(images), encoder.encode(images, ["projector"])["projector"])
