"""Correspondence: what of one image is most alike to what of another, and how far such a match can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis.affinity import check_same_features, unit_cells
from plrc.analysis.descriptors import cosine
from plrc.analysis.features import (
    FeatureMap,
    Points,
    as_points,
    point_features,
    region_features,
    region_numbers,
    region_points,
)
from plrc.geometry import Crop

_AT_ONCE = 2**24  # cosines held at a time: 64 MiB
_ROUNDING = 1e-5  # squared distances of unit vectors below it are rounding, in fp32


@dataclass(frozen=True, eq=False)
class Matches:
    """Matches of n points, or regions, of image A with image B; all tensors on the CPU.

    Attributes:
        start: ``(n, 2)`` points in the frame of A. end: ``(n, 2)``, their best matches in the frame of B.
        similarity: ``(n,)``, the cosine of the two features, in [−1, 1].
        ratio: ``(n,)`` in [0, 1], Lowe's test: the distance (of unit vectors) of the match over that of the best
            candidate elsewhere. Near 1: there is another as good. Not a number where there is nowhere else.
        back: ``(n, 2)`` in the frame of A: where the end's own best match in A is.
        mutual: ``(n,)`` bool: the way back ends in the cell, or region, of the start.
        cycle: ``(n,)``: how far from there it ends, as a share of the longer side of picture A; 0 where mutual.
        truth: ``(n, 2)`` in the frame of B, where the start really is; None where nobody knows. Not a number, or
            outside [0, 1]: B does not show it.
        visible: ``(n,)`` bool: B shows the true place. right: ``(n,)`` bool: visible, and the match is right.
    """

    start: Tensor
    end: Tensor
    similarity: Tensor
    ratio: Tensor
    back: Tensor
    mutual: Tensor
    cycle: Tensor
    truth: Tensor | None = None
    visible: Tensor | None = None
    right: Tensor | None = None

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, keep: Tensor | slice) -> Matches:
        """Some of them: ``matches[matches.mutual & (matches.ratio < 0.9)]``."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: part[keep] for name, part in parts.items() if part is not None})

    def recall(self) -> float:
        """The share of right matches among those whose true place B shows; not a number where it shows none.

        Raises:
            ValueError: the true places are not known.
        """
        if self.right is None or self.visible is None:
            raise ValueError("nobody knows which of these matches are right: two different images have no true places")
        return float(self.right[self.visible].float().mean())


def match_points(
    a: FeatureMap, b: FeatureMap, points: Points | None = None, truth: Tensor | None = None, within: int = 1
) -> Matches:
    """The cell of image B that is most alike to each point of image A.

    Cells are one place if both their rows and their columns differ by at most ``within``: their features overlap, so
    a match's neighbours are no rivals to it, and a match is right that ends beside the cell of the true place. Cells
    that show nothing of their picture are no candidates; a cell that shows a part of it counts as that part's centre.

    Args:
        a, b: maps of one layer. points: ``(n, 2)`` in the frame of A; every cell of A if not given, row by row.
        truth: ``(n, 2)``, the true places in the frame of B; outside [0, 1] or not a number where it shows none.
        within: cells.

    Raises:
        ValueError: the maps are of different layers, or ``points`` or ``truth`` are no points, or not as many.
    """
    places_a, shown_a = _places(a)
    places_b, shown_b = _places(b)
    start = places_a[shown_a] if points is None else as_points(points).cpu().float()
    queries = point_features(a, start)
    check_same_features(queries, b)
    near_a, near_b = _neighbours(*a.shape, within), _neighbours(*b.shape, within)
    row, column = a.cell_of(start)
    home = row * a.shape[1] + column
    best, similarity, rival = _nearest(queries, unit_cells(b), shown_b, near_b)
    there, way = best.unique(return_inverse=True)
    back = _nearest(unit_cells(b)[there.to(unit_cells(b).device)], unit_cells(a), shown_a, near_a)[0][way]
    matches = Matches(
        start=start,
        end=places_b[best],
        similarity=similarity,
        ratio=_ratio(similarity, rival),
        back=places_a[back],
        mutual=back == home,
        cycle=_distance(places_a[home], places_a[back], a.image_size),
    )
    if truth is None:
        return matches
    truth = truth.cpu().float()
    if truth.shape != start.shape:
        raise ValueError(f"there are {len(start)} points, and true places of shape {tuple(truth.shape)}")
    visible = ((truth >= 0) & (truth < 1)).all(dim=1)
    row, column = b.cell_of(truth.nan_to_num())
    hit = (near_b[row * b.shape[1] + column] == best[:, None]).any(dim=1)
    return replace(matches, truth=truth, visible=visible, right=visible & hit)


def match_views(
    a: FeatureMap, b: FeatureMap, crop_a: Crop, crop_b: Crop, points: Points | None = None, within: int = 1
) -> Matches:
    """The same between two views of one image, whose crops tell where each point of view A is in view B.

    Args:
        a, b: maps of the two views, each being the picture of its map, so that "the frame of A" is A's view frame.
        crop_a, crop_b: where they lie in the image, of batch shape ``()``.
        points, within, and errors: as of ``match_points``.
    """
    places, shown = _places(a)
    start = places[shown] if points is None else as_points(points).cpu().float()
    return match_points(a, b, None if points is None else start, crop_b.to_view(crop_a.to_image(start)), within)


