"""What an image scores, the mean over images, and how far it may be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, eq=False)
class Sample:
    """What a score is the mean of, and what its bootstrap draws from: a value an image.

    All columns are of the same n images, so that they can be compared in pairs.

    Attributes:
        images: their n numbers in the data set. columns: of each descriptor, and last by chance, n values; empty where
            it has none. asked: how many images were looked at. why: those that are not among the n have no value, a
            clause.
    """

    images: list[int]
    columns: list[list[float]]
    asked: int
    why: str

    def scores(self) -> list[Score | None]:
        """The bootstrap of each column; None where there is nothing."""
        return [bootstrap(values) if values else None for values in self.columns]


def scores_of(samples: Mapping[str, Sample]) -> dict[str, list[Score | None]]:
    """A measure's name → a score a column; of measures that have one."""
    return {measure: sample.scores() for measure, sample in samples.items() if any(sample.columns)}


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
