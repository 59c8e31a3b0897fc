"""What a detector finds in a data set, what that is worth, and the files and lines that say so."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from plrc import figures
from plrc.data.coco import read_outline, whole
from plrc.data.images import UndecodableImage, printable, spread
from plrc.data.loader import make_loader
from plrc.data.sources import read_json
from plrc.detection import metrics
from plrc.detection.config import DetectEval
from plrc.detection.data import DetectionData, Sample, Samples, truth_of_json, warn_of_doubles
from plrc.detection.detector import Detector
from plrc.detection.files import load_detector
from plrc.detection.stages import Detections
from plrc.distributed import World, any_rank, broadcast_object, from_main, gather_objects, world
from plrc.files import written_whole
from plrc.run import Stop, loading_processes

_A_SHEET = 12  # images
_SHOWN_SIDE = 640  # pixels of the longer side of an image in a figure
_PARTS = ("image_id", "category_id", "bbox", "score")
_UNFINISHED = "detections.unfinished-"  # and the rank: the key of a test under way, then an image a line

Truth = Mapping[str, Any]
Results = Sequence[Mapping[str, Any]]


def detect_eval(query: DetectEval) -> list[str]:
    """``plrc detect eval``: a detector over data sets, by all ranks, or a file of results alone.

    Writes ``detections.json`` (of a detector) and what ``report`` writes. Of results, the data may be one COCO JSON
    whose images are not at hand. Returns lines to print, on rank 0; none on others. Raises a ValueError about bad
    input, and about results of other images than the data's, as far as can be known.
    """
    what, paths = Path(query.checkpoint), query.data
    out = query.folder
    query.check_place()
    if what.suffix.lower() != ".json":
        with world() as here:
            loaded = load_detector(what, query.classes, query.short_side, query.longest)
            detector, sides = loaded.detector.to(here.device), (loaded.test_short_side, loaded.longest)
            data, truth = open_test_data(paths, detector.architecture.classes)
            if here.is_main:
                warn_of_doubles(data)
            return measure(detector, data, truth, out, sides, here, query) or []
    for name in ("classes", "short_side", "longest"):
        if getattr(query, name):
            raise ValueError(f"--{name.replace('_', '-')} would change nothing of results: leave it out")
    about_file = what.with_suffix(".about.json")
    about = read_json(about_file) if about_file.is_file() else {}  # other programs' results have none
    classes = list(about["categories"].values()) if about else None
    shown: DetectionData | None = None
    if len(paths) == 1 and Path(paths[0]).suffix.lower() == ".json":
        truth = truth_of_json(paths[0])
        with suppress(ValueError):  # without images, numbers alone
            data = DetectionData(paths, classes)
            shown = data if set(data.image_ids) == {image["id"] for image in truth["images"]} else None
    else:
        shown = DetectionData(paths, classes)
        warn_of_doubles(shown)
        truth = shown.truth()
        if about and about["pictures"] != shown.fingerprint():
            made = f"{what} was made of {', '.join(about['data'])}"
            raise ValueError(f"{made}, and {', '.join(paths)} has other images: give those")
    named = about.get("categories", {})
    for category in truth["categories"]:
        then = named.get(str(category["id"]), category["name"])
        if then != category["name"]:
            now = f"category {category['id']} is {category['name']!r} in {', '.join(paths)}"
            raise ValueError(f"{now}, but {then!r} in {about_file}: give the data that was detected in, or detect anew")
    results = load_results(what, truth)
    masks = bool(results) and all(e.get("segmentation") for e in [*results, *truth["annotations"]])
    return report(truth, results, out, query.voc, masks, what.name, shown, query.pictures)


def open_test_data(paths: Sequence[str], classes: Sequence[str]) -> tuple[DetectionData, dict[str, Any]]:
    """The data, opened by rank 0 alone, and their truth, which is empty on other ranks."""
    data, truth = from_main(lambda: DetectionData(paths, classes)), dict[str, Any]()
    from_main(lambda: truth.update(data.truth()))
    return data, truth


@torch.no_grad()
def measure(
    detector: Detector,
    data: DetectionData,
    truth: Truth,
    out: Path,
    sides: tuple[int, int],
    here: World,
    options: Any,
    stop: Stop | None = None,
) -> list[str] | None:
    """Test a detector by all ranks; write ``detections.json`` and what ``report`` does; lines to print, on rank 0.

    Each image goes through the network alone and without autocast, so that neither padding nor the number of ranks
    changes anything (the kind of GPU may, in last digits: torch has convolutions in TF32 where it can). What was found
    in an image is kept at once: after an interruption the same test goes on with the others, by any number of ranks.

    Args:
        sides: of the input, pixels: the short one, and at most the long one. options: with ``workers``, ``pictures``
            and perhaps ``voc``, as of ``report``. stop: None is returned once it is requested.
    """
    key, begun, found_in = from_main(lambda: _key(detector, data, sides)), dict[int, Any](), dict[int, Any]()
    from_main(lambda: begun.update(_begun(out, key)))
    left = broadcast_object([i for i in range(len(data)) if i not in begun])
    mine = [[(0, i)] for i in left[here.rank :: here.size]]
    if begun:
        logging.getLogger(__name__).warning("note: %d of %d images were tested before", len(begun), len(data))
    samples, workers = Samples(data, sides[:1], sides[1]), loading_processes(options.workers)
    loader = make_loader(samples, mine, workers, here.device, list)
    detector.eval()
    hidden = None if here.is_main else True  # None: where there is no terminal
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{_UNFINISHED}{here.rank}"
    # Another node may have a disk of its own, with what another test left.
    ours = file.is_file() and file.read_text(errors="replace").startswith(key)
    with file.open("a" if ours else "w") as kept:
        kept.write(f"{key}\n" * (not ours))
        for [sample] in tqdm(loader, total=len(mine), unit="image", desc="testing", disable=hidden, leave=False):
            if stop and stop.requested:
                break
            [found] = detector([sample.image.to(here.device, non_blocking=True)])
            found_in[sample.number] = _results(found, sample, data)
            kept.write(f"{json.dumps([sample.number, found_in[sample.number]])}\n")
            kept.flush()
    if any_rank(stop is not None and stop.requested):
        return None
    everything = begun | {number: results for part in gather_objects(found_in) for number, results in part.items()}
    if not here.is_main:
        return []
    results = [result for number in sorted(everything) for result in everything[number]]
    save_results(out / "detections.json", results, data.about())
    for file in out.glob(f"{_UNFINISHED}*"):
        file.unlink()
    masks, title = detector.architecture.masks and data.has_masks, f"{out.name} on {data.title}"
    return report(truth, results, out, getattr(options, "voc", False), masks, title, data, options.pictures)


def _key(detector: Detector, data: DetectionData, sides: tuple[int, int]) -> str:
    """Tells a test from others."""
    what = detector.architecture, data.fingerprint(), data.image_ids, data.category_ids, sides
    key = hashlib.sha256(repr(what).encode(errors="surrogateescape"))
    for tensor in detector.state_dict().values():
        key.update(tensor.cpu().contiguous().numpy().tobytes())
    return key.hexdigest()


def _begun(out: Path, key: str) -> dict[int, list[dict[str, Any]]]:
    """What the same test found before it was interrupted, by the number of the image. What another one left goes."""
    found = dict[int, list[dict[str, Any]]]()
    for file in out.glob(f"{_UNFINISHED}*"):
        first, *lines = file.read_text(errors="replace").split("\n")
        if first != key:
            file.unlink()
            continue
        for line in lines:
            with suppress(ValueError, TypeError):  # the last one may be cut off
                found |= [json.loads(line)]
    return found


def _results(found: Detections, sample: Sample, data: DetectionData) -> list[dict[str, Any]]:
    """What was found in an image, as COCO's results have it."""
    (width, height), (h, w) = sample.original_size, sample.image.shape[1:]
    boxes = found.boxes.float().cpu() * torch.tensor([width / w, height / h, width / w, height / h])
    columns = (part.tolist() for part in (boxes, found.labels, found.scores))
    results: list[dict[str, Any]] = [
        {
            "image_id": data.image_ids[sample.number],
            "category_id": data.category_ids[label],
            "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
            "score": round(score, 6),
        }
        for (x0, y0, x1, y1), label, score in zip(*columns, strict=True)
    ]
    if found.masks is not None:
        for result, runs in zip(results, masks_to_rle(found.masks, boxes, width, height), strict=True):
            result["segmentation"] = runs
    return results


