"""What colour means what: values, regions, the two views, categories and checkpoints."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba_array

# Blue to white to red without the darkest ends, in which a picture's outlines would be lost.
COSINE = LinearSegmentedColormap.from_list("cosine", matplotlib.colormaps["RdBu_r"](np.linspace(0.1, 0.9, 17)))

# Dark violet over green to yellow, for ranges without a middle. Also without the darkest end.
SEQUENTIAL = LinearSegmentedColormap.from_list("range", matplotlib.colormaps["viridis"](np.linspace(0.12, 1, 17)))

# Region r has colour r mod 16. Found by search (ours): the least distance of two colours is largest over normal sight
# and three colour blindnesses, and regions beside each other in a grid of 2 … 5 columns differ most.
_REGIONS = to_rgba_array(
    [
        *("#ea8080", "#6a406a", "#806aea", "#955500", "#bfeaaa", "#809500", "#00d4bf", "#eaaa55"),
        *("#2aaaea", "#552aaa", "#d4406a", "#95eaff", "#95002a", "#aa80aa", "#ead400", "#406aaa"),
    ]
)

# Colour and line of each view: safe colours (Okabe and Ito), told apart in grey too.
VIEWS = (("#0072b2", "solid"), ("#d55e00", (0, (2.4, 1.2))))

# Colour and line of a right and a wrong match, told apart in grey by both.
RIGHT = ("#0072b2", "solid")
WRONG = ("#e69f00", (0, (3.2, 1.4)))

# Category or checkpoint i has colour i mod 8: Okabe and Ito's, without their yellow, which a white page swallows.
CATEGORIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#1a1a1a")
OTHER = "0.65"  # grey: baselines, what has no category


def region_colours(regions: np.ndarray | int) -> np.ndarray:
    """RGB in [0, 1] of each region of an integer array: one more axis, of 3."""
    return _REGIONS[regions % len(_REGIONS), :3]
