"""``load_detector``: a detector from a checkpoint of ours or from a fine-tuned one of Detectron2, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plrc.checkpoint import DETECTOR, VERSION
from plrc.detection.classes import category_ids
from plrc.detection.design import Design
from plrc.detection.detector import Detector
from plrc.detection.detectron2_reading import LOADABLE, build_detector, find_tensors
from plrc.detection.filling import filled_detector
from plrc.pretrained.formats import find
from plrc.pretrained.loading import run_checkpoint
from plrc.pretrained.reading import CheckpointError, read

DETECTRON2 = "Detectron2"
SHORT_SIDE, LONGEST = 800, 1333  # pixels of the input in testing; Detectron2's default


@dataclass(frozen=True, eq=False)
class LoadedDetector:
    """A detector, fp32, on the CPU and in evaluation mode.

    Attributes:
        category_ids: K, the number of label k in results. path: the file. format: ``plrc.checkpoint.DETECTOR`` or
            ``DETECTRON2``.
        test_short_side, longest: pixels of the input pictures in testing: their short side, and at most their long one.
        note: what else is worth knowing: the steps of a run; what had to be assumed.
    """

    detector: Detector
    category_ids: tuple[int, ...]
    test_short_side: int
    longest: int
    path: Path
    format: str
    note: str

    @property
    def design(self) -> Design:
        return self.detector.design


def load_detector(
    path: str | Path,
    classes: Sequence[str] | None = None,
    test_short_side: int | None = None,
    longest: int | None = None,
) -> LoadedDetector:
    """The detector of a file, recognised by its contents; every tensor of the file is accounted for.

    Neither is anything in the file executed nor the global random generator moved.

    Args:
        path: a checkpoint of ``plrc detect train`` or the folder of its run; a fine-tuned Faster or Mask R-CNN of
            Detectron2, C4 or FPN (``.pth`` or ``.pkl``).
        classes: names of a Detectron2 file's classes in the order of labels. Without them 20 are PASCAL VOC's and 80
            are COCO's, as Detectron2 has them. A checkpoint of ours knows its own.
        test_short_side, longest: pixels of the input; the checkpoint's own if not given, 800 and 1333 of Detectron2's.

    Raises:
        CheckpointError: (a ValueError) there is no such file, it is damaged or no detector, a tensor is missing,
            unknown, of the wrong shape or not finite, it is of a BGR model, or its classes are not known.
    """
    file = Path(path)
    if file.is_dir():
        file = run_checkpoint(file)
    elif not file.exists():
        raise CheckpointError(
            f"there is no file or folder {path}: give a run of plrc detect train or a fine-tuned Detectron2 file; of a "
            f"pre-trained network plrc detect train --weights makes a detector"
        )
    content = read(file)
    if isinstance(content, dict) and content.get("format") == DETECTOR:
        detector, kind = _ours(content, file, classes), DETECTOR
        note = content.get("note") or _after("step", content)  # a converted file has a note
    else:
        tensors = find_tensors(content)
        if not tensors:
            raise _no_detector(content, file)
        names = classes or content.get("classes")  # as to_detectron2_file writes them beside the tensors
        detector, kind = build_detector(tensors, str(file), tuple(map(str, names)) if names else None), DETECTRON2
        assumed = "taken as RGB, normalised as ImageNet is, with the stride in the 3×3 convolutions"
        note = "; ".join(filter(None, (_after("iteration", content), assumed)))
    return LoadedDetector(
        detector,
        tuple(content.get("category_ids") or category_ids(detector.design.classes)),
        test_short_side or content.get("test_short_side", SHORT_SIDE),
        longest or content.get("longest", LONGEST),
        file,
        kind,
        note,
    )


def _after(what: str, content: Mapping[str, Any]) -> str:
    return f"{what} {content[what]}" if isinstance(content.get(what), int) else ""


def _ours(content: Mapping[str, Any], file: Path, classes: Sequence[str] | None) -> Detector:
    if content["version"] > VERSION:
        raise CheckpointError(
            f"{file} was written by a newer version of PLRC (layout {content['version']}, known is {VERSION}): "
            "update plrc"
        )
    try:
        design = Design.from_dict(content["design"])
        model = dict(content["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} is a detector of ours, but its design or its model cannot be read ({error}): save it anew"
        ) from error
    if classes is not None and tuple(classes) != design.classes:
        raise CheckpointError(f"{file} knows its classes, {', '.join(design.classes)}: leave other names out")
    remedy = "save it anew where it comes from, with all of its tensors"
    return filled_detector(design, model, [], str(file), str, remedy)


def _no_detector(content: object, file: Path) -> CheckpointError:
    try:
        layout = find(content, str(file)).format
    except CheckpointError:
        return CheckpointError(
            f"{file} holds no detector that is known here: {LOADABLE}; or give a checkpoint of plrc detect train"
        )
    return CheckpointError(
        f"{file} is no detector: it holds a pre-trained trunk ({layout}); make a detector of it by "
        f"plrc detect train --weights {file}"
    )
