"""``plrc embed --method rgb`` and ``segments``: every cell of pictures as a colour or as a member of a segment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plrc import figures
from plrc.analysis.embedding import Basis, assign, kmeans, load_basis, pca_basis, save_basis, to_rgb
from plrc.analysis.features import DenseEncoder, FeatureMap
from plrc.views.drawing import NO_PARAMETERS, Drawing, Progress, check_seed, counted, few, note_of, written_whole
from plrc.views.networks import Made, heading, inputs_of, made_of, sides
from plrc.views.pictures import spread
from plrc.views.session import Session

_ON_A_SHEET = 24  # pictures; the arrays have all
_ROOM = 4 * 10**9  # bytes of the feature maps that are held at once, those of all pictures by one network


def draw_rgb(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    basis: str | None = None,
    keep_basis: str | None = None,
    layer: str | None = None,
    branch: str | None = None,
    size: int | Sequence[int] = 448,
    finer: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    session: Session | None = None,
) -> Drawing:
    """The first three principal components of all cells of all pictures as red, green and blue.

    The number beside it: the share of the variance that the three explain, in the pictures they were made from. The
    table has the mean colour of each picture.

    Args:
        pictures, checkpoints, layer, branch, size, finer: as of ``draw_affinity``.
        basis: a file of ``keep_basis``: colours then mean the same in other pictures. One network only.
        keep_basis, progress, session: where to keep the basis, who is told the pictures done, and what was loaded
            and encoded before; no part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name not in ("keep_basis", *NO_PARAMETERS)}
    if (basis or keep_basis) and len(checkpoints) > 1:
        raise ValueError("a basis belongs to one network: name one checkpoint with --basis or --keep-basis")
    stored = load_basis(basis) if basis else None
    session = session or Session()
    networks = session.networks(checkpoints, device, layer, branch)
    inputs = inputs_of(networks, checkpoints)
    known_as = {
        name: f"{inputs[checkpoint]} {network.origin.branch}".strip()
        for checkpoint, (name, network) in zip(checkpoints, networks.items(), strict=True)
    }
    if stored:
        _check_network(stored, *next(iter(known_as.items())))
    sheet = _Sheet(pictures, session)
    colours: dict[str, list[np.ndarray]] = {}
    bases: dict[str, Basis] = {}
    extents: dict[str, list[tuple[float, float]]] = {}
    headings: dict[str, str] = {}
    made: dict[str, Made] = {}
    rows = []
    for name, network in networks.items():
        fmaps = _encode(name, network, sheet, layer, size, finer, progress)
        bases[name] = stored or pca_basis(fmaps, k=3, origin=name, network=known_as[name])
        colours[name] = [to_rgb(fmap, bases[name]) for fmap in fmaps]
        extents[name], headings[name] = _extents(fmaps), heading(name, fmaps[0], layer)
        made[name] = Made.of(fmaps[0])
        del fmaps  # before the next network's come
        for spec, values in zip(pictures, colours[name], strict=True):
            means = (values.mean(axis=(0, 1)) / 255).round(4).tolist()
            rows.append({"picture": spec, "network": name, **dict(zip(("red", "green", "blue"), means, strict=True))})
        if keep_basis:
            with written_whole(Path(keep_basis).parent) as folder:
                save_basis(bases[name], folder / Path(keep_basis).name)
    draw = partial(
        figures.pca_rgb,
        list(sheet.shown.values()),
        {headings[name]: [maps[i] / 255 for i in sheet.shown] for name, maps in colours.items()},
        captions={headings[name]: f"{b.explained.sum():.0%} of the variance" for name, b in bases.items() if not basis},
        extents={headings[name]: [reach[i] for i in sheet.shown] for name, reach in extents.items()},
        note=note_of(
            sheet.names,
            f"three principal components, {f'those of {Path(basis).name}' if basis else 'of all cells'}",
            made_of(made, size, len(pictures)),
        ),
    )
    inputs |= sheet.read
    if basis:
        inputs[basis] = hashlib.sha256(Path(basis).read_bytes()).hexdigest()
    arrays = {f"{name} {i}": m for name, maps in colours.items() for i, m in enumerate(maps)}
    for name, b in bases.items():
        arrays |= {f"{name} mean": b.mean, f"{name} components": b.components}
    of = f" of the pictures that {basis} was made from" if basis else ""
    shares = {name: b.explained.sum() for name, b in bases.items()}
    lines = [f"{name}: three components explain {share:.1%} of the variance{of}" for name, share in shares.items()]
    return Drawing(
        kind="rgb",
        parameters=parameters,
        inputs=inputs,
        arrays=arrays,
        draw=draw,
        lines=lines,
        rows=rows,
        part=sheet.part,
    )


