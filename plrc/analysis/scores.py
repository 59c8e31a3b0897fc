"""Numbers beside the pictures, each with its count, a bootstrap interval and trivial baselines to stand beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import rankdata
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, picture_tensor
from plrc.data.neighbours import first_decodable
from plrc.data.photometric import apply
from plrc.data.sources import Source
from plrc.data.views import ViewSampler, cut
from plrc.geometry import cell_centres, cell_of, sample

_RESAMPLES = 1000  # of the bootstrap
_RASTER = 48  # cells of the longer side of the raster on which affinities and masks are compared
_RING = 1.0  # width of a ring of "the same distance", cells of that raster


@dataclass(frozen=True)
class Score:
    """A mean over images, with its 95 % bootstrap interval; ``n`` images (the unit that is resampled)."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: Sequence[float], seed: int = 0) -> Score:
    """Mean of one value an image and the 2.5 % and 97.5 % quantiles of the means of 1000 resamples of the images.

    Raises:
        ValueError: there is no value.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ValueError("there is no image to score")
    picks = np.random.default_rng(seed).integers(len(array), size=(_RESAMPLES, len(array)))
    low, high = np.quantile(array[picks].mean(axis=1), (0.025, 0.975))
    return Score(float(array.mean()), float(low), float(high), len(array))


@dataclass(frozen=True)
class ViewPairs:
    """Two views each of n images, and points of view 1 that view 2 shows too.

    Attributes:
        views: ``(2, n, 3, S, S)`` RGB in [0, 1], coloured as in training. points: ``(n, k, 2)`` in the frame of view 1.
        targets: ``(n, k, 2)``, the same places in the frame of view 2.
    """

    views: Tensor
    points: Tensor
    targets: Tensor


def draw_view_pairs(
    source: Source, sampler: ViewSampler, side: int, images: Iterable[int], points: int = 16
) -> ViewPairs:
    """The views that training would draw with seed 12345 in epoch 0, and random points that both show.

    Images of which both views show fewer than ``points`` of 1000 random points are left out.

    Raises:
        ValueError: no image is left.
    """
    views, firsts, seconds = [], [], []
    for i in images:
        image, _, _ = first_decodable(source, i, source.load)
        parameters = sampler.draw(12345, 0, i, image.size)
        first, second = parameters.crops[0], parameters.crops[1]
        tries = torch.from_numpy(np.random.default_rng((12345, i)).random((1000, 2), dtype=np.float32))
        there = second.to_view(first.to_image(tries))
        both = ((there >= 0) & (there < 1)).all(dim=1).nonzero().flatten()[:points]
        if len(both) < points:
            continue
        pixels = cut(image, parameters.crops, side).permute(0, 3, 1, 2)
        views.append(apply(pixels, torch.from_numpy(parameters.colours)))
        firsts.append(tries[both])
        seconds.append(there[both])
    if not views:
        raise ValueError("no two views overlap: there is nothing to match")
    return ViewPairs(torch.stack(views, dim=1), torch.stack(firsts), torch.stack(seconds))


def view_match(pairs: ViewPairs, descriptor: Descriptor, within: int = 1) -> Score:
    """How often a point of view 1 finds its true place in view 2: its best match is at most ``within`` cells away.

    The point's feature is compared with every cell of view 2's map; a match is right if its row and its column differ
    by at most ``within`` from those of the cell that holds the true place.
    """
    maps1, maps2 = (torch.cat([descriptor.maps(v) for v in views.split(64)]) for views in pairs.views)
    h, w = maps2.shape[2:]
    queries = sample(maps1, pairs.points)
    row, column = cell_of(pairs.targets, h, w)
    values = []
    for i in range(len(queries)):
        best = descriptor.similarity(queries[i], maps2[i].flatten(1).T).argmax(dim=1)
        hit = ((best // w - row[i]).abs() <= within) & ((best % w - column[i]).abs() <= within)
        values.append(float(hit.float().mean()))
    return bootstrap(values)


def view_match_by_chance(pairs: ViewPairs, h: int, w: int, within: int = 1) -> Score:
    """The same for a match drawn blindly among the ``h × w`` cells: the share of cells that would count as right."""
    row, column = cell_of(pairs.targets, h, w)
    rows = (row + within).clamp(max=h - 1) - (row - within).clamp(min=0) + 1
    columns = (column + within).clamp(max=w - 1) - (column - within).clamp(min=0) + 1
    return bootstrap(((rows * columns).float().mean(dim=1) / (h * w)).tolist())


@dataclass(frozen=True)
class MaskedImage:
    """A picture and the masks ``(n, H, W)`` bool of its objects, at any resolution over the same frame."""

    image: Image.Image
    masks: np.ndarray


def distance_matched_auc(
    images: Iterable[MaskedImage], descriptor: Descriptor, short_side: int, multiple: int, points: int = 4
) -> Score:
    """The chance that affinity ranks a pixel of the object above a pixel outside it at the same distance.

    For random points in each object: the image's pixels (a raster of 48 cells on the longer side) are grouped in rings
    around the point, one cell wide; all pairs of a pixel inside and a pixel outside the object *of one ring* are
    counted, ties as a half. "Near things are alike" therefore earns nothing: distance itself scores about 0.5, while an
    ordinary ROC area would reward it. Mean over an object's points, then over an image's objects.

    Args:
        short_side: pixels to which the picture's shorter side is resized for the descriptor, in steps of ``multiple``.
        points: points an object. Objects under 1 % or over 90 % of the image are left out.
    """
    values = []
    for number, item in enumerate(images):
        maps = descriptor.maps(picture_tensor(item.image, short_side, multiple))
        width, height = item.image.size
        scale = _RASTER / max(width, height)
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        centres = cell_centres(h, w)
        rng = np.random.default_rng((12345, number))
        of_objects: list[float] = []
        for mask in item.masks:
            share = torch.from_numpy(mask.astype(np.float32))[None, None]
            inside = (F.interpolate(share, (h, w), mode="area")[0, 0] > 0.5).flatten()
            cells = inside.nonzero().flatten().numpy()
            if not 0.01 * h * w <= len(cells) <= 0.9 * h * w:
                continue
            chosen = centres.flatten(0, 1)[rng.choice(cells, points)]
            queries = sample(maps, chosen[None])[0]
            similar = descriptor.similarity(queries, maps[0].flatten(1).T).view(1, points, *maps.shape[2:])
            similar = F.interpolate(similar, (h, w), mode="bilinear", align_corners=False)[0].flatten(1)
            distances = torch.cdist(chosen * torch.tensor([w, h]), centres.flatten(0, 1) * torch.tensor([w, h]))
            rings = (distances / _RING).long()
            aucs = [_ring_auc(similar[i].numpy(), inside.numpy(), rings[i].numpy()) for i in range(points)]
            of_objects += [float(np.nanmean(aucs))] if not np.isnan(aucs).all() else []
        if of_objects:
            values.append(float(np.mean(of_objects)))
    return bootstrap(values)


def _ring_auc(similar: np.ndarray, inside: np.ndarray, rings: np.ndarray) -> float:
    """Share of (inside, outside) pairs within rings that are ranked rightly; not a number where there is no pair."""
    order = np.argsort(rings, kind="stable")
    starts = np.flatnonzero(np.diff(rings[order])) + 1
    won, pairs = 0.0, 0
    for ring in np.split(order, starts):
        n_in = int(inside[ring].sum())
        n_out = len(ring) - n_in
        if n_in and n_out:
            ranks = rankdata(similar[ring])
            won += float(ranks[inside[ring]].sum()) - n_in * (n_in + 1) / 2
            pairs += n_in * n_out
    return won / pairs if pairs else float("nan")
