"""Scores of matching: does a point of one view find its place in the other, a keypoint the same one elsewhere?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.objects import raster_of
from plrc.analysis.scores.table import Score, Values, bootstrap
from plrc.data.photometric import apply
from plrc.data.sources import Source, first_decodable
from plrc.data.views import ViewSampler, cut
from plrc.geometry import cell_centres, cell_of, sample

if TYPE_CHECKING:
    from plrc.analysis.scores.scoring import ScoredImage

_CELL = 32  # pixels a side of the cells by which several descriptors are judged
ALPHAS = (0.05, 0.1, 0.15)
_RASTER = 112  # cells of the longer side of the raster on which a keypoint is looked for: 4 pixels of 448
_CHUNK = 2048  # of them at once: 2048 channels are 16 MiB then


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
    drawn = (view_pair(first_decodable(source, i, source.load)[0], i, sampler, side, points) for i in images)
    pairs = [pair for pair in drawn if pair is not None]
    if not pairs:
        raise ValueError("no two views overlap: there is nothing to match")
    views = torch.cat([pair.views for pair in pairs], dim=1)
    return ViewPairs(views, torch.cat([pair.points for pair in pairs]), torch.cat([pair.targets for pair in pairs]))


def view_pair(image: Image.Image, index: int, sampler: ViewSampler, side: int, points: int = 16) -> ViewPairs | None:
    """One image's pair of ``draw_view_pairs``, by its number in the source; None if the views share too little."""
    parameters = sampler.draw(12345, 0, index, image.size)
    first, second = parameters.crops[0], parameters.crops[1]
    tries = torch.from_numpy(np.random.default_rng((12345, index)).random((1000, 2), dtype=np.float32))
    there = second.to_view(first.to_image(tries))
    both = ((there >= 0) & (there < 1)).all(dim=1).nonzero().flatten()[:points]
    if len(both) < points:
        return None
    pixels = cut(image, parameters.crops, side).permute(0, 3, 1, 2)
    views = apply(pixels, torch.from_numpy(parameters.colours))
    return ViewPairs(views[:, None], tries[both][None], there[both][None])


def view_match(pairs: ViewPairs, descriptor: Descriptor, within: int = 1) -> Score:
    """How often a point of view 1 finds its true place in view 2: its best match is at most ``within`` cells away.

    The point's feature is compared with every cell of view 2's map; a match is right if its row and its column differ
    by at most ``within`` from those of the cell that holds the true place.
    """
    maps1, maps2 = (torch.cat([descriptor.maps(v) for v in views.split(64)]) for views in pairs.views)
    h, w = maps2.shape[2:]
    return bootstrap(_recalls(pairs, descriptor, maps1, maps2, within, (h, w)))


def view_match_by_chance(pairs: ViewPairs, h: int, w: int, within: int = 1) -> Score:
    """The same for a match drawn at random among the ``h × w`` cells: the share of cells that would count as right."""
    row, column = cell_of(pairs.targets, h, w)
    rows = (row + within).clamp(max=h - 1) - (row - within).clamp(min=0) + 1
    columns = (column + within).clamp(max=w - 1) - (column - within).clamp(min=0) + 1
    return bootstrap(((rows * columns).float().mean(dim=1) / (h * w)).tolist())


