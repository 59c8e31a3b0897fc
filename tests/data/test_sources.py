"""Listed files: which images a folder holds, in which order; what stands in for one that cannot be decoded."""

import logging
import os
import pickle
import sys
from pathlib import Path

import pytest
from PIL import Image

from plrc.data.images import UndecodableImage
from plrc.data.sources import ImageFolder, first_decodable, open_source
from tests.sets import placed


def jpeg(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    Image.new("RGB", size, "white").save(placed(path), "JPEG")
    return path


def names(folder: ImageFolder) -> list[str]:
    return [folder.name(i) for i in range(len(folder))]


def test_folder_is_listed_by_bytewise_order_of_paths(tmp_path, caplog):
    wanted = ["B/x.png", "Z.webp", "a-b/1.JPG", "a.jpeg", "a/10.jpg", "a/9.jpg", "a/deep/er/x.Png", "é.jpg"]
    for name in reversed(wanted):
        jpeg(tmp_path / name)
    for name in ("notes.txt", "a/x.heic", "a/deep/y.HEIC", "jpg", ".hidden.jpg", "a/._9.jpg", ".cache/x.jpg"):
        jpeg(tmp_path / name)
    (tmp_path / "folder.jpg").mkdir()
    folder = open_source(str(tmp_path))
    assert names(folder) == wanted == sorted(wanted, key=os.fsencode)
    assert "left out 4 files that are no images by their names: 2 .heic, 1 .txt, 1 without a suffix" in caplog.text
    assert folder.load(len(wanted) - 1).size == folder.size(0) == (8, 6)
    assert folder.annotation(0) is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train/n1/a.jpg", "train/n2/b.jpg", "val/n1/v.jpg", "test/t.jpg"], ["train/n1/a.jpg", "train/n2/b.jpg"]),
        (["root.jpg", "train/n1/a.jpg", "val/n1/v.jpg"], ["root.jpg", "train/n1/a.jpg", "val/n1/v.jpg"]),
        (["train/1.jpg", "val/1.jpg", "labels/1.png"], ["train/1.jpg"]),
        (["train/dog/1.jpg", "extra/1.jpg"], ["train/dog/1.jpg"]),
        (["apple/1.jpg", "train/1.jpg", "tulip/1.jpg"], ["apple/1.jpg", "train/1.jpg", "tulip/1.jpg"]),
        (["other/1.jpg", "train/notes.txt", "val/2.jpg"], ["other/1.jpg", "val/2.jpg"]),
    ],
    ids=["ImageNet", "images of its own", "flat splits", "classes", "a class named train", "no image in train"],
)
def test_train_is_the_split_or_one_class_of_many(files, expected, tmp_path, caplog):
    for name in files:
        jpeg(tmp_path / name)
    with caplog.at_level(logging.INFO, "plrc.data.sources"):
        assert names(ImageFolder(tmp_path)) == expected
    of_train = all(name.startswith("train/") for name in expected)
    assert (f"the {len(expected)} images of its train/ only" in caplog.text) == of_train


@pytest.mark.parametrize(("images", "masks"), [("images", "masks"), ("JPEGImages", "SegmentationClass")])
def test_masks_are_no_images_to_train_on(images, masks, tmp_path, caplog):
    for name in (f"{images}/a.jpg", f"{masks}/a.png", f"{masks}/deep/b.png", "more/c.png"):
        jpeg(tmp_path / name)
    assert names(ImageFolder(tmp_path)) == [f"{images}/a.jpg", "more/c.png"]
    assert f"left out what is in {masks}/" in caplog.text
    (tmp_path / images).rename(tmp_path / "others")
    assert len(ImageFolder(tmp_path)) == 4, "beside no images, masks are a class like another"


