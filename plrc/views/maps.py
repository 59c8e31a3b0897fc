"""The maps of an affinity drawing: the numbers of each, and the figure of all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from plrc import figures
from plrc.analysis.features import FeatureMap
from plrc.analysis.scores import best_iou, bootstrap, point_auc
from plrc.geometry import cell_of
from plrc.views.pictures import Picture, spread

ON_A_SHEET = 12  # rows; the table and the arrays have all


@dataclass(frozen=True, eq=False)
class Answer:
    """One map: ``values (h, w)`` lie over ``picture`` as ``fmap`` does.

    Attributes:
        own: the points, and thing, are of this picture. thing: the number of the object that is meant.
        positive, negative: ``(p, 2)`` and ``(q, 2)`` points of the image frame.
    """

    picture: Picture
    own: bool
    thing: int | None
    positive: Tensor
    negative: Tensor
    values: Tensor
    fmap: FeatureMap


def row_of(network: str, answer: Answer, kind: str = "cosine") -> dict[str, Any]:
    """A line of the table.

    Args:
        kind: of the values. "cosine"; "softmax", of which *half* is the smallest share of the cells that has half of
            it; or "difference", which has neither *half* nor *AUC* nor *IoU* of its own.
    """
    values = answer.values
    low, high = float(values.min()), float(values.max())
    if kind == "difference":
        half: float | str = ""
    elif kind == "softmax":
        sums = values.flatten().sort(descending=True).values.double().cumsum(0)
        half = round((int((sums < sums[-1] / 2).sum()) + 1) / len(sums), 4)
    else:
        half = round(float((values > (low + high) / 2).float().mean()), 4)
    row: dict[str, Any] = {
        "picture": answer.picture.spec,
        "point": " ".join(f"{x:.3f},{y:.3f}" for x, y in answer.positive.tolist()) if answer.own else "",
        "network": network,
        "lowest": round(low, 4),
        "highest": round(high, 4),
        "half": half,
        "AUC": "",
        "IoU": "",
    }
    mask = None if kind == "difference" else _meant(answer)
    if mask is not None:
        auc = point_auc(values, answer.fmap.extent, mask, answer.positive[0])
        row["AUC"] = "" if math.isnan(auc) else round(auc, 4)  # the object may fill the picture
        row["IoU"] = round(best_iou(values, answer.fmap.extent, mask)[0], 4)
    return row


def _meant(answer: Answer) -> Tensor | None:
    """The mask ``(H, W)`` of the object that is meant; None where none is known to hold the first point.

    Where objects overlap, the smallest that holds a point is meant: a person's hat, not the person.
    """
    masks = answer.picture.masks
    if masks is None or not answer.own:
        return None
    thing = answer.thing
    if thing is None:
        row, column = cell_of(answer.positive[0], *masks.shape[1:])
        holding = np.flatnonzero(masks[:, row, column])
        if not len(holding):
            return None
        thing = int(min(holding, key=lambda i: masks[i].sum()))
    return torch.from_numpy(masks[thing].copy())


def lines_of(rows: dict[str, list[dict[str, Any]]], softmax: bool = False) -> list[str]:
    """The numbers of each network, over all its maps."""
    lines = []
    for network, mine in rows.items():
        half = np.mean([row["half"] for row in mine])
        line = f"{network}: above the middle of its range lie {half:.0%} of the picture"
        if softmax:
            line = f"{network}: half of its softmax lies in {half:.1%} of the picture"
        line += f" (mean of {len(mine)} maps)" * (len(mine) > 1)
        if means := _aucs(mine):
            maps = sum(row["AUC"] != "" for row in mine)
            share = str(bootstrap(means)) if len(means) > 1 else f"{means[0]:.3f}"
            line += f"; a pixel of the object ranks above one outside, equally far, {share} of the time"
            line += f" ({maps} of the maps)" * (maps < len(mine))
        lines.append(line)
    return lines


def difference_line(rows: list[dict[str, Any]], first: list[dict[str, Any]], last: list[dict[str, Any]]) -> str:
    """The numbers of differences, and the AUC of the two networks that they are of."""
    span = _span(min(row["lowest"] for row in rows), max(row["highest"] for row in rows))
    line = f"{rows[0]['network']}: from {span.replace(' to ', ' up to ')}"
    line += f" ({len(rows)} maps)" * (len(rows) > 1)
    before, after = _aucs(first), _aucs(last)
    return line + (f"; AUC {np.mean(before):.3f} → {np.mean(after):.3f}" if before and after else "")


def _aucs(rows: list[dict[str, Any]]) -> list[float]:
    """The mean AUC of each picture where it is known: the picture is what is drawn at random, not the point in it."""
    aucs: dict[str, list[float]] = {}
    for row in rows:
        if row["AUC"] != "":
            aucs.setdefault(row["picture"], []).append(row["AUC"])
    return [float(np.mean(of)) for of in aucs.values()]


def of_one(answers: dict[str, list[tuple[Answer, str]]], difference: bool) -> bool:
    """One picture by one network, of which the heading says what of what: all its maps are drawn."""
    columns = list(answers.values())
    one_picture = all(answer.picture is columns[0][0][0].picture for answer, _ in columns[0])
    return len(columns) == 1 and one_picture and not difference


def draw_maps(
    columns: dict[str, list[tuple[Answer, str]]],
    quantity: str,
    limits: tuple[float, float] | None,
    difference: bool,
    note: str,
) -> Figure:
    """The maps with their captions, a column for each heading; of one picture by one network in rows of four."""
    if of_one(columns, difference):
        ((name, column),) = columns.items()
        return _draw_one(name, column, quantity, limits, note)
    chosen = spread(len(next(iter(columns.values()))), ON_A_SHEET)  # of one picture's points there may be more
    shown = {name: [column[i] for i in chosen] for name, column in columns.items()}
    first = [answer for answer, _ in next(iter(shown.values()))]
    empty = np.zeros((0, 2))
    return figures.affinity_sheet(
        [answer.picture.pixels for answer in first],
        [answer.positive.numpy() if answer.own else empty for answer in first],
        {name: [answer.values for answer, _ in column] for name, column in shown.items()},
        negatives=[answer.negative.numpy() if answer.own else empty for answer in first],
        captions={name: [caption for _, caption in column] for name, column in shown.items()},
        quantity=quantity,
        limits=limits,
        extents={name: [tuple(a.fmap.extent.tolist()) for a, _ in column] for name, column in shown.items()},
        note=note,
    )


def _draw_one(
    name: str, shown: list[tuple[Answer, str]], quantity: str, limits: tuple[float, float] | None, note: str
) -> Figure:
    """One picture by one network: a map for each point."""
    answers = [answer for answer, _ in shown]
    titles = [f"{name}, point {i}" for i in range(1, len(answers) + 1)] if len(answers) > 1 else [name]
    return figures.affinity(
        answers[0].picture.pixels,
        [answer.values for answer in answers],
        [answer.positive.numpy() for answer in answers],
        [f"{title}: {caption}" for title, (_, caption) in zip(titles, shown, strict=True)],
        negatives=[answer.negative.numpy() for answer in answers],
        quantity=quantity,
        limits=limits,
        extent=tuple(answers[0].fmap.extent.tolist()),
        note=note,
    )


def caption_of(row: dict[str, Any]) -> str:
    """What stands under a map: its AUC, or its range where no object is known."""
    return _span(row["lowest"], row["highest"]) if row["AUC"] == "" else f"AUC {row['AUC']:.2f}"


def difference_caption(row: dict[str, Any], first: dict[str, Any], last: dict[str, Any]) -> str:
    """What stands under a difference: its own range and, where an object is known, the AUC of both networks."""
    span = _span(row["lowest"], row["highest"])
    if "" in (first["AUC"], last["AUC"]):
        return span
    both = f"AUC {first['AUC']:.2f} → {last['AUC']:.2f}".replace(" ", "\N{NO-BREAK SPACE}")  # a line of its own
    return f"{span}, {both}"


def points_said(answers: list[Answer]) -> str:
    """Where a map is of several points, how they were put together; nothing where each has its own."""
    own = [answer for answer in answers if answer.own]
    positive, negative = (max(len(p) for p in of) for of in zip(*((a.positive, a.negative) for a in own), strict=True))
    said = f"maximum over {positive} points" if positive > 1 else ""
    if negative > 1:
        said += f"{' less that' if said else 'less the maximum'} over {negative} negative ones"
    return said


def _span(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}".replace("-", "−")
