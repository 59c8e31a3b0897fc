"""What a data set is and what was scored of it: a digest, and why some scores are missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from plrc.analysis.scores.bootstrap import Sample
from plrc.data.sources import Annotation

Samples = Mapping[str, Sample]


class Digest:
    """SHA-256 of pictures and of what is known of them, one after another."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(
        self, image: Image.Image, annotation: Annotation | None, points: np.ndarray | None = None, label: str = ""
    ) -> None:
        """Take up one picture. points: its keypoints. label: its class, or the group of its keypoints."""
        self._sha.update(f"{image.size} {label} ".encode(errors="surrogateescape") + image.tobytes())
        if annotation is not None:
            ignored = sorted(annotation.difficult | annotation.crowd)
            self._sha.update(f"{annotation.classes} {ignored} ".encode(errors="surrogateescape"))
            self._sha.update(annotation.boxes.tobytes())
            if annotation.masks is not None:
                self._sha.update(f"{annotation.masks.shape} ".encode() + np.packbits(annotation.masks).tobytes())
        if points is not None:
            self._sha.update(f"{points.shape} ".encode() + points.tobytes())

    def hexdigest(self) -> str:
        return self._sha.hexdigest()


def missing(masks: Samples, boxes: Samples, keypoints: Samples, classes: Samples, views: Samples) -> list[str]:
    """Which measures are not scored, and in which some pictures do not count, and why: at most a line each."""
    lacking = []
    if not _asked(masks):
        some = "distance-matched AUC and mask IoU (boxes, but no masks)"
        lacking.append(some if _asked(boxes) else "AUC, mask IoU, CorLoc and region purity (no masks or boxes)")
    if not _asked(keypoints):
        lacking.append("PCK (no keypoints)")
    if not _asked(classes):
        lacking.append("k-NN (fewer than two class folders)")
    without: dict[tuple[int, str], list[str]] = {}
    nowhere: dict[tuple[int, str], list[str]] = {}
    for part in (masks, boxes, keypoints, classes, views):
        for measure, sample in part.items():
            if fewer := sample.asked - len(sample.images):
                found = without if sample.images else nowhere
                found.setdefault((fewer, sample.why), []).append(measure.split(" (")[0])
    lacking += [f"{_listed(names)} ({why})" for (_, why), names in nowhere.items()]
    lines = [f"not scored: {'; '.join(lacking)}"] if lacking else []
    if without:
        parts = (f"{fewer} in {_listed(names)} ({why})" for (fewer, why), names in without.items())
        lines.append(f"pictures that do not count: {'; '.join(parts)}")
    return lines


def left_out(reasons: Sequence[str], named: int = 3) -> str:
    """How many pictures could not be scored, and why the first could not; "" if there is none."""
    if not reasons:
        return ""
    more = f"; and {len(reasons) - named} more" if len(reasons) > named else ""
    return f"left out {len(reasons)}: {'; '.join(reasons[:named])}{more}"


def _asked(part: Samples) -> int:
    return max(sample.asked for sample in part.values())


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
