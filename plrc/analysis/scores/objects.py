"""Scores of objects: does the affinity of a point in an object tell the object from the rest of the image?

Objects lie on a raster of 48 cells on the image's longer side. In each four random points ask for their affinity with
every cell. Difficult and crowd objects are left out, and those under 1 % or over 90 % of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.table import ScoredImage, Values
from plrc.geometry import cell_centres, sample

_RASTER = 48  # cells of the longer side of the raster on which affinities and masks are compared
_RING = 1.0  # width of a ring of "the same distance", cells of that raster
_SMALLEST, _LARGEST = 0.01, 0.9  # share of the image that an object must cover
POINTS = 4  # an object
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
    """An object on the raster of its image, and random points in it.

    Attributes:
        inside: ``(h, w)`` bool, the object's cells. cells: ``(p,)`` int64, numbers of the cells ``i * w + j`` whose
            centres are the points. box: ``(4,)``, x0, y0, x1, y1 of the object in the image frame.
    """

    inside: Tensor
    cells: Tensor
    box: np.ndarray

    @property
    def points(self) -> Tensor:
        """``(p, 2)`` in the image frame."""
        return cell_centres(*self.inside.shape).flatten(0, 1)[self.cells]

    def distances(self) -> Tensor:
        """``(p, h * w)``, from each point to each cell's centre, in cells."""
        return _distances(self.points, *self.inside.shape)

    def affinities(self, descriptor: Descriptor, maps: Tensor) -> Tensor:
        """How alike each cell is to each point: ``(p, h * w)``, bilinear between the cells of ``maps (1, C, h′, w′)``.

        The maps cover the whole image.
        """
        queries = sample(maps, self.points[None])[0]
        similar = descriptor.similarity(queries, maps[0].flatten(1).T).view(1, len(queries), *maps.shape[2:])
        return F.interpolate(similar, tuple(self.inside.shape), mode="bilinear", align_corners=False)[0].flatten(1)


def objects_of(
    masks: np.ndarray | None, boxes: np.ndarray, size: tuple[int, int], number: int, points: int = POINTS
) -> list[RasterObject]:
    """The objects of an image, without those under 1 % or over 90 % of it.

    Args:
        masks: ``(n, H, W)`` bool; None: all of a box is the object, and points are of its middle, half as wide and
            high. boxes: ``(n, 4)`` in the image frame. size: width and height of the image, for its proportions.
            number: of the image, from which the points are drawn.
    """
    h, w = raster_of(size)
    rng = np.random.default_rng((12345, number))
    centres = cell_centres(h, w)
    found = []
    for k, box in enumerate(boxes):
        if masks is not None:
            share = torch.from_numpy(masks[k].astype(np.float32))[None, None]
            inside = middle = F.interpolate(share, (h, w), mode="area")[0, 0] > 0.5
        else:
            low, high = torch.from_numpy(box[:2]), torch.from_numpy(box[2:])
            inside = ((centres >= low) & (centres < high)).all(dim=-1)
            quarter = (high - low) / 4
            middle = ((centres >= low + quarter) & (centres < high - quarter)).all(dim=-1)
        cells = middle.flatten().nonzero().flatten().numpy()
        if len(cells) and _SMALLEST * h * w <= int(inside.sum()) <= _LARGEST * h * w:
            found.append(RasterObject(inside, torch.from_numpy(rng.choice(cells, points)), box))
    return found


@lru_cache(maxsize=1)
def _asked(image: ScoredImage) -> list[list[tuple[Tensor, RasterObject]]]:
    """For each descriptor the affinities of each object; empty if no object counts."""
    known = image.annotation
    assert known is not None
    kept = [k for k in range(len(known.boxes)) if k not in known.difficult | known.crowd]
    masks = None if known.masks is None else known.masks[kept]
    if not (objects := objects_of(masks, known.boxes[kept], image.image.size, image.number)):
        return []
    described = zip(image.descriptors, image.maps, strict=True)
    return [[(obj.affinities(d, maps), obj) for obj in objects] for d, maps in described]


