"""plrc.analysis.affinity: the map of a point peaks where the point is."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis.affinity import affinity, upsample
from plrc.geometry import cell_centres


def waves(h: int, w: int) -> Tensor:
    """(4, h, w): features coded with their own coordinates, so that the nearest cell is the most alike."""
    x, y = (cell_centres(h, w) * math.pi / 2).unbind(-1)
    return torch.stack((x.sin(), x.cos(), y.sin(), y.cos()))


@pytest.mark.parametrize(("h", "w"), [(7, 7), (4, 9), (9, 4)])
def test_affinity_peaks_in_the_cell_of_the_point(h, w):
    centres = cell_centres(h, w).flatten(0, 1)
    maps = affinity(waves(h, w), centres)
    assert maps.shape == (h * w, h, w)
    assert maps.flatten(1).argmax(dim=1).tolist() == list(range(h * w))
    jittered = centres + (torch.rand(h * w, 2, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.9 / torch.tensor(
        [w, h]
    )
    inside = ((jittered > torch.tensor([0.5 / w, 0.5 / h])) & (jittered < 1 - torch.tensor([0.5 / w, 0.5 / h]))).all(
        dim=1
    )
    found = affinity(waves(h, w), jittered[inside]).flatten(1).argmax(dim=1)
    assert found.tolist() == torch.arange(h * w)[inside].tolist()


def test_affinity_is_the_cosine():
    features = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    maps = affinity(features, torch.tensor([[2.5 / 4, 0.5 / 3], [0.5, 1.5 / 3]]))
    assert maps[0, 0, 2] == pytest.approx(1.0)
    between = (features[:, 1, 1] + features[:, 1, 2]) / 2
    for i in range(3):
        for j in range(4):
            first = F.cosine_similarity(features[:, 0, 2], features[:, i, j], dim=0)
            assert maps[0, i, j].item() == pytest.approx(first.item(), abs=1e-6)
            second = F.cosine_similarity(between, features[:, i, j], dim=0)
            assert maps[1, i, j].item() == pytest.approx(second.item(), abs=1e-6)


def test_the_length_of_features_does_not_matter():
    features = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) + 0.5
    point = torch.tensor([[0.5 / 4, 0.5 / 3]])
    torch.testing.assert_close(affinity(features * lengths, point), affinity(features, point), rtol=1e-4, atol=1e-6)


def test_a_larger_map_covers_the_same_frame():
    ramp = cell_centres(4, 6).permute(2, 0, 1)
    large = upsample(ramp, 20, 30)
    expected = cell_centres(20, 30).permute(2, 0, 1)
    torch.testing.assert_close(large[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], rtol=0, atol=1e-6)