def draw_segments(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    segments_wanted: int = 8,
    layer: str | None = None,
    branch: str | None = None,
    size: int | Sequence[int] = 448,
    finer: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    session: Session | None = None,
) -> Drawing:
    """Segments that all pictures share, by k-means of their cells; one colour a segment.

    The number beside it: the *cohesion*, the mean cosine of a cell with its segment's centroid. The table has the share
    of each segment in each picture's cells.

    Args:
        pictures, checkpoints, layer, branch, size, finer: as of ``draw_affinity``. seed: of k-means. progress: is told
            the pictures done. session: what was loaded and encoded before. Neither is part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name not in NO_PARAMETERS}
    if segments_wanted < 1:
        raise ValueError(f"--segments takes 1 segment or more, not {segments_wanted}")
    check_seed(seed)
    session = session or Session()
    networks = session.networks(checkpoints, device, layer, branch)
    sheet = _Sheet(pictures, session)
    labels: dict[str, list[np.ndarray]] = {}
    extents: dict[str, list[tuple[float, float]]] = {}
    headings: dict[str, str] = {}
    made: dict[str, Made] = {}
    captions, lines, arrays, rows = {}, [], {}, []
    for name, network in networks.items():
        fmaps = _encode(name, network, sheet, layer, size, finer, progress)
        centroids, cohesion = kmeans(fmaps, segments_wanted, seed)
        labels[name] = [assign(fmap, centroids) for fmap in fmaps]
        extents[name], headings[name] = _extents(fmaps), heading(name, fmaps[0], layer)
        made[name] = Made.of(fmaps[0])
        del fmaps  # before the next network's come
        captions[headings[name]] = f"cohesion {cohesion:.2f}"
        lines.append(f"{name}: {segments_wanted} segments; mean cosine of a cell with its centroid {cohesion:.3f}")
        arrays[f"{name} centroids"] = centroids
        arrays |= {f"{name} {i}": m for i, m in enumerate(labels[name])}
        for spec, cells in zip(pictures, labels[name], strict=True):
            shares = np.bincount(cells.ravel(), minlength=segments_wanted) / cells.size
            row: dict[str, Any] = {"picture": spec, "network": name}
            rows.append(row | {f"segment {k}": round(float(share), 4) for k, share in enumerate(shares)})
    draw = partial(
        figures.segments,
        list(sheet.shown.values()),
        {headings[name]: [maps[i] for i in sheet.shown] for name, maps in labels.items()},
        captions=captions,
        extents={headings[name]: [reach[i] for i in sheet.shown] for name, reach in extents.items()},
        note=note_of(
            sheet.names,
            f"k-means of all cells, {segments_wanted} segments, seed {seed}",
            made_of(made, size, len(pictures)),
        ),
    )
    inputs = inputs_of(networks, checkpoints) | sheet.read
    return Drawing(
        kind="segments",
        parameters=parameters,
        inputs=inputs,
        arrays=arrays,
        draw=draw,
        lines=lines,
        rows=rows,
        part=sheet.part,
    )


class _Sheet:
    """Pictures, opened one by one, and what is kept of them.

    Attributes:
        specs: their names. session: where they are opened and encoded. read: of those opened, what a recipe notes.
        shown: number → pixels, of those on the sheet. names: theirs, in a few words.
    """

    def __init__(self, specs: Sequence[str], session: Session) -> None:
        self.specs = specs
        self.session = session
        self.read: dict[str, str] = {}
        self.shown: dict[int, np.ndarray] = {}
        self._chosen = set(spread(len(specs), _ON_A_SHEET))
        self._names: dict[int, str] = {}

    @property
    def part(self) -> str:
        """As of ``Drawing``."""
        n = len(self.specs)
        return f"{len(self._chosen)} of {n} pictures" if len(self._chosen) < n else ""

    @property
    def names(self) -> str:
        return few(self._names.values())

    def images(self) -> Iterator[Image.Image]:
        for i, picture in enumerate(map(self.session.picture, self.specs)):
            if picture.spec not in self.read:  # not again for the next network
                self.read |= picture.inputs
            if i in self._chosen and i not in self.shown:
                self.shown[i], self._names[i] = picture.pixels, picture.name
            yield picture.image


def _encode(
    name: str,
    network: DenseEncoder,
    sheet: _Sheet,
    layer: str | None,
    size: int | Sequence[int],
    finer: str | None,
    progress: Progress | None,
) -> list[FeatureMap]:
    """The maps of all pictures.

    Raises:
        ValueError: there is no room for them; as soon as it is certain, mostly at the first.
    """
    n, held, fmaps = len(sheet.specs), 0, []
    images = counted(sheet.images(), n, f"pictures, {name}", progress)
    for i, fmap in enumerate(sheet.session.maps(network, images, layer, sides(size), finer), start=1):
        held += fmap.features.nbytes
        least = fmap.features[:, 0, 0].nbytes * min(fmap.shape) ** 2  # of any map: the short sides are all alike
        if (needed := held + (n - i) * least) > _ROOM:
            raise ValueError(
                f"the feature maps of {n} pictures take {needed / 1e9:.1f} GB or more, and {_ROOM / 1e9:.1f} GB are "
                f"held at most: take about {max(1, _ROOM * i // held)} pictures with --most, or a smaller --size"
            )
        fmaps.append(fmap)
    return fmaps


def _check_network(basis: Basis, name: str, network: str) -> None:
    if basis.network and basis.network != network:
        theirs, ours = (f"{n} ({i[:12]})" if n != i else n for n, i in ((basis.origin, basis.network), (name, network)))
        raise ValueError(
            f"{basis.file} is a basis of {theirs}, not of {ours}: take that checkpoint, or make a basis of this one "
            "with --keep-basis"
        )


def _extents(fmaps: Sequence[FeatureMap]) -> list[tuple[float, float]]:
    return [(float(fmap.extent[0]), float(fmap.extent[1])) for fmap in fmaps]