def masks_to_rle(masks: Tensor, boxes: Tensor, width: int, height: int) -> list[dict[str, Any]]:
    """Paste masks into the image, and encode them.

    A pixel belongs to the object if the bilinear sample of the mask at its centre reaches one half; outside the mask is
    0, so that a mask full of ones ends at the box (Mask R-CNN; He et al., ICCV 2017; as Detectron2 pastes).

    Args:
        masks: ``(n, M, M)`` float, probabilities of the cells of each box. boxes: ``(n, 4)`` float, x0, y0, x1, y1 in
            pixels of the original image. width, height: of that image, in pixels.

    Returns:
        ``{"size": [height, width], "counts": str}`` for each, ready for JSON; of a box without area an empty mask.
    """
    found = []
    for mask, (x0, y0, x1, y1) in zip(masks.double().cpu().numpy(), boxes.double().cpu().tolist(), strict=True):
        whole = np.zeros((height, width), dtype=np.uint8, order="F")
        left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
        right, bottom = min(width, math.ceil(x1)), min(height, math.ceil(y1))
        if x1 > x0 and y1 > y0 and right > left and bottom > top:
            # Bilinear weights are a product of a row's and a column's: two small matrices instead of a grid of points.
            rows, columns = _weights(top, bottom, y0, y1, len(mask)), _weights(left, right, x0, x1, len(mask))
            whole[top:bottom, left:right] = rows @ mask @ columns.T >= 0.5
        found.append(metrics.run_lengths(whole))
    return found


