"""What the viewers of ``static/`` show: the scene of each drawing, as plain numbers, names and data URIs.

The keys of a scene are told at the head of its viewer's script. Needs no gradio: the notebooks' widget has panels too.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import Colormap
from PIL import Image
from torch import Tensor

from plrc import figures
from plrc.analysis import FeatureMap
from plrc.analysis.features import region_numbers, region_points
from plrc.figures import Scale
from plrc.figures.grid import UNMATCHED, border, enlarge, region_tint
from plrc.figures.matches import parts_of, same_points
from plrc.figures.style import DENSITY, DENSITY_DIFFERENCE, DIVERGING, LOOK, SIGNED, region_colours
from plrc.geometry import cell_of
from plrc.options import Point
from plrc.queries import COLOUR_MAPS, Affinity
from plrc.views import NamedImage, Session
from plrc.views.affinity import AffinityDrawing, colour_limits
from plrc.views.correspondence import CorrespondenceDrawing, Found, Pair, numbers
from plrc.views.embedding import EmbeddingDrawing, boxes
from plrc.views.images import points_in_frame
from plrc.views.retrieval import RetrievalDrawing

STATIC = Path(__file__).parent / "static"
SIDE = 1024  # pixels of the longer side of an image in the page

_CHANNELS, _NUMBERS = 128, 2**21  # of a map that the page gets: of a cell, and of all cells, at most
_PARTS = ("start", "end", "similarity", "cycle", "mutual", "truth", "visible", "right")  # of matches
_LARGE, _SMALL, _MANY = 320, 192, 80  # longer side of a thumbnail, pixels; of one among more than so many
_HOW = "Drag a line around dots, or click one, to see where they are; with Shift, more are added."


def script(viewers: Iterable[str] = ("panels", "matches", "scatter", "loss", "answers", "drop", "lists")) -> str:
    """The script of these viewers, with the table of colours and marks that figures are drawn with."""
    sequential = {name: _steps(colormaps[name]) for name in COLOUR_MAPS}
    look = LOOK | {"sequential": sequential, "diverging": _steps(DIVERGING), "signed": SIGNED}
    texts = [(STATIC / f"{name}.js").read_text(encoding="utf-8") for name in ("common", "live", *viewers)]
    return "\n".join([f"window.plrc = {{ look: {json.dumps(look)} }};", *texts])


def style() -> str:
    return (STATIC / "viewers.css").read_text(encoding="utf-8")


def image_of(image: Image.Image, longest: int = SIDE) -> dict[str, Any]:
    """``src``, a JPEG of at most so many pixels a side, and the image's own ``width`` and ``height``."""
    small = image.convert("RGB")
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return {"src": data_uri(small, "jpeg", quality=90, subsampling=0), "width": image.width, "height": image.height}


