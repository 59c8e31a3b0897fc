"""plrc.analysis.correspondence: maps coded with their places match wholly, and every measure is the naive loop's."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis import correspondence as module
from plrc.analysis.correspondence import chance, match_points, match_regions, match_views, region_affinity
from plrc.analysis.features import FeatureMap, region_features
from plrc.geometry import Crop, cell_centres, cell_of
from plrc.regions import view_regions
from tests.analysis.maps import blank, coded, map_of, random_map

# Two views that overlap, of other shapes, and every way of mirroring them.
BOXES = torch.tensor([[0.05, 0.13, 0.81, 0.77], [0.31, 0.02, 0.97, 0.68]])
CROPS = [Crop(BOXES, torch.tensor([a, b])) for a in (False, True) for b in (False, True)]
WHOLE = Crop(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor(False))


@pytest.mark.parametrize("stride", [4, 8, 32])
@pytest.mark.parametrize(("width", "height"), [(128, 128), (65, 97), (101, 63), (33, 224)])
def test_a_coded_map_matches_itself_cell_by_cell(width, height, stride):
    fmap = coded(width, height, stride)
    matches = match_views(fmap, fmap, WHOLE, WHOLE, within=1e-6)
    assert len(matches) == fmap.shape[0] * fmap.shape[1]
    assert matches.recall() == 1
    assert matches.visible.all()
    assert matches.mutual.all()
    assert matches.cycle.max() == 0
    torch.testing.assert_close(matches.end, matches.start)
    torch.testing.assert_close(matches.truth, matches.start)
    assert (matches.end < 1).all()
    half = fmap.extent / torch.tensor([fmap.shape[1], fmap.shape[0]]) / 2
    whole = (fmap.centres().flatten(0, 1) + half < 1 + 1e-6).all(dim=1)  # of others the image shows but a part
    torch.testing.assert_close(matches.start[whole], fmap.centres().flatten(0, 1)[whole])
    assert (matches.similarity[whole] > 1 - 1e-6).all()
    assert matches.similarity.min() > 0.85


@pytest.mark.parametrize("stride", [4, 32])
@pytest.mark.parametrize(("width", "height"), [(128, 96), (65, 97)])
@pytest.mark.parametrize("crops", CROPS)
def test_coded_views_match_wholly_to_the_cell(crops, width, height, stride):
    a, b = coded(width, height, stride, crops[0]), coded(height, width, stride, crops[1])
    matches = match_views(a, b, crops[0], crops[1], within=0.71 * stride / max(width, height))  # half a diagonal
    assert matches.visible.any()
    assert not matches.visible.all()
    assert not matches.right[~matches.visible].any()
    assert matches.recall() == 1
    here, there = crops[0].to_image(matches.start), crops[1].to_image(matches.truth)
    torch.testing.assert_close(there, here, rtol=0, atol=1e-5)  # one place of the image, seen twice
    some = match_views(a, b, crops[0], crops[1], matches.start[3:9].tolist())
    torch.testing.assert_close(some.truth, matches.truth[3:9])
    for end, truth in zip(b.cell_of(matches.end), b.cell_of(matches.truth), strict=True):
        assert torch.equal(end[matches.visible], truth[matches.visible])


@pytest.mark.parametrize("within", [0.01, 0.15, 0.21])
def test_right_is_within_a_share_of_the_longer_side_whatever_the_stride(within):
    for h, w, stride in ((5, 7, 8), (10, 14, 4)):  # of one image
        b = map_of(torch.eye(h * w).view(h * w, h, w), 56, 40, stride)
        start = b.centres().flatten(0, 1)
        truth = torch.tensor([0.31, 0.52]).expand(h * w, 2)
        far = [math.hypot((x - 0.31) * 56, (y - 0.52) * 40) / 56 for x, y in start.tolist()]
        right = match_points(b, b, start, truth, within).right
        assert right.tolist() == [away <= within for away in far]
        assert sum(right) > 0 or within < 0.1


def test_what_the_other_view_does_not_show_is_neither_right_nor_wrong():
    fmap = coded(64, 64, 8)
    truth = [[0.3, 0.3], [0.9, 0.9], [-0.01, 0.3], [0.3, 1.0], [0.3, 1.7], [math.nan, math.nan], [0.0, 0.3]]
    matches = match_points(fmap, fmap, torch.tensor([[0.3, 0.3]]).expand(7, 2), torch.tensor(truth))
    assert matches.visible.tolist() == [True, True, False, False, False, False, True]
    assert matches.right.tolist() == [True, False, False, False, False, False, False]
    assert matches.recall() == pytest.approx(1 / 3)
    assert len(matches[~matches.visible]) == 4
    assert math.isnan(matches[~matches.visible].recall())


def test_chance_is_the_share_of_the_cells_that_would_be_right():
    fmap = map_of(torch.ones(1, 4, 6), 40, 17, 8)  # 3 × 5 cells show any of it
    truth = torch.tensor([[0.5, 0.7], [0.01, 0.01], [0.99, 0.99], [1.2, 0.5]])  # the last is out of sight
    matches = match_points(fmap, fmap, torch.full((4, 2), 0.5), truth)
    places = [((8 * j + 4) / 40, (8 * i + min(8, 17 - 8 * i) / 2) / 17) for i in range(3) for j in range(5)]
    for within in (0.1, 0.25):
        near = [math.hypot((x - u) * 40, (y - v) * 17) <= within * 40 for u, v in truth[:3].tolist() for x, y in places]
        assert chance(matches, fmap, within) == pytest.approx(sum(near) / 3 / 15)
        assert sum(near) > 0
    assert math.isnan(chance(matches[3:], fmap))


@pytest.mark.parametrize("finer", [2, 4])
def test_cells_beyond_the_image_are_never_matched(finer):
    stride = 32 // finer
    h, w = finer * 3, finer * 4  # of 65 × 97 pixels, as maps made finer by shifts are: some cells show nothing
    shown = ((torch.arange(h) * stride < 65)[:, None] & (torch.arange(w) * stride < 97)).flatten()
    features = torch.randn(2, 16, h * w, generator=torch.Generator().manual_seed(0))
    for k in (0, 1):  # out of sight in either map is the very feature that a cell of the other looks for
        features[k][:, ~shown] = features[1 - k][:, shown][:, : int((~shown).sum())]
    a, b = (map_of(f.view(16, h, w), 97, 65, stride) for f in features)
    matches = match_points(a, b)
    assert len(matches) == shown.sum() < h * w
    for fmap, points in ((a, matches.start), (b, matches.end), (a, matches.back)):
        assert ((points > 0) & (points < 1)).all()
        row, column = fmap.cell_of(points)
        assert shown[row * w + column].all()


def naive(a: FeatureMap, b: FeatureMap, within: int = 1) -> Tensor:
    """Every cell of A against every cell of B, in double precision, one at a time: end, similarity, ratio, way back."""

    def cells(fmap: FeatureMap) -> list[tuple[int, int, Tensor]]:
        h, w = fmap.shape
        return [(i, j, F.normalize(fmap.features[:, i, j].double(), dim=0)) for i in range(h) for j in range(w)]

    def best(query: Tensor, among: list[tuple[int, int, Tensor]]) -> tuple[int, int, Tensor]:
        return max(among, key=lambda cell: float(query @ cell[2]))

    rows = []
    for i, j, query in cells(a):
        k, m, found = best(query, cells(b))
        elsewhere = [c for c in cells(b) if max(abs(c[0] - k), abs(c[1] - m)) > within]
        other = float((query - best(query, elsewhere)[2]).norm()) if elsewhere else math.nan
        back = best(found, cells(a))
        across, down = (back[1] - j) * a.image_size[0] / a.shape[1], (back[0] - i) * a.image_size[1] / a.shape[0]
        end = (m + 0.5) / b.shape[1], (k + 0.5) / b.shape[0]
        ratio, cycle = float((query - found).norm()) / other, math.hypot(across, down) / max(a.image_size)
        rows.append((*end, float(query @ found), ratio, back[:2] == (i, j), cycle))
    return torch.tensor(rows)


@pytest.mark.parametrize("at_once", [2**24, 50, 1])
def test_matches_are_the_naive_loop(monkeypatch, at_once):
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    a, b = random_map(5, 4, 6), random_map(5, 7, 3, seed=1)
    m = match_points(a, b)
    found = torch.column_stack((m.end, m.similarity, m.ratio, m.mutual, m.cycle))
    torch.testing.assert_close(found, naive(a, b), rtol=1e-4, atol=1e-5)
    assert 0 < m.mutual.sum() < len(m)
    assert torch.equal(m.cycle == 0, m.mutual)
    assert m.truth is m.visible is m.right is m[1:2].truth is None
    assert len(match_points(a, b, torch.empty(0, 2))) == 0


def test_regions_match_as_the_cells_of_a_map_of_regions_do():
    a, b = random_map(6, 8, 12), random_map(6, 10, 7, seed=1)
    rasters = torch.arange(6).reshape(2, 3), torch.arange(10).reshape(5, 2)
    found = match_regions(a, rasters[0], b, rasters[1])
    features = [region_features(fmap, raster) for fmap, raster in zip((a, b), rasters, strict=True)]
    of_regions = [f.T.reshape(6, *r.shape) for f, r in zip(features, rasters, strict=True)]
    both = map_of(of_regions[0], 24, 16, 8), map_of(of_regions[1], 16, 40, 8)
    expected = match_points(*both)
    for name in ("start", "end", "similarity", "back", "mutual", "cycle"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    ratio = naive(*both, within=0)[:, 3]  # every other region is a rival
    torch.testing.assert_close(found.ratio, ratio, rtol=1e-4, atol=1e-5)
    assert found.right is None
    cosines = F.cosine_similarity(features[0][:, None], features[1], dim=2)
    torch.testing.assert_close(region_affinity(*features), cosines)


def test_a_repeated_pattern_has_the_ratio_one_and_a_single_place_none():
    features = torch.randn(6, 1, 4, generator=torch.Generator().manual_seed(0))
    twice = map_of(torch.cat((features, features), dim=2), 64, 8, 8)
    assert match_points(twice, twice).ratio.tolist() == pytest.approx([1.0] * 8)
    assert match_points(twice, map_of(features[:, :, :2], 16, 8, 8)).ratio.isnan().all()
    unique = match_points(map_of(features, 32, 8, 8), map_of(features, 32, 8, 8))
    assert unique.ratio.max() < 0.01


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a, b: match_points(a, random_map(6, 3, 3)), r"5 channels.* and c5 \(6 channels\)"),
        (lambda a, b: match_points(a, b, torch.zeros(2, 2), torch.zeros(3, 2)), r"2 points, and .* shape \(3, 2\)"),
        (lambda a, b: match_regions(a, torch.eye(2).long(), random_map(6, 3, 3), torch.eye(2).long()), "5 channels"),
        (lambda a, b: match_points(a, b).recall(), "true places are not known"),
        (lambda a, b: chance(match_points(a, b), b), "true places are not known"),
    ],
)
def test_bad_questions_are_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(random_map(5, 4, 6), random_map(5, 3, 3))


def seen(raster: Tensor, crop: Crop, width: int, height: int, count: int) -> FeatureMap:
    """A view, at four pixels a cell, whose cells say which region of the image they show."""
    row, column = cell_of(crop.to_image(blank(width, height, 4).centres()), *raster.shape)
    return map_of(F.one_hot(raster[row, column], count).permute(2, 0, 1).float(), width, height, 4)


@pytest.mark.parametrize("crops", CROPS)
@pytest.mark.parametrize("kind", ["grid", "superpixels"])
def test_regions_of_two_views_find_their_own_name(kind, crops):
    seeds = torch.rand(12, 2, generator=torch.Generator().manual_seed(0))
    ragged = torch.cdist(cell_centres(60, 80).flatten(0, 1), seeds).argmin(dim=1).view(60, 80)
    raster = torch.arange(16).reshape(4, 4) if kind == "grid" else ragged
    a, b = seen(raster, crops[0], 112, 84, 16), seen(raster, crops[1], 97, 130, 16)
    raster_a, raster_b = view_regions(raster, crops)
    matches = match_regions(a, raster_a, b, raster_b, named_alike=True)
    assert len(matches) == len(raster_a.unique())
    assert matches.recall() == 1
    names_a, names_b = set(raster_a.unique().tolist()), set(raster_b.unique().tolist())
    assert matches.visible.tolist() == [name in names_b for name in sorted(names_a)]
    assert names_a - names_b  # some region is out of sight
    assert matches.truth[~matches.visible].isnan().all()
    torch.testing.assert_close(matches.end[matches.right], matches.truth[matches.right])
    for points, of_view, names in (
        (matches.start, raster_a, names_a),
        (matches.truth[matches.visible], raster_b, names_a & names_b),
    ):
        row, column = cell_of(points, *of_view.shape)
        assert of_view[row, column].tolist() == sorted(names)
