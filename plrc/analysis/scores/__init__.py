"""Numbers beside the figures, each with its count, a bootstrap interval and trivial baselines to stand beside it."""

from plrc.analysis.scores.objects import best_iou, point_auc
from plrc.analysis.scores.table import Score, ScoredImage, Table, Values, bootstrap, result, score_table, values_of

__all__ = ["Score", "ScoredImage", "Table", "Values", "best_iou", "bootstrap", "point_auc"]
__all__ += ["result", "score_table", "values_of"]
