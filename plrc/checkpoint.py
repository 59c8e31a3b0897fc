"""Checkpoints of a run: written whole or not at all, and read without executing anything.

Layout of a file (``torch.load(..., weights_only=True)`` reads it)::

    {"format": "plrc", "version": 1, "step": int, "epoch": float, "ranks": int, "config": {...},
     "model": {"query_encoder.…", "key_encoder.…", "queue", "queue_position"}, "optimizer": {...}}

Nothing else is needed to go on exactly: everything random is a pure function of the seed, the epoch and the step.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from plrc.files import written_whole

FORMAT, VERSION = "plrc", 1  # of a pre-training run
DETECTOR = "plrc detector"  # of a fine-tuning run, in the same layout


def save_checkpoint(file: Path, content: dict[str, Any], also: Path | None = None, kind: str = FORMAT) -> None:
    """Write a checkpoint so that a kill at any moment leaves either the old file or the new one.

    Args:
        also: a second name under which this state is kept. kind: ``FORMAT`` or ``DETECTOR``.
    """
    with written_whole(file, durable=True) as unfinished:
        with unfinished.open("wb") as stream:
            torch.save({"format": kind, "version": VERSION, **content}, stream)
        if also is not None:
            also.unlink(missing_ok=True)
            try:
                os.link(unfinished, also)  # one copy on disk: a later last.pt replaces the name, not the data
            except OSError:  # a file system without hard links
                shutil.copyfile(unfinished, also)


def with_new_names(content: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's content with the names of today: until 0.1 the backbone was called ``trunk``."""
    if not isinstance(content.get("model"), dict):
        return content
    model = {re.sub(r"^((?:query|key)_encoder\.)?trunk\.", r"\1backbone.", n): t for n, t in content["model"].items()}
    return {**content, "model": model}


def load_checkpoint(file: Path, kind: str = FORMAT) -> dict[str, Any]:
    """A checkpoint of ours, of the kind ``FORMAT`` or ``DETECTOR``, tensors on the CPU.

    Raises:
        ValueError: the file is missing, damaged, or not a checkpoint that this project wrote; says which.
    """
    if not file.is_file():
        raise ValueError(f"there is no checkpoint {file}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # on junk the unpickler raises almost anything
        raise ValueError(
            f"{file} cannot be read as a checkpoint; it is damaged or something else ({type(error).__name__})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != kind:
        run = "PLRC run" if kind == FORMAT else "detector of ours"
        raise ValueError(f"{file} is not a checkpoint of a {run}: it has no 'format: {kind}' in it")
    if content["version"] > VERSION:
        raise ValueError(
            f"{file} was written by a newer version of PLRC (layout {content['version']}, known is {VERSION})"
        )
    return with_new_names(content)
