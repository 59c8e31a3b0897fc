"""PASCAL VOC's average precision, by the rule of 2007 and by that of 2010."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plrc.detection.coco_ap import mean_known
from plrc.detection.overlaps import as_arrays, best, ious, pairs

THRESHOLDS = np.arange(50, 100, 5) / 100
RULES = ("11-point", "all-point")


@dataclass(frozen=True, eq=False)
class VocMetrics:
    """Average precision as PASCAL VOC defines it; in [0, 1], NaN where there is no object to be found.

    Attributes:
        AP, AP50, AP75: rule → mean over classes: over the IoU thresholds 0.5, 0.55 … 0.95 and at 0.5 and 0.75. The
            rules are "11-point" (VOC 2007's: mean over the recalls 0, 0.1 … 1 of the highest precision at this recall
            or a higher one) and "all-point" (from VOC 2010 on: the area under that envelope). Tables of transfer to VOC
            07 (MoCo's and those after it, by Detectron2's evaluator) have all three by the 11-point rule.
        class_AP, class_AP50: rule → class → its AP, over the thresholds and at 0.5.
        curves: class → recall and precision ``(n,)`` at IoU 0.5 after each detection, by falling score, of those
            that count; of a class without objects both are empty.
    """

    AP: dict[str, float]
    AP50: dict[str, float]
    AP75: dict[str, float]
    class_AP: dict[str, dict[str, float]]
    class_AP50: dict[str, dict[str, float]]
    curves: dict[str, tuple[np.ndarray, np.ndarray]]


def voc_metrics(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> VocMetrics:
    """PASCAL VOC's metrics of results, both in COCO's format.

    As VOC's development kit has it (VOCevaldet.m): detections of a class are taken by falling score, each for the
    object of its class that it overlaps most. With an overlap of the threshold or more (the kit's >=; Detectron2 and
    py-faster-rcnn want more than it) the first to come is right, later ones of the same object are false. What is taken
    for a difficult object counts neither way, nor is that object wanted; crowd regions are treated the same. There
    is no limit to the number of detections.

    Ours: recall is compared exactly, where the kit's 3/10 may miss its step at 0.3 by rounding; and of equal scores the
    picture of the lower id comes first, so that the order of the results does not matter.
    """
    names, objects, found = as_arrays(truth, results)
    n, classes = len(found.images), len(names)
    d, g = pairs(found.images * classes + found.labels, objects.images * classes + objects.labels)
    overlap, taken = best(d, g, ious(found.boxes[d], objects.boxes[g]), n)
    wanted = np.bincount(objects.labels[~objects.ignored], minlength=classes)
    of_class = [np.flatnonzero(found.labels == k) for k in range(classes)]

    ap = {rule: np.full((len(THRESHOLDS), classes), np.nan) for rule in RULES}
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for t, threshold in enumerate(THRESHOLDS):
        hit = np.flatnonzero(overlap >= threshold)
        first = np.unique(taken[hit], return_index=True)[1]
        right = np.zeros(n, dtype=bool)
        right[hit[first]] = True
        counts = np.ones(n, dtype=bool)
        counts[hit] = ~objects.ignored[taken[hit]]
        for k, name in enumerate(names):
            ranked = right[of_class[k]][counts[of_class[k]]]
            if t == 0:
                curves[name] = _curve(ranked, wanted[k])
            if wanted[k]:
                ap["11-point"][t, k] = eleven_point_ap(ranked, wanted[k])
                ap["all-point"][t, k] = all_point_ap(ranked, wanted[k])
    at75 = int(np.flatnonzero(THRESHOLDS == 0.75)[0])
    return VocMetrics(
        AP={rule: mean_known(values) for rule, values in ap.items()},
        AP50={rule: mean_known(values[0]) for rule, values in ap.items()},
        AP75={rule: mean_known(values[at75]) for rule, values in ap.items()},
        class_AP={rule: _by_name(names, values.mean(0)) for rule, values in ap.items()},
        class_AP50={rule: _by_name(names, values[0]) for rule, values in ap.items()},
        curves=curves,
    )


def eleven_point_ap(right: np.ndarray, wanted: int) -> float:
    """VOC 2007's average precision: the mean over the recalls 0, 0.1 … 1 of the highest precision from there on.

    Args:
        right: ``(n,)`` bool, whether each detection is right, by falling score. wanted: objects, above 0.
    """
    hits = np.cumsum(right)
    envelope = np.r_[_envelope(hits), 0.0]
    needed = -(-np.arange(11) * wanted // 10)  # hits for a recall of k / 10: rounded up, in whole numbers
    return float(envelope[np.searchsorted(hits, needed)].mean())


def all_point_ap(right: np.ndarray, wanted: int) -> float:
    """VOC's average precision from 2010 on: the area under the envelope of precision over recall.

    Args:
        right, wanted: as of ``eleven_point_ap``.
    """
    # Recall moves by 1 / wanted with each hit, and nowhere else.
    return float(_envelope(np.cumsum(right))[right].sum() / wanted)


def _envelope(hits: np.ndarray) -> np.ndarray:
    """Highest precision after this detection or a later one."""
    precision = hits / np.arange(1, len(hits) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def _curve(right: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    if not wanted:
        return np.zeros(0), np.zeros(0)
    hits = np.cumsum(right)
    return hits / wanted, hits / np.arange(1, len(hits) + 1)


def _by_name(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))
