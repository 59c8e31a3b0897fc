"""Point affinity: how alike each cell of a map is to a point (paper figure 2).

A question is one matrix product of the points' features with the map's normalised cells; no encoder runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis.features import FeatureMap, Points, as_points, check_kinds, point_features
from plrc.geometry import sample

Others = Sequence[FeatureMap] | None


def affinity(fmap: FeatureMap, points: Points, *, to: Others = None, temperature: float | None = None) -> Any:
    """Cosines ``(n, h, w)`` in [−1, 1] of the feature at each point with every cell's; with ``to`` a list of such.

    Args:
        points: ``(n, 2)`` in the image frame of ``fmap``. Features are bilinear samples, normalised after sampling.
        to: maps of images, of the same layer, that are asked instead of ``fmap``; it may be among them.
        temperature: τ of a softmax of each point's cosines over the cells of all maps, so that its best image wins:
            shares in [0, 1] whose sum is 1. ``density`` makes those of maps of different strides comparable.

    Raises a ValueError if the points are no points, ``to`` is empty or of another layer, or τ is not positive.
    """
    queries = point_features(fmap, points)
    return _answers(lambda other: _cosines(queries, other), fmap, to, temperature)


def prompt(
    fmap: FeatureMap, positive: Points, negative: Points = (), *, to: Others = None, temperature: float | None = None
) -> Any:
    """Several points as one question: how much more alike a cell is to what is meant than to what is not (ours).

    A cell's value is its cosine with the positive point most like it, minus that with the negative point most like it.
    Its sign is thus the label of the cell's nearest point, and one more positive point can only raise the map, one
    more negative point only lower it: a click on an object's second part does not dim the first, as a mean would.

    Arguments as of ``affinity``, with one positive point or more. Returns ``(h, w)``, or one such for each map of
    ``to``: in [−1, 1] without negative points, in [−2, 2] with them; or the softmax of these values.
    """
    positive = as_points(positive)
    if not (count := len(positive)):
        raise ValueError("a prompt needs a positive point: the negative ones only say what is not meant")
    queries = torch.cat((point_features(fmap, positive), point_features(fmap, negative)))

    def values(other: FeatureMap) -> Tensor:
        maps = _cosines(queries, other)
        best = maps[:count].amax(dim=0)
        return best - maps[count:].amax(dim=0) if len(maps) > count else best

    return _answers(values, fmap, to, temperature)


def _answers(values: Callable[[FeatureMap], Tensor], fmap: FeatureMap, to: Others, temperature: float | None) -> Any:
    """The values of each map that is asked, or, at a temperature, their softmax over all cells of all maps."""
    asked = [fmap] if to is None else list(to)
    check_kinds(other.kind for other in (fmap, *asked))
    maps = [values(other) for other in asked]
    if not maps:
        raise ValueError("there is no map to ask: `to` is empty")
    if temperature is not None:
        if not temperature > 0:
            raise ValueError(f"a softmax needs a temperature above 0, not {temperature}")
        cells = torch.cat([m.flatten(-2).to(maps[0].device) for m in maps], dim=-1)
        parts = (cells / temperature).softmax(dim=-1).split([m.shape[-2] * m.shape[-1] for m in maps], dim=-1)
        maps = [part.reshape(m.shape) for part, m in zip(parts, maps, strict=True)]
    return maps[0] if to is None else maps


def _cosines(queries: Tensor, fmap: FeatureMap) -> Tensor:
    """Cosines ``(n, h, w)`` of features ``(n, C)`` with a map's cells."""
    cells = fmap.unit_cells
    cosines = F.normalize(queries.to(cells.device), dim=1) @ cells.T
    return cosines.clamp(-1, 1).view(-1, *fmap.shape)  # rounding makes a cosine 1.0000001


def density(shares: Sequence[Tensor]) -> list[Tensor]:
    """Shares ``(..., h, w)`` of a softmax over the cells of all maps, times the cells: 1 is an even share (ours).

    A network of stride 8 has sixteen times the cells of one of stride 32: two maps that say the same have shares that
    differ sixteenfold, and the same densities. Colours, and differences, are to be of these.
    """
    cells = sum(share.shape[-2] * share.shape[-1] for share in shares)
    return [share * cells for share in shares]


def affinity_difference(first: FeatureMap, second: FeatureMap, points: Points) -> tuple[Tensor, FeatureMap]:
    """What one checkpoint finds more alike to points ``(n, 2)`` than another: ``map_difference`` of their affinities.

    The maps are of one image, by two networks or of two layers. Values are in [−2, 2].
    """
    return map_difference(affinity(first, points), first, affinity(second, points), second)


def map_difference(first: Tensor, over: FeatureMap, second: Tensor, over_too: FeatureMap) -> tuple[Tensor, FeatureMap]:
    """Values ``first (n, h, w)`` over the cells of ``over`` minus ``second`` over those of ``over_too``.

    Returns ``(n, h, w)`` over the cells of the map that has more of them (of equals the first), at whose centres the
    other's values are sampled, and that map. Values must not depend on the number of cells: of a softmax take the
    ``density``, not the shares. Raises a ValueError if the maps are of different images.
    """
    if over.image_size != over_too.image_size:
        sizes = " and ".join(f"{w} × {h}" for w, h in (over.image_size, over_too.image_size))
        raise ValueError(f"a difference is of two maps of one image; these are of images of {sizes} pixels")
    grid = max((over, over_too), key=lambda fmap: fmap.shape[0] * fmap.shape[1])

    def at_cells(values: Tensor, fmap: FeatureMap) -> Tensor:
        there = fmap.to_map(grid.centres().flatten(0, 1)).to(values)
        return values if fmap is grid else sample(values[None], there[None])[0].T.reshape(-1, *grid.shape)

    values = at_cells(first, over)
    return values - at_cells(second, over_too).to(values.device), grid
