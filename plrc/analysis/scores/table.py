"""Scores of a data set: means with their intervals, one pass over the images, and the table of all measures.

A score is registered in ``plrc.registry.SCORES``. It is a function of a ``ScoredImage`` that returns a value for each
descriptor and, last, the one by chance (or those of several rows, by name); or a text, why this image has no value. A
score that needs more than one image is a class: ``add(image)`` takes one up, and ``values()`` gives, by a row's name,
``Values``.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, absolute_position, lab_colour, relative_position
from plrc.analysis.features import as_tensor, input_size
from plrc.config import load_config
from plrc.data.annotated import KeypointSource, LabelledSource, layout_of
from plrc.data.images import UndecodableImage
from plrc.data.loader import view_sampler
from plrc.data.sources import Annotation, Source
from plrc.data.views import ViewSampler
from plrc.registry import SCORES, Entry

if TYPE_CHECKING:  # only to draw
    from matplotlib.figure import Figure

_RESAMPLES = 1000  # of the bootstrap
_NONE = "–"
_STRIDE = 8  # pixels a cell of the baselines, for all checkpoints: they are not to depend on what stands beside them
_ORIGIN = ("checkpoint", "layer", "format", "branch", "arch", "sha256", "note")
_LACKING = {  # what a score needs → why it is not taken
    "masks": "no masks",
    "objects": "no masks or boxes",
    "keypoints": "no keypoints",
    "classes": "fewer than two class folders",
}


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


# ---------------------------------------------------------------------------------------------------------- one score


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """One image of the data set, as a score sees it.

    Attributes:
        number: in the data set; whatever is drawn at random depends on it alone. image: upright RGB.
        descriptors: the networks', then the baselines'. annotation: its objects, difficult and crowd ones among them;
            None where they are not known. keypoints: ``(K, 2)`` in the image frame, not a number where not seen, and
            group: of the images that show the same ones; None and "" where there are none. label: its class, or None.
        short_side: pixels to which the shorter side is resized for ``maps``; both sides are multiples of ``cell``,
            which is the stride of a ResNet's last map, so that every map covers the whole image.
        sampler, side: how two views are cut, pixels. within: by how many cells of ``cell`` pixels a match of them may
            be off. seconds: descriptor → time that its maps took.
    """

    number: int
    image: Image.Image
    descriptors: Sequence[Descriptor]
    annotation: Annotation | None = None
    keypoints: np.ndarray | None = None
    group: str = ""
    label: str | None = None
    short_side: int = 448
    cell: int = 32
    within: int = 1
    sampler: ViewSampler | None = None
    side: int = 224
    seconds: dict[str, list[float]] = field(default_factory=dict)

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
        known |= {"keypoints": self.keypoints, "classes": self.label}
        if needs and known[needs] is None:
            return None
        return "boxes" if boxes and needs == "objects" else ""


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


class _PerImage:
    """A score that is a function of one image, taken up as one of several images is."""

    def __init__(
        self, function: Callable[[ScoredImage], Sequence[float] | Mapping[str, Sequence[float]] | str]
    ) -> None:
        self._function = function
        self._rows: dict[str, dict[int, Sequence[float]]] = {}
        self._columns = self._asked = 0
        self._why: dict[str, None] = {}

    def add(self, image: ScoredImage) -> None:
        found = self._function(image)
        self._asked, self._columns = self._asked + 1, len(image.descriptors) + 1
        if isinstance(found, str):
            self._why[found] = None
            return
        for row, values in (found if isinstance(found, Mapping) else {"": found}).items():
            self._rows.setdefault(row, {})[image.number] = values

    def values(self) -> dict[str, Values]:
        found: dict[str, Values] = {}
        for row, of in (self._rows or {"": dict[int, Sequence[float]]()}).items():
            columns = [[float(values[k]) for values in of.values()] for k in range(self._columns)]
            found[row] = Values(list(of), columns, self._asked, ", or ".join(self._why))
        return found


def _taker(score: Any) -> Any:
    return score() if isinstance(score, type) else _PerImage(score)


def values_of(score: Any, images: Iterable[ScoredImage]) -> dict[str, Values]:
    """A score, as SCORES names them, of images: a row's name, "" where it has no name of its own → its values."""
    taker = _taker(score)
    for image in images:
        taker.add(image)
    return dict(taker.values())


# --------------------------------------------------------------------------------------------------------- all scores