def raster_of(size: tuple[int, int], longer: int = _RASTER) -> tuple[int, int]:
    """Rows and columns of the raster of an image of that width and height, ``longer`` cells on the longer side."""
    width, height = size
    scale = longer / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


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
    values = [_known_mean([ring_auc(a, one.inside, one.distances()) for a, one in mine]) for mine in asked]
    return _NO_PAIR if np.isnan(values).all() else [*values, 0.5]


def ring_auc(similar: Tensor, inside: Tensor, distances: Tensor) -> float:
    """Mean over points of the share of (inside, outside) pairs within rings that are ranked rightly.

    Args:
        similar, distances: ``(p, h * w)``, from each point to each cell. inside: ``(h, w)`` bool, the object.

    Returns:
        In [0, 1]; not a number where no point has a pair.
    """
    from scipy.stats import rankdata

    mask, shares = inside.flatten().numpy(), []
    for values, rings in zip(similar.numpy(), (distances / _RING).long().numpy(), strict=True):
        order = np.argsort(rings, kind="stable")
        won, pairs = 0.0, 0
        for ring in np.split(order, np.flatnonzero(np.diff(rings[order])) + 1):
            n_in = int(mask[ring].sum())
            if n_in and (n_out := len(ring) - n_in):
                won += float(rankdata(values[ring])[mask[ring]].sum()) - n_in * (n_in + 1) / 2
                pairs += n_in * n_out
        shares.append(won / pairs if pairs else float("nan"))
    return _known_mean(shares)


def point_auc(values: Tensor, extent: Tensor, mask: Tensor, point: Tensor) -> float:
    """The distance-matched AUC of one point's affinity: see ``auc``, with whose number it agrees.

    Args:
        values: ``(h, w)``, a map of affinities. extent: ``(2,)``, how far right and down the map reaches, the image
            being 1: ``FeatureMap.extent``. mask: ``(H, W)`` bool, of the image's proportions. point: ``(2,)`` in the
            image frame.

    Returns:
        In [0, 1]; not a number where no ring has cells on both sides.
    """
    similar, inside = _on_raster(values, extent, mask)
    return ring_auc(similar[None], inside, _distances(point[None], *inside.shape))


def best_iou(values: Tensor, extent: Tensor, mask: Tensor) -> tuple[float, float]:
    """The most that thresholding a map can reach: the intersection over union at the threshold that suits it best.

    Compared on the raster of ``point_auc``, with whose arguments. A score needs one threshold for all maps
    (``MaskIoU``), and is lower.

    Returns:
        The intersection over union, in [0, 1], and the threshold: cells with that value or a higher one.
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
    h, w = raster_of((mask.shape[1], mask.shape[0]))
    similar = sample(values[None, None], (cell_centres(h, w).flatten(0, 1) / extent)[None])[0, :, 0]
    return similar, F.interpolate(mask.float()[None, None], (h, w), mode="area")[0, 0] > 0.5


def _distances(points: Tensor, h: int, w: int) -> Tensor:
    """``(p, h * w)``, from points ``(p, 2)`` to the centres of ``h × w`` cells, in cells, to a thousandth."""
    exact = ((cell_centres(h, w).flatten(0, 1) - points[:, None]) * torch.tensor([w, h])).norm(dim=2)
    return exact.round(decimals=3)  # 3 cells are 3, not a hair less: whole numbers part the rings


def _known_mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


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
        candidates = np.flatnonzero(away)
        # Equally alike cells are taken at random, or those of the upper left would be preferred.
        shuffled = candidates[np.random.default_rng(0).permutation(len(candidates))]
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

    Memory is constant but for a row of 199 numbers an image and descriptor.
    """

    row = "mask IoU"

    def __init__(self) -> None:
        self._asked, self._numbers, self._chance = 0, list[int](), list[float]()
        self._waiting: list[list[list[tuple[Tensor, RasterObject]]]] = []
        self._levels: list[np.ndarray] = []
        self._tables: list[list[np.ndarray]] = []

    def add(self, image: ScoredImage) -> None:
        """Take up one image."""
        self._asked += 1
        if not (asked := _asked(image)):
            return
        self._numbers.append(image.number)
        self._chance.append(float(np.mean([self.of_whole_image(obj) for _, obj in asked[0]])))
        self._waiting.append(asked)
        if self._levels or len(self._waiting) == _FIRST:
            self._measure()

    def values(self) -> dict[str, Values]:
        """A value an image; nothing if there is only one image: no other can choose its threshold."""
        self._measure()
        columns = [leave_half_out(table) for table in self._tables]
        return {self.row: Values(self._numbers, [*columns, self._chance], self._asked, _NO_OBJECT)}

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

    def _measure(self) -> None:
        if not self._levels and self._waiting:
            for of_descriptor in zip(*self._waiting, strict=True):
                seen = torch.cat([similar.flatten() for mine in of_descriptor for similar, _ in mine]).numpy()
                levels = np.quantile(seen, np.linspace(0, 1, _LEVELS + 2)[1:-1]).astype(np.float32)
                self._levels.append(levels)
                self._tables.append([])
        for asked in self._waiting:
            for mine, levels, table in zip(asked, self._levels, self._tables, strict=True):
                table.append(np.mean([self.at_levels(*one, levels) for one in mine], axis=0))
        self._waiting = []


