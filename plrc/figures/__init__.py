"""Figures: arrays in, a matplotlib ``Figure`` out; never a model.

Panels are drawn in the pixels of their picture, and a picture fills its panel whatever its resolution: cell
``(row i, column j)`` of an ``h × w`` map covers ``j/w … (j + 1)/w`` of the width, as ``plrc.geometry`` has it, or of
the map's extent where that reaches beyond the picture. Cosines have the colours of [−1, 1] unless told otherwise, so
that figures can be compared, and a colour bar says the range; a map's cells are drawn as the cells they are, under a
picture's outlines: its own light and dark would pass for values. What colours tell, shapes or lines tell too.

Lengths of a layout are inches, sizes of type and lines points; a figure is at most a page wide (7 inches) unless it
has more columns than that can hold. ``Figure`` is constructed directly: pyplot would keep every figure of a server.
"""

from matplotlib.figure import Figure

from plrc.figures.contact import pca_rgb, segments
from plrc.figures.curves import curves
from plrc.figures.detections import DetectedPicture, detections
from plrc.figures.error_types import error_types
from plrc.figures.example import Example
from plrc.figures.intervals import score_chart
from plrc.figures.layouts import affinity, affinity_sheet, views_and_affinity
from plrc.figures.match_sheet import correspondence_sheet
from plrc.figures.matching import PointMatches, correspondence
from plrc.figures.panels import outlines
from plrc.figures.precision_recall import precision_recall
from plrc.figures.region_matrix import region_correspondence
from plrc.figures.saving import save
from plrc.figures.scales import Scale, scale_of
from plrc.figures.scatter import embedding

__all__ = [
    "DetectedPicture",
    "Example",
    "Figure",
    "PointMatches",
    "Scale",
    "affinity",
    "affinity_sheet",
    "correspondence",
    "correspondence_sheet",
    "curves",
    "detections",
    "embedding",
    "error_types",
    "outlines",
    "pca_rgb",
    "precision_recall",
    "region_correspondence",
    "save",
    "scale_of",
    "score_chart",
    "segments",
    "views_and_affinity",
]
