"""``plrc run``: a training run's folder: its log as curves, how far it is, its affinity pictures."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from plrc import figures
from plrc.analysis.scores.table import aligned
from plrc.config import loss_tables
from plrc.figures.charts import check_smooth
from plrc.queries import Run
from plrc.registry import did_you_mean
from plrc.run import losses_of, read_log
from plrc.schedules import scaled_steps
from plrc.views import Drawing, Progress
from plrc.views.session import Session

LEARNT = "figures/before_after.png"  # in a run's folder
LAST = 10  # log lines that the newest means are of


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a run's folder holds of it at this moment.

    Attributes:
        files: those that were read → their SHA-256. epochs: of the whole run, as ``config.yaml`` has them.
        curves: "step", "epoch" and each quantity of the log, and "total", the weighted sum of the losses → ``(n,)``
            float64 in the order of steps; NaN where a line has none.
        broken: loss → in how many lines it stands but is not finite; those only.
        written: when the log was last written, seconds since 1970. pictures: step → the affinity picture of that step.
        learnt: the figure of before and after training, which a run draws at its end; or None.
        steps_per_epoch, total_steps, seconds_left: None where they are not known; the last by the speed of the last
            log lines.
    """

    files: dict[str, str]
    curves: dict[str, np.ndarray]
    broken: dict[str, int]
    written: float
    pictures: dict[int, Path]
    learnt: Path | None
    epochs: Any
    steps_per_epoch: float | None
    total_steps: int | None
    seconds_left: float | None

    @property
    def finished(self) -> bool:
        return self.total_steps is not None and self.curves["step"][-1] >= self.total_steps


@dataclass(eq=False, kw_only=True)
class RunDrawing(Drawing):
    """``records``: name → what its folder holds, in the order of the curves' colours."""

    records: dict[str, RunRecord]


def run(query: Run, session: Session, progress: Progress) -> RunDrawing:
    """The curves of one run or several, as far as they are.

    Numbers: how far a run is; the time left, by the speed of its last ten log lines; each loss as the mean of the last
    ten log lines, or of a quarter of fewer than 40, and where that mean was lowest; speed, waiting and memory. The
    table has the losses, a line each. The affinity picture is among the arrays, ``(H, W, 4)`` of 0 … 255.
    """
    if not query.runs:
        raise ValueError("name a run folder, such as runs/demo; 'make demo' trains one")
    check_smooth(query.smooth)
    records = {name: read_run(Path(folder)) for name, folder in _named(query.runs).items()}
    inputs: dict[str, str] = {}
    arrays: dict[str, np.ndarray] = {}
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for name, record in records.items():
        inputs |= record.files
        arrays |= {f"{name} {quantity}": values for quantity, values in record.curves.items()}
        if record.pictures:
            newest = max(record.pictures)
            step = newest if query.affinity_at is None else nearest(record.pictures, query.affinity_at)
            file = record.pictures[step]
            inputs[str(file)] = _digest(file)
            arrays[f"{name} affinity at step {step}"] = np.asarray(open_picture(file))
        mine = list(_rows(name, record))
        rows += mine
        lines += ([""] * bool(lines) + [f"{name}:"]) * (len(records) > 1)
        lines += aligned(list(_numbers(record, mine)))
    lengths = {record.steps_per_epoch for record in records.values()}
    curves = {name: record.curves for name, record in records.items()}
    return RunDrawing(
        query=query,
        inputs=inputs,
        arrays=arrays,
        draw=partial(figures.curves, curves, lengths.pop() if len(lengths) == 1 else None, query.smooth),
        lines=lines,
        rows=rows,
        records=records,
    )


