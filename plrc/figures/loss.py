"""What the losses see of an image: views, regions, points, one point's positives and negatives, affinities, losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plrc.figures import grid
from plrc.figures.affinity import Example, draw_crops, draw_view
from plrc.figures.grid import aspect, fold, halo, mark
from plrc.figures.style import DENSITY, GREY, LOOK, OTHER, PAGE, Scale, line, number, region_colours, scale_of, styled
from plrc.geometry import Crop

KINDS = [line(LOOK["matches"]["right"]), line(LOOK["matches"]["wrong"]), {"color": OTHER, "linestyle": (0, (1, 1))}]
"""The looks of positives, of negatives in the image and of those in other images."""
BINS = 40


class LossPicture(NamedTuple):
    """What the losses see of an image with n points in each view, in regions that both views show.

    image: ``(H, W, 3)`` uint8. crops: of the two views. views: ``(2, S, S, 3)`` uint8, coloured as trained on. regions:
    ``(2, h, w)`` integer, what each cell of each view sees. points: ``(2, n, 2)`` in the view frames; region: ``(n,)``,
    that of each, rising. chosen: one of the points of view 1. cosines: ``(n,)``, of that with those of view 2. kinds:
    what is told apart among its cosines → all of that kind; positives first, then negatives in the image, in others.
    teacher, student: ``(n, n)``, distributions of each point of view 1 over those of view 2. losses: of each
    loss, value, chance, task and meaning.
    """

    image: np.ndarray
    crops: Crop
    views: np.ndarray
    regions: np.ndarray
    points: np.ndarray
    region: np.ndarray
    chosen: int
    cosines: np.ndarray
    kinds: Mapping[str, np.ndarray]
    teacher: np.ndarray
    student: np.ndarray
    losses: Sequence[Mapping[str, Any]]

    @property
    def cosine(self) -> Scale:
        """The colours of all cosines."""
        return scale_of("cosine", None, self.kinds.values())

    @property
    def densities(self) -> dict[str, np.ndarray]:
        """The affinities of teacher and student as densities: 1 where a point is alike to all."""
        return {name: len(of) * of for name, of in (("teacher", self.teacher), ("student", self.student))}

    @property
    def density(self) -> Scale:
        """The colours of the densities: up to what one in a hundred exceeds."""
        both = list(self.densities.values())
        return scale_of(DENSITY, (0.0, max(1.01, float(np.quantile(both, 0.99)))), both)

    @property
    def place(self) -> np.ndarray:
        """The chosen point in the image frame."""
        return self.crops[0].to_image(torch.tensor(self.points[0, self.chosen])[None])[0].numpy()


@styled
def loss(picture: LossPicture, note: str = "") -> Figure:
    """What PLRC trains on, at a glance.

    First row: the image with both crops; each view with its regions (of one colour and number in both; hatched: not
    seen by both, so not trained on) and its points, and a ring around the chosen one. Second row: its cosines with all
    points of view 2, where they lie (rings: positives), and how they spread beside those with points of other images.
    Third row: the affinity of every point of view 1 to every one of view 2, the teacher's and the student's on one
    scale, points ordered by region; and the losses, from 0 to what equal features would have.
    """
    width = PAGE - 0.5
    body, axes = grid.page([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], width)
    cell = width / 3
    _views(axes[0], picture, cell)
    ridge = body.add_subplot(axes[1, 1].get_gridspec()[1, 1:])
    for panel in axes[1, 1:]:
        panel.remove()
    _cosines(axes[1, 0], picture)
    _spread(ridge, picture)
    for panel, (name, values) in zip(axes[2], picture.densities.items(), strict=False):
        _affinity(panel, name, values, picture)
    grid.colour_bar(body, axes[2, :2], picture.density, cell)
    _losses(axes[2, 2], picture.losses, cell)
    return grid.finish(body, note)


def _views(axes: Sequence[Axes], picture: LossPicture, width: float) -> None:
    both = np.unique(picture.region)
    points = np.zeros((2, picture.regions.max() + 1, len(picture.region) // len(both), 2), dtype=np.float32)
    points[:, both] = picture.points.reshape(2, len(both), -1, 2)
    named = {name: getattr(picture, name) for name in ("image", "crops", "views", "regions")}
    example = Example(**named, points=points, query=picture.place, maps={})
    for panel, pixels in zip(axes, (picture.image, *picture.views), strict=True):
        grid.show_picture(panel, pixels)
    draw_crops(axes[0], example)
    mark(axes[0], picture.place[None])
    axes[0].set_title("image, and two crops of it")
    how = f"{points.shape[2]} points are drawn in each region that both views show, in each view anew. "
    how += "Hatched: a region that one view alone shows. " * (not np.isin(picture.regions, both).all())
    words = axes[0].annotate(
        fold(f"{how}Ring: the point looked at below.", width), (0.5, 0), (0, -4), xycoords="axes fraction",
        textcoords="offset points", ha="center", va="top", color=GREY,
    )  # fmt: skip
    words.set_in_layout(aspect(picture.image) < 1.3)  # a wide image leaves room for it
    for v, said in enumerate(("view 1, seen by the student", "view 2, seen by the teacher")):
        draw_view(axes[1 + v], example, v, query=v == 0)
        axes[1 + v].set_title(said)


def _cosines(axes: Axes, picture: LossPicture) -> None:
    """View 2, pale, and its points in the colours of their cosines with the chosen one."""
    grid.show_picture(axes, (255 - (255 - picture.views[1]) * 0.45).astype(np.uint8))
    grid.frame(axes, 1)
    positive = picture.region == picture.region[picture.chosen]
    scale = picture.cosine
    colours = scale.colours((picture.cosines - scale.low) / (scale.high - scale.low))
    for which, shape, size, edge, label in (
        (~positive, "s", 9, "white", "negatives"),
        (positive, "o", 20, "black", "positives"),
    ):
        look: dict[str, Any] = {"edgecolors": edge, "linewidths": 0.9 if edge == "black" else 0.3, "zorder": 4}
        x, y = picture.points[1, which].T
        axes.scatter(x, y, size, color=colours[which], marker=shape, label=label, **look)
    axes.set_title("view 2: positives (rings) and negatives")


def _spread(axes: Axes, picture: LossPicture) -> None:
    """Of each kind of cosines how they spread, above one another over one axis."""
    scale, rows = picture.cosine, len(picture.kinds)
    edges = np.linspace(scale.low, scale.high, BINS + 1)
    for row, ((name, values), look) in enumerate(zip(picture.kinds.items(), KINDS, strict=False)):
        base, counts = rows - 1 - row, np.histogram(values, edges)[0]
        heights = 0.66 * counts / counts.max()
        axes.stairs(base + heights, edges, baseline=base, fill=True, color=look["color"], alpha=0.35)
        axes.stairs(base + heights, edges, baseline=base, linewidth=0.9, **look)
        axes.plot([values.mean()] * 2, [base, base + 0.7], color="black", linewidth=1.0, path_effects=halo(2.2))
        said = f"{name} ({len(values)}), mean {number(values.mean(), '.2f')}"
        axes.text(scale.low, base + 0.73, said, va="bottom", path_effects=halo(2.0))
    axes.set(xlim=(scale.low, scale.high), ylim=(0, rows), yticks=[], xlabel="cosine with the ringed point")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=7)
    bar = axes.inset_axes((0, -0.035, 1, 0.03))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=scale.colours, aspect="auto")
    bar.set_axis_off()


def _affinity(axes: Axes, name: str, values: np.ndarray, picture: LossPicture) -> None:
    """Densities ``(n, n)``, with borders between regions, and these named along both sides."""
    scale, n = picture.density, len(values)
    axes.imshow(values, extent=(0, n, n, 0), cmap=scale.colours, vmin=scale.low, vmax=scale.high, aspect="equal")
    numbers, starts = np.unique(picture.region, return_index=True)
    for at in starts[1:]:
        axes.axhline(at, color="white", linewidth=0.3, alpha=0.6)
        axes.axvline(at, color="white", linewidth=0.3, alpha=0.6)
    each, every, strip = n / len(numbers), -(-len(numbers) // 10), 0.03 * n
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(starts[::every] + each / 2, [str(r) for r in numbers[::every]])
    beside: dict[str, Any] = {"color": region_colours(numbers), "align": "edge", "clip_on": False}
    axes.barh(starts, -strip, each, left=0, **beside)
    axes.bar(starts, strip, each, bottom=n, **beside)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=5)
    ends: dict[str, Any] = {"color": "black", "clip_on": False, "markersize": 3.5, "markeredgewidth": 0}
    axes.plot(-strip, picture.chosen + 0.5, ">", **ends)
    axes.plot(n, picture.chosen + 0.5, "<", **ends)
    axes.set_title(f"{name}'s affinity")
    axes.set(xlabel="points of view 2, by region", ylabel="points of view 1", xlim=(0, n), ylim=(n, 0))


def _losses(axes: Axes, losses: Sequence[Mapping[str, Any]], width: float) -> None:
    """A bar for each loss, from 0 to what features that are all equal have."""
    axes.set_title("losses of this image")
    axes.set(xlim=(0, 1), ylim=(len(losses), 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for i, row in enumerate(losses):
        share = row["value"] / max(row["value"], row["chance"])
        chance = row["chance"] / max(row["value"], row["chance"])
        axes.barh(i + 0.34, chance, 0.16, color="0.9")
        axes.barh(i + 0.34, share, 0.16, color=LOOK["matches"]["right"]["colour"] if row["weight"] else GREY)
        axes.plot([chance] * 2, [i + 0.22, i + 0.46], color="black", linewidth=1.0)
        axes.text(0, i + 0.2, f"{row['loss']}  {row['value']:.2f}", fontsize=7.5, weight="bold", va="bottom")
        axes.text(1, i + 0.2, f"chance {row['chance']:.2f}", fontsize=6, va="bottom", ha="right", color=GREY)
        said = f"{row['task']}: {row['meaning']}" + "; not trained, its weight is 0" * (not row["weight"])
        axes.text(0, i + 0.5, fold(said, width - 0.1), fontsize=6, va="top", color=GREY, linespacing=1.15)
