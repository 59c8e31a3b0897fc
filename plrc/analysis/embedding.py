"""Embedding: features of points, regions or whole images in the plane, as colours, as segments; and numbers for it.

Everything here divides features by their lengths first, so that it is about the cosine, as the losses and the affinity
are. The same features give the same bits on every run, on one machine with the same library versions, for any number of
threads. (A network's forward may differ in the last bit between numbers of threads, and t-SNE enlarges that.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from plrc.analysis.features import FeatureMap, check_kinds, region_features, region_numbers, region_points

Features = np.ndarray | Tensor  # (n, C)
Labeller = Callable[[np.ndarray, np.ndarray], Sequence[str]]
"""Names an image's samples by their points ``(m, 2)`` and regions ``(m,)``, as ``Samples`` has them: m texts."""

_KMEANS_CELLS = 20_000  # drawn to find the centroids; then every cell gets its segment. 160 MB of 2048 channels
_PCA_CELLS = 100_000  # of more so many are drawn: in float64 1.6 GB of 2048 channels
_QUANTILES = (0.01, 0.99)  # of a component's values: black and full colour. One odd cell must not set the range (ours)
_CONSTANT = 1e-12  # total variance of unit rows that is but rounding
_NOTHING = 1e-7  # share of the variance below which a component is but rounding
_TSNE_COMPONENTS = 50  # principal components that t-SNE sees (van der Maaten and Hinton 2008, section 4.2: 30)
_SPREAD = 1e-4  # std of t-SNE's start along the first axis (openTSNE's)
_JITTER = 0.01  # of that spread. Equal features, or features on a line, could otherwise never part
_EARLY_STEPS, _STEPS = 250, 500  # with attraction exaggerated, and after (openTSNE's)
_ARRAYS, _TEXTS = ("mean", "components", "low", "high", "explained"), ("layer", "origin", "network")  # of a basis
# With several threads the order of sums is the libraries' to choose. Holds those that are imported before its start.
one_thread = partial(threadpool_limits, limits=1)


@dataclass(frozen=True, eq=False)
class Samples:
    """n features and where each comes from."""

    kind: str  # "points", "regions" or "images"
    features: np.ndarray  # (n, C) fp32, not normalised
    image: np.ndarray  # (n,) int64, number of the image
    point: np.ndarray  # (n, 2) fp32 in the image frame, a region's middle; not a number for whole images
    region: np.ndarray  # (n,) int64, number of the region in its image; −1 where there is none
    labels: np.ndarray | None = None  # (n,) of text, if known

    def __len__(self) -> int:
        return len(self.features)


