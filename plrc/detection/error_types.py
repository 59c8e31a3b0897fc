"""What a detector loses its AP50 by: kinds of error, and what it would gain without each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plrc.detection.coco_ap import mean_known
from plrc.detection.overlaps import Found, Objects, areas, as_arrays, best, intersections, ious, pairs

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
_FOUND, _NOTHING = 0.5, 0.1  # IoU from which an object is found, and below which nothing is
_RIGHT, _IGNORED = "right", "ignored"


@dataclass(frozen=True, eq=False)
class ErrorTypes:
    """The errors of a detector at IoU 0.5, in six kinds.

    Attributes:
        AP50: COCO's, in [0, 1]; NaN where there is no object. lost: kind → AP50 that would be gained if errors of
            this kind alone were put right. They do not add up to 1 − AP50. Below 0 where putting right does harm.
        counts: kind → false detections of this kind; of "missed", objects.
        of_result: one a result, in the order of the list: "right", "ignored", or its kind of error.
    """

    AP50: float
    lost: dict[str, float]
    counts: dict[str, int]
    of_result: list[str]


def error_types(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> ErrorTypes:
    """Sort the errors of results, both in COCO's format, into six kinds, and weigh each.

    After TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020): objects are
    matched to detections as COCO does, at IoU 0.5. A detection that is not right is the first of these that fits:

    - localisation: an object of its class has an IoU of 0.1 … 0.5. Put right: it gets that object's box.
    - classification: an object of another class has an IoU of 0.5 or more. Put right: it gets that object's class.
    - duplicate: an object of its class, already found by a better detection, has an IoU of 0.5 or more. It is removed.
    - background: no object has an IoU of 0.1 or more. It is removed.
    - both: what is left, an object of another class with an IoU of 0.1 … 0.5. It is removed.

    Where a detection that is put right and another one have the same object, the one of lower score is removed.
    missed: objects that are not found, and that no error of the first two kinds has for its object. Put right: they are
    not wanted. Of a class with no other object, AP50 is 1 then if nothing is detected, else 0.

    AP50 is COCO's (101 recalls), but without its limit of 100 detections a picture and class. Difficult objects and
    crowd regions are treated as in ``coco_metrics``.
    """
    names, objects, found = as_arrays(truth, results)
    n = len(found.images)
    d, g = pairs(found.images, objects.images)
    keep = ~objects.ignored[g]
    crowd_d, crowd_g = d[~keep], g[~keep]
    d, g = d[keep], g[keep]
    overlap = ious(found.boxes[d], objects.boxes[g])
    same = found.labels[d] == objects.labels[g]

    match = _matched(d[same], g[same], overlap[same], n, len(objects.images))
    own_iou, own = best(d[same], g[same], overlap[same], n)
    other_iou, other = best(d[~same], g[~same], overlap[~same], n)
    false = (match < 0) & ~_in_crowd(found, objects, crowd_d, crowd_g)
    fits = {
        "localisation": (own_iou >= _NOTHING) & (own_iou < _FOUND),
        "classification": other_iou >= _FOUND,
        "duplicate": own_iou >= _FOUND,
        "background": (own_iou < _NOTHING) & (other_iou < _NOTHING),
        "both": np.ones(n, dtype=bool),
    }
    is_kind: dict[str, np.ndarray] = {}
    rest = false
    for kind, fit in fits.items():
        is_kind[kind] = rest & fit
        rest = rest & ~fit
    # The object that each detection has or, put right, would have.
    meant = np.where(is_kind["localisation"], own, np.where(is_kind["classification"], other, match))
    missed = ~objects.ignored
    missed[meant[meant >= 0]] = False

    wanted = np.bincount(objects.labels[~objects.ignored], minlength=len(names))
    counting = false | (match >= 0)
    reached = _ap50(found.labels, match >= 0, counting, wanted)
    better = {}
    for kind in ("localisation", "classification"):
        claim = np.where(is_kind[kind], meant, match)
        first = _first_of_each(claim)
        labels = np.where(first, objects.labels[claim], found.labels) if len(objects.labels) else found.labels
        better[kind] = _ap50(labels, first, (counting & (claim < 0)) | first, wanted)
    for kind in ("duplicate", "background", "both"):
        better[kind] = _ap50(found.labels, match >= 0, counting & ~is_kind[kind], wanted)
    unknown = np.bincount(objects.labels[missed], minlength=len(names))
    easy = _ap50(found.labels, match >= 0, counting, wanted - unknown)
    silent = np.bincount(found.labels[counting], minlength=len(names)) == 0
    better["missed"] = np.where((wanted > 0) & (wanted == unknown), silent.astype(np.float64), easy)

    of_result = np.full(n, _IGNORED, dtype=object)
    of_result[found.listed[match >= 0]] = _RIGHT
    for kind, which in is_kind.items():
        of_result[found.listed[which]] = kind
    counts = {kind: int(which.sum()) for kind, which in is_kind.items()} | {"missed": int(missed.sum())}
    return ErrorTypes(
        AP50=mean_known(reached),
        lost={kind: mean_known(better[kind]) - mean_known(reached) for kind in KINDS},
        counts={kind: counts[kind] for kind in KINDS},
        of_result=of_result.tolist(),
    )


def _matched(d: np.ndarray, g: np.ndarray, overlap: np.ndarray, n: int, objects: int) -> np.ndarray:
    """``(n,)``: the object of each detection, −1: none. By falling score, each has the best that is free (COCO's rule).

    Of equal overlaps the last, as COCO's code has it.
    """
    match = np.full(n, -1, dtype=np.int64)
    near = overlap >= _FOUND
    d, g, overlap = d[near], g[near], overlap[near]
    free = [True] * objects
    order = np.lexsort((-np.arange(len(d)), -overlap, d))  # a detection's pairs from the best on
    for detection, thing in zip(d[order].tolist(), g[order].tolist(), strict=True):
        if match[detection] < 0 and free[thing]:
            match[detection], free[thing] = thing, False
    return match


def _in_crowd(found: Found, objects: Objects, d: np.ndarray, g: np.ndarray) -> np.ndarray:
    """``(n,)`` bool: half or more of the detection lies in an ignored object of its class (COCO's rule)."""
    own = found.labels[d] == objects.labels[g]
    d, g = d[own], g[own]
    inside = intersections(found.boxes[d], objects.boxes[g])
    covered = (inside > 0) & (inside >= _FOUND * areas(found.boxes[d]))
    return np.bincount(d[covered], minlength=len(found.images)) > 0


def _first_of_each(claim: np.ndarray) -> np.ndarray:
    """``(n,)`` bool: the first detection that claims an object; ``claim`` is −1 where none is claimed."""
    first = np.zeros(len(claim), dtype=bool)
    claiming = np.flatnonzero(claim >= 0)
    first[claiming[np.unique(claim[claiming], return_index=True)[1]]] = True
    return first


def _ap50(labels: np.ndarray, right: np.ndarray, counting: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """``(K,)`` AP of detections by falling score: mean of the envelope of precision over 101 recalls (COCO's)."""
    ap = np.full(len(wanted), np.nan)
    for k in np.flatnonzero(wanted):
        hits = np.cumsum(right[counting & (labels == k)])
        precision = hits / np.arange(1, len(hits) + 1)
        envelope = np.r_[np.maximum.accumulate(precision[::-1])[::-1], 0.0]
        ap[k] = envelope[np.searchsorted(hits / wanted[k], np.linspace(0, 1, 101))].mean()
    return ap
