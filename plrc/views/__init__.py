"""Recipes: what ``plrc affinity``, ``correspond``, ``embed`` and ``score`` draw, as functions of numbers and names.

Each gives a ``Drawing``: a figure, its arrays, its numbers, and the recipe from which ``plrc replay`` draws it again.
The command line, the app and the notebooks call the same ones.
"""

from collections.abc import Callable

from plrc.views.affinity import AffinityDrawing, draw_affinity
from plrc.views.cells import draw_rgb, draw_segments
from plrc.views.correspondence import CorrespondenceDrawing, draw_correspondence
from plrc.views.drawing import Drawing, read_recipe, replay
from plrc.views.embedding import EmbeddingDrawing, draw_embedding
from plrc.views.pictures import Picture, list_pictures, open_picture
from plrc.views.run import RunDrawing, draw_run
from plrc.views.score import ScoreDrawing, draw_score
from plrc.views.session import Session

KINDS: dict[str, Callable[..., Drawing]] = {
    "affinity": draw_affinity,
    "correspondence": draw_correspondence,
    "embedding": draw_embedding,
    "rgb": draw_rgb,
    "run": draw_run,
    "score": draw_score,
    "segments": draw_segments,
}

__all__ = [
    "KINDS",
    "AffinityDrawing",
    "CorrespondenceDrawing",
    "Drawing",
    "EmbeddingDrawing",
    "Picture",
    "RunDrawing",
    "ScoreDrawing",
    "Session",
    "draw_affinity",
    "draw_correspondence",
    "draw_embedding",
    "draw_rgb",
    "draw_run",
    "draw_score",
    "draw_segments",
    "list_pictures",
    "open_picture",
    "read_recipe",
    "replay",
]
