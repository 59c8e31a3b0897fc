"""Scores of objects: does the affinity of a point in an object tell the object from the rest of the image?

Objects lie on a raster of 48 cells on the image's longer side. In each four random points ask for their affinity with
every cell. Difficult and crowd objects are left out, and those under 1 % or over 90 % of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.table import ScoredImage, Values
from plrc.data.images import boxes_of
from plrc.geometry import cell_centres, cell_of, sample

_RASTER = 48  # cells of the longer side of the raster on which affinities and masks are compared
_RING = 1.0  # width of a ring of "the same distance", cells of that raster
_SMALLEST, _LARGEST = 0.01, 0.9  # share of the image that an object must cover
_POINTS = 4  # an object
_LEVELS = 199  # thresholds that are tried: every half percent of the affinities that occur
_FIRST = 32  # images from whose affinities those are taken
_OVERLAP = 0.5  # of boxes, at which an object counts as found (PASCAL VOC's criterion)
_MOST_ALIKE = 10  # cells of the raster
_AROUND = 6.0  # cells so near the point do not count: an eighth of the longer side
_NO_OBJECT = "no object covers 1 % to 90 % of the image"
_NO_PAIR = "no pixels in and outside it are equally far from its points"
_TOO_NEAR = "no object reaches farther than an eighth of the image's longer side from its points"


@dataclass(frozen=True, eq=False)
class RasterObject:
    """An object on the raster of its image, and random points in it."""

    inside: Tensor  # (h, w) bool, the object's cells
    points: Tensor  # (p, 2) in the image frame
    box: np.ndarray  # (4,), x0, y0, x1, y1 in the image frame

    def distances(self) -> Tensor:
        """``(p, h * w)``, from each point to each cell's centre, in cells, to a thousandth."""
        h, w = self.inside.shape
        exact = ((cell_centres(h, w).flatten(0, 1) - self.points[:, None]) * torch.tensor([w, h])).norm(dim=2)
        return exact.round(decimals=3)  # 3 cells are 3, not a hair less: whole numbers part the rings

    def affinities(self, descriptor: Descriptor, maps: Tensor) -> Tensor:
        """How alike each cell is to each point, ``(p, h * w)``, by ``maps (1, C, h′, w′)`` of the whole image."""
        queries = sample(maps, self.points[None])[0]
        similar = descriptor.similarity(queries, maps[0].flatten(1).T).view(1, len(queries), *maps.shape[2:])
        return F.interpolate(similar, tuple(self.inside.shape), mode="bilinear")[0].flatten(1)


_Asked = list[list[tuple[Tensor, RasterObject]]]


def objects_of(
    masks: np.ndarray | None, boxes: np.ndarray, size: tuple[int, int], number: int, points: int = _POINTS
) -> list[RasterObject]:
    """The objects of an image of that width and height (for its proportions), without the smallest and largest.

    By masks ``(n, H, W)`` bool, or, of None, by boxes ``(n, 4)`` in the image frame: all of a box is the object then,
    and points are of its middle, half as wide and high. They are drawn from the image's number.
    """
    h, w = raster_of(size)
    rng, centres, found = np.random.default_rng((12345, number)), cell_centres(h, w), []
    for k, box in enumerate(boxes):
        if masks is not None:
            inside = middle = cells_of(torch.from_numpy(masks[k]), (h, w))
        else:
            low, high = torch.from_numpy(box[:2]), torch.from_numpy(box[2:])
            margins = torch.zeros(2), (high - low) / 4
            inside, middle = (((centres >= low + m) & (centres < high - m)).all(dim=-1) for m in margins)
        cells = middle.flatten().nonzero().flatten().numpy()
        if len(cells) and _SMALLEST * h * w <= int(inside.sum()) <= _LARGEST * h * w:
            found.append(RasterObject(inside, centres.flatten(0, 1)[rng.choice(cells, points)], box))
    return found


def raster_of(size: tuple[int, int], longer: int = _RASTER) -> tuple[int, int]:
    """Rows and columns of the raster of an image of that width and height, ``longer`` cells on the longer side."""
    width, height = size
    scale = longer / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def cells_of(mask: Tensor, raster: tuple[int, int]) -> Tensor:
    """The cells ``(h, w)`` bool of a raster of which a mask ``(H, W)`` covers more than half."""
    return F.interpolate(mask.float()[None, None], raster, mode="area")[0, 0] > 0.5


def _known_mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _asked(image: ScoredImage) -> _Asked:
    """For each descriptor the affinities of each object; empty if no object counts."""
    if image.number not in image.kept:
        if len(image.kept) > _FIRST:
            image.kept.popitem()  # the latest: the first ones are asked for again
        known = image.annotation
        assert known is not None
        counted = [k for k in range(len(known.boxes)) if k not in known.difficult | known.crowd]
        masks = None if known.masks is None else known.masks[counted]
        objects = objects_of(masks, known.boxes[counted], image.image.size, image.number)
        described = zip(image.descriptors, image.maps, strict=True) if objects else ()
        image.kept[image.number] = [[(obj.affinities(d, maps), obj) for obj in objects] for d, maps in described]
    asked: _Asked = image.kept[image.number]
    return asked


