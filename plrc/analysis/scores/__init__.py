"""Numbers beside the pictures, each with its count, a bootstrap interval and trivial baselines to stand beside it."""

from plrc.analysis.scores.bootstrap import Score, bootstrap
from plrc.analysis.scores.keypoints import KeypointScores
from plrc.analysis.scores.neighbours import NeighbourScores, nearest_neighbour_hits
from plrc.analysis.scores.object_scores import ObjectScores
from plrc.analysis.scores.objects import MaskedImage, best_iou, distance_matched_auc, point_auc
from plrc.analysis.scores.scoring import score_table
from plrc.analysis.scores.table import Table
from plrc.analysis.scores.views import ViewPairs, ViewScores, draw_view_pairs, view_match, view_match_by_chance

__all__ = [
    "KeypointScores",
    "MaskedImage",
    "NeighbourScores",
    "ObjectScores",
    "Score",
    "Table",
    "ViewPairs",
    "ViewScores",
    "best_iou",
    "bootstrap",
    "distance_matched_auc",
    "draw_view_pairs",
    "nearest_neighbour_hits",
    "point_auc",
    "score_table",
    "view_match",
    "view_match_by_chance",
]
