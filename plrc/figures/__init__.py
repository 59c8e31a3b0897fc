"""Figures: arrays in, a matplotlib ``Figure`` out; never a model.

Panels are drawn in the pixels of their picture, and a picture fills its panel whatever its resolution: cell
``(row i, column j)`` of an ``h × w`` map covers ``j/w … (j + 1)/w`` of the width, as ``plrc.geometry`` has it. Cosines
always have the colours of [−1, 1], so that figures can be compared; a map's cells are drawn as the cells they are,
under a picture's shadows, which darken a colour but do not change its hue.

Lengths of a layout are inches, sizes of type and lines points; a figure is at most a page wide (7 inches) unless it
has more columns than that can hold. ``Figure`` is constructed directly: pyplot would keep every figure of a server.
"""

from matplotlib.figure import Figure

from plrc.figures.example import Example
from plrc.figures.layouts import affinity, affinity_sheet, views_and_affinity
from plrc.figures.saving import save

__all__ = ["Example", "Figure", "affinity", "affinity_sheet", "save", "views_and_affinity"]
