"""PASCAL VOC's AP against cases by hand, and against a loop that follows the development kit line by line."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from plrc.detection.voc_ap import THRESHOLDS, all_point_ap, eleven_point_ap, voc_metrics


def truth_of(annotations: Sequence[Mapping[str, Any]], images: int = 3, classes: int = 2) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 500, "height": 500} for i in range(1, images + 1)],
        "categories": [{"id": k, "name": "abcdefgh"[k - 1]} for k in range(1, classes + 1)],
        "annotations": [{"id": n, "iscrowd": 0, **a} for n, a in enumerate(annotations, 1)],
    }


def thing(box: Sequence[float], image: int = 1, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(box), **more}


def row(n: int, size: float = 10) -> list[float]:
    """The n-th box of a row of boxes that do not touch."""
    return [20.0 * n, 0, size, size]


def test_a_ranked_list_by_hand():
    # Five objects; the ranked detections are  right, false, right, right, false, right.
    # recall     1/5   1/5   2/5   3/5   3/5   4/5
    # precision  1     1/2   2/3   3/4   3/5   4/6
    # The highest precision from there on:  1,  3/4, 3/4, 3/4, 2/3, 2/3.
    # 11 points: recall 0, .1, .2 → 1;  .3, .4, .5, .6 → 3/4;  .7, .8 → 2/3;  .9, 1 → 0.
    #            (3 + 4 · 3/4 + 2 · 2/3) / 11 = (3 + 3 + 4/3) / 11 = 22/33 = 2/3
    # All points: 1/5 · (1 + 3/4 + 3/4 + 2/3) = 1/5 · 19/6 = 19/30
    right = np.array([True, False, True, True, False, True])
    assert eleven_point_ap(right, 5) == pytest.approx(2 / 3, abs=1e-12)
    assert all_point_ap(right, 5) == pytest.approx(19 / 30, abs=1e-12)

    truth = truth_of([thing(row(n)) for n in range(5)])
    boxes = [row(0), row(10), row(1), row(2), row(11), row(3)]
    results = [thing(box, score=0.9 - 0.1 * n) for n, box in enumerate(boxes)]
    found = voc_metrics(truth, results)
    assert pytest.approx({"11-point": 2 / 3, "all-point": 19 / 30}) == found.AP50
    assert pytest.approx(found.AP50) == found.AP  # the right ones are exact at every threshold
    assert found.class_AP50["11-point"]["a"] == pytest.approx(2 / 3)
    recall, precision = found.curves["a"]
    np.testing.assert_allclose(recall, np.array([1, 1, 2, 3, 3, 4]) / 5)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3, 3 / 4, 3 / 5, 4 / 6])


def test_recall_steps_are_exact():
    # 3 of 10 objects reach the recall 0.3: in floating point 3/10 < 3 · 0.1. So four points of eleven have 1.
    assert eleven_point_ap(np.ones(3, dtype=bool), 10) == pytest.approx(4 / 11)
    assert eleven_point_ap(np.ones(7, dtype=bool), 10) == pytest.approx(8 / 11)
    assert eleven_point_ap(np.zeros(0, dtype=bool), 3) == all_point_ap(np.zeros(0, dtype=bool), 3) == 0


def test_a_second_detection_of_an_object_is_false():
    # Two objects; both detections lie on the first: right, false.  11 points: recall 0 … 0.5 → 6/11; all: 1/2.
    truth = truth_of([thing(row(0)), thing(row(1))])
    results = [thing(row(0), score=0.5), thing([0, 0, 10, 9], score=0.9)]
    found = voc_metrics(truth, results)
    assert pytest.approx({"11-point": 6 / 11, "all-point": 1 / 2}) == found.AP50
    np.testing.assert_allclose(found.curves["a"][1], [1, 1 / 2])


def test_a_detection_takes_the_object_of_highest_overlap_even_if_that_is_taken():
    # Two objects that overlap; both detections overlap A most, and the second also B by more than a half.
    # COCO's rule would give the second to B. VOC's has it false: right, false, of two.
    a, b = [0, 0, 10, 10], [0, 0, 10, 7]
    truth = truth_of([thing(a), thing(b)])
    results = [thing(a, score=0.9), thing([0, 0, 10, 9], score=0.8)]
    assert voc_metrics(truth, results).AP50["all-point"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("mark", ["difficult", "iscrowd"])
def test_difficult_objects_count_neither_way(mark: str):
    # One easy object, one difficult. Twice the difficult one, then the easy one: only the last counts, and it is right.
    truth = truth_of([thing(row(0)), thing(row(1), **{mark: 1})])
    results = [thing(row(1), score=0.9), thing(row(1), score=0.8), thing(row(0), score=0.7)]
    found = voc_metrics(truth, results)
    assert pytest.approx({"11-point": 1, "all-point": 1}) == found.AP
    assert [len(x) for x in found.curves["a"]] == [1, 1]
    # Overlapping the difficult one too little is an ordinary false detection, before the right one: precision 1/2.
    results[0] = thing([20, 0, 10, 4.9], score=0.9)
    assert pytest.approx({"11-point": 1 / 2, "all-point": 1 / 2}) == voc_metrics(truth, results).AP50


def test_an_overlap_of_exactly_the_threshold_is_enough():
    truth = truth_of([thing([0, 0, 10, 10])])
    found = voc_metrics(truth, [thing([0, 0, 10, 5], score=0.9)])
    assert found.AP50["all-point"] == 1
    assert found.AP["all-point"] == pytest.approx(1 / 10)  # at 0.5, and at none of the nine above
    assert found.AP75["all-point"] == 0
    at75 = voc_metrics(truth, [thing([0, 0, 10, 7.5], score=0.9)])
    assert at75.AP75["11-point"] == 1
    assert at75.AP["11-point"] == pytest.approx(6 / 10)


def test_classes_are_apart_and_one_without_objects_is_unknown():
    truth = truth_of([thing(row(0)), thing(row(1), category=2)], classes=3)
    results = [thing(row(0), score=0.9), thing(row(1), category=1, score=0.8), thing(row(5), category=3, score=0.7)]
    found = voc_metrics(truth, results)
    assert found.class_AP50["all-point"]["a"] == 1
    assert found.class_AP50["all-point"]["b"] == 0
    assert math.isnan(found.class_AP50["all-point"]["c"])
    assert [len(x) for x in found.curves["c"]] == [0, 0]
    assert found.AP50["all-point"] == pytest.approx(1 / 2)  # of the two that are known


def test_without_results_or_without_objects():
    assert voc_metrics(truth_of([thing(row(0))]), []).AP == {"11-point": 0, "all-point": 0}
    for results in ([], [thing(row(0), score=0.5)]):
        assert all(math.isnan(v) for v in voc_metrics(truth_of([]), results).AP50.values())
    only_difficult = truth_of([thing(row(0), difficult=1)])
    assert math.isnan(voc_metrics(only_difficult, [thing(row(0), score=0.5)]).AP["11-point"])


def random_case(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowded pictures, half of the detections near an object, a tenth of the objects difficult."""
    draw = np.random.default_rng(seed)
    boxes = np.c_[draw.uniform(0, 60, (40, 2)), draw.uniform(10, 40, (40, 2))]
    objects = [
        thing(box, int(draw.integers(1, 4)), int(draw.integers(1, 3)), difficult=int(draw.random() < 0.1))
        for box in boxes.tolist()
    ]
    results = []
    scores = draw.permutation(200) / 200
    for n in range(200):
        near = objects[draw.integers(len(objects))]
        box = (np.array(near["bbox"]) + draw.normal(0, draw.choice([1, 4, 15]), 4)).clip(0.1)
        results.append(thing(box.tolist(), near["image_id"], int(draw.integers(1, 3)), score=float(scores[n])))
    return truth_of(objects), results


