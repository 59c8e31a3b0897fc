"""Scores side by side: measures down, checkpoints and baselines across."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.bootstrap import Score

if TYPE_CHECKING:  # only to draw
    from matplotlib.figure import Figure

_NONE = "–"
_ORIGIN = ("checkpoint", "layer", "format", "branch", "arch", "sha256", "note")


@dataclass(frozen=True)
class Table:
    """One data set's scores.

    Attributes:
        data: the data set. short_side: pixels of the shorter side of the pictures as they were described.
        columns: names of the descriptors, then of the baselines. rows: a measure's name → a score a column, None where
        a baseline has none. seconds: median time to describe one picture, by column.

        Of what was scored: baselines: which columns are. path: of the data set, as it was given. limit: pictures that
        were asked for, None: all. within: cells of the view match. pictures: that were scored. interrupted_after:
        pictures, where the rest was not waited for. networks: a column's name → ``origin_of`` its checkpoint.
    """

    data: str
    short_side: int
    columns: tuple[str, ...]
    rows: dict[str, tuple[Score | None, ...]]
    seconds: dict[str, float]
    baselines: tuple[str, ...] = ()
    path: str = ""
    limit: int | None = None
    within: int = 1
    pictures: int | None = None
    interrupted_after: int | None = None
    networks: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """A Markdown table: mean and 95 % interval, n images a row, seconds a picture below."""
        lines = ["| " + " | ".join(line) + " |" for line in self._cells()]
        return "\n".join([lines[0], "|" + "---|" * (len(self.columns) + 2), *lines[1:]])

    def to_text(self) -> str:
        """The same in aligned columns, for a terminal."""
        cells = self._cells()
        widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)

    def to_csv(self, file: str | Path) -> None:
        """One line a cell: measure, column, mean, low, high, n, and what was scored; seconds are a measure, too.

        Low and high are empty where there is no interval.
        """
        head = ("measure", "column", "mean", "low", "high", "n")
        asked = {"data": self.path or self.data, "limit": _or_nothing(self.limit), "short side": self.short_side}
        asked |= {"within": self.within}
        lines: list[tuple[str | float, ...]] = []
        for name, scores in self.rows.items():
            for column, score in zip(self.columns, scores, strict=True):
                if score is not None:
                    low, high = ("" if math.isnan(v) else v for v in (score.low, score.high))
                    lines.append((name, column, score.mean, low, high, score.n))
        lines += [("seconds a picture", column, seconds, "", "", "") for column, seconds in self.seconds.items()]
        with Path(file).open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow((*head, *asked, *_ORIGIN))
            for line in lines:
                origin = self.networks.get(str(line[1]), {})
                writer.writerow((*line, *asked.values(), *(_or_nothing(origin.get(key)) for key in _ORIGIN)))

    def to_json(self, file: str | Path) -> None:
        """Everything, as ``rows: measure → column → mean, low, high, n``; low and high are null without an interval."""
        rows = {
            name: {
                c: {key: None if math.isnan(v) else v for key, v in vars(score).items()}
                for c, score in zip(self.columns, scores, strict=True)
                if score is not None
            }
            for name, scores in self.rows.items()
        }
        text = json.dumps(vars(self) | {"rows": rows}, indent=1, ensure_ascii=False, allow_nan=False)
        # Bytes of a file's name that are no UTF-8 become JSON's own escapes.
        Path(file).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")

    def draw(self) -> Figure:
        """A chart, a panel a measure: see ``plrc.figures.score_chart``."""
        from plrc.figures import score_chart

        panels = {}
        for name, scores in self.rows.items():
            known = {c: s for c, s in zip(self.columns, scores, strict=True) if s is not None}
            n = max(score.n for score in known.values())
            panels[f"{name}, n = {n}"] = {c: (s.mean, s.low, s.high) for c, s in known.items()}
        return score_chart(panels, self.baselines, [c for c in self.columns if c not in self.baselines])

    def _cells(self) -> list[list[str]]:
        stopped = f" (interrupted after {self.interrupted_after} pictures)" if self.interrupted_after else ""
        lines = [[self.data + stopped, "n", *self.columns]]
        for name, scores in self.rows.items():
            n = max(score.n for score in scores if score is not None)
            lines.append([name, str(n), *(str(score) if score else _NONE for score in scores)])
        times = [f"{self.seconds[c]:.3f}" if c in self.seconds else _NONE for c in self.columns]
        return [*lines, [f"seconds a picture ({self.short_side} px)", "", *times]]


def origin_of(descriptor: Descriptor) -> dict[str, str | None]:
    """Where a descriptor's numbers come from: checkpoint (file or name), layer, format, branch, arch, sha256, note."""
    origin = descriptor.origin
    if origin is None:
        return {}
    checkpoint = origin.name if origin.path is None else str(origin.path)
    values = (checkpoint, descriptor.layer, origin.format, origin.branch, origin.arch, origin.sha256, origin.note)
    return dict(zip(_ORIGIN, values, strict=True))


def _or_nothing(value: str | int | None) -> str | int:
    return "" if value is None else value
