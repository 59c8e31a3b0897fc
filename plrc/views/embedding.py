"""``plrc embed``, ``colours`` and ``segments``: features in the plane, and every cell as a colour or in a segment."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from plrc.analysis import embedding as analysis
from plrc.analysis.embedding import Samples
from plrc.analysis.features import DenseEncoder, FeatureMap, input_size
from plrc.analysis.scores import result
from plrc.analysis.scores.table import aligned
from plrc.data.images import spread
from plrc.distributed import gather_objects, rank, world_size
from plrc.files import written_whole
from plrc.geometry import cell_centres, cell_of
from plrc.queries import Colours, Embedding, ImageQuery, Segments
from plrc.views import Drawing, Progress, few, note_of
from plrc.views.images import NamedImage, mask_files, region_raster
from plrc.views.session import Session, inputs_of, made_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_OBJECT = "background"
_NEIGHBOURS = 10
_MOST = 20_000  # samples: above, t-SNE takes more than an hour, and dots cover one another
_ON_A_SHEET = 24  # images of colours or segments; the arrays have all
_ROOM = 4 * 10**9  # bytes of the feature maps that are held at once, those of all images by one network


@dataclass(eq=False, kw_only=True)
class EmbeddingDrawing(Drawing):
    """Attributes:
    samples: what is laid out, without its features. planes: network → ``(n, 2)``.
    captions: network → the numbers under it. clusters: network → ``(n,)`` int64, if they were wanted.
    """

    samples: Samples
    planes: dict[str, np.ndarray]
    captions: dict[str, str]
    clusters: dict[str, np.ndarray]


def embedding(query: Embedding, session: Session, progress: Progress) -> EmbeddingDrawing | None:
    """Points, regions or whole images in the plane, by t-SNE or PCA; the same samples by each network.

    They are coloured by the class of their object where objects are known: that at their middle, the smallest one if
    several are there; with regions "objects" the region itself; of a whole image its largest. Else they are coloured
    by their image's folder if there are several, and not at all if each sample has a label of its own. Numbers:
    *neighbours kept* by the plane; and, of the features, if a label is in several images, *purity*: the share of a
    sample's ten nearest in other images that have its label, beside chance.

    Of several ranks each encodes its share of the images, and the first one has the drawing, others None.
    """
    from plrc import figures

    networks = session.networks(query)
    inputs = inputs_of(networks, query) | (mask_files(query.images, query.regions) if query.of == "regions" else {})
    first, method = None, "PCA"
    arrays: dict[str, np.ndarray] = {}
    made: dict[str, FeatureMap] = {}
    planes: dict[str, np.ndarray] = {}
    clusters: dict[str, np.ndarray] = {}
    captions: dict[str, str] = {}
    shares: dict[str, list[float]] = {}
    numbers: list[list[str]] = []
    for name, network in networks.items():
        gathered = _samples(query, session, name, network, name == next(iter(networks)), progress)
        if gathered is None:
            continue
        samples, made[name], read, objects_known = gathered
        if first is None:
            inputs |= read
            labels = _worth_telling(query, samples, objects_known)
            first = replace(samples, features=samples.features[:, :0].copy(), labels=labels)
        same = np.array_equal(samples.point, first.point, equal_nan=True)
        if not same or not np.array_equal(samples.image, first.image):
            raise ValueError(
                f"{name} has maps of other cells than {next(iter(networks))}, and points are drawn among the cells: "
                "compare regions or images with --of, or choose a --layer of one stride"
            )
        features, how = samples.features, "PCA"
        if query.method == "pca":
            basis = analysis.pca_basis(features, k=2)
            plane, shares[name] = analysis.project(features, basis), basis.explained.tolist()
        else:
            steps = partial(progress, f"t-SNE steps, {name}")
            plane, how = analysis.tsne(features, query.seed, query.perplexity, steps)
            method = f"{how}, seed {query.seed}"
            if query.perplexity > (len(samples) - 1) / 3:
                how += f" ({query.perplexity:g} is more than a third of the others)"
        planes[name] = arrays[f"{name} coordinates"] = plane
        captions[name], quality = _quality(replace(samples, labels=first.labels), plane)
        numbers.append([name, f"{len(samples)} {samples.kind}", how, *quality])
        if query.clusters:
            centroids, cohesion = analysis.kmeans(features, query.clusters, query.seed)
            clusters[name] = arrays[f"{name} cluster"] = analysis.assign(features, centroids)
            numbers[-1].append(f"cohesion of {query.clusters} clusters {cohesion:.3f}")
        del gathered, samples, features  # the next network's are to come
    if first is None:
        return None
    n, labels, of = len(query.images), first.labels, query.of
    told = labels if labels is not None and len(set(labels)) < len(first) else None
    coloured = ""
    if told is None and clusters:  # of the first network: a figure has one key
        name, of_first = next(iter(clusters.items()))
        width = len(str(query.clusters - 1))  # so that they sort as numbers do
        told, coloured = np.array([f"cluster {k:0{width}}" for k in of_first]), f"clusters by {name}"
    what = f"regions ({query.regions})" if of == "regions" else of
    where = f" of {n} image{'s' * (n > 1)}" * (of != "images")
    return EmbeddingDrawing(
        query=query,
        inputs=inputs,
        arrays=arrays | {"image": first.image, "point": first.point, "region": first.region},
        draw=partial(
            figures.embedding,
            planes,
            told,
            # An image's regions are computed once, however many of them are shown.
            thumbnails=partial(_crop, query, first, session, cache(partial(boxes, query, first, session))),
            explained=shares or None,
            captions=captions,
            note=note_of(method, f"{len(first)} {what}{where}", coloured, made_of(made, query, n)),
        ),
        lines=aligned(numbers),
        rows=_rows(query.images, first, {name: arrays[f"{name} coordinates"] for name in networks}),
        samples=first,
        planes=planes,
        captions=captions,
        clusters=clusters,
    )


def _samples(
    query: Embedding, session: Session, name: str, network: DenseEncoder, labelled: bool, progress: Progress
) -> tuple[Samples, FeatureMap, dict[str, str], bool] | None:
    """What is laid out, as a network has it, and the last image's map, without its features; if ``labelled``, what a
    recipe notes of the images, and whether the objects of all are known. None on ranks other than the first.
    """
    numbers, total = range(rank(), len(query.images), world_size()), len(query.images)
    mine: list[tuple[int, Samples, FeatureMap, dict[str, str], bool]] = []
    seen = session.seen(name, network, replace(query, images=tuple(query.images[i] for i in numbers)), progress)
    for number, (image, fmap) in zip(numbers, seen, strict=True):
        rasters = [region_raster(image, query.regions)] if query.of == "regions" else None
        labels = [partial(_labels, query, image)] if labelled else None
        found = analysis.gather([fmap], query.of, rasters, labels, query.per_image, query.seed, [number])
        if labelled and not mine and (query.of == "points" or query.regions.startswith("grid:")):
            _check_number(query, len(found) * total)  # now, so that the work is not done
        inputs = image.inputs if labelled else {}
        mine.append((number, found, replace(fmap, features=torch.empty(0)), inputs, image.masks is not None))
    if not (every := sorted(chain(*gather_objects(mine)), key=itemgetter(0))):
        return None
    _, parts, fmaps, read, known = zip(*every, strict=True)
    samples = analysis.joined(parts)
    _check_number(query, len(samples))
    return samples, fmaps[-1], {name: sha256 for inputs in read for name, sha256 in inputs.items()}, all(known)


def _worth_telling(query: Embedding, samples: Samples, objects_known: bool) -> np.ndarray | None:
    """All classes, or all folders where the objects of an image are not known; None if there is one only."""
    named = [Path(image).parent.name or image for image in query.images]
    labels = samples.labels if objects_known else np.array([named[i] for i in samples.image])
    return labels if labels is not None and len(set(labels)) > 1 else None


def _labels(query: Embedding, image: NamedImage, points: np.ndarray, regions: np.ndarray) -> list[str]:
    """The class of each sample's object; nothing where objects are not known."""
    if image.masks is None:
        return [""] * len(points)
    names = [*(image.classes or []), NO_OBJECT]
    if query.of == "images":
        return [names[image.masks.sum(axis=(1, 2)).argmax() if image.masks.any() else -1]]
    objects = regions - 1 if query.of == "regions" and query.regions == "objects" else None  # 0 is the background
    return [names[k] for k in (image.objects_at(torch.from_numpy(points)) if objects is None else objects)]