def chance(matches: Matches, b: FeatureMap, within: int = 1) -> float:
    """The recall that cells of B drawn blindly would get: the mean share of its cells that are right; for views.

    Raises:
        ValueError: the true places are not known.
    """
    if matches.truth is None or matches.visible is None:
        raise ValueError("nobody knows the true places of these matches: two different images have none")
    h, w = b.shape
    _, shown = _places(b)  # the others are never matched
    row, column = b.cell_of(matches.truth[matches.visible])
    near = _neighbours(h, w, within)[row * w + column]
    right = torch.zeros(len(near), h * w, dtype=torch.bool).scatter_(1, near, True)[:, shown]
    return float(right.float().mean())


def match_regions(
    a: FeatureMap, raster_a: Tensor, b: FeatureMap, raster_b: Tensor, named_alike: bool = False
) -> Matches:
    """The region of image B that is most alike to each region of image A, by their mean features.

    Start, end, back and truth are points in the middle of the regions (``plrc.analysis.features.region_points``);
    regions come in the order of their numbers. Every other region is a rival.

    Args:
        a, b: maps of one layer. raster_a, raster_b: the regions over the whole of each picture, as
            ``plrc.analysis.features.region_features`` takes them; of views: ``plrc.regions.view_regions``.
        named_alike: the same number means the same region in both, as in two views of an image: this tells which
            matches are right.

    Raises:
        ValueError: the maps are of different layers, or a raster has no region.
    """
    features_a, features_b = region_features(a, raster_a), region_features(b, raster_b)
    check_same_features(features_a, b)
    places_a, places_b = region_points(raster_a), region_points(raster_b)
    units_a, units_b = F.normalize(features_a, dim=1), F.normalize(features_b, dim=1)
    alone_a, alone_b = (torch.arange(len(units))[:, None] for units in (units_a, units_b))
    best, similarity, rival = _nearest(units_a, units_b, torch.ones(len(units_b), dtype=torch.bool), alone_b)
    back = _nearest(units_b, units_a, torch.ones(len(units_a), dtype=torch.bool), alone_a)[0][best]
    matches = Matches(
        start=places_a,
        end=places_b[best],
        similarity=similarity,
        ratio=_ratio(similarity, rival),
        back=places_a[back],
        mutual=back == alone_a[:, 0],
        cycle=_distance(places_a, places_a[back], a.image_size),
    )
    if not named_alike:
        return matches
    same = region_numbers(raster_a)[:, None] == region_numbers(raster_b)
    visible, true = same.any(dim=1), same.long().argmax(dim=1)
    truth = torch.where(visible[:, None], places_b[true], torch.nan)
    return replace(matches, truth=truth, visible=visible, right=visible & (best == true))


def region_affinity(a: Tensor, b: Tensor) -> Tensor:
    """The region-to-region affinity matrix: cosines ``(n, m)`` of region features ``(n, C)`` and ``(m, C)``."""
    return cosine(a, b).clamp(-1, 1)


def _nearest(queries: Tensor, units: Tensor, usable: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best candidate for each query, its cosine, and the best cosine of a candidate that is elsewhere.

    Args:
        queries: ``(n, C)``. units: ``(m, C)``, the candidates, normalised. usable: ``(m,)`` bool, which may be chosen.
        near: ``(m, k)``, for each candidate those at the same place, itself among them, with repetitions.

    Returns:
        ``(n,)`` int64, ``(n,)``, and ``(n,)``, which is −∞ where no candidate is elsewhere; on the CPU.
    """
    near, barred = near.to(units.device), ~usable.to(units.device)
    parts = []
    for chunk in F.normalize(queries.to(units.device), dim=1).split(max(1, _AT_ONCE // len(units))):
        cosines = (chunk @ units.T).clamp_(-1, 1).masked_fill_(barred, -torch.inf)
        similarity, best = cosines.max(dim=1)
        rival = cosines.scatter_(1, near[best], -torch.inf).amax(dim=1)
        parts.append((best.cpu(), similarity.cpu(), rival.cpu()))
    best, similarity, rival = (torch.cat(part) for part in zip(*parts, strict=True))
    return best, similarity, rival


def _ratio(similarity: Tensor, rival: Tensor) -> Tensor:
    """Distance of the match over distance of its rival; 1 where both are nothing but rounding."""
    distance, other = ((2 - 2 * cosine).clamp(min=_ROUNDING).sqrt() for cosine in (similarity, rival))
    return torch.where(rival.isinf(), torch.nan, distance / other)


def _distance(a: Tensor, b: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Distance of points ``(n, 2)`` of a picture as a share of its longer side."""
    sides = torch.tensor(image_size, dtype=torch.float32)
    return ((a - b) * sides / sides.max()).norm(dim=1)


def _places(fmap: FeatureMap) -> tuple[Tensor, Tensor]:
    """The centre ``(h·w, 2)`` of what each cell shows of the picture, and ``(h·w,)`` bool: whether it shows any."""
    h, w = fmap.shape
    half = fmap.extent / torch.tensor([w, h]) / 2
    centres = fmap.centres().flatten(0, 1)
    low, high = centres - half, (centres + half).clamp(max=1)
    return torch.where(centres + half > 1, (low + high) / 2, centres), (high - low > 0.01 * half).all(dim=1)


def _neighbours(h: int, w: int, within: int) -> Tensor:
    """``(h·w, (2 within + 1)²)``: each cell's neighbours and itself, border cells repeated instead of those beyond."""
    steps = torch.arange(-within, within + 1)
    rows = (torch.arange(h)[:, None] + steps).clamp(0, h - 1)  # (h, k)
    columns = (torch.arange(w)[:, None] + steps).clamp(0, w - 1)
    return (rows[:, None, :, None] * w + columns[None, :, None, :]).reshape(h * w, -1)