def naive(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], category: int, at: float) -> list[float]:
    """11-point and all-point AP of a class, as VOCevaldet.m computes them."""
    objects = [a for a in truth["annotations"] if a["category_id"] == category]
    taken: set[int] = set()
    right: list[int] = []
    for r in sorted((r for r in results if r["category_id"] == category), key=lambda r: -r["score"]):
        x, y, w, h = r["bbox"]
        highest, which = -1.0, None
        for a in (a for a in objects if a["image_id"] == r["image_id"]):
            u, v, s, t = a["bbox"]
            width, height = min(x + w, u + s) - max(x, u), min(y + h, v + t) - max(y, v)
            if width > 0 and height > 0 and width * height / (w * h + s * t - width * height) > highest:
                highest, which = width * height / (w * h + s * t - width * height), a
        if highest >= at and which is not None:
            if not which.get("difficult"):
                right.append(int(which["id"] not in taken))
                taken.add(which["id"])
        else:
            right.append(0)
    wanted = sum(not a.get("difficult") for a in objects)
    recall = [sum(right[: n + 1]) / wanted for n in range(len(right))]
    precision = [sum(right[: n + 1]) / (n + 1) for n in range(len(right))]
    eleven = 0.0
    for k in range(11):
        eleven += max((p for r, p in zip(recall, precision, strict=True) if r >= k / 10), default=0) / 11
    area, before = 0.0, 0.0
    for n, r in enumerate(recall):
        area += (r - before) * max(precision[n:])
        before = r
    return [eleven, area]


