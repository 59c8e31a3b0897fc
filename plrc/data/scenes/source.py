"""Scenes as a source of pictures: drawn on demand, kept while there is room."""

from __future__ import annotations

import numpy as np
from PIL import Image

from plrc.data.scenes.camera import develop
from plrc.data.scenes.layout import Composition, compose
from plrc.data.scenes.painting import paint
from plrc.data.scenes.shapes import SHAPES
from plrc.data.sources import Annotation


class Scenes:
    """A Source of `n` pictures drawn on demand, each with exact masks of its 2 to 6 objects.

    `size`: (width, height) in pixels; the same scene is composed alike at any size of one aspect ratio. Pictures drawn
    once are kept while they fit in `cache_mb` MB (10^6 bytes; the default holds 4000 of the default size); masks are
    drawn anew. Pixels depend on (seed, i, size) alone, not on process, order or cache (another processor may round a
    byte differently). The textures cost each process about a second, once, and 16 MB.
    """

    CLASSES: tuple[str, ...] = tuple(SHAPES)

    def __init__(self, n: int = 1000, size: tuple[int, int] = (160, 128), seed: int = 0, cache_mb: float = 256) -> None:
        if n < 1 or min(size) < 32 or seed < 0:
            raise ValueError(f"Scenes need n >= 1, sides of at least 32 pixels and seed >= 0, not {n}, {size}, {seed}")
        self.n, self.picture_size, self.seed, self.cache_mb = n, (int(size[0]), int(size[1])), seed, cache_mb
        self._cache: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": {}}  # a worker fills its own cache: sending ours costs more than drawing

    def __len__(self) -> int:
        return self.n

    def _check(self, i: int) -> int:
        if not 0 <= i < self.n:
            raise IndexError(f"scene {i} of {self.n}")
        return int(i)

    def name(self, i: int) -> str:
        return f"scene-{self._check(i):06d}"

    def size(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels."""
        self._check(i)
        return self.picture_size

    def load(self, i: int, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The picture, mode RGB, always of `size(i)`; `at_least` changes nothing."""
        pixels = self._cache.get(self._check(i))
        if pixels is None:
            pixels = self._draw(int(i))
            if (len(self._cache) + 1) * pixels.nbytes <= self.cache_mb * 1e6:
                self._cache[int(i)] = pixels
        return Image.fromarray(pixels)

    def annotation(self, i: int) -> Annotation:
        """Visible masks, boxes and class names, back to front. Masks are disjoint; each shows >= 1/4 of its object."""
        return _annotate(compose(self.seed, self._check(i), self.picture_size))

    def _draw(self, i: int) -> np.ndarray:
        scene = compose(self.seed, i, self.picture_size)
        return develop(scene.rng, paint(scene))


def _annotate(scene: Composition) -> Annotation:
    """The scene's visible masks, their boxes and classes, back to front."""
    masks = np.stack(scene.visible)
    height, width = masks.shape[1:]
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = xs[0] / width, ys[0] / height, (xs[-1] + 1) / width, (ys[-1] + 1) / height
    return Annotation(masks=masks, boxes=boxes, classes=[cutout.thing.kind for cutout in scene.cutouts])
