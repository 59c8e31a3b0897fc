"""plrc.views.networks: names tell networks apart, and of which branch they are."""

from __future__ import annotations

import pytest
import torch

from plrc import config
from plrc.checkpoint import save_checkpoint
from plrc.model import PLRC
from plrc.views import Session, draw_affinity
from plrc.views.networks import sides


@pytest.fixture
def run(tmp_path):
    """A run whose key encoder is another one than its query encoder."""
    demo = config.load_config("demo")
    torch.manual_seed(0)
    model = PLRC.from_config(demo).state_dict()
    key = [name for name in model if "key" in name and model[name].is_floating_point()]
    assert key
    for name in key:
        model[name] = model[name] + 0.1 * torch.randn_like(model[name]).abs()
    content = {"step": 1, "epoch": 1.0, "ranks": 1, "images": "", "config": demo.to_dict(), "optimizer": {}}
    save_checkpoint(tmp_path / "demo/checkpoints/last.pt", {**content, "model": model})
    return str(tmp_path / "demo")


def test_names_are_different():
    tiny = "random:tiny"
    assert list(Session().networks([tiny, "random:tiny@1", tiny], "cpu", None)) == [
        tiny,
        "random:tiny@1",
        f"{tiny} (2)",
    ]


def test_a_branch_is_taken_and_named(run):
    assert list(Session().networks([run, run], "cpu", None, "key")) == ["demo/last key", "demo/last key (2)"]
    assert Session().networks([run], "cpu", None, "key")["demo/last key"].origin.branch == "key"
    query, key = (draw_affinity(["scenes#1"], [run], size=64, branch=branch) for branch in (None, "key"))
    assert key.parameters["branch"] == "key"
    assert key.lines[0].startswith("demo/last key: ")
    assert abs(query.arrays["demo/last 0"] - key.arrays["demo/last key 0"]).max() > 1e-3
    with pytest.raises(ValueError, match="random:tiny has no branch 'key'"):
        Session().networks(["random:tiny"], "cpu", None, "key")


def test_sizes():
    assert (sides(448), sides([640, 480])) == (448, (640, 480))
    with pytest.raises(ValueError, match="a width and a height"):
        sides([640])
