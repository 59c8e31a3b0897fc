"""Average precision by COCO's rules and by PASCAL VOC's, and the kinds of error that it is lost by.

Truth and results are in COCO's format; results name images and categories of the truth only. All numbers are shares in
[0, 1], NaN where there is no object to be found. Boxes are in continuous pixels: a box of one pixel has width 1.
(PASCAL VOC's own code counts pixels from 1 and includes the last one; our reader has that in its boxes.)
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

NUMBERS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
RULES = ("11-point", "all-point")
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
THRESHOLDS = np.arange(50, 100, 5) / 100
_FOUND, _NOTHING = 0.5, 0.1  # IoU from which an object is found, and below which nothing is

Truth = Mapping[str, Any]
Results = Sequence[Mapping[str, Any]]


def coco_api() -> Any:
    """The package ``faster_coco_eval``: COCO's evaluation and masks, a maintained pycocotools.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise ValueError("faster-coco-eval is missing: pip install 'plrc[detection]'") from error


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask ``(H, W)`` as COCO's run lengths, in their text form."""
    counts = coco_api().mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return {"size": list(mask.shape), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def text_runs(runs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run lengths in their text form, the only one that COCO's evaluation of results and decoding take."""
    if not isinstance(runs["counts"], list):
        return runs
    text: Mapping[str, Any] = coco_api().mask.frPyObjects(runs, *runs["size"])
    return text


def ignored(annotation: Mapping[str, Any]) -> bool:
    """Difficult (PASCAL VOC) or a crowd region (COCO): neither wanted nor counted against the detector."""
    return bool(annotation.get("iscrowd") or annotation.get("difficult"))


def class_names(truth: Truth) -> list[str]:
    """By rising category id."""
    return [str(c["name"]) for c in sorted(truth["categories"], key=lambda c: c["id"])]


# ---------------------------------------------------------------------------------------------------------------- COCO


def coco_metrics(truth: Truth, results: Results, kind: str = "bbox") -> dict[str, Any]:
    """COCO's twelve numbers, by faster-coco-eval; neither argument is changed.

    AP is the mean over the IoU thresholds 0.5, 0.55 … 0.95 and over classes; small is an area below 32², large one
    above 96² pixels of the original image. AR_10 is the recall with at most ten detections an image and class, mean
    over the same thresholds. https://cocodataset.org/#detection-eval  COCO has no mark for PASCAL VOC's "difficult":
    such objects are passed on as crowd regions, so that detections of which they cover half or more do not count.

    Args:
        kind: "bbox", or "segm" by the results' run-length masks; small and large are the mask's area then, as
            Detectron2 has it, also where the results have boxes.

    Returns:
        ``NUMBERS``, and ``classes``: class → ``AP``, ``AP50``, and ``precision`` ``(101,)``: the highest at IoU 0.5 at
        this recall or a higher one, for the recalls 0, 0.01 … 1.

    Raises:
        ValueError: faster-coco-eval is missing; another kind; "segm", and an object or a result has no segmentation.
    """
    if kind not in ("bbox", "segm"):
        raise ValueError(f"unknown kind of overlap {kind!r}: choose bbox or segm")
    api = coco_api()
    annotations = []
    for number, a in enumerate(truth["annotations"], 1):  # from 1: there number 0 means "not matched"
        if kind == "segm" and not a.get("segmentation"):
            raise ValueError(
                f"annotation {a.get('id', number)} of image {a['image_id']} has no segmentation: evaluate boxes"
            )
        area = a.get("area", a["bbox"][2] * a["bbox"][3])
        annotations.append({**a, "id": number, "iscrowd": int(ignored(a)), "area": area})
    copied = {part: [dict(entry) for entry in truth[part]] for part in ("images", "categories")}
    known = api.COCO({"info": {}, "annotations": annotations, **copied})
    wanted = []
    for r in results:
        copy = {part: r[part] for part in ("image_id", "category_id", "score")}
        if kind == "bbox":
            copy["bbox"] = r["bbox"]
        elif isinstance(r.get("segmentation"), dict):  # without the box, whose area would stand for the mask's
            copy["segmentation"] = text_runs(r["segmentation"])
        else:
            raise ValueError(f"a result of image {r['image_id']} has no run-length segmentation: evaluate boxes only")
        wanted.append(copy)
    evaluator = api.COCOeval_faster(known, known.loadRes(wanted), kind, print_function=lambda *_: None)
    evaluator.evaluate()
    evaluator.accumulate()

    # (thresholds, recalls, classes, areas, most detections) and the same without recalls; −1 without objects
    precision, recall = (
        np.where(values > -1, values, np.nan)
        for values in (np.asarray(evaluator.eval[name], dtype=np.float64) for name in ("precision", "recall"))
    )
    overall = precision[..., 0, 2]
    parts_of_ap = [overall, overall[0], overall[5], *(precision[..., area, 2] for area in (1, 2, 3))]
    parts_of_ar = [*(recall[..., 0, most] for most in (0, 1, 2)), *(recall[..., area, 2] for area in (1, 2, 3))]
    numbers: dict[str, Any] = dict(zip(NUMBERS, map(mean_known, [*parts_of_ap, *parts_of_ar]), strict=True))
    numbers["classes"] = {
        name: {
            "AP": mean_known(overall[:, :, k]),
            "AP50": mean_known(overall[0, :, k]),
            "precision": overall[0, :, k],
        }
        for k, name in enumerate(class_names(truth))
    }
    return numbers


def mean_known(values: np.ndarray) -> float:
    """The mean of the values that are known (not NaN); NaN of none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


# ---------------------------------------------------------------------------------------------------------- PASCAL VOC


def voc_metrics(truth: Truth, results: Results) -> dict[str, dict[str, Any]]:
    """PASCAL VOC's average precision by the rules of 2007 and of 2010.

    As VOC's development kit has it (VOCevaldet.m): detections of a class are taken by falling score, each for the
    object of its class that it overlaps most. With an overlap of the threshold or more (the kit's >=; Detectron2 and
    py-faster-rcnn want more than it) the first to come is right, later ones of the same object are false. What is taken
    for a difficult object counts neither way, nor is that object wanted; crowd regions are treated the same. There
    is no limit to the number of detections. Ours: recall is compared exactly, where the kit's 3/10 may miss its step at
    0.3 by rounding; and of equal scores the image of the lower id comes first.

    Returns:
        Rule → ``AP`` (over the IoU thresholds 0.5, 0.55 … 0.95), ``AP50``, ``AP75`` and ``classes``: class → ``AP``,
        ``AP50``. Tables of transfer to VOC 07 (MoCo's and those after it) have all three by the 11-point rule.
    """
    names, found, objects = _arrays(truth, results)
    overlap, taken = np.zeros(len(found["labels"])), np.zeros(len(found["labels"]), dtype=np.int64)
    for d, g, iou in _overlaps(found, objects):
        own = np.where(found["labels"][d, None] == objects["labels"][g], iou, 0)
        overlap[d], taken[d] = own.max(axis=1), g[own.argmax(axis=1)]  # of equal ones the first
    wanted = np.bincount(objects["labels"][~objects["ignored"]], minlength=len(names))
    ap = {rule: np.full((len(THRESHOLDS), len(names)), np.nan) for rule in RULES}
    for t, threshold in enumerate(THRESHOLDS):
        hit = np.flatnonzero(overlap >= threshold)
        right, counts = np.zeros(len(overlap), dtype=bool), np.ones(len(overlap), dtype=bool)
        right[hit[np.unique(taken[hit], return_index=True)[1]]] = True
        counts[hit] = ~objects["ignored"][taken[hit]]
        for k in np.flatnonzero(wanted):
            ranked = right[counts & (found["labels"] == k)]
            ap["11-point"][t, k] = eleven_point_ap(ranked, wanted[k])
            ap["all-point"][t, k] = all_point_ap(ranked, wanted[k])
    found_by_rule: dict[str, dict[str, Any]] = {}
    for rule, x in ap.items():
        found_by_rule[rule] = {"AP": mean_known(x), "AP50": mean_known(x[0]), "AP75": mean_known(x[5])}
        of_classes = {n: {"AP": float(x[:, k].mean()), "AP50": float(x[0, k])} for k, n in enumerate(names)}
        found_by_rule[rule]["classes"] = of_classes
    return found_by_rule


def eleven_point_ap(right: np.ndarray, wanted: int) -> float:
    """VOC 2007's average precision: the mean over the recalls 0, 0.1 … 1 of the highest precision from there on.

    Args:
        right: ``(n,)`` bool, whether each detection is right, by falling score. wanted: objects, above 0.
    """
    hits = np.cumsum(right)
    needed = -(-np.arange(11) * wanted // 10)  # hits for a recall of k / 10: rounded up, in whole numbers
    return float(np.r_[_envelope(hits), 0.0][np.searchsorted(hits, needed)].mean())


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


# -------------------------------------------------------------------------------------------------------------- errors


def error_types(truth: Truth, results: Results) -> dict[str, Any]:
    """Sort the errors of results into six kinds, and weigh each: what a detector loses its AP50 by.

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

    Returns:
        ``AP50``: COCO's (101 recalls), but without its limit of 100 detections an image and class. ``lost``: kind →
        AP50 that would be gained if errors of this kind alone were put right; they do not add up to 1 − AP50, and are
        below 0 where putting right does harm. ``counts``: kind → false detections; of "missed", objects.
        ``of_result``: ``(n,)`` array, "right", "ignored" or the kind of error of each result, in the order of the list.
    """
    names, found, objects = _arrays(truth, results)
    labels, counted = found["labels"], ~objects["ignored"]
    n = len(labels)
    own_iou, other_iou = np.zeros(n), np.zeros(n)
    own, other, match = (np.full(n, -1, dtype=np.int64) for _ in range(3))
    excused = np.zeros(n, dtype=bool)
    for d, g, iou in _overlaps(found, objects, objects["ignored"]):
        same = labels[d, None] == objects["labels"][g]
        excused[d] = (same & ~counted[g] & (iou >= _FOUND)).any(axis=1)  # half of it or more in a crowd (COCO's rule)
        for highest, which, fits in ((own_iou, own, same & counted[g]), (other_iou, other, ~same & counted[g])):
            fitting = np.where(fits, iou, 0)
            highest[d], which[d] = fitting.max(axis=1), g[fitting.argmax(axis=1)]
        # COCO's rule: by falling score, each has the best that is free; of equal overlaps the last.
        free = np.where(same & counted[g] & (iou >= _FOUND), iou, 0)
        for row in np.flatnonzero(free.any(axis=1)):
            best = len(g) - 1 - int(free[row, ::-1].argmax())
            if free[row, best]:
                match[d[row]] = g[best]
                free[:, best] = 0
    right = match >= 0
    false = ~right & ~excused
    kinds = {
        "localisation": (own_iou >= _NOTHING) & (own_iou < _FOUND),
        "classification": other_iou >= _FOUND,
        "duplicate": own_iou >= _FOUND,
        "background": (own_iou < _NOTHING) & (other_iou < _NOTHING),
        "both": np.ones(n, dtype=bool),
    }
    kind = np.select([right, excused, *kinds.values()], ["right", "ignored", *kinds], "both")
    meant = np.where(kind == "localisation", own, np.where(kind == "classification", other, match))
    missed = counted.copy()
    missed[meant[meant >= 0]] = False

    wanted, unknown = (np.bincount(objects["labels"][chosen], minlength=len(names)) for chosen in (counted, missed))
    counting = false | right
    reached = _ap50(labels, right, counting, wanted)
    better = {}
    for name in ("localisation", "classification"):
        claim = np.where(kind == name, meant, match)  # the object that each detection has or, put right, would have
        first = np.zeros(n, dtype=bool)
        claiming = np.flatnonzero(claim >= 0)
        first[claiming[np.unique(claim[claiming], return_index=True)[1]]] = True
        put_right = labels.copy()
        put_right[first] = objects["labels"][claim[first]]
        better[name] = _ap50(put_right, first, (counting & (claim < 0)) | first, wanted)
    for name in ("duplicate", "background", "both"):
        better[name] = _ap50(labels, right, counting & (kind != name), wanted)
    silent = np.bincount(labels[counting], minlength=len(names)) == 0
    easy = _ap50(labels, right, counting, wanted - unknown)
    better["missed"] = np.where((wanted > 0) & (wanted == unknown), silent.astype(np.float64), easy)
    counts = {name: int((kind == name).sum()) for name in kinds} | {"missed": int(missed.sum())}
    of_result = np.empty(n, dtype=object)
    of_result[found["listed"]] = kind
    return {
        "AP50": mean_known(reached),
        "lost": {name: mean_known(better[name]) - mean_known(reached) for name in KINDS},
        "counts": {name: counts[name] for name in KINDS},
        "of_result": of_result,
    }


def _ap50(labels: np.ndarray, right: np.ndarray, counting: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """``(K,)`` AP of detections by falling score: mean of the envelope of precision over 101 recalls (COCO's)."""
    ap = np.full(len(wanted), np.nan)
    for k in np.flatnonzero(wanted):
        hits = np.cumsum(right[counting & (labels == k)])
        envelope = np.r_[_envelope(hits), 0.0]
        ap[k] = envelope[np.searchsorted(hits / wanted[k], np.linspace(0, 1, 101))].mean()
    return ap


def _arrays(truth: Truth, results: Results) -> tuple[list[str], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Names of the classes; detections by falling score (equal ones by image, then as listed: COCO's order); objects.

    Of both: boxes ``(n, 4)`` x, y, width, height in pixels, images and labels ``(n,)`` by rising id; of detections
    ``listed``, their place in ``results``; of objects ``ignored``.
    """
    label = {c["id"]: k for k, c in enumerate(sorted(truth["categories"], key=lambda c: c["id"]))}
    image = {i: k for k, i in enumerate(sorted(i["id"] for i in truth["images"]))}

    def columns(entries: Results) -> dict[str, np.ndarray]:
        return {
            "boxes": np.array([e["bbox"] for e in entries], dtype=np.float64).reshape(-1, 4),
            "images": np.array([image[e["image_id"]] for e in entries], dtype=np.int64),
            "labels": np.array([label[e["category_id"]] for e in entries], dtype=np.int64),
        }

    objects = columns(truth["annotations"])
    objects["ignored"] = np.array([ignored(a) for a in truth["annotations"]], dtype=bool)
    found = columns(results)
    order = np.lexsort((found["images"], -np.array([r["score"] for r in results], dtype=np.float64)))  # stable
    return class_names(truth), {**{name: x[order] for name, x in found.items()}, "listed": order}, objects


def _overlaps(
    found: Mapping[str, np.ndarray], objects: Mapping[str, np.ndarray], crowds: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each image that has both: numbers of its detections, by falling score, and objects, and their IoU.

    Where ``crowds`` ``(n,)`` is True of an object, the share of the detection that it covers instead.
    """
    iou = coco_api().mask.iou
    crowds = np.zeros(len(objects["labels"]), dtype=bool) if crowds is None else crowds
    by_image = [np.argsort(columns["images"], kind="stable") for columns in (found, objects)]
    for image in np.intersect1d(found["images"], objects["images"]):
        d, g = (
            order[slice(*np.searchsorted(columns["images"][order], [image, image + 1]))]
            for order, columns in zip(by_image, (found, objects), strict=True)
        )
        yield d, g, iou(found["boxes"][d], objects["boxes"][g], crowds[g].astype(int).tolist())
