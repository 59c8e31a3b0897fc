"""An example of training, as a figure is given it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from plrc.geometry import Crop


@dataclass
class Example:
    """An image, the two views of it that training saw, and how alike its cells are to one point.

    Attributes:
        image: ``(H, W, 3)`` uint8. box: ``(2, 4)`` and flip: ``(2,)`` bool, the views' crops (image frame).
        views: ``(2, S, S, 3)`` uint8, coloured as trained on.
        regions: ``(2, h, w)`` integer, the region that each cell of each view sees.
        points: ``(2, R, P, 2)`` in the view frames. valid: ``(R,)`` bool, regions that both views see.
        query: ``(2,)``, a point of the image frame. maps: name → ``(h, w)`` cosines with the query, image frame.
    """

    image: np.ndarray
    box: np.ndarray
    flip: np.ndarray
    views: np.ndarray
    regions: np.ndarray
    points: np.ndarray
    valid: np.ndarray
    query: np.ndarray
    maps: Mapping[str, np.ndarray]

    @property
    def crops(self) -> Crop:
        """Both crops; ``crops[v]`` is that of view v."""
        return Crop(torch.tensor(np.asarray(self.box)), torch.tensor(np.asarray(self.flip)))