def auc(image: ScoredImage) -> list[float] | str:
    """Distance-matched AUC: the chance that affinity ranks a pixel of the object above one outside, equally far.

    For random points in each object: the raster's cells are grouped in rings around the point, one cell wide; all pairs
    of a cell inside and a cell outside the object *of one ring* are counted, ties as a half. An ordinary ROC area would
    reward "near things are alike"; here that earns little: distance itself scores 0.52 to 0.56 on ECSSD and on the
    scenes, since of a ring's cells, too, the nearer ones are more often the object's. Mean over an object's points,
    then over an image's objects. By chance: 0.5.
    """
    if not (asked := _asked(image)):
        return _NO_OBJECT
    values = [_known_mean([ring_auc(*one) for one in mine]) for mine in asked]
    return _NO_PAIR if np.isnan(values).all() else [*values, 0.5]


def ring_auc(similar: Tensor, obj: RasterObject) -> float:
    """The AUC of an object by affinities ``(p, h * w)``, in [0, 1]; not a number where no point has a pair."""
    from scipy.stats import rankdata

    mask, rings = obj.inside.flatten().numpy(), (obj.distances() / _RING).long().numpy()
    ranks = rankdata(rings * (len(mask) + 1) + rankdata(similar.numpy(), axis=1), axis=1)  # ring by ring
    shares = []
    for ring, rank in zip(rings, ranks, strict=True):
        cells, within = np.bincount(ring), np.bincount(ring[mask], minlength=ring.max() + 1)
        before = (cells.cumsum() - cells)[ring[mask]]
        won, pairs = (rank[mask] - before).sum() - (within * (within + 1)).sum() / 2, (within * (cells - within)).sum()
        shares.append(won / pairs if pairs else float("nan"))
    return _known_mean(shares)


def point_auc(values: Tensor, extent: Tensor, mask: Tensor, point: Tensor) -> float:
    """The distance-matched AUC of one point's affinity: see ``auc``, with whose number it agrees.

    Of a map ``(h, w)`` with its ``FeatureMap.extent``, an object's mask ``(H, W)`` bool and a point ``(2,)``.
    """
    similar, inside = _on_raster(values, extent, mask)
    return ring_auc(similar[None], RasterObject(inside, point[None], np.zeros(4)))


def best_iou(values: Tensor, extent: Tensor, mask: Tensor) -> tuple[float, float]:
    """The intersection over union, in [0, 1], of cells from the threshold on that suits a map best; and that threshold.

    A score needs one threshold for all maps (``MaskIoU``), and is lower. Arguments: as of ``point_auc``.
    """
    similar, inside = _on_raster(values, extent, mask)
    ranked, order = similar.sort(descending=True, stable=True)
    hits = inside.flatten()[order].cumsum(dim=0)
    iou = hits / (torch.arange(1, len(hits) + 1) + inside.sum() - hits)
    iou[:-1][ranked[:-1] == ranked[1:]] = 0  # a threshold takes all cells of one value or none
    best = int(iou.argmax())
    return float(iou[best]), float(ranked[best])


