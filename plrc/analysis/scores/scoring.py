"""One pass over a data set: every picture is described once by each descriptor, and all its scores are taken."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, lab_colour, picture_tensor, place, position
from plrc.analysis.scores.bootstrap import Score
from plrc.analysis.scores.keypoints import KeypointScores
from plrc.analysis.scores.neighbours import NeighbourScores
from plrc.analysis.scores.object_scores import ObjectScores
from plrc.analysis.scores.table import Table
from plrc.analysis.scores.views import ViewScores, view_pair
from plrc.config import load_config
from plrc.data.annotated import KeypointSource, LabelledSource
from plrc.data.loader import view_sampler
from plrc.data.sources import Source, UndecodableImage

logger = logging.getLogger(__name__)

_STRIDE = 8  # pixels a cell of the baselines, for all checkpoints: they are not to depend on what stands beside them
_MULTIPLE = 32  # of the pictures' sides: the largest stride of a ResNet, so that every map covers the whole picture


def score_table(
    dataset: Source,
    descriptors: Sequence[Descriptor],
    name: str,
    short_side: int = 448,
    limit: int | None = None,
    progress: Callable[[list[int]], Iterable[int]] = iter,
) -> Table:
    """All scores that a data set allows, of several descriptors and beside them the trivial baselines.

    Any pictures: view match of two views, cut and coloured as the ``imagenet`` preset trains. Masks: distance-matched
    AUC, mask IoU, CorLoc, region purity. Boxes without masks: CorLoc, purity. Keypoints: PCK. Classes: k-NN. What each
    is: ``ViewScores``, ``ObjectScores``, ``FixedThreshold``, ``purity``, ``KeypointScores``, ``NeighbourScores``.

    Baselines: "Lab colour" and "distance" (the nearest is the most alike; of keypoints: the same relative place), both
    in cells of 8 pixels, and "chance".

    Memory does not grow with the data set but for a few numbers a picture (k-NN: one feature), and the maps of one
    folder of keypoints.

    Args:
        name: of the data set, for the heading. short_side: pixels to which a picture's shorter side is resized, in
            steps of 32. limit: that many pictures, evenly over the data set, instead of all.
        progress: wraps the list of the pictures' numbers, such as ``tqdm.tqdm``.

    Raises:
        ValueError: no descriptor, two of one name, or a short side or limit below 1.
    """
    if not descriptors or short_side < 1 or (limit is not None and limit < 1):
        raise ValueError(f"nothing to score: {len(descriptors)} checkpoints, short side {short_side}, limit {limit}")
    trivial = [lab_colour(_STRIDE), place(_STRIDE) if isinstance(dataset, KeypointSource) else position(_STRIDE)]
    described = [*descriptors, *trivial]
    columns = (*(d.name for d in described), "chance")
    if len(set(columns)) < len(columns):
        raise ValueError(f"each column needs a name of its own, not {', '.join(columns)}")

    config = load_config("imagenet")
    sampler, side = view_sampler(config), config.image_size
    views, masks, boxes = ViewScores(described), ObjectScores(described, True), ObjectScores(described, False)
    keypoints, classes = KeypointScores(described), NeighbourScores(described[:-1])  # a mean place tells nothing
    seconds: list[list[float]] = [[] for _ in described]
    undecodable: list[str] = []
    numbers = np.unique(np.linspace(0, len(dataset) - 1, min(limit or len(dataset), len(dataset))).round()).astype(int)
    for i in progress(numbers.tolist()):
        try:
            image = dataset.load(i)
            annotation = dataset.annotation(i)
        except UndecodableImage as error:
            undecodable.append(str(error))
            continue
        if (pair := view_pair(image, i, sampler, side)) is not None:
            views.add(pair)
        maps = _describe(described, picture_tensor(image, short_side, _MULTIPLE), seconds)
        if annotation is not None:
            (boxes if annotation.masks is None else masks).add(i, annotation, image.size, maps)
        if isinstance(dataset, KeypointSource):
            keypoints.add(dataset.group(i), dataset.keypoints(i), image.size, maps)
        if isinstance(dataset, LabelledSource):
            classes.add(dataset.label(i), maps[:-1])
    if undecodable:
        logger.warning("%d pictures cannot be decoded and are not scored: %s", len(undecodable), undecodable[0])
    if len(undecodable) == len(numbers):
        raise ValueError(f"{name}: none of {len(numbers)} pictures can be decoded, among them {undecodable[0]}")

    rows: dict[str, list[Score | None]] = {}
    for part in (masks, boxes, keypoints):
        rows |= part.rows()
    rows |= {measure: [*row[:-1], None, row[-1]] for measure, row in classes.rows().items()}
    rows |= views.rows()
    times = {d.name: float(np.median(s)) for d, s in zip(described, seconds, strict=True)}
    return Table(name, short_side, columns, {measure: tuple(row) for measure, row in rows.items()}, times)


def _describe(descriptors: Sequence[Descriptor], picture: Tensor, seconds: list[list[float]]) -> list[Tensor]:
    """The picture's map by each descriptor; adds how long each took."""
    maps = []
    for descriptor, times in zip(descriptors, seconds, strict=True):
        start = time.perf_counter()
        maps.append(descriptor.maps(picture))
        times.append(time.perf_counter() - start)
    return maps
