"""faster-coco-eval, which is an optional part of the installation."""

from __future__ import annotations

import importlib
from types import ModuleType


def coco_api() -> ModuleType:
    """The package ``faster_coco_eval``: COCO's evaluation and masks, a maintained pycocotools.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise ValueError("faster-coco-eval is missing: pip install 'plrc[detection]'") from error
