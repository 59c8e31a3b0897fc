"""Small sets of every layout made here, whose boxes are known; real sets too."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plrc.data.coco import outline_mask
from plrc.detection.data import open_detection_data, truth_of_json

W, H = 40, 30


def picture(file: Path, size: tuple[int, int] = (W, H), orientation: int = 1) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (90, 60, 30)).save(file, exif=exif)
    return file


def thing(name: str, box: tuple[int, int, int, int], difficult: int = 0) -> str:
    corners = "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def voc_set(root: Path, pictures: dict[str, str], size: str = f"<width>{W}</width><height>{H}</height>") -> str:
    (root / "Annotations").mkdir(parents=True)
    for name, objects in pictures.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation><size>{size}</size>{objects}</annotation>")
    return str(root)


CATEGORIES = ({"id": 9, "name": "ant"}, {"id": 3, "name": "bee"}, {"id": 5, "name": "wasp"})


def entry(number: int, image: int, bbox: list[float], category: int = 3, **more: object) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


def coco_set(root: Path, annotations: list[dict], images: tuple[int, ...] = (21, 7), **options: object) -> str:
    listed = [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in images]
    for image in listed:
        picture(root / "val" / image["file_name"])
    content = {"images": listed, "annotations": annotations, "categories": options.get("categories", CATEGORIES)}
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return str(root)


def mask_set(root: Path) -> str:
    picture(root / "images" / "a.png")
    mask = np.zeros((H, W), dtype=np.uint8)
    mask[5:15, 4:23] = 255
    mask[5, 4] = 0
    (root / "masks").mkdir()
    Image.fromarray(mask).save(root / "masks" / "a.png")
    return str(root)


# ------------------------------------------------------------------------------------------------------------- layouts


def test_voc_objects_in_pixels_difficult_ones_included(tmp_path):
    voc = voc_set(
        tmp_path,
        {"a": thing("dog", (11, 4, 20, 15), 1) + thing("cat", (1, 1, 40, 30)), "b": thing("cat", (5, 5, 5, 9))},
    )
    data = open_detection_data([voc])
    assert (data.classes, data.metric, data.has_masks) == (("cat", "dog"), "voc", False)
    found = data.objects(0)
    assert found.boxes.tolist() == [[10, 3, 20, 15], [0, 0, 40, 30]]
    assert found.boxes.dtype == np.float64
    assert found.labels.tolist() == [1, 0]
    assert found.difficult.tolist() == [True, False]
    assert found.areas.tolist() == [120, 1200]
    assert found.masks is None
    assert len(data.objects(1)) == 0
    assert data.trainable() == [0]
    truth = data.truth()
    assert [image["id"] for image in truth["images"]] == [1, 2]
    assert truth["images"][0] == {"id": 1, "file_name": "JPEGImages/a.jpg", "width": W, "height": H}
    assert truth["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert truth["annotations"][0] == {
        **entry(1, 1, [10, 3, 10, 12], 2),
        "area": 120,
        "iscrowd": 0,
        "difficult": 1,
    }
    assert truth["annotations"][1]["difficult"] == 0
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
    data = open_detection_data([coco_set(tmp_path, written)])
    assert data.classes == ("bee", "wasp", "ant"), "by the categories' numbers"
    assert (data.category_ids, data.image_ids) == ((3, 5, 9), (7, 21))
    assert (data.metric, data.has_masks) == ("coco", True)
    found = data.objects(0, masks=True)
    assert found.boxes.tolist() == [[4, 5, 24, 15], [0, 10, 1, 30]]
    assert found.labels.tolist() == [0, 1]
    assert found.crowd.tolist() == [False, True]
    assert found.areas.tolist() == [12.5, 20]
    assert found.masks.sum(axis=(1, 2)).tolist() == [200, 20]
    assert data.trainable() == [0], "a picture with a crowd and boxes without area only is none to train on"
    assert len(data.objects(1)) == 1
    assert "annotation 80 (image 21), annotation 81 (image 21)" in caplog.text
    truth = data.truth()
    assert truth["annotations"] == written
    assert truth["categories"] == sorted(CATEGORIES, key=lambda category: category["id"])
    assert truth["images"][0] == {"id": 7, "file_name": "7.png", "width": W, "height": H}


def test_a_box_beyond_the_border_is_clipped_and_one_of_no_width_there_is_left_out(tmp_path):
    data = open_detection_data([coco_set(tmp_path, [entry(1, 7, [-5, 20, 50, 20]), entry(2, 7, [W - 1e-7, 3, 9, 4])])])
    assert data.objects(0).boxes.tolist() == [[0, 20, W, H]]
    assert [a["bbox"] for a in data.truth()["annotations"]] == [[-5, 20, 50, 20], [W - 1e-7, 3, 9, 4]]


def test_what_coco_leaves_out_is_filled_in(tmp_path):
    """Neither areas nor iscrowd, and numbers from 0, which COCO's evaluation takes for "no match"."""
    data = open_detection_data([coco_set(tmp_path, [entry(0, 7, [1, 2, 3, 4]), entry(1, 21, [2, 2, 5, 4], 9)])])
    assert not data.has_masks
    assert data.objects(0).areas.tolist() == [12]
    assert data.truth()["annotations"] == [
        {**entry(1, 7, [1, 2, 3, 4]), "area": 12, "iscrowd": 0},
        {**entry(2, 21, [2, 2, 5, 4], 9), "area": 20, "iscrowd": 0},
    ]


