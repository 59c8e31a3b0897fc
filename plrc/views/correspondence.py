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
from plrc.data.images import spread
from plrc.data.loader import view_sampler
from plrc.data.photometric import apply
from plrc.data.views import cut
from plrc.geometry import Crop, cell_centres
from plrc.queries import Correspondence
from plrc.regions import view_regions
from plrc.views import Drawing, Progress, note_of
from plrc.views.images import NamedImage, mask_files, points_in_frame, region_raster
from plrc.views.session import Session, check_cells, inputs_of, made_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ON_A_SHEET = 6  # pairs; the table and the arrays have all
_ALONG = 16  # points along the longer side of the left image: the same for all networks, whatever their cells


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images, or two views of one.

    Attributes:
        of: the two images; of views twice the same. name: of the pair. images, sides: what is matched, and its names.
        points: ``(n, 2)`` of the left one. crops: of views, where they lie. rasters: regions, if wanted.
    """

    of: tuple[str, str]
    name: str
    images: tuple[Image.Image, Image.Image]
    sides: tuple[str, str]
    points: Tensor
    crops: tuple[Crop, Crop] | None
    rasters: tuple[Tensor, Tensor] | None


@dataclass(frozen=True, eq=False)
class Found:
    """The matches of a pair by one network.

    Attributes:
        matches: those that are kept. keep: ``(asked,)`` bool, which are. by_chance: share that is correct by chance.
        matrix: of its regions, ``(n, m)`` cosines, if there are any. fmap: of the left image.
        lines: ``(n,)`` bool: which matches may have a line; that of the background has no place to begin at.
    """

    pair: Pair
    matches: Matches
    keep: Tensor
    by_chance: float
    matrix: Tensor | None
    fmap: FeatureMap
    lines: Tensor


@dataclass(eq=False, kw_only=True)
class CorrespondenceDrawing(Drawing):
    """``found``: network → the matches of the pairs that the figure shows."""

    found: dict[str, list[Found]]


def correspondence(query: Correspondence, session: Session, progress: Progress) -> CorrespondenceDrawing:
    """Matches between two images, or between two views of each of several, and how good they are.

    Two views are cut and coloured as the ``imagenet`` preset trains; their crops tell which matches are correct, and
    the size is the side of a view. Numbers: *correct*, the share of the points that the other view shows whose match is
    right, beside chance; *mutual*, the share of matches that hold in both directions; *cycle error*, how far from the
    start going there and back ends, as a share of the image's longer side (median). The table has more.
    """
    images, views = query.images, query.other is None
    if not views and len(images) != 1:
        raise ValueError("--with matches one image with another: name one image before it")
    if query.regions and query.points:
        raise ValueError("--regions and --point exclude each other: regions are matched whole")
    networks = session.networks(query)
    inputs = inputs_of(networks, query) | mask_files([*images, *filter(None, [query.other])], query.regions)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    arrays: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in networks}
    shown: dict[str, list[Found]] = {name: [] for name in networks}
    chosen = spread(len(images), _ON_A_SHEET)
    for i, (pair, read) in enumerate(_pairs(session, query)):
        inputs |= read
        for name, network in networks.items():
            found = _match(session, network, pair, query)
            rows[name].append(_row(name, found))
            parts = {f.name: getattr(found.matches, f.name) for f in fields(found.matches)} | {"matrix": found.matrix}
            arrays[name].append({part: values.numpy() for part, values in parts.items() if values is not None})
            if i in chosen:  # the others are let go: a folder may be long
                shown[name].append(found)
        progress("images", i + 1, len(images))
    how = note_of(
        made_of({name: of[0].fmap for name, of in shown.items()}, query, 1 if views else 2),
        f"regions {query.regions}" if query.regions else "",
        f"seed {query.seed}" if views else "",
        f"correct within {100 * query.within:g} % of the side" if views and not query.regions else "",
        "mutual matches" if query.mutual else "",
        f"ratio below {query.ratio:g}" if query.ratio is not None else "",
    )
    return CorrespondenceDrawing(
        query=query,
        inputs=inputs,
        arrays={key: array for name, of in arrays.items() for key, array in _joined(name, of).items()},
        draw=partial(_draw, shown, query, how),
        lines=aligned([[name, *numbers(mine, query.mutual)] for name, mine in rows.items()]),
        rows=[row for mine in rows.values() for row in mine],
        part=f"{len(chosen)} of {len(images)} images" if len(chosen) < len(images) else "",
        found=shown,
    )


def _pairs(session: Session, query: Correspondence) -> Iterator[tuple[Pair, dict[str, str]]]:
    """Each pair, and what was read for it: name → SHA-256."""
    for i, spec in enumerate(query.images):
        image = session.image(spec)
        if query.other is None:
            yield _views(query, i, image), image.inputs
            continue
        points = points_in_frame(query.points, image) if query.points else _spread(*image.image.size)
        other = session.image(query.other)
        both, sides, name = (image.image, other.image), ("image 1", "image 2"), f"{image.name} – {other.name}"
        rasters = (region_raster(image, query.regions), region_raster(other, query.regions)) if query.regions else None
        yield Pair((spec, query.other), name, both, sides, points, None, rasters), image.inputs | other.inputs


def _spread(width: int, height: int) -> Tensor:
    """Points ``(n, 2)`` all over an image, as far apart across as down."""
    scale = _ALONG / max(width, height)
    return cell_centres(max(1, round(height * scale)), max(1, round(width * scale))).flatten(0, 1)


def _views(query: Correspondence, i: int, image: NamedImage) -> Pair:
    if query.size and query.size.height:
        raise ValueError(f"two views are squares: give --size one number, not {query.size}")
    sampler = view_sampler(load_config("imagenet"))
    drawn = replace(sampler, scale=(query.scale, sampler.scale[1])).draw(query.seed, 0, i, image.image.size)
    views = cut(image.image, drawn.crops, query.side).permute(0, 3, 1, 2)
    pixels = (apply(views, torch.from_numpy(drawn.colours)).permute(0, 2, 3, 1) * 255).round().byte().numpy()
    points = _spread(1, 1)
    if query.points:
        at = points_in_frame(query.points, image)
        points, there = (drawn.crops[v].to_view(at) for v in (0, 1))
        first, second = (((of >= 0) & (of < 1)).all(dim=1) for of in (points, there))
        if not first.all() or not second.any():  # of several, one that the second does not show is told as such
            which, k = ("second", 0) if first.all() else ("first", int((~first).nonzero()[0]))
            raise ValueError(
                f"{image.name}: the point {query.points[k]} lies outside the {which} view of --seed {query.seed}: "
                "try another --seed, or a larger --scale"
            )
    both, crops = (Image.fromarray(pixels[0]), Image.fromarray(pixels[1])), (drawn.crops[0], drawn.crops[1])
    left, right = (f"view {v}" + ", mirrored" * bool(crop.flip) for v, crop in enumerate(crops, start=1))
    rasters = None
    if query.regions:
        seen = view_regions(region_raster(image, query.regions), drawn.crops).long()
        rasters = (seen[0], seen[1])
    return Pair((image.spec, image.spec), image.name, both, (left, right), points, crops, rasters)


def _match(session: Session, network: DenseEncoder, pair: Pair, query: Correspondence) -> Found:
    a, b = (session.features(network, image, query) for image in pair.images)
    for fmap in (a, b):
        check_cells(network.origin.name, pair.name, fmap)
    matrix, lines = None, torch.tensor(True)
    if pair.rasters:
        matches = match_regions(a, pair.rasters[0], b, pair.rasters[1], named_alike=pair.crops is not None)
        matrix = region_affinity(*(region_features(f, r) for f, r in zip((a, b), pair.rasters, strict=True))).cpu()
        lines = region_numbers(pair.rasters[0]) != (0 if query.regions == "objects" else -1)
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
        by_chance = chance(kept, b, query.within) if pair.crops else math.nan
    return Found(pair, kept, keep, by_chance, matrix, a, lines.expand(len(keep))[keep])


def _joined(name: str, pairs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One array a part: pair i has its rows ``offset[i]`` … ``offset[i + 1]``; of matrices one a pair."""
    parts = [part for part in pairs[0] if part != "matrix"]
    joined = {f"{name} {part}": np.concatenate([pair[part] for pair in pairs]) for part in parts}
    joined[f"{name} offset"] = np.cumsum([0, *(len(pair["start"]) for pair in pairs)])
    return joined | {f"{name} matrix {i}": pair["matrix"] for i, pair in enumerate(pairs) if "matrix" in pair}


