"""What ``plrc info`` prints; and a format, and a backbone, of one's own through the real command."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from plrc.checkpoint import save_checkpoint
from plrc.cli import main
from plrc.config import load_config
from plrc.model import PLRC
from plrc.pretrained.describe import describe
from plrc.pretrained.formats import FORMATS, Branch, Format
from tests.pretrained.fabricated import CASES, FC, QUERY, under


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
    model = PLRC(load_config("demo", given={"dim": 16, "queue_size": 8})).state_dict()
    save_checkpoint(tmp_path / "demo" / "checkpoints" / "last.pt", {**content, "model": model})
    return tmp_path / "demo"


def by_title(lines: list[str]) -> dict[str, str]:
    """Title → text of the indented lines."""
    return {line[2:15].strip(): line[15:] for line in lines if line.startswith("  ")}


def ending(file: Path) -> str:
    size, digest = file.stat().st_size / 1e6, hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{file}, {size:.1f} MB, sha256 {digest[:12]}"


def test_run_of_ours(run: Path) -> None:
    lines = describe(run)
    file = run / "checkpoints" / "last.pt"
    assert lines[0] == "demo/last: PLRC run, branch query (also there: key)"
    assert by_title(lines) == {
        "architecture": "tiny, 1.2 M parameters in the backbone",
        "channels": "c2 64 at stride 4, c3 128 at stride 8",
        "heads": "projector 128 → 128 → 16",
        "epoch": "2 of 4",
        "trained with": "scenes:64, views of 48 px, regions grid:4, batch 8, adamw, lr 0.25 for a batch of 256",
        "loss weights": "image 0.7, point 0.3, affinity 0.125",
        "note": "step 60 of 120",
        "file": ending(file),
    }
    assert describe(file) == lines
    content = torch.load(file, weights_only=True)
    content["model"] = {name: t for name, t in content["model"].items() if not name.startswith("key_encoder.")}
    torch.save({**content, "config": ["data"], "epoch": "two"}, file)  # a strange configuration: told by the rest
    lines = describe(file)
    assert lines[0] == "demo/last: PLRC run, branch query"
    assert by_title(lines).keys().isdisjoint({"epoch", "trained with", "loss weights"})


def test_both_encoders_of_a_foreign_file(tmp_path: Path) -> None:
    torch.save(CASES["MoCo v2"]().content, tmp_path / "moco.pth.tar")
    lines = describe(tmp_path / "moco.pth.tar")
    assert lines[0] == "moco: MoCo v2, branch query (also there: key)"
    assert by_title(lines) == {
        "architecture": "small, 0.1 M parameters in the backbone",
        "channels": "c2 8 at stride 4, c3 16 at stride 8, c4 32 at stride 16, c5 64 at stride 32",
        "heads": "projector 64 → 48 → 32",
        "note": "not used: queue",
        "file": ending(tmp_path / "moco.pth.tar"),
    }
    torch.save(CASES["DINO"]().content, tmp_path / "dino.pth")
    assert describe(tmp_path / "dino.pth")[0] == "dino: DINO, branch teacher (also there: student)"
    torch.save({f"visual.net.{name}": tensor for name, tensor in under("", QUERY, FC).items()}, tmp_path / "other.pth")
    assert describe(tmp_path / "other.pth")[0] == "other: network under visual.net."


def test_a_name_has_no_file() -> None:
    lines = describe("random:tiny@3")
    assert lines[0] == "random:tiny@3: random"
    assert list(by_title(lines)) == ["architecture", "channels", "heads", "note"]


# ---------------------------------------------------------------------------------------------------- the real command


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_look_loads_neither_torchvision_nor_a_compiler(tmp_path: Path, photo: Path) -> None:
    """They take longer to import than torch itself."""
    code = (
        "import sys; from plrc.cli import main\n"
        "assert main(['info', 'plrc:tiny']) == 0\n"
        f"assert main(['affinity', {str(photo)!r}, '--out', {str(tmp_path / 'x')!r}]) == 0\n"
        "print('heavy:', {'torchvision', 'torch._dynamo', 'sklearn', 'scipy.optimize', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: set()\n")


def test_a_format_and_a_backbone_of_ones_own(tmp_path: Path, photo: Path, monkeypatch, capsys) -> None:
    """The backbone is ``fabricated.SmallBackbone``, one class and one line."""
    monkeypatch.setattr("plrc.pretrained.formats.FORMATS", [Format("my own", (Branch("", "mine.net."),)), *FORMATS])
    torch.save({"mine.net." + name: t for name, t in under("", QUERY, FC).items()}, tmp_path / "x.pth")
    assert main(["info", str(tmp_path / "x.pth")]) == 0
    assert capsys.readouterr().out.startswith("x: my own\n  architecture small, 0.1 M parameters")
    assert main(["affinity", str(photo), "--checkpoint", str(tmp_path / "x.pth"), "--out", str(tmp_path / "map")]) == 0
    assert (tmp_path / "map.png").is_file()


def test_a_vit_of_timm_draws(tmp_path: Path, photo: Path, monkeypatch) -> None:
    """Weights are random here: what timm downloads is put in its place."""
    import timm

    state = timm.create_model("vit_small_patch14_dinov2", num_classes=0).state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: state)
    name = "timm:vit_small_patch14_dinov2"
    given = ["--checkpoint", name, "--size", "112", "--layer", "block5", "--out", str(tmp_path / "map")]
    assert main(["affinity", str(photo), *given]) == 0
    assert (tmp_path / "map.png").is_file()
