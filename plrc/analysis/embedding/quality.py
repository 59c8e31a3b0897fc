"""Numbers beside an embedding: how many neighbours the *picture* keeps, and how pure neighbours by *feature* are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plrc.analysis.embedding.rows import Features, one_thread, unit_rows

_AT_ONCE = 2**24  # similarities held at a time


@dataclass(frozen=True, eq=False)
class Purity:
    """How often neighbours share a label.

    Attributes:
        values: ``(n,)``, for each item the share of its k nearest neighbours that have its label; not a number where no
            other image has an item. chance: the mean that neighbours drawn blindly would get. k: neighbours.
    """

    values: np.ndarray
    chance: float
    k: int

    @property
    def mean(self) -> float:
        """Mean over the items that have neighbours."""
        return float(np.nanmean(self.values))


def neighbours_kept(features: Features, coordinates: np.ndarray, k: int = 10) -> float:
    """A number for the *picture*: the share of an item's k nearest by cosine that are among its k nearest there.

    In [0, 1]; a random picture gets k / (n − 1). Low: what lies together in the picture need not be alike.

    Args:
        features: ``(n, C)``. coordinates: ``(n, d)``, of ``tsne`` or ``project``.

    Raises:
        ValueError: there are not more than k items, or not as many coordinates.
    """
    rows = unit_rows(features)
    if len(coordinates) != len(rows):
        raise ValueError(f"{len(rows)} features do not have {len(coordinates)} coordinates")
    there = _nearest(coordinates.astype(np.float64), k)[0]
    here = _nearest(rows, k)[0]
    both = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(here, there, strict=True)]
    return float(np.mean(both)) / k


def label_purity(features: Features, labels: np.ndarray, image: np.ndarray | None = None, k: int = 10) -> Purity:
    """A number for the *features*, whatever the picture: the share of the k nearest by cosine with the same label.

    Args:
        features: ``(n, C)``. labels: ``(n,)`` of any kind.
        image: ``(n,)``, the image of each item. Items of its own image are then no neighbours of it, as they should not
            be: the next point of one picture is alike because it is the next, and says nothing about the label.

    Raises:
        ValueError: there are not more than k items, not as many labels, or just one image.
    """
    rows, labels = unit_rows(features), np.asarray(labels)
    n = len(rows)
    if labels.shape != (n,) or (image is not None and np.shape(image) != (n,)):
        raise ValueError(f"{n} features need a label, and an image, each")
    nearest, real = _nearest(rows, k, image)
    if not real.any():
        raise ValueError("all items are of one image, and none has a neighbour in another")
    same = (labels[nearest] == labels[:, None]) & real
    found = real.sum(axis=1)
    values = np.where(found, same.sum(axis=1) / np.maximum(found, 1), np.nan)

    def pairs(groups: np.ndarray) -> np.ndarray:  # for each item, how many there are of its group
        _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
        return counts[index]

    own = np.arange(n) if image is None else np.unique(image, return_inverse=True)[1]
    name = np.unique(labels, return_inverse=True)[1]
    others, alike = n - pairs(own), pairs(name) - pairs(own * n + name)
    return Purity(values, float((alike[found > 0] / others[found > 0]).mean()), k)


def _nearest(rows: np.ndarray, k: int, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Indices ``(n, k)`` of each row's nearest others, in no order, and ``(n, k)`` bool: which are real.

    By Euclidean distance, which for rows of length 1 is the cosine's order. Rows of the same group are no candidates.
    """
    n = len(rows)
    if not 1 <= k < n:
        raise ValueError(f"{n} items have 1 to {n - 1} neighbours, not {k}")
    groups = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    rows = rows - rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)  # less to round
    half = (rows**2).sum(axis=1) / 2
    nearest, real = [], []
    with one_thread():
        for start in range(0, n, step := max(1, _AT_ONCE // n)):
            closeness = rows[start : start + step] @ rows.T - half
            closeness[groups[start : start + step, None] == groups] = -np.inf
            found = np.argpartition(closeness, n - k, axis=1)[:, n - k :]
            nearest.append(found)
            real.append(np.take_along_axis(closeness, found, axis=1) > -np.inf)
    return np.concatenate(nearest), np.concatenate(real)
