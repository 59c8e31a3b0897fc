"""The view *Point affinity*: click an image, see what is like that place, by up to three networks side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr

from plrc.options import Point
from plrc.pretrained.loading import split_branch, split_epoch, stored_epochs
from plrc.queries import Affinity, Query
from plrc.views.run import nearest

from .scenes import affinity_scene, asking, image_of, packed
from .tab import PROMPT, Tab, lines, showing


class AffinityTab(Tab):
    name, title, kind, viewer = "affinity", "Point affinity", Affinity, "panels"
    fixed: ClassVar = {"together": True, "to": (), "most": None}
    top: ClassVar = {"images": 1, "checkpoints": 2}
    below: ClassVar = ("difference", "colour_range", "layer", "size")
    words: ClassVar = {
        "colour_range": {
            "label": "Range of the colours",
            "info": "shared: of all maps; percentiles: without their outer 2 %; full: −1 to 1.",
        },
    }

    def begin(self) -> Mapping[str, Any]:
        return {"finer": self.bench.finer}

    def build(self) -> None:
        super().build()
        asked = self._numbered([self._epoch, *self.controls.values()])
        asked["outputs"] = [self.controls["checkpoints"], *self.outputs]
        self._epoch.input(self._turn, **asked | PROMPT)

    def above(self) -> list[Any]:
        told = "Of the last chosen checkpoint of each run; 0: untrained."
        self._epoch = gr.Slider(0, 1, step=1, label="Epoch", info=told, visible=False, elem_id="affinity-epoch")
        return [self._epoch]

    def drawings(self, query: Affinity) -> list[Any]:
        """The maps by each network, and their difference if it is wanted."""
        found = [self.bench.draw(replace(query, difference=False))]
        return [*found, *([self.bench.draw(query)] if query.difference and len(query.checkpoints) > 1 else [])]

    def show(self, query: Affinity, still: bool = True) -> list[Any]:
        if not query.images or not query.checkpoints:
            return [showing(scene=None), "", "", "", gr.Slider(visible=False)]
        drawings = self.drawings(query)
        answer = next(iter(drawings[0].columns.values()))[0]  # its points are known, also where none was given
        points = [" ".join(str(Point(x, y)) for x, y in of.tolist()) for of in answer.asked]
        image = {"still": {"image": image_of(answer.image.image) | {"name": answer.image.name}}} if still else {}
        slider = gr.Slider(visible=False)
        if runs := _runs(query.checkpoints):
            every = sorted({epoch for _, stored, _ in runs.values() for epoch in stored})
            (_, _, epoch), *_ = runs.values()
            slider = gr.Slider(0, every[-1], epoch, step=math.gcd(*every), visible=True)
        return [showing(scene=affinity_scene(drawings), **image), lines(drawings[-1]), *points, slider]

    def act(self, event: dict[str, Any], query: Affinity) -> list[Any]:
        """Other points, by a click; the viewer has the image. Or the feature maps that it lacks, so that it can draw
        maps by itself."""
        if "points" in event:
            return self.show(asking(query, event), still=False)
        (drawing, *_) = self.drawings(replace(query, difference=False))
        return [showing(live=packed(drawing, event["lacks"])), *self.nothing[1:]]

    def _turn(self, number: int, answered: dict[str, int], epoch: int, *values: Any) -> list[Any]:
        """The same by the checkpoints of another epoch."""
        chosen = snapped = gr.skip()
        try:
            query = self.query(values)
            self.bench.check(Query(checkpoints=query.checkpoints))
            checkpoints, runs = list(query.checkpoints), _runs(query.checkpoints)
            every = {epoch for _, stored, _ in runs.values() for epoch in stored}
            snapped = gr.skip() if epoch in every else gr.Slider(value=nearest(every, epoch))
            for run, (place, stored, _) in runs.items():
                branch = split_branch(checkpoints[place])[1]
                checkpoints[place] = f"{run}@{nearest(stored, epoch)}{f'@{branch}' * bool(branch)}"
            *shown, _ = self.show(replace(query, checkpoints=tuple(checkpoints)), still=False)
            chosen = checkpoints if number >= answered.get(self.name, 0) else chosen
        except ValueError as error:
            *shown, _ = self.fault(error)
        return [chosen, *self._in_turn(number, answered, [*shown, snapped])]


def _runs(checkpoints: Sequence[str]) -> dict[str, tuple[int, list[int], int]]:
    """Run that has stored epochs → the place of its last checkpoint, the epochs that it has, and the one there."""
    found = {}
    for place, checkpoint in enumerate(checkpoints):
        run, epoch = split_epoch(split_branch(checkpoint)[0])
        if stored := stored_epochs(Path(run)):
            found[run] = place, stored, stored[-1] if epoch is None else epoch
    return found
