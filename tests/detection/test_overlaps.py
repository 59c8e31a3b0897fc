"""Objects and detections as arrays, and their overlaps."""

from __future__ import annotations

import numpy as np

from plrc.detection.overlaps import as_arrays, best, ious, pairs


def test_boxes_are_continuous_pixels():
    a = np.array([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0, 5], [0, 0, 0, 0]])
    b = np.array([[1.0, 1, 3, 3], [2, 0, 4, 2], [0, 0, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(ious(a, b), [1 / 7, 0, 0, 0])  # touching boxes share nothing


def test_pairs_are_those_of_equal_keys_in_order():
    found, objects = np.array([3, 1, 3, 9]), np.array([1, 3, 1, 3, 5])
    d, g = pairs(found, objects)
    assert list(zip(d.tolist(), g.tolist(), strict=True)) == [(0, 1), (0, 3), (1, 0), (1, 2), (2, 1), (2, 3)]
    assert [len(x) for x in pairs(found[:0], objects)] == [0, 0]
    assert [len(x) for x in pairs(found, objects[:0])] == [0, 0]


def test_the_best_object_is_the_first_of_equal_ones():
    d, g = np.array([0, 0, 0, 2]), np.array([4, 5, 6, 4])
    highest, which = best(d, g, np.array([0.2, 0.7, 0.7, 0.0]), 3)
    assert highest.tolist() == [0.7, 0, 0]
    assert which.tolist() == [5, -1, 4]


def test_detections_come_by_score_then_by_picture():
    truth = {
        "images": [{"id": 9}, {"id": 4}],
        "categories": [{"id": 7, "name": "b"}, {"id": 2, "name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 2, 3, 4], "difficult": 1},
            {"id": 2, "image_id": 4, "category_id": 2, "bbox": [0, 0, 1, 1], "iscrowd": 0},
        ],
    }
    results = [
        {"image_id": i, "category_id": c, "bbox": [0, 0, 1, 1], "score": s}
        for i, c, s in [(9, 2, 0.5), (4, 7, 0.5), (9, 7, 0.8), (4, 2, 0.5)]
    ]
    names, objects, found = as_arrays(truth, results)
    assert names == ["a", "b"]
    assert objects.boxes.tolist() == [[1, 2, 4, 6], [0, 0, 1, 1]]
    assert objects.images.tolist() == [1, 0]
    assert objects.labels.tolist() == [1, 0]
    assert objects.ignored.tolist() == [True, False]
    assert found.listed.tolist() == [2, 1, 3, 0]
    assert found.images.tolist() == [1, 0, 0, 1]
    assert found.labels.tolist() == [1, 1, 0, 0]
