"""Means with their intervals, and the table of all scores: measures down, checkpoints and baselines across."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # only to draw
    from matplotlib.figure import Figure

_RESAMPLES = 1000  # of the bootstrap
_NONE = "–"
ORIGIN = ("checkpoint", "layer", "format", "branch", "arch", "sha256", "note")


@dataclass(frozen=True)
class Score:
    """A mean over images, with its 95 % bootstrap interval; ``n`` images (the unit that is resampled).

    Of one image nothing is known of the spread: ``low`` and ``high`` are not numbers.
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]" if self.n > 1 else f"{self.mean:.3f} (n = 1)"


def bootstrap(values: Sequence[float], seed: int = 0) -> Score:
    """Mean of one value an image and the 2.5 % and 97.5 % quantiles of the means of 1000 resamples of the images.

    One image has no interval: it is not a number.

    Raises:
        ValueError: there is no value.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ValueError("there is no image to score")
    if len(array) == 1:
        return Score(float(array[0]), math.nan, math.nan, 1)
    picks = np.random.default_rng(seed).integers(len(array), size=(_RESAMPLES, len(array)))
    low, high = np.quantile(array[picks].mean(axis=1), (0.025, 0.975))
    return Score(float(array.mean()), float(low), float(high), len(array))


def result(
    name: str,
    values: float | Sequence[float],
    note: str = "",
    chance: float | None = None,
    more: str = "",
    style: str = ".3f",
) -> str:
    """``object AUC 0.617 [0.394, 0.791] (distance-matched, chance 0.500)``: a number as every line says it.

    Args:
        values: the number; or a value an image, whose mean and, of several, 95 % interval are said. note, more: in the
            parentheses, before and after chance. style: ".1%" of shares in percent.
    """
    score = bootstrap(values if isinstance(values, Sequence) else [values])
    text = f"{name} {score.mean:{style}}" + (f" [{score.low:{style}}, {score.high:{style}}]" if score.n > 1 else "")
    beside = [note, "" if chance is None else f"chance {chance:{style}}", more]
    return text + (f" ({', '.join(filter(None, beside))})" if any(beside) else "")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines whose columns stand below one another."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=False)).rstrip() for row in rows]


@dataclass(frozen=True, eq=False)
class Values:
    """What a score is the mean of, and what its bootstrap draws from: a value an image.

    All columns are of the same n images, so that they can be compared in pairs.

    Attributes:
        images: their n numbers in the data set. columns: of each descriptor, and last by chance, n values; empty where
            it has none. asked: how many images were looked at. why: those that are not among the n have no value, a
            clause.
    """

    images: list[int]
    columns: list[list[float]]
    asked: int
    why: str

    def scores(self) -> tuple[Score | None, ...]:
        """The bootstrap of each column; None where there is nothing."""
        return tuple(bootstrap(values) if values else None for values in self.columns)


@dataclass(frozen=True)
class Table:
    """One data set's scores.

    Attributes:
        data: the data set. short_side: pixels of the shorter side of the images as they were described.
        columns: names of the descriptors, then of the baselines. rows: a measure's name → a score a column, None where
        a baseline has none. seconds: median time to describe one image, by column.

        Of what was scored: baselines: which columns are. path: of the data set, as it was given. limit: images that
        were asked for, None: all. within: cells of the view match. images: that were scored. interrupted_after:
        images, where the rest was not waited for. networks: a column's name → what ``ORIGIN`` lists of its checkpoint.

        Of the data set: available: how many images it has. layout: what is known of them, and from where. left_out:
        those that could not be scored, with the reason. missing: sentences about what is not scored, and why. sha256:
        of the images that were scored, and of what is known of them.

        values: a measure's name → the values of single images, of which ``rows`` are the means. names: the number of
        an image that was scored → its name in the data set.
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
    images: int | None = None
    interrupted_after: int | None = None
    networks: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    available: int | None = None
    layout: str = ""
    left_out: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    sha256: str = ""
    values: Mapping[str, Values] = field(default_factory=dict, repr=False)
    names: Mapping[int, str] = field(default_factory=dict, repr=False)

    def to_markdown(self) -> str:
        """A Markdown table: the layers, mean and 95 % interval, n images a row, seconds an image; and the notes."""
        lines = ["| " + " | ".join(row) + " |" for row in [*self._cells(), self._times()]]
        lines.insert(1, "|" + "---|" * (len(self.columns) + 2))
        return "\n".join([*lines, *(part for note in self.notes() for part in ("", note))])

    def lines(self) -> list[str]:
        """The same in aligned columns, without the seconds: what another run says again."""
        return [*aligned(self._cells()), *self.notes()]

    def notes(self) -> list[str]:
        """What the data set is, which images were left out, and why a measure or an image is missing."""
        if not self.layout:
            return []
        shown = f"{self.images}" if self.images == self.available else f"{self.images} of {self.available}"
        out = left_out(self.left_out)
        return [f"{self.data}: {shown} images {self.layout}{'; ' + out if out else ''}", *self.missing]

    def arrays(self) -> dict[str, np.ndarray]:
        """The values of single images, to compare columns in pairs.

        Returns:
            "measure: column" → ``(n,)`` float64, n images in the same order in each column of a measure; "images of
            measure" → ``(n,)`` int64, their numbers: number 12 is the image ``DIR#12``; "names of images of measure" →
            ``(n,)`` strings, their names in the data set: of files the path in it.
        """
        found = {}
        for measure, values in self.values.items():
            found[f"images of {measure}"] = np.array(values.images, dtype=np.int64)
            found[f"names of images of {measure}"] = np.array([self.names[i] for i in values.images], dtype=np.str_)
            columns = zip(self.columns, values.columns, strict=True)
            found |= {f"{measure}: {column}": np.array(mine, dtype=np.float64) for column, mine in columns if mine}
        return found

    def records(self) -> list[dict[str, Any]]:
        """One line a cell: measure, column, mean, low, high, n, and what was scored; seconds are a measure, too.

        Low and high are empty where there is no interval.
        """
        asked = {"data": self.path or self.data, "limit": self.limit, "short side": self.short_side}
        asked |= {"within": self.within}
        cells = [{"measure": m, "column": c} | score for m, row in self._scores().items() for c, score in row.items()]
        empty = dict.fromkeys(("low", "high", "n"))
        cells += [{"measure": "seconds an image", "column": c, "mean": s, **empty} for c, s in self.seconds.items()]
        origins = [{key: self.networks.get(cell["column"], {}).get(key) for key in ORIGIN} for cell in cells]
        rows = [cell | asked | origin for cell, origin in zip(cells, origins, strict=True)]
        return [{key: "" if value is None else value for key, value in row.items()} for row in rows]

    def content(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON: ``rows`` is measure → column → mean, low, high, n.

        Low and high are None where there is no interval.
        """
        kept = {name: value for name, value in vars(self).items() if name not in ("values", "names")}
        return kept | {"rows": self._scores()}

    def _scores(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {
            name: {
                column: {key: None if value != value else value for key, value in vars(score).items()}
                for column, score in zip(self.columns, scores, strict=True)
                if score is not None
            }
            for name, scores in self.rows.items()
        }

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
        names = [c for c in self.columns if c not in self.baselines]
        details += f"short side {self.short_side} px"
        return score_chart(panels, self.baselines, names, self._heading(), details)

    def _heading(self) -> str:
        return self.data + (f" (interrupted after {self.interrupted_after} images)" if self.interrupted_after else "")

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
        return [f"seconds an image ({self.short_side} px)", "", *times]


def left_out(reasons: Sequence[str], named: int = 3) -> str:
    """How many images could not be scored, and why the first could not; "" if there is none."""
    more = f"; and {len(reasons) - named} more" if len(reasons) > named else ""
    return f"left out {len(reasons)}: {'; '.join(reasons[:named])}{more}" if reasons else ""