def views(image: ScoredImage) -> dict[str, list[float]] | str:
    """View match of two views of the image: the share of points that find their place.

    "Within a cell" is of cells of 32 pixels, a ResNet's last ones, whatever the map's own: a match in a finer map
    counts for the cell that it lies in, so that no descriptor has a harder task than another, and none is judged
    differently for what stands beside it.
    """
    assert image.sampler is not None
    pair = view_pair(image.image, image.number, image.sampler, image.side)
    if pair is None:
        return "the two views share too little"
    h = w = max(1, image.side // _CELL)
    values = []
    for descriptor in image.descriptors:
        maps = descriptor.maps(pair.views[:, 0])
        values += _recalls(pair, descriptor, maps[:1], maps[1:], image.within, (h, w))
    values.append(view_match_by_chance(pair, h, w, image.within).mean)
    return {f"view match (±{image.within} of {h}×{w} cells)": values}


def _recalls(
    pairs: ViewPairs, descriptor: Descriptor, maps1: Tensor, maps2: Tensor, within: int, grid: tuple[int, int]
) -> list[float]:
    """The share of each image's points whose best match is at most ``within`` cells of ``grid`` away."""
    h, w = maps2.shape[2:]
    queries = sample(maps1, pairs.points)
    row, column = cell_of(pairs.targets, *grid)
    recalls = []
    for i in range(len(queries)):
        best = descriptor.similarity(queries[i], maps2[i].flatten(1).T).argmax(dim=1)
        # The cell of the grid that holds the best cell's centre; the same cell if the grid is the map's.
        found_row, found_column = (2 * (best // w) + 1) * grid[0] // (2 * h), (2 * (best % w) + 1) * grid[1] // (2 * w)
        hit = ((found_row - row[i]).abs() <= within) & ((found_column - column[i]).abs() <= within)
        recalls.append(float(hit.float().mean()))
    return recalls


class PCK:
    """Percentage of correct keypoints, over all ordered pairs of the images of a group.

    The feature at a keypoint of the first (source) image is compared with the second's (target's) features, sampled
    bilinearly on a raster of 112 cells on the longer side, the same for coarse and fine maps; the most alike place is
    the prediction. It is right where it is at most α · max(width, height) pixels of the target from the true keypoint,
    width and height being those of the box around *the target's keypoints*, as is usual for PF-WILLOW. Points that one
    of the two does not show are left out. By chance: the share of places that would be right.

    A value a source image, the mean over its targets, and the source images are what the bootstrap resamples: an
    image's pairs are not independent. (Nor are those that share a target: the interval is a little narrow.)

    Images of one group come one after another; their maps are kept until the next group begins.
    """

    def __init__(self) -> None:
        self._descriptors: Sequence[Descriptor] = ()
        self._numbers: list[int] = []
        self._shares: list[Tensor] = []  # of each source image ``(descriptors + 1, alphas)``, the last one by chance
        self._asked = 0
        self._group: list[ScoredImage] = []

    def add(self, image: ScoredImage) -> None:
        """Take up one image."""
        if self._group and image.group != self._group[0].group:
            self._match()
        self._asked += 1
        self._descriptors = image.descriptors
        self._group.append(image)

    def values(self) -> dict[str, Values]:
        """A row for each α → a value a source image."""
        self._match()
        why = "no other image of the folder shows the same keypoints"
        columns = torch.stack(self._shares, dim=-1) if self._shares else torch.zeros(len(self._descriptors) + 1, 3, 0)
        return {
            f"PCK@{alpha:g} (of the keypoints' box)": Values(self._numbers, columns[:, a].tolist(), self._asked, why)
            for a, alpha in enumerate(ALPHAS)
        }

    def _match(self) -> None:
        """Score all pairs of the images of a group, and forget them."""
        points = [torch.from_numpy(image.keypoints) for image in self._group]
        seen = [~p.isnan().any(dim=1) for p in points]
        of_sources: list[list[Tensor]] = [[] for _ in points]
        for t, target in enumerate(self._group):
            # A target's raster is made once, and asked for the keypoints of all the others.
            sources = [s for s in range(len(points)) if s != t and (seen[s] & seen[t]).any()]
            size = torch.tensor(target.image.size)
            spans = points[t][seen[t]] * size
            longest = float((spans.amax(dim=0) - spans.amin(dim=0)).max()) if len(spans) else 0.0
            if not sources or not longest:
                continue
            both = [seen[s] & seen[t] for s in sources]
            asked = [(self._group[s], points[s][known]) for s, known in zip(sources, both, strict=True)]
            truth = torch.cat([points[t][known] for known in both]) * size
            shares = self._right(asked, target, truth, torch.tensor(ALPHAS) * longest)
            for s, mine in zip(sources, shares.split([len(p) for _, p in asked], dim=1), strict=True):
                of_sources[s].append(mine.mean(dim=1))
        for image, pairs in zip(self._group, of_sources, strict=True):
            if pairs:
                self._numbers.append(image.number)
                self._shares.append(torch.stack(pairs).mean(dim=0))
        self._group = []

    def _right(
        self, asked: Sequence[tuple[ScoredImage, Tensor]], target: ScoredImage, truth: Tensor, allowed: Tensor
    ) -> Tensor:
        """``(descriptors + 1, points, alphas)``: which keypoints of the sources are found; of chance the share."""
        size = torch.tensor(target.image.size)
        right = []
        for k, descriptor in enumerate(self._descriptors):
            queries = torch.cat([sample(source.maps[k], points[None])[0] for source, points in asked])
            predicted = best_match(descriptor, queries, target.maps[k], target.image.size) * size
            right.append(((predicted - truth).norm(dim=1)[:, None] <= allowed).float())
        everywhere = cell_centres(*raster_of(target.image.size, _RASTER)).flatten(0, 1) * size
        right.append((torch.cdist(truth, everywhere)[..., None] <= allowed).float().mean(dim=1))
        return torch.stack(right)


def best_match(descriptor: Descriptor, queries: Tensor, target: Tensor, size: tuple[int, int]) -> Tensor:
    """The places ``(n, 2)`` of ``target (1, C, h, w)`` that are most like features ``(n, C)``.

    They are cells' centres of the raster of an image of width and height ``size``, at which features are sampled
    bilinearly: similarities themselves, interpolated, would always be highest at the centre of a cell of the map, and a
    coarse map could not say where in it.
    """
    everywhere = cell_centres(*raster_of(size, _RASTER)).flatten(0, 1)
    best, found = queries.new_full((len(queries),), -torch.inf), torch.zeros(len(queries), 2)
    for points in everywhere.split(_CHUNK):
        highest, at = descriptor.similarity(queries, sample(target, points[None])[0]).max(dim=1)
        better = highest > best
        best, found = torch.where(better, highest, best), torch.where(better[:, None], points[at], found)
    return found
