"""What is measured: COCO's numbers, PASCAL VOC's against its development kit's loop, kinds of error, a case of each."""

import copy
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install 'plrc[detection]'")

from plrc.detection import metrics
from plrc.detection.metrics import NUMBERS, RULES, average_precision, coco_api, coco_metrics, error_types, voc_metrics


def truth_of(annotations: Sequence[Mapping[str, Any]], images: int = 3, classes: int = 2) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 300} for i in range(1, images + 1)],
        "categories": [{"id": k, "name": "abcdefgh"[k - 1]} for k in range(1, classes + 1)],
        "annotations": [{"id": n, "iscrowd": 0, **a} for n, a in enumerate(annotations, 1)],
    }


def item(box: Sequence[float], score: float | None = None, image: int = 1, category: int = 1, **more: Any) -> dict:
    """An object or, with a score, a detection."""
    scored = {} if score is None else {"score": score}
    return {"image_id": image, "category_id": category, "bbox": list(box), **scored, **more}


def random_case(seed: int, rounded: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowded images, half of the detections near an object, a tenth of the objects difficult."""
    draw = np.random.default_rng(seed)
    boxes = np.c_[draw.uniform(0, 60, (40, 2)), draw.uniform(10, 40, (40, 2))]
    objects = [
        item(box, None, int(draw.integers(1, 4)), int(draw.integers(1, 3)), difficult=int(draw.random() < 0.1))
        for box in boxes.tolist()
    ]
    results = []
    for score in draw.permutation(200) / 200:
        near = objects[draw.integers(len(objects))]
        box = (np.array(near["bbox"]) + draw.normal(0, draw.choice([1, 4, 15]), 4)).clip(0.1)
        score = round(float(score), 1) if rounded else float(score)  # many are equal then
        results.append(item(box.tolist(), score, near["image_id"], int(draw.integers(1, 3))))
    return truth_of(objects), results


HERE, THERE, AWAY = [0.0, 0, 10, 10], [100.0, 0, 10, 10], [200.0, 0, 10, 10]
NEAR = [5.0, 0, 10, 10]  # IoU 1/3 with HERE
OVER_HERE = [0.0, 0, 10, 8]  # IoU 0.8 with HERE
ONE, OTHER, OF_B = item(HERE), item(THERE), item(THERE, category=2)


def test_without_the_evaluator_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ValueError, match=r"pip install 'plrc\[detection\]'"):
        coco_api()


@pytest.mark.parametrize("mark", ["difficult", "iscrowd"])
def test_what_is_ignored_is_neither_wanted_nor_held_against(mark: str):
    ignored, results = truth_of([ONE, item(THERE, **{mark: 1})]), [item(THERE, 0.9), item(THERE, 0.8), item(HERE, 0.5)]
    for found in (results, results[2:]):
        assert coco_metrics(ignored, found)["AP"] == pytest.approx(1)
        assert [voc_metrics(ignored, found)[rule]["AP"] for rule in RULES] == pytest.approx([1, 1])
    errors = error_types(ignored, results)
    assert errors["AP50"] == pytest.approx(1)
    assert errors["of_result"].tolist() == ["ignored", "ignored", "right"]
    assert set(errors["counts"].values()) == {0}
    # Too little of it is an ordinary false detection, before the right one: precision 1/2.
    results = [item([105.1, 0, 10, 10], 0.9), results[2]]
    assert voc_metrics(ignored, results)["all-point"]["AP50"] == pytest.approx(1 / 2)
    assert coco_metrics(truth_of([ONE]), results)["AP"] == pytest.approx(1 / 2)


def test_without_results_and_without_objects():
    nothing = coco_metrics(truth_of([ONE]), [])
    assert (nothing["AP"], nothing["AR_100"], error_types(truth_of([ONE]), [])["AP50"]) == (0, 0, 0)
    for results in ([], [item(HERE, 0.5)]):
        assert all(math.isnan(coco_metrics(truth_of([]), results)[name]) for name in NUMBERS)
        for objects in ([], [item(HERE, difficult=1)]):
            assert math.isnan(voc_metrics(truth_of(objects), results)["11-point"]["AP50"])
        errors = error_types(truth_of([]), results)
        assert all(map(math.isnan, [errors["AP50"], *errors["lost"].values()]))
        assert errors["of_result"].tolist() == ["background"] * len(results)


# ----------------------------------------------------------------------------------------------------------------- COCO


def test_the_twelve_numbers_of_cocos_own_example(shared_data: Callable[[str], Path]):
    folder = shared_data("coco-metric-fixture")
    names = ("sampled_gts_bbox_area", "cocoapi_results", "expected")
    truth, results, expected = (json.loads((folder / f"{name}.json").read_text()) for name in names)
    numbers = coco_metrics(truth, results)
    assert {name: numbers[name] for name in NUMBERS} == pytest.approx(expected, abs=1e-6)
    assert error_types(truth, results)["AP50"] == pytest.approx(numbers["AP50"], abs=1e-12)


def test_a_perfect_list_has_one_everywhere_and_nan_where_there_is_nothing(capfd: pytest.CaptureFixture[str]):
    boxes = [[10, 10, 20, 20], [50, 50, 100, 100]]  # small, large
    truth, results = truth_of([item(boxes[0], area=400, difficult=0), item(boxes[1])]), [item(b, 0.9) for b in boxes]
    truth["annotations"][0]["id"] = 0  # COCO's code takes that for "not matched", and warns
    before = copy.deepcopy((truth, results))
    found = coco_metrics(truth, results)
    assert (truth, results) == before, "nothing that is given is changed"
    for name in NUMBERS:
        wanted = math.nan if name.endswith("medium") else 0.5 if name == "AR_1" else 1  # one an image finds one of two
        assert found[name] == pytest.approx(wanted, nan_ok=True)
    one, none = found["classes"]["a"], found["classes"]["b"]
    assert one["AP"] == one["AP50"] == pytest.approx(1)
    assert math.isnan(none["AP"])
    assert np.isnan(none["precision"]).all()
    assert capfd.readouterr() == ("", "")
    half = coco_metrics(truth, results[:1])
    np.testing.assert_allclose(half["classes"]["a"]["precision"], np.arange(101) <= 50)
    assert half["AP50"] == pytest.approx(51 / 101)


def square(x: int, y: int, side: int) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def runs_of(x: int, y: int, side: int) -> dict[str, Any]:
    """The same as run lengths, which only pixels of the square are in: column by column in a image 300 high."""
    runs = [x * 300 + y, side] + [300 - side, side] * (side - 1)
    return {"size": [300, 400], "counts": [*runs, 400 * 300 - sum(runs)]}


@pytest.mark.parametrize("form", ["runs", "bytes", "text"])
def test_masks_are_compared_by_their_pixels(form: str):
    def outline(x: int, y: int, side: int) -> dict[str, Any]:
        runs = runs_of(x, y, side)
        encoded = runs if form == "runs" else coco_api().mask.frPyObjects(runs, 300, 400)
        return encoded | {"counts": encoded["counts"].decode()} if form == "text" else encoded

    box = [0.0, 0, 200, 200]
    outlines = [square(10, 10, 40), outline(10, 10, 40)]
    truth = truth_of([item(box, None, i, segmentation=s, area=1600) for i, s in enumerate(outlines, 1)])
    results = [item(box, 0.9, i, segmentation=outline(10, 10, 40)) for i in (1, 2)]
    found = coco_metrics(truth, results, "segm")
    assert found["AP"] == found["AP_medium"] == pytest.approx(1)  # of 1600 pixels
    elsewhere = [r | {"segmentation": outline(60, 10, 40)} for r in results]
    assert coco_metrics(truth, elsewhere, "segm")["AP"] == 0
    assert coco_metrics(truth, elsewhere)["AP"] == pytest.approx(1)  # the boxes are the same


def test_an_object_without_area_has_no_mask_to_be_found():
    outlined = item([2, 2, 4, 4], segmentation=square(2, 2, 4))
    truth = truth_of([outlined, item([5, 5, 0, 0], segmentation=[])])
    assert coco_metrics(truth, [item([2, 2, 4, 4], 0.9, segmentation=runs_of(2, 2, 4))], "segm")["AP50"] == 1
    with pytest.raises(ValueError, match="has no segmentation"):
        coco_metrics(truth_of([outlined, item([5, 5, 1, 1], segmentation=[])]), [], "segm")


def test_a_false_mask_is_of_its_own_size_not_its_boxs():
    # Both found; a false one of 400 pixels in a box of 40 000 is large by its box, and then would count there.
    truth = truth_of([item([100, 100, 150, 150], segmentation=square(100, 100, 150), area=22500)])
    results = [
        item([0, 0, 200, 200], 0.9, segmentation=runs_of(10, 10, 20)),
        item([100, 100, 150, 150], 0.8, segmentation=runs_of(100, 100, 150)),
    ]
    assert coco_metrics(truth, results, "segm")["AP_large"] == pytest.approx(1)
    with pytest.raises(ValueError, match="result of image 1 has no run-length segmentation"):
        coco_metrics(truth, [item(HERE, 0.5)], "segm")
    with pytest.raises(ValueError, match="annotation of image 1 has no segmentation"):
        coco_metrics(truth_of([ONE]), [], "segm")


# ----------------------------------------------------------------------------------------------------------- PASCAL VOC


def test_recall_steps_are_exact():
    # 3 of 10 objects reach the recall 0.3: in floating point 3/10 < 3 · 0.1. So four points of eleven have 1.
    assert average_precision(np.ones(3, dtype=bool), 10)["11-point"] == pytest.approx(4 / 11)
    assert average_precision(np.ones(7, dtype=bool), 10)["11-point"] == pytest.approx(8 / 11)
    assert set(average_precision(np.zeros(0, dtype=bool), 3).values()) == {0}


def test_an_overlap_of_exactly_the_threshold_is_enough():
    found = voc_metrics(truth_of([ONE]), [item([0, 0, 10, 5], 0.9)])["all-point"]
    assert (found["AP50"], found["AP75"]) == (1, 0)
    assert found["AP"] == pytest.approx(1 / 10)  # at 0.5, and at none of the nine above
    at75 = voc_metrics(truth_of([ONE]), [item([0, 0, 10, 7.5], 0.9)])["11-point"]
    assert (at75["AP75"], at75["AP"]) == (1, pytest.approx(6 / 10))


def test_classes_are_apart_and_one_without_objects_is_unknown():
    results = [item(HERE, 0.9), item(THERE, 0.8), item(AWAY, 0.7, category=3)]
    found = voc_metrics(truth_of([ONE, OF_B], classes=3), results)["all-point"]
    assert [found["classes"][name]["AP50"] for name in "abc"] == pytest.approx([1, 0, math.nan], nan_ok=True)
    assert found["AP50"] == pytest.approx(1 / 2)  # of the two that are known


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
    eleven, area, before = 0.0, 0.0, 0.0
    for k in range(11):
        eleven += max((p for r, p in zip(recall, precision, strict=True) if r >= k / 10), default=0) / 11
    for n, r in enumerate(recall):
        area += (r - before) * max(precision[n:])
        before = r
    return [eleven, area]


@pytest.mark.parametrize("seed", range(3))
def test_agreement_with_a_plain_loop(seed: int):
    truth, results = random_case(seed)
    found = voc_metrics(truth, results)
    loop = np.array([[naive(truth, results, c, at) for c in (1, 2)] for at in metrics.THRESHOLDS])  # (10, 2, 2)
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
    # Ties between images only: within one, its detector's order decides.
    ranks = {i: sorted((r["score"] for r in results if r["image_id"] == i), reverse=True) for i in (1, 2, 3)}
    tied = [r | {"score": -ranks[r["image_id"]].index(r["score"])} for r in results]
    for listed in (results, tied):
        again = [listed[i] for i in draw.permutation(len(listed))]
        assert voc_metrics(shuffled, again) == voc_metrics(truth, listed)


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("kind", "objects", "results", "ap50", "of_result"),
    [
        # false, right, of two: precision 1/2 up to the recall 1/2, which are 51 of 101 recalls
        ("localisation", [ONE, OTHER], [item(NEAR, 0.9), item(THERE, 0.8)], 0.5 * 51 / 101, "localisation right"),
        # class a is found, b is not
        ("classification", [ONE, OF_B], [item(HERE, 0.9), item(THERE, 0.8)], 0.5, "right classification"),
        # right, false, right of two: precision 1 for 51 recalls, 2/3 for 50
        (
            "duplicate",
            [ONE, OTHER],
            [item(THERE, 0.7), item(HERE, 0.9), item(OVER_HERE, 0.8)],
            (51 + 50 * 2 / 3) / 101,
            "right right duplicate",
        ),
        ("background", [ONE], [item(AWAY, 0.9), item(HERE, 0.8)], 0.5, "background right"),
        # an object of another image is no object of this one
        ("background", [ONE], [item(HERE, 0.9, image=2), item(HERE, 0.8)], 0.5, "background right"),
        (
            "both",
            [ONE, OF_B],
            [item(NEAR, 0.9, category=2), item(HERE, 0.8), item(THERE, 0.7, category=2)],
            (1 + 0.5) / 2,
            "both right right",
        ),
        ("missed", [ONE, OTHER], [item(HERE, 0.9)], 51 / 101, "right"),
        ("missed", [ONE, OF_B], [item(HERE, 0.9)], 0.5, "right"),  # a whole class
        # Put right, the first is the one, and the second, of lower score and the same object, goes: AP50 1.
        (
            "localisation",
            [ONE, OTHER],
            [item(NEAR, 0.9), item(HERE, 0.8), item(THERE, 0.7)],
            (51 * 2 / 3 + 50 * 2 / 3) / 101,
            "localisation right right",
        ),
        # The other way round: the poor one is of lower score, and is the one that goes.
        (
            "localisation",
            [ONE, OTHER],
            [item(NEAR, 0.8), item(HERE, 0.9), item(THERE, 0.7)],
            (51 + 50 * 2 / 3) / 101,
            "localisation right right",
        ),
    ],
)
def test_a_case_of_each_kind_in_which_it_is_the_only_one(kind, objects, results, ap50, of_result):
    errors = error_types(truth_of(objects), results)
    assert errors["AP50"] == pytest.approx(ap50)
    assert errors["of_result"].tolist() == of_result.split()
    assert errors["counts"] == {k: int(k == kind) for k in metrics.KINDS}
    assert errors["AP50"] + errors["lost"][kind] == pytest.approx(1)
    assert all(errors["lost"][k] == pytest.approx(0) for k in metrics.KINDS if k != kind)


def test_where_several_kinds_fit_the_first_is_named():
    # A missed class with a false detection stays at 0: nothing that could be right is detected.
    errors = error_types(truth_of([ONE, OF_B]), [item(HERE, 0.9), item(AWAY, 0.8, category=2)])
    assert errors["counts"]["missed"] == errors["counts"]["background"] == 1
    assert errors["lost"]["missed"] == pytest.approx(0)
    # A poor box of the right class comes before a good one of another, whose object is missed then.
    errors = error_types(truth_of([ONE, item(NEAR, category=2)]), [item(NEAR, 0.9)])
    assert (errors["of_result"].tolist(), errors["counts"]["missed"]) == (["localisation"], 1)
    for width, kind in ((0.9, "background"), (1.0, "localisation"), (4.9, "localisation"), (5.0, "right")):
        assert error_types(truth_of([ONE]), [item([0, 0, width, 10], 0.9)])["of_result"].tolist() == [kind]


@pytest.mark.parametrize("seed", range(5))
def test_ap50_is_that_of_coco_in_crowded_images(seed: int):
    truth, results = random_case(seed, rounded=True)
    errors = error_types(truth, results)
    assert errors["AP50"] == pytest.approx(coco_metrics(truth, results)["AP50"], abs=1e-9)
    false = sum(kind not in ("right", "ignored") for kind in errors["of_result"])
    assert sum(errors["counts"].values()) == false + errors["counts"]["missed"]
