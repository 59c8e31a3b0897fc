"""Features as rows of length 1, and linear algebra that rounds alike for any number of threads."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import numpy as np
from torch import Tensor

from plrc.analysis.features import FeatureMap

Features = np.ndarray | Tensor  # (n, C)


def unit_rows(features: Features) -> np.ndarray:
    """Features ``(n, C)``, each divided by its length: ``(n, C)`` fp32. A feature of zeros stays what it is.

    Raises:
        ValueError: the features have another shape, there are none, or some are not finite; says how many.
    """
    array = features.detach().cpu().numpy() if isinstance(features, Tensor) else np.asarray(features)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"features are (n, C), a row each, not {array.shape}")
    with np.errstate(over="ignore"):  # becomes infinite, and is said so
        array = array.astype(np.float32, copy=False)
    if broken := int((~np.isfinite(array).all(axis=1)).sum()):
        raise ValueError(
            f"{broken} of {len(array)} features are not finite numbers: the checkpoint's weights, or the layer's "
            "values, have overflowed"
        )
    # By the largest value first: the square of a large one would overflow, that of a small one vanish.
    array = array / np.maximum(np.abs(array).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), np.float32(1e-12))


def unit_cells(fmap: FeatureMap) -> np.ndarray:
    """The features of a map's cells, row by row, each divided by its length: ``(h·w, C)`` fp32; not kept.

    Raises:
        ValueError: some are not finite.
    """
    return unit_rows(fmap.features.flatten(1).T)


def layer_of(fmap: FeatureMap) -> tuple[str, int]:
    """What maps must share to be embedded together: the layer, and its channels."""
    return fmap.layer, fmap.features.shape[0]


def check_same_layer(layers: Iterable[tuple[str, int]]) -> None:
    """Raise a ValueError if maps are not of one layer with one number of channels; see ``layer_of``."""
    different = sorted(set(layers))
    if len(different) > 1:
        found = " and ".join(f"{layer} ({channels} channels)" for layer, channels in different)
        raise ValueError(f"the maps are of layers {found}: take all from one layer of one network")


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra inside runs on one thread: with several, the order of its sums is theirs to choose.

    Import what brings its own BLAS (SciPy) before: a library that is loaded inside is not held.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    return threadpool_limits(limits=1, user_api="blas")
