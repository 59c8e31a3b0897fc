"""A file of detections: COCO's list of results, which every evaluator reads."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from plrc.data.sources import read_json

_PARTS = ("image_id", "category_id", "bbox", "score")
_REMEDY = "give the --data and split that the detections were made of"


def save_results(
    file: str | os.PathLike[str], results: Sequence[Mapping[str, Any]], about: Mapping[str, Any] | None = None
) -> None:
    """Write results, one a line, whole or not at all. Makes the folder if need be.

    Args:
        about: what they are of, written beside them (``NAME.about.json``): COCO's list has no place for it.

    Raises:
        ValueError: a number is not finite; the file is as it was then. OSError: it cannot be written there.
    """
    file = Path(file)
    try:
        lines = [json.dumps(r, separators=(",", ":"), allow_nan=False) for r in results]
    except ValueError as error:
        raise ValueError(f"{file} is not written: a detection has a number that is not finite ({error})") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    if about is not None:
        _about_file(file).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        unfinished.write_text("[" + ",\n".join(lines) + "]\n", encoding="utf-8")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def about_results(file: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``save_results`` wrote beside a file; empty of other programs' results."""
    about = _about_file(Path(file))
    return read_json(about) if about.is_file() else {}


def load_results(file: str | os.PathLike[str], truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Results of ours or of any other program: a list, each with image_id, category_id, bbox and score.

    ``bbox`` is x, y, width, height in pixels of the original picture; what else an entry has is kept.

    Args:
        truth: in COCO's format, whose images and categories the results name.

    Raises:
        ValueError: it is not such a file, or not one of this truth; names the first entry that is wrong. OSError: it
            cannot be read.
    """
    file = Path(file)
    results = read_json(file)
    if not isinstance(results, list):
        raise ValueError(f"{file} is no list: expected COCO's results, [{{{', '.join(_PARTS)}}}, …]")
    images = {image["id"]: [image.get("height"), image.get("width")] for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    for number, entry in enumerate(results):
        wrong = _wrong(entry)
        if not wrong and not _known(entry["image_id"], images):
            wrong = f"is of image {entry['image_id']!r}, which the data set does not have: {_REMEDY}"
        if not wrong and not _known(entry["category_id"], categories):
            wrong = f"has category {entry['category_id']!r}, which the data set does not have: {_REMEDY}"
        if not wrong and "segmentation" in entry:
            wrong = _wrong_mask(entry["segmentation"], images[entry["image_id"]])
        if wrong:
            raise ValueError(f"{file}: entry {number} (from 0) {wrong}")
    return results


def _about_file(file: Path) -> Path:
    return file.with_suffix(".about.json")


def _wrong(entry: Any) -> str:
    """What is wrong with an entry by itself, "" if nothing is."""
    if not isinstance(entry, dict):
        return f"is no object with {', '.join(_PARTS)}: write COCO's results"
    missing = [part for part in _PARTS if part not in entry]
    if missing:
        return f"lacks {', '.join(missing)}: write COCO's results"
    box, score = entry["bbox"], entry["score"]
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) >= 0):
        return f"has the bbox {box!r}: expected x, y, width, height, finite and in pixels"
    if not _is_number(score):
        return f"has the score {score!r}: expected a finite number"
    return ""


def _wrong_mask(mask: Any, size: list[Any]) -> str:
    """What is wrong with a mask of a picture of this height and width, "" if nothing is."""
    if not isinstance(mask, dict) or "counts" not in mask or "size" not in mask:
        return "has a segmentation that is no run lengths, {size, counts}: write those, or leave it out"
    if list(mask["size"]) != size:
        return f"has a mask of height and width {mask['size']}, and its picture has {size}: {_REMEDY}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _known(number: Any, numbers: Container[Any]) -> bool:
    return isinstance(number, int | str) and not isinstance(number, bool) and number in numbers