def gather(
    fmaps: Iterable[FeatureMap],
    kind: str = "points",
    rasters: Iterable[Tensor] | None = None,
    labels: Iterable[str | Labeller] | None = None,
    per_image: int = 64,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> Samples:
    """What is embedded: points drawn at random, the mean feature of each region, or that of each whole image.

    Args:
        fmaps: maps of one layer; may be an iterator (``encoder.batch``), each map is let go after use.
        kind: "points", centres of cells, all of them where an image has no more than ``per_image``; they depend on the
            seed, the image's number and the map's shape, not on other images. "regions", of ``rasters``. "images".
        rasters: of each image, see ``region_features``. labels: of each image a text, or what names its samples. Both
            may be iterators, and are asked when the map has come.
        numbers: of the images, where they are some of more; else 0, 1, ….

    Raises a ValueError if there is no map, maps are of several layers, or rasters and labels are not as many.
    """
    if kind not in ("points", "regions", "images") or (kind == "regions" and rasters is None):
        raise ValueError(f"samples are points, regions (which need rasters) or images, not {kind!r}")
    if per_image < 1:
        raise ValueError(f"1 point an image or more can be drawn, not {per_image}")
    kinds = set[tuple[str, int]]()  # not the maps: they are let go
    parts: list[tuple[np.ndarray, ...]] = []
    texts: list[str] = []
    columns: list[Iterable[Any]] = [column for column in (fmaps, rasters, labels) if column is not None]
    for i, (fmap, *rest) in enumerate(zip_longest(*columns)):
        if fmap is None or any(value is None for value in rest):
            raise ValueError(f"there are not as many maps, rasters and labels: one of them ends after {i}")
        check_kinds(kinds := kinds | {fmap.kind})
        if kind == "points":
            centres = fmap.centres().flatten(0, 1)
            inside = (centres < 1).all(dim=1).nonzero().flatten().numpy()  # the map may reach beyond the image
            pool = inside if len(inside) else np.arange(len(centres))
            rng = np.random.default_rng((seed, numbers[i] if numbers else i))
            cells = torch.from_numpy(np.sort(rng.choice(pool, min(per_image, len(pool)), replace=False)))
            features, points = fmap.features.flatten(1).T.cpu()[cells], centres[cells]
        else:
            raster = rest[0] if kind == "regions" else torch.zeros(1, 1).long()
            features, points = region_features(fmap, raster), region_points(raster)
        points = torch.full_like(points, torch.nan) if kind == "images" else points
        regions = region_numbers(raster) if kind == "regions" else torch.full((len(points),), -1)
        parts.append((features.cpu().numpy(), points.numpy(), regions.numpy()))
        if labels is not None:
            texts += rest[-1](*parts[-1][1:]) if callable(rest[-1]) else [str(rest[-1])] * len(points)
    if not parts:
        raise ValueError("there is no image to embed")
    image = np.repeat(numbers or np.arange(len(parts)), [len(part[0]) for part in parts])
    values, point, region = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Samples(kind, values, image, point, region, None if labels is None else np.array(texts))


def joined(parts: Sequence[Samples]) -> Samples:
    """The samples of all images, of those of some each, in the order of the images' numbers."""
    order = np.argsort(np.concatenate([part.image for part in parts]), kind="stable")
    columns = [name for name, of in vars(parts[0]).items() if isinstance(of, np.ndarray)]
    every: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in columns}
    return replace(parts[0], **every)


def unit_rows(features: Features) -> np.ndarray:
    """Features ``(n, C)``, each divided by its length: ``(n, C)`` fp32. A feature of zeros stays what it is.

    Raises a ValueError for other shapes, and values that are not finite; so does all that takes features here.
    """
    array = features.detach().cpu().numpy() if isinstance(features, Tensor) else np.asarray(features)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"features are (n, C), a row each, not {array.shape}")
    with np.errstate(over="ignore"):  # becomes infinite, and is said so
        array = array.astype(np.float32, copy=False)
    if broken := int((~np.isfinite(array).all(axis=1)).sum()):
        raise ValueError(f"{broken} of {len(array)} features are not finite numbers: weights or activations overflowed")
    # By the largest value first: the square of a large one would overflow, that of a small one vanish.
    array = array / np.maximum(np.abs(array).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), np.float32(1e-12))


def _rows(features: Features | FeatureMap | Sequence[FeatureMap], most: int | None = None) -> tuple[np.ndarray, str]:
    """Unit rows ``(n, C)`` of features, or of the cells of maps, and the maps' layer; of more than ``most`` so many."""
    if isinstance(features, np.ndarray | Tensor):
        return unit_rows(features), ""
    fmaps = [features] if isinstance(features, FeatureMap) else features
    if not fmaps:
        raise ValueError("the feature map of at least one image is needed")
    check_kinds(fmap.kind for fmap in fmaps)
    ends = np.cumsum([fmap.shape[0] * fmap.shape[1] for fmap in fmaps])
    picks = np.arange(ends[-1])
    if most is not None and ends[-1] > most:
        picks = np.sort(np.random.default_rng(0).choice(ends[-1], most, replace=False))
    parts = zip(fmaps, np.split(picks, np.searchsorted(picks, ends[:-1])), ends, strict=True)
    rows = [unit_rows(fmap.features.flatten(1).T)[picked - end] for fmap, picked, end in parts]  # counted from the end
    return np.concatenate(rows), fmaps[0].layer


