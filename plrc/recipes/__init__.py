"""Recipes: what ``plrc affinity``, ``correspond`` and ``embed`` draw, as functions of plain numbers and names.

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

KINDS: dict[str, Callable[..., Drawing]] = {
    "affinity": draw_affinity,
    "correspondence": draw_correspondence,
    "embedding": draw_embedding,
    "rgb": draw_rgb,
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
    "draw_affinity",
    "draw_correspondence",
    "draw_embedding",
    "draw_rgb",
    "draw_segments",
    "list_pictures",
    "open_picture",
    "read_recipe",
    "replay",
]
