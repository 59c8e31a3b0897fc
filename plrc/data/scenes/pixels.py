"""Where pixels lie: their centres, and where a window meets the picture."""

from __future__ import annotations

import numpy as np

Patch = tuple[slice, slice]  # rows, columns


def centres(start: int, n: int, origin: float, unit: float) -> np.ndarray:
    """Coordinates (n,) of the n pixel centres from pixel `start` on, in lengths of `unit` pixels from `origin`."""
    return ((np.arange(start, start + n) + 0.5 - origin) / unit).astype(np.float32)


def overlap(corner: tuple[int, int], window: tuple[int, ...], picture: tuple[int, ...]) -> tuple[Patch, Patch]:
    """Where a window meets the picture: (slices of the picture, slices of the window), empty where it does not.

    `corner`: (top, left) of the window, which may lie outside the picture; `window`, `picture`: (height, width).
    """
    ours, its = zip(*(_span(*axis) for axis in zip(corner, window, picture, strict=True)), strict=True)
    return (ours[0], ours[1]), (its[0], its[1])


def _span(start: int, n: int, n_picture: int) -> tuple[slice, slice]:
    first = min(max(start, 0), n_picture)
    last = max(min(start + n, n_picture), first)
    return slice(first, last), slice(first - start, last - start)
