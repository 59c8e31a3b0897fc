"""plrc check: each kind of finding, in folders, COCO, VOC and masks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from plrc.cli import main


def noise(file: Path, size: tuple[int, int] = (64, 48), seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def checked(table: Path, *data: Path) -> tuple[int, list[tuple[str, ...]]]:
    status = main(["check", *map(str, data), "--out", str(table)])
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return status, [tuple(row)[1:] for row in csv.reader(stream)][1:]


def test_a_folder_of_images(tmp_path, capsys):
    data = tmp_path / "photos"
    for k in range(3):
        noise(data / f"{k}.png", seed=k)
    noise(data / "slim.png", (3, 400))
    (data / "again.png").write_bytes((data / "1.png").read_bytes())
    (data / "cut.png").write_bytes((data / "2.png").read_bytes()[:900])
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
        ("same file", "again.png", "as 1.png"),
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
    noise(tmp_path / "coco" / "a.png")
    good.write_text(json.dumps(content))
    annotations[0]["iscrowd"] = "perhaps"
    bad.write_text(json.dumps(content))
    box = "".join(f"<{side}>{k}</{side}>" for k, side in enumerate(("xmin", "ymin", "xmax", "ymax"), start=1))
    xml = f"<annotation><size><width>9</width><height>9</height></size><object><name>x</name><bndbox>{box}</bndbox>"
    noise(tmp_path / "voc" / "JPEGImages" / "a.jpg")
    (tmp_path / "voc" / "Annotations").mkdir()
    (tmp_path / "voc" / "Annotations" / "a.xml").write_text(f"{xml}</object></annotation>")
    noise(tmp_path / "masks" / "images" / "a.png")
    noise(tmp_path / "masks" / "masks" / "a.png", seed=1)
    sets = [good, bad, tmp_path / "voc", tmp_path / "masks", tmp_path / "nothing"]
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
