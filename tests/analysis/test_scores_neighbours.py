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
    expected = []
    for i in range(41):
        order = sorted(
            (j for j in range(41) if j != i), key=lambda j: -float(descriptors.cosine(*features[[i, j]].split(1)))
        )
        votes: dict[str, list[int]] = defaultdict(list)
        for rank, j in enumerate(order[:k]):
            votes[labels[j]].append(rank)
        most = max(len(ranks) for ranks in votes.values())
        best = min((sum(ranks), label) for label, ranks in votes.items() if len(ranks) == most)
        expected.append(float(best[1] == labels[i]))
    assert nearest_neighbour_hits(features, labels, descriptors.cosine, k) == expected
    assert 0 < np.mean(expected) < 1


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
    """Two of a kind face to face, each alone with the others' features nearest."""
    means = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])
    rows = fill(means, ["a", "a", "b", "b"]).rows()
    assert rows["3-NN accuracy"][0].mean == 0.0


@pytest.mark.parametrize("small", [0, 2])
def test_k_does_not_depend_on_the_smallest_class_and_lone_pictures_are_left_out(small):
    """Two more pictures of another class leave the others' scores as they were."""
    labels = ["a"] * 30 + ["b"] * 22 + ["c"] * small + ["alone"]
    means = torch.eye(4)[torch.tensor([0] * 30 + [1] * 22 + [2] * small + [3])]
    ((name, (found, chance)),) = fill(means, labels).rows().items()
    n = 52 + small
    assert name == "20-NN accuracy"
    assert (found.mean, found.n) == (pytest.approx(52 / n), n)  # two are outvoted
    assert chance.mean == pytest.approx(30 / n)


def test_of_few_pictures_all_others_vote():
    labels = ["a"] * 6 + ["b"] * 4 + ["alone"]
    means = torch.eye(3)[torch.tensor([0] * 6 + [1] * 4 + [2])]
    ((name, (found, _)),) = fill(means, labels).rows().items()
    assert name == "9-NN accuracy"
    assert (found.mean, found.n) == (0.6, 10)


def test_one_picture_a_class_gives_nothing():
    assert fill(torch.eye(4), ["a", "b", "c", "d"]).rows() == {}
    assert fill(torch.eye(4), ["a"] * 4).rows() == {}


def test_the_values_are_of_the_pictures_that_are_not_alone():
    samples = fill(torch.eye(3)[torch.tensor([0, 2, 0, 1, 1])], ["a", "alone", "a", "b", "b"]).samples()
    assert samples["3-NN accuracy"].images == [0, 4, 6, 8]
    assert samples["3-NN accuracy"].asked == 5
    assert samples["3-NN accuracy"].columns == [[0.0] * 4, [1.0, 1.0, 0.0, 0.0]]  # two strangers outvote the friend
    (none,) = fill(torch.eye(3), ["a", "a", "a"]).samples().values()
    assert (none.images, none.columns, none.asked) == ([], [[], []], 3)
    assert none.why.endswith("or one class only")
