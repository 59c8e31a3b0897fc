"""``plrc detect eval``: a detector on a data set, or somebody's results by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from plrc.detection.data import DetectionData, ground_truth_of_json, open_detection_data
from plrc.detection.loading import load_detector
from plrc.detection.opening import open_by_all_ranks, truth_on_rank_0
from plrc.detection.predict import predict
from plrc.detection.report import report
from plrc.detection.results import about_results, load_results, save_results
from plrc.distributed import world
from plrc.run import loading_processes


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
    workers: int,
) -> list[str]:
    """Run a detector over data sets, by all ranks, and write ``detections.json`` and what ``report`` writes.

    Returns:
        Lines to print, on rank 0; none on others.
    """
    with world() as here:
        loaded = load_detector(checkpoint, classes, short_side, longest)
        data = open_by_all_ranks(paths, here, loaded.design.classes)
        truth = truth_on_rank_0(data, here)
        network = loaded.detector.to(here.device)
        results = predict(network, data, loaded.test_short_side, loaded.longest, here, loading_processes(workers))
        if not here.is_main:
            return []
        save_results(out / "detections.json", results, data.about())
        title = f"{out.name} on {data.title}"
        voc, masks = voc or data.metric == "voc", loaded.design.masks and data.has_masks
        _, lines = report(truth, results, out, voc=voc, masks=masks, title=title, data=data, pictures=pictures)
        return lines


def results_file(file: Path, paths: Sequence[str], out: Path, *, voc: bool, pictures: int) -> list[str]:
    """Measure a file of results; of data given as one COCO JSON, the pictures need not be at hand. Lines to print.

    Raises:
        ValueError: the results are of other pictures than the data's, as far as that can be known.
    """
    about = about_results(file)
    classes = list(about["categories"].values()) if about else None
    data: DetectionData | None = None
    truth: dict[str, Any]
    if len(paths) == 1 and Path(paths[0]).suffix.lower() == ".json":
        truth = ground_truth_of_json(paths[0])
        with suppress(ValueError):  # without pictures, numbers alone
            opened = open_detection_data(paths, classes)
            data = opened if set(opened.image_ids) == {image["id"] for image in truth["images"]} else None
    else:
        data = open_detection_data(paths, classes)
        truth = data.truth()
        if about and about["pictures"] != data.fingerprint():
            raise ValueError(
                f"{file} was made of {', '.join(about['data'])}, and {', '.join(paths)} has other pictures: give those"
            )
    results = load_results(file, truth)
    voc = voc or (data is not None and data.metric == "voc")
    masks = bool(results) and all("segmentation" in r for r in results)
    masks = masks and all(a.get("segmentation") for a in truth["annotations"])
    _, lines = report(truth, results, out, voc=voc, masks=masks, title=file.name, data=data, pictures=pictures)
    return lines
