"""``plrc embed``: points, regions or whole pictures in the plane."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
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
    Labeller,
    gather_images,
    gather_points,
    gather_regions,
    label_purity,
    neighbours_kept,
    pca_basis,
    project,
    tsne,
)
from plrc.analysis.features import DenseEncoder, FeatureMap
from plrc.geometry import cell_of
from plrc.recipes.desk import Desk
from plrc.recipes.drawing import NO_PARAMETERS, Drawing, Progress, check_seed, counted
from plrc.recipes.networks import heading, inputs_of, sides
from plrc.recipes.pictures import Picture, mask_files, region_raster

NO_OBJECT = "background"
_THUMBNAIL = 96  # pixels of the longer side
_NEIGHBOURS = 10
_MOST = 20_000  # items: above, t-SNE takes more than an hour, and dots cover one another


@dataclass(eq=False, kw_only=True)
class EmbeddingDrawing(Drawing):
    """Attributes:
    specs: the pictures. items: what is laid out, without its features. planes: heading → ``(n, 2)``.
    captions: heading → the numbers under it.
    """

    specs: list[str]
    items: Items
    planes: dict[str, np.ndarray]
    captions: dict[str, str]


def draw_embedding(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    of: str = "regions",
    method: str = "tsne",
    regions: str = "grid:4",
    per_picture: int = 16,
    perplexity: float = 30.0,
    layer: str | None = None,
    branch: str | None = None,
    size: int | Sequence[int] = 448,
    finer: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    desk: Desk | None = None,
) -> EmbeddingDrawing:
    """Points, regions or whole pictures in the plane, by t-SNE or PCA; the same items by each network.

    They are coloured by the class of their object where objects are known: that at their middle, the smallest one if
    several are there; with regions "objects" the region itself; of a whole picture its largest. Else they are coloured
    by their picture's folder if there are several. Numbers: *neighbours kept*, of the picture;
    and, of the features, *purity*: the share of an item's ten nearest in other pictures that have its label, beside
    what blind guessing gets.

    Args:
        pictures: as ``plrc.recipes.pictures.open_picture`` takes them. checkpoints: as ``plrc.load_encoder`` does.
        of: "points", "regions" or "images". method: "tsne" or "pca".
        regions: "grid:4", "superpixels:16", "masks:DIR", or "objects", the pictures' own.
        per_picture: points drawn in each picture. perplexity: t-SNE's. layer, size, finer: as of
            ``DenseEncoder.features``. branch: as of ``plrc.load_encoder``. seed: of the points and of t-SNE.
        progress: is told the pictures and t-SNE's steps that are done. desk: what was loaded and encoded before.
            Neither is part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name not in NO_PARAMETERS}
    _check(per_picture, perplexity, seed)
    desk = desk or Desk()
    networks = desk.networks(checkpoints, device, layer, branch)
    masks = mask_files(pictures, regions) if of == "regions" else {}
    seen = _Pictures(pictures, of, regions, desk)
    first: Items | None = None
    planes: dict[str, np.ndarray] = {}
    headings: dict[str, str] = {}
    captions: dict[str, str] = {}
    shares: dict[str, list[float]] = {}
    lines = []
    for name, network in networks.items():
        fmaps = seen.maps(network, name, layer, size, finer, progress)
        items = _gather(fmaps, seen, per_picture, seed, labelled=first is None)
        if first is None:
            first = replace(items, features=items.features[:, :0].copy(), labels=_worth_telling(items, seen))
        _check_same_items(items, first, name, next(iter(networks)))
        items = replace(items, labels=first.labels)
        headings[name] = heading(name, seen.now[1])
        if method == "pca":
            basis = pca_basis(items.features, k=2)
            planes[name], how = project(items.features, basis), "PCA"
            shares[headings[name]] = basis.explained.tolist()
        else:
            told = partial(progress, f"t-SNE steps, {name}") if progress else None
            embedding = tsne(items.features, seed, perplexity, told)
            planes[name] = embedding.coordinates
            how = f"{embedding.method}, perplexity {embedding.perplexity:g}"
        captions[headings[name]], line = _numbers(items, planes[name])
        lines.append(f"{name}: {how} of {len(items)} {items.kind}; {line}")
        del items  # their features: the next network's are to come
    assert first is not None
    draw = partial(
        figures.embedding,
        {headings[name]: plane for name, plane in planes.items()},
        first.labels,
        thumbnails=seen.thumbnails or None,
        explained=shares or None,
        captions=captions,
    )
    arrays = {f"{name} coordinates": plane for name, plane in planes.items()}
    arrays |= {"image": first.image, "point": first.point, "region": first.region}
    inputs = inputs_of(networks, checkpoints) | masks | seen.read
    return EmbeddingDrawing(
        kind="embedding",
        parameters=parameters,
        inputs=inputs,
        arrays=arrays,
        draw=draw,
        lines=lines,
        rows=_rows(pictures, first, planes),
        specs=list(pictures),
        items=first,
        planes={headings[name]: plane for name, plane in planes.items()},
        captions=captions,
    )


def _check(per_picture: int, perplexity: float, seed: int) -> None:
    if per_picture < 1:
        raise ValueError(f"--per-picture takes 1 point or more, not {per_picture}")
    if not perplexity >= 1:
        raise ValueError(f"--perplexity takes 1 or more, not {perplexity:g}")
    check_seed(seed)


