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

import torch

from plrc.checkpoint import load_checkpoint
from plrc.config import Config
from plrc.data.sources import ImageFolder, Source, open_source
from plrc.distributed import World, all_gather_objects, any_rank, broadcast_object
from plrc.model import PLRC


def check_agreement(config: Config, here: World) -> None:
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


def loading_processes(config: Config) -> int:
    """``--workers``, or this rank's share of the machine's cores, at most 8."""
    if config.workers >= 0:
        return config.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def resume(config: Config, here: World, source: Source, model: PLRC, optimizer: torch.optim.Optimizer) -> int:
    """Load what ``--resume`` names, if anything; the number of steps already done."""
    last = Path(config.out) / "checkpoints" / "last.pt"
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    exists, restarted = broadcast_object(last.exists()), any_rank(restarted)
    if config.resume in ("auto", "never") or (restarted and exists):
        if not exists:
            return 0
        if config.resume == "never" and not restarted:
            raise ValueError(f"{config.out} already holds a run: go on with --resume auto, or choose another --out")
        file = last
    else:
        file = Path(config.resume)
    if broadcast_object(file.is_file()) and not file.is_file():
        raise ValueError(f"there is no {file} on rank {here.rank}: put --out on a disk that all nodes share")
    saved = load_checkpoint(file)
    contradictions = config.contradictions(saved["config"])
    if saved["images"] != fingerprint(source):
        contradictions.append(f"the images of {config.data} are not those of the saved run")
    if contradictions:
        raise ValueError(
            f"cannot resume {file}: " + "; ".join(contradictions) + ". Drop what differs, or choose another --out"
        )
    if saved["ranks"] != here.size and here.is_main:
        print(
            f"{file} is of a run with {saved['ranks']} ranks, now there are {here.size}: "
            "training goes on, but not bit for bit (points and BatchNorm are drawn by rank)",
            file=sys.stderr,
        )
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
