"""A training run: the curves of its log, how far it is, and its affinity pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plrc import figures
from plrc.figures.curves import check_smooth
from plrc.views.drawing import Drawing
from plrc.views.run_folder import LAST, LOSSES, RunRecord, digest_of, median, named, nearest, read_run

_LOSSES = ("total", *LOSSES)


@dataclass(eq=False, kw_only=True)
class RunDrawing(Drawing):
    """Attributes:
    records: name → what its folder holds, in the order of the curves' colours.
    """

    records: dict[str, RunRecord]


def draw_run(runs: Sequence[str], smooth: int = 15, affinity_at: int | None = None) -> RunDrawing:
    """The curves of one run or several, as far as they are.

    Numbers: how far a run is; the time left, by the speed of its last ten log lines; each loss as the mean of the last
    ten log lines, and where that mean was lowest; speed, waiting and memory. The table has the losses, a line each.

    Args:
        runs: run folders of ``train_ddp.py``. smooth: log lines behind a point of a smoothed curve
            (``plrc.figures.curves``). affinity_at: the step whose affinity picture, or the one nearest to it, is among
            the arrays, ``(H, W, 4)`` of 0 … 255; None for the newest.

    Raises:
        ValueError: there is no such run, its log has no line yet, one is named twice, or ``smooth`` is not odd.
    """
    parameters = dict(locals())
    if not runs:
        raise ValueError("name a run folder, such as runs/demo; 'make demo' trains one")
    check_smooth(smooth)
    records = {name: read_run(Path(run)) for name, run in named(runs).items()}
    inputs: dict[str, str] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, record in records.items():
        inputs |= record.files
        arrays |= {f"{name} {quantity}": values for quantity, values in record.curves.items()}
        if record.pictures:
            step = max(record.pictures) if affinity_at is None else nearest(record.pictures, affinity_at)
            file = record.pictures[step]
            inputs[str(file)] = digest_of(file)
            arrays[f"{name} affinity at step {step}"] = _pixels(file)
    lengths = {record.steps_per_epoch for record in records.values()}
    per_epoch = lengths.pop() if len(lengths) == 1 else None
    curves = {name: record.curves for name, record in records.items()}
    lines = [f"{name}: {line}" for name, record in records.items() for line in _lines(record)]
    return RunDrawing(
        kind="run",
        parameters=parameters,
        inputs=inputs,
        arrays=arrays,
        draw=partial(figures.curves, curves, per_epoch, smooth),
        lines=lines if len(records) > 1 else [line for record in records.values() for line in _lines(record)],
        rows=[row for name, record in records.items() for row in _rows(name, record)],
        records=records,
    )


def _pixels(file: Path) -> np.ndarray:
    """``(H, W, 4)`` of 0 … 255."""
    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGBA"))
    except OSError as error:
        raise ValueError(f"{file} is no picture ({error}): remove it, the run draws others") from error


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


def _lines(record: RunRecord) -> list[str]:
    """The numbers of a run."""
    curves, total = record.curves, record.total_steps
    step, epoch = curves["step"][-1], curves["epoch"][-1]
    if record.finished:
        progress = f"finished: {step:.0f} steps, {record.settings.get('epochs', round(epoch, 1))} epochs"
    elif total is None:
        progress = f"step {step:.0f}; how many there will be is not known without its config.yaml"
    else:
        progress = f"step {step:.0f} of {total}, {step / total:.0%}"
        if "epochs" in record.settings and np.isfinite(epoch):
            progress += f"; epoch {epoch:.1f} of {record.settings['epochs']}"
        left = record.seconds_left
        progress += "" if left is None else f"; about {duration(left)} left at the speed of the last {LAST} log lines"
    if not record.finished:
        written = datetime.fromtimestamp(record.written, timezone.utc)
        progress += f"; last line written {written:%Y-%m-%d %H:%M:%S} UTC"
    lines = [progress]
    rows = {row["loss"]: row for row in _rows("", record)}
    if rows:
        means = ", ".join(f"{loss} {row['last']:.3f} (lowest {row['lowest']:.3f})" for loss, row in rows.items())
        lines.append(f"losses, mean of {LAST} log lines: {means}")
    speed = []
    if np.isfinite(curves["images_per_second"]).any():
        speed.append(f"{median(curves['images_per_second']):.0f} images/s")
    if np.isfinite(curves["data_wait"]).any():
        speed.append(f"waiting for data {median(curves['data_wait']):.0%} of the time")
    if speed:
        lines.append(f"median {', '.join(speed)}")
    if np.isfinite(curves["memory_mib"]).any():
        lines.append(f"at most {np.nanmax(curves['memory_mib']):.0f} MiB of memory")
    for loss, count in record.broken.items():
        lines.append(f"the {loss} loss is not a finite number in {count} of {len(curves['step'])} log lines")
    return lines


def _rows(name: str, record: RunRecord) -> list[dict[str, Any]]:
    """A line a loss that has a value: the mean of the last log lines, the lowest mean of as many, and where it ends."""
    rows = []
    for loss in (loss for loss in _LOSSES if loss in record.curves):
        values = record.curves[loss]
        means = [_mean(values[max(0, i - LAST) : i]) for i in range(min(LAST, len(values)), len(values) + 1)]
        if np.isfinite(means).any():
            best = int(np.nanargmin(means))
            step = record.curves["step"][best + min(LAST, len(values)) - 1]
            row = {"run": name, "loss": loss, "last": round(means[-1], 4), "lowest": round(means[best], 4)}
            rows.append({**row, "at step": int(step)})
    return rows


def _mean(values: np.ndarray) -> float:
    """Of those that are finite; NaN if none is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan
