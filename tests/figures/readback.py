"""What tests read back from a figure: panels, marks, lines and type."""

from __future__ import annotations

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from plrc.geometry import cell_centres


def picture(h: int, w: int) -> np.ndarray:
    """Channels code the place: red is x, green is y."""
    centres = cell_centres(h, w).numpy()
    return (np.dstack((centres, np.zeros((h, w)))) * 255).astype(np.uint8)


def panels(figure: Figure, label: str) -> list[Axes]:
    """The panels that show an array of this kind, in the order of drawing."""
    return [axes for axes in figure.axes if any(image.get_label() == label for image in axes.images)]


def labelled(figure: Figure | Axes, label: str) -> list[Artist]:
    return figure.findobj(lambda artist: artist.get_label() == label)


def marks(axes: Axes, label: str = "point") -> list[tuple[float, float]]:
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_label() == label]


def bar(figure: Figure) -> Axes:
    """The colour bar."""
    (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left")]
    return axes


def rendered(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def texts(figure: Figure) -> list[Text]:
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]


def words(figure: Figure) -> set[str]:
    return {text.get_text().replace("\n", " ") for text in texts(figure)}
