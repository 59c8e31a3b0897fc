"""``plrc correspond``: which point, or region, of one picture is which of another, or of another view of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from plrc import figures
from plrc.analysis.correspondence import Matches, chance, match_points, match_regions, match_views, region_affinity
from plrc.analysis.features import DenseEncoder, FeatureMap
from plrc.analysis.pooling import region_features, region_numbers
from plrc.analysis.scores import bootstrap
from plrc.views.drawing import NO_PARAMETERS, Drawing, Progress, note_of
from plrc.views.networks import check_cells, heading, inputs_of, made_of, sides
from plrc.views.pairs import Pair, pairs_of
from plrc.views.pictures import mask_files, spread
from plrc.views.session import Session

__all__ = ["CorrespondenceDrawing", "Found", "Pair", "draw_correspondence"]

_ON_A_SHEET = 6  # pairs; the table and the arrays have all


@dataclass(frozen=True, eq=False)
class Found:
    """The matches of a pair by one network.

    Attributes:
        matches: those that are kept, of so many ``asked``. by_chance: the recall of a blind guess at their places.
        matrix: of its regions, ``(n, m)`` cosines, if there are any. fmap: of the left picture.
        keep: ``(asked,)`` bool, which matches are kept.
    """

    pair: Pair
    matches: Matches
    asked: int
    by_chance: float
    matrix: Tensor | None
    fmap: FeatureMap
    keep: Tensor

    @property
    def lines(self) -> Tensor:
        """``(n,)`` bool: which matches may have a line; that of the background has no place to begin at."""
        if self.pair.rasters is None or self.pair.background is None:
            return torch.ones(len(self.matches), dtype=torch.bool)
        return region_numbers(self.pair.rasters[0])[self.keep] != self.pair.background


@dataclass(eq=False, kw_only=True)
class CorrespondenceDrawing(Drawing):
    """Attributes:
    found: network → the matches of the pairs that the figure shows.
    """

    found: dict[str, list[Found]]


def draw_correspondence(
    pictures: Sequence[str],
    checkpoints: Sequence[str],
    other: str | None = None,
    points: Sequence[Sequence[Any]] = (),
    regions: str | None = None,
    layer: str | None = None,
    branch: str | None = None,
    size: int | Sequence[int] = 448,
    finer: str | None = None,
    within: int = 1,
    mutual: bool = False,
    ratio: float | None = None,
    seed: int = 0,
    scale: float | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    session: Session | None = None,
) -> CorrespondenceDrawing:
    """Matches between two pictures, or between two views of each of several, and how good they are.

    Two views are cut and coloured as the ``imagenet`` preset trains; their crops tell which matches are right. Numbers:
    *recall*, the share of the points that the other view shows whose match is right, beside a blind guess; *mutual*,
    the share of matches that hold in both directions, and their recall; *cycle*, how far from the start going there and
    back ends, as a share of the picture's longer side (median).

    Args:
        pictures: as ``plrc.views.pictures.open_picture`` takes them; one of them if there is an ``other``.
        checkpoints: as ``plrc.load_encoder`` takes them. other: the picture to match with; None: two views of each.
        points: of the left picture, as of ``draw_affinity``; every cell's centre if not given.
        regions: match regions, not points: "grid:4", "superpixels:16", "masks:DIR", or "objects", the pictures' own.
        layer, size, finer: as of ``DenseEncoder.features``; of views, the size is their side. branch: as of
            ``plrc.load_encoder``.
        within: cells between a match of a point and its true place that still count as right; of regions nothing.
        mutual, ratio: keep only matches that hold in both directions, or whose ratio test is below it.
        seed: of the two views. scale: the least share of the picture that a view shows; the preset's if not given. Two
            pictures have neither.
        progress: is told the pairs done. session: what was loaded and encoded before. Neither is part of the recipe.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    parameters = {name: value for name, value in locals().items() if name not in NO_PARAMETERS}
    if other is not None and len(pictures) != 1:
        raise ValueError("--with matches one picture with another: name one picture before it")
    if regions and points:
        raise ValueError("--regions and --point exclude each other: regions are matched whole")
    if within < 0:
        raise ValueError(f"--within counts cells, 0 or more, not {within}")
    if scale is not None and not 0 < scale <= 1:
        raise ValueError(f"--scale is a share of the picture, above 0 and at most 1, not {scale:g}")
    if ratio is not None and not 0 < ratio <= 1:
        raise ValueError(
            f"--ratio is the distance of a match over that of the next best, so above 0 and at most 1, not {ratio:g}"
        )
    session = session or Session()
    networks = session.networks(checkpoints, device, layer, branch)
    inputs = inputs_of(networks, checkpoints)
    inputs |= mask_files([*pictures, other] if other is not None else pictures, regions)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    shown: dict[str, list[Found]] = {name: [] for name in networks}
    parts: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in networks}
    chosen = spread(len(pictures), _ON_A_SHEET)
    for i, (pair, read) in enumerate(pairs_of(session, pictures, other, points, regions, size, seed, scale)):
        inputs |= read
        for name, network in networks.items():
            found = _match(session, network, pair, layer, size, finer, within, mutual, ratio)
            rows[name].append(_row(name, found))
            for part, values in _arrays(found).items():
                parts[name].setdefault(part, []).append(values)
            if i in chosen:  # the others are let go: a folder may be long
                shown[name].append(found)
        if progress is not None:
            progress("pictures", i + 1, len(pictures))
    lines = [_line(name, mine, mutual) for name, mine in rows.items()]
    table = [row for mine in rows.values() for row in mine]
    kept = ["mutual matches"] if mutual else []
    kept += [f"ratio below {ratio:g}"] if ratio is not None else []
    judged = [f"right within {within} {'cell' if within == 1 else 'cells'}"] if other is None and not regions else []
    how = note_of(
        made_of({name: of[0].fmap for name, of in shown.items()}, size, 1 if other is None else 2),
        *([f"regions {regions}"] if regions else []),
        *([f"seed {seed}"] if other is None else []),
        *judged,
        *kept,
    )
    arrays = {f"{name} {part}": array for name, mine in parts.items() for part, array in _joined(mine).items()}
    return CorrespondenceDrawing(
        kind="correspondence",
        parameters=parameters,
        inputs=inputs,
        arrays=arrays,
        draw=partial(_draw, shown, other is None, layer, how),
        lines=lines,
        rows=table,
        part=f"{len(chosen)} of {len(pictures)} pictures" if len(chosen) < len(pictures) else "",
        found=shown,
    )


