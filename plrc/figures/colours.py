"""What colour means what: cosines, regions and the two views."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba_array

# Blue to white to red without the darkest ends: those would be black in a picture's shadows.
COSINE = LinearSegmentedColormap.from_list("cosine", matplotlib.colormaps["RdBu_r"](np.linspace(0.1, 0.9, 17)))

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


def region_colours(regions: np.ndarray | int) -> np.ndarray:
    """RGB in [0, 1] of each region of an integer array: one more axis, of 3."""
    return _REGIONS[regions % len(_REGIONS), :3]
