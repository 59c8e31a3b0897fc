"""``plrc run``: a training run's folder: its log as curves, how far it is, its affinity pictures."""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
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
from plrc.run import losses_of, read_log
from plrc.schedules import scaled_steps
from plrc.views import Drawing, Progress
from plrc.views.session import Session

LAST = 10  # log lines that the newest means are of


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a run's folder holds of it at this moment.

    Attributes:
        folder: the run folder. files: those that were read → their SHA-256.
        curves: "step", "epoch" and each quantity of the log, and "total", the weighted sum of the losses → ``(n,)``
            float64 in the order of steps; NaN where a line has none.
        broken: loss → in how many lines it stands but is not finite; those only.
        settings: ``config.yaml``; empty where there is none. written: when the log was last written, seconds since
            1970.
        pictures: step → the affinity picture of that step, in order.
    """

    folder: Path
    files: dict[str, str]
    curves: dict[str, np.ndarray]
    broken: dict[str, int]
    settings: dict[str, Any]
    written: float
    pictures: dict[int, Path]

    @property
    def age(self) -> float:
        """Seconds since the log was written."""
        return max(0.0, time.time() - self.written)

    @property
    def steps_per_epoch(self) -> float | None:
        """From the last line that tells; a whole number."""
        told = np.flatnonzero(self.curves["epoch"] > 0)
        if not len(told):
            return None
        return max(1.0, round(self.curves["step"][told[-1]] / self.curves["epoch"][told[-1]]))

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run; None if its length is not known."""
        if iterations := _number(self.settings, "iterations"):  # of a detector
            batch = _number(self.settings, "batch_size")
            scaled = self.settings.get("scale_iterations") is True and batch
            return scaled_steps(iterations, batch) if scaled and batch else round(iterations)
        epochs, per_epoch = _number(self.settings, "epochs"), self.steps_per_epoch
        return None if epochs is None or per_epoch is None else round(epochs * per_epoch)

    @property
    def finished(self) -> bool:
        total = self.total_steps
        return total is not None and self.curves["step"][-1] >= total

    @property
    def seconds_left(self) -> float | None:
        """By the median speed of the last log lines; None if its length or speed is not known."""
        batch, total = _number(self.settings, "batch_size"), self.total_steps
        speed = _finite(np.median, self.curves["images_per_second"][-LAST:])
        if batch is None or total is None or not speed > 0:
            return None
        return max(0.0, total - float(self.curves["step"][-1])) * batch / speed


@dataclass(eq=False, kw_only=True)
class RunDrawing(Drawing):
    """Attributes:
    records: name → what its folder holds, in the order of the curves' colours.
    """

    records: dict[str, RunRecord]


def run(query: Run, session: Session, progress: Progress) -> RunDrawing:
    """The curves of one run or several, as far as they are.

    Numbers: how far a run is; the time left, by the speed of its last ten log lines; each loss as the mean of the last
    ten log lines, and where that mean was lowest; speed, waiting and memory. The table has the losses, a line each. The
    affinity picture is among the arrays, ``(H, W, 4)`` of 0 … 255.
    """
    if not query.runs:
        raise ValueError("name a run folder, such as runs/demo; 'make demo' trains one")
    check_smooth(query.smooth)
    records = {name: read_run(Path(folder)) for name, folder in named(query.runs).items()}
    inputs: dict[str, str] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, record in records.items():
        inputs |= record.files
        arrays |= {f"{name} {quantity}": values for quantity, values in record.curves.items()}
        if record.pictures:
            newest = max(record.pictures)
            step = newest if query.affinity_at is None else nearest(record.pictures, query.affinity_at)
            file = record.pictures[step]
            inputs[str(file)] = _digest(file)
            arrays[f"{name} affinity at step {step}"] = _pixels(file)
    lengths = {record.steps_per_epoch for record in records.values()}
    curves = {name: record.curves for name, record in records.items()}
    rows = {name: _rows(name, record) for name, record in records.items()}
    lines: list[str] = []
    for name, record in records.items():
        lines += ([""] * bool(lines) + [f"{name}:"]) * (len(records) > 1)
        lines += aligned(list(_numbers(record, rows[name])))
    return RunDrawing(
        query=query,
        inputs=inputs,
        arrays=arrays,
        draw=partial(figures.curves, curves, lengths.pop() if len(lengths) == 1 else None, query.smooth),
        lines=lines,
        rows=[row for mine in rows.values() for row in mine],
        records=records,
    )


