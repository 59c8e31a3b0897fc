"""Correspondence: what of one image is most alike to what of another, and how far such a match can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis import features
from plrc.analysis.descriptors import cosine
from plrc.analysis.features import FeatureMap, Points, as_points, check_kinds, point_features
from plrc.geometry import Crop

_AT_ONCE = 2**24  # cosines held at a time: 64 MiB
_ROUNDING = 1e-5  # squared distances of unit vectors below it are rounding, in fp32
Truth = Tensor | Callable[[Tensor], Tensor]
_UNKNOWN = "true places are not known of two different images: match two views of one image"


@dataclass(frozen=True, eq=False)
class Matches:
    """Matches of n points, or regions, of image A with image B; all tensors on the CPU.

    The ratio is Lowe's test: the distance (of unit vectors) of the match over that of the best candidate elsewhere.
    Near 1: there is another as good. Not a number where there is nowhere else.
    """

    start: Tensor  # (n, 2) points in the frame of A
    end: Tensor  # (n, 2), their best matches in the frame of B
    similarity: Tensor  # (n,), the cosine of the two features, in [−1, 1]
    ratio: Tensor  # (n,) in [0, 1]
    back: Tensor  # (n, 2) in the frame of A: where the end's own best match in A is
    mutual: Tensor  # (n,) bool: the way back ends in the cell, or region, of the start
    cycle: Tensor  # (n,): how far from there it ends, as a share of the longer side of image A; 0 where mutual
    truth: Tensor | None = None  # (n, 2) in the frame of B, where the start really is, if known; NaN where not shown
    visible: Tensor | None = None  # (n,) bool: B shows the true place
    right: Tensor | None = None  # (n,) bool: visible, and the match is right

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, keep: Tensor | slice) -> Matches:
        """Some of them: ``matches[matches.mutual & (matches.ratio < 0.9)]``."""
        return replace(self, **{name: part[keep] for name, part in vars(self).items() if part is not None})

    def recall(self) -> float:
        """The share of right matches among those whose true place B shows; not a number where it shows none."""
        if self.right is None or self.visible is None:
            raise ValueError(_UNKNOWN)
        return float(self.right[self.visible].float().mean())


def match_points(
    a: FeatureMap, b: FeatureMap, points: Points | None = None, truth: Truth | None = None, within: float = 0.1
) -> Matches:
    """The cell of image B that is most alike to each point of image A.

    A match is right whose end, the cell's centre, is at most ``within`` of B's longer side away from the true place, as
    PCK has it: the same for maps of any stride. Cells beside each other overlap in what they see, so that a match's
    eight neighbours are no rivals to it. Cells that show nothing of their image are no candidates; a cell that shows a
    part of it counts as that part's centre.

    Args:
        a, b: maps of one layer. points: ``(n, 2)`` in the frame of A; every cell of A if not given, row by row.
        truth: ``(n, 2)``, the true places in the frame of B, outside [0, 1] or not a number where it shows none; or
            what gives those of points ``(n, 2)``.
    """
    of_a, of_b = _cells(a), _cells(b)
    start = of_a.places[of_a.usable] if points is None else as_points(points).cpu().float()
    queries = point_features(a, start)
    check_kinds((a.kind, b.kind))
    row, column = a.cell_of(start)
    matches, _ = _matched(start, row * a.shape[1] + column, queries, of_a, of_b, a.image_size)
    if truth is None:
        return matches
    truth = (truth(start) if callable(truth) else truth).cpu().float()
    if truth.shape != start.shape:
        raise ValueError(f"there are {len(start)} points, and true places of shape {tuple(truth.shape)}")
    visible = ((truth >= 0) & (truth < 1)).all(dim=1)
    return replace(matches, truth=truth, visible=visible, right=visible & _near(truth, matches.end, b, within))


def match_views(
    a: FeatureMap, b: FeatureMap, crop_a: Crop, crop_b: Crop, points: Points | None = None, within: float = 0.1
) -> Matches:
    """``match_points`` between two views of one image, whose crops, of batch shape ``()``, tell the true places.

    Each view is the image of its map, so that "the frame of A" is A's view frame.
    """
    return match_points(a, b, points, lambda start: crop_b.to_view(crop_a.to_image(start)), within)


def chance(matches: Matches, b: FeatureMap, within: float = 0.1) -> float:
    """The recall that cells of B drawn at random would get: the mean share of its cells that are right; for views."""
    if matches.truth is None:
        raise ValueError(_UNKNOWN)
    cells = _cells(b)
    places = cells.places[cells.usable]  # the others are never matched
    parts = matches.truth[matches.visible].split(max(1, _AT_ONCE // len(places)))
    return float(torch.cat([_near(part[:, None], places, b, within).float().mean(dim=1) for part in parts]).mean())


def match_regions(
    a: FeatureMap, raster_a: Tensor, b: FeatureMap, raster_b: Tensor, named_alike: bool = False
) -> Matches:
    """The region of image B that is most alike to each region of image A, by their mean features.

    Start, end, back and truth are points in the middle of the regions (``region_points``); regions come in the order of
    their numbers. Every other region is a rival.

    Args:
        a, b: maps of one layer. raster_a, raster_b: as ``region_features`` takes them.
        named_alike: the same number means the same region in both, as in views: this tells which matches are right.
    """
    of_a, of_b = _regions(a, raster_a), _regions(b, raster_b)
    check_kinds((a.kind, b.kind))
    matches, best = _matched(of_a.places, of_a.near[:, 0], of_a.units, of_a, of_b, a.image_size)
    if not named_alike:
        return matches
    same = features.region_numbers(raster_a)[:, None] == features.region_numbers(raster_b)
    visible, true = same.any(dim=1), same.long().argmax(dim=1)
    truth = torch.where(visible[:, None], of_b.places[true], torch.nan)
    return replace(matches, truth=truth, visible=visible, right=visible & (best == true))


def region_affinity(a: Tensor, b: Tensor) -> Tensor:
    """The region-to-region affinity matrix: cosines ``(n, m)`` of region features ``(n, C)`` and ``(m, C)``."""
    return cosine(a, b).clamp(-1, 1)


class _Candidates(NamedTuple):
    """The m cells, or regions, of an image that may be matched."""

    units: Tensor  # (m, C), normalised features
    places: Tensor  # (m, 2) in the image frame
    usable: Tensor  # (m,) bool: which may be chosen
    near: Tensor  # (m, k): those that are no rivals, itself among them, with repetitions


def _near(truth: Tensor, places: Tensor, fmap: FeatureMap, within: float) -> Tensor:
    """Whether places ``(..., 2)`` are at most so much of the image's longer side away from the true ones."""
    sides = torch.tensor(fmap.image_size, dtype=torch.float32)
    return ((truth - places) * sides / sides.max()).norm(dim=-1) <= within


