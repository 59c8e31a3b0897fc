"""Boxes as YOLO has them."""

import shutil

import numpy as np
import pytest

from plrc.data.annotated import open_annotated
from plrc.data.yolo import YOLO
from plrc.detection.data import DetectionData
from tests.sets import picture, placed

LINES = {
    "a": "0 0.5 0.5 0.5 0.25\n\n1 0.05 0.5 0.2 0.2\n",
    "b": "1 0.2 0.1 0.6 0.1 0.6 0.9\n0 0.5 0.5 0 0.1\n",
    "c": None,
}


@pytest.fixture
def folder(tmp_path):
    """As Ultralytics lays it out: a table, and a folder of images and one of labels for each split."""
    for name, lines in LINES.items():
        picture(tmp_path / "images" / "train" / f"{name}.jpg", (80, 40))
        if lines is not None:
            placed(tmp_path / "labels" / "train" / f"{name}.txt").write_text(lines)
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nnames: {0: cat, 1: 猫}\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("at", ["images/train", "images", ""])
def test_boxes_are_read_wherever_the_path_points(folder, at):
    found = open_annotated(str(folder / at))
    assert type(found) is YOLO
    assert found.has_objects
    assert len(found) == 3
    first, second, none = (found.annotation(i) for i in range(3))
    assert first.classes == ["cat", "猫"]
    assert second.classes == ["猫"]
    assert none.classes == []
    np.testing.assert_allclose(first.boxes, [[0.25, 0.375, 0.75, 0.625], [0, 0.4, 0.15, 0.6]], atol=1e-7)
    np.testing.assert_allclose(second.boxes, [[0.2, 0.1, 0.6, 0.9]], atol=1e-7, err_msg="the box of an outline")
    assert found.notes == {"boxes without area": ["b.txt, line 2"]}


def test_linked_folders_are_read_and_hidden_ones_are_not(folder):
    train = folder / "images" / "train"
    picture(train / ".ipynb_checkpoints" / "d.jpg", (80, 40))
    (train / "loop").symlink_to(train)
    train.rename(folder / "elsewhere")
    train.symlink_to(folder / "elsewhere")
    assert len(open_annotated(str(folder / "images"))) == 3


def test_a_table_far_above_is_anothers(folder):
    (folder / "data.yaml").unlink()
    deep = folder / "a" / "b" / "c"
    shutil.copytree(folder / "images", deep / "images")
    shutil.copytree(folder / "labels", deep / "labels")
    (folder / "data.yaml").write_text("no: table of classes\n")
    assert open_annotated(str(deep / "images" / "train")).annotation(0).classes == ["0", "1"]


def test_a_detector_can_be_trained_on_them(folder):
    data = DetectionData([str(folder / "images" / "train")]).checked()
    assert data.classes == ("cat", "猫")
    assert data.trainable() == [0, 1]
    np.testing.assert_allclose(data.objects(0).boxes, [[20, 15, 60, 25], [0, 16, 12, 24]], atol=1e-4)


def test_a_class_is_called_what_is_written(folder):
    (folder / "data.yaml").write_text("names: [no, 010]")  # Norway; 8 in YAML 1.1
    assert YOLO(folder / "images" / "train").annotation(0).classes == ["no", "010"]


def test_without_a_table_classes_have_their_numbers(folder):
    (folder / "data.yaml").unlink()
    assert YOLO(folder / "images" / "train").annotation(0).classes == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("0 0.5 0.5 0.5", "'0 0.5 0.5 0.5' is no object"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "is no object"),
        ("0.5 0.5 0.5 0.1 0.1", "is no object"),
        ("-1 0.5 0.5 0.1 0.1", "is no object"),
        ("0 nan 0.5 0.1 0.1", "is no object"),
        ("cat 0.5 0.5 0.1 0.1", "is no object"),
        ("7 0.5 0.5 0.1 0.1", "class 7 is none of 2: add it to data.yaml"),
    ],
)
def test_a_line_that_is_no_object_is_named(folder, line, why):
    (folder / "labels" / "train" / "c.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(ValueError, match=rf"c\.txt, line 2: .*{why}"):
        open_annotated(str(folder))


@pytest.mark.parametrize(
    ("table", "why"),
    [("train: images/train\n", "has no table 'names'"), ("names: [a, b\n", "is no YAML"), ("[1]\n", "has no table")],
)
def test_a_table_that_cannot_be_read_is_named(folder, table, why):
    (folder / "data.yaml").write_text(table)
    with pytest.raises(ValueError, match=rf"data\.yaml {why}"):
        open_annotated(str(folder))


@pytest.mark.parametrize(
    ("table", "split"),
    [
        ("names: [a]", "images/train"),
        ("names: [a]\ntrain: pictures", "pictures"),
        ("names: [a]\npath: more", "more/images/train"),
    ],
)
def test_a_table_itself_is_several_splits(folder, table, split):
    (folder / "data.yaml").write_text(table)
    with pytest.raises(ValueError, match=r"data\.yaml names several splits: give .*, such as ") as refused:
        open_annotated(str(folder / "data.yaml"))
    assert str(refused.value).endswith(f" {folder / split}")
