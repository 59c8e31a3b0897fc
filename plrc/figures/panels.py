"""What fills a panel: a picture or a map of values, and the marks of points upon it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from plrc.figures.scales import COSINES, Scale

Extent = np.ndarray | Tensor | Sequence[float]  # how far right and down a map reaches, the picture being 1
WHOLE = (1.0, 1.0)
OUTLINE = 0.5  # share of its colour's light that a map loses at the picture's strongest edges
_PLAIN = 75  # per cent of a picture that show a map's own colours: only the strongest edges are drawn


def as_array(values: np.ndarray | Tensor | Sequence[float]) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def as_pixels(image: np.ndarray | Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)


def size(axes: Axes) -> np.ndarray:
    """Width and height of a panel in the pixels of its picture."""
    return np.array([axes.get_xlim()[1], axes.get_ylim()[0]])


def size_in_points(axes: Axes) -> np.ndarray:
    """Width and height of a panel in points, the unit of type."""
    return 72 * np.array(axes.get_window_extent().size) / axes.figure.dpi


def lay(axes: Axes, values: np.ndarray, label: str, extent: Extent = WHOLE, **how: Any) -> None:
    """An array over the whole panel, or beyond it where its extent does: its cells are equal shares of the extent."""
    right, below = as_array(extent) * size(axes)
    axes.imshow(values, extent=(0, right, below, 0), origin="upper", aspect="auto", label=label, **how)


def fill(
    axes: Axes,
    pixels: np.ndarray,
    values: np.ndarray | Tensor | None = None,
    scale: Scale = COSINES,
    extent: Extent = WHOLE,
) -> None:
    """A picture ``(H, W, 3)``, or a map ``(h, w)`` of values under its outlines."""
    h, w = pixels.shape[:2]
    axes.set(xlim=(0, w), ylim=(h, 0), xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.4, color="0.3")
    if values is None:
        lay(axes, pixels, "picture")
    else:
        ends = {"vmin": scale.low, "vmax": scale.high}
        lay(axes, as_array(values), "map", extent, cmap=scale.colours, interpolation="nearest", **ends)
        lay(axes, outlines(pixels), "outlines")


def mark(axes: Axes, point: np.ndarray, number: str = "", negative: bool = False) -> None:
    """A ring around a point of the panel's frame, seen on any ground, and perhaps a number beside it.

    White in black; of a negative point black in white, filled, with a bar across it.
    """
    x, y = point * size(axes)
    ink, rim = ("black", "white") if negative else ("white", "black")
    axes.plot(
        x, y, "o", markersize=5.5, markerfacecolor=rim if negative else "none", markeredgecolor=ink,
        markeredgewidth=1.2, path_effects=[withStroke(linewidth=2.4, foreground=rim)], clip_on=False, zorder=6,
        label="negative point" if negative else "point",
    )  # fmt: skip
    if negative:
        axes.plot(x, y, "_", markersize=5, markeredgecolor=ink, markeredgewidth=1.2, clip_on=False, zorder=6)
    if number:
        right, below = point[0] < 0.85, point[1] * size_in_points(axes)[1] < 11
        axes.annotate(
            number, (x, y), (4.5 if right else -4.5, -2.5 if below else 2.5), textcoords="offset points", fontsize=7.5,
            ha="left" if right else "right", va="top" if below else "bottom", color="white", weight="bold",
            path_effects=[withStroke(linewidth=1.8, foreground="black")], zorder=7,
        )  # fmt: skip


def outlines(pixels: np.ndarray, opacity: float = OUTLINE) -> np.ndarray:
    """The strongest edges of a picture ``(H, W, 3)``, black ``(H, W, 4)`` uint8, the very strongest of that opacity.

    Edges and not the picture itself: its own light and dark would pass for values of the map.
    """
    from scipy import ndimage

    light = pixels @ np.array([0.299, 0.587, 0.114])
    light = ndimage.gaussian_filter(light, max(light.shape) / 200)
    edges = np.hypot(ndimage.sobel(light, axis=0), ndimage.sobel(light, axis=1))
    low, high = np.percentile(edges, (_PLAIN, 99))
    black = np.zeros((*pixels.shape[:2], 4), dtype=np.uint8)
    black[..., 3] = (255 * opacity * ((edges - low) / max(high - low, 1)).clip(0, 1)).round()
    return black
