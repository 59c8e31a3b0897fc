"""k nearest neighbours: is an image surrounded by images of its class?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.table import ScoredImage, Values

_NEIGHBOURS = 20  # as in DINO's protocol, which weights the votes
_CHUNK = 1000  # images that are compared with all others at once


class NearestNeighbours:
    """k-nearest-neighbour accuracy, leaving one out, by the mean of each image's map.

    An image is right if its class has the most of the votes of its k nearest others, each one vote; of equals, the
    class whose images are nearer (by the sum of their ranks). Classes with a single image are left out. By chance: the
    share of the most frequent class, the most that a guess gets that does not look at the image. A baseline of
    positions has no value: its mean tells nothing.

    Leaving one out takes a vote from the right class and none from the others: of ten images a class, nine would stand
    against ten, and features that tell nothing would score less than chance. With each image therefore one random image
    of *every* other class is left out too.

    k is 20, or the size of the smallest class minus one (that many of its images can vote) where that is smaller: with
    more, its images could not be right. The row's name says k.
    """

    def __init__(self) -> None:
        self._descriptors: Sequence[Descriptor] = ()
        self._taken: list[tuple[int, str, list[Tensor]]] = []  # an image's number, class, and mean by each descriptor

    def add(self, image: ScoredImage) -> None:
        """Take up one image."""
        self._descriptors = image.descriptors
        self._taken.append((image.number, image.label or "", [maps[0].mean(dim=(1, 2)) for maps in image.maps]))

    def values(self) -> dict[str, Values]:
        """1 or 0 an image; by chance, whether it is of the most frequent class."""
        every = Counter(label for _, label, _ in self._taken)
        counts = Counter({label: n for label, n in every.items() if n > 1})
        if len(counts) < 2:
            why = "one class only" if len(every) == 1 else f"{'only one' if counts else 'no'} class has two images"
            return {"k-NN accuracy": Values([], [], why)}
        numbers, labels, means = zip(*(one for one in self._taken if one[1] in counts), strict=True)
        k = min(_NEIGHBOURS, min(counts.values()) - 1)
        columns = [
            nearest_neighbour_hits(torch.stack(mine), labels, descriptor.similarity, k) if descriptor.pooled else []
            for descriptor, mine in zip(self._descriptors, zip(*means, strict=True), strict=True)
        ]
        ((most, _),) = counts.most_common(1)
        columns.append([float(label == most) for label in labels])
        return {f"{k}-NN accuracy": Values(list(numbers), columns, "an image alone in its class")}


def nearest_neighbour_hits(
    features: Tensor, labels: Sequence[str], similarity: Callable[[Tensor, Tensor], Tensor], k: int
) -> list[float]:
    """1 for every image, of features ``(n, C)``, whose class wins among its k nearest ``voters_out`` leaves, else 0."""
    names, of_images = np.unique(labels, return_inverse=True)
    classes = torch.from_numpy(of_images)
    # A nearer neighbour's vote weighs a trifle more: it decides between equals and nothing else.
    weights = 1 + torch.arange(k, 0, -1) / (2 * k * k)
    hits: list[float] = []
    for asked in torch.arange(len(features)).split(_CHUNK):
        similar = similarity(features[asked], features).scatter_(1, voters_out(classes, asked), -torch.inf)
        votes = torch.nn.functional.one_hot(classes[similar.topk(k, dim=1).indices], len(names))
        winner = (votes * weights[:, None]).sum(dim=1).argmax(dim=1)
        hits += (winner == classes[asked]).float().tolist()
    return hits


def voters_out(classes: Tensor, asked: Tensor) -> Tensor:
    """The images whose votes do not count: the image itself, and one of each other class, drawn once and for all.

    Returns numbers ``(len(asked), c)`` of images, of class j in column j. Of ``classes (n,)`` each of 0 … c − 1 occurs.
    """
    order, sizes = np.argsort(classes.numpy(), kind="stable"), np.bincount(classes.numpy())
    picks = np.stack([np.random.default_rng((12345, i)).random(len(sizes)) for i in asked.tolist()])
    out = torch.from_numpy(order[np.cumsum(sizes) - sizes + (picks * sizes).astype(np.int64)])
    out[torch.arange(len(asked)), classes[asked]] = asked
    return out
