"""``plrc detections``: what detectors find in single images, beside what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchvision.transforms.v2.functional import pil_to_tensor

from plrc import figures
from plrc.analysis.features import check_device
from plrc.analysis.scores.table import aligned
from plrc.detection.data import input_size
from plrc.detection.files import LoadedDetector, load_detector
from plrc.figures import DetectedPicture
from plrc.figures.detections import judge
from plrc.pretrained.loading import checkpoint_file
from plrc.queries import Detections
from plrc.views import Drawing, Progress, list_images, note_of
from plrc.views.images import NamedImage, spread
from plrc.views.session import Session, not_taken, stamp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 20  # detections of an image that are drawn, those of the highest confidence
_ON_A_SHEET = 12  # images of all detectors together
_SIDE = 1024  # pixels of the longer side of a picture


@dataclass(eq=False, kw_only=True)
class DetectionsDrawing(Drawing):
    """``pictures``: a detector's name → what it finds in each image, in the order of the query's, at 1024 pixels."""

    pictures: dict[str, list[DetectedPicture]]


def look(query: Detections, session: Session, progress: Progress) -> DetectionsDrawing:
    """What each detector finds in each image: found objects, false detections and missed objects.

    What is right and what is false is as of ``plrc.figures.detections``, among the detections that are drawn. Arrays:
    all detections, ``(n, 6)`` float64: x0, y0, x1, y1 in pixels of the image, confidence, number of the class. Raises a
    ValueError if no detector is given, or one cannot be loaded.
    """
    if not query.detectors:
        raise ValueError("name a detector with --detector: 'plrc detect train --preset small …' trains one")
    check_device(query.device, "--device")
    query = replace(query, images=tuple(list_images(query.images, query.most)), most=None)
    named = _named(query.detectors)
    inputs: dict[str, str] = {}
    arrays: dict[str, np.ndarray] = {}
    pictures: dict[str, list[DetectedPicture]] = {}
    rows: list[dict[str, Any]] = []
    classes: dict[str, None] = {}
    for name, path in named.items():
        file = checkpoint_file(path)
        key = ("detector", path, stamp(file), query.device)
        loaded: LoadedDetector = session.once(key, partial(_load, path, query.device), network=True)
        inputs[path] = _digest(loaded.path, stamp(file))
        labels, pictures[name] = loaded.detector.architecture.classes, []
        classes |= dict.fromkeys(labels)
        for i, spec in enumerate(query.images):
            image = session.image(spec)
            at = ("found", inputs[path], query.device, image.sha256)
            found = session.once(at, partial(_detect, loaded, image))
            boxes, scores, numbers = found[:, :4], found[:, 4], found[:, 5].astype(int)
            known, small = image.annotation, image.image.copy()
            small.thumbnail((_SIDE, _SIDE))
            size = np.tile(small.size, 2)
            ratio = size / np.tile(image.image.size, 2)
            passed = [] if known is None else sorted(known.crowd | known.difficult)
            inputs |= image.inputs
            if known is not None and known.masks is None:
                objects = f"{known.classes} {passed} ".encode(errors="surrogateescape") + known.boxes.tobytes()
                inputs[f"{spec} (objects)"] = hashlib.sha256(objects).hexdigest()
            there = np.zeros((0, 4)) if known is None else known.boxes * size
            picture = DetectedPicture(
                np.asarray(small), image.name, boxes * ratio, scores, [labels[k] for k in numbers], there,
                [] if known is None else known.classes, uncounted=np.isin(np.arange(len(there)), passed),
            )  # fmt: skip
            pictures[name].append(picture)
            arrays[f"{name} {i}"] = found
            shown, kinds, missed = judge(picture, query.least, MOST)
            counts = {"drawn": len(shown), "right": kinds.count("right"), "false": kinds.count("false")}
            told = {"objects": "", "right": "", "false": "", "missed": ""} if known is None else {}
            rows.append({"image": spec, "detector": name, "objects": int(picture.counted.sum())} | counts)
            rows[-1] |= {"missed": len(missed)} | told
            progress(f"images, {name}", i + 1, len(query.images))
    occurring = {known for of in pictures.values() for picture in of for known in picture.truth_labels}
    order = [*classes, *sorted(occurring - {*classes})]
    chosen = spread(len(query.images), max(1, _ON_A_SHEET // len(named)))

    def draw() -> Figure:
        sheet = [replace(of[i], name=f"{of[i].name}, {name}") for i in chosen for name, of in pictures.items()]
        columns = len(named) if len(named) > 1 else None
        return figures.detections(sheet, columns, classes=order, least=query.least, most=MOST, note=note_of(*named))

    return DetectionsDrawing(
        query=query,
        inputs=inputs,
        arrays=arrays,
        draw=draw,
        lines=aligned([_line(name, [row for row in rows if row["detector"] == name], query) for name in named]),
        rows=rows,
        part=f"{len(chosen)} of {len(query.images)} images" if len(chosen) < len(query.images) else "",
        pictures=pictures,
    )


@lru_cache(maxsize=32)
def _digest(file: Path, _: tuple[int, int] | None) -> str:
    """Of a file that has not changed since; of a stored one every time would take longer than all else."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _load(path: str, device: str) -> LoadedDetector:
    loaded = load_detector(path)
    loaded.detector.to(device)
    return loaded


@torch.no_grad()
def _detect(loaded: LoadedDetector, image: NamedImage) -> np.ndarray:
    size = input_size(image.image.size, loaded.test_short_side, loaded.longest)
    (found,) = loaded.detector([pil_to_tensor(image.image.resize(size, 2))])  # bilinear, as in testing
    scale = np.tile(np.array(image.image.size) / np.array(size), 2)
    boxes, scores, labels = (part.cpu().double().numpy() for part in (found.boxes, found.scores, found.labels))
    return np.column_stack((boxes * scale, scores, labels))


def _named(detectors: Sequence[str]) -> dict[str, str]:
    """Name → detector: of a run its folder's, and a number behind one that two share."""
    named: dict[str, str] = {}
    for path in detectors:
        file = Path(path).absolute()
        run = file.parent.parent if file.parent.name == "checkpoints" else file
        named[not_taken(run.stem if run.is_file() else run.name, named)] = path
    return named


def _line(name: str, rows: Sequence[dict[str, Any]], query: Detections) -> list[str]:
    known = [row for row in rows if row["objects"] != ""]
    objects, right, false = (sum(row[k] for row in known) for k in ("objects", "right", "false"))
    told = [f"{sum(row['drawn'] for row in rows)} detections"]
    told += [f"{right} of {objects} objects found", f"{false} false"] * bool(known)
    return [name, *told, f"at a confidence of {query.least:.0%} or more, in {len(rows)} images"]
