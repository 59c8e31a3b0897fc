"""``plrc embed --method rgb`` and ``segments``: every cell of pictures as a colour or as a member of a segment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plrc import figures
from plrc.analysis.embedding import Basis, load_basis, pca_basis, save_basis, segments, to_rgb
from plrc.analysis.features import DenseEncoder, FeatureMap
from plrc.recipes.drawing import Drawing, Progress, counted, written_whole
from plrc.recipes.networks import inputs_of, open_networks
from plrc.recipes.pictures import open_picture, spread

_ON_A_SHEET = 24  # pictures; the arrays have all
_MOST = 400  # pictures whose feature maps are held at once


def draw_rgb(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    basis: str | None = None,
    keep_basis: str | None = None,
    layer: str | None = None,
    size: int = 448,
    finer: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Drawing:
    """The first three principal components of all cells of all pictures as red, green and blue.

    The number beside it: the share of the variance that the three explain, in the pictures they were made from. The
    table has the mean colour of each picture.

    Args:
        pictures, checkpoints, layer, size, finer: as of ``draw_affinity``.
        basis: a file of ``keep_basis``: colours then mean the same in other pictures. One network only.
        keep_basis, progress: where to keep the basis, and who is told the pictures done; no part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name not in ("keep_basis", "progress")}
    if (basis or keep_basis) and len(checkpoints) > 1:
        raise ValueError("a basis belongs to one network: name one checkpoint with --basis or --keep-basis")
    networks = open_networks(checkpoints, device, layer)
    chosen, shown, read = _look_at(pictures)
    inputs = inputs_of(networks, checkpoints) | read
    colours: dict[str, list[np.ndarray]] = {}
    bases: dict[str, Basis] = {}
    extents: dict[str, list[tuple[float, float]]] = {}
    rows = []
    if basis:
        stored = load_basis(basis)
        inputs[basis] = hashlib.sha256(Path(basis).read_bytes()).hexdigest()
    for name, network in networks.items():
        fmaps = _encode(name, network, pictures, layer, size, finer, progress)
        bases[name] = stored if basis else pca_basis(fmaps, k=3, origin=name)
        colours[name] = [to_rgb(fmap, bases[name]) for fmap in fmaps]
        extents[name] = _extents(fmaps)
        for spec, values in zip(pictures, colours[name], strict=True):
            means = (values.mean(axis=(0, 1)) / 255).round(4).tolist()
            rows.append({"picture": spec, "network": name, **dict(zip(("red", "green", "blue"), means, strict=True))})
        if keep_basis:
            with written_whole(Path(keep_basis).parent) as folder:
                save_basis(bases[name], folder / Path(keep_basis).name)
    figure = figures.pca_rgb(
        shown,
        {name: [maps[i] / 255 for i in chosen] for name, maps in colours.items()},
        captions={name: f"{b.explained.sum():.0%} of the variance" for name, b in bases.items() if not basis},
        extents={name: [reach[i] for i in chosen] for name, reach in extents.items()},
    )
    arrays = {f"{name} {i}": m for name, maps in colours.items() for i, m in enumerate(maps)}
    for name, b in bases.items():
        arrays |= {f"{name} mean": b.mean, f"{name} components": b.components}
    of = f" of the pictures that {basis} was made from" if basis else ""
    shares = {name: b.explained.sum() for name, b in bases.items()}
    lines = [f"{name}: three components explain {share:.1%} of the variance{of}" for name, share in shares.items()]
    return Drawing("rgb", parameters, inputs, arrays, figure, lines, rows)


def draw_segments(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    segments_wanted: int = 8,
    layer: str | None = None,
    size: int = 448,
    finer: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Drawing:
    """Segments that all pictures share, by spherical k-means of their cells; one colour a segment.

    The number beside it: the *cohesion*, the mean cosine of a cell with its segment's centroid. The table has the share
    of each segment in each picture's cells.

    Args:
        pictures, checkpoints, layer, size, finer: as of ``draw_affinity``. seed: of k-means. progress: is told the
            pictures done; no part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name != "progress"}
    networks = open_networks(checkpoints, device, layer)
    chosen, shown, read = _look_at(pictures)
    inputs = inputs_of(networks, checkpoints) | read
    labels: dict[str, list[np.ndarray]] = {}
    extents: dict[str, list[tuple[float, float]]] = {}
    captions, lines, arrays, rows = {}, [], {}, []
    for name, network in networks.items():
        fmaps = _encode(name, network, pictures, layer, size, finer, progress)
        found = segments(fmaps, segments_wanted, seed)
        labels[name], extents[name] = found.labels, _extents(fmaps)
        captions[name] = f"cohesion {found.cohesion:.2f}"
        lines.append(
            f"{name}: {segments_wanted} segments; mean cosine of a cell with its centroid {found.cohesion:.3f}"
        )
        arrays[f"{name} centroids"] = found.centroids
        arrays |= {f"{name} {i}": m for i, m in enumerate(found.labels)}
        for spec, cells in zip(pictures, found.labels, strict=True):
            shares = np.bincount(cells.ravel(), minlength=segments_wanted) / cells.size
            row: dict[str, Any] = {"picture": spec, "network": name}
            rows.append(row | {f"segment {k}": round(float(share), 4) for k, share in enumerate(shares)})
    figure = figures.segments(
        shown,
        {name: [maps[i] for i in chosen] for name, maps in labels.items()},
        captions=captions,
        extents={name: [reach[i] for i in chosen] for name, reach in extents.items()},
    )
    return Drawing("segments", parameters, inputs, arrays, figure, lines, rows)


def _look_at(pictures: Sequence[str]) -> tuple[list[int], list[np.ndarray], dict[str, str]]:
    """Which pictures come on the sheet, their pixels, and what was read: name → SHA-256."""
    if len(pictures) > _MOST:
        raise ValueError(f"{len(pictures)} pictures are too many to hold at once: take {_MOST} of them with --most")
    chosen, shown, read = spread(len(pictures), _ON_A_SHEET), [], {}
    for i, picture in enumerate(map(open_picture, pictures)):
        read[picture.spec] = picture.sha256
        if i in chosen:
            shown.append(picture.pixels)
    return chosen, shown, read


def _encode(
    name: str,
    network: DenseEncoder,
    pictures: Sequence[str],
    layer: str | None,
    size: int,
    finer: str | None,
    progress: Progress | None,
) -> list[FeatureMap]:
    images = (open_picture(spec).image for spec in pictures)
    return list(network.batch(counted(images, len(pictures), f"pictures, {name}", progress), layer, size, finer))


def _extents(fmaps: Sequence[FeatureMap]) -> list[tuple[float, float]]:
    return [(float(fmap.extent[0]), float(fmap.extent[1])) for fmap in fmaps]
