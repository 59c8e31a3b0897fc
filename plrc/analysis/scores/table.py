"""Scores side by side: measures down, checkpoints and baselines across."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from plrc.analysis.scores.bootstrap import Score

_NONE = "–"


@dataclass(frozen=True)
class Table:
    """One data set's scores.

    Attributes:
        data: the data set. short_side: pixels of the shorter side of the pictures as they were described.
        columns: names of the descriptors, then of the baselines. rows: a measure's name → a score a column, None where
        a baseline has none. seconds: median time to describe one picture, by column.
    """

    data: str
    short_side: int
    columns: tuple[str, ...]
    rows: dict[str, tuple[Score | None, ...]]
    seconds: dict[str, float]

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
        """One line a cell: measure, column, mean, low, high, n; seconds as a measure without an interval."""
        with Path(file).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("measure", "column", "mean", "low", "high", "n"))
            for name, scores in self.rows.items():
                for column, score in zip(self.columns, scores, strict=True):
                    if score is not None:
                        writer.writerow((name, column, score.mean, score.low, score.high, score.n))
            for column, seconds in self.seconds.items():
                writer.writerow(("seconds a picture", column, seconds, "", "", ""))

    def to_json(self, file: str | Path) -> None:
        """Everything, as ``rows: measure → column → mean, low, high, n``."""
        rows = {
            name: {c: asdict(score) for c, score in zip(self.columns, scores, strict=True) if score is not None}
            for name, scores in self.rows.items()
        }
        content = {
            "data": self.data,
            "short_side": self.short_side,
            "columns": self.columns,
            "rows": rows,
            "seconds": self.seconds,
        }
        Path(file).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _cells(self) -> list[list[str]]:
        lines = [[self.data, "n", *self.columns]]
        for name, scores in self.rows.items():
            n = max(score.n for score in scores if score is not None)
            lines.append([name, str(n), *(str(score) if score else _NONE for score in scores)])
        times = [f"{self.seconds[c]:.3f}" if c in self.seconds else _NONE for c in self.columns]
        return [*lines, [f"seconds a picture ({self.short_side} px)", "", *times]]
