"""A mean over images and how far it may be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Score:
    """A mean over images, with its 95 % bootstrap interval; ``n`` images (the unit that is resampled).

    Of one image nothing is known of the spread: ``low`` and ``high`` are not numbers.
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]" if self.n > 1 else f"{self.mean:.3f} (n = 1)"


def bootstrap(values: Sequence[float], seed: int = 0) -> Score:
    """Mean of one value an image and the 2.5 % and 97.5 % quantiles of the means of 1000 resamples of the images.

    One image has no interval: it is not a number.

    Raises:
        ValueError: there is no value.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ValueError("there is no image to score")
    if len(array) == 1:
        return Score(float(array[0]), float("nan"), float("nan"), 1)
    picks = np.random.default_rng(seed).integers(len(array), size=(_RESAMPLES, len(array)))
    low, high = np.quantile(array[picks].mean(axis=1), (0.025, 0.975))
    return Score(float(array.mean()), float(low), float(high), len(array))


def score_of(values: Sequence[float]) -> Score | None:
    """The bootstrap of what there is; None where there is nothing."""
    return bootstrap(values) if len(values) else None
