"""Retrieval: which patches, or images, of very many are most like a question (ours).

Of an image its mean feature is kept and at most 64 patches, the means of square blocks of cells. A question is one
matrix product with all of them, so that answers are exact and no library of approximate neighbours is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.analysis.features import FeatureMap

PATCHES, CHANNELS = 64, 128  # that are kept of an image, and of a patch, at most
_ROWS = 2048  # that are multiplied at once: as single precision they fit into a core's cache


def side_of_patch(fmap: FeatureMap) -> int:
    """How many cells a patch is wide and high: as few as make at most 64 patches of the map."""
    return next(s for s in range(1, max(fmap.shape) + 1) if math.prod(-(-n // s) for n in fmap.shape) <= PATCHES)


def patches(fmap: FeatureMap) -> tuple[Tensor, Tensor]:
    """The whole image, then its patches: features ``(1 + n, C)`` of length 1, and boxes ``(1 + n, 4)``, x0, y0, x1, y1
    of the image frame."""
    side, (h, w) = side_of_patch(fmap), fmap.shape
    blocks = F.avg_pool2d(fmap.features[None], side, ceil_mode=True)[0].flatten(1).T
    y, x = torch.meshgrid(torch.arange(0, h, side), torch.arange(0, w, side), indexing="ij")
    corners = torch.stack((x, y, (x + side).clamp(max=w), (y + side).clamp(max=h)), dim=2).flatten(0, 1)
    boxes = torch.cat((torch.tensor([[0, 0, w, h]]), corners))
    whole = fmap.features.flatten(1).mean(dim=1)
    return F.normalize(torch.cat((whole[None], blocks)), dim=1).cpu(), _in_image(fmap, boxes)


def patch_at(fmap: FeatureMap, point: Tensor) -> tuple[Tensor, Tensor]:
    """The patch around a point ``(2,)`` of the image frame: its feature ``(C,)``, not normalised, and its box ``(4,)``.

    It is the block of cells, as wide as those of ``patches``, whose middle is nearest to the point.
    """
    side, (h, w) = side_of_patch(fmap), fmap.shape
    place = fmap.to_map(point) * torch.tensor([w, h]) - side / 2 + 0.5
    x, y = (max(0, min(math.floor(at), n - side)) for at, n in zip(place.tolist(), (w, h), strict=True))
    box = torch.tensor([x, y, min(x + side, w), min(y + side, h)])
    return fmap.features[:, y : y + side, x : x + side].flatten(1).mean(dim=1).cpu(), _in_image(fmap, box)


def _in_image(fmap: FeatureMap, boxes: Tensor) -> Tensor:
    """Boxes in cells ``(..., 4)`` as boxes of the image frame; the map may reach beyond it."""
    (h, w), extent = fmap.shape, fmap.extent.repeat(2)
    return (boxes / torch.tensor([w, h, w, h]) * extent).clamp(max=1)


def principal(features: Tensor) -> tuple[Tensor, float]:
    """The axes ``(C, 128)`` that keep most of the lengths of ``(n, C)``, and the share of the squared lengths lost."""
    _, vectors = torch.linalg.eigh(features.T @ features)  # rising
    axes = vectors[:, -CHANNELS:].flip(1)
    return axes, max(0.0, 1 - float((features @ axes).square().sum() / features.square().sum()))


@dataclass(frozen=True, eq=False)
class Index:
    """What can be found, n rows: of each image first the whole, then its patches.

    Attributes:
        features: ``(n, C)`` in half precision, of length 1 but for what the axes lose. image: ``(n,)`` the number of
            its image. box: ``(n, 4)`` of the image frame. label: ``(n,)`` which of the names; pixels: ``(n,)`` uint64,
            the same for images with the same pixels. names: of classes or folders.
        axes: ``(C′, C)``, of a network with more than 128 channels. lost: the share of the squared length lost by them.
    """

    features: Tensor
    image: np.ndarray
    box: np.ndarray
    label: np.ndarray
    pixels: np.ndarray
    names: list[str]
    axes: Tensor | None
    lost: float

    @classmethod
    def of(cls, parts: Sequence[Mapping[str, np.ndarray]]) -> Index:
        """The rows of all parts. A part has this class's arrays, but labels and names of its own; the first, axes."""
        names = sorted({str(name) for part in parts for name in part["names"]})
        label = [np.searchsorted(names, part["names"])[part["label"]] for part in parts]
        image, box, pixels = (np.concatenate([part[name] for part in parts]) for name in ("image", "box", "pixels"))
        features = torch.cat([torch.from_numpy(part["features"]) for part in parts])
        axes = torch.from_numpy(parts[0]["axes"]) if parts[0]["axes"].size else None
        return cls(features, image, box, np.concatenate(label), pixels, names, axes, float(parts[0]["lost"]))

    @property
    def nbytes(self) -> int:
        """Of memory."""
        return sum(a.nbytes for a in (self.features, self.image, self.box, self.label, self.pixels))

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each image, the whole of it."""
        return np.flatnonzero(np.diff(self.image, prepend=-1))

    def nearest(
        self, question: Tensor, count: int, whole: bool = False, without: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and cosines ``(k,)`` of the patches, or of the whole images, most like a feature ``(C′,)``, best first.

        k is at most ``count``; of an image, and of all with the same pixels, only the best patch counts; images with
        the pixels ``without`` are left out.
        """
        unit = F.normalize(question, dim=0)
        unit = unit if self.axes is None else unit @ self.axes
        if whole:
            cosines = (self.features[self.starts].float() @ unit).numpy()
        else:
            values = torch.cat([part.float() @ unit for part in self.features.split(_ROWS)]).numpy()
            values[self.starts] = -np.inf
            cosines = np.maximum.reduceat(values, self.starts)
        seen, found = {without}, list[int]()
        for i in np.argsort(-cosines, kind="stable").tolist():
            if len(found) == count:
                break
            if (pixels := int(self.pixels[self.starts[i]])) not in seen:
                seen.add(pixels)
                found.append(i)
        rows = self.starts[found]
        if not whole:
            ends = [*self.starts[1:], len(values)]
            rows += np.array([values[self.starts[i] : ends[i]].argmax() for i in found], dtype=int)
        return rows, cosines[found]

    def chance(self, label: int, whole: bool = False, without: int = 0) -> float:
        """How often a random patch of a random image, or a random image, has a label; but for those ``without``."""
        same, others = (self.label == label).astype(np.float64), self.pixels[self.starts] != without
        shares = same[self.starts]
        if not whole:
            sizes = np.diff(self.starts, append=len(same)) - 1
            shares = (np.add.reduceat(same, self.starts) - shares) / sizes
        return float(shares[others].mean())
