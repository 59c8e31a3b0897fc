"""The view *What the loss sees*: an image's two views as trained, one point's positives and negatives, its losses."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.colors import to_hex
from PIL import Image

from plrc.analysis.features import region_points
from plrc.figures import LossPicture, Scale
from plrc.figures.grid import UNMATCHED, enlarge, region_tint
from plrc.figures.loss import BINS, KINDS
from plrc.figures.style import LOOK, number, region_colours
from plrc.options import Point
from plrc.queries import Loss
from plrc.views.loss import LossDrawing

from .scenes import data_uri, image_of
from .tab import Tab, lines, showing

_BATCH = 5  # images at first


class LossTab(Tab):
    name, title, kind, viewer = "loss", "What the loss sees", Loss, "loss"
    top: ClassVar = {"images": 1, "checkpoints": 1, "regions": 1}
    below: ClassVar = ("seed", "step", "size", "others")
    anew: ClassVar = ("images", "checkpoints", "regions", "seed", "step", "size")
    words: ClassVar = {
        "checkpoints": {
            "label": "Checkpoint",
            "info": "A run has all that the losses need.",
            "multiselect": False,
            "max_choices": None,
            "min_width": 160,
        },
        "regions": {"info": "Of the loss.", "none": "as in training"},
        "others": {"label": "Other images of the batch", "info": "Some of their points are negatives."},
        "step": {"info": "Another step, other views and points; empty: the checkpoint's next one."},
        "size": {"label": "Side of a view, pixels", "info": "As in training, if not given.", "none": "as in training"},
    }

    def begin(self) -> Mapping[str, Any]:
        named = [name for name in self.bench.shown if not name.startswith("random:")] or self.bench.shown
        return {"checkpoints": named[:1], "others": self.bench.images[1:_BATCH]}

    def show(self, query: Loss) -> list[Any]:
        if not query.images or not query.checkpoints:
            return [showing(scene=None), "", ""]
        (drawing,) = self.drawings(query)
        return [showing(scene=scene(drawing)), lines(drawing), " ".join(map(str, query.points))]

    def act(self, event: dict[str, Any], query: Loss) -> list[Any]:
        """Another point of view 1."""
        (drawing,) = self.drawings(query)
        place = drawing.crop.to_image(torch.tensor([event["place"]], dtype=torch.float32).clamp(0, 1))[0]
        return self.show(replace(query, points=(Point(*place.clamp(0, 1).tolist()),)))


def scene(drawing: LossDrawing) -> dict[str, str]:
    """The scene of ``loss.js``: what the figure shows, as HTML in the colours of the page."""
    picture = drawing.picture
    underlined = '<b style="border-bottom: 3px solid {}">view {}</b>'
    first, second = (underlined.format(look["colour"], v) for v, look in enumerate(LOOK["views"], start=1))
    mirrored = [", mirrored" * bool(flip) for flip in picture.crops.flip]
    densities = picture.densities.items()
    drawn = f"{int((picture.region == picture.region[picture.chosen]).sum())} points are drawn"
    parts = [
        ("image, and two crops of it", _crops(picture), f"{drawn} in each region that both views show"),
        (f"{first}, seen by the student{mirrored[0]}", _view(picture, 0), "click a point to look at it"),
        (f"{second}, seen by the teacher{mirrored[1]}", _view(picture, 1), "grey: not in both views, not used"),
        (f"{second} and the ringed point", _alike(picture), "● positives: its region · ■ negatives"),
        ("positives and negatives", _spread(picture), "cosine with the ringed point, and means"),
    ]
    parts += [(f"{name}’s affinity", _affinity(picture, of), _bar(picture.density)) for name, of in densities]
    parts += [("losses of this image", _losses(picture.losses), "")]
    figures = (f"<figure><figcaption>{a}</figcaption>{b}<figcaption>{c}</figcaption></figure>" for a, b, c in parts)
    return {"html": "".join(figures)}


def _svg(content: str, height: float = 100, box: str = "", more: str = "") -> str:
    return f'<svg viewBox="{box or f"0 0 100 {height:.2f}"}" {more}>{content}</svg>'


def _image(pixels: np.ndarray, height: float = 100, more: str = "") -> str:
    src = data_uri(Image.fromarray(pixels), "png", compress_level=1)
    return f'<image href="{src}" width="100" height="{height:.2f}" preserveAspectRatio="none" {more}/>'


def _ring(place: np.ndarray, height: float = 100) -> str:
    at = f'cx="{100 * place[0]:.2f}" cy="{height * place[1]:.2f}" r="3" fill="none"'
    return f'<circle {at} stroke="#000" stroke-width="2.2"/><circle {at} stroke="#fff" stroke-width="1.1"/>'


def _frame(v: int, box: Sequence[float] = (0, 0, 100, 100)) -> str:
    """The outline of a view, in its colour and dashes."""
    look, (x, y, right, below) = LOOK["views"][v], box
    dash = f' stroke-dasharray="{" ".join(str(1.4 * d) for d in look["dash"])}"' * bool(look["dash"])
    at = f'x="{x:.2f}" y="{y:.2f}" width="{right - x:.2f}" height="{below - y:.2f}" fill="none"'
    return (
        f'<rect {at} stroke="#fff" stroke-width="2.4"/><rect {at} stroke="{look["colour"]}" stroke-width="1.4"{dash}/>'
    )


def _crops(picture: LossPicture) -> str:
    height = 100 * picture.image.shape[0] / picture.image.shape[1]
    boxes = picture.crops.box.numpy() * (100, height, 100, height)
    small = image_of(Image.fromarray(picture.image), 640)["src"]
    content = f'<image href="{small}" width="100" height="{height:.2f}"/>{_frame(1, boxes[1])}{_frame(0, boxes[0])}'
    side = max(100, height)  # a tall image is not to push all else down
    return _svg(content + _ring(picture.place, height), box=f"{50 - side / 2} 0 {side} {min(height, side)}")


def _view(picture: LossPicture, v: int) -> str:
    """A view under the colours of its regions, with their numbers and points."""
    regions, both = enlarge(picture.regions[v].astype(int), 1, 1), np.unique(picture.region)
    colours = np.where(np.isin(regions, both)[..., None], region_colours(regions), UNMATCHED)
    tint = (region_tint(regions, colours) * 255).round().astype(np.uint8)
    fills = [LOOK["regions"][r % len(LOOK["regions"])] for r in picture.region.tolist()]
    dots = "".join(
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="1.4" fill="{fill}" stroke="#000" stroke-width="0.35"/>'
        for (x, y), fill in zip(100 * picture.points[v], fills, strict=True)
    )
    middles = region_points(torch.from_numpy(np.where(np.isin(regions, both), regions, -1))) * 100
    numbers = "".join(
        f'<text x="{x:.1f}" y="{y + 2:.1f}">{r}</text>' for r, (x, y) in zip(both, middles.tolist(), strict=True)
    )
    ring = _ring(picture.points[0, picture.chosen]) if v == 0 else ""
    more = (
        'class="first" tabindex="0" role="application" '
        'aria-label="View 1 and its points. Click one, or choose the next one with an arrow key, to look at it."'
    )
    return _svg(_image(picture.views[v]) + _image(tint) + _frame(v) + dots + numbers + ring, more=more * (v == 0))


def _alike(picture: LossPicture) -> str:
    """View 2, pale, and its points in the colours of their cosines with the chosen one; the positives last."""
    positive, scale = picture.region == picture.region[picture.chosen], picture.cosine
    share = (picture.cosines - scale.low) / (scale.high - scale.low)
    dots = ""
    for i in np.argsort(positive, kind="stable"):
        (x, y), fill = 100 * picture.points[1, i], to_hex(scale.colours(share[i]))
        square = f'<rect x="{x - 1.3:.2f}" y="{y - 1.3:.2f}" width="2.6" height="2.6" fill="{fill}" stroke="#fff" '
        circle = f'<circle cx="{x:.2f}" cy="{y:.2f}" r="2.2" fill="{fill}" stroke="#000" '
        dots += f'{circle}stroke-width="0.8"/>' if positive[i] else f'{square}stroke-width="0.3"/>'
    paper = '<rect width="100" height="100" fill="#fff"/>'
    return _svg(paper + _image(picture.views[1], more='opacity="0.45"') + _frame(1) + dots)


def _spread(picture: LossPicture) -> str:
    """Of each kind of cosines how they spread, above one another over one axis."""
    scale, kinds = picture.cosine, zip(picture.kinds.items(), KINDS, strict=False)
    edges = np.linspace(scale.low, scale.high, BINS + 1)
    rows, base = "", 0.0
    for (name, values), look in kinds:
        base += 29
        counts = np.histogram(values, edges)[0]
        tops = base - 19 * counts / counts.max()
        steps = " ".join(f"{100 * (i + k) / BINS:.1f},{y:.1f}" for i, y in enumerate(tops) for k in (0, 1))
        at = 100 * (float(values.mean()) - scale.low) / (scale.high - scale.low)
        rows += f'<polygon points="0,{base} {steps} 100,{base}" fill="{look["color"]}"/>'
        rows += f'<path d="M{at:.1f} {base}v-20" stroke="currentColor" stroke-width="0.8"/>'
        rows += f'<text y="{base - 21.5}" class="left">{name} ({len(values)}), {number(values.mean(), ".2f")}</text>'
    return f"{_svg(rows, base)}{_bar(scale, '')}"


def _affinity(picture: LossPicture, values: np.ndarray) -> str:
    """Densities ``(n, n)``, the regions of their rows and columns beside them, and the chosen point's row marked."""
    scale, numbers = picture.density, np.unique(picture.region)
    pixels = (scale.colours((values - scale.low) / (scale.high - scale.low))[..., :3] * 255).astype(np.uint8)
    step, beside = 100 / len(numbers), ""
    for i, (r, fill) in enumerate(zip(numbers, map(to_hex, region_colours(numbers)), strict=True)):
        at = f"{i * step:.2f}"
        beside += f'<rect x="-3" y="{at}" width="3" height="{step:.2f}" fill="{fill}"/>'
        beside += f'<rect x="{at}" y="100" width="{step:.2f}" height="3" fill="{fill}"/>'
        if len(numbers) <= 16:
            beside += f'<text x="-6" y="{i * step + step / 2 + 1.5:.1f}" class="plain">{r}</text>'
    y = 100 * (picture.chosen + 0.5) / len(values)
    beside += f'<path d="M-3.5 {y:.2f}l-3 -1.6v3.2z M100.5 {y:.2f}l3 -1.6v3.2z" fill="currentColor"/>'
    return _svg(_image(pixels) + beside, box="-9 0 113 104")


def _bar(scale: Scale, quantity: str | None = None) -> str:
    """The colours of a scale, and its ends."""
    colours = ", ".join(map(to_hex, scale.colours(np.linspace(0, 1, 17))))
    low, high = scale.labels([scale.low, scale.high])
    said = scale.quantity if quantity is None else quantity
    over = "+" * (scale.beyond in ("max", "both"))
    strip = f'<div class="plrc-strip" style="background: linear-gradient(to right, {colours})"></div>'
    return f'{strip}<div class="plrc-ends"><span>{low}</span><span>{said}</span><span>{high}{over}</span></div>'


def _losses(losses: Iterable[Mapping[str, Any]]) -> str:
    """A bar for each loss, from 0 to what features that are all equal have."""
    return "".join(
        f"<p><b>{row['loss']} {row['value']:.2f}</b> <span>chance {row['chance']:.2f}</span>"
        f'<i class="plrc-share"><i style="width: {min(100, 100 * row["value"] / row["chance"]):.1f}%"></i></i>'
        f"{html.escape(row['task'])}: {row['meaning']}</p>"
        for row in losses
    )
