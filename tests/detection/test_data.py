"""Small sets of every layout made here, whose boxes are known; samples of them, and their order; real sets too."""

import json
import pickle
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from plrc.data.coco import outline_mask
from plrc.data.loader import make_loader
from plrc.detection.data import (
    DetectionData,
    Sample,
    Samples,
    TrainingSampler,
    input_size,
    truth_of_json,
    warn_of_doubles,
)
from plrc.distributed import World
from tests.sets import CATEGORIES, H, W, coco_set, entry, noise, picture, placed, thing, voc_set, voc_split


def opened(*paths: Path | str, **how: Any) -> DetectionData:
    return DetectionData([str(path) for path in paths], **how)


# ------------------------------------------------------------------------------------------------------------- layouts


def test_voc_objects_in_pixels_difficult_ones_included(tmp_path):
    objects = thing("dog", (11, 4, 20, 15), "<difficult>1</difficult>") + thing("cat", (1, 1, 40, 30))
    data = opened(voc_set(tmp_path, {"a": objects, "b": thing("cat", (5, 5, 5, 9))}))
    assert (data.classes, data.metric, data.has_masks) == (("cat", "dog"), "voc", False)
    found = data.objects(0)
    assert found.boxes.tolist() == [[10, 3, 20, 15], [0, 0, 40, 30]]
    assert found.boxes.dtype == np.float64
    assert (found.labels.tolist(), found.difficult.tolist()) == ([1, 0], [True, False])
    assert (len(data.objects(1).labels), data.trainable()) == (0, [0])
    truth = data.truth()
    assert truth["images"][0] == {"id": 1, "file_name": "JPEGImages/a.jpg", "width": W, "height": H}
    assert truth["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert truth["annotations"][0] == {**entry(1, 1, [10, 3, 10, 12], 2), "area": 120, "iscrowd": 0, "difficult": 1}
    assert [a["difficult"] for a in truth["annotations"]] == [1, 0]
    with pytest.raises(ValueError, match=r"objects of JPEGImages/a\.jpg have no outlines"):
        data.objects(0, masks=True)


def test_coco_truth_is_what_the_file_says_and_training_leaves_crowds_and_empty_boxes_out(tmp_path, caplog):
    outline = [[4, 5, 24, 5, 24, 15, 4, 15]]
    crowd = {"counts": [10, 20, H * W - 30], "size": [H, W]}
    written = [
        entry(71, 7, [4, 5, 20, 10], area=12.5, iscrowd=0, segmentation=outline),
        entry(70, 7, [0, 10, 1, 20], 5, area=20, iscrowd=1, segmentation=crowd),
        entry(80, 21, [3, 3, 0, 4], 9, area=0, iscrowd=0, segmentation=outline),
        entry(81, 21, [45, 3, 9, 4], 9, area=9, iscrowd=0, segmentation=outline),
        entry(82, 21, [0, 10, 1, 20], 9, area=20, iscrowd=1, segmentation=crowd),
    ]
    data = opened(coco_set(tmp_path, written))
    assert data.classes == ("bee", "wasp", "ant"), "by the categories' numbers"
    assert (data.category_ids, data.image_ids) == ((3, 5, 9), (7, 21))
    assert (data.metric, data.has_masks) == ("coco", True)
    found = data.objects(0, masks=True)
    assert found.boxes.tolist() == [[4, 5, 24, 15], [0, 10, 1, 30]]
    assert (found.labels.tolist(), found.crowd.tolist()) == ([0, 1], [False, True])
    assert found.masks.sum(axis=(1, 2)).tolist() == [200, 20]
    assert data.trainable() == [0], "a picture with a crowd and boxes without area only is none to train on"
    assert len(data.objects(1).labels) == 1
    assert "annotation 80 (image 21), annotation 81 (image 21)" in caplog.text
    truth = data.truth()
    assert truth["annotations"] == written
    assert truth["categories"] == sorted(CATEGORIES, key=lambda category: category["id"])
    assert truth["images"][0] == {"id": 7, "file_name": "7.png", "width": W, "height": H}
    assert pickle.loads(pickle.dumps(data)).objects(0).boxes.tolist() == found.boxes.tolist(), "in a worker"


def test_what_coco_leaves_out_is_filled_in_and_what_is_beyond_the_border_clipped(tmp_path):
    """Neither areas nor iscrowd, and numbers from 0, which COCO's evaluation takes for "no match"."""
    beyond, sliver = [-5, 20, 50, 20], [W - 1e-7, 3, 9, 4]
    written = [entry(0, 7, beyond), entry(1, 7, sliver), entry(2, 21, [2, 2, 5, 4], 9)]
    data = opened(coco_set(tmp_path, written))
    assert not data.has_masks
    assert data.objects(0).boxes.tolist() == [[0, 20, W, H]], "without the one of no width in the image"
    filled = [{**a, "id": k + 1, "area": (1000, 36, 20)[k], "iscrowd": 0} for k, a in enumerate(written)]
    assert data.truth()["annotations"] == filled


def test_a_turned_picture_has_upright_boxes_masks_and_truth(tmp_path):
    """A quarter to the right: what is at the upper left goes to the upper right."""
    box, outline = [4, 5, 20, 10], [[4, 5, 24, 5, 24, 15, 4, 15]]
    sliver = entry(72, 7, [4.6, 5, 1e-6, 10], segmentation=outline)  # not seen in training
    coco = coco_set(tmp_path / "c", [sliver, entry(71, 7, box, area=12.5, segmentation=outline)])
    voc = voc_set(tmp_path / "v", {"a": thing("bee", (5, 6, 24, 15))})
    picture(tmp_path / "c" / "val" / "7.png", orientation=6)
    picture(tmp_path / "v" / "JPEGImages" / "a.jpg", orientation=6)
    for path in (coco, voc):
        data = opened(path)
        assert data.load(0).size == (H, W)
        np.testing.assert_allclose(data.objects(0).boxes, [[H - 15, 4, H - 5, 24]], rtol=1e-12)
        truth = data.truth()
        assert len(truth["annotations"]) == 1
        assert (truth["images"][0]["width"], truth["images"][0]["height"]) == (H, W)
        np.testing.assert_allclose(truth["annotations"][0]["bbox"], [H - 15, 4, 10, 20], rtol=1e-12)
    turned = opened(coco).truth()["annotations"][0]
    assert (turned["id"], turned["image_id"], turned["category_id"], turned["area"]) == (71, 7, 3, 12.5)
    expected = np.zeros((W, H), dtype=bool)
    expected[4:24, H - 15 : H - 5] = True
    np.testing.assert_array_equal(outline_mask(turned["segmentation"], W, H), expected)


def test_masks_have_boxes_of_whole_pixels(tmp_path):
    picture(tmp_path / "images" / "a.png")
    mask = np.zeros((H, W), dtype=np.uint8)
    mask[5:15, 4:23] = 255
    mask[5, 4] = 0
    Image.fromarray(mask).save(placed(tmp_path / "masks" / "a.png"))
    data = opened(tmp_path)
    found = data.objects(0, masks=True)
    assert (data.classes, found.boxes.tolist()) == (("object",), [[4, 5, 23, 15]])
    (item,) = data.truth()["annotations"]
    assert (item["bbox"], item["area"], item["segmentation"]["size"]) == ([4, 5, 19, 10], 189, [H, W])
    np.testing.assert_array_equal(outline_mask(item["segmentation"], H, W), found.masks[0])


def test_scenes_have_all_kinds_of_objects_however_few_they_are():
    few, more = opened("scenes:1"), opened("scenes:5")
    assert few.classes == more.classes == tuple(sorted(few.classes))
    assert (len(few.classes), more.trainable()) == (10, [0, 1, 2, 3, 4])
    assert opened("scenes:5", most=2).trainable() == [0, 2], "evenly spread"
    found = more.objects(2, masks=True)
    for (x0, y0, x1, y1), mask in zip(found.boxes.astype(int), found.masks, strict=True):
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0:y1, [x0, x1 - 1]].any(axis=0).all()
        assert mask[[y0, y1 - 1], x0:x1].any(axis=1).all()


