"""``plrc correspond``: which point, or region, of one image is which of another, or of another view of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc.analysis.correspondence import Matches, chance, match_points, match_regions, match_views, region_affinity
from plrc.analysis.features import DenseEncoder, FeatureMap, region_features, region_numbers
from plrc.analysis.scores import result
from plrc.analysis.scores.table import aligned
from plrc.config import load_config
from plrc.data.loader import view_sampler
from plrc.data.photometric import apply
from plrc.data.views import cut
from plrc.geometry import Crop
from plrc.queries import Correspondence
from plrc.regions import view_regions
from plrc.views import Drawing, Progress, note_of
from plrc.views.images import mask_files, points_in_frame, region_raster, spread
from plrc.views.session import Session, check_cells, heading, inputs_of, made_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ON_A_SHEET = 6  # pairs; the table and the arrays have all


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images, or two views of one.

    Attributes:
        specs: what the two images were named by; of views twice the same. name: of the pair, for headings.
        points: ``(n, 2)`` of the left one; None for all. crops: of views, where they lie. rasters: regions, if wanted.
        background: the number of the region that is no object; None where every region is one.
    """

    specs: tuple[str, str]
    name: str
    left: Image.Image
    right: Image.Image
    points: Tensor | None
    crops: tuple[Crop, Crop] | None
    rasters: tuple[Tensor, Tensor] | None
    background: int | None = None

    @property
    def mirrored(self) -> tuple[str, str]:
        """ ", mirrored" for each view that is, else nothing."""
        left, right = (", mirrored" * bool(crop.flip) for crop in self.crops) if self.crops else ("", "")
        return left, right


