"""plrc.detection.look: what detectors find in single images, in the image's own pixels, beside what is there."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from plrc.checkpoint import DETECTOR, save_checkpoint
from plrc.detection.detector import Architecture, Detector
from plrc.detection.stages import Detections as Found
from plrc.queries import Detections
from plrc.views import Session, draw, open_image, replay
from tests.sets import placed

SCENE = open_image("scenes#12")
CLASSES = tuple(sorted(set(SCENE.annotation.classes)))


class Oracle(nn.Module):
    """Finds all objects of the scene but the last one; and the first one twice."""

    architecture = SimpleNamespace(classes=CLASSES)

    def forward(self, images: list[Tensor]) -> list[Found]:
        (image,) = images
        assert image.dtype == torch.uint8
        height, width = image.shape[1:]
        known = SCENE.annotation
        order = [*range(len(known.boxes) - 1), 0]
        boxes = torch.from_numpy(known.boxes[order]) * torch.tensor([width, height, width, height])
        labels = torch.tensor([CLASSES.index(known.classes[i]) for i in order])
        scores = torch.linspace(0.9, 0.6, len(order))
        return [Found(boxes, scores, labels)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a detector that knows the scene by heart."""
    (file := placed(tmp_path / "known" / "checkpoints" / "last.pt")).write_bytes(b"weights")
    loaded = SimpleNamespace(detector=Oracle(), test_short_side=100, longest=10**6, path=file)
    monkeypatch.setattr("plrc.detection.look.load_detector", lambda path: loaded)
    return tmp_path / "known"


def test_found_false_and_missed_objects_in_pixels_of_the_image(run: Path) -> None:
    n = len(SCENE.annotation.boxes)
    session = Session(50)
    drawing = draw(Detections(images=["scenes#12"], detectors=[str(run)]), session)
    width, height = SCENE.image.size
    boxes = SCENE.annotation.boxes * [width, height, width, height]
    found = drawing.arrays["known 0"]
    np.testing.assert_allclose(found[:-1, :4], boxes[:-1], atol=1e-3)
    assert found[:, 4].tolist() == pytest.approx(np.linspace(0.9, 0.6, n).tolist())
    assert [CLASSES[int(k)] for k in found[:-1, 5]] == SCENE.annotation.classes[:-1]
    (row,) = drawing.rows
    assert {k: row[k] for k in ("objects", "right", "false", "missed")} == {
        "objects": n, "right": n - 1, "false": 1, "missed": 1
    }  # fmt: skip
    assert f"{n - 1} of {n} objects found  1 false  at a confidence of 50% or more" in drawing.lines[0]
    surer = draw(Detections(images=["scenes#12"], detectors=[str(run)], least=0.65), session)
    assert surer.rows[0]["false"] == 0
    assert surer.arrays["known 0"].tolist() == found.tolist(), "all of them"
    texts = {text.get_text() for axes in surer.figure.axes for text in axes.texts}
    assert any(text.endswith("90 %") for text in texts)


def test_two_detectors_on_photos_and_again_from_the_recipe(tmp_path: Path) -> None:
    for k, name in enumerate(("a", "b")):
        torch.manual_seed(k)
        made = Architecture(arch="tiny", neck="fpn", classes=("cup", "dog"))
        content = {"step": 5, "architecture": made.to_dict(), "test_short_side": 64, "longest": 100, "optimizer": {}}
        content |= {"category_ids": [1, 2], "model": Detector(made).state_dict()}
        save_checkpoint(tmp_path / name / "checkpoints" / "last.pt", content, kind=DETECTOR)
    both = tuple(str(tmp_path / name) for name in "ab")
    drawing = draw(Detections(images=["sample:china", "scenes#3"], detectors=both, least=0.2))
    assert list(drawing.pictures) == ["a", "b"]
    known = len(open_image("scenes#3").annotation.boxes)
    assert [row["objects"] for row in drawing.rows] == ["", known, "", known]
    assert replay(drawing.save(tmp_path / "d")[2])[1] == []
    with pytest.raises(ValueError, match="name a detector with --detector"):
        draw(Detections(images=["scenes#3"]))
