"""Scores side by side: measures down, checkpoints and baselines across."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.bootstrap import Sample, Score
from plrc.analysis.scores.contents import left_out

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

        Of the data set: available: how many pictures it has. layout: what is known of them, and from where. left_out:
        those that could not be scored, with the reason. missing: sentences about what is not scored, and why. sha256:
        of the pictures that were scored, and of what is known of them.

        samples: a measure's name → the values of single pictures, of which ``rows`` are the means. names: the number of
        a picture that was scored → its name in the data set.
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
    available: int | None = None
    layout: str = ""
    left_out: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    sha256: str = ""
    samples: Mapping[str, Sample] = field(default_factory=dict, repr=False)
    names: Mapping[int, str] = field(default_factory=dict, repr=False)

    def to_markdown(self) -> str:
        """A Markdown table: the layers, mean and 95 % interval, n images a row, seconds a picture; and the notes."""
        lines = ["| " + " | ".join(line) + " |" for line in [*self._cells(), self._times()]]
        notes = [part for note in self.notes() for part in ("", note)]
        return "\n".join([lines[0], "|" + "---|" * (len(self.columns) + 2), *lines[1:], *notes])

    def to_text(self) -> str:
        """The same in aligned columns, for a terminal."""
        return "\n".join([*_aligned([*self._cells(), self._times()]), *self.notes()])

    def lines(self) -> list[str]:
        """The same without the seconds: what another run says again."""
        return [*_aligned(self._cells()), *self.notes()]

    def notes(self) -> list[str]:
        """What the data set is, which pictures were left out, and why a measure or a picture is missing."""
        if not self.layout:
            return []
        shown = f"{self.pictures}" if self.pictures == self.available else f"{self.pictures} of {self.available}"
        out = left_out(self.left_out)
        return [f"{self.data}: {shown} pictures {self.layout}{'; ' + out if out else ''}", *self.missing]

    def arrays(self) -> dict[str, np.ndarray]:
        """The values of single pictures, to compare columns in pairs.

        Returns:
            "measure: column" → ``(n,)`` float64, n pictures in the same order in each column of a measure; "pictures
            of measure" → ``(n,)`` int64, their numbers: number 12 is the picture ``DIR#12``; "names of pictures of
            measure" → ``(n,)`` strings, their names in the data set: of files the path in it.
        """
        found = {}
        for measure, sample in self.samples.items():
            found[f"pictures of {measure}"] = np.array(sample.images, dtype=np.int64)
            found[f"names of pictures of {measure}"] = np.array([self.names[i] for i in sample.images], dtype=np.str_)
            for column, values in zip(self.columns, sample.columns, strict=True):
                if values:
                    found[f"{measure}: {column}"] = np.array(values, dtype=np.float64)
        return found

    def records(self) -> list[dict[str, Any]]:
        """One line a cell: measure, column, mean, low, high, n, and what was scored; seconds are a measure, too.

        Low and high are empty where there is no interval.
        """
        asked = {"data": self.path or self.data, "limit": _or_nothing(self.limit), "short side": self.short_side}
        asked |= {"within": self.within}
        cells: list[tuple[str | float, ...]] = []
        for name, scores in self.rows.items():
            for column, score in zip(self.columns, scores, strict=True):
                if score is not None:
                    low, high = ("" if math.isnan(v) else v for v in (score.low, score.high))
                    cells.append((name, column, score.mean, low, high, score.n))
        cells += [("seconds a picture", column, seconds, "", "", "") for column, seconds in self.seconds.items()]
        return [
            dict(zip(("measure", "column", "mean", "low", "high", "n"), cell, strict=True))
            | asked
            | {key: _or_nothing(self.networks.get(str(cell[1]), {}).get(key)) for key in _ORIGIN}
            for cell in cells
        ]

    def content(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON: ``rows`` is measure → column → mean, low, high, n.

        Low and high are None where there is no interval.
        """
        rows = {
            name: {
                c: {key: None if math.isnan(v) else v for key, v in vars(score).items()}
                for c, score in zip(self.columns, scores, strict=True)
                if score is not None
            }
            for name, scores in self.rows.items()
        }
        return {name: value for name, value in vars(self).items() if name not in ("samples", "names")} | {"rows": rows}

    def draw(self) -> Figure:
        """A chart, a panel a measure: see ``plrc.figures.score_chart``."""
        from plrc.figures import score_chart

        panels = {}
        for name, scores in self.rows.items():
            known = {c: s for c, s in zip(self.columns, scores, strict=True) if s is not None}
            n = max(score.n for score in known.values())
            panels[f"{name}, n = {n}"] = {c: (s.mean, s.low, s.high) for c, s in known.items()}
        layers = dict.fromkeys(layer for layer in self._layers() if layer)
        details = f"{'layers' if len(layers) > 1 else 'layer'} {', '.join(layers)}; " if layers else ""
        return score_chart(
            panels,
            self.baselines,
            [c for c in self.columns if c not in self.baselines],
            self._heading(),
            f"{details}short side {self.short_side} px",
        )

    def _heading(self) -> str:
        return self.data + (f" (interrupted after {self.interrupted_after} pictures)" if self.interrupted_after else "")

    def _layers(self) -> list[str]:
        """The layer of each column, "" of a baseline."""
        return [self.networks.get(column, {}).get("layer") or "" for column in self.columns]

    def _cells(self) -> list[list[str]]:
        lines = [[self._heading(), "n", *self.columns]]
        if any(self._layers()):
            lines.append(["layer", "", *(layer or _NONE for layer in self._layers())])
        for name, scores in self.rows.items():
            n = max(score.n for score in scores if score is not None)
            lines.append([name, str(n), *(str(score) if score else _NONE for score in scores)])
        return lines

    def _times(self) -> list[str]:
        times = [f"{self.seconds[c]:.3f}" if c in self.seconds else _NONE for c in self.columns]
        return [f"seconds a picture ({self.short_side} px)", "", *times]


def origin_of(descriptor: Descriptor) -> dict[str, str | None]:
    """Where a descriptor's numbers come from: checkpoint (file or name), layer, format, branch, arch, sha256, note."""
    origin = descriptor.origin
    if origin is None:
        return {}
    checkpoint = origin.name if origin.path is None else str(origin.path)
    values = (checkpoint, descriptor.layer, origin.format, origin.branch, origin.arch, origin.sha256, origin.note)
    return dict(zip(_ORIGIN, values, strict=True))


def _aligned(cells: list[list[str]]) -> list[str]:
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]


def _or_nothing(value: str | int | None) -> str | int:
    return "" if value is None else value
