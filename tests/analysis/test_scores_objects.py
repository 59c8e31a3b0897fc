"""plrc.analysis.scores, objects: overlap, boxes and purity against naive loops; perfect, blind and trivial features."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis import descriptors
from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores import Values, best_iou, objects, point_auc
from plrc.analysis.scores.objects import (
    CorLoc,
    MaskIoU,
    RasterObject,
    auc,
    boxes_around,
    leave_half_out,
    objects_of,
    purity,
    region_purity,
    ring_auc,
)
from plrc.data.images import boxes_of
from plrc.data.sources import Annotation
from plrc.geometry import sample

WIDTH, HEIGHT = 96, 64


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


ALL = {"AUC": auc, "IoU": MaskIoU, "CorLoc": CorLoc, "purity": region_purity}


@pytest.fixture
def score(scored, values) -> Callable[..., dict[str, Values]]:
    """A score's name → its values; of descriptors whose maps are given, an item of ``maps`` an image."""

    def of(
        maps: Sequence[Sequence[Tensor]], known: Sequence[Annotation], similarity=(), which=ALL
    ) -> dict[str, Values]:
        images = [scored(i, m, similarity, annotation=a) for i, (m, a) in enumerate(zip(maps, known, strict=True))]
        return {name: next(iter(values(ALL[name], images).values())) for name in which}

    return of


# ------------------------------------------------------------------------------------------------------- naive versions


def flood(above: np.ndarray, start: tuple[int, int]) -> set[tuple[int, int]]:
    """Cells that can be reached from one by sides, by hand."""
    if not above[start]:
        return set()
    reached, waiting = {start}, [start]
    while waiting:
        i, j = waiting.pop()
        for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            inside = 0 <= a < above.shape[0] and 0 <= b < above.shape[1]
            if inside and above[a, b] and (a, b) not in reached:
                reached.add((a, b))
                waiting.append((a, b))
    return reached


@pytest.mark.parametrize("seed", range(4))
def test_overlaps_are_those_of_counting(seed):
    rng = np.random.default_rng(seed)
    similar = torch.from_numpy(rng.integers(0, 9, (3, 70)).astype(np.float32))  # many ties
    inside = torch.from_numpy(rng.random((7, 10)) < 0.3)
    levels = np.array([-1, 0, 3, 3.5, 8, 9], dtype=np.float32)
    mask = inside.flatten().numpy()
    expected = [np.mean([((s >= t) & mask).sum() / ((s >= t) | mask).sum() for s in similar.numpy()]) for t in levels]
    obj = RasterObject(inside, torch.zeros(3).long(), np.zeros(4))
    np.testing.assert_allclose(MaskIoU().at_levels(similar, obj, levels), expected)


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_those_of_a_flood_from_the_point(seed):
    rng = np.random.default_rng(seed)
    affinity = rng.random((8, 11))
    levels = np.quantile(affinity, [0.1, 0.3, 0.45, 0.6, 0.9])
    for cell in (0, 40, 87):
        start = divmod(cell, 11)
        for box, level in zip(boxes_around(affinity, cell, levels), levels, strict=True):
            part = flood(affinity >= level, start)
            expected = [0.0] * 4
            if part:
                ys, xs = zip(*part, strict=True)
                expected = [min(xs) / 11, min(ys) / 8, (max(xs) + 1) / 11, (max(ys) + 1) / 8]
            np.testing.assert_allclose(box, expected, atol=1e-12)


def test_a_box_is_right_from_an_overlap_of_one_half():
    affinity = torch.zeros(2, 40)
    affinity[:, :4] = 1.0  # the upper row of 10 cells: four of them
    inside = torch.zeros(4, 10, dtype=torch.bool)
    for width, right in ((7.9, 1.0), (8.1, 0.0)):
        obj = RasterObject(inside, torch.tensor([0, 2]), np.array([0, 0, width / 10, 0.25]))
        np.testing.assert_array_equal(CorLoc().at_levels(affinity, obj, np.array([0.5, 2.0])), [right, 0.0])