@dataclass(frozen=True, eq=False)
class Found:
    """The matches of a pair by one network.

    Attributes:
        matches: those that are kept, of so many ``asked``. by_chance: the share that is correct by chance.
        matrix: of its regions, ``(n, m)`` cosines, if there are any. fmap: of the left image.
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


def correspondence(query: Correspondence, session: Session, progress: Progress) -> CorrespondenceDrawing:
    """Matches between two images, or between two views of each of several, and how good they are.

    Two views are cut and coloured as the ``imagenet`` preset trains; their crops tell which matches are correct, and
    the size is the side of a view. Numbers: *correct*, the share of the points that the other view shows whose match is
    right, beside chance; *mutual*, the share of matches that hold in both directions, and how many of those are
    correct; *cycle error*, how far from the start going there and back ends, as a share of the image's longer side
    (median).
    """
    images, views = query.images, query.other is None
    if not views and len(images) != 1:
        raise ValueError("--with matches one image with another: name one image before it")
    if query.regions and query.points:
        raise ValueError("--regions and --point exclude each other: regions are matched whole")
    networks = session.networks(query)
    inputs = inputs_of(networks, query)
    inputs |= mask_files(images if query.other is None else [*images, query.other], query.regions)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    shown: dict[str, list[Found]] = {name: [] for name in networks}
    parts: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in networks}
    chosen = spread(len(images), _ON_A_SHEET)
    for i, (pair, read) in enumerate(_pairs(session, query)):
        inputs |= read
        for name, network in networks.items():
            found = _match(session, network, pair, query)
            rows[name].append(_row(name, found))
            for part, values in _arrays(found).items():
                parts[name].setdefault(part, []).append(values)
            if i in chosen:  # the others are let go: a folder may be long
                shown[name].append(found)
        progress("images", i + 1, len(images))
    how = note_of(
        made_of({name: of[0].fmap for name, of in shown.items()}, query, 1 if views else 2),
        f"regions {query.regions}" if query.regions else "",
        f"seed {query.seed}" if views else "",
        f"correct within {query.within} cell{'s' * (query.within != 1)}" if views and not query.regions else "",
        "mutual matches" if query.mutual else "",
        f"ratio below {query.ratio:g}" if query.ratio is not None else "",
    )
    return CorrespondenceDrawing(
        query=query,
        inputs=inputs,
        arrays={f"{name} {part}": array for name, mine in parts.items() for part, array in _joined(mine).items()},
        draw=partial(_draw, shown, views, query.layer, how),
        lines=aligned([[name, *_numbers(mine, query.mutual)] for name, mine in rows.items()]),
        rows=[row for mine in rows.values() for row in mine],
        part=f"{len(chosen)} of {len(images)} images" if len(chosen) < len(images) else "",
        found=shown,
    )


def _pairs(session: Session, query: Correspondence) -> Iterator[tuple[Pair, dict[str, str]]]:
    """Each pair, and what was read for it: name → SHA-256."""
    regions, background = query.regions, 0 if query.regions == "objects" else None
    sampler = view_sampler(load_config("imagenet"))
    sampler = replace(sampler, scale=(query.scale, sampler.scale[1]))
    for i, spec in enumerate(query.images):
        image = session.image(spec)
        wanted = points_in_frame(query.points, image) if query.points else None
        if query.other is not None:
            second = session.image(query.other)
            rasters = (region_raster(image, regions), region_raster(second, regions)) if regions else None
            name = f"{image.name} – {second.name}"
            pair = Pair((spec, query.other), name, image.image, second.image, wanted, None, rasters, background)
            yield pair, image.inputs | second.inputs
            continue
        if query.size.height:
            raise ValueError(f"two views are squares: give --size one number, not {query.size}")
        drawn = sampler.draw(query.seed, 0, i, image.image.size)
        views = cut(image.image, drawn.crops, query.size.width).permute(0, 3, 1, 2)
        pixels = apply(views, torch.from_numpy(drawn.colours))
        left, right = (Image.fromarray((view.permute(1, 2, 0) * 255).round().byte().numpy()) for view in pixels)
        if wanted is not None:
            wanted = drawn.crops[0].to_view(wanted)
            outside = ~((wanted >= 0) & (wanted < 1)).all(dim=1)
            if outside.any():
                raise ValueError(
                    f"{image.name}: the point {query.points[int(outside.nonzero()[0])]} lies outside the first view of "
                    f"--seed {query.seed}: try another --seed, or a larger --scale"
                )
        both = None
        if regions:
            seen = view_regions(region_raster(image, regions), drawn.crops).long()
            both = (seen[0], seen[1])
        crops = (drawn.crops[0], drawn.crops[1])
        yield Pair((spec, spec), image.name, left, right, wanted, crops, both, background), image.inputs


def _match(session: Session, network: DenseEncoder, pair: Pair, query: Correspondence) -> Found:
    a, b = session.maps(network, [pair.left, pair.right], query)
    for fmap in (a, b):
        check_cells(network.origin.name, pair.name, fmap)
    matrix = None
    if pair.rasters:
        matches = match_regions(a, pair.rasters[0], b, pair.rasters[1], named_alike=pair.crops is not None)
        matrix = region_affinity(*(region_features(f, r) for f, r in zip((a, b), pair.rasters, strict=True)))
    elif pair.crops:
        matches = match_views(a, b, *pair.crops, pair.points, query.within)
    else:
        matches = match_points(a, b, pair.points, within=query.within)
    keep = torch.ones(len(matches), dtype=torch.bool)
    if query.mutual:
        keep &= matches.mutual
    if query.ratio is not None:
        keep &= matches.ratio < query.ratio
    kept = matches[keep]
    if matrix is not None:
        by_chance = 1 / matrix.shape[1]
    else:  # of those that are kept: at a border fewer cells are right than inside
        by_chance = chance(kept, b, query.within) if pair.crops else float("nan")
    return Found(pair, kept, len(matches), by_chance, matrix, a, keep)


def _arrays(found: Found) -> dict[str, np.ndarray]:
    parts = {f.name: getattr(found.matches, f.name) for f in fields(found.matches)} | {"matrix": found.matrix}
    return {name: part.numpy() for name, part in parts.items() if part is not None}


def _joined(parts: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """One array a part: pair i has its rows ``offset[i]`` … ``offset[i + 1]``; of matrices one a pair."""
    joined = {name: np.concatenate(values) for name, values in parts.items() if name != "matrix"}
    joined["offset"] = np.cumsum([0, *map(len, parts["start"])])
    return joined | {f"matrix {i}": matrix for i, matrix in enumerate(parts.get("matrix", []))}


def _row(network: str, found: Found) -> dict[str, Any]:
    """A line of the table; empty where a number is not known."""
    m = found.matches
    left, right = found.pair.specs
    row: dict[str, Any] = {"image": left, "with": right, "network": network, "asked": found.asked, "matches": len(m)}
    row |= dict.fromkeys(("visible", "right", "correct", "chance", "correct of mutual"), "")
    if m.right is not None and m.visible is not None:
        row["visible"], row["right"] = int(m.visible.sum()), int(m.right.sum())
        row["correct"] = _mean(m.right[m.visible])
        row["chance"] = "" if math.isnan(found.by_chance) else round(found.by_chance, 4)
        row["correct of mutual"] = _mean(m.right[m.visible & m.mutual])
    row["mutual"], row["cosine"] = _mean(m.mutual), _mean(m.similarity)
    row["cycle"] = round(float(m.cycle.median()), 4) if len(m) else ""
    return row


def _mean(values: Tensor) -> float | str:
    return round(float(values.float().mean()), 4) if len(values) else ""


def _numbers(rows: list[dict[str, Any]], mutual: bool) -> list[str]:
    """The numbers of a network; over several images their means, of correct matches with an interval.

    mutual: only matches that hold in both directions are kept, so that to say it of them says nothing.
    """

    def known(name: str) -> list[float]:
        return [row[name] for row in rows if row[name] != ""]

    asked, kept = (sum(row[name] for row in rows) for name in ("asked", "matches"))
    if not kept:
        return ["no match is left; loosen --ratio or leave out --mutual"]
    numbers = []
    if recalls := known("correct"):
        numbers.append(result("correct", recalls, chance=float(np.mean(known("chance"))), style=".1%"))
    if kept < asked or mutual:
        numbers.append(f"kept {kept} of {asked}")
    if not mutual:
        both = known("correct of mutual")
        of_them = f", of which {np.mean(both):.1%} correct" if recalls and both else ""
        numbers += [f"mutual {np.mean(known('mutual')):.0%}{of_them}", f"cycle error {np.mean(known('cycle')):.1%}"]
    return [*numbers, *[f"{len(rows)} pairs"] * (len(rows) > 1)]


def _draw(found: Mapping[str, list[Found]], views: bool, layer: str | None, how: str) -> Figure:
    from plrc import figures

    columns = {heading(name, column[0].fmap, layer): column for name, column in found.items()}
    first = next(iter(columns.values()))
    if len(columns) == len(first) == 1 and first[0].matrix is not None:
        return _draw_regions(next(iter(found)), first[0], views, how)
    pairs = [one.pair for one in first]
    return figures.correspondence(
        [(pair.left, pair.right) for pair in pairs],
        {head: [one.matches for one in column] for head, column in columns.items()},
        [pair.name + "".join(f"; view {v}{m}" for v, m in enumerate(pair.mirrored, start=1) if m) for pair in pairs],
        views=views,
        chances={head: [one.by_chance for one in column] for head, column in columns.items()} if views else None,
        rasters=[pair.rasters for pair in pairs if pair.rasters is not None] or None,
        lines={head: [one.lines for one in column] for head, column in columns.items()},
        note=note_of(how, "the background has no line" if pairs[0].background is not None else ""),
    )


def _draw_regions(network: str, one: Found, views: bool, how: str) -> Figure:
    """One pair by one network; its name, and that of the images, are at the foot."""
    from plrc import figures

    assert one.pair.rasters is not None and one.matrix is not None  # noqa: PT018
    images = one.pair.left, one.pair.right
    names = ("view 1", "view 2") if views else ("image 1", "image 2")
    left, right = (f"{name}{mirrored}" for name, mirrored in zip(names, one.pair.mirrored, strict=True))
    said: dict[str, Any] = {"views": views, "names": (heading(left, one.fmap), right)}
    said |= {"chance": one.by_chance if views else None, "note": note_of(network, one.pair.name, how)}
    return figures.region_correspondence(*images, one.pair.rasters, one.matrix, keep=one.keep, **said)
