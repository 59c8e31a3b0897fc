"""PCK: does a keypoint of one picture find the same keypoint of another?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.bootstrap import Score, score_of
from plrc.geometry import cell_centres, sample

ALPHAS = (0.05, 0.1, 0.15)
_RASTER = 48  # cells a side of the raster on which a blind guess is counted


@dataclass(frozen=True, eq=False)
class _Picture:
    """keypoints: ``(K, 2)`` in the image frame. size: width and height. maps: of each descriptor, ``(1, C, h, w)``."""

    keypoints: Tensor
    size: Tensor
    maps: Sequence[Tensor]


class KeypointScores:
    """Percentage of correct keypoints of several descriptors, over all ordered pairs of the pictures of a group.

    The feature at a keypoint of the first (source) picture is compared with every cell of the second (target); the
    centre of the best cell is the prediction. It is right where it is at most α · max(width, height) pixels of the
    target from the true keypoint, width and height being those of the box around *the target's keypoints*, as is usual
    for PF-WILLOW. Points that one of the two does not show are left out.

    A value a source picture, the mean over its targets, and the source pictures are what the bootstrap resamples: a
    picture's pairs are not independent. (Nor are those that share a target: the interval is a little narrow.)

    Pictures of one group come one after another; their maps are kept until the next group begins.
    """

    def __init__(self, descriptors: Sequence[Descriptor]) -> None:
        self._descriptors = descriptors
        self._values: list[list[np.ndarray]] = [[] for _ in range(len(descriptors) + 1)]  # the last one by chance
        self._group: str | None = None
        self._pictures: list[_Picture] = []

    def add(self, group: str, keypoints: np.ndarray, size: tuple[int, int], maps: Sequence[Tensor]) -> None:
        """Take up one picture: keypoints ``(K, 2)`` in the image frame, not a number where one is not seen."""
        if group != self._group:
            self._match()
        self._group = group
        self._pictures.append(_Picture(torch.from_numpy(keypoints), torch.tensor(size), maps))

    def rows(self) -> dict[str, list[Score | None]]:
        """A measure's name → a score a descriptor, and last a blind guess's. Empty if there was no pair."""
        self._match()
        if not self._values[0]:
            return {}
        return {
            f"PCK@{alpha:g} (of the keypoints' box)": [
                score_of([float(v[a]) for v in values]) for values in self._values
            ]
            for a, alpha in enumerate(ALPHAS)
        }

    def _match(self) -> None:
        """Score all pairs of the pictures of a group, and forget them."""
        for source in self._pictures:
            of_targets = [self._pair(source, target) for target in self._pictures if target is not source]
            known = [shares for shares in of_targets if shares is not None]
            if known:
                for values, shares in zip(self._values, np.mean(known, axis=0), strict=True):
                    values.append(shares)
        self._pictures = []

    def _pair(self, source: _Picture, target: _Picture) -> np.ndarray | None:
        """Shares of keypoints that are right ``(descriptors + 1, alphas)``; None if the pair cannot be judged."""
        visible = ~(source.keypoints.isnan() | target.keypoints.isnan()).any(dim=1)
        spans = target.keypoints[~target.keypoints.isnan().any(dim=1)] * target.size
        if not visible.any() or not (longest := float((spans.amax(dim=0) - spans.amin(dim=0)).max())):
            return None
        allowed = torch.tensor(ALPHAS) * longest
        truth = target.keypoints[visible] * target.size
        shares = []
        for descriptor, here, there in zip(self._descriptors, source.maps, target.maps, strict=True):
            predicted = best_match(descriptor, here, source.keypoints[visible], there)
            errors = (predicted * target.size - truth).norm(dim=1)
            shares.append((errors[:, None] <= allowed).float().mean(dim=0))
        everywhere = cell_centres(_RASTER, _RASTER).flatten(0, 1) * target.size
        shares.append((torch.cdist(truth, everywhere)[..., None] <= allowed).float().mean(dim=(0, 1)))
        return torch.stack(shares).numpy()


def best_match(descriptor: Descriptor, source: Tensor, points: Tensor, target: Tensor) -> Tensor:
    """Centres ``(n, 2)`` of the cells of ``target (1, C, h, w)`` that are most like points ``(n, 2)`` of ``source``."""
    queries = sample(source, points[None])[0]
    best = descriptor.similarity(queries, target[0].flatten(1).T).argmax(dim=1)
    return cell_centres(*target.shape[2:]).flatten(0, 1)[best]
