"""plrc.analysis.affinity: the map of a point peaks where the point is, and is what the naive loop makes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis.affinity import affinity, affinity_difference, density, prompt
from plrc.analysis.features import FeatureMap
from plrc.geometry import Crop
from tests.analysis.maps import coded, map_of, random_map

SIZES = [(224, 224), (96, 64), (65, 97), (101, 63), (33, 224), (31, 31)]
STRIDES = [4, 8, 16, 32]


def clicks(fmap: FeatureMap, per_cell: float = 0.45) -> tuple[Tensor, list[int]]:
    """A point somewhere in each cell, no nearer than a twentieth to its edges, and the cell; only those inside."""
    h, w = fmap.shape
    jitter = (torch.rand(h, w, 2, generator=torch.Generator().manual_seed(h * w)) * 2 - 1) * per_cell
    points = (fmap.centres() + jitter * fmap.extent / torch.tensor([w, h])).flatten(0, 1)
    inside = ((points > 0) & (points < 1)).all(dim=1)
    return points[inside], inside.nonzero().flatten().tolist()


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_affinity_peaks_in_the_clicked_cell(width, height, stride):
    fmap = coded(width, height, stride)
    points, cells = clicks(fmap)
    maps = affinity(fmap, points)
    assert maps.shape == (len(points), *fmap.shape)
    assert maps.flatten(1).argmax(dim=1).tolist() == cells


@pytest.mark.parametrize("stride", [4, 32])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("width", "height"), [(97, 65), (96, 160)])
def test_affinity_to_a_view_peaks_where_the_point_lies_in_it(width, height, flip, stride):
    image = coded(250, 130, 4)
    crop = Crop(torch.tensor([0.12, 0.3, 0.71, 0.83]), torch.tensor(flip))
    view = coded(width, height, stride, crop)
    in_view, cells = clicks(view)
    (maps,) = affinity(image, crop.to_image(in_view), to=[view])
    assert maps.flatten(1).argmax(dim=1).tolist() == cells
    (back,) = affinity(view, in_view, to=[image])
    row, column = image.cell_of(crop.to_image(in_view))
    found = back.flatten(1).argmax(dim=1)
    # A view's cell may be as large as 20 cells of the image; a bilinear sample of it is exact to one of these, but not
    # where the border cell's value is continued beyond its centre.
    half = 0.5 * view.extent / torch.tensor([view.shape[1], view.shape[0]])
    mixed = ((in_view >= half) & (in_view <= view.extent - half)).all(dim=1)
    assert mixed.any() or stride == 32
    assert ((found // image.shape[1] - row).abs()[mixed] <= 1).all()
    assert ((found % image.shape[1] - column).abs()[mixed] <= 1).all()


def test_affinity_is_the_cosine():
    fmap, other = random_map(5, 3, 4), random_map(5, 2, 6, seed=1)
    features = fmap.features
    points = torch.tensor([[2.5 / 4, 0.5 / 3], [0.5, 1.5 / 3]])
    queries = [features[:, 0, 2], (features[:, 1, 1] + features[:, 1, 2]) / 2]
    own, across = affinity(fmap, points, to=[fmap, other])
    assert torch.equal(own, affinity(fmap, points))
    for maps, asked in ((own, fmap), (across, other)):
        expected = torch.stack([F.cosine_similarity(query[:, None, None], asked.features, dim=0) for query in queries])
        torch.testing.assert_close(maps, expected, rtol=0, atol=1e-6)
    assert own[0, 0, 2].item() == pytest.approx(1.0)


def test_cosines_never_leave_their_range():
    fmap = random_map(300, 9, 11)
    maps = affinity(fmap, fmap.centres().flatten(0, 1))
    assert maps.max() <= 1
    assert (-maps).max() <= 1
    flipped = map_of(-fmap.features, *fmap.image_size, fmap.stride)
    assert affinity(fmap, fmap.centres().flatten(0, 1), to=[flipped])[0].min() >= -1


# ------------------------------------------------------------------------------------------------------------- softmax


def test_softmax_over_the_cells_of_all_images():
    maps = [random_map(5, 3, 4), random_map(5, 6, 2, seed=1), random_map(5, 1, 1, seed=2)]
    points = torch.tensor([[0.2, 0.7], [0.9, 0.1]])
    shares = affinity(maps[0], points, to=maps, temperature=0.05)
    assert [s.shape for s in shares] == [(2, 3, 4), (2, 6, 2), (2, 1, 1)]
    torch.testing.assert_close(sum(s.sum(dim=(1, 2)) for s in shares), torch.ones(2))
    cosines = affinity(maps[0], points, to=maps)
    for share, cosine in zip(shares, cosines, strict=True):  # one temperature and one sum for all images
        scale = share / (cosine / 0.05).exp()
        torch.testing.assert_close(scale, scale[:, :1, :1].expand_as(scale), rtol=1e-4, atol=0)
        torch.testing.assert_close(scale[:, 0, 0], (shares[0] / (cosines[0] / 0.05).exp())[:, 0, 0], rtol=1e-4, atol=0)
    assert torch.equal(
        affinity(maps[0], points, temperature=0.05), affinity(maps[0], points, to=maps[:1], temperature=0.05)[0]
    )


def test_a_lower_temperature_is_sharper_and_never_overflows():
    fmap = random_map(5, 3, 4)
    point = fmap.centres()[1, 2][None]
    peaks = [affinity(fmap, point, temperature=t).amax().item() for t in (1.0, 0.1, 1e-6)]
    assert peaks[0] < peaks[1] < peaks[2]
    assert peaks[2] == 1


# -------------------------------------------------------------------------------------------------------------- prompts


def test_a_prompt_is_the_nearest_positive_minus_the_nearest_negative():
    fmap, other = random_map(5, 3, 4), random_map(5, 2, 6, seed=1)
    positive, negative = torch.tensor([[0.1, 0.2], [0.9, 0.6]]), torch.tensor([[0.5, 0.5], [0.2, 0.9], [0.7, 0.1]])
    for found, asked in zip(prompt(fmap, positive, negative, to=[fmap, other]), (fmap, other), strict=True):
        (yes,), (no,) = affinity(fmap, positive, to=[asked]), affinity(fmap, negative, to=[asked])
        torch.testing.assert_close(found, yes.max(dim=0).values - no.max(dim=0).values)
    torch.testing.assert_close(prompt(fmap, positive), affinity(fmap, positive).amax(dim=0))
    torch.testing.assert_close(prompt(fmap, positive, torch.empty(0, 2)), prompt(fmap, positive))
    torch.testing.assert_close(prompt(fmap, positive[:1]), affinity(fmap, positive[:1])[0])


def test_a_prompt_has_the_softmax_too():
    fmap, other = random_map(5, 3, 4), random_map(5, 2, 6, seed=1)
    yes, no = torch.tensor([[0.1, 0.2]]), torch.tensor([[0.5, 0.5]])
    shares = prompt(fmap, yes, no, to=[fmap, other], temperature=0.1)
    values = torch.cat([m.flatten() for m in prompt(fmap, yes, no, to=[fmap, other])])
    torch.testing.assert_close(torch.cat([s.flatten() for s in shares]), (values / 0.1).softmax(0))
    assert prompt(fmap, yes, no, temperature=0.1).sum().item() == pytest.approx(1)


# ---------------------------------------------------------------------------------------------------------- difference


def test_the_difference_of_maps_of_one_shape_is_cell_by_cell():
    first, second = random_map(5, 3, 4), random_map(7, 3, 4, seed=1)
    points = torch.tensor([[0.2, 0.7], [0.9, 0.1]])
    found, grid = affinity_difference(first, second, points)
    assert grid is first
    torch.testing.assert_close(found, affinity(first, points) - affinity(second, points), rtol=0, atol=1e-5)
    torch.testing.assert_close(affinity_difference(second, first, points)[0], -found, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("width", "height"), [(224, 224), (197, 101), (101, 197)])
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


# ------------------------------------------------------------------------------------------- cells, points and errors


def test_cells_are_normalised_once():
    fmap = random_map(5, 3, 4)
    cells = fmap.unit_cells
    assert fmap.unit_cells is cells
    torch.testing.assert_close(cells[1 * 4 + 2], F.normalize(fmap.features[:, 1, 2], dim=0))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: affinity(m, torch.tensor([0.5, 0.5])), r"shape \(n, 2\)"),
        (lambda m: affinity(m, torch.zeros(2, 3)), r"shape \(n, 2\)"),
        (lambda m: affinity(m, torch.zeros(1, 2), to=[random_map(6, 2, 2)]), "5 channels .* layer c5, which have 6"),
        (lambda m: affinity(m, torch.zeros(1, 2), to=[]), "`to` is empty"),
        (lambda m: affinity(m, torch.zeros(1, 2), temperature=0.0), "above 0, not 0"),
        (lambda m: affinity(m, torch.zeros(1, 2), temperature=float("nan")), "above 0"),
        (lambda m: prompt(m, torch.empty(0, 2), torch.zeros(1, 2)), "needs a positive point"),
        (lambda m: affinity_difference(m, random_map(5, 3, 5), torch.zeros(1, 2)), "32 × 24 and 40 × 24"),
    ],
)
def test_bad_questions_are_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(random_map(5, 3, 4))


def test_points_may_be_lists_and_arrays() -> None:
    fmap = random_map(6, 5, 7)
    points = [[0.4, 0.6], [0.1, 0.2]]
    expected = affinity(fmap, torch.tensor(points))
    for given in (points, np.array(points), [tuple(p) for p in points]):
        torch.testing.assert_close(affinity(fmap, given), expected)
    both = prompt(fmap, torch.tensor(points[:1]), torch.tensor(points[1:]))
    torch.testing.assert_close(prompt(fmap, points[:1], np.array(points[1:])), both)
    torch.testing.assert_close(prompt(fmap, points[:1], []), expected[0])
    for wrong in ("0.4,0.6", [[0.4]], [0.4, 0.6], [["a", "b"]], [[0.1, 0.2], [0.3]], None):
        with pytest.raises(ValueError, match=r"^points have the shape \(n, 2\), x and y in \[0, 1\] .*; not "):
            affinity(fmap, wrong)


def test_densities_of_maps_of_any_number_of_cells_are_alike() -> None:
    """Two maps of one scene, one with four times the cells: shares differ fourfold, densities do not."""
    coarse = torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(0)).flatten().softmax(0).view(1, 3, 4)
    fine = coarse.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2) / 4
    (first,), (second,) = density([coarse]), density([fine])
    torch.testing.assert_close(second, first.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2))
    assert float(first.mean()) == pytest.approx(1)
    together = torch.cat([m.flatten() for m in density([coarse / 2, fine / 2])])
    assert float(together.mean()) == pytest.approx(1)  # of all images together
