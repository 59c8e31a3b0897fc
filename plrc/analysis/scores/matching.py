"""Scores of matching: does a point find its place in another view, a keypoint its own elsewhere, an image its class?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.objects import raster_of
from plrc.analysis.scores.table import ScoredImage, Values
from plrc.data.photometric import apply
from plrc.data.views import ViewSampler, cut
from plrc.geometry import cell_centres, cell_of, sample

ALPHAS = (0.05, 0.1, 0.15)
_POINTS = 16  # that both views show
_RASTER = 112  # cells of the longer side of the raster on which a keypoint is looked for: 4 pixels of 448
_CHUNK = 2048  # of them at once: 2048 channels are 16 MiB then
_NEIGHBOURS = 20  # as in DINO's protocol, which weights the votes
_IMAGES = 1000  # that are compared with all others at once
_NO_PAIR = "no other image of the folder shows the same keypoints"


def view_pair(image: Image.Image, number: int, sampler: ViewSampler, side: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """The views that training would draw of an image with seed 12345 in epoch 0, and 16 points that both show.

    Returns views ``(2, 3, S, S)`` RGB in [0, 1], coloured as in training; points ``(16, 2)`` in the frame of view 1;
    and the same places in that of view 2. None if both show fewer than 16 of 1000 random points.
    """
    parameters = sampler.draw(12345, 0, number, image.size)
    first, second = parameters.crops[0], parameters.crops[1]
    tries = torch.from_numpy(np.random.default_rng((12345, number)).random((1000, 2), dtype=np.float32))
    there = second.to_view(first.to_image(tries))
    both = ((there >= 0) & (there < 1)).all(dim=1).nonzero().flatten()[:_POINTS]
    if len(both) < _POINTS:
        return None
    pixels = cut(image, parameters.crops, side).permute(0, 3, 1, 2)
    return apply(pixels, torch.from_numpy(parameters.colours)), tries[both], there[both]


def views(image: ScoredImage) -> dict[str, list[float]] | str:
    """View match of two views of the image: the share of points that find their place.

    A point's feature is compared with every cell of view 2's map; the match is right if its row and its column differ
    by at most ``within`` from those of the cell that holds the true place. By chance: the share of cells that are
    right. The cells are of 32 pixels, a ResNet's last ones, whatever the map's own: a match in a finer map counts for
    the cell that it lies in, so that no descriptor has a harder task than another, and none is judged differently for
    what stands beside it.
    """
    assert image.sampler is not None
    if (pair := view_pair(image.image, image.number, image.sampler, image.side)) is None:
        return "the two views share too little"
    pixels, points, truth = pair
    n, within = -(-image.side // image.cell), image.within
    true = torch.stack(cell_of(truth, n, n))  # row and column
    values = []
    for descriptor in image.descriptors:
        maps = descriptor.maps(pixels)
        h, w = maps.shape[2:]
        best = descriptor.similarity(sample(maps[:1], points[None])[0], maps[1].flatten(1).T).argmax(dim=1)
        found = torch.stack(((2 * (best // w) + 1) * n // (2 * h), (2 * (best % w) + 1) * n // (2 * w)))
        values.append(float(((found - true).abs() <= within).all(dim=0).float().mean()))
    spans = (true + within).clamp(max=n - 1) - (true - within).clamp(min=0) + 1
    chance = float(spans.prod(dim=0).float().mean() / (n * n))
    return {f"view match (±{within} of {n}×{n} cells)": [*values, chance]}


class PCK:
    """Percentage of correct keypoints, over all ordered pairs of the images of a group.

    The feature at a keypoint of the first (source) image is compared with the second's (target's) features, sampled
    bilinearly on a raster of 112 cells on the longer side, the same for coarse and fine maps; the most alike place is
    the prediction. It is right where it is at most α · max(width, height) pixels of the target from the true keypoint,
    width and height being those of the box around *the target's keypoints*, as is usual for PF-WILLOW. Points that one
    of the two does not show are left out. By chance: the share of places that would be right.

    A value a source image, the mean over its targets, and the source images are what the bootstrap resamples: an
    image's pairs are not independent. (Nor are those that share a target: the interval is a little narrow.)
    The maps of all images of a group are held at once.
    """

    def of(self, images: Sequence[ScoredImage]) -> dict[int, Any]:
        """Of each image as a source ``(descriptors + 1, alphas)``, the last one by chance."""
        points = [torch.from_numpy(image.keypoints) for image in images]
        seen = [~p.isnan().any(dim=1) for p in points]
        of_sources: list[list[Tensor]] = [[] for _ in points]
        for t, target in enumerate(images):
            # A target's raster is made once, and asked for the keypoints of all the others.
            both = {s: known for s in range(len(points)) if s != t and (known := seen[s] & seen[t]).any()}
            size = torch.tensor(target.image.size)
            spans = points[t][seen[t]] * size
            if not both or not (longest := float((spans.amax(dim=0) - spans.amin(dim=0)).max())):
                continue
            truth = torch.cat([points[t][known] for known in both.values()]) * size
            off = []
            for k, descriptor in enumerate(target.descriptors):
                asked = [sample(images[s].maps[k], points[s][known][None])[0] for s, known in both.items()]
                found = best_match(descriptor, torch.cat(asked), target.maps[k], target.image.size)
                off.append((found * size - truth).norm(dim=1)[:, None])
            everywhere = cell_centres(*raster_of(target.image.size, _RASTER)).flatten(0, 1) * size
            off.append(torch.cdist(truth, everywhere))
            allowed = torch.tensor(ALPHAS) * longest
            right = torch.stack([(pixels[..., None] <= allowed).float().mean(dim=1) for pixels in off])
            for s, mine in zip(both, right.split([int(known.sum()) for known in both.values()], dim=1), strict=True):
                of_sources[s].append(mine.mean(dim=1))
        return {
            image.number: torch.stack(pairs).mean(dim=0) if pairs else _NO_PAIR
            for image, pairs in zip(images, of_sources, strict=True)
        }

    def values(self, noted: Mapping[int, Any], why: str, descriptors: Sequence[Descriptor]) -> dict[str, Values]:
        """A row for each α → a value a source image."""
        columns = torch.stack([*noted.values()], dim=-1).tolist() if noted else []
        return {
            f"PCK@{alpha:g} (of the keypoints' box)": Values(list(noted), [of[a] for of in columns], why)
            for a, alpha in enumerate(ALPHAS)
        }


def best_match(descriptor: Descriptor, queries: Tensor, target: Tensor, size: tuple[int, int]) -> Tensor:
    """The places ``(n, 2)`` of ``target (1, C, h, w)`` that are most like features ``(n, C)``.

    They are centres of the raster of an image of that size, at which features are sampled bilinearly: similarities
    themselves, interpolated, would always be highest at a centre of the map, and a coarse map could not say where else.
    """
    everywhere = cell_centres(*raster_of(size, _RASTER)).flatten(0, 1)
    best, found = queries.new_full((len(queries),), -torch.inf), torch.zeros(len(queries), 2)
    for points in everywhere.split(_CHUNK):
        highest, at = descriptor.similarity(queries, sample(target, points[None])[0]).max(dim=1)
        better = highest > best
        best, found = torch.where(better, highest, best), torch.where(better[:, None], points[at], found)
    return found


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

    def of(self, images: Sequence[ScoredImage]) -> dict[int, Any]:
        """An image's class, and its mean by each descriptor."""
        return {i.number: (i.label or "", [maps[0].mean(dim=(1, 2)) for maps in i.maps]) for i in images}

    def values(self, noted: Mapping[int, Any], why: str, descriptors: Sequence[Descriptor]) -> dict[str, Values]:
        """1 or 0 an image; by chance, whether it is of the most frequent class."""
        every = Counter(label for label, _ in noted.values())
        counts = Counter({label: n for label, n in every.items() if n > 1})
        if len(counts) < 2:
            why = "one class only" if len(every) == 1 else f"{'only one' if counts else 'no'} class has two images"
            return {"k-NN accuracy": Values([], [], why)}
        counted = [(number, *of) for number, of in noted.items() if of[0] in counts]
        numbers, labels, means = zip(*counted, strict=True)
        k = min(_NEIGHBOURS, min(counts.values()) - 1)
        columns = [
            nearest_neighbour_hits(torch.stack(mine), labels, descriptor.similarity, k) if descriptor.pooled else []
            for descriptor, mine in zip(descriptors, zip(*means, strict=True), strict=True)
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
    for asked in torch.arange(len(features)).split(_IMAGES):
        similar = similarity(features[asked], features).scatter_(1, voters_out(classes, asked), -torch.inf)
        votes = F.one_hot(classes[similar.topk(k, dim=1).indices], len(names))
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
