"""plrc.losses: each loss against plain loops in float64, its closed forms, its gradients, its memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from plrc import losses
from plrc.config import load_config
from plrc.losses import Direction, affinity_distillation, image_contrast, point_contrast

TEMPERATURE = 0.2
STUDENT, TEACHER = 0.1, 0.04


def unit(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1).to(dtype)


@dataclass(frozen=True)
class Points:
    """The arguments of both point losses, for 3 images that start at place 4 of the global batch."""

    points: Tensor
    teacher_points: Tensor
    key_points: Tensor
    valid: Tensor
    others: Tensor
    others_image: Tensor
    first_image: int = 4

    def contrast(self, count: Tensor | None = None) -> Tensor:
        others = self.others, self.others_image, self.first_image
        return point_contrast(self.points, self.key_points, self.valid, *others, TEMPERATURE, count=count)

    def distillation(self, count: Tensor | None = None) -> Tensor:
        keys = self.teacher_points, self.key_points
        return affinity_distillation(self.points, *keys, self.valid, STUDENT, TEACHER, count)

    def cast(self, dtype: torch.dtype) -> Points:
        names = ("points", "teacher_points", "key_points", "others")
        return replace(self, **{name: getattr(self, name).to(dtype) for name in names})


def drawn(b: int = 3, r: int = 3, p: int = 2, d: int = 5, m: int = 9, seed: int = 0) -> Points:
    """Random points; image 1 misses a region, image 2 has only one; others of every kind: own, foreign, none."""
    valid = torch.ones(b, r, dtype=torch.bool)
    valid[1:2, 0] = False
    valid[2:3, 1:] = False
    image = torch.tensor([0, 4, 5, 6, 7, -1, 4, 3, -1, 6, 6, 11])[:m]
    return Points(
        points=unit(b, r, p, d, seed=seed),
        teacher_points=unit(b, r, p, d, seed=seed + 1),
        key_points=unit(b, r, p, d, seed=seed + 2),
        valid=valid,
        others=unit(m, d, seed=seed + 3),
        others_image=image,
    )


def naive_contrast(given: Points) -> Tensor:
    """Term by term: −log( exp S_ik / (exp S_ik + Σ_j∈Neg(i) exp S_ij) ), mean over all (i, k)."""
    b, r, p, _ = given.points.shape
    terms = []
    for image in range(b):
        for region in range(r):
            if not given.valid[image, region]:
                continue
            for i in range(p):
                query = given.points[image, region, i]
                negatives = []
                for other_region in range(r):
                    if other_region != region and given.valid[image, other_region]:
                        negatives += list(given.key_points[image, other_region])
                for j in range(len(given.others)):
                    if int(given.others_image[j]) not in (-1, given.first_image + image):
                        negatives.append(given.others[j])
                terms_of_negatives = (torch.exp(query @ n / TEMPERATURE) for n in negatives)
                denominator = sum(terms_of_negatives, start=torch.zeros(()).double())
                for k in range(p):
                    numerator = torch.exp(query @ given.key_points[image, region, k] / TEMPERATURE)
                    terms.append(-torch.log(numerator / (numerator + denominator)))
    return torch.stack(terms).mean()


def naive_distillation(given: Points) -> Tensor:
    """− mean_i Σ_k A′_ik log A_ik over the points of regions that both views show."""
    b, r, p, _ = given.points.shape
    terms = []
    for image in range(b):
        places = [(region, i) for region in range(r) if given.valid[image, region] for i in range(p)]
        for here in places:
            student, teacher = given.points[image][here], given.teacher_points[image][here]
            weights = [torch.exp(teacher @ given.key_points[image][there] / TEACHER) for there in places]
            shares = [torch.exp(student @ given.key_points[image][there] / STUDENT) for there in places]
            pairs = zip(weights, shares, strict=True)
            terms.append(-sum(w / sum(weights) * torch.log(s / sum(shares)) for w, s in pairs))
    return torch.stack(terms).mean()


def naive_image(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
    terms = []
    for i in range(len(query)):
        positive = torch.exp(query[i] @ key[i] / TEMPERATURE)
        negatives = sum(torch.exp(query[i] @ old / TEMPERATURE) for old in queue)
        terms.append(-torch.log(positive / (positive + negatives)))
    return torch.stack(terms).mean()


CASES = {
    "regions missing, own and absent others": drawn(),
    "one point a region": drawn(p=1, seed=5),
    "no others": drawn(m=0, seed=7),
    "one region, nothing to push away": drawn(b=1, r=1, p=4, m=0),
    "others all the image's own or absent": replace(drawn(b=1, m=4, seed=9), others_image=torch.tensor([4, -1, 4, -1])),
    "no region missing": replace(drawn(seed=13, m=12), valid=torch.ones(3, 3, dtype=torch.bool)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("fast", "slow"), [(Points.contrast, naive_contrast), (Points.distillation, naive_distillation)]
)
def test_losses_of_points_and_their_gradients_are_those_of_the_naive_loop(case, fast, slow):
    ours, naive = CASES[case], CASES[case].cast(torch.float64)
    ours = replace(ours, points=ours.points.clone().requires_grad_())
    naive = replace(naive, points=naive.points.clone().requires_grad_())
    value, expected = fast(ours), slow(naive)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.points.grad.double(), naive.points.grad, rtol=1e-4, atol=1e-6)
    missing = ours.points.grad[~ours.valid]
    assert torch.equal(missing, torch.zeros_like(missing)), "points of regions that one view misses are not moved"


@pytest.mark.parametrize(("b", "k"), [(4, 9), (7, 3), (1, 1)])
def test_image_contrast_and_its_gradient_are_those_of_the_naive_loop(b, k):
    query, key, queue = (unit(n, 6, seed=s, dtype=torch.float64) for n, s in ((b, 0), (b, 1), (k, 2)))
    ours, naive = query.float().requires_grad_(), query.clone().requires_grad_()
    keys = [t.float().requires_grad_() for t in (key, queue)]
    value, expected = image_contrast(ours, *keys, TEMPERATURE), naive_image(naive, key, queue)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad.double(), naive.grad, rtol=1e-4, atol=1e-6)
    assert [key.grad for key in keys] == [None, None]


def a_direction(points: int, negatives: int = 64) -> Direction:
    """3 images, 4 regions of which one view does not show two."""
    generator = torch.Generator().manual_seed(points)
    maps = (torch.randn(3, 5, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    places = (torch.rand(3, 4, points, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    query_map, key_map = (m.requires_grad_() for m in maps)
    here, there = places
    valid = torch.ones(3, 4, dtype=torch.bool)
    valid[1, 0] = valid[2, 3] = False
    config = load_config("demo", given={"negatives": negatives, "temperature": TEMPERATURE})
    lottery = torch.rand(3 * 4 * points, generator=generator)
    return Direction(query_map, key_map, None, here, there, valid, torch.zeros(1, 5), lottery, config, TEACHER)


@pytest.mark.parametrize("scores", [1, 20, 40])  # less than a row of each, some rows of an image, some images
def test_parts_make_no_difference(scores, monkeypatch):
    case, (query, key), queue = drawn(), unit(2, 4, 5, seed=1), unit(11, 5, seed=2)
    case.points.requires_grad_()
    query.requires_grad_()

    def values():
        found = [case.contrast(), image_contrast(query, key, queue, TEMPERATURE)]
        return [*found, *torch.autograd.grad(sum(found), (case.points, query))]

    whole = values()
    monkeypatch.setattr(losses, "_SCORES", (scores, scores))
    for one, other in zip(values(), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_region_contrast_is_that_of_the_points_of_a_region_pooled():
    step = a_direction(points=3)
    points, keys = (F.normalize(p.mean(dim=2, keepdim=True), dim=-1) for p in (step.points, step.key_points))
    image = torch.arange(3)[:, None].expand(3, 4)[step.valid]
    pooled = Points(points, points, keys, step.valid, keys[step.valid][:, 0], image, first_image=0)
    torch.testing.assert_close(losses.region(step), naive_contrast(pooled).float(), rtol=1e-5, atol=1e-6)


def test_of_one_point_a_region_both_contrasts_are_the_same():
    step = a_direction(points=1)
    assert losses.region(step) == losses.point(step) > 0
    losses.region(step).backward()
    assert step.query_map.grad is not None
    assert step.query_map.grad.abs().sum() > 0
    assert step.key_map.grad is None


def test_others_are_as_many_as_asked_and_of_regions_that_both_views_show(monkeypatch):
    step = a_direction(points=2, negatives=7)
    features, image = step.others(step.key_points)
    assert features.shape == (7, 5)
    assert (image >= 0).all()
    shown = step.key_points[step.valid].flatten(0, 1)
    assert all((feature == shown).all(dim=1).any() for feature in features)
    _, image = replace(step, config=replace(step.config, negatives=30)).others(step.key_points)
    assert (image == -1).sum() == 30 - 20  # the latter are all there are
    monkeypatch.setattr(losses, "world_size", lambda: 3)  # of which each sends a share; none is gathered here
    assert len(step.others(step.key_points)[0]) == 2


@pytest.mark.parametrize("count", [0.25, 3.0])
@pytest.mark.parametrize("loss", [Points.contrast, Points.distillation])
def test_a_sum_can_be_divided_by_a_number_of_regions_of_several_ranks(loss, count):
    """Of which the mean may be less than one."""
    given = drawn(p=1)
    valid = given.valid.sum()
    torch.testing.assert_close(loss(given, torch.tensor(count)), loss(given) * valid / count)


def test_closed_forms_where_all_embeddings_are_equal():
    b, r, p, m, k = 2, 4, 3, 10, 11
    same = F.normalize(torch.ones(b, r, p, 6), dim=-1)
    given = Points(
        points=same,
        teacher_points=same,
        key_points=same,
        valid=torch.tensor([[True, True, True, False], [True, True, False, False]]),
        others=same[0, 0, 0].expand(m, 6),
        others_image=torch.tensor([4, 4, 5, 5, 5, 9, 9, 9, -1, -1]),  # for image 4: 6 usable, for image 5: 5
    )
    first, second = 3 * p * p, 2 * p * p  # pairs of each image
    contrast = (first * math.log(1 + 2 * p + 6) + second * math.log(1 + 1 * p + 5)) / (first + second)
    assert given.contrast().item() == pytest.approx(contrast, rel=1e-5)
    distillation = (3 * p * math.log(3 * p) + 2 * p * math.log(2 * p)) / (3 * p + 2 * p)
    assert given.distillation().item() == pytest.approx(distillation, rel=1e-5)
    vector = same[0, 0, 0]
    image = image_contrast(vector.expand(b, 6), vector.expand(b, 6), vector.expand(k, 6), TEMPERATURE)
    assert image.item() == pytest.approx(math.log(1 + k), rel=1e-6)


@pytest.mark.parametrize("loss", [Points.contrast, Points.distillation])
def test_keys_take_no_gradient(loss):
    given = drawn()
    leaves = {
        name: getattr(given, name).clone().requires_grad_()
        for name in ("points", "teacher_points", "key_points", "others")
    }
    loss(replace(given, **leaves)).backward()
    assert leaves.pop("points").grad.abs().sum() > 0
    assert {name: leaf.grad for name, leaf in leaves.items()} == dict.fromkeys(leaves)


def all_three(given: Points, vectors: list[Tensor]) -> list[Tensor]:
    return [given.contrast(), given.distillation(), image_contrast(*vectors, TEMPERATURE)]


VECTORS = [unit(5, 6, seed=s) for s in range(3)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees_to_its_own_tolerance(dtype):
    """The inputs are rounded; what is computed of them is not."""
    given, halves = drawn().cast(dtype), [v.to(dtype) for v in VECTORS]
    for value, exact in zip(all_three(given, halves), all_three(drawn(), VECTORS), strict=True):
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact.item(), rel={torch.bfloat16: 0.05, torch.float16: 0.01}[dtype])
    for loss in (Points.contrast, Points.distillation):
        torch.testing.assert_close(loss(given), loss(given.cast(torch.float32)), rtol=1e-6, atol=0)


def test_autocast_does_not_reach_the_losses():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = all_three(drawn(), VECTORS)
    assert torch.equal(torch.stack(cast), torch.stack(all_three(drawn(), VECTORS)))


@pytest.mark.parametrize("others", ["none", "own", "absent", "usable"])
@pytest.mark.parametrize("regions", ["none", "one", "one image has none"])
def test_losses_and_gradients_are_finite_where_little_is_valid(regions, others):
    given = drawn(b=2, m=0 if others == "none" else 4)
    valid = torch.zeros(2, 3, dtype=torch.bool)
    if regions == "one":
        valid[:, 1] = True
    elif regions == "one image has none":
        valid[0] = True
    image = {"none": [], "own": [4, 4, 5, 5], "absent": [-1] * 4, "usable": [9] * 4}[others]
    for loss in (Points.contrast, Points.distillation):
        points = given.points.clone().requires_grad_()
        value = loss(replace(given, points=points, valid=valid, others_image=torch.tensor(image, dtype=torch.long)))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(points.grad).all()
        assert torch.equal(points.grad[~valid], torch.zeros_like(points.grad[~valid]))
        if regions == "none":
            assert value.item() == 0


def test_extreme_logits_stay_finite():
    """Opposite points at a temperature of 0.04 or less: no exponential by hand."""
    same = F.normalize(torch.ones(1, 2, 2, 4), dim=-1)
    keys = torch.stack((same[:, 0], -same[:, 0]), dim=1)
    points = same.clone().requires_grad_()
    valid = torch.ones(1, 2, dtype=torch.bool)
    contrast = point_contrast(points, -keys, valid, same[0, 0], torch.tensor([7, 7]), 0, 0.005)
    # region 0: positive at −200, negatives at +200; region 1: positive at 200 as its 2 others
    assert contrast.item() == pytest.approx((400 + math.log(4) + math.log(3)) / 2, rel=1e-4)
    distillation = affinity_distillation(points, same, keys, valid, 0.01, 0.001)
    (contrast + distillation).backward()
    assert torch.isfinite(distillation)
    assert torch.isfinite(points.grad).all()


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        own_memory = [t for t in tree_leaves(out) if isinstance(t, Tensor) and 0 not in t.stride()]  # no expanded views
        self.elements = max([self.elements, *(t.numel() for t in own_memory)])
        return out


@pytest.mark.parametrize("loss", [Points.contrast, Points.distillation])
def test_memory_grows_linearly_with_the_batch(loss):
    r, p, m = 4, 8, 64
    largest = {}
    for b in (4, 8, 16):
        given = replace(drawn(b=b, r=r, p=p), others=unit(m, 5, seed=1), others_image=torch.arange(m) % 20)
        points = given.points.clone().requires_grad_()
        with Largest() as record:
            loss(replace(given, points=points)).backward()
        largest[b] = record.elements
    assert largest[8] <= 2 * largest[4]
    assert largest[16] <= 2 * largest[8]
    assert 0 < largest[16] < (16 * r * p) ** 2 / 4, "nothing is (all points × all points)"
