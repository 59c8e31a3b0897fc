"""plrc.analysis.scores, neighbours: k-NN against a naive vote, separable and random features, small classes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch

from plrc.analysis import descriptors
from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores import NeighbourScores, neighbours
from plrc.analysis.scores.neighbours import nearest_neighbour_hits

COSINE = Descriptor("cosine", lambda pictures: pictures, descriptors.cosine)


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_hits_are_those_of_a_naive_vote(k, monkeypatch):
    monkeypatch.setattr(neighbours, "_CHUNK", 7)
    rng = np.random.default_rng(k)
    labels = [str(label) for label in rng.integers(0, 3, 41)]
    features = torch.from_numpy(rng.random((41, 5)).astype(np.float32))
    numbers = torch.tensor([int(label) for label in labels])
    expected = []
    for i in range(41):
        out = neighbours.voters_out(numbers, range(i, i + 1))[0].tolist()
        order = sorted(
            (j for j in range(41) if j not in out), key=lambda j: -float(descriptors.cosine(*features[[i, j]].split(1)))
        )
        votes: dict[str, list[int]] = defaultdict(list)
        for rank, j in enumerate(order[:k]):
            votes[labels[j]].append(rank)
        most = max(len(ranks) for ranks in votes.values())
        best = min((sum(ranks), label) for label, ranks in votes.items() if len(ranks) == most)
        expected.append(float(best[1] == labels[i]))
    assert nearest_neighbour_hits(features, labels, descriptors.cosine, k) == expected
    assert 0 < np.mean(expected) < 1


def test_a_picture_and_one_of_each_other_class_do_not_vote():
    classes = torch.tensor([2, 0, 1, 1, 0, 2, 2, 0, 1, 2] * 20)
    out = neighbours.voters_out(classes, range(50, 150))
    assert out.shape == (100, 3)
    assert (classes[out] == torch.arange(3)).all()
    assert out[torch.arange(100), classes[50:150]].tolist() == list(range(50, 150)), "the picture itself"
    others = torch.bincount(torch.cat([row[row != i] for i, row in enumerate(out, start=50)]), minlength=200)
    assert others.max() < 10, "not always the same"
    assert (others > 0).sum() > 80, "of all that there are"
    torch.testing.assert_close(neighbours.voters_out(classes, range(70, 72)), out[20:22])


def fill(means: torch.Tensor, labels: list[str]) -> NeighbourScores:
    """Pictures whose maps have these means and vary about them."""
    scores = NeighbourScores([COSINE])
    generator = torch.Generator().manual_seed(0)
    for number, (mean, label) in enumerate(zip(means, labels, strict=True)):
        wave = torch.randn(len(mean), 3, 4, generator=generator)
        scores.add(2 * number, label, [(mean[:, None, None] + wave - wave.mean(dim=(1, 2), keepdim=True))[None]])
    return scores


def test_classes_that_lie_apart_are_all_right():
    labels = [str(i % 3) for i in range(90)]
    rows = fill(torch.eye(3)[torch.arange(90) % 3], labels).rows()
    ((name, (perfect, chance)),) = rows.items()
    assert name == "20-NN accuracy"
    assert (perfect.mean, perfect.n) == (1.0, 90)
    assert chance.mean == pytest.approx(1 / 3)


def test_random_features_score_what_chance_gives():
    generator = torch.Generator().manual_seed(0)
    labels = [str(i % 2) for i in range(300)]
    ((random, chance),) = fill(torch.randn(300, 8, generator=generator), labels).rows().values()
    assert chance.mean == 0.5
    assert random.low - 0.02 < 0.5 < random.high + 0.02


def test_a_picture_is_not_its_own_neighbour():
    """Two of a kind are opposites, and both of the other kind are nearer."""
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    rows = fill(means, ["a", "a", "b", "b"]).rows()
    assert rows["1-NN accuracy"][0].mean == 0.0


@pytest.mark.parametrize(("classes", "size"), [(2, 10), (2, 3), (4, 8)])
def test_features_that_tell_nothing_score_chance_in_small_balanced_folders(classes, size):
    """Ten a class: nine of its own class against ten of the other would score 0.4, all 19 of them 0."""
    generator = torch.Generator().manual_seed(0)
    labels = [str(i % classes) for i in range(classes * size)]
    means = []
    for _ in range(100):
        ((random, chance),) = fill(torch.randn(len(labels), 8, generator=generator), labels).rows().values()
        means.append(random.mean)
    assert chance.mean == pytest.approx(1 / classes)
    assert abs(np.mean(means) - 1 / classes) < 0.05


@pytest.mark.parametrize(("sizes", "k"), [((30, 22), 20), ((30, 21), 20), ((30, 12), 11), ((30, 22, 2), 1)])
def test_classes_that_lie_apart_are_all_right_however_small(sizes, k):
    """k is at most what the smallest class can vote with; lone pictures are left out."""
    labels = [str(c) for c, size in enumerate(sizes) for _ in range(size)]
    means = torch.eye(4)[torch.tensor([int(label) for label in labels] + [3])]
    ((name, (found, chance)),) = fill(means, [*labels, "alone"]).rows().items()
    assert name == f"{k}-NN accuracy"
    assert (found.mean, found.n) == (1.0, len(labels))
    assert chance.mean == pytest.approx(30 / len(labels))


def test_one_picture_a_class_gives_nothing():
    assert fill(torch.eye(4), ["a", "b", "c", "d"]).rows() == {}
    assert fill(torch.eye(4), ["a"] * 4).rows() == {}


def test_the_values_are_of_the_pictures_that_are_not_alone():
    samples = fill(torch.eye(3)[torch.tensor([0, 2, 0, 1, 1])], ["a", "alone", "a", "b", "b"]).samples()
    assert samples["1-NN accuracy"].images == [0, 4, 6, 8]
    assert samples["1-NN accuracy"].asked == 5
    assert samples["1-NN accuracy"].columns == [[1.0] * 4, [1.0, 1.0, 0.0, 0.0]]
    assert samples["1-NN accuracy"].why == "a picture alone in its class"


@pytest.mark.parametrize(
    ("labels", "why"),
    [("aaa", "one class only"), ("abc", "no class has two pictures"), ("aab", "only one class has two pictures")],
)
def test_why_there_is_none(labels, why):
    (none,) = fill(torch.eye(3), list(labels)).samples().values()
    assert (none.images, none.columns, none.asked, none.why) == ([], [[], []], 3, why)
