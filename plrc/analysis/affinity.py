"""Point affinity: how alike each cell of a map is to a point."""

from __future__ import annotations

import torch
from torch import Tensor

from plrc.analysis.descriptors import cosine
from plrc.geometry import sample


def affinity(features: Tensor, points: Tensor) -> Tensor:
    """Cosine of the feature at each point with every cell's (paper figure 2).

    Args:
        features: ``(C, h, w)``. points: ``(n, 2)`` in the map's frame; features between cells are bilinear samples.

    Returns:
        ``(n, h, w)`` in [−1, 1].
    """
    queries = sample(features[None], points[None])[0]
    return cosine(queries, features.flatten(1).T).view(len(points), *features.shape[1:])


def upsample(maps: Tensor, h: int, w: int) -> Tensor:
    """Maps ``(n, h′, w′)`` at another resolution ``(n, h, w)`` over the same frame, bilinear."""
    return torch.nn.functional.interpolate(maps[None], (h, w), mode="bilinear", align_corners=False)[0]