class _Pictures:
    """Pictures on their way through a network: each is opened once, and asked about when its map has come.

    Attributes:
        specs: their names. of, regions: what is made of them. desk: where they are opened and encoded.
        now: the picture that is asked about, and its map. read: of those that came, what a recipe notes.
        thumbnails: for "images". objects_known: in all that came.
    """

    def __init__(self, specs: Sequence[str], of: str, regions: str, desk: Desk) -> None:
        self.specs, self.of, self.regions, self.desk = specs, of, regions, desk
        self.read: dict[str, str] = {}
        self.thumbnails: list[Image.Image] = []
        self.objects_known = True
        self.now: tuple[Picture, FeatureMap]
        self._came, self._items = 0, 0

    def maps(
        self,
        network: DenseEncoder,
        name: str,
        layer: str | None,
        size: int | Sequence[int],
        finer: str | None,
        progress: Progress | None,
    ) -> Iterator[FeatureMap]:
        waiting: deque[Picture] = deque()

        def images() -> Iterator[Image.Image]:
            for spec in self.specs:
                waiting.append(self.desk.picture(spec))
                yield waiting[-1].image

        counted_images = counted(images(), len(self.specs), f"pictures, {name}", progress)
        for fmap in self.desk.maps(network, counted_images, layer, sides(size), finer):
            self.now = waiting.popleft(), fmap
            yield fmap

    def rasters(self) -> Iterator[Tensor]:
        """The regions of each picture, to be asked for when its map has come."""
        for _ in self.specs:
            yield region_raster(self.now[0], self.regions)

    def labellers(self) -> Iterator[Labeller]:
        """Who names the items of each picture, to be asked for when its map has come. Notes what is kept of it."""
        for _ in self.specs:
            picture = self.now[0]
            self.read |= picture.inputs
            self.objects_known &= picture.masks is not None
            if self.of == "images":
                self.thumbnails.append(picture.image.copy())
                self.thumbnails[-1].thumbnail((_THUMBNAIL, _THUMBNAIL))
            yield self._labels

    def _labels(self, points: np.ndarray, regions: np.ndarray) -> Sequence[str]:
        """The class of each item's object; the folder where objects are not known."""
        picture = self.now[0]
        self._check_number(len(points))
        if picture.masks is None or not self.objects_known:
            return [_folder(picture.spec)] * len(points)
        names = [*(picture.classes or []), NO_OBJECT]
        if self.of == "regions" and self.regions == "objects":
            return [names[region - 1] for region in regions]  # 0, the background, is the last
        areas = picture.masks.sum(axis=(1, 2))
        if self.of == "images":
            return [names[areas.argmax() if areas.any() else -1]]
        row, column = cell_of(torch.from_numpy(points), *picture.masks.shape[1:])
        here = np.where(picture.masks[:, row.numpy(), column.numpy()], areas[:, None], np.inf)
        everywhere = np.full((1, len(points)), picture.masks[0].size + 1.0 if len(areas) else 0)
        return [names[smallest] for smallest in np.vstack((here, everywhere)).argmin(axis=0)]

    def _check_number(self, here: int) -> None:
        """Raise a ValueError as soon as there will be too many items for certain, mostly at the first picture."""
        self._came, self._items, least = self._came + 1, self._items + here, 1
        if self.of == "points":
            least = min(here, min(self.now[1].shape) ** 2)  # the short sides of all maps are alike
        elif self.of == "regions" and self.regions.startswith("grid:"):
            least = here
        number = self._items + (len(self.specs) - self._came) * least
        if number > _MOST:
            other = {"points": ", or fewer points with --per-picture", "regions": ", or fewer --regions of each"}
            raise ValueError(
                f"{len(self.specs)} pictures have {number} {self.of} or more, and {_MOST} can be laid out: take fewer "
                f"pictures with --most{other.get(self.of, '')}"
            )


def _folder(spec: str) -> str:
    return Path(spec).parent.name


def _gather(fmaps: Iterator[FeatureMap], seen: _Pictures, per_picture: int, seed: int, labelled: bool) -> Items:
    labels = seen.labellers() if labelled else None
    if seen.of == "points":
        return gather_points(fmaps, per_picture, seed, labels=labels)
    if seen.of == "images":
        return gather_images(fmaps, labels)
    return gather_regions(fmaps, seen.rasters(), labels)


def _worth_telling(items: Items, seen: _Pictures) -> np.ndarray | None:
    """All classes, or all folders where the objects of a picture are not known; None if there is one only."""
    labels = items.labels
    if not seen.objects_known:
        labels = np.array([_folder(seen.specs[i]) for i in items.image])
    return labels if labels is not None and len(set(labels)) > 1 else None


def _check_same_items(items: Items, first: Items, name: str, other: str) -> None:
    same = np.array_equal(items.image, first.image) and np.array_equal(items.point, first.point, equal_nan=True)
    if not same:
        raise ValueError(
            f"{name} has maps of other cells than {other}, and points are drawn among the cells: compare regions or "
            "images with --of, or choose a --layer of one stride"
        )


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
