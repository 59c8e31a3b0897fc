"""``plrc affinity``: how alike each cell of a picture, or of others, is to a point, by one network or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plrc import figures
from plrc.analysis.affinity import density, map_difference, prompt
from plrc.analysis.features import DenseEncoder
from plrc.figures import Scale
from plrc.figures.scales import DENSITY, DENSITY_DIFFERENCE
from plrc.views.drawing import NO_PARAMETERS, Drawing, Progress, few, note_of
from plrc.views.maps import (
    ON_A_SHEET,
    Answer,
    caption_of,
    difference_caption,
    difference_line,
    draw_maps,
    lines_of,
    of_one,
    points_said,
    row_of,
)
from plrc.views.networks import check_cells, heading, inputs_of, made_of, sides
from plrc.views.pictures import Picture, innermost, largest, points_in_frame, spread
from plrc.views.session import Session


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


@dataclass(eq=False, kw_only=True)
class AffinityDrawing(Drawing):
    """Attributes:
    columns: heading → its maps with their captions, those that the figure shows.
    names: heading → what the rows of the table call it (``row["network"]``).
    scale: the colours of all values.
    """

    columns: dict[str, list[tuple[Answer, str]]]
    names: dict[str, str]
    scale: Scale


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
    together: bool = False,
    difference: bool = False,
    auto_range: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    session: Session | None = None,
) -> AffinityDrawing:
    """Affinity maps, and the numbers beside them.

    One picture: a row for each point, or one for all of them if ``together`` or where there are negative ones. Several
    pictures: a row each, with the points at the same place in each. With ``to``: a row for each of those besides. A
    column for each network. Where several points have one map it is the *maximum* over them (``plrc.analysis.prompt``).

    Numbers: *AUC*, where the point's object is known: the chance that affinity ranks a pixel of the object above one
    outside it at the same distance from the point (0.5: by chance); and *IoU*, the overlap of the object with the cells
    above the threshold that suits this map best: what a threshold could reach. *half*: the share of the picture above
    the middle of the map's range, or, of a softmax, the smallest share that holds half of it; small means that the map
    is specific. A difference has a row of its own, with its lowest and highest value.

    Args:
        pictures, to: as ``plrc.views.pictures.open_picture`` takes them. checkpoints: as ``plrc.load_encoder`` does.
        points, negatives: ``[x, y]`` in the image frame or ``[x, y, "px"]``. No point: the innermost point of the
            picture's largest object, where objects are known, else its centre.
        layer, size, finer: as of ``DenseEncoder.features``. branch: as of ``plrc.load_encoder``.
        temperature: of a softmax over the cells of all pictures that are asked the same; None for cosines. What is
            drawn, kept and subtracted is its *density* (``plrc.analysis.density``), 1 where it is even: shares, whose
            sum is 1, would be the smaller the more cells a network's map has.
        together: the points of a picture are one question.
        difference: draw the last network's maps less the first one's.
        auto_range: colours from the values' own range, as a softmax has them always. Else all maps have those of
            [−1, 1], in which most differences and positive − negative lie too; a pointed end of the colour bar says
            that there are values beyond.
        progress: is told the pictures done. session: what was loaded and encoded before. Neither is part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name not in NO_PARAMETERS}
    if difference and len(checkpoints) < 2:
        raise ValueError("--difference compares two checkpoints: name another one with --checkpoint")
    if to and len(pictures) > 1:
        raise ValueError("--to looks for the point of one picture in others: name one picture before it")
    session = session or Session()
    networks = session.networks(checkpoints, device, layer, branch)
    inputs = inputs_of(networks, checkpoints)

    kind = "cosine" if temperature is None else "softmax"
    title = f"{list(networks)[-1]} − {next(iter(networks))}"
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    differences: list[dict[str, Any]] = []
    made = points_merged = ""
    maps: dict[str, np.ndarray] = {}
    points_asked: dict[str, np.ndarray] = {}
    shown: dict[str, list[tuple[Answer, str]]] = {}  # with their captions
    chosen, maps_before = spread(len(pictures), ON_A_SHEET), 0
    for number, questions in enumerate(_questions(session, pictures, to, points, negatives, together)):
        for picture in questions.pictures:
            inputs |= picture.inputs
        answers = {
            name: _ask(session, net, questions, layer, size, finer, temperature) for name, net in networks.items()
        }
        if not number:
            made = made_of({name: column[0].fmap for name, column in answers.items()}, size, len(pictures) + len(to))
            points_merged = points_said(next(iter(answers.values())))
        rows = {name: [row_of(name, answer, kind) for answer in column] for name, column in answers.items()}
        captions = {name: [caption_of(row) for row in column] for name, column in rows.items()}
        for name, column in rows.items():
            found[name] += column
        if difference:
            first, *_, last = rows.values()
            answers = {title: _difference(answers)}
            mine = [row_of(title, answer, "difference") for answer in answers[title]]
            captions = {title: [difference_caption(*three) for three in zip(mine, first, last, strict=True)]}
            differences += mine
        for name, drawn in answers.items():
            for i, answer in enumerate(drawn, start=maps_before):
                maps[f"{name} {i}"] = answer.values.numpy()
                points_asked |= {f"positive {i}": answer.positive.numpy(), f"negative {i}": answer.negative.numpy()}
            if number in chosen:  # the others are let go: a folder may be long
                shown.setdefault(name, []).extend(zip(drawn, captions[name], strict=True))
        maps_before += len(drawn)
        if progress is not None:
            progress("pictures", number + 1, len(pictures))

    if kind == "softmax":
        quantity = DENSITY_DIFFERENCE if difference else DENSITY
    elif difference:
        quantity = "difference"
    else:
        quantity = "positive − negative" if negatives else "cosine"
    limits = None if auto_range or temperature else (-1.0, 1.0)
    table = [row for column in found.values() for row in column] + differences
    lines = lines_of(found, kind == "softmax")
    if difference:
        first, *_, last = found.values()
        lines.append(difference_line(differences, first, last))
    rows_asked = maps_before if len(pictures) == 1 else len(pictures)
    part = ""
    if rows_asked > ON_A_SHEET and not of_one(shown, difference):
        part = f"{ON_A_SHEET} of {rows_asked} {'maps' if len(pictures) == 1 else 'pictures'}"
    names = {heading(name, column[0][0].fmap, layer): name for name, column in shown.items()}
    columns = {head: shown[name] for head, name in names.items()}
    names_of_pictures = few(answer.picture.name for answer, _ in next(iter(columns.values())))
    softmax = f"softmax at temperature {temperature:g}" if temperature else ""
    note = note_of(names_of_pictures, made, softmax, points_merged)
    values = [answer.values.numpy() for column in columns.values() for answer, _ in column]
    return AffinityDrawing(
        kind="affinity",
        parameters=parameters,
        inputs=inputs,
        arrays=maps | points_asked,
        draw=partial(draw_maps, columns, quantity, limits, difference, note),
        lines=lines,
        rows=table,
        part=part,
        columns=columns,
        names=names,
        scale=figures.scale_of(quantity, limits, values),
    )


