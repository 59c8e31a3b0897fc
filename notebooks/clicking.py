"""An image to click, in a cell: what is like the place, by one network or by several side by side.

The viewer is that of the app's first view (``app/static/panels.js``). It gets the feature maps once, and then follows
the pointer by itself; a click is answered by Python with one matrix product, no network runs. Where no widget can run
(GitHub, exported HTML) a figure is seen instead.
"""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import anywidget
import traitlets

from app.scenes import affinity_scene, asking, image_of, packed, script, style
from plrc.queries import Affinity
from plrc.views import Session, draw
from plrc.views.affinity import AffinityDrawing

_RENDER = """
function render({ model, el }) {
  const root = el.appendChild(document.createElement("div"));
  root.style.padding = "4px"; // a cell's output cuts off what stands beyond it, such as the ring of the focus
  const view = window.plrc.panels(root, (event) => model.send(event));
  const show = () => view.show({ ...model.get("scene"), ...model.get("still") });
  const take = () => view.take(model.get("live"));
  const on = { "change:scene": show, "change:live": take };
  for (const [name, call] of Object.entries(on)) model.on(name, call);
  take(); // what another view of the widget has asked for
  show();
  return () => Object.entries(on).forEach(([name, call]) => model.off(name, call));
}
export default { render };
"""
_DPI = 150  # of the figure that stands in for the widget
_MEGABYTES = 512  # of feature maps


class Click(anywidget.AnyWidget):
    """``Click(Affinity(images=["photo.jpg"], checkpoints=["runs/demo"]))``: one image, and a map for each network.

    Attributes:
        query: what is asked, all points together; its points follow the clicks. It may be set. drawing: the answer,
            with its numbers, arrays and figure. scene, still: what the page shows, live: the feature maps that it has
            asked for, see ``app/static/panels.js``.

    Raises:
        ValueError: as of ``plrc.views.draw``; several images.
    """

    _esm = script(["panels"]) + _RENDER
    _css = style()

    scene = traitlets.Dict().tag(sync=True)
    still = traitlets.Dict().tag(sync=True)
    live = traitlets.Dict().tag(sync=True)
    query = traitlets.Instance(Affinity)
    drawing: AffinityDrawing

    def __init__(self, query: Affinity) -> None:
        self._session = Session(_MEGABYTES)
        super().__init__(query=query)
        self._show()
        asked = next(iter(self.drawing.columns.values()))[0].image
        self.still = {"image": image_of(asked.image) | {"name": asked.name}}
        self.on_msg(lambda _, event, __: self._act(event))
        self.observe(lambda _: self._show(), "query")

    def _act(self, event: dict[str, Any]) -> None:
        """Takes an event of the viewer."""
        if "points" in event:
            self.query = asking(self.query, event)
        else:
            self.live = packed(self.drawing, event["lacks"])

    def _show(self) -> None:
        drawing = draw(replace(self.query, together=True), self._session)
        if (images := len(next(iter(drawing.columns.values())))) > 1:
            raise ValueError(f"one image is clicked, not {images}: name one")
        self.drawing, self.scene = drawing, affinity_scene([drawing])

    def __repr__(self) -> str:
        return f"Click({self.query.images[0]} by {', '.join(self.drawing.columns)})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget, and the figure for viewers that run none."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return bundle
        stream = io.BytesIO()
        self.drawing.figure.savefig(stream, format="png", dpi=_DPI)
        return {**bundle[0], "image/png": base64.b64encode(stream.getvalue()).decode("ascii")}, bundle[1]
