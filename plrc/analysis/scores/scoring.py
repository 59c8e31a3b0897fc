"""One pass over a data set: every picture is described once by each descriptor, and all its scores are taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, lab_colour, picture_tensor, place, position
from plrc.analysis.scores.bootstrap import Sample, scores_of
from plrc.analysis.scores.contents import Digest, left_out, missing
from plrc.analysis.scores.keypoints import KeypointScores
from plrc.analysis.scores.neighbours import NeighbourScores
from plrc.analysis.scores.object_scores import ObjectScores
from plrc.analysis.scores.table import Table, origin_of
from plrc.analysis.scores.views import ViewScores, view_pair
from plrc.config import load_config
from plrc.data.annotated import KeypointSource, LabelledSource, layout_of
from plrc.data.loader import view_sampler
from plrc.data.sources import Source, UndecodableImage

_STRIDE = 8  # pixels a cell of the baselines, for all checkpoints: they are not to depend on what stands beside them
_MULTIPLE = 32  # of the pictures' sides: the largest stride of a ResNet, so that every map covers the whole picture


def score_table(
    dataset: Source,
    descriptors: Sequence[Descriptor],
    name: str,
    short_side: int = 448,
    limit: int | None = None,
    progress: Callable[[list[int]], Iterable[int]] = iter,
    within: int = 1,
    path: str = "",
) -> Table:
    """All scores that a data set allows, of several descriptors and beside them the trivial baselines.

    Any pictures: view match of two views, cut and coloured as the ``imagenet`` preset trains. Masks: distance-matched
    AUC, mask IoU, CorLoc, region purity. Boxes without masks: CorLoc, purity. Keypoints: PCK. Classes: k-NN. What each
    is: ``ViewScores``, ``ObjectScores``, ``FixedThreshold``, ``purity``, ``KeypointScores``, ``NeighbourScores``.

    Baselines: "Lab colour" and "distance" (the nearest is the most alike) or, of keypoints, "same place" (relative to
    the picture's sides), in cells of 8 pixels, and "chance".

    Pictures that cannot be decoded, or whose annotation cannot be read, are left out; the table says which and
    why, and why a measure is missing.

    Memory does not grow with the data set but for a few numbers a picture (k-NN: one feature), and the maps of one
    folder of keypoints.

    Args:
        name: of the data set, for the heading. short_side: pixels to which a picture's shorter side is resized, in
            steps of 32. limit: that many pictures, evenly over the data set, instead of all.
        progress: wraps the list of the pictures' numbers, such as ``tqdm.tqdm``. It may end early: the table is of the
            pictures so far then, and says so. within: cells of 32 pixels by which a match of views may be off.
        path: of the data set, to be kept with the numbers.

    Raises:
        ValueError: no descriptor, two of one name, a short side or limit below 1, or no picture can be scored.
    """
    if not descriptors:
        raise ValueError("there is nothing to score: name a checkpoint with --checkpoint")
    if limit is not None and limit < 1:
        raise ValueError(f"--most takes 1 picture or more of a data set, not {limit}")
    if short_side < 1:
        raise ValueError(f"--size takes 1 pixel or more, not {short_side}")
    if within < 0:
        raise ValueError(f"--within takes 0 cells or more, not {within}")
    trivial = [lab_colour(_STRIDE), place(_STRIDE) if isinstance(dataset, KeypointSource) else position(_STRIDE)]
    described = [*descriptors, *trivial]
    columns = (*(d.name for d in described), "chance")
    if len(set(columns)) < len(columns):
        raise ValueError(f"each column needs a name of its own, not {', '.join(columns)}")

    config = load_config("imagenet")
    sampler, side = view_sampler(config), config.image_size
    views, masks, boxes = ViewScores(described, within), ObjectScores(described, True), ObjectScores(described, False)
    keypoints, classes = KeypointScores(described), NeighbourScores(described[:-1])  # a mean place tells nothing
    seconds: list[list[float]] = [[] for _ in described]
    unread: list[str] = []
    names: dict[int, str] = {}
    digest = Digest()
    done = 0
    numbers = np.unique(np.linspace(0, len(dataset) - 1, min(limit or len(dataset), len(dataset))).round()).astype(int)
    for i in progress(numbers.tolist()):
        done += 1
        try:
            image = dataset.load(i)
            annotation = dataset.annotation(i)
            points = dataset.keypoints(i) if isinstance(dataset, KeypointSource) else None
        except UndecodableImage as error:
            unread.append(str(error))
            continue
        except ValueError as error:  # of the annotation
            unread.append(f"{dataset.name(i)}: {error}")
            continue
        names[i] = dataset.name(i)
        group = dataset.group(i) if isinstance(dataset, KeypointSource) else ""
        label = dataset.label(i) if isinstance(dataset, LabelledSource) else ""
        digest.add(image, annotation, points, group or label)
        views.add(i, view_pair(image, i, sampler, side))
        maps = _describe(described, picture_tensor(image, short_side, _MULTIPLE), seconds)
        if annotation is not None:
            (boxes if annotation.masks is None else masks).add(i, annotation, image.size, maps)
        if points is not None:
            keypoints.add(i, group, points, image.size, maps)
        if isinstance(dataset, LabelledSource):
            classes.add(i, label, maps[:-1])
    if len(unread) == done:
        raise ValueError(f"{name}: none of {done} pictures can be scored, {left_out(unread, 1)}")

    parts = [part.samples() for part in (masks, boxes, keypoints, classes, views)]
    parts[3] = {measure: _without_place(sample) for measure, sample in parts[3].items()}
    samples = {measure: sample for part in parts for measure, sample in part.items() if any(sample.columns)}
    if not samples:
        raise ValueError(f"{name}: nothing is annotated in its pictures, and no two views of one overlap enough")
    return Table(
        name,
        short_side,
        columns,
        {measure: tuple(row) for measure, row in scores_of(samples).items()},
        {d.name: float(np.median(s)) for d, s in zip(described, seconds, strict=True)},
        baselines=columns[len(descriptors) :],
        path=path,
        limit=limit,
        within=within,
        pictures=done - len(unread),
        available=len(dataset),
        layout=layout_of(dataset),
        left_out=tuple(unread),
        missing=tuple(missing(*parts)),
        sha256=digest.hexdigest(),
        interrupted_after=done if done < len(numbers) else None,
        networks={d.name: origin_of(d) for d in descriptors if d.origin is not None},
        samples=samples,
        names=names,
    )


def _without_place(sample: Sample) -> Sample:
    """With an empty column for the baseline of place, before that of chance."""
    *described, chance = sample.columns
    return replace(sample, columns=[*described, [], chance])


def _describe(descriptors: Sequence[Descriptor], picture: Tensor, seconds: list[list[float]]) -> list[Tensor]:
    """The picture's map by each descriptor; adds how long each took."""
    maps = []
    for descriptor, times in zip(descriptors, seconds, strict=True):
        start = time.perf_counter()
        maps.append(descriptor.maps(picture))
        times.append(time.perf_counter() - start)
    return maps
