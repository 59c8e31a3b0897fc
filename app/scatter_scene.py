"""An embedding as ``app/static/scatter.js`` draws it: dots, their pictures, and what each covers there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from plrc.views.networks import sides
from plrc.views.pictures import region_raster
from scipy.ndimage import find_objects

from app.pictures import as_jpeg
from plrc.analysis.features import input_size
from plrc.views import EmbeddingDrawing, Picture, Session

_LARGE, _SMALL, _MANY = 320, 192, 80  # longer side of a thumbnail, pixels; that of one among more than so many
_HOW = "Drag a line around dots, or click one, to see where they are; with Shift, more are added."


def scene_of(drawing: EmbeddingDrawing, colour: str = "class", session: Session | None = None) -> dict[str, Any]:
    """The scene of a drawing, which ``json.dumps`` takes; its keys are told in ``app/static/scatter.js``.

    Args:
        colour: what the dots are coloured by at first; the first that there is, where there is no such.
        session: where the pictures are opened.

    Raises:
        ValueError: a picture is gone.
    """
    session = session or Session()
    pictures = [session.picture(spec) for spec in drawing.specs]
    scene = {
        "kind": drawing.items.kind,
        "items": {"image": drawing.items.image.tolist(), "box": _rounded(boxes(drawing, pictures, session))},
        "groupings": _groupings(drawing, pictures),
        "planes": [
            {"name": name, "caption": drawing.captions.get(name, ""), "coordinates": _rounded(plane)}
            for name, plane in drawing.planes.items()
        ],
        "note": _HOW,
    }
    # The viewer keeps what is marked, if what it shows is what it has shown.
    key = hashlib.sha256(json.dumps([drawing.inputs, scene]).encode(errors="surrogateescape")).hexdigest()
    side = _SMALL if len(pictures) > _MANY else _LARGE
    return scene | {"key": key, "colour": colour, "pictures": [_thumbnail(picture, side) for picture in pictures]}


def boxes(drawing: EmbeddingDrawing, pictures: Sequence[Picture], session: Session) -> np.ndarray:
    """What each item covers in its picture: ``(n, 4)``, x0, y0, x1, y1 of the image frame.

    A point covers its cell, a region the box around it, an image all.
    """
    items, how = drawing.items, drawing.parameters
    found = np.tile([0.0, 0.0, 1.0, 1.0], (len(items), 1))
    if items.kind == "regions":
        for i, picture in enumerate(pictures):
            raster = region_raster(picture, how["regions"]).numpy() + 1  # find_objects leaves 0 out
            parts, (h, w) = find_objects(raster), raster.shape
            for k in np.flatnonzero(items.image == i):
                rows, columns = parts[items.region[k]]
                found[k] = columns.start / w, rows.start / h, columns.stop / w, rows.stop / h
    elif items.kind == "points":  # all networks' maps have the same cells
        network = next(iter(session.networks(how["checkpoints"], how["device"], how["layer"], how["branch"]).values()))
        stride = network.stride(how["layer"]) / (2 if how["finer"] else 1)
        for i, picture in enumerate(pictures):
            seen = np.array(input_size(picture.image.size, sides(how["size"]), int(network.backbone.stride)))
            middle = items.point[items.image == i]
            found[items.image == i] = np.hstack((middle - stride / 2 / seen, middle + stride / 2 / seen))
    return found.clip(0, 1)


def _groupings(drawing: EmbeddingDrawing, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """The ways to colour: each with the names of its categories, sorted, and each item's number among them."""
    items = drawing.items
    found = []
    if items.labels is not None:
        known = all(picture.masks is not None for picture in pictures)
        found.append(_grouping("class" if known else "folder", items.labels))
    if items.kind == "regions" and drawing.parameters["regions"] != "objects":  # whose numbers mean nothing
        found.append(_grouping("region", items.region))
    for name, of in drawing.clusters.items():
        found.append(_grouping("cluster" if len(drawing.clusters) == 1 else f"cluster by {name}", of))
    if items.kind != "images" and len(pictures) > 1:
        names = [picture.name for picture in pictures]
        found.append({"name": "picture", "names": names, "of": items.image.tolist()})
    return found


def _grouping(name: str, of: np.ndarray) -> dict[str, Any]:
    categories, index = np.unique(of, return_inverse=True)
    return {"name": name, "names": [str(category) for category in categories], "of": index.tolist()}


def _thumbnail(picture: Picture, side: int) -> dict[str, Any]:
    small = picture.image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return {"src": as_jpeg(small), "width": small.width, "height": small.height, "name": picture.name}


def _rounded(values: np.ndarray) -> list[list[float]]:
    """To 5 digits: a tenth of a pixel of a screen, and half as much to send."""
    return [[float(f"{value:.5g}") for value in row] for row in values.tolist()]