def _match(
    session: Session,
    network: DenseEncoder,
    pair: Pair,
    layer: str | None,
    size: int | Sequence[int],
    finer: str | None,
    within: int,
    mutual: bool,
    ratio: float | None,
) -> Found:
    a, b = session.maps(network, [pair.left, pair.right], layer, sides(size), finer)
    for fmap in (a, b):
        check_cells(network.origin.name, pair.name, fmap)
    matrix = None
    if pair.rasters:
        matches = match_regions(a, pair.rasters[0], b, pair.rasters[1], named_alike=pair.crops is not None)
        matrix = region_affinity(*(region_features(f, r) for f, r in zip((a, b), pair.rasters, strict=True)))
    elif pair.crops:
        matches = match_views(a, b, *pair.crops, pair.points, within)
    else:
        matches = match_points(a, b, pair.points, within=within)
    keep = torch.ones(len(matches), dtype=torch.bool)
    if mutual:
        keep &= matches.mutual
    if ratio is not None:
        keep &= matches.ratio < ratio
    kept = matches[keep]
    if matrix is not None:
        by_chance = 1 / matrix.shape[1]
    else:  # of those that are kept: at a border fewer cells are right than inside
        by_chance = chance(kept, b, within) if pair.crops else float("nan")
    return Found(pair, kept, len(matches), by_chance, matrix, a, keep)


def _arrays(found: Found) -> dict[str, np.ndarray]:
    parts = {f.name: getattr(found.matches, f.name) for f in fields(found.matches)} | {"matrix": found.matrix}
    return {name: part.numpy() for name, part in parts.items() if part is not None}


