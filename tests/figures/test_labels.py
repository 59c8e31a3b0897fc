"""Labels of boxes: where they are put, and what they are kept off."""

from __future__ import annotations

import itertools

import numpy as np

from plrc.figures.labels import label_size, leader, place_labels


def test_a_label_is_inside_a_large_box_over_a_small_one_and_never_out_of_the_picture() -> None:
    sizes = [np.array([20.0, 6])] * 4
    boxes = np.array([[10, 20, 80, 90], [120, 40, 126, 46], [120, 1, 126, 5], [190, 50, 200, 60.0]])
    corners = place_labels(boxes, sizes, np.array([200.0, 100]))
    np.testing.assert_allclose(corners[:2], [(10, 20), (120, 34)])
    assert (corners >= 0).all()
    assert (corners <= (180, 94)).all()


def test_labels_of_one_place_are_nudged_apart_and_small_boxes_stay_in_sight() -> None:
    size = label_size("RBC 97 %", 5.5)
    boxes = np.array([[50.0, 50, 90, 80]] * 5 + [[50.0, 40, 55, 46]])
    corners = place_labels(boxes, [size] * 6, np.array([200.0, 150]))
    whole = np.hstack((corners, corners + size))
    for a, b in itertools.combinations([*whole, boxes[5]], 2):
        assert (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).min() <= 1e-6


def test_a_label_away_from_its_box_has_a_line_to_it() -> None:
    box = np.array([50.0, 50, 60, 60])
    assert leader(box, np.array([50.0, 44, 70, 50])) is None
    np.testing.assert_allclose(leader(box, np.array([40.0, 20, 56, 30])), [(53, 30), (53, 50)])
    np.testing.assert_allclose(leader(box, np.array([70.0, 80, 90, 86])), [(70, 80), (60, 60)])
