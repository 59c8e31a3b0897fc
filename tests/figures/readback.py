"""What tests read back from a figure: panels, marks, lines and type."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from plrc.figures.style import styled
from plrc.geometry import cell_centres


def picture(h: int, w: int) -> np.ndarray:
    """Channels code the place: red is x, green is y."""
    return (np.dstack((cell_centres(h, w).numpy(), np.zeros((h, w)))) * 255).astype(np.uint8)


def ramp(h: int, w: int) -> np.ndarray:
    """A map whose every cell has its own value in (−1, 1)."""
    return np.linspace(-0.98, 0.98, h * w).reshape(h, w)


def panels(figure: Figure, label: str) -> list[Any]:
    """The panels that show an array of this kind, in the order of drawing."""
    return [axes for axes in figure.findobj(Axes) if any(image.get_label() == label for image in axes.images)]


def shown(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[-1].get_array())


def labelled(figure: Figure | Axes, label: str) -> list[Any]:
    return figure.findobj(lambda artist: artist.get_label() == label)


def one(figure: Figure | Axes, label: str) -> Any:
    (found,) = labelled(figure, label)
    return found


def marks(axes: Axes, label: str = "point") -> list[tuple[float, float]]:
    return [tuple(point) for line in axes.lines if line.get_label() == label for point in line.get_xydata()]


def bar(figure: Figure) -> Axes:
    """The colour bar."""
    return one(figure, "<colorbar>")


@styled
def rendered(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def pixel(pixels: np.ndarray, axes: Axes, x: float, y: float) -> np.ndarray:
    """The colour of a drawn figure at a place of a panel, in [0, 1]."""
    across, up = axes.transData.transform((x, y))
    return pixels[pixels.shape[0] - 1 - int(up), int(across)] / 255


def texts(figure: Figure) -> list[Text]:
    """What is written, less the numbers of axes that lie beyond their ends."""
    beyond = set()
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if not low - 1e-9 <= tick.get_loc() <= high + 1e-9]
        beyond |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in beyond]


def words(figure: Figure) -> set[str]:
    return {" ".join(text.get_text().replace("\xa0", "\0").split()).replace("\0", "\xa0") for text in texts(figure)}