class CorLoc(MaskIoU):
    """The share of points whose box is right, at a threshold chosen as ``MaskIoU`` does; mean over points, objects.

    The box is that of the connected part of the foreground (by sides) that holds the point, and right where its
    intersection over union with the object's box is at least 0.5. By chance: the whole image as the box.
    """

    row = "CorLoc"

    def at_levels(self, similar: Tensor, obj: RasterObject, levels: np.ndarray) -> np.ndarray:
        maps = similar.view(-1, *obj.inside.shape).numpy()
        boxes = [boxes_around(affinity, int(cell), levels) for affinity, cell in zip(maps, obj.cells, strict=True)]
        return np.mean([self._found(of_point, obj) for of_point in boxes], axis=0)

    def of_whole_image(self, obj: RasterObject) -> float:
        return float(self._found(np.array([[0.0, 0.0, 1.0, 1.0]]), obj)[0])

    def _found(self, boxes: np.ndarray, obj: RasterObject) -> np.ndarray:
        from torchvision.ops import box_iou  # takes as long to import as torch

        return box_iou(torch.from_numpy(boxes), torch.from_numpy(obj.box[None]).double())[:, 0].numpy() >= _OVERLAP


def leave_half_out(values: list[np.ndarray]) -> list[float]:
    """Of each image's values ``(t,)`` the one at the threshold that is best on average in the other half.

    Halves are the images of even and of odd numbers. Nothing if there are fewer than two.
    """
    if len(values) < 2:
        return []
    table = np.stack(values)
    best = [table[1 - half :: 2].mean(axis=0).argmax() for half in (0, 1)]  # for the even, for the odd ones
    return [float(row[best[i % 2]]) for i, row in enumerate(table)]


def boxes_around(affinity: np.ndarray, cell: int, levels: np.ndarray) -> np.ndarray:
    """Boxes ``(t, 4)`` in the image frame of the connected cells of at least each level that hold cell ``i * w + j``.

    All zeros where the cell itself is below the level.

    Args:
        affinity: ``(h, w)``. levels: ``(t,)``.
    """
    from scipy.ndimage import label

    h, w = affinity.shape
    sides = np.zeros((3, 3, 3), dtype=bool)  # neighbours within a level, none across levels
    sides[1] = [[False, True, False], [True, True, True], [False, True, False]]
    parts, _ = label(affinity[None] >= levels[:, None, None], structure=sides)
    of_cell = parts.reshape(len(levels), -1)[:, cell]
    part = (parts == of_cell[:, None, None]) & (of_cell > 0)[:, None, None]
    rows, columns = part.any(axis=2), part.any(axis=1)
    left, top = columns.argmax(axis=1) / w, rows.argmax(axis=1) / h
    right, bottom = (w - columns[:, ::-1].argmax(axis=1)) / w, (h - rows[:, ::-1].argmax(axis=1)) / h
    return np.where((of_cell > 0)[:, None], np.stack((left, top, right, bottom), axis=1), 0.0)