def data_uri(picture: Any, kind: str, **how: Any) -> str:
    """Of an image, or of a Matplotlib figure."""
    stream = io.BytesIO()
    if isinstance(picture, Image.Image):
        picture.save(stream, kind, **how)
    else:
        picture.savefig(stream, format=kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _rounded(values: Tensor | np.ndarray, digits: int = 5) -> Any:
    """As a list: far less than a pixel of a share of an image; 0 where nothing is known, as JSON has no NaN."""
    return np.round(np.nan_to_num(np.asarray(values, dtype=np.float64)), digits).tolist()


def affinity_scene(drawings: Sequence[AffinityDrawing]) -> dict[str, Any]:
    """The scene of ``panels.js``, but for the image: the maps of an image by all networks, and the points asked."""
    first = next(iter(drawings[0].columns.values()))[0]
    caption = "seen at {} × {} pixels".format(*first.fmap.input_size)
    panels: list[dict[str, Any]] = [{"title": "image", "caption": caption, "map": None, "scale": None}]
    query: Any = drawings[0].query
    softmax = query.temperature is not None
    for drawing in drawings:
        difference = drawing.query.to_dict()["difference"]
        for name, (answer, *_) in drawing.columns.items():
            overlap = answer.row["IoU"]
            caption = answer.caption + ("" if overlap == "" else f" · best IoU {overlap:.2f}")
            shown = panel(name, caption, answer.values, answer.fmap, drawing.scale)
            named = [DENSITY_DIFFERENCE if softmax else "difference"] * 2 if difference else _QUANTITIES[softmax]
            panels.append(shown | {"key": None if difference else answer.fmap.sha256, "quantities": named})
    signed = zip(first.asked, (False, True), strict=True)
    points = [{"x": x, "y": y, "negative": negative} for asked, negative in signed for x, y in asked.tolist()]
    live = {"temperature": query.temperature, "limits": colour_limits(query), "colours": query.colour_map}
    outline = "" if first.mask is None else _outline(first.mask.numpy())
    automatic = not query.points
    return {"panels": panels, "points": points, "automatic": automatic, "outline": outline, "live": live}


def _outline(mask: np.ndarray) -> str:
    """The border of a mask ``(H, W)`` as an SVG path in shares of the image, to about 1/300 of its longer side."""
    step = -(-max(mask.shape) // 300)
    borders = border(mask[step // 2 :: step, step // 2 :: step])
    return "".join("M" + "L".join(f"{u:.4f} {v:.4f}" for u, v in line.tolist()) for line in borders)


def answers_scene(drawing: RetrievalDrawing) -> dict[str, Any]:
    """The scene of ``answers.js``, but for the image: the first question's answers by all networks."""
    query: Any = drawing.query
    first = {name: of[0] for name, of in drawing.found.items()}
    networks = []
    for name, found in first.items():
        answers = []
        for a in found.answers:
            told = {"name": a.name, "spec": a.spec, "cosine": round(a.cosine, 4), "right": a.right}
            answers.append(image_of(a.small, _LARGE) | told | {"box": _rounded(a.box)})
        networks.append({"name": name, "caption": found.caption, "box": _rounded(found.box), "answers": answers})
    points = next(iter(first.values())).question.point
    return {"of": query.of, "points": _rounded(points), "networks": networks}


_QUANTITIES = {False: ["cosine", "positive − negative"], True: [DENSITY, DENSITY]}  # without negative points, with them


def packed(drawing: AffinityDrawing, keys: Iterable[str]) -> dict[str, Any]:
    """The feature maps with these keys, as ``live.js`` opens them; each goes to a page once."""
    maps = {answer.fmap.sha256: answer.fmap for (answer, *_) in drawing.columns.values()}
    return {key: _packed(maps[key]) for key in keys if key in maps}


def _packed(fmap: FeatureMap) -> dict[str, Any]:
    (h, w), of = fmap.shape, len(fmap.features)
    cells, lost = fmap.reduced(min(_CHANNELS, max(1, _NUMBERS // (h * w))))
    lengths = fmap.features.flatten(1).norm(dim=0)
    told = {"h": h, "w": w, "channels": cells.shape[1], "of": of, "lost": lost}
    numbers = {"cells": cells.cpu().numpy().astype("<f2"), "lengths": lengths.cpu().numpy().astype("<f4")}
    return told | {name: base64.b64encode(array.tobytes()).decode() for name, array in numbers.items()}


def asking(query: Affinity, event: dict[str, Any]) -> Affinity:
    """The query of the points that an event of ``panels.js`` has."""
    of: tuple[list[Point], list[Point]] = ([], [])
    for point in event["points"]:
        of[bool(point["negative"])].append(Point(float(point["x"]), float(point["y"])))
    return replace(query, points=tuple(of[0]), negatives=tuple(of[1]))


def panel(title: str, caption: str, values: Tensor, fmap: FeatureMap, scale: Scale) -> dict[str, Any]:
    """A panel with a map ``(h, w)`` over the cells of ``fmap``."""
    h, w = values.shape
    digits = 5 - math.floor(math.log10(scale.high - scale.low))  # more than a colour or a reader can tell
    shown = np.round(values.flatten().double().cpu().numpy(), digits).tolist()
    cells = {"h": h, "w": w, "values": shown, "extent": fmap.extent.tolist()}
    return {"title": title, "caption": caption, "map": cells, "scale": _colours(scale)}


def _colours(scale: Scale) -> dict[str, Any]:
    """The scale, and its colours from one end to the other."""
    return {"quantity": scale.quantity, "low": scale.low, "high": scale.high, "colours": _steps(scale.colours)}


def _steps(colours: Colormap) -> list[str]:
    rgb = np.round(255 * colours(np.linspace(0, 1, 256))[:, :3]).astype(int)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in rgb.tolist()]


def matches_scene(drawing: CorrespondenceDrawing, chosen: Sequence[Point], session: Session) -> dict[str, Any]:
    """The scene of ``matches.js``, of the first pair of a drawing without ``points``.

    chosen: points of the whole left image; the match nearest to the first one is chosen, if the left view shows it.
    Raises a ValueError if an image is gone, or the point lies outside it.
    """
    query: Any = drawing.query
    found = {name: of[0] for name, of in drawing.found.items()}
    parts = [parts_of(one.matches) for one in found.values()]
    overviews = same_points(parts, [part.visible for part in parts])
    told = {row["network"]: " · ".join(numbers([row], query.mutual)) for row in reversed(drawing.rows)}
    pair = next(iter(found.values())).pair
    whole = [session.image(spec) for spec in pair.of]
    titles = list(pair.sides)
    source, place = None, points_in_frame(chosen[:1], whole[0])
    if pair.crops is None:
        titles = [f"{side}: {image.name}" for side, image in zip(pair.sides, whole, strict=True)]
    else:
        source = image_of(whole[0].image, _LARGE) | {"boxes": [_rounded(crop.box) for crop in pair.crops]}
        place = pair.crops[0].to_view(place)
    nearest = None
    if len(place) and bool(((place >= 0) & (place < 1)).all()):
        starts = torch.cat([one.matches.start for one in found.values()])
        nearest = _rounded(starts[(starts - place).norm(dim=1).argmin()])
    matrices = [one.matrix.numpy() for one in found.values() if one.matrix is not None]
    scale = figures.scale_of("cosine", None, matrices) if matrices else None
    both = zip(("left", "right"), pair.images, pair.sides, titles, strict=True)
    rasters = zip(("left", "right"), pair.rasters or (), pair.images, strict=False)
    return {
        "mode": "points" if pair.rasters is None else "regions",
        "views": pair.crops is not None,
        "within": query.within,
        **{side: image_of(image) | {"name": of.split(",")[0], "title": title} for side, image, of, title in both},
        "source": source,
        "rasters": {side: _raster(raster, image) for side, raster, image in rasters} or None,
        "networks": [
            _network(name, told[name], one, overview, scale)
            for (name, one), overview in zip(found.items(), overviews, strict=True)
        ],
        "chosen": nearest,
    }


def _network(name: str, caption: str, found: Found, overview: np.ndarray, scale: Scale | None) -> dict[str, Any]:
    pair, matches = found.pair, found.matches
    told = {part: getattr(matches, part) for part in _PARTS}
    told["place"] = matches.start if pair.crops is None else pair.crops[0].to_image(matches.start)
    scene = {
        "name": name,
        "caption": caption,
        "matches": {part: None if values is None else _rounded(values) for part, values in told.items()},
        "overview": overview.tolist(),
    }
    if scale and pair.rasters is not None and found.matrix is not None:
        ends = zip(pair.rasters, (matches.start, matches.end), strict=True)
        regions = [raster[cell_of(points, *raster.shape)].tolist() for raster, points in ends]
        scene["matches"]["region"] = [list(both) for both in zip(*regions, strict=True)]
        scene |= {"overview": list(range(len(matches)))} | _matrix(pair, found.matrix.numpy(), scale)
    return scene


def _matrix(pair: Pair, values: np.ndarray, scale: Scale) -> dict[str, Any]:
    """The region affinities, and regions in colours: one for those of one name, else for mutual best ones."""
    assert pair.rasters is not None
    rows, columns = (region_numbers(raster).tolist() for raster in pair.rasters)
    best, back, named = values.argmax(axis=1), values.argmax(axis=0), pair.crops is not None
    mutual = {columns[j]: rows[i] for i, j in enumerate(best) if back[j] == i}
    like = {r: r for r in rows if r in columns} if named else mutual
    matrix = {"rows": rows, "columns": columns, "values": _rounded(values, 4), "best": best.tolist()}
    matrix["same"] = [columns.index(r) if named and r in columns else None for r in rows]
    matrix["scale"] = _colours(scale)
    own = {r: r for r in like.values()}
    left, right = (_tint(*side) for side in zip(pair.rasters, pair.images, (own, like), strict=True))
    return {"matrix": matrix, "tints": {"left": left, "right": right}}


def _tint(raster: Tensor, image: Image.Image, like: dict[int, int]) -> str:
    """Regions in the colour of that which each is like, and grey without one; a PNG to lay over the image."""
    regions = enlarge(raster.numpy(), *image.size)
    colours = np.full((*regions.shape, 3), UNMATCHED)
    for r, other in like.items():
        colours[regions == r] = region_colours(other)
    pixels = (region_tint(regions, colours) * 255).round().astype(np.uint8)
    return data_uri(Image.fromarray(pixels), "png", compress_level=1)


def _raster(raster: Tensor, image: Image.Image) -> dict[str, Any]:
    cells, numbers = enlarge(raster.numpy(), *image.size), region_numbers(raster)
    order = np.where(cells < 0, 0, np.searchsorted(numbers.numpy(), cells) + 1).astype("<u2")
    told = {"h": len(cells), "w": len(cells[0]), "numbers": numbers.tolist()}
    return told | {"places": _rounded(region_points(raster)), "cells": base64.b64encode(order.tobytes()).decode()}


def scatter_scene(drawing: EmbeddingDrawing, session: Session) -> dict[str, Any]:
    """The scene of ``scatter.js``. Raises a ValueError if an image is gone."""
    query: Any = drawing.query
    images = [session.image(spec) for spec in query.images]
    covered = np.zeros((len(drawing.samples), 4))
    for i in range(len(images)):
        covered[drawing.samples.image == i] = boxes(query, drawing.samples, session, i)
    planes = {n: [[float(f"{v:.5g}") for v in at] for at in of.tolist()] for n, of in drawing.planes.items()}
    scene = {
        "kind": drawing.samples.kind,
        "samples": {"image": drawing.samples.image.tolist(), "box": _rounded(covered)},
        "groupings": list(_groupings(drawing, images)),
        "planes": [{"name": n, "caption": drawing.captions.get(n, ""), "coordinates": of} for n, of in planes.items()],
        "note": _HOW,
    }
    # The viewer keeps what is marked, if what it shows is what it has shown.
    key = hashlib.sha256(json.dumps([drawing.inputs, scene]).encode(errors="surrogateescape")).hexdigest()
    side = _SMALL if len(images) > _MANY else _LARGE
    return scene | {"key": key, "images": [image_of(image.image, side) | {"name": image.name} for image in images]}


def _groupings(drawing: EmbeddingDrawing, images: Sequence[NamedImage]) -> Iterable[dict[str, Any]]:
    """The ways to colour: each with the names of its categories, sorted, and each sample's number among them."""
    samples = drawing.samples

    def grouping(name: str, of: np.ndarray) -> dict[str, Any]:
        categories, index = np.unique(of, return_inverse=True)
        return {"name": name, "names": [str(category) for category in categories], "of": index.tolist()}

    if samples.labels is not None:
        yield grouping("folder" if any(image.masks is None for image in images) else "class", samples.labels)
    if samples.kind == "regions" and drawing.query.to_dict()["regions"] != "objects":  # whose numbers mean nothing
        yield grouping("region", samples.region)
    for name, of in drawing.clusters.items():
        yield grouping("cluster" if len(drawing.clusters) == 1 else f"cluster by {name}", of)
    if samples.kind != "images" and len(images) > 1:
        yield {"name": "image", "names": [image.name for image in images], "of": samples.image.tolist()}
