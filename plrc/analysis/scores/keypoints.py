"""PCK: does a keypoint of one picture find the same keypoint of another?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.bootstrap import Sample, Score, scores_of
from plrc.analysis.scores.objects import raster_of
from plrc.geometry import cell_centres, sample

ALPHAS = (0.05, 0.1, 0.15)
_RASTER = 112  # cells of the longer side of the raster on which a match is looked for: 4 pixels of 448
_CHUNK = 2048  # of them at once: 2048 channels are 16 MiB then


@dataclass(frozen=True, eq=False)
class _Picture:
    """number: in the data set. keypoints: ``(K, 2)`` in the image frame. size: width and height. maps: of each
    descriptor, ``(1, C, h, w)``.
    """

    number: int
    keypoints: Tensor
    size: tuple[int, int]
    maps: Sequence[Tensor]

    @property
    def seen(self) -> Tensor:
        """``(K,)`` bool."""
        return ~self.keypoints.isnan().any(dim=1)


class KeypointScores:
    """Percentage of correct keypoints of several descriptors, over all ordered pairs of the pictures of a group.

    The feature at a keypoint of the first (source) picture is compared with the second's (target's) features, sampled
    bilinearly on a raster of 112 cells on the longer side, the same for coarse and fine maps; the most alike place is
    the prediction. It is right where it is at most α · max(width, height) pixels of the target from the true keypoint,
    width and height being those of the box around *the target's keypoints*, as is usual for PF-WILLOW. Points that one
    of the two does not show are left out.

    A value a source picture, the mean over its targets, and the source pictures are what the bootstrap resamples: a
    picture's pairs are not independent. (Nor are those that share a target: the interval is a little narrow.)

    Pictures of one group come one after another; their maps are kept until the next group begins.
    """

    def __init__(self, descriptors: Sequence[Descriptor]) -> None:
        self._descriptors = descriptors
        self._values: list[list[np.ndarray]] = [[] for _ in range(len(descriptors) + 1)]  # the last one by chance
        self._sources: list[int] = []
        self._asked = 0
        self._group: str | None = None
        self._pictures: list[_Picture] = []

    def add(
        self, number: int, group: str, keypoints: np.ndarray, size: tuple[int, int], maps: Sequence[Tensor]
    ) -> None:
        """Take up one picture by its number: keypoints ``(K, 2)`` in the image frame, not a number where not seen."""
        if group != self._group:
            self._match()
        self._group = group
        self._asked += 1
        self._pictures.append(_Picture(number, torch.from_numpy(keypoints), size, maps))

    def rows(self) -> dict[str, list[Score | None]]:
        """A measure's name → a score a descriptor, and last a blind guess's. Empty if there was no pair."""
        return scores_of(self.samples())

    def samples(self) -> dict[str, Sample]:
        """A measure's name → a value a source picture."""
        self._match()
        return {
            f"PCK@{alpha:g} (of the keypoints' box)": Sample(
                self._sources,
                [[float(v[a]) for v in values] for values in self._values],
                self._asked,
                "no other picture of the folder shows the same keypoints",
            )
            for a, alpha in enumerate(ALPHAS)
        }

    def _match(self) -> None:
        """Score all pairs of the pictures of a group, and forget them."""
        of_sources: list[list[Tensor]] = [[] for _ in self._pictures]
        for number, target in enumerate(self._pictures):
            # A target's raster is made once, and asked for the keypoints of all the others.
            sources = [
                s for s, source in enumerate(self._pictures) if s != number and (source.seen & target.seen).any()
            ]
            spans = target.keypoints[target.seen] * torch.tensor(target.size)
            longest = float((spans.amax(dim=0) - spans.amin(dim=0)).max()) if len(spans) else 0.0
            if sources and longest:
                allowed = torch.tensor(ALPHAS) * longest
                for s, shares in zip(sources, self._shares(sources, target, allowed), strict=True):
                    of_sources[s].append(shares)
        for picture, pairs in zip(self._pictures, of_sources, strict=True):
            if pairs:
                self._sources.append(picture.number)
                for values, shares in zip(self._values, torch.stack(pairs).mean(dim=0), strict=True):
                    values.append(shares.numpy())
        self._pictures = []

    def _shares(self, sources: Sequence[int], target: _Picture, allowed: Tensor) -> list[Tensor]:
        """Shares of keypoints that are right, ``(descriptors + 1, alphas)`` of each source picture."""
        size = torch.tensor(target.size)
        known = [self._pictures[s].seen & target.seen for s in sources]
        asked = [self._pictures[s].keypoints[both] for s, both in zip(sources, known, strict=True)]
        truth = torch.cat([target.keypoints[both] for both in known]) * size
        right = []
        for k, descriptor in enumerate(self._descriptors):
            queries = [sample(self._pictures[s].maps[k], p[None])[0] for s, p in zip(sources, asked, strict=True)]
            predicted = best_match(descriptor, torch.cat(queries), target.maps[k], target.size)
            right.append(((predicted * size - truth).norm(dim=1)[:, None] <= allowed).float())
        everywhere = cell_centres(*raster_of(target.size, _RASTER)).flatten(0, 1) * size
        right.append((torch.cdist(truth, everywhere)[..., None] <= allowed).float().mean(dim=1))
        of_sources = torch.stack(right).split([len(points) for points in asked], dim=1)
        return [hits.mean(dim=1) for hits in of_sources]


def best_match(descriptor: Descriptor, queries: Tensor, target: Tensor, size: tuple[int, int]) -> Tensor:
    """The places ``(n, 2)`` of ``target (1, C, h, w)`` that are most like features ``(n, C)``.

    They are cells' centres of the raster of a picture of width and height ``size``, at which features are sampled
    bilinearly: similarities themselves, interpolated, would always be highest at the centre of a cell of the map, and a
    coarse map could not say where in it.
    """
    everywhere = cell_centres(*raster_of(size, _RASTER)).flatten(0, 1)
    best, found = queries.new_full((len(queries),), -torch.inf), torch.zeros(len(queries), 2)
    for points in everywhere.split(_CHUNK):
        highest, at = descriptor.similarity(queries, sample(target, points[None])[0]).max(dim=1)
        better = highest > best
        best, found = torch.where(better, highest, best), torch.where(better[:, None], points[at], found)
    return found
