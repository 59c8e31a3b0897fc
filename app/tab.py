"""What a view of the page gives to the page around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradio.components import Component

from plrc.views import Drawing


@dataclass(frozen=True)
class Tab:
    """A view, and what link and export need of it.

    Attributes:
        name: of the view in a link, ``?view=affinity``.
        fields: name → the component that holds the value: all that says what is seen.
        drawing: the fields' values, by name → what is seen, as drawings with recipes; raises a ValueError.
        show: the fields' values, in order → updates of ``outputs``: what is seen, after a link was opened.
        outputs: see ``show``.
    """

    name: str
    fields: dict[str, Component]
    drawing: Callable[..., Drawing | list[Drawing]]
    show: Callable[..., Any]
    outputs: list[Component]