def _row(network: str, found: Found) -> dict[str, Any]:
    """A line of the table; empty where a number is not known."""
    m, (left, right) = found.matches, found.pair.of
    row: dict[str, Any] = {"image": left, "with": right, "network": network}
    row |= {"asked": len(found.keep), "matches": len(m)}
    row |= dict.fromkeys(("visible", "right", "correct", "chance", "correct of mutual"), "")
    if m.right is not None and m.visible is not None:
        row |= {"visible": int(m.visible.sum()), "right": int(m.right.sum()), "correct": _mean(m.right[m.visible])}
        row["chance"] = "" if math.isnan(found.by_chance) else round(found.by_chance, 4)
        row["correct of mutual"] = _mean(m.right[m.visible & m.mutual])
    cycle = round(float(m.cycle.median()), 4) if len(m) else ""
    return row | {"mutual": _mean(m.mutual), "cosine": _mean(m.similarity), "cycle": cycle}


def _mean(values: Tensor) -> float | str:
    return round(float(values.float().mean()), 4) if len(values) else ""


def numbers(rows: list[dict[str, Any]], mutual: bool) -> list[str]:
    """The numbers of a network; over several images their means, of correct matches with an interval.

    mutual: only matches that hold in both directions are kept, so that to say it of them says nothing.
    """
    known = {name: [row[name] for row in rows if row[name] != ""] for name in rows[0]}
    asked, kept = sum(known["asked"]), sum(known["matches"])
    if not kept:
        return ["no match is left; loosen --ratio or leave out --mutual"]
    told = []
    if recalls := known["correct"]:
        told.append(result("correct", recalls, chance=float(np.mean(known["chance"])), style=".1%"))
    if kept < asked or mutual:
        told.append(f"kept {kept} of {asked}")
    if not mutual:
        told += [f"mutual {np.mean(known['mutual']):.0%}", f"cycle error {np.mean(known['cycle']):.1%}"]
    return [*told, *[f"{len(rows)} pairs"] * (len(rows) > 1)]


def _draw(found: Mapping[str, list[Found]], query: Correspondence, how: str) -> Figure:
    from plrc import figures

    views = query.other is None
    first = next(iter(found.values()))
    if len(found) == len(first) == 1 and first[0].matrix is not None:  # its network and images are at the foot
        one, pair = first[0], first[0].pair
        said: dict[str, Any] = {"views": views, "names": pair.sides}
        said |= {"chance": one.by_chance if views else None, "keep": one.keep}
        said |= {"note": note_of(next(iter(found)), pair.name, how)}
        return figures.region_correspondence(*pair.images, pair.rasters, one.matrix, **said)  # type: ignore[arg-type]
    pairs = [one.pair for one in first]
    return figures.correspondence(
        [pair.images for pair in pairs],
        {name: [one.matches for one in column] for name, column in found.items()},
        [pair.name for pair in pairs],
        sides=[pair.sides for pair in pairs] if views else (),
        views=views,
        chances={name: [one.by_chance for one in column] for name, column in found.items()} if views else None,
        rasters=[pair.rasters for pair in pairs if pair.rasters is not None] or None,
        lines={name: [one.lines for one in column] for name, column in found.items()},
        note=note_of(how, "the background has no line" if query.regions == "objects" else ""),
    )
