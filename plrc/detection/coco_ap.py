"""COCO's twelve numbers, by faster-coco-eval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plrc.detection.coco_api import coco_api

NUMBERS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
_AREAS = {"all": 0, "small": 1, "medium": 2, "large": 3}
_MOST = {1: 0, 10: 1, 100: 2}  # detections a picture and class


@dataclass(frozen=True, eq=False)
class CocoMetrics:
    """Average precision and recall as COCO defines them; all in [0, 1], NaN where there is no object to be found.

    AP is the mean over the IoU thresholds 0.5, 0.55 … 0.95 and over classes; small is an area below 32², large one
    above 96² pixels of the original picture. AR_10 is the recall with at most ten detections a picture and class, mean
    over the same thresholds. https://cocodataset.org/#detection-eval

    Attributes:
        class_AP, class_AP50: class → its AP, at all thresholds and at 0.5.
        precision: class → ``(101,)``, the highest precision at IoU 0.5 at this recall or a higher one, for the recalls
            0, 0.01 … 1. mean_precision: ``(101,)``, over the classes that have an object.
        recall: ``(101,)``, those recalls.
    """

    AP: float
    AP50: float
    AP75: float
    AP_small: float
    AP_medium: float
    AP_large: float
    AR_1: float
    AR_10: float
    AR_100: float
    AR_small: float
    AR_medium: float
    AR_large: float
    class_AP: dict[str, float]
    class_AP50: dict[str, float]
    precision: dict[str, np.ndarray]
    mean_precision: np.ndarray
    recall: np.ndarray

    def numbers(self) -> dict[str, float]:
        """The twelve by name."""
        return {name: getattr(self, name) for name in NUMBERS}


def coco_metrics(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], kind: str = "bbox") -> CocoMetrics:
    """COCO's metrics of results, both in COCO's format; neither is changed.

    COCO has no mark for PASCAL VOC's "difficult": such objects are passed on as crowd regions, so that they are not
    wanted, and detections of which they cover half or more do not count against the detector.

    Args:
        kind: "bbox", or "segm" by the results' run-length masks; small and large are the mask's area then, as
            Detectron2 has it, also where the results have boxes.

    Raises:
        ValueError: faster-coco-eval is missing; another kind; "segm", and an object or a result has no segmentation.
    """
    if kind not in ("bbox", "segm"):
        raise ValueError(f"unknown kind of overlap {kind!r}: choose bbox or segm")
    api = coco_api()
    known = api.COCO(_truth(truth, kind))
    found = known.loadRes(_results(results, kind))
    evaluator = api.COCOeval_faster(known, found, kind, print_function=_silent)
    evaluator.evaluate()
    evaluator.accumulate()

    # (thresholds, recalls, classes, areas, most detections) and the same without recalls; −1 without objects
    precision, recall = (
        np.where(values > -1, values, np.nan)
        for values in (np.asarray(evaluator.eval[name], dtype=np.float64) for name in ("precision", "recall"))
    )
    everything = precision[..., _AREAS["all"], _MOST[100]]
    names = [str(c["name"]) for c in sorted(truth["categories"], key=lambda c: c["id"])]
    return CocoMetrics(
        AP=mean_known(everything),
        AP50=mean_known(everything[0]),
        AP75=mean_known(everything[5]),
        **{f"AP_{a}": mean_known(precision[..., k, _MOST[100]]) for a, k in _AREAS.items() if a != "all"},
        **{f"AR_{most}": mean_known(recall[..., _AREAS["all"], k]) for most, k in _MOST.items()},
        **{f"AR_{a}": mean_known(recall[..., k, _MOST[100]]) for a, k in _AREAS.items() if a != "all"},
        class_AP={name: mean_known(everything[:, :, k]) for k, name in enumerate(names)},
        class_AP50={name: mean_known(everything[0, :, k]) for k, name in enumerate(names)},
        precision={name: everything[0, :, k] for k, name in enumerate(names)},
        mean_precision=np.array([mean_known(row) for row in everything[0]]),
        recall=np.asarray(evaluator.params.recThrs, dtype=np.float64),
    )


def mean_known(values: np.ndarray) -> float:
    """The mean of the values that are known (not NaN); NaN of none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _truth(truth: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A copy to write in, its annotations numbered from 1: there number 0 means "not matched"."""
    annotations = []
    for number, a in enumerate(truth["annotations"], 1):
        crowd = int(bool(a.get("iscrowd") or a.get("difficult")))
        copied = {**a, "id": number, "iscrowd": crowd, "area": a.get("area", a["bbox"][2] * a["bbox"][3])}
        if kind == "segm" and not a.get("segmentation"):
            raise ValueError(
                f"annotation {a.get('id', number)} of image {a['image_id']} has no segmentation: evaluate boxes"
            )
        annotations.append(copied)
    return {
        "info": {},
        "images": [dict(image) for image in truth["images"]],
        "annotations": annotations,
        "categories": [dict(category) for category in truth["categories"]],
    }


def _results(results: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Copies with what this kind needs: where there is a box, the box's area would stand for the mask's."""
    if kind == "bbox":
        return [{name: r[name] for name in ("image_id", "category_id", "score", "bbox")} for r in results]
    return [
        {"image_id": r["image_id"], "category_id": r["category_id"], "score": r["score"], "segmentation": _runs(r)}
        for r in results
    ]


def _runs(result: Mapping[str, Any]) -> dict[str, Any]:
    """The run lengths of a result in COCO's text form, the only one that the evaluator takes there."""
    runs = result.get("segmentation")
    if not isinstance(runs, dict):
        raise ValueError(f"a result of image {result['image_id']} has no run-length segmentation: evaluate boxes only")
    if isinstance(runs["counts"], list):
        text: dict[str, Any] = coco_api().mask.frPyObjects(runs, *runs["size"])
        return text
    return runs


def _silent(*_: object) -> None:
    """For an evaluator that reports each step."""
