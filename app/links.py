"""A link holds all that is seen: ``?view=affinity&picture=scenes%2312&…``; the server keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from app.tab import Tab


def query_of(tab: Tab, values: Sequence[Any]) -> str:
    """The query string of a view: its name, and the fields that are not as they are at the start."""
    query: dict[str, Any] = {"view": tab.name}
    for (name, component), value in zip(tab.fields.items(), values, strict=True):
        if value != getattr(component, "value", None) and value is not None:
            query[name] = int(value) if isinstance(value, bool) else value
    return urlencode(query, doseq=True)


def values_of(tab: Tab, query: Mapping[str, list[str]]) -> list[Any]:
    """The fields' values that a query string says, each of the kind that the field has at the start.

    Raises:
        ValueError: a value cannot be read; names the field.
    """
    values = []
    for name, component in tab.fields.items():
        start = getattr(component, "value", None)
        said = query.get(name)
        values.append(start if said is None else _as(start, said, name, component))
    return values


def _as(start: Any, said: list[str], name: str, component: Any) -> Any:
    if isinstance(start, list) or getattr(component, "multiselect", False):
        return list(said)
    (text,) = said[-1:]
    try:
        if isinstance(start, bool):
            return bool(int(text))
        if isinstance(start, int | float):
            number = float(text)
            return int(number) if number.is_integer() and isinstance(start, int) else number
    except (ValueError, OverflowError) as error:
        raise ValueError(f"the link's {name}={text} is no number: open the page without it") from error
    return text