def read_run(folder: Path) -> RunRecord:
    """What a run folder holds; a last line that is being written is left out.

    Where the steps of a log go back, as of a run that went on from an earlier checkpoint, the later lines hold. Raises
    a ValueError if there is no such log, or no line of it can be read.
    """
    file, config = folder / "log.jsonl", folder / "config.yaml"
    try:
        files, written = {str(file): _digest(file)}, file.stat().st_mtime
        lines = read_log(folder)
    except OSError as error:
        near = "" if folder.exists() else did_you_mean(str(folder), file=True)
        wanted = near or ": name a run folder, such as runs/demo, which 'make demo' trains"
        raise ValueError(f"{file} cannot be read ({error.strerror}){wanted}") from error
    kept: dict[float, dict[str, Any]] = {}
    for line in lines:
        if not math.isfinite(_number(line, "step", math.nan)):
            continue
        while kept and next(reversed(kept)) >= line["step"]:
            kept.popitem()
        kept[line["step"]] = line
    losses = losses_of(dict.fromkeys(name for line in kept.values() for name in line))
    told = [*losses, "lr", "images_per_second", "data_wait", "memory_mib"]
    values = {name: [_number(line, name, math.nan) for line in kept.values()] for name in ("step", "epoch", *told)}
    curves = {name: np.array(of, dtype=np.float64) for name, of in values.items()}
    if not any(np.isfinite(curves[name]).any() for name in told):
        stopped = ", go on with a run that has stopped (--resume auto), or name another one"
        raise ValueError(f"{file} has no line that can be read: wait for the run's first one{stopped}")
    try:  # fields of another version's too; the file may be just being written
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        settings = None
    settings = settings if isinstance(settings, dict) else {}
    if settings:
        files[str(config)] = _digest(config)
    curves["total"] = _total(curves, settings)
    stand = {loss: sum(loss in line for line in kept.values()) for loss in losses}
    broken = {loss: n - finite for loss, n in stand.items() if (finite := int(np.isfinite(curves[loss]).sum())) < n}

    step, epoch = curves["step"], curves["epoch"]
    per_epoch = max(1.0, round(step[epoch > 0][-1] / epoch[epoch > 0][-1])) if (epoch > 0).any() else None
    epochs, iterations, batch = (_number(settings, name) for name in ("epochs", "iterations", "batch_size"))
    total = None if epochs is None or per_epoch is None else round(epochs * per_epoch)
    if iterations:  # of a detector
        scaled = settings.get("scale_iterations") is True and batch
        total = scaled_steps(iterations, batch) if scaled and batch else round(iterations)
    speed = _finite(np.median, curves["images_per_second"][-LAST:])
    left = None
    if batch is not None and total is not None and speed > 0:
        left = max(0.0, total - float(step[-1])) * batch / speed
    pictures, learnt = affinity_pictures(folder), folder / LEARNT if (folder / LEARNT).exists() else None
    return RunRecord(files, curves, broken, written, pictures, learnt, settings.get("epochs"), per_epoch, total, left)


def affinity_pictures(folder: Path) -> dict[int, Path]:
    """Step → the affinity picture that the run drew at it, in order (``plrc.report.affinity_over_training``)."""
    named = ((re.fullmatch(r"affinity_(\d{7,})\.png", f.name), f) for f in (folder / "figures").glob("affinity_*.png"))
    return dict(sorted((int(match[1]), file) for match, file in named if match))


def open_picture(file: Path) -> Image.Image:
    """An affinity picture, RGBA. Raises a ValueError if it is none."""
    try:
        with Image.open(file) as image:
            return image.convert("RGBA")
    except OSError as error:
        raise ValueError(f"{file} is no image ({error}): remove it, the run draws others") from error


def nearest(steps: Iterable[int], step: int) -> int:
    """Of these steps the one nearest to that; the earlier of two."""
    return min(steps, key=lambda has: (abs(has - step), has))


def duration(seconds: float) -> str:
    """In words: "40 s", "12 min", "3 h 5 min", "2 d 4 h"."""
    minutes = round(seconds / 60)
    for size, unit, rest, smaller in ((1440, "d", 60, "h"), (60, "h", 1, "min")):
        if minutes >= size:
            return f"{minutes // size} {unit} {minutes % size // rest} {smaller}"
    return f"{minutes} min" if seconds >= 59.5 else f"{seconds:.0f} s"


