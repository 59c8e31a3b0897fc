"""Which colour a value has: the range of a map's values, the name of what they are, and their colour bar's numbers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.ticker import MaxNLocator

from plrc.figures.colours import COSINE, SEQUENTIAL

Limits = tuple[float, float]
DENSITY, DENSITY_DIFFERENCE = "density (even: 1)", "density difference"  # of a softmax, whatever the number of cells
SIGNED = ("difference", DENSITY_DIFFERENCE, "positive − negative")  # an automatic range of these has 0 in its middle
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
BAR = (0.1, 0.08)  # inches in front of the colour bar, and its width


@dataclass(frozen=True)
class Scale:
    """The colours of the values ``low`` … ``high`` of a quantity.

    White means 0, and only that: a range with 0 in its middle goes from blue over white to red, any other from dark
    violet to yellow, so that a reader sees which kind of range it is.

    Attributes:
        quantity: what the values are: "cosine", "difference", ``DENSITY``.
        beyond: at which end values lie outside and have its colour: "neither", "min", "max" or "both".
    """

    quantity: str = "cosine"
    low: float = -1.0
    high: float = 1.0
    beyond: str = "neither"

    @property
    def colours(self) -> Colormap:
        return COSINE if self.low == -self.high else SEQUENTIAL

    @property
    def title(self) -> str:
        """The quantity in lines that fit over the bar, with the power of ten of the numbers beside it."""
        power = f"\n× 10{str(self._power).translate(_SUPERSCRIPTS)}" if self._power else ""
        return textwrap.fill(self.quantity, 11) + power

    @property
    def width(self) -> float:
        """Inches that the bar takes, with the gap before it, its numbers and its title."""
        numbers = 0.09 + 0.055 * max(len(label) for label in self.labels(self.ticks(4)))
        title = 0.052 * max(len(line) for line in self.title.splitlines()) - BAR[1]
        return sum(BAR) + max(0.34, numbers, title)

    def ticks(self, most: int) -> list[float]:
        """Both ends, and at most so many steps of round numbers between them."""
        inner = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        margin = 0.5 / most * (self.high - self.low)
        between = [float(t) for t in inner if self.low + margin < t < self.high - margin]
        return [self.low, *between, self.high]

    def labels(self, ticks: Sequence[float]) -> list[str]:
        """The round numbers between the ends in full, the ends to a hundredth of the range."""
        factor = 10.0**-self._power
        digits = max(0, 2 + math.floor(-math.log10((self.high - self.low) * factor)))
        last = len(ticks) - 1
        numbers = [round(t * factor, digits) if i in (0, last) else t * factor for i, t in enumerate(ticks)]
        return [f"{number + 0.0:.7g}".replace("-", "−") for number in numbers]

    @property
    def _power(self) -> int:
        """Small numbers, such as shares of a softmax over many cells, are told as multiples of a power of ten."""
        largest = max(abs(self.low), abs(self.high))
        return math.floor(math.log10(largest)) if largest < 0.01 else 0


COSINES = Scale()


def scale_of(quantity: str, limits: Limits | None, maps: Iterable[np.ndarray]) -> Scale:
    """The one scale of all maps of a figure.

    Args:
        limits: the range; None: from the smallest to the largest value of all maps, with 0 in the middle if the
            quantity is one of ``SIGNED``. A constant map gets a range around its value.

    Raises:
        ValueError: the limits are no range, or None where there is no finite value to find one.
    """
    values = np.concatenate([np.zeros(0), *(np.ravel(m) for m in maps)])
    values = values[np.isfinite(values)]
    if limits is not None:
        low, high = (float(limit) for limit in limits)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"limits are a range (low, high), low < high, or None for an automatic one; not {limits}")
        slack = 1e-5 * (high - low)
        under, over = (values < low - slack).any(), (values > high + slack).any()
        return Scale(quantity, low, high, {(0, 0): "neither", (1, 0): "min", (0, 1): "max"}.get((under, over), "both"))
    if not len(values):
        raise ValueError(f"there is no finite {quantity} to take a range from: give limits")
    low, high = float(values.min()), float(values.max())
    if quantity in SIGNED:
        high = max(-low, high)
        low = -high
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        around = abs(high) / 2 or 1.0
        low, high = low - around, high + around
    return Scale(quantity, low, high)
