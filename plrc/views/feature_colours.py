"""``plrc colours`` and ``plrc segments``: every cell of images as a colour, or as a member of a segment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from plrc.analysis.embedding import Basis, assign, kmeans, load_basis, pca_basis, save_basis, to_rgb
from plrc.analysis.features import DenseEncoder, FeatureMap
from plrc.analysis.scores import result
from plrc.analysis.scores.table import aligned
from plrc.files import written_whole
from plrc.queries import Colours, ImageQuery, Segments
from plrc.views import Drawing, Progress, few, note_of
from plrc.views.images import spread
from plrc.views.session import Session, heading, inputs_of, made_of

_ON_A_SHEET = 24  # images; the arrays have all
_ROOM = 4 * 10**9  # bytes of the feature maps that are held at once, those of all images by one network


def colours(query: Colours, session: Session, progress: Progress) -> Drawing:
    """The first three principal components of all cells of all images as red, green and blue.

    The number beside it: the share of the variance that the three explain, in the images they were made from. The table
    has the mean colour of each image. With a ``basis`` colours mean the same as in the images of ``keep_basis``.
    """
    if (query.basis or query.keep_basis) and len(query.checkpoints) > 1:
        raise ValueError("a basis belongs to one network: name one checkpoint with --basis or --keep-basis")
    stored = load_basis(query.basis) if query.basis else None
    sheet = _Sheet(query, session, progress)
    known_as = {
        name: f"{sheet.inputs[checkpoint]} {network.origin.branch}".strip()
        for checkpoint, (name, network) in zip(query.checkpoints, sheet.networks.items(), strict=True)
    }
    if stored:
        _check_network(stored, *next(iter(known_as.items())))
    found: dict[str, list[np.ndarray]] = {}
    bases: dict[str, Basis] = {}
    rows = []
    for name, fmaps in sheet.encoded():
        bases[name] = stored or pca_basis(fmaps, k=3, origin=name, network=known_as[name])
        found[name] = [to_rgb(fmap, bases[name]) for fmap in fmaps]
        for spec, values in zip(query.images, found[name], strict=True):
            means = (values.mean(axis=(0, 1)) / 255).round(4).tolist()
            rows.append({"image": spec, "network": name, **dict(zip(("red", "green", "blue"), means, strict=True))})
        if query.keep_basis:
            with written_whole(Path(query.keep_basis)) as file:
                save_basis(bases[name], file)
    inputs = sheet.inputs
    if query.basis:
        inputs[query.basis] = hashlib.sha256(Path(query.basis).read_bytes()).hexdigest()
    arrays = {f"{name} {i}": values for name, maps in found.items() for i, values in enumerate(maps)}
    for name, b in bases.items():
        arrays |= {f"{name} mean": b.mean, f"{name} components": b.components}
    shares = {name: b.explained.sum() for name, b in bases.items()}
    of = f" of the images of {query.basis}" if query.basis else ""
    how = f"three principal components, {f'those of {Path(query.basis).name}' if query.basis else 'of all cells'}"
    captions = {} if query.basis else {name: f"{share:.0%} of the variance" for name, share in shares.items()}
    return Drawing(
        query=replace(query, keep_basis=None),
        inputs=inputs,
        arrays=arrays,
        draw=partial(sheet.draw, {n: [m / 255 for m in maps] for n, maps in found.items()}, captions, how),
        lines=aligned(
            [[n, result("variance explained", s, f"3 components{of}", style=".1%")] for n, s in shares.items()]
        ),
        rows=rows,
        part=sheet.part,
    )


def segments(query: Segments, session: Session, progress: Progress) -> Drawing:
    """Segments that all images share, by k-means of their cells; one colour a segment.

    The number beside it: the *cohesion*, the mean cosine of a cell with its segment's centroid. The table has the share
    of each segment in each image's cells.
    """
    sheet = _Sheet(query, session, progress)
    labels: dict[str, list[np.ndarray]] = {}
    cohesion: dict[str, float] = {}
    arrays: dict[str, np.ndarray] = {}
    rows = []
    for name, fmaps in sheet.encoded():
        arrays[f"{name} centroids"], cohesion[name] = kmeans(fmaps, query.clusters, query.seed)
        labels[name] = [assign(fmap, arrays[f"{name} centroids"]) for fmap in fmaps]
        arrays |= {f"{name} {i}": m for i, m in enumerate(labels[name])}
        for spec, cells in zip(query.images, labels[name], strict=True):
            shares = np.bincount(cells.ravel(), minlength=query.clusters) / cells.size
            row: dict[str, Any] = {"image": spec, "network": name}
            rows.append(row | {f"segment {k}": round(float(share), 4) for k, share in enumerate(shares)})
    how = f"k-means of all cells, {query.clusters} segments, seed {query.seed}"
    captions = {name: f"cohesion {value:.2f}" for name, value in cohesion.items()}
    return Drawing(
        query=query,
        inputs=sheet.inputs,
        arrays=arrays,
        draw=partial(sheet.draw, labels, captions, how),
        lines=aligned([[n, result("cohesion", c, f"{query.clusters} segments")] for n, c in cohesion.items()]),
        rows=rows,
        part=sheet.part,
    )


class _Sheet:
    """Images, opened one by one and encoded by each network, and what is kept of them for the figure.

    Attributes:
        networks: name → network. inputs: what was read, as a recipe notes it. part: as of ``Drawing``.
    """

    def __init__(self, query: ImageQuery, session: Session, progress: Progress) -> None:
        self.query, self.session, self.progress = query, session, progress
        self.networks = session.networks(query)
        self.inputs = inputs_of(self.networks, query)
        self._chosen = spread(len(query.images), _ON_A_SHEET)
        self._shown: dict[int, tuple[np.ndarray, str]] = {}
        self._made: dict[str, FeatureMap] = {}
        self._extents: dict[str, list[tuple[float, float]]] = {}

    @property
    def part(self) -> str:
        n = len(self.query.images)
        return f"{len(self._chosen)} of {n} images" if len(self._chosen) < n else ""

    def encoded(self) -> Iterator[tuple[str, list[FeatureMap]]]:
        """Each network's name and its maps of all images, which are let go before the next one's come."""
        for name, network in self.networks.items():
            fmaps = self._maps(name, network)
            self._made[name] = replace(fmaps[0], features=torch.empty(0))
            self._extents[name] = [(float(fmap.extent[0]), float(fmap.extent[1])) for fmap in fmaps]
            yield name, fmaps
            fmaps.clear()

    def draw(self, maps: Mapping[str, Sequence[np.ndarray]], captions: Mapping[str, str], how: str) -> Any:
        from plrc import figures

        heads = {name: heading(name, fmap, self.query.layer) for name, fmap in self._made.items()}
        note = note_of(
            few(n for _, n in self._shown.values()), how, made_of(self._made, self.query, len(self.query.images))
        )
        return figures.feature_colours(
            [pixels for pixels, _ in self._shown.values()],
            {heads[name]: [values[i] for i in self._chosen] for name, values in maps.items()},
            captions={heads[name]: caption for name, caption in captions.items()},
            extents={heads[name]: [reach[i] for i in self._chosen] for name, reach in self._extents.items()},
            note=note,
        )

    def _images(self) -> Iterator[Image.Image]:
        for i, image in enumerate(map(self.session.image, self.query.images)):
            if image.spec not in self.inputs:  # not again for the next network
                self.inputs |= image.inputs
            if i in self._chosen and i not in self._shown:
                self._shown[i] = image.pixels, image.name
            yield image.image

    def _maps(self, name: str, network: DenseEncoder) -> list[FeatureMap]:
        """Raises a ValueError if there is no room for the maps, as soon as it is certain, mostly at the first."""
        n, held, fmaps = len(self.query.images), 0, []
        for i, fmap in enumerate(self.session.maps(network, self._images(), self.query), start=1):
            held += fmap.features.nbytes
            least = fmap.features[:, 0, 0].nbytes * min(fmap.shape) ** 2  # of any map: the short sides are all alike
            if (needed := held + (n - i) * least) > _ROOM:
                raise ValueError(
                    f"the feature maps of {n} images take {needed / 1e9:.1f} GB or more, and {_ROOM / 1e9:.1f} GB are "
                    f"held at most: take about {max(1, _ROOM * i // held)} images with --most, or a smaller --size"
                )
            fmaps.append(fmap)
            self.progress(f"images, {name}", i, n)
        return fmaps


def _check_network(basis: Basis, name: str, network: str) -> None:
    if basis.network and basis.network != network:
        theirs, ours = (f"{n} ({i[:12]})" if n != i else n for n, i in ((basis.origin, basis.network), (name, network)))
        raise ValueError(
            f"{basis.file} is a basis of {theirs}, not of {ours}: take that checkpoint, or make a basis of this one "
            "with --keep-basis"
        )
