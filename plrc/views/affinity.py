"""``plrc affinity``: how alike each cell of an image, or of others, is to a point, by one network or several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from plrc.analysis.affinity import density, map_difference, prompt
from plrc.analysis.features import FeatureMap
from plrc.analysis.scores import best_iou, point_auc, result
from plrc.analysis.scores.table import aligned
from plrc.data.images import spread
from plrc.queries import Affinity
from plrc.views import Drawing, Progress, few, note_of
from plrc.views.embedding import NO_OBJECT
from plrc.views.images import NamedImage, innermost, points_in_frame
from plrc.views.session import Session, check_cells, inputs_of, made_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plrc.figures import Scale
    from plrc.figures.style import Limits

_PERCENTILES = 0.02  # of the values, at each end of their range
ON_A_SHEET = 12  # rows; the table and the arrays have all
Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class AffinityMap:
    """One map: ``values (h, w)`` lie over ``image`` as ``fmap`` does.

    Attributes:
        asked: positive and negative points, ``(p, 2)`` and ``(q, 2)`` of the image frame. own: they are of this image.
        mask: ``(H, W)`` of the object that is meant, where one is known. row: its line of the table. caption: what
            stands under it.
    """

    image: NamedImage
    own: bool
    asked: tuple[Tensor, Tensor]
    mask: Tensor | None
    values: Tensor
    fmap: FeatureMap
    row: dict[str, Any]
    caption: str


@dataclass(eq=False, kw_only=True)
class AffinityDrawing(Drawing):
    """``columns``: network → its maps, those that the figure shows. ``scale``: the colours of all values."""

    columns: dict[str, list[AffinityMap]]
    scale: Scale


def affinity(query: Affinity, session: Session, progress: Progress) -> AffinityDrawing:
    """Affinity maps: a row for each point of an image, or for each of several images; a column for each network.

    One map for all points (``together``, negative points, several images, ``to``) is the *maximum* over them. A
    difference has a row of its own. A softmax is over the cells of all images that are asked the same; it is drawn,
    kept and subtracted as its *density* (``plrc.analysis.density``), 1 where it is even.

    Numbers: *AUC*, where the point's object is known, the smallest one there: the chance that affinity ranks a pixel of
    the object above one outside it at the same distance from the point (0.5: by chance); *IoU*, the overlap of the
    object with the cells above the best threshold; *half*: the share of the image above the middle of the map's range,
    or the smallest that holds half of a softmax.
    """
    from plrc import figures
    from plrc.figures.style import DENSITY, DENSITY_DIFFERENCE

    images, many, softmax = query.images, len(query.images) > 1, query.temperature is not None
    if query.difference and len(query.checkpoints) < 2:
        raise ValueError("--difference compares two checkpoints: name another one with --checkpoint")
    if query.to and many:
        raise ValueError("--to looks for the point of one image in others: name one image before it")
    networks = session.networks(query)
    inputs, others = inputs_of(networks, query), [session.image(spec) for spec in query.to]
    title = f"{list(networks)[-1]} − {next(iter(networks))}"
    rows: dict[str, Rows] = {}
    arrays: dict[str, np.ndarray] = {}
    points: dict[str, np.ndarray] = {}
    shown: dict[str, list[AffinityMap]] = {}
    chosen, count, made = spread(len(images), ON_A_SHEET), 0, ""
    for number, spec in enumerate(images):
        seen = [session.image(spec), *others]
        for image in seen:
            inputs |= image.inputs
        questions = _questions(query, seen[0], query.together or many or bool(query.negatives or query.to))
        columns: dict[str, list[AffinityMap]] = {}
        for name, network in networks.items():
            fmaps = [session.features(network, image.image, query) for image in seen]
            for image, fmap in zip(seen, fmaps, strict=True):
                check_cells(network.origin.name, image.name, fmap)
            columns[name] = [a for q in questions for a in _answers(name, seen, fmaps, q, query.temperature)]
        made = made or made_of({n: c[0].fmap for n, c in columns.items()}, query, len(images) + len(others))
        if query.difference:
            pairs = zip(*list(columns.values())[:: len(networks) - 1], strict=True)
            columns[title] = [_difference(title, first, last) for first, last in pairs]
        for name, column in columns.items():
            rows.setdefault(name, []).extend(answer.row for answer in column)
        for name, column in ({title: columns[title]} if query.difference else columns).items():
            for i, answer in enumerate(column, start=count):
                arrays[f"{name} {i}"] = answer.values.numpy()
                points |= {f"positive {i}": answer.asked[0].numpy(), f"negative {i}": answer.asked[1].numpy()}
            if number in chosen:  # the others are let go: a folder may be long
                shown.setdefault(name, []).extend(column)
        count += len(column)
        progress("images", number + 1, len(images))

    quantity = said = DENSITY if softmax else "positive − negative" if query.negatives else "cosine"
    if query.difference:
        quantity = DENSITY_DIFFERENCE if softmax else "difference"
    limits = colour_limits(query)
    columns, first = shown, next(iter(shown.values()))
    alone = len(columns) == 1 and not many and not query.to and not query.difference
    note = note_of(
        few(answer.image.name for answer in first),
        made,
        f"softmax at temperature {query.temperature:g}" if softmax else "",
        _merged(*first[0].asked),
    )
    number_of = len(images) if many else count
    numbers = [[name, *_numbers(rows[name], said, softmax)] for name in networks]
    if query.difference:
        before, after = (_aucs(rows[name]) for name in list(networks)[:: len(networks) - 1])
        auc = [f"object AUC {np.mean(before):.3f} → {np.mean(after):.3f}"] if before and after else []
        numbers.append([title, *auc, f"difference {_span(rows[title])}"])
    numbers = [[*of, *[f"{count} maps"] * (count > 1)] for of in numbers]
    return AffinityDrawing(
        query=query,
        inputs=inputs,
        arrays=arrays | points,
        draw=partial(_draw, columns, alone, quantity=quantity, limits=limits, colour_map=query.colour_map, note=note),
        lines=aligned(numbers),
        rows=[row for column in rows.values() for row in column],
        part=f"{ON_A_SHEET} of {number_of} {'images' if many else 'maps'}" * (number_of > ON_A_SHEET and not alone),
        columns=columns,
        scale=figures.scale_of(
            quantity, limits, [a.values.numpy() for a in chain(*columns.values())], query.colour_map
        ),
    )


def colour_limits(query: Affinity) -> Limits | None:
    """What ``plrc.figures.scale_of`` finds the range of the colours by."""
    if query.colour_range == "full" and query.temperature is None:
        return -1.0, 1.0
    return _PERCENTILES if query.colour_range == "percentiles" else None


def _questions(query: Affinity, image: NamedImage, one: bool) -> list[tuple[Tensor, Tensor, Tensor | None, str]]:
    """Positive and negative points of each map, and the mask and class of the object at the first one, by
    ``objects_at``.

    Where no point is given, it is the innermost one of the largest object; the object is found by the same rule.
    """
    positive, negative = points_in_frame(query.points, image), points_in_frame(query.negatives, image)
    masks = image.masks
    if not len(positive):
        largest = None if masks is None or not masks.any() else masks[masks.sum(axis=(1, 2)).argmax()]
        positive = torch.tensor([(0.5, 0.5) if largest is None else innermost(largest)])
    found = []
    for points in [positive] if one else positive[:, None]:
        (meant,) = image.objects_at(points[:1])
        mask = None if masks is None or meant < 0 else torch.from_numpy(masks[meant].copy())
        thing = "" if masks is None else [*(image.classes or []), NO_OBJECT][meant]
        found.append((points, negative, mask, thing))
    return found


def _answers(
    name: str,
    images: Sequence[NamedImage],
    fmaps: Sequence[FeatureMap],
    question: tuple[Tensor, Tensor, Tensor | None, str],
    temperature: float | None,
) -> Iterator[AffinityMap]:
    """The maps of some images: which cells are like points of the first of them."""
    positive, negative, mask, thing = question
    maps = prompt(fmaps[0], positive, negative, to=fmaps, temperature=temperature)
    maps = maps if temperature is None else density(maps)
    for i, (image, values, fmap) in enumerate(zip(images, maps, fmaps, strict=True)):
        row = _row(name, image, positive if i == 0 else positive[:0], values, _half(values, temperature is not None))
        row["object"] = thing if i == 0 else ""
        if mask is not None and i == 0:
            auc = point_auc(values.cpu(), fmap.extent, mask, positive[0])
            row["AUC"] = "" if math.isnan(auc) else round(auc, 4)  # the object may fill the image
            row["IoU"] = round(best_iou(values.cpu(), fmap.extent, mask)[0], 4)
        caption = _span([row]) if row["AUC"] == "" else f"AUC {row['AUC']:.2f}"
        own = mask if i == 0 else None
        yield AffinityMap(image, i == 0, (positive, negative), own, values.cpu(), fmap, row, caption)


def _difference(title: str, first: AffinityMap, last: AffinityMap) -> AffinityMap:
    """The last network's map minus the first one's, on the grid that has more cells."""
    (values,), grid = map_difference(last.values[None], last.fmap, first.values[None], first.fmap)
    row = _row(title, last.image, last.asked[0] if last.own else last.asked[0][:0], values, "")
    caption, aucs = _span([row]), (first.row["AUC"], last.row["AUC"])
    if "" not in aucs:
        caption += ", " + "AUC {:.2f} → {:.2f}".format(*aucs).replace(" ", "\N{NO-BREAK SPACE}")  # a line of its own
    return replace(last, values=values, fmap=grid, row=row, caption=caption)


def _row(network: str, image: NamedImage, points: Tensor, values: Tensor, half: float | str) -> dict[str, Any]:
    row = {"image": image.spec, "point": " ".join(f"{x:.3f},{y:.3f}" for x, y in points.tolist()), "network": network}
    span = {"lowest": round(float(values.min()), 4), "highest": round(float(values.max()), 4)}
    return row | span | {"half": half, "object": "", "AUC": "", "IoU": ""}


def _half(values: Tensor, softmax: bool) -> float:
    values = values.cpu()
    if softmax:
        sums = values.flatten().sort(descending=True).values.double().cumsum(0)
        return round((int((sums < sums[-1] / 2).sum()) + 1) / len(sums), 4)
    return round(float((values > (float(values.min()) + float(values.max())) / 2).float().mean()), 4)


def _numbers(rows: Rows, quantity: str, softmax: bool) -> list[str]:
    """The numbers of a network over all its maps; images are what is drawn at random, not the points in them."""
    known = sum(row["AUC"] != "" for row in rows)
    of = f"{known} of {len(rows)} maps" * (known < len(rows))
    things = {row["object"] for row in rows if row["AUC"] != ""} - {"object"}
    how = ", ".join([*(things if len(things) == 1 else ()), "distance-matched"])
    auc = [result("object AUC", _aucs(rows), how, 0.5, of)] if known else []
    if not known and any(row["object"] == NO_OBJECT for row in rows):
        auc = ["no object AUC: the point is outside every object"]
    half = f"half of the softmax in {np.mean([row['half'] for row in rows]):.1%} of the image" if softmax else ""
    return [*auc, half or f"{quantity} {_span(rows)}"]


def _aucs(rows: Rows) -> list[float]:
    aucs: dict[str, list[float]] = {}
    for row in rows:
        if row["AUC"] != "":
            aucs.setdefault(row["image"], []).append(row["AUC"])
    return [float(np.mean(of)) for of in aucs.values()]


def _span(rows: Rows) -> str:
    span = min(row["lowest"] for row in rows), max(row["highest"] for row in rows)
    return "{:.2f} to {:.2f}".format(*(round(v, 2) + 0.0 for v in span)).replace("-", "−")  # no −0.00


def _merged(positive: Tensor, negative: Tensor) -> str:
    """Where a map is of several points, how they were put together."""
    said = f"maximum over {len(positive)} points" * (len(positive) > 1)
    minus = " minus that" if said else "minus the maximum"
    return said + f"{minus} over {len(negative)} negative ones" * (len(negative) > 1)


def _draw(columns: Mapping[str, list[AffinityMap]], alone: bool, **how: Any) -> Figure:
    """A column of maps for each heading; those of one image by one network (``alone``) in rows of four."""
    from plrc import figures

    name, first = next(iter(columns.items()))
    chosen = range(len(first)) if alone else spread(len(first), ON_A_SHEET)  # of one image's points there may be more
    columns = {name: [column[i] for i in chosen] for name, column in columns.items()}
    first = [first[i] for i in chosen]
    points, negatives = ([a.asked[sign].numpy()[: None if a.own else 0] for a in first] for sign in (0, 1))
    maps = {name: [answer.values for answer in column] for name, column in columns.items()}
    extents: Any = {name: [tuple(a.fmap.extent.tolist()) for a in column] for name, column in columns.items()}
    masks = [answer.mask for answer in first]
    if not alone:
        how |= {"captions": {name: [answer.caption for answer in column] for name, column in columns.items()}}
        how |= {"negatives": negatives, "extents": extents, "masks": masks}
        return figures.affinity_sheet([answer.image.pixels for answer in first], points, maps, **how)
    titles = [f"{name}, point {i}" for i in range(1, len(first) + 1)] if len(first) > 1 else [name]  # what of what
    titles = [f"{title}: {answer.caption}" for title, answer in zip(titles, first, strict=True)]
    how |= {"negatives": negatives, "extent": extents[name][0], "mask": masks[0] if len(first) == 1 else None}
    return figures.affinity(first[0].image.pixels, maps[name], points, titles, **how)
