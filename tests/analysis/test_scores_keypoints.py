"""plrc.analysis.scores, keypoints: PCK against a naive loop, perfect and blind features, what is resampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis import descriptors
from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores import KeypointScores, bootstrap, keypoints
from plrc.analysis.scores.keypoints import ALPHAS, best_match
from plrc.geometry import cell_centres, cell_of, sample

NAMES = [f"PCK@{a} (of the keypoints' box)" for a in ("0.05", "0.1", "0.15")]


def nearest(a: Tensor, b: Tensor) -> Tensor:
    return -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


PLACE = Descriptor("place", lambda pictures: pictures, nearest)


def folder(n: int, k: int = 6, seed: int = 0) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Keypoints and sizes of n pictures."""
    rng = np.random.default_rng(seed)
    return [(rng.uniform(0.1, 0.9, (k, 2)).astype(np.float32), (int(rng.integers(90, 200)), 100)) for _ in range(n)]


def names_at(keypoints: np.ndarray, h: int = 40, w: int = 50) -> Tensor:
    """Features that are, in the cell of keypoint k, k's own: ``(1, K + 1, h, w)``."""
    maps = torch.zeros(1, len(keypoints) + 1, h, w)
    maps[:, -1] = 1.0
    for k, point in enumerate(torch.from_numpy(keypoints)):
        row, column = cell_of(point, h, w)
        maps[0, :, row, column] = torch.eye(len(keypoints) + 1)[k]
    return maps


def test_features_that_know_the_keypoints_find_them_all():
    scores = KeypointScores([Descriptor("names", lambda p: p, descriptors.cosine)])
    for points, size in folder(4):
        centres = ((np.floor(points * [50, 40]) + 0.5) / [50, 40]).astype(np.float32)  # cells are not sampled between
        scores.add(0, "a", centres, size, [names_at(centres)])
    rows = scores.rows()
    assert list(rows) == NAMES
    for perfect, chance in rows.values():
        assert (perfect.mean, perfect.n) == (1.0, 4)
        assert 0 < chance.mean < 0.1


