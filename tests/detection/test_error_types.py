"""Kinds of error: a case of each, in which it is the only one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plrc.detection.error_types import KINDS, ErrorTypes, error_types


def truth_of(annotations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 500, "height": 500} for i in (1, 2, 3)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": n, "iscrowd": 0, **a} for n, a in enumerate(annotations, 1)],
    }


def thing(box: Sequence[float], category: int = 1, image: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(box), **more}


HERE, THERE, AWAY = [0.0, 0, 10, 10], [100.0, 0, 10, 10], [200.0, 0, 10, 10]
NEAR = [5.0, 0, 10, 10]  # IoU 1/3 with HERE
OVER_HERE = [0.0, 0, 10, 8]  # IoU 0.8 with HERE


def only(found: ErrorTypes, kind: str, count: int = 1) -> None:
    """One kind of error, without which AP50 is 1."""
    assert found.counts == {k: count if k == kind else 0 for k in KINDS}
    assert found.AP50 + found.lost[kind] == pytest.approx(1)
    assert found.lost[kind] > 0.1
    assert all(found.lost[k] == pytest.approx(0) for k in KINDS if k != kind)


def test_localisation():
    found = error_types(truth_of([thing(HERE), thing(THERE)]), [thing(NEAR, score=0.9), thing(THERE, score=0.8)])
    # false, right, of two: precision 1/2 up to the recall 1/2, which are 51 of 101 recalls
    assert pytest.approx(0.5 * 51 / 101) == found.AP50
    only(found, "localisation")
    assert found.of_result == ["localisation", "right"]


def test_classification():
    truth = truth_of([thing(HERE), thing(THERE, category=2)])
    found = error_types(truth, [thing(HERE, score=0.9), thing(THERE, category=1, score=0.8)])
    assert pytest.approx(0.5) == found.AP50  # class a is found, b is not
    only(found, "classification")
    assert found.of_result == ["right", "classification"]


def test_duplicate():
    truth = truth_of([thing(HERE), thing(THERE)])
    results = [thing(THERE, score=0.7), thing(HERE, score=0.9), thing(OVER_HERE, score=0.8)]
    found = error_types(truth, results)
    # right, false, right of two: precision 1 for 51 recalls, 2/3 for 50
    assert pytest.approx((51 + 50 * 2 / 3) / 101) == found.AP50
    only(found, "duplicate")
    assert found.of_result == ["right", "right", "duplicate"]


def test_background():
    found = error_types(truth_of([thing(HERE)]), [thing(AWAY, score=0.9), thing(HERE, score=0.8)])
    assert pytest.approx(0.5) == found.AP50
    only(found, "background")
    # an object of another picture is no object of this one
    found = error_types(truth_of([thing(HERE)]), [thing(HERE, image=2, score=0.9), thing(HERE, score=0.8)])
    only(found, "background")


def test_both():
    truth = truth_of([thing(HERE), thing(THERE, category=2)])
    results = [thing(NEAR, category=2, score=0.9), thing(HERE, score=0.8), thing(THERE, category=2, score=0.7)]
    found = error_types(truth, results)
    assert pytest.approx((1 + 0.5) / 2) == found.AP50
    only(found, "both")
    assert found.of_result == ["both", "right", "right"]


def test_missed():
    found = error_types(truth_of([thing(HERE), thing(THERE)]), [thing(HERE, score=0.9)])
    assert pytest.approx(51 / 101) == found.AP50
    only(found, "missed")


def test_missed_is_the_whole_class():
    truth = truth_of([thing(HERE), thing(THERE, category=2)])
    only(error_types(truth, [thing(HERE, score=0.9)]), "missed")
    # A false detection of that class is left: nothing that could be right is detected, so it stays at 0.
    found = error_types(truth, [thing(HERE, score=0.9), thing(AWAY, category=2, score=0.8)])
    assert found.counts["missed"] == found.counts["background"] == 1
    assert found.lost["missed"] == pytest.approx(0)


def test_one_put_right_replaces_one_of_lower_score_with_the_same_object():
    # The object is found by the second detection; the first has a poor box of it. Put right, the first is the one, and
    # the second goes: AP50 1. Were both kept, one would be a duplicate, but behind the right one, where it costs
    # nothing; so a second object tells.
    truth = truth_of([thing(HERE), thing(THERE)])
    results = [thing(NEAR, score=0.9), thing(HERE, score=0.8), thing(THERE, score=0.7)]
    found = error_types(truth, results)
    assert found.of_result == ["localisation", "right", "right"]
    only(found, "localisation")
    # The other way round: the poor one is of lower score, and is the one that goes.
    results = [thing(NEAR, score=0.8), thing(HERE, score=0.9), thing(THERE, score=0.7)]
    only(error_types(truth, results), "localisation")


def test_a_poor_box_of_the_right_class_comes_before_a_good_one_of_another():
    truth = truth_of([thing(HERE), thing(NEAR, category=2)])
    found = error_types(truth, [thing(NEAR, category=1, score=0.9)])
    assert found.of_result == ["localisation"]
    assert found.counts["missed"] == 1  # the other class's object; the first is not missed, but poorly placed


@pytest.mark.parametrize(
    ("width", "kind"), [(0.9, "background"), (1.0, "localisation"), (4.9, "localisation"), (5.0, "right")]
)
def test_borders_of_the_overlap(width: float, kind: str):
    found = error_types(truth_of([thing(HERE)]), [thing([0, 0, width, 10], score=0.9)])
    assert found.of_result == [kind]


@pytest.mark.parametrize("mark", ["difficult", "iscrowd"])
def test_what_is_ignored_makes_no_error(mark: str):
    truth = truth_of([thing(HERE), thing(THERE, **{mark: 1})])
    results = [thing(HERE, score=0.8), thing(THERE, score=0.9), thing(THERE, score=0.7)]
    found = error_types(truth, results)
    assert pytest.approx(1) == found.AP50
    assert found.of_result == ["right", "ignored", "ignored"]
    assert set(found.counts.values()) == {0}


def test_without_results_or_without_objects():
    only(error_types(truth_of([thing(HERE)]), []), "missed")
    found = error_types(truth_of([]), [thing(HERE, score=0.5)])
    assert math.isnan(found.AP50)
    assert all(math.isnan(v) for v in found.lost.values())
    assert found.of_result == ["background"]
    assert error_types(truth_of([]), []).of_result == []


def test_a_detection_takes_the_best_object_that_is_free():
    # COCO's rule: the second detection overlaps the first object more, but that is taken, so it has the other.
    truth = truth_of([thing([0, 0, 10, 10]), thing([0, 0, 10, 7])])
    found = error_types(truth, [thing([0, 0, 10, 10], score=0.9), thing([0, 0, 10, 9], score=0.8)])
    assert found.of_result == ["right", "right"]


def test_ap50_is_that_of_coco(shared_data: Callable[[str], Path]):
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install 'plrc[detection]'")
    from plrc.detection.coco_ap import coco_metrics

    folder = shared_data("coco-metric-fixture")
    truth = json.loads((folder / "sampled_gts_bbox_area.json").read_text())
    results = json.loads((folder / "cocoapi_results.json").read_text())
    assert pytest.approx(coco_metrics(truth, results).AP50, abs=1e-12) == error_types(truth, results).AP50


def test_ap50_is_that_of_coco_in_crowded_pictures():
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install 'plrc[detection]'")
    from plrc.detection.coco_ap import coco_metrics

    for seed in range(5):
        draw = np.random.default_rng(seed)
        boxes = np.c_[draw.uniform(0, 60, (40, 2)), draw.uniform(10, 40, (40, 2))].round(1)
        objects = [
            thing(box, int(draw.integers(1, 3)), int(draw.integers(1, 4)), iscrowd=int(draw.random() < 0.15))
            for box in boxes.tolist()
        ]
        results = []
        for _ in range(200):
            like = objects[draw.integers(len(objects))]
            box = (np.array(like["bbox"]) + draw.normal(0, draw.choice([1, 4, 15]), 4)).clip(0.1)
            score = float(draw.random().__round__(1))  # many are equal
            results.append(thing(box.tolist(), int(draw.integers(1, 3)), like["image_id"], score=score))
        found = error_types(truth_of(objects), results)
        assert pytest.approx(coco_metrics(truth_of(objects), results).AP50, abs=1e-9) == found.AP50
        false = sum(kind not in ("right", "ignored") for kind in found.of_result)
        assert sum(found.counts.values()) == false + found.counts["missed"]
