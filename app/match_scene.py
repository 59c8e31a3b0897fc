"""Matches as ``app/static/pairs.js`` draws them: a drawing as plain numbers, names and data URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image
from plrc.views.networks import heading
from plrc.views.pictures import points_in_frame
from torch import Tensor

from app.pictures import as_jpeg, as_png
from plrc import figures
from plrc.analysis.features import region_numbers, region_points
from plrc.figures.grid import UNMATCHED, enlarge, region_tint
from plrc.figures.matches import counts, evenly, parts_of
from plrc.figures.style import region_colours
from plrc.geometry import cell_of
from plrc.views.correspondence import CorrespondenceDrawing, Found, Pair
from plrc.views.session import Session

_LINES = 24  # drawn until something is chosen: all would be a tangle
_LONGEST, _LONGEST_SOURCE = 1024, 320  # sides of what is served, pixels


def scene_of(
    drawing: CorrespondenceDrawing, chosen: Sequence[Sequence[Any]] = (), session: Session | None = None
) -> dict[str, Any]:
    """The scene of a drawing's first pair, which ``json.dumps`` takes; its keys are told in ``app/static/pairs.js``.

    Args:
        drawing: without ``points``, so that all matches can be chosen.
        chosen: the place that is chosen, a point of the whole left picture as a recipe has it; the first one counts.
            One that the left view does not show chooses nothing. session: where the pictures are opened.

    Raises:
        ValueError: a picture is gone, or the point lies outside it.
    """
    session = session or Session()
    found = {name: of[0] for name, of in drawing.found.items()}
    pair = next(iter(found.values())).pair
    views = pair.crops is not None
    first, second = (session.picture(spec) for spec in pair.specs)
    names = ("view 1", "view 2") if views else ("image 1", "image 2")
    titles = [f"{name}: {picture.name}" for name, picture in zip(names, (first, second), strict=True)]
    source, place = None, points_in_frame(chosen[:1], first)
    if pair.crops is not None:
        titles = [name + ", mirrored" * bool(crop.flip) for name, crop in zip(names, pair.crops, strict=True)]
        source = _picture(first.image, _LONGEST_SOURCE) | {"boxes": [_rounded(crop.box) for crop in pair.crops]}
        place = pair.crops[0].to_view(place)
    seen = bool(len(place)) and bool(((place >= 0) & (place < 1)).all())
    left, right = (
        _picture(image, _LONGEST) | {"name": name, "title": title}
        for image, name, title in zip((pair.left, pair.right), names, titles, strict=True)
    )
    rasters = None
    if pair.rasters is not None:
        rasters = {"left": _raster(pair.rasters[0], pair.left), "right": _raster(pair.rasters[1], pair.right)}
    return {
        "mode": "points" if rasters is None else "regions",
        "views": views,
        "within": drawing.parameters["within"],
        "left": left,
        "right": right,
        "source": source,
        "rasters": rasters,
        "networks": [_network(name, one, names) for name, one in found.items()],
        "chosen": _rounded(place[0]) if seen else None,
    }


def _network(name: str, found: Found, names: tuple[str, str]) -> dict[str, Any]:
    pair, matches, fmap = found.pair, found.matches, found.fmap
    parts = parts_of(matches)
    shown = np.flatnonzero(parts.visible)
    place = matches.start if pair.crops is None else pair.crops[0].to_image(matches.start)
    h, w = fmap.shape
    truth = None
    if matches.truth is not None and matches.visible is not None:
        truth = [_rounded(t) if seen else None for t, seen in zip(matches.truth, matches.visible.tolist(), strict=True)]
    told = {
        "name": heading(name, fmap),
        "caption": f"{counts(parts)} · {fmap.layer}, {w} × {h} cells",
        "matches": {
            "start": _rounded(matches.start),
            "end": _rounded(matches.end),
            "place": _rounded(place),
            "truth": truth,
            "similarity": _rounded(matches.similarity),
            "cycle": _rounded(matches.cycle),
            "mutual": matches.mutual.int().tolist(),
            "visible": None if matches.visible is None else matches.visible.int().tolist(),
            "right": None if matches.right is None else matches.right.int().tolist(),
            "region": None,
        },
        "cell": [float(reach) / n for reach, n in zip(fmap.extent, (w, h), strict=True)],
        "overview": shown[evenly(parts.start[shown], _LINES)].tolist(),
        "tints": None,
        "matrix": None,
    }
    if pair.rasters is None or found.matrix is None:
        return told
    ends = [_region_at(r, points) for r, points in zip(pair.rasters, (matches.start, matches.end), strict=True)]
    told["matches"]["region"] = [list(both) for both in zip(*ends, strict=True)]
    told["overview"] = list(range(len(matches)))
    rows, columns = (region_numbers(raster).tolist() for raster in pair.rasters)
    told["matrix"] = _matrix(found.matrix.numpy(), rows, columns, names, pair.crops is not None)
    told["tints"] = _tints(pair, found.matrix.numpy(), rows, columns)
    return told


def _matrix(
    values: np.ndarray, rows: list[int], columns: list[int], names: tuple[str, str], named: bool
) -> dict[str, Any]:
    scale = figures.scale_of("cosine", (-1.0, 1.0), [values])
    ticks = scale.ticks(4)
    return {
        "rows": rows,
        "columns": columns,
        "values": np.round(values, 4).tolist(),
        "best": values.argmax(axis=1).tolist(),
        "same": [columns.index(r) if named and r in columns else None for r in rows],
        "named": named,
        "names": names,
        "quantity": scale.quantity,
        "low": scale.low,
        "high": scale.high,
        "colours": [to_hex(scale.colours(i)) for i in range(scale.colours.N)],
        "ticks": ticks,
        "labels": scale.labels(ticks),
    }


def _tints(pair: Pair, values: np.ndarray, rows: list[int], columns: list[int]) -> dict[str, str]:
    """Regions that belong together in one colour, as in the figure: those of one name, else each other's best."""
    assert pair.rasters is not None
    if pair.crops is not None:
        like = {r: r for r in rows if r in columns}
    else:
        best, back = values.argmax(axis=1), values.argmax(axis=0)
        like = {columns[j]: rows[i] for i, j in enumerate(best) if back[j] == i}
    shown = {r: r for r in like.values()}, like
    sides = zip(("left", "right"), pair.rasters, (pair.left, pair.right), shown, strict=True)
    return {side: _tint(_enlarged(raster, image), colours) for side, raster, image, colours in sides}


