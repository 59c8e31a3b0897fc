"""An image to click, in a cell: what is like the place, by one network or by several side by side.

The viewer is that of the app's first view (``app/static/panels.js``). Python keeps the feature maps: a
click is one matrix product, no network runs. Where no widget can run (GitHub, exported HTML) a figure is seen instead.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import anywidget
import torch
import traitlets
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from app.scenes import IMAGE, image_of, panel, script, style
from plrc import figures
from plrc.analysis import DenseEncoder, FeatureMap, prompt
from plrc.analysis.features import DEFAULT_SIZE
from plrc.figures import Scale
from plrc.views.session import named

_RENDER = """
function render({ model, el }) {
  const root = el.appendChild(document.createElement("div"));
  root.style.padding = "4px"; // a cell's output cuts off what stands beyond it, such as the ring of the focus
  const view = window.plrc.panels(root, (event) => model.send(event));
  const show = () => view.show({ ...model.get("scene"), ...model.get("still") });
  model.on("change:scene", show);
  show();
  return () => model.off("change:scene", show);
}
export default { render };
"""
_DPI = 150  # of the figure that stands in for the widget


class Click(anywidget.AnyWidget):
    """The widget; ``click`` makes one.

    Attributes:
        image: RGB. fmaps: network → its feature map of the image.
        points: ``[x, y, sign]`` in the image frame, sign −1 for what is *not* meant; follows the clicks, may be set.
        auto_range: colours from the maps' own values, not those of [−1, 1] ([−2, 2] with negative points); may be set.
        scene, still: what the page shows, see ``app/static/panels.js``.
    """

    _esm = script(["panels"]) + _RENDER
    _css = style()

    scene = traitlets.Dict().tag(sync=True)
    still = traitlets.Dict().tag(sync=True)
    points: Any = traitlets.List()
    auto_range = traitlets.Bool(False)

    def __init__(self, image: Image.Image, fmaps: dict[str, FeatureMap]) -> None:
        self.image, self.fmaps = image, fmaps
        super().__init__(still={"image": image_of(image) | {"name": "image"}})
        self.on_msg(lambda _, event, __: self._act(event))
        self.observe(lambda _: self._show(), ["points", "auto_range"])

    @property
    def maps(self) -> dict[str, Tensor]:
        """Network → ``(h, w)``: how alike each cell is to the points (``plrc.analysis.prompt``); none without any."""
        meant, not_meant = self._places(1), self._places(-1)
        if not len(meant):
            return {}
        return {name: prompt(fmap, meant, not_meant).cpu() for name, fmap in self.fmaps.items()}

    def figure(self) -> Figure:
        """What is seen, as a figure: to be saved, and where no widget can run.

        Raises:
            ValueError: no point is asked about.
        """
        maps = self.maps
        if not maps:
            raise ValueError("there is no map without a point: click the picture, or set points to [[0.5, 0.5, 1]]")
        scale = self._scale(maps)
        return figures.affinity_sheet(
            [self.image],
            [self._places(1)],
            {name: [values] for name, values in maps.items()},
            negatives=[self._places(-1)],
            captions={name: _caption(values) for name, values in maps.items()},
            quantity=scale.quantity,
            limits=(scale.low, scale.high),
            extents={name: [self.fmaps[name].extent] for name in maps},
        )

    def _places(self, sign: int) -> Tensor:
        """The points ``(n, 2)`` of a sign."""
        return torch.tensor([[x, y] for x, y, mine in self.points if mine == sign]).reshape(-1, 2)

    def _act(self, event: dict[str, Any]) -> None:
        """Takes an event of the viewer."""
        self.points = [[point["x"], point["y"], -1 if point["negative"] else 1] for point in event["points"]]

    def _show(self) -> None:
        maps = self.maps
        panels = [IMAGE | {"title": name} for name in self.fmaps]  # without maps they stay where they are
        if maps:
            scale = self._scale(maps)
            panels = [panel(name, _caption(of), of, self.fmaps[name], scale) for name, of in maps.items()]
        points = [{"x": x, "y": y, "negative": sign < 0} for x, y, sign in self.points]
        self.scene = {"panels": [IMAGE, *panels], "points": points}

    def _scale(self, maps: dict[str, Tensor]) -> Scale:
        """One for all maps, so that they can be compared."""
        signed = len(self._places(-1)) > 0
        quantity, reach = ("positive − negative", 2.0) if signed else ("cosine", 1.0)
        limits = None if self.auto_range else (-reach, reach)
        return figures.scale_of(quantity, limits, [values.numpy() for values in maps.values()])

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"Click(a picture of {width} × {height} pixels by {', '.join(self.fmaps)})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget, and the figure for viewers that run none."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None or not self.maps:
            return bundle
        stream = io.BytesIO()
        self.figure().savefig(stream, format="png", dpi=_DPI)
        return {**bundle[0], "image/png": base64.b64encode(stream.getvalue()).decode("ascii")}, bundle[1]


def click(
    image: Image.Image,
    encoders: DenseEncoder | Sequence[DenseEncoder],
    points: Sequence[tuple[float, float]] = ((0.5, 0.5),),
    layer: str | None = None,
    size: int = DEFAULT_SIZE,
    auto_range: bool = False,
) -> Click:
    """A picture to click, and how alike each cell is to what was clicked, a map for each network.

    Args:
        image: RGB. encoders: one network, or several, of any kinds, which answer the same clicks.
        points: that are asked about at first, ``(x, y)`` in the image frame. auto_range: as of ``Click``.
        layer, size: as of ``DenseEncoder.features``.

    Raises:
        ValueError: a network has no such layer.
    """
    networks = named([encoders] if isinstance(encoders, DenseEncoder) else encoders)
    widget = Click(image, {name: network.features(image, layer, size) for name, network in networks.items()})
    widget.auto_range = auto_range
    widget.points = [[x, y, 1] for x, y in points]
    return widget


def _caption(values: Tensor) -> str:
    return f"{values.min():.2f} to {values.max():.2f}".replace("-", "−")