def read_run(folder: Path) -> RunRecord:
    """What a run folder holds; a last line that is being written is left out, and each step is there once.

    Where the steps of a log go back, as of a run that went on from an earlier checkpoint, the later lines hold: what
    was logged beyond that checkpoint before is dropped, as ``plrc.run.RunLog`` does it.

    Raises:
        ValueError: there is no such folder or log, or no line of it can be read.
    """
    file = folder / "log.jsonl"
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such run folder; 'make demo' trains one, runs/demo")
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file; name a run folder of train_ddp.py, such as runs/demo")
    try:
        files, written = {str(file): _digest(file)}, file.stat().st_mtime
        lines = [line for line in read_log(folder) if _is_line(line)]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read ({error}): is it a log that train_ddp.py wrote?") from error
    kept: dict[float, dict[str, Any]] = {}
    for line in lines:
        while kept and next(reversed(kept)) >= line["step"]:
            kept.popitem()
        kept[line["step"]] = line
    losses = losses_of(dict.fromkeys(name for line in kept.values() for name in line))
    told = [*losses, "lr", "images_per_second", "data_wait", "memory_mib"]
    curves = {name: _column(kept.values(), name) for name in ("step", "epoch", *told)}
    if not any(np.isfinite(curves[name]).any() for name in told):
        raise ValueError(f"{file} has no line that can be read: wait for the run's first one, or name another run")
    settings = _settings(folder / "config.yaml")
    if settings:
        files[str(folder / "config.yaml")] = _digest(folder / "config.yaml")
    curves["total"] = _total(curves, settings)
    broken = {
        loss: sum(loss in line for line in kept.values()) - int(np.isfinite(curves[loss]).sum()) for loss in losses
    }
    broken = {loss: count for loss, count in broken.items() if count}
    return RunRecord(folder, files, curves, broken, settings, written, affinity_pictures(folder))


def affinity_pictures(folder: Path) -> dict[int, Path]:
    """Step → the affinity picture that the run drew at it, in order (``plrc.report.affinity_over_training``)."""
    files = (folder / "figures").glob("affinity_*.png")
    return dict(
        sorted((int(m[1]), file) for file in files if (m := re.fullmatch(r"affinity_(\d{7,})\.png", file.name)))
    )


def nearest(steps: Iterable[int], step: int) -> int:
    """Of these steps the one nearest to that; the earlier of two."""
    return min(steps, key=lambda has: (abs(has - step), has))


def named(runs: Sequence[str]) -> dict[str, str]:
    """Name → run: of the path as much of its end as tells them apart."""
    parts = [Path(os.path.abspath(run)).parts for run in runs]
    if len(set(parts)) < len(parts):
        raise ValueError(f"a run is named twice: {', '.join(runs)}")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(of[-length:]) for of in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, runs, strict=True))
    raise AssertionError("paths that differ have ends that differ")