@pytest.mark.parametrize("seed", range(3))
def test_purity_is_that_of_sorting(seed):
    rng = np.random.default_rng(seed)
    mask = torch.zeros(32, 48, dtype=torch.bool)
    mask[6:26, 10:40] = True
    cells = torch.from_numpy(rng.choice(np.flatnonzero(mask.flatten()), 4))
    similar = torch.from_numpy(rng.random((4, 32 * 48)).astype(np.float32))
    obj = RasterObject(mask, cells, np.zeros(4))
    pure, share = [], []
    for s, cell in zip(similar.numpy(), cells.tolist(), strict=True):
        far = [k for k in range(32 * 48) if np.hypot(k // 48 - cell // 48, k % 48 - cell % 48) > 6]
        best = sorted(far, key=lambda k, s=s: -s[k])[:10]
        pure.append(np.mean([bool(mask[k // 48, k % 48]) for k in best]))
        share.append(np.mean([bool(mask[k // 48, k % 48]) for k in far]))
    np.testing.assert_allclose(purity(similar, obj), (np.mean(pure), np.mean(share)))


# ------------------------------------------------------------------------------------------------------- the threshold


def test_the_threshold_is_chosen_by_the_other_half():
    """By even images the first is best, by odd ones the last: each half gets what suits the other."""
    even, odd = np.array([1.0, 0.5, 0.1]), np.array([0.2, 0.6, 0.9])
    assert leave_half_out([even, odd, even, odd, even]) == [0.1, 0.2, 0.1, 0.2, 0.1]
    assert leave_half_out([even]) == leave_half_out([]) == []


@pytest.mark.parametrize("count", [8, 40])  # fewer images than set the thresholds, and more
def test_one_threshold_serves_all_images(scored, count, monkeypatch):
    """Affinities of the same shape but another range in every second pair of images: no threshold suits both."""
    masks, shift = ellipses(count), [0.0]

    def asked(image):
        (obj,) = objects_of(masks[image.number], boxes_of(masks[image.number]), (WIDTH, HEIGHT), image.number)
        return [[(obj.inside.flatten().float().expand(4, -1) + shift[0] * (image.number // 2 % 2), obj)]]

    monkeypatch.setattr(objects, "_asked", asked)
    found = []
    for shift[0], score in ((0.0, MaskIoU()), (0.0, CorLoc()), (5.0, MaskIoU())):
        for number in range(count):
            score.add(scored(number, []))
        found.append(score.values()[score.row].columns[0])
        assert score.values()[score.row].columns[0] == found[-1], "asked again"
    assert found[0] == found[1] == [1.0] * count
    assert np.mean(found[2]) < 0.8


# ----------------------------------------------------------------------------------------------- points in the objects


def test_points_lie_in_their_object_and_depend_on_the_image_alone():
    mask = ellipses(1)[0]
    (one,), (again,), (other,) = (objects_of(mask, boxes_of(mask), (WIDTH, HEIGHT), n) for n in (3, 3, 4))
    assert one.inside.flatten()[one.cells].all()
    assert torch.equal(one.cells, again.cells)
    assert not torch.equal(one.cells, other.cells)
    x, y = (one.points * torch.tensor([WIDTH, HEIGHT])).long().T
    assert mask[0][y, x].all()
    np.testing.assert_allclose(one.distances()[0, one.cells[0]], 0, atol=1e-4)


def test_points_of_a_box_are_of_its_middle():
    box = np.array([[0.25, 0.25, 0.75, 1.0]], dtype=np.float32)
    (obj,) = objects_of(None, box, (WIDTH, HEIGHT), 0, points=200)
    assert float(obj.inside.float().mean()) == pytest.approx(0.375)
    x, y = obj.points.T
    assert 0.375 <= x.min() < 0.4 < 0.6 < x.max() < 0.625
    assert 0.4375 <= y.min() < 0.5 < 0.75 < y.max() < 0.8125
    assert objects_of(None, np.array([[0, 0, 1, 1], [0, 0, 0.05, 0.05]], dtype=np.float32), (WIDTH, HEIGHT), 0) == []


# ------------------------------------------------------------------------------------------------------- what is scored


def test_features_that_know_the_mask_are_perfect(score):
    masks = ellipses(10)
    found = score([[knows(m)] for m in masks], [annotation(m) for m in masks])
    for name, values in found.items():
        perfect, chance = values.scores()
        assert perfect.mean == pytest.approx(1.0, abs=1e-6), name
        assert chance.mean <= 0.5, name
        assert chance.n == perfect.n, name
    assert len(found["IoU"].images) == 10


def test_random_features_score_what_chance_gives(score):
    masks = ellipses(40)
    generator = torch.Generator().manual_seed(0)
    maps = [[torch.randn(1, 8, 32, 48, generator=generator)] for _ in masks]
    found = {name: np.array(v.columns).mean(axis=1) for name, v in score(maps, list(map(annotation, masks))).items()}
    for name in ("AUC", "IoU", "purity"):
        assert abs(found[name][0] - found[name][1]) < 0.05, name
    assert found["AUC"][1] == 0.5
    assert found["IoU"][1] == pytest.approx(np.mean([m.mean() for m in masks]), rel=0.06)
    assert found["CorLoc"][0] < 0.2


def test_distance_is_a_baseline_that_shows_what_distance_alone_earns(score):
    """Nearness finds part of the objects, and their AUC matched for distance is about a half: rings have a width."""
    masks = ellipses(20)
    distance = descriptors.absolute_position(2)
    maps = [[distance.maps(torch.zeros(1, 3, HEIGHT, WIDTH))] for _ in masks]
    found = score(maps, list(map(annotation, masks)), [distance.similarity])
    means = {name: np.array(v.columns).mean(axis=1) for name, v in found.items()}
    assert abs(means["AUC"][0] - 0.5) < 0.08
    for name in ("IoU", "CorLoc", "purity"):
        assert means[name][1] + 0.1 < means[name][0] < 0.95, name


def test_distance_scores_more_than_a_half_for_the_width_of_the_rings_alone(monkeypatch):
    """What docs/looking.md says of it."""
    i, j = np.indices((36, 48))
    mask = (j - 24) ** 2 + (i - 18) ** 2 < 10**2
    (obj,) = objects_of(mask[None], boxes_of(mask[None]), (48, 36), 0, points=40)
    found = []
    for width in (1.0, 0.5, 0.25, 1e-3):
        monkeypatch.setattr(objects, "_RING", width)
        found.append(ring_auc(-obj.distances(), obj.inside, obj.distances()))
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.51
    assert found[-1] == pytest.approx(0.5)


def test_of_boxes_corloc_and_purity_are_scored(score):
    masks = ellipses(10)
    known = [Annotation(None, boxes_of(m), ["object"]) for m in masks]
    found = score([[knows(m)] for m in masks], known, which=["CorLoc", "purity"])
    assert np.mean(found["CorLoc"].columns[0]) == 1.0
    assert np.mean(found["purity"].columns[0]) > 0.9, "a small ellipse has few cells far from the point"
    assert np.mean(found["purity"].columns[1]) < 0.5


def test_difficult_and_crowd_objects_are_left_out(score):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    masks = np.stack([(x < 40) & (y < 40), (x >= 50) & (y < 40), (x < 90) & (y >= 44)])
    boxes = boxes_of(masks)
    every = Annotation(masks, boxes, ["a"] * 3, difficult=frozenset({0}), crowd=frozenset({2}))
    one = Annotation(masks[1:2], boxes[1:2], ["a"])
    of_every, of_one = (score([[knows(masks[1:2])]] * 2, [known] * 2) for known in (every, one))
    assert {name: v.columns for name, v in of_every.items()} == {name: v.columns for name, v in of_one.items()}


def test_the_values_are_of_the_images_with_objects_that_count(score):
    """Image 1 has none, and that of image 3 is too small for a cell to lie far from its points."""
    masks = [*ellipses(5), np.zeros((0, HEIGHT, WIDTH), dtype=bool)]
    masks[1], masks[5] = masks[5], masks[1]
    masks[3] = np.zeros((1, HEIGHT, WIDTH), dtype=bool)
    masks[3][:, 30:38, 40:52] = True
    generator = torch.Generator().manual_seed(0)
    maps = [[torch.randn(1, 4, 8, 12, generator=generator)] for _ in masks]
    found = score(maps, list(map(annotation, masks)))
    every, no_object = [0, 2, 3, 4, 5], "no object covers 1 % to 90 % of the image"
    assert {name: v.images for name, v in found.items()} == dict.fromkeys(ALL, every) | {"purity": [0, 2, 4, 5]}
    assert {v.asked for v in found.values()} == {6}
    assert (found["AUC"].why, found["IoU"].why) == (no_object, no_object)
    assert found["purity"].why == (
        f"{no_object}, or no object reaches farther than an eighth of the image's longer side from its points"
    )
    one = score(maps[:1], list(map(annotation, masks[:1])))
    assert one["IoU"].columns[0] == [], "no other image chooses its threshold"
    assert len(one["AUC"].columns[0]) == 1
    none = score(maps[1:2], list(map(annotation, masks[1:2])))
    assert not any(any(v.columns) for v in none.values())


# ------------------------------------------------------------------------------------------------------------- the AUC


def test_features_that_prefer_the_other_side_score_nothing_and_constant_ones_a_half(score):
    masks = [np.concatenate(ellipses(1 + i % 2, seed=i)) for i in range(12)]
    known = list(map(annotation, masks))
    opposite = [lambda a, b: -descriptors.cosine(a, b)]
    wrong = score([[knows(m)] for m in masks[::2]], known[::2], opposite, ["AUC"])["AUC"]
    assert wrong.columns[0] == pytest.approx([0.0] * 6, abs=1e-6)
    coarse = [annotation(m[:, ::2, ::2]) for m in masks]  # of another resolution than the image
    for given in (known, coarse):
        assert score([[torch.full((1, 16, 8, 12), 0.3)]] * 12, given, which=["AUC"])["AUC"].columns[0] == [0.5] * 12


def test_objects_that_are_tiny_or_nearly_everything_are_left_out(score):
    masks = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
    masks[0, 10:12, 10:12] = True
    masks[1] = True
    masks[2, 16:48, 24:60] = True
    known, maps = [annotation(masks[:2]), annotation(masks)], [[torch.rand(1, 4, 8, 12)]] * 2
    assert score(maps, known, which=["AUC"])["AUC"].images == [1]


def test_the_auc_of_one_point():
    mask = torch.from_numpy(ellipses(1)[0][0])
    ys, xs = mask.nonzero().T
    point = torch.stack((xs.float().mean() / WIDTH, ys.float().mean() / HEIGHT))
    whole = torch.ones(2)
    assert np.isnan(point_auc(mask.float(), whole, torch.ones(HEIGHT, WIDTH, dtype=torch.bool), point))
    # On a raster of 48 × 32, cell by cell.
    affinity = torch.rand(32, 48, generator=torch.Generator().manual_seed(0))
    inside = mask[::2, ::2]
    won = pairs = 0.0
    x, y = point.tolist()
    ring = [int(round(np.hypot((k % 48 + 0.5) - x * 48, (k // 48 + 0.5) - y * 32), 3)) for k in range(32 * 48)]
    flat, values = inside.flatten().tolist(), affinity.flatten().tolist()
    members = {r: [k for k in range(32 * 48) if ring[k] == r] for r in set(ring)}
    for cells in members.values():
        for a, b in itertools.product([k for k in cells if flat[k]], [k for k in cells if not flat[k]]):
            won += values[a] > values[b]
            pairs += 1
    assert point_auc(affinity, whole, inside, point) == pytest.approx(won / pairs, abs=1e-4)
    # Of a map that reaches beyond the image, the part that lies over it.
    beyond = F.pad(affinity, (0, 16, 0, 4), value=9.0)
    assert point_auc(beyond, torch.tensor([64 / 48, 36 / 32]), inside, point) == pytest.approx(won / pairs, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_iou_is_that_of_the_best_threshold(seed):
    (mask,) = ellipses(1, seed)
    values = torch.randint(0, 9, (32, 48), generator=torch.Generator().manual_seed(seed)) + 6.0 * knows(mask)[0, 0]
    inside = knows(mask)[0, 0].bool()
    of = {t: float(((values >= t) & inside).sum() / ((values >= t) | inside).sum()) for t in values.unique().tolist()}
    found, threshold = best_iou(values, torch.ones(2), torch.from_numpy(mask[0]))
    assert found == pytest.approx(max(of.values())) == pytest.approx(of[threshold])


def test_the_auc_of_one_point_is_that_of_the_scores():
    """The same coarse map and points, and a mask of a photo's size: one number."""
    (drawn,) = ellipses(1)
    mask = drawn[0].repeat(10, axis=0).repeat(10, axis=1)
    maps = torch.rand(1, 6, 7, 11, generator=torch.Generator().manual_seed(0))
    nowhere = np.zeros((1, 4), np.float32)
    (obj,) = objects_of(mask[None], nowhere, (10 * WIDTH, 10 * HEIGHT), 3, points=8)
    aucs = []
    for point, query in zip(obj.points, sample(maps, obj.points[None])[0], strict=True):
        values = descriptors.cosine(query[None], maps[0].flatten(1).T).view(7, 11)
        aucs.append(point_auc(values, torch.ones(2), torch.from_numpy(mask), point))
    assert len({round(auc, 3) for auc in aucs}) > 2
    alike = Descriptor("random", lambda p: p, descriptors.cosine)
    similar = obj.affinities(alike, maps)
    assert np.mean(aucs) == pytest.approx(ring_auc(similar, obj.inside, obj.distances()), abs=1e-4)
