"""The look of all figures in one place: what a colour means, type and lines; and figures as files.

``LOOK`` is plain, so that the app's JavaScript gets the same table: ``json.dumps(plrc.figures.style.LOOK)``.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.colors import Colormap, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plrc.files import written_whole
from plrc.queries import COLOUR_MAPS

logger = logging.getLogger(__name__)
Limits = tuple[float, float] | float

# Dashes are in widths of their line; [] is a solid line. What colours tell, lines and shapes tell too.
LOOK: dict[str, Any] = {
    # Category or network i has colour i mod 8 and marker i // 8. Okabe and Ito's, without their yellow, which a white
    # page swallows.
    "categories": ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#1a1a1a"],
    "markers": ["o", "^", "s", "D", "v", "P"],
    "other": "#949494",  # what has no category, baselines
    "most": 16,  # categories that are told apart; of more the largest, and the rest has the colour of "other"
    # Region r has colour r mod 16. Found by search (ours): the least distance of two colours is largest over normal
    # sight and three colour blindnesses, and regions beside each other in a grid of 2 … 5 columns differ most.
    "regions": [
        *("#ea8080", "#6a406a", "#806aea", "#955500", "#bfeaaa", "#809500", "#00d4bf", "#eaaa55"),
        *("#2aaaea", "#552aaa", "#d4406a", "#95eaff", "#95002a", "#aa80aa", "#ead400", "#406aaa"),
    ],
    "unmatched": "#999999",  # a region without a counterpart
    "views": [{"colour": "#0072b2", "dash": []}, {"colour": "#d55e00", "dash": [2.4, 1.2]}],
    "matches": {
        "right": {"colour": "#0072b2", "dash": []},
        "wrong": {"colour": "#e69f00", "dash": [3.2, 1.4]},
        "unknown": {"colour": "#7a7f87", "dash": []},
        "hidden": {"colour": "#7a7f87", "dash": [0.8, 1.6]},  # the other view does not show the true place
    },
}
CATEGORIES: list[str] = LOOK["categories"]
OTHER: str = LOOK["other"]
DASHES: tuple[Any, ...] = ("solid", (0, (3.5, 1.2)), (0, (1.1, 0.9)))  # of several lines that cross
ROUND = {"steps": [1, 2, 2.5, 5, 10]}  # numbers of an axis
DIVERGING = matplotlib.colormaps["RdBu_r"]
DENSITY, DENSITY_DIFFERENCE = "density (even: 1)", "density difference"  # of a softmax, whatever the number of cells
SIGNED = ("difference", DENSITY_DIFFERENCE, "positive − negative")  # their automatic range has 0 in its middle
GREY = "0.35"  # of small type
PAGE = 7.0  # inches, the text width of a two-column paper

_STYLE: dict[str, Any] = {
    "font.size": 6, "axes.titlesize": 7, "axes.titlepad": 3, "axes.labelsize": 6, "axes.labelpad": 2,
    "figure.titlesize": 7.5, "figure.titleweight": "bold", "legend.fontsize": 6, "legend.title_fontsize": 6,
    "xtick.labelsize": 6, "ytick.labelsize": 6, "text.parse_math": False,  # a file's name may have dollars
    "axes.linewidth": 0.4, "axes.edgecolor": "0.3", "axes.axisbelow": True, "grid.linewidth": 0.3, "grid.color": "0.88",
    "xtick.color": "0.3", "ytick.color": "0.3", "xtick.labelcolor": "black", "ytick.labelcolor": "black",
    "xtick.major.size": 2, "ytick.major.size": 2, "xtick.major.width": 0.4, "ytick.major.width": 0.4,
    "xtick.major.pad": 1.5, "ytick.major.pad": 1.5, "lines.solid_capstyle": "butt", "image.interpolation": "nearest",
    "legend.frameon": False, "legend.borderpad": 0, "legend.borderaxespad": 0.3, "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.3, "legend.handlelength": 2.4, "legend.labelspacing": 0.35, "svg.hashsalt": "plrc",
    "pdf.fonttype": 42, "text.hinting": "no_hinting",  # a text is as wide whatever the dots per inch
    "figure.constrained_layout.h_pad": 0.035, "figure.constrained_layout.w_pad": 0.035,
    "figure.constrained_layout.hspace": 0.0, "figure.constrained_layout.wspace": 0.0,
}  # fmt: skip
_SCRIPTS = (  # fonts of Chinese, Japanese and Korean, of Linux, Windows and macOS
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "Microsoft YaHei",
    "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Arial Unicode MS",
)  # fmt: skip
_LOCK = threading.RLock()  # matplotlib's settings are those of the whole process


@cache
def _fonts() -> list[str]:
    """matplotlib's own, and for letters that it lacks those that are installed."""
    there = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _SCRIPTS if name in there)]