@dataclass(frozen=True, eq=False)
class Basis:
    """Principal axes of features of length 1, and the range of colours on each; all fp32."""

    mean: np.ndarray  # (C,)
    components: np.ndarray  # (k, C), orthonormal, the one of most variance first
    low: np.ndarray  # (k,), the 1 % quantiles of the projections that it was made from
    high: np.ndarray  # (k,), the 99 % quantiles
    explained: np.ndarray  # (k,), shares of the variance
    layer: str = ""  # of the maps that it was made from; empty if unknown, like the following
    origin: str = ""  # name of the network
    network: str = ""  # what it is by any name: its checkpoint's SHA-256 and branch, or "random:tiny"
    file: Path | None = None  # where it was read from

    def __str__(self) -> str:
        k, channels = self.components.shape
        of = " ".join(filter(None, (self.origin, self.layer)))
        return f"{self.file or 'the PCA basis'} ({k} components of {channels} channels{', ' + of if of else ''})"


def pca_basis(features: Features | Sequence[FeatureMap], k: int = 3, origin: str = "", network: str = "") -> Basis:
    """The k directions along which features of length 1 vary most, each with a sign that is a rule's and not chance's.

    A component's loadings have a sum of 0 or more (ours): with half of 60 photos left out that flips 6 % of the signs,
    the skewness's sign 21 %, the largest loading's 27 %. Colours that must stay are those of a stored basis.

    Features are ``(n, C)``, or cells of maps (of very many some are drawn). Origin and network are kept with the basis.
    Raises a ValueError if there are fewer than k + 1 features, or all are the same.
    """
    from sklearn.decomposition import PCA

    rows, layer = _rows(features, _PCA_CELLS)
    n, channels = rows.shape
    if not 1 <= k <= (most := min(n - 1, channels)):
        raise ValueError(f"{n} features of {channels} channels have at most {most} principal components, not {k}")
    exact = rows.astype(np.float64)
    if exact.var(axis=0).sum() < _CONSTANT:
        raise ValueError(f"all {n} features are the same, up to their length: they have no principal components")
    with one_thread():
        pca = PCA(k, svd_solver="covariance_eigh" if n > channels else "full", copy=False).fit(exact)
        axes = pca.components_ * np.where(pca.components_.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
        parts = (pca.mean_, axes, pca.explained_variance_ratio_)
        mean, components, explained = (part.astype(np.float32) for part in parts)
        low, high = np.quantile((rows - mean) @ components.T, _QUANTILES, axis=0).astype(np.float32)
    # The range of rounding would be colourful noise; [−1, 1] makes such a channel an even grey.
    something = (explained > _NOTHING) & (high > low)
    low, high = np.where(something, low, np.float32(-1)), np.where(something, high, np.float32(1))
    return Basis(mean, components, low, high, explained, layer, origin, network)


def project(features: Features | FeatureMap, basis: Basis) -> np.ndarray:
    """Coordinates ``(n, k)`` fp32 on a basis of features ``(n, C)``, or of a map's cells, row by row.

    Raises a ValueError if the basis is of another layer or number of channels.
    """
    rows, layer = _rows(features)
    if (channels := rows.shape[1]) != basis.components.shape[1] or (layer and basis.layer and layer != basis.layer):
        of = f" of layer {layer}" if layer else ""
        raise ValueError(f"{basis} does not fit features{of} of {channels} channels: make a new one from them")
    with one_thread():
        return (rows - basis.mean) @ basis.components.T


def to_rgb(fmap: FeatureMap, basis: Basis) -> np.ndarray:
    """A map's cells as colours ``(h, w, 3)`` uint8: red, green, blue are the components 1, 2, 3, from low to high.

    Values beyond the basis's range are cut off. Raises a ValueError if the basis does not fit, or has no 3 components.
    """
    if len(basis.components) != 3:
        raise ValueError(f"{basis} has no three components: colours need one each for red, green and blue")
    values = (project(fmap, basis) - basis.low) / (basis.high - basis.low)
    return (values.clip(0, 1) * 255).round().astype(np.uint8).reshape(*fmap.shape, 3)


def save_basis(basis: Basis, file: str | Path) -> None:
    """Write a basis as NPZ; ``load_basis`` reads it."""
    arrays: dict[str, Any] = {name: getattr(basis, name) for name in (*_ARRAYS, *_TEXTS)}
    with Path(file).open("wb") as stream:  # not by name: NumPy would append .npz to one without
        np.savez(stream, **arrays)


def load_basis(file: str | Path) -> Basis:
    """A stored basis; nothing in the file is executed. Raises a ValueError if the file is missing, or no basis."""
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"there is no PCA basis {file}: plrc colours IMAGES --keep-basis {file} makes one")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays: dict[str, Any] = {name: np.asarray(stored[name], dtype=np.float32) for name in _ARRAYS}
            texts: dict[str, Any] = {name: str(stored[name]) for name in _TEXTS}
        k, channels = arrays["components"].shape
        if arrays["mean"].shape != (channels,) or any(arrays[name].shape != (k,) for name in _ARRAYS[2:]):
            raise ValueError("its arrays do not fit together")
    except Exception as error:  # on junk NumPy raises almost anything
        raise ValueError(f"{file} is no PCA basis that --keep-basis wrote ({type(error).__name__}: {error})") from error
    return Basis(**arrays, **texts, file=file)


