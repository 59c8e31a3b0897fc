"""plrc.data.annotated and coco: each layout as a small set made here, whose answers are known; the real sets, too."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plrc.cli import main
from plrc.data.annotated import VOC, ClassFolders, KeypointFolders, MaskFolder, layout_of, open_annotated
from plrc.data.coco import COCO, outline_mask, whole
from plrc.data.scenes import Scenes
from plrc.data.sources import ImageFolder
from plrc.registry import LAYOUTS
from tests.sets import H, W, coco_set, picture, placed, thing, voc_set, voc_split


def mask_set(root: Path, values: np.ndarray, palette: bool = False) -> MaskFolder:
    picture(root / "images" / "a.jpg", values.shape[1::-1])
    image = Image.fromarray(values)
    if palette:
        image = image.convert("P")
        image.putdata(values.flatten().tolist())
    image.save(placed(root / "masks" / "a.png"))
    return MaskFolder(root)


def two_blocks(first: int, second: int) -> np.ndarray:
    values = np.zeros((H, W), dtype=np.uint8 if max(first, second) < 256 else np.uint16)
    values[5:15, 4:24], values[20:28, 30:40] = first, second
    return values


SOFT, VOID = two_blocks(255, 255), two_blocks(3, 7)
SOFT[4, 4:24], SOFT[15, 4:24] = 100, 140
VOID[0], VOID[-1] = 255, 255


@pytest.mark.parametrize(
    ("values", "palette", "objects"),
    [
        (two_blocks(255, 255), False, [two_blocks(1, 1)]),
        (two_blocks(1, 1), False, [two_blocks(1, 1)]),
        (SOFT, False, [SOFT > 127]),
        (VOID, False, [two_blocks(1, 0), two_blocks(0, 1)]),
        (VOID, True, [two_blocks(1, 0), two_blocks(0, 1)]),
        (two_blocks(1000, 2000), False, [two_blocks(1, 0), two_blocks(0, 1)]),
        (two_blocks(0, 0), False, np.zeros((0, H, W))),
    ],
    ids=["white", "one", "soft borders", "labels and void", "palette", "16 bits", "empty"],
)
def test_objects_of_a_mask(tmp_path, values, palette, objects):
    found = mask_set(tmp_path, values, palette=palette).annotation(0)
    np.testing.assert_array_equal(found.masks, np.asarray(objects) > 0)
    extents = ((np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))) for mask in objects)
    around = [(x[0] / W, y[0] / H, (x[-1] + 1) / W, (y[-1] + 1) / H) for x, y in extents]
    np.testing.assert_array_equal(found.boxes, np.array(around, np.float32).reshape(-1, 4))
    assert (found.classes, found.difficult, found.crowd) == (["object"] * len(objects), frozenset(), frozenset())


def test_a_coloured_mask_one_of_another_size_and_images_without_are_named(tmp_path, caplog):
    colours = np.zeros((H, W, 3), dtype=np.uint8)
    colours[3:9, 3:9, 0] = 200
    with pytest.raises(ValueError, match=r"a\.png is coloured"):
        mask_set(tmp_path / "colour", colours).annotation(0)
    other = mask_set(tmp_path / "size", two_blocks(255, 255))
    picture(other.path(0), (W + 1, H))
    with pytest.raises(ValueError, match=r"a\.png is of 40 × 30 pixels .*a\.jpg has 41 × 30"):
        other.annotation(0)
    picture(tmp_path / "size" / "images" / "lonely.jpg")
    assert MaskFolder(tmp_path / "size").names == b"images/a.jpg\0"
    (told,) = caplog.messages
    assert told.endswith(": left out 1 images without a mask: lonely.jpg")
    with pytest.raises(ValueError, match="no image"):
        MaskFolder(tmp_path / "size" / "images")


def test_a_mask_of_the_stored_pixels_turns_and_one_of_the_upright_image_does_not(tmp_path):
    values = two_blocks(255, 0)
    folder = mask_set(tmp_path, values)
    picture(folder.path(0), (W, H), orientation=6)
    assert folder.size(0) == (H, W) == folder.load(0).size
    np.testing.assert_array_equal(folder.annotation(0).masks[0], np.rot90(values > 0, -1))
    picture(folder.path(0), (H, W), orientation=6)  # upright it has the mask's size
    np.testing.assert_array_equal(folder.annotation(0).masks[0], values > 0)


def test_keypoints_are_points_of_the_image_frame(tmp_path):
    picture(tmp_path / "car" / "b.png")
    picture(tmp_path / "car" / "a.png", (20, 10))
    picture(tmp_path / "duck" / "c.png")
    car = {"b.png": [[10, 15], None, [40, 30]], "a.png": [[0, 0], [5, 5], [None, 3]]}
    (tmp_path / "car" / "keypoints.json").write_text(json.dumps(car))
    (tmp_path / "duck" / "keypoints.json").write_text(json.dumps({"c.png": [[1, 2]]}))
    found = KeypointFolders(tmp_path)
    listed = [(found.name(i), found.group(i)) for i in range(3)]
    assert listed == [("car/a.png", "car"), ("car/b.png", "car"), ("duck/c.png", "duck")]
    np.testing.assert_allclose(found.keypoints(0), [[0, 0], [0.25, 0.5], [np.nan, np.nan]])
    np.testing.assert_allclose(found.keypoints(1), [[0.25, 0.5], [np.nan, np.nan], [1, 1]])
    assert (found.keypoints(0).dtype, found.annotation(0)) == (np.float32, None)
    assert KeypointFolders(tmp_path / "duck").name(0) == "c.png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", r"keypoints\.json lists no image: write file name → K × \[x, y\] or null"),
        ('{"b.png": [[1, 2]], "a.png": [[1]]}', r"keypoints\.json: the keypoints of a\.png are not K × \[x, y\]"),
        ('{"a.png": [[1, 2]], "b.png": [[1, 2], [3, 4]]}', r"have \[1, 2\] keypoints"),
        ('{"c.png": [[1, 2]]}', "lists an image that is there"),
    ],
)
def test_malformed_keypoints_are_named(tmp_path, content, message):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    (tmp_path / "keypoints.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        KeypointFolders(tmp_path)


def test_voc_boxes_count_from_one_and_include_the_last_pixel(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    cat, hard = thing("cat", (1, 1, 40, 30), "<difficult>0</difficult>"), f"<difficult>1</difficult>{part}"
    files = {"a": cat + thing("dog", (11, 4.0, 20, 15), hard), "b": "<annotation></annotation>"}
    root = voc_set(tmp_path, files | {"c": thing("cat", (0, 1, 50, 9))})
    voc_split(root, "val", "b  1\n\na -1\n")
    everything = VOC(root)
    found = everything.annotation(0)
    np.testing.assert_allclose(found.boxes, [[0, 0, 1, 1], [10 / W, 3 / H, 20 / W, 15 / H]], rtol=1e-6)
    assert (found.classes, found.difficult, found.crowd, found.masks) == (["cat", "dog"], {1}, frozenset(), None)
    assert found.boxes.dtype == np.float32
    assert everything.annotation(1).boxes.shape == (0, 4)
    np.testing.assert_allclose(everything.annotation(2).boxes, [[0, 0, 1, 9 / H]], rtol=1e-6)
    assert VOC(root, "val").names == b"JPEGImages/b.jpg\0JPEGImages/a.jpg\0", "in the list's order"
    with pytest.raises(ValueError, match=r"test\.txt is missing: the splits there are val"):
        VOC(root, "test")


@pytest.mark.parametrize(("images", "noted"), [("JPEGImages/", "Annotations/"), ("images/", "annotations/"), ("", "")])
def test_voc_in_folders_of_folders_and_under_other_names(tmp_path, caplog, monkeypatch, images, noted):
    names = ["a/1", "a/my photo 1", "b", "only an image"]
    for name in names:
        picture(tmp_path / f"{images}{name}.jpg")
        content = f"<annotation>{thing('cat', (1, 1, 9, 9))}</annotation>"
        placed(tmp_path / f"{noted}{name}.xml").write_text(content)
    (tmp_path / f"{noted}only an image.xml").unlink()
    found = open_annotated(str(tmp_path))
    assert [found.name(i) for i in range(len(found))] == [f"{images}{name}.jpg" for name in names[:3]]
    assert "left out 1 without an image or an XML file: only an image" in caplog.text
    split = voc_split(tmp_path, "val", "\ufeffa/my photo 1\r\nb.jpg  1\r\na/1 -1\nb 1\n")
    monkeypatch.chdir(split.parent)
    found = open_annotated(split.name)
    assert [found.name(i) for i in range(len(found))] == [f"{images}{names[k]}.jpg" for k in (1, 2, 0)]
    assert "left out 1 names that are listed again: b" in caplog.text


def test_xml_files_of_data_sets_further_down_make_no_voc_of_a_folder(tmp_path):
    voc_set(tmp_path / "blood", {"a": thing("cell", (1, 1, 9, 9))})
    picture(tmp_path / "photos" / "b.jpg")
    assert open_annotated(str(tmp_path)).layout == "in class folders"
    shutil.copy(tmp_path / "blood" / "Annotations" / "a.xml", tmp_path / "IMG_1.xml")
    picture(tmp_path / "IMG_1.JPG")  # as cameras name them
    assert isinstance(open_annotated(str(tmp_path)), VOC)


def test_voc_boxes_without_area_are_left_out_in_one_line(tmp_path, caplog):
    flat = {"a": (5, 5, 5, 9), "c": (9, 9, 4, 12), "e": (6, 7, 9, 7)}
    a, c, e = (thing(*of) for of in flat.items())
    objects = a + thing("b", (2, 2, 8, 8), "<difficult>1</difficult>") + c + e
    found = VOC(voc_set(tmp_path, {"a": objects, "b": thing("d", (41, 3, 44, 8))})).annotation(0)
    assert (found.classes, found.difficult) == (["b"], {0}), "numbers are of the boxes that stay"
    assert len(caplog.records) == 1
    assert "4 boxes without area: a (a at 5, 5), a (c at 9, 9), a (e at 6, 7)" in caplog.text


@pytest.mark.parametrize("content", ["<annotation>", "<object><name>x</name></object>", thing("x", ("a",) * 4)])
def test_a_malformed_xml_file_is_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"a\.xml is no PASCAL VOC annotation"):
        VOC(voc_set(tmp_path, {"a": content}))


def test_voc_boxes_of_the_stored_pixels_turn_and_those_of_another_image_are_an_error(tmp_path):
    found = VOC(voc_set(tmp_path, {"a": thing("x", (1, 1, 10, 3))}))
    picture(found.path(0), (W, H), orientation=6)  # a quarter to the right: the upper left goes to the upper right
    np.testing.assert_allclose(found.annotation(0).boxes, [[1 - 3 / H, 0, 1, 10 / W]], rtol=1e-6)
    np.testing.assert_array_equal(found.pixel_boxes(0), [[H - 3, 0, H, 10]])
    picture(found.path(0), (W, H + 1))
    with pytest.raises(ValueError, match=r"a\.xml is of 40 × 30 pixels and .*a\.jpg has 40 × 31"):
        found.annotation(0)


def instance(**changes: object) -> dict:
    outline = [[4, 5, 24, 5, 24, 15, 4, 15]]
    plain = {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 0, "bbox": [4, 5, 20, 10], "segmentation": outline}
    return plain | changes


def test_coco_boxes_polygons_and_run_lengths(tmp_path):
    counts = [2 * H + 5, 10, H * W - 2 * H - 15]  # column 2, rows 5 to 14
    crowd = instance(id=2, iscrowd=1, bbox=[2, 5, 1, 10], segmentation={"counts": counts, "size": [H, W]})
    found = COCO(coco_set(tmp_path, [instance(), crowd]))
    assert found.names == b"7.png\x0021.png\0", "by their number in the file"
    one, none = found.annotation(0), found.annotation(1)
    np.testing.assert_array_equal(one.masks[0], two_blocks(1, 0) > 0)
    assert one.masks[1].sum() == one.masks[1][5:15, 2].sum() == 10
    np.testing.assert_allclose(one.boxes, [[4 / W, 5 / H, 24 / W, 15 / H], [2 / W, 5 / H, 3 / W, 15 / H]], rtol=1e-6)
    assert (one.classes, one.crowd, one.difficult) == (["bee", "bee"], {1}, frozenset())
    assert (none.masks.shape, none.boxes.shape) == ((0, H, W), (0, 4))
    some = COCO(coco_set(tmp_path, [instance(), instance(id=2, segmentation=[])]))
    assert some.annotation(0).masks is None
    assert re.match(r"with outlines of all objects in 1 of 2 images, else boxes \(COCO: ", some.layout)
    assert some.bare == [some.name(0)]


def test_coco_boxes_without_area_and_missing_images_are_named(tmp_path, caplog):
    root = coco_set(tmp_path, [instance(id=55, bbox=[1, 1, 0, 4]), instance()])
    (root / "val" / "21.png").unlink()
    found = COCO(root)
    assert found.names == b"7.png\0"
    assert len(found.annotation(0).boxes) == 1
    assert "21.png" in caplog.text
    assert "annotation 55 (image 7)" in caplog.text


@pytest.mark.parametrize("folder", ["val", "images/val", "images", "."])
def test_coco_images_are_found(tmp_path, folder):
    assert COCO(coco_set(tmp_path, [], folder=folder)).load(0).size == (W, H)


def test_what_is_wrong_with_a_coco_set_is_said(tmp_path):
    root = coco_set(tmp_path / "c", [])
    (root / "annotations" / "instances_train2017.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has 2 files .*: name one, such as .*instances_train2017\.json"):
        COCO(root)
    assert len(COCO(root, "val")) == 2
    for file in (root / "val").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="none of its 2 images"):
        COCO(root, "val")


RLE = {"counts": [2 * H + 5, 10, H * W - 2 * H - 15], "size": [H, W]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segmentation": RLE | {"counts": [5, 5]}}, "annotation 1: its outline's run lengths do not fill its size"),
        ({"segmentation": RLE | {"counts": [2**62, 2**62]}}, "annotation 1: its outline's run lengths do not fill"),
        ({"segmentation": RLE | {"counts": "0"}}, "annotation 1: its outline's run lengths do not fill"),
        ({"segmentation": RLE | {"counts": "o" * 99}}, "annotation 1: its outline's run lengths are no text"),
        ({"segmentation": RLE | {"size": [W, H]}}, r"annotation 1: its outline is of an image of \[40, 30\]"),
        ({"segmentation": [[4, 5, float("nan"), 5, 24, 15]]}, "annotation 1: .* no pairs of finite numbers"),
        ({"segmentation": [[4, 5, 24, 5, 24, 15, 4]]}, "annotation 1: .* no pairs of finite numbers"),
        ({"segmentation": "abc"}, "annotation 1: its outline is neither polygons nor run lengths"),
        ({"iscrowd": "no"}, "annotation 1: its iscrowd is 'no', neither 0 nor 1"),
        ({"category_id": 4}, "annotation 1 is of category 4, which is not listed"),
    ],
)
def test_what_may_mean_two_things_in_a_coco_file_is_refused_before_the_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"instances_val\.json: {message}.*: correct the file"):
        COCO(coco_set(tmp_path, [instance(**changes)]))


@pytest.mark.parametrize(("count", "more"), [(3, ""), (4, " and 1 more"), (6, " and 3 more")])
def test_of_many_faults_of_a_coco_file_three_are_named(tmp_path, count, more):
    with pytest.raises(ValueError, match=rf"annotation 3 is of category 4, [^;]* not listed{more}: correct the file"):
        COCO(coco_set(tmp_path, [instance(id=k + 1, category_id=4) for k in range(count)]))


def test_areas_of_coco_are_those_of_the_file_or_of_the_outline(tmp_path):
    runs = {"counts": [2 * H + 5, 10, H - 10, 5, H * W - 3 * H - 10], "size": [H, W]}  # 10 pixels, and 5 beside them
    ways = [{"area": 0.5}, {"area": 123}, {"segmentation": runs}, {"segmentation": runs, "area": -1}]
    found = COCO(coco_set(tmp_path, [instance(id=k, **way) for k, way in enumerate(ways)]))
    assert [item["area"] for item in found.entries(0)] == [0.5, 123, 15, 15]
    assert [int(mask.sum()) for mask in found.annotation(0).masks] == [200, 200, 15, 15]


@pytest.mark.parametrize(
    ("value", "number"),
    [(7, 7), (-7, -7), ("7", 7), (" +7.00 ", 7), (7.0, 7), (2**63 - 1, 2**63 - 1), (2.0**53 - 1, 2**53 - 1)]
    + [("9" * 18, 10**18 - 1)]
    + [(value, None) for value in (7.5, "7.5", "a", "", True, None, [7], 2**63, 2.0**53, "9" * 19, float("inf"))],
)
def test_what_is_a_whole_number(value, number):
    assert whole(value) == number


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"bbox": []}, "boxes that are no x, y, width and height"),
        ({"bbox": None}, "boxes that are no x, y"),
        ({"bbox": "abc"}, "boxes that are no x, y"),
        ({"bbox": [float("nan"), 5, 20, 10]}, "boxes that are no x, y"),
        ({"bbox": [4, 5, -20, 10]}, "boxes that are no x, y"),
        ({"segmentation": [[4, 5, 24, 15]]}, "outlines without area in the image"),
        ({"segmentation": [[]]}, "outlines without area"),
        ({"segmentation": [[104, 5, 124, 5, 124, 15]]}, "outlines without area"),
        ({"image_id": 99}, "annotations of images that are not listed"),
    ],
)
def test_damaged_annotations_of_coco_are_left_out_and_named(tmp_path, caplog, changes, why):
    found = COCO(coco_set(tmp_path, [instance(), instance(id=2, **changes)]))
    assert [item["id"] for item in found.entries(0)] == [1]
    assert f"left out 1 {why}" in caplog.text
    assert "annotation 2" in caplog.text


def test_what_can_be_read_in_one_way_only_is_read(tmp_path):
    """Numbers as text, true for 1, a polygon on its own, pairs, areas that are missing, a BOM, back slashes."""
    corners, pairs = [4, 5, 24, 5, 24, 15, 4, 15], [[[4, 5], [24, 5], [24, 15], [4, 15]]]
    text = {"image_id": "7", "category_id": "3", "bbox": ["4", "5", "20", "10"], "segmentation": [[*map(str, corners)]]}
    ways = [text, {"segmentation": corners}, {"segmentation": pairs, "area": None}, {"area": "x"}, {"area": 0}]
    ways += [{"iscrowd": flag} for flag in (0, "0", 1, "1", True, None)]
    root = coco_set(tmp_path, [*(instance(id=k, **way) for k, way in enumerate(ways)), instance(id=0, **text)])
    file = root / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image |= {"file_name": f"val\\{image['file_name']}", "id": str(image["id"]), "width": None}
    del content["images"][0]["height"]
    content["categories"] = [{"id": "3", "name": "car"}, {"id": 3.0, "name": "car"}, {"id": 4, "name": "car"}]
    content["categories"][1]["id"] = "3"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    found = COCO(file)
    items, known = found.entries(0), found.annotation(0)
    assert [item["bbox"] for item in items] == [[4, 5, 20, 10]] * len(ways), "without the one that is written twice"
    assert [item["area"] for item in items] == [200] * len(ways)
    assert known.crowd == {7, 8, 9}
    np.testing.assert_array_equal(known.masks, np.stack([two_blocks(1, 0) > 0] * len(ways)))
    assert (found.categories, found.frame(0), found.frame(1)) == ({3: "car"}, (W, H), (W, H))


@pytest.mark.parametrize(
    ("ids", "names", "message"),
    [
        (("a.jpg", "b.jpg"), ("0.jpg", "1.jpg"), "the image id 'a.jpg' is no whole number"),
        ((4, 4), ("0.jpg", "1.jpg"), r"the image id 4 is that of '0\.jpg' and '1\.jpg'"),
        ((4, 5), ("0.jpg", "0.jpg"), r"images 4 and 5 are both 0\.jpg"),
        ((4, 5), ("0.jpg", 7), "the file_name of image 5 is 7"),
    ],
)
def test_images_of_coco_that_cannot_be_told_apart_are_refused(tmp_path, ids, names, message):
    listed = [{"id": number, "file_name": name} for number, name in zip(ids, names, strict=True)]
    (tmp_path / "x.json").write_text(json.dumps({"images": listed, "annotations": [], "categories": []}))
    with pytest.raises(ValueError, match=rf"x\.json: {message}"):
        COCO(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["annotations/instances_val.1@10.json", "semi.json", "annotations/a/b.json"])
def test_coco_files_of_other_names_and_places(tmp_path, name):
    """Pictures of the same names lie in another split, too, and are of another size."""
    root = coco_set(tmp_path, [instance()])
    picture(root / "train" / "7.png", (9, 9))
    (root / "annotations" / "instances_val.json").rename(placed(root / name))
    if "@" not in name:
        (root / "train" / "7.png").unlink()
    assert open_annotated(str(root / name)).load(0).size == (W, H)
    (root / "val" / "_annotations.coco.json").write_bytes((root / name).read_bytes())
    assert open_annotated(str(root / "val")).load(0).size == (W, H)


@pytest.mark.parametrize("seed", range(6))
def test_polygons_hold_the_pixels_whose_centre_is_inside(seed):
    """Against a point-in-polygon test, one pixel after another; also beyond the border and self-crossing."""
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(seed)
    angles, radii = np.sort(rng.random(9)) * 2 * np.pi, rng.uniform(3, 26, 9)  # star-shaped about the middle
    polygon = np.stack((20 + radii * np.cos(angles), 15 + radii * np.sin(angles)), axis=1)
    centres = np.stack(np.meshgrid(np.arange(W) + 0.5, np.arange(H) + 0.5), axis=-1)
    expected = Outline(np.vstack((polygon, polygon[:1]))).contains_points(centres.reshape(-1, 2)).reshape(H, W)
    np.testing.assert_array_equal(outline_mask([polygon.flatten().tolist()], H, W), expected)


def test_touching_polygons_share_no_pixel_and_leave_none():
    """A border through pixel centres belongs to one side."""
    left = outline_mask([[0, 0, 10.5, 0, 10.5, 30, 0, 30]], H, W)
    assert (left ^ outline_mask([[10.5, 0, 40, 0, 40, 30, 10.5, 30]], H, W)).all()


def test_run_lengths_as_text_are_those_that_coco_writes():
    coco = pytest.importorskip("faster_coco_eval.core.mask", reason="pip install 'plrc[detection]'")
    mask = np.random.default_rng(0).random((H, W)) < 0.2
    mask[:, 5:9], mask[0, 0] = True, True
    text = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    for counts in (text["counts"], text["counts"].decode()):
        np.testing.assert_array_equal(outline_mask({**text, "counts": counts}, H, W), mask)


@pytest.mark.parametrize("top", ["", "train"])
def test_folders_are_classes(tmp_path, top):
    picture(tmp_path / top / "cat" / "b.jpg")
    with pytest.raises(ValueError, match="one class only, cat"):
        ClassFolders(tmp_path / top)
    for name in ("cat/a.jpg", "dog/deep/c.png"):
        picture(tmp_path / top / name)
    found = ClassFolders(tmp_path)
    assert [found.label(i) for i in range(3)] == ["cat", "cat", "dog"]
    with pytest.raises(IndexError):
        found.label(3)
    picture(tmp_path / top / "b.jpg")
    with pytest.raises(ValueError, match=r"b\.jpg lies in no class folder"):
        ClassFolders(tmp_path / top)


def test_a_data_set_is_recognised_by_what_is_in_it(tmp_path, monkeypatch):
    voc_split(voc_set(tmp_path / "voc", {"a": "", "b": ""}), "val", "a\nb\n")
    coco_set(tmp_path / "coco", [])
    mask_set(tmp_path / "masks", two_blocks(255, 255))
    picture(tmp_path / "points" / "x" / "a.png")
    (tmp_path / "points" / "x" / "keypoints.json").write_text('{"a.png": [[1, 2]]}')
    for name in ("x/a.jpg", "y/b.jpg"):
        picture(tmp_path / "classes" / name)
    monkeypatch.setenv("HOME", str(tmp_path))
    boxes, outlines = "with boxes (PASCAL VOC: Annotations/, JPEGImages/)", "with outlines or boxes (COCO: annotations/"
    for path, kind, layout, n in (
        ("voc", VOC, boxes, 2),
        ("voc/ImageSets/Main/val.txt", VOC, boxes, 2),
        ("coco", COCO, f"{outlines}instances_val.json)", 2),
        ("coco/annotations/instances_val.json", COCO, f"{outlines}instances_val.json)", 2),
        ("masks", MaskFolder, "with masks (images/, masks/)", 1),
        ("points", KeypointFolders, "with keypoints (keypoints.json)", 1),
        ("classes", ClassFolders, "in class folders", 2),
        ("classes/x", ImageFolder, "of which nothing is known", 1),
    ):
        for named in (str(tmp_path / path), f"~/{path}"):
            found = open_annotated(named)
            assert (type(found), len(found), layout_of(found)) == (kind, n, layout)
            assert found.load(0).mode == "RGB"
        assert found.has_objects == (kind in (VOC, COCO, MaskFolder))
        assert hasattr(found, "keypoints") == (kind is KeypointFolders)
        assert hasattr(found, "label") == (kind is ClassFolders)
    found = open_annotated("scenes:3")
    assert (type(found), len(found), layout_of(found)) == (Scenes, 3, "with masks (rendered)")


def test_what_was_looked_for_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"holds no data set: looked for annotations/.*VOC.*masks/.*keypoints\.json"):
        open_annotated(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_annotated(str(tmp_path / "nothing"))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"holds no data set: .* a file may be a split, COCO's"):
        open_annotated(str(tmp_path / "notes.txt"))


def test_a_layout_of_ones_own_is_one_file_and_one_line(tmp_path, monkeypatch, capsys):
    """CONTRIBUTING's example: registered, it is scored, looked at and named in the help and in errors."""
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    layout, line = re.search(r"```python\n(class Halves.*?)```.*?`(LAYOUTS\.add\(.*?\))`", guide, re.DOTALL).groups()
    imports = "import numpy as np\nfrom plrc.data.sources import Annotation, ImageFiles\n"
    (tmp_path / "halves.py").write_text(imports + layout)
    for name in "ab":
        picture(tmp_path / "mine" / f"{name}.png", (64, 64))
    (tmp_path / "mine" / "halves.txt").write_text("a.png b.png")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    line = f"from plrc.registry import LAYOUTS; {line.replace('plrc.extensions.', '')}"
    script = f"{line}; from plrc.cli import main; main(['score', '--help'])"  # the help is made when it is imported
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    assert "halves.txt (left halves)" in " ".join(told.split())
    exec(line, {})
    try:
        network = "--checkpoint random:tiny --size 64"
        for command in (f"score mine {network} --out s", f"affinity mine#1 {network} --out a"):
            assert main(command.split()) == 0
        said = capsys.readouterr().out
        assert main(f"score empty {network}".split()) == 2
        assert "halves.txt (left halves)" in " ".join(capsys.readouterr().err.split())
    finally:
        del LAYOUTS["halves"]
    assert "with a left half (halves.txt)" in said
    assert "mask IoU" in said
    assert (tmp_path / "s.png").is_file()
    assert (tmp_path / "a.png").is_file()


