"""plrc.views.images: what a name on the command line stands for, upright, with its own objects."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from plrc.data.scenes import Scenes
from plrc.options import Point
from plrc.views.images import innermost, list_images, mask_files, open_image, points_in_frame, region_raster, spread
from tests.sets import noise, placed


def test_a_name_that_is_not_utf8_can_be_drawn(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    file = (tmp_path / "plain.png").rename(tmp_path / "caf\udce9.png")
    assert open_image(str(file)).name == r"caf\udce9"


def test_the_hash_is_of_the_pixels_and_the_size(tmp_path):
    noise(8, 6).save(tmp_path / "a.png")
    noise(8, 6).save(tmp_path / "b.bmp")
    Image.fromarray(np.asarray(noise(8, 6)).reshape(8, 6, 3)).save(tmp_path / "c.png")
    a, b, c = (open_image(str(tmp_path / name)).sha256 for name in ("a.png", "b.bmp", "c.png"))
    assert a == b != c


def test_a_scene_and_a_sample():
    picture, scenes = open_image("scenes#3"), Scenes(n=4)
    assert picture.name == "scene 3"
    assert np.array_equal(picture.pixels, np.asarray(scenes.load(3)))
    assert np.array_equal(picture.masks, scenes.annotation(3).masks)
    assert picture.classes == scenes.annotation(3).classes
    assert open_image("scenes:4#3").sha256 == picture.sha256
    assert open_image("scenes:4@7#3").sha256 != picture.sha256
    assert (open_image("sample:china").name, open_image("sample:china").image.size) == ("china", (640, 427))


def test_a_picture_of_a_data_set_has_its_own_mask(masked):
    for i in range(3):
        picture = open_image(f"{masked}#{i}")
        assert picture.name == f"p{i}"
        assert np.array_equal(picture.pixels, np.asarray(noise(96, 64, i)))
        rows, columns = picture.masks[0].nonzero()
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8 + 8 * i, 39 + 8 * i, 16 * i, 16 * i + 39)
        assert picture.classes == ["object"]


def test_what_is_no_picture_is_said(photos, masked):
    (photos / "text.jpg").write_text("no picture")
    (masked / "masks" / "p1.png").write_bytes(b"")
    wrong = {
        "nowhere.png": "nowhere.png: there is no such file; give an image, a folder, scenes#0",
        "sample:chinna": "no such file; did you mean 'sample:china'?",
        str(photos / "a.pgn"): "did you mean '.*/a.png'?",
        str(photos.with_name(f"{photos.name}s") / "a.png"): "did you mean '.*/a.png'?",
        str(photos): "name one image, not a folder",
        str(photos / "text.jpg"): r"text\.jpg cannot be shown: not a JPEG",
        "scenes:4#4": r"there are the images scenes:4#0 … scenes:4#3",
        "nowhere#3": "nowhere#3: nowhere does not exist",
        f"{masked}#3": "there are the images",
        f"{masked}#1": r"masks/p1\.png\) cannot be shown: the file is empty",
        "scenes:0#0": "names no scenes",
    }
    for spec, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            open_image(spec)


def test_listing(photos, masked):
    noise(9, 9).save(placed(photos / "deep" / "d.webp"))
    files = [str(photos / name) for name in ("a.png", "b.jpg", "c.jpg", "deep/d.webp")]
    assert list_images([str(photos)]) == files
    found = list_images(["scenes:2", files[1], str(masked), "scenes#7"])
    assert found == ["scenes:2#0", "scenes:2#1", files[1], *(f"{masked}#{i}" for i in range(3)), "scenes#7"]
    assert list_images([str(photos)], most=2) == [files[0], files[2]]
    assert list_images(["scenes", files[0]], most=3) == ["scenes#0", "scenes#333", "scenes#666", files[0]]
    assert [spread(3, most) for most in (None, 3, 9)] == 3 * [[0, 1, 2]]
    assert spread(10, 4) == [0, 2, 5, 7]


def test_a_split_of_two_is_named_by_its_file(tmp_path):
    for number, split in enumerate(("a", "b")):
        Image.new("RGB", (20 + number, 9)).save(tmp_path / f"{split}.png")
        content = {"images": [{"id": 1, "file_name": f"{split}.png"}], "annotations": [], "categories": []}
        placed(tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="name one, such as"):
        list_images([str(tmp_path)])
    file = f"{tmp_path}/annotations/instances_b.json"
    assert list_images([file]) == [f"{file}#0"]
    assert open_image(f"{file}#0").image.size == (21, 9)


def test_a_picture_of_a_folder_that_is_broken_is_named_and_left_out(photos, masked, caplog):
    (photos / "b.jpg").write_bytes((photos / "b.jpg").read_bytes()[:900])  # its header is whole
    (photos / "empty.png").touch()
    (masked / "images" / "p1.png").write_bytes(b"junk")
    with caplog.at_level(logging.WARNING):
        assert list_images([str(photos)]) == [str(photos / "a.png"), str(photos / "c.jpg")]
        assert list_images([str(masked)]) == [f"{masked}#0", f"{masked}#2"]
    first, second = caplog.messages
    assert "left out 2 images that cannot be decoded: b.jpg: " in first
    assert "empty.png: the file is empty" in first
    assert "images/p1.png: not a JPEG" in second


def test_nothing_to_list_is_said(tmp_path):
    with pytest.raises(ValueError, match="no image to look at"):
        list_images([])
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"none of 1 images can be decoded, among them a\.png: the file is empty"):
        list_images([str(tmp_path)])


def test_the_innermost_point_lies_deepest_in_an_object():
    mask = np.zeros((60, 100), bool)
    mask[20:41, 50:91] = True  # 41 × 21 pixels
    mask[10:20, 88:91] = True
    x, y = innermost(mask)
    assert y == pytest.approx(30.5 / 60)
    assert 60.5 / 100 <= x <= 80.5 / 100


def test_points_as_shares_and_as_pixels(tmp_path):
    noise(80, 40).save(tmp_path / "wide.png")
    picture = open_image(str(tmp_path / "wide.png"))
    found = points_in_frame([Point(0.25, 0.5), Point(20, 20, "px"), Point(80, 40, "px")], picture)
    assert found.tolist() == [[0.25, 0.5], [0.25, 0.5], [1, 1]]
    assert points_in_frame([], picture).shape == (0, 2)
    for point in ((40, 41, "px"), (81, 2, "px"), (-1, 2, "px")):
        with pytest.raises(ValueError, match="lies outside wide, which has 80 × 40 pixels"):
            points_in_frame([Point(*point)], picture)


def test_regions_of_a_picture(masked):
    picture = open_image(f"{masked}#1")
    assert region_raster(picture, "grid:3").tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert torch.equal(region_raster(picture, "objects") == 1, torch.from_numpy(picture.masks[0]))
    # The masks of a picture that is named by its number are those of its file.
    own = region_raster(picture, f"masks:{masked / 'masks'}")
    assert torch.equal(own, region_raster(picture, "objects"))
    with pytest.raises(ValueError, match="its objects are not known; name other regions, such as grid:4"):
        region_raster(open_image(str(masked / "images" / "p1.png")), "objects")
    with pytest.raises(ValueError, match="'stripes' is not known: write grid:N, superpixels:K, masks:DIR or objects"):
        region_raster(picture, "stripes")


def save_mask(file, split):
    Image.fromarray((np.arange(8) >= split).astype(np.uint8)[None].repeat(4, 0)).save(placed(file))


def test_masks_lie_in_folders_as_the_pictures_do(tmp_path):
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for i, name in enumerate(("a/1", "b/1", "2"), start=1):
        noise(16, 8, i).save(placed(photos / f"{name}.jpg"))
        save_mask(masks / f"{name}.png", i)
    specs, regions = list_images([str(photos)]), f"masks:{masks}"
    assert len(specs) == 3
    for spec, split in zip(sorted(specs), (3, 1, 2), strict=True):
        assert int((region_raster(open_image(spec), regions) == 0).sum()) == 4 * split
    found = mask_files(specs, regions)
    assert set(found) == {str(masks / f"{name}.png") for name in ("a/1", "b/1", "2")}
    assert len(set(found.values())) == 3
    assert mask_files(specs, "grid:4") == mask_files(specs, None) == {}
    # The folder of the pictures may be any of those above.
    save_mask(masks / "photos" / "a" / "1.png", 7)
    assert str(masks / "photos/a/1.png") in mask_files(specs, regions)
    assert int((region_raster(open_image(str(photos / "a/1.jpg")), regions) == 0).sum()) == 28


def test_two_pictures_do_not_share_a_mask(tmp_path, masked):
    save_mask(tmp_path / "masks" / "1.png", 3)
    for name in "ab":
        noise(16, 8).save(placed(tmp_path / name / "1.jpg"))
    specs, regions = [str(tmp_path / name / "1.jpg") for name in "ab"], f"masks:{tmp_path / 'masks'}"
    assert set(mask_files([specs[0], specs[0]], regions)) == {str(tmp_path / "masks" / "1.png")}
    with pytest.raises(ValueError, match=r"masks/1\.png would be the mask of both .*a/1\.jpg and .*b/1\.jpg: give"):
        mask_files(specs, regions)
    noise(16, 8).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match=r"masks/2\.png is missing"):
        region_raster(open_image(str(tmp_path / "2.png")), regions)
    # A picture by its number and by its file is one.
    assert len(mask_files([f"{masked}#1", str(masked / "images/p1.png")], f"masks:{masked / 'masks'}")) == 1


def test_superpixels_are_those_of_the_pixels(tmp_path):
    """A picture that was changed in place does not get the superpixels of the one before."""
    halves = np.zeros((40, 60, 3), np.uint8)
    halves[:, :20] = 255
    rasters = []
    for pixels in (halves, halves[:, ::-1]):
        Image.fromarray(pixels).save(tmp_path / "p.png")
        rasters.append(region_raster(open_image(str(tmp_path / "p.png")), "superpixels:6"))
    assert not torch.equal(*rasters)