def duration(seconds: float) -> str:
    """In words: "40 s", "12 min", "3 h 5 min", "2 d 4 h"."""
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _numbers(record: RunRecord, rows: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    """What is told of a run: name and value."""
    curves, total = record.curves, record.total_steps
    step, epoch = curves["step"][-1], curves["epoch"][-1]
    epochs = record.settings.get("epochs")
    if record.finished:
        yield "finished", f"{step:.0f} steps, {round(epoch, 1) if epochs is None else epochs} epochs"
    else:
        of = " (how many there will be is not known without config.yaml)"
        yield "step", f"{step:.0f}" + (of if total is None else f" of {total} ({step / total:.0%})")
        if total is not None and epochs is not None and np.isfinite(epoch):
            yield "epoch", f"{epoch:.1f} of {epochs}"
        if total is not None and (left := record.seconds_left) is not None:
            yield "time left", f"about {duration(left)}, at the speed of the last {LAST} log lines"
        yield "last line", f"{datetime.fromtimestamp(record.written, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    for row in rows:
        yield f"{row['loss']} loss", f"{row['last']:.3f} (lowest {row['lowest']:.3f} at step {row['at step']})"
    if np.isfinite(curves["images_per_second"]).any():
        yield "images/s", f"{_finite(np.median, curves['images_per_second']):.0f}"
    if np.isfinite(curves["data_wait"]).any():
        yield "data wait", f"{_finite(np.median, curves['data_wait']):.0%} of the time"
    if np.isfinite(curves["memory_mib"]).any():
        yield "memory", f"{np.nanmax(curves['memory_mib']):.0f} MiB at most"
    for loss, count in record.broken.items():
        yield "not finite", f"the {loss} loss, in {count} of {len(curves['step'])} log lines"


def _rows(name: str, record: RunRecord) -> list[dict[str, Any]]:
    """A line a loss that has a value: the mean of the last log lines, the lowest mean of as many, and where it ends."""
    rows = []
    for loss in sorted(losses_of(record.curves), key=lambda loss: loss != "total"):
        values = record.curves[loss]
        first = min(LAST, len(values))
        means = [_finite(np.mean, values[max(0, i - LAST) : i]) for i in range(first, len(values) + 1)]
        if np.isfinite(means).any():
            best = int(np.nanargmin(means))
            row = {"run": name, "loss": loss, "last": round(means[-1], 4), "lowest": round(means[best], 4)}
            rows.append({**row, "at step": int(record.curves["step"][best + first - 1])})
    return rows


def _finite(of: Any, values: np.ndarray) -> float:
    """``of``, of those values that are finite; NaN if none is."""
    finite = values[np.isfinite(values)]
    return float(of(finite)) if len(finite) else math.nan


def _pixels(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGBA"))
    except OSError as error:
        raise ValueError(f"{file} is no image ({error}): remove it, the run draws others") from error


def _is_line(line: Any) -> bool:
    return isinstance(line, dict) and isinstance(line.get("step"), int | float) and math.isfinite(line["step"])


def _column(lines: Iterable[dict[str, Any]], name: str) -> np.ndarray:
    values = (line.get(name) for line in lines)
    return np.array([v if isinstance(v, int | float) else math.nan for v in values], dtype=np.float64)


def _number(settings: Mapping[str, Any], name: str) -> float | None:
    value = settings.get(name)
    return float(value) if isinstance(value, int | float) else None


def _settings(file: Path) -> dict[str, Any]:
    """The fields of ``config.yaml``, also of another version's; none if it is missing or is just being written."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _total(curves: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> np.ndarray:
    """What is minimised: the losses' weighted sum ``(n,)``; NaN where a loss that has a weight is missing.

    A loss is not missing before the epoch at which it sets in.
    """
    tables = loss_tables(settings)
    weights, starts, total = tables.get("weights"), tables.get("starts", {}), np.zeros(len(curves["step"]))
    if not isinstance(weights, dict):  # a detector's name its pre-trained file
        return np.full(len(total), math.nan)
    for name in weights:
        if weight := _number(weights, name):
            curve, start = curves.get(name, np.full(len(total), math.nan)), _number(starts, name) or 0.0
            early = start > 0 and curves["epoch"] <= start + 1e-4  # the log rounds epochs to four digits
            total += np.where(early & np.isnan(curve), 0.0, weight * curve)
    return total


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
