"""What can be extended, and by which line: every loss, region source, score, backbone and data layout by its name.

An extension is one file of its own and one ``add`` line here. The line names the implementation as ``module:name``, so
that this page needs no torch: command lines and the app list what there is without loading it. A test, or a script of
one's own, may add the object itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One registered thing.

    Attributes:
        target: the implementation, or where it is: ``module:name``. help: for ``--help`` and the app, a short phrase.
        traits: what may be known of it before it is loaded; which ones, each registry says.
    """

    target: Any
    help: str
    traits: Mapping[str, Any]

    def load(self) -> Any:
        """The implementation; imported on first use."""
        if not isinstance(self.target, str):
            return self.target
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)


class Registry(dict[str, Entry]):
    """Name → entry, in the order in which they are listed everywhere."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, target: Any, help: str, **traits: Any) -> None:
        """Register ``name``. Raises a ValueError if the name is taken."""
        if name in self:
            raise ValueError(f"there is a {self.kind} {name!r} already: choose another name")
        self[name] = Entry(target, help, traits)

    def __missing__(self, name: str) -> Entry:
        near = difflib.get_close_matches(name, self, n=1)
        raise ValueError(
            f"unknown {self.kind} {name!r}: choose one of {', '.join(self)}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )


LOSSES = Registry("loss")
"""Terms of the total loss. Traits: ``weight``, the default; ``source`` of that default."""

REGIONS = Registry("region source")
"""What ``--regions NAME:ARGUMENT`` may say. Traits: ``argument``, what stands behind the colon, for help."""

SCORES = Registry("score")
"""Measures of ``plrc score``."""

BACKBONES = Registry("backbone")
"""What ``--arch`` may say. A name with a prefix (``timm:convnext_atto``) is looked up by its prefix."""

LAYOUTS = Registry("data layout")
"""Annotated data sets, in the order in which a folder is tried."""
