"""What a run says of itself: a line of ``log.jsonl`` a log step, TensorBoard events, and its progress."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from plrc.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# What a line of the log holds beside losses.
_NO_LOSSES = ("step", "epoch", "lr", "images_per_second", "data_wait", "memory_mib")


class RunLog:
    """The log of rank 0; a context manager.

    On a terminal the progress is a bar; in a file, such as a batch system's, each log step is a line of its own.

    Args:
        folder: the run folder. total: steps of the whole run. first_step: steps already done; what an interrupted run
            logged beyond them is dropped, so that a resumed run's log reads as if it had never stopped.
    """

    def __init__(self, folder: Path, total: int, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import, and only rank 0 needs it

        self._file = folder / "log.jsonl"
        kept = [line for line in read_log(folder) if line["step"] <= first_step]
        with written_whole(self._file) as unfinished:
            unfinished.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._stream = self._file.open("a", buffering=1)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1 if first_step else None)
        self._total, self._first, self._start = total, first_step, time.perf_counter()
        self._bar = tqdm(
            total=total,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5,
            file=sys.stderr,
            disable=None,  # where stderr is no terminal
        )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        self._board.close()
        self._stream.close()

    def advance(self) -> None:
        """One step is done."""
        self._bar.update()

    def write(self, line: dict[str, Any]) -> None:
        """One line of the log: ``step``, ``epoch``, ``images_per_second`` and other scalars, losses by their name."""
        self._stream.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name not in ("step", "epoch"):
                self._board.add_scalar(name, value, line["step"])
        losses = " ".join(f"{name} {value:.3f}" for name, value in line.items() if name not in _NO_LOSSES)
        said = f"epoch {line['epoch']:.1f}  {line['images_per_second']:.0f} images/s  {losses}"
        if self._bar.disable:
            elapsed = time.perf_counter() - self._start
            left = elapsed * (self._total - line["step"]) / max(line["step"] - self._first, 1)
            clock = f"{tqdm.format_interval(elapsed)}, {tqdm.format_interval(left)} left"
            self.say(f"step {line['step']}/{self._total} [{clock}]  {said}")
        else:
            self._bar.set_postfix_str(said)

    def picture(self, name: str, figure: Figure, step: int) -> None:
        """A figure among TensorBoard's images."""
        self._board.add_figure(name, figure, step)

    def say(self, message: str) -> None:
        """A line for people, above the progress bar."""
        self._bar.write(message, file=sys.stderr)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run folder's ``log.jsonl``, oldest first; a last line that a kill cut short is left out."""
    file = folder / "log.jsonl"
    if not file.exists():
        return []
    lines = []
    for text in file.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def peak_memory(device: torch.device) -> int:
    """The most memory used so far, in MiB: the GPU's, or this process's on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
