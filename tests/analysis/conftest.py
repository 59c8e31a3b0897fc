"""Images whose maps are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from plrc.analysis.descriptors import Descriptor, cosine
from plrc.analysis.scores import ScoredImage


@pytest.fixture
def scored() -> Callable[..., ScoredImage]:
    """``scored(number, maps)``: an image of 96 × 64 pixels; maps ``(1, C, h, w)``, of each descriptor."""

    def make(
        number: int,
        maps: Sequence[Tensor],
        similarity: Callable[[Tensor, Tensor], Tensor] = cosine,
        size: tuple[int, int] = (96, 64),
        **known: Any,
    ) -> ScoredImage:
        given = [Descriptor(str(k), lambda _, m=m: m, similarity) for k, m in enumerate(maps)]
        return ScoredImage(number, Image.new("RGB", size), given, **known)

    return make
