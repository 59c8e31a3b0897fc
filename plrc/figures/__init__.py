"""Figures: arrays in, a matplotlib ``Figure`` out; never a model.

The maps of a figure have one range of colours, and a colour bar says it; a map's cells are drawn opaque, beside the
image: over it, its own light and dark would pass for values. What colours tell, shapes or lines tell too. A figure is
at most a page wide (7 inches). ``Figure`` is constructed directly: pyplot would keep every figure of a server.
"""

from matplotlib.figure import Figure

from plrc.figures.affinity import (
    Example,
    Retrieved,
    affinity,
    affinity_sheet,
    feature_colours,
    retrieval,
    views_and_affinity,
)
from plrc.figures.charts import curves, error_types, precision_recall, score_chart, scores_over_epochs
from plrc.figures.detections import DetectedPicture, detections
from plrc.figures.loss import LossPicture, loss
from plrc.figures.matches import correspondence, region_correspondence
from plrc.figures.scatter import embedding
from plrc.figures.style import Scale, save, scale_of

__all__ = [
    "DetectedPicture", "Example", "Figure", "LossPicture", "Retrieved", "Scale", "affinity", "affinity_sheet",
    "correspondence", "curves", "detections", "embedding", "error_types", "feature_colours", "loss", "precision_recall",
    "region_correspondence", "retrieval", "save", "scale_of", "score_chart", "scores_over_epochs", "views_and_affinity",
]  # fmt: skip
