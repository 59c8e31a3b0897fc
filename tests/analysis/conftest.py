"""Images whose maps are given, and a score of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, cosine
from plrc.analysis.scores import ScoredImage, Values, values_of


@pytest.fixture
def scored() -> Callable[..., ScoredImage]:
    """``scored(number, maps)``: an image of 96 × 64 pixels; maps ``(1, C, h, w)``, of each descriptor."""

    def make(
        number: int,
        maps: Sequence[Tensor],
        similarity: Sequence[Callable[[Tensor, Tensor], Tensor]] = (),
        size: tuple[int, int] = (96, 64),
        **known: Any,
    ) -> ScoredImage:
        described = zip(maps, similarity or [cosine] * len(maps), strict=True)
        given = [Descriptor(str(k), lambda _, m=m: m, s) for k, (m, s) in enumerate(described)]
        return ScoredImage(number, Image.new("RGB", size), given, **known)

    return make


@pytest.fixture
def values() -> Callable[[Any, Iterable[ScoredImage]], dict[str, Values]]:
    return values_of
