"""Data sets that several ranks open: each reads them for itself, and all must have found the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from plrc.data.sources import UndecodableImage
from plrc.detection.data import DetectionData, open_detection_data
from plrc.distributed import World, all_gather_objects, broadcast_object


def open_by_all_ranks(paths: Sequence[str], here: World, classes: Sequence[str] | None = None) -> DetectionData:
    """``open_detection_data`` on every rank; what it leaves out is named on rank 0 alone.

    Raises:
        ValueError, OSError: what that raises; the ranks have found different pictures.
    """
    readers = logging.getLogger("plrc.data")
    before = readers.level
    if not here.is_main:
        readers.setLevel(logging.ERROR)
    try:
        data = open_detection_data(paths, classes)
    finally:
        readers.setLevel(before)
    everyone = all_gather_objects((len(data), data.fingerprint()))
    for rank, (count, fingerprint) in enumerate(everyone):
        if fingerprint != everyone[0][1]:
            raise ValueError(
                f"{', '.join(paths)} has {everyone[0][0]} pictures on rank 0 and {count}, or others, on rank {rank}: "
                "give every node the same copy of the data"
            )
    return data


def truth_on_rank_0(data: DetectionData, here: World) -> dict[str, Any]:
    """``data.truth()`` where it is needed, on rank 0; empty on others.

    Raises:
        ValueError: an annotation does not fit its picture, or a picture cannot be opened; on every rank.
    """
    truth: dict[str, Any] = {}
    error = ""
    if here.is_main:
        try:
            truth = data.truth()
        except (ValueError, UndecodableImage) as problem:
            error = str(problem)  # told to every rank, so that all stop with it
    error = broadcast_object(error)
    if error:
        raise ValueError(error)
    return truth