def tsne(
    features: Features, seed: int = 0, perplexity: float = 30, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, str]:
    """t-SNE of features by cosine: of length 1, on their first 50 principal components, starting from the first two.

    In it neighbours by cosine are neighbours; distances and sizes beyond that mean little. 10,000 × 128 features take
    30 s on two cores; on a busy machine ``OMP_WAIT_POLICY=PASSIVE``, set before Python starts, is several times faster.

    Args:
        features: ``(n, C)``, n ≥ 4. seed: another seed, a slightly different start: what stays is in the features.
        perplexity: 1 or more, about how many neighbours count; (n − 1) / 3 at most is used.
        progress: called every 50 steps with the steps done and those in all; an exception that it raises ends the work.

    Returns ``(n, 2)`` fp32, whose unit means nothing; and what made it: the library, its version, the perplexity.
    Raises a ValueError for fewer than 4 features, all the same, or a perplexity below 1.
    """
    import openTSNE  # type: ignore[import-untyped]

    n, channels = unit_rows(features).shape
    if n < 4:
        raise ValueError(f"t-SNE needs 4 features or more, not {n}: take more points an image, or more images")
    if not perplexity >= 1:
        raise ValueError(f"t-SNE needs a perplexity of 1 or more, not {perplexity}")
    perplexity = min(float(perplexity), (n - 1) / 3)
    reduced = project(features, pca_basis(features, min(_TSNE_COMPONENTS, n - 1, channels)))
    start = np.zeros((n, 2))
    start[:, : min(2, reduced.shape[1])] = reduced[:, :2] / reduced[:, 0].std()
    start += _JITTER * np.random.default_rng(seed).standard_normal((n, 2))
    steps = count(50, 50)  # its own are of its two phases apart

    def callback(*_: Any) -> None:
        if progress is not None:
            progress(min(next(steps), _EARLY_STEPS + _STEPS), _EARLY_STEPS + _STEPS)

    coordinates = openTSNE.TSNE(
        perplexity=perplexity,
        initialization=(_SPREAD * start).astype(np.float32),
        early_exaggeration_iter=_EARLY_STEPS,
        n_iter=_STEPS,
        neighbors="exact",  # its approximate neighbours depend on the number of threads
        n_jobs=torch.get_num_threads(),
        random_state=seed,
        callbacks=callback,
        callbacks_every_iters=50,
    ).fit(reduced)
    made = f"t-SNE (openTSNE {openTSNE.__version__}), perplexity {perplexity:.4g}"
    return np.ascontiguousarray(coordinates, dtype=np.float32), made


