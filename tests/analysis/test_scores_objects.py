"""plrc.analysis.scores, objects: overlap, boxes and purity against naive loops; perfect, blind and trivial features."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis import descriptors
from plrc.analysis.descriptors import cosine
from plrc.analysis.scores import Values, best_iou, bootstrap, objects, point_auc, values_of
from plrc.analysis.scores.objects import CorLoc, MaskIoU, RasterObject, auc, objects_of, region_purity, ring_auc
from plrc.data.images import boxes_of
from plrc.data.sources import Annotation
from plrc.geometry import cell_centres
from tests.analysis.maps import scored

WIDTH, HEIGHT = 96, 64
ALL = {"AUC": auc, "IoU": MaskIoU, "CorLoc": CorLoc, "purity": region_purity}


def ellipses(n: int, seed: int = 0) -> list[np.ndarray]:
    """Masks ``(1, H, W)`` of an ellipse an image."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    found = []
    for _ in range(n):
        cx, cy, a, b = rng.uniform(24, 72), rng.uniform(20, 44), rng.uniform(12, 24), rng.uniform(10, 16)
        found.append(((((x - cx) / a) ** 2 + ((y - cy) / b) ** 2) < 1)[None])
    return found


def annotation(masks: np.ndarray) -> Annotation:
    return Annotation(masks, boxes_of(masks), ["object"] * len(masks))


def knows(mask: np.ndarray) -> Tensor:
    """Features ``(1, 2, 32, 48)`` of an image that are one in the object and another outside."""
    inside = (F.interpolate(torch.from_numpy(mask.astype(np.float32))[None], (32, 48), mode="area") > 0.5).float()
    return torch.cat((inside, 1 - inside), dim=1)


def drawn(mask: np.ndarray, number: int = 0, points: int = 4) -> RasterObject:
    (found,) = objects_of(mask, boxes_of(mask), mask.shape[:0:-1], number, points)
    return found


@pytest.fixture
def score() -> Callable[..., dict[str, Values]]:
    """A score's name → its values, of a descriptor whose map of each image is given."""

    def of(maps: Sequence[Tensor], known: Sequence[Annotation], similarity=cosine, which=ALL) -> dict[str, Values]:
        images = [scored(i, [m], similarity, annotation=a) for i, (m, a) in enumerate(zip(maps, known, strict=True))]
        return {name: next(iter(values_of(ALL[name], images).values())) for name in which}

    return of


def flood(above: np.ndarray, start: tuple[int, int]) -> set[tuple[int, int]]:
    """Cells that can be reached from one by sides, by hand."""
    reached, waiting = set(), [start]
    while waiting:
        i, j = waiting.pop()
        if (i, j) not in reached and 0 <= i < above.shape[0] and 0 <= j < above.shape[1] and above[i, j]:
            reached.add((i, j))
            waiting += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
    return reached


@pytest.mark.parametrize("seed", range(3))
def test_overlaps_and_boxes_are_those_of_counting_and_of_a_flood(seed):
    rng = np.random.default_rng(seed)
    similar = torch.from_numpy(rng.integers(0, 9, (3, 70)).astype(np.float32))  # many ties
    inside = torch.from_numpy(rng.random((7, 10)) < 0.3)
    levels = np.array([-1, 0, 3, 3.5, 8, 9], dtype=np.float32)
    mask = inside.flatten().numpy()
    expected = [np.mean([((s >= t) & mask).sum() / ((s >= t) | mask).sum() for s in similar.numpy()]) for t in levels]
    obj = RasterObject(inside, torch.zeros(3, 2), np.zeros(4))
    np.testing.assert_allclose(MaskIoU().at_levels(similar, obj, levels), expected)
    affinity = similar[0].view(7, 10).numpy()
    for start in ((0, 0), (4, 5), (6, 7)):
        for box, level in zip(objects.boxes_around(affinity, *start, levels), levels, strict=True):
            ys, xs = zip(*(flood(affinity >= level, start) or {(-1, -1)}), strict=True)
            expected = [min(xs) / 10, min(ys) / 7, (max(xs) + 1) / 10, (max(ys) + 1) / 7]
            np.testing.assert_allclose(box, expected if min(xs) >= 0 else [0.0] * 4, atol=1e-12)


