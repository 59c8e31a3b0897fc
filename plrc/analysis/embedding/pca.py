"""Principal components of features, and as colours: a basis, once stored, keeps the colours whatever it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from plrc.analysis.embedding.rows import Features, check_same_layer, layer_of, one_thread, unit_cells, unit_rows
from plrc.analysis.features import FeatureMap

_QUANTILES = (0.01, 0.99)  # of a component's values: black and full colour. One odd cell must not set the range (ours)
_AT_ONCE = 4096  # rows in float64 at a time
_CONSTANT = 1e-12  # total variance of unit rows that is but rounding
_NOTHING = 1e-7  # share of the variance below which a component is but rounding


@dataclass(frozen=True, eq=False)
class Basis:
    """Principal axes of features of length 1, and the range of colours on each.

    Attributes:
        mean: ``(C,)``. components: ``(k, C)``, orthonormal, the one of most variance first. low, high: ``(k,)``, the
            1 % and 99 % quantiles of the projections that it was made from. explained: ``(k,)``, shares of the
            variance. All fp32.
        layer: of the maps that it was made from; empty if unknown. origin: name of the network; empty if unknown.
        network: what it is, whatever its name: the SHA-256 of its checkpoint, and the branch, or, of one that is no
            file, what it is called by ("random:tiny"); empty if unknown.
        file: where it was read from.
    """

    mean: np.ndarray
    components: np.ndarray
    low: np.ndarray
    high: np.ndarray
    explained: np.ndarray
    layer: str = ""
    origin: str = ""
    network: str = ""
    file: Path | None = None

    def __str__(self) -> str:
        k, channels = self.components.shape
        of = " ".join(part for part in (self.origin, self.layer) if part)
        return f"{self.file or 'the PCA basis'} ({k} components of {channels} channels{', ' + of if of else ''})"


def pca_basis(features: Features | Sequence[FeatureMap], k: int = 3, origin: str = "", network: str = "") -> Basis:
    """The k directions along which features of length 1 vary most, each with a sign that is a rule's and not chance's.

    A component's loadings have a sum of 0 or more (ours). Measured on six networks (c3 of five trained tiny ones, c5 of
    a random ResNet-18) and 60 photos: to leave out half of the photos flips 6 % of the first three components under
    this rule, 21 % where the sign is that of the skewness, 27 % where it is that of the largest loading; to leave out
    one photo flips 1, 3 and 3 %. (Other fixed weights than 1 do as well: a component flips if it turns across their
    plane.) No rule is immune, and components of nearly the same variance change places: colours that must stay are
    those of a stored basis.

    Exact, from the covariance in float64: nothing is drawn, and the order of the images matters only to rounding.

    Args:
        features: ``(n, C)``, or maps of images, of which every cell counts once.
        k: 3 for colours, 2 for a picture. origin, network: kept with the basis.

    Raises:
        ValueError: fewer than k + 1 features or than k channels, maps of different layers, features that are not finite
            or all the same.
    """
    if isinstance(features, np.ndarray | Tensor):
        layer = ""
    else:
        if not features:
            raise ValueError("a PCA basis needs the feature map of at least one image")
        check_same_layer(layer_of(fmap) for fmap in features)
        layer = features[0].layer
    parts = partial(_parts, features)
    mean, components, explained = principal_axes(parts, k)
    low, high = np.full(k, -1, np.float32), np.ones(k, np.float32)
    basis = Basis(mean, components, low, high, explained, layer, origin, network)
    with one_thread():
        values = np.concatenate([(part - mean) @ components.T for part in parts()])
    low, high = np.quantile(values, _QUANTILES, axis=0).astype(np.float32)
    # The range of rounding would be colourful noise; [−1, 1] makes such a channel an even grey.
    something = (explained > _NOTHING) & (high > low)
    return replace(basis, low=np.where(something, low, basis.low), high=np.where(something, high, basis.high))


def principal_axes(parts: Callable[[], Iterable[np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean ``(C,)``, first k principal axes ``(k, C)`` and shares of the variance ``(k,)`` of unit rows; all fp32.

    Args:
        parts: gives the rows ``(n, C)`` in several arrays, the same each time; they are asked for twice.

    Raises:
        ValueError: k is below 1, there are fewer than k + 1 rows or k channels, or all rows are the same.
    """
    from scipy.linalg import eigh

    total, n = np.float64(0), 0
    for part in parts():
        total, n = total + part.sum(axis=0, dtype=np.float64), n + len(part)
    mean = total / n
    if not 1 <= k <= min(n - 1, len(mean)):
        raise ValueError(
            f"{n} features of {len(mean)} channels have at most {min(n - 1, len(mean))} principal components, not {k}"
        )
    covariance = np.zeros((len(mean), len(mean)))
    with one_thread():
        for rows in _chunks(parts()):
            centred = rows - mean
            covariance += centred.T @ centred
        covariance /= n
        if (variance := float(np.trace(covariance))) < _CONSTANT:
            raise ValueError(f"all {n} features are the same, up to their length: they have no principal components")
        values, axes = eigh(covariance, subset_by_index=(len(mean) - k, len(mean) - 1))
    components = axes.T[::-1]
    components = components * np.where(components.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    explained = np.maximum(values[::-1], 0) / variance
    return mean.astype(np.float32), components.astype(np.float32), explained.astype(np.float32)


def _parts(features: Features | Sequence[FeatureMap]) -> Iterator[np.ndarray]:
    """Unit rows, image by image: all in one array could be too much."""
    if isinstance(features, np.ndarray | Tensor):
        yield unit_rows(features)
    else:
        yield from (unit_cells(fmap) for fmap in features)


def _chunks(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows in float64, in arrays of about ``_AT_ONCE``: a product of few rows would cost more to add up."""
    held: list[np.ndarray] = []
    for part in parts:
        for start in range(0, len(part), _AT_ONCE):
            held.append(part[start : start + _AT_ONCE].astype(np.float64))
            if sum(map(len, held)) >= _AT_ONCE:
                yield np.concatenate(held)
                held = []
    if held:
        yield np.concatenate(held)


def project(features: Features | FeatureMap, basis: Basis) -> np.ndarray:
    """Coordinates ``(n, k)`` fp32 on a basis of features ``(n, C)``, or of a map's cells, row by row.

    Raises:
        ValueError: the basis is of another layer or number of channels; names its file.
    """
    rows = unit_cells(features) if isinstance(features, FeatureMap) else unit_rows(features)
    layer = features.layer if isinstance(features, FeatureMap) else ""
    if (channels := rows.shape[1]) != basis.components.shape[1] or (layer and basis.layer and layer != basis.layer):
        of = f" of layer {layer}" if layer else ""
        raise ValueError(f"{basis} does not fit features{of} of {channels} channels: make a new one from them")
    with one_thread():
        return (rows - basis.mean) @ basis.components.T


def to_rgb(fmap: FeatureMap, basis: Basis) -> np.ndarray:
    """A map's cells as colours ``(h, w, 3)`` uint8: red, green, blue are the components 1, 2, 3, from low to high.

    Values beyond the basis's range are cut off.

    Raises:
        ValueError: the basis has no three components, or does not fit the map.
    """
    if len(basis.components) != 3:
        raise ValueError(f"{basis} has no three components: colours need one each for red, green and blue")
    values = (project(fmap, basis) - basis.low) / (basis.high - basis.low)
    return (values.clip(0, 1) * 255).round().astype(np.uint8).reshape(*fmap.shape, 3)


_ARRAYS = ("mean", "components", "low", "high", "explained")
_TEXTS = ("layer", "origin", "network")


def save_basis(basis: Basis, file: str | Path) -> None:
    """Write a basis as NPZ; ``load_basis`` reads it."""
    with Path(file).open("wb") as stream:  # not by name: NumPy would append .npz to one without
        arrays = {name: np.asarray(getattr(basis, name)) for name in (*_ARRAYS, *_TEXTS)}
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def load_basis(file: str | Path) -> Basis:
    """A stored basis; nothing in the file is executed.

    Raises:
        ValueError: the file is missing, or no basis.
    """
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"there is no PCA basis {file}: plrc embed --method rgb --keep-basis {file} makes one")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name], dtype=np.float32) for name in _ARRAYS}
            layer, origin, network = (str(stored[name]) for name in _TEXTS)
        k, channels = arrays["components"].shape
        if arrays["mean"].shape != (channels,) or any(arrays[name].shape != (k,) for name in _ARRAYS[2:]):
            raise ValueError("its arrays do not fit together")
    except Exception as error:  # on junk NumPy raises almost anything
        raise ValueError(f"{file} is no PCA basis that --keep-basis wrote ({type(error).__name__}: {error})") from error
    return Basis(**arrays, layer=layer, origin=origin, network=network, file=file)
