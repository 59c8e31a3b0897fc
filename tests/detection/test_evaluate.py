"""A list of results: its numbers as a file and as a table, the file itself, masks in it, and plrc detect eval."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install 'plrc[detection]'")

from plrc.cli import main
from plrc.data.coco import outline_mask
from plrc.detection.config import DetectEval
from plrc.detection.evaluate import evaluate, load_results, masks_to_rle, report, save_results, table

SQUARE = {"size": [100, 100], "counts": [1010, *[30, 70] * 29, 30, 100 * 100 - 1010 - 100 * 29 - 30]}
TRUTH: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in (1, 2)],
    "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}, {"id": 2, "name": "cow"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "segmentation": SQUARE},
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "segmentation": SQUARE},
        {"id": 3, "image_id": 1, "category_id": 3, "bbox": [10, 10, 30, 30], "area": 900, "segmentation": SQUARE},
        {"id": 4, "image_id": 2, "category_id": 3, "bbox": [50, 50, 9, 9], "difficult": 1, "segmentation": SQUARE},
    ],
}
RESULTS: list[dict[str, Any]] = [
    {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "score": 0.9, "segmentation": SQUARE},
    {"image_id": 1, "category_id": 3, "bbox": [10, 10, 30, 30], "score": 0.8, "segmentation": SQUARE},
]


def test_the_table_says_what_was_found():
    # cat: one of two found, nothing false. COCO 51/101 of the recalls, VOC's eleven points 6/11, all points 1/2.
    # dog: all found. Mean AP50: COCO 75.2, 11-point 77.3, all-point 75.0.
    assert table(evaluate(TRUTH, RESULTS, voc=True, masks=True)) == [
        "3 objects in 2 images, 2 detections; per cent",
        "",
        "                  AP  AP50  AP75",
        "COCO, boxes     75.2  75.2  75.2",
        "COCO, masks     75.2  75.2  75.2",
        "VOC, 11-point   77.3  77.3  77.3",
        "VOC, all-point  75.0  75.0  75.0",
        "",
        "AP by size   small  medium  large",
        "COCO, boxes   75.2       –      –",
        "COCO, masks   75.2       –      –",
        "",
        "recall (AR)     1    10   100  small  medium  large",
        "COCO, boxes  75.0  75.0  75.0   75.0       –      –",
        "COCO, masks  75.0  75.0  75.0   75.0       –      –",
        "",
        "class  objects     AP   AP50  masks AP  masks AP50  AP50 11-point  AP50 all-point",
        "cat          2   50.5   50.5      50.5        50.5           54.5            50.0",
        "cow          0      –      –         –           –              –               –",
        "dog          1  100.0  100.0     100.0       100.0          100.0           100.0",
        "",
        "error at IoU 0.5  AP50 lost  count",
        "classification          0.0      0",
        "localisation            0.0      0",
        "both                    0.0      0",
        "duplicate               0.0      0",
        "background              0.0      0",
        "missed                 24.8      1",
    ]


def test_the_file_has_null_for_what_is_unknown_and_nothing_of_nothing(tmp_path):
    report(TRUTH, RESULTS, tmp_path, True, True, "")
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(found) == ["images", "objects", "detections", "boxes", "masks", "voc", "errors"]
    assert (found["images"], found["objects"], found["detections"]) == (2, 3, 2)
    assert found["boxes"]["AP50"] == pytest.approx((51 / 101 + 1) / 2)
    assert found["boxes"]["AP_large"] is None
    assert found["boxes"]["classes"]["cow"] == {"AP": None, "AP50": None, "objects": 0}
    assert (tmp_path / "evaluation.txt").read_text().splitlines()[0].startswith("3 objects in 2 images")
    assert sorted(f.name for f in (tmp_path / "figures").iterdir()) == ["error_types.png", "precision_recall.png"]
    plain = evaluate(TRUTH, RESULTS)
    assert set(plain) == {"images", "objects", "detections", "boxes", "errors"}
    assert not any("VOC" in line or "mask" in line for line in table(plain))
    lines = report(TRUTH | {"annotations": []}, RESULTS, tmp_path / "empty", True, True, "")
    assert lines[3].split() == ["COCO,", "boxes", "–", "–", "–"]
    empty = json.loads((tmp_path / "empty" / "evaluation.json").read_text())
    assert empty["voc"]["11-point"]["AP50"] is empty["errors"]["lost"]["missed"] is None
    assert not (tmp_path / "empty" / "figures").exists()


# ----------------------------------------------------------------------------------------------- the file of detections


CATS: dict[str, Any] = {
    "images": [{"id": 5, "file_name": "a.jpg", "width": 40, "height": 30}],
    "categories": [{"id": 2, "name": "cat"}],
    "annotations": [],
}
GOOD: dict[str, Any] = {"image_id": 5, "category_id": 2, "bbox": [1.1, 2, 3.25, 4], "score": 0.1234567891}


def test_results_there_and_back_whole_or_not_at_all(tmp_path: Path):
    file = tmp_path / "new" / "detections.json"
    for results in ([], [GOOD], [GOOD, GOOD | {"segmentation": MASK}]):
        save_results(file, results)
        assert load_results(file, CATS) == json.loads(file.read_text()) == results  # as any other tool reads it
    with pytest.raises(ValueError, match=r"detections\.json is not written.*not finite"):
        save_results(file, [GOOD | {"score": float("nan")}])
    assert load_results(file, CATS) == results
    file.write_text(json.dumps([GOOD | {"image_id": "5", "category_id": float(GOOD["category_id"])}]))
    assert load_results(file, CATS) == [GOOD], "numbers written otherwise"
    file.write_text("[]")
    assert [f.name for f in file.parent.iterdir()] == ["detections.json"]


MASK = {"size": [30, 40], "counts": [1200]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "the score None: expected"),
        ({"score": float("nan")}, "the score nan"),
        ({"score": True}, "the score True"),
        ({"bbox": [0, 0, float("inf"), 1]}, r"the bbox \[0, 0, inf, 1\]"),
        ({"bbox": [0, 0, 1]}, r"the bbox \[0, 0, 1\]"),
        ({"bbox": [0, 0, -1, 1]}, r"the bbox \[0, 0, -1, 1\]"),
        ({"bbox": "0 0 1 1"}, "the bbox '0 0 1 1'"),
        ({"image_id": 6}, "of image 6, which the data set does not have: give the --data"),
        ({"image_id": [5]}, r"of image \[5\]"),
        ({"image_id": "x5"}, "of image 'x5'"),
        ({"segmentation": MASK | {"counts": [5]}}, "that cannot be read, its outline's run lengths do not"),
        ({"category_id": 1}, "category 1, which the data set does not have: give the --data"),
        ({"segmentation": MASK | {"size": [40, 30]}}, r"of the image's size \[30, 40\]"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "is no run lengths"),
    ],
)
def test_an_entry_that_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], message: str):
    file = tmp_path / "r.json"
    file.write_text(json.dumps([GOOD, GOOD | change, GOOD | change]))
    with pytest.raises(ValueError, match=rf"r\.json: entry 1 \(from 0\) .*{message}"):
        load_results(file, CATS)


def test_what_is_no_list_of_results(tmp_path: Path):
    file = tmp_path / "r.json"
    lacking = {json.dumps([{k: v for k, v in GOOD.items() if k != part}]): f"lacks {part}" for part in GOOD}
    others = {"[{": "is not JSON", "{}": "is no list", "[3]": "lacks image_id, category"}
    for text, message in (lacking | others).items():
        file.write_text(text)
        with pytest.raises(ValueError, match=rf"r\.json.*{message}"):
            load_results(file, CATS)


def pasted(mask: np.ndarray, box: list[float], width: int, height: int) -> np.ndarray:
    """``(height, width)`` bool, pixel by pixel: the bilinear sample of the mask, 0 beyond it, at the centre."""
    (x0, y0, x1, y1), whole = box, np.zeros((height, width), dtype=bool)
    for i, j in np.ndindex(height, width) if x1 > x0 and y1 > y0 else ():
        u, v = (j + 0.5 - x0) / (x1 - x0) * len(mask) - 0.5, (i + 0.5 - y0) / (y1 - y0) * len(mask) - 0.5
        near = [(r, c) for r in range(len(mask)) for c in range(len(mask)) if abs(v - r) < 1 and abs(u - c) < 1]
        whole[i, j] = sum(mask[r, c] * (1 - abs(v - r)) * (1 - abs(u - c)) for r, c in near) >= 0.5
    return whole


def test_masks_are_pasted_as_a_plain_loop_does():
    draw, width, height = np.random.default_rng(0), 24, 17
    masks = draw.random((12, 7, 7)).cumsum(axis=2).clip(0, 3) / 3
    corners = draw.uniform(-8, 20, (12, 2))
    boxes = np.hstack((corners, corners + draw.uniform(1, 20, (12, 2))))
    boxes[1], boxes[2], boxes[3] = [5, 5, 5, 9], [100, 100, 140, 140], [3.4, 5.6, 10.6, 9.4]  # no area, outside
    masks[3] = 1
    found = masks_to_rle(torch.tensor(masks), torch.tensor(boxes), width, height)
    assert json.loads(json.dumps(found)) == found
    for one, mask, box in zip(found, masks, boxes.tolist(), strict=True):
        np.testing.assert_array_equal(outline_mask(one, height, width), pasted(mask, box, width, height))
    assert outline_mask(found[3], height, width).sum() == 8 * 3, "centres 3.5 … 10.5 and 6.5 … 8.5"
    assert masks_to_rle(torch.zeros(0, 28, 28), torch.zeros(0, 4), 20, 20) == []


ONE_CAT = {
    "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}],
    "categories": [{"id": 3, "name": "cat"}],
}
RESULT = {"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "score": 0.9}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a truth and results."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps(ONE_CAT))
    (tmp_path / "results.json").write_text(json.dumps([RESULT]))
    return tmp_path


def test_a_folder_that_cannot_be_written_to_is_said_before_the_work(place, capsys, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert main(["detect", "eval", "no such results.json", "--data", "truth.json", "--out", "a/b"]) == 2
    assert f"--out a/b: {place} cannot be written to, name another folder" in capsys.readouterr().err


def test_results_are_measured_by_themselves(place, capsys):
    assert main(["detect", "eval", "results.json", "--data", "truth.json", "--voc"]) == 0
    out = place / "runs" / f"eval-{place.name}-results"
    said = capsys.readouterr().out
    assert "COCO, boxes     100.0  100.0  100.0" in said
    assert "VOC, 11-point" in said
    assert json.loads((out / "evaluation.json").read_text())["boxes"]["AP"] == pytest.approx(1)
    assert sorted(f.name for f in (out / "figures").iterdir()) == ["error_types.png", "precision_recall.png"]


def test_each_run_is_measured_into_a_folder_of_its_own(place):
    runs = ["lr0.02", "lr0.1"]
    for run in runs:
        (place / "runs" / run / "checkpoints").mkdir(parents=True)
    folders = [DetectEval(checkpoint=f"runs/{run}", data=("x",)).folder for run in runs]
    folders += [DetectEval(checkpoint=f"runs/{run}/checkpoints/last.pt", data=("x",)).folder for run in runs]
    assert [folder.name for folder in folders] == ["eval-lr0.02", "eval-lr0.1"] * 2


def test_results_whose_categories_have_other_names_in_the_data_are_refused(place, capsys):
    """They were measured one class for another."""
    about = {"data": ["old"], "pictures": "", "categories": {"3": "dog"}}
    (place / "results.about.json").write_text(json.dumps(about))
    assert main(["detect", "eval", "results.json", "--data", "truth.json", "--out", "of"]) == 2
    assert "category 3 is 'cat' in truth.json, but 'dog' in results.about.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("eval results.json --data nowhere.json", "nowhere.json"),
        ("eval nowhere.json --data truth.json", "nowhere.json"),
        ("eval truth.json --data truth.json", "truth.json is no list"),
        ("eval results.json --data scenes:2", "is of image 7, which the data set does not have"),
        ("eval results.json --data truth.json --short-side 40", "--short-side would change nothing of results"),
        ("eval results.json", "--data is missing"),
        ("eval random:tiny --data scenes:2", "random:tiny"),
        ("train --preset small --train scenes:4", "--test is missing: name a data set with boxes"),
        ("train --preset small --train scenes:4 --test scenes:2 --seeds 0", "--seeds must be"),
        ("convert truth.json --to plrc --out a.pt", "truth.json"),
    ],
)
def test_bad_input_is_one_sentence(place, capsys, words, message):
    assert main(["detect", *words.split()]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"plrc detect {words.split()[0]}")
    assert message in said[-1]
    assert not any("Traceback" in line for line in said)
