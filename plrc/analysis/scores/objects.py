"""Objects on a raster, points in them, and the distance-matched AUC of the points' affinities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, picture_tensor
from plrc.analysis.scores.bootstrap import Score, bootstrap
from plrc.geometry import cell_centres, sample

_RASTER = 48  # cells of the longer side of the raster on which affinities and masks are compared
_RING = 1.0  # width of a ring of "the same distance", cells of that raster
_SMALLEST, _LARGEST = 0.01, 0.9  # share of the image that an object must cover
POINTS = 4  # an object


@dataclass(frozen=True)
class MaskedImage:
    """A picture and the masks ``(n, H, W)`` bool of its objects, at any resolution over the same frame."""

    image: Image.Image
    masks: np.ndarray


@dataclass(frozen=True, eq=False)
class RasterObject:
    """An object on the raster of its picture, 48 cells on the longer side, and random points in it.

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

        The maps cover the whole picture.
        """
        queries = sample(maps, self.points[None])[0]
        similar = descriptor.similarity(queries, maps[0].flatten(1).T).view(1, len(queries), *maps.shape[2:])
        return F.interpolate(similar, tuple(self.inside.shape), mode="bilinear", align_corners=False)[0].flatten(1)


def objects_of_masks(
    masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int], number: int, points: int = POINTS
) -> list[RasterObject]:
    """The objects of a picture by their masks ``(n, H, W)``, without those under 1 % or over 90 % of it.

    Args:
        boxes: ``(n, 4)`` in the image frame. size: width and height of the picture, for its proportions. number: of the
            picture, from which the points are drawn.
    """
    h, w = raster_of(size)
    rng = np.random.default_rng((12345, number))
    found = []
    for mask, box in zip(masks, boxes, strict=True):
        share = torch.from_numpy(mask.astype(np.float32))[None, None]
        inside = F.interpolate(share, (h, w), mode="area")[0, 0] > 0.5
        cells = inside.flatten().nonzero().flatten().numpy()
        if _SMALLEST * h * w <= len(cells) <= _LARGEST * h * w:
            found.append(RasterObject(inside, torch.from_numpy(rng.choice(cells, points)), box))
    return found


def objects_of_boxes(boxes: np.ndarray, size: tuple[int, int], number: int, points: int = POINTS) -> list[RasterObject]:
    """The same by boxes ``(n, 4)``: all of a box is the object, and points are of its middle, half as wide and high."""
    h, w = raster_of(size)
    rng = np.random.default_rng((12345, number))
    centres = cell_centres(h, w)
    found = []
    for box in boxes:
        low, high = torch.from_numpy(box[:2]), torch.from_numpy(box[2:])
        inside = ((centres >= low) & (centres < high)).all(dim=-1)
        quarter = (high - low) / 4
        middle = ((centres >= low + quarter) & (centres < high - quarter)).all(dim=-1)
        cells = middle.flatten().nonzero().flatten().numpy()
        if len(cells) and _SMALLEST * h * w <= int(inside.sum()) <= _LARGEST * h * w:
            found.append(RasterObject(inside, torch.from_numpy(rng.choice(cells, points)), box))
    return found


def distance_matched_auc(
    images: Iterable[MaskedImage], descriptor: Descriptor, short_side: int, multiple: int, points: int = POINTS
) -> Score:
    """The chance that affinity ranks a pixel of the object above a pixel outside it at the same distance.

    For random points in each object: the image's pixels (a raster of 48 cells on the longer side) are grouped in rings
    around the point, one cell wide; all pairs of a pixel inside and a pixel outside the object *of one ring* are
    counted, ties as a half. An ordinary ROC area would reward "near things are alike"; here that earns little. Distance
    itself scores a little more than 0.5 (0.52 to 0.56 on ECSSD and on the scenes), since a ring is not infinitely thin:
    an object lies around its points, so that of a ring's cells too the nearer ones are more often its own. The thinner
    the rings, the less; where only equal distances are compared it is exactly 0.5, and few pairs are left.
    Mean over an object's points, then over an image's objects.

    Args:
        short_side: pixels to which the picture's shorter side is resized for the descriptor, in steps of ``multiple``.
        points: points an object. Objects under 1 % or over 90 % of the image are left out.
    """
    values = []
    for number, item in enumerate(images):
        maps = descriptor.maps(picture_tensor(item.image, short_side, multiple))
        nowhere = np.zeros((len(item.masks), 4), dtype=np.float32)  # boxes play no part
        objects = objects_of_masks(item.masks, nowhere, item.image.size, number, points)
        aucs = [object_auc(thing.affinities(descriptor, maps), thing) for thing in objects]
        if not np.isnan(aucs).all():
            values.append(float(np.nanmean(aucs)))
    return bootstrap(values)


def object_auc(similar: Tensor, thing: RasterObject) -> float:
    """Mean over the points of the distance-matched AUC of ``similar (p, h * w)``; not a number if none has a pair."""
    rings, inside = (thing.distances() / _RING).long().numpy(), thing.inside.flatten().numpy()
    aucs = [_ring_auc(similar[i].numpy(), inside, rings[i]) for i in range(len(similar))]
    return float("nan") if np.isnan(aucs).all() else float(np.nanmean(aucs))


def point_auc(values: Tensor, extent: Tensor, mask: Tensor, point: Tensor) -> float:
    """The distance-matched AUC of one point's affinity: see ``distance_matched_auc``, with whose number it agrees.

    Args:
        values: ``(h, w)``, a map of affinities. extent: ``(2,)``, how far right and down the map reaches, the picture
            being 1: ``FeatureMap.extent``. mask: ``(H, W)`` bool, of the picture's proportions. point: ``(2,)`` in the
            image frame.

    Returns:
        In [0, 1]; not a number where no ring has cells on both sides.
    """
    h, w = raster_of((mask.shape[1], mask.shape[0]))
    similar = sample(values[None, None], (cell_centres(h, w).flatten(0, 1) / extent)[None])[0, :, 0]
    inside = F.interpolate(mask.float()[None, None], (h, w), mode="area").flatten() > 0.5
    rings = (_distances(point[None], h, w)[0] / _RING).long()
    return _ring_auc(similar.numpy(), inside.numpy(), rings.numpy())


def best_iou(values: Tensor, extent: Tensor, mask: Tensor) -> tuple[float, float]:
    """The most that thresholding a map can reach: the intersection over union at the threshold that suits it best.

    Compared on the raster of ``point_auc``, with whose arguments. A score needs one threshold for all maps (mask IoU,
    ``ObjectScores``), and is lower.

    Returns:
        The intersection over union, in [0, 1], and the threshold: cells with that value or a higher one.
    """
    h, w = raster_of((mask.shape[1], mask.shape[0]))
    similar = sample(values[None, None], (cell_centres(h, w).flatten(0, 1) / extent)[None])[0, :, 0]
    inside = F.interpolate(mask.float()[None, None], (h, w), mode="area").flatten() > 0.5
    ranked, order = similar.sort(descending=True, stable=True)
    hits = inside[order].cumsum(dim=0)
    iou = hits / (torch.arange(1, len(hits) + 1) + inside.sum() - hits)
    iou[:-1][ranked[:-1] == ranked[1:]] = 0  # a threshold takes all cells of one value or none
    best = int(iou.argmax())
    return float(iou[best]), float(ranked[best])


def _distances(points: Tensor, h: int, w: int) -> Tensor:
    """``(p, h * w)``, from points ``(p, 2)`` to the centres of ``h × w`` cells, in cells, to a thousandth."""
    exact = ((cell_centres(h, w).flatten(0, 1) - points[:, None]) * torch.tensor([w, h])).norm(dim=2)
    return exact.round(decimals=3)  # 3 cells are 3, not a hair less: whole numbers part the rings


def _ring_auc(similar: np.ndarray, inside: np.ndarray, rings: np.ndarray) -> float:
    """Share of (inside, outside) pairs within rings that are ranked rightly; not a number where there is no pair."""
    from scipy.stats import rankdata

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


def raster_of(size: tuple[int, int], longer: int = _RASTER) -> tuple[int, int]:
    """Rows and columns of the raster of a picture of that width and height, ``longer`` cells on the longer side."""
    width, height = size
    scale = longer / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))
