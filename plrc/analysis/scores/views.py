"""View match: does a point of one view find its place in the other?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.bootstrap import Sample, Score, bootstrap, scores_of
from plrc.data.photometric import apply
from plrc.data.sources import Source, first_decodable
from plrc.data.views import ViewSampler, cut
from plrc.geometry import cell_of, sample

_CELL = 32  # pixels a side of the cells by which several descriptors are judged


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
    return ViewPairs(
        torch.cat([pair.views for pair in pairs], dim=1),
        torch.cat([pair.points for pair in pairs]),
        torch.cat([pair.targets for pair in pairs]),
    )


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
    """The same for a match drawn blindly among the ``h × w`` cells: the share of cells that would count as right."""
    row, column = cell_of(pairs.targets, h, w)
    rows = (row + within).clamp(max=h - 1) - (row - within).clamp(min=0) + 1
    columns = (column + within).clamp(max=w - 1) - (column - within).clamp(min=0) + 1
    return bootstrap(((rows * columns).float().mean(dim=1) / (h * w)).tolist())


class ViewScores:
    """View match of several descriptors whose cells differ in size, judged alike; one image after another.

    "Within a cell" is of cells of 32 pixels, a ResNet's last ones, whatever the map's own: a match in a finer map
    counts for the cell that it lies in, so that no descriptor has a harder task than another, and none is judged
    differently for what stands beside it.

    Args:
        within: cells, by which a match's row and column may be off.
    """

    def __init__(self, descriptors: Sequence[Descriptor], within: int = 1) -> None:
        self._descriptors, self._within = descriptors, within
        self._values: list[list[float]] = [[] for _ in descriptors]
        self._chance: list[float] = []
        self._numbers: list[int] = []
        self._asked = 0
        self.grid = (0, 0)

    def add(self, number: int, pair: ViewPairs | None) -> None:
        """Score the pair of one image, by its number; all pairs are of one size. None: its views share too little."""
        self._asked += 1
        if pair is None:
            return
        self._numbers.append(number)
        height, width = pair.views.shape[-2:]
        self.grid = (max(1, height // _CELL), max(1, width // _CELL))
        maps = [descriptor.maps(pair.views[:, 0]) for descriptor in self._descriptors]
        for values, descriptor, both in zip(self._values, self._descriptors, maps, strict=True):
            values += _recalls(pair, descriptor, both[:1], both[1:], self._within, self.grid)
        self._chance.append(view_match_by_chance(pair, *self.grid, self._within).mean)

    def rows(self) -> dict[str, list[Score | None]]:
        """The measure's name → a score a descriptor, and last a blind guess's. Empty if there was no pair."""
        return scores_of(self.samples())

    def samples(self) -> dict[str, Sample]:
        """The measure's name → the share of an image's points that find their place."""
        h, w = self.grid
        name = f"view match (±{self._within} of {h}×{w} cells)"
        columns = [*self._values, self._chance]
        return {name: Sample(self._numbers, columns, self._asked, "the two views share too little")}


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