# ------------------------------------------------------------------------------------------------- unions, and classes


def test_a_union_has_the_pictures_in_order_and_all_classes(tmp_path):
    first = voc_set(tmp_path / "07", {"a": thing("dog", (1, 1, 9, 9)), "b": thing("cat", (1, 1, 8, 8))})
    second = voc_set(tmp_path / "12", {"a": thing("bird", (2, 2, 7, 7))})
    data = opened(first, second)
    assert [data.name(i) for i in range(len(data))] == ["JPEGImages/a.jpg", "JPEGImages/b.jpg", "JPEGImages/a.jpg"]
    assert (data.classes, data.metric) == (("bird", "cat", "dog"), "voc")
    assert [data.objects(i).labels.tolist() for i in range(3)] == [[2], [1], [0]]
    assert data.image_ids == (1, 2, 3)
    assert data.fingerprint() != opened(second, first).fingerprint()
    mixed = opened(first, coco_set(tmp_path / "coco", [entry(71, 7, [4, 5, 20, 10])]))
    assert (mixed.classes, mixed.metric) == (("ant", "bee", "cat", "dog", "wasp"), "coco")
    assert (mixed.category_ids, mixed.image_ids) == ((1, 2, 3, 4, 5), (1, 2, 3, 4))
    last = mixed.truth()["annotations"][-1]
    assert (last["image_id"], last["category_id"], last["bbox"]) == (3, 2, [4, 5, 20, 10])


