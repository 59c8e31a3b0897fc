"""plrc.analysis.scores, neighbours: k-NN against a naive vote, separable and random features, small classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from plrc.analysis import descriptors
from plrc.analysis.scores import Values, neighbours
from plrc.analysis.scores.neighbours import NearestNeighbours, nearest_neighbour_hits


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


def test_an_image_and_one_of_each_other_class_do_not_vote():
    classes = torch.tensor([2, 0, 1, 1, 0, 2, 2, 0, 1, 2] * 20)
    out = neighbours.voters_out(classes, range(50, 150))
    assert out.shape == (100, 3)
    assert (classes[out] == torch.arange(3)).all()
    assert out[torch.arange(100), classes[50:150]].tolist() == list(range(50, 150)), "the image itself"
    others = torch.bincount(torch.cat([row[row != i] for i, row in enumerate(out, start=50)]), minlength=200)
    assert others.max() < 10, "not always the same"
    assert (others > 0).sum() > 80, "of all that there are"
    torch.testing.assert_close(neighbours.voters_out(classes, range(70, 72)), out[20:22])


@pytest.fixture
def fill(scored, values) -> Callable[[torch.Tensor, Sequence[str]], tuple[str, Values]]:
    """The row of images whose maps have these means and vary about them."""

    def row(means: torch.Tensor, labels: Sequence[str]) -> tuple[str, Values]:
        generator = torch.Generator().manual_seed(0)
        images = []
        for number, (mean, label) in enumerate(zip(means, labels, strict=True)):
            wave = torch.randn(len(mean), 3, 4, generator=generator)
            maps = (mean[:, None, None] + wave - wave.mean(dim=(1, 2), keepdim=True))[None]
            images.append(scored(2 * number, [maps], label=label))
        ((name, found),) = values(NearestNeighbours, images).items()
        return name, found

    return row


def test_an_image_is_not_its_own_neighbour(fill):
    """Two of a kind are opposites, and both of the other kind are nearer."""
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    name, found = fill(means, "aabb")
    assert (name, found.columns[0]) == ("1-NN accuracy", [0.0] * 4)


@pytest.mark.parametrize(("classes", "size"), [(2, 10), (2, 3), (4, 8)])
def test_features_that_tell_nothing_score_chance_in_small_balanced_folders(fill, classes, size):
    """Ten a class: nine of its own class against ten of the other would score 0.4, all 19 of them 0."""
    generator = torch.Generator().manual_seed(0)
    labels = [str(i % classes) for i in range(classes * size)]
    found = [fill(torch.randn(len(labels), 8, generator=generator), labels)[1].columns for _ in range(100)]
    assert np.mean([chance for _, chance in found]) == pytest.approx(1 / classes)
    assert abs(np.mean([random for random, _ in found]) - 1 / classes) < 0.05


SIZES = [((30, 30, 30), 20), ((30, 22), 20), ((30, 21), 20), ((30, 12), 11), ((30, 22, 2), 1)]


@pytest.mark.parametrize(("sizes", "k"), SIZES)
def test_classes_that_lie_apart_are_all_right_however_small(fill, sizes, k):
    """k is at most what the smallest class can vote with; lone images are left out."""
    labels = [str(c) for c, size in enumerate(sizes) for _ in range(size)]
    means = torch.eye(4)[torch.tensor([int(label) for label in labels] + [3])]
    name, found = fill(means, [*labels, "alone"])
    assert (name, found.columns[0]) == (f"{k}-NN accuracy", [1.0] * len(labels))
    assert np.mean(found.columns[1]) == pytest.approx(30 / len(labels))


def test_the_values_are_of_the_images_that_are_not_alone(fill):
    name, found = fill(torch.eye(3)[torch.tensor([0, 2, 0, 1, 1])], ["a", "alone", "a", "b", "b"])
    assert (name, found.images, found.asked) == ("1-NN accuracy", [0, 4, 6, 8], 5)
    assert found.columns == [[1.0] * 4, [1.0, 1.0, 0.0, 0.0]]
    assert found.why == "an image alone in its class"


@pytest.mark.parametrize(
    ("labels", "why"),
    [("aaa", "one class only"), ("abc", "no class has two images"), ("aab", "only one class has two images")],
)
def test_why_there_is_none(fill, labels, why):
    name, none = fill(torch.eye(3), labels)
    assert (name, none.images, none.columns, none.asked, none.why) == ("k-NN accuracy", [], [[], []], 3, why)
