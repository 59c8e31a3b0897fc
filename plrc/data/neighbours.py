"""An image that cannot be decoded is replaced by its neighbour, the same one on every run."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

from plrc.data.sources import UndecodableImage

T = TypeVar("T")

_MOST = 100  # neighbours that are tried before giving up


def first_decodable(source: Sized, wanted: int, attempt: Callable[[int], T]) -> tuple[T, int, list[str]]:
    """What ``attempt`` gives for item ``wanted``, or for the next one after it that can be decoded.

    Returns:
        The result, the index that it is of, and a clause (name and reason) for each item that was passed over.

    Raises:
        ValueError: a hundred items in a row, or all there are, cannot be decoded.
    """
    undecodable: list[str] = []
    for step in range(min(_MOST, len(source))):
        index = (wanted + step) % len(source)
        try:
            return attempt(index), index, undecodable
        except UndecodableImage as error:
            undecodable.append(str(error))
    raise ValueError(f"{len(undecodable)} files in a row cannot be decoded, among them {'; '.join(undecodable[:3])}")
