"""k nearest neighbours: is a picture surrounded by pictures of its class?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.bootstrap import Sample, Score, scores_of

_NEIGHBOURS = 20  # as in DINO's protocol, which weights the votes
_CHUNK = 1000  # pictures that are compared with all others at once


class NeighbourScores:
    """k-nearest-neighbour accuracy of several descriptors, leaving one out, by the mean of each picture's map.

    A picture is right if its class has the most of the votes of its k nearest others, each one vote; of equals, the
    class whose pictures are nearer (by the sum of their ranks). Classes with a single picture are left out. By chance:
    the share of the most frequent class, the most that a guess gets that does not look at the picture.

    Leaving one out takes a vote from the right class and none from the others: of ten pictures a class, nine would
    stand against ten, and features that tell nothing would score less than chance. With each picture therefore one
    random picture of *every* other class is left out too. Whatever a picture's class, the same numbers of each stand
    against each other.

    k is 20, or the size of the smallest class less one (that many of its pictures can vote) where that is smaller:
    with more, its pictures could not be right. The measure's name says k.
    """

    def __init__(self, descriptors: Sequence[Descriptor]) -> None:
        self._descriptors = descriptors
        self._means: list[list[Tensor]] = [[] for _ in descriptors]
        self._labels: list[str] = []
        self._numbers: list[int] = []

    def add(self, number: int, label: str, maps: Sequence[Tensor]) -> None:
        """Take up one picture by its number: its class, and of each descriptor the map ``(1, C, h, w)``."""
        self._numbers.append(number)
        self._labels.append(label)
        for means, features in zip(self._means, maps, strict=True):
            means.append(features[0].mean(dim=(1, 2)))

    def rows(self) -> dict[str, list[Score | None]]:
        """The measure's name → a score a descriptor, and last the one by chance. Empty without two classes of two."""
        return scores_of(self.samples())

    def samples(self) -> dict[str, Sample]:
        """The measure's name → 1 or 0 a picture; by chance, whether it is of the most frequent class."""
        every = Counter(self._labels)
        counts = {label: n for label, n in every.items() if n > 1}
        why = "a picture alone in its class"
        if len(counts) < 2:
            why = "one class only" if len(every) == 1 else f"{'only one' if counts else 'no'} class has two pictures"
            return {"k-NN accuracy": Sample([], [[] for _ in (*self._descriptors, None)], len(self._labels), why)}
        kept = [i for i, label in enumerate(self._labels) if label in counts]
        labels = [self._labels[i] for i in kept]
        k = min(_NEIGHBOURS, min(counts.values()) - 1)
        most = max(counts, key=lambda label: counts[label])
        hits = [
            nearest_neighbour_hits(torch.stack([means[i] for i in kept]), labels, descriptor.similarity, k)
            for descriptor, means in zip(self._descriptors, self._means, strict=True)
        ]
        chance = [float(label == most) for label in labels]
        numbers = [self._numbers[i] for i in kept]
        return {f"{k}-NN accuracy": Sample(numbers, [*hits, chance], len(self._labels), why)}


def nearest_neighbour_hits(
    features: Tensor, labels: Sequence[str], similarity: Callable[[Tensor, Tensor], Tensor], k: int
) -> list[float]:
    """1 for every picture whose class wins among its k nearest others, else 0; the others are those of ``voters_out``.

    Args:
        features: ``(n, C)``, of n pictures in c classes, n − c ≥ k.
    """
    names = sorted(set(labels))
    numbers = torch.tensor([names.index(label) for label in labels])
    hits: list[float] = []
    for start in range(0, len(features), _CHUNK):
        similar = similarity(features[start : start + _CHUNK], features)
        similar.scatter_(1, voters_out(numbers, range(start, start + len(similar))), -torch.inf)
        nearest = numbers[similar.topk(k, dim=1).indices]
        votes = torch.nn.functional.one_hot(nearest, len(names)).float()
        # A nearer neighbour's vote weighs a trifle more: it decides between equals and nothing else.
        trifle = 1 + torch.arange(k, 0, -1) / (2 * k * k)
        winner = (votes * trifle[:, None]).sum(dim=1).argmax(dim=1)
        hits += (winner == numbers[start : start + _CHUNK]).float().tolist()
    return hits


def voters_out(classes: Tensor, asked: range) -> Tensor:
    """Who does not vote on a picture: itself, and one of each other class, at random but the same every time.

    Args:
        classes: ``(n,)``, every one of 0 … c − 1 at least once. asked: pictures that are voted on.

    Returns:
        Numbers of pictures, ``(len(asked), c)``, of class j in column j.
    """
    order, sizes = np.argsort(classes.numpy(), kind="stable"), np.bincount(classes.numpy())
    picks = np.stack([np.random.default_rng((12345, i)).random(len(sizes)) for i in asked])
    out = torch.from_numpy(order[np.cumsum(sizes) - sizes + (picks * sizes).astype(np.int64)])
    out[torch.arange(len(asked)), classes[asked.start : asked.stop]] = torch.tensor(asked)
    return out
