"""``plrc embed``: points, regions or whole images in the plane."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from plrc.analysis.embedding import (
    Labeller,
    Samples,
    assign,
    gather,
    kmeans,
    label_purity,
    neighbours_kept,
    pca_basis,
    project,
    tsne,
)
from plrc.analysis.features import DenseEncoder, FeatureMap
from plrc.analysis.scores import result
from plrc.analysis.scores.table import aligned
from plrc.geometry import cell_of
from plrc.queries import Embedding
from plrc.views import Drawing, Progress, note_of
from plrc.views.images import NamedImage, mask_files, region_raster
from plrc.views.session import Session, heading, inputs_of, made_of

NO_OBJECT = "background"
_NEIGHBOURS = 10
_THUMBNAIL = 96  # pixels of the longer side
_MOST = 20_000  # samples: above, t-SNE takes more than an hour, and dots cover one another


@dataclass(eq=False, kw_only=True)
class EmbeddingDrawing(Drawing):
    """Attributes:
    samples: what is laid out, without its features. planes: heading → ``(n, 2)``.
    captions: heading → the numbers under it. clusters: heading → ``(n,)`` int64, if they were wanted.
    """

    samples: Samples
    planes: dict[str, np.ndarray]
    captions: dict[str, str]
    clusters: dict[str, np.ndarray]


def embedding(query: Embedding, session: Session, progress: Progress) -> EmbeddingDrawing:
    """Points, regions or whole images in the plane, by t-SNE or PCA; the same samples by each network.

    They are coloured by the class of their object where objects are known: that at their middle, the smallest one if
    several are there; with regions "objects" the region itself; of a whole image its largest. Else they are coloured
    by their image's folder if there are several, and not at all if each sample has a label of its own. Numbers:
    *neighbours kept* by the plane; and, of the features, if a label is in several images, *purity*: the share of a
    sample's ten nearest in other images that have its label, beside chance.
    """
    networks = session.networks(query)
    masks = mask_files(query.images, query.regions) if query.of == "regions" else {}
    seen = _Seen(query, session, progress)
    first: Samples | None = None
    made: dict[str, FeatureMap] = {}
    planes: dict[str, np.ndarray] = {}
    clusters: dict[str, np.ndarray] = {}
    captions: dict[str, str] = {}
    shares: dict[str, list[float]] = {}
    numbers: list[list[str]] = []
    method = "PCA"
    for name, network in networks.items():
        samples = seen.samples(name, network, labelled=first is None)
        if first is None:
            first = replace(samples, features=samples.features[:, :0].copy(), labels=seen.worth_telling(samples))
        _check_same(samples, first, name, next(iter(networks)))
        samples = replace(samples, labels=first.labels)
        made[name] = replace(seen.now[1], features=torch.empty(0))
        head = heading(name, made[name], query.layer)
        how = "PCA"
        if query.method == "pca":
            basis = pca_basis(samples.features, k=2)
            planes[name] = project(samples.features, basis)
            shares[head] = basis.explained.tolist()
        else:

            def told(done: int, total: int, what: str = f"t-SNE steps, {name}") -> None:
                progress(what, done, total)

            planes[name], how = tsne(samples.features, query.seed, query.perplexity, told)
            method = f"{how}, seed {query.seed}"
            if query.perplexity > (len(samples) - 1) / 3:
                how += f" ({query.perplexity:g} is more than a third of the others)"
        captions[head], quality = _quality(samples, planes[name])
        numbers.append([name, f"{len(samples)} {samples.kind}", how, *quality])
        if query.clusters:
            centroids, cohesion = kmeans(samples.features, query.clusters, query.seed)
            clusters[name] = assign(samples.features, centroids)
            numbers[-1].append(f"cohesion of {query.clusters} clusters {cohesion:.3f}")
        del samples  # their features: the next network's are to come
    assert first is not None
    labels = first.labels if first.labels is not None and len(set(first.labels)) < len(first) else None
    heads = {name: heading(name, fmap, query.layer) for name, fmap in made.items()}
    n, of = len(query.images), f"regions ({query.regions})" if query.of == "regions" else query.of
    where = f" of {n} image{'s' * (n > 1)}" * (query.of != "images")
    note = note_of(method, f"{len(first)} {of}{where}", made_of(made, query, n))

    def draw() -> Any:
        from plrc import figures

        return figures.embedding(
            {heads[name]: plane for name, plane in planes.items()},
            labels,
            thumbnails=seen.thumbnails or None,
            explained=shares or None,
            captions=captions,
            note=note,
        )

    arrays = {f"{name} coordinates": plane for name, plane in planes.items()}
    arrays |= {f"{name} cluster": of_samples for name, of_samples in clusters.items()}
    return EmbeddingDrawing(
        query=query,
        inputs=inputs_of(networks, query) | masks | seen.inputs,
        arrays=arrays | {"image": first.image, "point": first.point, "region": first.region},
        draw=draw,
        lines=aligned(numbers),
        rows=_rows(query.images, first, planes),
        samples=first,
        planes={heads[name]: plane for name, plane in planes.items()},
        captions=captions,
        clusters={heads[name]: of_samples for name, of_samples in clusters.items()},
    )


class _Seen:
    """Images on their way through a network: each is opened once, and asked about when its map has come.

    Attributes:
        now: the image that is asked about, and its map. inputs: of those that came, what a recipe notes.
        thumbnails: for "images". objects_known: in all that came.
    """

    def __init__(self, query: Embedding, session: Session, progress: Progress) -> None:
        self.query, self.session, self.progress = query, session, progress
        self.inputs: dict[str, str] = {}
        self.thumbnails: list[Image.Image] = []
        self.objects_known = True
        self.now: tuple[NamedImage, FeatureMap]
        self._came = self._samples = 0

    def samples(self, name: str, network: DenseEncoder, labelled: bool) -> Samples:
        """What is laid out, as a network has it."""
        query, fmaps = self.query, self._maps(name, network)
        labels = self._labellers() if labelled else None
        rasters = (region_raster(self.now[0], query.regions) for _ in query.images)
        return gather(fmaps, query.of, rasters if query.of == "regions" else None, labels, query.per_image, query.seed)

    def worth_telling(self, samples: Samples) -> np.ndarray | None:
        """All classes, or all folders where the objects of an image are not known; None if there is one only."""
        labels = samples.labels
        if not self.objects_known:
            labels = np.array([folder_of(self.query.images[i]) for i in samples.image])
        return labels if labels is not None and len(set(labels)) > 1 else None

    def _maps(self, name: str, network: DenseEncoder) -> Iterator[FeatureMap]:
        waiting: deque[NamedImage] = deque()

        def images() -> Iterator[Image.Image]:
            for spec in self.query.images:
                waiting.append(self.session.image(spec))
                yield waiting[-1].image

        for done, fmap in enumerate(self.session.maps(network, images(), self.query), start=1):
            self.now = waiting.popleft(), fmap
            yield fmap
            self.progress(f"images, {name}", done, len(self.query.images))

    def _labellers(self) -> Iterator[Labeller]:
        """Who names the samples of each image, to be asked for when its map has come. Notes what is kept of it."""
        for _ in self.query.images:
            image = self.now[0]
            self.inputs |= image.inputs
            self.objects_known &= image.masks is not None
            if self.query.of == "images":
                self.thumbnails.append(image.image.copy())
                self.thumbnails[-1].thumbnail((_THUMBNAIL, _THUMBNAIL))
            yield self._labels

    def _labels(self, points: np.ndarray, regions: np.ndarray) -> Sequence[str]:
        """The class of each sample's object; the folder where objects are not known."""
        image = self.now[0]
        self._check_number(len(points))
        if image.masks is None or not self.objects_known:
            return [folder_of(image.spec)] * len(points)
        names = [*(image.classes or []), NO_OBJECT]
        if self.query.of == "regions" and self.query.regions == "objects":
            return [names[region - 1] for region in regions]  # 0, the background, is the last
        areas = image.masks.sum(axis=(1, 2))
        if self.query.of == "images":
            return [names[areas.argmax() if areas.any() else -1]]
        row, column = cell_of(torch.from_numpy(points), *image.masks.shape[1:])
        here = np.where(image.masks[:, row.numpy(), column.numpy()], areas[:, None], np.inf)
        everywhere = np.full((1, len(points)), image.masks[0].size + 1.0 if len(areas) else 0)
        return [names[smallest] for smallest in np.vstack((here, everywhere)).argmin(axis=0)]

    def _check_number(self, here: int) -> None:
        """Raise a ValueError as soon as there will be too many samples for certain, mostly at the first image."""
        of, n, least = self.query.of, len(self.query.images), 1
        self._came, self._samples = self._came + 1, self._samples + here
        if of == "points":
            least = min(here, min(self.now[1].shape) ** 2)  # the short sides of all maps are alike
        elif of == "regions" and self.query.regions.startswith("grid:"):
            least = here
        number = self._samples + (n - self._came) * least
        if number > _MOST:
            other = {"points": ", or fewer points with --per-image", "regions": ", or fewer --regions of each"}
            raise ValueError(
                f"{n} images have {number} {of} or more, and {_MOST} can be laid out: take fewer images with --most"
                f"{other.get(of, '')}"
            )