def _named(runs: Sequence[str]) -> dict[str, str]:
    """Name → run: of the path as much of its end as tells them apart."""
    parts = [Path(os.path.abspath(run)).parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(of[-length:]) for of in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, runs, strict=True))
    raise ValueError(f"a run is named twice: {', '.join(runs)}")


def _numbers(record: RunRecord, rows: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    curves, total, epochs = record.curves, record.total_steps, record.epochs
    step, epoch = curves["step"][-1], curves["epoch"][-1]
    if record.finished:
        yield "finished", f"{step:.0f} steps, {round(epoch, 1) if epochs is None else epochs} epochs"
    else:
        of = " (how many there will be is not known without config.yaml)"
        yield "step", f"{step:.0f}" + (of if total is None else f" of {total} ({step / total:.0%})")
        if total is not None and epochs is not None and np.isfinite(epoch):
            yield "epoch", f"{epoch:.1f} of {epochs}"
        if record.seconds_left is not None:
            yield "time left", f"about {duration(record.seconds_left)}, at the speed of the last {LAST} log lines"
        yield "last line", f"{datetime.fromtimestamp(record.written, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    count = _averaged(curves["step"])
    mean, of = (f"mean of {count} log lines", "mean ") if count > 1 else ("last log line", "")
    for row in rows:
        lowest = f"lowest {of}{row['lowest']:.3f} at step {row['at step']}"
        yield f"{row['loss']} loss", f"{row['last']:.3f} ({mean}; {lowest})"
    for name, what, reduce, said in (
        ("images_per_second", "images/s", np.median, "{:.0f}"),
        ("data_wait", "data wait", np.median, "{:.0%} of the time"),
        ("memory_mib", "memory", np.max, "{:.0f} MiB at most"),
    ):
        if np.isfinite(curves[name]).any():
            yield what, said.format(_finite(reduce, curves[name]))
    for loss, count in record.broken.items():
        yield "not finite", f"the {loss} loss, in {count} of {len(curves['step'])} log lines"


def _rows(name: str, record: RunRecord) -> Iterator[dict[str, Any]]:
    """A line a loss that has a value: the mean of the last log lines, the lowest mean of as many, and where it ends."""
    steps = record.curves["step"]
    count = _averaged(steps)
    for loss in sorted(losses_of(record.curves), key=lambda loss: loss != "total"):
        ends = range(count, len(steps) + 1)
        means = [_finite(np.mean, record.curves[loss][i - count : i]) for i in ends]
        if np.isfinite(means).any():
            best = int(np.nanargmin(means))
            row = {"run": name, "loss": loss, "last": round(means[-1], 4), "lowest": round(means[best], 4)}
            yield row | {"at step": int(steps[ends[best] - 1])}


def _averaged(steps: np.ndarray) -> int:
    """Log lines that a mean is of: of a short run fewer, whose losses still fall fast."""
    return max(1, min(LAST, len(steps) // 4))


def _finite(of: Any, values: np.ndarray) -> float:
    """``of``, of those values that are finite; NaN if none is."""
    finite = values[np.isfinite(values)]
    return float(of(finite)) if len(finite) else math.nan


def _number(values: Mapping[str, Any], name: str, otherwise: Any = None) -> Any:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) else otherwise


def _total(curves: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> np.ndarray:
    """The losses' weighted sum ``(n,)``; NaN where one that has a weight and has set in is missing."""
    tables = loss_tables(settings)
    weights, starts, nothing = tables.get("weights"), tables.get("starts", {}), np.full(len(curves["step"]), math.nan)
    if not isinstance(weights, dict):  # a detector's name its pre-trained file
        return nothing
    total = np.zeros(len(nothing))
    for name in weights:
        if weight := _number(weights, name):
            curve, start = curves.get(name, nothing), _number(starts, name) or 0.0
            early = start > 0 and curves["epoch"] <= start + 1e-4  # the log rounds epochs to four digits
            total += np.where(early & np.isnan(curve), 0.0, weight * curve)
    return total


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