def test_a_turned_picture_has_upright_boxes_masks_and_truth(tmp_path):
    """A quarter to the right: what is at the upper left goes to the upper right."""
    box, outline = [4, 5, 20, 10], [[4, 5, 24, 5, 24, 15, 4, 15]]
    coco = coco_set(tmp_path / "c", [entry(71, 7, box, area=12.5, segmentation=outline)])
    voc = voc_set(tmp_path / "v", {"a": thing("bee", (5, 6, 24, 15))})
    picture(tmp_path / "c" / "val" / "7.png", orientation=6)
    picture(tmp_path / "v" / "JPEGImages" / "a.jpg", orientation=6)
    for path in (coco, voc):
        data = open_detection_data([path])
        assert data.load(0).size == (H, W)
        np.testing.assert_allclose(data.objects(0).boxes, [[H - 15, 4, H - 5, 24]], rtol=1e-12)
        truth = data.truth()
        assert (truth["images"][0]["width"], truth["images"][0]["height"]) == (H, W)
        np.testing.assert_allclose(truth["annotations"][0]["bbox"], [H - 15, 4, 10, 20], rtol=1e-12)
    turned = open_detection_data([coco]).truth()["annotations"][0]
    assert (turned["id"], turned["image_id"], turned["category_id"], turned["area"]) == (71, 7, 3, 12.5)
    expected = np.zeros((W, H), dtype=bool)
    expected[4:24, H - 15 : H - 5] = True
    np.testing.assert_array_equal(outline_mask(turned["segmentation"], W, H), expected)


def test_masks_have_boxes_of_whole_pixels(tmp_path):
    data = open_detection_data([mask_set(tmp_path)])
    found = data.objects(0, masks=True)
    assert data.classes == ("object",)
    assert found.boxes.tolist() == [[4, 5, 23, 15]]
    assert found.areas.tolist() == [189]
    (item,) = data.truth()["annotations"]
    assert (item["bbox"], item["area"]) == ([4, 5, 19, 10], 189)
    assert item["segmentation"]["size"] == [H, W]
    np.testing.assert_array_equal(outline_mask(item["segmentation"], H, W), found.masks[0])


def test_scenes_have_all_kinds_of_objects_however_few_they_are():
    few, more = open_detection_data(["scenes:1"]), open_detection_data(["scenes:5"])
    assert few.classes == more.classes == tuple(sorted(few.classes))
    assert len(few.classes) == 10
    assert more.trainable() == [0, 1, 2, 3, 4]
    found = more.objects(2, masks=True)
    for (x0, y0, x1, y1), mask, area in zip(found.boxes.astype(int), found.masks, found.areas, strict=True):
        assert mask[y0:y1, x0:x1].sum() == mask.sum() == area
        assert mask[y0:y1, [x0, x1 - 1]].any(axis=0).all()
        assert mask[[y0, y1 - 1], x0:x1].any(axis=1).all()


# -------------------------------------------------------------------------------------------------------------- unions