def test_bccd(shared_data, caplog):
    found = open_annotated(str(shared_data("bccd-voc")))
    assert (type(found), len(found)) == (VOC, 364)
    assert len(caplog.records) == 1
    assert all(name in caplog.text for name in ("BloodImage_00338", "BloodImage_00343"))
    annotations = [found.annotation(i) for i in range(364)]
    assert sum(len(a.boxes) for a in annotations) == 4886
    assert {name for a in annotations for name in a.classes} == {"RBC", "WBC", "Platelets"}
    assert all((a.boxes[:, :2] < a.boxes[:, 2:]).all() for a in annotations)


def test_ecssd_and_pf_willow(shared_data):
    found = open_annotated(str(shared_data("ecssd-mini")))
    assert (type(found), len(found)) == (MaskFolder, 300)
    assert all(found.annotation(i).masks.shape == (1, *found.load(i).size[::-1]) for i in (0, 150, 299))
    found = open_annotated(str(shared_data("pf-willow-part")))
    assert (type(found), len(found)) == (KeypointFolders, 40)
    points = np.stack([found.keypoints(i) for i in range(40)])
    assert points.shape == (40, 10, 2)
    assert ((points >= 0) & (points <= 1)).all()
    np.testing.assert_allclose(points[0, 0] * found.size(0), [47.935, 98.159], rtol=1e-5)


def test_coco128(shared_data):
    found = open_annotated(str(shared_data("coco128")))
    assert (type(found), len(found)) == (COCO, 128)
    for annotation in (found.annotation(i) for i in range(0, 128, 8)):
        h, w = annotation.masks.shape[1:]
        for mask, box in zip(annotation.masks, annotation.boxes, strict=True):
            if mask.sum() >= 100:
                ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                bounds = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
                assert np.abs(bounds - box * [w, h, w, h]).max() < 3, "an outline fills its box"
