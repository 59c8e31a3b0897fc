"""``plrc detect eval``: a detector on a data set, or somebody's results by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from plrc.detection.data import DetectionData, ground_truth_of_json, open_detection_data
from plrc.detection.loading import load_detector
from plrc.detection.predict import predict
from plrc.detection.report import report
from plrc.detection.results import load_results, save_results
from plrc.distributed import world
from plrc.launch import loading_processes


def detector(
    checkpoint: Path,
    paths: Sequence[str],
    out: Path,
    *,
    voc: bool,
    pictures: int,
    classes: Sequence[str] | None,
    short_side: int | None,
    longest: int | None,
    precision: str,
    workers: int,
) -> list[str]:
    """Run a detector over data sets, by all ranks, and write ``detections.json`` and what ``report`` writes.

    Returns:
        Lines to print, on rank 0; none on others.
    """
    with world() as here:
        loaded = load_detector(checkpoint, classes)
        data = open_detection_data(paths, loaded.design.classes)
        results = predict(
            loaded.detector.to(here.device),
            data,
            short_side or loaded.test_short_side,
            longest or loaded.longest,
            here,
            loading_processes(workers),
            precision,
        )
        if not here.is_main:
            return []
        save_results(out / "detections.json", results)
        title = f"{checkpoint.stem} on {data.title}"
        voc = voc or data.metric == "voc"
        _, lines = report(data.truth(), results, out, voc=voc, title=title, data=data, pictures=pictures)
        return lines


def results_file(file: Path, paths: Sequence[str], out: Path, *, voc: bool, pictures: int) -> list[str]:
    """Measure a file of results; of data given as one COCO JSON, the pictures need not be at hand. Lines to print."""
    data: DetectionData | None = None
    truth: dict[str, Any]
    if len(paths) == 1 and Path(paths[0]).suffix.lower() == ".json":
        truth = ground_truth_of_json(paths[0])
        with suppress(ValueError):  # without pictures, numbers alone
            opened = open_detection_data(paths)
            data = opened if set(opened.image_ids) == {image["id"] for image in truth["images"]} else None
    else:
        data = open_detection_data(paths)
        truth = data.truth()
    results = load_results(file, truth)
    voc = voc or (data is not None and data.metric == "voc")
    _, lines = report(truth, results, out, voc=voc, title=file.name, data=data, pictures=pictures)
    return lines
