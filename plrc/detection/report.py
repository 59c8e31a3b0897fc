"""The files and lines that an evaluation leaves behind: numbers, curves, errors, and pictures of detections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plrc import figures
from plrc.detection.coco_api import coco_api
from plrc.detection.data import DetectionData
from plrc.detection.evaluate import Evaluation, evaluate

_A_SHEET = 12  # pictures
_SHOWN_SIDE = 640  # pixels of the longer side of a picture in a figure


def report(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    out: Path,
    *,
    voc: bool,
    masks: bool,
    title: str,
    data: DetectionData | None = None,
    pictures: int = 0,
) -> tuple[Evaluation, list[str]]:
    """Evaluate results and write ``evaluation.json``, ``evaluation.txt`` and ``figures/`` into a folder.

    Args:
        truth, results: in COCO's format. voc: also by PASCAL VOC's rules. masks: also by the masks. title: of
            the figures. data: the pictures, where they are at hand; ``pictures`` of them are drawn with what was found.

    Returns:
        The evaluation, and lines to print.
    """
    found = evaluate(truth, results, voc=voc, masks=masks)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(found.summary(), indent=1) + "\n")
    (out / "evaluation.txt").write_text(found.table() + "\n")
    written = [out / "evaluation.json", out / "evaluation.txt"]
    drawn = {}
    if any(found.objects.values()):
        drawn["precision_recall"] = figures.precision_recall(found.boxes.precision, found.boxes.class_AP50, title)
        drawn["error_types"] = figures.error_types(found.errors.lost, found.errors.counts, found.errors.AP50, title)
    if data is not None and pictures:
        examples = _examples(data, results, pictures)
        for start in range(0, len(examples), _A_SHEET):
            name = f"detections_{1 + start // _A_SHEET}" if len(examples) > _A_SHEET else "detections"
            drawn[name] = figures.detections(examples[start : start + _A_SHEET], classes=data.classes, note=title)
    for name, figure in drawn.items():
        written.append(out / "figures" / f"{name}.png")
        figures.save(figure, written[-1])
    return found, [*found.lines, "", "written: " + ", ".join(str(file) for file in written)]


def _examples(data: DetectionData, results: Sequence[Mapping[str, Any]], count: int) -> list[figures.DetectedPicture]:
    """``count`` pictures, evenly over the data, with what was found and what there is."""
    found: dict[Any, list[Mapping[str, Any]]] = {number: [] for number in data.image_ids}
    for result in results:
        found[result["image_id"]].append(result)
    names = dict(zip(data.category_ids, data.classes, strict=True))
    examples = []
    for i in sorted({int(i) for i in np.linspace(0, len(data) - 1, min(count, len(data)))}):
        image = data.load(i)
        width = image.width
        image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        scale = image.width / width
        objects, here = data.objects(i), found[data.image_ids[i]]
        masks = [_mask(r["segmentation"], image.size) for r in here if isinstance(r.get("segmentation"), dict)]
        boxes = np.array([r["bbox"] for r in here], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        examples.append(
            figures.DetectedPicture(
                image=np.asarray(image),
                name=data.name(i),
                boxes=boxes * scale,
                scores=np.array([r["score"] for r in here], dtype=np.float64),
                labels=[names[r["category_id"]] for r in here],
                masks=np.stack(masks) if here and len(masks) == len(here) else None,
                truth_boxes=objects.boxes * scale,
                truth_labels=[data.classes[k] for k in objects.labels],
                uncounted=objects.crowd | objects.difficult,
            )
        )
    return examples


def _mask(run_lengths: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """A mask ``(H, W)`` bool at the size (width, height) of the picture in the figure."""
    counts = run_lengths["counts"]
    whole = coco_api().mask.decode(
        {**run_lengths, "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
    )
    return np.asarray(Image.fromarray(whole * 255).resize(size)) >= 128
