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
Columns = dict[str, np.ndarray]


def coco_api() -> Any:
    """The package ``faster_coco_eval``: COCO's evaluation and masks. Raises a ValueError where it is not installed."""
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
    if isinstance(runs["counts"], list):
        runs = coco_api().mask.frPyObjects(runs, *runs["size"])
    return runs


def ignored(annotation: Mapping[str, Any]) -> bool:
    """Difficult (PASCAL VOC) or a crowd region (COCO): neither wanted nor counted against the detector."""
    return bool(annotation.get("iscrowd") or annotation.get("difficult"))


def class_names(truth: Truth) -> list[str]:
    """By rising category id."""
    return [str(c["name"]) for c in sorted(truth["categories"], key=lambda c: c["id"])]


def mean_known(values: np.ndarray) -> float:
    """The mean of the values that are known (not NaN); NaN of none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def coco_metrics(truth: Truth, results: Results, kind: str = "bbox") -> dict[str, Any]:
    """COCO's twelve numbers, by faster-coco-eval; neither argument is changed.

    AP is the mean over the IoU thresholds 0.5, 0.55 … 0.95 and over classes; small is an area below 32², large one
    above 96² pixels of the original image. AR_10 is the recall with at most ten detections an image and class, mean
    over the same thresholds. https://cocodataset.org/#detection-eval  COCO has no mark for PASCAL VOC's "difficult":
    such objects are passed on as crowd regions, so that detections of which they cover half or more do not count.

    Args:
        kind: "bbox", or "segm" by the results' run-length masks; small and large are the mask's area then, as
            Detectron2 has it, also where the results have boxes. A ValueError where there is no segmentation.

    Returns:
        ``NUMBERS``, and ``classes``: class → ``AP``, ``AP50``, and ``precision`` ``(101,)``: the highest at IoU 0.5 at
        this recall or a higher one, for the recalls 0, 0.01 … 1.
    """
    api, annotations, wanted = coco_api(), [], []
    for number, a in enumerate(truth["annotations"], 1):  # from 1: there number 0 means "not matched"
        if kind == "segm" and not a.get("segmentation"):
            if not a["bbox"][2] * a["bbox"][3]:  # it has no area that could be found
                continue
            raise ValueError(f"an annotation of image {a['image_id']} has no segmentation: evaluate boxes only")
        area = a.get("area", a["bbox"][2] * a["bbox"][3])
        annotations.append({**a, "id": number, "iscrowd": int(ignored(a)), "area": area})
    for r in results:
        copy = {part: r[part] for part in ("image_id", "category_id", "score")}
        if kind == "bbox":
            copy["bbox"] = r["bbox"]
        elif isinstance(r.get("segmentation"), dict):  # without the box, whose area would stand for the mask's
            copy["segmentation"] = text_runs(r["segmentation"])
        else:
            raise ValueError(f"a result of image {r['image_id']} has no run-length segmentation: evaluate boxes only")
        wanted.append(copy)
    copied = {part: [dict(entry) for entry in truth[part]] for part in ("images", "categories")}
    known = api.COCO({"info": {}, "annotations": annotations, **copied})
    evaluator = api.COCOeval_faster(known, known.loadRes(wanted), kind, print_function=lambda *_: None)
    evaluator.run()
    # −1 without objects; precision is of (thresholds, recalls, classes, areas, most detections).
    summary, precision = (
        np.where(np.asarray(values) > -1, values, np.nan) for values in (evaluator.stats, evaluator.eval["precision"])
    )
    numbers: dict[str, Any] = dict(zip(NUMBERS, summary.tolist(), strict=False))
    numbers["classes"] = {
        name: {"AP": mean_known(of_class), "AP50": mean_known(of_class[0]), "precision": of_class[0]}
        for name, of_class in zip(class_names(truth), np.moveaxis(precision[..., 0, 2], 2, 0), strict=True)
    }
    return numbers


def average_precision(right: np.ndarray, wanted: int) -> dict[str, float]:
    """Average precision by each rule: of the best precision at a recall or a higher one.

    Args:
        right: ``(n,)`` bool, whether each detection is right, by falling score. wanted: objects, above 0.

    Returns:
        "11-point", VOC 2007's: its mean at the recalls 0, 0.1 … 1; "all-point", VOC's from 2010 on: the area under it;
        "101-point", COCO's: its mean at the recalls 0, 0.01 … 1.
    """
    hits = np.cumsum(right)
    best = np.r_[np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1], 0.0]
    tenths = -(-np.arange(11) * wanted // 10)  # hits for a recall of k / 10: rounded up, in whole numbers
    return {
        "11-point": float(best[np.searchsorted(hits, tenths)].mean()),
        "all-point": float(best[:-1][right].sum() / wanted),  # recall moves by 1 / wanted with each hit
        "101-point": float(best[np.searchsorted(hits / wanted, np.linspace(0, 1, 101))].mean()),
    }


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
    found, objects = _arrays(truth, results)
    names, labels = class_names(truth), found["labels"]
    overlap, taken = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.int64)
    for d, g, iou in _overlaps(found, objects, crowds=False):
        own = np.where(labels[d, None] == objects["labels"][g], iou, 0)
        overlap[d], taken[d] = own.max(axis=1), g[own.argmax(axis=1)]  # of equal ones the first
    wanted = np.bincount(objects["labels"][~objects["ignored"]], minlength=len(names))
    ap = {rule: np.full((len(THRESHOLDS), len(names)), np.nan) for rule in RULES}
    for t, threshold in enumerate(THRESHOLDS):
        hit = np.flatnonzero(overlap >= threshold)
        right, counts = np.zeros(len(labels), dtype=bool), np.ones(len(labels), dtype=bool)
        right[hit[np.unique(taken[hit], return_index=True)[1]]] = True
        counts[hit] = ~objects["ignored"][taken[hit]]
        for k in np.flatnonzero(wanted):
            of_class = average_precision(right[counts & (labels == k)], wanted[k])
            for rule in RULES:
                ap[rule][t, k] = of_class[rule]
    return {
        rule: {
            "AP": mean_known(x),
            "AP50": mean_known(x[0]),
            "AP75": mean_known(x[5]),
            "classes": {name: {"AP": float(x[:, k].mean()), "AP50": float(x[0, k])} for k, name in enumerate(names)},
        }
        for rule, x in ap.items()
    }


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
    found, objects = _arrays(truth, results)
    labels, counted, classes = found["labels"], ~objects["ignored"], len(truth["categories"])
    n = len(labels)
    own_iou, other_iou, excused = np.zeros(n), np.zeros(n), np.zeros(n, dtype=bool)
    own, other, match = (np.full(n, -1, dtype=np.int64) for _ in range(3))
    for d, g, iou in _overlaps(found, objects, crowds=True):
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
    kinds = {
        "right": right,
        "ignored": excused,
        "localisation": (own_iou >= _NOTHING) & (own_iou < _FOUND),
        "classification": other_iou >= _FOUND,
        "duplicate": own_iou >= _FOUND,
        "background": (own_iou < _NOTHING) & (other_iou < _NOTHING),
    }
    kind = np.select(list(kinds.values()), list(kinds), "both")
    meant = np.where(kind == "localisation", own, np.where(kind == "classification", other, match))
    missed = counted.copy()
    missed[meant[meant >= 0]] = False

    def ap50(labels: np.ndarray, right: np.ndarray, counting: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """``(K,)``, by COCO's rule."""
        ap = np.full(classes, np.nan)
        for k in np.flatnonzero(wanted):
            ap[k] = average_precision(right[counting & (labels == k)], wanted[k])["101-point"]
        return ap

    wanted, unknown = (np.bincount(objects["labels"][chosen], minlength=classes) for chosen in (counted, missed))
    counting = right | ~excused
    reached, better = mean_known(ap50(labels, right, counting, wanted)), {}
    for name in ("localisation", "classification"):
        claim = np.where(kind == name, meant, match)  # the object that each detection has or, put right, would have
        claiming, first = np.flatnonzero(claim >= 0), np.zeros(n, dtype=bool)
        first[claiming[np.unique(claim[claiming], return_index=True)[1]]] = True
        put_right = labels.copy()
        put_right[first] = objects["labels"][claim[first]]
        better[name] = ap50(put_right, first, (counting & (claim < 0)) | first, wanted)
    for name in ("duplicate", "background", "both"):
        better[name] = ap50(labels, right, counting & (kind != name), wanted)
    silent = np.bincount(labels[counting], minlength=classes) == 0
    easy = ap50(labels, right, counting, wanted - unknown)
    better["missed"] = np.where((wanted > 0) & (wanted == unknown), silent.astype(np.float64), easy)
    of_result = np.empty(n, dtype=object)
    of_result[found["listed"]] = kind
    return {
        "AP50": reached,
        "lost": {name: mean_known(better[name]) - reached for name in KINDS},
        "counts": {name: int((missed if name == "missed" else kind == name).sum()) for name in KINDS},
        "of_result": of_result,
    }


