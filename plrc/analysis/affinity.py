"""Point affinity: how alike each cell of a map is to a point (paper figure 2).

A question is one matrix product of the points' features with the map's normalised cells; no encoder runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis.features import FeatureMap, Points, as_points, point_features
from plrc.geometry import sample


def affinity(
    fmap: FeatureMap, points: Points, *, to: Sequence[FeatureMap] | None = None, temperature: float | None = None
) -> Any:
    """Cosine of the feature at each point with every cell's, of the same image or of others.

    Args:
        fmap: the map of the image in which the points are.
        points: ``(n, 2)`` in the image frame, a tensor, an array or a list. Features between cells are bilinear
            samples, taken before normalising.
        to: maps of images, of the same layer, that are asked instead of ``fmap``; it may be among them.
        temperature: τ of a softmax of the cosines over all cells, for each point; of several images over the cells of
            all of them, so that a point's best image wins.

    Returns:
        ``(n, h, w)``, or one such for each map of ``to``: cosines in [−1, 1], or shares in [0, 1] whose sum over all
        cells of all images is 1 for each point. Shares are the smaller the more cells there are: ``density`` makes
        those of maps of different strides comparable.

    Raises:
        ValueError: the points are no points, ``to`` is empty or of another layer, or the temperature is not positive.
    """
    asked = [fmap] if to is None else list(to)
    shares = _softmax([_cosines(point_features(fmap, points), other) for other in asked], temperature)
    return shares[0] if to is None else shares


def prompt(
    fmap: FeatureMap,
    positive: Points,
    negative: Points | None = None,
    *,
    to: Sequence[FeatureMap] | None = None,
    temperature: float | None = None,
) -> Any:
    """Several points as one question: how much more alike a cell is to what is meant than to what is not (ours).

    A cell's value is its cosine with the positive point most like it, minus that with the negative point most like it.
    Its sign is thus the label of the cell's nearest point, and one more positive point can only raise the map, one
    more negative point only lower it: a click on an object's second part does not dim the first, as a mean would.

    Args:
        positive, negative: ``(p, 2)`` and ``(q, 2)`` points of the image frame of ``fmap``; p ≥ 1. Of several the
            likest counts: their maps' *maximum* in each cell.
        to, temperature: as of ``affinity``, the softmax being of this map's values.

    Returns:
        ``(h, w)``, or one such for each map of ``to``: in [−1, 1] without negative points, in [−2, 2] with them.

    Raises:
        ValueError: there is no positive point, and what ``affinity`` raises.
    """
    positive = as_points(positive)
    if not len(positive):
        raise ValueError("a prompt needs a positive point: the negative ones only say what is not meant")
    queries = point_features(fmap, positive)
    others = point_features(fmap, negative) if negative is not None and len(negative) else queries[:0]
    scores = []
    for other in [fmap] if to is None else to:
        maps = _cosines(torch.cat((queries, others)), other)
        score = maps[: len(queries)].amax(dim=0)
        scores.append(score - maps[len(queries) :].amax(dim=0) if len(others) else score)
    shares = _softmax(scores, temperature)
    return shares[0] if to is None else shares


def density(shares: Sequence[Tensor]) -> list[Tensor]:
    """Shares of a softmax as densities: times the number of cells of all maps, so that 1 is an even share (ours).

    A share is of a cell, and a network of stride 8 has sixteen times the cells of one of stride 32: two maps that say
    the same have shares that differ sixteenfold, and the same densities. Colours, and differences, are to be of these.

    Args:
        shares: maps ``(..., h, w)`` over whose cells, all together, the softmax was taken.
    """
    cells = sum(share.shape[-2] * share.shape[-1] for share in shares)
    return [share * cells for share in shares]


def affinity_difference(first: FeatureMap, second: FeatureMap, points: Points) -> tuple[Tensor, FeatureMap]:
    """What one checkpoint finds more alike to a point than another does: the affinity by ``first`` minus by ``second``.

    Args:
        first, second: maps of one image by two networks, or of two layers, of any numbers of cells and channels.
        points: ``(n, 2)`` in the image frame.

    Returns:
        ``(n, h, w)`` in [−2, 2] over the cells of the map that has more of them (``first`` if both have as many), the
        other's cosines being sampled at their centres; and that map, which knows where they lie.

    Raises:
        ValueError: the maps are of different images, or the points are no points.
    """
    return map_difference(affinity(first, points), first, affinity(second, points), second)


def map_difference(first: Tensor, over: FeatureMap, second: Tensor, over_too: FeatureMap) -> tuple[Tensor, FeatureMap]:
    """The same of any maps, ``first (n, h, w)`` over the cells of ``over``, ``second`` over those of ``over_too``.

    Their values must not depend on the number of cells: of a softmax take the ``density``, not the shares.
    """
    if over.image_size != over_too.image_size:
        sizes = " and ".join(f"{w} × {h}" for w, h in (over.image_size, over_too.image_size))
        raise ValueError(f"a difference is of two maps of one image; these are of images of {sizes} pixels")
    grid = over if over.shape[0] * over.shape[1] >= over_too.shape[0] * over_too.shape[1] else over_too
    values = _at_cells(first, over, grid)
    return values - _at_cells(second, over_too, grid).to(values.device), grid


def _at_cells(maps: Tensor, fmap: FeatureMap, grid: FeatureMap) -> Tensor:
    """Maps ``(n, h, w)`` over the cells of ``fmap``, sampled at the centres of those of ``grid``: ``(n, h′, w′)``."""
    if grid is fmap:
        return maps
    there = fmap.to_map(grid.centres().flatten(0, 1)).to(maps)
    return sample(maps[None], there[None])[0].T.reshape(-1, *grid.shape)


def check_same_features(queries: Tensor, fmap: FeatureMap) -> None:
    """Raise a ValueError if the queries ``(n, C)`` cannot be compared with the map's cells."""
    if queries.shape[1] != fmap.features.shape[0]:
        raise ValueError(
            f"features of {queries.shape[1]} channels cannot be compared with those of layer {fmap.layer}, which have "
            f"{fmap.features.shape[0]}: take both maps from one layer of one network"
        )


def _cosines(queries: Tensor, fmap: FeatureMap) -> Tensor:
    """Cosines ``(n, h, w)`` of features ``(n, C)`` with a map's cells."""
    check_same_features(queries, fmap)
    cells = fmap.unit_cells
    cosines = F.normalize(queries.to(cells.device), dim=1) @ cells.T
    return cosines.clamp(-1, 1).view(-1, *fmap.shape)  # rounding makes a cosine 1.0000001


def _softmax(maps: list[Tensor], temperature: float | None) -> list[Tensor]:
    """Softmax at a temperature over all cells of all maps ``(..., h, w)``; the maps as they are without one."""
    if not maps:
        raise ValueError("there is no map to ask: `to` is empty")
    if temperature is None:
        return maps
    if not temperature > 0:
        raise ValueError(f"a softmax needs a temperature above 0, not {temperature}")
    values = torch.cat([m.flatten(-2).to(maps[0].device) for m in maps], dim=-1)
    parts = (values / temperature).softmax(dim=-1).split([m.shape[-2] * m.shape[-1] for m in maps], dim=-1)
    return [part.reshape(m.shape) for part, m in zip(parts, maps, strict=True)]
