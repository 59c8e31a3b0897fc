"""Scores of a data set: means with their intervals, one pass over the images, and the table of all measures.

A score, registered in ``plrc.registry.SCORES``, is a function of a ``ScoredImage`` that returns a value for each
descriptor and, last, the one by chance (or those of several rows, by name); or a text, why this image has no value. One
that needs several images is a class: ``add(image)`` takes one up, and ``values()`` gives, by a row's name, ``Values``.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
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
from plrc.queries import Scores
from plrc.registry import SCORES

_RESAMPLES = 1000  # of the bootstrap
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
        picks = np.random.default_rng(seed).integers(len(array), size=(_RESAMPLES, len(array)))
        low, high = np.quantile(array[picks].mean(axis=1), (0.025, 0.975))
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
    """A score that is a function of one image, taken up as one of several images is."""

    def __init__(self, function: Callable[[ScoredImage], Any]) -> None:
        self._function = function
        self._rows = defaultdict[str, dict[int, Sequence[float]]](dict)
        self._why: dict[str, None] = {}

    def add(self, image: ScoredImage) -> None:
        found = self._function(image)
        if isinstance(found, str):
            self._why[found] = None
            return
        for row, values in (found if isinstance(found, Mapping) else {"": found}).items():
            if len(values) != (n := len(image.descriptors)) + 1 or not np.isfinite(values).all():
                gives = f"{getattr(self._function, '__name__', 'the score')} gives {values} of image {image.number}"
                said = f"{n} finite values, one a descriptor, and last the one by chance; or a text, why there is none"
                raise ValueError(f"{gives}: give {said}")
            self._rows[row][image.number] = values

    def values(self) -> dict[str, Values]:
        why = ", or ".join(self._why)
        return {
            row: Values(list(of), [list(map(float, column)) for column in zip(*of.values(), strict=True)], why)
            for row, of in (self._rows or {"": {}}).items()
        }


def _taker(score: Any) -> Any:
    return score() if isinstance(score, type) else _PerImage(score)


def values_of(score: Any, images: Iterable[ScoredImage]) -> dict[str, Values]:
    """A score, as SCORES names them, of images: a row's name, "" where it has no name of its own → its values."""
    taker = _taker(score)
    for image in images:
        taker.add(image)
    return taker.values()


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
        shown = f"{self.images}" if self.images == self.available else f"{self.images} of {self.available}"
        return ["; ".join([f"{self.data}: {shown} images {self.layout}", *_left_out(self.left_out)]), *self.missing]

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
        layers = dict.fromkeys(filter(None, self._layers()))
        named = f"{'layers' if len(layers) > 1 else 'layer'} {', '.join(layers)}; " if layers else ""
        return f"{named}short side {self.query.side} px"

    def _heading(self) -> str:
        return self.data + (f" (interrupted after {self.interrupted_after} images)" if self.interrupted_after else "")

    def _layers(self) -> list[str]:
        return [self.networks.get(column, {}).get("layer") or "" for column in self.columns]

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
) -> Table:
    """All scores that a data set allows, of several descriptors and beside them the trivial baselines.

    An image's shorter side is resized to ``query.size``, in steps of 32 pixels; two views of it are cut and coloured as
    the ``imagenet`` preset trains. Baselines: "Lab colour" and "distance" (the nearest is the most alike) or, of
    keypoints, "same place" (relative to the image's sides), in cells of 8 pixels, and "chance".

    Images that cannot be decoded, or whose annotation cannot be read, are left out. Memory does not grow with the data
    set but for a few numbers an image (k-NN: one feature), and the maps of one folder of keypoints.

    Args:
        dataset: what ``query.dataset`` names. progress: wraps the list of the images' numbers, such as ``tqdm.tqdm``;
            it may end early: the table is of the images so far then, and says so.

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

    config, seconds = load_config("imagenet"), dict[str, list[float]]()
    how: dict[str, Any] = {"short_side": query.side, "within": query.within, "seconds": seconds}
    how |= {"sampler": view_sampler(config), "side": config.image_size}
    takers: dict[str, dict[str, Any]] = {measure: {} for measure in wanted}
    looked_at = Counter[tuple[str, str]]()
    unread: list[str] = []
    names: dict[int, str] = {}
    sha256 = hashlib.sha256()
    every, done = len(dataset), 0
    numbers = np.unique(np.linspace(0, every - 1, min(query.most or every, every)).round()).astype(int).tolist()
    for i in progress(numbers):
        done += 1
        try:
            known: dict[str, Any] = {"image": dataset.load(i), "annotation": dataset.annotation(i)}
            more = [name for name in ("keypoints", "group", "label") if hasattr(dataset, name)]
            known |= {name: getattr(dataset, name)(i) for name in more}
            image = ScoredImage(number=i, descriptors=described, **known, **how)
        except (UndecodableImage, ValueError) as error:  # a ValueError is of the annotation, and does not name it
            unread.append(str(error) if isinstance(error, UndecodableImage) else f"{dataset.name(i)}: {error}")
            continue
        names[i] = dataset.name(i)
        _digest(sha256, image)
        for measure, entry in wanted.items():
            if (kind := image.kind(needs[measure])) is not None:
                if kind not in takers[measure]:
                    takers[measure][kind] = _taker(entry.load())
                takers[measure][kind].add(image)
                looked_at[measure, kind] += 1
    if not names:
        raise ValueError(f"{query.dataset}: none of {done} images can be scored, {_left_out(unread, 1)[0]}")

    found = {
        (row or titles[measure]) + f" ({kind})" * bool(kind): (values, looked_at[measure, kind])
        for measure, kinds in takers.items()
        for kind, taker in kinds.items()
        for row, values in taker.values().items()
    }
    missing = _missing({titles[m]: _LACKING[needs[m]] for m, kinds in takers.items() if not kinds}, found)
    rows: dict[str, dict[str, Score]] = {}
    arrays: dict[str, np.ndarray] = {}
    for row, (values, _) in found.items():
        if any(values.columns):
            of = {column: mine for column, mine in zip(columns, values.columns, strict=True) if mine}
            rows[row] = {column: bootstrap(mine) for column, mine in of.items()}
            arrays[f"images of {row}"] = np.array(values.images, dtype=np.int64)
            arrays[f"names of images of {row}"] = np.array([names[i] for i in values.images], dtype=np.str_)
            arrays |= {f"{row}: {column}": np.array(mine, dtype=np.float64) for column, mine in of.items()}
    if not rows:
        raise ValueError(f"{query.dataset}: none of its images has a score; {'; '.join(missing)}")
    return Table(
        query,
        columns,
        rows,
        {column: float(np.median(times)) for column, times in seconds.items()},
        columns[len(descriptors) :],
        {d.name: _origin(d) for d in descriptors if d.origin is not None},
        images=len(names),
        available=every,
        interrupted_after=done if done < len(numbers) else None,
        layout=layout_of(dataset),
        left_out=tuple(unread),
        missing=tuple(missing),
        sha256=sha256.hexdigest(),
        arrays=arrays,
    )


def _origin(descriptor: Descriptor) -> dict[str, str | None]:
    origin: Any = descriptor.origin
    named = {"checkpoint": str(origin.path or origin.name), "layer": descriptor.layer}
    return named | {key: getattr(origin, key) for key in _ORIGIN[2:]}


def _digest(sha256: Any, image: ScoredImage) -> None:
    """Take an image, and what is known of it, into a data set's SHA-256."""
    label = image.group or image.label or ""
    sha256.update(f"{image.image.size} {label} ".encode(errors="surrogateescape") + image.image.tobytes())
    if (known := image.annotation) is not None:
        ignored = sorted(known.difficult | known.crowd)
        sha256.update(f"{known.classes} {ignored} ".encode(errors="surrogateescape") + known.boxes.tobytes())
        if known.masks is not None:
            sha256.update(f"{known.masks.shape} ".encode() + np.packbits(known.masks).tobytes())
    if image.keypoints is not None:
        sha256.update(f"{image.keypoints.shape} ".encode() + image.keypoints.tobytes())


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
