"""``plrc affinity``: how alike each cell of a picture, or of others, is to a point, by one network or several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from plrc import figures
from plrc.analysis.affinity import map_difference, prompt
from plrc.analysis.features import DenseEncoder, FeatureMap
from plrc.analysis.scores import bootstrap, point_auc
from plrc.geometry import cell_of
from plrc.recipes.drawing import Drawing, Progress
from plrc.recipes.networks import heading, inputs_of, open_networks, sides
from plrc.recipes.pictures import Picture, innermost, largest, open_picture, points_in_frame, spread

_ON_A_SHEET = 12  # rows; the table and the arrays have all


@dataclass(frozen=True, eq=False)
class _Questions:
    """What is asked of some pictures, which are encoded once: which cells are like points of the first of them.

    Attributes:
        prompts: positive points ``(p, 2)`` and negative points ``(q, 2)`` of each question.
        thing: the number of the object that is meant; None: that at the first point.
    """

    pictures: list[Picture]
    prompts: list[tuple[Tensor, Tensor]]
    thing: int | None


@dataclass(frozen=True, eq=False)
class _Answer:
    """One map: ``values`` (h, w) lie over ``picture`` as ``fmap`` does; ``own``: the points, and thing, are of it."""

    picture: Picture
    own: bool
    thing: int | None
    positive: Tensor
    negative: Tensor
    values: Tensor
    fmap: FeatureMap


def draw_affinity(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    points: Sequence[Sequence[Any]] = (),
    negatives: Sequence[Sequence[Any]] = (),
    to: Sequence[str] = (),
    layer: str | None = None,
    branch: str | None = None,
    size: int | Sequence[int] = 448,
    finer: str | None = None,
    temperature: float | None = None,
    difference: bool = False,
    auto_range: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Drawing:
    """Affinity maps, and the numbers beside them.

    One picture: a row for each point, or one for all of them where there are negative ones. Several pictures: a row
    each, with the points at the same place in each. With ``to``: a row for each of those besides. A column for each
    network.

    Numbers: *AUC*, where the point's object is known: the chance that affinity ranks a pixel of the object above one
    outside it at the same distance from the point (0.5: by chance). *half*: the share of the picture above the middle
    of the map's range; small means that the map is specific.

    Args:
        pictures, to: as ``plrc.recipes.pictures.open_picture`` takes them. checkpoints: as ``plrc.load_encoder`` does.
        points, negatives: ``[x, y]`` in the image frame or ``[x, y, "px"]``. No point: the innermost point of the
            picture's largest object, where objects are known, else its centre.
        layer, size, finer: as of ``DenseEncoder.features``. branch: as of ``plrc.load_encoder``.
        temperature: of a softmax over the cells of all pictures that are asked the same; None for cosines.
        difference: draw the last network's maps less the first one's; the numbers are those of each network.
        auto_range: colours from the values' own range. progress: is told the pictures done; no part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name != "progress"}
    if difference and len(checkpoints) < 2:
        raise ValueError("--difference compares two checkpoints: name another one with --checkpoint")
    if to and len(pictures) > 1:
        raise ValueError("--to looks for the point of one picture in others: name one picture before it")
    networks = open_networks(checkpoints, device, layer, branch)
    inputs = inputs_of(networks, checkpoints)

    found: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    maps: dict[str, np.ndarray] = {}
    points_asked: dict[str, np.ndarray] = {}
    shown: dict[str, list[tuple[_Answer, str]]] = {}  # with their captions
    chosen, maps_before = spread(len(pictures), _ON_A_SHEET), 0
    for number, questions in enumerate(_questions(pictures, to, points, negatives)):
        for picture in questions.pictures:
            inputs |= picture.inputs
        answers = {name: _ask(net, questions, layer, size, finer, temperature) for name, net in networks.items()}
        rows = {name: [_row(name, answer) for answer in column] for name, column in answers.items()}
        captions = {name: [_caption(row) for row in column] for name, column in rows.items()}
        for name, column in rows.items():
            found[name] += column
        if difference:
            answers, captions = _difference(answers), _differences(answers, captions)
        for name, drawn in answers.items():
            for i, answer in enumerate(drawn, start=maps_before):
                maps[f"{name} {i}"] = answer.values.numpy()
                points_asked |= {f"positive {i}": answer.positive.numpy(), f"negative {i}": answer.negative.numpy()}
            if number in chosen:  # the others are let go: a folder may be long
                shown.setdefault(name, []).extend(zip(drawn, captions[name], strict=True))
        maps_before += len(drawn)
        if progress is not None:
            progress("pictures", number + 1, len(pictures))

    quantity = "cosine" if temperature is None else "softmax"
    if difference:
        quantity = "difference"
    elif negatives:
        quantity = "positive − negative"
    reach = (2.0 if difference else 1.0) * (2.0 if negatives else 1.0)
    figure = _draw(shown, quantity, None if auto_range or temperature else (-reach, reach))
    table = [row for column in found.values() for row in column]
    rows_asked = maps_before if len(pictures) == 1 else len(pictures)
    part = ""
    if rows_asked > _ON_A_SHEET and not _is_of_one(shown, difference):
        part = f"{_ON_A_SHEET} of {rows_asked} {'maps' if len(pictures) == 1 else 'pictures'}"
    return Drawing("affinity", parameters, inputs, maps | points_asked, figure, _lines(found), table, part)


