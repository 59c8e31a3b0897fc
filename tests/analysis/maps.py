"""Feature maps whose values are known, and images with such maps."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, cosine
from plrc.analysis.features import FeatureMap
from plrc.analysis.scores import ScoredImage
from plrc.geometry import Crop


def map_of(features: Tensor, width: int, height: int, stride: int) -> FeatureMap:
    """A map of an image that the network saw pixel for pixel; it reaches beyond where the sides are no multiples."""
    return FeatureMap(features, (width, height), (width, height), stride, "c5")


def blank(width: int, height: int, stride: int) -> FeatureMap:
    return map_of(torch.zeros(1, -(-height // stride), -(-width // stride)), width, height, stride)


def coded(width: int, height: int, stride: int, crop: Crop | None = None) -> FeatureMap:
    """Cells coded with their places in the image, or in that of which it is a view: the nearest is the most alike."""
    places = blank(width, height, stride).centres()
    x, y = ((places if crop is None else crop.to_image(places)) * math.pi / 2).unbind(-1)
    return map_of(torch.stack((x.sin(), x.cos(), y.sin(), y.cos())), width, height, stride)


def random_map(c: int, h: int, w: int, seed: int = 0, stride: int = 8) -> FeatureMap:
    features = torch.randn(c, h, w, generator=torch.Generator().manual_seed(seed))
    return map_of(features, w * stride, h * stride, stride)


def scored(
    number: int, maps: Sequence[Tensor], similarity: Callable = cosine, size: tuple[int, int] = (96, 64), **known: Any
) -> ScoredImage:
    """An image of 96 × 64 pixels; maps ``(1, C, h, w)``, of each descriptor."""
    given = [Descriptor(str(k), lambda _, m=m: m, similarity) for k, m in enumerate(maps)]
    return ScoredImage(number, Image.new("RGB", size), given, **known)