def _check_number(query: Embedding, number: int) -> None:
    """Raises a ValueError if so many samples cannot be laid out."""
    if number > _MOST:
        raise ValueError(
            f"{len(query.images)} images have {number} {query.of}, and {_MOST} can be laid out: take fewer images with "
            "--most, fewer points with --per-image, or fewer --regions of each"
        )


def boxes(query: Embedding, samples: Samples, session: Session, i: int) -> np.ndarray:
    """What each sample of image i covers, a point its cell, a region its box: ``(m, 4)``, x0, y0, x1, y1 of the image
    frame. Raises a ValueError if the image is gone."""
    mine, image = samples.image == i, session.image(query.images[i])
    if samples.kind == "regions":
        from scipy.ndimage import find_objects  # takes a second to import

        raster = region_raster(image, query.regions).numpy() + 1  # find_objects leaves 0 out
        parts, (h, w) = find_objects(raster), raster.shape  # None for a number that no cell has
        of = (parts[k] for k in samples.region[mine])
        return np.array([(x.start / w, y.start / h, x.stop / w, y.stop / h) for y, x in of])
    if samples.kind == "images":
        return np.array([[0.0, 0.0, 1.0, 1.0]])
    network = next(iter(session.networks(query).values()))  # all networks' maps have the same cells
    stride = network.stride(query.layer) / (2 if query.finer else 1)
    assert query.size is not None
    seen: Any = np.array(input_size(image.image.size, query.size.sides, network.backbone.stride))
    middle = samples.point[mine]
    return np.hstack((middle - stride / 2 / seen, middle + stride / 2 / seen)).clip(0, 1)


