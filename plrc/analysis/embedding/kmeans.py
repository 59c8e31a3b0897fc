"""Segments: spherical k-means of the cells of several images together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from plrc.analysis.embedding.rows import check_same_layer, layer_of, one_thread, unit_cells, unit_rows
from plrc.analysis.features import FeatureMap

MAX_CELLS = 20_000  # drawn to find the centroids; then every cell gets its segment. 160 MB of 2048 channels
_STARTS = 4  # the best of so many is kept
_ROUNDS = 100  # it rarely takes 50
_SETTLED = 1e-3  # share of the cells that still change: below it the segments look the same
_ROUNDING = 1e-6  # of a cosine in fp32


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of several images.

    Attributes:
        labels: for each image ``(h, w)`` int64 over its map's cells, 0 … k − 1; segment 0 has the most cells.
        centroids: ``(k, C)`` fp32 of length 1; ``assign`` finds them again in other images.
        cohesion: the mean cosine of a cell with its centroid; 1 is best, and more segments always reach more.
    """

    labels: list[np.ndarray]
    centroids: np.ndarray
    cohesion: float


def segments(
    fmaps: Sequence[FeatureMap], k: int, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Segments:
    """Cut images into k segments that they share: each cell belongs to the centroid with which its cosine is largest.

    Spherical k-means (Dhillon and Modha 2001): a centroid is the sum of its cells' features of length 1, made of
    length 1 again. Of four starts by k-means++ the one with the largest cohesion is kept. Another order of the images,
    or other images, may give other segments; those of stored centroids stay.

    Args:
        fmaps: maps of one layer. k: number of segments, 1 or more. progress: called after each start with the starts
            done and those in all.

    Raises:
        ValueError: there is no map, maps of different layers, features that are not finite, or fewer than k different.
    """
    if not fmaps:
        raise ValueError("segments need the feature map of at least one image")
    check_same_layer(layer_of(fmap) for fmap in fmaps)
    rows = _drawn(fmaps, np.random.default_rng(seed))
    if not 1 <= k <= len(rows):
        raise ValueError(f"{len(rows)} cells can be cut into 1 to {len(rows)} segments, not {k}")
    centroids, best = _best_of(rows, k, seed, progress)
    labels = [assign(fmap, centroids) for fmap in fmaps]
    order = _by_size(np.concatenate([m.ravel() for m in labels]), k)
    place = np.argsort(order)  # of each old label among the new
    return Segments([place[m] for m in labels], centroids[order], best)


def cluster_items(features: np.ndarray, k: int, seed: int = 0) -> tuple[np.ndarray, float]:
    """The same of items: each feature ``(n, C)`` belongs to one of k clusters.

    Returns:
        ``(n,)`` int64, 0 … k − 1, cluster 0 has the most items; and the cohesion, as of ``Segments``.

    Raises:
        ValueError: there are fewer than k items, or fewer than k different ones.
    """
    rows = unit_rows(features)
    if not 1 <= k <= len(rows):
        raise ValueError(f"{len(rows)} items fall into 1 to {len(rows)} clusters, not {k}")
    centroids, cohesion = _best_of(rows, k, seed)
    with one_thread():
        labels = (rows @ centroids.T).argmax(axis=1)
    return np.argsort(_by_size(labels, k))[labels], cohesion


def _best_of(
    rows: np.ndarray, k: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, float]:
    """The centroids with the largest cohesion of several starts, and it."""
    from sklearn.cluster import kmeans_plusplus

    random = np.random.RandomState(seed)  # the generator that scikit-learn takes
    best, centroids = -np.inf, rows[:0]
    with one_thread():
        for start in range(_STARTS):
            found, cohesion = spherical_kmeans(rows, kmeans_plusplus(rows, k, random_state=random)[0])
            if cohesion > best:
                best, centroids = cohesion, found
            if progress is not None:
                progress(start + 1, _STARTS)
    return centroids, best


def _by_size(labels: np.ndarray, k: int) -> np.ndarray:
    """The labels 0 … k − 1 in order, the one with most members first."""
    return np.argsort(-np.bincount(labels, minlength=k), kind="stable")


def assign(fmap: FeatureMap, centroids: np.ndarray) -> np.ndarray:
    """Labels ``(h, w)`` int64 of a map's cells by stored centroids ``(k, C)`` of length 1.

    Raises:
        ValueError: the centroids have another number of channels.
    """
    cells = unit_cells(fmap)
    if cells.shape[1] != centroids.shape[1]:
        raise ValueError(
            f"centroids of {centroids.shape[1]} channels do not fit layer {fmap.layer}, which has {cells.shape[1]}: "
            "cut the images into segments again"
        )
    with one_thread():
        return (cells @ centroids.T).argmax(axis=1).reshape(fmap.shape)


def spherical_kmeans(rows: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, float]:
    """Centroids ``(k, C)`` of unit rows ``(n, C)`` from a start ``(k, C)``, and the mean cosine of a row with its own.

    Raises:
        ValueError: fewer than k rows are different.
    """
    k, labels = len(centroids), np.full(len(rows), -1)
    for _ in range(_ROUNDS):
        cosines = rows @ centroids.T
        new, closest = cosines.argmax(axis=1), cosines.max(axis=1)
        for empty in np.flatnonzero(np.bincount(new, minlength=k) == 0):  # takes the row that lies worst
            worst = closest.argmin()
            if closest[worst] > 1 - _ROUNDING:
                raise ValueError(f"fewer than {k} features are different: ask for fewer segments")
            new[worst], closest[worst] = empty, 1
        if (new != labels).mean() < _SETTLED:
            break
        labels = new
        sums = (labels == np.arange(k)[:, None]).astype(rows.dtype) @ rows
        centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.float32(1e-12))
    return centroids, float((rows @ centroids.T).max(axis=1).mean(dtype=np.float64))


def _drawn(fmaps: Sequence[FeatureMap], generator: np.random.Generator) -> np.ndarray:
    """The unit features of all cells, or of ``MAX_CELLS`` of them."""
    counts = [fmap.shape[0] * fmap.shape[1] for fmap in fmaps]
    if sum(counts) <= MAX_CELLS:
        return np.concatenate([unit_cells(fmap) for fmap in fmaps])
    picks = np.sort(generator.choice(sum(counts), MAX_CELLS, replace=False))
    starts = np.concatenate(([0], np.cumsum(counts)))
    of_maps = np.split(picks, np.searchsorted(picks, starts[1:-1]))
    parts = zip(fmaps, of_maps, starts[:-1], strict=True)
    return np.concatenate([unit_cells(fmap)[cells - start] for fmap, cells, start in parts])
