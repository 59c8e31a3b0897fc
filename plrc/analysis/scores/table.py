"""Scores of a data set: means with their intervals, one pass over the images, and the table of all measures.

A score, registered in ``plrc.registry.SCORES``, is a function of a ``ScoredImage`` that returns a value for each
descriptor and, last, the one by chance (or those of several rows, by name); or a text, why this image has no value. One
that needs several images is a class:

- ``of(images)``, those of one group (``ScoredImage.group``), else a single one, gives number → what is noted of each
  image, or a text, why nothing is. It is written to a file and sent between ranks: numbers, texts, lists, tensors.
- ``values(noted, why, descriptors)`` gives, by a row's name, ``Values``, of what was noted of all images and of why of
  others nothing was. It is asked of an object that has seen none of them.
- ``begin(images)``, if there is such a method, comes before ``of`` and may look at the first images of the data set.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, absolute_position, lab_colour, relative_position
from plrc.analysis.features import as_tensor, input_size
from plrc.config import load_config
from plrc.data.annotated import layout_of
from plrc.data.images import UndecodableImage
from plrc.data.loader import view_sampler
from plrc.data.sources import Annotation, Source
from plrc.data.views import ViewSampler
from plrc.distributed import broadcast_object, gather_objects, rank, world_size
from plrc.files import written_whole
from plrc.queries import Scores
from plrc.registry import SCORES

logger = logging.getLogger(__name__)
_RESAMPLES = 1000  # of the bootstrap
_AT_ONCE = 2**20  # numbers of images that are drawn at once
_PART, _PARTS = 8, 512  # fewest images of a part, and about as many parts as there may be
_NONE = "–"
_STRIDE = 8  # pixels a cell of the baselines, for all checkpoints: they are not to depend on what stands beside them
_ORIGIN = ("checkpoint", "layer", "format", "branch", "arch", "sha256", "note")
# What a score needs → why it is not taken.
_LACKING = {"": "no image", "masks": "no masks", "objects": "no masks or boxes", "keypoints": "no keypoints"}
_LACKING |= {"classes": "fewer than two class folders"}
Numbers = float | Sequence[float]


@dataclass(frozen=True)
class Score:
    """A mean over ``n`` images (the unit that is resampled), with its 95 % bootstrap interval; of one there is none."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]" if self.n > 1 else f"{self.mean:.3f} (n = 1)"


