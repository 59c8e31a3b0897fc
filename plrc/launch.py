"""What happens before the first step: do the ranks agree, where are the pictures, is there a run to go on with."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from plrc.checkpoint import FORMAT, load_checkpoint
from plrc.config import Config
from plrc.data.sources import ImageFolder, Source, open_source
from plrc.distributed import World, all_gather_objects, any_rank, broadcast_object
from plrc.settings import Settings


def check_agreement(config: Settings, here: World) -> None:
    """Stop on every rank where ranks were started with different configurations, torch releases or kinds of device."""
    mine = {**config.to_dict(), "the torch release": torch.__version__, "the kind of device": here.device.type}
    everyone = all_gather_objects(mine)
    for rank, theirs in enumerate(everyone):
        for name, value in theirs.items():
            if value != everyone[0][name]:
                raise ValueError(
                    f"ranks disagree on {name}: {everyone[0][name]!r} on rank 0, {value!r} on rank {rank}; "
                    "start every node with the same command"
                )


def check_sizes(config: Config, here: World, images: int, steps_per_epoch: int) -> None:
    groups = config.bn_groups_of_a_part(here.size)
    parts = here.size * config.accumulate * groups
    shown = f"ranks {here.size} × accumulated parts {config.accumulate} × BatchNorm groups {groups}"
    if config.batch_size % parts:
        raise ValueError(f"--batch-size {config.batch_size} must be a multiple of {parts}, that is {shown}")
    if config.batch_size // parts < 2:
        raise ValueError(
            f"--batch-size {config.batch_size} leaves BatchNorm one image at a time ({shown}): "
            f"take {2 * parts} or more, or lower --bn-groups"
        )
    if steps_per_epoch == 0:
        raise ValueError(
            f"{config.data} has {images} images, fewer than one batch of {config.batch_size}: lower --batch-size"
        )


def open_source_once(data: str, here: World) -> Source:
    """The source, listed by rank 0 alone: a million files are asked of the disk once, and all ranks see the same."""
    if not data:
        raise ValueError("--data is missing: name a folder of images, or scenes:1000 for the embedded demo scenes")
    opened: Source | None = None
    names, error = None, ""
    if here.is_main:
        try:
            opened = open_source(data)
            names = opened.names if isinstance(opened, ImageFolder) else None
        except (ValueError, OSError) as problem:
            error = str(problem)  # told to every rank, so that all stop with it
    names, error = broadcast_object((names, error))
    if error:
        raise ValueError(error)
    if opened is None:
        opened = ImageFolder(data, names) if names is not None else open_source(data)
    return opened


def fingerprint(source: Source) -> str:
    """What tells one list of images from another: a hash of their names, in order."""
    names = source.names if isinstance(source, ImageFolder) else f"{type(source).__name__} {len(source)}".encode()
    return hashlib.sha1(names).hexdigest()


def loading_processes(workers: int) -> int:
    """``--workers``, or, of -1, this rank's share of the machine's cores, at most 8."""
    if workers >= 0:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def resume(settings: Settings, here: World, images: str, data: str, kind: str = FORMAT) -> dict[str, Any] | None:
    """The checkpoint that ``--resume`` names, if anything, after a check that this run may go on from it.

    Args:
        images: the fingerprint of what is trained on. data: how it was named. kind: of the checkpoint, see
            ``plrc.checkpoint``.

    Raises:
        ValueError: there is a run and none is to be continued, or it is another one.
    """
    last = Path(settings.out) / "checkpoints" / "last.pt"
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    exists, restarted = broadcast_object(last.exists()), any_rank(restarted)
    if settings.resume in ("auto", "never") or (restarted and exists):
        if not exists:
            return None
        if settings.resume == "never" and not restarted:
            raise ValueError(f"{settings.out} already holds a run: go on with --resume auto, or choose another --out")
        file = last
    else:
        file = Path(settings.resume)
    if broadcast_object(file.is_file()) and not file.is_file():
        raise ValueError(f"there is no {file} on rank {here.rank}: put --out on a disk that all nodes share")
    saved = load_checkpoint(file, kind)
    if "optimizer" not in saved:
        raise ValueError(f"{file} holds weights alone, such as a conversion gives, and cannot be trained further")
    contradictions = settings.contradictions(saved["config"])
    if saved["images"] != images:
        contradictions.append(f"the images of {data} are not those of the saved run")
    if contradictions:
        raise ValueError(
            f"cannot resume {file}: " + "; ".join(contradictions) + ". Drop what differs, or choose another --out"
        )
    if saved["ranks"] != here.size and here.is_main:
        print(
            f"{file} is of a run with {saved['ranks']} ranks, now there are {here.size}: "
            "training goes on, but not bit for bit (some of what is random is drawn by rank)",
            file=sys.stderr,
        )
    return saved


def restore(saved: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint's state back; the number of steps already done."""
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])


class Stop:
    requested = False


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """SIGTERM (pre-emption) and Ctrl-C ask for a stop after the running step; a second Ctrl-C stops at once."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