@dataclass(frozen=True)
class Table:
    """One data set's scores.

    Attributes:
        data: the data set. short_side: pixels of the shorter side of the images as they were described.
        columns: names of the descriptors, then of the baselines. rows: a measure's name → a score a column, None where
        a baseline has none. seconds: median time to describe one image, by column.

        Of what was scored: baselines: which columns are. path: of the data set, as it was given. limit: images that
        were asked for, None: all. within: cells of the view match. images: that were scored. interrupted_after:
        images, where the rest was not waited for. networks: a column's name → checkpoint (file or name), layer,
        format, branch, arch, sha256, note.

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
        times = [f"{self.seconds[c]:.3f}" if c in self.seconds else _NONE for c in self.columns]
        rows = [*self._cells(), [f"seconds an image ({self.short_side} px)", "", *times]]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
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
        out = _left_out(self.left_out)
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
        empty = dict.fromkeys(("low", "high", "n"))
        cells = [{"measure": m, "column": c} | score for m, row in self._scores().items() for c, score in row.items()]
        cells += [{"measure": "seconds an image", "column": c, "mean": s, **empty} for c, s in self.seconds.items()]
        rows = [
            cell
            | asked
            | {"within": self.within}
            | {key: self.networks.get(cell["column"], {}).get(key) for key in _ORIGIN}
            for cell in cells
        ]
        return [{key: "" if value is None else value for key, value in row.items()} for row in rows]

    def content(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON: ``rows`` is measure → column → mean, low, high, n.

        Low and high are None where there is no interval.
        """
        kept = {name: value for name, value in vars(self).items() if name not in ("values", "names")}
        return kept | {"rows": self._scores()}

    def draw(self) -> Figure:
        """A chart, a panel a measure: see ``plrc.figures.score_chart``."""
        from plrc.figures import score_chart

        panels = {}
        for name, scores in self.rows.items():
            known = {c: s for c, s in zip(self.columns, scores, strict=True) if s is not None}
            n = max(score.n for score in known.values())
            panels[f"{name}, n = {n}"] = {c: (s.mean, s.low, s.high) for c, s in known.items()}
        layers = dict.fromkeys(filter(None, self._layers()))
        details = f"{'layers' if len(layers) > 1 else 'layer'} {', '.join(layers)}; " if layers else ""
        names = [c for c in self.columns if c not in self.baselines]
        return score_chart(panels, self.baselines, names, self._heading(), f"{details}short side {self.short_side} px")

    def _scores(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {
            name: {
                column: {key: None if value != value else value for key, value in vars(score).items()}
                for column, score in zip(self.columns, scores, strict=True)
                if score is not None
            }
            for name, scores in self.rows.items()
        }

    def _heading(self) -> str:
        return self.data + (f" (interrupted after {self.interrupted_after} images)" if self.interrupted_after else "")

    def _layers(self) -> list[str]:
        return [self.networks.get(column, {}).get("layer") or "" for column in self.columns]

    def _cells(self) -> list[list[str]]:
        lines = [[self._heading(), "n", *self.columns]]
        if any(self._layers()):
            lines.append(["layer", "", *(layer or _NONE for layer in self._layers())])
        for name, scores in self.rows.items():
            n = max(score.n for score in scores if score is not None)
            lines.append([name, str(n), *(str(score) if score else _NONE for score in scores)])
        return lines


def score_table(
    dataset: Source,
    descriptors: Sequence[Descriptor],
    name: str,
    short_side: int = 448,
    limit: int | None = None,
    progress: Callable[[list[int]], Iterable[int]] = iter,
    within: int = 1,
    path: str = "",
    measures: Sequence[str] = (),
) -> Table:
    """All scores that a data set allows, of several descriptors and beside them the trivial baselines.

    ``plrc.registry.SCORES`` lists them, and what each needs to be known of the images. Two views of an image are cut
    and coloured as the ``imagenet`` preset trains.

    Baselines: "Lab colour" and "distance" (the nearest is the most alike) or, of keypoints, "same place" (relative to
    the image's sides), in cells of 8 pixels, and "chance".

    Images that cannot be decoded, or whose annotation cannot be read, are left out; the table says which and why, and
    why a measure is missing. Memory does not grow with the data set but for a few numbers an image (k-NN: one feature),
    and the maps of one folder of keypoints.

    Args:
        name: of the data set, for the heading. short_side: pixels to which an image's shorter side is resized, in
            steps of 32. limit: that many images, 1 or more, evenly over the data set, instead of all.
        progress: wraps the list of the images' numbers, such as ``tqdm.tqdm``. It may end early: the table is of the
            images so far then, and says so. within: cells of 32 pixels by which a match of views may be off.
        path: of the data set, to be kept with the numbers. measures: names of SCORES; all of them if empty.

    Raises:
        ValueError: no descriptor, two of one name, an unknown measure, or no image can be scored.
    """
    if not descriptors:
        raise ValueError("there is nothing to score: name a checkpoint with --checkpoint")
    position = relative_position if isinstance(dataset, KeypointSource) else absolute_position
    described = [*descriptors, lab_colour(_STRIDE), position(_STRIDE)]
    columns = (*(d.name for d in described), "chance")
    if len(set(columns)) < len(columns):
        raise ValueError(f"each column needs a name of its own, not {', '.join(columns)}")
    wanted = {measure: SCORES[measure] for measure in SCORES if not measures or measure in measures}
    wanted |= {measure: SCORES[measure] for measure in measures}  # raises of one that is unknown

    config = load_config("imagenet")
    sampler = view_sampler(config)
    takers: dict[tuple[str, str], Any] = {}
    seconds: dict[str, list[float]] = {}
    unread: list[str] = []
    names: dict[int, str] = {}
    sha256 = hashlib.sha256()
    done = 0
    numbers = np.unique(np.linspace(0, len(dataset) - 1, min(limit or len(dataset), len(dataset))).round()).astype(int)
    for i in progress(numbers.tolist()):
        done += 1
        try:
            image = ScoredImage(
                number=i,
                image=dataset.load(i),
                descriptors=described,
                annotation=dataset.annotation(i),
                keypoints=dataset.keypoints(i) if isinstance(dataset, KeypointSource) else None,
                group=dataset.group(i) if isinstance(dataset, KeypointSource) else "",
                label=dataset.label(i) if isinstance(dataset, LabelledSource) else None,
                short_side=short_side,
                within=within,
                sampler=sampler,
                side=config.image_size,
                seconds=seconds,
            )
        except (UndecodableImage, ValueError) as error:  # a ValueError is of the annotation, and does not name it
            unread.append(str(error) if isinstance(error, UndecodableImage) else f"{dataset.name(i)}: {error}")
            continue
        names[i] = dataset.name(i)
        _digest(sha256, image)
        for measure, entry in wanted.items():
            if (kind := image.kind(entry.traits.get("needs", ""))) is not None:
                if (measure, kind) not in takers:
                    takers[measure, kind] = _taker(entry.load())
                takers[measure, kind].add(image)
    if len(unread) == done:
        raise ValueError(f"{name}: none of {done} images can be scored, {_left_out(unread, 1)}")

    found: dict[str, Values] = {}
    for measure, entry in wanted.items():
        for (taken, kind), taker in takers.items():
            if taken == measure:
                title = str(entry.traits.get("title", measure))
                found |= {(row or title) + f" ({kind})" * bool(kind): v for row, v in taker.values().items()}
    values = {row: v for row, v in found.items() if any(v.columns)}
    missing = _missing({m: e for m, e in wanted.items() if m not in {taken for taken, _ in takers}}, found)
    if not values:
        raise ValueError(f"{name}: none of its images has a score; {'; '.join(missing)}")
    return Table(
        name,
        short_side,
        columns,
        {row: v.scores() for row, v in values.items()},
        {column: float(np.median(times)) for column, times in seconds.items()},
        baselines=columns[len(descriptors) :],
        path=path,
        limit=limit,
        within=within,
        images=done - len(unread),
        available=len(dataset),
        layout=layout_of(dataset),
        left_out=tuple(unread),
        missing=tuple(missing),
        sha256=sha256.hexdigest(),
        interrupted_after=done if done < len(numbers) else None,
        networks={d.name: _origin(d) for d in descriptors if d.origin is not None},
        values=values,
        names=names,
    )


def _origin(descriptor: Descriptor) -> dict[str, str | None]:
    origin = descriptor.origin
    assert origin is not None
    checkpoint = origin.name if origin.path is None else str(origin.path)
    kept = {name: getattr(origin, name) for name in _ORIGIN[2:]}
    return {"checkpoint": checkpoint, "layer": descriptor.layer, **kept}


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


def _missing(not_taken: Mapping[str, Entry], found: Mapping[str, Values]) -> list[str]:
    """Which measures are not scored, and in which some images do not count, and why: at most a line each."""
    nowhere: dict[str, list[str]] = {}
    for measure, entry in not_taken.items():
        why = _LACKING.get(entry.traits.get("needs", ""), "no image")
        nowhere.setdefault(why, []).append(str(entry.traits.get("title", measure)))
    fewer: dict[tuple[int, str], list[str]] = {}
    for row, values in found.items():
        if not values.images:
            nowhere.setdefault(values.why, []).append(row.split(" (")[0])
        elif without := values.asked - len(values.images):
            fewer.setdefault((without, values.why), []).append(row.split(" (")[0])
    lines = [f"not scored: {'; '.join(f'{_listed(rows)} ({why})' for why, rows in nowhere.items())}"] * bool(nowhere)
    parts = [f"{n} in {_listed(rows)} ({why})" for (n, why), rows in fewer.items()]
    return lines + [f"images that do not count: {'; '.join(parts)}"] * bool(parts)


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _left_out(reasons: Sequence[str], named: int = 3) -> str:
    """How many images could not be scored, and why the first could not; "" if there is none."""
    more = f"; and {len(reasons) - named} more" if len(reasons) > named else ""
    return f"left out {len(reasons)}: {'; '.join(reasons[:named])}{more}" if reasons else ""
