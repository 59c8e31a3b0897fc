"""plrc.analysis.scores.matching: perfect and wrong features in two views; keypoints and k-NN against naive loops."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis import descriptors
from plrc.analysis.descriptors import Descriptor, cosine
from plrc.analysis.scores import ScoredImage, Values, matching, values_of
from plrc.analysis.scores.matching import ALPHAS, PCK, NearestNeighbours, nearest_neighbour_hits, view_pair, views
from plrc.data.photometric import Photometric
from plrc.data.views import ViewParameters, ViewSampler
from plrc.geometry import Crop, cell_centres, sample
from tests.analysis.maps import scored
from tests.sets import ramp

PLAIN = Photometric(0.0, 0.0, 0.0, 0.0, jitter_p=0.0, grey_p=0.0, blur_p=0.0, blur_sigma=(0.1, 1.0))
SAMPLER = ViewSampler((0.3, 1.0), 0.5, PLAIN)
RAMP = ramp(320, 240)


def nearest(a: Tensor, b: Tensor) -> Tensor:
    return -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def images(n: int, described: list[Descriptor], sampler: object = SAMPLER, **options: int) -> list[ScoredImage]:
    return [ScoredImage(i, RAMP, described, sampler=sampler, **options) for i in range(n)]


def test_pairs_are_the_views_that_training_would_draw_and_show_the_same_places():
    found = {i: pair for i in range(20) if (pair := view_pair(RAMP, i, SAMPLER, 64)) is not None}
    assert len(found) >= 15
    inside = 0
    for i, (pixels, here, there) in found.items():
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


def test_perfect_features_find_every_place_and_views_that_share_too_little_have_none():
    """Features are the place in the image that each cell of a ramp's view shows."""
    place = Descriptor("place", lambda views: F.avg_pool2d(views[:, :2], 8), nearest)
    ((name, found),) = values_of(views, images(20, [place], cell=8, side=64)).items()
    assert name == "view match (±1 of 8×8 cells)"
    assert (set(found.columns[0]), len(found.images)) == ({1.0}, 20)
    ((_, apart),) = values_of(views, images(12, [place], replace(SAMPLER, scale=(0.02, 0.02)), side=64)).items()
    assert (len(apart.images) < 12, apart.why) == (True, "the two views share too little")


@pytest.mark.parametrize("within", [0, 1, 2])
def test_a_match_may_be_so_many_cells_off(within):
    """Features that are shifted by one cell to the right are right for 1 and, but at the border, wrong for 0."""
    described = [places(7, 1.0), places(7), places(14), places(28)]
    (found,) = values_of(views, images(1, described, Still(), within=within)).values()
    assert found.columns[0][0] == 1.0 if within else found.columns[0][0] < 0.3
    for perfect in found.columns[1:4]:  # of any fineness, they hit the coarse cell itself
        assert perfect[0] > 0.9  # a point on a border may round to either side


@pytest.mark.parametrize(("side", "within"), [(224, 1), (160, 2), (192, 0), (64, 1)])
def test_chance_counts_the_cells_that_are_right(side, within):
    (found,) = values_of(views, images(5, [], within=within, side=side)).values()
    n, expected = side // 32, []
    for i in found.images:
        shares = []
        for x, y in view_pair(RAMP, i, SAMPLER, side)[2].tolist():
            row, column = int(y * n), int(x * n)
            near = sum(abs(k - row) <= within and abs(m - column) <= within for k in range(n) for m in range(n))
            shares.append(near / n**2)
        expected.append(np.mean(shares))
    assert found.columns[0] == pytest.approx(expected)


NAMES = [f"PCK@{a} (of the keypoints' box)" for a in ("0.05", "0.1", "0.15")]
POINTS = np.array([[0.2, 0.3], [0.8, 0.4], [0.5, 0.9]], dtype=np.float32)