@contextmanager
def _style() -> Iterator[None]:
    look = matplotlib.style.context(["default", _STYLE, {"font.family": _fonts()}])
    with _LOCK, look, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # ``save`` says so, once
        yield


styled = _style()  # a decorator: draw in the style of this module, whatever the reader's own settings


def line(look: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of ``LOOK`` that has a colour and dashes, as matplotlib takes it."""
    return {"color": look["colour"], "linestyle": (0, look["dash"]) if look["dash"] else "solid"}


def region_colours(regions: np.ndarray | int) -> np.ndarray:
    """RGB in [0, 1] of each region of an integer array: one more axis, of 3."""
    return to_rgba_array(LOOK["regions"])[regions % len(LOOK["regions"]), :3]


@dataclass(frozen=True)
class Scale:
    """The colours of the values ``low`` … ``high`` of a quantity: "cosine", "difference", ``DENSITY``.

    White means 0, and only that: a range with 0 in its middle goes from blue over white to red, any other has the
    colours of ``colour_map``, in even steps of lightness. beyond: the end outside of which values lie and have its
    colour: "neither", "min", "max" or "both".
    """

    quantity: str = "cosine"
    low: float = -1.0
    high: float = 1.0
    beyond: str = "neither"
    colour_map: str = COLOUR_MAPS[0]

    @property
    def colours(self) -> Colormap:
        return DIVERGING if self.low == -self.high else matplotlib.colormaps[self.colour_map]

    def ticks(self, most: int) -> list[float]:
        """Both ends, and at most so many steps of round numbers between them."""
        inner = MaxNLocator(most, **ROUND).tick_values(self.low, self.high)
        margin = 0.5 / most * (self.high - self.low)
        between = [float(t) for t in inner if self.low + margin < t < self.high - margin]
        return [self.low, *between, self.high]

    def labels(self, ticks: Sequence[float]) -> list[str]:
        """Numbers to a hundredth of the range."""
        digits = max(0, 2 + math.floor(-math.log10(self.high - self.low)))
        return [number(round(t, digits)) for t in ticks]


def scale_of(
    quantity: str, limits: Limits | None, maps: Iterable[np.ndarray], colour_map: str = COLOUR_MAPS[0]
) -> Scale:
    """The one scale of all maps of a figure.

    limits: the range; None: from the smallest to the largest value of all maps; a share, 0.02: without as many of the
    smallest and of the largest. The last two have 0 in their middle if the quantity is one of ``SIGNED``, and reach
    around the value of a constant map. Raises a ValueError if the limits are no range and no share below 0.5, or None
    or a share where there is no finite value to find one.
    """
    values = np.concatenate([np.zeros(0), *map(np.ravel, maps)])
    values = values[np.isfinite(values)]
    if limits is not None and not isinstance(limits, float):
        low, high = map(float, limits)
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"limits are a range (low, high), low < high, or None for an automatic one; not {limits}")
    elif not len(values):
        raise ValueError(f"there is no finite {quantity} to take a range from: give limits")
    elif not 0 <= (limits or 0.0) < 0.5:
        raise ValueError(f"limits of {limits} are no share of the values at each end: give 0.02, say")
    else:
        low, high = np.quantile(values, (limits or 0.0, 1 - (limits or 0.0))).tolist()
        if quantity in SIGNED:
            high = max(-low, high)
            low = -high
        if high - low <= 1e-6 * max(abs(low), abs(high)):
            around = abs(high) / 2 or 1.0
            low, high = low - around, high + around
            if quantity == "cosine":
                low, high = max(low, -1.0), min(high, 1.0)
    slack = 1e-5 * (high - low)
    under, over = (values < low - slack).any(), (values > high + slack).any()
    return Scale(quantity, low, high, (("neither", "max"), ("min", "both"))[int(under)][int(over)], colour_map)


def number(value: float, digits: str = ".6g") -> str:
    """A number with a minus sign; a dash where it is not finite."""
    return f"{value + 0.0:{digits}}".replace("-", "−") if math.isfinite(value) else "–"


@styled
def save(figure: Figure, file: str | Path, dpi: int = 150) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes. Makes the folder if need be.

    file: its suffix says the format, .png, .pdf or .svg. dpi: of a PNG, and of images inside the others. Raises a
    ValueError for another suffix, an OSError that names the file if it cannot be written there.
    """
    file = Path(file)
    no_dates: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    if file.suffix not in no_dates:
        raise ValueError(f"a figure can be a .png, .pdf or .svg file, not {file.name}")
    with written_whole(file) as unfinished, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figure.savefig(unfinished, format=file.suffix[1:], dpi=dpi, metadata=no_dates[file.suffix])
    lacking = dict.fromkeys(re.findall(r"Glyph (\d+) .*?missing", " ".join(str(one.message) for one in told)))
    if lacking:
        some = " ".join(chr(int(letter)) for letter in [*lacking][:5])
        logger.warning("%s: letters that no font here has are boxes (%s): install Noto Sans CJK, say", file.name, some)