def _crop(
    query: Embedding, samples: Samples, session: Session, boxes_of: Callable[[int], np.ndarray], k: int
) -> Image.Image:
    """A square around a sample: 1.5 times as large, or a third of the image, as a cell alone says little."""
    i = int(samples.image[k])
    image = session.image(query.images[i]).image
    whole = np.array(image.size)
    low, high = boxes_of(i)[(samples.image[:k] == i).sum()].reshape(2, 2) * whole
    side = np.minimum(max(whole.max() / 3, 1.5 * (high - low).max()), whole)
    start = ((low + high - side) / 2).clip(0, whole - side)
    return image.crop((*start.round().astype(int).tolist(), *(start + side).round().astype(int).tolist()))


def _quality(samples: Samples, plane: np.ndarray) -> tuple[str, list[str]]:
    """A caption of the plane, and the numbers."""
    k, labels = min(_NEIGHBOURS, len(samples) - 1), samples.labels
    kept = analysis.neighbours_kept(samples.features, plane, k)
    caption = f"neighbours kept {kept:.2f}"
    numbers = [result("neighbours kept", kept, f"{k} nearest", k / (len(samples) - 1))]
    if labels is None or len(set(zip(labels, samples.image, strict=True))) == len(set(labels)):
        return caption, numbers  # no label is in two images
    purity, chance = analysis.label_purity(samples.features, labels, samples.image, k)
    caption += f", purity {purity:.2f}, chance {chance:.2f}"
    return caption, [*numbers, result("purity", purity, f"{k} nearest in other images", chance)]