def _arrays(truth: Truth, results: Results) -> tuple[Columns, Columns]:
    """Detections by falling score (equal ones by image, then as listed: COCO's order), and objects.

    Of both boxes ``(n, 4)`` x, y, width, height in pixels; images and labels ``(n,)`` by rising id; ``ignored``; and
    ``listed``, their place in the list.
    """
    image, label = ({n: k for k, n in enumerate(sorted(e["id"] for e in truth[p]))} for p in ("images", "categories"))

    def columns(entries: Results) -> Columns:
        return {
            "boxes": np.array([e["bbox"] for e in entries], dtype=np.float64).reshape(-1, 4),
            "images": np.array([image[e["image_id"]] for e in entries], dtype=np.int64),
            "labels": np.array([label[e["category_id"]] for e in entries], dtype=np.int64),
            "ignored": np.array([ignored(e) for e in entries], dtype=bool),
            "listed": np.arange(len(entries)),
        }

    found = columns(results)
    order = np.lexsort((found["images"], -np.array([r["score"] for r in results], dtype=np.float64)))  # stable
    return {name: values[order] for name, values in found.items()}, columns(truth["annotations"])


def _overlaps(found: Columns, objects: Columns, crowds: bool) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each image that has both: numbers of its detections, by falling score, and objects, and their IoU.

    With ``crowds``, of an object that is ignored the share of the detection that it covers instead.
    """
    iou, by_image = coco_api().mask.iou, [np.argsort(part["images"], kind="stable") for part in (found, objects)]
    for image in np.intersect1d(found["images"], objects["images"]):
        d, g = (
            order[slice(*np.searchsorted(part["images"], [image, image + 1], sorter=order))]
            for order, part in zip(by_image, (found, objects), strict=True)
        )
        yield d, g, iou(found["boxes"][d], objects["boxes"][g], (objects["ignored"][g] & crowds).astype(int).tolist())