def folder_of(spec: str) -> str:
    return Path(spec).parent.name


def _check_same(samples: Samples, first: Samples, name: str, other: str) -> None:
    same = np.array_equal(samples.image, first.image) and np.array_equal(samples.point, first.point, equal_nan=True)
    if not same:
        raise ValueError(
            f"{name} has maps of other cells than {other}, and points are drawn among the cells: compare regions or "
            "images with --of, or choose a --layer of one stride"
        )


def _quality(samples: Samples, plane: np.ndarray) -> tuple[str, list[str]]:
    """A caption of the plane, and the numbers."""
    k = min(_NEIGHBOURS, len(samples) - 1)
    kept = neighbours_kept(samples.features, plane, k)
    caption = f"neighbours kept {kept:.2f}"
    numbers = [result("neighbours kept", kept, f"{k} nearest", k / (len(samples) - 1))]
    if samples.labels is None or len(set(zip(samples.labels, samples.image, strict=True))) == len(set(samples.labels)):
        return caption, numbers  # no label is in two images
    purity, chance = label_purity(samples.features, samples.labels, samples.image, k)
    caption += f", purity {purity:.2f}, chance {chance:.2f}"
    return caption, [*numbers, result("purity", purity, f"{k} nearest in other images", chance)]


def _rows(images: Sequence[str], samples: Samples, planes: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """A line a sample: where it is, and where it lies in each plane."""
    rows = []
    for i, (x, y) in enumerate(samples.point.tolist()):
        row: dict[str, Any] = {"image": images[samples.image[i]]}
        row |= {"x": "", "y": ""} if np.isnan(x) else {"x": round(x, 5), "y": round(y, 5)}
        row["region"] = "" if samples.region[i] < 0 else int(samples.region[i])
        row["label"] = "" if samples.labels is None else str(samples.labels[i])
        for name, plane in planes.items():
            row |= {f"{name} e1": float(plane[i, 0]), f"{name} e2": float(plane[i, 1])}
        rows.append(row)
    return rows