def _on_raster(values: Tensor, extent: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A map's values ``(h * w,)`` and the object's cells ``(h, w)`` on the raster."""
    raster = raster_of((mask.shape[1], mask.shape[0]))
    similar = sample(values[None, None], (cell_centres(*raster).flatten(0, 1) / extent)[None])[0, :, 0]
    return similar, cells_of(mask, raster)


def region_purity(image: ScoredImage) -> list[float] | str:
    """Share of the 10 cells most like a point that lie in its object; by chance, the share of all cells that do.

    In both, cells at most 6 cells of the raster (an eighth of the image's longer side) from the point are left out.
    Mean over an object's points, but for those that have fewer than 10 of its cells farther away, then over objects.
    """
    if not (asked := _asked(image)):
        return _NO_OBJECT
    shares = [[purity(*one) for one in mine] for mine in asked]
    values = [_known_mean([pure for pure, _ in mine]) for mine in shares]
    values.append(_known_mean([share for _, share in shares[-1]]))
    return _TOO_NEAR if np.isnan(values).all() else values


def purity(similar: Tensor, obj: RasterObject) -> tuple[float, float]:
    """The two shares of ``region_purity`` of affinities ``(p, h * w)``; not a number where no point is left."""
    inside, far = obj.inside.flatten().numpy(), (obj.distances() > _AROUND).numpy()
    pure, share = [], []
    for affinity, away in zip(similar.numpy(), far, strict=True):
        if (inside & away).sum() < _MOST_ALIKE:
            continue
        # Equally alike cells are taken at random, or those of the upper left would be preferred.
        shuffled = np.random.default_rng(0).permutation(np.flatnonzero(away))
        best = shuffled[np.argsort(-affinity[shuffled], kind="stable")[:_MOST_ALIKE]]
        pure.append(inside[best].mean())
        share.append(inside[away].mean())
    return _known_mean(pure), _known_mean(share)


class MaskIoU:
    """Intersection over union of the mask and the affinities above one threshold for the whole data set.

    An affinity has no natural threshold, and the best one of each image would reward any descriptor. One threshold is
    used for all images; it is the best for every second image, and scores the others, and the other way round: nothing
    is judged by what chose it. Candidates are 199 quantiles of the affinities in the first 32 images, which use no
    mask. Mean over points, then objects. By chance: the whole image as the foreground.
    """

    row = "mask IoU"

    def __init__(self) -> None:
        self._levels: list[np.ndarray] = []  # of each descriptor

    def begin(self, images: Iterable[ScoredImage]) -> None:
        """Take the thresholds from the first images."""
        for mine in zip(*islice(filter(None, map(_asked, images)), _FIRST), strict=True):  # by one descriptor
            seen = torch.cat([similar.flatten() for of_image in mine for similar, _ in of_image]).numpy()
            self._levels.append(np.quantile(seen, np.linspace(0, 1, _LEVELS + 2)[1:-1]).astype(np.float32))

    def of(self, images: Sequence[ScoredImage]) -> dict[int, Any]:
        """By chance, and ``(descriptors, t)``."""
        return {image.number: self._of(asked) if (asked := _asked(image)) else _NO_OBJECT for image in images}

    def values(self, noted: Mapping[int, Any], why: str, descriptors: Sequence[Descriptor]) -> dict[str, Values]:
        """A value an image; nothing if there is only one image: no other can choose its threshold."""
        tables = [[at_levels[d].numpy() for _, at_levels in noted.values()] for d in range(len(descriptors))]
        columns = [*map(leave_half_out, tables), [chance for chance, _ in noted.values()]]
        return {self.row: Values(list(noted), columns, why)}

    def _of(self, asked: _Asked) -> tuple[float, Tensor]:
        chance = float(np.mean([self.of_whole_image(obj) for _, obj in asked[0]]))
        rows = [
            np.mean([self.at_levels(*one, levels) for one in of_image], axis=0)
            for of_image, levels in zip(asked, self._levels, strict=True)
        ]
        return chance, torch.from_numpy(np.stack(rows))

    def at_levels(self, similar: Tensor, obj: RasterObject, levels: np.ndarray) -> np.ndarray:
        """``(t,)``, the measure of an object at each threshold, by its points' affinities ``(p, h * w)``."""
        mask, ious = obj.inside.flatten().numpy(), []
        for affinity in similar.numpy():
            # Cells at or above a level: all but those that sort before it.
            above = len(affinity) - np.searchsorted(np.sort(affinity), levels)
            both = mask.sum() - np.searchsorted(np.sort(affinity[mask]), levels)
            ious.append(both / (above + mask.sum() - both))
        return np.mean(ious, axis=0)

    def of_whole_image(self, obj: RasterObject) -> float:
        """The measure of an object where all of the image is foreground."""
        return float(obj.inside.float().mean())


class CorLoc(MaskIoU):
    """The share of points whose box is right, at a threshold chosen as ``MaskIoU`` does; mean over points, objects.

    The box is that of the connected part of the foreground (by sides) that holds the point, and right where its
    intersection over union with the object's box is at least 0.5. By chance: the whole image as the box.
    """

    row = "CorLoc"

    def at_levels(self, similar: Tensor, obj: RasterObject, levels: np.ndarray) -> np.ndarray:
        maps, places = similar.view(-1, *obj.inside.shape).numpy(), cell_of(obj.points, *obj.inside.shape)
        boxes = [boxes_around(affinity, i, j, levels) for affinity, i, j in zip(maps, *places, strict=True)]
        return np.mean([self._found(of_point, obj) for of_point in boxes], axis=0)

    def of_whole_image(self, obj: RasterObject) -> float:
        return float(self._found(np.array([[0.0, 0.0, 1.0, 1.0]]), obj)[0])

    def _found(self, boxes: np.ndarray, obj: RasterObject) -> np.ndarray:
        from torchvision.ops import box_iou  # takes as long to import as torch

        return box_iou(torch.from_numpy(boxes), torch.from_numpy(obj.box[None]).double())[:, 0].numpy() >= _OVERLAP


def leave_half_out(values: list[np.ndarray]) -> list[float]:
    """Of every second image's values ``(t,)`` the one at the threshold that is best on average in the others."""
    if len(values) < 2:
        return []
    best = [np.mean(values[1 - half :: 2], axis=0).argmax() for half in (0, 1)]  # for the even, for the odd ones
    return [float(row[best[i % 2]]) for i, row in enumerate(values)]


def boxes_around(affinity: np.ndarray, i: Any, j: Any, levels: np.ndarray) -> np.ndarray:
    """Boxes ``(t, 4)`` in the image frame of the connected cells, at least each level ``(t,)``, that hold cell (i, j).

    All zeros where the cell itself is below the level. Affinity is ``(h, w)``.
    """
    from scipy.ndimage import generate_binary_structure, label

    sides = generate_binary_structure(3, 1)
    sides[[0, 2]] = False  # neighbours within a level, none across levels
    parts, _ = label(affinity[None] >= levels[:, None, None], structure=sides)
    of_cell = parts[:, i, j, None]
    return np.where(of_cell > 0, boxes_of(parts == of_cell[..., None], np.float64), 0.0)
