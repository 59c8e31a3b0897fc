"""Checkpoints of a run: written whole or not at all, and read without executing anything.

Layout of a file (``torch.load(..., weights_only=True)`` reads it)::

    {"format": "plrc", "version": 1, "step": int, "epoch": float, "ranks": int, "config": {...},
     "model": {"query_encoder.…", "key_encoder.…", "queue", "queue_position"}, "optimizer": {...}}

Nothing else is needed to go on exactly: everything random is a pure function of the seed, the epoch and the step.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from plrc.files import written_whole

FORMAT, VERSION = "plrc", 1  # of a pre-training run
DETECTOR = "plrc detector"  # of a fine-tuning run, in the same layout
STEP = "plrc step"  # of a step of either that went wrong: its batch instead of the optimiser


def save_checkpoint(file: Path, content: dict[str, Any], also: Path | None = None, kind: str = FORMAT) -> None:
    """Write a checkpoint so that a kill at any moment leaves either the old file or the new one.

    Args:
        also: a second name under which this state is kept. kind: ``FORMAT``, ``DETECTOR`` or ``STEP``.

    Raises:
        OSError: it cannot be written, for want of room, say; the old file is as it was.
    """
    with written_whole(file, durable=True) as unfinished:
        try:
            with unfinished.open("wb") as stream:
                torch.save({"format": kind, "version": VERSION, **content}, stream)
        except RuntimeError as error:  # torch's own words for a write that failed
            cause = getattr(error.__context__, "errno", None) or errno.ENOSPC
            free = shutil.disk_usage(file.parent).free
            room = f"it takes {_bytes(content):,} bytes, {free:,} are free here"
            remedy = "the checkpoint before it is whole: make room, go on with --resume auto"
            raise OSError(cause, f"{os.strerror(cause)}, {room}; {remedy}") from error
        if also is not None:
            also.unlink(missing_ok=True)
            try:
                os.link(unfinished, also)  # one copy on disk: a later last.pt replaces the name, not the data
            except OSError:  # a file system without hard links
                shutil.copyfile(unfinished, also)


def _bytes(content: Any) -> int:
    if isinstance(content, torch.Tensor):
        return content.nbytes
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return sum(map(_bytes, parts))


class Writer:
    """Writes checkpoints beside the training, one at a time: ``save`` returns as soon as the state is copied.

    A context manager, whose end waits for the last one. What goes wrong is raised by the next ``save``, or at the end.
    """

    def __init__(self) -> None:
        self._pool, self._last = ThreadPoolExecutor(1), Future[None]()
        self._last.set_result(None)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        self._last.result()

    def save(self, file: Path, content: dict[str, Any], **how: Any) -> None:
        """As ``save_checkpoint``, of the content as it is now."""
        self._last.result()
        self._last = self._pool.submit(save_checkpoint, file, _copied(content), **how)


def _copied(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _copied(value) for key, value in content.items()}
    if isinstance(content, torch.Tensor):
        return content.detach().to("cpu", copy=True)
    return content


def damage(file: Path) -> str:
    """What is wrong with a file that torch wrote as a zip archive, by its checksums; nothing if it is whole.

    torch itself compares none when it reads, and may be told to write none.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            if any(part.filename.endswith("/constants.pkl") for part in parts):
                return "it is TorchScript"
            if not any(part.filename.endswith("/data.pkl") for part in parts):
                return "it is an archive, but torch.save has not written it"
            if any(part.compress_type for part in parts) or sum(p.file_size for p in parts) > file.stat().st_size:
                return "its parts are compressed or overlap, as torch never writes them"  # and terabytes to read
            changed = archive.testzip() if any(part.CRC for part in parts) else None
            # Of a part that is marked as a folder torch would give what happened to be in memory.
            changed = changed or next((part.filename for part in parts if part.external_attr & 16), None)
            return f"{changed} in it is not what was written" if changed else ""
    except FileNotFoundError:
        return "there is none"
    except Exception as error:  # on junk the reader raises almost anything
        return f"{type(error).__name__}: {error}"


def newest_whole(folder: Path) -> Path:
    """The newest whole checkpoint of a run, ``last.pt`` or one that was kept. Raises a ValueError if there is none."""
    last = folder / "last.pt"
    wrong = damage(last)
    kept = sorted(folder.glob("epoch_*.pt"), key=lambda file: (len(file.name), file.name))  # 10000 is after 9999
    for file in (last, *reversed(kept)):
        if not damage(file):
            if file != last:
                print(f"{last} cannot be used ({wrong}): going on from {file.name}", file=sys.stderr)
            return file
    raise ValueError(f"{last} cannot be used ({wrong}), and no other is whole: restore one, or choose another --out")


def with_new_names(content: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's content with the names of today: until 0.1 the backbone was called ``trunk``."""
    if not isinstance(content.get("model"), dict):
        return content
    model = {re.sub(r"^((?:query|key)_encoder\.)?trunk\.", r"\1backbone.", n): t for n, t in content["model"].items()}
    return {**content, "model": model}


def load_checkpoint(file: Path, kind: str = FORMAT) -> dict[str, Any]:
    """A checkpoint of ours, of the kind ``FORMAT``, ``DETECTOR`` or ``STEP``, tensors on the CPU.

    Raises:
        ValueError: the file is missing, damaged, or not a checkpoint that this project wrote; says which.
    """
    if not file.is_file():
        raise ValueError(f"there is no checkpoint {file}")
    if wrong := damage(file):
        raise ValueError(f"{file} cannot be read as a checkpoint, it is damaged, cut off or of another kind ({wrong})")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler, too, raises almost anything
        raise ValueError(f"{file} cannot be read as a checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("format") != kind:
        run = {FORMAT: "PLRC run", STEP: "step that was not finite"}.get(kind, "detector of ours")
        raise ValueError(f"{file} is not a checkpoint of a {run}: it has no 'format: {kind}' in it")
    if content["version"] > VERSION:
        layouts = f"layout {content['version']}, known is {VERSION}"
        raise ValueError(f"{file} was written by a newer version of PLRC ({layouts})")
    return with_new_names(content)
