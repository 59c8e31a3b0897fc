"""plrc.analysis.affinity: the map of a point peaks where the point is, and is what the naive loop makes it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from plrc.analysis.affinity import affinity, affinity_difference, density, prompt
from tests.analysis.maps import coded, map_of, random_map

POSITIVE, NEGATIVE = torch.tensor([[0.1, 0.2], [0.9, 0.6]]), torch.tensor([[0.5, 0.5], [0.2, 0.9], [0.7, 0.1]])


@pytest.fixture
def maps():
    return [random_map(5, 3, 4), random_map(5, 6, 2, seed=1), random_map(5, 1, 1, seed=2)]


@pytest.mark.parametrize("stride", [4, 8, 32])
@pytest.mark.parametrize(("width", "height"), [(224, 224), (65, 97), (101, 63), (33, 224), (31, 31)])
def test_affinity_peaks_in_the_clicked_cell(width, height, stride):
    """A click lies somewhere in its cell, no nearer than a twentieth to its edges, and in the image."""
    fmap = coded(width, height, stride)
    h, w = fmap.shape
    jitter = (torch.rand(h, w, 2, generator=torch.Generator().manual_seed(h * w)) * 2 - 1) * 0.45
    points = (fmap.centres() + jitter * fmap.extent / torch.tensor([w, h])).flatten(0, 1)
    inside = ((points > 0) & (points < 1)).all(dim=1)
    found = affinity(fmap, points[inside])
    assert found.shape == (inside.sum(), h, w)
    assert torch.equal(found.flatten(1).argmax(dim=1), inside.nonzero().flatten())


def test_affinity_is_the_cosine_of_bilinear_samples(maps):
    fmap, other, _ = maps
    points = torch.tensor([[2.5 / 4, 0.5 / 3], [0.5, 1.5 / 3]])
    queries = [fmap.features[:, 0, 2], (fmap.features[:, 1, 1] + fmap.features[:, 1, 2]) / 2]
    own, across = affinity(fmap, points, to=[fmap, other])
    assert torch.equal(own, affinity(fmap, points))
    for found, asked in ((own, fmap), (across, other)):
        expected = torch.stack([F.cosine_similarity(query[:, None, None], asked.features, dim=0) for query in queries])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_cosines_never_leave_their_range():
    fmap = random_map(300, 9, 11)
    flipped = map_of(-fmap.features, *fmap.image_size, fmap.stride)
    own, opposite = affinity(fmap, fmap.centres().flatten(0, 1), to=[fmap, flipped])
    assert own.max() <= 1
    assert opposite.min() >= -1


def test_softmax_is_over_the_cells_of_all_images(maps):
    shares, cosines = (affinity(maps[0], POSITIVE, to=maps, temperature=t) for t in (0.05, None))
    expected = (torch.cat([m.flatten(1) for m in cosines], dim=1) / 0.05).softmax(dim=1)
    torch.testing.assert_close(torch.cat([s.flatten(1) for s in shares], dim=1), expected)
    assert [s.shape for s in shares] == [(2, 3, 4), (2, 6, 2), (2, 1, 1)]
    assert affinity(maps[0], maps[0].centres()[1, 2][None], temperature=1e-6).amax() == 1, "and never overflows"
    densities = torch.cat([m.flatten(1) for m in density(shares)], dim=1)
    torch.testing.assert_close(densities, expected * 25)


def test_a_prompt_is_the_nearest_positive_minus_the_nearest_negative(maps):
    fmap, *_ = maps
    found = prompt(fmap, POSITIVE, NEGATIVE, to=maps)
    for values, asked in zip(found, maps, strict=True):
        (yes,), (no,) = affinity(fmap, POSITIVE, to=[asked]), affinity(fmap, NEGATIVE, to=[asked])
        torch.testing.assert_close(values, yes.max(dim=0).values - no.max(dim=0).values)
    for none in ((), torch.empty(0, 2)):
        torch.testing.assert_close(prompt(fmap, POSITIVE, none), affinity(fmap, POSITIVE).amax(dim=0))
    shares = torch.cat([s.flatten() for s in prompt(fmap, POSITIVE, NEGATIVE, to=maps, temperature=0.1)])
    torch.testing.assert_close(shares, (torch.cat([m.flatten() for m in found]) / 0.1).softmax(0))


@pytest.mark.parametrize(("width", "height"), [(224, 224), (197, 101)])
def test_the_difference_of_maps_of_two_strides_is_at_the_finer_cells(width, height):
    fine, coarse = coded(width, height, 4), coded(width, height, 16)
    points = torch.tensor([[0.3, 0.4], [0.6, 0.55]])
    found, grid = affinity_difference(coarse, fine, points)
    other, same = affinity_difference(fine, coarse, points)
    assert grid is same is fine
    torch.testing.assert_close(found, -other)
    # Both are nearly the same smooth function of the place, but in the coarse map's outermost half cell.
    h, w = fine.shape
    assert found[:, 3 : h - 5, 3 : w - 5].abs().max() < 0.01


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: affinity(m, torch.zeros(1, 2), to=[random_map(6, 2, 2)]), r"5 channels.* and c5 \(6 channels\)"),
        (lambda m: affinity(m, torch.zeros(1, 2), to=[]), "`to` is empty"),
        (lambda m: affinity(m, torch.zeros(1, 2), temperature=0.0), "above 0, not 0"),
        (lambda m: affinity(m, torch.zeros(1, 2), temperature=float("nan")), "above 0"),
        (lambda m: prompt(m, torch.empty(0, 2), torch.zeros(1, 2)), "needs a positive point"),
        (lambda m: affinity_difference(m, random_map(5, 3, 5), torch.zeros(1, 2)), "32 × 24 and 40 × 24"),
        *[
            (lambda m, p=p: affinity(m, p), r"^points have the shape \(n, 2\), x and y in \[0, 1\] .*; not ")
            for p in ("0.4,0.6", [[0.4]], torch.tensor([0.4, 0.6]), [["a", "b"]], [[0.1, 0.2], [0.3]], None)
        ],
    ],
)
def test_bad_questions_are_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(random_map(5, 3, 4))


@pytest.mark.parametrize("kind", [torch.Tensor.tolist, torch.Tensor.numpy, lambda p: list(map(tuple, p.tolist()))])
def test_points_may_be_lists_and_arrays(kind, maps):
    expected = prompt(maps[0], POSITIVE, NEGATIVE)
    torch.testing.assert_close(prompt(maps[0], kind(POSITIVE), kind(NEGATIVE)), expected)
    assert isinstance(kind(POSITIVE), list | np.ndarray)
