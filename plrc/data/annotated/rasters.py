"""COCO's two ways to store a mask, polygons and run lengths, as pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def polygon_mask(polygon: Sequence[float], height: int, width: int) -> np.ndarray:
    """Pixels ``(height, width)`` bool whose centre lies in a polygon (even–odd rule).

    COCO's own code also counts pixels that the border touches, so that its masks are wider by about half a pixel.

    Args:
        polygon: x0, y0, x1, y1, …, in pixels from the left and upper border; closed by itself.
    """
    x, y = np.asarray(polygon, dtype=np.float64).reshape(-1, 2).T
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        if y0 == y1:
            continue
        (x0, y0), (x1, y1) = sorted(((x0, y0), (x1, y1)), key=lambda p: p[1])
        # Rows whose centre line i + 0.5 the edge crosses, its upper end included, its lower end not.
        rows = np.arange(max(0, int(np.ceil(y0 - 0.5))), min(height, int(np.ceil(y1 - 0.5))))
        at = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        columns = np.ceil(at - 0.5).clip(0, width).astype(np.int64)  # the first centre at or behind the crossing
        crossings[rows, columns] += 1
    return crossings.cumsum(axis=1)[:, :width] % 2 == 1


def run_length_mask(counts: Sequence[int] | str | bytes, height: int, width: int) -> np.ndarray:
    """Pixels ``(height, width)`` bool of run lengths: column by column, a run of 0 first.

    Args:
        counts: the runs, or COCO's text form of them.

    Raises:
        ValueError: the runs do not fill the picture.
    """
    runs = np.asarray(_read_runs(counts) if isinstance(counts, str | bytes) else counts, dtype=np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"the run lengths fill {runs.sum()} pixels of {height * width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _read_runs(text: str | bytes) -> list[int]:
    """Runs from COCO's text form.

    A number is written in groups of five bits, lowest first, as characters from "0" (code 48) on: bit 5 says that more
    follow, bit 4 of the last group is the sign. From the fourth number on, what is written is the difference to the
    number two before.
    """
    runs: list[int] = []
    value = shift = 0
    for code in text.encode("ascii") if isinstance(text, str) else text:
        group = code - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs
