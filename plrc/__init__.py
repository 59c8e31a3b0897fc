"""PLRC: point-level region contrast, pre-training for object detection, as a workbench where one looks first."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plrc import analysis, figures
    from plrc.analysis.features import load_encoder

__all__ = ["analysis", "figures", "load_encoder"]


def __dir__() -> list[str]:
    """What is meant to be found here; it may not have been imported yet."""
    return sorted([*__all__, "__doc__", "__file__", "__name__", "__path__", "__version__"])


def __getattr__(name: str) -> Any:
    """``plrc.load_encoder``, ``plrc.analysis`` and ``plrc.figures``, imported when first asked for; ``__version__``.

    torch takes seconds to import: ``plrc --help`` does not wait for it.
    """
    if name == "__version__":
        from importlib.metadata import version

        return version("plrc")
    if name == "load_encoder":
        return importlib.import_module("plrc.analysis.features").load_encoder
    if name in ("analysis", "figures"):
        return importlib.import_module(f"plrc.{name}")
    raise AttributeError(f"module 'plrc' has no attribute {name!r}")