def _joined(parts: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """One array a part: pair i has its rows ``offset[i]`` … ``offset[i + 1]``; of matrices one a pair."""
    lengths = [len(values) for values in parts["start"]]
    joined = {name: np.concatenate(values) for name, values in parts.items() if name != "matrix"}
    joined["offset"] = np.cumsum([0, *lengths])
    return joined | {f"matrix {i}": matrix for i, matrix in enumerate(parts.get("matrix", []))}


def _row(network: str, found: Found) -> dict[str, Any]:
    """A line of the table; empty where a number is not known."""
    m = found.matches
    left, right = found.pair.specs
    row: dict[str, Any] = {"picture": left, "with": right, "network": network, "asked": found.asked, "matches": len(m)}
    row |= {"visible": "", "right": "", "recall": "", "blind guess": "", "recall of mutual": ""}
    if m.right is not None and m.visible is not None:
        row["visible"], row["right"] = int(m.visible.sum()), int(m.right.sum())
        row["recall"] = _mean(m.right[m.visible])
        row["blind guess"] = "" if math.isnan(found.by_chance) else round(found.by_chance, 4)
        row["recall of mutual"] = _mean(m.right[m.visible & m.mutual])
    row["mutual"], row["cosine"] = _mean(m.mutual), _mean(m.similarity)
    row["cycle"] = round(float(m.cycle.median()), 4) if len(m) else ""
    return row


def _mean(values: Tensor) -> float | str:
    return round(float(values.float().mean()), 4) if len(values) else ""


def _line(network: str, rows: list[dict[str, Any]], mutual: bool) -> str:
    """The numbers of a network; over several pictures their means, of recall with an interval.

    mutual: only matches that hold in both directions are kept, so that to say it of them says nothing.
    """

    def known(name: str) -> list[float]:
        return [row[name] for row in rows if row[name] != ""]

    asked, kept = (sum(row[name] for row in rows) for name in ("asked", "matches"))
    if not kept:
        return f"{network}: no match is left; loosen --ratio or leave out --mutual"
    said = [f"{kept} of {asked} matches are kept"] if kept < asked or mutual else []
    if recalls := known("recall"):
        share = str(bootstrap(recalls)) if len(recalls) > 1 else f"{recalls[0]:.3f}"
        guess = np.mean(known("blind guess"))
        right = f"of the matches whose true place the other view shows {share} are right (blind guess {guess:.3f})"
        if (both := known("recall of mutual")) and not mutual:
            right += f", {np.mean(both):.3f} of those that hold in both directions"
        said.append(right)
    if not mutual:
        said.append(
            f"{np.mean(known('mutual')):.0%} hold in both directions, there and back ends "
            f"{np.mean(known('cycle')):.1%} of the longer side from the start (median)"
        )
    return f"{network}: " + "; ".join(said) + f", {len(rows)} pairs" * (len(rows) > 1)


def _draw(found: dict[str, list[Found]], views: bool, layer: str | None, how: str) -> Figure:
    columns = {heading(name, column[0].fmap, layer): column for name, column in found.items()}
    first = next(iter(columns.values()))
    if len(columns) == len(first) == 1:
        return _draw_one(next(iter(found)), first[0], views, how)
    pairs = [one.pair for one in first]
    background = ["the background has no line"] if any(pair.background is not None for pair in pairs) else []
    return figures.correspondence_sheet(
        [(pair.left, pair.right) for pair in pairs],
        {head: [one.matches for one in column] for head, column in columns.items()},
        [pair.name + "".join(f"; view {v}{m}" for v, m in enumerate(pair.mirrored, start=1) if m) for pair in pairs],
        views=views,
        guesses={head: [one.by_chance for one in column] for head, column in columns.items()} if views else None,
        rasters=[pair.rasters for pair in pairs if pair.rasters is not None] or None,
        lines={head: [one.lines for one in column] for head, column in columns.items()},
        note=note_of(how, *background),
    )


def _draw_one(network: str, one: Found, views: bool, how: str) -> Figure:
    """One pair by one network; its name, and that of the pictures, are at the foot."""
    pictures = one.pair.left, one.pair.right
    names = ("view 1", "view 2") if views else ("image 1", "image 2")
    left, right = (f"{name}{mirrored}" for name, mirrored in zip(names, one.pair.mirrored, strict=True))
    titles = heading(left, one.fmap), right
    said: dict[str, Any] = {"views": views, "names": titles, "guess": one.by_chance if views else None}
    said["note"] = note_of(network, one.pair.name, how)
    if one.matrix is not None and one.pair.rasters is not None:
        return figures.region_correspondence(*pictures, one.pair.rasters, one.matrix, keep=one.keep, **said)
    return figures.correspondence(*pictures, one.matches, **said)
