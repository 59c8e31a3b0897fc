"""``plrc retrieve``: which patches, or images, of a folder are most like a point, a region or an image."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc.analysis.features import DenseEncoder, FeatureMap, region_features, region_numbers
from plrc.analysis.retrieval import CHANNELS, Index, patch_at, patches, principal
from plrc.analysis.scores import result
from plrc.analysis.scores.table import aligned
from plrc.data.annotated import open_annotated
from plrc.data.images import boxes_of, printable, spread
from plrc.data.sources import ImageFiles, Source, warn_left_out
from plrc.files import cache_folder, written_whole
from plrc.geometry import cell_of
from plrc.queries import Retrieval
from plrc.views import Drawing, Progress, few, note_of
from plrc.views.embedding import NO_OBJECT
from plrc.views.images import (
    NamedImage,
    innermost,
    mask_files,
    open_image,
    points_in_frame,
    region_raster,
    spec_of,
)
from plrc.views.session import Session, inputs_of, made_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)
ON_A_SHEET = 12  # rows of the figure; the table and the arrays have all
_PART = 256  # images of one file of an index, spread over the folder: an interrupted index goes on with the next file
_FORMAT = 1  # of these files
_SMALL = 320  # pixels of an answer's longer side


class NothingIndexed(ValueError):
    """The work was ended before there was anything to look in."""


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer: its image, ``box (4,)`` of the image frame, and whether its label is the question's, where known."""

    spec: str
    name: str
    cosine: float
    box: np.ndarray
    right: bool | None
    source: Source
    number: int

    @property
    def small(self) -> Image.Image:
        """Its image, made small. Raises a ValueError if it is gone."""
        try:
            image = self.source.load(self.number, (_SMALL, _SMALL))
        except Exception as error:
            raise ValueError(f"{self.spec} has gone since it was indexed: {error}") from error
        image.thumbnail((_SMALL, _SMALL), Image.Resampling.LANCZOS)
        return image


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of an image: ``point (n, 2)``, n = 0 of a whole image; ``mask (h, w)`` of a region, or None; and
    its label, of ``kind`` class or folder, where that is known."""

    image: NamedImage
    point: Tensor
    mask: np.ndarray | None
    label: str | None
    kind: str


@dataclass(frozen=True, eq=False)
class Found:
    """A question as a network has it: the ``box (4,)`` of its patch, and the answers, best first."""

    question: Question
    box: np.ndarray
    answers: list[Answer]
    caption: str


@dataclass(eq=False, kw_only=True)
class RetrievalDrawing(Drawing):
    """``found``: network → the questions with the answers of this network."""

    found: dict[str, list[Found]]


def retrieval(query: Retrieval, session: Session, progress: Progress) -> RetrievalDrawing:
    """What is most like a point's patch, a region or a whole image; a row for each question and network.

    Patches are blocks of cells, of which an image has at most 64 (``plrc.analysis.retrieval``); a region is compared
    with patches too, a whole image with whole images, by mean features. The question's own image, whatever it is
    called, is left out, and of an image or its copies only the best patch counts. What was looked in is kept on the
    disk for each network, layer and size. Where the progress asks for an early end, all networks look in the same
    images, and the drawing's query says in how many (``until``).

    Numbers: the share of the answers that have the question's label, beside chance, that of a random patch of a random
    image. A label is the class of the object at a patch's middle (of the largest object of an image) where masks are
    known, else the folder.
    """
    if not query.among:
        raise ValueError("say where to look: --among with a folder, a data set, or scenes:60")
    networks = session.networks(query)
    try:
        source = open_annotated(query.among)
    except OSError as error:
        raise ValueError(str(error)) from error
    numbers = spread(len(source), query.among_most)
    listed, changed = _listed(source, numbers)
    inputs = inputs_of(networks, query) | {query.among: listed}
    inputs |= mask_files(query.images, query.regions if query.of == "region" else None)
    known = [_FORMAT, listed, changed, query.layer, session.size(query).sides, query.finer]
    folders = {name: cache_folder("retrieval") / _key(network, known) for name, network in networks.items()}
    look = _Look(query, networks, folders, source, session)
    indexes, searched = look.indexes(numbers, progress)

    whole, first = query.of == "image", next(iter(indexes.values()))
    questions = [q for spec in query.images for q in _questions(query, session.image(spec), first, source)]
    found: dict[str, list[Found]] = {}
    arrays: dict[str, np.ndarray] = {}
    rows: list[dict[str, Any]] = []
    lines: list[list[str]] = []
    made: dict[str, FeatureMap] = {}
    for name, network in networks.items():
        index, shares, chances = indexes[name], list[float](), list[float]()
        for k, question in enumerate(questions):
            inputs |= question.image.inputs
            fmap = session.features(network, question.image.image, query)
            made.setdefault(name, fmap)
            feature, box = _asked(query, question, fmap)
            own = _pixels(question.image)
            places, cosines = index.nearest(feature, query.answers, whole, own)
            if not len(places):
                raise ValueError(f"{query.among} has no other image than {question.image.spec}: name a larger folder")
            labels = [index.names[i] for i in index.label[places]]
            right = [None if question.label is None else label == question.label for label in labels]
            specs = [spec_of(query.among, source, i) for i in index.image[places].tolist()]
            names = [Path(source.name(i)).stem for i in index.image[places].tolist()]
            parts = zip(specs, names, cosines.tolist(), index.box[places], right, strict=True)
            answers = [Answer(*part, source, int(i)) for part, i in zip(parts, index.image[places], strict=True)]
            caption = f"cosine {cosines[0]:.2f} to {cosines[-1]:.2f}".replace("-", "−")
            if question.label is not None:
                shares.append(float(np.mean(right)))  # type: ignore[arg-type]
                chances.append(index.chance(index.names.index(question.label), whole, own))
                same = f"same {question.kind} ({printable(question.label)})"
                caption = f"{same} {shares[-1]:.2f} (chance {chances[-1]:.3f}), {caption}"
            found.setdefault(name, []).append(Found(question, box, answers, caption))
            told = {"cosine": cosines, "image": index.image[places], "box": index.box[places], "asked": box}
            arrays |= {f"{name} {what} {k}": array for what, array in told.items()}
            point = " ".join(f"{x:.4f},{y:.4f}" for x, y in question.point.tolist())
            for rank, (answer, label) in enumerate(zip(answers, labels, strict=True), start=1):
                row = {"image": question.image.spec, "point": point, "network": name, "rank": rank}
                row |= {"answer": answer.spec, "cosine": round(answer.cosine, 4)}
                row |= {
                    edge: round(at, 4) for edge, at in zip(("x0", "y0", "x1", "y1"), answer.box.tolist(), strict=True)
                }
                rows.append(row | {"label": label, "same": "" if answer.right is None else int(answer.right)})
        there, cells = len(index.starts), len(index.image) - len(index.starts)
        of = f"in {there}{f' of {len(source)}' * (there < len(source))} images" + f", {cells} patches" * (not whole)
        kept = ""
        if index.axes is not None:
            kept = f"{CHANNELS} of {len(index.axes)} channels, {index.lost:.1%} of length² lost"
        same = result(f"same {questions[0].kind}", shares, of, float(np.mean(chances))) if shares else of
        cosine = [row["cosine"] for row in rows if row["network"] == name]
        span = f"cosine {max(cosine):.3f} to {min(cosine):.3f}".replace("-", "−")
        lines.append([name, same, span, kept])

    shown = [(name, of[k]) for k in range(len(questions)) for name, of in found.items()]
    what = {"point": "the patch around a point", "region": f"a region ({query.regions})", "image": "the whole image"}
    note = note_of(few(q.image.name for q in questions), what[query.of], made_of(made, query, len(query.images)))
    among = f"among {searched} of {len(source)} images of {Path(query.among).name}"
    if kinds := {f"same {q.kind}: solid blue, another: dashed orange" for q in questions if q.label is not None}:
        among = note_of(among, *kinds)
    return RetrievalDrawing(
        query=replace(query, until=searched if searched < len(numbers) else None),
        inputs=inputs,
        arrays=arrays,
        draw=partial(_draw, shown[:ON_A_SHEET], f"{note} · {among}"),
        lines=aligned(lines),
        rows=rows,
        part=f"{ON_A_SHEET} of {len(shown)} rows" * (len(shown) > ON_A_SHEET),
        found=found,
    )


def _listed(source: Source, numbers: Sequence[int]) -> tuple[str, str]:
    """SHA-256 of the names and sizes of images, and of when their files were changed."""
    if not isinstance(source, ImageFiles):
        return hashlib.sha256(repr([source.name(i) for i in numbers]).encode()).hexdigest(), ""
    listed, changed = hashlib.sha256(), hashlib.sha256()
    root, names = os.fsencode(source.root), source.names.split(b"\0")  # ten thousands: not by way of a Path each
    for i in numbers:
        try:
            state = os.stat(os.path.join(root, names[i]))
            size, when = state.st_size, state.st_mtime_ns
        except OSError:
            size, when = 0, 0  # a dangling link
        listed.update(b"%s\0%d\0" % (names[i], size))
        changed.update(b"%d " % when)
    return listed.hexdigest(), changed.hexdigest()


def _key(network: DenseEncoder, known: Sequence[Any]) -> str:
    """Names the index of a network: all that its rows depend on."""
    parts = *network.origin.identity, network.device.type, network.default, *known
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _pixels(image: NamedImage) -> int:
    return int(image.sha256[:16], 16)


# ------------------------------------------------------------------------------------------------------- the questions


def _questions(query: Retrieval, image: NamedImage, index: Index, source: Source) -> list[Question]:
    """Of each point of an image; of the largest object's innermost point, or the centre, where none is given."""
    largest = _largest(image)
    points = points_in_frame(query.points, image)
    if query.of == "image":
        points = points[:0]
    elif not len(points):
        points = torch.tensor([innermost(image.masks[largest]) if largest >= 0 else (0.5, 0.5)])  # type: ignore[index]
    kind = "class" if image.masks is not None or getattr(source, "has_objects", False) else "folder"
    if kind == "class" and set(index.names) <= {"object", NO_OBJECT}:  # nothing has a name
        kind = "kind, object or background,"
    own = np.flatnonzero(index.pixels == _pixels(image))
    if image.masks is not None:
        names = [*(image.classes or []), NO_OBJECT]
        labels = [names[i] for i in (image.objects_at(points) if len(points) else [largest])]
    elif len(own):  # one of the images looked in, under whatever name: the whole of it, or the patch around the point
        patches = own[index.image[own] == index.image[own[0]]][1:]
        middles = index.box[patches].reshape(-1, 2, 2).mean(axis=1)
        nearest = [patches[np.abs(middles - p).sum(axis=1).argmin()] for p in points.numpy()]
        labels = [index.names[index.label[row]] for row in nearest or own[:1]]
    else:
        labels = [Path(image.spec).absolute().parent.name] * max(1, len(points))
    told = [label if label in index.names and len(index.names) > 1 else None for label in labels]
    told = [None] * len(told) if query.of == "image" and kind.startswith("kind") else told
    if query.of == "image":
        return [Question(image, points, None, told[0], kind)]
    if query.of == "point":
        return [Question(image, p[None], None, label, kind) for p, label in zip(points, told, strict=True)]
    raster = region_raster(image, query.regions)
    regions = raster[cell_of(points, *raster.shape)].tolist()
    if min(regions) < 0:
        raise ValueError(f"{image.name} has no region ({query.regions}) at the point: give another --point")
    asked = zip(points, regions, told, strict=True)
    return [Question(image, p[None], (raster == r).numpy(), label, kind) for p, r, label in asked]


