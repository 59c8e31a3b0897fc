"""All scores of objects, from one affinity map a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.bootstrap import Sample, Score, scores_of
from plrc.analysis.scores.foreground import FixedThreshold, box_iou
from plrc.analysis.scores.objects import RasterObject, object_auc, objects_of_boxes, objects_of_masks
from plrc.analysis.scores.purity import purity
from plrc.data.sources import Annotation

AUC, IOU, CORLOC, PURITY = "distance-matched AUC", "mask IoU", "CorLoc", "region purity"
_NO_OBJECT = "no object covers 1 % to 90 % of the picture"
_NO_PAIR = "no pixels in and outside it are equally far from its points"
_TOO_NEAR = "no object reaches farther than an eighth of the picture's longer side from its points"
_WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]])


class ObjectScores:
    """Scores of several descriptors on objects, one picture after another.

    Pictures with masks get AUC, IoU, CorLoc and purity; pictures with boxes only get CorLoc and, with the box as the
    object, purity. Difficult and crowd objects are left out. The two kinds do not mix.

    By chance: the AUC is 0.5; a blind choice of cells, for purity; for IoU and CorLoc no guess, but the whole picture
    as the foreground, and as its box.
    """

    def __init__(self, descriptors: Sequence[Descriptor], masks: bool) -> None:
        self._descriptors, self._masks = descriptors, masks
        self._foregrounds = [FixedThreshold(masks) for _ in descriptors]
        columns = len(descriptors) + 1  # the last one by chance
        self._aucs: list[list[float]] = [[] for _ in range(columns)]
        self._purities: list[list[float]] = [[] for _ in range(columns)]
        self._whole: dict[str, list[float]] = {IOU: [], CORLOC: []}
        self._asked = 0
        self._of: dict[str, list[int]] = {AUC: [], CORLOC: [], PURITY: []}  # numbers of the pictures with a value

    def add(self, number: int, annotation: Annotation, size: tuple[int, int], maps: Sequence[Tensor]) -> None:
        """Score one picture.

        Args:
            number: of the picture, from which the points are drawn. size: its width and height. maps: of each
                descriptor ``(1, C, h, w)``, over the whole picture.
        """
        self._asked += 1
        objects = self._objects(number, annotation, size)
        if not objects:
            return
        for k, (descriptor, features) in enumerate(zip(self._descriptors, maps, strict=True)):
            asked = [(thing.affinities(descriptor, features), thing) for thing in objects]
            self._foregrounds[k].add(asked)
            if self._masks:
                _keep(self._aucs[k], [object_auc(similar, thing) for similar, thing in asked])
            shares = [purity(similar, thing) for similar, thing in asked]
            _keep(self._purities[k], [pure for pure, _ in shares])
        _keep(self._purities[-1], [share for _, share in shares])
        self._aucs[-1] += [0.5] * (len(self._aucs[0]) - len(self._aucs[-1]))
        self._of[CORLOC].append(number)
        for measure, values in ((AUC, self._aucs[0]), (PURITY, self._purities[0])):
            if len(values) > len(self._of[measure]):  # whether there is one depends on the objects, not on the maps
                self._of[measure].append(number)
        self._whole[IOU].append(float(np.mean([float(thing.inside.float().mean()) for thing in objects])))
        self._whole[CORLOC].append(float(np.mean([box_iou(_WHOLE, thing.box)[0] >= 0.5 for thing in objects])))

    def rows(self) -> dict[str, list[Score | None]]:
        """A measure's name → a score a descriptor, and last the one by chance. Empty if there was no object."""
        return scores_of(self.samples())

    def samples(self) -> dict[str, Sample]:
        """A measure's name → a value a picture."""
        corlocs = [f.corlocs() for f in self._foregrounds]
        corloc = Sample(self._of[CORLOC], [*corlocs, self._whole[CORLOC]], self._asked, _NO_OBJECT)
        pure = Sample(self._of[PURITY], self._purities, self._asked, _TOO_NEAR)
        if not self._masks:
            return {f"{CORLOC} (boxes)": corloc, f"{PURITY} (boxes)": pure}
        ious = [f.ious() for f in self._foregrounds]
        no_auc = _NO_OBJECT if self._of[AUC] == self._of[CORLOC] else f"{_NO_OBJECT}, or {_NO_PAIR}"
        return {
            AUC: Sample(self._of[AUC], self._aucs, self._asked, no_auc),
            IOU: Sample(self._of[CORLOC], [*ious, self._whole[IOU]], self._asked, _NO_OBJECT),
            CORLOC: corloc,
            PURITY: pure,
        }

    def _objects(self, number: int, annotation: Annotation, size: tuple[int, int]) -> list[RasterObject]:
        ignored = annotation.difficult | annotation.crowd
        kept = [k for k in range(len(annotation.boxes)) if k not in ignored]
        boxes = annotation.boxes[kept]
        if not self._masks:
            return objects_of_boxes(boxes, size, number)
        return [] if annotation.masks is None else objects_of_masks(annotation.masks[kept], boxes, size, number)


def _keep(values: list[float], of_objects: Sequence[float]) -> None:
    """Add an image's value, the mean over its objects that have one."""
    known = [value for value in of_objects if not np.isnan(value)]
    if known:
        values.append(float(np.mean(known)))