def test_a_union_has_the_pictures_in_order_and_all_classes(tmp_path):
    first = voc_set(tmp_path / "07", {"a": thing("dog", (1, 1, 9, 9)), "b": thing("cat", (1, 1, 8, 8))})
    second = voc_set(tmp_path / "12", {"a": thing("bird", (2, 2, 7, 7))})
    data = open_detection_data([first, second])
    assert len(data) == 3
    assert [data.name(i) for i in range(3)] == ["JPEGImages/a.jpg", "JPEGImages/b.jpg", "JPEGImages/a.jpg"]
    assert (data.classes, data.metric) == (("bird", "cat", "dog"), "voc")
    assert [data.objects(i).labels.tolist() for i in range(3)] == [[2], [1], [0]]
    assert data.image_ids == (1, 2, 3)
    assert data.fingerprint() != open_detection_data([second, first]).fingerprint()
    with pytest.raises(IndexError):
        data.objects(3)
    coco = coco_set(tmp_path / "coco", [entry(71, 7, [4, 5, 20, 10])])
    mixed = open_detection_data([first, coco])
    assert (mixed.classes, mixed.metric) == (("ant", "bee", "cat", "dog", "wasp"), "coco")
    assert (mixed.category_ids, mixed.image_ids) == ((1, 2, 3, 4, 5), (1, 2, 3, 4))
    last = mixed.truth()["annotations"][-1]
    assert (last["image_id"], last["category_id"], last["bbox"]) == (3, 2, [4, 5, 20, 10])


def test_coco_files_of_the_same_categories_keep_order_and_numbers(tmp_path):
    one = coco_set(tmp_path / "1", [entry(1, 7, [4, 5, 20, 10])], (7,))
    two = coco_set(tmp_path / "2", [entry(1, 8, [4, 5, 20, 10], 9)], (8,))
    data = open_detection_data([one, two])
    assert (data.classes, data.category_ids, data.image_ids) == (("bee", "wasp", "ant"), (3, 5, 9), (7, 8))
    assert [(a["id"], a["image_id"], a["category_id"]) for a in data.truth()["annotations"]] == [(1, 7, 3), (2, 8, 9)]
    again = open_detection_data([one, one])
    assert again.image_ids == (1, 2), "the file's numbers would be ambiguous"
    other = coco_set(tmp_path / "3", [entry(1, 9, [1, 1, 2, 2])], (9,), categories=[{"id": 3, "name": "ant"}])
    mixed = open_detection_data([one, other])
    assert (mixed.classes, mixed.category_ids) == (("ant", "bee", "wasp"), (1, 2, 3)), "3 is a bee here, an ant there"
    assert [a["category_id"] for a in mixed.truth()["annotations"]] == [2, 1]


def test_given_classes_name_the_labels(tmp_path):
    coco = coco_set(tmp_path / "coco", [entry(71, 7, [4, 5, 20, 10], 9)])
    data = open_detection_data([coco], classes=["bee", "ant", "moth"])
    assert data.objects(0).labels.tolist() == [1]
    assert data.category_ids[:2] == (3, 9)
    truth = data.truth()
    assert truth["annotations"][0]["category_id"] == 9
    assert {c["name"] for c in truth["categories"]} == {"moth", "ant", "bee"}
    assert len({c["id"] for c in truth["categories"]}) == 3
    with pytest.raises(ValueError, match=r"coco has objects of class ant, which is none of bee, wasp"):
        open_detection_data([coco], classes=["bee", "wasp"])
    voc = voc_set(tmp_path / "voc", {"a": thing("dog", (1, 1, 9, 9))})
    with pytest.raises(ValueError, match=r"voc has objects of class dog, which is none of cat"):
        open_detection_data([voc], classes=["cat"])
    assert open_detection_data([voc], ["cat", "dog"]).objects(0).labels.tolist() == [1]


# -------------------------------------------------------------------------------------------------------------- errors


def test_what_has_no_boxes_is_named(tmp_path):
    for name in ("x/a.jpg", "y/b.jpg"):
        picture(tmp_path / "folders" / name)
    for path, known in (("folders", "in class folders"), ("folders/x", "of which nothing is known")):
        with pytest.raises(ValueError, match=rf"{path} holds images {known}, without boxes: give PASCAL VOC"):
            open_detection_data([str(tmp_path / path)])
    with pytest.raises(ValueError, match="no data set"):
        open_detection_data([])
    with pytest.raises(ValueError, match="no image has an object"):
        open_detection_data([voc_set(tmp_path / "empty", {"a": ""})])


