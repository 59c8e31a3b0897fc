"""What is embedded: points, regions or whole images of a set of pictures, and which is which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from plrc.analysis.embedding.rows import check_same_layer, layer_of
from plrc.analysis.features import FeatureMap
from plrc.analysis.pooling import image_feature, region_features, region_numbers, region_points
from plrc.geometry import cell_of

Labeller = Callable[[np.ndarray, np.ndarray], Sequence[str]]
"""Names an image's items by their points ``(m, 2)`` and regions ``(m,)``, as ``Items`` has them: m texts."""


@dataclass(frozen=True, eq=False)
class Items:
    """n features and where each comes from.

    Attributes:
        kind: "points", "regions" or "images". features: ``(n, C)`` fp32, not normalised.
        image: ``(n,)`` int64, number of the image. point: ``(n, 2)`` fp32 in the image frame, a region's middle; not a
            number for whole images. region: ``(n,)`` int64, number of the region in its image; −1 where there is none.
        labels: ``(n,)`` of text; None where nobody knows. ``replace(items, labels=items.region)`` makes
            the regions the labels, which is right where their numbers mean the same in every image.
    """

    kind: str
    features: np.ndarray
    image: np.ndarray
    point: np.ndarray
    region: np.ndarray
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.features)


def gather_points(
    fmaps: Iterable[FeatureMap],
    per_image: int = 64,
    seed: int = 0,
    rasters: Iterable[Tensor] | None = None,
    labels: Iterable[str | Labeller] | None = None,
) -> Items:
    """The features of cells drawn at random in each image; all cells where it has no more than ``per_image``.

    Image i's cells depend on the seed, i and the map's shape, not on the other images.

    Args:
        fmaps: maps of one layer; may be an iterator (``encoder.batch``), each map is let go after use.
        rasters: for each image ``(h′, w′)`` integers over the whole image: the items' regions; each is asked for when
            its map has come, and let go.
        labels: for each image a text, of all its items, or a function that names them; asked for like rasters.

    Raises:
        ValueError: there is no map, maps of different layers, or not as many rasters or labels as maps.
    """
    if per_image < 1:
        raise ValueError(f"1 point an image or more can be drawn, not {per_image}")

    def draw(i: int, fmap: FeatureMap, raster: Tensor | None) -> _Part:
        centres = fmap.centres().flatten(0, 1)
        inside = (centres < 1).all(dim=1).nonzero().flatten().numpy()  # the map may reach beyond the image
        pool = inside if len(inside) else np.arange(len(centres))
        rng = np.random.default_rng((seed, i))
        cells = np.sort(rng.choice(pool, min(per_image, len(pool)), replace=False))
        region = np.full(len(cells), -1)
        if raster is not None:
            row, column = cell_of(centres[cells], *raster.shape)
            region = raster.cpu()[row, column].numpy()
        return fmap.features.flatten(1).T.cpu()[cells].numpy(), centres[cells].numpy(), region

    return _gather("points", fmaps, draw, rasters, labels)


def gather_regions(
    fmaps: Iterable[FeatureMap], rasters: Iterable[Tensor], labels: Iterable[str | Labeller] | None = None
) -> Items:
    """The mean feature of each region of each image.

    Args: as of ``gather_points``; negative values of a raster are no region.

    Raises:
        ValueError: as of ``gather_points``, or an image has no region.
    """

    def pool(i: int, fmap: FeatureMap, raster: Tensor | None) -> _Part:
        assert raster is not None
        features = region_features(fmap, raster).cpu().numpy()
        return features, region_points(raster).numpy(), region_numbers(raster).numpy()

    return _gather("regions", fmaps, pool, rasters, labels)


def gather_images(fmaps: Iterable[FeatureMap], labels: Iterable[str | Labeller] | None = None) -> Items:
    """The mean feature of each image. Arguments and errors: as of ``gather_points``."""

    def pool(i: int, fmap: FeatureMap, raster: Tensor | None) -> _Part:
        return image_feature(fmap)[None].cpu().numpy(), np.full((1, 2), np.nan, np.float32), np.array([-1])

    return _gather("images", fmaps, pool, None, labels)


_Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # features (m, C), points (m, 2), regions (m,) of one image


def _gather(
    kind: str,
    fmaps: Iterable[FeatureMap],
    part_of: Callable[[int, FeatureMap, Tensor | None], _Part],
    rasters: Iterable[Tensor] | None,
    labels: Iterable[str | Labeller] | None,
) -> Items:
    """The parts of all images in one, checked."""
    given: dict[str, Iterable[Any] | None] = {"rasters": rasters, "labels": labels}
    queues = {name: iter(values) for name, values in given.items() if values is not None}
    kinds: list[tuple[str, int]] = []  # not the maps themselves: they are let go, and so are the rasters
    parts: list[_Part] = []
    texts: list[str] = []
    for i, fmap in enumerate(fmaps):
        kinds.append(layer_of(fmap))
        check_same_layer([kinds[0], kinds[-1]])
        own: dict[str, Any] = {}
        for name, queue in queues.items():
            try:
                own[name] = next(queue)
            except StopIteration:
                raise ValueError(f"there are more images than {name}: {i}; give one for each image") from None
        parts.append(part_of(i, fmap, own.get("rasters")))
        _, points, regions = parts[-1]
        label = own.get("labels")
        texts += label(points, regions) if callable(label) else [str(label)] * len(points)
    if not parts:
        raise ValueError("there is no image to embed")
    for name, queue in queues.items():
        if next(queue, None) is not None:
            raise ValueError(f"there are {len(parts)} images, but more {name}; give one for each image")
    features, points, regions = (np.concatenate(column) for column in zip(*parts, strict=True))
    image = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    return Items(kind, features, image, points, regions, None if labels is None else np.array(texts))
