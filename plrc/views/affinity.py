"""``plrc affinity``: how alike each cell of an image, or of others, is to a point, by one network or several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from plrc.analysis.affinity import density, map_difference, prompt
from plrc.analysis.features import DenseEncoder, FeatureMap
from plrc.analysis.scores import best_iou, point_auc, result
from plrc.analysis.scores.table import aligned
from plrc.geometry import cell_of
from plrc.queries import Affinity
from plrc.views import Drawing, Progress, few, note_of
from plrc.views.images import NamedImage, innermost, largest, points_in_frame, spread
from plrc.views.session import Session, check_cells, heading, inputs_of, made_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plrc.figures import Scale

ON_A_SHEET = 12  # rows; the table and the arrays have all


@dataclass(frozen=True, eq=False)
class AffinityMap:
    """One map: ``values (h, w)`` lie over ``image`` as ``fmap`` does.

    Attributes:
        own: the points, and target, are of this image. target: the number of the object that is meant; None: that at
            the first point. positive, negative: ``(p, 2)`` and ``(q, 2)`` points of the image frame.
        row: its line of the table. caption: what stands under it.
    """

    image: NamedImage
    own: bool
    target: int | None
    positive: Tensor
    negative: Tensor
    values: Tensor
    fmap: FeatureMap
    row: dict[str, Any]
    caption: str = ""


@dataclass(eq=False, kw_only=True)
class AffinityDrawing(Drawing):
    """Attributes:
    columns: heading → its maps, those that the figure shows.
    scale: the colours of all values.
    """

    columns: dict[str, list[AffinityMap]]
    scale: Scale


def affinity(query: Affinity, session: Session, progress: Progress) -> AffinityDrawing:
    """Affinity maps, and the numbers beside them.

    One image: a row for each point, or one for all of them if ``together`` or where there are negative ones. Several
    images: a row each, with the points at the same place in each. With ``to``: a row for each of those besides. A
    column for each network. Where several points have one map it is the *maximum* over them (``plrc.analysis.prompt``).

    Numbers: *AUC*, where the point's object is known: the chance that affinity ranks a pixel of the object above one
    outside it at the same distance from the point (0.5: by chance); and *IoU*, the overlap of the object with the cells
    above the threshold that suits this map best: what a threshold could reach. *half*: the share of the image above the
    middle of the map's range, or, of a softmax, the smallest share that holds half of it; small means that the map is
    specific. A difference has a row of its own, with its lowest and highest value.

    A softmax is over the cells of all images that are asked the same. What is drawn, kept and subtracted is its
    *density* (``plrc.analysis.density``), 1 where it is even: shares, whose sum is 1, would be the smaller the more
    cells a network's map has. Its colours always have the values' own range.
    """
    from plrc import figures
    from plrc.figures.style import DENSITY, DENSITY_DIFFERENCE

    images, many = query.images, len(query.images) > 1
    if query.difference and len(query.checkpoints) < 2:
        raise ValueError("--difference compares two checkpoints: name another one with --checkpoint")
    if query.to and many:
        raise ValueError("--to looks for the point of one image in others: name one image before it")
    networks = session.networks(query)
    inputs = inputs_of(networks, query)
    others = [session.image(spec) for spec in query.to]
    title = f"{list(networks)[-1]} − {next(iter(networks))}"
    one = query.together or len(query.negatives) > 0 or many or bool(query.to)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in [*networks, *([title] if query.difference else [])]}
    arrays: dict[str, np.ndarray] = {}
    points_asked: dict[str, np.ndarray] = {}
    shown: dict[str, list[AffinityMap]] = {}
    chosen, maps_before, made, merged = spread(len(images), ON_A_SHEET), 0, "", ""
    for number, spec in enumerate(images):
        image = session.image(spec)
        positive, negative, target = _points(query, image)
        questions = [(points, negative) for points in ([positive] if one else positive[:, None])]
        for asked in (image, *others):
            inputs |= asked.inputs
        maps = {
            name: _ask(session, name, net, [image, *others], questions, target, query) for name, net in networks.items()
        }
        if not number:
            made = made_of({name: column[0].fmap for name, column in maps.items()}, query, len(images) + len(others))
            merged = _merged(*questions[0])
        for name, column in maps.items():
            found[name] += [answer.row for answer in column]
        if query.difference:
            maps = {title: _difference(title, *list(maps.values())[:: len(maps) - 1])}
            found[title] += [answer.row for answer in maps[title]]
        for name, column in maps.items():
            for i, answer in enumerate(column, start=maps_before):
                arrays[f"{name} {i}"] = answer.values.numpy()
                points_asked |= {f"positive {i}": answer.positive.numpy(), f"negative {i}": answer.negative.numpy()}
            if number in chosen:  # the others are let go: a folder may be long
                shown.setdefault(name, []).extend(column)
        maps_before += len(next(iter(maps.values())))
        progress("images", number + 1, len(images))

    softmax = query.temperature is not None
    asked_for = DENSITY if softmax else "positive − negative" if query.negatives else "cosine"
    quantity = (DENSITY_DIFFERENCE if softmax else "difference") if query.difference else asked_for
    limits = (-1.0, 1.0) if query.colour_range == "full" and not softmax else None
    columns = {heading(name, column[0].fmap, query.layer): column for name, column in shown.items()}
    alone = len(columns) == 1 and not many and not query.to and not query.difference
    rows = len(images) if many else maps_before
    named = few(answer.image.name for answer in next(iter(columns.values())))
    note = note_of(named, made, f"softmax at temperature {query.temperature:g}" if softmax else "", merged)
    numbers = [[name, *_numbers(found[name], asked_for, softmax)] for name in networks]
    if query.difference:
        first, *_, last, own = found.values()
        numbers.append([title, *_difference_numbers(own, first, last)])
    return AffinityDrawing(
        query=query,
        inputs=inputs,
        arrays=arrays | points_asked,
        draw=partial(_draw, columns, quantity, limits, alone, note),
        lines=aligned(numbers),
        rows=[row for column in found.values() for row in column],
        part=f"{ON_A_SHEET} of {rows} {'images' if many else 'maps'}" if rows > ON_A_SHEET and not alone else "",
        columns=columns,
        scale=figures.scale_of(quantity, limits, [a.values.numpy() for column in columns.values() for a in column]),
    )


def _points(query: Affinity, image: NamedImage) -> tuple[Tensor, Tensor, int | None]:
    """Positive and negative points, and the object that is meant where no point is given."""
    positive, negative = points_in_frame(query.points, image), points_in_frame(query.negatives, image)
    if len(positive):
        return positive, negative, None
    if image.masks is None or not image.masks.any():
        return torch.tensor([(0.5, 0.5)]), negative, None
    target = largest(image.masks)
    return torch.tensor([innermost(image.masks[target])]), negative, target


def _ask(
    session: Session,
    name: str,
    network: DenseEncoder,
    images: list[NamedImage],
    questions: list[tuple[Tensor, Tensor]],
    target: int | None,
    query: Affinity,
) -> list[AffinityMap]:
    """The maps of some images, which are encoded once: which cells are like points of the first of them."""
    fmaps = list(session.maps(network, [image.image for image in images], query))
    for image, fmap in zip(images, fmaps, strict=True):
        check_cells(network.origin.name, image.name, fmap)
    found = []
    for positive, negative in questions:
        maps = prompt(fmaps[0], positive, negative, to=fmaps, temperature=query.temperature)
        if query.temperature is not None:
            maps = density(maps)
        for i, (image, values, fmap) in enumerate(zip(images, maps, fmaps, strict=True)):
            answer = AffinityMap(image, i == 0, target, positive, negative, values.cpu(), fmap, {})
            row = _row(name, answer, _half(answer.values, query.temperature is not None))
            if (mask := _meant(answer)) is not None:
                auc = point_auc(answer.values, fmap.extent, mask, positive[0])
                row["AUC"] = "" if math.isnan(auc) else round(auc, 4)  # the object may fill the image
                row["IoU"] = round(best_iou(answer.values, fmap.extent, mask)[0], 4)
            caption = _span([row]) if row["AUC"] == "" else f"AUC {row['AUC']:.2f}"
            found.append(replace(answer, row=row, caption=caption))
    return found


def _difference(title: str, first: list[AffinityMap], last: list[AffinityMap]) -> list[AffinityMap]:
    """The last network's maps minus the first one's, on the grid that has more cells."""
    found = []
    for a, b in zip(first, last, strict=True):
        values, grid = map_difference(b.values[None], b.fmap, a.values[None], a.fmap)
        answer = replace(b, values=values[0], fmap=grid)
        row = _row(title, answer, "")
        caption = _span([row])
        if "" not in (before := a.row["AUC"], after := b.row["AUC"]):
            caption += ", " + f"AUC {before:.2f} → {after:.2f}".replace(" ", "\N{NO-BREAK SPACE}")  # a line of its own
        found.append(replace(answer, row=row, caption=caption))
    return found


def _row(network: str, answer: AffinityMap, half: float | str) -> dict[str, Any]:
    return {
        "image": answer.image.spec,
        "point": " ".join(f"{x:.3f},{y:.3f}" for x, y in answer.positive.tolist()) if answer.own else "",
        "network": network,
        "lowest": round(float(answer.values.min()), 4),
        "highest": round(float(answer.values.max()), 4),
        "half": half,
        "AUC": "",
        "IoU": "",
    }


def _half(values: Tensor, softmax: bool) -> float:
    if softmax:
        sums = values.flatten().sort(descending=True).values.double().cumsum(0)
        return round((int((sums < sums[-1] / 2).sum()) + 1) / len(sums), 4)
    return round(float((values > (float(values.min()) + float(values.max())) / 2).float().mean()), 4)


def _meant(answer: AffinityMap) -> Tensor | None:
    """The mask ``(H, W)`` of the object that is meant; None where none is known to hold the first point.

    Where objects overlap, the smallest that holds a point is meant: a person's hat, not the person.
    """
    masks, target = answer.image.masks, answer.target
    if masks is None or not answer.own:
        return None
    if target is None:
        row, column = cell_of(answer.positive[0], *masks.shape[1:])
        holding = np.flatnonzero(masks[:, row, column])
        if not len(holding):
            return None
        target = int(min(holding, key=lambda i: masks[i].sum()))
    return torch.from_numpy(masks[target].copy())


def _numbers(rows: list[dict[str, Any]], quantity: str, softmax: bool) -> list[str]:
    """The numbers of a network over all its maps; images are what is drawn at random, not the points in them."""
    numbers = []
    if aucs := _aucs(rows):
        known = sum(row["AUC"] != "" for row in rows)
        of = f"{known} of {len(rows)} maps" * (known < len(rows))
        numbers.append(result("object AUC", aucs, "distance-matched", 0.5, of))
    half = f"half of the softmax in {np.mean([row['half'] for row in rows]):.1%} of the image"
    return [*numbers, half if softmax else f"{quantity} {_span(rows)}", *[f"{len(rows)} maps"] * (len(rows) > 1)]


def _difference_numbers(
    rows: list[dict[str, Any]], first: list[dict[str, Any]], last: list[dict[str, Any]]
) -> list[str]:
    before, after = _aucs(first), _aucs(last)
    auc = [f"object AUC {np.mean(before):.3f} → {np.mean(after):.3f}"] if before and after else []
    return [*auc, f"difference {_span(rows)}", *[f"{len(rows)} maps"] * (len(rows) > 1)]


def _aucs(rows: list[dict[str, Any]]) -> list[float]:
    """The mean AUC of each image where it is known."""
    aucs: dict[str, list[float]] = {}
    for row in rows:
        if row["AUC"] != "":
            aucs.setdefault(row["image"], []).append(row["AUC"])
    return [float(np.mean(of)) for of in aucs.values()]


def _span(rows: list[dict[str, Any]]) -> str:
    low, high = min(row["lowest"] for row in rows), max(row["highest"] for row in rows)
    return f"{low:.2f} to {high:.2f}".replace("-", "−")


def _merged(positive: Tensor, negative: Tensor) -> str:
    """Where a map is of several points, how they were put together."""
    said = f"maximum over {len(positive)} points" if len(positive) > 1 else ""
    if len(negative) > 1:
        said += f"{' minus that' if said else 'minus the maximum'} over {len(negative)} negative ones"
    return said


def _draw(
    columns: Mapping[str, list[AffinityMap]],
    quantity: str,
    limits: tuple[float, float] | None,
    alone: bool,
    note: str,
) -> Figure:
    """A column of maps for each heading; those of one image by one network in rows of four."""
    from plrc import figures

    first = next(iter(columns.values()))
    if alone:  # the heading says what of what
        ((name, _),) = columns.items()
        titles = [f"{name}, point {i}" for i in range(1, len(first) + 1)] if len(first) > 1 else [name]
        return figures.affinity(
            first[0].image.pixels,
            [answer.values for answer in first],
            [answer.positive.numpy() for answer in first],
            [f"{title}: {answer.caption}" for title, answer in zip(titles, first, strict=True)],
            negatives=[answer.negative.numpy() for answer in first],
            quantity=quantity,
            limits=limits,
            extent=tuple(first[0].fmap.extent.tolist()),
            mask=_meant(first[0]) if len(first) == 1 else None,
            note=note,
        )
    chosen = spread(len(first), ON_A_SHEET)  # of one image's points there may be more
    shown = {name: [column[i] for i in chosen] for name, column in columns.items()}
    first, nowhere = [first[i] for i in chosen], np.zeros((0, 2))
    return figures.affinity_sheet(
        [answer.image.pixels for answer in first],
        [answer.positive.numpy() if answer.own else nowhere for answer in first],
        {name: [answer.values for answer in column] for name, column in shown.items()},
        negatives=[answer.negative.numpy() if answer.own else nowhere for answer in first],
        captions={name: [answer.caption for answer in column] for name, column in shown.items()},
        quantity=quantity,
        limits=limits,
        extents={name: [tuple(a.fmap.extent.tolist()) for a in column] for name, column in shown.items()},
        masks=[_meant(answer) for answer in first],
        note=note,
    )