def _questions(
    pictures: Sequence[str],
    to: Sequence[str],
    points: Sequence[Sequence[Any]],
    negatives: Sequence[Sequence[Any]],
) -> Iterator[_Questions]:
    """Pictures are opened one after the other, so that a folder of any length will do."""
    others = [open_picture(spec) for spec in to]
    for spec in pictures:
        picture = open_picture(spec)
        wanted, unwanted = points_in_frame(points, picture), points_in_frame(negatives, picture)
        thing = None
        if not len(wanted):
            wanted = torch.tensor([(0.5, 0.5)])
            if picture.masks is not None and picture.masks.any():
                thing = largest(picture.masks)
                wanted = torch.tensor([innermost(picture.masks[thing])])
        together = len(negatives) > 0 or len(pictures) > 1 or bool(to)
        prompts = [(positive, unwanted) for positive in ([wanted] if together else wanted[:, None])]
        yield _Questions([picture, *others], prompts, thing)


def _ask(
    network: DenseEncoder,
    questions: _Questions,
    layer: str | None,
    size: int | Sequence[int],
    finer: str | None,
    temperature: float | None,
) -> list[_Answer]:
    fmaps = list(network.batch([p.image for p in questions.pictures], layer, sides(size), finer))
    answers = []
    for positive, negative in questions.prompts:
        maps = prompt(fmaps[0], positive, negative, to=fmaps, temperature=temperature)
        for i, (picture, values, fmap) in enumerate(zip(questions.pictures, maps, fmaps, strict=True)):
            answers.append(_Answer(picture, i == 0, questions.thing, positive, negative, values.cpu(), fmap))
    return answers


def _difference(answers: dict[str, list[_Answer]]) -> dict[str, list[_Answer]]:
    """The last network's maps less the first one's, on the grid that has more cells."""
    (first, *_, last) = answers
    found = []
    for a, b in zip(answers[first], answers[last], strict=True):
        values, grid = map_difference(b.values[None], b.fmap, a.values[None], a.fmap)
        found.append(replace(b, values=values[0], fmap=grid))
    return {f"{last} − {first}": found}


def _differences(answers: dict[str, list[_Answer]], captions: dict[str, list[str]]) -> dict[str, list[str]]:
    """The captions of both networks in one: from the first to the last."""
    (first, *_, last) = answers
    both = zip(captions[first], captions[last], strict=True)
    return {f"{last} − {first}": [f"{a} → {b.removeprefix('AUC ')}" for a, b in both]}


def _row(network: str, answer: _Answer) -> dict[str, Any]:
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
    }
    auc = _auc(answer)
    return row if auc is None else {**row, "AUC": round(auc, 4)}


def _auc(answer: _Answer) -> float | None:
    """Of the object that is meant; None where none is known to hold the first point, or it fills the picture.

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
    mask = torch.from_numpy(masks[thing].copy())
    auc = point_auc(answer.values, answer.fmap.extent, mask, answer.positive[0])
    return None if math.isnan(auc) else auc


def _lines(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
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


def _is_of_one(answers: dict[str, list[tuple[_Answer, str]]], difference: bool) -> bool:
    """One picture by one network, of which the heading says what of what: all its maps are drawn."""
    columns = list(answers.values())
    one_picture = all(answer.picture is columns[0][0][0].picture for answer, _ in columns[0])
    return len(columns) == 1 and one_picture and not difference


def _draw(answers: dict[str, list[tuple[_Answer, str]]], quantity: str, limits: tuple[float, float] | None) -> Figure:
    if _is_of_one(answers, quantity == "difference"):
        ((name, column),) = answers.items()
        return _draw_one(name, column, quantity, limits)
    chosen = spread(len(next(iter(answers.values()))), _ON_A_SHEET)  # of one picture's points there may be more
    shown = {heading(name, column[0][0].fmap): [column[i] for i in chosen] for name, column in answers.items()}
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


def _draw_one(name: str, shown: list[tuple[_Answer, str]], quantity: str, limits: tuple[float, float] | None) -> Figure:
    """One picture by one network: a map for each point."""
    answers = [answer for answer, _ in shown]
    title = heading(name, answers[0].fmap)
    titles = [f"{title}, point {i}" for i in range(1, len(answers) + 1)] if len(answers) > 1 else [title]
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


def _caption(row: dict[str, Any]) -> str:
    return (
        f"{row['lowest']:.2f} to {row['highest']:.2f}".replace("-", "−")
        if row["AUC"] == ""
        else f"AUC {row['AUC']:.2f}"
    )
