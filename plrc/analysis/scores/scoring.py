"""One pass over a data set: every image is described once by each descriptor, and all its scores are taken.

A score is registered in ``plrc.registry.SCORES``. It is a function of a ``ScoredImage`` that returns a value for each
descriptor and, last, the one by chance (or those of several rows, by name); or a text, why this image has no value. A
score that needs more than one image is a class: ``add(image)`` takes one up, and ``values()`` gives, by a row's name,
``Values``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, absolute_position, lab_colour, picture_tensor, relative_position
from plrc.analysis.scores.table import ORIGIN, Table, Values, left_out
from plrc.config import load_config
from plrc.data.annotated import KeypointSource, LabelledSource, layout_of
from plrc.data.images import UndecodableImage
from plrc.data.loader import view_sampler
from plrc.data.sources import Annotation, Source
from plrc.data.views import ViewSampler
from plrc.registry import SCORES, Entry

_STRIDE = 8  # pixels a cell of the baselines, for all checkpoints: they are not to depend on what stands beside them
_MULTIPLE = 32  # of the images' sides: the largest stride of a ResNet, so that every map covers the whole image
_LACKING = {  # what a score needs → why it is not taken
    "masks": "no masks",
    "objects": "no masks or boxes",
    "keypoints": "no keypoints",
    "classes": "fewer than two class folders",
}


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """One image of the data set, as a score sees it.

    Attributes:
        number: in the data set; whatever is drawn at random depends on it alone. image: upright RGB.
        descriptors: the networks', then the baselines'. annotation: its objects, difficult and crowd ones among them;
            None where they are not known. keypoints: ``(K, 2)`` in the image frame, not a number where not seen, and
            group: of the images that show the same ones; None and "" where there are none. label: its class, or None.
        within: cells by which a match of views may be off. sampler, side: how views are cut, pixels.
    """

    number: int
    image: Image.Image
    descriptors: Sequence[Descriptor]
    annotation: Annotation | None = None
    keypoints: np.ndarray | None = None
    group: str = ""
    label: str | None = None
    short_side: int = 448
    within: int = 1
    sampler: ViewSampler | None = None
    side: int = 224
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @cached_property
    def maps(self) -> list[Tensor]:
        """Of each descriptor ``(1, C, h, w)``, over the whole image; made when first asked for."""
        picture = picture_tensor(self.image, self.short_side, _MULTIPLE)
        maps = []
        for descriptor in self.descriptors:
            start = time.perf_counter()
            maps.append(descriptor.maps(picture))
            self.seconds.setdefault(descriptor.name, []).append(time.perf_counter() - start)
        return maps

    def kind(self, needs: str) -> str | None:
        """What a score of these needs calls this image: "", or "boxes" where they stand for objects; None: not one."""
        objects = None if self.annotation is None else "boxes" if self.annotation.masks is None else ""
        known = {"masks": None if objects == "boxes" else objects, "objects": objects}
        known |= {"keypoints": None if self.keypoints is None else "", "classes": None if self.label is None else ""}
        return known[needs] if needs else ""


class PerImage:
    """The values of a function of one image, which returns them, those of several rows by name, or why it has none."""

    def __init__(
        self, function: Callable[[ScoredImage], Sequence[float] | Mapping[str, Sequence[float]] | str]
    ) -> None:
        self.function = function
        self.rows: dict[str, tuple[list[int], list[Sequence[float]]]] = {}
        self.columns, self.asked = 0, 0
        self.why: dict[str, None] = {}

    def add(self, image: ScoredImage) -> None:
        found = self.function(image)
        self.asked, self.columns = self.asked + 1, len(image.descriptors) + 1
        if isinstance(found, str):
            self.why[found] = None
            return
        for row, values in (found if isinstance(found, Mapping) else {"": found}).items():
            numbers, table = self.rows.setdefault(row, ([], []))
            numbers.append(image.number)
            table.append(values)

    def values(self) -> dict[str, Values]:
        why = ", or ".join(self.why)
        rows = self.rows or {"": ([], [])}
        return {
            row: Values(numbers, [[float(v[k]) for v in table] for k in range(self.columns)], self.asked, why)
            for row, (numbers, table) in rows.items()
        }


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
            steps of 32. limit: that many images, evenly over the data set, instead of all.
        progress: wraps the list of the images' numbers, such as ``tqdm.tqdm``. It may end early: the table is of the
            images so far then, and says so. within: cells of 32 pixels by which a match of views may be off.
        path: of the data set, to be kept with the numbers. measures: names of SCORES; all of them if empty.

    Raises:
        ValueError: no descriptor, two of one name, an unknown measure, a short side or limit below 1, or no image can
            be scored.
    """
    if not descriptors:
        raise ValueError("there is nothing to score: name a checkpoint with --checkpoint")
    if limit is not None and limit < 1:
        raise ValueError(f"--most takes 1 image or more of a data set, not {limit}")
    if short_side < 1:
        raise ValueError(f"--size takes 1 pixel or more, not {short_side}")
    if within < 0:
        raise ValueError(f"--within takes 0 cells or more, not {within}")
    has_keypoints = isinstance(dataset, KeypointSource)
    described = [
        *descriptors,
        lab_colour(_STRIDE),
        (relative_position if has_keypoints else absolute_position)(_STRIDE),
    ]
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
            item = ScoredImage(
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
        except UndecodableImage as error:
            unread.append(str(error))
            continue
        except ValueError as error:  # of the annotation
            unread.append(f"{dataset.name(i)}: {error}")
            continue
        names[i] = dataset.name(i)
        _digest(sha256, item)
        for measure, entry in wanted.items():
            if (kind := item.kind(entry.traits.get("needs", ""))) is not None:
                if (measure, kind) not in takers:
                    target = entry.load()
                    takers[measure, kind] = target() if isinstance(target, type) else PerImage(target)
                takers[measure, kind].add(item)
    if len(unread) == done:
        raise ValueError(f"{name}: none of {done} images can be scored, {left_out(unread, 1)}")

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
        networks={d.name: origin_of(d) for d in descriptors if d.origin is not None},
        values=values,
        names=names,
    )


def origin_of(descriptor: Descriptor) -> dict[str, str | None]:
    """Where a descriptor's numbers come from: checkpoint (file or name), layer, format, branch, arch, sha256, note."""
    origin = descriptor.origin
    if origin is None:
        return {}
    checkpoint = origin.name if origin.path is None else str(origin.path)
    values = (checkpoint, descriptor.layer, origin.format, origin.branch, origin.arch, origin.sha256, origin.note)
    return dict(zip(ORIGIN, values, strict=True))


def _digest(sha256: Any, item: ScoredImage) -> None:
    """Take an image, and what is known of it, into a data set's SHA-256."""
    label = item.group or item.label or ""
    sha256.update(f"{item.image.size} {label} ".encode(errors="surrogateescape") + item.image.tobytes())
    if (known := item.annotation) is not None:
        ignored = sorted(known.difficult | known.crowd)
        sha256.update(f"{known.classes} {ignored} ".encode(errors="surrogateescape") + known.boxes.tobytes())
        if known.masks is not None:
            sha256.update(f"{known.masks.shape} ".encode() + np.packbits(known.masks).tobytes())
    if item.keypoints is not None:
        sha256.update(f"{item.keypoints.shape} ".encode() + item.keypoints.tobytes())


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
