"""``plrc embed``: points, regions or whole pictures in the plane."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from plrc import figures
from plrc.analysis.embedding import (
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
from plrc.analysis.features import FeatureMap
from plrc.views.drawing import NO_PARAMETERS, Drawing, Progress, check_seed, note_of
from plrc.views.labels import Pictures, folder_of
from plrc.views.networks import Made, heading, inputs_of, made_of
from plrc.views.pictures import mask_files
from plrc.views.session import Session

_NEIGHBOURS = 10


@dataclass(eq=False, kw_only=True)
class EmbeddingDrawing(Drawing):
    """Attributes:
    specs: the pictures. items: what is laid out, without its features. planes: heading → ``(n, 2)``.
    captions: heading → the numbers under it. clusters: heading → ``(n,)`` int64, if they were wanted.
    """

    specs: list[str]
    items: Samples
    planes: dict[str, np.ndarray]
    captions: dict[str, str]
    clusters: dict[str, np.ndarray]


def draw_embedding(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    of: str = "regions",
    method: str = "tsne",
    regions: str = "grid:4",
    per_picture: int = 16,
    perplexity: float = 30.0,
    clusters: int = 0,
    layer: str | None = None,
    branch: str | None = None,
    size: int | Sequence[int] = 448,
    finer: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    session: Session | None = None,
) -> EmbeddingDrawing:
    """Points, regions or whole pictures in the plane, by t-SNE or PCA; the same items by each network.

    They are coloured by the class of their object where objects are known: that at their middle, the smallest one if
    several are there; with regions "objects" the region itself; of a whole picture its largest. Else they are coloured
    by their picture's folder if there are several, and not at all if each item has a label of its own. Numbers:
    *neighbours kept*, of the picture; and, of the features, if a label is in several pictures, *purity*: the share of
    an item's ten nearest in other pictures that have its label, beside what blind guessing gets.

    Args:
        pictures: as ``plrc.views.pictures.open_picture`` takes them. checkpoints: as ``plrc.load_encoder`` does.
        of: "points", "regions" or "images". method: "tsne" or "pca".
        regions: of "regions" only: "grid:4", "superpixels:16", "masks:DIR", or "objects", the pictures' own.
        per_picture: of "points" only: those drawn in each picture.
        perplexity: t-SNE's; more than a third of the other items is taken as that.
        clusters: by k-means of the features, as many for each network; 0 for none.
        layer, size, finer: as of ``DenseEncoder.features``. branch: as of ``plrc.load_encoder``. seed: of the points,
            of t-SNE and of k-means.
        progress: is told the pictures and t-SNE's steps that are done. session: what was loaded and encoded before.
            Neither is part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name not in NO_PARAMETERS}
    _check(per_picture, perplexity, clusters, seed)
    session = session or Session()
    networks = session.networks(checkpoints, device, layer, branch)
    masks = mask_files(pictures, regions) if of == "regions" else {}
    seen = Pictures(pictures, of, regions, session)
    first: Samples | None = None
    planes: dict[str, np.ndarray] = {}
    headings: dict[str, str] = {}
    captions: dict[str, str] = {}
    shares: dict[str, list[float]] = {}
    lines = []
    made: dict[str, Made] = {}
    clustered: dict[str, np.ndarray] = {}
    method_said = "PCA"
    for name, network in networks.items():
        fmaps = seen.maps(network, name, layer, size, finer, progress)
        items = _gather(fmaps, seen, per_picture, seed, labelled=first is None)
        if first is None:
            first = replace(items, features=items.features[:, :0].copy(), labels=_worth_telling(items, seen))
        _check_same_items(items, first, name, next(iter(networks)))
        items = replace(items, labels=first.labels)
        made[name] = Made.of(seen.now[1])
        headings[name] = heading(name, seen.now[1], layer)
        if method == "pca":
            basis = pca_basis(items.features, k=2)
            planes[name], how = project(items.features, basis), "PCA"
            shares[headings[name]] = basis.explained.tolist()
        else:
            told = partial(progress, f"t-SNE steps, {name}") if progress else None
            planes[name], how = tsne(items.features, seed, perplexity, told)
            method_said = f"{how}, seed {seed}"
            if perplexity > (len(items) - 1) / 3:
                how += f" ({perplexity:g} is more than a third of the others)"
        captions[headings[name]], line = _numbers(items, planes[name])
        lines.append(f"{name}: {how} of {len(items)} {items.kind}; {line}")
        if clusters:
            centroids, cohesion = kmeans(items.features, clusters, seed)
            clustered[name] = assign(items.features, centroids)
            lines[-1] += f"; {clusters} clusters, mean cosine of an item with its centroid {cohesion:.3f}"
        del items  # their features: the next network's are to come
    assert first is not None
    draw = partial(
        figures.embedding,
        {headings[name]: plane for name, plane in planes.items()},
        first.labels if _worth_a_key(first) else None,
        thumbnails=seen.thumbnails or None,
        explained=shares or None,
        captions=captions,
        note=note_of(
            method_said,
            f"{len(first)} {f'regions ({regions})' if of == 'regions' else of}"
            + f" of {len(pictures)} picture{'s' * (len(pictures) > 1)}" * (of != "images"),
            made_of(made, size, len(pictures)),
        ),
    )
    arrays = {f"{name} coordinates": plane for name, plane in planes.items()}
    arrays |= {f"{name} cluster": of_items for name, of_items in clustered.items()}
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
        clusters={headings[name]: of_items for name, of_items in clustered.items()},
    )


