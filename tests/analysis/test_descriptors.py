"""plrc.analysis.descriptors: baselines that are what they say, networks in evaluation mode on normalised images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab
from torch import nn

from plrc.analysis import descriptors
from plrc.analysis.descriptors import rgb_to_lab
from plrc.analysis.features import DenseEncoder, as_tensor, input_size
from plrc.backbones import build
from plrc.geometry import cell_centres, sample
from plrc.pretrained import CheckpointInfo, Pretrained


def test_lab_is_that_of_scikit_image():
    images = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    images[0, :, :4] = torch.rand(3, 4, 30, generator=torch.Generator().manual_seed(1)) * 0.04  # the linear part
    images[0, :, 5], images[0, :, 6] = 0.0, 1.0
    expected = torch.from_numpy(rgb2lab(images.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    torch.testing.assert_close(rgb_to_lab(images), expected.float(), rtol=1e-3, atol=0.05)
    white = rgb_to_lab(torch.ones(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(white, torch.tensor([100.0, 0.0, 0.0]), rtol=0, atol=1e-3)


def test_absolute_position_measures_distances_in_a_common_unit():
    """Of a image twice as wide as high, a step along the width is as far as one down."""
    descriptor = descriptors.absolute_position(8)
    maps = descriptor.maps(torch.zeros(2, 3, 32, 64))
    assert maps.shape == (2, 2, 4, 8)
    here = maps[0, :, 1, 1][None]
    similar = descriptor.similarity(here, maps[0].flatten(1).T).view(4, 8)
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
    ramp = (cell_centres(size[1], size[0]) * 255).round().byte().numpy()
    pixels = as_tensor(Image.fromarray(np.dstack((ramp, ramp[..., :1]))), input_size(size, 128, 16))
    inside = 0.1 + 0.8 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample(pixels[:, :2], inside), inside, rtol=0, atol=0.006)


def test_a_layer_of_an_encoder_is_described():
    torch.manual_seed(0)
    backbone = build("tiny")
    head = nn.Conv2d(128, 5, 1)
    origin = CheckpointInfo(name="net", path=None, format="random", branch="", arch="tiny", sha256=None, note="")
    encoder = DenseEncoder(Pretrained(backbone=backbone, heads={"projector": head}, origin=origin))
    images = torch.rand(2, 3, 32, 64)
    last, fine, projected = (descriptors.dense(encoder, layer) for layer in (None, "c2", "projector"))
    assert [d.name for d in (last, fine, projected)] == ["net", "net c2", "net projector"]
    assert descriptors.dense(encoder, "c2", name="mine").name == "mine"
    assert (last.origin, last.layer, projected.layer) == (origin, "c3", "projector")
    assert last.maps(images).shape == (2, 128, 4, 8)
    assert fine.maps(images).shape == (2, 64, 8, 16)
    expected = descriptors.network("raw", nn.Sequential(backbone, head)).maps(images)
    torch.testing.assert_close(projected.maps(images), expected)
    assert not projected.maps(images).requires_grad
    with pytest.raises(ValueError, match="no layer 'c9'"):
        descriptors.dense(encoder, "c9")