def test_a_box_is_right_from_an_overlap_of_one_half():
    affinity = torch.zeros(2, 64)
    affinity[:, :4] = 1.0  # the upper row of 16 cells: four of them
    for width, right in ((7.9, 1.0), (8.0, 1.0), (8.1, 0.0)):
        points = cell_centres(4, 16)[0, [0, 2]]
        obj = RasterObject(torch.zeros(4, 16, dtype=torch.bool), points, np.array([0, 0, width / 16, 0.25]))
        np.testing.assert_array_equal(CorLoc().at_levels(affinity, obj, np.array([0.5, 2.0])), [right, 0.0])
    for height, right in ((0.5, 1.0), (0.49, 0.0)):
        obj = RasterObject(torch.zeros(4, 16, dtype=torch.bool), torch.zeros(1, 2), np.array([0, 0, 1, height]))
        assert CorLoc().of_whole_image(obj) == right


def test_a_point_needs_ten_cells_of_its_object_that_are_far_enough_away():
    for cells, known in ((10, True), (9, False)):
        inside = torch.zeros(8, 24, dtype=torch.bool)
        inside[0, :6] = inside[0, 24 - cells :] = True  # the first six are too near to count
        obj = RasterObject(inside, cell_centres(8, 24)[:1, 0], np.zeros(4))
        pure, share = objects.purity(inside.float().view(1, -1), obj)
        assert (pure == 1.0) == (share > 0) == known


