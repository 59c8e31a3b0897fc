"""A loss and a region source of one's own: one function or class and one line, through the real command."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from plrc import cli
from plrc.analysis.scores import ScoredImage, values_of
from plrc.losses import Direction
from plrc.regions import LoadImage, open_regions
from plrc.registry import LOSSES, REGIONS
from tests.runs import flags

SMALL = {"data": "scenes:8", "epochs": 1, "batch_size": 4, "queue_size": 8, "negatives": 8, "workers": 0}


def run(out: Path, *more: str, **changes: str) -> int:
    return cli.main(["train", *flags(out, **{**SMALL, **changes}), *more])


def spread(step: Direction) -> Tensor:
    """Keep the points of a batch apart: the std of each channel should be at least 1 / √D."""
    points = step.points.flatten(0, 2)
    return (points.shape[1] ** -0.5 - points.std(dim=0)).clamp(min=0).mean()


class Stripes:
    """N vertical stripes."""

    def __init__(self, argument: str, source: str) -> None:
        self._raster = torch.arange(int(argument))[None]

    def raster(self, name: str, load: LoadImage) -> Tensor:
        return self._raster


@pytest.fixture
def extended() -> Iterator[None]:
    LOSSES.add("sway", spread, "keeps points apart", weight=0.0)
    REGIONS.add("bands", Stripes, "N vertical stripes", argument="N", examples=["bands:4"])
    yield
    del LOSSES["sway"], REGIONS["bands"]


def test_a_loss_of_ones_own(extended: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    help_ = " ".join(capsys.readouterr().out.split())
    assert "the sway loss; 0 leaves it out [at least 0] (keeps points apart)" in help_

    assert run(tmp_path, "--weight-sway", "0.5") == 0
    assert "sway 0." in capsys.readouterr().out, "the report at the end"
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all({"image", "point", "affinity"} < {*line} and 0 < line["sway"] < 1 for line in lines)
    assert cli.main(["run", str(tmp_path), "--out", str(tmp_path / "look" / "curves"), "--format", "svg"]) == 0
    assert re.search(r"sway.* 0\.0", capsys.readouterr().out)
    assert "sway loss" in (tmp_path / "look" / "curves.svg").read_text()

    assert run(tmp_path, "--resume", "auto") == 2
    assert "--weight-sway is 0.0 now, but 0.5 in the saved run" in capsys.readouterr().err


def test_regions_of_ones_own(extended: None, silent: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "a", regions="bands:3") == 0
    assert run(tmp_path / "b", regions="bands:99") == 2
    assert "an image has 99 regions; 64 at most are possible" in capsys.readouterr().err
    assert run(tmp_path / "c", regions="strips:3") == 2
    assert "or bands:N" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "look" / "regions"), "--size", "64"]
    assert cli.main(["correspond", "scenes#3", "--regions", "bands:4", *out]) == 0


def test_what_ones_own_gets_wrong_is_said(extended: None) -> None:
    with pytest.raises(ValueError, match=r"^--regions bands:many: invalid literal"):
        open_regions("bands:many", "")
    for value in ([0.5, 0.5], [float("nan")]):
        with pytest.raises(ValueError, match=r"<lambda> gives \[.*\] of image 7: give 0 finite values, one a"):
            values_of(lambda image, value=value: value, [ScoredImage(7, Image.new("RGB", (8, 8)), ())])