def _weights(first: int, end: int, low: float, high: float, cells: int) -> np.ndarray:
    """``(end − first, cells)``: what each cell of [low, high] counts at the centres of pixels first … end − 1."""
    at = (np.arange(first, end) + 0.5 - low) * (cells / (high - low)) - 0.5  # cell k has its centre at k
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(cells)))


def save_results(file: Path, results: Results, about: Mapping[str, Any] | None = None) -> None:
    """Write COCO's list of results, which every evaluator reads: one a line, whole or not at all.

    about: what they are of, written beside them (``NAME.about.json``): COCO's list has no place for it. Raises a
    ValueError if a number is not finite.
    """
    try:
        lines = [json.dumps(r, separators=(",", ":"), allow_nan=False) for r in results]
    except ValueError as error:
        raise ValueError(f"{file} is not written: a detection has a number that is not finite ({error})") from error
    with written_whole(file) as unfinished:
        unfinished.write_text("[" + ",\n".join(lines) + "]\n", encoding="utf-8")
    if about is not None:
        with written_whole(file.with_suffix(".about.json")) as unfinished:
            unfinished.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load_results(file: Path, truth: Truth) -> list[dict[str, Any]]:
    """Results of ours or of any other program: a list, each with image_id, category_id, bbox and score.

    ``bbox`` is x, y, width, height in pixels of the original image; what else an entry has is kept. Raises a ValueError
    if it is not such a file, or not one of this truth's images and categories; it names the first entry that is wrong.
    """
    results = read_json(file)
    if not isinstance(results, list):
        raise ValueError(f"{file} is no list: expected COCO's results, [{{{', '.join(_PARTS)}}}, …]")
    images = {image["id"]: [image.get("height"), image.get("width")] for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    for number, entry in enumerate(results):
        if isinstance(entry, dict):  # numbers may be written as text, or as 1.0
            ids = {part: whole(entry.get(part)) for part in ("image_id", "category_id")}
            entry |= {part: value for part, value in ids.items() if value is not None}
        if wrong := _wrong(entry, images, categories):
            raise ValueError(f"{file}: entry {number} (from 0) {wrong}")
    return results


def _wrong(entry: Any, images: Mapping[Any, list[Any]], categories: set[Any]) -> str:
    if missing := [part for part in _PARTS if not isinstance(entry, dict) or part not in entry]:
        return f"lacks {', '.join(missing)}: write COCO's results"
    box, score = entry["bbox"], entry["score"]
    numbers = [*box, score] if isinstance(box, list) else []
    finite = all(type(value) in (int, float) and math.isfinite(value) for value in numbers)
    if len(numbers) != 5 or not finite or min(box[2:]) < 0:
        return f"has the bbox {box!r} and the score {score!r}: expected [x, y, width, height] in pixels, and finite"
    remedy = "give the --data and split that the detections were made of"
    for what, known in (("image", images), ("category", categories)):
        value = entry[f"{what}_id"]
        if type(value) not in (int, str) or value not in known:
            return f"is of {what} {value!r}, which the data set does not have: {remedy}"
    mask, size = entry.get("segmentation"), images[entry["image_id"]]
    if "segmentation" in entry and not (isinstance(mask, dict) and "counts" in mask and mask.get("size") == size):
        return f"has a segmentation that is no run lengths, {{size, counts}}, of the image's size {size}: {remedy}"
    try:
        read_outline(mask or [[]], None, None)
    except (TypeError, ValueError) as error:
        return f"has a segmentation that cannot be read, {error}: have it written again"
    return ""


def evaluate(truth: Truth, results: Results, voc: bool = False, masks: bool = False) -> dict[str, Any]:
    """Measure results against the truth, both in COCO's format.

    Args:
        voc: also by PASCAL VOC's rules. masks: also by the masks of objects and results.

    Returns:
        ``images``, ``objects`` (to be found: without difficult ones and crowd regions) and ``detections``, numbers;
        ``boxes`` and ``masks`` of ``coco_metrics``, with the ``objects`` of each class; ``voc`` of ``voc_metrics``;
        ``errors`` of ``error_types``, of boxes.
    """
    names = {c["id"]: str(c["name"]) for c in truth["categories"]}
    wanted = [names[a["category_id"]] for a in truth["annotations"] if not metrics.ignored(a)]
    found: dict[str, Any] = {"images": len(truth["images"]), "objects": len(wanted), "detections": len(results)}
    for part, kind in (("boxes", "bbox"), ("masks", "segm"))[: 1 + masks]:
        found[part] = metrics.coco_metrics(truth, results, kind)
        for name, numbers in found[part]["classes"].items():
            numbers["objects"] = wanted.count(name)
    if voc:
        found["voc"] = metrics.voc_metrics(truth, results)
    return {**found, "errors": metrics.error_types(truth, results)}


def by_rule(found: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of an evaluation by each rule that it was made by."""
    coco = {f"COCO, {part}": found[part] for part in ("boxes", "masks") if part in found}
    return coco | {f"VOC, {rule}": numbers for rule, numbers in found.get("voc", {}).items()}


def table(found: Mapping[str, Any]) -> list[str]:
    """What ``evaluate`` found, in per cent: AP, by size, recall, classes, errors; – where there is no object."""
    rules = by_rule(found)
    coco = {rule: numbers for rule, numbers in rules.items() if rule.startswith("COCO")}
    blocks = (
        (("", "AP", "AP50", "AP75"), rules, metrics.NUMBERS[:3]),
        (("AP by size", "small", "medium", "large"), coco, metrics.NUMBERS[3:6]),
        (("recall (AR)", "1", "10", "100", "small", "medium", "large"), coco, metrics.NUMBERS[6:]),
    )
    parts = [[list(head), *([k, *(_percent(n[m]) for m in keys)] for k, n in of.items())] for head, of, keys in blocks]
    head = ["class", "objects", "AP", "AP50", *(["masks AP", "masks AP50"] if "masks" in found else [])]
    parts.append([[*head, *(f"AP50 {rule}" for rule in found.get("voc", {}))]])
    for name, numbers in found["boxes"]["classes"].items():
        wanted = ((of["classes"][name], ("AP", "AP50") if rule in coco else ("AP50",)) for rule, of in rules.items())
        shares = (of_class[m] for of_class, keys in wanted for m in keys)
        parts[-1].append([name, str(numbers["objects"]), *map(_percent, shares)])
    lost, counts = found["errors"]["lost"], found["errors"]["counts"]
    errors = [[kind, _percent(lost[kind]), str(counts[kind])] for kind in metrics.KINDS]
    parts.append([["error at IoU 0.5", "AP50 lost", "count"], *errors])
    lines = [f"{found['objects']} objects in {found['images']} images, {found['detections']} detections; per cent"]
    for rows in parts:
        first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines += ["", *("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)]) for row in rows)]
    return lines


def report(
    truth: Truth, results: Results, out: Path, voc: bool, masks: bool, title: str, data: DetectionData | None = None,
    pictures: int = 0,
) -> list[str]:  # fmt: skip
    """Evaluate results; write ``evaluation.json``, ``evaluation.txt`` and ``figures/`` into a folder; lines to print.

    Args:
        truth, results: in COCO's format. voc: also by PASCAL VOC's rules, as always of data in its layout. masks: also
            by the masks. title: of the figures. data: the images, where they are at hand; ``pictures`` of them are
            drawn with what was found.
    """
    found = evaluate(truth, results, voc or (data is not None and data.metric == "voc"), masks)
    lines = table(found)
    for name, text in (("json", json.dumps(_plain(found), indent=1)), ("txt", "\n".join(lines))):
        with written_whole(out / f"evaluation.{name}") as unfinished:
            unfinished.write_text(f"{text}\n", encoding="utf-8")
    drawn = {}
    if found["objects"]:
        classes, errors = found["boxes"]["classes"], found["errors"]
        curves, ap50 = ({name: c[part] for name, c in classes.items()} for part in ("precision", "AP50"))
        drawn["precision_recall"] = figures.precision_recall(curves, ap50, title)
        drawn["error_types"] = figures.error_types(errors["lost"], errors["counts"], errors["AP50"], title)
    if data is not None and pictures:
        shown = _detected(data, results, pictures)
        for start in range(0, len(shown), _A_SHEET):
            name = f"detections_{1 + start // _A_SHEET}" if len(shown) > _A_SHEET else "detections"
            drawn[name] = figures.detections(shown[start : start + _A_SHEET], classes=data.classes, note=title)
    for name, figure in drawn.items():
        figures.save(figure, out / "figures" / f"{name}.png")
    written = ["evaluation.json", "evaluation.txt", *(f"figures/{name}.png" for name in drawn)]
    return [*lines, "", "written: " + ", ".join(str(out / file) for file in written)]


def _plain(found: Any) -> Any:
    """For JSON: without arrays, None for NaN."""
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items() if not isinstance(value, np.ndarray)}
    return None if isinstance(found, float) and math.isnan(found) else found


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{round(100 * value, 1) + 0.0:.1f}"  # no -0.0


def _detected(data: DetectionData, results: Results, count: int) -> list[figures.DetectedPicture]:
    """``count`` images, evenly over the data, with what was found and what there is."""
    names, shown = dict(zip(data.category_ids, data.classes, strict=True)), []
    for i in spread(len(data), count):
        try:
            image, objects = data.load(i), data.objects(i)
        except UndecodableImage:  # the numbers are known, and did not need it
            continue
        width = image.width
        image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        scale = image.width / width
        here = [r for r in results if r["image_id"] == data.image_ids[i]]
        masks = [_mask(r["segmentation"], image.size) for r in here if isinstance(r.get("segmentation"), dict)]
        boxes = np.array([r["bbox"] for r in here], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = (boxes * scale, np.array([r["score"] for r in here]), [names[r["category_id"]] for r in here])
        there = (objects.boxes * scale, [data.classes[k] for k in objects.labels])
        drawn = np.stack(masks) if here and len(masks) == len(here) else None
        name, uncounted = printable(data.name(i)), objects.crowd | objects.difficult
        shown.append(figures.DetectedPicture(np.asarray(image), name, *found, *there, drawn, uncounted))
    return shown


def _mask(runs: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """A mask ``(H, W)`` bool at the size (width, height) of the image in the figure."""
    whole = metrics.coco_api().mask.decode(metrics.text_runs(runs))
    return np.asarray(Image.fromarray(whole * 255).resize(size)) >= 128
