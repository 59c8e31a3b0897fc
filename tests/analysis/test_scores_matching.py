"""plrc.analysis.scores.matching: perfect, blind and wrong features in two views, and keypoints against a naive loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from plrc.analysis import descriptors
from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores import ScoredImage, matching
from plrc.analysis.scores.matching import ALPHAS, PCK, best_match, view_pair, views
from plrc.data.photometric import Photometric
from plrc.data.views import ViewParameters, ViewSampler
from plrc.geometry import Crop, cell_centres, cell_of, sample

PLAIN = Photometric(
    brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, jitter_p=0.0, grey_p=0.0, blur_p=0.0, blur_sigma=(0.1, 1.0)
)
SAMPLER = ViewSampler((0.3, 1.0), 0.5, PLAIN)


def ramp(width: int = 320, height: int = 240) -> Image.Image:
    """An image that says where it is: red is x, green is y."""
    channels = (cell_centres(height, width) * 255).round().byte().numpy()
    return Image.fromarray(np.dstack((channels, np.full_like(channels[..., :1], 128))))


def nearest(a: Tensor, b: Tensor) -> Tensor:
    return -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def where_in_image(cell: int) -> Descriptor:
    """The place in the image that each cell of a ramp's view shows: perfect features."""
    return Descriptor("place", lambda views: F.avg_pool2d(views[:, :2], cell), nearest)


def noise(cell: int) -> Descriptor:
    generator = torch.Generator().manual_seed(0)

    def maps(views: Tensor) -> Tensor:
        return torch.randn(len(views), 8, views.shape[2] // cell, views.shape[3] // cell, generator=generator)

    return Descriptor("noise", maps, descriptors.cosine)


def images(n: int, described: list[Descriptor], sampler: object = SAMPLER, **options: int) -> list[ScoredImage]:
    return [ScoredImage(i, ramp(), described, sampler=sampler, **options) for i in range(n)]


def test_pairs_are_the_views_that_training_would_draw_and_show_the_same_places():
    found = [view_pair(ramp(), i, SAMPLER, 64) for i in range(20)]
    assert sum(pair is not None for pair in found) >= 15
    inside = 0
    for i, pair in enumerate(found):
        if pair is None:
            continue
        pixels, here, there = pair
        assert (pixels.shape, here.shape, there.shape) == ((2, 3, 64, 64), (16, 2), (16, 2))
        assert ((there >= 0) & (there < 1)).all()
        crops = SAMPLER.draw(12345, 0, i, (320, 240)).crops
        torch.testing.assert_close(there, crops[1].to_view(crops[0].to_image(here)))
        inner = ((here - 0.5).abs() < 0.45).all(1) & ((there - 0.5).abs() < 0.45).all(1)
        first, second = (sample(pixels[k : k + 1, :2], p[None])[0] for k, p in enumerate((here, there)))
        torch.testing.assert_close(first[inner], second[inner], rtol=0, atol=0.01)
        inside += int(inner.sum())
    assert inside > 100


class Still:
    """A sampler of two views that are the whole image."""

    def draw(self, *_: object) -> ViewParameters:
        whole = Crop(torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2), torch.tensor([False, False]))
        return replace(SAMPLER.draw(12345, 0, 0, (320, 240)), crops=whole)


def places(n: int, shift: float = 0.0) -> Descriptor:
    """Features that are the place in the view itself; in the second view so many cells farther right."""
    maps = cell_centres(n, n).permute(2, 0, 1)
    moved = maps - torch.tensor([shift / n, 0]).view(2, 1, 1)
    return Descriptor(f"{n} {shift}", lambda views: torch.stack((maps, moved)), nearest)


def test_perfect_features_find_every_place(values):
    ((name, found),) = values(views, images(30, [where_in_image(8)], cell=8, side=64)).items()
    assert name == "view match (±1 of 8×8 cells)"
    assert set(found.columns[0]) == {1.0}
    assert len(found.images) > 20


@pytest.mark.parametrize("within", [0, 1, 2])
def test_a_match_may_be_so_many_cells_off(values, within):
    """Features that are shifted by one cell to the right are right for 1 and, but at the border, wrong for 0."""
    (found,) = values(views, images(1, [places(7, 1.0)], Still(), within=within)).values()
    assert found.columns[0][0] == 1.0 if within else found.columns[0][0] < 0.3


