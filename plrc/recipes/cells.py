"""``plrc embed --method rgb`` and ``segments``: every cell of pictures as a colour or as a member of a segment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plrc import figures
from plrc.analysis.embedding import Basis, load_basis, pca_basis, save_basis, segments, to_rgb
from plrc.analysis.features import FeatureMap
from plrc.recipes.drawing import Drawing
from plrc.recipes.networks import inputs_of, open_networks
from plrc.recipes.pictures import Picture, open_picture, spread

_ON_A_SHEET = 24  # pictures; the arrays have all
_MOST = 400  # pictures whose maps are held at once


def draw_rgb(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    basis: str | None = None,
    keep_basis: str | None = None,
    layer: str | None = None,
    size: int = 448,
    finer: str | None = None,
    device: str = "cpu",
) -> Drawing:
    """The first three principal components of all cells of all pictures as red, green and blue.

    The number beside it: the share of the variance that the three explain.

    Args:
        pictures, checkpoints, layer, size, finer: as of ``draw_affinity``.
        basis: a file of ``keep_basis``: colours then mean the same in other pictures. One network only.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = dict(locals())
    if (basis or keep_basis) and len(checkpoints) > 1:
        raise ValueError("a basis belongs to one network: name one checkpoint with --basis or --keep-basis")
    opened = _open(pictures)
    networks = open_networks(checkpoints, device, layer)
    inputs = inputs_of(networks, checkpoints) | {p.spec: p.sha256 for p in opened}
    colours: dict[str, list[np.ndarray]] = {}
    bases: dict[str, Basis] = {}
    extents: dict[str, list[tuple[float, float]]] = {}
    for name, network in networks.items():
        fmaps = list(network.batch([p.image for p in opened], layer, size, finer))
        bases[name] = load_basis(basis) if basis else pca_basis(fmaps, k=3, origin=name)
        colours[name] = [to_rgb(fmap, bases[name]) for fmap in fmaps]
        extents[name] = _extents(fmaps)
        if keep_basis:
            save_basis(bases[name], keep_basis)
    chosen = spread(len(opened), _ON_A_SHEET)
    figure = figures.pca_rgb(
        [opened[i].pixels for i in chosen],
        {name: [maps[i] / 255 for i in chosen] for name, maps in colours.items()},
        captions={name: f"{b.explained.sum():.0%} of the variance" for name, b in bases.items()},
        extents={name: [reach[i] for i in chosen] for name, reach in extents.items()},
    )
    arrays = {f"{name} {i}": m for name, maps in colours.items() for i, m in enumerate(maps)}
    for name, b in bases.items():
        arrays |= {f"{name} mean": b.mean, f"{name} components": b.components}
    lines = [f"{name}: three components explain {b.explained.sum():.1%} of the variance" for name, b in bases.items()]
    return Drawing("rgb", parameters, inputs, arrays, figure, lines)


def draw_segments(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    segments_wanted: int = 8,
    layer: str | None = None,
    size: int = 448,
    finer: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Drawing:
    """Segments that all pictures share, by spherical k-means of their cells; one colour a segment.

    The number beside it: the *cohesion*, the mean cosine of a cell with its segment's centroid.

    Args:
        pictures, checkpoints, layer, size, finer: as of ``draw_affinity``. seed: of k-means.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = dict(locals())
    opened = _open(pictures)
    networks = open_networks(checkpoints, device, layer)
    inputs = inputs_of(networks, checkpoints) | {p.spec: p.sha256 for p in opened}
    labels: dict[str, list[np.ndarray]] = {}
    extents: dict[str, list[tuple[float, float]]] = {}
    captions, lines, arrays = {}, [], {}
    for name, network in networks.items():
        fmaps = list(network.batch([p.image for p in opened], layer, size, finer))
        found = segments(fmaps, segments_wanted, seed)
        labels[name], extents[name] = found.labels, _extents(fmaps)
        captions[name] = f"cohesion {found.cohesion:.2f}"
        lines.append(
            f"{name}: {segments_wanted} segments; mean cosine of a cell with its centroid {found.cohesion:.3f}"
        )
        arrays[f"{name} centroids"] = found.centroids
        arrays |= {f"{name} {i}": m for i, m in enumerate(found.labels)}
    chosen = spread(len(opened), _ON_A_SHEET)
    figure = figures.segments(
        [opened[i].pixels for i in chosen],
        {name: [maps[i] for i in chosen] for name, maps in labels.items()},
        captions=captions,
        extents={name: [reach[i] for i in chosen] for name, reach in extents.items()},
    )
    return Drawing("segments", parameters, inputs, arrays, figure, lines)


def _open(pictures: Sequence[str]) -> list[Picture]:
    if len(pictures) > _MOST:
        raise ValueError(f"{len(pictures)} pictures are too many to hold at once: take {_MOST} of them with --most")
    return [open_picture(spec) for spec in pictures]


def _extents(fmaps: Sequence[FeatureMap]) -> list[tuple[float, float]]:
    return [(float(fmap.extent[0]), float(fmap.extent[1])) for fmap in fmaps]
