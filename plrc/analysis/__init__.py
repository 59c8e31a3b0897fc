"""What a network knows of its images: maps and scores, tensors in, arrays out.

Questions to a map are named here; embeddings are in ``plrc.analysis.embedding``, scores in ``plrc.analysis.scores``.
"""

from plrc.analysis.affinity import affinity, affinity_difference, density, prompt
from plrc.analysis.correspondence import Matches, match_points, match_regions, match_views, region_affinity
from plrc.analysis.features import DenseEncoder, FeatureMap, region_features

__all__ = ["DenseEncoder", "FeatureMap", "Matches", "affinity", "affinity_difference", "density", "match_points"]
__all__ += ["match_regions", "match_views", "prompt", "region_affinity", "region_features"]
