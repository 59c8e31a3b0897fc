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
from plrc.recipes.pictures import Picture, spread

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


def row_of(network: str, answer: Answer) -> dict[str, Any]:
    """A line of the table."""
    values = answer.values
    low, high = float(values.min()), float(values.max())
    row: dict[str, Any] = {
        "picture": answer.picture.spec,
        "point": " ".join(f"{x:.3f},{y:.3f}" for x, y in answer.positive.tolist()) if answer.own else "",
        "network": network,
        "lowest": round(low, 4),
        "highest": round(high, 4),
        "half": round(float((values > (low + high) / 2).float().mean()), 4),
        "AUC": "",
        "IoU": "",
    }
    mask = _meant(answer)
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


def lines_of(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The numbers of each network, over all its maps."""
    lines = []
    for network, mine in rows.items():
        aucs: dict[str, list[float]] = {}  # the picture is what is drawn at random, not the point in it
        for row in mine:
            if row["AUC"] != "":
                aucs.setdefault(row["picture"], []).append(row["AUC"])
        half = np.mean([row["half"] for row in mine])
        line = f"{network}: above the middle of its range lie {half:.0%} of the picture"
        line += f" (mean of {len(mine)} maps)" * (len(mine) > 1)
        if aucs:
            means, maps = [float(np.mean(of)) for of in aucs.values()], sum(map(len, aucs.values()))
            share = str(bootstrap(means)) if len(means) > 1 else f"{means[0]:.3f}"
            line += f"; a pixel of the object ranks above one outside, equally far, {share} of the time"
            line += f" ({maps} of the maps)" * (maps < len(mine))
        lines.append(line)
    return lines


def of_one(answers: dict[str, list[tuple[Answer, str]]], difference: bool) -> bool:
    """One picture by one network, of which the heading says what of what: all its maps are drawn."""
    columns = list(answers.values())
    one_picture = all(answer.picture is columns[0][0][0].picture for answer, _ in columns[0])
    return len(columns) == 1 and one_picture and not difference


def draw_maps(
    columns: dict[str, list[tuple[Answer, str]]], quantity: str, limits: tuple[float, float] | None
) -> Figure:
    """The maps with their captions, a column for each heading; of one picture by one network in rows of four."""
    if of_one(columns, quantity == "difference"):
        ((name, column),) = columns.items()
        return _draw_one(name, column, quantity, limits)
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
    )


def _draw_one(name: str, shown: list[tuple[Answer, str]], quantity: str, limits: tuple[float, float] | None) -> Figure:
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
    )


def caption_of(row: dict[str, Any]) -> str:
    return (
        f"{row['lowest']:.2f} to {row['highest']:.2f}".replace("-", "−")
        if row["AUC"] == ""
        else f"AUC {row['AUC']:.2f}"
    )