def _questions(
    session: Session,
    pictures: Sequence[str],
    to: Sequence[str],
    points: Sequence[Sequence[Any]],
    negatives: Sequence[Sequence[Any]],
    together: bool,
) -> Iterator[_Questions]:
    """Pictures are opened one after the other, so that a folder of any length will do."""
    others = [session.picture(spec) for spec in to]
    for spec in pictures:
        picture = session.picture(spec)
        wanted, unwanted = points_in_frame(points, picture), points_in_frame(negatives, picture)
        thing = None
        if not len(wanted):
            wanted = torch.tensor([(0.5, 0.5)])
            if picture.masks is not None and picture.masks.any():
                thing = largest(picture.masks)
                wanted = torch.tensor([innermost(picture.masks[thing])])
        one = together or len(negatives) > 0 or len(pictures) > 1 or bool(to)
        prompts = [(positive, unwanted) for positive in ([wanted] if one else wanted[:, None])]
        yield _Questions([picture, *others], prompts, thing)


def _ask(
    session: Session,
    network: DenseEncoder,
    questions: _Questions,
    layer: str | None,
    size: int | Sequence[int],
    finer: str | None,
    temperature: float | None,
) -> list[Answer]:
    fmaps = list(session.maps(network, [p.image for p in questions.pictures], layer, sides(size), finer))
    for picture, fmap in zip(questions.pictures, fmaps, strict=True):
        check_cells(network.origin.name, picture.name, fmap)
    answers = []
    for positive, negative in questions.prompts:
        maps = prompt(fmaps[0], positive, negative, to=fmaps, temperature=temperature)
        if temperature is not None:
            maps = density(maps)
        for i, (picture, values, fmap) in enumerate(zip(questions.pictures, maps, fmaps, strict=True)):
            answers.append(Answer(picture, i == 0, questions.thing, positive, negative, values.cpu(), fmap))
    return answers


def _difference(answers: dict[str, list[Answer]]) -> list[Answer]:
    """The last network's maps less the first one's, on the grid that has more cells."""
    first, *_, last = answers.values()
    found = []
    for a, b in zip(first, last, strict=True):
        values, grid = map_difference(b.values[None], b.fmap, a.values[None], a.fmap)
        found.append(replace(b, values=values[0], fmap=grid))
    return found
