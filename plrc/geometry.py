"""The one coordinate rule: points, cells and crops.

A point is ``(x, y)`` in ``[0, 1] × [0, 1]`` of its frame, which is either the *image frame* (the whole upright image)
or a *view frame* (one crop of it, possibly mirrored). Pixels are areas: cell ``(row i, column j)`` of an ``h × w`` map
has its centre at ``((j + 0.5) / w, (i + 0.5) / h)``. This is ``align_corners=False``, everywhere and always. Nothing
else in the project converts between frames or to the coordinates of ``grid_sample``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Crop:
    """Where views lie in their images: maps view points to image points and back.

    Attributes:
        box: ``(..., 4)`` float, ``x0, y0, x1, y1`` in the image frame, ``x0 < x1`` and ``y0 < y1``.
        flip: ``(...)`` bool, True where the view is mirrored left to right.
    """

    box: Tensor
    flip: Tensor

    def to_image(self, points: Tensor) -> Tensor:
        """View points ``(..., N, 2)`` as image points ``(..., N, 2)``."""
        x, y = points.unbind(-1)
        x = torch.where(self.flip[..., None], 1 - x, x)
        x0, y0, x1, y1 = self.box[..., None, :].unbind(-1)
        return torch.stack((x0 + x * (x1 - x0), y0 + y * (y1 - y0)), dim=-1)

    def to_view(self, points: Tensor) -> Tensor:
        """Image points ``(..., N, 2)`` as view points ``(..., N, 2)``; outside [0, 1] where the view does not show."""
        x0, y0, x1, y1 = self.box[..., None, :].unbind(-1)
        x = (points[..., 0] - x0) / (x1 - x0)
        x = torch.where(self.flip[..., None], 1 - x, x)
        y = (points[..., 1] - y0) / (y1 - y0)
        return torch.stack((x, y), dim=-1)

    def __getitem__(self, index: int | slice | Tensor) -> Crop:
        """Those of the batch that the index takes of both tensors."""
        return Crop(self.box[index], self.flip[index])


def cell_centres(h: int, w: int, device: torch.device | str | None = None) -> Tensor:
    """Centres of the cells of an ``h × w`` map: ``(h, w, 2)`` points in its frame."""
    y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) / h
    x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) / w
    return torch.stack((x.expand(h, w), y[:, None].expand(h, w)), dim=-1)


def cell_of(points: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
    """Row and column ``(...)`` (int64) of the cell of an ``h × w`` map in which each point ``(..., 2)`` lies.

    Points outside the frame get the nearest border cell; x = 1 belongs to the last column.
    """
    column = (points[..., 0] * w).floor().long().clamp(0, w - 1)
    row = (points[..., 1] * h).floor().long().clamp(0, h - 1)
    return row, column


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of maps ``(B, C, h, w)`` at points ``(B, N, 2)`` of their frame: ``(B, N, C)``, at least fp32.

    Within half a cell of the border the border cell's value is continued, since there is nothing beyond it to mix with.
    """
    dtype = torch.promote_types(maps.dtype, torch.float32)  # half precision would move points by a hundredth
    grid = 2 * points.to(dtype) - 1  # the only place that knows grid_sample's [-1, 1]
    out = F.grid_sample(maps.to(dtype), grid[:, None], mode="bilinear", padding_mode="border", align_corners=False)
    return out[:, :, 0].transpose(1, 2)
