"""What a sheet says of its columns besides their maps: captions, and how far the maps reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from plrc.figures.page import fold
from plrc.figures.panels import WHOLE, Extent

Captions = Mapping[str, str | Sequence[str]]
Extents = Mapping[str, Sequence[Extent]]


def split_captions(
    columns: Iterable[str], captions: Captions | None, count: int, width: float
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Folded captions of each column: the line under its heading, and the lines under its maps; "" where none is.

    Args:
        captions: heading → a line, or ``count`` lines. width: of a panel, inches.

    Raises:
        ValueError: a heading that no column has, or another number of lines.
    """
    names, captions = list(columns), captions or {}
    _check_names(names, captions, "captions")
    over, under = dict.fromkeys(names, ""), {name: [""] * count for name in names}
    for name, caption in captions.items():
        if isinstance(caption, str):
            over[name] = fold(caption, 1.15 * width)
        elif len(caption) == count:
            under[name] = [fold(line, 1.15 * width) for line in caption]
        else:
            raise ValueError(f"{name} has {count} pictures and {len(caption)} captions: give one, or one for each")
    return over, under


def extents_of(columns: Iterable[str], extents: Extents | None, count: int) -> dict[str, Sequence[Extent]]:
    """The extent of each map of each column; the picture's where none is given.

    Raises:
        ValueError: a heading that no column has, or another number of extents.
    """
    names, extents = list(columns), extents or {}
    _check_names(names, extents, "extents")
    for name, reach in extents.items():
        if len(reach) != count:
            raise ValueError(f"{name} has {count} maps and {len(reach)} extents: they belong together")
    return {name: extents.get(name, [WHOLE] * count) for name in names}


def _check_names(names: Sequence[str], given: Iterable[str], what: str) -> None:
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"{what} are given for {unknown[0]!r}, which is no column: there are {', '.join(names)}")
