"""The file of detections: there and back, and what is said of a file that is no such."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plrc.detection.results import load_results, save_results

TRUTH: dict[str, Any] = {
    "images": [{"id": 5, "file_name": "a.jpg", "width": 40, "height": 30}],
    "categories": [{"id": 2, "name": "cat"}],
    "annotations": [],
}
GOOD: dict[str, Any] = {"image_id": 5, "category_id": 2, "bbox": [1.1, 2, 3.25, 4], "score": 0.1234567891}


def test_there_and_back(tmp_path: Path):
    masked = GOOD | {"segmentation": {"size": [30, 40], "counts": "abc"}}
    for results in ([], [GOOD], [GOOD, masked]):
        file = tmp_path / "new" / "detections.json"
        save_results(file, results)
        assert load_results(file, TRUTH) == results
        assert json.loads(file.read_text()) == results  # as any other tool reads it
        assert [f.name for f in file.parent.iterdir()] == ["detections.json"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "detections.json"
    save_results(file, [GOOD])
    with pytest.raises(ValueError, match=r"detections\.json is not written.*not finite"):
        save_results(file, [GOOD | {"score": float("nan")}])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            save_results(file, [])
    assert load_results(file, TRUTH) == [GOOD]
    assert [f.name for f in tmp_path.iterdir()] == ["detections.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "is not JSON"),
        ('{"annotations": []}', "is no list"),
        ("[3]", r"entry 0 .* is no object with image_id"),
    ],
)
def test_what_is_no_list_of_results(tmp_path: Path, text: str, message: str):
    file = tmp_path / "r.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"r\.json.*{message}"):
        load_results(file, TRUTH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "the score None"),
        ({"score": float("nan")}, "the score nan: expected a finite number"),
        ({"score": True}, "the score True"),
        ({"bbox": [0, 0, float("inf"), 1]}, r"the bbox \[0, 0, inf, 1\]"),
        ({"bbox": [0, 0, 1]}, r"the bbox \[0, 0, 1\]"),
        ({"bbox": [0, 0, -1, 1]}, r"the bbox \[0, 0, -1, 1\]"),
        ({"bbox": "0 0 1 1"}, "the bbox '0 0 1 1'"),
        ({"image_id": 6}, "of image 6, which the data set does not have: give the --data"),
        ({"image_id": [5]}, r"of image \[5\]"),
        ({"image_id": "5"}, "of image '5'"),
        ({"category_id": 1}, "category 1, which the data set does not have: give the --data"),
    ],
)
def test_an_entry_that_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], message: str):
    file = tmp_path / "r.json"
    file.write_text(json.dumps([GOOD, GOOD | change, GOOD | change]))
    with pytest.raises(ValueError, match=rf"r\.json: entry 1 \(from 0\) .*{message}"):
        load_results(file, TRUTH)


@pytest.mark.parametrize("part", ["image_id", "category_id", "bbox", "score"])
def test_an_entry_that_lacks_a_part(tmp_path: Path, part: str):
    file = tmp_path / "r.json"
    file.write_text(json.dumps([{k: v for k, v in GOOD.items() if k != part}]))
    with pytest.raises(ValueError, match=rf"r\.json: entry 0 \(from 0\) lacks {part}"):
        load_results(file, TRUTH)


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        load_results(tmp_path / "nowhere.json", TRUTH)
