"""A map and its colours as ``app/static/panels.js`` takes them; for the page and the notebooks' widget."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from torch import Tensor

from plrc.analysis import FeatureMap
from plrc.figures import Scale

STRENGTH = 0.85  # opacity of the colours over the picture, at first
PICTURE: dict[str, Any] = {"title": "picture", "caption": "", "map": None, "scale": None}


def cells(values: Tensor, fmap: FeatureMap) -> dict[str, Any]:
    """A map ``(h, w)`` over the cells of ``fmap``."""
    h, w = values.shape
    # Four digits are more than a colour or a reader can tell.
    shown = [float(f"{value:.4g}") for value in values.flatten().tolist()]
    return {"h": h, "w": w, "values": shown, "extent": fmap.extent.tolist()}


def colours(scale: Scale) -> dict[str, Any]:
    """The scale, and its colours from one end to the other."""
    steps = [to_hex(colour) for colour in scale.colours(np.linspace(0, 1, 256))]
    return {"quantity": scale.quantity, "low": scale.low, "high": scale.high, "colours": steps}
