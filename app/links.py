"""A link holds all that is seen: ``?view=affinity&picture=scenes%2312&…``; the server keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from gradio.components import Component

from app.tab import Tab


def query_of(tab: Tab, values: Sequence[Any]) -> str:
    """The query string of a view: its name, and all fields, as another server may begin with others."""
    query: dict[str, Any] = {"view": tab.name}
    for name, value in zip(tab.fields, values, strict=True):
        if value not in (None, "", []):
            query[name] = int(value) if isinstance(value, bool) else value
    return urlencode(query, doseq=True)


def values_of(tab: Tab, query: Mapping[str, list[str]]) -> list[Any]:
    """The fields' values that a query string says, each of the kind that the field has at the start.

    Raises:
        ValueError: a value cannot be read, or is none that the field may have; names the field.
    """
    values = []
    for name, component in tab.fields.items():
        start = getattr(component, "value", None)
        said = query.get(name)
        value = start if said is None else _as(start, said, name, component)
        if said is not None:
            _check(value, name, component)
        values.append(value)
    return values


def _as(start: Any, said: list[str], name: str, component: Component) -> Any:
    if isinstance(start, list) or getattr(component, "multiselect", False):
        return list(said)
    (text,) = said[-1:]
    try:
        if isinstance(start, bool):
            return bool(int(text))
        if isinstance(start, int | float):
            number = float(text)
            return int(number) if number.is_integer() else number
    except (ValueError, OverflowError) as error:
        raise ValueError(f"the link's {name}={text} is no number: open the page without it") from error
    return text


def _check(value: Any, name: str, component: Component) -> None:
    """What Gradio would refuse with a text of its own."""
    choices = getattr(component, "choices", None)
    if choices is not None and not getattr(component, "allow_custom_value", False):
        offered = [choice for _, choice in choices]
        for one in value if isinstance(value, list) else [value]:
            if one not in offered:
                shown = ", ".join(map(str, offered[:12])) or "none"
                raise ValueError(f"the link's {name}={one} is not offered here: there is {shown}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = getattr(component, "minimum", None), getattr(component, "maximum", None)
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"the link's {name}={value} lies outside {low} … {high}")
