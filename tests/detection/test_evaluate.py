"""All measures of one list of results, for a file and for people."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install 'plrc[detection]'")

from plrc.detection.evaluate import evaluate

SQUARE = {"size": [100, 100], "counts": [1010, *[30, 70] * 29, 30, 100 * 100 - 1010 - 100 * 29 - 30]}
TRUTH: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in (1, 2)],
    "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}, {"id": 2, "name": "cow"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "segmentation": SQUARE},
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "segmentation": SQUARE},
        {"id": 3, "image_id": 1, "category_id": 3, "bbox": [10, 10, 30, 30], "area": 900, "segmentation": SQUARE},
        {"id": 4, "image_id": 2, "category_id": 3, "bbox": [50, 50, 9, 9], "difficult": 1, "segmentation": SQUARE},
    ],
}
RESULTS: list[dict[str, Any]] = [
    {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "score": 0.9, "segmentation": SQUARE},
    {"image_id": 1, "category_id": 3, "bbox": [10, 10, 30, 30], "score": 0.8, "segmentation": SQUARE},
]


def test_the_table_says_what_was_found():
    # cat: one of two found, nothing false. COCO 51/101 of the recalls, VOC's eleven points 6/11, all points 1/2.
    # dog: all found. Mean AP50: COCO 75.2, 11-point 77.3, all-point 75.0.
    found = evaluate(TRUTH, RESULTS, voc=True, masks=True)
    assert (
        found.table().splitlines()
        == found.lines
        == [
            "3 objects in 2 pictures, 2 detections; per cent",
            "",
            "                  AP  AP50  AP75",
            "COCO, boxes     75.2  75.2  75.2",
            "COCO, masks     75.2  75.2  75.2",
            "VOC, 11-point   77.3  77.3  77.3",
            "VOC, all-point  75.0  75.0  75.0",
            "",
            "AP by size   small  medium  large",
            "COCO, boxes   75.2       –      –",
            "COCO, masks   75.2       –      –",
            "",
            "recall (AR)     1    10   100  small  medium  large",
            "COCO, boxes  75.0  75.0  75.0   75.0       –      –",
            "COCO, masks  75.0  75.0  75.0   75.0       –      –",
            "",
            "class  objects     AP   AP50  masks AP  masks AP50  AP50 11-point  AP50 all-point",
            "cat          2   50.5   50.5      50.5        50.5           54.5            50.0",
            "cow          0      –      –         –           –              –               –",
            "dog          1  100.0  100.0     100.0       100.0          100.0           100.0",
            "",
            "error at IoU 0.5  AP50 lost  count",
            "classification          0.0      0",
            "localisation            0.0      0",
            "both                    0.0      0",
            "duplicate               0.0      0",
            "background              0.0      0",
            "missed                 24.8      1",
        ]
    )


def test_the_summary_is_json_with_none_for_what_is_unknown():
    found = json.loads(json.dumps(evaluate(TRUTH, RESULTS, voc=True, masks=True).summary(), allow_nan=False))
    assert list(found) == ["images", "objects", "detections", "boxes", "masks", "voc", "errors"]
    assert (found["images"], found["objects"], found["detections"]) == (2, 3, 2)
    assert found["boxes"]["AP50"] == pytest.approx((51 / 101 + 1) / 2)
    assert found["boxes"]["AP_large"] is None
    assert found["boxes"]["classes"]["cow"] == {"AP": None, "AP50": None, "objects": 0}
    assert found["voc"]["11-point"]["AP50"] == pytest.approx((6 / 11 + 1) / 2)
    assert found["voc"]["all-point"]["classes"]["cat"]["AP50"] == pytest.approx(1 / 2)
    assert found["errors"]["counts"]["missed"] == 1
    assert found["errors"]["lost"]["missed"] == pytest.approx((1 - 51 / 101) / 2)


def test_only_what_is_asked_for():
    found = evaluate(TRUTH, RESULTS)
    assert (found.voc, found.masks) == (None, None)
    assert set(found.summary()) == {"images", "objects", "detections", "boxes", "errors"}
    assert not any("VOC" in line or "mask" in line for line in found.lines)


def test_without_results_and_without_objects():
    nothing = evaluate(TRUTH, [], voc=True, masks=True)
    assert nothing.summary()["voc"]["11-point"]["AP50"] == 0
    empty = evaluate(TRUTH | {"annotations": []}, RESULTS, voc=True, masks=True)
    assert empty.summary()["voc"]["11-point"]["AP50"] is None
    assert empty.summary()["errors"]["lost"]["missed"] is None
    assert empty.lines[3].split() == ["COCO,", "boxes", "–", "–", "–"]
    json.dumps([nothing.summary(), empty.summary()], allow_nan=False)
