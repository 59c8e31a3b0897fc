"""``plrc embed``: points, regions or whole pictures in the plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc import figures
from plrc.analysis.embedding import (
    Items,
    gather_images,
    gather_points,
    gather_regions,
    label_purity,
    neighbours_kept,
    pca_basis,
    project,
    tsne,
)
from plrc.analysis.features import FeatureMap
from plrc.geometry import cell_of
from plrc.recipes.drawing import Drawing, Progress, counted
from plrc.recipes.networks import inputs_of, open_networks
from plrc.recipes.pictures import open_picture, region_raster

NO_OBJECT = "background"
_RASTER, _THUMBNAIL = 160, 96  # pixels of the longer side of what is kept of a picture
_NEIGHBOURS = 10


def draw_embedding(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    of: str = "regions",
    method: str = "tsne",
    regions: str = "grid:4",
    per_picture: int = 16,
    perplexity: float = 30.0,
    layer: str | None = None,
    size: int = 448,
    finer: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Drawing:
    """Points, regions or whole pictures in the plane, by t-SNE or PCA; the same items by each network.

    They are coloured by the class of the object at their middle where objects are known (of a whole picture: of its
    largest object), else by their picture's folder if there are several. Numbers: *neighbours kept*, of the picture;
    and, of the features, *purity*: the share of an item's ten nearest in other pictures that have its label, beside
    what blind guessing gets.

    Args:
        pictures: as ``plrc.recipes.pictures.open_picture`` takes them. checkpoints: as ``plrc.load_encoder`` does.
        of: "points", "regions" or "images". method: "tsne" or "pca".
        regions: "grid:4", "superpixels:16", "masks:DIR", or "objects", the pictures' own.
        per_picture: points drawn in each picture. perplexity: t-SNE's. layer, size, finer: as of
            ``DenseEncoder.features``. seed: of the points and of t-SNE.
        progress: is told the pictures and t-SNE's steps that are done; no part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name != "progress"}
    networks = open_networks(checkpoints, device, layer)
    inputs = inputs_of(networks, checkpoints)
    known = [_look_at(spec, of, regions) for spec in pictures]
    inputs |= {spec: about.sha256 for spec, about in zip(pictures, known, strict=True)}
    found: dict[str, Items] = {}
    for name, network in networks.items():
        images = counted((open_picture(spec).image for spec in pictures), len(pictures), f"pictures, {name}", progress)
        fmaps = network.batch(images, layer, size, finer)
        found[name] = _labelled(_gather(fmaps, of, known, per_picture, seed), known)
    first = next(iter(found.values()))

    planes: dict[str, np.ndarray] = {}
    captions: dict[str, str] = {}
    shares: dict[str, list[float]] = {}
    lines = []
    for name, items in found.items():
        if method == "pca":
            basis = pca_basis(items.features, k=2)
            planes[name], how = project(items.features, basis), "PCA"
            shares[name] = basis.explained.tolist()
        else:
            told = partial(progress, f"t-SNE steps, {name}") if progress else None
            embedding = tsne(items.features, seed, perplexity, told)
            planes[name] = embedding.coordinates
            how = f"{embedding.method}, perplexity {embedding.perplexity:g}"
        captions[name], line = _numbers(items, planes[name])
        lines.append(f"{name}: {how} of {len(items)} {items.kind}; {line}")
    thumbnails = [about.thumbnail for about in known] if of == "images" else None
    figure = figures.embedding(planes, first.labels, thumbnails=thumbnails, explained=shares or None, captions=captions)
    arrays = {f"{name} coordinates": plane for name, plane in planes.items()}
    arrays |= {f"{name} features": items.features for name, items in found.items()}
    arrays |= {"image": first.image, "point": first.point, "region": first.region}
    return Drawing("embedding", parameters, inputs, arrays, figure, lines, _rows(pictures, first, planes))


@dataclass(frozen=True, eq=False)
class _About:
    """What is kept of a picture while its features are gathered.

    Attributes:
        folder: the name of its file's. objects: ``(h, w)`` small, number of the object at each place, −1 for none.
        classes: of the objects. regions: ``(h, w)``, if regions are wanted.
    """

    sha256: str
    folder: str
    objects: np.ndarray | None
    classes: list[str]
    regions: Tensor | None
    thumbnail: Image.Image


def _look_at(spec: str, of: str, regions: str) -> _About:
    picture = open_picture(spec)
    objects = None
    if picture.masks is not None:
        objects = np.full(picture.masks.shape[1:], -1)
        for i, mask in enumerate(picture.masks):
            objects[mask] = i
        step = max(1, max(objects.shape) // _RASTER)
        objects = objects[step // 2 :: step, step // 2 :: step]
    raster = None
    if of == "regions":
        raster = region_raster(picture, regions)
    small = picture.image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return _About(picture.sha256, Path(spec).parent.name, objects, picture.classes or [], raster, small)


def _gather(fmaps: Iterable[FeatureMap], of: str, known: Sequence[_About], per_picture: int, seed: int) -> Items:
    if of == "points":
        return gather_points(fmaps, per_picture, seed)
    if of == "images":
        return gather_images(fmaps)
    return gather_regions(fmaps, [about.regions for about in known if about.regions is not None])


def _labelled(items: Items, known: Sequence[_About]) -> Items:
    """With the class of each item's object, or its picture's folder; without, if there is one label only."""
    if all(about.objects is not None for about in known):
        labels = [_class_at(known[i], point) for i, point in zip(items.image, items.point, strict=True)]
    else:
        labels = [known[i].folder for i in items.image]
    return replace(items, labels=np.array(labels)) if len(set(labels)) > 1 else items


def _class_at(about: _About, point: np.ndarray) -> str:
    """The class of the object at a point, or of the largest one where there is no point (a whole picture)."""
    assert about.objects is not None
    if np.isnan(point).any():
        sizes = np.bincount(about.objects[about.objects >= 0], minlength=1)
        return about.classes[int(sizes.argmax())] if sizes.any() else NO_OBJECT
    row, column = cell_of(torch.from_numpy(point), *about.objects.shape)
    number = int(about.objects[row, column])
    return about.classes[number] if number >= 0 else NO_OBJECT


def _numbers(items: Items, plane: np.ndarray) -> tuple[str, str]:
    """A caption of the picture, and the same as a sentence."""
    k = min(_NEIGHBOURS, len(items) - 1)
    kept = neighbours_kept(items.features, plane, k)
    caption = f"neighbours kept {kept:.2f}"
    line = f"the picture keeps {kept:.3f} of the {k} nearest neighbours by cosine (chance {k / (len(items) - 1):.3f})"
    if items.labels is None or len(set(items.image)) < 2:
        return caption, line
    purity = label_purity(items.features, items.labels, items.image, k)
    caption += f", purity {purity.mean:.2f}"
    line += f"; of the {k} nearest in other pictures {purity.mean:.3f} have the same label (chance {purity.chance:.3f})"
    return caption, line


def _rows(pictures: Sequence[str], items: Items, planes: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """A line an item: where it is, and where it lies in each plane."""
    rows = []
    for i in range(len(items)):
        x, y = items.point[i].tolist()
        row: dict[str, Any] = {"picture": pictures[items.image[i]]}
        row |= {"x": "", "y": ""} if np.isnan(x) else {"x": round(x, 5), "y": round(y, 5)}
        row["region"] = "" if items.region[i] < 0 else int(items.region[i])
        row["label"] = "" if items.labels is None else str(items.labels[i])
        for name, plane in planes.items():
            row |= {f"{name} e1": float(plane[i, 0]), f"{name} e2": float(plane[i, 1])}
        rows.append(row)
    return rows