def naive_match(query: Tensor, target: Tensor, width: int, height: int) -> tuple[float, float]:
    """The nearest in a map that is enlarged, as a whole, to 112 cells on the longer side."""
    h, w = (round(112 * side / max(width, height)) for side in (height, width))
    large = F.interpolate(target, (h, w), mode="bilinear", align_corners=False)[0]
    best = int((large - query[:, None, None]).norm(dim=0).argmin())
    return (best % w + 0.5) / w, (best // w + 0.5) / h


@pytest.mark.parametrize("seed", range(3))
def test_pck_is_that_of_a_loop_over_pairs(seed):
    """Two folders, points that are not seen, maps of several shapes."""
    rng = np.random.default_rng(seed)
    groups = {"a": folder(3, seed=seed), "b": folder(4, seed=seed + 10)}
    scores = KeypointScores([Descriptor("noise", lambda p: p, nearest)])
    of_sources: list[list[float]] = []
    for name, pictures in groups.items():
        maps = []
        for points, size in pictures:
            points[rng.random(len(points)) < 0.2] = np.nan
            maps.append(torch.from_numpy(rng.random((1, 3, int(rng.integers(6, 12)), 9)).astype(np.float32)))
            scores.add(0, name, points, size, [maps[-1]])
        for s, (source, _) in enumerate(pictures):
            shares = []
            for t, (target, (width, height)) in enumerate(pictures):
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
    for a, row in enumerate(scores.rows().values()):
        expected = bootstrap([shares[a] for shares in of_sources])
        assert vars(row[0]) == pytest.approx(vars(expected), abs=1e-6), "source pictures are resampled, not pairs"
        assert row[0].n == 7


def test_the_best_match_is_on_the_raster_however_coarse_the_map(monkeypatch):
    """112 cells of the longer side, 70 of the other, looked through in parts."""
    monkeypatch.setattr(keypoints, "_CHUNK", 500)
    points = torch.tensor([[0.3, 0.71], [0.8, 0.21], [0.51, 0.49]])
    cells = torch.stack(cell_of(points, 70, 112)[::-1], dim=1)
    for h, w in ((5, 8), (20, 32)):
        found = best_match(PLACE, points, cell_centres(h, w).permute(2, 0, 1)[None], (160, 100))
        torch.testing.assert_close(found, (cells + 0.5) / torch.tensor([112, 70]))


@pytest.mark.parametrize("stride", [8, 32])
def test_perfect_features_of_any_stride_find_the_keypoints(stride):
    """Pictures of 448 pixels show an object of half their width at different places; features say where on it."""
    rng = np.random.default_rng(0)
    on_object = rng.uniform(0, 0.5, (12, 2))
    scores = KeypointScores([PLACE])
    for corner in rng.uniform(0.1, 0.4, (4, 2)):
        features = cell_centres(448 // stride, 448 // stride) - torch.tensor(corner, dtype=torch.float32)
        scores.add(0, "a", (corner + on_object).astype(np.float32), (448, 448), [features.permute(2, 0, 1)[None]])
    assert scores.rows()[NAMES[0]][0].mean == 1.0


def test_what_is_right_depends_on_the_box_of_the_targets_keypoints():
    """A point that is 8 pixels off: right at 0.1 where the box is 80 pixels wide or more."""
    for width, right in ((79.0, 0.0), (81.0, 1.0)):
        x, y = 56.5 / 112, 28.5 / 56  # the centre of a cell of the raster
        source = np.array([[x, y], [np.nan, np.nan]], dtype=np.float32)
        target = np.array([[x + 0.04, y], [x + 0.04 - width / 200, y]], dtype=np.float32)
        scores = KeypointScores([PLACE])
        fine = cell_centres(50, 100).permute(2, 0, 1)[None]
        scores.add(0, "a", source, (200, 100), [fine])
        scores.add(0, "a", target, (200, 100), [fine])
        # As a source the second picture is 8 pixels off too, but the first has one point only: no box.
        row = scores.rows()[NAMES[1]][0]
        assert (row.mean, row.n) == (right, 1)


def test_random_features_score_what_chance_gives():
    generator = torch.Generator().manual_seed(0)
    scores = KeypointScores([Descriptor("noise", lambda p: p, descriptors.cosine)])
    for points, size in folder(24, k=10):
        scores.add(0, "a", points, size, [torch.randn(1, 8, 24, 30, generator=generator)])
    for random, chance in scores.rows().values():
        assert abs(random.mean - chance.mean) < 0.02


def test_the_same_relative_place_is_a_strong_baseline_in_pictures_of_any_proportion():
    place = descriptors.place(8)
    scores = KeypointScores([place])
    points = np.array([[0.2, 0.3], [0.8, 0.4], [0.5, 0.9]], dtype=np.float32)
    for width in (160, 320, 96):
        scores.add(0, "a", points, (width, 160), [place.maps(torch.zeros(1, 3, 160, width))])
    assert [row[0].mean for row in scores.rows().values()][1:] == [1.0, 1.0]


def test_pictures_of_other_groups_are_no_pairs():
    scores = KeypointScores([PLACE])
    for number, (points, size) in enumerate(folder(3)):
        scores.add(number, str(number), points, size, [torch.rand(1, 2, 4, 4)])
    assert scores.rows() == {}


def test_the_values_are_of_the_source_pictures_that_have_a_pair():
    """A picture alone in its folder, and one without any point in common with the others, have none."""
    scores = KeypointScores([PLACE])
    points = np.array([[0.2, 0.3], [0.8, 0.4], [0.5, 0.9]], dtype=np.float32)
    unseen = np.full_like(points, np.nan)
    maps = [descriptors.place(8).maps(torch.zeros(1, 3, 160, 160))]
    for number, group, known in ((3, "a", points), (5, "a", unseen), (6, "a", points), (9, "b", points)):
        scores.add(number, group, known, (160, 160), maps)
    samples = scores.samples()
    assert list(samples) == NAMES
    for name, found in samples.items():
        assert (found.images, found.asked) == ([3, 6], 4)
        assert found.why == "no other picture of the folder shows the same keypoints"
        assert [bootstrap(column) for column in found.columns] == scores.rows()[name]