def test_links_are_followed_once(tmp_path):
    root = tmp_path / "root"
    jpeg(root / "b" / "1.jpg")
    jpeg(tmp_path / "outside" / "2.jpg")
    jpeg(tmp_path / "outside" / "deep" / "3.jpg")
    (root / "b" / "up").symlink_to(root)  # a loop
    (root / "a").symlink_to(root / "b")  # the same folder by another name, earlier in the alphabet
    (root / "c").symlink_to(tmp_path / "outside")
    (root / "d").symlink_to(tmp_path / "outside")
    (root / "e.jpg").symlink_to(tmp_path / "outside" / "2.jpg")
    (root / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    folder = ImageFolder(root)
    assert names(folder) == ["b/1.jpg", "c/2.jpg", "c/deep/3.jpg", "e.jpg", "gone.jpg", "self.jpg"]
    with pytest.raises(UndecodableImage, match=r"gone\.jpg"):
        folder.load(4)


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="file names are Unicode on this system")
def test_file_name_that_is_not_utf8(tmp_path):
    jpeg(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.jpg")))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xea.jpg")).write_bytes(b"")
    folder = ImageFolder(tmp_path)
    assert os.fsencode(folder.name(0)) == b"\xff\xe9.jpg"
    assert folder.load(0).size == (8, 6)
    with pytest.raises(UndecodableImage) as caught:
        folder.load(1)
    str(caught.value).encode("utf-8")  # what a log does with it


def test_names_are_compact_and_can_be_handed_over(tmp_path):
    for name in ("b/2.jpg", "a/1.jpg"):
        jpeg(tmp_path / name)
    listed = ImageFolder(tmp_path)
    assert listed.names == b"a/1.jpg\0b/2.jpg\0"
    jpeg(tmp_path / "c.jpg")  # not seen: the folder is not listed again
    given = pickle.loads(pickle.dumps(listed))
    assert names(given) == ["a/1.jpg", "b/2.jpg"]
    assert given.load(1).size == (8, 6)
    for beyond in (2, -1):
        with pytest.raises(IndexError):
            given.name(beyond)


def test_missing_empty_and_mistaken_folders_say_so(tmp_path):
    empty = tmp_path / "empty"
    placed(empty / "train" / "n01" / "x.tar").touch()
    for given, what in (
        (tmp_path / "nowhere", "nowhere' does not exist"),
        (jpeg(tmp_path / "a.jpg"), r"a\.jpg' is a file"),
        (empty, "empty' has no images in it"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"The folder '.*{what}: .*\.webp.*train/<class>"):
            ImageFolder(given)


def test_unlistable_subfolder_is_named_and_left_out(tmp_path, caplog, monkeypatch):
    jpeg(tmp_path / "a" / "1.jpg")
    jpeg(tmp_path / "b" / "2.jpg")
    scandir = os.scandir

    def forbidding(path: str) -> object:
        if path.endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    assert names(ImageFolder(tmp_path)) == ["a/1.jpg"]
    assert "/b: left out, it cannot be listed (Permission denied)" in caplog.text


@pytest.mark.parametrize(("data", "n"), [("scenes", 1000), ("scenes:12", 12), ("scenes:12@7", 12)])
def test_scenes_by_name(data, n):
    source = open_source(data)
    assert len(source) == n
    assert (source.load(0).tobytes() == open_source("scenes:2@0").load(0).tobytes()) == ("@7" not in data)


@pytest.mark.parametrize("data", ["scenes:", "scenes:0", "scenes:-3", "scenes:5@", "scenes@5", "scenes:5@-1"])
def test_malformed_scenes_say_what_is_accepted(data):
    with pytest.raises(ValueError, match=f"^'{data}' .*'scenes', 'scenes:N' or 'scenes:N@SEED'"):
        open_source(data)


def test_anything_else_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for data, file in (("./scenes", "scenes/a.jpg"), ("scenes-of-life", "scenes-of-life/b.jpg"), ("~/c", "c/d.jpg")):
        jpeg(tmp_path / file)
        source = open_source(data)
        assert isinstance(source, ImageFolder)
        assert names(source) == [Path(file).name]
        assert source.load(0).size == (8, 6)


def test_a_neighbour_stands_in_for_what_cannot_be_decoded(tmp_path):
    for name in ("a.jpg", "d.jpg"):
        (tmp_path / name).write_bytes(b"no")
    jpeg(tmp_path / "b.jpg", (5, 4))
    jpeg(tmp_path / "c.jpg")
    folder = ImageFolder(tmp_path)
    image, index, passed_over = first_decodable(folder, 3, folder.load)  # behind the last comes the first
    assert (image.size, index) == ((5, 4), 1)
    assert [line.split(":")[0] for line in passed_over] == ["d.jpg", "a.jpg"]
    for name in ("b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"^4 files in a row cannot be decoded, .* b\.jpg: the file is empty; c"):
        first_decodable(folder, 1, folder.load)
