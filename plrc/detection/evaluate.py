"""All that is measured of detections, as numbers for a file and as a table for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plrc.detection.coco_ap import CocoMetrics, coco_metrics
from plrc.detection.error_types import KINDS, ErrorTypes, error_types
from plrc.detection.voc_ap import RULES, VocMetrics, voc_metrics

_NONE = "–"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The measures of one list of results.

    Attributes:
        images: pictures of the data set. objects: class → objects to be found, without difficult ones and crowd
            regions. detections: results. boxes: COCO's metrics. masks: the same of masks, None if not asked for. voc:
            PASCAL VOC's, None if not asked for. errors: at IoU 0.5, of boxes.
    """

    images: int
    objects: dict[str, int]
    detections: int
    boxes: CocoMetrics
    masks: CocoMetrics | None
    voc: VocMetrics | None
    errors: ErrorTypes

    def summary(self) -> dict[str, Any]:
        """For JSON: all numbers but the curves, as shares in [0, 1]; None where there is no object to be found."""
        content: dict[str, Any] = {
            "images": self.images,
            "objects": sum(self.objects.values()),
            "detections": self.detections,
            "boxes": self._coco(self.boxes),
        }
        if self.masks:
            content["masks"] = self._coco(self.masks)
        if self.voc:
            content["voc"] = {rule: self._voc(self.voc, rule) for rule in RULES}
        content["errors"] = {
            "AP50": _number(self.errors.AP50),
            "lost": {kind: _number(value) for kind, value in self.errors.lost.items()},
            "counts": dict(self.errors.counts),
        }
        return content

    def table(self) -> str:
        """For a terminal, in per cent: AP first, then by size, recall, classes, errors; – where there is no object."""
        return "\n".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """The table's lines."""
        what = f"{sum(self.objects.values())} objects in {self.images} pictures, {self.detections} detections; per cent"
        parts = [self._headline(), self._by_size(), self._recall(), self._classes(), self._errors()]
        return [what, *(line for part in parts for line in ("", *_aligned(part)))]

    def _coco(self, metrics: CocoMetrics) -> dict[str, Any]:
        numbers: dict[str, Any] = {name: _number(value) for name, value in metrics.numbers().items()}
        classes = {
            name: {"AP": _number(metrics.class_AP[name]), "AP50": _number(metrics.class_AP50[name]), "objects": n}
            for name, n in self.objects.items()
        }
        return numbers | {"classes": classes}

    def _voc(self, metrics: VocMetrics, rule: str) -> dict[str, Any]:
        ap, ap50 = metrics.class_AP[rule], metrics.class_AP50[rule]
        return {
            "AP": _number(metrics.AP[rule]),
            "AP50": _number(metrics.AP50[rule]),
            "AP75": _number(metrics.AP75[rule]),
            "classes": {name: {"AP": _number(ap[name]), "AP50": _number(ap50[name])} for name in self.objects},
        }

    def _of_coco(self) -> dict[str, CocoMetrics]:
        return {"COCO, boxes": self.boxes} | ({"COCO, masks": self.masks} if self.masks else {})

    def _headline(self) -> list[list[str]]:
        rows = [["", "AP", "AP50", "AP75"]]
        rows += [[name, *map(_percent, (m.AP, m.AP50, m.AP75))] for name, m in self._of_coco().items()]
        if self.voc:
            for rule in RULES:
                values = (self.voc.AP[rule], self.voc.AP50[rule], self.voc.AP75[rule])
                rows.append([f"VOC, {rule}", *map(_percent, values)])
        return rows

    def _by_size(self) -> list[list[str]]:
        rows = [["AP by size", "small", "medium", "large"]]
        return rows + [[k, *map(_percent, (m.AP_small, m.AP_medium, m.AP_large))] for k, m in self._of_coco().items()]

    def _recall(self) -> list[list[str]]:
        rows = [["recall (AR)", "1", "10", "100", "small", "medium", "large"]]
        for name, m in self._of_coco().items():
            values = (m.AR_1, m.AR_10, m.AR_100, m.AR_small, m.AR_medium, m.AR_large)
            rows.append([name, *map(_percent, values)])
        return rows

    def _classes(self) -> list[list[str]]:
        of_masks = ["masks AP", "masks AP50"] if self.masks else []
        of_voc = [f"AP50 {rule}" for rule in RULES] if self.voc else []
        rows = [["class", "objects", "AP", "AP50", *of_masks, *of_voc]]
        for name, n in self.objects.items():
            values = [m[name] for c in self._of_coco().values() for m in (c.class_AP, c.class_AP50)]
            values += [self.voc.class_AP50[rule][name] for rule in RULES] if self.voc else []
            rows.append([name, str(n), *map(_percent, values)])
        return rows

    def _errors(self) -> list[list[str]]:
        rows = [["error at IoU 0.5", "AP50 lost", "count"]]
        lost, counts = self.errors.lost, self.errors.counts
        return rows + [[kind, _percent(lost[kind]), str(counts[kind])] for kind in KINDS]


def evaluate(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], voc: bool = False, masks: bool = False
) -> Evaluation:
    """Measure results against the truth, both in COCO's format.

    Args:
        voc: also by PASCAL VOC's rules. masks: also by the masks of objects and results.

    Raises:
        ValueError: faster-coco-eval is missing; or a mask is, and masks are wanted.
    """
    names = {c["id"]: str(c["name"]) for c in sorted(truth["categories"], key=lambda c: c["id"])}
    objects = dict.fromkeys(names.values(), 0)
    for a in truth["annotations"]:
        objects[names[a["category_id"]]] += not (a.get("iscrowd") or a.get("difficult"))
    return Evaluation(
        images=len(truth["images"]),
        objects=objects,
        detections=len(results),
        boxes=coco_metrics(truth, results),
        masks=coco_metrics(truth, results, "segm") if masks else None,
        voc=voc_metrics(truth, results) if voc else None,
        errors=error_types(truth, results),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float) -> str:
    return _NONE if math.isnan(value) else f"{round(100 * value, 1) + 0.0:.1f}"  # no -0.0


def _aligned(rows: list[list[str]]) -> list[str]:
    """Names to the left, numbers to the right of their columns."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
