"""Features of points, of regions and of a whole image, from one feature map; none is normalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from plrc.analysis.features import FeatureMap

Points = Tensor | np.ndarray | Sequence[Sequence[float]]  # (n, 2)


def as_points(points: Points) -> Tensor:
    """Points ``(n, 2)`` of any kind as a tensor; none is ``(0, 2)``.

    Raises:
        ValueError: they are no numbers, or have another shape.
    """
    wanted = "points have the shape (n, 2), x and y in [0, 1] of the image, such as [[0.4, 0.6]]"
    try:
        found = points if isinstance(points, Tensor) else torch.as_tensor(points, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{wanted}; not {points!r}") from error
    if not found.numel():
        return found.reshape(0, 2)
    if found.ndim != 2 or found.shape[1] != 2:
        raise ValueError(f"{wanted}; not {tuple(found.shape)}")
    return found


def point_features(fmap: FeatureMap, points: Points) -> Tensor:
    """Features ``(n, C)`` at points ``(n, 2)`` of the image frame: bilinear samples.

    Raises:
        ValueError: the points have another shape, or one lies outside the map.
    """
    points = as_points(points)
    outside = ((points < 0) | (points.cpu() > fmap.extent.clamp(min=1)).to(points.device)).any(dim=1)
    if outside.any():
        point = tuple(points[outside][0].tolist())
        raise ValueError(f"points are shares of the image's width and height, in [0, 1]; {point} lies outside")
    return fmap.at(points)


def image_feature(fmap: FeatureMap) -> Tensor:
    """The mean feature ``(C,)`` of the picture: cells weigh as much as they show of it."""
    raster = torch.zeros((1, 1), dtype=torch.long)
    return region_features(fmap, raster)[0]


def region_features(fmap: FeatureMap, raster: Tensor) -> Tensor:
    """The mean feature of each region: cells weigh as much as they show of the region (DESIGN section 4).

    The raw mean, which a cosine normalises. A region smaller than a cell has that cell's feature.

    Args:
        raster: ``(h′, w′)`` integer, of any resolution over the whole image: which region each point belongs to, as
            ``plrc.regions`` gives it; negative where it belongs to none.

    Returns:
        ``(n, C)``, a row for each region that the raster has, by rising number: row r is region r where the numbers
        are 0 … n − 1, and else that of ``region_numbers(raster)[r]``.

    Raises:
        ValueError: the raster is no raster of integers, or has no region.
    """
    weights = region_weights(fmap, raster).flatten(1).to(fmap.features)
    return (weights / weights.sum(dim=1, keepdim=True)) @ fmap.features.flatten(1).T


def region_weights(fmap: FeatureMap, raster: Tensor) -> Tensor:
    """Which share of each cell each region covers: ``(n, h, w)`` float64 in [0, 1], exact at any resolutions.

    A cell's shares sum to 1 over the regions where they fill the picture, and to less where the map reaches beyond it.
    Arguments, order of the regions and errors: as of ``region_features``.
    """
    numbers = region_numbers(raster)
    h, w = fmap.shape
    # The edges of cells and raster together cut the picture into rectangles that lie in one cell and one region each.
    heights, cell_row, raster_row = _pieces(fmap.stride / fmap.input_size[1], h, raster.shape[0])
    widths, cell_column, raster_column = _pieces(fmap.stride / fmap.input_size[0], w, raster.shape[1])
    region = raster.cpu()[raster_row[:, None], raster_column]
    cell = cell_row[:, None] * w + cell_column
    area = heights[:, None] * widths
    inside = region >= 0
    place = torch.searchsorted(numbers, region[inside]) * (h * w) + cell[inside]
    return torch.bincount(place, weights=area[inside], minlength=len(numbers) * h * w).view(-1, h, w)


def region_numbers(raster: Tensor) -> Tensor:
    """The numbers ``(n,)`` int64 of a raster's regions, rising; negative values are no region.

    Raises:
        ValueError: the raster is no raster of integers, or has no region.
    """
    if raster.ndim != 2 or raster.is_floating_point() or not raster.numel():
        kind = f"{tuple(raster.shape)} {str(raster.dtype).removeprefix('torch.')}"
        raise ValueError(f"a region raster is (h, w) integers over the whole image, not {kind}")
    numbers = raster.cpu().long().unique()
    if not len(numbers := numbers[numbers >= 0]):
        raise ValueError("the raster has no region: all its values are negative")
    return numbers


def region_points(raster: Tensor) -> Tensor:
    """A point ``(n, 2)`` of the image frame in the middle of each region, and inside it whatever its shape.

    The centre of the region's raster cell that is nearest to its centroid. Order and errors: as of ``region_features``.
    """
    numbers = region_numbers(raster)
    h, w = raster.shape
    points = []
    for number in numbers:
        row, column = (raster.cpu() == number).nonzero().double().unbind(1)
        nearest = ((row - row.mean()) ** 2 + (column - column.mean()) ** 2).argmin()
        points.append(torch.stack(((column[nearest] + 0.5) / w, (row[nearest] + 0.5) / h)))
    return torch.stack(points).float()


def _pieces(cell: float, cells: int, raster: int) -> tuple[Tensor, Tensor, Tensor]:
    """One axis of the picture, [0, 1], cut at the edges of the map's cells and of the raster's.

    Args:
        cell: length of one of ``cells`` cells. raster: number of equal parts.

    Returns:
        For each piece its length, in cells, and the cell and the part of the raster in which it lies.
    """
    of_cells = torch.arange(1, cells, dtype=torch.float64) * cell
    of_raster = torch.arange(raster + 1, dtype=torch.float64) / raster
    edges = torch.cat((of_cells[of_cells < 1], of_raster)).sort().values
    middles = (edges[1:] + edges[:-1]) / 2
    in_cell = (middles / cell).long().clamp(max=cells - 1)
    return edges.diff() / cell, in_cell, (middles * raster).long().clamp(max=raster - 1)
