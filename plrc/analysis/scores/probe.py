"""The linear probe: does a linear map of a cell's feature, learnt from other images, tell objects from the rest?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores.objects import cells_of, raster_of
from plrc.analysis.scores.table import ScoredImage, Values
from plrc.geometry import cell_centres, sample

_CELLS = 8  # of an image that are an object's, and as many that are none's
_RIDGE = 0.01  # added to the features' covariance, whose diagonal is 1
_ONE_KIND = "no cell of the image is mostly an object's, or all are"


class LinearProbe:
    """AUC of a linear probe of the foreground: the chance that it ranks an object's cell above one that is none's.

    The foreground is all objects' masks together. On a raster of 48 cells on the longer side 8 cells that objects cover
    by more than half and 8 others are drawn from the image's number, with replacement, and features sampled there
    bilinearly. Ridge regression of the standardised features on ±1 learns from every second image and ranks the cells
    of the others, and the other way round: no image is judged by what was learnt from it. All pairs of an image's cells
    count, ties as a half. By chance: 0.5.
    """

    def of(self, images: Sequence[ScoredImage]) -> dict[int, Any]:
        """Of each descriptor ``(16, C)``, the object's cells first."""
        return {image.number: self._of(image) for image in images}

    def _of(self, image: ScoredImage) -> list[Tensor] | str:
        assert image.annotation is not None
        assert image.annotation.masks is not None
        raster, rng = raster_of(image.image.size), np.random.default_rng((12345, image.number))
        inside = cells_of(torch.from_numpy(image.annotation.masks.any(axis=0)), raster).flatten()
        kinds = [kind.nonzero().flatten().numpy() for kind in (inside, ~inside)]
        if not all(map(len, kinds)):
            return _ONE_KIND
        drawn = np.concatenate([rng.choice(cells, _CELLS) for cells in kinds])
        points = cell_centres(*raster).flatten(0, 1)[drawn]
        return [sample(maps, points[None])[0].half() for maps in image.maps]

    def values(self, noted: Mapping[int, Any], why: str, descriptors: Sequence[Descriptor]) -> dict[str, Values]:
        """A value an image; nothing if there is only one image: it has no other to learn from."""
        columns = [probe_auc([of_image[d] for of_image in noted.values()]) for d in range(len(descriptors))]
        return {"linear probe AUC": Values(list(noted), [*columns, [0.5] * len(noted)], why)}


def probe_auc(cells: Sequence[Tensor]) -> list[float]:
    """The AUC of each image's cells ``(16, C)``, by a probe that the images of the other half taught; none of one."""
    if len(cells) < 2:
        return []
    halves = [torch.stack(list(cells[half::2])).double() for half in (0, 1)]
    k, c = cells[0].shape
    truth = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat_interleave(k // 2)
    found = torch.empty(len(cells))
    for half in (0, 1):
        taught = halves[1 - half].flatten(0, 1)
        mean, std = taught.mean(dim=0), taught.std(dim=0).clamp(min=1e-6)
        x, y = (taught - mean) / std, truth.repeat(len(halves[1 - half]))
        weights = torch.linalg.solve(x.T @ x + _RIDGE * len(x) * torch.eye(c, dtype=x.dtype), x.T @ y)
        ranked = ((halves[half] - mean) / std) @ weights
        difference = ranked[:, : k // 2, None] - ranked[:, None, k // 2 :]
        found[half::2] = ((difference.sign() + 1) / 2).mean(dim=(1, 2)).float()
    return found.tolist()
