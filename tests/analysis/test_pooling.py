"""plrc.analysis.features: regions weigh each cell by exactly what they cover of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from plrc.analysis.features import (
    FeatureMap,
    point_features,
    region_features,
    region_numbers,
    region_points,
    region_weights,
)
from tests.analysis.maps import map_of, random_map


def sized_map(width: int, height: int, stride: int) -> FeatureMap:
    return map_of(random_map(3, -(-height // stride), -(-width // stride)).features, width, height, stride)


def naive_weights(fmap: FeatureMap, raster: Tensor, count: int) -> Tensor:
    """Overlaps of every cell's rectangle with every rectangle of the raster, one by one."""
    h, w = fmap.shape
    rows, columns = raster.shape
    cw, ch = fmap.stride / fmap.input_size[0], fmap.stride / fmap.input_size[1]
    shares = torch.zeros(count, h, w, dtype=torch.float64)
    for i in range(h):
        for j in range(w):
            for r in range(rows):
                for c in range(columns):
                    across = min((j + 1) * cw, (c + 1) / columns) - max(j * cw, c / columns)
                    down = min((i + 1) * ch, (r + 1) / rows) - max(i * ch, r / rows)
                    if across > 0 and down > 0 and raster[r, c] >= 0:
                        shares[raster[r, c], i, j] += across * down / (cw * ch)
    return shares


@pytest.mark.parametrize(("width", "height", "stride"), [(32, 32, 8), (24, 40, 8), (37, 21, 8), (9, 30, 16)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (11, 7)])
def test_weights_are_the_overlaps_of_the_rectangles(width, height, stride, shape):
    fmap = sized_map(width, height, stride)
    raster = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(1))
    raster = raster.unique(return_inverse=True)[1]
    count = int(raster.max()) + 1
    expected = naive_weights(fmap, raster, count)
    torch.testing.assert_close(region_weights(fmap, raster), expected, rtol=0, atol=1e-12)
    means = torch.einsum("nhw,chw->nc", expected, fmap.features.double()) / expected.sum(dim=(1, 2))[:, None]
    torch.testing.assert_close(region_features(fmap, raster).double(), means, rtol=1e-5, atol=1e-6)


def test_a_region_smaller_than_a_cell_has_the_feature_of_its_cell():
    fmap = sized_map(64, 64, 32)
    raster = torch.zeros(100, 100, dtype=torch.long)
    raster[10, 77] = 1  # a five-hundredth of a cell
    torch.testing.assert_close(region_features(fmap, raster)[1], fmap.features[:, 0, 1])


def test_what_the_map_sees_beyond_the_image_counts_for_nothing():
    features = torch.full((1, 3, 3), 100.0)  # rows of 8 pixels, of a image of 20 × 8: only the first shows any of it
    features[0, 0] = torch.tensor([1.0, 2.0, 7.0])
    fmap = map_of(features, 20, 8, 8)
    assert region_features(fmap, torch.zeros(1, 1).long()).item() == pytest.approx((1 + 2 + 7 / 2) / 2.5)
    assert region_weights(fmap, torch.tensor([[0]]))[0].tolist() == [pytest.approx([1, 1, 0.5]), [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_numbers_may_have_gaps_and_negative_ones_are_no_region(dtype):
    fmap = sized_map(16, 16, 8)
    raster = torch.tensor([[2, 7], [40, 40]], dtype=dtype)
    assert region_numbers(raster).tolist() == [2, 7, 40]
    f = fmap.features
    expected = torch.stack((f[:, 0, 0], f[:, 0, 1], (f[:, 1, 0] + f[:, 1, 1]) / 2))
    torch.testing.assert_close(region_features(fmap, raster), expected)
    if dtype != torch.uint8:
        raster[0, 0] = -1
        torch.testing.assert_close(region_features(fmap, raster), expected[1:])
        assert region_numbers(raster).tolist() == [7, 40]


def test_region_points_lie_in_their_regions():
    raster = torch.zeros(9, 12, dtype=torch.long)
    raster[2:7, 3:10] = 3  # around it a ring, whose centroid it holds
    raster[0, 11] = 5
    points = region_points(raster)
    row, column = (points[:, 1] * 9).long(), (points[:, 0] * 12).long()
    assert raster[row, column].tolist() == [0, 3, 5]
    torch.testing.assert_close(points[1:], torch.tensor([[6.5 / 12, 4.5 / 9], [11.5 / 12, 0.5 / 9]]))


def test_point_features_are_bilinear_samples():
    fmap = sized_map(24, 40, 8)
    f = fmap.features
    points = torch.tensor([[0.5, 0.1], [1 / 3, 0.1], [1 / 3, 0.2]])
    expected = torch.stack((f[:, 0, 1], (f[:, 0, 0] + f[:, 0, 1]) / 2, f[:, :2, :2].mean(dim=(1, 2))))
    torch.testing.assert_close(point_features(fmap, points), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("raster", "message"),
    [
        (torch.zeros(2, 2), "float32"),
        (torch.zeros(2, 2, 2, dtype=torch.long), r"\(2, 2, 2\) int64"),
        (torch.zeros(0, 3, dtype=torch.long), r"\(0, 3\)"),
        (torch.full((2, 2), -1), "has no region"),
    ],
)
def test_what_is_no_raster_is_refused(raster, message):
    with pytest.raises(ValueError, match=message):
        region_features(sized_map(16, 16, 8), raster)
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        point_features(sized_map(16, 16, 8), torch.zeros(3))


@pytest.mark.parametrize("point", [(1.2, 0.5), (0.5, -0.01), (40.0, 30.0)])
def test_a_point_outside_is_refused(point):
    """Pixels instead of shares, most often; a map that reaches beyond its image may be asked there."""
    with pytest.raises(ValueError, match=r"\(.*\) lies outside"):
        point_features(sized_map(64, 64, 8), torch.tensor([[0.5, 0.5], point]))
    assert point_features(sized_map(33, 33, 32), torch.tensor([[1.5, 1.5]])).shape == (1, 3)