@pytest.mark.parametrize("seed", range(3))
def test_purity_and_auc_are_those_of_sorting_and_of_counting_pairs(seed):
    mask = ellipses(1, seed)[0]
    obj = drawn(mask)
    similar = torch.from_numpy(np.random.default_rng(seed).random((4, 32 * 48)).astype(np.float32)).round(decimals=2)
    similar += torch.arange(32 * 48) * 1e-6 * (seed == 0)  # else there are ties, which count as a half
    inside = obj.inside.flatten().tolist()
    pure, share, aucs = [], [], []
    for s, (x, y) in zip(similar.tolist(), obj.points.tolist(), strict=True):
        away = [round(np.hypot(k % 48 + 0.5 - x * 48, k // 48 + 0.5 - y * 32), 3) for k in range(32 * 48)]
        far = [k for k in range(32 * 48) if away[k] > 6]
        pure.append(np.mean([inside[k] for k in sorted(far, key=lambda k: -s[k])[:10]]))
        share.append(np.mean([inside[k] for k in far]))
        won = pairs = 0.0
        for ring in range(60):
            cells = [k for k in range(32 * 48) if int(away[k]) == ring]
            for a, b in itertools.product([k for k in cells if inside[k]], [k for k in cells if not inside[k]]):
                won += (s[a] > s[b]) + (s[a] == s[b]) / 2
                pairs += 1
        aucs.append(won / pairs)
    assert ring_auc(similar, obj) == pytest.approx(np.mean(aucs), abs=1e-9)
    if seed == 0:
        np.testing.assert_allclose(objects.purity(similar, obj), (np.mean(pure), np.mean(share)))
    # Of a map that reaches beyond the image, the part that lies over it.
    beyond = F.pad(similar[0].view(32, 48), (0, 16, 0, 4), value=9.0)
    one = point_auc(beyond, torch.tensor([64 / 48, 36 / 32]), torch.from_numpy(mask[0]), obj.points[0])
    assert one == pytest.approx(aucs[0], abs=2e-3)  # sampled: ties are broken by rounding
    everywhere = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    assert np.isnan(point_auc(beyond, torch.ones(2), everywhere, obj.points[0]))


@pytest.mark.parametrize("seed", range(3))
def test_the_best_iou_is_that_of_the_best_threshold(seed):
    (mask,) = ellipses(1, seed)
    values = torch.randint(0, 9, (32, 48), generator=torch.Generator().manual_seed(seed)) + 6.0 * knows(mask)[0, 0]
    inside = knows(mask)[0, 0].bool()
    of = {t: float(((values >= t) & inside).sum() / ((values >= t) | inside).sum()) for t in values.unique().tolist()}
    found, threshold = best_iou(values, torch.ones(2), torch.from_numpy(mask[0]))
    assert found == pytest.approx(max(of.values())) == pytest.approx(of[threshold])


def test_the_threshold_is_chosen_by_the_other_half():
    """By even images the first is best, by odd ones the last: each half gets what suits the other."""
    even, odd = np.array([1.0, 0.5, 0.1]), np.array([0.2, 0.6, 0.9])
    assert objects.leave_half_out([even, odd, even, odd, even]) == [0.1, 0.2, 0.1, 0.2, 0.1]
    assert objects.leave_half_out([even, odd]) == [0.1, 0.2]
    assert objects.leave_half_out([even]) == objects.leave_half_out([]) == []


@pytest.mark.parametrize("count", [8, 40])  # fewer images than set the thresholds, and more
def test_one_threshold_serves_all_images(count, monkeypatch):
    """Affinities of the same shape but another range in every second pair of images: no threshold suits both."""
    masks, shift = ellipses(count), [0.0]

    def asked(image):
        obj = drawn(masks[image.number], image.number)
        return [[(obj.inside.flatten().float().expand(4, -1) + shift[0] * (image.number // 2 % 2), obj)]]

    monkeypatch.setattr(objects, "_asked", asked)
    found = []
    for shift[0], score in ((0.0, MaskIoU), (0.0, CorLoc), (5.0, MaskIoU)):
        images = [scored(number, [torch.zeros(1, 1, 1, 1)]) for number in range(count)]
        found.append(values_of(score, images)[score.row].columns[0])
    assert found[0] == found[1] == [1.0] * count
    assert np.mean(found[2]) < 0.8


def test_points_lie_in_their_object_and_depend_on_the_image_alone():
    mask = ellipses(1)[0]
    one, again, other = (drawn(mask, n) for n in (3, 3, 4))
    assert torch.equal(one.points, again.points)
    assert not torch.equal(one.points, other.points)
    x, y = (one.points * torch.tensor([WIDTH, HEIGHT])).long().T
    assert mask[0][y, x].all()


def test_points_of_a_box_are_of_its_middle():
    box = np.array([[0.25, 0.25, 0.75, 1.0]], dtype=np.float32)
    (obj,) = objects_of(None, box, (WIDTH, HEIGHT), 0, points=200)
    assert float(obj.inside.float().mean()) == pytest.approx(0.375)
    x, y = obj.points.T
    assert 0.375 <= x.min() < 0.4 < 0.6 < x.max() < 0.625
    assert 0.4375 <= y.min() < 0.5 < 0.75 < y.max() < 0.8125


def test_tiny_whole_difficult_and_crowd_objects_are_left_out(score):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    masks = np.stack([(x < 40) & (y < 40), (x >= 50) & (y < 40), (x < 90) & (y >= 44), x + y < 5, x >= 0])
    boxes = boxes_of(masks)
    every = Annotation(masks, boxes, ["a"] * 5, difficult=frozenset({0}), crowd=frozenset({2}))
    one = Annotation(masks[1:2], boxes[1:2], ["a"])
    of_every, of_one = (score([knows(masks[1:2])] * 2, [known] * 2) for known in (every, one))
    assert {name: v.columns for name, v in of_every.items()} == {name: v.columns for name, v in of_one.items()}
    assert objects_of(None, boxes[3:], (WIDTH, HEIGHT), 0) == []


def test_features_that_know_the_mask_are_perfect_and_those_that_prefer_the_other_side_wrong(score):
    masks = ellipses(10)
    maps, known = list(map(knows, masks)), list(map(annotation, masks))
    for name, values in score(maps, known).items():
        perfect, chance = map(bootstrap, values.columns)
        assert perfect.mean == pytest.approx(1.0, abs=1e-6), name
        assert chance.mean <= 0.5, name
        assert chance.n == perfect.n, name
    wrong = score(maps, known, lambda a, b: -cosine(a, b), ["AUC"])["AUC"]
    assert wrong.columns[0] == pytest.approx([0.0] * 10, abs=1e-6)
    coarse = [annotation(m[:, ::2, ::2]) for m in masks]  # of another resolution than the image
    assert score([torch.full((1, 16, 8, 12), 0.3)] * 10, coarse, which=["AUC"])["AUC"].columns[0] == [0.5] * 10


def test_random_features_score_what_chance_gives(score):
    masks = ellipses(30)
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 8, 32, 48, generator=generator) for _ in masks]
    found = {name: np.array(v.columns).mean(axis=1) for name, v in score(maps, list(map(annotation, masks))).items()}
    for name in ("AUC", "IoU", "purity"):
        assert abs(found[name][0] - found[name][1]) < 0.05, name
    assert found["AUC"][1] == 0.5
    assert found["IoU"][1] == pytest.approx(np.mean([m.mean() for m in masks]), rel=0.06)
    assert found["CorLoc"][0] < 0.2


def test_distance_is_a_baseline_that_shows_what_distance_alone_earns(score, monkeypatch):
    """Nearness finds part of the objects, and their AUC matched for distance is about a half: rings have a width."""
    masks = ellipses(20)
    distance = descriptors.absolute_position(2)
    maps = [distance.maps(torch.zeros(1, 3, HEIGHT, WIDTH))] * len(masks)
    found = score(maps, list(map(annotation, masks)), distance.similarity)
    means = {name: np.array(v.columns).mean(axis=1) for name, v in found.items()}
    assert abs(means["AUC"][0] - 0.5) < 0.08
    for name in ("IoU", "CorLoc", "purity"):
        assert means[name][1] + 0.1 < means[name][0] < 0.95, name
    obj, found = drawn(masks[0], points=40), []
    for width in (1.0, 0.5, 0.25, 1e-3):
        monkeypatch.setattr(objects, "_RING", width)
        found.append(ring_auc(-obj.distances(), obj))
    assert found == sorted(found, reverse=True), "what docs/looking.md says of it"
    assert found[0] > 0.51
    assert found[-1] == pytest.approx(0.5)


def test_the_values_are_of_the_images_with_objects_that_count(score):
    """Image 1 has none, and that of image 3 is too small for a cell to lie far from its points."""
    masks = ellipses(6)
    masks[1], masks[3] = np.zeros((0, HEIGHT, WIDTH), dtype=bool), np.zeros((1, HEIGHT, WIDTH), dtype=bool)
    masks[3][:, 30:38, 40:52] = True
    known = list(map(annotation, masks))
    maps = list(torch.randn(6, 1, 4, 8, 12, generator=torch.Generator().manual_seed(0)))
    found = score(maps, known)
    every, no_object = [0, 2, 3, 4, 5], "no object covers 1 % to 90 % of the image"
    assert {name: v.images for name, v in found.items()} == dict.fromkeys(ALL, every) | {"purity": [0, 2, 4, 5]}
    assert (found["AUC"].why, found["IoU"].why) == (no_object, no_object)
    too_small = "no object reaches farther than an eighth of the image's longer side from its points"
    assert found["purity"].why == f"{no_object}, or {too_small}"
    one = score(maps[:1], known[:1])
    assert one["IoU"].columns[0] == [], "no other image chooses its threshold"
    assert len(one["AUC"].columns[0]) == 1
    assert not any(any(v.columns) for v in score(maps[1:2], known[1:2]).values())
