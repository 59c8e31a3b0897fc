"""plrc.analysis.scores, neighbours: k-NN against a naive vote, separable and random features, small classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from plrc.analysis.descriptors import cosine
from plrc.analysis.scores import Values, neighbours, values_of
from plrc.analysis.scores.neighbours import NearestNeighbours, nearest_neighbour_hits, voters_out


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_hits_are_those_of_a_naive_vote(k, monkeypatch):
    monkeypatch.setattr(neighbours, "_CHUNK", 7)
    rng = np.random.default_rng(k)
    labels = [str(label) for label in rng.integers(0, 3, 41)]
    features = torch.from_numpy(rng.random((41, 5)).astype(np.float32))
    out = voters_out(torch.tensor(list(map(int, labels))), torch.arange(41)).tolist()
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
    out = voters_out(classes, torch.arange(50, 150))
    assert (classes[out] == torch.arange(3)).all()
    assert out[torch.arange(100), classes[50:150]].tolist() == list(range(50, 150)), "the image itself"
    others = torch.bincount(torch.cat([row[row != i] for i, row in enumerate(out, start=50)]), minlength=200)
    assert others.max() < 10, "not always the same"
    assert (others > 0).sum() > 80, "of all that there are"
    torch.testing.assert_close(voters_out(classes, torch.arange(70, 72)), out[20:22])


def test_features_that_tell_nothing_score_chance_in_small_balanced_folders():
    """Ten a class: nine of its own class against ten of the other would score 0.4, all 19 of them 0."""
    generator = torch.Generator().manual_seed(0)
    for classes, size, k in ((2, 10, 9), (2, 3, 2), (4, 8, 7)):
        labels = [str(i % classes) for i in range(classes * size)]
        random = [torch.randn(len(labels), 8, generator=generator) for _ in range(40)]
        hits = [nearest_neighbour_hits(features, labels, cosine, k) for features in random]
        assert abs(np.mean(hits) - 1 / classes) < 0.06


@pytest.fixture
def fill(scored) -> Callable[[torch.Tensor, Sequence[str]], tuple[str, Values]]:
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