@pytest.mark.parametrize("seed", range(3))
def test_agreement_with_a_plain_loop(seed: int):
    truth, results = random_case(seed)
    found = voc_metrics(truth, results)
    loop = np.array([[naive(truth, results, c, at) for c in (1, 2)] for at in THRESHOLDS])  # (10, 2, 2)
    for k, rule in enumerate(("11-point", "all-point")):
        assert 0.05 < found.AP[rule] < 0.95  # a case that can tell
        assert found.AP[rule] == pytest.approx(loop[:, :, k].mean())
        assert found.AP50[rule] == pytest.approx(loop[0, :, k].mean())
        assert found.AP75[rule] == pytest.approx(loop[5, :, k].mean())
        assert [found.class_AP[rule][c] for c in "ab"] == pytest.approx(loop[:, :, k].mean(0).tolist())


def test_the_order_of_the_lists_does_not_matter():
    truth, results = random_case(5)
    draw = np.random.default_rng(0)
    shuffled = truth | {part: [truth[part][i] for i in draw.permutation(len(truth[part]))] for part in truth}
    for tied in (False, True):  # ties between pictures only: within one, its detector's order decides
        if tied:
            results = [{**r, "score": r["score"] - 10 * r["image_id"]} for r in results]
            ranks = {i: sorted((r["score"] for r in results if r["image_id"] == i), reverse=True) for i in (1, 2, 3)}
            results = [r | {"score": -ranks[r["image_id"]].index(r["score"])} for r in results]
        again = voc_metrics(shuffled, [results[i] for i in draw.permutation(len(results))])
        assert again.class_AP == voc_metrics(truth, results).class_AP


def test_a_large_set_takes_seconds():
    draw = np.random.default_rng(0)
    images, each = 1000, 100
    objects = [thing(row(n), i, int(c)) for i in range(1, images + 1) for n, c in enumerate(draw.integers(1, 9, 5))]
    results = [
        thing(row(n % 5), i, 1 + n % 8, score=float(s))
        for i in range(1, images + 1)
        for n, s in enumerate(draw.random(each))
    ]
    start = time.process_time()
    voc_metrics(truth_of(objects, images, 8), results)
    assert time.process_time() - start < 15