def bootstrap(values: Sequence[float], seed: int = 0) -> Score:
    """Mean of one value an image and the 2.5 % and 97.5 % quantiles of the means of 1000 resamples of the images."""
    array, low, high = np.asarray(values, dtype=np.float64), math.nan, math.nan
    if not len(array):
        raise ValueError("there is no image to score")
    if len(array) > 1:
        rng, rows = np.random.default_rng(seed), max(1, _AT_ONCE // len(array))  # the same draws, however many at once
        sizes = [min(rows, _RESAMPLES - done) for done in range(0, _RESAMPLES, rows)]
        means = [array[rng.integers(len(array), size=(size, len(array)))].mean(axis=1) for size in sizes]
        low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Score(float(array.mean()), float(low), float(high), len(array))


def result(
    name: str, values: Numbers, note: str = "", chance: float | None = None, more: str = "", style: str = ".3f"
) -> str:
    """``object AUC 0.617 [0.394, 0.791] (distance-matched, chance 0.500)``: a number as every line says it.

    Of a value an image the mean is said and, of several, the 95 % interval; note and more before and after chance.
    """
    score = bootstrap(values if isinstance(values, Sequence) else [values])
    interval = f" [{score.low:{style}}, {score.high:{style}}]" if score.n > 1 else ""
    beside = ", ".join(filter(None, [note, "" if chance is None else f"chance {chance:{style}}", more]))
    return f"{name} {score.mean:{style}}{interval}" + (f" ({beside})" if beside else "")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines whose columns stand below one another."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """One image of the data set, as a score sees it."""

    number: int  # in the data set; whatever is drawn at random depends on it alone
    image: Image.Image  # upright RGB
    descriptors: Sequence[Descriptor]  # the networks', then the baselines'
    annotation: Annotation | None = None  # its objects, difficult and crowd ones among them, where they are known
    keypoints: np.ndarray | None = None  # (K, 2) in the image frame, not a number where not seen
    group: str = ""  # of images that show the same keypoints
    label: str | None = None  # its class
    short_side: int = 448  # pixels to which the shorter side is resized for maps
    cell: int = 32  # of which both sides are multiples: a ResNet's last stride, so that maps cover the whole image
    within: int = 1  # by how many such cells a match of views may be off
    sampler: ViewSampler | None = None  # how two views are cut
    side: int = 224  # of a view, pixels
    seconds: dict[str, list[float]] = field(default_factory=dict)  # descriptor → time that its maps took
    kept: dict[int, Any] = field(default_factory=dict)  # what object scores share, of the first images and the latest

    @cached_property
    def maps(self) -> list[Tensor]:
        """Of each descriptor ``(1, C, h, w)``, over the whole image; made when first asked for."""
        pixels, maps = as_tensor(self.image, input_size(self.image.size, self.short_side, self.cell)), []
        for descriptor in self.descriptors:
            start = time.perf_counter()
            maps.append(descriptor.maps(pixels))
            self.seconds.setdefault(descriptor.name, []).append(time.perf_counter() - start)
        return maps

    def kind(self, needs: str) -> str | None:
        """None if what a score needs is not known; "boxes" where they stand for objects, else ""."""
        boxes = self.annotation is not None and self.annotation.masks is None
        known: dict[str, Any] = {"objects": self.annotation, "masks": None if boxes else self.annotation}
        known |= {"keypoints": self.keypoints, "classes": self.label, "": ""}
        return None if known[needs] is None else "boxes" * (boxes and needs == "objects")


@dataclass(frozen=True, eq=False)
class Values:
    """What a score is the mean of, and what its bootstrap draws from: a value an image."""

    images: list[int]  # their n numbers in the data set, the same in all columns, which can thus be compared in pairs
    columns: list[list[float]]  # of each descriptor, and last by chance, n values; empty where it has none
    why: str  # the other images that were looked at have no value, a clause


class _PerImage:
    """A score that is a function of one image, as one of several images is."""

    def __init__(self, function: Callable[[ScoredImage], Any]) -> None:
        self._function = function

    def of(self, images: Sequence[ScoredImage]) -> dict[int, Any]:
        return {image.number: self._of(image) for image in images}

    def _of(self, image: ScoredImage) -> str | dict[str, list[float]]:
        if isinstance(found := self._function(image), str):
            return found
        rows = found if isinstance(found, Mapping) else {"": found}
        for values in rows.values():
            if len(values) != (n := len(image.descriptors)) + 1 or not np.isfinite(values).all():
                gives = f"{getattr(self._function, '__name__', 'the score')} gives {values} of image {image.number}"
                said = f"{n} finite values, one a descriptor, and last the one by chance; or a text, why there is none"
                raise ValueError(f"{gives}: give {said}")
        return {row: list(map(float, values)) for row, values in rows.items()}

    def values(self, noted: Mapping[int, Any], why: str, descriptors: Sequence[Descriptor]) -> dict[str, Values]:
        rows = defaultdict[str, dict[int, list[float]]](dict)
        for number, found in noted.items():
            for row, values in found.items():
                rows[row][number] = values
        return {
            row: Values(list(of), list(map(list, zip(*of.values(), strict=True))), why)
            for row, of in (rows or {"": {}}).items()
        }


def _taker(score: Any) -> Any:
    return score() if isinstance(score, type) else _PerImage(score)


def values_of(score: Any, images: Iterable[ScoredImage]) -> dict[str, Values]:
    """A score, as SCORES names them, of images: a row's name, "" where it has no name of its own → its values."""
    taker, noted, descriptors = _taker(score), dict[int, Any](), list[Descriptor]()
    if hasattr(taker, "begin"):
        taker.begin(images := list(images))
    for _, group in groupby(images, lambda image: image.group if isinstance(score, type) else image.number):
        noted |= taker.of(together := list(group))
        descriptors = list(together[0].descriptors)
    return _values(taker, noted, descriptors)


def _values(taker: Any, noted: Mapping[int, Any], descriptors: Sequence[Descriptor]) -> dict[str, Values]:
    reasons = dict.fromkeys(found for found in noted.values() if isinstance(found, str))
    counted = {number: found for number, found in noted.items() if not isinstance(found, str)}
    found: dict[str, Values] = taker.values(counted, ", or ".join(reasons), descriptors)
    return found


@dataclass(frozen=True)
class Table:
    """One data set's scores.

    ``arrays`` are the values of single images, to compare columns in pairs: "measure: column" → ``(n,)`` float64, n
    images in the same order in each column of a measure; "images of measure" → ``(n,)`` int64, their numbers: 12 is the
    image ``DIR#12``; "names of images of measure" → ``(n,)`` strings, of files the path in the data set.
    """

    query: Scores  # what was asked
    columns: tuple[str, ...]  # names of the descriptors, then of the baselines
    rows: dict[str, dict[str, Score]]  # measure → column → its score; a baseline may have none
    seconds: dict[str, float]  # column → median time to describe one image
    baselines: tuple[str, ...] = ()
    networks: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)  # column → checkpoint, layer, …
    images: int | None = None  # how many were scored
    available: int | None = None  # of how many
    interrupted_after: int | None = None  # images, where the rest was not waited for
    layout: str = ""  # what is known of the images, and from where
    left_out: tuple[str, ...] = ()  # images that could not be scored, with the reason
    missing: tuple[str, ...] = ()  # sentences about what is not scored, and why
    sha256: str = ""  # of the images that were scored, and of what is known of them
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def data(self) -> str:
        """The data set, for a heading."""
        return Path(self.query.dataset).resolve().name

    def to_markdown(self) -> str:
        """A Markdown table: the layers, mean and 95 % interval, n images a row, seconds an image; and the notes."""
        times = [f"{self.seconds[c]:.3f}" if c in self.seconds else _NONE for c in self.columns]
        rows = self._turned([*self._cells(), [f"seconds an image ({self.query.side} px)", "", *times]])
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + "---|" * len(rows[0]))
        return "\n".join([*lines, *(part for note in self.notes() for part in ("", note))])

    def lines(self) -> list[str]:
        """The same in aligned columns, without the seconds: what another run says again."""
        return [*aligned(self._turned(self._cells())), *self.notes()]

    def _turned(self, rows: list[list[str]]) -> list[list[str]]:
        """Of epochs, of which there are many, a line each."""
        return list(map(list, zip(*rows, strict=True))) if self.query.epochs else rows

    def notes(self) -> list[str]:
        """What the data set is, which images were left out, and why a measure or an image is missing."""
        if not self.layout:
            return []
        layers = self._kinds_of_layers()
        differ = [f"columns are of different layers, {', '.join(layers)}: --layer takes one"] if len(layers) > 1 else []
        shown = f"{self.images}" if self.images == self.available else f"{self.images} of {self.available}"
        return [
            "; ".join([f"{self.data}: {shown} images {self.layout}", *_left_out(self.left_out)]),
            *self.missing,
            *differ,
        ]

    def records(self) -> list[dict[str, Any]]:
        """One line a cell: measure, also seconds, column, mean, low, high, n ("" for none), and what was scored."""
        query, none = self.query, dict.fromkeys(("low", "high", "n"))
        asked = {"data": query.dataset, "limit": query.most, "short side": query.side, "within": query.within}
        seconds = {column: {"mean": seconds, **none} for column, seconds in self.seconds.items()}
        rows = [
            {"measure": measure, "column": column, **score, **asked}
            | {key: self.networks.get(column, {}).get(key) for key in _ORIGIN}
            for measure, scores in (*self.content()["rows"].items(), ("seconds an image", seconds))
            for column, score in scores.items()
        ]
        return [{key: "" if value is None else value for key, value in row.items()} for row in rows]

    def content(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON: ``rows`` is measure → column → mean, low, high (or None), n."""
        query = self.query
        asked = {"data": self.data, "path": query.dataset, "limit": query.most, "within": query.within}
        rows = {
            name: {column: {k: None if v != v else v for k, v in vars(s).items()} for column, s in scores.items()}
            for name, scores in self.rows.items()
        }
        kept = {name: value for name, value in vars(self).items() if name not in ("query", "arrays")}
        return kept | asked | {"short_side": query.side, "rows": rows}

    def draw(self) -> Any:
        """A chart, a panel a measure: see ``plrc.figures.score_chart``."""
        from plrc.figures import score_chart

        names = [c for c in self.columns if c not in self.baselines]
        return score_chart(self.panels(), self.baselines, names, self._heading(), self._details())

    def draw_over_epochs(self, epochs: Mapping[str, tuple[str, int]], losses: Mapping[str, Any]) -> Any:
        """The same over the epochs of runs: see ``plrc.figures.scores_over_epochs``.

        epochs: columns → the run and its epoch; others stay as they are.
        """
        from plrc.figures import scores_over_epochs

        lines: dict[str, dict[str, Any]] = {}
        beside: dict[str, dict[str, float]] = {}
        for measure, scores in self.panels().items():
            lines[measure], beside[measure] = {}, {}
            for column, (mean, *interval) in scores.items():
                if column in epochs:
                    run, epoch = epochs[column]
                    lines[measure].setdefault(run, []).append((epoch, mean, *interval))
                else:
                    beside[measure][column] = mean
            lines[measure] = {run: np.array(sorted(of)) for run, of in lines[measure].items()}
        return scores_over_epochs(lines, beside, losses, self._heading(), self._details())

    def panels(self) -> dict[str, dict[str, tuple[float, float, float]]]:
        """Measure, with its number of images → column → mean, low, high."""
        return {
            f"{name}, n = {max(score.n for score in scores.values())}": {
                column: (s.mean, s.low, s.high) for column, s in scores.items()
            }
            for name, scores in self.rows.items()
        }

    def _details(self) -> str:
        layers = self._kinds_of_layers()
        named = f"{'layers' if len(layers) > 1 else 'layer'} {', '.join(layers)}; " if layers else ""
        return f"{named}short side {self.query.side} px"

    def _heading(self) -> str:
        return self.data + (f" (interrupted after {self.interrupted_after} images)" if self.interrupted_after else "")

    def _layers(self) -> list[str]:
        return [self.networks.get(column, {}).get("layer") or "" for column in self.columns]

    def _kinds_of_layers(self) -> list[str]:
        return [*dict.fromkeys(filter(None, self._layers()))]

    def _cells(self) -> list[list[str]]:
        lines = [[self._heading(), "n", *self.columns]]
        if any(layers := self._layers()):
            lines.append(["layer", "", *(layer or _NONE for layer in layers)])
        for name, scores in self.rows.items():
            n = max(score.n for score in scores.values())
            lines.append([name, str(n), *(str(scores.get(column, _NONE)) for column in self.columns)])
        return lines


def score_table(
    dataset: Source,
    descriptors: Sequence[Descriptor],
    query: Scores,
    progress: Callable[[list[int]], Iterable[int]] = iter,
    keep: Path | None = None,
) -> Table | None:
    """All scores that a data set allows, of several descriptors and beside them the trivial baselines.

    An image's shorter side is resized to ``query.size``, in steps of 32 pixels; two views of it are cut and coloured as
    the ``imagenet`` preset trains. Baselines: "Lab colour" and "distance" (the nearest is the most alike) or, of
    keypoints, "same place" (relative to the image's sides), in cells of 8 pixels, and "chance".

    Images that cannot be decoded, or whose annotation cannot be read, are left out. Memory does not grow with the data
    set but for what the scores note of an image, some kilobytes, and the maps of one folder of keypoints.

    Ranks take parts of the images in turn, and the first one has the table: the same as that of one process.

    Args:
        dataset: what ``query.dataset`` names. progress: wraps the list of the numbers of this rank's images, such as
            ``tqdm.tqdm``; in a process alone it may end early: the table is of the images so far then, and says so.
        keep: folder for what is noted, a file a part, so that after a kill those that are there need not be done again.
            Whoever names it sees to it that one folder is for one data set, query and descriptors.

    Returns None on ranks other than the first.

    Raises a ValueError if there is no descriptor, two have one name, a measure is unknown, or no image can be scored.
    """
    if not descriptors:
        raise ValueError("there is nothing to score: name a checkpoint with --checkpoint")
    position = relative_position if hasattr(dataset, "keypoints") else absolute_position
    described = [*descriptors, lab_colour(_STRIDE), position(_STRIDE)]
    columns = (*(d.name for d in described), "chance")
    if len(set(columns)) < len(columns):
        raise ValueError(f"each column needs a name of its own, not {', '.join(columns)}")
    asked = {measure: SCORES[measure] for measure in query.measures}  # raises of one that is unknown
    wanted = {measure: entry for measure, entry in SCORES.items() if measure in asked or not asked}
    needs = {measure: entry.traits.get("needs", "") for measure, entry in wanted.items()}
    if unknown := [f"{measure} needs {need!r}" for measure, need in needs.items() if need not in _LACKING]:
        raise ValueError(f"the score {unknown[0]}: choose from {', '.join(filter(None, _LACKING))}, or nothing")
    titles = {measure: str(entry.traits.get("title", measure)) for measure, entry in wanted.items()}

    every = len(dataset)
    numbers = np.unique(np.linspace(0, every - 1, min(query.most or every, every)).round()).astype(int).tolist()
    parts, alone = _parts(dataset, numbers, query.until), world_size() == 1
    found = _kept(keep, len(parts)) if keep and rank() == 0 else {}
    left = broadcast_object([p for p in range(len(parts)) if p not in found])
    mine = {i: p for p in (range(len(parts)) if alone else left[rank() :: world_size()]) for i in parts[p]}
    scoring, done = _Scoring(dataset, described, query, numbers, needs), 0
    for i in progress(list(mine)):
        done += 1
        if (p := mine[i]) in found:
            continue
        scoring.take(i)
        if i == parts[p][-1]:
            found[p] = scoring.end()
            if keep and len(parts) > 1:
                keep = _keep(keep, p, found[p])
    if alone:  # and perhaps ended early
        begun = {mine[i] for i in list(mine)[:done]}
        found = {p: part for p, part in found.items() if p in begun}
        found |= {p: scoring.end() for p in begun if p not in found}
    every_rank = gather_objects(found)
    if rank():
        return None
    whole = _Part()
    for _, part in sorted((item for of in every_rank for item in of.items()), key=lambda item: item[0]):
        whole.add(part)
    done, names = len(whole.unread) + len(whole.names), whole.names
    if not names:
        unread = list(whole.unread.values())
        raise ValueError(f"{query.dataset}: none of {done} images can be scored, {_left_out(unread, 1)[0]}")

    values = {
        (row or titles[measure]) + f" ({kind})" * bool(kind): (of_row, len(noted))
        for measure in wanted
        for kind, noted in whole.noted.get(measure, {}).items()
        for row, of_row in _values(_taker(wanted[measure].load()), noted, described).items()
    }
    missing = _missing({titles[m]: _LACKING[needs[m]] for m in wanted if m not in whole.noted}, values)
    rows: dict[str, dict[str, Score]] = {}
    arrays: dict[str, np.ndarray] = {}
    for row, (of_row, _) in values.items():
        if any(of_row.columns):
            of = {column: mine for column, mine in zip(columns, of_row.columns, strict=True) if mine}
            rows[row] = {column: bootstrap(mine) for column, mine in of.items()}
            arrays[f"images of {row}"] = np.array(of_row.images, dtype=np.int64)
            arrays[f"names of images of {row}"] = np.array([names[i] for i in of_row.images], dtype=np.str_)
            arrays |= {f"{row}: {column}": np.array(mine, dtype=np.float64) for column, mine in of.items()}
    if not rows:
        raise ValueError(f"{query.dataset}: none of its images has a score; {'; '.join(missing)}")
    return Table(
        query,
        columns,
        rows,
        {column: float(np.median(times)) for column, times in whole.seconds.items()},
        columns[len(descriptors) :],
        {d.name: _origin(d) for d in descriptors if d.origin is not None},
        images=len(names),
        available=every,
        interrupted_after=done if done < len(numbers) else None,
        layout=layout_of(dataset),
        left_out=tuple(whole.unread.values()),
        missing=tuple(missing),
        sha256=hashlib.sha256("".join(whole.digests.values()).encode()).hexdigest(),
        arrays=arrays,
    )


@dataclass
class _Part:
    """What is known of some images when they have been looked at: by the image's number its name, SHA-256, why it
    cannot be read; by a descriptor's name the time that maps took; and measure → kind → number → what is noted."""

    names: dict[int, str] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    noted: dict[str, dict[str, dict[int, Any]]] = field(default_factory=dict)

    def add(self, other: _Part) -> None:
        for mine, theirs in ((self.names, other.names), (self.digests, other.digests), (self.unread, other.unread)):
            mine |= theirs
        for name, times in other.seconds.items():
            self.seconds.setdefault(name, []).extend(times)
        for measure, kinds in other.noted.items():
            for kind, noted in kinds.items():
                self.noted.setdefault(measure, {}).setdefault(kind, {}).update(noted)


class _Scoring:
    """Takes images, and notes of them what each score wants to know. ``needs``: measure → what it needs."""

    def __init__(
        self,
        dataset: Source,
        descriptors: Sequence[Descriptor],
        query: Scores,
        numbers: Sequence[int],
        needs: Mapping[str, str],
    ) -> None:
        config = load_config("imagenet")
        self._dataset, self._numbers, self._needs = dataset, numbers, needs
        self._how: dict[str, Any] = {"descriptors": descriptors, "short_side": query.side, "within": query.within}
        self._how |= {"sampler": view_sampler(config), "side": config.image_size, "kept": {}}
        self._takers: dict[tuple[str, str], Any] = {}
        self._group: list[ScoredImage] = []
        self._part = _Part()

    def take(self, i: int) -> None:
        """Look at an image, or note why it cannot be read."""
        try:
            image = self._opened(i)
        except (UndecodableImage, ValueError) as error:  # a ValueError is of the annotation, and does not name it
            named = isinstance(error, UndecodableImage)
            self._part.unread[i] = str(error) if named else f"{self._dataset.name(i)}: {error}"
            return
        self._part.names[i], self._part.digests[i] = self._dataset.name(i), _digest(image)
        if self._group and image.group != self._group[0].group:
            self._note()
        self._group.append(image)
        if not hasattr(self._dataset, "group"):
            self._note()

    def end(self) -> _Part:
        """What is known of the images since the last end."""
        self._note()
        part, self._part = self._part, _Part()
        return part

    def _opened(self, i: int) -> ScoredImage:
        known: dict[str, Any] = {"image": self._dataset.load(i), "annotation": self._dataset.annotation(i)}
        more = [name for name in ("keypoints", "group", "label") if hasattr(self._dataset, name)]
        known |= {name: getattr(self._dataset, name)(i) for name in more}
        return ScoredImage(number=i, **known, **self._how, seconds=self._part.seconds)

    def _note(self) -> None:
        group, self._group = self._group, []
        for measure, needs in self._needs.items():
            kinds = defaultdict[str, list[ScoredImage]](list)
            for image in group:
                if (kind := image.kind(needs)) is not None:
                    kinds[kind].append(image)
            for kind, images in kinds.items():
                noted = self._part.noted.setdefault(measure, {}).setdefault(kind, {})
                noted.update(self._taker(measure, kind).of(images))

    def _taker(self, measure: str, kind: str) -> Any:
        if (measure, kind) not in self._takers:
            taker = self._takers[measure, kind] = _taker(SCORES[measure].load())
            if hasattr(taker, "begin"):
                taker.begin(self._first(self._needs[measure], kind))
        return self._takers[measure, kind]

    def _first(self, needs: str, kind: str) -> Iterator[ScoredImage]:
        """The images of a kind, from the data set's first one on, whichever rank and part they are of."""
        for i in self._numbers:
            try:
                image = self._opened(i)
            except (UndecodableImage, ValueError):
                continue
            if image.kind(needs) == kind:
                yield image


def _parts(dataset: Source, numbers: Sequence[int], until: int | None) -> list[list[int]]:
    """The first images, in parts that do not depend on how many those are; a group of images lies in one part."""
    size, parts, group = max(_PART, -(-len(numbers) // _PARTS)), list[list[int]](), getattr(dataset, "group", None)
    for i in numbers[:until]:
        if not parts or (len(parts[-1]) >= size and (group is None or group(i) != group(parts[-1][-1]))):
            parts.append([])
        parts[-1].append(i)
    return parts


def _keep(folder: Path, p: int, part: _Part) -> Path | None:
    """The folder, None where it cannot be written to."""
    try:
        with written_whole(folder / f"{p:04}.pt") as unfinished:
            torch.save(vars(part), unfinished)
    except OSError as error:
        logger.warning("%s: nothing is kept, after a kill all would be done again", error)
        return None
    return folder


def _kept(folder: Path, count: int) -> dict[int, _Part]:
    """The parts, of so many, that are there; one that is damaged is not."""
    found: dict[int, _Part] = {}
    for p in range(count):
        if (file := folder / f"{p:04}.pt").exists():
            try:
                found[p] = _Part(**torch.load(file, weights_only=True))
            except Exception:  # torch raises almost anything for junk
                logger.warning("%s is damaged and made again", file)
    return found


def _origin(descriptor: Descriptor) -> dict[str, str | None]:
    origin: Any = descriptor.origin
    named = {"checkpoint": str(origin.path or origin.name), "layer": descriptor.layer}
    return named | {key: getattr(origin, key) for key in _ORIGIN[2:]}


def _digest(image: ScoredImage) -> str:
    label, sha256 = image.group or image.label or "", hashlib.sha256()
    sha256.update(f"{image.image.size} {label} ".encode(errors="surrogateescape") + image.image.tobytes())
    if (known := image.annotation) is not None:
        ignored = sorted(known.difficult | known.crowd)
        sha256.update(f"{known.classes} {ignored} ".encode(errors="surrogateescape") + known.boxes.tobytes())
        if known.masks is not None:
            sha256.update(f"{known.masks.shape} ".encode() + np.packbits(known.masks).tobytes())
    if image.keypoints is not None:
        sha256.update(f"{image.keypoints.shape} ".encode() + image.keypoints.tobytes())
    return sha256.hexdigest()


def _missing(not_taken: Mapping[str, str], found: Mapping[str, tuple[Values, int]]) -> list[str]:
    """Which measures are not scored, and in which some images do not count, and why: at most a line each."""
    nowhere: dict[str, list[str]] = defaultdict(list)
    fewer: dict[tuple[int, str], list[str]] = defaultdict(list)
    for title, why in not_taken.items():
        nowhere[why].append(title)
    for row, (values, asked) in found.items():
        name, without = row.split(" (")[0], asked - len(values.images)
        if not values.images:
            nowhere[values.why].append(name)
        elif without:
            fewer[without, values.why].append(name)

    def listed(rows: Sequence[str]) -> str:
        return " and ".join(filter(None, (", ".join(rows[:-1]), rows[-1])))

    said = {
        "not scored": [f"{listed(rows)} ({why})" for why, rows in nowhere.items()],
        "images that do not count": [f"{n} in {listed(rows)} ({why})" for (n, why), rows in fewer.items()],
    }
    return [f"{what}: {'; '.join(parts)}" for what, parts in said.items() if parts]


def _left_out(reasons: Sequence[str], named: int = 3) -> list[str]:
    """How many images could not be scored, and why the first could not; nothing if there is none."""
    more = f"; and {len(reasons) - named} more" if len(reasons) > named else ""
    return [f"left out {len(reasons)}: {'; '.join(reasons[:named])}{more}"] if reasons else []
