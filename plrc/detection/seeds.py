"""Several trainings that differ in their seed alone, and what they reach on average."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plrc.detection.config import FinetuneConfig
from plrc.detection.finetune import finetune
from plrc.distributed import World, any_rank
from plrc.run import EXIT_DONE, EXIT_PREEMPTED, Stop


def finetune_seeds(config: FinetuneConfig, count: int, here: World, stop: Stop) -> int:
    """Train and evaluate with ``config.seed`` and the ``count`` − 1 seeds after it; the exit status.

    Each has its own folder ``seed_<n>`` in ``config.out``. Mean and deviation of every number of their evaluations are
    written to ``seeds.json`` there and printed. Published numbers on PASCAL VOC are means of five such runs.

    Raises:
        ValueError: fewer than two seeds, and what ``finetune`` raises.
    """
    if count < 2:
        raise ValueError(f"--seeds {count} is no number of runs to average: give 2 or more, or leave it out")
    if config.resume not in ("auto", "never"):
        raise ValueError(f"--seeds are several runs, and --resume {config.resume} is one: take --resume auto")
    runs = [
        replace(config, seed=config.seed + k, out=str(Path(config.out) / f"seed_{config.seed + k}"))
        for k in range(count)
    ]
    for run in runs:
        if any_rank(stop.requested):
            return EXIT_PREEMPTED
        status = finetune(run, here, stop)
        if status != EXIT_DONE:
            return status
    if here.is_main:
        evaluations = [json.loads((Path(run.out) / "evaluation.json").read_text()) for run in runs]
        summary = summarise(evaluations)
        file = Path(config.out) / "seeds.json"
        file.write_text(json.dumps({"seeds": [run.seed for run in runs], **summary}, indent=1) + "\n")
        print("\n".join(["", *_lines(summary, count), f"written: {file}"]), flush=True)
    return EXIT_DONE


def summarise(evaluations: Sequence[Any]) -> Any:
    """The same tree as each evaluation's, with mean, standard deviation (of a sample, n − 1) and values at its leaves.

    None where a run has no number.
    """
    first = evaluations[0]
    if isinstance(first, dict):
        return {key: summarise([e[key] for e in evaluations]) for key in first}
    if any(value is None for value in evaluations):
        return None
    return {"mean": statistics.fmean(evaluations), "deviation": statistics.stdev(evaluations), "values": evaluations}


def _lines(summary: dict[str, Any], count: int) -> list[str]:
    """The headline numbers in per cent, mean ± deviation."""
    parts = {"COCO, boxes": summary["boxes"]}
    if "masks" in summary:
        parts["COCO, masks"] = summary["masks"]
    parts |= {f"VOC, {rule}": numbers for rule, numbers in summary.get("voc", {}).items()}
    width = max(map(len, parts))
    lines = [f"mean ± deviation of {count} seeds, per cent"]
    for name, numbers in parts.items():
        shown = (f"{metric} {_shown(numbers[metric])}" for metric in ("AP", "AP50", "AP75"))
        lines.append("  ".join([name.ljust(width), *shown]))
    return lines


def _shown(number: dict[str, Any] | None) -> str:
    return "–" if number is None else f"{100 * number['mean']:.1f} ± {100 * number['deviation']:.1f}"