@pytest.mark.parametrize("layout", ["voc", "coco", "yolo", "masks"])
def test_objects_that_were_changed_are_told_without_opening_a_picture(layout, tmp_path, monkeypatch):
    def of(x: int, root: Path) -> DetectionData:
        if layout == "voc":
            return opened(voc_set(root, {"a": thing("dog", (1, 1, x, 9))}))
        if layout == "coco":
            outline = [[4, 5, 24, 5, 24, x, 4, x]]
            return opened(coco_set(root, [entry(71, 7, [4, 5, 20, 10], segmentation=outline)]))
        picture(root / "images" / "a.png")
        if layout == "yolo":
            placed(root / "labels" / "a.txt").write_text(f"0 0.5 0.5 0.{x} 0.2")
        else:
            mask = np.eye(W, dtype=np.uint8)[:H] * 255 * (x > 10)
            Image.fromarray(mask).save(placed(root / "masks" / "a.png"))
        return opened(root)

    one, same, other = of(9, tmp_path / "1"), of(9, tmp_path / "2"), of(12, tmp_path / "3")
    monkeypatch.setattr(Image, "open", None)
    assert one.fingerprint() == same.fingerprint() == other.fingerprint()
    assert one.objects_fingerprint() == same.objects_fingerprint() != other.objects_fingerprint()


def test_data_sets_that_share_images_are_named(tmp_path, caplog):
    one = voc_set(tmp_path / "07", {"a": thing("dog", (1, 1, 9, 9)), "b": thing("dog", (1, 1, 8, 8))})
    two = voc_set(tmp_path / "12", {"a": thing("dog", (2, 2, 7, 7))})
    (tmp_path / "link").symlink_to("07")
    split, link = voc_split(tmp_path / "07", "few", "b"), tmp_path / "link"
    warn_of_doubles(opened(one, two, link), opened(split, "scenes:2"), opened("scenes:3", "scenes:3@1"))
    assert [record.getMessage() for record in caplog.records] == [
        f"note: 2 of 2 images of {link} are in {one}, too",
        f"note: 1 of 1 images of {split} are in {link}, too",
    ]


def test_coco_files_of_the_same_categories_keep_order_and_numbers(tmp_path):
    one = coco_set(tmp_path / "1", [entry(1, 7, [4, 5, 20, 10])], (7,))
    two = coco_set(tmp_path / "2", [entry(1, 8, [4, 5, 20, 10], 9)], (8,))
    data = opened(one, two)
    assert (data.classes, data.category_ids, data.image_ids) == (("bee", "wasp", "ant"), (3, 5, 9), (7, 8))
    assert [(a["id"], a["image_id"], a["category_id"]) for a in data.truth()["annotations"]] == [(1, 7, 3), (2, 8, 9)]
    assert opened(one, one).image_ids == (1, 2), "the file's numbers would be ambiguous"
    other = coco_set(tmp_path / "3", [entry(1, 9, [1, 1, 2, 2])], (9,), categories=[{"id": 3, "name": "ant"}])
    mixed = opened(one, other)
    assert (mixed.classes, mixed.category_ids) == (("ant", "bee", "wasp"), (1, 2, 3)), "3 is a bee here, an ant there"
    assert [a["category_id"] for a in mixed.truth()["annotations"]] == [2, 1]


