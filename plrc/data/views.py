"""Two views of an image: where they are cut and how they are coloured, as a pure function of (seed, epoch, index)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from plrc.data.photometric import Photometric
from plrc.geometry import Crop

_RATIO = (3 / 4, 4 / 3)  # of a crop's width to its height in pixels (torchvision's RandomResizedCrop; released code)
_TRIES = 10  # drawn crops that do not fit, before the largest one that does is taken (likewise)


@dataclass(frozen=True)
class ViewParameters:
    """All that is random about the two views of one image: crops, of batch shape ``(2,)``, and colours,
    ``(2, N_PARAMETERS)`` float32, see ``plrc.data.photometric``."""

    crops: Crop
    colours: np.ndarray


@dataclass(frozen=True)
class ViewSampler:
    """The distribution of views: crop area ``scale`` (shares of the image), probability of a flip, colours."""

    scale: tuple[float, float]
    flip_p: float
    photometric: Photometric

    def draw(self, seed: int, epoch: int, index: int, size: tuple[int, int]) -> ViewParameters:
        """The views of image ``index``, of ``size`` (width, height) pixels, in ``epoch``: the same on every call."""
        rng = np.random.default_rng((seed, epoch, index))
        boxes = [_draw_box(rng, self.scale, *size) for _ in range(2)]
        flips = rng.random(2) < self.flip_p
        colours = np.stack([self.photometric.draw(rng) for _ in range(2)])
        crops = Crop(torch.tensor(boxes, dtype=torch.float32), torch.from_numpy(flips))
        return ViewParameters(crops, colours)


def _draw_box(rng: np.random.Generator, scale: tuple[float, float], width: int, height: int) -> tuple[float, ...]:
    """A random resized crop in the image frame: area and ratio as torchvision draws them, borders not rounded."""
    for _ in range(_TRIES):
        area = rng.uniform(*scale) * width * height
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = math.sqrt(area * ratio) / width, math.sqrt(area / ratio) / height
        if w <= 1 and h <= 1:
            break
    else:
        ratio = min(max(width / height, _RATIO[0]), _RATIO[1])
        w, h = min(1.0, height * ratio / width), min(1.0, width / ratio / height)
    x, y = rng.uniform(0, 1 - w), rng.uniform(0, 1 - h)
    return x, y, x + w, y + h


def pixels_needed(crops: Crop, side: int) -> tuple[int, int]:
    """Least width and height of a decoded image in which no crop has to be enlarged more than the original would."""
    spans = crops.box[:, 2:] - crops.box[:, :2]
    width, height = (side / spans).amax(dim=0).tolist()
    return math.ceil(width), math.ceil(height)


def cut(image: Image.Image, crops: Crop, side: int) -> torch.Tensor:
    """The views ``(V, side, side, 3)`` uint8 of an RGB image: each box resized with antialiasing, then mirrored. Box
    borders need not fall on pixels: a pixel is an area, and a part of it weighs by its share."""
    width, height = image.size
    views = []
    for box, flip in zip(crops.box.tolist(), crops.flip.tolist(), strict=True):
        x0, y0, x1, y1 = (min(max(v, 0.0), 1.0) for v in box)
        area = (x0 * width, y0 * height, x1 * width, y1 * height)
        view = image.resize((side, side), Image.Resampling.BILINEAR, box=area)
        views.append(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else view)
    return torch.from_numpy(np.stack([np.asarray(view) for view in views]))
