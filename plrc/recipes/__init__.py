"""Recipes: what ``plrc affinity``, ``correspond``, ``embed`` and ``score`` draw, as functions of numbers and names.

Each gives a ``Drawing``: a figure, its arrays, its numbers, and the recipe from which ``plrc replay`` draws it again.
The command line, the app and the notebooks call the same ones.
"""

from collections.abc import Callable

from plrc.recipes.affinity import AffinityDrawing, draw_affinity
from plrc.recipes.cells import draw_rgb, draw_segments
from plrc.recipes.correspondence import CorrespondenceDrawing, draw_correspondence
from plrc.recipes.desk import Desk
from plrc.recipes.drawing import Drawing, read_recipe, replay
from plrc.recipes.embedding import EmbeddingDrawing, draw_embedding
from plrc.recipes.pictures import Picture, list_pictures, open_picture
from plrc.recipes.run import RunDrawing, draw_run
from plrc.recipes.score import ScoreDrawing, draw_score

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
    "Desk",
    "Drawing",
    "EmbeddingDrawing",
    "Picture",
    "RunDrawing",
    "ScoreDrawing",
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
