"""A file of detections: COCO's list of results, which every evaluator reads."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plrc.data.annotated.pictures import read_json

_PARTS = ("image_id", "category_id", "bbox", "score")
_REMEDY = "give the --data and split that the detections were made of"


def save_results(file: str | os.PathLike[str], results: Sequence[Mapping[str, Any]]) -> None:
    """Write results, one a line, whole or not at all. Makes the folder if need be.

    Raises:
        ValueError: a number is not finite; the file is as it was then. OSError: it cannot be written there.
    """
    file = Path(file)
    try:
        lines = [json.dumps(r, separators=(",", ":"), allow_nan=False) for r in results]
    except ValueError as error:
        raise ValueError(f"{file} is not written: a detection has a number that is not finite ({error})") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        unfinished.write_text("[" + ",\n".join(lines) + "]\n", encoding="utf-8")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


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
    images = {image["id"] for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    for number, entry in enumerate(results):
        wrong = _wrong(entry)
        if not wrong and not _known(entry["image_id"], images):
            wrong = f"is of image {entry['image_id']!r}, which the data set does not have: {_REMEDY}"
        if not wrong and not _known(entry["category_id"], categories):
            wrong = f"has category {entry['category_id']!r}, which the data set does not have: {_REMEDY}"
        if wrong:
            raise ValueError(f"{file}: entry {number} (from 0) {wrong}")
    return results


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _known(number: Any, numbers: set[Any]) -> bool:
    return isinstance(number, int | str) and not isinstance(number, bool) and number in numbers