def _check(per_picture: int, perplexity: float, clusters: int, seed: int) -> None:
    if per_picture < 1:
        raise ValueError(f"--per-picture takes 1 point or more, not {per_picture}")
    if not perplexity >= 1:
        raise ValueError(f"--perplexity takes 1 or more, not {perplexity:g}")
    if clusters < 0:
        raise ValueError(f"--clusters takes 1 cluster or more, or 0 for none, not {clusters}")
    check_seed(seed)


def _gather(fmaps: Iterator[FeatureMap], seen: Pictures, per_picture: int, seed: int, labelled: bool) -> Samples:
    labels = seen.labellers() if labelled else None
    rasters = seen.rasters() if seen.of == "regions" else None
    return gather(fmaps, seen.of, rasters, labels, per_picture, seed)


def _worth_telling(items: Samples, seen: Pictures) -> np.ndarray | None:
    """All classes, or all folders where the objects of a picture are not known; None if there is one only."""
    labels = items.labels
    if not seen.objects_known:
        labels = np.array([folder_of(seen.specs[i]) for i in items.image])
    return labels if labels is not None and len(set(labels)) > 1 else None


def _worth_a_key(items: Samples) -> bool:
    """Whether labels tell anything of items: not where each has its own."""
    return items.labels is not None and len(set(items.labels)) < len(items)


def _check_same_items(items: Samples, first: Samples, name: str, other: str) -> None:
    same = np.array_equal(items.image, first.image) and np.array_equal(items.point, first.point, equal_nan=True)
    if not same:
        raise ValueError(
            f"{name} has maps of other cells than {other}, and points are drawn among the cells: compare regions or "
            "images with --of, or choose a --layer of one stride"
        )


def _numbers(items: Samples, plane: np.ndarray) -> tuple[str, str]:
    """A caption of the picture, and the same as a sentence."""
    k = min(_NEIGHBOURS, len(items) - 1)
    kept = neighbours_kept(items.features, plane, k)
    caption = f"neighbours kept {kept:.2f}"
    line = f"the picture keeps {kept:.3f} of the {k} nearest neighbours by cosine (chance {k / (len(items) - 1):.3f})"
    if items.labels is None or len(set(zip(items.labels, items.image, strict=True))) == len(set(items.labels)):
        return caption, line  # no label is in two pictures
    purity, chance = label_purity(items.features, items.labels, items.image, k)
    caption += f", purity {purity:.2f}, chance {chance:.2f}"
    line += f"; of the {k} nearest in other pictures {purity:.3f} have the same label (chance {chance:.3f})"
    return caption, line


def _rows(pictures: Sequence[str], items: Samples, planes: dict[str, np.ndarray]) -> list[dict[str, Any]]:
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
