"""plrc detect: what it writes and prints, and bad input as one sentence with status 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from plrc.checkpoint import DETECTOR, save_checkpoint
from plrc.cli import main
from plrc.detection.design import Design
from plrc.detection.detector import Detector

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install -e '.[detection]'")

TRUTH = {
    "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}],
    "categories": [{"id": 3, "name": "cat"}],
}
RESULT = {"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "score": 0.9}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a truth, results, and an untrained detector of the scenes' classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    (tmp_path / "results.json").write_text(json.dumps([RESULT]))
    return tmp_path


def save_detector(file: Path, arch: str, classes: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    detector = Detector(Design(arch=arch, neck="fpn", classes=classes))
    content = {
        "design": detector.design.to_dict(),
        "model": detector.state_dict(),
        "test_short_side": 48,
        "longest": 64,
    }
    save_checkpoint(file, {**content, "category_ids": list(range(1, len(classes) + 1)), "step": 3}, kind=DETECTOR)


def test_results_are_measured_by_themselves(place, capsys):
    assert main(["detect", "eval", "results.json", "--data", "truth.json", "--out", "of"]) == 0
    assert "COCO, boxes  100.0  100.0  100.0" in capsys.readouterr().out
    assert json.loads((place / "of" / "evaluation.json").read_text())["boxes"]["AP"] == pytest.approx(1)
    assert sorted(f.name for f in (place / "of" / "figures").iterdir()) == ["error_types.png", "precision_recall.png"]


def test_voc_is_measured_on_request(place, capsys):
    assert main(["detect", "eval", "results.json", "--data", "truth.json", "--voc"]) == 0
    assert "VOC, 11-point" in capsys.readouterr().out
    assert (place / "runs" / f"eval-{place.name}-results" / "evaluation.json").is_file()


def test_the_official_fixture_by_the_shell(shared_data, tmp_path, capsys):
    folder = shared_data("coco-metric-fixture")
    results, truth = folder / "cocoapi_results.json", folder / "sampled_gts_bbox_area.json"
    assert main(["detect", "eval", str(results), "--data", str(truth), "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())["boxes"]
    expected = json.loads((folder / "expected.json").read_text())
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_a_detector_is_measured_and_converted_there_and_back(place, capsys):
    save_detector(place / "ours.pt", "resnet18", ("ant", "bee"))
    assert main(["detect", "convert", "ours.pt", "--to", "detectron2", "--out", "theirs.pth"]) == 0
    assert yaml.safe_load((place / "theirs.yaml").read_text())["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] == 2
    assert main(["detect", "convert", "theirs.pth", "--to", "plrc", "--out", "back.pt"]) == 0
    ours, back = (torch.load(name, weights_only=True) for name in ("ours.pt", "back.pt"))
    assert ours["design"] == back["design"]
    assert all(torch.equal(back["model"][name], tensor) for name, tensor in ours["model"].items())
    assert "theirs.yaml" in capsys.readouterr().out


def test_a_trunk_is_converted_with_a_recipe(place, capsys):
    arguments = ["--to", "detectron2", "--out", "r18.pkl", "--recipe", "coco-fpn-1x"]
    assert main(["detect", "convert", "random:resnet18", *arguments]) == 0
    recipe = yaml.safe_load((place / "r18.yaml").read_text())
    assert recipe["SOLVER"]["MAX_ITER"] == 90_000
    assert "r18.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("eval results.json --data nowhere.json", "nowhere.json"),
        ("eval nowhere.json --data truth.json", "nowhere.json"),
        ("eval truth.json --data truth.json", "truth.json is no list"),
        ("eval results.json --data scenes:2", "image_id|is of image 7, which the data set does not have"),
        ("eval results.json --data truth.json --short-side 40", "--short-side would change nothing of results"),
        ("eval random:tiny --data scenes:2", "random:tiny"),
        ("train --weights plrc:tiny --train scenes:4 --test scenes:2", "has no c4: choose the neck fpn, or a ResNet"),
        ("train --preset small --train scenes:4", "--test is missing: name a data set with boxes"),
        ("train --preset small --train scenes:4 --test scenes:2 --seeds 1", "--seeds 1 is no number of runs"),
        ("convert random:tiny --to detectron2 --out a.pkl", "tiny"),
        ("convert truth.json --to plrc --out a.pt", "truth.json"),
    ],
)
def test_bad_input_is_one_sentence(place, capsys, words, message):
    assert main(["detect", *words.split()]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"plrc detect {words.split()[0]}: ")
    assert any(part in said[-1] for part in message.split("|"))
    assert not any("Traceback" in line for line in said)
