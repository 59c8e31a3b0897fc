"""What is embedded: points, regions or whole images of a set of pictures, and which is which."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from plrc.analysis.embedding.rows import check_same_layer, layer_of
from plrc.analysis.features import FeatureMap
from plrc.analysis.pooling import image_feature, region_features, region_numbers, region_points
from plrc.geometry import cell_of


@dataclass(frozen=True, eq=False)
class Items:
    """n features and where each comes from.

    Attributes:
        kind: "points", "regions" or "images". features: ``(n, C)`` fp32, not normalised.
        image: ``(n,)`` int64, number of the image. point: ``(n, 2)`` fp32 in the image frame, a region's middle; not a
            number for whole images. region: ``(n,)`` int64, number of the region in its image; −1 where there is none.
        labels: ``(n,)`` of text, its image's; None where nobody knows. ``replace(items, labels=items.region)`` makes
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
    rasters: Sequence[Tensor] | None = None,
    labels: Sequence[str] | None = None,
) -> Items:
    """The features of cells drawn at random in each image; all cells where it has no more than ``per_image``.

    Image i's cells depend on the seed, i and the map's shape, not on the other images.

    Args:
        fmaps: maps of one layer; may be an iterator (``encoder.batch``), each map is let go after use.
        rasters: for each image ``(h′, w′)`` integers over the whole image: the items' regions. labels: one an image.

    Raises:
        ValueError: there is no map, maps of different layers, or not as many rasters or labels as maps.
    """
    if per_image < 1:
        raise ValueError(f"1 point an image or more can be drawn, not {per_image}")

    def draw(i: int, fmap: FeatureMap) -> _Part:
        centres = fmap.centres().flatten(0, 1)
        inside = (centres < 1).all(dim=1).nonzero().flatten().numpy()  # the map may reach beyond the image
        pool = inside if len(inside) else np.arange(len(centres))
        rng = np.random.default_rng((seed, i))
        cells = np.sort(rng.choice(pool, min(per_image, len(pool)), replace=False))
        region = np.full(len(cells), -1)
        if rasters is not None:
            row, column = cell_of(centres[cells], *rasters[i].shape)
            region = rasters[i].cpu()[row, column].numpy()
        return fmap.features.flatten(1).T.cpu()[cells].numpy(), centres[cells].numpy(), region

    return _gather("points", fmaps, draw, rasters, labels)


def gather_regions(
    fmaps: Iterable[FeatureMap], rasters: Sequence[Tensor], labels: Sequence[str] | None = None
) -> Items:
    """The mean feature of each region of each image.

    Args: as of ``gather_points``; negative values of a raster are no region.

    Raises:
        ValueError: as of ``gather_points``, or an image has no region.
    """

    def pool(i: int, fmap: FeatureMap) -> _Part:
        features = region_features(fmap, rasters[i]).cpu().numpy()
        return features, region_points(rasters[i]).numpy(), region_numbers(rasters[i]).numpy()

    return _gather("regions", fmaps, pool, rasters, labels)


def gather_images(fmaps: Iterable[FeatureMap], labels: Sequence[str] | None = None) -> Items:
    """The mean feature of each image. Arguments and errors: as of ``gather_points``."""

    def pool(i: int, fmap: FeatureMap) -> _Part:
        return image_feature(fmap)[None].cpu().numpy(), np.full((1, 2), np.nan, np.float32), np.array([-1])

    return _gather("images", fmaps, pool, None, labels)


def save_coordinates(file: str | Path, coordinates: np.ndarray, items: Items, names: Sequence[str]) -> None:
    """Write where each item lies in the picture: a row each, as CSV or NPZ, by the file's suffix.

    Columns (CSV; empty where there is no value) or arrays (NPZ): ``image``, the name; ``x``, ``y`` in the image frame;
    ``region``; ``label``; ``e1``, ``e2`` and so on, the coordinates. Numbers of the CSV read back as the same fp32.

    Args:
        coordinates: ``(n, d)``. names: of the images, by their number.

    Raises:
        ValueError: the numbers of items, coordinates and names do not fit, or the suffix is another.
    """
    file = Path(file)
    if file.suffix not in (".csv", ".npz"):
        raise ValueError(f"{file}: coordinates are saved as .csv or .npz")
    if len(coordinates) != len(items):
        raise ValueError(f"{file}: {len(items)} items do not have {len(coordinates)} coordinates")
    if len(names) <= items.image.max():
        raise ValueError(f"{file}: the items are of {items.image.max() + 1} images, of which {len(names)} have a name")
    labels = np.full(len(items), "") if items.labels is None else items.labels.astype(str)
    axes = {f"e{i}": column for i, column in enumerate(coordinates.T, start=1)}
    x, y = items.point.T
    columns: dict[str, Any] = {"image": np.array([names[i] for i in items.image]), "x": x, "y": y}
    columns |= {"region": items.region, "label": labels, **axes}
    if file.suffix == ".npz":
        np.savez(file, **columns)
        return
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for name, missing in (("x", np.isnan(x)), ("y", np.isnan(y)), ("region", items.region < 0)):
            columns[name] = np.where(missing, "", columns[name].astype(str))
        writer.writerows(zip(*columns.values(), strict=True))


_Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # features (m, C), points (m, 2), regions (m,) of one image


def _gather(
    kind: str,
    fmaps: Iterable[FeatureMap],
    part_of: Callable[[int, FeatureMap], _Part],
    rasters: Sequence[Tensor] | None,
    labels: Sequence[str] | None,
) -> Items:
    """The parts of all images in one, checked."""
    kinds: list[tuple[str, int]] = []  # not the maps themselves: they are let go
    parts = []
    for i, fmap in enumerate(fmaps):
        kinds.append(layer_of(fmap))
        check_same_layer([kinds[0], kinds[-1]])
        for name, given in (("rasters", rasters), ("labels", labels)):
            if given is not None and i >= len(given):
                raise ValueError(f"there are more images than {name}: {len(given)}; give one for each image")
        parts.append(part_of(i, fmap))
    if not parts:
        raise ValueError("there is no image to embed")
    for name, given in (("rasters", rasters), ("labels", labels)):
        if given is not None and len(given) != len(parts):
            raise ValueError(f"there are {len(parts)} images, but {len(given)} {name}; give one for each image")
    features, points, regions = (np.concatenate(column) for column in zip(*parts, strict=True))
    image = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    texts = None if labels is None else np.array([str(label) for label in labels])[image]
    return Items(kind, features, image, points, regions, texts)