def test_given_classes_name_the_labels(tmp_path):
    coco = coco_set(tmp_path / "coco", [entry(71, 7, [4, 5, 20, 10], 9)])
    data = opened(coco, classes=["bee", "ant", "moth"])
    assert (data.objects(0).labels.tolist(), data.category_ids[:2]) == ([1], (3, 9))
    truth = data.truth()
    assert truth["annotations"][0]["category_id"] == 9
    assert {c["name"] for c in truth["categories"]} == {"moth", "ant", "bee"}
    assert len({c["id"] for c in truth["categories"]}) == 3
    voc = voc_set(tmp_path / "voc", {"a": thing("dog", (1, 1, 9, 9))})
    assert opened(voc, classes=["cat", "dog"]).objects(0).labels.tolist() == [1]
    for path, classes, lacking in ((coco, "bee, wasp", "ant"), (voc, "cat", "dog")):
        with pytest.raises(ValueError, match=f"{path} has objects of {lacking}, a class that is none of {classes}"):
            opened(path, classes=classes.split(", "))


def test_pictures_of_another_size_than_was_annotated_are_found_before_the_training(tmp_path):
    coco = coco_set(tmp_path / "c", [entry(71, 7, [1, 1, 2, 2])])
    voc = voc_set(tmp_path / "v", {"a": thing("bee", (5, 6, 24, 15))})
    (tmp_path / "c" / "val" / "21.png").write_bytes(b"not a picture, which the training passes over")
    assert len(opened(coco, voc).checked()) == 3
    picture(tmp_path / "c" / "val" / "7.png", size=(9, 9))
    picture(tmp_path / "v" / "JPEGImages" / "a.jpg", size=(9, 9))
    with pytest.raises(ValueError, match=r"image 7 of .*_val\.json is of 40 × 30 .*; 1 more images have other"):
        opened(coco, voc).checked()


def test_what_is_no_data_for_a_detector_is_named(tmp_path):
    for name in ("x/a.jpg", "y/b.jpg"):
        picture(tmp_path / "folders" / name)
    twice = ({"id": 3, "name": "bee"}, {"id": 4, "name": "bee"})
    picture(tmp_path / "roboflow" / "train" / "a.jpg").with_name("_annotations.coco.json").write_text("{}")
    wrong = {
        tmp_path / "roboflow": r"without boxes: give one of its splits: .*roboflow.train$",
        tmp_path / "folders": "folders holds images in class folders, without boxes: give PASCAL VOC",
        tmp_path / "folders/x": "x holds images of which nothing is known, without boxes",
        voc_set(tmp_path / "empty", {"a": ""}): "no image has an object",
        coco_set(
            tmp_path / "a", [entry(k, 7, [1, 1, 2, 2], k) for k in (3, 4)], categories=twice
        ): "several categories of the name bee",
    }
    for path, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            opened(path)


def test_landscape_opens_no_picture_and_survives_a_damaged_one(tmp_path):
    coco = coco_set(tmp_path / "coco", [])
    picture(tmp_path / "coco" / "val" / "7.png").write_bytes(b"no picture")
    assert opened(coco).landscape().tolist() == [True, True]
    voc = voc_set(tmp_path / "voc", {"a": thing("x", (1, 1, 3, 3)), "b": thing("x", (1, 1, 3, 3))}, size=None)
    (voc / "JPEGImages" / "b.jpg").write_bytes(b"no picture")
    assert opened(voc).landscape().tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", ""),
        ("[]", "is no COCO file of boxes"),
        ("{", "is not JSON"),
        ('{"images": [], "annotations": []}', "lacks a list of categories"),
        ("bbox", r"lacks 'bbox'"),
        ("category", "annotation 71 is of category 4, which is not listed"),
    ],
)
def test_a_coco_file_on_its_own(tmp_path, change, message):
    item = entry(71, 7, [1, 1, 2, 2], 4 if change == "category" else 3)
    if change == "bbox":
        del item["bbox"]
    file, content = tmp_path / "truth.json", {"images": [{"id": 7}], "annotations": [item], "categories": CATEGORIES}
    file.write_text(json.dumps(content) if change.isalpha() or not change else change)
    if not message:
        truth = truth_of_json(file)
        assert truth["annotations"] == [{**item, "area": 4, "iscrowd": 0}]
        assert (truth["images"], len(truth["categories"])) == ([{"id": 7}], 3)
        return
    with pytest.raises(ValueError, match=message):
        truth_of_json(file)