def folder(n: int, k: int = 6, seed: int = 0) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Keypoints and sizes of n images."""
    rng = np.random.default_rng(seed)
    return [(rng.uniform(0.1, 0.9, (k, 2)).astype(np.float32), (int(rng.integers(90, 200)), 100)) for _ in range(n)]


def naive_match(query: Tensor, target: Tensor, width: int, height: int, x: float, y: float) -> tuple[float, np.ndarray]:
    """How far from the true place, pixels, is what is nearest in a map enlarged to 112 cells; and is every cell."""
    h, w = (round(112 * side / max(width, height)) for side in (height, width))
    large = F.interpolate(target, (h, w), mode="bilinear", align_corners=False)[0]
    row, column = np.mgrid[:h, :w]
    off = np.hypot(((column + 0.5) / w - x) * width, ((row + 0.5) / h - y) * height).ravel()
    return off[int((large - query[:, None, None]).norm(dim=0).argmin())], off


@pytest.mark.parametrize("seed", range(3))
def test_pck_is_that_of_a_loop_over_pairs(seed, monkeypatch):
    """Two folders, points that are not seen, maps of several shapes; the raster is looked through in parts."""
    monkeypatch.setattr(matching, "_CHUNK", 500)
    rng = np.random.default_rng(seed)
    taken, of_sources = [], []
    for name, images in {"a": folder(3, seed=seed), "b": folder(4, seed=seed + 10)}.items():
        maps = []
        for points, size in images:
            points[rng.random(len(points)) < 0.2, 0] = np.nan
            maps.append(torch.from_numpy(rng.random((1, 3, int(rng.integers(6, 12)), 9)).astype(np.float32)))
            taken.append(scored(len(taken), [maps[-1]], nearest, size, keypoints=points, group=name))
        for s, (source, _) in enumerate(images):
            shares = []
            for t, (target, (width, height)) in enumerate(images):
                seen = target[~np.isnan(target[:, 0])] * [width, height]
                longest = max(seen.max(axis=0) - seen.min(axis=0))
                right = []
                for k in np.flatnonzero(~np.isnan(source[:, 0] + target[:, 0])):
                    query = sample(maps[s], torch.from_numpy(source[None, k : k + 1]))[0, 0]
                    off, every = naive_match(query, maps[t], width, height, *target[k])
                    right.append([(off <= a * longest, (every <= a * longest).mean()) for a in ALPHAS])
                if right and s != t:
                    shares.append(np.mean(right, axis=0))
            of_sources.append(np.mean(shares, axis=0))
    found = values_of(PCK, taken)
    assert list(found) == NAMES
    for a, row in enumerate(found.values()):
        found = np.transpose(row.columns)  # not a value a pair
        np.testing.assert_allclose(found, [shares[a] for shares in of_sources], atol=1e-4)
        assert len(row.images) == 7


def test_what_is_right_depends_on_the_box_of_the_targets_keypoints():
    """A point that is 8 pixels off: right at 0.1 where the box is 80 pixels wide or more."""
    for width, right in ((79.0, 0.0), (81.0, 1.0)):
        x, y = 56.5 / 112, 28.5 / 56  # the centre of a cell of the raster
        source = np.array([[x, y], [np.nan, np.nan]], dtype=np.float32)
        target = np.array([[x + 0.04, y], [x + 0.04 - width / 200, y]], dtype=np.float32)
        fine = cell_centres(50, 100).permute(2, 0, 1)[None]
        taken = [scored(i, [fine], nearest, (200, 100), keypoints=p) for i, p in enumerate((source, target))]
        # As a source the second image is 8 pixels off too, but the first has one point only: no box.
        assert values_of(PCK, taken)[NAMES[1]].columns[0] == [right]


def test_the_same_relative_position_is_a_strong_baseline_in_images_of_any_proportion():
    """An image alone in its folder, and one without any point in common with the others, have no value."""
    position = descriptors.relative_position(8)
    taken = []
    for n, group, width in ((3, "a", 160), (5, "a", 200), (6, "a", 320), (7, "a", 96), (9, "b", 160)):
        points = np.full_like(POINTS, np.nan) if n == 5 else POINTS
        maps = position.maps(torch.zeros(1, 3, 160, width))
        taken.append(scored(n, [maps], position.similarity, (width, 160), keypoints=points, group=group))
    found = values_of(PCK, taken)
    assert [row.columns[0] for row in found.values()][1:] == [[1.0] * 3] * 2
    assert {tuple(row.images) for row in found.values()} == {(3, 6, 7)}
    alone = values_of(PCK, [taken[0], taken[-1]])
    assert list(alone) == NAMES
    for row in alone.values():
        assert (row.images, row.columns, row.why) == ([], [], "no other image of the folder shows the same keypoints")


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_hits_are_those_of_a_naive_vote(k, monkeypatch):
    monkeypatch.setattr(matching, "_IMAGES", 7)
    rng = np.random.default_rng(k)
    labels = [str(label) for label in rng.integers(0, 3, 41)]
    features = torch.from_numpy(rng.random((41, 5)).astype(np.float32))
    out = matching.voters_out(torch.tensor(list(map(int, labels))), torch.arange(41)).tolist()
    similar = cosine(features, features)
    expected = []
    for i in range(41):
        order = sorted((j for j in range(41) if j not in out[i]), key=lambda j: -float(similar[i, j]))
        votes: dict[str, list[int]] = defaultdict(list)
        for rank, j in enumerate(order[:k]):
            votes[labels[j]].append(rank)
        most = max(len(ranks) for ranks in votes.values())
        best = min((sum(ranks), label) for label, ranks in votes.items() if len(ranks) == most)
        expected.append(float(best[1] == labels[i]))
    assert nearest_neighbour_hits(features, labels, cosine, k) == expected
    assert 0 < np.mean(expected) < 1


def test_an_image_and_one_of_each_other_class_do_not_vote():
    classes = torch.tensor([2, 0, 1, 1, 0, 2, 2, 0, 1, 2] * 20)
    out = matching.voters_out(classes, torch.arange(50, 150))
    assert (classes[out] == torch.arange(3)).all()
    assert out[torch.arange(100), classes[50:150]].tolist() == list(range(50, 150)), "the image itself"
    others = torch.bincount(torch.cat([row[row != i] for i, row in enumerate(out, start=50)]), minlength=200)
    assert others.max() < 10, "not always the same"
    assert (others > 0).sum() > 80, "of all that there are"
    torch.testing.assert_close(matching.voters_out(classes, torch.arange(70, 72)), out[20:22])


def test_features_that_tell_nothing_score_chance_in_small_balanced_folders():
    """Ten a class: nine of its own class against ten of the other would score 0.4, all 19 of them 0."""
    generator = torch.Generator().manual_seed(0)
    for classes, size, k in ((2, 10, 9), (2, 3, 2), (4, 8, 7)):
        labels = [str(i % classes) for i in range(classes * size)]
        random = [torch.randn(len(labels), 8, generator=generator) for _ in range(40)]
        hits = [nearest_neighbour_hits(features, labels, cosine, k) for features in random]
        assert abs(np.mean(hits) - 1 / classes) < 0.06


@pytest.fixture
def fill() -> Callable[[torch.Tensor, Sequence[str]], tuple[str, Values]]:
    """The row of images whose maps have these means and vary about them."""

    def row(means: torch.Tensor, labels: Sequence[str]) -> tuple[str, Values]:
        images = []
        for number, (mean, label) in enumerate(zip(means, labels, strict=True)):
            wave = torch.tensor([1.0, -2.0, 1.0])
            images.append(scored(2 * number, [(mean[:, None, None] + wave)[None]], label=label))
        ((name, found),) = values_of(NearestNeighbours, images).items()
        return name, found

    return row


@pytest.mark.parametrize(
    ("sizes", "k"), [((30, 30, 30), 20), ((30, 22), 20), ((30, 21), 20), ((30, 12), 11), ((30, 22, 2), 1)]
)
def test_classes_that_lie_apart_are_all_right_however_small(fill, sizes, k):
    """k is at most what the smallest class can vote with; lone images are left out."""
    labels = [str(c) for c, size in enumerate(sizes) for _ in range(size)]
    means = torch.eye(4)[torch.tensor([3, *map(int, labels)])]
    name, found = fill(means, ["alone", *labels])
    assert (name, found.columns[0]) == (f"{k}-NN accuracy", [1.0] * len(labels))
    assert found.columns[1] == [float(label == "0") for label in labels]
    assert found.images == list(range(2, 2 * len(labels) + 1, 2))


@pytest.mark.parametrize(
    ("labels", "why"),
    [("aaa", "one class only"), ("abc", "no class has two images"), ("aab", "only one class has two images")],
)
def test_why_there_is_none(fill, labels, why):
    name, none = fill(torch.eye(3), labels)
    assert (name, none.images, none.columns, none.why) == ("k-NN accuracy", [], [], why)
