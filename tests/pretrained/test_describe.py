"""What ``plrc info`` prints: of our runs, of foreign files, and of files that cannot be loaded."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18

from plrc.checkpoint import save_checkpoint
from plrc.config import load_config
from plrc.model import PLRC
from plrc.pretrained import CheckpointError
from plrc.pretrained.describe import NotRecognised, describe


@pytest.fixture(scope="module")
def trunk() -> dict[str, Tensor]:
    """A resnet18 by torchvision's names, without its classifier."""
    state = resnet18().state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that stands at step 60 of 120."""
    given = {
        "data": "scenes:64",
        "image_size": 48,
        "batch_size": 8,
        "epochs": 4,
        "lr": 0.25,
        "weights": {"affinity": 0.125},
    }
    config = load_config("demo", given=given)
    content = {"step": 60, "epoch": 2.0, "ranks": 2, "config": dataclasses.asdict(config), "optimizer": {}}
    model = PLRC("tiny", dim=16, queue_size=8).state_dict()
    save_checkpoint(tmp_path / "demo" / "checkpoints" / "last.pt", {**content, "model": model})
    return tmp_path / "demo"


def looks(file: Path) -> tuple[list[str], str]:
    """What a file that cannot be loaded looks like, and why."""
    with pytest.raises(NotRecognised) as caught:
        describe(file)
    return caught.value.looks, str(caught.value)


def by_title(lines: list[str]) -> dict[str, str]:
    """Title → text of the indented lines."""
    return {line[2:15].strip(): line[15:] for line in lines if line.startswith("  ")}


def ending(file: Path) -> str:
    size, digest = file.stat().st_size / 1e6, hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{file}, {size:.1f} MB, sha256 {digest[:12]}"


def test_run_of_ours(run: Path) -> None:
    lines = describe(run)
    assert lines[0] == "demo/last: PLRC run, branch query (also there: key)"
    assert by_title(lines) == {
        "architecture": "tiny, 1.2 M parameters in the trunk",
        "channels": "c2 64 at stride 4, c3 128 at stride 8",
        "heads": "projector 128 → 128 → 16",
        "epoch": "2 of 4",
        "trained with": "scenes:64, views of 48 px, regions grid:4, batch 8, adamw, lr 0.25 for a batch of 256",
        "loss weights": "image 0.7, point 0.3, affinity 0.125",
        "note": "step 60 of 120",
        "file": ending(run / "checkpoints" / "last.pt"),
    }
    assert describe(run / "checkpoints" / "last.pt") == lines


def test_run_without_its_key_encoder_names_no_other_branch(run: Path) -> None:
    file = run / "checkpoints" / "last.pt"
    content = torch.load(file, weights_only=True)
    content["model"] = {name: t for name, t in content["model"].items() if not name.startswith("key_encoder.")}
    torch.save(content, file)
    assert describe(file)[0] == "demo/last: PLRC run, branch query"


def test_run_with_a_strange_configuration_is_described_by_the_rest(run: Path) -> None:
    file = run / "checkpoints" / "last.pt"
    content = torch.load(file, weights_only=True)
    torch.save({**content, "config": ["data"], "epoch": "two"}, file)
    titles = by_title(describe(file))
    assert titles["architecture"] == "tiny, 1.2 M parameters in the trunk"
    assert titles.keys().isdisjoint({"epoch", "trained with", "loss weights"})


def test_both_encoders_of_a_foreign_file(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    head = {"fc.0.weight": torch.ones(64, 512), "fc.0.bias": torch.ones(64), "fc.2.weight": torch.ones(32, 64)}
    state = {f"module.{q}.{name}": t for q in ("encoder_q", "encoder_k") for name, t in (trunk | head).items()}
    torch.save({"epoch": 800, "arch": "resnet18", "state_dict": state}, tmp_path / "moco.pth.tar")
    lines = describe(tmp_path / "moco.pth.tar")
    assert lines[0] == "moco: MoCo v2, branch query (also there: key)"
    assert by_title(lines) == {
        "architecture": "resnet18, 11.2 M parameters in the trunk",
        "channels": "c2 64 at stride 4, c3 128 at stride 8, c4 256 at stride 16, c5 512 at stride 32",
        "heads": "projector 512 → 64 → 32",
        "file": ending(tmp_path / "moco.pth.tar"),
    }


def test_branches_of_a_file_that_keeps_them_apart(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    state = {f"module.backbone.{name}": tensor for name, tensor in trunk.items()}
    torch.save({"student": state, "teacher": dict(state)}, tmp_path / "dino.pth")
    assert describe(tmp_path / "dino.pth")[0] == "dino: DINO, branch teacher (also there: student)"


def test_trunk_alone(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**trunk, "fc.weight": torch.ones(10, 512), "fc.bias": torch.ones(10)}, tmp_path / "r18.pth")
    lines = describe(tmp_path / "r18.pth")
    assert lines[0] == "r18: torchvision's names"
    assert by_title(lines)["heads"] == "none"
    assert by_title(lines)["note"] == "not used: fc (the classifier)"


def test_network_under_a_prefix_of_no_known_format(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({f"visual.net.{name}": tensor for name, tensor in trunk.items()}, tmp_path / "other.pth")
    assert describe(tmp_path / "other.pth")[0] == "other: ResNet under visual.net."


def test_name_has_no_file() -> None:
    lines = describe("random:tiny@3")
    assert lines[0] == "random:tiny@3: random"
    assert list(by_title(lines)) == ["architecture", "channels", "heads", "note"]


def test_file_that_is_no_network_is_shown_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    model = {f"features.{i}.{kind}": torch.ones(2) for i in range(9) for kind in ("weight", "bias")}
    torch.save({"epoch": 3, "model": {**model, "head": torch.ones(1)}, "ema": {"head": torch.ones(1)}}, file)
    lines, reason = looks(file)
    assert lines[0] == "vgg.pth: not recognised"
    assert by_title(lines) == {
        "keys": "epoch, model, ema",
        "tensors": "20",
        "named": ", ".join(f"features.{i}* (2)" for i in range(6)) + ", …",
        "file": f"{file}, 0.0 MB",
    }
    assert reason.startswith(f"{file} holds no residual network that is known here: ")


def test_damaged_trunk_is_shown_with_what_it_lacks(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in trunk.items() if name != "layer3.0.conv1.weight"}
    torch.save(state, tmp_path / "cut.pth")
    lines, reason = looks(tmp_path / "cut.pth")
    titles = by_title(lines)
    assert titles["keys"].endswith(", … (119)")
    assert titles["keys"].count(",") == 12
    assert titles["tensors"] == "119"
    assert "lacks layer3.0.conv1.weight" in reason


@pytest.mark.parametrize(("content", "shown"), [([torch.ones(1)], []), ({"epoch": 3}, ["keys"])])
def test_file_without_named_tensors(content: object, shown: list[str], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    lines, reason = looks(tmp_path / "x.pt")
    assert list(by_title(lines)) == [*shown, "tensors", "file"]
    assert by_title(lines)["tensors"] == "0"
    assert reason.startswith(str(tmp_path / "x.pt"))


def test_what_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>\n")
    for given, message in (
        (tmp_path / "page.pth", r"page\.pth is a text"),
        (tmp_path / "nowhere.pth", r"there is no file or folder .*nowhere\.pth"),
        (tmp_path, r"is not the folder of a run"),
        ("random:vit", r"random:vit is not known"),
    ):
        with pytest.raises(CheckpointError, match=message):
            describe(given)