def test_real_sets(shared_data):
    truth = truth_of_json(shared_data("coco-metric-fixture") / "sampled_gts_bbox_area.json")
    assert (len(truth["images"]), len(truth["annotations"]), len(truth["categories"])) == (100, 830, 80)
    root = shared_data("bccd-voc")
    cells = opened(*(root / "ImageSets" / "Main" / f"{split}.txt" for split in ("train", "val")))
    assert (len(cells), cells.classes, cells.metric) == (292, ("Platelets", "RBC", "WBC"), "voc")
    assert (len(cells.trainable()), cells.title) == (292, "bccd-voc train + bccd-voc val")
    root = shared_data("coco128")
    data = opened(root)
    assert (len(data), len(data.classes), len(data.trainable())) == (128, 80, 126)
    content = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    assert {a["id"]: a for a in data.truth()["annotations"]} == {a["id"]: a for a in content["annotations"]}
    assert sum(data.objects(i).crowd.sum() for i in range(128)) == 10
    for of in (cells, data):
        samples = Samples(of, range(480, 801, 32), 1333, seed=0)
        for i in range(0, 60, 24):
            _, height, width = samples[0, i].image.shape
            assert min(height, width) in range(480, 801, 32) or max(height, width) == 1333
            boxes = samples[0, i].target.boxes
            assert (boxes[:, :2] >= 0).all()
            assert (boxes[:, 2:] <= torch.tensor([width, height]) + 1e-3).all()


# ------------------------------------------------------------------------------------------------------------- samples

SIZES = [(97, 61), (64, 64), (50, 83), (200, 31)]
SHORT_SIDES = (24, 40, 61, 90, 128)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])