def kmeans(features: Features | Sequence[FeatureMap], k: int, seed: int = 0) -> tuple[np.ndarray, float]:
    """k-means of features ``(n, C)``, or of the cells of maps, of length 1: the best of four starts.

    Of more than 20,000 cells so many are drawn. Other images may give other segments; those of stored centroids stay.

    Returns centroids ``(k, C)`` fp32 of length 1, that of most features first; and the *cohesion*, the mean cosine of a
    feature with its centroid: 1 is best, and more clusters always reach more. Raises a ValueError if fewer than k
    features are different.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    rows, _ = _rows(features, _KMEANS_CELLS)
    if not 1 <= k <= len(rows):
        raise ValueError(f"{len(rows)} features fall into 1 to {len(rows)} clusters, not {k}")
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            found = KMeans(k, n_init=4, max_iter=100, random_state=seed).fit(rows)
        except ConvergenceWarning as error:
            raise ValueError(f"fewer than {k} features are different: ask for fewer clusters") from error
        centroids = unit_rows(found.cluster_centers_)
        cosines = rows @ centroids.T
    order = np.argsort(-np.bincount(cosines.argmax(axis=1), minlength=k), kind="stable")
    return centroids[order], float(cosines.max(axis=1).mean(dtype=np.float64))


def assign(features: Features | FeatureMap, centroids: np.ndarray) -> np.ndarray:
    """Which centroid ``(k, C)`` is most alike, by cosine: ``(n,)`` int64 of features, ``(h, w)`` of a map's cells.

    Raises a ValueError if they have other numbers of channels.
    """
    rows, layer = _rows(features)
    if rows.shape[1] != centroids.shape[1]:
        of = f" of layer {layer}" if layer else ""
        raise ValueError(f"centroids of {centroids.shape[1]} channels do not fit features{of} of {rows.shape[1]}")
    with one_thread():
        labels = (rows @ centroids.T).argmax(axis=1)
    return labels.reshape(features.shape) if isinstance(features, FeatureMap) else labels


def neighbours_kept(features: Features, coordinates: np.ndarray, k: int = 10) -> float:
    """A number for the *plane*: the share of a sample's k nearest by cosine that are among its k nearest there.

    Of ``(n, C)`` and ``(n, d)``, n > k; in [0, 1]; random coordinates get k / (n − 1). Low: what lies together in the
    plane need not be alike. Raises a ValueError if n ≤ k, or there are not as many coordinates as features.
    """
    rows = unit_rows(features)
    if len(coordinates) != len(rows):
        raise ValueError(f"{len(rows)} features do not have {len(coordinates)} coordinates")
    here, there = _nearest(rows, k, "cosine"), _nearest(coordinates, k, "euclidean")
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(here, there, strict=True)])) / k


def label_purity(
    features: Features, labels: np.ndarray, image: np.ndarray | None = None, k: int = 10
) -> tuple[float, float]:
    """A number for the *features*, wherever they lie in the plane: the share of the k nearest with the same label.

    Args:
        features: ``(n, C)``, compared by cosine, n > k. labels: ``(n,)`` of any kind.
        image: ``(n,)``, the image of each sample. Others of its own image are then no neighbours of it: the next point
            of an image is alike because it is the next, and says nothing about the label.

    Returns the mean over the samples that have neighbours; and what neighbours drawn at random get, its chance.
    Raises a ValueError if n ≤ k, labels or images are not n, or no sample has a neighbour in another image.
    """
    rows, labels = unit_rows(features), np.asarray(labels)
    n = len(rows)
    if labels.shape != (n,) or (image is not None and np.shape(image) != (n,)):
        raise ValueError(f"{n} features need a label, and an image, each")

    def size(groups: np.ndarray) -> np.ndarray:  # of each sample's group
        _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
        return counts[index]

    own = np.arange(n) if image is None else np.unique(image, return_inverse=True)[1]
    label = np.unique(labels, return_inverse=True)[1]
    # The k nearest of other images are among so many nearest of all.
    nearest = _nearest(rows, k, "cosine", extra=int(size(own).max()) - 1)
    counted = own[nearest] != own[:, None]
    counted &= counted.cumsum(axis=1) <= k
    if not counted.any():
        raise ValueError("all samples are of one image, and none has a neighbour in another")
    same, found = (counted & (label[nearest] == label[:, None])).sum(axis=1), counted.sum(axis=1)
    alike, others, known = size(label) - size(own * n + label), n - size(own), found > 0
    return float((same[known] / found[known]).mean()), float((alike[known] / others[known]).mean())


def _nearest(rows: np.ndarray, k: int, metric: str, extra: int = 0) -> np.ndarray:
    """Indices ``(n, k + extra)``, or of all others, of each row's nearest others, the nearest first."""
    from sklearn.neighbors import NearestNeighbors

    n = len(rows)
    if not 1 <= k < n:
        raise ValueError(f"{n} samples have 1 to {n - 1} neighbours, not {k}")
    with one_thread():
        found = NearestNeighbors(n_neighbors=min(n - 1, k + extra), metric=metric).fit(rows)
        return found.kneighbors(return_distance=False)