def _tint(regions: np.ndarray, like: dict[int, int]) -> str:
    """Thin within and strong along the border, as in the figure; grey without a counterpart. A PNG."""
    colours = np.full((*regions.shape, 3), UNMATCHED)
    for r, other in like.items():
        colours[regions == r] = region_colours(other)
    pixels = (region_tint(regions, colours) * 255).round().astype(np.uint8)
    return as_png(Image.fromarray(pixels))


def _raster(raster: Tensor, image: Image.Image) -> dict[str, Any]:
    """Which region each cell belongs to: its place among the numbers plus 1, or 0 for none; two bytes a cell."""
    cells, numbers = _enlarged(raster, image), region_numbers(raster)
    order = np.where(cells < 0, 0, np.searchsorted(numbers.numpy(), cells) + 1)
    return {
        "h": cells.shape[0],
        "w": cells.shape[1],
        "numbers": numbers.tolist(),
        "places": _rounded(region_points(raster)),
        "cells": base64.b64encode(order.astype("<u2").tobytes()).decode(),
    }


def _enlarged(raster: Tensor, image: Image.Image) -> np.ndarray:
    return enlarge(raster.numpy(), *image.size)


def _region_at(raster: Tensor, points: Tensor) -> list[int]:
    row, column = cell_of(points, *raster.shape)
    return raster[row, column].tolist()


def _picture(image: Image.Image, longest: int) -> dict[str, Any]:
    small = image.copy()
    small.thumbnail((longest, longest))
    return {"src": as_jpeg(small), "width": small.width, "height": small.height}


def _rounded(values: Tensor) -> Any:
    """As a list, to a hundred-thousandth of the picture: less text to send, and far less than a pixel."""
    return np.round(values.double().numpy(), 5).tolist()
