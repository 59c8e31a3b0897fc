"""plrc check: each kind of finding, in folders, COCO, VOC and masks."""

import csv
import json
from pathlib import Path

from plrc.cli import main
from tests.sets import noise, noises, picture, placed, thing, voc_set


def checked(table: Path, *data: Path) -> tuple[int, list[tuple[str, ...]]]:
    status = main(["check", *map(str, data), "--out", str(table)])
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return status, [tuple(row)[1:] for row in csv.reader(stream)][1:]


def test_a_folder_of_images(tmp_path, capsys):
    data = noises(tmp_path / "photos", 3)
    noise(3, 400).save(data / "slim.png")
    (data / "again.png").write_bytes((data / "001.png").read_bytes())
    (data / "cut.png").write_bytes((data / "002.png").read_bytes()[:900])
    (data / "a\udcff.png").write_bytes(b"")
    (data / "b.heic").write_bytes(b"x")
    status, rows = checked(tmp_path / "found.csv", data)
    assert status == 1
    (why,) = (more for what, entry, more in rows if entry == "cut.png")
    assert why.startswith("it cannot be decoded (")
    assert sorted(rows) == [
        ("cannot be decoded", "a\udcff.png", "the file is empty"),
        ("cannot be decoded", "cut.png", why),
        ("extreme shape", "slim.png", "3 × 400"),
        ("no image by its name", ".heic", "1 files"),
        ("refused", str(data), "training would stop: 2 of 7 images cannot be decoded, more than 1%"),
        ("same file", "again.png", "as 001.png"),
    ]
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert (head, last) == (f"{data}: 7 images of which nothing is known", f"written: {tmp_path / 'found.csv'}")
    assert "  cannot be decoded          2  a\\udcff.png: the file is empty; cut.png: it cannot" in "\n".join(lines)


def test_data_sets(tmp_path, capsys):
    boxes = [[1, 1, 9, 9], None]
    annotations = [{"id": k, "image_id": 1, "category_id": 1, "bbox": box} for k, box in enumerate(boxes)]
    images = [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "ant"}]}
    good, bad = tmp_path / "coco" / "good.json", tmp_path / "coco" / "bad.json"
    picture(tmp_path / "coco" / "a.png", (64, 48))
    good.write_text(json.dumps(content))
    annotations[0]["iscrowd"] = "perhaps"
    bad.write_text(json.dumps(content))
    voc = voc_set(tmp_path / "voc", {"a": thing("x", (1, 2, 3, 4))}, size=(9, 9))
    picture(voc / "JPEGImages" / "a.jpg", (64, 48))
    for part in ("images", "masks"):
        noise(64, 48).save(placed(tmp_path / "masks" / part / "a.png"))
    sets = [good, bad, voc, tmp_path / "masks", tmp_path / "nothing"]
    status, rows = checked(tmp_path / "found.csv", *sets)
    assert status == 1
    assert [row[:2] for row in rows] == [
        ("left out: boxes that are no x, y, width and height of 0 or more", "annotation 1 (image 1)"),
        ("refused", str(bad)),
        ("refused", "JPEGImages/a.jpg"),
        ("refused", "images/a.png"),
        ("refused", str(tmp_path / "nothing")),
    ]
    why = ("annotation 0: its iscrowd is 'perhaps'", "is of 9 × 9 pixels", "is coloured", "does not exist")
    for row, said in zip(rows[1:], why, strict=True):
        assert said in row[2]
    annotations[0]["iscrowd"], annotations[1]["bbox"] = 0, [2, 2, 8, 8]
    good.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["check", str(good)]) == 0
    assert capsys.readouterr().out.endswith("nothing is wrong\n")