def test_ambiguous_categories_are_named(tmp_path):
    twice = ({"id": 3, "name": "bee"}, {"id": 4, "name": "bee"})
    with pytest.raises(ValueError, match="several categories of the name bee"):
        open_detection_data([coco_set(tmp_path / "a", [], categories=twice)])
    with pytest.raises(ValueError, match="annotations of category 4, which"):
        open_detection_data([coco_set(tmp_path / "b", [entry(1, 7, [1, 1, 2, 2], 4)])])


def test_landscape_opens_no_picture_and_survives_a_damaged_one(tmp_path):
    coco = coco_set(tmp_path / "coco", [])
    picture(tmp_path / "coco" / "val" / "7.png").write_bytes(b"no picture")
    assert open_detection_data([coco]).landscape().tolist() == [True, True]
    voc = voc_set(tmp_path / "voc", {"a": thing("x", (1, 1, 3, 3)), "b": thing("x", (1, 1, 3, 3))}, size="")
    (tmp_path / "voc" / "JPEGImages" / "b.jpg").write_bytes(b"no picture")
    assert open_detection_data([voc]).landscape().tolist() == [True, False]


def test_it_can_be_sent_to_a_worker_process(tmp_path):
    data = open_detection_data([coco_set(tmp_path, [entry(71, 7, [4, 5, 20, 10])])])
    assert pickle.loads(pickle.dumps(data)).objects(0).boxes.tolist() == [[4, 5, 24, 15]]


# ---------------------------------------------------------------------------------------------- a COCO file on its own


def test_a_coco_file_is_read_without_its_pictures(tmp_path):
    coco = Path(coco_set(tmp_path, [entry(71, 7, [4, 5, 20, 10]), entry(72, 21, [1, 1, 0, 3], 5, area=7.5)]))
    for file in (coco / "val").iterdir():
        file.unlink()
    truth = truth_of_json(coco / "annotations" / "instances_val.json")
    assert [a["area"] for a in truth["annotations"]] == [200, 7.5]
    assert [a["id"] for a in truth["annotations"]] == [71, 72]
    assert {a["iscrowd"] for a in truth["annotations"]} == {0}
    assert {i["id"] for i in truth["images"]} == {7, 21}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[]", "is no COCO file of boxes"),
        ("{", "is not JSON"),
        ('{"images": [], "annotations": []}', "lacks 'categories'"),
        ("bbox", r"lacks 'bbox'"),
        ("image", "annotations are of image 8, which is not listed"),
        ("category", "annotations are of category 4, which is not listed"),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_said(tmp_path, change, message):
    item = entry(1, 8 if change == "image" else 7, [1, 1, 2, 2], 4 if change == "category" else 3)
    if change == "bbox":
        del item["bbox"]
    file = tmp_path / "truth.json"
    content = {"images": [{"id": 7}], "annotations": [item], "categories": CATEGORIES}
    file.write_text(json.dumps(content) if change.isalpha() else change)
    with pytest.raises(ValueError, match=message):
        truth_of_json(file)


# ------------------------------------------------------------------------------------------------------------ real sets


def test_the_metric_fixture(shared_data):
    truth = truth_of_json(shared_data("coco-metric-fixture") / "sampled_gts_bbox_area.json")
    assert (len(truth["images"]), len(truth["annotations"]), len(truth["categories"])) == (100, 830, 80)


def test_bccd(shared_data):
    root = shared_data("bccd-voc")
    data = open_detection_data([str(root / "ImageSets" / "Main" / f"{split}.txt") for split in ("train", "val")])
    assert (len(data), data.classes, data.metric) == (292, ("Platelets", "RBC", "WBC"), "voc")
    assert len(data.trainable()) == 292
    everything = open_detection_data([str(root)]).truth()
    assert len(everything["annotations"]) == 4886
    assert all(min(a["bbox"]) >= 0 and a["area"] > 0 for a in everything["annotations"])


def test_coco128(shared_data):
    root = shared_data("coco128")
    data = open_detection_data([str(root)])
    assert (len(data), len(data.classes), len(data.trainable())) == (128, 80, 126)
    content = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    truth = data.truth()
    by_number = {a["id"]: a for a in truth["annotations"]}
    assert by_number == {a["id"]: a for a in content["annotations"]}
    assert [c["id"] for c in truth["categories"]] == [c["id"] for c in content["categories"]]
    assert sum(data.objects(i).crowd.sum() for i in range(128)) == 10