def _largest(image: NamedImage) -> int:
    """The number of the largest object, −1 where none is known."""
    return int(image.masks.sum(axis=(1, 2)).argmax()) if image.masks is not None and image.masks.any() else -1


def _asked(query: Retrieval, question: Question, fmap: FeatureMap) -> tuple[Tensor, np.ndarray]:
    """The feature ``(C,)`` of a question, and the box ``(4,)`` that it is of."""
    if query.of == "point":
        feature, box = patch_at(fmap, question.point[0])
        return feature, box.numpy()
    mask = np.ones((1, 1), bool) if question.mask is None else question.mask
    raster = torch.from_numpy(mask.astype(np.int64))
    feature = region_features(fmap, raster)[region_numbers(raster).tolist().index(1)]
    return feature.cpu(), boxes_of(mask[None])[0]


# ----------------------------------------------------------------------------------------------------------- the index


class _Damaged(Exception):
    """A file of an index could not be read, and is gone."""


@dataclass(frozen=True, eq=False)
class _Look:
    """Where is looked, by which networks; ``folders``: of each the place of its index."""

    query: Retrieval
    networks: Mapping[str, DenseEncoder]
    folders: Mapping[str, Path]
    source: Source
    session: Session

    def indexes(self, numbers: Sequence[int], progress: Progress) -> tuple[dict[str, Index], int]:
        """The index of each network, of the same images, and of how many. What is missing on the disk is made."""
        count = -(-len(numbers) // _PART)
        parts = [numbers[p::count] for p in range(count)]  # each spread over all, so that a few of them tell something
        ends = np.cumsum([len(part) for part in parts])
        parts = parts[: max(1, int((ends <= (self.query.until or len(numbers))).sum()))]
        while True:
            try:
                parts = parts[: self._made(parts, progress)]
                if not parts:
                    raise NothingIndexed(
                        f"{self.query.among} is not indexed yet, and this was ended before {len(numbers[::count])} "
                        "images were seen: let it go on"
                    )
                loaded = {name: self._loaded(folder, len(parts)) for name, folder in self.folders.items()}
                return loaded, sum(map(len, parts))
            except _Damaged:
                continue

    def _loaded(self, folder: Path, count: int) -> Index:
        key = "index", str(folder), count
        return self.session.once(key, lambda: Index.of([_read(folder, p) for p in range(count)]))

    def _made(self, parts: Sequence[Sequence[int]], progress: Progress) -> int:
        """Makes the files that are missing; how many parts are there at the end, from the first on."""
        missing = [[name for name, of in self.folders.items() if not _file(of, p).exists()] for p in range(len(parts))]
        total, done = sum(len(part) for part, names in zip(parts, missing, strict=True) if names), 0
        for p, (numbers, names) in enumerate(zip(parts, missing, strict=True)):
            images: list[list[dict[str, Any]]] = [[] for _ in names]
            broken = list[str]()
            for i in numbers if names else ():
                if progress("images indexed", done, total):
                    return p
                done += 1
                try:
                    image = open_image(spec_of(self.query.among, self.source, i))
                except ValueError as error:
                    broken.append(str(error))
                    continue
                for rows, name in zip(images, names, strict=True):
                    rows.append(self._rows(i, image, self.networks[name]))
            warn_left_out(logger, Path(self.query.among), "images that cannot be decoded", broken)
            for rows, name in zip(images, names, strict=True):
                axes = _read(self.folders[name], 0)["axes"] if p else None
                with written_whole(_file(self.folders[name], p)) as unfinished, unfinished.open("wb") as stream:
                    np.savez(stream, **_part(rows, axes, self.query.among))  # type: ignore[arg-type]
        if total:
            progress("images indexed", total, total)
        return len(parts)

    def _rows(self, i: int, image: NamedImage, network: DenseEncoder) -> dict[str, Any]:
        """The rows of an image: the whole, then its patches."""
        fmap = self.session.features(network, image.image, self.query, keep=False)
        features, box = patches(fmap)
        if image.masks is not None:
            names = [*(image.classes or []), NO_OBJECT]
            middles = (box[1:, :2] + box[1:, 2:]) / 2
            labels = [names[k] for k in (_largest(image), *image.objects_at(middles))]
        else:
            label = self.source.label(i) if hasattr(self.source, "label") else Path(self.source.name(i)).parent.name
            labels = [label] * len(box)
        n = len(box)
        alike = {"image": np.full(n, i, np.int32), "pixels": np.full(n, _pixels(image), np.uint64)}
        return {"features": features.numpy(), "box": box.numpy(), "names": labels} | alike


def _part(images: Sequence[dict[str, Any]], axes: np.ndarray | None, among: str) -> dict[str, np.ndarray]:
    """A file's arrays, see ``Index``; axes are found from the first one's, and told there."""
    if not images:
        raise ValueError(f"{among}: none of 256 images, spread over it, can be decoded")
    columns = {name: np.concatenate([rows[name] for rows in images]) for name in images[0]}
    names, columns["label"] = np.unique(columns["names"], return_inverse=True)
    features, lost = torch.from_numpy(columns["features"]), 0.0
    if axes is None:
        wide = features.shape[1] > CHANNELS
        found, lost = principal(features) if wide else (torch.empty(0), 0.0)
        axes = found.numpy()
    if axes.size:
        features = features @ torch.from_numpy(axes)
    columns |= {"features": features.half().numpy(), "label": columns["label"].astype(np.int32), "names": names}
    return columns | {"axes": axes, "lost": np.array(lost)}


def _file(folder: Path, p: int) -> Path:
    return folder / f"{p:04}.npz"


def _read(folder: Path, p: int) -> dict[str, np.ndarray]:
    """A file's arrays. Removes one that is damaged, and raises ``_Damaged``."""
    try:
        with np.load(_file(folder, p), allow_pickle=False) as stored:
            return dict(stored)
    except Exception as error:  # NumPy raises almost anything for junk
        logger.warning("%s is damaged and made again", _file(folder, p))
        _file(folder, p).unlink(missing_ok=True)
        raise _Damaged from error


# ---------------------------------------------------------------------------------------------------------- the figure


def _draw(shown: Sequence[tuple[str, Found]], note: str) -> Figure:
    from plrc import figures

    rows = []
    for name, found in shown:
        asked = found.question
        how: Any = {"heading": note_of(name, found.caption), "points": asked.point.numpy(), "mask": asked.mask}
        texts = [f"{answer.cosine:.3f}".replace("-", "−") for answer in found.answers]
        answers = zip(found.answers, texts, strict=True)
        rows.append([figures.Retrieved(asked.image.pixels, None if asked.mask is not None else found.box, **how)])
        rows[-1] += [figures.Retrieved(np.asarray(a.small), a.box, "", text, a.right) for a, text in answers]
    return figures.retrieval(rows, note)