def _cells(fmap: FeatureMap) -> _Candidates:
    """All cells. Each is at the centre of what it shows of the image, and is not usable if that is nothing."""
    h, w = fmap.shape
    steps = torch.arange(-1, 2)
    rows = (torch.arange(h)[:, None] + steps).clamp(0, h - 1)  # (h, k): border cells stand for those beyond
    columns = (torch.arange(w)[:, None] + steps).clamp(0, w - 1)
    near = (rows[:, None, :, None] * w + columns[None, :, None, :]).reshape(h * w, -1)
    half = fmap.extent / torch.tensor([w, h]) / 2
    centres = fmap.centres().flatten(0, 1)
    low, high = centres - half, (centres + half).clamp(max=1)
    places = torch.where(centres + half > 1, (low + high) / 2, centres)
    return _Candidates(fmap.unit_cells, places, (high - low > 0.01 * half).all(dim=1), near)


def _regions(fmap: FeatureMap, raster: Tensor) -> _Candidates:
    units = F.normalize(features.region_features(fmap, raster), dim=1)
    near = torch.arange(len(units))[:, None]
    return _Candidates(units, features.region_points(raster), torch.ones(len(units), dtype=torch.bool), near)


def _matched(
    start: Tensor, home: Tensor, queries: Tensor, a: _Candidates, b: _Candidates, image_size: tuple[int, int]
) -> tuple[Matches, Tensor]:
    """Matches of queries ``(n, C)`` at ``start (n, 2)``, which candidates ``home (n,)`` hold; and the numbers found."""
    best, similarity, rival = _nearest(queries, b)
    there, way = best.unique(return_inverse=True)
    back = _nearest(b.units[there.to(b.units.device)], a)[0][way]
    distance, other = ((2 - 2 * cosine).clamp(min=_ROUNDING).sqrt() for cosine in (similarity, rival))
    ratio = torch.where(rival.isinf(), torch.nan, distance / other)  # 1 where both are nothing but rounding
    sides = torch.tensor(image_size, dtype=torch.float32)
    cycle = ((a.places[home] - a.places[back]) * sides / sides.max()).norm(dim=1)
    return Matches(start, b.places[best], similarity, ratio, a.places[back], back == home, cycle), best


def _nearest(queries: Tensor, among: _Candidates) -> tuple[Tensor, Tensor, Tensor]:
    """For each query the best candidate, its cosine, and the best cosine elsewhere (−∞: nowhere); on the CPU."""
    units = among.units
    near, barred = among.near.to(units.device), ~among.usable.to(units.device)
    parts = []
    for chunk in F.normalize(queries.to(units.device), dim=1).split(max(1, _AT_ONCE // len(units))):
        cosines = (chunk @ units.T).clamp_(-1, 1).masked_fill_(barred, -torch.inf)
        similarity, best = cosines.max(dim=1)
        rival = cosines.scatter_(1, near[best], -torch.inf).amax(dim=1)
        parts.append((best.cpu(), similarity.cpu(), rival.cpu()))
    best, similarity, rival = (torch.cat(part) for part in zip(*parts, strict=True))
    return best, similarity, rival
