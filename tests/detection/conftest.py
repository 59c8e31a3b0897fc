"""Fixtures of more than one test of detection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def facts() -> Callable[[str], Path]:
    """`facts("detectron2_golden_c4.npz")`: a file of what Detectron2 computes, or a skip where it is missing."""

    def file(name: str) -> Path:
        path = Path(__file__).resolve().parents[3] / "shared" / "facts" / name
        if not path.is_file():
            pytest.skip(f"../shared/facts/{name} is missing: what Detectron2 computes, needed by the project's CI only")
        return path

    return file
