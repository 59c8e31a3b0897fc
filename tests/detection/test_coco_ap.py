"""COCO's metrics: the twelve numbers of a known case, and what COCO's code leaves to chance."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install 'plrc[detection]'")

from plrc.detection.coco_ap import NUMBERS, coco_metrics


def truth_of(*annotations: dict[str, Any]) -> dict[str, Any]:
    """Two pictures of 400 × 300 and the classes "a", "b"."""
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 300} for i in (1, 2)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": k, "iscrowd": 0, **a} for k, a in enumerate(annotations)],
    }


def thing(box: list[float], image: int = 1, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, **more}


def test_the_twelve_numbers_of_cocos_own_example(shared_data: Callable[[str], Path]):
    folder = shared_data("coco-metric-fixture")
    truth, results, expected = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("sampled_gts_bbox_area", "cocoapi_results", "expected")
    )
    numbers = coco_metrics(truth, results).numbers()
    assert tuple(numbers) == NUMBERS == tuple(expected)
    assert numbers == pytest.approx(expected, abs=1e-6)


def test_a_perfect_list_has_one_everywhere_and_nan_where_there_is_nothing(capfd: pytest.CaptureFixture[str]):
    boxes = [[10, 10, 20, 20], [50, 50, 100, 100]]  # small, large
    truth = truth_of(*(thing(box, area=box[2] * box[3]) for box in boxes))
    results = [thing(box, score=0.9) for box in boxes]
    found = coco_metrics(truth, results)
    for name, value in found.numbers().items():
        if name.endswith("medium"):
            assert math.isnan(value)
        else:
            assert value == pytest.approx(0.5 if name == "AR_1" else 1)  # one a picture finds one of two
    assert found.class_AP["a"] == found.class_AP50["a"] == pytest.approx(1)
    assert math.isnan(found.class_AP["b"])
    assert np.isnan(found.precision["b"]).all()
    np.testing.assert_allclose(found.precision["a"], 1)
    np.testing.assert_allclose(found.mean_precision, 1)
    np.testing.assert_allclose(found.recall, np.arange(101) / 100)
    assert capfd.readouterr() == ("", "")


def test_half_found_stops_at_half_the_recall():
    truth = truth_of(thing([10, 10, 20, 20]), thing([100, 100, 20, 20], image=2))  # without areas
    found = coco_metrics(truth, [thing([10, 10, 20, 20], score=0.9)])
    np.testing.assert_allclose(found.precision["a"], np.arange(101) <= 50)
    assert pytest.approx(51 / 101) == found.AP50


@pytest.mark.parametrize("mark", ["difficult", "iscrowd"])
def test_what_is_ignored_is_neither_wanted_nor_held_against(mark: str):
    one, other = [10.0, 10, 20, 20], [100.0, 100, 40, 40]
    results = [thing(other, score=0.9), thing(one, score=0.5)]
    wanted = coco_metrics(truth_of(thing(one), thing(other)), results[1:])
    assert pytest.approx(51 / 101) == wanted.AP50
    ignored = truth_of(thing(one), thing(other, **{mark: 1}))
    assert pytest.approx(1) == coco_metrics(ignored, results[1:]).AP
    assert pytest.approx(1) == coco_metrics(ignored, results).AP
    assert pytest.approx(0.5) == coco_metrics(truth_of(thing(one)), results).AP  # it is false there


def test_without_results_or_without_objects():
    truth = truth_of(thing([10, 10, 20, 20]))
    nothing = coco_metrics(truth, [])
    assert (nothing.AP, nothing.AR_100) == (0, 0)
    np.testing.assert_array_equal(nothing.mean_precision, 0)
    for results in ([], [thing([10, 10, 20, 20], score=0.5)]):
        assert all(math.isnan(v) for v in coco_metrics(truth_of(), results).numbers().values())


def test_an_annotation_numbered_0_counts():
    truth = truth_of(thing([10, 10, 20, 20]))
    assert truth["annotations"][0]["id"] == 0  # COCO's code takes that for "not matched", and warns
    assert pytest.approx(1) == coco_metrics(truth, [thing([10, 10, 20, 20], score=0.5)]).AP


def test_nothing_that_is_given_is_changed():
    truth, results = truth_of(thing([10, 10, 20, 20], difficult=1)), [thing([10, 10, 20, 20], score=0.5)]
    before = copy.deepcopy((truth, results))
    coco_metrics(truth, results)
    assert (truth, results) == before


def square(x: int, y: int, side: int) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def runs_of(x: int, y: int, side: int) -> dict[str, Any]:
    """The same as run lengths, which only pixels of the square are in: column by column in a picture 300 high."""
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
    truth = truth_of(
        thing(box, segmentation=square(10, 10, 40), area=1600),
        thing(box, image=2, segmentation=outline(10, 10, 40), area=1600),
    )
    results = [thing(box, image=i, score=0.9, segmentation=outline(10, 10, 40)) for i in (1, 2)]
    found = coco_metrics(truth, results, "segm")
    assert pytest.approx(1) == found.AP
    assert found.AP_medium == pytest.approx(1)  # of 1600 pixels
    elsewhere = [r | {"segmentation": outline(60, 10, 40)} for r in results]
    assert coco_metrics(truth, elsewhere, "segm").AP == 0
    assert pytest.approx(1) == coco_metrics(truth, elsewhere).AP  # the boxes are the same


def test_a_false_mask_is_of_its_own_size_not_its_boxs():
    # Both found; a false one of 400 pixels in a box of 40 000 is large by its box, and then would count there.
    truth = truth_of(thing([100, 100, 150, 150], segmentation=square(100, 100, 150), area=22500))
    results = [
        thing([0, 0, 200, 200], score=0.9, segmentation=runs_of(10, 10, 20)),
        thing([100, 100, 150, 150], score=0.8, segmentation=runs_of(100, 100, 150)),
    ]
    assert coco_metrics(truth, results, "segm").AP_large == pytest.approx(1)


def test_masks_that_are_missing_and_other_kinds():
    outlined = truth_of(thing([10, 10, 20, 20], segmentation=square(10, 10, 20)))
    with pytest.raises(ValueError, match="result of image 1 has no run-length segmentation"):
        coco_metrics(outlined, [thing([10, 10, 20, 20], score=0.5)], "segm")
    with pytest.raises(ValueError, match="annotation 0 of image 1 has no segmentation"):
        coco_metrics(truth_of(thing([10, 10, 20, 20])), [], "segm")
    with pytest.raises(ValueError, match="bbox or segm"):
        coco_metrics(outlined, [], "keypoints")