@pytest.mark.parametrize(("side", "within"), [(224, 1), (160, 2), (192, 0), (64, 1)])
def test_chance_counts_the_cells_that_are_right(values, side, within):
    (found,) = values(views, images(5, [], within=within, side=side)).values()
    n, expected = side // 32, []
    for i in found.images:
        shares = []
        for x, y in view_pair(ramp(), i, SAMPLER, side)[2].tolist():
            row, column = int(y * n), int(x * n)
            near = sum(abs(k - row) <= within and abs(m - column) <= within for k in range(n) for m in range(n))
            shares.append(near / n**2)
        expected.append(np.mean(shares))
    assert found.columns[0] == pytest.approx(expected)


@pytest.mark.parametrize("cells", [7, 14, 28])
def test_perfect_features_of_any_fineness_hit_the_coarse_cell_itself(values, cells):
    (found,) = values(views, images(1, [places(cells)], Still(), within=0)).values()
    assert found.columns[0][0] > 0.9  # a point on a border may round to either side


def test_fine_and_coarse_maps_are_judged_alike_by_cells_of_32_pixels(values):
    """Random matches of a finer map are right as often as those of the coarse one; alone as beside another."""
    ((name, found),) = values(views, images(60, [noise(32), noise(8)])).items()
    coarse, fine, chance = (score.mean for score in found.scores())
    assert name == "view match (±1 of 7×7 cells)"
    assert abs(coarse - chance) < 0.035
    assert abs(fine - chance) < 0.035
    ((_, alone),) = values(views, images(8, [places(28)])).items()
    ((_, beside),) = values(views, images(8, [places(7), places(28)])).items()
    assert alone.columns[0] == beside.columns[1]


def test_views_that_share_too_little_have_no_value(values):
    apart = replace(SAMPLER, scale=(0.02, 0.02))
    ((_, found),) = values(views, images(12, [places(7)], apart)).items()
    assert (len(found.images) < found.asked, found.why) == (True, "the two views share too little")


# ------------------------------------------------------------------------------------------------------------ keypoints

NAMES = [f"PCK@{a} (of the keypoints' box)" for a in ("0.05", "0.1", "0.15")]


PLACE = Descriptor("place", lambda images: images, nearest)