def _rows(images: tuple[str, ...], samples: Samples, planes: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """A line a sample: where it is, and where it lies in each plane."""
    rows = []
    for i, (number, point, region) in enumerate(zip(samples.image, samples.point, samples.region, strict=True)):
        x, y = ("" if math.isnan(v) else round(v, 5) for v in point.tolist())
        label = "" if samples.labels is None else str(samples.labels[i])
        row = {"image": images[number], "x": x, "y": y, "region": "" if region < 0 else int(region), "label": label}
        rows.append(
            row | {f"{name} e{k + 1}": round(float(of[i, k]), 5) for name, of in planes.items() for k in (0, 1)}
        )
    return rows


# ------------------------------------------------------------------------------------------------ colours and segments


@dataclass(eq=False, kw_only=True)
class SheetDrawing(Drawing):
    """``shown``: the images on the sheet. ``columns``: network → the map of each, RGB ``(h, w, 3)`` in [0, 1] or
    numbers of segments ``(h, w)``; ``extents``: how far each reaches.
    """

    shown: list[NamedImage]
    columns: dict[str, list[np.ndarray]]
    extents: dict[str, list[Any]]


_Look = tuple[list[np.ndarray], list[dict[str, float]], dict[str, np.ndarray], str, str]
"""A network's maps to draw; of each what the table says; further arrays; a caption; the number beside the figure."""


def colours(query: Colours, session: Session, progress: Progress) -> SheetDrawing:
    """The first three principal components of all cells of all images as red, green and blue.

    The number beside it: the share of the variance that the three explain, in the images they were made from. The table
    has the mean colour of each image. With a ``basis`` colours mean the same as in the images of ``keep_basis``.

    A network's basis is shared by all images. Features of two networks lie in different spaces and can share none: the
    further networks' components have the order and the signs with which their colours are most like the first one's.
    """
    if (query.basis or query.keep_basis) and len(query.checkpoints) > 1:
        raise ValueError("a basis belongs to one network: name one checkpoint with --basis or --keep-basis")
    stored = analysis.load_basis(query.basis) if query.basis else None
    networks = session.networks(query)
    inputs = inputs_of(networks, query)
    known = zip(networks.items(), inputs.values(), strict=True)
    known_as = {name: f"{sha} {network.origin.branch}".strip() for (name, network), sha in known}
    if stored and stored.network not in ("", *known_as.values()):
        ((name, network),) = known_as.items()
        raise ValueError(
            f"{stored.file} is a basis of {stored.origin} ({stored.network[:12]}), not of {name} ({network[:12]}): "
            "take that checkpoint, or make a basis of this one with --keep-basis"
        )

    first: list[np.ndarray] = []  # maps of the first network

    def look(name: str, fmaps: list[FeatureMap]) -> _Look:
        basis = stored or analysis.pca_basis(fmaps, k=3, origin=name, network=known_as[name])
        if query.keep_basis:
            with written_whole(Path(query.keep_basis)) as file:
                analysis.save_basis(basis, file)
        maps = [analysis.to_rgb(fmap, basis) for fmap in fmaps]
        if first:
            order, signs = _as_in(first, maps, mirrored=True)
            basis = replace(basis, components=basis.components[order] * signs[:, None].astype(np.float32))
            maps = [np.where(signs < 0, 255 - values[..., order], values[..., order]) for values in maps]
        else:
            first.extend(maps)
        means = [(values.mean(axis=(0, 1)) / 255).round(4).tolist() for values in maps]
        rows = [dict(zip(("red", "green", "blue"), mean, strict=True)) for mean in means]
        share, of = basis.explained.sum(), f" of the images of {query.basis}" if stored else ""
        number = result("variance explained", share, f"3 components{of}", style=".1%")
        arrays = {"mean": basis.mean, "components": basis.components}
        return maps, rows, arrays, "" if stored else f"{share:.0%} of the variance", number

    how = f"three principal components, {f'those of {Path(query.basis).name}' if query.basis else 'of all cells'}"
    drawing = _sheet(query, session, progress, how, look)
    if query.basis:
        drawing.inputs[query.basis] = hashlib.sha256(Path(query.basis).read_bytes()).hexdigest()
    return replace(drawing, query=replace(query, keep_basis=None))


def segments(query: Segments, session: Session, progress: Progress) -> SheetDrawing:
    """Segments that all images share, by k-means of their cells; one colour a segment.

    The number beside it: the *cohesion*, the mean cosine of a cell with its segment's centroid. The table has the share
    of each segment in each image's cells. The further networks' segments have the numbers, and so the colours, of those
    of the first network that they are most like, cell by cell.
    """
    k = query.clusters
    first: list[np.ndarray] = []  # maps of the first network

    def look(name: str, fmaps: list[FeatureMap]) -> _Look:
        centroids, cohesion = analysis.kmeans(fmaps, k, query.seed)
        maps = [analysis.assign(fmap, centroids) for fmap in fmaps]
        if first:
            order, _ = _as_in(first, [np.eye(k)[cells] for cells in maps])
            centroids, maps = centroids[order], [np.argsort(order)[cells] for cells in maps]
        else:
            first.extend(np.eye(k)[cells] for cells in maps)
        shares = [np.bincount(cells.ravel(), minlength=k) / cells.size for cells in maps]
        rows = [{f"segment {i}": round(float(share), 4) for i, share in enumerate(own)} for own in shares]
        number = result("cohesion", cohesion, f"{k} segments")
        return maps, rows, {"centroids": centroids}, f"cohesion {cohesion:.2f}", number

    return _sheet(query, session, progress, f"k-means of all cells, {k} segments, seed {query.seed}", look)


def _as_in(first: list[np.ndarray], maps: list[np.ndarray], mirrored: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Which channel of maps ``(h, w, k)`` is most like each of the first network's, and the sign of their correlation.

    Each is taken once; the sum of the correlations over all cells of all images is the largest, or that of their sizes,
    if a channel may be mirrored.
    """
    from scipy.optimize import linear_sum_assignment

    theirs = np.vstack([values.reshape(-1, values.shape[2]) for values in maps]).astype(np.float64)
    cells = zip(first, (cell_centres(*values.shape[:2]) for values in maps), strict=True)
    ours = np.vstack([of[cell_of(at, *of.shape[:2])].reshape(-1, of.shape[2]) for of, at in cells]).astype(np.float64)
    k = ours.shape[1]
    with np.errstate(invalid="ignore"):  # of a channel that is the same everywhere
        alike = np.nan_to_num(np.corrcoef(ours, theirs, rowvar=False)[:k, k:])
    _, order = linear_sum_assignment(-np.abs(alike) if mirrored else -alike)
    return order, np.where(alike[np.arange(k), order] < 0, -1, 1)


def _sheet(
    query: ImageQuery, session: Session, progress: Progress, how: str, look: Callable[[str, list[FeatureMap]], _Look]
) -> SheetDrawing:
    """Images beside what each network makes of all of them."""
    networks = session.networks(query)
    inputs, n = inputs_of(networks, query), len(query.images)
    chosen = spread(n, _ON_A_SHEET)
    shown: list[NamedImage] = []
    made: dict[str, FeatureMap] = {}
    columns: dict[str, list[np.ndarray]] = {}
    arrays: dict[str, np.ndarray] = {}
    captions: dict[str, str] = {}
    extents: dict[str, list[Any]] = {}
    rows: list[dict[str, Any]] = []
    numbers: list[list[str]] = []
    for name, network in networks.items():
        fmaps: list[FeatureMap] = []
        for i, (image, fmap) in enumerate(session.seen(name, network, query, progress)):
            if (needed := n * fmap.features.nbytes) > _ROOM and not i:  # of all alike
                raise ValueError(
                    f"the feature maps of {n} images take about {needed / 1e9:.1f} GB, and {_ROOM / 1e9:.1f} GB are "
                    f"held at most: take {max(1, _ROOM * n // needed)} images with --most, or a smaller --size"
                )
            if not made:  # not again for the next network
                inputs |= image.inputs
                shown += [image] * (i in chosen)
            fmaps.append(fmap)
        made[name] = replace(fmaps[0], features=torch.empty(0))
        maps, of_images, more, captions[name], number = look(name, fmaps)
        columns[name] = [maps[i] / 255 if maps[i].ndim == 3 else maps[i] for i in chosen]
        extents[name] = [tuple(fmaps[i].extent.tolist()) for i in chosen]
        del fmaps, fmap  # before the next network's come
        arrays |= {f"{name} {part}": array for part, array in more.items()}
        arrays |= {f"{name} {i}": values for i, values in enumerate(maps)}
        given = zip(query.images, of_images, strict=True)
        rows += [{"image": spec, "network": name} | dict(row) for spec, row in given]
        numbers.append([name, number])

    def draw() -> Figure:
        from plrc import figures

        above, of_all = captions, list[str]()
        if len(shown) > 1:  # what holds for all of them stands at the foot, not above each
            of_all = [f"{name}: {said}" if len(captions) > 1 else said for name, said in captions.items() if said]
            above = {}
        note = note_of(few(image.name for image in shown), how, *of_all, made_of(made, query, n))
        pixels = [image.pixels for image in shown]
        return figures.feature_colours(pixels, columns, captions=above, extents=extents, note=note)

    return SheetDrawing(
        query=query,
        inputs=inputs,
        arrays=arrays,
        draw=draw,
        lines=aligned(numbers),
        rows=rows,
        shown=shown,
        columns=columns,
        extents=extents,
        part=f"{len(chosen)} of {n} images" if len(chosen) < n else "",
    )
