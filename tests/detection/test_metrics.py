"""What is measured: COCO's numbers, PASCAL VOC's against its development kit's loop, kinds of error, a case of each."""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install 'plrc[detection]'")

from plrc.detection.metrics import (
    KINDS,
    NUMBERS,
    RULES,
    THRESHOLDS,
    all_point_ap,
    coco_api,
    coco_metrics,
    eleven_point_ap,
    error_types,
    voc_metrics,
)


def truth_of(annotations: Sequence[Mapping[str, Any]], images: int = 3, classes: int = 2) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 300} for i in range(1, images + 1)],
        "categories": [{"id": k, "name": "abcdefgh"[k - 1]} for k in range(1, classes + 1)],
        "annotations": [{"id": n, "iscrowd": 0, **a} for n, a in enumerate(annotations, 1)],
    }


def item(box: Sequence[float], image: int = 1, category: int = 1, **more: Any) -> dict[str, Any]:
    """An object or, with a score, a detection."""
    return {"image_id": image, "category_id": category, "bbox": list(box), **more}


def random_case(seed: int, rounded: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowded images, half of the detections near an object, a tenth of the objects difficult."""
    draw = np.random.default_rng(seed)
    boxes = np.c_[draw.uniform(0, 60, (40, 2)), draw.uniform(10, 40, (40, 2))]
    objects = [
        item(box, int(draw.integers(1, 4)), int(draw.integers(1, 3)), difficult=int(draw.random() < 0.1))
        for box in boxes.tolist()
    ]
    results = []
    scores = draw.permutation(200) / 200
    for n in range(200):
        near = objects[draw.integers(len(objects))]
        box = (np.array(near["bbox"]) + draw.normal(0, draw.choice([1, 4, 15]), 4)).clip(0.1)
        score = round(float(scores[n]), 1) if rounded else float(scores[n])  # many are equal then
        results.append(item(box.tolist(), near["image_id"], int(draw.integers(1, 3)), score=score))
    return truth_of(objects), results


def test_without_the_evaluator_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ValueError, match=r"pip install 'plrc\[detection\]'"):
        coco_api()


# ----------------------------------------------------------------------------------------------------------------- COCO


def test_the_twelve_numbers_of_cocos_own_example(shared_data: Callable[[str], Path]):
    folder = shared_data("coco-metric-fixture")
    truth, results, expected = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("sampled_gts_bbox_area", "cocoapi_results", "expected")
    )
    numbers = coco_metrics(truth, results)
    assert {name: numbers[name] for name in NUMBERS} == pytest.approx(expected, abs=1e-6)
    assert error_types(truth, results)["AP50"] == pytest.approx(numbers["AP50"], abs=1e-12)


def test_a_perfect_list_has_one_everywhere_and_nan_where_there_is_nothing(capfd: pytest.CaptureFixture[str]):
    boxes = [[10, 10, 20, 20], [50, 50, 100, 100]]  # small, large
    truth = truth_of([item(box, area=box[2] * box[3]) for box in boxes])
    results = [item(box, score=0.9) for box in boxes]
    found = coco_metrics(truth, results)
    for name in NUMBERS:
        if name.endswith("medium"):
            assert math.isnan(found[name])
        else:
            assert found[name] == pytest.approx(0.5 if name == "AR_1" else 1)  # one an image finds one of two
    one, none = found["classes"]["a"], found["classes"]["b"]
    assert one["AP"] == one["AP50"] == pytest.approx(1)
    assert math.isnan(none["AP"])
    assert np.isnan(none["precision"]).all()
    np.testing.assert_allclose(one["precision"], 1)
    assert capfd.readouterr() == ("", "")


def test_half_found_stops_at_half_the_recall():
    truth = truth_of([item([10, 10, 20, 20]), item([100, 100, 20, 20], image=2)])  # without areas
    found = coco_metrics(truth, [item([10, 10, 20, 20], score=0.9)])
    np.testing.assert_allclose(found["classes"]["a"]["precision"], np.arange(101) <= 50)
    assert pytest.approx(51 / 101) == found["AP50"]


@pytest.mark.parametrize("mark", ["difficult", "iscrowd"])
def test_what_is_ignored_is_neither_wanted_nor_held_against(mark: str):
    one, other = [10.0, 10, 20, 20], [100.0, 100, 40, 40]
    results = [item(other, score=0.9), item(one, score=0.5)]
    wanted = coco_metrics(truth_of([item(one), item(other)]), results[1:])
    assert pytest.approx(51 / 101) == wanted["AP50"]
    ignored = truth_of([item(one), item(other, **{mark: 1})])
    assert pytest.approx(1) == coco_metrics(ignored, results[1:])["AP"]
    assert pytest.approx(1) == coco_metrics(ignored, results)["AP"]
    assert pytest.approx(0.5) == coco_metrics(truth_of([item(one)]), results)["AP"]  # it is false there


def test_without_results_or_without_objects():
    truth = truth_of([item([10, 10, 20, 20])])
    nothing = coco_metrics(truth, [])
    assert (nothing["AP"], nothing["AR_100"]) == (0, 0)
    for results in ([], [item([10, 10, 20, 20], score=0.5)]):
        found = coco_metrics(truth_of([]), results)
        assert all(math.isnan(found[name]) for name in NUMBERS)


def test_an_annotation_numbered_0_counts():
    truth = truth_of([item([10, 10, 20, 20])])
    truth["annotations"][0]["id"] = 0  # COCO's code takes that for "not matched", and warns
    assert pytest.approx(1) == coco_metrics(truth, [item([10, 10, 20, 20], score=0.5)])["AP"]


def test_nothing_that_is_given_is_changed():
    truth, results = truth_of([item([10, 10, 20, 20], difficult=1)]), [item([10, 10, 20, 20], score=0.5)]
    before = copy.deepcopy((truth, results))
    coco_metrics(truth, results)
    assert (truth, results) == before


def square(x: int, y: int, side: int) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def runs_of(x: int, y: int, side: int) -> dict[str, Any]:
    """The same as run lengths, which only pixels of the square are in: column by column in a image 300 high."""
    runs = [x * 300 + y, side] + [300 - side, side] * (side - 1)
    return {"size": [300, 400], "counts": [*runs, 400 * 300 - sum(runs)]}


@pytest.mark.parametrize("form", ["runs", "bytes", "text"])
def test_masks_are_compared_by_their_pixels(form: str):
    from faster_coco_eval import mask

    def outline(x: int, y: int, side: int) -> dict[str, Any]:
        runs = runs_of(x, y, side)
        if form == "runs":
            return runs
        encoded = mask.frPyObjects(runs, 300, 400)
        assert type(encoded["counts"]) is bytes
        return encoded if form == "bytes" else encoded | {"counts": encoded["counts"].decode()}

    box = [0.0, 0, 200, 200]
    outlines = [square(10, 10, 40), outline(10, 10, 40)]
    truth = truth_of([item(box, image=i, segmentation=s, area=1600) for i, s in enumerate(outlines, 1)])
    results = [item(box, image=i, score=0.9, segmentation=outline(10, 10, 40)) for i in (1, 2)]
    found = coco_metrics(truth, results, "segm")
    assert pytest.approx(1) == found["AP"]
    assert found["AP_medium"] == pytest.approx(1)  # of 1600 pixels
    elsewhere = [r | {"segmentation": outline(60, 10, 40)} for r in results]
    assert coco_metrics(truth, elsewhere, "segm")["AP"] == 0
    assert pytest.approx(1) == coco_metrics(truth, elsewhere)["AP"]  # the boxes are the same


def test_a_false_mask_is_of_its_own_size_not_its_boxs():
    # Both found; a false one of 400 pixels in a box of 40 000 is large by its box, and then would count there.
    truth = truth_of([item([100, 100, 150, 150], segmentation=square(100, 100, 150), area=22500)])
    results = [
        item([0, 0, 200, 200], score=0.9, segmentation=runs_of(10, 10, 20)),
        item([100, 100, 150, 150], score=0.8, segmentation=runs_of(100, 100, 150)),
    ]
    assert coco_metrics(truth, results, "segm")["AP_large"] == pytest.approx(1)


def test_masks_that_are_missing_and_other_kinds():
    outlined = truth_of([item([10, 10, 20, 20], segmentation=square(10, 10, 20))])
    with pytest.raises(ValueError, match="result of image 1 has no run-length segmentation"):
        coco_metrics(outlined, [item([10, 10, 20, 20], score=0.5)], "segm")
    with pytest.raises(ValueError, match="annotation 1 of image 1 has no segmentation"):
        coco_metrics(truth_of([item([10, 10, 20, 20])]), [], "segm")
    with pytest.raises(ValueError, match="bbox or segm"):
        coco_metrics(outlined, [], "keypoints")


# ----------------------------------------------------------------------------------------------------------- PASCAL VOC


def row(n: int, size: float = 10) -> list[float]:
    """The n-th box of a row of boxes that do not touch."""
    return [20.0 * n, 0, size, size]


def by_rule(found: Mapping[str, Any], number: str = "AP50") -> list[float]:
    return [found[rule][number] for rule in RULES]


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
    boxes = [row(0), row(10), row(1), row(2), row(11), row(3)]
    results = [item(box, score=0.9 - 0.1 * n) for n, box in enumerate(boxes)]
    found = voc_metrics(truth_of([item(row(n)) for n in range(5)]), results)
    for number in ("AP50", "AP"):  # the right ones are exact
        assert by_rule(found, number) == pytest.approx([2 / 3, 19 / 30])
    assert found["11-point"]["classes"]["a"]["AP50"] == pytest.approx(2 / 3)


def test_recall_steps_are_exact():
    # 3 of 10 objects reach the recall 0.3: in floating point 3/10 < 3 · 0.1. So four points of eleven have 1.
    assert eleven_point_ap(np.ones(3, dtype=bool), 10) == pytest.approx(4 / 11)
    assert eleven_point_ap(np.ones(7, dtype=bool), 10) == pytest.approx(8 / 11)
    assert eleven_point_ap(np.zeros(0, dtype=bool), 3) == all_point_ap(np.zeros(0, dtype=bool), 3) == 0


A, B = [0, 0, 10, 10], [0, 0, 10, 7]  # two boxes that overlap


@pytest.mark.parametrize(
    ("objects", "detections", "expected"),
    [
        # A second detection of an object is false: right, false of two. 11 points: recall 0 … 0.5 → 6/11; all: 1/2.
        ([row(0), row(1)], [[0, 0, 10, 9], row(0)], [6 / 11, 1 / 2]),
        # Both overlap A most; COCO's rule would give the second to B, VOC's has it false.
        ([A, B], [A, [0, 0, 10, 9]], [6 / 11, 1 / 2]),
        ([row(0)], [], [0, 0]),
    ],
)
def test_a_detection_is_for_the_object_of_highest_overlap_even_if_that_is_taken(objects, detections, expected):
    results = [item(box, score=0.9 - 0.1 * k) for k, box in enumerate(detections)]
    assert by_rule(voc_metrics(truth_of([item(box) for box in objects]), results)) == pytest.approx(expected)


@pytest.mark.parametrize("mark", ["difficult", "iscrowd"])
def test_difficult_objects_count_neither_way(mark: str):
    # One easy object, one difficult. Twice the difficult one, then the easy one: only the last counts, and it is right.
    truth = truth_of([item(row(0)), item(row(1), **{mark: 1})])
    results = [item(row(1), score=0.9), item(row(1), score=0.8), item(row(0), score=0.7)]
    assert by_rule(voc_metrics(truth, results), "AP") == pytest.approx([1, 1])
    # Overlapping the difficult one too little is an ordinary false detection, before the right one: precision 1/2.
    results[0] = item([20, 0, 10, 4.9], score=0.9)
    assert by_rule(voc_metrics(truth, results)) == pytest.approx([1 / 2, 1 / 2])


def test_an_overlap_of_exactly_the_threshold_is_enough():
    truth = truth_of([item([0, 0, 10, 10])])
    found = voc_metrics(truth, [item([0, 0, 10, 5], score=0.9)])["all-point"]
    assert (found["AP50"], found["AP75"]) == (1, 0)
    assert found["AP"] == pytest.approx(1 / 10)  # at 0.5, and at none of the nine above
    at75 = voc_metrics(truth, [item([0, 0, 10, 7.5], score=0.9)])["11-point"]
    assert at75["AP75"] == 1
    assert at75["AP"] == pytest.approx(6 / 10)


def test_classes_are_apart_and_one_without_objects_is_unknown():
    truth = truth_of([item(row(0)), item(row(1), category=2)], classes=3)
    results = [item(row(0), score=0.9), item(row(1), category=1, score=0.8), item(row(5), category=3, score=0.7)]
    found = voc_metrics(truth, results)["all-point"]
    assert found["classes"]["a"]["AP50"] == 1
    assert found["classes"]["b"]["AP50"] == 0
    assert math.isnan(found["classes"]["c"]["AP50"])
    assert found["AP50"] == pytest.approx(1 / 2)  # of the two that are known
    for objects in ([], [item(row(0), difficult=1)]):
        assert all(map(math.isnan, by_rule(voc_metrics(truth_of(objects), results[:1]))))


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
    for k, rule in enumerate(RULES):
        assert 0.05 < found[rule]["AP"] < 0.95  # a case that can tell
        numbers = [found[rule][name] for name in ("AP", "AP50", "AP75")]
        assert numbers == pytest.approx([x[..., k].mean() for x in (loop, loop[0], loop[5])])
        of_classes = [found[rule]["classes"][c]["AP"] for c in "ab"]
        assert of_classes == pytest.approx(loop[:, :, k].mean(0).tolist())


def test_the_order_of_the_lists_does_not_matter():
    truth, results = random_case(5)
    draw = np.random.default_rng(0)
    shuffled = truth | {part: [truth[part][i] for i in draw.permutation(len(truth[part]))] for part in truth}
    for tied in (False, True):  # ties between images only: within one, its detector's order decides
        if tied:
            results = [{**r, "score": r["score"] - 10 * r["image_id"]} for r in results]
            ranks = {i: sorted((r["score"] for r in results if r["image_id"] == i), reverse=True) for i in (1, 2, 3)}
            results = [r | {"score": -ranks[r["image_id"]].index(r["score"])} for r in results]
        assert voc_metrics(shuffled, [results[i] for i in draw.permutation(len(results))]) == voc_metrics(
            truth, results
        )


def test_a_large_set_takes_seconds():
    draw = np.random.default_rng(0)
    images, each = 1000, 100
    objects = [item(row(n), i, int(c)) for i in range(1, images + 1) for n, c in enumerate(draw.integers(1, 9, 5))]
    results = [
        item(row(n % 5), i, 1 + n % 8, score=float(s))
        for i in range(1, images + 1)
        for n, s in enumerate(draw.random(each))
    ]
    start = time.process_time()
    voc_metrics(truth_of(objects, images, 8), results)
    assert time.process_time() - start < 15


# --------------------------------------------------------------------------------------------------------------- errors


HERE, THERE, AWAY = [0.0, 0, 10, 10], [100.0, 0, 10, 10], [200.0, 0, 10, 10]
NEAR = [5.0, 0, 10, 10]  # IoU 1/3 with HERE
OVER_HERE = [0.0, 0, 10, 8]  # IoU 0.8 with HERE
ONE, OTHER, OF_B = item(HERE), item(THERE), item(THERE, category=2)


def found(box: Sequence[float], score: float, **more: Any) -> dict[str, Any]:
    return item(box, score=score, **more)


@pytest.mark.parametrize(
    ("kind", "objects", "results", "ap50", "of_result"),
    [
        # false, right, of two: precision 1/2 up to the recall 1/2, which are 51 of 101 recalls
        ("localisation", [ONE, OTHER], [found(NEAR, 0.9), found(THERE, 0.8)], 0.5 * 51 / 101, "localisation right"),
        # class a is found, b is not
        ("classification", [ONE, OF_B], [found(HERE, 0.9), found(THERE, 0.8)], 0.5, "right classification"),
        # right, false, right of two: precision 1 for 51 recalls, 2/3 for 50
        (
            "duplicate",
            [ONE, OTHER],
            [found(THERE, 0.7), found(HERE, 0.9), found(OVER_HERE, 0.8)],
            (51 + 50 * 2 / 3) / 101,
            "right right duplicate",
        ),
        ("background", [ONE], [found(AWAY, 0.9), found(HERE, 0.8)], 0.5, "background right"),
        # an object of another image is no object of this one
        ("background", [ONE], [found(HERE, 0.9, image=2), found(HERE, 0.8)], 0.5, "background right"),
        (
            "both",
            [ONE, OF_B],
            [found(NEAR, 0.9, category=2), found(HERE, 0.8), found(THERE, 0.7, category=2)],
            (1 + 0.5) / 2,
            "both right right",
        ),
        ("missed", [ONE, OTHER], [found(HERE, 0.9)], 51 / 101, "right"),
        ("missed", [ONE, OF_B], [found(HERE, 0.9)], 0.5, "right"),  # a whole class
        ("missed", [ONE], [], 0, ""),
        # Put right, the first is the one, and the second, of lower score and the same object, goes: AP50 1.
        (
            "localisation",
            [ONE, OTHER],
            [found(NEAR, 0.9), found(HERE, 0.8), found(THERE, 0.7)],
            (51 * 2 / 3 + 50 * 2 / 3) / 101,
            "localisation right right",
        ),
        # The other way round: the poor one is of lower score, and is the one that goes.
        (
            "localisation",
            [ONE, OTHER],
            [found(NEAR, 0.8), found(HERE, 0.9), found(THERE, 0.7)],
            (51 + 50 * 2 / 3) / 101,
            "localisation right right",
        ),
    ],
)
def test_a_case_of_each_kind_in_which_it_is_the_only_one(kind, objects, results, ap50, of_result):
    errors = error_types(truth_of(objects), results)
    assert errors["AP50"] == pytest.approx(ap50)
    assert errors["of_result"].tolist() == of_result.split()
    assert errors["counts"] == {k: int(k == kind) for k in KINDS}
    assert errors["AP50"] + errors["lost"][kind] == pytest.approx(1)
    assert all(errors["lost"][k] == pytest.approx(0) for k in KINDS if k != kind)


def test_a_missed_class_with_a_false_detection_stays_at_0():
    # Nothing that could be right is detected.
    errors = error_types(truth_of([ONE, OF_B]), [found(HERE, 0.9), found(AWAY, 0.8, category=2)])
    assert errors["counts"]["missed"] == errors["counts"]["background"] == 1
    assert errors["lost"]["missed"] == pytest.approx(0)


def test_a_poor_box_of_the_right_class_comes_before_a_good_one_of_another():
    errors = error_types(truth_of([ONE, item(NEAR, category=2)]), [found(NEAR, 0.9)])
    assert errors["of_result"].tolist() == ["localisation"]
    assert errors["counts"]["missed"] == 1  # the other class's object; the first is not missed, but poorly placed


@pytest.mark.parametrize(
    ("width", "kind"), [(0.9, "background"), (1.0, "localisation"), (4.9, "localisation"), (5.0, "right")]
)
def test_borders_of_the_overlap(width: float, kind: str):
    assert error_types(truth_of([ONE]), [found([0, 0, width, 10], 0.9)])["of_result"].tolist() == [kind]


@pytest.mark.parametrize("mark", ["difficult", "iscrowd"])
def test_what_is_ignored_makes_no_error(mark: str):
    truth = truth_of([ONE, item(THERE, **{mark: 1})])
    errors = error_types(truth, [found(HERE, 0.8), found(THERE, 0.9), found(THERE, 0.7)])
    assert errors["AP50"] == pytest.approx(1)
    assert errors["of_result"].tolist() == ["right", "ignored", "ignored"]
    assert set(errors["counts"].values()) == {0}


def test_without_objects_nobody_knows():
    errors = error_types(truth_of([]), [found(HERE, 0.5)])
    assert math.isnan(errors["AP50"])
    assert all(math.isnan(v) for v in errors["lost"].values())
    assert errors["of_result"].tolist() == ["background"]
    assert error_types(truth_of([]), [])["of_result"].tolist() == []


def test_a_detection_takes_the_best_object_that_is_free():
    # COCO's rule: the second detection overlaps the first object more, but that is taken, so it has the other.
    errors = error_types(truth_of([item(A), item(B)]), [found(A, 0.9), found([0, 0, 10, 9], 0.8)])
    assert errors["of_result"].tolist() == ["right", "right"]


@pytest.mark.parametrize("seed", range(5))
def test_ap50_is_that_of_coco_in_crowded_images(seed: int):
    truth, results = random_case(seed, rounded=True)
    errors = error_types(truth, results)
    assert errors["AP50"] == pytest.approx(coco_metrics(truth, results)["AP50"], abs=1e-9)
    false = sum(kind not in ("right", "ignored") for kind in errors["of_result"])
    assert sum(errors["counts"].values()) == false + errors["counts"]["missed"]