def painted(root: Path, outlines: bool = True) -> DetectionData:
    """Black images, each with a red, a green and a blue rectangle that do not touch, in this order from the left; and a
    crowd of all."""
    rng = np.random.default_rng(3)
    images, annotations = [], []
    for number, (width, height) in enumerate(SIZES):
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        for k in range(3):
            left, right = k * width // 3 + 1, (k + 1) * width // 3 - 1
            x0, x1 = int(rng.integers(left, right - 6)), int(rng.integers(right - 3, right))
            y0, y1 = int(rng.integers(0, height // 2 - 4)), int(rng.integers(height // 2 + 4, height + 1))
            pixels[y0:y1, x0:x1] = COLOURS[k]
            outline = {"segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]} if outlines else {}
            annotations.append(entry(len(annotations), number, [x0, y0, x1 - x0, y1 - y0], k, **outline))
        whole = {"counts": [0, width * height], "size": [height, width]}
        annotations.append(entry(len(annotations), number, [0, 0, width, height], 0, iscrowd=1, segmentation=whole))
        Image.fromarray(pixels).save(placed(root / "val" / f"{number}.png"))
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
    categories = [{"id": k, "name": name} for k, name in enumerate(("red", "green", "blue"))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    placed(root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return opened(root)


def bounds(share: np.ndarray) -> np.ndarray:
    """The box of what is painted, ``(H, W)`` in [0, 1], to a fraction of a pixel: where one half is covered."""
    found = []
    for profile in (share.max(axis=0), share.max(axis=1)):
        covered = np.flatnonzero(profile >= 0.5)
        first, last = covered[0], covered[-1]
        before = profile[first - 1] if first else profile[first]
        after = profile[last + 1] if last + 1 < len(profile) else profile[last]
        # Between two pixels' centres the share rises linearly; at the image's border nothing rises.
        low = first if not first else first + 0.5 - (profile[first] - 0.5) / max(profile[first] - before, 1e-9)
        high = last + 1 if last + 1 == len(profile) else last + 0.5 + (profile[last] - 0.5) / (profile[last] - after)
        found.append((low, high))
    return np.array(found).T.ravel()


def is_mirrored(sample: Sample) -> bool:
    """Red is the leftmost in the file."""
    return bool(sample.target.boxes[0, 0] > sample.target.boxes[2, 0])


def test_painted_boxes_and_masks_are_where_the_targets_say_at_every_size_and_mirrored(tmp_path):
    data = painted(tmp_path)
    assert len(data.objects(0).labels) == 4, "the crowd, which is no target"
    seen, errors = set(), []
    samples = Samples(data, SHORT_SIDES, 300, seed=0, masks=True)
    for sample in (samples[draw, i] for draw in range(20) for i in range(len(SIZES))):
        (_, height, width), original, target = sample.image.shape, sample.original_size, sample.target
        assert (original, target.boxes.dtype) == (SIZES[sample.number], torch.float32)
        assert target.labels.tolist() == [0, 1, 2]
        seen.add((height, width, is_mirrored(sample)))
        exact = data.objects(sample.number).boxes[:3] * np.tile([width / original[0], height / original[1]], 2)
        if is_mirrored(sample):
            exact[:, [0, 2]] = width - exact[:, [2, 0]]
        np.testing.assert_allclose(target.boxes.numpy(), exact, atol=1e-3)
        for box, mask, channel in zip(target.boxes.numpy(), target.masks.numpy(), sample.image.numpy(), strict=True):
            errors.append(np.abs(bounds(channel / 255) - box).max())
            np.testing.assert_array_equal(mask, channel >= 128)
    assert len(seen) > 30, "sizes and both directions have occurred"
    assert np.max(errors) < 0.5
    assert np.mean(errors) < 0.05, "no shift of a part of a pixel"


@pytest.mark.parametrize(
    ("original", "short_side", "longest", "expected"),
    [
        ((640, 480), 800, 1333, (1067, 800)),
        ((500, 333), 800, 1333, (1201, 800)),
        ((1000, 400), 800, 1333, (1333, 533)),  # the limit: 400 × 1.333 = 533.2
        ((400, 1000), 480, 1333, (480, 1200)),
        ((4, 3), 2, 1333, (3, 2)),  # 2.67
        ((5, 2), 1, 1333, (3, 1)),  # 2.5 is rounded upwards
        ((5000, 2), 800, 1333, (1333, 1)),
    ],
)
def test_the_input_has_detectron2s_size(original, short_side, longest, expected):
    assert input_size(original, short_side, longest) == expected


def test_all_choice_is_a_function_of_seed_draw_and_index(tmp_path):
    data = painted(tmp_path)

    def drawn(seed: int, draw: int) -> list[tuple]:
        found = [Samples(data, SHORT_SIDES, 1333, seed=seed)[draw, i] for i in range(len(SIZES))]
        return [(tuple(e.image.shape), is_mirrored(e)) for e in found]

    assert drawn(1, 4) == drawn(1, 4)
    assert len({str(drawn(seed, draw)) for seed in range(3) for draw in range(3)}) == 9
    samples = Samples(data, SHORT_SIDES, 1333, seed=0)
    many = [samples[draw, 1] for draw in range(150)]
    shorts = [e.image.shape[1] for e in many]
    assert min(shorts.count(side) for side in SHORT_SIDES) > 10
    assert 50 < sum(is_mirrored(e) for e in many) < 100


def test_a_damaged_file_is_replaced_in_training_and_an_error_in_testing(tmp_path):
    data = painted(tmp_path, outlines=False)
    (tmp_path / "val" / "1.png").write_bytes(b"\x89PNG")
    samples = Samples(data, [40], 1333, seed=0)
    replaced, whole = samples[0, 1], samples[0, 0]
    assert (replaced.number, whole.number, whole.undecodable) == (2, 0, ())
    assert len(replaced.undecodable) == 1
    assert "1.png" in replaced.undecodable[0]
    with pytest.raises(ValueError, match=r"1\.png: .*in testing every image counts"):
        Samples(data, [40], 1333)[0, 1]
    with pytest.raises(ValueError, match=r"objects without outline \(in 0\.png, .* and a mask head"):
        Samples(data, [40], 1333, seed=0, masks=True)


# --------------------------------------------------------------------------------------------------------------- order

IMAGES = [0, 2, 3, 5, 8, 9, 10, 12, 13, 17, 19]  # 11, so that passes end in the middle of a pair
LANDSCAPE = np.random.default_rng(0).random(20) < 0.6


def test_an_empty_photo_or_mask_is_passed_over_in_training_and_an_error_in_testing(tmp_path):
    for i in range(2):
        mask = np.zeros((32, 40), dtype=np.uint8)
        mask[4:20, 6:30] = 1
        Image.fromarray(mask).save(placed(tmp_path / "masks" / f"{i}.png"))
        noise(40, 32, i).save(placed(tmp_path / "images" / f"{i}.png"))
    assert opened(tmp_path).trainable() == [0, 1]
    for folder in ("images", "masks"):
        file = tmp_path / folder / "0.png"
        whole = file.read_bytes()
        file.write_bytes(b"")
        assert opened(tmp_path).trainable() == [0, 1]
        with pytest.raises(ValueError, match="in testing every image counts"):
            opened(tmp_path).truth()
        file.write_bytes(whole)


def test_scenes_of_another_seed_are_other_images():
    prints = [opened(f"scenes:3{seed}").fingerprint() for seed in ("", "@0", "@1", "@2")]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def order(batch=4, steps=range(20), images=IMAGES, landscape=LANDSCAPE, seed=7, rank=0, ranks=1) -> TrainingSampler:
    return TrainingSampler(images, landscape, batch, steps, seed, World(rank, ranks, torch.device("cpu")))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_batches_of_the_order(tmp_path, workers):
    data = painted(tmp_path)
    samples = Samples(data, SHORT_SIDES, 1333, seed=5)
    batches = order(3, range(4), data.trainable(), data.landscape())
    for batch, numbers in zip(make_loader(samples, batches, workers, torch.device("cpu"), list), batches, strict=True):
        for sample, number in zip(batch, numbers, strict=True):
            assert sample.number == number[1]
            assert torch.equal(sample.image, samples[number].image)
            assert torch.equal(sample.target.boxes, samples[number].target.boxes)


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_every_image_is_seen_once_a_pass(batch):
    visits = list(chain(*order(batch, range(33))))
    for number in range(batch * 3):
        of_pass = visits[number * 11 : number * 11 + 11]
        assert {n for n, _ in of_pass} == {number}
        assert sorted(i for _, i in of_pass) == IMAGES
    assert max(Counter(visits).values()) == 1


def test_ranks_share_the_same_global_batches_and_a_resumed_run_goes_on_where_it_stopped():
    for ranks in (2, 4):
        shares = [list(order(8, rank=rank, ranks=ranks)) for rank in range(ranks)]
        assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == list(order(8))
        assert {len(part) for share in shares for part in share} == {8 // ranks}
    for first in (0, 1, 7, 19, 20, 25):
        assert list(order(steps=range(first, 20))) == list(order())[first:]
    passes = {tuple(order(seed=seed).of_pass(n)) for seed in (7, 8) for n in range(8)}
    assert len(passes) == 16


@pytest.mark.parametrize("wide", range(12))
def test_neighbours_of_two_have_one_orientation_as_far_as_possible(wide):
    """Also across the end of a pass, whose images are an odd number here."""
    landscape = np.zeros(20, dtype=bool)
    landscape[IMAGES[:wide]] = True
    mixed = sum(landscape[a] != landscape[b] for (_, a), (_, b) in order(2, range(44), landscape=landscape))  # 8 passes
    # Of 11 images one kind is odd: its last one stands at the end of a pass, where it meets that of the next.
    assert mixed == 0
    even = order(2, range(40), IMAGES[:10], landscape)
    mixed = sum(landscape[a] != landscape[b] for (_, a), (_, b) in even)
    assert mixed == (8 if min(wide, 10) % 2 else 0), "one pair a pass, where both kinds are odd"


def test_pairs_of_both_kinds_are_mixed_within_a_pass():
    landscape = np.arange(200) < 100
    first, second = (order(2, range(1), range(200), landscape).of_pass(n) for n in (0, 1))
    assert 15 < landscape[first[::2]][:50].sum() < 35, "of 50 pairs about half are wide ones"
    partners, again = ({frozenset(pair) for pair in of.reshape(-1, 2).tolist()} for of in (first, second))
    assert len(partners & again) < 10, "partners change"


def test_an_order_that_cannot_be_is_said():
    with pytest.raises(ValueError, match="no image of the data has an object"):
        order(images=[])
    with pytest.raises(ValueError, match="--batch-size 4 must be a multiple of the 3 ranks"):
        order(4, ranks=3)
