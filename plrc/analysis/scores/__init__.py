"""Numbers beside the figures, each with its count, a bootstrap interval and trivial baselines to stand beside it."""

from plrc.analysis.scores.matching import ViewPairs, draw_view_pairs, view_match, view_match_by_chance
from plrc.analysis.scores.objects import best_iou, distance_matched_auc, point_auc
from plrc.analysis.scores.scoring import ScoredImage, score_table
from plrc.analysis.scores.table import Score, Table, Values, aligned, bootstrap, result

__all__ = [
    "Score",
    "ScoredImage",
    "Table",
    "Values",
    "ViewPairs",
    "aligned",
    "best_iou",
    "bootstrap",
    "distance_matched_auc",
    "draw_view_pairs",
    "point_auc",
    "result",
    "score_table",
    "view_match",
    "view_match_by_chance",
]
