"""Region purity: do the cells most like a point, other than its surroundings, lie in the point's object?"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from plrc.analysis.scores.objects import RasterObject

_MOST_ALIKE = 10  # cells, of the raster of 48 cells on the longer side
_AROUND = 6.0  # cells so near the point do not count: an eighth of the longer side


def purity(similar: Tensor, thing: RasterObject) -> tuple[float, float]:
    """Share of the 10 most alike cells that lie in the object, and the share of all cells that do.

    Cells at most 6 cells of the raster (an eighth of the picture's longer side) from the point are left out, in both
    numbers: the second is what a blind choice gets. Mean over the points; those whose object has fewer than 10 cells
    farther away are left out. Not a number where none is left.

    Args:
        similar: affinities ``(p, h * w)`` of the object's points.
    """
    inside, far = thing.inside.flatten().numpy(), (thing.distances() > _AROUND).numpy()
    pure, share = [], []
    for affinity, away in zip(similar.numpy(), far, strict=True):
        if (inside & away).sum() < _MOST_ALIKE:
            continue
        candidates = np.flatnonzero(away)
        # Equally alike cells are taken at random, or those of the upper left would be preferred.
        shuffled = candidates[np.random.default_rng(0).permutation(len(candidates))]
        best = shuffled[np.argsort(-affinity[shuffled], kind="stable")[:_MOST_ALIKE]]
        pure.append(inside[best].mean())
        share.append(inside[away].mean())
    return (float(np.mean(pure)), float(np.mean(share))) if pure else (float("nan"), float("nan"))