def folder(n: int, k: int = 6, seed: int = 0) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Keypoints and sizes of n images."""
    rng = np.random.default_rng(seed)
    return [(rng.uniform(0.1, 0.9, (k, 2)).astype(np.float32), (int(rng.integers(90, 200)), 100)) for _ in range(n)]


def naive_match(query: Tensor, target: Tensor, width: int, height: int) -> tuple[float, float]:
    """The nearest in a map that is enlarged, as a whole, to 112 cells on the longer side."""
    h, w = (round(112 * side / max(width, height)) for side in (height, width))
    large = F.interpolate(target, (h, w), mode="bilinear", align_corners=False)[0]
    best = int((large - query[:, None, None]).norm(dim=0).argmin())
    return (best % w + 0.5) / w, (best // w + 0.5) / h


@pytest.mark.parametrize("seed", range(3))
def test_pck_is_that_of_a_loop_over_pairs(scored, values, seed):
    """Two folders, points that are not seen, maps of several shapes."""
    rng = np.random.default_rng(seed)
    groups = {"a": folder(3, seed=seed), "b": folder(4, seed=seed + 10)}
    taken = []
    of_sources: list[list[float]] = []
    for name, images in groups.items():
        maps = []
        for points, size in images:
            points[rng.random(len(points)) < 0.2] = np.nan
            maps.append(torch.from_numpy(rng.random((1, 3, int(rng.integers(6, 12)), 9)).astype(np.float32)))
            taken.append(scored(len(taken), [maps[-1]], [nearest], size, keypoints=points, group=name))
        for s, (source, _) in enumerate(images):
            shares = []
            for t, (target, (width, height)) in enumerate(images):
                if s == t:
                    continue
                seen = target[~np.isnan(target[:, 0])] * [width, height]
                longest = max(seen.max(axis=0) - seen.min(axis=0))
                right = []
                for k in range(len(source)):
                    if np.isnan(source[k, 0]) or np.isnan(target[k, 0]):
                        continue
                    query = sample(maps[s], torch.from_numpy(source[None, k : k + 1]))[0, 0]
                    x, y = naive_match(query, maps[t], width, height)
                    error = np.hypot((x - target[k, 0]) * width, (y - target[k, 1]) * height)
                    right.append([error <= alpha * longest for alpha in ALPHAS])
                if right:
                    shares.append(np.mean(right, axis=0))
            of_sources.append(np.mean(shares, axis=0))
    for a, found in enumerate(values(PCK, taken).values()):
        assert found.columns[0] == pytest.approx([shares[a] for shares in of_sources], abs=1e-6)  # not a value a pair
        assert len(found.images) == 7


def test_the_best_match_is_on_the_raster_however_coarse_the_map(monkeypatch):
    """112 cells of the longer side, 70 of the other, looked through in parts."""
    monkeypatch.setattr(matching, "_CHUNK", 500)
    points = torch.tensor([[0.3, 0.71], [0.8, 0.21], [0.51, 0.49]])
    cells = torch.stack(cell_of(points, 70, 112)[::-1], dim=1)
    for h, w in ((5, 8), (20, 32)):
        found = best_match(PLACE, points, cell_centres(h, w).permute(2, 0, 1)[None], (160, 100))
        torch.testing.assert_close(found, (cells + 0.5) / torch.tensor([112, 70]))


@pytest.mark.parametrize("stride", [8, 32])
def test_perfect_features_of_any_stride_find_the_keypoints(scored, values, stride):
    """Pictures of 448 pixels show an object of half their width at different places; features say where on it."""
    rng = np.random.default_rng(0)
    on_object = rng.uniform(0, 0.5, (12, 2))
    taken = []
    for corner in rng.uniform(0.1, 0.4, (4, 2)):
        features = cell_centres(448 // stride, 448 // stride) - torch.tensor(corner, dtype=torch.float32)
        keypoints, maps = (corner + on_object).astype(np.float32), features.permute(2, 0, 1)[None]
        taken.append(scored(len(taken), [maps], [nearest], (448, 448), keypoints=keypoints))
    assert values(PCK, taken)[NAMES[0]].columns[0] == [1.0] * 4


def test_what_is_right_depends_on_the_box_of_the_targets_keypoints(scored, values):
    """A point that is 8 pixels off: right at 0.1 where the box is 80 pixels wide or more."""
    for width, right in ((79.0, 0.0), (81.0, 1.0)):
        x, y = 56.5 / 112, 28.5 / 56  # the centre of a cell of the raster
        source = np.array([[x, y], [np.nan, np.nan]], dtype=np.float32)
        target = np.array([[x + 0.04, y], [x + 0.04 - width / 200, y]], dtype=np.float32)
        fine = cell_centres(50, 100).permute(2, 0, 1)[None]
        taken = [scored(i, [fine], [nearest], (200, 100), keypoints=p) for i, p in enumerate((source, target))]
        # As a source the second image is 8 pixels off too, but the first has one point only: no box.
        assert values(PCK, taken)[NAMES[1]].columns[0] == [right]


def test_random_features_find_as_many_keypoints_as_chance(scored, values):
    generator = torch.Generator().manual_seed(0)
    taken = [
        scored(i, [torch.randn(1, 8, 24, 30, generator=generator)], size=size, keypoints=points)
        for i, (points, size) in enumerate(folder(24, k=10))
    ]
    for found in values(PCK, taken).values():
        assert abs(np.mean(found.columns[0]) - np.mean(found.columns[1])) < 0.02


def test_the_same_relative_position_is_a_strong_baseline_in_images_of_any_proportion(scored, values):
    position = descriptors.relative_position(8)
    points = np.array([[0.2, 0.3], [0.8, 0.4], [0.5, 0.9]], dtype=np.float32)
    taken = []
    for width in (160, 320, 96):
        maps = position.maps(torch.zeros(1, 3, 160, width))
        taken.append(scored(width, [maps], [position.similarity], (width, 160), keypoints=points))
    assert [found.columns[0] for found in values(PCK, taken).values()][1:] == [[1.0] * 3] * 2


def test_the_values_are_of_the_source_images_that_have_a_pair(scored, values):
    """An image alone in its folder, and one without any point in common with the others, have none."""
    points = np.array([[0.2, 0.3], [0.8, 0.4], [0.5, 0.9]], dtype=np.float32)
    maps = descriptors.relative_position(8).maps(torch.zeros(1, 3, 160, 160))
    known = ((3, "a", points), (5, "a", np.full_like(points, np.nan)), (6, "a", points), (9, "b", points))
    taken = [scored(n, [maps], [nearest], (160, 160), keypoints=p, group=group) for n, group, p in known]
    found = values(PCK, taken)
    assert list(found) == NAMES
    for row in found.values():
        assert (row.images, row.asked, len(row.columns[0])) == ([3, 6], 4, 2)
        assert row.why == "no other image of the folder shows the same keypoints"
    alone = values(PCK, [taken[0], taken[3]])
    assert list(alone) == NAMES
    assert all(row.columns == [[], []] for row in alone.values())
