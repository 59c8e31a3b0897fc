"""The optional evaluator."""

from __future__ import annotations

import sys

import pytest

from plrc.detection.coco_api import coco_api


def test_without_it_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ValueError, match=r"pip install 'plrc\[detection\]'"):
        coco_api()
