"""The view *Region correspondence*: what of one image, or of a view of it, a network finds in another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import gradio as gr

from plrc.analysis.scores.table import aligned
from plrc.options import Point
from plrc.queries import Correspondence

from .scenes import matches_scene
from .tab import Tab, lines, showing


class CorrespondenceTab(Tab):
    name, title, kind, viewer = "correspond", "Region correspondence", Correspondence, "matches"
    fixed: ClassVar = {"most": None}
    top: ClassVar = {"images": 1, "other": 1, "regions": 1, "checkpoints": 2}
    below: ClassVar = ("seed", "scale", "size", "mutual", "layer")
    anew: ClassVar = ("images", "other", "seed", "scale")
    words: ClassVar = {
        "other": {"label": "Match with", "info": "Of two views the true places are known.", "none": "two views of it"},
        "regions": {"info": "Matched whole, by their mean features.", "none": "none: match points"},
        "scale": {"label": "Crop scale"},
        "mutual": {"label": "Mutual only"},
    }

    def drawings(self, query: Correspondence) -> list[Any]:
        """All matches; and, where one is chosen, that one, which is its recipe's ``points``."""
        found = [self.bench.draw(replace(query, points=()))]
        return [*found, self.bench.draw(query)] if query.points and not query.regions else found

    def show(self, query: Correspondence) -> list[Any]:
        if not query.images or not query.checkpoints:
            return [showing(scene=None), "", ""]
        (drawing,) = self.drawings(replace(query, points=()))
        scene = matches_scene(drawing, query.points, self.bench.session)
        chosen = "" if scene["chosen"] is None else " ".join(map(str, query.points))  # the view may not show it
        rest = aligned([[name, *(str(row[name]) for row in drawing.rows)] for name in drawing.rows[0]])
        return [showing(scene=scene), f"<details><summary>All numbers</summary>{lines(rest)}</details>", chosen]

    def act(self, event: dict[str, Any], query: Correspondence) -> list[Any]:
        """The point of a match that was chosen, or none; the viewer shows it by itself."""
        return [gr.skip(), gr.skip(), str(Point(*event["place"])) if event["place"] else ""]
